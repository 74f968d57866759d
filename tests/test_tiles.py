"""The tables of measured tiles: each entry is of a site as it is today, with a tile that its template offers."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import ropegen as rg
from ropegen import passes, tiles
from ropegen.ir.text import digest
from ropegen.target import Target, known
from ropegen.template import Tile, family, template

ROOT = Path(__file__).resolve().parent.parent
TABLES = sorted((ROOT / "ropegen" / "tiles").glob("*.json"))
CHIPS = [each for each in known() if each.startswith("tpu:")]
ENTRY = {"template", "region", "what", "tile", "microseconds", "candidates", "libtpu"}


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The sites that benchmarks/tpu.py measures."""
    return imported("tpu_modules")


def imported(name: str) -> ModuleType:
    """A file of benchmarks/ as a module."""
    found = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # dataclasses look their module up
    found.loader.exec_module(module)
    return module


def table(chip: str) -> dict[str, Any]:
    return json.loads((ROOT / "ropegen" / "tiles" / f"{chip.replace(':', '-')}.json").read_text())


def test_cpu_and_every_chip_for_tpu_have_a_table() -> None:
    assert [path.name for path in TABLES] == sorted(f"{chip.replace(':', '-')}.json" for chip in ("cpu", *CHIPS))


def test_the_entries_for_cpu_are_points_of_the_grid_and_plans_take_them() -> None:
    grid = imported("cpu_grid")
    points = {each.key: each for each in grid.grid(["forward"], grid.LENGTHS, grid.SHAPES)}
    found, target = table("cpu"), Target.parse("cpu")
    assert found["chip"] == "cpu"
    assert found["measured"]
    for each in found["measured"]:
        assert each.keys() == {"template", "region", "what", "tile", "of_the_model's", "candidates"}
        assert 0 < each["of_the_model's"] <= 0.95
        assert each["candidates"] > 1
        assert each["tile"].keys() == set(template(each["template"]).tile)
        point = points[each["what"]]
        assert all(1 <= size <= point.length for size in each["tile"].values())
        same = {one["region"] for one in found["measured"] if one["what"] == each["what"]}
        regions = family("attend").find(passes.canonical(point.graph()))
        assert same == {digest(region.closed) for region in regions}
        (step,) = (
            one
            for one in rg.plan(point.graph(), target).steps
            if one.region is not None and digest(one.region.closed) in same
        )
        assert step.chosen is not None
        assert (step.chosen.template, step.chosen.tile) == (each["template"], Tile.of(**each["tile"]))
        assert step.chosen.tile_from == "the measured table"


@pytest.mark.parametrize("chip", CHIPS)
def test_the_entries_are_the_benchmark_s_sites_with_tiles_on_offer(chip: str, benchmark: ModuleType) -> None:
    target, found = Target.parse(chip), table(chip)
    assert found["chip"] == chip
    assert found["measured"]
    sites: dict[str, Any] = {}
    for common in benchmark.common():
        for length in common.lengths:
            site = benchmark.common_site(common.name, length)
            sites.setdefault(digest(site.closed), (site, f"{common.name}, {length} positions"))
    assert {each["region"] for each in found["measured"]} <= sites.keys(), (
        "the sites changed: run `python3 benchmarks/tpu.py --only tiles --changed`"
    )
    for each in found["measured"]:
        assert each.keys() == ENTRY
        site, what = sites[each["region"]]
        assert each["what"] == what
        offered = list(template(each["template"]).tiles(site, target))
        assert Tile.of(**each["tile"]) in offered
        assert 1 <= each["candidates"] <= len(offered)
        assert each["microseconds"] > 0
    assert tiles.measured(target) == {
        (each["template"], each["region"]): Tile.of(**each["tile"]) for each in found["measured"]
    }


@pytest.mark.parametrize("chip", CHIPS)
def test_a_plan_takes_the_measured_tile_and_says_so(chip: str, benchmark: ModuleType) -> None:
    graph = benchmark.case("llama3-8b-prefill", seq=4096)
    plan = rg.plan(graph, chip)
    (step,) = (each for each in plan.steps if each.region is not None and each.region.family == "attend")
    assert step.region is not None
    (candidate,) = (each for each in step.considered if each.template == "attend/mosaic_tpu")
    entry = next(each for each in table(chip)["measured"] if each["region"] == digest(step.region.closed))
    assert candidate.tile == Tile.of(**entry["tile"])
    assert candidate.tile_from == "the measured table"
    sizes = " ".join(f"{name}={size}" for name, size in entry["tile"].items())
    assert f"attend/mosaic_tpu {sizes}, the measured table" in plan.explain()
