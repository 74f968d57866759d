"""The goals of tpu.py: a figure, what it must be, and whether it is."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

COMPARISONS: Mapping[str, Callable[[float, float], bool]] = {
    "\N{LESS-THAN OR EQUAL TO}": operator.le,
    "\N{GREATER-THAN OR EQUAL TO}": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
AT_MOST, AT_LEAST, BELOW, ABOVE = COMPARISONS


@dataclass(frozen=True)
class Goal:
    """A goal: what it is about, how the measured figure must compare with the wanted one, and details."""

    what: str
    sign: str
    wanted: float
    figure: float | None
    detail: str = ""
    is_whole: bool = True
    """Whether everything that it is about is measured."""

    @property
    def row(self) -> str:
        if self.figure is None:
            return f"| {self.what} | {self.sign} {self.wanted:g} | | not measured | |"
        met = "met" if COMPARISONS[self.sign](self.figure, self.wanted) else "MISSED"
        met += " so far" * (met == "met" and not self.is_whole)
        figure = f"{self.figure:,.0f}" if self.figure >= 1000 else f"{self.figure:.3g}"
        return f"| {self.what} | {self.sign} {self.wanted:,g} | {figure} | {met} | {self.detail} |"


def geometric_mean(values: Sequence[float]) -> float | None:
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None
