"""The StableHLO pass: it replaces composites of this dialect by the kernels of a target and keeps the rest of the module.

Composites of a block that read each other are planned together, as one graph, so that a region can span them: a
projection with its rotation, a rotation with its attention. The planned graph becomes a private function, and a
call of it replaces the composites. Composites can join one call only if the call can run after all their operands and
before the first reader of a result; no other operation of the module moves.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections import Counter
from collections.abc import Container, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.mlir import ir
from jax.interpreters import mlir

from ropegen.emit.callable import prepare, run
from ropegen.emit.module.composites import PREFIX, Composite, Left, name_of, read
from ropegen.emit.module.grouping import Member, group
from ropegen.emit.module.reader import text_of
from ropegen.emit.module.rewritten import BYTECODE, Kept, Replaced, Rewritten
from ropegen.emit.module.stablehlo import check_calls, declared_calls, walk
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, graph, node
from ropegen.ir.script import MODULE, Script
from ropegen.planner import plan
from ropegen.plans import Plan, Tiles
from ropegen.target import Target
from ropegen.types import TensorType, numpy_dtype

_KERNEL = "ropegen.kernel"
_WAY_OUT = "give a module of StableHLO and func, as jax.jit(f).lower(...).as_text() prints it"


def replace_composites(
    source: bytes, target: str | Target, *, name: str = "<module>", tile: Tiles | None = None
) -> Rewritten:
    """The module with every composite of this dialect replaced by its planned kernel for a target.

    `source` is MLIR text or bytecode (also portable StableHLO); errors call it `name`; `tile` is passed to `plan`.
    Composites of other dialects and composites of unknown sizes stay. Text is scanned before MLIR reads it. Another
    process reads bytecode, because damaged bytecode can end it, and this one reads the text.

    Raises:
      RopegenError: the module cannot be read; a composite is unknown or malformed; a value has 64 bits while JAX runs
        without 64-bit types; see also `plan`.
    """
    target = Target.parse(target)
    with mlir.make_ir_context():
        script, module = _parse(source, name)
        work = _Work(module, script, target, tile)
        work.replace()
        if not work.replaced:
            return Rewritten(target, source, (), tuple(work.kept), (), script.text)
        work.remove_unused()
        try:
            module.operation.verify()
        except ir.MLIRError as error:
            raise RopegenError(f"{name}: a kernel does not fit its place: {error}; leave that composite out") from error
        asm = module.operation.get_asm(enable_debug_info=work.has_locations)
        heading = re.match(r"(?:[ \t]*//[^\n]*\n|\s)*+", script.text)
        asm = f"{heading[0].lstrip() if heading else ''}{asm}"
        return Rewritten(target, source, tuple(work.replaced), tuple(work.kept), tuple(work.removed), asm)


def _parse(source: bytes, name: str) -> tuple[Script, Any]:
    if source.startswith(BYTECODE):
        text = text_of(source, name, way_out=_WAY_OUT, locations=True)
    else:
        try:
            text = source.decode()
        except UnicodeDecodeError as error:
            raise RopegenError(
                f"{name} is neither MLIR bytecode nor text: byte {error.start} is not UTF-8; {_WAY_OUT}"
            ) from None
    if not text.strip():
        raise RopegenError(f"{name} is empty; {_WAY_OUT}")
    script = Script(text, name, MODULE)
    unclosed = script.scan()
    try:
        return script, ir.Module.parse(text)
    except ir.MLIRError as error:
        raise script.unparsed(error.error_diagnostics, unclosed, _way_out(script, error)) from None


def _way_out(script: Script, error: ir.MLIRError) -> str:
    """The way out for MLIR's complaint; it names the composite if the line has one."""
    for diagnostic in itertools.islice(error.error_diagnostics, 1):
        start = script.offset(diagnostic.location)
        match = re.search(rf'"({re.escape(PREFIX)}\w+)"', script.text[start:].partition("\n")[0])
        if match:
            return f'correct the composite "{match[1]}"'
    return _WAY_OUT


@dataclass(frozen=True, eq=False, slots=True)
class _Block:
    """The operations of a block, and by index the composites among them that a kernel replaces."""

    function: str
    operations: tuple[Any, ...]
    composites: Mapping[int, Composite]


class _Work:
    """A module while its composites are replaced."""

    def __init__(self, module: Any, script: Script, target: Target, tile: Tiles | None) -> None:
        self.module, self.script, self.target, self.tile = module, script, target, tile
        self.replaced: list[Replaced] = []
        self.kept: list[Kept] = []
        self.removed: list[str] = []
        self.has_locations = any(not _is_place_in_text(operation) for operation in walk(module.operation))
        self._functions = {
            _symbol(view.operation): view.operation
            for view in module.body.operations
            if view.operation.name == "func.func"
        }
        self._decompositions: list[str] = []
        self._kernels: dict[Graph, tuple[str, Plan]] = {}

    def replace(self) -> None:
        """Replace the composites of all functions that can run; the decomposition of a replaced composite cannot."""
        self._keep_nested()
        for block in self._reached():
            self._replace(block)

    def remove_unused(self) -> None:
        """Remove decompositions that nothing uses any more, and functions that only they used."""
        uses = Counter(used for operation in walk(self.module.operation) for used in _references(operation))
        pending = self._decompositions
        while pending:
            name = pending.pop()
            function = self._functions.get(name)
            if function is None or uses[name] or not _is_private(function):
                continue
            del self._functions[name]
            for used in (used for operation in walk(function) for used in _references(operation)):
                uses[used] -= 1
                pending.append(used)
            function.erase()
            self.removed.append(name)
        self.removed.sort()

    def _keep_nested(self) -> None:
        for view in self.module.body.operations:
            if view.operation.name != "func.func":
                for inner in walk(view.operation):
                    if name := name_of(inner):
                        self._keep(inner, Left(name, "it is not in a function of this module"), "")

    def _keep(self, operation: Any, left: Left, function: str) -> None:
        self.kept.append(Kept(left.name, function, self._place(operation), left.reason))

    def _place(self, operation: Any) -> str:
        """The place of a composite: the line of the text, or the location in the module."""
        if _is_place_in_text(operation):
            return f"line {str(operation.location).split(':')[-2]}"
        location = str(operation.location)
        return location if len(location) <= 200 else f"{location[:200]}..."

    def _reached(self) -> list[_Block]:
        uses = Counter(used for operation in walk(self.module.operation) for used in _references(operation))
        pending = [name for name, function in self._functions.items() if not _is_private(function) or not uses[name]]
        blocks: dict[str, list[_Block]] = {}
        while pending:
            name = pending.pop()
            if name in blocks:
                continue
            blocks[name] = [*self._read(name)]
            goes = {composite.operation for block in blocks[name] for composite in block.composites.values()}
            for operation in walk(self._functions[name]):
                if operation not in goes:
                    pending += [used for used in _references(operation) if used in self._functions]
        return [block for name in self._functions for block in blocks.get(name, ())]

    def _read(self, function: str) -> Iterator[_Block]:
        for block in _blocks(self._functions[function]):
            operations = tuple(view.operation for view in block.operations)
            composites: dict[int, Composite] = {}
            for index, operation in enumerate(operations):
                if name := name_of(operation):
                    with self._about(operation, name, function):
                        result = read(operation)
                    if isinstance(result, Left):
                        self._keep(operation, result, function)
                    else:
                        composites[index] = result
            if composites:
                yield _Block(function, operations, composites)

    @contextlib.contextmanager
    def _about(self, operation: Any, name: str, function: str) -> Generator[None]:
        """Make every error raised inside name the composite and show its line."""
        try:
            with self.script.at(operation.location):
                yield
        except RopegenError as error:
            notes = getattr(error, "__notes__", [])
            problem = error.args[0].removeprefix(f"{name.removeprefix(PREFIX)}: ")
            about = RopegenError(f'composite "{name}" in @{function}: {problem}')
            for note in notes if _is_place_in_text(operation) else [f"at {self._place(operation)}"]:
                about.add_note(note)
            raise about from None

    def _replace(self, block: _Block) -> None:
        members, readers = _members(block)
        for chosen in group(members):
            composites = [block.composites[index] for index in chosen.members]
            read_outside = [not readers[index] or not readers[index] <= {*chosen.members} for index in chosen.members]
            source = _Source(composites, read_outside)
            kernel, planned = self._kernel(source.graph, composites)
            last = composites[-1].operation
            with ir.InsertionPoint(block.operations[chosen.after + 1]):
                call = ir.Operation.create(
                    "func.call",
                    results=[result.type for result in source.results],
                    operands=source.operands,
                    attributes={"callee": ir.FlatSymbolRefAttr.get(kernel)},
                    loc=last.location,
                )
            for composite, result in source.places:
                composite.operation.results[0].replace_all_uses_with(call.results[result])
            places = tuple(self._place(composite.operation) for composite in composites)
            names = tuple(composite.name for composite in composites)
            self.replaced.append(Replaced(names, block.function, places, kernel, planned))
        for index in sorted(block.composites, reverse=True):
            self._decompositions.append(ir.FlatSymbolRefAttr(block.operations[index].attributes["decomposition"]).value)
            block.operations[index].erase()

    def _kernel(self, source: Graph, composites: Sequence[Composite]) -> tuple[str, Plan]:
        """The function of a graph and its plan; equal graphs share one function."""
        if source not in self._kernels:
            wide = [value for value in source.nodes if value.type.dtype in ("f64", "i64")]
            if wide and not jax.config.read("jax_enable_x64"):
                raise RopegenError(
                    f"{', '.join(dict.fromkeys(composite.name for composite in composites))}: {wide[0].type} is 64 bits wide, and JAX "
                    "runs without such types; set jax_enable_x64 to True first (JAX_ENABLE_X64=1 for a command)"
                )
            # The module has no manifest, which would say that a call has no promise of compatibility.
            made = plan(source, self.target, tile=self.tile, stable_only=True).exported
            self._kernels[source] = self._insert(_emitted(made)), made
        return self._kernels[source]

    def _insert(self, emitted: Any) -> str:
        """Insert the functions of a module into this one, under new names; return the new name of its `main`."""
        functions = [view.operation for view in emitted.body.operations]
        taken = {_symbol(view.operation) for view in self.module.body.operations}
        taken |= {_symbol(function) for function in functions}
        names: dict[str, str] = {}
        for function in functions:
            name = _symbol(function)
            wanted = _KERNEL if name == "main" else name
            if name == "main" or name in self._names():
                names[name] = _free(wanted, taken)
                taken.add(names[name])
                ir.SymbolTable.replace_all_symbol_uses(name, names[name], emitted.operation)
                ir.SymbolTable.set_symbol_name(function, names[name])
            for attribute in ("arg_attrs", "res_attrs"):
                if attribute in function.attributes:
                    del function.attributes[attribute]
            ir.SymbolTable.set_visibility(function, "private")
        for function in functions:
            self.module.body.append(function)
        return names["main"]

    def _names(self) -> set[str]:
        return {_symbol(view.operation) for view in self.module.body.operations}


class _Source:
    """The graph of composites that share one call, the operands of the call, and its results."""

    def __init__(self, composites: Sequence[Composite], read_outside: Sequence[bool]) -> None:
        self.operands: list[Any] = []
        self.results: list[Any] = []
        self.places: list[tuple[Composite, int]] = []
        """The composites whose value is read outside the call, with the index of the result."""
        known: dict[Any, Node] = {}
        inputs: list[Node] = []
        outputs: dict[Node, int] = {}
        for composite, is_read in zip(composites, read_outside, strict=True):
            for operand, kind in zip(composite.operation.operands, composite.operands, strict=True):
                if operand in known:
                    continue
                known[operand] = _positions(operand, kind) or node(ops.Input(label=f"x{len(inputs)}", type=kind))
                if isinstance(known[operand].op, ops.Input):
                    inputs.append(known[operand])
                    self.operands.append(operand)
            value = node(composite.op, *(known[operand] for operand in composite.operation.operands))
            (result,) = composite.operation.results
            known[result] = value
            if is_read:
                if value not in outputs:
                    outputs[value] = len(outputs)
                    self.results.append(result)
                self.places.append((composite, outputs[value]))
        self.graph = graph("kernel", inputs, {f"y{index}": value for value, index in outputs.items()})


def _positions(value: Any, kind: TensorType) -> Node | None:
    """The value as a `positions` op if it is 0, 1, ... (an iota, from jnp.arange), so that a kernel knows it; else None."""
    if kind.rank != 1 or kind.dtype != "i32" or not isinstance(value, ir.OpResult):
        return None
    return node(ops.Positions(length=kind.shape[0])) if value.owner.name == "stablehlo.iota" else None


def _members(block: _Block) -> tuple[dict[int, Member], dict[int, set[int]]]:
    """The composites in the form that `group` takes, and by composite the operations of the block that read it."""
    made = {result: index for index, operation in enumerate(block.operations) for result in operation.results}
    readers: dict[int, set[int]] = {index: set() for index in block.composites}
    read: dict[int, set[int]] = {index: set() for index in block.composites}
    for index, operation in enumerate(block.operations):
        makers = {made[operand] for inner in walk(operation) for operand in inner.operands if operand in made}
        for maker in makers & readers.keys():
            readers[maker].add(index)
        if index in read:
            read[index] = makers
    members: dict[int, Member] = {}
    for index in block.composites:
        reads = frozenset(read[index] & readers.keys())
        others = [reader for reader in readers[index] if reader not in block.composites]
        members[index] = Member(reads, max(read[index] - reads, default=-1), min(others, default=len(block.operations)))
    return members, readers


def _emitted(made: Plan) -> Any:
    """The module of a plan in the current context, without file names of the machine that traces it."""
    types = made.source.input_types
    outputs = [label for label, _ in made.source.outputs]

    def main(*arguments: jax.Array) -> tuple[jax.Array, ...]:
        values = dict(zip(types, arguments, strict=True))
        results = run(made, prepare(made, values), values)
        return tuple(results[label] for label in outputs)

    arguments = [jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype)) for kind in types.values()]
    platforms = (made.target.jax_platform,)
    lowered = jax.jit(main, keep_unused=True).trace(*arguments).lower(lowering_platforms=platforms)
    module: Any = lowered.compiler_ir("stablehlo")
    asm = module.operation.get_asm(enable_debug_info=True)
    emitted = ir.Module.parse(re.sub(r"(?m)^(#loc\d*) = loc\(.*\)$", r"\1 = loc(unknown)", asm))
    check_calls(emitted, declared_calls([made]))
    return emitted


def _blocks(operation: Any) -> Iterator[Any]:
    """The blocks of an operation, outermost first."""
    for region in operation.regions:
        for block in region.blocks:
            yield block
            for view in block.operations:
                yield from _blocks(view.operation)


def _symbol(operation: Any) -> str:
    return ir.StringAttr(operation.attributes["sym_name"]).value if "sym_name" in operation.attributes else ""


def _is_private(operation: Any) -> bool:
    return "sym_visibility" in operation.attributes and str(operation.attributes["sym_visibility"]) == '"private"'


def _references(operation: Any) -> Iterator[str]:
    """The symbols to which the attributes of an operation refer."""
    given = operation.attributes
    for index in range(len(given)):
        yield from _symbols(given[index].attr)


def _symbols(attribute: Any) -> Iterator[str]:
    if isinstance(attribute, ir.FlatSymbolRefAttr):
        yield attribute.value
    elif isinstance(attribute, ir.SymbolRefAttr):
        yield attribute.value[0]
    elif isinstance(attribute, ir.ArrayAttr):
        for element in attribute:
            yield from _symbols(element)
    elif isinstance(attribute, ir.DictAttr):
        for index in range(len(attribute)):
            yield from _symbols(attribute[index].attr)


def _is_place_in_text(operation: Any) -> bool:
    """Whether the parser made the location because the text has none."""
    return re.fullmatch(r'loc\("-":\d+:\d+\)', str(operation.location)) is not None


def _free(wanted: str, taken: Container[str]) -> str:
    names = itertools.chain([wanted], (f"{wanted}_{index}" for index in itertools.count()))
    return next(name for name in names if name not in taken)
