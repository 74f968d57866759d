"""Mosaic GPU for kernels of jax 0.10.2 to 0.12, on a GPU and in JAX's interpreter of such kernels.

A kernel's body is written once. What a warpgroup holds in registers, it holds in the layout of the tensor core's
accumulators (`WGMMA`); a number per row is in `ROWS`. Both are stated wherever a value begins, because the lowering
semantics are `Lane` on every version: jax 0.11 made `Warpgroup` the default, which infers layouts.

The interpreter (jax 0.12) runs the copies, barriers and loops of a kernel on a CPU, and looks for races between
warpgroups. It knows neither layouts nor products that are in flight. `Machine` has the functions that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

Array: TypeAlias = jax.Array
Ref: TypeAlias = Any  # a reference to global or shared memory, or to barriers
Index: TypeAlias = Any  # an int, or a traced int32

WARPGROUP = "warpgroup"
WGMMA: Any = plgpu.Layout.WGMMA
ROWS: Any = plgpu.Layout.WGMMA.reduce(1)

# `load` took an index before jax 0.11.
_LOAD_TAKES_AN_INDEX = jax.__version_info__ < (0, 11)


def tiles(shape: Sequence[int], dtype: Any, columns: int) -> Any:
    """Shared memory for matrices (..., rows, width) that the tensor core reads and bulk copies write.

    They lie in tiles of 8 rows and so many `columns`; 16, 32 or 64 columns of 16-bit numbers are swizzled over as many
    banks. Both operands of a product need the same number if it runs over their columns.
    """
    size = columns * jnp.dtype(dtype).itemsize
    return plgpu.SMEM(
        tuple(shape), dtype, transforms=(plgpu.TilingTransform((8, columns)), plgpu.SwizzleTransform(size))
    )


def barriers(count: int, arrivals: int = 1) -> Any:
    """So many barriers, each of which waits for so many arrivals: of copies, or of warpgroups."""
    return plgpu.Barrier(num_barriers=count, num_arrivals=arrivals)


@dataclass(frozen=True, slots=True)
class Machine:
    """What runs a kernel: a GPU or, if it `interprets`, JAX on a CPU."""

    interprets: bool = False

    def kernel(
        self,
        body: Callable[..., None],
        *,
        results: Sequence[jax.ShapeDtypeStruct],
        scratch: Sequence[Any],
        grid: Mapping[str, int],
        warpgroups: int,
        name: str,
    ) -> Callable[..., Sequence[Array]]:
        """The kernel as a function of arrays. `body` takes references to operands, results and scratch memory.

        Of the axes of the `grid`, the first one varies fastest.
        """
        options: dict[str, Any] = {}
        if self.interprets:
            options["interpret"] = plgpu.InterpretGPUParams(detect_races=True)  # pyright: ignore[reportAttributeAccessIssue]
        return plgpu.kernel(
            body,
            out_type=list(results),
            scratch_types=list(scratch),
            grid=tuple(grid.values()),
            grid_names=tuple(grid),
            num_threads=warpgroups,
            thread_name=WARPGROUP,
            kernel_name=name,
            compiler_params=plgpu.CompilerParams(
                approx_math=True,
                reduction_scratch_bytes=0,  # no reduction crosses a warp
                lowering_semantics=plgpu.LoweringSemantics.Lane,
            ),
            **options,
        )

    def load(self, ref: Ref, layout: Any = WGMMA, *, is_shared: bool = True) -> Array:
        """The values of a reference in registers. Only loads from shared memory must be free of bank conflicts."""
        index = ((),) if _LOAD_TAKES_AN_INDEX else ()
        return plgpu.load(ref, *index, layout=layout, optimized=is_shared)

    def filled(self, shape: tuple[int, ...], value: float, layout: Any = WGMMA) -> Array:
        """A float32 array with one value."""
        return plgpu.layout_cast(jnp.full(shape, value, jnp.float32), layout)

    def iota(self, shape: tuple[int, int], axis: int) -> Array:
        """The int32 index of every element along an axis."""
        return plgpu.broadcasted_iota(jnp.int32, shape, axis, layout=WGMMA)

    def vector(self, ref: Ref, axis: int, *, is_shared: bool = False) -> Array:
        """The numbers of a reference (n,) in registers, for the rows (axis 0) or the columns (axis 1) of a matrix."""
        return self.load(ref, WGMMA.reduce(1 - axis), is_shared=is_shared)

    def spread(self, vector: Array, shape: tuple[int, int], axis: int) -> Array:
        """A matrix with the numbers of a vector along an axis, and equal ones along the other."""
        return lax.broadcast_in_dim(vector, shape, (axis,))

    def across(self, rows: Array, width: int) -> Array:
        """A number per row, (n,), for all `width` columns: (n, width)."""
        return self.spread(rows, (rows.shape[0], width), 0)

    def multiplied(self, a: Ref, b: Ref) -> Array:
        """The product of matrices (n, width) and (m, width) over their columns: (n, m) float32."""
        if self.interprets:
            return self._read_and_multiplied(a[...], b, (1, 1))

        def run(total: Ref) -> Array:
            plgpu.wgmma(total, a, b.transpose((1, 0)))
            return total[...]

        return pl.run_scoped(run, plgpu.WGMMAAccumulatorRef((a.shape[0], b.shape[0]), jnp.float32))

    def added(self, total: Array, a: Array, b: Ref) -> Array:
        """`total` (n, width) plus the product of registers (n, m) with a matrix (m, width)."""
        if self.interprets:
            return total + self._read_and_multiplied(a, b, (1, 0))

        def run(sums: Ref) -> None:
            plgpu.wgmma(sums, a, b)

        summed: Any = pl.run_state(run)(plgpu.WGMMAAccumulatorRef.init(total))
        return summed

    def _read_and_multiplied(self, a: Array, b: Ref, contracted: tuple[int, int]) -> Array:
        """A product of the interpreter. It reads like any code, and a bulk copy may overwrite what it read only after
        `commit_smem`.
        """
        dimensions = (((contracted[0],), (contracted[1],)), ((), ()))
        product = lax.dot_general(a, b[...], dimensions, preferred_element_type=jnp.float32)
        plgpu.commit_smem()
        return product
