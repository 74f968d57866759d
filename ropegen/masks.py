"""Masks and scores: which keys a query sees, and how its scores change.

A mask or score is an expression (`ropegen.expression`) of positions, segments, head and batch. This module names the
common ones, evaluates them with NumPy or `jax.numpy` (`evaluate`), and decides by interval arithmetic whether a whole
tile of positions is empty, full or partial (`classify`, `classify_tiles`).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from ropegen.errors import RopegenError, nearest
from ropegen.expression import (
    FLOAT_MAX,
    FLOAT_TINY,
    FUNCTIONS,
    INT_MAX,
    INT_MIN,
    PYTHON,
    Array,
    MaskLike,
    Range,
    constant_of,
    excerpt,
    is_traced,
    kind_of,
    looked_up,
    table_of,
)
from ropegen.expression import MAX_DEPTH as MAX_DEPTH
from ropegen.expression import MAX_NODES as MAX_NODES
from ropegen.expression import MAX_TEXT as MAX_TEXT
from ropegen.expression import NAMES as NAMES
from ropegen.expression import Apply as Apply
from ropegen.expression import Captured as Captured
from ropegen.expression import Const as Const
from ropegen.expression import Expr as Expr
from ropegen.expression import Held as Held
from ropegen.expression import Hidden as Hidden
from ropegen.expression import Later as Later
from ropegen.expression import Number as Number
from ropegen.expression import Shown as Shown
from ropegen.expression import Table as Table
from ropegen.expression import Traced as Traced
from ropegen.expression import Var as Var
from ropegen.expression import absolute as absolute
from ropegen.expression import apply as apply
from ropegen.expression import as_mask as as_mask
from ropegen.expression import as_score as as_score
from ropegen.expression import exp as exp
from ropegen.expression import expect_plain as expect_plain
from ropegen.expression import leaves as leaves
from ropegen.expression import log as log
from ropegen.expression import mask as mask
from ropegen.expression import maximum as maximum
from ropegen.expression import minimum as minimum
from ropegen.expression import replaced as replaced
from ropegen.expression import score as score
from ropegen.expression import shifted as shifted
from ropegen.expression import sqrt as sqrt
from ropegen.expression import table as table
from ropegen.expression import tanh as tanh
from ropegen.expression import variables as variables
from ropegen.expression import where as where
from ropegen.expression_parser import parse as parse

if TYPE_CHECKING:
    from ropegen.mask_pictures import Picture

__all__ = [
    "EMPTY",
    "FULL",
    "PARTIAL",
    "Expr",
    "absolute",
    "alibi",
    "alibi_slopes",
    "causal",
    "chunked",
    "classify",
    "classify_tiles",
    "evaluate",
    "exp",
    "full",
    "identity",
    "keys",
    "log",
    "mask",
    "maximum",
    "minimum",
    "nothing",
    "padding",
    "parse",
    "prefix",
    "score",
    "segments",
    "show",
    "sqrt",
    "table",
    "tanh",
    "where",
    "window",
]

# Named masks and scores ---------------------------------------------------------------------------------------------------

identity = Var("score")
"""The score as it is, `scale * q k`; the default of `score=`."""
full = Const(True)
"""Every key; the default of `mask=`."""
nothing = Const(False)
"""No key."""
causal = apply("<=", Var("kv_pos"), Var("q_pos"))
"""Keys at the query's own position and before it: `kv_pos <= q_pos`."""
segments = apply("==", Var("q_segment"), Var("kv_segment"))
"""Keys of the query's own segment, such as a document of a packed batch: `q_segment == kv_segment`."""


def window(left: int | None, right: int | None = None) -> Expr:
    """Keys less than `left` positions before the query and less than `right` after it; None sets no limit on that side.

    `window(n)` is `q_pos - kv_pos < n`: the query's own position, the n - 1 positions before it and every later
    position; combine it with `causal` to drop the later ones. `window(None, m)` is `kv_pos - q_pos < m`; `window(n, m)`
    is both.
    """
    query, key = Var("q_pos"), Var("kv_pos")
    if left is None and right is None:
        raise RopegenError("window(None, None) limits neither side; give one, or use masks.full")
    before = full if left is None else apply("<", apply("-", query, key), _count("window", left))
    after = full if right is None else apply("<", apply("-", key, query), _count("window", right))
    return before & after


def chunked(size: int) -> Expr:
    """Keys in the query's own chunk of `size` positions: `q_pos // size == kv_pos // size`."""
    size = _count("chunked", size)
    return apply("==", apply("//", Var("q_pos"), size), apply("//", Var("kv_pos"), size))


def prefix(length: int) -> Expr:
    """Keys at the first `length` positions: `kv_pos < length`. A prefix language model uses `prefix(n) | causal`."""
    return apply("<", Var("kv_pos"), _count("prefix", length))


def _count(what: str, given: object, of: str = "positions") -> int:
    scalar = isinstance(given, int | float) or getattr(given, "shape", None) == ()
    value = constant_of(given) if scalar else None
    if value is None or kind_of(value) != "int" or value < 1:
        raise RopegenError(f"{what} takes a number of {of}, an integer of at least 1; got {excerpt(repr(given))}")
    return int(value)


def padding(lengths: npt.ArrayLike | jax.Array) -> Expr:
    """The first `lengths[batch]` positions of every sequence: `kv_pos < lengths[batch]`.

    lengths: integers (B,), one for every sequence in row-major order of the leading axes, or () for all of them. They
      become an operand, so other lengths need no other program.

    Raises:
      RopegenError: the lengths are not integers of shape (B,) or (); attention refuses those of other than B sequences.
    """
    array = lengths if isinstance(lengths, jax.Array) else np.asarray(lengths)
    if array.ndim > 1 or not array.size or not jnp.issubdtype(array.dtype, np.integer):
        raise RopegenError(
            f"padding takes the lengths of the sequences, integers (B,), got {Held(array)}; a boolean array of keys (B, S) "
            "is masks.keys(valid)"
        )
    return apply("<", Var("kv_pos"), Captured(Held(array), Var("batch") if array.ndim else Const(0)))


def keys(valid: npt.ArrayLike | jax.Array) -> Expr:
    """The keys that are valid: booleans (Skv,) or (..., Skv), with the leading axes of k, for every head and query.

    They become an operand, so another array needs no other program.

    Raises:
      RopegenError: the array is not boolean, or has no axis.
    """
    array = valid if isinstance(valid, jax.Array) else np.asarray(valid)
    if array.dtype != np.bool_ or not array.ndim:
        raise RopegenError(
            f"keys takes booleans (B, Skv) that are true for keys to see, got {Held(array)}; compare numbers, as in "
            "masks.keys(ids != 0), and give lengths as masks.padding(lengths)"
        )
    return Shown(Held(array if array.ndim == 1 else array[..., None, None, :]))


def alibi(slopes: Iterable[float] | jax.Array) -> Expr:
    """`score - slopes[head] * abs(q_pos - kv_pos)`, one slope per head: attention with linear biases.

    Slopes that JAX traces are an operand and have a gradient; others are constants of the program.
    """
    per_head: Expr | None = None
    given = slopes if isinstance(slopes, jax.Array) else tuple(slopes) if hasattr(slopes, "__iter__") else ()
    if is_traced(given) or (isinstance(given, tuple) and any(map(is_traced, given))):
        numbers = jnp.asarray(given)
        if numbers.ndim == 1 and jnp.issubdtype(numbers.dtype, np.floating):
            per_head = looked_up(numbers, Var("head"))
    else:
        try:
            constants = tuple(map(float, given))
        except (TypeError, ValueError):
            constants = ()
        per_head = table_of(constants, Var("head")) if constants else None
    if per_head is None:
        raise RopegenError(
            f"alibi takes a list of numbers, one slope per head, such as alibi_slopes(8); got {excerpt(repr(slopes))}"
        )
    distance = apply("abs", apply("-", Var("q_pos"), Var("kv_pos")))
    return apply("-", identity, apply("*", per_head, distance))


def alibi_slopes(heads: int) -> tuple[float, ...]:
    """The slopes of Press, Smith and Lewis (2022): 2^(-8 i / heads), i = 1...heads, if `heads` is a power of two.

    Otherwise the slopes of the next lower power of two come first, then every other slope of the next higher one.
    """
    heads = _count("alibi_slopes", heads, "heads")
    below = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8 * i / below) for i in range(1, below + 1)]
    return (*slopes, *(2.0 ** (-4 * i / below) for i in range(1, 2 * (heads - below), 2)))


def values_per_head(expr: Expr) -> frozenset[int]:
    """The lengths of the tables that `head` alone indexes."""
    match expr:
        case Table(values=values, index=Var(name="head")):
            return frozenset((len(values),))
        case Captured(held=held, index=Var(name="head")) if held.value.ndim:
            return frozenset((held.value.size,))
        case Table(index=index) | Number(index=index) | Captured(index=index):
            return values_per_head(index)
        case Apply(args=args):
            return frozenset().union(*map(values_per_head, args))
        case _:
            return frozenset()


def cut(mask: Expr) -> tuple[Expr, tuple[Expr, ...]]:
    """The terms of a mask that hold no value of the caller, as one expression, and those that do."""
    terms = mask.args if isinstance(mask, Apply) and mask.op == "&" else (mask,)
    plain, holding = [term for term in terms if not leaves(term)], [term for term in terms if leaves(term)]
    return (apply("&", *plain) if len(plain) > 1 else plain[0] if plain else full), tuple(holding)


def show(
    mask: MaskLike,
    queries: int = 32,
    keys: int | None = None,
    *,
    tile: int | tuple[int, int] = 8,
    head: int = 0,
    batch: int = 0,
    q_positions: npt.ArrayLike | None = None,
    kv_positions: npt.ArrayLike | None = None,
    q_segments: npt.ArrayLike | None = None,
    kv_segments: npt.ArrayLike | None = None,
) -> Picture:
    """A picture of a mask, for a notebook: `masks.show(masks.causal & masks.window(6))`; `.save("mask.svg")` writes it.

    It shows which of `keys` (as many as `queries`, if they are not given) each of `queries` sees, for one head and one
    batch entry, and which tiles are empty, partial and full. `tile` is the side of a tile, or its queries and keys. Of
    sequences longer than 128 it shows the tiles alone, and several tiles as one cell from 64 tiles on. Positions and
    segments are integers, (queries,) and (keys,); positions count from 0 if they are not given.

    Raises:
      RopegenError: the mask is no mask, reads segments that are not given, or holds an array that does not fit; a size is
        no whole number.
    """
    from ropegen.mask_pictures import picture_of

    given = {
        "q_positions": q_positions,
        "kv_positions": kv_positions,
        "q_segments": q_segments,
        "kv_segments": kv_segments,
    }
    return picture_of(mask, queries, keys, tile, head, batch, given)


# Values -----------------------------------------------------------------------------------------------------------


def evaluate(
    expr: Expr,
    xp: Any,
    *,
    lookup: Literal["gather", "select"] = "gather",
    wide: Collection[str] = (),
    known: Mapping[Expr, Array] = MappingProxyType({}),
    **values: Array,
) -> Array:
    """The value of `expr` in module `xp` (`numpy` or `jax.numpy`); `values` holds one array per name, and they broadcast.

    Integers become int32; floats have the dtype of `score`, or float32 without one. The result broadcasts only the
    values that it depends on. `lookup="select"` reads a table by comparisons alone, for a kernel that cannot gather.
    `wide` names the variables that are int64: an integer that depends on one of them is computed in 64 bits. `known` has
    the values of some nodes, and `numbers` is the operand (N,) that `numbers[index]` reads.
    """
    for name in values.keys() - {*NAMES, "score", "numbers"}:
        raise RopegenError(f"an expression has no name {name!r}; {nearest(name, (*NAMES, 'score'))}")
    floating = np.dtype(getattr(values.get("score"), "dtype", np.float32))
    dtypes = {"bool": np.dtype(np.bool_), "int": np.dtype(np.int32), "float": floating}
    done: dict[Expr, Array] = dict(known)

    def value(node: Expr) -> Array:
        if node not in done:
            done[node] = compute(node)
        return done[node]

    def compute(node: Expr) -> Array:
        dtype = dtypes[node.kind]
        match node:
            case Var(name=name):
                if name not in values:
                    raise RopegenError(f"`{excerpt(expr)}` needs a value for {name}; give evaluate(..., {name}=)")
                dtype = np.dtype(np.int64) if name in wide else dtype
                given = values[name] if hasattr(values[name], "dtype") else dtype.type(values[name])
                return given if given.dtype == dtype else given.astype(dtype)
            case Const(value=constant):
                return dtype.type(constant)  # a typed scalar neither widens other types nor becomes a kernel's capture
            case Table(values=entries, index=index):
                array = np.asarray(entries, dtype)
                if lookup == "gather":
                    return xp.take(xp.asarray(array), value(index), mode="clip")
                steps = enumerate(array[1:], start=1)
                return functools.reduce(
                    lambda low, step: xp.where(value(index) >= step[0], step[1], low), steps, array[0]
                )
            case Number(index=index):
                if "numbers" not in values:
                    raise RopegenError(f"`{excerpt(expr)}` reads numbers; give evaluate(..., numbers=)")
                entries = values["numbers"].astype(dtype)
                if isinstance(index, Const):
                    return entries[min(max(int(index.value), 0), entries.size - 1)]
                return xp.take(entries, value(index), mode="clip")
            case Captured(held=held, index=index):
                entries = xp.asarray(held.value)
                entries = entries if entries.dtype == np.int64 else entries.astype(dtype)
                return entries if not entries.ndim else xp.take(entries, value(index), mode="clip")
            case Apply(op=op, args=args):
                parts = [value(arg) for arg in args]
                if "float" in {node.kind, *(arg.kind for arg in args)}:
                    parts = [x.astype(floating) if arg.kind == "int" else x for x, arg in zip(parts, args, strict=True)]
                elif any(x.dtype == np.int64 for x in parts):
                    parts = [x.astype(np.int64) if arg.kind == "int" else x for x, arg in zip(parts, args, strict=True)]
                return _operate(op, parts, args, xp)
            case _:
                raise TypeError(f"not an expression: {type(node).__name__}")

    with np.errstate(all="ignore"):  # wrap-around and IEEE 754 are part of the meaning
        return value(expr)


def _operate(op: str, parts: Sequence[Array], args: Sequence[Expr], xp: Any) -> Array:
    if op in ("&", "|"):
        return functools.reduce(operator.and_ if op == "&" else operator.or_, parts)
    if op == "~":
        return xp.logical_not(parts[0])
    if op in FUNCTIONS:
        return getattr(xp, {"min": "minimum", "max": "maximum"}.get(op, op))(*parts)
    if op not in ("//", "%"):
        return PYTHON[op](*parts)
    left, right = parts
    if isinstance(args[1], Const):
        divisor = int(args[1].value)
        if divisor & (divisor - 1) == 0 and divisor > 0:  # a shift and a bit mask also round to minus infinity
            whole = np.dtype(left.dtype).type
            return left >> whole(divisor.bit_length() - 1) if op == "//" else left & whole(divisor - 1)
        return PYTHON[op](left, right)
    zero = right == 0
    whole = np.dtype(left.dtype).type
    return xp.where(zero, whole(0), PYTHON[op](left, xp.where(zero, whole(1), right)))


# Tiles ------------------------------------------------------------------------------------------------------------

# The interval of a node: the lowest and the highest value it may take, as two arrays that broadcast to (n, m).
# Booleans are 0..1; integers int64 within int32; floats float64, where NaN at both ends means "any value, or NaN".
Interval: TypeAlias = tuple[npt.NDArray[Any], npt.NDArray[Any]]
EMPTY = 0
"""The class of a tile in which no query sees a key."""
PARTIAL = 1
"""The class of a tile in which some queries see some keys, or in which that is not known."""
FULL = 2
"""The class of a tile in which every query sees every key."""


def classify(
    expr: Expr,
    *,
    q_pos: Range = None,
    kv_pos: Range = None,
    q_segment: Range = None,
    kv_segment: Range = None,
    head: Range = None,
    batch: Range = None,
) -> Literal["empty", "full", "partial"]:
    """Whether a mask keeps nothing, everything or a part of a tile. A range is inclusive; None stands for any value.

    The result is also "partial" where the analysis cannot tell; "empty" and "full" are always right.
    """
    anything = (INT_MIN, INT_MAX)
    q_tile, kv_tile = np.array([q_pos or anything]), np.array([kv_pos or anything])
    classes = classify_tiles(expr, q_tile, kv_tile, q_segment=q_segment, kv_segment=kv_segment, head=head, batch=batch)
    return ("empty", "partial", "full")[int(classes[0, 0])]


def classify_tiles(
    expr: Expr,
    q_tiles: npt.ArrayLike,
    kv_tiles: npt.ArrayLike,
    *,
    q_segment: Range | npt.ArrayLike = None,
    kv_segment: Range | npt.ArrayLike = None,
    head: Range = None,
    batch: Range = None,
    wide: Collection[str] = (),
) -> npt.NDArray[np.int8]:
    """`classify` for every tile of a map: int8 (n, m), where an entry is `EMPTY` 0, `PARTIAL` 1 or `FULL` 2.

    `q_tiles` (n, 2) and `kv_tiles` (m, 2) hold the inclusive position ranges of the rows and columns. Segment
    ranges are one pair, or (n, 2) for `q_segment` and (m, 2) for `kv_segment`. It allocates int64 arrays of n * m.
    `wide` names the variables that are int64 at run time; a comparison that reads one of them may be true or false.
    """
    given = {"q_pos": q_tiles, "kv_pos": kv_tiles, "q_segment": q_segment, "kv_segment": kv_segment}
    ranges, shape = tile_ranges(expr, given | {"head": head, "batch": batch})
    with np.errstate(all="ignore"):
        low, high = interval_of(expr, ranges, {}, frozenset(wide))
    return np.broadcast_to(low.astype(np.int8) + high.astype(np.int8), shape).copy()


def tile_ranges(expr: Expr, given: Mapping[str, Range | npt.ArrayLike]) -> tuple[dict[str, Interval], tuple[int, int]]:
    """The intervals of all names over a map of tiles, and the shape (n, m) of the map.

    An interval has the shape (n, 1), (1, m) or (1, 1).

    Raises:
      RopegenError: `expr` is no mask, or the ranges are not inclusive int32 ranges of the same map.
    """
    if expr.kind != "bool":
        raise RopegenError(f"only a mask can classify a tile, got {expr.kind} `{excerpt(expr)}`")
    ranges = {name: _bounds(name, bounds) for name, bounds in given.items()}
    shape = (ranges["q_pos"][0].shape[0], ranges["kv_pos"][0].shape[1])
    for name, (low, _) in ranges.items():
        if any(count not in (1, size) for count, size in zip(low.shape, shape, strict=True)):
            raise RopegenError(
                f"{name} gives {low.size} ranges for {shape[0]} x {shape[1]} tiles; give one per row or column"
            )
    return ranges, shape


def _bounds(name: str, given: Range | npt.ArrayLike) -> Interval:
    if given is None:
        given = (0 if name in ("head", "batch") else INT_MIN, INT_MAX)
    pairs = np.asarray(given)
    if pairs.shape == (2,):
        pairs = pairs[None]
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise RopegenError(
            f"{name} takes inclusive integer ranges (low, high), got {pairs.dtype} of shape {pairs.shape}"
        )
    pairs = pairs.astype(np.int64)
    if np.any((pairs[:, 0] > pairs[:, 1]) | (pairs[:, 0] < INT_MIN) | (pairs[:, 1] > INT_MAX)):
        raise RopegenError(f"a range of {name} must have low <= high and fit int32, got {excerpt(pairs.tolist())}")
    low, high = pairs.T[:, None, :] if name.startswith("kv_") else pairs.T[:, :, None]
    return low, high


def interval_of(
    node: Expr, ranges: Mapping[str, Interval], known: dict[Expr, Interval], wide: frozenset[str]
) -> Interval:
    """The interval of `node`, from those of the names; `known` takes the intervals of all nodes that are read."""
    if node in known:
        return known[node]
    match node:
        case Table(index=index) if node.kind == "bool" and variables(index) & wide:
            interval = np.array([[False]]), np.array([[True]])
        case Apply(args=args) if (
            node.kind == "bool" and args[-1].kind != "bool" and any(variables(arg) & wide for arg in args)
        ):
            interval = np.array([[False]]), np.array([[True]])
        case Var(name="score") | Number():
            interval = np.full((1, 1), np.nan), np.full((1, 1), np.nan)
        case Var(name=name):
            interval = ranges[name]
        case Const(value=value):
            point = np.array([[value]], {"bool": np.bool_, "int": np.int64, "float": np.float64}[node.kind])
            interval = _to_float((point, point)) if node.kind == "float" else (point, point)
        case Table(values=values, index=index):
            interval = _entries(np.array(values), interval_of(index, ranges, known, wide))
            interval = _to_float(interval) if node.kind == "float" else interval
        case Apply(op=op, args=args):
            parts = [interval_of(arg, ranges, known, wide) for arg in args]
            if floats := "float" in {node.kind, *(arg.kind for arg in args)}:
                parts = [_to_float(part) if arg.kind == "int" else part for part, arg in zip(parts, args, strict=True)]
            if node.kind == "bool" and op != "where":
                interval = _decide(op, parts)
            else:
                interval = (_float_interval if floats else _int_interval)(op, parts)
        case _:
            raise TypeError(f"not an expression: {type(node).__name__}")
    known[node] = interval
    return interval


def _decide(op: str, parts: Sequence[Interval]) -> Interval:
    """Three-valued logic: (surely true, possibly true)."""
    if op in ("&", "|"):
        join = np.logical_and if op == "&" else np.logical_or
        return functools.reduce(lambda a, b: (join(a[0], b[0]), join(a[1], b[1])), parts)
    if op == "~":
        return ~parts[0][1], ~parts[0][0]
    (a, b), (c, d) = parts if op not in (">", ">=") else reversed(parts)  # a..b op c..d; NaN decides nothing
    if op in ("<", ">"):
        return b < c, ~(a >= d)
    if op in ("<=", ">="):
        return b <= c, ~(a > d)
    same, apart = (a == d) & (b == c), (b < c) | (d < a)
    return (same, ~apart) if op == "==" else (apart, ~same)


def _exact_interval(op: str, parts: Sequence[Interval]) -> Interval | None:
    """The interval of an operation that does not round, for every kind; None for any other operation."""
    a, b = parts[0]
    if op == "neg":
        return -b, -a
    if op == "abs":
        return np.maximum(np.maximum(a, -b), 0), np.maximum(-a, b)
    if op in ("min", "max"):
        pick = np.minimum if op == "min" else np.maximum
        return pick(a, parts[1][0]), pick(b, parts[1][1])
    if op == "where":
        (p, q), (r, s) = parts[1:]
        return (
            np.where(a, p, np.where(b, np.minimum(p, r), r)),
            np.where(a, q, np.where(b, np.maximum(q, s), s)),
        )
    return None


def _corners(operation: Callable[..., Any], left: Interval, right: Interval) -> Interval:
    """The interval of an operation that is monotone in each operand."""
    corners = [operation(x, y) for x in left for y in right]
    return np.minimum.reduce(corners), np.maximum.reduce(corners)


def _int_interval(op: str, parts: Sequence[Interval]) -> Interval:
    interval = _exact_interval(op, parts)
    if interval is None:
        (a, b), (c, d) = parts
        zero = (c <= 0) & (d >= 0)
        if op in ("+", "-", "*"):
            interval = _corners(PYTHON[op], *parts)
        elif op == "//":  # near a divisor of 0 the quotient grows without bound; a divisor of 0 gives 0
            safe = np.where(zero, 1, c), np.where(zero, 1, d)
            low, high = _corners(np.floor_divide, (a, b), safe)
            interval = np.where(zero, INT_MIN, low), np.where(zero, INT_MAX, high)
        else:  # a remainder has the sign of the divisor and is smaller; within one period it grows with the dividend
            safe = np.where(c == 0, 1, c)
            one_period = (c == d) & (c != 0) & (a // safe == b // safe)
            low, high = np.where(c < 0, c + 1, 0), np.where(d > 0, d - 1, 0)
            interval = np.where(one_period, a % safe, low), np.where(one_period, b % safe, high)
    low, high = interval
    if low.dtype == np.bool_:
        return interval
    wraps = (low < INT_MIN) | (high > INT_MAX)
    return np.where(wraps, INT_MIN, low), np.where(wraps, INT_MAX, high)


def _float_interval(op: str, parts: Sequence[Interval]) -> Interval:
    interval = _exact_interval(op, parts)
    if interval is not None:
        return interval
    if op in ("exp", "log", "tanh", "sqrt"):
        function = getattr(np, op)
        return _widened(function(parts[0][0]), function(parts[0][1]), 1e-4, 1e-5)
    low, high = _corners(PYTHON[op], *parts)
    if op == "/":
        c, d = parts[1]
        low = np.where((c <= 0) & (d >= 0), np.nan, low)
    return _widened(low, high, 1e-6, 1e-37)


def _widened(low: npt.NDArray[Any], high: npt.NDArray[Any], relative: float, absolute: float) -> Interval:
    """Add room for float32 rounding, flushed subnormals and approximate functions; NaN where float32 may overflow."""
    low = low - (np.abs(low) * relative + absolute)
    high = high + (np.abs(high) * relative + absolute)
    safe = (low >= -FLOAT_MAX) & (high <= FLOAT_MAX)
    return np.where(safe, low, np.nan), np.where(safe, high, np.nan)


def _to_float(given: Interval) -> Interval:
    """An interval of integers or constants as floats: unchanged if float32 holds both ends exactly, else widened."""
    low, high = (end.astype(np.float64) for end in given)
    wide = _widened(low, high, 1e-6, 1e-37)
    exact = np.ones(low.shape, np.bool_)
    for end in (low, high):
        exact &= (end.astype(np.float32) == end) & ((np.abs(end) >= FLOAT_TINY) | (end == 0))
    return np.where(exact, low, wide[0]), np.where(exact, high, wide[1])


def _entries(values: npt.NDArray[Any], index: Interval) -> Interval:
    """The least and the greatest entry of every index range, from the extremes of all runs of 2^k entries."""
    count = len(values)
    first, last = (np.clip(end, 0, count - 1) for end in index)
    level = np.log2(last - first + 1).astype(np.int64)
    second = last - (1 << level) + 1
    extremes: list[npt.NDArray[Any]] = []
    for pick in (np.minimum, np.maximum):
        runs = [values]
        for k in range(count.bit_length() - 1):
            runs.append(pick(runs[-1], runs[-1][np.minimum(np.arange(count) + (1 << k), count - 1)]))
        stacked = np.stack(runs)
        extremes.append(pick(stacked[level, first], stacked[level, second]))
    return extremes[0], extremes[1]
