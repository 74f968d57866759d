"""Rules, passes, and the driver that applies them until nothing changes.

A rule names values of the graph and equal values to read instead. Every replacement is equal on its own, so a rule is
right whatever else happens around it. Its conditions on the surroundings decide whether it saves anything. One firing
is one `Step` of the trace.

The driver keeps a worklist for every rule. A worklist starts with the values whose ops the rule is for, operands
first. After a firing, the values near the change enter the worklists again, and no others. A rule may look further
than that, for instance from attention back to the projections. Therefore the passes run in rounds, and the last round
asks every rule about every value and finds nothing.
"""

from __future__ import annotations

import functools
import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph
from ropegen.ir.op import Op, attributes
from ropegen.ir.ops import Input
from ropegen.passes.mutable import MutableGraph, Value, View

# A graph settles within a few firings per node. Far more firings mean that one rule undoes another.
_FIRINGS_A_NODE = 50
# Values at most this many ops behind a change enter the worklists again. Most rules look at three ops in a row.
_NEAR = 2
# How many ops deep the notation of the trace shows a replaced value.
_SHOWN_DEPTH = 12


@dataclass(frozen=True, slots=True)
class Change:
    """What one firing of a rule does: every key of `equals` is read as its value, and the `unused` inputs are dropped.

    No value may read its own key.
    """

    equals: Mapping[Value, Value]
    unused: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A rewriting that preserves meaning. The first line of `doc` is `before -> after` in short notation.

    `find` is asked about every value of the `anchors` ops; it gives a change, or None.
    """

    name: str
    doc: str
    anchors: tuple[type[Op], ...]
    find: Callable[[Value, View], Change | None]

    @property
    def notation(self) -> str:
        """`before -> after`."""
        return self.doc.partition("\n")[0].rstrip(".")


_Find: TypeAlias = Callable[[Value, View], Change | None]


def rule(*anchors: type[Op]) -> Callable[[_Find], Rule]:
    """A rule with the name and the docstring of its function, which gives the whole change or None."""

    def decorate(function: _Find) -> Rule:
        return Rule(function.__name__.replace("_", "-"), function.__doc__ or "", anchors, function)

    return decorate


def local(*anchors: type[Op]) -> Callable[[Callable[[Value, View], Value | None]], Rule]:
    """A rule that replaces the value that it is asked about: its function gives the equal value, or None."""

    def decorate(function: Callable[[Value, View], Value | None]) -> Rule:
        @functools.wraps(function)
        def find(value: Value, view: View) -> Change | None:
            equal = function(value, view)
            return None if equal is None or equal is value else Change({value: equal})

        return rule(*anchors)(find)

    return decorate


def jointly(*anchors: type[Op]) -> Callable[[Callable[[Value, View], Mapping[Value, Value] | None]], Rule]:
    """A rule that replaces several values at once: its function gives the equal values, or None."""

    def decorate(function: Callable[[Value, View], Mapping[Value, Value] | None]) -> Rule:
        @functools.wraps(function)
        def find(value: Value, view: View) -> Change | None:
            equals = function(value, view)
            return Change(equals) if equals else None

        return rule(*anchors)(find)

    return decorate


@dataclass(frozen=True, slots=True)
class Pass:
    """Rules that are applied together until none of them fires."""

    name: str
    sentence: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One firing of a rule: what it replaced by what, and how many ops the graph had (inputs do not count)."""

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
    """The graph after rounds of all passes, until a whole round changes nothing.

    Therefore settling twice is the same as settling once. It ends because every rule lowers a measure that no other
    rule raises without lowering one of its own: nodes to cancel, scales, interleaved rotations, projections, operands
    out of order.

    Raises:
      RopegenError: the rules fire without end, because one undoes another.
    """
    working = MutableGraph(graph)
    limit = _FIRINGS_A_NODE * (len(graph.nodes) + 1)
    steps: list[Step] = []
    settled = False
    while not settled:
        fired = len(steps)
        for stage in passes:
            _drain(stage, working, steps, limit)
        settled = len(steps) == fired
    return (working.freeze() if steps else graph), tuple(steps)


def _drain(stage: Pass, graph: MutableGraph, steps: list[Step], limit: int) -> None:
    """Applies the rules of a pass until their worklists are empty; the first rule that fires goes first."""
    worklists = [_Worklist(rule, graph) for rule in stage.rules]
    while (firing := _first(worklists, graph)) is not None:
        rule, change = firing
        before, after = _notation(change)
        ops_before = graph.op_count
        changed, released = graph.apply(change.equals, change.unused)
        steps.append(Step(stage.name, rule.name, before, after, ops_before, graph.op_count))
        if len(steps) > limit:
            raise RopegenError(
                f"graph {graph.name!r} does not settle: {limit} rewritings and {rule.name!r} still fires; "
                "this is a mistake in the rules, please report it with the graph"
            )
        near = _near(changed, released)
        for worklist in worklists:
            worklist.add(near)


def _first(worklists: Iterable[_Worklist], view: View) -> tuple[Rule, Change] | None:
    for worklist in worklists:
        while (value := worklist.pop()) is not None:
            change = worklist.rule.find(value, view)
            if change is not None:
                return worklist.rule, change
    return None


class _Worklist:
    """The values that a rule has yet to be asked about. The next one is the first in the order of the graph."""

    def __init__(self, rule: Rule, view: View) -> None:
        self.rule = rule
        self._heap: list[tuple[tuple[int, int], Value]] = []
        self._waiting: set[Value] = set()
        self.add(view.values())

    def add(self, values: Iterable[Value]) -> None:
        for value in values:
            if isinstance(value.op, self.rule.anchors) and value not in self._waiting:
                self._waiting.add(value)
                heapq.heappush(self._heap, (value.place, value))  # no two values have one place

    def pop(self) -> Value | None:
        while self._heap:
            _, value = heapq.heappop(self._heap)
            self._waiting.remove(value)
            if value.is_live:
                return value
        return None


def _near(changed: Collection[Value], released: Iterable[Value]) -> set[Value]:
    """The changed values and those that read them, directly or through a few ops; and the values that lost a reader.

    If one reader is left, it is near too: it may now own what it reads. If more are left, they are not. A graph has
    values with as many readers as it has layers, and every layer changes some of them.
    """
    near = set(changed)
    last: Collection[Value] = changed
    for _ in range(_NEAR):
        last = {reader for value in last for reader in value.readers if reader not in near}
        near |= last
    for value in released:
        near |= {value, *value.readers} if len(value.readers) == 1 else {value}
    return near


# The short notation --------------------------------------------------------------------------------------------------


def _notation(change: Change) -> tuple[str, str]:
    """Both sides as `op(operand, attribute=value)`. A value that both sides share is written %op, and an input as its
    label.
    """
    if change.unused:
        labels = (value.op.label for value in change.unused if isinstance(value.op, Input))
        return f"unused inputs {', '.join(labels)}", "none"
    equals = change.equals
    inner = _behind(operand for key in equals for operand in key.operands)
    tops = [key for key in equals if key not in inner] or list(equals)
    afters = [equals[key] for key in tops]
    shared = _behind(tops) & _behind(afters)
    names: dict[Value, str] = {}
    return _written(tops, shared, names), _written(afters, shared, names)


def _behind(values: Iterable[Value]) -> set[Value]:
    """The values and what they are computed from, as deep as the notation shows."""
    behind = set(values)
    last = list(behind)
    for _ in range(_SHOWN_DEPTH):
        last = [operand for value in last for operand in dict.fromkeys(value.operands) if operand not in behind]
        behind.update(last)
    return behind


def _written(values: Sequence[Value], shared: Collection[Value], names: dict[Value, str]) -> str:
    taken = Counter(value.op.name for value in names)

    def write(value: Value, depth: int) -> str:
        if isinstance(value.op, Input):
            return value.op.label
        if value in names:
            return names[value]
        count = taken[value.op.name]
        taken[value.op.name] += 1
        names[value] = f"%{value.op.name}{count + 1 if count else ''}"
        if value in shared or depth > _SHOWN_DEPTH:
            return names[value]
        operands = [write(operand, depth + 1) for operand in value.operands]
        return f"{value.op.name}({', '.join([*operands, *_attributes(value.op)])})"

    return ", ".join(write(value, 0) for value in dict.fromkeys(values))


def _attributes(op: Op) -> list[str]:
    written: list[str] = []
    for declared in attributes(type(op)):
        value = getattr(op, declared.name)
        if declared.name != "given" and value != declared.default:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            written.append(f"{declared.name}={text if len(text) <= 60 else text[:57] + '...'}")
    return written
