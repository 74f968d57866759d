"""`qkv_rope` by Mosaic for TPU: one matmul whose tiles are cut, normalised and rotated before they leave fast memory.

XLA writes the product, then reads it for every norm, rotation and part. This kernel writes every part once, in the
layout that its readers need, (..., S, H * D). It reads the columns of the weight in place. If a part is not a whole
number of tiles (heads of odd widths, or few heads), the columns are first packed with zeros between the heads, which
costs a pass over the weight. Any sequence length is possible, because the last tile of rows is cut when it is written.

The gradient is another kernel, `kernel_tpu_backward`, and a product of XLA, that of the weight. The tangent is that of the
`xla` template.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from jax import lax

from ropegen import plain
from ropegen.cost import Cost, Direction
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Node
from ropegen.target import Target
from ropegen.template import Array, Arrays, Kernel, Padded, Padding, Tangents, Template, Tile
from ropegen.types import numpy_dtype

from ..arrays import extended
from ..tpu.mosaic import LANES, is_power, round_up
from ..tpu.rotation import Rotation
from . import xla
from .kernel_tpu import Form, Norm, PartForm, Turn, norm_name
from .kernel_tpu import forward as kernel_forward
from .kernel_tpu_backward import backward as kernel_backward
from .kernel_tpu_backward import vmem as backward_vmem
from .site import FAMILY, Part, QkvRopeSite

_ROW_TILES = (1024, 512, 256, 128, 64, 32, 16)
_MOST_COLUMNS = 1024
# The share of the chip's fast memory that blocks may fill. The compiler and neighbouring ops need the rest.
_VMEM_SHARE = 0.6
_MOST_VMEM = 40 << 20
# If sequences are shorter than this, the whole batch is one run of rows, and the angles are repeated for every
# sequence.
_SHORT = 256


def declines(site: QkvRopeSite, target: Target) -> Iterator[str]:
    """Declines element types that the chip does not multiply, and shapes that fit no tile."""
    x, weight = (operand.type for operand in site.project.operands[:2])
    if x.dtype not in ("bf16", "f32"):
        yield f"Mosaic multiplies bf16 and f32, not {x.dtype}"
    if 0 in (*x.shape, *weight.shape):
        yield "there is no row or feature to multiply"
        return
    for part in site.parts:
        if part.rotate is not None and part.rotate.operands[1].type.dtype not in ("f32", "bf16"):
            yield f"it rotates in float32, and the angles are {part.rotate.operands[1].type.dtype}"
    if not any(True for _ in tiles(site, target)):
        widths = ", ".join(str(part.split.type.shape[-1]) for part in site.parts)
        yield f"no tile fits: {x.shape[-1]} features to heads of {widths}"


def tiles(site: QkvRopeSite, target: Target) -> Iterator[Tile]:
    """Tiles that fit fast memory: a power of two of rows, and columns of which every part is a whole number."""
    layout = _Layout.of(site)
    whole = math.gcd(*(part.columns for part in layout.parts), *(part.start for part in layout.parts))
    columns = [
        size for size in range(layout.unit, whole + 1, layout.unit) if whole % size == 0 and size <= _MOST_COLUMNS
    ]
    rows = _rows(site)[1]
    limit = min(_MOST_VMEM, _VMEM_SHARE * target.figures.fast_memory)
    for row_tile in _ROW_TILES:
        if row_tile < 2 * max(rows, _ROW_TILES[-1] // 2 + 1):
            for column_tile in reversed(columns or [layout.unit]):
                tile = Tile.of(rows=row_tile, columns=column_tile)
                if _form(site, tile).vmem <= limit:
                    yield tile


def cost(site: QkvRopeSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost | None:
    """The cost of the matmul over whole tiles. x and the parts are moved once, the weight once for each tile of rows.

    The cost is None for the derivatives that the `xla` template computes, see `notes`.
    """
    match direction:
        case "forward":
            return _forward_cost(site, target, tile)
        case "backward":
            own = _backward_tile(site, target)
            return None if own is None else _backward_cost(site, target, own)
        case _:
            return None


def _forward_cost(site: QkvRopeSite, target: Target, tile: Tile) -> Cost:
    x, weight = (value.type for value in site.project.operands[:2])
    form, chip, layout = _form(site, tile), target.figures, _Layout.of(site)
    row_tiles = -(-form.rows // form.row_tile) * form.batch
    columns = sum(part.columns for part in form.parts)
    sums = float(row_tiles * form.row_tile * columns)
    matmul = 2.0 * sums * form.features
    vector = sums * (1 + sum(4 * len(part.steps) for part in site.parts) / len(site.parts))
    item = form.dtype.itemsize
    fetches = row_tiles if columns > tile["columns"] else 1
    moved = float(x.bytes + form.features * columns * item * fetches + sum(part.type.bytes for part in site.outputs))
    moved += 4.0 * form.batch * form.rows * form.table_lanes
    before = 2.0 * weight.bytes if layout.is_packed else 0.0
    before += sum(value.type.bytes for value in site.operands if value not in site.project.operands[:2])
    if any(part.turn is not None and not part.turn.rotation.is_whole for part in form.parts):
        before += 4.0 * form.batch * form.rows * form.table_lanes
    share = min(row_tiles / chip.cores, 1.0)  # of cores with work; one core computes a tile of rows
    rate = share * chip.matmul(x.dtype)
    steps = row_tiles * (columns // tile["columns"]) * chip.grid_step / (share * chip.cores * chip.clock)
    busy = matmul / rate + vector / (share * chip.vector) + steps
    moving = (moved + before) / chip.bandwidth
    # The kernel waits for the first blocks, and nothing else runs while the last block is written.
    ends = (form.features * (form.row_tile + tile["columns"]) + form.row_tile * tile["columns"]) * item
    return (
        Cost.longest(compute=busy, memory=moving)
        + Cost(memory=min(ends / chip.bandwidth, busy, moving))
        + Cost(flops=matmul + vector, bytes=moved + before, temporary=float(form.vmem), launch=chip.launch)
    )


def _backward_tile(site: QkvRopeSite, target: Target) -> Tile | None:
    """The cheapest tile of the backward kernel; None if none fits fast memory, or if XLA takes less time."""
    limit = min(_MOST_VMEM, _VMEM_SHARE * target.figures.fast_memory)
    fitting = [tile for tile in tiles(site, target) if backward_vmem(_form(site, tile)) <= limit]
    seconds = {tile: _backward_cost(site, target, tile).seconds for tile in fitting}
    best = min(fitting, key=lambda tile: seconds[tile], default=None)
    by_xla = xla.cost(site, target, Tile(), "backward").seconds
    return best if best is not None and seconds[best] < by_xla else None


def _backward_cost(site: QkvRopeSite, target: Target, tile: Tile) -> Cost:
    """The kernel: its products over whole tiles, and x, its cotangent and those of the parts and of the sums, moved once.
    Then XLA's product for the weight, which reads x and the cotangents of the sums.
    """
    x, weight = (value.type for value in site.project.operands[:2])
    form, chip, layout = _form(site, tile), target.figures, _Layout.of(site)
    has_norm = any(part.norm is not None for part in site.parts)
    row_tiles = -(-form.rows // form.row_tile) * form.batch
    columns = sum(part.columns for part in form.parts)
    sums, item = float(row_tiles * form.row_tile * columns), form.dtype.itemsize
    share = min(row_tiles / chip.cores, 1.0)  # of cores with work; one core computes a tile of rows
    matmul = 2.0 * sums * form.features * (1 + has_norm)
    vector = sums * (2 + sum(6 * len(part.steps) for part in site.parts) / len(site.parts))
    busy = matmul / (share * chip.matmul(x.dtype)) + vector / (share * chip.vector)
    busy += row_tiles * (columns // tile["columns"]) * chip.grid_step / (share * chip.cores * chip.clock)
    fetches = row_tiles if columns > tile["columns"] else 1
    moved = (1 + has_norm) * x.bytes + form.features * columns * item * fetches + 2.0 * sums * item
    moved += 4.0 * form.batch * form.rows * form.table_lanes
    packed = weight.bytes + sum(part.type.bytes for part in site.outputs) if layout.is_packed else 0
    taken_back = Cost.longest(compute=busy, memory=moved / chip.bandwidth) + Cost(memory=2.0 * packed / chip.bandwidth)
    # Of the weight: XLA's product, and a pass that moves packed columns to their places.
    product = 2.0 * float(site.project.type.size) * form.features
    read = float(x.bytes + weight.bytes + sums * item)
    multiplied = Cost.longest(compute=product / chip.matmul(x.dtype), memory=read / chip.bandwidth, launch=chip.op)
    counted = Cost(
        flops=matmul + vector + product,
        bytes=moved + read + 2.0 * packed,
        temporary=float(sums * item),
        launch=chip.launch,
    )
    return taken_back + multiplied + counted


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of the heads of a part: in the weight itself or, if packed, with zeros between the heads."""

    start: int
    columns: int
    stride: int
    slab: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """The columns of every part. A tile of columns is a multiple of `unit` columns."""

    parts: tuple[_Columns, ...]
    unit: int
    is_packed: bool

    @staticmethod
    def of(site: QkvRopeSite) -> _Layout:
        strides: list[int] = []
        slabs: list[int] = []
        for part in site.parts:
            heads, width = part.split.type.shape[-2:]
            dense, apart = math.lcm(width, LANES), round_up(width, LANES)
            is_dense = round_up(heads * width, dense) <= heads * apart
            strides.append(width if is_dense else apart)
            slabs.append(dense if is_dense else apart)
        unit = math.lcm(*slabs)
        splits = [_split(part) for part in site.parts]
        is_packed = any(
            stride != split.width or split.start % unit or split.heads * split.width % unit
            for split, stride in zip(splits, strides, strict=True)
        )
        parts: list[_Columns] = []
        start = 0
        for split, stride, slab in zip(splits, strides, slabs, strict=True):
            columns = round_up(split.heads * stride, unit)
            parts.append(_Columns(start if is_packed else split.start, columns, stride, slab))
            start += columns
        return _Layout(tuple(parts), unit, is_packed)


def _split(part: Part) -> ops.SplitHeads:
    assert isinstance(part.split.op, ops.SplitHeads)
    return part.split.op


def _rows(site: QkvRopeSite) -> tuple[int, int]:
    """The batch and the rows of the kernel: one run of rows, or a batch whose entries share angles."""
    shape = site.project.operands[0].type.shape
    lead, length = math.prod(shape[:-2]), shape[-2] if len(shape) > 1 else 1
    shares = any(part.rotate is not None and part.rotate.operands[1].type.rank == 2 for part in site.parts)
    return (lead, length) if shares and lead > 1 and length >= _SHORT else (1, lead * length)


def _turns(site: QkvRopeSite, layout: _Layout) -> tuple[Turn | None, ...]:
    """The rotation of each part. Parts with the same rotation read the same tables."""
    alike: dict[object, str] = {}
    turns: list[Turn | None] = []
    for part, place in zip(site.parts, layout.parts, strict=True):
        if part.rotate is None:
            turns.append(None)
            continue
        assert isinstance(part.rotate.op, ops.Rotate)
        angles = part.rotate.operands[1]
        rotation = Rotation(part.rotate.op.pairing, angles.type.shape[-1], place.stride, place.slab)
        turns.append(Turn(alike.setdefault((angles, rotation), f"angles{len(alike)}"), rotation))
    return tuple(turns)


def _form(site: QkvRopeSite, tile: Tile) -> Form:
    x = site.project.operands[0].type
    layout = _Layout.of(site)
    turns = _turns(site, layout)
    parts: list[PartForm] = []
    lanes: dict[str, int] = {}
    for part, place, turn in zip(site.parts, layout.parts, turns, strict=True):
        norm = None
        if part.norm is not None:
            op = part.norm.op
            assert isinstance(op, ops.Norm)
            norm = Norm(op.kind, op.epsilon, "weight" in op.given or bool(op.weight_offset), "bias" in op.given)
        if turn is not None:
            lanes |= dict.fromkeys(turn.names, place.slab)
        width = part.split.type.shape[-1]
        parts.append(PartForm(place.start, place.columns, width, place.stride, place.slab, norm, turn))
    batch, rows = _rows(site)
    return Form(
        batch=batch,
        rows=rows,
        features=x.shape[-1],
        row_tile=tile["rows"],
        column_tile=tile["columns"],
        parts=tuple(parts),
        dtype=numpy_dtype(x.dtype),
        has_bias=len(site.project.operands) > 2,
        table_lanes=sum(lanes.values()),
    )


def notes(site: QkvRopeSite, tile: Tile, target: Target) -> Iterator[str]:
    """Which derivatives the `xla` template computes."""
    if _backward_tile(site, target) is None:
        yield "tangent and gradients by qkv_rope/xla"
    elif any(part.rotate is not None for part in site.parts):
        yield "tangent, and the gradient of angles, by qkv_rope/xla"
    else:
        yield "tangent by qkv_rope/xla"


def padding(site: QkvRopeSite, tile: Tile, target: Target) -> Padding | None:
    """Whole tiles of rows, and zeros between heads whose columns are packed."""
    form = _form(site, tile)
    rows = round_up(form.rows, form.row_tile)
    own = sum(split.heads * split.width for split in map(_split, site.parts))
    columns = sum(part.columns for part in form.parts)
    each = form.batch * form.features
    sizes = (Padded("rows", form.rows, rows), Padded("columns", own, columns))
    return Padding.of(sizes, "multiplications", each * form.rows * own, each * rows * columns)


def build(site: QkvRopeSite, tile: Tile, target: Target) -> Kernel:
    """Packs the columns if parts are not whole tiles, runs one kernel, and cuts its results into heads.

    Raises:
      RopegenError: a tile that the kernel cannot take.
    """
    _check(site, tile)
    form, layout = _form(site, tile), _Layout.of(site)

    def forward(*operands: Array) -> Arrays:
        values: dict[Node, Array] = dict(zip(site.operands, operands, strict=True))
        x, weight, *bias = (values[operand] for operand in site.project.operands)
        given = {"x": x.reshape(form.batch, form.rows, -1), "weight": _packed(site, layout, weight)}
        if bias:
            given["bias"] = _packed(site, layout, bias[0][None])
        for index, (part, into) in enumerate(zip(site.parts, form.parts, strict=True)):
            given |= _affine(index, part, into, values)
            if part.rotate is not None and into.turn is not None and into.turn.names[0] not in given:
                given |= _tables(form, part.rotate, into.turn, values[part.rotate.operands[1]])
        results: list[Array] = []
        for part, into, out in zip(site.parts, form.parts, kernel_forward(form, given), strict=True):
            shape = part.split.type.shape
            heads = out[..., : shape[-2] * into.stride].reshape(*shape[:-1], into.stride)
            results.append(heads[..., : shape[-1]])
        return tuple(results)

    own = _backward_tile(site, target)
    return Kernel(forward, backward=None if own is None else backward_of(site, own, target))


def backward_of(site: QkvRopeSite, tile: Tile, target: Target) -> Callable[..., Tangents | None]:
    """The `backward` of a kernel, with a tile of its own. The cotangents of angles are XLA's."""
    form, layout, by_xla = _form(site, tile), _Layout.of(site), xla.build(site, Tile(), target)
    angles = {part.rotate.operands[1] for part in site.parts if part.rotate is not None}

    def backward(operands: Arrays, results: Arrays, cotangents: Tangents, wanted: Sequence[bool]) -> Tangents | None:
        assert by_xla.backward is not None
        asked = {operand for operand, is_wanted in zip(site.operands, wanted, strict=True) if is_wanted}
        if asked & angles:
            return by_xla.backward(operands, results, cotangents, wanted)
        values: dict[Node, Array] = dict(zip(site.operands, operands, strict=True))
        x, weight, *bias = (values[operand] for operand in site.project.operands)
        rows = x.reshape(form.batch, form.rows, -1)
        given = {"weight": _packed(site, layout, weight)}
        if any(part.norm is not None for part in form.parts):
            given["x"] = rows
            if bias:
                given["bias"] = _packed(site, layout, bias[0][None])
        for index, (part, into) in enumerate(zip(site.parts, form.parts, strict=True)):
            affine = _affine(index, part, into, values)
            given |= {name: value for name, value in affine.items() if name == norm_name(index, "weight")}
            if part.rotate is not None and into.turn is not None and into.turn.names[0] not in given:
                given |= _tables(form, part.rotate, into.turn, values[part.rotate.operands[1]])
            cotangent = cotangents[index]
            cotangent = jnp.zeros_like(results[index]) if cotangent is None else cotangent
            given[f"part{index}"] = _strided(form, into, cotangent)
        d_x, d_sums, d_norms = kernel_backward(form, given)
        pulled: dict[Node, Array] = {}

        def give(operand: Node, value: Array) -> None:
            """Adds to the cotangent of an operand, which several parts may read. XLA drops what nobody asks for."""
            if operand in asked:
                value = value.astype(numpy_dtype(operand.type.dtype))
                pulled[operand] = pulled[operand] + value if operand in pulled else value

        source, weight_node, *bias_node = site.project.operands
        give(source, d_x.reshape(x.shape))
        give(weight_node, _unpacked(site, layout, _over_rows(rows, d_sums)))
        for operand in bias_node:
            give(operand, _unpacked(site, layout, jnp.sum(d_sums, (0, 1), dtype=jnp.float32)[None])[0])
        for index, (part, into) in enumerate(zip(site.parts, form.parts, strict=True)):
            if part.norm is None:
                continue
            assert isinstance(part.norm.op, ops.Norm)
            for what, operand in zip(part.norm.op.given, part.norm.operands[1:], strict=True):
                heads = jnp.sum(d_norms[norm_name(index, what)], (0, 1, 2)).reshape(-1, into.stride)
                give(operand, jnp.sum(heads[:, : into.width], 0))
        return tuple(pulled.get(operand) for operand in site.operands)

    return backward


def _strided(form: Form, into: PartForm, heads: Array) -> Array:
    """The heads (..., H, D) of a part as rows of columns (batch, rows, columns), with zeros where the kernel has padding."""
    heads = heads.reshape(form.batch, form.rows, heads.shape[-2], heads.shape[-1])
    heads = extended(heads, 3, into.stride).reshape(form.batch, form.rows, -1)
    return extended(heads, 2, into.columns)


def _over_rows(x: Array, d_sums: Array) -> Array:
    """The product (features, columns) of x (batch, rows, features) and d_sums (batch, rows, columns), float32."""
    over = (((0, 1), (0, 1)), ((), ()))
    return lax.dot_general(x, d_sums, over, precision=plain.precision(x.dtype), preferred_element_type=jnp.float32)


def _unpacked(site: QkvRopeSite, layout: _Layout, columns: Array) -> Array:
    """The columns (E, columns of all parts side by side) at their places in the weight (E, F); zeros where no part reads."""
    parts: list[Array] = []
    splits = [_split(part) for part in site.parts]
    begin = 0
    for split, place in zip(splits, layout.parts, strict=True):
        part = columns[:, begin : begin + place.columns][:, : split.heads * place.stride]
        if place.stride != split.width:
            part = part.reshape(len(columns), split.heads, place.stride)[..., : split.width].reshape(len(columns), -1)
        parts.append(part)
        begin += place.columns
    whole = site.project.type.shape[-1]
    starts = [split.start for split in splits]
    ends = [split.start + split.heads * split.width for split in splits]
    if starts == [0, *ends[:-1]] and ends[-1] == whole:
        return jnp.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
    result = jnp.zeros((len(columns), whole), columns.dtype)
    for start, end, part in zip(starts, ends, parts, strict=True):
        result = result.at[:, start:end].add(part)
    return result


def _check(site: QkvRopeSite, tile: Tile) -> None:
    layout = _Layout.of(site)
    rows, columns = tile["rows"], tile["columns"]
    whole = math.gcd(*(part.columns for part in layout.parts), *(part.start for part in layout.parts))
    if not is_power(rows, 16) or columns % layout.unit or whole % columns:
        raise RopegenError(
            f"qkv_rope/mosaic_tpu was given the tile {tile}; rows are a power of two of at least 16, columns a multiple "
            f"of {layout.unit} that divides {whole}, e.g. rows=256 columns={layout.unit}"
        )


def _packed(site: QkvRopeSite, layout: _Layout, weight: Array) -> Array:
    """The columns (E, F) of the parts side by side, with every head at its stride and every part padded to whole units."""
    if not layout.is_packed:
        return weight
    parts: list[Array] = []
    for part, place in zip(site.parts, layout.parts, strict=True):
        split = _split(part)
        heads = weight[:, split.start : split.start + split.heads * split.width]
        heads = heads.reshape(len(weight), split.heads, split.width)
        heads = jnp.pad(heads, ((0, 0), (0, 0), (0, place.stride - split.width))).reshape(len(weight), -1)
        parts.append(jnp.pad(heads, ((0, 0), (0, place.columns - heads.shape[1]))))
    return jnp.concatenate(parts, axis=1)


def _affine(index: int, part: Part, into: PartForm, values: dict[Node, Array]) -> dict[str, Array]:
    """The weight and bias of a part's norm as rows (1, slab), one head after the other."""
    if part.norm is None:
        return {}
    op = part.norm.op
    assert isinstance(op, ops.Norm)
    given = {
        name: values[operand].astype(jnp.float32)
        for name, operand in zip(op.given, part.norm.operands[1:], strict=True)
    }
    if "weight" in given or op.weight_offset:
        given["weight"] = given.get("weight", jnp.zeros(into.width)) + jnp.float32(op.weight_offset)
    rows: dict[str, Array] = {}
    for what, row in given.items():
        padded = jnp.pad(row, (0, into.stride - into.width))
        rows[norm_name(index, what)] = jnp.tile(padded, into.slab // into.stride)[None]
    return rows


def _tables(form: Form, rotate: Node, turn: Turn, angles: Array) -> dict[str, Array]:
    """The tables that the kernel multiplies with, (batch or 1, rows, slab), by name; they come from angles (..., S,
    dim).
    """
    dim = angles.shape[-1]
    if form.batch == 1:
        angles = jnp.broadcast_to(angles, (*rotate.type.shape[:-2], dim))
    angles = angles.astype(jnp.float32).reshape(-1, form.rows, dim)
    return dict(zip(turn.names, turn.rotation.tables(angles), strict=True))


TEMPLATE = Template(
    name="mosaic_tpu",
    version=3,
    family=FAMILY,
    runs_on=("tpu",),
    calls=("tpu_custom_call",),
    declines=declines,
    tile=("rows", "columns"),
    tiles=tiles,
    cost=cost,
    build=build,
    derivatives="qkv_rope/xla",
    notes=notes,
    padding=padding,
)
