"""`rope` on CPU as native code: one pass over memory, in which the angles of a row are read once for all heads.

XLA computes halves or pairs as arrays of their own and joins them, number by number. The tangent is the rotation of the
tangent, and the cotangent is rotated back, both by the same kernel. Derivatives in the angles are those of the `xla`
template.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ropegen.cost import Cost, Direction, Work
from ropegen.native import machine
from ropegen.native.call import call
from ropegen.target import Target
from ropegen.template import Array, Arrays, Kernel, Template, Tile
from ropegen.types import dtype_name

from . import kernel_cpu, xla
from .kernel_cpu import Form, Heads
from .site import FAMILY, RopeSite
from .turning import turning

# Results of at least so many bytes do not stay in the caches, so they need not pass through them.
_STREAMED = 1 << 23


def declines(site: RopeSite, target: Target) -> Iterator[str]:
    """Element types other than those that become float32, and rotations of nothing."""
    if not machine.is_installed():
        yield f"llvmlite is not installed; {machine.INSTALL}"
        return
    if site.angles.type.dtype != "f32":
        yield f"it reads angles in f32, not {site.angles.type.dtype}"
    if any(source.type.dtype == "f64" for source in site.sources):
        yield "it computes in float32, and x is f64"
    if 0 in site.angles.type.shape or any(0 in source.type.shape for source in site.sources):
        yield "there is nothing to rotate"


def cost(site: RopeSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost:
    """Every array is read and written once, and the angles are read once; two products and a sum for every number."""
    turned = float(sum(value.type.size for value in site.outputs))
    moved = sum(value.type.bytes for value in (*site.sources, *site.outputs)) + site.angles.type.bytes
    return Work(vector=3.0 * turned, moved=float(moved)).on(target, site.outputs[0].type.dtype)


def build(site: RopeSite, tile: Tile, target: Target) -> Kernel:
    """The native kernel for the vector unit of the target."""

    def turn(arrays: Sequence[Array], angles: Array, pairings: Sequence[str], *, inverse: bool = False) -> Arrays:
        return _rotated(arrays, angles, pairings, target, inverse=inverse)

    return turning(site, turn, xla.build(site, tile, target))


def _rotated(
    arrays: Sequence[Array], angles: Array, pairings: Sequence[str], target: Target, *, inverse: bool = False
) -> Arrays:
    """Arrays (..., S, H, D) rotated by angles (S, dim) or (..., S, dim)."""
    lead, (rows, dim) = arrays[0].shape[:-3], angles.shape[-2:]
    batch, batch_of_angles = math.prod(lead), math.prod(angles.shape[:-2])
    form = Form(
        batch=batch,
        rows=rows,
        dim=dim,
        has_batch=batch_of_angles > 1,
        arrays=tuple(
            Heads(dtype=dtype_name(array.dtype), heads=array.shape[-2], width=array.shape[-1], pairing=pairing)
            for array, pairing in zip(arrays, pairings, strict=True)
        ),
        inverse=inverse,
        streams=sum(array.nbytes for array in arrays) >= _STREAMED,
        threads=target.cores,
    )
    unit = machine.unit_for(target)
    flat = [array.reshape(batch, rows, *array.shape[-2:]) for array in arrays]
    results = call(kernel_cpu.forward(form, unit), unit, [*flat, angles.reshape(batch_of_angles, rows, dim)])
    return tuple(result.reshape(array.shape) for result, array in zip(results, arrays, strict=True))


TEMPLATE = Template(
    name="llvm_cpu",
    version=1,
    family=FAMILY,
    runs_on=("cpu",),
    declines=declines,
    cost=cost,
    build=build,
    derivatives="rope/xla",
    needs_process=machine.cannot_run,
)
