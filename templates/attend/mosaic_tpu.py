"""`attend` by Mosaic for TPU: the kernel of `kernel_tpu`, which visits the tiles of scores that are not empty.

Queries are rotated inside the kernel, once for each row of tiles. Keys are rotated before it, in one pass that XLA
fuses with their padding. Inside the kernel, a tile of keys would be rotated again for every row of tiles that reads it.
Arrays stay in the layout of the graph, (..., S, H * D). A width that is not a multiple of 128, and a length that is not
a multiple of the tile, are padded with zeros. The backward pass is the kernel of `kernel_tpu_backward`, except where
`notes` says otherwise. The tangent is that of the `xla` template, which shares the residuals.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from ropegen import masks, plain
from ropegen.cost import Cost, Direction
from ropegen.errors import RopegenError
from ropegen.ir.graph import Node
from ropegen.target import Target
from ropegen.template import Array, Arrays, Kernel, Padding, Tangents, Template, Tile
from ropegen.tile_classes import MOST_TILES, TileClasses
from ropegen.types import numpy_dtype

from ..tpu.mosaic import LANES, VMEM_SHARE, is_power, round_up, vmem_most
from ..tpu.rotation import Rotation
from . import layout_tpu, sweep, xla
from .cotangents import Pull, bias_is_whole, of_operands
from .form_tpu import LOG2_E, ROWS, Form
from .kernel_tpu import forward as kernel_forward
from .kernel_tpu import works_ahead
from .kernel_tpu_backward import VMEM_SHARE_BACKWARD, Strip, strips
from .kernel_tpu_backward import backward as kernel_backward
from .layout import in_tiles
from .padding import padding as padding_of
from .site import FAMILY, AttendSite
from .tile_map_tpu import Kinds, TileMap

_SIZES = (1024, 512, 256, 128)
# Rows of scores that the backward kernel computes at a time.
_ROWS_BACKWARD = 512
# A strip should have at least this many keys, even if the tile of queries must be smaller for it: every strip fetches
# the queries again.
_STRIP = 2048
# A step takes three numbers in scalar memory, which holds 1 MB.
_MOST_STEPS = 1 << 16
# Operations of the vector unit for a score in a full tile: maximum, subtraction, sum, rounding, and spills between
# them. The backward kernel has more, because it holds the weights and their cotangents at once. Its tiles take 2.0 to
# 2.2 times the cycles of the forward kernel in libtpu's schedules (benchmarks/tpu.md).
_VECTOR, _VECTOR_BACKWARD = 6.0, 14.0
# Cycles in libtpu's schedules: until the units have drained at the end of straight-line code; at the begin and end of a
# row of tiles; and there for every row of LANES features, which is rotated, scaled, transposed and copied.
_DRAIN, _ROW, _OF_ROW = 230, 250, 0.8
# How little the units overlap, from the same schedules: where scores and weights are of different tiles; where they are of
# the same tile, and the matrix unit or a vector unit takes the longest; and in the backward kernel.
_WAITS_AHEAD, _WAITS_MATRIX, _WAITS_VECTOR, _WAITS_BACKWARD = 0.05, 0.1, 0.8, 0.2


def declines(site: AttendSite, target: Target) -> Iterator[str]:
    """Element types that the chip does not multiply, positions that are not known, and more tiles than it can map."""
    if site.op.dropout is not None:
        yield "it drops no weights"
        return
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    if q.dtype not in ("bf16", "f32"):
        yield f"Mosaic multiplies bf16 and f32, not {q.dtype}"
    if 0 in (*q.shape, *k.shape, *v.shape):
        yield "there is no query, key or feature to multiply"
        return
    if "numbers" in site.op.given:
        yield "the score reads numbers that are known only at run time"
    for operand in site.op.beside:
        if operand.holds == "position" and operand.name in site.op.needed - site.positions.keys():
            yield f"{operand.name} are known only at run time"
        elif operand.variable and site.sources[operand.name].type.dtype == "i64":
            yield f"{operand.name} are i64, and Mosaic compares 32 bits"
    if divisors := sorted({text for expr in (site.op.visible, site.op.score) for text in _divisions(expr)}):
        yield f"Mosaic divides integers by powers of two only, not {', '.join(divisors)}"
    if not any(True for _ in tiles(site, target)):
        yield (
            f"no tile fits: {q.shape[-2] // k.shape[-2]} heads of {q.shape[-1]} and {v.shape[-1]} features share a key "
            f"head, {q.shape[-3]} queries, {k.shape[-3]} keys"
        )


def _divisions(expr: masks.Expr) -> Iterator[str]:
    """The integer divisions that are not shifts. Pallas lowers them for the chip at hand, and planning has none."""
    match expr:
        case masks.Apply(op=op, args=args):
            if op in ("//", "%"):
                value = args[1].value if isinstance(args[1], masks.Const) else 0
                if int(value) < 1 or int(value) & (int(value) - 1):
                    yield f"`{expr}`"
            for argument in args:
                yield from _divisions(argument)
        case masks.Table(index=index):
            yield from _divisions(index)
        case _:
            return


def tiles(site: AttendSite, target: Target) -> Iterator[Tile]:
    """Powers of two that fit fast memory and the tile map, no larger than the sequences."""
    lengths = [site.sources[name].type.shape[-3] for name in ("q", "k")]
    sizes = [dict.fromkeys(min(size, _power(length)) for size in _SIZES) for length in lengths]
    most = VMEM_SHARE * vmem_most(target)
    for q in sizes[0]:
        for kv in sizes[1]:
            tile = Tile.of(q=q, kv=kv)
            form = _form(site, tile)
            if form.vmem <= most and _steps_at_most(site, tile) <= _MOST_STEPS:
                yield tile


def _steps_at_most(site: AttendSite, tile: Tile) -> int:
    lengths = [site.sources[name].type.shape[-3] for name in ("q", "k")]
    return math.prod(-(-length // tile[name]) for length, name in zip(lengths, ("q", "kv"), strict=True))


def cost(site: AttendSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost | None:
    """The cost of the visited tiles, with their padding; the matrix, vector and transcendental units work at the same
    time.

    Backward has five products for each tile, and forward has two. The cost is None for the tangent, and for the
    gradients that `notes` names: the `xla` template computes those.
    """
    match direction:
        case "forward":
            return _forward_cost(site, target, tile)
        case "backward" if parts := _gradient_strips(site, tile, target):
            return _backward_cost(site, target, parts)
        case _:
            return None


def _forward_cost(site: AttendSite, target: Target, tile: Tile) -> Cost:
    q, k = (site.sources[name].type for name in ("q", "k"))
    form = _form(site, tile)
    seen = _Seen.of(site, form)
    outputs = sum(value.type.bytes for value in site.outputs)
    moved = sum(value.type.bytes for value in site.operands if value is not site.sources["k"]) + outputs
    moved += seen.fetched(form)
    padded = form.queries != q.shape[-3] or form.keys != k.shape[-3] or form.width != q.shape[-1]
    before = k.bytes * (1 + (site.k_pairing is not None)) + (2 * (q.bytes + k.bytes) if padded else 0)
    products, chip = form.width + form.value_width, target.figures
    is_ahead = works_ahead(max(seen.visited, seen.rows))
    if is_ahead:
        waits = _WAITS_AHEAD
    else:
        matmul = products / chip.matmul(site.sources["q"].type.dtype)
        waits = _WAITS_MATRIX if 2 * matmul > _VECTOR / chip.vector else _WAITS_VECTOR
    work = _TileWork(products, _VECTOR, form.together, waits, more=int(is_ahead))
    return _cost(site, target, form, seen, work, moved=moved + before, vmem=form.vmem)


def _backward_cost(site: AttendSite, target: Target, parts: tuple[Strip, ...]) -> Cost:
    q, k = (site.sources[name].type for name in ("q", "k"))
    form, strips = parts[0].form, len(parts)
    seen = _Seen.of(site, form)
    width, item, heads = form.width + form.value_width, form.dtype.itemsize, form.batch * form.kv_heads
    queries, keys = heads * form.group * form.queries, heads * form.keys
    # Every strip fetches the queries and the cotangents of their results, and adds to the dq of the strip before it.
    moved = strips * queries * width * item + seen.fetched(form)
    moved += queries * form.width * sum((1 + part.adds) * part.dq_dtype.itemsize for part in parts)
    moved += 4.0 * keys * width
    # The product of the results with their cotangents, the rotated keys, and dk and dv in the type of the keys.
    outside = 2 * sum(value.type.bytes for value in site.outputs) + keys * width * (4 + item)
    outside += k.bytes * (1 + 2 * (site.k_pairing is not None))
    if form.queries != q.shape[-3] or form.keys != k.shape[-3] or form.width != q.shape[-1]:
        outside += 4 * (q.bytes + k.bytes)
    products, vmem = 3 * form.width + 2 * form.value_width, max(part.vmem for part in parts)
    work = _TileWork(products, _VECTOR_BACKWARD, 1, _WAITS_BACKWARD)
    waits = heads * _held_seconds(parts, target) / target.figures.cores
    return _cost(site, target, form, seen, work, moved=moved + outside, vmem=vmem, strips=strips, waits=waits)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The tiles of one head: rows of tiles, visited tiles, and what is computed of them, in whole tiles."""

    rows: int
    visited: int
    computed: float
    """Without the blocks of partial tiles that the mask hides."""
    masked: float
    """The blocks that need the mask."""

    @staticmethod
    def of(site: AttendSite, form: Form) -> _Seen:
        classes, blocks = _classes(site, form.tile), _blocks(site, form)
        if blocks is None:
            return _Seen(len(classes), classes.visited, float(classes.visited), float(classes.number(masks.PARTIAL)))
        (queries, keys), is_full = form.blocks, classes.kind == masks.FULL
        height = np.minimum(classes.bottom * queries, blocks.rows) - classes.top * queries
        width = np.minimum(classes.right * keys, blocks.columns) - classes.left * keys
        of_full = int((height * width)[is_full].sum())
        partial, of_tile = blocks.visited - of_full, queries * keys
        return _Seen(
            len(classes),
            classes.visited,
            classes.number(masks.FULL) + partial / of_tile,
            blocks.number(masks.PARTIAL) / of_tile,
        )

    def fetched(self, form: Form) -> float:
        """The bytes of keys and values that a kernel fetches for the tiles that it visits."""
        width = form.width + form.value_width
        return float(form.batch * form.kv_heads * self.visited * form.kv_tile * width * form.dtype.itemsize)


@dataclass(frozen=True, slots=True)
class _TileWork:
    """What a kernel computes for each of its tiles."""

    products: int
    """Multiply-adds for a score."""
    vector: float
    """Vector operations for a score."""
    together: int
    """Chunks of rows in a block of straight-line code."""
    waits: float
    """The share of their time in which the other units do not overlap with the busiest one."""
    more: int = 0
    """Steps of a head beyond its tiles."""


def _cost(
    site: AttendSite,
    target: Target,
    form: Form,
    seen: _Seen,
    work: _TileWork,
    *,
    moved: float,
    vmem: int,
    strips: int = 1,
    waits: float = 0.0,
) -> Cost:
    """The cost of the visited tiles of a form.

    `moved` is in bytes, and includes those that are moved outside the kernel. `strips` is the number of kernels that
    share the tiles, one after the other. In `waits` seconds, nothing is computed.
    """
    chip, heads = target.figures, form.batch * form.kv_heads
    visited = seen.visited + work.more
    scores = float(heads * form.rows * form.kv_tile)
    matmul = 2.0 * scores * seen.computed * work.products
    elementwise = scores * (work.vector * seen.computed + 4.0 * seen.masked * (site.op.visible != masks.full))
    exponentials = scores * seen.computed
    rate = chip.matmul(site.sources["q"].type.dtype)
    units = (matmul / rate, elementwise / chip.vector, exponentials / chip.transcendental)
    cycles = (max(seen.visited, strips * seen.rows) + work.more) * chip.grid_step
    cycles += visited * (form.chunks // form.unrolled(work.together) // work.together) * _DRAIN
    cycles += strips * seen.rows * _row_cycles(form)
    # A bundle has an operation for every unit.
    busy = max(units) + work.waits * (sum(units) - max(units)) + heads * cycles / (chip.clock * chip.cores)
    return Cost.longest(compute=busy + waits, memory=moved / chip.bandwidth) + Cost(
        flops=matmul + elementwise + exponentials, bytes=moved, temporary=float(vmem), launch=strips * chip.launch
    )


def _gradient_strips(site: AttendSite, tile: Tile, target: Target) -> tuple[Strip, ...]:
    """The strips of the backward kernel for the gradients of all operands but angles; empty if the `xla` template
    computes them.
    """
    if "bias" in site.sources and not bias_is_whole(site):
        return ()
    return _strips(site, tile, target, {"bias"} & site.sources.keys())


def _power(length: int) -> int:
    """The smallest power of two that is at least `length` and at least 128."""
    return max(LANES, 1 << (length - 1).bit_length())


def _classes(site: AttendSite, tile: Tile) -> TileClasses:
    """The classes of the tiles. A full tile with padding counts as partial, because the padding must be masked."""
    classes = xla.visited(site, tile)
    if site.op.visible == masks.full:
        classes = TileClasses.uniform(classes.rows, classes.columns, masks.FULL)
    return classes.with_masked_last_column if site.sources["k"].type.shape[-3] % tile["kv"] else classes


def tile_map(site: AttendSite, tile: Tile) -> TileMap:
    """The steps of the grid, for each batch entry and key head.

    Raises:
      RopegenError: scalar memory cannot hold them.
    """
    classes = _classes(site, tile)
    if (most := classes.visited + classes.rows) > _MOST_STEPS:
        raise RopegenError(
            f"attend/mosaic_tpu was given the tile {tile}, with which its grid has up to {most:,} steps; at most "
            f"{_MOST_STEPS:,} fit scalar memory: give a larger tile"
        )
    return TileMap.of(_kinds(site, _form(site, tile)))


def _kinds(site: AttendSite, form: Form) -> Kinds:
    """What there is to compute of every tile of a kernel."""
    classes, blocks = _classes(site, form.tile), _blocks(site, form)
    return Kinds.of(classes.dense(), None if blocks is None else blocks.dense(), form.blocks)


def _blocks(site: AttendSite, form: Form) -> TileClasses | None:
    """The classes of the blocks of all tiles; None if a tile is one block, or if there are too many to list."""
    queries, keys = form.blocks
    if queries == keys == 1:
        return None
    blocks = _classes(site, Tile.of(q=form.q_tile // queries, kv=form.block_keys))
    return blocks if blocks.count <= MOST_TILES else None


def _form(site: AttendSite, tile: Tile, at_once: int = ROWS) -> Form:
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    kv_heads = k.shape[-2]
    width = round_up(q.shape[-1], LANES)
    rotation = None
    if site.q_pairing is not None and site.sources["q_angles"].type.dtype == "f32":
        rotation = Rotation(site.q_pairing, site.sources["q_angles"].type.shape[-1], width, width)
    starts = [site.positions[name].start if name in site.positions else 0 for name in ("q_positions", "kv_positions")]
    return Form(
        op=site.op,
        batch=math.prod(q.shape[:-3]),
        kv_heads=kv_heads,
        group=q.shape[-2] // kv_heads,
        q_tile=tile["q"],
        kv_tile=tile["kv"],
        queries=round_up(q.shape[-3], tile["q"]),
        keys=round_up(k.shape[-3], tile["kv"]),
        seen_keys=k.shape[-3],
        width=width,
        value_width=round_up(v.shape[-1], LANES),
        dtype=numpy_dtype(q.dtype),
        q_start=starts[0],
        kv_start=starts[1],
        rotation=rotation,
        at_once=at_once,
    )


def build(site: AttendSite, tile: Tile, target: Target) -> Kernel:
    """Pads the operands, runs one kernel and cuts its results; the backward pass does the same.

    Raises:
      RopegenError: a tile that the kernel cannot take.
    """
    for name, size in tile.sizes:
        if not is_power(size, LANES):
            raise RopegenError(
                f"attend/mosaic_tpu was given the tile {tile}; {name} is a power of two of at least {LANES}, "
                f"e.g. {name}={_power(size)}"
            )
    form = replace(_form(site, tile), products=target.figures.products)
    steps = tile_map(site, tile)
    order = site.order

    def forward(*operands: Array) -> Arrays:
        (q, _, v), given, padded = _read(site, form, operands)
        apart = _apart(site, form, given, steps.steps)
        out, lse = kernel_forward(form, steps if apart is None else steps.without(apart), padded)
        lead, (length, heads, _), width = q.shape[:-3], q.shape[-3:], v.shape[-1]
        out = out.reshape(form.batch, form.queries, heads, form.value_width)[:, :length, :, :width]
        lse = jnp.swapaxes(lse.reshape(form.batch, heads, form.queries), 1, 2)[:, :length]
        if site.op.takes_mean:
            mean = jnp.mean(v, -3, dtype=jnp.float32).reshape(form.batch, 1, form.kv_heads, width)
            mean = jnp.repeat(mean, form.group, axis=2).astype(out.dtype)
            out = jnp.where(lse[..., None] == -jnp.inf, mean, out)
        results = {"output": out.reshape(*lead, *out.shape[1:]), "log_sum_exp": lse.reshape(*lead, *lse.shape[1:])}
        return tuple(results[label] for label in order)

    def backward(operands: Arrays, results: Arrays, cotangents: Tangents, wanted: Sequence[bool]) -> Tangents | None:
        asked = {operand for operand, is_wanted in zip(site.operands, wanted, strict=True) if is_wanted}
        names = {name for name, source in site.sources.items() if source in asked}
        parts = _strips(site, tile, target, names)
        if not parts or ("bias" in names and not bias_is_whole(site)):
            return None
        pulled = _backward(
            site,
            parts,
            operands,
            dict(zip(order, results, strict=True)),
            dict(zip(order, cotangents, strict=True)),
        )
        return tuple(pulled.get(operand) if operand in asked else None for operand in site.operands)

    return Kernel(forward, backward=backward)


def notes(site: AttendSite, tile: Tile, target: Target) -> Iterator[str]:
    """Which gradients are left to the `xla` template."""
    bias = site.sources.get("bias")
    if not _strips(site, tile, target, ()):
        yield "no tile of the backward kernel fits fast memory: gradients by attend/xla"
    elif bias is not None and not bias_is_whole(site):
        yield f"the gradient of the bias {bias.type} is a sum over scores: where it is asked for, by attend/xla"
    elif bias is not None and not _strips(site, tile, target, ("bias",)):
        yield "no tile that gives the gradient of the bias fits fast memory: where it is asked for, by attend/xla"


def padding(site: AttendSite, tile: Tile, target: Target) -> Padding | None:
    """Whole tiles of queries and keys, and whole lanes of features."""
    form = _form(site, tile)
    whole, widths = (tile["q"], tile["kv"]), (form.width, form.value_width)
    return padding_of(site, _classes(site, tile), tile, whole=whole, widths=widths)


def _strips(site: AttendSite, tile: Tile, target: Target, wanted: Collection[str]) -> tuple[Strip, ...]:
    """The strips of keys that the backward pass visits; empty if no tile fits.

    The tile is the largest one, at most that of the forward pass, that leaves room for enough keys at a time. If a
    larger tile of keys would not fit the forward pass, the backward pass tries twice as many keys.
    """
    best: tuple[Strip, ...] = ()
    more = Tile.of(q=tile["q"], kv=2 * tile["kv"])
    is_limited = more["kv"] in _SIZES and more["kv"] <= _power(site.sources["k"].type.shape[-3])
    is_limited = is_limited and _form(site, more).vmem > VMEM_SHARE * vmem_most(target)
    for kv in _halvings(more["kv"] if is_limited else tile["kv"]):
        for q in _halvings(tile["q"]):
            form = _form(site, Tile.of(q=q, kv=kv), _ROWS_BACKWARD)
            form = replace(form, matrix_unit=target.figures.matrix_unit)
            parts = _strips_of(site, form, target, wanted)
            if not parts or parts[0].columns * (form.queries // q) > _MOST_STEPS:
                continue
            if parts[0].keys >= min(_STRIP, form.keys):
                return parts
            if not best or len(parts) < len(best):
                best = parts
    return best


def _strips_of(site: AttendSite, form: Form, target: Target, wanted: Collection[str]) -> tuple[Strip, ...]:
    """The strips of one tile: those that pass over the queries in the least time, apart from what they compute."""
    most = int(VMEM_SHARE_BACKWARD * vmem_most(target))
    # The cotangents of the angles need dq before it is rotated back.
    finishes = site.q_pairing is None or (form.rotation is not None and "q_angles" not in wanted)
    parts = strips(form, most, finishes, "bias" in wanted)
    if len(parts) == 1:
        return parts
    if form.rotation is not None:  # every strip would rotate the same queries
        form, finishes = replace(form, is_prepared=True), False
        parts = strips(form, most, finishes, "bias" in wanted)
    held = strips(form, most, finishes, "bias" in wanted, holds=True)
    if not parts or not held:
        return parts or held
    again = (len(parts) - len(held)) * _row_seconds(form, target)
    return held if again > _held_seconds(held, target) else parts


def _row_seconds(form: Form, target: Target) -> float:
    """What the begins and ends of the rows of tiles of one head take in one strip."""
    return form.queries // form.q_tile * _row_cycles(form) / target.figures.clock


def _row_cycles(form: Form) -> float:
    return _ROW + _OF_ROW * form.rows * form.width / LANES


def _held_seconds(parts: tuple[Strip, ...], target: Target) -> float:
    """What the copies of the held cotangents of one head take, while nothing else runs."""
    held = sum(strip.of_keys for strip in parts if strip.holds)
    return held * target.figures.cores / target.figures.bandwidth


def _halvings(size: int) -> Iterator[int]:
    while size >= LANES:
        yield size
        size //= 2


def _backward(
    site: AttendSite,
    parts: tuple[Strip, ...],
    operands: Arrays,
    results: dict[str, Array],
    cotangents: dict[str, Array | None],
) -> dict[Node, Array]:
    """The cotangents of the operands, by node. Operands without one are left out."""
    form = parts[0].form
    (q, k, v), given, padded = _read(site, form, operands)
    pull = Pull.of(results, cotangents)
    padded["d_out"] = layout_tpu.whole(form, pull.d_out, form.value_width, form.queries)
    padded["shift"] = layout_tpu.of_rows(form, pull.shift * np.float32(LOG2_E), jnp.inf)
    padded["drag"] = layout_tpu.of_rows(form, pull.drag, 0.0)
    kinds = _kinds(site, form)
    apart = _apart(site, form, given, kinds.kind.size)
    dq, dk, dv, d_bias = kernel_backward(parts, kinds, apart, padded)

    def cut(x: Array, like: Array) -> Array:
        heads = like.shape[-2]
        x = x.reshape(form.batch, x.shape[1], heads, -1)[:, : like.shape[-3], :, : like.shape[-1]]
        return x.reshape(like.shape)

    if d_bias is not None:
        d_bias = d_bias[:, :, : q.shape[-3], : k.shape[-3]].reshape(given["bias"].shape)
    q_pairing = None if parts[0].finishes else site.q_pairing
    return of_operands(site, operands, pull, (cut(dq, q), cut(dk, k), cut(dv, v)), d_bias, q_pairing=q_pairing)


def _read(
    site: AttendSite, form: Form, operands: Arrays
) -> tuple[tuple[Array, Array, Array], dict[str, Array], dict[str, Array]]:
    """q, k and v before they are laid out, the other operands by name, and the operands of the kernels.

    Keys are rotated. Queries are rotated too if the kernel does not do so.
    """
    values: dict[Node, Array] = dict(zip(site.operands, operands, strict=True))
    turned_q, k_node, v_node = site.values
    q_node = turned_q if form.rotation is None else site.sources["q"]
    q, k, v = plain.evaluate((q_node, k_node, v_node), values)
    if form.rotation is not None and form.is_prepared:  # in float32 until the end, as in the kernel
        turned = plain.rotate(q.astype(jnp.float32), values[site.sources["q_angles"]], pairing=form.rotation.pairing)
        q = (turned * np.float32(form.factor)).astype(form.dtype)
    beside = [operand for operand in site.op.beside if operand.holds != "position"]
    given = {operand.name: values[site.sources[operand.name]] for operand in beside}
    arrays = {"q": q, "k": k, "v": v, **given}
    lead = q.shape[:-3]
    padded = {
        operand.name: layout_tpu.laid_out(form, operand, arrays[operand.name], lead)
        for operand in site.op.operands
        if operand.name in arrays
    }
    if form.rotation_inside is not None:
        padded |= layout_tpu.tables(form, form.rotation_inside, values[site.sources["q_angles"]])
    return (q, k, v), given, padded


def _apart(site: AttendSite, form: Form, given: dict[str, Array], steps: int) -> Array | None:
    """Which tiles have no segment id in common, judged by the lowest and highest ids: (B or 1, rows of tiles, columns).

    None if segments hide nothing, or if a map with `steps` for every batch entry would be too large.
    """
    if not sweep.matches_segments(site.op.visible):
        return None
    tiles: list[Array] = []
    for name, whole, size in (
        ("q_segments", form.queries, form.q_tile),
        ("kv_segments", form.keys, form.kv_tile),
    ):
        tiles.append(in_tiles(given[name], whole, size))
    apart = sweep.apart(*tiles)
    return apart if len(apart) * (steps + 1) <= _MOST_STEPS else None


TEMPLATE = Template(
    name="mosaic_tpu",
    version=2,
    family=FAMILY,
    runs_on=("tpu",),
    calls=("tpu_custom_call",),
    declines=declines,
    tile=("q", "kv"),
    tiles=tiles,
    cost=cost,
    build=build,
    derivatives="attend/xla",
    notes=notes,
    padding=padding,
)
