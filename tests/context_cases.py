"""Context-parallel attention on 8 simulated devices beside attention on one: prints one line of JSON for every case.

`test_context_parallel.py` runs this in a process of its own, because JAX fixes the number of devices when it starts.
"""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from ropegen.templates.attend import sweep

import ropegen as rg
from ropegen import masks
from ropegen.emit import context_parallel

Array = jax.Array
ROPE = rg.Rope(theta=1000.0, pairing="half")
TILE = {"attend/xla": {"q": 8, "kv": 8}, "attend/xla_f32": {"q": 8, "kv": 8}}


@dataclass(frozen=True)
class Case:
    """One attention: how the sequence lies on the devices, and the options of both calls."""

    method: str | None
    parts: int = 4
    order: str = "contiguous"
    gives_positions: bool = False
    length: int = 64
    heads: tuple[int, int] = (8, 4)
    dtype: Any = jnp.float32
    segments: bool = False
    bias: tuple[int, ...] | None = None
    dense: bool = False
    sinks: bool = False
    options: dict[str, Any] = field(default_factory=dict[str, Any])


def distance_score(score: Any, q_pos: Any, kv_pos: Any, head: Any) -> Any:
    return score - 0.125 * (head + 1) * masks.absolute(q_pos - kv_pos)


CASES = {
    "ring, documents in zigzag order": Case(
        "ring",
        order="zigzag",
        segments=True,
        sinks=True,
        options={"rope": ROPE, "mask": masks.causal & masks.segments, "softcap": 20.0, "tile": TILE},
    ),
    "ring, a window and a score by head": Case(
        "ring",
        parts=8,
        bias=(1, 1, 64, 64),
        options={"mask": masks.causal & masks.window(10), "score": distance_score, "scale": 0.3},
    ),
    "ring, positions known at run time": Case(
        "ring",
        gives_positions=True,
        options={"rope": ROPE, "mask": masks.causal & masks.chunked(24), "tile": TILE},
    ),
    "ring, an array as mask that hides whole rows": Case("ring", dense=True, options={"masked_row": "mean"}),
    "ring, a window to both sides": Case("ring", parts=8, options={"mask": masks.window(9, 5)}),
    "gather, documents in zigzag order": Case(
        "gather",
        order="zigzag",
        segments=True,
        sinks=True,
        bias=(8, 64, 64),
        options={"rope": ROPE, "mask": masks.causal & masks.segments, "softcap": 20.0},
    ),
    "ulysses, a score by head, few key heads": Case(
        "ulysses",
        segments=True,
        sinks=True,
        heads=(8, 2),
        bias=(8, 64, 64),
        options={"rope": ROPE, "mask": lambda q_pos, kv_pos, kv_segment: (kv_pos <= q_pos) & (kv_segment < 3)}
        | {"score": distance_score},
    ),
    "the planner's own choice": Case(None, options={"mask": masks.causal}),
    "bfloat16, ring": Case("ring", order="zigzag", length=256, dtype=jnp.bfloat16, options={"mask": masks.causal}),
    "bfloat16, gather": Case("gather", length=256, dtype=jnp.bfloat16, options={"mask": masks.causal}),
}


def relative(got: Any, want: Any) -> float:
    """The largest error over the largest value. Both may hold -inf, in the same places."""
    got, want = (np.asarray(x, np.float64) for x in (got, want))
    if not np.array_equal(np.isneginf(got), np.isneginf(want)):
        return float("inf")
    got, want = (np.where(np.isneginf(x), 0.0, x) for x in (got, want))
    return float(np.max(np.abs(got - want)) / np.max(np.abs(want)))


def root_mean_square(got: Any, want: Any) -> float:
    got, want = (np.asarray(x, np.float64) for x in (got, want))
    return float(np.sqrt(np.mean((got - want) ** 2)))


def run(case: Case) -> dict[str, Any]:
    """The errors of (out, lse) and of all gradients, and the ratio of those in bfloat16 to one device's."""
    draw = np.random.default_rng(0)
    length, (heads, kv_heads) = case.length, case.heads
    floats = {
        name: jnp.asarray(draw.normal(size=(2, length, count, 16)), case.dtype)
        for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))
    }
    whole: dict[str, Array] = {}
    if case.segments:
        ids = jnp.asarray(np.sort(draw.integers(0, 5, (2, length)), 1), jnp.int32)
        sides = ("q", "kv") if "q_segment" in masks.variables(masks.as_mask(case.options["mask"])) else ("kv",)
        whole |= {f"{side}_segments": ids for side in sides}
    if case.bias is not None:
        floats["bias"] = jnp.asarray(draw.normal(size=case.bias), jnp.float32)
    if case.sinks:
        floats["sinks"] = jnp.asarray(draw.normal(size=heads), jnp.float32)
    if case.dense:
        whole["mask"] = jnp.asarray((draw.random((heads, length, length)) < 0.3) & (np.arange(length) % 7 > 0)[:, None])
    weight = jnp.asarray(draw.normal(size=(2, length, heads, 16)), jnp.float32)
    mesh = Mesh(np.array(jax.devices()[: case.parts]), ("seq",))

    def one(floats: dict[str, Array], whole: dict[str, Array]) -> tuple[Array, Array]:
        return called(rg.attention, case, floats, whole)

    def of_device(floats: dict[str, Array], whole: dict[str, Array]) -> tuple[Array, Array]:
        places: dict[str, Array] = {}
        if case.gives_positions:
            here = lax.axis_index("seq") * (length // case.parts) + jnp.arange(length // case.parts)
            places = {"q_positions": here, "kv_positions": here}
        call = partial(rg.context_parallel, method=case.method, order=case.order, **places)
        return called(call, case, floats, whole)

    def several(floats: dict[str, Array], whole: dict[str, Array]) -> tuple[Array, Array]:
        specs = tuple({name: spec(name, x) for name, x in given.items()} for given in (floats, whole))
        turn, back = (
            (partial(rg.zigzag, parts=case.parts), partial(rg.unzigzag, parts=case.parts))
            if case.order == "zigzag"
            else (lambda x, **_: x, lambda x, **_: x)
        )

        def turned(name: str, x: Array) -> Array:
            for place in sequence_axes(name, x):
                x = turn(x, axis=place)
            return x

        given = [{name: turned(name, x) for name, x in arrays.items()} for arrays in (floats, whole)]
        shared = jax.shard_map(of_device, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(None, "seq"))
        out, lse = shared(*given)
        return back(out, axis=1), back(lse, axis=1)

    def loss(f: Callable[..., tuple[Array, Array]]) -> Callable[..., Any]:
        def value(floats: dict[str, Array]) -> tuple[Array, tuple[Array, Array]]:
            out, lse = f(floats, whole)
            return jnp.sum(out.astype(jnp.float32) * weight) + jnp.sum(jnp.where(lse == -jnp.inf, 0, lse)), (out, lse)

        return jax.jit(jax.grad(value, has_aux=True))

    def measured(f: Callable[..., tuple[Array, Array]], given: dict[str, Array]) -> dict[str, Array]:
        gradients, (out, lse) = loss(f)(given)
        return {"out": out, "lse": lse} | {f"d_{name}": x for name, x in gradients.items()}

    got, want = measured(several, floats), measured(one, floats)
    if case.dtype == jnp.float32:
        return {name: relative(got[name], want[name]) for name in want}
    exact = measured(one, {name: x.astype(jnp.float32) for name, x in floats.items()})
    # One device may have the log-sum-exp of float32 to the bit; then float32 is what the several are compared with.
    least = {name: 1e-6 * root_mean_square(x, jnp.zeros_like(x)) for name, x in exact.items()}
    return {
        name: root_mean_square(got[name], x) / max(least[name], root_mean_square(want[name], x))
        for name, x in exact.items()
    }


def sequence_axes(name: str, x: Array) -> tuple[int, ...]:
    """The axes of an array that hold positions."""
    if name in ("bias", "mask"):
        return x.ndim - 2, x.ndim - 1
    return () if name == "sinks" else (1,)


def spec(name: str, x: Array) -> PartitionSpec:
    """How an array lies on the devices: over its first axis of positions."""
    axes = sequence_axes(name, x)
    return PartitionSpec(*("seq" if axes and place == axes[0] else None for place in range(x.ndim)))


def called(call: Callable[..., Any], case: Case, floats: dict[str, Array], whole: dict[str, Array]) -> Any:
    given = {**case.options, **floats, **whole}
    q, k, v = (given.pop(name) for name in "qkv")
    return call(q, k, v, return_lse=True, **given)


def figures() -> dict[str, Any]:
    """What a causal ring in zigzag order moves and computes: permutes in the programs, and counted tiles and chunks."""
    parts, length, kv_heads = 4, 256, 2
    mesh = Mesh(np.array(jax.devices()[:parts]), ("seq",))
    draw = np.random.default_rng(0)
    q, k, v = (jnp.asarray(draw.normal(size=(1, length, heads, 8)), jnp.float32) for heads in (4, kv_heads, kv_heads))
    split = PartitionSpec(None, "seq")
    tile = {"attend/xla": {"q": 16, "kv": 16}}

    def shared(mask: masks.Expr, order: str, chosen: Any = tile) -> Callable[..., Array]:
        call = partial(rg.context_parallel, method="ring", mask=mask, order=order, tile=chosen)
        return jax.shard_map(call, mesh=mesh, in_specs=split, out_specs=split)

    def permutes(f: Callable[..., Any]) -> int:
        return len(re.findall(r"stablehlo.collective_permute", jax.jit(f).lower(q, k, v).as_text()))

    def total(q: Array, k: Array, v: Array) -> Array:
        return shared(masks.causal, "zigzag")(q, k, v).sum()

    counts = {
        "permutes": permutes(shared(masks.causal, "zigzag")),
        "permutes with gradient": permutes(jax.grad(total, (0, 1, 2))),
        "permutes for a window": permutes(shared(masks.causal & masks.window(32), "contiguous")),
    }
    scores: list[int] = []
    pairs = np.zeros(parts, int)
    run_sweep, visit = sweep.Sweep.run, context_parallel._Device._pair  # pyright: ignore[reportPrivateUsage]

    def counting_run(self: Any, carry: Any, begin: Any, step: Any, finish: Any) -> Any:
        def counted(state: Any, block: Any) -> Any:
            jax.debug.callback(lambda: scores.append(block.q_size * block.kv_size))
            return step(state, block)

        return run_sweep(self, carry, begin, counted, finish)

    def counting_step(self: Any, *given: Any) -> Any:
        step = self.step

        def counted(part: Any, arrays: Any, place: Any, carry: Any) -> Any:
            jax.debug.callback(lambda index: np.add.at(pairs, index, 1), self.index)
            return step(part, arrays, place, carry)

        return visit(replace(self, step=counted), *given)

    with (
        mock.patch.object(sweep.Sweep, "run", counting_run),
        mock.patch.object(context_parallel._Device, "_pair", counting_step),  # pyright: ignore[reportPrivateUsage]
    ):
        # Another target than above, so that no program from before is taken.
        call = partial(rg.context_parallel, method="ring", mask=masks.causal, order="zigzag", tile=tile, target="cpu:3")
        f = jax.jit(jax.shard_map(call, mesh=mesh, in_specs=split, out_specs=split))
        jax.block_until_ready(f(q, k, v))
        jax.effects_barrier()
    return counts | {"share of the square": sum(scores) / (kv_heads * length**2), "pairs": pairs.tolist()}


def derivatives() -> dict[str, float]:
    """The errors of derivatives of all orders and modes against one device's."""
    parts, length = 2, 8
    mesh = Mesh(np.array(jax.devices()[:parts]), ("seq",))
    draw = np.random.default_rng(0)
    shapes = {"q": (1, length, 2, 4), "k": (1, length, 1, 4), "v": (1, length, 1, 4), "sinks": (2,)}
    x, away = ({name: jnp.asarray(draw.normal(size=size), jnp.float32) for name, size in shapes.items()} for _ in "12")
    ids = jnp.asarray([[0, 0, 0, 1, 1, 1, 1, 2]], jnp.int32)
    options: dict[str, Any] = {"mask": masks.causal & masks.segments, "return_lse": True}

    def one(x: dict[str, Array]) -> tuple[Array, Array]:
        given = {"sinks": x["sinks"], "q_segments": ids, "kv_segments": ids}
        return rg.attention(x["q"], x["k"], x["v"], **given, **options)

    def several(method: str) -> Callable[..., tuple[Array, Array]]:
        def of_device(x: dict[str, Array], ids: Array) -> tuple[Array, Array]:
            given = {"sinks": x["sinks"], "q_segments": ids, "kv_segments": ids}
            return rg.context_parallel(x["q"], x["k"], x["v"], method=method, **given, **options)

        split = PartitionSpec(None, "seq")
        specs = {name: split if name in "qkv" else PartitionSpec() for name in x}
        shared = jax.shard_map(of_device, mesh=mesh, in_specs=(specs, split), out_specs=split)
        return lambda x: shared(x, ids)

    def loss(f: Callable[..., tuple[Array, Array]]) -> Callable[..., Array]:
        return lambda x: sum(jnp.sum(jnp.sin(y)) for y in f(x))

    def of_sinks(f: Callable[..., Any]) -> Callable[[Array], Any]:
        return lambda sinks: f({**x, "sinks": sinks})

    taken: dict[str, Callable[[Callable[..., Any]], Any]] = {
        "jvp": lambda f: jax.jvp(f, (x,), (away,))[1],
        "linearize": lambda f: jax.linearize(f, x)[1](away),
        "jacfwd": lambda f: jax.jacfwd(of_sinks(f))(x["sinks"]),
        "jacrev": lambda f: jax.jacrev(lambda x: f(x)[0][0, -1])(x),
        "vmap of the gradient": lambda f: jax.vmap(jax.grad(loss(f)))(jax.tree.map(lambda *y: jnp.stack(y), x, away)),
        "gradient of checkpoint": lambda f: jax.grad(loss(jax.checkpoint(f)))(x),
        "tangent of the gradient": lambda f: jax.jvp(jax.grad(loss(f)), (x,), (away,))[1],
        "gradient of the tangent": lambda f: jax.grad(lambda x: jax.jvp(loss(f), (x,), (away,))[1])(x),
        "gradient of the gradient": lambda f: jax.grad(lambda x: sum(y.sum() for y in jax.grad(loss(f))(x).values()))(
            x
        ),
        "hessian": lambda f: jax.hessian(of_sinks(loss(f)))(x["sinks"]),
    }
    errors: dict[str, float] = {}
    for name, derivative in taken.items():
        wanted = jax.jit(lambda derivative=derivative: derivative(one))()
        for method in ("ring", "gather"):
            got = jax.jit(lambda derivative=derivative, method=method: derivative(several(method)))()
            errors[f"{name}, {method}"] = max(jax.tree.leaves(jax.tree.map(relative, got, wanted)))
    x, away = (jax.tree.map(lambda y: y.astype(jnp.bfloat16), given) for given in (x, away))
    wanted = jax.jit(lambda: taken["tangent of the gradient"](one))()
    got = jax.jit(lambda: taken["tangent of the gradient"](several("ring")))()
    errors["bfloat16"] = max(jax.tree.leaves(jax.tree.map(relative, got, wanted)))
    return errors


if __name__ == "__main__":
    # Not when a test imports the names of the cases: these settings are of the whole process, and of its children.
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    jax.config.update("jax_disable_most_optimizations", True)  # most of the time is compilation
    warnings.filterwarnings("ignore", category=rg.FallbackWarning)  # native code runs on one device
    if len(sys.argv) == 1 or "figures" in sys.argv:
        print(json.dumps({"case": "figures", **figures()}), flush=True)
    if len(sys.argv) == 1 or "derivatives" in sys.argv:
        print(json.dumps({"case": "derivatives", **derivatives()}), flush=True)
    alone = {"figures", "derivatives"} & {*sys.argv}
    for name in [name for name in sys.argv[1:] if name in CASES] or ([] if alone else CASES):
        print(json.dumps({"case": name, **run(CASES[name])}), flush=True)
