"""cpu.json as text and as a picture: goals against figures first, then every point."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ropegen import bench
from ropegen.bench import report

Entry = Mapping[str, Any]

OURS, TORCH, JAX = "ropegen", "torch", "jax.nn"
# What the reason of a variant says that was too slow where all of them ran.
BEHIND = "times torch's best at"
LONG = 2048  # from here on ropegen is held against jax.nn


@dataclass(frozen=True)
class Goal:
    """A sentence, the figure that was wanted, and the one that was found; None where nothing was measured."""

    what: str
    wanted: float | None
    least: bool
    found: float | None
    unit: str = ""
    detail: str = ""

    @property
    def met(self) -> str:
        if self.found is None:
            return "not measured"
        if self.wanted is None:
            return ""
        return "met" if (self.found >= self.wanted if self.least else self.found <= self.wanted) else "MISSED"


# What each limit's figure says, its goal (None: told beside, without one), whether that is the least, its unit.
LIMITS: dict[str, tuple[str, float | None, bool, str]] = {
    "ceiling": ("the most that any schedule of XLA's dots is faster than torch, forward", None, True, ""),
    "peak": ("the most that anything is faster than torch, its matmuls at the best rate of any dot", None, True, ""),
    "matmuls": ("the two matmuls' share of the time", 0.65, True, ""),
    "window": ("a window of 1024 over causal", 0.3, False, ""),
    "documents": ("eight packed documents over causal", 0.25, False, ""),
    "temporaries": ("temporaries, forward", 256.0, False, "MB"),
    "temporaries backward": ("temporaries, forward and backward", None, False, "MB"),
    "growth": ("time at 16384 over time at 8192", 4.3, False, ""),
    "rope": ("RoPE alone: a copy's time over its time", 0.85, True, ""),
    "call of jit": ("a call of `attention` under jit over an empty jit", 5.0, False, "\N{MICRO SIGN}s"),
    "call of plan": ("a call of a compiled plan over an empty jit", 5.0, False, "\N{MICRO SIGN}s"),
    "compile": ("plan, trace and compile, forward", 3.0, False, "s"),
    "compile backward": ("plan, trace and compile, forward and backward", None, False, "s"),
}


def median(entry: Entry, rival: str) -> float | None:
    """The best median of the contenders whose name begins so; None where none ran."""
    times = [each["median"] for each in entry.get("contenders", ()) if each["name"].startswith(rival)]
    return min(times, default=None)


def ratio(entry: Entry, rival: str) -> float | None:
    """How many times as long the best of a rival takes as ropegen."""
    ours, theirs = median(entry, OURS), median(entry, rival)
    return None if ours is None or theirs is None else theirs / ours


def geometric_mean(values: Sequence[float]) -> float | None:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def goals(results: Entry) -> list[Goal]:
    """Every goal with the figure that was found."""
    points: Iterable[Entry] = results["points"].values()

    def ratios(direction: str, rival: str, shortest: int = 0) -> list[float]:
        found = [
            ratio(each, rival) for each in points if each["series"].startswith(direction) and each["length"] >= shortest
        ]
        return [each for each in found if each is not None]

    found: list[Goal] = []
    for direction, over_torch, over_jax in (("forward", 2.0, 7.0), ("backward", 1.5, 4.0)):
        what = "forward" if direction == "forward" else "forward and backward"
        torch, jax, long = ratios(direction, TORCH), ratios(direction, JAX), ratios(direction, JAX, LONG)
        for name, wanted, values, reduce in (
            (f"{what}, best of torch over ropegen, geometric mean", over_torch, torch, geometric_mean),
            (f"{what}, best of torch over ropegen, least point", 1.2 if direction == "forward" else None, torch, least),
            (f"{what}, jax.nn over ropegen from S={LONG}, geometric mean", over_jax, long, geometric_mean),
            (f"{what}, jax.nn over ropegen at all lengths, geometric mean", None, jax, geometric_mean),
        ):
            found.append(Goal(name, wanted, True, reduce(values), "", f"{len(values)} points"))
    for name, (what, wanted, at_least, unit) in LIMITS.items():
        entry = results["limits"].get(name, {})
        found.append(Goal(what, wanted, at_least, entry.get("value"), unit, entry.get("detail", "")))
    return found


def least(values: Sequence[float]) -> float | None:
    return min(values, default=None)


def tables(results: Entry) -> str:
    """The page: machine, goals, points."""
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items() if name != "processor")
    lines = [
        "# Attention on CPU, side by side",
        "",
        f"{results['machine']['processor']}; {machine}. {results['date']}.",
        "",
        "Written by `python3 benchmarks/cpu.py` from [cpu.json](cpu.json). At each point all contenders ran in turns in one",
        "process, after their results were compared. Times are medians. Ratios are over ropegen's time: above 1 ropegen is",
        "faster. RoPE is part of every contender, from the same table. torch has its inputs in its own layout.",
        "",
        "![Ratios over the sequence length](cpu.png)",
        "",
        "## Goals",
        "",
        "| what | goal | found | | how |",
        "| --- | ---: | ---: | --- | --- |",
    ]
    for each in goals(results):
        sign = "\N{GREATER-THAN OR EQUAL TO}" if each.least else "\N{LESS-THAN OR EQUAL TO}"
        wanted = "" if each.wanted is None else f"{sign} {each.wanted:g} {each.unit}".rstrip()
        found = "" if each.found is None else f"{each.found:.3g} {each.unit}".rstrip()
        lines.append(f"| {each.what} | {wanted} | {found} | {each.met} | {each.detail} |")
    errors = {
        key: each["error"] for part in ("limits", "points") for key, each in results[part].items() if "error" in each
    }
    if errors:
        lines += ["", "## Not measured, because results disagree", ""]
        lines += [f"- {key}: {said}" for key, said in errors.items()]
    for direction, what in (("forward", "Forward"), ("backward", "Forward and backward")):
        series: dict[str, list[Entry]] = {}
        for each in results["points"].values():
            if each["series"].startswith(direction) and "error" not in each:
                series.setdefault(each["series"], []).append(each)
        if not series:
            continue
        lines += ["", f"## {what}", ""]
        lines.append(
            "| heads x kv x width, type, mask | S | ropegen | best of torch | ratio | jax.nn | ratio | samples |"
        )
        lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        for name, entries in series.items():
            for each in sorted(entries, key=lambda each: each["length"]):
                lines.append(_row(name.partition(" ")[2], each))
        lines += ["", *_left_out(series)]
    return "\n".join(lines).rstrip() + "\n"


def _row(name: str, entry: Entry) -> str:
    cells = [name, str(entry["length"])]
    for rival in (OURS, TORCH, JAX):
        took, over = median(entry, rival), ratio(entry, rival)
        cells.append("-" if took is None else bench.duration(took))
        if rival != OURS:
            cells.append("-" if over is None else f"{over:.2f}")
    samples: dict[str, int] = {}
    for each in entry["contenders"]:
        rival = each["name"].split(" ")[0]
        samples[rival] = max(samples.get(rival, 0), each["samples"])
    cells.append("/".join(str(samples.get(rival, 0)) for rival in (OURS, TORCH, JAX)))
    return f"| {' | '.join(cells)} |"


def _left_out(series: Mapping[str, Sequence[Entry]]) -> list[str]:
    """Who did not run, one line a reason."""
    said: dict[tuple[str, str], list[str]] = {}
    for name, entries in series.items():
        for entry in entries:
            for each in entry["left_out"]:
                slow = BEHIND in each["reason"]
                reason = "well behind torch's best where all variants ran" if slow else each["reason"]
                said.setdefault((each["name"], reason), []).append(f"{name.partition(' ')[2]} {entry['length']}")
    return [
        f"- {name} left out at {places[0] if len(places) == 1 else f'{len(places)} points'}: {reason}"
        for (name, reason), places in said.items()
    ]


def picture(results: Entry, path: Path) -> None:
    """Ratios over the length, a column a shape, a row a direction; drawn on logarithmic axes, 1 is a tie."""
    plot = bench.pyplot()
    points = [each for each in results["points"].values() if "error" not in each]
    shapes = list(dict.fromkeys(each["series"].split(" ")[1] for each in points))
    directions = [name for name in ("forward", "backward") if any(each["series"].startswith(name) for each in points)]
    if not points:
        return
    figure, grid = plot.subplots(
        len(directions), len(shapes), figsize=(3.4 * len(shapes) + 1.8, 3.1 * len(directions) + 0.9),
        squeeze=False, sharex=True, sharey=True, layout="constrained",
    )  # fmt: skip
    colours, lines, marks = {TORCH: "#c8553d", JAX: "#1b6ca8"}, {"f32": "--", "bf16": "-"}, {"causal": "o", "full": "s"}
    lengths = sorted({each["length"] for each in points})
    for row, direction in zip(grid, directions, strict=True):
        for axes, shape in zip(row, shapes, strict=True):
            axes.axhline(1.0, color="#888888", linewidth=0.8)
            for dtype, mask in ((dtype, mask) for dtype in lines for mask in marks):
                name = f"{direction} {shape} {dtype} {mask}"
                own = sorted((each["length"], each) for each in points if each["series"] == name)
                for rival, colour in colours.items():
                    found = [(length, ratio(each, rival)) for length, each in own]
                    drawn = [(length, value) for length, value in found if value is not None]
                    if drawn:
                        axes.plot(
                            *zip(*drawn, strict=True), linestyle=lines[dtype], marker=marks[mask], color=colour,
                            markersize=4, linewidth=1.2, label=f"{rival}, {dtype}, {mask}",
                        )  # fmt: skip
            axes.set_xscale("log", base=2)
            axes.set_yscale("log", base=2)
            axes.set_xticks(lengths, [str(each) for each in lengths], rotation=45)
            axes.minorticks_off()
            axes.yaxis.set_major_formatter("{x:g}")
            axes.grid(alpha=0.25)
            heads, kv_heads, width = shape.split("x")
            axes.set_title(f"{heads} heads over {kv_heads}, width {width}", fontsize=9)
        row[0].set_ylabel(f"{'forward' if direction == 'forward' else 'forward and backward'}:\ntime over ropegen's")
    for axes in grid[-1]:
        axes.set_xlabel("S")
    handles: dict[str, Any] = {}
    for axes in grid.flat:
        handles.update(dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True)))
    figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize=8, frameon=False)
    machine = results["machine"]
    title = f"{machine['processor']}\n{machine['cores']} cores; {results['date']}"
    figure.suptitle(title, fontsize=9, x=0.01, horizontalalignment="left")
    report.save(figure, path)
    plot.close(figure)
