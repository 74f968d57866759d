"""`qkv_rope` by XLA: one matmul, whose float32 sums stay float32 through norm and rotation and are rounded once."""

from __future__ import annotations

from collections.abc import Iterator

from ropegen import lowering
from ropegen.target import Target
from ropegen.template import Array, Arrays, Cost, Kernel, Template, Tile, plain_kernel
from ropegen.types import numpy_dtype

from .site import FAMILY, QkvRopeSite, covers


def declines(site: QkvRopeSite, target: Target) -> Iterator[str]:
    """Nothing: XLA runs everywhere."""
    return iter(())


def tiles(site: QkvRopeSite, target: Target) -> Iterator[Tile]:
    """XLA chooses its own."""
    yield Tile()


def cost(site: QkvRopeSite, target: Target, tile: Tile) -> Cost:
    """The matmul, its float32 sums written and read back, and the parts written in their own element type."""
    x = site.project.operands[0]
    sums = site.project.type.size
    matmul = 2.0 * sums * x.type.shape[-1]
    vector = sums * (1 + sum(4 * len(part.steps) for part in site.parts) / len(site.parts))
    moved = sum(each.type.bytes for each in (*site.operands, *site.outputs)) + 8.0 * sums
    return Cost.of(target, x.type.dtype, matmul=matmul, vector=vector, moved=moved, temporary=4.0 * sums)


def build(site: QkvRopeSite, tile: Tile) -> Kernel:
    """The plain ops over sums kept in the accumulator's element type."""

    def forward(*operands: Array) -> Arrays:
        values = dict(zip(site.operands, operands, strict=True))
        x, weight, *bias = (values[each] for each in site.project.operands)

        sums = lowering.project(x, weight, *bias)
        found: list[Array] = []
        for part in site.parts:
            value = lowering.lower(part.split, sums)
            for step in part.steps:
                value = lowering.lower(step, value, *(values[each] for each in step.operands[1:]))
            found.append(value.astype(numpy_dtype(part.split.type.dtype)))
        return tuple(found)

    return plain_kernel(forward)


TEMPLATE = Template("xla", 1, FAMILY, ("cpu", "gpu", "tpu"), (), covers, declines, (), tiles, cost, build)
