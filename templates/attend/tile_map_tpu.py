"""The tiles that the kernels of attention for TPU visit: one step of the grid for each that is not empty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import lax

from ropegen import masks

from ..tpu.mosaic import Array

IntArray: TypeAlias = Any  # known while tracing, or at run time

# What a step of the grid does, as bits in the tile map.
BEGINS, ENDS, FULL, PARTIAL = 1, 2, 4, 8
# Used when scores are computed one step ahead: the step before computed no scores, so this step has no weights to apply
# and discards what it multiplies.
VOID = 16


@dataclass(frozen=True, slots=True)
class TileMap:
    """The tiles that are visited, row after row. A row without visible tiles has one step that does nothing.

    The arrays are (steps,), or (entries, steps) if every entry of a batch has a map of its own.
    """

    row: IntArray
    column: IntArray
    does: IntArray

    @property
    def steps(self) -> int:
        return self.row.shape[-1]

    @property
    def stride(self) -> int:
        """The distance between the maps of two successive batch entries; 0 if they share one."""
        return self.steps if self.row.ndim > 1 and len(self.row) > 1 else 0

    @property
    def prefetched(self) -> tuple[IntArray, IntArray, IntArray]:
        """The map as the kernels read it: three arrays of (entries * steps,)."""
        return self.row.reshape(-1), self.column.reshape(-1), self.does.reshape(-1)

    @staticmethod
    def of(classes: npt.NDArray[np.int8]) -> TileMap:
        """The map for tile classes (`masks.EMPTY`, `PARTIAL`, `FULL`) of shape (rows of tiles, columns)."""
        steps: list[tuple[int, int, int]] = []
        column = 0
        for row, of_row in enumerate(classes):
            seen = np.flatnonzero(of_row != masks.EMPTY).tolist()
            for place, column in enumerate(seen):
                ends = BEGINS * (place == 0) + ENDS * (place == len(seen) - 1)
                steps.append((row, column, ends + (FULL if of_row[column] == masks.FULL else PARTIAL)))
            if not seen:  # it names the block that is already in fast memory, so nothing is fetched
                steps.append((row, column, BEGINS + ENDS))
        return TileMap(*np.asarray(steps, np.int32).reshape(-1, 3).T.copy())

    def without(self, apart: Array) -> TileMap:
        """The map without the tiles that are `apart`: (entries, rows of tiles, columns) booleans, known at run time.

        The number of steps stays the same. The steps that are left over come last; they do nothing and fetch nothing.
        """
        assert isinstance(self.row, np.ndarray)
        place = np.arange(self.steps)
        first = np.searchsorted(self.row, self.row)
        last = np.searchsorted(self.row, self.row, "right") - 1
        works = self.does & (FULL + PARTIAL)
        sees = (works != 0) & ~apart[:, self.row, self.column]
        count = jnp.cumsum(sees, 1, dtype=np.int32)
        before = count[:, first] - sees[:, first]
        turn, of_row = count - before, count[:, last] - before
        does = works + BEGINS * (turn == 1) + ENDS * (turn == of_row)
        does = jnp.where(sees, does, jnp.where((of_row == 0) & (place == first), BEGINS + ENDS, 0))
        order = jnp.argsort(does == 0, axis=1, stable=True)

        def latest(x: npt.NDArray[np.int32], where: Array) -> Array:
            """At every step in the new order, the entry of the latest step that `where` marks."""
            step = lax.cummax(jnp.where(where, place, 0), axis=1)
            return jnp.take_along_axis(jnp.asarray(x)[order], step, axis=1)

        does = jnp.take_along_axis(does, order, axis=1).astype(np.int32)
        return TileMap(latest(self.row, does != 0), latest(self.column, (does & (FULL + PARTIAL)) != 0), does)

    def ahead(self) -> TileMap:
        """The map with one more step: a step computes the scores of its tile and applies the weights of the tile
        before.
        """
        xp: Any = np if isinstance(self.row, np.ndarray) else jnp
        nothing = xp.zeros((*self.row.shape[:-1], 1), np.int32)
        works = self.does & (FULL + PARTIAL)
        before = xp.concatenate([nothing, works], -1)
        does = xp.concatenate([works + (self.does & BEGINS), nothing], -1)
        does += xp.concatenate([nothing, self.does & ENDS], -1)
        does += xp.where(before == 0, VOID, 0)
        does += xp.where((xp.concatenate([works, nothing], -1) == 0) & (before != 0), FULL, 0)
        row, column = (xp.concatenate([x, x[..., -1:]], -1) for x in (self.row, self.column))
        return TileMap(row, column, does.astype(np.int32))

    def working(self) -> TileMap:
        """The map without the steps that do nothing."""
        works = (self.does & (FULL + PARTIAL)) != 0
        return TileMap(self.row[works], self.column[works], self.does[works])
