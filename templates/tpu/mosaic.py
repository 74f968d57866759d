"""What the kernels for Mosaic TPU share: types, lanes, padding and products."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from ropegen.target import TPU_KERNEL_MEMORY, Target

Array: TypeAlias = jax.Array
Ref: TypeAlias = Any  # a reference to a block in VMEM
Index: TypeAlias = Any  # an int, or a traced int32

LANES = 128
# The compiler's temporaries take part of a kernel's VMEM limit.
VMEM_SHARE = 3 / 4
# The part of VMEM that a kernel may ask for; XLA keeps buffers of other ops in the rest.
_OF_ALL = 3 / 4


def result_type(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """The type of a result of a kernel. A kernel runs on one device: its results vary over no axis of a mesh."""
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=jax.sharding.ManualAxisType())


def vmem_most(target: Target) -> int:
    """The largest VMEM limit of a kernel, in bytes: what the compiler gives it by default, or more where VMEM is large."""
    return max(target.figures.kernel_memory, int(_OF_ALL * target.figures.fast_memory))


def vmem_limit(needed: int, share: float = VMEM_SHARE) -> int:
    """The limit to ask for, in bytes, if a kernel's blocks and scratch take `needed` bytes, and `share` of the limit."""
    return max(math.ceil(needed / share), TPU_KERNEL_MEMORY)


def round_up(size: int, unit: int) -> int:
    """The smallest multiple of `unit` that is at least `size`."""
    return -(-size // unit) * unit


def is_power(size: int, least: int) -> bool:
    """Whether a size is a power of two of at least `least`."""
    return size >= least and not size & (size - 1)


def lane(shape: tuple[int, ...]) -> Array:
    """The lane number of every element, as int32 of this shape."""
    return lax.broadcasted_iota(jnp.int32, shape, 1)


def dot(a: Array, b: Array, contracted: tuple[int, int] = (1, 0)) -> Array:
    """A 2-D product that accumulates in float32; float32 operands are multiplied at full precision."""
    exact = lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    dimensions = (((contracted[0],), (contracted[1],)), ((), ()))
    return lax.dot_general(a, b, dimensions, precision=exact, preferred_element_type=jnp.float32)
