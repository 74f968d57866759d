"""Rules, what they may ask of a graph, and the driver that applies them until nothing changes.

A rule names values of the graph and equal values to read instead. Every replacement is equal by itself, so a rule is
right whatever else happens around it; what it asks of the surroundings decides whether it pays. One firing is one
`Step` of the trace.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph, Node, graph, node, topological
from ropegen.ir.op import Op, attributes
from ropegen.ir.ops import Input

# A graph of n nodes settles within a few firings a node; far more than that is a rule that undoes another.
_FIRINGS_A_NODE = 50
# How deep the notation of the trace shows what a rule replaced.
_SHOWN_DEPTH = 12


class View:
    """What a rule may ask of a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def users(self, value: Node) -> tuple[Node, ...]:
        """The nodes that read the value, in order."""
        return self._users[value]

    def only_user(self, value: Node) -> Node | None:
        """The one node that reads the value, None where there are others or it is an output."""
        users = self.users(value)
        return users[0] if len(users) == 1 and not self.is_output(value) else None

    def is_output(self, value: Node) -> bool:
        """Whether the value is an output of the graph."""
        return value in self._outputs

    def is_prepared(self, *values: Node) -> bool:
        """Whether the values depend on parameters and constants alone, so that they are computed once."""
        return all(each in self._prepared for each in values)

    @functools.cached_property
    def _users(self) -> dict[Node, tuple[Node, ...]]:
        return self.graph.users()

    @functools.cached_property
    def _outputs(self) -> frozenset[Node]:
        return frozenset(value for _, value in self.graph.outputs)

    @functools.cached_property
    def _prepared(self) -> frozenset[Node]:
        found: set[Node] = set()
        for each in self.graph.nodes:
            if each.op.role == "parameter" if isinstance(each.op, Input) else found.issuperset(each.operands):
                found.add(each)
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Change:
    """What one firing of a rule makes of a graph, with both sides in the short notation of the trace."""

    graph: Graph
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A rewriting that preserves meaning. The first line of `doc` is `before -> after` in short notation.

    `find` makes the first change that the rule has for a graph, None where it has none.
    """

    name: str
    doc: str
    find: Callable[[View], Change | None]

    @classmethod
    def of(cls, function: Callable[[View], Change | None]) -> Rule:
        """The rule of a function over the whole graph, with its name and docstring."""
        return cls(function.__name__.replace("_", "-"), function.__doc__ or "", function)

    @property
    def notation(self) -> str:
        """`before -> after`."""
        return self.doc.partition("\n")[0].rstrip(".")


def local(*anchors: type[Op]) -> Callable[[Callable[[Node, View], Node | None]], Rule]:
    """A rule that asks each node of these ops, operands first: its function gives the equal node to use, or None."""

    def decorate(function: Callable[[Node, View], Node | None]) -> Rule:
        @functools.wraps(function)
        def find(view: View) -> Change | None:
            for each in view.graph.nodes:
                if isinstance(each.op, anchors):
                    equal = function(each, view)
                    if equal is not None and equal is not each:
                        return replaced(view.graph, {each: equal})
            return None

        return Rule.of(find)

    return decorate


def jointly(*anchors: type[Op]) -> Callable[[Callable[[Node, View], Mapping[Node, Node] | None]], Rule]:
    """A rule like `local` that replaces several nodes at once: the equal node for each of them, or None."""

    def decorate(function: Callable[[Node, View], Mapping[Node, Node] | None]) -> Rule:
        @functools.wraps(function)
        def find(view: View) -> Change | None:
            for each in view.graph.nodes:
                found = function(each, view) if isinstance(each.op, anchors) else None
                if found:
                    return replaced(view.graph, found)
            return None

        return Rule.of(find)

    return decorate


def replaced(graph: Graph, equals: Mapping[Node, Node]) -> Change:
    """The graph with every key read as its value. No value may read its own key."""
    before, after = _notation(equals)
    return Change(_substituted(graph, equals), before, after)


def _substituted(before: Graph, equals: Mapping[Node, Node]) -> Graph:
    done: dict[Node, Node] = {each: each for each in before.inputs}
    pending = [value for _, value in before.outputs]
    while pending:  # not a recursion: a graph may be deeper than Python's stack
        each = pending[-1]
        equal = equals.get(each)
        wanted = each.operands if equal is None else (equal,)
        missing = [operand for operand in wanted if operand not in done]
        if missing:
            pending.extend(missing)
            continue
        pending.pop()
        done[each] = node(each.op, *(done[operand] for operand in wanted)) if equal is None else done[equal]
    return graph(before.name, before.inputs, [(label, done[value]) for label, value in before.outputs])


@dataclass(frozen=True, slots=True)
class Pass:
    """Rules that are applied together until none of them fires."""

    name: str
    sentence: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One firing of a rule: what it replaced by what, and how many ops the graph had (inputs not counted)."""

    stage: str
    rule: str
    before: str
    after: str
    ops_before: int
    ops_after: int

    def __str__(self) -> str:
        return f"{self.stage}/{self.rule}: {self.before} -> {self.after} ({self.ops_before} -> {self.ops_after} ops)"


Trace: TypeAlias = "tuple[Step, ...]"


def settle(graph: Graph, passes: Sequence[Pass]) -> tuple[Graph, Trace]:
    """The graph after the passes, one after another, again from the first until a whole round changes nothing.

    So settling twice is settling once. It ends because each rule lowers a measure that no other raises without
    lowering one of its own: nodes to cancel, scales, interleaved rotations, projections, operands out of order.
    """
    steps: list[Step] = []
    limit = _FIRINGS_A_NODE * (len(graph.nodes) + 1)
    settled = False
    while not settled:
        settled = True
        for each in passes:
            while (found := _first(each, View(graph))) is not None:
                rule, change = found
                steps.append(
                    Step(each.name, rule.name, change.before, change.after, _count(graph), _count(change.graph))
                )
                graph, settled = change.graph, False
                if len(steps) > limit:
                    raise RopegenError(
                        f"graph {graph.name!r} does not settle: {limit} rewritings and {rule.name!r} still fires; "
                        "this is a mistake in the rules, please report it with the graph"
                    )
    return graph, tuple(steps)


def _first(stage: Pass, view: View) -> tuple[Rule, Change] | None:
    for rule in stage.rules:
        change = rule.find(view)
        if change is not None:
            return rule, change
    return None


def _count(graph: Graph) -> int:
    return len(graph.nodes) - len(graph.inputs)


# The short notation --------------------------------------------------------------------------------------------------


def _notation(equals: Mapping[Node, Node]) -> tuple[str, str]:
    """Both sides as `op(operand, attribute=value)`. What the two share is written %op, an input as its label."""
    inner = {each for key in equals for each in topological(key.operands)}
    tops = [key for key in equals if key not in inner] or list(equals)
    afters = [equals[key] for key in tops]
    shared = set(topological(tops)) & set(topological(afters))
    names: dict[Node, str] = {}
    return _written(tops, shared, names), _written(afters, shared, names)


def _written(values: Sequence[Node], shared: Collection[Node], names: dict[Node, str]) -> str:
    def write(value: Node, depth: int) -> str:
        if isinstance(value.op, Input):
            return value.op.label
        if value in names:
            return names[value]
        taken = sum(name.startswith(f"%{value.op.name}") for name in names.values())
        names[value] = f"%{value.op.name}{taken + 1 if taken else ''}"
        if value in shared or depth > _SHOWN_DEPTH:
            return names[value]
        operands = [write(operand, depth + 1) for operand in value.operands]
        return f"{value.op.name}({', '.join([*operands, *_attributes(value.op)])})"

    return ", ".join(write(each, 0) for each in dict.fromkeys(values))


def _attributes(op: Op) -> list[str]:
    found: list[str] = []
    for each in attributes(type(op)):
        value = getattr(op, each.name)
        if each.name != "given" and value != each.default:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            found.append(f"{each.name}={text if len(text) <= 60 else text[:57] + '...'}")
    return found
