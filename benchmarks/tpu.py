#!/usr/bin/env python3
"""Kernels for TPU by libtpu's schedules, with no TPU: writes tpu.json and tpu.md beside this file.

    python3 benchmarks/tpu.py                           what tpu.json does not hold yet; an hour or so on two quiet cores
    python3 benchmarks/tpu.py --only forward --only backward --chips v5e,v7x
    python3 benchmarks/tpu.py --minutes 1.3             stop after so long; the next call goes on (exit code 3: more is left)
    python3 benchmarks/tpu.py --changed                 anew what was measured with other templates than are here now
    python3 benchmarks/tpu.py --only tiles --changed    and the tables ropegen/tiles/tpu-CHIP.json
    python3 benchmarks/tpu.py --quick --folder /tmp/quick  one chip, four sites, one table of two tiles, kept in that folder
    python3 benchmarks/tpu.py --only tables             tpu.md from tpu.json

The parts: `forward` and `backward` are attention beside jax's flash and splash attention, `steps` the steps of the grid,
`cases` and `sites` what compiles, `tiles` the fastest tile of each common site. Schedules are the compiler's, equal from
run to run, so other work on the machine changes no figure. Needs libtpu: `pip install libtpu`, or apart from this
environment `pip install --no-deps --target DIR libtpu` and --libtpu DIR.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import tpu_jobs as jobs
from results import say, write
from tpu_modules import DeclinedError, Job
from tpu_schedules import kernel_facts
from tpu_tables import tables

from ropegen.compilers import tpu
from ropegen.errors import RopegenError

CHIPS = tuple(tpu.TOPOLOGIES)
# Modules that one process of the compiler is given, so that its start is not most of the time.
BATCH = 6
# The kernels that are looked at; the others of a module are XLA's own.
PALLAS = ("ropegen_", "flash_attention", "splash_")


@dataclass
class Work:
    """What is to be compiled, how many processes do it, and until when."""

    results: dict[str, Any]
    keep: Callable[[], None]
    libtpu: Path
    processes: int
    until: float
    took: dict[str, list[float]] = field(default_factory=dict[str, "list[float]"])
    stopped: bool = False

    def run(self, part: str, wanted: Sequence[Job]) -> None:
        """Compiles the jobs that have no result yet, batches of one chip, and stores each."""
        entries = self.results["entries"].setdefault(part, {})
        for job in wanted if part == "steps" else ():
            entries.get(key_of(job), {}).update(visited=job.facts().get("visited"))
        # The planner's tile is another one once the tables are.
        other = {
            key_of(job)
            for job in wanted
            if part == "forward" and job.facts().get("tile") != entries.get(key_of(job), {}).get("tile")
        }
        missing = [job for job in wanted if key_of(job) not in entries or key_of(job) in other]
        if not missing:
            return
        say(f"{part}: {len(missing)} of {len(wanted)} modules")
        started, done = time.monotonic(), 0
        with ThreadPoolExecutor(self.processes) as pool:
            running: dict[Future[dict[str, Any]], list[Job]] = {}
            for batch in batches(missing):
                if self.is_over(part, len(batch)):
                    self.stopped = True
                    break
                modules: dict[str, bytes] = {}
                for job in batch:
                    try:
                        modules[job.key] = job.make()
                    except DeclinedError as reason:
                        entries[key_of(job)] = entry(job, {"declined": str(reason)})
                    except (RopegenError, ValueError, NotImplementedError, TypeError) as error:
                        entries[key_of(job)] = entry(job, {"error": f"not lowered: {first_line(error)}"})
                first = batch[0]
                running[pool.submit(compiled, modules, first.chip, self.libtpu, first.scheduled)] = batch
                if len(running) >= self.processes:
                    done += self.collect(part, running, entries)
                    spent = time.monotonic() - started
                    left = (len(missing) - done) * spent / max(done, 1)
                    say(f"  {done} of {len(missing)} after {spent:.0f} s; about {left / 60:.1f} minutes to go")
            while running:
                done += self.collect(part, running, entries)

    def is_over(self, part: str, count: int) -> bool:
        each = self.took.get(part, [])
        return time.monotonic() + (sum(each) / len(each) * count if each else 0.0) > self.until

    def collect(self, part: str, running: dict[Future[dict[str, Any]], list[Job]], entries: dict[str, Any]) -> int:
        """Stores what has ended, as soon as something has."""
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        count = 0
        for future in ended:
            batch, found = running.pop(future), future.result()
            self.took.setdefault(part, []).append(found["seconds"] / max(len(batch), 1))
            for job in batch:
                if job.key in found["modules"]:
                    entries[key_of(job)] = entry(job, found["modules"][job.key])
                    if "error" in found["modules"][job.key]:
                        say(f"  {key_of(job)}: {found['modules'][job.key]['error']}")
            count += len(batch)
        self.keep()
        return count


def batches(wanted: Sequence[Job]) -> Iterator[list[Job]]:
    """Jobs of one chip together; the chips take turns, so that an interrupted run has something of each."""
    window = BATCH * len(CHIPS)
    for start in range(0, len(wanted), window):
        chips: dict[str, list[Job]] = {}
        for job in wanted[start : start + window]:
            chips.setdefault(job.chip, []).append(job)
        for mine in chips.values():
            for first in range(0, len(mine), BATCH):
                yield mine[first : first + BATCH]


def compiled(modules: dict[str, bytes], chip: str, libtpu: Path, scheduled: bool) -> dict[str, Any]:
    """What the compiler says of each module; where it falls over one, the others are compiled without it."""
    start = time.monotonic()
    found: dict[str, Any] = {}
    try:
        options: dict[str, Any] = {"libtpu": libtpu, "seconds": 600, "schedules": scheduled}
        done = tpu.compile_modules(modules, chip, **options) if modules else None
    except RopegenError as error:
        if len(modules) == 1:
            found = {key: {"error": str(error)} for key in modules}
        else:
            for key, content in modules.items():
                found |= compiled({key: content}, chip, libtpu, scheduled)["modules"]
        done = None
    if done is not None:
        found = {key: {"error": first_line(said)} for key, said in done.errors.items()}
        for key, each in done.modules.items():
            of_pallas = [kernel for kernel in each.kernels if kernel.name.startswith(PALLAS)]
            try:
                kernels = {"kernels": [*map(kernel_facts, of_pallas)]} if scheduled else {}
                found[key] = {**kernels, "devices": done.devices_per_chip}
            except ValueError as error:
                found[key] = {"error": f"compiled, and its schedule is not understood: {error}"}
    return {"modules": found, "seconds": time.monotonic() - start}


def key_of(job: Job) -> str:
    return f"{job.key} on {job.chip}"


def entry(job: Job, found: dict[str, Any]) -> dict[str, Any]:
    return {"chip": job.chip, "what": job.key, **job.facts(), **found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", choices=(*jobs.PARTS, "tables"), action="append", help="a part of the work; repeatable (default: all)"
    )
    parser.add_argument("--chips", metavar="CHIP,...", help=f"default: {','.join(CHIPS)}")
    parser.add_argument("--sites", type=int, default=200, metavar="N", help="drawn sites (default: 200)")
    parser.add_argument("--quick", action="store_true", help="v5e, four drawn sites, two tiles of one site")
    parser.add_argument("--again", action="store_true", help="forget what tpu.json holds of the parts asked for")
    parser.add_argument("--changed", action="store_true", help="forget what other templates than those here gave")
    parser.add_argument("--minutes", type=float, help="stop cleanly after so long, with exit code 3 where more is left")
    parser.add_argument(
        "--processes", type=int, default=min(2, os.cpu_count() or 1), help="of the compiler at a time (default: two)"
    )
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent, help="where the results are")
    parser.add_argument(
        "--libtpu", metavar="DIR", help="the folder that holds the package libtpu (default: this Python's)"
    )
    options = parser.parse_args()
    chips = tuple(options.chips.split(",")) if options.chips else CHIPS[1:2] if options.quick else CHIPS
    for chip in chips:
        if chip not in CHIPS:
            parser.error(f"no chip {chip!r}; there are {', '.join(CHIPS)}")
    parts = options.only or list(jobs.PARTS)
    begin = time.monotonic()
    try:
        libtpu = tpu.libtpu_folder(options.libtpu)
    except RopegenError as error:
        parser.error(str(error))
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "tpu.json"
    compiler = {"libtpu": tpu.libtpu_version(libtpu), "jax": jax.__version__}
    results = opened(path, compiler, options.again)
    forget(results, parts, options.again, options.changed)

    def keep() -> None:
        results["date"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        write(path, as_text(results))

    until = begin + 60 * options.minutes if options.minutes else float("inf")
    work = Work(results, keep, libtpu, options.processes, until)
    sites = 4 if options.quick else options.sites
    for part in (each for each in jobs.PARTS if each in parts and not work.stopped):
        wanted, facts = jobs.PARTS[part](chips, sites, options.quick)
        results["facts"][part] = results["facts"].get(part, {}) | facts
        results["facts"][part]["modules"] = len(wanted)
        work.run(part, wanted)
        keep()
        if part == "tiles":
            folder = options.folder if options.quick else jobs.TABLES
            for name, content in jobs.tile_tables(results, chips, compiler["libtpu"]).items():
                write(folder / name, content)
    write(options.folder / "tpu.md", tables(results))
    if work.stopped:
        return 3
    return int(any("error" in each for entries in results["entries"].values() for each in entries.values()))


def opened(path: Path, compiler: dict[str, str], again: bool) -> dict[str, Any]:
    """What was found so far; with another compiler it cannot be gone on with."""
    fresh: dict[str, Any] = {"compiler": compiler, "date": "", "facts": {}, "entries": {}}
    if not path.is_file():
        return fresh
    found = json.loads(path.read_text(encoding="utf-8"))
    if found["compiler"] == compiler:
        return found
    if again:
        return fresh
    sys.exit(
        f"error: {path} is by {found['compiler']}, and here is {compiler}; --again compiles anew, --folder DIR writes elsewhere"
    )


def as_text(results: dict[str, Any]) -> str:
    """One line a result."""
    parts: list[str] = []
    for part, entries in results["entries"].items():
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(each)}" for key, each in entries.items())
        parts.append(f" {json.dumps(part)}: {{\n{lines}\n }}")
    head = ",\n".join(f"{json.dumps(name)}: {json.dumps(results[name])}" for name in ("compiler", "date", "facts"))
    body = ",\n".join(parts)
    return f'{{\n{head},\n"entries": {{\n{body}\n}}\n}}\n'


def forget(results: dict[str, Any], parts: Sequence[str], again: bool, changed: bool) -> None:
    """What is to be found anew."""
    for part in parts:
        entries = results["entries"].get(part, {})
        for key, each in list(entries.items()):
            if again or (changed and jobs.is_older(each)):
                del entries[key]


def first_line(said: object) -> str:
    text = str(said).strip()
    return text.partition("\n")[0][:300]


if __name__ == "__main__":
    sys.exit(main())
