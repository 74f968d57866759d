"""Plans as StableHLO: one exported module for several platforms, and a portable one for consumers without JAX.

`program` is the primitive of a whole graph. Its lowering for a platform is the plan of that platform, so the
plans may differ in their regions as well as in their kernels.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import jax
import jax.extend.mlir as mlir_tools
from jax import export
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.extend.mlir import ir
from jax.interpreters import mlir

from ropegen import plain
from ropegen.emit.callable import prepare, prepare_labels, prepared_names, run, run_labels, table_of
from ropegen.emit.primitive import PLATFORMS
from ropegen.errors import RopegenError
from ropegen.ir.graph import Node, label_of
from ropegen.planner import Plan
from ropegen.template import template
from ropegen.types import TensorType, numpy_dtype

Stage = Literal["prepare", "run"]

# What a portable module promises to be readable by: every consumer of this StableHLO or a newer one.
PORTABLE_VERSION = "1.9.0"
# Constants of more elements than this are elided where a module is printed for reading.
_SHOWN_ELEMENTS = 16


def check_platforms(plans: Sequence[Plan]) -> None:
    """Refuse plans that cannot be one artifact.

    Raises:
      RopegenError: no plan, plans of different graphs, or two plans for one platform.
    """
    if not plans:
        raise RopegenError("an artifact needs at least one target; give e.g. cpu")
    if len({each.graph for each in plans}) > 1:
        raise RopegenError("the plans are of different graphs; plan one graph for every target")
    seen: dict[str, Plan] = {}
    for each in plans:
        other = seen.setdefault(each.target.jax_platform, each)
        if other is not each:
            raise RopegenError(
                f"targets {other.target} and {each.target} are both {each.target.platform}, and an artifact holds one kernel a "
                "platform; build one artifact for each"
            )


def exported(plans: Sequence[Plan], stage: Stage, *, named: bool = False) -> export.Exported:
    """The module of a stage for the platforms of the plans; its arguments and results are dictionaries by label.

    `named` keeps the names of kernels, which a compiler repeats in what it says of them.

    Raises:
      RopegenError: see `check_platforms`; 64-bit inputs while JAX runs without them; a custom call that no chosen
        template declares.
    """
    check_platforms(plans)
    kinds = argument_types(plans[0], stage)
    _need_64_bit(kinds)
    arguments = {label: jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype)) for label, kind in kinds.items()}
    function = jax.jit(functools.partial(_program, tuple(plans), stage))
    with _no_locations():
        made = export.export(function, platforms=[each.target.jax_platform for each in plans])(arguments)
    with mlir.make_ir_context() as context:
        module = mlir_tools.deserialize_portable_artifact(made.mlir_module_serialized, context)
        check_calls(module, declared_calls(plans))
        if named:
            return made
        stripped = _without_locations(module)
        serialized = mlir_tools.serialize_portable_artifact(stripped, _version(made.mlir_module_serialized))
    return dataclasses.replace(made, mlir_module_serialized=bytes(serialized), fun_name=plans[0].graph.name)


def portable(plan: Plan, stage: Stage) -> bytes:
    """The stage as portable StableHLO bytecode of `PORTABLE_VERSION`: plain ops, no custom call, no JAX convention.

    `main` takes the arguments in the order of `argument_types` and gives the results in that of `result_types`.
    """
    with mlir.make_ir_context():
        return bytes(mlir_tools.serialize_portable_artifact(_plain_module(plan, stage), PORTABLE_VERSION))


def text(plan: Plan, stage: Stage = "run") -> str:
    """The portable module for reading: no locations, large constants elided."""
    with mlir.make_ir_context():
        return _plain_module(plan, stage).operation.get_asm(
            enable_debug_info=False, large_elements_limit=_SHOWN_ELEMENTS
        )


def argument_types(plan: Plan, stage: Stage) -> dict[str, TensorType]:
    """What a stage reads, by label, in the order of its portable module."""
    inputs = plan.graph.input_types
    if stage == "prepare":
        return {label: inputs[label] for label in prepare_labels(plan)}
    prepared = {name: value.type for name, value in prepared_names(plan).items()}
    return {**{label: inputs[label] for label in run_labels(plan)}, **prepared}


def result_types(plan: Plan, stage: Stage) -> dict[str, TensorType]:
    """What a stage gives, by label, in the order of its portable module."""
    return {label: value.type for label, value in _results(plan, stage).items()}


def _results(plan: Plan, stage: Stage) -> dict[str, Node]:
    return prepared_names(plan) if stage == "prepare" else dict(plan.graph.outputs)


def declared_calls(plans: Sequence[Plan]) -> tuple[str, ...]:
    """The custom-call targets that the chosen templates declare."""
    chosen = {step.chosen.template for plan in plans for step in plan.steps if step.chosen is not None}
    return tuple(sorted({call for name in chosen for call in template(name).calls}))


def check_calls(module: Any, declared: Sequence[str]) -> tuple[str, ...]:
    """The custom calls of a module, once each.

    Raises:
      RopegenError: one of them is not declared by the templates that were chosen.
    """
    found = _calls(module)
    unknown = [each for each in found if each not in declared]
    if unknown:
        raise RopegenError(
            f"the module calls {', '.join(unknown)}, which no chosen template declares; add it to the `calls` of the template that emits it"
        )
    return found


def custom_calls(serialized: bytes) -> tuple[str, ...]:
    """The custom calls of a serialized module, once each."""
    with mlir.make_ir_context() as context:
        return _calls(mlir_tools.deserialize_portable_artifact(serialized, context))


def _calls(module: Any) -> tuple[str, ...]:
    return tuple(
        sorted({_call_target(each) for each in walk(module.operation) if each.name == "stablehlo.custom_call"})
    )


def walk(operation: Any) -> Iterator[Any]:
    """Every operation of a module, outermost first."""
    yield operation
    for region in operation.regions:
        for block in region.blocks:
            for each in block.operations:
                yield from walk(each.operation)


def op_counts(serialized: bytes) -> dict[str, int]:
    """How often each op stands in a serialized module, by name."""
    with mlir.make_ir_context() as context:
        module = mlir_tools.deserialize_portable_artifact(serialized, context)
        counts: dict[str, int] = {}
        for each in walk(module.operation):
            counts[each.name] = counts.get(each.name, 0) + 1
    return dict(sorted(counts.items()))


def _call_target(operation: Any) -> str:
    return ir.StringAttr(operation.attributes["call_target_name"]).value


def _need_64_bit(kinds: dict[str, TensorType]) -> None:
    wide = [label for label, kind in kinds.items() if kind.dtype in ("f64", "i64")]
    if wide and not jax.config.read("jax_enable_x64"):
        raise RopegenError(
            f"inputs {', '.join(wide)} are 64 bits wide, and JAX runs without them; set jax_enable_x64 to True first"
        )


def _plain_module(plan: Plan, stage: Stage) -> Any:
    """The stage by the plain lowering of its ops, with plain arguments in order.

    Templates are shaped for the compiler of their platform; a consumer that is not known is given the ops.
    """
    kinds, results = argument_types(plan, stage), _results(plan, stage)
    _need_64_bit(kinds)

    def main(*arguments: jax.Array) -> tuple[jax.Array, ...]:
        given = dict(zip(kinds, arguments, strict=True))
        named = {**{label_of(each): each for each in plan.graph.inputs}, **prepared_names(plan)}
        known = {named[label]: value for label, value in given.items()}
        for step in plan.steps:  # tables come from where the plan says
            if step.table is not None and step.outputs[0] not in known:
                known[step.outputs[0]] = table_of(step.outputs[0], step.table)
        return plain.evaluate(tuple(results.values()), known)

    arguments = [jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype)) for kind in kinds.values()]
    # `keep_unused` keeps the arguments that the manifest states.
    lowered = jax.jit(main, keep_unused=True).trace(*arguments).lower(lowering_platforms=("cpu",))
    module = _without_locations(lowered.compiler_ir("stablehlo"))
    check_calls(module, ())
    return module


@contextmanager
def _no_locations() -> Generator[None]:
    """Locations name files of the machine that builds; those inside a kernel cannot be taken out afterwards."""
    name = "jax_traceback_in_locations_limit"
    before: int = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def _without_locations(module: Any) -> Any:
    """The module again in the current context, parsed from a form that leaves its locations behind."""
    bare = module.operation.get_asm(enable_debug_info=False)
    return ir.Module.parse(bare)


def _version(serialized: bytes) -> str:
    """The StableHLO version that a portable module states at its head."""
    found = re.search(rb"StableHLO_v(\d+\.\d+\.\d+)", serialized[:64])
    if found is None:
        raise RopegenError("a module does not start as portable StableHLO does; export it again")
    return found.group(1).decode()


# The primitive of a whole graph --------------------------------------------------------------------------------------

_program_p = Primitive("program")
_program_p.multiple_results = True


def _program(plans: tuple[Plan, ...], stage: Stage, values: dict[str, jax.Array]) -> dict[str, jax.Array]:
    kinds, results = argument_types(plans[0], stage), result_types(plans[0], stage)
    found = _program_p.bind(*(values[label] for label in kinds), plans=plans, stage=stage)
    return dict(zip(results, found, strict=True))


@_program_p.def_abstract_eval
def _program_abstract(*operands: Any, plans: tuple[Plan, ...], stage: Stage) -> list[ShapedArray]:  # pyright: ignore[reportUnusedFunction]
    results = result_types(plans[0], stage).values()
    return [ShapedArray(kind.shape, numpy_dtype(kind.dtype)) for kind in results]


def _program_on(platform: str) -> Callable[..., list[jax.Array]]:
    def compute(*operands: jax.Array, plans: tuple[Plan, ...], stage: Stage) -> list[jax.Array]:
        plan = next(each for each in plans if each.target.jax_platform == platform)
        kinds, results = argument_types(plans[0], stage), result_types(plans[0], stage)
        found = _staged(plan, stage, dict(zip(kinds, operands, strict=True)))
        return [found[label] for label in results]

    return compute


def _staged(plan: Plan, stage: Stage, values: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return prepare(plan, values) if stage == "prepare" else run(plan, values, values)


for _platform in PLATFORMS:
    mlir.register_lowering(
        _program_p, mlir.lower_fun(_program_on(_platform), multiple_results=True), platform=_platform
    )
