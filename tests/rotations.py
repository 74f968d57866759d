"""The oracle of the tests of `rope`: rotations in float64, and what a kernel in float32 may differ from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def turned(x: Array, table: Array, pairing: str, *, inverse: bool = False) -> Array:
    """The rotation in float64 as a product of complex numbers: x (..., H, D), table (..., dim)."""
    wide, dim = x.astype(np.float64), table.shape[-1]
    factor = (table[..., : dim // 2] + 1j * table[..., dim // 2 :].astype(np.float64))[..., None, :]
    pairs = (slice(0, dim // 2), slice(dim // 2, dim)) if pairing == "half" else (slice(0, dim, 2), slice(1, dim, 2))
    product = (wide[..., pairs[0]] + 1j * wide[..., pairs[1]]) * (factor.conj() if inverse else factor)
    wide[..., pairs[0]], wide[..., pairs[1]] = product.real, product.imag
    return wide


def expect_close(result: Any, exact: Array, dtype: str, size: float) -> None:
    """Allows two products and a sum in float32 of numbers up to `size`, then one rounding to the element type."""
    precision = {"f32": 2.0**-24, "f16": 2.0**-11, "bf16": 2.0**-8}[dtype]
    least = {"f32": 0.0, "f16": 2.0**-24, "bf16": 0.0}[dtype]
    allowed = precision * np.abs(exact) + 3 * 2.0**-24 * size + least
    assert (np.abs(np.asarray(result, np.float64) - exact) <= allowed).all()
