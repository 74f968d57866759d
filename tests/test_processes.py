"""Several processes with `jax.distributed` and gloo on this machine: equal to one process, and an end if one dies."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from process_cases import HEARTBEAT, LENGTH, ROPE, WIDTH

import ropegen as rg

CASES = Path(__file__).resolve().parent / "process_cases.py"
# Seconds until the processes have compiled and computed, on a machine that does much else.
PATIENCE = 240


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    b = rg.Builder("turned")
    x = b.input("x", (1, LENGTH, 4, WIDTH), "f32")
    folder = tmp_path_factory.mktemp("artifact") / "turned"
    rg.export(b.build(out=b.rope(x, b.positions(LENGTH), ROPE)), folder, targets="cpu")
    return folder


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return listening.getsockname()[1]


@pytest.mark.parametrize("count", [2, 4])
def test_processes_equal_one_and_end_if_one_dies(count: int, artifact: Path) -> None:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    command = [sys.executable, str(CASES), str(free_port()), str(count)]
    processes = [
        subprocess.Popen(
            [*command, str(index), str(artifact)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(count)
    ]
    last = processes[-1]
    results: list[dict[str, Any]] = []
    try:
        last_out, last_err = last.communicate(timeout=PATIENCE)
        died = time.monotonic()
        assert last.returncode == 9, last_err[-3000:]
        ends = [process.communicate(timeout=4 * HEARTBEAT) for process in processes[:-1]]
        assert time.monotonic() - died < 4 * HEARTBEAT
        for process, (_, err) in zip(processes, ends, strict=False):
            assert process.returncode != 0
            # What JAX says depends on who notices first: the collective, or the service that hears no sign of life.
            assert "Gloo" in err or "gloo" in err or "heartbeat" in err or "unhealthy" in err, err[-3000:]
        lines = [line for out in (last_out, *(out for out, _ in ends)) for line in out.splitlines()]
        results = [json.loads(line) for line in lines if line.startswith("{")]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [errors["process"] for errors in results] == [count - 1, *range(count - 1)]
    for errors in results:
        assert errors.pop("devices") == count
        errors.pop("process")
        for value, error in errors.items():
            assert error <= (5e-6 if value.startswith("d_") else 1e-6), errors
