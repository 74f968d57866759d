"""The schedule of attention in blocks of scores: which are visited, and in which order.

The tiles that a mask hides are known while tracing, if positions are. The lowest and highest positions and segment ids
of a tile that are known only at run time are compared at run time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array, lax

from ropegen import masks
from ropegen.expression import Apply, Expr, Var, apply
from ropegen.run_time_tiles import may_see
from ropegen.tile_classes import TileClasses, classes_of

from .blocks import Block, Carry, Index, Site, cut

# The range of keys that an unrolled tile of queries reads is cut to multiples of this.
GRANULE = 128
# Compiling more unrolled blocks than this would take longer than running them saves.
_UNROLLED = 4
# The widest block of a band, in inner tiles. More scores at a time would not stay in the caches.
_WIDEST = 4
# The time of a score in a block with a mask, over that in a block without.
_MASKED = 1.25
_SEGMENTS_TURNED = apply("==", Var("kv_segment"), Var("q_segment"))


def _edges(length: int, size: int, whole: bool) -> npt.NDArray[np.int64]:
    """The first and last index of every tile, (n, 2). The last tile is shorter or, if all are `whole`, begins earlier."""
    starts = np.arange(0, length, size)
    ends = np.minimum(starts + size, length) - 1
    return np.stack([ends - (size - 1) if whole else starts, ends], 1)


def _classes(site: Site, q_size: int, kv_size: int, whole: bool) -> TileClasses:
    """The classes of the tiles of the whole attention."""
    anywhere, among = np.iinfo(np.int32), site.static.among

    def positions(length: int, size: int, known: tuple[int, int] | None) -> npt.NDArray[np.int64]:
        edges = _edges(length, size, whole)
        return edges + known[0] if known else np.full_like(edges, 1) * [anywhere.min, anywhere.max]

    classes = classes_of(
        site.op.visible,
        positions(site.queries, q_size, site.static.q_positions),
        positions(site.keys, kv_size, site.static.kv_positions),
        head=(0, (site.heads if among is None else among.heads) - 1),
        batch=(0, (site.batch if among is None else among.batches) - 1),
        wide=site.wide_variables,
    )
    return classes.masked if "mask" in site.given else classes


@dataclass(frozen=True, slots=True)
class Sweep:
    """The visit of all blocks of a batch entry, row after row of tiles. A row has some queries or, `by_key`, some keys."""

    site: Site
    batch: Index | None
    """None if all batch entries are visited together."""
    by_key: bool

    @property
    def sizes(self) -> tuple[int, int]:
        """The sizes of the outer and the inner tile. By key, they are `q` keys and `kv` rows; a row is one query of one
        head.
        """
        site, tile = self.site, self.site.tile
        if not self.by_key:
            return min(tile.q, site.queries), min(tile.kv, site.keys)
        return min(tile.q, site.keys), min(max(1, tile.kv // site.group), site.queries)

    @property
    def lengths(self) -> tuple[int, int]:
        site = self.site
        return (site.keys, site.queries) if self.by_key else (site.queries, site.keys)

    def classes(self, outer: int, inner: int, whole: bool) -> TileClasses:
        if self.by_key:
            return _classes(self.site, inner, outer, whole).transposed
        return _classes(self.site, outer, inner, whole)

    def block(self, outer: Index, outer_size: int, inner: Index, inner_size: int, masked: bool) -> Block:
        if self.by_key:
            return Block(inner, inner_size, outer, outer_size, masked)
        return Block(outer, outer_size, inner, inner_size, masked)

    def unrolled(self) -> list[tuple[int, int, list[Block]]] | None:
        """(start, size, blocks) of each outer tile, or None if there are too many blocks.

        A block is as long as the inner tile if all of it is visible; otherwise it is trimmed.

        """
        (outer, _), (length, _) = self.sizes, self.lengths

        def finer(granule: int) -> TileClasses:
            return self.classes(outer, granule, whole=False)

        chunks = few_chunks(self.site.op.visible, self.sizes, self.lengths, finer)
        if chunks is None:
            return None
        rows: list[tuple[int, int, list[Block]]] = []
        for (first, last), row in zip(_edges(length, outer, whole=False).tolist(), chunks, strict=True):
            size = last - first + 1
            rows.append((first, size, [self.block(first, size, start, stop - start, m) for start, stop, m in row]))
        return rows

    def run(
        self,
        carry: Carry,
        begin: Callable[[Carry, Index, int, bool], Carry],
        step: Callable[[Carry, Block], Carry],
        finish: Callable[[Carry, Carry, Index, int], Carry],
    ) -> Carry:
        """The carry after all outer tiles (start, size).

        For every outer tile, `begin` makes a state from the carry, `step` updates the state with one block, and
        `finish` writes the state back into the carry. The last argument of `begin` says whether the steps run in a
        loop; the structure of the state must then stay the same.
        """
        if (only := self.site.static.block) is not None:
            size = only.kv_size if self.by_key else only.q_size
            return finish(carry, step(begin(carry, 0, size, False), only.alone), 0, size)
        unrolled = self.unrolled()
        if unrolled is not None:
            for start, size, blocks in unrolled:
                state = begin(carry, start, size, False)
                for block in blocks:
                    state = step(state, block)
                carry = finish(carry, state, start, size)
            return carry
        return self._loop(carry, begin, step, finish)

    def _loop(self, carry: Carry, begin: Any, step: Any, finish: Any) -> Carry:
        (outer, inner), (length, inner_length) = self.sizes, self.lengths
        tiles = self.classes(outer, inner, whole=True)
        if inner_length % inner:
            tiles = tiles.with_masked_last_column
        if self.by_key and length % outer:
            tiles = tiles.transposed.with_masked_last_column.transposed
        if band := self._band(tiles):
            return self._banded(*band, carry, begin, step, finish)
        classes = tiles.dense()
        table, full, seen = self._order(classes)

        def row(i: Index, carry: Carry) -> Carry:
            start = jnp.minimum(i * outer, length - outer)
            columns = table[i]

            def visit(masked: bool) -> Callable[[Index, Carry], Carry]:
                def body(t: Index, state: Carry) -> Carry:
                    turn = columns[t] * inner
                    block = self.block(start, outer, jnp.minimum(turn, inner_length - inner), inner, masked)
                    if masked and inner_length % inner:
                        block = replace(block, **{"q_fresh" if self.by_key else "kv_fresh": turn})
                    if masked and self.by_key and length % outer:
                        block = replace(block, kv_fresh=i * outer)
                    return step(state, block)

                return body

            state = begin(carry, start, outer, True)
            if np.any(classes == masks.FULL):
                state = lax.fori_loop(jnp.int32(0), full[i], visit(False), state)
            if np.any(classes == masks.PARTIAL):
                state = lax.fori_loop(full[i], seen[i], visit(True), state)
            return finish(carry, state, start, outer)

        return lax.fori_loop(jnp.int32(0), jnp.int32(len(classes)), row, carry)

    def _order(self, classes: npt.NDArray[np.int8]) -> tuple[Array, Array, Array]:
        """(columns, full, seen) for the rows of tiles: the columns in the order of the visit (full tiles first, empty
        tiles last), the number of full tiles, and the number of tiles that are not empty.
        """
        hidden = self._hidden()
        if hidden is None:
            order = np.argsort(-classes, axis=1, kind="stable").astype(np.int32)
            full, seen = np.sum(classes == masks.FULL, 1), np.sum(classes != masks.EMPTY, 1)
            return jnp.asarray(order), jnp.asarray(full, np.int32), jnp.asarray(seen, np.int32)
        shown = jnp.where(hidden, np.int8(masks.EMPTY), classes)
        order = jnp.argsort(-shown, axis=1, stable=True).astype(np.int32)
        full, seen = (jnp.sum(tiles, 1, dtype=np.int32) for tiles in (shown == masks.FULL, shown != masks.EMPTY))
        return order, full, seen

    def _hidden(self) -> Array | None:
        """Which tiles the mask hides, judged by their lowest and highest positions and segment ids: (outer, inner)
        booleans. None if all of these are known while tracing.
        """
        if self.batch is None or self.site.static.among is not None:
            return None  # heads that are computed side by side visit the same tiles
        visible, is_at_run_time = self.site.op.visible, False
        ranges: dict[str, tuple[Array | npt.NDArray[np.int32], Array | npt.NDArray[np.int32]]] = {}
        for operand in self.site.op.beside:
            if not operand.variable or operand.variable not in masks.variables(visible):
                continue
            (axis,) = operand.axes
            is_outer = (axis == "keys") == self.by_key
            length, size = (lengths[not is_outer] for lengths in (self.lengths, self.sizes))
            edges = _edges(length, size, whole=True)
            known = self.site.static.known(axis) if operand.holds == "position" else None
            if known:
                low, high = (edges + known[0]).astype(np.int32).T
            else:
                given, is_at_run_time = self.site.given[operand.name], True
                values = cut(given.array, (given.at(self.batch), 0), (1, length))[0]
                values = values if jnp.issubdtype(values.dtype, jnp.integer) else values.astype(np.int32)
                tiles = values[edges[:, :1] + np.arange(size)]
                low, high = jnp.min(tiles, 1), jnp.max(tiles, 1)
            ranges[operand.variable] = (low[:, None], high[:, None]) if is_outer else (low[None], high[None])
        if not is_at_run_time:
            return None
        shape = tuple(-(-length // size) for length, size in zip(self.lengths, self.sizes, strict=True))
        return jnp.broadcast_to(jnp.logical_not(may_see(visible, ranges)), shape)

    def _band(self, classes: TileClasses) -> tuple[npt.NDArray[np.int32], int] | None:
        """The band of these tiles, see `band`; None if segment ids hide more tiles at run time."""
        if matches_segments(self.site.op.visible):
            return None
        (outer, inner), (_, inner_length) = self.sizes, self.lengths
        granule = min(GRANULE, inner)
        return band(classes, inner, lambda: self.classes(outer, granule, whole=True), granule, inner_length)

    def _banded(
        self, first: npt.NDArray[np.int32], width: int, carry: Carry, begin: Any, step: Any, finish: Any
    ) -> Carry:
        """Visits one block for each row of tiles, so nothing is rescaled, and no tile is visited only for a corner of
        it.
        """
        (outer, _), (length, _) = self.sizes, self.lengths

        def row(i: Index, carry: Carry) -> Carry:
            start = jnp.minimum(i * outer, length - outer)
            block = self.block(start, outer, jnp.asarray(first)[i], width, True)
            if self.by_key and length % outer:
                block = replace(block, kv_fresh=i * outer)
            return finish(carry, step(begin(carry, start, outer, False), block), start, outer)

        return lax.fori_loop(jnp.int32(0), jnp.int32(len(first)), row, carry)


def few_chunks(
    visible: Expr, sizes: tuple[int, int], lengths: tuple[int, int], finer: Callable[[int], TileClasses]
) -> list[list[tuple[int, int, bool]]] | None:
    """The blocks (start, stop, masked) of every row of tiles, or None if there are too many to unroll.

    `finer(n)` are the classes of tiles with n columns.
    """
    (outer, inner), (length, inner_length) = sizes, lengths
    if -(-length // outer) > _UNROLLED or (matches_segments(visible) and length * inner_length > outer * inner):
        return None
    granule = min(GRANULE, inner)
    rows = [list(_chunks(classes, granule, inner, inner_length)) for classes in finer(granule).dense()]
    return rows if sum(map(len, rows)) <= _UNROLLED else None


def matches_segments(visible: Expr) -> bool:
    """Whether a query sees only keys of its own segment. The ids are known only at run time."""
    terms = visible.args if isinstance(visible, Apply) and visible.op == "&" else (visible,)
    return any(term in (masks.segments, _SEGMENTS_TURNED) for term in terms)


def apart(tiles: Array, others: Array) -> Array:
    """Which tiles of ids (..., n, size) have no id in common with which others (..., m, size): (..., n, m) booleans.

    Only the lowest and highest ids of the tiles are compared, so False means that they may have one in common.
    """
    low, high = jnp.min(tiles, -1)[..., :, None], jnp.max(tiles, -1)[..., :, None]
    return (high < jnp.min(others, -1)[..., None, :]) | (jnp.max(others, -1)[..., None, :] < low)


def band(
    classes: TileClasses, tile: int, finer: Callable[[], TileClasses], granule: int, length: int
) -> tuple[npt.NDArray[np.int32], int] | None:
    """(first, width): the first index that each row of tiles sees, and the width that all rows need.

    `classes` are the classes of tiles with `tile` columns, and `finer()` those of tiles with `granule` columns; a row
    has `length` columns. The result is None if visiting tile after tile takes less time. That is so unless all rows see
    about equally many columns, as with a window or with documents of one length.
    """
    if not classes.number(masks.EMPTY):
        return None
    first, stop = finer().seen()
    width = min(max(1, int(np.max(stop - first))) * granule, length)
    full, partial = classes.number(masks.FULL), classes.number(masks.PARTIAL)
    if width > _WIDEST * tile or _MASKED * width * len(classes) > (full + _MASKED * partial) * tile:
        return None
    return np.minimum(first * granule, length - width).astype(np.int32), width


def _chunks(classes: npt.NDArray[np.int8], granule: int, longest: int, length: int) -> Iterator[tuple[int, int, bool]]:
    """(start, stop, masked) of the runs of full or partial granules, in pieces of about `longest`.

    A run counts as masked if less than half of it is full, because two small matmuls cost more than one with a mask.

    """
    per_piece = max(1, longest // granule)
    seen = np.flatnonzero(classes != masks.EMPTY)
    for run in np.split(seen, np.flatnonzero(np.diff(seen) > 1) + 1) if len(seen) else ():
        full = classes[run] == masks.FULL
        mixed = 0 < np.count_nonzero(full) < len(run)
        parts = np.split(run, np.flatnonzero(np.diff(full)) + 1) if mixed and np.mean(full) >= 0.5 else [run]
        for part in parts:
            for piece in np.array_split(part, -(-len(part) // per_piece)):
                masked = bool(np.any(classes[piece] != masks.FULL))
                yield int(piece[0]) * granule, min((int(piece[-1]) + 1) * granule, length), masked
