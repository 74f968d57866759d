"""Native kernels of an artifact: code for CPU that its modules do not contain.

The modules of an artifact are StableHLO that runs everywhere. If the plan for CPU takes templates whose kernels are code
in the process, `load` makes the plan again from the graph, and the kernels are compiled when they are first called. Where
that is impossible, the StableHLO runs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from ropegen import tiles
from ropegen.emit.artifact.manifest import TILES, Manifest, NativeEntry
from ropegen.emit.module import stablehlo
from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph
from ropegen.planner import Plan, plan
from ropegen.target import Target
from ropegen.template import template
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


def entry(made: Plan) -> NativeEntry | None:
    """What the manifest says of a plan with native kernels; None for a plan without."""
    chosen = [step.chosen for step in made.steps if step.chosen is not None]
    names = dict.fromkeys(candidate.template for candidate in chosen if candidate.needs_process)
    if not names:
        return None
    return NativeEntry(
        templates=tuple(names),
        weighed=made.weighed,
        tile={name: dict(tile.sizes) for name, tile in made.asked.tile},
        tables=made.asked.tables,
    )


def load(directory: Path, manifest: Manifest, graph: Callable[[], Graph]) -> Native:
    """The native programs of the first target, widest vectors first, whose kernels run in this process."""
    unused: dict[str, str] = {}
    for target in sorted(map(Target.parse, manifest.native), key=_lanes, reverse=True):
        stated = manifest.native[str(target)]
        try:
            if reason := "; ".join(dict.fromkeys(_reasons(stated, target))):
                unused[str(target)] = reason
                continue
            made = _planned(directory, manifest, graph(), target)
        except RopegenError as error:
            unused[str(target)] = str(error)
            continue
        stages: dict[str, stablehlo.Stage] = {"prepare": "prepare", "module": "run"}
        programs = {name: _program(made, stages[name]) for name in manifest.stages.by_name}
        return Native(programs, f"native kernels of {', '.join(stated.templates)}, compiled here for {target}", unused)
    return Native({}, "StableHLO", unused)


def _lanes(target: Target) -> int:
    return 0 if target.unit is None else target.unit.lanes


def _reasons(stated: NativeEntry, target: Target) -> Iterator[str]:
    for name in stated.templates:
        needs_process = template(name).needs_process
        if needs_process is not None:
            yield from needs_process(target)


def _planned(directory: Path, manifest: Manifest, graph: Graph, target: Target) -> Plan:
    """The plan that the artifact was built with, made again.

    Raises:
      RopegenError: what is installed here plans the graph otherwise.
    """
    stated = manifest.native[str(target)]
    made = plan(
        graph,
        target,
        tile=stated.tile,
        tables=stated.tables,
        weigh=stated.weighed,
        measured=_measured(directory, manifest, target),
    )
    if made.digest != manifest.plans[str(target)]:
        raise RopegenError(
            f"ropegen {manifest.built_with.ropegen} built the artifact, and what is installed here plans the graph "
            f"otherwise for {target}; build the artifact again"
        )
    return made


def _measured(directory: Path, manifest: Manifest, target: Target) -> TileFile | None:
    """The tile file that the plan was made with; None if it has no tile for the target."""
    if manifest.tiles is None:
        return None
    file = tiles.load(directory / TILES)
    return file if target in file.targets else None


def _program(made: Plan, stage: stablehlo.Stage) -> Program:
    return jax.jit(functools.partial(stablehlo.staged, made, stage))
