"""Kernels on an H100 or H200: numerics against float64, and an executable that was compiled ahead of time.

Every kernel runs in a process of its own with a limit of time, because one that waits for what never comes hangs. The
jobs are those of `python3 benchmarks/gpu.py`, which also times them.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent.parent / "benchmarks"


def gpu_timed() -> Any:
    """The module of the jobs, which needs no GPU to be imported."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module("gpu_timed")
    finally:
        sys.path.remove(str(BENCHMARKS))


NUMERICS: tuple[str, ...] = (*gpu_timed().NUMERICS, *(f"rope, {name}" for name in gpu_timed().ROPE_NUMERICS))


@pytest.fixture(scope="module")
def timed() -> Any:
    return gpu_timed()


@pytest.fixture(scope="module")
def on_hopper(timed: ModuleType) -> ModuleType:
    about = timed.alone("device", 60, False)
    if about.get("platform") != "gpu" or not any(chip in about["kind"] for chip in ("H100", "H200")):
        pytest.skip(
            f"needs an H100 or H200, and JAX runs on {about.get('kind') or about}; there, `pytest tests/gpu` runs it with "
            'pip install "jax[cuda13]" nvidia-cuda-nvdisasm'
        )
    return timed


@pytest.mark.parametrize("name", NUMERICS)
def test_a_kernel_agrees_with_float64(name: str, on_hopper: ModuleType) -> None:
    result = on_hopper.alone(f"numerics: {name}", 20, False)
    assert result.get("agrees"), result


def test_an_executable_compiled_ahead_of_time_runs(on_hopper: ModuleType) -> None:
    result = on_hopper.alone("executable", 90, False)
    assert result.get("agrees"), result


def test_without_a_gpu_the_jobs_are_lowered(
    timed: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["rope", f"numerics: {NUMERICS[1]}", "ropegen: causal, 2048", "cuDNN: causal, 2048"]
    chosen = [job for job in timed.jobs() if job.name in names]
    assert len(chosen) == len(names)
    results = {job.name: timed.alone(job.name, 120, True) for job in chosen}
    for name in names[:3]:
        assert results[name]["lowered"] > 0, results
    assert results["rope"]["templates"] == ["rope/mosaic_gpu"]
    assert results[names[2]]["templates"] == ["attend/mosaic_gpu"]
    said = results[names[3]]
    assert "lowered" in said or "without a GPU" in said["skipped"], said
    json.dumps(results)
