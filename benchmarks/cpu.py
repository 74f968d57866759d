#!/usr/bin/env python3
"""Attention on CPU against torch and jax.nn: measures the grid and writes cpu.json, cpu.md and cpu.png beside this file.

    python3 benchmarks/cpu.py                             measure what cpu.json lacks; about half an hour on two cores
    python3 benchmarks/cpu.py --only forward --lengths 512,4096
    python3 benchmarks/cpu.py --quick --folder /tmp/quick  measure a small grid, to see that all of it runs
    python3 benchmarks/cpu.py --again                     measure everything again
    python3 benchmarks/cpu.py --only tables               write cpu.md and cpu.png from cpu.json
    python3 benchmarks/cpu.py --only tiles                measure ropegen/tiles/cpu.json again; do this before the grid

The script needs `pip install '.[bench,torch]'` and a C++ compiler for torch. It writes cpu.json after every point,
so an interrupted run continues where it stopped. No other work should run on the machine meanwhile.
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
from cpu_tiles import fastest
from results import say, write

import ropegen as rg
from ropegen import bench, tiles
from ropegen.bench import attention, torch_attention
from ropegen.target import Target

QUICK_LENGTHS, QUICK_SHAPES = (512, 2048), ((8, 2, 128),)
PARTS = ("limits", "forward", "backward")

# While another contender runs, idle threads of torch's OpenMP should sleep: they would take its cores otherwise. torch's own
# times stay the same. It reads the settings when it is imported.
os.environ |= {"OMP_WAIT_POLICY": "passive", "KMP_BLOCKTIME": "0"}

# If a variant of torch takes this many times as long as the best one at the probe's length, it is left out at the other
# lengths of the same series, because torch takes seconds to compile every variant.
HOPELESS = 1.25


def measure(
    point: Point, probe: dict[str, Any] | None, seconds: float, progress: Callable[[str], None]
) -> dict[str, Any]:
    """The race of one point; `probe` is the entry of the series' probe length, if there is one."""
    graph, grad = point.graph(), point.direction == "backward"
    site = attention.attention_of(graph)
    assert isinstance(site, attention.Attention)
    compiled = rg.plan(graph, "host").compile()
    runners, left_out = bench.contenders(compiled, ["jax"], grad=grad, progress=progress)
    wanted, hopeless = torch_variants(probe)
    drawn = attention.draw(graph, grad=grad)
    rivals, refused = torch_attention.contenders(site, drawn, progress, only=wanted)
    race = bench.race([*runners, *rivals], tolerance=bench.tolerance(graph), seconds=seconds, progress=progress)
    facts = bench.as_data(race, [*left_out, *refused, *hopeless])
    return {"measured": now(), "load": round(os.getloadavg()[0], 2), **facts}


def torch_variants(probe: dict[str, Any] | None) -> tuple[list[str] | None, list[bench.LeftOut]]:
    """The names of torch's variants that are fast enough to race (None: all), and the other variants with the reason."""
    if probe is None or "error" in probe:
        return None, []
    times = {timing["name"]: timing["median"] for timing in probe["contenders"] if timing["name"].startswith("torch")}
    best = min(times.values(), default=0.0)
    wanted = [name for name, median in times.items() if median <= HOPELESS * best]
    left_out = [
        bench.LeftOut(name, f"{median / best:.2f} {BEHIND} S={PROBE_LENGTH}")
        for name, median in times.items()
        if name not in wanted
    ]
    left_out += [
        bench.LeftOut(contender["name"], contender["reason"])
        for contender in probe["left_out"]
        if contender["name"].startswith("torch")
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
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of timing per point (default: 2)")
    parser.add_argument(
        "--quick", action="store_true", help="two lengths, one shape, half a second per point, short limits"
    )
    parser.add_argument("--again", action="store_true", help="forget the results of the chosen parts in cpu.json")
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).resolve().parent, help="the folder of the results"
    )
    options = parser.parse_args()
    lengths = (
        tuple(map(int, options.lengths.split(","))) if options.lengths else QUICK_LENGTHS if options.quick else LENGTHS
    )
    shapes = QUICK_SHAPES if options.quick else SHAPES
    seconds = 0.5 if options.quick else options.seconds
    parts = options.only or list(PARTS)
    if "tiles" in parts:
        measure_tiles(grid(["forward"], lengths, shapes), seconds / 2)
        parts = [part for part in parts if part != "tiles"]
        if not parts:
            return 0
    path = options.folder / "cpu.json"
    options.folder.mkdir(parents=True, exist_ok=True)
    bench.pyplot()  # fails now if matplotlib is missing, rather than at the end
    attention.import_torch()
    results = opened(path, options.again)

    def keep() -> None:
        results["date"] = now()
        write(path, json.dumps(results, indent=1) + "\n")

    if "limits" in parts and (options.again or not results["limits"]):
        results["limits"] = measure_limits(options.quick, say)
        keep()
    points = grid([direction for direction in ("forward", "backward") if direction in parts], lengths, shapes)
    if options.again:
        for point in points:
            results["points"].pop(point.key, None)
    for number, point in enumerate(points, 1):
        if point.key in results["points"]:
            continue
        say(f"{number} of {len(points)}: {point.key}")
        probe = results["points"].get(f"{point.series} {PROBE_LENGTH}")
        try:
            entry = measure(point, probe, seconds, lambda doing: None)
        except rg.RopegenError as error:  # contenders disagree: the tables and the exit code report it
            entry = {"measured": now(), "error": str(error)}
            say(f"  {error}")
        results["points"][point.key] = entry | {"series": point.series, "length": point.length}
        keep()
        jax.clear_caches()
        gc.collect()
    write(options.folder / "cpu.md", tables(results))
    picture(results, options.folder / "cpu.png")
    return int(any("error" in entry for entry in results["points"].values()))


def measure_tiles(points: Sequence[Point], seconds: float) -> None:
    """Write the table of tiles that the planner reads: at every point the cost model's tile races other tiles.

    The entries of other chips and other numbers of cores stay in the table.
    """
    target = Target.host()
    if target.platform != "cpu":
        sys.exit(f"error: this machine is {target}, and the tiles of this benchmark are for CPU")
    path = Path(rg.__file__).resolve().parent / "tiles" / tiles.shipped_name(target)
    entries = [entry for entry in tiles.load(path).entries if entry.target != target] if path.is_file() else []
    for number, point in enumerate(points, 1):
        say(f"{number} of {len(points)}: {point.key}")
        entries += fastest(point.graph(), point.key, target, seconds, say)
        jax.clear_caches()
        gc.collect()
    write(path, tiles.dump(entries).decode())


def opened(path: Path, again: bool) -> dict[str, Any]:
    """The results so far; exits if they come from another machine or other versions, because they cannot be continued."""
    fresh: dict[str, Any] = {"machine": bench.machine(), "date": now(), "limits": {}, "points": {}}
    if not path.is_file():
        return fresh
    results = json.loads(path.read_text(encoding="utf-8"))
    if results["machine"] == fresh["machine"]:
        return results
    if again:
        return fresh
    sys.exit(
        f"error: {path} is from another machine or other versions ({results['machine']}); --again measures everything again, "
        "--folder DIR writes elsewhere"
    )


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


if __name__ == "__main__":
    sys.exit(main())
