"""Trains a small model of bytes in plain JAX, then writes text with it, one token at a time from a cache.

    python docs/examples/generate.py

The whole text and the single token run the same functions: `rg.rope` and `rg.attention`. Keys are rotated before they go
into the cache. A query is at the position that is next in the cache, and the causal mask hides the rows after it, so it does
not matter what unwritten rows hold.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ropegen as rg

TEXT = Path(__file__).resolve().parents[2] / "LICENSE"
LENGTH, BATCH, STEPS, RATE = 64, 8, 200, 5e-3
HEADS, HEAD, LAYERS, CAPACITY = 4, 16, 2, 64
WIDTH = HEADS * HEAD
ROPE = rg.Rope(10_000.0, pairing="half")

Weights = dict[str, Any]


def weights() -> Weights:
    draw = np.random.default_rng(0)

    def drawn(rows: int, columns: int) -> jax.Array:
        return jnp.asarray(draw.normal(size=(rows, columns)) / np.sqrt(rows), jnp.float32)

    shapes = dict.fromkeys(("q", "k", "v", "out"), (WIDTH, WIDTH))
    shapes |= {"up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH)}
    layers = [{name: drawn(*shape) for name, shape in shapes.items()} for _ in range(LAYERS)]
    return {"embedding": drawn(256, WIDTH), "layers": layers}


def normed(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5)


def heads(x: jax.Array, layer: Weights, positions: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    q, k, v = (((normed(x) @ layer[name]).reshape(*x.shape[:2], HEADS, HEAD)) for name in ("q", "k", "v"))
    return rg.rope(q, positions, ROPE), rg.rope(k, positions, ROPE), v


def added(x: jax.Array, mixed: jax.Array, layer: Weights) -> jax.Array:
    x = x + mixed.reshape(x.shape) @ layer["out"]
    return x + jax.nn.gelu(normed(x) @ layer["up"]) @ layer["down"]


@jax.jit
def scores_of(model: Weights, tokens: jax.Array) -> jax.Array:
    """Scores of the byte after every token, (batch, tokens, 256)."""
    x, positions = rg.embed(tokens, model["embedding"]), jnp.arange(tokens.shape[1])
    for layer in model["layers"]:
        q, k, v = heads(x, layer, positions)
        x = added(x, rg.attention(q, k, v, mask=rg.masks.causal), layer)
    return normed(x) @ model["embedding"].T


@functools.partial(jax.jit, donate_argnums=2)
def next_of(model: Weights, token: jax.Array, cache: jax.Array, position: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The likeliest byte after a token (batch, 1), and the cache (layers, 2, batch, capacity, heads, width) with its row."""
    x, here, rows = rg.embed(token, model["embedding"]), position[None], jnp.arange(CAPACITY)
    for index, layer in enumerate(model["layers"]):
        q, k, v = heads(x, layer, here)
        cache = jax.lax.dynamic_update_slice(cache, jnp.stack([k, v])[None], (index, 0, 0, position, 0, 0))
        keys, values = cache[index]
        mixed = rg.attention(q, keys, values, mask=rg.masks.causal, q_positions=here, kv_positions=rows)
        x = added(x, mixed, layer)
    return jnp.argmax(normed(x) @ model["embedding"].T, -1), cache


@jax.jit
def step(model: Weights, moments: Weights, tokens: jax.Array) -> tuple[Weights, Weights, jax.Array]:
    """One step of Adam (arXiv:1412.6980), without the correction of its first steps."""

    def loss_of(model: Weights) -> jax.Array:
        scores = jax.nn.log_softmax(scores_of(model, tokens[:, :-1]))
        return -jnp.mean(jnp.take_along_axis(scores, tokens[:, 1:, None], -1))

    loss, gradient = jax.value_and_grad(loss_of)(model)
    first = jax.tree.map(lambda mean, change: 0.9 * mean + 0.1 * change, moments["first"], gradient)
    second = jax.tree.map(lambda mean, change: 0.99 * mean + 0.01 * change**2, moments["second"], gradient)
    model = jax.tree.map(lambda weight, m, v: weight - RATE * m / (jnp.sqrt(v) + 1e-8), model, first, second)
    return model, {"first": first, "second": second}, loss


def trained() -> tuple[Weights, list[float]]:
    """The weights after all steps, and the loss of every step."""
    text, model, losses = np.frombuffer(TEXT.read_bytes(), np.uint8).astype(np.int32), weights(), []
    draw, zeros = np.random.default_rng(0), jax.tree.map(jnp.zeros_like, model)
    moments = {"first": zeros, "second": zeros}
    for _ in range(STEPS):
        starts = draw.integers(0, len(text) - LENGTH, BATCH)
        model, moments, loss = step(model, moments, text[starts[:, None] + np.arange(LENGTH + 1)])
        losses.append(float(loss))
    return model, losses


def generate(model: Weights, prompt: bytes) -> bytes:
    """The prompt and the bytes that follow it, until the cache is full."""
    written = list(prompt)
    cache = jnp.zeros((LAYERS, 2, 1, CAPACITY, HEADS, HEAD))
    for position in range(CAPACITY - 1):
        token, cache = next_of(model, jnp.array([[written[position]]]), cache, jnp.int32(position))
        if position + 1 == len(written):
            written.append(int(token[0, 0]))
    return bytes(written)


def main() -> None:
    model, losses = trained()
    print(f"loss {losses[0]:.2f} at first, {losses[-1]:.2f} after {STEPS} steps")
    print(generate(model, b"Licensor ").decode(errors="replace"))


if __name__ == "__main__":
    main()
