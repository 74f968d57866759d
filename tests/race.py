"""Builders that are killed, and builders and readers of one artifact at once.

`python tests/race.py 200 60` kills 200 builders at random moments, by SIGKILL and by SIGTERM in turn. Then two builders
replace an artifact for 60 seconds while four readers load it. It prints how often the artifact did not load, and what was
left beside it in the end.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Children start from a process that has imported ropegen and has no threads.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["ropegen"])
START = 600.0  # a child starts within so many seconds, on a busy machine too
KILLED_WITHIN = 0.6  # seconds after the first build of a child


@dataclass(frozen=True)
class Counts:
    """What happened. `false_alarms` says why the artifact did not load, where it should have."""

    kills: int
    builds: int
    loads: int
    interrupted: int
    """Kills after which something stood beside the artifact, until the next builder came."""
    false_alarms: tuple[str, ...]
    left_over: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.kills:,} kills, {self.interrupted:,} of them in the middle; {self.builds:,} builds; {self.loads:,} "
            f"loads; {len(self.false_alarms)} false alarms {self.false_alarms[:3]}; left over: {list(self.left_over)}"
        )


def graph(theta: float) -> Any:
    import ropegen as rg

    b = rg.Builder("turned")
    return b.build(out=b.rope(b.input("x", (1, 4, 2, 8), "f32"), b.positions(4), rg.Rope(theta, pairing="half")))


def replace(target: Path, folders: tuple[Path, ...], count: Any) -> None:
    """Puts the files of two artifacts in place by turns: the part of a build in which a kill can do harm."""
    from ropegen.emit.artifact import place
    from ropegen.emit.artifact.write import expect_replaceable

    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    for files in itertools.cycle(contents):
        place.put(files, target, expect_replaceable)
        count.value += 1


def build(target: Path, folders: tuple[Path, ...], count: Any) -> None:
    """Builds two artifacts by turns, as users do."""
    import ropegen as rg

    for theta in itertools.cycle((100.0, 110.0)):
        rg.export(graph(theta), target, targets=["cpu"])
        count.value += 1


def read(target: Path, alarms: Any, count: Any) -> None:
    """Loads the artifact again and again."""
    import ropegen as rg

    while True:
        try:
            rg.load(target)
        except rg.RopegenError as error:
            alarms.put(str(error))
        count.value += 1


def started(work: Callable[..., None], *arguments: Any) -> tuple[Any, Any]:
    """A child process that has done its work once, and the count of how often it did it."""
    count = CONTEXT.Value("q", 0)
    child = CONTEXT.Process(target=work, args=(*arguments, count), daemon=True)
    child.start()
    until = time.monotonic() + START
    while not count.value:
        assert child.is_alive(), f"{work.__name__} ended with {child.exitcode}"
        assert time.monotonic() < until, f"{work.__name__} does not start"
        time.sleep(0.01)
    return child, count


def beside(target: Path) -> tuple[str, ...]:
    """What stands beside an artifact."""
    return tuple(sorted(path.name for path in target.parent.iterdir() if path.name != target.name))


def kill(folders: tuple[Path, ...], room: Path, kills: int) -> Counts:
    """Kills so many builders, one in eight of which builds from the graph, and loads the artifact after every kill."""
    import ropegen as rg

    draw = random.Random(0)
    target = room / "killed" / "kernels"
    builds = interrupted = 0
    alarms: list[str] = []
    for number in range(kills):
        child, count = started(build if number % 8 == 7 else replace, target, folders)
        time.sleep(draw.random() * KILLED_WITHIN)
        os.kill(child.pid, (signal.SIGKILL, signal.SIGTERM)[number % 2])
        child.join()
        builds += count.value
        interrupted += bool(beside(target))
        try:
            rg.load(target)
        except rg.RopegenError as error:
            alarms.append(str(error))
    rg.export(graph(100.0), target, targets=["cpu"])  # the next builder removes what dead ones left
    return Counts(kills, builds, kills, interrupted, tuple(alarms), beside(target))


def race(folders: tuple[Path, ...], room: Path, seconds: float) -> Counts:
    """Two builders and four readers of one artifact."""
    import ropegen as rg

    target = room / "raced" / "kernels"
    alarms = CONTEXT.Queue()
    writers = [started(work, target, folders) for work in (replace, build)]
    readers = [started(read, target, alarms) for _ in range(4)]
    time.sleep(seconds)
    for child, _ in (*readers, *writers):
        child.kill()
        child.join()
    said = []
    while not alarms.empty():
        said.append(alarms.get())
    rg.export(graph(100.0), target, targets=["cpu"])
    builds, loads = (sum(count.value for _, count in children) for children in (writers, readers))
    return Counts(0, builds, loads, 0, tuple(said), beside(target))


def run(kills: int, seconds: float) -> Iterator[Counts]:
    """The counts of the kills, then those of the race."""
    import ropegen as rg

    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        folders = (room / "one", room / "other")
        for theta, folder in zip((100.0, 110.0), folders, strict=True):
            rg.export(graph(theta), folder, targets=["cpu"])
        yield kill(folders, room, kills)
        yield race(folders, room, seconds)


if __name__ == "__main__":
    failed = False
    for counts in run(int(sys.argv[1]), float(sys.argv[2])):
        print(counts, flush=True)
        failed = failed or bool(counts.false_alarms or counts.left_over)
    sys.exit(failed)
