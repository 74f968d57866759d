"""The shapes of the kernel of attention for Hopper, and the list of the tiles that it visits.

Nothing here needs Mosaic GPU, because planning needs none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ropegen import masks
from ropegen.ir.ops import Attend

LOG2_E = math.log2(math.e)
# A block has so many warpgroups, and each of them computes so many queries.
WARPGROUPS, WARPGROUP_ROWS = 2, 64
BLOCK = WARPGROUPS * WARPGROUP_ROWS
# Tiles of keys and values in shared memory: those that are read, and those that are fetched meanwhile.
SLOTS = 3


@dataclass(frozen=True, slots=True)
class Form:
    """The shapes of a kernel and its options. The lengths of sequences are padded to whole tiles."""

    op: Attend
    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    seen_keys: int  # keys before the padding
    width: int
    dtype: np.dtype[Any]
    kv_tile: int
    q_start: int
    kv_start: int
    rotates: bool
    """Whether the kernel rotates the queries, in halves."""

    @property
    def rows(self) -> int:
        """The blocks of queries."""
        return self.queries // BLOCK

    @property
    def half(self) -> int:
        """The distance of the two features of a pair."""
        return self.width // 2

    @property
    def columns(self) -> int:
        """The columns of a tile of q and k in shared memory; a half that is rotated is a whole number of them."""
        return min(64, self.half if self.rotates else self.width)

    @property
    def factor(self) -> float:
        """What scores are multiplied by in base 2."""
        return self.op.scale * LOG2_E

    @property
    def shared_memory(self) -> int:
        """Bytes of shared memory of a block, without its barriers."""
        keys = SLOTS * self.kv_tile * 2 * self.width * self.dtype.itemsize
        return BLOCK * (self.width * self.dtype.itemsize + 4) + keys


@dataclass(frozen=True, slots=True)
class TileList:
    """The tiles that are visited, row after row of tiles; in a row, the full tiles come before the partial ones.

    Row r has the columns `columns[first : first + visited]`, of which so many are `full`: `rows[r]` holds these three
    numbers.
    """

    columns: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int32]

    @property
    def kinds(self) -> tuple[bool, bool]:
        """Whether any tile is full, and whether any is partial."""
        _, full, visited = self.rows.T
        return bool(np.any(full)), bool(np.any(visited > full))

    @staticmethod
    def of(classes: npt.NDArray[np.int8]) -> TileList:
        """The list for tile classes of shape (rows of tiles, columns)."""
        order = np.argsort(-classes, axis=1, kind="stable")
        visited, full = np.sum(classes != masks.EMPTY, axis=1), np.sum(classes == masks.FULL, axis=1)
        lists = [row[:count] for row, count in zip(order, visited, strict=True)]
        columns = np.concatenate([*lists, np.zeros(1, np.int64)])  # an array of a kernel is not empty
        first = np.cumsum(visited) - visited
        return TileList(columns.astype(np.int32), np.stack([first, full, visited], axis=1).astype(np.int32))
