"""Attention with the arguments of Flax's attention functions, for the doors `ropegen.nnx` and `ropegen.linen`.

It knows shapes and meanings, and imports no Flax. Flax's functions add a bias before the mask, and give the mean of the
values for a row that sees no key.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ropegen import masks
from ropegen.arguments import counted
from ropegen.errors import RopegenError
from ropegen.functions import attention
from ropegen.plain_call import Targets
from ropegen.rotary import Rope

Array = jax.Array


def expect_fused(
    name: str, *, dropout_rate: float, deterministic: bool | None, weights: bool, precision: Any, **others: Any
) -> None:
    """Refuses what the fused attention does not compute; `others` are arguments that must be left out.

    Raises:
      RopegenError: dropout is active, the weights are asked for, a precision is fixed, or one of `others` is given.
    """
    if dropout_rate > 0.0 and not deterministic:
        raise RopegenError(
            f"{name}: dropout drops {dropout_rate:g} of the weights, and the fused attention drops none; give "
            "deterministic=True or dropout_rate=0, or use Flax's own attention where dropout is active"
        )
    if weights:
        raise RopegenError(
            f"{name}: the weights of all queries by all keys are asked for (sow_weights=True), and the fused attention never "
            "stores them; use Flax's own attention to look at them"
        )
    if precision is not None:
        raise RopegenError(
            f"{name}: precision is {precision!r}, and the fused attention multiplies in the element type of q and sums in "
            "float32 or wider; leave precision out, and give float32 arrays for the precision of float32"
        )
    for argument, value in others.items():
        if value is not None and value is not False:
            raise RopegenError(
                f"{name}: {argument} is given, and the fused attention has its own products; leave it out, or use Flax's own "
                "attention"
            )


def fused(
    query: Array,
    key: Array,
    value: Array,
    *,
    bias: Array | None = None,
    mask: Array | np.ndarray | None = None,
    is_causal: bool = False,
    rope: Rope | None = None,
    q_positions: Any = None,
    kv_positions: Any = None,
    target: Targets = None,
) -> Array:
    """Attention of query (..., Sq, H, D), key (..., Skv, Hkv, D) and value (..., Skv, Hkv, Dv), of one type: (..., Sq, H, Dv).

    `bias` and `mask` broadcast to (..., H, Sq, Skv) as in NumPy. The mask is true where a query sees a key. With
    `is_causal`, a query also sees no key at a later position. Positions are None for 0, 1, 2, ...

    Raises:
      RopegenError: shapes do not fit.
    """
    options: dict[str, Any] = {}
    if is_causal or rope is not None:
        queries, keys = query.shape[-3], key.shape[-3]
        options["q_positions"] = counted(queries) if q_positions is None else q_positions
        options["kv_positions"] = counted(keys) if kv_positions is None else kv_positions
    if mask is not None:
        seen = _full_rank(jnp.asarray(mask).astype(bool), query.ndim)
        if is_causal:
            later = (
                jnp.asarray(options["q_positions"])[..., :, None],
                jnp.asarray(options["kv_positions"])[..., None, :],
            )
            seen = seen & jnp.expand_dims(later[0] >= later[1], -3)
        options["mask"] = seen
        if rope is None:
            options |= {"q_positions": None, "kv_positions": None}
    elif is_causal:
        options["mask"] = masks.causal
    if bias is not None:
        options["bias"] = _full_rank(jnp.asarray(bias), query.ndim)
    return attention(query, key, value, rope=rope, masked_row="mean", target=target, **options)


def promoted(arrays: tuple[Array, ...], dtype: Any) -> tuple[Array, ...]:
    """The arrays in one type: `dtype`, or the widest of theirs, as Flax's `promote_dtype` gives."""
    chosen = jnp.result_type(*arrays) if dtype is None else dtype
    return tuple(jnp.asarray(array, chosen) for array in arrays)


def _full_rank(array: Array, rank: int) -> Array:
    """The array with axes of size 1 in front, so that its axes are those of the scores and nothing is ambiguous."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)
