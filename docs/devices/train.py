"""Trains a small GPT on several devices: `python docs/devices/train.py data|tensor|context [STEPS]` prints every loss.

All three programs are the same function under `jax.jit`. Only the layout of its arrays differs, and the `sharding` of its
attention. To simulate eight devices on a CPU:

    XLA_FLAGS=--xla_force_host_platform_device_count=8 python docs/devices/train.py context
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import ropegen as rg

P = PartitionSpec
AXIS = "devices"
WHOLE = P()
BATCH, LENGTH, VOCABULARY, LAYERS, HEADS, WIDTH = 8, 64, 96, 2, 8, 8
MODEL = HEADS * WIDTH
ROPE = rg.Rope(theta=10_000.0, pairing="half")

Weights = dict[str, Any]


@dataclass(frozen=True)
class Layout:
    """What lies over the devices: the tokens (batch, sequence), the attention (batch, sequence, heads), the weights."""

    tokens: PartitionSpec
    attention: PartitionSpec
    columns: PartitionSpec = WHOLE
    """Of the weights whose columns belong to heads or to hidden features."""
    rows: PartitionSpec = WHOLE
    """Of the weights whose rows belong to heads or to hidden features."""
    is_zigzag: bool = False


LAYOUTS = {
    # Every device has all weights, and some sequences of the batch. The gradients of the weights are added up.
    "data": Layout(P(AXIS), P(AXIS)),
    # Every device has some heads and some hidden features, and all tokens.
    "tensor": Layout(WHOLE, P(None, None, AXIS), columns=P(None, AXIS), rows=P(AXIS)),
    # Every device has two chunks of every sequence. Keys and values visit the devices.
    "context": Layout(P(None, AXIS), P(None, AXIS), is_zigzag=True),
}


def weights(layout: Layout, mesh: Mesh) -> Weights:
    draw = np.random.default_rng(0)

    def drawn(rows: int, columns: int, spec: PartitionSpec) -> jax.Array:
        values = (draw.normal(size=(rows, columns)) / np.sqrt(rows)).astype(np.float32)
        return jax.device_put(values, NamedSharding(mesh, spec))

    layers = [
        {name: drawn(MODEL, MODEL, layout.columns) for name in ("q", "k", "v")}
        | {"out": drawn(MODEL, MODEL, layout.rows)}
        | {"up": drawn(MODEL, 4 * MODEL, layout.columns), "down": drawn(4 * MODEL, MODEL, layout.rows)}
        for _ in range(LAYERS)
    ]
    return {"embedding": drawn(VOCABULARY, MODEL, WHOLE), "layers": layers}


def normed(x: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5)


def loss(model: Weights, tokens: jax.Array, labels: jax.Array, attention: NamedSharding, positions: np.ndarray) -> Any:
    x = rg.embed(tokens, model["embedding"])
    for layer in model["layers"]:
        read = normed(x)
        q, k, v = ((read @ layer[name]).reshape(*x.shape[:2], HEADS, WIDTH) for name in ("q", "k", "v"))
        mixed = rg.attention(
            q,
            k,
            v,
            rope=ROPE,
            mask=rg.masks.causal,
            q_positions=positions,
            kv_positions=positions,
            sharding=attention,
        )
        x = x + mixed.reshape(x.shape) @ layer["out"]
        x = x + jax.nn.gelu(normed(x) @ layer["up"]) @ layer["down"]
    scores = jax.nn.log_softmax(normed(x) @ model["embedding"].T)
    return -jnp.mean(jnp.take_along_axis(scores, labels[..., None], -1))


def train(split: str, steps: int, devices: int | None = None) -> list[float]:
    """The loss of every step."""
    layout = LAYOUTS[split]
    mesh = Mesh(np.array(jax.devices()[:devices]), (AXIS,))
    parts = mesh.size
    draw = np.random.default_rng(1)
    text = draw.integers(0, VOCABULARY, (BATCH, LENGTH + 1)).astype(np.int32)
    tokens, labels, positions = text[:, :-1], text[:, 1:], np.arange(LENGTH)
    if layout.is_zigzag:
        tokens, labels = (np.asarray(rg.zigzag(x, parts)) for x in (tokens, labels))
        positions = np.asarray(rg.zigzag(positions, parts, axis=0))
    place = NamedSharding(mesh, layout.tokens)
    tokens, labels = jax.device_put(tokens, place), jax.device_put(labels, place)
    attention = NamedSharding(mesh, layout.attention)

    @jax.jit
    def step(model: Weights) -> tuple[Weights, Any]:
        value, gradients = jax.value_and_grad(loss)(model, tokens, labels, attention, positions)
        return jax.tree.map(lambda weight, gradient: weight - 0.3 * gradient, model, gradients), value

    model, losses = weights(layout, mesh), list[float]()
    for _ in range(steps):
        model, value = step(model)
        losses.append(float(value))
    return losses


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in LAYOUTS:
        sys.exit(f"usage: train.py {'|'.join(LAYOUTS)} [STEPS]")
    for number, value in enumerate(train(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20)):
        print(f"step {number}: loss {value:.4f}")
