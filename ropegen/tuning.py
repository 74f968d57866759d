"""Finds tiles for a graph's own regions: by the clock on this machine, or by the machine code of a GPU that is not here.

By the clock: a region of the plan is planned, compiled and timed on its own, once for every template and tile that it
may have. All candidates run in turns in one process, so whatever slows the machine down slows all of them. The fastest is
timed once more, together with the choice that the plan makes without a tile file. It is kept if it is faster by 5 % both
times. Otherwise the plan's own choice is kept.

By the machine code: a kernel whose code the compiler for CUDA lists is compiled with each of its tiles. Those that fail
the gate are left out. Of the others, the plan's own tile is kept, unless another one has a least time that is shorter by
5 %. XLA's loops and cuDNN have no such time, so the cost model still decides between templates. A template takes the place
of a cheaper one only if every tile of that one fails the gate.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np

from ropegen import bench, passes, tiles, tuning_by_code
from ropegen.arguments import number_of
from ropegen.bench.attention import Drawn, draw
from ropegen.bench.contenders import with_gradients
from ropegen.compilers import cuda
from ropegen.emit import callable as program
from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph, expect_graph
from ropegen.ir.text import digest
from ropegen.planner import plan
from ropegen.plans import Plan, Step
from ropegen.quantities import duration
from ropegen.target import Target
from ropegen.template import AnyTemplate, Region, Tile, catalog, family, template
from ropegen.tiles import Entry, TileFile
from ropegen.tuning_by_code import CALL, Compile, Judged

# A tile must take at most this share of the time of the plan's own choice, in both rounds: less is within the noise. Less
# of a least time is within what the model leaves out.
KEPT = 0.95
SECONDS = 10.0

By = Literal["the clock", "the machine code"]
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
    """What is kept for one region, and why."""

    region: str
    """The digest of the closed region."""
    what: str
    own: Choice
    """What the plan takes without a tile file."""
    best: Choice
    """What is kept: the fastest candidate, or `own`."""
    by: By
    """What decided: the clock of this machine, or the machine code for a GPU that is not here."""
    seconds: float | None
    """The median time of one call of `best`, or its least time by the machine code; None if that gives none."""
    ratio: float | None
    """The time of `best` over that of `own` in the round that decided; 1 if they are the same. None if one is not known."""
    candidates: int
    left_out: tuple[tuple[Choice, str], ...]
    """The candidates that fail the gate, and why."""
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
    seconds: float | None = None,
    grad: bool = False,
    progress: Progress = lambda doing: None,
    race: Racer = bench.race,
    compile_modules: Compile = cuda.compile_modules,
) -> Iterator[Outcome]:
    """Yields an outcome for every different region of the graph's plan that has a choice of tiles.

    If `target` is this machine, a clock decides. `seconds` is the time for timing a region, half of it for each round; it
    does not include compiling, and is 10 by default. With `grad` a call is the forward and the backward, with the
    gradients of all floating inputs of the region.

    If it is a GPU that is not here, the machine code of the forward kernels decides. This needs the compilers for CUDA, and
    neither `seconds` nor `grad`. A region that such a kernel computes has an outcome even if it offers one tile, because
    the gate may refuse that.

    Raises:
      RopegenError: a target that is neither; no region has a choice; `seconds` is not positive; candidates whose results
        differ. For a GPU that is not here: `seconds` or `grad` is given, or the compilers are not installed.
    """
    chip = expect_target(target)
    expect_graph("tune", graph)
    if not is_here(chip):
        if seconds is not None or grad:
            raise RopegenError(
                f"tune: {_UNTIMED.format(given='seconds' if seconds is not None else 'grad', chip=chip)}"
            )
        yield from _by_code(plan(graph, chip), progress, compile_modules)
        return
    time = SECONDS if seconds is None else seconds
    if not 0 < number_of("tune: seconds", time, "a positive number") < math.inf:
        raise RopegenError(f"tune: {time:g} seconds cannot be measured; give a positive number")
    whole = plan(graph, chip)
    regions = _tunable(whole)
    if not regions:
        raise RopegenError(
            f"tune: no region of {graph.name} has a choice of tiles on {chip}; the plan needs no measurement"
        )
    for index, (region, own, others) in enumerate(regions, 1):
        what = _in_words(region.closed)
        prefix = f"region {index} of {len(regions)}, {what}"
        yield _measure(whole, region, own, others, what, time / 2, grad, _prefixed(progress, prefix), race)


_UNTIMED = (
    "{given} is for timing, and nothing is timed for {chip}, which is not here: the machine code of its forward kernels is "
    "compared; leave it out"
)


def merge(old: TileFile | None, outcomes: Sequence[Outcome], target: Target) -> tuple[Entry, ...]:
    """The entries of a file after tuning: those of other targets, regions and compilers stay as they are.

    So do those that a clock found, if the machine code is what decided now. Plans take the entries of the newest compiler,
    see `ropegen.tiles`.
    """
    stay = {outcome.region for outcome in timed_before(old, outcomes, target)}
    outcomes = [outcome for outcome in outcomes if outcome.region not in stay]
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


def timed_before(old: TileFile | None, outcomes: Sequence[Outcome], target: Target) -> tuple[Outcome, ...]:
    """The outcomes by the machine code for which a file holds what a clock found with the same compiler. It stays."""
    timed = {
        (entry.region, entry.compiled_by)
        for entry in (old.entries if old is not None else ())
        if entry.target == target and not entry.is_estimated
    }
    return tuple(
        outcome
        for outcome in outcomes
        if outcome.by == "the machine code"
        and any((region, entry.compiled_by) in timed for region in outcome.replaces for entry in outcome.entries)
    )


def expect_target(target: str | Target) -> Target:
    """The target: this machine, or a GPU whose machine code the compilers for CUDA make without it.

    Raises:
      RopegenError: `target` is another one.
    """
    asked = Target.parse(target)
    if is_here(asked) or (asked.platform == "gpu" and asked.chip in cuda.CHIPS):
        return asked
    gpus = ", ".join(f"gpu:{chip}" for chip in cuda.CHIPS)
    if asked.platform == "tpu":
        way_out = "tile tables for TPU come from libtpu's schedules, which need no TPU (benchmarks/tpu.py), and ropegen ships them"
    elif asked.platform == "gpu":
        way_out = f"name the chip ({gpus}), whose machine code can be compared without it, or give --target host"
    else:
        way_out = "run it on such a machine, or give --target host"
    raise RopegenError(f"tune measures on this machine, which is {Target.host()}, and the target is {asked}; {way_out}")


def is_here(target: Target) -> bool:
    """Whether a target is this machine, where a clock can decide."""
    return target == Target.local()


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


def _by_code(whole: Plan, progress: Progress, compile_modules: Compile) -> Iterator[Outcome]:
    """The outcomes for a GPU that is not here, of the regions that kernels with machine code of their own compute."""
    steps: dict[Graph, Step] = {}
    for step in whole.steps:
        if step.region is None or step.chosen is None or step.prepares:
            continue
        if _has_code(template(step.chosen.template)):
            steps.setdefault(step.region.closed, step)
    if not steps:
        raise RopegenError(
            f"tune: no region of {whole.graph.name} takes a kernel on {whole.target} whose machine code could be compared; "
            "XLA's loops have tiles by the cost model, and a clock decides on such a GPU alone"
        )
    for index, (closed, step) in enumerate(steps.items(), 1):
        what = _in_words(closed)
        prefix = f"region {index} of {len(steps)}, {what}"
        yield _compare(whole, step, f"{what}, forward", _prefixed(progress, prefix), compile_modules)


def _has_code(made_by: AnyTemplate) -> bool:
    """Whether the compiler lists the machine code of its kernels."""
    return CALL in made_by.calls


def _compare(whole: Plan, step: Step, what: str, progress: Progress, compile_modules: Compile) -> Outcome:
    """Judges the tiles of the plan's own kernel; if all fail, the next template by the cost model."""
    assert step.region is not None, "the steps of regions are compared"
    assert step.chosen is not None, "a region without a template has no kernel"
    region, closed = step.region, step.region.closed
    own = Choice(template(step.chosen.template), step.chosen.tile)
    verdicts: dict[Choice, Judged] = {}
    best, reason = own, ""
    for candidate in sorted((each for each in step.considered if not each.declined), key=lambda each: each.preference):
        first = Choice(template(candidate.template), candidate.tile)
        if not _has_code(first.template):
            best, reason = (
                first,
                f"every kernel before it fails the gate, and {first.template} comes next by the cost model",
            )
            break
        choices = [first, *(each for each in _offered(closed, whole.target) if each.template == first.template)]
        judged = _judged(whole, closed, list(dict.fromkeys(choices)), progress, compile_modules)
        verdicts |= judged
        if any(not each.faults for each in judged.values()):
            best, reason = _least(judged, first)
            break
    own_least, least = verdicts[own].least, verdicts[best].least if best in verdicts else None
    seconds = None if least is None else least.seconds
    ratio = 1.0 if best == own else None if least is None or own_least is None else least.seconds / own_least.seconds
    rivals = _rivals(whole, region)
    entries = _entries(whole, closed, rivals, best, own, what, _estimated(verdicts, best, ratio, own))
    if best != own and not _computes(_plan_with(whole.source, whole.target, entries), closed, best):
        raise RopegenError(
            f"tune: {own} is left out of {what}, and with {best} the plan of {whole.graph.name} would take other regions"
        )
    return Outcome(
        region=digest(closed),
        what=what,
        own=own,
        best=best,
        by="the machine code",
        seconds=seconds,
        ratio=ratio,
        candidates=len(verdicts),
        left_out=tuple((choice, "; ".join(each.faults)) for choice, each in verdicts.items() if each.faults),
        reason=reason,
        entries=entries,
        replaces=frozenset(digest(graph) for graph in (closed, *rivals)),
    )


def _least(judged: Mapping[Choice, Judged], first: Choice) -> tuple[Choice, str]:
    """The tile to keep, and why. `first` is the one that the plan takes; another one must be faster by 5 %."""
    passing = {choice: each for choice, each in judged.items() if not each.faults}
    known = {choice: each.least.seconds for choice, each in passing.items() if each.least is not None}
    kept = first if first in passing else next(iter(passing))
    if len(passing) == 1:
        return kept, "no other tile passes the gate" if len(judged) > 1 else "there is no other tile"
    if known.keys() != passing.keys():
        return kept, "the machine code gives no least time: its loops, or how often they run, are not known"
    best = min(known, key=lambda choice: known[choice])
    times = "the machine code allows " + ", ".join(_allowed(choice, each) for choice, each in passing.items())
    if kept != first:
        return best, f"{first.tile} fails the gate, and {times}"
    if known[best] <= KEPT * known[first]:
        return best, f"a least time that is shorter by 5 % or more: {times}"
    return kept, f"no least time is shorter by 5 %: {times}"


def _allowed(choice: Choice, judged: Judged) -> str:
    assert judged.least is not None, "the tile has a least time"
    return f"{choice.tile} {duration(judged.least.seconds)}, by {judged.least.unit}"


def _judged(
    whole: Plan, closed: Graph, choices: Sequence[Choice], progress: Progress, compile_modules: Compile
) -> dict[Choice, Judged]:
    """What the machine code of every choice shows. One that the planner would not take for the region alone is left out."""
    alone = {choice: _alone(closed, choice, whole.target) for choice in choices}
    able = {str(choice): made for choice, made in alone.items() if _computes(made, closed, choice)}
    if str(choices[0]) not in able:
        raise RopegenError(f"tune: {closed.name} is computed in another way on its own than in {whole.graph.name}")
    progress(f"compiling {', '.join(able)}")
    judged = tuning_by_code.judged(able, closed.name, compile_modules)
    return {choice: judged[str(choice)] for choice in choices if str(choice) in judged}


def _estimated(
    verdicts: Mapping[Choice, Judged], best: Choice, ratio: float | None, own: Choice
) -> dict[str, int | float | str]:
    """The evidence of a choice by the machine code: a model, and no time."""
    evidence: dict[str, int | float | str] = {"estimated": "forward, by the machine code; nothing was timed"}
    if best in verdicts:
        judged = verdicts[best]
        evidence |= {"registers": judged.registers}
        if judged.least is not None:
            evidence |= {"least_microseconds": round(1e6 * judged.least.seconds, 1), "bound": judged.least.unit}
    evidence |= {"machine_code": verdicts[own].compiled_by, "own": str(own), "candidates": len(verdicts)}
    if ratio is not None:
        evidence["of_own"] = round(ratio, 3)
    if failed := [f"{choice}: {'; '.join(each.faults)}" for choice, each in verdicts.items() if each.faults]:
        evidence["left_out"] = " | ".join(failed)
    return evidence


def _offered(closed: Graph, target: Target) -> Iterator[Choice]:
    site = family(closed.name).site(closed)
    for made_by in catalog():
        if (
            made_by.family.name == closed.name
            and target.platform in made_by.runs_on
            and not any(made_by.declines(site, target))
        ):
            for tile in made_by.tiles(site, target):
                yield Choice(made_by, tile)


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
    rivals, words = _rivals(whole, region), f"{what}, {direction}"

    def entries_of(winner: _Winner) -> tuple[Entry, ...]:
        return _entries(whole, closed, rivals, winner.choice, own, words, _timed(winner, own, direction, len(runners)))

    entries = entries_of(winner)
    if winner.choice != own and not _computes(_plan_with(whole.source, whole.target, entries), closed, winner.choice):
        reason = f"{winner.choice} is faster, but with it the plan would take other regions"
        winner = _Winner(own, winner.seconds / winner.ratio, 1.0, reason)
        entries = entries_of(winner)
    return Outcome(
        region=digest(closed),
        what=words,
        own=own,
        best=winner.choice,
        by="the clock",
        seconds=winner.seconds,
        ratio=winner.ratio,
        candidates=len(runners),
        left_out=(),
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
    runners: dict[Choice, bench.Contender] = {}
    for number, choice in enumerate(choices, 1):
        progress(f"compiling candidate {number} of {len(choices)}, {choice}")
        alone = _alone(closed, choice, target)
        if _computes(alone, closed, choice):
            runners[choice] = _contender(choice, alone, drawn, arrays)
            runners[choice].call()
    return runners


def _alone(closed: Graph, choice: Choice, target: Target) -> Plan:
    """The plan of a region alone with a template and a tile."""
    regions = [region.closed for region in family(closed.name).find(passes.canonical(closed))]
    able = [graph for graph in regions if _able(choice.template, graph, target)]
    return _plan_with(closed, target, [_entry(graph, choice, target, closed.name, {}) for graph in able])


def _timed(winner: _Winner, own: Choice, direction: str, candidates: int) -> dict[str, int | float | str]:
    """The evidence of a choice by the clock."""
    return {
        "timed": direction,
        "microseconds": round(1e6 * winner.seconds, 1),
        "own": str(own),
        "of_own": round(winner.ratio, 3),
        "candidates": candidates,
    }


def _entries(
    whole: Plan,
    closed: Graph,
    rivals: Sequence[Graph],
    best: Choice,
    own: Choice,
    what: str,
    evidence: dict[str, int | float | str],
) -> tuple[Entry, ...]:
    # A plan that keeps its own choice keeps its regions too, without entries for their rivals.
    able = [graph for graph in rivals if best != own and _able(best.template, graph, whole.target)]
    return tuple(_entry(graph, best, whole.target, what, evidence) for graph in (closed, *able))


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
