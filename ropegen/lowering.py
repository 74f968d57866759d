"""Each op as plain jax.numpy: the decomposition that travels in the semantic form, and what templates build on.

`lower(node, *values)` computes one node. Sums of products and normalisations run in float32 (float64 for
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

from ropegen import masks
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Node, topological
from ropegen.ir.op import Op
from ropegen.rope import fixed_point
from ropegen.types import numpy_dtype

Array = jax.Array
OpT = TypeVar("OpT", bound=Op)

# Scores that the plain attention holds at a time, and so the queries of a chunk.
_CHUNK_SCORES = 1 << 22


def lower(node: Node, *values: Array) -> Array:
    """The value of `node` over the values of its operands; an `input` has none of its own.

    Raises:
      RopegenError: `node` is an input.
    """
    return _LOWERINGS[type(node.op)](node, *values)


def accumulator(dtype: Any) -> Any:
    """The element type that sums of `dtype` run in: float64 for float64, else float32."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


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


def _sinusoid(node: Node, positions: Array) -> Array:
    op = _op(node, ops.Sinusoid)
    pairs = (op.width + 1) // 2
    exact = op.precision == "exact"
    precision = np.float64 if exact else np.float32
    inverse = (1.0 / precision(op.theta) ** (2 * np.arange(pairs).astype(precision) / op.width)).astype(precision)
    static = static_positions(node.operands[0])
    if static is not None:
        angles = static.astype(precision)[:, None] * inverse
        cos, sin = jnp.asarray(np.cos(angles), jnp.float32), jnp.asarray(np.sin(angles), jnp.float32)
        if op.dtype == "f64":
            cos, sin = jnp.asarray(np.cos(angles)), jnp.asarray(np.sin(angles))
    else:
        cos, sin = cos_sin(positions[..., None], np.asarray(inverse, np.float64), exact=exact)
    if op.pairing == "half":
        table = jnp.concatenate([sin, cos], axis=-1)
    else:
        table = jnp.stack([sin, cos], axis=-1).reshape(*sin.shape[:-1], 2 * pairs)[..., : op.width]
    return table.astype(numpy_dtype(op.dtype))


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
    wide = lax.dot_general(x, weight, (((x.ndim - 1,), (0,)), ((), ())), preferred_element_type=accumulator(x.dtype))
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


def _angles(node: Node, positions: Array) -> Array:
    op = _op(node, ops.Angles)
    rope = op.rope
    static = static_positions(node.operands[0])
    if static is not None and not op.sections:
        return jnp.asarray(rope.table(static, op.head_width, op.length, op.inverse))
    inverse = rope.inverse_frequencies(op.head_width, op.length)
    # Pair j reads the position axis axes[j]; without sections there is one.
    placed = jnp.moveaxis(positions, 0, -1)[..., rope.axes(op.head_width)] if op.sections else positions[..., None]
    cos, sin = cos_sin(placed, inverse, exact=op.precision == "exact")
    magnitude: Any = np.float32(op.scaling.magnitude(op.length))
    slope = _log_scale_slope(op)
    if slope is not None:
        at_zero, rate = slope
        log_scale = at_zero + placed.astype(jnp.float32) * rate
        magnitude = magnitude * jnp.exp(-log_scale if op.inverse else log_scale)
    return jnp.concatenate([cos * magnitude, sin * magnitude], axis=-1)


def _log_scale_slope(op: ops.Angles) -> tuple[np.ndarray, np.ndarray] | None:
    """The position-dependent magnitude's logarithm, which is linear in the position: its value at 0 and its slope."""
    ends = op.scaling.log_scale(np.array([[0.0], [1.0]]), op.dim)
    if ends is None:
        return None
    return ends[0].astype(np.float32), (ends[1] - ends[0]).astype(np.float32)


def static_positions(node: Node) -> np.ndarray | None:
    """The positions of a `positions` node, int64 (length,); None where they are only known at run time."""
    if not isinstance(node.op, ops.Positions):
        return None
    return np.arange(node.op.start, node.op.start + node.op.length)


def cos_sin(positions: Array, inverse_frequencies: np.ndarray, *, exact: bool) -> tuple[Array, Array]:
    """Cosines and sines of positions (..., 1 or P) times inverse frequencies (P,), each (..., P) float32.

    `exact` reduces the angle in integers, without float64: a position times the frequency, as a 64-bit
    fraction of a turn, wraps by itself. What is rounded is an angle of at most an eighth of a turn, so the
    error does not grow with the position (whole positions to 2**31, fractional ones within float32's own grid).
    """
    if not exact:
        angles = positions.astype(jnp.float32) * inverse_frequencies.astype(np.float32)
        return jnp.cos(angles), jnp.sin(angles)
    high, low = fixed_point(inverse_frequencies)
    if not jnp.issubdtype(positions.dtype, jnp.floating):
        return _turns_to_cos_sin(_turns(positions.astype(jnp.int32), high, low))
    per_position = (inverse_frequencies / (2 * np.pi)).astype(np.float32)

    @jax.custom_jvp
    def fractional(positions: Array) -> tuple[Array, Array]:
        whole = jnp.floor(positions)
        # A fraction of a position adds less than one frequency, which float32 holds finely enough.
        fraction = (positions - whole).astype(jnp.float32) * per_position
        return _turns_to_cos_sin(_turns(whole.astype(jnp.int32), high, low) + _to_turns(fraction))

    @fractional.defjvp
    def derivative(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:  # pyright: ignore[reportUnusedFunction]
        # Integers carry no derivative, so it is said here: the angle grows by the frequency.
        cos, sin = fractional(*primals)
        slope = tangents[0].astype(jnp.float32) * inverse_frequencies.astype(np.float32)
        return (cos, sin), (-sin * slope, cos * slope)

    return fractional(positions)


def _turns(positions: Array, high: np.ndarray, low: np.ndarray) -> Array:
    """(positions * frequency) mod 1 turn in units of 2**-32, uint32, for int32 positions of either sign."""
    position = positions.astype(jnp.uint32)  # two's complement: a negative position wraps as it should...
    carried = position * high + _high_half(position, low)
    # ... except that the upper half of the product took it for position + 2**32.
    return jnp.where(positions < 0, carried - low, carried)


def _high_half(a: Array, b: np.ndarray) -> Array:
    """The upper 32 bits of the 64-bit product of two uint32 numbers, in 16-bit halves."""
    mask = np.uint32(0xFFFF)
    a_low, a_high = a & mask, a >> 16
    b_low, b_high = b & mask, b >> np.uint32(16)
    middle = a_high * b_low + ((a_low * b_low) >> 16)
    return a_high * b_high + (middle >> 16) + ((a_low * b_high + (middle & mask)) >> 16)


def _to_turns(turns: Array) -> Array:
    """A float32 fraction of a turn (of magnitude below 1) as uint32 units of 2**-32."""
    # In two steps of 16 bits: a float32 near 1 times 2**32 does not fit in int32.
    upper = jnp.floor(turns * 65536.0)
    lower = (turns * 65536.0 - upper) * 65536.0
    return (upper.astype(jnp.int32).astype(jnp.uint32) << 16) + lower.astype(jnp.int32).astype(jnp.uint32)


def _turns_to_cos_sin(turns: Array) -> tuple[Array, Array]:
    quarter = (turns + np.uint32(1 << 29)) >> 30  # the nearest quarter turn, 0..3 (4 wraps to 0)
    rest = (turns - (quarter << 30)).astype(jnp.int32)  # within an eighth of a turn of it
    angle = rest.astype(jnp.float32) * np.float32(2 * math.pi / 2**32)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    odd = (quarter & 1) == 1
    negative_cos = ((quarter + 1) & 2) == 2  # quarters 1 and 2
    negative_sin = (quarter & 2) == 2  # quarters 2 and 3
    turned_cos, turned_sin = jnp.where(odd, sin, cos), jnp.where(odd, cos, sin)
    return jnp.where(negative_cos, -turned_cos, turned_cos), jnp.where(negative_sin, -turned_sin, turned_sin)


def rotate(x: Array, angles: Array, pairing: str) -> Array:
    """X (..., S, H, D) turned by angles (..., S, dim), cosines first; in float32 or wider, rounded once."""
    dim = angles.shape[-1]
    wide = jnp.promote_types(accumulator(x.dtype), angles.dtype)
    cos, sin = jnp.split(angles.astype(wide)[..., None, :], 2, axis=-1)
    if pairing == "half":
        first, second = x[..., : dim // 2].astype(wide), x[..., dim // 2 : dim].astype(wide)
        turned = [first * cos - second * sin, second * cos + first * sin]
    else:
        pairs = x[..., :dim].reshape(*x.shape[:-1], dim // 2, 2).astype(wide)
        first, second = pairs[..., 0], pairs[..., 1]
        turned = [
            jnp.stack([first * cos - second * sin, second * cos + first * sin], axis=-1).reshape(*x.shape[:-1], dim)
        ]
    parts = [each.astype(x.dtype) for each in turned]
    return jnp.concatenate([*parts, x[..., dim:]], axis=-1) if dim < x.shape[-1] or len(parts) > 1 else parts[0]


def _rotate(node: Node, x: Array, angles: Array) -> Array:
    return rotate(x, angles, _op(node, ops.Rotate).pairing)


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

    Each chunk is recomputed when it is differentiated, so that derivatives of any order keep one chunk of scores.
    """
    lead, queries, heads = q.shape[:-3], q.shape[-3], q.shape[-2]
    keys, kv_heads = k.shape[-3], k.shape[-2]
    batch, split, wide = math.prod(lead), (kv_heads, heads // kv_heads), accumulator(q.dtype)
    if 0 in (batch, queries, keys, heads):
        return _nothing_to_attend(given.get("sinks"), (*lead, queries, heads), v.shape[-1], q.dtype, wide)
    rows = q.reshape(batch, queries, *split, q.shape[-1])
    k, v = k.reshape(batch, keys, kv_heads, k.shape[-1]), v.reshape(batch, keys, kv_heads, v.shape[-1])
    # Scores are (batch, kv_heads, group, queries, keys); every operand is brought to those axes.
    axes: dict[str, Array] = {}
    for name, each in given.items():
        if name == "sinks":
            axes[name] = each.astype(wide).reshape(1, *split, 1, 1)
        elif name in ("bias", "mask"):
            axes[name] = _on_score_axes(each, lead, split)
        else:
            spread = jnp.broadcast_to(each, (*lead, each.shape[-1])).reshape(batch, 1, 1, -1)
            axes[name] = spread[..., None] if name.startswith("q_") else spread[..., None, :]

    @functools.partial(jax.checkpoint, static_argnums=1)
    def chunk(start: Array, size: int) -> tuple[Array, Array]:
        parts = {
            name: lax.dynamic_slice_in_dim(each, start, size, 3) if each.shape[3] > 1 else each
            for name, each in axes.items()
        }
        return _attend_rows(op, lax.dynamic_slice_in_dim(rows, start, size, 1), k, v, parts)

    size = min(queries, max(1, _CHUNK_SCORES // (batch * heads * keys)))
    outs: list[tuple[Array, Array]] = []
    if queries >= size:
        starts = jnp.arange(0, queries - size + 1, size, dtype=jnp.int32)

        def one(start: Array) -> tuple[Array, Array]:
            return chunk(start, size)

        out, log_sum_exp = lax.map(one, starts)
        outs.append((_chunks_to_rows(out), _chunks_to_rows(log_sum_exp)))
    if queries % size:
        outs.append(chunk(jnp.int32(queries - queries % size), queries % size))
    out, log_sum_exp = (jnp.concatenate(each, axis=1) for each in zip(*outs, strict=True))
    return out.reshape(*lead, queries, heads, v.shape[-1]), log_sum_exp.reshape(*lead, queries, heads)


def _chunks_to_rows(x: Array) -> Array:
    """(chunks, batch, size, ...) -> (batch, chunks * size, ...)."""
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], x.shape[0] * x.shape[2], *x.shape[3:])


def _on_score_axes(x: Array, lead: tuple[int, ...], split: tuple[int, int]) -> Array:
    x = x.reshape((1,) * (len(lead) + 3 - x.ndim) + x.shape)
    if any(size > 1 for size in x.shape[: len(lead)]):
        x = jnp.broadcast_to(x, (*lead, *x.shape[len(lead) :]))
    return x.reshape(-1, *(split if x.shape[-3] > 1 else (1, 1)), *x.shape[-2:])


def _nothing_to_attend(
    sinks: Array | None, rows: tuple[int, ...], width: int, dtype: Any, wide: Any
) -> tuple[Array, Array]:
    log_sum_exp = -jnp.inf if sinks is None else sinks
    return jnp.zeros((*rows, width), dtype), jnp.broadcast_to(jnp.asarray(log_sum_exp, wide), rows)


def _attend_rows(op: ops.Attend, q: Array, k: Array, v: Array, given: Mapping[str, Array]) -> tuple[Array, Array]:
    """A chunk: q (B, rows, Hkv, G, D), k and v (B, Skv, Hkv, D): out (B, rows, Hkv, G, Dv) and log-sum-exp."""
    wide = accumulator(q.dtype)
    score = jnp.einsum("bqhgd,bkhd->bhgqk", q, k, preferred_element_type=wide) * op.scale
    if op.softcap is not None:
        score = op.softcap * jnp.tanh(score / op.softcap)
    if "bias" in given:
        score = score + given["bias"].astype(wide)
    places: dict[str, Any] = {variable: given[name] for variable, name in op.NEEDS.items() if name in given}
    places["batch"] = jnp.arange(q.shape[0]).reshape(-1, 1, 1, 1, 1)
    places["head"] = jnp.arange(q.shape[2] * q.shape[3]).reshape(1, q.shape[2], q.shape[3], 1, 1)
    # A score of -inf hides its key; what is derived from it must not become NaN.
    visible = score != -jnp.inf
    if op.score != masks.identity:
        score = masks.evaluate(op.score, jnp, score=jnp.where(visible, score, 0.0), **places)
    if op.visible != masks.full:
        visible = visible & masks.evaluate(op.visible, jnp, **places)
    if "mask" in given:
        visible = visible & given["mask"]
    highest = jnp.max(score, axis=-1, keepdims=True, where=visible, initial=-jnp.inf)
    if "sinks" in given:
        highest = jnp.maximum(highest, given["sinks"])
    shift = lax.stop_gradient(jnp.where(highest == -jnp.inf, 0.0, highest))
    weight = jnp.where(visible, jnp.exp(jnp.where(visible, score - shift, 0.0)), 0.0)
    total = jnp.sum(weight, axis=-1, keepdims=True)
    if "sinks" in given:
        total = total + jnp.exp(given["sinks"] - shift)
    seen = total > 0
    divisor = jnp.where(seen, total, 1.0)
    out = jnp.einsum("bhgqk,bkhd->bhgqd", weight.astype(v.dtype), v, preferred_element_type=wide) / divisor
    if op.masked_row == "mean" and "sinks" not in given:
        mean = jnp.mean(v, axis=1, dtype=wide)[:, :, None, None, :]
        out = jnp.where(seen, out, mean)
    log_sum_exp = jnp.where(seen, shift + jnp.log(divisor), -jnp.inf)[..., 0]
    return jnp.einsum("bhgqd->bqhgd", out).astype(q.dtype), jnp.einsum("bhgq->bqhg", log_sum_exp)


def _op(node: Node, kind: type[OpT]) -> OpT:
    assert isinstance(node.op, kind)
    return node.op


_LOWERINGS: dict[type[Op], Callable[..., Array]] = {
    ops.Input: _input,
    ops.Positions: _positions,
    ops.Embed: _embed,
    ops.Patchify: _patchify,
    ops.Sinusoid: _sinusoid,
    ops.Add: _add,
    ops.Norm: _norm,
    ops.Project: _project,
    ops.SplitHeads: _split_heads,
    ops.MergeHeads: _merge_heads,
    ops.Angles: _angles,
    ops.Rotate: _rotate,
    ops.Scale: _scale,
    ops.Cast: _cast,
    ops.Transpose: _transpose,
    ops.Attend: _attend,
    ops.AppendCache: _append_cache,
    ops.Pack: _pack,
    ops.ReorderPairs: _reorder_pairs,
}


def evaluate(outputs: Sequence[Node], values: Mapping[Node, Array]) -> tuple[Array, ...]:
    """The outputs, each node between them and `values` lowered plainly."""
    known = dict(values)
    for each in topological(outputs, given=values):
        known[each] = lower(each, *(known[operand] for operand in each.operands))
    return tuple(known[each] for each in outputs)
