"""What the kernels of attention compute for sizes that are no multiples of theirs."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ropegen.template import Padded, Padding, Tile
from ropegen.tile_classes import TileClasses

from .site import AttendSite

_Sizes = TypeVar("_Sizes", int, npt.NDArray[np.int64])


def padding(
    site: AttendSite,
    classes: TileClasses,
    tile: Tile,
    *,
    whole: tuple[int, int],
    widths: tuple[int, int] | None = None,
    unit: str = "",
) -> Padding | None:
    """The padding of a kernel that visits tiles of these `classes`, counted in the multiplications of both products.

    The kernel computes multiples of `whole` queries and keys; both divide the tile. `widths` are the features of queries
    and of values that it computes; None if it computes no more than there are.
    """
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    queries, keys, own = q.shape[-3], k.shape[-3], (q.shape[-1], v.shape[-1])
    wide = own if widths is None else widths
    rows, columns = _parts(queries, tile["q"]), _parts(keys, tile["kv"])
    heads = q.size // max(1, queries * q.shape[-1])
    return Padding.of(
        (
            Padded("queries", queries, _up(queries, whole[0])),
            Padded("keys", keys, _up(keys, whole[1])),
            Padded("features of a query", own[0], wide[0]),
            Padded("features of a value", own[1], wide[1]),
        ),
        "multiplications",
        heads * classes.scores(rows, columns) * sum(own),
        heads * classes.scores(_up(rows, whole[0]), _up(columns, whole[1])) * sum(wide),
        unit,
    )


def _parts(length: int, size: int) -> npt.NDArray[np.int64]:
    """The lengths of tiles; the last one may be shorter."""
    return np.minimum(size, length - np.arange(0, length, size, dtype=np.int64))


def _up(size: _Sizes, multiple: int) -> _Sizes:
    return -(-size // multiple) * multiple
