"""The features of one key or value in registers, read from the cache as they lie there.

Two bfloat16 numbers are one integer of 32 bits. Its upper half is the second number as float32, and a shift gives the
first one. So one load fills a register with the even features and one with the odd features, without moving lanes. The
queries are laid out in the same order, and the results are put back in order when they are written.
"""

from __future__ import annotations

from dataclasses import dataclass

from ropegen.native.ir import F32, I16, I32, Function, Number, Value
from ropegen.native.vectors import MEMORY, first_lanes, load_f32, store_f32

from .pack_cpu import interleaved


@dataclass(frozen=True, slots=True)
class Tail:
    """A register after the whole steps: `count` features from `column` on, of which the first `known` were read before.

    If a row has at least as many features as a register, the last register ends where the row ends. It overlaps the one
    before, so nothing beside the row is read.
    """

    column: int
    known: int
    count: int


@dataclass(frozen=True, slots=True)
class Features:
    """A row of `width` features of an element type, as registers of `lanes` float32 numbers."""

    dtype: str
    width: int
    lanes: int

    @property
    def in_step(self) -> int:
        """Registers that one load fills."""
        return 2 if self.dtype == "bf16" else 1

    @property
    def step_bytes(self) -> int:
        """Bytes that one load reads."""
        return self.in_step * self.lanes * MEMORY[self.dtype].size

    @property
    def steps(self) -> int:
        return self.width // (self.lanes * self.in_step)

    @property
    def tails(self) -> tuple[Tail, ...]:
        done, tails = self.steps * self.in_step * self.lanes, list[Tail]()
        if self.width - done >= self.lanes:
            tails.append(Tail(done, 0, self.lanes))
            done += self.lanes
        if rest := self.width - done:
            whole = self.width >= self.lanes
            tails.append(
                Tail(self.width - self.lanes, self.lanes - rest, self.lanes) if whole else Tail(0, 0, self.width)
            )
        return tuple(tails)

    @property
    def registers(self) -> int:
        return self.steps * self.in_step + len(self.tails)

    @property
    def padded(self) -> int:
        """Numbers in all registers of a row."""
        return self.registers * self.lanes

    def load_step(self, f: Function, row: Value, step: Number) -> list[Value]:
        """The registers of a step; `row` is the address of the first feature."""
        column = f.i64(step) * (self.lanes * self.in_step)
        if self.dtype != "bf16":
            return [load_f32(f, self.dtype, self.lanes, row, column)]
        pairs = f.load(I32.vector(self.lanes), f.offset(row, column, I16), align=2)
        kind = F32.vector(self.lanes)
        return [f.bitcast(pairs << 16, kind), f.bitcast(pairs & -0x10000, kind)]

    def load_tail(self, f: Function, row: Value, tail: Tail) -> Value:
        """The register of a tail, as it lies in memory; lanes beyond the row are 0."""
        shown = None if tail.count == self.lanes else first_lanes(f, self.lanes, tail.count)
        return load_f32(f, self.dtype, self.lanes, row, tail.column, shown)

    def without_known(self, f: Function, tail: Tail, register: Value) -> Value:
        """The register with zeros for the features that an earlier register holds."""
        if not tail.known:
            return register
        return f.select(~first_lanes(f, self.lanes, tail.known), register, 0.0)

    def arrange(self, f: Function, row: Value, target: Value) -> None:
        """Writes float32 features at `row`, with room for whole registers, in the order of the registers."""
        lanes, kind = self.lanes, F32.vector(self.lanes)
        if self.steps:
            with f.range(0, self.steps) as step:
                at = step * (lanes * self.in_step)
                registers = [f.load(kind, row, at + place * lanes) for place in range(self.in_step)]
                if self.in_step == 2:
                    registers = [f.shuffle(registers[0], registers[1], range(place, 2 * lanes, 2)) for place in (0, 1)]
                for place, register in enumerate(registers):
                    f.store(register, target, at + place * lanes)
        for place, tail in enumerate(self.tails, self.steps * self.in_step):
            f.store(self.without_known(f, tail, f.load(kind, row, tail.column)), target, place * lanes)

    def write(self, f: Function, registers: Value, factor: Value, row: Value) -> None:
        """Writes the numbers at `registers`, times a register, to a row of the element type."""
        lanes, kind = self.lanes, F32.vector(self.lanes)
        if self.steps:
            with f.range(0, self.steps) as step:
                at = step * (lanes * self.in_step)
                loaded = [f.load(kind, registers, at + place * lanes) * factor for place in range(self.in_step)]
                for place, register in enumerate(interleaved(f, loaded)):
                    store_f32(f, self.dtype, register, row, at + place * lanes)
        for place, tail in enumerate(self.tails, self.steps * self.in_step):
            shown = None if tail.count == lanes else first_lanes(f, lanes, tail.count)
            store_f32(f, self.dtype, f.load(kind, registers, place * lanes) * factor, row, tail.column, shown)


def sums(f: Function, registers: list[Value]) -> Value:
    """The sums over all lanes of as many registers as one has lanes, in order.

    Of fewer registers (a power of two), the result holds partial sums: runs of one number for every register.
    """
    if len(registers) == 1:
        return registers[0]
    half, lanes = len(registers) // 2, registers[0].type.lanes
    first, second = sums(f, registers[:half]), sums(f, registers[half:])
    # Both hold `copies` runs of `half` numbers; the runs of one half are added to those of the other half. Which runs
    # they are makes no difference to the sum, but these take one instruction each.
    copies, together = lanes // half, 2 if half == 1 and lanes > 2 else 1
    parts: list[Value] = []
    for side in (0, 1):
        runs = [copy for copy in range(copies) if copy // together % 2 == side]
        chosen = [start + run * half + place for run in runs for start in (0, lanes) for place in range(half)]
        parts.append(f.shuffle(first, second, chosen))
    return parts[0] + parts[1]
