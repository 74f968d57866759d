#!/usr/bin/env python3
"""A decode step of attention on CPU against the bandwidth of memory: prints ratios within one run.

    python3 benchmarks/cpu_decode.py              S=8192, 32 over 8 heads of 128, bf16; about a minute
    python3 benchmarks/cpu_decode.py --dtype f32 --lengths 8192,32768

The bandwidth is that of a native kernel that reads the same caches once, on the same threads. All contenders take turns,
and every call reads another one of several caches, which together are larger than the last cache of the processor.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import ropegen as rg
from ropegen import masks
from ropegen.native import machine
from ropegen.native.call import Buffer, Kernel, Stage, address, call, stage, written
from ropegen.native.ir import I32, Module, Value
from ropegen.target import Target
from ropegen.types import numpy_dtype

HEADS, KV_HEADS, WIDTH = 32, 8, 128
# The bytes of all caches together.
TARGET = "host"
FOOTPRINT = 256 << 20
# The bytes that one item of the reading kernel reads.
PIECE = 256 << 10


def reader(shape: tuple[int, ...], dtype: str, threads: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """A function that reads two arrays once, on all threads."""
    unit = machine.unit_for(Target.host())
    size = math.prod(shape) * numpy_dtype(dtype).itemsize
    items = 2 * size // PIECE
    module, kind, step = Module(), I32.vector(unit.lanes), unit.lanes * 4
    f = stage(module, "read")
    item = f.parameters["item"]
    first = item * PIECE

    def added(at: Value, *totals: Value) -> list[Value]:
        place = f.offset(base, at)
        return [total + f.load(kind, f.offset(place, index * step)) for index, total in enumerate(totals)]

    base = f.select(first < size, address(f, 0), f.offset(address(f, 1), -size))
    totals = f.loop(first, first + PIECE, 8 * step, added, [f.zero(kind)] * 8)
    total = totals[0]
    for other in totals[1:]:
        total = total + other
    f.store(f.reduce("add", total), address(f, 2), item)
    f.give_back()
    operands = tuple(Buffer(name, dtype, shape) for name in ("k", "v"))
    kernel = written(
        Kernel("read", module, operands, (Buffer("sums", "i32", (items,)),), (Stage("read", items),), threads=threads)
    )
    return jax.jit(lambda k, v: call(kernel, unit, (k, v))[0])


def step(length: int, dtype: str) -> Callable[..., jax.Array]:
    """One query over a cache, at a position that is given at run time."""
    b = rg.Builder("step")
    q = b.input("q", (1, 1, HEADS, WIDTH), dtype)
    k, v = (b.input(name, (1, length, KV_HEADS, WIDTH), dtype) for name in "kv")
    at = b.input("at", (1, 1), "i32")
    out = b.attend(q, k, v, mask=masks.causal, q_positions=at, kv_positions=b.positions(length))
    plan = rg.plan(b.build(out=out), TARGET)
    return plan.compile()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="bf16", choices=("bf16", "f16", "f32"))
    parser.add_argument("--lengths", default="8192")
    parser.add_argument("--seconds", type=float, default=5.0, help="seconds of timing for every length (default: 5)")
    options = parser.parse_args()
    target = Target.host()
    for length in map(int, options.lengths.split(",")):
        measure(length, options.dtype, options.seconds, target.cores)


def measure(length: int, dtype: str, seconds: float, threads: int) -> None:
    size = 2 * length * KV_HEADS * WIDTH * numpy_dtype(dtype).itemsize
    print(
        f"S={length}, {HEADS} over {KV_HEADS} heads of {WIDTH}, {dtype}, {threads} cores; {size / 1e6:.1f} MB of cache"
    )
    middle = times_of(length, dtype, seconds, threads)
    for name, of in middle.items():
        print(
            f"  {name:18} {of * 1e3:8.3f} ms  {size / of / 1e9:6.1f} GB/s  "
            f"{middle['read'] / of:5.2f} of the bandwidth  {of / middle['step, cache full']:5.3f} of a full step"
        )


def times_of(length: int, dtype: str, seconds: float, threads: int) -> dict[str, float]:
    """The medians, in seconds, of reading the caches and of a step at some positions."""
    shape = (1, length, KV_HEADS, WIDTH)
    kind = numpy_dtype(dtype)
    size = 2 * math.prod(shape) * kind.itemsize
    rng = np.random.default_rng(0)
    drawn = [jnp.asarray(rng.standard_normal(shape, np.float32)).astype(kind) for _ in range(2)]
    caches = [tuple(jnp.array(x, copy=True) for x in drawn) for _ in range(max(2, FOOTPRINT // size))]
    q = jnp.asarray(rng.standard_normal((1, 1, HEADS, WIDTH), np.float32)).astype(kind)
    attention, read = step(length, dtype), reader(shape, dtype, threads)

    def at(position: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
        place = jnp.full((1, 1), position, jnp.int32)
        return lambda k, v: attention(q=q, k=k, v=v, at=place)

    contenders = {
        "read": read,
        "step, cache full": at(length - 1),
        "step at 100": at(100),
        "step at 5": at(5),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, run in contenders.items():
            for cache in caches:
                start = time.perf_counter()
                jax.block_until_ready(run(*cache))
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(of) for name, of in times.items()}


if __name__ == "__main__":
    main()
