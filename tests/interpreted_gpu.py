"""Runs the kernels for GPU in JAX's interpreter, in a process of its own: `python interpreted_gpu.py NAME...`.

For each named case it prints a line of JSON: the largest errors against the oracle in float64, or what the interpreter
raised. A planted fault is a case too: the interpreter must find it. A kernel that waits for what never comes hangs, so
whoever starts the process gives it a limit of time, and NPROC=16 for a thread of XLA's pool at every barrier.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
from interpreted import drawn
from jax.experimental.pallas import mosaic_gpu as plgpu
from ropegen.templates.attend import kernel_gpu, mosaic_gpu
from ropegen.templates.attend.site import FAMILY, AttendSite

import ropegen as rg
from ropegen import masks, reference
from ropegen.ir.build import Builder
from ropegen.target import Target
from ropegen.template import Tile

MASKS = {
    "full": masks.full,
    "causal": masks.causal,
    "window": masks.causal & masks.window(100),
    "prefix": masks.causal | masks.prefix(40),
    "by head": masks.mask(lambda q_pos, kv_pos, head: (kv_pos <= q_pos) & (kv_pos * head < 150)),
    "five comparisons": masks.mask(
        lambda q_pos, kv_pos, head, batch: (
            ((kv_pos <= q_pos) & (q_pos - kv_pos < 300) | (kv_pos < 40 * head) | (kv_pos * 3 == q_pos + batch))
            & (kv_pos != 7)
        )
    ),
    "nothing for some": masks.mask(lambda q_pos, kv_pos: ((q_pos < 50) | (q_pos > 140)) & (kv_pos >= 0)),
    "nothing for a block": masks.mask(lambda q_pos, kv_pos: (q_pos >= 128) & (kv_pos < 100)),
}


@dataclass(frozen=True)
class Case:
    batch: int = 1
    queries: int = 128
    keys: int = 128
    heads: int = 1
    kv_heads: int = 1
    width: int = 64
    dtype: str = "bf16"
    mask: str = "causal"
    pairing: str | None = None
    dim: int | None = None
    masked_row: str = "zero"
    kv_tile: int = 128

    @property
    def site(self) -> AttendSite:
        b = Builder("attention")
        q = b.input("q", (self.batch, self.queries, self.heads, self.width), self.dtype)
        k, v = (b.input(name, (self.batch, self.keys, self.kv_heads, self.width), self.dtype) for name in "kv")
        at = {
            "q_positions": b.positions(self.queries, start=max(self.keys - self.queries, 0)),
            "kv_positions": b.positions(self.keys),
        }
        if self.pairing is not None:
            rope = rg.Rope(10_000.0, pairing=self.pairing, dim=self.dim)
            q, k = (b.rope(x, place, rope) for x, place in zip((q, k), at.values(), strict=True))
        options: dict[str, Any] = {"mask": MASKS[self.mask], "masked_row": self.masked_row}
        options |= at if {"q_pos", "kv_pos"} & masks.variables(MASKS[self.mask]) else {}
        built = b.build(output=b.attend(q, k, v, **options), lse=b.attend(q, k, v, **options, returns="log_sum_exp"))
        return FAMILY.site(next(iter(FAMILY.find(built))).closed)


CASES = {
    "full, one tile": Case(mask="full"),
    "causal, more tiles than slots, halves rotated in the kernel": Case(
        queries=512, keys=640, width=128, pairing="half"
    ),
    "halves of 64 features, float16": Case(queries=256, keys=256, dtype="f16", pairing="half"),
    "interleaved, grouped heads of a batch, tails": Case(
        batch=2, queries=130, keys=200, heads=4, kv_heads=2, pairing="interleaved"
    ),
    "a part of the width is rotated, a window": Case(queries=300, keys=300, pairing="half", dim=32, mask="window"),
    "tiles of 64 keys": Case(queries=256, keys=448, width=128, kv_tile=64),
    "a prefix": Case(queries=200, keys=200, mask="prefix"),
    "heads see other keys": Case(queries=128, keys=256, heads=2, mask="by head"),
    "as many comparisons as it takes, and a tail": Case(
        batch=2, queries=200, keys=210, heads=2, width=128, pairing="half", mask="five comparisons"
    ),
    "rows that see nothing": Case(queries=256, keys=130, mask="nothing for some"),
    "a block that sees nothing, as the mean": Case(
        queries=256, keys=256, mask="nothing for a block", masked_row="mean"
    ),
}
# What a planted fault leaves out: which wait, in the order in which the kernel is traced, or which fence.
FAULTS = {
    "values are read before they are there": ("barrier_wait", 3),
    "both warpgroups multiply at once": ("barrier_wait", 4),
    "results are copied without a fence": ("commit_smem", 0),
}
LONG = Case(mask="full", queries=128, keys=768)


def errors(case: Case) -> dict[str, float]:
    """The largest errors of the output and of the log-sum-exp."""
    site = case.site
    reasons = list(mosaic_gpu.declines(site, Target.parse("gpu:h200")))
    assert not reasons, reasons
    values = drawn(site, 0)
    kernel = mosaic_gpu.build_for(site, Tile.of(q=128, kv=case.kv_tile), interpreter=True)
    results = jax.jit(kernel.forward)(*values.values())
    exact = reference.evaluate(site.closed, values)
    found: dict[str, float] = {}
    for (label, _), ours in zip(site.closed.outputs, results, strict=True):
        given, wanted = np.asarray(ours, np.float64), exact[label]
        assert given.shape == wanted.shape
        assert np.array_equal(np.isneginf(given), np.isneginf(wanted))
        shown = ~np.isneginf(wanted)
        found[label] = float(np.max(np.abs(given[shown] - wanted[shown]), initial=0.0))
    return found


def without(name: str, index: int) -> None:
    """Makes the kernel leave out one of its calls of a function of Mosaic GPU."""
    call, count = getattr(plgpu, name), iter(range(1000))

    def sometimes(*arguments: Any) -> None:
        if next(count) != index:
            call(*arguments)

    own = SimpleNamespace(**{**vars(plgpu), name: sometimes})
    kernel_gpu.plgpu = own


def main() -> None:
    for name in sys.argv[1:]:
        if name in FAULTS:
            without(*FAULTS[name])
        try:
            said: dict[str, Any] = {"errors": errors(CASES.get(name, LONG))}
        except (RuntimeError, ValueError) as error:
            said = {"raised": str(error)}
        print(json.dumps({"name": name, **said}), flush=True)


if __name__ == "__main__":
    main()
