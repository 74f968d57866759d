"""The tiles that the kernels of attention for TPU visit: one step of the grid for each that is not empty."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import lax

from ropegen import masks

from ..tpu.mosaic import Array

IntArray: TypeAlias = Any  # known while tracing, or at run time
# The classes of the blocks of a tile, (blocks of queries, blocks of keys): `masks.EMPTY`, `PARTIAL` or `FULL`.
Pattern: TypeAlias = tuple[tuple[int, ...], ...]

# What a step of the grid does, as bits in the tile map.
BEGINS, ENDS, FULL, PARTIAL = 1, 2, 4, 8
# Used when scores are computed one step ahead: the step before computed no scores, so this step applies no weights.
VOID = 16
# The number of the pattern of a partial tile, times `NUMBER`, is added to `PARTIAL`.
NUMBER, MOST_PATTERNS = 32, 4
# What a step computes of its own tile. A map for scores one step ahead also says what a step computes of the tile before:
# the same bits, times `BEFORE`.
NOW = FULL + PARTIAL + NUMBER * (MOST_PATTERNS - 1)
BEFORE = 256
COMPUTES = NOW + BEFORE * NOW
# More bodies of a kernel than this would take more instruction memory than they save time.
_MOST_BODIES = 8


class Body(NamedTuple):
    """What some steps compute: the bits of the map that say so, the blocks whose scores and whose weights they compute."""

    code: int
    scores: Pattern
    weights: Pattern


def joined(patterns: Iterable[Pattern]) -> Pattern:
    """The pattern of several tiles: a block that is not of one class in all of them is partial."""
    blocks = np.asarray(list(patterns), np.int8)
    joined = np.where((blocks == blocks[0]).all(axis=0), blocks[0], masks.PARTIAL)
    return tuple(tuple(row) for row in joined.tolist())


@dataclass(frozen=True, slots=True)
class Kinds:
    """What there is to compute of every tile of a map.

    kind: (rows of tiles, columns): 0 for an empty tile, `FULL`, or `PARTIAL` plus `NUMBER` times the number of a pattern.
    shape: the blocks of queries and of keys of a tile.
    patterns: the patterns of the partial tiles.
    """

    kind: npt.NDArray[np.int32]
    shape: tuple[int, int]
    patterns: tuple[Pattern, ...]

    @staticmethod
    def of(classes: npt.NDArray[np.int8], blocks: npt.NDArray[np.int8] | None, shape: tuple[int, int]) -> Kinds:
        """The kinds for the classes of tiles, (rows of tiles, columns), and of their blocks, (rows of blocks, columns).

        Blocks beyond the last row or column of `blocks` are empty. Without `blocks`, all blocks of a partial tile are
        partial.
        """
        kind = np.where(classes == masks.FULL, FULL, 0).astype(np.int32)
        partial = np.nonzero(classes == masks.PARTIAL)
        if not len(partial[0]):
            return Kinds(kind, shape, ())
        if blocks is None:
            kind[partial] = PARTIAL
            return Kinds(kind, shape, (((masks.PARTIAL,) * shape[1],) * shape[0],))
        room = tuple(tiles * size - seen for tiles, size, seen in zip(classes.shape, shape, blocks.shape, strict=True))
        whole = np.pad(blocks, [(0, more) for more in room], constant_values=masks.EMPTY)
        tiles = whole.reshape(len(classes), shape[0], -1, shape[1]).transpose(0, 2, 1, 3)[partial]
        distinct, number, count = np.unique(
            tiles.reshape(len(tiles), -1), axis=0, return_inverse=True, return_counts=True
        )
        rank = np.empty(len(count), np.int64)
        rank[np.argsort(-count, kind="stable")] = np.arange(len(count))
        kind[partial] = PARTIAL + NUMBER * rank[number.reshape(-1)]
        ordered = distinct[np.argsort(rank)].reshape(-1, *shape).tolist()
        patterns = tuple(tuple(tuple(row) for row in pattern) for pattern in ordered)
        return Kinds(kind, shape, patterns).with_at_most(MOST_PATTERNS)

    def with_at_most(self, count: int) -> Kinds:
        """With at most `count` patterns: the most frequent ones, and one that joins all others."""
        if len(self.patterns) <= count:
            return self
        kind = np.where(self.kind >= PARTIAL, np.minimum(self.kind, PARTIAL + NUMBER * (count - 1)), self.kind)
        return Kinds(kind, self.shape, (*self.patterns[: count - 1], joined(self.patterns[count - 1 :])))

    def columns(self, columns: slice) -> Kinds:
        """Some columns of the map."""
        return Kinds(self.kind[:, columns], self.shape, self.patterns)


@dataclass(frozen=True, slots=True)
class TileMap:
    """The tiles that are visited, row after row. A row without visible tiles has one step that does nothing.

    The arrays are (steps,), or (entries, steps) if every entry of a batch has a map of its own.
    """

    row: IntArray
    column: IntArray
    does: IntArray
    kinds: Kinds
    """The kinds of the tiles from which the map was made; it may be without some of them."""

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

    def bodies(self, is_ahead: bool) -> tuple[Body, ...]:
        """What the steps compute: the kernel has straight-line code for each. That of full tiles comes first.

        In a map that is known only at run time, any tile can follow any other.
        """
        if isinstance(self.does, np.ndarray):
            found = set((self.does & COMPUTES).tolist())
        else:
            single = {0, *np.unique(self.kinds.kind).tolist()}
            found = {now + BEFORE * before for now in single for before in (single if is_ahead else {0})}
        codes = sorted(found - {0}, key=lambda code: (code & NOW or BEFORE, code // BEFORE or BEFORE))
        return tuple(
            Body(code, self._pattern(code & NOW), self._pattern(code // BEFORE if is_ahead else code)) for code in codes
        )

    def _pattern(self, kind: int) -> Pattern:
        """The classes of the blocks of a tile of a kind; all are empty if there is none."""
        if kind & PARTIAL:
            return self.kinds.patterns[(kind - PARTIAL) // NUMBER]
        queries, keys = self.kinds.shape
        return ((masks.FULL if kind else masks.EMPTY,) * keys,) * queries

    @staticmethod
    def of(kinds: Kinds) -> TileMap:
        """The map of all tiles that are not empty."""
        steps: list[tuple[int, int, int]] = []
        last = 0
        for line, of_row in enumerate(kinds.kind):
            seen = np.flatnonzero(of_row).tolist()
            for place, last in enumerate(seen):
                ends = BEGINS * (place == 0) + ENDS * (place == len(seen) - 1)
                steps.append((line, last, ends + int(of_row[last])))
            if not seen:  # it names the block that is already in fast memory, so nothing is fetched
                steps.append((line, last, BEGINS + ENDS))
        row, column, does = np.asarray(steps, np.int32).reshape(-1, 3).T.copy()
        return TileMap(row, column, does, kinds)

    def without(self, apart: Array) -> TileMap:
        """The map without the tiles that are `apart`: (entries, rows of tiles, columns) booleans, known at run time.

        The number of steps stays the same. The steps that are left over come last; they do nothing and fetch nothing.
        """
        assert isinstance(self.row, np.ndarray)
        place = np.arange(self.steps)
        first = np.searchsorted(self.row, self.row)
        last = np.searchsorted(self.row, self.row, "right") - 1
        works = self.does & NOW
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
        return TileMap(latest(self.row, does != 0), latest(self.column, (does & NOW) != 0), does, self.kinds)

    def ahead(self) -> TileMap:
        """The map with one more step: a step computes the scores of its tile and applies the weights of the tile
        before.

        Patterns are joined until there are few bodies.
        """
        count = len(self.kinds.patterns)
        while True:
            tiles = self._ahead(count)
            if count <= 1 or len(tiles.bodies(is_ahead=True)) <= _MOST_BODIES:
                return tiles
            count -= 1

    def _ahead(self, count: int) -> TileMap:
        """The map one step ahead, with at most `count` patterns."""
        xp: Any = np if isinstance(self.row, np.ndarray) else jnp
        nothing = xp.zeros((*self.row.shape[:-1], 1), np.int32)
        works = self.does & NOW
        works = xp.where(works >= PARTIAL, xp.minimum(works, PARTIAL + NUMBER * (max(count, 1) - 1)), works)
        before = xp.concatenate([nothing, works], -1)
        does = xp.concatenate([works + (self.does & BEGINS), nothing], -1)
        does += xp.concatenate([nothing, self.does & ENDS], -1)
        does += xp.where(before == 0, VOID, BEFORE * before)
        row, column = (xp.concatenate([x, x[..., -1:]], -1) for x in (self.row, self.column))
        return TileMap(row, column, does.astype(np.int32), self.kinds.with_at_most(count))

    def working(self) -> TileMap:
        """The map without the steps that do nothing."""
        works = (self.does & NOW) != 0
        return replace(self, row=self.row[works], column=self.column[works], does=self.does[works])
