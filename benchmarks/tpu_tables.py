"""tpu.json as text: the goals with their figures first, then every table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tpu_head_tables
import tpu_heads
import tpu_jobs as jobs
import tpu_neighbours
from tpu_goals import ABOVE, AT_LEAST, AT_MOST, BELOW, Goal, geometric_mean
from tpu_schedules import Steps, full_part, partial_mean, row_parts, weighted

from ropegen.compilers import tpu

Entry = Mapping[str, Any]

OURS, PLANNED = "ropegen", "ropegen, the planner's tile"
FORWARD_RIVALS, BACKWARD_RIVALS = ("flash", "splash"), ("splash dq+dkv", "splash fused")
ABOUT: Mapping[str, Sequence[str]] = {
    "forward": (
        "ropegen's kernel rotates and scales q once per row of tiles, in the part that *begins* the row. flash and splash",
        "neither rotate nor scale, and use one body for both kinds of tile. ropegen computes the scores of a tile one step before",
        "their weights, so a head has one more step than tiles; that step fetches nothing new. *Full* is a full tile after a full",
        "one, and *partial* is the mean of all other steps.",
    ),
    "backward": (
        "ropegen's kernel rotates q, and rotates its cotangent back, in the parts that *begin* and *end* a row of tiles. splash",
        "has two kernels, one for dq and one for dk and dv, or one fused kernel; they neither rotate nor scale. A tile takes five",
        "products in one kernel and seven in two. Where the matrix unit is busy nine tenths of the time, no order of the same",
        "five products can be a fifth shorter.",
    ),
}


@dataclass(frozen=True)
class Figures:
    """The kernels of one contender on one chip; the kernels of a backward pass are added up."""

    kernels: tuple[Entry, ...]
    steps: Steps

    @property
    def full(self) -> float:
        return sum(full_part(kernel)["bundles"] for kernel in self.kernels)

    @property
    def partial(self) -> float:
        return sum(partial_mean(kernel, self.steps, "bundles") for kernel in self.kernels)

    def tile(self, size: str) -> float:
        """The mean over the tiles: bundles, cycles, bundles with the matrix unit busy, spills."""
        return sum(weighted(kernel, self.steps, size) for kernel in self.kernels)

    @property
    def share(self) -> float:
        """The share of a full tile's bundles with the matrix unit busy."""
        return sum(full_part(kernel)["matrix"] for kernel in self.kernels) / self.full

    def whole(self, size: str) -> float:
        return sum(kernel[size] for kernel in self.kernels)

    @property
    def whole_share(self) -> float:
        return self.whole("matrix") / self.whole("bundles")

    @property
    def always(self) -> int:
        return sum(kernel["always"]["bundles"] for kernel in self.kernels)

    @property
    def rows(self) -> list[int]:
        return [part["bundles"] for kernel in self.kernels for part in row_parts(kernel)]


def figures(results: Entry, part: str, name: str, chip: str) -> Figures | None:
    """The figures of a compiled module, without the forward pass at the start of a backward module; None if missing."""
    entry = results["entries"].get(part, {}).get(f"{name} on {chip}", {})
    kernels = tuple(kernel for kernel in entry.get("kernels", ()) if part == "forward" or "_fwd_" not in kernel["name"])
    if not kernels:
        return None
    steps = Steps(**results["facts"][part]["steps"])
    if "head" in entry:  # results that are older than this fact have a part for full and one for partial tiles
        (told,) = entry["head"]
        steps = tpu_heads.steps_of(told, jobs.HEADS)
    return Figures(kernels, steps)


def chips_of(results: Entry, part: str) -> list[str]:
    chips = {entry["chip"] for entry in results["entries"].get(part, {}).values()}
    return [chip for chip in tpu.TOPOLOGIES if chip in chips]


def over(
    results: Entry,
    part: str,
    rivals: Sequence[str],
    of: Callable[[Figures], float],
    best: Callable[[Sequence[float]], float],
) -> dict[str, float]:
    """The figure of ropegen over the best figure of the rivals, for every chip that has both."""
    ratios: dict[str, float] = {}
    for chip in chips_of(results, part):
        ours = figures(results, part, OURS, chip)
        theirs = [rival for rival in (figures(results, part, name, chip) for name in rivals) if rival is not None]
        if ours is not None and theirs and (best_of := best([of(rival) for rival in theirs])):
            ratios[chip] = of(ours) / best_of
    return ratios


def said(ratios: Mapping[str, float]) -> str:
    return ", ".join(f"{chip} {value:.2f}" for chip, value in ratios.items())


def goals(results: Entry) -> Iterator[Goal]:
    """Every goal with its figure."""
    yield from tpu_head_tables.goals(results)
    for part, rivals, names in (
        ("forward", FORWARD_RIVALS, "flash and splash"),
        ("backward", BACKWARD_RIVALS, "splash's two kernels and its fused one"),
    ):
        ratios = over(results, part, rivals, lambda kernels: kernels.tile("bundles"), min)
        values = list(ratios.values())
        what = f"{part}: bundles of a tile over the better of {names}"
        yield Goal(f"{what}, geometric mean", AT_MOST, 0.8, geometric_mean(values), said(ratios))
        yield Goal(f"{what}, worst chip", BELOW, 1.0, max(values, default=None))
        ratios = over(results, part, rivals, lambda kernels: kernels.share, max)
        what = f"{part}: matrix unit's share of a full tile's bundles over the better of theirs, worst chip"
        yield Goal(what, ABOVE, 1.0, min(ratios.values(), default=None), said(ratios))
        ratios = over(results, part, rivals, lambda kernels: kernels.whole_share, max)
        what = f"{part}: matrix unit's share of the whole kernel's bundles over the better of theirs, worst chip"
        yield Goal(what, ABOVE, 1.0, min(ratios.values(), default=None), said(ratios))
        ratios = over(results, part, rivals, lambda kernels: kernels.tile("spills"), min)
        what = f"{part}: spills of a tile over the fewer of theirs, worst chip"
        yield Goal(what, AT_MOST, 0.5, max(ratios.values(), default=None), said(ratios))
    higher: dict[str, float] = {}
    for chip in chips_of(results, "forward"):
        ours, planned = (figures(results, "forward", name, chip) for name in (OURS, PLANNED))
        if ours is not None and planned is not None:
            higher[chip] = planned.share / ours.share
    what = "forward: the matrix unit's share of a full tile, the planner's tile over 512 x 512, worst chip"
    yield Goal(what, ABOVE, 1.0, min(higher.values(), default=None), said(higher))
    yield own_choices(results)
    for key, entry in results["entries"].get("steps", {}).items():
        if "kernels" in entry and not key.startswith(("splash", "causal")):
            (kernel,) = entry["kernels"]
            visited, a_head = entry.get("visited") or 0, kernel["steps"] / jobs.HEADS
            yield Goal(
                f"{entry['what']} at S={jobs.LONG}: tiles fetched over the tiles needed",
                AT_MOST,
                1.0,
                visited / entry["needed"] if visited else None,
                f"{entry['needed']} of {entry['all']} needed; {a_head:,.0f} steps per head, of which {a_head - visited:.0f} fetch none",
            )
    for part, what in (("cases", "kernels and front-ends of golden cases"), ("sites", "kernels of drawn sites")):
        entries = results["entries"].get(part, {}).values()
        failed = sum("error" in entry for entry in entries)
        detail = f"of {len(entries)} modules so far, {results['facts'].get(part, {}).get('modules', '?')} in all"
        if part == "sites":
            detail += f", {len(drawn(results))} sites"
        yield Goal(f"{what} that do not compile", AT_MOST, 0, failed if entries else None, detail)
    yield Goal("drawn sites that compiled for every chip", AT_LEAST, 200, every_chip(results) or None)


def own_choices(results: Entry) -> Goal:
    """How much longer the tile takes that the cost model alone would choose, at the sites of the part `tiles`."""
    slower: dict[str, float] = {}
    known = results["entries"].get("tiles", {})
    is_fresh = known and not any(map(jobs.is_older, known.values()))  # an older kernel says nothing of today's model
    for common in jobs.modules.common() if is_fresh else ():
        for length in common.lengths:
            for chip in chips_of(results, "tiles"):
                times = jobs.measured(results, common, length, chip)
                modelled = jobs.modelled(common, length, chip)
                own = next((time for time, tile in times if tile == modelled), None)
                if own is not None:
                    slower[f"{common.name}, S={length:,}, {chip}"] = own / times[0][0]
    most = 1 + tpu_neighbours.MOST
    worst = [f"{place} {value:.2f}" for place, value in slower.items() if value > most]
    detail = f"above it in {len(worst)} of {len(slower)}: {'; '.join(worst)}" if worst else f"{len(slower)} choices"
    what = "tiles: time of the cost model's own choice over the least among all tiles, common sites, worst"
    return Goal(what, AT_MOST, most, max(slower.values(), default=None), detail if slower else "")


def drawn(results: Entry) -> dict[str, set[str]]:
    """The chips for which a drawn site was compiled or declined, by site."""
    chips: dict[str, set[str]] = {}
    for entry in results["entries"].get("sites", {}).values():
        chips.setdefault(entry["what"].partition(" (")[0], set()).add(entry["chip"])
    return chips


def every_chip(results: Entry) -> int:
    declined = {
        key.partition(" (")[0]: set(chips)
        for key, chips in results["facts"].get("sites", {}).get("declined", {}).items()
        if key.endswith(", attend")
    }
    compiled = drawn(results)
    return sum(
        compiled.get(site, set()) | declined.get(site, set()) == set(tpu.TOPOLOGIES) for site in compiled | declined
    )


def tables(results: Entry) -> str:
    """The page as Markdown."""
    compiler = results["compiler"]
    lines = [
        "# Kernels for TPU, by their schedules",
        "",
        f"libtpu {compiler['libtpu']}, jax {compiler['jax']}; {results['date']}.",
        "",
        "`python3 benchmarks/tpu.py` wrote this page from [tpu.json](tpu.json), without a TPU: the figures come from the",
        "compiler's listings of its schedules. A *bundle* is one instruction and takes at least one cycle. *Cycles* are bundles",
        "plus the waits between them, memory aside. *Matrix unit busy* is the number of used slots of the matrix unit over the",
        "slots that a bundle has: the number of bundles that the kernel would have if only its products took time. *Spills* are",
        "stores and loads of registers that did not fit in the register file.",
        "",
        *older(results),
        "## Goals",
        "",
        "| what | goal | measured | | how |",
        "| --- | ---: | ---: | --- | --- |",
        *(goal.row for goal in goals(results)),
    ]
    lines += tpu_head_tables.sections(results)
    if chips_of(results, "forward"):
        lines += ["", *comparison(results, "forward")]
    if chips_of(results, "backward"):
        lines += ["", *comparison(results, "backward")]
    for section in (steps, compiled, tiles, tpu_neighbours.section):
        lines += section(results)
    return "\n".join(lines).rstrip() + "\n"


def older(results: Entry) -> list[str]:
    """A note with the number of results that come from other versions of the templates."""
    counts = [
        f"{count} of {len(entries)} of `{part}`"
        for part, entries in results["entries"].items()
        if (count := sum(map(jobs.is_older, entries.values())))
    ]
    if not counts:
        return []
    return [f"Results from other versions of the templates: {', '.join(counts)}; `--changed` measures them again.", ""]


def comparison(results: Entry, part: str) -> list[str]:
    rivals = FORWARD_RIVALS if part == "forward" else BACKWARD_RIVALS
    place = f"{jobs.HEADS} heads of {jobs.WIDTH}, S={jobs.LENGTH}, bf16, causal, tiles of 512 x 512"
    lines = [
        f"## {part.capitalize()}",
        "",
        f"{place}. A head has 28 full and 8 partial tiles; figures of a tile are the mean over them, with all steps of the head.",
        *ABOUT[part],
        "",
        "| chip | kernel | bundles of a tile | full | partial | cycles of a tile | matrix unit busy | its share of a full tile "
        "| spills of a tile | every step adds | once per row | whole kernel: bundles / matrix unit / spills |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for chip in chips_of(results, part):
        for name in (OURS, *rivals):
            if (own := figures(results, part, name, chip)) is None:
                entry = results["entries"][part].get(f"{name} on {chip}", {})
                lines.append(f"| {chip} | {name} | {entry.get('error', 'not measured')} |" + " |" * 9)
                continue
            lines.append(
                f"| {chip} | {name} | {own.tile('bundles'):,.0f} | {own.full:,} | {own.partial:,.0f} "
                f"| {own.tile('cycles'):,.0f} | {own.tile('matrix'):,.0f} | {own.share:.0%} | {own.tile('spills'):,.0f} "
                f"| {own.always} | {rows_of(own)} "
                f"| {own.whole('bundles'):,} / {own.whole_share:.0%} / {own.whole('spills'):,} |"
            )
    if part == "forward":
        lines += ["", *planned(results)]
    return lines


def rows_of(own: Figures) -> str:
    if len(own.kernels) > 1 or len(own.rows) < 2:
        return " + ".join(f"{size:,}" for size in own.rows)
    *begins, ends = own.rows
    return f"begins {' + '.join(f'{size:,}' for size in begins)}, ends {ends:,}"


def planned(results: Entry) -> list[str]:
    """The planner's own tile; its bundles are also scaled to 512 x 512 scores."""
    lines = [
        "The planner's own tile at this site:",
        "",
        "| chip | tile | bundles of a full tile | for 512 x 512 scores | matrix unit | spills of a tile | VMEM |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for chip in chips_of(results, "forward"):
        if (own := figures(results, "forward", PLANNED, chip)) is None:
            continue
        tile = results["entries"]["forward"][f"{PLANNED} on {chip}"]["tile"]
        scores = tile["q"] * tile["kv"] / (512 * 512)
        lines.append(
            f"| {chip} | {tile['q']} x {tile['kv']} | {own.full:,} | {own.full / scores:,.0f} | {own.share:.0%} "
            f"| {full_part(own.kernels[0])['spills']:,} | {own.kernels[0]['vmem'] / 1e6:.1f} MB |"
        )
    return lines


def steps(results: Entry) -> list[str]:
    entries = results["entries"].get("steps", {})
    if not entries:
        return []
    lines = [
        "", "## Steps of the grid", "",
        f"{jobs.HEADS} heads of {jobs.WIDTH}, S={jobs.LONG}, tiles of 512 x 512. The needed "
        "tiles were counted score by score.",
        "A step fetches the keys of its tile and the values of the previous tile, so a head has one extra step. For run-time ids",
        "the program computes the map of tiles: it has as many steps as the causal mask, and the steps beyond the needed tiles",
        "compute and fetch nothing.",
        "",
        "| mask | chip | steps per head | tiles needed | of all |", "| --- | --- | ---: | ---: | ---: |",
    ]  # fmt: skip
    for entry in entries.values():
        count = entry["error"] if "error" in entry else f"{entry['kernels'][0]['steps'] / jobs.HEADS:,.0f}"
        lines.append(f"| {entry['what']} | {entry['chip']} | {count} | {entry['needed']} | {entry['all']} |")
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
                "backward pass at every fourth site, the other templates at every eighth.",
                "",
            ]
        kinds = list(dict.fromkeys(kind_of(entry) for entry in entries))
        chips = chips_of(results, part)
        lines += [f"| compiled of all | {' | '.join(chips)} |", f"| --- |{' ---: |' * len(chips)}"]
        for kind in kinds:
            cells: list[str] = []
            for chip in chips:
                mine = [entry for entry in entries if kind_of(entry) == kind and entry["chip"] == chip]
                mine = [entry for entry in mine if "declined" not in entry]
                cells.append(f"{sum('error' not in entry for entry in mine)} of {len(mine)}")
            lines.append(f"| {kind} | {' | '.join(cells)} |")
        failed = [entry for entry in entries if "error" in entry]
        if failed:
            lines += ["", "Not compiled:", ""]
            lines += [f"- {entry['what']} on {entry['chip']}: {entry['error']}" for entry in failed]
        declined = {key: dict(reasons) for key, reasons in facts["declined"].items()}
        for entry in entries:
            if "declined" in entry:
                declined.setdefault(entry["what"], {})[entry["chip"]] = entry["declined"]
        if declined:
            lines += ["", "The template declines these, so XLA computes them:", ""]
            for key, reasons in declined.items():
                for reason, chips_ in grouped(reasons).items():
                    lines.append(f"- {key}, on {', '.join(chips_)}: {reason}")
    return lines


def kind_of(entry: Entry) -> str:
    """The kind of an entry, such as "attend", "attend backward" or "all of it"."""
    return entry["what"].rpartition(", ")[2]


def grouped(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    chips: dict[str, list[str]] = {}
    for chip, reason in reasons.items():
        chips.setdefault(reason, []).append(chip)
    return chips


def tiles(results: Entry) -> list[str]:
    if not results["entries"].get("tiles"):
        return []
    chips = chips_of(results, "tiles")
    lines = [
        "", "## Tiles", "",
        "The tile with the least predicted time, forward and causal, among the offered tiles with at least 256 x 256 scores. The",
        "predicted time is the larger of the schedule's cycles over the clock and the moved bytes over the bandwidth. A cell has",
        "queries x keys, microseconds, and how much longer the cost model's own choice takes.", "",
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
    slower = next((time / seconds for time, other in times if other == modelled), None)
    beside = "" if slower is None else f" ({slower - 1:+.0%})"
    return f"{tile['q']} x {tile['kv']}, {seconds * 1e6:,.0f}{beside}"
