"""`embed` by Mosaic for TPU: the gather of the rows, and every step on them, in one kernel with one pass over memory.

XLA gathers the rows, reads them again for each statistic of a norm, and once more to normalise them. This kernel
fetches a row by its id, computes in float32, and writes the row once. Fetching a row of bfloat16 fetches two, because
they share their words. An added tensor is read in place if all rows have their own values, if all sequences share the
values, or if all rows share them. Otherwise, it is broadcast first.

The cotangent of the table has a kernel of its own. XLA takes the cotangents of the rows back through the steps, and
sorts the ids; this kernel fetches the cotangents in that order, and `kernel_tpu_backward` adds them up. The tangent is
that of the `xla` template, and so are the cotangents of the other operands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ropegen.cost import NO_COST, Cost, Direction
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Node
from ropegen.target import Target
from ropegen.template import Array, Arrays, Kernel, Padded, Padding, Tangents, Template, Tile
from ropegen.types import numpy_dtype

from ..tpu.mosaic import LANES, VMEM_SHARE, is_power, round_up
from . import xla
from .kernel_tpu import CHUNK as LEAST_ROWS
from .kernel_tpu import Form, Step
from .kernel_tpu import forward as kernel_forward
from .kernel_tpu_backward import CHUNK, ROWS, TableForm
from .kernel_tpu_backward import backward as kernel_backward
from .site import FAMILY, EmbedSite

_SIZES = (256, 128, 64, 32, 16)
# The ids are in scalar memory, which holds 1 MB.
_MOST_IDS = 1 << 17
# Bundles of VLIW instructions that issue one copy in libtpu's schedules. The second number is for tables whose last row
# is read separately.
_COPY_BUNDLES, _COPY_APART_BUNDLES = 14, 30
# XLA's ops that sort the ids and list the steps of the gradient of a table.
_SORT_OPS = 12


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
        if size < 2 * max(site.ids.type.size, LEAST_ROWS // 2 + 1) and _form(site, tile).vmem <= limit:
            yield tile


def cost(site: EmbedSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost | None:
    """Every row is fetched (in bf16 with its neighbour) and written once. Every copy is issued separately.

    The cost is None for the derivatives that the `xla` template computes, see `notes`.
    """
    match direction:
        case "forward":
            return _forward_cost(site, target, tile)
        case "backward" if _adds_up(site, target):
            return _backward_cost(site, target)
        case _:
            return None


def _adds_up(site: EmbedSite, target: Target) -> bool:
    """Whether the kernel computes the cotangent of the table: no step reads the table or the ids too, and XLA's loop over
    the rows takes longer. For few rows, the loop is faster.
    """
    if {site.table, site.ids}.intersection(_names(site)):
        return False
    return _backward_cost(site, target).seconds < xla.cost(site, target, Tile(), "backward").seconds


def _forward_cost(site: EmbedSite, target: Target, tile: Tile) -> Cost:
    (rows,) = site.outputs
    form = _form(site, tile)
    others = sum(value.type.bytes for value in site.operands if value is not site.table)
    spread = sum(
        (1 + form.tiles * form.row_tile // form.rows)
        * form.rows
        * form.features
        * numpy_dtype(added.type.dtype).itemsize
        for added in _added(site)
        if _period(site, added, tile) is None
    )
    vector = rows.type.size * (form.fetched + 4.0 * len(site.steps))
    return _fetching(form, target, float(rows.type.bytes + others + spread), vector)


def _fetching(form: Form, target: Target, others: float, vector: float) -> Cost:
    """The cost of the kernel that fetches rows: it moves `others` bytes besides, and has so many vector operations."""
    chip = target.figures
    fetched = float(form.tiles * form.row_tile * form.fetched * form.features * form.table_dtype.itemsize)
    moved = fetched + others
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


def _backward_cost(site: EmbedSite, target: Target) -> Cost:
    """XLA's passes through the steps and its sort; the cotangents, fetched in order; the products that add them up."""
    chip, form, ordered = target.figures, _table_form(site), _ordered_form(site, target)
    through = xla.cost(site, target, Tile(), "tangent") if site.steps else NO_COST
    cotangents = float(ordered.rows * ordered.features * ordered.dtype.itemsize)
    fetching = _fetching(ordered, target, cotangents, float(ordered.rows * ordered.features * ordered.fetched))
    matmul = 2.0 * form.steps * ROWS * CHUNK * form.features * form.parts
    share = min(form.blocks / chip.cores, 1.0)  # of cores with work; one core computes a block of features
    steps = form.steps * form.blocks * chip.grid_step / (share * chip.cores * chip.clock)
    moved = cotangents + site.table.type.bytes
    adding = Cost.longest(compute=matmul / (share * chip.matmul("bf16")) + steps, memory=moved / chip.bandwidth)
    counted = Cost(flops=matmul, bytes=moved, temporary=2 * cotangents, launch=chip.launch + _SORT_OPS * chip.op)
    return through + fetching + adding + counted


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


def _table_form(site: EmbedSite) -> TableForm:
    return TableForm(
        rows=round_up(site.ids.type.size, CHUNK),
        vocabulary=site.table.type.shape[0],
        features=site.table.type.shape[1],
        dtype=numpy_dtype(site.table.type.dtype),
    )


def _ordered_form(site: EmbedSite, target: Target) -> Form:
    """The kernel that fetches the cotangents of the rows in the order of their ids, with the largest tile that fits."""
    table = _table_form(site)
    forms = [
        Form(
            rows=table.rows,
            row_tile=size,
            vocabulary=table.rows,
            features=table.features,
            table_dtype=table.dtype,
            dtype=table.dtype,
            fills=False,
            steps=(),
            wide=0,
        )
        for size in _SIZES
        if size <= table.rows
    ]
    return next((form for form in forms if form.vmem <= VMEM_SHARE * target.figures.kernel_memory), forms[-1])


def _names(site: EmbedSite) -> dict[Node, str]:
    """The names that the kernel gives to the other operands of the steps."""
    others = dict.fromkeys(other for step in site.steps for other in step.others)
    return {other: f"other{index}" for index, other in enumerate(others)}


def notes(site: EmbedSite, tile: Tile, target: Target) -> Iterator[str]:
    """Which derivatives the `xla` template computes."""
    if _adds_up(site, target):
        yield "tangent, and gradients of all but the table, by embed/xla"
    else:
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
    if not is_power(size, LEAST_ROWS):
        raise RopegenError(
            f"embed/mosaic_tpu was given the tile {tile}; rows are a power of two of at least {LEAST_ROWS}, e.g. rows=128"
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

    return Kernel(forward, backward=backward_of(site, target) if _adds_up(site, target) else None)


def backward_of(site: EmbedSite, target: Target) -> Callable[..., Tangents | None]:
    """The `backward` of a kernel, which computes the cotangent of the table also where XLA would be faster."""
    by_xla, table_at = xla.build(site, Tile(), target), site.operands.index(site.table)

    def backward(operands: Arrays, results: Arrays, cotangents: Tangents, wanted: Sequence[bool]) -> Tangents | None:
        assert by_xla.backward is not None
        if not wanted[table_at]:
            return by_xla.backward(operands, results, cotangents, wanted)
        moving = [index for index, is_wanted in enumerate(wanted) if is_wanted and index != table_at]
        values: dict[Node, Array] = dict(zip(site.operands, operands, strict=True))
        ids, table = values[site.ids], values[site.table]

        def stepped(rows: Array, *moved: Array) -> Array:
            given = values | {site.operands[index]: value for index, value in zip(moving, moved, strict=True)}
            return xla.stepped(site, rows, given)

        rows = xla.looked_up(site, ids, table).astype(jnp.float32)
        _, pull = jax.vjp(stepped, rows, *(operands[index] for index in moving))
        (cotangent,) = cotangents
        d_rows, *others = pull(jnp.zeros_like(results[0]) if cotangent is None else cotangent)
        pulled = dict(zip(moving, others, strict=True)) | {table_at: _added_up(site, target, ids, d_rows)}
        return tuple(pulled.get(index) for index in range(len(operands)))

    return backward


def _added_up(site: EmbedSite, target: Target, ids: Array, d_rows: Array) -> Array:
    """The cotangent of the table, from those of its rows (..., features), float32."""
    form, ordered = _table_form(site), _ordered_form(site, target)
    ids, d_rows = ids.reshape(-1), d_rows.reshape(-1, form.features)
    is_inside = (ids >= 0) & (ids < form.vocabulary)
    if site.lookup.mode == "fill":
        ids = jnp.where(is_inside, ids, form.vocabulary)
        d_rows = jnp.where(is_inside[:, None], d_rows, 0.0)  # a row that is filled may have a cotangent of NaN
    else:
        ids = jnp.clip(ids, 0, form.vocabulary - 1)
    more = form.rows - len(ids)
    ids = jnp.pad(ids.astype(jnp.int32), (0, more), constant_values=np.int32(form.vocabulary))
    d_rows = jnp.pad(d_rows.astype(form.dtype), ((0, more), (0, 0)))
    in_order, order = lax.sort_key_val(ids, jnp.arange(form.rows, dtype=jnp.int32))
    return kernel_backward(form, in_order, kernel_forward(ordered, order, {"table": d_rows}))


TEMPLATE = Template(
    name="mosaic_tpu",
    version=2,
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
