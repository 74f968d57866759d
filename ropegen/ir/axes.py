"""What the axes of every value of a graph are: batch, sequence or heads. The ops and their operands declare it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, label_of
from ropegen.ir.op import Op

SEQUENCE, HEADS = "sequence", "heads"

_Place = tuple[Node, int]
"""An axis of a value."""

# The meaning of the axes that ops name. The first op of this list that reads an axis decides.
_SEQUENCES = {"queries", "keys", "rows", "capacity"}
_ALL_HEADS = {"heads", "kv_heads"}
_NAMING: tuple[type[Op], ...] = (ops.Attend, ops.Rotate, ops.AppendCache, ops.Angles, ops.Sinusoid)


def batch_name(index: int) -> str:
    """The name of a leading axis, counted from 0: `batch`, `batch1`, ..."""
    return f"batch{index}" if index else "batch"


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of a graph. Two axes are one if an op requires their sizes to agree."""

    names: Mapping[Node, tuple[str, ...]]
    """For every value, what its axes are: "batch", "batch1", ..., "sequence", "heads", or "" for any other."""
    counts: Mapping[Node, tuple[int, ...]]
    """For every axis, the least size of the axes that are one with it: the heads, for an axis of their features."""

    @property
    def known(self) -> tuple[str, ...]:
        """The names in the order of (batch, ..., sequence, heads)."""
        present = {name for names in self.names.values() for name in names if name}
        batch = sorted((name for name in present if name.startswith("batch")), key=lambda name: (len(name), name))
        return (*batch, *(name for name in (SEQUENCE, HEADS) if name in present))


def axes_of(graph: Graph, given: Mapping[str, tuple[str, ...]] | None = None) -> Axes:
    """The axes of every value of a graph. `given` are the names of the axes of some inputs, by label.

    An axis of features is one with the heads whose features it holds, as in the columns of the weights of q.
    """
    parent: dict[_Place, _Place] = {}

    def root(place: _Place) -> _Place:
        while (above := parent.get(place, place)) != place:
            place = above
        return place

    for value in graph.nodes:
        first: dict[tuple[str, int], _Place] = {}
        for name, place in _places(value):
            size = 0 if name == _FEATURES else place[0].type.shape[place[1]]
            other = root(first.setdefault((name, size), place))
            parent[root(place)] = other
    names: dict[_Place, str] = {}
    stated = [(value, (given or {}).get(label_of(value), ())) for value in graph.inputs]
    own = [((value, index), name) for value, its in stated for index, name in enumerate(its) if name]
    for place, name in (*own, *_named(graph)):
        names.setdefault(root(place), name)
    least: dict[_Place, int] = {}
    for value in graph.nodes:
        for index, size in enumerate(value.type.shape):
            joined = root((value, index))
            least[joined] = min(size, least.get(joined, size))
    places = {value: [root((value, index)) for index in range(value.type.rank)] for value in graph.nodes}
    return Axes(
        {value: tuple(names.get(place, "") for place in its) for value, its in places.items()},
        {value: tuple(least[place] for place in its) for value, its in places.items()},
    )


# The axis of heads, and that of the features of all heads.
_FEATURES = "features of heads"


def _places(value: Node) -> Iterator[tuple[str, _Place]]:
    """The axes of an op's operands and of its result, by name. The sizes of the batch are counted from the right."""
    op = value.op
    if isinstance(op, ops.Transpose):
        for index, axis in enumerate(op.permutation):
            yield str(axis), (value, index)
            yield str(axis), (value.operands[0], axis)
        return
    for declared, operand in zip(op.present(len(value.operands)), value.operands, strict=True):
        has_batch = declared.batch != "none" or isinstance(op, ops.Angles)
        yield from _places_of(operand, declared.axes, has_batch, _joins_heads(op, operand))
    yield from _places_of(value, op.result_axes, has_batch=True, joins=_joins_heads(op, value))


def _joins_heads(op: Op, value: Node) -> bool:
    """Whether the op only cuts features into heads, or joins them, so that a part of the heads is a part of the features."""
    if isinstance(op, ops.SplitHeads):
        return value.op is op or op.heads * op.width == value.type.shape[-1]
    return isinstance(op, ops.MergeHeads | ops.Pack)


def _places_of(value: Node, axes: tuple[str, ...], has_batch: bool, joins: bool) -> Iterator[tuple[str, _Place]]:
    rank = value.type.rank
    for index in range(rank):
        offset = index - (rank - len(axes))
        if offset >= 0:
            name = axes[offset]
            yield _FEATURES if joins and name in ("heads", "columns") else name, (value, index)
        elif has_batch:
            yield f"batch {offset}", (value, index)


def _named(graph: Graph) -> Iterator[tuple[_Place, str]]:
    """The names of axes, those that decide first."""
    for kind in _NAMING:
        for value in graph.nodes:
            if isinstance(value.op, kind):
                for declared, operand in zip(value.op.present(len(value.operands)), value.operands, strict=True):
                    yield from _meanings(operand, declared.axes, declared.batch == "required")
                yield from _meanings(value, value.op.result_axes, has_batch=True)
    for value in graph.nodes:
        if isinstance(value.op, ops.SplitHeads):
            yield from _meanings(value, ("rows", "heads", "width"), has_batch=True)
        elif isinstance(value.op, ops.MergeHeads):
            yield from _meanings(value.operands[0], ("rows", "heads", "width"), has_batch=True)
        elif isinstance(value.op, ops.Embed):
            yield from _meanings(value.operands[0], ("rows",), has_batch=True)
        elif isinstance(value.op, ops.Project | ops.Norm):
            yield from _meanings(value.operands[0], ("rows", "features"), has_batch=True)


def _meanings(value: Node, axes: tuple[str, ...], has_batch: bool) -> Iterator[tuple[_Place, str]]:
    rank = value.type.rank
    for index in range(rank):
        offset = index - (rank - len(axes))
        if offset >= 0 and axes[offset] in _SEQUENCES:
            yield (value, index), SEQUENCE
        elif offset >= 0 and axes[offset] in _ALL_HEADS:
            yield (value, index), HEADS
        elif offset < 0 and has_batch:
            yield (value, index), batch_name(index)
