"""`rope` by XLA: the plain formula of every rotation."""

from __future__ import annotations

from ropegen import plain
from ropegen.cost import NO_COST, Cost, Direction
from ropegen.target import Target
from ropegen.template import Array, Arrays, Kernel, Template, Tile, plain_kernel

from .site import FAMILY, RopeSite


def cost(site: RopeSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost:
    """The cost of the rotations one by one, and one more start: XLA gains nothing if they are a region, and it can fuse
    a rotation that is not in a region with its neighbours.
    """
    alone = sum((plain.plain_cost(value, target, direction) for value in site.outputs), NO_COST)
    return alone + Cost(launch=target.figures.launch)


def build(site: RopeSite, tile: Tile, target: Target) -> Kernel:
    """The plain formulas, in the form that is fast on the platform."""

    def forward(*operands: Array) -> Arrays:
        values = dict(zip(site.operands, operands, strict=True))
        return plain.evaluate(site.outputs, values, plain.compute_for_platform)

    return plain_kernel(forward)


TEMPLATE = Template(
    name="xla",
    version=1,
    family=FAMILY,
    runs_on=("cpu", "gpu", "tpu"),
    cost=cost,
    build=build,
)
