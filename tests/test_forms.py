"""The forms in which programs hold attention: heads first, packed, ragged, in parts, and in a wider accumulator."""

from __future__ import annotations

import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ropegen as rg
from ropegen import masks

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROPE = rg.Rope(50.0, pairing="half")


def drawn(seed: int, *shape: int, dtype: Any = np.float32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def formula(q: Any, k: Any, v: Any, see: Any = True) -> np.ndarray:
    """Attention in float64, for q (S, H, D) and as many key heads or fewer; a row that sees nothing is zero."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[1] // k.shape[1], axis=1) for x in (k, v))
    weight = np.exp(np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1])) * see
    total = weight.sum(-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", weight / np.where(total, total, 1), v)


def turned(x: Any, positions: Any) -> np.ndarray:
    """The rotation of x (S, H, D) by halves with theta 50, in complex numbers."""
    x = np.asarray(x, np.float64)
    half = x.shape[-1] // 2
    turns = np.exp(1j * np.asarray(positions, np.float64)[:, None, None] * 50.0 ** (-np.arange(half) / half))
    rotated = (x[..., :half] + 1j * x[..., half:]) * turns
    return np.concatenate([rotated.real, rotated.imag], axis=-1)


# Layout ---------------------------------------------------------------------------------------------------------------


def heads_first(x: Any) -> Any:
    return jnp.swapaxes(x, -2, -3)


def test_heads_first_is_what_jax_computes_from_transposed_arrays() -> None:
    """With grouped queries, a causal mask and gradients."""
    arrays = drawn(0, 2, 4, 9, 8), drawn(1, 2, 2, 9, 8), drawn(2, 2, 2, 9, 8)
    weights = drawn(3, 2, 4, 9, 8)

    def mine(*arrays: Any) -> Any:
        return rg.attention(*arrays, mask=masks.causal, layout="BHSD")

    def theirs(*arrays: Any) -> Any:
        return heads_first(jax.nn.dot_product_attention(*map(heads_first, arrays), is_causal=True))

    @jax.jit
    def both() -> Any:
        return [
            (
                function(*arrays),
                jax.grad(lambda *x, function=function: jnp.sum(function(*x) * weights), (0, 1, 2))(*arrays),
            )
            for function in (mine, theirs)
        ]

    for result, wanted in zip(*map(jax.tree.leaves, both()), strict=True):
        np.testing.assert_allclose(result, wanted, atol=1e-5)


def test_heads_first_with_all_results_and_rope() -> None:
    q, k, v, bias = drawn(0, 2, 4, 9, 8), drawn(1, 2, 2, 9, 8), drawn(2, 2, 2, 9, 6), drawn(3, 2, 4, 9, 9)
    out, lse = rg.attention(q, k, v, rope=ROPE, bias=bias, return_lse=True, layout="BHSD")
    same, its = rg.attention(*map(heads_first, (q, k, v)), rope=ROPE, bias=bias, return_lse=True)
    np.testing.assert_array_equal(out, heads_first(same))
    np.testing.assert_array_equal(lse, jnp.swapaxes(its, 1, 2))
    # With a key head for every head, nothing is transposed: a head is one more batch entry.
    alike = (q, q, q)
    out, lse = rg.attention(*alike, rope=ROPE, mask=masks.causal, return_lse=True, layout="BHSD")
    same, its = rg.attention(*map(heads_first, alike), rope=ROPE, mask=masks.causal, return_lse=True)
    np.testing.assert_allclose(out, heads_first(same), atol=1e-6)
    np.testing.assert_allclose(lse, jnp.swapaxes(its, 1, 2), atol=1e-6)
    plain = rg.attention(q[0], k[0], v[0], layout="BHSD")
    np.testing.assert_allclose(heads_first(plain), formula(*(heads_first(x[0]) for x in (q, k, v))), atol=2e-6)
    np.testing.assert_array_equal(
        rg.rope(q, None, ROPE, layout="BHSD"), heads_first(rg.rope(heads_first(q), None, ROPE))
    )


def test_heads_first_copies_nothing_if_every_head_has_its_own_keys() -> None:
    """The compiled program neither transposes nor copies an operand or the result, whatever XLA would make of a transpose."""
    shape = jax.ShapeDtypeStruct((2, 4, 256, 64), np.float32)
    attend = jax.jit(lambda q, k, v: rg.attention(q, k, v, layout="BHSD", mask=masks.causal, target="cpu"))
    text = attend.lower(shape, shape, shape).compile().as_text()
    assert not re.search(r"transpose\(|f32\[2,\d+,\d+,64\]\S* copy\(", text)


# Packed arrays ----------------------------------------------------------------------------------------------------------


def test_packed_arrays_are_unpacked_in_the_order_of_flash_attention() -> None:
    q, k, v = drawn(0, 2, 9, 4, 8), drawn(1, 2, 9, 4, 8), drawn(2, 2, 9, 4, 8)
    for mine, its in zip(rg.unpack_qkv(jnp.stack([q, k, v], axis=-3)), (q, k, v), strict=True):
        np.testing.assert_array_equal(mine, its)
    for mine, its in zip(rg.unpack_kv(jnp.stack([k, v], axis=-3)), (k, v), strict=True):
        np.testing.assert_array_equal(mine, its)
    columns = [x[..., :heads, :].reshape(2, 9, -1) for x, heads in ((q, 4), (k, 2), (v, 2))]
    grouped = rg.unpack_qkv(jnp.concatenate(columns, -1), heads=4, kv_heads=2)
    for mine, its in zip(grouped, (q, k[..., :2, :], v[..., :2, :]), strict=True):
        np.testing.assert_array_equal(mine, its)
    for mine, its in zip(rg.unpack_kv(jnp.concatenate(columns[1:], -1), kv_heads=2), grouped[1:], strict=True):
        np.testing.assert_array_equal(mine, its)


def test_the_gradient_of_a_packed_array_is_packed() -> None:
    q, k, v = drawn(0, 9, 2, 8), drawn(1, 9, 2, 8), drawn(2, 9, 2, 8)
    weights = drawn(3, 9, 2, 8)

    @jax.jit
    def both() -> Any:
        def loss(*arrays: Any) -> Any:
            return jnp.sum(rg.attention(*arrays, mask=masks.causal) * weights)

        packed = jax.grad(lambda qkv: loss(*rg.unpack_qkv(qkv)))(jnp.stack([q, k, v], axis=-3))
        return packed, jnp.stack(jax.grad(loss, (0, 1, 2))(q, k, v), axis=-3)

    np.testing.assert_allclose(*both(), atol=1e-6)


# Ragged tokens ------------------------------------------------------------------------------------------------------------

ENDS, KEY_ENDS, TOKENS = np.array([0, 5, 5, 12, 17]), np.array([0, 7, 9, 12, 19]), 20


def apart(q: Any, k: Any, v: Any, ends: Any, key_ends: Any, at_end: bool, see: Any, is_turned: bool) -> np.ndarray:
    """Every sequence alone, by the formula; tokens after the last one are zero."""
    out = np.zeros((TOKENS, q.shape[1], v.shape[-1]))
    for (i, j), (a, b) in zip(itertools.pairwise(ends), itertools.pairwise(key_ends), strict=True):
        at, key_at = np.arange(j - i) + (b - a - (j - i) if at_end else 0), np.arange(b - a)
        queries, keys = (turned(x, at) if is_turned else x for x, at in ((q[i:j], at), (k[a:b], key_at)))
        out[i:j] = formula(queries, keys, v[a:b], see(at[:, None], key_at))
    return out


def everything(q_pos: Any, kv_pos: Any) -> Any:
    return np.ones(np.broadcast_shapes(q_pos.shape, kv_pos.shape), bool)


RAGGED: dict[str, tuple[dict[str, Any], Any]] = {
    "all keys": ({}, everything),
    "causal": ({"mask": masks.causal, "rope": ROPE}, lambda q_pos, kv_pos: kv_pos <= q_pos),
    # These chunks begin at the start of every sequence, so positions are not indices.
    "chunked": ({"mask": masks.chunked(3)}, lambda q_pos, kv_pos: q_pos // 3 == kv_pos // 3),
}


@pytest.mark.parametrize("name", RAGGED)
@pytest.mark.parametrize("is_traced", [False, True], ids=["host", "traced"])
def test_ragged_tokens_are_sequences_apart(name: str, is_traced: bool) -> None:
    options, see = RAGGED[name]
    q, k, v = drawn(0, TOKENS, 4, 8), drawn(1, TOKENS, 2, 8), drawn(2, TOKENS, 2, 6)

    def run(ends: Any) -> Any:
        return rg.attention(q, k, v, q_cu_seqlens=ends, **options)

    wanted = apart(q, k, v, ENDS, ENDS, False, see, "rope" in options)
    np.testing.assert_allclose((jax.jit(run) if is_traced else run)(ENDS), wanted, atol=3e-6)


@pytest.mark.parametrize("align", ["start", "end"])
def test_queries_and_keys_may_be_ragged_in_different_ways(align: str) -> None:
    """With "end", the last query of every sequence is at its last key, as in flash-attention."""
    q, k, v = drawn(0, TOKENS, 2, 8), drawn(1, TOKENS, 2, 8), drawn(2, TOKENS, 2, 6)

    def run(ends: Any, key_ends: Any) -> Any:
        return rg.attention(
            q, k, v, q_cu_seqlens=ends, kv_cu_seqlens=key_ends, mask=masks.causal, rope=ROPE, align=align
        )

    wanted = apart(q, k, v, ENDS, KEY_ENDS, align == "end", RAGGED["causal"][1], True)
    np.testing.assert_allclose(jax.jit(run)(ENDS, KEY_ENDS), wanted, atol=3e-6)
    np.testing.assert_allclose(run(ENDS, jnp.asarray(KEY_ENDS)), wanted, atol=3e-6)


def test_a_dense_mask_and_ragged_tokens_both_hide() -> None:
    q = drawn(0, TOKENS, 2, 8)
    dense = np.random.default_rng(1).random((TOKENS, TOKENS)) < 0.7
    sequence = np.repeat([0, 1, 2, 3], [5, 7, 5, 3])
    ends = np.array([0, 5, 12, 17, 20])
    wanted = formula(q, q, q, dense & (sequence[:, None] == sequence))
    np.testing.assert_allclose(rg.attention(q, q, q, mask=dense, q_cu_seqlens=ends), wanted, atol=3e-6)


@pytest.mark.any_jax
def test_a_plan_knows_the_tiles_of_ragged_tokens_under_a_causal_mask() -> None:
    """Only differences of positions matter, so the mask compares indices, which a plan knows."""
    q = jnp.zeros((64, 1, 8))

    def operands(mask: Any) -> int:
        traced = jax.make_jaxpr(lambda ends: rg.attention(q, q, q, q_cu_seqlens=ends, mask=mask))(ENDS)
        (attend,) = (equation for equation in traced.eqns if equation.primitive.name == "attend")
        return len(attend.invars)

    assert operands(masks.causal & masks.window(3)) == 5  # q, k, v and the segments
    assert operands(masks.chunked(3)) == 7  # and the positions


def test_align_says_where_queries_are() -> None:
    q, k = drawn(0, 3, 2, 8), drawn(1, 7, 2, 8)
    see = {"start": np.tri(3, 7, dtype=bool), "end": np.tri(3, 7, 4, dtype=bool)}
    for align, shown in see.items():
        out = rg.attention(q, k, k, mask=masks.causal, align=align)
        np.testing.assert_allclose(out, formula(q, k, k, shown), atol=3e-6)


# Parts ---------------------------------------------------------------------------------------------------------------


def test_parts_merge_to_the_whole_with_gradients() -> None:
    q, k, v = drawn(0, 5, 4, 8), drawn(1, 12, 2, 8), drawn(2, 12, 2, 6)
    weights = drawn(3, 5, 4, 6), drawn(4, 5, 4)

    def parts(q: Any, k: Any, v: Any) -> Any:
        pieces = (slice(0, 3), slice(3, 4), slice(4, 12))
        return rg.merge(rg.attention(q, k[piece], v[piece], return_lse=True) for piece in pieces)

    def everything(function: Any) -> Any:
        def loss(*arrays: Any) -> Any:
            results = function(*arrays)
            return sum(jnp.sum(x * weight) for x, weight in zip(results, weights, strict=True)), results

        return jax.grad(loss, (0, 1, 2), has_aux=True)(q, k, v)

    @jax.jit
    def both() -> Any:
        return everything(parts), everything(lambda *x: rg.attention(*x, return_lse=True))

    for mine, its in zip(*map(jax.tree.leaves, both()), strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-5)


def test_a_row_that_no_part_sees_is_zero_and_has_no_gradient() -> None:
    out, lse = drawn(0, 3, 1, 2), jnp.array([[0.5], [-jnp.inf], [-jnp.inf]])
    nothing = jnp.zeros_like(out), jnp.array([[-jnp.inf], [1.5], [-jnp.inf]])

    def loss(out: Any, lse: Any) -> Any:
        merged, its = rg.merge([(out, lse), nothing])
        return jnp.sum(merged**2) + jnp.sum(jnp.where(its == -jnp.inf, 0.0, its))

    merged, its = rg.merge([(out, lse), nothing])
    np.testing.assert_allclose(merged, np.concatenate([out[:1], np.zeros((2, 1, 2))]), rtol=1e-6)
    np.testing.assert_array_equal(its, [[0.5], [1.5], [-np.inf]])
    gradients = jax.grad(loss, (0, 1))(out, lse)
    assert all(np.all(np.isfinite(gradient)) and not np.any(gradient[1:]) for gradient in gradients)


def test_half_precision_is_merged_in_float32() -> None:
    parts = [(drawn(seed, 4, 2, 8, dtype=jnp.bfloat16), drawn(seed, 4, 2)) for seed in range(3)]
    out, lse = rg.merge(parts)
    assert (out.dtype, lse.dtype) == (jnp.bfloat16, np.float32)
    weights = np.exp(np.array([np.float64(lse) for _, lse in parts]))
    wanted = (weights[..., None] * np.array([np.float64(out) for out, _ in parts])).sum(0) / weights.sum(0)[..., None]
    np.testing.assert_allclose(np.float64(out), wanted, rtol=2**-8, atol=1e-6)


# Accumulation and determinism --------------------------------------------------------------------------------------------


def test_a_float64_accumulator_rounds_once() -> None:
    """Scores that cancel: float32 loses digits that float64 keeps."""
    with jax.enable_x64(True):
        q, k = drawn(0, 6, 1, 64) * 3, drawn(1, 40, 1, 64) * 3
        v = drawn(2, 40, 1, 8)
        wide, lse = rg.attention(q, k, v, accumulate="f64", return_lse=True, scale=0.125)
        assert (wide.dtype, lse.dtype) == (np.float32, np.float64)
        scores = np.einsum("qhd,khd->qhk", np.float64(q), np.float64(k)) / 8
        top = scores.max(-1, keepdims=True)
        weight = np.exp(scores - top)
        wanted = np.einsum("qhk,khd->qhd", weight / weight.sum(-1, keepdims=True), np.float64(v))
        np.testing.assert_allclose(wide, wanted, rtol=2**-23)
        np.testing.assert_allclose(lse, (top + np.log(weight.sum(-1, keepdims=True)))[..., 0], rtol=1e-14)
        narrow = rg.attention(q, k, v, accumulate="f32", scale=0.125)
        assert np.abs(narrow - wanted).max() > 4 * np.abs(wide - wanted).max()


def test_gradients_are_the_same_bits_in_every_call() -> None:
    q, k, v = drawn(0, 2, 70, 4, 16), drawn(1, 2, 70, 2, 16), drawn(2, 2, 70, 2, 16)
    bias, sinks, ids = drawn(3, 1, 4, 70, 70), drawn(4, 4), np.repeat([0, 1], [30, 40])

    def loss(q: Any, k: Any, v: Any, bias: Any, sinks: Any) -> Any:
        return jnp.sum(
            rg.attention(
                q, k, v, bias=bias, sinks=sinks, rope=ROPE, mask=masks.causal & masks.segments,
                q_segments=ids, kv_segments=ids,
            )
            ** 2
        )  # fmt: skip

    gradient = jax.jit(jax.grad(loss, range(5)))
    first, *others = (gradient(q, k, v, bias, sinks) for _ in range(3))
    for other in others:
        for one, two in zip(first, other, strict=True):
            np.testing.assert_array_equal(one, two)


# Refusals ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda q: rg.attention(q, q, q, layout="SBHD"), "layout is 'SBHD'"),
        (lambda q: rg.rope(q, None, ROPE, layout=3), "layout is 3"),
        (lambda q: rg.attention(q, q, q, accumulate="bf16"), "lose digits"),
        (lambda q: rg.attention(q, q, q, accumulate="f64"), "enable_x64"),
        (lambda q: rg.attention(q, q, q, align="left"), "align is 'left'"),
        (lambda q: rg.attention(q, q, q, q_cu_seqlens=[0, 9]), "end at 5 or before"),
        (lambda q: rg.attention(q, q, q, q_cu_seqlens=[0, 3, 2]), "never decrease"),
        (lambda q: rg.attention(q, q, q, q_cu_seqlens=[0.0, 5.0]), "give .N . 1,. integers"),
        (lambda q: rg.attention(q, q, q, kv_cu_seqlens=[0, 5]), "give both, or q_cu_seqlens alone"),
        (lambda q: rg.attention(q, q[:3], q[:3], q_cu_seqlens=[0, 5]), "give kv_cu_seqlens too"),
        (lambda q: rg.attention(q, q, q, q_cu_seqlens=[0, 5], kv_cu_seqlens=[0, 2, 5]), "as many of both"),
        (
            lambda q: rg.attention(q, q, q, q_cu_seqlens=[0, 5], kv_cu_seqlens=[0, 4], mask=masks.causal),
            "give align='start'",
        ),
        (lambda q: rg.attention(q, q, q, q_cu_seqlens=[0, 5], q_segments=np.zeros(5, int)), "says them too"),
        (
            lambda q: rg.attention(q, q, q, mask=masks.causal, align="end", q_positions=np.arange(5)),
            "positions say it too",
        ),
        (rg.unpack_qkv, "3, H, D"),
        (lambda q: rg.unpack_qkv(q, kv_heads=2), "give both"),
        (lambda q: rg.unpack_qkv(q, heads=3), "a multiple of 3 . 3 . 3 heads"),
        (rg.unpack_kv, "2, Hkv, D"),
        (lambda q: rg.unpack_kv(q, kv_heads=0), "at least 1"),
        (lambda q: rg.merge([]), "no part"),
        (lambda q: rg.merge([q]), "give .out, lse."),
        (lambda q: rg.merge([(q, q)]), "without the last"),
        (lambda q: rg.merge([(q, q[..., 0]), (q[:2], q[:2, ..., 0])]), "in one type"),
    ],
)
@pytest.mark.any_jax
def test_errors(call: Any, words: str) -> None:
    with pytest.raises(rg.RopegenError, match=words):
        call(drawn(0, 5, 2, 8))
