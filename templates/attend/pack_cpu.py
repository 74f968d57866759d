"""Packing for the native attention: rows as float32, rotated and scaled, in the order in which the products read them.

Keys lie as (groups of rows, width, rows of the group), values as (tile, groups of columns, keys, columns of the group), and
queries as (width, panel). So every product reads one linear stream of scalars and one of registers.

Where the products multiply pairs of bfloat16, a pair takes the place of a number: two neighbouring features of a query or
a key, or the values of two neighbouring keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ropegen.native.call import address
from ropegen.native.ir import F32, I32, Function, Number, Value
from ropegen.native.vectors import first_lanes, load_f32, neighbours_paired, paired, store_f32

from .layout_cpu import Operand, Problem

# A register from a column on, of the lanes that are shown or of all; and what becomes of such a register.
_Load: TypeAlias = Callable[[Number, "Value | None"], Value]
_Put: TypeAlias = Callable[[Value, Number, "Value | None"], None]


def batch_row(f: Function, operand: Operand, batch: Value) -> Value:
    """The row of an operand's flat batch that a batch entry reads."""
    if len(set(operand.row)) == 1:
        return f.i64(operand.row[0])
    if operand.row == tuple(range(len(operand.row))):
        return batch
    table = Value(f, batch.function.parameters["context"].type, f.module.table(I32, operand.row))
    return f.convert(f.load(I32, table, batch), batch.type)


def rows_of(f: Function, problem: Problem, name: str, batch: Value, head: Value, base: Value | None = None) -> Rows:
    """The rows of q, k or v, or those of an array of the same shape at `base`."""
    operand, angles = problem.operand(name), problem.operand(f"{name}_angles")
    pairing = {"q": problem.site.q_pairing, "k": problem.site.k_pairing}.get(name)
    turned = address(f, angles.index) if angles is not None and pairing is not None else None
    if base is None:
        assert operand is not None
        base = address(f, operand.index)
    return Rows(f, problem, name, base, turned, batch, head)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one head of q, k, v or the output, in the layout of `ops.Attend`."""

    f: Function
    problem: Problem
    name: str
    base: Value
    angles: Value | None
    """The address of the angles, if the rows are rotated."""
    batch: Value
    head: Value

    @property
    def _shape(self) -> tuple[int, int, int]:
        problem = self.problem
        if self.name == "output":
            return problem.queries, problem.heads, problem.value_width
        operand = problem.operand(self.name)
        assert operand is not None
        length, heads, width = operand.shape
        return length, heads, width

    @property
    def padded(self) -> int:
        """The numbers from one row to the next as float32."""
        return self.problem.row_width(self._shape[2])

    @property
    def steps(self) -> int:
        """The steps of a product over the features of a row."""
        return self.problem.packed_steps if self.name in "qk" else self.problem.packed_value_steps

    def convert(self, first: Value, count: int, target: Value, factor: float = 1.0) -> None:
        """Writes `count` rows from `first` on to `target` (count, padded width); rows after the last one are zeros."""
        f, lanes = self.f, self.problem.unit.lanes
        (length, _, width), padded = self._shape, self.padded
        with f.range(0, count) as row:
            place, position = f.offset(target, row * padded, F32), first + row

            def write(place: Value = place, position: Value = position) -> None:
                if padded > width:
                    f.store(f.zero(F32.vector(lanes)), place, padded - lanes)
                    if padded - lanes > width:
                        f.store(f.zero(F32.vector(lanes)), place, padded - 2 * lanes)
                self._convert_row(position, place, factor)

            def clear(place: Value = place) -> None:
                with f.range(0, padded, lanes) as column:
                    f.store(f.zero(F32.vector(lanes)), place, column)

            f.branch(position < length, write, clear)

    def _convert_row(self, position: Value, target: Value, factor: float) -> None:
        start = self._start(position)

        def load(column: Number, shown: Value | None) -> Value:
            return load_f32(self.f, self.problem.dtype, self.problem.unit.lanes, self.base, start + column, shown)

        def put(value: Value, column: Number, shown: Value | None) -> None:
            store_f32(self.f, "f32", value * factor if factor != 1.0 else value, target, column, shown)

        self._move_row(position, load, put)

    def write(self, position: Value, source: Value) -> None:
        """Writes a row from `source` (padded width), turned backwards, and rounded to the element type."""
        start = self._start(position)

        def load(column: Number, shown: Value | None) -> Value:
            return load_f32(self.f, "f32", self.problem.unit.lanes, source, column, shown)

        def put(value: Value, column: Number, shown: Value | None) -> None:
            store_f32(self.f, self.problem.dtype, value, self.base, start + column, shown)

        self._move_row(position, load, put, backwards=True)

    def dot(self, other: Rows, position: Value, sums: Value) -> Value:
        """The sum over the features of a row times the same row of `other`; `sums` holds a register meanwhile."""
        f, lanes = self.f, self.problem.unit.lanes
        f.store(f.zero(F32.vector(lanes)), sums)
        start = self._start(position)

        def add(column: Number, shown: Value | None) -> None:
            x, y = (load_f32(f, self.problem.dtype, lanes, rows.base, start + column, shown) for rows in (self, other))
            f.store(f.fma(x, y, f.load(F32.vector(lanes), sums)), sums)

        self._registers(0, self._shape[2], add)
        return f.reduce("add", f.load(F32.vector(lanes), sums))

    def add_to(self, position: Value, sums: Value) -> None:
        """Adds a row to float32 numbers (padded width) in memory."""
        f, lanes, start = self.f, self.problem.unit.lanes, self._start(position)

        def add(column: Number, shown: Value | None) -> None:
            row = load_f32(f, self.problem.dtype, lanes, self.base, start + column, shown)
            f.store(f.load(F32.vector(lanes), sums, column) + row, sums, column)

        self._registers(0, self._shape[2], add)

    def _start(self, position: Value) -> Value:
        """The index of a row's first number."""
        length, heads, width = self._shape
        return ((self.batch * length + position) * heads + self.head) * width

    def _move_row(self, position: Value, load: _Load, put: _Put, *, backwards: bool = False) -> None:
        """Puts what is loaded; features that are rotated in turn, by negated angles if `backwards`."""
        _, _, width = self._shape
        turned = self._turn(position, load, put, backwards) if self.angles is not None else 0
        self._registers(turned, width, lambda column, shown: put(load(column, shown), column, shown))

    def _registers(self, first: int, stop: int, one: Callable[[Value, Value | None], None]) -> None:
        """Calls `one(column, shown)` in a loop over whole registers, and once for the rest."""
        f, lanes = self.f, self.problem.unit.lanes
        whole = (stop - first) // lanes * lanes
        if whole:
            with f.range(first, first + whole, lanes) as column:
                one(column, None)
        if rest := stop - first - whole:
            one(f.i64(first + whole), first_lanes(f, lanes, rest))

    def _turn(self, position: Value, load: _Load, put: _Put, backwards: bool) -> int:
        """Rotates the first features; returns how many."""
        f, problem, lanes = self.f, self.problem, self.problem.unit.lanes
        operand = problem.operand(f"{self.name}_angles")
        assert operand is not None
        assert self.angles is not None
        angles, (length, turned) = self.angles, operand.shape
        pairing = problem.site.q_pairing if self.name == "q" else problem.site.k_pairing
        half = turned // 2
        table = (batch_row(f, operand, self.batch) * length + position) * turned

        def rotated(column: Number, x: Value, y: Value, shown: Value | None) -> tuple[Value, Value]:
            cosine = load_f32(f, operand.dtype, lanes, angles, table + column, shown)
            sine = load_f32(f, operand.dtype, lanes, angles, table + half + column, shown)
            if backwards:
                sine = -sine
            return f.fma(-y, sine, x * cosine), f.fma(x, sine, y * cosine)

        def halves(column: Value, shown: Value | None) -> None:
            first, second = rotated(column, load(column, shown), load(column + half, shown), shown)
            put(first, column, shown)
            put(second, column + half, shown)

        def neighbours(column: Value, shown: Value | None) -> None:
            low = high = None
            if shown is not None:
                rest = half % lanes
                low, high = (first_lanes(f, lanes, max(0, min(lanes, 2 * rest - part))) for part in (0, lanes))
            x, y = load(column * 2, low), load(column * 2 + lanes, high)
            even, odd = (f.shuffle(x, y, range(part, 2 * lanes, 2)) for part in (0, 1))
            first, second = rotated(column, even, odd, shown)
            mixed = [lane // 2 + lanes * (lane % 2) for lane in range(2 * lanes)]
            put(f.shuffle(first, second, mixed[:lanes]), column * 2, low)
            put(f.shuffle(first, second, mixed[lanes:]), column * 2 + lanes, high)

        self._registers(0, half, halves if pairing == "half" else neighbours)
        return turned


def interleaved(f: Function, registers: list[Value]) -> list[Value]:
    """Registers a, b, c, ... as registers that hold a0 b0 c0 ... a1 b1 c1 ...; their number is a power of two."""
    lanes = registers[0].type.lanes
    if len(registers) == 1:
        return registers
    mixed: list[Value] = []
    for even, odd in zip(interleaved(f, registers[0::2]), interleaved(f, registers[1::2]), strict=True):
        low = [lane // 2 + lanes * (lane % 2) for lane in range(lanes)]
        mixed += [f.shuffle(even, odd, low), f.shuffle(even, odd, [lanes // 2 + lane for lane in low])]
    return mixed


def pack_keys(
    f: Function,
    problem: Problem,
    rows: Rows,
    buffer: Value,
    first: Value,
    target: Value,
    poison: Sequence[Value] = (),
    *,
    cleans: bool = False,
) -> list[Value]:
    """Packs one group of keys, from row `first` on; `buffer` holds the rows meanwhile.

    `poison` has one number for every key, 0 or NaN. A key with NaN gives every query that sees it a score of NaN. If it
    `cleans`, it does what `pack_values` does then.
    """
    lanes, group, width = problem.unit.lanes, problem.unit.rows, rows.padded
    rows.convert(first, group, buffer)
    flags = clean(f, buffer, group, width, lanes) if cleans else []
    kind = F32.vector(lanes)
    for row, number in enumerate(poison):
        f.store(f.load(kind, buffer, row * width) + f.splat(number, lanes), buffer, row * width)

    def lay(step: Number, count: int) -> None:
        registers = [_steps(f, problem, buffer, width, row, step) for row in range(group)]
        for place, register in enumerate(interleaved(f, registers)[: count * group // lanes]):
            f.store(register, target, f.i64(step) * group + place * lanes)

    _by_registers(f, rows, lay)
    return flags


def pack_values(
    f: Function, problem: Problem, rows: Rows, buffer: Value, first: Value, target: Value, *, cleans: bool = False
) -> list[Value]:
    """Packs the same number of values; `target` is the place of the first key in the tile's first group of columns.

    If it `cleans`, NaN and infinities become 0, and the result has one number for every row: NaN if it had one, else 0.
    """
    lanes, group, width = problem.unit.lanes, problem.unit.rows, rows.padded
    rows.convert(first, group, buffer)
    poison = clean(f, buffer, group, width, lanes) if cleans else []
    wide, piece, together = F32.vector(lanes), min(lanes, group), problem.together
    with f.range(0, problem.packed_value_width, lanes) as column:
        for row in range(0, group, together):
            register, *others = [f.load(wide, buffer, column + (row + key) * width) for key in range(together)]
            for other in others:
                register = paired(f, register, other)
            for part in range(0, lanes, piece):
                columns = column + part
                at = (columns // group) * problem.value_stride + columns % group + row // together * group
                f.store(f.shuffle(register, register, range(part, part + piece)), target, at)
    return poison


def clean(f: Function, buffer: Value, count: int, width: int, lanes: int) -> list[Value]:
    """Replaces NaN and infinities in `count` rows of `buffer` by 0; a number for every row: NaN if it had one, else 0."""
    kind = F32.vector(lanes)

    def step(column: Value, *before: Value) -> list[Value]:
        now: list[Value] = []
        for row, sums in enumerate(before):
            register = f.load(kind, buffer, column + row * width)
            nothing = register - register  # NaN for what is not finite
            f.store(f.select(nothing.equals(0.0), register, f.zero(kind)), buffer, column + row * width)
            now.append(sums + nothing)
        return now

    return [f.reduce("add", sums) for sums in f.loop(0, width, lanes, step, [f.zero(kind)] * count)]


def pack_queries(
    f: Function,
    problem: Problem,
    rows: Rows,
    buffer: Value,
    first: Value,
    target: Value,
    factor: float,
    *,
    cleans: bool = False,
) -> None:
    """Packs a register of queries, from row `first` on, as columns of the panel at `target`; see `clean`."""
    lanes, width, panel = problem.unit.lanes, rows.padded, problem.panel
    rows.convert(first, lanes, buffer, factor)
    if cleans:
        clean(f, buffer, lanes, width, lanes)

    def lay(step: Number, count: int) -> None:
        registers = [_steps(f, problem, buffer, width, row, step) for row in range(lanes)]
        for place, register in enumerate(f.transpose(registers)[:count]):
            f.store(register, target, (f.i64(step) + place) * panel)

    _by_registers(f, rows, lay)


def _by_registers(f: Function, rows: Rows, lay: Callable[[Number, int], None]) -> None:
    """Calls `lay(step, count)` for the steps of a product, a register of them at a time, and for the rest."""
    steps, lanes = rows.steps, rows.problem.unit.lanes
    whole = steps // lanes * lanes
    if whole:
        with f.range(0, whole, lanes) as step:
            lay(step, lanes)
    if steps > whole:
        lay(whole, steps - whole)


def _steps(f: Function, problem: Problem, buffer: Value, width: int, row: int, step: Number) -> Value:
    """The steps of a row of `buffer` (rows, width) from one on, as a register: features, or pairs of them."""
    kind = F32.vector(problem.unit.lanes)
    if not problem.pairs:
        return f.load(kind, buffer, f.i64(step) + row * width)
    column = f.i64(step) * 2 + row * width
    return neighbours_paired(f, f.load(kind, buffer, column), f.load(kind, buffer, column + kind.lanes))


def lay_rows(
    f: Function,
    buffer: Value,
    width: int,
    columns: list[tuple[int, int]],
    lanes: int,
    count: int,
    target: Value,
    at: Value,
    length: int,
    factor: float = 1.0,
) -> None:
    """Lays `count` rows of `buffer` (count, width) as (groups of columns, length, columns of a group), from row `at` on.

    `columns` are the first column and the number of columns of every group; they are whole registers.
    """
    with f.range(0, count) as row:
        source = f.offset(buffer, row * width, F32)
        for first, size in columns:
            place = f.offset(target, (at + row) * size + first * length, F32)
            for column in range(0, size, lanes):
                register = f.load(F32.vector(lanes), source, first + column)
                f.store(register * factor if factor != 1.0 else register, place, column)
