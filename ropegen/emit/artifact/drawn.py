"""Inputs for a graph, drawn at random but fit for the ops that read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ropegen.emit.inputs import places
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node
from ropegen.scaling import whole
from ropegen.types import numpy_dtype

# Positions, segments and lengths are below this, so that positions meet each other and masks hide some keys.
_INTEGERS_BELOW = 8


def drawn_inputs(graph: Graph, seed: int) -> dict[str, npt.NDArray[Any]]:
    """An array for every input, by label: ids inside their table, lengths inside their cache, positions of new tokens
    after them, weights that keep the size of activations near one. Arrays have the declared shapes and element types. The
    same seed gives the same arrays.

    Raises:
      RopegenError: the seed is not a whole number from 0 on.
    """
    if whole("the seed", seed) < 0:
        raise RopegenError(f"the seed is {seed}; give a whole number from 0 on")
    random = np.random.default_rng(whole("the seed", seed))
    users = graph.users()
    values: dict[str, npt.NDArray[Any]] = {}
    for value in graph.inputs:
        assert isinstance(value.op, ops.Input)
        label, kind, dtype = value.op.label, value.type, numpy_dtype(value.type.dtype)
        if kind.dtype == "i1":
            values[label] = random.random(kind.shape) < 0.8
        elif kind.is_integer:
            values[label] = random.integers(0, _integers_below(value, users), kind.shape).astype(dtype)
        else:
            spread = kind.shape[0] ** -0.5 if value.op.role == "parameter" and kind.rank == 2 else 1.0
            lookups = [user for user in users[value] if isinstance(user.op, ops.Embed)]
            if lookups:
                factors = [user.op.factor for row in lookups for user in users[row] if isinstance(user.op, ops.Scale)]
                spread = 1 / max((abs(factor) for factor in factors if factor), default=1.0)
            values[label] = (random.standard_normal(kind.shape) * spread).astype(dtype)
    for place in places(graph):
        positions, lengths = values[place.positions], values[place.lengths]
        if positions.ndim == 1:  # they are those of all sequences
            lengths = values[place.lengths] = np.full_like(lengths, lengths.min())
        first = lengths.min() if positions.ndim == 1 else lengths[..., None]
        positions[...] = first + place.start + np.arange(place.rows)
    return values


def _integers_below(value: Node, users: Mapping[Node, tuple[Node, ...]]) -> int:
    """One more than the largest integer that the readers of an input can take."""
    below = _INTEGERS_BELOW
    for user in users[value]:
        if isinstance(user.op, ops.Embed) and user.operands[0] is value:
            below = user.operands[1].type.shape[0]
        elif isinstance(user.op, ops.AppendCache):
            below = user.operands[0].type.shape[-3] - user.operands[1].type.shape[-3] + 1
    return max(1, below)
