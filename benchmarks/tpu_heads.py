"""Whole heads: the cycles that one core spends on one head, of ropegen's kernels and of every anchor.

The part `heads` compiles ropegen's kernels at every site with the planner's tile, and JAX's flash and splash attention and
tokamax's configurations at one length: their schedules do not depend on it. The part `calibration` compiles the
configurations whose times on a chip tokamax's wheel ships.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tpu_modules as modules
from ropegen.templates.attend import mosaic_tpu
from ropegen.templates.attend.kernel_tpu import works_ahead
from ropegen.templates.attend.site import AttendSite
from ropegen.templates.attend.tile_map_tpu import BEGINS, COMPUTES, FULL, VOID, TileMap
from tpu_modules import HEADS, Job
from tpu_schedules import Facts, Steps, full_part, in_tiles, rows_of
from tpu_tokamax import Configuration

from ropegen.target import Target
from ropegen.template import Tile, template

LENGTHS, WIDTHS, ROTATIONS = (4096, 32768), (128, 256), (True, False)
DIRECTIONS = ("forward", "backward")
OURS = "ropegen"
SCRIPT = Path(__file__).with_name("tpu_tokamax.py")
# The anchors are compiled at this length.
COMPILED = LENGTHS[0]
# Queries, keys, and keys at a time of tokamax's configurations: "k" stores K with the sequence minor, "S" is its
# experimental scheduler.
TOKAMAX = {
    "tokamax 512": {"q": 512, "kv": 512, "compute": 512},
    "tokamax 1024/1024/512 kS": {"q": 1024, "kv": 1024, "compute": 512, "sequence_minor": "k", "scheduler": True},
    "tokamax 1024/1024/256 k": {"q": 1024, "kv": 1024, "compute": 256, "sequence_minor": "k"},
    "tokamax 2048/2048/512 kS": {"q": 2048, "kv": 2048, "compute": 512, "sequence_minor": "k", "scheduler": True},
    "tokamax 2048/2048/256 k": {"q": 2048, "kv": 2048, "compute": 256, "sequence_minor": "k"},
    "tokamax 1024, diagonal": {"q": 1024, "kv": 1024, "compute": 1024, "diagonal": 4},
}
FLASH, SPLASH, APART, FUSED = "flash 512", "splash 512", "splash 512, dq+dkv", "splash 512, fused"
ANCHORS: Mapping[str, Sequence[str]] = {
    "forward": (FLASH, SPLASH, *TOKAMAX),
    "backward": (APART, FUSED, *TOKAMAX),
}


def causal(length: int, q: int, kv: int, *, visits_all: bool = False) -> tuple[Steps, int]:
    """The tiles of a causal head, and how many grid steps visit it: those of its tiles, or every tile."""
    first, last = np.arange(0, length, q), np.arange(q, length + 1, q) - 1
    columns = np.arange(0, length, kv)
    seen = columns[None, :] <= last[:, None]
    full = columns[None, :] + kv - 1 <= first[:, None]
    steps = Steps(1, len(first), int(full.sum()), int((seen & ~full).sum()), 0)
    return steps, seen.size if visits_all else steps.all


# What is compiled ------------------------------------------------------------------------------------------------------


@functools.cache
def place(length: int, width: int, turns: bool) -> AttendSite:
    graph = modules.attention(length, HEADS, HEADS, width, pairing="half" if turns else None)
    site = modules.site_of(graph, template("attend/mosaic_tpu"))
    assert isinstance(site, AttendSite)
    return site


def own_key(direction: str, length: int, width: int, turns: bool) -> str:
    return f"{OURS}, {direction}, S={length}, {width} features{', RoPE' if turns else ''}"


def anchor_key(name: str, direction: str, width: int) -> str:
    return f"{name}, {direction}, {width} features"


def visits(site: AttendSite, tile: Tile, target: Target, direction: str) -> Iterator[dict[str, Any]]:
    """For every kernel of a direction, the sizes of its tile and the steps of one head, as its map of tiles has them."""
    if direction == "forward":
        yield {"q": tile["q"], "kv": tile["kv"], **counted(mosaic_tpu.tile_map(site, tile), ahead=True)}
        return
    for number, strip in enumerate(mosaic_tpu._strips(site, tile, target, {"q", "k", "v"})):
        form, columns = strip.form, slice(strip.column, strip.column + strip.columns)
        tiles = TileMap.of(mosaic_tpu._kinds(site, form).columns(columns))
        # A later strip does not visit the rows in which it sees no key.
        yield {"q": form.q_tile, "kv": form.kv_tile, **counted(tiles.working() if number else tiles, ahead=False)}


def holds(site: AttendSite, tile: Mapping[str, int], chip: str, direction: str) -> bool:
    """Whether the kernel holds the cotangents of keys until a head ends, which a shorter sequence may not need."""
    target = Target.parse(f"tpu:{chip}")
    strips = mosaic_tpu._strips(site, Tile.of(**tile), target, {"q", "k", "v"}) if direction == "backward" else ()
    return any(strip.holds for strip in strips)


def counted(tiles: TileMap, *, ahead: bool) -> dict[str, Any]:
    """The counts of `Steps` for one head."""
    kinds = np.asarray(tiles.does) & COMPUTES
    full, idle = int(np.count_nonzero(kinds & FULL)), int(np.count_nonzero(kinds == 0))
    partial = len(kinds) - full - idle
    is_ahead = ahead and works_ahead(tiles.steps)
    tiles = tiles.ahead() if is_ahead else tiles
    does = np.asarray(tiles.does)
    return {
        "rows": int(np.count_nonzero(does & BEGINS)),
        "full": full,
        "partial": partial,
        "idle": idle,
        "bodies": [int(np.count_nonzero(does & COMPUTES == body.code)) for body in tiles.bodies(is_ahead=is_ahead)],
        "voids": int(np.count_nonzero(does & VOID)),
        "grid": len(does),
    }


def heads(chips: Sequence[str], sites: int, quick: bool) -> tuple[list[Job], dict[str, Any]]:
    attend = template("attend/mosaic_tpu")
    lengths, widths, turns = (LENGTHS[:1], WIDTHS[:1], ROTATIONS[:1]) if quick else (LENGTHS, WIDTHS, ROTATIONS)
    # A change of ropegen leaves the anchors as they are, so they come first.
    names = dict.fromkeys((*ANCHORS["forward"], *ANCHORS["backward"]))
    places = [(name, way, width) for name in names for way in DIRECTIONS if name in ANCHORS[way] for width in widths]
    wanted = [anchor(*one, anchor_key(*one), chip) for one in places for chip in chips]

    def ours(chip: str, direction: str, site: AttendSite, key: str) -> Job:
        target = Target.parse(f"tpu:{chip}")
        tile = functools.cache(functools.partial(modules.own_tile, attend, site, target))

        def make() -> bytes:
            made = modules.forward if direction == "forward" else modules.backward
            return made(attend, site, tile(), chip)

        def facts() -> dict[str, Any]:
            return {
                "tile": dict(tile().sizes),
                "family": "attend",
                "templates": modules.sources("attend"),
                "head": [*visits(site, tile(), target, direction)],
            }

        return Job("heads", key, chip, make, facts)

    longer: dict[str, dict[str, Any]] = {}
    for length, width, turned in itertools.product(lengths, widths, turns):
        site = place(length, width, turned)
        for direction, chip in itertools.product(DIRECTIONS, chips):
            job = ours(chip, direction, site, own_key(direction, length, width, turned))
            told = job.facts()
            is_apart = tile_of(COMPILED, width, turned, chip) != told["tile"] or holds(
                site, told["tile"], chip, direction
            )
            if length == COMPILED or len(told["head"]) > 1 or is_apart:
                wanted.append(job)
            else:
                base = own_key(direction, COMPILED, width, turned)
                longer[f"{job.key} on {chip}"] = {"base": f"{base} on {chip}", "head": told["head"]}
    return wanted, {"longer": longer}


@functools.cache
def tile_of(length: int, width: int, turned: bool, chip: str) -> dict[str, int]:
    """The planner's tile."""
    tile = modules.own_tile(template("attend/mosaic_tpu"), place(length, width, turned), Target.parse(f"tpu:{chip}"))
    return dict(tile.sizes)


def anchor(name: str, direction: str, width: int, key: str, chip: str) -> Job:
    if name in TOKAMAX:
        one = Configuration(direction=direction, length=COMPILED, heads=HEADS, width=width, **TOKAMAX[name])
        return Job("heads", key, chip, facts=lambda: {"anchor": name}, foreign=asdict(one))
    kernels = {
        FLASH: modules.flash_forward,
        SPLASH: modules.splash_forward,
        APART: modules.splash_backward_apart,
        FUSED: modules.splash_backward_fused,
    }
    return Job("heads", key, chip, functools.partial(kernels[name], width=width), facts=lambda: {"anchor": name})


# tokamax, in an environment of its own -----------------------------------------------------------------------------------


class TokamaxError(Exception):
    """tokamax's environment failed."""


def ask(python: str, told: Mapping[str, Any]) -> Any:
    """The answer of `tpu_tokamax.py`, run by the Python of an environment that has tokamax.

    Raises:
      TokamaxError: it failed.
    """
    done = subprocess.run(
        ["env", "JAX_PLATFORMS=cpu", python, str(SCRIPT)],
        input=json.dumps(told), capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode:
        raise TokamaxError(f"{python} {SCRIPT.name} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return json.loads(done.stdout)


def calibration(python: str) -> list[Job]:
    """The configurations whose times tokamax's wheel ships for v7x, each with all of its times.

    The number of heads and the length change no part of the schedule, so a configuration is compiled once.
    """
    times: dict[Configuration, list[dict[str, Any]]] = {}
    for run in ask(python, {"measured": "v7x"}):
        one = Configuration(**run["configuration"])
        compiled = replace(one, heads=HEADS, length=COMPILED)
        measured = {"heads": one.heads, "length": one.length, "milliseconds": run["milliseconds"]}
        times.setdefault(compiled, []).append(measured)
    wanted: list[Job] = []
    for one, measured in times.items():
        facts = {"anchor": "tokamax", "configuration": asdict(one), "measured": measured}
        wanted.append(Job("calibration", str(one), "v7x", facts=lambda facts=facts: facts, foreign=asdict(one)))
    return wanted


# What a head takes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Head:
    """Cycles of one head on one core, its spills, and what 512 x 512 scores of a full tile take.

    full: cycles: the bundles and the waits between them. matrix: the bundles that the products alone would take.
    """

    name: str
    tile: str
    least: float
    """Without the copies that a step makes only if a block changes."""
    most: float
    """With every such copy in every step."""
    full: float
    bundles: float
    matrix: float
    spills: float

    @property
    def range(self) -> str:
        return f"{self.least / 1e3:,.1f} to {self.most / 1e3:,.1f}"


def one_kernel(kernel: Facts, steps: Steps, seen: int) -> tuple[float, float, float]:
    """(least, most, spills) of a head in one kernel.

    A head runs every conditional part as often as its map of tiles says, and in each of the `seen` steps the code that is
    not conditional.
    """
    copies = kernel["always"]["copies"]
    always = seen * (kernel["always"]["cycles"] - copies)
    least, spills = (
        in_tiles(kernel, steps, size) + sum(count * part[size] for part, count in rows_of(kernel, steps))
        for size in ("cycles", "spills")
    )
    return always + least, always + least + seen * copies, spills


def own_head(entry: Mapping[str, Any], direction: str) -> Head | None:
    """The head of ropegen, from an entry of the part `heads`; None without schedules."""
    if "kernels" not in entry:
        return None
    kernels, told = list(entry["kernels"]), list(entry["head"])
    if len(kernels) != len(told):
        raise ValueError(f"{entry['what']} on {entry['chip']} has {len(kernels)} kernels, and its plan {len(told)}")
    # The strips of a backward pass are kernels of one name; their steps tell which is which.
    kernels.sort(key=lambda kernel: kernel["steps"])
    told.sort(key=lambda one: one["grid"])
    least = most = spills = 0.0
    for kernel, one in zip(kernels, told, strict=True):
        steps = steps_of(one)
        of_kernel = one_kernel(kernel, steps, steps.all)
        least, most, spills = (a + b for a, b in zip((least, most, spills), of_kernel, strict=True))
    one, kernel = told[-1], kernels[-1]
    tile = of_full_tile([kernel], one["q"], one["kv"])
    strips = f" in {len(told)} strips" if len(told) > 1 else ""
    return Head(OURS, f"{one['q']} x {one['kv']}{strips}", least, most, *tile, spills)


def steps_of(told: Mapping[str, Any], heads: int = 1) -> Steps:
    """The steps that an entry tells of one of its kernels."""
    counts = {name: told[name] for name in ("rows", "full", "partial", "idle", "voids", "grid")}
    return Steps(heads, **counts, bodies=tuple(told["bodies"]))


def anchor_head(entry: Mapping[str, Any], name: str, direction: str, length: int) -> Head | None:
    """An anchor's head at a length; None without schedules."""
    kernels = [kernel for kernel in entry.get("kernels", ()) if direction == "forward" or "_fwd_" not in kernel["name"]]
    if not kernels:
        return None
    sizes = TOKAMAX.get(name, {"q": 512, "kv": 512})
    return foreign_head(kernels, name, length, sizes["q"], sizes["kv"], visits_all=name not in TOKAMAX)


def foreign_head(kernels: Sequence[Facts], name: str, length: int, q: int, kv: int, *, visits_all: bool) -> Head:
    """The head of kernels that share their tiles.

    tokamax's grid has a step for each tile that is not empty; those of JAX have a step for every tile. The grid that
    tokamax's backward kernel has without `slots` visits every tile too.
    """
    steps, seen = causal(length, q, kv, visits_all=visits_all)
    sums = [one_kernel(kernel, steps, seen) for kernel in kernels]
    least, most, spills = (sum(column) for column in zip(*sums, strict=True))
    return Head(name, f"{q} x {kv}", least, most, *of_full_tile(kernels, q, kv), spills)


def of_full_tile(kernels: Sequence[Facts], q: int, kv: int) -> tuple[float, float, float]:
    """(cycles, bundles, bundles of the matrix unit) of 512 x 512 scores of a full tile, in all kernels together."""
    share = 512 * 512 / (q * kv)
    cycles, bundles, matrix = (
        share * sum(full_part(kernel)[size] for kernel in kernels) for size in ("cycles", "bundles", "matrix")
    )
    return cycles, bundles, matrix


@dataclass(frozen=True)
class Comparison:
    """A site on a chip: ropegen's head, and those of the anchors that compile there."""

    chip: str
    direction: str
    length: int
    width: int
    turned: bool
    ours: Head
    anchors: tuple[Head, ...]

    @property
    def best(self) -> Head:
        return min(self.anchors, key=lambda head: head.least)

    @property
    def ratio(self) -> float:
        """The cycles of ropegen over those of the best anchor, both without uncertain copies."""
        return self.ours.least / self.best.least

    @property
    def ahead_in_tiles(self) -> float:
        """By how many cycles of a head the full tiles of the best anchor are ahead of ropegen's. On the diagonal, half of
        the scores are counted.
        """
        scores = self.length**2 / 2 / 512**2
        return scores * (self.ours.full - self.best.full)

    @property
    def most_ratio(self) -> float:
        """The same with every copy: over the anchor that is best then."""
        return self.ours.most / min(head.most for head in self.anchors)

    @property
    def spills(self) -> float:
        """The spills of ropegen over those of the anchor with the fewest."""
        fewest = min(head.spills for head in self.anchors)
        return self.ours.spills / fewest if fewest else math.inf


def own_entry(results: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The entry of a key; for a longer sequence with the same tile, that of the shorter one with the longer one's steps.

    The parts of a kernel do not depend on the length, except for the clearing of dk and dv once in a head.
    """
    entries = results["entries"].get("heads", {})
    told = results["facts"].get("heads", {}).get("longer", {}).get(key)
    if told is None or told["base"] not in entries:
        return entries.get(key, {})
    # The kernel was compiled for fewer steps, but its parts are the same.
    return {**entries[told["base"]], "head": told["head"]}


def comparisons(results: Mapping[str, Any]) -> list[Comparison]:
    """Every site that was compiled for ropegen and for an anchor."""
    entries = results["entries"].get("heads", {})
    chips = list(dict.fromkeys(entry["chip"] for entry in entries.values()))
    compared: list[Comparison] = []
    for chip in (chip for chip in modules.CHIPS if chip in chips):
        for direction in DIRECTIONS:
            for width in WIDTHS:
                for length in LENGTHS:
                    compiled = [
                        anchor_head(entries[key], name, direction, length)
                        for name in ANCHORS[direction]
                        if (key := f"{anchor_key(name, direction, width)} on {chip}") in entries
                    ]
                    anchors = tuple(head for head in compiled if head is not None)
                    for turned in ROTATIONS:
                        entry = own_entry(results, f"{own_key(direction, length, width, turned)} on {chip}")
                        ours = own_head(entry, direction)
                        if ours is not None and anchors:
                            compared.append(Comparison(chip, direction, length, width, turned, ours, anchors))
    return compared


@dataclass(frozen=True)
class Calibrated:
    """A measured time of tokamax's, and the seconds that its schedule adds up to."""

    what: str
    milliseconds: float
    predicted: float

    @property
    def factor(self) -> float:
        return self.milliseconds / self.predicted


def calibrated(results: Mapping[str, Any], direction: str) -> list[Calibrated]:
    """What tokamax's measured times on v7x are of what the schedules say: one core, and the mean of least and most cycles."""
    runs: list[Calibrated] = []
    for entry in results["entries"].get("calibration", {}).values():
        one = Configuration(**entry["configuration"])
        kernels = [
            kernel for kernel in entry.get("kernels", ()) if direction == "forward" or "_fwd_" not in kernel["name"]
        ]
        if one.direction != direction or not kernels:
            continue
        visits_all = direction == "backward" and one.slots is None
        for run in entry["measured"]:
            head = foreign_head(kernels, "tokamax", run["length"], one.q, one.kv, visits_all=visits_all)
            clock = Target.parse(f"tpu:{entry['chip']}").figures.clock
            seconds = run["heads"] * (head.least + head.most) / 2 / clock
            what = f"{one}, {run['heads']} heads, S={run['length']:,}"
            runs.append(Calibrated(what, run["milliseconds"], seconds * 1e3))
    return runs
