"""Artifacts: built without a device, loaded without the model, the same bytes, and whole or not there."""

from __future__ import annotations

import copy as copying
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from independent import draw_inputs
from mutate import without_native

import ropegen as rg
from ropegen import masks, models, passes
from ropegen.emit import artifact
from ropegen.emit.inputs import Place, places
from ropegen.emit.module import stablehlo
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


def case(name: str, **build: int | str) -> Graph:
    described = json.loads((CASES / name / "config.json").read_text())
    described["build"].update(build)
    return models.from_case(described)


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
    result = rg.load(built)(**values)
    np.testing.assert_allclose(result, rg.reference.evaluate(small(), values)["out"], atol=1e-5)
    assert rg.load(built).check().passed


@pytest.mark.parametrize(
    ("name", "build"),
    [("llama3-8b-decode", {"capacity": 16}), ("transformer-base", {"seq": 24}), ("gemma2-9b-local", {"seq": 24})],
)
@pytest.mark.parametrize("dtype", ["bf16", "f32"])
def test_right_artifacts_pass_their_check(name: str, build: dict[str, int], dtype: str, tmp_path: Path) -> None:
    made = rg.export(case(name, vocabulary=32, dtype=dtype, **build), tmp_path / "kernels", targets=["cpu"])
    verdict = made.check()
    assert verdict.passed, verdict
    assert verdict.outputs[0].relative < (2e-2 if dtype == "bf16" else 1e-5)  # on inputs that do not make it large


@pytest.mark.parametrize(
    ("right", "wrong"), [("theta = 1.000000e+02", "theta = 1.100000e+02"), ("kv_pos <= q_pos", "kv_pos < q_pos")]
)
def test_wrong_artifacts_fail_their_check(built: Path, tmp_path: Path, right: str, wrong: str) -> None:
    text = (built / "graph.mlir").read_text()
    assert right in text
    made = rg.export(rg.loads(text.replace(right, wrong)), tmp_path / "kernels", targets=["cpu"])
    assert made.check().passed
    made.graph = rg.loads(text)  # as if the kernels computed something else than the graph says
    assert not made.check().passed


def test_a_check_of_rows_that_see_nothing(tmp_path: Path) -> None:
    b = Builder("hidden")
    q, k, v = (b.input(label, (1, 4, 2, 8), "f32") for label in "qkv")
    hidden = {"mask": masks.where(True, False, False), "masked_row": "zero"}
    graph = b.build(out=b.attend(q, k, v, **hidden), lse=b.attend(q, k, v, **hidden, returns="log_sum_exp"))
    made = rg.export(graph, tmp_path / "kernels", targets=["cpu"])
    assert np.isneginf(made(**draw_inputs(graph, 0))["lse"]).all()
    assert made.check().passed


def test_three_platforms_give_what_one_gives(built: Path, tmp_path: Path) -> None:
    alone = rg.export(small(), tmp_path / "alone", targets=["cpu"])
    together = rg.load(built)
    assert together.manifest.platforms == ("cpu", "cuda", "tpu")
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
    inputs = draw_inputs(graph, 0)
    inputs["positions"] = inputs["lengths"][:, None]
    assert list(loaded(**inputs)) == ["out", "k_cache", "v_cache"]


def cached(capacity: int, rows: int) -> Graph:
    """A cache, and rows that a call writes into it at lengths that it gives."""
    b = Builder("cached")
    cache, update = b.input("cache", (2, capacity, 1, 4), "f32"), b.input("update", (2, rows, 1, 4), "f32")
    return b.build(out=b.append_cache(cache, update, b.input("lengths", (2,), "i32")))


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_a_call_that_would_write_past_the_capacity_is_refused(array: Callable[..., Any], tmp_path: Path) -> None:
    graph = cached(capacity=8, rows=3)
    values = {label: np.ones(kind.shape, np.float32) for label, kind in graph.input_types.items()}
    loaded = rg.export(graph, tmp_path / "kernels", targets=["cpu"])
    for run in (rg.plan(graph, "cpu").compile(), loaded, loaded.bind(), rg.plan(graph, "cpu").compile().bind()):
        last = run(**{**values, "lengths": array([5, 0], np.int32)})
        assert np.asarray(last)[0, 5:].all()
        for lengths in ([6, 0], [0, -1]):
            with pytest.raises(RopegenError, match=r"writes 3 rows .* into a cache of 8; give lengths from 0 to 5"):
                run(**{**values, "lengths": array(lengths, np.int32)})
    traced = jax.jit(loaded)(**{**values, "lengths": array([6, 0], np.int32)})
    assert np.asarray(traced).shape == (
        2,
        8,
        1,
        4,
    )  # under `jit` nobody knows them, and rows past the capacity are dropped


def step_over_a_cache(*, rotates: bool = True, start: int = 0, ring: bool = False, own_tokens: bool = True) -> Graph:
    """Two new tokens of two sequences over a cache of eight rows, with positions and lengths as inputs."""
    b = Builder("step")
    x = b.input("x", (2, 2, 4), "f32")
    tokens = x if own_tokens else b.input("other", (2, 2, 4), "f32")
    q, k = b.split_heads(x, 1, 4), b.split_heads(tokens, 1, 4)
    at, lengths = b.input("positions", (2, 2), "i32"), b.input("lengths", (2,), "i32")
    if rotates:
        q, k = (b.rope(value, at, rg.Rope(100.0, pairing="half")) for value in (q, k))
    cache = b.append_cache(b.state("cache", (2, 8, 1, 4), "f32"), k, lengths)
    held = b.input("held", (8,), "i32") if ring else b.positions(8, start)
    return b.build(out=b.attend(q, cache, cache, mask=rg.masks.causal, q_positions=at, kv_positions=held))


def test_a_call_whose_positions_and_lengths_differ_is_refused(tmp_path: Path) -> None:
    graph = step_over_a_cache()
    values = {label: np.ones(kind.shape, np.float32) for label, kind in graph.input_types.items()}
    lengths = np.array([3, 0], np.int32)
    positions = (lengths[:, None] + np.arange(2)).astype(np.int32)
    padded = np.array([[3, 0], [0, 1]], np.int32)  # the second token of the first sequence is padding
    compiled = rg.plan(graph, "cpu").compile()
    loaded = rg.export(graph, tmp_path / "kernels", targets=["cpu"])
    for run in (compiled, compiled.bind(), loaded, loaded.bind()):
        for fits in (padded, jnp.asarray(positions)):
            run(**{**values, "positions": fits, "lengths": lengths})
        for moved in (positions + 1, jnp.asarray(positions - 1)):
            with pytest.raises(
                RopegenError,
                match=r"positions begins at .* lengths is \[3 0\].*give positions = lengths\[..., None\] \+",
            ):
                run(**{**values, "positions": moved, "lengths": lengths})
    jax.jit(compiled)(**{**values, "positions": positions + 1, "lengths": lengths})  # under `jit` nobody knows them


@pytest.mark.any_jax
@pytest.mark.parametrize(
    ("told", "start"),
    [
        ({}, 0),
        ({"start": 5}, 5),
        ({"own_tokens": False}, 0),  # the new keys are rotated at the positions
        ({"rotates": False}, 0),  # queries at the positions are of the same tokens as the new keys
        ({"ring": True}, None),
        ({"rotates": False, "own_tokens": False}, None),  # keys of other tokens, as of an encoder
    ],
)
def test_positions_and_lengths_are_one_place_where_the_graph_says_so(told: dict[str, Any], start: int | None) -> None:
    wanted = () if start is None else (Place("positions", "lengths", start, 2),)
    graph = step_over_a_cache(**told)
    assert places(graph) == places(passes.canonical(graph)) == wanted


@pytest.mark.any_jax
def test_drawn_inputs_tell_one_place() -> None:
    graph = step_over_a_cache(start=5)
    drawn = artifact.drawn_inputs(graph, 3)
    np.testing.assert_array_equal(drawn["positions"], drawn["lengths"][:, None] + 5 + np.arange(2))


@pytest.mark.any_jax
@pytest.mark.parametrize("name", ["llama3-8b-prefill", "gpt2-small", "bloom-560m", "gpt-j-6b", "gemma2-9b-local"])
def test_models_say_the_place_of_a_step_twice(name: str) -> None:
    graph = case(name, phase="decode", seq=1, capacity=8)
    assert places(graph) == places(passes.canonical(graph)) == (Place("positions", "lengths", 0, 1),)


FRESH = """
import sys
import numpy as np
from ropegen.emit.artifact import load
values = dict(np.load(sys.argv[2]))
np.save(sys.argv[3], load(sys.argv[1])(**values))
print(*(name for name in sys.modules if name.startswith("ropegen.templates")))
"""


def test_a_fresh_process_needs_no_model_code(built: Path, tmp_path: Path) -> None:
    values = draw_inputs(small(), 4)
    np.savez(tmp_path / "in.npz", **values)
    folder = Path(shutil.copytree(built, tmp_path / "kernels"))
    without_native(folder)  # native kernels are compiled from the graph, by the template
    command = [sys.executable, "-c", FRESH, str(folder), str(tmp_path / "in.npz"), str(tmp_path / "out.npy")]
    settings = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": str(jax.config.read("jax_disable_most_optimizations"))}
    done = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True, env=settings)
    assert done.stdout.split() == []
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), rg.load(folder)(**values))


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
        subprocess.run(command, check=True, cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": seed})
        assert contents(tmp_path / seed) == contents(built)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_no_file_names_a_folder_of_this_machine(built: Path, tmp_path: Path) -> None:
    b = Builder("kernels")
    q, k, v = (b.input(name, (1, 1024, 2, 64), "bf16") for name in "qkv")
    made = rg.export(b.build(out=b.attend(q, k, v)), tmp_path / "kernels", targets=TARGETS)
    assert {"mosaic_gpu_v2", "tpu_custom_call"} <= {*made.manifest.custom_calls}
    home = str(Path(__file__).resolve().parent.parent).encode()
    site = str(Path(np.__file__).resolve().parent.parent).encode()
    for folder in (built, tmp_path / "kernels"):
        assert not [name for name, content in contents(folder).items() if home in content or site in content]


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
        (lambda path: path.write_text("[" * 100_000), ["manifest.json", "no format"]),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), ["manifest.json", "damaged"]),
        (lambda path: path.write_text("[]"), ["manifest.json", "no format"]),
        (lambda path: path.write_text('{"format": 1}'), ["manifest.json", "graph"]),
        (edited(lambda m: m.update(format=99)), ["format 99", "newer ropegen"]),
        (lambda path: path.write_text('{"format": ' + "1" * 5000 + "}"), ["manifest.json", "no format"]),
        (edited(lambda m: m["files"].update({"../../etc/passwd": "0" * 64})), ["manifest.json", "plain file names"]),
        (edited(lambda m: m["files"].pop("module.jaxexport")), ["manifest.json", "module.jaxexport"]),
        (edited(lambda m: m["inputs"]["ids"].pop("shape")), ["manifest.json", "shape"]),
        (edited(lambda m: m["inputs"]["ids"].update(dtype="f7")), ["manifest.json", "f7"]),
        (edited(lambda m: m["inputs"]["ids"].update(role="guest")), ["manifest.json", "guest"]),
        (edited(lambda m: m["stages"]["module"].update(arguments=7)), ["manifest.json", "$.stages.module.arguments"]),
        (edited(lambda m: m["inputs"]["ids"].update(shape=[1, -6])), ["manifest.json", "$.inputs['ids'].shape[1]"]),
        (edited(lambda m: m["files"].update({"plan.txt": "0"})), ["manifest.json", "$.files['plan.txt']"]),
        (edited(lambda m: m["files"].update({"a\0b": "0" * 64})), ["manifest.json", "plain file names"]),
        (edited(lambda m: m["files"].update({"a" * 5000: "0" * 64})), ["has lost its file"]),
        (edited(lambda m: m.update(signature="of nobody")), ["manifest.json", "signature", "newer ropegen"]),
        (edited(lambda m: m.update(tiles="tiles.json")), ["manifest.json", "must list tiles.json"]),
        (edited(lambda m: m.update(format=0)), ["manifest.json", "$.format"]),
    ],
)
def test_a_damaged_manifest_is_refused(copy: Path, damage: Callable[[Path], None], words: list[str]) -> None:
    damage(copy / "manifest.json")
    with pytest.raises(RopegenError) as caught:
        rg.load(copy)
    assert all(word in str(caught.value) for word in words), caught.value


def test_no_manifest_breaks_loading_in_another_way(copy: Path) -> None:
    """Every value of the manifest in turn replaced by one of each kind: it loads, or the manifest is to blame."""
    manifest = json.loads((copy / "manifest.json").read_text())

    def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [path, *(place for key, part in inner for place in places(part, (*path, key)))]

    refused = 0
    for *path, last in places(manifest)[1:]:
        for other in (None, 7, -1.5, "words", [], [[]], {}, {"a": {}}):
            changed = copying.deepcopy(manifest)
            inner = changed
            for key in path:
                inner = inner[key]
            inner[last] = other
            (copy / "manifest.json").write_text(json.dumps(changed))
            try:
                rg.load(copy)
            except RopegenError:
                refused += 1
    assert refused > 100


def test_the_manifest_is_typed_and_gives_its_data(built: Path) -> None:
    stated = rg.load(built).manifest
    content = (built / "manifest.json").read_bytes()
    assert stated.encoded() == content
    assert stated.data() == json.loads(content)
    assert stated.inputs["ids"].type == small().input_types["ids"]
    assert stated.built_with.ropegen == rg.__version__
    assert (stated.executables, stated.tiles) == ({}, None)
    assert not {"executables", "tiles"} & stated.data().keys()
    assert stated["inputs"] == json.loads(content)["inputs"]
    with pytest.raises(RopegenError, match="did you mean 'inputs'"):
        stated["input"]


def test_measured_tiles_are_a_hashed_file(tmp_path: Path) -> None:
    measured = b'{"attend/xla": []}'
    made = artifact.export([rg.plan(small(), "cpu")], tmp_path / "kernels", tiles=measured)
    path = tmp_path / "kernels" / "tiles.json"
    assert (made.manifest.tiles, path.read_bytes()) == (path.name, measured)
    rg.export(small(), tmp_path / "kernels", targets=["cpu"])  # the file belongs to the artifact, so it goes with it
    assert not path.exists()
    artifact.export([rg.plan(small(), "cpu")], tmp_path / "kernels", tiles=measured)
    path.write_bytes(b"{}")
    with pytest.raises(RopegenError, match=r"tiles\.json is damaged"):
        rg.load(tmp_path / "kernels")


def test_a_program_of_another_jax_is_named(copy: Path) -> None:
    path, manifest = copy / "module.jaxexport", json.loads((copy / "manifest.json").read_text())
    path.write_bytes(b"of a format to come" + bytes(64))
    manifest["files"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RopegenError, match=rf"jax .* does not read .*{path.name}"):
        rg.load(copy)


def test_what_is_not_there_or_foreign_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RopegenError, match="there is no directory"):
        rg.load(tmp_path / "nowhere")
    with pytest.raises(RopegenError, match="not an artifact"):
        rg.load(tmp_path)


def test_wrong_inputs_are_refused(built: Path) -> None:
    values = draw_inputs(small(), 0)
    with pytest.raises(RopegenError, match="missing inputs: ids"):
        rg.load(built)(**{label: value for label, value in values.items() if label != "ids"})
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


@pytest.mark.parametrize("manifest", ['{"manifest_version": 3, "name": "an extension"}', '{"format": 1}', "{"])
def test_a_manifest_of_something_else_is_no_artifact(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(RopegenError, match="holds other files"):
        rg.export(small(), tmp_path, targets=["cpu"])
    assert contents(tmp_path) == {"manifest.json": manifest.encode()}


def test_notes_beside_an_artifact_are_kept(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    before = contents(copy)
    with pytest.raises(RopegenError, match=r"notes\.txt"):
        rg.export(small("other"), copy, targets=["cpu"])
    assert contents(copy) == before


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RopegenError, match="cannot write"):
        rg.export(small(), tmp_path / "notes.txt" / "kernels", targets=["cpu"])
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_a_link_to_an_artifact_stays_a_link(copy: Path) -> None:
    link = copy.parent / "link"
    link.symlink_to(copy.name)
    rg.export(small("other"), link, targets=["cpu"])
    assert link.is_symlink()
    assert rg.load(copy).manifest.graph.name == "other"
    assert sorted(path.name for path in copy.parent.iterdir()) == [copy.name, "link"]


def test_an_artifact_is_replaced_as_a_whole(copy: Path) -> None:
    rg.export(small("other"), copy, targets=["cpu"])
    assert rg.load(copy).manifest.graph.name == "other"
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


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
import ropegen as rg
from ropegen.emit import artifact
from ropegen.emit.inputs import Place, places
from test_artifact import small
def kill(doing):
    if doing.startswith(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
artifact.export([rg.plan(small("other"), "cpu")], sys.argv[1], progress=kill)
"""


@pytest.mark.parametrize("during", ["lowering module", "putting"])
def test_a_killed_build_leaves_what_was(built: Path, copy: Path, during: str) -> None:
    for folder in (copy, copy.parent / "new"):
        command = [sys.executable, "-c", KILLED, str(folder), str(Path(__file__).parent), during]
        done = subprocess.run(command, check=False, cwd=copy.parent)
        assert done.returncode == -signal.SIGKILL
    assert contents(copy) == contents(built)
    assert not (copy.parent / "new").exists()
    rg.export(small("other"), copy.parent / "new", targets=["cpu"])  # what was left aside is in nobody's way


def test_targets_that_cannot_share_an_artifact(tmp_path: Path) -> None:
    with pytest.raises(RopegenError, match="gpu:h100 and gpu:h200 are both gpu"):
        rg.export(small(), tmp_path / "x", targets=["gpu:h100", "gpu:h200"])
    with pytest.raises(RopegenError, match="targets is empty; name at least one"):
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


@pytest.mark.parametrize(("dtype", "bound"), [("bf16", 1e-2), ("f32", 5e-5)])
@pytest.mark.parametrize("name", IREE_CASES)
def test_iree_runs_the_portable_module(name: str, dtype: str, bound: float, tmp_path: Path) -> None:
    compiler = pytest.importorskip("iree.compiler", reason="IREE is not installed; pip install '.[iree]' runs this")
    runtime = pytest.importorskip("iree.runtime", reason="IREE is not installed; pip install '.[iree]' runs this")
    graph = case(name, **IREE_CASES[name], dtype=dtype)
    loaded = rg.export(graph, tmp_path / "kernels", targets=["cpu"])
    whole: dict[str, Any] = dict(artifact.drawn_inputs(graph, 0))
    for stage, described in loaded.manifest.stages.by_name.items():
        code = compiler.compile_file(
            str(tmp_path / "kernels" / f"{stage}.mlirbc"),
            input_type="stablehlo",
            target_backends=["llvm-cpu"],
            extra_args=["--iree-llvmcpu-target-cpu=generic"],
        )
        module = runtime.load_vm_flatbuffer(code, driver="local-sync")
        results = module.main(*(whole[label] for label in described.arguments))
        results = results if isinstance(results, list | tuple) else [results]
        whole.update(zip(described.results, (np.asarray(result.to_host()) for result in results), strict=True))
    inputs = {label: whole[label] for label in graph.input_types}
    truth = rg.reference.evaluate(graph, inputs)["out"]
    for result in (whole["out"], np.asarray(loaded(**inputs))):
        assert np.sqrt(np.mean((result.astype(np.float64) - truth) ** 2)) <= bound * np.sqrt(np.mean(truth**2))
