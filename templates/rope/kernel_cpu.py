"""The kernel of `rope` as native code for CPU: one pass over memory, for any width and pairing.

An item of work is a block of rows. For every row, all heads of all arrays are rotated, so that the angles of the row are
read from memory once. The products and sums are in float32, each rounded once, as in the plain formula.

The features are taken in registers from the first one on. If the last register would reach past the end, it begins
earlier and computes some pairs a second time. The result is another array than x, so the second time gives the same.

Stores of a large result bypass the caches: otherwise the CPU would first read every line that it is about to write.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass

from ropegen.native import call
from ropegen.native.ir import F32, I32, I64, Function, Module, Number, Value
from ropegen.native.vectors import MEMORY, load_f32, rounded_to_bf16, store_f32
from ropegen.target import VectorUnit
from ropegen.types import numpy_dtype

# The least and the most bytes that an item reads and writes. Between them, a thread gets so many items.
_LEAST, _MOST = 1 << 14, 1 << 18
_ITEMS_PER_THREAD = 4
# With at most so many registers in a row, the code has no loop over them.
_UNROLLED = 8


@dataclass(frozen=True, slots=True)
class Heads:
    """An array (batch, rows, heads, width) of one element type, whose heads are rotated."""

    dtype: str
    heads: int
    width: int
    pairing: str

    @property
    def row(self) -> int:
        """Numbers in a row."""
        return self.heads * self.width

    @property
    def row_bytes(self) -> int:
        return self.row * self.size

    @property
    def size(self) -> int:
        """Bytes of a number."""
        return numpy_dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Form:
    """The shapes of a kernel: arrays (batch, rows, heads, width), and angles (batch or 1, rows, dim) in float32.

    `inverse` rotates by the opposite angles. `streams` says that stores bypass the caches where they can.
    """

    batch: int
    rows: int
    dim: int
    has_batch: bool
    """Whether every entry of the batch has its own angles."""
    arrays: tuple[Heads, ...]
    inverse: bool
    streams: bool
    threads: int

    @property
    def block(self) -> int:
        """The rows of an item."""
        row = 2 * sum(heads.row_bytes for heads in self.arrays)
        rows = self.batch * self.rows
        shared = -(-rows // (_ITEMS_PER_THREAD * self.threads))
        return max(1, min(rows, _MOST // row, max(shared, _LEAST // row)))

    @property
    def items(self) -> int:
        return -(-self.batch * self.rows // self.block)


@functools.lru_cache(maxsize=256)
def forward(form: Form, unit: VectorUnit) -> call.Written:
    """The kernel. Its operands are the arrays, then the angles; its results are the rotated arrays."""
    module = Module()
    arrays = [
        call.Buffer(f"x{index}", heads.dtype, (form.batch, form.rows, heads.heads, heads.width))
        for index, heads in enumerate(form.arrays)
    ]
    angles = call.Buffer("angles", "f32", (form.batch if form.has_batch else 1, form.rows, form.dim))
    results = tuple(call.Buffer(f"out{index}", given.dtype, given.shape) for index, given in enumerate(arrays))
    _write_stage(call.stage(module, "rotate"), form, unit)
    stages = (call.Stage("rotate", form.items),)
    kernel = call.Kernel("rope", module, (*arrays, angles), results, stages, threads=form.threads)
    return call.written(kernel)


def _write_stage(f: Function, form: Form, unit: VectorUnit) -> None:
    """The function that rotates the rows of an item."""
    count = len(form.arrays)
    angles = call.address(f, count)
    sides = [(call.address(f, index), call.address(f, count + 1 + index)) for index in range(count)]
    first = f.parameters["item"] * form.block
    last = f.minimum(first + form.block, form.batch * form.rows)
    ends = form.rows if not form.has_batch else form.batch * form.rows

    def rows(streams: bool) -> None:
        def row(index: Value, angle: Value) -> list[Value]:
            table = f.offset(angles, angle * form.dim, F32)
            for heads, (source, result) in zip(form.arrays, sides, strict=True):
                with f.range(0, heads.heads) as head:
                    start = index * heads.row + head * heads.width
                    kind = MEMORY[heads.dtype]
                    turn = _Turn(f, form, heads, unit, streams and _can_stream(heads, form.dim, unit))
                    turn.write(f.offset(source, start, kind), f.offset(result, start, kind), table)
            following = angle + 1
            return [f.select(following.equals(ends), f.zero(I64), following)]

        f.loop(first, last, 1, row, [first % ends])

    if form.streams and any(_can_stream(heads, form.dim, unit) for heads in form.arrays):
        addresses = functools.reduce(operator.or_, (f.integer(result) for _, result in sides))
        is_aligned = (addresses & (_register(unit) - 1)).equals(0)
        with f.when(is_aligned):
            rows(True)
            f.fence()
        with f.when(~is_aligned):
            rows(False)
    else:
        rows(False)
    f.give_back()


def _register(unit: VectorUnit) -> int:
    """Bytes of a register."""
    return 4 * unit.lanes


def _pairs(heads: Heads, unit: VectorUnit) -> int:
    """The pairs that are taken at a time: of halves, a register of x each; of neighbours, a register of float32."""
    return _register(unit) // heads.size if heads.pairing == "half" else unit.lanes


def _can_stream(heads: Heads, dim: int, unit: VectorUnit) -> bool:
    """Whether every register is stored at a multiple of its size, if the array begins at one."""
    return heads.width * heads.size % _register(unit) == 0 and dim // 2 % _pairs(heads, unit) == 0


@dataclass(frozen=True, slots=True)
class _Turn:
    """The rotation of one head."""

    f: Function
    form: Form
    heads: Heads
    unit: VectorUnit
    streams: bool

    def write(self, source: Value, result: Value, table: Value) -> None:
        pairs, rest = self.form.dim // 2, self.heads.width - self.form.dim
        neighbours = self._neighbours_of_bf16 if self.heads.dtype == "bf16" else self._neighbours
        turn = self._half if self.heads.pairing == "half" else neighbours
        self._each(pairs, _pairs(self.heads, self.unit), lambda at, lanes: turn(at, lanes, source, result, table))
        copied = _register(self.unit) // self.heads.size
        self._each(rest, copied, lambda at, lanes: self._copy(at + self.form.dim, lanes, source, result))

    def _each(self, count: int, lanes: int, body: Callable[[Value, int], None]) -> None:
        """Calls `body(place, lanes)` for places whose lanes cover 0 .. count-1."""
        if not count:
            return
        while lanes > count:
            lanes //= 2
        whole = count // lanes * lanes
        if whole // lanes <= _UNROLLED:
            for place in range(0, whole, lanes):
                body(self.f.i64(place), lanes)
        else:
            with self.f.range(0, whole, lanes) as place:
                body(place, lanes)
        if whole < count:
            body(self.f.i64(count - lanes), lanes)

    def _half(self, at: Value, lanes: int, source: Value, result: Value, table: Value) -> None:
        f, dtype, pairs = self.f, self.heads.dtype, self.form.dim // 2
        first, second = (load_f32(f, dtype, lanes, source, at + start) for start in (0, pairs))
        for value, start in zip(self._turned(first, second, at, table), (0, pairs), strict=True):
            store_f32(f, dtype, value, result, at + start, streams=self.streams)

    def _neighbours(self, at: Value, lanes: int, source: Value, result: Value, table: Value) -> None:
        f, dtype = self.f, self.heads.dtype
        both = load_f32(f, dtype, 2 * lanes, source, at * 2)
        first, second = (f.shuffle(both, both, range(start, 2 * lanes, 2)) for start in (0, 1))
        turned = self._turned(first, second, at, table)
        mixed = [lane + side * lanes for lane in range(lanes) for side in (0, 1)]
        width = min(2 * lanes, _register(self.unit) // self.heads.size)
        for start in range(0, 2 * lanes, width):
            value = f.shuffle(*turned, mixed[start : start + width])
            store_f32(f, dtype, value, result, at * 2 + start, streams=self.streams)

    def _neighbours_of_bf16(self, at: Value, lanes: int, source: Value, result: Value, table: Value) -> None:
        """A pair is a word of 32 bits, and each half of the word becomes a float32 without a shuffle."""
        f, words, wide = self.f, I32.vector(lanes), F32.vector(lanes)
        both = f.load(words, source, at, align=self.heads.size)
        first, second = f.bitcast(both << 16, wide), f.bitcast(both & -(1 << 16), wide)
        low, high = (rounded_to_bf16(f, value) for value in self._turned(first, second, at, table))
        align = _register(self.unit) if self.streams else self.heads.size
        f.store((low >> 16) | (high & -(1 << 16)), result, at, align=align, streams=self.streams)

    def _turned(self, first: Value, second: Value, at: Value, table: Value) -> tuple[Value, Value]:
        """The rotated pairs from `at` on."""
        lanes = first.type.lanes
        cos, sin = (load_f32(self.f, "f32", lanes, table, at + start) for start in (0, self.form.dim // 2))
        if self.form.inverse:
            return first * cos + second * sin, second * cos - first * sin
        return first * cos - second * sin, second * cos + first * sin

    def _copy(self, at: Number, lanes: int, source: Value, result: Value) -> None:
        kind = MEMORY[self.heads.dtype].vector(lanes)
        self.f.store(self.f.load(kind, source, at), result, at, streams=self.streams)
