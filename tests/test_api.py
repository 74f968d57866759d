"""The plain functions: attention, rope and embed, for programs that have no graph."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ropegen as rg
from ropegen import masks


def drawn(*shape: int, seed: int = 0, dtype: Any = np.float32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def dense(q: Any, k: Any, v: Any, see: Any = True, bias: Any = 0.0, softcap: float | None = None) -> np.ndarray:
    """The formula of attention in float64, for arrays (S, H, D)."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, q.shape[1] // k.shape[1], axis=1) for x in (k, v))
    score = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1])
    score = softcap * np.tanh(score / softcap) if softcap else score
    score = np.where(see, score + bias, -np.inf)
    weight = np.exp(score - score.max(-1, keepdims=True))
    return np.einsum("hqk,khd->qhd", weight / weight.sum(-1, keepdims=True), v)


def turned(x: Any, positions: Any, theta: float) -> np.ndarray:
    """The rotation of x (S, H, D) by halves, in complex numbers."""
    x = np.asarray(x, np.float64)
    half = x.shape[-1] // 2
    turns = np.exp(1j * np.asarray(positions, np.float64)[:, None, None] * theta ** (-np.arange(half) / half))
    complex_numbers = (x[..., :half] + 1j * x[..., half:]) * turns
    return np.concatenate([complex_numbers.real, complex_numbers.imag], axis=-1)


def test_rope() -> None:
    x, at = drawn(7, 2, 8), np.array([0, 5, 5, 100, 3, 2, 1_000_000])
    result = rg.rope(x, at, rg.Rope(500.0, pairing="half"))
    np.testing.assert_allclose(result, turned(x, at, 500.0), atol=2e-6)
    np.testing.assert_allclose(rg.rope(x, None, rg.Rope(500.0, pairing="half")), turned(x, range(7), 500.0), atol=2e-6)


def test_positions_at_run_time_are_as_exact_as_known_ones() -> None:
    x = drawn(64, 1, 16)
    at = np.random.default_rng(1).integers(0, 2**20, 64).astype(np.int32)
    result = jax.jit(lambda at: rg.rope(x, at, rg.Rope(1e4, pairing="half")))(jnp.asarray(at))
    truth = turned(x, at, 1e4)
    assert np.max(np.abs(result - truth)) < 1e-6
    steps = 1e4 ** (-np.arange(0, 16, 2, dtype=np.float32) / np.float32(16))  # the frequencies of a program in float32
    naive = np.cos(at.astype(np.float32)[:, None] * steps)
    exact = np.cos(at.astype(np.float64)[:, None] * 1e4 ** (-np.arange(0, 16, 2) / 16))
    assert np.max(np.abs(naive - exact)) > 1e-3


@pytest.mark.parametrize(
    ("options", "see"),
    [
        ({}, True),
        ({"mask": masks.causal}, lambda i, j: j <= i),
        ({"mask": masks.causal & masks.window(3)}, lambda i, j: (j <= i) & (i - j < 3)),
        ({"mask": lambda q_pos, kv_pos: q_pos // 2 >= kv_pos // 2}, lambda i, j: j // 2 <= i // 2),
        ({"mask": np.tri(9, dtype=bool)}, lambda i, j: j <= i),
    ],
)
def test_attention(options: dict[str, Any], see: Any) -> None:
    q, k, v = drawn(9, 4, 8), drawn(9, 2, 8, seed=1), drawn(9, 2, 6, seed=2)
    grid = np.mgrid[:9, :9]
    np.testing.assert_allclose(
        rg.attention(q, k, v, **options), dense(q, k, v, see(*grid) if callable(see) else see), atol=2e-6
    )


def test_attention_with_everything() -> None:
    q, k, v, bias = drawn(9, 4, 8), drawn(9, 2, 8, seed=1), drawn(9, 2, 6, seed=2), drawn(4, 9, 9, seed=3)
    rope = rg.Rope(50.0, pairing="half")
    grid = np.mgrid[:9, :9]
    wanted = dense(turned(q, range(9), 50.0), turned(k, range(9), 50.0), v, grid[1] <= grid[0], np.asarray(bias), 2.0)
    result = jax.jit(lambda *x: rg.attention(*x[:3], rope=rope, mask=masks.causal, bias=x[3], softcap=2.0))(
        q, k, v, bias
    )
    np.testing.assert_allclose(result, wanted, atol=3e-6)


def test_a_decode_step_matches_its_row_of_prefill() -> None:
    q, k, v = drawn(2, 9, 4, 8), drawn(2, 9, 2, 8, seed=1), drawn(2, 9, 2, 8, seed=2)
    rope, mask = rg.Rope(50.0, pairing="half"), masks.causal & masks.window(4)
    whole = rg.attention(q, k, v, rope=rope, mask=mask)
    for step in (0, 4, 8):
        row = rg.attention(
            q[:, step : step + 1], k, v, rope=rope, mask=mask, q_positions=np.array([step]), kv_positions=np.arange(9)
        )
        np.testing.assert_allclose(row, whole[:, step : step + 1], atol=2e-6)


def test_packed_documents_match_separate_ones() -> None:
    q, k, v = drawn(9, 2, 8), drawn(9, 2, 8, seed=1), drawn(9, 2, 8, seed=2)
    document = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1], np.int32)
    result = rg.attention(q, k, v, mask=masks.causal & masks.segments, q_segments=document, kv_segments=document)
    apart = [rg.attention(q[part], k[part], v[part], mask=masks.causal) for part in (slice(4), slice(4, 9))]
    np.testing.assert_allclose(result, np.concatenate(apart), atol=2e-6)


def test_log_sum_exp_merges_halves() -> None:
    q, k, v = drawn(5, 2, 8), drawn(8, 2, 8, seed=1), drawn(8, 2, 8, seed=2)
    whole, lse = rg.attention(q, k, v, return_lse=True)
    halves = [rg.attention(q, k[part], v[part], return_lse=True) for part in (slice(3), slice(3, 8))]
    merged = np.logaddexp(halves[0][1], halves[1][1])
    np.testing.assert_allclose(lse, merged, atol=2e-6)
    weighted = sum(np.exp(part_lse - merged)[..., None] * out for out, part_lse in halves)
    np.testing.assert_allclose(whole, weighted, atol=2e-6)


def test_sinks_and_rows_that_see_nothing() -> None:
    q, k, v = drawn(3, 2, 4), drawn(3, 2, 4, seed=1), drawn(3, 2, 4, seed=2)
    nothing = np.zeros((3, 3), bool)
    np.testing.assert_array_equal(rg.attention(q, k, v, mask=nothing), np.zeros((3, 2, 4)))
    mean = rg.attention(q, k, v, mask=nothing, masked_row="mean")
    np.testing.assert_allclose(mean, np.broadcast_to(np.mean(np.asarray(v), 0), (3, 2, 4)), atol=1e-6)
    _, lse = rg.attention(q, k, v, return_lse=True)
    sunk = rg.attention(q, k, v, sinks=jnp.array([1.0, -2.0]))
    share = 1 / (1 + np.exp(np.array([1.0, -2.0]) - np.asarray(lse)))
    np.testing.assert_allclose(sunk, share[..., None] * rg.attention(q, k, v), atol=2e-6)


def test_embed() -> None:
    table = drawn(5, 3)
    np.testing.assert_array_equal(rg.embed(np.array([[0, 4], [9, -1]]), table), np.asarray(table)[[[0, 4], [4, 0]]])
    assert np.isnan(rg.embed(np.array([7]), table, mode="fill")).all()
    np.testing.assert_allclose(rg.embed(np.array([2]), table, scale=2.0), 2 * np.asarray(table)[[2]])


def test_gradients_flow_through_the_plain_functions() -> None:
    q, k, v = drawn(6, 2, 8), drawn(6, 1, 8, seed=1), drawn(6, 1, 8, seed=2)
    rope = rg.Rope(50.0, pairing="interleaved", dim=4)

    def loss(q: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(rg.attention(q, k, v, rope=rope, mask=masks.causal)))

    along = drawn(6, 2, 8, seed=5)
    step = 1e-2
    numeric = (loss(q + step * along) - loss(q - step * along)) / (2 * step)
    np.testing.assert_allclose(jnp.vdot(jax.grad(loss)(q), along), numeric, rtol=1e-2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda q: rg.attention(q, q[:3], q[:3], mask=masks.causal), "5 queries over 3 keys"),
        (lambda q: rg.attention(q, q, q, rope=rg.Rope(pairing="half"), q_segments=np.zeros(4, np.int32)), "q_segments"),
        (lambda q: rg.attention(q[0], q, q), "sequence, heads, width"),
        (lambda q: rg.attention(q, q, q, tile={"attend": {"q": 1}}), "attend/xla"),
        (lambda q: rg.rope(q, None, rg.Rope(pairing="half", dim=16)), "16"),
        (lambda q: rg.embed(q, q[0]), "not integers"),
    ],
)
def test_errors(call: Any, words: str) -> None:
    with pytest.raises(rg.RopegenError, match=words):
        call(drawn(5, 2, 8))


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
import ropegen as rg
from jax.sharding import AxisType, PartitionSpec
jax.config.update("jax_num_cpu_devices", 2)
mesh = jax.make_mesh((2,), ("heads",), axis_types=(AxisType.Auto,))
heads = PartitionSpec(None, None, "heads")
q = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 4, 8)), jnp.float32)
k = q[:, :, :2]
attend = lambda q, k, v: rg.attention(q, k, v, rope=rg.Rope(pairing="half"), mask=rg.masks.causal)
sharded = jax.shard_map(attend, mesh=mesh, in_specs=(heads,) * 3, out_specs=heads, check_vma=False)
np.testing.assert_allclose(jax.jit(sharded)(q, k, k), attend(q, k, k), atol=1e-6)
for argument in range(3):
    loss = lambda f: jax.jit(jax.grad(lambda *x: jnp.sum(jnp.sin(f(*x))), argument))(q, k, k)
    np.testing.assert_allclose(loss(sharded), loss(attend), atol=1e-5)
"""


def test_under_shard_map_over_heads() -> None:
    done = subprocess.run([sys.executable, "-c", SHARDED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
