"""The inputs of a call, checked against the types that the graph reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.core import Tracer

from ropegen.emit.lanes import is_symbolic
from ropegen.errors import RopegenError, nearest
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node
from ropegen.types import TensorType, numpy_dtype

Values = dict[str, jax.Array]


def expect_keywords(positional: Sequence[object], labels: Iterable[str]) -> None:
    """Raises a RopegenError if a call has arguments by position; the message shows the call by keyword."""
    if positional:
        raise RopegenError(
            f"the call has {len(positional)} arguments without a name; give the inputs by keyword: "
            f"f({', '.join(f'{label}=...' for label in labels)})"
        )


@dataclass(frozen=True, slots=True)
class Room:
    """The room of a cache: `rows` are written from row `lengths` on, an input, and it has `capacity` rows."""

    lengths: str
    rows: int
    capacity: int


def rooms(graph: Graph) -> tuple[Room, ...]:
    """The caches of a graph that are written at lengths which a call gives."""
    appends = [value for value in graph.nodes if isinstance(value.op, ops.AppendCache)]
    caches = (
        Room(value.operands[2].op.label, value.operands[1].type.shape[-3], value.operands[0].type.shape[-3])
        for value in appends
        if isinstance(value.operands[2].op, ops.Input)
    )
    return tuple(dict.fromkeys(caches))


def expect_room(caches: Iterable[Room], given: Mapping[str, Any]) -> None:
    """Refuses lengths at which rows would be written past the capacity of a cache, and dropped.

    Lengths are compared if the host knows them: NumPy arrays, numbers, and JAX arrays on a CPU. To read those of another
    device, the call would have to wait for it.

    Raises:
      RopegenError: a length is below 0, or leaves no room for the rows.
    """
    for cache in caches:
        known = _known(given.get(cache.lengths))
        most = cache.capacity - cache.rows
        if known is not None and not (known.min() >= 0 and known.max() <= most):
            raise RopegenError(
                f"input {cache.lengths} is {np.array2string(known, threshold=8)}, and the call writes {cache.rows} rows "
                f"from there into a cache of {cache.capacity}; give lengths from 0 to {most}, or plan with a larger cache"
            )


@dataclass(frozen=True, slots=True)
class Place:
    """The place of new tokens in a cache, which two inputs tell: `positions` and, as rows of the cache, `lengths`.

    Row i of the cache holds position `start` + i, and the call writes `rows` of them.
    """

    positions: str
    lengths: str
    start: int
    rows: int


def places(graph: Graph) -> tuple[Place, ...]:
    """The places that a graph reads from two inputs.

    An `attend` says what position every row of a cache holds: its `kv_positions` are known. `append_cache` writes new
    rows of its keys from `lengths` on, an input, so these rows hold known positions after `lengths`. Another input says
    their positions too if the new keys are rotated at it, or if the queries are at it and come from the same tokens as
    the new keys. Where positions of the rows are an input themselves (a ring, a sliding cache), nothing is told twice.
    """
    return tuple(dict.fromkeys(place for value in graph.nodes for place in _places_of(value)))


def _places_of(value: Node) -> Iterator[Place]:
    if not isinstance(value.op, ops.Attend) or "kv_positions" not in value.op.needed:
        return
    held = value.operand("kv_positions")
    appended = value.operands[1]
    while isinstance(appended.op, ops.Cast | ops.Norm | ops.ReorderPairs | ops.Rotate | ops.Scale):
        appended = appended.operands[0]
    if not isinstance(appended.op, ops.AppendCache) or held is None or not isinstance(held.op, ops.Positions):
        return
    _, update, lengths = appended.operands
    if not isinstance(lengths.op, ops.Input):
        return
    new = dict.fromkeys(_same_rows(update))
    told = [
        row.operands[1].operands[0]
        for row in new
        if isinstance(row.op, ops.Rotate)
        and isinstance(row.operands[1].op, ops.Angles)
        and not row.operands[1].op.sections
    ]
    queries = value.operand("q_positions")
    if queries is not None and any(row in new for row in _same_rows(value.operands[0])):
        told.append(queries)
    lead, rows = update.type.shape[:-3], update.type.shape[-3]
    for positions in told:
        is_read = isinstance(positions.op, ops.Input) and positions.type.is_integer
        if is_read and rows and positions.type.shape in ((rows,), (*lead, rows)):
            assert isinstance(positions.op, ops.Input)
            yield Place(positions.op.label, lengths.op.label, held.op.start, rows)


# Ops whose result has the rows of their first operand, one for one.
_ROW_BY_ROW = (
    ops.Attend, ops.Cast, ops.Clip, ops.Embed, ops.MergeHeads, ops.Norm, ops.Project, ops.ReorderPairs, ops.Rotate, ops.Scale,
    ops.ProjectHeads, ops.SplitHeads,
)  # fmt: skip


def _same_rows(value: Node) -> Iterator[Node]:
    """The value, and the values that it is computed from row by row. Parameters and known positions are no tokens."""
    waiting, seen = [value], set[Node]()
    while waiting:
        row = waiting.pop()
        if (
            row in seen
            or isinstance(row.op, ops.Positions)
            or (isinstance(row.op, ops.Input) and row.op.role == "parameter")
        ):
            continue
        seen.add(row)
        yield row
        if isinstance(row.op, _ROW_BY_ROW):
            waiting.append(row.operands[0])
        elif isinstance(row.op, ops.JoinFeatures):
            waiting += row.operands
        elif isinstance(row.op, ops.Add):
            waiting += [operand for operand in row.operands if operand.type.shape == row.type.shape]


def expect_places(told: Iterable[Place], given: Mapping[str, Any]) -> None:
    """Refuses positions and lengths that say two places for the same new tokens.

    Both are compared if the host knows them, as in `expect_room`. Only the first token of a sequence is: those after it
    may be padding, or the branches of a tree.

    Raises:
      RopegenError: the first position of a sequence is not that of the row which its length names.
    """
    for place in told:
        positions, lengths = _known(given.get(place.positions)), _known(given.get(place.lengths))
        if positions is None or lengths is None or not positions.ndim:
            continue
        first = positions[..., 0]
        # Other shapes are refused where the types of all inputs are checked.
        if (first.shape == lengths.shape or not first.ndim or not lengths.ndim) and (
            first != lengths + place.start
        ).any():
            after = f" + {place.start}" if place.start else ""
            several = "[..., None]" if lengths.ndim else ""
            raise RopegenError(
                f"input {place.positions} begins at {np.array2string(first, threshold=8)}, and input {place.lengths} is "
                f"{np.array2string(lengths, threshold=8)}: the graph takes row i of the cache for position i{after}, so a new "
                f"token would be at one position for its angles or its query, and at another for the mask; give "
                f"{place.positions} = {place.lengths}{several}{after} + np.arange({place.rows}), or, if rows are not "
                "positions, plan a graph with kv_positions as an input"
            )


def _known(value: object) -> npt.NDArray[Any] | None:
    """One or more integers that the host knows; None for anything else."""
    if not isinstance(value, int | np.integer | np.ndarray) and not _is_on_cpu(value):
        return None
    known = np.asarray(value)
    return known if known.dtype.kind in "iu" and known.size else None


def _is_on_cpu(value: object) -> bool:
    """Whether it is a JAX array with values that the host can read without waiting for another device."""
    if not isinstance(value, jax.Array) or isinstance(value, Tracer):
        return False
    return value.is_fully_addressable and all(device.platform == "cpu" for device in value.devices())


def check_inputs(
    wanted: Mapping[str, TensorType], given: Mapping[str, Any], declared: Mapping[str, TensorType]
) -> Values:
    """The wanted inputs as arrays, by label. Inputs that the passes dropped as unused may be given; they are ignored.

    Raises:
      RopegenError: an input is missing or unknown, or has another shape or element type.
    """
    for label in given:
        if label not in wanted and label not in declared:
            raise RopegenError(f"no input {label!r}; {nearest(label, wanted)}")
    missing = [label for label in wanted if label not in given]
    if missing:
        described = ", ".join(f"{label} ({wanted[label]})" for label in missing)
        raise RopegenError(f"missing inputs: {described}; give all of them by keyword")
    checked: Values = {}
    for label, kind in wanted.items():
        dtype = numpy_dtype(kind.dtype)
        if dtype.itemsize == 8 and not jax.config.read("jax_enable_x64"):
            raise RopegenError(
                f"input {label} is {kind}, and JAX runs without 64-bit types; set jax_enable_x64 to True first"
            )
        try:
            value = jnp.asarray(given[label])
        except (TypeError, ValueError, OverflowError):
            raise RopegenError(
                f"input {label} is {given[label]!r:.60}, and the graph reads {kind}; give an array of numbers"
            ) from None
        if value.shape != kind.shape or value.dtype != dtype:
            hint = "a plan is made for one shape; plan again"
            if value.dtype != dtype:
                hint = f"convert it with .astype({dtype})"
            elif any(map(is_symbolic, value.shape)):
                hint = (
                    "a plan is made for one shape; plan for one entry, and map it over a symbolic batch with jax.vmap"
                )
            raise RopegenError(f"input {label} is {value.dtype}{list(value.shape)}, the graph reads {kind}; {hint}")
        checked[label] = value
    return checked
