#!/usr/bin/env python3
"""Judges and times kernels for NVIDIA's GPUs.

    python3 benchmarks/gpu.py --static            without a GPU: machine code against the gate; writes gpu.json and gpu.md
    python3 benchmarks/gpu.py --static --sites 20 --chips h200
    python3 benchmarks/gpu.py                     on an H100 or H200, at most eight minutes: writes gpu_times.json
    python3 benchmarks/gpu.py --dry               the same jobs without a GPU: they are lowered, and nothing is timed

Both parts need `pip install "jax[cuda13]" nvidia-cuda-nvdisasm`. gpu.json keeps a run for every version of jax and chip.
On a GPU, every kernel runs in a process of its own with 20 seconds, because a deadlock hangs; a short table comes last.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from pathlib import Path
from typing import Any

import gpu_static as static
import gpu_timed as timed
from results import write

from ropegen.compilers import cuda
from ropegen.errors import RopegenError


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--static", action="store_true", help="compile without a GPU, and judge the machine code")
    parser.add_argument("--dry", action="store_true", help="lower the jobs of a GPU without one, and time nothing")
    parser.add_argument("--chips", default=",".join(static.CHIPS), metavar="CHIP,...", help="for --static")
    parser.add_argument("--sites", type=int, default=200, metavar="N", help="drawn sites for --static (default: 200)")
    parser.add_argument("--minutes", type=float, default=8, help="the time on a GPU (default: 8)")
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent, help="of the results")
    options = parser.parse_args()
    if not options.static:
        return timed.run(options.folder, options.minutes, dry=options.dry)
    try:
        cuda.tools()
    except RopegenError as error:
        parser.error(str(error))
    path: Path = options.folder / "gpu.json"
    runs: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    about, failed = static.versions(), False
    for chip in options.chips.split(","):

        def keep(entries: list[static.Entry], chip: str = chip) -> None:
            date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
            head = {**about, "chip": chip, "date": date, "sites": options.sites}
            runs[f"jax {about['jax']}, {chip}"] = {**head, "entries": entries}
            write(path, as_text(runs))
            write(options.folder / "gpu.md", static.page(runs))

        entries = static.measured(chip, options.sites, keep)
        keep(entries)
        failed |= any(static.outcome(entry) == "FAIL" for entry in entries if entry["judged"])
    return int(failed)


def as_text(runs: dict[str, Any]) -> str:
    """The runs as JSON, one line per entry."""
    parts: list[str] = []
    for version, run in runs.items():
        head = {name: value for name, value in run.items() if name != "entries"}
        lines = ",\n".join(f"  {json.dumps(entry)}" for entry in run["entries"])
        parts.append(f'{json.dumps(version)}: {json.dumps(head)[:-1]}, "entries": [\n{lines}\n]}}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main())
