"""The results of a run as text, as data and as a picture, and a description of the machine."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ropegen.bench.attention import LeftOut
from ropegen.bench.measure import Race
from ropegen.errors import RopegenError
from ropegen.quantities import digits, duration, durations, unit_of
from ropegen.version import VERSION


def machine() -> dict[str, str]:
    """The processor, its cores, and the package versions that a timing depends on ("not installed" if one is missing)."""
    facts = {"processor": _processor(), "cores": str(_cores()), "system": f"{platform.system()} {platform.machine()}"}
    facts |= {"python": platform.python_version(), "ropegen": VERSION}
    for package in ("jax", "jaxlib", "torch"):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def rows(race: Race) -> list[dict[str, str]]:
    """One row per contender: median, quartiles, its time over the first's with quartiles, and difference from the first.

    A row has at most 80 characters.
    """
    first = race.timings[0].name
    table: list[dict[str, str]] = []
    for timing in race.timings:
        low, high = durations(*timing.quartiles)
        differs = race.differences.get(timing.name)
        table.append(
            {
                "contender": timing.name,
                "median": duration(timing.median),
                "quartiles": f"{low.rpartition(' ')[0]}\N{EN DASH}{high}",
                f"over {first}": "1" if timing.name == first else _ratio(race, timing.name, first),
                "differs": "-" if differs is None else f"{differs:.1e}",
            }
        )
    return table


def _ratio(race: Race, name: str, over: str) -> str:
    between = race.ratios(name, over)
    if between is None:
        return "too few samples"
    low, high = map(digits, between)
    return f"{digits(race.ratio(name, over))} ({low}\N{EN DASH}{high})"


def notes(race: Race, left_out: Sequence[LeftOut], estimate: float | None) -> list[str]:
    """Sentences below the rows: the number of samples, the estimate of the plan, and who did not run."""
    samples = (
        f"{timing.name} {len(timing.samples)}{f' of {timing.calls} calls' if timing.calls > 1 else ''}"
        for timing in race.timings
    )
    said = [f"samples: {', '.join(samples)}; ratios and differences are over {race.timings[0].name}, with quartiles"]
    if estimate is not None:
        first = race.timings[0]
        times = first.median / estimate if estimate else 0.0
        said.append(
            f"the plan of {first.name} estimates {duration(estimate)}"
            + (f"; it was measured at {times:.2g} times that" if times else "")
        )
    return said + [f"left out: {contender.name}, because {contender.reason}" for contender in left_out]


def as_data(race: Race, left_out: Sequence[LeftOut] = (), estimate: float | None = None) -> dict[str, Any]:
    """The contents of `rows` and `notes` as numbers, in seconds, for JSON. `estimate` is that of the first's plan."""
    first = race.timings[0].name
    return {
        "estimate": estimate,
        "contenders": [
            {
                "name": timing.name,
                "median": timing.median,
                "quartiles": list(timing.quartiles),
                "samples": len(timing.samples),
                "calls": timing.calls,
                "ratio": race.ratio(timing.name, first),
                "ratios": race.ratios(timing.name, first),
                "difference": race.differences.get(timing.name),
            }
            for timing in race.timings
        ],
        "left_out": [{"name": contender.name, "reason": contender.reason} for contender in left_out],
    }


def pyplot() -> Any:
    """matplotlib.pyplot, drawing to files.

    Raises:
      RopegenError: matplotlib is not installed.
    """
    try:
        importlib.import_module("matplotlib").use("Agg")
        return importlib.import_module("matplotlib.pyplot")
    except ImportError as error:
        raise RopegenError(
            f"bench: a picture needs matplotlib ({error}); install it with `pip install matplotlib`, or leave out --png"
        ) from error


def picture(race: Race, title: str, path: str | os.PathLike[str]) -> None:
    """Write a PNG with one bar per contender, up to its median, and a line from quartile to quartile.

    Raises:
      RopegenError: matplotlib is not installed, or the file cannot be written.
    """
    plot = pyplot()
    names = [timing.name for timing in race.timings]
    per_second, unit = unit_of(race.timings[0].median)
    scale = 1 / per_second
    medians = [timing.median / scale for timing in race.timings]
    spread = [[], []]
    for timing in race.timings:
        low, high = timing.quartiles
        spread[0].append((timing.median - low) / scale)
        spread[1].append((high - timing.median) / scale)
    figure, axes = plot.subplots(figsize=(8, 1.4 + 0.5 * len(names)), layout="constrained")
    colours = ["#1b6ca8", *["#b8c4ce"] * (len(names) - 1)]
    axes.barh(names, medians, xerr=spread, color=colours, error_kw={"ecolor": "#333333", "capsize": 3})
    for row, timing in enumerate(race.timings):
        over = (
            f"{duration(timing.median)}  ({race.ratio(timing.name, names[0]):.2f}x)" if row else duration(timing.median)
        )
        axes.annotate(
            over, (timing.quartiles[1] / scale, row), xytext=(8, 0), textcoords="offset points", va="center", fontsize=9
        )
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * max(timing.quartiles[1] for timing in race.timings) / scale)
    axes.set_xlabel(f"{unit} per call: median, quartiles")
    axes.set_title(title, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, Path(path))
    plot.close(figure)


def save(figure: Any, path: Path) -> None:
    """Write a figure as a PNG to a temporary file and rename it.

    Raises:
      RopegenError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            figure.savefig(temporary, format="png", dpi=130)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise RopegenError(f"cannot write {path}: {error.strerror or error}; give another file") from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """The name of the processor, if the system reports it, and the vector and matrix extensions it has."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = set(said.get("flags", "").split())
    units = [word for word in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if word in flags]
    name = said.get("model name") or platform.processor() or platform.machine()
    return f"{name} ({', '.join(units)})" if units else name
