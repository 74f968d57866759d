"""Trains a small GPT in Equinox for 50 steps, as it is and with ropegen's layers, and prints both losses.

    python docs/examples/gpt_equinox.py

The model knows nothing of ropegen. `rg.retrofit` puts ropegen's attention and RoPE in the place of Equinox's, with the same
weights. The text is this repository's LICENSE, and its bytes are the tokens. It needs equinox.
"""

from __future__ import annotations

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import ropegen as rg

TEXT = Path(__file__).resolve().parents[2] / "LICENSE"
LENGTH, BATCH, STEPS, RATE = 32, 4, 50, 0.2
WIDTH, HEADS, LAYERS = 32, 4, 2


class Block(eqx.Module):
    """Attention with RoPE, then a feed-forward part; each reads what is normed and adds to its input."""

    attention: eqx.nn.MultiheadAttention
    rope: eqx.nn.RotaryPositionalEmbedding
    norms: tuple[eqx.nn.LayerNorm, eqx.nn.LayerNorm]
    feed_forward: eqx.nn.MLP

    def __init__(self, key: jax.Array) -> None:
        for_attention, for_feed_forward = jax.random.split(key)
        self.attention = eqx.nn.MultiheadAttention(HEADS, WIDTH, key=for_attention)
        self.rope = eqx.nn.RotaryPositionalEmbedding(WIDTH // HEADS)
        self.norms = eqx.nn.LayerNorm(WIDTH), eqx.nn.LayerNorm(WIDTH)
        self.feed_forward = eqx.nn.MLP(WIDTH, WIDTH, 4 * WIDTH, depth=1, activation=jax.nn.gelu, key=for_feed_forward)

    def rotated(self, q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        over_heads = jax.vmap(self.rope, in_axes=1, out_axes=1)
        return over_heads(q), over_heads(k), v

    def __call__(self, x: jax.Array) -> jax.Array:  # x (tokens, width)
        read = jax.vmap(self.norms[0])(x)
        causal = jnp.tri(len(x), dtype=bool)
        x = x + self.attention(read, read, read, mask=causal, process_heads=self.rotated)
        return x + jax.vmap(self.feed_forward)(jax.vmap(self.norms[1])(x))


class GPT(eqx.Module):
    embedding: eqx.nn.Embedding
    blocks: list[Block]
    norm: eqx.nn.LayerNorm

    def __init__(self, key: jax.Array) -> None:
        first, *others = jax.random.split(key, LAYERS + 1)
        self.embedding = eqx.nn.Embedding(weight=0.1 * jax.random.normal(first, (256, WIDTH)))
        self.blocks = [Block(each) for each in others]
        self.norm = eqx.nn.LayerNorm(WIDTH)

    def __call__(self, tokens: jax.Array) -> jax.Array:  # (tokens,) -> (tokens, 256)
        x = jax.vmap(self.embedding)(tokens)
        for block in self.blocks:
            x = block(x)
        return jax.vmap(self.norm)(x) @ self.embedding.weight.T


def loss_of(model: GPT, tokens: jax.Array) -> jax.Array:
    """The mean cross entropy of the next byte, in nats; tokens (batch, length + 1)."""
    scores = jax.nn.log_softmax(jax.vmap(model)(tokens[:, :-1]))
    return -jnp.mean(jnp.take_along_axis(scores, tokens[:, 1:, None], -1))


@eqx.filter_jit
def step(model: GPT, tokens: jax.Array) -> tuple[GPT, jax.Array]:
    loss, gradient = eqx.filter_value_and_grad(loss_of)(model, tokens)
    return eqx.apply_updates(model, jax.tree.map(lambda change: -RATE * change, gradient)), loss


def batches() -> np.ndarray:
    """(steps, batch, length + 1) bytes, from places that are drawn."""
    text = np.frombuffer(TEXT.read_bytes(), np.uint8).astype(np.int32)
    starts = np.random.default_rng(0).integers(0, len(text) - LENGTH, (STEPS, BATCH))
    return text[starts[..., None] + np.arange(LENGTH + 1)]


def train(model: GPT) -> list[float]:
    """The loss of every step."""
    losses = []
    for tokens in batches():
        model, loss = step(model, tokens)
        losses.append(float(loss))
    return losses


def main() -> None:
    model = GPT(jax.random.key(0))
    fused, report = rg.retrofit(model)
    print(report)
    before, after = train(model), train(fused)
    for number in (0, 24, 49):
        print(
            f"step {number + 1:2}: loss {before[number]:.4f} with Equinox's layers, {after[number]:.4f} with ropegen's"
        )
    print(f"largest difference of a step: {max(abs(a - b) for a, b in zip(before, after, strict=True)):.1e}")


if __name__ == "__main__":
    main()
