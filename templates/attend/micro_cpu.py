"""The inner loop of every product of the native attention: scalars times registers, summed in registers.

A scalar and a lane of a register are a float32 number, or, with `pairs`, two bfloat16 numbers, whose two products are
added to the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ropegen.native.ir import F32, Function, Number, Value
from ropegen.native.vectors import broadcast, multiply_pairs


@dataclass(frozen=True, slots=True)
class Scalars:
    """One operand of a product: what step n multiplies in row r lies four bytes times `n * step + r * row` after
    the address.
    """

    address: Value
    step: int
    row: int


@dataclass(frozen=True, slots=True)
class Registers:
    """The other operand: register c of step n begins four bytes times `n * step + c * lanes` after the address."""

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
    *,
    pairs: bool = False,
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
                    now[at] = (
                        multiply_pairs(f, register, scalar, now[at]) if pairs else f.fma(register, scalar, now[at])
                    )
        return now

    return f.loop(*steps, unrolled, rounds, sums)
