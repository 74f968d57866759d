"""What is kept of a kernel's schedule, and the time that it says a kernel takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ropegen.compilers.schedule import FILL, MATRIX, SPILL, KernelSchedule, Part

Facts = Mapping[str, Any]


def kernel_facts(kernel: KernelSchedule) -> dict[str, Any]:
    """The whole, what a step always runs, and each part of a step, loops inside counted as often as they run.

    Raises:
      ValueError: a loop in a part has trips that are not known.
    """
    grid = kernel.grid
    parts = [part_facts(kernel, each) for each in kernel.step_parts]
    found: dict[str, Any] = {
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
        of_grid = grid.own_cycles + sum(each.executed for each in grid.inner)
        found["always"] = {"bundles": grid.own_bundles, "cycles": of_grid - sum(each["cycles"] for each in parts)}
        found["ahead"] = 2 * grid.is_pipelined
    return found


def part_facts(kernel: KernelSchedule, part: Part) -> dict[str, Any]:
    """Bundles that run, the cycles they take at least, those with the matrix unit busy, registers that are spilled."""
    return {
        "bundles": run(part, lambda each: each.bundles),
        "cycles": run(part, lambda each: each.cycles),
        "matrix": run(part, lambda each: each.used[MATRIX]) / kernel.slots[MATRIX],
        "spills": run(part, lambda each: each.used[FILL] + each.used[SPILL]),
        "multiplies": part.multiplies,
    }


def run(part: Part, size: Callable[[Part], int]) -> int:
    """The sum of a size over all that runs: a loop's body as often as it has trips.

    Raises:
      ValueError: a loop whose trips are not known.
    """
    if part.kind == "loop" and part.trips is None:
        raise ValueError(f"a loop of {part.bundles} bundles has trips that are not known")
    own = size(part) - sum(size(each) for each in part.inner)
    return (part.trips or 1) * (own + sum(run(each, size) for each in part.inner))


@dataclass(frozen=True)
class Steps:
    """The steps of a grid: for each key head and batch entry so many rows of tiles, full and partial tiles."""

    heads: int
    rows: int
    full: int
    partial: int
    idle: int
    """Steps that only begin and end a row in which nothing is seen."""

    @property
    def all(self) -> int:
        return self.full + self.partial + self.idle


def tile_parts(kernel: Facts) -> tuple[Facts, Facts]:
    """The parts that run for a full and for a partial tile, in the kernel's order; one that is for both is both."""
    found = [each for each in kernel["parts"] if each["multiplies"]]
    if not 1 <= len(found) <= 2:
        raise ValueError(f"{kernel['name']} has {len(found)} parts that multiply; one or two are known how to read")
    return found[0], found[-1]


def row_parts(kernel: Facts) -> list[Facts]:
    """Those that run once for a row of tiles."""
    return [each for each in kernel["parts"] if not each["multiplies"]]


def weighted(kernel: Facts, steps: Steps, size: str) -> float:
    """The mean over the tiles of what runs for each."""
    full, partial = tile_parts(kernel)
    return (steps.full * full[size] + steps.partial * partial[size]) / (steps.full + steps.partial)


def shared(kernel: Facts, steps: Steps) -> int:
    """Between how many cores of a device the grid is divided."""
    return max(1, round(steps.heads * steps.all / kernel["steps"]))


def more(kernel: Facts, steps: Steps) -> int:
    """Steps of a head that are more than its tiles: one, where scores are made a step ahead of their weights."""
    return round(kernel["steps"] * shared(kernel, steps) / steps.heads) - steps.all


def cycles(kernel: Facts, steps: Steps, compiled: Steps) -> float:
    """Cycles of a whole grid of these steps, by the schedule of a kernel that was compiled for others.

    A step runs what is under no condition, and the part of its tile, a step more that of a full one; the parts of a row
    run at its first and last step. Cores that are one device share the grid.
    """
    full, partial = tile_parts(kernel)
    extra = more(kernel, compiled)
    tiles = (steps.full + extra) * full["cycles"] + steps.partial * partial["cycles"]
    rows = steps.rows * sum(each["cycles"] for each in row_parts(kernel))
    always = (steps.all + extra) * kernel["always"]["cycles"]
    outside = kernel["outside"] + kernel["ahead"] * kernel["always"]["cycles"]
    return outside + steps.heads * (tiles + rows + always) / shared(kernel, compiled)
