"""Native kernels of an artifact: code for CPU that its modules do not contain.

The modules of an artifact are StableHLO that runs everywhere. If the plan for CPU takes templates whose kernels are code
in the process, `load` makes the plan again from the graph, and the kernels are compiled when they are first called. Where
that is impossible, the StableHLO runs. The gradient of a call takes the same way as the call, so that both are of one
plan.

For a target that names its vector unit, such as cpu:avx2, `make` compiles the kernels ahead of time, on any machine. An
artifact then also holds the object files, and for each stage an exported module that calls them. They are machine code
and can do whatever the process can do, so they run only if the caller trusts the artifact.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax import export

from ropegen import explanation as explain
from ropegen import tiles
from ropegen.emit.artifact.manifest import TILES, Manifest, NativeEntry, NativeObjects
from ropegen.emit.module import stablehlo
from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph
from ropegen.native import call, machine
from ropegen.planner import plan
from ropegen.plans import Plan
from ropegen.target import VECTOR_UNITS, Target, VectorUnit
from ropegen.template import template, tiles_of
from ropegen.tiles import TileFile

Program = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Native:
    """The native programs of an artifact on this machine, by stage; none if its StableHLO runs."""

    programs: Mapping[str, Program]
    what: str
    """What runs here, in words."""
    unused: Mapping[str, str]
    """The targets with native kernels that do not run here, with the reason."""


def entry(made: Plan, objects: NativeObjects | None) -> NativeEntry | None:
    """What the manifest says of a plan with native kernels; None for a plan without."""
    chosen = [step.chosen for step in made.steps if step.chosen is not None]
    names = dict.fromkeys(candidate.template for candidate in chosen if candidate.needs_process)
    if not names:
        return None
    return NativeEntry(
        templates=tuple(names),
        unit=None if made.target.unit is None else made.target.unit.name,
        weighed=made.weighed,
        tile={name: dict(tile.sizes) for name, tile in made.asked.tile},
        tables=made.asked.tables,
        objects=objects,
    )


@dataclass(frozen=True, slots=True)
class Made:
    """The kernels of a target, compiled ahead of time: files by name, and the entry of the manifest."""

    plan: Plan
    files: Mapping[str, bytes]
    entry: NativeObjects


def make(plans: Sequence[Plan], held: Plan, *, grad: bool, progress: Callable[[str], None]) -> tuple[Made, ...]:
    """The native kernels of every plan for a CPU whose vector unit is named. `held` is the plan of the modules.

    With `grad`, they are those of the gradient too.

    Raises:
      RopegenError: such a plan has no native kernels, or its stages have other arguments than those of `held`.
    """
    made: list[Made] = []
    for one in plans:
        if one.target.unit is not None:
            progress(f"compiling for {one.target}")
            if _labels(one) != _labels(held):
                raise RopegenError(
                    f"the plan for {one.target} prepares other values than the one for {held.target}, whose modules the "
                    f"artifact holds; build an artifact for {one.target} alone"
                )
            made.append(_made(one, one.target.unit, grad))
    return tuple(made)


def _labels(made: Plan) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """The labels of the arguments and results of every stage."""
    return {
        name: (frozenset(stablehlo.argument_types(made, stage)), frozenset(stablehlo.result_types(made, stage)))
        for name, stage in stablehlo.stages(made).items()
    }


def _stated_labels(manifest: Manifest) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    return {
        name: (frozenset(stage.arguments), frozenset(stage.results))
        for name, stage in manifest.stages.of_a_call.items()
    }


def _made(made: Plan, unit: VectorUnit, grad: bool) -> Made:
    kernels: dict[str, call.Called] = {}
    files: dict[str, bytes] = {}
    programs: dict[str, str] = {}
    for name, stage in stablehlo.stages(made, grad=grad).items():
        with call.collected():
            called = stablehlo.native_kernels(made, stage)
            module = stablehlo.exported([made], stage, calls=tuple(called))
        kernels |= called
        programs[name] = f"{name}.{str(made.target).replace(':', '-')}.jaxexport"
        files[programs[name]] = bytes(module.serialize(vjp_order=0))
    if not kernels:
        raise RopegenError(
            f"the plan for {made.target} has no native kernels to compile ahead of time: {_why_none(made)}; build without "
            "--compile (ahead_of_time), or leave this target out"
        )
    entry = NativeObjects(
        unit=unit.name,
        kernels=tuple(one.kernel.name for one in kernels.values()),
        llvmlite=importlib.metadata.version("llvmlite"),
        programs=programs,
    )
    for one, name in zip(kernels.values(), entry.files, strict=True):
        files[name] = machine.object_code(one.kernel.text, unit)
    return Made(made, files, entry)


def source(made: Plan, *, grad: bool) -> dict[str, bytes]:
    """The code of a plan's native kernels for readers, by file: LLVM's text form and assembly, below the plan.

    With `grad`, they are those of the gradient too. A plan for a CPU without its vector unit gives the code for this machine.
    """
    if entry(made, None) is None:
        return {}
    unit = machine.unit_for(made.target)
    mark = "//" if unit.name == "neon" else "#"
    plan_text = explain.text(made).rstrip().splitlines()
    files: dict[str, bytes] = {}
    for stage in stablehlo.stages(made, grad=grad).values():
        for one in stablehlo.native_kernels(made, stage).values():
            assembly = machine.assembly(one.kernel.text, unit)
            for ending, sign, code in (("ll", ";", one.kernel.text), ("s", mark, assembly)):
                lines = [f"{sign} {line}".rstrip() for line in plan_text]
                files[f"{one.kernel.name}.{unit.name}.{ending}"] = "\n".join([*lines, "", code, ""]).encode()
    return files


def _why_none(made: Plan) -> str:
    considered = [candidate for step in made.steps for candidate in step.considered]
    declined = {one.template: one.declined for one in considered if template(one.template).needs_process is not None}
    return "; ".join(f"{name} declines: {', '.join(why)}" for name, why in declined.items() if why) or "none fits it"


def load(
    directory: Path, content: Callable[[str], bytes], manifest: Manifest, graph: Graph, *, trusted: bool
) -> Native:
    """The native programs of the first target, widest vectors first, whose kernels run in this process.

    `content` reads a file of the directory by its name, and compares its hash.
    Object files run only from an artifact that is `trusted`; otherwise the kernels are compiled here.
    """
    unused: dict[str, str] = {}
    for name, stated in sorted(manifest.native.items(), key=lambda entry: _worth(entry[1]), reverse=True):
        objects = stated.objects if trusted else None
        try:
            target = Target.parse(name)
            if reasons := [*_reasons(stated, objects, target)]:
                unused[name] = "; ".join(dict.fromkeys(reasons))
                continue
            if objects is not None:
                programs, how = _linked(directory, content, objects), "compiled ahead of time"
            else:
                made = _planned(directory, content, manifest, graph, target)
                stages = stablehlo.stages(made, grad=manifest.stages.gradient is not None)
                programs = {stage: _program(made, of_plan) for stage, of_plan in stages.items()}
                how = "compiled here"
        except RopegenError as error:
            unused[name] = str(error)
            continue
        return Native(programs, f"native kernels of {', '.join(stated.templates)}, {how} for {name}", unused)
    return Native({}, "StableHLO", unused)


def _worth(stated: NativeEntry) -> tuple[int, bool]:
    """What the vector unit of a target does at once; more is better."""
    unit = None if stated.unit is None else VECTOR_UNITS[stated.unit]
    return (0, False) if unit is None else (unit.lanes, unit.pairs)


def _reasons(stated: NativeEntry, objects: NativeObjects | None, target: Target) -> Iterator[str]:
    """Why the kernels cannot run in this process. Object files need no template."""
    if objects is not None:
        yield from machine.cannot_run(target)
        return
    for name in stated.templates:
        needs_process = template(name).needs_process
        if needs_process is not None:
            yield from needs_process(target)


def _planned(
    directory: Path, content: Callable[[str], bytes], manifest: Manifest, graph: Graph, target: Target
) -> Plan:
    """The plan that the artifact was built with, made again.

    Raises:
      RopegenError: what is installed here plans the graph otherwise, or a tile is none that its template offers.
    """
    stated = manifest.native[str(target)]
    made = plan(
        graph,
        target,
        tile=stated.tile,
        tables=stated.tables,
        weigh=stated.weighed,
        measured=_measured(directory, content, manifest, target),
    )
    if made.digest != manifest.plans[str(target)] or _labels(made) != _stated_labels(manifest):
        raise RopegenError(
            f"ropegen {manifest.built_with.ropegen} built the artifact, and what is installed here plans the graph "
            f"otherwise for {target}; build the artifact again"
        )
    for step in made.steps:
        if step.region is not None and step.chosen is not None and step.chosen.needs_process:
            by = template(step.chosen.template)
            if step.chosen.tile not in tiles_of(by, by.family.site(step.region.closed), target):
                raise RopegenError(f"{by} does not offer the tile {step.chosen.tile}; build with another tile")
    return made


def _measured(directory: Path, content: Callable[[str], bytes], manifest: Manifest, target: Target) -> TileFile | None:
    """The tile file that the plan was made with; None if it has no tile for the target."""
    if manifest.tiles is None:
        return None
    file = tiles.parse(content(TILES), str(directory / TILES))
    return file if target in file.targets else None


def _linked(directory: Path, content: Callable[[str], bytes], objects: NativeObjects) -> dict[str, Program]:
    """The programs that call the object files, which are loaded into this process."""
    for kernel, name in zip(objects.kernels, objects.files, strict=True):
        call.register(kernel, objects.unit, functools.partial(content, name))
    targets = {call.target_of(kernel, objects.unit) for kernel in objects.kernels}
    programs: dict[str, Program] = {}
    for stage, name in objects.programs.items():
        module = export.deserialize(bytearray(content(name)))
        unlisted = set(stablehlo.custom_calls(module.mlir_module_serialized)) - targets
        if unlisted:
            raise RopegenError(f"{name} calls {', '.join(sorted(unlisted))}; build the artifact again")
        programs[stage] = jax.jit(module.call)
    return programs


def _program(made: Plan, stage: stablehlo.Stage) -> Program:
    return jax.jit(functools.partial(stablehlo.staged, made, stage))
