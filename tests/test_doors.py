"""The doors to `ropegen.attention`: the same weights and inputs give the same results, and those of float64 NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("equinox", reason="pip install '.[seeds]' has the libraries of all doors")
pytest.importorskip("flax", reason="pip install '.[seeds]' has the libraries of all doors")
pytest.importorskip("penzai", reason="pip install '.[seeds]' has the libraries of all doors")

import equinox as eqx
from flax import nnx
from penzai import pz

import ropegen as rg
import ropegen.equinox
import ropegen.nnx
from ropegen.penzai import ApplyAttention

BATCH, LENGTH, HEADS, WIDTH = 2, 7, 4, 8
FEATURES = HEADS * WIDTH
ROPE = rg.Rope(10_000.0, pairing="half")

Weights = dict[str, np.ndarray]


def drawn(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def weights() -> Weights:
    """The projections of query, key and value and of the result, all (features in, features out)."""
    return {name: drawn(FEATURES, FEATURES, seed=i) / 5 for i, name in enumerate(("query", "key", "value", "output"))}


def plain(weights: Weights) -> Callable[[jax.Array], jax.Array]:
    def run(x: jax.Array) -> jax.Array:
        heads = (*x.shape[:-1], HEADS, WIDTH)
        q, k, v = ((x @ weights[name]).reshape(heads) for name in ("query", "key", "value"))
        out = rg.attention(q, k, v, rope=ROPE, mask=rg.masks.causal)
        return out.reshape(x.shape) @ weights["output"]

    return run


def equinox(weights: Weights) -> Callable[[jax.Array], jax.Array]:
    made = ropegen.equinox.MultiheadAttention(HEADS, FEATURES, key=jax.random.key(0))
    layer = eqx.tree_at(
        lambda made: tuple(getattr(made, f"{name}_proj").weight for name in weights),
        made,
        tuple(jnp.asarray(weight.T) for weight in weights.values()),  # equinox has (out, in)
    )
    rotary = ropegen.equinox.RotaryPositionalEmbedding(WIDTH)
    turn = jax.vmap(rotary, in_axes=1, out_axes=1)

    def run(x: jax.Array) -> jax.Array:
        mask = np.tri(LENGTH, dtype=bool)
        return layer(x, x, x, mask, process_heads=lambda q, k, v: (turn(q), turn(k), v))

    return jax.vmap(run)


def flax(weights: Weights) -> Callable[[jax.Array], jax.Array]:
    layer = ropegen.nnx.MultiHeadAttention(HEADS, FEATURES, rope=ROPE, use_bias=False, decode=False, rngs=nnx.Rngs(0))
    for name in ("query", "key", "value"):
        getattr(layer, name).kernel[...] = weights[name].reshape(FEATURES, HEADS, WIDTH)
    layer.out.kernel[...] = weights["output"].reshape(HEADS, WIDTH, FEATURES)
    return lambda x: layer(x, is_causal=True)


def penzai(weights: Weights) -> Callable[[jax.Array], jax.Array]:
    heads = {"heads": HEADS, "projection": WIDTH}

    def linear(name: str, inside: dict[str, int], outside: dict[str, int]) -> Any:
        layer = pz.nn.Linear.from_config(name, jax.random.key(0), inside, outside)
        array = weights[name].reshape(*inside.values(), *outside.values())
        layer.weights.value = pz.nx.wrap(jnp.asarray(array), *inside, *outside)
        return layer

    layer = pz.nn.Attention(
        *(linear(name, {"embedding": FEATURES}, heads) for name in ("query", "key", "value")),
        query_key_to_attn=pz.nn.Identity(),
        attn_value_to_output=pz.nn.Sequential(
            [ApplyAttention(rope=ROPE, mask=rg.masks.causal), linear("output", heads, {"embedding": FEATURES})]
        ),
    )
    axes = ("batch", "seq", "embedding")
    return lambda x: layer(pz.nx.wrap(x, *axes)).unwrap(*axes)


DOORS = (plain, equinox, flax, penzai)


def formula(weights: Weights, x: np.ndarray) -> np.ndarray:
    """Attention with rotary embedding of x (B, S, E), causal, in float64."""
    q, k, v = (
        (x.astype(np.float64) @ weights[name]).reshape(BATCH, LENGTH, HEADS, WIDTH)
        for name in ("query", "key", "value")
    )
    angles = (np.arange(LENGTH)[:, None] / 10_000.0 ** (np.arange(WIDTH // 2) / (WIDTH // 2)))[:, None]

    def rotated(heads: np.ndarray) -> np.ndarray:
        turned = (heads[..., : WIDTH // 2] + 1j * heads[..., WIDTH // 2 :]) * np.exp(1j * angles)
        return np.concatenate([turned.real, turned.imag], -1)

    scores = np.einsum("bqhd,bkhd->bhqk", rotated(q), rotated(k)) / np.sqrt(WIDTH)
    powers = np.exp(scores - scores.max(-1, keepdims=True)) * np.tri(LENGTH)
    out = np.einsum("bhqk,bkhd->bqhd", powers / powers.sum(-1, keepdims=True), v)
    return out.reshape(x.shape) @ weights["output"]


def test_all_doors_give_the_same_results_and_gradients(weights: Weights) -> None:
    x = drawn(BATCH, LENGTH, FEATURES, seed=9)
    away = drawn(BATCH, LENGTH, FEATURES, seed=10)
    wanted = formula(weights, x)
    direction = (formula(weights, x + 1e-4 * away) - formula(weights, x - 1e-4 * away)).sum() / 2e-4
    results, gradients = [], []
    for door in DOORS:
        out, pull = jax.vjp(jax.jit(door(weights)), x)
        (gradient,) = pull(jnp.ones_like(out))
        np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose((np.asarray(gradient, np.float64) * away).sum(), direction, rtol=1e-3)
        results.append(out)
        gradients.append(gradient)
    for one, other in zip(results[1:] + gradients[1:], [results[0]] * 3 + [gradients[0]] * 3, strict=True):
        np.testing.assert_allclose(one, other, rtol=4e-6, atol=4e-6)


def test_behind_exact_projections_the_bits_are_equal(weights: Weights) -> None:
    """With projections that keep every number, what the doors give to `ropegen.attention` has equal bits."""
    unit = {name: np.eye(FEATURES, dtype=np.float32) for name in weights}
    x = drawn(BATCH, LENGTH, FEATURES, seed=11)
    results = [np.asarray(door(unit)(x)) for door in DOORS]
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
