"""Artifacts: built without a device, loaded without the model, the same bytes, and whole or not there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain import draw_inputs

import ropegen as rg
from ropegen import hf, masks
from ropegen.emit import artifact, stablehlo
from ropegen.errors import RopegenError
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph

CASES = Path(__file__).resolve().parent.parent / "golden" / "cases"
TARGETS = ("cpu", "gpu:h200", "tpu:v5e")


def small(name: str = "small") -> Graph:
    b = Builder(name)
    x = b.embed(b.input("ids", (1, 6), "i32"), b.parameter("table", (9, 8), "f32"))
    q = b.split_heads(b.project(x, b.parameter("q_weight", (8, 8), "f32")), 2)
    k = b.split_heads(b.project(x, b.parameter("k_weight", (8, 4), "f32")), 1)
    v = b.split_heads(b.project(x, b.parameter("v_weight", (8, 4), "f32")), 1)
    at = b.positions(6)
    rope = rg.Rope(100.0, pairing="interleaved")
    return b.build(out=b.merge_heads(b.attend(b.rope(q, at, rope), b.rope(k, at, rope), v, mask=masks.causal)))


def case(name: str, **build: int) -> Graph:
    described = json.loads((CASES / name / "config.json").read_text())
    described["build"].update(build)
    return hf.from_case(described)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact") / "kernels"
    rg.export(small(), folder, targets=TARGETS)
    return folder


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy"))


def test_it_computes_the_graph(built: Path) -> None:
    values = draw_inputs(small(), 1)
    found = rg.load(built)(**values)
    np.testing.assert_allclose(found, rg.reference.evaluate(small(), values)["out"], atol=1e-5)
    assert rg.load(built).check().passed


def test_three_platforms_give_what_one_gives(built: Path, tmp_path: Path) -> None:
    alone = rg.export(small(), tmp_path / "alone", targets=["cpu"])
    together = rg.load(built)
    assert together.manifest["platforms"] == ["cpu", "cuda", "tpu"]
    values = draw_inputs(small(), 2)
    np.testing.assert_array_equal(alone(**values), together(**values))


def test_parameters_are_bound_once(built: Path) -> None:
    values = draw_inputs(small(), 3)
    loaded = rg.load(built)
    bound = loaded.bind(**{label: values[label] for label in small().labels("parameter")})
    np.testing.assert_array_equal(bound(ids=values["ids"]), loaded(**values))


def test_a_decode_step_with_its_caches(tmp_path: Path) -> None:
    graph = case("llama3-8b-decode", vocabulary=16, capacity=8)
    loaded = rg.export(graph, tmp_path / "decode", targets=["cpu"])
    assert list(loaded(**draw_inputs(graph, 0))) == ["out", "k_cache", "v_cache"]


FRESH = """
import sys
import numpy as np
from ropegen.emit.artifact import load
values = dict(np.load(sys.argv[2]))
np.save(sys.argv[3], load(sys.argv[1])(**values))
loaded = [name for name in sys.modules if name.startswith(("ropegen.templates", "ropegen.passes.merge"))]
print(",".join(name for name in loaded if name != "ropegen.templates"))
"""


def test_a_fresh_process_needs_no_model_code(built: Path, tmp_path: Path) -> None:
    values = draw_inputs(small(), 4)
    np.savez(tmp_path / "in.npz", **values)
    command = [sys.executable, "-c", FRESH, str(built), str(tmp_path / "in.npz"), str(tmp_path / "out.npy")]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), rg.load(built)(**values))


BUILD = """
import sys
sys.path.insert(0, sys.argv[2])
import ropegen as rg
from test_artifact import small, TARGETS
rg.export(small(), sys.argv[1], targets=TARGETS)
"""


def test_the_same_bytes_in_another_process(built: Path, tmp_path: Path) -> None:
    for seed in ("1", "2"):
        command = [sys.executable, "-c", BUILD, str(tmp_path / seed), str(Path(__file__).parent)]
        subprocess.run(command, check=True, cwd=tmp_path, env={"PYTHONHASHSEED": seed, "PATH": ""})
        assert contents(tmp_path / seed) == contents(built)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_no_file_names_a_folder_of_this_machine(built: Path) -> None:
    home = str(Path(__file__).resolve().parent.parent).encode()
    site = str(Path(np.__file__).resolve().parent.parent).encode()
    assert not [name for name, content in contents(built).items() if home in content or site in content]


def test_every_file_is_hashed(built: Path) -> None:
    assert {*json.loads((built / "manifest.json").read_text())["files"], "manifest.json"} == set(contents(built))


# Damage --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["graph.mlir", "module.jaxexport", "module.mlirbc", "prepare.jaxexport", "plan.txt", "semantic.mlir"]
)
@pytest.mark.parametrize("damage", ["lost", "truncated", "changed", "longer"])
def test_a_damaged_file_is_named(copy: Path, name: str, damage: str) -> None:
    path = copy / name
    content = path.read_bytes()
    if damage == "lost":
        path.unlink()
    else:
        changed = bytes([content[0] ^ 1]) + content[1:]
        path.write_bytes(
            {"truncated": content[: len(content) // 2], "changed": changed, "longer": content + b"\n"}[damage]
        )
    with pytest.raises(RopegenError, match=name):
        rg.load(copy)


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_text(json.dumps(manifest))

    return edit


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), ["not an artifact", "manifest.json"]),
        (lambda path: path.write_text("{"), ["manifest.json", "damaged"]),
        (lambda path: path.write_text("[" * 100_000), ["manifest.json", "damaged"]),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), ["manifest.json", "damaged"]),
        (lambda path: path.write_text("[]"), ["manifest.json", "no format"]),
        (lambda path: path.write_text('{"format": 1}'), ["manifest.json", "graph"]),
        (edited(lambda m: m.update(format=99)), ["format 99", "newer ropegen"]),
        (edited(lambda m: m["files"].update({"../../etc/passwd": "0"})), ["manifest.json", "plain file names"]),
        (edited(lambda m: m["files"].pop("module.jaxexport")), ["manifest.json", "module.jaxexport"]),
        (edited(lambda m: m["inputs"]["ids"].pop("shape")), ["manifest.json", "shape"]),
        (edited(lambda m: m["inputs"]["ids"].update(dtype="f7")), ["manifest.json", "f7"]),
        (edited(lambda m: m["inputs"]["ids"].update(role="guest")), ["manifest.json", "guest"]),
        (edited(lambda m: m["stages"]["module"].update(arguments=7)), ["manifest.json", "damaged"]),
    ],
)
def test_a_damaged_manifest_is_refused(copy: Path, damage: Callable[[Path], None], words: list[str]) -> None:
    damage(copy / "manifest.json")
    with pytest.raises(RopegenError) as caught:
        rg.load(copy)
    assert all(word in str(caught.value) for word in words), caught.value


def test_what_is_not_there_or_foreign_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RopegenError, match="there is no directory"):
        rg.load(tmp_path / "nowhere")
    with pytest.raises(RopegenError, match="not an artifact"):
        rg.load(tmp_path)


def test_wrong_inputs_are_refused(built: Path) -> None:
    values = draw_inputs(small(), 0)
    with pytest.raises(RopegenError, match="missing inputs: ids"):
        rg.load(built)(**{label: each for label, each in values.items() if label != "ids"})
    with pytest.raises(RopegenError, match="did you mean 'table'"):
        rg.load(built)(**values, tabel=values["table"])


# Whole or not there --------------------------------------------------------------------------------------------------


def test_other_files_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RopegenError, match="holds other files"):
        rg.export(small(), tmp_path, targets=["cpu"])
    assert contents(tmp_path) == {"notes.txt": b"mine"}
    with pytest.raises(RopegenError, match="is a file"):
        rg.export(small(), tmp_path / "notes.txt", targets=["cpu"])


def test_an_artifact_is_replaced_as_a_whole(copy: Path) -> None:
    rg.export(small("other"), copy, targets=["cpu"])
    assert rg.load(copy).manifest["graph"]["name"] == "other"
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


@pytest.mark.parametrize("there", [True, False])
def test_an_interrupted_build_leaves_what_was(built: Path, tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "kernels"
    if there:
        shutil.copytree(built, folder)

    def interrupt(doing: str) -> None:
        if doing.startswith("putting"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        artifact.export([rg.plan(small("other"), "cpu")], folder, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == (["kernels"] if there else [])
    assert not there or contents(folder) == contents(built)


def test_targets_that_cannot_share_an_artifact(tmp_path: Path) -> None:
    with pytest.raises(RopegenError, match="gpu:h100 and gpu:h200 are both gpu"):
        rg.export(small(), tmp_path / "x", targets=["gpu:h100", "gpu:h200"])
    with pytest.raises(RopegenError, match="at least one target"):
        rg.export(small(), tmp_path / "x", targets=[])
    assert not list(tmp_path.iterdir())


def test_an_undeclared_custom_call_is_refused() -> None:
    lowered = jax.jit(jnp.linalg.qr).trace(jax.ShapeDtypeStruct((3, 3), np.float32)).lower(lowering_platforms=("cpu",))
    module = lowered.compiler_ir("stablehlo")
    with pytest.raises(RopegenError, match="no chosen template declares"):
        stablehlo.check_calls(module, ())
    (call, *_) = stablehlo.check_calls(
        module, ("lapack_sgeqrf_ffi", "lapack_sorgqr_ffi", "Qr", "ProductOfElementaryHouseholderReflectors")
    )
    assert call


# Consumers without JAX -----------------------------------------------------------------------------------------------

IREE_CASES = {
    "gpt2-small": {"seq": 24, "vocabulary": 32},
    "transformer-base": {"seq": 24, "vocabulary": 32},
    "llama3-8b-prefill": {"seq": 24, "vocabulary": 32},
    "gemma2-9b-local": {"seq": 24, "vocabulary": 32},
}


@pytest.mark.parametrize("name", IREE_CASES)
def test_iree_runs_the_portable_module(name: str, tmp_path: Path) -> None:
    compiler = pytest.importorskip(
        "iree.compiler", reason="IREE is not installed; pip install 'ropegen[iree]' runs this"
    )
    runtime = pytest.importorskip("iree.runtime", reason="IREE is not installed; pip install 'ropegen[iree]' runs this")
    described = json.loads((CASES / name / "config.json").read_text())
    described["build"].update(IREE_CASES[name], dtype="f32")
    graph = hf.from_case(described)
    loaded = rg.export(graph, tmp_path / "kernels", targets=["cpu"])
    whole: dict[str, Any] = dict(artifact.drawn_inputs(graph, 0))
    for stage, described in loaded.manifest["stages"].items():
        code = compiler.compile_file(
            str(tmp_path / "kernels" / f"{stage}.mlirbc"),
            input_type="stablehlo",
            target_backends=["llvm-cpu"],
            extra_args=["--iree-llvmcpu-target-cpu=generic"],
        )
        module = runtime.load_vm_flatbuffer(code, driver="local-sync")
        results = module.main(*(whole[label] for label in described["arguments"]))
        results = results if isinstance(results, list | tuple) else [results]
        whole.update(zip(described["results"], (np.asarray(each.to_host()) for each in results), strict=True))
    inputs = {label: whole[label] for label in graph.input_types}
    truth = rg.reference.evaluate(graph, inputs)["out"]
    for result in (whole["out"], np.asarray(loaded(**inputs))):
        assert np.sqrt(np.mean((result - truth) ** 2)) <= 5e-5 * np.sqrt(np.mean(truth**2))
