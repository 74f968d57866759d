"""A kernel for one compute capability on a GPU of another one: XLA computes what it would, and a warning says so."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Golden

import ropegen as rg
from ropegen import masks, reference, target
from ropegen.target import Target

X = jnp.ones((1, 256, 2, 64), jnp.bfloat16)


def has_kernel(function: Any) -> bool:
    """Whether the module that JAX would run on this machine's GPU holds a kernel of Mosaic's."""
    return "mosaic_gpu_v2" in jax.jit(function).trace(X).lower(lowering_platforms=("cuda",)).as_text()


def attention(x: jax.Array) -> Any:
    return rg.attention(x, x, x, mask=masks.causal, target="gpu:h200")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes this machine look like one with a GPU of a compute capability."""

    def pretend(capability: str) -> None:
        device = SimpleNamespace(platform="gpu", compute_capability=capability, device_kind="a GPU")
        monkeypatch.setattr(target, "host_device", lambda: device)
        jax.clear_caches()  # it keeps what it lowered, because the GPU of a machine does not change

    return pretend


def test_capabilities_of_targets() -> None:
    known = {name: Target.parse(name).capability for name in ("gpu:a100", "gpu:sm90", "gpu:b200", "gpu:any", "cpu")}
    assert known == {"gpu:a100": "sm80", "gpu:sm90": "sm90", "gpu:b200": "sm100", "gpu:any": None, "cpu": None}


def test_a_kernel_runs_only_on_its_own_gpu(gpu: Any, golden: Golden) -> None:
    assert has_kernel(attention), "a machine without a GPU lowers for others"
    gpu("9.0")
    assert has_kernel(attention)
    gpu("8.0")
    with pytest.warns(rg.FallbackWarning) as told:
        assert not has_kernel(attention)
    golden("errors/gpu/another-capability.txt", "".join(f"{warning.message}\n" for warning in told))


def test_an_exported_module_keeps_its_kernel(gpu: Any) -> None:
    """It leaves this machine, and whoever loads it looks at the GPU there."""
    gpu("8.0")
    assert "mosaic_gpu_v2" in jax.export.export(jax.jit(attention), platforms=["cuda"])(X).mlir_module()


def test_an_artifact_on_another_gpu_runs_xla(gpu: Any, golden: Golden, tmp_path: Path, monkeypatch: Any) -> None:
    b = rg.Builder("attention")
    q, k, v = (b.input(name, (1, 256, 2, 64), "bf16") for name in "qkv")
    at = b.positions(256)
    graph = b.build(out=b.attend(q, k, v, mask=masks.causal, q_positions=at, kv_positions=at))
    monkeypatch.chdir(tmp_path)
    rg.export(graph, "out", targets=["gpu:h200"])
    random = np.random.default_rng(0)
    values = {name: jnp.asarray(random.standard_normal((1, 256, 2, 64)), jnp.bfloat16) for name in "qkv"}
    exact = reference.evaluate(graph, {name: np.asarray(value) for name, value in values.items()})["out"]
    gpu("10.0")
    artifact = rg.load("out")
    with pytest.warns(UserWarning, match="compute") as told:
        result = artifact(**values)
    golden("errors/artifact/another-capability.txt", "".join(f"{warning.message}\n" for warning in told))
    assert artifact.runs == str(told[0].message)
    assert np.max(np.abs(np.asarray(result, np.float64) - exact)) < 2e-2
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert np.array_equal(np.asarray(jax.jit(artifact)(**values)), np.asarray(result)), (
            "a traced call does the same"
        )
