"""Times the tiles that templates offer for a graph's own regions, on this machine.

A region of the plan is planned, compiled and timed on its own, once for every template and tile that it may have. All
candidates run in turns in one process, so whatever slows the machine down slows all of them. The fastest is timed once
more, together with the choice that the plan makes without a tile file. It is kept if it is faster by 5 % both times.
Otherwise the plan's own choice is kept.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ropegen import bench, passes, tiles
from ropegen.arguments import number_of
from ropegen.bench.attention import Drawn, draw
from ropegen.bench.contenders import with_gradients
from ropegen.emit import callable as program
from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph, expect_graph
from ropegen.ir.text import digest
from ropegen.planner import plan
from ropegen.plans import Plan
from ropegen.target import Target
from ropegen.template import AnyTemplate, Region, Tile, catalog, family
from ropegen.tiles import Entry, TileFile

# A tile must take at most this share of the time of the plan's own choice, in both rounds: less is within the noise.
KEPT = 0.95
SECONDS = 10.0

Progress = Callable[[str], None]
Racer = Callable[..., bench.Race]


@dataclass(frozen=True, slots=True)
class Choice:
    """A template with a tile."""

    template: AnyTemplate
    tile: Tile

    def __str__(self) -> str:
        return f"{self.template} {self.tile}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the measurement of one region says."""

    region: str
    """The digest of the closed region."""
    what: str
    own: Choice
    """What the plan takes without a tile file."""
    best: Choice
    """What is kept: the fastest candidate, or `own`."""
    seconds: float
    """The median time of one call of `best`."""
    ratio: float
    """The time of `best` over that of `own` in the round that decided; 1 if they are the same."""
    candidates: int
    reason: str
    """Why `best` was kept."""
    entries: tuple[Entry, ...]
    """For the region, and for the regions that a plan could take in its place."""
    replaces: frozenset[str]
    """The digests of all of these regions. Their older entries of the same compiler no longer count."""


def tune(
    graph: Graph,
    target: str | Target = "host",
    *,
    seconds: float = SECONDS,
    grad: bool = False,
    progress: Progress = lambda doing: None,
    race: Racer = bench.race,
) -> Iterator[Outcome]:
    """Yields an outcome for every different region of the graph's plan for this machine that has a choice of tiles.

    `seconds` is the time for timing a region, half of it for each round. It does not include compiling. With `grad` a
    call is the forward and the backward, with the gradients of all floating inputs of the region.

    Raises:
      RopegenError: a target other than this machine; no region has a choice; `seconds` is not positive; candidates
        whose
        results differ.
    """
    host = expect_host(target)
    expect_graph("tune", graph)
    if not 0 < number_of("tune: seconds", seconds, "a positive number") < math.inf:
        raise RopegenError(f"tune: {seconds:g} seconds cannot be measured; give a positive number")
    whole = plan(graph, host)
    regions = _tunable(whole)
    if not regions:
        raise RopegenError(
            f"tune: no region of {graph.name} has a choice of tiles on {host}; the plan needs no measurement"
        )
    for index, (region, own, others) in enumerate(regions, 1):
        what = _in_words(region.closed)
        prefix = f"region {index} of {len(regions)}, {what}"
        yield _measure(whole, region, own, others, what, seconds / 2, grad, _prefixed(progress, prefix), race)


def merge(old: TileFile | None, outcomes: Sequence[Outcome], target: Target) -> tuple[Entry, ...]:
    """The entries of a file after a measurement: those of other targets, regions and compilers stay as they are.

    Plans take the entries of the newest compiler, see `ropegen.tiles`.
    """
    replaced = frozenset[str]().union(*(outcome.replaces for outcome in outcomes))
    compilers = {entry.compiled_by for outcome in outcomes for entry in outcome.entries}
    kept = [
        entry
        for entry in (old.entries if old is not None else ())
        if entry.target != target or entry.region not in replaced or entry.compiled_by not in compilers
    ]
    # A measurement of the region itself takes precedence over the outcome of another region.
    measured = {outcome.region for outcome in outcomes}
    fresh: dict[tuple[str, str], Entry] = {}
    for outcome in outcomes:
        for entry in outcome.entries:
            if entry.region == outcome.region or entry.region not in measured:
                fresh.setdefault((entry.template, entry.region), entry)
    return (*kept, *fresh.values())


def expect_host(target: str | Target) -> Target:
    """The target of this machine.

    Raises:
      RopegenError: `target` is another one.
    """
    asked, host = Target.parse(target), Target.host()
    if asked == host:
        return host
    if asked.platform == "tpu":
        way_out = "tile tables for TPU come from libtpu's schedules, which need no TPU (benchmarks/tpu.py), and ropegen ships them"
    else:
        way_out = "run it on such a machine, or give --target host"
    raise RopegenError(f"tune measures on this machine, which is {host}, and the target is {asked}; {way_out}")


def _in_words(closed: Graph) -> str:
    inputs = [f"{label} {'x'.join(map(str, kind.shape))} {kind.dtype}" for label, kind in closed.input_types.items()]
    return f"{closed.name} of {', '.join(inputs)}"


def _tunable(whole: Plan) -> list[tuple[Region, Choice, list[Choice]]]:
    """The different regions of a plan that run at every call, with the plan's choice and the other candidates."""
    regions: dict[Graph, tuple[Region, Choice, list[Choice]]] = {}
    for step in whole.steps:
        if step.region is None or step.chosen is None or step.prepares or step.region.closed in regions:
            continue
        by_name = {str(template): template for template in catalog()}
        own = Choice(by_name[step.chosen.template], step.chosen.tile)
        others = [choice for choice in _offered(step.region.closed, whole.target) if choice != own]
        if others:
            regions[step.region.closed] = (step.region, own, others)
    return list(regions.values())


def _offered(closed: Graph, target: Target) -> Iterator[Choice]:
    site = family(closed.name).site(closed)
    for template in catalog():
        if (
            template.family.name == closed.name
            and target.platform in template.runs_on
            and not any(template.declines(site, target))
        ):
            for tile in template.tiles(site, target):
                yield Choice(template, tile)


@dataclass(frozen=True, slots=True)
class _Winner:
    """What the two rounds say."""

    choice: Choice
    seconds: float
    ratio: float
    reason: str


def _measure(
    whole: Plan,
    region: Region,
    own: Choice,
    others: Sequence[Choice],
    what: str,
    seconds: float,
    grad: bool,
    progress: Progress,
    race: Racer,
) -> Outcome:
    closed, direction = region.closed, "forward and backward" if grad else "forward"
    runners = _runners(closed, [own, *others], whole.target, grad, progress)
    if own not in runners:
        raise RopegenError(f"tune: {what} is computed in another way on its own than in {whole.graph.name}")
    winner = _two_rounds(runners, own, bench.tolerance(closed), seconds, progress, race)
    rivals = _rivals(whole, region)
    entries = _entries(whole, closed, rivals, winner, own, f"{what}, {direction}", direction, len(runners))
    if winner.choice != own and not _computes(_plan_with(whole.source, whole.target, entries), closed, winner.choice):
        reason = f"{winner.choice} is faster, but with it the plan would take other regions"
        winner = _Winner(own, winner.seconds / winner.ratio, 1.0, reason)
        entries = _entries(whole, closed, rivals, winner, own, f"{what}, {direction}", direction, len(runners))
    return Outcome(
        region=digest(closed),
        what=f"{what}, {direction}",
        own=own,
        best=winner.choice,
        seconds=winner.seconds,
        ratio=winner.ratio,
        candidates=len(runners),
        reason=winner.reason,
        entries=entries,
        replaces=frozenset(digest(graph) for graph in (closed, *rivals)),
    )


def _two_rounds(
    runners: Mapping[Choice, bench.Contender],
    own: Choice,
    tolerance: float,
    seconds: float,
    progress: Progress,
    race: Racer,
) -> _Winner:
    """Times all candidates, then the fastest together with the plan's own choice; `seconds` is for one round."""

    def timed(choices: Iterable[Choice], doing: str) -> bench.Race:
        contenders = [runners[choice] for choice in choices]
        return race(contenders, tolerance=tolerance, seconds=seconds, progress=_prefixed(progress, doing))

    if len(runners) == 1:
        first = timed([own], "one candidate")
        return _Winner(own, first[str(own)].median, 1.0, "no other candidate can take its place in the plan")
    first = timed(runners, f"{len(runners)} candidates")
    best = min(runners, key=lambda choice: first[str(choice)].median)
    if first.ratio(str(best), str(own)) > KEPT:
        return _Winner(own, first[str(own)].median, 1.0, "no candidate is faster by 5 %")
    second = timed([own, best], f"confirming {best}")
    if (ratio := second.ratio(str(best), str(own))) > KEPT:
        return _Winner(own, second[str(own)].median, 1.0, f"{best} was faster by 5 % in the first of two rounds only")
    return _Winner(best, second[str(best)].median, ratio, "faster by 5 % in both rounds")


def _runners(
    closed: Graph, choices: Sequence[Choice], target: Target, grad: bool, progress: Progress
) -> dict[Choice, bench.Contender]:
    """The compiled candidates. One that the planner would not take for the region alone is left out."""
    drawn = draw(closed, grad=grad)
    arrays = jax.device_put((dict(drawn.inputs), dict(drawn.cotangents or {})))
    regions = [region.closed for region in family(closed.name).find(passes.canonical(closed))]
    runners: dict[Choice, bench.Contender] = {}
    for number, choice in enumerate(choices, 1):
        progress(f"compiling candidate {number} of {len(choices)}, {choice}")
        able = [graph for graph in regions if _able(choice.template, graph, target)]
        alone = _plan_with(closed, target, [_entry(graph, choice, target, closed.name, {}) for graph in able])
        if _computes(alone, closed, choice):
            runners[choice] = _contender(choice, alone, drawn, arrays)
            runners[choice].call()
    return runners


def _entries(
    whole: Plan,
    closed: Graph,
    rivals: Sequence[Graph],
    winner: _Winner,
    own: Choice,
    what: str,
    direction: str,
    candidates: int,
) -> tuple[Entry, ...]:
    evidence: dict[str, int | float | str] = {
        "timed": direction,
        "microseconds": round(1e6 * winner.seconds, 1),
        "own": str(own),
        "of_own": round(winner.ratio, 3),
        "candidates": candidates,
    }
    # A plan that keeps its own choice keeps its regions too, without entries for their rivals.
    able = [graph for graph in rivals if winner.choice != own and _able(winner.choice.template, graph, whole.target)]
    return tuple(_entry(graph, winner.choice, whole.target, what, evidence) for graph in (closed, *able))


def _plan_with(graph: Graph, target: Target, entries: Sequence[Entry]) -> Plan:
    unique = {(entry.template, entry.region): entry for entry in entries}
    return plan(graph, target, measured=TileFile("the measured candidate", tuple(unique.values())))


def _computes(made: Plan, closed: Graph, choice: Choice) -> bool:
    return any(
        step.region is not None
        and step.region.closed is closed
        and step.chosen is not None
        and (step.chosen.template, step.chosen.tile) == (str(choice.template), choice.tile)
        for step in made.steps
    )


def _rivals(whole: Plan, region: Region) -> list[Graph]:
    """The closed regions of the same family that compute some of the same nodes.

    The planner weighs them by the cost model. They get the entry of the region too: otherwise a tile that the cost
    model thinks slower would make the planner take one of them, with the tile of the cost model.
    """
    computed = {node for node in region.nodes if node.operands}
    return list(
        dict.fromkeys(
            other.closed
            for other in family(region.family).find(whole.graph)
            if other.closed is not region.closed and computed.intersection(other.nodes)
        )
    )


def _able(template: AnyTemplate, closed: Graph, target: Target) -> bool:
    return not any(template.declines(family(closed.name).site(closed), target))


def _contender(choice: Choice, alone: Plan, drawn: Drawn, arrays: Any) -> bench.Contender:
    inputs, cotangents = arrays

    def function(values: Any) -> dict[str, jax.Array]:
        return dict(program.run(alone, {}, values))

    jitted: Any = jax.jit(function)
    arguments = (inputs,)
    if drawn.cotangents is not None:
        jitted = jax.jit(with_gradients(function, drawn.gradients))
        arguments = (inputs, cotangents)

    def call() -> Any:
        return jax.block_until_ready(jitted(*arguments))

    return bench.Contender(
        str(choice),
        call,
        lambda out: {label: np.asarray(value) for label, value in out.items()},
        frozenset(drawn.gradients.values()),
    )


def _entry(closed: Graph, choice: Choice, target: Target, what: str, evidence: dict[str, int | float | str]) -> Entry:
    package = tiles.compiler_of(target)
    return Entry(
        chip=tiles.chip_of(target),
        cores=target.cores if target.platform == "cpu" else None,
        dtype=closed.outputs[0][1].type.dtype,
        compiler={package: importlib.metadata.version(package)},
        template=str(choice.template),
        template_version=choice.template.version,
        region=digest(closed),
        what=what,
        tile=dict(choice.tile.sizes),
        evidence=evidence,
    )


def _prefixed(progress: Progress, prefix: str) -> Progress:
    return lambda doing: progress(f"{prefix}: {doing}")
