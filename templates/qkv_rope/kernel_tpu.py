"""The kernel of `qkv_rope` for Mosaic TPU: a tile of rows times a tile of columns. A tile of columns belongs to one
part.

The products of a tile accumulate in float32 in fast memory. There the kernel adds the bias, and normalises and rotates
every head. Only the result is written to memory, once. Rows of x are fetched once, the weight once for each tile of
rows.

Heads begin at multiples of a stride of lanes: their own width, or the next multiple of 128. A statistic of a head is a
sum over its lanes, with the lanes of other heads masked. The rotation works on slabs of lanes, which hold whole heads.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from ..tpu.mosaic import LANES, Array, Index, Ref, dot, lane, result_type, vmem_limit
from ..tpu.rotation import Rotation

# Rows that are multiplied at a time. With fewer, the matrix unit waits for weights; with more, registers spill.
CHUNK = 256


@dataclass(frozen=True, slots=True)
class Norm:
    """The norm of the heads; `weight` and `bias` say whether it has these operands."""

    kind: str
    epsilon: float
    weight: bool
    bias: bool


@dataclass(frozen=True, slots=True)
class Turn:
    """The rotation of a slab, and the common part of the names of its tables."""

    angles: str
    rotation: Rotation

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the operands that are its tables."""
        return self.rotation.names(self.angles)


@dataclass(frozen=True, slots=True)
class PartForm:
    """The columns of the (packed) weight for the heads of one part."""

    start: int
    columns: int  # the number of columns, padded to whole tiles
    width: int  # of a head
    stride: int  # lanes from one head to the next
    slab: int  # lanes that hold whole heads: the least common multiple of 128 and the stride
    norm: Norm | None
    turn: Turn | None


@dataclass(frozen=True, slots=True)
class Form:
    """The shapes of a kernel."""

    batch: int
    rows: int
    features: int
    row_tile: int
    column_tile: int
    parts: tuple[PartForm, ...]
    dtype: np.dtype[Any]
    has_bias: bool
    table_lanes: int  # of all tables of angles together

    @property
    def chunk(self) -> int:
        return min(CHUNK, self.row_tile)

    @property
    def vmem(self) -> int:
        """Bytes of fast memory: every block twice (one is fetched while the other is read), and the sums of a chunk."""
        size = self.dtype.itemsize
        blocks = self.features * (self.row_tile + self.column_tile) * size
        blocks += len(self.parts) * self.row_tile * self.column_tile * size
        blocks += 4 * self.row_tile * self.table_lanes + 4 * 8 * self.column_tile
        return 2 * blocks + 3 * 4 * self.chunk * self.column_tile


def _side_by_side(parts: Sequence[Array]) -> Array:
    return jnp.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]


@dataclass(frozen=True, slots=True)
class Slab:
    """Operations on every head in a slab of lanes (rows, slab), float32."""

    part: PartForm

    def _groups(self) -> range:
        return range(0, self.part.slab, LANES)

    def sums(self, x: Array) -> list[Array]:
        """The sum over the features, one (rows, 1) for every head."""
        totals: list[Array] = []
        for first in range(0, self.part.slab, self.part.stride):
            end = first + self.part.width
            pieces: list[Array] = []
            for group in self._groups():
                if group + LANES <= first or group >= end:
                    continue
                piece = x[:, group : group + LANES]
                if group < first or group + LANES > end:
                    lanes = lane(piece.shape)
                    piece = jnp.where((lanes >= first - group) & (lanes < end - group), piece, 0.0)
                pieces.append(piece)
            totals.append(jnp.sum(functools.reduce(jnp.add, pieces), axis=1, keepdims=True))
        return totals

    def spread(self, values: Sequence[Array]) -> Array:
        """One value for every head, (rows, 1), copied to all lanes of the head: (rows, slab)."""
        stride = self.part.stride
        parts: list[Array] = []
        for group in self._groups():
            part: Array | None = None
            for head in range(group // stride, -(-(group + LANES) // stride)):
                value = jnp.broadcast_to(values[head], (values[head].shape[0], LANES))
                part = value if part is None else jnp.where(lane(value.shape) >= head * stride - group, value, part)
            assert part is not None
            parts.append(part)
        return _side_by_side(parts)

    def normalised(self, norm: Norm, x: Array, weight: Array | None, bias: Array | None) -> Array:
        count = np.float32(self.part.width)
        if norm.kind == "layer":
            x = x - self.spread([total / count for total in self.sums(x)])
        squares = self.sums(x * x)
        x = x * self.spread([lax.rsqrt(total / count + np.float32(norm.epsilon)) for total in squares])
        x = x if weight is None else x * weight
        return x if bias is None else x + bias


def norm_name(index: int, what: str) -> str:
    """The name of the operand that is the weight or the bias of a part's norm."""
    return f"norm_{what}{index}"


def _kernel(form: Form, names: tuple[str, ...], *refs: Ref) -> None:
    given = dict(zip(names, refs[1 : 1 + len(names)], strict=True))
    outs, sums = refs[1 + len(names) : -1], refs[-1]
    step = pl.program_id(2)
    x, weight = given["x"], given["weight"]

    def finish(index: int, part: PartForm, rows: Any) -> None:
        """Computes the output of a chunk from its sums, one slab after the other."""
        tables = [given[name][0, rows] for name in part.turn.names] if part.turn is not None else []
        affine = {
            what: given[norm_name(index, what)][...] if part.norm is not None and getattr(part.norm, what) else None
            for what in ("weight", "bias")
        }
        for first in range(0, form.column_tile, part.slab):
            lanes = slice(first, first + part.slab)
            slab, value = Slab(part), sums[:, lanes]
            if part.norm is not None:
                value = slab.normalised(part.norm, value, affine["weight"], affine["bias"])
            if part.turn is not None:
                value = part.turn.rotation.turned(value, tables)
            outs[index][0, rows, lanes] = value.astype(form.dtype)

    def chunk(number: Index, carry: None) -> None:
        rows = pl.ds(pl.multiple_of(number * form.chunk, form.chunk), form.chunk)
        products = dot(x[0, rows], weight[...])
        sums[...] = products + given["bias"][...].astype(jnp.float32) if form.has_bias else products
        first = 0
        for index, part in enumerate(form.parts):
            tiles = part.columns // form.column_tile
            is_here = (step >= first) & (step < first + tiles)
            pl.when(is_here)(functools.partial(finish, index, part, rows))
            first += tiles

    lax.fori_loop(0, form.row_tile // form.chunk, chunk, None)


def forward(form: Form, operands: dict[str, Array]) -> tuple[Array, ...]:
    """The parts, (batch, rows, columns) in the kernel's dtype.

    The operands are x (batch, rows, features) and weight (features, columns) in that dtype; bias (1, columns); rows of
    norms (1, slab) float32; tables of angles (batch or 1, rows, lanes) float32.
    """
    names = tuple(operands)
    tiles, columns = columns_of(form)
    firsts = np.cumsum([0, *tiles[:-1]]).tolist()
    grid = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=1,
        grid=(form.batch, -(-form.rows // form.row_tile), sum(tiles)),
        in_specs=[spec(form, name, operands[name].shape) for name in names],
        out_specs=[
            pl.BlockSpec((1, form.row_tile, form.column_tile), placed(first, count))
            for first, count in zip(firsts, tiles, strict=True)
        ],
        scratch_shapes=[pltpu.VMEM((form.chunk, form.column_tile), jnp.float32)],
    )
    call = pl.pallas_call(
        functools.partial(_kernel, form, names),
        grid_spec=grid,
        out_shape=[result_type((form.batch, form.rows, part.columns), form.dtype) for part in form.parts],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"),
            vmem_limit_bytes=vmem_limit(form.vmem),
        ),
        name="ropegen_qkv_rope",
    )
    return tuple(call(columns, *operands.values()))


def columns_of(form: Form) -> tuple[list[int], npt.NDArray[np.int32]]:
    """The number of tiles of columns of every part, and for every step, its tile of the weight's columns."""
    tiles = [part.columns // form.column_tile for part in form.parts]
    starts = zip(form.parts, tiles, strict=True)
    columns = np.concatenate([part.start // form.column_tile + np.arange(count) for part, count in starts])
    return tiles, columns.astype(np.int32)


def placed(first: int, count: int) -> Callable[..., tuple[Index, ...]]:
    """The block of an array of one part: the first one before the part's steps, and the last one after them. So every
    block that is written is complete before the kernel leaves it.
    """

    def place(batch: Index, row: Index, step: Index, columns: Ref) -> tuple[Index, ...]:
        return batch, row, jnp.minimum(jnp.maximum(step - first, 0), count - 1)

    return place


def spec(form: Form, name: str, shape: tuple[int, ...]) -> Any:
    """The block of an operand."""
    if name == "x":
        return _block((1, form.row_tile, form.features), lambda b, m, n, columns: (b, m, 0))
    if name in ("weight", "bias"):
        return _block((shape[0], form.column_tile), lambda b, m, n, columns: (0, columns[n]))
    if len(shape) == 2:  # a weight or bias of a norm
        return _block(shape, lambda b, m, n, columns: (0, 0))
    batch = int(shape[0] > 1)
    return _block((1, form.row_tile, shape[2]), lambda b, m, n, columns: (b * batch, m, 0))


def _block(shape: tuple[int, ...], index: Callable[[Index, Index, Index, Ref], tuple[Index, ...]]) -> Any:
    """The block that a step reads. `index` gets the batch entry, the row of tiles, the number in the row, and the map."""
    return pl.BlockSpec(shape, index)
