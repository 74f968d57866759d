"""`compat.jax_nn.dot_product_attention` against the function of JAX that it stands in for, over its settings."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ropegen as rg

pytestmark = pytest.mark.usefixtures("quick_compilation")

mine = rg.compat.jax_nn.dot_product_attention

QUERIES, KEYS, WIDTH = 9, 12, 8


def drawn(seed: int, *shape: int, dtype: Any = np.float32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def operands(
    batch: int | None = 2, heads: int = 4, kv_heads: int = 4, dtype: Any = np.float32, queries: int = QUERIES
) -> tuple[jax.Array, ...]:
    """The query, key and value; without a batch for None."""
    lead = () if batch is None else (batch,)
    shapes = ((queries, heads), (KEYS, kv_heads), (KEYS, kv_heads))
    return tuple(drawn(seed, *lead, *shape, WIDTH, dtype=dtype) for seed, shape in enumerate(shapes))


def seen(*shape: int) -> jax.Array:
    """A drawn mask; the first query of every head sees no key."""
    mask = np.random.default_rng(7).random(shape) < 0.6
    if shape[-2] > 1:
        mask[..., 0, :] = False
    return jnp.asarray(mask)


def theirs(*arrays: Any, **options: Any) -> Any:
    return jax.nn.dot_product_attention(*arrays, implementation="xla", **options)


OPTIONS: dict[str, dict[str, Any]] = {
    "causal with a scale": {"is_causal": True, "scale": 0.3},
    "window": {"local_window_size": 3, "bias": drawn(3, QUERIES, KEYS)},
    "window that begins later": {"local_window_size": (-2, 4), "mask": seen(QUERIES, KEYS)},
    "bias of integers": {"bias": jnp.arange(KEYS)[None], "mask": seen(2, 1, 1, KEYS)},
    "lengths": {
        "query_seq_lengths": jnp.array([5, 0], np.int32),
        "key_value_seq_lengths": jnp.array([12, 7], np.int32),
    },
    "lengths of keys": {"key_value_seq_lengths": jnp.array([0, 11], np.int32), "bias": drawn(3, 1, 4, 1, KEYS)},
    "everything": {
        "bias": drawn(3, 2, 1, QUERIES, KEYS, dtype=jnp.bfloat16),
        "mask": seen(1, 4, QUERIES, KEYS),
        "scale": 0.7,
        "is_causal": True,
        "query_seq_lengths": jnp.array([9, 4], np.int32),
        "key_value_seq_lengths": jnp.array([6, 12], np.int32),
        "local_window_size": (4, 1),
    },
}


Results = dict[str, Any]


def computed(function: Any, arrays: tuple[Any, ...], options: dict[str, Any], floats: dict[str, Any]) -> Results:
    """The result, the residual, and the gradients by the arrays and by the floating options."""
    weights = drawn(11, *arrays[0].shape)

    def loss(arrays: tuple[Any, ...], floats: dict[str, Any]) -> Any:
        out, lse = function(*arrays, **options, **floats, return_residual=True)
        return jnp.sum(out.astype(jnp.float32) * weights), (out, lse)

    gradients, (out, lse) = jax.grad(loss, (0, 1), has_aux=True)(arrays, floats)
    return {"result": out, "residual": lse, "gradients": gradients}


def expect_equal(arrays: tuple[Any, ...], options: dict[str, Any], tolerance: float) -> None:
    """Compares with jax.nn in one program."""
    is_floating = {name: name == "bias" and jnp.issubdtype(value.dtype, np.floating) for name, value in options.items()}
    floats = {name: value for name, value in options.items() if is_floating[name]}
    others = {name: value for name, value in options.items() if not is_floating[name]}

    @jax.jit
    def both(arrays: tuple[Any, ...], floats: dict[str, Any]) -> list[Results]:
        return [computed(function, arrays, others, floats) for function in (mine, theirs)]

    result, wanted = both(arrays, floats)
    for x, y in zip(*map(jax.tree.leaves, (result, wanted)), strict=True):
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        half = 0.03 if y.dtype == jnp.bfloat16 else tolerance
        x, y = (np.asarray(z, np.float32) for z in (x, y))
        np.testing.assert_allclose(x, y, atol=half, rtol=half)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_options_mean_what_they_mean_in_jax(options: dict[str, Any]) -> None:
    expect_equal(operands(), options, 1e-5)


@pytest.mark.parametrize(
    ("shape", "dtype", "tolerance", "names"),
    [
        ({"kv_heads": 2}, np.float32, 1e-5, "everything"),
        ({"kv_heads": 1}, jnp.bfloat16, 0.03, "bias of integers"),
        ({"batch": None, "kv_heads": 2}, jnp.bfloat16, 0.03, "window"),
        ({"queries": 1}, np.float32, 1e-5, "lengths of keys"),
    ],
)
def test_heads_types_and_shapes(shape: dict[str, Any], dtype: Any, tolerance: float, names: str) -> None:
    expect_equal(operands(**shape, dtype=dtype), OPTIONS[names], tolerance)


def test_the_signature_is_that_of_jax() -> None:
    def shown(function: Any) -> list[tuple[str, Any, Any]]:
        return [(x.name, x.kind, x.default) for x in inspect.signature(function).parameters.values()]

    assert shown(mine) == shown(jax.nn.dot_product_attention)


def test_the_residual_has_a_gradient() -> None:
    """That of the log-sum-exp of the scores, which jax.nn stops."""
    q, k, v = operands(batch=1)
    weights = drawn(5, 1, QUERIES, 4)

    def formula(q: Any, k: Any) -> Any:
        scores = jnp.einsum("btnh,bsnh->btns", q, k) / np.sqrt(WIDTH)
        return jnp.sum(jax.nn.logsumexp(scores, axis=-1) * weights)

    def residual(q: Any, k: Any) -> Any:
        return jnp.sum(mine(q, k, v, return_residual=True)[1] * weights)

    for gradient, wanted in zip(
        jax.jit(jax.grad(residual, (0, 1)))(q, k), jax.jit(jax.grad(formula, (0, 1)))(q, k), strict=True
    ):
        np.testing.assert_allclose(gradient, wanted, atol=1e-5)


def test_a_traced_scale_has_a_gradient() -> None:
    arrays = operands(batch=None)

    def gradient(function: Any) -> Any:
        def loss(scale: Any) -> Any:
            return jnp.sum(jnp.sin(function(*arrays, scale=scale)))

        return jax.jit(jax.grad(loss))(0.4)

    gradients = [gradient(function) for function in (mine, theirs)]
    np.testing.assert_allclose(*gradients, rtol=1e-4)


def test_mapped_over_a_batch() -> None:
    arrays, lengths = operands(batch=3), jnp.array([[12], [3], [0]], np.int32)

    def mapped(function: Any) -> Any:
        def one(q: Any, k: Any, v: Any, length: Any) -> Any:
            return function(q, k, v, key_value_seq_lengths=length, is_causal=True)

        return jax.vmap(one)(*arrays, lengths)

    @jax.jit
    def both() -> list[Any]:
        return [mapped(function) for function in (mine, theirs)]

    np.testing.assert_allclose(*both(), atol=3e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"implementation": "cudnn"}, "no kernel of cuDNN"),
        ({"implementation": "flash"}, "'flash'"),
        ({"mask": jnp.zeros((QUERIES, KEYS))}, "as bias"),
        ({"mask": jnp.ones((2, 3, 1, KEYS), bool)}, "broadcasts to"),
        ({"bias": jnp.zeros((1, 2, 4, QUERIES, KEYS))}, "broadcasts to"),
        ({"query_seq_lengths": jnp.array([1, 2, 3], np.int32)}, "one int32 for every sequence"),
        ({"key_value_seq_lengths": jnp.array([1.0, 2.0])}, "one int32 for every sequence"),
        ({"local_window_size": (1, 2, 3)}, "as two numbers"),
        ({"is_causal": 3}, "true or false"),
        ({"query": None}, "query must be an array of numbers"),
        ({"bias": "b"}, "bias must be an array of numbers"),
        ({"key_value_seq_lengths": object()}, "key_value_seq_lengths must be an array of numbers"),
        ({"value": operands(heads=4, kv_heads=2)[2]}, "value is float32"),
        ({"query": operands(batch=3)[0]}, "query is float32"),
        ({"key": jnp.zeros((1, 2, KEYS, 4, WIDTH))}, "four axes"),
    ],
)  # fmt: skip
@pytest.mark.any_jax
def test_errors(options: dict[str, Any], words: str) -> None:
    arrays: dict[str, Any] = dict(zip(("query", "key", "value"), operands(), strict=True))
    with pytest.raises(rg.RopegenError, match=words):
        mine(**{**arrays, **options})
