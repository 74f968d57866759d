"""`rope` by Mosaic GPU for Hopper and Blackwell: one pass over memory for all rotations of a site.

XLA starts a kernel for each rotation. The tangent is the rotation of the tangent, and the cotangent is rotated back, both by
the same kernel. Derivatives in the angles are those of the `xla` template.

The kernel was compiled for H100, H200 and B200 without such a GPU, and its numerics were checked in JAX's interpreter; see
docs/gpu.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ropegen.cost import Cost, Direction, Work
from ropegen.target import Target
from ropegen.template import Array, Arrays, Kernel, Template, Tile
from ropegen.types import dtype_name, numpy_dtype

from ..gpu import capability
from . import xla
from .form_gpu import LEAST_ACCESS, Form, Heads
from .site import FAMILY, RopeSite
from .turning import turning

# Mosaic GPU has instructions in every kernel that older chips do not know, and its compiler ends the process there.
_CAPABILITIES = ("sm90", "sm100")
# CUDA's limit for the axes of a grid that are not the first.
_MOST_BLOCKS = 65535


def declines(site: RopeSite, target: Target) -> Iterator[str]:
    """Other GPUs, other element types, heads without wide accesses, and fewer rows than a block has."""
    yield from capability.declines(_CAPABILITIES, target)
    if site.angles.type.dtype != "f32":
        yield f"it reads angles in f32, not {site.angles.type.dtype}"
    if any(source.type.dtype == "f64" for source in site.sources):
        yield "it computes in float32, and x is f64"
    if 0 in site.angles.type.shape or any(0 in source.type.shape for source in site.sources):
        yield "there is nothing to rotate"
        return
    sources = [source.type for source in site.sources]
    dtypes = [numpy_dtype(source.dtype) for source in sources]
    form = _form([source.shape for source in sources], dtypes, site.pairings, site.angles.type.shape)
    for heads, source in zip(form.arrays, sources, strict=True):
        if heads.access < LEAST_ACCESS:
            yield (
                f"a thread reads at least {LEAST_ACCESS} bytes at once, and {heads.dim} of {heads.width} features in "
                f"{source.dtype} with the pairing {heads.pairing} allow {heads.access}"
            )
            return
    if form.rows < form.block:
        yield f"a block has {form.block} rows, and there are {form.rows}"
    if max(form.blocks, form.batch) > _MOST_BLOCKS:
        yield f"a GPU starts at most {_MOST_BLOCKS:,} blocks of rows and batch entries at once"


def cost(site: RopeSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost:
    """Every array is read and written once, and the angles are read once; two products and a sum for every number.

    It is a model: no time of the kernel was measured.
    """
    turned = float(sum(value.type.size for value in site.outputs))
    moved = sum(value.type.bytes for value in (*site.sources, *site.outputs)) + site.angles.type.bytes
    return Work(vector=3.0 * turned, moved=float(moved)).on(target, site.outputs[0].type.dtype)


def build(site: RopeSite, tile: Tile, target: Target) -> Kernel:
    """One kernel for all rotations."""
    return build_for(site, target)


def build_for(site: RopeSite, target: Target, *, interpreter: bool = False) -> Kernel:
    """`build` for a GPU, or for JAX's interpreter of its kernels."""

    def turn(arrays: Sequence[Array], angles: Array, pairings: Sequence[str], *, inverse: bool = False) -> Arrays:
        # Only a program with the kernel in it imports Mosaic GPU.
        from ..gpu.mosaic import Machine
        from .kernel_gpu import rotated

        shapes, dtypes = [array.shape for array in arrays], [numpy_dtype(dtype_name(array.dtype)) for array in arrays]
        form = _form(shapes, dtypes, pairings, angles.shape, inverse=inverse)
        flat = [array.reshape(form.batch, form.rows, *array.shape[-2:]) for array in arrays]
        if form.rows != angles.shape[-2]:
            angles = jnp.broadcast_to(angles, (*shapes[0][:-3], *angles.shape[-2:]))
        table = angles.reshape(form.rows, angles.shape[-1])
        results = rotated(form, flat, table, Machine(interpreter))
        return tuple(result.reshape(array.shape) for result, array in zip(results, arrays, strict=True))

    return turning(site, turn, xla.build(site, Tile(), target))


def _form(
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[np.dtype[Any]],
    pairings: Sequence[str],
    angles: tuple[int, ...],
    *,
    inverse: bool = False,
) -> Form:
    """The shapes of the kernel for arrays (..., S, H, D) and angles (S, dim) or (..., S, dim).

    The entries of the batch are more rows if they have their own angles, or if a sequence is shorter than a block.
    """
    arrays = tuple(
        Heads(dtype, shape[-2], shape[-1], pairing, angles[-1])
        for shape, dtype, pairing in zip(shapes, dtypes, pairings, strict=True)
    )
    batch, length = math.prod(shapes[0][:-3]), shapes[0][-3]
    form = Form(batch, length, arrays, inverse)
    return Form(1, batch * length, arrays, inverse) if len(angles) > 2 or length < form.block else form


TEMPLATE = Template(
    name="mosaic_gpu",
    version=1,
    family=FAMILY,
    runs_on=("gpu",),
    calls=("mosaic_gpu_v2",),
    declines=declines,
    cost=cost,
    build=build,
    derivatives="rope/xla",
)
