"""`attend` by Mosaic for Hopper: the kernel of `kernel_gpu`, which visits the tiles of scores that are not empty.

Queries are rotated inside the kernel if their pairing is in halves of the whole width, and else before it. Keys are
rotated before it, in one pass that XLA fuses with their padding. Sequences whose length is no multiple of the tile are
padded with zeros. Derivatives are those of the `xla` template, which shares the residuals.

The kernel is code for the compute capability sm90, that of H100 and H200. It was compiled for both without such a
GPU, and its numerics were checked in JAX's interpreter; see docs/gpu.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax.numpy as jnp

from ropegen import masks, plain
from ropegen.cost import Cost, Direction, Work
from ropegen.errors import RopegenError
from ropegen.expression import COMPARISONS
from ropegen.ir.graph import Node
from ropegen.target import Target
from ropegen.template import Array, Arrays, Kernel, Padding, Template, Tile
from ropegen.tile_classes import TileClasses
from ropegen.types import numpy_dtype

from . import xla
from .form_gpu import BLOCK, Form, TileList
from .padding import padding as padding_of
from .site import FAMILY, AttendSite

_CAPABILITY = "sm90"
_WIDTHS = (64, 128)
_KV_TILES = (128, 64)
# The tile map is a constant of the module with four bytes for a tile.
_MOST_TILES = 1 << 20
# CUDA's limit for the axes of a grid that are not the first.
_MOST_BLOCKS = 65535
# Vector operations for a score in a full tile (maximum, subtraction, sum, conversion), and those of a mask.
_VECTOR, _MASK = 5.0, 4.0
# What the kernel computes of the expressions of masks: the operations that were compiled and compared.
_OPERATIONS = frozenset(COMPARISONS) | {"&", "|", "~", "+", "-", "*", "neg"}
# Masks with up to so many comparisons were compiled: they leave all values in registers, of which a thread has 255.
_MOST_COMPARISONS = 5


def declines(site: AttendSite, target: Target) -> Iterator[str]:
    """Other GPUs than Hopper, and what the kernel does not compute."""
    if target.capability != _CAPABILITY:
        yield f"its code is for {_CAPABILITY}, that is gpu:h100 and gpu:h200, and the plan is for {target}"
    op = site.op
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    if op.dropout is not None:
        yield "it drops no weights"
    if op.partial is not None:
        yield f"it returns no {op.partial} parts of a sum"
    if q.dtype not in ("bf16", "f16"):
        yield f"it multiplies bf16 and f16, not {q.dtype}"
    if q.shape[-1] not in _WIDTHS or v.shape[-1] != q.shape[-1]:
        yield f"it takes heads of 64 or 128 features, values alike, and not {q.shape[-1]} and {v.shape[-1]}"
    if 0 in (*q.shape, *k.shape, *v.shape):
        yield "there is no query or key to multiply"
        return
    for operand in op.beside:
        if operand.holds != "position":
            yield f"it takes no {operand.name}"
        elif operand.name in op.needed - site.positions.keys():
            yield f"{operand.name} are known only at run time"
    if op.softcap is not None:
        yield "it caps no scores"
    if op.score != masks.identity:
        yield "it takes no score expression"
    if not op.scale > 0 or not math.isfinite(op.scale):
        yield f"its scale is positive and finite, not {op.scale:g}"
    if unknown := sorted(set(_unknown(op.visible))):
        yield f"its masks compare, add, subtract and multiply positions, and do not compute {', '.join(unknown)}"
    if (count := _comparisons(op.visible)) > _MOST_COMPARISONS:
        yield f"its masks have at most {_MOST_COMPARISONS} comparisons, and this one has {count}"
    if q.shape[-2] > _MOST_BLOCKS or math.prod(q.shape[:-3]) > _MOST_BLOCKS:
        yield f"a GPU starts at most {_MOST_BLOCKS:,} heads and batch entries at once"
    if not any(True for _ in tiles(site, target)):
        yield f"{q.shape[-3]} queries and {k.shape[-3]} keys have more than {_MOST_TILES:,} tiles"


def _unknown(expr: masks.Expr) -> Iterator[str]:
    """The parts of a mask that the kernel does not compute."""
    match expr:
        case masks.Apply(op=op, args=args):
            if op not in _OPERATIONS:
                yield f"`{masks.excerpt(str(expr))}`"
                return
            for argument in args:
                yield from _unknown(argument)
        case masks.Var() | masks.Const():
            return
        case _:
            yield f"`{masks.excerpt(str(expr))}`"


def _comparisons(expr: masks.Expr) -> int:
    """How many comparisons a mask has."""
    if not isinstance(expr, masks.Apply):
        return 0
    return (expr.op in COMPARISONS) + sum(map(_comparisons, expr.args))


def tiles(site: AttendSite, target: Target) -> Iterator[Tile]:
    """Tiles of keys that the tensor core multiplies at once; the queries of a block are always as many."""
    lengths = [site.sources[name].type.shape[-3] for name in ("q", "k")]
    for kv in _KV_TILES:
        tile = Tile.of(q=BLOCK, kv=kv)
        if (
            math.prod(-(-length // tile[name]) for length, name in zip(lengths, ("q", "kv"), strict=True))
            <= _MOST_TILES
        ):
            yield tile


def cost(site: AttendSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost | None:
    """The cost of the visited tiles with their padding, and of the passes before the kernel; None for derivatives.

    It is a model: no time of this kernel was measured. The units take turns in it, as they do within one warpgroup.
    """
    if direction != "forward":
        return None
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    form, classes = _form(site, tile), _classes(site, tile)
    in_tile = float(form.batch * form.heads * BLOCK * tile["kv"])
    blocks = form.batch * form.heads * form.rows
    # Shared memory has room for one block on a multiprocessor. Those that have no block, or none in the last wave of
    # blocks, compute nothing meanwhile.
    idle = _up(blocks, target.figures.multiprocessors) / blocks
    scores, hidden = in_tile * classes.visited, in_tile * classes.number(masks.PARTIAL)
    padded = [
        x
        for x, is_padded in ((q, form.queries != q.shape[-3]), (k, _pads_keys(form)), (v, _pads_keys(form)))
        if is_padded
    ]
    before = 2 * sum(x.bytes for x in padded)
    passes = len(padded)
    if site.k_pairing is not None:
        before, passes = before + 2 * k.bytes * (k not in padded), passes + (k not in padded)
    if site.q_pairing is not None and not form.rotates:
        before, passes = before + 2 * q.bytes * (q not in padded), passes + (q not in padded)
    moved = sum(value.type.bytes for value in (*site.operands, *site.outputs))
    return Work(
        matmul=4.0 * scores * form.width * idle,
        vector=(_VECTOR * scores + _MASK * hidden) * idle,
        exponentials=scores * idle,
        moved=float(moved + before),
        launches=float(passes),
        temporary=float(form.shared_memory),
    ).on(target, q.dtype)


def _pads_keys(form: Form) -> bool:
    return form.seen_keys != form.keys


def _classes(site: AttendSite, tile: Tile) -> TileClasses:
    """The classes of the tiles. A full tile with padding counts as partial, because the padding must be masked."""
    classes = xla.visited(site, tile)
    return classes.with_masked_last_column if site.sources["k"].type.shape[-3] % tile["kv"] else classes


def _form(site: AttendSite, tile: Tile) -> Form:
    q, k = (site.sources[name].type for name in ("q", "k"))
    starts = [site.positions[name].start if name in site.positions else 0 for name in ("q_positions", "kv_positions")]
    is_whole = site.q_pairing == "half" and site.sources["q_angles"].type.shape[-1] == q.shape[-1]
    return Form(
        op=site.op,
        batch=math.prod(q.shape[:-3]),
        heads=q.shape[-2],
        kv_heads=k.shape[-2],
        queries=_up(q.shape[-3], BLOCK),
        keys=_up(k.shape[-3], tile["kv"]),
        seen_keys=k.shape[-3],
        width=q.shape[-1],
        dtype=numpy_dtype(q.dtype),
        kv_tile=tile["kv"],
        q_start=starts[0],
        kv_start=starts[1],
        rotates=is_whole and site.sources["q_angles"].type.dtype == "f32",
    )


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def build(site: AttendSite, tile: Tile, target: Target) -> Kernel:
    """Pads the operands, runs one kernel and cuts its results.

    Raises:
      RopegenError: a tile that the kernel cannot take.
    """
    return build_for(site, tile)


def build_for(site: AttendSite, tile: Tile, *, interpreter: bool = False) -> Kernel:
    """`build` for a GPU, or for JAX's interpreter of its kernels."""
    if tile["q"] != BLOCK or tile["kv"] not in _KV_TILES:
        raise RopegenError(
            f"attend/mosaic_gpu was given the tile {tile}; q is {BLOCK}, and kv one of {', '.join(map(str, _KV_TILES))}"
        )
    form, visited, order = _form(site, tile), TileList.of(_classes(site, tile).dense()), site.order

    def forward(*operands: Array) -> Arrays:
        # Only a program with the kernel in it imports Mosaic GPU.
        from ..gpu.mosaic import Machine
        from .kernel_gpu import forward as kernel_forward

        values: dict[Node, Array] = dict(zip(site.operands, operands, strict=True))
        turned_q, k_node, v_node = site.values
        q_node = site.sources["q"] if form.rotates else turned_q
        q, k, v = plain.evaluate((q_node, k_node, v_node), values)
        given = {
            name: _whole(form, x, size)
            for name, x, size in zip("qkv", (q, k, v), (form.queries, form.keys, form.keys), strict=True)
        }
        if form.rotates:
            angles = values[site.sources["q_angles"]]
            angles = _padded(angles.reshape(-1, *angles.shape[-2:]), form.queries)
            given |= {"cos": angles[..., : form.half], "sin": angles[..., form.half :]}
        out, lse = kernel_forward(form, visited, given, Machine(interpreter))
        lead, length = q.shape[:-3], q.shape[-3]
        out, lse = out[:, :length], jnp.swapaxes(lse, 1, 2)[:, :length]
        if site.op.takes_mean:
            mean = jnp.mean(v, -3, dtype=jnp.float32).reshape(form.batch, 1, form.kv_heads, form.width)
            mean = jnp.repeat(mean, form.heads // form.kv_heads, axis=2).astype(out.dtype)
            out = jnp.where(lse[..., None] == -jnp.inf, mean, out)
        results = {"output": out.reshape(*lead, *out.shape[1:]), "log_sum_exp": lse.reshape(*lead, *lse.shape[1:])}
        return tuple(results[label] for label in order)

    return Kernel(forward)


def _whole(form: Form, x: Array, length: int) -> Array:
    """An array (..., S, heads, width) as (B, length, heads, width), padded with zeros."""
    return _padded(x.reshape(form.batch, *x.shape[-3:]), length)


def _padded(x: Array, length: int) -> Array:
    """An array (B, S, ...), padded with zeros to (B, length, ...)."""
    if x.shape[1] == length:
        return x
    return jnp.pad(x, [(0, length - size if axis == 1 else 0) for axis, size in enumerate(x.shape)])


def notes(site: AttendSite, tile: Tile, target: Target) -> Iterator[str]:
    """What computes the derivatives."""
    yield "gradients by attend/xla"


def padding(site: AttendSite, tile: Tile, target: Target) -> Padding | None:
    """Whole tiles of queries and keys."""
    return padding_of(site, _classes(site, tile), tile, whole=(tile["q"], tile["kv"]))


TEMPLATE = Template(
    name="mosaic_gpu",
    version=1,
    family=FAMILY,
    runs_on=("gpu",),
    calls=("mosaic_gpu_v2",),
    declines=declines,
    tile=("q", "kv"),
    tiles=tiles,
    cost=cost,
    build=build,
    derivatives="attend/xla",
    notes=notes,
    padding=padding,
)
