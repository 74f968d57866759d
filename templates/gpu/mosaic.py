"""Mosaic GPU for kernels of jax 0.10.2 to 0.12, on a GPU and in JAX's interpreter of such kernels.

A kernel's body is written once. What a warpgroup holds in registers, it holds in a layout: on Hopper in that of the
tensor core's accumulators (`WGMMA`), and on Blackwell with a row in each thread (`NATIVE`). The layout is stated wherever
a value begins, because the lowering semantics are `Lane` on every version: jax 0.11 made `Warpgroup` the default, which
infers layouts.

The interpreter (jax 0.12) runs the copies, barriers and loops of a kernel on a CPU, and looks for races between
warpgroups. It knows neither layouts nor products that are in flight. `Machine` has the functions that differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.mosaic.gpu.fragmented_array import FragmentedArray
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import nvvm
from jaxlib.mlir.dialects import vector as vectors

Array: TypeAlias = jax.Array
Ref: TypeAlias = Any  # a reference to global or shared memory, or to barriers
Index: TypeAlias = Any  # an int, or a traced int32

WARPGROUP = "warpgroup"
WGMMA: Any = plgpu.Layout.WGMMA
NATIVE: Any = plgpu.Layout.TCGEN05_TMEM_NATIVE
# A layout in which registers come from the tensor core's memory, and go to shared memory without bank conflicts.
STORED: Any = plgpu.Layout.TCGEN05
# 128 numbers, of which each thread of a warp has four; every warp has all of them.
_IN_EVERY_WARP: Any = plgpu.Layout.TILED(
    plgpu.Tiling(((128,), (4,))), warp_dims=(plgpu.Replicated(4),), lane_dims=(-2,), vector_dim=-1
)

# The copies and products in flight that the interpreter tells apart.
_CLOCKS = 256

# JAX does not state what its result takes.
_inline: Any = plgpu.inline_mgpu
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


def barriers(count: int, arrivals: int = 1, *, of_products: bool = False) -> Any:
    """So many barriers, each of which waits for so many arrivals: of copies, of warpgroups, or `of_products`."""
    return plgpu.Barrier(num_barriers=count, num_arrivals=arrivals, orders_tensor_core=of_products)


def strided(shape: tuple[int, ...], vector: int) -> Any:
    """The layout in which a warpgroup holds global memory: its 128 threads have `vector` neighbours each, one after the
    other, until all numbers of the shape are distributed.
    """
    return plgpu.Layout.WG_STRIDED(shape, vec_size=vector)


def _registers(shape: tuple[int, ...], dtype: Any, vector: int) -> Any:
    return plgpu.ShapeDtypeStruct(shape, dtype, layout=strided(shape, vector))


def _fragments(registers: Sequence[Any], layout: Any) -> Any:
    """An array of Mosaic GPU with one vector in each register."""
    held = np.empty(len(registers), dtype=object)
    held[:] = registers
    return FragmentedArray(_registers=held, _layout=layout.to_mgpu(), _is_signed=None)


def _alignment(vector: int, dtype: Any) -> int:
    """The bytes of an access, of which a GPU reads at most 16 at once."""
    return min(16, vector * jnp.dtype(dtype).itemsize)


@dataclass(frozen=True, slots=True)
class Machine:
    """What runs a kernel: a GPU or, if it `interprets`, JAX on a CPU. Matrices in registers are in the layout `matrix`."""

    interprets: bool = False
    matrix: Any = WGMMA

    @property
    def rows(self) -> Any:
        """The layout of a number for each row of a matrix."""
        return self.matrix.reduce(1)

    def kernel(
        self,
        body: Callable[..., None],
        *,
        results: Sequence[jax.ShapeDtypeStruct],
        scratch: Sequence[Any],
        grid: Mapping[str, int],
        warpgroups: int,
        name: str,
        has_barriers: bool = True,
        overlaps: bool = False,
    ) -> Callable[..., Sequence[Array]]:
        """The kernel as a function of arrays. `body` takes references to operands, results and scratch memory.

        Of the axes of the `grid`, the first one varies fastest. A kernel whose threads share no memory needs no barriers:
        with `has_barriers`, the threads of a warpgroup wait for each other before and after each store. A kernel `overlaps`
        if two blocks write the same numbers to one place; the interpreter would report this as a race.
        """
        options: dict[str, Any] = {}
        if self.interprets:
            # Copies and products that share a clock would look as if one had waited for the other.
            clocks = {"detect_races": not overlaps, "num_tma_threads_per_device": _CLOCKS}
            options["interpret"] = plgpu.InterpretGPUParams(**clocks)  # pyright: ignore[reportAttributeAccessIssue]
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
                reduction_scratch_bytes=0,  # no reduction crosses a warp: all warpgroups would use the same memory for it
                lowering_semantics=plgpu.LoweringSemantics.Lane,
                unsafe_no_auto_barriers=not has_barriers,
            ),
            **options,
        )

    def load(self, ref: Ref, layout: Any = None, *, is_shared: bool = True) -> Array:
        """The values of a reference in registers. Only loads from shared memory must be free of bank conflicts."""
        index = ((),) if _LOAD_TAKES_AN_INDEX else ()
        return plgpu.load(ref, *index, layout=layout or self.matrix, optimized=is_shared)

    def read(self, ref: Ref, vector: int) -> Array:
        """The numbers of global memory in registers, as `strided` says; every access is `vector` neighbours.

        The reference begins at a multiple of an access, and its rows are whole accesses. `load` would not state this to
        the compiler, which then reads some parts number by number.
        """
        if self.interprets:
            return ref[...]
        layout, dtype = strided(ref.shape, vector), jnp.dtype(ref.dtype)

        @_inline(arg_types=(plgpu.RefType(),), return_type=_registers(ref.shape, dtype, vector))
        def run(context: Any, memory: Any) -> Any:
            kind = ir.VectorType.get((vector,), ir.MemRefType(memory.type).element_type)
            parts = FragmentedArray.transfer_strided(memory, vector)
            read = [vectors.load(kind, part, index, alignment=_alignment(vector, dtype)) for _, _, part, index in parts]
            return _fragments(read, layout)

        return run(ref)

    def write(self, ref: Ref, values: Array, vector: int) -> None:
        """Writes what `read` returned, or something of the same layout, to a reference like that of `read`."""
        if self.interprets:
            ref[...] = values
            return
        dtype = jnp.dtype(ref.dtype)

        @_inline(arg_types=(plgpu.RefType(), strided(ref.shape, vector)))
        def run(context: Any, memory: Any, numbers: Any) -> None:
            for get, _, part, index in FragmentedArray.transfer_strided(memory, vector):
                vectors.store(get(numbers.registers), part, index, alignment=_alignment(vector, dtype))

        run(ref, values)

    def taken_apart(self, x: Array, vector: int) -> tuple[Array, Array]:
        """The even and the odd columns of float32 numbers that `read` returned: (n, width) -> 2 x (n, width / 2).

        They have the layout of an array that is read with `vector / 2` numbers at once.
        """
        if self.interprets:
            pairs = x.reshape(x.shape[0], -1, 2)
            return pairs[..., 0], pairs[..., 1]
        shape, half = x.shape, vector // 2
        part = _registers((shape[0], shape[1] // 2), jnp.float32, half)

        @_inline(arg_types=(strided(shape, vector),), return_type=(part, part))
        def run(context: Any, numbers: Any) -> tuple[Any, Any]:
            even, odd = (
                [vectors.shuffle(x, x, [*range(first, vector, 2)]) for x in numbers.registers.flat] for first in (0, 1)
            )
            return _fragments(even, part.layout), _fragments(odd, part.layout)

        return run(x)

    def joined(self, even: Array, odd: Array, vector: int) -> Array:
        """What `taken_apart` took apart."""
        rows, columns = even.shape
        if self.interprets:
            return jnp.stack([even, odd], axis=2).reshape(rows, 2 * columns)
        half = strided(even.shape, vector // 2)
        whole = _registers((rows, 2 * columns), jnp.float32, vector)

        @_inline(arg_types=(half, half), return_type=whole)
        def run(context: Any, first: Any, second: Any) -> Any:
            order = [
                number for pair in zip(range(vector // 2), range(vector // 2, vector), strict=True) for number in pair
            ]
            return _fragments(
                [
                    vectors.shuffle(*both, order)
                    for both in zip(first.registers.flat, second.registers.flat, strict=True)
                ],
                whole.layout,
            )

        return run(even, odd)

    def largest(self, ref: Ref) -> Array:
        """The largest of 128 numbers in shared memory, which the whole warpgroup has written."""
        return jnp.max(self.load(ref, _IN_EVERY_WARP, is_shared=False))

    def filled(self, shape: tuple[int, ...], value: float) -> Array:
        """A float32 array with one value: a matrix, or a number for each row of one."""
        layout = self.matrix if len(shape) == 2 else self.rows
        return plgpu.layout_cast(jnp.full(shape, value, jnp.float32), layout)

    def iota(self, shape: tuple[int, int], axis: int) -> Array:
        """The int32 index of every element along an axis."""
        return plgpu.broadcasted_iota(jnp.int32, shape, axis, layout=self.matrix)

    def vector(self, ref: Ref, axis: int, *, is_shared: bool = False) -> Array:
        """The numbers of a reference (n,) in registers, for the rows (axis 0) or the columns (axis 1) of a matrix."""
        return self.load(ref, self.matrix.reduce(1 - axis), is_shared=is_shared)

    def spread(self, vector: Array, shape: tuple[int, int], axis: int) -> Array:
        """A matrix with the numbers of a vector along an axis, and equal ones along the other."""
        return lax.broadcast_in_dim(vector, shape, (axis,))

    def across(self, rows: Array, width: int, layout: Any = None) -> Array:
        """A number per row, (n,), for all `width` columns: (n, width), in another layout than `matrix` if one is given."""
        matrix = self.spread(rows, (rows.shape[0], width), 0)
        return matrix if layout is None else plgpu.layout_cast(matrix, layout)

    def reciprocal(self, x: Array) -> Array:
        """1 / x of a matrix, with an error of one unit in the last place; 0 for infinity.

        A quotient would be rounded exactly, which takes many instructions, and JAX's reciprocal root tests for numbers below
        the normal ones.
        """
        if self.interprets:
            return 1 / x
        layout = self.matrix

        @_inline(arg_types=(layout,), return_type=plgpu.ShapeDtypeStruct(x.shape, jnp.float32, layout=layout))
        def run(context: Any, numbers: Any) -> Any:
            held = np.empty(numbers.registers.shape, dtype=object)
            for index, register in np.ndenumerate(numbers.registers):
                kind = ir.VectorType(register.type)
                each = [
                    nvvm.rcp_approx_ftz_f(vectors.extract(register, dynamic_position=[], static_position=[place]))
                    for place in range(kind.shape[0])
                ]
                held[index] = vectors.from_elements(kind, each)
            return FragmentedArray(_registers=held, _layout=layout.to_mgpu(), _is_signed=None)

        return run(x)

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
