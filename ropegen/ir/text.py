"""The text form of a graph: generic MLIR in the dialect `ropegen`, exact in both directions.

    module attributes {ropegen.name = "tiny", ropegen.version = 1 : i64} {
      %0 = "ropegen.input"() {label = "x"} : () -> tensor<1x8x2x4xbf16>
      %1 = "ropegen.scale"(%0) {factor = 2.000000e+00 : f64} : (tensor<1x8x2x4xbf16>) -> tensor<1x8x2x4xbf16>
      "ropegen.output"(%1) {label = "y"} : (tensor<1x8x2x4xbf16>) -> ()
    }

Inputs come first, then every op after its operands, then the outputs. The text omits attributes that equal their
default, so that it is canonical: equal graphs print the same bytes in every process, and `loads(dumps(g)) is g`.

This is the only module of the IR that uses MLIR's bindings. MLIR accepts any op of an unregistered dialect, so this
module checks what a graph may say. MLIR's parser recurses without bound, so a text is scanned before it is parsed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import typing
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from jax.extend.mlir import ir

from ropegen import masks, scaling
from ropegen.errors import RopegenError, nearest
from ropegen.expression import excerpt
from ropegen.ir.graph import Graph, Node, expect_graph, graph, node
from ropegen.ir.op import Declared, Op, attributes
from ropegen.ir.ops import OPS, Input
from ropegen.ir.script import Grammar, Script, too_large
from ropegen.masks import Expr
from ropegen.scaling import Scaling
from ropegen.types import DTYPES, TensorType

VERSION = 1  # of the text form; it increases if an older ropegen could misread a newer text

_HEADER = f'module attributes {{ropegen.name = "NAME", ropegen.version = {VERSION} : i64}} {{'
_OP_FORM = '%1 = "ropegen.scale"(%0) {factor = 2.0} : (tensor<4xf32>) -> tensor<4xf32>'
_OUTPUT_FORM = '"ropegen.output"(%0) {label = "out"} : (tensor<4xf32>) -> ()'

_REFUSED = {
    "<{": "properties <{...}> are not part of the text form; write attributes in {...}",
    "#": "attribute aliases and dialect attributes are not part of the text form; write the value in place",
    "!": "dialect types are not part of the text form; every value is a tensor such as tensor<2x8xbf16>",
    "loc": "locations are not kept; leave out loc(...)",
    "affine_map": "affine maps are not part of the text form; leave the attribute out",
    "affine_set": "affine sets are not part of the text form; leave the attribute out",
}

_GRAMMAR = Grammar(
    "graph", 2**22, 64, _REFUSED, strings_are_text=True
)  # room for about 20,000 ops; a graph nests 5 deep

# How to write a value of a kind, for messages.
_WRITTEN: dict[Any, str] = {
    str: 'a string such as "half"',
    int: "a 64-bit integer such as 8",
    float: "a 64-bit float such as 8.0",
    bool: "true or false",
    Expr: 'an expression in a string such as "q_pos >= kv_pos"',
    Scaling: 'a dictionary such as {kind = "none"}',
}


# Writing ----------------------------------------------------------------------------------------------------------


def dumps(graph: Graph) -> str:
    """The text of `graph`, the same bytes in every process and with every supported jax.

    Raises:
      RopegenError: `graph` is no graph, a size does not fit in 64 bits, or the text would be too large to read back.
    """
    expect_graph("dumps", graph)
    with _context(), ir.Location.unknown():
        module = ir.Module.create()
        module.operation.attributes["ropegen.name"] = ir.StringAttr.get(graph.name)
        module.operation.attributes["ropegen.version"] = _integer(VERSION)
        values: dict[Node, ir.Value[Any]] = {}
        with ir.InsertionPoint(module.body):
            for entry in graph.nodes:
                operands = [values[operand] for operand in entry.operands]
                made = _operation(entry.op.name, operands, _written(entry.op), [_type_of(entry)])
                values[entry] = made.results[0]
            for label, value in graph.outputs:
                _operation("output", [values[value]], {"label": ir.StringAttr.get(label)}, [])
        text = str(module)
    Script(text, f"<{graph.name}>", _GRAMMAR).scan()  # so that `loads` accepts every text that `dumps` returns
    return text


def digest(graph: Graph) -> str:
    """The SHA-256 of the text of `graph`, in hexadecimal: its identity across processes."""
    return hashlib.sha256(dumps(graph).encode()).hexdigest()


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write the text of `graph` to a temporary file and rename it: a reader sees the whole old file or the whole new one.

    Raises:
      RopegenError: the file cannot be written; an old file of that name stays unchanged.
    """
    text, path = dumps(graph), Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            temporary.write_bytes(text.encode())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise RopegenError(
            f"cannot write {path}: {error.strerror or error}; give a path that can be written"
        ) from error


def _context() -> ir.Context:
    context = ir.Context()
    context.allow_unregistered_dialects = True
    return context


def _operation(name: str, operands: list[Any], written: dict[str, Any], results: list[Any]) -> ir.Operation:
    return ir.Operation.create(f"ropegen.{name}", results=results, operands=operands, attributes=written)


def _written(op: Op) -> dict[str, ir.Attribute]:
    """The attributes that differ from their default; the result's type stands for an attribute that is a type."""
    values = [(declared, getattr(op, declared.name)) for declared in attributes(type(op))]
    return {
        declared.name: _attribute(op, declared.name, value)
        for declared, value in values
        if not isinstance(value, TensorType) and not (declared.is_optional and value == declared.default)
    }


def _attribute(op: Op, name: str, value: object) -> ir.Attribute:
    match value:
        case bool():
            return ir.BoolAttr.get(value)
        case int():
            return _integer(value)
        case float():
            return ir.FloatAttr.get(ir.F64Type.get(), value)
        case str():
            return ir.StringAttr.get(value)
        case Expr():
            return ir.StringAttr.get(str(value))
        case Scaling():
            items = value.to_attributes().items()
            return ir.DictAttr.get({key: _attribute(op, f"{name}.{key}", item) for key, item in items})
        case tuple():
            return ir.ArrayAttr.get(
                [_attribute(op, name, element) for element in typing.cast("tuple[object, ...]", value)]
            )
        case _:
            raise TypeError(f"{op.name}: attribute {name!r} of {type(value).__name__} has no text form")


def _integer(value: int) -> ir.Attribute:
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)


def _type_of(value: Node) -> ir.Type:
    if any(size >= 2**63 for size in value.type.shape):
        raise value.op.refuse(
            f"the result is {value.type}", "sizes must fit 64 bits in the text form; use smaller ones"
        )
    return ir.RankedTensorType.get(value.type.shape, ir.Type.parse(value.type.dtype))


# Reading ----------------------------------------------------------------------------------------------------------


def loads(text: str, source: str = "<text>") -> Graph:
    """The graph of `text`; error messages call the text `source`.

    Raises:
      RopegenError: `text` is not a str, or not a graph; the message shows the line, with a caret under the mistake.
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        decode = "; decode bytes as UTF-8 first" if isinstance(text, bytes | bytearray | memoryview) else ""
        raise RopegenError(f"a graph is read from a str, and {source} is of type {type(text).__name__}{decode}")
    script = Script(text, source, _GRAMMAR)
    unclosed = script.scan()
    with _context(), np.errstate(all="ignore"):  # only shapes are inferred, so an infinity on the way does not matter
        try:
            module = ir.Module.parse(text)
        except ir.MLIRError as error:
            raise script.unparsed(error.error_diagnostics, unclosed, f"write every op as {_OP_FORM}") from None
        return _read_graph(module, script)  # the module stays alive while its ops are read


def load(path: str | os.PathLike[str]) -> Graph:
    """The graph in a file.

    Raises:
      RopegenError: `path` is not a path; the file cannot be read, is not UTF-8 text, or is not a graph.
    """
    if not isinstance(path, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise RopegenError(f"a graph is read from a path, and {excerpt(repr(path))} is of type {type(path).__name__}")
    try:
        with open(path, "rb") as file:
            raw = file.read(_GRAMMAR.bytes + 1)
    except ValueError as error:  # a NUL character
        raise RopegenError(f"cannot read {path}: {error}; give the path of a graph's text") from error
    except OSError as error:
        raise RopegenError(f"cannot read {path}: {error.strerror or error}; give the path of a graph's text") from error
    if len(raw) > _GRAMMAR.bytes:
        raise too_large(str(path), _GRAMMAR)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8 text ({error.reason}); give the text of a graph"
        readable = len(raw[: error.start].decode())
        raise Script(raw.decode(errors="replace"), str(path), _GRAMMAR).error(problem, readable) from None
    return loads(text, str(path))


def _read_graph(module: ir.Module, script: Script) -> Graph:
    top = module.operation.location
    with script.at(top):
        name = _read_header(module, script)
    values: dict[ir.Value[Any], Node] = {}
    places: dict[Node, ir.Location] = {}
    inputs: dict[str, Node] = {}
    outputs: dict[str, Node] = {}
    for view in module.body.operations:
        with script.at(view.operation.location):
            reading = _Reading(view.operation)
            operands = reading.operands(values)
            if reading.name == "output":
                reading.enter(outputs, reading.output(operands))
                continue
            made = reading.node(operands)
            if isinstance(made.op, Input):
                reading.enter(inputs, made)
            values[view.operation.results[0]] = made
            places.setdefault(made, view.operation.location)
    with script.at(top):
        if not outputs:
            raise RopegenError(f"graph {name!r} has no output; end it with {_OUTPUT_FORM}")
        made = graph(name, inputs.values(), outputs)
    used = set(made.nodes)
    for unread, place in places.items():
        with script.at(place):
            if unread not in used:
                raise RopegenError(
                    f"{unread.op.name}: nothing uses this value; name it with {_OUTPUT_FORM}, or remove the line"
                )
    return made


def _read_header(module: ir.Module, script: Script) -> str:
    given = _named(module.operation.attributes)
    known = ("ropegen.name", "ropegen.version")
    for name in given:
        if name not in known:
            raise RopegenError(f"the module has no attribute {_shown(name)}; {nearest(name, known)}")
    for name in known:
        if name not in given:
            empty = "" if script.text.strip() else "the text is empty: "
            raise RopegenError(f"{empty}the module has no {name!r}; begin with {_HEADER}")
    version = _read_value("module", "ropegen.version", int, given["ropegen.version"])
    if not 1 <= version <= VERSION:
        update = "update ropegen" if version > VERSION else "write the graph again"
        raise RopegenError(f"the text has version {version} and this ropegen reads up to {VERSION}; {update}")
    return _read_value("module", "ropegen.name", str, given["ropegen.name"])


class _Reading:
    """One op of a text; `name` omits the dialect."""

    def __init__(self, operation: ir.Operation) -> None:
        dialect, _, self.name = operation.name.partition(".")
        if dialect != "ropegen" or self.name not in {*OPS, "output"}:
            known = [f"ropegen.{name}" for name in (*OPS, "output")]
            hint = nearest(f"ropegen.{self.name}", known)  # the dialect may be another one
            raise RopegenError(f"there is no op {_shown(operation.name)}; {hint}")
        if len(operation.regions) or len(operation.successors):
            raise RopegenError(f"{self.name}: an op has neither regions nor successors; write it as {_OP_FORM}")
        if len(operation.results) != (self.name != "output"):
            wanted = f"none: {_OUTPUT_FORM}" if self.name == "output" else f"one: {_OP_FORM}"
            raise RopegenError(f"{self.name}: the text has {len(operation.results)} results; write {wanted}")
        self._operation = operation
        self._given = _named(operation.attributes)

    def operands(self, values: dict[ir.Value[Any], Node]) -> list[Node]:
        nodes: list[Node] = []
        for index, operand in enumerate(self._operation.operands):
            if operand not in values:
                raise RopegenError(
                    f"{self.name}: operand {index} is used before it is defined; move the op that defines it above"
                )
            nodes.append(values[operand])
        return nodes

    def output(self, operands: list[Node]) -> Node:
        """The value that `output` names."""
        self._refuse_unknown(("label",))
        if "label" not in self._given:
            raise RopegenError(f"output: attribute 'label' is missing; write {_OUTPUT_FORM}")
        if len(operands) != 1:
            raise RopegenError(f"output: {len(operands)} operands for 1 (value); write one op per output")
        return operands[0]

    def enter(self, taken: dict[str, Node], value: Node) -> None:
        """Enter an input or an output by its label."""
        label = _read_value(self.name, "label", str, self._given["label"])
        if not label.isidentifier():
            raise RopegenError(
                f"{self.name}: attribute 'label' is {_shown(label)}, not a name; use letters, digits and _ only"
            )
        if label in taken:
            raise RopegenError(f"there is more than one {self.name} {_shown(label)}; names must differ")
        taken[label] = value

    def node(self, operands: list[Node]) -> Node:
        """The node of any op but `output`."""
        cls = OPS[self.name]
        declared = attributes(cls)
        self._refuse_unknown([attribute.name for attribute in declared if TensorType not in attribute.kinds])
        written = _read_type(self.name, self._operation.results[0].type)
        values = {attribute.name: self._value(attribute, written) for attribute in declared}
        made = node(cls(**values), *operands)
        if made.type != written:
            raise RopegenError(
                f"{self.name}: the text says that the result is {written}, but these operands give {made.type}; write that"
            )
        return made

    def _value(self, declared: Declared, written: TensorType) -> Any:
        if TensorType in declared.kinds:
            return written
        kind = next(option for option in declared.kinds if option is not type(None))
        if declared.name in self._given:
            return _read_value(self.name, declared.name, kind, self._given[declared.name])
        if declared.is_optional:
            return declared.default
        example = " or ".join(f'"{choice}"' for choice in declared.choices) or _kind_written(kind)
        raise RopegenError(f"{self.name}: attribute {declared.name!r} is missing; write {declared.name} = {example}")

    def _refuse_unknown(self, known: Collection[str]) -> None:
        for attribute in self._given:
            if attribute not in known:
                raise RopegenError(
                    f"{self.name}: there is no attribute {_shown(attribute)}; {nearest(attribute, known)}"
                )


def _named(given: Any) -> dict[str, ir.Attribute]:
    """Attributes by name. They are read by index, because iteration yields different values in different jaxlibs."""
    return {named.name: named.attr for named in (given[index] for index in range(len(given)))}


def _shown(word: str) -> str:
    """A word of the text, quoted and shortened to at most 60 characters."""
    return repr(word if len(word) <= 60 else f"{word[:60]}...")


def _kind_written(kind: Any) -> str:
    if typing.get_origin(kind) is tuple:
        return f"a list in [], where every element is {_WRITTEN[typing.get_args(kind)[0]]}"
    return _WRITTEN[kind]


def _read_value(op: str, name: str, kind: Any, given: Any) -> Any:
    """`given` as a value of `kind`, without conversion."""
    if kind is Expr and isinstance(given, ir.StringAttr):
        return _within(op, name, masks.parse, given.value)
    if kind is Scaling and isinstance(given, ir.DictAttr):
        fields = {key: _read_any(op, f"{name}.{key}", item) for key, item in _named(given).items()}
        return _within(op, name, scaling.from_attributes, fields)
    if typing.get_origin(kind) is tuple and isinstance(given, ir.ArrayAttr):
        elements: list[Any] = list(given)
        if all(_holds(typing.get_args(kind)[0], element) for element in elements):
            return tuple(element.value for element in elements)
    if _holds(kind, given):
        return typing.cast("Any", given).value
    raise RopegenError(f"{op}: attribute {name!r} is {_shown(str(given))[1:-1]}; it must be {_kind_written(kind)}")


def _holds(kind: Any, given: Any) -> bool:
    return (
        (kind is bool and isinstance(given, ir.BoolAttr))
        or (kind is int and isinstance(given, ir.IntegerAttr) and str(given.type) == "i64")
        or (kind is float and isinstance(given, ir.FloatAttr) and str(given.type) == "f64")
        or (kind is str and isinstance(given, ir.StringAttr))
    )


def _within(op: str, name: str, read: Callable[[Any], Any], given: object) -> Any:
    """The result of `read(given)`; an error names the op and the attribute."""
    try:
        return read(given)
    except RopegenError as error:
        about = RopegenError(f"{op}: attribute {name!r}: {error.args[0]}")
        for note in getattr(error, "__notes__", ()):
            about.add_note(note)
        raise about from None


def _read_any(op: str, name: str, given: ir.Attribute) -> Any:
    """The value of `given`, of the kind that its text shows."""
    if isinstance(given, ir.ArrayAttr):
        return tuple(_read_any(op, name, element) for element in given)
    kinds: dict[Any, type] = {ir.BoolAttr: bool, ir.IntegerAttr: int, ir.FloatAttr: float, ir.StringAttr: str}
    return _read_value(op, name, kinds.get(type(given), float), given)


def _read_type(op: str, given: ir.Type) -> TensorType:
    if not isinstance(given, (ir.RankedTensorType, ir.UnrankedTensorType)):
        raise RopegenError(f"{op}: {given} is not a tensor type; write tensor<2x8xbf16>, or tensor<bf16> for a scalar")
    if not isinstance(given, ir.RankedTensorType) or not given.has_static_shape:
        raise RopegenError(
            f"{op}: {given} has unknown sizes; write every size as a number, because a graph is compiled for one shape"
        )
    if given.encoding is not None:
        raise RopegenError(f"{op}: {given} has an encoding; tensors are dense: write tensor<SIZESxTYPE>")
    dtype = str(given.element_type)
    if dtype not in DTYPES:
        raise RopegenError(f"{op}: {given} has the unknown element type {dtype!r}; {nearest(dtype, DTYPES)}")
    return TensorType(tuple(given.shape), dtype)
