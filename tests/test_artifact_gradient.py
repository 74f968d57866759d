"""The gradient of a loaded artifact: against JAX's derivative of the plain formula, and everything that it refuses."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from independent import draw_inputs, formula
from mutate import without_native

import ropegen as rg
from ropegen.cli import main
from ropegen.emit import callable as plans_as_functions
from ropegen.emit.artifact import portable
from ropegen.native import machine

TARGETS = ("cpu", "gpu:h200", "tpu:v5e")
ALLOWED = 2e-5  # relative to the largest number of a gradient, in float32

Values = dict[str, Any]


def attending() -> rg.Graph:
    """Embedding, projections, RoPE and attention, with a float and an integer output. The projections are prepared."""
    b = rg.Builder("attending")
    x = b.embed(b.input("ids", (2, 9), "i32"), b.parameter("table", (7, 8), "f32"))
    x = b.norm(x, b.parameter("weight", (8,), "f32"), kind="rms", epsilon=1e-5)
    q = b.split_heads(b.project(x, b.parameter("q_weight", (8, 16), "f32")), 2)
    k = b.split_heads(b.project(x, b.parameter("k_weight", (8, 8), "f32")), 1)
    v = b.split_heads(b.project(x, b.parameter("v_weight", (8, 8), "f32")), 1)
    at, rope = b.positions(9), rg.Rope(100.0, pairing="half")
    out = b.attend(b.rope(q, at, rope), b.rope(k, at, rope), v, mask=rg.masks.causal)
    return b.build(out=b.merge_heads(out), again=b.input("ids", (2, 9), "i32"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact") / "kernels"
    rg.export(attending(), folder, targets=TARGETS, grad=True)
    return folder


@pytest.fixture(scope="module")
def portable_alone(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact without native kernels, so that its StableHLO runs."""
    folder = Path(shutil.copytree(built, tmp_path_factory.mktemp("artifact") / "kernels"))
    without_native(folder)
    return folder


def split(values: Values) -> tuple[Values, Values]:
    """The floating inputs, and the others."""
    moving = {label: jnp.asarray(x) for label, x in values.items() if np.issubdtype(x.dtype, np.floating)}
    return moving, {label: jnp.asarray(x) for label, x in values.items() if label not in moving}


def loss_of(call: Callable[..., Values], fixed: Values) -> Callable[[Values], jax.Array]:
    return lambda moving: jnp.sum(jnp.sin(3 * call(**fixed, **moving)["out"]))


def plain(**values: Any) -> Values:
    return formula(attending(), values)


def expect_close(made: Values, wanted: Values) -> None:
    assert made.keys() == wanted.keys()
    for label, expected in wanted.items():
        np.testing.assert_allclose(made[label], expected, atol=ALLOWED * float(np.abs(expected).max()), err_msg=label)


MOVING, FIXED = split(draw_inputs(attending(), 5))


@pytest.fixture(scope="module")
def wanted() -> Values:
    return jax.jit(jax.grad(loss_of(plain, FIXED)))(MOVING)


def test_the_gradient_is_that_of_the_plain_formula(portable_alone: Path, wanted: Values) -> None:
    loaded = rg.load(portable_alone)
    assert loaded.runs == "StableHLO"
    loss = loss_of(loaded, FIXED)
    expect_close(jax.grad(loss)(MOVING), wanted)
    expect_close(jax.jit(jax.grad(jax.checkpoint(loss)))(MOVING), wanted)
    one = jax.grad(lambda table: loss({**MOVING, "table": table}))(MOVING["table"])
    expect_close({"table": one}, {"table": wanted["table"]})

    def bound(moving: Values) -> jax.Array:
        return jnp.sum(jnp.sin(3 * loaded.bind(**moving)(**FIXED)["out"]))

    expect_close(jax.grad(bound)(MOVING), wanted)


def test_native_kernels_give_the_gradient_of_the_plan(built: Path, wanted: Values) -> None:
    loaded = rg.load(built)
    assert ("native" in loaded.runs) == (machine.host_unit() is not None)
    made = jax.jit(jax.grad(loss_of(loaded, FIXED)))(MOVING)
    expect_close(made, wanted)
    plan = rg.plan(attending(), "cpu", weigh=("forward", "backward"))
    expect_close(made, jax.jit(jax.grad(loss_of(plan.compile(), FIXED)))(MOVING))


def test_it_runs_for_every_entry_of_a_batch(portable_alone: Path) -> None:
    loaded = rg.load(portable_alone)
    several = {label: jnp.stack([x, -0.5 * x]) for label, x in MOVING.items()}
    loss = loss_of(loaded, FIXED)
    expected = jax.jit(jax.vmap(jax.grad(loss_of(plain, FIXED))))(several)
    expect_close(jax.jit(jax.vmap(jax.grad(loss)))(several), expected)
    expect_close(jax.jit(jax.grad(lambda x: jax.vmap(loss)(x).sum()))(several), expected)


def test_the_portable_module_is_the_same_gradient(built: Path) -> None:
    loaded, graph = rg.load(built), attending()
    stage = loaded.manifest.stages.gradient
    assert stage is not None
    cotangent = jnp.asarray(np.random.default_rng(8).standard_normal((2, 9, 16)), jnp.float32)
    given = {**MOVING, **FIXED, "cotangent of out": cotangent}
    types = {**graph.input_types, "cotangent of out": dict(graph.outputs)["out"].type}
    content = portable.text_of((built / "gradient.mlirbc").read_bytes(), "gradient.mlirbc")
    run = portable._program(
        content, built / "gradient.mlirbc",
        {label: types[label] for label in stage.arguments}, {label: types[label] for label in stage.results},
    )  # fmt: skip

    def pulled(moving: Values) -> Values:
        return jax.vjp(lambda moving: plain(**FIXED, **moving)["out"], moving)[1](cotangent)[0]

    expect_close(run(given), jax.jit(pulled)(MOVING))


def test_a_step_of_training_compiles_once(portable_alone: Path) -> None:
    loaded = rg.load(portable_alone)
    moving, step = MOVING, jax.grad(loss_of(loaded, FIXED))
    for _ in range(3):
        moving = jax.tree.map(lambda x, slope: x - 0.01 * slope, moving, step(moving))
    assert loaded._compiled["module"]._cache_size() <= 1
    assert loaded._pulled._cache_size() == 1  # pyright: ignore[reportFunctionMemberAccess]


# What it refuses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_native", [True, False])
def test_without_a_gradient_a_derivative_is_refused(is_native: bool, tmp_path: Path) -> None:
    b = rg.Builder("turning")
    x = b.input("x", (1, 5, 2, 4), "f32")
    out = b.attend(x, x, x, mask=rg.masks.causal)
    rg.export(
        b.build(out=b.project(b.merge_heads(out), b.parameter("w", (8, 3), "f32"))), tmp_path / "kernels", targets="cpu"
    )
    if not is_native:
        without_native(tmp_path / "kernels")
    loaded = rg.load(tmp_path / "kernels")
    x, w = jnp.ones((1, 5, 2, 4)), jnp.ones((8, 3))

    def loss(x: Any) -> Any:
        return jnp.sum(loaded(x=x, w=w))

    def bound(w: Any) -> Any:
        return jnp.sum(loaded.bind(w=w)(x=x))

    for derivative, at in ((jax.grad(loss), x), (jax.jit(jax.grad(loss)), x), (jax.grad(bound), w)):
        with pytest.raises(rg.RopegenError, match=r"the forward pass alone.*--grad.*grad=True.*stop_gradient"):
            derivative(at)
    assert not np.any(jax.jit(jax.grad(lambda x: loss(jax.lax.stop_gradient(x))))(x))


def test_other_derivatives_are_refused(built: Path) -> None:
    loss = loss_of(rg.load(built), FIXED)
    with pytest.raises(rg.RopegenError, match=r"reverse mode.*forward mode.*was asked for.*compile\(\)"):
        jax.jit(lambda x: jax.jvp(loss, (x,), (x,)))(MOVING)
    with pytest.raises(rg.RopegenError, match=r"its first derivative alone, and the second was asked for"):
        jax.jit(jax.grad(lambda x: jnp.sum(jax.grad(loss)(x)["table"] ** 2)))(MOVING)


@pytest.mark.any_jax
def test_a_graph_without_a_gradient_and_several_devices_are_refused(tmp_path: Path) -> None:
    b = rg.Builder("integers")
    with pytest.raises(rg.RopegenError, match="integers has no floating input"):
        rg.export(b.build(out=b.input("ids", (2,), "i32")), tmp_path / "kernels", targets="cpu", grad=True)
    mesh = jax.sharding.AbstractMesh((2,), ("data",))
    lies = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    with pytest.raises(rg.RopegenError, match=r"for one device, and the artifact is for 2 devices.*--grad"):
        rg.export(attending(), tmp_path / "kernels", targets="cpu", grad=True, sharding=lies)
    with pytest.raises(rg.RopegenError, match="export: grad must be true or false, got 1"):
        rg.export(attending(), tmp_path / "kernels", targets="cpu", grad=1)  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "kernels").exists()


# The files ---------------------------------------------------------------------------------------------------------------


@pytest.mark.any_jax
def test_the_manifest_names_it_and_the_same_graph_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    again = rg.export(attending(), tmp_path / "again", targets=TARGETS, grad=True)
    assert {path.name: path.read_bytes() for path in built.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()
    }
    stage = again.manifest.stages.gradient
    assert stage is not None
    assert {*stage.arguments} == {*attending().input_types, "cotangent of out"}
    assert {"gradient.jaxexport", "gradient.mlirbc"} < {*again.manifest.files}
    assert "ops of gradient" in (built / "report.txt").read_text()
    assert re.search(r"costs +forward and backward together", (built / "plan.txt").read_text())


@pytest.mark.any_jax
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m["files"].pop("gradient.jaxexport"), "must list gradient.jaxexport"),
        (lambda m: m["stages"]["gradient"]["arguments"].pop(), "must read the inputs and the cotangents"),
        (lambda m: m["stages"]["gradient"]["results"].append("ids"), "must read the inputs and the cotangents"),
        (lambda m: m["files"].update({"gradient.jaxexport": m["files"]["module.jaxexport"]}), "gradient.jaxexport is damaged"),
    ],
)  # fmt: skip
def test_a_damaged_gradient_is_refused(
    change: Callable[[Any], Any], words: str, portable_alone: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(portable_alone, tmp_path / "copy"))
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(rg.RopegenError, match=words):
        rg.load(folder)


@pytest.mark.any_jax
def test_the_command_builds_it_and_check_notices_a_wrong_gradient(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, folder = tmp_path / "graph.mlir", tmp_path / "kernels"
    graph.write_text(rg.dumps(attending()))
    assert main(["build", str(graph), "--target", "cpu", "--grad", "-o", str(folder)]) == 0
    assert main(["check", str(folder)]) == 0
    assert "gradient in q_weight" in capsys.readouterr().out

    right = plans_as_functions.gradient

    def wrong(plan: rg.Plan, values: Values) -> Values:
        pulled = right(plan, values)
        return {**pulled, "k_weight": 0.9 * pulled["k_weight"]}

    monkeypatch.setattr("ropegen.emit.module.stablehlo.gradient", wrong)
    rg.export(attending(), folder, targets="cpu", grad=True)
    without_native(folder)
    outputs = rg.load(folder).check().outputs
    assert {output.label for output in outputs if not output.agrees} == {"gradient in k_weight"}


@pytest.mark.any_jax
def test_native_kernels_compiled_ahead_of_time_are_those_of_the_gradient_too(tmp_path: Path, wanted: Values) -> None:
    unit = machine.host_unit()
    if unit is None:
        pytest.skip("this machine has neither AVX2 nor NEON")
    made = rg.export(attending(), tmp_path / "kernels", targets=f"cpu:{unit.name}", ahead_of_time=True, grad=True)
    objects = made.manifest.native[f"cpu:{unit.name}"].objects
    assert objects is not None
    assert objects.programs.keys() == made.manifest.stages.by_name.keys()
    loaded = rg.load(tmp_path / "kernels", objects=True)
    assert "compiled ahead of time" in loaded.runs
    expect_close(jax.jit(jax.grad(loss_of(loaded, FIXED)))(MOVING), wanted)
