"""Rotary embedding inside a kernel for Mosaic TPU: the tables that XLA makes before it, and the rotation of rows.

Features lie in lanes, so rolling all lanes of a row brings the partner of every feature to its lane. There are two
forms:

- One table as wide as the rows, cosines and then sines, if a head fills the rows and its pairs are halves:
  x cos + (x rolled by half of the lanes) sin.
- Three tables for any width, pairing and number of heads in a row: x cos + (x rolled left) first + (x rolled right)
  second. `first` is zero except at the first feature of a pair, and `second` except at its second feature. Lanes that
  are not rotated have a cosine of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas import tpu as pltpu

from ..arrays import extended
from .mosaic import Array, lane


@dataclass(frozen=True, slots=True)
class Rotation:
    """The rotation of rows of `lanes` lanes, in which a head begins every `stride` lanes."""

    pairing: str
    dim: int  # the number of features of a head that are rotated
    stride: int
    lanes: int

    @property
    def is_whole(self) -> bool:
        """Whether one table is enough: the first form above."""
        return self.pairing == "half" and self.dim == self.stride == self.lanes

    @property
    def shift(self) -> int:
        """The distance of the two features of a pair."""
        return self.dim // 2 if self.pairing == "half" else 1

    @property
    def count(self) -> int:
        """The number of tables."""
        return 1 if self.is_whole else 3

    def names(self, prefix: str) -> tuple[str, ...]:
        """The names of the tables as operands of a kernel."""
        return (prefix,) if self.is_whole else tuple(f"{prefix}_{part}" for part in ("cos", "first", "second"))

    def tables(self, angles: Array) -> tuple[Array, ...]:
        """The tables (..., lanes) of angles (..., dim): cosines, then sines."""
        if self.is_whole:
            return (angles,)
        cos, sin = jnp.split(angles, 2, axis=-1)
        nothing = jnp.zeros_like(sin)
        pairs = ((cos, cos), (-sin, nothing), (nothing, sin))
        if self.pairing == "half":
            heads = [jnp.concatenate(pair, -1) for pair in pairs]
        else:
            heads = [jnp.stack(pair, -1).reshape(angles.shape) for pair in pairs]
        last, copies = angles.ndim - 1, self.lanes // self.stride
        tables = [extended(head, last, self.stride, rest) for head, rest in zip(heads, (1.0, 0.0, 0.0), strict=True)]
        return tuple(jnp.tile(table, copies) if copies > 1 else table for table in tables)

    def turned(self, x: Array, tables: Sequence[Array], back: bool = False) -> Array:
        """Float32 rows (n, lanes), rotated by their tables (n, lanes); `back` applies the transpose."""
        if self.is_whole:
            (table,) = tables
            other = _rolled(table, self.shift, 1)
            is_first = lane(table.shape) < self.shift
            cos, sin = jnp.where(is_first, table, other), jnp.where(is_first, -other, table)
            return x * cos + (_rolled(x * sin, self.shift, 1) if back else _rolled(x, self.shift, 1) * sin)
        cos, first, second = tables
        left, right = self.lanes - self.shift, self.shift
        if back:
            return x * cos + _rolled(x * first, right, 1) + _rolled(x * second, left, 1)
        # The partner of a pair's first feature comes after it; the partner of the second comes before it.
        return x * cos + _rolled(x, left, 1) * first + _rolled(x, right, 1) * second


def _rolled(x: Array, shift: int, axis: int) -> Array:
    """`pltpu.roll`; Mosaic takes 32 bits, and a Python number may have 64 where JAX does."""
    return pltpu.roll(x, cast(int, np.int32(shift)), axis)
