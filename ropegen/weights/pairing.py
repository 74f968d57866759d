"""Convert weights from one rotary pairing to the other, so that one checkpoint runs with `half` or `interleaved` pairs.

A rotary embedding turns pairs of features, and checkpoints differ in where the two features of a pair stand: pair j is
features 2j and 2j + 1 (interleaved) or j and j + dim/2 (half). A score is a sum over the features of a head, so any
order of features will do if q and k share it. Reordering the output features of both projections once, offline,
converts a checkpoint; values and the output projection stay as they are.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numpy as np

from ropegen.errors import RopegenError
from ropegen.rotary import Pairing
from ropegen.scaling import even_width, whole

Array = TypeVar("Array")


def to_half(weight: Array, *, width: int, dim: int | None = None, axis: int = -1) -> Array:
    """A weight made for interleaved pairs, reordered for pairs of halves.

    Meta's original Llama weights, GPT-J and DeepSeek use interleaved pairs; the Llama conversions on the Hugging Face
    hub have been reordered already. In every head, features 0, 2, 4, ... go before features 1, 3, 5, ...

    weight: NumPy, JAX or torch array whose `axis` holds the output features of q or k, as whole heads of `width`
    features one after the other. It is the projection (features, heads * width), torch's projection
    (heads * width, features) with axis=0, the bias (heads * width,), or the weight (width,) of a QK-norm. Split a
    packed q, k and v first.
    dim: the rotated width, the first `dim` features of a head, as in `Rope`; None for the whole head.

    Returns an array of the same type, shape and element type with every value unchanged; `to_interleaved` is the exact
    inverse. Convert both q and k or neither, and start with an empty cache, because cached keys keep their old order.

    Raises:
      RopegenError: the axis does not exist or holds no whole number of heads, or dim is odd or above the width.
    """
    return _reordered(weight, width, dim, axis, "half")


def to_interleaved(weight: Array, *, width: int, dim: int | None = None, axis: int = -1) -> Array:
    """A weight made for pairs of halves (most checkpoints on the Hugging Face hub), reordered for interleaved pairs.

    This is the exact inverse of `to_half`, which describes the arguments and the errors.
    """
    return _reordered(weight, width, dim, axis, "interleaved")


def _reordered(weight: Array, width: int, dim: int | None, axis: int, to: Pairing) -> Array:
    where = f"to_{to}"
    if not isinstance(shape := getattr(weight, "shape", None), tuple):
        raise RopegenError(f"{where}: the weight must be an array, got {type(weight).__name__}")
    sizes = cast(tuple[int, ...], shape)
    width, axis = whole(f"{where}: width", width), whole(f"{where}: axis", axis)
    dim = even_width(f"{where}: the rotated width", width if dim is None else whole(f"{where}: dim", dim))
    if dim > width:
        raise RopegenError(f"{where}: a rotated width of {dim} does not fit a head of {width} features")
    if not -len(sizes) <= axis < len(sizes):
        raise RopegenError(f"{where}: the weight has shape {tuple(sizes)} and no axis {axis}")
    axis %= len(sizes)
    if sizes[axis] % width:
        raise RopegenError(
            f"{where}: axis {axis} of a weight of shape {tuple(sizes)} has {sizes[axis]} features, which are not whole "
            f"heads of {width}; say where the output features are with axis= (torch's linear layers have axis=0)"
        )
    pairs = np.arange(dim).reshape((dim // 2, 2) if to == "half" else (2, dim // 2))
    within = np.concatenate([pairs.T.ravel(), np.arange(dim, width)])
    order = (np.arange(0, sizes[axis], width)[:, None] + within).ravel()
    return cast(Any, weight)[(slice(None),) * axis + (order,)]
