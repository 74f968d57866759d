"""Llama's attention front-end as the plain formula in bfloat16, with which the tour compares ropegen.

It follows the published architecture and does not use ropegen: it takes the softmax over all S x S scores in float32,
computes angles in float32, and rounds every product to bfloat16.
"""

import functools

import jax
import jax.numpy as jnp

HEADS, KV_HEADS, WIDTH, THETA, EPSILON = 32, 8, 128, 500_000.0, 1e-5


@jax.jit
def llama(ids, embedding, input_norm, q_weight, k_weight, v_weight, o_weight):
    """The output of the front-end: ids (B, S) -> (B, S, 4096)."""
    x = embedding[ids].astype(jnp.float32)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPSILON)
    x = x.astype(embedding.dtype) * input_norm
    multiply = functools.partial(jnp.matmul, preferred_element_type=jnp.bfloat16)
    batch, length, _ = x.shape
    q = multiply(x, q_weight).reshape(batch, length, HEADS, WIDTH)
    k = multiply(x, k_weight).reshape(batch, length, KV_HEADS, WIDTH)
    v = multiply(x, v_weight).reshape(batch, length, KV_HEADS, WIDTH)
    frequencies = THETA ** (-jnp.arange(0, WIDTH, 2, dtype=jnp.float32) / WIDTH)
    angles = jnp.arange(length, dtype=jnp.float32)[:, None] * frequencies
    q, k = rotated(q, angles), rotated(k, angles)
    k, v = (jnp.repeat(x, HEADS // KV_HEADS, axis=2) for x in (k, v))
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32) * WIDTH**-0.5
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v, preferred_element_type=jnp.bfloat16)
    return multiply(mixed.reshape(batch, length, -1), o_weight)


def rotated(x, angles):
    """The heads x (B, S, H, D), rotated by angles (S, D/2); feature j pairs with j + D/2."""
    cos, sin = (table.astype(x.dtype)[:, None] for table in (jnp.cos(angles), jnp.sin(angles)))
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
