"""Segment ids and positions of 64 bits, which JAX has under `jax_enable_x64`: every bit of them counts."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ropegen.templates.attend import mosaic_tpu
from ropegen.templates.attend.site import FAMILY

import ropegen as rg
from ropegen import masks, plain
from ropegen.emit.callable import Compiled
from ropegen.ir.graph import Graph
from ropegen.plain_call import Call
from ropegen.planner import plan
from ropegen.target import Target

pytestmark = pytest.mark.usefixtures("quick_compilation", "x64")

ROWS = 6
DOCUMENTS = np.array([0, 0, 1, 1, 1, 0])
# The same documents, numbered by ids of which the lower halves are equal.
WIDE = np.where(DOCUMENTS == 0, 7, 7 + 2**32)


@pytest.fixture
def x64() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def drawn(*shape: int, seed: int = 0) -> Any:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def attended(ids: Any, mask: Any = masks.segments, **options: Any) -> Any:
    x = drawn(1, ROWS, 1, 8)
    return rg.attention(x, x, x, mask=mask, q_segments=ids, kv_segments=ids, **options)


def test_documents_are_told_apart_by_the_upper_half_of_their_ids() -> None:
    wanted = attended(DOCUMENTS)
    assert float(jnp.abs(attended(np.full(ROWS, 7)) - wanted).max()) > 0.1
    for result in (attended(WIDE), attended(jnp.asarray(WIDE)), jax.jit(attended)(jnp.asarray(WIDE))):
        np.testing.assert_allclose(result, wanted, atol=1e-6)
    tiled = jax.jit(functools.partial(attended, tile={"attend/xla": {"q": 2, "kv": 2}}))(jnp.asarray(WIDE))
    np.testing.assert_allclose(tiled, wanted, atol=1e-6)


def graph_of(mask: Any, score: Any = masks.identity) -> Graph:
    b = rg.Builder()
    x, ids = b.input("x", (1, ROWS, 1, 8), "f32"), b.input("ids", (ROWS,), "i64")
    return b.build(out=b.attend(x, x, x, mask=mask, score=score, q_segments=ids, kv_segments=ids))


AT = np.arange(ROWS)
# Expressions, and what NumPy makes of the same in int64: the keys seen, and what is added to the scores.
CASES: dict[str, tuple[Any, Any, Any, Any]] = {
    "an id that int32 cannot hold": (
        masks.causal & masks.parse("kv_segment <= 2147483647"),
        masks.identity,
        (AT[:, None] >= AT) & (WIDE < 2**31),
        0.0,
    ),
    "a division": (
        masks.parse("kv_segment // 1073741824 % 3 > 0"),
        masks.identity,
        WIDE // 2**30 % 3 > 0,
        0.0,
    ),
    "a score": (
        masks.full,
        masks.parse("score + (q_segment - kv_segment) / 8589934592.0"),
        np.array(True),
        (WIDE[:, None] - WIDE) / 2.0**33,
    ),
    "a table": (
        masks.parse("[True, False][kv_segment - 7]"),
        masks.identity,
        WIDE == 7,
        0.0,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_expressions_of_int64_ids_are_computed_in_64_bits(name: str) -> None:
    """The reference, the plain formula and the tiles, against NumPy's own int64."""
    mask, score, seen, added = CASES[name]
    x = drawn(1, ROWS, 1, 8)
    wide = np.asarray(x, np.float64)[0, :, 0]
    weight = np.exp(wide @ wide.T / np.sqrt(8) + added) * np.broadcast_to(seen, (ROWS, ROWS))
    total = weight.sum(-1, keepdims=True)
    wanted = weight @ wide / np.where(total == 0, 1.0, total)

    whole, values = graph_of(mask, score), {"x": x, "ids": jnp.asarray(WIDE)}
    results: list[Any] = [
        rg.reference.evaluate(whole, {name: np.asarray(value) for name, value in values.items()})["out"]
    ]
    results += plain.evaluate(
        [value for _, value in whole.outputs], dict(zip(whole.inputs, values.values(), strict=True))
    )
    for tile in (2, ROWS):
        results.append(Compiled(plan(whole, "cpu", tile={"attend/xla": {"q": tile, "kv": tile}}))(**values))
    for result in results:
        np.testing.assert_allclose(result[0, :, 0], wanted, atol=1e-5)


def test_a_tile_of_wide_ids_is_never_said_to_be_full_or_empty() -> None:
    small = masks.parse("kv_segment <= 2147483647")
    assert masks.classify_tiles(small, [(0, 3)], [(0, 3)]).tolist() == [[masks.FULL]]
    assert masks.classify_tiles(small, [(0, 3)], [(0, 3)], wide=["kv_segment"]).tolist() == [[masks.PARTIAL]]
    both = small & masks.causal
    assert masks.classify_tiles(both, [(0, 3)], [(4, 7)], wide=["kv_segment"]).tolist() == [[masks.EMPTY]]


@pytest.mark.parametrize("at", [2**32 + 5, -(2**32) - 5, 2**40 + 12345])
def test_positions_at_run_time_keep_their_upper_half(at: int) -> None:
    rope, x = rg.Rope(10000.0, pairing="half"), drawn(1, 1, 1, 8)
    angle = at * 10000.0 ** (-2.0 * np.arange(4) / 8)
    wanted = np.asarray(x, np.float64)[0, 0, 0]
    cos, sin = np.cos(angle), np.sin(angle)
    wanted = np.concatenate([wanted[:4] * cos - wanted[4:] * sin, wanted[4:] * cos + wanted[:4] * sin])
    for positions in (jnp.asarray([at]), jnp.asarray([at], jnp.float64)):
        np.testing.assert_allclose(jax.jit(rg.rope, static_argnums=2)(x, positions, rope)[0, 0, 0], wanted, atol=2e-3)
        assert positions.dtype.itemsize == 8


def test_ids_and_positions_of_the_host_that_fit_are_int32() -> None:
    """So that a kernel of 32 bits takes them also under x64."""
    call = Call("test")
    ids, positions = call.ids("ids", DOCUMENTS), call.positions("positions", DOCUMENTS, ROWS)
    assert ids is not None
    assert [node.type.dtype for node in (ids, positions)] == ["i32", "i32"]


def test_the_kernel_of_32_bits_declines_ids_of_64() -> None:
    (region,) = FAMILY.find(graph_of(masks.segments))
    reasons = list(mosaic_tpu.declines(FAMILY.site(region.closed), Target.parse("tpu:v5e")))
    assert reasons == [f"{name}_segments are i64, and Mosaic compares 32 bits" for name in ("q", "kv")]
