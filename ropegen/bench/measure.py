"""Interleaved timing: every contender in every round, so that what slows the machine down slows all of them.

A round runs each contender once, and the order turns by one from round to round. A sample is the mean of as many
calls as fill a few milliseconds. Before any of it, the results of all contenders are compared: a fast wrong kernel
has no time.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ropegen.errors import RopegenError, nearest

# Shorter calls are repeated within a sample, so that the clock and what a neighbour left in the caches matter little.
SAMPLE_SECONDS = 0.01
MOST_CALLS = 10_000
# Samples that even a slow contender gets, unless one call alone uses up its share of the time.
FEWEST_SAMPLES = 3
# Worker threads of one runtime go on spinning for a moment after a call; the next contender should not share cores.
PAUSE_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to compute the same: `call` runs it to completion, `arrays` gives its results by name for comparison."""

    name: str
    call: Callable[[], Any]
    arrays: Callable[[Any], Mapping[str, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds a call: one entry a sample; a sample is the mean over `calls` calls."""

    name: str
    samples: tuple[float, ...]
    calls: int = 1

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and third quartile; the sample itself where there is one."""
        low, high = np.quantile(self.samples, (0.25, 0.75))
        return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Race:
    """The timings of one run, the first contender's first; `differences` of the others' results from the first's.

    A difference is the largest over the rows of a result, see `difference`.
    """

    timings: tuple[Timing, ...]
    differences: Mapping[str, float]

    def __getitem__(self, name: str) -> Timing:
        for each in self.timings:
            if each.name == name:
                return each
        raise RopegenError(f"no contender {name!r} in this run; {nearest(name, [each.name for each in self.timings])}")

    def ratio(self, name: str, over: str) -> float:
        """How many times as long `name` takes as `over`, by their medians."""
        return self[name].median / self[over].median


def race(
    contenders: Sequence[Contender],
    *,
    tolerance: float,
    seconds: float = 5.0,
    repeats: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
    pause: Callable[[float], object] = time.sleep,
    progress: Callable[[str], None] = lambda doing: None,
) -> Race:
    """Compares the contenders' results with the first's, then times them in turns.

    `repeats` is the number of rounds. Without it each contender is run until it has used its equal share of `seconds`
    and has three samples; one whose single call takes longer than its share has that one sample.

    Raises:
      RopegenError: no contender, two of one name, numbers that are not positive, or results that differ by more than
        `tolerance`; then nothing is timed.
    """
    names = [each.name for each in contenders]
    if not names or len(set(names)) != len(names):
        raise RopegenError(f"bench: the contenders are {names}; give at least one, each of its own name")
    if seconds <= 0 or not math.isfinite(seconds) or (repeats is not None and repeats < 1):
        asked = f"{seconds:g} seconds" if repeats is None else f"{repeats} repeats"
        raise RopegenError(f"bench: {asked} cannot be measured; give a positive number")
    differences = compare(contenders, tolerance, progress)
    share = seconds / len(contenders)

    def sample(contender: Contender, calls: int) -> float:
        pause(PAUSE_SECONDS)
        start = clock()
        for _ in range(calls):
            contender.call()
        return (clock() - start) / calls

    samples: dict[str, list[float]] = {}
    calls: dict[str, int] = {}
    done: set[str] = set()
    for each in contenders:
        progress(f"warming up {each.name}")
        once = sample(each, 1)
        alone = repeats is None and once >= share
        samples[each.name] = [once] if alone else []
        calls[each.name] = 1 if alone else min(MOST_CALLS, max(1, math.ceil(SAMPLE_SECONDS / max(once, 1e-9))))
        if alone:
            done.add(each.name)
    spent = dict.fromkeys(names, 0.0)
    turn = 0
    while len(done) < len(names):
        first = turn % len(contenders)
        for each in (*contenders[first:], *contenders[:first]):
            name = each.name
            if name in done:
                continue
            progress(f"round {turn + 1}: {name}")
            found = sample(each, calls[name])
            samples[name].append(found)
            spent[name] += found * calls[name]
            enough = len(samples[name]) >= (FEWEST_SAMPLES if repeats is None else repeats)
            if enough and (repeats is not None or spent[name] >= share):
                done.add(name)
        turn += 1
    return Race(tuple(Timing(name, tuple(samples[name]), calls[name]) for name in names), differences)


def difference(found: np.ndarray, wanted: np.ndarray, least: float = 0.1) -> float:
    """The largest root mean square difference of a row, over that of the row itself; NaN where a result is.

    A row is the last axis. One that is smaller than `least` of the whole is measured by that, so that a row of zeros is no
    division by zero.
    """
    if found.shape != wanted.shape:
        raise RopegenError(f"bench: results of shape {found.shape} and {wanted.shape} cannot be compared")
    if not wanted.size:
        return 0.0
    rows = wanted.reshape(-1, wanted.shape[-1]) if wanted.ndim else wanted.reshape(1, 1)
    wide = rows.astype(np.float32) if rows.dtype.itemsize < 4 else rows
    error = np.sqrt(np.mean(np.square(found.reshape(rows.shape).astype(wide.dtype) - wide), axis=-1))
    size = np.sqrt(np.mean(np.square(wide), axis=-1))
    floor = least * float(np.sqrt(np.mean(np.square(size)))) or 1.0
    return float(np.max(error / np.maximum(size, floor)))


def compare(
    contenders: Sequence[Contender], tolerance: float, progress: Callable[[str], None] = lambda doing: None
) -> Mapping[str, float]:
    """How far each contender's results are from the first's, see `difference`.

    A row of a gradient (its name begins with "d_") that is smaller than the whole is measured by that: its sums may cancel
    to anything, and what is rounded before them does not.

    Raises:
      RopegenError: a difference of more than `tolerance`, or results of other names or shapes.
    """
    found: dict[str, float] = {}
    first: Mapping[str, np.ndarray] = {}
    for each in contenders:
        progress(f"compiling and comparing {each.name}")
        results = each.arrays(each.call())
        first = first or results
        if set(results) != set(first):
            raise RopegenError(
                f"bench: {each.name} gives {', '.join(results)}, {contenders[0].name} {', '.join(first)}; nothing was timed"
            )
        differences = {
            label: difference(value, first[label], 1.0 if label.startswith("d_") else 0.1)
            for label, value in results.items()
        }
        for label, value in differences.items():
            if not value <= tolerance:
                raise RopegenError(
                    f"bench: {label} of {each.name} differs from {contenders[0].name}'s by {value:.2e} in its worst row, and "
                    f"{tolerance:.2e} is allowed; nothing was timed, for one of the two is wrong"
                )
        if each is not contenders[0]:
            found[each.name] = max(differences.values(), default=0.0)
    return found
