"""Whole heads in benchmarks/tpu.py: the tiles of a causal head, and the sum over the parts of a kernel's schedule."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ropegen.compilers.schedule import Part, read_schedules
from ropegen.target import Target
from ropegen.template import Tile

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def heads() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("tpu_heads")


sizes = st.sampled_from((1, 2, 4))


@given(blocks=st.integers(1, 6), q=sizes, kv=sizes)
def test_the_tiles_of_a_causal_head_are_those_of_its_scores(heads: Any, blocks: int, q: int, kv: int) -> None:
    length = 4 * blocks
    seen = np.tril(np.ones((length, length), bool))
    tiles = seen.reshape(length // q, q, length // kv, kv).transpose(0, 2, 1, 3).reshape(-1, q * kv)
    full, partial = int(tiles.all(1).sum()), int((tiles.any(1) & ~tiles.all(1)).sum())
    steps, visited = heads.causal(length, q, kv)
    assert (steps.rows, steps.full, steps.partial, visited) == (length // q, full, partial, full + partial)
    assert heads.causal(length, q, kv, visits_all=True) == (steps, len(tiles))


def part(cycles: int, multiplies: bool = False) -> dict[str, Any]:
    return {
        "cycles": cycles,
        "spills": cycles // 10,
        "bundles": cycles,
        "matrix": cycles // 2,
        "multiplies": multiplies,
    }


def told(**counts: Any) -> dict[str, Any]:
    return {"q": 1024, "kv": 1024, "idle": 0, "voids": 0, **counts}


def test_a_head_is_the_sum_over_its_steps_and_the_copies_are_its_range(heads: Any) -> None:
    """Ten tiles in four rows, one step ahead: full after full, full after partial, partial after full, first, last."""
    kernel = {
        "name": "ropegen_attend.1",
        "steps": 8 * 11 // 2,
        "always": {"cycles": 7, "copies": 3},
        "parts": [part(10), *(part(cycles, True) for cycles in (100, 150, 200, 60, 40)), part(50), part(20)],
    }
    counts = told(rows=4, full=6, partial=4, bodies=[3, 3, 3, 1, 1], voids=1, grid=11)
    head = heads.own_head({"what": "", "chip": "v5p", "kernels": [kernel], "head": [counts]}, "forward")
    assert head.least == 3 * (100 + 150 + 200) + 60 + 40 + 4 * (10 + 20) + 50 + 11 * (7 - 3)
    assert head.most == head.least + 11 * 3
    assert head.spills == 3 * (10 + 15 + 20) + 6 + 4 + 4 * (1 + 2) + 5
    assert head.full == 100 / 4


def test_strips_of_a_backward_pass_add_up_whatever_their_order(heads: Any) -> None:
    def kernel(steps: int, full: int) -> dict[str, Any]:
        parts = [part(5), part(3), part(full, True), part(2 * full, True), part(4)]
        name = "ropegen_attend_backward.1"
        return {"name": name, "steps": 8 * steps, "always": {"cycles": 1, "copies": 0}, "parts": parts}

    strips = [
        told(rows=8, full=10, partial=2, idle=4, bodies=[10, 2], grid=16),
        told(rows=4, full=4, partial=2, bodies=[4, 2], grid=6),
    ]
    entry = {"what": "", "chip": "v5e", "kernels": [kernel(6, 30), kernel(16, 20)], "head": strips}
    first = 10 * 20 + 2 * 40 + 5 + 8 * (3 + 4) + 16
    second = 4 * 30 + 2 * 60 + 5 + 4 * (3 + 4) + 6
    assert heads.own_head(entry, "backward").least == first + second


@pytest.mark.parametrize("length", [2048, 4096])
def test_every_step_of_a_causal_head_runs_one_body_of_the_kernel(heads: Any, length: int) -> None:
    target, tile = Target.parse("tpu:v5e"), Tile.of(q=512, kv=512)
    site = heads.place(length, 128, True)
    (ahead,), (backward,) = ([*heads.visits(site, tile, target, way)] for way in ("forward", "backward"))
    rows = length // 512
    tiles = rows * (rows + 1) // 2
    for counts, more in ((ahead, 1), (backward, 0)):
        assert (counts["rows"], counts["full"], counts["partial"]) == (rows, tiles - rows, rows)
        assert sum(counts["bodies"]) == counts["grid"] == tiles + more
    assert ahead["voids"] == 1


@pytest.mark.parametrize("chip", ["v5e", "v7x"])
def test_a_step_is_its_parts_its_copies_and_the_rest(heads: Any, chip: str) -> None:
    """Of a recorded schedule: no cycle of the grid's loop is lost or counted twice."""
    (kernel,) = read_schedules(ROOT / "golden" / "schedules" / f"tpu-{chip}")
    facts = importlib.import_module("tpu_schedules").kernel_facts(kernel)
    grid = kernel.grid
    assert grid is not None

    def idle(outer: Part) -> int:
        """The cycles of the outermost branches without an operation on vectors."""
        branches = [inner for inner in outer.inner if inner.kind == "branch"]
        return sum(branch.executed if not branch.computes else idle(branch) for branch in branches)

    assert facts["always"]["copies"] == idle(grid)
    in_parts = sum(part["cycles"] for part in facts["parts"])
    assert facts["always"]["cycles"] + in_parts == grid.executed // (grid.trips or 1)
    assert 0 < facts["always"]["cycles"] - facts["always"]["copies"] < grid.executed
