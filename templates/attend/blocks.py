"""Attention cut into blocks of scores: what a block reads, and what becomes of its products.

The passes of `ropegen.templates.attend.tiled` multiply; everything else about a block is here. A `Site` is an attention
with one batch axis. A sweep (`ropegen.templates.attend.sweep`) visits its blocks. `Scores` applies scale, soft-cap,
bias, expressions and masks to one block.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ropegen import dropout, masks
from ropegen.expression import Expr
from ropegen.ir.ops import Attend
from ropegen.plain import precision

from .exponential import exponential

Index: TypeAlias = Any  # an int, or a traced int32
Carry: TypeAlias = Any  # a pytree of arrays
Operands: TypeAlias = tuple[Array, Array, Array, dict[str, Array]]  # q, k, v, and the optional operands by name


@dataclass(frozen=True, slots=True)
class Tile:
    """The largest block of scores at a time: `q` query positions (of every head in a group) by `kv` keys."""

    q: int
    kv: int


@dataclass(frozen=True, slots=True)
class Among:
    """The place of one key head in an attention whose key heads are computed side by side."""

    batch: Index
    head: Index
    """Its batch entry and its key head."""
    batches: int
    heads: int
    """The number of batch entries and of query heads in the whole attention."""
    block: Block | None = None
    """The block of the whole attention that the arrays hold; None if they hold all queries and keys."""


@dataclass(frozen=True, slots=True)
class Static:
    """What is known while tracing."""

    q_positions: tuple[int, int] | None = None
    """(start, length) if the positions are start, start + 1, ...; otherwise None."""
    kv_positions: tuple[int, int] | None = None
    widened: bool = False
    """Whether half precision is multiplied in float32."""
    polynomial: bool = False
    """Whether `exponential`, which takes float32, computes the weights."""
    among: Among | None = None
    """If the site is one of several key heads that are computed side by side, its place among them."""

    def known(self, axis: str) -> tuple[int, int] | None:
        """The positions along an axis of the scores, "queries" or "keys"."""
        return self.q_positions if axis == "queries" else self.kv_positions

    @property
    def block(self) -> Block | None:
        """The block of a larger attention that the arrays hold; None if they hold a whole one."""
        return None if self.among is None else self.among.block


# The site: shapes, and operands with one batch axis -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Given:
    """An optional operand as (rows, *axes), and the row that every batch entry reads. An operand is never broadcast."""

    array: Array
    row: tuple[int, ...]
    axes: tuple[str, ...]

    def at(self, batch: Index) -> Index:
        return jnp.asarray(self.row, jnp.int32)[batch] if len(set(self.row)) > 1 else self.row[0]


@dataclass(frozen=True, slots=True)
class Site:
    op: Attend
    tile: Tile
    static: Static
    lead: tuple[int, ...]
    queries: int
    keys: int
    heads: int
    kv_heads: int
    width: int
    value_width: int
    dtype: np.dtype[Any]
    given: dict[str, Given]

    @property
    def batch(self) -> int:
        return math.prod(self.lead)

    @property
    def group(self) -> int:
        return self.heads // self.kv_heads

    @property
    def wide(self) -> np.dtype[Any]:
        """The dtype of scores, softmax and accumulators."""
        return np.dtype(np.float64 if self.dtype == np.float64 else np.float32)

    @property
    def is_part(self) -> bool:
        """Whether the results are added to those of other keys, and must not be rounded before."""
        return self.op.partial is not None or self.static.block is not None

    @property
    def output(self) -> np.dtype[Any]:
        """The dtype of the output, and of the cotangents of q, k and v."""
        return self.wide if self.is_part else self.dtype

    @property
    def multiplied(self) -> np.dtype[Any]:
        """The dtype that matmuls read."""
        return self.wide if self.static.widened else self.dtype

    def exp(self, x: Array) -> Array:
        """The weights of x, the scores minus the shift of their row, in `wide`."""
        return exponential(x) if self.static.polynomial else jnp.exp(x)

    @property
    def hides(self) -> bool:
        """Whether a mask hides scores, so that values that are not finite must not reach the rows that do not see them."""
        return self.op.visible != masks.full or "mask" in self.given

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to multiply, because there is no query or no key."""
        return 0 in (self.batch, self.queries, self.heads, self.keys)

    @property
    def numbered(self) -> tuple[Expr, ...]:
        """Every `numbers[index]` of the score expression, in the order of their texts."""
        return tuple(sorted(masks.leaves(self.op.score), key=str))

    @property
    def wide_variables(self) -> tuple[str, ...]:
        """The variables of the mask and score expressions that are int64."""
        given = {operand.variable: self.given[operand.name] for operand in self.op.beside if operand.name in self.given}
        return tuple(name for name, value in given.items() if name and value.array.dtype == np.int64)

    def flat(self, x: Array) -> Array:
        """The array with its leading dimensions as one."""
        return x.reshape(self.batch, *x.shape[len(self.lead) :])


def site_of(op: Attend, tile: Tile, q: Array, k: Array, v: Array, given: dict[str, Array], static: Static) -> Site:
    lead = q.shape[:-3]
    flat: dict[str, Given] = {}
    for operand in op.beside:
        if operand.name not in given:
            continue  # positions that are known while tracing
        x = given[operand.name]
        shape = operand.padded(x.shape, len(lead))
        rows = np.arange(math.prod(shape[: len(lead)])).reshape(shape[: len(lead)])
        array = x.reshape(rows.size, *shape[len(lead) :])
        flat[operand.name] = Given(array, tuple(np.broadcast_to(rows, lead).reshape(-1).tolist()), operand.axes)
    return Site(
        op=op,
        tile=tile,
        static=static,
        lead=lead,
        queries=q.shape[-3],
        keys=k.shape[-3],
        heads=q.shape[-2],
        kv_heads=k.shape[-2],
        width=q.shape[-1],
        value_width=v.shape[-1],
        dtype=np.dtype(q.dtype),
        given=flat,
    )


def dot(x: Array, y: Array, wide: np.dtype[Any], contract: tuple[int, int] = (1, 0)) -> Array:
    """A 2-D matmul that accumulates in `wide`."""
    dimensions = (((contract[0],), (contract[1],)), ((), ()))
    return lax.dot_general(x, y, dimensions, precision=precision(x.dtype), preferred_element_type=wide)


# A hidden score has the weight 0, and 0 times NaN is NaN. So where a mask hides something, values are multiplied without
# their NaN and infinities. What may see them becomes NaN by the scores instead: a NaN that is hidden is replaced by -inf.


def finite(x: Array) -> Array:
    """The array with 0 in place of NaN and infinities."""
    return jnp.where(jnp.isfinite(x), x, 0)


def poisoned(x: Array, *by: Array | None) -> Array:
    """The rows (n, ...) of x, with NaN for those where another array (n, E) is not finite."""
    for other in by:
        if other is not None:
            bad = jnp.logical_not(jnp.all(jnp.isfinite(other), -1)).reshape(-1, *(1,) * (x.ndim - 1))
            x = jnp.where(bad, jnp.nan, x)
    return x


def cut(x: Array, starts: tuple[Index, ...], sizes: tuple[int, ...]) -> Array:
    """The part of x that begins at `starts`.

    Half precision is cut as integers, because XLA on CPU would convert all of x to float32 first.
    """
    if sizes == x.shape:
        return x
    part = lax.dynamic_slice(bits(x), _int32(starts), sizes, allow_negative_indices=False)
    return lax.bitcast_convert_type(part, x.dtype)


def paste(x: Array, part: Array, starts: tuple[Index, ...]) -> Array:
    """The array x with `part` written at `starts`."""
    return lax.dynamic_update_slice(x, part, _int32(starts), allow_negative_indices=False)


def _int32(starts: tuple[Index, ...]) -> tuple[Index, ...]:
    """The starts as int32: they must have one type, even if 64-bit types are enabled."""
    return tuple(np.int32(start) if isinstance(start, int) else start.astype(np.int32) for start in starts)


def bits(x: Array) -> Array:
    """An array in half precision as the integers that hold it; any other array unchanged."""
    half = jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize == 2
    return lax.bitcast_convert_type(x, jnp.uint16) if half else x


def head_of(site: Site, x: Array, batch: Index, head: Index, start: Index = 0, size: int | None = None) -> Array:
    """The rows of one key head: `size` positions from `start`, or all of them.

    From (B, S, heads, E) it makes (size * heads of the group, E), query-major.
    """
    count, size = x.shape[2] // site.kv_heads, x.shape[1] if size is None else size
    # Without the barrier, XLA would move the conversion of all of x (`bits`) out of the loops.
    x, _ = lax.optimization_barrier((x, (head, start)))
    part = cut(x, (batch, start, head * count, 0), (1, size, count, x.shape[3]))
    return part.reshape(size * count, x.shape[3])


def rows_of(x: Array, start: Index, size: int, axis: int = 0) -> Array:
    """`size` rows (of the first axis) from `start`."""
    starts = tuple(start if place == axis else 0 for place in range(x.ndim))
    return cut(x, starts, tuple(size if place == axis else length for place, length in enumerate(x.shape)))


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of scores; `masked` says whether some of them may be hidden.

    All blocks of a loop have one size, so the last block of a row may overlap the one before it. `q_fresh` and
    `kv_fresh` are then the first row and column that no other block has.
    """

    q: Index
    q_size: int
    kv: Index
    kv_size: int
    masked: bool
    q_fresh: Index | None = None
    kv_fresh: Index | None = None

    @property
    def alone(self) -> Block:
        """The same block, in arrays that hold nothing else."""
        q_fresh = None if self.q_fresh is None else self.q_fresh - self.q
        kv_fresh = None if self.kv_fresh is None else self.kv_fresh - self.kv
        return Block(0, self.q_size, 0, self.kv_size, self.masked, q_fresh, kv_fresh)


# The scores of a block ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one block, made of its products q . k: (rows, keys), or (keys, rows) if `keys_first`."""

    site: Site
    block: Block
    batch: Index
    head: Index  # the key head
    keys_first: bool = False

    def row(self, x: Array) -> Array:
        """A vector over the rows, for broadcasting against the scores."""
        return x[None, :] if self.keys_first else x[:, None]

    def column(self, x: Array) -> Array:
        return x[:, None] if self.keys_first else x[None, :]

    def _values(self) -> dict[str, Any]:
        """The variables of the expressions. Rows are query-major, so the value of a query repeats for its group."""
        site, block, op = self.site, self.block, self.site.op
        among = site.static.among
        values: dict[str, Any] = {"batch": jnp.asarray(self.batch if among is None else among.batch, jnp.int32)}
        # Without the barrier, XLA would move what is equal for all heads out of their loop, and keep a whole mask in
        # memory.
        q_start, kv_start, _ = lax.optimization_barrier((block.q, block.kv, self.head))
        if "head" in op.variables:
            first = self.head if among is None else among.head
            heads = first * site.group + jnp.arange(site.group, dtype=jnp.int32)
            values["head"] = self.row(jnp.tile(heads, block.q_size))
        read = [operand for operand in op.beside if operand.name in op.needed]
        for operand in sorted(read, key=lambda operand: operand.variable):
            (axis,) = operand.axes
            start, size = (q_start, block.q_size) if axis == "queries" else (kv_start, block.kv_size)
            known = site.static.known(axis) if operand.holds == "position" else None
            if known:
                part = start + known[0] + jnp.arange(size, dtype=jnp.int32)
            else:
                given = site.given[operand.name]
                part = cut(given.array, (given.at(self.batch), start), (1, size))[0]
            values[operand.variable] = self.column(part) if axis == "keys" else self.row(jnp.repeat(part, site.group))
        return values

    def _window(self, given: Given) -> tuple[tuple[Index, ...], tuple[int, ...]]:
        """The starts and sizes of the block's part of a bias or mask (rows, H, Sq, Skv)."""
        spans = [
            self._span(axis) if length > 1 else (0, 1)
            for axis, length in zip(given.axes, given.array.shape[1:], strict=True)
        ]
        return (given.at(self.batch), *(start for start, _ in spans)), (1, *(size for _, size in spans))

    def _span(self, axis: str) -> tuple[Index, int]:
        """The start and the size of the block along an axis of the scores."""
        match axis:
            case "heads":
                return self.head * self.site.group, self.site.group
            case "queries":
                return self.block.q, self.block.q_size
            case _:
                return self.block.kv, self.block.kv_size

    def part(self, given: Given) -> Array:
        """The block's part of a bias or mask, shaped like the scores."""
        site, block = self.site, self.block
        part = jnp.swapaxes(cut(given.array, *self._window(given))[0], 0, 1)  # (queries, heads, keys)
        if part.shape[:2] == (1, 1):
            return part[0, 0][:, None] if self.keys_first else part[0]
        part = jnp.broadcast_to(part, (block.q_size, site.group, part.shape[2]))
        part = part.reshape(block.q_size * site.group, part.shape[2])
        return part.T if self.keys_first else part

    def add_part(self, total: Array, given: Given, scores: Array) -> Array:
        """The transpose of `part`: `total`, shaped like the operand, plus the block's scores."""
        site, block = self.site, self.block
        starts, sizes = self._window(given)
        part = (scores.T if self.keys_first else scores).reshape(block.q_size, site.group, block.kv_size)
        part = jnp.swapaxes(part, 0, 1)[None]
        summed = tuple(axis for axis in (1, 2, 3) if sizes[axis] == 1 and part.shape[axis] > 1)
        part = jnp.sum(part, summed, keepdims=True)
        return paste(total, cut(total, starts, sizes) + part, starts)

    def numbers(self) -> Array | None:
        """The operand that the score expression reads entries of, in the type of the scores."""
        given = self.site.given.get("numbers")
        return None if given is None else given.array[0].astype(self.site.wide)

    def entries(self, numbers: Array | None, shape: tuple[int, ...]) -> tuple[Array, ...]:
        """The value of every `numbers[index]` of the score expression, one for each score."""
        if numbers is None:
            return ()
        values, wide = self._values(), self.site.wide_variables
        looked_up = [masks.evaluate(leaf, jnp, wide=wide, numbers=numbers, **values) for leaf in self.site.numbered]
        return tuple(jnp.broadcast_to(value, shape) for value in looked_up)

    def modify(self, scaled: Array, bias: Array | None = None, entries: tuple[Array, ...] = ()) -> Array:
        """The scaled products after soft-cap, bias and score expression; see `entries`."""
        op, score = self.site.op, scaled
        if op.softcap is not None:
            score = op.softcap * jnp.tanh(score / op.softcap)
        if bias is not None:
            score = score + bias
        if op.score == masks.identity:
            return score
        known = dict(zip(self.site.numbered, entries, strict=True))
        return expressed(self.site, score, self._values(), bias is not None, known)

    def bias(self) -> Array | None:
        given = self.site.given.get("bias")
        return None if given is None else self.part(given).astype(self.site.wide)

    def visible(self) -> Array | None:
        """Which scores of the block are seen, or None if all are."""
        site, block = self.site, self.block
        terms: list[Array] = []
        if block.masked and site.op.visible != masks.full:
            terms.append(masks.evaluate(site.op.visible, jnp, wide=site.wide_variables, **self._values()))
        if block.masked and "mask" in site.given:
            terms.append(self.part(site.given["mask"]))
        if block.kv_fresh is not None:
            terms.append(self.column(block.kv + jnp.arange(block.kv_size) >= block.kv_fresh))
        if block.q_fresh is not None:
            terms.append(self.row(jnp.repeat(block.q + jnp.arange(block.q_size) >= block.q_fresh, site.group)))
        shown: Array | None = None
        for term in terms:
            shown = term if shown is None else shown & term
        return shown

    def hidden(self, score: Array) -> Array:
        """The scores, with -inf for those that are not seen."""
        visible = self.visible()
        return score if visible is None else jnp.where(visible, score, -jnp.inf)

    def of(self, products: Array) -> Array:
        """The scores that the softmax sees."""
        entries = self.entries(self.numbers(), products.shape)
        return self.hidden(self.modify(products * self.site.op.scale, self.bias(), entries))

    def dropped(self, weights: Array) -> Array:
        """What dropout makes of the weights of the block, or of their cotangents: 0, or more of those that it keeps."""
        site, block, rate = self.site, self.block, self.site.op.dropout
        if rate is None:
            return weights
        among, whole = site.static.among, site.static.block or block
        # See `_values` for the barrier.
        q_start, kv_start, head = lax.optimization_barrier((whole.q, whole.kv, self.head))
        queries = q_start + jnp.arange(block.q_size, dtype=jnp.int32)
        heads = (head if among is None else among.head) * site.group + jnp.arange(site.group, dtype=jnp.int32)
        words = dropout.row_words(
            jnp,
            site.given["seed"].array[0],
            self.batch if among is None else among.batch,
            jnp.tile(heads, block.q_size),
            jnp.repeat(queries, site.group),
        )
        keys = self.column(kv_start + jnp.arange(block.kv_size, dtype=jnp.int32))
        kept = dropout.kept(jnp, (self.row(words[0]), self.row(words[1])), keys, rate)
        return jnp.where(kept, weights * (1 / (1 - rate)), 0.0)

    @property
    def are_products(self) -> bool:
        """Whether the scores are the products times a positive scale, so that both have their maximum in the same
        place.
        """
        site, block, op = self.site, self.block, self.site.op
        altered = op.softcap is not None or op.score != masks.identity or "bias" in site.given
        hiding = block.kv_fresh is not None or (block.masked and (op.visible != masks.full or "mask" in site.given))
        return not (altered or hiding) and op.scale > 0

    def weights_tangent(
        self, scaled: Array, d_scaled: Array, bias_tangent: Given | None, shift: Array, d_numbers: Array | None = None
    ) -> tuple[Array, Array]:
        """The weights exp(score - shift), and the tangent of the scores, which is 0 if the weight is 0."""
        bias, numbers = self.bias(), self.numbers()
        d_bias = None
        if bias is not None:
            d_bias = jnp.zeros_like(bias) if bias_tangent is None else self.part(bias_tangent).astype(scaled.dtype)
        if numbers is not None:
            d_numbers = jnp.zeros_like(numbers) if d_numbers is None else d_numbers.astype(numbers.dtype)

        def modified(scaled: Array, bias: Array | None, numbers: Array | None) -> Array:
            return self.modify(scaled, bias, self.entries(numbers, scaled.shape))

        score, d_score = jax.jvp(modified, (scaled, bias, numbers), (d_scaled, d_bias, d_numbers))
        weight = self.site.exp(self.hidden(score) - self.row(shift))
        if self.site.op.score == masks.identity and not (self.site.hides and self.block.masked):
            return weight, d_score
        return weight, jnp.where(weight == 0, 0.0, d_score)

    def weights_cotangents(
        self, scaled: Array, shift: Array
    ) -> tuple[Array, Callable[[Array], tuple[Array, Array | None, Array | None]]]:
        """The weights exp(score - shift), and the function from the cotangent of the scores to those of `scaled`, the
        bias and the numbers.
        """
        bias, numbers = self.bias(), self.numbers()
        if bias is not None:
            bias = jnp.broadcast_to(bias, scaled.shape)

        def looked_up(numbers: Array | None) -> tuple[Array, ...]:
            return self.entries(numbers, scaled.shape)

        entries, pull_entries = jax.vjp(looked_up, numbers)
        score, pull = jax.vjp(self.modify, scaled, bias, entries)
        # The mask comes after the exponential, because the shift is NaN in a row that sees NaN.
        visible, weight = self.visible(), self.site.exp(score - self.row(shift))
        weight = weight if visible is None else jnp.where(visible, weight, 0.0)

        def cotangents(d_score: Array) -> tuple[Array, Array | None, Array | None]:
            pulled = pull(d_score)
            op = self.site.op
            if op.score != masks.identity or (op.softcap is not None and self.site.hides):
                # The expression may have no finite derivative at a hidden score.
                pulled = jax.tree.map(functools.partial(jnp.where, d_score == 0, 0.0), pulled)
            d_scaled, d_bias, d_entries = pulled
            return d_scaled, d_bias, pull_entries(d_entries)[0]

        return weight, cotangents


def expressed(
    site: Site, score: Array, values: dict[str, Any], may_be_infinite: bool, entries: Mapping[Expr, Array]
) -> Array:
    """The value of the score expression. If the bias made a score -inf, its derivative is 0; it could be NaN otherwise."""

    def evaluate(score: Array) -> Array:
        wide = site.wide_variables
        result = masks.evaluate(site.op.score, jnp, score=score, wide=wide, known=entries, **values)
        return jnp.broadcast_to(jnp.asarray(result, score.dtype), score.shape)

    if not may_be_infinite:
        return evaluate(score)
    hidden = score == -jnp.inf
    return jnp.where(hidden, evaluate(lax.stop_gradient(score)), evaluate(jnp.where(hidden, 0.0, score)))


def d_sinks(sinks: Array, shift: Array, drag: Array) -> Array:
    """The cotangent of the sinks, (H,).

    `shift` (..., Sq, H) comes from `shift_of`. `drag` (..., Sq, H) says how much the result falls per relative increase
    of the softmax denominator.
    """
    return -jnp.sum(jnp.exp(sinks - shift) * drag, tuple(range(shift.ndim - 1)))


def shift_of(lse: Array) -> Array:
    """The shift for which exp(score - shift) is the weight: the log-sum-exp, or +inf for a row that sees no key."""
    return jnp.where(lse == -jnp.inf, jnp.inf, lse)


def for_heads(site: Site, carry: Carry, body: Callable[[Index, Index, Carry], Carry]) -> Carry:
    """The carry after `body(batch, key_head, carry)` has run for one key head after the other."""
    count = site.batch * site.kv_heads
    if count == 1:
        return body(0, 0, carry)

    def one(n: Index, carry: Carry) -> Carry:
        return body(n // site.kv_heads, n % site.kv_heads, carry)

    return lax.fori_loop(jnp.int32(0), jnp.int32(count), one, carry)


def placed(site: Site, whole: Array, rows: Array, batch: Index, head: Index, start: Index) -> Array:
    """The array `whole` (B, S, heads, E) or (B, S, heads), with the rows of one key head written from `start`.

    The rows are (size * group, E) or (size * group,). `whole` may hold them as integers, see `bits`.
    """
    count = whole.shape[2] // site.kv_heads
    part = bits(rows.astype(site.dtype if whole.dtype == np.uint16 else whole.dtype))
    part = part.reshape(1, rows.shape[0] // count, count, *whole.shape[3:])
    return paste(whole, part, (batch, start, head * count, 0)[: whole.ndim])
