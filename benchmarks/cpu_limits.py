"""Figures that are measured once: times of masks, matmuls and a copy; memory, growth, the cost of a call, compile time.

An entry is {"value": the figure of the goal, "detail": how it was measured}; see LIMITS in cpu_tables.py.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import cpu_decode
import jax
import jax.numpy as jnp
import numpy as np

import ropegen as rg
from ropegen import bench, plain
from ropegen.bench import attention
from ropegen.native import machine
from ropegen.native.call import Buffer, Kernel, Stage, Written, address, call, stage, written
from ropegen.native.ir import F32, Module, Value
from ropegen.native.vectors import multiply_pairs
from ropegen.target import Target, VectorUnit
from ropegen.types import numpy_dtype

HEADS, KV_HEADS, WIDTH = 8, 2, 128
ROPE = rg.Rope(10_000.0, pairing="half")

Limit = dict[str, Any]


def measure_limits(quick: bool, say: Callable[[str], None]) -> dict[str, Limit]:
    """Every limit by name. `quick` divides the lengths by eight; its figures only show that everything runs."""
    divisor, seconds = (8, 0.5) if quick else (1, 6.0)
    limits: dict[str, Limit] = {}
    measures = (
        ceiling, masked_shares, matmul_share, temporaries, growth, one_core, decode_step, rope_alone, call_cost, compile_time
    )  # fmt: skip
    for measure in measures:
        say(f"limits: {measure.__name__}")
        try:
            limits |= measure(divisor, seconds)
        except rg.RopegenError as error:  # results disagree: the tables report it
            limits[measure.__name__] = {"error": str(error)}
            say(f"  {error}")
        jax.clear_caches()
    return limits


def ceiling(divisor: int, seconds: float) -> dict[str, Limit]:
    """The time of torch's attention over the time of its two products alone.

    The first figure takes the products at the speed of XLA's dots of a tile. Plain StableHLO computes with XLA's dots, so
    no schedule of them can be faster than torch by more than this factor. The second figure takes the products at the best
    rate of any dot of either library, which bounds every program.
    """
    torch = attention.import_torch()
    heads, length, width, rows = 8, 2048 // divisor, 64, 512 // divisor
    q = torch.randn(1, heads, length, width)
    sdpa = torch.nn.functional.scaled_dot_product_attention
    runners = [bench.Contender("sdpa", lambda: sdpa(q, q, q, is_causal=True), lambda out: {})]
    random = np.random.default_rng(0)
    flops: dict[str, float] = {}
    tile = [(rows, width, length), (rows, length, width)]
    for count, inner, columns in [*tile, (length, length, length)]:
        name = f"({count}, {inner}) x ({inner}, {columns})"
        flops[name] = 2.0 * count * inner * columns
        a, b = (random.standard_normal(shape, np.float32) for shape in ((count, inner), (inner, columns)))
        runners.append(silent(finished(f"XLA {name}", jnp.matmul, jnp.asarray(a), jnp.asarray(b))))
        given = torch.from_numpy(a), torch.from_numpy(b)
        runners.append(bench.Contender(f"torch {name}", lambda given=given: torch.mm(*given), lambda out: {}))
    race = bench.race(runners, tolerance=0.0, seconds=seconds)
    rates = {
        timing.name: flops[timing.name.partition(" ")[2]] / timing.median
        for timing in race.timings
        if timing.name != "sdpa"
    }
    of_one = 2.0 * width * heads * length * length / 2  # operations of the causal half of one product
    needed = sum(of_one / rates[f"XLA {name}"] for name in list(flops)[: len(tile)])
    said = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in rates.items())
    took = race["sdpa"].median
    site = f"{heads} heads of {width}, f32, causal, S={length}: torch's SDPA {bench.duration(took)}"
    best = max(rates, key=lambda name: rates[name])
    return {
        "ceiling": {"value": took / needed, "detail": f"{site}, XLA's dots alone {bench.duration(needed)}; {said}"},
        "peak": {
            "value": took * rates[best] / (2 * of_one),
            "detail": f"{site}, {2 * of_one / took / 1e9:.0f} GFLOP/s; the best dot {rates[best] / 1e9:.0f}: {best}",
        },
    }


def masked_shares(divisor: int, seconds: float) -> dict[str, Limit]:
    """The times of a window of 1024 and of eight packed documents (run-time ids), relative to causal, at S=8192."""
    length = 8192 // divisor
    window = max(1, 1024 // divisor)
    q, k, v = drawn(length, HEADS, KV_HEADS, WIDTH, "bf16")
    ids = jnp.repeat(jnp.arange(8, dtype=jnp.int32), length // 8)
    masks: dict[str, tuple[Any, Mapping[str, Any]]] = {
        "causal": (rg.masks.causal, {}),
        "window": (rg.masks.causal & rg.masks.window(window), {}),
        "documents": (rg.masks.causal & rg.masks.segments, {"q_segments": ids, "kv_segments": ids}),
    }
    runners = []
    for name, (mask, segments) in masks.items():
        runner = finished(
            name, lambda q, k, v, given, mask=mask: attend(q, k, v, mask=mask, **given), q, k, v, segments
        )
        formula = finished("plain", lambda q, k, v, given, mask=mask: plainly(q, k, v, mask, given), q, k, v, segments)
        bench.compare([runner, formula], tolerance=0.1)
        runners.append(silent(runner))
    race = bench.race(runners, tolerance=0.0, seconds=seconds)
    detail = (
        f"{HEADS} over {KV_HEADS} heads of {WIDTH}, bf16, S={length}; causal {bench.duration(race['causal'].median)}"
    )
    return {
        name: {"value": race.ratio(name, "causal"), "detail": f"{bench.duration(race[name].median)}; {detail}"}
        for name in ("window", "documents")
    }


def matmul_share(divisor: int, seconds: float) -> dict[str, Limit]:
    """The share of the two causal matmuls in the whole time, at the best rate of XLA's dot over many shapes."""
    length = 4096 // divisor
    q, k, v = drawn(length, HEADS, KV_HEADS, WIDTH, "bf16")
    runners = [silent(finished("attention", lambda q, k, v: attend(q, k, v, mask=rg.masks.causal), q, k, v))]
    flops: dict[str, float] = {}
    shapes = [(1024, 1024, 1024), (2048, 2048, 2048), (4096, 4096, 4096), (512, 128, 512), (2048, 128, 512)]
    shapes += [(4096, 128, 4096), (4096, 4096, 128), (512, 2048, 2048), (4096, 2048, 1024)]
    random = np.random.default_rng(0)
    for rows, inner, columns in [tuple(max(64, size // divisor) for size in shape) for shape in shapes]:
        for result in (jnp.float32, jnp.bfloat16):
            name = f"({rows}, {inner}) x ({inner}, {columns}) -> {jnp.dtype(result).name}"
            a, b = (jnp.asarray(random.standard_normal(s), jnp.bfloat16) for s in ((rows, inner), (inner, columns)))
            multiply = lambda a, b, result=result: jnp.matmul(a, b, preferred_element_type=result)  # noqa: E731
            if name not in flops:
                runners.append(silent(finished(name, multiply, a, b)))
            flops[name] = 2.0 * rows * inner * columns
    race = bench.race(runners, tolerance=0.0, seconds=2 * seconds)
    rates = {name: count / race[name].median for name, count in flops.items()}
    best = max(rates, key=lambda name: rates[name])
    needed = 2 * 2.0 * length * length * WIDTH * HEADS / 2 / rates[best]
    took = race["attention"].median
    detail = (
        f"S={length}, bf16, causal: {bench.duration(took)}, the matmuls {bench.duration(needed)} at "
        f"{rates[best] / 1e9:.0f} GFLOP/s, the best of {len(rates)} dots: {best}"
    )
    return {"matmuls": {"value": needed / took, "detail": detail}}


def temporaries(divisor: int, seconds: float) -> dict[str, Limit]:
    """XLA's count of temporary bytes at S=32768, 8 heads of 64, causal."""
    length = 32768 // divisor
    limits: dict[str, Limit] = {}
    for name in ("temporaries", "temporaries backward"):
        sizes = {}
        for dtype in ("f32", "bf16"):
            like = [jax.ShapeDtypeStruct((1, length, 8, 64), numpy_dtype(dtype))] * 3
            causal = lambda q, k, v: attend(q, k, v, mask=rg.masks.causal)  # noqa: E731
            function = causal if name == "temporaries" else with_backward(causal)
            given = like if name == "temporaries" else [*like, like[0]]
            sizes[dtype] = jax.jit(function).lower(*given).compile().memory_analysis().temp_size_in_bytes
        said = ", ".join(f"{dtype} {size / 1e6:.1f} MB" for dtype, size in sizes.items())
        limits[name] = {"value": max(sizes.values()) / 1e6, "detail": f"S={length}, 8 heads of 64, causal: {said}"}
    return limits


def growth(divisor: int, seconds: float) -> dict[str, Limit]:
    """The time at S=16384 over the time at S=8192."""
    runners = []
    lengths = 8192 // divisor, 16384 // divisor
    for length in lengths:
        q, k, v = drawn(length, 8, 8, 64, "bf16")
        runners.append(silent(finished(str(length), lambda q, k, v: attend(q, k, v, mask=rg.masks.causal), q, k, v)))
    race = bench.race(runners, tolerance=0.0, seconds=2 * seconds)
    short, long = (bench.duration(timing.median) for timing in race.timings)
    detail = f"8 heads of 64, bf16, causal: {short} at S={lengths[0]}, {long} at S={lengths[1]}"
    return {"growth": {"value": race.ratio(str(lengths[1]), str(lengths[0])), "detail": detail}}


def one_core(divisor: int, seconds: float) -> dict[str, Limit]:
    """One core's share of its own multiply-add peak, and the time of one core over that of all cores."""
    target = Target.host()
    alone = replace(target, cores=1)
    limits: dict[str, Limit] = {}
    for dtype in ("f32", "bf16"):
        length = 2048 // divisor
        given = drawn(length, 8, 8, 128, dtype)
        operations = 2 * 2.0 * 8 * 128 * length * (length + 1) / 2
        causal = lambda q, k, v, target: rg.attention(q, k, v, mask=rg.masks.causal, target=target)  # noqa: E731
        runners = [
            finished(name, functools.partial(causal, target=its), *given)
            for name, its in (("one", alone), ("all", target))
        ]
        unit = machine.unit_for(alone)
        kernel, of_peak = multiply_adds(unit, pairs=dtype == "bf16" and unit.pairs)
        runners.append(
            finished("peak", lambda x, kernel=kernel, unit=unit: call(kernel, unit, (x,))[0], given[0][:1, 0, 0])
        )
        race = bench.race([silent(runner) for runner in runners], tolerance=0.0, seconds=seconds)
        rate, peak = operations / race["one"].median, of_peak / race["peak"].median
        limits[f"one core, {dtype}"] = {
            "value": rate / peak,
            "peak": peak * target.cores,
            "detail": f"8 heads of 128, causal, S={length}, {unit.name}: {rate / 1e9:.1f} of {peak / 1e9:.1f} GFLOP/s",
        }
        limits[f"cores, {dtype}"] = {
            "value": race.ratio("one", "all"),
            "detail": f"{target.cores} cores; the same attention: {bench.duration(race['all'].median)}",
        }
    return limits


def multiply_adds(unit: VectorUnit, pairs: bool) -> tuple[Written, float]:
    """A kernel that multiplies and adds in registers alone, and its operations."""
    module, kind, rounds = Module(), F32.vector(unit.lanes), 1 << 17
    f = stage(module, "peak")
    x = f.load(kind, address(f, 0))
    sums = [f.zero(kind)] * (unit.registers * 3 // 4)

    def step(index: Value, *now: Value) -> list[Value]:
        return [multiply_pairs(f, x, x, one) if pairs else f.fma(x, x, one) for one in now]

    total, *others = f.loop(0, rounds, 1, step, sums)
    for other in others:
        total = total + other
    f.store(total, address(f, 1))
    f.give_back()
    shape, dtype = (1, 128), "bf16" if pairs else "f32"
    results = (Buffer("sum", "f32", (unit.lanes,)),)
    kernel = Kernel("peak", module, (Buffer("x", dtype, shape),), results, (Stage("peak", 1),))
    return written(kernel), 2.0 * (2 if pairs else 1) * unit.lanes * rounds * len(sums)


def decode_step(divisor: int, seconds: float) -> dict[str, Limit]:
    """A decode step's share of the bandwidth of memory, and its time at position 100 over that at a full cache."""
    length = 8192 // divisor
    times = cpu_decode.times_of(length, "bf16", seconds, Target.host().cores)
    full = times["step, cache full"]
    detail = f"32 over 8 heads of 128, bf16, S={length}: {bench.duration(full)}"
    return {
        "decode": {"value": times["read"] / full, "detail": f"{detail}, reading alone {bench.duration(times['read'])}"},
        "decode at 100": {
            "value": times["step at 100"] / full,
            "detail": f"{bench.duration(times['step at 100'])}; {detail}",
        },
    }


def rope_alone(divisor: int, seconds: float) -> dict[str, Limit]:
    """The time of a jitted copy of q and k over the time of their RoPE, the smaller share of the two types.

    q and k are rotated by two calls, and by one graph, which reads the angles once. The slower of the two counts. The
    arrays are larger than the caches and smaller than 32 MB: for larger results the C library asks the system for fresh
    pages in every call, and their page faults take longer than any copy.
    """
    shares, said, by = [], [], set[str]()
    for dtype in ("f32", "bf16"):
        length = (4096 if dtype == "f32" else 8192) // divisor
        q, k, _ = drawn(length, HEADS, KV_HEADS, WIDTH, dtype)
        table = jnp.asarray(ROPE.table(np.arange(length), WIDTH))
        b = rg.Builder("rope")
        at = b.positions(length)
        nodes = {label: b.rope(b.input(label, x.shape, dtype), at, ROPE) for label, x in (("q", q), ("k", k))}
        plan = rg.plan(b.build(**nodes), "host")
        by |= {step.chosen.template for step in plan.steps if step.chosen is not None}
        compiled = plan.compile()
        turned = finished("two calls", lambda q, k: (rg.rope(q, None, ROPE), rg.rope(k, None, ROPE)), q, k)
        together = finished(
            "one graph", lambda q, k, compiled=compiled: tuple(compiled(q=q, k=k)[label] for label in "qk"), q, k
        )
        formula = finished("plain", lambda q, k, t: tuple(plain.rotate(x, t, "half") for x in (q, k)), q, k, table)
        bench.compare([turned, together, formula], tolerance=0.02)
        # XLA may copy on one core or on all of them, so the faster of two ways to write the same bytes counts.
        copies = {"copy": jnp.copy, "negation": jnp.negative}
        runners = [finished(name, lambda q, k, copy=copy: (copy(q), copy(k)), q, k) for name, copy in copies.items()]
        race = bench.race([silent(runner) for runner in (turned, together, *runners)], tolerance=0.0, seconds=seconds)
        best = min(copies, key=lambda name: race[name].median)
        shares += [race.ratio(best, "two calls"), race.ratio(best, "one graph")]
        took = ", ".join(f"{timing.name} {bench.duration(timing.median)}" for timing in race.timings)
        said.append(f"{dtype}, S={length}: {took}")
    made = ", ".join(sorted(by)) or "the plain formula"
    return {
        "rope": {
            "value": min(shares),
            "detail": f"{HEADS} and {KV_HEADS} heads of {WIDTH}, by {made}; {'; '.join(said)}",
        }
    }


def call_cost(divisor: int, seconds: float) -> dict[str, Limit]:
    """The cost of a call over an empty jit of the same arguments, at a size where computing takes almost no time."""
    q, k, v = drawn(1, 1, 1, 8, "f32")
    b = rg.Builder("attention")
    nodes = [b.input(label, (1, 1, 1, 8), "f32") for label in "qkv"]
    at = b.positions(1)
    turned = [b.rope(x, at, ROPE) for x in nodes[:2]]
    compiled = rg.plan(b.build(out=b.attend(*turned, nodes[2], mask=rg.masks.causal)), "host").compile()
    empty = jax.jit(lambda q, k, v: q)
    jitted = jax.jit(lambda q, k, v: attend(q, k, v, mask=rg.masks.causal))
    calls = {
        "empty": lambda: jax.block_until_ready(empty(q, k, v)),
        "jit": lambda: jax.block_until_ready(jitted(q, k, v)),
        "plan": lambda: jax.block_until_ready(compiled(q=q, k=k, v=v)),
    }
    runners = [bench.Contender(name, call, lambda out: {}) for name, call in calls.items()]
    race = bench.race(runners, tolerance=0.0, seconds=seconds / 2)
    base = race["empty"].median
    detail = f"over an empty jit of {bench.duration(base)}, one query and key of one head"
    return {
        f"call of {name}": {
            "value": (race[name].median - base) * 1e6,
            "detail": f"{bench.duration(race[name].median)} {detail}",
        }
        for name in ("jit", "plan")
    }


def compile_time(divisor: int, seconds: float) -> dict[str, Limit]:
    """The time to plan, trace and compile one attention: the median of three times with cleared caches."""
    length = 4096 // divisor
    q, k, v = drawn(length, HEADS, KV_HEADS, WIDTH, "bf16")
    medians = []
    for grad in (False, True):
        times = []
        for attempt in range(3):
            jax.clear_caches()
            rope = rg.Rope(
                10_000.0 + attempt + 3 * grad, pairing="half"
            )  # another theta makes another graph, which is planned again
            function = lambda q, k, v, rope=rope: rg.attention(  # noqa: E731
                q, k, v, rope=rope, mask=rg.masks.causal, target="host"
            )
            start = time.perf_counter()
            jax.jit(with_backward(function) if grad else function).lower(q, k, v, *([q] if grad else [])).compile()
            times.append(time.perf_counter() - start)
        medians.append(statistics.median(times))
    detail = f"S={length}, {HEADS} over {KV_HEADS} heads of {WIDTH}, bf16, causal"
    return {
        "compile": {"value": medians[0], "detail": f"forward; {detail}"},
        "compile backward": {"value": medians[1], "detail": f"forward and backward; {detail}"},
    }


def attend(q: jax.Array, k: jax.Array, v: jax.Array, **options: Any) -> jax.Array:
    return rg.attention(q, k, v, rope=ROPE, target="host", **options)


def plainly(q: jax.Array, k: jax.Array, v: jax.Array, mask: Any, given: Mapping[str, jax.Array]) -> jax.Array:
    """The same attention by the plain formulas of its graph."""
    b = rg.Builder("plain")
    nodes = [b.input(label, x.shape, x.dtype) for label, x in (("q", q), ("k", k), ("v", v))]
    segments = {label: b.input(label, ids.shape, ids.dtype) for label, ids in given.items()}
    at = b.positions(q.shape[1])
    out = b.attend(b.rope(nodes[0], at, ROPE), b.rope(nodes[1], at, ROPE), nodes[2], mask=mask, **segments)
    values = dict(zip([*nodes, *segments.values()], [q, k, v, *given.values()], strict=True))
    return plain.evaluate([out], values)[0]


def with_backward(function: Callable[..., jax.Array]) -> Callable[..., Any]:
    """A function of q, k, v and the output's cotangent that returns the output and three gradients."""

    def both(q: jax.Array, k: jax.Array, v: jax.Array, d_out: jax.Array) -> Any:
        out, backward = jax.vjp(function, q, k, v)
        return out, backward(d_out)

    return both


def drawn(length: int, heads: int, kv_heads: int, width: int, dtype: str) -> list[jax.Array]:
    random = np.random.default_rng(0)
    shapes = [(1, length, count, width) for count in (heads, kv_heads, kv_heads)]
    return [jnp.asarray(random.standard_normal(shape), numpy_dtype(dtype)) for shape in shapes]


def finished(name: str, function: Callable[..., Any], *arguments: Any) -> bench.Contender:
    jitted = jax.jit(function)
    return bench.Contender(
        name,
        lambda: jax.block_until_ready(jitted(*arguments)),
        lambda out: {f"result {index}": np.asarray(leaf) for index, leaf in enumerate(jax.tree.leaves(out))},
    )


def silent(contender: bench.Contender) -> bench.Contender:
    """The contender without results to compare, for a race between different computations that were checked before."""
    return bench.Contender(contender.name, contender.call, lambda out: {})
