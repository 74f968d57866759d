"""A plan as a function of JAX arrays."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax

from ropegen import angles, plain
from ropegen.emit import mesh
from ropegen.emit.inputs import Values, check_inputs, expect_keywords, expect_places, expect_room, places, rooms
from ropegen.emit.mesh import Sharding
from ropegen.emit.own_part import inside_shard_map, with_own_part
from ropegen.emit.primitive import Choice, Choices, bind
from ropegen.emit.recorded import record
from ropegen.ir.axes import axes_of
from ropegen.ir.graph import Graph, Node, label_of
from ropegen.planner import plan_part
from ropegen.plans import Plan, Table
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
        self._rooms = rooms(plan.graph)
        self._places = places(plan.graph)
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

    # Two calls of one plan compute the same, so they are one static value to `jit`.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Compiled) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @functools.cached_property
    def _identity(self) -> tuple[str, Sharding | None]:
        return self.plan.digest, None if self._split is None else self._split.sharding

    def __repr__(self) -> str:
        return f"<compiled {self.plan.graph.name} for {self.plan.target}>"

    @property
    def parameters(self) -> dict[str, TensorType]:
        """The types of the weights by label, those that `bind` prepares."""
        return {label: self._types[label] for label in self.plan.graph.labels("parameter")}

    @property
    def arguments(self) -> dict[str, TensorType]:
        """The types of the other inputs by label: activations and states."""
        return {label: self._types[label] for label in self.plan.graph.labels("activation", "state")}

    @property
    def results(self) -> dict[str, TensorType]:
        """The types of the outputs by label."""
        return {label: value.type for label, value in self.plan.graph.outputs}

    def __call__(self, /, *positional: Any, **inputs: Any) -> Any:
        expect_keywords(positional, self._types)
        expect_room(self._rooms, inputs)
        expect_places(self._places, inputs)
        record(f"plan of {self.plan.graph.name}", (self.plan,))
        # The check runs only when a call is traced, so that a call of fitting arrays costs no more than `jax.jit` does.
        # JAX itself refuses values that are no arrays. The second call checks everything and states what is wrong.
        try:
            return self._run(self._checked(inputs))
        except (_UnfitError, TypeError, OverflowError):
            unfit = inputs
        return self._run(self._checked(check_inputs(self._types, unfit, self._declared)))

    def _checked(self, values: Values) -> Values:
        """The inputs; inside a `shard_map`, the lowering refuses what depends on the place of its part."""
        return with_own_part("call", self.plan.source, values) if inside_shard_map() else values

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
        expect_keywords(positional, self.parameters)
        given = check_inputs(self.parameters, parameters, self._declared)
        return functools.partial(self._call_bound, self._prepare(given), given, self.arguments)

    def _call_bound(
        self, prepared: Values, given: Values, others: Mapping[str, TensorType], /, *positional: Any, **inputs: Any
    ) -> Any:
        expect_keywords(positional, others)
        expect_room(self._rooms, inputs)
        expect_places(self._places, inputs)
        record(f"plan of {self.plan.graph.name}", (self.plan,))
        return self._rest(prepared, self._checked({**given, **check_inputs(others, inputs, self._declared)}))

    def _call(self, values: Values) -> Any:
        if not self._fits(values):
            raise _UnfitError
        return self._call_prepared(self._call_prepare(values), values)

    def _call_prepare(self, values: Values) -> Values:
        split = self._split_for(values)
        if split is None:
            return prepare(self.plan, values)
        return Stages((self.plan,), split).function("prepare", _prepare_part)(values)

    def _call_prepared(self, prepared: Values, values: Values) -> Any:
        split = self._split_for(values)
        if split is None:
            return _result(run(self.plan, prepared, values))
        return _result(Stages((self.plan,), split).function("run", _run_part)({**values, **prepared}))

    def _split_for(self, values: Values) -> mesh.Split | None:
        """How the call lies over devices: as asked for, or else as arrays with explicit axes lie."""
        return self._split or mesh.split_for("call", self.plan.source, None, values)


def _warn_of_another_compiler(plan: Plan) -> None:
    """Warns if a measured tile of the plan was measured with another version of the compiler than is installed here."""
    for step in plan.steps:
        measured = step.chosen.measured if step.chosen is not None else None
        if step.chosen is not None and measured is not None and (installed := other_compiler(measured)):
            warnings.warn(
                f"the tile {measured.tile} of {step.chosen.template} was "
                f"{'estimated' if measured.is_estimated else 'measured'} with {measured.package} "
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


def gradient(plan: Plan, values: Mapping[str, Array]) -> Values:
    """The cotangents of the floating inputs by label, from all inputs and the cotangents of the floating outputs.

    A cotangent of an output has the label of `cotangent_labels`. The outputs are computed again.
    """
    cotangents = {label: values[name] for label, name in cotangent_labels(plan.graph).items()}
    moving = {label: values[label] for label, kind in plan.graph.input_types.items() if kind.is_float}

    def forward(moved: Values) -> Values:
        known = {**values, **moved}
        results = run(plan, prepare(plan, known), known)
        return {label: results[label] for label in cotangents}

    return jax.vjp(forward, moving)[1](cotangents)[0]


def cotangent_labels(graph: Graph) -> dict[str, str]:
    """The labels of the cotangents of the floating outputs. No input has such a label, because of its spaces."""
    return {label: cotangent_label(label) for label, value in graph.outputs if value.type.is_float}


def cotangent_label(output: str) -> str:
    """The label of the cotangent of an output."""
    return f"cotangent of {output}"


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


Stage = Literal["prepare", "run", "gradient"]


class Stages:
    """The stages of plans of one graph over several devices, one plan for every target.

    `plans` are those of the parts: for every part that differs, one plan for every target.

    Raises:
      RopegenError: a size does not divide evenly, or an op needs the whole of an axis that is split.
    """

    def __init__(self, plans: Sequence[Plan], split: mesh.Split) -> None:
        self.split, self._source = split, plans[0].source
        self._parts = mesh.parts_of("compile", self._source, split)
        self.plans = tuple(tuple(plan_part(plan, part.graph) for plan in plans) for part in self._parts)
        part, first = self._parts[0], self.plans[0][0]
        axes = axes_of(first.graph, dict(part.names))
        self._prepared = prepared_names(first)
        self.specs = dict(part.inputs)
        self.specs |= {name: split.spec(axes.names[value]) for name, value in self._prepared.items()}

    def arguments(self, stage: Stage) -> dict[str, TensorType]:
        """The types of the whole arguments of a stage, by label."""
        first, inputs = self.plans[0][0], self._source.input_types
        if stage == "prepare":
            return {label: inputs[label] for label in prepare_labels(first) if label in inputs}
        read = {label: inputs[label] for label in run_labels(first) if label in inputs}
        return {**read, **self._whole_prepared()}

    def results(self, stage: Stage) -> dict[str, TensorType]:
        """The types of the whole results of a stage, by label."""
        if stage == "prepare":
            return self._whole_prepared()
        return {label: value.type for label, value in self._source.outputs}

    def _whole_prepared(self) -> dict[str, TensorType]:
        return {name: self.split.whole(value.type, self.specs[name]) for name, value in self._prepared.items()}

    def function(
        self, stage: Stage, program: Callable[[tuple[Plan, ...], Values], Values]
    ) -> Callable[[Values], Values]:
        """The stage as a function of whole arrays by name. `program` computes it from the plans of a part."""
        first = self.plans[0][0]
        if stage == "prepare":
            reads, parts, plans = prepare_labels(first), self._parts[:1], self.plans[:1]
            results = {name: self.specs[name] for name in self._prepared}
        else:
            reads, parts, plans = (*run_labels(first), *self._prepared), self._parts, self.plans
            results = dict(self._parts[0].outputs)
        functions = [functools.partial(program, of_part) for of_part in plans]
        return mesh.over_devices(parts, functions, {label: self.specs[label] for label in reads}, results)


def _prepare_part(plans: tuple[Plan, ...], values: Values) -> Values:
    return prepare(plans[0], values)


def _run_part(plans: tuple[Plan, ...], values: Values) -> Values:
    return run(plans[0], values, values)


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
