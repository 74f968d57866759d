"""The inputs of a call, checked against the types that the graph reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ropegen.emit.lanes import is_symbolic
from ropegen.errors import RopegenError, nearest
from ropegen.ir import ops
from ropegen.ir.graph import Graph
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
        lengths = given.get(cache.lengths)
        if not isinstance(lengths, int | np.integer | np.ndarray) and not _is_on_cpu(lengths):
            continue
        known = np.asarray(lengths)
        most = cache.capacity - cache.rows
        if known.dtype.kind in "iu" and known.size and not (known.min() >= 0 and known.max() <= most):
            raise RopegenError(
                f"input {cache.lengths} is {np.array2string(known, threshold=8)}, and the call writes {cache.rows} rows "
                f"from there into a cache of {cache.capacity}; give lengths from 0 to {most}, or plan with a larger cache"
            )


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
