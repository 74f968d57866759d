"""The kernel of `embed` for Mosaic TPU: it fetches rows one by one, by ids in scalar memory, and works on a tile at a
time.

While the kernel works on the rows of a tile, the rows of the next tile arrive. Two rows of bfloat16 share the words of
a memory tile, so the kernel fetches the pair that holds a row. The row is the lower or the upper half of every word; a
shift makes float32 of it. Every step on the rows runs in float32, and only the result is written to memory, once.
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

from ropegen.ir import ops

from ..tpu.mosaic import LANES, Array, Index, Ref, result_type, round_up

# Rows that a step computes at a time: a tile of bfloat16 in registers.
CHUNK = 16
# The number of copies that are issued in straight-line code.
_UNROLLED = 8


@dataclass(frozen=True, slots=True)
class Step:
    """One op on the rows, and the names of its other operands."""

    op: ops.Scale | ops.Add | ops.Norm
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Form:
    """The shapes of a kernel."""

    rows: int
    row_tile: int
    vocabulary: int
    features: int
    table_dtype: np.dtype[Any]
    dtype: np.dtype[Any]
    fills: bool
    """Whether ids outside the table give rows of NaN. Otherwise, every id is inside."""
    steps: tuple[Step, ...]
    wide: int  # bytes of added rows in the tiles, for one row

    @property
    def tiles(self) -> int:
        return -(-self.rows // self.row_tile)

    @property
    def halves(self) -> int:
        """The number of parts into which the tiles are split: two, for two cores, if there are enough tiles."""
        return 2 if self.tiles >= 8 and self.tiles % 2 == 0 else 1

    @property
    def fetched(self) -> int:
        """The number of rows of the table that are fetched for one row."""
        return 2 if self.table_dtype.itemsize == 2 else 1

    @property
    def has_column(self) -> bool:
        """Whether the kernel also reads the ids as a column beside the rows. They say which half of a pair to take, and
        whether to fill the row.
        """
        return self.fetched == 2 or self.fills

    @property
    def has_tail(self) -> bool:
        """Whether the last row of the table has no partner. It is then read from a pair of its own."""
        return self.fetched == 2 and self.vocabulary % 2 == 1

    @property
    def vmem(self) -> int:
        """Bytes of fast memory: two tiles of fetched rows, the other blocks twice, and a chunk in float32."""
        padded = round_up(self.features, LANES)
        fetched = self.row_tile * self.fetched * self.table_dtype.itemsize * padded
        blocks = self.row_tile * (padded * self.dtype.itemsize + self.wide) + 16 * 4 * padded
        return 2 * (fetched + blocks) + self.row_tile * LANES * 4 + 4 * CHUNK * padded * 4


def _kernel(form: Form, names: tuple[str, ...], ids: Ref, *refs: Ref) -> None:
    given = dict(zip(names, refs[: len(names)], strict=True))
    out, fetched, arrived, column = refs[len(names) :]
    half, step = pl.program_id(0), pl.program_id(1)
    steps = form.tiles // form.halves
    slot = step & 1

    def fetch(tile: Index, into: Index) -> None:
        def one(row: Index, carry: None) -> None:
            wanted = ids[tile * form.row_tile + row]
            if form.fetched == 1:
                source = given["table"].at[pl.ds(wanted, 1)]
                pltpu.make_async_copy(source, fetched.at[into, pl.ds(row, 1)], arrived.at[into]).start()
                return
            place = fetched.at[into, pl.ds(pl.multiple_of(2 * row, 2), 2)]
            pair = pl.multiple_of((wanted >> 1) * 2, 2)
            copy = pltpu.make_async_copy(given["table"].at[pl.ds(pair, 2)], place, arrived.at[into])
            if not form.has_tail:
                copy.start()
                return
            is_last = wanted == form.vocabulary - 1
            pl.when(is_last)(pltpu.make_async_copy(given["tail"], place, arrived.at[into]).start)
            pl.when(jnp.logical_not(is_last))(copy.start)

        lax.fori_loop(0, form.row_tile, one, None, unroll=_UNROLLED)

    pl.when(step == 0)(lambda: fetch(half * steps, slot))
    pl.when(step + 1 < steps)(lambda: fetch(half * steps + step + 1, 1 - slot))
    if form.has_column:
        lanes = jnp.broadcast_to(given["ids"][0], (LANES, given["ids"].shape[2]))
        column[...] = lanes.T[: form.row_tile]
    # All copies of a tile together have the bytes of the tile, so one wait is enough.
    pltpu.make_async_copy(fetched.at[slot], fetched.at[slot], arrived.at[slot]).wait()

    def chunk(number: Index, carry: None) -> None:
        rows = pl.ds(pl.multiple_of(number * CHUNK, CHUNK), CHUNK)
        wanted = _across(column[rows], form.features) if form.has_column else None
        if form.fetched == 2:
            assert wanted is not None
            pairs = fetched[slot, pl.ds(pl.multiple_of(number * 2 * CHUNK, 2 * CHUNK), 2 * CHUNK), :]
            words = lax.shift_right_logical(pltpu.bitcast(pairs, jnp.int32), (wanted & 1) * 16)
            x = pltpu.bitcast(words << 16, jnp.float32)
        else:
            x = fetched[slot, rows, :]
        if form.fills:
            assert wanted is not None
            x = jnp.where(wanted < 0, np.float32(np.nan), x)
        for applied in form.steps:
            others = {name: given[name][rows if given[name].shape[0] > 1 else slice(None), :] for name in applied.names}
            x = _stepped(applied, x, others)
        out[rows, :] = x.astype(form.dtype)

    lax.fori_loop(0, form.row_tile // CHUNK, chunk, None)


def _across(column: Array, width: int) -> Array:
    """Rows of equal lanes, (n, 128), as (n, width)."""
    whole = jnp.concatenate([column] * -(-width // LANES), axis=1) if width > LANES else column
    return whole[:, :width]


def _stepped(step: Step, x: Array, others: dict[str, Array]) -> Array:
    """The rows after one step, float32 (n, features). The other operands are (n or 1, features)."""
    op = step.op
    if isinstance(op, ops.Scale):
        return x * np.float32(op.factor)
    values = [other.astype(jnp.float32) for other in others.values()]
    if isinstance(op, ops.Add):
        return x + values[0]
    if op.kind == "layer":
        x = x - jnp.mean(x, axis=1, keepdims=True)
    x = x * lax.rsqrt(jnp.mean(x * x, axis=1, keepdims=True) + np.float32(op.epsilon))
    given = dict(zip(op.given, values, strict=True))
    if "weight" in given:
        x = x * (given["weight"] + np.float32(op.weight_offset))
    elif op.weight_offset:
        x = x * np.float32(op.weight_offset)
    return x + given["bias"] if "bias" in given else x


def forward(form: Form, ids: Array, operands: dict[str, Array]) -> Array:
    """The rows, (rows, features).

    `ids` is (rows,) int32. An id is inside the table or, if the kernel fills, -1. The operands are the table
    (vocabulary, features), and the other operands of the steps, (period, features). A period is a number of whole
    tiles, or 1.
    """
    tiles, size = form.tiles, form.row_tile
    steps = tiles // form.halves
    padded = jnp.pad(ids, (0, tiles * size - form.rows))
    if form.has_column:
        lanes = jnp.pad(padded.reshape(tiles, 1, size), ((0, 0), (0, 0), (0, -size % LANES)))
        operands = {"ids": lanes, **operands}
    if form.has_tail:
        last = operands["table"][-1:]
        operands = {"tail": jnp.concatenate([last, last]), **operands}
    names = tuple(operands)

    def block(shape: tuple[int, ...], index: Callable[[Index], tuple[Index, ...]]) -> Any:
        def place(half: Index, step: Index, ids: Ref) -> tuple[Index, ...]:
            return index(half * steps + step)

        return pl.BlockSpec(shape, place)

    def spec(name: str, shape: tuple[int, ...]) -> Any:
        if name in ("table", "tail"):
            return pl.BlockSpec(memory_space=pltpu.HBM)
        if name == "ids":
            return block((1, 1, shape[2]), lambda tile: (tile, 0, 0))
        if shape[0] == 1:
            return block(shape, lambda tile: (0, 0))
        period = -(-shape[0] // size)
        if period >= tiles:
            return block((size, shape[1]), lambda tile: (tile, 0))
        return block((size, shape[1]), lambda tile: (lax.rem(tile, period), 0))

    grid = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=1,
        grid=(form.halves, steps),
        in_specs=[spec(name, operands[name].shape) for name in names],
        out_specs=block((size, form.features), lambda tile: (tile, 0)),
        scratch_shapes=[
            pltpu.VMEM((2, size * form.fetched, form.features), form.table_dtype),
            pltpu.SemaphoreType.DMA((2,)),
            pltpu.VMEM((size, LANES), jnp.int32),
        ],
    )
    call = pl.pallas_call(
        functools.partial(_kernel, form, names),
        grid_spec=grid,
        out_shape=result_type((form.rows, form.features), form.dtype),
        # The ids are inside the table, and a bounds check would cost as much as the copy.
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary"), disable_bounds_checks=True),
        name="ropegen_embed",
    )
    # An id to fill still fetches a row, which is ignored.
    rows: Array = call(jnp.maximum(padded, 0), *operands.values())
    return rows
