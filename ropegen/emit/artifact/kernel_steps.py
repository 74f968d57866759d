"""Which step of a plan a kernel computes, and how many tiles its attention has: what the reports of TPU and GPU share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ropegen import explanation as explain
from ropegen.plans import Plan, Step

# The kernels of Mosaic templates are named after their family; all others come from XLA.
OURS = "ropegen_"


@dataclass(frozen=True, slots=True)
class Tiles:
    """The tiles of one attention: of all heads and batch entries together."""

    heads: int
    rows: int
    all: int
    full: int
    partial: int
    operations: float
    """The operations of the matrix products of one tile."""

    @property
    def visited(self) -> int:
        return self.full + self.partial


def microseconds(seconds: float) -> str:
    """A time for a report."""
    return f"{seconds * 1e6:,.1f} µs"


def tiles_of(plan: Plan, step: Step, heads_of: Literal["heads", "kv_heads"]) -> Tiles | None:
    """The tiles of the attention of a step; None if its mask is not known.

    A kernel has rows of tiles for every head (`heads`), or for every head of keys with all its queries (`kv_heads`).
    """
    facts = explain.data(plan)["steps"][plan.steps.index(step)]
    for attention in facts["attention"]:
        if "count" in (counted := attention["tiles"]):
            heads = attention[heads_of] * math.prod(step.outputs[0].type.shape[:-3])
            rows = -(-attention["queries"] // facts["tile"]["q"])
            every, full, partial = (heads * counted[name] for name in ("count", "full", "partial"))
            features = attention["width"] + attention["value_width"]
            operations = 2.0 * facts["tile"]["q"] * facts["tile"]["kv"] * features
            return Tiles(heads, heads * rows, every, full, partial, operations)
    return None


def steps_of(plan: Plan, stage: str, family: str) -> list[Step]:
    """The steps of a stage ("prepare" or "module") that a Mosaic template of a family computes."""
    return [
        step
        for step in plan.steps
        if step.prepares == (stage == "prepare")
        and step.region is not None
        and step.region.family == family
        and step.chosen is not None
        and step.chosen.template.endswith(f"/mosaic_{plan.target.platform}")
    ]
