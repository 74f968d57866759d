"""Shapes of arrays that kernels of several platforms read."""

from __future__ import annotations

import jax.numpy as jnp

from ropegen.template import Array


def extended(x: Array, axis: int, size: int, rest: float = 0) -> Array:
    """The array x with `axis` extended to `size` by the value `rest`; x itself if it has that size already."""
    if x.shape[axis] == size:
        return x
    widths = [(0, size - length if place == axis else 0) for place, length in enumerate(x.shape)]
    return jnp.pad(x, widths, constant_values=rest)
