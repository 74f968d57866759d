"""Whether a mask may show a score of a tile, for positions and segments that only the running program knows.

`masks.classify_tiles` answers this while tracing, for known positions. Here the lowest and the highest position and
segment of a tile are JAX arrays. The analysis is interval arithmetic too, in the integers of the program. An interval
whose ends leave `_FAR` could wrap, so it decides nothing.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp

from ropegen.expression import Apply, Const, Expr, Var

Array: TypeAlias = Any  # an integer or boolean array of JAX, or a scalar of Python
Ranges: TypeAlias = Mapping[str, tuple[Array, Array]]

# Sums and differences of two numbers up to this size do not wrap in 32 bits.
_FAR = 1 << 29


class _Span(NamedTuple):
    """The lowest and highest value of an integer; nothing is known of it where `is_known` is False."""

    low: Array
    high: Array
    is_known: Array


def may_see(mask: Expr, ranges: Ranges) -> Array:
    """Whether the mask may be true for some value of its names. False is always right; True may be too careful.

    `ranges` maps names, such as `q_pos`, to the lowest and highest value (both inclusive, integer arrays that broadcast
    with each other). A name that is missing may have any value. The result is a boolean of the broadcast shape.
    """
    return _truth(mask, ranges)[1]


def _truth(node: Expr, ranges: Ranges) -> tuple[Array, Array]:
    """(surely true, possibly true)."""
    match node:
        case Const(value=value):
            return bool(value), bool(value)
        case Apply(op="&" | "|" as op, args=args):
            join: Callable[[Array, Array], Array] = jnp.logical_and if op == "&" else jnp.logical_or
            surely, possibly = zip(*(_truth(arg, ranges) for arg in args), strict=True)
            return functools.reduce(join, surely), functools.reduce(join, possibly)
        case Apply(op="~", args=(inner,)):
            surely, possibly = _truth(inner, ranges)
            return jnp.logical_not(possibly), jnp.logical_not(surely)
        case Apply(op=op, args=(left, right)) if left.kind == right.kind == "int":
            a, b = _span(left, ranges), _span(right, ranges)
            return (False, True) if a is None or b is None else _compared(op, a, b)
        case _:
            return False, True


def _compared(op: str, a: _Span, b: _Span) -> tuple[Array, Array]:
    if op in (">", ">="):
        a, b, op = b, a, {">": "<", ">=": "<="}[op]
    match op:
        case "<":
            surely, possibly = a.high < b.low, a.low < b.high
        case "<=":
            surely, possibly = a.high <= b.low, a.low <= b.high
        case "==" | "!=":
            same, meet = (a.low == b.high) & (a.high == b.low), (a.low <= b.high) & (b.low <= a.high)
            surely, possibly = (same, meet) if op == "==" else (~meet, ~same)
        case _:
            return False, True
    is_known = a.is_known & b.is_known
    return surely & is_known, possibly | ~is_known


def _span(node: Expr, ranges: Ranges) -> _Span | None:
    """The span of an integer; None for an operation that is not analysed."""
    match node:
        case Var(name=name) if name in ranges:
            low, high = map(jnp.asarray, ranges[name])
            return _Span(low, high, jnp.asarray(True))
        case Const(value=value):
            return _Span(jnp.int32(value), jnp.int32(value), jnp.asarray(True))
        case Apply(op=op, args=args):
            parts = [_span(arg, ranges) for arg in args if arg.kind == "int"]
            spans = [part for part in parts if part is not None]
            divisor = args[-1].value if isinstance(args[-1], Const) else 0
            return _computed(op, spans, int(divisor)) if len(spans) == len(args) else None
        case _:
            return None


def _computed(op: str, spans: list[_Span], divisor: int) -> _Span | None:
    """The span of an operation on integers; `divisor` is its last operand if that is a constant."""
    a, b = spans[0], spans[-1]
    match op:
        case "neg":
            low, high = -a.high, -a.low
        case "abs":
            low, high = jnp.maximum(jnp.maximum(a.low, -a.high), 0), jnp.maximum(-a.low, a.high)
        case "+":
            low, high = a.low + b.low, a.high + b.high
        case "-":
            low, high = a.low - b.high, a.high - b.low
        case "min" | "max":
            pick = jnp.minimum if op == "min" else jnp.maximum
            low, high = pick(a.low, b.low), pick(a.high, b.high)
        case "//" if divisor > 0:
            low, high = a.low // divisor, a.high // divisor
        case _:
            return None
    near = (abs(end) <= _FAR for span in spans for end in (span.low, span.high))
    return _Span(low, high, functools.reduce(operator.and_, near) & a.is_known & b.is_known)
