#!/usr/bin/env python3
"""The first run: Llama 3 8B's attention front-end, compiled for CPU, GPU and TPU, and run on CPU.

    python3 docs/tour.py

The script makes the environment .venv-tour beside this project's files and installs ropegen there. It does not touch your
own .venv. Then it builds the artifact from the golden graph, loads it in a fresh process, runs it on the first 2048 bytes of
this repository's LICENSE, and compares the result with float64. All sizes are as published except the vocabulary: it is
256, so that the bytes of a text are its ids. The script needs Python 3.11 or newer.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CASE = ROOT / "golden" / "cases" / "llama3-8b-prefill" / "config.json"
TEXT = ROOT / "LICENSE"
TARGETS = ("cpu", "gpu:h200", "tpu:v5e")
VOCABULARY = 256


def main() -> int:
    if "--in-environment" not in sys.argv:
        return subprocess.run([str(environment()), __file__, "--in-environment"], check=False).returncode
    if "--run" in sys.argv:
        return run(Path(sys.argv[sys.argv.index("--run") + 1]))
    return tour()


def environment() -> Path:
    """The Python of .venv-tour, with ropegen installed. It is made again if it is missing or pyproject.toml has changed."""
    if sys.version_info < (3, 11):
        sys.exit("ropegen needs Python 3.11 or newer; run this with a newer python3")
    folder = ROOT / ".venv-tour"
    python, stamp = folder / "bin" / "python", folder / "made-from"
    made_from = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if not (stamp.is_file() and stamp.read_text() == made_from):
        say(f"making {folder.name} and installing ropegen there")
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-e", f"{ROOT}[native]"], check=True)
        stamp.write_text(made_from)
    return python


def say(text: str) -> None:
    print(f"\n--- {text}", flush=True)


def tour() -> int:
    import ropegen as rg
    from ropegen import explanation, models

    start = time.monotonic()
    case = json.loads(CASE.read_text())
    case["build"]["vocabulary"] = VOCABULARY
    graph = models.from_case(case)
    say(f"the plan for {TARGETS[0]}")
    print(explanation.summary(rg.plan(graph, TARGETS[0])))
    print(f"`ropegen explain {CASE.relative_to(ROOT)} -v --vocabulary {VOCABULARY}` shows every reason")
    folder = ROOT / "build" / "tour"
    say(f"building {folder.relative_to(ROOT)} for {', '.join(TARGETS)}")
    rg.export(graph, folder, targets=TARGETS)
    for path in sorted(folder.iterdir()):
        print(f"{path.stat().st_size:>12,} bytes  {path.name}")
    say("loading it in a fresh process, and running it on CPU")
    code = subprocess.run([sys.executable, __file__, "--in-environment", "--run", str(folder)], check=False).returncode
    print(f"\n{time.monotonic() - start:.0f} s in all; {'done' if code == 0 else 'FAILED'}")
    return code


def run(folder: Path) -> int:
    """Run the artifact, the float64 oracle and the plain formula in bfloat16, and compare; in a process of its own."""
    import numpy as np
    import plainly
    from ml_dtypes import bfloat16

    import ropegen as rg

    artifact = rg.load(folder)
    estimate = rg.plan(artifact.graph, TARGETS[0]).cost.seconds
    ids = np.frombuffer(TEXT.read_bytes()[:2048], np.uint8).astype(np.int32)[None]
    random = np.random.default_rng(0)
    values = {"ids": ids}
    for label, kind in artifact.graph.input_types.items():
        if label == "input_norm":
            values[label] = np.ones(kind.shape, bfloat16)
        elif label not in values:
            spread = 1.0 if label == "embedding" else kind.shape[0] ** -0.5  # keeps activations near one
            values[label] = (random.standard_normal(kind.shape, np.float32) * spread).astype(bfloat16)
    result = {}
    for name, function in (("ropegen", artifact), ("plain formula", plainly.llama)):
        started = time.monotonic()
        result[name] = np.asarray(function(**values), np.float64)
        first = time.monotonic() - started
        started = time.monotonic()
        np.asarray(function(**values))
        again = time.monotonic() - started
        beside = f"; the plan estimates {estimate:.2f} s" if function is artifact else ""
        print(f"{name:14} {first:6.2f} s the first time, {again:6.2f} s the second{beside}")
    started = time.monotonic()
    truth = rg.reference.evaluate(artifact.graph, values)["out"]
    print(f"{'float64':14} {time.monotonic() - started:6.2f} s")
    errors = {name: float(np.sqrt(np.mean((value - truth) ** 2) / np.mean(truth**2))) for name, value in result.items()}
    print(f"\nerror against float64, root mean square, relative (bfloat16 rounds by up to {2**-9:.1e}):")
    for name, error in errors.items():
        print(f"{name:14} {error:.2e}")
    ratio = errors["ropegen"] / errors["plain formula"]
    print(f"{'ratio':14} {ratio:.2f}  (at most 1.5)")
    return 0 if ratio <= 1.5 else 1


if __name__ == "__main__":
    sys.exit(main())
