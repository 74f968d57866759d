"""Mask and score expressions: one small typed language for every attention pattern.

A mask says which keys a query sees; a score expression changes the score before the mask. Both are
trees over `q_pos kv_pos q_segment kv_segment head batch` (int32) and, in a score expression, `score`.
A tree prints as Python-like infix and reads back (`parse(str(e)) == e`), evaluates under NumPy or
`jax.numpy` (`evaluate`), and by interval arithmetic tells of a whole tile of positions whether it is
empty, full or partial (`classify`, `classify_tiles`).

Meaning: integers are int32 and wrap; `//` and `%` round to minus infinity, as in Python, and give 0
where the divisor is 0; floats have the dtype of `score` (float32 in a mask) and follow IEEE 754;
`table[i]` clips `i`. Operations on constants alone are done once, when the tree is made, in float64.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ropegen.errors import RopegenError, nearest

Kind: TypeAlias = Literal["bool", "int", "float"]
Range: TypeAlias = tuple[int, int] | None
Array: TypeAlias = Any  # an array or scalar of NumPy or JAX, tracers included

NAMES = ("q_pos", "kv_pos", "q_segment", "kv_segment", "head", "batch")
MAX_NODES, MAX_DEPTH, MAX_TEXT = 4096, 64, 200_000  # a tree within the first two prints within the third
_INT_MIN, _INT_MAX = -(2**31), 2**31 - 1
_FLOAT_MAX = float(np.finfo(np.float32).max)
_FLOAT_TINY = float(np.finfo(np.float32).tiny)

_COMPARISONS = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}  # each with its negation
_LEVELS = dict.fromkeys(_COMPARISONS, 1) | {"|": 2, "&": 3, "+": 4, "-": 4, "*": 5, "/": 5, "//": 5, "%": 5}
_UNARY, _ATOM = 6, 7
_FUNCTIONS = {"min": 2, "max": 2, "abs": 1, "exp": 1, "log": 1, "tanh": 1, "sqrt": 1, "where": 3}
_ARITY = dict.fromkeys(_LEVELS, 2) | {"neg": 1, "~": 1} | _FUNCTIONS
_LOGIC = (
    "combine conditions with & | ~ and masks.where; `and`, `or`, `not`, `if`, `in` and `a < b < c` cannot be traced"
)


# The tree ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class Expr:
    """A frozen, hashable expression; `==` compares structure. Masks combine with `&`, `|` and `~`.

    `kind` is "bool", "int" or "float"; `size` counts nodes and table entries, `depth` levels. Make one by
    a named mask, `mask`, `score`, `parse` or `apply`: these keep it canonical.
    """

    kind: Kind = field(init=False)
    size: int = field(init=False, compare=False)
    depth: int = field(init=False, compare=False)

    def __str__(self) -> str:
        return _text(self, 0)

    def __repr__(self) -> str:
        return f"masks.parse({str(self)!r})"

    def __and__(self, other: MaskLike) -> Expr:
        return apply("&", as_mask(self), as_mask(other))

    def __rand__(self, other: MaskLike) -> Expr:
        return apply("&", as_mask(other), as_mask(self))

    def __or__(self, other: MaskLike) -> Expr:
        return apply("|", as_mask(self), as_mask(other))

    def __ror__(self, other: MaskLike) -> Expr:
        return apply("|", as_mask(other), as_mask(self))

    def __invert__(self) -> Expr:
        return apply("~", as_mask(self))

    def __bool__(self) -> bool:
        raise RopegenError(f"`{_shown(self)}` has no truth value of its own: {_LOGIC}")


@dataclass(frozen=True, slots=True, repr=False)
class Var(Expr):
    """A position, segment, head or batch index (int32), or `score` (float)."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in (*NAMES, "score"):
            raise RopegenError(f"an expression has no name {self.name!r}; {nearest(self.name, (*NAMES, 'score'))}")
        _seal(self, "float" if self.name == "score" else "int")


@dataclass(frozen=True, slots=True, repr=False)
class Const(Expr):
    """A boolean, an integer that fits int32, or a finite float (-0.0 is stored as 0.0)."""

    value: bool | int | float

    def __post_init__(self) -> None:
        value = _plain(self.value)
        object.__setattr__(self, "value", value)
        _seal(self, _kind_of(value))


@dataclass(frozen=True, slots=True, repr=False)
class Table(Expr):
    """`values[index]` with the index clipped to the table; entries are all bool, all int, or float."""

    values: tuple[bool | int | float, ...]
    index: Expr

    def __post_init__(self) -> None:
        values = tuple(map(_plain, self.values))
        kinds = set(map(_kind_of, values))
        if not values or (len(kinds) > 1 and "bool" in kinds):
            raise RopegenError(f"a table holds one or more booleans, or one or more numbers; got {_shown(values)}")
        if self.index.kind != "int":
            raise RopegenError(f"a table is indexed by an integer; `{_shown(self.index)}` is {self.index.kind}")
        kind: Kind = "float" if "float" in kinds else _kind_of(values[0])
        object.__setattr__(self, "values", tuple(map(float, values)) if kind == "float" else values)
        _seal(self, kind, (self.index,), 1 + len(values))


@dataclass(frozen=True, slots=True, repr=False)
class Apply(Expr):
    """An operation: an infix sign, "neg", "~", or a function name; `&` and `|` take two or more operands.

    Made by `apply`, which also folds constants; the class itself only checks kinds.
    """

    op: str
    args: tuple[Expr, ...]

    def __post_init__(self) -> None:
        _seal(self, _check(self.op, self.args), self.args)


def _seal(expr: Expr, kind: Kind, parts: Iterable[Expr] = (), own: int = 1) -> None:
    size, depth = own, 0
    for part in parts:
        size, depth = size + part.size, max(depth, part.depth)
    if size > MAX_NODES or depth >= MAX_DEPTH:
        raise RopegenError(
            f"an expression of {size} nodes and {depth + 1} levels; at most {MAX_NODES} and {MAX_DEPTH} are allowed: "
            "use a table, flatten it, or give a dense mask"
        )
    object.__setattr__(expr, "kind", kind)
    object.__setattr__(expr, "size", size)
    object.__setattr__(expr, "depth", depth + 1)


def _plain(value: Any) -> bool | int | float:
    """A Python scalar that may be a constant, from a Python, NumPy or JAX scalar."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not _INT_MIN <= value <= _INT_MAX:
            shown = value if abs(value) < 10**20 else "it"
            raise RopegenError(f"an integer constant fits int32, {shown} does not; write a float such as 3e9")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RopegenError(f"a float constant is finite, got {value}; to drop a score, use a mask")
        return value + 0.0  # -0.0 + 0.0 is 0.0
    raise RopegenError(
        f"a constant is a bool, an int or a float, got {type(value).__name__} {_shown(value)}; "
        "a value per head is masks.table(values, head), an array is a dense mask or a bias"
    )


def _kind_of(value: bool | int | float) -> Kind:
    return "bool" if isinstance(value, bool) else "int" if isinstance(value, int) else "float"


def _shown(value: object, width: int = 100) -> str:
    text = str(value)
    return text if len(text) <= width else f"{text[:width]}..."


def _check(op: str, args: tuple[Expr, ...]) -> Kind:
    """The kind that `op` gives for these operands, or the rule that they break."""
    kinds = [arg.kind for arg in args]
    if op not in _ARITY:
        raise RopegenError(f"an expression has no operation {op!r}; {nearest(op, _ARITY)}")
    if len(args) != _ARITY[op] and not (op in "&|" and len(args) > 2):
        raise RopegenError(f"{op} takes {_ARITY[op]} operand(s), got {len(args)}")
    number: Kind = "float" if "float" in kinds else "int"

    def wrong(rule: str) -> RopegenError:
        got = ", ".join(f"{arg.kind} `{_shown(arg)}`" for arg in args)
        return RopegenError(f"{op} {rule}, got {got}")

    if op in ("&", "|", "~"):
        if set(kinds) != {"bool"}:
            raise wrong(
                "takes booleans; compare numbers first, each comparison in parentheses, as in (a < b) & (c < d)"
            )
        return "bool"
    if op == "where":
        if kinds[0] != "bool" or ("bool" in kinds[1:] and kinds[1] != kinds[2]):
            raise wrong("takes a boolean and two numbers or two booleans")
        return "bool" if kinds[1] == "bool" else "float" if "float" in kinds[1:] else "int"
    if op in ("==", "!=") and set(kinds) == {"bool"}:
        return "bool"
    if "bool" in kinds:
        raise wrong("takes numbers; masks.where(condition, 1, 0) makes a boolean a number")
    if op in ("//", "%") and number == "float":
        raise wrong("takes integers; / divides floats")
    if op in ("/", "//", "%") and isinstance(args[1], Const) and args[1].value == 0:
        raise wrong("never divides by the constant zero")
    if op in _COMPARISONS:
        return "bool"
    return "float" if op in ("/", "exp", "log", "tanh", "sqrt") else number


def _choose(condition: bool, chosen: Any, otherwise: Any) -> Any:
    return chosen if condition else otherwise


_PYTHON: dict[str, Callable[..., Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq,
    "!=": operator.ne, "neg": operator.neg, "~": operator.not_, "abs": abs, "min": min, "max": max, "exp": math.exp,
    "log": math.log, "tanh": math.tanh, "sqrt": math.sqrt, "where": _choose,
}  # fmt: skip


def apply(op: str, *operands: Operand) -> Expr:
    """The canonical expression of `op` over `operands` (an `Expr`, a traced value or a constant)."""
    args = tuple(map(_operand, operands))
    if op in ("&", "|"):
        return _junction(op, args)
    kind = _check(op, args)
    if "float" in {kind, *(arg.kind for arg in args)}:
        args = tuple(Const(float(a.value)) if isinstance(a, Const) and a.kind == "int" else a for a in args)
    if all(isinstance(arg, Const) for arg in args):
        try:
            value = _PYTHON[op](*(cast(Const, arg).value for arg in args))
        except (ValueError, OverflowError):  # log of a negative, exp of 1000.0: left to IEEE 754 at run time
            return Apply(op, args)
        return Const(value) if not isinstance(value, float) or math.isfinite(value) else Apply(op, args)
    simpler = _simpler(op, args, kind)
    return Apply(op, args) if simpler is None else simpler


def table(values: Sequence[bool | int | float] | npt.NDArray[Any], index: Operand) -> Traced:
    """`values[index]` inside a traced function; an index out of range is clipped."""
    return Traced(_table(values, _operand(index)))


def _table(values: Iterable[Any], index: Expr) -> Expr:
    node = Table(tuple(values), index)
    if isinstance(index, Const):
        return Const(node.values[min(max(int(index.value), 0), len(node.values) - 1)])
    return Const(node.values[0]) if len(set(node.values)) == 1 else node


def _junction(op: str, args: tuple[Expr, ...]) -> Expr:
    """`&` or `|`, flattened, each term once: (a & b) & a -> a & b, a & True -> a, a & ~a -> False."""
    _check(op, args)
    runs = [arg.args if isinstance(arg, Apply) and arg.op == op else (arg,) for arg in args]
    terms = {term: None for run in runs for term in run}
    neutral, absorbing = Const(op == "&"), Const(op == "|")
    terms.pop(neutral, None)
    if absorbing in terms:
        return absorbing
    if len(terms) > 1 and any(apply("~", term) in terms for run in runs[1:] for term in run):
        return absorbing  # the first run alone holds no such pair
    return Apply(op, tuple(terms)) if len(terms) > 1 else next(iter(terms), neutral)


def _simpler(op: str, args: tuple[Expr, ...], kind: Kind) -> Expr | None:
    """A shorter expression of the same meaning, int32 wrap-around and NaN included, or None."""
    first, last = args[0], args[-1]
    exact = all(arg.kind != "float" for arg in args)
    match op, first:
        case ("neg", Apply(op="neg", args=(inner,))) | ("~", Apply(op="~", args=(inner,))):
            return inner
        case "~", Apply(op=test, args=(a, b)) if test in _COMPARISONS and "float" not in (a.kind, b.kind):
            return apply(_COMPARISONS[test], a, b)  # with a NaN, ~(a < b) is not a >= b
        case "abs", Apply(op="abs"):
            return first
        case "where", Const(value=chosen):
            branch = args[1] if chosen else args[2]
            return branch if branch.kind == kind else None
        case _:
            pass
    if op in ("where", "min", "max") and args[-2] == last:
        return last
    if not exact or len(args) != 2:
        return None
    if first == last and (op in _COMPARISONS or op == "-"):
        return Const(0) if op == "-" else Const(op in ("<=", ">=", "=="))
    left = first.value if isinstance(first, Const) else None
    right = last.value if isinstance(last, Const) else None
    if kind == "int" and ((op in "+-" and right == 0) or (op in ("*", "//") and right == 1)):
        return first
    if (op == "+" and left == 0) or (op == "*" and left == 1):
        return last
    if (op == "*" and 0 in (left, right)) or (op == "%" and right == 1):
        return Const(0)
    return None


def variables(expr: Expr) -> frozenset[str]:
    """The names that `expr` depends on."""
    match expr:
        case Var(name=name):
            return frozenset((name,))
        case Table(index=index):
            return variables(index)
        case Apply(args=args):
            return frozenset().union(*map(variables, args))
        case _:
            return frozenset()


# Text -------------------------------------------------------------------------------------------------------------


def _text(expr: Expr, minimum: int) -> str:
    level = _ATOM
    match expr:
        case Var(name=text):
            pass
        case Const(value=value):
            text = repr(value)
            level = _UNARY if text.startswith("-") else _ATOM
        case Table(values=values, index=index):
            text = f"[{', '.join(map(repr, values))}][{_text(index, 0)}]"
        case Apply(op="neg" | "~", args=(operand,)):
            text = f"{'-' if expr.op == 'neg' else '~'}{_text(operand, _UNARY)}"
            level = _UNARY
        case Apply(op=op, args=(first, *rest)) if op in _LEVELS:
            level = _LEVELS[op]
            chains = op not in ("&", "|", *_COMPARISONS)  # the others never have themselves as left operand
            text = f" {op} ".join([_text(first, level + (not chains)), *(_text(part, level + 1) for part in rest)])
        case Apply(op=op, args=args):
            text = f"{op}({', '.join(_text(part, 0) for part in args)})"
        case _:
            raise TypeError(f"not an expression: {type(expr).__name__}")
    return text if level >= minimum else f"({text})"


_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign><=|>=|==|!=|//|[-+*/%<>&|~()\[\],])|(?P<space>[ \t\r\n]+)"
)


def parse(text: str) -> Expr:
    """Read an expression in Python's infix, the inverse of `str`.

    Comparisons do not chain; `and or not` are `& | ~`. Any malformed text is a `RopegenError` that shows the place.
    """
    if len(text) > MAX_TEXT:
        raise RopegenError(f"an expression has at most {MAX_TEXT} characters, got {len(text)}")
    return _Parser(text).whole()


class _Parser:
    """Precedence climbing over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text, self.place, self.nesting = text, 0, 0
        self.tokens: list[tuple[str, str, int]] = []
        offset = 0
        while offset < len(text):
            found = _TOKEN.match(text, offset)
            if found is None:
                raise self.error(f"{text[offset]!r} is no part of an expression", offset)
            if found.lastgroup != "space":
                self.tokens.append((found.lastgroup or "", found.group(), offset))
            offset = found.end()
        self.tokens.append(("end", "the end", offset))

    def error(self, what: str | RopegenError, offset: int) -> RopegenError:
        lines = (self.text[:offset] + "^").splitlines()
        error = RopegenError(what) if isinstance(what, str) else what
        return error.located(self.text, len(lines), len(lines[-1]), "<expression>")

    def take(self, *expected: str) -> tuple[str, str, int]:
        token = self.tokens[self.place]
        if expected and token[1] not in expected:
            raise self.error(f"expected {' or '.join(expected)}, got {_shown(token[1])}", token[2])
        self.place += 1
        return token

    def build(self, offset: int, make: Callable[..., Expr], *parts: Any) -> Expr:
        try:
            return make(*parts)
        except RopegenError as error:
            raise self.error(error, offset) from None

    def whole(self) -> Expr:
        expr = self.expression(0)
        kind, word, offset = self.tokens[self.place]
        if kind != "end":
            hint = f"; {_LOGIC}" if word in ("and", "or", "not", "if", "in", "is") or word in _COMPARISONS else ""
            raise self.error(f"expected an operator or the end, got {_shown(word)}{hint}", offset)
        return expr

    def expression(self, minimum: int) -> Expr:
        self.nesting += 1
        if self.nesting > 2 * MAX_DEPTH + 2:  # an operand in parentheses is two calls
            raise self.error(f"nested deeper than {MAX_DEPTH} levels", self.tokens[self.place][2])
        left = self.prefix()
        while (level := _LEVELS.get(op := self.tokens[self.place][1], -1)) >= minimum:
            offset, operands = self.tokens[self.place][2], [left]
            while self.tokens[self.place][1] == op:
                self.take()
                operands.append(self.expression(level + 1))
                if op not in ("&", "|"):
                    break
            left = self.build(offset, apply, op, *operands)
            if op in _COMPARISONS:
                minimum = level + 1  # a second comparison is left over, and an error
        self.nesting -= 1
        return left

    def prefix(self) -> Expr:
        kind, word, offset = self.take()
        if kind == "number":
            return self.build(offset, Const, self.number(word, offset))
        if word == "-" and self.tokens[self.place][0] == "number":
            return self.build(offset, Const, self.number(f"-{self.take()[1]}", offset))
        if word in ("-", "~"):
            return self.build(offset, apply, "neg" if word == "-" else "~", self.expression(_UNARY))
        if word == "(":
            inner = self.expression(0)
            self.take(")")
            return inner
        if word == "[":
            values = self.sequence("]", self.entry)
            self.take("[")
            index = self.expression(0)
            self.take("]")
            return self.build(offset, _table, values, index)
        if word in ("True", "False"):
            return Const(word == "True")
        if word in _FUNCTIONS:
            self.take("(")
            return self.build(offset, apply, word, *self.sequence(")", lambda: self.expression(0)))
        if word in (*NAMES, "score"):
            return Var(word)
        hint = f"; {nearest(word, (*NAMES, 'score', *_FUNCTIONS, 'True', 'False'))}" if kind == "name" else ""
        raise self.error(f"expected a name, a number, a function or a bracket, got {_shown(word)}{hint}", offset)

    def sequence(self, close: str, item: Callable[[], Any]) -> list[Any]:
        items = [item()]
        while self.take(",", close)[1] == ",":
            items.append(item())
        return items

    def entry(self) -> bool | int | float:
        kind, word, offset = self.take()
        if word in ("True", "False"):
            return word == "True"
        if word == "-":
            kind, digits, offset = self.take()
            word = f"-{digits}"
        if kind != "number":
            raise self.error(f"a table holds numbers, True and False, got {_shown(word)}", offset)
        return self.number(word, offset)

    def number(self, word: str, offset: int) -> int | float:
        if not word.lstrip("-").isdigit():
            return float(word)
        if len(word.lstrip("-0")) > 10:
            raise self.error(f"an integer constant fits int32, {_shown(word, 30)} does not", offset)
        return int(word)


# Tracing ----------------------------------------------------------------------------------------------------------

_UFUNCS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "true_divide": "/", "floor_divide": "//",
    "remainder": "%", "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==",
    "not_equal": "!=", "logical_and": "&", "bitwise_and": "&", "logical_or": "|", "bitwise_or": "|",
    "logical_not": "~", "invert": "~", "negative": "neg", "absolute": "abs", "minimum": "min", "maximum": "max",
    "exp": "exp", "log": "log", "tanh": "tanh", "sqrt": "sqrt",
}  # fmt: skip


def _refuse(way_out: str) -> Callable[..., Any]:
    def refuse(self: Traced, *_: object) -> Any:
        raise RopegenError(f"`{_shown(self.expr)}` is traced once and has no value yet: {way_out}")

    return refuse


def _binary(op: str) -> Callable[[Traced, Operand], Traced]:
    return lambda self, other: Traced(apply(op, self, other))


def _reflected(op: str) -> Callable[[Traced, Operand], Traced]:
    return lambda self, other: Traced(apply(op, other, self))


def _unary(op: str) -> Callable[[Traced], Traced]:
    return lambda self: Traced(apply(op, self))


class Traced:
    """What a traced function is called with: its operators build an expression instead of a value."""

    __slots__ = ("expr",)
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __init__(self, expr: Expr) -> None:
        self.expr = expr

    def __repr__(self) -> str:
        return f"Traced({self.expr})"

    __add__, __radd__ = _binary("+"), _reflected("+")
    __sub__, __rsub__ = _binary("-"), _reflected("-")
    __mul__, __rmul__ = _binary("*"), _reflected("*")
    __truediv__, __rtruediv__ = _binary("/"), _reflected("/")
    __floordiv__, __rfloordiv__ = _binary("//"), _reflected("//")
    __mod__, __rmod__ = _binary("%"), _reflected("%")
    __and__, __rand__ = _binary("&"), _reflected("&")
    __or__, __ror__ = _binary("|"), _reflected("|")
    __lt__, __le__, __gt__, __ge__ = _binary("<"), _binary("<="), _binary(">"), _binary(">=")
    __eq__ = _binary("==")  # pyright: ignore[reportAssignmentType]
    __ne__ = _binary("!=")  # pyright: ignore[reportAssignmentType]
    __neg__, __abs__, __invert__ = _unary("neg"), _unary("abs"), _unary("~")

    __bool__: Callable[[Traced], bool] = _refuse(_LOGIC)
    __index__ = __int__ = _refuse("look a value up with masks.table(values, index)")
    __float__ = _refuse("use masks.exp, log, tanh, sqrt, minimum, maximum, absolute, where")
    __pow__ = __rpow__ = _refuse("there is no **; write x * x, or masks.exp(x * c) for a power of a constant")
    __xor__ = __rxor__ = _refuse("there is no ^; write a != b")
    __lshift__ = __rlshift__ = _refuse("there is no <<; multiply by a power of two")
    __rshift__ = __rrshift__ = _refuse("there is no >>; use // with a power of two")
    __iter__ = __getitem__ = __len__ = _refuse("it is one number, not a sequence")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Operand, **_: Any) -> Traced:
        """NumPy's scalars and functions (`np.int64(3) + q_pos`, `np.exp(score)`) trace like our own."""
        if method != "__call__" or ufunc.__name__ not in _UFUNCS:
            raise RopegenError(f"np.{ufunc.__name__} has no place in an expression; known: {', '.join(_FUNCTIONS)}")
        return Traced(apply(_UFUNCS[ufunc.__name__], *inputs))


Operand: TypeAlias = Expr | Traced | bool | int | float
MaskLike: TypeAlias = Expr | Traced | bool | Callable[..., Any]
ScoreLike: TypeAlias = Expr | Traced | float | Callable[..., Any]


def _operand(value: Operand) -> Expr:
    return value if isinstance(value, Expr) else value.expr if isinstance(value, Traced) else Const(value)


def where(condition: Operand, chosen: Operand, otherwise: Operand) -> Traced:
    """`chosen` where `condition`, else `otherwise`."""
    return Traced(apply("where", condition, chosen, otherwise))


def _function(op: str) -> Callable[..., Traced]:
    return lambda *operands: Traced(apply(op, *operands))


minimum, maximum, absolute = _function("min"), _function("max"), _function("abs")
exp, log, tanh, sqrt = _function("exp"), _function("log"), _function("tanh"), _function("sqrt")


def mask(function: Callable[..., Any]) -> Expr:
    """The mask that a Python function of any of `NAMES` computes; it is called once, with traced values.

    Other parameters must have defaults, which are kept.
    """
    return as_mask(_trace(function, NAMES))


def score(function: Callable[..., Any]) -> Expr:
    """The score expression that a Python function of `score` and any of `NAMES` computes; it is called once."""
    return as_score(_trace(function, ("score", *NAMES)))


def _trace(function: Callable[..., Any], names: Sequence[str]) -> Expr:
    title = getattr(function, "__name__", type(function).__name__)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise RopegenError(f"{title} has no readable signature; wrap it: lambda q_pos, kv_pos: ...") from None
    arguments: dict[str, Traced] = {}
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise RopegenError(f"{title} must name its parameters ({', '.join(names)}), got {parameter}")
        if parameter.name in names:
            arguments[parameter.name] = Traced(Var(parameter.name))
        elif parameter.default is parameter.empty:
            hint = nearest(parameter.name, names)
            raise RopegenError(f"{title} has a parameter {parameter.name!r} that nothing gives a value; {hint}")
    try:
        result = function(**arguments)
    except TypeError as error:  # a function of arrays was given a traced value
        raise RopegenError(
            f"{title} cannot be traced: {error}; use operators and masks.where, minimum, maximum, absolute, exp, log, "
            "tanh, sqrt, table, or give a dense mask or bias"
        ) from error
    return _operand(result)


def as_mask(given: MaskLike) -> Expr:
    """A mask from an expression, a function or a constant."""
    expr = mask(given) if callable(given) else _operand(given)
    if expr.kind != "bool" or "score" in variables(expr):
        raise RopegenError(
            f"a mask is a boolean expression of {', '.join(NAMES)}; got {expr.kind} `{_shown(expr)}`; "
            "compare numbers to make a boolean, and change scores with a score expression"
        )
    return expr


def as_score(given: ScoreLike) -> Expr:
    """A score expression from an expression, a function or a constant."""
    expr = score(given) if callable(given) else _operand(given)
    if isinstance(expr, Const) and expr.kind == "int":
        expr = Const(float(expr.value))
    if expr.kind != "float":
        raise RopegenError(
            f"a score expression is a float; got {expr.kind} `{_shown(expr)}`; "
            "combine it with `score`, as in score + 0.1 * q_pos or masks.where(condition, score, 0.0)"
        )
    return expr


# The named ones ---------------------------------------------------------------------------------------------------

identity = Var("score")
full, nothing = Const(True), Const(False)
causal = apply("<=", Var("kv_pos"), Var("q_pos"))
segments = apply("==", Var("q_segment"), Var("kv_segment"))


def window(left: int | None, right: int | None = None) -> Expr:
    """Keys at distance below `left` before the query and below `right` after it; None is no limit on that side.

    `window(n)` is `q_pos - kv_pos < n`: the query's own position and the n - 1 before it, and, until combined
    with `causal`, every later one. `window(None, m)` is `kv_pos - q_pos < m`; `window(n, m)` is both.
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
    """Keys at the first `length` positions: `kv_pos < length`. For a prefix language model, or it with `causal`."""
    return apply("<", Var("kv_pos"), _count("prefix", length))


def _count(what: str, given: int) -> int:
    value = _plain(given)
    if _kind_of(value) != "int" or value < 1:
        raise RopegenError(f"{what} takes a number of positions, an integer of at least 1; got {given}")
    return int(value)


def alibi(slopes: Iterable[float]) -> Expr:
    """`score - slopes[head] * abs(q_pos - kv_pos)`, one slope a head: attention with linear biases."""
    per_head = _table(map(float, slopes), Var("head"))
    distance = apply("abs", apply("-", Var("q_pos"), Var("kv_pos")))
    return apply("-", identity, apply("*", per_head, distance))


def alibi_slopes(heads: int) -> tuple[float, ...]:
    """The slopes of Press, Smith and Lewis (2022): 2^(-8 i / heads), i = 1...heads, where `heads` is a power of two.

    Otherwise those of the power of two below, then every other slope of the power of two above.
    """
    heads = _count("alibi_slopes", heads)
    below = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8 * i / below) for i in range(1, below + 1)]
    return (*slopes, *(2.0 ** (-4 * i / below) for i in range(1, 2 * (heads - below), 2)))


# Values -----------------------------------------------------------------------------------------------------------


def evaluate(expr: Expr, xp: Any, *, lookup: Literal["gather", "select"] = "gather", **values: Array) -> Array:
    """The value of `expr` in module `xp` (`numpy` or `jax.numpy`), where `values` gives each name a broadcasting array.

    Integers become int32; floats have the dtype of `score`, float32 without one. The result broadcasts only the
    values that it depends on. `lookup="select"` reads a table by comparisons alone, for a kernel that cannot gather.
    """
    for name in values.keys() - {*NAMES, "score"}:
        raise RopegenError(f"an expression has no name {name!r}; {nearest(name, (*NAMES, 'score'))}")
    floating = np.dtype(getattr(values.get("score"), "dtype", np.float32))
    dtypes = {"bool": np.dtype(np.bool_), "int": np.dtype(np.int32), "float": floating}
    known: dict[Expr, Array] = {}

    def value(node: Expr) -> Array:
        if node not in known:
            known[node] = compute(node)
        return known[node]

    def compute(node: Expr) -> Array:
        dtype = dtypes[node.kind]
        match node:
            case Var(name=name):
                if name not in values:
                    raise RopegenError(f"`{_shown(expr)}` needs a value for {name}; give evaluate(..., {name}=)")
                given = values[name] if hasattr(values[name], "dtype") else dtype.type(values[name])
                return given if given.dtype == dtype else given.astype(dtype)
            case Const(value=constant):
                return dtype.type(constant)  # a typed scalar: neither upcasts nor is captured by a kernel
            case Table(values=entries, index=index):
                array = np.asarray(entries, dtype)
                if lookup == "gather":
                    return xp.take(xp.asarray(array), value(index), mode="clip")
                steps = enumerate(array[1:], start=1)
                return functools.reduce(
                    lambda low, step: xp.where(value(index) >= step[0], step[1], low), steps, array[0]
                )
            case Apply(op=op, args=args):
                parts = [value(arg) for arg in args]
                if "float" in {node.kind, *(arg.kind for arg in args)}:
                    parts = [x.astype(floating) if arg.kind == "int" else x for x, arg in zip(parts, args, strict=True)]
                return _operate(op, parts, args, xp)
            case _:
                raise TypeError(f"not an expression: {type(node).__name__}")

    with np.errstate(all="ignore"):  # wrap-around and IEEE 754 are the meaning, no accident
        return value(expr)


def _operate(op: str, parts: Sequence[Array], args: Sequence[Expr], xp: Any) -> Array:
    if op in ("&", "|"):
        return functools.reduce(operator.and_ if op == "&" else operator.or_, parts)
    if op == "~":
        return xp.logical_not(parts[0])
    if op in _FUNCTIONS:
        return getattr(xp, {"min": "minimum", "max": "maximum"}.get(op, op))(*parts)
    if op not in ("//", "%"):
        return _PYTHON[op](*parts)
    left, right = parts
    if isinstance(args[1], Const):
        divisor = int(args[1].value)
        if divisor & (divisor - 1) == 0 and divisor > 0:  # a shift and a bit mask also round to minus infinity
            return left >> np.int32(divisor.bit_length() - 1) if op == "//" else left & np.int32(divisor - 1)
        return _PYTHON[op](left, right)
    zero = right == 0
    return xp.where(zero, np.int32(0), _PYTHON[op](left, xp.where(zero, np.int32(1), right)))


# Tiles ------------------------------------------------------------------------------------------------------------

# The interval of a node: the lowest and the highest value it may take, as two arrays that broadcast to (n, m).
# Booleans are 0..1; integers int64 within int32; floats float64, NaN at both ends for "any value, NaN included".
Interval: TypeAlias = tuple[npt.NDArray[Any], npt.NDArray[Any]]
EMPTY, PARTIAL, FULL = 0, 1, 2


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
    """Whether a mask keeps nothing or everything of a tile, each name in an inclusive range (None: any value).

    "partial" also where the analysis cannot tell; "empty" and "full" are always right.
    """
    anything = (_INT_MIN, _INT_MAX)
    q_tile, kv_tile = np.array([q_pos or anything]), np.array([kv_pos or anything])
    found = classify_tiles(expr, q_tile, kv_tile, q_segment=q_segment, kv_segment=kv_segment, head=head, batch=batch)
    return ("empty", "partial", "full")[int(found[0, 0])]


def classify_tiles(
    expr: Expr,
    q_tiles: npt.ArrayLike,
    kv_tiles: npt.ArrayLike,
    *,
    q_segment: Range | npt.ArrayLike = None,
    kv_segment: Range | npt.ArrayLike = None,
    head: Range = None,
    batch: Range = None,
) -> npt.NDArray[np.int8]:
    """`classify` of every tile of a map: int8 (n, m), `EMPTY` 0, `PARTIAL` 1 or `FULL` 2.

    `q_tiles` (n, 2) and `kv_tiles` (m, 2) hold the inclusive position ranges of the rows and columns. Segment
    ranges are one pair, or (n, 2) for `q_segment` and (m, 2) for `kv_segment`. Cost: arrays of n m int64.
    """
    if expr.kind != "bool":
        raise RopegenError(f"a tile is classified by a mask, got {expr.kind} `{_shown(expr)}`")
    given = {"q_pos": q_tiles, "kv_pos": kv_tiles, "q_segment": q_segment, "kv_segment": kv_segment}
    ranges = {name: _bounds(name, bounds) for name, bounds in (given | {"head": head, "batch": batch}).items()}
    shape = (ranges["q_pos"][0].shape[0], ranges["kv_pos"][0].shape[1])
    for name, (low, _) in ranges.items():
        if any(count not in (1, size) for count, size in zip(low.shape, shape, strict=True)):
            raise RopegenError(
                f"{name} gives {low.size} ranges for {shape[0]} x {shape[1]} tiles; give one a row or column"
            )
    with np.errstate(all="ignore"):
        low, high = _interval(expr, ranges, {})
    return np.broadcast_to(low.astype(np.int8) + high.astype(np.int8), shape).copy()


def _bounds(name: str, given: Range | npt.ArrayLike) -> Interval:
    if given is None:
        given = (0 if name in ("head", "batch") else _INT_MIN, _INT_MAX)
    pairs = np.asarray(given)
    if pairs.shape == (2,):
        pairs = pairs[None]
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise RopegenError(
            f"{name} takes inclusive integer ranges (low, high), got {pairs.dtype} of shape {pairs.shape}"
        )
    pairs = pairs.astype(np.int64)
    if np.any((pairs[:, 0] > pairs[:, 1]) | (pairs[:, 0] < _INT_MIN) | (pairs[:, 1] > _INT_MAX)):
        raise RopegenError(f"a range of {name} has low <= high and fits int32, got {_shown(pairs.tolist())}")
    low, high = pairs.T[:, None, :] if name.startswith("kv_") else pairs.T[:, :, None]
    return low, high


def _interval(node: Expr, ranges: Mapping[str, Interval], known: dict[Expr, Interval]) -> Interval:
    if node in known:
        return known[node]
    match node:
        case Var(name="score"):
            found = np.full((1, 1), np.nan), np.full((1, 1), np.nan)
        case Var(name=name):
            found = ranges[name]
        case Const(value=value):
            point = np.array([[value]], {"bool": np.bool_, "int": np.int64, "float": np.float64}[node.kind])
            found = _to_float((point, point)) if node.kind == "float" else (point, point)
        case Table(values=values, index=index):
            found = _entries(np.array(values), _interval(index, ranges, known))
            found = _to_float(found) if node.kind == "float" else found
        case Apply(op=op, args=args):
            parts = [_interval(arg, ranges, known) for arg in args]
            if floats := "float" in {node.kind, *(arg.kind for arg in args)}:
                parts = [_to_float(part) if arg.kind == "int" else part for part, arg in zip(parts, args, strict=True)]
            if node.kind == "bool" and op != "where":
                found = _decide(op, parts)
            else:
                found = (_float_interval if floats else _int_interval)(op, parts)
        case _:
            raise TypeError(f"not an expression: {type(node).__name__}")
    known[node] = found
    return found


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
    """The operations that round nothing, for every kind."""
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
    found = _exact_interval(op, parts)
    if found is None:
        (a, b), (c, d) = parts
        zero = (c <= 0) & (d >= 0)
        if op in ("+", "-", "*"):
            found = _corners(_PYTHON[op], *parts)
        elif op == "//":  # toward a divisor of 0 the quotient grows without bound; at it, it is 0
            safe = np.where(zero, 1, c), np.where(zero, 1, d)
            low, high = _corners(np.floor_divide, (a, b), safe)
            found = np.where(zero, _INT_MIN, low), np.where(zero, _INT_MAX, high)
        else:  # a remainder has the sign of the divisor and is smaller; within one period it is a difference
            safe = np.where(c == 0, 1, c)
            one_period = (c == d) & (c != 0) & (a // safe == b // safe)
            low, high = np.where(c < 0, c + 1, 0), np.where(d > 0, d - 1, 0)
            found = np.where(one_period, a % safe, low), np.where(one_period, b % safe, high)
    low, high = found
    if low.dtype == np.bool_:
        return found
    wraps = (low < _INT_MIN) | (high > _INT_MAX)
    return np.where(wraps, _INT_MIN, low), np.where(wraps, _INT_MAX, high)


def _float_interval(op: str, parts: Sequence[Interval]) -> Interval:
    found = _exact_interval(op, parts)
    if found is not None:
        return found
    if op in ("exp", "log", "tanh", "sqrt"):
        function = getattr(np, op)
        return _widened(function(parts[0][0]), function(parts[0][1]), 1e-4, 1e-5)
    low, high = _corners(_PYTHON[op], *parts)
    if op == "/":
        c, d = parts[1]
        low = np.where((c <= 0) & (d >= 0), np.nan, low)
    return _widened(low, high, 1e-6, 1e-37)


def _widened(low: npt.NDArray[Any], high: npt.NDArray[Any], relative: float, absolute: float) -> Interval:
    """Room for rounding in float32, flushed subnormals and approximate functions; NaN where float32 may overflow."""
    low = low - (np.abs(low) * relative + absolute)
    high = high + (np.abs(high) * relative + absolute)
    safe = (low >= -_FLOAT_MAX) & (high <= _FLOAT_MAX)
    return np.where(safe, low, np.nan), np.where(safe, high, np.nan)


def _to_float(given: Interval) -> Interval:
    """The float32 or float64 values of an interval of integers or constants: itself where float32 holds both ends."""
    low, high = (end.astype(np.float64) for end in given)
    wide = _widened(low, high, 1e-6, 1e-37)
    exact = np.ones(low.shape, np.bool_)
    for end in (low, high):
        exact &= (end.astype(np.float32) == end) & ((np.abs(end) >= _FLOAT_TINY) | (end == 0))
    return np.where(exact, low, wide[0]), np.where(exact, high, wide[1])


def _entries(values: npt.NDArray[Any], index: Interval) -> Interval:
    """The least and the greatest entry of each index range, from the extremes of every run of 2^k entries."""
    count = len(values)
    first, last = (np.clip(end, 0, count - 1) for end in index)
    level = np.log2(last - first + 1).astype(np.int64)
    second = last - (1 << level) + 1
    found: list[npt.NDArray[Any]] = []
    for pick in (np.minimum, np.maximum):
        runs = [values]
        for k in range(count.bit_length() - 1):
            runs.append(pick(runs[-1], runs[-1][np.minimum(np.arange(count) + (1 << k), count - 1)]))
        stacked = np.stack(runs)
        found.append(pick(stacked[level, first], stacked[level, second]))
    return found[0], found[1]
