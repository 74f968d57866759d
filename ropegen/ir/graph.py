"""Nodes and graphs: immutable, interned, so that equality is identity and sharing is free."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from typing import NoReturn, Protocol, Self, TypeVar, cast

from ropegen.errors import RopegenError
from ropegen.ir.op import Op
from ropegen.ir.ops import Input
from ropegen.types import TensorType

# The whole structure is the key: nobody picks its fields by hand. The tables keep nothing alive.
_nodes: weakref.WeakValueDictionary[tuple[Op, tuple[Node, ...]], Node] = weakref.WeakValueDictionary()
_graphs: weakref.WeakValueDictionary[tuple[str, tuple[Node, ...], tuple[tuple[str, Node], ...]], Graph] = (
    weakref.WeakValueDictionary()
)
_lock = threading.RLock()


class _Interned:
    """What nodes and graphs share: they never change once they are made, and equality is identity."""

    __slots__ = ("__weakref__",)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __copy__(self) -> _Interned:
        return self

    def __deepcopy__(self, memo: object) -> _Interned:
        return self


class Node(_Interned):
    """One op applied to operands, with its type. Make it with `node`: two equal nodes are one object."""

    __slots__ = ("op", "operands", "type")
    op: Op
    operands: tuple[Node, ...]
    type: TensorType

    def __repr__(self) -> str:
        return f"<{self.op.name} {self.type}>"

    def __reduce__(self) -> tuple[Callable[..., Node], tuple[object, ...]]:
        return node, (self.op, *self.operands)

    def operand(self, name: str) -> Node | None:
        """The operand of that name; None if it was not given."""
        names = self.op.operand_names(len(self.operands))
        return self.operands[names.index(name)] if name in names else None


def node(op: Op, *operands: Node) -> Node:
    """The node of `op` over `operands`; its type is inferred.

    Raises:
      RopegenError: the operand count, a shape or an element type breaks the op's rule.
    """
    key = (op, operands)
    with _lock:
        known = _nodes.get(key)
        if known is not None:
            return known
        names = op.operand_names(len(operands))
        if len(names) != len(operands):
            raise RopegenError(
                f"{op.name}: {len(operands)} operands for {len(names)} ({', '.join(names) or 'none'}); give each one once"
            )
        made = Node()
        object.__setattr__(made, "op", op)
        object.__setattr__(made, "operands", operands)
        object.__setattr__(made, "type", op.infer(*(operand.type for operand in operands)))
        _nodes[key] = made
        return made


class Graph(_Interned):
    """Named outputs over declared inputs. Make it with `graph`: two equal graphs are one object.

    `nodes` holds every node, operands before users, the declared inputs first.
    """

    __slots__ = ("inputs", "name", "nodes", "outputs")
    name: str
    inputs: tuple[Node, ...]
    outputs: tuple[tuple[str, Node], ...]
    nodes: tuple[Node, ...]

    def __repr__(self) -> str:
        return f"<graph {self.name}: {len(self.ops)} ops>"

    def __reduce__(self) -> tuple[Callable[..., Graph], tuple[object, ...]]:
        return graph, (self.name, self.inputs, self.outputs)

    @property
    def input_types(self) -> dict[str, TensorType]:
        """The types of the inputs, by label."""
        return {label_of(value): value.type for value in self.inputs}

    @property
    def ops(self) -> tuple[Node, ...]:
        """The nodes that compute something: all but the inputs."""
        return tuple(item for item in self.nodes if not isinstance(item.op, Input))

    def labels(self, *roles: str) -> tuple[str, ...]:
        """The labels of the inputs of these roles, in order."""
        return tuple(item.op.label for item in self.inputs if isinstance(item.op, Input) and item.op.role in roles)

    def users(self) -> dict[Node, tuple[Node, ...]]:
        """For every node, the nodes that read it, in order."""
        users: dict[Node, list[Node]] = {item: [] for item in self.nodes}
        for item in self.nodes:
            for operand in dict.fromkeys(item.operands):
                users[operand].append(item)
        return {item: tuple(readers) for item, readers in users.items()}


def graph(name: str, inputs: Iterable[Node], outputs: Mapping[str, Node] | Iterable[tuple[str, Node]]) -> Graph:
    """The graph of these outputs.

    Raises:
      RopegenError: no output, a name given twice, or an input that is used but not declared.
    """
    declared = tuple(inputs)
    pairs = cast("Mapping[str, Node]", outputs).items() if isinstance(outputs, Mapping) else outputs
    named = tuple(pairs)
    key = (name, declared, named)
    with _lock:
        interned = _graphs.get(key)
        if interned is not None:
            return interned
        _check(name, declared, named)
        made = Graph()
        object.__setattr__(made, "name", name)
        object.__setattr__(made, "inputs", declared)
        object.__setattr__(made, "outputs", named)
        object.__setattr__(made, "nodes", topological((*declared, *(value for _, value in named))))
        known = set(declared)
        undeclared = [item.op.label for item in made.nodes if isinstance(item.op, Input) and item not in known]
        if undeclared:
            raise RopegenError(f"graph {name!r} reads undeclared inputs {undeclared}; name them among its inputs")
        _graphs[key] = made
        return made


def expect_graph(call: str, given: object) -> None:
    """Raises a RopegenError unless `given` is a graph; the message begins with the name of the call."""
    if not isinstance(given, Graph):
        raise RopegenError(
            f"{call}: graph is {given!r:.60}; give a ropegen.Graph, from load_graph, loads, from_hf or Builder.build"
        )


class _HasOperands(Protocol):
    @property
    def operands(self) -> tuple[Self, ...]: ...


_AnyNode = TypeVar("_AnyNode", bound=_HasOperands)


def topological(roots: Iterable[_AnyNode], given: Container[_AnyNode] = ()) -> tuple[_AnyNode, ...]:
    """Every node that the roots need except those `given`, operands first. The order depends on the structure alone."""
    order: dict[_AnyNode, None] = {}
    for root in roots:
        pending = [(root, False)]
        while pending:
            item, is_ready = pending.pop()
            if item in order or item in given:
                continue
            if is_ready:
                order[item] = None
            else:
                pending.append((item, True))
                pending.extend((operand, False) for operand in reversed(item.operands))
    return tuple(order)


def label_of(value: Node) -> str:
    """The label of an input node."""
    if not isinstance(value.op, Input):
        raise RopegenError(f"{value} is not an input; make inputs with the `input` op")
    return value.op.label


def _check(name: str, inputs: tuple[Node, ...], outputs: tuple[tuple[str, Node], ...]) -> None:
    if not name.replace("-", "_").replace(".", "_").replace("_", "a").isalnum():
        raise RopegenError(f"the graph's name {name!r} has other characters than letters, digits, '-', '_' and '.'")
    if not outputs:
        raise RopegenError(f"graph {name!r} has no output; name at least one value")
    for what, labels in (("input", [label_of(item) for item in inputs]), ("output", [label for label, _ in outputs])):
        twice = sorted(label for label, count in Counter(labels).items() if count > 1)
        if twice:
            raise RopegenError(f"graph {name!r} has more than one {what} called {', '.join(twice)}; names must differ")
        for label in labels:
            if not label.isidentifier():
                raise RopegenError(
                    f"graph {name!r}: the {what} {label!r} is not a name; use letters, digits and _ only"
                )
