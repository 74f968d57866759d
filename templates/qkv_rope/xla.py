"""`qkv_rope` by XLA: one matmul, whose float32 sums stay float32 through norm and rotation and are rounded once."""

from __future__ import annotations

from collections.abc import Iterator

from ropegen import plain
from ropegen.ir import ops
from ropegen.target import TPU_OP, Target
from ropegen.template import Array, Arrays, Cost, Kernel, Template, Tile, plain_kernel
from ropegen.types import numpy_dtype

from .site import FAMILY, Part, QkvRopeSite

# Of the bandwidth, what passes reach that cut heads out of rows: they change the layout of tiles. libtpu's own estimates
# are 0.49 to 0.66 on v5e and 0.3 to 0.45 on v7x.
_TPU_SHARE = 0.5


def declines(site: QkvRopeSite, target: Target) -> Iterator[str]:
    """Nothing: XLA runs everywhere."""
    return iter(())


def tiles(site: QkvRopeSite, target: Target) -> Iterator[Tile]:
    """XLA chooses its own."""
    yield Tile()


def cost(site: QkvRopeSite, target: Target, tile: Tile) -> Cost:
    """The matmul, its float32 sums written and read back, and the parts written in their own element type.

    On TPU as `_tpu_cost` says.
    """
    if target.platform == "tpu":
        return _tpu_cost(site, target)
    x = site.project.operands[0]
    sums = site.project.type.size
    matmul = 2.0 * sums * x.type.shape[-1]
    vector = sums * (1 + sum(4 * len(part.steps) for part in site.parts) / len(site.parts))
    moved = sum(each.type.bytes for each in (*site.operands, *site.outputs)) + 8.0 * sums
    return Cost.of(target, x.type.dtype, matmul=matmul, vector=vector, moved=moved, temporary=4.0 * sums)


def _tpu_cost(site: QkvRopeSite, target: Target) -> Cost:
    """The matmul, then the passes of each part: XLA fuses neither into the matmul, so that their times add."""
    x, chip = site.project.operands[0].type, target.figures
    sums = site.project.type.size
    matmul = 2.0 * sums * x.shape[-1]
    operands, outputs = (sum(each.type.bytes for each in side) for side in (site.operands, site.outputs))
    busy = matmul / chip.matmul(x.dtype)
    moving = (operands + outputs) / chip.bandwidth
    # What stays in fast memory is read at about the same rate: the change of layout is what takes the time.
    passed = [_tpu_passes(part) for part in site.parts]
    after = sum(max(count * TPU_OP, moved / (_TPU_SHARE * chip.bandwidth)) for count, moved in passed)
    seconds = max(busy, moving, TPU_OP) + after + chip.launch
    bound = "compute" if busy >= moving + after else "memory"
    if chip.launch > seconds - chip.launch:
        bound = "launch"
    moved = operands + sum(moved for _, moved in passed)
    return Cost(matmul + sum(each.type.size for each in site.outputs), moved, 4.0 * sums, seconds, bound)


def _tpu_passes(part: Part) -> tuple[int, float]:
    """The ops after the matmul that make a part of the sums, and the bytes that they read and write.

    As libtpu compiles them: a part without steps is cut out and copied to its layout, each in its own element type. One
    with steps is cut out in float32, read for the statistics of a norm and again to be normed, and rotated to halves
    that another op puts together.
    """
    wide, item = 4.0, numpy_dtype(part.split.type.dtype).itemsize
    if not part.steps:
        return 2, 4.0 * item * part.split.type.size
    count, moved = 1, 2 * wide
    for step in part.steps:
        norms = isinstance(step.op, ops.Norm)
        count += 2
        moved += 2 * wide if norms else wide + 3 * item
    return count, moved * part.split.type.size


def build(site: QkvRopeSite, tile: Tile, target: Target) -> Kernel:
    """The plain ops over sums kept in the accumulator's element type."""

    def forward(*operands: Array) -> Arrays:
        values = dict(zip(site.operands, operands, strict=True))
        x, weight, *bias = (values[operand] for operand in site.project.operands)
        sums = plain.project(x, weight, *bias)
        results: list[Array] = []
        for part in site.parts:
            value = plain.compute(part.split, sums)
            for step in part.steps:
                value = plain.compute_for_platform(step, value, *(values[operand] for operand in step.operands[1:]))
            results.append(value.astype(numpy_dtype(part.split.type.dtype)))
        return tuple(results)

    return plain_kernel(forward)


TEMPLATE = Template(
    name="xla",
    version=1,
    family=FAMILY,
    runs_on=("cpu", "gpu", "tpu"),
    cost=cost,
    build=build,
)
