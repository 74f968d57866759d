"""Attention over a sequence that several devices share: equal to attention on one device, with no more work than needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from context_cases import CASES

import ropegen as rg
from ropegen import masks
from ropegen.ring import Order, schedule, work_in_scores
from ropegen.run_time_tiles import may_see

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


def test_all_derivatives_equal_those_of_one_device(results: Results) -> None:
    errors = results["derivatives"]
    assert errors.pop("bfloat16") <= 5e-2  # 8 bits, and a second derivative
    assert len(errors) == 20
    assert max(errors.values()) <= 2e-5, errors


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


TRAINS = """
import json
import train
print(json.dumps({"one": train.train("data", 2, 1)} | {split: train.train(split, 2, 8) for split in train.LAYOUTS}))
"""


def test_the_example_trains_alike_in_all_layouts() -> None:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    environment |= {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}  # most of the time is compilation
    where = HERE.parent / "docs" / "devices"
    environment["PYTHONPATH"] = os.pathsep.join([str(where), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", TRAINS], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    losses = json.loads(done.stdout.splitlines()[-1])
    assert losses.keys() == {"one", "data", "tensor", "context"}
    for of_layout in losses.values():
        np.testing.assert_allclose(of_layout, losses["one"], rtol=1e-5)
    first, second = losses["one"]
    assert second < first - 0.01


# Without devices -----------------------------------------------------------------------------------------------------

MASKS = {
    "causal": masks.causal,
    "window": masks.causal & masks.window(5),
    "both sides": masks.window(3, 7),
    "chunked": masks.chunked(6),
    "prefix": masks.prefix(4) | masks.causal,
    "strided": masks.mask(lambda q_pos, kv_pos: (kv_pos <= q_pos) & ((q_pos - kv_pos) % 8 == 0)),
    "far": masks.mask(lambda q_pos, kv_pos: abs(q_pos - kv_pos) >= 9),
    "later": masks.mask(lambda q_pos, kv_pos: ~(q_pos + 2 > kv_pos)),
    "full": masks.full,
    "nothing": masks.nothing,
}


def seen(mask: masks.Expr, length: int) -> np.ndarray:
    """Which query sees which key."""
    at = np.arange(length, dtype=np.int32)
    return np.broadcast_to(masks.evaluate(mask, np, q_pos=at[:, None], kv_pos=at[None]), (length, length))


@pytest.mark.any_jax
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_zigzag_gives_a_device_the_first_and_the_last_chunk_and_is_undone(parts: int) -> None:
    x = jnp.arange(2 * 16 * 3).reshape(2, 16, 3)
    turned = rg.zigzag(x, parts, axis=-2)
    own, chunk = np.split(np.asarray(turned), parts, axis=1), 16 // (2 * parts)
    np.testing.assert_array_equal(own[0][:, :chunk], x[:, :chunk])
    np.testing.assert_array_equal(own[0][:, chunk:], x[:, 16 - chunk :])
    np.testing.assert_array_equal(rg.unzigzag(turned, parts, axis=1), x)
    np.testing.assert_array_equal(rg.zigzag(jnp.arange(16), parts, axis=0), Order(parts, "zigzag").positions(16))


@pytest.mark.any_jax
@pytest.mark.parametrize("order", ["contiguous", "zigzag"])
@pytest.mark.parametrize("name", MASKS)
def test_a_schedule_visits_all_that_is_seen_and_travels_no_further(name: str, order: str) -> None:
    lies, chunk = Order(4, order), 3
    plan = schedule(lies, MASKS[name], masks.identity, chunk, chunk, 1)
    blocks = seen(MASKS[name], chunk * lies.chunks).reshape(lies.chunks, chunk, lies.chunks, chunk)
    some, whole = blocks.any((1, 3)), blocks.all((1, 3))
    assert not np.any(some & (plan.table == 0))
    for row, column in np.argwhere(plan.table):
        case = plan.cases[plan.table[row, column] - 1]
        assert whole[row, column] or case.mask != masks.full
        assert case.distance in (None, row - column)
    needed = {
        (device - other) % 4
        for device in range(4)
        for other in range(4)
        if plan.table[np.ix_(lies.held[device], lies.held[other])].any()
    }
    up, down = plan.hops
    assert needed - {0} <= {*range(1, up + 1), *(4 - step for step in range(1, down + 1))}
    if name in ("full", "far", "chunked"):
        return
    exact = {(d - o) % 4 for d in range(4) for o in range(4) if some[np.ix_(lies.held[d], lies.held[o])].any()} - {0}
    assert needed - {0} == exact or name == "strided"


@pytest.mark.any_jax
@pytest.mark.parametrize("name", MASKS)
def test_what_is_hidden_at_run_time_is_hidden(name: str) -> None:
    mask, shown = MASKS[name], seen(MASKS[name], 24)
    starts = [(q, kv, size) for q in (0, 3, 11, 16) for kv in (0, 5, 8, 20) for size in (1, 4)]
    q, kv, size = np.array(starts, np.int32).T
    answers = np.broadcast_to(may_see(mask, {"q_pos": (q, q + size - 1), "kv_pos": (kv, kv + size - 1)}), q.shape)
    exact = np.array([shown[a : a + n, b : b + n].any() for a, b, n in starts])
    assert not np.any(exact & ~answers)
    if name in ("causal", "window", "both sides", "far", "later", "prefix", "nothing"):
        np.testing.assert_array_equal(answers, exact)


@pytest.mark.any_jax
def test_positions_that_could_wrap_decide_nothing() -> None:
    far = np.int32(2**31 - 1)
    assert bool(may_see(masks.window(4), {"q_pos": (far, far), "kv_pos": (np.int32(-far), np.int32(-far))}))
    assert not bool(may_see(masks.causal, {"q_pos": (np.int32(-far), np.int32(-far)), "kv_pos": (far, far)}))


def shape(heads: int, length: int = 4096) -> Any:
    return jax.ShapeDtypeStruct((1, length, heads, 128), jnp.bfloat16)


@pytest.mark.any_jax
def test_a_window_needs_its_neighbour_and_the_plan_says_so() -> None:
    mask = masks.causal & masks.window(1024)
    plan = rg.context_plan(shape(32), shape(8), shape(8), parts=8, mask=mask, target="tpu:v5e")
    assert plan.method == "ring"
    assert "a block of keys makes 1 of 7 steps" in plan.explain()
    by_name = {one.method: one for one in plan.considered}
    assert by_name["ring"].sent * 7 == by_name["gather"].sent


@pytest.mark.any_jax
def test_a_short_sequence_is_gathered_and_heads_that_do_not_divide_are_named() -> None:
    plan = rg.context_plan(shape(6, 64), shape(6, 64), shape(6, 64), parts=8, mask=masks.causal, target="gpu:h200")
    assert plan.method == "gather"
    assert "ulysses: declined: 6 heads do not divide among 8 devices" in str(plan)
    with pytest.raises(rg.RopegenError, match="6 heads do not divide among 8 devices; give method='ring'"):
        rg.context_plan(shape(6), shape(6), shape(6), parts=8, method="ulysses", target="cpu")


@pytest.mark.any_jax
def test_zigzag_balances_a_causal_mask() -> None:
    plans = {
        order: rg.context_plan(shape(8), shape(8), shape(8), parts=8, order=order, mask=masks.causal, target="cpu")
        for order in ("contiguous", "zigzag")
    }
    assert "devices compute 6% to 94%" in str(plans["contiguous"])
    assert "every device computes 50%" in str(plans["zigzag"])


@pytest.mark.any_jax
def test_calls_that_cannot_be_right_are_refused() -> None:
    x = jnp.ones((1, 8, 2, 4))
    with pytest.raises(rg.RopegenError, match=r"no mesh axis 'seq' here; call it inside jax\.shard_map"):
        rg.context_parallel(x, x, x)
    with pytest.raises(rg.RopegenError, match="8 positions, and 3 devices hold 6 chunks"):
        rg.zigzag(x, 3)
    with pytest.raises(rg.RopegenError, match="method is 'rings'; did you mean 'ring'"):
        rg.context_plan(shape(8), shape(8), shape(8), parts=2, method="rings", target="cpu")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("seq",))
    spec = jax.sharding.PartitionSpec(None, "seq")

    def fixed(q: Any) -> Any:
        at = np.arange(8)
        return rg.context_parallel(q, q, q, mask=masks.causal, q_positions=at, kv_positions=at)

    with pytest.raises(rg.RopegenError, match="q_positions are equal on all devices of the axis 'seq'"):
        jax.shard_map(fixed, mesh=mesh, in_specs=spec, out_specs=spec)(x)


@pytest.mark.parametrize("order", ["contiguous", "zigzag"])
def test_the_work_of_a_device_is_what_its_queries_see(order: str) -> None:
    length, mask = 4 * 2 * 13, masks.causal & masks.window(40)
    q_pos, kv_pos = np.arange(length)[:, None], np.arange(length)
    seen = (kv_pos <= q_pos) & (q_pos - kv_pos < 40)
    held = Order(4, order).held
    wanted = seen.reshape(held.size, -1, length).mean((1, 2))[held].mean(1)
    np.testing.assert_allclose(work_in_scores(Order(4, order), mask, length, 1, finest=1), wanted)


def test_the_work_of_long_sequences_is_counted_in_larger_tiles() -> None:
    """Chunks of a prime number of positions have no tiles of one size."""
    work = work_in_scores(Order(4, "zigzag"), masks.causal, 8 * 999_983, 1)
    np.testing.assert_allclose(work, 0.5, atol=2e-3)
