"""What k and v hold where a mask hides them: any finite number, which changes nothing, not even the last bit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ropegen as rg
from ropegen import masks

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROWS, FIRST = 48, 20  # the rows of both documents, and those of the first
DOCUMENTS = np.repeat([0, 1], [FIRST, ROWS - FIRST])
Q, K, V = (jnp.asarray(np.random.default_rng(seed).standard_normal((1, ROWS, 2, 8)), jnp.float32) for seed in range(3))
TILES: list[Any] = [None, {"attend/xla": {"q": 16, "kv": 16}}, {"attend/xla": {"q": ROWS, "kv": ROWS}}]


def of_first(q: Any, k: Any, v: Any, tile: Any) -> Any:
    """The rows of the first document, packed with another."""
    mask = masks.causal & masks.segments
    return rg.attention(q, k, v, mask=mask, q_segments=DOCUMENTS, kv_segments=DOCUMENTS, tile=tile)[:, :FIRST]


def alone(q: Any, k: Any, v: Any) -> Any:
    return rg.attention(q[:, :FIRST], k[:, :FIRST], v[:, :FIRST], mask=masks.causal)


def second_replaced(x: Any, value: float) -> Any:
    return x.at[:, FIRST + 3 :].set(value)


def gradients(function: Any, *operands: Any) -> Any:
    return jax.grad(lambda q, k, v: (function(q, k, v) ** 2).sum(), (0, 1, 2))(*operands)


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_finite_numbers_of_any_size_in_hidden_keys_and_values_change_nothing(tile: Any) -> None:
    def run(q: Any, k: Any, v: Any) -> Any:
        return of_first(q, k, v, tile)

    k, v = second_replaced(K, 1e15), second_replaced(V, -1e30)
    np.testing.assert_array_equal(run(Q, k, v), run(Q, K, V))
    np.testing.assert_allclose(run(Q, k, v), alone(Q, K, V), atol=1e-6)
    for gradient, wanted, single in zip(
        gradients(run, Q, k, v), gradients(run, Q, K, V), gradients(alone, Q, K, V), strict=True
    ):
        np.testing.assert_array_equal(gradient, wanted)
        np.testing.assert_allclose(gradient[:, :FIRST], single[:, :FIRST], atol=1e-5)
        assert not np.any(gradient[:, FIRST:])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_hidden_keys_that_are_not_finite_do_not_change_the_result(tile: Any, value: float) -> None:
    np.testing.assert_array_equal(of_first(Q, second_replaced(K, value), V, tile), of_first(Q, K, V, tile))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_zeros_in_their_place_keep_the_promise(value: float) -> None:
    """What the docstring says to write, for the result and for gradients."""
    valid = jnp.asarray(np.arange(ROWS) < FIRST + 3)

    def run(q: Any, k: Any, v: Any) -> Any:
        k, v = (jnp.where(valid[..., None, None], x, 0) for x in (k, v))
        return of_first(q, k, v, None)

    k, v = second_replaced(K, value), second_replaced(V, value)
    np.testing.assert_allclose(run(Q, k, v), alone(Q, K, V), atol=1e-6)
    for gradient, wanted in zip(gradients(run, Q, k, v), gradients(alone, Q, K, V), strict=True):
        np.testing.assert_allclose(gradient, wanted, atol=1e-5)
