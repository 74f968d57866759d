"""What the layers of an artifact or a compiled plan share: their weights, and a call.

A layer holds the weights. Its program holds none, so a call is a pure function of the layer's weights and the inputs.
Whatever the library does with the weights of its own layers, it does with these: train, place, store, cast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from ropegen.emit.artifact import Artifact
from ropegen.emit.callable import Compiled
from ropegen.emit.inputs import Values, check_inputs
from ropegen.errors import RopegenError, nearest
from ropegen.plans import Plan

Program = Artifact | Compiled


def expect_program(call: str, given: object) -> None:
    """Raises a RopegenError unless `given` is an artifact or a compiled plan; the message begins with the name of the call."""
    if isinstance(given, Artifact | Compiled):
        return
    way_out = (
        "call its compile() first" if isinstance(given, Plan) else "give rg.load(directory), or rg.plan(...).compile()"
    )
    raise RopegenError(f"{call}: the program is {given!r:.60}; {way_out}")


def checked_weights(call: str, program: Program, given: object) -> Values:
    """The weights of a program as arrays, by label, in the order of the graph.

    Raises:
      RopegenError: `given` is no mapping; a weight is missing or unknown, or has another shape or element type.
    """
    if not isinstance(given, Mapping):
        raise RopegenError(
            f"{call}: the parameters are {given!r:.60}; give a mapping by label: {{{_by_label(program.parameters)}}}"
        )
    return check_inputs(program.parameters, cast("Mapping[str, Any]", given), program.parameters)


def called(program: Program, weights: Mapping[str, Any], positional: Sequence[Any], named: Mapping[str, Any]) -> Any:
    """The results of a program for the inputs of a call. The only input besides the weights needs no label.

    Raises:
      RopegenError: several inputs have no label; an input is one of the weights; or the program refuses them.
    """
    labels = tuple(program.arguments)
    if len(positional) == len(labels) == 1 and not named:
        named = {labels[0]: positional[0]}
    elif positional:
        raise RopegenError(
            f"the call has {len(positional)} arguments without a name, and the program reads {', '.join(labels) or 'none'}; "
            f"give them by keyword: layer({', '.join(f'{label}=...' for label in labels)})"
        )
    for label in named:
        if label in weights:
            raise RopegenError(
                f"{label} is a parameter of the layer, and the call gives it too; leave it out, or change the layer's"
            )
        if label not in labels:
            raise RopegenError(f"no input {label!r}; {nearest(label, labels)}")
    return program(**weights, **named)


def _by_label(labels: Mapping[str, object]) -> str:
    return ", ".join(f"{label!r}: ..." for label in labels)
