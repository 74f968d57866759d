"""What a call inside a `jax.shard_map` cannot see: where its part lies in the whole.

Inside `shard_map`, arrays have the sizes of one device's part. If it splits the sequence, positions that are left out
would count from 0 on every device; if it splits heads or batch, so would the `head` and `batch` of a mask. The results
would be wrong without a word. Only the enclosing `shard_map` knows which axes it splits, so the primitive `part`
returns its operands unchanged, and its lowering looks at the arrays that the `shard_map` around it takes. What the axes
of the operands are is known from the graph, and those of other arrays are told by their sizes. JAX lowers the bodies of
loops, of `jax.checkpoint` and of nested `jit` apart from what is around them, and while it does so, the `shard_map` is not
finished: see `_blocks`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jax
from jax.core import Tracer
from jax.extend.core import Primitive
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import sdy
from jax.interpreters import ad, batching, mlir
from jax.sharding import AxisType

from ropegen.emit.varying import varying
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.axes import HEADS, SEQUENCE, axes_of, batch_name
from ropegen.ir.graph import Graph, Node, label_of

Array = jax.Array


@dataclass(frozen=True, slots=True)
class Question:
    """Whether an axis of a call is split over one of these mesh axes, and the refusal if it is."""

    axes: frozenset[str]
    sizes: frozenset[int]
    """The sizes that the axis can have in the arrays of a device."""
    places: frozenset[int]
    """The places that it can have among the axes of an array with several axes."""
    beside: frozenset[tuple[int, ...]]
    """Sizes of other axes, of which one tuple stands directly before or after it wherever else it is."""
    others: tuple[frozenset[int], ...]
    """For every operand of the primitive, the places of axes that are known to be others."""
    refusal: str


def _manual_axes() -> frozenset[str]:
    """The mesh axes that an enclosing `shard_map` splits into more than one part."""
    mesh = jax.sharding.get_abstract_mesh()
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return frozenset(axis for axis, kind in kinds if kind == AxisType.Manual and mesh.shape[axis] > 1)


def inside_shard_map() -> bool:
    """Whether a `shard_map` splits what is traced now."""
    return bool(_manual_axes())


def with_own_part(call: str, graph: Graph, values: Mapping[str, Array], same: Collection[str] = ()) -> dict[str, Array]:
    """The inputs of a call. If it is inside a `shard_map` that splits what the call counts, lowering it is an error.

    `same` are the labels of inputs that are known to be the same on every device, also where JAX traces them.

    The lowering raises:
      RopegenError: positions are left out or equal on every device, and the sequence is split; or a mask or score reads
        `head` or `batch`, and that axis is split.
    """
    manual = _manual_axes()
    if not manual or not values:
        return dict(values)
    types = {label: jax.typeof(value) for label, value in values.items()}
    states = varying(types.values())  # with check_vma=False, no type states an axis
    axes = axes_of(graph)
    batch = sum(name.startswith("batch") for name in axes.known)
    names = {label_of(value): axes.names[value] for value in graph.inputs}

    def others(asked: str) -> tuple[frozenset[int], ...]:
        return tuple(
            frozenset(place for place, name in enumerate(names.get(label, ())) if name not in ("", asked))
            for label in values
        )

    questions = [
        *_of_positions(call, graph, values, same, states, manual, batch, others(SEQUENCE)),
        *_of_places(call, graph, states or manual, batch, {"head": others(HEADS), "batch": others(batch_name(0))}),
        *_of_seeds(call, graph, values, same, states, manual, batch, (others(HEADS), others(batch_name(0)))),
    ]
    if not questions:
        return dict(values)
    return dict(zip(values, _part_p.bind(*values.values(), questions=tuple(questions)), strict=True))


def _of_positions(
    call: str,
    graph: Graph,
    values: Mapping[str, Array],
    same: Collection[str],
    states: frozenset[str],
    manual: frozenset[str],
    batch: int,
    others: tuple[frozenset[int], ...],
) -> Iterator[Question]:
    """For all positions that do not vary over an axis over which something else does."""
    for value in dict.fromkeys(at for user in graph.nodes for at in _positions_of(user)):
        given = values.get(label_of(value)) if isinstance(value.op, ops.Input) else None
        if states:
            axes = states - (frozenset() if given is None else jax.typeof(given).manual_axis_type.varying)
        else:
            axes = frozenset() if isinstance(given, Tracer) and label_of(value) not in same else manual
        length = value.type.shape[-1]
        if axes and length > 1:
            axis = min(axes)
            yield Question(
                axes,
                frozenset((length,)),
                frozenset((batch,)),
                frozenset(_batches(graph)),
                others,
                f"{call}: this shard_map splits the sequence over the mesh axis {{axis!r}}, and the positions are left out or "
                f"are the same on every device, so every device would count them from the same one. Give the positions of "
                f"this part, for queries and keys: jax.lax.axis_index({{axis!r}}) * {length} + jax.numpy.arange({length})"
                + (
                    f"; if every device has the whole sequence, give jax.lax.pcast(positions, {axis!r}, to='varying')"
                    if states
                    else ""
                ),
            )


def _batches(graph: Graph) -> Iterator[tuple[int, ...]]:
    """The sizes of the batch in front of the sequence of inputs of a call."""
    names = axes_of(graph).names
    for value in graph.inputs:
        if SEQUENCE in names[value] and (place := names[value].index(SEQUENCE)):
            yield value.type.shape[:place]


def _positions_of(user: Node) -> tuple[Node, ...]:
    """The operands of a node that are positions."""
    operands = zip(user.op.present(len(user.operands)), user.operands, strict=True)
    return tuple(
        operand
        for declared, operand in operands
        if declared.holds == "position" or isinstance(operand.op, ops.Positions)
    )


def _of_places(
    call: str, graph: Graph, axes: frozenset[str], batch: int, others: Mapping[str, tuple[frozenset[int], ...]]
) -> Iterator[Question]:
    """For the head and batch indices that masks and scores read."""
    for value in graph.nodes:
        if not isinstance(value.op, ops.Attend):
            continue
        for name in sorted(value.op.variables & others.keys()):
            way_out = (
                "Call it outside of shard_map with `sharding=`, which counts over the whole, or give this part's own `bias` or "
                "mask array"
            )
            yield _of_index(call, name, value.operands[0].type.shape, axes, batch, others[name], way_out)


def _of_index(
    call: str,
    name: str,
    shape: tuple[int, ...],
    axes: frozenset[str],
    batch: int,
    others: tuple[frozenset[int], ...],
    way_out: str,
) -> Question:
    """For the index, `head` or `batch`, that the mask or score of an attention reads; q has the shape."""
    heads, width = shape[-2:]
    sizes, places = ({heads, heads * width}, {1, batch + 1}) if name == "head" else ({shape[0]}, {0})
    return Question(
        axes,
        frozenset(sizes),
        frozenset(places),
        frozenset(),
        others,
        f"{call}: this shard_map splits the {name}{'s' if name == 'head' else ''} over the mesh axis {{axis!r}}, and the mask "
        f"or score reads `{name}`, which would count from 0 on every device. {way_out}",
    )


def with_own_index(call: str, read: frozenset[str], q: Array, sequence: str) -> Array:
    """The q (..., S, H, D) of an attention whose sequence lies over the mesh axis `sequence`, and whose mask and score read these
    variables.

    The lowering raises:
      RopegenError: they read `head` or `batch`, and the `shard_map` around the call splits that axis.
    """
    axes = (varying([jax.typeof(q)]) or _manual_axes()) - {sequence}
    way_out = "Leave that axis whole, or give this part's own `bias` or mask array"
    questions = tuple(
        _of_index(call, name, q.shape, axes, q.ndim - 3, (frozenset(range(q.ndim)) - {place},), way_out)
        for name, place in (("head", q.ndim - 2), ("batch", 0))
        if name in read
    )
    return _part_p.bind(q, questions=questions)[0] if questions and axes else q


def _of_seeds(
    call: str,
    graph: Graph,
    values: Mapping[str, Array],
    same: Collection[str],
    states: frozenset[str],
    manual: frozenset[str],
    batch: int,
    others: tuple[tuple[frozenset[int], ...], tuple[frozenset[int], ...]],
) -> Iterator[Question]:
    """For the heads and the batch of an attention with dropout whose seed does not vary over an axis."""
    for value in graph.nodes:
        seed = value.operand("seed") if isinstance(value.op, ops.Attend) and value.op.dropout is not None else None
        given = None if seed is None else values.get(label_of(seed))
        if seed is None or given is None:
            continue
        if states:
            axes = states - jax.typeof(given).manual_axis_type.varying
        else:
            axes = frozenset() if isinstance(given, Tracer) and label_of(seed) not in same else manual
        shape = value.operands[0].type.shape
        heads, width = shape[-2:]
        where = (("heads", {heads, heads * width}, {1, batch + 1}), ("batch", {shape[0]}, {0}))
        for (name, sizes, places), their_others in zip(where, others, strict=True):
            if axes:
                yield Question(
                    axes,
                    frozenset(sizes),
                    frozenset(places),
                    frozenset(),
                    their_others,
                    f"{call}: this shard_map splits the {name} over the mesh axis {{axis!r}}, and dropout has the same key on every "
                    "device, so all of them would drop the same weights. Give every device a key of its own: "
                    "jax.random.fold_in(key, jax.lax.axis_index({axis!r}))",
                )


# The primitive -------------------------------------------------------------------------------------------------------

_part_p = Primitive("part")
_part_p.multiple_results = True


def _same(*values: Any, questions: tuple[Question, ...]) -> list[Any]:
    return list(values)


def _tangents(primals: Any, tangents: Any, *, questions: tuple[Question, ...]) -> tuple[list[Any], list[Any]]:
    return _part_p.bind(*primals, questions=questions), list(tangents)


def _batched(values: Any, places: Any, *, questions: tuple[Question, ...]) -> tuple[list[Any], Any]:
    """The axis that `jax.vmap` adds moves the places of those behind it, and is one more axis of the batch."""
    size = next(value.shape[at] for value, at in zip(values, places, strict=True) if at is not None)

    def moved(others: frozenset[int], at: int | None) -> frozenset[int]:
        return others if at is None else frozenset(place + (place >= at) for place in others)

    asked = tuple(
        dataclasses.replace(
            question,
            places=question.places | {place + 1 for place in question.places},
            beside=question.beside | {(size, *sizes) for sizes in question.beside},
            others=tuple(map(moved, question.others, places)),
        )
        for question in questions
    )
    return _part_p.bind(*values, questions=asked), places


_part_p.def_abstract_eval(_same)
_part_p.def_impl(_same)
ad.primitive_jvps[_part_p] = _tangents
batching.primitive_batchers[_part_p] = _batched


def _lowered(context: mlir.LoweringRuleContext, *values: Any, questions: tuple[Question, ...]) -> list[Any]:
    shapes = [tuple(ir.RankedTensorType(value.type).shape) for value in values]
    for argument, split, shape in itertools.chain.from_iterable(map(_arrays, _blocks())):
        # The operands that it may be, or of which it holds several, and how many axes stand before theirs.
        own = {
            index: len(shape) - len(its)
            for index, (value, its) in enumerate(zip(values, shapes, strict=True))
            if value == argument or (len(its) > 1 and its == shape[-len(its) :])
        }
        for question in questions:
            others = {place + first for index, first in own.items() for place in question.others[index]}
            for place, axes in enumerate(split):
                shared = sorted(question.axes & axes)
                if shared and _can_be(question, shape, place) and place not in others:
                    raise RopegenError(question.refusal.format(axis=shared[0]))
    return list(values)


def _can_be(question: Question, shape: tuple[int, ...], place: int) -> bool:
    """Whether an axis of an array can be the one that the question is about."""
    if shape[place] not in question.sizes:
        return False
    near = ((shape[max(0, place - len(sizes)) : place], shape[place + 1 :][: len(sizes)]) for sizes in question.beside)
    beside = any(sizes in around for sizes, around in zip(question.beside, near, strict=True))
    return beside or place in question.places or len(shape) == 1


def _blocks() -> list[Any]:
    """The blocks that JAX is writing now, from the inside out.

    The body of a loop, of `jax.checkpoint` or of a nested `jit` is written as a function of its own, and a block of it has
    no parent. What is around it stands only on the stack of MLIR's insertion points, which this goes down and up again.
    """
    points, locations = cast("Any", ir.InsertionPoint), cast("Any", ir.Location)
    blocks: list[Any] = []
    left: list[tuple[Any, Any]] = []
    try:
        while True:
            point, location = points.current, locations.current
            blocks.append(point.block)
            point.__exit__(None, None, None)
            left.append((point, location))
    except ValueError:  # none is left
        pass
    before = None
    for point, location in reversed(left):
        # An entry of the stack sets a point or a location, and keeps the other one.
        (location if point is before else point).__enter__()
        before = point
    return blocks


# Nothing is around a function but a module, if anything.
_OUTERMOST = ("func.func", "builtin.module")


def _arrays(block: Any) -> Iterator[tuple[Any, list[set[str]], tuple[int, ...]]]:
    """The arrays that every `shard_map` around a block takes: their values inside, the mesh axes over which each of their
    axes lies, and the sizes.
    """
    operation = block.owner.operation
    while operation is not None and operation.name not in _OUTERMOST:
        if operation.name == "sdy.manual_computation":
            shardings = sdy.TensorShardingPerValueAttr(operation.attributes["in_shardings"]).shardings
            (inside,) = operation.regions[0].blocks
            for argument, sharding in zip(inside.arguments, shardings, strict=True):
                axes = sdy.TensorShardingAttr(sharding).dimension_shardings
                names = [
                    {sdy.AxisRefAttr(axis).name for axis in sdy.DimensionShardingAttr(dimension).axes}
                    for dimension in axes
                ]
                yield argument, names, tuple(ir.RankedTensorType(argument.type).shape)
        parent = operation.parent
        operation = None if parent is None else parent.operation


mlir.register_lowering(_part_p, _lowered, cacheable=False)
