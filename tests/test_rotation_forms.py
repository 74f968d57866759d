"""The form of a rotation on every platform: all have the same values, and that for CPU concatenates no features."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ropegen import plain


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("pairing", ["half", "interleaved"])
@pytest.mark.parametrize("dim", [16, 8])
def test_the_form_of_this_platform_has_the_values_of_the_plain_one(dtype: jnp.dtype, pairing: str, dim: int) -> None:
    random = np.random.default_rng(0)
    x = jnp.asarray(random.standard_normal((2, 5, 3, 16)), dtype)
    turns = random.uniform(0, 6.3, (5, dim // 2))
    table = jnp.asarray(np.concatenate([np.cos(turns), np.sin(turns)], -1), jnp.float32)
    wide = np.asarray(x, np.float64)
    cos, sin = np.cos(turns)[:, None], np.sin(turns)[:, None]
    first, second = (wide[..., 0:dim:2], wide[..., 1:dim:2]) if pairing == "interleaved" else (
        wide[..., : dim // 2], wide[..., dim // 2 : dim]
    )  # fmt: skip
    parts = [first * cos - second * sin, second * cos + first * sin]
    turned = (
        np.stack(parts, -1).reshape(*wide.shape[:-1], dim) if pairing == "interleaved" else np.concatenate(parts, -1)
    )
    right = np.concatenate([turned, wide[..., dim:]], -1)
    for form in (plain.rotate, jax.jit(plain.rotate_for_platform, static_argnames="pairing")):
        result = np.asarray(form(x, table, pairing=pairing), np.float64)
        np.testing.assert_allclose(result, right, atol=2e-6 if dtype == jnp.float32 else 2e-2)
        np.testing.assert_array_equal(result[..., dim:], wide[..., dim:])


def test_the_form_for_tpu_concatenates_halves_and_that_for_cpu_does_not() -> None:
    x, table = jax.ShapeDtypeStruct((1, 8, 2, 16), jnp.bfloat16), jax.ShapeDtypeStruct((8, 16), jnp.float32)
    function = jax.jit(functools.partial(plain.rotate_for_platform, pairing="half"))
    text = {name: jax.export.export(function, platforms=[name])(x, table).mlir_module() for name in ("cpu", "tpu")}
    halves = "(tensor<1x8x2x8xbf16>, tensor<1x8x2x8xbf16>"
    assert halves in text["tpu"]
    assert halves not in text["cpu"]
