"""Composites read back as ops: the inverse of `semantic`, from what anybody wrote under those names.

`stablehlo.composite "ropegen.<op>"` holds the op's attributes in words (see `semantic.written`). An attribute with a
default may be left out; ONNX's names beside the op's own must say the same as the op.
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

# A value from outside is an operand of a composite, never one itself.
_KNOWN = {f"{PREFIX}{name}": cls for name, cls in ops.OPS.items() if cls is not ops.Input}
_OWN = frozenset({"name", "composite_attributes", "decomposition", "version"})


@dataclass(frozen=True, eq=False, slots=True)
class Composite:
    """A composite of this dialect that a kernel can take the place of."""

    operation: Any
    name: str
    op: Op
    operands: tuple[TensorType, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """Why a composite stays as it is."""

    name: str
    reason: str


def name_of(operation: Any) -> str:
    """The name of a composite of this dialect, with its prefix; empty for every other operation."""
    if operation.name != OP:
        return ""
    name = ir.StringAttr(operation.attributes["name"]).value
    return name if name.startswith(PREFIX) else ""


def read(operation: Any) -> Composite | Left:
    """The op that a composite says, or why it is left to its decomposition.

    Raises:
      RopegenError: an unknown op or version, or attributes, operands or results that break the op's rule.
    """
    name = name_of(operation)
    if name not in _KNOWN:
        raise RopegenError(f"there is no op {name!r}; {nearest(name, _KNOWN)}")
    given = operation.attributes
    version = ir.IntegerAttr(given["version"]).value if "version" in given else 0
    if not 0 <= version <= VERSION:  # 0 is what a composite has that does not say
        raise RopegenError(f"it is of version {version}, and this ropegen reads up to {VERSION}; update ropegen")
    kinds = [each.type for each in (*operation.operands, *operation.results)]
    unknown = [str(each) for each in kinds if isinstance(each, ir.RankedTensorType) and not each.has_static_shape]
    unknown += [str(each) for each in kinds if isinstance(each, ir.UnrankedTensorType)]
    if unknown:
        return Left(name, f"the sizes of {unknown[0]} are not known, and a kernel is made for one shape")
    if foreign := [key for key in _keys(given) if key not in _OWN]:
        return Left(name, f"it carries {', '.join(foreign)}, which a call of a kernel would lose")
    if len(operation.results) != 1:
        raise RopegenError(f"it gives {len(operation.results)} results; write one")
    words = _words(given["composite_attributes"]) if "composite_attributes" in given else {}
    op = _op(_KNOWN[name], words)
    operands, result = (
        tuple(_type(each.type) for each in values) for values in (operation.operands, operation.results)
    )
    alone = node(op, *(node(ops.Input(label=f"x{index}", type=each)) for index, each in enumerate(operands)))
    if alone.type != result[0]:
        raise RopegenError(f"the result is {result[0]}, and these operands give {alone.type}; write that")
    _agree(alone, words)
    return Composite(operation, name, op, operands)


def _keys(given: Any) -> Iterator[str]:
    return (given[index].name for index in range(len(given)))  # what iteration yields differs between jaxlibs


def _words(given: Any) -> dict[str, ir.Attribute]:
    return {given[index].name: given[index].attr for index in range(len(given))}


def _op(cls: type[Op], words: Mapping[str, ir.Attribute]) -> Op:
    values: dict[str, Any] = {}
    for declared in attributes(cls):
        found = _value(declared, words)
        if found is not None:
            values[declared.name] = found
        elif not declared.is_optional:
            example = " or ".join(f'"{each}"' for each in declared.choices)
            raise RopegenError(f"attribute {declared.name!r} is missing; give it{example and ', '}{example}")
    return cls(**values)


def _value(declared: Declared, words: Mapping[str, ir.Attribute]) -> Any:
    """The attribute in its own kind, None where it is not given; the op checks what it may be."""
    kind = next(each for each in declared.kinds if each is not type(None))
    where = f"attribute {declared.name!r}"
    if kind is Scaling:
        start = f"{declared.name}."
        fields = {key.removeprefix(start): each for key, each in words.items() if key.startswith(start)}
        read = {key: _plain(f"attribute {start + key!r}", each) for key, each in fields.items()}
        lists = {
            key: _numbers(where, each) if isinstance(each, str) and _is_list(each) else each
            for key, each in read.items()
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
    """Whether text is a list of numbers, as `semantic` writes them."""
    return value.strip("+-").replace(" ", "")[:1].isdigit()


def _numbers(where: str, text: str) -> tuple[int | float, ...]:
    try:
        return tuple(_number(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise RopegenError(f"{where} is {text!r}; give numbers with commas between") from None


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _plain(where: str, given: ir.Attribute) -> str | int | float | bool:
    """A Python value of the kind that it is written in."""
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
        raise RopegenError(f"{given} is no dense tensor; give e.g. tensor<2x8xbf16>")
    dtype = str(given.element_type)
    if dtype not in DTYPES:
        raise RopegenError(f"{given} has the unknown element type {dtype!r}; {nearest(dtype, DTYPES)}")
    return TensorType(tuple(given.shape), dtype)


def _agree(value: Node, words: Mapping[str, ir.Attribute]) -> None:
    """Refuse what the op does not have, and what is written beside it and says another thing."""
    op = value.op
    declared = attributes(type(op))
    own = {each.name for each in declared if Scaling not in each.kinds}
    dotted = tuple(f"{each.name}." for each in declared if Scaling in each.kinds)  # their fields, already read
    beside = {key: each for key, each in written(value).items() if key not in own and not key.startswith(dotted)}
    for key, attribute in words.items():
        if key in own or key.startswith(dotted):
            continue
        if key not in beside:
            raise RopegenError(f"there is no attribute {key!r}; {nearest(key, [*own, *beside])}")
        given = _plain(f"attribute {key!r}", attribute)
        # Where positions count from is seen in the whole graph alone; a mask of positions can be ONNX's of indices.
        allowed = (
            {0, int(isinstance(op, ops.Attend) and op.visible == masks.causal)} if key == "is_causal" else {beside[key]}
        )
        if given not in allowed:
            raise RopegenError(f"attribute {key!r} is {given}, and the op says {beside[key]}; leave it out")
