"""Attention over a sequence that several devices share: equal to attention on one device, with no more work than needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from context_cases import CASES

HERE = Path(__file__).resolve().parent
Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def results() -> Results:
    """The errors of all cases, from one process with 8 simulated devices."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-W", "error", str(HERE / "context_cases.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line.pop("case"): line for line in lines}


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("bfloat16")])
def test_it_equals_one_device(results: Results, name: str) -> None:
    errors = results[name]
    assert {"out", "lse", "d_q", "d_k", "d_v"} <= errors.keys()
    for value, error in errors.items():
        assert error <= (5e-6 if value.startswith("d_") else 1e-6), (value, errors)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("bfloat16")])
def test_half_precision_loses_no_more_than_on_one_device(results: Results, name: str) -> None:
    assert max(results[name].values()) <= 1.2, results[name]


def test_a_ring_moves_keys_and_values_once_a_step(results: Results) -> None:
    figures = results["figures"]
    # Forward: k and v, in a loop. Backward: k and v and their cotangents in a loop, and the cotangents' way home.
    assert figures["permutes"] == 2
    assert figures["permutes with gradient"] == 2 + 6
    assert figures["permutes for a window"] == 2


def test_a_causal_ring_in_zigzag_order_computes_half_of_the_square_evenly(results: Results) -> None:
    figures = results["figures"]
    assert 0.5 < figures["share of the square"] <= 0.55
    assert max(figures["pairs"]) <= 1.1 * min(figures["pairs"])
    assert min(figures["pairs"]) > 0
