"""Reads composites back as ops: the inverse of `semantic`, for composites from any author.

A `stablehlo.composite "ropegen.<op>"` holds the op's attributes (see `semantic.written`). It may omit an attribute with
a default. Attributes under ONNX's names must agree with the op's own.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jax.extend.mlir import ir

from ropegen import masks, scaling
from ropegen.emit.module.semantic import VERSION, written
from ropegen.errors import RopegenError, nearest
from ropegen.ir import ops
from ropegen.ir.graph import Node, node
from ropegen.ir.op import Declared, Op, attributes
from ropegen.masks import Expr
from ropegen.scaling import Scaling
from ropegen.types import DTYPES, TensorType

OP = "stablehlo.composite"
PREFIX = "ropegen."

# An input of the graph is an operand of composites, so there is no composite for it.
_KNOWN = {f"{PREFIX}{name}": cls for name, cls in ops.OPS.items() if cls is not ops.Input}
_OWN = frozenset({"name", "composite_attributes", "decomposition", "version"})


@dataclass(frozen=True, eq=False, slots=True)
class Composite:
    """A composite of this dialect that a kernel can replace."""

    operation: Any
    name: str
    op: Op
    operands: tuple[TensorType, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """A composite that keeps its decomposition, and the reason."""

    name: str
    reason: str


def name_of(operation: Any) -> str:
    """The name of a composite of this dialect, with its prefix; empty for every other operation."""
    if operation.name != OP:
        return ""
    name = ir.StringAttr(operation.attributes["name"]).value
    return name if name.startswith(PREFIX) else ""


def read(operation: Any) -> Composite | Left:
    """The op of a composite, or the reason why the composite keeps its decomposition.

    Raises:
      RopegenError: the op or version is unknown, or attributes, operands or results break a rule of the op.
    """
    name = name_of(operation)
    if name not in _KNOWN:
        raise RopegenError(f"there is no op {name!r}; {nearest(name, _KNOWN)}")
    given = operation.attributes
    version = ir.IntegerAttr(given["version"]).value if "version" in given else 0
    if not 0 <= version <= VERSION:  # a composite without a version has version 0
        raise RopegenError(f"it has version {version}, and this ropegen reads up to {VERSION}; update ropegen")
    kinds = [value.type for value in (*operation.operands, *operation.results)]
    unknown = [str(kind) for kind in kinds if isinstance(kind, ir.RankedTensorType) and not kind.has_static_shape]
    unknown += [str(kind) for kind in kinds if isinstance(kind, ir.UnrankedTensorType)]
    if unknown:
        return Left(name, f"the sizes of {unknown[0]} are unknown, and a kernel is made for one shape")
    if foreign := [key for key in _keys(given) if key not in _OWN]:
        return Left(name, f"it carries {', '.join(foreign)}, which a call of a kernel would lose")
    if len(operation.results) != 1:
        raise RopegenError(f"it has {len(operation.results)} results; write one")
    words = _words(given["composite_attributes"]) if "composite_attributes" in given else {}
    op = _op(_KNOWN[name], words)
    operands, result = (
        tuple(_type(value.type) for value in values) for values in (operation.operands, operation.results)
    )
    alone = node(op, *(node(ops.Input(label=f"x{index}", type=kind)) for index, kind in enumerate(operands)))
    if alone.type != result[0]:
        raise RopegenError(f"the result is {result[0]}, but these operands give {alone.type}; write that")
    _agree(alone, words)
    return Composite(operation, name, op, operands)


def _keys(given: Any) -> Iterator[str]:
    return (given[index].name for index in range(len(given)))  # iteration yields different values in different jaxlibs


def _words(given: Any) -> dict[str, ir.Attribute]:
    return {given[index].name: given[index].attr for index in range(len(given))}


def _op(cls: type[Op], words: Mapping[str, ir.Attribute]) -> Op:
    values: dict[str, Any] = {}
    for declared in attributes(cls):
        value = _value(declared, words)
        if value is not None:
            values[declared.name] = value
        elif not declared.is_optional:
            example = " or ".join(f'"{choice}"' for choice in declared.choices)
            raise RopegenError(f"attribute {declared.name!r} is missing; give it{example and ', '}{example}")
    return cls(**values)


def _value(declared: Declared, words: Mapping[str, ir.Attribute]) -> Any:
    """The attribute as a Python value, None if it is missing; the op checks the value."""
    kind = next(option for option in declared.kinds if option is not type(None))
    where = f"attribute {declared.name!r}"
    if kind is Scaling:
        start = f"{declared.name}."
        fields = {key.removeprefix(start): word for key, word in words.items() if key.startswith(start)}
        read = {key: _plain(f"attribute {start + key!r}", word) for key, word in fields.items()}
        lists = {
            key: _numbers(where, value) if isinstance(value, str) and _is_list(value) else value
            for key, value in read.items()
        }
        return scaling.from_attributes(lists) if fields else None
    if declared.name not in words:
        return None
    given = _plain(where, words[declared.name])
    if kind is Expr and isinstance(given, str):
        return masks.parse(given)
    if typing.get_origin(kind) is tuple and isinstance(given, str):
        element = typing.get_args(kind)[0]
        return (
            tuple(part.strip() for part in given.split(",") if part.strip())
            if element is str
            else _numbers(where, given)
        )
    return given


def _is_list(value: str) -> bool:
    """Whether a text is a list of numbers in the form that `semantic` writes."""
    return value.strip("+-").replace(" ", "")[:1].isdigit()


def _numbers(where: str, text: str) -> tuple[int | float, ...]:
    try:
        return tuple(_number(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise RopegenError(f"{where} is {text!r}; give numbers separated by commas") from None


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _plain(where: str, given: ir.Attribute) -> str | int | float | bool:
    """The Python value of an attribute, of the kind that its text shows."""
    if isinstance(given, ir.BoolAttr | ir.IntegerAttr | ir.FloatAttr):
        return given.value
    if isinstance(given, ir.StringAttr):
        try:
            return given.value_bytes.decode()
        except UnicodeDecodeError:
            raise RopegenError(f"{where} is not UTF-8 text; leave the escapes out") from None
    shown = str(given)
    raise RopegenError(
        f"{where} is {shown if len(shown) <= 60 else shown[:60] + '...'}; write a number, true, false or a string (a list as "
        '"1, 2, 3")'
    )


def _type(given: ir.Type) -> TensorType:
    if not isinstance(given, ir.RankedTensorType) or given.encoding is not None:
        raise RopegenError(f"{given} is not a dense tensor; give a type such as tensor<2x8xbf16>")
    dtype = str(given.element_type)
    if dtype not in DTYPES:
        raise RopegenError(f"{given} has the unknown element type {dtype!r}; {nearest(dtype, DTYPES)}")
    return TensorType(tuple(given.shape), dtype)


def _agree(value: Node, words: Mapping[str, ir.Attribute]) -> None:
    """Refuse attributes that the op does not have, and attributes under ONNX's names that contradict the op."""
    op = value.op
    declared = attributes(type(op))
    own = {attribute.name for attribute in declared if Scaling not in attribute.kinds}
    # The fields of a scaling have dotted names; `_value` has read and checked them.
    dotted = tuple(f"{attribute.name}." for attribute in declared if Scaling in attribute.kinds)
    onnx_names = {
        key: attribute for key, attribute in written(value).items() if key not in own and not key.startswith(dotted)
    }
    for key, attribute in words.items():
        if key in own or key.startswith(dotted):
            continue
        if key not in onnx_names:
            raise RopegenError(f"there is no attribute {key!r}; {nearest(key, [*own, *onnx_names])}")
        given = _plain(f"attribute {key!r}", attribute)
        # Only the whole graph shows where positions start, so a causal mask of positions may be ONNX's mask of indices.
        allowed = (
            {0, int(isinstance(op, ops.Attend) and op.visible == masks.causal)}
            if key == "is_causal"
            else {onnx_names[key]}
        )
        if given not in allowed:
            raise RopegenError(f"attribute {key!r} is {given}, but the op has {onnx_names[key]}; leave it out")
