"""An artifact against the oracle, on inputs that are drawn for its graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ropegen import plain, reference
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, label_of
from ropegen.types import epsilon, numpy_dtype

# What `check` allows over the error of the plain formula.
_ALLOWED_RATIO = 1.5


@dataclass(frozen=True, slots=True)
class CheckedOutput:
    """One output against the oracle: the largest error, and the root mean square error over the output's.

    `plain` is the latter of the plain formula in the same element types, `allowed` the bound that follows from it.
    """

    label: str
    largest: float
    relative: float
    plain: float
    allowed: float
    agrees: bool


@dataclass(frozen=True, slots=True)
class Check:
    """What `Artifact.check` found."""

    outputs: tuple[CheckedOutput, ...]

    @property
    def passed(self) -> bool:
        return all(each.agrees for each in self.outputs)


def check(graph: Graph, run: Callable[..., Any], seed: int) -> Check:
    """Runs `run`, which claims to compute `graph`, on drawn inputs and compares it with the oracle, in float64.

    The error of an output is the root mean square of the difference over that of the output itself. It passes where
    it is at most 1.5 times the error of the plain formula, op by op in the graph's element types on the same device,
    and one unit (the distance from 1 to the next number) of the coarsest of these types.
    """
    values = drawn_inputs(graph, seed)
    found = run(**values)
    results = tuple(value for _, value in graph.outputs)

    def formula(values: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
        return plain.evaluate(results, {each: values[label_of(each)] for each in graph.inputs})

    by_formula = jax.jit(formula)({label: jax.numpy.asarray(each) for label, each in values.items()})
    truth = reference.evaluate(graph, values)
    unit = max(epsilon(each.type.dtype) for each in graph.nodes if each.type.is_float)
    outputs: list[CheckedOutput] = []
    for (label, wanted), formula in zip(truth.items(), by_formula, strict=True):
        result = np.asarray(found[label] if isinstance(found, dict) else found, np.float64)
        largest, relative = _errors(result, wanted)
        _, of_formula = _errors(np.asarray(formula, np.float64), wanted)
        allowed = _ALLOWED_RATIO * of_formula + unit
        agrees = bool(np.array_equal(np.isfinite(result), np.isfinite(wanted))) and relative <= allowed
        outputs.append(CheckedOutput(label, largest, relative, of_formula, allowed, agrees))
    return Check(tuple(outputs))


def _errors(result: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """The largest error, and the root mean square error over that of `wanted`, where `wanted` is finite."""
    known = wanted[np.isfinite(wanted)].astype(np.float64)
    if not known.size:
        return 0.0, 0.0
    error = result[np.isfinite(wanted)] - known
    size = float(np.sqrt(np.mean(known**2))) or 1.0
    return float(np.max(np.abs(error))), float(np.sqrt(np.mean(error**2))) / size


def drawn_inputs(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    """Inputs that mean something: ids within their table, positions that count, weights that keep activations near one."""
    random = np.random.default_rng(seed)
    users = graph.users()
    values: dict[str, np.ndarray] = {}
    for each in graph.inputs:
        assert isinstance(each.op, ops.Input)
        label, kind, dtype = each.op.label, each.type, numpy_dtype(each.type.dtype)
        if kind.dtype == "i1":
            values[label] = random.random(kind.shape) < 0.8
        elif kind.is_integer:
            values[label] = random.integers(0, _integers_below(each, users), kind.shape).astype(dtype)
        else:
            spread = kind.shape[0] ** -0.5 if each.op.role == "parameter" and kind.rank == 2 else 1.0
            rows = [user for user in users[each] if isinstance(user.op, ops.Embed)]
            if rows:
                factors = [user.op.factor for row in rows for user in users[row] if isinstance(user.op, ops.Scale)]
                spread = 1 / max((abs(each) for each in factors if each), default=1.0)
            values[label] = (random.standard_normal(kind.shape) * spread).astype(dtype)
    return values


def _integers_below(value: Node, users: Mapping[Node, tuple[Node, ...]]) -> int:
    """One more than the largest integer that every reader of an input can take."""
    bounds = [8]
    for user in users[value]:
        if isinstance(user.op, ops.Embed) and user.operands[0] is value:
            bounds = [user.operands[1].type.shape[0]]
        elif isinstance(user.op, ops.AppendCache):
            bounds = [user.operands[0].type.shape[-3] - user.operands[1].type.shape[-3] + 1]
    return max(1, *bounds)
