"""Models of Equinox and Flax with ropegen's layers in the place of theirs: the same results, weights and gradients."""

from __future__ import annotations

import functools
from typing import Any

import equinox as eqx
import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import ropegen as rg
import ropegen.equinox as rnn
import ropegen.linen
import ropegen.nnx

ALLOWED = 2e-6  # of the largest number, in float32


def drawn(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def expect_close(made: Any, wanted: Any, allowed: float = ALLOWED) -> None:
    """Expects arrays, or trees of arrays, that differ by less than `allowed` times the largest number that is wanted."""
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(wanted))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=allowed * largest), made, wanted)


SIZES: dict[str, Any] = {"num_heads": 4, "in_features": 12, "qkv_features": 32, "decode": False}


def pair(**options: Any) -> tuple[nnx.MultiHeadAttention, ropegen.nnx.MultiHeadAttention]:
    """Flax's layer and ropegen's, from the same random key."""
    given = {**SIZES, **options}
    own = {name: given.pop(name) for name in ("rope", "target") if name in given}
    return (
        nnx.MultiHeadAttention(**given, rngs=nnx.Rngs(3)),
        ropegen.nnx.MultiHeadAttention(**given, **own, rngs=nnx.Rngs(3)),
    )


# `MultiHeadAttention` of NNX ---------------------------------------------------------------------------------------------


MASK = np.random.default_rng(1).random((2, 1, 6, 6)) < 0.6


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({}, {}),
        ({"num_kv_heads": 2, "use_bias": False, "out_features": 5}, {"is_causal": True}),
        ({"normalize_qk": True}, {"mask": MASK}),
        ({}, {"mask": np.concatenate([MASK, ~MASK, MASK, MASK], axis=1), "is_causal": True}),
        ({"dropout_rate": 0.3}, {"deterministic": True}),
    ],
    ids=["plain", "grouped", "normalized", "mask", "dropout is off"],
)
def test_it_gives_what_flax_gives(options: dict[str, Any], call: dict[str, Any]) -> None:
    theirs, ours = pair(**options)
    x = drawn(2, 6, 12)
    states, weights = (
        [nnx.to_pure_dict(nnx.state(layer, kind)) for layer in (theirs, ours)] for kind in (nnx.Variable, nnx.Param)
    )
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
    jax.tree.map(np.testing.assert_array_equal, *weights)
    expect_close(
        nnx.jit(lambda layer, x: layer(x, **call))(ours, x), nnx.jit(lambda layer, x: layer(x, **call))(theirs, x)
    )


def test_it_attends_to_other_inputs_and_has_flax_gradients() -> None:
    theirs, ours = pair(in_kv_features=7)
    x, y = drawn(3, 6, 12), drawn(3, 9, 7, seed=1)

    def loss(layer: Any) -> jax.Array:
        return jnp.sum(jnp.sin(layer(x, y)))

    made, wanted = (nnx.jit(nnx.grad(loss))(layer) for layer in (ours, theirs))
    expect_close(nnx.to_pure_dict(made), nnx.to_pure_dict(wanted), 2e-5)


def test_a_row_that_sees_nothing_gives_the_mean_as_in_flax() -> None:
    theirs, ours = pair()
    x, mask = drawn(2, 6, 12), jnp.asarray(MASK).at[:, :, 2].set(False)
    expect_close(ours(x, mask=mask), theirs(x, mask=mask))


def test_its_cache_gives_what_flax_gives_and_takes_several_tokens() -> None:
    theirs, ours = pair(decode=True, num_kv_heads=2)
    x = drawn(2, 5, 12)
    for layer in (theirs, ours):
        layer.init_cache((2, 8, 12))
    step = nnx.jit(lambda layer, x: layer(x))
    for at in range(5):
        expect_close(step(ours, x[:, at : at + 1]), step(theirs, x[:, at : at + 1]))
    expect_close(ours.cached_key[...], theirs.cached_key[...])
    assert int(ours.cache_index[...]) == 5

    _, several = pair(decode=True, num_kv_heads=2)
    several.init_cache((2, 8, 12))
    whole = several(x, decode=False, is_causal=True)
    expect_close(jnp.concatenate([step(several, x[:, :3]), step(several, x[:, 3:])], axis=1), whole)
    expect_close(several.cached_value[...], theirs.cached_value[...])
    several.init_cache((2, 8, 12))
    allowed = jnp.ones((2, 1, 5, 8), bool).at[:, :, :, 0].set(False).at[:, :, 0, 0].set(True)
    expect_close(several(x, mask=allowed), several(x, decode=False, is_causal=True, mask=allowed[..., :5]))


@pytest.mark.parametrize("scaling", [rg.scaling.none(), rg.scaling.xpos(base=512.0)], ids=["rope", "xpos"])
def test_decode_with_rotary_embedding_is_a_row_of_the_whole(scaling: Any) -> None:
    rope = rg.Rope(100.0, pairing="half", scaling=scaling)
    _, ours = pair(rope=rope, decode=True)
    x = drawn(2, 5, 12)
    whole = ours(x, decode=False, is_causal=True)
    ours.init_cache((2, 8, 12))
    step = nnx.jit(lambda layer, x: layer(x))
    rows = [step(ours, x[:, at : at + 1]) for at in range(5)]
    expect_close(jnp.concatenate(rows, axis=1), whole, 1e-5)

    q, k, v = (project(x) for project in (ours.query, ours.key, ours.value))
    angle = np.arange(5)[:, None] * 100.0 ** -(np.arange(4) / 4)
    if scaling == rg.scaling.none():  # the rotation as it is written in RoFormer, arXiv:2104.09864

        def turned(x: jax.Array) -> jax.Array:
            first, second = jnp.split(x, 2, axis=-1)
            cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
            return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

        out = jax.nn.dot_product_attention(turned(q), turned(k), v, is_causal=True)
        expect_close(whole, ours.out(out.astype(jnp.float32)), 1e-5)


@pytest.mark.any_jax
@pytest.mark.parametrize(
    ("make", "call", "words"),
    [
        ({"dropout_rate": 0.1}, {"deterministic": False}, "dropout drops 0.1 of the weights.*deterministic=True"),
        ({}, {"sow_weights": True}, "sow_weights=True.*Flax's own attention"),
        ({"decode": None}, {}, "decode is not said"),
        ({"decode": True}, {}, "without a cache; call init_cache"),
        ({}, {"inputs_v": drawn(2, 6, 12)}, "inputs_v is given and inputs_k is not"),
        ({"in_features": 9}, {}, "the layer was made for 9 features"),
    ],
)
def test_what_it_does_not_compute_it_refuses(make: dict[str, Any], call: dict[str, Any], words: str) -> None:
    _, ours = pair(**make)
    with pytest.raises(rg.RopegenError, match=words):
        ours(drawn(2, 6, 12), **call)


@pytest.mark.any_jax
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attention_fn": nnx.dot_product_attention}, "attention_fn is given"),
        ({"precision": "highest"}, "precision is 'highest'.*leave precision out"),
        ({"rope": 10_000.0}, "rope is 10000.0; give a ropegen.Rope"),
        ({"rope": rg.Rope(pairing="half", theta=1e4), "qkv_features": 12}, "even"),
        ({"target": "abacus"}, "abacus"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(rg.RopegenError, match=words):
        ropegen.nnx.MultiHeadAttention(**{**SIZES, **options}, rngs=nnx.Rngs(0))


@pytest.mark.any_jax
def test_a_cache_without_room_is_refused() -> None:
    _, ours = pair(decode=True)
    ours.init_cache((2, 4, 12))
    ours(drawn(2, 3, 12))
    with pytest.raises(rg.RopegenError, match="4 rows, 3 are written, and the call writes 2 more"):
        ours(drawn(2, 2, 12))
    with pytest.raises(rg.RopegenError, match="no more than the rows of the cache"):
        ours(drawn(2, 5, 12))
    ours.init_cache((2, 4, 12), dtype=jnp.bfloat16)
    with pytest.raises(
        rg.RopegenError, match="keys are float32 and the cache is bfloat16; call init_cache with dtype=float32"
    ):
        ours(drawn(2, 1, 12))
    with pytest.raises(rg.RopegenError, match="input_positions are given with decode=True"):
        ours(drawn(2, 1, 12), input_positions=np.arange(1))


# `attention_fn` ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [(4, 4), (4, 2)])
def test_attention_functions_give_what_those_of_flax_give(heads: tuple[int, int]) -> None:
    q, k, v = drawn(2, 5, heads[0], 8), drawn(2, 7, heads[1], 8, seed=1), drawn(2, 7, heads[1], 8, seed=2)
    bias, mask = drawn(1, heads[0], 5, 7, seed=3), np.random.default_rng(4).random((2, 1, 5, 7)) < 0.7
    mask[1, 0, 3] = False
    for options in ({}, {"bias": bias}, {"mask": mask, "bias": bias}, {"dtype": jnp.bfloat16}):
        allowed = 1e-2 if "dtype" in options else ALLOWED
        expect_close(
            ropegen.nnx.attention_fn(q, k, v, **options), nnx.dot_product_attention(q, k, v, **options), allowed
        )
        if heads[0] == heads[1]:
            theirs = flax.linen.dot_product_attention(q, k, v, **options)
            expect_close(ropegen.linen.attention_fn(q, k, v, **options), theirs, allowed)
    causal = nnx.dot_product_attention(q, k, v, is_causal=True)
    expect_close(ropegen.nnx.attention_fn(q, k, v, is_causal=True), causal)
    apart = ropegen.nnx.attention_fn(q[1], k[1], v[1], mask=mask[1])
    expect_close(apart, nnx.dot_product_attention(q, k, v, mask=mask)[1])


def test_layers_of_linen_take_it_with_their_cache() -> None:
    theirs, ours = (
        flax.linen.MultiHeadDotProductAttention(num_heads=2, qkv_features=16, decode=True, **options)
        for options in ({}, {"attention_fn": ropegen.linen.attention_fn})
    )
    x = drawn(2, 4, 12)
    variables = theirs.init(jax.random.key(0), x)
    caches = [variables["cache"]] * 2
    for at in range(4):
        results = []
        for index, layer in enumerate((theirs, ours)):
            given = {"params": variables["params"], "cache": caches[index]}
            result, changed = layer.apply(given, x[:, at : at + 1], mutable=["cache"])
            caches[index] = changed["cache"]
            results.append(result)
        expect_close(results[1], results[0])


@pytest.mark.any_jax
@pytest.mark.parametrize("function", [ropegen.nnx.attention_fn, ropegen.linen.attention_fn])
def test_attention_functions_refuse_what_they_do_not_compute(function: Any) -> None:
    q = drawn(1, 3, 2, 4)
    for options, words in (
        ({"dropout_rate": 0.5, "dropout_rng": jax.random.key(0)}, "dropout drops 0.5"),
        ({"module": nnx.Module()}, "sow_weights=True"),
        ({"precision": jax.lax.Precision.HIGHEST}, "leave precision out"),
    ):
        with pytest.raises(rg.RopegenError, match=words):
            function(q, q, q, **options)
    with pytest.raises(rg.RopegenError, match="einsum_dot_general is given"):
        ropegen.linen.attention_fn(q, q, q, einsum_dot_general=jax.lax.dot_general)


# `retrofit` ---------------------------------------------------------------------------------------------------------------


class Special(nnx.MultiHeadAttention):
    pass


class RotaryThing(nnx.Module):
    pass


class Block(nnx.Module):
    """Attention in an attribute, in a list and behind an attention of its own."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.MultiHeadAttention(**SIZES, rngs=rngs)
        self.others = nnx.List(
            [nnx.MultiHeadAttention(**SIZES, num_kv_heads=2, rngs=rngs), Special(**SIZES, rngs=rngs)]
        )
        self.drops = nnx.MultiHeadAttention(**SIZES, dropout_rate=0.1, rngs=rngs)
        self.own = nnx.MultiHeadAttention(**SIZES, attention_fn=flax.linen.dot_product_attention, rngs=rngs)
        self.rotary = RotaryThing()
        self.self_attention = Wrapper(self.first)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in (self.first, *self.others, self.self_attention):
            x = x + layer(x)
        return x + self.drops(x, deterministic=True)


class Wrapper(nnx.Module):
    def __init__(self, inner: nnx.Module) -> None:
        self.inner = inner

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.inner(x)  # pyright: ignore[reportCallIssue]


def test_a_model_of_nnx() -> None:
    model = Block(nnx.Rngs(0))
    original, kernel = nnx.clone(model), model.first.query.kernel
    changed, report = rg.retrofit(model, target="cpu")
    assert changed is model
    assert changed.first.query.kernel is kernel
    assert changed.self_attention.inner is changed.first
    assert {layer.path: layer.by for layer in report.replaced} == dict.fromkeys(
        (".first", ".others[0]"), "ropegen.nnx.MultiHeadAttention"
    )
    assert {layer.path: layer.why.partition(";")[0] for layer in report.left} == {
        ".others[1]": "it is a subclass of MultiHeadAttention, which may compute something else",
        ".drops": "its dropout of 0.1 needs all the weights, which Flax's function computes",
        ".own": "its attention_fn is dot_product_attention, which may compute something else",
        ".rotary": "it is a class of its own",
    }
    assert str(report).startswith(
        "2 replaced, 4 left\n  .first (flax.nnx.MultiHeadAttention): replaced by ropegen.nnx.Mul"
    )
    x = drawn(2, 6, 12)
    run = nnx.jit(lambda model, x: model(x))
    expect_close(run(changed, x), run(original, x), 1e-5)
    assert [layer.path for layer in rg.retrofit(changed)[1].replaced] == []


def test_layers_without_active_dropout_and_the_model_itself() -> None:
    layer = nnx.MultiHeadAttention(**SIZES, dropout_rate=0.1, rngs=nnx.Rngs(0))
    layer.eval()
    x = drawn(2, 6, 12)
    before = layer(x)
    changed, report = rg.retrofit(layer)
    assert (report.replaced[0].path, type(changed)) == ("", ropegen.nnx.MultiHeadAttention)
    expect_close(changed(x), before)
    changed.train()
    with pytest.raises(rg.RopegenError, match=r"dropout drops 0\.1"):
        changed(x)
    assert isinstance(nnx.merge(*nnx.split(changed)), ropegen.nnx.MultiHeadAttention)


@pytest.mark.skipif(not hasattr(nnx, "RoPE"), reason="this flax has no RoPE")
def test_rotary_embedding_of_nnx() -> None:
    rope = nnx.RoPE(theta=100.0)  # pyright: ignore[reportAttributeAccessIssue]
    function = functools.partial(nnx.dot_product_attention_with_rope, rope=rope)  # pyright: ignore[reportAttributeAccessIssue]
    layer = nnx.MultiHeadAttention(**SIZES, attention_fn=function, rngs=nnx.Rngs(0))
    x = drawn(2, 6, 12)
    before, turned = layer(x), rope(x)
    changed, report = rg.retrofit(layer)
    assert changed.rope == rg.Rope(100.0, pairing="half", angles="f32")
    assert "theta 100" in str(report)
    expect_close(changed(x), before, 1e-5)
    changed, report = rg.retrofit(rope)
    assert report.replaced[0].by == "ropegen.nnx.RoPE"
    expect_close(changed(x), turned, 1e-5)


def test_rope_of_nnx_is_the_formula() -> None:
    x, at = drawn(2, 6, 8), np.array([3, 0, 7, 7, 100, 2])
    angle = at[:, None] * 50.0 ** -(np.arange(4) / 4)
    first, second = np.split(np.asarray(x, np.float64), 2, axis=-1)
    wanted = np.concatenate(
        [first * np.cos(angle) - second * np.sin(angle), second * np.cos(angle) + first * np.sin(angle)], -1
    )
    layer = ropegen.nnx.RoPE(50.0, embedding_size=8, max_seq_len=200)
    expect_close(layer(x, at), wanted, 1e-5)
    expect_close(layer(x), layer(x, np.arange(6)), 1e-6)
    with pytest.raises(rg.RopegenError, match="even"):
        ropegen.nnx.RoPE(50.0, embedding_size=7, max_seq_len=200)


class OwnAttention(eqx.Module):
    """Attention of one's own, which is reported, and one around equinox's, which is not."""

    inner: Any

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.inner(x, x, x) if isinstance(self.inner, eqx.Module) else x


class Decoder(eqx.Module):
    layers: list[Any]
    rotary: eqx.nn.RotaryPositionalEmbedding
    table: eqx.nn.Embedding

    def __call__(self, ids: jax.Array) -> jax.Array:
        x = jax.vmap(self.table)(ids)
        for layer in self.layers:
            x = x + layer(self.rotary(x))
        return x


def test_a_model_of_equinox() -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    layers = [
        OwnAttention(eqx.nn.MultiheadAttention(2, 8, key=keys[0])),
        OwnAttention(eqx.nn.MultiheadAttention(2, 8, dropout_p=0.2, inference=True, key=keys[1])),
        OwnAttention(3),
    ]
    model = Decoder(layers, eqx.nn.RotaryPositionalEmbedding(8), eqx.nn.Embedding(9, 8, key=keys[2]))
    changed, report = rg.retrofit(model)
    assert type(model.layers[0].inner) is eqx.nn.MultiheadAttention
    assert changed.layers[0].inner.query_proj.weight is model.layers[0].inner.query_proj.weight
    assert [(layer.path, layer.by) for layer in report.replaced] == [
        (".layers[0].inner", "ropegen.equinox.MultiheadAttention"),
        (".layers[1].inner", "ropegen.equinox.MultiheadAttention"),
        (".rotary", "ropegen.equinox.RotaryPositionalEmbedding"),
    ]
    assert [(layer.path, layer.why.partition(";")[0]) for layer in report.left] == [
        (".layers[2]", "it is a class of its own")
    ]
    assert "while its dropout is active" in str(report)
    ids = jnp.asarray([1, 8, 0, 3])
    made, wanted = (
        eqx.filter_jit(eqx.filter_value_and_grad(lambda m: jnp.sum(m(ids) ** 2)))(m) for m in (changed, model)
    )
    expect_close(jax.tree.leaves(made), jax.tree.leaves(wanted), 2e-5)
    assert [layer.why for layer in rg.retrofit(changed)[1].left][:1] == ["it is ropegen's already"]
    assert isinstance(changed.rotary, rnn.RotaryPositionalEmbedding)


@pytest.mark.any_jax
def test_what_is_no_model_is_refused() -> None:
    for model, words in (
        ({"w": drawn(2)}, "the model is a builtins.dict; give a model of equinox or flax.nnx"),
        (flax.linen.Dense(3), "of flax.linen.*attention_fn=ropegen.linen.attention_fn"),
        (3, "builtins.int"),
    ):
        with pytest.raises(rg.RopegenError, match=words):
            rg.retrofit(model)
    assert "has no attention or RoPE layer" in str(rg.retrofit(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))[1])


@pytest.mark.parametrize("options", [{}, {"dtype": jnp.bfloat16}, {"param_dtype": jnp.bfloat16}], ids=str)
@pytest.mark.parametrize("rows", [5, 1])
def test_embed_of_nnx(rows: int, options: dict[str, Any]) -> None:
    ours, theirs = (kind(rows, 4, **options, rngs=nnx.Rngs(1)) for kind in (ropegen.nnx.Embed, nnx.Embed))
    ids = jnp.asarray([[0, 4, -1], [-5, 5, 2**31 - 1]])
    assert ours(ids).dtype == theirs(ids).dtype
    np.testing.assert_array_equal(*(np.asarray(layer(ids), np.float32) for layer in (ours, theirs)))  # NaN of both
    query = drawn(2, 4)
    np.testing.assert_array_equal(ours.attend(query), theirs.attend(query))
    inside = ids % rows
    gradients = (nnx.grad(lambda layer: jnp.sum(layer(inside) ** 2))(layer) for layer in (ours, theirs))
    for one, other in zip(*(jax.tree.leaves(gradient) for gradient in gradients), strict=True):
        np.testing.assert_allclose(one.astype(jnp.float32), other.astype(jnp.float32), rtol=1e-2, atol=1e-6)
    nnx.update(ours, nnx.state(theirs))  # one state tree
    with pytest.raises(rg.RopegenError, match="give integers"):
        ours(jnp.ones(3))
    with pytest.raises(rg.RopegenError, match="leave it out"):
        ours(ids, out_sharding="data")
