"""Element types and tensor types, which describe every value of a graph."""

from __future__ import annotations

import math
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ropegen.errors import RopegenError, nearest

# The IR's name of every element type, as MLIR spells it, and its NumPy dtype.
_NUMPY: dict[str, np.dtype[np.generic]] = {
    "f64": np.dtype(np.float64),
    "f32": np.dtype(np.float32),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "i64": np.dtype(np.int64),
    "i32": np.dtype(np.int32),
    "i1": np.dtype(np.bool_),
}
_ALIASES = {dtype.name: name for name, dtype in _NUMPY.items()}

DTYPES = tuple(_NUMPY)
FLOATS = ("f64", "f32", "f16", "bf16")
INTEGERS = ("i64", "i32")


def dtype_name(dtype: npt.DTypeLike | str) -> str:
    """The IR's name of an element type: `bf16`, `bfloat16` and `jnp.bfloat16` all give `"bf16"`."""
    if isinstance(dtype, str) and dtype in _NUMPY:
        return dtype
    if hasattr(dtype, "__array__") and not isinstance(dtype, type):
        raise RopegenError(f"the element type is {dtype!r:.60}, an array; give the dtype of the array")
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    if name not in _ALIASES:
        raise RopegenError(f"unknown element type {name!r}; {nearest(name, [*DTYPES, *_ALIASES])}")
    return _ALIASES[name]


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """The NumPy dtype of an IR element type."""
    return _NUMPY[dtype_name(name)]


def epsilon(name: str) -> float:
    """The distance from 1.0 to the next number of a floating element type."""
    return float(ml_dtypes.finfo(numpy_dtype(name)).eps)


@dataclass(frozen=True, slots=True)
class TensorType:
    """A static shape and an element type, `tensor<2x8xbf16>` in text."""

    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        object.__setattr__(self, "dtype", dtype_name(self.dtype))
        if any(size < 0 for size in self.shape):
            raise RopegenError(f"a shape must not have negative sizes, got {self.shape}")

    def __str__(self) -> str:
        return f"tensor<{''.join(f'{size}x' for size in self.shape)}{self.dtype}>"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """The size in memory, in bytes."""
        return self.size * numpy_dtype(self.dtype).itemsize

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    @property
    def is_integer(self) -> bool:
        return self.dtype in INTEGERS

    def with_shape(self, *shape: int) -> TensorType:
        return TensorType(shape, self.dtype)

    def with_dtype(self, dtype: str) -> TensorType:
        return TensorType(self.shape, dtype)
