"""The operands of the kernels of attention for Hopper: how arrays are laid out, and which tiles they show.

Arrays are padded with zeros to whole tiles, and features to a multiple of `WIDTH_STEP`.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from ropegen import masks, plain
from ropegen.ir.graph import Node
from ropegen.ir.op import Operand
from ropegen.ir.ops import Attend
from ropegen.run_time_tiles import may_see
from ropegen.template import Array, Arrays

from ..arrays import extended
from .form_gpu import Form, TileList
from .layout import in_tiles, of_scores
from .site import AttendSite

# A list of tiles that depends on values of the running program has at most this many entries for each batch entry.
MOST_LISTED = 1 << 16


def read(
    site: AttendSite, form: Form, operands: Arrays
) -> tuple[tuple[Array, Array, Array], dict[str, Array], dict[str, Array]]:
    """q, k and v before they are laid out, the other operands by name, and the operands of the kernels.

    Keys are rotated. Queries are rotated too if the kernel does not do so.
    """
    values: dict[Node, Array] = dict(zip(site.operands, operands, strict=True))
    turned_q, k_node, v_node = site.values
    q, k, v = plain.evaluate((site.sources["q"] if form.rotates else turned_q, k_node, v_node), values)
    given = {
        operand.name: values[site.sources[operand.name]]
        for operand in site.op.beside
        if operand.name not in site.positions and operand.name not in {*site.op.NEEDS.values()} - site.op.needed
    }
    arrays = {"q": q, "k": k, "v": v, **given}
    laid = {
        operand.name: _laid_out(form, operand, arrays[operand.name], q.shape[:-3])
        for operand in site.op.operands
        if operand.name in arrays
    }
    if form.rotates:
        angles = values[site.sources["q_angles"]]
        angles = extended(angles.reshape(-1, *angles.shape[-2:]), 1, form.queries)
        laid |= {"cos": angles[..., : form.half], "sin": angles[..., form.half :]}
    return (q, k, v), given, laid


def _laid_out(form: Form, operand: Operand, x: Array, lead: tuple[int, ...]) -> Array:
    """An operand of the op as the kernels read it, for a batch of the sizes `lead`.

    - q, k and v are (B, length, heads, width).
    - Biases are (B or 1, H or 1, queries or 1, keys), and so are masks: 1 for keys to see, in the type of q.
    - Positions and segments are (B or 1, length) int32; sinks are (H,) float32.
    """
    match operand.axes:
        case ("queries", "heads", _):
            return whole(form, x, form.width, form.queries)
        case ("keys", "kv_heads", width):
            return whole(form, x, form.width if width == "width" else form.value_width, form.keys)
        case ("queries",):
            return extended(x.astype(jnp.int32).reshape(-1, x.shape[-1]), 1, form.queries)
        case ("keys",):
            return extended(x.astype(jnp.int32).reshape(-1, x.shape[-1]), 1, form.keys)
        case ("heads",):
            return x.astype(jnp.float32)
        case _:
            assert operand.axes == Attend.SCORES, operand
            x = x.astype(form.dtype) if operand.holds == "boolean" else x
            return of_scores(operand, x, lead, keys=form.seen_keys, padded=(form.queries, form.keys))


def whole(form: Form, x: Array, width: int, length: int) -> Array:
    """An array (..., S, heads, D) as (B, length, heads, width)."""
    return extended(extended(x.reshape(form.batch, *x.shape[-3:]), 3, width), 1, length)


def of_rows(form: Form, x: Array, rest: float) -> Array:
    """A number per row, (..., Sq, H) float32, as (B, H, queries), padded with `rest`."""
    x = x.reshape(form.batch, *x.shape[-2:])
    return jnp.swapaxes(jnp.pad(x, ((0, 0), (0, form.queries - x.shape[1]), (0, 0)), constant_values=rest), 1, 2)


def visited(
    form: Form, classes: npt.NDArray[np.int8], given: dict[str, Array], q_tile: int
) -> tuple[TileList, TileList]:
    """The tiles to visit by rows, and by columns.

    Positions and segments of the running program hide the tiles that their lowest and highest values hide. They hide no
    tile if that list would be too long.
    """
    names = [
        name for name in form.op.NEEDS if form.op.NEEDS[name] in given and name in masks.variables(form.op.visible)
    ]
    if not names or classes.size > MOST_LISTED:
        return TileList.of(classes), TileList.of(classes.T)
    ranges: dict[str, tuple[Array, Array]] = {}
    for variable, start, length, size, is_query in (
        ("q_pos", form.q_start, form.queries, q_tile, True),
        ("kv_pos", form.kv_start, form.keys, form.kv_tile, False),
        ("q_segment", None, form.queries, q_tile, True),
        ("kv_segment", None, form.keys, form.kv_tile, False),
    ):
        if variable in names:
            ids = given[form.op.NEEDS[variable]]
        elif start is not None and variable in masks.variables(form.op.visible):
            ids = jnp.arange(start, start + length, dtype=jnp.int32)
        else:
            continue
        tiles = in_tiles(ids, length, size)
        low, high = jnp.min(tiles, -1), jnp.max(tiles, -1)
        ranges[variable] = (low[:, :, None], high[:, :, None]) if is_query else (low[:, None], high[:, None])
    seen = jnp.asarray(may_see(form.op.visible, ranges))
    seen = jnp.broadcast_to(seen, (*seen.shape[:-2], *classes.shape) if seen.ndim == 3 else (1, *classes.shape))
    return TileList.without(classes, seen), TileList.without(classes.T, jnp.swapaxes(seen, 1, 2))
