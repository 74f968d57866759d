"""Each op as plain jax.numpy: the decomposition that travels in the semantic form, and what templates build on.

`compute(node, *values)` computes one node, and `plain_cost` says what that costs on a chip. Sums of products and
normalisations run in float32 (float64 for float64 operands) and are rounded once. Attention holds the scores of one
chunk of queries at a time, so its memory grows with the sequence and not with its square. JAX itself differentiates it
to any order.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from ropegen import angles, dropout, masks
from ropegen.cost import NO_COST, NO_WORK, Cost, Direction, Work
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Node, topological
from ropegen.ir.op import Op, Operand
from ropegen.target import Target
from ropegen.types import numpy_dtype

Array = jax.Array
OpT = TypeVar("OpT", bound=Op)
Size: TypeAlias = Any
"""The size of an axis: an int, or a symbol of `jax.export`, which computes like one and has no value."""

# The number of scores that the plain attention holds at a time. It decides how many queries a chunk has.
_CHUNK_SCORES = 1 << 22
# The most queries of a chunk if a size is a symbol of `jax.export`.
_SYMBOLIC_ROWS = 128


@contextmanager
def own_promotion() -> Generator[None]:
    """JAX's standard promotion of element types and ranks, for which formulas and kernels are written.

    The user's settings `jax_numpy_dtype_promotion` and `jax_numpy_rank_promotion` are about the user's own code, so
    they do not apply inside.
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@own_promotion()
def compute(node: Node, *values: Array) -> Array:
    """The value of a node, computed from the values of its operands.

    Raises:
      RopegenError: `node` is an input, which has no formula.
    """
    return plain_of(type(node.op)).formula(node, *values)


@own_promotion()
def compute_for_platform(node: Node, *values: Array) -> Array:
    """Like `compute`, but rotations take the form that is fast on the platform.

    Programs that run use this function; modules that people and compilers read, such as the semantic form, use
    `compute`.
    """
    if isinstance(node.op, ops.Rotate):
        x, table = values
        return rotate_for_platform(x, table, node.op.pairing)
    return compute(node, *values)


def accumulator(dtype: Any) -> Any:
    """The element type in which sums of `dtype` run: float64 for float64, otherwise float32."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32


def precision(dtype: Any) -> lax.Precision | None:
    """The precision of products of `dtype`: the highest for float32, which a TPU or a GPU would otherwise round first."""
    return lax.Precision.HIGHEST if dtype == jnp.float32 else None


def _input(node: Node) -> Array:
    raise RopegenError(f"input {node.op} has no value of its own; feed it")


def _positions(node: Node) -> Array:
    op = _op(node, ops.Positions)
    positions = jnp.arange(op.length, dtype=jnp.int32)
    return op.start + positions if op.start else positions  # the end of a range from `start` might not fit in int32


def _embed(node: Node, ids: Array, table: Array) -> Array:
    if _op(node, ops.Embed).mode == "clip":
        return jnp.take(table, ids, axis=0, mode="clip")
    # `take` counts negative ids from the end; here they are outside the table, like ids past its end.
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


def norm(
    x: Array, weight: Array | None, bias: Array | None, kind: str, epsilon: float, weight_offset: float = 0.0
) -> Array:
    """X (..., E), normalised over its last axis, times weight_offset + weight (E,), plus bias (E,); rounded once."""
    wide = x.astype(accumulator(x.dtype))
    if kind == "layer":
        wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
    wide = wide * lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + epsilon)
    if weight is not None:
        wide = wide * (weight.astype(wide.dtype) + weight_offset)
    elif weight_offset:
        wide = wide * weight_offset
    if bias is not None:
        wide = wide + bias.astype(wide.dtype)
    return wide.astype(x.dtype)


def _norm(node: Node, x: Array, *affine: Array) -> Array:
    op = _op(node, ops.Norm)
    given = dict(zip(op.given, affine, strict=True))
    return norm(x, given.get("weight"), given.get("bias"), op.kind, op.epsilon, op.weight_offset)


def project(x: Array, weight: Array, *bias: Array) -> Array:
    """The product of x (..., E) and weight (E, F), plus bias (F,), in the element type of the accumulator."""
    wide = lax.dot_general(
        x,
        weight,
        (((x.ndim - 1,), (0,)), ((), ())),
        precision=precision(x.dtype),
        preferred_element_type=accumulator(x.dtype),
    )
    for addend in bias:
        wide = wide + addend.astype(wide.dtype)
    return wide


def _project(node: Node, x: Array, weight: Array, *bias: Array) -> Array:
    return project(x, weight, *bias).astype(x.dtype)


def _project_heads(node: Node, x: Array, weight: Array) -> Array:
    # The heads are a batch of products. XLA for CPU multiplies bfloat16 only if the batch comes first in both operands.
    rows = jnp.moveaxis(x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:]), 1, 0)
    product = lax.dot_general(
        rows,
        weight,
        (((2,), (1,)), ((0,), (0,))),
        precision=precision(x.dtype),
        preferred_element_type=accumulator(x.dtype),
    )
    return jnp.moveaxis(product, 0, 1).reshape(*x.shape[:-1], weight.shape[-1]).astype(x.dtype)


def _join_features(node: Node, a: Array, b: Array) -> Array:
    return jnp.concatenate([a, jnp.broadcast_to(b, (*a.shape[:-1], b.shape[-1]))], axis=-1)


def _join_rows(node: Node, first: Array, x: Array) -> Array:
    return jnp.concatenate([jnp.broadcast_to(first, (*x.shape[:-2], *first.shape)), x], axis=-2)


def _clip(node: Node, x: Array) -> Array:
    limit = _op(node, ops.Clip).limit
    return jnp.clip(x, -limit, limit)


def _split_heads(node: Node, x: Array) -> Array:
    op = _op(node, ops.SplitHeads)
    columns = lax.slice_in_dim(x, op.start, op.start + op.heads * op.width, axis=-1)
    return columns.reshape(*x.shape[:-1], op.heads, op.width)


def _merge_heads(node: Node, x: Array) -> Array:
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def rotate(x: Array, table: Array, pairing: str) -> Array:
    """The first dim features of x (..., S, H, D), rotated by a table (..., S, dim) of cosines, then sines.

    The rotation runs in the wider type of the two operands; the result has the type of x.
    """
    dim = table.shape[-1]
    wide = jnp.promote_types(x.dtype, table.dtype)
    if pairing == "half":
        cos, sin = _cos_sin(table, wide)
        first, second = x[..., : dim // 2].astype(wide), x[..., dim // 2 : dim].astype(wide)
        parts = [half.astype(x.dtype) for half in (first * cos - second * sin, second * cos + first * sin)]
    else:
        parts = [_rows_turned(x[..., :dim], table, pairing).astype(x.dtype)]
    return jnp.concatenate([*parts, x[..., dim:]], axis=-1) if dim < x.shape[-1] or len(parts) > 1 else parts[0]


def rotate_for_platform(x: Array, table: Array, pairing: str) -> Array:
    """Like `rotate`, in the form that is fast on the platform that the program is lowered for.

    Outside a trace it is `rotate` itself.
    """
    if not isinstance(x, Tracer):
        return rotate(x, table, pairing)
    rows, halves = (functools.partial(form, pairing=pairing) for form in (_rotate_rows, rotate))
    return lax.platform_dependent(x, table, cpu=rows, default=halves)


def _rotate_rows(x: Array, table: Array, pairing: str) -> Array:
    """Like `rotate`, without a concatenation along the features.

    XLA for CPU copies such a concatenation number by number, so this form is three to eight times faster there. On TPU
    it is up to a third slower, by libtpu's estimate.
    """
    dim, width = table.shape[-1], x.shape[-1]
    turned = _rows_turned(x[..., :dim], table, pairing)
    if dim == width:
        return turned.astype(x.dtype)
    spread = lax.pad(turned, jnp.zeros((), turned.dtype), [*[(0, 0, 0)] * (x.ndim - 1), (0, width - dim, 0)])
    return jnp.where(np.arange(width) < dim, spread, x.astype(turned.dtype)).astype(x.dtype)


def _rows_turned(x: Array, table: Array, pairing: str) -> Array:
    """All features of x rotated, in the wider type of the two operands."""
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
    return out.astype(numpy_dtype(node.type.dtype)) if op.returns == "output" else log_sum_exp


def _append_cache(node: Node, cache: Array, update: Array, lengths: Array) -> Array:
    lead = cache.shape[:-3]
    rows, count = update.shape[-3], math.prod(lead)
    starts = jnp.broadcast_to(lengths, lead).reshape(count)
    flat_cache, flat_update = cache.reshape(count, *cache.shape[-3:]), update.reshape(count, *update.shape[-3:])
    where = starts[:, None] + jnp.arange(rows, dtype=starts.dtype)
    where = jnp.where(where < 0, cache.shape[-3], where)  # a scatter would count a negative row from the end
    written = flat_cache.at[jnp.arange(count)[:, None], where].set(flat_update, mode="drop", unique_indices=True)
    return written.reshape(cache.shape)


def _pack(node: Node, *parts: Array) -> Array:
    return jnp.concatenate(parts, axis=-1)


def _reorder_pairs(node: Node, x: Array) -> Array:
    op = _op(node, ops.ReorderPairs)
    heads = x.reshape(*x.shape[:-1], x.shape[-1] // op.width, op.width)
    turned, rest = heads[..., : op.dim], heads[..., op.dim :]
    split = (op.dim // 2, 2) if op.to == "half" else (2, op.dim // 2)
    turned = jnp.swapaxes(turned.reshape(*turned.shape[:-1], *split), -1, -2).reshape(turned.shape)
    return jnp.concatenate([turned, rest], axis=-1).reshape(x.shape)


def attend(op: ops.Attend, q: Array, k: Array, v: Array, given: Mapping[str, Array]) -> tuple[Array, Array]:
    """Attention, one chunk of queries after the other: (output, log-sum-exp), in the shapes of `ops.Attend`.

    Derivatives compute a chunk again, so that derivatives of any order hold the scores of one chunk.
    """
    lead, heads, kv_heads = q.shape[:-3], q.shape[-2], k.shape[-2]
    queries: Size = q.shape[-3]
    keys: Size = k.shape[-3]
    batch, split, wide = math.prod(lead), (kv_heads, heads // kv_heads), accumulator(q.dtype)
    if 0 in (batch, queries, keys, heads):
        return _nothing_to_attend(given.get("sinks"), (*lead, queries, heads), v.shape[-1], q.dtype, wide)
    rows = q.reshape(batch, queries, *split, q.shape[-1])
    k, v = k.reshape(batch, keys, kv_heads, k.shape[-1]), v.reshape(batch, keys, kv_heads, v.shape[-1])
    # Scores are (batch, kv_heads, group, queries, keys); every operand gets these axes.
    placed = [operand for operand in op.beside if operand.name not in ("seed", "numbers")]
    aligned = {operand.name: _on_score_axes(operand, given[operand.name], lead, split) for operand in placed}
    numbers = {name: given[name].astype(wide) for name in op.given if name == "numbers"}

    # The size is not a static argument of the checkpoint, because JAX keeps a function with static arguments, and with
    # it the arrays that it captures, after their trace has ended.
    def chunk(size: int, start: Array) -> tuple[Array, Array]:
        parts = {
            name: lax.dynamic_slice_in_dim(x, start, size, 3) if x.shape[3] != 1 else x for name, x in aligned.items()
        }
        part = lax.dynamic_slice_in_dim(rows, start, size, 1)
        return _attend_rows(op, part, k, v, parts | numbers, _kept(op, given, start, part.shape, keys))

    size = _chunk_rows(batch, queries, heads, keys)
    results: list[tuple[Array, Array]] = []
    if not isinstance(queries, int):
        # How many rows the last chunk has is not known, so all chunks have the same number, and the last rows are not kept.
        count = -(-queries // size)
        missing = count * size - queries
        rows = _with_more_rows(rows, 1, missing)
        aligned = {name: _with_more_rows(x, 3, missing) if x.shape[3] != 1 else x for name, x in aligned.items()}
        starts = size * jnp.arange(count, dtype=jnp.int32)
        out, log_sum_exp = lax.map(jax.checkpoint(functools.partial(chunk, size)), starts)
        results.append((_chunks_to_rows(out)[:, :queries], _chunks_to_rows(log_sum_exp)[:, :queries]))
    elif queries >= size:
        starts = jnp.arange(0, queries - size + 1, size, dtype=jnp.int32)

        out, log_sum_exp = lax.map(jax.checkpoint(functools.partial(chunk, size)), starts)
        results.append((_chunks_to_rows(out), _chunks_to_rows(log_sum_exp)))
    if isinstance(queries, int) and queries % size:
        rest = jax.checkpoint(functools.partial(chunk, queries % size))
        results.append(rest(jnp.int32(queries - queries % size)))
    out, log_sum_exp = (jnp.concatenate(parts, axis=1) for parts in zip(*results, strict=True))
    return out.reshape(*lead, queries, heads, v.shape[-1]), log_sum_exp.reshape(*lead, queries, heads)


def _with_more_rows(x: Array, axis: int, count: Any) -> Array:
    return jnp.pad(x, [(0, count if index == axis else 0) for index in range(x.ndim)])


def _chunk_rows(batch: Size, queries: Size, heads: int, keys: Size) -> int:
    """The number of queries in a chunk of the plain attention. No size may be 0."""
    if not all(isinstance(size, int) for size in (batch, queries, keys)):
        return min(queries, _SYMBOLIC_ROWS) if isinstance(queries, int) else _SYMBOLIC_ROWS
    return min(queries, max(1, _CHUNK_SCORES // (batch * heads * keys)))


def _chunks_to_rows(x: Array) -> Array:
    """(chunks, batch, size, ...) -> (batch, chunks * size, ...)."""
    return jnp.moveaxis(x, 0, 1).reshape(x.shape[1], x.shape[0] * x.shape[2], *x.shape[3:])


def _on_score_axes(operand: Operand, x: Array, lead: tuple[int, ...], split: tuple[int, int]) -> Array:
    """An optional operand as (batch, kv_heads, group, queries, keys), with the size 1 along axes where it does not
    vary.
    """
    shape = operand.padded(x.shape, len(lead))
    sizes = shape[len(lead) :]
    if operand.batch == "optional" or any(size != 1 for size in shape[: len(lead)]):
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


def _kept(op: ops.Attend, given: Mapping[str, Array], start: Array, shape: tuple[int, ...], keys: int) -> Array | None:
    """Which weights of a chunk of queries from `start`, (B, rows, Hkv, G, D), dropout keeps; None without dropout."""
    if op.dropout is None:
        return None
    batch, rows, kv_heads, group, _ = shape
    entries = jnp.arange(batch, dtype=jnp.int32).reshape(-1, 1, 1, 1, 1)
    heads = jnp.arange(kv_heads * group, dtype=jnp.int32).reshape(1, kv_heads, group, 1, 1)
    queries = start + jnp.arange(rows, dtype=jnp.int32)[:, None]
    words = dropout.row_words(jnp, given["seed"], entries, heads, queries)
    return dropout.kept(jnp, words, jnp.arange(keys, dtype=jnp.int32), op.dropout)


def _attend_rows(
    op: ops.Attend, q: Array, k: Array, v: Array, given: Mapping[str, Array], kept: Array | None
) -> tuple[Array, Array]:
    """One chunk, q (B, rows, Hkv, G, D), with k and v (B, Skv, Hkv, D): the output (B, rows, Hkv, G, Dv) and
    log-sum-exp. `kept` says which weights dropout keeps.
    """
    wide = accumulator(q.dtype)
    exact = precision(q.dtype)
    score = jnp.einsum("bqhgd,bkhd->bhgqk", q, k, precision=exact, preferred_element_type=wide) * op.scale
    if op.softcap is not None:
        score = op.softcap * jnp.tanh(score / op.softcap)
    if "bias" in given:
        score = score + given["bias"].astype(wide)
    places: dict[str, Any] = {operand.variable: given[operand.name] for operand in op.beside if operand.variable}
    places["batch"] = jnp.arange(q.shape[0], dtype=jnp.int32).reshape(-1, 1, 1, 1, 1)
    places["head"] = jnp.arange(q.shape[2] * q.shape[3], dtype=jnp.int32).reshape(1, q.shape[2], q.shape[3], 1, 1)
    wide_ids = [name for name, value in places.items() if value.dtype == jnp.int64]
    if "numbers" in given:
        places["numbers"] = given["numbers"]
    # A score of -inf hides its key. Its derivative must not become NaN.
    visible = score != -jnp.inf
    if op.score != masks.identity:
        score = masks.evaluate(op.score, jnp, score=jnp.where(visible, score, 0.0), wide=wide_ids, **places)
    if op.visible != masks.full:
        visible = visible & masks.evaluate(op.visible, jnp, wide=wide_ids, **places)
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
    if kept is not None and op.dropout is not None:
        weight = jnp.where(kept, weight / (1 - op.dropout), 0.0)
    mixed = jnp.einsum("bhgqk,bkhd->bhgqd", weight.astype(v.dtype), v, precision=exact, preferred_element_type=wide)
    out = mixed / divisor
    if op.takes_mean:
        mean = jnp.mean(v, axis=1, dtype=wide)[:, :, None, None, :]
        out = jnp.where(seen, out, mean)
    log_sum_exp = jnp.where(seen, shift + jnp.log(divisor), -jnp.inf)[..., 0]
    out = out if op.partial else out.astype(q.dtype)
    return jnp.einsum("bhgqd->bqhgd", out), jnp.einsum("bhgq->bqhg", log_sum_exp)


def _op(node: Node, kind: type[OpT]) -> OpT:
    assert isinstance(node.op, kind)
    return node.op


# What each op is: its formula, and the work of its formula ----------------------------------------------------------

OpWork: TypeAlias = Callable[[Node, Direction], Work]


@dataclass(frozen=True, slots=True)
class Plain:
    """The plain form of an op: a formula over the values of its operands, and the work of that formula in one
    direction.
    """

    formula: Callable[..., Array]
    work: OpWork


def plain_of(kind: type[Op]) -> Plain:
    """The formula and the work of an op.

    Raises:
      RopegenError: the op declares none.
    """
    if kind not in _PLAIN:
        raise RopegenError(
            f"the op {kind.name!r} has no plain formula and no work; add its entry to the table in ropegen/plain.py"
        )
    return _PLAIN[kind]


def plain_cost(node: Node, target: Target, direction: Direction = "forward", *, constant: bool = False) -> Cost:
    """The cost of one op on its own, in seconds by cause, in one direction.

    `constant` says that the value is a constant of the module, which nothing computes. A direction other
    than `forward` costs nothing if no operand or no result is a floating-point number.
    """
    if direction != "forward" and not (node.type.is_float and any(value.type.is_float for value in node.operands)):
        return NO_COST
    work = plain_of(type(node.op)).work(node, direction)
    if work == NO_WORK:
        return NO_COST
    if constant:
        work = replace(work, exponentials=0.0)
    return work.on(target, node.type.dtype).calibrated(target, direction)


def _read(node: Node) -> float:
    """The bytes of the operands."""
    return float(sum(value.type.bytes for value in node.operands))


def _no_work(node: Node, direction: Direction) -> Work:
    return NO_WORK


def _linear(operations: float) -> OpWork:
    """The work of an op that is linear in its operands: this many operations per element of the result, in every
    direction.

    Its tangent is the op itself on tangents. Its transpose reads the cotangent of the result and writes those of the
    operands. No direction reads the values of the operands again.
    """

    def work(node: Node, direction: Direction) -> Work:
        return Work(vector=operations * node.type.size, moved=_read(node) + node.type.bytes)

    return work


def _norm_work(node: Node, direction: Direction) -> Work:
    """The work of a norm. Derivatives compute the normalised rows again, and the mean of their product with the tangent
    or cotangent.
    """
    if direction == "forward":
        return Work(vector=6.0 * node.type.size, moved=_read(node) + node.type.bytes)
    return Work(vector=11.0 * node.type.size, moved=2.0 * _read(node) + node.type.bytes)


def _embed_work(node: Node, direction: Direction) -> Work:
    """For every id, one row is read and one is written. The cotangent of the table is an array of zeros to which rows
    are added.
    """
    ids, table = (value.type for value in node.operands)
    moved = 2.0 * node.type.bytes + ids.bytes
    return Work(moved=moved if direction != "backward" else moved + node.type.bytes + table.bytes)


def _project_work(node: Node, direction: Direction) -> Work:
    """One product, or two for derivatives, because both factors have a tangent and a cotangent."""
    product = 2.0 * node.type.size * node.operands[0].type.shape[-1]
    if direction == "forward":
        return Work(matmul=product, moved=_read(node) + node.type.bytes)
    return Work(matmul=2.0 * product, moved=2.0 * _read(node) + node.type.bytes)


def _angles_work(node: Node, direction: Direction) -> Work:
    return Work(exponentials=float(node.type.size), moved=_read(node) + node.type.bytes)


# Kernels that XLA for GPU starts for a chunk of queries: two products, the masked scores with their maximum, the
# weights with their sum, the division, two writes, and the counter of chunks. Derivatives add their own kernels;
# `backward` computes the scores again.
_CHUNK_KERNELS: Mapping[Direction, float] = {"forward": 8.0, "tangent": 8.0, "backward": 20.0}


def _attend_work(node: Node, direction: Direction) -> Work:
    """Two products and one exponential for every score, hidden ones too.

    Scores and weights go to memory and back between the passes that compute them, so this time comes in addition.
    Derivatives have two products for each of these two, four in all, and backward computes the scores again.
    """
    q, k, v = (value.type for value in node.operands[:3])
    scores = float(q.size // max(1, q.shape[-1])) * k.shape[-3]
    products = 2.0 * scores * (q.shape[-1] + v.shape[-1])
    chunks = 0
    if scores:
        chunks = -(-q.shape[-3] // _chunk_rows(math.prod(q.shape[:-3]), q.shape[-3], q.shape[-2], k.shape[-3]))
    forward = Work(
        matmul=products,
        vector=6.0 * scores,
        exponentials=scores,
        moved=_read(node) + node.type.bytes,
        spilled=16.0 * scores,
        launches=_CHUNK_KERNELS[direction] * chunks,
        temporary=8.0 * scores / max(1, chunks),
    )
    moved = 2.0 * _read(node) + node.type.bytes
    match direction:
        case "forward":
            return forward
        case "tangent":
            return replace(forward, matmul=2.0 * products, exponentials=0.0, moved=moved)
        case "backward":
            return replace(
                forward,
                matmul=2.0 * products + 2.0 * scores * q.shape[-1],
                vector=14.0 * scores,
                moved=moved,
                spilled=2.0 * forward.spilled,
            )


_PLAIN: Mapping[type[Op], Plain] = MappingProxyType(
    {
        ops.Input: Plain(_input, _no_work),
        ops.Positions: Plain(_positions, _no_work),
        ops.Embed: Plain(_embed, _embed_work),
        ops.Patchify: Plain(_patchify, _linear(1.0)),
        ops.Sinusoid: Plain(angles.value, _angles_work),
        ops.Add: Plain(_add, _linear(1.0)),
        ops.Norm: Plain(_norm, _norm_work),
        ops.Project: Plain(_project, _project_work),
        ops.SplitHeads: Plain(_split_heads, _linear(1.0)),
        ops.MergeHeads: Plain(_merge_heads, _linear(1.0)),
        ops.Angles: Plain(angles.value, _angles_work),
        ops.Rotate: Plain(_rotate, _linear(4.0)),
        ops.Scale: Plain(_scale, _linear(1.0)),
        ops.Cast: Plain(_cast, _linear(1.0)),
        ops.Transpose: Plain(_transpose, _linear(1.0)),
        ops.Attend: Plain(_attend, _attend_work),
        ops.AppendCache: Plain(_append_cache, _linear(1.0)),
        ops.Pack: Plain(_pack, _linear(1.0)),
        ops.ReorderPairs: Plain(_reorder_pairs, _linear(1.0)),
        ops.ProjectHeads: Plain(_project_heads, _project_work),
        ops.JoinFeatures: Plain(_join_features, _linear(1.0)),
        ops.JoinRows: Plain(_join_rows, _linear(1.0)),
        ops.Clip: Plain(_clip, _linear(1.0)),
    }
)


def evaluate(
    outputs: Sequence[Node], values: Mapping[Node, Array], compute: Callable[..., Array] = compute
) -> tuple[Array, ...]:
    """The values of the outputs. `compute` computes the nodes between `values` and the outputs, one by one."""
    known = dict(values)
    for node in topological(outputs, given=values):
        known[node] = compute(node, *(known[operand] for operand in node.operands))
    return tuple(known[output] for output in outputs)
