"""The gradient of a table for Mosaic TPU: products of ones at the ids with rows of cotangents.

The rows of cotangents come in the order of their ids. So the rows of one tile of the table are neighbours, and a step
of the kernel multiplies them by a matrix that has a one where a row of the table meets a row with its id. The sums are
float32. Every tile of the table is written once, also if it is zero, and always in the same order: the gradient is the
same on every run.

A step is one tile of the table and one chunk of rows. The number of steps is known when the kernel is compiled: every tile
has one, and every chunk adds at most one more. Which ones they are is known at run time, from the sorted ids.

A cotangent that is not finite makes its feature NaN in all rows of the table whose tile reads its chunk, because zero times
infinity is NaN.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from ..tpu.mosaic import LANES, Array, Index, Ref, dot, result_type, round_up, vmem_limit

# Rows of cotangents in a chunk: as many as the matrix unit multiplies at once.
CHUNK = LANES
# Rows of the table in a tile. More of them make fewer steps and more products with zeros.
ROWS = 512
_MOST_FEATURES = 1024
# The high 16 bits of a float32 are a bfloat16.
_HIGH = np.int32(-(1 << 16))

_BEGINS, _ENDS, _ADDS = 1, 2, 4


@dataclass(frozen=True, slots=True)
class TableForm:
    """The shapes of a kernel."""

    rows: int  # of cotangents: a whole number of chunks
    vocabulary: int
    features: int
    dtype: np.dtype[Any]

    @property
    def tiles(self) -> int:
        return -(-self.vocabulary // ROWS)

    @property
    def chunks(self) -> int:
        return self.rows // CHUNK

    @property
    def steps(self) -> int:
        return self.tiles + self.chunks

    @property
    def block(self) -> int:
        """Features that a step computes."""
        return min(self.features, _MOST_FEATURES)

    @property
    def blocks(self) -> int:
        return -(-self.features // self.block)

    @property
    def parts(self) -> int:
        """The products of bfloat16 that make one product of ones and rows exact."""
        return 3 if self.dtype.itemsize == 4 else 1

    @property
    def vmem(self) -> int:
        """Bytes of fast memory: two blocks of the table and of the cotangents, the sums, and what a product reads."""
        lanes = round_up(self.block, LANES)
        blocks = 2 * (ROWS + CHUNK) * lanes * self.dtype.itemsize
        return blocks + 2 * ROWS * lanes * 4 + self.parts * CHUNK * lanes * 4 + ROWS * CHUNK * 8


def _kernel(form: TableForm, tiles: Ref, chunks: Ref, does: Ref, ids: Ref, rows: Ref, out: Ref, sums: Ref) -> None:
    step = pl.program_id(1)
    doing = does[step]

    def product() -> Array:
        """The sums (rows of the tile, features) of the rows of this chunk, float32."""
        own = lax.broadcasted_iota(jnp.int32, (ROWS, CHUNK), 0) + tiles[step] * ROWS
        ones = jnp.where(own == ids[0], 1.0, 0.0).astype(jnp.bfloat16)
        rest, total = rows[...], None
        for part in range(form.parts):
            is_last = part == form.parts - 1
            high = rest if is_last else _highest(rest)
            added = dot(ones, high.astype(jnp.bfloat16))
            total = added if total is None else total + added
            rest = rest if is_last else rest - high
        assert total is not None
        return total

    @pl.when(doing == _BEGINS | _ENDS)
    def without_rows() -> None:
        out[...] = jnp.zeros_like(out)

    @pl.when(doing == _BEGINS | _ENDS | _ADDS)
    def at_once() -> None:
        out[...] = product().astype(form.dtype)

    @pl.when((doing & _ADDS != 0) & (doing & (_BEGINS | _ENDS) != _BEGINS | _ENDS))
    def one_of_several() -> None:
        total = product()
        pl.when(doing & _BEGINS != 0)(lambda: _set(sums, total))
        pl.when(doing & (_BEGINS | _ENDS) == 0)(lambda: _set(sums, sums[...] + total))
        pl.when(doing & _ENDS != 0)(lambda: _set(out, (sums[...] + total).astype(form.dtype)))


def _set(ref: Ref, value: Array) -> None:
    ref[...] = value


def _highest(x: Array) -> Array:
    """The first 8 bits of the mantissas of float32, so that x less them has the other 16."""
    return pltpu.bitcast(pltpu.bitcast(x, jnp.int32) & _HIGH, jnp.float32)


def steps_of(form: TableForm, ids: Array) -> tuple[Array, Array, Array]:
    """For every step, its tile of the table, its chunk of rows, and what it does; (steps,) int32.

    `ids` is (rows,) int32 in order; ids from `vocabulary` on are of no row of the table.
    """
    edges = jnp.minimum(jnp.arange(form.tiles + 1, dtype=jnp.int32) * ROWS, form.vocabulary)
    # Sums of comparisons are fewer and faster ops on TPU than searches.
    places = jnp.sum(ids < edges[:, None], axis=1, dtype=jnp.int32)
    first, end = places[:-1], places[1:]
    counts = jnp.where(end > first, (end - 1) // CHUNK - first // CHUNK + 1, 1)
    ends = jnp.cumsum(counts, dtype=jnp.int32)
    step = jnp.arange(form.steps, dtype=jnp.int32)
    tile = jnp.minimum(jnp.sum(ends <= step[:, None], axis=1, dtype=jnp.int32), form.tiles - 1)
    count, last, lowest, is_read = (x[tile] for x in (counts, ends, first // CHUNK, end > first))
    place = step - (last - count)
    # A step without rows, and one after the last, fetches the chunk that is there already.
    chunk = jnp.minimum(lowest + jnp.minimum(place, count - 1), form.chunks - 1)
    does = jnp.where(place == 0, _BEGINS, 0) | jnp.where(place == count - 1, _ENDS, 0)
    does |= jnp.where((place < count) & is_read, _ADDS, 0)
    return tile, chunk, does.astype(jnp.int32)


def backward(form: TableForm, ids: Array, rows: Array) -> Array:
    """The cotangent of the table, (vocabulary, features) in the kernel's dtype.

    `ids` is (rows,) int32 in order; ids from `vocabulary` on are of no row of the table. `rows` is the cotangents of the
    rows in the same order, (rows, features) in that dtype.
    """
    tiles, chunks, does = steps_of(form, ids)

    def place(index: Callable[[Index, Index, Index], tuple[Index, ...]]) -> Callable[..., tuple[Index, ...]]:
        def at(block: Index, step: Index, tiles: Ref, chunks: Ref, does: Ref) -> tuple[Index, ...]:
            return index(block, tiles[step], chunks[step])

        return at

    grid = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=3,
        grid=(form.blocks, form.steps),
        in_specs=[
            pl.BlockSpec((1, 1, CHUNK), place(lambda block, tile, chunk: (chunk, 0, 0))),
            pl.BlockSpec((CHUNK, form.block), place(lambda block, tile, chunk: (chunk, block))),
        ],
        out_specs=pl.BlockSpec((ROWS, form.block), place(lambda block, tile, chunk: (tile, block))),
        scratch_shapes=[pltpu.VMEM((ROWS, form.block), jnp.float32)],
    )
    call = pl.pallas_call(
        functools.partial(_kernel, form),
        grid_spec=grid,
        out_shape=result_type((form.vocabulary, form.features), form.dtype),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=vmem_limit(form.vmem)
        ),
        name="ropegen_embed_backward",
    )
    table: Array = call(tiles, chunks, does, ids.reshape(form.chunks, 1, CHUNK), rows)
    return table
