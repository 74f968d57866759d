"""An artifact against the oracle, on inputs that are drawn for its graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ropegen import reference
from ropegen.emit.artifact.drawn import drawn_inputs
from ropegen.emit.artifact.rounding import disturbed
from ropegen.ir.graph import Graph, label_of
from ropegen.types import epsilon, numpy_dtype

Array = npt.NDArray[Any]

# The error of a correct program is at most this many times the error that rounding is expected to make.
_ALLOWED = 4.0
# There are enough evaluations with rounding errors that the smallest output has this many elements in all of them
# together.
_ELEMENTS, _FEWEST, _MOST = 4096, 2, 32
# See `check_gradients`. A central difference over this step is exact to about 1e-8 of a function that is of size one.
_ALLOWED_OF_GRADIENTS, _STEP, _LEAST = 16.0, 1e-4, 1e-6


@dataclass(frozen=True, slots=True)
class CheckedOutput:
    """One output of one program against the oracle. `program` is the file that the program is from.

    `largest` is the largest absolute error, and `relative` the root mean square of the error over that of the output.
    `allowed_largest` and `allowed` are their bounds, the errors that rounding can explain. An output agrees if it
    exceeds neither.
    """

    label: str
    program: str
    largest: float
    allowed_largest: float
    relative: float
    allowed: float
    agrees: bool


@dataclass(frozen=True, slots=True)
class Check:
    """The result of `Artifact.check`, for every output."""

    outputs: tuple[CheckedOutput, ...]

    @property
    def passed(self) -> bool:
        """Whether every output agrees with the oracle."""
        return all(output.agrees for output in self.outputs)


def check(graph: Graph, programs: Iterable[tuple[str, Callable[..., Any]]], seed: int) -> Check:
    """Runs programs that claim to compute `graph` on drawn inputs, and compares them with the oracle, in float64.

    A program comes with the name of its file, takes the inputs by keyword and returns the outputs by label. An output
    agrees if it is finite exactly where the oracle is, and if neither its largest error nor the root mean square of its
    errors is more than four times the one that rounding is expected to make. The expectation comes from the oracle too:
    see `ropegen.emit.artifact.rounding`.
    """
    values = drawn_inputs(graph, seed)
    return _compared(graph, values, {name: run(**values) for name, run in programs}, seed)


def compare(graph: Graph, inputs: Mapping[str, Array], results: Mapping[str, Any], seed: int) -> Check:
    """Compares the outputs, by label, that one program gave for these inputs with the oracle, see `check`."""
    return _compared(graph, inputs, {"": results}, seed)


def check_gradients(
    graph: Graph, programs: Iterable[tuple[str, Callable[..., Any]]], forward: Check, seed: int
) -> Check:
    """Compares gradients of `graph` with central differences of the oracle, along one drawn direction for every input.

    A program takes the inputs by keyword and the cotangents of the floating outputs by label, and returns the cotangents
    of the floating inputs by label. The difference is that of the oracle in float64, so no formula of a gradient excuses
    itself. The result has one entry for an input. Its error is that of the derivative along the direction, relative to the
    norm of the gradient. The bound is 16 times the largest relative error that rounding is expected to make in an
    output, see `forward`, plus 16 units of the coarsest element type of inputs and outputs: a backward pass has about
    twice the operations of a forward pass, and rounds more of them.
    """
    random = np.random.default_rng(seed)
    values = drawn_inputs(graph, seed)
    moving = [label for label, kind in graph.input_types.items() if kind.is_float]
    truth = {label: value for label, value in reference.evaluate(graph, values).items() if value.dtype.kind == "f"}
    types = {label: node.type.dtype for label, node in graph.outputs if label in truth}
    weights = {
        label: np.where(np.isfinite(value), random.standard_normal(value.shape), 0.0)
        .astype(numpy_dtype(types[label])).astype(np.float64)
        for label, value in truth.items()
    }  # fmt: skip
    named = {label: weight.astype(numpy_dtype(types[label])) for label, weight in weights.items()}
    coarsest = max(
        epsilon(dtype) / 2 for dtype in [*types.values(), *(graph.input_types[label].dtype for label in moving)]
    )
    known = max((output.allowed / _ALLOWED for output in forward.outputs if np.isfinite(output.allowed)), default=0.0)
    allowed = max(_LEAST, _ALLOWED_OF_GRADIENTS * (known + coarsest))
    directions = {label: random.standard_normal(np.shape(values[label])) for label in moving}
    slopes = {label: _slope(graph, values, weights, label, along) for label, along in directions.items()}
    outputs: list[CheckedOutput] = []
    for program, run in programs:
        pulled = run(values, named)
        for label, along in directions.items():
            gradient = np.asarray(pulled[label]).astype(np.float64)
            size = float(np.linalg.norm(gradient)) or 1.0
            error = float(abs(np.sum(gradient * along) - slopes[label]))
            agrees = bool(np.isfinite(error)) and error <= allowed * size
            outputs.append(
                CheckedOutput(f"gradient in {label}", program, error, allowed * size, error / size, allowed, agrees)
            )
    return Check(tuple(outputs))


def _slope(graph: Graph, values: Mapping[str, Array], weights: Mapping[str, Array], label: str, along: Array) -> float:
    """The derivative of the weighted sum of the outputs along a direction of one input, by a central difference."""
    sums: list[float] = []
    for sign in (1.0, -1.0):
        moved = {**values, label: values[label].astype(np.float64) + sign * _STEP * along}
        results = reference.evaluate_nodes(
            [node for _, node in graph.outputs], {node: moved[label_of(node)] for node in graph.inputs}
        )
        by_label = {name: result for (name, _), result in zip(graph.outputs, results, strict=True)}
        sums.append(
            sum(float(np.sum(np.where(weight != 0, by_label[name] * weight, 0.0))) for name, weight in weights.items())
        )
    return (sums[0] - sums[1]) / (2 * _STEP)


def _compared(graph: Graph, inputs: Mapping[str, Array], results: Mapping[str, Mapping[str, Any]], seed: int) -> Check:
    truth = reference.evaluate(graph, inputs)
    smallest = max(1, min((value.type.size for _, value in graph.outputs if value.type.size), default=1))
    count = min(_MOST, max(_FEWEST, math.ceil(_ELEMENTS / smallest)))
    squares = dict.fromkeys(truth, 0.0)
    largest = dict.fromkeys(truth, 0.0)
    for sample in disturbed(graph, inputs, count, seed):
        for label, wanted in truth.items():
            most, mean_square = _error(sample[label], wanted)
            largest[label] = max(largest[label], most)
            squares[label] += mean_square / count
    outputs: list[CheckedOutput] = []
    for program, by_label in results.items():
        for label, wanted in truth.items():
            result = np.asarray(by_label[label]).astype(np.float64)
            most, mean_square = _error(result, wanted)
            known = wanted[np.isfinite(wanted)].astype(np.float64)
            size = float(np.sqrt(np.mean(known**2))) if known.size else 0.0
            size = size or 1.0
            relative, allowed = math.sqrt(mean_square) / size, _ALLOWED * math.sqrt(squares[label]) / size
            allowed_largest = _ALLOWED * largest[label]
            finite = bool(np.array_equal(np.isfinite(result), np.isfinite(wanted)))
            agrees = finite and relative <= allowed and most <= allowed_largest
            outputs.append(CheckedOutput(label, program, most, allowed_largest, relative, allowed, agrees))
    return Check(tuple(outputs))


def _error(result: Array, wanted: Array) -> tuple[float, float]:
    """The largest error and the mean of the squared errors, over the elements that are finite in both."""
    both = np.isfinite(wanted) & np.isfinite(result)
    if not both.any():
        return 0.0, 0.0
    error = result[both].astype(np.float64) - wanted[both].astype(np.float64)
    return float(np.max(np.abs(error))), float(np.mean(error**2))
