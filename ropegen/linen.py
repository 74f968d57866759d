"""The attention function of ropegen for the layers of Flax Linen: `pip install flax`.

from ropegen.linen import attention_fn

layer = flax.linen.MultiHeadDotProductAttention(num_heads=8, attention_fn=attention_fn)
"""

from __future__ import annotations

import importlib.util
from typing import Any

import jax

if importlib.util.find_spec("flax") is None:
    raise ModuleNotFoundError("ropegen.linen needs flax, which is not installed: pip install flax", name="flax")

from ropegen.flax_attention import expect_fused, fused, promoted

__all__ = ["attention_fn"]

Array = jax.Array


def attention_fn(
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None = None,
    mask: Array | None = None,
    broadcast_dropout: bool = True,
    dropout_rng: Array | None = None,
    dropout_rate: float = 0.0,
    deterministic: bool = False,
    dtype: Any = None,
    precision: Any = None,
    module: Any = None,
    force_fp32_for_softmax: bool = False,
    einsum_dot_general: Any = None,
    qk_attn_weights_einsum: Any = None,
    attn_weights_value_einsum: Any = None,
) -> Array:
    """`flax.linen.dot_product_attention`, computed by `ropegen.attention`: q (..., Sq, H, D) -> (..., Sq, H, Dv).

    `bias` and `mask` broadcast to (..., H, Sq, Skv). The softmax is always in float32 or wider. The layers of Linen give
    their decode cache as a mask.

    Raises:
      RopegenError: shapes do not fit; dropout is active; or the weights, a precision or another product are asked for.
    """
    expect_fused(
        "linen.attention_fn",
        dropout_rate=dropout_rate,
        deterministic=deterministic,
        weights=module is not None,
        precision=precision,
        einsum_dot_general=einsum_dot_general,
        qk_attn_weights_einsum=qk_attn_weights_einsum,
        attn_weights_value_einsum=attn_weights_value_einsum,
    )
    query, key, value = promoted((query, key, value), dtype)
    return fused(query, key, value, bias=bias, mask=mask)
