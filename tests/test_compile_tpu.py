"""Compilation for TPU without a TPU: executables in artifacts, their report, and the machines that use them.

Tests that compile need libtpu: `pip install --target .libtpu libtpu` and `pytest --libtpu .libtpu`, as `tests/run.py`
does. The other tests run everywhere and use a serialized program for the CPU in place of a chip's program.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from conftest import GOLDEN
from independent import draw_inputs
from ropegen.templates.embed import mosaic_tpu as embed_tpu
from ropegen.templates.qkv_rope import mosaic_tpu as qkv_rope_tpu
from ropegen.templates.qkv_rope.site import QkvRopeSite
from test_attend_tpu_backward import BIASED, GROUPED, floating
from test_embed_tpu import COMPILED as EMBEDDED
from test_qkv_rope_tpu import COMPILED as PROJECTED

import ropegen as rg
from ropegen import cli, masks
from ropegen.compilers import tpu
from ropegen.compilers.schedule import MATRIX, VECTOR
from ropegen.emit import artifact
from ropegen.emit.artifact import executables
from ropegen.errors import RopegenError
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.target import Target
from ropegen.template import Kernel, Site, Tile, cheapest_tile, template
from ropegen.types import numpy_dtype

CHIPS = ("v5e", "v7x")
BUILD = ("build", str(GOLDEN / "cases" / "gpt2-small" / "config.json"), "--seq", "8", "--vocabulary", "16")


def attention(length: int = 1024, **options: Any) -> Graph:
    """An attention that the Mosaic template accepts; a weight before it needs preparation."""
    b = Builder("attention")
    x = b.input("x", (1, length, 128), "bf16")
    q, k, v = (b.split_heads(b.project(x, b.parameter(f"{n}_weight", (128, 128), "bf16")), 1) for n in "qkv")
    at = b.positions(length)
    rope = rg.Rope(10_000.0, pairing="half")
    return b.build(out=b.attend(b.rope(q, at, rope), b.rope(k, at, rope), v, **{"mask": masks.causal, **options}))


# With the compiler ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def libtpu(request: pytest.FixtureRequest) -> Path:
    asked = request.config.getoption("--libtpu")
    try:
        return tpu.libtpu_folder(asked)
    except RopegenError as error:
        if asked:
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def built(libtpu: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compiled") / "kernels"
    tile = {"attend/mosaic_tpu": {"q": 256, "kv": 256}}
    targets = ["cpu", *(f"tpu:{chip}" for chip in CHIPS)]
    graph = attention(mask=masks.causal & masks.window(256))
    rg.export(graph, folder, targets=targets, tile=tile, ahead_of_time=True, libtpu=libtpu)
    return folder


def test_an_artifact_has_an_executable_for_each_chip_and_stage(built: Path) -> None:
    manifest = json.loads((built / "manifest.json").read_text())
    assert list(manifest["executables"]) == [f"tpu:{chip}" for chip in CHIPS]
    for chip in CHIPS:
        entry = manifest["executables"][f"tpu:{chip}"]
        assert entry["build"].startswith("Built on ")
        assert re.fullmatch(r"\d+(\.\d+)+", entry["libtpu"])
        assert entry["topology"] == tpu.TOPOLOGIES[chip]
        assert entry["plan"] == manifest["plans"][f"tpu:{chip}"]
        assert entry["stages"].keys() == {"prepare", "module"}
        for stage in entry["stages"].values():
            content = (built / stage["file"]).read_bytes()
            assert manifest["files"][stage["file"]] == hashlib.sha256(content).hexdigest()
            assert str(Path.cwd()).encode() not in content
        assert entry["stages"]["module"]["arguments"] == sorted(entry["stages"]["module"]["arguments"])
        assert entry["stages"]["module"]["results"] == ["out"]


def test_the_report_counts_the_steps_of_the_grid(built: Path) -> None:
    report = (built / "report.txt").read_text()
    # 1,024 positions in tiles of 256: four on the diagonal and three beside it, of sixteen. There is one step more, because
    # scores are computed one step before their weights.
    lines = [line.strip() for line in report.splitlines() if "grid steps" in line and "tiles" in line]
    taken = (built / "plan.txt").read_text().count("attend/mosaic_tpu q=256 kv=256, the caller: ")
    counted = dict.fromkeys(lines)
    assert list(counted) == ["grid steps 8 of 16 tiles: 0 full, 7 partial, 9 empty"]
    assert 1 <= len(lines) <= taken
    assert report.count("as libtpu") == len(CHIPS)
    assert len(re.findall(r"predicted (?:at most )?[\d,.]+ µs, by .*; roofline [\d,.]+ µs", report)) >= len(lines)


def test_elsewhere_the_artifact_runs_as_ever_and_says_why_the_executables_do_not(built: Path) -> None:
    loaded = rg.load(built)
    values = draw_inputs(loaded.graph, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an executable for another platform causes no warning
        out = loaded(**values)
    exact = rg.reference.evaluate(loaded.graph, values)["out"]
    np.testing.assert_allclose(np.asarray(out, np.float64), exact, atol=5e-2)
    assert [executable.unused for executable in loaded.executables] == ["this machine runs cpu"] * len(CHIPS)
    done = subprocess.run(
        [sys.executable, "-m", "ropegen", "check", str(built)], capture_output=True, text=True, check=True
    )
    assert "tpu:v7x: prepare.tpu-v7x.executable, module.tpu-v7x.executable by libtpu" in done.stdout
    assert done.stdout.count("this machine runs cpu") == len(CHIPS)


@pytest.mark.parametrize("chip", ["v5e", "v5p"])
def test_kernels_over_four_chips_need_no_collective_but_a_rings_permutes(libtpu: Path, chip: str) -> None:
    settings = {**os.environ, **tpu.SETTINGS, "TPU_LIBRARY_PATH": str(libtpu.resolve() / "libtpu" / "libtpu.so")}
    script = Path(__file__).with_name("compile_mesh.py")
    done = subprocess.run(
        [sys.executable, str(script), tpu.TOPOLOGIES[chip]], env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    cases = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(cases) == 10
    rings = [case for case in cases if case["case"][0] == "sequence"]
    for case in rings:
        assert case["kernels"] >= 1, case
        assert {*case["collectives"]} == {"collective-permute"}, case
    for case in cases:
        if case in rings:
            continue
        assert case["kernels"] == {"forward": 1, "gradient": 2}[case["case"][1]], case
        assert not case["collectives"], case


@pytest.mark.parametrize("chip", CHIPS)
def test_the_schedule_of_attention_has_the_parts_of_its_kernel(libtpu: Path, chip: str) -> None:
    chosen, family = template("attend/mosaic_tpu"), template("attend/mosaic_tpu").family
    site = family.site(next(iter(family.find(attention(512)))).closed)
    shapes = [jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype)) for kind in site.closed.input_types.values()]
    forward = chosen.build(site, Tile.of(q=256, kv=256), Target.parse(f"tpu:{chip}")).forward
    module = bytes(jax.export.export(jax.jit(forward), platforms=["tpu"])(*shapes).serialize())
    done = tpu.compile_modules({"forward": module}, chip, libtpu=libtpu)
    (kernel,) = (schedule for schedule in done.modules["forward"].kernels if schedule.name.startswith("ropegen_attend"))
    assert kernel.steps == 4
    # The scores of a full tile, of a partial tile after a full one, of the first tile, and the weights of the last tile.
    full, partial, first, last = (part for part in kernel.step_parts if part.multiplies)
    assert kernel.share(MATRIX, full) > 0.05
    assert full.used[VECTOR] < partial.used[VECTOR]  # which also compares positions
    assert max(first.used[MATRIX], last.used[MATRIX]) < full.used[MATRIX]
    assert not kernel.step_parts[-1].multiplies  # the part that ends a row of tiles


def kernel_of(name: str, site: Site, chip: str) -> Kernel:
    """The kernel with the tile that a plan for the chip would choose."""
    chosen, target = template(name), Target.parse(f"tpu:{chip}")
    tiles = chosen.tiles(site, target)
    return chosen.build(site, min(tiles, key=lambda tile: chosen.cost(site, target, tile).seconds), target)


def shapes_of(site: Site) -> tuple[jax.ShapeDtypeStruct, ...]:
    return tuple(jax.ShapeDtypeStruct(operand.type.shape, numpy_dtype(operand.type.dtype)) for operand in site.operands)


@pytest.mark.parametrize("chip", CHIPS)
def test_every_template_compiles(libtpu: Path, chip: str) -> None:
    modules: dict[str, bytes] = {}

    def add(name: str, function: Callable[..., Any], *shapes: Any) -> None:
        modules[name] = bytes(jax.export.export(jax.jit(function), platforms=["tpu"])(*shapes).serialize())

    def projected_back(site: QkvRopeSite, target: Target) -> Callable[..., Any]:
        return qkv_rope_tpu.backward_of(site, cheapest_tile(template("qkv_rope/mosaic_tpu"), site, target), target)

    for family, cases, backward_of in (
        ("embed", EMBEDDED, embed_tpu.backward_of),
        ("qkv_rope", PROJECTED, projected_back),
    ):
        for label, case in cases.items():
            site, target = case.site, Target.parse(f"tpu:{chip}")
            kinds = site.closed.input_types
            wanted = [kind.is_float and "angles" not in label for label, kind in kinds.items()]
            results = tuple(jax.ShapeDtypeStruct(x.type.shape, numpy_dtype(x.type.dtype)) for x in site.outputs)
            backward = functools.partial(backward_of(site, target), wanted=wanted)
            add(f"{family}: {label}", kernel_of(f"{family}/mosaic_tpu", site, chip).forward, *shapes_of(site))
            add(f"{family}_backward: {label}", backward, shapes_of(site), results, results)
    for label, case in (("grouped", GROUPED), ("biased", BIASED)):
        site = case.site
        kernel = kernel_of("attend/mosaic_tpu", site, chip)
        wanted = [is_float and not label.endswith("angles") for label, is_float in floating(site).items()]
        results = tuple(
            jax.ShapeDtypeStruct(output.type.shape, numpy_dtype(output.type.dtype)) for output in site.outputs
        )
        backward = functools.partial(kernel.backward, wanted=wanted)
        add(f"attend: {label}", kernel.forward, *shapes_of(site))
        add(f"attend_backward: {label}", backward, shapes_of(site), results, results)
    done = tpu.compile_modules(modules, chip, libtpu=libtpu)
    assert not done.errors
    for name, module in done.modules.items():
        assert [
            schedule for schedule in module.kernels if schedule.name.startswith(f"ropegen_{name.partition(':')[0]}")
        ], name


def test_a_module_that_the_compiler_refuses_is_quoted(libtpu: Path) -> None:
    def much(x: jax.Array) -> jax.Array:
        return jax.numpy.zeros((1 << 20, 1 << 20), np.float32) + jax.numpy.sort(x)[:, None] * x

    shape = jax.ShapeDtypeStruct((1 << 20,), np.float32)
    module = bytes(jax.export.export(jax.jit(much), platforms=["tpu"])(shape).serialize())
    done = tpu.compile_modules({"much": module}, "v5e", libtpu=libtpu)
    assert not done.modules
    assert "memory" in done.errors["much"]


def test_kernels_are_listed_only_where_schedules_are_asked_for(libtpu: Path) -> None:
    shape = jax.ShapeDtypeStruct((8, 128), np.float32)
    module = bytes(jax.export.export(jax.jit(lambda x: x + 1), platforms=["tpu"])(shape).serialize())
    done = tpu.compile_modules({"add": module}, "v5e", libtpu=libtpu, schedules=False)
    assert done.modules["add"].executable
    assert done.modules["add"].kernels == ()


def test_progress_names_the_chip_and_how_many(libtpu: Path, tmp_path: Path) -> None:
    said: list[str] = []
    b = Builder("tiny")
    graph = b.build(out=b.scale(b.input("x", (8, 128), "f32"), 2.0))
    artifact.export(
        [rg.plan(graph, "tpu:v5e")], tmp_path / "x", ahead_of_time=True, libtpu=libtpu, progress=said.append
    )
    assert "compiling for tpu:v5e (1 of 1)" in said


def test_the_command_writes_executables_and_their_report(
    libtpu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "kernels"
    targets = ("--target", "cpu", "--target", "tpu:v5e")
    code = cli.main([*BUILD, *targets, "--compile", "--libtpu", str(libtpu), "-o", str(folder), "--json"])
    explained = json.loads(capsys.readouterr().out)
    assert code == 0
    manifest = json.loads((folder / "manifest.json").read_text())
    files = [stage["file"] for stage in manifest["executables"]["tpu:v5e"]["stages"].values()]
    assert "module.tpu-v5e.executable" in files
    assert {*files, "report.txt"} <= explained["files"].keys()
    # The compiler's build differs from this runtime's, so the modules of the artifact run.
    assert [executable.target for executable in rg.load(folder).executables] == ["tpu:v5e"]
    assert cli.main(["check", str(folder)]) == 0
    assert "module.tpu-v5e.executable by libtpu" in capsys.readouterr().out


# Without the compiler ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def on_this_chip(tmp_path: Path) -> Path:
    """An artifact with executables for this machine: programs for the CPU in place of those for a TPU."""
    graph = attention(8)
    folder = tmp_path / "kernels"
    rg.export(graph, folder, targets=["cpu"])
    plan = rg.plan(graph, "cpu")
    manifest = json.loads((folder / "manifest.json").read_text())
    device = jax.devices()[0]
    stages: dict[str, Any] = {}
    for name, described in manifest["stages"].items():
        exported = jax.export.deserialize(bytearray((folder / f"{name}.jaxexport").read_bytes()))
        arguments, keywords = jax.tree.unflatten(exported.in_tree, exported.in_avals)
        compiled = jax.jit(exported.call, keep_unused=True).lower(*arguments, **keywords).compile()
        content = compiled.runtime_executable().serialize()
        stages[name] = {
            "file": f"{name}.cpu.executable",
            "arguments": sorted(described["arguments"]),
            "results": sorted(described["results"]),
        }
        (folder / stages[name]["file"]).write_bytes(content)
        manifest["files"][stages[name]["file"]] = hashlib.sha256(content).hexdigest()
    build = tpu.build_of(device.client.platform_version)
    words = {"platform": "cpu", "device_kind": device.device_kind, "topology": "-", "libtpu": "0", "build": build}
    manifest["executables"] = {"cpu": {**words, "jax": jax.__version__, "plan": plan.digest, "stages": stages}}
    # Without the entry, the StableHLO runs where the executable does not, and its results have the same bits.
    manifest.pop("native", None)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_an_executable_of_this_chip_and_build_is_what_runs(on_this_chip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = rg.load(on_this_chip)
    values = draw_inputs(loaded.graph, 0)
    ran: list[str] = []
    make = executables._program

    def spied(program: Any, device: Any, arguments: Any, results: Any) -> executables.Program:
        run = make(program, device, arguments, results)
        return lambda given: (ran.append(str(results)), run(given))[1]

    monkeypatch.setattr(executables, "_program", spied)
    out = loaded(**values)
    assert ran == ["('prepared0',)", "('out',)"]
    assert [executable.unused for executable in loaded.executables] == [""]
    edit(on_this_chip, lambda m: m.pop("executables"))
    np.testing.assert_array_equal(out, rg.load(on_this_chip)(**values))
    bound = loaded.bind(**{label: value for label, value in values.items() if label != "x"})
    np.testing.assert_array_equal(bound(x=values["x"]), out)


def test_a_traced_call_is_part_of_the_program_around_it(on_this_chip: Path) -> None:
    loaded = rg.load(on_this_chip)
    values = draw_inputs(loaded.graph, 0)
    traced = jax.jit(lambda given: loaded(**given))(values)
    np.testing.assert_array_equal(traced, loaded(**values))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e.update(device_kind="TPU v9"), "it is for a TPU v9, and this is a cpu"),
        (lambda e: e.update(build="Built on Monday", libtpu="9.9"), "its compiler, libtpu 9.9, is 'Built on Monday'"),
    ],
)
def test_an_executable_that_does_not_fit_is_said_once_and_compiled_anew(
    on_this_chip: Path, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    edit(on_this_chip, lambda m: change(m["executables"]["cpu"]))
    loaded = rg.load(on_this_chip)
    values = draw_inputs(loaded.graph, 0)
    with pytest.warns(UserWarning, match="compiled anew, its executables are not used") as caught:
        out = loaded(**values)
    assert words in str(caught[0].message)
    assert len(caught) == 1
    np.testing.assert_array_equal(out, loaded(**values))  # without another warning
    assert words in loaded.executables[0].unused


def test_a_foreign_executable_is_refused_by_the_runtime_and_said(on_this_chip: Path) -> None:
    path = on_this_chip / "module.cpu.executable"
    path.write_bytes(b"of another maker")
    edit(on_this_chip, lambda m: m["files"].update({path.name: hashlib.sha256(b"of another maker").hexdigest()}))
    loaded = rg.load(on_this_chip)
    with pytest.warns(UserWarning, match=r"the runtime refuses module\.cpu\.executable"):
        loaded(**draw_inputs(loaded.graph, 0))


def test_a_damaged_executable_is_named(on_this_chip: Path) -> None:
    path = on_this_chip / "module.cpu.executable"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(RopegenError, match=r"module\.cpu\.executable is damaged"):
        rg.load(on_this_chip)


@pytest.mark.parametrize(
    "change",
    [
        lambda e: e.pop("build"),
        lambda e: e["stages"].pop("module"),
        lambda e: e["stages"].update(other=e["stages"]["module"]),
        lambda e: e["stages"]["module"].update(file="../elsewhere"),
        lambda e: e["stages"]["module"].update(arguments=[1]),
    ],
)
def test_a_damaged_description_is_refused(on_this_chip: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(on_this_chip, lambda m: change(m["executables"]["cpu"]))
    with pytest.raises(
        RopegenError, match=r"manifest\.json is damaged.*(executables|must list).*build the artifact again"
    ):
        rg.load(on_this_chip)


def test_a_call_that_the_manifest_does_not_list_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    rg.export(attention(), folder, targets=["cpu", "tpu:v5e"])
    assert "tpu_custom_call" in json.loads((folder / "manifest.json").read_text())["custom_calls"]
    edit(folder, lambda m: m.update(custom_calls={}))
    with pytest.raises(
        RopegenError, match=r"module\.jaxexport calls tpu_custom_call, which manifest\.json does not list"
    ):
        rg.load(folder)


def test_what_cannot_be_compiled_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RopegenError, match="none is among the targets"):
        rg.export(attention(8), tmp_path / "x", targets=["cpu"], ahead_of_time=True)
    with pytest.raises(RopegenError, match="name a chip twice"):
        rg.export(attention(8), tmp_path / "x", targets=["tpu:v5e", "tpu:v5e"], ahead_of_time=True)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RopegenError, match="needs the compiler libtpu, but no TPU, and libtpu is not installed"):
        rg.export(attention(8), tmp_path / "x", targets=["tpu:v5e"], ahead_of_time=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--target", "cpu", "--compile"), "none is among the targets; add e.g. --target tpu:v5e"),
        (("--target", "tpu:v5e", "--target", "tpu:v5e", "--compile"), "name a chip twice"),
        (("--target", "tpu:v5e", "--compile", "--libtpu", "nowhere"), "nowhere holds no libtpu; `pip install"),
        (("--target", "tpu:v5e", "--libtpu", "nowhere"), "--libtpu names the compiler of --compile"),
    ],
)
def test_the_command_says_what_it_cannot_compile_and_leaves_nothing(
    options: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*BUILD, *options, "-o", str(tmp_path / "kernels")]) == 2
    said = capsys.readouterr().err
    assert said.count("error: ") == 1
    assert words in said
    assert not list(tmp_path.iterdir())


def test_kernels_name_no_folder_of_this_machine(tmp_path: Path) -> None:
    rg.export(attention(), tmp_path / "x", targets=["tpu:v5e"])
    content = (tmp_path / "x" / "module.jaxexport").read_bytes()
    payloads = [base64.b64decode(body) for body in re.findall(rb'"body": ?"([A-Za-z0-9+/=]+)"', content)]
    assert payloads
    assert not [payload for payload in (content, *payloads) if b".py" in payload and b"templates" in payload]
