"""A plan as a function of JAX arrays."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from ropegen import angles, plain
from ropegen.emit import mesh
from ropegen.emit.inputs import Values, check_inputs, expect_keywords
from ropegen.emit.mesh import Sharding
from ropegen.emit.primitive import Choice, Choices, bind
from ropegen.ir.axes import axes_of
from ropegen.ir.graph import Graph, Node, label_of
from ropegen.planner import Plan, Table
from ropegen.tiles import other_compiler
from ropegen.types import TensorType, numpy_dtype

Array = jax.Array


class _UnfitError(Exception):
    """A call was traced with other arrays than the graph reads."""


class Compiled:
    """A plan that runs: call it with the inputs of the graph by keyword.

    If the graph has one output, the result is that output, and otherwise a dictionary by name. `Compiled` is a JAX
    function: `jit`, `grad`, `jvp`, `vmap`, `checkpoint` and `jax.export` take it. `bind(**parameters)` computes once what
    depends on parameters alone, and returns a function of the other inputs. `sharding` says how a call lies over several
    devices, see `Plan.compile`.
    """

    def __init__(self, plan: Plan, sharding: Sharding | None = None) -> None:
        self.plan = plan
        self._split = mesh.split_for("compile", plan.source, sharding, {})
        if self._split is not None:
            mesh.parts_of("compile", plan.source, self._split)  # refuses now what a call could not do
        _warn_of_another_compiler(plan)
        self._types = plan.graph.input_types
        self._declared = plan.source.input_types
        self._exact = {label: (kind.shape, numpy_dtype(kind.dtype)) for label, kind in self._types.items()}
        self._run = jax.jit(self._call)
        self._prepare = jax.jit(self._call_prepare)
        self._rest = jax.jit(self._call_prepared)

    # What JAX compiled does not leave the process, and a plan says everything. So a pickle holds the plan.
    def __reduce__(self) -> tuple[type[Compiled], tuple[Plan, Sharding | None]]:
        return Compiled, (self.plan, None if self._split is None else self._split.sharding)

    # Nothing in it changes, so a copy would only compile again.
    def __copy__(self) -> Compiled:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        return self

    def __repr__(self) -> str:
        return f"<compiled {self.plan.graph.name} for {self.plan.target}>"

    def __call__(self, /, *positional: Any, **inputs: Any) -> Any:
        expect_keywords(positional, self._types)
        # The check runs only when a call is traced, so that a call of fitting arrays costs no more than `jax.jit` does.
        # JAX itself refuses values that are no arrays. The second call checks everything and states what is wrong.
        try:
            return self._run(inputs)
        except (_UnfitError, TypeError, OverflowError):
            unfit = inputs
        return self._run(check_inputs(self._types, unfit, self._declared))

    def _fits(self, inputs: Mapping[str, Any]) -> bool:
        """Whether these are arrays of exactly the shapes and types that the graph reads."""
        if inputs.keys() != self._exact.keys():
            return False
        return all(
            isinstance(value, jax.Array) and (value.shape, value.dtype) == self._exact[label]
            for label, value in inputs.items()
        )

    def bind(self, /, *positional: Any, **parameters: Any) -> Callable[..., Any]:
        """A function of the activations and states, with these parameters prepared.

        Raises:
          RopegenError: a parameter is missing, unknown, or of another type.
        """
        labels = self.plan.graph.labels("parameter")
        expect_keywords(positional, labels)
        known = {label: self._types[label] for label in labels}
        given = check_inputs(known, parameters, self._declared)
        prepared = self._prepare(given)
        others = {label: kind for label, kind in self._types.items() if label not in known}

        return functools.partial(self._call_bound, prepared, given, others)

    def _call_bound(
        self, prepared: Values, given: Values, others: Mapping[str, TensorType], /, *positional: Any, **inputs: Any
    ) -> Any:
        expect_keywords(positional, others)
        return self._rest(prepared, {**given, **check_inputs(others, inputs, self._declared)})

    def _call(self, values: Values) -> Any:
        if not self._fits(values):
            raise _UnfitError
        return self._call_prepared(self._call_prepare(values), values)

    def _call_prepare(self, values: Values) -> Values:
        split = self._split_for(values)
        return prepare(self.plan, values) if split is None else stages_of(self.plan, split).prepare(values)

    def _call_prepared(self, prepared: Values, values: Values) -> Any:
        split = self._split_for(values)
        if split is None:
            return _result(run(self.plan, prepared, values))
        return _result(stages_of(self.plan, split).run({**values, **prepared}))

    def _split_for(self, values: Values) -> mesh.Split | None:
        """How the call lies over devices: as asked for, or else as arrays with explicit axes lie."""
        return self._split or mesh.split_for("call", self.plan.source, None, values)


@dataclass(frozen=True, slots=True)
class Stages:
    """The two stages of a plan over several devices, as functions of whole arrays by name."""

    plans: tuple[Plan, ...]
    """The plan of a device's part; several if the parts differ."""
    prepare: Callable[[Values], Values]
    run: Callable[[Values], Values]


def stages_of(plan: Plan, split: mesh.Split) -> Stages:
    """The stages of a plan over several devices.

    Raises:
      RopegenError: a size does not divide evenly, or an op needs the whole of an axis that is split.
    """
    parts = mesh.parts_of("compile", plan.source, split)
    plans = tuple(plan.for_part(part.graph) for part in parts)
    first, specs = plans[0], dict(parts[0].inputs)
    names = axes_of(first.graph, dict(parts[0].names)).names
    prepared = {name: split.spec(names[value]) for name, value in prepared_names(first).items()}
    prepares = {label: specs[label] for label in prepare_labels(first)}
    reads = {**{label: specs[label] for label in run_labels(first)}, **prepared}
    return Stages(
        plans,
        mesh.over_devices(parts[:1], [functools.partial(prepare, first)], prepares, prepared),
        mesh.over_devices(parts, [functools.partial(_run_alone, one) for one in plans], reads, dict(parts[0].outputs)),
    )


def _run_alone(plan: Plan, values: Values) -> Values:
    return run(plan, values, values)


def _warn_of_another_compiler(plan: Plan) -> None:
    """Warns if a measured tile of the plan was measured with another version of the compiler than is installed here."""
    for step in plan.steps:
        measured = step.chosen.measured if step.chosen is not None else None
        if step.chosen is not None and measured is not None and (installed := other_compiler(measured)):
            warnings.warn(
                f"the tile {measured.tile} of {step.chosen.template} was measured with {measured.package} "
                f"{measured.version}, and {installed} compiles here; another tile may be faster, which `ropegen tune` finds",
                stacklevel=4,
            )


def prepare(plan: Plan, values: Mapping[str, Array], together: Sequence[Plan] = ()) -> Values:
    """The values that are computed once from parameters, by name: `prepared0`, `prepared1`, ... See `run` for `together`."""
    known = _inputs(plan.graph, values)
    _execute(plan, together, known, prepares=True)
    return {name: known[value] for name, value in prepared_names(plan).items()}


def run(
    plan: Plan, prepared: Mapping[str, Array], values: Mapping[str, Array], together: Sequence[Plan] = ()
) -> Values:
    """The outputs of the graph by name, computed from what was prepared and from the other inputs.

    `together` are the plans for other platforms that `plan_together` made with this one. Every region is bound with
    the choices of all of them. On a platform without a plan, the planner chooses for the default target there.
    """
    known = _inputs(plan.graph, values)
    known.update({value: prepared[name] for name, value in prepared_names(plan).items()})
    _execute(plan, together, known, prepares=False)
    return {label: known[value] for label, value in plan.graph.outputs}


def prepared_names(plan: Plan) -> dict[str, Node]:
    """A name for every prepared value."""
    return {f"prepared{index}": value for index, value in enumerate(plan.prepared)}


def run_labels(plan: Plan) -> tuple[str, ...]:
    """The inputs that `run` reads: all except the parameters that only `prepare` reads."""
    read = {value for step in plan.steps if not step.prepares for value in step.operands}
    read |= {value for _, value in plan.graph.outputs}
    return tuple(label_of(value) for value in plan.graph.inputs if value in read)


def prepare_labels(plan: Plan) -> tuple[str, ...]:
    """The parameters that `prepare` reads."""
    read = {value for step in plan.steps if step.prepares for value in step.operands}
    return tuple(label_of(value) for value in plan.graph.inputs if value in read)


def _inputs(graph: Graph, values: Mapping[str, Array]) -> dict[Node, Array]:
    return {value: values[label_of(value)] for value in graph.inputs if label_of(value) in values}


def _execute(plan: Plan, together: Sequence[Plan], known: dict[Node, Array], *, prepares: bool) -> None:
    """Adds to `known` the values of the steps that prepare, or of those that do not."""
    targets = [one.target for one in (plan, *together)]
    for alike in zip(plan.steps, *(other.steps for other in together), strict=True):
        step = alike[0]
        if step.prepares != prepares:
            continue
        operands = [known[operand] for operand in step.operands]
        if step.table is not None:
            known[step.outputs[0]] = table_of(step.outputs[0], step.table)
        elif step.region is None:
            known[step.outputs[0]] = plain.compute_for_platform(step.outputs[0], *operands)
        else:
            choices = Choices(
                tuple(Choice.of(target, one.chosen, one.instead) for target, one in zip(targets, alike, strict=True))
            )
            known.update(zip(step.outputs, bind(step.region.closed, choices, operands), strict=True))


@plain.own_promotion()
def table_of(value: Node, table: Table) -> Array:
    """The cosines and sines of known positions: a constant, or computed by the program that traces this."""
    positions = plain.compute(value.operands[0])
    return angles.value(value, positions, known=table.kind == "constant")


def _result(values: Values) -> Any:
    return next(iter(values.values())) if len(values) == 1 else values
