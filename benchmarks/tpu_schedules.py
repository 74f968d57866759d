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
        facts["always"] = {"bundles": grid.own_bundles, "cycles": of_grid - sum(part["cycles"] for part in parts)}
        facts["ahead"] = 2 * grid.is_pipelined
    return facts


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

    @property
    def all(self) -> int:
        return self.full + self.partial + self.idle


def tile_parts(kernel: Facts) -> tuple[Facts, Facts]:
    """The parts that run for a full and for a partial tile, in the kernel's order; one part may serve both."""
    multiplying = [part for part in kernel["parts"] if part["multiplies"]]
    if not 1 <= len(multiplying) <= 2:
        raise ValueError(f"{kernel['name']} has {len(multiplying)} parts that multiply; this script reads one or two")
    return multiplying[0], multiplying[-1]


def row_parts(kernel: Facts) -> list[Facts]:
    """The parts that run once per row of tiles."""
    return [part for part in kernel["parts"] if not part["multiplies"]]


def weighted(kernel: Facts, steps: Steps, size: str) -> float:
    """The mean over the tiles of a size of the part that runs."""
    full, partial = tile_parts(kernel)
    return (steps.full * full[size] + steps.partial * partial[size]) / (steps.full + steps.partial)


def shared(kernel: Facts, steps: Steps) -> int:
    """The number of cores of a device that share the grid."""
    return max(1, round(steps.heads * steps.all / kernel["steps"]))


def more(kernel: Facts, steps: Steps) -> int:
    """The number of steps of a head beyond its tiles: 1 if scores are computed a step before their weights."""
    return round(kernel["steps"] * shared(kernel, steps) / steps.heads) - steps.all


def cycles(kernel: Facts, steps: Steps, compiled: Steps) -> float:
    """The cycles of a whole grid of `steps`, from the schedule of a kernel that was compiled for the steps `compiled`.

    A step runs the unconditional code and the part of its tile; an extra step runs the part of a full tile. The parts of
    a row run at its first and last step. The cores of one device share the grid.
    """
    full, partial = tile_parts(kernel)
    extra = more(kernel, compiled)
    tiles = (steps.full + extra) * full["cycles"] + steps.partial * partial["cycles"]
    rows = steps.rows * sum(part["cycles"] for part in row_parts(kernel))
    always = (steps.all + extra) * kernel["always"]["cycles"]
    outside = kernel["outside"] + kernel["ahead"] * kernel["always"]["cycles"]
    return outside + steps.heads * (tiles + rows + always) / shared(kernel, compiled)
