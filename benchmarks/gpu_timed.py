"""The part of gpu.py that needs a GPU: numerics of kernels, and their times beside XLA's RoPE and cuDNN.

    python3 benchmarks/gpu_timed.py JOB [--dry]     one job, in this process; its result is a line of JSON

`run` starts a process for every job, with a limit of time, because a kernel that waits for what never comes hangs. With
`--dry` a job is lowered for CUDA on a machine without a GPU. Then nothing runs and nothing is timed.
"""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from results import say, write

import ropegen as rg
from ropegen import masks, reference
from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph
from ropegen.target import Target
from ropegen.template import Tile, template
from ropegen.types import numpy_dtype

TESTS = Path(__file__).resolve().parent.parent / "tests"
HEADS, KV_HEADS, WIDTH, WINDOW = 32, 8, 128, 1024
LENGTHS = (2048, 4096, 8192, 16384, 32768)
# The size of the square matrices and of the copied array, in elements.
MATRIX, COPIED = 8192, 1 << 28
# Largest errors against float64: see tests/test_attend_gpu.py.
ALLOWED = {"bf16": 3e-2, "f16": 4e-3}
SECONDS, SAMPLES, LEAST = 20.0, 15, 0.005
Result = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What one process does: `work` gets whether it is a dry run, and returns a result."""

    name: str
    work: Callable[[bool], Result]
    seconds: float = SECONDS


def seconds_of(function: Callable[..., Any], arguments: Sequence[jax.Array]) -> float:
    """The median seconds of a call, over samples of at least five milliseconds."""
    compiled = jax.jit(function)
    jax.block_until_ready(compiled(*arguments))
    calls, spent = 1, 0.0
    while spent < LEAST:
        begin = time.perf_counter()
        for _ in range(calls):
            result = compiled(*arguments)
        jax.block_until_ready(result)
        spent, calls = time.perf_counter() - begin, calls * 2
    samples: list[float] = []
    for _ in range(SAMPLES):
        begin = time.perf_counter()
        for _ in range(calls):
            result = compiled(*arguments)
        jax.block_until_ready(result)
        samples.append((time.perf_counter() - begin) / calls)
    return statistics.median(samples)


def timed(
    function: Callable[..., Any], shapes: Sequence[tuple[tuple[int, ...], Any]], dry: bool, **facts: Any
) -> Result:
    """The time of a function on normal numbers, or the size of its module for CUDA."""
    if dry:
        kinds = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
        lowered = jax.jit(function).trace(*kinds).lower(lowering_platforms=("cuda",))
        return {"lowered": len(lowered.as_text()), **facts}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    arguments = [jax.random.normal(key, shape, dtype) for key, (shape, dtype) in zip(keys, shapes, strict=True)]
    return {"seconds": seconds_of(function, arguments), **facts}


# What is measured ----------------------------------------------------------------------------------------------------


def target(dry: bool) -> Target:
    return Target.parse("gpu:h200") if dry else Target.host()


def matmul_rate(dry: bool) -> Result:
    shape = ((MATRIX, MATRIX), jnp.bfloat16)
    return timed(jnp.matmul, [shape, shape], dry, flops=2 * MATRIX**3)


def copy_rate(dry: bool) -> Result:
    return timed(lambda x: x * 2, [((COPIED,), jnp.float32)], dry, bytes=8 * COPIED)


def graph_of(length: int, mask: masks.Expr) -> Graph:
    """Attention with RoPE of q and k in halves."""
    b = rg.Builder("attention")
    sizes = (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS))
    q, k, v = (b.input(label, (1, length, count, WIDTH), "bf16") for label, count in sizes)
    at = b.positions(length)
    q, k = (b.rope(x, at, rg.Rope(10_000.0, pairing="half")) for x in (q, k))
    return b.build(out=b.attend(q, k, v, mask=mask))


def shapes_of(length: int) -> list[tuple[tuple[int, ...], Any]]:
    return [((1, length, heads, WIDTH), jnp.bfloat16) for heads in (HEADS, KV_HEADS, KV_HEADS)]


def gradient(function: Callable[..., jax.Array]) -> Callable[..., Any]:
    """The gradient of the sum of an attention's outputs, which computes the outputs too."""
    return jax.grad(lambda q, k, v: jnp.sum(function(q, k, v), dtype=jnp.float32), argnums=(0, 1, 2))


def ours(length: int, mask: masks.Expr, dry: bool, *, backward: bool = False) -> Result:
    """The plan of ropegen; `templates` says what it takes."""
    weigh = ("forward", "backward") if backward else ("forward",)
    plan = rg.plan(graph_of(length, mask), target(dry), weigh=weigh)
    compiled = plan.compile()
    chosen = [step.chosen.template for step in plan.steps if step.chosen is not None]

    def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return compiled(q=q, k=k, v=v)

    return timed(gradient(attention) if backward else attention, shapes_of(length), dry, templates=chosen)


def rope_rate(dry: bool) -> Result:
    """RoPE alone, of the queries and keys of 8192 positions, which are read and written once."""
    b = rg.Builder("rope")
    shapes = [(1, 8192, heads, WIDTH) for heads in (HEADS, KV_HEADS)]
    at, rope = b.positions(8192), rg.Rope(10_000.0, pairing="half")
    q, k = (b.rope(b.input(label, shape, "bf16"), at, rope) for label, shape in zip("qk", shapes, strict=True))
    plan = rg.plan(b.build(q=q, k=k), target(dry))
    compiled = plan.compile()
    chosen = [step.chosen.template for step in plan.steps if step.chosen is not None]
    moved = 2 * 2 * sum(map(math.prod, shapes))
    operands = [(shape, jnp.bfloat16) for shape in shapes]
    return timed(lambda q, k: compiled(q=q, k=k), operands, dry, bytes=moved, templates=chosen)


def rotated(x: jax.Array) -> jax.Array:
    """RoPE in halves, as models write it."""
    half = x.shape[-1] // 2
    angles = jnp.arange(x.shape[1])[:, None] * 10_000.0 ** (-jnp.arange(half) / half)
    c, s = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    first, second = x[..., :half].astype(jnp.float32), x[..., half:].astype(jnp.float32)
    return jnp.concatenate([first * c - second * s, second * c + first * s], -1).astype(x.dtype)


def cudnn(length: int, mask: str, dry: bool, *, backward: bool = False) -> Result:
    """XLA's RoPE, then cuDNN. A mask that it does not know is an array of booleans."""

    def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        options: dict[str, Any] = {"is_causal": mask == "causal"}
        if mask == "window and documents":
            at = jnp.arange(length)
            distance = at[:, None] - at
            same = (at[:, None] // (length // 8)) == at // (length // 8)
            options = {"mask": ((distance >= 0) & (distance < WINDOW) & same)[None, None]}
        return jax.nn.dot_product_attention(rotated(q), rotated(k), v, implementation="cudnn", **options)

    return timed(gradient(attention) if backward else attention, shapes_of(length), dry)


def numerics(name: str, dry: bool) -> Result:
    """The largest errors of the kernel's results against the oracle in float64."""
    from interpreted import drawn
    from interpreted_gpu import CASES

    case, kernel = CASES[name], template("attend/mosaic_gpu")
    built = kernel.build(case.site, Tile.of(q=128, kv=case.kv_tile), target(dry))
    if dry:
        kinds = case.site.closed.input_types.values()
        return timed(built.forward, [(kind.shape, numpy_dtype(kind.dtype)) for kind in kinds], dry)
    values = drawn(case.site, 0)
    results = jax.jit(built.forward)(*values.values())
    exact = reference.evaluate(case.site.closed, values)
    errors: dict[str, float] = {}
    for (label, _), result in zip(case.site.closed.outputs, results, strict=True):
        given, wanted = np.asarray(result, np.float64), exact[label]
        shown = ~np.isneginf(wanted)
        if not np.array_equal(np.isneginf(given), ~shown):
            raise ValueError(f"{label} is -inf elsewhere than the oracle")
        errors[label] = float(np.max(np.abs(given[shown] - wanted[shown]), initial=0.0))
    return {"errors": errors, "agrees": max(errors.values()) < ALLOWED[case.dtype]}


def rope_numerics(name: str, dry: bool) -> Result:
    """The largest errors of the rotations of `rope` against the oracle in float64."""
    from interpreted import drawn
    from test_rope_gpu import CASES

    site = CASES[name].site
    built = template("rope/mosaic_gpu").build(site, Tile(), target(dry))
    if dry:
        kinds = site.closed.input_types.values()
        return timed(built.forward, [(kind.shape, numpy_dtype(kind.dtype)) for kind in kinds], dry)
    values = drawn(site, 0)
    results = jax.jit(built.forward)(*values.values())
    exact = reference.evaluate(site.closed, values)
    errors = {
        label: float(np.max(np.abs(np.asarray(result, np.float64) - exact[label])))
        for (label, _), result in zip(site.closed.outputs, results, strict=True)
    }
    return {"errors": errors, "agrees": max(errors.values()) < ALLOWED["bf16"]}


def executable(dry: bool) -> Result:
    """An artifact that is compiled ahead of time, and what a call of it runs."""
    chip = target(dry)
    with tempfile.TemporaryDirectory() as folder:
        made = rg.export(graph_of(1024, masks.causal), Path(folder) / "kernels", targets=[chip], ahead_of_time=True)
        if dry:
            return {"lowered": sum(path.stat().st_size for path in made.directory.glob("*.executable"))}
        values = {
            label: jax.random.normal(jax.random.key(0), kind.shape, numpy_dtype(kind.dtype))
            for label, kind in made.graph.input_types.items()
        }
        given = np.asarray(made(**values), np.float64)
        exact = reference.evaluate(made.graph, {label: np.asarray(value) for label, value in values.items()})["out"]
        error = float(np.max(np.abs(given - exact)))
        used = made.runs == f"the executable for {chip}"
        return {"errors": {"out": error}, "runs": made.runs, "agrees": used and error < ALLOWED["bf16"]}


MASKS: Mapping[str, Callable[[int], masks.Expr]] = {
    "causal": lambda length: masks.causal,
    "full": lambda length: masks.full,
    "window and documents": lambda length: masks.causal & masks.window(WINDOW) & masks.chunked(length // 8),
}
NUMERICS = (
    "full, one tile",
    "causal, more tiles than slots, halves rotated in the kernel",
    "halves of 64 features, float16",
    "interleaved, grouped heads of a batch, tails",
    "a part of the width is rotated, a window",
    "tiles of 64 keys",
    "five comparisons, and a tail",
    "rows that see nothing",
)
ROPE_NUMERICS = (
    "queries and keys in halves",
    "neighbours, a last block that begins earlier",
    "a part of the width, in pieces of 8 bytes",
    "float32 in both pairings",
)


def jobs() -> list[Job]:
    found = [Job("matmul", matmul_rate), Job("copy", copy_rate), Job("rope", rope_rate)]
    found += [Job(f"numerics: {name}", functools.partial(numerics, name)) for name in NUMERICS]
    found += [Job(f"numerics: rope, {name}", functools.partial(rope_numerics, name)) for name in ROPE_NUMERICS]
    found.append(Job("executable", executable, seconds=90))
    points = [(mask, length) for mask in ("causal", "full") for length in LENGTHS]
    for mask, length in [*points, ("window and documents", 8192)]:
        found.append(Job(f"ropegen: {mask}, {length}", functools.partial(ours, length, MASKS[mask](length))))
        found.append(Job(f"cuDNN: {mask}, {length}", functools.partial(cudnn, length, mask)))
    for length in (4096, 16384):
        both = f"causal with gradient, {length}"
        found.append(Job(f"ropegen: {both}", functools.partial(ours, length, masks.causal, backward=True)))
        found.append(Job(f"cuDNN: {both}", functools.partial(cudnn, length, "causal", backward=True)))
    return found


# All jobs ------------------------------------------------------------------------------------------------------------


def run(folder: Path, minutes: float, *, dry: bool) -> int:
    """Run every job in a process of its own, print a table, and write gpu_times.json (gpu_dry.json for a dry run)."""
    begin, results = time.monotonic(), dict[str, Result]()
    about = alone("device", 60, dry)
    if not dry and about.get("platform") != "gpu":
        said = about.get("error") or f"JAX runs on {about.get('platform')}"
        sys.exit(f"error: there is no GPU here ({said}); --dry lowers the same jobs without one, and times nothing")
    for job in jobs():
        if time.monotonic() - begin > 60 * minutes:
            results[job.name] = {"skipped": f"the {minutes:g} minutes were over; --minutes gives more"}
            continue
        results[job.name] = alone(job.name, job.seconds if not dry else 300, dry)
        say(f"{job.name}: {results[job.name]}")
    stated = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": about.get("kind"),
        "dry": dry,
        "jax": jax.__version__,
        "cudnn": version("nvidia-cudnn-cu13"),
        "results": results,
    }
    write(folder / ("gpu_dry.json" if dry else "gpu_times.json"), json.dumps(stated, indent=1) + "\n")
    print("\n".join(table(results)))
    return int(any("error" in result or result.get("agrees") is False for result in results.values()))


def alone(name: str, seconds: float, dry: bool) -> Result:
    """The result of a job in a process of its own, or what went wrong."""
    command = [sys.executable, str(Path(__file__)), name, *(["--dry"] if dry else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"no result within {seconds:g} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {"error": f"ended with {done.returncode}: {done.stderr.strip()[-300:]}"}
    return json.loads(lines[-1])


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def table(results: Mapping[str, Result]) -> list[str]:
    """The times side by side, and what failed or was skipped."""
    lines = [f"{'point':34}{'ropegen':>12}{'cuDNN':>12}{'ratio':>8}"]
    ratios: list[float] = []
    for name in (name for name in results if name.startswith("ropegen: ")):
        point = name.partition(": ")[2]
        mine, theirs = results[name].get("seconds"), results[f"cuDNN: {point}"].get("seconds")
        ratio = theirs / mine if mine and theirs else None
        if ratio is not None and point.startswith(("causal, ", "full, ")):
            ratios.append(ratio)
        shown = ["-" if value is None else f"{value * 1e6:.1f} µs" for value in (mine, theirs)]
        lines.append(f"{point:34}{shown[0]:>12}{shown[1]:>12}{'-' if ratio is None else f'{ratio:.2f}':>8}")
    if ratios:
        lines.append(
            f"geometric mean of the ratios, causal and full: {math.exp(statistics.mean(map(math.log, ratios))):.3f}"
        )
    for name, fact, unit in (("matmul", "flops", "TFLOP/s"), ("copy", "bytes", "TB/s"), ("rope", "bytes", "TB/s")):
        if "seconds" in results[name]:
            lines.append(f"{name}: {results[name][fact] / results[name]['seconds'] / 1e12:.1f} {unit}")
    for what in ("error", "skipped"):
        lines += [f"{what}: {name}: {result[what]}" for name, result in results.items() if what in result]
    lines += [f"DIFFERS: {name}: {result}" for name, result in results.items() if result.get("agrees") is False]
    counts = [sum(key in result for result in results.values()) for key in ("seconds", "errors", "lowered")]
    lines.append(
        f"{counts[0]} timed, {counts[1]} compared with float64, {counts[2]} lowered only, of {len(results)} jobs"
    )
    return lines


def main() -> int:
    """One job, in this process."""
    name, dry = sys.argv[1], "--dry" in sys.argv[2:]
    sys.path.insert(0, str(TESTS))  # the sites of the numerics are those of the interpreter's tests
    if dry:
        jax.config.update("jax_platforms", "cpu")
    if name == "device":
        device = jax.devices()[0]
        print(json.dumps({"platform": device.platform, "kind": device.device_kind}))
        return 0
    (job,) = (job for job in jobs() if job.name == name)
    try:
        result = job.work(dry)
    except (RuntimeError, NotImplementedError, RopegenError) as error:
        if not dry:
            raise
        result = {"skipped": f"not lowered without a GPU: {str(error).strip().partition(chr(10))[0]}"}
    print(json.dumps(result), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
