"""Gradients of a closed region by JAX alone, from formulas that the project's templates do not use."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from independent import formula

from ropegen.template import Site
from ropegen.types import numpy_dtype


def cotangents_of(site: Site, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed + 100)
    return {
        label: random.standard_normal(node.type.shape).astype(numpy_dtype(node.type.dtype))
        for label, node in site.closed.outputs
    }


def plain_gradient(site: Site, moving: list[str], values: dict[str, Any], pulled: dict[str, Any]) -> list[np.ndarray]:
    """By JAX alone, in the element types of the arrays."""

    def results(moved: list[Any]) -> tuple[Any, ...]:
        computed = formula(site.closed, {**values, **dict(zip(moving, moved, strict=True))})
        # Rows that see nothing have a constant for their log-sum-exp.
        return tuple(jnp.where(computed[label] == -jnp.inf, 0, computed[label]) for label in pulled)

    @jax.jit
    def gradient(moved: list[Any], pulled: tuple[Any, ...]) -> Any:
        out, pull = jax.vjp(results, moved)
        return pull(tuple(x.astype(own.dtype) for x, own in zip(pulled, out, strict=True)))[0]

    given = [values[label] for label in moving], tuple(pulled.values())
    lowered = gradient.lower(*given).compile(compiler_options={"xla_backend_optimization_level": 0})
    return [np.asarray(x, np.float64) for x in lowered(*given)]


def exact_gradient(site: Site, moving: list[str], values: dict[str, Any], pulled: dict[str, Any]) -> list[np.ndarray]:
    def wide(given: dict[str, Any]) -> dict[str, Any]:
        return {
            label: x.astype(np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x for label, x in given.items()
        }

    with jax.enable_x64(True):
        return plain_gradient(site, moving, wide(values), wide(pulled))
