"""The ops that a graph may have at every stage, and the ops in words.

A user writes a `source` graph. The passes make it `canonical`: it says everything in one way, so that the planner
matches few forms. The text of a canonical graph, as `ropegen opt` prints it, is read like any other.
"""

from __future__ import annotations

import inspect
import typing
from dataclasses import MISSING, dataclass
from typing import Any

from ropegen.ir.op import Declared, Op, attributes
from ropegen.ir.ops import OPS, Pack, ReorderPairs
from ropegen.masks import Expr
from ropegen.scaling import Scaling
from ropegen.types import TensorType

# The passes alone make `pack` and `reorder_pairs`, because a user writes parameters as they are stored.
STAGES: dict[str, frozenset[type[Op]]] = {
    "source": frozenset(OPS.values()) - {Pack, ReorderPairs},
    "canonical": frozenset(OPS.values()),
}


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute in words. `default` is None if a value is required; `choices` are the words that it may be."""

    name: str
    kind: str
    default: str | None
    choices: tuple[str, ...]

    def __str__(self) -> str:
        kind = " | ".join(f'"{choice}"' for choice in self.choices) or self.kind
        return f"{self.name}: {kind}" if self.default is None else f"{self.name}: {kind} = {self.default}"


@dataclass(frozen=True, slots=True)
class Description:
    """One op in words. The name of an optional operand ends in `?`, that of one that repeats in `...`."""

    name: str
    sentence: str
    operands: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    stages: tuple[str, ...]

    def __str__(self) -> str:
        given = f" {{{', '.join(map(str, self.attributes))}}}" if self.attributes else ""
        return f"{self.name}({', '.join(self.operands)}){given}\n    {self.sentence}"


def describe() -> tuple[Description, ...]:
    """Every op in words, in the order of `OPS`, from the classes themselves."""
    return tuple(map(_described, OPS.values()))


def _described(cls: type[Op]) -> Description:
    repeated = (f"{cls.variadic}...",) if cls.variadic else ()
    return Description(
        cls.name,
        inspect.cleandoc(cls.__doc__ or "").partition("\n")[0],
        (*cls.required, *(f"{operand}?" for operand in cls.optional), *repeated),
        tuple(_attribute(declared) for declared in attributes(cls) if declared.name != "given"),
        tuple(stage for stage, known in STAGES.items() if cls in known),
    )


_KINDS: dict[Any, str] = {
    str: "string",
    int: "integer",
    float: "float",
    bool: "bool",
    Expr: "expression",
    Scaling: "scaling",
    TensorType: "type",
}


def _attribute(declared: Declared) -> Attribute:
    kind = next(option for option in declared.kinds if option is not type(None))
    elements = typing.get_args(kind) if typing.get_origin(kind) is tuple else ()
    words = f"[{_KINDS[elements[0]]}]" if elements else _KINDS[kind]
    return Attribute(declared.name, words, _default(declared.default), declared.choices)


def _default(value: object) -> str | None:
    match value:
        case bool():
            return str(value).lower()
        case None:
            return "none"
        case str() | Expr():
            return f'"{value}"'
        case tuple():
            return f"[{', '.join(map(str, typing.cast('tuple[object, ...]', value)))}]"
        case _:
            return None if value is MISSING else str(value)
