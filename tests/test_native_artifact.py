"""Kernels that are code in this process: where they run, and what takes their place where they cannot go.

The template under test is `native_rows`, a lookup of rows. A row is copied or it is not, so results are compared bit by
bit.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import msgspec
import native_rows
import numpy as np
import pytest

import ropegen as rg
from ropegen import template
from ropegen.cli import main
from ropegen.emit.artifact import Artifact, drawn_inputs
from ropegen.emit.module import semantic
from ropegen.emit.module.replace import replace_composites
from ropegen.native import machine
from ropegen.target import VECTOR_UNITS, Target, known

TESTS = Path(__file__).resolve().parent
TABLE = jnp.asarray(np.random.default_rng(0).standard_normal((50, 24)), jnp.float32)
IDS = jnp.asarray([[0, 49, 3], [7, 7, 60]], jnp.int32)
ROWS = np.asarray(TABLE)[np.clip(np.asarray(IDS), 0, 49)]
# The vector units, with the number by which an ELF file names their machine.
UNITS = {"avx2": 62, "avx512": 62, "avx512bf16": 62, "neon": 183}


@pytest.fixture
def native() -> Iterator[None]:
    """The template, registered for one test."""
    rg.register_template(native_rows.TEMPLATE)
    yield
    template._registered.remove(native_rows.TEMPLATE)


def lookup() -> rg.Graph:
    b = rg.Builder("lookup")
    ids, table = b.input("ids", IDS.shape, "i32"), b.input("table", TABLE.shape, "f32", role="parameter")
    return b.build(rows=b.embed(ids, table))


def calls(text: str) -> bool:
    """Whether the text of a module calls the native kernel."""
    return "ropegen_rows_" in text


def own_unit() -> str:
    unit = machine.host_unit()
    assert unit is not None, "the tests of native code need AVX2 or NEON"
    return unit.name


def embed(ids: jax.Array, table: jax.Array) -> jax.Array:
    return rg.embed(ids, table)


# Targets ----------------------------------------------------------------------------------------------------------------


def test_a_chip_names_the_vector_unit_of_its_native_code() -> None:
    units = {name: Target.parse(name).unit for name in known()}
    named = {name.removeprefix("cpu:"): unit.name for name, unit in units.items() if unit is not None}
    assert named == {
        "avx2": "avx2",
        "avx512": "avx512",
        "avx512bf16": "avx512bf16",
        "amx": "avx512bf16",
        "neon": "neon",
    }
    assert Target.parse("cpu:64:avx2").unit is VECTOR_UNITS["avx2"]
    assert Target.parse("cpu:64").unit is None
    assert Target.host().chip in ("generic", "amx", "avx512bf16")


def test_this_machine_runs_the_units_that_it_has_and_says_what_it_lacks() -> None:
    own = machine.host_unit()
    assert own is not None, "the project's tests of native code need AVX2 or NEON"
    other = "neon" if own.name != "neon" else "avx2"
    assert not list(machine.cannot_run(Target.parse("cpu:3")))
    assert not list(machine.cannot_run(Target.parse(f"cpu:{own.name}")))
    assert list(machine.cannot_run(Target.parse(f"cpu:{other}"))) == [
        f"this machine lacks {', '.join(machine.missing(VECTOR_UNITS[other]))}, which cpu:{other} has"
    ]
    assert machine.unit_for(Target.parse("cpu")) is own
    assert machine.unit_for(Target.parse(f"cpu:{other}")) is VECTOR_UNITS[other]


# Where the kernel runs --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("native")
def test_a_call_runs_the_native_kernel_and_its_exported_module_does_not() -> None:
    assert calls(jax.jit(embed).lower(IDS, TABLE).as_text())
    np.testing.assert_array_equal(embed(IDS, TABLE), ROWS)
    exported = jax.export.export(jax.jit(embed), platforms=["cpu", "tpu"])(IDS, TABLE)
    assert not calls(exported.mlir_module())
    again = jax.export.deserialize(exported.serialize())
    np.testing.assert_array_equal(jax.jit(again.call)(IDS, TABLE), ROWS)


@pytest.mark.usefixtures("native")
def test_derivatives_and_batches_of_a_native_kernel() -> None:
    def loss(table: jax.Array, ids: jax.Array = IDS) -> jax.Array:
        return jnp.sum(jnp.sin(embed(ids, table)))

    expected = np.zeros(TABLE.shape, np.float64)
    np.add.at(expected, np.clip(np.asarray(IDS), 0, 49), np.cos(ROWS.astype(np.float64)))
    assert calls(jax.jit(jax.grad(loss)).lower(TABLE).as_text())
    np.testing.assert_allclose(jax.grad(loss)(TABLE), expected, atol=1e-6)
    exported = jax.export.export(jax.jit(loss), platforms=["cpu"])(TABLE)
    again = jax.export.deserialize(exported.serialize(vjp_order=1))
    np.testing.assert_allclose(jax.grad(again.call)(TABLE), expected, atol=1e-6)
    batched = jax.vmap(embed, in_axes=(0, None))
    assert calls(jax.jit(batched).lower(IDS, TABLE).as_text())
    np.testing.assert_array_equal(batched(IDS, TABLE), ROWS)


@pytest.mark.usefixtures("native")
def test_a_cpu_that_this_machine_is_not_gets_the_module_of_xla() -> None:
    own = machine.host_unit()
    assert own is not None
    other = "avx2" if own.name == "neon" else "neon"
    compiled = {name: rg.plan(lookup(), f"cpu:{name}").compile() for name in (own.name, other)}
    text = {
        name: jax.jit(lambda ids, table, run=run: run(ids=ids, table=table)).lower(IDS, TABLE).as_text()
        for name, run in compiled.items()
    }
    assert {name: calls(text[name]) for name in text} == {own.name: True, other: False}
    for run in compiled.values():
        np.testing.assert_array_equal(run(ids=IDS, table=TABLE), ROWS)


CHILD = """
import sys
if "hide" in sys.argv:
    sys.modules["llvmlite"] = None  # as if it were not installed
import contextlib, io, json, warnings
import jax
import native_rows
import numpy as np
import ropegen as rg
from ropegen.cli import main
from ropegen.emit.artifact import Artifact, drawn_inputs
table, ids = np.arange(1200, dtype=np.float32).reshape(50, 24), np.asarray([[0, 49, 3], [7, 7, 60]], np.int32)
said = {}
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    loaded = rg.load(sys.argv[1], objects=True)  # the template is not there yet
    for _ in range(2):
        np.testing.assert_array_equal(loaded(ids=ids, table=table), table[np.clip(ids, 0, 49)])
said["runs"], said["warned"] = loaded.runs, [str(entry.message) for entry in warned]
rg.register_template(native_rows.TEMPLATE)
embed = jax.jit(rg.embed)
mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("data",))
split = jax.device_put(np.tile(ids, (2, 1)), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
for name, given in (("one", ids), ("several", split)):
    np.testing.assert_array_equal(embed(given, table), table[np.clip(given, 0, 49)])
    said[name] = "ropegen_rows_" in embed.lower(given, table).as_text()
b = rg.Builder("lookup")
plan = rg.plan(b.build(rows=b.embed(b.input("ids", (2, 2), "i32"), b.input("table", (10, 4), "f32"))), "cpu")
said["chosen"], said["plan"] = plan.steps[0].chosen.template, plan.explain()
with contextlib.redirect_stdout(io.StringIO()) as printed:
    main(["env", "--json"])
said["env"] = json.loads(printed.getvalue())
print(json.dumps(said))
"""


def child(*arguments: str) -> dict[str, Any]:
    """What a process with two devices says of itself."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The artifact of a lookup, with object files for every vector unit."""
    rg.register_template(native_rows.TEMPLATE)
    try:
        folder = tmp_path_factory.mktemp("native") / "kernels"
        return rg.export(lookup(), folder, targets=["cpu", *(f"cpu:{unit}" for unit in UNITS)], ahead_of_time=True)
    finally:
        template._registered.remove(native_rows.TEMPLATE)


def test_several_devices_get_the_module_of_xla_and_object_files_need_no_template(built: Artifact) -> None:
    said = child(str(built.directory))
    assert (said["one"], said["several"], said["chosen"]) == (True, False, "embed/native_rows")
    assert "in exported modules and on several devices embed/xla takes its place" in said["plan"]
    assert said["runs"].startswith(f"native kernels of embed/native_rows, compiled ahead of time for cpu:{own_unit()}")
    assert said["warned"] == []
    assert said["env"]["native code"] == f"for {own_unit()}"
    assert said["env"]["llvmlite"] == importlib.metadata.version("llvmlite")


def test_without_llvmlite_plans_and_artifacts_say_how_to_get_it(built: Artifact) -> None:
    said = child(str(built.directory), "hide")
    assert (said["one"], said["several"], said["chosen"]) == (False, False, "embed/xla")
    assert "declines: it needs llvmlite; pip install 'llvmlite>=0.50,<0.51'" in said["plan"]
    reason = "llvmlite is not installed; pip install 'llvmlite>=0.50,<0.51'"
    assert said["runs"].startswith("StableHLO; no native kernels for cpu:")
    assert said["runs"].count(reason) == len(UNITS)
    assert said["warned"] == [f"{built.directory} runs {said['runs']}"]
    assert said["env"]["native code"] == f"none: {reason}"


# Plans ------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("native")
def test_the_plan_states_both_and_the_lowered_module_has_the_one_that_travels() -> None:
    plan = rg.plan(lookup(), "cpu")
    (step,) = plan.steps
    assert step.chosen is not None
    assert step.instead is not None
    assert (step.chosen.template, step.instead.template) == ("embed/native_rows", "embed/xla")
    assert plan.cost.seconds == pytest.approx(1e-9)
    travels = plan.exported
    assert travels.steps[0].chosen == step.instead
    assert travels.cost == step.instead.cost
    assert travels.exported == travels
    assert len({plan.digest, travels.digest}) == 2
    lowered = replace_composites(semantic.semantic(lookup()).encode(), "cpu")
    assert lowered.replaced
    assert not calls(lowered.text)
    assert "embed/xla" in lowered.report


def test_a_template_that_travels_leaves_nothing_to_one_that_does_not() -> None:
    stays = native_rows.TEMPLATE
    travels: Any = dataclasses.replace(stays, name="travels", needs_process=None, derivatives="embed/native_rows")
    own = dataclasses.replace(stays, derivatives="own")
    rg.register_template(own)
    try:
        with pytest.raises(rg.RopegenError, match="whose kernels do not leave the process"):
            rg.register_template(travels)
    finally:
        template._registered.remove(own)
    with pytest.raises(rg.RopegenError, match="must go everywhere"):
        dataclasses.replace(stays, name="xla")


# Artifacts --------------------------------------------------------------------------------------------------------------


def rotated(dtype: str = "f32") -> rg.Graph:
    """An attention with rotary embedding whose frequencies are scaled."""
    b = rg.Builder("rotated")
    q, k, v = (b.input(label, (1, 40, heads, 16), dtype) for label, heads in (("q", 4), ("k", 2), ("v", 2)))
    at = b.positions(40)
    rope = rg.Rope(10_000.0, pairing="half")
    return b.build(
        out=b.attend(b.rope(q, at, rope), b.rope(k, at, rope), v, mask=rg.masks.causal, q_positions=at, kv_positions=at)
    )


@pytest.mark.usefixtures("native")
def test_a_loaded_artifact_runs_its_native_kernels_and_its_modules_stay_plain(tmp_path: Path) -> None:
    made = rg.export(lookup(), tmp_path / "kernels", targets=["cpu", "tpu:v5e"])
    assert made.manifest.custom_calls == {}
    assert made.runs == "native kernels of embed/native_rows, compiled here for cpu"
    np.testing.assert_array_equal(made(ids=IDS, table=TABLE), ROWS)
    bound = made.bind(table=TABLE)
    np.testing.assert_array_equal(bound(ids=IDS), ROWS)
    traced = jax.jit(lambda ids: made(ids=ids, table=TABLE)).lower(IDS).as_text()
    assert calls(traced)
    checked = made.check()
    assert checked.passed
    programs = [output.program for output in checked.outputs]
    assert programs == ["native kernels", "module.jaxexport", "module.mlirbc", "semantic.mlir"]
    template._registered.clear()
    try:
        other = rg.load(made.directory)
        with pytest.warns(
            UserWarning, match="runs StableHLO; no native kernels for cpu: no template 'embed/native_rows'"
        ):
            np.testing.assert_array_equal(other(ids=IDS, table=TABLE), ROWS)
        assert [output.program for output in other.check().outputs] == programs[1:]
    finally:
        template._registered.append(native_rows.TEMPLATE)


@pytest.mark.parametrize(
    "options",
    [
        {"tables": "computed"},
        {"tables": "argument", "tile": {"attend/llvm_cpu": {"kv": 48, "panels": 2}, "attend/xla": {"q": 8, "kv": 8}}},
    ],
)
def test_the_plan_is_made_again_with_what_was_asked_for(options: dict[str, Any], tmp_path: Path) -> None:
    made = rg.export(rotated(), tmp_path / "kernels", targets="cpu:1", **options)
    assert made.runs == "native kernels of attend/llvm_cpu, compiled here for cpu:1"


@pytest.mark.parametrize(
    ("tile", "reason"),
    [
        (
            {"attend/llvm_cpu": {"kv": 128, "panels": 2}},
            "what is installed here plans the graph otherwise for cpu; build",
        ),
        (
            {"attend/llvm_cpu": {"kv": 1 << 20, "panels": 2}},
            "attend/llvm_cpu does not offer the tile kv=1048576 panels=2",
        ),
    ],
)
def test_an_artifact_that_is_planned_otherwise_here_runs_its_stablehlo(
    tile: dict[str, dict[str, int]], reason: str, tmp_path: Path
) -> None:
    """Nobody but this process decides which code it writes: a forged tile is refused even if its digest fits."""
    made = rg.export(rotated(), tmp_path / "kernels", targets="cpu")
    native = {"cpu": msgspec.structs.replace(made.manifest.native["cpu"], tile=tile)}
    plans = made.manifest.plans if "otherwise" in reason else {"cpu": rg.plan(rotated(), "cpu", tile=tile).digest}
    forged = msgspec.structs.replace(made.manifest, native=native, plans=plans)
    (made.directory / "manifest.json").write_bytes(forged.encoded())
    other = rg.load(made.directory)
    assert other.runs.startswith("StableHLO; no native kernels for cpu: ")
    assert reason in other.runs


# Ahead of time ----------------------------------------------------------------------------------------------------------


def test_object_files_are_made_for_every_unit_on_any_machine(built: Artifact) -> None:
    assert built.manifest.platforms == ("cpu",)
    assert built.manifest.custom_calls == {}
    for unit, elf_machine in UNITS.items():
        objects = built.manifest.native[f"cpu:{unit}"].objects
        assert objects is not None
        (name,) = objects.files
        head = (built.directory / name).read_bytes()[:20]
        assert (head[:4], int.from_bytes(head[18:20], "little")) == (b"\x7fELF", elf_machine)
        assert name in built.manifest.files
        assert name in (built.directory / "report.txt").read_text()


@pytest.mark.usefixtures("native")
def test_without_trust_the_kernels_are_compiled_here(built: Artifact) -> None:
    loaded = rg.load(built.directory)
    assert loaded.runs.startswith(f"native kernels of embed/native_rows, compiled here for cpu:{own_unit()}")
    np.testing.assert_array_equal(loaded(ids=IDS, table=TABLE), ROWS)


def test_the_command_line_builds_checks_and_shows_native_kernels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graph, folder, target = tmp_path / "graph.mlir", tmp_path / "kernels", f"cpu:{own_unit()}"
    graph.write_text(rg.dumps(rotated()))
    assert main(["build", str(graph), "--target", target, "--compile", "--source", "-o", str(folder)]) == 0
    assert main(["check", str(folder)]) == 0
    assert main(["env"]) == 0
    said = capsys.readouterr().out
    assert f"here it runs native kernels of attend/llvm_cpu, compiled here for {target}" in said
    assert any(line.split() == ["native", "code", "for", own_unit()] for line in said.splitlines())
    loaded = rg.load(folder, objects=True)
    assert loaded.runs == f"native kernels of attend/llvm_cpu, compiled ahead of time for {target}"
    inputs = drawn_inputs(rotated(), 0)
    np.testing.assert_array_equal(loaded(**inputs), rg.plan(rotated(), target).compile()(**inputs))
    objects = loaded.manifest.native[target].objects
    assert objects is not None
    for kernel, name in zip(objects.kernels, objects.files, strict=True):
        code, assembly = ((folder / name).with_suffix(ending).read_text() for ending in (".ll", ".s"))
        assert code.startswith(f"; plan of rotated for {target}\n")
        assert machine.object_code(code, VECTOR_UNITS[own_unit()]) == (folder / name).read_bytes()
        assert assembly[2:].lstrip().startswith(f"plan of rotated for {target}\n")
        assert f"{kernel}:" in assembly


def test_what_cannot_be_compiled_ahead_of_time_is_said(tmp_path: Path) -> None:
    b = rg.Builder("sum")
    graph = b.build(y=b.add(b.input("x", (3,), "f32"), b.input("z", (3,), "f32")))
    with pytest.raises(rg.RopegenError, match=r"the plan for cpu:avx2 has no native kernels to compile ahead of time"):
        rg.export(graph, tmp_path / "kernels", targets="cpu:avx2", ahead_of_time=True)
    with pytest.raises(rg.RopegenError, match=r"have no native kernels, whose code --source"):
        rg.export(graph, tmp_path / "kernels", targets="cpu", source=True)
    with pytest.raises(rg.RopegenError, match=r"--target cpu:avx2"):
        rg.export(graph, tmp_path / "kernels", targets="cpu", ahead_of_time=True)
    with pytest.raises(rg.RopegenError, match=r"the targets cpu:avx2, cpu:avx2 name a chip twice"):
        rg.export(rotated(), tmp_path / "kernels", targets=["cpu:avx2", "cpu:avx2"], ahead_of_time=True)
    two = jax.sharding.NamedSharding(jax.sharding.AbstractMesh((2,), ("data",)), jax.sharding.PartitionSpec("data"))
    with pytest.raises(rg.RopegenError, match=r"are for one device, and the artifact is for 2 devices"):
        rg.export(lookup(), tmp_path / "kernels", targets="cpu", sharding=two, source=True)
    assert not list(tmp_path.iterdir())
