"""The embeddings of attnax 0.2.0 as NNX modules and plain functions, which `ropegen.nnx` exports.

Names, arguments, shapes, result types and the state tree are attnax's, so its checkpoints load. Where attnax differs from
its documentation, ropegen follows the documentation:

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
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from flax import nnx

from ropegen.errors import RopegenError
from ropegen.functions import embed, rope_table, rotate, sinusoid
from ropegen.plain_call import Call, Targets, parse_targets
from ropegen.rotary import Rope
from ropegen.scaling import whole
from ropegen.types import FLOATS, dtype_name, numpy_dtype

Array = jax.Array
ArrayLike = npt.ArrayLike | jax.Array


class AttnaxError(RopegenError, TypeError, IndexError):
    """An array or index does not fit. In attnax JAX raises TypeError or IndexError, so this error is both."""


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
        rows = rows_of("TokenEmbedding: token_ids", token_ids, self.embed.embedding[...], self.target)
        return rows.astype(self.embed.dtype)


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


def rows_of(what: str, ids: ArrayLike, table: Array, target: Targets) -> Array:
    """Rows of a table (V, E) at ids (...), as Flax looks them up: (..., E). See `TokenEmbedding`.

    Raises:
      AttnaxError: the ids are not integers; the message begins with `what`.
    """
    given, count = _integers(what, ids), table.shape[0]
    # `embed` does not count negative ids from the end, so they are shifted here; ids out of range stay out of range.
    rows = jnp.where(given < 0, given + count, given)
    return embed(rows, table, mode="clip" if count == 1 else "fill", target=target)


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
