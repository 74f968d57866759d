"""The plain formula: every op in straightforward jax.numpy, in the graph's own dtypes, as a good JAX user writes it.

It shares no code with `ropegen.plain` or the templates, and JAX alone differentiates it. So it gives the error and the
gradient with which a compiled graph is compared. `draw_inputs` draws inputs that are valid for a graph.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ropegen import masks
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, label_of
from ropegen.types import TensorType, numpy_dtype


def formula(graph: Graph, inputs: Mapping[str, Any]) -> dict[str, jax.Array]:
    """The outputs of `graph`, op by op. `inputs` may be traced; float64 needs `jax_enable_x64`."""
    values = {node: jnp.asarray(inputs[label_of(node)]) for node in graph.inputs}
    for node in graph.nodes:
        if node not in values:
            value = _value(node, [values[operand] for operand in node.operands])
            # Every op must round to its own type, but XLA drops a rounding whose result is widened at once.
            half = value.dtype in (jnp.bfloat16, jnp.float16)
            values[node] = _rounded(value, jnp.float32).astype(value.dtype) if half else value
    return {label: values[node] for label, node in graph.outputs}


def formulas(graphs: Sequence[Graph], inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, np.ndarray]]:
    """The results of `formula` for every graph on its inputs, as NumPy arrays, from one XLA program.

    Nearly all the time is compilation, and most of its cost is per program.
    """
    program = jax.jit(lambda inputs: [formula(graph, x) for graph, x in zip(graphs, inputs, strict=True)])
    compiled = program.lower(list(inputs)).compile(compiler_options={"xla_backend_optimization_level": 0})
    return jax.tree.map(np.asarray, compiled(list(inputs)))


def _value(node: Node, operands: list[jax.Array]) -> jax.Array:
    named = dict(zip(node.op.operand_names(len(operands)), operands, strict=True))
    dtype = numpy_dtype(node.type.dtype)
    match node.op:
        case ops.Positions() as op:
            return jnp.asarray(np.arange(op.start, op.start + op.length, dtype=np.int64), jnp.int32)
        case ops.Embed() as op:
            ids, table = operands
            rows = table[jnp.clip(ids, 0, len(table) - 1)]
            inside = (ids >= 0) & (ids < len(table))
            return rows if op.mode == "clip" else jnp.where(inside[..., None], rows, jnp.nan)
        case ops.Patchify() as op:
            (image,) = operands
            *lead, height, width, channels = image.shape
            rows, columns = height // op.height, width // op.width
            y = image.reshape(*lead, rows, op.height, columns, op.width, channels)
            return jnp.swapaxes(y, -4, -3).reshape(node.type.shape)
        case ops.Sinusoid() as op:
            return _sinusoid(op, node.operands[0], operands[0]).astype(dtype)
        case ops.Add():
            return operands[0] + operands[1]
        case ops.Norm() as op:
            return _norm(op, **named)
        case ops.Project():
            x, weight, *bias = operands
            y = jnp.matmul(x, weight, preferred_element_type=_wide(dtype))
            return (y + bias[0] if bias else y).astype(dtype)
        case ops.ProjectHeads():
            x, weights = operands
            heads = [
                jnp.matmul(x[..., index, :], weight, preferred_element_type=_wide(dtype))
                for index, weight in enumerate(weights)
            ]
            return jnp.stack(heads, axis=-2).astype(dtype)
        case ops.JoinFeatures():
            a, b = operands
            return jnp.concatenate([a, jnp.repeat(b, a.shape[-2] // b.shape[-2], axis=-2)], axis=-1)
        case ops.JoinRows():
            first, x = operands
            return jnp.concatenate([jnp.tile(first, (*x.shape[:-2], 1, 1)), x], axis=-2)
        case ops.Clip() as op:
            return jnp.minimum(jnp.maximum(operands[0], -op.limit), op.limit).astype(dtype)
        case ops.SplitHeads() as op:
            return operands[0][..., op.start : op.start + op.heads * op.width].reshape(node.type.shape)
        case ops.MergeHeads():
            return operands[0].reshape(node.type.shape)
        case ops.Angles() as op:
            return _angles(op, node.operands[0], operands[0])
        case ops.Rotate() as op:
            return _rotate(op, *operands)
        case ops.Scale() as op:
            return (operands[0].astype(_wide(dtype)) * op.factor).astype(dtype)
        case ops.Cast():
            return operands[0].astype(dtype)
        case ops.Transpose() as op:
            return operands[0].transpose(op.permutation)
        case ops.Attend() as op:
            return _attend(op, **named)
        case ops.AppendCache():
            return _append_cache(*operands)
        case ops.Pack():
            return jnp.concatenate(operands, axis=-1)
        case ops.ReorderPairs() as op:
            return _reorder_pairs(op, operands[0])
        case op:
            raise NotImplementedError(op.name)


def _wide(dtype: Any) -> Any:
    """The type in which a matmul accumulates and a softmax is computed."""
    return jnp.promote_types(dtype, jnp.float32)


def _sinusoid(op: ops.Sinusoid, source: Node, positions: jax.Array) -> jax.Array:
    exact = op.precision == "exact" and isinstance(source.op, ops.Positions)
    xp = np if exact else jnp
    p = np.arange(source.op.start, source.op.start + source.op.length, dtype=np.float64) if exact else positions
    p = p.astype(np.float64 if exact or op.dtype == "f64" else np.float32)
    rate = op.theta ** (-np.arange(0, op.width, 2) / op.width)
    angle = p[..., None] * rate.astype(p.dtype)
    sine, cosine = xp.sin(angle), xp.cos(angle)
    if op.pairing == "half":
        return jnp.asarray(xp.concatenate([sine, cosine], -1))
    return jnp.asarray(xp.stack([sine, cosine], -1).reshape(*angle.shape[:-1], -1)[..., : op.width])


def _norm(op: ops.Norm, x: jax.Array, weight: jax.Array | None = None, bias: jax.Array | None = None) -> jax.Array:
    y = x.astype(_wide(x.dtype))
    if op.kind == "layer":
        y = y - jnp.mean(y, -1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + op.epsilon)
    if weight is not None:
        y = y * (op.weight_offset + weight.astype(y.dtype))
    if bias is not None:
        y = y + bias.astype(y.dtype)
    return y.astype(x.dtype)


def _angles(op: ops.Angles, source: Node, positions: jax.Array) -> jax.Array:
    """Cosines and sines: from a float64 table if the positions are known, else in float32 on the device."""
    if op.precision == "exact" and isinstance(source.op, ops.Positions):
        known = np.arange(source.op.start, source.op.start + source.op.length)
        return jnp.asarray(op.rope.table(known, op.head_width, op.length, inverse=op.inverse, dtype=np.float32))
    frequency = np.asarray(op.rope.inverse_frequencies(op.head_width, op.length), np.float32)
    p = positions.astype(jnp.float32)
    p = jnp.moveaxis(p[_section_of(op)], 0, -1) if op.sections else p[..., None]  # one position per pair
    angle = p * frequency
    magnitude = jnp.float32(op.scaling.magnitude(op.length))
    ends = op.scaling.log_scale(np.array([[0.0], [1.0]]), op.dim)  # the logarithm is affine in the position
    if ends is not None:
        scale = jnp.exp(ends[0].astype(np.float32) + p * (ends[1] - ends[0]).astype(np.float32))
        magnitude = magnitude / scale if op.inverse else magnitude * scale
    return jnp.concatenate([jnp.cos(angle) * magnitude, jnp.sin(angle) * magnitude], -1)


def _section_of(op: ops.Angles) -> np.ndarray:
    """The position axis that a pair reads (M-RoPE): in blocks, or interleaved as long as the sections last."""
    if not op.interleaved_sections:
        return np.repeat(np.arange(len(op.sections)), op.sections)
    axis = np.zeros(op.dim // 2, int)
    for section in range(1, len(op.sections)):
        axis[section : section + len(op.sections) * (op.sections[section] - 1) + 1 : len(op.sections)] = section
    return axis


def _rotate(op: ops.Rotate, x: jax.Array, angles: jax.Array) -> jax.Array:
    dim = angles.shape[-1]
    y, rest = x[..., :dim].astype(_wide(x.dtype)), x[..., dim:]
    cosine, sine = jnp.split(angles[..., None, :].astype(y.dtype), 2, axis=-1)
    a, b = jnp.split(y, 2, axis=-1) if op.pairing == "half" else (y[..., 0::2], y[..., 1::2])
    turned = (a * cosine - b * sine, b * cosine + a * sine)
    y = jnp.concatenate(turned, -1) if op.pairing == "half" else jnp.stack(turned, -1).reshape(y.shape)
    return jnp.concatenate([y.astype(x.dtype), rest], -1)


def _attend(
    op: ops.Attend,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None = None,
    mask: jax.Array | None = None,
    sinks: jax.Array | None = None,
    seed: jax.Array | None = None,
    **places: jax.Array,
) -> jax.Array:
    """All scores at once, softmax in float32, weights in the input's dtype; no NaN in a row that sees no key."""
    lead, heads, keys = q.shape[:-3], q.shape[-2], k.shape[-3]
    wide = _wide(q.dtype)
    k, v = (jnp.repeat(x, heads // k.shape[-2], axis=-2) for x in (k, v))
    # Products of two half-precision numbers are exact in float32, so widening first is the same formula; XLA's CPU
    # back end has no half-precision batched product of every layout.
    score = jnp.einsum("...qhd,...khd->...hqk", _rounded(q, wide), _rounded(k, wide)) * op.scale
    if op.softcap is not None:
        score = jnp.tanh(score / op.softcap) * op.softcap
    if bias is not None:
        score = score + bias.astype(wide)
    names = {
        "head": jnp.arange(heads)[:, None, None],
        "batch": jnp.arange(math.prod(lead)).reshape(*lead, 1, 1, 1),
    }
    for operand, name in (("positions", "pos"), ("segments", "segment")):
        if f"q_{operand}" in places:
            names[f"q_{name}"] = places[f"q_{operand}"][..., None, :, None]
        if f"kv_{operand}" in places:
            names[f"kv_{name}"] = places[f"kv_{operand}"][..., None, None, :]
    score = jnp.broadcast_to(masks.evaluate(op.score, jnp, score=score, **names), score.shape)
    visible = jnp.asarray(masks.evaluate(op.visible, jnp, **names)) & (score > -jnp.inf)
    if mask is not None:
        visible = visible & mask
    sink = jnp.full((heads, 1, 1), -jnp.inf, wide) if sinks is None else sinks.astype(wide)[:, None, None]
    peak = jnp.max(jnp.where(visible, score, -jnp.inf), -1, keepdims=True, initial=-jnp.inf)
    peak = jnp.maximum(peak, sink)
    peak = jax.lax.stop_gradient(jnp.where(peak == -jnp.inf, 0.0, peak))
    weight = jnp.where(visible, jnp.exp(jnp.where(visible, score - peak, 0.0)), 0.0)
    total = jnp.sum(weight, -1, keepdims=True) + jnp.exp(sink - peak)
    safe = jnp.where(total > 0, total, 1.0)
    if op.returns == "log_sum_exp":
        return jnp.swapaxes(jnp.where(total > 0, peak + jnp.log(safe), -jnp.inf)[..., 0], -1, -2)
    weight = weight / safe
    if op.dropout is not None and seed is not None:
        entries, rows = jnp.arange(math.prod(lead)).reshape(*lead, 1, 1, 1), jnp.arange(q.shape[-3])[:, None]
        stays = keeps(seed, (entries, jnp.arange(heads)[:, None, None], rows), jnp.arange(keys), op.dropout)
        weight = jnp.where(stays, weight / (1 - op.dropout), 0.0)
    if op.masked_row == "mean" and sinks is None:
        weight = jnp.where(visible.any(-1, keepdims=True), weight, 1.0 / max(keys, 1))
    weight = _rounded(weight.astype(q.dtype), wide)
    return jnp.einsum("...hqk,...khd->...qhd", weight, _rounded(v, wide)).astype(q.dtype)


def keeps(seed: jax.Array, place: tuple[jax.Array, jax.Array, jax.Array], key: jax.Array, rate: float) -> jax.Array:
    """Which weights dropout keeps, for the place (batch entry, head, query) of a row and the indices of keys."""

    def multiplied(x: jax.Array, shift: int, factor: int) -> jax.Array:
        return jax.lax.bitwise_xor(x, jax.lax.shift_right_logical(x, jnp.full_like(x, shift))) * jnp.uint32(factor)

    def mix(x: jax.Array) -> jax.Array:
        x = multiplied(multiplied(x, 16, 0x21F0AAAD), 15, 0xD35A2D97)
        return x ^ (x // jnp.uint32(2**15))

    golden = 0x9E3779B9
    word = jax.lax.bitcast_convert_type(seed, jnp.uint32)
    entry, head, query = (x.astype(jnp.uint32) for x in place)
    entry, head = entry + word[2], head + word[3]
    a, b = word[0], word[1] + jnp.uint32(golden)
    for x in (entry, head, query):
        a = mix(a ^ mix(x + jnp.uint32(golden)))
    for x in (query, head, entry):
        b = mix(b ^ mix(x + jnp.uint32(golden)))
    x = multiplied(a + key.astype(jnp.uint32) * jnp.uint32(golden), 16, 0x21F0AAAD)
    x = (x ^ (x // jnp.uint32(2**15)) ^ b) * jnp.uint32(0xD35A2D97)
    return (x ^ (x // jnp.uint32(2**15))) >= jnp.uint32(round(rate * 2**32))


def _rounded(x: jax.Array, wide: Any) -> jax.Array:
    """The values of x in a wider type, rounded to the type of x, because XLA may drop a cast there and back."""
    if x.dtype == wide:
        return x
    held = jnp.finfo(x.dtype)
    return jax.lax.reduce_precision(x.astype(wide), held.nexp, held.nmant)


def _append_cache(cache: jax.Array, update: jax.Array, lengths: jax.Array) -> jax.Array:
    def one(cache: jax.Array, update: jax.Array, length: jax.Array) -> jax.Array:
        return cache.at[length + jnp.arange(len(update))].set(update, mode="drop")

    lead = cache.shape[:-3]
    lengths = jnp.broadcast_to(lengths, lead)
    for _ in lead:
        one = jax.vmap(one)
    return one(cache, update, lengths)


def _reorder_pairs(op: ops.ReorderPairs, x: jax.Array) -> jax.Array:
    y = x.reshape(*x.shape[:-1], -1, op.width)
    front, rest = y[..., : op.dim], y[..., op.dim :]
    if op.to == "half":
        parts = [front[..., 0::2], front[..., 1::2], rest]
    else:
        pairs = jnp.stack(jnp.split(front, 2, axis=-1), -1)
        parts = [pairs.reshape(front.shape), rest]
    return jnp.concatenate(parts, -1).reshape(x.shape)


# Numbers for the inputs ---------------------------------------------------------------------------------------------


def draw_inputs(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """An array of the declared type for every input, with values that are valid for its uses: ids inside the table,
    lengths inside the capacity, positions from 0 up, weights that keep the size of activations.
    """
    random = np.random.default_rng(seed)
    users = graph.users()
    drawn: dict[str, np.ndarray] = {}
    for value in graph.inputs:
        uses = list(_uses(users, value))
        values = _draw(random, value.type, uses)
        drawn[label_of(value)] = np.asarray(values).astype(numpy_dtype(value.type.dtype))
    return drawn


def _uses(users: Mapping[Node, tuple[Node, ...]], node: Node) -> Iterator[tuple[Node, str]]:
    """The ops that read the values of `node`, with the operand name; ops that only move values are looked through."""
    for user in users[node]:
        if isinstance(user.op, (ops.Cast, ops.Transpose, ops.Pack, ops.ReorderPairs)):
            yield from _uses(users, user)
            continue
        for name, operand in zip(user.op.operand_names(len(user.operands)), user.operands, strict=True):
            if operand is node:
                yield user, name


def _draw(random: np.random.Generator, kind: TensorType, uses: list[tuple[Node, str]]) -> Any:
    names = {name for _, name in uses}
    if "ids" in names:
        rows = min(_given(user, "table").shape[0] for user, name in uses if name == "ids")
        return random.integers(0, rows, kind.shape)
    if "lengths" in names:
        room = (_given(user, "cache").shape[-3] - _given(user, "update").shape[-3] for user, _ in uses)
        return random.integers(0, min(room) + 1, kind.shape)
    if names & {"q_segments", "kv_segments"}:
        return np.sort(random.integers(0, 3, kind.shape), axis=-1)
    if names & {"positions", "q_positions", "kv_positions"}:
        fraction = random.choice([0.0, 0.25]) if kind.is_float else 0
        return random.integers(0, 5, (*kind.shape[:-1], 1)) + fraction + np.arange(kind.shape[-1])
    if kind.dtype == "i1":
        values = random.random(kind.shape) < 0.7
        if values.size and random.random() < 0.8:  # otherwise a row may see no key
            values[..., random.integers(kind.shape[-1])] = True
        return values
    if kind.is_integer:
        return random.integers(0, 8, kind.shape)
    values = random.standard_normal(kind.shape)
    for user, name in uses:
        if isinstance(user.op, ops.Project) and name == "weight":
            return values / math.sqrt(max(_given(user, "weight").shape[0], 1))
        if isinstance(user.op, ops.Norm) and name == "weight":
            return 1.0 - user.op.weight_offset + 0.1 * values
        if isinstance(user.op, (ops.Norm, ops.Project)) and name == "bias":
            return 0.1 * values
    return values


def _given(user: Node, name: str) -> TensorType:
    operand = user.operand(name)
    assert operand is not None
    return operand.type
