"""The features of one key or value in registers, read from the cache as they lie there.

Two bfloat16 numbers are one integer of 32 bits. Its upper half is the second number as float32, and a shift gives the
first one. So one load fills a register with the even features and one with the odd features, without moving lanes. The
queries are laid out in the same order, and the results are put back in order when they are written.

Where an instruction multiplies pairs of bfloat16, a key's neighbouring features are multiplied as they lie (`PairedKey`),
and the values of two keys are mixed into pairs (`PairedValues`).
"""

from __future__ import annotations

from dataclasses import dataclass

from ropegen.native.ir import BF16, F32, I16, I32, Function, Number, Value
from ropegen.native.vectors import MEMORY, first_lanes, load_f32, neighbours_paired, store_f32

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


@dataclass(frozen=True, slots=True)
class _Paired:
    """A row of `width` bfloat16 features, which one load reads as a register of `lanes` pairs."""

    width: int
    lanes: int

    @property
    def dtype(self) -> str:
        return "bf16"

    @property
    def step_bytes(self) -> int:
        """Bytes that one load reads."""
        return 4 * self.lanes

    @property
    def steps(self) -> int:
        return self.width // (2 * self.lanes)

    @property
    def tails(self) -> tuple[Tail, ...]:
        done = self.steps * 2 * self.lanes
        return (Tail(done, 0, self.width - done),) if done < self.width else ()

    def _load(self, f: Function, row: Value, first: Number, count: int) -> Value:
        """`count` features from one on as a register of bfloat16; those after them are 0, and their memory is not read."""
        kind = BF16.vector(2 * self.lanes)
        if count == kind.lanes:
            return f.load(kind, f.offset(row, first, BF16), align=2)
        whole = I16.vector(kind.lanes)
        return f.bitcast(f.load_masked(whole, row, first, first_lanes(f, kind.lanes, count)), kind)

    def _load_step(self, f: Function, row: Value, step: Number) -> Value:
        return self._load(f, row, f.i64(step) * (2 * self.lanes), 2 * self.lanes)


@dataclass(frozen=True, slots=True)
class PairedKey(_Paired):
    """A key, or a query that is laid out as one: a register holds pairs of neighbouring features."""

    @property
    def in_step(self) -> int:
        """Registers that one load fills."""
        return 1

    @property
    def padded(self) -> int:
        """Pairs in all registers of a row."""
        return (self.steps + len(self.tails)) * self.lanes

    def load_step(self, f: Function, row: Value, step: Number) -> list[Value]:
        return [f.bitcast(self._load_step(f, row, step), F32.vector(self.lanes))]

    def load_tail(self, f: Function, row: Value, tail: Tail) -> Value:
        return f.bitcast(self._load(f, row, tail.column, tail.count), F32.vector(self.lanes))

    def without_known(self, f: Function, tail: Tail, register: Value) -> Value:
        return register

    def arrange(self, f: Function, row: Value, target: Value) -> None:
        """Writes float32 features at `row`, with zeros up to whole registers of pairs, as pairs."""
        kind = F32.vector(self.lanes)
        with f.range(0, self.padded, self.lanes) as at:
            registers = [f.load(kind, row, at * 2 + place) for place in (0, self.lanes)]
            f.store(neighbours_paired(f, *registers), target, at)


@dataclass(frozen=True, slots=True)
class PairedValues(_Paired):
    """A value: two registers of float32 sums for every load, in the order in which two keys are mixed into pairs.

    A mix takes four features of both keys from every 128 bits, because instructions do not move words further.
    """

    @property
    def in_step(self) -> int:
        """Registers that one load fills."""
        return 2

    @property
    def padded(self) -> int:
        """Numbers in all registers of a row."""
        return (self.steps + len(self.tails)) * 2 * self.lanes

    def _mixed(self, f: Function, first: Value, second: Value) -> list[Value]:
        """Two registers of pairs from the features of two keys."""
        count, mixed = 2 * self.lanes, list[Value]()
        for half in (0, 4):
            places = [block + half + place for block in range(0, count, 8) for place in range(4)]
            lanes = [place + of_key for place in places for of_key in (0, count)]
            mixed.append(f.bitcast(f.shuffle(first, second, lanes), F32.vector(self.lanes)))
        return mixed

    def load_pairs(self, f: Function, first: Value, second: Value, step: Number) -> list[Value]:
        """The registers of pairs of a step of two rows."""
        return self._mixed(f, *(self._load_step(f, row, step) for row in (first, second)))

    def load_tail_pairs(self, f: Function, first: Value, second: Value, tail: Tail) -> list[Value]:
        return self._mixed(f, *(self._load(f, row, tail.column, tail.count) for row in (first, second)))

    def load_step(self, f: Function, row: Value, step: Number) -> list[Value]:
        """The features of one row as float32, in the order of the sums."""
        return self._alone(f, self._load_step(f, row, step))

    def load_tail(self, f: Function, row: Value, tail: Tail) -> list[Value]:
        return self._alone(f, self._load(f, row, tail.column, tail.count))

    def _alone(self, f: Function, register: Value) -> list[Value]:
        # A bfloat16 number above zeros is the same number as float32.
        return self._mixed(f, f.zero(register.type), register)

    def write(self, f: Function, registers: Value, factor: Value, row: Value) -> None:
        """Writes the sums at `registers`, times a register, to a row."""
        lanes, kind = self.lanes, F32.vector(self.lanes)

        def put(step: Number, count: int) -> None:
            at = f.i64(step) * (2 * lanes)
            low, high = (f.load(kind, registers, at + place) * factor for place in (0, lanes))
            for start in range(0, 2 * lanes, lanes):
                # Four features of the first register, then four of the second one, and so on.
                places = [
                    block // 2 + place + half
                    for block in range(start, start + lanes, 8)
                    for half in (0, lanes)
                    for place in range(4)
                ]
                left = max(0, min(lanes, count - start))
                shown = None if left == lanes else first_lanes(f, lanes, left)
                if left:
                    store_f32(f, "bf16", f.shuffle(low, high, places), row, at + start, shown)

        if self.steps:
            with f.range(0, self.steps) as step:
                put(step, 2 * lanes)
        for tail in self.tails:
            put(self.steps, tail.count)


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
