"""Native attention of a few queries over a cache, against float64: positions at run time, rows of every number, tails."""

from __future__ import annotations

import ctypes
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from independent import formula
from interpreted import drawn, run
from native import host
from ropegen.templates.attend import llvm_cpu, llvm_cpu_decode
from ropegen.templates.attend.decode_cpu import GRANULE
from ropegen.templates.attend.site import AttendSite
from test_attend_tpu import Case, site_of

import ropegen as rg
from ropegen import masks, reference
from ropegen.ir.graph import Graph
from ropegen.native import machine
from ropegen.target import Target
from ropegen.template import Tile


def built(site: AttendSite, chunk: int = 64, threads: int = 2) -> Any:
    host()
    target = Target.parse(f"cpu:{threads}")
    assert not list(llvm_cpu_decode.declines(site, target))
    return jax.jit(llvm_cpu_decode.build(site, Tile.of(kv=chunk), target).forward)


def check(site: AttendSite, values: dict[str, Any], results: Any) -> None:
    """The output has the error of one rounding to its type and of the sums in float32; hidden rows are hidden.

    A unit that multiplies pairs of bfloat16 rounds weights and rotated features, as the plain formula does; its error is
    at most 1.5 times the plain formula's, root mean square.
    """
    exact, pairs = reference.evaluate(site.closed, values), llvm_cpu.multiplies_pairs(site, host())
    usual = run(functools.partial(formula, site.closed), values) if pairs else {}
    for (label, node), ours in zip(site.closed.outputs, results, strict=True):
        ours, theirs = np.asarray(ours, np.float64), exact[label]
        assert ours.shape == theirs.shape
        np.testing.assert_array_equal(np.isneginf(ours), np.isneginf(theirs), label)
        shown = ~np.isneginf(theirs)
        if pairs:
            near = np.asarray(usual[label], np.float64)
            error, allowed = (np.sqrt(np.mean((value[shown] - theirs[shown]) ** 2)) for value in (ours, near))
            assert error <= 1.5 * allowed + 4e-6, (label, error, allowed)
            continue
        unit = {"f32": 2.0**-23, "bf16": 2.0**-8, "f16": 2.0**-11}[node.type.dtype]
        np.testing.assert_allclose(ours[shown], theirs[shown], rtol=unit, atol=4e-6, err_msg=label)


def step(
    mask: Any, dtype: str = "f32", *, queries: int = 1, capacity: int = 64, documents: bool = False, batch: int = 2
) -> Graph:
    """Attention to a cache from positions, and segments, that are given at run time."""
    b = rg.Builder("step")
    q = b.input("q", (batch, queries, 4, 16), dtype)
    k, v = (b.input(name, (batch, capacity, 2, 16), dtype) for name in "kv")
    given: dict[str, Any] = {
        "q_positions": b.input("at", (batch, queries), "i32"),
        "kv_positions": b.positions(capacity),
    }
    if documents:
        given["q_segments"] = b.input("q_segments", (batch, queries), "i32")
        given["kv_segments"] = b.input("kv_segments", (batch, capacity), "i32")
    returned = {what: b.attend(q, k, v, mask=mask, returns=what, **given) for what in ("output", "log_sum_exp")}
    return b.build(**returned)


@pytest.mark.parametrize("name", ["causal", "window", "documents", "chunks"])
def test_every_position_and_nothing_beyond_it(name: str) -> None:
    """Rows of the cache that no granule of 16 visible keys holds are NaN, so reading one would show."""
    capacity = 192 if name == "chunks" else 64
    mask = {"window": masks.causal & masks.window(5), "documents": masks.causal & masks.segments}.get(
        name, masks.causal
    )
    graph = step(mask, capacity=capacity, documents=name == "documents")
    site = site_of(graph)
    run, values = built(site), drawn(site, 0)
    for position in range(0, capacity, 7) if name == "chunks" else range(41):
        places = np.array([[position], [max(40 - position, 3)]], np.int32)
        values["q_positions"] = places
        here = np.arange(capacity)
        seen = here <= places
        if name == "window":
            seen &= here > places - 5
        if name == "documents":
            values["kv_segments"] = np.stack([here // 11, here // 20]).astype(np.int32)
            values["q_segments"] = np.take_along_axis(values["kv_segments"], places, axis=1)
            seen &= values["kv_segments"] == values["q_segments"]
        granules = seen.reshape(2, -1, GRANULE).any(axis=-1)
        holds = np.repeat(granules, GRANULE, axis=1)[..., None, None]
        poisoned = {**values, **{x: np.where(holds, values[x], np.float32(math.nan)) for x in "kv"}}
        check(site, values, run(*poisoned.values()))


FEW = functools.partial(Case, queries=1, keys=83, heads=4, kv_heads=2, width=32, value_width=32)
NAMED = {
    **{f"{queries} queries, {group} heads a key head": Case(
        queries=queries, keys=70, heads=2 * group, kv_heads=2, width=16, value_width=24, mask="window"
    ) for queries, group in ((1, 1), (1, 2), (1, 3), (1, 5), (7, 1), (16, 4))},
    "bf16, an odd number of registers": FEW(dtype="bf16", width=40, value_width=56),
    "bf16, widths that fill no register": FEW(dtype="bf16", width=43, value_width=70),
    "bf16, less than a register": FEW(dtype="bf16", width=6, value_width=3),
    "f16, a tail": FEW(dtype="f16", width=26, value_width=9, keys=97, lead=(3,)),
    "f32, odd widths": FEW(width=5, value_width=13, queries=2, mask="full"),
    "rotated halves, bf16": FEW(pairing="half", dtype="bf16", width=80, dim=36, queries=3),
    "rotated, interleaved, f16, a bent score": FEW(
        pairing="interleaved", dtype="f16", mask="window", score="bent", width=26
    ),
    "soft-cap, slopes by head, sinks": FEW(
        lead=(), heads=6, kv_heads=1, queries=5, keys=160, softcap=5.0, score="alibi", sinks=True
    ),
    "documents by head that see nothing, as the mean, a dense mask": FEW(
        lead=(2,), queries=9, mask="documents by head", dense_mask=(0, 2, 3), masked_row="mean", value_width=21
    ),
    "rows that see nothing": FEW(lead=(2,), queries=6, mask="nothing for some", dtype="bf16"),
    "a bias of every score": FEW(lead=(2,), queries=4, bias=(0, 1, 2, 3), mask="chunked", keys=200, softcap=3.0),
    "a bias of keys and heads": FEW(bias=(1, 3), queries=4),
    "a bias of queries": FEW(bias=(2,), queries=4, keys=64),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_the_features_of_attention(name: str) -> None:
    site = NAMED[name].site
    values, run = drawn(site, 1), built(site)
    results, again = run(*values.values()), run(*values.values())
    check(site, values, results)
    for x, y in zip(results, again, strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_many_chunks_and_threads_give_the_bits_of_one_thread() -> None:
    site = FEW(keys=600, lead=(3,), dtype="bf16", queries=2, mask="full").site
    values = drawn(site, 2)
    one, many = (built(site, threads=threads)(*values.values()) for threads in (1, 8))
    check(site, values, many)
    for x, y in zip(one, many, strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_it_declines_what_is_no_decode_step() -> None:
    reasons = {
        FEW(queries=17): "there are 17 queries; it takes at most 16",
        FEW(queries=16, heads=34, kv_heads=2): "there are 272 queries for one key head; it takes at most 256",
    }
    for case, reason in reasons.items():
        assert reason in list(llvm_cpu_decode.declines(case.site, Target.parse("cpu")))


def test_the_planner_takes_it_for_a_step_alone() -> None:
    host()
    for queries, name in ((1, "attend/llvm_cpu_decode"), (16, "attend/llvm_cpu_decode"), (64, "attend/llvm_cpu")):
        plan = rg.plan(step(masks.causal, queries=queries, capacity=8192), "host")
        assert [one.chosen.template for one in plan.steps if one.chosen] == [name]


def test_a_row_that_sees_no_key_is_zero_whatever_the_scratch_memory_held() -> None:
    """With a sink, such a row has a denominator, and nobody writes its weighted sums."""
    q, k = jnp.ones((1, 1, 2, 8)), jnp.ones((1, 64, 2, 8))

    def call(q: jax.Array) -> jax.Array:
        return rg.attention(
            q,
            k,
            k,
            mask=lambda kv_pos: kv_pos >= 64,
            sinks=jnp.zeros(2),
            q_positions=np.zeros(1, np.int32),
            kv_positions=np.arange(64),
            target="cpu:1",
        )

    step = jax.jit(call)
    assert "ropegen_decode" in step.lower(q).as_text()
    jax.block_until_ready(step(q))
    block = machine._kept_block.value
    size = ctypes.c_int64.from_address(block).value
    ctypes.memset(block + 4096, 0xFF, size - 4096)  # every float is NaN
    assert np.array_equal(step(q), np.zeros((1, 1, 2, 8)))
