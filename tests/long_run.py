"""Memory over a long run: calls of ever new shapes in one process.

`python tests/long_run.py trace 10000` plans and traces `rg.attention` with a rotary embedding for so many shapes;
`call` also compiles and runs `rg.rope`; `jax_trace` and `jax` trace, or compile and run, a function of JAX alone, for
comparison. It prints the resident memory and the number of Python objects as it goes, and at last what is left after
`jax.clear_caches()`: what ropegen keeps itself.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ropegen as rg

ROPE = rg.Rope(1e4, pairing="half")
STEP = 500


def shapes() -> Iterator[tuple[int, int, int, int]]:
    """Small shapes (batch, sequence, heads, width), none of them twice."""
    batch = 0
    while batch := batch + 1:
        for heads in range(1, 11):
            for length in range(1, 101):
                yield batch, length, heads, 4


def attention(x: jax.Array) -> jax.Array:
    return rg.attention(x, x, x, rope=ROPE, mask=rg.masks.causal)


def turn(x: jax.Array) -> jax.Array:
    return jnp.cos(x[..., ::-1]) * x + jnp.sin(x[..., 1:2])


def rotate(x: jax.Array) -> jax.Array:
    return rg.rope(x, None, ROPE)


ROTATED, TURNED = jax.jit(rotate), jax.jit(turn)
KINDS: dict[str, Callable[[Any], Any]] = {
    "trace": lambda x: jax.eval_shape(attention, x),
    "call": ROTATED,
    "jax_trace": lambda x: jax.eval_shape(turn, x),
    "jax": TURNED,
}


def resident() -> float:
    """The resident memory of this process in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def run(kind: str, count: int) -> Iterator[tuple[int, float, int, float]]:
    """After every 500 shapes: their number, the resident memory, the objects of Python, and the seconds of CPU time."""
    jax.config.update("jax_disable_most_optimizations", True)  # there are thousands of compilations
    start = time.process_time()
    for number, shape in zip(range(1, count + 1), shapes(), strict=False):
        KINDS[kind](np.ones(shape, np.float32))
        if number % STEP == 0:
            gc.collect()
            yield number, resident(), len(gc.get_objects()), time.process_time() - start


if __name__ == "__main__":
    for number, memory, objects, seconds in run(sys.argv[1], int(sys.argv[2])):
        print(f"{number:>7,} shapes  {memory:7.1f} MB  {objects:>9,} objects  {seconds:6.0f} s", flush=True)
    jax.clear_caches()
    gc.collect()
    print(f"       cleared  {resident():7.1f} MB  {len(gc.get_objects()):>9,} objects")
