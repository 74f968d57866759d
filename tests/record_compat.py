"""Add golden/compat/DATE: an artifact with inputs and results, which every later ropegen must load and reproduce.

Run `python tests/record_compat.py 2026-11-21` with the version of jax that golden/JAX names. It never changes a folder
that exists.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np

import ropegen as rg
from ropegen import masks, scaling

COMPAT = Path(__file__).resolve().parent.parent / "golden" / "compat"
TARGETS = ("cpu", "gpu:h200", "tpu:v5e")


def front_end() -> rg.Graph:
    """One layer with most of what an artifact can hold: a table of ids, norms, both pairings, a cache, sinks."""
    b = rg.Builder("front-end")
    x = b.embed(b.input("ids", (2, 3), "i32"), b.parameter("table", (11, 16), "f32"), mode="fill")
    x = b.norm(x, b.parameter("norm", (16,), "f32"), kind="rms", epsilon=1e-6)
    q, k, v = (
        b.split_heads(b.project(x, b.parameter(f"{name}_weight", (16, heads * 8), "f32")), heads)
        for name, heads in (("q", 4), ("k", 2), ("v", 2))
    )
    at = b.input("positions", (2, 3), "i32")
    rope = rg.Rope(5e5, pairing="half", dim=4, scaling=scaling.llama3(factor=8, low=1, high=4, original=64))
    q, k = (b.rope(heads, at, rope) for heads in (q, k))
    lengths = b.input("lengths", (2,), "i32")
    k, v = (
        b.append_cache(b.state(f"{name}_cache", (2, 9, 2, 8), "f32"), rows, lengths)
        for name, rows in (("k", k), ("v", v))
    )
    out = b.attend(
        q,
        k,
        v,
        mask=masks.causal & masks.window(6),
        q_positions=at,
        kv_positions=b.positions(9),
        softcap=20.0,
        sinks=b.parameter("sinks", (4,), "f32"),
    )
    still = b.rope(b.split_heads(x, 2), b.positions(3), rg.Rope(100.0, pairing="interleaved"))
    return b.build(out=b.merge_heads(out), k_cache_out=k, v_cache_out=v, turned=still)


def inputs_of(graph: rg.Graph) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(20261121)
    floats = {
        label: rng.normal(size=kind.shape).astype(np.float32)
        for label, kind in graph.input_types.items()
        if kind.is_float
    }
    lengths = np.array([0, 5], np.int32)
    return {
        **floats,
        "ids": rng.integers(0, 11, (2, 3)).astype(np.int32),
        "lengths": lengths,
        "positions": (lengths[:, None] + np.arange(3)).astype(np.int32),
    }


def main(date: str) -> None:
    folder = COMPAT / date
    if folder.exists():
        sys.exit(f"golden/compat/{date} exists already, and old artifacts never change; give another date")
    making = folder.with_name(f".{date}")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    graph = front_end()
    made = rg.export(graph, making / "artifact", targets=TARGETS)
    inputs = inputs_of(graph)
    results = {label: np.asarray(value) for label, value in made(**inputs).items()}
    np.savez(making / "inputs.npz", **inputs)
    np.savez(making / "results.npz", **results)
    making.rename(folder)


if __name__ == "__main__":
    main(sys.argv[1])
