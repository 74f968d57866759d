"""Fused functions for programs in JAX that need no graph of their own.

`attention`, `rope` and `embed` build the graph that their arguments describe, plan it, and bind its regions as
primitives. `jit`, `grad`, `jvp`, `vmap`, `checkpoint`, `shard_map` and `jax.export` take them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ropegen import captured, masks
from ropegen.arguments import counted, flag_of, is_one_of, number_of
from ropegen.dropout import expect_rate
from ropegen.emit import mesh
from ropegen.emit.mesh import Sharding
from ropegen.emit.own_part import inside_shard_map
from ropegen.errors import RopegenError
from ropegen.expression import Expr, is_traced
from ropegen.ir import ops
from ropegen.ir.build import Mask
from ropegen.ir.graph import Node
from ropegen.layouts import Form
from ropegen.plain import accumulator
from ropegen.plain_call import Array, ArrayLike, Call, Targets
from ropegen.plans import Tiles
from ropegen.ragged import Ragged, expect_alignment
from ropegen.ring import is_relative
from ropegen.rotary import Rope
from ropegen.scaling import whole
from ropegen.symbolic import refuse_over_devices, with_symbols_named
from ropegen.types import numpy_dtype


@with_symbols_named
def rope(
    x: Array,
    positions: ArrayLike | None,
    rope: Rope,
    *,
    length: int | None = None,
    target: Targets = None,
    sharding: Sharding | None = None,
    layout: str = "BSHD",
) -> Array:
    """Rotary embedding of x (..., S, H, D) at positions (S,) or (..., S), None for 0 .. S-1, in x's type.

    `length` is the longest sequence, for the frequency families that depend on it; `target`, `sharding` and `layout` are
    those of `attention`: with "BHSD", x is (..., H, S, D).

    Raises:
      RopegenError: shapes that do not fit, an odd width, a family that needs `length`.
    """
    form = Form.of("rope", layout, None, x)
    call = Call("rope")
    _expect_rope(call.name, rope)
    node = call.array("x", form.operand("rope: x", x))
    if node.type.rank < 3:
        raise RopegenError(f"rope: x is {node.type}; give (..., sequence, heads, width)")
    at = call.positions("positions", positions, node.type.shape[-3])
    _expect_positions("rope: positions", at, node, rope)
    _expect_magnitude(positions, node.type.shape[-1], rope)
    outputs = {"out": call.builder.rope(node, at, rope, length=length)}
    return form.out(call.run(outputs, target, sharding=form.sharding(sharding, x))["out"])


def rotated(
    q: Array,
    k: Array,
    q_positions: ArrayLike,
    kv_positions: ArrayLike,
    rope: Rope,
    length: int | None = None,
    target: Targets = None,
) -> tuple[Array, Array]:
    """The queries and keys that `attention` reads with `rope`: rotated, keys by the inverse magnitude of xPos.

    Raises:
      RopegenError: shapes that do not fit, an odd width, a family that needs `length`.
    """
    call = Call("rotated", knows_its_part=True)
    _expect_rope(call.name, rope)
    turned: dict[str, Node] = {}
    for name, x, at in (("q", q, q_positions), ("k", k, kv_positions)):
        node, places = call.array(name, x), call.positions(f"{name}_positions", at, x.shape[-3])
        _expect_positions(f"{call.name}: {name}_positions", places, node, rope)
        is_inverse = name == "k" and rope.scaling.kind == "xpos"
        turned[name] = call.builder.rope(node, places, rope, length=length, inverse=is_inverse)
    results = call.run(turned, target)
    return results["q"], results["k"]


@with_symbols_named
def rotate(x: Array, table: Array, *, pairing: str, target: Targets = None) -> Array:
    """Rotary embedding from a table: x (..., S, H, D), table (S, dim) or (..., S, dim), cosines, then sines; x's type.

    Products and sums are in the wider type of the two. `Rope.table` makes such a table. `target` is that of `attention`.

    Raises:
      RopegenError: shapes that do not fit, an unknown pairing.
    """
    call = Call("rotate")
    turned = call.builder.rotate(call.array("x", x), call.array("table", table), pairing=pairing)
    return call.run({"out": turned}, target)["out"]


@with_symbols_named
def rope_table(positions: ArrayLike | int, rope: Rope, width: int, *, length: int | None = None) -> Array:
    """The cosines, then the sines, of `rope` for heads of `width`: positions (..., S), or S for 0 .. S-1, -> (..., S, dim).

    The table is float32. With angles="f32", XLA computes every step, as in the libraries that ropegen stands in for;
    `Rope.table` uses NumPy.

    Raises:
      RopegenError: a width or positions that do not fit, a family that needs `length`.
    """
    call = Call("rope_table")
    _expect_rope(call.name, rope)
    at = call.positions_or_length(positions)
    table = call.builder.angles(at, rope, whole("rope_table: width", width), length=length)
    if not isinstance(positions, int):
        _expect_magnitude(positions, width, rope)
    return call.run({"out": table})["out"]


@with_symbols_named
def sinusoid(
    positions: ArrayLike | int, width: int, *, pairing: str, theta: float = 10_000.0, angles: str = "exact"
) -> Array:
    """The fixed encoding of Vaswani et al. 2017: positions (..., S), or S for 0 .. S-1, -> (..., S, width) float32.

    `pairing="interleaved"` alternates sine and cosine, `"half"` puts all sines first.

    Raises:
      RopegenError: an odd width for "half", or an option that does not exist.
    """
    call = Call("sinusoid")
    at = call.positions_or_length(positions)
    return call.run({"out": call.builder.sinusoid(at, width, pairing=pairing, theta=theta, precision=angles)})["out"]


@with_symbols_named
def embed(
    ids: ArrayLike,
    table: Array,
    *,
    mode: str = "clip",
    scale: float | None = None,
    target: Targets = None,
    sharding: Sharding | None = None,
) -> Array:
    """Rows of a table: ids (...) integers, table (V, E) -> (..., E), times `scale`.

    An id outside 0..V-1 takes the nearest row (`mode="clip"`) or a row of NaN (`mode="fill"`). `target` is that of
    `attention`, and so is `sharding`, over the axes of ids. Every device has the whole table.

    Raises:
      RopegenError: ids that are not integers, a table of another rank or type, an unknown mode.
    """
    call = Call("embed")
    rows = call.builder.embed(call.array("ids", ids), call.array("table", table), mode=mode)
    outputs = {"out": rows if scale is None else call.builder.scale(rows, scale)}
    return call.run(outputs, target, sharding=sharding)["out"]


@with_symbols_named
def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    rope: Rope | None = None,
    mask: Mask | Array | np.ndarray = masks.full,
    score: Mask = masks.identity,
    bias: Array | None = None,
    softcap: float | None = None,
    sinks: Array | None = None,
    q_positions: ArrayLike | None = None,
    kv_positions: ArrayLike | None = None,
    q_segments: ArrayLike | None = None,
    kv_segments: ArrayLike | None = None,
    scale: float | None = None,
    masked_row: str = "zero",
    length: int | None = None,
    return_lse: bool = False,
    tile: Tiles | None = None,
    target: Targets = None,
    sharding: Sharding | None = None,
    layout: str = "BSHD",
    q_cu_seqlens: ArrayLike | None = None,
    kv_cu_seqlens: ArrayLike | None = None,
    align: str | None = None,
    dropout: float = 0.0,
    dropout_key: Any = None,
    accumulate: str | None = None,
) -> Any:
    """Attention: q (..., Sq, H, D), k (..., Skv, Hkv, D), v (..., Skv, Hkv, Dv) -> (..., Sq, H, Dv), q's type.

    H must be a multiple of Hkv (grouped queries). The order, in float32, is: scale (1/sqrt(D) if None), soft-cap, bias,
    the score expression, the mask, sinks in the denominator, softmax.

    rope: rotates q by q_positions and k by kv_positions first. It does not change v.
    mask: an expression of `ropegen.masks`, a Python function of q_pos, kv_pos, q_segment, kv_segment, head and
      batch, or a boolean array that broadcasts to (..., H, Sq, Skv) and is True where a query sees a key.
      Arrays combine with expressions: `masks.causal & array`, `masks.padding(lengths)`, `masks.keys(valid)`, or a
      function that indexes an array. NaN and infinity in k and v reach only the queries that see their key; the page
      docs/masks.md says where this ends, and there hidden rows can be zeros.
    score: a Python function of score and those names, or `masks.alibi(slopes)`. Values that JAX traces in it are operands
      with gradients: `lambda score, head: score * slopes[head]`. A score of -inf hides its key.
    scale, softcap: numbers. One that JAX traces has a gradient; a traced scale multiplies q, in q's type.
    bias: broadcasts to (..., H, Sq, Skv). sinks: (H,). A bias or mask broadcasts as in NumPy: its axes are the last ones
      of (..., H, Sq, Skv), so (H, Sq, Skv) is one per head, (B, 1, Sq, Skv) one per sequence, (B, 1, 1, Skv) a padding
      mask. One without a first axis, such as (2, Sq, Skv) for 2 sequences and 2 heads, may mean either and is refused.
    positions, segments: (S,) or (..., S), int32, or int64 under x64, of which all 64 bits count. Without both positions,
      they count from 0. If Sq and Skv differ and positions matter, give both. Positions of the host that count up are part
      of the program, which can then skip what the mask hides. For at most 16 queries only those that count from 0 are, so
      that a step of decoding compiles once. Give segments if the mask or score reads them, and only then.
    masked_row: the result of a row that sees no key: "zero", or "mean" for the mean of all values.
    length: the longest sequence, for the frequency families of RoPE that depend on it.
    return_lse: also return the logarithm of the softmax denominator, (..., Sq, H) float32.
    tile: fixes the tile of a template, e.g. {"attend/xla": {"q": 256, "kv": 512}}.
    target: the chip to plan for, such as "tpu:v5e", or several, such as ["cpu:8", "tpu:v5e"]; at most one for a
      platform. On every other platform the plan is for this machine's own chip, if it is of that platform, and otherwise
      for a default: `cpu` (two cores), `tpu:any` (tiles that fit every generation) or `gpu:any` (XLA alone). The target
      decides how fast the result is computed, not what the result is.
    sharding: how the call lies over several devices: a PartitionSpec over (..., sequence, heads) of q, for the mesh of
      `jax.set_mesh`, or a NamedSharding. PartitionSpec("data", None, "heads") splits the batch over the mesh axis "data" and
      the heads over "heads"; every device then runs the kernel of its own part. If the sequence is split, the call is
      `ropegen.context_parallel` on every device. Without it, arrays on a mesh with explicit axes are computed as they lie.
    layout: "BHSD" for q (..., H, Sq, D), k, v and the result with the heads before the sequence, as in torch. lse is then
      (..., H, Sq), and `sharding` is over (..., heads, sequence). Bias and mask are the same in both layouts.
    q_cu_seqlens, kv_cu_seqlens: (N + 1,) integers, for N sequences one after another in the axis of the sequence (ragged
      tokens, as in flash-attention's functions with varlen in their name). Sequence i has the tokens from entry i to entry
      i + 1, sees only itself, and its positions count from 0. kv_cu_seqlens is q_cu_seqlens if left out. Tokens after the
      last sequence see nothing and are seen by none. Masks may read the sequence as q_segment and kv_segment.
    align: where queries and keys differ in number and their positions are left out: "start" counts both from 0, and with
      "end" the last query is at the position of the last key, as with a cache or in flash-attention. In ragged tokens this
      holds for every sequence.
    dropout: the share of the weights that become 0 after the softmax; the others are divided by 1 - dropout. Which ones is
      a function of dropout_key, a key of `jax.random`, and of the place in (batch, heads, Sq, Skv) alone. So forward and
      backward pass, every platform and every tile drop the same weights, and no array of Sq x Skv is stored. lse loses
      none. `jax.vmap` drops the same weights in every entry unless it maps the key too.
    accumulate: "f64" computes everything in float64 and rounds the result to q's type; lse is then float64. It needs
      `jax_enable_x64`. "f32" is what float32 and half precision do anyway. There is nothing narrower.

    The gradient is deterministic: every call gives the same bits on the same machine, because no pass adds in an order
    that varies.

    Raises:
      RopegenError: shapes, types or options that do not fit; the message says how to correct them.
    """
    scale, softcap, q, bias, score = _without_traced_numbers(scale, softcap, q, bias, score)
    places = (q_positions, kv_positions, q_segments, kv_segments)
    alone = dropout_key is None and bias is None and sinks is None and sharding is None and is_one_of(layout, ("BHSD",))
    form = Form.of("attention", layout, accumulate, q, alone and _heads_are_apart(q, k, mask, score, places))
    sharding = form.sharding(sharding, q)
    q, k, v = (form.operand(f"attention: {label}", x) for label, x in (("q", q), ("k", k), ("v", v)))
    rate = _dropout_rate("attention", dropout, dropout_key)
    expect_alignment("attention", align)
    if sharding is not None and mesh.splits_sequence(call="attention", sharding=sharding, rank=np.ndim(q)):
        refuse_over_devices("attention", (q, k, v))
        from ropegen import shared_sequence  # it builds on this function

        for name, is_given in (
            ("dropout", rate is not None),
            ("q_cu_seqlens", q_cu_seqlens is not None),
            ("align", align is not None),
        ):
            if is_given:
                raise RopegenError(
                    f"attention: {name} is given, and sharding is {sharding}, which splits the sequence; leave the sequence "
                    f"whole in `sharding`{_INSTEAD[name]}"
                )
        options = {"rope": rope, "score": score, "softcap": softcap, "scale": scale, "masked_row": masked_row}
        options |= {"length": length, "return_lse": return_lse, "tile": tile, "target": target}
        given = {"bias": bias, "sinks": sinks, "q_positions": q_positions, "kv_positions": kv_positions}
        given |= {"q_segments": q_segments, "kv_segments": kv_segments}
        made = shared_sequence.attention_over(sharding, {"q": q, "k": k, "v": v, **given}, mask, options)
        return (form.out(made[0]), form.lse(made[1])) if return_lse else form.out(made)
    call = Call("attention")
    b = call.builder
    with_lse = flag_of("attention: return_lse", return_lse)
    nodes = [call.array(label, array) for label, array in (("q", q), ("k", k), ("v", v))]
    q_node, k_node, v_node = nodes
    if any(node.type.rank < 3 for node in nodes):
        raise RopegenError(
            f"attention: q, k, v are {', '.join(str(node.type) for node in nodes)}; give all three as (..., sequence, heads, width)"
        )
    queries, keys = q_node.type.shape[-3], k_node.type.shape[-3]
    if rope is not None:
        _expect_rope(call.name, rope)
    array = mask if isinstance(mask, jax.Array | np.ndarray) else None
    heads, batches = q_node.type.shape[-2], math.prod(q_node.type.shape[:-3])
    shown, scored = captured.split_hidden(captured.called(masks.as_score(score), heads, batches))
    visible = shown if isinstance(mask, jax.Array | np.ndarray) else masks.as_mask(mask) & shown
    ragged = _ragged(q_cu_seqlens, kv_cu_seqlens, call.size(queries), call.size(keys))
    if ragged is not None:
        if q_segments is not None or kv_segments is not None:
            raise RopegenError("attention: segments are given, and q_cu_seqlens says them too; leave one of them out")
        q_segments, kv_segments = ragged[0].segments(padding=-1), ragged[1].segments(padding=-2)
        visible = visible & masks.segments
    segments = {"q": q_segments, "kv": kv_segments}
    reads = expect_reads(call.name, visible, scored, heads, segments)
    compares = rope is not None or {"q_pos", "kv_pos"} <= reads
    is_left_out = q_positions is None and kv_positions is None
    if align is not None and not is_left_out:
        raise RopegenError("attention: align is given, and positions say it too; leave one of them out")
    # In ragged tokens, the mask may compare indices instead of positions where only their differences matter. A plan then
    # knows which tiles are empty.
    by_index = False
    if compares and is_left_out and ragged is not None:
        is_same = ragged[0] is ragged[1]
        if not is_same and align is None:
            raise RopegenError(
                "attention: q_cu_seqlens and kv_cu_seqlens are given, and positions matter; give align='start' if both count "
                "from 0, align='end' if the last query is at the last key, or q_positions and kv_positions"
            )
        by_index = is_same and is_relative(visible) and is_relative(scored)
        if rope is not None or not by_index:
            q_positions = ragged[0].positions(ragged[1] if align == "end" and not is_same else None)
            kv_positions = ragged[1].positions()
    elif compares and is_left_out and align is not None and queries != keys:
        all_queries, all_keys = call.size(queries), call.size(keys)
        first = all_keys - all_queries if align == "end" else 0
        q_positions, kv_positions = counted(all_queries) + first, counted(all_keys)
    if compares and queries != keys and (q_positions is None or kv_positions is None):
        raise RopegenError(
            f"attention: {queries} queries over {keys} keys, and their positions matter; give q_positions and kv_positions, "
            "or align"
        )
    if compares and (q_positions is None) != (kv_positions is None):
        given, missing = ("q", "kv") if kv_positions is None else ("kv", "q")
        raise RopegenError(
            f"attention: {given}_positions are given and {missing}_positions are not, and the two are compared; give both"
        )
    if rope is not None and rope.sections and {"q_pos", "kv_pos"} & reads:
        raise RopegenError(
            f"attention: positions of {len(rope.sections)} axes rotate q and k, and the mask or score reads positions of one axis; "
            "rotate q and k with ropegen.rope first, and give attention the positions of one axis"
        )
    by_position = frozenset[str]() if by_index else reads
    q_at = call.positions("q_positions", q_positions, queries) if rope or "q_pos" in by_position else None
    kv_at = call.positions("kv_positions", kv_positions, keys, queries) if rope or "kv_pos" in by_position else None
    if rope is not None and q_at is not None and kv_at is not None:
        _expect_positions("attention: q_positions", q_at, q_node, rope)
        _expect_positions("attention: kv_positions", kv_at, k_node, rope)
        _expect_magnitude(q_positions, q_node.type.shape[-1], rope)
        _expect_magnitude(kv_positions, k_node.type.shape[-1], rope)
        q_node = b.rope(q_node, q_at, rope, length=length)
        k_node = b.rope(k_node, kv_at, rope, length=length, inverse=rope.scaling.kind == "xpos")
    if by_index:
        q_at, kv_at = (call.positions(f"{side}_indices", None, queries) for side in ("q", "kv"))
    ids = {"q_segments": call.ids("q_segments", q_segments), "kv_segments": call.ids("kv_segments", kv_segments)}
    sequences = math.prod(map(call.size, q_node.type.shape[:-3]))
    captured.expect_one_for_each(call.name, (visible, scored), {"head": heads, "batch": sequences})
    visible, holding = masks.cut(visible)
    if holding:
        at = {name: call.values_of(given) for name, given in (("q_pos", q_at), ("kv_pos", kv_at)) if given is not None}
        at |= {name.removesuffix("s"): call.values_of(given) for name, given in ids.items() if given is not None}
        expect_own_part(call.name, holding, q_at, kv_at)
        whole = () if array is None else (masks.Shown(masks.Held(array)),)
        around = captured.Around(q_node.type, k_node.type, v_node.type, at, call.size, call.numbers)
        array = captured.dense((*whole, *holding), around)
    scored, numbers = captured.numbered(scored, heads, accumulator(numpy_dtype(q_node.type.dtype)))
    reads = masks.variables(visible) | masks.variables(scored)
    options: dict[str, Any] = {
        "mask": visible,
        "score": scored,
        "scale": scale,
        "softcap": softcap,
        "masked_row": masked_row,
        "dropout": rate,
        "seed": None if rate is None else call.seed(dropout_key),
        "q_positions": q_at if "q_pos" in reads else None,
        "kv_positions": kv_at if "kv_pos" in reads else None,
        "q_segments": ids["q_segments"] if "q_segment" in reads else None,
        "kv_segments": ids["kv_segments"] if "kv_segment" in reads else None,
        "bias": call.optional("bias", bias),
        "dense_mask": call.optional("mask", array),
        "sinks": call.optional("sinks", sinks),
        "numbers": call.optional("numbers", numbers),
    }
    outputs = {"out": b.attend(q_node, k_node, v_node, **options)}
    if with_lse:
        outputs["lse"] = b.attend(q_node, k_node, v_node, **options, returns="log_sum_exp")
    results = call.run(outputs, target, tile, sharding)
    out = form.out(results["out"])
    return (out, form.lse(results["lse"])) if with_lse else out


def _heads_are_apart(
    q: Array, k: Array, mask: Mask | Array | np.ndarray, score: Mask, places: tuple[ArrayLike | None, ...]
) -> bool:
    """Whether a head of q (..., H, S, D) is computed as a batch entry would be, from keys of its own."""
    if isinstance(mask, jax.Array | np.ndarray) or any(_rank(x) > 1 for x in places if x is not None):
        return False
    reads = masks.variables(masks.as_mask(mask)) | masks.variables(masks.as_score(score))
    return min(_rank(q), _rank(k)) >= 3 and np.shape(q)[-3] == np.shape(k)[-3] and not {"head", "batch"} & reads


def _rank(x: Any) -> int:
    """The number of axes; that of a scalar for what is no array, which the call refuses."""
    try:
        return np.ndim(x)
    except (TypeError, ValueError):
        return 0


# What a call whose sequence lies over several devices can do instead of what it cannot.
_INSTEAD = {
    "dropout": ", and split the batch or the heads",
    "q_cu_seqlens": ", or give q_segments, kv_segments and positions",
    "align": ", or give q_positions and kv_positions",
}


def _dropout_rate(call: str, dropout: object, key: object) -> float | None:
    """The share of the weights to drop; None if it is 0, which needs no key."""
    if isinstance(dropout, Tracer):
        raise RopegenError(
            f"{call}: dropout is traced by jit, grad or vmap and must be a number; give float(value), taken outside of them"
        )
    known = dropout.item() if isinstance(dropout, jax.Array) and not dropout.ndim else dropout
    rate = number_of(f"{call}: dropout", known, "the share of the weights to drop, such as 0.1")
    expect_rate(f"{call}: dropout", rate)
    if rate and key is None:
        raise RopegenError(
            f"{call}: dropout is {rate:g} and dropout_key is left out; give a key, such as jax.random.key(0)"
        )
    return rate or None


def _ragged(
    q_ends: ArrayLike | None, kv_ends: ArrayLike | None, queries: int, keys: int
) -> tuple[Ragged, Ragged] | None:
    """The sequences of queries and keys; one object if they are the same by declaration. None without `cu_seqlens`."""
    if q_ends is None:
        if kv_ends is not None:
            raise RopegenError(
                "attention: kv_cu_seqlens is given and q_cu_seqlens is not; give both, or q_cu_seqlens alone"
            )
        return None
    of_queries = Ragged.of("attention: q_cu_seqlens", q_ends, queries)
    if kv_ends is None:
        if queries != keys:
            raise RopegenError(
                f"attention: q_cu_seqlens is given for {queries} queries, and there are {keys} keys; give kv_cu_seqlens too"
            )
        return of_queries, of_queries
    of_keys = Ragged.of("attention: kv_cu_seqlens", kv_ends, keys)
    if of_queries.count != of_keys.count:
        raise RopegenError(
            f"attention: q_cu_seqlens says {of_queries.count} sequences and kv_cu_seqlens {of_keys.count}; give as many of both"
        )
    return of_queries, of_keys


def _without_traced_numbers(scale: Any, softcap: Any, q: Any, bias: Any, score: Any) -> tuple[Any, Any, Any, Any, Any]:
    """Scale, soft-cap, q, bias and score, with the same meaning, so that JAX traces neither scale nor soft-cap.

    A traced scale multiplies q, and its product has q's type. A traced cap c is an operand: the score expression reads
    c * tanh(score / c). With a bias, which comes between the two, q and the bias are divided by c before tanh, and their
    sum is multiplied by c after it.
    """
    for what, value in (("scale", scale), ("softcap", softcap)):
        if is_traced(value) and (value.shape or not jnp.issubdtype(value.dtype, np.floating)):
            raise RopegenError(
                f"attention: {what} is {value.dtype.name}{list(value.shape)}; give one float, and one per head as "
                "score=lambda score, head: score * masks.table(values, head)"
            )

    def times(x: Any, factor: Any) -> Any:
        x = jnp.asarray(x)
        return (x * factor.astype(accumulator(x.dtype))).astype(x.dtype)

    if is_traced(scale):
        scale, q = 1.0, times(q, scale)
    if not is_traced(softcap):
        return scale, softcap, q, bias, score
    cap = masks.Captured(masks.Held(softcap), masks.Const(0))
    if bias is None:
        capped = masks.apply("*", cap, masks.apply("tanh", masks.apply("/", masks.identity, cap)))
        return scale, None, q, bias, masks.replaced(masks.as_score(score), masks.identity, capped)
    whole = masks.replaced(masks.as_score(score), masks.identity, masks.apply("*", masks.identity, cap))
    return scale, 1.0, times(q, 1 / softcap), times(bias, 1 / softcap), whole


def expect_own_part(call: str, terms: Iterable[Expr], *positions: Node | None) -> None:
    """Refuses terms of a mask that count heads, sequences or positions from 0 on every device of a `shard_map`."""
    if not inside_shard_map():
        return
    reads = frozenset[str]().union(*map(masks.variables, terms))
    counted = {"q_pos", "kv_pos"} if any(isinstance(at and at.op, ops.Positions) for at in positions) else set[str]()
    if names := sorted(reads & ({"head", "batch"} | counted)):
        raise RopegenError(
            f"{call}: a term of the mask holds a value and reads {', '.join(names)}, which would count from 0 on every device "
            "of this shard_map; give the mask of this part as an array of booleans"
        )


def expect_reads(
    call: str, mask: Expr, score: Expr, heads: int, segments: Mapping[str, ArrayLike | None]
) -> frozenset[str]:
    """The names that a mask and a score read. `segments` are those that are given, for "q" and "kv".

    Raises:
      RopegenError: a table by head with another number of heads, or segments that nothing reads.
    """
    for count in sorted(masks.values_per_head(mask) | masks.values_per_head(score)):
        if count != heads:
            raise RopegenError(
                f"{call}: a table by head in the mask or score has {count} values and q has {heads} heads; give one "
                "value per head, as masks.alibi_slopes(heads) does"
            )
    reads = masks.variables(mask) | masks.variables(score)
    for side, ids in segments.items():
        if ids is not None and f"{side}_segment" not in reads:
            raise RopegenError(
                f"{call}: {side}_segments are given and neither mask nor score reads {side}_segment; add "
                "`& masks.segments` to the mask, or leave them out"
            )
    return reads


def _expect_rope(name: str, given: object) -> None:
    if not isinstance(given, Rope):
        raise RopegenError(f"{name}: rope is {given!r}; give a ropegen.Rope, such as Rope(10000.0, pairing='half')")


def _expect_positions(what: str, at: Node, x: Node, rope: Rope) -> None:
    """Refuses positions unless there is one for every row of x (..., S, H, D), and with sections one for every axis."""
    if x.type.rank < 3:
        return
    axes = (len(rope.sections),) if rope.sections else ()
    lead, rows = x.type.shape[:-3], x.type.shape[-3]
    wanted = dict.fromkeys([(*axes, rows), (*axes, *lead, rows)])
    if at.type.shape not in wanted or at.type.dtype == "i1":
        shapes = " or ".join(map(str, wanted))
        first = f", with the {axes[0]} axes of positions first" if axes else ""
        raise RopegenError(f"{what} are {at.type} for x {x.type}; give numbers of shape {shapes}{first}")


def _expect_magnitude(positions: ArrayLike | None, width: int, rope: Rope) -> None:
    """Refuses positions of the host at which the magnitude of xPos, or its inverse, leaves the range of float32."""
    if positions is not None and not any(isinstance(part, jax.Array) for part in jax.tree.leaves(positions)):
        rope.check_magnitude(positions, width)
