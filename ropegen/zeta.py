"""zeta's rotary functions in JAX: `SinusoidalEmbeddings`, `rotate_half` and `apply_rotary_pos_emb`.

Names, arguments, shapes and results are those of `zeta.nn.embeddings.sinusoidal` (zetascale 2.8.8, PyTorch). In zeta
every feature has its own angle. So this module computes the products itself, in zeta's order and in the promoted type (a
bfloat16 q with float32 angles gives float32). `SinusoidalEmbeddings.rope` gives the same rotation for ropegen's own
functions.

This module does not repeat zeta's mistakes. `apply_rotary_pos_emb` works without `scale` (zeta's default fails). An odd
width is an error (in zeta the result gains a feature). Angles stay float32 for every element type of the model. An xPos
magnitude that float32 cannot hold is an error.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from ropegen import scaling
from ropegen.errors import RopegenError
from ropegen.rotary import Rope
from ropegen.scaling import Scaling, even_width, finite, whole

__all__ = [
    "MissingAxisError",
    "MissingScaleBaseError",
    "ShapeError",
    "SinusoidalEmbeddings",
    "apply_rotary_pos_emb",
    "rotate_half",
]

Array = jax.Array

_THETA = 10_000.0


class ShapeError(RopegenError, RuntimeError):
    """Shapes do not fit together; PyTorch and einops raise RuntimeError."""


class MissingAxisError(RopegenError, IndexError):
    """An input has no sequence axis; PyTorch raises IndexError."""


class MissingScaleBaseError(RopegenError, AssertionError):
    """`use_xpos` is given without `scale_base`; zeta raises AssertionError."""


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=(), meta_fields=("dim", "scale_base", "use_xpos", "centre")
)
@dataclass(frozen=True, slots=True)
class SinusoidalEmbeddings:
    """The rotary angles of a sequence, and with xPos its magnitudes (arXiv:2104.09864, arXiv:2212.10554).

    dim: the width of a head, even. The angle of features j and j + dim/2 is position * 10000^(-2j/dim).
    scale_base: the number of positions over which xPos multiplies feature j once by (2j + 0.4 dim) / (1.4 dim).
    use_xpos: whether the rotation has xPos magnitudes.
    centre: the position where the magnitudes are 1. None stands for zeta's choice, half the current length. That centre
      moves as a cache grows, so keys rotated at different lengths do not fit together. A fixed centre, such as half the
      longest length, avoids this.

    It is a pytree without leaves, so it can be an argument of a `jax.jit` function.

    Raises:
      RopegenError: `dim` is odd, or a value is not a number.
      MissingScaleBaseError: `use_xpos` is given without `scale_base` (AssertionError).
    """

    dim: int
    scale_base: float | None = None
    use_xpos: bool = False
    _: KW_ONLY
    centre: float | None = None

    def __post_init__(self) -> None:
        dim = even_width("SinusoidalEmbeddings: dim", whole("SinusoidalEmbeddings: dim", self.dim))
        object.__setattr__(self, "dim", dim)
        if self.use_xpos and self.scale_base is None:
            raise MissingScaleBaseError(
                "SinusoidalEmbeddings: use_xpos needs scale_base, the positions for one step of decay; 512 is usual"
            )
        if self.use_xpos:
            self._family(0)  # checks the base and the centre

    @property
    def inv_freq(self) -> Array:
        """Radians per position of every pair, (dim/2,) float32."""
        return jnp.asarray(_inverse_frequencies(self.dim))

    @property
    def scale(self) -> Array:
        """The factor of xPos per `scale_base` positions, for every pair, (dim/2,) float32."""
        return jnp.asarray(_decay(self.dim))

    def __call__(self, x: Any) -> tuple[Array, Array]:
        """Angles (n, dim) and magnitudes, float32; n is `x.shape[-2]`. Magnitudes are (n, dim) with xPos, else one 1.

        Raises:
          MissingAxisError: x has fewer than two axes (IndexError).
          RopegenError: the magnitude, or its inverse, leaves float32 within n positions.
        """
        if len(x.shape) < 2:
            raise MissingAxisError(
                f"SinusoidalEmbeddings: x has shape {tuple(x.shape)}; give (..., sequence, width), where the second-last "
                "size is the number of positions"
            )
        length = int(x.shape[-2])
        # NumPy rounds the product here, because XLA under jit would fuse it into the cosine and round differently.
        half = jnp.asarray(np.arange(length, dtype=np.float32)[:, None] * _inverse_frequencies(self.dim))
        freqs = jnp.concatenate([half, half], axis=-1)
        if not self.use_xpos:
            return freqs, jnp.ones(1, jnp.float32)
        self.rope(length).check_magnitude(np.array([0, max(length - 1, 0)]), self.dim)
        power = (np.arange(length) - self._centre(length)).astype(np.float32) / np.float32(self._base)
        return freqs, jnp.power(_twice(_decay(self.dim)), power[:, None])

    def forward(self, x: Any) -> tuple[Array, Array]:
        """Call the module; PyTorch's name for `__call__`."""
        return self(x)

    def rope(self, length: int) -> Rope:
        """The same rotation for `ropegen.attention` and `ropegen.rope`, for a sequence of `length`.

        `ropegen.attention` multiplies queries by the magnitude of xPos and divides keys by it, as
        `apply_rotary_pos_emb` does.
        """
        return Rope(_THETA, pairing="half", angles="f32", scaling=self._family(length))

    def _family(self, length: int) -> Scaling:
        return scaling.xpos(base=self._base, centre=self._centre(length)) if self.use_xpos else scaling.none()

    @property
    def _base(self) -> float:
        return finite("SinusoidalEmbeddings: scale_base", self.scale_base)

    def _centre(self, length: int) -> float:
        return float(length // 2) if self.centre is None else finite("SinusoidalEmbeddings: centre", self.centre)


def rotate_half(x: Array) -> Array:
    """The negated second half of the last axis, then the first half: x (batch, ..., width) -> the same shape.

    Raises:
      ShapeError: the width is odd, or x has fewer than two axes (RuntimeError).
    """
    if x.ndim < 2 or x.shape[-1] % 2:
        raise ShapeError(f"rotate_half: x has shape {x.shape}; give (batch, ..., width) with an even width")
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([-second, first], axis=-1)


def apply_rotary_pos_emb(q: Array, k: Array, freqs: Array, scale: npt.ArrayLike | Array = 1) -> tuple[Array, Array]:
    """Rotate queries (..., Sq, dim) and keys (..., n, dim) by angles (..., n, dim) in radians, and return (q, k).

    The queries are at the last Sq of the n positions. Queries are multiplied by `scale` and keys divided by it; `scale`
    is a number or (n, dim), as `SinusoidalEmbeddings` returns it. The products and the results have the promoted type.

    Every feature has its own angle, so `freqs` may also pair other features than j and j + dim/2.

    Raises:
      ShapeError: shapes do not fit, or there are more queries than angles (RuntimeError).
    """
    scale = jnp.asarray(scale)
    if scale.ndim == 0 or not jnp.issubdtype(scale.dtype, jnp.floating):
        scale = scale.astype(freqs.dtype)
    for name, array in (("q", q), ("k", k), ("freqs", freqs)):
        if array.ndim < 2:
            raise ShapeError(f"apply_rotary_pos_emb: {name} has shape {array.shape}; give (..., sequence, width)")
    queries, count = q.shape[-2], freqs.shape[-2]
    if queries > count > 1:
        raise ShapeError(
            f"apply_rotary_pos_emb: {queries} queries and angles for {count} positions; the queries are at the last of the "
            "positions, so give angles for all of them"
        )
    inverse = scale**-1
    q_freqs = _last(freqs, queries)
    return (
        _turned("q", q, q_freqs, _last(scale, queries) if scale.ndim == 2 else scale),
        _turned("k", k, freqs, inverse),
    )


def _last(rows: Array, count: int) -> Array:
    """The last `count` rows, or the only row."""
    return rows if rows.shape[-2] == 1 else rows[..., max(0, rows.shape[-2] - count) :, :]


def _turned(name: str, x: Array, freqs: Array, scale: Array) -> Array:
    _expect_shapes(name, x.shape, freqs.shape, scale.shape)
    return (x * jnp.cos(freqs) * scale) + (rotate_half(x) * jnp.sin(freqs) * scale)


def _expect_shapes(name: str, x: Sequence[int], freqs: Sequence[int], scale: Sequence[int]) -> None:
    try:
        np.broadcast_shapes(x, freqs, scale)
    except ValueError:
        raise ShapeError(
            f"apply_rotary_pos_emb: {name} has shape {tuple(x)}, its angles {tuple(freqs)} and its scale "
            f"{tuple(scale)}; the sizes of an axis must be equal or 1"
        ) from None


def _inverse_frequencies(dim: int) -> npt.NDArray[np.float32]:
    # PyTorch divides the exponent by dim. XLA would multiply by a reciprocal, which is one unit off at dim=96, and the
    # position multiplies that error. PyTorch's float32 power is nearly always the nearest float32, so it is computed in
    # float64 and rounded, with the same result on every machine.
    exponents = (np.arange(0, dim, 2).astype(np.float32) / np.float32(dim)).astype(np.float64)
    return np.float32(1.0) / (_THETA**exponents).astype(np.float32)


def _decay(dim: int) -> npt.NDArray[np.float32]:
    return (np.arange(0, dim, 2).astype(np.float32) + np.float32(0.4 * dim)) / np.float32(1.4 * dim)


def _twice(row: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.concatenate([row, row])
