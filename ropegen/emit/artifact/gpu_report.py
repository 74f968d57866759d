"""What the compiler for CUDA made of the kernels of a plan, for `report.txt`: registers, spills, loops, and time.

The machine code says how many instructions a loop has, and for how many cycles its products and exponentials occupy a
multiprocessor. If the tiles of the attention are known, so is how often the loops over full and over partial tiles run.
The predicted time is a lower bound: the tiles lie evenly over the multiprocessors that have a row of them, the units work
at the same time, and copies and the ends of a row take no time. For a kernel without products, the time is that of its
bytes at the bandwidth of the memory. It is a model; nothing was measured.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ropegen.compilers.gate import faults
from ropegen.compilers.machine_code import MATRIX_RATE, TENSOR_CORES, KernelCode, Loop
from ropegen.compilers.process import Compilation
from ropegen.emit.artifact.kernel_steps import OURS, Tiles, microseconds, steps_of, tiles_of
from ropegen.plans import Plan, Step
from ropegen.target import Chip


def lines(plan: Plan, done: Compilation[KernelCode]) -> Iterator[str]:
    """The section of one target."""
    target = plan.target
    yield f"{target}, as {done.compiler} compiled it (jax {done.compiler.jax}; {done.topology}, {done.device_kind})"
    yield "  no GPU was there; spills are bytes in local memory; the kernels of XLA are not listed"
    for name, module in done.modules.items():
        yield f"  {name}: {len(module.executable):,} bytes, {module.sizes['temp_size_in_bytes']:,} bytes of temporaries"
        if module.kernels:
            yield "    registers  spills  instructions  tensor core  kernel"
        for kernel in module.kernels:
            yield (
                f"    {kernel.registers:9,}{kernel.spilled:8,}{kernel.instructions:14,}"
                f"{kernel.products / kernel.instructions:13.1%}  {kernel.name}, {kernel.threads} threads, "
                f"{kernel.architecture}"
            )
            yield from _loops(kernel)
            yield from _accesses(kernel)
            yield from (f"        fault: {fault}" for fault in faults(kernel))
            if (step := _step(plan, name, kernel, module.kernels)) is not None:
                yield from _predicted(kernel, plan, step)


def _loops(kernel: KernelCode) -> Iterator[str]:
    """The loops that multiply."""
    for loop in kernel.product_loops:
        cycles = ", ".join(f"{needed:,.0f} for {unit}" for unit, needed in loop.cycles(kernel.warpgroups).items())
        yield (
            f"        loop at {loop.first:#x}: {loop.instructions:,} instructions, {loop.products} for the tensor cores, "
            f"{loop.exponentials} exponentials; cycles of {kernel.warpgroups} warpgroups: {cycles}"
        )


def _accesses(kernel: KernelCode) -> Iterator[str]:
    """How wide the accesses to global memory are in a kernel that only moves and turns numbers."""
    if kernel.products or not kernel.reads:
        return
    sides = (("reads", kernel.reads), ("writes", kernel.writes))
    said = (
        f"{count} {side} of {size} bytes" for side, sizes in sides for size, count in sorted(Counter(sizes).items())
    )
    yield f"        global memory: {', '.join(said)} for each thread"


@dataclass(frozen=True, slots=True)
class Least:
    """The least time of a kernel for the tiles of its attention, in seconds, and the unit that needs it."""

    seconds: float
    unit: str


def least(kernel: KernelCode, plan: Plan, step: Step) -> Least | None:
    """The least time in which a kernel computes the attention of a step: that of its loops, or of its bytes if that is longer.

    None if the tiles are known only at run time, or if the code has other loops than one for full and one for partial tiles.
    """
    tiles, chip = tiles_of(plan, step, "heads"), plan.target.figures
    spent = None if tiles is None else cycles(kernel, tiles)
    if tiles is None or spent is None:
        return None
    busy = spent[0] / min(tiles.rows, chip.multiprocessors) / clock(chip, kernel.architecture)
    memory = step.cost.bytes / chip.bandwidth
    return Least(memory, "memory") if memory > busy else Least(busy, spent[1])


def cycles(kernel: KernelCode, tiles: Tiles) -> tuple[float, str] | None:
    """The least cycles of all tiles on one multiprocessor, and the unit that needs them.

    None if the code has other loops than one for full and one for partial tiles.
    """
    loops = kernel.product_loops
    kinds = [count for count in (tiles.full, tiles.partial) if count]
    if len(loops) != len(kinds):
        return None
    # Where the code does not say the sizes of products, the sizes of a tile do.
    products = tiles.operations / MATRIX_RATE[kernel.architecture]
    return _sum(kernel, list(zip(loops, kinds, strict=True)), products)


def _sum(kernel: KernelCode, runs: list[tuple[Loop, int]], products: float) -> tuple[float, str]:
    spent: dict[str, float] = {}
    for loop, count in runs:
        for unit, needed in {TENSOR_CORES: products, **loop.cycles(kernel.warpgroups)}.items():
            spent[unit] = spent.get(unit, 0.0) + count * needed
    unit = max(spent, key=lambda name: spent[name])
    return spent[unit], unit


def clock(chip: Chip, architecture: str) -> float:
    """The cycles a second at which the published peak of the tensor cores holds."""
    return chip.matmul_bf16 / (MATRIX_RATE[architecture] * chip.multiprocessors)


def _predicted(kernel: KernelCode, plan: Plan, step: Step) -> Iterator[str]:
    tiles, chip = tiles_of(plan, step, "heads"), plan.target.figures
    indent = " " * 8
    if tiles is None:
        if not kernel.products:
            cost = step.cost
            seconds = microseconds(cost.bytes / chip.bandwidth)
            yield f"{indent}predicted at least {seconds}, by memory: {cost.bytes / 1e6:.1f} MB"
        return
    empty = tiles.all - tiles.visited
    yield f"{indent}{tiles.all:,} tiles: {tiles.full:,} full, {tiles.partial:,} partial, {empty:,} empty"
    known = least(kernel, plan, step)
    if known is None:
        return
    cost = step.cost
    compute, memory = cost.flops / chip.matmul(step.outputs[0].type.dtype), cost.bytes / chip.bandwidth
    yield (
        f"{indent}predicted at least {microseconds(known.seconds)}, by {known.unit}, at "
        f"{clock(chip, kernel.architecture) / 1e9:.2f} GHz; roofline {microseconds(max(compute, memory))}: "
        f"{cost.flops / 1e9:.2f} GFLOP in {microseconds(compute)}, {cost.bytes / 1e6:.1f} MB in {microseconds(memory)}"
    )


def _step(plan: Plan, stage: str, kernel: KernelCode, kernels: tuple[KernelCode, ...]) -> Step | None:
    """The step that a kernel computes, if only one can be meant. Equal steps have one kernel, which is compiled once."""
    family = kernel.name.removeprefix(OURS)
    steps = steps_of(plan, stage, family)
    if not steps or sum(other.name == kernel.name for other in kernels) > 1:
        return None
    first = steps[0]
    alike = all(
        step.region is not None
        and first.region is not None
        and (step.region.closed, step.chosen) == (first.region.closed, first.chosen)
        for step in steps
    )
    return first if alike else None
