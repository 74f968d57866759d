"""How arrays beside q, k and v lie for kernels that visit tiles, whatever the platform."""

from __future__ import annotations

import jax.numpy as jnp

from ropegen.ir.op import Operand
from ropegen.template import Array

from ..arrays import extended


def of_scores(operand: Operand, x: Array, lead: tuple[int, ...], *, keys: int, padded: tuple[int, int]) -> Array:
    """A bias or mask as (B or 1, H or 1, queries or 1, keys), padded with zeros to the sizes `padded` of queries and keys.

    An axis that it does not have gets the size 1, except that of the keys.
    """
    x = x.reshape(operand.padded(x.shape, len(lead)))
    if any(size > 1 for size in x.shape[:-3]):
        x = jnp.broadcast_to(x, (*lead, *x.shape[-3:]))
    x = x.reshape(-1, *x.shape[-3:])
    if x.shape[3] == 1:
        x = jnp.broadcast_to(x, (*x.shape[:3], keys))
    if x.shape[2] > 1:
        x = extended(x, 2, padded[0])
    return extended(x, 3, padded[1])


def in_tiles(ids: Array, padded: int, size: int) -> Array:
    """Positions or segment ids (..., S) as int32 (B, tiles, size), padded with the last one."""
    ids = ids.astype(jnp.int32).reshape(-1, ids.shape[-1])
    ids = jnp.pad(ids, ((0, 0), (0, padded - ids.shape[1])), mode="edge")
    return ids.reshape(len(ids), -1, size)
