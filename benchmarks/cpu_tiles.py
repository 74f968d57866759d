"""The fastest tile of each point of the grid, for ropegen/tiles/cpu.json, which the planner reads.

A tile is kept where it beats the cost model's own by more than the noise, twice: among all candidates and alone. The model
decides everywhere else.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import ropegen as rg
from ropegen import bench, passes
from ropegen.ir.text import digest
from ropegen.target import Target
from ropegen.template import Tile, catalog, family

ROWS, KEYS = (128, 256, 512), (512, 1024, 2048)
# Rows of scores times heads of a group that a block may have: more would leave the caches.
MOST_ROWS = 2048
KEPT = 0.95


def fastest(graph: rg.Graph, what: str, seconds: float, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The table's entries for the attention of a graph, none where the cost model's tile is as good as any.

    There is one for each region that a plan may take, with rotations inside or not: of one alone the plan would take another.
    """
    target = Target.parse("cpu")
    regions = list(family("attend").find(passes.canonical(graph)))
    site = family("attend").site(regions[0].closed)
    queries, heads = site.sources["q"].type.shape[-3:-1]
    keys, kv_heads = site.sources["k"].type.shape[-3:-1]
    template, modelled = by_the_model(site, target)
    sizes = [modelled]
    for q, kv in itertools.product(ROWS, KEYS):
        tile = Tile.of(q=min(q, queries), kv=min(kv, keys))
        if tile not in sizes and tile["q"] * (heads // kv_heads) <= MOST_ROWS:
            sizes.append(tile)
    runners: list[bench.Contender] = []
    for tile in sizes:
        compiled = rg.plan(graph, target, tile={template: dict(tile.sizes)}).compile()
        # A tile that the cost model holds for so slow that it takes another template would not be taken from a table.
        if any(step.chosen and step.chosen.template == template for step in compiled.plan.steps):
            (runner,), _ = bench.contenders(compiled, [])
            runners.append(replace(runner, name=str(tile)))
    race = bench.race(runners, tolerance=bench.tolerance(graph), seconds=seconds)
    best = min(race.timings, key=lambda each: each.median)
    share = best.median / race[str(modelled)].median
    say(f"  {best.name} takes {share:.2f} of {modelled}, the model's, of {len(runners)}")
    if share > KEPT:
        return []
    pair = [each for each in runners if each.name in (best.name, str(modelled))]
    share = bench.race(pair, tolerance=bench.tolerance(graph), seconds=seconds).ratio(best.name, str(modelled))
    say(f"  and {share:.2f} once more")
    if share > KEPT:
        return []
    tile = next(dict(tile.sizes) for tile in sizes if str(tile) == best.name)
    return [
        {
            "template": template,
            "region": digest(region.closed),
            "what": what,
            "tile": tile,
            "of_the_model's": round(share, 2),
            "candidates": len(runners),
        }
        for region in regions
    ]


def by_the_model(site: Any, target: Target) -> tuple[str, Tile]:
    """The template and tile that are cheapest by the cost model."""
    costs: dict[tuple[str, Tile], float] = {}
    for template in catalog():
        if template.family.name == "attend" and target.platform in template.runs_on:
            for tile in [] if any(template.declines(site, target)) else template.tiles(site, target):
                costs[str(template), tile] = template.cost(site, target, tile).seconds
    return min(costs, key=lambda each: costs[each])


def text(entries: Iterable[dict[str, Any]]) -> str:
    """The table as JSON, one line an entry."""
    lines = ",\n".join(f"  {json.dumps(each)}" for each in entries)
    return f'{{"chip": "cpu", "measured": [\n{lines}\n]}}\n'
