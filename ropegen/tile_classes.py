"""The classes of all tiles of an attention, for sequences of any length.

`masks.classify_tiles` looks at every tile, so its time and memory grow with the product of the two lengths. `classes_of`
gives the same classes from blocks of tiles: it classifies blocks of 4^k x 4^k tiles, and divides only a block whose
tiles may differ. The tiles along the edge of a mask grow with the length alone. The result is a list of rectangles.

A block needs no division in three cases. Interval arithmetic over the positions of the whole block says that the mask
keeps nothing there, or everything: then that holds for every tile inside. Or every tile of the block is partial. This
follows from what holds for the interval of every tile (`_Every`): the interval begins at or below a number, ends at or
above another, and has at least some width.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ropegen.errors import RopegenError
from ropegen.expression import INT_MAX, INT_MIN, Apply, Const, Expr, Range, Table, Var, excerpt
from ropegen.masks import EMPTY, FULL, PARTIAL, Interval, classify_tiles, interval_of, tile_ranges

IntArray: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

# The most tiles that are classified one by one for a map, and the most of a dense map.
MOST_TILES = 1 << 25
# A block is divided into _PARTS x _PARTS parts.
_PARTS = 4
# A map of at most so many rows and columns is classified tile by tile, and so is the coarsest map of blocks.
_AT_ONCE = 64
# The most intervals that exist at once: of all nodes of a mask, for all blocks that are classified together.
_INTERVALS = 1 << 20
# The widest interval of integers.
_WIDEST = INT_MAX - INT_MIN


@dataclass(frozen=True, slots=True, eq=False)
class TileClasses:
    """The class of every tile of a map (rows of tiles, columns): `masks.EMPTY`, `PARTIAL` or `FULL`.

    The tiles [top, bottom) x [left, right) of a rectangle have the class `kind`. Every tile lies in one rectangle. The
    arrays have one entry for a rectangle.
    """

    rows: int
    columns: int
    top: IntArray
    bottom: IntArray
    left: IntArray
    right: IntArray
    kind: npt.NDArray[np.int8]

    @staticmethod
    def uniform(rows: int, columns: int, kind: int) -> TileClasses:
        """The map whose tiles are all of one class."""
        count = int(rows > 0 and columns > 0)
        zeros = np.zeros(count, np.int64)
        return TileClasses(
            rows, columns, zeros, zeros + rows, zeros, zeros + columns, np.full(count, kind, dtype=np.int8)
        )

    @staticmethod
    def of(classes: npt.NDArray[np.int8]) -> TileClasses:
        """The map of a dense array (rows of tiles, columns)."""
        rows, columns = classes.shape
        row, column = (index.ravel().astype(np.int64) for index in np.indices(classes.shape))
        return TileClasses(rows, columns, row, row + 1, column, column + 1, classes.ravel())

    def __len__(self) -> int:
        """The rows of tiles."""
        return self.rows

    @property
    def count(self) -> int:
        """The tiles of the map."""
        return self.rows * self.columns

    @property
    def transposed(self) -> TileClasses:
        """Rows as columns."""
        return TileClasses(self.columns, self.rows, self.left, self.right, self.top, self.bottom, self.kind)

    @property
    def masked(self) -> TileClasses:
        """With partial tiles in place of full ones, for a mask that hides more."""
        return replace(self, kind=np.minimum(self.kind, PARTIAL))

    @property
    def with_masked_last_column(self) -> TileClasses:
        """With partial tiles in place of the full ones in the last column."""
        cut = (self.kind == FULL) & (self.right == self.columns)
        right = np.where(cut, self.right - 1, self.right)
        wide = self.left < right
        return TileClasses(
            self.rows,
            self.columns,
            top=np.concatenate([self.top[wide], self.top[cut]]),
            bottom=np.concatenate([self.bottom[wide], self.bottom[cut]]),
            left=np.concatenate([self.left[wide], self.right[cut] - 1]),
            right=np.concatenate([right[wide], self.right[cut]]),
            kind=np.concatenate([self.kind[wide], np.minimum(self.kind[cut], PARTIAL)]),
        )

    def number(self, kind: int) -> int:
        """How many tiles are of a class."""
        chosen = self.kind == kind
        return int(((self.bottom - self.top) * (self.right - self.left))[chosen].sum())

    @property
    def visited(self) -> int:
        """How many tiles are not empty."""
        return self.count - self.number(EMPTY)

    def scores(self, heights: IntArray, widths: IntArray) -> int:
        """The scores in the tiles that are not empty; rows of tiles have `heights`, columns have `widths`."""
        down, across = (np.concatenate([[0], np.cumsum(sizes)]) for sizes in (heights, widths))
        seen = self.kind != EMPTY
        top, bottom, left, right = (edge[seen] for edge in (self.top, self.bottom, self.left, self.right))
        return int(((down[bottom] - down[top]) * (across[right] - across[left])).sum())

    def reduced(self, most: int) -> tuple[npt.NDArray[np.int8], int, int]:
        """The map (rows, columns) with at most `most` rows and columns, and how many tiles a cell has on each axis.

        A cell has the class of its tiles if they are all of one class, otherwise `masks.PARTIAL`.
        """
        down, across = (max(1, -(-size // most)) for size in (self.rows, self.columns))
        shape = -(-self.rows // down), -(-self.columns // across)
        tiles = {kind: np.zeros(shape) for kind in (EMPTY, FULL)}
        step = max(1, _INTERVALS // max(1, *shape))
        for kind, counted in tiles.items():
            chosen = np.flatnonzero(self.kind == kind)
            for part in np.split(chosen, range(step, len(chosen), step)):
                rows = _overlaps(self.top[part], self.bottom[part], shape[0], down)
                counted += rows.T @ _overlaps(self.left[part], self.right[part], shape[1], across)
        sizes = np.outer(
            *(
                np.minimum(each, size - np.arange(0, size, each))
                for size, each in ((self.rows, down), (self.columns, across))
            )
        )
        return (
            np.select([tiles[EMPTY] == sizes, tiles[FULL] == sizes], [EMPTY, FULL], PARTIAL).astype(np.int8),
            down,
            across,
        )

    def seen(self) -> tuple[IntArray, IntArray]:
        """The first column of every row that is not empty, and the column after the last; both 0 in an empty row."""
        first, stop = np.full(self.rows, self.columns), np.zeros(self.rows, np.int64)
        visible = self.kind != EMPTY
        heights = self.bottom - self.top
        for height in np.unique(heights[visible]):
            chosen = visible & (heights == height)
            for offset in range(0, int(height), _AT_ONCE):
                place = np.arange(offset, min(offset + _AT_ONCE, int(height)))
                row = self.top[chosen][:, None] + place
                np.minimum.at(first, row, self.left[chosen][:, None])
                np.maximum.at(stop, row, self.right[chosen][:, None])
        return np.where(stop > 0, first, 0), stop

    def dense(self) -> npt.NDArray[np.int8]:
        """The class of every tile, (rows of tiles, columns).

        Raises:
          RopegenError: there are more than `MOST_TILES`.
        """
        if self.count > MOST_TILES:
            raise RopegenError(
                f"a kernel needs a list of {self.rows:,} x {self.columns:,} tiles, and at most {MOST_TILES:,} can be "
                "listed; give a larger tile, or shorter sequences"
            )
        classes = np.zeros((self.rows, self.columns), np.int8)
        heights, widths = self.bottom - self.top, self.right - self.left
        shown = self.kind != EMPTY
        for height, width in np.unique(np.stack([heights[shown], widths[shown]], 1), axis=0).tolist():
            chosen = np.flatnonzero(shown & (heights == height) & (widths == width))
            step = max(1, _INTERVALS // (height * width))
            for part in np.split(chosen, range(step, len(chosen), step)):
                row = self.top[part][:, None, None] + np.arange(height)[:, None]
                column = self.left[part][:, None, None] + np.arange(width)
                classes[row, column] = self.kind[part][:, None, None]
        return classes


def _overlaps(first: IntArray, stop: IntArray, cells: int, each: int) -> npt.NDArray[np.float64]:
    """How many of the tiles [first, stop) each cell of `each` tiles has, (intervals, cells)."""
    start = np.arange(cells) * each
    return np.clip(np.minimum(stop[:, None], start + each) - np.maximum(first[:, None], start), 0, None).astype(
        np.float64
    )


def classes_of(
    expr: Expr,
    q_tiles: npt.ArrayLike,
    kv_tiles: npt.ArrayLike,
    *,
    q_segment: Range | npt.ArrayLike = None,
    kv_segment: Range | npt.ArrayLike = None,
    head: Range = None,
    batch: Range = None,
    wide: Collection[str] = (),
) -> TileClasses:
    """`masks.classify_tiles`, with the same arguments, as rectangles.

    A tile's class is that of `classify_tiles`. It may be "empty" or "full", which is always right, where that says
    "partial" because it rounds a number that float32 does not hold.

    Raises:
      RopegenError: as `classify_tiles`; and more than `MOST_TILES` tiles must be classified one by one.
    """
    segments = {"q_segment": q_segment, "kv_segment": kv_segment}
    given = {"q_pos": q_tiles, "kv_pos": kv_tiles, **segments, "head": head, "batch": batch}
    ranges, (rows, columns) = tile_ranges(expr, given)
    if max(rows, columns) <= _AT_ONCE or not min(rows, columns):
        classes = classify_tiles(
            expr, q_tiles, kv_tiles, q_segment=q_segment, kv_segment=kv_segment, head=head, batch=batch, wide=wide
        )
        return TileClasses.of(classes)
    with np.errstate(all="ignore"):
        pieces = list(_pieces(expr, _Levels.of(ranges, (rows, columns)), frozenset(wide)))
    return TileClasses(rows, columns, *(np.concatenate(parts) for parts in zip(*pieces, strict=True)))


# Blocks -----------------------------------------------------------------------------------------------------------


class _Ends(NamedTuple):
    """Of all tiles in a block: the least and the greatest low end, the least and the greatest high end, the least width."""

    least_low: IntArray
    most_low: IntArray
    least_high: IntArray
    most_high: IntArray
    width: IntArray

    def coarser(self) -> _Ends:
        """Those of blocks of `_PARTS` of these."""
        starts = np.arange(0, len(self.width), _PARTS)
        picks = (np.minimum, np.maximum, np.minimum, np.maximum, np.minimum)
        return _Ends(*(pick.reduceat(ends, starts) for pick, ends in zip(picks, self, strict=True)))


@dataclass(frozen=True, slots=True)
class _Levels:
    """The ends of all names, for tiles, for blocks of 4 x 4 of them, of 16 x 16, and so on."""

    shape: tuple[int, int]
    axes: Mapping[str, int | None]
    """The axis of the map that a name varies along."""
    ends: list[dict[str, _Ends]]

    @staticmethod
    def of(ranges: Mapping[str, Interval], shape: tuple[int, int]) -> _Levels:
        axes = {name: next((axis for axis in (0, 1) if low.shape[axis] > 1), None) for name, (low, _) in ranges.items()}
        flat = {name: (low.ravel(), high.ravel()) for name, (low, high) in ranges.items()}
        ends = [{name: _Ends(low, low, high, high, high - low) for name, (low, high) in flat.items()}]
        size = max(shape)
        while size > _AT_ONCE:
            ends.append({name: of_name.coarser() for name, of_name in ends[-1].items()})
            size = -(-size // _PARTS)
        return _Levels(shape, axes, ends)

    def at(self, level: int, row: IntArray, column: IntArray) -> dict[str, _Ends]:
        """The ends of some blocks, as arrays of (1, blocks)."""
        return {
            name: ends if axis is None else _Ends(*(end[None, (row, column)[axis]] for end in ends))
            for name, ends in self.ends[level].items()
            for axis in (self.axes[name],)
        }

    def blocks(self, level: int) -> tuple[int, int]:
        """How many rows and columns of blocks there are."""
        rows, columns = (-(-length // _PARTS**level) for length in self.shape)
        return rows, columns


def _pieces(expr: Expr, levels: _Levels, wide: frozenset[str]) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """The rectangles, as (top, bottom, left, right, kind), in pieces."""
    together = max(_PARTS**2, _INTERVALS // _size(expr))
    top = len(levels.ends) - 1
    row, column = (index.ravel() for index in np.indices(levels.blocks(top)))
    waiting = [(top, row, column)]
    looked = 0
    while waiting:
        level, row, column = waiting.pop()
        if len(row) > together:
            waiting += [(level, row[together:], column[together:])]
            row, column = row[:together], column[:together]
        if level == 0:
            looked += len(row)
            if looked > MOST_TILES:
                rows, columns = levels.shape
                raise RopegenError(
                    f"of {rows:,} x {columns:,} tiles under the mask `{excerpt(expr)}`, more than {MOST_TILES:,} must be "
                    "classified one by one; give larger tiles, shorter sequences, or a mask that decides more tiles at once"
                )
        kind, is_settled = _classes(expr, levels.at(level, row, column), len(row), wide, divides=level > 0)
        if level == 0:
            yield from _merged(levels, row, column, kind)
            continue
        yield _rectangles(levels, level, row[is_settled], column[is_settled], kind[is_settled])
        row, column = _divided(levels, level, row[~is_settled], column[~is_settled])
        if len(row):
            waiting.append((level - 1, row, column))


def _divided(levels: _Levels, level: int, row: IntArray, column: IntArray) -> tuple[IntArray, IntArray]:
    """The parts of blocks, one block after the other; parts outside of the map are left out."""
    part = np.arange(_PARTS)
    inside_row = np.broadcast_to((row[:, None] * _PARTS + part)[:, :, None], (len(row), _PARTS, _PARTS)).ravel()
    inside_column = np.broadcast_to((column[:, None] * _PARTS + part)[:, None, :], (len(row), _PARTS, _PARTS)).ravel()
    rows, columns = levels.blocks(level - 1)
    inside = (inside_row < rows) & (inside_column < columns)
    return inside_row[inside], inside_column[inside]


def _rectangles(
    levels: _Levels, level: int, row: IntArray, column: IntArray, kind: npt.NDArray[np.int8]
) -> tuple[npt.NDArray[Any], ...]:
    size, (rows, columns) = _PARTS**level, levels.shape
    return (
        row * size,
        np.minimum((row + 1) * size, rows),
        column * size,
        np.minimum((column + 1) * size, columns),
        kind,
    )


def _merged(
    levels: _Levels, row: IntArray, column: IntArray, kind: npt.NDArray[np.int8]
) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    """The rectangles of tiles; neighbours in a row of a block that have one class become one rectangle."""
    is_first = np.ones(len(row), np.bool_)
    is_first[1:] = (
        (row[1:] != row[:-1]) | (column[1:] != column[:-1] + 1) | (column[1:] % _PARTS == 0) | (kind[1:] != kind[:-1])
    )
    first = np.flatnonzero(is_first)
    last = np.append(first[1:], len(row)) - 1
    yield row[first], row[first] + 1, column[first], column[last] + 1, kind[first]


def _classes(
    expr: Expr, ends: Mapping[str, _Ends], count: int, wide: frozenset[str], *, divides: bool
) -> tuple[npt.NDArray[np.int8], BoolArray]:
    """The classes of blocks, and whether all tiles of a block have its class."""
    outer: dict[Expr, Interval] = {}
    low, high = interval_of(expr, {name: (of.least_low, of.most_high) for name, of in ends.items()}, outer, wide)
    low, high = (np.broadcast_to(end, (1, count))[0] for end in (low, high))
    kind = low.astype(np.int8) + high.astype(np.int8)
    is_settled = kind != PARTIAL
    if divides:
        every = _every(expr, outer, ends, {})
        if every is not None:
            is_settled = is_settled | np.broadcast_to(~every.low & every.high, (1, count))[0]
    return kind, is_settled


def _size(expr: Expr) -> int:
    """The nodes of an expression."""
    match expr:
        case Apply(args=args):
            return 1 + sum(map(_size, args))
        case Table(index=index):
            return 1 + _size(index)
        case _:
            return 1


# Every tile of a block --------------------------------------------------------------------------------------------


class _Every(NamedTuple):
    """What holds for a node's interval in every tile of a block.

    The interval begins at or below `low`, ends at or above `high`, and is at least `width` wide. `low` may be above
    `high`. For booleans, False is below True.
    """

    low: npt.NDArray[Any]
    high: npt.NDArray[Any]
    width: npt.NDArray[Any]


def _every(
    node: Expr, outer: Mapping[Expr, Interval], ends: Mapping[str, _Ends], known: dict[Expr, _Every | None]
) -> _Every | None:
    """What holds in every tile of the blocks; None for floats. `outer` has the intervals over the whole blocks."""
    if node not in known:
        known[node] = None if node.kind == "float" else _every_of(node, outer, ends, known)
    return known[node]


def _every_of(
    node: Expr, outer: Mapping[Expr, Interval], ends: Mapping[str, _Ends], known: dict[Expr, _Every | None]
) -> _Every:
    least, most = outer[node]
    # A tile's interval lies within that of its block: it begins at or below the block's end.
    anywhere = _Every(most, least, np.zeros((1, 1), np.int64))
    match node:
        case Var(name=name):
            return _Every(ends[name].most_low, ends[name].least_high, ends[name].width)
        case Const():
            return _Every(least, most, np.zeros((1, 1), np.int64))
        case Apply(args=args) if any(arg not in outer for arg in args):
            return _Every(least, most, anywhere.width)  # undecided in every tile: its operands have 64 bits
        case Apply(op=op, args=args):
            parts = [_every(arg, outer, ends, known) for arg in args]
            if op == "where":
                return _every_where(parts, anywhere)
            whole = [part for part in parts if part is not None]
            if node.kind == "bool":
                return _every_decided(op, whole) if len(whole) == len(parts) else _undecided()
            return _every_integer(op, args, whole, anywhere)
        case _:
            return anywhere


def _undecided() -> _Every:
    """Nothing is known of a condition: it may be surely true in a tile, and impossible in another."""
    return _Every(np.ones((1, 1), np.bool_), np.zeros((1, 1), np.bool_), np.zeros((1, 1), np.int64))


def _every_decided(op: str, parts: list[_Every]) -> _Every:
    """Conditions and comparisons of integers; see `masks` for the intervals of a tile."""
    none = np.zeros((1, 1), np.int64)
    first, second = parts[0], parts[-1]
    if op == "~":
        return _Every(~first.high, ~first.low, none)
    if op in ("&", "|"):
        join = np.logical_and if op == "&" else np.logical_or
        low, high = first.low, first.high
        for part in parts[1:]:
            low, high = join(low, part.low), join(high, part.high)
        return _Every(low, high, none)
    if op in (">", ">="):
        first, second = second, first
    if op in ("<", ">"):
        return _Every(first.high < second.low, ~(first.low >= second.high), none)
    if op in ("<=", ">="):
        return _Every(first.high <= second.low, ~(first.low > second.high), none)
    # Two intervals are surely equal if both are the same point, and surely different if they lie apart.
    may_match = (first.width == 0) & (second.width == 0)
    may_differ = (first.high < second.low) | (second.high < first.low)
    return _Every(may_match, ~may_differ, none) if op == "==" else _Every(may_differ, ~may_match, none)


def _every_where(parts: Sequence[_Every | None], anywhere: _Every) -> _Every:
    """One of two values, or either one where the condition is partial."""
    condition, chosen, otherwise = parts
    if condition is None or chosen is None or otherwise is None:
        return anywhere
    is_partial = ~condition.low & condition.high
    low, high = np.minimum(chosen.low, otherwise.low), np.maximum(chosen.high, otherwise.high)
    return _Every(
        np.where(is_partial, low, np.maximum(chosen.low, otherwise.low)),
        np.where(is_partial, high, np.minimum(chosen.high, otherwise.high)),
        np.minimum(chosen.width, otherwise.width),
    )


def _every_integer(op: str, args: Sequence[Expr], parts: list[_Every], anywhere: _Every) -> _Every:
    """Integer arithmetic. A result that may wrap covers all of int32, whatever its operands are."""
    first, second = parts[0], parts[-1]
    none = np.zeros((1, 1), np.int64)
    divisor = int(args[1].value) if len(args) == 2 and isinstance(args[1], Const) else 0
    match op:
        case "neg":
            made = _Every(-first.high, -first.low, first.width)
        case "+":
            made = _Every(first.low + second.low, first.high + second.high, first.width + second.width)
        case "-":
            made = _Every(first.low - second.high, first.high - second.low, first.width + second.width)
        case "abs":
            low, high = np.maximum(np.maximum(first.low, -first.high), 0), np.maximum(-first.low, first.high)
            made = _Every(low, high, none)
        case "min" | "max":
            pick = np.minimum if op == "min" else np.maximum
            made = _Every(pick(first.low, second.low), pick(first.high, second.high), none)
        case "*" if divisor > 0:
            made = _Every(first.low * divisor, first.high * divisor, first.width * divisor)
        case "//" if divisor > 0:
            made = _Every(first.low // divisor, first.high // divisor, first.width // divisor)
        case "%" if divisor > 0:
            # An interval as wide as the divisor holds every remainder.
            is_wide = first.width >= divisor
            made = _Every(
                np.where(is_wide, 0, divisor - 1), np.where(is_wide, divisor - 1, 0), is_wide * np.int64(divisor - 1)
            )
        case _:
            return anywhere
    low, high = np.maximum(made.low, INT_MIN), np.minimum(made.high, INT_MAX)
    return _Every(low, high, np.minimum(made.width, _WIDEST))
