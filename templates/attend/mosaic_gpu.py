"""`attend` by Mosaic for Hopper and Blackwell: kernels that visit the tiles of scores that are not empty.

`kernel_gpu` and `kernel_gpu_backward` are for Hopper, and `kernel_gpu_blackwell` is for Blackwell, forward only.

Queries are rotated inside the forward kernel if their pairing is in halves of the whole width, and else before it. Keys
are rotated before it, in one pass that XLA fuses with their padding. Sequences whose length is no multiple of the tile
are padded with zeros, and so are features. The tangent is that of the `xla` template, which shares the residuals, and so
are the gradients that `notes` names.

The kernels are code for one compute capability each: sm90, that of H100 and H200, and sm100, that of B200. They were
compiled without such a GPU, and their numerics were checked in JAX's interpreter; see docs/gpu.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np

from ropegen import masks
from ropegen.cost import Cost, Direction, Work
from ropegen.errors import RopegenError
from ropegen.ir.graph import Node
from ropegen.target import Target
from ropegen.template import Array, Arrays, Kernel, Padding, Tangents, Template, Tile
from ropegen.tile_classes import TileClasses, classes_of
from ropegen.types import numpy_dtype

from . import layout_gpu, limits_gpu, xla
from .cotangents import Pull, bias_is_whole, of_operands
from .form_gpu import (
    BACKWARD_TILE,
    BLACKWELL,
    COLUMNS,
    HOPPER,
    LOG2_E,
    SHARED_MEMORY,
    WIDTH_STEP,
    Form,
    Generation,
)
from .padding import padding as padding_of
from .site import FAMILY, AttendSite

_KV_TILES = (128, 64)
_BACKWARD = Tile.of(q=BACKWARD_TILE, kv=BACKWARD_TILE)
# Vector operations for a score in a full tile (maximum, subtraction, sum, conversion), those of a mask, and those of a
# bias, a soft-cap or a score expression. A soft-cap also has an exponential and a root.
_VECTOR, _MASK, _ALTERED = 5.0, 4.0, 5.0
# Those of a weight that comes from a polynomial.
_POLYNOMIAL = 12.0


def declines(site: AttendSite, target: Target) -> Iterator[str]:
    """What the kernel does not compute, and lengths whose tiles it cannot list."""
    yield from limits_gpu.reasons(site, target)
    q, k = (site.sources[name].type for name in ("q", "k"))
    smallest = Tile.of(q=_block(site, _generation(target)), kv=min(_KV_TILES))
    if _count(site, smallest) > limits_gpu.MOST_TILES and not any(True for _ in tiles(site, target)):
        yield f"{q.shape[-3]} queries and {k.shape[-3]} keys have more than {limits_gpu.MOST_TILES:,} tiles"


def tiles(site: AttendSite, target: Target) -> Iterator[Tile]:
    """Tiles of keys that the tensor core multiplies at once; the queries of a block depend on the features of values alone."""
    generation = _generation(target)
    # On Blackwell, a soft-cap has polynomials for most of its weights, for which tiles of 128 keys leave no registers.
    is_lean = limits_gpu.is_lean(site) and not (generation is BLACKWELL and site.op.softcap is not None)
    for kv in _KV_TILES:
        tile = Tile.of(q=_block(site, generation), kv=kv)
        has_room = kv == min(_KV_TILES) or is_lean
        has_room &= _form(site, tile, generation).shared_memory <= SHARED_MEMORY
        if has_room and _count(site, tile) <= limits_gpu.MOST_TILES:
            yield tile


def _count(site: AttendSite, tile: Tile) -> int:
    """How many tiles the scores of a head have."""
    q, k = (site.sources[name].type for name in ("q", "k"))
    return -(-q.shape[-3] // tile["q"]) * -(-k.shape[-3] // tile["kv"])


def _block(site: AttendSite, generation: Generation) -> int:
    """The queries of a block."""
    return generation.block(_up(site.sources["v"].type.shape[-1], WIDTH_STEP))


def _generation(target: Target) -> Generation:
    """What the kernels are written for; for other GPUs, which are declined, the first one."""
    return limits_gpu.generation_of(target) or HOPPER


def cost(site: AttendSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost | None:
    """The cost of the visited tiles with their padding, and of the passes before the kernel.

    It is None for the tangent, and for the gradients that `notes` names: the `xla` template computes those. It is a model:
    no time of these kernels was measured. The units take turns in it, as they do within one warpgroup.
    """
    match direction:
        case "forward":
            return _forward_cost(site, target, tile)
        case "backward" if not any(limits_gpu.left_to_xla(site, _generation(target))) and _gives_every_bias(site):
            return _backward_cost(site, target)
        case _:
            return None


def _gives_every_bias(site: AttendSite) -> bool:
    return "bias" not in site.sources or bias_is_whole(site)


def _backward_cost(site: AttendSite, target: Target) -> Cost:
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    form, classes = _form(site, _BACKWARD, HOPPER, rotates=False), _classes(site, _BACKWARD)
    in_tile = float(form.batch * form.heads * BACKWARD_TILE**2)
    visited = classes.rows * classes.columns if "bias" in site.sources else classes.visited
    scores, hidden = in_tile * visited, in_tile * classes.number(masks.PARTIAL)
    of_queries = len(form.kernels_of_queries(gives_bias="bias" in site.sources))
    calls = of_queries + len(form.kernels_of_keys)
    # In each kernel the products of queries and keys; in all but that of values alone those of cotangents and values; and
    # one for each cotangent.
    products = (calls + 2) * form.width + (2 + of_queries) * form.value_width
    # The operands, the cotangents of q, k and v and those of the results, and the results themselves.
    moved = 3 * sum(value.type.bytes for value in site.operands) + 4 * sum(value.type.bytes for value in site.outputs)
    turned = sum(x.bytes for x, pairing in ((q, site.q_pairing), (k, site.k_pairing)) if pairing is not None)
    return Work(
        matmul=2.0 * scores * products,
        vector=calls * ((_VECTOR + _ALTERED * form.is_altered) * scores + _MASK * hidden),
        exponentials=calls * (1 + 2 * (site.op.softcap is not None)) * scores,
        moved=float(moved + 4 * turned + v.bytes),
        launches=float(calls + 1),
        temporary=float(4 * scores if "bias" in site.sources else 0),
    ).on(target, q.dtype)


def _forward_cost(site: AttendSite, target: Target, tile: Tile) -> Cost:
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    form, classes = _form(site, tile, _generation(target)), _classes(site, tile)
    in_tile = float(form.batch * form.heads * tile["q"] * tile["kv"])
    blocks = form.batch * form.heads * form.rows
    # Shared memory has room for one block on a multiprocessor. Those that have no block, or none in the last wave of
    # blocks, compute nothing meanwhile.
    idle = _up(blocks, target.figures.multiprocessors) / blocks
    scores, hidden = in_tile * classes.visited, in_tile * classes.number(masks.PARTIAL)
    padded = [
        x
        for x, length, width in (
            (q, form.queries, form.width),
            (k, form.keys, form.width),
            (v, form.keys, form.value_width),
        )
        if (length, width) != (x.shape[-3], x.shape[-1])
    ]
    before = 2 * sum(x.bytes for x in padded)
    passes = len(padded)
    if site.k_pairing is not None:
        before, passes = before + 2 * k.bytes * (k not in padded), passes + (k not in padded)
    if site.q_pairing is not None and not form.rotates:
        before, passes = before + 2 * q.bytes * (q not in padded), passes + (q not in padded)
    moved = sum(value.type.bytes for value in (*site.operands, *site.outputs))
    polynomials = ((scores - hidden) * form.polynomials(False) + hidden * form.polynomials(True)) / COLUMNS
    return Work(
        matmul=2.0 * scores * (form.width * _longer(form) + form.value_width) * idle,
        vector=((_VECTOR + _ALTERED * form.is_altered) * scores + _MASK * hidden + _POLYNOMIAL * polynomials) * idle,
        exponentials=((1 + 2 * (site.op.softcap is not None)) * scores - polynomials) * idle,
        moved=float(moved + before),
        launches=float(passes),
        temporary=float(form.shared_memory),
    ).on(target, q.dtype)


def _longer(form: Form) -> float:
    """How much longer scores take than the operations of their product.

    On Blackwell, shared memory gives the tensor core 128 bytes in a cycle, and a product reads both factors from there: 128
    queries and the keys of a tile. For 128 keys, that takes as long as the operations.
    """
    rows = form.generation.warpgroup_rows
    return max(1.0, (rows + form.kv_tile) / (2 * form.kv_tile)) if form.generation is BLACKWELL else 1.0


def _classes(site: AttendSite, tile: Tile) -> TileClasses:
    """The classes of the tiles. A full tile with padding or a dense mask counts as partial, because it must be masked."""
    classes = xla.visited(site, tile)
    if site.op.visible == masks.full:
        classes = TileClasses.uniform(classes.rows, classes.columns, masks.FULL)
    if "mask" in site.op.given:
        return classes.masked
    return classes.with_masked_last_column if site.sources["k"].type.shape[-3] % tile["kv"] else classes


def _form(site: AttendSite, tile: Tile, generation: Generation, *, rotates: bool = True) -> Form:
    """The shapes of a kernel, which may rotate the queries only if it `rotates` them at all."""
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    width = _up(q.shape[-1], WIDTH_STEP)
    starts = [site.positions[name].start if name in site.positions else 0 for name in ("q_positions", "kv_positions")]
    is_whole = site.q_pairing == "half" and site.sources["q_angles"].type.shape[-1] == q.shape[-1]
    # Narrower tiles of shared memory than 32 columns are slower to multiply.
    is_whole &= q.shape[-1] % 64 == 0
    return Form(
        op=site.op,
        generation=generation,
        batch=math.prod(q.shape[:-3]),
        heads=q.shape[-2],
        kv_heads=k.shape[-2],
        queries=_up(q.shape[-3], tile["q"]),
        keys=_up(k.shape[-3], tile["kv"]),
        seen_keys=k.shape[-3],
        width=width,
        value_width=_up(v.shape[-1], WIDTH_STEP),
        dtype=numpy_dtype(q.dtype),
        kv_tile=tile["kv"],
        q_start=starts[0],
        kv_start=starts[1],
        rotates=rotates and is_whole and site.sources["q_angles"].type.dtype == "f32",
        masks_padding=k.shape[-3] % tile["kv"] > 0 and not _hides(site, starts, _up(k.shape[-3], tile["kv"])),
    )


def _hides(site: AttendSite, starts: Sequence[int], keys: int) -> bool:
    """Whether the mask hides all keys from the last one up to `keys` from every query, as a causal mask often does."""
    read = masks.variables(site.op.visible)
    if {"q_pos", "kv_pos"} - read or {"q_positions", "kv_positions"} - site.positions.keys():
        return False
    q, k = (site.sources[name].type.shape for name in ("q", "k"))
    rows = np.array([[starts[0], starts[0] + q[-3] - 1]])
    columns = np.array([[starts[1] + k[-3], starts[1] + keys - 1]])
    last = max(q[-2] - 1, 0), max(math.prod(q[:-3]) - 1, 0)
    classes = classes_of(site.op.visible, rows, columns, head=(0, last[0]), batch=(0, last[1]))
    return classes.number(masks.EMPTY) == classes.count


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple


def build(site: AttendSite, tile: Tile, target: Target) -> Kernel:
    """Pads the operands, runs one kernel and cuts its results.

    Raises:
      RopegenError: a tile that the kernel cannot take.
    """
    return build_for(site, tile, _generation(target))


def build_for(site: AttendSite, tile: Tile, generation: Generation, *, interpreter: bool = False) -> Kernel:
    """`build` for a GPU, or for JAX's interpreter of its kernels."""
    block = _block(site, generation)
    if tile["q"] != block or tile["kv"] not in _KV_TILES:
        raise RopegenError(
            f"attend/mosaic_gpu was given the tile {tile}; on {' and '.join(generation.chips)}, q is {block}, and "
            f"kv one of {', '.join(map(str, _KV_TILES))}"
        )
    form, classes, order = _form(site, tile, generation), _classes(site, tile).dense(), site.order

    def forward(*operands: Array) -> Arrays:
        # Only a program with the kernel in it imports Mosaic GPU.
        from ..gpu.mosaic import NATIVE, WGMMA, Machine

        if generation is BLACKWELL:
            from .kernel_gpu_blackwell import forward as kernel_forward
        else:
            from .kernel_gpu import forward as kernel_forward

        machine = Machine(interpreter, NATIVE if generation is BLACKWELL else WGMMA)
        (q, _, v), given, laid = layout_gpu.read(site, form, operands)
        visited, _ = layout_gpu.visited(form, classes, given, tile["q"])
        out, lse = kernel_forward(form, visited, laid, machine)
        lead, length = q.shape[:-3], q.shape[-3]
        out, lse = out[:, :length, :, : v.shape[-1]], jnp.swapaxes(lse, 1, 2)[:, :length]
        if site.op.takes_mean:
            mean = jnp.mean(v, -3, dtype=jnp.float32).reshape(form.batch, 1, form.kv_heads, v.shape[-1])
            mean = jnp.repeat(mean, form.heads // form.kv_heads, axis=2).astype(out.dtype)
            out = jnp.where(lse[..., None] == -jnp.inf, mean, out)
        results = {"output": out.reshape(*lead, *out.shape[1:]), "log_sum_exp": lse.reshape(*lead, *lse.shape[1:])}
        return tuple(results[label] for label in order)

    def backward(operands: Arrays, results: Arrays, cotangents: Tangents, wanted: Sequence[bool]) -> Tangents | None:
        asked = {operand for operand, is_wanted in zip(site.operands, wanted, strict=True) if is_wanted}
        gives_bias = site.sources.get("bias") in asked
        if any(limits_gpu.left_to_xla(site, generation)) or (gives_bias and not bias_is_whole(site)):
            return None
        given = dict(zip(order, results, strict=True)), dict(zip(order, cotangents, strict=True))
        pulled = _backward(site, operands, Pull.of(*given), gives_bias, interpreter)
        return tuple(pulled.get(operand) if operand in asked else None for operand in site.operands)

    return Kernel(forward, backward=backward)


def _backward(site: AttendSite, operands: Arrays, pull: Pull, gives_bias: bool, interpreter: bool) -> dict[Node, Array]:
    """The cotangents of the operands, by node. Operands without one are left out."""
    from ..gpu.mosaic import Machine
    from .kernel_gpu_backward import backward as kernel_backward

    form, classes = _form(site, _BACKWARD, HOPPER, rotates=False), _classes(site, _BACKWARD).dense()
    if gives_bias:  # every tile of its cotangent is written, and zeros come from the mask
        classes = np.maximum(classes, masks.PARTIAL)
    (q, k, v), given, laid = layout_gpu.read(site, form, operands)
    lists = layout_gpu.visited(form, classes, {} if gives_bias else given, BACKWARD_TILE)
    laid |= {
        "d_out": layout_gpu.whole(form, pull.d_out, form.value_width, form.queries),
        "shift": layout_gpu.of_rows(form, pull.shift * np.float32(LOG2_E), jnp.inf),
        "drag": layout_gpu.of_rows(form, pull.drag, 0.0),
    }
    dq, dk, dv, d_bias = kernel_backward(
        form, *lists, laid, Machine(interpreter), gives_bias=gives_bias, parts=limits_gpu.parts_backward(site)
    )

    def cut(x: Array, like: Array) -> Array:
        return x[:, : like.shape[-3], :, : like.shape[-1]].reshape(like.shape)

    if d_bias is not None:
        d_bias = d_bias[:, :, : q.shape[-3], : k.shape[-3]].reshape(given["bias"].shape)
    pulled = cut(dq, q), cut(dk, k), cut(dv, v)
    return of_operands(site, operands, pull, pulled, d_bias, q_pairing=site.q_pairing)


def notes(site: AttendSite, tile: Tile, target: Target) -> Iterator[str]:
    """Which gradients are left to the `xla` template."""
    if left := list(limits_gpu.left_to_xla(site, _generation(target))):
        yield f"gradients by attend/xla: {'; '.join(left)}"
    elif "bias" in site.sources and not bias_is_whole(site):
        bias = site.sources["bias"].type
        yield f"the gradient of the bias {bias} is a sum over scores: where it is asked for, by attend/xla"


def padding(site: AttendSite, tile: Tile, target: Target) -> Padding | None:
    """Whole tiles of queries and keys, and widths that the tensor core reads."""
    form = _form(site, tile, _generation(target))
    whole, widths = (tile["q"], tile["kv"]), (form.width, form.value_width)
    return padding_of(site, _classes(site, tile), tile, whole=whole, widths=widths)


TEMPLATE = Template(
    name="mosaic_gpu",
    version=3,
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
