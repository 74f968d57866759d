"""The operands of the kernels of attention for TPU: how arrays are laid out, and the block that a step reads.

Both follow from the axes of an operand. `ops.Attend` declares them, and `AXES` adds the operands that only the kernels
read. The rows of a kernel are the queries of every head that shares a key head, head after head. They are in lanes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.experimental import pallas as pl

from ropegen.ir.op import Operand
from ropegen.ir.ops import Attend

from ..arrays import extended
from ..tpu.mosaic import Array, Index, Ref
from ..tpu.rotation import Rotation
from .form_tpu import Form
from .layout import of_scores

# The operand that the tables of angles are named after.
TABLES = "angles"
# The axes of every operand of the kernels, by name: the operands of the op, the tables, and those of the backward
# kernel.
AXES: dict[str, tuple[str, ...]] = {
    **{operand.name: operand.axes for operand in Attend.operands},
    **dict.fromkeys((TABLES, f"{TABLES}_cos", f"{TABLES}_first", f"{TABLES}_second"), ("queries", "width")),
    "d_out": ("queries", "heads", "value_width"),
    "shift": ("queries", "heads"),
    "drag": ("queries", "heads"),
}


def block(
    form: Form,
    shape: tuple[int, ...],
    index: Callable[[Index, Index, Index, Index], tuple[Index, ...]],
    is_late: bool = False,
) -> Any:
    """The block that a step reads or writes: `index` of its batch entry, key head, row and column of tiles.

    If it `is_late`, row and column are those of the step before.
    """

    def place(batch: Index, head: Index, step: Index, rows: Ref, columns: Ref, does: Ref) -> tuple[Index, ...]:
        at = form.place(batch, jnp.maximum(step - 1, 0) if is_late else step)
        return index(batch, head, rows[at], columns[at])

    return pl.BlockSpec(shape, place)


def spec(form: Form, axes: tuple[str, ...], shape: tuple[int, ...], is_late: bool = False) -> Any:
    """The block of an operand that is laid out. If its first size is 1, the whole batch shares it."""
    batch = int(shape[0] > 1)
    rows, keys = form.q_tile, form.kv_tile
    match axes:
        case ("queries", "heads", width):
            return block(form, (1, rows, form.group * _lanes(form, width)), lambda b, h, row, column: (b, row, h))
        case ("keys", "kv_heads", width):
            return block(form, (1, keys, _lanes(form, width)), lambda b, h, row, column: (b, column, h), is_late)
        case ("queries", "heads"):
            return block(form, (1, 1, 1, form.chunks, 1, form.chunk), lambda b, h, row, column: (b, h, row, 0, 0, 0))
        case ("queries", "width"):
            return block(form, (1, rows, form.width), lambda b, h, row, column: (b * batch, row, 0))
        case ("queries",):
            return block(form, (1, 1, form.chunks, 1, form.chunk), lambda b, h, row, column: (b * batch, row, 0, 0, 0))
        case ("keys",):
            return block(form, (1, 1, keys), lambda b, h, row, column: (b * batch, 0, column))
        case ("heads",):
            return block(form, (1, form.chunks, 1, form.chunk), lambda b, h, row, column: (h, 0, 0, 0))
        case _:
            assert axes == Attend.SCORES, axes
            head, query = int(shape[1] > 1), int(shape[2] > 1)
            return block(
                form,
                (1, form.group if head else 1, rows if query else 1, keys),
                lambda b, h, row, column: (b * batch, h * head, row * query, column),
            )


def _lanes(form: Form, axis: str) -> int:
    """The padded width of a head."""
    return form.width if axis == "width" else form.value_width


def laid_out(form: Form, operand: Operand, x: Array, lead: tuple[int, ...]) -> Array:
    """An operand of the op as the kernels read it, padded, for a batch of the sizes `lead`.

    - q is (B, queries, H * width); k and v are (B, keys, kv heads * width).
    - Biases and masks are (B or 1, H or 1, queries or 1, keys), float32.
    - An operand with one number per head is (kv heads, chunks, 1, chunk), float32.
    - Ids of queries are (B or 1, rows of tiles, chunks, 1, chunk), and ids of keys are (B or 1, 1, keys), int32.

    """
    match operand.axes:
        case ("queries", "heads", width):
            return whole(form, x, _lanes(form, width), form.queries)
        case ("keys", "kv_heads", width):
            return whole(form, x, _lanes(form, width), form.keys)
        case ("queries",):
            ids = extended(x.astype(jnp.int32).reshape(-1, x.shape[-1]), 1, form.queries)
            rows = jnp.tile(ids.reshape(len(ids), -1, 1, form.q_tile), (1, 1, form.group, 1))
            return rows.reshape(*rows.shape[:2], form.chunks, 1, form.chunk)
        case ("keys",):
            return extended(x.astype(jnp.int32).reshape(-1, x.shape[-1]), 1, form.keys)[:, None]
        case ("heads",):
            rows = jnp.repeat(x.astype(jnp.float32).reshape(form.kv_heads, form.group), form.q_tile, axis=1)
            return rows.reshape(form.kv_heads, form.chunks, 1, form.chunk)
        case _:
            assert operand.axes == Attend.SCORES, operand
            x = x.astype(jnp.float32)
            return of_scores(operand, x, lead, keys=form.seen_keys, padded=(form.queries, form.keys))


def whole(form: Form, x: Array, width: int, length: int) -> Array:
    """An array (..., S, heads, D) as (B, length, heads * width), padded with zeros."""
    x = x.reshape(form.batch, *x.shape[-3:])
    return extended(extended(x, 3, width), 1, length).reshape(form.batch, length, -1)


def of_rows(form: Form, x: Array, rest: float) -> Array:
    """One number per row, (..., Sq, H) float32, as (B, kv heads, rows of tiles, chunks, 1, chunk), padded with
    `rest`.
    """
    x = x.reshape(form.batch, *x.shape[-2:])
    x = jnp.pad(x, ((0, 0), (0, form.queries - x.shape[1]), (0, 0)), constant_values=rest)
    x = x.reshape(form.batch, -1, form.q_tile, form.kv_heads, form.group)
    return jnp.transpose(x, (0, 3, 1, 4, 2)).reshape(form.batch, form.kv_heads, -1, form.chunks, 1, form.chunk)


def tables(form: Form, rotation: Rotation, angles: Array) -> dict[str, Array]:
    """The tables that the kernels multiply with, (B or 1, queries, width), by name; they come from angles (..., S,
    dim).
    """
    angles = extended(angles.reshape(-1, *angles.shape[-2:]), 1, form.queries)
    return dict(zip(rotation.names(TABLES), rotation.tables(angles), strict=True))
