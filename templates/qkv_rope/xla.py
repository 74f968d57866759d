"""`qkv_rope` by XLA: one matmul. Its float32 sums stay float32 through norm and rotation, and are rounded once."""

from __future__ import annotations

from collections.abc import Iterator

from ropegen import plain
from ropegen.cost import Cost, Direction, Work
from ropegen.ir import ops
from ropegen.target import Target
from ropegen.template import Array, Arrays, Kernel, Template, Tile, plain_kernel
from ropegen.types import numpy_dtype

from .site import FAMILY, Part, QkvRopeSite


def declines(site: QkvRopeSite, target: Target) -> Iterator[str]:
    """Nothing: XLA runs everywhere."""
    return iter(())


def tiles(site: QkvRopeSite, target: Target) -> Iterator[Tile]:
    """XLA chooses its own."""
    yield Tile()


def cost(site: QkvRopeSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost:
    """The matmul; its float32 sums, which are written and read back; and the parts, written in their own element type.

    Derivatives have two products, since x and the weight both have a tangent and a cotangent. If a part has a norm,
    they also compute the sums again; rotations are linear and do not need them. On TPU the passes come after the
    matmul, see `_tpu_cost`. On a GPU the matmul is a kernel, and each part is one more, with another for each norm.
    """
    x, sums = site.project.operands[0], float(site.project.type.size)
    norms = sum(isinstance(step.op, ops.Norm) for part in site.parts for step in part.steps)
    # How many products there are, and how often an array of the size of the sums passes through the steps of the parts.
    times = 1 if direction == "forward" else 3 if norms else 2
    stepped = 1 if direction == "forward" else 2 if norms else 1
    operands, outputs = (float(sum(value.type.bytes for value in side)) for side in (site.operands, site.outputs))
    matmul = 2.0 * times * sums * x.type.shape[-1]
    if direction != "forward":
        operands *= 2.0
    if target.platform == "tpu":
        return _tpu_cost(site, target, matmul, operands, outputs, times, stepped)
    vector = sums * stepped * (1 + sum(4 * len(part.steps) for part in site.parts) / len(site.parts))
    return Work(
        matmul=matmul,
        vector=vector,
        moved=operands + outputs + 8.0 * sums * stepped,
        launches=times - 1 + stepped * (len(site.parts) + norms),
        temporary=4.0 * sums,
    ).on(target, x.type.dtype)


def _tpu_cost(
    site: QkvRopeSite, target: Target, matmul: float, operands: float, outputs: float, times: int, stepped: int
) -> Cost:
    """The cost of `times` products, then of `stepped` times the passes of each part, which XLA does not fuse into a
    matmul.
    """
    chip, sums = target.figures, float(site.project.type.size)
    multiplied = Cost.longest(
        compute=matmul / chip.matmul(site.project.operands[0].type.dtype),
        memory=(operands + outputs) / chip.bandwidth,
        launch=times * chip.op,
    )
    # Data in fast memory is read at about the same rate, because the change of layout takes the time.
    passed = [_tpu_passes(part) for part in site.parts] * stepped
    after = [
        Cost.longest(launch=count * chip.op, memory=moved / (chip.relayout * chip.bandwidth)) for count, moved in passed
    ]
    flops = matmul + stepped * sum(value.type.size for value in site.outputs)
    counted = Cost(
        flops=flops, bytes=operands + sum(moved for _, moved in passed), temporary=4.0 * sums, launch=chip.launch
    )
    return sum(after, multiplied) + counted


def _tpu_passes(part: Part) -> tuple[int, float]:
    """The ops after the matmul that compute a part from the sums, and the bytes that they read and write.

    libtpu compiles a part without steps to a cut and a copy to its layout, both in its own element type. A part with
    steps is cut out in float32, read for the statistics of a norm and again for the norm itself, and rotated as halves,
    which another op joins.
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
    """The plain formulas, with the sums in the element type of the accumulator."""

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
