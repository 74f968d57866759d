"""Constant scales: several become one, and attention takes those of its queries and keys, since it scales anyway."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ropegen.ir.ops import Attend, Cast, MergeHeads, ReorderPairs, Rotate, Scale, SplitHeads, Transpose
from ropegen.passes.mutable import Value, View
from ropegen.passes.rewrite import Pass, local

# The exponent range of a floating type, as a rank. A scale that moves behind a cast must not make values overflow.
_REACH = {"f16": 0, "bf16": 1, "f32": 1, "f64": 2}
_FLOAT32 = np.finfo(np.float32)


@local(Scale)
def multiply_scales(value: Value, view: View) -> Value | None:
    """scale(scale(x, a), b) -> scale(x, a * b)."""
    match value:
        case Value(op=Scale(factor=b), operands=(Value(op=Scale(factor=a), operands=(x,)),)):
            factor = product(a, b)
            return None if factor is None else view.node(Scale(factor=factor), x)
        case _:
            return None


@local(Scale)
def drop_scale_by_one(value: Value, view: View) -> Value | None:
    """scale(x, 1) -> x."""
    match value:
        case Value(op=Scale(factor=1.0), operands=(x,)):
            return x
        case _:
            return None


@local(Attend)
def scale_in_attend(value: Value, view: View) -> Value | None:
    """attend(rotate(scale(q, a), angles), k, v, scale=b) -> attend(rotate(q, angles), k, v, scale=a*b).

    The scale is on q or on k, directly or behind ops that a factor passes through. Only scores of attention may depend
    on the scaled value. Otherwise, something else needs it anyway, and the rule would save nothing.
    """
    op = value.op
    assert isinstance(op, Attend)
    for index in (0, 1):
        path = _path_to_scale(value.operands[index])
        if path is None or not _only_scores(path[-1], view):
            continue
        *passed, scale = path
        assert isinstance(scale.op, Scale)
        factor = product(op.scale, scale.op.factor)
        if factor is not None:
            operands = list(value.operands)
            operands[index] = _again(passed, scale.operands[0], view)
            return view.node(dataclasses.replace(op, scale=factor), *operands)
    return None


def product(a: float, b: float) -> float | None:
    """The product of two scales; None if it leaves the range of float32, in which scales are applied."""
    result = a * b
    within = float(_FLOAT32.tiny) <= abs(result) <= float(_FLOAT32.max)
    return result if within or result == 0 == min(abs(a), abs(b)) else None


def _path_to_scale(value: Value) -> tuple[Value, ...] | None:
    """The nodes from `value` back to the nearest scale, through ops f with f(a * x) = a * f(x)."""
    path = [value]
    while not isinstance(path[-1].op, Scale):
        if not _passes_factor(path[-1]):
            return None
        path.append(path[-1].operands[0])
    return tuple(path)


def _passes_factor(value: Value) -> bool:
    """Whether the op is linear in its first operand and keeps the range of its features."""
    if isinstance(value.op, Cast):
        source = value.operands[0].type.dtype
        return source in _REACH and value.op.dtype in _REACH and _REACH[source] <= _REACH[value.op.dtype]
    return isinstance(value.op, (Rotate, SplitHeads, MergeHeads, Transpose, ReorderPairs))


def _only_scores(value: Value, view: View) -> bool:
    """Whether attention reads the value as q or k, directly or through other ops, and nothing else reads it."""
    pending = [value]
    while pending:
        value = pending.pop()
        if view.is_output(value):
            return False
        for user in view.users(value):
            if _passes_factor(user):
                pending.append(user)
            elif not isinstance(user.op, Attend) or value in user.operands[2:]:
                return False
    return True


def _again(path: Sequence[Value], x: Value, view: View) -> Value:
    """The ops of the path, last to first, over another value."""
    for value in reversed(path):
        x = view.node(value.op, x, *value.operands[1:])
    return x


FOLD = Pass(
    "fold",
    "Multiply constant scales into one, and into the scale of attention.",
    (multiply_scales, drop_scale_by_one, scale_in_attend),
)
