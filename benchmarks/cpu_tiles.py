"""The fastest tiles of the grid's points, for ropegen/tiles/cpu.json, which the planner reads.

A tile enters the table if it beats the cost model's own tile by more than the noise in two races: among all candidates and
alone. At other points the cost model decides. The grid has tiles that the template does not offer to `ropegen tune`.
"""

from __future__ import annotations

import importlib.metadata
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ropegen as rg
from ropegen import bench, passes, tiles
from ropegen.ir.text import digest
from ropegen.target import Target
from ropegen.template import Tile, catalog, family, template
from ropegen.tiles import Entry

ROWS, KEYS = (128, 256, 512), (512, 1024, 2048)
# The most rows of scores times heads of a group in a block; larger blocks do not fit in the caches.
MOST_ROWS = 2048
KEPT = 0.95


def fastest(graph: rg.Graph, what: str, target: Target, seconds: float, say: Callable[[str], None]) -> list[Entry]:
    """The entries for the attention of a graph; none if no tile beats the cost model's own.

    Every region that a plan may choose gets an entry, with and without rotations inside. Otherwise the plan would choose a
    region without an entry.
    """
    regions = list(family("attend").find(passes.canonical(graph)))
    site = family("attend").site(regions[0].closed)
    queries, heads = site.sources["q"].type.shape[-3:-1]
    keys, kv_heads = site.sources["k"].type.shape[-3:-1]
    name, modelled = by_the_model(site, target)
    sizes = [modelled]
    for q, kv in itertools.product(ROWS, KEYS):
        tile = Tile.of(q=min(q, queries), kv=min(kv, keys))
        if tile not in sizes and tile["q"] * (heads // kv_heads) <= MOST_ROWS:
            sizes.append(tile)
    runners: list[bench.Contender] = []
    for tile in sizes:
        compiled = rg.plan(graph, target, tile={name: dict(tile.sizes)}).compile()
        # If the cost model thinks that this tile is slower than another template, the plan would not use it from a table.
        if any(step.chosen and step.chosen.template == name for step in compiled.plan.steps):
            (runner,), _ = bench.contenders(compiled, [])
            runners.append(replace(runner, name=str(tile)))
    race = bench.race(runners, tolerance=bench.tolerance(graph), seconds=seconds)
    best = min(race.timings, key=lambda timing: timing.median)
    share = best.median / race[str(modelled)].median
    say(f"  {best.name} takes {share:.2f} of {modelled}, the model's, of {len(runners)}")
    if share > KEPT:
        return []
    pair = [runner for runner in runners if runner.name in (best.name, str(modelled))]
    share = bench.race(pair, tolerance=bench.tolerance(graph), seconds=seconds).ratio(best.name, str(modelled))
    say(f"  and {share:.2f} once more")
    if share > KEPT:
        return []
    tile = next(dict(tile.sizes) for tile in sizes if str(tile) == best.name)
    return [
        Entry(
            chip=tiles.chip_of(target),
            cores=target.cores,
            dtype=region.closed.outputs[0][1].type.dtype,
            compiler={"jaxlib": importlib.metadata.version("jaxlib")},
            template=name,
            template_version=template(name).version,
            region=digest(region.closed),
            what=what,
            tile=tile,
            evidence={"of_the_model's": round(share, 2), "candidates": len(runners)},
        )
        for region in regions
    ]


def by_the_model(site: Any, target: Target) -> tuple[str, Tile]:
    """The template and tile of the lowest cost according to the cost model."""
    costs: dict[tuple[str, Tile], float] = {}
    for candidate in catalog():
        if candidate.family.name == "attend" and target.platform in candidate.runs_on:
            for tile in [] if any(candidate.declines(site, target)) else candidate.tiles(site, target):
                costs[str(candidate), tile] = candidate.cost(site, target, tile).seconds
    return min(costs, key=lambda choice: costs[choice])
