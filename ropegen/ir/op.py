"""How an op is declared: operands, typed attributes and `infer`, nothing else."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from dataclasses import dataclass
from typing import Any, ClassVar, Union

from ropegen.errors import RopegenError, nearest
from ropegen.masks import Expr
from ropegen.scaling import Scaling
from ropegen.types import TensorType

# What an attribute can be. A TensorType is the one kind that the text form writes as the result type.
AttributeValue = Union[
    str, int, float, bool, "tuple[int, ...]", "tuple[float, ...]", "tuple[str, ...]", Expr, Scaling, TensorType, None
]


def attribute(
    *, default: Any = dataclasses.MISSING, choices: tuple[str, ...] = (), minimum: float | None = None
) -> Any:
    """Declare an attribute of an op: its default, the words it may be, the least value it may have."""
    return dataclasses.field(default=default, metadata={"choices": choices, "minimum": minimum})


@dataclass(frozen=True, kw_only=True)
class Op:
    """The base of every op. A subclass is a frozen dataclass whose fields are its attributes.

    `required` and `optional` name the operands in order; an op with optional operands has the attribute
    `given`, which says which of them follow the required ones. `variadic` names an operand that repeats.
    """

    name: ClassVar[str]
    required: ClassVar[tuple[str, ...]] = ()
    optional: ClassVar[tuple[str, ...]] = ()
    variadic: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for declared in attributes(type(self)):
            value = _checked(self.name, declared, getattr(self, declared.name))
            object.__setattr__(self, declared.name, value)
        given: tuple[str, ...] = getattr(self, "given", ())
        if list(given) != [each for each in self.optional if each in given]:
            raise self.refuse(
                f"the operands {list(given)} are out of order",
                f"give each once, in the order {', '.join(self.optional)}",
            )

    def operand_names(self, count: int | None = None) -> tuple[str, ...]:
        """The operands' names in order; `count` operands are expected by a variadic op."""
        given: tuple[str, ...] = getattr(self, "given", ())
        repeats = max(0, (count or 0) - len(self.required)) if self.variadic else 0
        return (*self.required, *given, *(f"{self.variadic}{index}" for index in range(repeats)))

    def infer(self, *operands: TensorType) -> TensorType:
        """The type of the result.

        Raises:
          RopegenError: the operands' shapes or element types break the op's rule.
        """
        raise NotImplementedError

    def refuse(self, problem: str, way_out: str) -> RopegenError:
        """The error for a broken rule of this op: `problem` says what was asked and the values."""
        return RopegenError(f"{self.name}: {problem}; {way_out}")


@dataclass(frozen=True)
class Declared:
    """One attribute of an op class, as its dataclass field declares it."""

    name: str
    kinds: tuple[Any, ...]  # the types it may have, NoneType among them when it may be left out
    default: Any
    choices: tuple[str, ...]
    minimum: float | None

    @property
    def is_optional(self) -> bool:
        return self.default is not dataclasses.MISSING


@functools.cache
def attributes(cls: type[Op]) -> tuple[Declared, ...]:
    """The attributes of an op class, in order of declaration."""
    hints = typing.get_type_hints(cls)
    found: list[Declared] = []
    for each in dataclasses.fields(cls):
        hint = hints[each.name]
        kinds = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
        choices = cls.optional if each.name == "given" else each.metadata.get("choices", ())
        found.append(Declared(each.name, kinds, each.default, choices, each.metadata.get("minimum")))
    return tuple(found)


def _checked(op: str, declared: Declared, value: Any) -> Any:
    """`value` in the attribute's own type, so that equal attributes are equal values, or an error."""
    where = f"{op}: attribute {declared.name!r}"
    if value is None and type(None) in declared.kinds:
        return None
    kind = next(each for each in declared.kinds if each is not type(None))
    value = _as_kind(where, kind, value)
    if declared.choices:
        for word in value if isinstance(value, tuple) else (value,):
            if word not in declared.choices:
                raise RopegenError(f"{where} is {word!r}; {nearest(str(word), declared.choices)}")
    if declared.minimum is not None:
        for number in value if isinstance(value, tuple) else (value,):
            if number < declared.minimum:
                raise RopegenError(f"{where} is {number}; it must be at least {declared.minimum:g}")
    return value


def _as_kind(where: str, kind: Any, value: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, (tuple, list)):
            raise RopegenError(f"{where} is {value!r}; it must be a list")
        element = typing.get_args(kind)[0]
        return tuple(_as_kind(where, element, each) for each in typing.cast("tuple[Any, ...]", value))
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
        if not math.isfinite(number):
            raise RopegenError(f"{where} is {number}; it must be a finite number")
        return number or 0.0  # -0.0 and 0.0 are equal keys, so they must print alike
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**63:
            raise RopegenError(f"{where} is {value}; it must fit in 64 bits")
        return int(value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise RopegenError(f"{where} is {value!r}; it must be {'a' if kind is not int else 'an'} {kind.__name__}")
