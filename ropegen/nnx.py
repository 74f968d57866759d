"""Layers for Flax NNX, computed by ropegen's own ops: attention as Flax has it, and the embeddings of attnax 0.2.0.

`MultiHeadAttention` and `RoPE` have the arguments, results and state trees of Flax's own layers, and `attention_fn` goes
into those. `ropegen.retrofit` puts them in the place of Flax's layers in a model.

The rest are the embeddings of attnax as NNX modules and plain functions. Names, arguments, shapes, result types and the
state tree are attnax's, so its checkpoints load. Where attnax differs from its documentation, ropegen follows the
documentation:

- Angles are float32 or wider, and rounded once to the requested type. attnax does every step in that type, and
  bfloat16 has few positions above 256; `angle_dtype=` reproduces attnax's steps.
- A position outside a table is an error if its value is known (a Python or NumPy value); in a `jax.Array` it gives a row
  of NaN. attnax takes the last row, or counts from the end.
- Encodings are added to x of exactly (batch, sequence, d_model), at rows that exist. attnax broadcasts a single row or
  feature, and returns an empty result one step past the end.
- An odd `head_dim` is an error everywhere, and so is an image whose size differs from `PatchEmbedding`'s.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex, cast

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.core import Tracer

try:
    from flax import nnx
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "ropegen.nnx needs flax, which is not installed: pip install 'ropegen[flax]'", name="flax"
    ) from None

from ropegen import flax_attention
from ropegen.api import embed, rope, rope_table, rotate, rotated, sinusoid
from ropegen.errors import RopegenError
from ropegen.plain_call import Call, Targets, parse_targets
from ropegen.rotary import Rope
from ropegen.scaling import whole
from ropegen.types import FLOATS, dtype_name, numpy_dtype

Array = jax.Array
ArrayLike = npt.ArrayLike | jax.Array


class AttnaxError(RopegenError, TypeError, IndexError):
    """An array or index does not fit. In attnax JAX raises TypeError or IndexError, so this error is both."""


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


class TokenEmbedding(nnx.Module):
    """Rows of a learned table (vocab_size, d_model) float32, drawn by `flax.nnx.Embed`.

    State: `embed.embedding`. `target` is that of `ropegen.embed`.

    Raises:
      RopegenError: a size below 1, or a target that does not exist.
    """

    def __init__(self, rngs: nnx.Rngs, vocab_size: int, d_model: int, *, target: Targets = None) -> None:
        self.target = parse_targets(target)
        self.embed = nnx.Embed(
            num_embeddings=_size("TokenEmbedding: vocab_size", vocab_size),
            features=_size("TokenEmbedding: d_model", d_model),
            rngs=rngs,
        )

    def __call__(self, token_ids: ArrayLike) -> Array:
        """Rows of the table: ids (...) integers -> (..., d_model) in the table's element type.

        As in `flax.nnx.Embed`, ids from -vocab_size to -1 count from the end. Any other id outside 0 .. vocab_size-1
        gives a row of NaN. A table of one row gives that row for every id.

        Raises:
          AttnaxError: the ids are not integers.
        """
        table = self.embed.embedding[...]
        ids = _integers("TokenEmbedding: token_ids", token_ids)
        # `embed` does not count negative ids from the end, so they are shifted here; ids out of range stay out of range.
        rows = jnp.where(ids < 0, ids + table.shape[0], ids)
        return embed(rows, table, mode="clip" if table.shape[0] == 1 else "fill", target=self.target).astype(
            self.embed.dtype
        )


class PositionalEncoding(nnx.Module):
    """The fixed encoding of Vaswani et al. 2017 for positions 0 .. max_len-1, with alternating sines and cosines.

    State: `positional` (max_len, d_model) float32. An odd `d_model` ends with a sine. `target` is that of `ropegen.embed`.

    Raises:
      RopegenError: a size below 1.
    """

    def __init__(self, max_len: int, d_model: int, *, target: Targets = None) -> None:
        self.target = parse_targets(target)
        self.max_len = _size("PositionalEncoding: max_len", max_len)
        self.d_model = _size("PositionalEncoding: d_model", d_model)
        self.positional = sinusoid(self.max_len, self.d_model, pairing="interleaved", angles="f32")

    def __call__(self, x: ArrayLike, start: SupportsIndex | Array = 0) -> Array:
        """The sum of x (batch, sequence, d_model) and the encodings from row `start` on, in the wider type of the two.

        `start` is a number or a traced integer scalar. attnax does not accept the scalar; with it one compiled decode
        step serves every position, and rows outside the table are NaN.

        Raises:
          AttnaxError: x has another shape, rows are outside the table, or `start` is not a whole number.
        """
        x = jnp.asarray(x)
        length = _sequence("PositionalEncoding", x, self.positional.shape[-1])
        try:
            first = operator.index(start)
        except jax.errors.TracerIntegerConversionError:
            rows = _traced(start) + jnp.arange(length, dtype=jnp.int32)
            return x + embed(rows, self.positional, mode="fill", target=self.target)
        except TypeError:
            raise AttnaxError(f"PositionalEncoding: start is {start!r}; give a whole number") from None
        rows = self.positional.shape[0]
        if first < 0 or first + length > rows:
            raise AttnaxError(
                f"PositionalEncoding: rows {first} to {first + length - 1} of a table of {rows}; "
                "give a larger max_len or a shorter sequence"
            )
        return x + self.positional[first : first + length]


class RotaryEmbedding(nnx.Module):
    """Cosines and sines of RoPE for positions 0 .. max_positions-1: two tables (max_positions, head_dim/2) in `dtype`.

    State: `cos_cached`, `sin_cached`. See `rope_cos_sin_table` for `angle_dtype`; `target` is that of `ropegen.embed`.

    Raises:
      RopegenError: `head_dim` is odd, the base is at most 1, or there is no position.
    """

    def __init__(
        self,
        head_dim: int,
        max_positions: int,
        *,
        base: float = 10_000.0,
        dtype: npt.DTypeLike = jnp.float32,
        angle_dtype: npt.DTypeLike | None = None,
        target: Targets = None,
    ) -> None:
        self.target = parse_targets(target)
        self.head_dim = head_dim
        self.max_positions = _size("RotaryEmbedding: max_positions", max_positions)
        self.base = base
        self.cos_cached, self.sin_cached = rope_cos_sin_table(
            self.max_positions, head_dim, base, dtype, angle_dtype=angle_dtype
        )

    def cos_sin_for_positions(self, position_ids: ArrayLike, *, out_dtype: npt.DTypeLike) -> tuple[Array, Array]:
        """Rows of both tables: positions (...) integers -> two arrays (..., head_dim/2) in `out_dtype`.

        Raises:
          AttnaxError: positions are not integers, or a known position is outside the table.
        """
        dtype = _float_type("RotaryEmbedding: out_dtype", out_dtype)
        rows = _places("RotaryEmbedding", position_ids, self.cos_cached.shape[0])
        tables = (self.cos_cached, self.sin_cached)
        cos, sin = (embed(rows, table, mode="fill", target=self.target).astype(dtype) for table in tables)
        return cos, sin


class PatchEmbedding(nnx.Module):
    """The patches of an image, row by row, projected to `d_model`.

    State: `proj.kernel` (patch height, patch width, num_channels, d_model) and `proj.bias`, as `flax.nnx.Conv` draws
    them. A size is one number for both sides, or (height, width). `target` is that of `ropegen.embed`.

    Raises:
      RopegenError: the image is not a whole number of patches, or a size is below 1.
    """

    def __init__(
        self,
        rngs: nnx.Rngs,
        *,
        image_size: int | Sequence[int],
        patch_size: int | Sequence[int],
        num_channels: int,
        d_model: int,
        target: Targets = None,
    ) -> None:
        self.target = parse_targets(target)
        height, width = _sides("PatchEmbedding: image_size", image_size)
        patch_height, patch_width = _sides("PatchEmbedding: patch_size", patch_size)
        if height % patch_height or width % patch_width:
            raise RopegenError(
                f"PatchEmbedding: an image of {height} x {width} is not a whole number of {patch_height} x {patch_width} "
                "patches; choose a patch size that divides both sides"
            )
        self.image_size = (height, width)
        self.patch_size = (patch_height, patch_width)
        self.num_channels = _size("PatchEmbedding: num_channels", num_channels)
        self.d_model = _size("PatchEmbedding: d_model", d_model)
        self.grid_size = (height // patch_height, width // patch_width)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        # The convolution draws and holds the parameters in the form of attnax's checkpoints; nothing calls it.
        self.proj = nnx.Conv(
            self.num_channels, self.d_model, self.patch_size, strides=self.patch_size, padding="VALID", rngs=rngs
        )

    def __call__(self, images: ArrayLike) -> Array:
        """Images (batch, height, width, channels) -> (batch, patches, d_model), in the wider type of image and kernel.

        Sums, including the bias, are in float32 or wider and are rounded once.

        Raises:
          RopegenError: an image has another size or other channels than the module was made for.
        """
        images = jnp.asarray(images)
        if images.ndim != 4 or images.shape[1:] != (*self.image_size, self.num_channels):
            raise RopegenError(
                f"PatchEmbedding: images are {images.shape}, and the module was made for (batch, "
                f"{', '.join(map(str, (*self.image_size, self.num_channels)))}); resize or crop them first"
            )
        kernel = self.proj.kernel[...]
        bias = None if self.proj.bias is None else self.proj.bias[...]
        dtype = jnp.promote_types(images.dtype, kernel.dtype)
        dtype = dtype if bias is None else jnp.promote_types(dtype, bias.dtype)
        call = Call("patch_embedding")
        patches = call.builder.patchify(call.array("image", images.astype(dtype)), *self.patch_size)
        weight = call.array("weight", kernel.astype(dtype).reshape(-1, kernel.shape[-1]))
        rows = call.builder.project(
            patches, weight, call.optional("bias", None if bias is None else bias.astype(dtype))
        )
        return call.run({"out": rows}, self.target)["out"]


class LearnedPositionalEmbedding(nnx.Module):
    """A learned row per position, added to x.

    State: `embedding` (num_positions, d_model) float32: a normal distribution truncated at -2 and 2, times `init_std`.
    `target` is that of `ropegen.embed`. The sum is the same op on every platform, so it is only checked.

    Raises:
      RopegenError: a size below 1, or a target that does not exist.
    """

    def __init__(
        self,
        rngs: nnx.Rngs,
        *,
        num_positions: int,
        d_model: int,
        init_std: float = 0.02,
        target: Targets = None,
    ) -> None:
        self.target = parse_targets(target)
        self.num_positions = _size("LearnedPositionalEmbedding: num_positions", num_positions)
        self.d_model = _size("LearnedPositionalEmbedding: d_model", d_model)
        drawn = jax.random.truncated_normal(rngs.params(), -2.0, 2.0, (self.num_positions, self.d_model))
        self.embedding = nnx.Param(drawn * init_std)

    def __call__(self, x: ArrayLike) -> Array:
        """The sum of x (batch, sequence, d_model) and the first rows, in the wider type of the two.

        Raises:
          AttnaxError: x has another shape, or the sequence is longer than the table.
        """
        x, table = jnp.asarray(x), self.embedding[...]
        length = _sequence("LearnedPositionalEmbedding", x, table.shape[-1])
        if length > table.shape[0]:
            raise AttnaxError(
                f"LearnedPositionalEmbedding: a sequence of {length} for {table.shape[0]} positions; "
                "give a shorter sequence or a larger num_positions"
            )
        return x + table[:length]


def apply_rope(x: ArrayLike, cos: ArrayLike, sin: ArrayLike) -> Array:
    """Rotate feature j with j + D/2: x (..., D), cos and sin that broadcast to (..., D/2) -> (..., D).

    The products and the result have the widest type of the three: bfloat16 x with float32 tables gives float32.

    Raises:
      AttnaxError: the width is odd, or the tables have another width or do not broadcast to x.
    """
    x, cos, sin = jnp.asarray(x), jnp.asarray(cos), jnp.asarray(sin)
    lead, width = x.shape[:-1], x.shape[-1] if x.ndim else 0
    if width % 2 or not width:
        raise AttnaxError(f"apply_rope: x is {x.shape}; features turn in pairs, so the last size must be even")
    if not all(_broadcasts(table.shape, (*lead, width // 2)) for table in (cos, sin)):
        raise AttnaxError(
            f"apply_rope: cos is {cos.shape} and sin {sin.shape} for x {x.shape}; give tables of width {width // 2} that "
            "broadcast to x"
        )
    dtype = jnp.promote_types(x.dtype, jnp.promote_types(cos.dtype, sin.dtype))
    rows = np.broadcast_shapes(cos.shape, sin.shape)[:-1]
    # `rotate` takes a table over the last leading axis of x, or over all of them.
    wanted = lead if any(size != 1 for size in rows[:-1]) else lead[-1:] or (1,)
    table = jnp.concatenate(
        [
            jnp.broadcast_to(half.astype(dtype).reshape(_aligned(half.shape, len(wanted) + 1)), (*wanted, width // 2))
            for half in (cos, sin)
        ],
        axis=-1,
    )
    turned = rotate(x.astype(dtype).reshape(*(lead or (1,)), 1, width), table, pairing="half")
    return turned.reshape(x.shape)


def rope_inv_freq(
    head_dim: int, base: float, dtype: npt.DTypeLike, *, angle_dtype: npt.DTypeLike | None = None
) -> Array:
    """Radians per position of every pair j, base ** (-2j / head_dim): (head_dim/2,) in `dtype`.

    `angle_dtype`: see `rope_cos_sin_table`.

    Raises:
      RopegenError: `head_dim` is odd, or the base is at most 1.
    """
    rope, width = _rope("rope_inv_freq", head_dim, base)
    dtype = _float_type("rope_inv_freq: dtype", dtype)
    steps = _angle_type("rope_inv_freq", dtype, angle_dtype)
    if steps != jnp.float32:
        return _frequencies(rope.theta, width // 2, steps).astype(dtype)
    with jax.ensure_compile_time_eval():  # under jit XLA would fuse the steps and give other numbers
        return _frequencies(rope.theta, width // 2, steps).astype(dtype)


def rope_cos_sin_table(
    max_seq_len: int,
    head_dim: int,
    base: float,
    dtype: npt.DTypeLike,
    *,
    angle_dtype: npt.DTypeLike | None = None,
) -> tuple[Array, Array]:
    """Cosines and sines for positions 0 .. max_seq_len-1: two tables (max_seq_len, head_dim/2) in `dtype`.

    `angle_dtype` is the type of every step before the last rounding. None stands for float32, or for `dtype` if that is
    wider. `angle_dtype=dtype` reproduces attnax's steps, at run time; float32 tables are constants.

    Raises:
      RopegenError: `head_dim` is odd, the base is at most 1, or the length is negative.
    """
    rope, width = _rope("rope_cos_sin_table", head_dim, base)
    length = _size("rope_cos_sin_table: max_seq_len", max_seq_len, least=0)
    dtype = _float_type("rope_cos_sin_table: dtype", dtype)
    steps = _angle_type("rope_cos_sin_table", dtype, angle_dtype)
    if steps != jnp.float32:
        angles = jnp.outer(jnp.arange(length, dtype=steps), _frequencies(rope.theta, width // 2, steps))
        return jnp.cos(angles).astype(dtype), jnp.sin(angles).astype(dtype)
    return _halves(rope_table(length, rope, width), dtype)


def rope_cos_sin_from_positions(
    position_ids: ArrayLike,
    head_dim: int,
    base: float,
    table_len: int,
    out_dtype: npt.DTypeLike,
    *,
    angle_dtype: npt.DTypeLike | None = None,
) -> tuple[Array, Array]:
    """Cosines and sines at integer positions (...) in 0 .. table_len-1: two arrays (..., head_dim/2) in `out_dtype`.

    With float32 angles only the given positions are computed, without a table. `angle_dtype`: see `rope_cos_sin_table`.

    Raises:
      RopegenError: `head_dim` is odd, the base is at most 1, or `table_len` is below 1.
      AttnaxError: positions are not integers, or a known position is outside the table.
    """
    name = "rope_cos_sin_from_positions"
    rope, width = _rope(name, head_dim, base)
    length = _size(f"{name}: table_len", table_len)
    dtype = _float_type(f"{name}: out_dtype", out_dtype)
    steps = _angle_type(name, dtype, angle_dtype)
    places = _places(name, position_ids, length)
    if steps != jnp.float32:
        tables = rope_cos_sin_table(length, width, base, dtype, angle_dtype=steps)
        cos, sin = (embed(places, table, mode="fill") for table in tables)
        return cos, sin
    rows = rope_table(places.reshape(-1), rope, width).reshape(*places.shape, width)
    inside = (places >= 0) & (places < length)
    return _halves(jnp.where(inside[..., None], rows, jnp.nan), dtype)


def _frequencies(base: float, pairs: int, dtype: np.dtype[Any]) -> Array:
    return 1.0 / base ** (jnp.arange(pairs, dtype=dtype) / pairs)


def _halves(table: Array, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    cos, sin = jnp.split(table.astype(dtype), 2, axis=-1)
    return cos, sin


def _rope(name: str, head_dim: int, base: float) -> tuple[Rope, int]:
    """The rotary embedding and the width of a head, after checking both."""
    rope = Rope(base, pairing="half", angles="f32")
    return rope, rope.width(whole(f"{name}: head_dim", head_dim))


def _float_type(what: str, dtype: npt.DTypeLike) -> np.dtype[Any]:
    if (name := dtype_name(dtype)) not in FLOATS:
        raise AttnaxError(f"{what} is {name}; cosines and sines must be one of {', '.join(FLOATS)}")
    return numpy_dtype(name)


def _angle_type(name: str, dtype: np.dtype[Any], angle_dtype: npt.DTypeLike | None) -> np.dtype[Any]:
    chosen = jnp.promote_types(dtype, jnp.float32) if angle_dtype is None else angle_dtype
    # Without jax_enable_x64 float64 becomes float32.
    return np.dtype(jax.dtypes.canonicalize_dtype(_float_type(f"{name}: angle_dtype", chosen)))


def _size(what: str, value: object, least: int = 1) -> int:
    if (size := whole(what, value)) < least:
        raise AttnaxError(f"{what} is {size}; give {least} or more")
    return size


def _sides(what: str, value: int | Sequence[int]) -> tuple[int, int]:
    sides: Sequence[int] = value if isinstance(value, Sequence) else (value, value)
    if len(sides) != 2:
        raise RopegenError(f"{what} is {value!r}; give one number, or (height, width)")
    return _size(what, sides[0]), _size(what, sides[1])


def _sequence(name: str, x: Array, width: int) -> int:
    """The sequence length of x (batch, sequence, width)."""
    if x.ndim != 3 or x.shape[-1] != width:
        raise AttnaxError(f"{name}: x is {x.shape}; give (batch, sequence, {width})")
    return x.shape[1]


def _traced(start: Any) -> Array:
    if start.ndim or not jnp.issubdtype(start.dtype, jnp.integer):
        raise AttnaxError(f"PositionalEncoding: start is {start.dtype}{start.shape}; give one whole number")
    return start.astype(jnp.int32)


def _integers(what: str, value: ArrayLike) -> Array:
    """Integers as int32 or int64; an unsigned value that int32 cannot hold becomes 2**31 - 1, beyond every table."""
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise AttnaxError(f"{what} are {array.dtype}{array.shape}; give integers")
    if jnp.issubdtype(array.dtype, jnp.unsignedinteger) and array.dtype.itemsize >= 4:
        array = jnp.minimum(array, np.asarray(2**31 - 1, array.dtype))
    return array if array.dtype == jnp.int64 else array.astype(jnp.int32)


def _places(name: str, value: ArrayLike, rows: int) -> Array:
    """Positions as integers; known positions must be rows of the table."""
    places = _integers(f"{name}: position_ids", value)
    if not isinstance(value, jax.Array):
        known = np.asarray(value)
        outside = known[(known < 0) | (known >= rows)]
        if outside.size:
            raise AttnaxError(f"{name}: position {outside[0]} in a table of {rows}; give positions 0 to {rows - 1}")
    return places


def _broadcasts(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether a table of `shape` has the width of `wanted` and broadcasts to it."""
    fits = all(size in (1, other) for size, other in zip(shape[::-1], wanted[::-1], strict=False))
    return fits and len(shape) <= len(wanted) and shape[-1:] == wanted[-1:]


def _aligned(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """The last `rank` sizes of a shape; the sizes before them are 1."""
    return shape[max(0, len(shape) - rank) :]
