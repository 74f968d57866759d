"""The expressions that masks and scores are made of: one small typed language, and tracing from Python.

An expression is a tree over `q_pos kv_pos q_segment kv_segment head batch` (int32) and, in a score expression,
`score`. It prints as Python-like infix, which `ropegen.expression_parser` reads back (`parse(str(e)) == e`).
`ropegen.masks` names the common ones, evaluates them, and classifies tiles.

A value that is no constant is a leaf of its own: `Number` reads the operand `numbers` of an attention. Until
`ropegen.captured` makes operands of them, `Captured` holds values of JAX, `Shown` a boolean array, `Later` a function that
cannot be traced, and `Hidden` stands for a score of -inf.

Meaning: integers are int32 and wrap; `//` and `%` round to minus infinity, as in Python, and give 0
where the divisor is 0; floats have the dtype of `score` (float32 in a mask) and follow IEEE 754;
`table[i]` clips `i`. An operation on constants alone is computed once, in float64, when the tree is built.
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.core import Tracer
from jax.errors import ConcretizationTypeError

from ropegen.errors import RopegenError, nearest

Kind: TypeAlias = Literal["bool", "int", "float"]
Range: TypeAlias = tuple[int, int] | None
Array: TypeAlias = Any  # an array or scalar of NumPy or JAX, tracers included

NAMES = ("q_pos", "kv_pos", "q_segment", "kv_segment", "head", "batch")
MAX_NODES, MAX_DEPTH, MAX_TEXT = 4096, 64, 200_000  # the text of a tree within the first two limits fits the third
_MOST_CONSTANTS = 4000  # a longer array is an operand
INT_MIN, INT_MAX = -(2**31), 2**31 - 1
FLOAT_MAX = float(np.finfo(np.float32).max)
FLOAT_TINY = float(np.finfo(np.float32).tiny)

COMPARISONS = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}  # a comparison: its negation
LEVELS = dict.fromkeys(COMPARISONS, 1) | {"|": 2, "&": 3, "+": 4, "-": 4, "*": 5, "/": 5, "//": 5, "%": 5}
UNARY, _ATOM = 6, 7
FUNCTIONS = {"min": 2, "max": 2, "abs": 1, "exp": 1, "log": 1, "tanh": 1, "sqrt": 1, "where": 3}
_ARITY = dict.fromkeys(LEVELS, 2) | {"neg": 1, "~": 1} | FUNCTIONS
LOGIC = "combine conditions with & | ~ and masks.where; `and`, `or`, `not`, `if`, `in` and `a < b < c` cannot be traced"


# The tree ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, repr=False)
class Expr:
    """A frozen, hashable expression; `==` compares structure. Masks combine with `&`, `|` and `~`.

    `kind` is "bool", "int" or "float"; `size` counts nodes and table entries; `depth` counts levels. Make an
    expression with a named mask, `mask`, `score`, `parse` or `apply`: these keep it canonical.
    """

    __array_ufunc__: ClassVar[None] = None  # so that NumPy leaves `array & mask` to the mask, which refuses it

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

    def __xor__(self, other: MaskLike) -> Expr:
        return apply("!=", as_mask(self), as_mask(other))

    def __rxor__(self, other: MaskLike) -> Expr:
        return apply("!=", as_mask(other), as_mask(self))

    def __invert__(self) -> Expr:
        return apply("~", as_mask(self))

    def _refuse_arithmetic(self, _: object) -> Any:
        raise RopegenError(
            f"`{excerpt(self)}` is no number: combine masks with & | ^ ~, and write arithmetic in a function, as in "
            "lambda score, q_pos, kv_pos: score + (kv_pos - q_pos)"
        )

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse_arithmetic
    __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = __matmul__ = __rmatmul__ = __pow__ = _refuse_arithmetic
    __lt__ = __le__ = __gt__ = __ge__ = _refuse_arithmetic

    def __neg__(self) -> Any:
        return self._refuse_arithmetic(None)

    def __bool__(self) -> bool:
        raise RopegenError(f"`{excerpt(self)}` has no truth value of its own: {LOGIC}")


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
        value = constant_of(self.value)
        object.__setattr__(self, "value", value)
        _seal(self, kind_of(value))


@dataclass(frozen=True, slots=True, repr=False)
class Table(Expr):
    """`values[index]` with the index clipped to the table; entries are all bool, all int, or float."""

    values: tuple[bool | int | float, ...]
    index: Expr

    def __post_init__(self) -> None:
        values = tuple(map(constant_of, self.values))
        kinds = set(map(kind_of, values))
        if not values or (len(kinds) > 1 and "bool" in kinds):
            raise RopegenError(f"a table must hold one or more booleans or numbers; got {excerpt(values)}")
        if self.index.kind != "int":
            raise RopegenError(f"a table needs an integer index; `{excerpt(self.index)}` is {self.index.kind}")
        kind: Kind = "float" if "float" in kinds else kind_of(values[0])
        object.__setattr__(self, "values", tuple(map(float, values)) if kind == "float" else values)
        _seal(self, kind, (self.index,), 1 + len(values))


@dataclass(frozen=True, slots=True, repr=False)
class Apply(Expr):
    """An operation: an infix sign, "neg", "~", or a function name; `&` and `|` take two or more operands.

    Use `apply` to make one: it also folds constants, while the class only checks kinds.
    """

    op: str
    args: tuple[Expr, ...]

    def __post_init__(self) -> None:
        _seal(self, _check(self.op, self.args), self.args)


@dataclass(frozen=True, slots=True, repr=False)
class Number(Expr):
    """`numbers[index]`: an entry of the operand `numbers` of an attention, a float, with the index clipped."""

    index: Expr

    def __post_init__(self) -> None:
        if self.index.kind != "int" or "score" in variables(self.index):
            raise RopegenError(f"numbers[...] needs an integer index; `{excerpt(self.index)}` is {self.index.kind}")
        _seal(self, "float", (self.index,))


class Held:
    """A value inside an expression that is compared by identity: an array, or a function."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __str__(self) -> str:
        if hasattr(self.value, "dtype"):
            return f"{self.value.dtype.name}{list(self.value.shape)}"
        return getattr(self.value, "__name__", type(self.value).__name__)


@dataclass(frozen=True, slots=True, repr=False)
class Captured(Expr):
    """`values[index]` of values (n,) that become an operand, with the index clipped; a scalar () is itself."""

    held: Held
    index: Expr

    def __post_init__(self) -> None:
        if self.index.kind != "int":
            raise RopegenError(f"a table needs an integer index; `{excerpt(self.index)}` is {self.index.kind}")
        values = self.held.value
        is_known = isinstance(values, np.ndarray) and values.dtype.kind in "iu" and values.size > 0
        limits = np.iinfo(jax.dtypes.canonicalize_dtype(np.int64))
        if is_known and not limits.min <= values.min() <= values.max() <= limits.max:
            raise RopegenError(
                f"a table of {self.held} holds {values.min()} to {values.max()}, and JAX keeps {limits.bits} bits of an integer "
                "here; give values that fit them"
            )
        _seal(self, _array_kind(values), (self.index,))


@dataclass(frozen=True, slots=True, repr=False)
class Shown(Expr):
    """A boolean array that broadcasts to the scores (..., heads, queries, keys)."""

    held: Held

    def __post_init__(self) -> None:
        _seal(self, "bool")


@dataclass(frozen=True, slots=True, repr=False)
class Later(Expr):
    """A mask or score function that cannot be traced, such as one that indexes an array by `batch`.

    Attention calls it when it knows the shapes: a mask with arrays, a score for every head or batch index.
    """

    held: Held
    names: tuple[str, ...]
    """The parameters that it reads."""
    reason: str
    """The error that tracing ended with."""
    is_score: bool

    def __post_init__(self) -> None:
        _seal(self, "float" if self.is_score else "bool")


@dataclass(frozen=True, slots=True, repr=False)
class Hidden(Expr):
    """A score of -inf, which hides its key."""

    def __post_init__(self) -> None:
        _seal(self, "float")


def _seal(expr: Expr, kind: Kind, parts: Iterable[Expr] = (), own: int = 1) -> None:
    size, depth = own, 0
    for part in parts:
        size, depth = size + part.size, max(depth, part.depth)
    if size > MAX_NODES or depth >= MAX_DEPTH:
        raise RopegenError(
            f"an expression has {size} nodes and {depth + 1} levels; at most {MAX_NODES} and {MAX_DEPTH} are allowed: "
            "use a table, flatten it, or give a dense mask"
        )
    object.__setattr__(expr, "kind", kind)
    object.__setattr__(expr, "size", size)
    object.__setattr__(expr, "depth", depth + 1)


def is_traced(value: Any) -> bool:
    """Whether JAX traces the value: as a constant, it would lose its gradient and its value at run time."""
    return isinstance(value, Tracer)


def _array_kind(array: Any) -> Kind:
    """The kind of the entries of an array."""
    for kind, dtype in (("bool", np.bool_), ("int", np.integer), ("float", np.floating)):
        if jnp.issubdtype(array.dtype, dtype):
            return cast(Kind, kind)
    raise RopegenError(f"an expression takes booleans, integers and floats, got values of type {array.dtype.name}")


def constant_of(value: Any) -> bool | int | float:
    """The Python scalar of a Python, NumPy or JAX scalar; RopegenError for a value that cannot be a constant."""
    if is_traced(value):
        raise RopegenError(
            f"a number is {value.dtype.name}{list(value.shape)}, which jit, grad or vmap traces, and must be known here; give "
            "float(value) or int(value), taken outside of them, or use the value inside a function: "
            "mask=lambda q_pos, kv_pos: q_pos - kv_pos < value"
        )
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not INT_MIN <= value <= INT_MAX:
            shown = value if abs(value) < 10**20 else "it"
            raise RopegenError(f"an integer constant must fit int32, and {shown} does not; write a float such as 3e9")
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RopegenError(
                f"a float constant must be finite, got {value}; to drop a score, use a mask, or end the score function with "
                "masks.where(condition, score, -np.inf)"
            )
        return value + 0.0  # -0.0 + 0.0 is 0.0
    shape = getattr(value, "shape", None)
    shown = excerpt(repr(value)) if shape is None else f"of shape {shape}"
    raise RopegenError(
        f"a constant must be a bool, an int or a float, got {type(value).__name__} {shown}; "
        "write masks.table(values, head) for one value per head, and pass one value per score as bias=array, or a boolean "
        "array as mask=array or masks.causal & array"
    )


def kind_of(value: bool | int | float) -> Kind:
    return "bool" if isinstance(value, bool) else "int" if isinstance(value, int) else "float"


def excerpt(value: object, width: int = 100) -> str:
    text = str(value)
    return text if len(text) <= width else f"{text[:width]}..."


def _check(op: str, args: tuple[Expr, ...]) -> Kind:
    """The kind of the result of `op` on these operands; RopegenError with the rule that they break."""
    kinds = [arg.kind for arg in args]
    if op not in _ARITY:
        raise RopegenError(f"an expression has no operation {op!r}; {nearest(op, _ARITY)}")
    if len(args) != _ARITY[op] and not (op in "&|" and len(args) > 2):
        raise RopegenError(f"{op} takes {_ARITY[op]} operand(s), got {len(args)}")
    number: Kind = "float" if "float" in kinds else "int"

    def wrong(rule: str) -> RopegenError:
        got = ", ".join(f"{arg.kind} `{excerpt(arg)}`" for arg in args)
        return RopegenError(f"{op} {rule}, got {got}")

    if op in ("&", "|", "~"):
        if set(kinds) != {"bool"}:
            raise wrong(
                "takes booleans; compare numbers first, with every comparison in parentheses, as in (a < b) & (c < d)"
            )
        return "bool"
    if op == "where":
        if kinds[0] != "bool" or ("bool" in kinds[1:] and kinds[1] != kinds[2]):
            raise wrong("takes a boolean and two numbers or two booleans")
        return "bool" if kinds[1] == "bool" else "float" if "float" in kinds[1:] else "int"
    if op in ("==", "!=") and set(kinds) == {"bool"}:
        return "bool"
    if "bool" in kinds:
        raise wrong("takes numbers; masks.where(condition, 1, 0) turns a boolean into a number")
    if op in ("//", "%") and number == "float":
        raise wrong("takes integers; / divides floats")
    if op in ("/", "//", "%") and isinstance(args[1], Const) and args[1].value == 0:
        raise wrong("never divides by the constant zero")
    if op in COMPARISONS:
        return "bool"
    return "float" if op in ("/", "exp", "log", "tanh", "sqrt") else number


def _choose(condition: bool, chosen: Any, otherwise: Any) -> Any:
    return chosen if condition else otherwise


PYTHON: dict[str, Callable[..., Any]] = {
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
            value = PYTHON[op](*(cast(Const, arg).value for arg in args))
        except (ValueError, OverflowError):  # for log(-1.0) or exp(1000.0), IEEE 754 decides at run time
            return Apply(op, args)
        return Const(value) if not isinstance(value, float) or math.isfinite(value) else Apply(op, args)
    simpler = _simpler(op, args, kind)
    return Apply(op, args) if simpler is None else simpler


def table(values: Sequence[Any] | npt.NDArray[Any] | jax.Array, index: Operand) -> Traced:
    """`values[index]` inside a traced function, for one value (n,) per index; an index out of range is clipped.

    Values that JAX traces, and more than 4000 values, are an operand, with a gradient where they are floats in a score.
    Others are constants of the program.
    """
    return Traced(looked_up(values, _operand(index)))


def looked_up(values: Any, index: Expr) -> Expr:
    """`values[index]`: a table of constants, or `Captured` for values that must not become constants."""
    is_array = isinstance(values, np.ndarray | jax.Array)
    if not is_array and isinstance(values, Iterable):
        values = tuple(cast("Iterable[Any]", values))
        if any(map(is_traced, values)):
            values, is_array = jnp.stack([jnp.asarray(value) for value in values]), True
    if is_array and (is_traced(values) or values.size > _MOST_CONSTANTS):
        if values.ndim != 1:
            raise RopegenError(
                f"masks.table takes values (n,), one for every index, got {Held(values)}; select a row of them first, or give "
                "one value per score as bias=array or mask=array"
            )
        return Captured(Held(values), index)
    return table_of(values, index)


def table_of(values: Iterable[Any], index: Expr) -> Expr:
    node = Table(tuple(values), index)
    if isinstance(index, Const):
        return Const(node.values[min(max(int(index.value), 0), len(node.values) - 1)])
    return Const(node.values[0]) if len(set(node.values)) == 1 else node


def _junction(op: str, args: tuple[Expr, ...]) -> Expr:
    """`&` or `|`, flattened and without duplicates: (a & b) & a -> a & b, a & True -> a, a & ~a -> False."""
    _check(op, args)
    runs = [arg.args if isinstance(arg, Apply) and arg.op == op else (arg,) for arg in args]
    terms = {term: None for run in runs for term in run}
    neutral, absorbing = Const(op == "&"), Const(op == "|")
    terms.pop(neutral, None)
    if absorbing in terms:
        return absorbing
    # No pair lies within one run: it was simplified when it was made. So one of a pair is outside of the longest run.
    longest = max(range(len(runs)), key=lambda index: len(runs[index]))
    shorter = (term for index, run in enumerate(runs) if index != longest for term in run)
    if len(terms) > 1 and any(apply("~", term) in terms for term in shorter):
        return absorbing
    return Apply(op, tuple(terms)) if len(terms) > 1 else next(iter(terms), neutral)


def _simpler(op: str, args: tuple[Expr, ...], kind: Kind) -> Expr | None:
    """A shorter expression with the same meaning, including int32 wrap-around and NaN, or None."""
    first, last = args[0], args[-1]
    exact = all(arg.kind != "float" for arg in args)
    match op, first:
        case ("neg", Apply(op="neg", args=(inner,))) | ("~", Apply(op="~", args=(inner,))):
            return inner
        case "~", Apply(op=test, args=(a, b)) if test in COMPARISONS and "float" not in (a.kind, b.kind):
            return apply(COMPARISONS[test], a, b)  # with a NaN, ~(a < b) is not a >= b
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
    if first == last and (op in COMPARISONS or op == "-"):
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
        case Table(index=index) | Number(index=index) | Captured(index=index):
            return variables(index)
        case Apply(args=args):
            return frozenset().union(*map(variables, args))
        case Later(names=names):
            return frozenset(names)
        case _:
            return frozenset()


def leaves(expr: Expr) -> frozenset[Expr]:
    """The leaves that are values of some kind: `Number`, `Captured`, `Shown`, `Later` and `Hidden`."""
    match expr:
        case Captured(index=index):
            return leaves(index) | {expr}
        case Number() | Shown() | Later() | Hidden():
            return frozenset((expr,))
        case Table(index=index):
            return leaves(index)
        case Apply(args=args):
            return frozenset().union(*map(leaves, args))
        case _:
            return frozenset()


def expect_plain(what: str, expr: Expr) -> None:
    """Refuses an expression that holds values: the text of a graph cannot.

    Raises:
      RopegenError: there is a value of JAX, an array, a function that cannot be traced, or a score of -inf.
    """
    for leaf in leaves(expr):
        match leaf:
            case Later(reason=reason):
                raise RopegenError(reason)
            case Hidden():
                raise RopegenError(f"{what}: `{excerpt(expr)}` has scores of -inf; hide keys with the mask")
            case Captured() | Shown():
                raise RopegenError(
                    f"{what}: `{excerpt(expr)}` holds a value of the caller, {leaf}, and this takes constants only; give "
                    "ropegen.attention the expression, or make the value an input: bias, mask, or numbers[index] in a score"
                )
            case _:
                pass


def replaced(expr: Expr, old: Expr, new: Expr) -> Expr:
    """`expr` with `new` in place of `old`."""
    match expr:
        case _ if expr == old:
            return new
        case Apply(op=op, args=args):
            return apply(op, *(replaced(arg, old, new) for arg in args))
        case Later():
            raise RopegenError(
                f"{expr.reason}; a soft-cap that jit, grad or vmap traces needs a score that can be traced"
            )
        case _:
            return expr


def shifted(expr: Expr, parts: Mapping[str, tuple[int, int]]) -> Expr:
    """`expr` over a part of the values of some names: with (start, count), the name counts the part, from 0 to count - 1."""
    match expr:
        case Var(name=name) if name in parts:
            return apply("+", expr, parts[name][0])
        case Table(values=values, index=Var(name=name) as index) if name in parts and sum(parts[name]) <= len(values):
            start, count = parts[name]
            return table_of(values[start : start + count], index)
        case Table(values=values, index=index):
            return table_of(values, shifted(index, parts))
        case Number(index=index):
            return Number(shifted(index, parts))
        case Apply(op=op, args=args):
            return apply(op, *(shifted(arg, parts) for arg in args))
        case _:
            return expr


# Text -------------------------------------------------------------------------------------------------------------


def _text(expr: Expr, minimum: int) -> str:
    level = _ATOM
    match expr:
        case Var(name=text):
            pass
        case Const(value=value):
            text = repr(value)
            level = UNARY if text.startswith("-") else _ATOM
        case Table(values=values, index=index):
            text = f"[{', '.join(map(repr, values))}][{_text(index, 0)}]"
        case Number(index=index):
            text = f"numbers[{_text(index, 0)}]"
        case Captured(held=held, index=index):
            text = f"<{held}>" if held.value.ndim == 0 else f"<{held}>[{_text(index, 0)}]"
        case Shown(held=held) | Later(held=held):
            text = f"<{held}>"
        case Hidden():
            text = "-inf"
        case Apply(op="neg" | "~", args=(operand,)):
            text = f"{'-' if expr.op == 'neg' else '~'}{_text(operand, UNARY)}"
            level = UNARY
        case Apply(op=op, args=(first, *rest)) if op in LEVELS:
            level = LEVELS[op]
            chains = op not in ("&", "|", *COMPARISONS)  # those never have themselves as their left operand
            text = f" {op} ".join([_text(first, level + (not chains)), *(_text(part, level + 1) for part in rest)])
        case Apply(op=op, args=args):
            text = f"{op}({', '.join(_text(part, 0) for part in args)})"
        case _:
            raise TypeError(f"not an expression: {type(expr).__name__}")
    return text if level >= minimum else f"({text})"


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
        raise RopegenError(f"`{excerpt(self.expr)}` is traced once and has no value yet: {way_out}")

    return refuse


def _binary(op: str) -> Callable[[Traced, Operand], Traced]:
    return lambda self, other: Traced(apply(op, self, other))


def _reflected(op: str) -> Callable[[Traced, Operand], Traced]:
    return lambda self, other: Traced(apply(op, other, self))


def _unary(op: str) -> Callable[[Traced], Traced]:
    return lambda self: Traced(apply(op, self))


class Traced:
    """The argument of a traced function: its operators build an expression instead of a value."""

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

    __bool__: Callable[[Traced], bool] = _refuse(LOGIC)
    __index__ = __int__ = _refuse("look a value up with masks.table(values, index)")
    __float__ = _refuse("use masks.exp, log, tanh, sqrt, minimum, maximum, absolute, where")
    __pow__ = __rpow__ = _refuse("there is no **; write x * x, or masks.exp(x * c) for a power of a constant")
    __xor__ = __rxor__ = _refuse("there is no ^; write a != b")
    __lshift__ = __rlshift__ = _refuse("there is no <<; multiply by a power of two")
    __rshift__ = __rrshift__ = _refuse("there is no >>; use // with a power of two")
    __iter__ = __getitem__ = __len__ = _refuse("it is one number, not a sequence")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Operand, **_: Any) -> Traced:
        """NumPy's scalars and functions (`np.int64(3) + q_pos`, `np.exp(score)`) trace like the functions of `masks`."""
        if method != "__call__" or ufunc.__name__ not in _UFUNCS:
            raise RopegenError(f"np.{ufunc.__name__} cannot stand in an expression; known: {', '.join(FUNCTIONS)}")
        return Traced(apply(_UFUNCS[ufunc.__name__], *inputs))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """`np.where` and `np.clip` trace too. Any other function of arrays has no traced form."""
        if function is np.where and len(args) == 3 and not kwargs:
            return where(*args)
        if function is np.clip and len(args) == 3 and not kwargs:
            return minimum(maximum(args[0], args[1]), args[2])
        return NotImplemented


Operand: TypeAlias = Expr | Traced | bool | int | float | jax.Array | npt.NDArray[Any]
MaskLike: TypeAlias = Expr | Traced | bool | jax.Array | npt.NDArray[Any] | Callable[..., Any]
ScoreLike: TypeAlias = Expr | Traced | float | Callable[..., Any]


def _operand(value: Operand) -> Expr:
    if isinstance(value, Expr):
        return value
    if isinstance(value, Traced):
        return value.expr
    if isinstance(value, np.ndarray | jax.Array):
        if value.ndim and value.dtype == np.bool_:
            return Shown(Held(value))
        if not value.ndim and is_traced(value):
            return Captured(Held(value), Const(0))
        if value.ndim and is_traced(value):
            raise RopegenError(
                f"an expression combines one number at a time, got an array {Held(value)}; write masks.table(values, head) for "
                "one value per head, bias=array for one per score, and mask=array, of booleans, for a mask"
            )
    if not is_traced(value) and getattr(value, "shape", ()) == () and not isinstance(value, str | bytes):
        number = value.item() if isinstance(value, np.generic | np.ndarray | jax.Array) else value
        if isinstance(number, float) and number == -math.inf:
            return Hidden()
    return Const(cast(Any, value))


def where(condition: Operand, chosen: Operand, otherwise: Operand) -> Traced:
    """`chosen` where `condition`, else `otherwise`."""
    return Traced(apply("where", condition, chosen, otherwise))


def _function(op: str) -> Callable[..., Traced]:
    return lambda *operands: Traced(apply(op, *operands))


minimum = _function("min")
"""The smaller of two numbers."""
maximum = _function("max")
"""The larger of two numbers."""
absolute = _function("abs")
"""The absolute value of a number."""
exp = _function("exp")
"""The exponential of a number."""
log = _function("log")
"""The natural logarithm of a number."""
tanh = _function("tanh")
"""The hyperbolic tangent of a number."""
sqrt = _function("sqrt")
"""The square root of a number."""


def mask(function: Callable[..., Any]) -> Expr:
    """The mask that a Python function of any of `NAMES` computes; the function is called once, with traced values.

    Any other parameter must have a default and keeps it.
    """
    return as_mask(_trace(function, NAMES))


def score(function: Callable[..., Any]) -> Expr:
    """The score expression of a Python function of `score` and any of `NAMES`; the function is called once."""
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
            raise RopegenError(f"{title} has a parameter {parameter.name!r} that gets no value; {hint}")
    try:
        result = function(**arguments)
    except ConcretizationTypeError as error:  # such as float(s), where JAX traces s
        raise RopegenError(
            f"{title} asks for the number of a value that jit, grad or vmap traces; use the value itself, without float(), "
            "int() or bool(): score * s, or masks.where(s > 0, score, 0.0)"
        ) from error
    except (
        TypeError,
        IndexError,
    ) as error:  # a function of arrays was given a traced value, or an array was indexed by it
        reason = (
            f"{title} cannot be traced: a part of it needs a number or an array, and its arguments have no value yet; "
            "use operators and masks.where, minimum, maximum, absolute, exp, log, tanh, sqrt, masks.table(values, index) for "
            "values[index], or give a dense mask or bias"
        )
        is_score = "score" in names
        if not is_score or {"head", "batch"} & arguments.keys():
            return Later(Held(function), tuple(sorted(arguments)), reason, is_score)
        raise RopegenError(reason) from error
    if result is None:
        raise RopegenError(f"{title} returns None; return the mask or score that it computes")
    return _operand(result)


def as_mask(given: MaskLike) -> Expr:
    """A mask from an expression, a function or a constant."""
    if given is None or isinstance(given, str | list | tuple):
        raise RopegenError(
            f"a mask must be an expression, a function or a boolean array, got {excerpt(repr(given))}; "
            "masks.full keeps every key, masks.parse reads text, and np.array turns a list into an array"
        )
    expr = mask(given) if callable(given) else _operand(given)
    if expr.kind != "bool" or "score" in variables(expr):
        raise RopegenError(
            f"a mask must be a boolean expression of {', '.join(NAMES)}; got {expr.kind} `{excerpt(expr)}`; "
            "compare numbers to make a boolean, and change scores with a score expression"
        )
    return expr


def as_score(given: ScoreLike) -> Expr:
    """A score expression from an expression, a function or a constant."""
    if given is None or isinstance(given, str | list | tuple):
        raise RopegenError(
            f"a score must be an expression or a function, got {excerpt(repr(given))}; "
            "masks.identity changes nothing, and masks.parse reads text"
        )
    expr = score(given) if callable(given) else _operand(given)
    if isinstance(expr, Const) and expr.kind == "int":
        expr = Const(float(expr.value))
    if expr.kind != "float":
        raise RopegenError(
            f"a score expression must be a float; got {expr.kind} `{excerpt(expr)}`; "
            "combine it with `score`, as in score + 0.1 * q_pos or masks.where(condition, score, 0.0)"
        )
    return expr
