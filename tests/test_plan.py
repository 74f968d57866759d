"""The planner's choice of regions against brute force: every subset of the offers, tried one by one."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import ropegen as rg
from ropegen import explanation as explain
from ropegen import models, passes, planner, plans, selection, tiles
from ropegen.cost import Direction
from ropegen.ir import ops
from ropegen.ir.graph import Graph
from ropegen.plain import plain_cost
from ropegen.planner import plan, plan_together
from ropegen.plans import Plan
from ropegen.selection import Choice, Offer
from ropegen.target import Target
from ropegen.template import Region, catalog, cost_of, families

CASES = Path(__file__).parent.parent / "golden" / "cases"
TARGETS = ("cpu", "gpu:h100", "tpu:v5e")

Reads = list[list[int]]
Problem = tuple[Reads, list[Offer]]


# Numbered nodes and offers -------------------------------------------------------------------------------------------


def is_feasible(reads: Sequence[Iterable[int]], claims: Sequence[Iterable[int]]) -> bool:
    """Whether sets of nodes share no node and can be computed one after another: Kahn's algorithm on whole sets."""
    owner: dict[int, int] = {}
    for index, nodes in enumerate(claims):
        for node in nodes:
            if node in owner:
                return False
            owner[node] = index
    whole = [owner.get(node, len(claims) + node) for node in range(len(reads))]
    waits: dict[int, set[int]] = {part: set() for part in whole}
    for node, operands in enumerate(reads):
        waits[whole[node]] |= {whole[operand] for operand in operands} - {whole[node]}
    while waits:
        ready = {part for part, others in waits.items() if not others & waits.keys()}
        if not ready:
            return False
        waits = {part: others for part, others in waits.items() if part not in ready}
    return True


def brute_force(reads: Reads, offers: Sequence[Offer]) -> tuple[int, ...]:
    """The best of all subsets; the first one among equals, where subsets with earlier offers come first."""
    best: tuple[tuple[float, ...], tuple[int, ...]] | None = None
    for picks in itertools.product((True, False), repeat=len(offers)):
        taken = tuple(index for index, is_picked in enumerate(picks) if is_picked)
        saving = tuple(map(sum, zip(*(offers[index].saving for index in taken), strict=True))) or (0, 0)
        if (best is None or saving > best[0]) and is_feasible(reads, [offers[index].claims for index in taken]):
            best = saving, taken
    assert best is not None
    return best[1]


def drawn(seed: int, count: int) -> Iterator[Problem]:
    """Small problems: free graphs, and two rows of nodes whose offers wait for each other in rings.

    Savings are small whole numbers, so that many choices save the same.
    """
    rng = np.random.default_rng(seed)
    for index in range(count):
        offers = int(rng.integers(1, 9))
        savings = [(float(rng.integers(0, 5)), float(rng.integers(0, 3))) for _ in range(offers)]
        if index % 2:
            nodes = int(rng.integers(2, 15))
            reads = [_some(rng, range(node), 2) for node in range(nodes)]
            claims = [_some(rng, range(nodes), 3, at_least=1) for _ in range(offers)]
        else:
            half = int(rng.integers(2, 7))
            reads = [[] for _ in range(half)] + [_some(rng, range(half), 2) for _ in range(half)]
            claims = [
                [*_some(rng, range(half), 1, at_least=1), *_some(rng, range(half, 2 * half), 2, at_least=1)]
                for _ in range(offers)
            ]
        yield reads, [Offer(frozenset(nodes), saving) for nodes, saving in zip(claims, savings, strict=True)]


def _some(rng: np.random.Generator, among: range, at_most: int, at_least: int = 0) -> list[int]:
    size = min(len(among), int(rng.integers(at_least, at_most + 1)))
    return [int(value) for value in rng.choice(np.array(among, int), size, replace=False)]


def differing(choose: Callable[[Reads, list[Offer]], Choice], problems: Iterable[Problem]) -> list[Problem]:
    """The problems for which the choice is not that of brute force."""
    return [(reads, offers) for reads, offers in problems if choose(reads, offers).taken != brute_force(reads, offers)]


@pytest.mark.parametrize("seed", range(4))
def test_the_choice_is_that_of_brute_force(seed: int) -> None:
    assert not differing(selection.choose, drawn(seed, 300))


def test_the_drawn_problems_have_overlaps_rings_and_ties() -> None:
    overlaps = rings = ties = 0
    for reads, offers in drawn(0, 300):
        alone = [offer for offer in offers if is_feasible(reads, [offer.claims])]
        disjoint = [
            subset
            for size in range(2, 5)
            for subset in itertools.combinations(alone, size)
            if not any(a.claims & b.claims for a, b in itertools.combinations(subset, 2))
        ]
        overlaps += any(a.claims & b.claims for a, b in itertools.combinations(offers, 2))
        rings += any(not is_feasible(reads, [offer.claims for offer in subset]) for subset in disjoint)
        ties += len({offer.saving for offer in offers}) < len(offers)
    assert min(overlaps, rings, ties) >= 30


MUTATIONS = {
    "the smaller saving is taken": ("reached > following[rest]", "reached < following[rest]"),
    "ties take the later offers": (
        "reached > following[rest]",
        "(reached[0], -reached[1]) > (following[rest][0], -following[rest][1])",
    ),
    "the second number of a saving is ignored": (
        "reached > following[rest]",
        "(reached[0][0], reached[1]) > (following[rest][0][0], following[rest][1])",
    ),
    "overlaps are not seen": ("excluded[owner] |= owners[index]", "excluded[owner] |= 1 << owner"),
    "rings are not seen": ("rows = _in_rings(able)", "rows = ()"),
    "waiting is not passed on": ("row | through if row >> index & 1 else row", "row"),
    "offers may wait for themselves": ("for index in waiting_for_themselves(inner, claims):", "for index in ():"),
    "groups are taken by saving": ("if len(following) > STATES:", "if len(following) > 0:"),
}


def mutant(name: str) -> ModuleType:
    """`ropegen.selection` with one mistake in its text."""
    text = Path(selection.__file__).read_text()
    right, wrong = MUTATIONS[name]
    assert text.count(right) == 1, f"{right!r} stands {text.count(right)} times in selection.py; mend the mutation"
    module = ModuleType("mutant_of_selection")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(text.replace(right, wrong), f"mutant: {name}", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mistake_in_the_search_is_noticed(name: str) -> None:
    assert differing(mutant(name).choose, drawn(0, 300))


def test_offers_of_one_ring_are_taken_but_for_the_smallest() -> None:
    """Offer i computes node i and node n + i, and node n + i reads node i - 1: all n wait for each other, n - 1 do not."""
    for count in (2, 3, 7, 12):
        reads = [[] for _ in range(count)] + [[(index - 1) % count] for index in range(count)]
        offers = [
            Offer(frozenset({index, count + index}), (float(1 + (index * 5 + 3) % count),)) for index in range(count)
        ]
        least = min(range(count), key=lambda index: offers[index].saving)
        assert selection.choose(reads, offers).taken == tuple(index for index in range(count) if index != least)


def test_a_ring_may_pass_through_other_groups_and_single_nodes() -> None:
    """Offers 0 and 1 share no node; a path of single nodes leads from 0 to 1, another from 1 to 0."""
    reads = [[], [], [0], [1], [2], [3], [5], [4]]
    offers = [Offer(frozenset({0, 6}), (3.0,)), Offer(frozenset({1, 7}), (2.0,)), Offer(frozenset({3}), (4.0,))]
    assert selection.choose(reads, offers).taken == (0, 2)


def test_offers_that_wait_for_themselves_are_named_and_not_taken() -> None:
    for reads, offers in drawn(5, 300):
        claims = [offer.claims for offer in offers]
        alone = frozenset(index for index, nodes in enumerate(claims) if not is_feasible(reads, [nodes]))
        assert selection.waiting_for_themselves(reads, claims) == alone
        assert not alone & set(selection.choose(reads, offers).taken)


def intervals(seed: int, count: int) -> list[Offer]:
    """Offers that claim stretches of 2 to 9 neighbours in a row of nodes."""
    rng = np.random.default_rng(seed)
    starts, lengths = rng.integers(0, 2 * count, count), rng.integers(2, 10, count)
    return [
        Offer(frozenset(range(start, start + length)), (float(saving),))
        for start, length, saving in zip(
            starts.tolist(), lengths.tolist(), rng.integers(1, 100, count).tolist(), strict=True
        )
    ]


@pytest.mark.parametrize("seed", range(3))
def test_hundreds_of_offers_that_overlap_with_neighbours_are_searched(seed: int) -> None:
    """The best set of intervals by the textbook's recursion over their ends."""
    offers = intervals(seed, 300)
    choice = selection.choose([[] for _ in range(700)], offers)
    best = [0.0] * 701
    for end in range(1, 701):
        best[end] = best[end - 1]
        for offer in offers:
            if max(offer.claims) + 1 == end:
                best[end] = max(best[end], best[min(offer.claims)] + offer.saving[0])
    assert not choice.unsearched
    assert sum(offers[index].saving[0] for index in choice.taken) == best[700]


def tangled(count: int, seed: int = 0) -> Problem:
    """Offers that overlap with others anywhere: one node for every offer, and one for every pair that overlaps."""
    rng = np.random.default_rng(seed)
    claims = [{index} for index in range(count)]
    for node, (a, b) in enumerate(rng.integers(0, count, (2 * count, 2)).tolist(), start=count):
        claims[a].add(node)
        claims[b].add(node)
    savings = rng.integers(1, 100, count).tolist()
    offers = [Offer(frozenset(nodes), (float(saving),)) for nodes, saving in zip(claims, savings, strict=True)]
    return [[] for _ in range(3 * count)], offers


def pairs(count: int) -> Problem:
    """The most distinct rests that 2n offers can have: offers i and n + i overlap, and so do all from n on."""
    claims = [{index} for index in range(count)] + [{index, count} for index in range(count)]
    return [[] for _ in range(count + 1)], [Offer(frozenset(nodes), (float(1 + len(nodes)),)) for nodes in claims]


def test_28_offers_are_always_searched() -> None:
    for reads, offers in (pairs(14), *(tangled(28, seed) for seed in range(5))):
        assert not selection.choose(reads, offers).unsearched
    reads, offers = pairs(15)
    assert selection.choose(reads, offers).unsearched == (tuple(range(30)),)


def test_a_group_above_the_bound_is_taken_by_saving_and_the_choice_says_so() -> None:
    reads, offers = tangled(80)
    choice = selection.choose(reads, offers)
    assert choice.unsearched
    check_taken_by_saving(reads, offers, choice, choice.unsearched)


@pytest.mark.parametrize("seed", range(2))
def test_groups_above_a_small_bound_are_taken_by_saving(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "STATES", 1)
    unsearched = 0
    for reads, offers in drawn(10 + seed, 300):
        choice = selection.choose(reads, offers)
        check_taken_by_saving(reads, offers, choice, choice.unsearched)
        unsearched += len(choice.unsearched)
    assert unsearched > 100


def check_taken_by_saving(
    reads: Reads, offers: Sequence[Offer], choice: Choice, groups: Iterable[Sequence[int]]
) -> None:
    """In every group, an offer is taken exactly if it fits those of the group that save more and are taken."""
    assert is_feasible(reads, [offers[index].claims for index in choice.taken])
    for group in groups:
        taken: list[int] = []
        for saving in sorted({offers[index].saving for index in group}, reverse=True):
            for index in group:
                fits = is_feasible(reads, [offers[other].claims for other in (*taken, index)])
                if offers[index].saving == saving and fits:
                    taken.append(index)
        assert sorted(taken) == sorted(set(choice.taken) & set(group))


# Real graphs ---------------------------------------------------------------------------------------------------------


def case(name: str) -> Graph:
    return models.from_case(json.loads((CASES / name / "config.json").read_text()))


def layers(count: int, *, seq: int = 256) -> Graph:
    """A llama-like stack: every layer normalises, projects, rotates, attends, projects and adds."""
    b, rope = rg.Builder("layers"), rg.Rope(10_000.0, pairing="half")
    at = b.positions(seq)
    x = b.embed(b.input("ids", (1, seq), "i32"), b.parameter("table", (512, 256), "bf16"))
    for index in range(count):
        normed = b.norm(x, b.parameter(f"norm{index}", (256,), "bf16"), kind="rms", epsilon=1e-5)
        q, k, v = (
            b.split_heads(b.project(normed, b.parameter(f"{name}{index}", (256, 64 * heads), "bf16")), heads)
            for name, heads in (("q", 4), ("k", 2), ("v", 2))
        )
        positions = {"q_positions": at, "kv_positions": at}
        attended = b.attend(b.rope(q, at, rope), b.rope(k, at, rope), v, mask=rg.masks.causal, **positions)
        out = b.project(b.merge_heads(attended), b.parameter(f"o{index}", (256, 256), "bf16"))
        x = b.norm(b.add(x, out), b.parameter(f"after{index}", (256,), "bf16"), kind="rms", epsilon=1e-5)
    return b.build(out=x)


def crossed() -> Graph:
    """Two projections, each cut into two heads; the second head of each is turned by the first head of the other."""
    b = rg.Builder("crossed")
    x = b.input("x", (8, 32), "f32")
    projected = [b.project(x, b.parameter(f"w{index}", (32, 32 + 16 * index), "f32")) for index in range(2)]
    firsts = [b.split_heads(value, 1, 16) for value in projected]
    seconds = [b.split_heads(value, 1, 16, start=16) for value in projected]
    turned = [b.rotate(seconds[index], b.merge_heads(firsts[1 - index]), pairing="half") for index in range(2)]
    return b.build(first=turned[0], second=turned[1])


GRAPHS: dict[str, Callable[[], Graph]] = {
    **{name: lambda name=name: case(name) for name in ("llama3-8b-prefill", "qwen3-8b", "bert-base", "gpt-j-6b")},
    "two layers": lambda: layers(2),
    "crossed": crossed,
}


def check_plans(source: Graph, targets: Sequence[str], weigh: Sequence[Direction] = plans.FORWARD) -> None:
    """No other set of regions saves more on the first target, nor among those that save as much there, on the next.

    What a set saves is reckoned from the templates' own costs. Savings that differ by rounding only are equal.
    """
    plans = plan_together(source, targets, weigh=weigh)
    graph = plans[0].graph
    number = {node: index for index, node in enumerate(graph.nodes)}
    reads = [[number[operand] for operand in node.operands] for node in graph.nodes]
    offers: dict[Region, tuple[frozenset[int], list[float]]] = {}
    for region in (region for family in families() for region in family.find(graph)):
        nodes = frozenset(number[node] for node in region.nodes if node.operands)
        savings = [
            max(0.0, unfused(region, target, weigh) - fastest(region, target, weigh))
            for target in map(Target.parse, targets)
        ]
        if is_feasible(reads, [nodes]) and not inner_is_read_outside(region, graph):
            offers[region] = nodes, savings
    taken = [step.region for step in plans[0].steps if step.region is not None]
    assert is_feasible(reads, [offers[region][0] for region in taken])
    feasible = [
        subset
        for size in range(len(offers) + 1)
        for subset in itertools.combinations(offers, size)
        if is_feasible(reads, [offers[region][0] for region in subset])
    ]
    for index, made in enumerate(plans):
        saved = [sum(offers[region][1][index] for region in subset) for subset in feasible]
        most = max(saved)
        assert sum(offers[region][1][index] for region in taken) == pytest.approx(most, rel=1e-9, abs=1e-15)
        feasible = [subset for subset, saving in zip(feasible, saved, strict=True) if saving >= most * (1 - 1e-9)]
        for step in made.steps:
            if step.region is not None:
                least = min(unfused(step.region, made.target, weigh), fastest(step.region, made.target, weigh))
                assert step.cost.seconds == pytest.approx(least)


def unfused(region: Region, target: Target, weigh: Sequence[Direction] = plans.FORWARD) -> float:
    return sum(plain_cost(node, target, direction).seconds for node in region.nodes for direction in weigh)


def fastest(region: Region, target: Target, weigh: Sequence[Direction] = plans.FORWARD) -> float:
    """The seconds of the cheapest template and tile; infinite where every template declines."""
    costs, measured = [float("inf")], tiles.Measured(target)
    for template in catalog():
        if template.family.name == region.family and target.platform in template.runs_on:
            site = template.family.site(region.closed)
            if not list(template.declines(site, target)):
                known = measured.look_up(template, region.closed)
                choices = template.tiles(site, target) if known is None else [known.tile]
                costs += [
                    sum(cost_of(template, site, target, tile, direction).seconds for direction in weigh)
                    for tile in choices
                ]
    return min(costs)


def inner_is_read_outside(region: Region, graph: Graph) -> bool:
    inner = {node for node in region.nodes if node.operands} - set(region.outputs)
    outside = [node for node in graph.nodes if node not in region.nodes]
    read = {operand for node in outside for operand in node.operands} | {value for _, value in graph.outputs}
    return bool(inner & read)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", GRAPHS)
def test_real_graphs_are_planned_as_by_brute_force(name: str, target: str) -> None:
    check_plans(GRAPHS[name](), [target])


@pytest.mark.parametrize("targets", [TARGETS, TARGETS[::-1]], ids=" ".join)
@pytest.mark.parametrize("name", GRAPHS)
def test_plans_together_are_those_of_brute_force(name: str, targets: tuple[str, ...]) -> None:
    check_plans(GRAPHS[name](), targets)


@pytest.mark.parametrize("name", ["the smaller saving is taken", "overlaps are not seen"])
def test_a_mistake_in_the_search_is_noticed_on_real_graphs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "selection", mutant(name))
    with pytest.raises(AssertionError):
        check_plans(case("llama3-8b-prefill"), ["cpu"])


def test_regions_that_wait_for_each_other_exclude_each_other_and_the_plan_says_so() -> None:
    """On CPU both whole regions would save time; one is taken, and the other without its rotation, which is a region of
    its own.
    """
    made = plan(crossed(), "cpu")
    taken = [[node.op.name for node in step.nodes].count("rotate") for step in made.steps if step.region is not None]
    assert sorted(taken) == [0, 1, 1]
    reasons = [rejected.reason for rejected in made.rejected]
    assert all(re.search(r", which computes? .*, saves? ", reason) for reason in reasons)
    check_order(made)


def test_a_region_without_rivals_is_not_taken_where_it_would_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only whole regions are offered here, so that no smaller one takes the place of the second."""

    def whole(graph: Graph) -> Iterator[Region]:
        yield from (region for region in own(graph) if any(isinstance(node.op, ops.Rotate) for node in region.nodes))

    (family,) = (family for family in families() if family.name == "qkv_rope")
    own = family.find
    monkeypatch.setattr(planner, "families", lambda: (dataclasses.replace(family, find=whole),))
    made = plan(crossed(), "cpu")
    assert [step.region.family for step in made.steps if step.region is not None] == ["qkv_rope"]
    (rejected,) = made.rejected
    assert rejected.reason == "it and regions that are taken would wait for each other"
    assert rejected.saving > 0
    assert rejected.reason in made.explain()


def check_order(made: Plan) -> None:
    """Every step comes after those that compute its operands, and every output of the graph is computed once."""
    known = set(made.graph.inputs)
    for step in made.steps:
        assert set(step.operands) <= known
        assert not known & set(step.outputs)
        known |= set(step.outputs)
    assert {value for _, value in made.graph.outputs} <= known


@pytest.mark.parametrize("name", GRAPHS)
def test_plans_together_differ_in_templates_and_costs_only(name: str) -> None:
    source = GRAPHS[name]()
    plans = plan_together(source, TARGETS)
    assert [str(made.target) for made in plans] == list(TARGETS)
    alone = plan(source, TARGETS[0])
    assert plans[0].cost.seconds == pytest.approx(alone.cost.seconds)
    for made in plans:
        check_order(made)
        assert (made.graph, made.trace, made.prepared) == (alone.graph, alone.trace, plans[0].prepared)
        for step, first in zip(made.steps, plans[0].steps, strict=True):
            for field in ("operands", "outputs", "region", "prepares", "table"):
                assert getattr(step, field) == getattr(first, field)
            if step.chosen is not None:
                assert step.chosen in step.considered
                (template,) = (entry for entry in catalog() if str(entry) == step.chosen.template)
                assert made.target.platform in template.runs_on
        assert made.cost.seconds >= plan(source, made.target).cost.seconds * (1 - 1e-9)
        assert ", ".join(TARGETS) in made.explain()


def test_a_region_that_is_dearer_by_every_template_is_unfused_there_and_explained() -> None:
    """On a TPU the lookup of a ViT's position embedding is cheaper by its op; on an H100 the template is cheaper."""
    gpu, tpu = plan_together(case("vit-b16"), ["gpu:h100", "tpu:v5e"])
    ((step, other),) = (
        (step, other) for step, other in zip(tpu.steps, gpu.steps, strict=True) if step.region and not step.chosen
    )
    assert other.chosen is not None
    assert step.region is not None
    assert step.cost.seconds == pytest.approx(unfused(step.region, tpu.target))
    words = tpu.explain()
    assert "embed unfused: 3.74 \N{MICRO SIGN}s" in words
    assert "unfused 3.74 \N{MICRO SIGN}s, launch-bound, taken" in words
    assert not [step for step in plan(case("vit-b16"), "tpu:v5e").steps if step.region and not step.chosen]
    page = explain.html(tpu)
    assert "embed unfused" in page
    assert "the first of them decides" in page


def test_planning_for_no_target_is_refused() -> None:
    with pytest.raises(rg.RopegenError, match="no target was given; name at least one"):
        plan_together(case("gpt2-small"), [])


def test_a_plan_above_the_bound_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = case("llama3-8b-prefill")
    assert not plan(graph, "cpu").remarks
    monkeypatch.setattr(selection, "STATES", 1)
    made = plan(graph, "cpu")
    (remark,) = made.remarks
    assert remark.startswith("8 regions overlap; they were taken one after another, the largest saving first")
    assert remark in made.explain()
    assert remark in explain.html(made)
    check_order(made)


def test_the_version_of_a_template_is_in_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = case("gpt2-small")
    before = plan(graph, "cpu").digest
    newer = tuple(dataclasses.replace(template, version=template.version + 1) for template in catalog())
    monkeypatch.setattr(planner, "catalog", lambda: newer)
    assert plan(graph, "cpu").digest != before


def test_equal_regions_are_asked_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The templates are asked as often for eight layers as for three."""
    calls = 0

    def counted(template: Any) -> Any:
        def declines(site: Any, target: Target) -> Iterator[str]:
            nonlocal calls
            calls += 1
            return template.declines(site, target)

        return dataclasses.replace(template, declines=declines)

    counting = tuple(map(counted, catalog()))
    monkeypatch.setattr(planner, "catalog", lambda: counting)
    asked: list[int] = []
    for count in (3, 8):
        plan(layers(count), "tpu:v5e")
        asked.append(calls)
        calls = 0
    assert asked[0] == asked[1] > 0


def test_64_layers_are_planned_in_linear_time() -> None:
    """Equal layers share their choices, so eight times the layers take three times as long; a quadratic planner takes 64."""

    def planned(count: int) -> tuple[Plan, float]:
        graph = passes.canonical(layers(count))
        start = time.process_time()
        return plan(graph, "tpu:v5e"), time.process_time() - start

    planned(4)  # the first plan fills caches
    (_, short), (made, long) = planned(8), planned(64)
    assert long < 16 * short
    regions = [step.region.family for step in made.steps if step.region is not None]
    assert (regions.count("attend"), regions.count("qkv_rope")) == (64, 64)
    check_order(made)


WEIGHED: list[tuple[Direction, ...]] = [("forward", "backward"), ("forward", "tangent"), ("backward",)]


@pytest.mark.parametrize("weigh", WEIGHED, ids="-".join)
@pytest.mark.parametrize("name", GRAPHS)
def test_plans_of_derivatives_are_those_of_brute_force(name: str, weigh: tuple[Direction, ...]) -> None:
    check_plans(GRAPHS[name](), TARGETS, weigh)


def test_costs_are_summed_over_the_directions_that_are_weighed() -> None:
    graph = case("llama3-8b-prefill")
    made = plan(graph, "tpu:v5e", weigh=("backward", "forward"))
    assert made.weighed == ("forward", "backward")
    for step in made.steps:
        if step.region is None or step.chosen is None:
            constant = step.table is not None and step.table.kind == "constant"
            costs = [
                plain_cost(node, made.target, direction, constant=constant)
                for node in step.nodes
                for direction in made.weighed
            ]
        else:
            chosen = {str(template): template for template in catalog()}[step.chosen.template]
            site = chosen.family.site(step.region.closed)
            costs = [cost_of(chosen, site, made.target, step.chosen.tile, direction) for direction in made.weighed]
        assert step.cost.seconds == pytest.approx(sum(cost.seconds for cost in costs))


def test_a_plan_says_which_directions_it_weighs() -> None:
    graph = case("gpt2-small")
    forward, both = plan(graph, "cpu"), plan(graph, "cpu", weigh=("forward", "backward"))
    assert forward.digest == plan(graph, "cpu", weigh=("forward",)).digest != both.digest
    assert re.search(r"^  costs +forward and backward together$", both.explain(), re.MULTILINE)
    assert "together" not in forward.explain()
    assert explain.data(both)["weighed"] == ["forward", "backward"]
    assert "forward and backward together" in explain.html(both)


@pytest.mark.parametrize(
    ("weigh", "words"),
    [
        ((), "name every direction once"),
        ("forward", "name every direction once"),
        (("forward", "forward"), "name every direction once"),
        (("forward", "backwards"), "did you mean 'backward'"),
    ],
)
def test_directions_that_cannot_be_weighed_are_refused(weigh: Any, words: str) -> None:
    with pytest.raises(rg.RopegenError, match=words):
        plan(case("gpt2-small"), "cpu", weigh=weigh)


def test_a_region_that_would_wait_for_itself_is_refused_with_that_reason() -> None:
    """The keys are rotated by angles that are computed from the rotated queries of the same projection."""
    b = rg.Builder("waits")
    x, weight = b.input("x", (6, 8), "f32"), b.parameter("weight", (8, 8), "f32")
    projected = b.project(x, weight)
    q, k = b.split_heads(projected, 1, 4), b.split_heads(projected, 1, 4, start=4)
    turned = b.rotate(q, b.input("angles", (6, 4), "f32"), pairing="half")
    graph = b.build(q=turned, k=b.rotate(k, b.merge_heads(turned), pairing="half"))
    made = plan(graph, "cpu")
    assert "it would wait for itself" in {rejected.reason for rejected in made.rejected}
    check_plans(graph, ["cpu"])
