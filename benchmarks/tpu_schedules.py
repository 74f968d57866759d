"""The facts that are kept of a kernel's schedule, and the time of a kernel that they predict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ropegen.compilers.schedule import FILL, MATRIX, SPILL, KernelSchedule, Part

Facts = Mapping[str, Any]


def kernel_facts(kernel: KernelSchedule) -> dict[str, Any]:
    """The sizes of the whole kernel, of the code that every step runs, and of the parts of a step.

    A loop inside counts as often as it runs.

    Raises:
      ValueError: a loop in a part has an unknown number of trips.
    """
    grid = kernel.grid
    parts = [part_facts(kernel, part) for part in kernel.step_parts]
    facts: dict[str, Any] = {
        "name": kernel.name,
        "bundles": kernel.whole.bundles,
        "matrix": kernel.whole.used[MATRIX] / kernel.slots[MATRIX],
        "spills": kernel.whole.spills,
        "vmem": kernel.vmem,
        "steps": kernel.steps,
        "outside": kernel.whole.own_cycles,
        "parts": parts,
    }
    if grid is not None:
        of_grid = grid.own_cycles + sum(inner.executed for inner in grid.inner)
        always = of_grid - sum(part["cycles"] for part in parts)
        facts["always"] = {"bundles": grid.own_bundles, "cycles": always, "copies": copies(grid)}
        facts["ahead"] = 2 * grid.is_pipelined
    return facts


def copies(part: Part) -> int:
    """The cycles of the branches that compute nothing: a step takes them if it begins or waits for a copy of a block."""
    found = 0
    for inner in part.inner:
        if inner.kind == "branch" and not inner.computes:
            found += inner.executed
        elif any(branch.kind == "branch" and branch.computes for branch in inner.inner):
            found += copies(inner)
    return found


def part_facts(kernel: KernelSchedule, part: Part) -> dict[str, Any]:
    """The bundles that run, their least cycles, the bundles with the matrix unit busy, and the spilled registers."""
    return {
        "bundles": run(part, lambda part: part.bundles),
        "cycles": run(part, lambda part: part.cycles),
        "matrix": run(part, lambda part: part.used[MATRIX]) / kernel.slots[MATRIX],
        "spills": run(part, lambda part: part.used[FILL] + part.used[SPILL]),
        "multiplies": part.multiplies,
    }


def run(part: Part, size: Callable[[Part], int]) -> int:
    """The sum of a size over everything that runs; the body of a loop counts once per trip.

    Raises:
      ValueError: a loop has an unknown number of trips.
    """
    if part.kind == "loop" and part.trips is None:
        raise ValueError(f"a loop of {part.bundles} bundles has an unknown number of trips")
    own = size(part) - sum(size(inner) for inner in part.inner)
    return (part.trips or 1) * (own + sum(run(inner, size) for inner in part.inner))


@dataclass(frozen=True)
class Steps:
    """The steps of a grid: `heads` counts key heads times batch entries; the other numbers are per head."""

    heads: int
    rows: int
    full: int
    partial: int
    idle: int
    """Steps that only begin and end a row in which no key is visible."""
    bodies: tuple[int, ...] = ()
    """How often each part that multiplies runs, in the kernel's order; empty for a kernel whose parts are of a full and of a
    partial tile.
    """
    voids: int = 0
    """How often a kernel that works one step ahead forgets a row before another one begins."""
    grid: int = 0
    """The steps of the grid, if they are not the tiles and the idle steps."""

    @property
    def tiles(self) -> int:
        return self.full + self.partial

    @property
    def all(self) -> int:
        return self.grid or self.tiles + self.idle


def multiplying(kernel: Facts) -> list[Facts]:
    """The parts that multiply, in the kernel's order. The first one is that of a full tile."""
    return [part for part in kernel["parts"] if part["multiplies"]]


def full_part(kernel: Facts) -> Facts:
    """The part of a full tile."""
    return multiplying(kernel)[0]


def runs(kernel: Facts, steps: Steps) -> list[tuple[Facts, int]]:
    """The parts that multiply, with how often each runs in a head.

    Raises:
      ValueError: the kernel has another number of them.
    """
    parts = multiplying(kernel)
    counts = steps.bodies or ((steps.full, steps.partial) if len(parts) == 2 else (steps.tiles,))
    if len(counts) != len(parts):
        raise ValueError(
            f"{kernel['name']} has {len(parts)} parts that multiply; the tiles of a head need {len(counts)}"
        )
    return list(zip(parts, counts, strict=True))


def row_parts(kernel: Facts) -> list[Facts]:
    """The parts that run once per row of tiles, and those that run once per head."""
    return [part for part in kernel["parts"] if not part["multiplies"]]


def rows_of(kernel: Facts, steps: Steps) -> list[tuple[Facts, int]]:
    """The parts that do not multiply, with how often each runs in a head.

    Most run once per row of tiles. Where there are three, the forward kernel forgets the row before in the middle one, and
    the backward kernel clears dk and dv in the first one; where there are two, the compiler made that code unconditional.
    """
    parts = row_parts(kernel)
    counts = [steps.rows] * len(parts)
    if len(parts) == 3 and kernel["name"].startswith("ropegen_attend_backward"):
        counts[0] = 1
    elif len(parts) == 3 and kernel["name"].startswith("ropegen_attend"):
        counts[1] = steps.voids
    return list(zip(parts, counts, strict=True))


def in_tiles(kernel: Facts, steps: Steps, size: str) -> float:
    """The sum of a size over the parts that multiply, as often as they run in a head."""
    return sum(part[size] * count for part, count in runs(kernel, steps))


def weighted(kernel: Facts, steps: Steps, size: str) -> float:
    """The same over the number of tiles."""
    return in_tiles(kernel, steps, size) / steps.tiles


def partial_mean(kernel: Facts, steps: Steps, size: str) -> float:
    """The mean of a size over the steps that do not run the part of a full tile, the one step more included."""
    (full, count), *others = runs(kernel, steps)
    rest = sum(part[size] * times for part, times in others)
    return rest / (steps.tiles - count) if others and steps.tiles > count else full[size]


def shared(kernel: Facts, steps: Steps) -> int:
    """The number of cores of a device that share the grid."""
    return max(1, round(steps.heads * steps.all / kernel["steps"]))


def cycles(kernel: Facts, steps: Steps, compiled: Steps) -> float:
    """The cycles of a whole grid of `steps`, from the schedule of a kernel that was compiled for the steps `compiled`.

    A step runs the unconditional code and the parts that it needs. The cores of one device share the grid.
    """
    rows = sum(count * part["cycles"] for part, count in rows_of(kernel, steps))
    a_head = in_tiles(kernel, steps, "cycles") + rows + steps.all * kernel["always"]["cycles"]
    outside = kernel["outside"] + kernel["ahead"] * kernel["always"]["cycles"]
    return outside + steps.heads * a_head / shared(kernel, compiled)
