"""What a kernel for an NVIDIA GPU must not show in its machine code; without a GPU, kernels are judged by this gate."""

from __future__ import annotations

from collections.abc import Iterator

from ropegen.compilers.machine_code import KernelCode

# The instructions of the loop over full tiles, of 64 queries by 128 keys with 128 features for each warpgroup. The copies
# of a warpgroup that fetches for itself take about a quarter of them.
MOST_INSTRUCTIONS = 600
# Those of a loop of 128 queries by 128 keys, as a warpgroup has them on Blackwell. About 80 multiply the weighted values again,
# which is seldom run, and up to 130 are polynomials for three of sixteen weights: with more, issue would take longer than the
# exponentials that they replace.
MOST_ON_BLACKWELL = 880
# A loop of a forward kernel waits two to five times for products. If each of its 16 products waits for the one before it,
# the code has a wait for each.
_MOST_WAITS = 9
# The registers of a thread.
_REGISTERS = 255


def faults(kernel: KernelCode, *, most_instructions: int | None = None) -> Iterator[str]:
    """The reasons why a kernel fails; none if it passes.

    `most_instructions` is the limit of the first loop with products, which is the one over full tiles if there is one.
    """
    yield from (f"ptxas gave something up: {said}" for said in kernel.advisories)
    if kernel.spilled:
        yield f"{kernel.spilled} bytes are spilled to local memory"
    if kernel.local:
        yield f"{kernel.local} instructions load from local memory or store to it"
    if kernel.registers > _REGISTERS:
        yield f"a thread uses {kernel.registers} registers, of {_REGISTERS}"
    asked, given = kernel.product_waits
    if asked and not kernel.products:
        yield "nothing runs on the tensor cores"
    if kernel.asks_for_registers and not kernel.moves_registers:
        yield "the PTX moves registers between warpgroups, and the machine code does not"
    if given > 1.5 * asked:
        yield f"products wait for each other: {given} waits in the machine code, {asked} in the PTX"
    for loop in kernel.product_loops:
        if loop.waits > _MOST_WAITS:
            yield f"a loop waits {loop.waits} times for products"
    if most_instructions is not None and kernel.product_loops:
        counted = kernel.product_loops[0].instructions
        if counted > most_instructions:
            yield f"the loop over full tiles has {counted} instructions, of at most {most_instructions}"
