"""Mask and score expressions (`ropegen.expression`) as code for vectors, and the derivative of a score.

The code computes what `ropegen.masks.evaluate` computes with a float32 score. A value that all lanes share, such as the
position of one key, stays a scalar until an operation needs it beside a vector.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ropegen.errors import RopegenError, nearest
from ropegen.expression import NAMES, PYTHON, Apply, Const, Expr, Table, Var, excerpt

from . import vectors
from .ir import F32, F64, I1, I32, I64, POINTER, Function, Type, Value

_TYPES: Mapping[str, Type] = {"bool": I1, "int": I32, "float": F32}


def compiled(f: Function, expr: Expr, values: Mapping[str, Value], lanes: int) -> Value:
    """Writes the code of an expression; returns its value as a vector, or as a scalar if `lanes` is 0.

    A mask is a vector of i1; an integer is i32, or i64 if it depends on an i64 variable; a float is f32. `values` holds
    the variables by name, as scalars or vectors. `score` is f32, and the others are signed integers, or floats that are
    rounded towards zero. A part that occurs more than once is computed once.

    Raises:
      RopegenError: a variable has no value, or a value has a wrong name, type or number of lanes.
    """
    return _Writer(f, expr, _checked(values, lanes), lanes).wide(expr)


def with_slope(f: Function, expr: Expr, values: Mapping[str, Value], lanes: int) -> tuple[Value, Value]:
    """The value of a score expression and its derivative by `score`, both f32; the operands are those of `compiled`.

    The derivative is the one that JAX computes: where `abs` has a corner it is the one from above, and where the
    operands of `min` or `max` are equal it is the mean of both.
    """
    if expr.kind != "float":
        raise RopegenError(f"only a score has a derivative; `{excerpt(expr)}` is {expr.kind}; use `compiled`")
    writer = _Writer(f, expr, _checked(values, lanes), lanes)
    value, slope = writer.wide(expr), writer.slope(expr)
    return value, f.zero(value.type) if slope is None else writer.alike([value, slope])[1]


def _checked(values: Mapping[str, Value], lanes: int) -> Mapping[str, Value]:
    for name, value in values.items():
        if name not in (*NAMES, "score"):
            raise RopegenError(f"an expression has no name {name!r}; {nearest(name, (*NAMES, 'score'))}")
        kind = value.type
        if kind.lanes not in (0, lanes):
            raise RopegenError(f"{name} is {kind}; a variable must be a scalar or have {lanes} lanes")
        if kind.element != F32 if name == "score" else kind.kind != "int" and kind.element not in (F32, F64):
            rule = "f32" if name == "score" else "a signed integer, f32 or f64"
            raise RopegenError(f"{name} is {kind}; it must be {rule}, so convert it first")
    return values


@dataclass(frozen=True, slots=True)
class _Writer:
    f: Function
    expr: Expr
    variables: Mapping[str, Value]
    lanes: int
    values: dict[Expr, Value] = field(default_factory=dict[Expr, Value])
    slopes: dict[Expr, Value | None] = field(default_factory=dict[Expr, "Value | None"])

    def value(self, node: Expr) -> Value:
        if node not in self.values:
            self.values[node] = self._value(node)
        return self.values[node]

    def wide(self, node: Expr) -> Value:
        """The value of a node, in all lanes."""
        value = self.value(node)
        return value if value.type.lanes == self.lanes else self.f.splat(value, self.lanes)

    def _value(self, node: Expr) -> Value:
        match node:
            case Var(name=name):
                return self._variable(name)
            case Const(value=constant):
                return self.f.value(_TYPES[node.kind], constant)
            case Table():
                return self._entry(node)
            case Apply():
                return self._operate(node, self._operands(node))
            case _:
                raise TypeError(f"not an expression: {type(node).__name__}")

    def _variable(self, name: str) -> Value:
        if name not in self.variables:
            raise RopegenError(f"`{excerpt(self.expr)}` needs a value for {name}; give it in `values`")
        value = self.variables[name]
        if name == "score" or value.type.element in (I32, I64):
            return value
        whole = I32.vector(value.type.lanes)
        return self.f.truncate(value, whole) if value.type.is_float else self.f.convert(value, whole)

    def _entry(self, node: Table) -> Value:
        """The entry of a table. Its code cannot read beside the table, as the index is clipped."""
        f, kind, numbers = self.f, _TYPES[node.kind], node.values
        index = self.value(node.index)
        index = f.minimum(f.maximum(index, 0), len(numbers) - 1)
        lanes = index.type.lanes
        if node.kind == "bool" and len(numbers) <= 32:
            word = sum(1 << place for place, number in enumerate(numbers) if number)
            whole = I32.vector(lanes)
            return f.convert(f.binary("lshr", f.value(whole, word), f.convert(index, whole)), I1.vector(lanes))
        kind = I32 if kind == I1 else kind
        entries = Value(f, POINTER, f.module.table(kind, numbers))
        if lanes:
            entry = f.gather(kind.vector(lanes), entries, f.convert(index, I32.vector(lanes)))
        else:
            entry = f.load(kind, entries, f.convert(index, I64))
        return entry.differs(0) if node.kind == "bool" else entry

    def alike(self, values: Sequence[Value]) -> list[Value]:
        """The values as vectors, or as they are if all are scalars."""
        lanes = max(value.type.lanes for value in values)
        return [value if value.type.lanes == lanes else self.f.splat(value, lanes) for value in values]

    def _operands(self, node: Apply) -> list[Value]:
        """The operands, with as many lanes each, and with one type for all numbers."""
        parts = self.alike([self.value(arg) for arg in node.args])
        if "float" in {node.kind, *(arg.kind for arg in node.args)}:
            number = F32
        else:
            number = I64 if any(part.type.element == I64 for part in parts) else I32
        return [
            part if arg.kind == "bool" else self.f.convert(part, number.vector(part.type.lanes))
            for part, arg in zip(parts, node.args, strict=True)
        ]

    def _operate(self, node: Apply, parts: Sequence[Value]) -> Value:
        f, first, last = self.f, parts[0], parts[-1]
        match node.op:
            case "&" | "|":
                return functools.reduce(operator.and_ if node.op == "&" else operator.or_, parts)
            case "~":
                return ~first
            case "==":
                return first.equals(last)
            case "!=":
                return first.differs(last)
            case "//" | "%":
                divisor = node.args[1]
                both = _divided(f, first, last, int(divisor.value) if isinstance(divisor, Const) else None)
                return both[node.op == "%"]
            case "where":
                return f.select(*parts)
            case "min":
                return vectors.minimum(f, first, last)
            case "max":
                return vectors.maximum(f, first, last)
            case "abs" if first.type.is_float:
                return f.intrinsic("fabs", first)
            case "abs":
                return f.maximum(first, -first)
            case "exp":
                return vectors.exp(f, first)
            case "log":
                return vectors.log(f, first)
            case "tanh":
                return vectors.tanh(f, first)
            case "sqrt":
                return f.intrinsic("sqrt", first)
            case op:
                return PYTHON[op](*parts)

    def slope(self, node: Expr) -> Value | None:
        """The derivative of a float by the score, or None if it does not depend on the score."""
        if node not in self.slopes:
            self.slopes[node] = self._slope(node)
        return self.slopes[node]

    def _slope(self, node: Expr) -> Value | None:
        if node == Var("score"):
            return self.f.value(F32, 1.0)
        if not isinstance(node, Apply) or node.kind != "float":
            return None
        known = {place: slope for place, arg in enumerate(node.args) if (slope := self.slope(arg)) is not None}
        if not known:
            return None
        value, *rest = self.alike([self.value(node), *self._operands(node), *known.values()])
        parts, slopes = rest[: len(node.args)], dict(zip(known, rest[len(node.args) :], strict=True))
        if node.op == "where":
            zero = self.f.zero(value.type)
            return self.f.select(parts[0], slopes.get(1, zero), slopes.get(2, zero))
        return functools.reduce(
            operator.add, [self._term(node.op, value, parts, place, slope) for place, slope in slopes.items()]
        )

    def _term(self, op: str, value: Value, parts: Sequence[Value], place: int, slope: Value) -> Value:
        """What one operand, with this derivative, adds to the derivative of an operation."""
        f, x, other = self.f, parts[place], parts[len(parts) - 1 - place]
        one = f.value(value.type, 1.0)
        match op, place:
            case ("+", _) | ("-", 0):
                return slope
            case ("-", 1) | ("neg", _):
                return -slope
            case "*", _:
                return slope * other
            case "/", 0:
                return slope / other
            case "/", 1:
                return -slope * other * (one / (x * x))
            case "abs", _:
                return f.select(x >= 0.0, slope, -slope)
            case "exp", _:
                return slope * value
            case "log", _:
                return slope / x
            case "tanh", _:
                return (slope + slope * value) * (one - value)
            case "sqrt", _:
                return slope * (f.value(value.type, 0.5) / value)
            case (("min" | "max"), _):
                share = f.select(other.equals(value), f.value(value.type, 0.5), 1.0)
                return slope * f.select(x.equals(value), share, 0.0)
            case _:
                raise TypeError(f"{op} has no derivative")


def _divided(f: Function, x: Value, divisor: Value, constant: int | None) -> tuple[Value, Value]:
    """The quotient rounded to minus infinity, and the remainder; both are 0 if the divisor is 0.

    `constant` is the divisor, if it is known: then the code divides by shifting or multiplying.
    """
    if constant is not None and constant > 0 and constant & (constant - 1) == 0:
        return f.binary("ashr", x, constant.bit_length() - 1), x & (constant - 1)
    if constant == -1:
        return -x, f.zero(x.type)
    if constant is not None:
        quotient = f.binary("sdiv", x, divisor)
        remainder = x - quotient * divisor
        above = remainder < 0 if constant > 0 else remainder > 0
        return f.select(above, quotient - 1, quotient), f.select(above, remainder + divisor, remainder)
    # LLVM leaves x / 0 undefined, and the lowest integer / -1. For these two divisors the quotient is x * divisor.
    simple = divisor.equals(0) | divisor.equals(-1)
    safe = f.select(simple, f.value(x.type, 1), divisor)
    if x.type.lanes and x.type.bits == 32:
        # Vector units divide floats only. A quotient of two int32 numbers that is no integer is at least 2**-31 away
        # from one, so float64 rounds it to the right side.
        wide = F64.vector(x.type.lanes)
        quotient = f.convert(f.intrinsic("floor", f.convert(x, wide) / f.convert(safe, wide)), x.type)
    else:
        cut = f.binary("sdiv", x, safe)
        remainder = x - cut * safe
        quotient = f.select(remainder.differs(0) & ((remainder ^ safe) < 0), cut - 1, cut)
    quotient = f.select(simple, x * divisor, quotient)
    return quotient, f.select(simple, f.zero(x.type), x - quotient * divisor)
