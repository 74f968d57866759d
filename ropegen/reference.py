"""The meaning of every op, in NumPy and float64. This is the oracle of the tests.

The oracle is the exact mathematics of a graph on the inputs as they are given, already rounded to their element
types; float64 stands for the real numbers. So a cast between floating types changes nothing here, `precision` of
angles changes nothing (the angle is the exact one), and no intermediate value is rounded to its type. Integers and
booleans do not change. A cast from float to integer rounds towards zero; a float outside the range takes the nearest end
of it, and NaN becomes 0.

The result of a kernel in a narrower type may differ from this by rounding, and by nothing else.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ropegen import dropout, masks
from ropegen.arguments import mapping_of
from ropegen.errors import RopegenError, nearest
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, expect_graph, label_of
from ropegen.ir.op import Op
from ropegen.types import FLOATS, INTEGERS, TensorType, dtype_name, numpy_dtype

__all__ = ["evaluate", "evaluate_nodes"]

Array = npt.NDArray[Any]

# Scores that attention holds at a time, over all heads: 64 MiB an array.
_SCORES_AT_ONCE = 2**23


def evaluate(graph: Graph, inputs: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
    """The outputs of `graph` on `inputs`, by label: float64 for every floating type, integers and bools as they are.

    Raises:
      RopegenError: an input is missing, unknown, or of another shape or element type than declared; negative lengths.
    """
    expect_graph("reference.evaluate", graph)
    declared = graph.input_types
    example = f"an array for every label, as in {{{', '.join(f'{label!r}: ...' for label in declared)}}}"
    mapping_of("reference.evaluate: inputs", inputs, example)
    for label in inputs:
        if label not in declared:
            raise RopegenError(f"graph {graph.name!r} has no input {label!r}; {nearest(label, declared)}")
    missing = [f"{label} ({declared[label]})" for label in declared if label not in inputs]
    if missing:
        raise RopegenError(f"graph {graph.name!r} lacks the inputs {', '.join(missing)}; give every input by its label")
    values = {node: _checked(graph, node, inputs[label_of(node)]) for node in graph.inputs}
    results = evaluate_nodes([node for _, node in graph.outputs], values)
    return {label: result for (label, _), result in zip(graph.outputs, results, strict=True)}


def evaluate_nodes(nodes: Sequence[Node], values: Mapping[Node, npt.ArrayLike]) -> tuple[Array, ...]:
    """The values of `nodes`, computed from given values of some nodes before them, such as the operands of a region.

    A given value has the shape of its node. Its element type may be wider than declared, as results of the oracle are.

    Raises:
      RopegenError: an input is needed and not given, a given value has another shape than its node, or lengths are
        negative.
    """
    known: dict[Node, Array] = {}
    for node, value in values.items():
        known[node] = np.asarray(value)
        if known[node].shape != node.type.shape:
            raise RopegenError(f"the value of {node} has the shape {known[node].shape}; give {node.type.shape}")
    order = _needed(nodes, known)
    reads = Counter([operand for node in order for operand in node.operands] + list(nodes))
    with np.errstate(all="ignore"):
        for node in order:
            operands = [known[operand] for operand in node.operands]
            if not isinstance(node.op, ops.Embed):  # a vocabulary widened to float64 would fill the memory
                operands = [_wide(operand) for operand in operands]
            names = node.op.operand_names(len(operands))
            known[node] = MEANING[type(node.op)](node.op, **dict(zip(names, operands, strict=True)))
            for operand in node.operands:
                reads[operand] -= 1
                if not reads[operand]:
                    del known[operand]
    return tuple(_wide(known[node]) for node in nodes)


def _needed(nodes: Iterable[Node], known: Mapping[Node, Array]) -> list[Node]:
    """The nodes to compute, operands first. Nodes behind a known node are not among them, unless another path needs them."""
    order: dict[Node, None] = {}
    pending = [(node, False) for node in nodes]
    while pending:
        node, ready = pending.pop()
        if node in known or node in order:
            continue
        if isinstance(node.op, ops.Input):
            raise RopegenError(f"the value of the input {node.op.label!r} {node.type} is needed and not given; give it")
        if ready:
            order[node] = None
        else:
            pending.append((node, True))
            pending.extend((operand, False) for operand in node.operands)
    return list(order)


def _checked(graph: Graph, node: Node, value: npt.ArrayLike) -> Array:
    """An input as an array, of exactly the type that the graph declares."""
    what = f"graph {graph.name!r}: the input {label_of(node)!r}"
    try:
        array = np.asarray(value)
        actual = TensorType(array.shape, dtype_name(array.dtype))
    except ValueError as error:  # ragged lists, or an element type that the IR does not have
        raise RopegenError(f"{what} is no tensor: {error}; give an array of type {node.type}") from None
    if actual != node.type:
        raise RopegenError(f"{what} is {actual} and was declared {node.type}; reshape it or convert its elements")
    return array


def _wide(x: Array) -> Array:
    """Floating types as float64, all others as they are."""
    return x.astype(np.float64, copy=False) if dtype_name(x.dtype) in FLOATS else x


def _positions(op: ops.Positions) -> Array:
    return np.arange(op.start, op.start + op.length, dtype=np.int64).astype(np.int32)


def _embed(op: ops.Embed, ids: Array, table: Array) -> Array:
    """Ids outside the table take the nearest row, or a row of NaN. Negative ids are outside too: nothing wraps around."""
    rows = _wide(table[np.clip(ids, 0, len(table) - 1)])
    if op.mode == "fill":
        rows[(ids < 0) | (ids >= len(table))] = np.nan
    return rows


def _patchify(op: ops.Patchify, image: Array) -> Array:
    """The patches go from left to right, then downwards. So do the pixels in a patch, and its channels come last."""
    *lead, height, width, channels = image.shape
    rows, columns = height // op.height, width // op.width
    cut = image.reshape(*lead, rows, op.height, columns, op.width, channels)
    return np.swapaxes(cut, -4, -3).reshape(*lead, rows * columns, op.height * op.width * channels)


def _sinusoid(op: ops.Sinusoid, positions: Array) -> Array:
    """The encoding of Vaswani et al. 2017, section 3.5: sine and cosine of p / theta^(2i/width) for i = 0, 1, ..."""
    feature = np.arange(op.width)
    if op.pairing == "interleaved":
        pair, is_cosine = feature // 2, feature % 2 == 1
    else:
        pair, is_cosine = feature % max(op.width // 2, 1), feature >= op.width // 2
    angle = positions[..., None] * op.theta ** (-2.0 * pair / op.width)
    return np.where(is_cosine, np.cos(angle), np.sin(angle))


def _add(op: ops.Add, a: Array, b: Array) -> Array:
    return a + b


def _norm(op: ops.Norm, x: Array, weight: Array | None = None, bias: Array | None = None) -> Array:
    """RMS norm (Zhang and Sennrich 2019) is x / sqrt(mean(x^2) + epsilon); layer norm (Ba et al. 2016) takes x - mean(x)."""
    if op.kind == "layer":
        x = x - x.mean(-1, keepdims=True)
    y = x / np.sqrt((x * x).mean(-1, keepdims=True) + op.epsilon)
    if weight is not None:
        y = y * (op.weight_offset + weight)
    return y if bias is None else y + bias


def _project(op: ops.Project, x: Array, weight: Array, bias: Array | None = None) -> Array:
    y = x @ weight
    return y if bias is None else y + bias


def _project_heads(op: ops.ProjectHeads, x: Array, weight: Array) -> Array:
    return (x[..., None, :] @ weight)[..., 0, :]


def _join_features(op: ops.JoinFeatures, a: Array, b: Array) -> Array:
    return np.concatenate([a, np.broadcast_to(b, (*a.shape[:-1], b.shape[-1]))], axis=-1)


def _join_rows(op: ops.JoinRows, first: Array, x: Array) -> Array:
    return np.concatenate([np.broadcast_to(first, (*x.shape[:-2], *first.shape)), x], axis=-2)


def _clip(op: ops.Clip, x: Array) -> Array:
    return np.clip(x, -op.limit, op.limit)


def _split_heads(op: ops.SplitHeads, x: Array) -> Array:
    columns = x[..., op.start : op.start + op.heads * op.width]
    return columns.reshape(*x.shape[:-1], op.heads, op.width)


def _merge_heads(op: ops.MergeHeads, x: Array) -> Array:
    return x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


def _angles(op: ops.Angles, positions: Array) -> Array:
    """The exact angles, whatever precision the op allows a kernel; see `ropegen.rotary.Rope.table`."""
    exact = dataclasses.replace(op.rope, angles="exact")
    return exact.table(positions, op.head_width, op.length, inverse=op.inverse, dtype=np.float64)


def _rotate(op: ops.Rotate, x: Array, angles: Array) -> Array:
    """Every pair (a, b) becomes (a cos - b sin, b cos + a sin). Features beyond the angles do not change."""
    half = angles.shape[-1] // 2
    cosine, sine = angles[..., None, :half], angles[..., None, half:]
    if op.pairing == "half":
        first, second = slice(0, half), slice(half, 2 * half)
    else:
        first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    y = x.copy()
    y[..., first] = x[..., first] * cosine - x[..., second] * sine
    y[..., second] = x[..., second] * cosine + x[..., first] * sine
    return y


def _scale(op: ops.Scale, x: Array) -> Array:
    return x * op.factor


def _cast(op: ops.Cast, x: Array) -> Array:
    if op.dtype in FLOATS:
        return x.astype(np.float64)
    if op.dtype == "i1":
        return x != 0
    dtype = numpy_dtype(op.dtype)
    if dtype_name(x.dtype) in INTEGERS or x.dtype == np.bool_:
        return x.astype(dtype)
    limits = np.iinfo(np.dtype(dtype.name))
    whole = np.nan_to_num(np.trunc(x), nan=0.0)
    ends = [whole >= float(limits.max), whole <= float(limits.min)]
    return np.select(ends, [dtype.type(limits.max), dtype.type(limits.min)], whole.astype(dtype))


def _transpose(op: ops.Transpose, x: Array) -> Array:
    return x.transpose(op.permutation)


def _attend(op: ops.Attend, q: Array, k: Array, v: Array, **given: Array) -> Array:
    """The softmax of the visible scores times v, or the logarithm of the softmax's denominator.

    A score is scale * (q . k), then soft-cap * tanh(score / soft-cap), then + bias, then the score expression. A key is
    visible if the mask expression and the dense mask both show it and its score is not -inf. A sink is one more key
    of its head, with a score and without a value. A row that sees no key is zero. With `masked_row="mean"` and no sinks
    it is the mean of all rows of v, or zero if v has no rows. Its denominator is that of the sinks; without sinks it is
    0, whose logarithm is -inf.

    Dropout multiplies a weight by 0, or by 1 / (1 - dropout) if `ropegen.dropout` keeps it. It changes neither the
    denominator nor the mean of a row that sees no key.

    The expressions read positions and segments as int32, or int64 if they are that, without fractions (see
    `ropegen.masks`). `batch` counts the leading dimensions in row-major order. A hidden key has the weight 0, and 0 * NaN
    is NaN, so nothing is promised
    for rows of v that are not finite.
    """
    *lead, queries, heads, width = q.shape
    keys, kv_heads = k.shape[-3:-1]
    # The optional operands with the axes (*lead, heads, queries, keys). A size is 1 if the operand has no such axis.
    aligned: dict[str, Array] = {}
    for operand in op.beside:
        if operand.name == "seed":
            continue
        x = given[operand.name]
        if operand.name == "numbers":
            continue
        x = x.reshape(operand.padded(x.shape, len(lead)))
        sizes = x.shape[len(lead) :]
        x = np.broadcast_to(x, (*lead, *sizes))
        aligned[operand.name] = x.reshape(*lead, *operand.among(op.SCORES, sizes))
    last = () if op.returns == "log_sum_exp" else (v.shape[-1],)
    result = np.empty((*lead, queries, heads, *last))
    rows = max(1, _SCORES_AT_ONCE // max(1, heads * keys))
    for batch, index in enumerate(np.ndindex(*lead)):
        k_transposed, values = k[index].transpose(1, 2, 0), v[index].transpose(1, 0, 2)
        for start in range(0, queries, rows):
            part = slice(start, min(start + rows, queries))
            count = part.stop - part.start
            grouped = q[index][part].transpose(1, 0, 2).reshape(kv_heads, heads // kv_heads * count, width)
            score = (op.scale * grouped @ k_transposed).reshape(heads, count, keys)
            here = {name: x[index][:, part] if x.shape[-2] > 1 else x[index] for name, x in aligned.items()}
            here |= {name: given[name] for name in op.given if name == "numbers"}
            weight, total, peak, seen = _softmax(op, score, batch, here)
            if op.returns == "log_sum_exp":
                result[index][part] = (peak + np.log(total)).T
                continue
            if op.dropout is not None:
                rows_of = np.arange(part.start, part.stop)[:, None]
                words = dropout.row_words(np, given["seed"], batch, np.arange(heads)[:, None, None], rows_of)
                weight = weight * dropout.kept(np, words, np.arange(keys), op.dropout) / (1 - op.dropout)
            if op.takes_mean:
                weight[~seen] = 1.0 / max(keys, 1)
            mixed = (weight.reshape(*grouped.shape[:-1], keys) @ values).reshape(heads, count, v.shape[-1])
            result[index][part] = (mixed / np.where(total == 0, 1.0, total)[..., None]).transpose(1, 0, 2)
    return result


def _softmax(op: ops.Attend, score: Array, batch: int, given: Mapping[str, Array]) -> tuple[Array, Array, Array, Array]:
    """The weights exp(score - peak), their sum with the sinks, the peak, and which rows see a key.

    `score` is scale * (q . k), (heads, rows, keys). `given` has the optional operands by name, shaped to broadcast
    against it.
    """
    variables: dict[str, Any] = {operand.variable: given[operand.name] for operand in op.beside if operand.variable}
    wide = [name for name, value in variables.items() if value.dtype == np.int64]
    variables |= {"head": np.arange(len(score))[:, None, None], "batch": np.asarray(batch)}
    variables |= {name: given[name] for name in op.given if name == "numbers"}
    if op.softcap is not None:
        score = op.softcap * np.tanh(score / op.softcap)
    if "bias" in given:
        score = score + given["bias"]
    score = np.broadcast_to(masks.evaluate(op.score, np, score=score, wide=wide, **variables), score.shape)
    visible = np.asarray(masks.evaluate(op.visible, np, wide=wide, **variables)) & (score != -np.inf)
    if "mask" in given:
        visible = visible & given["mask"]
    score = np.where(visible, score, -np.inf)
    peak = score.max(-1, initial=-np.inf)
    sinks = given["sinks"][..., 0] if "sinks" in given else None  # (heads, 1)
    if sinks is not None:
        peak = np.maximum(peak, sinks)
    peak = np.where(peak == -np.inf, 0.0, peak)
    weight = np.exp(score - peak[..., None])
    total = weight.sum(-1)
    if sinks is not None:
        total = total + np.exp(sinks - peak)
    return weight, total, peak, visible.any(-1)


def _append_cache(op: ops.AppendCache, cache: Array, update: Array, lengths: Array) -> Array:
    """Row `length + i` of the result is row i of the update. Rows beyond the capacity are dropped, not moved back."""
    if (lengths < 0).any():
        raise RopegenError(f"append_cache: lengths are {lengths.tolist()}; they count rows, so none is below 0")
    result = cache.copy()
    lead, capacity = cache.shape[:-3], cache.shape[-3]
    lengths = np.broadcast_to(lengths, lead)
    for index in np.ndindex(*lead):
        rows = result[index][int(lengths[index]) : capacity][: update.shape[-3]]
        rows[...] = update[index][: len(rows)]
    return result


def _pack(op: ops.Pack, **parts: Array) -> Array:
    return np.concatenate(list(parts.values()), axis=-1)


def _reorder_pairs(op: ops.ReorderPairs, x: Array) -> Array:
    """It transposes axes and does not call `ReorderPairs.order`, because the passes use that and the oracle checks them."""
    heads = x.reshape(*x.shape[:-1], x.shape[-1] // op.width, op.width)
    split = (op.dim // 2, 2) if op.to == "half" else (2, op.dim // 2)
    turned = heads[..., : op.dim].reshape(*heads.shape[:-1], *split).swapaxes(-1, -2)
    return np.concatenate([turned.reshape(*heads.shape[:-1], op.dim), heads[..., op.dim :]], axis=-1).reshape(x.shape)


# `input` is not here, because its value is given and never computed.
MEANING: dict[type[Op], Callable[..., Array]] = {
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
    ops.ProjectHeads: _project_heads,
    ops.JoinFeatures: _join_features,
    ops.JoinRows: _join_rows,
    ops.Clip: _clip,
}
