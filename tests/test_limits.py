"""Sizes of 0, and positions at both ends of int32: a result, or a RopegenError."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ropegen as rg
from ropegen import masks
from ropegen.emit.callable import Compiled
from ropegen.ir import ops
from ropegen.types import TensorType

pytestmark = pytest.mark.usefixtures("quick_compilation")

HALF, SECTIONED = rg.Rope(pairing="half"), rg.Rope(pairing="half", sections=(2, 2))
FIRST, LAST = -(2**31), 2**31 - 1
EMPTY, WIDTHLESS = jnp.zeros((1, 0, 2, 8)), jnp.ones((5, 2, 0))

NO_TOKENS: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "rope": (lambda: rg.rope(EMPTY, None, HALF), (1, 0, 2, 8)),
    "interleaved": (lambda: rg.rope(EMPTY, None, rg.Rope(pairing="interleaved")), (1, 0, 2, 8)),
    "sections": (lambda: rg.rope(EMPTY, np.zeros((2, 0)), SECTIONED), (1, 0, 2, 8)),
    "attention": (lambda: rg.attention(EMPTY, EMPTY, EMPTY, rope=HALF, mask=masks.causal), (1, 0, 2, 8)),
    "rope_table": (lambda: rg.rope_table(0, HALF, 8), (0, 8)),
    "Rope.table": (lambda: HALF.table([], 8), (0, 8)),
    "sinusoid": (lambda: rg.sinusoid(0, 8, pairing="half"), (0, 8)),
}


@pytest.mark.parametrize("name", NO_TOKENS)
def test_a_sequence_of_no_tokens_has_a_result_of_no_tokens(name: str) -> None:
    function, shape = NO_TOKENS[name]
    assert function().shape == shape


def test_pairs_of_no_tokens_are_reordered() -> None:
    b = rg.Builder()
    graph = b.build(out=b.apply(ops.ReorderPairs(width=4, dim=4, to="half"), b.input("x", (0, 8), "f32")))
    assert rg.reference.evaluate(graph, {"x": np.zeros((0, 8), np.float32)})["out"].shape == (0, 8)
    assert Compiled(rg.plan(graph, "cpu"))(x=jnp.zeros((0, 8))).shape == (0, 8)


def test_heads_of_no_features_need_a_scale() -> None:
    values = jnp.asarray(np.random.default_rng(0).standard_normal((5, 2, 4)), jnp.float32)
    with pytest.raises(rg.RopegenError, match="give `scale`"):
        rg.attention(WIDTHLESS, WIDTHLESS, values)
    # All scores are 0, so the result is the mean.
    result = rg.attention(WIDTHLESS, WIDTHLESS, values, scale=1.0)
    np.testing.assert_allclose(result, jnp.broadcast_to(values.mean(0), result.shape), atol=1e-6)
    assert rg.attention(values, values, WIDTHLESS).shape == (5, 2, 0)
    with pytest.raises(rg.RopegenError, match="got 0"):
        rg.rope(WIDTHLESS, None, HALF)


@pytest.mark.parametrize("start", [FIRST, LAST - 2])
def test_positions_may_be_any_of_int32(start: int) -> None:
    """As known positions, as positions of two axes, and at run time, against float64."""
    x = np.random.default_rng(0).standard_normal((1, 3, 1, 8)).astype(np.float32)
    at = start + np.arange(3, dtype=np.int64)
    angle = at[:, None] * 10000.0 ** (-2.0 * np.arange(4) / 8)
    first, second = x[0, :, 0, :4].astype(np.float64), x[0, :, 0, 4:]
    wanted = np.concatenate(
        [first * np.cos(angle) - second * np.sin(angle), second * np.cos(angle) + first * np.sin(angle)], axis=-1
    )
    for positions in (at, at[None], jnp.asarray(at, jnp.int32)):
        np.testing.assert_allclose(rg.rope(jnp.asarray(x), positions, HALF)[0, :, 0], wanted, atol=1e-5)


def test_causal_attention_ends_at_the_last_position() -> None:
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 9, 1, 8)), jnp.float32)
    at = np.arange(LAST - 8, LAST + 1)
    run = functools.partial(rg.attention, x, x, x, mask=masks.causal, tile={"attend/xla": {"q": 2, "kv": 4}})
    np.testing.assert_allclose(run(q_positions=at, kv_positions=at), run(), atol=1e-6)
    np.testing.assert_allclose(jax.jit(functools.partial(run, q_positions=at, kv_positions=at))(), run(), atol=1e-6)


@pytest.mark.parametrize(("start", "length"), [(LAST, 1), (LAST, 0), (FIRST, 1), (LAST - 4, 5)])
def test_the_positions_of_a_graph_end_at_the_last_one(start: int, length: int) -> None:
    assert ops.Positions(start=start, length=length).infer() == TensorType((length,), "i32")
    with pytest.raises(rg.RopegenError, match="overflow int32"):
        ops.Positions(start=LAST - length + 2, length=length + 1).infer()
