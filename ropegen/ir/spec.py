"""What a graph may be at each stage: the ops that a stage knows, and what holds of it besides.

Shapes and element types are right by construction (`Op.infer`); here stands what only a whole graph can break. A user
writes a `source` graph. The passes make it `canonical`, which says each thing in one way, so that the planner matches
few forms; a user's text may also be canonical, as `ropegen opt` prints it.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Iterator
from dataclasses import MISSING, dataclass
from typing import Any, TypeVar

import numpy as np

from ropegen.errors import RopegenError, nearest
from ropegen.ir.graph import Graph, Node, topological
from ropegen.ir.op import Declared, Op, attributes
from ropegen.ir.ops import (
    OPS,
    AppendCache,
    Attend,
    Cast,
    Input,
    MergeHeads,
    Norm,
    Pack,
    Project,
    ReorderPairs,
    Rotate,
    Scale,
    SplitHeads,
    Transpose,
)
from ropegen.masks import Expr
from ropegen.scaling import Scaling
from ropegen.types import DTYPES, TensorType

_AnyOp = TypeVar("_AnyOp", bound=Op)


@dataclass(frozen=True, slots=True)
class Invariant:
    """What holds at a stage: `sentence` says it, `breaks` finds the nodes that break it."""

    name: str
    sentence: str
    breaks: Callable[[Graph], Iterable[Node]]


@dataclass(frozen=True, slots=True)
class Stage:
    """The ops that a graph may have at a stage, what holds of it, and how to get there from any graph."""

    ops: frozenset[type[Op]]
    invariants: tuple[Invariant, ...]
    way_out: str


def check(graph: Graph, stage: str) -> None:
    """Raise unless `graph` is legal at `stage`.

    Raises:
      RopegenError: every rule that is broken, with the op that breaks it; or there is no such stage.
    """
    broken = violations(graph, stage)
    if broken:
        listed = "".join(f"\n  {each}" for each in broken)
        raise RopegenError(f"graph {graph.name!r} is not {stage}; {STAGES[stage].way_out}:{listed}")


def violations(graph: Graph, stage: str) -> tuple[str, ...]:
    """A line for each op that breaks a rule of `stage`; none for a legal graph.

    Raises:
      RopegenError: there is no such stage.
    """
    if stage not in STAGES:
        raise RopegenError(f"there is no stage {stage!r}; {nearest(stage, STAGES)}")
    rules = STAGES[stage]
    foreign = [each for each in graph.nodes if type(each.op) not in rules.ops]
    found = [f"{_shown(each)}: {each.op.name} is not an op of this stage" for each in foreign]
    for rule in rules.invariants:
        found += [f"{_shown(each)}: {rule.sentence}" for each in rule.breaks(graph)]
    return tuple(found)


def _shown(value: Node) -> str:
    """A node on one line, its operands by the ops that make them."""
    operands = (each.op.label if isinstance(each.op, Input) else f"%{each.op.name}" for each in value.operands)
    declared = ((each, getattr(value.op, each.name)) for each in attributes(type(value.op)))
    given = (f"{each.name}={held}" for each, held in declared if held not in (each.default, value.type))
    return f"{value.op.name}({', '.join([*operands, *given])}) -> {value.type}"


# The invariants of the canonical stage. Each finds the nodes that break it.


def _identity_transposes(graph: Graph) -> Iterator[Node]:
    for each, op in _of(graph, Transpose):
        if op.permutation == tuple(range(len(op.permutation))):
            yield each


def _transposes_of_transposes(graph: Graph) -> Iterator[Node]:
    return (each for each, _ in _of(graph, Transpose) if isinstance(each.operands[0].op, Transpose))


def _casts_to_own_type(graph: Graph) -> Iterator[Node]:
    return (each for each, _ in _of(graph, Cast) if each.type == each.operands[0].type)


# The element types that hold every value of another one.
_HOLDS = {
    "i1": frozenset(DTYPES) - {"i1"},
    "i32": frozenset({"i64", "f64"}),
    "f16": frozenset({"f32", "f64"}),
    "bf16": frozenset({"f32", "f64"}),
    "f32": frozenset({"f64"}),
}


def _casts_of_widening_casts(graph: Graph) -> Iterator[Node]:
    for each, _ in _of(graph, Cast):
        inner = each.operands[0]
        if isinstance(inner.op, Cast) and inner.type.dtype in _HOLDS.get(inner.operands[0].type.dtype, ()):
            yield each


def _merges_of_whole_splits(graph: Graph) -> Iterator[Node]:
    for each, _ in _of(graph, MergeHeads):
        split = each.operands[0]
        if isinstance(split.op, SplitHeads) and each.type == split.operands[0].type:
            yield each


def _scales_by_one(graph: Graph) -> Iterator[Node]:
    return (each for each, op in _of(graph, Scale) if op.factor == 1)


def _scales_of_scales(graph: Graph) -> Iterator[Node]:
    for each, op in _of(graph, Scale):
        inner = each.operands[0].op
        if isinstance(inner, Scale) and _is_one_scale(op.factor, inner.factor):
            yield each


def _scales_of_queries(graph: Graph) -> Iterator[Node]:
    users, outputs = graph.users(), {value for _, value in graph.outputs}
    for each, op in _of(graph, Scale):
        readers = users[each]
        if each in outputs or not all(_reads_as_query(reader, each) for reader in readers):
            continue
        if any(isinstance(reader.op, Attend) and _is_one_scale(op.factor, reader.op.scale) for reader in readers):
            yield each


def _reads_as_query(reader: Node, value: Node) -> bool:
    return isinstance(reader.op, Attend) and value is reader.operands[0] and value not in reader.operands[1:]


def _is_one_scale(a: float, b: float) -> bool:
    """Whether two scales make one: a normal float32, which is what scales are applied in, or exactly zero."""
    product, float32 = a * b, np.finfo(np.float32)
    return float(float32.tiny) <= abs(product) <= float(float32.max) or 0 in (a, b)


def _unused_inputs(graph: Graph) -> Iterator[Node]:
    used = set(topological(value for _, value in graph.outputs))
    return (each for each in graph.inputs if each not in used)


def _projections_apart(graph: Graph) -> Iterator[Node]:
    """Attentions whose q, k and v come of projections of one x that one matmul could make.

    Those are alike (all with a bias, or none), and their weights are known before the call, none from another of them.
    """
    prepared = _prepared(graph)
    for each, _ in _of(graph, Attend):
        together: dict[Node, dict[Node, None]] = {}
        for project in map(_projection_behind, each.operands[:3]):
            if project is not None and prepared.issuperset(project.operands[1:]):
                together.setdefault(project.operands[0], {})[project] = None
        for projects in together.values():
            needed = topological(weight for project in projects for weight in project.operands[1:])
            if len(projects) > 1 and len({each.op for each in projects}) == 1 and projects.keys().isdisjoint(needed):
                yield each
                break


def _projection_behind(value: Node) -> Node | None:
    """The projection whose columns reach `value` through ops that work head by head or only move them."""
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
    found: set[Node] = set()
    for each in graph.nodes:
        if each.op.role == "parameter" if isinstance(each.op, Input) else found.issuperset(each.operands):
            found.add(each)
    return found


def _of(graph: Graph, cls: type[_AnyOp]) -> Iterator[tuple[Node, _AnyOp]]:
    return ((each, each.op) for each in graph.nodes if isinstance(each.op, cls))


_MADE_BY_PASSES = (Pack, ReorderPairs)

STAGES: dict[str, Stage] = {
    "source": Stage(
        frozenset(OPS.values()) - {*_MADE_BY_PASSES},
        (),
        "pack and reorder_pairs are made by the passes; write parameters as they are stored, or give it as canonical",
    ),
    "canonical": Stage(
        frozenset(OPS.values()),
        (
            Invariant("no-identity-transpose", "a transposition moves at least one axis", _identity_transposes),
            Invariant("one-transpose", "two transpositions in a row are one", _transposes_of_transposes),
            Invariant("no-cast-to-own-type", "a cast changes the element type", _casts_to_own_type),
            Invariant("one-cast", "a cast that loses nothing is followed by no other cast", _casts_of_widening_casts),
            Invariant(
                "no-split-and-merge", "all heads split and merged again are the value itself", _merges_of_whole_splits
            ),
            Invariant("no-scale-by-one", "a scale has another factor than 1", _scales_by_one),
            Invariant("one-scale", "two scales in a row are one", _scales_of_scales),
            Invariant(
                "scale-in-attend", "a scale of queries alone is part of the attention's scale", _scales_of_queries
            ),
            Invariant("no-unused-input", "every input is read by something or is an output", _unused_inputs),
            Invariant("one-projection", "q, k and v of one x are columns of one projection", _projections_apart),
        ),
        "run the passes (`ropegen opt`), which make these true",
    ),
}


# The ops in words, for `ropegen list` and the documentation -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute in words; `default` is None where it must be given, `choices` are the words that it may be."""

    name: str
    kind: str
    default: str | None
    choices: tuple[str, ...]

    def __str__(self) -> str:
        kind = " | ".join(f'"{each}"' for each in self.choices) or self.kind
        return f"{self.name}: {kind}" if self.default is None else f"{self.name}: {kind} = {self.default}"


@dataclass(frozen=True, slots=True)
class Description:
    """One op in words. An operand that may be left out ends in `?`, one that repeats in `...`."""

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
        (*cls.required, *(f"{each}?" for each in cls.optional), *repeated),
        tuple(_attribute(each) for each in attributes(cls) if each.name != "given"),
        tuple(name for name, stage in STAGES.items() if cls in stage.ops),
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
    kind = next(each for each in declared.kinds if each is not type(None))
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
