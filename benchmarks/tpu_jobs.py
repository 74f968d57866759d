"""The parts of tpu.py's work as jobs, and the tables of tiles that come of one of them."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import tpu_modules as modules
from ropegen.templates.attend import mosaic_tpu
from ropegen.templates.attend.kernel_tpu import FULL, PARTIAL
from ropegen.templates.attend.site import AttendSite
from tpu_modules import HEADS, LENGTH, LONG, TILE, WIDTH, WINDOW, Common, Job
from tpu_schedules import Steps, cycles

import ropegen as rg
from ropegen import masks
from ropegen.ir.text import digest
from ropegen.target import Target
from ropegen.template import AnyTemplate, Site, Tile, template

TABLES = Path(rg.__file__).resolve().parent / "tiles"
ATTEND = "attend/mosaic_tpu"
Jobs = tuple[list[Job], dict[str, Any]]
# The documents of the packed masks: eight of the same length.
DOCUMENT = LONG // 8


Facts = Callable[[], dict[str, Any]]


def described(tile: Tile | Callable[[], Tile], family: str = "attend", **facts: Any) -> Facts:
    def found() -> dict[str, Any]:
        sizes = dict((tile if isinstance(tile, Tile) else tile()).sizes)
        return {"tile": sizes, "family": family, "templates": modules.sources(family), **facts}

    return found


def chosen(plan: rg.Plan) -> dict[str, Any]:
    """The templates that a plan takes."""
    return {"chosen": sorted({step.chosen.template for step in plan.steps if step.chosen is not None})}


def is_older(entry: Mapping[str, Any]) -> bool:
    """Whether a result is of other templates than those here."""
    return "templates" in entry and entry["templates"] != modules.sources(entry["family"])


def site_of(graph: rg.Graph, name: str = ATTEND) -> Site:
    found = modules.site_of(graph, template(name))
    assert found is not None
    return found


def steps_of(site: Site, tile: Tile) -> Steps:
    """Counted in the map that the kernel's grid reads."""
    assert isinstance(site, AttendSite)
    classes = mosaic_tpu._classes(site, tile)
    q, k = (site.sources[name].type.shape for name in ("q", "k"))
    full, partial = int(np.count_nonzero(classes == masks.FULL)), int(np.count_nonzero(classes == masks.PARTIAL))
    idle = int(np.count_nonzero(~classes.any(axis=1)))
    return Steps(math.prod(q[:-3]) * k[-2], len(classes), full, partial, idle)


def working_steps(site: Site) -> int:
    """Of a head whose documents are given by their ids: counted in the map that the program makes of them."""
    assert isinstance(site, AttendSite)
    ids = jnp.arange(LONG, dtype=jnp.int32)[None] // DOCUMENT
    form, steps = mosaic_tpu._form(site, TILE), mosaic_tpu.tile_map(site, TILE)
    apart = mosaic_tpu._apart(site, form, {"q_segments": ids, "kv_segments": ids}, steps.steps)
    assert apart is not None
    return int(np.count_nonzero(np.asarray(steps.without(apart).does) & (FULL + PARTIAL)))


def place() -> Site:
    return site_of(modules.attention(LENGTH, HEADS, HEADS, WIDTH))


def forward(chips: Sequence[str], sites: int, quick: bool) -> Jobs:
    """Attention at the place of the comparison, with RoPE, by its tile and by the planner's; and jax's."""
    attend, site = template(ATTEND), place()
    found: list[Job] = []
    for chip in chips:
        own = modules.own_tile(attend, site, Target.parse(f"tpu:{chip}"))
        for name, tile in (("ropegen", TILE), ("ropegen, the planner's tile", own)):
            found.append(
                Job(
                    "forward",
                    name,
                    chip,
                    lambda tile=tile, chip=chip: modules.forward(attend, site, tile, chip),
                    described(tile),
                )
            )
        found.append(Job("forward", "flash", chip, modules.flash_forward))
        found.append(Job("forward", "splash", chip, modules.splash_forward))
    return found, {"steps": vars_of(steps_of(site, TILE))}


def backward(chips: Sequence[str], sites: int, quick: bool) -> Jobs:
    attend, site = template(ATTEND), place()
    found: list[Job] = []
    for chip in chips:
        found.append(
            Job(
                "backward",
                "ropegen",
                chip,
                lambda chip=chip: modules.backward(attend, site, TILE, chip),
                described(TILE),
            )
        )
        found.append(Job("backward", "splash dq+dkv", chip, modules.splash_backward_apart))
        found.append(Job("backward", "splash fused", chip, modules.splash_backward_fused))
    return found, {"steps": vars_of(steps_of(site, TILE))}


def steps(chips: Sequence[str], sites: int, quick: bool) -> Jobs:
    """Masks at S=8192 on one chip: the kernel's own count of steps, and the tiles needed, counted score by score."""
    attend = template(ATTEND)
    known = {
        f"a window of {WINDOW}": masks.causal & masks.window(WINDOW),
        f"documents of {DOCUMENT}, known when compiling": masks.causal & masks.chunked(DOCUMENT),
        "causal": masks.causal,
    }
    found: list[Job] = []
    every = (LONG // TILE["q"]) * (LONG // TILE["kv"])
    needed = {name: modules.needed_tiles(visible, LONG, TILE) for name, visible in known.items()}

    def add(name: str, site: Site, tiles: int, visited: int | None = None) -> None:
        visited = steps_of(site, TILE).all if visited is None else visited
        facts = described(TILE, needed=tiles, all=every, visited=visited)
        found.append(Job("steps", name, chips[0], lambda: modules.forward(attend, site, TILE, chips[0]), facts))

    for name, visible in known.items():
        add(name, site_of(modules.attention(LONG, HEADS, HEADS, WIDTH, mask=visible)), needed[name])
    by_ids = site_of(modules.attention(LONG, HEADS, HEADS, WIDTH, segments=True))
    documents = next(tiles for name, tiles in needed.items() if "documents" in name)
    add(f"documents of {DOCUMENT}, by run-time ids", by_ids, documents, working_steps(by_ids))
    window = {"needed": next(needed[name] for name in known if "window" in name), "all": every}
    found.append(Job("steps", f"splash, a window of {WINDOW}", chips[0], modules.splash_window, lambda: window))
    return found, {}


def vars_of(steps: Steps) -> dict[str, int]:
    return {name: getattr(steps, name) for name in ("heads", "rows", "full", "partial", "idle")}


# What compiles -------------------------------------------------------------------------------------------------------


def cases(chips: Sequence[str], sites: int, quick: bool) -> Jobs:
    """Every golden case: its whole front-end as planned, and each template's kernel of it."""
    found: list[Job] = []
    declined: dict[str, dict[str, str]] = {}
    for name in modules.cases()[: 1 if quick else None]:
        graph = modules.case(name)
        for chip in chips:
            plan = rg.plan(graph, f"tpu:{chip}")
            whole = lambda plan=plan: modules.whole(plan)  # noqa: E731
            found.append(Job("cases", f"{name}, all of it", chip, whole, lambda plan=plan: chosen(plan), False))
        for each in modules.templates():
            found += kernels("cases", name, graph, each, chips, declined, backward=each.family.name == "attend")
    return found, {"declined": declined}


def sites(chips: Sequence[str], sites: int, quick: bool) -> Jobs:
    """Drawn sites: attention, the backward pass of every fourth, each of the other templates on every eighth."""
    found: list[Job] = []
    declined: dict[str, dict[str, str]] = {}
    offered = {each.family.name: each for each in modules.templates()}
    turns = {"qkv_rope": 1, "embed": 5}
    for number in range(sites):
        drawn = modules.Drawn.of(number)
        for name, each in offered.items():
            if name == "attend" or number % 8 == turns.get(name, 3):
                label = f"site {number} ({drawn})"
                graph = drawn.graph(name)
                found += kernels(
                    "sites", label, graph, each, chips, declined, backward=name == "attend" and number % 4 == 0
                )
    return found, {"declined": declined, "sites": sites, "seed": modules.SEED}


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
    """The kernels of a graph's first region by a template; what it declines is put down with its reason."""
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
    """The tiles that the template offers at the common sites, each compiled at one length."""
    attend = template(ATTEND)
    found: list[Job] = []
    for each in modules.common()[: 1 if quick else None]:
        site = modules.common_site(each.name, each.compiled)
        offered = {chip: candidates(site, chip)[: 2 if quick else None] for chip in chips}
        for tile in dict.fromkeys(tile for mine in offered.values() for tile in mine):
            for chip in (chip for chip in chips if tile in offered[chip]):
                make = lambda site=site, tile=tile, chip=chip: modules.forward(attend, site, tile, chip)  # noqa: E731
                facts = described(tile, site=each.name, length=each.compiled)
                found.append(Job("tiles", f"{each.name}, {tile}", chip, make, facts))
    return found, {}


def candidates(site: Site, chip: str) -> list[Tile]:
    """What the template offers, but for tiles of fewer than 256 x 256 scores, which pay for a step too often."""
    offered = template(ATTEND).tiles(site, Target.parse(f"tpu:{chip}"))
    return sorted((tile for tile in offered if area(tile) >= 256 * 256), key=area, reverse=True)


def area(tile: Tile) -> int:
    return tile["q"] * tile["kv"]


def predicted(site: Site, compiled: Site, tile: Tile, entry: Mapping[str, Any], chip: str) -> float:
    """Seconds of a call: the schedule's cycles over the clock, or what moves over the bandwidth where that is more.

    The kernel was compiled for `compiled`, a site of another length, whose parts are the same.
    """
    target = Target.parse(f"tpu:{chip}")
    (kernel,) = (each for each in entry["kernels"] if each["name"].startswith("ropegen_attend"))
    own = steps_of(compiled, tile)
    busy = cycles(kernel, steps_of(site, tile), own) / target.figures.clock
    moved = template(ATTEND).cost(site, target, tile).bytes / target.figures.bandwidth * entry["devices"]
    return max(busy, moved) + target.figures.launch


def measured(results: Mapping[str, Any], common: Common, length: int, chip: str) -> list[tuple[float, Tile]]:
    """The predicted seconds of the candidates, least first; none while one of them is not compiled."""
    site = modules.common_site(common.name, length)
    compiled = modules.common_site(common.name, common.compiled)
    found: list[tuple[float, Tile]] = []
    for tile in candidates(compiled, chip):
        entry = results["entries"].get("tiles", {}).get(f"{common.name}, {tile} on {chip}")
        if entry is None:
            return []
        if "kernels" in entry:
            found.append((predicted(site, compiled, tile, entry, chip), tile))
    return sorted(found, key=lambda one: one[0])


def modelled(common: Common, length: int, chip: str) -> Tile:
    """The tile that the cost model alone would take."""
    site, target, attend = modules.common_site(common.name, length), Target.parse(f"tpu:{chip}"), template(ATTEND)
    return min(attend.tiles(site, target), key=lambda tile: attend.cost(site, target, tile).seconds)


def tile_tables(results: Mapping[str, Any], chips: Sequence[str], libtpu: str) -> dict[str, str]:
    """The tables of tiles by the names of their files, in the form that `ropegen.tiles` reads."""
    found: dict[str, str] = {}
    for chip in chips:
        entries: list[dict[str, Any]] = []
        for common in modules.common():
            for length in common.lengths:
                if not (times := measured(results, common, length, chip)):
                    continue
                entries.append(
                    {
                        "template": ATTEND,
                        "region": digest(modules.common_site(common.name, length).closed),
                        "what": f"{common.name}, {length} positions",
                        "tile": dict(times[0][1].sizes),
                        "microseconds": round(times[0][0] * 1e6, 1),
                        "candidates": len(times),
                        "libtpu": libtpu,
                    }
                )
        if not entries:
            continue
        lines = ",\n  ".join(json.dumps(each) for each in entries)
        found[f"tpu-{chip}.json"] = f'{{"chip": "tpu:{chip}", "measured": [\n  {lines}\n]}}\n'
    return found


PARTS: Mapping[str, Callable[[Sequence[str], int, bool], Jobs]] = {
    "forward": forward,
    "backward": backward,
    "steps": steps,
    "tiles": tiles,
    "cases": cases,
    "sites": sites,
}
