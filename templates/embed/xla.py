"""`embed` by XLA: one gather, then every step on its rows in float32, rounded once at the end."""

from __future__ import annotations

from collections.abc import Iterator

from ropegen import lowering
from ropegen.ir import ops
from ropegen.ir.graph import node
from ropegen.target import Target
from ropegen.template import Array, Arrays, Cost, Kernel, Template, Tile, plain_kernel
from ropegen.types import numpy_dtype

from .site import FAMILY, EmbedSite, covers


def declines(site: EmbedSite, target: Target) -> Iterator[str]:
    """Nothing: XLA runs everywhere."""
    return iter(())


def tiles(site: EmbedSite, target: Target) -> Iterator[Tile]:
    """XLA chooses its own."""
    yield Tile()


def cost(site: EmbedSite, target: Target, tile: Tile) -> Cost:
    """Every row read and written once."""
    (rows,) = site.outputs
    others = sum(each.type.bytes for each in site.operands if each is not site.table)
    vector = rows.type.size * (1 + 4 * len(site.steps))
    return Cost.of(target, rows.type.dtype, vector=vector, moved=2 * rows.type.bytes + others)


def build(site: EmbedSite, tile: Tile) -> Kernel:
    """The plain ops over rows kept in the accumulator's element type."""

    def forward(*operands: Array) -> Arrays:
        values = dict(zip(site.operands, operands, strict=True))
        lookup = node(site.lookup, site.ids, site.table)
        rows = lowering.lower(lookup, values[site.ids], values[site.table])
        if site.steps:
            rows = rows.astype(lowering.accumulator(rows.dtype))
        for step in site.steps:
            if not isinstance(step.value.op, ops.Cast):  # rounding waits for the end
                rows = lowering.lower(
                    step.value, *(rows if each is step.rows else values[each] for each in step.value.operands)
                )
        return (rows.astype(numpy_dtype(site.outputs[0].type.dtype)),)

    return plain_kernel(forward)


TEMPLATE = Template("xla", 1, FAMILY, ("cpu", "gpu", "tpu"), (), covers, declines, (), tiles, cost, build)
