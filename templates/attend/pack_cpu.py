"""Packing for the native attention: rows as float32, rotated and scaled, in the order in which the products read them.

Keys lie as (groups of rows, width, rows of the group), values as (tile, groups of columns, keys, columns of the group), and
queries as (width, panel). So every product reads one linear stream of scalars and one of registers.
"""

from __future__ import annotations

from dataclasses import dataclass

from ropegen.native.ir import F32, I32, Function, Number, Value
from ropegen.native.vectors import first_lanes, load_f32

from .layout_cpu import Operand, Problem


def batch_row(f: Function, operand: Operand, batch: Value) -> Value:
    """The row of an operand's flat batch that a batch entry reads."""
    if len(set(operand.row)) == 1:
        return f.i64(operand.row[0])
    if operand.row == tuple(range(len(operand.row))):
        return batch
    table = Value(f, batch.function.parameters["context"].type, f.module.table(I32, operand.row))
    return f.convert(f.load(I32, table, batch), batch.type)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of q, k or v of one head, as float32 numbers in memory."""

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
        operand = self.problem.operand(self.name)
        assert operand is not None
        length, heads, width = operand.shape
        return length, heads, width

    def convert(self, first: Value, count: int, target: Value, factor: float = 1.0) -> None:
        """Writes `count` rows from `first` on to `target` (count, padded width); rows after the last one are zeros."""
        f, lanes = self.f, self.problem.unit.lanes
        length, _, width = self._shape
        padded = self.problem.packed_value_width if self.name == "v" else self.problem.packed_width
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
        length, heads, width = self._shape
        start = ((self.batch * length + position) * heads + self.head) * width
        turned = self._turn(position, start, target, factor) if self.angles is not None else 0
        self._copy(turned, width, start, target, factor)

    def _copy(self, first: int, width: int, start: Value, target: Value, factor: float) -> None:
        """The features that are not rotated."""
        f, lanes = self.f, self.problem.unit.lanes

        def one(column: Number, shown: Value | None) -> None:
            loaded = load_f32(f, self.problem.dtype, lanes, self.base, start + column, shown)
            result = loaded * factor if factor != 1.0 else loaded
            if shown is None:
                f.store(result, target, column)
            else:
                f.store_masked(result, target, column, shown)

        self._registers(first, width, one)

    def _registers(self, first: int, stop: int, one: object) -> None:
        """Calls `one(column, shown)` in a loop over whole registers, and once for the rest."""
        f, lanes = self.f, self.problem.unit.lanes
        assert callable(one)
        whole = (stop - first) // lanes * lanes
        if whole:
            with f.range(first, first + whole, lanes) as column:
                one(column, None)
        if rest := stop - first - whole:
            one(f.i64(first + whole), first_lanes(f, lanes, rest))

    def _turn(self, position: Value, start: Value, target: Value, factor: float) -> int:
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
            first, second = f.fma(-y, sine, x * cosine), f.fma(x, sine, y * cosine)
            return (first, second) if factor == 1.0 else (first * factor, second * factor)

        def put(value: Value, column: Number, shown: Value | None) -> None:
            if shown is None:
                f.store(value, target, column)
            else:
                f.store_masked(value, target, column, shown)

        def halves(column: Value, shown: Value | None) -> None:
            x = load_f32(f, problem.dtype, lanes, self.base, start + column, shown)
            y = load_f32(f, problem.dtype, lanes, self.base, start + column + half, shown)
            first, second = rotated(column, x, y, shown)
            put(first, column, shown)
            put(second, column + half, shown)

        def neighbours(column: Value, shown: Value | None) -> None:
            low = high = None
            if shown is not None:
                rest = half % lanes
                low, high = (first_lanes(f, lanes, max(0, min(lanes, 2 * rest - part))) for part in (0, lanes))
            x = load_f32(f, problem.dtype, lanes, self.base, start + column * 2, low)
            y = load_f32(f, problem.dtype, lanes, self.base, start + column * 2 + lanes, high)
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


def pack_keys(f: Function, problem: Problem, rows: Rows, buffer: Value, first: Value, target: Value) -> None:
    """Packs one group of keys, from row `first` on; `buffer` holds the rows meanwhile."""
    lanes, group, width = problem.unit.lanes, problem.unit.rows, problem.packed_width
    rows.convert(first, group, buffer)
    kind = F32.vector(lanes)
    with f.range(0, width, lanes) as column:
        registers = [f.load(kind, buffer, column + row * width) for row in range(group)]
        for place, register in enumerate(interleaved(f, registers)):
            f.store(register, target, column * group + place * lanes)


def pack_values(f: Function, problem: Problem, rows: Rows, buffer: Value, first: Value, target: Value) -> None:
    """Packs the same number of values; `target` is the place of the first key in the tile's first group of columns."""
    lanes, group, width = problem.unit.lanes, problem.unit.rows, problem.packed_value_width
    rows.convert(first, group, buffer)
    wide, piece = F32.vector(lanes), min(lanes, group)
    with f.range(0, width, lanes) as column:
        for row in range(group):
            register = f.load(wide, buffer, column + row * width)
            for part in range(0, lanes, piece):
                columns = column + part
                at = (columns // group) * problem.value_stride + columns % group + row * group
                f.store(f.shuffle(register, register, range(part, part + piece)), target, at)


def pack_queries(
    f: Function, problem: Problem, rows: Rows, buffer: Value, first: Value, target: Value, factor: float
) -> None:
    """Packs a register of queries, from row `first` on, as columns of the panel at `target`."""
    lanes, width, panel = problem.unit.lanes, problem.packed_width, problem.panel
    rows.convert(first, lanes, buffer, factor)
    kind = F32.vector(lanes)
    with f.range(0, width, lanes) as column:
        registers = [f.load(kind, buffer, column + row * width) for row in range(lanes)]
        for place, register in enumerate(f.transpose(registers)):
            f.store(register, target, (column + place) * panel)
