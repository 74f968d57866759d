"""An artifact or a compiled plan as an Equinox module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import numpy.typing as npt

from ropegen.layers.program import Program, called, checked_weights, expect_program

ArrayLike = npt.ArrayLike | jax.Array


class ProgramLayer(eqx.Module):
    """A module that calls an artifact (`rg.load`) or a compiled plan, with its weights as leaves.

    The leaves are in `parameters`, by label. The program is static. Two layers have one tree structure if their programs
    compute the same, also where each process loaded its own.
    """

    parameters: dict[str, jax.Array]
    program: Program = eqx.field(static=True)

    def __init__(self, program: Program, parameters: Mapping[str, ArrayLike]) -> None:
        """`parameters` are arrays of the shapes and types in `program.parameters`, by label.

        Raises:
          RopegenError: `program` is neither; a parameter is missing or unknown, or has another shape or element type.
        """
        expect_program("ProgramLayer", program)
        self.parameters = checked_weights("ProgramLayer", program, parameters)
        self.program = program

    def __call__(self, /, *inputs: ArrayLike, key: Any = None, **named: ArrayLike) -> Any:
        """The results for the other inputs of the graph, by keyword; a single one needs no keyword.

        A graph with one output gives it, a graph with several gives a dictionary by name. The graph says the shapes: for
        a batch that it does not have, use `jax.vmap`. `key` is ignored, unless it is an input of the graph.

        Raises:
          RopegenError: inputs do not fit; or a derivative is asked for, and the artifact was built without it.
        """
        if "key" in self.program.arguments:
            named["key"] = key
        return called(self.program, self.parameters, inputs, named)
