"""Measured tiles: the shipped ones fit the sites and templates of today, and a tile file obeys its rules."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

import ropegen as rg
from ropegen import passes, tiles
from ropegen.ir.text import digest
from ropegen.native import machine
from ropegen.plans import Step
from ropegen.target import Target, known
from ropegen.template import Tile, family, template
from ropegen.tiles import Entry, TileFile

ROOT = Path(__file__).resolve().parent.parent
TABLES = sorted((ROOT / "ropegen" / "tiles").glob("*.json"))
CHIPS = [target for target in known() if target.startswith("tpu:")]


@pytest.fixture(autouse=True)
def without_native_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables of these tests are of the XLA templates, so the plans weigh those alone."""
    monkeypatch.setattr(machine, "is_installed", lambda: False)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """The sites that benchmarks/tpu.py measures."""
    return imported("tpu_modules")


def imported(name: str) -> ModuleType:
    """A file of benchmarks/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks for its module here
    spec.loader.exec_module(module)
    return module


def table(target: Target) -> TileFile:
    return rg.load_tiles(ROOT / "ropegen" / "tiles" / tiles.shipped_name(target))


def attends(plan: rg.Plan) -> Step:
    (step,) = (step for step in plan.steps if step.region is not None and step.region.family == "attend")
    return step


# What ropegen ships ---------------------------------------------------------------------------------------------------


def test_the_cpu_and_every_tpu_have_a_table() -> None:
    assert [path.name for path in TABLES] == sorted(f"{chip.replace(':', '-')}.json" for chip in ("cpu", *CHIPS))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.name)
def test_a_table_is_for_one_chip_and_in_canonical_form(path: Path) -> None:
    file = rg.load_tiles(path)
    assert {tiles.shipped_name(target) for target in file.targets} <= {path.name}
    assert file.content == path.read_bytes()
    versions = {entry.template: entry.template_version for entry in file.entries}
    assert versions == {name: template(name).version for name in versions}, "measure again what changed"


def test_the_entries_for_cpu_are_points_of_the_grid_and_plans_take_them() -> None:
    grid = imported("cpu_grid")
    points = {point.key: point for point in grid.grid(["forward"], grid.LENGTHS, grid.SHAPES)}
    target = Target.parse("cpu")
    entries = table(target).entries
    if not entries:
        pytest.skip(
            "no tile for CPU was measured since the XLA templates changed; `python3 benchmarks/cpu.py --only tiles` measures them "
            "on a CPU without AMX and AVX512-BF16"
        )
    for entry in entries:
        assert entry.target == target
        assert 0 < float(entry.evidence["of_the_model's"]) <= 0.95
        assert int(entry.evidence["candidates"]) > 1
        point = points[entry.what]
        assert all(1 <= size <= point.length for size in entry.tile.values())
        same = {other.region for other in entries if other.what == entry.what}
        regions = family("attend").find(passes.canonical(point.graph()))
        assert same == {digest(region.closed) for region in regions}
        step = attends(rg.plan(point.graph(), target))
        assert step.region is not None
        assert digest(step.region.closed) in same
        assert step.chosen is not None
        assert (step.chosen.template, step.chosen.tile) == (entry.template, Tile.of(**entry.tile))
        assert step.chosen.tile_from == "the measured table, jaxlib 0.10.2"


@pytest.mark.parametrize("target", ["cpu:16", "cpu:amx"])
def test_other_cores_and_chips_do_not_take_what_two_cores_measured(target: str) -> None:
    grid = imported("cpu_grid")
    points = {point.key: point for point in grid.grid(["forward"], grid.LENGTHS, grid.SHAPES)}
    for what in {entry.what for entry in table(Target.parse("cpu")).entries}:
        step = attends(rg.plan(points[what].graph(), target))
        assert [candidate.measured for candidate in step.considered] == [None] * len(step.considered)
        assert not [candidate for candidate in step.considered if "measured" in candidate.tile_from]


@pytest.mark.parametrize("chip", CHIPS)
def test_the_entries_are_sites_of_the_benchmark_and_tiles_that_templates_offer(
    chip: str, benchmark: ModuleType
) -> None:
    target = Target.parse(chip)
    entries = table(target).entries
    if not entries:
        pytest.skip(
            "no tile for CPU was measured since the XLA templates changed; `python3 benchmarks/cpu.py --only tiles` measures them "
            "on a CPU without AMX and AVX512-BF16"
        )
    sites: dict[str, Any] = {}
    for common in benchmark.common():
        for length in common.lengths:
            site = benchmark.common_site(common.name, length)
            sites.setdefault(digest(site.closed), (site, f"{common.name}, {length} positions"))
    assert {entry.region for entry in entries} <= sites.keys(), (
        "the sites changed: run `python3 benchmarks/tpu.py --only tiles --changed`"
    )
    for entry in entries:
        assert entry.target == target
        site, what = sites[entry.region]
        assert entry.what == what
        offered = list(template(entry.template).tiles(site, target))
        assert Tile.of(**entry.tile) in offered
        assert 1 <= int(entry.evidence["candidates"]) <= len(offered)
        assert float(entry.evidence["predicted_microseconds"]) > 0
        measured = tiles.Measured(target).look_up(template(entry.template), site.closed)
        assert measured is not None
        assert measured.tile == Tile.of(**entry.tile)


def test_a_shipped_entry_of_another_version_of_the_template_is_not_used(
    monkeypatch: pytest.MonkeyPatch, benchmark: ModuleType
) -> None:
    target = Target.parse(CHIPS[0])
    older = TileFile(
        "shipped", tuple(msgspec.structs.replace(entry, template_version=999) for entry in table(target).entries)
    )
    assert older.entries
    monkeypatch.setattr("ropegen.tiles._shipped", lambda target: older)
    step = attends(rg.plan(benchmark.case("llama3-8b-prefill", seq=4096), target))
    assert step.chosen is not None
    assert "measured" not in step.chosen.tile_from


@pytest.mark.parametrize("chip", CHIPS)
def test_a_plan_takes_the_measured_tile_and_says_so(chip: str, benchmark: ModuleType) -> None:
    site = benchmark.common_site("8 heads of 128", 4096)
    plan = rg.plan(site.closed, chip)
    step = attends(plan)
    (candidate,) = (candidate for candidate in step.considered if candidate.template == "attend/mosaic_tpu")
    region = digest(site.closed)
    entry = next(entry for entry in table(Target.parse(chip)).entries if entry.region == region)
    assert candidate.tile == Tile.of(**entry.tile)
    assert candidate.tile_from == "the measured table, libtpu 0.0.52"
    sizes = " ".join(f"{name}={size}" for name, size in entry.tile.items())
    assert f"attend/mosaic_tpu {sizes}, the measured table, libtpu 0.0.52" in plan.explain()


# A caller's tile file -------------------------------------------------------------------------------------------------


def attention() -> rg.Graph:
    b = rg.Builder("attention")
    q, k, v = (b.input(label, (1, 48, heads, 8), "f32") for label, heads in (("q", 4), ("k", 2), ("v", 2)))
    return b.build(out=b.attend(q, k, v, mask=rg.masks.causal))


def entry(**changes: Any) -> Entry:
    """An entry for `attention()` on two cores of a CPU."""
    step = attends(rg.plan(attention(), "cpu"))
    assert step.region is not None
    fields: dict[str, Any] = {
        "chip": "cpu",
        "cores": 2,
        "dtype": "f32",
        "compiler": {"jaxlib": importlib.metadata.version("jaxlib")},
        "template": "attend/xla",
        "template_version": template("attend/xla").version,
        "region": digest(step.region.closed),
        "what": "attention",
        "tile": {"q": 16, "kv": 24},
        "evidence": {},
    }
    return Entry(**(fields | changes))


def written(folder: Path, *entries: Entry) -> Path:
    path = folder / "tiles.json"
    path.write_bytes(tiles.dump(entries))
    return path


def test_a_plan_takes_the_tile_of_a_file_and_says_so(tmp_path: Path) -> None:
    file = rg.load_tiles(written(tmp_path, entry()))
    plan = rg.plan(attention(), "cpu", measured=file)
    chosen = attends(plan).chosen
    assert chosen is not None
    assert (chosen.template, chosen.tile) == ("attend/xla", Tile.of(q=16, kv=24))
    assert chosen.tile_from == f"the tile file, jaxlib {importlib.metadata.version('jaxlib')}"
    assert chosen.tile_from in plan.explain()
    assert plan.digest != rg.plan(attention(), "cpu").digest
    renamed = rg.load_tiles((tmp_path / "tiles.json").rename(tmp_path / "other.json"))
    assert plan.digest == rg.plan(attention(), "cpu", measured=renamed).digest


def test_the_caller_s_tile_comes_before_the_file(tmp_path: Path) -> None:
    file = rg.load_tiles(written(tmp_path, entry()))
    chosen = attends(rg.plan(attention(), "cpu", measured=file, tile={"attend/xla": {"q": 8, "kv": 8}})).chosen
    assert chosen is not None
    assert (chosen.tile, chosen.tile_from) == (Tile.of(q=8, kv=8), "the caller")


def test_a_file_decides_the_template(tmp_path: Path) -> None:
    """In half precision two templates compute attention on CPU. A file makes the plan take the one that costs more."""
    b = rg.Builder("attention")
    q, k, v = (b.input(label, (1, 48, 2, 8), "bf16") for label in "qkv")
    graph = b.build(out=b.attend(q, k, v))
    step = attends(rg.plan(graph, "cpu"))
    assert step.region is not None
    assert step.chosen is not None
    able = [candidate for candidate in step.considered if candidate.cost is not None]
    slower = max(able, key=lambda candidate: candidate.cost.seconds if candidate.cost else 0.0)
    assert slower.template != step.chosen.template
    decided = entry(
        dtype="bf16",
        template=slower.template,
        template_version=template(slower.template).version,
        region=digest(step.region.closed),
        tile=dict(slower.tile.sizes),
    )
    chosen = attends(rg.plan(graph, "cpu", measured=rg.load_tiles(written(tmp_path, decided)))).chosen
    assert chosen is not None
    assert chosen.template == slower.template


@pytest.mark.parametrize("target", ["cpu:16", "cpu:amx", "tpu:v5e", "gpu:h200"])
def test_a_file_of_another_machine_is_refused(target: str, tmp_path: Path) -> None:
    file = rg.load_tiles(written(tmp_path, entry()))
    with pytest.raises(rg.RopegenError, match=rf"tiles for cpu, and none for {target}: .*ropegen tune"):
        rg.plan(attention(), target, measured=file)
    with pytest.raises(rg.RopegenError, match="none for"):
        rg.export(attention(), tmp_path / "out", targets=[target], measured=file)
    assert not (tmp_path / "out").exists()


def test_export_uses_a_file_for_the_targets_that_it_has(tmp_path: Path) -> None:
    file = rg.load_tiles(written(tmp_path, entry()))
    made = rg.export(attention(), tmp_path / "out", targets=["cpu", "gpu:h200"], measured=file)
    plans = (made.directory / "plan.txt").read_text()
    assert (made.directory / "tiles.json").read_bytes() == file.content
    assert made.manifest.tiles == "tiles.json"
    cpu, _, gpu = plans.partition("plan of attention for gpu:h200")
    assert "the tile file" in cpu
    assert gpu
    assert "the tile file" not in gpu


UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "another version of the template": ({"template_version": 999}, "version 999 of the template, and version"),
    "another element type": ({"dtype": "bf16"}, "says bf16, and the region computes f32"),
    "sizes of another template": ({"tile": {"rows": 16}}, "must have q, kv"),
    "a size beyond the region": (
        {"tile": {"q": 999_999_999, "kv": 24}},
        "q=999999999, and the template offers 48 at most",
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_an_entry_that_does_not_fit_is_refused_with_the_way_out(name: str, tmp_path: Path) -> None:
    changes, rule = UNFIT[name]
    file = rg.load_tiles(written(tmp_path, entry(**changes)))
    with pytest.raises(rg.RopegenError, match=f"tiles.json: the tile of attend/xla for 'attention'.*{rule}.*tune"):
        rg.plan(attention(), "cpu", measured=file)


def _without(field: str) -> dict[str, Any]:
    fields = msgspec.to_builtins(entry())
    del fields[field]
    return fields


def _with(**changes: Any) -> dict[str, Any]:
    return msgspec.to_builtins(entry()) | changes


DAMAGED: dict[str, tuple[object, str]] = {
    "no JSON": (b"{", "tiles.json is no tile file"),
    "noise": (bytes(range(256)), "tiles.json is no tile file"),
    "a list": (b"[]", "object"),
    "another format": ({"format": "ropegen.tiles/2", "measured": []}, "format"),
    "an older table": ({"chip": "cpu", "measured": []}, "chip"),
    "no region": ([_without("region")], r"\$\.measured\[0\]"),
    "an unknown field": ([_with(speed=1)], "speed"),
    "no digest": ([_with(region="abc")], r"\$\.measured\[0\]\.region"),
    "a size of nothing": ([_with(tile={"q": 0, "kv": 1})], r"\$\.measured\[0\]\.tile"),
    "a size in words": ([_with(tile={"q": "many", "kv": 1})], r"\$\.measured\[0\]\.tile"),
    "two compilers": ([_with(compiler={"jaxlib": "1", "libtpu": "2"})], r"\$\.measured\[0\]\.compiler"),
    "an unknown chip": ([_with(chip="gpu:h1000", cores=None)], "h100"),
    "a CPU without cores": ([_without("cores")], "cores"),
    "cores of an accelerator": ([_with(chip="tpu:v5e")], "cores"),
    "the compiler of another chip": ([_with(compiler={"libtpu": "0.0.52"})], "jaxlib compiles for cpu"),
    "a compiler without a version": ([_with(compiler={"jaxlib": "newest"})], r"\$\.measured\[0\]\.compiler"),
    "one region twice": ([_with(), _with(tile={"q": 8, "kv": 8})], "two tiles of attend/xla"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused(name: str, tmp_path: Path) -> None:
    content, rule = DAMAGED[name]
    if isinstance(content, list):
        content = {"format": "ropegen.tiles/1", "measured": content}
    path = tmp_path / "tiles.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(rg.RopegenError, match=rule):
        rg.load_tiles(path)


VERSIONS = ("0.4.1", "0.9.30", "0.10.2.dev20260101", "0.10.2rc1", "0.10.2", "0.12.0")


@pytest.mark.parametrize("order", [1, -1])
def test_a_plan_takes_the_tile_of_the_newest_compiler(order: int, tmp_path: Path) -> None:
    """It does so whatever is installed, and whatever the order in the file."""
    sizes = {version: {"q": 8 + index, "kv": 24} for index, version in enumerate(VERSIONS)}
    entries = [entry(compiler={"jaxlib": version}, tile=sizes[version]) for version in VERSIONS]
    for newest in range(1, len(VERSIONS) + 1):
        file = rg.load_tiles(written(tmp_path, *entries[:newest][::order]))
        chosen = attends(rg.plan(attention(), "cpu", measured=file)).chosen
        assert chosen is not None
        assert chosen.tile == Tile.of(**sizes[VERSIONS[newest - 1]])
        assert chosen.tile_from == f"the tile file, jaxlib {VERSIONS[newest - 1]}"
    one = rg.load_tiles(tmp_path / "tiles.json", "jaxlib 0.9.30")
    chosen = attends(rg.plan(attention(), "cpu", measured=one)).chosen
    assert chosen is not None
    assert chosen.tile == Tile.of(**sizes["0.9.30"])
    with pytest.raises(rg.RopegenError, match=r"no tile .* compiler 'jaxlib 0\.9'; did you mean 'jaxlib 0\.9\.30'"):
        rg.load_tiles(tmp_path / "tiles.json", "jaxlib 0.9")


def test_of_a_region_only_the_newest_compiler_decides_the_template(tmp_path: Path) -> None:
    """An older measurement found another template faster; the newer one does not compete with it by the cost model."""
    b = rg.Builder("attention")
    q, k, v = (b.input(label, (1, 48, 2, 8), "bf16") for label in "qkv")
    graph = b.build(out=b.attend(q, k, v))
    step = attends(rg.plan(graph, "cpu"))
    assert step.region is not None
    able = [candidate for candidate in step.considered if candidate.cost is not None]
    assert len(able) == 2
    for older, newer in (able, able[::-1]):
        file = written(
            tmp_path,
            *(
                entry(
                    dtype="bf16",
                    compiler={"jaxlib": version},
                    template=candidate.template,
                    template_version=candidate.version,
                    region=digest(step.region.closed),
                    tile=dict(candidate.tile.sizes),
                )
                for version, candidate in (("0.9.9", older), ("0.10.0", newer))
            ),
        )
        chosen = attends(rg.plan(graph, "cpu", measured=rg.load_tiles(file))).chosen
        assert chosen is not None
        assert (chosen.template, chosen.tile_from) == (newer.template, "the tile file, jaxlib 0.10.0")


def test_a_tile_of_a_template_that_is_not_installed_is_refused_on_its_chip(tmp_path: Path) -> None:
    unknown = entry(template="attend/xlb", region="0" * 64)
    elsewhere = entry(template="attend/xlb", cores=7)
    with pytest.raises(
        rg.RopegenError, match=r"tiles\.json has a tile .*'attend/xlb'.*did you mean .*remove the entry"
    ):
        rg.plan(attention(), "cpu", measured=rg.load_tiles(written(tmp_path, entry(), unknown)))
    rg.plan(attention(), "cpu", measured=rg.load_tiles(written(tmp_path, entry(), elsewhere)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(rg.RopegenError, match=r"cannot read the tile file .*nowhere\.json: No such file"):
        rg.load_tiles(tmp_path / "nowhere.json")


def test_compiling_with_another_compiler_gives_a_warning(tmp_path: Path) -> None:
    plan = rg.plan(
        attention(), "cpu", measured=rg.load_tiles(written(tmp_path, entry(compiler={"jaxlib": "0.0.1"})))
    )  # a plan does not depend on what is installed
    installed = importlib.metadata.version("jaxlib")
    with pytest.warns(UserWarning, match=rf"measured with jaxlib 0\.0\.1, and jaxlib {installed} compiles here"):
        plan.compile()
    rg.plan(
        attention(), "cpu", measured=rg.load_tiles(written(tmp_path, entry()))
    ).compile()  # pytest fails on a warning
