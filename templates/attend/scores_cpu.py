"""What becomes of the products of a native attention: soft-cap, bias, score expression and masks, a register at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ropegen.native.ir import Function, Value

from .layout_cpu import Problem


@dataclass(frozen=True, slots=True)
class Span:
    """Positions in a sequence, from `first` to before `stop`."""

    first: Value
    stop: Value


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one head."""

    f: Function
    problem: Problem
    batch: Value
    head: Value

    def shown(self, rows: Span, keys: Span) -> tuple[Value, Value]:
        """Whether the mask may show a score of these rows and keys, and whether it shows all of them."""
        raise NotImplementedError

    def load_panels(self, rows: Span, keys: Span, slot: Value) -> None:
        """Lays the tile's part of a bias and of a dense mask as the scores lie."""

    def modified(
        self, score: Value, rows: Span, keys: Span, key: Value, part: int, *, masked: bool, slot: Value
    ) -> Value:
        f, lanes = self.f, self.problem.unit.lanes
        shown = f.splat(keys.first + key < self.problem.keys, lanes)
        return f.select(shown, score, -np.inf)
