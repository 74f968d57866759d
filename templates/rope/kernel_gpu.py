"""The kernel of `rope` for GPU: one pass over memory, with accesses of 16 bytes.

A block has some rows and up to eight heads of one array. Its threads have the same features of every head, so a thread
reads the cosines and sines of its rows once. It reads several heads before it writes the first one, so that enough bytes
are on their way to fill the memory's bandwidth. Nothing passes through shared memory, and no thread waits for another one.

Pairs in halves are in two accesses of a thread. Neighbours are in one access, which is taken apart in registers.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl

from ..gpu.mosaic import Array, Index, Machine, Ref
from .form_gpu import Form, Heads


def rotated(form: Form, arrays: Sequence[Array], angles: Array, on: Machine) -> Sequence[Array]:
    """The rotated arrays."""
    call = on.kernel(
        functools.partial(_kernel, form, on),
        results=[jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays],
        scratch=[],
        grid={"heads": form.groups, "rows": form.blocks, "batch": form.batch},
        warpgroups=1,
        name="ropegen_rope",
        has_barriers=False,
        overlaps=form.overlaps,
    )
    return call(*arrays, angles)


def _kernel(form: Form, on: Machine, *refs: Ref) -> None:
    group, row, batch = (lax.axis_index(name) for name in ("heads", "rows", "batch"))
    rows = pl.ds(jnp.minimum(row * form.block, form.rows - form.block), form.block)
    count = len(form.arrays)
    angles, first = refs[count].at[rows], 0
    for heads, source, result in zip(form.arrays, refs[:count], refs[count + 1 :], strict=True):
        last = first + heads.groups
        block = functools.partial(
            _rotate, form, on, heads, group - first, *(x.at[batch, rows] for x in (source, result))
        )
        pl.when((first <= group) & (group < last))(functools.partial(block, angles))
        first = last


def _rotate(form: Form, on: Machine, heads: Heads, group: Index, source: Ref, result: Ref, angles: Ref) -> None:
    """Rotates the heads of a group. The references are (rows, heads, width), and that of the angles (rows, dim)."""
    first = jnp.minimum(group * heads.together, heads.heads - heads.together)
    for start, columns in heads.pieces(form.block):
        ahead = heads.ahead(form.block, columns)
        cos, sin = _angles(form, on, heads, angles, start, columns)
        for begin in range(0, heads.together, ahead):
            numbers = range(begin, min(begin + ahead, heads.together))
            read = [_read(on, heads, source.at[:, first + number], start, columns) for number in numbers]
            for number, (x, y) in zip(numbers, read, strict=True):
                turned = x * cos - y * sin, y * cos + x * sin
                _write(on, heads, result.at[:, first + number], start, columns, *turned)
    for start, columns in heads.rest(form.block):
        for number in range(heads.together):
            part = (slice(None), first + number, pl.ds(start, columns))
            on.write(result.at[part], on.read(source.at[part], heads.vector), heads.vector)


def _angles(form: Form, on: Machine, heads: Heads, angles: Ref, start: int, columns: int) -> tuple[Array, Array]:
    """The cosines and sines of the pairs in a piece of the span; the sines are negative if the rotation is inverse."""
    pairs = 1 if heads.pairing == "half" else 2
    cos, sin = (
        on.read(angles.at[:, pl.ds(half + start // pairs, columns // pairs)], heads.vector // pairs)
        for half in (0, heads.dim // 2)
    )
    return cos, sin * np.float32(-1) if form.inverse else sin


def _read(on: Machine, heads: Heads, head: Ref, start: int, columns: int) -> tuple[Array, Array]:
    """The first and the second numbers of the pairs in a piece of the span, in float32."""
    if heads.pairing == "half":
        parts = (head.at[:, pl.ds(half + start, columns)] for half in (0, heads.span))
        x, y = (on.read(part, heads.vector).astype(jnp.float32) for part in parts)
        return x, y
    return on.taken_apart(on.read(head.at[:, pl.ds(start, columns)], heads.vector).astype(jnp.float32), heads.vector)


def _write(on: Machine, heads: Heads, head: Ref, start: int, columns: int, x: Array, y: Array) -> None:
    """Writes what `_read` reads."""
    if heads.pairing == "half":
        for half, value in ((0, x), (heads.span, y)):
            on.write(head.at[:, pl.ds(half + start, columns)], value.astype(heads.dtype), heads.vector)
    else:
        joined = on.joined(x, y, heads.vector).astype(heads.dtype)
        on.write(head.at[:, pl.ds(start, columns)], joined, heads.vector)
