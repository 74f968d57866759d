"""Packed documents match separate ones, and a decode step matches its row of prefill: every mask, score and family.

Packed documents share one row, with a segment mask and positions that restart. A step has one query over a cache, at a
position that is known at run time only. Separate documents, and prefill, are a batch at positions that are known while
JAX traces. Every case compares a compiled packed row or step with the oracle's result for the batch. Some cases compare
with the compiled batch instead; among them are the gradients.

Two things are excluded. A mask or score that reads `batch` changes its meaning when documents are packed. A mask that
looks at later keys (`LOOKS_AHEAD`) would read rows of a cache that are not written yet; such a mask is tested over all keys.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ropegen as rg
from ropegen import masks, scaling

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Three documents of six rows; grouped queries, and values of another width than queries and keys.
DOCUMENTS, ROWS, HEADS, KV_HEADS, WIDTH, VALUE_WIDTH = 3, 6, 4, 2, 8, 6
WHOLE = DOCUMENTS * ROWS
IDS = np.repeat(np.arange(DOCUMENTS, dtype=np.int32) * 7 - 3, ROWS)
TILE = {"attend/xla": {"q": 8, "kv": 8}}


def drawn(*shape: int, seed: int = 0, dtype: Any = np.float32) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


Q, K, V = (
    drawn(1, WHOLE, HEADS, WIDTH),
    drawn(1, WHOLE, KV_HEADS, WIDTH, seed=1),
    drawn(1, WHOLE, KV_HEADS, VALUE_WIDTH, seed=2),
)

# Options of `rg.attention`, apart from those that pack documents or take a step.
CASES: dict[str, dict[str, Any]] = {
    "full": {},
    "causal": {"mask": masks.causal},
    "window left": {"mask": masks.window(3)},
    "window right": {"mask": masks.window(None, 3)},
    "window both": {"mask": masks.window(3, 2)},
    "causal window": {"mask": masks.causal & masks.window(3)},
    "chunked": {"mask": masks.chunked(4)},
    "causal chunked": {"mask": masks.causal & masks.chunked(4)},
    "prefix": {"mask": masks.prefix(4)},
    "prefix or causal": {"mask": masks.prefix(4) | masks.causal},
    "all but near": {"mask": ~masks.window(2, 2)},
    "first and near": {"mask": masks.causal & (masks.prefix(1) | masks.window(2))},
    "dilated function": {"mask": lambda q_pos, kv_pos: (kv_pos <= q_pos) & ((q_pos - kv_pos) % 2 == 0)},
    "function of head": {"mask": lambda q_pos, kv_pos, head: (kv_pos <= q_pos) & ((head < 2) | (q_pos - kv_pos < 2))},
    "table of blocks": {
        "mask": lambda q_pos, kv_pos: masks.table([1, 0, 0, 1, 1, 0, 0, 1, 1], q_pos // 2 * 3 + kv_pos // 2) == 1
    },
    "rows that see nothing": {"mask": masks.causal & ~masks.chunked(3)},
    "alibi": {"mask": masks.causal, "score": masks.alibi(masks.alibi_slopes(HEADS))},
    "score function": {"score": lambda score, q_pos, kv_pos: masks.where(kv_pos < q_pos, score * 0.5, score - 1.0)},
    "soft-cap": {"mask": masks.causal, "softcap": 1.5},
    "sinks": {"mask": masks.causal, "sinks": jnp.array([0.0, 1.0, -2.0, 3.0])},
    "scale": {"mask": masks.causal, "scale": 0.7},
}
LOOKS_AHEAD = {
    "full", "window left", "window right", "window both", "chunked", "prefix", "prefix or causal", "all but near",
    "table of blocks", "score function",
}  # fmt: skip

FAMILIES: dict[str, tuple[rg.Rope, int | None]] = {
    "none, half": (rg.Rope(100.0, pairing="half"), None),
    "none, interleaved": (rg.Rope(100.0, pairing="interleaved"), None),
    "float32 angles": (rg.Rope(100.0, pairing="half", angles="f32"), None),
    "partial, half": (rg.Rope(100.0, pairing="half", dim=4), None),
    "partial, interleaved": (rg.Rope(100.0, pairing="interleaved", dim=4), None),
    "linear": (rg.Rope(100.0, pairing="half", scaling=scaling.linear(factor=4)), None),
    "dynamic": (rg.Rope(100.0, pairing="half", scaling=scaling.dynamic(factor=4, original=8)), 32),
    "yarn": (rg.Rope(100.0, pairing="half", scaling=scaling.yarn(factor=4, original=64)), None),
    "longrope": (
        rg.Rope(
            100.0,
            pairing="half",
            scaling=scaling.longrope(short=[1, 1, 2, 2], long=[1, 2, 4, 8], original=16, factor=4),
        ),
        32,
    ),
    "llama3": (rg.Rope(100.0, pairing="half", scaling=scaling.llama3(factor=8, low=1, high=4, original=64)), None),
    "proportional": (rg.Rope(100.0, pairing="half", scaling=scaling.proportional(fraction=0.5)), None),
    "xpos": (rg.Rope(100.0, pairing="interleaved", scaling=scaling.xpos(base=16, centre=3)), None),
}
SECTIONED = {
    "sections in runs": rg.Rope(100.0, pairing="half", sections=(2, 1, 1)),
    "sections dealt out": rg.Rope(100.0, pairing="half", sections=(2, 1, 1), interleaved_sections=True),
    "sections, interleaved pairs": rg.Rope(100.0, pairing="interleaved", sections=(1, 2, 1)),
}


def paired(case: str) -> dict[str, Any]:
    """The options of a case, with the frequency family that `TURNS` gives it."""
    return {**CASES[case], **family(TURNS[case])}


def family(name: str) -> dict[str, Any]:
    rope, length = FAMILIES[name]
    return {"rope": rope, "length": length}


TURNS = {case: list(FAMILIES)[index % len(FAMILIES)] for index, case in enumerate(CASES)}
PAIRS = pytest.mark.parametrize("case", [pytest.param(case, id=f"{case} with {TURNS[case]}") for case in CASES])


def batched(
    q: jax.Array, k: jax.Array, v: jax.Array, *, rope: rg.Rope | None = None, length: int | None = None, **options: Any
) -> np.ndarray:
    """The oracle's attention of a batch, positions from 0, float64."""
    b = rg.Builder("batch")
    arrays = {"q": q, "k": k, "v": v, **{name: options.pop(name) for name in ("sinks",) if name in options}}
    nodes = {name: b.input(name, x.shape, x.dtype) for name, x in arrays.items()}
    at = b.positions(q.shape[1])
    if rope is not None:
        nodes["q"] = b.rope(nodes["q"], at, rope, length=length)
        nodes["k"] = b.rope(nodes["k"], at, rope, length=length, inverse=rope.scaling.kind == "xpos")
    return rg.reference.evaluate(b.build(out=b.attend(**nodes, **options)), arrays)["out"]


def close(result: Any, wanted: Any, dtype: Any = np.float32) -> None:
    assert result.dtype == dtype
    atol = 3e-6 if dtype == np.float32 else 2**-6  # results are of order 1; q, k, weights and results round to bfloat16
    np.testing.assert_allclose(np.asarray(result, np.float64), np.asarray(wanted, np.float64), atol=atol)


# Packed documents match separate ones ---------------------------------------------------------------------------------

RESTARTING = np.tile(np.arange(ROWS), DOCUMENTS)


def apart(x: Any) -> Any:
    """(1, documents * rows, ...) -> (documents, rows, ...)."""
    return x.reshape(DOCUMENTS, ROWS, *x.shape[2:])


def packed(q: jax.Array, k: jax.Array, v: jax.Array, *, mask: Any = masks.full, **options: Any) -> Any:
    options = {"q_positions": RESTARTING, "kv_positions": RESTARTING, **options}
    mask = masks.segments & masks.as_mask(mask)
    return rg.attention(q, k, v, mask=mask, q_segments=IDS, kv_segments=IDS, **options)


@PAIRS
def test_packed_matches_separate_for_every_mask_and_family(case: str) -> None:
    result = jax.jit(functools.partial(packed, **paired(case)))(Q, K, V)
    close(apart(result), batched(apart(Q), apart(K), apart(V), **paired(case)))


def test_packed_matches_separate_in_bfloat16() -> None:
    q, k, v = (x.astype(jnp.bfloat16) for x in (Q, K, V))
    result = jax.jit(functools.partial(packed, **paired("causal window"), tile=TILE))(q, k, v)
    close(apart(result), batched(apart(q), apart(k), apart(v), **paired("causal window")), jnp.bfloat16)


def test_packed_matches_separate_in_tiles_of_which_some_are_empty() -> None:
    """Here positions are known while tracing and continue from one document to the next: only their differences matter."""
    going_on = {"q_positions": None, "kv_positions": None, "rope": FAMILIES["llama3"][0], "tile": TILE}
    options = {"mask": masks.causal & masks.window(3), "rope": FAMILIES["llama3"][0]}
    result = jax.jit(functools.partial(packed, **{**options, **going_on}))(Q, K, V)
    close(apart(result), batched(apart(Q), apart(K), apart(V), **options))


@pytest.mark.parametrize("name", SECTIONED)
def test_packed_matches_separate_with_positions_of_several_axes(name: str) -> None:
    """Rotation reads three axes and a mask reads one. So q and k are rotated before, or the mask reads no position."""
    rope = SECTIONED[name]
    at = np.random.default_rng(5).integers(0, 9, (3, DOCUMENTS, ROWS)).astype(np.int32)
    whole = at.reshape(3, 1, WHOLE)

    def in_one_row(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, ...]:
        blind = packed(q, k, v, rope=rope, q_positions=whole, kv_positions=whole)
        return blind, packed(rg.rope(q, whole, rope), rg.rope(k, whole, rope), v, mask=masks.causal)

    def turned(x: jax.Array) -> jax.Array:  # with the table and the rotation of the oracle
        b = rg.Builder("turned")
        node = b.rope(b.input("x", x.shape, "f32"), b.input("at", at.shape, "i32"), rope)
        return jnp.asarray(rg.reference.evaluate(b.build(out=node), {"x": x, "at": at})["out"], np.float32)

    alone = turned(apart(Q)), turned(apart(K)), apart(V)
    for result, mask in zip(jax.jit(in_one_row)(Q, K, V), (masks.full, masks.causal), strict=True):
        close(apart(result), batched(*alone, mask=mask))


def test_packed_matches_separate_with_a_bias_and_a_dense_mask_for_each_document() -> None:
    bias, kept = drawn(DOCUMENTS, HEADS, ROWS, ROWS, seed=3), np.asarray(drawn(DOCUMENTS, 1, ROWS, ROWS, seed=4)) > 0
    whole_bias, whole_kept = np.full((HEADS, WHOLE, WHOLE), 50.0, np.float32), np.ones((WHOLE, WHOLE), bool)
    for document in range(DOCUMENTS):
        part = slice(document * ROWS, (document + 1) * ROWS)
        whole_bias[:, part, part], whole_kept[part, part] = bias[document], kept[document, 0]
    wanted = rg.attention(apart(Q), apart(K), apart(V), mask=kept, bias=bias)
    # A dense mask replaces the segment mask, so it must hide other segments too. Or the bias hides what the dense mask hides.
    result = rg.attention(Q, K, V, mask=whole_kept & (IDS[:, None] == IDS), bias=jnp.asarray(whole_bias))
    close(apart(result), wanted)
    close(apart(packed(Q, K, V, bias=jnp.where(whole_kept, whole_bias, -jnp.inf))), wanted)


def test_packed_matches_separate_for_documents_of_different_lengths() -> None:
    parts = [slice(0, 3), slice(3, 4), slice(4, 13), slice(13, 18)]
    lengths = [part.stop - part.start for part in parts]
    at, ids = np.concatenate([np.arange(n) for n in lengths]), np.repeat(np.arange(4), lengths)
    options = {"rope": FAMILIES["llama3"][0], "mask": masks.causal & masks.window(4)}
    both = {"q_positions": at, "kv_positions": at, "q_segments": ids, "kv_segments": ids, "tile": TILE}
    options_of_both = {**options, **both, "mask": masks.segments & options["mask"]}
    result = jax.jit(functools.partial(rg.attention, **options_of_both))(Q, K, V)
    for part in parts:
        close(result[:, part], batched(Q[:, part], K[:, part], V[:, part], **options))


def test_without_segments_documents_see_each_other() -> None:
    mixed = rg.attention(Q, K, V, mask=masks.causal, q_positions=RESTARTING, kv_positions=RESTARTING)
    alone = batched(apart(Q), apart(K), apart(V), mask=masks.causal)
    assert np.min(np.max(np.abs(apart(mixed) - alone), axis=(1, 2, 3))) > 0.1


@pytest.mark.parametrize("case", ["sinks", "rows that see nothing"])
def test_gradients_of_packed_documents_match_those_of_separate_ones(case: str) -> None:
    options, along = paired(case), drawn(1, WHOLE, HEADS, VALUE_WIDTH, seed=6)
    sinks = options.pop("sinks", None)

    def in_one_row(q: jax.Array, k: jax.Array, v: jax.Array, sinks: Any) -> jax.Array:
        return jnp.vdot(packed(q, k, v, sinks=sinks, **options), along)

    def of_separate(q: jax.Array, k: jax.Array, v: jax.Array, sinks: Any) -> jax.Array:
        return jnp.vdot(rg.attention(apart(q), apart(k), apart(v), sinks=sinks, **options), apart(along))

    gradients, wanted = (jax.jit(jax.grad(loss, (0, 1, 2, 3)))(Q, K, V, sinks) for loss in (in_one_row, of_separate))
    for ours, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(wanted), strict=True):
        assert jnp.max(jnp.abs(theirs)) > 0.1
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


# A decode step matches its row of prefill --------------------------------------------------------------------------------

BATCH, CAPACITY = 3, 12
STEPS = np.array([1, 5, 10])  # one for every sequence of the batch
PREFILL = (
    drawn(BATCH, CAPACITY, HEADS, WIDTH, seed=10),
    drawn(BATCH, CAPACITY, KV_HEADS, WIDTH, seed=11),
    drawn(BATCH, CAPACITY, KV_HEADS, VALUE_WIDTH, seed=12),
)


def row(x: Any, steps: np.ndarray = STEPS) -> jax.Array:
    """The row of every sequence at its step, (batch, 1, ...)."""
    return jnp.stack([jnp.asarray(x[sequence, step : step + 1]) for sequence, step in enumerate(steps)])


def unwritten(x: jax.Array, steps: np.ndarray = STEPS) -> jax.Array:
    """The cache of x: in every sequence, the rows after its step hold arbitrary large numbers."""
    later = np.arange(CAPACITY) > steps[:, None]
    return jnp.where(later[..., None, None], 1e3, x)


def step_of(q: jax.Array, k: jax.Array, v: jax.Array, **options: Any) -> Any:
    """Attention with one query for every sequence, at positions that are known at run time only."""

    def step(q: jax.Array, k: jax.Array, v: jax.Array, at: jax.Array) -> jax.Array:
        return rg.attention(q, k, v, **{"q_positions": at, "kv_positions": np.arange(CAPACITY), **options})

    return jax.jit(step)(row(q), k, v, jnp.asarray(STEPS[:, None], np.int32))


@PAIRS
def test_a_step_matches_its_row_of_prefill_for_every_mask_and_family(case: str) -> None:
    q, k, v = PREFILL
    cache = [k, v] if case in LOOKS_AHEAD else [unwritten(k), unwritten(v)]
    close(step_of(q, *cache, **paired(case)), row(batched(q, k, v, **paired(case))))


@pytest.mark.parametrize("case", CASES)
def test_only_masks_that_look_ahead_read_later_keys(case: str) -> None:
    q, k, v = PREFILL
    whole, shorter = batched(q, k, v, **CASES[case]), batched(q, unwritten(k), unwritten(v), **CASES[case])
    assert bool(jnp.all(row(whole) == row(shorter))) == (case not in LOOKS_AHEAD)


def test_a_step_matches_its_row_of_prefill_in_bfloat16() -> None:
    q, k, v = (x.astype(jnp.bfloat16) for x in PREFILL)
    result = step_of(q, unwritten(k), unwritten(v), **paired("sinks"))
    close(result, row(batched(q, k, v, **paired("sinks"))), jnp.bfloat16)


def test_a_step_matches_its_row_of_compiled_prefill() -> None:
    q, k, v = PREFILL
    options = {**CASES["alibi"], **family("xpos")}
    close(step_of(q, unwritten(k), unwritten(v), **options), row(rg.attention(q, k, v, tile=TILE, **options)))


def test_a_step_matches_its_row_of_prefill_with_positions_of_several_axes() -> None:
    rope, (q, k, v) = SECTIONED["sections dealt out"], PREFILL
    at = np.random.default_rng(5).integers(0, 9, (3, BATCH, CAPACITY)).astype(np.int32)
    row_at = np.stack([at[:, sequence, step : step + 1] for sequence, step in enumerate(STEPS)], axis=1)
    turned = [jax.jit(functools.partial(rg.rope, rope=rope))(x, at) for x in (q, k)]
    close(jax.jit(functools.partial(rg.rope, rope=rope))(row(q), row_at), row(turned[0]))
    result = step_of(turned[0], unwritten(turned[1]), unwritten(v), mask=masks.causal)
    close(result, row(batched(*turned, v, mask=masks.causal)))


def test_a_step_matches_its_row_of_prefill_at_fractional_positions() -> None:
    """Rotation reads fractions; masks cut them off, so a query at 0.25 sees a key at 0.75: all keys are there."""
    at = np.arange(CAPACITY, dtype=np.float32) * 0.75 - 2.0
    options = {"mask": masks.causal & masks.window(4), "kv_positions": at, **family("xpos")}
    whole = jax.jit(functools.partial(rg.attention, q_positions=at, **options))(*PREFILL)
    close(step_of(*PREFILL, **{**options, "q_positions": at[STEPS][:, None]}), row(whole))
    moved = jax.jit(functools.partial(rg.attention, q_positions=np.trunc(at), **options))(*PREFILL)
    assert jnp.max(jnp.abs(moved - whole)) > 1e-2


def test_a_step_sees_the_segment_that_its_cache_holds() -> None:
    ids = np.array([[0] * 2 + [1] * 10, [0] * 3 + [1] * 9, [0] * 12], np.int32)
    q, k, v = PREFILL
    mask = masks.causal & masks.segments
    result = step_of(q, unwritten(k), unwritten(v), mask=mask, q_segments=row(ids), kv_segments=ids)
    whole = rg.attention(q, k, v, mask=mask, q_segments=ids, kv_segments=ids)
    close(result, row(whole))


@pytest.mark.parametrize(("case", "name"), [("causal window", "longrope"), ("sinks", "xpos")])
def test_steps_over_an_appended_cache_match_their_rows_of_prefill(case: str, name: str) -> None:
    """Two steps of a graph with a cache that starts with part of the prefill. Every sequence has its own length."""
    options, (rope, length) = dict(CASES[case]), FAMILIES[name]
    more = {"sinks": options.pop("sinks")} if "sinks" in options else {}
    b = rg.Builder("step")
    q, k, v = (b.input(label, (BATCH, 1, *x.shape[2:]), "f32") for label, x in zip("qkv", PREFILL, strict=True))
    lengths, at = b.input("lengths", (BATCH,), "i32"), b.input("at", (BATCH, 1), "i32")
    caches = [b.state(f"{label}_cache", x.shape, "f32") for label, x in zip("kv", PREFILL[1:], strict=True)]
    given = {label: b.input(label, x.shape, "f32") for label, x in more.items()}

    def keys_turned(b: rg.Builder, keys: Any, at: Any) -> Any:
        return b.rope(keys, at, rope, length=length, inverse=name == "xpos")

    k_cache, v_cache = b.append_cache(caches[0], keys_turned(b, k, at), lengths), b.append_cache(caches[1], v, lengths)
    places = {"q_positions": at, "kv_positions": b.positions(CAPACITY)}
    out = b.attend(b.rope(q, at, rope, length=length), k_cache, v_cache, **options, **places, **given)
    step = rg.plan(b.build(out=out, k_cache=k_cache, v_cache=v_cache), "cpu").compile()

    b = rg.Builder("keys")
    keys = keys_turned(b, b.input("k", PREFILL[1].shape, "f32"), b.positions(CAPACITY))
    keys = jnp.asarray(rg.reference.evaluate(b.build(out=keys), {"k": PREFILL[1]})["out"], np.float32)
    cache = [unwritten(x, STEPS - 1) for x in (keys, PREFILL[2])]
    whole = batched(*PREFILL, rope=rope, length=length, **options, **more)
    for now in (STEPS, STEPS + 1):
        fresh = {label: row(x, now) for label, x in zip("qkv", PREFILL, strict=True)}
        places = {"lengths": now.astype(np.int32), "at": now.astype(np.int32)[:, None]}
        made = step(**fresh, **places, k_cache=cache[0], v_cache=cache[1], **more)
        cache = [made["k_cache"], made["v_cache"]]
        close(made["out"], row(whole, now))
