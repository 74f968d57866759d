"""cuDNN as a template: what it declines, what plans and artifacts take it, and that JAX lowers it without a GPU.

Tests that lower need JAX's plug-in for CUDA and cuDNN (`pip install "jax[cuda13]"`), and no GPU. Nothing here runs cuDNN.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ropegen.templates.attend import cudnn
from ropegen.templates.attend.site import FAMILY, AttendSite

import ropegen as rg
from ropegen import cli, masks
from ropegen.errors import FallbackWarning
from ropegen.plans import Plan
from ropegen.target import Target

FORWARD, BACKWARD = "__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"


@functools.cache
def cannot_lower() -> str:
    """Why JAX does not lower a call of cuDNN here; empty if it does."""
    x = jax.ShapeDtypeStruct((1, 128, 2, 64), jnp.bfloat16)
    call = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
    try:
        jax.jit(call).trace(x, x, x).lower(lowering_platforms=("cuda",))
    except RuntimeError as error:
        return str(error)
    return ""


@pytest.fixture
def lowers() -> None:
    if why := cannot_lower():
        pytest.skip(f'JAX lowers no call of cuDNN here ({why}); `pip install "jax[cuda13]"`')


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are made as on a machine with cuDNN. They lower nothing."""
    monkeypatch.setattr(cudnn, "is_installed", lambda: True)


def graph_of(
    mask: masks.Expr = masks.causal,
    *,
    dtype: str = "bf16",
    queries: int = 1024,
    keys: int = 1024,
    width: int = 64,
    value_width: int | None = None,
    start: int = 0,
    rotates: bool = False,
    **options: Any,
) -> rg.Graph:
    b = rg.Builder("attention")
    q = b.input("q", (2, queries, 8, width), dtype)
    k, v = (b.input(name, (2, keys, 2, size), dtype) for name, size in (("k", width), ("v", value_width or width)))
    at = b.positions(queries, start=start), b.positions(keys)
    if rotates:
        q, k = (b.rope(x, place, rg.Rope(pairing="half")) for x, place in zip((q, k), at, strict=True))
    if mask != masks.full:
        options |= {"q_positions": at[0], "kv_positions": at[1]}
    options = {name: b.input(name, *value) if isinstance(value, tuple) else value for name, value in options.items()}
    return b.build(out=b.attend(q, k, v, mask=mask, **options))


def site_of(graph: rg.Graph) -> AttendSite:
    return FAMILY.site(next(iter(FAMILY.find(graph))).closed)


def templates(plan: Plan) -> list[str]:
    return [step.chosen.template for step in plan.steps if step.chosen is not None]


def reasons(graph: rg.Graph, target: str = "gpu:b200") -> list[str]:
    return list(cudnn.declines(site_of(graph), Target.parse(target)))


@pytest.mark.usefixtures("installed")
def test_it_takes_what_jax_s_function_computes_as_ropegen_does() -> None:
    for graph in (
        graph_of(),
        graph_of(masks.full, queries=100, keys=300),
        graph_of(masks.causal & masks.window(100), dtype="f16", width=128),
        graph_of(start=0, width=40),
    ):
        for target in ("gpu:a100", "gpu:h100", "gpu:h200", "gpu:b200"):
            assert reasons(graph, target) == []


@pytest.mark.usefixtures("installed")
def test_what_it_does_not_compute_it_declines() -> None:
    assert reasons(graph_of(), "gpu:any") == ["it needs an Ampere GPU or a newer one, and gpu:any may be older"]
    several = {
        "it multiplies bf16 and f16, not f32": graph_of(dtype="f32"),
        "heads have a multiple of 8 features, at most 128 where JAX sees no GPU of Hopper, and these have 136": graph_of(
            width=136
        ),
        "heads have a multiple of 8 features, at most 128 where JAX sees no GPU of Hopper, and these have 60": graph_of(
            width=60
        ),
        "JAX takes values with the features of keys, 64, not 32": graph_of(value_width=32),
        "it does not rotate": graph_of(rotates=True),
        "it caps no scores": graph_of(softcap=20.0),
        "it has no sinks": graph_of(sinks=((8,), "f32")),
        "it rounds a bias to the type of q": graph_of(bias=((1024, 1024), "f32")),
        "a dense mask becomes a bias, which gives rows without keys the mean of the values": graph_of(
            dense_mask=((1024, 1024), "i1")
        ),
        "it computes no score expression": graph_of(score=masks.alibi([0.5] * 8)),
        "its scale is positive and finite, not -1": graph_of(scale=-1.0),
        "its first query and key have the same position, and these have 5 and 0": graph_of(start=5),
        "its causal masks are for as many queries as keys, not 8 and 1024": graph_of(queries=8),
        "it masks causally, with or without a window, and not by `q_pos // 128 == kv_pos // 128`": graph_of(
            masks.chunked(128)
        ),
        "it masks causally, with or without a window, and not by `q_pos - kv_pos < 9`": graph_of(masks.window(9)),
    }
    for reason, graph in several.items():
        assert reasons(graph) == [reason]
    b = rg.Builder("more")
    q = b.input("q", (1, 128, 2, 64), "bf16")
    at = {name: b.input(name, (128,), "i32") for name in ("q_positions", "kv_positions")}
    assert reasons(b.build(out=b.attend(q, q, q, mask=masks.causal, **at))) == ["positions are known only at run time"]
    both = b.build(out=b.attend(q, q, q), lse=b.attend(q, q, q, returns="log_sum_exp"))
    assert reasons(both) == ["JAX rounds the log-sum-exp to bf16"]


@pytest.mark.parametrize("library", ["nvidia-cudnn-cu13", ""])
def test_it_declines_where_jax_cannot_trace_it(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package in ("jax-cuda13-plugin", library):
            return "1"
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    said = (
        []
        if library
        else ['cuDNN is not installed, and JAX asks for its version when it traces a call; `pip install "jax[cuda13]"`']
    )
    assert reasons(graph_of()) == said


@pytest.mark.usefixtures("installed")
def test_plans_weigh_it_and_stable_ones_do_not_take_it() -> None:
    """On Ampere it takes the place of XLA's loops, after rotations that are not its own."""
    plan = rg.plan(graph_of(rotates=True, queries=4096, keys=4096), "gpu:a100")
    assert "attend/cudnn" in templates(plan)
    (step,) = (step for step in plan.steps if step.chosen and step.chosen.template == "attend/cudnn")
    assert step.instead is not None
    assert step.instead.template == "attend/xla"
    stable = rg.plan(graph_of(rotates=True, queries=4096, keys=4096), "gpu:a100", stable_only=True)
    assert "attend/cudnn" not in templates(stable)
    assert "jax.export makes no promise for __cudnn$fmhaSoftmax" in stable.explain()
    # Of two that cost the same, the plan takes the one whose calls are promised to stay.
    assert templates(rg.plan(graph_of(queries=4096, keys=4096), "gpu:h200")) == ["attend/mosaic_gpu"]


def call_of(graph: rg.Graph, target: str) -> Any:
    compiled = rg.plan(graph, target).compile()
    return lambda q, k, v: compiled(q=q, k=k, v=v)


def shapes(graph: rg.Graph) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(kind.shape, jnp.bfloat16) for kind in graph.input_types.values()]


@pytest.mark.usefixtures("installed")
def test_a_module_of_jax_export_takes_another_template_and_says_so() -> None:
    graph = graph_of(queries=8192, keys=8192)
    with pytest.warns(
        FallbackWarning, match=r"takes attend/xla in a module of jax\.export, which refuses __cudnn\$fmha"
    ):
        made = jax.export.export(jax.jit(call_of(graph, "gpu:a100")), platforms=["cuda"])(*shapes(graph))
    assert "custom_call" not in made.mlir_module()


@pytest.mark.usefixtures("lowers", "installed")
def test_an_artifact_holds_its_calls_and_says_that_nobody_promises_to_keep_them(tmp_path: Path) -> None:
    graph = graph_of()
    made = rg.export(graph, tmp_path / "kernels", targets=["cpu", "gpu:b200"])
    assert dict(made.manifest.custom_calls) == {
        FORWARD: "no promise by jax.export",
        BACKWARD: "no promise by jax.export",
    }
    assert made.manifest.capabilities == {}
    values = {
        label: jnp.asarray(np.random.default_rng(0).standard_normal(kind.shape), jnp.bfloat16)
        for label, kind in graph.input_types.items()
    }
    exact = rg.reference.evaluate(graph, {label: np.asarray(x) for label, x in values.items()})["out"]
    given = np.asarray(rg.load(tmp_path / "kernels")(**values), np.float64)
    np.testing.assert_allclose(given, exact, atol=3e-2)
    stable = rg.export(graph, tmp_path / "stable", targets=["cpu", "gpu:b200"], stable_only=True)
    assert stable.manifest.custom_calls == {}


@pytest.mark.usefixtures("lowers", "installed")
def test_build_leaves_it_out_if_asked(tmp_path: Path) -> None:
    case = Path(__file__).resolve().parent.parent / "golden" / "cases" / "gpt2-small" / "config.json"
    options = ["build", str(case), "--target", "gpu:a100", "--vocabulary", "64", "--seq", "256"]
    for name, more, expected in (("all", [], {FORWARD, BACKWARD}), ("stable", ["--stable-only"], set[str]())):
        assert cli.main([*options, *more, "-o", str(tmp_path / name)]) == 0
        assert set(json.loads((tmp_path / name / "manifest.json").read_text())["custom_calls"]) == expected


@pytest.mark.usefixtures("lowers", "installed")
@pytest.mark.parametrize("mask", [masks.full, masks.causal, masks.causal & masks.window(100)])
def test_forward_and_gradient_lower_to_the_calls_that_jax_s_function_makes(mask: masks.Expr) -> None:
    """The same attributes, and the same operands, as a program that calls JAX's function itself."""
    graph = graph_of(mask, queries=256, keys=256)
    window = 100 if mask not in (masks.full, masks.causal) else None

    def plain(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        local = None if window is None else (window - 1, 0)
        return jax.nn.dot_product_attention(
            q, k, v, is_causal=mask != masks.full, local_window_size=local, scale=0.125, implementation="cudnn"
        )

    def calls(function: Any) -> list[str]:
        lowered = jax.jit(function).trace(*shapes(graph)).lower(lowering_platforms=("cuda",)).as_text()
        lines = [line.partition("custom_call ")[2] for line in lowered.splitlines() if "@__cudnn" in line]
        return sorted(line[line.index("{") :] + line[: line.index("(")] for line in lines)

    ours = call_of(graph, "gpu:b200")
    assert calls(ours) == calls(plain)
    assert len(calls(ours)) == 1

    def gradient(function: Any) -> Any:
        return jax.grad(lambda *given: jnp.sum(function(*given), dtype=jnp.float32), argnums=(0, 1, 2))

    # The backward pass of ropegen computes the output once more.
    backward = calls(gradient(ours))
    assert set(calls(gradient(plain))) <= set(backward)
    assert sum(BACKWARD in call for call in backward) == 1
