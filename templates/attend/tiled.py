"""Attention in tiles of scores, as plain lax: forward, tangent and backward, for any platform that XLA compiles for.

At most one tile of scores of one key head exists at a time, so memory grows with S, not with S * S. The
algorithm is FlashAttention (Dao et al. 2022, 2023): an online softmax in the forward pass, and weights recomputed
from the log-sum-exp in the others. Queries that share a key head are rows of one matmul, so K and V are never repeated.

The mask expression is classified once per tile while tracing (`masks.classify_tiles`): empty tiles cost nothing, and
full tiles have no mask arithmetic. If there are few tiles, they are unrolled, and each reads only the keys that it
needs. If there are many, they run in a loop over a table of the tiles that are not empty.

All arrays are in the layout of `ops.Attend`; `out` is (..., Sq, H, Dv) in q's dtype, or in float32 if `op.partial`. `lse`,
the logarithm of the softmax denominator, is (..., Sq, H) in float32 (float64 for float64).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ropegen.ir.ops import Attend

from .blocks import (
    Block,
    Carry,
    Index,
    Operands,
    Scores,
    Static,
    Tile,
    bits,
    d_sinks,
    dot,
    finite,
    for_heads,
    head_of,
    paste,
    placed,
    poisoned,
    rows_of,
    shift_of,
    site_of,
)
from .sweep import Sweep

__all__ = ["Static", "Tile", "backward", "default_tile", "forward", "tangent"]

# The state of an online softmax: the highest score, the sum of weights and the weighted sum of values of each row.
Softmax: TypeAlias = tuple[Array, Array, Array]

# Forward ------------------------------------------------------------------------------------------------------------


def forward(
    op: Attend, tile: Tile, q: Array, k: Array, v: Array, given: dict[str, Array], static: Static
) -> tuple[Array, Array]:
    """(out, lse) of an attention. `given` has the optional operands by name, as `op.given` says."""
    site = site_of(op, tile, q, k, v, given, static)
    lead, shape = site.lead, (site.batch, site.queries, site.heads)
    if site.is_empty:
        sinks = given.get("sinks", jnp.full((site.heads,), -jnp.inf)).astype(site.wide)
        return jnp.zeros((*q.shape[:-1], site.value_width), site.output), jnp.broadcast_to(sinks, q.shape[:-1])
    q, k, v = map(site.flat, (q, k, v))
    lowest = float(np.finfo(site.wide).min)

    def body(batch: Index, head: Index, carry: Carry) -> Carry:
        keys, values = (head_of(site, x, batch, head).astype(site.multiplied) for x in (k, v))
        mean = jnp.mean(values, 0, keepdims=True, dtype=site.wide) if op.takes_mean else None
        if site.hides:
            keys, values = poisoned(keys, values), finite(values)

        def nothing(count: int) -> Softmax:
            return (
                jnp.full((count,), lowest, site.wide),
                jnp.zeros((count,), site.wide),
                jnp.zeros((count, site.value_width), site.wide),
            )

        def begin(carry: Carry, start: Index, size: int, looped: bool) -> Carry:
            part = head_of(site, q, batch, head, start, size).astype(site.multiplied)
            return part, nothing(size * site.group) if looped else None

        def step(state: tuple[Array, Softmax | None], block: Block) -> Carry:
            part, before = state
            products = dot(part, rows_of(keys, block.kv, block.kv_size), site.wide, (1, 1))
            scores = Scores(site, block, batch, head)
            score = scores.of(products)
            highest = jnp.max(products, 1) * op.scale if scores.are_products else jnp.max(score, 1)
            # The maximum of a row that sees nothing is the lowest finite number, because exp(-inf - lowest) is 0 and
            # not NaN.
            highest = jnp.maximum(highest, lowest if before is None else before[0])
            weight = site.exp(score - highest[:, None])
            total = jnp.sum(weight, 1)
            mixed = dot(
                scores.dropped(weight).astype(site.multiplied), rows_of(values, block.kv, block.kv_size), site.wide
            )
            if before is not None:
                fade = jnp.exp(before[0] - highest)
                total, mixed = before[1] * fade + total, before[2] * fade[:, None] + mixed
            return part, (highest, total, mixed)

        def finish(carry: Carry, state: tuple[Array, Softmax | None], start: Index, size: int) -> Carry:
            out, lse = carry
            highest, total, mixed = state[1] or nothing(size * site.group)
            if "sinks" in given:
                sinks = jnp.tile(rows_of(given["sinks"], head * site.group, site.group).astype(site.wide), size)
                shift = jnp.maximum(jnp.maximum(highest, sinks), lowest)
                fade = jnp.exp(highest - shift)
                highest, total, mixed = shift, total * fade + jnp.exp(sinks - shift), mixed * fade[:, None]
            seen = total != 0  # NaN sees something
            divisor = jnp.where(seen, total, 1.0)
            mixed = mixed / divisor[:, None]
            if mean is not None:
                mixed = jnp.where(seen[:, None], mixed, mean)
            logarithm = jnp.where(seen, highest + jnp.log(divisor), -jnp.inf)
            return placed(site, out, mixed, batch, head, start), placed(site, lse, logarithm, batch, head, start)

        return Sweep(site, batch, by_key=False).run(carry, begin, step, finish)

    carry = bits(jnp.zeros((*shape, site.value_width), site.output)), jnp.zeros(shape, site.wide)
    out, lse = for_heads(site, carry, body)
    out = lax.bitcast_convert_type(out, site.output)
    return out.reshape(*lead, *out.shape[1:]), lse.reshape(*lead, *shape[1:])


# Tangent ------------------------------------------------------------------------------------------------------------


def tangent(
    op: Attend,
    tile: Tile,
    operands: Operands,
    out: Array,
    lse: Array,
    tangents: tuple[Array | None, Array | None, Array | None, dict[str, Array | None]],
    static: Static,
) -> tuple[Array, Array]:
    """(d_out, d_lse) for the tangents of q, k, v, bias and sinks, in which None stands for zero; linear in them.

    With p the weights and ds the tangent of the scores: d_lse = sum p ds, d_out = sum (p ds v + p dv) - d_lse out. With
    dropout, the products with v and dv are of p after it.
    """
    q, k, v, given = operands
    dq, dk, dv, d_given = tangents
    d_bias, sinks_tangent = d_given.get("bias"), d_given.get("sinks")
    site = site_of(op, tile, q, k, v, given, static)
    lead, shape = site.lead, (site.batch, site.queries, site.heads)
    if site.is_empty:
        moved = jnp.broadcast_to(jnp.zeros((site.heads,)) if sinks_tangent is None else sinks_tangent, lse.shape)
        return jnp.zeros_like(out), moved.astype(lse.dtype)
    q, k, v, out, lse = map(site.flat, (q, k, v, out, lse))
    dq, dk, dv = (None if x is None else site.flat(x) for x in (dq, dk, dv))
    given_bias = site.given.get("bias")
    bias_tangent = None
    if given_bias is not None and d_bias is not None:
        bias_tangent = replace(given_bias, array=d_bias.reshape(given_bias.array.shape))

    def body(batch: Index, head: Index, carry: Carry) -> Carry:
        rows, keys, values, results = (head_of(site, x, batch, head).astype(site.multiplied) for x in (q, k, v, out))
        d_rows, d_keys, d_values = (
            None if x is None else head_of(site, x, batch, head).astype(site.multiplied) for x in (dq, dk, dv)
        )
        logarithms = head_of(site, lse[..., None], batch, head)[:, 0]
        d_mean = None
        if op.takes_mean and d_values is not None:
            d_mean = jnp.mean(d_values, 0, keepdims=True, dtype=site.wide)
        if site.hides:
            keys, values = poisoned(keys, values, d_keys, d_values), finite(values)
            d_values = None if d_values is None else finite(d_values)

        def begin(carry: Carry, start: Index, size: int, looped: bool) -> Carry:
            first, count = start * site.group, size * site.group
            read = tuple(None if x is None else rows_of(x, first, count) for x in (rows, d_rows, logarithms))
            none = jnp.zeros((count,), site.wide)
            return read, none, none, jnp.zeros((count, site.value_width), site.wide)

        def step(state: Carry, block: Block) -> Carry:
            (part, d_part, logarithm), total, moved, mixed = state
            k_part, v_part = (rows_of(x, block.kv, block.kv_size) for x in (keys, values))
            scores = Scores(site, block, batch, head)
            scaled = dot(part, k_part, site.wide, (1, 1)) * op.scale
            d_products = jnp.zeros_like(scaled)
            if d_part is not None:
                d_products += dot(d_part, k_part, site.wide, (1, 1))
            if d_keys is not None:
                d_products += dot(part, rows_of(d_keys, block.kv, block.kv_size), site.wide, (1, 1))
            weight, d_score = scores.weights_tangent(
                scaled, d_products * op.scale, bias_tangent, shift_of(logarithm), d_given.get("numbers")
            )
            change = weight * d_score
            # This needs full precision, because `finish` subtracts a number that may be larger than the result.
            mixed += dot(scores.dropped(change), v_part.astype(site.wide), site.wide)
            if d_values is not None:
                mixed += dot(
                    scores.dropped(weight).astype(site.multiplied),
                    rows_of(d_values, block.kv, block.kv_size),
                    site.wide,
                )
            return state[0], total + jnp.sum(weight, 1), moved + jnp.sum(change, 1), mixed

        def finish(carry: Carry, state: Carry, start: Index, size: int) -> Carry:
            (_, _, logarithm), total, moved, mixed = state
            first, count = start * site.group, size * site.group
            if "sinks" in given:
                own_sinks = rows_of(given["sinks"], head * site.group, site.group).astype(site.wide)
                weight = jnp.exp(jnp.tile(own_sinks, size) - shift_of(logarithm))
                total += weight
                if sinks_tangent is not None:
                    own_sinks = rows_of(sinks_tangent, head * site.group, site.group).astype(site.wide)
                    moved += weight * jnp.tile(own_sinks, size)
            # The total is 1, apart from the rounding of the log-sum-exp; the division corrects that.
            total = jnp.where(total != 0, total, 1.0)
            moved = moved / total
            result = mixed / total[:, None] - moved[:, None] * rows_of(results, first, count)
            if op.takes_mean:
                result = jnp.where((logarithm == -jnp.inf)[:, None], 0.0 if d_mean is None else d_mean, result)
            d_out, d_lse = carry
            return placed(site, d_out, result, batch, head, start), placed(site, d_lse, moved, batch, head, start)

        return Sweep(site, batch, by_key=False).run(carry, begin, step, finish)

    carry = bits(jnp.zeros((*shape, site.value_width), site.output)), jnp.zeros(shape, site.wide)
    d_out, d_lse = for_heads(site, carry, body)
    d_out = lax.bitcast_convert_type(d_out, site.output)
    return d_out.reshape(*lead, *d_out.shape[1:]), d_lse.reshape(*lead, *shape[1:])


# Backward -----------------------------------------------------------------------------------------------------------


def backward(
    op: Attend, tile: Tile, operands: Operands, out: Array, lse: Array, d_out: Array, d_lse: Array, static: Static
) -> tuple[Array, Array, Array, dict[str, Array]]:
    """The cotangents of q, k, v and, in a dict, of the bias, sinks and numbers that are given. Every call gives
    the same bits, but for numbers with an index per score on a GPU, which adds them in any order.

    Scores are held as (keys, rows), so that none of the five matmuls reads a tile of scores transposed. With
    the weights p and dp = d_out . v: ds = p (dp - out . d_out + d_lse), dv = p d_out, dk = ds q, dq = ds k. Dropout
    changes dp and, in dv, p.
    """
    q, k, v, given = operands
    site = site_of(op, tile, q, k, v, given, static)
    wide, group = site.wide, site.group
    extra: dict[str, Array] = {}
    # How much the result falls per relative increase of the softmax denominator, (..., Sq, H).
    drag = jnp.sum(out.astype(wide) * d_out.astype(wide), -1) - d_lse.astype(wide)
    if "sinks" in given:
        sinks = given["sinks"]
        extra["sinks"] = d_sinks(sinks.astype(wide), shift_of(lse), drag).astype(sinks.dtype)
    if site.is_empty:
        extra |= {name: jnp.zeros_like(given[name]) for name in ("bias", "numbers") if name in given}
        d_q, d_k, d_v = (jnp.zeros(x.shape, site.output) for x in (q, k, v))
        return d_q, d_k, d_v, extra
    shapes = q.shape, k.shape, v.shape
    q, k, v, d_out, lse, drag = map(site.flat, (q, k, v, d_out, lse, drag))
    d_bias = jnp.zeros(site.given["bias"].array.shape, wide) if "bias" in given else None
    d_numbers = jnp.zeros(given["numbers"].shape, wide) if "numbers" in given else None

    def body(batch: Index, head: Index, carry: Carry) -> Carry:
        rows, keys, values, d_rows = (head_of(site, x, batch, head).astype(site.multiplied) for x in (q, k, v, d_out))
        shift, pull = (head_of(site, x[..., None], batch, head)[:, 0] for x in (shift_of(lse), drag))
        d_mean: Array | float = 0.0
        if op.takes_mean:
            unseen = (shift == jnp.inf).astype(wide)
            d_mean = jnp.sum(d_rows * unseen[:, None], 0, keepdims=True, dtype=wide) / site.keys
        keys_seen = keys
        if site.hides:
            # A row with NaN has the weight NaN at what it sees, and 0 elsewhere.
            shift = poisoned(shift, rows, d_rows, pull[:, None])
            keys_seen = poisoned(keys, values)
            rows, keys, values, d_rows, pull = map(finite, (rows, keys, values, d_rows, pull))
        rows_turned, d_rows_turned, keys_turned = rows.T, d_rows.T, keys.T

        def begin(carry: Carry, start: Index, size: int, looped: bool) -> Carry:
            key_part, value_part = rows_of(keys_seen, start, size), rows_of(values, start, size)
            return (key_part, value_part), jnp.zeros(key_part.shape, wide), jnp.zeros(value_part.shape, wide), carry

        def step(state: Carry, block: Block) -> Carry:
            (key_part, value_part), dk_part, dv_part, (dq_turned, dk, dv, d_bias, d_numbers) = state
            first, count = block.q * group, block.q_size * group
            turned, d_turned = (rows_of(x, first, count, axis=1) for x in (rows_turned, d_rows_turned))
            scores = Scores(site, block, batch, head, keys_first=True)
            scaled = dot(key_part, turned, wide) * op.scale
            weight, cotangents = scores.weights_cotangents(scaled, rows_of(shift, first, count))
            d_weight = scores.dropped(dot(value_part, d_turned, wide))
            d_scaled, d_bias_part, d_numbers_part = cotangents(
                weight * (d_weight - rows_of(pull, first, count)[None, :])
            )
            if d_bias is not None and d_bias_part is not None:
                d_bias = scores.add_part(d_bias, site.given["bias"], d_bias_part)
            if d_numbers is not None and d_numbers_part is not None:
                d_numbers += d_numbers_part
            narrow = d_scaled.astype(site.multiplied)
            dv_part += dot(scores.dropped(weight).astype(site.multiplied), rows_of(d_rows, first, count), wide)
            dk_part += dot(narrow, rows_of(rows, first, count), wide)
            dq_part = dot(rows_of(keys_turned, block.kv, block.kv_size, axis=1), narrow, wide)
            dq_turned = paste(dq_turned, rows_of(dq_turned, first, count, axis=1) + dq_part, (0, first))
            return state[0], dk_part, dv_part, (dq_turned, dk, dv, d_bias, d_numbers)

        def finish(carry: Carry, state: Carry, start: Index, size: int) -> Carry:
            _, dk_part, dv_part, (dq_turned, dk, dv, d_bias, d_numbers) = state
            # The parts are added, because the last tile of a loop overlaps the one before. In the overlap its part is
            # zero.
            dk = paste(dk, rows_of(dk, start, size) + dk_part, (start, 0))
            dv = paste(dv, rows_of(dv, start, size) + dv_part, (start, 0))
            return dq_turned, dk, dv, d_bias, d_numbers

        dq, dk, dv, *sums = carry
        own = (*(jnp.zeros(shape, wide) for shape in (rows_turned.shape, keys.shape, values.shape)), *sums)
        dq_turned, dk_head, dv_head, *sums = Sweep(site, batch, by_key=True).run(own, begin, step, finish)
        dq = placed(site, dq, (dq_turned * op.scale).T, batch, head, 0)
        dk = placed(site, dk, dk_head * op.scale, batch, head, 0)
        dv = placed(site, dv, dv_head + d_mean, batch, head, 0)
        return dq, dk, dv, *sums

    carry = (*(bits(jnp.zeros(x.shape, site.output)) for x in (q, k, v)), d_bias, d_numbers)
    *d_bits, d_bias, d_numbers = for_heads(site, carry, body)
    dq, dk, dv = (lax.bitcast_convert_type(x, site.output) for x in d_bits)
    if d_bias is not None:
        extra["bias"] = d_bias.reshape(given["bias"].shape).astype(wide if site.is_part else given["bias"].dtype)
    if d_numbers is not None:
        extra["numbers"] = d_numbers.astype(wide if site.is_part else given["numbers"].dtype)
    return dq.reshape(shapes[0]), dk.reshape(shapes[1]), dv.reshape(shapes[2]), extra


def default_tile(op: Attend, q_shape: tuple[int, ...], kv_shape: tuple[int, ...]) -> Tile:
    """A tile of 512 x 512 scores per head, for up to four heads at once; it has more keys if there are few queries.

    `q_shape` is (..., Sq, H, D), `kv_shape` (..., Skv, Hkv, D). The sizes were measured on two cores, for widths of 64
    and 128.
    """
    group = max(1, q_shape[-2] // max(1, kv_shape[-2]))
    q = max(1, min(512, 2048 // group, q_shape[-3]))
    return Tile(q, max(1, min(max(512, 512 * 512 // (q * group)), kv_shape[-3])))
