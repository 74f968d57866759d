"""The inner loop of every product of the native attention: scalars times registers, summed in registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ropegen.native.ir import F32, Function, Number, Value
from ropegen.native.vectors import broadcast


@dataclass(frozen=True, slots=True)
class Scalars:
    """One operand of a product: the number of step n and row r lies `n * step + r * row` float32 after the address."""

    address: Value
    step: int
    row: int


@dataclass(frozen=True, slots=True)
class Registers:
    """The other operand: register c of step n begins `n * step + c * lanes` float32 after the address."""

    address: Value
    step: int


def multiply(
    f: Function,
    scalars: Scalars,
    registers: Registers,
    steps: tuple[Number, Number],
    sums: Sequence[Value],
    columns: int,
    unrolled: int = 8,
) -> list[Value]:
    """A micro-tile: `sums` plus, for the steps from the first to before the last, scalar r times register c.

    `sums` holds register c of row r at `r * columns + c`. The number of steps is a multiple of `unrolled`.
    """
    kind = sums[0].type

    def rounds(first: Value, *before: Value) -> list[Value]:
        now = list(before)
        read = f.offset(registers.address, first * registers.step, F32)
        spread = f.offset(scalars.address, first * scalars.step, F32)
        for step in range(unrolled):
            loaded = [f.load(kind, read, step * registers.step + column * kind.lanes) for column in range(columns)]
            for row in range(len(now) // columns):
                scalar = broadcast(f, spread, step * scalars.step + row * scalars.row, kind.lanes)
                for column, register in enumerate(loaded):
                    at = row * columns + column
                    now[at] = f.fma(register, scalar, now[at])
        return now

    return f.loop(*steps, unrolled, rounds, sums)
