"""`embed` by Mosaic for TPU: the gather of the rows, and every step on them, in one kernel with one pass over memory.

XLA gathers the rows, reads them again for each statistic of a norm, and once more to normalise them. This kernel
fetches a row by its id, computes in float32, and writes the row once. Fetching a row of bfloat16 fetches two, because
they share their words. An added tensor is read in place if all rows have their own values, if all sequences share the
values, or if all rows share them. Otherwise, it is broadcast first. Tangent and backward are those of the `xla`
template: the cotangent of a table is a scatter, which a kernel does not make faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax.numpy as jnp

from ropegen.cost import Cost, Direction
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Node
from ropegen.target import Target
from ropegen.template import Array, Arrays, Kernel, Padded, Padding, Template, Tile
from ropegen.types import numpy_dtype

from ..tpu.mosaic import LANES, VMEM_SHARE, is_power, round_up
from .kernel_tpu import CHUNK, Form, Step
from .kernel_tpu import forward as kernel_forward
from .site import FAMILY, EmbedSite

_SIZES = (256, 128, 64, 32, 16)
# The ids are in scalar memory, which holds 1 MB.
_MOST_IDS = 1 << 17
# Bundles of VLIW instructions that issue one copy in libtpu's schedules. The second number is for tables whose last row
# is read separately.
_COPY_BUNDLES, _COPY_APART_BUNDLES = 14, 30


def declines(site: EmbedSite, target: Target) -> Iterator[str]:
    """Declines element types other than bf16 and f32, more ids than scalar memory holds, and rows that fit no tile."""
    table, ids = site.table.type, site.ids.type
    values = [table, *(step.value.type for step in site.steps)]
    if others := sorted({value.dtype for value in values} - {"bf16", "f32"}):
        yield f"Mosaic's rows are bf16 or f32, not {', '.join(others)}"
        return
    if 0 in (*ids.shape, *table.shape):
        yield "there is no id or feature to fetch"
        return
    if ids.size > _MOST_IDS:
        yield f"{ids.size:,} ids are more than scalar memory holds; it takes {_MOST_IDS:,}"
    if table.dtype == "bf16" and table.shape[0] < 2:
        yield "rows of bf16 are fetched in pairs, and the table has one"
    if not any(True for _ in tiles(site, target)):
        yield f"no tile of rows fits fast memory: {table.shape[1]} features"


def tiles(site: EmbedSite, target: Target) -> Iterator[Tile]:
    """Powers of two that fit fast memory and are not larger than the number of rows."""
    for size in _SIZES:
        tile = Tile.of(rows=size)
        limit = VMEM_SHARE * target.figures.kernel_memory
        if size < 2 * max(site.ids.type.size, CHUNK // 2 + 1) and _form(site, tile).vmem <= limit:
            yield tile


def cost(site: EmbedSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost | None:
    """Every row is fetched (in bf16 with its neighbour) and written once. Every copy is issued separately.

    The cost is None for derivatives, which the `xla` template computes.
    """
    if direction != "forward":
        return None
    (rows,) = site.outputs
    form, chip = _form(site, tile), target.figures
    fetched = float(form.tiles * form.row_tile * form.fetched * form.features * form.table_dtype.itemsize)
    others = sum(value.type.bytes for value in site.operands if value is not site.table)
    spread = sum(
        (1 + form.tiles * form.row_tile // form.rows)
        * form.rows
        * form.features
        * numpy_dtype(added.type.dtype).itemsize
        for added in _added(site)
        if _period(site, added, tile) is None
    )
    moved = fetched + rows.type.bytes + others + spread
    vector = rows.type.size * (form.fetched + 4.0 * len(site.steps))
    share = form.halves / chip.cores if form.halves < chip.cores else 1.0  # of cores with work
    copies = form.row_tile * (_COPY_APART_BUNDLES if form.has_tail else _COPY_BUNDLES)
    issued = form.tiles / form.halves * (copies + chip.grid_step) / chip.clock
    working = Cost.longest(
        compute=issued + vector / (share * chip.vector),
        memory=max(moved / chip.bandwidth, form.tiles / form.halves * chip.latency),
    )
    # The kernel waits until the rows of the first tile have arrived.
    first = Cost(memory=max(fetched / form.tiles / chip.bandwidth, chip.latency))
    return working + first + Cost(flops=vector, bytes=moved, temporary=float(form.vmem), launch=chip.launch)


def _added(site: EmbedSite) -> tuple[Node, ...]:
    """The tensors that the steps add to the rows."""
    added = [other for step in site.steps if isinstance(step.value.op, ops.Add) for other in step.others]
    return tuple(dict.fromkeys(added))


def _period(site: EmbedSite, added: Node, tile: Tile) -> int | None:
    """The number of rows after which an added tensor repeats: 1, whole tiles, or all rows. None if it must be
    broadcast.
    """
    rows = site.outputs[0].type.shape
    shape = (1,) * (len(rows) - added.type.rank) + added.type.shape
    varies = next((axis for axis, size in enumerate(shape[:-1]) if size > 1), len(rows) - 1)
    if shape[varies:] != rows[varies:]:
        return None
    period = math.prod(rows[varies:-1])
    return period if period in (1, math.prod(rows[:-1])) or period % tile["rows"] == 0 else None


def _form(site: EmbedSite, tile: Tile) -> Form:
    (rows,) = site.outputs
    steps: list[Step] = []
    names = _names(site)
    for step in site.steps:
        if isinstance(step.value.op, ops.Scale | ops.Add | ops.Norm):  # a cast is only the rounding at the end
            steps.append(Step(step.value.op, tuple(names[other] for other in step.others)))
    wide = [numpy_dtype(other.type.dtype).itemsize for other in _added(site) if _period(site, other, tile) != 1]
    return Form(
        rows=site.ids.type.size,
        row_tile=tile["rows"],
        vocabulary=site.table.type.shape[0],
        features=site.table.type.shape[1],
        table_dtype=numpy_dtype(site.table.type.dtype),
        dtype=numpy_dtype(rows.type.dtype),
        fills=site.lookup.mode == "fill",
        steps=tuple(steps),
        wide=sum(wide) * round_up(rows.type.shape[-1], LANES),
    )


def _names(site: EmbedSite) -> dict[Node, str]:
    """The names that the kernel gives to the other operands of the steps."""
    others = dict.fromkeys(other for step in site.steps for other in step.others)
    return {other: f"other{index}" for index, other in enumerate(others)}


def notes(site: EmbedSite, tile: Tile, target: Target) -> Iterator[str]:
    """Which derivatives the `xla` template computes."""
    yield "tangent and gradients by embed/xla"


def padding(site: EmbedSite, tile: Tile, target: Target) -> Padding | None:
    """Whole tiles of rows: every id after the last fetches a row that is thrown away."""
    form = _form(site, tile)
    rows = form.tiles * form.row_tile
    return Padding.of([Padded("rows", form.rows, rows)], "rows fetched", form.rows, rows)


def build(site: EmbedSite, tile: Tile, target: Target) -> Kernel:
    """Clips or marks the ids that are outside the table, then runs one kernel.

    Raises:
      RopegenError: a tile that the kernel cannot take.
    """
    size = tile["rows"]
    if not is_power(size, CHUNK):
        raise RopegenError(
            f"embed/mosaic_tpu was given the tile {tile}; rows are a power of two of at least {CHUNK}, e.g. rows=128"
        )
    form, names = _form(site, tile), _names(site)
    shape = site.outputs[0].type.shape

    def forward(*operands: Array) -> Arrays:
        values: dict[Node, Array] = dict(zip(site.operands, operands, strict=True))
        ids, last = values[site.ids].reshape(-1), form.vocabulary - 1
        inside = jnp.clip(ids, 0, last)
        if form.fills:
            inside = jnp.where(inside == ids, ids, -1)
        given = {"table": values[site.table]}
        added = set(_added(site))
        for other, name in names.items():
            value = values[other]
            if other not in added:
                given[name] = value.astype(jnp.float32)[None]
            elif (period := _period(site, other, tile)) is None:
                given[name] = jnp.broadcast_to(value, shape).reshape(form.rows, form.features)
            else:
                given[name] = value.reshape(period, form.features)
        return (kernel_forward(form, inside.astype(jnp.int32), given).reshape(shape),)

    return Kernel(forward)


TEMPLATE = Template(
    name="mosaic_tpu",
    version=1,
    family=FAMILY,
    runs_on=("tpu",),
    calls=("tpu_custom_call",),
    declines=declines,
    tile=("rows",),
    tiles=tiles,
    cost=cost,
    build=build,
    derivatives="embed/xla",
    notes=notes,
    padding=padding,
)
