"""The gradient of `qkv_rope` for Mosaic TPU: rotations and norms taken back on the way into the product for x.

A step has a tile of rows and a tile of the weight's columns, which belong to one part. It reads the cotangents of the part,
rotates them back, and takes them back through the norm. The result, the cotangent of the projection's sums, is written for
the product that gives the weight's cotangent, which is XLA's. It is also multiplied by the tile of the weight, and these
products add up to the cotangent of x, in float32 in fast memory, from one tile of columns to the next.

A norm needs the sums themselves. They are computed again from x and the tile of the weight, which is there anyway. The
cotangents of a norm's weight and bias are sums over rows: a tile of rows has its own, 8 rows of lanes, and XLA adds them up.
So nothing depends on the order in which tiles are computed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from ..tpu.mosaic import Array, Index, Ref, dot, result_type, vmem_limit
from .kernel_tpu import Form, Norm, PartForm, Slab, columns_of, norm_name, placed, spec

# The rows of a sum over rows: those of a register.
SUBLANES = 8


def vmem(form: Form) -> int:
    """Bytes of fast memory: every block twice, the sums for x, and what a chunk of rows keeps."""
    size = form.dtype.itemsize
    has_norm = any(part.norm is not None for part in form.parts)
    blocks = form.features * (form.row_tile * (1 + has_norm) + form.column_tile) * size
    blocks += (len(form.parts) + 1) * form.row_tile * form.column_tile * size
    blocks += 4 * form.row_tile * form.table_lanes + 4 * 8 * form.column_tile
    return 2 * blocks + 4 * form.features * (form.row_tile + form.chunk) + 3 * 4 * form.chunk * form.column_tile


def pulled_norms(form: Form) -> tuple[str, ...]:
    """The names of the operands of norms that have a cotangent, in the order of the kernel's results."""
    return tuple(
        norm_name(index, what)
        for index, part in enumerate(form.parts)
        for what in ("weight", "bias")
        if part.norm is not None and getattr(part.norm, what)
    )


def _norm_pulled(slab: Slab, norm: Norm, x: Array, d: Array, weight: Array | None) -> tuple[Array, Array]:
    """(the cotangent of the sums x, the normalised x); d is the cotangent of the norm's result. All are (rows, slab)."""
    count = np.float32(slab.part.width)

    def mean(values: Array) -> Array:
        return slab.spread([total / count for total in slab.sums(values)])

    if norm.kind == "layer":
        x = x - mean(x)
    root = slab.spread([lax.rsqrt(total / count + np.float32(norm.epsilon)) for total in slab.sums(x * x)])
    x = x * root
    d = d if weight is None else d * weight
    inner = d - x * mean(d * x)
    if norm.kind == "layer":
        inner = inner - mean(d)
    return root * inner, x


def _kernel(form: Form, names: tuple[str, ...], *refs: Ref) -> None:
    given = dict(zip(names, refs[1 : 1 + len(names)], strict=True))
    norms = pulled_norms(form)
    rest = list(refs[1 + len(names) :])
    d_x, d_sums = rest[:2]
    d_norms = dict(zip(norms, rest[2 : 2 + len(norms)], strict=True))
    total, pulled, *sums = rest[2 + len(norms) :]
    row, step = pl.program_id(1), pl.program_id(2)
    weight = given["weight"]
    has_rest = form.rows % form.row_tile != 0

    @pl.when(step == 0)
    def begin() -> None:
        total[...] = jnp.zeros_like(total)
        for ref in d_norms.values():
            ref[...] = jnp.zeros_like(ref)

    def take_back(index: int, part: PartForm, number: Index, rows: Any) -> None:
        """Computes the cotangents of the sums of a chunk, one slab after the other."""
        tables = [given[name][0, rows] for name in part.turn.names] if part.turn is not None else []
        if part.norm is not None:
            products = dot(given["x"][0, rows], weight[...])
            sums[0][...] = products + given["bias"][...].astype(jnp.float32) if form.has_bias else products
        for first in range(0, form.column_tile, part.slab):
            lanes = slice(first, first + part.slab)
            d = given[f"part{index}"][0, rows, lanes].astype(jnp.float32)
            if part.turn is not None:
                d = part.turn.rotation.turned(d, tables, back=True)
            if part.norm is not None:
                affine = given[norm_name(index, "weight")][...] if part.norm.weight else None
                before = d
                d, normal = _norm_pulled(Slab(part), part.norm, sums[0][:, lanes], d, affine)
                for what, value in (("weight", before * normal), ("bias", before)):
                    if getattr(part.norm, what):
                        d_norms[norm_name(index, what)][0, 0] += _over_rows(value, number)
            pulled[:, lanes] = d.astype(form.dtype)

    def _over_rows(value: Array, number: Index) -> Array:
        """The sums (8, slab) over every eighth row. Rows after the last one have no meaning, and are left out."""
        if has_rest:
            at = lax.broadcasted_iota(jnp.int32, value.shape, 0)
            left = form.rows - row * form.row_tile - number * form.chunk
            value = jnp.where(at < left, value, 0.0)
        return functools.reduce(jnp.add, [value[at : at + SUBLANES] for at in range(0, form.chunk, SUBLANES)])

    def chunk(number: Index, carry: None) -> None:
        rows = pl.ds(pl.multiple_of(number * form.chunk, form.chunk), form.chunk)
        first = 0
        for index, part in enumerate(form.parts):
            tiles = part.columns // form.column_tile
            is_here = (step >= first) & (step < first + tiles)
            pl.when(is_here)(functools.partial(take_back, index, part, number, rows))
            first += tiles
        d_sums[0, rows] = pulled[...]
        total[rows] += dot(pulled[...], weight[...], (1, 1))

    lax.fori_loop(0, form.row_tile // form.chunk, chunk, None)

    @pl.when(step == pl.num_programs(2) - 1)
    def end() -> None:
        d_x[0] = total[...].astype(form.dtype)


def backward(form: Form, operands: dict[str, Array]) -> tuple[Array, Array, dict[str, Array]]:
    """The cotangents (of x, of the sums, of the operands of norms by name).

    The operands are those of `kernel_tpu.forward`, without x and the bias where no part has a norm, and `partN`, the
    cotangents (batch, rows, columns) of every part. The first result is (batch, rows, features); the second is (batch,
    rows, columns of all parts side by side), both in the kernel's dtype. Those of norms are (batch, tiles of rows, 8, slab)
    float32, to be added up but for the last axis.
    """
    names, norms = tuple(operands), pulled_norms(form)
    tiles, columns = columns_of(form)
    firsts = np.cumsum([0, *tiles[:-1]]).tolist()
    rows, width = -(-form.rows // form.row_tile), sum(part.columns for part in form.parts)
    parts = {f"part{index}": place for index, place in enumerate(zip(firsts, tiles, strict=True))}

    def in_spec(name: str) -> Any:
        if name in parts:
            return pl.BlockSpec((1, form.row_tile, form.column_tile), placed(*parts[name]))
        return spec(form, name, operands[name].shape)

    def at(index: Callable[[Index, Index, Index], tuple[Index, ...]]) -> Callable[..., tuple[Index, ...]]:
        def place(batch: Index, row: Index, step: Index, columns: Ref) -> tuple[Index, ...]:
            return index(batch, row, step)

        return place

    slabs = [operands[name].shape[-1] if name in operands else _slab_of(form, name) for name in norms]
    has_norm = any(part.norm is not None for part in form.parts)
    scratch = [
        pltpu.VMEM((form.row_tile, form.features), jnp.float32),
        pltpu.VMEM((form.chunk, form.column_tile), form.dtype),
        *([pltpu.VMEM((form.chunk, form.column_tile), jnp.float32)] if has_norm else []),
    ]
    grid = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=1,
        grid=(form.batch, rows, sum(tiles)),
        in_specs=[in_spec(name) for name in names],
        out_specs=[
            pl.BlockSpec((1, form.row_tile, form.features), at(lambda b, m, n: (b, m, 0))),
            pl.BlockSpec((1, form.row_tile, form.column_tile), at(lambda b, m, n: (b, m, n))),
            *(pl.BlockSpec((1, 1, SUBLANES, slab), at(lambda b, m, n: (b, m, 0, 0))) for slab in slabs),
        ],
        scratch_shapes=scratch,
    )
    call = pl.pallas_call(
        functools.partial(_kernel, form, names),
        grid_spec=grid,
        out_shape=[
            result_type((form.batch, form.rows, form.features), form.dtype),
            result_type((form.batch, form.rows, width), form.dtype),
            *(result_type((form.batch, rows, SUBLANES, slab), jnp.float32) for slab in slabs),
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"), vmem_limit_bytes=vmem_limit(vmem(form))
        ),
        name="ropegen_qkv_rope_backward",
    )
    d_x, d_sums, *d_norms = call(columns, *operands.values())
    return d_x, d_sums, dict(zip(norms, d_norms, strict=True))


def _slab_of(form: Form, name: str) -> int:
    """The lanes of a norm's bias, which the kernel does not read."""
    return next(
        part.slab
        for index, part in enumerate(form.parts)
        if name in (norm_name(index, "weight"), norm_name(index, "bias"))
    )
