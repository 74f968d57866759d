"""Interleaved timing: every contender runs in every round, so that a slow moment of the machine slows all of them.

A round runs every contender once, and the order rotates by one from round to round. A sample is the mean of as many
calls as fill a few milliseconds. Timing starts only after the results of all contenders were compared, so a wrong kernel
gets no time.
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

# A sample repeats shorter calls, so that the clock and the previous contender's data in the caches matter little.
SAMPLE_SECONDS = 0.01
MOST_CALLS = 10_000
# Even a slow contender gets this many samples, unless one call alone uses up its share of the time.
FEWEST_SAMPLES = 3
# The worker threads of a runtime spin for a moment after a call; they should not take cores from the next contender.
PAUSE_SECONDS = 0.002


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to compute a result: `call` runs to completion; `arrays` turns what it returns into arrays by name."""

    name: str
    call: Callable[[], Any]
    arrays: Callable[[Any], Mapping[str, np.ndarray]]
    gradients: frozenset[str] = frozenset()
    """The names of the arrays that are gradients, see `compare`."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds per call, one entry per sample; a sample is the mean over `calls` calls."""

    name: str
    samples: tuple[float, ...]
    calls: int = 1

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and third quartile; with one sample, both are that sample."""
        low, high = np.quantile(self.samples, (0.25, 0.75))
        return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Race:
    """The timings of one run in the order of the contenders, and by how much the others' results differ from the first's.

    An entry of `differences` is the largest over the rows of a result, see `difference`.
    """

    timings: tuple[Timing, ...]
    differences: Mapping[str, float]

    def __getitem__(self, name: str) -> Timing:
        for timing in self.timings:
            if timing.name == name:
                return timing
        raise RopegenError(
            f"no contender {name!r} in this run; {nearest(name, [timing.name for timing in self.timings])}"
        )

    def ratio(self, name: str, over: str) -> float:
        """The median of `name` divided by the median of `over`."""
        return self[name].median / self[over].median

    def ratios(self, name: str, over: str) -> tuple[float, float] | None:
        """The quartiles of the ratio in one round; None if one of the two has fewer than three samples.

        In a round both run one after the other, so a slow moment of the machine changes their ratio less than their times.
        """
        both = [*zip(self[name].samples, self[over].samples, strict=False)]
        if len(both) < FEWEST_SAMPLES:
            return None
        low, high = np.quantile([one / other for one, other in both], (0.25, 0.75))
        return float(low), float(high)


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
    """Compare all results with the first contender's, then time the contenders in turns.

    `repeats` is the number of rounds. Without it a contender runs until it has used its equal share of `seconds` and has
    three samples; if a single call takes longer than the share, that call is its only sample.

    Raises:
      RopegenError: there is no contender, two have the same name, a number is not positive, or results differ by more
        than `tolerance`; then nothing is timed.
    """
    names = [contender.name for contender in contenders]
    if not names or len(set(names)) != len(names):
        raise RopegenError(f"bench: the contenders are {names}; give at least one, and no two of the same name")
    if not 0 < seconds < math.inf or (repeats is not None and repeats < 1):
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
    for contender in contenders:
        progress(f"warming up {contender.name}")
        once = sample(contender, 1)
        alone = repeats is None and once >= share
        samples[contender.name] = [once] if alone else []
        calls[contender.name] = 1 if alone else min(MOST_CALLS, max(1, math.ceil(SAMPLE_SECONDS / max(once, 1e-9))))
        if alone:
            done.add(contender.name)
    spent = dict.fromkeys(names, 0.0)
    turn = 0
    while len(done) < len(names):
        first = turn % len(contenders)
        for contender in (*contenders[first:], *contenders[:first]):
            name = contender.name
            if name in done:
                continue
            progress(f"round {turn + 1}: {name}")
            taken = sample(contender, calls[name])
            samples[name].append(taken)
            spent[name] += taken * calls[name]
            enough = len(samples[name]) >= (FEWEST_SAMPLES if repeats is None else repeats)
            if enough and (repeats is not None or spent[name] >= share):
                done.add(name)
        turn += 1
    return Race(tuple(Timing(name, tuple(samples[name]), calls[name]) for name in names), differences)


def difference(result: np.ndarray, wanted: np.ndarray, least: float = 0.1) -> float:
    """The largest relative difference of a row: its root mean square error over its root mean square. NaN stays NaN.

    A row is the last axis. The error of a small row is divided by at least `least` times the root mean square of the
    whole result, so that a row of zeros does not divide by zero.
    """
    if result.shape != wanted.shape:
        raise RopegenError(f"bench: results of shape {result.shape} and {wanted.shape} cannot be compared")
    if not wanted.size:
        return 0.0
    rows = wanted.reshape(-1, wanted.shape[-1]) if wanted.ndim else wanted.reshape(1, 1)
    wide = rows.astype(np.float32) if rows.dtype.itemsize < 4 else rows
    error = np.sqrt(np.mean(np.square(result.reshape(rows.shape).astype(wide.dtype) - wide), axis=-1))
    size = np.sqrt(np.mean(np.square(wide), axis=-1))
    floor = least * float(np.sqrt(np.mean(np.square(size)))) or 1.0
    return float(np.max(error / np.maximum(size, floor)))


def compare(
    contenders: Sequence[Contender], tolerance: float, progress: Callable[[str], None] = lambda doing: None
) -> Mapping[str, float]:
    """By how much every contender's results differ from the first's, see `difference`.

    In a gradient (see `Contender.gradients`), a row that is smaller than the whole is measured relative to the whole:
    the sums of a row may cancel, but the rounding errors before the sums do not.

    Raises:
      RopegenError: results differ by more than `tolerance`, or have other names or shapes; or two contenders call
        different results gradients.
    """
    worst: dict[str, float] = {}
    first: Mapping[str, np.ndarray] = {}
    gradients = contenders[0].gradients if contenders else frozenset[str]()
    for contender in contenders:
        progress(f"compiling and comparing {contender.name}")
        results = contender.arrays(contender.call())
        first = first or results
        if set(results) != set(first):
            raise RopegenError(
                f"bench: {contender.name} returns {', '.join(results)}, but {contenders[0].name} returns "
                f"{', '.join(first)}; nothing was timed"
            )
        if contender.gradients != gradients:
            raise RopegenError(
                f"bench: the gradients of {contender.name} are {sorted(contender.gradients)}, and those of "
                f"{contenders[0].name} are {sorted(gradients)}; nothing was timed"
            )
        differences = {
            label: difference(value, first[label], 1.0 if label in gradients else 0.1)
            for label, value in results.items()
        }
        for label, value in differences.items():
            if not value <= tolerance:
                raise RopegenError(
                    f"bench: {label} of {contender.name} differs from {contenders[0].name}'s by {value:.2e} in its worst row, and "
                    f"{tolerance:.2e} is allowed; one of the two is wrong, so nothing was timed"
                )
        if contender is not contenders[0]:
            worst[contender.name] = max(differences.values(), default=0.0)
    return worst
