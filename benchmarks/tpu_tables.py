"""tpu.json as text: goals against figures first, then every table."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tpu_jobs as jobs
from tpu_schedules import Steps, more, row_parts, tile_parts, weighted

from ropegen.compilers import tpu

Entry = Mapping[str, Any]

OURS, PLANNED = "ropegen", "ropegen, the planner's tile"
FORWARD_RIVALS, BACKWARD_RIVALS = ("flash", "splash"), ("splash dq+dkv", "splash fused")
ABOUT: Mapping[str, Sequence[str]] = {
    "forward": (
        "RoPE of q runs inside ropegen's kernel, once for a row of tiles, in what *begins* it, and the scale with it. flash and",
        "splash rotate and scale nothing. Theirs have one body for both kinds of tile. ropegen makes the scores of a tile a step",
        "ahead of their weights, so a head has one step more than tiles, which fetches nothing new.",
    ),
    "backward": (
        "RoPE of q, and its cotangent's rotation back, run inside ropegen's kernel, in what *begins* and *ends* a row of tiles.",
        "splash has two kernels, one for dq and one for dk and dv, or one that is fused. They rotate and scale nothing. A tile",
        "has five products in one kernel, seven in two: where the matrix unit is busy for nine tenths of it, no order of the",
        "same five is a fifth shorter.",
    ),
}
COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "\N{LESS-THAN OR EQUAL TO}": operator.le,
    "\N{GREATER-THAN OR EQUAL TO}": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
AT_MOST, AT_LEAST, BELOW, ABOVE = COMPARISONS


@dataclass(frozen=True)
class Goal:
    """A sentence, how the figure that was found must compare with the one that was wanted, and how it came about."""

    what: str
    sign: str
    wanted: float
    found: float | None
    detail: str = ""

    @property
    def row(self) -> str:
        if self.found is None:
            return f"| {self.what} | {self.sign} {self.wanted:g} | | not measured | |"
        met = "met" if COMPARISONS[self.sign](self.found, self.wanted) else "MISSED"
        return f"| {self.what} | {self.sign} {self.wanted:g} | {self.found:.3g} | {met} | {self.detail} |"


@dataclass(frozen=True)
class Figures:
    """The kernels of one contender on one chip, those of a backward pass added up."""

    kernels: tuple[Entry, ...]
    steps: Steps

    @property
    def full(self) -> float:
        return sum(tile_parts(each)[0]["bundles"] for each in self.kernels)

    @property
    def partial(self) -> float:
        return sum(tile_parts(each)[1]["bundles"] for each in self.kernels)

    def tile(self, size: str) -> float:
        """The mean over the tiles: bundles, cycles, bundles with the matrix unit busy, spills."""
        return sum(weighted(each, self.steps, size) for each in self.kernels)

    @property
    def with_more(self) -> float:
        """Bundles of a tile, and its part of those of the steps that a head has more than tiles."""
        tiles = self.steps.full + self.steps.partial
        jax_all = [each for each in self.kernels if not each["name"].startswith("ropegen_")]
        extra = 0 if jax_all else sum(more(each, self.steps) for each in self.kernels)
        return self.tile("bundles") + extra * self.full / tiles

    @property
    def share(self) -> float:
        """Of the bundles of a full tile, those with the matrix unit busy."""
        return sum(tile_parts(each)[0]["matrix"] for each in self.kernels) / self.full

    def whole(self, size: str) -> float:
        return sum(each[size] for each in self.kernels)

    @property
    def whole_share(self) -> float:
        return self.whole("matrix") / self.whole("bundles")

    @property
    def always(self) -> int:
        return sum(each["always"]["bundles"] for each in self.kernels)

    @property
    def rows(self) -> list[int]:
        return [part["bundles"] for each in self.kernels for part in row_parts(each)]


def figures(results: Entry, part: str, name: str, chip: str) -> Figures | None:
    """Of what was compiled; a forward pass that a backward module begins with is left out."""
    entry = results["entries"].get(part, {}).get(f"{name} on {chip}", {})
    kernels = tuple(each for each in entry.get("kernels", ()) if part == "forward" or "_fwd_" not in each["name"])
    if not kernels:
        return None
    steps = Steps(**results["facts"][part]["steps"])
    return Figures(kernels, steps)


def chips_of(results: Entry, part: str) -> list[str]:
    found = {each["chip"] for each in results["entries"].get(part, {}).values()}
    return [chip for chip in tpu.TOPOLOGIES if chip in found]


def over(
    results: Entry,
    part: str,
    rivals: Sequence[str],
    of: Callable[[Figures], float],
    best: Callable[[Sequence[float]], float],
) -> dict[str, float]:
    """Ours over the best of theirs, chip by chip, where both are there."""
    found: dict[str, float] = {}
    for chip in chips_of(results, part):
        ours = figures(results, part, OURS, chip)
        theirs = [each for each in (figures(results, part, name, chip) for name in rivals) if each is not None]
        if ours is not None and theirs and (best_of := best([of(each) for each in theirs])):
            found[chip] = of(ours) / best_of
    return found


def geometric_mean(values: Sequence[float]) -> float | None:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def said(ratios: Mapping[str, float]) -> str:
    return ", ".join(f"{chip} {value:.2f}" for chip, value in ratios.items())


def goals(results: Entry) -> Iterator[Goal]:
    """Every goal with the figure that was found."""
    for part, rivals, names in (
        ("forward", FORWARD_RIVALS, "flash and splash"),
        ("backward", BACKWARD_RIVALS, "splash's two kernels and its fused one"),
    ):
        ratios = over(results, part, rivals, lambda each: each.tile("bundles"), min)
        values = list(ratios.values())
        what = f"{part}: bundles of a tile over the better of {names}"
        yield Goal(f"{what}, geometric mean", AT_MOST, 0.8, geometric_mean(values), said(ratios))
        yield Goal(f"{what}, worst chip", BELOW, 1.0, max(values, default=None))
        if part == "forward":
            ratios = over(results, part, rivals, lambda each: each.with_more, min)
            how = f"with the step more of each head: {said(ratios)}"
            yield Goal(f"{what}, geometric mean", AT_MOST, 0.8, geometric_mean(list(ratios.values())), how)
        ratios = over(results, part, rivals, lambda each: each.share, max)
        what = f"{part}: matrix unit's share of a full tile's bundles over the better of theirs, worst chip"
        yield Goal(what, ABOVE, 1.0, min(ratios.values(), default=None), said(ratios))
        ratios = over(results, part, rivals, lambda each: each.whole_share, max)
        what = f"{part}: its share of the whole kernel's bundles over the better of theirs, worst chip"
        yield Goal(what, ABOVE, 1.0, min(ratios.values(), default=None), said(ratios))
        ratios = over(results, part, rivals, lambda each: each.tile("spills"), min)
        what = f"{part}: spills of a tile over the fewer of theirs, worst chip"
        yield Goal(what, AT_MOST, 0.5, max(ratios.values(), default=None), said(ratios))
    higher: dict[str, float] = {}
    for chip in chips_of(results, "forward"):
        ours, planned = (figures(results, "forward", name, chip) for name in (OURS, PLANNED))
        if ours is not None and planned is not None:
            higher[chip] = planned.share / ours.share
    what = "forward: the matrix unit's share of a full tile, the planner's tile over 512 x 512, worst chip"
    yield Goal(what, ABOVE, 1.0, min(higher.values(), default=None), said(higher))
    for key, each in results["entries"].get("steps", {}).items():
        if "kernels" in each and not key.startswith(("splash", "causal")):
            (kernel,) = each["kernels"]
            visited, a_head = each.get("visited") or 0, kernel["steps"] / jobs.HEADS
            yield Goal(
                f"{each['what']} at S={jobs.LONG}: tiles fetched over the tiles needed",
                AT_MOST,
                1.0,
                visited / each["needed"] if visited else None,
                f"{each['needed']} of {each['all']} needed; {a_head:,.0f} steps a head, of which {a_head - visited:.0f} fetch none",
            )
    for part, what in (("cases", "kernels and front-ends of golden cases"), ("sites", "kernels of drawn sites")):
        entries = results["entries"].get(part, {}).values()
        failed = sum("error" in each for each in entries)
        detail = f"of {len(entries)} modules so far, {results['facts'].get(part, {}).get('modules', '?')} in all"
        if part == "sites":
            detail += f", {len(drawn(results))} sites"
        yield Goal(f"{what} that do not compile", AT_MOST, 0, failed if entries else None, detail)
    yield Goal("drawn sites that were compiled for every chip", AT_LEAST, 200, every_chip(results) or None)


def drawn(results: Entry) -> dict[str, set[str]]:
    """The chips that each drawn site was compiled for, or declined on."""
    found: dict[str, set[str]] = {}
    for each in results["entries"].get("sites", {}).values():
        found.setdefault(each["what"].partition(" (")[0], set()).add(each["chip"])
    return found


def every_chip(results: Entry) -> int:
    declined = {
        key.partition(" (")[0]: set(chips)
        for key, chips in results["facts"].get("sites", {}).get("declined", {}).items()
        if key.endswith(", attend")
    }
    found = drawn(results)
    return sum(found.get(site, set()) | declined.get(site, set()) == set(tpu.TOPOLOGIES) for site in found | declined)


def tables(results: Entry) -> str:
    """The page."""
    compiler = results["compiler"]
    lines = [
        "# Kernels for TPU, by their schedules",
        "",
        f"libtpu {compiler['libtpu']}, jax {compiler['jax']}; {results['date']}.",
        "",
        "Written by `python3 benchmarks/tpu.py` from [tpu.json](tpu.json), with no TPU: what the compiler scheduled, read from",
        "its listings. A *bundle* is one instruction, and a cycle at least; *cycles* are bundles and the waits between them,",
        "memory aside. The *matrix unit busy* is the sum of its slots that are used over those a bundle has: the bundles that a",
        "kernel would have if nothing else took any. *Spills* are registers stored for want of registers, and filled again.",
        "",
        *older(results),
        "## Goals",
        "",
        "| what | goal | found | | how |",
        "| --- | ---: | ---: | --- | --- |",
        *(each.row for each in goals(results)),
    ]
    if chips_of(results, "forward"):
        lines += ["", *comparison(results, "forward")]
    if chips_of(results, "backward"):
        lines += ["", *comparison(results, "backward")]
    for section in (steps, compiled, tiles):
        lines += section(results)
    return "\n".join(lines).rstrip() + "\n"


def older(results: Entry) -> list[str]:
    """How many results are of other templates than those that the page is written beside."""
    found = [
        f"{count} of {len(entries)} of `{part}`"
        for part, entries in results["entries"].items()
        if (count := sum(map(jobs.is_older, entries.values())))
    ]
    if not found:
        return []
    return [f"Of other templates than those here now: {', '.join(found)}; `--changed` measures them anew.", ""]


def comparison(results: Entry, part: str) -> list[str]:
    rivals = FORWARD_RIVALS if part == "forward" else BACKWARD_RIVALS
    place = f"{jobs.HEADS} heads of {jobs.WIDTH}, S={jobs.LENGTH}, bf16, causal, tiles of 512 x 512"
    lines = [
        f"## {part.capitalize()}",
        "",
        f"{place}: 28 full tiles and 8 partial ones a head, by which a tile is weighted.",
        *ABOUT[part],
        "",
        "| chip | kernel | bundles of a tile | full | partial | cycles of a tile | matrix unit busy | its share of a full tile "
        "| spills of a tile | always beside | once a row | whole kernel: bundles / matrix unit / spills |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for chip in chips_of(results, part):
        for name in (OURS, *rivals):
            if (each := figures(results, part, name, chip)) is None:
                entry = results["entries"][part].get(f"{name} on {chip}", {})
                lines.append(f"| {chip} | {name} | {entry.get('error', 'not measured')} |" + " |" * 9)
                continue
            lines.append(
                f"| {chip} | {name} | {each.tile('bundles'):,.0f} | {each.full:,} | {each.partial:,} "
                f"| {each.tile('cycles'):,.0f} | {each.tile('matrix'):,.0f} | {each.share:.0%} | {each.tile('spills'):,.0f} "
                f"| {each.always} | {rows_of(each)} "
                f"| {each.whole('bundles'):,} / {each.whole_share:.0%} / {each.whole('spills'):,} |"
            )
    if part == "forward":
        lines += ["", *planned(results)]
    return lines


def rows_of(each: Figures) -> str:
    if len(each.kernels) > 1 or len(each.rows) < 2:
        return " + ".join(f"{size:,}" for size in each.rows)
    *begins, ends = each.rows
    return f"begins {' + '.join(f'{size:,}' for size in begins)}, ends {ends:,}"


def planned(results: Entry) -> list[str]:
    """The planner's own tile, also as bundles for as many scores as 512 x 512."""
    lines = [
        "The planner's own tile there:",
        "",
        "| chip | tile | bundles of a full tile | for 512 x 512 scores | matrix unit | spills of a tile | VMEM |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for chip in chips_of(results, "forward"):
        if (each := figures(results, "forward", PLANNED, chip)) is None:
            continue
        tile = results["entries"]["forward"][f"{PLANNED} on {chip}"]["tile"]
        scores = tile["q"] * tile["kv"] / (512 * 512)
        lines.append(
            f"| {chip} | {tile['q']} x {tile['kv']} | {each.full:,} | {each.full / scores:,.0f} | {each.share:.0%} "
            f"| {tile_parts(each.kernels[0])[0]['spills']:,} | {each.kernels[0]['vmem'] / 1e6:.1f} MB |"
        )
    return lines


def steps(results: Entry) -> list[str]:
    entries = results["entries"].get("steps", {})
    if not entries:
        return []
    lines = [
        "", "## Steps of the grid", "",
        f"{jobs.HEADS} heads of {jobs.WIDTH}, S={jobs.LONG}, tiles of 512 x 512. The tiles "
        "needed were counted score by score.",
        "A step fetches the keys of its tile and the values of the last one's, so a head has one step more. Of run-time ids",
        "the program makes the map: it has as many steps as causal's, and those beyond the tiles needed do and fetch nothing.",
        "",
        "| mask | chip | steps a head | tiles needed | of all |", "| --- | --- | ---: | ---: | ---: |",
    ]  # fmt: skip
    for each in entries.values():
        count = each["error"] if "error" in each else f"{each['kernels'][0]['steps'] / jobs.HEADS:,.0f}"
        lines.append(f"| {each['what']} | {each['chip']} | {count} | {each['needed']} | {each['all']} |")
    return lines


def compiled(results: Entry) -> list[str]:
    lines: list[str] = []
    for part, title in (("cases", "Golden cases"), ("sites", "Drawn sites")):
        entries = results["entries"].get(part, {}).values()
        if not entries:
            continue
        facts = results["facts"][part]
        lines += ["", f"## {title}", ""]
        if part == "sites":
            lines += [
                f"{len(drawn(results))} of {facts['sites']} sites so far, seed {facts['seed']}: S from 1 to 4096, widths "
                f"{', '.join(map(str, jobs.modules.WIDTHS))}, up to 64 heads, eight masks; the",
                "backward pass at every fourth, each of the other templates at every eighth.",
                "",
            ]
        kinds = list(dict.fromkeys(kind_of(each) for each in entries))
        chips = chips_of(results, part)
        lines += [f"| compiled of all | {' | '.join(chips)} |", f"| --- |{' ---: |' * len(chips)}"]
        for kind in kinds:
            cells: list[str] = []
            for chip in chips:
                mine = [each for each in entries if kind_of(each) == kind and each["chip"] == chip]
                mine = [each for each in mine if "declined" not in each]
                cells.append(f"{sum('error' not in each for each in mine)} of {len(mine)}")
            lines.append(f"| {kind} | {' | '.join(cells)} |")
        failed = [each for each in entries if "error" in each]
        if failed:
            lines += ["", "Not compiled:", ""]
            lines += [f"- {each['what']} on {each['chip']}: {each['error']}" for each in failed]
        declined = {key: dict(reasons) for key, reasons in facts["declined"].items()}
        for each in entries:
            if "declined" in each:
                declined.setdefault(each["what"], {})[each["chip"]] = each["declined"]
        if declined:
            lines += ["", "Declined by the template, so that XLA computes it:", ""]
            for key, reasons in declined.items():
                for reason, chips_ in grouped(reasons).items():
                    lines.append(f"- {key}, on {', '.join(chips_)}: {reason}")
    return lines


def kind_of(entry: Entry) -> str:
    """attend, attend backward, all of it ..."""
    return entry["what"].rpartition(", ")[2]


def grouped(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for chip, reason in reasons.items():
        found.setdefault(reason, []).append(chip)
    return found


def tiles(results: Entry) -> list[str]:
    if not results["entries"].get("tiles"):
        return []
    chips = chips_of(results, "tiles")
    lines = [
        "", "## Tiles", "",
        "The tile with the least predicted time, forward and causal, of those on offer with at least 256 x 256 scores: the",
        "schedule's cycles over the clock, or the bytes moved over the bandwidth where that is more. Queries x keys, microseconds,",
        "and how much longer the cost model's own choice takes.", "",
        f"| attention, bf16 | S | {' | '.join(chips)} |", f"| --- | ---: |{' --- |' * len(chips)}",
    ]  # fmt: skip
    for common in jobs.modules.common():
        for length in common.lengths:
            cells = [best_tile(results, common, length, chip) for chip in chips]
            if any(cells):
                lines.append(f"| {common.name} | {length} | {' | '.join(cells)} |")
    return lines


def best_tile(results: Entry, common: jobs.Common, length: int, chip: str) -> str:
    if not (times := jobs.measured(results, common, length, chip)):
        return ""
    seconds, tile = times[0]
    modelled = jobs.modelled(common, length, chip)
    slower = next((time / seconds for time, each in times if each == modelled), None)
    beside = "" if slower is None else f" ({slower - 1:+.0%})"
    return f"{tile['q']} x {tile['kv']}, {seconds * 1e6:,.0f}{beside}"
