"""An artifact or a compiled plan as a Penzai layer over named axes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from penzai import pz

from ropegen.errors import RopegenError, nearest
from ropegen.layers.program import Program, called, checked_weights, expect_program

Names = tuple[str, ...]


@pz.pytree_dataclass
class ProgramLayer(pz.nn.Layer):
    """A layer that calls an artifact (`rg.load`) or a compiled plan, with its weights as `pz.Parameter`s.

    Make it with `from_program`.

    parameters: the variables by label; a weight of integers is an array.
    program: the artifact or compiled plan. Two layers have one tree structure if their programs compute the same.
    axes, result_axes: the names of the axes of inputs and results in the order of the graph, by label.
    input_label: the label of the argument of a call. Every other input is the side input of its label.
    """

    parameters: dict[str, Any]
    program: Program = dataclasses.field(metadata={"pytree_node": False})
    axes: tuple[tuple[str, Names], ...] = dataclasses.field(default=(), metadata={"pytree_node": False})
    result_axes: tuple[tuple[str, Names], ...] = dataclasses.field(default=(), metadata={"pytree_node": False})
    input_label: str = dataclasses.field(default="", metadata={"pytree_node": False})

    @classmethod
    def from_program(
        cls,
        program: Program,
        parameters: Mapping[str, Any],
        *,
        axes: Mapping[str, Sequence[str]] | None = None,
        result_axes: Mapping[str, Sequence[str]] | None = None,
        input_label: str | None = None,
        name: str = "",
    ) -> ProgramLayer:
        """The layer of a program and its weights.

        parameters: arrays of the shapes and types in `program.parameters`, by label, or `pz.Parameter`s, which are kept. With
          names in `axes` they are named arrays with these axes in any order, and otherwise plain arrays.
        axes, result_axes: names for the axes of inputs, weights among them, and of results. What is not here is a plain array.
        input_label: the input that a call gets as its argument; None if the graph has only one besides the weights.
        name: begins the labels of the parameters that are made, as in `name/wq`.

        Raises:
          RopegenError: `program` is neither; a parameter is missing or unknown, or has another shape, element type or axes; a
            label or a number of axes is wrong; or `input_label` is needed.
        """
        expect_program("ProgramLayer", program)
        inputs = {**program.parameters, **program.arguments}
        named = _named("axes", axes, {label: kind.rank for label, kind in inputs.items()})
        ranks = {label: kind.rank for label, kind in program.results.items()}
        results = _named("result_axes", result_axes, ranks)
        given: Any = parameters
        if isinstance(given, Mapping):
            given = {
                label: _positional(label, _value(value), dict(named), exactly=True) for label, value in given.items()
            }
        arrays = checked_weights("ProgramLayer", program, given)
        held: dict[str, Any] = {}
        for label, array in arrays.items():
            if isinstance(parameters[label], pz.Parameter):
                held[label] = parameters[label]
                continue
            value = pz.nx.wrap(array, *dict(named)[label]) if label in dict(named) else array
            held[label] = value
            if inputs[label].is_float:
                held[label] = pz.Parameter(label=f"{name}/{label}" if name else label, value=value)
        return cls(held, program, named, results, _argument(program, input_label))

    def __call__(self, argument: Any, /, **side_inputs: Any) -> Any:
        """The results for the argument and, if the graph reads more, the side inputs of its labels.

        An input with names in `axes` is a named array that has these axes, in any order. Axes that it has besides are
        mapped over, as `pz.nx.nmap` does. The results have the names of `result_axes` after those. A graph with one output
        gives it, a graph with several gives a dictionary by name.

        Raises:
          RopegenError: inputs or their axes do not fit; or a derivative is asked for, and the artifact was built without it.
        """
        labels = [label for label in self.program.arguments if label != self.input_label]
        if missing := [label for label in labels if label not in side_inputs]:
            raise RopegenError(
                f"ProgramLayer: the call has no side input {missing[0]!r}, which the program reads; call "
                f"layer(x, {', '.join(f'{label}=...' for label in labels)})"
            )
        axes, result_axes = dict(self.axes), dict(self.result_axes)
        inputs = {self.input_label: argument, **{label: side_inputs[label] for label in labels}}
        arrays = {label: _positional(label, value, axes, exactly=False) for label, value in inputs.items()}
        weights = {
            label: _positional(label, _value(held), axes, exactly=True) for label, held in self.parameters.items()
        }

        def run(weights: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
            out = called(self.program, weights, (), arrays)
            return out if len(self.program.results) > 1 else dict.fromkeys(self.program.results, out)

        results = {
            label: _tagged(result, result_axes.get(label)) for label, result in pz.nx.nmap(run)(weights, arrays).items()
        }
        return results if len(results) > 1 else next(iter(results.values()))


def _value(held: Any) -> Any:
    """The value of a variable of penzai, and anything else as it is."""
    return held.value if isinstance(held, pz.Parameter | pz.ParameterValue) else held


def _named(
    what: str, axes: Mapping[str, Sequence[str]] | None, ranks: Mapping[str, int]
) -> tuple[tuple[str, Names], ...]:
    """The names of axes by label, held against the number of axes."""
    given = {label: (names,) if isinstance(names, str) else tuple(names) for label, names in (axes or {}).items()}
    for label, names in given.items():
        if label not in ranks:
            raise RopegenError(f"ProgramLayer: {what} names {label!r}; {nearest(label, ranks)}")
        if len(names) != ranks[label] or len({*names}) < len(names):
            raise RopegenError(
                f"ProgramLayer: {what} of {label} are {names}; give {ranks[label]} names that differ, one for every axis"
            )
    return tuple(given.items())


def _argument(program: Program, label: str | None) -> str:
    """The label of the input that a call gets as its argument."""
    labels = tuple(program.arguments)
    if label is None and len(labels) == 1:
        return labels[0]
    if label not in labels:
        raise RopegenError(
            f"ProgramLayer: input_label is {label!r}, and the program reads {', '.join(labels) or 'weights alone'}; say which "
            "of them a call gets as its argument"
        )
    return label


def _positional(label: str, value: Any, axes: Mapping[str, Names], *, exactly: bool) -> Any:
    """The array with the axes of the graph by position; with `exactly` it has no other axes."""
    names = axes.get(label)
    if not isinstance(value, pz.nx.NamedArray | pz.nx.NamedArrayView):
        if names is None:
            return value
        raise RopegenError(
            f"ProgramLayer: {label} is a {type(value).__name__}, not a named array; name its axes with pz.nx.wrap(x, "
            f"{', '.join(map(repr, names))})"
        )
    given = dict(value.named_shape)
    wanted = names or ()
    if value.positional_shape and names is not None:
        raise RopegenError(
            f"ProgramLayer: {label} is a named array in which the axes of sizes {value.positional_shape} have no name; name "
            "them with .tag"
        )
    if not {*wanted} <= {*given} or (exactly and len(given) > len(wanted)):
        raise RopegenError(
            f"ProgramLayer: {label} has the named axes {given}, and the layer reads {wanted or 'no names'}; rename them, or "
            f"make the layer with axes={{{label!r}: (...)}}"
        )
    untagged = value.untag(*wanted) if wanted else value
    return untagged.unwrap() if exactly else untagged


def _tagged(result: Any, names: Names | None) -> Any:
    """A result with its names; a plain array if it has none at all."""
    if names:
        return result.tag(*names)
    return result if result.named_shape else result.unwrap()
