"""Artifacts that nobody vouches for: forged, mutated, signed by others, killed while they are built."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mutate
import numpy as np
import pytest
import race
from jax import export
from jax.interpreters import mlir

import ropegen as rg
from ropegen import cli
from ropegen.emit import artifact
from ropegen.emit.artifact import place
from ropegen.emit.module.reader import expect_program, parsed
from ropegen.emit.module.replace import replace_composites
from ropegen.template import OWN_CALLS, catalog
from ropegen.types import TensorType

GRAPH = mutate.small(100.0)
COMPAT = Path(__file__).resolve().parent.parent / "golden" / "compat"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trust") / "kernels"
    rg.export(GRAPH, folder, targets=["cpu", "tpu:v5e"])
    return folder


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the same shapes, with other angles."""
    folder = tmp_path_factory.mktemp("other") / "kernels"
    rg.export(mutate.small(110.0), folder, targets=["cpu", "tpu:v5e"])
    return folder


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "copy"))


# Forgeries -----------------------------------------------------------------------------------------------------------


@pytest.mark.any_jax
def test_own_calls_are_what_templates_declare() -> None:
    own = [template for template in catalog() if template.build.__module__.startswith("ropegen.templates")]
    assert {call for template in own for call in template.calls} == OWN_CALLS


def forge(folder: Path, function: Callable[..., Any], platforms: tuple[str, ...] = ("cpu", "tpu")) -> None:
    """Puts another program with the same arguments into an artifact, with all hashes and seals of its own."""
    file = folder / "module.jaxexport"
    made = export.deserialize(bytearray(file.read_bytes()))
    labels = sorted(json.loads((folder / "manifest.json").read_text())["stages"]["module"]["arguments"])
    shapes = {
        label: jax.ShapeDtypeStruct(aval.shape, aval.dtype) for label, aval in zip(labels, made.in_avals, strict=True)
    }
    checks = [export.DisabledSafetyCheck.custom_call("TopK")]
    forged = export.export(jax.jit(function), platforms=platforms, disabled_checks=checks)(shapes)
    forged = dataclasses.replace(forged, fun_name=made.fun_name, disabled_safety_checks=())
    file.write_bytes(forged.serialize(vjp_order=0))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["custom_calls"]["TopK"] = "stable by jax.export"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    mutate.hash_again(folder, forge=True)


def zeros(values: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {"out": jnp.zeros((1, 6, 8), np.float32) + 0 * sum(value.sum() for value in values.values())}


def calling(values: dict[str, jax.Array]) -> dict[str, jax.Array]:
    call = jax.ffi.ffi_call("TopK", jax.ShapeDtypeStruct((1, 6, 8), np.float32))
    return {"out": call(zeros(values)["out"])}


def test_a_custom_call_that_only_the_file_lists_is_refused(copy: Path) -> None:
    forge(copy, calling)
    with pytest.raises(rg.RopegenError, match=r"calls TopK, which no template of ropegen emits.*allow=\('TopK',\)"):
        rg.load(copy)
    rg.load(copy, allow=["TopK"])  # nobody calls it: it would end the process
    with pytest.raises(rg.RopegenError, match="give the targets of custom calls"):
        rg.load(copy, allow="TopK")


MAIN = (
    "module {{ func.func public @{name}(%x: tensor<4xf32>) -> tensor<4xf32> {{ {body} return %x : tensor<4xf32> }} }}"
)


@pytest.mark.parametrize(
    ("body", "name", "words"),
    [
        ("", "main", ""),
        ("", "other", "has no function main"),
        ("%t = stablehlo.create_token : !stablehlo.token", "main", r"the operation stablehlo\.create_token"),
        ("%i = stablehlo.partition_id : tensor<ui32>", "main", r"the operation stablehlo\.partition_id"),
        ("%c = arith.constant 1 : i32", "main", r"the operation arith\.constant"),
        ("%c = stablehlo.constant dense<0.0> : tensor<1048576x1048576x1024xf32>", "main", "1125899906842624 elements"),
        ("%c = stablehlo.custom_call @mine(%x) : (tensor<4xf32>) -> tensor<4xf32>", "main", "calls mine"),
    ],
)
def test_a_program_may_only_compute(body: str, name: str, words: str) -> None:
    with mlir.make_ir_context():
        module = parsed(MAIN.format(name=name, body=body), "it")
        kind = TensorType((4,), "f32")
        if not words:
            expect_program(module, "it", (), [kind], [kind])
            with pytest.raises(rg.RopegenError, match="two artifacts"):
                expect_program(module, "it", (), [kind], [kind.with_dtype("f16")])
            return
        with pytest.raises(rg.RopegenError, match=words):
            expect_program(module, "it", (), [kind], [kind])


def test_another_program_fails_the_check(copy: Path) -> None:
    forge(copy, zeros)
    assert not rg.load(copy).check().passed


def test_a_program_with_other_results_is_refused(copy: Path) -> None:
    forge(copy, lambda values: {"out": zeros(values)["out"][:, :3]})
    with pytest.raises(rg.RopegenError, match=r"module\.jaxexport.*two artifacts"):
        rg.load(copy)


def test_a_program_for_other_platforms_is_refused(copy: Path) -> None:
    forge(copy, zeros, ("cpu",))
    with pytest.raises(rg.RopegenError, match=r"has the platforms .*cpu.* says .*tpu.*two artifacts"):
        rg.load(copy)


@pytest.mark.parametrize("name", ["graph.mlir", "module.jaxexport"])
def test_a_file_of_another_artifact_is_refused_though_its_hash_is_right(copy: Path, other: Path, name: str) -> None:
    shutil.copyfile(other / name, copy / name)
    mutate.hash_again(copy, forge=False)
    with pytest.raises(rg.RopegenError, match=r"another (artifact|graph)"):
        rg.load(copy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update(format=True), "no format"),
        (lambda m: m["inputs"]["ids"].update(shape=["1", 6]), r"shape\[0\]"),
        (lambda m: m["inputs"]["ids"].update(shape=[1, 7]), r"ids = tensor<1x6xi32>.*ids = tensor<1x7xi32>"),
        (lambda m: m["inputs"]["ids"].update(role="state"), "ids = .*activation.*ids = .*state"),
        (lambda m: m["outputs"]["out"].update(dtype="bf16"), "out = tensor<1x6x8xf32>.*bf16"),
        (lambda m: m["graph"].update(digest="0" * 64), "of another artifact"),
        (lambda m: m["graph"].update(name="else"), "graph = small.*graph = else"),
        (lambda m: m["stages"]["module"].update(arguments=["ids", "ids"]), "no label may stand twice"),
        (lambda m: m["stages"]["module"].update(results=["ids"]), "must be the outputs"),
        (lambda m: m["stages"]["module"].update(calling_convention=9), "calling convention 10.*says 9"),
        (lambda m: m["stages"]["module"]["arguments"].reverse(), ""),  # the order is that of another file
        (lambda m: m.update(platforms=["cpu"]), "targets in `plans`"),
        (lambda m: m["plans"].clear(), "targets in `plans`"),
        (lambda m: m["files"].update({"manifest.sig": "0" * 64}), "plain file names"),
    ],
)
def test_a_manifest_must_fit_the_files(copy: Path, change: Callable[[dict[str, Any]], object], words: str) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    change(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    if not words:
        rg.load(copy)
        return
    with pytest.raises(rg.RopegenError, match=words):
        rg.load(copy)


def test_a_key_that_stands_twice_is_refused(copy: Path) -> None:
    path = copy / "manifest.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 1, "format": 1'))
    with pytest.raises(rg.RopegenError, match="'format' stands twice"):
        rg.load(copy)


def test_bytes_that_are_no_text_are_refused_behind_another_fault(copy: Path) -> None:
    """A reader that stops at the first fault does not see the second, and its message reads the rest."""
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["inputs"]["ids"]["shape"] = "words"
    path.write_bytes(json.dumps(manifest | {"versions": "here"}).encode().replace(b'"here"', b'"\xff"'))
    with pytest.raises(rg.RopegenError, match="is damaged"):
        rg.load(copy)


def test_what_is_too_large_or_no_file_is_not_read(copy: Path) -> None:
    for name, what in (("plan.txt", "something else than a file"), ("manifest.json", "is not an artifact")):
        (copy / name).unlink()
        os.mkfifo(copy / name)  # reading it would wait for ever
        with pytest.raises(rg.RopegenError, match=what):
            rg.load(copy)
    (copy / "manifest.json").unlink()
    with (copy / "manifest.json").open("wb") as file:
        file.truncate(2**36)  # no blocks on the disk
    with pytest.raises(rg.RopegenError, match="more than 16777216 bytes"):
        rg.load(copy)


def test_an_artifact_without_seals_loads(tmp_path: Path) -> None:
    old = next(path for path in COMPAT.iterdir() if (path / "artifact").is_dir()) / "artifact"
    made = export.deserialize(bytearray((old / "module.jaxexport").read_bytes()))
    assert made.fun_name == rg.load(old).graph.name


# Mutations -----------------------------------------------------------------------------------------------------------


def test_no_mutation_gives_a_wrong_result_or_ends_the_process() -> None:
    """`python tests/mutate.py 10000` draws more."""
    outcomes = Counter(outcome for _, outcome in mutate.run(range(40)))
    assert outcomes.total() == 40
    assert not [words for words in outcomes if any(bad in words for bad in (mutate.WRONG, mutate.RAISED, mutate.DIED))]
    assert all(any(words.endswith(good) for words in outcomes) for good in (mutate.REFUSED, mutate.RIGHT))


def test_bytecode_that_ends_its_reader_is_an_error(built: Path) -> None:
    whole = (built / "module.mlirbc").read_bytes()
    assert replace_composites(whole, "cpu").portable == whole
    for damaged in (whole[:40], whole[: len(whole) // 2], whole[:40] + bytes(500), b"ML\xefR" + bytes(range(256))):
        with pytest.raises(rg.RopegenError, match="not MLIR bytecode that this jax can read"):
            replace_composites(damaged, "cpu")


# Signatures ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private key and its public one."""
    return new_keys(tmp_path, "maker")


def new_keys(folder: Path, name: str) -> tuple[Path, Path]:
    reason = "cryptography is not installed; pip install '.[sign]' runs this"
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization", reason=reason)
    ed25519 = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.ed25519", reason=reason)
    key = ed25519.Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    (folder / f"{name}.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / f"{name}.pub").write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return folder / f"{name}.pem", folder / f"{name}.pub"


@pytest.mark.any_jax
def test_a_signature_says_who_made_an_artifact(copy: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    _, stranger = new_keys(tmp_path, "stranger")
    with pytest.raises(rg.RopegenError, match="is not signed"):
        rg.load(copy, keys=public)
    assert cli.main(["sign", str(copy), "--key", str(private)]) == 0
    values = artifact.drawn_inputs(GRAPH, 0)
    np.testing.assert_array_equal(rg.load(copy, keys=[stranger, public])(**values), rg.load(copy)(**values))
    assert cli.main(["check", str(copy), "--key", str(public)]) == 0
    with pytest.raises(rg.RopegenError, match=r"is signed by ed25519:.* and the keys that you trust are"):
        rg.load(copy, keys=stranger)
    with pytest.raises(rg.RopegenError, match="keys is"):
        rg.load(copy, keys=[])


@pytest.mark.any_jax
def test_a_forgery_has_no_signature_of_its_maker(copy: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    cli.main(["sign", str(copy), "--key", str(private)])
    forge(copy, zeros)
    rg.load(copy)
    with pytest.raises(rg.RopegenError, match=r"is not what ed25519:.* signed"):
        rg.load(copy, keys=public)
    second, its_public = new_keys(tmp_path, "second")
    cli.main(["sign", str(copy), "--key", str(second)])  # the signature of other content goes
    rg.load(copy, keys=its_public)
    with pytest.raises(rg.RopegenError, match="is signed by"):
        rg.load(copy, keys=public)


@pytest.mark.any_jax
def test_signatures_of_several_stay_until_the_next_build(copy: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    second, its_public = new_keys(tmp_path, "second")
    for key in (private, second):
        cli.main(["sign", str(copy), "--key", str(key)])
    rg.load(copy, keys=public)
    rg.load(copy, keys=its_public)
    rg.export(GRAPH, copy, targets=["cpu"])
    assert not (copy / "manifest.sig").exists()


@pytest.mark.any_jax
def test_what_is_no_key_is_refused(copy: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = keys
    with pytest.raises(rg.RopegenError, match="holds no private key"):
        artifact.sign(copy, public)
    with pytest.raises(rg.RopegenError, match="holds no public key"):
        rg.load(copy, keys=private)
    with pytest.raises(rg.RopegenError, match="cannot read"):
        rg.load(copy, keys=tmp_path / "nowhere")
    (copy / "manifest.sig").write_text("[]")
    with pytest.raises(rg.RopegenError, match="holds no signatures"):
        rg.load(copy, keys=public)
    rg.load(copy)  # without keys, nobody reads it


# Kills and races -----------------------------------------------------------------------------------------------------


@pytest.mark.any_jax
def test_builders_are_killed_and_readers_see_whole_artifacts() -> None:
    """`python tests/race.py 200 60` kills more of them, and races longer."""
    killed, raced = race.run(4, 1.5)
    assert (killed.kills, killed.false_alarms, killed.left_over) == (4, (), ())
    assert (raced.false_alarms, raced.left_over) == ((), ())
    assert killed.builds >= 4
    assert raced.builds > 2
    assert raced.loads > 4


@pytest.mark.any_jax
def test_a_terminated_command_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "graph.mlir").write_text(rg.dumps(GRAPH))
    command = [sys.executable, "-m", "ropegen", "build", str(tmp_path / "graph.mlir"), "--target", "cpu"]
    with subprocess.Popen([*command, "-o", str(tmp_path / "out" / "kernels")], stderr=subprocess.PIPE) as child:
        while not (tmp_path / "out").is_dir() and child.poll() is None:  # files are about to be written
            time.sleep(0.001)
        child.send_signal(signal.SIGTERM)
        assert child.stderr is not None
        said = child.stderr.read().decode()
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert names in ([], ["kernels"]), said
    if not names:
        assert child.returncode == 143, said
    else:  # it had put the artifact in place: it was about to end, or had done so
        assert child.returncode in (0, 143, -signal.SIGTERM), said


@pytest.mark.any_jax
def test_a_file_that_comes_at_the_last_moment_is_kept(copy: Path) -> None:
    asked: list[Path] = []

    def refuse_the_second_time(folder: Path, target: Path) -> None:
        asked.append(folder)
        if folder != target:
            raise rg.RopegenError("somebody put notes there")

    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    with pytest.raises(rg.RopegenError, match="notes"):
        place.put({"new": b"new"}, copy, refuse_the_second_time)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]
    assert len(asked) == 2


@pytest.mark.any_jax
def test_where_directories_cannot_be_exchanged(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_exchanged", lambda one, other: False)
    place.put({"new": b"new"}, copy, lambda folder, target: None)
    assert [path.name for path in copy.iterdir()] == ["new"]
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


@pytest.mark.any_jax
def test_only_what_dead_builders_left_is_removed(copy: Path) -> None:
    dead, file, living, foreign = (
        copy.with_name(name)
        for name in (".copy.building-1", ".copy.building-2", ".copy.building-3", ".copies.building-4")
    )
    for folder in (dead, living, foreign):
        folder.mkdir()
        (folder / "module.jaxexport").touch()
    file.touch()
    lock = place._lock(living, wait=True)
    assert lock is not None
    place.put({"new": b"new"}, copy, lambda folder, target: None)
    os.close(lock)
    assert {path.name for path in copy.parent.iterdir()} == {copy.name, living.name, foreign.name}


# Long runs, threads and processes ------------------------------------------------------------------------------------

# Caches without a bound. They have no key, or one from a closed set: a class of ops, a family, a vector unit.
CLOSED = {
    "attributes", "_trio", "_installed", "_bf16_unit", "host_unit", "missing", "_target_machine", "_binding", "_linker"
}  # fmt: skip


def test_every_cache_has_a_bound() -> None:
    caches = {
        name: value.cache_info().maxsize
        for module in [module for name, module in sys.modules.items() if name.startswith("ropegen")]
        for name, value in vars(module).items()
        if hasattr(value, "cache_info") and value.__module__ == module.__name__
    }
    assert {name for name, most in caches.items() if most is None} <= CLOSED
    assert caches.keys() >= {"_planned", "_text_of", "attributes"}


def test_plans_are_forgotten() -> None:
    """`python tests/long_run.py trace 10000` traces plain calls too, and shows the memory."""

    def objects(lengths: range) -> int:
        for length in lengths:
            b = rg.Builder("one")
            x = b.input("x", (1, length, 2, 4), "f32")
            rg.plan(b.build(out=b.attend(x, x, x)), "gpu:h200")
        gc.collect()
        return len(gc.get_objects())

    first = objects(range(1, 101))
    assert objects(range(101, 301)) < first + 1000


def test_what_was_compiled_for_an_artifact_goes_with_it(copy: Path) -> None:
    """Otherwise a process that loads an artifact again and again runs out of room for mappings of memory."""
    mutate.without_native(copy)
    values = artifact.drawn_inputs(GRAPH, 0)

    def compiled(loads: int) -> int:
        for _ in range(loads):
            rg.load(copy)(**values)
        gc.collect()
        return len(jax.devices()[0].client.live_executables())

    first = compiled(2)
    assert compiled(5) <= first


def test_one_artifact_in_many_threads(built: Path) -> None:
    values = artifact.drawn_inputs(GRAPH, 0)
    loaded = rg.load(built)
    expected = np.asarray(loaded(**values))
    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(lambda: rg.load(built)(**values)) for _ in range(4)]
        results += [pool.submit(loaded, **values) for _ in range(20)]
    for result in results:
        np.testing.assert_array_equal(result.result(), expected)


@pytest.mark.any_jax
def test_what_was_pickled_runs_in_a_child_process(built: Path) -> None:
    values = artifact.drawn_inputs(GRAPH, 0)
    loaded, compiled = rg.load(built), rg.plan(GRAPH, "cpu").compile()
    setting = "jax_disable_most_optimizations"
    with race.CONTEXT.Pool(1, configure, (setting, jax.config.read(setting))) as pool:
        for run in (loaded, compiled):
            np.testing.assert_array_equal(pool.apply(call, (run, values)), np.asarray(run(**values)))


def configure(setting: str, value: Any) -> None:
    jax.config.update(setting, value)


def call(run: Callable[..., Any], values: dict[str, Any]) -> Any:
    return np.asarray(run(**values))
