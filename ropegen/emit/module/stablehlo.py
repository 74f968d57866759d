"""Plans as StableHLO: one exported module for several platforms, and a portable module for consumers without JAX.

The primitive `program` computes a whole graph. Its lowering for a platform is the plan of that platform, so the
plans may differ in their regions as well as in their kernels.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import jax
import jax.extend.mlir as mlir_tools
from jax import export
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.extend.mlir import ir
from jax.interpreters import mlir
from jax.sharding import NamedSharding

from ropegen import plain
from ropegen.emit.callable import (
    Stage,
    Stages,
    cotangent_labels,
    gradient,
    prepare,
    prepare_labels,
    prepared_names,
    run,
    run_labels,
    table_of,
)
from ropegen.emit.mesh import Split
from ropegen.emit.primitive import PLATFORMS
from ropegen.emit.varying import NO_MESH, alike, lowered_alone, typed_beside
from ropegen.errors import RopegenError
from ropegen.ir.graph import Node, label_of
from ropegen.native import call
from ropegen.plans import Plan, with_calls
from ropegen.template import STABLE_CALLS, template
from ropegen.types import TensorType, numpy_dtype

# Every consumer of this StableHLO version or a newer one can read a portable module.
PORTABLE_VERSION = "1.9.0"
# These custom calls say where `shard_map` begins and ends in a serialized module. XLA replaces them, and they run nothing.
SHARDY = "xla.sdy."
# `text` elides constants with more elements than this.
_SHOWN_ELEMENTS = 16


def check_platforms(plans: Sequence[Plan]) -> None:
    """Refuse plans that cannot form one artifact.

    Raises:
      RopegenError: there is no plan, plans have different graphs, or two plans are for the same platform.
    """
    if not plans:
        raise RopegenError("an artifact needs at least one target; give e.g. cpu")
    if len({plan.graph for plan in plans}) > 1:
        raise RopegenError("the plans are of different graphs; plan one graph for every target")
    seen: dict[str, Plan] = {}
    for plan in plans:
        other = seen.setdefault(plan.target.jax_platform, plan)
        if other is not plan:
            raise RopegenError(
                f"targets {other.target} and {plan.target} are both {plan.target.platform}, and an artifact holds one kernel "
                "per platform; build one artifact per target"
            )


def exported(
    plans: Sequence[Plan],
    stage: Stage,
    *,
    named: bool = False,
    calls: Sequence[str] = (),
    split: Split | None = None,
) -> export.Exported:
    """The module of a stage for the platforms of the plans; its arguments and results are dictionaries by label.

    `named` keeps the names of kernels, which a compiler repeats in its reports. `calls` are targets of custom calls that
    the module may have besides those that templates declare. No call needs a promise by jax.export. With a `split`, the module
    is for all devices of its mesh, and every device runs the plans of its part.

    Raises:
      RopegenError: see `check_platforms`; an input has 64 bits while JAX runs without them; a module has a custom call
        that no chosen template declares; or it is called inside a function that JAX traces for a mesh of devices.
    """
    check_platforms(plans)
    plans = [with_calls(plan) for plan in plans]
    if split is None:
        function, arguments = _function(plans, stage)
    else:
        stages = Stages(plans, split)
        function = jax.jit(stages.function(stage, functools.partial(_program, stage)))
        lies = {label: NamedSharding(split.mesh, spec) for label, spec in stages.specs.items()}
        arguments = _arguments(stages.arguments(stage), lies)
        plans = [plan for part in stages.plans for plan in part]
    platforms = list(dict.fromkeys(plan.target.jax_platform for plan in plans))
    unpromised = [name for name in declared_calls(plans) if name not in STABLE_CALLS]
    unchecked = [export.DisabledSafetyCheck.custom_call(name) for name in (*calls, *unpromised)]
    with _no_locations(), _no_mesh():
        made = export.export(function, platforms=platforms, disabled_checks=unchecked)(arguments)
    if made.nr_devices != (devices := 1 if split is None else split.mesh.size):
        raise RopegenError(
            f"export: the module is for {devices} devices, and JAX makes it for the {made.nr_devices} of the mesh that "
            "`jax.set_mesh` has set, because the export is inside a function that JAX traces; export outside of it"
        )
    with mlir.make_ir_context() as context:
        module = mlir_tools.deserialize_portable_artifact(made.mlir_module_serialized, context)
        check_calls(module, (*declared_calls(plans), *calls))
        if named:
            return made
        stripped = _without_locations(module)
    return dataclasses.replace(with_module(made, stripped), fun_name=plans[0].graph.name)


def _no_mesh() -> AbstractContextManager[Any]:
    """Makes JAX forget the mesh of `jax.set_mesh`; inside a function that it traces, only the mesh of types."""
    try:
        return jax.set_mesh(None)
    except ValueError:  # JAX changes the mesh of devices only outside of what it traces
        return jax.sharding.use_abstract_mesh(NO_MESH)


def native_kernels(plan: Plan, stage: Stage) -> dict[str, call.Called]:
    """The native kernels of a stage, by the targets of their custom calls; nothing is compiled."""
    function, arguments = _function([plan], stage)
    with call.collected() as kernels:
        function.trace(arguments).lower(lowering_platforms=(plan.target.jax_platform,))
    return kernels


def _function(plans: Sequence[Plan], stage: Stage) -> tuple[Any, dict[str, jax.ShapeDtypeStruct]]:
    """The jitted function of a stage, and its arguments."""
    arguments = _arguments(argument_types(plans[0], stage), {})
    return jax.jit(functools.partial(_program, stage, tuple(plans))), arguments


def _arguments(kinds: Mapping[str, TensorType], lies: Mapping[str, NamedSharding]) -> dict[str, jax.ShapeDtypeStruct]:
    """The arguments of a stage as JAX traces them, and how they lie over the devices."""
    _need_64_bit(kinds)
    return {
        label: jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype), sharding=lies.get(label))
        for label, kind in kinds.items()
    }


def portable(plan: Plan, stage: Stage) -> bytes:
    """The stage as portable StableHLO bytecode of `PORTABLE_VERSION`, with plain ops only and no custom call.

    `main` takes the arguments in the order of `argument_types` and returns the results in the order of `result_types`.
    """
    with mlir.make_ir_context():
        return bytes(mlir_tools.serialize_portable_artifact(_plain_module(plan, stage), PORTABLE_VERSION))


def text(plan: Plan, stage: Stage = "run") -> str:
    """The portable module as text for a reader, without locations and large constants."""
    with mlir.make_ir_context():
        return _plain_module(plan, stage).operation.get_asm(
            enable_debug_info=False, large_elements_limit=_SHOWN_ELEMENTS
        )


def stages(plan: Plan, *, grad: bool = False) -> dict[str, Stage]:
    """The stages of a plan by the names of their files, in the order in which they run; with `grad`, the gradient too."""
    names: dict[str, Stage] = {"prepare": "prepare"} if plan.prepared else {}
    names["module"] = "run"
    if grad:
        names["gradient"] = "gradient"
    return names


def argument_types(plan: Plan, stage: Stage) -> dict[str, TensorType]:
    """The arguments of a stage by label, in the order of its portable module."""
    inputs = plan.graph.input_types
    if stage == "prepare":
        return {label: inputs[label] for label in prepare_labels(plan)}
    if stage == "gradient":
        outputs = dict(plan.graph.outputs)
        names = cotangent_labels(plan.graph)
        return {**inputs, **{name: outputs[label].type for label, name in names.items()}}
    prepared = {name: value.type for name, value in prepared_names(plan).items()}
    return {**{label: inputs[label] for label in run_labels(plan)}, **prepared}


def result_types(plan: Plan, stage: Stage) -> dict[str, TensorType]:
    """The results of a stage by label, in the order of its portable module."""
    if stage == "gradient":
        return {label: kind for label, kind in plan.graph.input_types.items() if kind.is_float}
    return {label: value.type for label, value in _results(plan, stage).items()}


def _results(plan: Plan, stage: Stage) -> dict[str, Node]:
    """The values that a stage computes; those whose gradient it is for the stage `gradient`."""
    return prepared_names(plan) if stage == "prepare" else dict(plan.graph.outputs)


def declared_calls(plans: Sequence[Plan]) -> tuple[str, ...]:
    """The custom-call targets that the chosen templates declare, in modules that leave this process."""
    chosen = {template(step.exported.template) for plan in plans for step in plan.steps if step.exported is not None}
    chosen |= {template(made_by.derivatives) for made_by in chosen if made_by.derivatives != "own"}
    return tuple(sorted({call for made_by in chosen for call in made_by.calls}))


def check_calls(module: Any, declared: Sequence[str]) -> tuple[str, ...]:
    """The custom-call targets of a module, without duplicates.

    Raises:
      RopegenError: no chosen template declares one of them.
    """
    calls = calls_of(module)
    unknown = [call for call in calls if call not in declared]
    if unknown:
        raise RopegenError(
            f"the module calls {', '.join(unknown)}, which no chosen template declares; add it to the `calls` of the template that emits it"
        )
    return calls


def custom_calls(serialized: bytes) -> tuple[str, ...]:
    """The custom-call targets of a serialized module that is trusted, without duplicates."""
    with mlir.make_ir_context() as context:
        return calls_of(mlir_tools.deserialize_portable_artifact(serialized, context))


def calls_of(module: Any) -> tuple[str, ...]:
    """The custom-call targets of a module, without duplicates."""
    return tuple(
        name
        for name in sorted(
            {
                call_target(operation)
                for operation in walk(module.operation)
                if operation.name == "stablehlo.custom_call"
            }
        )
        if not name.startswith(SHARDY)
    )


def walk(operation: Any) -> Iterator[Any]:
    """Every operation of a module, outermost first."""
    yield operation
    for region in operation.regions:
        for block in region.blocks:
            for view in block.operations:
                yield from walk(view.operation)


def op_counts(serialized: bytes) -> dict[str, int]:
    """The number of occurrences of every op in a serialized module, by name."""
    with mlir.make_ir_context() as context:
        module = mlir_tools.deserialize_portable_artifact(serialized, context)
        counts: dict[str, int] = {}
        for operation in walk(module.operation):
            counts[operation.name] = counts.get(operation.name, 0) + 1
    return dict(sorted(counts.items()))


def call_target(operation: Any) -> str:
    """The target of a custom call."""
    return ir.StringAttr(operation.attributes["call_target_name"]).value


def _need_64_bit(kinds: Mapping[str, TensorType]) -> None:
    wide = [label for label, kind in kinds.items() if kind.dtype in ("f64", "i64")]
    if wide and not jax.config.read("jax_enable_x64"):
        raise RopegenError(
            f"inputs {', '.join(wide)} are 64 bits wide, and JAX runs without them; set jax_enable_x64 to True first"
        )


def _plain_module(plan: Plan, stage: Stage) -> Any:
    """The stage with the plain formulas of its ops, and its arguments in order.

    Templates are written for the compiler of their platform; an unknown consumer gets the plain formulas instead.
    """
    kinds, results = argument_types(plan, stage), _results(plan, stage)
    _need_64_bit(kinds)

    def values_of(given: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
        named = {**{label_of(value): value for value in plan.graph.inputs}, **prepared_names(plan)}
        known = {named[label]: value for label, value in given.items() if label in named}
        for step in plan.steps:  # the plan names the source of a table
            if step.table is not None and step.outputs[0] not in known:
                known[step.outputs[0]] = table_of(step.outputs[0], step.table)
        return plain.evaluate(tuple(results.values()), known)

    def main(*arguments: jax.Array) -> tuple[jax.Array, ...]:
        given = dict(zip(kinds, arguments, strict=True))
        if stage != "gradient":
            return values_of(given)
        cotangents = cotangent_labels(plan.graph)

        def forward(moved: dict[str, jax.Array]) -> dict[str, jax.Array]:
            made = dict(zip(results, values_of({**given, **moved}), strict=True))
            return {label: made[label] for label in cotangents}

        moving = {label: given[label] for label in result_types(plan, stage)}
        pulled = jax.vjp(forward, moving)[1]({label: given[name] for label, name in cotangents.items()})[0]
        return tuple(pulled[label] for label in moving)

    arguments = [jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype)) for kind in kinds.values()]
    # `keep_unused` keeps all arguments, because the manifest lists them.
    lowered = jax.jit(main, keep_unused=True).trace(*arguments).lower(lowering_platforms=("cpu",))
    module = _without_locations(lowered.compiler_ir("stablehlo"))
    check_calls(module, ())
    return module


@contextmanager
def _no_locations() -> Generator[None]:
    """Trace without locations, which name files of this machine; those inside a kernel cannot be removed afterwards.

    Without frames of the traceback, Mosaic GPU still names one file, as the setting that makes file names canonical leaves it.
    """
    settings = {"jax_traceback_in_locations_limit": 0, "jax_hlo_source_file_canonicalization_regex": ".*"}
    before: dict[str, Any] = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def _without_locations(module: Any) -> Any:
    """The module without its locations, parsed into the current context."""
    bare = module.operation.get_asm(enable_debug_info=False)
    return ir.Module.parse(bare)


def with_module(made: export.Exported, module: Any) -> export.Exported:
    """The program with another module, in the version of StableHLO that it had.

    Shardy's ops stay as they are. As custom calls (`SHARDY`) they end the process of XLA, if the module is for several
    platforms.
    """
    serialized = mlir_tools.serialize_portable_artifact(module, version_of(made.mlir_module_serialized), True)
    return dataclasses.replace(made, mlir_module_serialized=bytes(serialized))


def version_of(serialized: bytes) -> str:
    """The StableHLO version at the head of a portable module."""
    match = re.search(rb"StableHLO_v(\d+\.\d+\.\d+)", serialized[:64])
    if match is None:
        raise RopegenError("a module does not start like portable StableHLO; export it again")
    return match.group(1).decode()


# The primitive of a whole graph --------------------------------------------------------------------------------------

_program_p = Primitive("program")
_program_p.multiple_results = True


def _program(stage: Stage, plans: tuple[Plan, ...], values: dict[str, jax.Array]) -> dict[str, jax.Array]:
    kinds, results = argument_types(plans[0], stage), result_types(plans[0], stage)
    outputs = _program_p.bind(*alike([values[label] for label in kinds]), plans=plans, stage=stage)
    return dict(zip(results, outputs, strict=True))


@_program_p.def_abstract_eval
def _program_abstract(*operands: Any, plans: tuple[Plan, ...], stage: Stage) -> list[ShapedArray]:  # pyright: ignore[reportUnusedFunction]
    results = result_types(plans[0], stage).values()
    return [typed_beside(ShapedArray(kind.shape, numpy_dtype(kind.dtype)), operands) for kind in results]


def _program_on(platform: str) -> Callable[..., list[jax.Array]]:
    def compute(*operands: jax.Array, plans: tuple[Plan, ...], stage: Stage) -> list[jax.Array]:
        plan = next(plan for plan in plans if plan.target.jax_platform == platform)
        kinds, results = argument_types(plans[0], stage), result_types(plans[0], stage)
        values = staged(plan, stage, dict(zip(kinds, operands, strict=True)))
        return [values[label] for label in results]

    return compute


def staged(plan: Plan, stage: Stage, values: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The results of a stage by label, from its arguments by label."""
    if stage == "gradient":
        return gradient(plan, values)
    return prepare(plan, values) if stage == "prepare" else run(plan, values, values)


for _platform in PLATFORMS:
    mlir.register_lowering(_program_p, functools.partial(lowered_alone, _program_on(_platform)), platform=_platform)
