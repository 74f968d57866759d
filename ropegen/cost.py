"""What something takes on a chip: its work, the seconds by cause, and what bounds them.

*Work* counts operations and bytes before a chip is named. A *cost* is work on one chip: seconds by cause. The causes
are computing, moving memory, and starting programs. Two rules hold everywhere:

- Things that happen one after the other add their seconds, cause by cause. Of things that happen at the same time,
  the longest counts.
- The bound of a cost is the cause with the most seconds. Nobody sets it by hand.

Every cost has a direction. `forward` computes results. `tangent` computes the tangents of the results from those of
the operands, after the forward pass. `backward` computes the cotangents of the operands from those of the results,
after the forward pass. The operands are all those of a floating-point type but cosines and sines, which follow from
positions and are not trained. What a derivative recomputes belongs to the derivative.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

from ropegen.target import Target

__all__ = ["DIRECTIONS", "NO_COST", "NO_WORK", "Bound", "Cost", "Direction", "Work"]

Direction: TypeAlias = Literal["forward", "tangent", "backward"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

Bound: TypeAlias = Literal["compute", "memory", "launch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The seconds that something takes on one chip, by cause, and the work behind them.

    `flops` counts operations, `bytes` what moves to or from main memory, `temporary` the bytes of temporaries that
    exist at once. `compute`, `memory` and `launch` are seconds.
    """

    flops: float = 0.0
    bytes: float = 0.0
    temporary: float = 0.0
    compute: float = 0.0
    memory: float = 0.0
    launch: float = 0.0

    @staticmethod
    def longest(*, compute: float = 0.0, memory: float = 0.0, launch: float = 0.0) -> Cost:
        """Seconds of several causes at the same time: the longest counts, the earlier argument where two are equal."""
        if compute >= max(memory, launch):
            return Cost(compute=compute)
        return Cost(memory=memory) if memory >= launch else Cost(launch=launch)

    @property
    def seconds(self) -> float:
        return self.compute + self.memory + self.launch

    @property
    def bound(self) -> Bound:
        """The cause with the most seconds; `launch` only where it has more than both others."""
        if self.launch > max(self.compute, self.memory):
            return "launch"
        return "compute" if self.compute >= self.memory else "memory"

    def calibrated(self, target: Target, direction: Direction) -> Cost:
        """The cost with the seconds of computing that a chip was measured to take, see `Chip.measured` in `ropegen.target`."""
        chip = target.figures
        factor = chip.measured_backward if direction == "backward" else chip.measured
        return replace(self, compute=self.compute * factor)

    def __add__(self, other: Cost) -> Cost:
        """The cost of both, one after the other; temporaries of the first are free before the second begins."""
        return Cost(
            flops=self.flops + other.flops,
            bytes=self.bytes + other.bytes,
            temporary=max(self.temporary, other.temporary),
            compute=self.compute + other.compute,
            memory=self.memory + other.memory,
            launch=self.launch + other.launch,
        )


NO_COST = Cost()


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Operations and bytes, before a chip is named.

    `matmul` counts the operations of matrix products in the element type of the operands, `wide_matmul` those of
    products in the accumulator's element type. `vector` counts elementwise operations and `exponentials` calls of a
    transcendental function. `moved` is bytes of main memory that move while the chip computes, `spilled` bytes that move
    between passes, when it does not. `launches` counts the kernels after the first that a GPU starts.
    """

    matmul: float = 0.0
    wide_matmul: float = 0.0
    vector: float = 0.0
    exponentials: float = 0.0
    moved: float = 0.0
    spilled: float = 0.0
    launches: float = 0.0
    temporary: float = 0.0

    @property
    def flops(self) -> float:
        return self.matmul + self.wide_matmul + self.vector + self.exponentials

    def on(self, target: Target, dtype: str) -> Cost:
        """The roofline of this work on a chip, for operands of an element type.

        The matrix, vector and transcendental units take turns; memory moves while they work.
        """
        chip = target.figures
        busy = self.matmul / chip.matmul(dtype) + self.vector / chip.vector + self.exponentials / chip.transcendental
        busy += self.wide_matmul / chip.matmul("f64" if dtype == "f64" else "f32")
        roofline = Cost.longest(compute=busy, memory=self.moved / chip.bandwidth)
        return Cost(
            flops=self.flops,
            bytes=self.moved + self.spilled,
            temporary=self.temporary,
            compute=roofline.compute,
            memory=roofline.memory + self.spilled / chip.bandwidth,
            launch=chip.launch + self.launches * chip.kernel,
        )


NO_WORK = Work()
