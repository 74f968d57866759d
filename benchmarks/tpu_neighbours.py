"""The planner's tile of drawn sites, beside the neighbouring tiles: does the cost model choose what the schedules say?

`python3 benchmarks/tpu.py --neighbours 40` compiles 40 drawn sites for every chip, which takes hours. A neighbour has twice
or half the queries or keys. The sites have a mask that is known when compiling, so that the steps of the grid are known.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tpu_heads as heads
import tpu_modules as modules
from ropegen.templates.attend.site import AttendSite
from tpu_modules import Job

from ropegen.target import Target
from ropegen.template import Tile, cost_of, template

PART = "neighbours"
ATTEND = "attend/mosaic_tpu"
# The first number of the drawn sites, beyond those of the part `sites`.
FIRST = 1000
# The shortest sequence: a shorter one has hardly a choice.
SHORTEST = 1024
# How much faster than the planner's tile a neighbour may be.
MOST = 0.03


def drawn(count: int) -> Iterator[tuple[str, AttendSite]]:
    """The drawn sites that have a choice of tiles and a mask without run-time ids."""
    number, sites = FIRST, 0
    while sites < count:
        one = modules.Drawn.of(number)
        number += 1
        if one.mask in ("segments", "documents") or min(one.length, one.keys) < SHORTEST:
            continue
        site = modules.site_of(one.attention(), template(ATTEND))
        if isinstance(site, AttendSite):
            sites += 1
            yield str(one), site


def beside(tile: Tile, offered: Sequence[Tile]) -> list[Tile]:
    """The offered tiles with twice or half the queries or the keys."""
    sizes = {name: tile[name] for name in ("q", "kv")}
    wanted = [Tile.of(**{**sizes, name: size}) for name in sizes for size in (sizes[name] * 2, sizes[name] // 2)]
    return [other for other in wanted if other in offered]


def jobs(chips: Sequence[str], count: int) -> tuple[list[Job], dict[str, Any]]:
    attend = template(ATTEND)
    wanted: list[Job] = []
    for name, site in drawn(count):
        for chip in chips:
            target = Target.parse(f"tpu:{chip}")
            if any(attend.declines(site, target)):
                continue
            offered = list(attend.tiles(site, target))
            chosen = min(offered, key=lambda tile: cost_of(attend, site, target, tile).seconds)
            for tile in (chosen, *beside(chosen, offered)):
                facts = functools.partial(described, site, tile, target, name, tile == chosen)
                make = functools.partial(modules.forward, attend, site, tile, chip)
                wanted.append(Job(PART, f"{name}, {tile}", chip, make, facts))
    return wanted, {"drawn": count}


def described(site: AttendSite, tile: Tile, target: Target, name: str, is_chosen: bool) -> dict[str, Any]:
    return {
        "tile": dict(tile.sizes),
        "family": "attend",
        "templates": modules.sources("attend"),
        "site": name,
        "chosen": is_chosen,
        "head": [*heads.visits(site, tile, target, "forward")],
    }


@dataclass(frozen=True)
class Choice:
    """A site on a chip: the cycles of a head with the planner's tile, and with the best neighbour that compiles."""

    site: str
    chip: str
    tile: str
    cycles: float
    other: str
    least: float

    @property
    def loss(self) -> float:
        """How many more cycles the planner's tile takes than the best neighbour; negative if it takes fewer."""
        return self.cycles / self.least - 1


def choices(results: Mapping[str, Any]) -> list[Choice]:
    """Every site whose chosen tile and a neighbour are compiled."""
    places: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for entry in results["entries"].get(PART, {}).values():
        if "kernels" in entry:
            places.setdefault((entry["site"], entry["chip"]), []).append(entry)
    chosen: list[Choice] = []
    for (site, chip), entries in places.items():
        cycles: dict[bool, list[tuple[float, str]]] = {True: [], False: []}
        for entry in entries:
            head = heads.own_head(entry, "forward")
            assert head is not None
            cycles[entry["chosen"]].append(((head.least + head.most) / 2, head.tile))
        if cycles[True] and cycles[False]:
            (own, tile), (least, other) = cycles[True][0], min(cycles[False])
            chosen.append(Choice(site, chip, tile, own, other, least))
    return chosen


def section(results: Mapping[str, Any]) -> list[str]:
    """The table of the choices, by chip; empty if there are none."""
    chosen = choices(results)
    if not chosen:
        return []
    worse = sum(one.loss > MOST for one in chosen)
    lines = [
        "", "## Tiles of drawn sites", "",
        "The tile that the cost model chooses for drawn sites without an entry in a table, beside the neighbour with the fewest",
        "cycles: a tile with twice or half the queries or keys. The cycles are of a forward head, in the middle of its range. A",
        f"neighbour takes over {MOST:.0%} fewer in {worse} of {len(chosen)} choices. The goal is 40 sites a chip; "
        "`--neighbours 40` draws them.",
        "",
        "| chip | site | tile | cycles | best neighbour | cycles | the tile takes more |",
        "| --- | --- | --- | ---: | --- | ---: | ---: |",
    ]  # fmt: skip
    for one in sorted(chosen, key=lambda one: (modules.CHIPS.index(one.chip), -one.loss)):
        lines.append(
            f"| {one.chip} | {one.site} | {one.tile} | {one.cycles:,.0f} | {one.other} | {one.least:,.0f} | {one.loss:+.1%} |"
        )
    return lines
