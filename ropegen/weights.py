"""Weights from one pairing to the other: the same checkpoint run with `half` or with `interleaved` rotary pairs.

A rotary embedding turns pairs of features, and checkpoints differ in where the two of a pair stand: pair j is features
2j and 2j + 1 (interleaved) or j and j + dim/2 (half). Scores are sums over the features of a head, so q and k may have
theirs in any order that is the same for both. Reordering the output features of both projections once, offline, takes
a checkpoint from one pairing to the other; values and the output projection stay as they are.
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

    Meta's own Llama weights, GPT-J and DeepSeek pair interleaved; their Llama conversions on the Hugging Face hub have
    been through this already. In every head, features 0, 2, 4, ... go before 1, 3, 5, ...

    weight: NumPy, JAX or torch array with the output features of q or k along `axis`, whole heads of `width` features
    one after the other: the projection (features, heads * width), torch's (heads * width, features) with axis=0, the
    bias (heads * width,), and with QK-norm its weight (width,). Packed q, k and v are taken apart first.
    dim: the rotated width, the first `dim` features of a head, as in `Rope`; None for the whole head.

    Returns the same type, shape and element type, every value unchanged; `to_interleaved` is the exact inverse. Do it
    to q and to k or to neither, and start with an empty cache: cached keys keep the order that they were made in.

    Raises:
      RopegenError: an axis that is not there or holds no whole number of heads, a dim that is odd or above the width.
    """
    return _reordered(weight, width, dim, axis, "half")


def to_interleaved(weight: Array, *, width: int, dim: int | None = None, axis: int = -1) -> Array:
    """A weight made for pairs of halves (most checkpoints on the Hugging Face hub), reordered for interleaved pairs.

    The exact inverse of `to_half`, which describes the arguments.
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
