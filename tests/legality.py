"""What must be true of a graph at every stage, written without the rules of the passes.

A `source` graph has no op that only the passes make. The `Invariant`s say what a `canonical` graph is. They read a
finished graph; no rule and no driver takes part in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import ml_dtypes
import numpy as np

from ropegen.ir.graph import Graph, Node, topological
from ropegen.ir.op import Op
from ropegen.ir.ops import (
    AppendCache,
    Attend,
    Cast,
    Input,
    MergeHeads,
    Norm,
    Project,
    ReorderPairs,
    Rotate,
    Scale,
    SplitHeads,
    Transpose,
)
from ropegen.ir.spec import STAGES
from ropegen.types import DTYPES, numpy_dtype

_AnyOp = TypeVar("_AnyOp", bound=Op)


@dataclass(frozen=True, slots=True)
class Invariant:
    """What holds of a canonical graph: `sentence` says it, `breaks` gives the nodes that break it."""

    name: str
    sentence: str
    breaks: Callable[[Graph], Iterable[Node]]


def violations(graph: Graph, stage: str) -> tuple[str, ...]:
    """A line for every op that breaks a rule of the stage."""
    lines = [f"{line(node)}: not an op of this stage" for node in graph.nodes if type(node.op) not in STAGES[stage]]
    if stage == "canonical":
        lines += [f"{line(node)}: {rule.sentence}" for rule in INVARIANTS for node in rule.breaks(graph)]
    return tuple(lines)


def line(node: Node) -> str:
    return f"{node.op!r} -> {node.type}"


def _identity_transposes(graph: Graph) -> Iterator[Node]:
    for node, op in _of(graph, Transpose):
        if op.permutation == tuple(range(len(op.permutation))):
            yield node


def _transposes_of_transposes(graph: Graph) -> Iterator[Node]:
    return (node for node, _ in _of(graph, Transpose) if isinstance(node.operands[0].op, Transpose))


def _casts_to_own_type(graph: Graph) -> Iterator[Node]:
    return (node for node, _ in _of(graph, Cast) if node.type == node.operands[0].type)


def holds(wide: str, narrow: str) -> bool:
    """Whether an element type holds every value of another one, by the bits of their significands and exponents."""
    wide_type, narrow_type = numpy_dtype(wide), numpy_dtype(narrow)
    if narrow == "i1":
        return True
    if wide == "i1":
        return False
    if narrow.startswith("i"):
        bits = np.iinfo(narrow_type).bits - 1
        return bits <= (np.iinfo(wide_type).bits - 1 if wide.startswith("i") else ml_dtypes.finfo(wide_type).nmant + 1)
    if wide.startswith("i"):
        return False
    a, b = ml_dtypes.finfo(wide_type), ml_dtypes.finfo(narrow_type)
    return a.nmant >= b.nmant and a.maxexp >= b.maxexp and a.minexp <= b.minexp


_HOLDS = {(wide, narrow) for wide in DTYPES for narrow in DTYPES if wide != narrow and holds(wide, narrow)}


def _casts_of_widening_casts(graph: Graph) -> Iterator[Node]:
    for node, _ in _of(graph, Cast):
        inner = node.operands[0]
        if isinstance(inner.op, Cast) and (inner.type.dtype, inner.operands[0].type.dtype) in _HOLDS:
            yield node


def _merges_of_whole_splits(graph: Graph) -> Iterator[Node]:
    for node, _ in _of(graph, MergeHeads):
        split = node.operands[0]
        if isinstance(split.op, SplitHeads) and node.type == split.operands[0].type:
            yield node


def _scales_by_one(graph: Graph) -> Iterator[Node]:
    return (node for node, op in _of(graph, Scale) if op.factor == 1)


def _scales_of_scales(graph: Graph) -> Iterator[Node]:
    for node, op in _of(graph, Scale):
        inner = node.operands[0].op
        if isinstance(inner, Scale) and _is_one_scale(op.factor, inner.factor):
            yield node


def _scales_of_queries(graph: Graph) -> Iterator[Node]:
    users, outputs = graph.users(), {value for _, value in graph.outputs}
    for node, op in _of(graph, Scale):
        readers = users[node]
        if node in outputs or not all(_reads_as_query(reader, node) for reader in readers):
            continue
        if any(isinstance(reader.op, Attend) and _is_one_scale(op.factor, reader.op.scale) for reader in readers):
            yield node


def _reads_as_query(reader: Node, value: Node) -> bool:
    return isinstance(reader.op, Attend) and value is reader.operands[0] and value not in reader.operands[1:]


def _is_one_scale(a: float, b: float) -> bool:
    """Whether one scale can replace two: their product is exactly zero, or a normal float32, since scales are float32."""
    product, float32 = a * b, np.finfo(np.float32)
    return float(float32.tiny) <= abs(product) <= float(float32.max) or 0 in (a, b)


def _unused_inputs(graph: Graph) -> Iterator[Node]:
    used = set(topological(value for _, value in graph.outputs))
    return (value for value in graph.inputs if value not in used)


def _projections_apart(graph: Graph) -> Iterator[Node]:
    """Attentions whose q, k and v come from several projections of one x that one matmul could compute.

    Such projections are alike: all have a bias or none has one. Their weights are known before the call, and none of
    these weights is computed from another of the projections.
    """
    prepared = _prepared(graph)
    for node, _ in _of(graph, Attend):
        together: dict[Node, dict[Node, None]] = {}
        for project in map(_projection_behind, node.operands[:3]):
            if project is not None and prepared.issuperset(project.operands[1:]):
                together.setdefault(project.operands[0], {})[project] = None
        for projects in together.values():
            needed = topological(weight for project in projects for weight in project.operands[1:])
            alike = len({project.op for project in projects}) == 1
            if len(projects) > 1 and alike and projects.keys().isdisjoint(needed):
                yield node
                break


def _projection_behind(value: Node) -> Node | None:
    """The projection whose columns reach `value` through ops that work head by head or only move features."""
    while not isinstance(value.op, Project):
        match value.op:
            case Norm() | Rotate() | Scale() | Cast() | Transpose() | SplitHeads() | MergeHeads() | ReorderPairs():
                value = value.operands[0]
            case AppendCache():
                value = value.operands[1]
            case _:
                return None
    return value


def _prepared(graph: Graph) -> set[Node]:
    """What depends on parameters and constants alone."""
    prepared: set[Node] = set()
    for node in graph.nodes:
        if node.op.role == "parameter" if isinstance(node.op, Input) else prepared.issuperset(node.operands):
            prepared.add(node)
    return prepared


def _of(graph: Graph, cls: type[_AnyOp]) -> Iterator[tuple[Node, _AnyOp]]:
    return ((node, node.op) for node in graph.nodes if isinstance(node.op, cls))


INVARIANTS = (
    Invariant("no-identity-transpose", "a transposition moves at least one axis", _identity_transposes),
    Invariant("one-transpose", "two transpositions in a row are one", _transposes_of_transposes),
    Invariant("no-cast-to-own-type", "a cast changes the element type", _casts_to_own_type),
    Invariant("one-cast", "no other cast follows a cast that loses nothing", _casts_of_widening_casts),
    Invariant("no-split-and-merge", "all heads, split and merged again, are the value itself", _merges_of_whole_splits),
    Invariant("no-scale-by-one", "a scale has a factor other than 1", _scales_by_one),
    Invariant("one-scale", "two scales in a row are one", _scales_of_scales),
    Invariant("scale-in-attend", "a scale of queries alone is part of the attention's scale", _scales_of_queries),
    Invariant("no-unused-input", "something reads every input, or it is an output", _unused_inputs),
    Invariant("one-projection", "q, k and v of one x are columns of one projection", _projections_apart),
)
