"""A graph that the passes change in place: every value knows what it reads and what reads it.

The nodes of a `Graph` are immutable, so replacing one would copy everything that depends on it. Here a replacement
touches the readers of the replaced value only. Equal values stay one value, as in a `Graph`: when a replacement makes
two values equal, they merge.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping

from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph, Node, graph, node, topological
from ropegen.ir.op import Op
from ropegen.ir.ops import Input
from ropegen.types import TensorType


class Value:
    """One op applied to operands, with its type. Rules read it and never write to it."""

    __slots__ = ("is_live", "is_prepared", "op", "operands", "place", "readers", "type")
    op: Op
    operands: tuple[Value, ...]
    type: TensorType
    is_prepared: bool  # whether it depends on parameters and constants alone
    is_live: bool  # whether it belongs to the graph; a value that a rule makes is not live before the rule fires
    readers: dict[Value, None]  # the live values that read it
    place: tuple[int, int]  # orders values, operands before their readers

    def __init__(self, op: Op, operands: tuple[Value, ...], result: TensorType, place: tuple[int, int]) -> None:
        self.op, self.operands, self.type, self.place = op, operands, result, place
        self.is_prepared = _is_prepared(op, operands)
        self.is_live = False
        self.readers = {}

    def __repr__(self) -> str:
        return f"<{self.op.name} {self.type}>"


def _is_prepared(op: Op, operands: tuple[Value, ...]) -> bool:
    if isinstance(op, Input):
        return op.role == "parameter"
    return all(operand.is_prepared for operand in operands)


class View:
    """What a rule may ask of a graph, and how it makes new values."""

    def __init__(self, source: Graph) -> None:
        self._live: dict[tuple[Op, tuple[Value, ...]], Value] = {}
        self._made: dict[tuple[Op, tuple[Value, ...]], Value] = {}  # by rules, since the last change of the graph
        self._made_count = itertools.count(1)
        self._op_count = 0
        values: dict[Node, Value] = {}
        for index, item in enumerate(source.nodes):
            value = Value(item.op, tuple(values[operand] for operand in item.operands), item.type, (index, 0))
            self._enter(value)
            values[item] = value
        self._inputs = {values[item]: None for item in source.inputs}
        self._outputs = [(label, values[item]) for label, item in source.outputs]
        self._output_indices: dict[Value, list[int]] = {}
        for index, (_, value) in enumerate(self._outputs):
            self._output_indices.setdefault(value, []).append(index)

    @property
    def op_count(self) -> int:
        """How many ops the graph has. Inputs do not count."""
        return self._op_count

    @property
    def inputs(self) -> tuple[Value, ...]:
        """The declared inputs, in order."""
        return tuple(self._inputs)

    def values(self) -> Iterator[Value]:
        """Every value of the graph, in no particular order."""
        return iter(self._live.values())

    def users(self, value: Value) -> tuple[Value, ...]:
        """The values that read this one, in order."""
        return tuple(sorted(value.readers, key=lambda reader: reader.place))

    def only_user(self, value: Value) -> Value | None:
        """The one value that reads this one; None if there are others or if it is an output."""
        return next(iter(value.readers)) if len(value.readers) == 1 and not self.is_output(value) else None

    def is_output(self, value: Value) -> bool:
        """Whether the value is an output of the graph."""
        return value in self._output_indices

    def is_prepared(self, *values: Value) -> bool:
        """Whether the values depend on parameters and constants alone, so that they are computed once."""
        return all(value.is_prepared for value in values)

    def is_unused(self, value: Value) -> bool:
        """Whether nothing reads the value and it is no output."""
        return not value.readers and not self.is_output(value)

    def node(self, op: Op, *operands: Value) -> Value:
        """The value of `op` over `operands`: one that exists already, or a new one. The graph does not change.

        Raises:
          RopegenError: a shape or an element type breaks the op's rule.
        """
        key = (op, operands)
        value = self._live.get(key) or self._made.get(key)
        if value is None:
            # The place is directly after the last operand. The second number orders several values that are made there.
            place = (max((operand.place[0] for operand in operands), default=0), next(self._made_count))
            value = Value(op, operands, op.infer(*(operand.type for operand in operands)), place)
            self._made[key] = value
        return value

    def _enter(self, value: Value) -> None:
        self._live[value.op, value.operands] = value
        value.is_live = True
        self._op_count += not isinstance(value.op, Input)
        for operand in value.operands:
            operand.readers[value] = None


class MutableGraph(View):
    """The graph itself, for the driver of the passes."""

    def __init__(self, source: Graph) -> None:
        super().__init__(source)
        self._name = source.name

    @property
    def name(self) -> str:
        """The name of the graph."""
        return self._name

    def apply(self, equals: Mapping[Value, Value], unused: Iterable[Value] = ()) -> tuple[set[Value], set[Value]]:
        """Makes every reader of a key read its value instead, and drops the unused inputs.

        What nothing reads any more is dropped too. No value may read its own key. Returns the values that are new or
        have new operands, and the values that lost a reader.

        Raises:
          RopegenError: a key and its value have different types.
        """
        changed: set[Value] = set()
        for key, value in equals.items():
            if key.type != value.type:
                raise RopegenError(
                    f"a rule replaces {key} by {value}; a replacement has the same type. This is a mistake in the "
                    "rule, please report it with the graph"
                )
            self._attach(value, changed)
        self._made.clear()
        merging = {key: value for key, value in equals.items() if key is not value}
        stale = [*equals.keys(), *equals.values()]
        while merging:
            merging = self._redirect(merging, changed)
            stale += merging
        for value in unused:
            del self._inputs[value]
        # Last of all: a value that nothing reads for a moment may be the twin of one that is read.
        released: set[Value] = set()
        for value in (*stale, *unused):
            self._erase(value, released)
        return ({value for value in changed if value.is_live}, {value for value in released if value.is_live})

    def freeze(self) -> Graph:
        """The graph as it is now."""
        nodes: dict[Value, Node] = {}
        for value in topological((*self._inputs, *(value for _, value in self._outputs))):
            nodes[value] = node(value.op, *(nodes[operand] for operand in value.operands))
        inputs = [nodes[value] for value in self._inputs]
        return graph(self._name, inputs, [(label, nodes[value]) for label, value in self._outputs])

    def _attach(self, value: Value, changed: set[Value]) -> None:
        """Enters a value that a rule made, with all that it needs."""
        pending = [value]
        while pending:
            value = pending[-1]
            missing = [operand for operand in value.operands if not operand.is_live]
            if missing:
                pending += missing
                continue
            pending.pop()
            if not value.is_live:
                self._enter(value)
                changed.add(value)

    def _redirect(self, merging: Mapping[Value, Value], changed: set[Value]) -> dict[Value, Value]:
        """Lets the readers of the keys read the values. Returns a mapping from the readers that now equal other values
        to those.
        """
        for key in merging:
            self._forget(key)
        readers = dict.fromkeys(reader for key in merging for reader in key.readers if reader not in merging)
        for reader in readers:
            self._forget(reader)
        twins: dict[Value, Value] = {}
        for reader in readers:
            self._read(reader, tuple(_last(operand, merging) for operand in reader.operands))
            changed.add(reader)
            twin = self._live.setdefault((reader.op, reader.operands), reader)
            if twin is not reader:
                twins[reader] = twin
        for key in merging:
            value = _last(key, merging)
            indices = self._output_indices.pop(key, [])
            for index in indices:
                self._outputs[index] = (self._outputs[index][0], value)
            if indices:
                self._output_indices.setdefault(value, []).extend(indices)
        return twins

    def _forget(self, value: Value) -> None:
        """Takes a value out of the table of equal values."""
        if self._live.get((value.op, value.operands)) is value:
            del self._live[value.op, value.operands]

    def _read(self, reader: Value, operands: tuple[Value, ...]) -> None:
        for operand in reader.operands:
            operand.readers.pop(reader, None)
        reader.operands = operands
        for operand in operands:
            operand.readers[reader] = None
        pending = [reader]
        while pending:
            value = pending.pop()
            is_prepared = _is_prepared(value.op, value.operands)
            if is_prepared != value.is_prepared:
                value.is_prepared = is_prepared
                pending += value.readers

    def _erase(self, value: Value, released: set[Value]) -> None:
        """Drops a value if nothing needs it, and then what only it needed."""
        pending = [value]
        while pending:
            value = pending.pop()
            if not value.is_live or value in self._inputs or not self.is_unused(value):
                continue
            self._forget(value)
            value.is_live = False
            self._op_count -= not isinstance(value.op, Input)
            for operand in dict.fromkeys(value.operands):
                del operand.readers[value]
                released.add(operand)
                pending.append(operand)


def _last(value: Value, merging: Mapping[Value, Value]) -> Value:
    while value in merging:
        value = merging[value]
    return value
