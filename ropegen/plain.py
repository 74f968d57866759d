"""Each op as plain jax.numpy: the decomposition that travels in the semantic form, and what templates build on.

`compute(node, *values)` computes one node. Sums of products and normalisations run in float32 (float64 for
float64 operands) and are rounded once. Attention keeps a chunk of queries at a time, so memory grows with
the sequence; it is differentiable to any order by JAX itself.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from ropegen import angles, masks
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Node, topological
from ropegen.ir.op import Op, Operand
from ropegen.types import numpy_dtype

Array = jax.Array
OpT = TypeVar("OpT", bound=Op)

# Scores that the plain attention holds at a time, and so the queries of a chunk.
_CHUNK_SCORES = 1 << 22


def compute(node: Node, *values: Array) -> Array:
    """The value of `node` over the values of its operands; an `input` has none of its own.

    Raises:
      RopegenError: `node` is an input.
    """
    return _FORMULAS[type(node.op)](node, *values)


def compute_for_platform(node: Node, *values: Array) -> Array:
    """`compute`, rotations by `rotate_for_platform`: for what is run, where `compute` is for what is read."""
    if isinstance(node.op, ops.Rotate):
        x, table = values
        return rotate_for_platform(x, table, node.op.pairing)
    return compute(node, *values)


def accumulator(dtype: Any) -> Any:
    """The element type that sums of `dtype` run in: float64 for float64, else float32."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def precision(dtype: Any) -> lax.Precision | None:
    """The precision of products of `dtype`: all of float32, which a TPU or a GPU would else round before multiplying."""
    return lax.Precision.HIGHEST if dtype == jnp.float32 else None


def _input(node: Node) -> Array:
    raise RopegenError(f"input {node.op} has no value of its own; feed it")


def _positions(node: Node) -> Array:
    op = _op(node, ops.Positions)
    return jnp.arange(op.start, op.start + op.length, dtype=jnp.int32)


def _embed(node: Node, ids: Array, table: Array) -> Array:
    if _op(node, ops.Embed).mode == "clip":
        return jnp.take(table, ids, axis=0, mode="clip")
    # `take` lets negative ids count from the end; here they are as far outside as those past the end.
    outside = jnp.where(ids < 0, table.shape[0], ids)
    return jnp.take(table, outside, axis=0, mode="fill", fill_value=jnp.nan)


def _patchify(node: Node, image: Array) -> Array:
    op = _op(node, ops.Patchify)
    *lead, height, width, channels = image.shape
    rows, columns = height // op.height, width // op.width
    cut = image.reshape(*lead, rows, op.height, columns, op.width, channels)
    return jnp.swapaxes(cut, -4, -3).reshape(*lead, rows * columns, op.height * op.width * channels)


def _add(node: Node, a: Array, b: Array) -> Array:
    return a + b


def _norm(node: Node, x: Array, *affine: Array) -> Array:
    op = _op(node, ops.Norm)
    wide = x.astype(accumulator(x.dtype))
    if op.kind == "layer":
        wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
    wide = wide * lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + op.epsilon)
    given = dict(zip(op.given, affine, strict=True))
    if "weight" in given:
        wide = wide * (given["weight"].astype(wide.dtype) + op.weight_offset)
    elif op.weight_offset:
        wide = wide * op.weight_offset
    if "bias" in given:
        wide = wide + given["bias"].astype(wide.dtype)
    return wide.astype(x.dtype)


def project(x: Array, weight: Array, *bias: Array) -> Array:
    """X (..., E) @ weight (E, F) + bias (F,), the sums left in the accumulator's element type."""
    wide = lax.dot_general(
        x,
        weight,
        (((x.ndim - 1,), (0,)), ((), ())),
        precision=precision(x.dtype),
        preferred_element_type=accumulator(x.dtype),
    )
    for each in bias:
        wide = wide + each.astype(wide.dtype)
    return wide


def _project(node: Node, x: Array, weight: Array, *bias: Array) -> Array:
    return project(x, weight, *bias).astype(x.dtype)


def _split_heads(node: Node, x: Array) -> Array:
    op = _op(node, ops.SplitHeads)
    columns = lax.slice_in_dim(x, op.start, op.start + op.heads * op.width, axis=-1)
    return columns.reshape(*x.shape[:-1], op.heads, op.width)


def _merge_heads(node: Node, x: Array) -> Array:
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def rotate(x: Array, table: Array, pairing: str) -> Array:
    """X (..., S, H, D) turned by cosines, then sines (..., S, dim), in the wider type of the two; x's type."""
    dim = table.shape[-1]
    wide = jnp.promote_types(x.dtype, table.dtype)
    if pairing == "half":
        cos, sin = _cos_sin(table, wide)
        first, second = x[..., : dim // 2].astype(wide), x[..., dim // 2 : dim].astype(wide)
        parts = [each.astype(x.dtype) for each in (first * cos - second * sin, second * cos + first * sin)]
    else:
        parts = [_rows_turned(x[..., :dim], table, pairing).astype(x.dtype)]
    return jnp.concatenate([*parts, x[..., dim:]], axis=-1) if dim < x.shape[-1] or len(parts) > 1 else parts[0]


def rotate_for_platform(x: Array, table: Array, pairing: str) -> Array:
    """`rotate` in the form that fits the platform that it is lowered for; op by op as it stands."""
    if not isinstance(x, Tracer):
        return rotate(x, table, pairing)
    rows, halves = (functools.partial(form, pairing=pairing) for form in (_rotate_rows, rotate))
    return lax.platform_dependent(x, table, cpu=rows, default=halves)


def _rotate_rows(x: Array, table: Array, pairing: str) -> Array:
    """`rotate` without concatenation along the features, which XLA for CPU copies number by number: three to eight times
    faster there. For TPU it is slower by up to a third, by libtpu's estimate.
    """
    dim, width = table.shape[-1], x.shape[-1]
    turned = _rows_turned(x[..., :dim], table, pairing)
    if dim == width:
        return turned.astype(x.dtype)
    spread = lax.pad(turned, jnp.zeros((), turned.dtype), [*[(0, 0, 0)] * (x.ndim - 1), (0, width - dim, 0)])
    return jnp.where(np.arange(width) < dim, spread, x.astype(turned.dtype)).astype(x.dtype)


def _rows_turned(x: Array, table: Array, pairing: str) -> Array:
    """All features of x turned, in the wider type."""
    dim, axis, wide = table.shape[-1], -2 if pairing == "half" else -1, jnp.promote_types(x.dtype, table.dtype)
    cos, sin = _cos_sin(table, wide)
    pairs = x.reshape(*x.shape[:-1], *((2, dim // 2) if pairing == "half" else (dim // 2, 2))).astype(wide)
    first, second = (pairs[..., 0, :], pairs[..., 1, :]) if pairing == "half" else (pairs[..., 0], pairs[..., 1])
    return jnp.stack([first * cos - second * sin, second * cos + first * sin], axis=axis).reshape(x.shape)


def _cos_sin(table: Array, wide: Any) -> tuple[Array, Array]:
    """Cosines and sines (..., S, 1, dim / 2) of a table (..., S, dim)."""
    cos, sin = jnp.split(table.astype(wide)[..., None, :], 2, axis=-1)
    return cos, sin


def _rotate(node: Node, x: Array, table: Array) -> Array:
    return rotate(x, table, _op(node, ops.Rotate).pairing)


def _scale(node: Node, x: Array) -> Array:
    factor = _op(node, ops.Scale).factor
    return (x.astype(accumulator(x.dtype)) * factor).astype(x.dtype)


def _cast(node: Node, x: Array) -> Array:
    dtype = numpy_dtype(_op(node, ops.Cast).dtype)
    if jnp.issubdtype(x.dtype, jnp.floating) and jnp.issubdtype(dtype, jnp.integer):
        x = jnp.trunc(x)
    return x.astype(dtype)


def _transpose(node: Node, x: Array) -> Array:
    return jnp.transpose(x, _op(node, ops.Transpose).permutation)


def _attend(node: Node, q: Array, k: Array, v: Array, *given: Array) -> Array:
    op = _op(node, ops.Attend)
    out, log_sum_exp = attend(op, q, k, v, dict(zip(op.given, given, strict=True)))
    return out if op.returns == "output" else log_sum_exp


def _append_cache(node: Node, cache: Array, update: Array, lengths: Array) -> Array:
    lead = cache.shape[:-3]
    rows, count = update.shape[-3], math.prod(lead)
    starts = jnp.broadcast_to(lengths, lead).reshape(count)
    flat_cache, flat_update = cache.reshape(count, *cache.shape[-3:]), update.reshape(count, *update.shape[-3:])
    where = starts[:, None] + jnp.arange(rows, dtype=starts.dtype)
    where = jnp.where(where < 0, cache.shape[-3], where)  # scatter would count a negative row from the end
    written = flat_cache.at[jnp.arange(count)[:, None], where].set(flat_update, mode="drop", unique_indices=True)
    return written.reshape(cache.shape)


def _pack(node: Node, *parts: Array) -> Array:
    return jnp.concatenate(parts, axis=-1)


def _reorder_pairs(node: Node, x: Array) -> Array:
    op = _op(node, ops.ReorderPairs)
    heads = x.reshape(*x.shape[:-1], -1, op.width)
    turned, rest = heads[..., : op.dim], heads[..., op.dim :]
    split = (op.dim // 2, 2) if op.to == "half" else (2, op.dim // 2)
    turned = jnp.swapaxes(turned.reshape(*turned.shape[:-1], *split), -1, -2).reshape(turned.shape)
    return jnp.concatenate([turned, rest], axis=-1).reshape(x.shape)


def attend(op: ops.Attend, q: Array, k: Array, v: Array, given: Mapping[str, Array]) -> tuple[Array, Array]:
    """Attention a chunk of queries at a time: (output, log-sum-exp), for the shapes of `ops.Attend`.

    A chunk is recomputed when it is differentiated, so that derivatives of any order keep one chunk of scores.
    """
    lead, queries, heads = q.shape[:-3], q.shape[-3], q.shape[-2]
    keys, kv_heads = k.shape[-3], k.shape[-2]
    batch, split, wide = math.prod(lead), (kv_heads, heads // kv_heads), accumulator(q.dtype)
    if 0 in (batch, queries, keys, heads):
        return _nothing_to_attend(given.get("sinks"), (*lead, queries, heads), v.shape[-1], q.dtype, wide)
    rows = q.reshape(batch, queries, *split, q.shape[-1])
    k, v = k.reshape(batch, keys, kv_heads, k.shape[-1]), v.reshape(batch, keys, kv_heads, v.shape[-1])
    # Scores are (batch, kv_heads, group, queries, keys); every operand is brought to those axes.
    aligned = {operand.name: _on_score_axes(operand, given[operand.name], lead, split) for operand in op.beside}

    @functools.partial(jax.checkpoint, static_argnums=1)
    def chunk(start: Array, size: int) -> tuple[Array, Array]:
        parts = {
            name: lax.dynamic_slice_in_dim(x, start, size, 3) if x.shape[3] > 1 else x for name, x in aligned.items()
        }
        return _attend_rows(op, lax.dynamic_slice_in_dim(rows, start, size, 1), k, v, parts)

    size = min(queries, max(1, _CHUNK_SCORES // (batch * heads * keys)))
    results: list[tuple[Array, Array]] = []
    if queries >= size:
        starts = jnp.arange(0, queries - size + 1, size, dtype=jnp.int32)

        def one(start: Array) -> tuple[Array, Array]:
            return chunk(start, size)

        out, log_sum_exp = lax.map(one, starts)
        results.append((_chunks_to_rows(out), _chunks_to_rows(log_sum_exp)))
    if queries % size:
        results.append(chunk(jnp.int32(queries - queries % size), queries % size))
    out, log_sum_exp = (jnp.concatenate(parts, axis=1) for parts in zip(*results, strict=True))
    return out.reshape(*lead, queries, heads, v.shape[-1]), log_sum_exp.reshape(*lead, queries, heads)


def _chunks_to_rows(x: Array) -> Array:
    """(chunks, batch, size, ...) -> (batch, chunks * size, ...)."""
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], x.shape[0] * x.shape[2], *x.shape[3:])


def _on_score_axes(operand: Operand, x: Array, lead: tuple[int, ...], split: tuple[int, int]) -> Array:
    """An optional operand as (batch, kv_heads, group, queries, keys); a size is 1 where it does not vary."""
    shape = operand.padded(x.shape, len(lead))
    sizes = shape[len(lead) :]
    if operand.batch == "optional" or any(size > 1 for size in shape[: len(lead)]):
        x = jnp.broadcast_to(x, (*lead, *sizes))
    heads, *_ = operand.among(ops.Attend.SCORES, sizes)
    rows = [size for axis, size in zip(operand.axes, sizes, strict=True) if axis != "heads"]
    x = x.reshape(-1, *(split if heads > 1 else (1, 1)), *rows)
    return jnp.expand_dims(x, [3 + n for n, axis in enumerate(("queries", "keys")) if axis not in operand.axes])


def _nothing_to_attend(
    sinks: Array | None, rows: tuple[int, ...], width: int, dtype: Any, wide: Any
) -> tuple[Array, Array]:
    log_sum_exp = -jnp.inf if sinks is None else sinks
    return jnp.zeros((*rows, width), dtype), jnp.broadcast_to(jnp.asarray(log_sum_exp, wide), rows)


def _attend_rows(op: ops.Attend, q: Array, k: Array, v: Array, given: Mapping[str, Array]) -> tuple[Array, Array]:
    """A chunk: q (B, rows, Hkv, G, D), k and v (B, Skv, Hkv, D): out (B, rows, Hkv, G, Dv) and log-sum-exp."""
    wide = accumulator(q.dtype)
    exact = precision(q.dtype)
    score = jnp.einsum("bqhgd,bkhd->bhgqk", q, k, precision=exact, preferred_element_type=wide) * op.scale
    if op.softcap is not None:
        score = op.softcap * jnp.tanh(score / op.softcap)
    if "bias" in given:
        score = score + given["bias"].astype(wide)
    places: dict[str, Any] = {operand.variable: given[operand.name] for operand in op.beside if operand.variable}
    places["batch"] = jnp.arange(q.shape[0]).reshape(-1, 1, 1, 1, 1)
    places["head"] = jnp.arange(q.shape[2] * q.shape[3]).reshape(1, q.shape[2], q.shape[3], 1, 1)
    # A score of -inf hides its key, and no derivative of it may become NaN.
    visible = score != -jnp.inf
    if op.score != masks.identity:
        score = masks.evaluate(op.score, jnp, score=jnp.where(visible, score, 0.0), **places)
    if op.visible != masks.full:
        visible = visible & masks.evaluate(op.visible, jnp, **places)
    if "mask" in given:
        visible = visible & given["mask"]
    highest = jnp.max(score, axis=-1, keepdims=True, where=visible, initial=-jnp.inf)
    sinks = given["sinks"].astype(wide) if "sinks" in given else None
    if sinks is not None:
        highest = jnp.maximum(highest, sinks)
    shift = lax.stop_gradient(jnp.where(highest == -jnp.inf, 0.0, highest))
    weight = jnp.where(visible, jnp.exp(jnp.where(visible, score - shift, 0.0)), 0.0)
    total = jnp.sum(weight, axis=-1, keepdims=True)
    if sinks is not None:
        total = total + jnp.exp(sinks - shift)
    seen = total > 0
    divisor = jnp.where(seen, total, 1.0)
    mixed = jnp.einsum("bhgqk,bkhd->bhgqd", weight.astype(v.dtype), v, precision=exact, preferred_element_type=wide)
    out = mixed / divisor
    if op.takes_mean:
        mean = jnp.mean(v, axis=1, dtype=wide)[:, :, None, None, :]
        out = jnp.where(seen, out, mean)
    log_sum_exp = jnp.where(seen, shift + jnp.log(divisor), -jnp.inf)[..., 0]
    return jnp.einsum("bhgqd->bqhgd", out).astype(q.dtype), jnp.einsum("bhgq->bqhg", log_sum_exp)


def _op(node: Node, kind: type[OpT]) -> OpT:
    assert isinstance(node.op, kind)
    return node.op


_FORMULAS: dict[type[Op], Callable[..., Array]] = {
    ops.Input: _input,
    ops.Positions: _positions,
    ops.Embed: _embed,
    ops.Patchify: _patchify,
    ops.Sinusoid: angles.value,
    ops.Add: _add,
    ops.Norm: _norm,
    ops.Project: _project,
    ops.SplitHeads: _split_heads,
    ops.MergeHeads: _merge_heads,
    ops.Angles: angles.value,
    ops.Rotate: _rotate,
    ops.Scale: _scale,
    ops.Cast: _cast,
    ops.Transpose: _transpose,
    ops.Attend: _attend,
    ops.AppendCache: _append_cache,
    ops.Pack: _pack,
    ops.ReorderPairs: _reorder_pairs,
}


def evaluate(
    outputs: Sequence[Node], values: Mapping[Node, Array], compute: Callable[..., Array] = compute
) -> tuple[Array, ...]:
    """The outputs, each node between them and `values` computed plainly, or by another `compute`."""
    known = dict(values)
    for each in topological(outputs, given=values):
        known[each] = compute(each, *(known[operand] for operand in each.operands))
    return tuple(known[each] for each in outputs)
