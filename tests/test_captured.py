"""Values that JAX traces, in what ropegen takes as constants: refused, never turned into a constant without a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ropegen as rg
from ropegen import masks

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = jnp.asarray(np.random.default_rng(0).standard_normal((1, 4, 2, 8)), jnp.float32)
Y = X[0, :, 0]


def attended(**options: Any) -> Any:
    return rg.attention(X, X, X, **options).sum()


def scored(function: Callable[..., Any]) -> Any:
    return attended(score=function)


def masked(function: Callable[..., Any]) -> Any:
    return attended(mask=function)


def by_head(s: Any) -> Any:
    return jnp.array([1.0, 2.0]) * s


# Every place where a constant stands, as a function of a value.
PLACES: dict[str, Callable[[Any], Any]] = {
    "a factor on the right": lambda s: scored(lambda score: score * s),
    "a factor on the left": lambda s: scored(lambda score: s * score),
    "through a function of JAX": lambda s: scored(lambda score: score + jnp.exp(s)),
    "through a function of NumPy": lambda s: scored(lambda score: np.multiply(score, s)),
    "an entry of where": lambda s: scored(lambda score, kv_pos: masks.where(kv_pos < 2, score, s)),
    "a table": lambda s: scored(lambda score, head: score * masks.table(by_head(s), head)),
    "entries of a table": lambda s: scored(lambda score, head: score * masks.table([1.0, s], head)),
    "a number that is asked for": lambda s: scored(lambda score: score * float(s)),
    "a default of the function": lambda s: scored(lambda score, factor=s: score * factor),
    "the score itself": lambda s: attended(score=s),
    "alibi": lambda s: attended(score=masks.alibi(by_head(s))),
    "a list for alibi": lambda s: attended(score=masks.alibi([1.0, s])),
    "a mask": lambda s: masked(lambda kv_pos: kv_pos * 1.0 < s),
    "scale": lambda s: attended(scale=s),
    "softcap": lambda s: attended(softcap=s),
    "the scale of embed": lambda s: rg.embed(np.arange(2), Y, scale=s).sum(),
    "theta": lambda s: rg.rope(X, None, rg.Rope(s * 1e4, pairing="half")).sum(),
}  # fmt: skip
PLACES_UNTRACED = {name: place for name, place in PLACES.items() if name != "theta"}


def pushed(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda s: jax.jvp(function, (s,), (s,))


def mapped(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda s: jax.vmap(function)(jnp.stack([s, s]))


def compiled_gradient(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return jax.grad(jax.jit(function))


TRANSFORMATIONS: dict[str, Callable[[Callable[[Any], Any]], Callable[[Any], Any]]] = {
    "grad": jax.grad,
    "jit": jax.jit,
    "jvp": pushed,
    "vmap": mapped,
    "grad of jit": compiled_gradient,
}


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("place", PLACES)
def test_a_traced_value_is_refused_wherever_a_constant_stands(place: str, transformation: str) -> None:
    with pytest.raises(rg.RopegenError):
        TRANSFORMATIONS[transformation](PLACES[place])(jnp.float32(1.5))


@pytest.mark.parametrize("place", PLACES_UNTRACED)
def test_a_jax_number_that_is_not_traced_is_a_constant(place: str) -> None:
    result = PLACES_UNTRACED[place](jnp.float32(1.5))
    if place not in ("a table", "alibi"):  # these take arrays of JAX
        np.testing.assert_allclose(result, PLACES_UNTRACED[place](1.5), rtol=1e-6)


def test_a_traced_boolean_joins_no_expression() -> None:
    with pytest.raises(rg.RopegenError, match=r"traces \(bool\[\]\).*mask=array for a mask"):
        jax.jit(lambda s: attended(mask=masks.causal & (s > 0)))(1.0)


def test_what_the_message_says_to_write_has_the_gradient() -> None:
    """score * s as q * s, against a difference of float64; bias=s * array for score + s * array."""
    random = np.random.default_rng(1)
    bias, weights = random.standard_normal((2, 4, 4)), random.standard_normal((1, 4, 2, 8))
    x = np.asarray(X, np.float64)

    def wide(s: float, t: float) -> float:
        scores = s * np.einsum("bqhd,bkhd->bhqk", x, x) / np.sqrt(8) + t * bias
        weight = np.exp(scores)
        return float((np.einsum("bhqk,bkhd->bqhd", weight / weight.sum(-1, keepdims=True), x) * weights).sum())

    def written(s: Any, t: Any) -> Any:
        return (rg.attention(X * s, X, X, bias=t * jnp.asarray(bias, jnp.float32)) * weights).sum()

    gradient = jax.grad(written, (0, 1))(jnp.float32(1.5), jnp.float32(0.5))
    step = 1e-6
    wanted = (
        (wide(1.5 + step, 0.5) - wide(1.5 - step, 0.5)) / (2 * step),
        (wide(1.5, 0.5 + step) - wide(1.5, 0.5 - step)) / (2 * step),
    )
    np.testing.assert_allclose(gradient, wanted, rtol=1e-3)


def test_the_message_shows_what_to_write() -> None:
    with pytest.raises(
        rg.RopegenError, match=r"float32\[\].*attention\(q \* s, k, v\) for score \* s, bias=s \* array"
    ):
        jax.grad(PLACES["a factor on the right"])(1.0)
    with pytest.raises(rg.RopegenError, match=r"scale is traced .*give attention q \* scale for q, and scale=1.0"):
        jax.grad(PLACES["scale"])(1.0)
    with pytest.raises(rg.RopegenError, match=r"softcap is traced .*must be a number; give float\(value\)"):
        jax.grad(PLACES["softcap"])(1.0)


def test_lists_with_traced_numbers_are_arrays() -> None:
    """Positions and ids are operands, so a list of traced numbers is one too; a ragged list is refused."""

    def run(at: Any) -> Any:
        ids = [at, at, at + 1, at + 1]
        turned = rg.rope(X, [at, at + 1, at + 2, at + 3], rg.Rope(pairing="half"))
        return rg.attention(turned, turned, X, mask=masks.segments, q_segments=ids, kv_segments=ids)

    np.testing.assert_allclose(jax.jit(run)(3), run(3), atol=1e-6)
    with pytest.raises(rg.RopegenError, match="q_segments must be an array of numbers"):
        rg.attention(X, X, X, mask=masks.segments, q_segments=[[0], [0, 1]], kv_segments=np.zeros(4, int))
