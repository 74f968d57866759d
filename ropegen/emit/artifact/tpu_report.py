"""What libtpu says of the kernels of a plan, for `report.txt`: schedules, steps of the grid, and time.

The predicted time is the larger of two: cycles over the clock, times the factor that was measured on the chip, and bytes
over the bandwidth. A step of a grid always runs its unconditional part. It also runs conditional parts. If the mask of an
attention is known, the number of runs of those is known too: one or two parts that multiply run for the full and for the
partial tiles, in this order in the kernel, and the other parts run once for a row of tiles. If more parts multiply, the
report assumes that every step runs the longest one. For every other kernel it assumes that every part runs at every step.
In both cases the time is an upper bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ropegen.compilers.process import Compilation
from ropegen.compilers.schedule import MATRIX, TRANSCENDENTAL, KernelSchedule
from ropegen.emit.artifact.kernel_steps import OURS, Tiles, microseconds, steps_of, tiles_of
from ropegen.plans import Plan, Step
from ropegen.target import Chip

# The report lists this many of XLA's kernels, the longest ones, and adds up the others.
_LISTED = 6


def lines(plan: Plan, done: Compilation[KernelSchedule]) -> Iterator[str]:
    """The section of one target."""
    target = plan.target
    chip = target.figures
    yield f"{target}, as {done.compiler} compiled it ({done.compiler.build}; {done.topology})"
    where = ", on one core of two" if done.devices_per_chip > 1 else ""
    yield f"  at {chip.clock / 1e9:g} GHz{where}; spills are stores and fills of registers; VMEM is windows and scratch"
    if chip.measured != 1:
        yield (
            f"  times are cycles over the clock, x {chip.measured:g}, and x {chip.measured_backward:g} in backward kernels of "
            "ropegen: measured times over schedules (benchmarks/tpu.md)"
        )
    yield "  a kernel of XLA's is counted once, in a loop of the program too"
    for name, module in done.modules.items():
        yield f"  {name}: {module.sizes['generated_code_size_in_bytes']:,} bytes of code"
        yield "      bundles    cycles    MXU    EUP  spills        VMEM        time  kernel"
        ours = [kernel for kernel in module.kernels if kernel.name.startswith(OURS)]
        others = sorted(
            (kernel for kernel in module.kernels if kernel not in ours),
            key=lambda kernel: (-kernel.whole.executed, kernel.name),
        )
        steps = _steps(plan, name, ours)
        for kernel in ours:
            yield from _ours(kernel, plan, steps.get(kernel.name), chip, done.devices_per_chip)
        for kernel in others[:_LISTED]:
            yield _row(kernel, kernel.whole.executed, chip)
        if rest := others[_LISTED:]:
            seconds = sum(_seconds(kernel, kernel.whole.executed, chip) for kernel in rest)
            yield f"{'':56}{seconds * 1e6:9.1f} µs  {len(rest)} more by XLA"


def cycles(kernel: KernelSchedule, tiles: Tiles | None = None) -> tuple[int, bool]:
    """The cycles of a run, and whether the number is only an upper bound."""
    grid, parts = kernel.grid, kernel.step_parts
    multiply = [part.executed for part in parts if part.multiplies]
    if tiles is None or grid is None or grid.trips is None or not kernel.steps or not multiply:
        return kernel.whole.executed, True
    # The cores of one device share the grid.
    share = max(1, round(max(tiles.visited, 1) / kernel.steps))
    always = grid.own_cycles + sum(part.executed for part in grid.inner) - sum(part.executed for part in parts)
    once_a_row = sum(part.executed for part in parts if not part.multiplies)
    outside = kernel.whole.own_cycles + grid.trips * always + tiles.rows * once_a_row // share
    if len(multiply) > 2:
        return outside + kernel.steps * max(multiply), True
    full, partial = multiply if len(multiply) == 2 else multiply * 2
    return outside + (tiles.full * full + tiles.partial * partial) // share, False


def _seconds(kernel: KernelSchedule, spent: int, chip: Chip) -> float:
    """The time of a number of cycles on the chip."""
    return spent / chip.clock * (chip.measured_backward if "backward" in kernel.name else chip.measured)


def _row(kernel: KernelSchedule, spent: int, chip: Chip) -> str:
    whole = kernel.whole
    return (
        f"  {whole.bundles:11,}{whole.cycles:10,}{kernel.share(MATRIX):7.0%}{kernel.share(TRANSCENDENTAL):7.0%}"
        f"{whole.spills:8,}{kernel.vmem / 1e6:9.2f} MB{_seconds(kernel, spent, chip) * 1e6:9.1f} µs  {kernel.name}"
    )


def _ours(kernel: KernelSchedule, plan: Plan, step: Step | None, chip: Chip, devices: int) -> Iterator[str]:
    tiles = None if step is None else tiles_of(plan, step, "kv_heads")
    spent, is_bound = cycles(kernel, tiles)
    yield _row(kernel, spent, chip)
    indent = " " * 8
    if kernel.grid is not None:
        parts = ", ".join(
            f"{part.bundles:,}{f' at {kernel.share(MATRIX, part):.0%} MXU' if part.multiplies else ''}"
            for part in kernel.step_parts
        )
        yield f"{indent}bundles of a step: {kernel.grid.own_bundles:,} always, as needed {parts or 'none'}"
    known = "unknown" if kernel.steps is None else f"{kernel.steps:,}"
    if tiles is not None and kernel.steps is not None:
        cores = f" on each of {chip.cores} cores" if kernel.steps < tiles.visited else ""
        empty = tiles.all - tiles.visited
        yield f"{indent}grid steps {known}{cores} of {tiles.all:,} tiles: {tiles.full:,} full, {tiles.partial:,} partial, {empty:,} empty"
    else:
        yield f"{indent}grid steps {known}"
    if step is None:
        return
    cost = step.cost
    compute = cost.flops / chip.matmul(step.outputs[0].type.dtype) * devices
    memory = cost.bytes / chip.bandwidth * devices
    busy = _seconds(kernel, spent, chip)
    yield (
        f"{indent}predicted {'at most ' * is_bound}{microseconds(max(busy, memory))}, by "
        f"{'memory' if memory > busy else 'the schedule'}; roofline {microseconds(max(compute, memory))}: "
        f"{cost.flops / 1e9:.2f} GFLOP in {microseconds(compute)}, {cost.bytes / 1e6:.1f} MB in {microseconds(memory)}"
    )


def _steps(plan: Plan, stage: str, kernels: Sequence[KernelSchedule]) -> Mapping[str, Step]:
    """The step of the plan for each kernel, for the families that have as many kernels as steps."""
    step_of: dict[str, Step] = {}
    for family in {kernel.name.partition(".")[0] for kernel in kernels}:
        names = sorted((kernel.name for kernel in kernels if kernel.name.partition(".")[0] == family), key=_number)
        steps = steps_of(plan, stage, family.removeprefix(OURS))
        if len(steps) == len(names):
            step_of |= dict(zip(names, steps, strict=True))
    return step_of


def _number(name: str) -> int:
    last = name.rpartition(".")[2]
    return int(last) if last.isdecimal() else 0
