"""`embed` by XLA: one gather, then every step on the rows in float32, with one rounding at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ropegen import plain
from ropegen.cost import Cost, Direction, Work
from ropegen.ir import ops
from ropegen.ir.graph import Node, node
from ropegen.target import Target
from ropegen.template import Array, Arrays, Kernel, Template, Tile, plain_kernel
from ropegen.types import numpy_dtype

from .site import FAMILY, EmbedSite

# The number of vector operations per element that a pass over the rows costs on TPU. libtpu's own estimates are 29 to
# 56 on v5e and 21 to 36 on v7x, for rows of 768 and 4,096 features.
_TPU_PASS = 32.0
# The cycles in which libtpu's loop adds one row to a table, and those for every feature of it. Its schedules for v5e and
# v7x have 519 and 534 cycles for 4,096 features of bf16, and 132 on v5e for 768 of f32.
_TPU_ADD, _TPU_ADD_FEATURE = 40.0, 0.12


def declines(site: EmbedSite, target: Target) -> Iterator[str]:
    """Nothing: XLA runs everywhere."""
    return iter(())


def tiles(site: EmbedSite, target: Target) -> Iterator[Tile]:
    """XLA chooses its own."""
    yield Tile()


def cost(site: EmbedSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost:
    """Every row is read and written once. On a GPU there is one kernel, and one for each statistic; for TPU see
    `_tpu_cost`.

    JAX differentiates the forward pass. The tangent computes the rows again, together with their tangents. Backward
    computes them again, takes the cotangents through the steps, and adds them to a table of zeros.
    """
    (rows,) = site.outputs
    others = float(sum(value.type.bytes for value in site.operands if value is not site.table))
    times = 1 if direction == "forward" else 2
    added = site.table.type.bytes + rows.type.bytes if direction == "backward" else 0  # zeros, and rows read again
    if target.platform == "tpu":
        scattered = _tpu_scatter(site, target) if direction == "backward" else 0.0
        return _tpu_cost(site, target, others, direction) + Cost(
            bytes=added, compute=scattered, memory=added / target.figures.bandwidth
        )
    return Work(
        vector=float(times * rows.type.size * (1 + 4 * len(site.steps))),
        moved=times * (2.0 * rows.type.bytes + others) + added,
        launches=times * (1 + _statistics(site)) - 1 + (direction == "backward"),
    ).on(target, rows.type.dtype)


def _tpu_scatter(site: EmbedSite, target: Target) -> float:
    """The seconds in which one core adds the cotangents of rows to the table, one after the other."""
    return site.ids.type.size * (_TPU_ADD + _TPU_ADD_FEATURE * site.table.type.shape[1]) / target.figures.clock


def _statistics(site: EmbedSite) -> int:
    """The number of sums over whole rows that the steps of the site need."""
    norms = [op for step in site.steps if isinstance(op := step.value.op, ops.Norm)]
    return sum(2 if op.kind == "layer" else 1 for op in norms)


def _tpu_cost(site: EmbedSite, target: Target, others: float, direction: Direction) -> Cost:
    """The cost of separate ops: a gather to memory, a pass for each statistic of a norm, and a pass that writes.

    Rows of bf16 come in pairs, which share their words. Most of what the passes read stays in fast memory. The tangent
    gathers twice, and its passes read the rows and their tangents at once. Backward does everything twice.
    """
    (rows,), table, chip = site.outputs, site.table.type, target.figures
    size, statistics = rows.type.size, _statistics(site)
    affine = sum(len(op.given) for step in site.steps if isinstance(op := step.value.op, ops.Norm))
    gathered = size * numpy_dtype(table.dtype).itemsize
    fetched = gathered * (2 if table.dtype == "bf16" else 1)
    passes = statistics + bool(site.steps)
    # There are more ops, on little data: ids are clipped, statistics are finished, weights and biases become float32.
    little = 1 + statistics + affine
    passed = Cost.longest(compute=_TPU_PASS * size / chip.vector, launch=chip.op)
    moved = Cost.longest(memory=(fetched + gathered + others) / chip.bandwidth, launch=chip.op)
    counted = Cost(
        flops=_TPU_PASS * passes * size,
        bytes=fetched + others + rows.type.bytes,
        temporary=float(gathered),
        launch=little * chip.op + chip.launch,
    )
    once = sum([passed] * passes, moved) + counted
    match direction:
        case "forward":
            return once
        case "tangent":
            return once + moved + Cost(bytes=fetched + others)
        case "backward":
            return once + once


def build(site: EmbedSite, tile: Tile, target: Target) -> Kernel:
    """The plain formulas, with the rows in the element type of the accumulator."""

    def forward(*operands: Array) -> Arrays:
        values = dict(zip(site.operands, operands, strict=True))
        rows = looked_up(site, values[site.ids], values[site.table])
        return (stepped(site, rows.astype(plain.accumulator(rows.dtype)) if site.steps else rows, values),)

    return plain_kernel(forward)


def looked_up(site: EmbedSite, ids: Array, table: Array) -> Array:
    """The rows (..., features) of the table (vocabulary, features) at ids (...), in the table's element type."""
    return plain.compute(node(site.lookup, site.ids, site.table), ids, table)


def stepped(site: EmbedSite, rows: Array, values: Mapping[Node, Array]) -> Array:
    """The output of the site: rows (..., features) after every step, rounded once. `values` has the steps' operands."""
    for step in site.steps:
        if not isinstance(step.value.op, ops.Cast):  # the rounding is at the end
            rows = plain.compute(
                step.value, *(rows if value is step.rows else values[value] for value in step.value.operands)
            )
    return rows.astype(numpy_dtype(site.outputs[0].type.dtype))


TEMPLATE = Template(
    name="xla",
    version=1,
    family=FAMILY,
    runs_on=("cpu", "gpu", "tpu"),
    cost=cost,
    build=build,
)
