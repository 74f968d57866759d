"""The forward kernel of attention for Mosaic TPU: one grid step for each tile of scores that is not empty.

Scores lie transposed, keys in sublanes and the rows (the queries of every head that shares a key head) in lanes: the
running maximum and sum are then one row of lanes, reduced by additions of registers and never across lanes, and the
log-sum-exp is dense in memory. The weighted values gather as (Dv, rows) and are turned round once a row of tiles.

A step has two halves: the products of a tile, written to VMEM as scores with the maximum of each row, and the weights
of a tile, multiplied with its values. Neither waits inside for the other where the weights are those of the tile
before: with enough tiles a step makes the scores of one and applies the weights of the one before, and the grid has one
step more. Where tiles are few, both halves are of the same tile.

The softmax runs in base 2, with scale and log2(e) folded into the queries where these pass through float32 on their
way (rotated or float32 queries), else multiplied to the scores.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from ropegen import masks
from ropegen.ir.ops import Attend
from ropegen.target import Products

Array: TypeAlias = jax.Array
Ref: TypeAlias = Any  # a reference to a block in VMEM
Index: TypeAlias = Any  # an int, or a traced int32
IntArray: TypeAlias = Any  # known while tracing, or at run time

LANES = 128
# Rows, and keys, of scores that are computed at a time, as libtpu schedules them best: 256 x 256 float32 are the
# registers that there are.
ROWS, _KEYS = 256, 256
# Blocks of rows, and keys, in straight-line code: the matrix unit has the products of one to do while the weights of
# another are made.
_TOGETHER, _STRAIGHT = 2, 512
# From so many steps on, one more costs less than what the halves of a step gain by being of two tiles.
_AHEAD = 8
_LOWEST = float(np.finfo(np.float32).min)
LOG2_E = math.log2(math.e)

# What a step of the grid does, as bits in the tile map.
BEGINS, ENDS, FULL, PARTIAL = 1, 2, 4, 8
# Where the scores are made a step ahead: there are no weights of the step before, whatever was multiplied is forgotten.
_VOID = 16


@dataclass(frozen=True, slots=True)
class Form:
    """The shapes of a kernel and what it honours; sizes are padded to whole tiles and lanes."""

    op: Attend
    batch: int
    kv_heads: int
    group: int
    q_tile: int
    kv_tile: int
    queries: int
    keys: int
    seen_keys: int  # keys before the padding
    width: int
    value_width: int
    dtype: np.dtype[Any]
    q_start: int
    kv_start: int
    rotates: str = ""
    """How the queries are rotated inside: "" not, "halves" by a table as wide as a head, "shifted" by three tables."""
    shift: int = 0  # between the two features of a pair
    at_once: int = ROWS  # rows of scores at a time, at most
    products: Products = "last in halves"
    """Their order, see `order`."""
    stride: int = 0  # between the tile maps of two batch entries, 0 where they have one

    def place(self, batch: Index, step: Index) -> Index:
        """Where the tile map has a step."""
        return batch * self.stride + step if self.stride else step

    @property
    def rows(self) -> int:
        """Rows of a tile: its queries of each head in the group, head after head."""
        return self.group * self.q_tile

    @property
    def chunk(self) -> int:
        """Rows of scores at a time: a part of one head's, or several heads'."""
        if self.q_tile >= self.at_once:
            return self.at_once
        heads = max(n for n in range(1, self.group + 1) if self.group % n == 0 and n * self.q_tile <= self.at_once)
        return heads * self.q_tile

    @property
    def chunks(self) -> int:
        return self.rows // self.chunk

    @property
    def together(self) -> int:
        """Blocks of rows in straight-line code."""
        return _TOGETHER if self.chunks % _TOGETHER == 0 else 1

    @property
    def runs(self) -> int:
        """Straight-line pieces that a tile's keys take."""
        return -(-self.kv_tile // _STRAIGHT)

    @property
    def is_wide(self) -> bool:
        """Queries pass through float32 inside, so that a factor costs no rounding."""
        return bool(self.rotates) or self.dtype == np.float32

    @property
    def is_altered(self) -> bool:
        """The scores are more than scaled products."""
        return self.op.softcap is not None or self.op.score != masks.identity or "bias" in self.op.given

    @property
    def factor(self) -> float:
        """What the products are multiplied by, before or after."""
        return self.op.scale if self.is_altered else self.op.scale * LOG2_E

    @property
    def vmem(self) -> int:
        """Bytes of fast memory: blocks twice (one is fetched while the other is read), scratch, and live scores."""
        size = self.dtype.itemsize
        blocks = self.rows * (self.width + self.value_width) * size + 4 * 8 * self.rows
        blocks += self.kv_tile * (self.width + self.value_width) * size
        if self.rotates:
            blocks += 4 * self.q_tile * self.width * (1 if self.rotates == "halves" else 3)
        for name in ("bias", "mask"):
            if name in self.op.given:
                blocks += 4 * self.group * self.q_tile * self.kv_tile
        if {"q_segments", "kv_segments"} & set(self.op.given):
            blocks += 4 * 8 * (self.rows + self.kv_tile)
        scratch = self.rows * (self.width * size + 4 * (self.value_width + self.kv_tile + 8 * (3 + 2 * self.runs)))
        return 2 * blocks + scratch + 2 * 4 * self.chunk * min(self.kv_tile, _STRAIGHT)


@dataclass(frozen=True, slots=True)
class TileMap:
    """The tiles that are visited, row after row of them: (steps,) each, or (entries, steps) where the entries of a batch
    have maps of their own. A row without any has one that does nothing.
    """

    row: IntArray
    column: IntArray
    does: IntArray

    @property
    def steps(self) -> int:
        return self.row.shape[-1]

    @property
    def stride(self) -> int:
        """How far the map of a batch entry is from that of the one before."""
        return self.steps if self.row.ndim > 1 and len(self.row) > 1 else 0

    @property
    def prefetched(self) -> tuple[IntArray, IntArray, IntArray]:
        """As the kernels read it: (entries * steps,) each."""
        return self.row.reshape(-1), self.column.reshape(-1), self.does.reshape(-1)

    @staticmethod
    def of(classes: npt.NDArray[np.int8]) -> TileMap:
        """The map of tile classes (`masks.EMPTY`, `PARTIAL`, `FULL`), (rows of tiles, columns)."""
        steps: list[tuple[int, int, int]] = []
        column = 0
        for row, each in enumerate(classes):
            seen = np.flatnonzero(each != masks.EMPTY).tolist()
            for place, column in enumerate(seen):
                ends = BEGINS * (place == 0) + ENDS * (place == len(seen) - 1)
                steps.append((row, column, ends + (FULL if each[column] == masks.FULL else PARTIAL)))
            if not seen:  # the block that is there already is not fetched again
                steps.append((row, column, BEGINS + ENDS))
        return TileMap(*np.asarray(steps, np.int32).reshape(-1, 3).T.copy())

    def without(self, apart: Array) -> TileMap:
        """Without the tiles that are `apart`, known at run time: (entries, rows of tiles, columns) booleans.

        There are as many steps as before. Those that are left over come last, do nothing and fetch nothing.
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
            """In the new order, that of the last step for which it is so."""
            step = lax.cummax(jnp.where(where, place, 0), axis=1)
            return jnp.take_along_axis(jnp.asarray(x)[order], step, axis=1)

        does = jnp.take_along_axis(does, order, axis=1).astype(np.int32)
        return TileMap(latest(self.row, does != 0), latest(self.column, (does & (FULL + PARTIAL)) != 0), does)

    def ahead(self) -> TileMap:
        """With one step more: a step begins a tile, and ends the tile of the step before."""
        xp: Any = np if isinstance(self.row, np.ndarray) else jnp
        nothing = xp.zeros((*self.row.shape[:-1], 1), np.int32)
        works = self.does & (FULL + PARTIAL)
        before = xp.concatenate([nothing, works], -1)
        does = xp.concatenate([works + (self.does & BEGINS), nothing], -1)
        does += xp.concatenate([nothing, self.does & ENDS], -1)
        does += xp.where(before == 0, _VOID, 0)
        does += xp.where((xp.concatenate([works, nothing], -1) == 0) & (before != 0), FULL, 0)
        row, column = (xp.concatenate([each, each[..., -1:]], -1) for each in (self.row, self.column))
        return TileMap(row, column, does.astype(np.int32))

    def working(self) -> TileMap:
        """Without the steps that do nothing."""
        works = (self.does & (FULL + PARTIAL)) != 0
        return TileMap(self.row[works], self.column[works], self.does[works])


def dot(a: Array, b: Array, contracted: tuple[int, int]) -> Array:
    exact = lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    dimensions = (((contracted[0],), (contracted[1],)), ((), ()))
    return lax.dot_general(a, b, dimensions, precision=exact, preferred_element_type=jnp.float32)


def order(
    products: Products, blocks: int, keys: Sequence[int]
) -> list[tuple[list[tuple[int, int]], list[tuple[int, int]]]]:
    """What the matrix unit is given, in turns of products and of weights, as (block of rows, first key).

    libtpu keeps to the order, and which one leaves the fewest bundles and spills differs from chip to chip: measured by
    `benchmarks/tpu.py`.
    """
    by_block = [(block, key) for block in range(blocks) for key in keys]
    by_key = [(block, key) for key in keys for block in range(blocks)]
    if products == "in turns":  # what is multiplied of one half waits while the other is weighed
        half = len(by_key) // 2
        return [(by_key[:half], by_block[:half]), (by_key[half:], by_block[half:])]
    return [(by_key if products == "by key" else by_block, by_key)]


def _column(row: Array, width: int) -> Array:
    """A row of lanes (1, n) as n sublanes: (n, width) with equal columns."""
    square = jnp.broadcast_to(row, (LANES, row.shape[1])).T
    return jnp.concatenate([square] * (width // LANES), axis=1) if width > LANES else square


@dataclass(frozen=True, slots=True)
class Scores:
    """One block of scores, (keys, rows): where it is, and what it reads beside q, k and v."""

    form: Form
    refs: dict[str, Ref]
    batch: Index
    head: Index  # the key head
    row: Index  # the row of tiles
    column: Index
    chunk: Index
    key: int  # its first key in the tile
    count: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.count, self.form.chunk

    def _key(self) -> Array:
        return lax.broadcasted_iota(jnp.int32, self.shape, 0) + (self.column * self.form.kv_tile + self.key)

    def _values(self, names: frozenset[str]) -> dict[str, Any]:
        """The variables of the expressions, each as wide as the block: Mosaic broadcasts no booleans."""
        form = self.form
        place = lax.broadcasted_iota(jnp.int32, self.shape, 1) + self.chunk * form.chunk
        found: dict[str, Any] = {}
        for name in sorted(names - {"score"}):
            if name == "kv_pos":
                found[name] = self._key() + form.kv_start
            elif name == "q_pos":
                found[name] = (place & (form.q_tile - 1)) + (self.row * form.q_tile + form.q_start)
            elif name == "head":
                found[name] = (place >> (form.q_tile.bit_length() - 1)) + self.head * form.group
            elif name == "batch":
                found[name] = jnp.broadcast_to(jnp.asarray(self.batch, jnp.int32), self.shape)
            elif name == "q_segment":
                found[name] = jnp.broadcast_to(self.refs["q_segments"][0, 0, self.chunk], self.shape)
            else:
                row = self.refs["kv_segments"][0, :, self.key : self.key + self.count]
                found[name] = _column(row, form.chunk)
        return found

    def _part(self, name: str) -> Array:
        """The block of a bias or mask: its reference is (1, heads or 1, queries or 1, keys)."""
        form, ref = self.form, self.refs[name]
        _, heads, queries, _ = ref.shape
        keys = slice(self.key, self.key + self.count)
        size = min(form.q_tile, form.chunk)
        parts: list[Array] = []
        for n in range(form.chunk // size):
            first = self.chunk * form.chunk + n * size
            # Shifts: tiles are powers of two, and Mosaic divides only for a chip that is there.
            head = first >> (form.q_tile.bit_length() - 1) if heads > 1 else 0
            if queries == 1:
                parts.append(_column(ref[0, head, :, keys], size))
            else:
                start = pl.multiple_of(first & (form.q_tile - 1), LANES)
                parts.append(ref[0, head, pl.ds(start, size), keys].T)
        return jnp.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]

    def write(self, ref: Ref, scores: Array) -> None:
        """Writes the block to its place in a reference (1, heads, queries, keys), see `_part`."""
        form = self.form
        keys = slice(self.key, self.key + self.count)
        size = min(form.q_tile, form.chunk)
        for n in range(form.chunk // size):
            first = self.chunk * form.chunk + n * size
            start = pl.multiple_of(first & (form.q_tile - 1), LANES)
            head = first >> (form.q_tile.bit_length() - 1)
            ref[0, head, pl.ds(start, size), keys] = scores[:, n * size : (n + 1) * size].T

    def scores(self, products: Array, masked: bool) -> Array:
        """In base 2: soft-cap, bias, score expression, and -inf where nothing is seen."""
        form = self.form
        score = products if form.is_wide else products * np.float32(form.factor)
        values = self._read(masked)
        if form.is_altered:
            bias = self._part("bias") if "bias" in form.op.given else None
            score = self._altered(score, bias, values=values) * np.float32(LOG2_E)
        return self._hidden(score, masked, values)

    def weights(
        self, products: Array, masked: bool, shift: Array
    ) -> tuple[Array, Callable[[Array], tuple[Array, Array | None]]]:
        """exp2(score - shift), and the function from the cotangent of the scores, in base e and before they are
        scaled, to those of the scaled products and of the bias, None without one.
        """
        form = self.form
        score = products if form.is_wide else products * np.float32(form.factor)
        values = self._read(masked)
        if not form.is_altered:
            return jnp.exp2(self._hidden(score, masked, values) - shift), lambda d_score: (d_score, None)
        bias = [self._part("bias")] if "bias" in form.op.given else []
        altered, pull = jax.vjp(functools.partial(self._altered, values=values), score, *bias)
        weight = jnp.exp2(self._hidden(altered * np.float32(LOG2_E), masked, values) - shift)

        def cotangents(d_score: Array) -> tuple[Array, Array | None]:
            pulled: tuple[Array, ...] = pull(d_score)
            if form.op.score != masks.identity:
                # An expression may have no finite derivative where nothing is seen.
                pulled = tuple(jnp.where(d_score == 0, 0.0, each) for each in pulled)
            return pulled[0], pulled[1] if bias else None

        return weight, cotangents

    def _read(self, masked: bool) -> dict[str, Any]:
        """The variables that the block's expressions read."""
        op = self.form.op
        names = op.variables if op.score != masks.identity else frozenset[str]()
        return self._values(names | masks.variables(op.visible) if masked else names)

    def _altered(self, score: Array, bias: Array | None = None, *, values: dict[str, Any]) -> Array:
        op = self.form.op
        if op.softcap is not None:
            score = jnp.tanh(score * np.float32(1 / op.softcap)) * np.float32(op.softcap)
        if bias is not None:
            score = score + bias
        if op.score != masks.identity:
            bent = masks.evaluate(op.score, jnp, lookup="select", score=score, **values)
            score = jnp.broadcast_to(jnp.asarray(bent, jnp.float32), self.shape)
        return score

    def _hidden(self, score: Array, masked: bool, values: dict[str, Any]) -> Array:
        form, op = self.form, self.form.op
        terms: list[Array] = []
        if masked and op.visible != masks.full:
            visible = masks.evaluate(op.visible, jnp, lookup="select", **values)
            terms.append(jnp.broadcast_to(visible, self.shape))
        if masked and form.seen_keys < form.keys:
            terms.append(self._key() < form.seen_keys)
        if "mask" in op.given:
            terms.append(self._part("mask") > 0)
        return jnp.where(functools.reduce(jnp.logical_and, terms), score, -jnp.inf) if terms else score


def rotated(form: Form, x: Array, tables: list[Array], back: bool = False) -> Array:
    """Float32 rows (n, width) turned by the angles; `back` is the transpose."""
    if form.rotates == "halves":  # one table as wide as a head: cosines, then sines
        (table,) = tables
        other = pltpu.roll(table, form.shift, 1)
        is_first = lax.broadcasted_iota(jnp.int32, table.shape, 1) < form.shift
        cos, sin = jnp.where(is_first, table, other), jnp.where(is_first, -other, table)
        return x * cos + (pltpu.roll(x * sin, form.shift, 1) if back else pltpu.roll(x, form.shift, 1) * sin)
    cos, first, second = tables
    before, after = form.width - form.shift, form.shift
    if back:
        return x * cos + pltpu.roll(x * first, after, 1) + pltpu.roll(x * second, before, 1)
    # The partner of a pair's first feature stands after it, that of its second before it.
    return x * cos + pltpu.roll(x, before, 1) * first + pltpu.roll(x, after, 1) * second


def angle_tables(given: dict[str, Ref]) -> list[Array]:
    """The tables that turn the queries of a tile."""
    return [given[name][0] for name in given if name.startswith("angles")]


def gather_queries(form: Form, given: dict[str, Ref], queries: Ref) -> None:
    """Writes the rows of a tile as they are multiplied, rotated and scaled where `is_wide`, (chunks, chunk, width)."""
    tables = angle_tables(given)
    for head in range(form.group):
        x = given["q"][0, :, head * form.width : (head + 1) * form.width]
        if form.is_wide:
            x = x.astype(jnp.float32)
            x = rotated(form, x, tables) if form.rotates else x
            x = (x * np.float32(form.factor)).astype(form.dtype)
        gather(form, x, head, queries)


def gather(form: Form, x: Array, head: int, rows: Ref) -> None:
    """Writes a head's part of a tile (q_tile, width) to its place in rows (chunks, chunk, width)."""
    size = min(form.q_tile, form.chunk)
    for start in range(0, form.q_tile, size):
        chunk, place = divmod(head * form.q_tile + start, form.chunk)
        rows[chunk, place : place + size] = x[start : start + size]


def _kernel(form: Form, is_ahead: bool, names: tuple[str, ...], *refs: Ref) -> None:
    given = dict(zip(names, refs[3 : 3 + len(names)], strict=True))
    out, lse, queries, made, highest, peaks, fades, shift, total, mixed = refs[3 + len(names) :]
    batch, head = pl.program_id(0), pl.program_id(1)
    at = form.place(batch, pl.program_id(2))
    row, column, todo = (each[at] for each in refs[:3])

    def forget() -> None:
        shift[...] = jnp.full(shift.shape, _LOWEST, jnp.float32)
        total[...] = jnp.zeros(total.shape, jnp.float32)
        mixed[...] = jnp.zeros(mixed.shape, jnp.float32)

    @pl.when((todo & BEGINS) != 0)
    def begin() -> None:
        gather_queries(form, given, queries)
        highest[...] = jnp.full(highest.shape, _LOWEST, jnp.float32)
        if not is_ahead:
            forget()

    def attend(masked: bool, start: int, several: Index) -> None:
        """Some chunks of rows over at most `_STRAIGHT` keys of the tile."""
        chunks = [several * form.together + n for n in range(form.together)]
        run, count = start // _STRAIGHT, min(_KEYS, form.kv_tile)
        places = range(start, min(start + _STRAIGHT, form.kv_tile), count)
        products: dict[tuple[int, int], Array] = {}
        gathered: dict[int, tuple[Array, Array, Array, Array | None]] = {}  # peak, fade, sum and mixed values

        def multiply(n: int, key: int) -> None:
            is_last = (n, key) == (form.together - 1, places[-1])
            size = count // 2 if is_last and form.products == "last in halves" and count > LANES else count
            found = [
                dot(given["k"][0, first : first + size, :], queries[chunks[n]], (1, 1))
                for first in range(key, key + count, size)
            ]
            products[n, key] = jnp.concatenate(found) if len(found) > 1 else found[0]

        def keep(n: int) -> None:
            chunk = chunks[n]
            before = highest[chunk]
            most: list[Array] = []
            for key in places:
                score = Scores(form, given, batch, head, row, column, chunk, key, count).scores(
                    products[n, key], masked
                )
                made[chunk, key : key + count, :] = score
                most.append(jnp.max(score.reshape(count // 8, 8, form.chunk), axis=0))
            peak = jnp.maximum(before, jnp.max(functools.reduce(jnp.maximum, most), axis=0, keepdims=True))
            highest[chunk], peaks[run, chunk], fades[run, chunk] = peak, peak, jnp.exp2(before - peak)

        def weigh(n: int, key: int) -> None:
            chunk = chunks[n]
            if n not in gathered:
                peak, fade = peaks[run, chunk], fades[run, chunk]
                gathered[n] = peak, fade, total[chunk] * fade, None
            peak, fade, sums, values = gathered[n]
            weight = jnp.exp2(made[chunk, key : key + count, :] - peak[:1])
            sums = sums + jnp.sum(weight.reshape(count // 8, 8, form.chunk), axis=0)
            part = dot(given["v"][0, key : key + count, :], weight.astype(form.dtype), (0, 0))
            values = part if values is None else values + part
            gathered[n] = peak, fade, sums, values
            if key == places[-1]:
                shift[chunk], total[chunk], mixed[chunk] = peak, sums, mixed[chunk] * fade[:1] + values

        turns = order(form.products, form.together, places)
        for multiplied, weighed in turns:
            for each in multiplied:
                multiply(*each)
            for each in weighed if is_ahead else ():  # before the new scores take the place of those that it reads
                weigh(*each)
        for n in range(form.together):
            keep(n)
        for each in () if is_ahead else itertools.chain(*(weighed for _, weighed in turns)):
            weigh(*each)

    def visit(masked: bool) -> None:
        for start in range(0, form.kv_tile, _STRAIGHT):
            if form.chunks == form.together:
                attend(masked, start, 0)
            else:
                several = form.chunks // form.together
                lax.fori_loop(0, several, each_index(functools.partial(attend, masked, start)), None)

    pl.when((todo & FULL) != 0)(functools.partial(visit, False))
    pl.when((todo & PARTIAL) != 0)(functools.partial(visit, True))
    if is_ahead:
        pl.when((todo & _VOID) != 0)(forget)

    @pl.when((todo & ENDS) != 0)
    def end() -> None:
        for chunk in range(form.chunks):
            peak, gathered = shift[chunk][:1], mixed[chunk]
            divisor = jnp.sum(total[chunk], axis=0, keepdims=True)
            if "sinks" in given:
                sinks = given["sinks"][0, chunk] * np.float32(LOG2_E)
                top = jnp.maximum(peak, sinks)
                fade = jnp.exp2(peak - top)
                peak, divisor, gathered = top, divisor * fade + jnp.exp2(sinks - top), gathered * fade
            seen = divisor > 0
            divisor = jnp.where(seen, divisor, 1.0)
            logarithm = jnp.where(seen, (peak + jnp.log2(divisor)) * np.float32(1 / LOG2_E), -jnp.inf)
            turned = (gathered * (1.0 / divisor)).T.astype(form.dtype)
            size = min(form.q_tile, form.chunk)
            for place in range(0, form.chunk, size):
                each, start = divmod(chunk * form.chunk + place, form.q_tile)
                features = slice(each * form.value_width, (each + 1) * form.value_width)
                out[0, start : start + size, features] = turned[place : place + size]
                lse[0, 0, each : each + 1, start : start + size] = logarithm[:, place : place + size]
        if is_ahead:
            forget()


def each_index(body: Callable[[Index], None]) -> Callable[[Index, None], None]:
    def run(index: Index, carry: None) -> None:
        body(index)

    return run


def forward(form: Form, tiles: TileMap, operands: dict[str, Array]) -> tuple[Array, Array]:
    """(out, lse): (B, queries, H * value_width) in the kernel's dtype and (B, kv heads, group, queries) float32.

    Operands, padded: q (B, queries, H * width), k and v (B, keys, kv heads * width); the `angles` tables (B or 1,
    queries, width) float32; q_segments (B or 1, rows of tiles, chunks, 1, chunk) and kv_segments (B or 1, 1, keys)
    int32; bias and mask (B or 1, H or 1, queries or 1, keys) float32; sinks (kv heads, chunks, 1, chunk) float32.
    """
    names = tuple(operands)
    is_ahead = tiles.steps >= _AHEAD
    tiles = tiles.ahead() if is_ahead else tiles
    form = replace(form, stride=tiles.stride)
    specs = [spec(form, name, operands[name].shape, is_late=is_ahead and name == "v") for name in names]
    heads = form.kv_heads * form.group
    chunked = (form.chunks, 8, form.chunk)
    grid = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=3,
        grid=(form.batch, form.kv_heads, tiles.steps),
        in_specs=specs,
        out_specs=[
            block(
                form, (1, form.q_tile, form.group * form.value_width), lambda b, h, row, column: (b, row, h), is_ahead
            ),
            block(form, (1, 1, form.group, form.q_tile), lambda b, h, row, column: (b, h, 0, row), is_ahead),
        ],
        scratch_shapes=[
            pltpu.VMEM((form.chunks, form.chunk, form.width), form.dtype),
            pltpu.VMEM((form.chunks, form.kv_tile, form.chunk), jnp.float32),
            pltpu.VMEM(chunked, jnp.float32),
            pltpu.VMEM((form.runs, *chunked), jnp.float32),
            pltpu.VMEM((form.runs, *chunked), jnp.float32),
            pltpu.VMEM(chunked, jnp.float32),
            pltpu.VMEM(chunked, jnp.float32),
            pltpu.VMEM((form.chunks, form.value_width, form.chunk), jnp.float32),
        ],
    )
    call = pl.pallas_call(
        functools.partial(_kernel, form, is_ahead, names),
        grid_spec=grid,
        out_shape=[
            jax.ShapeDtypeStruct((form.batch, form.queries, heads * form.value_width), form.dtype),
            jax.ShapeDtypeStruct((form.batch, form.kv_heads, form.group, form.queries), jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "arbitrary")),
        name="ropegen_attend",
    )
    out, lse = call(*tiles.prefetched, *operands.values())
    return out, lse


def block(
    form: Form,
    shape: tuple[int, ...],
    index: Callable[[Index, Index, Index, Index], tuple[Index, ...]],
    is_late: bool = False,
) -> Any:
    """The block that a step reads or writes: `index` of its batch entry, key head, row and column of tiles, where
    `is_late` those of the step before.
    """

    def place(batch: Index, head: Index, step: Index, rows: Ref, columns: Ref, does: Ref) -> tuple[Index, ...]:
        at = form.place(batch, jnp.maximum(step - 1, 0) if is_late else step)
        return index(batch, head, rows[at], columns[at])

    return pl.BlockSpec(shape, place)


def spec(form: Form, name: str, shape: tuple[int, ...], is_late: bool = False) -> Any:
    """The block of an operand; an axis of one entry is shared."""
    batch = int(shape[0] > 1)
    rows, keys = form.q_tile, form.kv_tile
    if name in ("q", "d_out"):
        width = form.width if name == "q" else form.value_width
        return block(form, (1, rows, form.group * width), lambda b, h, row, column: (b, row, h))
    if name in ("shift", "drag"):
        return block(form, (1, 1, 1, form.chunks, 1, form.chunk), lambda b, h, row, column: (b, h, row, 0, 0, 0))
    if name in ("k", "v"):
        width = form.width if name == "k" else form.value_width
        return block(form, (1, keys, width), lambda b, h, row, column: (b, column, h), is_late)
    if name.startswith("angles"):
        return block(form, (1, rows, form.width), lambda b, h, row, column: (b * batch, row, 0))
    if name == "q_segments":
        return block(form, (1, 1, form.chunks, 1, form.chunk), lambda b, h, row, column: (b * batch, row, 0, 0, 0))
    if name == "kv_segments":
        return block(form, (1, 1, keys), lambda b, h, row, column: (b * batch, 0, column))
    if name == "sinks":
        return block(form, (1, form.chunks, 1, form.chunk), lambda b, h, row, column: (h, 0, 0, 0))
    head, query = int(shape[1] > 1), int(shape[2] > 1)
    return block(
        form,
        (1, form.group if head else 1, rows if query else 1, keys),
        lambda b, h, row, column: (b * batch, h * head, row * query, column),
    )
