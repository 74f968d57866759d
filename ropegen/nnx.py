"""Layers for Flax NNX, computed by ropegen's own ops: attention as Flax has it, and the embeddings of attnax 0.2.0.

`MultiHeadAttention`, `RoPE` and `Embed` have the arguments, results and state trees of Flax's own layers, and `attention_fn`
goes into those. `ropegen.retrofit` puts the first two in the place of Flax's layers in a model.

The rest are the embeddings of attnax as NNX modules and plain functions, see `ropegen.layers.attnax`. `ProgramLayer` is an
artifact or a compiled plan as a module.
"""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.core import Tracer

try:
    from flax import nnx
except ModuleNotFoundError:
    raise ModuleNotFoundError("ropegen.nnx needs flax, which is not installed: pip install flax", name="flax") from None

from ropegen import flax_attention
from ropegen.errors import RopegenError
from ropegen.functions import rope, rotated
from ropegen.layers.attnax import AttnaxError as AttnaxError
from ropegen.layers.attnax import LearnedPositionalEmbedding as LearnedPositionalEmbedding
from ropegen.layers.attnax import PatchEmbedding as PatchEmbedding
from ropegen.layers.attnax import PositionalEncoding as PositionalEncoding
from ropegen.layers.attnax import RotaryEmbedding as RotaryEmbedding
from ropegen.layers.attnax import TokenEmbedding as TokenEmbedding
from ropegen.layers.attnax import apply_rope as apply_rope
from ropegen.layers.attnax import rope_cos_sin_from_positions as rope_cos_sin_from_positions
from ropegen.layers.attnax import rope_cos_sin_table as rope_cos_sin_table
from ropegen.layers.attnax import rope_inv_freq as rope_inv_freq
from ropegen.layers.attnax import rows_of
from ropegen.layers.nnx import ProgramLayer as ProgramLayer
from ropegen.plain_call import Targets, parse_targets
from ropegen.rotary import Rope
from ropegen.scaling import whole

__all__ = [
    "AttnaxError",
    "Embed",
    "LearnedPositionalEmbedding",
    "MultiHeadAttention",
    "PatchEmbedding",
    "PositionalEncoding",
    "ProgramLayer",
    "RoPE",
    "RotaryEmbedding",
    "TokenEmbedding",
    "apply_rope",
    "attention_fn",
    "rope_cos_sin_from_positions",
    "rope_cos_sin_table",
    "rope_inv_freq",
]

Array = jax.Array
ArrayLike = npt.ArrayLike | jax.Array


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
    promote_dtype: Any = None,
    is_causal: bool = False,
) -> Array:
    """`flax.nnx.dot_product_attention`, computed by `ropegen.attention`: q (..., Sq, H, D) -> (..., Sq, H, Dv).

    It is an `attention_fn` for `flax.nnx.MultiHeadAttention`. `bias` and `mask` broadcast to (..., H, Sq, Skv) as in NumPy.
    `is_causal` counts the positions of queries and keys from 0.

    Raises:
      RopegenError: shapes do not fit; dropout is active; or the weights or a precision are asked for.
    """
    flax_attention.expect_fused(
        "nnx.attention_fn",
        dropout_rate=dropout_rate,
        deterministic=deterministic,
        weights=module is not None,
        precision=precision,
    )
    promote = flax_attention.promoted if promote_dtype is None else promote_dtype
    query, key, value = promote((query, key, value), dtype=dtype)
    return flax_attention.fused(query, key, value, bias=bias, mask=mask, is_causal=is_causal)


class MultiHeadAttention(nnx.MultiHeadAttention):
    """`flax.nnx.MultiHeadAttention`, computed by `ropegen.attention`, with rotary embedding.

    Arguments, state tree and drawn weights are Flax's, so its checkpoints load. Two arguments are new: `rope` rotates queries
    and keys, and `target` is that of `ropegen.attention`. A cache holds rotated keys. Softmax and sums are in float32 or
    wider. Positions count from 0, or with `decode` from the number of rows in the cache.

    Raises:
      RopegenError: `rope` is no `ropegen.Rope` or does not fit the width of a head; `attention_fn` or `precision` are given;
        or a target does not exist.
    """

    def __init__(self, *sizes: Any, rope: Rope | None = None, target: Targets = None, **options: Any) -> None:
        if "attention_fn" in options:
            raise RopegenError(
                "MultiHeadAttention: attention_fn is given, and ropegen's layer computes attention itself; leave it out, or use "
                "flax.nnx.MultiHeadAttention"
            )
        super().__init__(*sizes, attention_fn=attention_fn, **options)
        flax_attention.expect_fused(
            "MultiHeadAttention", dropout_rate=0.0, deterministic=True, weights=False, precision=self.precision
        )
        self.target = parse_targets(target)
        self.rope = rope
        if rope is not None:
            if not isinstance(cast(object, rope), Rope):
                raise RopegenError(
                    f"MultiHeadAttention: rope is {rope!r:.60}; give a ropegen.Rope, such as Rope(10000.0, pairing='half')"
                )
            rope.width(self.head_dim)

    def __call__(
        self,
        inputs_q: Array,
        inputs_k: Array | None = None,
        inputs_v: Array | None = None,
        *,
        mask: Array | None = None,
        deterministic: bool | None = None,
        rngs: Any = None,
        sow_weights: bool = False,
        decode: bool | None = None,
        is_causal: bool = False,
        out_sharding: Any = None,
        qkv_sharding: Any = None,
        input_positions: ArrayLike | None = None,
    ) -> Array:
        """The attention of inputs_q (..., Sq, in_features) over inputs_k and inputs_v (..., Skv, in_kv_features).

        inputs_k, inputs_v: None for inputs_q, and None for inputs_k.
        mask: broadcasts to (..., heads, Sq, Skv), true where a query sees a key. In decode Skv is the rows of the cache.
        decode: writes the keys and values of this call into the cache that `init_cache` made, after those that are there,
          and attends to all that is written. Flax takes one token at a time; this layer takes several. A query sees no
          key after it.
        is_causal: a query sees no key at a later position.
        input_positions: the positions of inputs_q and inputs_k (S,) or (..., S), None for 0, 1, 2, ...

        The result is (..., Sq, out_features).

        Raises:
          RopegenError: inputs do not fit; `decode` is not said; there is no cache, or the cache has no room, if its index is
            known; dropout is active; or the weights are asked for.
        """
        if inputs_k is None and inputs_v is not None:
            raise RopegenError(
                "MultiHeadAttention: inputs_v is given and inputs_k is not; give both, or inputs_k alone for both"
            )
        inputs_k = inputs_q if inputs_k is None else inputs_k
        inputs_v = inputs_k if inputs_v is None else inputs_v
        if inputs_q.shape[-1] != self.in_features:
            raise RopegenError(
                f"MultiHeadAttention: inputs_q is {inputs_q.shape}; the layer was made for {self.in_features} features"
            )
        decode = self.decode if decode is None else decode
        if decode is None:
            raise RopegenError("MultiHeadAttention: decode is not said; give decode=False, or True to use the cache")
        flax_attention.expect_fused(
            "MultiHeadAttention",
            dropout_rate=self.dropout_rate,
            deterministic=self.deterministic if deterministic is None else deterministic,
            weights=sow_weights,
            precision=None,
        )
        projections = (self.query, inputs_q), (self.key, inputs_k), (self.value, inputs_v)
        sharding = {} if qkv_sharding is None else {"out_sharding": qkv_sharding}
        q, k, v = (project(inputs, **sharding) for project, inputs in projections)
        if self.query_ln is not None and self.key_ln is not None:
            q, k = self.query_ln(q), self.key_ln(k)
        q, k, v = self.qkv_promote_dtype((q, k, v), dtype=self.dtype)
        options: dict[str, Any] = {"mask": mask, "is_causal": is_causal, "target": self.target}
        if decode:
            if input_positions is not None:
                raise RopegenError(
                    "MultiHeadAttention: input_positions are given with decode=True, where the cache counts them; leave them out"
                )
            q, k, v, at = self._cached(q, k, v)
            options |= {"is_causal": True, "q_positions": at, "kv_positions": np.arange(k.shape[-3])}
        else:
            options |= {"rope": self.rope, "q_positions": input_positions, "kv_positions": input_positions}
        out = flax_attention.fused(q, k, v, **options)
        return self.out(out, **({} if out_sharding is None else {"out_sharding": out_sharding}))

    def _cached(self, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array, Array]:
        """Rotated queries, the keys and values of the cache after this call, and the positions of the queries."""
        if self.cached_key is None or self.cached_value is None or self.cache_index is None:
            raise RopegenError(
                "MultiHeadAttention: decode=True without a cache; call init_cache(shape of inputs_q) first"
            )
        keys, values, index = self.cached_key[...], self.cached_value[...], self.cache_index[...]
        *lead, capacity, heads, width = keys.shape
        rows = k.shape[-3]
        if k.shape != (*lead, rows, heads, width) or q.shape[-3] != rows or rows > capacity:
            raise RopegenError(
                f"MultiHeadAttention: the cache is {keys.shape}, and the call writes keys of {k.shape} for {q.shape[-3]} queries; "
                "give as many queries as keys, and no more than the rows of the cache"
            )
        if k.dtype != keys.dtype:
            raise RopegenError(
                f"MultiHeadAttention: keys are {k.dtype} and the cache is {keys.dtype}; call init_cache with dtype={k.dtype}"
            )
        if not isinstance(index, Tracer) and int(index) + rows > capacity:
            raise RopegenError(
                f"MultiHeadAttention: the cache has {capacity} rows, {int(index)} are written, and the call writes {rows} more; call "
                "init_cache with more rows"
            )
        at = index.astype(jnp.int32) + jnp.arange(rows, dtype=jnp.int32)
        if self.rope is not None:
            q, k = rotated(q, k, at, at, self.rope, target=self.target)
        zero = jnp.zeros_like(index)
        start = (*(zero for _ in lead), index, zero, zero)
        keys, values = (jax.lax.dynamic_update_slice(cache, new, start) for cache, new in ((keys, k), (values, v)))
        self.cached_key[...], self.cached_value[...] = keys, values
        self.cache_index[...] = index + rows
        return q, keys, values, at


class RoPE(nnx.Module):
    """Rotary embedding of x (..., S, embedding_size), with the arguments of `flax.nnx.RoPE` (flax 0.12.12).

    It pairs feature j with j + size/2. Flax's tables of known length are not needed, and are not in the state.
    `target` is that of `ropegen.rope`.

    Raises:
      RopegenError: theta is at most 1, or a target does not exist.
    """

    def __init__(
        self,
        theta: float = 10_000.0,
        embedding_size: int | None = None,
        max_seq_len: int | None = None,
        *,
        target: Targets = None,
    ) -> None:
        self.theta = theta
        self.target = parse_targets(target)
        made = Rope(theta, pairing="half", angles="f32")
        if embedding_size is not None:
            made.width(whole("RoPE: embedding_size", embedding_size))

    def __call__(self, x: Array, input_positions: ArrayLike | None = None) -> Array:
        """The rotation of x (..., S, embedding_size) at positions (S,), or at 0 .. S-1; in the wider type of x and float32.

        Raises:
          RopegenError: the size is odd, or positions do not fit.
        """
        # Flax's tables are float32, and so are its results.
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        turned = rope(
            wide[..., None, :], input_positions, Rope(self.theta, pairing="half", angles="f32"), target=self.target
        )
        return turned[..., 0, :]


class Embed(nnx.Embed):
    """`flax.nnx.Embed`, whose rows `ropegen.embed` looks up. `target` is that of `ropegen.embed`.

    Arguments, state tree, drawn table and `attend`, the product with all rows, are Flax's, so its checkpoints load.

    Raises:
      RopegenError: a target does not exist.
    """

    def __init__(self, *sizes: Any, target: Targets = None, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.target = parse_targets(target)

    def __call__(self, inputs: ArrayLike, out_sharding: Any = None) -> Array:
        """Rows of the table: integers (...) -> (..., features), in `dtype`.

        As in Flax, ids from -num_embeddings to -1 count from the end, and another id outside of the table gives a row of
        NaN. A table of one row gives that row for every id.

        Raises:
          RopegenError: the ids are not integers, or `out_sharding` is given.
        """
        if out_sharding is not None:
            raise RopegenError(
                "Embed: out_sharding is given; leave it out, because the rows lie as the ids do, or call ropegen.embed(ids, "
                "table, sharding=...)"
            )
        table, *_ = self.promote_dtype((self.embedding[...],), dtype=self.dtype, inexact=False)
        return rows_of("Embed: inputs", inputs, table, self.target)
