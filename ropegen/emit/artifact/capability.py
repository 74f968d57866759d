"""Kernels for one compute capability in an artifact, and what runs where the GPU has another one.

A kernel for GPU is code for one compute capability. On a GPU of another one, CUDA's driver compiler ends the process.
So the manifest states the capability of every target with such kernels. On another GPU, the plan is made again for
`gpu:any`, which takes no such kernel, and runs in the place of the module.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from ropegen.emit.artifact.manifest import CapabilityEntry, Manifest
from ropegen.emit.module import stablehlo
from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph
from ropegen.planner import plan_together
from ropegen.plans import Plan
from ropegen.target import Target, host_capability
from ropegen.template import template

Program = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Instead:
    """The programs that run in the place of the modules on this machine's GPU, by stage, and why they do."""

    programs: Mapping[str, Program]
    why: str


def entry(made: Plan) -> CapabilityEntry | None:
    """What the manifest says of a plan whose modules hold kernels for one compute capability; None for others."""
    chosen = [step.exported.template for step in made.steps if step.exported is not None]
    names = dict.fromkeys(name for name in chosen if template(name).calls and not template(name).fits_other_gpus)
    if made.target.capability is None or not names:
        return None
    return CapabilityEntry(
        templates=tuple(names),
        capability=made.target.capability,
        weighed=made.weighed,
        tile={name: dict(tile.sizes) for name, tile in made.asked.tile},
        tables=made.asked.tables,
    )


def find_runtime() -> None:
    """Tells the compiler for CUDA where the library is that kernels of Mosaic GPU call.

    JAX does so when Mosaic GPU is imported. An artifact runs without the templates that would import it, and the
    compiler would find no symbol of such a kernel.
    """
    importlib.import_module("jax.experimental.mosaic.gpu")


def instead(manifest: Manifest, graph: Graph, directory: object) -> Instead | None:
    """What runs in the place of the modules here; None if the modules may run.

    Raises:
      RopegenError: nothing can take their place: the artifact is for several devices, or what is installed here prepares
        other values for `gpu:any`.
    """
    here = host_capability()
    unfit = {name: stated for name, stated in manifest.capabilities.items() if stated.capability != here}
    if here is None or not unfit:
        return None
    name, stated = next(iter(unfit.items()))
    why = (
        f"{directory} holds kernels for {name} ({', '.join(stated.templates)}), which run on {stated.capability}, and the "
        f"GPU of this machine is {here}"
    )
    way_out = "build it with a target for this GPU, or with gpu:any"
    if manifest.devices is not None:
        raise RopegenError(f"{why}; nothing takes their place in an artifact for several devices: {way_out}")
    targets = [Target.default("cuda") if label == name else Target.parse(label) for label in manifest.plans]
    plans = plan_together(graph, targets, tile=stated.tile, tables=stated.tables, weigh=stated.weighed)
    made = next(one for one in plans if one.target.platform == "gpu")
    stages = stablehlo.stages(made, grad=manifest.stages.gradient is not None)
    if {stage: set(stablehlo.argument_types(made, of_plan)) for stage, of_plan in stages.items()} != {
        stage: set(stated_stage.arguments) for stage, stated_stage in manifest.stages.by_name.items()
    }:
        raise RopegenError(f"{why}; the plan for {made.target} prepares other values than its modules: {way_out}")
    programs = {stage: jax.jit(functools.partial(stablehlo.staged, made, of_plan)) for stage, of_plan in stages.items()}
    return Instead(programs, f"{why}, so XLA computes what they would; {way_out}")
