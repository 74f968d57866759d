"""Attention and embedding of `ropegen.penzai` beside penzai's own models and beside float64 NumPy."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("penzai", reason="pip install '.[penzai]' compares with penzai's own layers")

from penzai import pz
from penzai.models.transformer.sampling_mode import KVCachingTransformerLM
from penzai.models.transformer.variants import llamalike_common as llama

import ropegen as rg
import ropegen.penzai
from ropegen.errors import RopegenError
from ropegen.penzai import ApplyAttention, ApplyRoPE, EmbeddingLookup

CONFIG = llama.LlamalikeTransformerConfig(
    num_kv_heads=2,
    query_head_multiplier=2,
    embedding_dim=12,
    projection_dim=8,
    mlp_hidden_dim=16,
    num_decoder_blocks=1,
    vocab_size=11,
    mlp_variant="swiglu",
    tie_embedder_and_logits=True,
    parameter_dtype=jnp.float32,
    activation_dtype=jnp.float32,
)
HEADS = ("heads", "head_groups", "query_heads")


def seen(q_pos: Any, kv_pos: Any) -> Any:
    """The mask of `pz.nn.ApplyCausalAttentionMask`."""
    return (kv_pos <= q_pos) & (kv_pos >= 0)


def near(q_pos: Any, kv_pos: Any) -> Any:
    """The mask of `pz.nn.ApplyCausalSlidingWindowAttentionMask` for a window of 3."""
    return seen(q_pos, kv_pos) & (q_pos - kv_pos < 3)


def fused(theirs: Any, keys: str = "token_positions", **options: Any) -> Any:
    """penzai's attention, or its attention with a cache, with ropegen's layer in the place of products and softmax."""
    layer = ApplyAttention(
        head_axes=HEADS,
        scale=1.0,  # penzai's queries are scaled already
        masked_row="mean",
        query_positions_input_name="token_positions",
        kv_positions_input_name=keys,
        **{"mask": seen, **options},
    )
    return dataclasses.replace(
        theirs,
        query_key_to_attn=pz.nn.Identity(),
        attn_value_to_output=pz.nn.Sequential([layer, *theirs.attn_value_to_output.sublayers[1:]]),
    )


def normal(seed: int, **axes: int) -> Any:
    return pz.nx.wrap(jnp.asarray(np.random.default_rng(seed).standard_normal([*axes.values()]), jnp.float32), *axes)


def expect_close(ours: Any, wanted: Any, tolerance: float = 5e-6) -> None:
    assert ours.named_shape == wanted.named_shape
    assert ours.dtype == wanted.dtype
    axes = tuple(ours.named_shape)
    np.testing.assert_allclose(ours.unwrap(*axes), wanted.unwrap(*axes), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("heads", "options", "config"),
    [
        ((2, 1), {}, {}),
        ((1, 3), {"softcap": 2.0}, {"attn_logits_soft_cap": 2.0}),
        ((2, 2), {"mask": near}, {"attention_type": llama.AttentionTypeSlidingWindowCausal(3)}),
    ],
    ids=["heads", "one key for all, soft-capped", "groups, window"],
)
def test_attention_of_penzai_has_the_same_results_and_gradients(
    heads: tuple[int, int], options: dict[str, Any], config: dict[str, Any]
) -> None:
    sizes = {"num_kv_heads": heads[0], "query_head_multiplier": heads[1]}
    built = llama.build_llamalike_attention("a", jax.random.key(1), dataclasses.replace(CONFIG, **sizes, **config))
    theirs, values = pz.unbind_params(built, freeze=True)
    x = normal(2, batch=2, seq=6, embedding=12)
    # The first tokens of a sequence are padding, as in penzai: a negative position. Their rows see nothing.
    at = pz.nx.wrap(jnp.asarray([[0, 1, 2, 3, 4, 5], [-1, -1, 0, 1, 2, 3]]), "batch", "seq")

    def run(layer: Any) -> Any:
        def total(values: Any, x: Any) -> Any:
            out = pz.bind_variables(layer, values)(x, token_positions=at)
            return pz.nx.nmap(jnp.sum)(jnp.sin(1.0) * out.untag("batch", "seq", "embedding") ** 2).data_array, out

        return jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))(values, x)

    (_, out), gradients = run(fused(theirs, **options))
    (_, wanted), wanted_gradients = run(theirs)
    expect_close(out, wanted)
    for ours, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(wanted_gradients), strict=True):
        np.testing.assert_allclose(ours, other, rtol=2e-4, atol=2e-5)


def test_a_model_of_penzai_with_all_layers_of_ropegen_and_with_a_cache() -> None:
    theirs = llama.build_llamalike_transformer(CONFIG, init_base_rng=jax.random.key(3))
    tokens = pz.nx.wrap(jnp.asarray([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]]), "batch", "seq")

    def converted(model: Any, kind: Any, keys: str) -> Any:
        model = pz.select(model).at_instances_of(kind).apply(lambda layer: fused(layer, keys))
        model = pz.select(model).at_instances_of(pz.nn.ApplyRoPE).apply(ApplyRoPE.from_penzai)
        return pz.select(model).at_instances_of(pz.nn.EmbeddingLookup).apply(EmbeddingLookup.from_penzai)

    at = pz.nx.arange("seq", 5)
    wanted = theirs(tokens, token_positions=at)
    expect_close(converted(theirs, pz.nn.Attention, "token_positions")(tokens, token_positions=at), wanted)
    cached = KVCachingTransformerLM.from_uncached(theirs, cache_len=8, batch_axes={"batch": 2})
    cached = dataclasses.replace(cached, body=converted(cached.body, pz.nn.KVCachingAttention, "kv_token_positions"))
    for part in (pz.slice[:3], pz.slice[3:4], pz.slice[4:5]):
        expect_close(cached(tokens[{"seq": part}]), wanted[{"seq": part}])


# `attention` beside NumPy ------------------------------------------------------------------------------------------------


def softmax64(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def rotated64(x: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Feature j with feature j + D/2, for x (..., S, D) at positions (S,)."""
    half = x.shape[-1] // 2
    angles = at[:, None] / 10_000.0 ** (np.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], -1)


def test_axes_may_have_any_names_and_order() -> None:
    """Two batch axes, one axis of heads for all arrays and two for the query alone, with a mask, bias and positions."""
    q = normal(5, f=8, left=2, own=2, t=3, right=3, h=2, third=1)
    k = normal(6, h=2, t=4, right=3, f=8, left=2)
    v = normal(7, left=2, f=5, right=3, t=4, h=2)
    bias = normal(8, keys=4, own=2, left=2)
    mask = pz.nx.wrap(np.random.default_rng(9).random((3, 4, 3)) < 0.7, "t", "keys", "right")
    at = pz.nx.wrap(jnp.asarray([9, 5, 2]), "t"), pz.nx.wrap(jnp.asarray([4, 9, 0, 3]), "t")
    out = ropegen.penzai.attention(
        q,
        k,
        v,
        seq_axis="t",
        kv_seq_axis="keys",
        head_axes=("own", "h", "third", "absent"),
        projection_axis="f",
        rope=rg.Rope(10_000.0, pairing="half"),
        mask=mask,
        bias=bias,
        q_positions=at[0],
        kv_positions=at[1],
        masked_row="mean",
    )
    assert out.named_shape == {**q.named_shape, "f": 5}

    def wide(x: Any, *axes: str) -> np.ndarray:
        return np.asarray(x.unwrap(*axes), np.float64)

    turned_q = rotated64(wide(q, "left", "right", "h", "own", "third", "t", "f"), np.asarray([9, 5, 2]))
    turned_k = rotated64(wide(k, "left", "right", "h", "t", "f"), np.asarray([4, 9, 0, 3]))
    scores = np.einsum("lrhoztf,lrhsf->lrhozts", turned_q, turned_k) / np.sqrt(8)
    scores += wide(bias, "left", "own", "keys")[:, None, None, :, None, None]
    shown = np.asarray(mask.unwrap("right", "t", "keys"))[None, :, None, None, None]
    weights = softmax64(np.where(shown, scores, -1e30))
    wanted = np.einsum("lrhozts,lrhsf->lrhoztf", weights, wide(v, "left", "right", "h", "t", "f"))
    np.testing.assert_allclose(out.unwrap("left", "right", "h", "own", "third", "t", "f"), wanted, rtol=2e-5, atol=2e-5)


def test_segments_and_functions_of_head_and_batch() -> None:
    q, k, v = (normal(seed, example=2, seq=6, heads=2, projection=4) for seed in (1, 2, 3))
    ids = np.asarray([[0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 1, 1]])

    def mask(q_segment: Any, kv_segment: Any, head: Any, batch: Any, q_pos: Any, kv_pos: Any) -> Any:
        return (q_segment == kv_segment) & ((head == 0) | (batch == 1) | (kv_pos <= q_pos))

    segments = pz.nx.wrap(jnp.asarray(ids), "example", "seq")
    out = ropegen.penzai.attention(q, k, v, mask=mask, q_segments=segments, kv_segments=segments)
    x = [np.asarray(array.unwrap("example", "heads", "seq", "projection"), np.float64) for array in (q, k, v)]
    scores = np.einsum("bhqd,bhkd->bhqk", x[0], x[1]) / 2
    head, batch = np.arange(2)[None, :, None, None], np.arange(2)[:, None, None, None]
    shown = (ids[:, None, :, None] == ids[:, None, None, :]) & ((head == 0) | (batch == 1) | np.tri(6, dtype=bool))
    wanted = np.einsum("bhqk,bhkd->bhqd", softmax64(np.where(shown, scores, -np.inf)), x[2])
    np.testing.assert_allclose(out.unwrap("example", "heads", "seq", "projection"), wanted, rtol=2e-5, atol=2e-5)


def test_a_mask_comes_as_a_side_input() -> None:
    q, k, v = (normal(seed, batch=2, seq=5, projection=4) for seed in (1, 2, 3))
    mask = pz.nx.wrap(np.tri(5, dtype=bool), "seq", "kv_seq")
    out = ApplyAttention(mask_input_name="shown")(((q, k), v), shown=mask)
    expect_close(out, ApplyAttention(mask=rg.masks.causal)(((q, k), v)))


Q = {"batch": 2, "seq": 3, "heads": 2, "projection": 4}


@pytest.mark.parametrize(
    ("key", "options", "words"),
    [
        ({"seq": 3, "heads": 2, "projection": 4}, {}, r"head_axes=\('heads', 'batch'\)"),
        ({**Q, "extra": 2}, {}, "no 'extra'"),
        ({**Q, "heads": 1}, {}, "'heads' has size 2"),
        ({**Q, "projection": 2}, {}, "'projection' has size 4"),
        ({"batch": 2, "heads": 2, "projection": 4}, {}, "seq_axis"),
        ({**Q, "kv_seq": 2}, {}, "kv_seq_axis"),
        (Q, {"head_axes": "seq"}, "names that differ"),
        (Q, {"mask": np.ones((3, 3), bool)}, "pz.nx.wrap"),
        (Q, {"mask": normal(0, seq=3, keys=3)}, "it may have those of"),
        (Q, {"bias": normal(0, seq=3, kv_seq=2)}, "it may have those of"),
        (Q, {"q_positions": normal(0, seq=3, heads=2)}, "it may have those of"),
        (Q, {"q_positions": jnp.arange(3)}, "pz.nx.wrap"),
    ],
)
def test_what_does_not_fit_is_refused(key: dict[str, int], options: dict[str, Any], words: str) -> None:
    k = normal(1, **key)
    with pytest.raises(RopegenError, match=words):
        ropegen.penzai.attention(normal(0, **Q), k, k, **options)


def test_values_that_do_not_fit_the_keys_are_refused() -> None:
    q, v = normal(0, **Q), normal(1, **{**Q, "seq": 4})
    with pytest.raises(RopegenError, match="give both the same"):
        ropegen.penzai.attention(q, q, v)


def test_a_layer_refuses_what_it_cannot_do() -> None:
    q = normal(0, **Q)
    with pytest.raises(RopegenError, match=r"pz.nn.Identity\(\)"):
        ApplyAttention()((q, q))
    with pytest.raises(KeyError, match="token_positions"):
        ApplyAttention(query_positions_input_name="token_positions")(((q, q), q))
    with pytest.raises(RopegenError, match="mask_input_name='mask'"):
        ApplyAttention(mask=np.ones((3, 3), bool))  # type: ignore[arg-type]
    with pytest.raises(RopegenError, match="leave one of them out"):
        ApplyAttention(mask=rg.masks.causal, mask_input_name="mask")
    for layer in (ApplyAttention, lambda target: EmbeddingLookup(None, target=target)):
        with pytest.raises(RopegenError):
            layer(target="abacus")


# Embedding ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "ids"), [(jnp.float32, jnp.int32), (jnp.bfloat16, jnp.int8), (jnp.float32, jnp.uint32)]
)
def test_embedding_gives_the_rows_that_penzai_gives(dtype: Any, ids: Any) -> None:
    table = pz.nn.EmbeddingTable.from_config("e", jax.random.key(0), 100, {"a": 2, "b": 3}, dtype=dtype)
    theirs = pz.nn.EmbeddingLookup(table)
    ours = EmbeddingLookup.from_penzai(theirs)
    assert ours.table is table
    numbers = [[0, 100, 3], [-1, -128, 127]] if ids == jnp.int8 else [[0, 99, 3], [100, 2**31 - 1, 7]]
    if ids == jnp.int32:
        numbers.append([-1, -100, -101])
    at = pz.nx.wrap(jnp.asarray(numbers, ids), "x", "y")
    out, wanted = jax.jit(ours)(at), theirs(at)
    assert list(out.named_shape) == list(wanted.named_shape)
    assert out.dtype == wanted.dtype
    np.testing.assert_array_equal(out.unwrap("x", "y", "a", "b"), wanted.unwrap("x", "y", "a", "b"))


def test_embedding_and_decoding_share_the_parameter_of_a_table() -> None:
    table = pz.nn.EmbeddingTable.from_config("e", jax.random.key(0), 7, {"embedding": 4})
    at = pz.nx.wrap(jnp.asarray([3, 3, 6]), "seq")
    gradients = []
    for lookup in (EmbeddingLookup(table), pz.nn.EmbeddingLookup(table)):
        model, (parameter,) = pz.unbind_params(pz.nn.Sequential([lookup, pz.nn.EmbeddingDecode(table)]), freeze=True)

        def total(parameter: Any, model: Any = model) -> Any:
            out = pz.bind_variables(model, (parameter,))(at)
            return jnp.sum(out.unwrap("seq", "vocabulary") ** 2)

        gradients.append(jax.grad(total)(parameter).value)
    expect_close(gradients[0], gradients[1])


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        (pz.nx.wrap(jnp.arange(2.0), "seq"), "give integers"),
        (pz.nx.wrap(jnp.arange(2), "embedding"), "another name"),
        (jnp.arange(2), "pz.nx.wrap"),
        (pz.nx.wrap(jnp.arange(2)), ".tag"),
    ],
)
def test_ids_that_are_none_are_refused(ids: Any, words: str) -> None:
    table = pz.nn.EmbeddingTable.from_config("e", jax.random.key(0), 7, {"embedding": 4})
    with pytest.raises(RopegenError, match=words):
        EmbeddingLookup(table)(ids)
