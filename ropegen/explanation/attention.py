"""What a plan says about an attention: its sizes and options, which tiles of scores the mask leaves out, and their map."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ropegen import masks
from ropegen.ir import ops
from ropegen.ir.graph import Node
from ropegen.plans import Candidate
from ropegen.tile_classes import TileClasses, classes_of

Facts: TypeAlias = dict[str, Any]

# The most rows and columns of a map, and the size of one that is not of the kernel's own tiles.
MOST_CELLS = 64
_CELLS = 32
# The letters of a map, by class.
LETTERS = {masks.EMPTY: ".", masks.PARTIAL: "+", masks.FULL: "#"}


def attention(value: Node, op: ops.Attend, chosen: Candidate | None, names: Mapping[Node, str]) -> Facts:
    """The facts of one attention. `chosen` is the template that computes it, with its tile."""
    q, k, v = (operand.type for operand in value.operands[:3])
    sizes = dict(chosen.tile.sizes) if chosen is not None else {}
    classes = _classes(value, op, sizes["q"], sizes["kv"]) if {"q", "kv"} <= sizes.keys() else None
    return {
        "value": names[value],
        "queries": q.shape[-3],
        "keys": k.shape[-3],
        "heads": q.shape[-2],
        "kv_heads": k.shape[-2],
        "width": q.shape[-1],
        "value_width": v.shape[-1],
        "mask": str(op.visible),
        "score": None if op.score == masks.identity else str(op.score),
        "scale": op.scale,
        "softcap": op.softcap,
        "masked_row": op.masked_row,
        **({} if op.dropout is None else {"dropout": op.dropout}),
        "returns": op.returns,
        "operands": [operand.name for operand in op.beside if operand.holds != "position"],
        "positions": {
            operand.name: span_of(value.operand(operand.name)) for operand in op.beside if operand.holds == "position"
        },
        "tiles": _tiles(value, sizes, classes),
        "map": _map(value, op, sizes, classes),
    }


def span_of(positions: Node | None) -> list[int] | None:
    """The first and the last of positions that are known at planning time; None for others."""
    if positions is None or not isinstance(positions.op, ops.Positions) or not positions.op.length:
        return None
    return [positions.op.start, positions.op.start + positions.op.length - 1]


def _tiles(value: Node, sizes: Mapping[str, int], classes: TileClasses | None) -> Facts:
    """How many tiles of scores are empty, full and partial under the mask, or why that is not known."""
    if "kv" in sizes and "q" not in sizes:
        return {"unknown": f"the kernel decides at run time which tiles of {sizes['kv']} keys the mask shows"}
    if not {"q", "kv"} <= sizes.keys():
        return {"unknown": "the scores are computed whole, not in tiles"}
    if classes is None:
        return {"unknown": "positions are read at each call, so no tile is known to be empty now"}
    queries, keys = (operand.type.shape[-3] for operand in value.operands[:2])
    heights = np.minimum(sizes["q"], queries - np.arange(0, queries, sizes["q"]))
    widths = np.minimum(sizes["kv"], keys - np.arange(0, keys, sizes["kv"]))
    return {
        "count": classes.count,
        "empty": classes.number(masks.EMPTY),
        "partial": classes.number(masks.PARTIAL),
        "full": classes.number(masks.FULL),
        "scores_computed": classes.scores(heights, widths),
        "scores": queries * keys,
    }


def _map(value: Node, op: ops.Attend, sizes: Mapping[str, int], classes: TileClasses | None) -> Facts | None:
    """The classes of the scores, a string for a row of cells; None if positions are read at each call.

    A cell is a tile of the kernel, or several of them if there are more than `MOST_CELLS` on an axis. If the kernel has no
    tiles of queries and keys that are known now, a cell is a block of the sequences.
    """
    queries, keys = (operand.type.shape[-3] for operand in value.operands[:2])
    if not queries or not keys:
        return None
    own = classes is not None
    q, kv = (sizes["q"], sizes["kv"]) if own else (-(-queries // _CELLS), -(-keys // _CELLS))
    classes = classes or _classes(value, op, q, kv)
    if classes is None:
        return None
    cells, down, across = classes.reduced(MOST_CELLS)
    return {
        "rows": ["".join(LETTERS[int(kind)] for kind in row) for row in cells],
        "queries": min(q * down, queries),
        "keys": min(kv * across, keys),
        "tiles": [down, across] if own else None,
    }


def _classes(value: Node, op: ops.Attend, q_size: int, kv_size: int) -> TileClasses | None:
    """The classes of all tiles of scores; None if the mask reads positions that are not known yet."""
    q, k = value.operands[0].type, value.operands[1].type
    read = masks.variables(op.visible)
    rows = _ranges(q.shape[-3], q_size, value.operand("q_positions"), "q_pos" in read)
    columns = _ranges(k.shape[-3], kv_size, value.operand("kv_positions"), "kv_pos" in read)
    if rows is None or columns is None:
        return None
    heads, entries = (0, max(1, q.shape[-2]) - 1), (0, max(1, math.prod(q.shape[:-3])) - 1)
    beside = zip(op.beside, value.operands[len(op.required) :], strict=True)
    wide = [operand.variable for operand, given in beside if operand.variable and given.type.dtype == "i64"]
    classes = classes_of(op.visible, rows, columns, head=heads, batch=entries, wide=wide)
    # A dense mask may hide any key that the expression shows.
    return classes.masked if "mask" in op.given else classes


def _ranges(length: int, size: int, positions: Node | None, read: bool) -> npt.NDArray[np.int64] | None:
    """The first and last position of every tile, (n, 2); None if the mask reads positions that are not known yet."""
    if read and (positions is None or not isinstance(positions.op, ops.Positions)):
        return None
    first = positions.op.start if positions is not None and isinstance(positions.op, ops.Positions) else 0
    starts = np.arange(0, length, size)
    return np.stack([starts, np.minimum(starts + size, length) - 1], axis=-1) + first
