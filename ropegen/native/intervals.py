"""Whether a mask shows a tile of scores, decided at run time: interval arithmetic of masks as scalar instructions.

It is the analysis of `masks.classify_tiles`, for ranges that only the running kernel knows. The code has no loop and
no call. The ends of an interval are i64. So the arithmetic of int32 is exact, and a result that leaves int32, which
wraps, becomes the whole range of int32. Integers of 64 bits are computed in 128 bits, for the same reason.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from ropegen.errors import RopegenError
from ropegen.expression import INT_MAX, INT_MIN, NAMES, Apply, Expr, Table, Var, excerpt, variables
from ropegen.masks import Interval, interval_of

from .ir import I1, I8, I32, I64, POINTER, Function, Type, Value

# The lowest and the highest value of an integer, as i64; or whether a condition is surely and possibly true, as i1.
Ends: TypeAlias = tuple[Value, Value]


def shown(
    f: Function, mask: Expr, ranges: Mapping[str, tuple[Value, Value]], wide: Collection[str] = ()
) -> tuple[Value, Value]:
    """Writes whether `mask` may show some score of a tile, and whether it shows every score; two values of i1.

    `ranges` holds the lowest and the highest value of the names in the tile, as i64; for a tile of one value, both may
    be one `Value`. A name without a range may have any value, from 0 for `head` and `batch`. `wide` names the variables
    that are int64; the others are int32.

    The answer is sound: the first is true if one score is shown, and the second is false if one score is hidden. It is
    at least as sharp as `masks.classify_tiles`, except where a float depends on a range that is not constant. A
    comparison of such a float may be true or false. If all ranges that decide are constant, so are the answers. A tile
    whose lowest value is above its highest one may get any answer.

    Raises:
      RopegenError: `mask` is not a condition, or a range is not of two i64.
    """
    if mask.kind != "bool":
        raise RopegenError(f"only a mask can show or hide a tile, got {mask.kind} `{excerpt(mask)}`; compare numbers")
    for name, pair in ranges.items():
        if name not in NAMES or any(end.type != I64 for end in pair):
            got = ", ".join(str(end.type) for end in pair)
            raise RopegenError(f"a mask reads ranges of {', '.join(NAMES)} as two i64; got {name} as {got}")
    surely, possibly = _Analysis(f, ranges, frozenset(wide)).ends(mask)
    return possibly, surely


@dataclass
class _Analysis:
    """The instructions of one mask; a part that occurs twice is written once."""

    f: Function
    ranges: Mapping[str, Ends]
    wide: frozenset[str]
    constants: dict[str, Interval] = field(init=False)
    """The ranges of the int32 names that are known now."""
    folded: dict[Expr, Interval] = field(default_factory=dict[Expr, Interval])
    written: dict[Expr, Ends] = field(default_factory=dict[Expr, Ends])

    def __post_init__(self) -> None:
        self.constants = {}
        for name in set(NAMES) - self.wide:
            anything = 0 if name in ("head", "batch") else INT_MIN, INT_MAX
            ends = [end.constant for end in self.ranges[name]] if name in self.ranges else anything
            if None not in ends:
                low, high = (np.array([[end]], np.int64) for end in ends)
                self.constants[name] = low, high

    def ends(self, node: Expr) -> Ends:
        """The interval of a condition or an integer."""
        if node not in self.written:
            self.written[node] = self._folded(node) if variables(node) <= self.constants.keys() else self._ends(node)
        return self.written[node]

    def _folded(self, node: Expr) -> Ends:
        with np.errstate(all="ignore"):
            low, high = (end.item() for end in interval_of(node, self.constants, self.folded, frozenset()))
        kind = I1 if node.kind == "bool" else I64
        lowest = self.f.value(kind, low)
        return lowest, lowest if low == high else self.f.value(kind, high)

    def _ends(self, node: Expr) -> Ends:
        match node:
            case Var(name=name) if name in self.ranges:
                return self.ranges[name]
            case Table(values=values, index=index):
                return _entries(self.f, values, self.ends(index), I8 if node.kind == "bool" else I32)
            case Apply(op="&" | "|", args=args):
                surely, possibly = zip(*map(self.ends, args), strict=True)
                join = Value.__and__ if node.op == "&" else Value.__or__
                return functools.reduce(join, surely), functools.reduce(join, possibly)
            case Apply(op="~", args=(condition,)):
                surely, possibly = self.ends(condition)
                return ~possibly, ~surely
            case Apply(op="where", args=(condition, *choices)):
                return self._either(self.ends(condition), *map(self.ends, choices))
            case Apply(args=args) if any(arg.kind == "float" for arg in args):
                return self.f.value(I1, False), self.f.value(I1, True)
            case Apply(op=op, args=(left, right)) if node.kind == "bool":
                return _compared(op, *(self._as_integers(self.ends(arg)) for arg in (left, right)))
            case Apply(op=op, args=args):
                return self._integer(op, [self.ends(arg) for arg in args], self._bits(node))
            case _:  # a name of 64 bits without a range
                return _anything(self.f, 64)

    def _as_integers(self, ends: Ends) -> Ends:
        low, high = ends
        return self.f.convert(low, I64), self.f.convert(high, I64)

    def _bits(self, node: Expr) -> int:
        """64 if an integer depends on a name of 64 bits, else 32; the entries of a table have 32."""
        match node:
            case Var(name=name):
                return 64 if name in self.wide else 32
            case Apply(args=args):
                return max(self._bits(arg) if arg.kind == "int" else 32 for arg in args)
            case _:
                return 32

    def _either(self, condition: Ends, chosen: Ends, otherwise: Ends) -> Ends:
        """One of two values, or the range of both where the condition may be true or false."""
        f, (surely, possibly) = self.f, condition
        least, most = (Value.__and__, Value.__or__) if chosen[0].type == I1 else (f.minimum, f.maximum)
        low, high = (
            f.select(surely, yes, f.select(possibly, pick(yes, no), no))
            for pick, yes, no in zip((least, most), chosen, otherwise, strict=True)
        )
        return low, high

    def _integer(self, op: str, parts: Sequence[Ends], bits: int) -> Ends:
        """An operation on integers of 32 or 64 bits."""
        f = self.f
        if op in ("min", "max"):
            pick = f.minimum if op == "min" else f.maximum
            (a, b), (c, d) = parts
            return pick(a, c), pick(b, d)
        if op in ("//", "%"):
            divisor = _constant(parts[1])
            if bits == 64 and (divisor is None or divisor <= 0):  # the lowest integer divided by -1 is a trap
                return _anything(f, bits)
            return _quotients(f, *parts) if op == "//" else _remainders(f, *parts)
        double = Type("int", 2 * bits)
        a, b, *other = (f.convert(end, double) for ends in parts for end in ends)
        match op:
            case "neg":
                low, high = -b, -a
            case "abs":
                low, high = f.maximum(f.maximum(a, -b), 0), f.maximum(-a, b)
            case "+":
                low, high = a + other[0], b + other[1]
            case "-":
                low, high = a - other[1], b - other[0]
            case "*":
                left, right = (a, b), (other[0], other[1])
                low, high = _corners(f, Value.__mul__, *((left, right) if _constant(left) is None else (right, left)))
            case _:
                raise TypeError(f"no operation on integers: {op}")
        return self._wrapped(low, high, bits)

    def _wrapped(self, low: Value, high: Value, bits: int) -> Ends:
        """The ends as i64; the whole range if one of them does not fit the bits of the integer."""
        f, (lowest, highest) = self.f, _anything(self.f, bits)
        wraps = (low < int(lowest.constant or 0)) | (high > int(highest.constant or 0))
        return f.select(wraps, lowest, f.convert(low, I64)), f.select(wraps, highest, f.convert(high, I64))


def _anything(f: Function, bits: int) -> Ends:
    """The range of a signed integer."""
    return f.i64(-(2 ** (bits - 1))), f.i64(2 ** (bits - 1) - 1)


def _constant(ends: Ends) -> int | None:
    """The value of an interval that is one constant."""
    low, high = (end.constant for end in ends)
    return int(low) if low is not None and low == high else None


def _corners(f: Function, operation: Callable[[Value, Value], Value], left: Ends, right: Ends) -> Ends:
    """The interval of an operation that is monotone in either operand."""
    constant = _constant(right)
    if constant is not None:
        first, last = (operation(end, right[0]) for end in left)
        return (first, last) if constant >= 0 else (last, first)
    corners = [operation(x, y) for x in left for y in right]
    return functools.reduce(f.minimum, corners), functools.reduce(f.maximum, corners)


def _compared(op: str, left: Ends, right: Ends) -> Ends:
    """Whether a comparison of integers is surely true, and whether it is possibly true."""
    (a, b), (c, d) = (left, right) if op not in (">", ">=") else (right, left)
    match op:
        case "<" | ">":
            return b < c, a < d
        case "<=" | ">=":
            return b <= c, a <= d
        case _:
            same, apart = a.equals(d) & b.equals(c), (b < c) | (d < a)
            return (same, ~apart) if op == "==" else (apart, ~same)


def _floor_divided(f: Function, value: Value, divisor: Value) -> Value:
    """The quotient of two i64, rounded to minus infinity."""
    constant = int(divisor.constant or 0)
    if constant > 0 and constant & (constant - 1) == 0:
        return f.binary("ashr", value, constant.bit_length() - 1) if constant > 1 else value
    quotient = f.binary("sdiv", value, divisor)
    rest = value - quotient * divisor
    rounds_up = rest.differs(0) & ((rest ^ divisor) < 0)
    return quotient - f.convert(rounds_up, I64)


def _never_zero(f: Function, value: Value) -> Value:
    """A divisor that the processor accepts."""
    return f.select(value.equals(0), f.i64(1), value)


def _quotients(f: Function, left: Ends, right: Ends) -> Ends:
    """Near a divisor of 0 the quotient grows without bound, and a divisor of 0 gives 0.

    Only the lowest int32 divided by -1 leaves int32.
    """
    low, high = right
    divide = functools.partial(_floor_divided, f)
    least, most = _corners(f, divide, left, (_never_zero(f, low), _never_zero(f, high)))
    divisor = _constant(right)
    if divisor is not None and divisor > 0:
        return least, most
    unbounded = ((low <= 0) & (high >= 0)) | (most > INT_MAX)
    return f.select(unbounded, f.i64(INT_MIN), least), f.select(unbounded, f.i64(INT_MAX), most)


def _remainders(f: Function, left: Ends, right: Ends) -> Ends:
    """A remainder has the sign of the divisor and is smaller; within one period it grows with the dividend."""
    low, high = right
    divisor = _never_zero(f, low)
    first, last = (_floor_divided(f, end, divisor) for end in left)
    one_period = low.equals(high) & low.differs(0) & first.equals(last)
    return (
        f.select(one_period, left[0] - first * divisor, f.minimum(low + 1, 0)),
        f.select(one_period, left[1] - last * divisor, f.maximum(high - 1, 0)),
    )


def _entries(f: Function, values: Sequence[bool | int | float], index: Ends, kind: Type) -> Ends:
    """The least and the greatest entry of a table in a range of indices.

    Two runs of 2^k entries cover a range. The extremes of all runs are constant tables. One value needs the entries alone.
    """
    count = len(values)

    def clipped(end: Value) -> Value:
        return f.minimum(f.maximum(end, 0), count - 1)

    def entry(runs: list[list[int]], place: Value) -> Value:
        table = Value(f, POINTER, f.module.table(kind, list(itertools.chain(*runs))))
        loaded = f.load(kind, table, place)
        return loaded.differs(0) if kind == I8 else f.convert(loaded, I64)

    entries = [list(map(int, values))]
    first = clipped(index[0])
    if index[0] is index[1]:
        only = entry(entries, first)
        return only, only
    last = f.maximum(clipped(index[1]), first)  # in a tile without values, the last index may come before the first
    level = 63 - f.call("llvm.ctlz.i64", I64, last - first + 1, f.value(I1, False))
    second = last - f.binary("shl", f.i64(1), level) + 1
    extremes: list[Value] = []
    least, most = (Value.__and__, Value.__or__) if kind == I8 else (f.minimum, f.maximum)
    for pick, of_two in ((min, least), (max, most)):
        runs = list(entries)
        for k in range(count.bit_length() - 1):
            runs.append([pick(runs[-1][i], runs[-1][min(i + (1 << k), count - 1)]) for i in range(count)])
        extremes.append(of_two(entry(runs, level * count + first), entry(runs, level * count + second)))
    return extremes[0], extremes[1]
