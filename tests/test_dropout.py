"""Dropout in attention: which weights it drops, and what follows for results, gradients and programs."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from independent import keeps

import ropegen as rg
from ropegen import dropout, masks
from ropegen.template import catalog, family

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(7)
BATCH, QUERIES, KEYS, HEADS, WIDTH, RATE = 2, 21, 26, 4, 8, 0.3
SMALL_TILES = {"attend/xla": {"q": 8, "kv": 8}}


def drawn(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def operands() -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The queries, keys, values and sinks; two query heads share a key head."""
    shapes = (BATCH, QUERIES, HEADS, WIDTH), (BATCH, KEYS, 2, WIDTH), (BATCH, KEYS, 2, 6), (HEADS,)
    q, k, v, sinks = (drawn(seed, *shape) for seed, shape in enumerate(shapes))
    return q, k, v, sinks


def attended(q: Any, k: Any, v: Any, sinks: Any, key: Any = KEY, **options: Any) -> Any:
    """(out, lse); every query sees the keys up to 5 positions after its own."""
    return rg.attention(
        q,
        k,
        v,
        sinks=sinks,
        mask=lambda q_pos, kv_pos: kv_pos <= q_pos + 5,
        align="start",
        return_lse=True,
        **{"dropout": RATE, "dropout_key": key, **options},
    )


def formula(q: Any, k: Any, v: Any, sinks: Any, seed: Any) -> Any:
    """(out, lse) with all weights in one array, and the hash as `tests/independent.py` writes it."""
    k, v = (jnp.repeat(x, 2, axis=2) for x in (k, v))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(WIDTH)
    scores = jnp.where(np.arange(KEYS) <= np.arange(QUERIES)[:, None] + 5, scores, -jnp.inf)
    sinks = jnp.broadcast_to(sinks[:, None, None], (*scores.shape[:3], 1))
    lse = jax.nn.logsumexp(jnp.concatenate([scores, sinks], -1), axis=-1)
    place = np.arange(BATCH)[:, None, None, None], np.arange(HEADS)[:, None, None], np.arange(QUERIES)[:, None]
    entry, head, query = map(jnp.asarray, place)
    stays = keeps(seed, (entry, head, query), jnp.arange(KEYS), RATE)
    weights = jnp.where(stays, jnp.exp(scores - lse[..., None]) / (1 - RATE), 0.0)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, v), jnp.swapaxes(lse, 1, 2)


@pytest.mark.parametrize("tile", [None, SMALL_TILES], ids=["one tile", "many tiles"])
def test_results_gradients_and_tangents_are_those_of_the_formula(tile: Any) -> None:
    """The same weights are dropped in every direction, and the log-sum-exp loses none."""
    arrays = operands()
    along = tuple(drawn(10, *x.shape) for x in arrays)
    weights = drawn(8, BATCH, QUERIES, HEADS, 6), drawn(9, BATCH, QUERIES, HEADS)
    seed = jnp.concatenate([jax.lax.bitcast_convert_type(jax.random.key_data(KEY), jnp.int32), jnp.zeros(2, jnp.int32)])

    def everything(function: Any) -> Any:
        def loss(arrays: Any) -> Any:
            return sum(jnp.sum(x * weight) for x, weight in zip(function(*arrays), weights, strict=True))

        return function(*arrays), jax.grad(loss)(arrays), jax.jvp(function, arrays, along)[1]

    made, wanted = jax.jit(
        lambda: (everything(lambda *x: attended(*x, tile=tile)), everything(lambda *x: formula(*x, seed)))
    )()
    for result, expected in zip(*map(jax.tree.leaves, (made, wanted)), strict=True):
        np.testing.assert_allclose(result, expected, atol=2e-5)


def test_the_share_and_the_independence_of_what_is_kept() -> None:
    """Rows, columns, neighbours, heads and keys of the generator are uncorrelated, within five standard deviations."""
    size = 1024
    for rate, words in ((0.1, [0, 0, 0, 0]), (0.5, [0, 1, 0, 0]), (0.75, [123, -4, 0, 0])):

        def deviations(words: list[int], head: int, rate: float = rate) -> np.ndarray:
            rows = dropout.row_words(np, np.int32(words), np.int32(1), np.int32(head), np.arange(size)[:, None])
            kept = dropout.kept(np, rows, np.arange(size), rate)
            return (kept - (1 - rate)) / np.sqrt(rate * (1 - rate))

        x = deviations(words, 0)
        others = (deviations(words, 1), deviations([words[0] + 1, *words[1:]], 0), np.roll(x, 1, 0), np.roll(x, 1, 1))
        for product in (x, *(x * other for other in (*others, np.roll(x, (1, 1), (0, 1)), x.T))):
            assert abs(product.sum()) < 5 * size * np.sqrt(2)
        for axis in (0, 1):
            assert np.mean(x.sum(axis) ** 2) == pytest.approx(size, rel=5 * np.sqrt(2 / size))


def test_the_mean_over_keys_is_attention_without_dropout() -> None:
    q, k, v = (drawn(seed, 4, 1, 4) for seed in range(3))
    keys = jax.random.split(jax.random.key(0), 2000)
    results = jax.jit(jax.vmap(lambda key: rg.attention(q, k, v, dropout=0.4, dropout_key=key)))(keys)
    error = np.asarray(results).std(0) / np.sqrt(len(keys))
    assert np.all(np.abs(results.mean(0) - rg.attention(q, k, v)) < 5 * error)


def test_the_key_decides() -> None:
    arrays = operands()

    @jax.jit
    def run(key: Any) -> Any:
        return attended(*arrays, key=key)[0]

    first = run(KEY)
    np.testing.assert_array_equal(first, run(KEY))
    np.testing.assert_array_equal(first, run(jax.random.PRNGKey(7)))
    different = [run(key) for key in (jax.random.key(8), jax.random.split(KEY)[0], jax.random.key(7, impl="rbg"))]
    assert all(np.abs(first - other).max() > 0.1 for other in different)
    q, k, v, _ = arrays
    without = rg.attention(q, k, v)
    np.testing.assert_array_equal(rg.attention(q, k, v, dropout=0.0, dropout_key=KEY), without)
    np.testing.assert_array_equal(rg.attention(q, k, v, dropout=0), without)


def test_vmap_maps_what_it_is_given() -> None:
    """One key serves all entries, as with `jax.random` itself; mapped keys drop apart."""
    q, k, v, sinks = operands()
    both = jnp.stack([q, 2 * q])
    keys = jnp.stack([KEY, jax.random.key(9)])

    @jax.jit
    def run() -> Any:
        mapped = jax.vmap(lambda q: attended(q, k, v, sinks)[0])(both)
        apart = jax.vmap(lambda q, key: attended(q, k, v, sinks, key=key)[0])(both, keys)
        return mapped, apart, [attended(x, k, v, sinks, key=keys[index])[0] for x in both for index in range(2)]

    mapped, apart, alone = run()
    np.testing.assert_allclose(mapped, [alone[0], alone[2]], atol=1e-6)
    np.testing.assert_allclose(apart, [alone[0], alone[3]], atol=1e-6)


def test_no_array_of_all_weights_exists() -> None:
    size = 2048
    q = jax.ShapeDtypeStruct((size, 1, 8), np.float32)

    def loss(q: Any, key: Any) -> Any:
        return rg.attention(q, q, q, mask=masks.causal, dropout=0.1, dropout_key=key, target="cpu").sum()

    compiled = jax.jit(jax.grad(loss)).lower(q, KEY).compile()
    sizes = [
        np.prod([int(size) for size in shape.split(",")]) for shape in re.findall(r"\[([\d,]+)\]", compiled.as_text())
    ]
    assert max(sizes) < size * size / 2


@pytest.mark.any_jax
def test_kernels_that_cannot_drop_decline() -> None:
    b = rg.Builder("dropped")
    q, seed = b.input("q", (1, 2048, 8, 128), "f32"), b.input("seed", (4,), "i32")
    graph = b.build(out=b.attend(q, q, q, dropout=0.1, seed=seed))
    attend = family("attend")
    (region,) = attend.find(graph)
    site = attend.site(region.closed)
    declined = {
        template.name
        for template in catalog()
        if template.family is attend and "it drops no weights" in template.declines(site, rg.Target.parse("cpu"))
    }
    assert {"llvm_cpu", "mosaic_tpu"} <= declined
    assert not declined & {"xla"}
    assert "drops 10 % of the weights" in rg.plan(graph, "cpu").explain()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dropout": 0.1, "dropout_key": None}, "such as jax.random.key"),
        ({"dropout": 1.0}, "from 0 to below 1"),
        ({"dropout": -0.1}, "from 0 to below 1"),
        ({"dropout": "0.1"}, "give the share"),
        ({"dropout_key": 3}, "give one key"),
        ({"dropout_key": jax.random.split(KEY)}, "give one key"),
        ({"dropout_key": jnp.zeros(2)}, "give one key"),
    ],
)
@pytest.mark.any_jax
def test_errors(options: dict[str, Any], words: str) -> None:
    with pytest.raises(rg.RopegenError, match=words):
        attended(*operands(), **options)


@pytest.mark.any_jax
def test_a_traced_rate_is_refused() -> None:
    with pytest.raises(rg.RopegenError, match="dropout is traced"):
        jax.jit(lambda rate: attended(*operands(), dropout=rate))(0.1)
