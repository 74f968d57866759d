#!/usr/bin/env python3
"""Judges kernels for TPU by libtpu's schedules, without a TPU: writes tpu.json and tpu.md beside this file.

    python3 benchmarks/tpu.py                           compile what tpu.json lacks; about an hour on two quiet cores
    python3 benchmarks/tpu.py --only forward --only backward --chips v5e,v7x
    python3 benchmarks/tpu.py --minutes 1.3             stop after this time; the next call continues (exit code 3: not done)
    python3 benchmarks/tpu.py --changed                 compile again what lowers to another module since it was compiled
    python3 benchmarks/tpu.py --only tiles --changed    also write the tables ropegen/tiles/tpu-CHIP.json
    python3 benchmarks/tpu.py --quick --folder /tmp/quick  one chip, four sites, one table of two tiles, in that folder
    python3 benchmarks/tpu.py --only heads --only calibration --tokamax PYTHON
    python3 benchmarks/tpu.py --neighbours 5 --chips v5e  compare the tiles of drawn sites with their neighbours; not a part
    python3 benchmarks/tpu.py --only tables             write tpu.md from tpu.json

The parts: `forward` and `backward` compare attention with jax's flash and splash attention; `heads` compares whole heads
with those and with tokamax's splash attention; `calibration` compares schedules with the times that tokamax measured on
chips; `steps` counts the steps of the grid; `cases` and `sites` show what compiles; `tiles` picks the fastest tile of every
common site. Schedules come from the compiler and are equal in every run, so other work on the machine changes no figure.

The script needs libtpu: `pip install libtpu`, or outside this environment `pip install --no-deps --target DIR libtpu` and
--libtpu DIR. tokamax has an environment of its own, which `tpu_tokamax.py` describes; without --tokamax, its results stay.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
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
import tpu_heads
import tpu_jobs as jobs
import tpu_neighbours
from results import say, write
from tpu_modules import CHIPS, DeclinedError, Job
from tpu_schedules import kernel_facts
from tpu_tables import tables

from ropegen.compilers import tpu
from ropegen.errors import RopegenError

# The number of modules for one process of the compiler, so that its start does not take most of the time.
BATCH = 6
# The name prefixes of the kernels to look at; the other kernels of a module are XLA's own.
PALLAS = ("ropegen_", "flash_attention", "splash_")
# What a result has besides the facts of its job.
RESULT = ("kernels", "devices", "module", "error")
PARTS = (*jobs.PARTS, "calibration")


@dataclass
class Work:
    """Compiles jobs with a number of processes until a point in time, and keeps the results."""

    results: dict[str, Any]
    keep: Callable[[], None]
    libtpu: Path
    processes: int
    until: float
    tokamax: str | None = None
    """The Python of the environment that has tokamax; its configurations are left out without it."""
    changed: bool = False
    """Whether results of other versions of the templates are compiled again, unless they lower to the same module."""
    digests: dict[str, str] = field(default_factory=dict[str, str])
    took: dict[str, list[float]] = field(default_factory=dict[str, "list[float]"])
    stopped: bool = False

    def run(self, part: str, wanted: Sequence[Job]) -> None:
        """Compile the jobs that have no result yet, in batches of one chip, and store their results."""
        entries = self.results["entries"].setdefault(part, {})
        for job in wanted if part == "steps" else ():
            entries.get(key_of(job), {}).update(visited=job.facts().get("visited"))
        # The planner's tile changes when the tables of tiles change.
        other = {
            key_of(job)
            for job in wanted
            if part in ("forward", "heads") and job.facts().get("tile") != entries.get(key_of(job), {}).get("tile")
        }
        if self.changed:
            other |= {key for key, known in entries.items() if jobs.is_older(known)}
        missing = [job for job in wanted if key_of(job) not in entries or key_of(job) in other]
        missing = [job for job in missing if job.foreign is None or self.tokamax is not None]
        if not missing:
            return
        say(f"{part}: {len(missing)} of {len(wanted)} modules")
        # Parts share some modules, and some templates change without changing a module.
        compiled_before = {
            (known["chip"], known["module"]): known
            for of_part in self.results["entries"].values()
            for known in of_part.values()
            if "module" in known
        }
        started, done = time.monotonic(), 0
        with ThreadPoolExecutor(self.processes) as pool:
            running: dict[Future[dict[str, Any]], list[Job]] = {}
            for batch in batches(missing):
                if self.is_over(part, len(batch)):
                    self.stopped = True
                    break
                if batch[0].foreign is not None:
                    assert self.tokamax is not None
                    told = {job.key: job.foreign for job in batch}
                    running[pool.submit(elsewhere, self.tokamax, told, batch[0].chip, self.libtpu)] = batch
                    done += self.turn(part, running, entries, len(missing) - done, started)
                    continue
                modules: dict[str, bytes] = {}
                for job in batch:
                    try:
                        content = job.make()
                        self.digests[key_of(job)] = hashlib.sha256(content).hexdigest()[:12]
                        known = compiled_before.get((job.chip, self.digests[key_of(job)]), {})
                        if known and ("kernels" in known or not job.scheduled):
                            entries[key_of(job)] = entry(job, {name: known[name] for name in RESULT if name in known})
                        else:
                            modules[job.key] = content
                    except DeclinedError as reason:
                        entries[key_of(job)] = entry(job, {"declined": str(reason)})
                    except (RopegenError, ValueError, NotImplementedError, TypeError) as error:
                        entries[key_of(job)] = entry(job, {"error": f"not lowered: {first_line(error)}"})
                first = batch[0]
                running[pool.submit(compiled, modules, first.chip, self.libtpu, first.scheduled)] = batch
                done += self.turn(part, running, entries, len(missing) - done, started)
            while running:
                done += self.collect(part, running, entries)

    def turn(
        self,
        part: str,
        running: dict[Future[dict[str, Any]], list[Job]],
        entries: dict[str, Any],
        left: int,
        start: float,
    ) -> int:
        """Wait until a process is free; return the number of jobs that ended, of those that are `left`."""
        if len(running) < self.processes:
            return 0
        count = self.collect(part, running, entries)
        say(f"  {left - count} left after {time.monotonic() - start:.0f} s")
        return count

    def is_over(self, part: str, count: int) -> bool:
        times = self.took.get(part, [])
        return time.monotonic() + (sum(times) / len(times) * count if times else 0.0) > self.until

    def collect(self, part: str, running: dict[Future[dict[str, Any]], list[Job]], entries: dict[str, Any]) -> int:
        """Wait until a batch ends, and store the results of all ended batches; return the number of their jobs."""
        ended, _ = wait(running, return_when=FIRST_COMPLETED)
        count = 0
        for future in ended:
            batch, result = running.pop(future), future.result()
            self.took.setdefault(part, []).append(result["seconds"] / max(len(batch), 1))
            for job in batch:
                if job.key in result["modules"]:
                    digest = {"module": self.digests[key_of(job)]} if key_of(job) in self.digests else {}
                    entries[key_of(job)] = entry(job, result["modules"][job.key] | digest)
                    if "error" in result["modules"][job.key]:
                        say(f"  {key_of(job)}: {result['modules'][job.key]['error']}")
            count += len(batch)
        self.keep()
        return count


def batches(wanted: Sequence[Job]) -> Iterator[list[Job]]:
    """The jobs in batches of one chip; the chips take turns, so that an interrupted run has results for every chip."""
    window = BATCH * len(CHIPS)
    for start in range(0, len(wanted), window):
        chips: dict[tuple[str, bool], list[Job]] = {}
        for job in wanted[start : start + window]:
            chips.setdefault((job.chip, job.foreign is not None), []).append(job)
        for mine in chips.values():
            for first in range(0, len(mine), BATCH):
                yield mine[first : first + BATCH]


def elsewhere(python: str, told: dict[str, Any], chip: str, libtpu: Path) -> dict[str, Any]:
    """The result of every configuration of tokamax, from the environment that has it."""
    start = time.monotonic()
    try:
        results = tpu_heads.ask(python, {"chip": chip, "libtpu": str(libtpu), "configurations": told})
    except tpu_heads.TokamaxError as error:
        results = {key: {"error": str(error)} for key in told}
    return {"modules": results, "seconds": time.monotonic() - start}


def compiled(modules: dict[str, bytes], chip: str, libtpu: Path, scheduled: bool) -> dict[str, Any]:
    """The compiler's result for every module; if a module crashes the compiler, the modules are compiled one by one."""
    start = time.monotonic()
    results: dict[str, Any] = {}
    try:
        options: dict[str, Any] = {"libtpu": libtpu, "seconds": 600, "schedules": scheduled}
        done = tpu.compile_modules(modules, chip, **options) if modules else None
    except RopegenError as error:
        if len(modules) == 1:
            results = {key: {"error": str(error)} for key in modules}
        else:
            for key, content in modules.items():
                results |= compiled({key: content}, chip, libtpu, scheduled)["modules"]
        done = None
    if done is not None:
        results = {key: {"error": first_line(said)} for key, said in done.errors.items()}
        for key, module in done.modules.items():
            of_pallas = [kernel for kernel in module.kernels if kernel.name.startswith(PALLAS)]
            try:
                kernels = {"kernels": [*map(kernel_facts, of_pallas)]} if scheduled else {}
                results[key] = {**kernels, "devices": done.devices_per_chip}
            except ValueError as error:
                results[key] = {"error": f"compiled, but its schedule has an unknown form: {error}"}
    return {"modules": results, "seconds": time.monotonic() - start}


def key_of(job: Job) -> str:
    return f"{job.key} on {job.chip}"


def entry(job: Job, result: dict[str, Any]) -> dict[str, Any]:
    return {"chip": job.chip, "what": job.key, **job.facts(), **result}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", choices=(*PARTS, "tables"), action="append", help="a part of the work; repeatable (default: all)"
    )
    parser.add_argument("--chips", metavar="CHIP,...", help=f"default: {','.join(CHIPS)}")
    parser.add_argument("--sites", type=int, default=200, metavar="N", help="the number of drawn sites (default: 200)")
    parser.add_argument("--quick", action="store_true", help="v5e, four drawn sites, two tiles of one site")
    parser.add_argument("--again", action="store_true", help="forget the results of the chosen parts in tpu.json")
    parser.add_argument(
        "--changed",
        action="store_true",
        help="compile again what other versions of the templates lowered to another module",
    )
    parser.add_argument("--minutes", type=float, help="stop after this time, with exit code 3 if work is left")
    parser.add_argument(
        "--processes",
        type=int,
        default=min(2, os.cpu_count() or 1),
        help="processes of the compiler at a time (default: two)",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).resolve().parent, help="the folder of the results"
    )
    parser.add_argument(
        "--libtpu", metavar="DIR", help="the folder that holds the package libtpu (default: this Python's)"
    )
    parser.add_argument(
        "--neighbours",
        type=int,
        metavar="N",
        help="instead of a part: compile the tiles of N drawn sites and their neighbours",
    )
    parser.add_argument(
        "--tokamax", metavar="PYTHON", help="the Python of an environment with tokamax, for `heads` and `calibration`"
    )
    options = parser.parse_args()
    chips = tuple(options.chips.split(",")) if options.chips else CHIPS[1:2] if options.quick else CHIPS
    for chip in chips:
        if chip not in CHIPS:
            parser.error(f"no chip {chip!r}; there are {', '.join(CHIPS)}")
    parts = options.only or ([tpu_neighbours.PART] if options.neighbours else list(PARTS))
    begin = time.monotonic()
    try:
        libtpu = tpu.libtpu_folder(options.libtpu)
    except RopegenError as error:
        parser.error(str(error))
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "tpu.json"
    compiler = {"libtpu": tpu.libtpu_version(libtpu), "jax": jax.__version__}
    results = opened(path, compiler, options.again)
    if options.again:
        results["entries"] = {part: known for part, known in results["entries"].items() if part not in parts}

    def keep() -> None:
        results["date"] = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        write(path, as_text(results))

    until = begin + 60 * options.minutes if options.minutes else float("inf")
    work = Work(results, keep, libtpu, options.processes, until, options.tokamax, options.changed)
    sites = 4 if options.quick else options.sites
    for part in (part for part in (*PARTS, tpu_neighbours.PART) if part in parts and not work.stopped):
        if part == tpu_neighbours.PART:
            wanted, facts = tpu_neighbours.jobs(chips, options.neighbours)
        elif part == "calibration":
            wanted, facts = (tpu_heads.calibration(options.tokamax) if options.tokamax else []), {}
        else:
            wanted, facts = jobs.PARTS[part](chips, sites, options.quick)
        if options.tokamax and part in ("heads", "calibration"):
            facts = facts | {"tokamax": tpu_heads.ask(options.tokamax, {"versions": True})}
        known = results["facts"].get(part, {})
        if "longer" in facts:  # it has the chosen chips alone
            others = {key: told for key, told in known.get("longer", {}).items() if key.rpartition(" ")[2] not in chips}
            facts = facts | {"longer": others | facts["longer"]}
        results["facts"][part] = known | facts
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
    # An anchor may not fit a chip; ropegen's kernels must.
    ours = (entry for known in results["entries"].values() for entry in known.values() if "anchor" not in entry)
    return int(any("error" in entry for entry in ours))


def opened(path: Path, compiler: dict[str, str], again: bool) -> dict[str, Any]:
    """The results so far; exits if they come from another compiler, because they cannot be continued."""
    fresh: dict[str, Any] = {"compiler": compiler, "date": "", "facts": {}, "entries": {}}
    if not path.is_file():
        return fresh
    results = json.loads(path.read_text(encoding="utf-8"))
    if results["compiler"] == compiler:
        return results
    if again:
        return fresh
    sys.exit(
        f"error: {path} comes from {results['compiler']}, and this compiler is {compiler}; --again compiles everything again, "
        "--folder DIR writes elsewhere"
    )


def as_text(results: dict[str, Any]) -> str:
    """The results as JSON, one line per entry."""
    parts: list[str] = []
    for part, entries in results["entries"].items():
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(entry)}" for key, entry in entries.items())
        parts.append(f" {json.dumps(part)}: {{\n{lines}\n }}")
    head = ",\n".join(f"{json.dumps(name)}: {json.dumps(results[name])}" for name in ("compiler", "date", "facts"))
    body = ",\n".join(parts)
    return f'{{\n{head},\n"entries": {{\n{body}\n}}\n}}\n'


def first_line(said: object) -> str:
    text = str(said).strip()
    return text.partition("\n")[0][:300]


if __name__ == "__main__":
    sys.exit(main())
