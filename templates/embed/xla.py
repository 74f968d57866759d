"""`embed` by XLA: one gather, then every step on its rows in float32, rounded once at the end."""

from __future__ import annotations

from collections.abc import Iterator

from ropegen import plain
from ropegen.ir import ops
from ropegen.ir.graph import node
from ropegen.target import TPU_OP, Target
from ropegen.template import Array, Arrays, Cost, Kernel, Template, Tile, plain_kernel
from ropegen.types import numpy_dtype

from .site import FAMILY, EmbedSite

# Operations of a TPU's vector unit that a pass over the rows costs for each element: libtpu's own estimates are 29 to 56
# on v5e and 21 to 36 on v7x, for rows of 768 and 4,096 features.
_TPU_PASS = 32.0


def declines(site: EmbedSite, target: Target) -> Iterator[str]:
    """Nothing: XLA runs everywhere."""
    return iter(())


def tiles(site: EmbedSite, target: Target) -> Iterator[Tile]:
    """XLA chooses its own."""
    yield Tile()


def cost(site: EmbedSite, target: Target, tile: Tile) -> Cost:
    """Every row read and written once; on TPU as `_tpu_cost` says."""
    (rows,) = site.outputs
    others = sum(each.type.bytes for each in site.operands if each is not site.table)
    if target.platform == "tpu":
        return _tpu_cost(site, target, others)
    vector = rows.type.size * (1 + 4 * len(site.steps))
    return Cost.of(target, rows.type.dtype, vector=vector, moved=2 * rows.type.bytes + others)


def _tpu_cost(site: EmbedSite, target: Target, others: float) -> Cost:
    """A gather to memory, then a pass for each statistic of a norm and one that writes: programs one after the other.

    Rows of bf16 come in pairs, which share their words. What the passes read mostly stays in fast memory.
    """
    (rows,), table, chip = site.outputs, site.table.type, target.figures
    size, norms = rows.type.size, [op for step in site.steps if isinstance(op := step.value.op, ops.Norm)]
    gathered = size * numpy_dtype(table.dtype).itemsize
    fetched = gathered * (2 if table.dtype == "bf16" else 1)
    statistics = sum(2 if op.kind == "layer" else 1 for op in norms)
    passes = statistics + bool(site.steps)
    # Beside them, on little: ids put inside the table, each statistic's root or mean, weights and biases as float32.
    little = 1 + statistics + sum(len(op.given) for op in norms)
    vector = _TPU_PASS * passes * size
    busy = passes * max(_TPU_PASS * size / chip.vector, TPU_OP) + little * TPU_OP
    moving = max((fetched + gathered + others) / chip.bandwidth, TPU_OP)
    bound = "compute" if busy >= moving else "memory"
    if chip.launch > busy + moving:
        bound = "launch"
    return Cost(vector, fetched + others + rows.type.bytes, float(gathered), busy + moving + chip.launch, bound)


def build(site: EmbedSite, tile: Tile, target: Target) -> Kernel:
    """The plain ops over rows kept in the accumulator's element type."""

    def forward(*operands: Array) -> Arrays:
        values = dict(zip(site.operands, operands, strict=True))
        lookup = node(site.lookup, site.ids, site.table)
        rows = plain.compute(lookup, values[site.ids], values[site.table])
        if site.steps:
            rows = rows.astype(plain.accumulator(rows.dtype))
        for step in site.steps:
            if not isinstance(step.value.op, ops.Cast):  # rounding waits for the end
                rows = plain.compute(
                    step.value, *(rows if value is step.rows else values[value] for value in step.value.operands)
                )
        return (rows.astype(numpy_dtype(site.outputs[0].type.dtype)),)

    return plain_kernel(forward)


TEMPLATE = Template(
    name="xla",
    version=1,
    family=FAMILY,
    runs_on=("cpu", "gpu", "tpu"),
    cost=cost,
    build=build,
)
