"""The programs of docs/examples: they learn, the replaced layers change no loss, and artifacts run without ropegen."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import ROOT, code_of

import ropegen as rg
from ropegen.cli import main

EXAMPLES = ROOT / "docs" / "examples"
WITHOUT = "import runpy, sys; sys.argv = sys.argv[1:]; {hidden}; runpy.run_path(sys.argv[0], run_name='__main__')"


def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))


def without(modules: tuple[str, ...], name: str, *arguments: str) -> list[str]:
    """The command of an example in which some modules cannot be imported."""
    hidden = "; ".join(f"sys.modules[{module!r}] = None" for module in modules)
    return [sys.executable, "-c", WITHOUT.format(hidden=hidden), str(EXAMPLES / f"{name}.py"), *arguments]


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize(("name", "library"), [("gpt_equinox", "equinox"), ("gpt_nnx", "flax")])
def test_a_gpt_trains_to_the_same_losses_with_the_layers_replaced(
    name: str, library: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(library, reason=f"the example needs: pip install {library}")
    names = example(name)
    compared: list[list[float]] = []

    def kept(model: Any, train: Any = names["train"]) -> list[float]:
        compared.append(train(model))
        return compared[-1]

    names["main"].__globals__["train"] = kept
    names["main"]()
    before, after = compared
    assert len(before) == len(after) == 50
    np.testing.assert_allclose(after, before, rtol=1e-5)
    assert before[-1] < 0.65 * before[0]
    assert ", 0 left" in capsys.readouterr().out


@pytest.mark.usefixtures("quick_compilation")
def test_a_step_from_the_cache_writes_what_the_whole_text_says() -> None:
    names = example("generate")
    model, losses = names["trained"]()
    assert losses[-1] < 0.5 * losses[0]
    prompt = b"Licensor "
    written = names["generate"](model, prompt)
    assert written.startswith(prompt)
    assert len(written) == names["CAPACITY"]
    whole = np.frombuffer(written, np.uint8).astype(np.int32)[None]
    likeliest = np.asarray(names["scores_of"](model, whole)).argmax(-1)[0]
    np.testing.assert_array_equal(likeliest[len(prompt) - 1 : -1], whole[0, len(prompt) :])


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of docs/deploy.md, its weights and ids, and the result of ropegen."""
    folder = tmp_path_factory.mktemp("deployed")
    (config,) = code_of(ROOT / "docs" / "deploy.md", "json")
    (folder / "config.json").write_text(config)
    build = ("build", str(folder / "config.json"), "--target", "cpu", "--seq", "8", "--dtype", "f32")
    assert main([*build, "-o", str(folder / "kernels")]) == 0
    kernels = rg.load(folder / "kernels")
    draw = np.random.default_rng(0)
    weights = {name: draw.normal(size=kind.shape).astype(np.float32) / 8 for name, kind in kernels.parameters.items()}
    ids = np.array([[3, 1, 4, 1, 5, 9, 2, 6]], np.int32)
    np.savez(folder / "weights.npz", **weights)
    np.savez(folder / "ids.npz", ids=ids)
    np.save(folder / "truth.npy", rg.reference.evaluate(kernels.graph, {**weights, "ids": ids})["out"])
    return folder


def expect_truth(folder: Path, out: Any) -> None:
    truth = np.load(folder / "truth.npy")
    np.testing.assert_allclose(out, truth, atol=1e-5 * np.abs(truth).max())


@pytest.fixture
def server(deployed: Path) -> Iterator[str]:
    """The address of the served artifact; the process has no ropegen."""
    command = without(("ropegen",), "serve", str(deployed / "kernels"), str(deployed / "weights.npz"), "0")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
        process.terminate()


def test_a_script_that_imports_jax_alone_serves_an_artifact(deployed: Path, server: str) -> None:
    question = json.dumps({"ids": np.load(deployed / "ids.npz")["ids"].tolist()}).encode()
    with urllib.request.urlopen(urllib.request.Request(server, question), timeout=60) as answer:
        expect_truth(deployed, json.loads(answer.read())["out"])


def test_iree_runs_an_artifact_without_jax(deployed: Path, tmp_path: Path) -> None:
    pytest.importorskip("iree.compiler", reason="pip install iree-base-compiler iree-base-runtime runs this")
    pytest.importorskip("iree.runtime", reason="pip install iree-base-compiler iree-base-runtime runs this")
    files = (deployed / "kernels", deployed / "weights.npz", deployed / "ids.npz", tmp_path / "out.npz")
    subprocess.run(without(("jax", "jaxlib", "ropegen"), "run_iree", *map(str, files)), check=True)
    expect_truth(deployed, np.load(tmp_path / "out.npz")["out"])


def test_the_commands_of_iree_run_an_artifact_without_python(tmp_path: Path) -> None:
    compiler, runner = (shutil.which(name, path=str(Path(sys.executable).parent)) for name in COMMANDS)
    if compiler is None or runner is None:
        pytest.skip("pip install iree-base-compiler iree-base-runtime has the commands")
    b = rg.Builder("double")
    rg.export(b.build(out=b.scale(b.input("x", (2, 3), "f32"), 2.0)), tmp_path / "kernels", targets="cpu")
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "x.npy", x)
    (block,) = [code for code in code_of(ROOT / "docs" / "deploy.md", "sh") if code.startswith(COMMANDS[0])]
    compiled, run = block.replace("\\\n", "").splitlines()
    subprocess.run([compiler, *compiled.split()[1:]], check=True, cwd=tmp_path)
    arguments = [word for word in run.split()[1:] if not word.startswith("--input")]
    subprocess.run([runner, *arguments, "--input=@x.npy"], check=True, cwd=tmp_path, stdout=subprocess.DEVNULL)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), 2 * x)


COMMANDS = ("iree-compile", "iree-run-module")
