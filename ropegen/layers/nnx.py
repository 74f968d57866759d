"""An artifact or a compiled plan as a Flax NNX module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy.typing as npt
from flax import nnx

from ropegen.layers.program import Program, called, checked_weights, expect_program

ArrayLike = npt.ArrayLike | jax.Array


class ProgramLayer(nnx.Module):
    """A module that calls an artifact (`rg.load`) or a compiled plan, with its weights as variables.

    State: `parameters.LABEL`, an `nnx.Param` for a weight of numbers and an `nnx.Variable` for one of integers. The program
    belongs to the graph definition. Two layers have one graph definition if their programs compute the same, also where
    each process loaded its own.
    """

    def __init__(self, program: Program, parameters: Mapping[str, ArrayLike | nnx.Variable[Any]]) -> None:
        """`parameters` are arrays of the shapes and types in `program.parameters`, by label.

        Instead of an array it takes a variable, such as an `nnx.Param` with the names of its sharding, and keeps it.

        Raises:
          RopegenError: `program` is neither; a parameter is missing or unknown, or has another shape or element type.
        """
        expect_program("ProgramLayer", program)
        given: Any = parameters
        if isinstance(given, Mapping):
            given = {label: _array(value) for label, value in given.items()}
        arrays = checked_weights("ProgramLayer", program, given)
        kinds = {label: nnx.Param if program.parameters[label].is_float else nnx.Variable for label in arrays}
        held = {
            label: parameters[label] if isinstance(parameters[label], nnx.Variable) else kinds[label](array)
            for label, array in arrays.items()
        }
        self.program = program
        self.parameters = nnx.data(held)

    def __call__(self, /, *inputs: ArrayLike, **named: ArrayLike) -> Any:
        """The results for the other inputs of the graph, by keyword; a single one needs no keyword.

        A graph with one output gives it, a graph with several gives a dictionary by name. A cache is an input and an output:
        the layer keeps none.

        Raises:
          RopegenError: inputs do not fit; or a derivative is asked for, and the artifact was built without it.
        """
        weights = {label: _array(variable) for label, variable in self.parameters.items()}
        return called(self.program, weights, inputs, named)


def _array(value: Any) -> Any:
    return value[...] if isinstance(value, nnx.Variable) else value
