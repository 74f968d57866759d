"""Trains a small GPT in Flax NNX for 50 steps, as it is and with ropegen's layers, and prints both losses.

    python docs/examples/gpt_nnx.py

`rg.retrofit` changes a model of NNX where it is, so the model that stays as it was is a clone. The text is this
repository's LICENSE, and its bytes are the tokens. It needs flax.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import ropegen as rg

TEXT = Path(__file__).resolve().parents[2] / "LICENSE"
LENGTH, BATCH, STEPS, RATE = 32, 4, 50, 1e-2
WIDTH, HEADS, LAYERS = 32, 4, 2


class Block(nnx.Module):
    """Attention, then a feed-forward part; each reads what is normed and adds to its input."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.norms = nnx.List([nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(2)])
        self.up = nnx.Linear(WIDTH, 4 * WIDTH, rngs=rngs)
        self.down = nnx.Linear(4 * WIDTH, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:  # x (batch, tokens, width)
        x = x + self.attention(self.norms[0](x), mask=nnx.make_causal_mask(x[..., 0]))
        return x + self.down(nnx.gelu(self.up(self.norms[1](x))))


class GPT(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embedding = nnx.Embed(256, WIDTH, rngs=rngs)
        self.positions = nnx.Embed(LENGTH, WIDTH, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(LAYERS)])
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:  # (batch, tokens) -> (batch, tokens, 256)
        x = self.embedding(tokens) + self.positions(jnp.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.embedding.attend(self.norm(x))


def loss_of(model: GPT, tokens: jax.Array) -> jax.Array:
    """The mean cross entropy of the next byte, in nats; tokens (batch, length + 1)."""
    scores = model(tokens[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(scores, tokens[:, 1:]).mean()


@nnx.jit
def step(model: GPT, optimizer: nnx.Optimizer, tokens: jax.Array) -> jax.Array:
    loss, gradient = nnx.value_and_grad(loss_of)(model, tokens)
    optimizer.update(model, gradient)
    return loss


def batches() -> np.ndarray:
    """(steps, batch, length + 1) bytes, from places that are drawn."""
    text = np.frombuffer(TEXT.read_bytes(), np.uint8).astype(np.int32)
    starts = np.random.default_rng(0).integers(0, len(text) - LENGTH, (STEPS, BATCH))
    return text[starts[..., None] + np.arange(LENGTH + 1)]


def train(model: GPT) -> list[float]:
    """The loss of every step."""
    optimizer = nnx.Optimizer(model, optax.adam(RATE), wrt=nnx.Param)
    return [float(step(model, optimizer, tokens)) for tokens in batches()]


def main() -> None:
    model = GPT(nnx.Rngs(0))
    fused, report = rg.retrofit(nnx.clone(model))
    print(report)
    before, after = train(model), train(fused)
    for number in (0, 24, 49):
        print(f"step {number + 1:2}: loss {before[number]:.4f} with Flax's layers, {after[number]:.4f} with ropegen's")
    print(f"largest difference of a step: {max(abs(a - b) for a, b in zip(before, after, strict=True)):.1e}")


if __name__ == "__main__":
    main()
