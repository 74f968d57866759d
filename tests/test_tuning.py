"""Tuning: which candidate is kept, for which regions, and that a plan takes it. Most tests decide who is fast."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

import ropegen as rg
from ropegen import bench, passes, tuning
from ropegen.ir.text import digest
from ropegen.native import machine
from ropegen.plans import Step
from ropegen.target import Target
from ropegen.template import family
from ropegen.tiles import TileFile


@pytest.fixture(autouse=True)
def without_native_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of these tests are of the XLA templates, so the plans weigh those alone."""
    monkeypatch.setattr(machine, "is_installed", lambda: False)


def rotary(dtype: str = "f32", length: int = 300) -> rg.Graph:
    """Attention that rotates q and k: several regions overlap, with rotations inside or not."""
    b = rg.Builder("rotary")
    q, k, v = (b.input(label, (1, length, heads, 8), dtype) for label, heads in (("q", 2), ("k", 1), ("v", 1)))
    rope, at = rg.Rope(10_000.0, pairing="half"), b.positions(length)
    return b.build(out=b.attend(b.rope(q, at, rope), b.rope(k, at, rope), v, mask=rg.masks.causal))


def attends(plan: rg.Plan) -> Step:
    (step,) = (step for step in plan.steps if step.region is not None and step.region.family == "attend")
    return step


def own_choice(graph: rg.Graph) -> str:
    chosen = attends(rg.plan(graph, "host")).chosen
    assert chosen is not None
    return f"{chosen.template} {chosen.tile}"


def decided(*rounds: Callable[[Sequence[str]], Mapping[str, float]]) -> Callable[..., bench.Race]:
    """A race in which a function of the contenders' names says how long they take, one function for each round."""
    waiting = list(rounds)

    def race(contenders: Sequence[bench.Contender], **options: Any) -> bench.Race:
        bench.compare(contenders, options["tolerance"])  # the kernels are real
        times = waiting.pop(0)([contender.name for contender in contenders])
        return bench.Race(tuple(bench.Timing(name, (times[name],)) for name in times), {})

    return race


def last_is_fastest(share: float) -> Callable[[Sequence[str]], Mapping[str, float]]:
    return lambda names: {name: share if name == names[-1] else 1.0 for name in names}


def test_a_tile_that_wins_twice_is_kept_and_a_plan_takes_it() -> None:
    graph = rotary()
    (outcome,) = tuning.tune(graph, race=decided(last_is_fastest(0.5), last_is_fastest(0.6)))
    assert str(outcome.own) == own_choice(graph)
    assert outcome.best != outcome.own
    assert (outcome.ratio, outcome.seconds, outcome.candidates) == (0.6, 0.6, 3)
    file = TileFile("file", tuning.merge(None, [outcome], Target.host()))
    chosen = attends(rg.plan(graph, "host", measured=file)).chosen
    assert chosen is not None
    assert f"{chosen.template} {chosen.tile}" == str(outcome.best)
    # It is the region that the plan took before, and not one that overlaps with it.
    before, after = attends(rg.plan(graph, "host")), attends(rg.plan(graph, "host", measured=file))
    assert before.region is not None
    assert after.region is not None
    assert after.region.closed is before.region.closed
    assert outcome.region == digest(before.region.closed)


def test_what_the_kept_tile_computes_is_right() -> None:
    graph = rotary(length=160)
    (outcome,) = tuning.tune(graph, race=decided(last_is_fastest(0.5), last_is_fastest(0.5)))
    file = TileFile("file", tuning.merge(None, [outcome], Target.host()))
    random = np.random.default_rng(0)
    inputs = {label: random.standard_normal(kind.shape).astype(np.float32) for label, kind in graph.input_types.items()}
    wanted = rg.reference.evaluate(graph, inputs)["out"]
    np.testing.assert_allclose(rg.plan(graph, "host", measured=file).compile()(**inputs), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("rounds", "reason"),
    [
        ([last_is_fastest(0.96)], "no candidate is faster by 5 %"),
        ([last_is_fastest(1.0)], "no candidate is faster by 5 %"),
        ([last_is_fastest(0.5), last_is_fastest(0.96)], "in the first of two rounds only"),
        ([last_is_fastest(0.5), last_is_fastest(2.0)], "in the first of two rounds only"),
    ],
)
def test_a_tile_that_does_not_win_twice_is_not_kept(
    rounds: list[Callable[[Sequence[str]], Mapping[str, float]]], reason: str
) -> None:
    graph = rotary()
    (outcome,) = tuning.tune(graph, race=decided(*rounds))
    assert outcome.best == outcome.own
    assert (outcome.ratio, outcome.seconds) == (1.0, 1.0)
    assert reason in outcome.reason
    file = TileFile("file", tuning.merge(None, [outcome], Target.host()))
    plan = rg.plan(graph, "host", measured=file)
    chosen = attends(plan).chosen
    assert chosen is not None
    assert f"{chosen.template} {chosen.tile}" == own_choice(graph)
    assert chosen.tile_from.startswith("the tile file")
    assert plan.cost == rg.plan(graph, "host").cost


def test_the_templates_of_a_region_race_together() -> None:
    """In half precision two templates compute attention on CPU."""
    names: list[str] = []

    def first_is_fastest(given: Sequence[str]) -> Mapping[str, float]:
        names.extend(given)
        return {name: 1.0 + index for index, name in enumerate(given)}

    (outcome,) = tuning.tune(rotary("bf16"), race=decided(first_is_fastest))
    assert {name.split()[0] for name in names} == {"attend/xla", "attend/xla_f32"}
    assert len(set(names)) == len(names) == outcome.candidates


def test_forward_and_backward_are_timed_together() -> None:
    results: list[set[str]] = []

    def race(contenders: Sequence[bench.Contender], **options: Any) -> bench.Race:
        results.extend(set(contender.arrays(contender.call())) for contender in contenders)
        return decided(last_is_fastest(1.0))(contenders, **options)

    (outcome,) = tuning.tune(rotary(length=160), grad=True, race=race)
    gradients = [{label for label in labels if label.startswith("d_")} for labels in results]
    assert gradients
    assert all({"d_q", "d_k", "d_v"} <= labels for labels in gradients)
    assert {entry.evidence["timed"] for entry in outcome.entries} == {"forward and backward"}


def test_equal_regions_are_measured_once_and_different_ones_apart() -> None:
    b = rg.Builder("layers")
    outputs: dict[str, Any] = {}
    for index, length in enumerate((300, 300, 310)):
        sizes = (("q", 2), ("k", 1), ("v", 1))
        q, k, v = (b.input(f"{label}{index}", (1, length, heads, 8), "f32") for label, heads in sizes)
        outputs[f"out{index}"] = b.attend(q, k, v)
    said: list[str] = []
    rounds = [last_is_fastest(1.0)] * 2
    outcomes = list(tuning.tune(b.build(**outputs), progress=said.append, race=decided(*rounds)))
    assert len({outcome.region for outcome in outcomes}) == len(outcomes) == 2
    first, count = outcomes[0], outcomes[0].candidates
    what = first.what.removesuffix(", forward")
    assert next(line for line in said if "compiling candidate 2" in line).startswith(
        f"region 1 of 2, {what}: compiling candidate 2 of {count}, attend/xla "
    )


def test_entries_for_other_regions_and_machines_are_kept() -> None:
    host = Target.host()
    (first,) = tuning.tune(rotary(), race=decided(last_is_fastest(0.5), last_is_fastest(0.5)))
    (other,) = tuning.tune(rotary(length=170), race=decided(last_is_fastest(0.5), last_is_fastest(0.5)))
    there = Target("cpu", host.chip, host.cores + 1)
    file = TileFile("file", tuning.merge(None, [first, other], host))
    assert file.entries == (*first.entries, *other.entries)
    (again,) = tuning.tune(rotary(), race=decided(last_is_fastest(1.0)))
    merged = tuning.merge(file, [again], host)
    assert merged == (*other.entries, *again.entries)
    assert tuning.merge(file, [again], there) == (*file.entries, *again.entries)


def test_entries_of_other_compilers_are_kept() -> None:
    host = Target.host()
    (outcome,) = tuning.tune(rotary(), race=decided(last_is_fastest(1.0)))
    newer = tuple(msgspec.structs.replace(entry, compiler={"jaxlib": "999.0"}) for entry in outcome.entries)
    merged = tuning.merge(TileFile("file", (*newer, *outcome.entries)), [outcome], host)
    assert merged == (*newer, *outcome.entries)


def test_every_region_that_overlaps_gets_the_tile_and_loses_older_ones() -> None:
    graph = rotary()
    (outcome,) = tuning.tune(graph, race=decided(last_is_fastest(0.5), last_is_fastest(0.5)))
    regions = {digest(region.closed) for region in family("attend").find(passes.canonical(graph))}
    assert len(regions) > 1
    assert outcome.replaces == regions == {entry.region for entry in outcome.entries}


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.inf, math.nan])
def test_a_time_that_cannot_be_measured_is_refused(seconds: float) -> None:
    with pytest.raises(rg.RopegenError, match="give a positive number"):
        next(tuning.tune(rotary(), seconds=seconds))


def test_real_timing_gives_an_outcome() -> None:
    (outcome,) = tuning.tune(rotary(length=160), seconds=0.02)
    assert outcome.seconds > 0
    assert 0 < outcome.ratio <= 1
    assert outcome.best == outcome.own or outcome.ratio <= tuning.KEPT
