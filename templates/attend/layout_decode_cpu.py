"""The sizes of the native attention over a cache: its rows, its chunks, and the memory of their partial results."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ropegen.native import call
from ropegen.native.call import address
from ropegen.native.ir import F32, Function, Number, Value
from ropegen.native.vectors import MEMORY

from .features_cpu import Features, PairedKey, PairedValues
from .layout_cpu import GRANULE, Problem
from .pack_cpu import batch_row

# Keys whose scores exist at once.
TILE = 4 * GRANULE
# Rows that are multiplied together.
ROWS = 4
# Bytes of a line of the cache of a CPU.
LINE = 64


@dataclass(frozen=True)
class Decode:
    """What the code depends on, and the sizes that follow. `problem.keys_in_tile` is the size of a chunk."""

    problem: Problem

    @property
    def chunk(self) -> int:
        return self.problem.keys_in_tile

    @property
    def chunks(self) -> int:
        return self.problem.tiles

    @property
    def rows(self) -> int:
        """Rows of a key head; row `query * group + place` is a query of the head at a place of the group."""
        return self.problem.queries * self.problem.group

    @property
    def rest(self) -> int:
        """Rows in the last block, 1, 2 or 4; 0 if all blocks are whole."""
        return {0: 0, 1: 1, 2: 2, 3: 4}[self.rows % ROWS]

    @property
    def padded_rows(self) -> int:
        return self.rows // ROWS * ROWS + self.rest

    @functools.cached_property
    def keys(self) -> Features | PairedKey:
        """The keys as the products read them: in the cache, or rotated in the memory of the thread."""
        problem = self.problem
        if problem.pairs:
            # Rotated keys are laid out with zeros up to whole registers.
            width = problem.width if problem.site.k_pairing is None else problem.row_width(problem.width)
            return PairedKey(width, problem.unit.lanes)
        if problem.site.k_pairing is not None:
            return Features("f32", problem.packed_width, problem.unit.lanes)
        return Features(problem.dtype, problem.width, problem.unit.lanes)

    @functools.cached_property
    def values(self) -> Features | PairedValues:
        if self.problem.pairs:
            return PairedValues(self.problem.value_width, self.problem.unit.lanes)
        return Features(self.problem.dtype, self.problem.value_width, self.problem.unit.lanes)

    @property
    def sums(self) -> int:
        """Registers of a micro-tile that hold sums: enough to hide the latency of a multiply-add."""
        return max(8, self.problem.unit.lanes)

    @property
    def lines(self) -> int:
        """The rows of all key heads, padded to blocks."""
        return self.problem.kv_heads * self.padded_rows

    # Scratch memory, in bytes -----------------------------------------------------------------------------------------

    @property
    def part_bytes(self) -> int:
        """A partial result: weighted sums (lines, values), highest scores (lines), sums of weights (lines)."""
        return round_up(self.lines * (self.values.padded + 2) * 4, LINE)

    @property
    def parts(self) -> int:
        return self.problem.batch * self.chunks

    @property
    def scores_at(self) -> int:
        """(lines, tile), after the queries (lines, keys.padded)."""
        return round_up(self.lines * self.keys.padded * 4, LINE)

    @property
    def buffer_at(self) -> int:
        """One query as float32."""
        return self.scores_at + self.lines * TILE * 4

    @property
    def sums_at(self) -> int:
        """Registers whose lanes are not yet summed."""
        return self.buffer_at + round_up(self.problem.row_width(self.problem.width) * 4, LINE)

    @property
    def turned_at(self) -> int:
        """A tile of rotated keys: (tile, heads, keys.padded)."""
        return self.sums_at + self.lines * self.sums * self.problem.unit.lanes * 4

    @property
    def slot_bytes(self) -> int:
        problem = self.problem
        turned = TILE * problem.kv_heads * self.keys.padded * 4 if problem.site.k_pairing is not None else 0
        return round_up(self.turned_at + turned, 4096)

    @property
    def scratch_bytes(self) -> int:
        return round_up(self.parts * self.part_bytes, 4096) + self.problem.threads * self.slot_bytes


@dataclass(frozen=True, slots=True)
class Part:
    """A partial result in memory."""

    f: Function
    sizes: Decode
    base: Value

    @staticmethod
    def of(f: Function, sizes: Decode, batch: Value, chunk: Value) -> Part:
        index = batch * sizes.chunks + chunk
        return Part(f, sizes, f.offset(call.scratch(f), index * sizes.part_bytes))

    def result(self, line: Number) -> Value:
        """The address of a line of weighted sums."""
        return self.f.offset(self.base, self.f.i64(line) * self.sizes.values.padded, F32)

    @property
    def highest(self) -> Value:
        return self.result(self.sizes.lines)

    @property
    def total(self) -> Value:
        return self.f.offset(self.highest, self.sizes.lines, F32)


def cache_of(f: Function, sizes: Decode, name: str, batch: Value) -> Value:
    """The address of the keys or values of a batch entry."""
    operand = sizes.problem.operand(name)
    assert operand is not None
    return f.offset(address(f, operand.index), batch_row(f, operand, batch) * operand.row_size, MEMORY[operand.dtype])


def round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
