"""The parts of tpu.py's work as jobs, and the tables of tiles that the part `tiles` produces."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import tpu_heads
import tpu_modules as modules
from ropegen.templates.attend import mosaic_tpu
from ropegen.templates.attend.site import AttendSite
from ropegen.templates.attend.tile_map_tpu import NOW
from tpu_modules import HEADS, LENGTH, LONG, TILE, WIDTH, WINDOW, Common, Job
from tpu_schedules import Steps, cycles, multiplying

import ropegen as rg
from ropegen import masks
from ropegen.ir.text import digest
from ropegen.target import Target
from ropegen.template import AnyTemplate, Site, Tile, template
from ropegen.tiles import Entry, dump

TABLES = Path(rg.__file__).resolve().parent / "tiles"
ATTEND = "attend/mosaic_tpu"
Jobs = tuple[list[Job], dict[str, Any]]
# The length of a document in the packed masks, which hold eight of them.
DOCUMENT = LONG // 8


Facts = Callable[[], dict[str, Any]]


def described(tile: Tile | Callable[[], Tile], family: str = "attend", **facts: Any) -> Facts:
    def sizes_and_facts() -> dict[str, Any]:
        sizes = dict((tile if isinstance(tile, Tile) else tile()).sizes)
        return {"tile": sizes, "family": family, "templates": modules.sources(family), **facts}

    return sizes_and_facts


def chosen(plan: rg.Plan) -> dict[str, Any]:
    """The templates that a plan chooses."""
    return {"chosen": sorted({step.chosen.template for step in plan.steps if step.chosen is not None})}


def is_older(entry: Mapping[str, Any]) -> bool:
    """Whether a result comes from another version of the templates."""
    return "templates" in entry and entry["templates"] != modules.sources(entry["family"])


def site_of(graph: rg.Graph, name: str = ATTEND) -> Site:
    site = modules.site_of(graph, template(name))
    assert site is not None
    return site


def steps_of(site: Site, tile: Tile) -> Steps:
    """The grid steps of a site with static positions, counted in the map that the forward kernel's grid reads."""
    assert isinstance(site, AttendSite)
    q, k = (site.sources[name].type.shape for name in ("q", "k"))
    told = tpu_heads.counted(mosaic_tpu.tile_map(site, tile), ahead=True)
    return tpu_heads.steps_of(told, math.prod(q[:-3]) * k[-2])


def working_steps(site: Site) -> int:
    """The working grid steps of a head with run-time segment ids, counted in the map that the program computes."""
    assert isinstance(site, AttendSite)
    ids = jnp.arange(LONG, dtype=jnp.int32)[None] // DOCUMENT
    form, steps = mosaic_tpu._form(site, TILE), mosaic_tpu.tile_map(site, TILE)
    apart = mosaic_tpu._apart(site, form, {"q_segments": ids, "kv_segments": ids}, steps.steps)
    assert apart is not None
    return int(np.count_nonzero(np.asarray(steps.without(apart).does) & NOW))


def place() -> AttendSite:
    return tpu_heads.place(LENGTH, WIDTH, turns=True)


def forward(chips: Sequence[str], sites: int, quick: bool) -> Jobs:
    """Attention with RoPE at the site of the comparison, with its tile and with the planner's; and jax's kernels."""
    attend, site = template(ATTEND), place()
    wanted: list[Job] = []
    for chip in chips:
        own = modules.own_tile(attend, site, Target.parse(f"tpu:{chip}"))
        for name, tile in (("ropegen", TILE), ("ropegen, the planner's tile", own)):
            wanted.append(
                Job(
                    "forward",
                    name,
                    chip,
                    lambda tile=tile, chip=chip: modules.forward(attend, site, tile, chip),
                    described(tile, head=[*tpu_heads.visits(site, tile, Target.parse(f"tpu:{chip}"), "forward")]),
                )
            )
        wanted.append(Job("forward", "flash", chip, modules.flash_forward))
        wanted.append(Job("forward", "splash", chip, modules.splash_forward))
    return wanted, {"steps": vars_of(steps_of(site, TILE))}


def backward(chips: Sequence[str], sites: int, quick: bool) -> Jobs:
    attend, site = template(ATTEND), place()
    wanted: list[Job] = []
    for chip in chips:
        wanted.append(
            Job(
                "backward",
                "ropegen",
                chip,
                lambda chip=chip: modules.backward(attend, site, TILE, chip),
                described(TILE, head=[*tpu_heads.visits(site, TILE, Target.parse(f"tpu:{chip}"), "backward")]),
            )
        )
        wanted.append(Job("backward", "splash dq+dkv", chip, modules.splash_backward_apart))
        wanted.append(Job("backward", "splash fused", chip, modules.splash_backward_fused))
    return wanted, {"steps": vars_of(steps_of(site, TILE))}


def steps(chips: Sequence[str], sites: int, quick: bool) -> Jobs:
    """Masks at S=8192 on one chip: the kernel's number of steps, and the number of needed tiles, counted score by score."""
    attend = template(ATTEND)
    known = {
        f"a window of {WINDOW}": masks.causal & masks.window(WINDOW),
        f"documents of {DOCUMENT}, known when compiling": masks.causal & masks.chunked(DOCUMENT),
        "causal": masks.causal,
    }
    wanted: list[Job] = []
    every = (LONG // TILE["q"]) * (LONG // TILE["kv"])
    needed = {name: modules.needed_tiles(visible, LONG, TILE) for name, visible in known.items()}

    def add(name: str, site: Site, tiles: int, visited: int | None = None) -> None:
        visited = steps_of(site, TILE).all if visited is None else visited
        facts = described(TILE, needed=tiles, all=every, visited=visited)
        wanted.append(Job("steps", name, chips[0], lambda: modules.forward(attend, site, TILE, chips[0]), facts))

    for name, visible in known.items():
        add(name, site_of(modules.attention(LONG, HEADS, HEADS, WIDTH, mask=visible)), needed[name])
    by_ids = site_of(modules.attention(LONG, HEADS, HEADS, WIDTH, segments=True))
    documents = next(tiles for name, tiles in needed.items() if "documents" in name)
    add(f"documents of {DOCUMENT}, by run-time ids", by_ids, documents, working_steps(by_ids))
    window = {"needed": next(needed[name] for name in known if "window" in name), "all": every}
    wanted.append(Job("steps", f"splash, a window of {WINDOW}", chips[0], modules.splash_window, lambda: window))
    return wanted, {}


def vars_of(steps: Steps) -> dict[str, int]:
    return {name: getattr(steps, name) for name in ("heads", "rows", "full", "partial", "idle")}


# What compiles -------------------------------------------------------------------------------------------------------


def cases(chips: Sequence[str], sites: int, quick: bool) -> Jobs:
    """Every golden case: its whole planned front-end, and the kernels of all templates."""
    wanted: list[Job] = []
    declined: dict[str, dict[str, str]] = {}
    for name in modules.cases()[: 1 if quick else None]:
        graph = modules.case(name)
        for chip in chips:
            plan = rg.plan(graph, f"tpu:{chip}")
            whole = lambda plan=plan: modules.whole(plan)  # noqa: E731
            wanted.append(Job("cases", f"{name}, all of it", chip, whole, lambda plan=plan: chosen(plan), False))
        for kind in modules.templates():
            wanted += kernels("cases", name, graph, kind, chips, declined, backward=kind.family.name == "attend")
    return wanted, {"declined": declined}


def sites(chips: Sequence[str], sites: int, quick: bool) -> Jobs:
    """Drawn sites: attention on all, its backward pass on every fourth, the other templates on every eighth."""
    wanted: list[Job] = []
    declined: dict[str, dict[str, str]] = {}
    offered = {kind.family.name: kind for kind in modules.templates()}
    turns = {"qkv_rope": 1, "embed": 5}
    for number in range(sites):
        drawn = modules.Drawn.of(number)
        for name, kind in offered.items():
            if name == "attend" or number % 8 == turns.get(name, 3):
                label = f"site {number} ({drawn})"
                graph = drawn.graph(name)
                wanted += kernels(
                    "sites", label, graph, kind, chips, declined, backward=name == "attend" and number % 4 == 0
                )
    return wanted, {"declined": declined, "sites": sites, "seed": modules.SEED}


def kernels(
    part: str,
    label: str,
    graph: rg.Graph,
    template: AnyTemplate,
    chips: Sequence[str],
    declined: dict[str, dict[str, str]],
    *,
    backward: bool,
) -> Iterator[Job]:
    """The kernels of a template for a graph's first region; `declined` gets the reasons if the template declines it."""
    site = modules.site_of(graph, template)
    if site is None:
        return
    for chip in chips:
        target, key = Target.parse(f"tpu:{chip}"), f"{label}, {template.family.name}"
        if reasons := list(template.declines(site, target)):
            declined.setdefault(key, {})[chip] = "; ".join(reasons)
            continue
        tile = functools.cache(functools.partial(modules.own_tile, template, site, target))
        facts = described(tile, template.family.name)
        yield Job(
            part, key, chip, lambda tile=tile, chip=chip: modules.forward(template, site, tile(), chip), facts, False
        )
        if backward:
            pulled = lambda tile=tile, chip=chip: modules.backward(template, site, tile(), chip)  # noqa: E731
            yield Job(part, f"{key} backward", chip, pulled, facts, False)


# Tiles ---------------------------------------------------------------------------------------------------------------


def tiles(chips: Sequence[str], sites: int, quick: bool) -> Jobs:
    """The tiles that the template offers at the common sites, compiled at one length per site."""
    attend = template(ATTEND)
    wanted: list[Job] = []
    for common in modules.common()[: 1 if quick else None]:
        site = modules.common_site(common.name, common.compiled)
        offered = {chip: candidates(site, chip)[: 2 if quick else None] for chip in chips}
        for tile in dict.fromkeys(tile for mine in offered.values() for tile in mine):
            for chip in (chip for chip in chips if tile in offered[chip]):
                make = lambda site=site, tile=tile, chip=chip: modules.forward(attend, site, tile, chip)  # noqa: E731
                facts = described(tile, site=common.name, length=common.compiled)
                wanted.append(Job("tiles", f"{common.name}, {tile}", chip, make, facts))
    return wanted, {}


def candidates(site: Site, chip: str) -> list[Tile]:
    """The template's tiles, without those of fewer than 256 x 256 scores, which pay the cost of a step too often."""
    offered = template(ATTEND).tiles(site, Target.parse(f"tpu:{chip}"))
    return sorted((tile for tile in offered if area(tile) >= 256 * 256), key=area, reverse=True)


def area(tile: Tile) -> int:
    return tile["q"] * tile["kv"]


def predicted(site: Site, compiled: Site, tile: Tile, entry: Mapping[str, Any], chip: str) -> float:
    """Seconds of a call: the larger of the schedule's cycles over the clock, calibrated for the chip, and the moved bytes
    over the bandwidth.

    The kernel was compiled for the site `compiled`, which may have another length but has the same parts.
    """
    target = Target.parse(f"tpu:{chip}")
    (kernel,) = (schedule for schedule in entry["kernels"] if schedule["name"].startswith("ropegen_attend"))
    steps, own = (steps_of(place, tile) for place in (site, compiled))
    if len(multiplying(kernel)) != len(own.bodies):  # an older kernel has one part for full and one for partial tiles
        steps, own = (replace(one, bodies=()) for one in (steps, own))
    busy = cycles(kernel, steps, own) / target.figures.clock * target.figures.measured
    moved = template(ATTEND).cost(site, target, tile).bytes / target.figures.bandwidth * entry["devices"]
    return max(busy, moved) + target.figures.launch


def measured(results: Mapping[str, Any], common: Common, length: int, chip: str) -> list[tuple[float, Tile]]:
    """The predicted seconds of the candidates, least first; empty while one of them is not compiled."""
    site = modules.common_site(common.name, length)
    compiled = modules.common_site(common.name, common.compiled)
    times: list[tuple[float, Tile]] = []
    for tile in candidates(compiled, chip):
        entry = results["entries"].get("tiles", {}).get(f"{common.name}, {tile} on {chip}")
        if entry is None:
            return []
        if "kernels" in entry:
            times.append((predicted(site, compiled, tile, entry, chip), tile))
    return sorted(times, key=lambda one: one[0])


def modelled(common: Common, length: int, chip: str) -> Tile:
    """The tile that the cost model alone would choose."""
    site, target, attend = modules.common_site(common.name, length), Target.parse(f"tpu:{chip}"), template(ATTEND)
    return min(attend.tiles(site, target), key=lambda tile: attend.cost(site, target, tile).seconds)


def tile_tables(results: Mapping[str, Any], chips: Sequence[str], libtpu: str) -> dict[str, str]:
    """The tables of tiles by file name, in the form that `ropegen.tiles` reads."""
    tables: dict[str, str] = {}
    for chip in chips:
        entries: list[Entry] = []
        for common in modules.common():
            for length in common.lengths:
                if not (times := measured(results, common, length, chip)):
                    continue
                closed = modules.common_site(common.name, length).closed
                entries.append(
                    Entry(
                        chip=f"tpu:{chip}",
                        dtype=closed.outputs[0][1].type.dtype,
                        compiler={"libtpu": libtpu},
                        template=ATTEND,
                        template_version=template(ATTEND).version,
                        region=digest(closed),
                        what=f"{common.name}, {length} positions",
                        tile=dict(times[0][1].sizes),
                        evidence={"predicted_microseconds": round(times[0][0] * 1e6, 1), "candidates": len(times)},
                    )
                )
        if entries:
            tables[f"tpu-{chip}.json"] = dump(entries).decode()
    return tables


PARTS: Mapping[str, Callable[[Sequence[str], int, bool], Jobs]] = {
    "forward": forward,
    "backward": backward,
    "heads": tpu_heads.heads,
    "steps": steps,
    "tiles": tiles,
    "cases": cases,
    "sites": sites,
}
