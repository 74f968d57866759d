"""cpu.json as text and as a picture: the goals with their figures first, then every point."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpu_grid import PROBE_LENGTH

from ropegen import bench
from ropegen.bench import report

Entry = Mapping[str, Any]

OURS, TORCH, JAX = "ropegen", "torch", "jax.nn"
# The words in the reason of a variant that was too slow at the probe's length.
BEHIND = "times torch's best at"
LONG = 2048  # the goals compare ropegen with jax.nn from this length on


@dataclass(frozen=True)
class Goal:
    """A goal: what it is about, the wanted figure (None: no goal) and the measured figure (None: not measured)."""

    what: str
    wanted: float | None
    least: bool
    figure: float | None
    unit: str = ""
    detail: str = ""

    @property
    def met(self) -> str:
        if self.figure is None:
            return "not measured"
        if self.wanted is None:
            return ""
        return "met" if (self.figure >= self.wanted if self.least else self.figure <= self.wanted) else "MISSED"


# A limit: the meaning of its figure, its goal (None: the figure has no goal), whether the goal is the least value, its unit.
LIMITS: dict[str, tuple[str, float | None, bool, str]] = {
    "ceiling": ("the largest speedup over torch that a schedule of XLA's dots can reach, forward", None, True, ""),
    "peak": ("the largest speedup over torch at the best rate of any dot", None, True, ""),
    "matmuls": ("the two matmuls' share of the time", 0.65, True, ""),
    "window": ("a window of 1024 over causal", 0.25, False, ""),
    "documents": ("eight packed documents over causal", 0.16, False, ""),
    "temporaries": ("temporaries, forward", 64.0, False, "MB"),
    "temporaries backward": ("temporaries, forward and backward", None, False, "MB"),
    "growth": ("time at 16384 over time at 8192", 4.3, False, ""),
    "one core, f32": ("one core's share of its multiply-add peak, f32", 0.85, True, ""),
    "one core, bf16": ("one core's share of its multiply-add peak, bf16", None, True, ""),
    "cores, f32": ("one core's time over that of all cores, f32", 1.9, True, ""),
    "cores, bf16": ("one core's time over that of all cores, bf16", 1.9, True, ""),
    "decode": ("a decode step's share of the bandwidth of reading", 0.85, True, ""),
    "decode at 100": ("a decode step at position 100 over one at a full cache", 0.1, False, ""),
    "rope": ("RoPE alone: a copy's time over its time", 0.85, True, ""),
    "call of jit": ("a call of `attention` under jit over an empty jit", 5.0, False, "\N{MICRO SIGN}s"),
    "call of plan": ("a call of a compiled plan over an empty jit", 5.0, False, "\N{MICRO SIGN}s"),
    "compile": ("plan, trace and compile, forward", 1.5, False, "s"),
    "compile backward": ("plan, trace and compile, forward and backward", None, False, "s"),
}


def median(entry: Entry, rival: str) -> float | None:
    """The best median of the contenders whose name begins with `rival`; None if none of them ran."""
    times = [contender["median"] for contender in entry.get("contenders", ()) if contender["name"].startswith(rival)]
    return min(times, default=None)


def ratio(entry: Entry, rival: str) -> float | None:
    """The time of the rival's best variant over ropegen's time."""
    ours, theirs = median(entry, OURS), median(entry, rival)
    return None if ours is None or theirs is None else theirs / ours


def geometric_mean(values: Sequence[float]) -> float | None:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def goals(results: Entry) -> list[Goal]:
    """Every goal with its figure."""
    points: Iterable[Entry] = results["points"].values()

    def ratios(direction: str, rival: str, shortest: int = 0, dtype: str = "", mask: str = "") -> list[float]:
        values = [
            ratio(point, rival)
            for point in points
            if point["series"].startswith(direction)
            and dtype in point["series"]
            and mask in point["series"]
            and point["length"] >= shortest
        ]
        return [value for value in values if value is not None]

    rows: list[Goal] = []
    for dtype, wanted in (("f32", 1.6), ("bf16", 1.8)):
        values = ratios("forward", TORCH, dtype=dtype)
        what = f"forward, {dtype}, best of torch over ropegen"
        rows.append(Goal(f"{what}, geometric mean", wanted, True, geometric_mean(values), "", f"{len(values)} points"))
        rows.append(Goal(f"{what}, lowest point", 1.2, True, least(values), "", f"{len(values)} points"))
        bounds = peak_ratios(results, dtype)
        detail = "the time of torch over that of the products alone, at the multiply-add peak of all cores"
        rows.append(Goal(f"{what}, at the peak, geometric mean", None, True, geometric_mean(bounds), "", detail))
    for direction, over_torch, over_jax in (("forward", 2.0, 7.0), ("backward", 1.5, 4.0)):
        what = "forward" if direction == "forward" else "forward and backward"
        torch, jax, long = ratios(direction, TORCH), ratios(direction, JAX), ratios(direction, JAX, LONG)
        for name, wanted, values, reduce in (
            (f"{what}, best of torch over ropegen, geometric mean", over_torch, torch, geometric_mean),
            (
                f"{what}, best of torch over ropegen, lowest point",
                1.2,
                torch,
                least,
            ),
            (f"{what}, jax.nn over ropegen from S={LONG}, geometric mean", over_jax, long, geometric_mean),
            (f"{what}, jax.nn over ropegen at all lengths, geometric mean", None, jax, geometric_mean),
        ):
            rows.append(Goal(name, wanted, True, reduce(values), "", f"{len(values)} points"))
    for direction, dtype in itertools.product(("forward", "backward"), ("f32", "bf16")):
        what = f"{'forward' if direction == 'forward' else 'forward and backward'}, {dtype}"
        if direction == "backward":
            values = ratios(direction, TORCH, dtype=dtype)
            detail = f"{len(values)} points"
            rows.append(Goal(f"{what}, geometric mean", None, True, geometric_mean(values), "", detail))
            rows.append(Goal(f"{what}, lowest point", None, True, least(values), "", detail))
        for mask in ("causal", "full"):
            values = ratios(direction, TORCH, dtype=dtype, mask=mask)
            rows.append(
                Goal(f"{what}, {mask}, geometric mean", None, True, geometric_mean(values), "", f"{len(values)} points")
            )
    for name, (what, wanted, at_least, unit) in LIMITS.items():
        entry = results["limits"].get(name, {})
        rows.append(Goal(what, wanted, at_least, entry.get("value"), unit, entry.get("detail", "")))
    return rows


def peak_of(results: Entry, dtype: str) -> float | None:
    """The multiply-add peak of all cores for a type, in operations a second; None if it was not measured."""
    return results["limits"].get(f"one core, {dtype}", {}).get("peak")


def at_peak(results: Entry, point: Entry) -> float | None:
    """The seconds that the products of the visible scores of a forward point take at the multiply-add peak."""
    direction, shape, dtype, mask = point["series"].split(" ")
    peak = peak_of(results, dtype)
    if direction != "forward" or peak is None:
        return None
    heads, _, width = map(int, shape.split("x"))
    scores = point["length"] * (point["length"] + 1) / 2 if mask == "causal" else point["length"] ** 2
    return 4.0 * heads * width * scores / peak


def peak_ratios(results: Entry, dtype: str) -> list[float]:
    """For every forward point of a type: torch's time over that of the visible products at the multiply-add peak."""
    values: list[float] = []
    for point in results["points"].values():
        took, products = median(point, TORCH), at_peak(results, point)
        if point["series"].split(" ")[2] == dtype and took is not None and products is not None:
            values.append(took / products)
    return values


def least(values: Sequence[float]) -> float | None:
    return min(values, default=None)


def tables(results: Entry) -> str:
    """The page: the machine, the goals and the points."""
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items() if name != "processor")
    lines = [
        "# Attention on CPU, side by side",
        "",
        f"{results['machine']['processor']}; {machine}. {results['date']}.",
        "",
        "`python3 benchmarks/cpu.py` wrote this page from [cpu.json](cpu.json). At every point all contenders ran in turns in",
        "one process, after their results were compared. Times are medians. A ratio is a contender's time over ropegen's time:",
        'above 1 ropegen is faster. "Of the peak" is the time of the visible products at the multiply-add peak of all cores,',
        "over ropegen's time. Every contender includes RoPE, from the same table. torch has its inputs in its own layout,",
        "and its idle threads sleep (`OMP_WAIT_POLICY=passive`), because they would slow the others down.",
        "",
        "![Ratios over the sequence length](cpu.png)",
        "",
        "## Goals",
        "",
        "| what | goal | measured | | how |",
        "| --- | ---: | ---: | --- | --- |",
    ]
    for goal in goals(results):
        sign = "\N{GREATER-THAN OR EQUAL TO}" if goal.least else "\N{LESS-THAN OR EQUAL TO}"
        wanted = "" if goal.wanted is None else f"{sign} {goal.wanted:g} {goal.unit}".rstrip()
        measured = "" if goal.figure is None else f"{goal.figure:.3g} {goal.unit}".rstrip()
        lines.append(f"| {goal.what} | {wanted} | {measured} | {goal.met} | {goal.detail} |")
    errors = {
        key: entry["error"] for part in ("limits", "points") for key, entry in results[part].items() if "error" in entry
    }
    if errors:
        lines += ["", "## Not measured, because results disagree", ""]
        lines += [f"- {key}: {error}" for key, error in errors.items()]
    for direction, what in (("forward", "Forward"), ("backward", "Forward and backward")):
        series: dict[str, list[Entry]] = {}
        for entry in results["points"].values():
            if entry["series"].startswith(direction) and "error" not in entry:
                series.setdefault(entry["series"], []).append(entry)
        if not series:
            continue
        lines += ["", f"## {what}", ""]
        lines.append(
            "| heads x kv x width, type, mask | S | ropegen | of the peak | best of torch | ratio | jax.nn | ratio | samples |"
        )
        lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        for name, entries in series.items():
            for row in sorted(entries, key=lambda row: row["length"]):
                lines.append(_row(results, name.partition(" ")[2], row))
        lines += ["", *_left_out(series)]
    return "\n".join(lines).rstrip() + "\n"


def _row(results: Entry, name: str, entry: Entry) -> str:
    cells = [name, str(entry["length"])]
    for rival in (OURS, TORCH, JAX):
        took, over = median(entry, rival), ratio(entry, rival)
        cells.append("-" if took is None else bench.duration(took))
        if rival == OURS:
            products = at_peak(results, entry)
            cells.append("-" if took is None or products is None else f"{products / took:.2f}")
        else:
            cells.append("-" if over is None else f"{over:.2f}")
    samples: dict[str, int] = {}
    for contender in entry["contenders"]:
        rival = contender["name"].split(" ")[0]
        samples[rival] = max(samples.get(rival, 0), contender["samples"])
    cells.append("/".join(str(samples.get(rival, 0)) for rival in (OURS, TORCH, JAX)))
    return f"| {' | '.join(cells)} |"


def _left_out(series: Mapping[str, Sequence[Entry]]) -> list[str]:
    """The contenders that did not run, one line per reason."""
    left_out: dict[tuple[str, str], list[str]] = {}
    for name, entries in series.items():
        for entry in entries:
            for contender in entry["left_out"]:
                slow = BEHIND in contender["reason"]
                reason = f"much slower than torch's best variant at S={PROBE_LENGTH}" if slow else contender["reason"]
                left_out.setdefault((contender["name"], reason), []).append(
                    f"{name.partition(' ')[2]} {entry['length']}"
                )
    return [
        f"- {name} was left out at {places[0] if len(places) == 1 else f'{len(places)} points'}: {reason}"
        for (name, reason), places in left_out.items()
    ]


# The colours and lines of a picture of ratios.
_COLOURS, _LINES, _MARKS = (
    {"f32": "#c8553d", "bf16": "#1b6ca8"},
    {"causal": "-", "full": "--"},
    {"causal": "o", "full": "s"},
)


def picture(results: Entry, path: Path) -> None:
    """Draw the ratios over the length on logarithmic axes; 1 is a tie.

    A column is a shape, and a row is a direction and a rival. A panel has one line for a type and a mask, so four at most.
    """
    plot = bench.pyplot()
    points = [entry for entry in results["points"].values() if "error" not in entry]
    shapes = list(dict.fromkeys(point["series"].split(" ")[1] for point in points))
    directions = [name for name in ("forward", "backward") if any(point["series"].startswith(name) for point in points)]
    rows = [(direction, rival) for direction in directions for rival in (TORCH, JAX)]
    if not points:
        return
    figure, grid = plot.subplots(
        len(rows), len(shapes), figsize=(3.0 * len(shapes) + 0.6, 2.6 * len(rows) + 1.2),
        squeeze=False, sharex=True, sharey="row", layout="constrained",
    )  # fmt: skip
    lengths = sorted({point["length"] for point in points})
    for panels, (direction, rival) in zip(grid, rows, strict=True):
        for axes, shape in zip(panels, shapes, strict=True):
            for dtype, mask in ((dtype, mask) for dtype in _COLOURS for mask in _MARKS):
                _line(
                    axes, [point for point in points if point["series"] == f"{direction} {shape} {dtype} {mask}"], rival
                )
            axes.set_xscale("log", base=2)
            axes.set_yscale("log", base=2)
            axes.set_xticks(lengths, [str(size) for size in lengths], rotation=45)
            axes.minorticks_off()
            axes.yaxis.set_major_formatter("{x:g}")
            axes.grid(alpha=0.25)
            heads, kv_heads, width = shape.split("x")
            axes.set_title(f"{heads} heads over {kv_heads}, width {width}", fontsize=9)
        what = "forward" if direction == "forward" else "forward and backward"
        panels[0].set_ylabel(f"{what}:\n{rival}'s time over ropegen's")
        for axes in panels:  # the limits are known once every panel of the row is drawn
            low, high = min(axes.get_ylim()[0], 0.8), max(axes.get_ylim()[1], 1.25)
            axes.axhline(1.0, color="#444444", linewidth=1.0)
            axes.axhspan(1.0, high, color="#2e9e5b", alpha=0.07, linewidth=0)
            axes.set_ylim(low, high)
    for axes in grid[-1]:
        axes.set_xlabel("sequence length")
    handles: dict[str, Any] = {}
    for axes in grid.flat:
        handles.update(dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True)))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    machine = results["machine"]
    title = f"Above 1, where the ground is green, ropegen is faster\n{machine['processor']}, {machine['cores']} cores; {results['date']}"
    figure.suptitle(title, fontsize=10, x=0.01, horizontalalignment="left")
    report.save(figure, path)
    plot.close(figure)


def _line(axes: Any, series: Sequence[Entry], rival: str) -> None:
    """One line of a panel: the ratio at every length at which the rival ran."""
    drawn = sorted((point["length"], over) for point in series if (over := ratio(point, rival)) is not None)
    if drawn:
        dtype, mask = series[0]["series"].split(" ")[2:]
        axes.plot(
            *zip(*drawn, strict=True), linestyle=_LINES[mask], marker=_MARKS[mask], color=_COLOURS[dtype],
            markersize=4, linewidth=1.3, label=f"{dtype}, {mask}",
        )  # fmt: skip
