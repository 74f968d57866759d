#!/usr/bin/env python3
"""Attention on CPU against torch and jax.nn: measures the grid and writes cpu.json, cpu.md and cpu.png beside this file.

    python3 benchmarks/cpu.py                             what cpu.json does not hold yet; about an hour on two cores
    python3 benchmarks/cpu.py --only forward --lengths 512,4096
    python3 benchmarks/cpu.py --quick --folder /tmp/quick  a small grid, to see that all of it runs
    python3 benchmarks/cpu.py --again                     everything anew
    python3 benchmarks/cpu.py --only tables               cpu.md and cpu.png from cpu.json
    python3 benchmarks/cpu.py --only tiles                ropegen/tiles/cpu.json, measured anew; before the grid, which reads it

Needs `pip install 'ropegen[bench,torch]'` and a C++ compiler for torch. cpu.json is written after each point, so an
interrupted run goes on where it was. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from cpu_grid import LENGTHS, PROBE_LENGTH, SHAPES, Point, grid
from cpu_limits import measure_limits
from cpu_tables import BEHIND, picture, tables
from cpu_tiles import fastest, text
from results import say, write

import ropegen as rg
from ropegen import bench
from ropegen.bench import attention, torch_attention

QUICK_LENGTHS, QUICK_SHAPES = (512, 2048), ((8, 2, 128),)
PARTS = ("limits", "forward", "backward")

# Of torch's variants, one that took this many times the best at the probe's length is left out at the others of the same
# shape, type, mask and direction, because each takes torch seconds to compile.
HOPELESS = 1.25


def measure(
    point: Point, probe: dict[str, Any] | None, seconds: float, progress: Callable[[str], None]
) -> dict[str, Any]:
    """The race of one point; `probe` is what the series' probe length found."""
    graph, grad = point.graph(), point.direction == "backward"
    site = attention.attention_of(graph)
    assert isinstance(site, attention.Attention)
    compiled = rg.plan(graph, "host").compile()
    runners, left_out = bench.contenders(compiled, ["jax"], grad=grad, progress=progress)
    wanted, hopeless = torch_variants(probe)
    drawn = attention.draw(graph, grad=grad)
    rivals, refused = torch_attention.contenders(site, drawn, progress, only=wanted)
    race = bench.race([*runners, *rivals], tolerance=bench.tolerance(graph), seconds=seconds, progress=progress)
    found = bench.as_data(race, [*left_out, *refused, *hopeless])
    return {"measured": now(), "load": round(os.getloadavg()[0], 2), **found}


def torch_variants(probe: dict[str, Any] | None) -> tuple[list[str] | None, list[bench.LeftOut]]:
    """Torch's variants worth a race beside what the probe found, None for all; and the others, with the reason."""
    if probe is None or "error" in probe:
        return None, []
    times = {each["name"]: each["median"] for each in probe["contenders"] if each["name"].startswith("torch")}
    best = min(times.values(), default=0.0)
    wanted = [name for name, median in times.items() if median <= HOPELESS * best]
    left_out = [
        bench.LeftOut(name, f"{median / best:.2f} {BEHIND} S={PROBE_LENGTH}")
        for name, median in times.items()
        if name not in wanted
    ]
    left_out += [
        bench.LeftOut(each["name"], each["reason"]) for each in probe["left_out"] if each["name"].startswith("torch")
    ]
    return wanted, left_out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only",
        choices=(*PARTS, "tables", "tiles"),
        action="append",
        help="a part of the work; repeatable (default: all but tiles)",
    )
    parser.add_argument(
        "--lengths", metavar="S,S,...", help=f"sequence lengths (default: {','.join(map(str, LENGTHS))})"
    )
    parser.add_argument("--seconds", type=float, default=2.0, help="of timing for a point (default: 2)")
    parser.add_argument(
        "--quick", action="store_true", help="two lengths, one shape, half a second a point, short limits"
    )
    parser.add_argument("--again", action="store_true", help="forget what cpu.json holds of the parts asked for")
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent, help="where the results are")
    options = parser.parse_args()
    lengths = (
        tuple(map(int, options.lengths.split(","))) if options.lengths else QUICK_LENGTHS if options.quick else LENGTHS
    )
    shapes = QUICK_SHAPES if options.quick else SHAPES
    seconds = 0.5 if options.quick else options.seconds
    parts = options.only or list(PARTS)
    if "tiles" in parts:
        measure_tiles(grid(["forward"], lengths, shapes), seconds / 2)
        parts = [each for each in parts if each != "tiles"]
        if not parts:
            return 0
    path = options.folder / "cpu.json"
    options.folder.mkdir(parents=True, exist_ok=True)
    bench.pyplot()  # refuse now what would be refused at the end
    attention.import_torch()
    results = opened(path, options.again)

    def keep() -> None:
        results["date"] = now()
        write(path, json.dumps(results, indent=1) + "\n")

    if "limits" in parts and (options.again or not results["limits"]):
        results["limits"] = measure_limits(options.quick, say)
        keep()
    points = grid([each for each in ("forward", "backward") if each in parts], lengths, shapes)
    if options.again:
        for point in points:
            results["points"].pop(point.key, None)
    for number, point in enumerate(points, 1):
        if point.key in results["points"]:
            continue
        say(f"{number} of {len(points)}: {point.key}")
        probe = results["points"].get(f"{point.series} {PROBE_LENGTH}")
        try:
            found = measure(point, probe, seconds, lambda doing: None)
        except rg.RopegenError as error:  # contenders that disagree: said in the tables, and by the exit code
            found = {"measured": now(), "error": str(error)}
            say(f"  {error}")
        results["points"][point.key] = found | {"series": point.series, "length": point.length}
        keep()
        jax.clear_caches()
        gc.collect()
    write(options.folder / "cpu.md", tables(results))
    picture(results, options.folder / "cpu.png")
    return int(any("error" in each for each in results["points"].values()))


def measure_tiles(points: Sequence[Point], seconds: float) -> None:
    """Writes the table that the planner reads; the points are measured by the cost model's choice and its rivals."""
    entries: list[dict[str, Any]] = []
    for number, point in enumerate(points, 1):
        say(f"{number} of {len(points)}: {point.key}")
        entries += fastest(point.graph(), point.key, seconds, say)
        jax.clear_caches()
        gc.collect()
    write(Path(rg.__file__).resolve().parent / "tiles" / "cpu.json", text(entries))


def opened(path: Path, again: bool) -> dict[str, Any]:
    """What was measured so far; on another machine or with other versions it cannot be gone on with."""
    fresh: dict[str, Any] = {"machine": bench.machine(), "date": now(), "limits": {}, "points": {}}
    if not path.is_file():
        return fresh
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["machine"] == fresh["machine"]:
        return found
    if again:
        return fresh
    sys.exit(
        f"error: {path} is from another machine or other versions ({found['machine']}); --again measures anew, --folder DIR "
        "writes elsewhere"
    )


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


if __name__ == "__main__":
    sys.exit(main())
