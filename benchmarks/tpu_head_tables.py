"""The parts `heads` and `calibration` of tpu.json as text: goals and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tpu_heads as heads
from tpu_goals import AT_MOST, BELOW, Goal, geometric_mean
from tpu_heads import Comparison

from ropegen.target import Target

Results = Mapping[str, Any]
# The comparisons of a chip.
SITES = len(heads.DIRECTIONS) * len(heads.LENGTHS) * len(heads.WIDTHS) * len(heads.ROTATIONS)
OLDER, NEWER = ("v4", "v5e", "v5p"), ("v6e", "v7x")
# The most cycles of 512 x 512 scores of a full tile: direction and width, then the chips with small and large multipliers.
FULL_TILE = {
    ("forward", 128): (1056, 480),
    ("forward", 256): (2110, 620),
    ("backward", 128): (2570, 1150),
    ("backward", 256): (5300, 1400),
}
# The most cycles, in thousands, of a forward head of 4,096 positions and 128 features, with RoPE.
WHOLE_HEAD = (48, 27)


def goals(results: Results) -> Iterator[Goal]:
    """The goals that whole heads must reach."""
    compared = heads.comparisons(results)
    for chips, thousands in zip((OLDER, NEWER), WHOLE_HEAD, strict=True):
        mine = [one for one in compared if is_site(one, "forward", 128) and one.chip in chips]
        what = "whole head: thousands of cycles, forward, S=4096, 128 features, RoPE, without uncertain copies, "
        yield goal(what, chips, thousands, mine, lambda one: one.ours.least / 1e3)
    for chip in dict.fromkeys(one.chip for one in compared):
        mine = [one for one in compared if one.chip == chip]
        worst = max(mine, key=lambda one: one.ratio)
        fewer = sum(one.ratio < 1 for one in mine)
        yield Goal(
            f"whole head: cycles over those of the best anchor, every comparison of {chip}, worst",
            BELOW,
            1.0,
            worst.ratio,
            f"{described(worst)}; below 1 in {fewer} of {len(mine)}",
            len(mine) == SITES,
        )
    chips = dict.fromkeys(one.chip for one in compared)
    is_whole = len(compared) == SITES * len(heads.modules.CHIPS)
    for how, of in (("without uncertain copies", ratio), ("with every copy", most_ratio)):
        means = {chip: geometric_mean([of(one) for one in compared if one.chip == chip]) for chip in chips}
        detail = ", ".join(f"{chip} {value:.2f}" for chip, value in means.items() if value is not None)
        what = f"whole head: cycles over those of the best anchor, all comparisons, {how}, geometric mean"
        yield Goal(what, AT_MOST, 0.9, geometric_mean(list(map(of, compared))), detail, is_whole)
    worst = max(compared, key=lambda one: one.spills, default=None)
    yield Goal(
        "whole head: spills over the fewest of an anchor, worst comparison",
        AT_MOST,
        0.5,
        None if worst is None else worst.spills,
        ""
        if worst is None
        else f"{worst.chip}, {described(worst)}; geometric mean {geometric_mean(list(map(spills, compared))):.2f}",
    )
    for (direction, width), wanted in FULL_TILE.items():
        for chips_, most in zip((OLDER, NEWER), wanted, strict=True):
            mine = [one for one in compared if is_site(one, direction, width) and one.chip in chips_]
            what = f"full tile: cycles of 512 x 512 scores, {direction}, {width} features, "
            yield goal(what, chips_, most, mine, lambda one: one.ours.full, why)


def is_site(one: Comparison, direction: str, width: int) -> bool:
    """Whether it is the site of the goals: 4,096 positions, with RoPE."""
    return (one.direction, one.width, one.length, one.turned) == (direction, width, heads.LENGTHS[0], True)


def why(one: Comparison) -> str:
    """What the cycles of a full tile are, by its schedule."""
    tile = one.ours
    return f" = matrix {tile.matrix:,.0f} + other {tile.bundles - tile.matrix:,.0f} + waits {tile.full - tile.bundles:,.0f}"


def goal(
    what: str,
    chips: Sequence[str],
    most: float,
    mine: Sequence[Comparison],
    of: Callable[[Comparison], float],
    beside: Callable[[Comparison], str] = lambda one: "",
) -> Goal:
    """The goal that the worst chip must reach. `beside` is what to tell of the figure of a chip."""
    figures = {one.chip: of(one) for one in mine}
    told = [
        (f"{one.chip} {of(one):,.0f}" if of(one) >= 100 else f"{one.chip} {of(one):.1f}") + beside(one) for one in mine
    ]
    figure, is_whole = max(figures.values(), default=None), figures.keys() == set(chips)
    return Goal(f"{what}{', '.join(chips)}, worst chip", AT_MOST, most, figure, ", ".join(told), is_whole)


def ratio(one: Comparison) -> float:
    return one.ratio


def most_ratio(one: Comparison) -> float:
    return one.most_ratio


def spills(one: Comparison) -> float:
    return max(one.spills, 1e-3)


def described(one: Comparison) -> str:
    return f"{one.direction}, S={one.length:,}, {one.width} features{', RoPE' if one.turned else ''}"


def sections(results: Results) -> list[str]:
    """The tables of both parts; empty if nothing was compiled."""
    return [*whole_heads(results), *behind(results), *every_anchor(results), *calibration(results)]


def whole_heads(results: Results) -> list[str]:
    compared = heads.comparisons(results)
    if not compared:
        return []
    versions = results["facts"].get("heads", {}).get("tokamax")
    whose = f"tokamax {versions['tokamax']} on jax {versions['jax']}" if versions else "tokamax"
    lines = [
        "", "## Whole heads", "",
        f"Cycles that one core spends on one head: {heads.HEADS} heads in a call, bf16, causal, as many key heads as query heads.",
        f"The anchors are flash and splash attention of jax, and splash attention of {whose}, with the",
        "configurations of the next table. ropegen has the planner's tile.",
        "",
        "The figure is a sum over the steps of the grid. A step adds the code that is not conditional, and the conditional part",
        "that its tile needs; a row of tiles adds the parts that begin and end it. A step of ropegen and tokamax is a tile that is",
        "not empty, and a step of jax's kernels is any tile. ropegen computes scores one step before their weights, and has one",
        "more step for it; its map of tiles says how often each part runs. A copy of a block is conditional: a step makes it if",
        "the block changes. The listings do not say which copy is which, so a cell is a range, from no such copy to every copy in",
        "every step. Waits for memory are not in it, and neither is what XLA does around the kernels: ropegen's rotation of K,",
        "tokamax's transposition of K and its sum of the parts of dq. RoPE of Q is inside ropegen's kernels, and the anchors do",
        "not rotate. On v5p, one of the two cores runs the backward kernel of tokamax; both run the kernels of ropegen.",
        "",
        "The goals above say what the cycles of a full tile are: the bundles that its products alone would take (*matrix*), the",
        "*other* bundles, in which the matrix unit does less than it can, and the *waits* between bundles, of which the schedule",
        "does not say the reason. On v5e and v5p, most of what a tile takes beyond its products is waits; on v4, v6e and v7x it is",
        "other bundles.",
        "",
        *unmeasured(results),
        "| chip | pass | features | S | ropegen, RoPE: tile | thousands of cycles | ropegen, no RoPE: tile | thousands of cycles "
        "| best anchor | thousands of cycles | ratio with RoPE | without | spills with RoPE | fewest of an anchor |",
        "| --- | --- | ---: | ---: | --- | ---: | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]  # fmt: skip
    places = dict.fromkeys((one.chip, one.direction, one.width, one.length) for one in compared)
    for place in places:
        mine = {one.turned: one for one in compared if (one.chip, one.direction, one.width, one.length) == place}
        chip, direction, width, length = place
        best = next(iter(mine.values())).best
        cells = [
            f"{one.ours.tile} | {one.ours.range}" if (one := mine.get(turned)) else " | " for turned in heads.ROTATIONS
        ]
        ratios = [f"{one.ratio:.2f}" if (one := mine.get(turned)) else "" for turned in heads.ROTATIONS]
        with_rope = mine.get(True)
        spilled = " | " if with_rope is None else f"{with_rope.ours.spills:,.0f} | {fewest(with_rope):,.0f}"
        lines.append(
            f"| {chip} | {direction} | {width} | {length:,} | {' | '.join(cells)} | {best.name} | {best.range} "
            f"| {' | '.join(ratios)} | {spilled} |"
        )
    return lines


def behind(results: Results) -> list[str]:
    """Where the best anchor needs fewer cycles, and what makes the difference."""
    lines = [
        "", "### Where an anchor is ahead", "",
        "The last two columns split the difference into the cycles that the anchor's full tiles save, and all others: the begins and",
        "ends of rows of tiles, strips, and tiles on the diagonal. A negative number is an advantage of ropegen.",
        "",
        "| chip | comparison | ropegen's tile | best anchor | thousands of cycles more | of its full tiles | of the rest |",
        "| --- | --- | --- | --- | ---: | ---: | ---: |",
    ]  # fmt: skip
    rows = [
        f"| {one.chip} | {described(one)} | {one.ours.tile} | {one.best.name} | {more / 1e3:,.1f} "
        f"| {one.ahead_in_tiles / 1e3:,.1f} | {(more - one.ahead_in_tiles) / 1e3:,.1f} |"
        for one in heads.comparisons(results)
        if (more := one.ours.least - one.best.least) >= 0
    ]
    return [*lines, *rows] if rows else []


def unmeasured(results: Results) -> list[str]:
    """How many kernels are still to be compiled: the best anchor is the best of those that are."""
    entries = results["entries"].get("heads", {})
    places = [(way, name, width) for way in heads.DIRECTIONS for name in heads.ANCHORS[way] for width in heads.WIDTHS]
    keys = [
        f"{heads.anchor_key(name, way, width)} on {chip}" for way, name, width in places for chip in heads.modules.CHIPS
    ]
    missing = sum(key not in entries for key in keys)
    sites = SITES * len(heads.modules.CHIPS)
    compared = len(heads.comparisons(results))
    if not missing and compared == sites:
        return []
    return [
        f"{compared} of {sites} comparisons are measured so far. {missing} of {len(keys)} kernels of anchors are not, so the best "
        "anchor is the best of",
        "those that are: the next tables list them.",
        "",
    ]


def fewest(one: Comparison) -> float:
    return min(head.spills for head in one.anchors)


def every_anchor(results: Results) -> list[str]:
    """Every anchor that was compiled: cycles of a full tile, and of a head of the first length."""
    entries = results["entries"].get("heads", {})
    if not entries:
        return []
    length = heads.LENGTHS[0]
    lines = [
        "", "### Every anchor", "",
        f"Cycles of 512 x 512 scores of a full tile, and thousands of cycles of a head of {length:,} positions. tokamax's sizes are",
        "queries, keys, and keys at a time. \"k\" stores K with the sequence minor, \"S\" is `use_experimental_scheduler`, and",
        "\"diagonal\" skips what the mask hides of a tile on the diagonal, in sub-tiles of 256 x 256. In the backward pass,",
        "tokamax's kernel takes neither \"S\" nor the diagonal's second product.",
        "",
    ]  # fmt: skip
    for direction in heads.DIRECTIONS:
        names = heads.ANCHORS[direction]
        lines += [f"| {direction}: chip | features | {' | '.join(names)} |", f"| --- | ---: |{' ---: |' * len(names)}"]
        chips = dict.fromkeys(entry["chip"] for entry in entries.values())
        for chip in (chip for chip in heads.modules.CHIPS if chip in chips):
            for width in heads.WIDTHS:
                cells = [
                    anchor_cell(entries.get(f"{heads.anchor_key(name, direction, width)} on {chip}"), name, direction)
                    for name in names
                ]
                lines.append(f"| {chip} | {width} | {' | '.join(cells)} |")
        lines.append("")
    return lines[:-1]


def anchor_cell(entry: Mapping[str, Any] | None, name: str, direction: str) -> str:
    if entry is None:
        return "not measured"
    if "error" in entry:
        return "not enough VMEM" if "vmem" in entry["error"].lower() else "does not compile"
    head = heads.anchor_head(entry, name, direction, heads.LENGTHS[0])
    return "" if head is None else f"{head.full:,.0f}; {head.range}"


def calibration(results: Results) -> list[str]:
    """Measured times of tokamax on v7x, beside what its schedules add up to."""
    by_direction = {direction: heads.calibrated(results, direction) for direction in heads.DIRECTIONS}
    if not any(by_direction.values()):
        return []
    chip = Target.parse("tpu:v7x").figures
    lines = [
        "", "## Calibration of v7x", "",
        "tokamax's wheel ships times that were measured on v7x, on one of its two cores. The schedule's time is the cycles of all",
        "heads, as above, in the middle of their range, over the clock. The quotient of both is the factor that ropegen's",
        f"estimates for v7x have, where they are bound by computing: {chip.measured:g} forward and "
        f"{chip.measured_backward:g} backward, in the",
        "chip table. XLA's own programs get the same factors, for which nothing was measured.",
        "",
        "| tokamax on v7x | measured, ms | by the schedule, ms | factor |", "| --- | ---: | ---: | ---: |",
    ]  # fmt: skip
    for direction, calibrated in by_direction.items():
        for one in calibrated:
            lines.append(f"| {one.what} | {one.milliseconds:,.3f} | {one.predicted:,.3f} | {one.factor:.2f} |")
        mean = geometric_mean([one.factor for one in calibrated])
        if mean is not None:
            lines.append(f"| {direction}, geometric mean | | | {mean:.3f} |")
    return lines
