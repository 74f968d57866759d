"""The tiled attention against a dense formula in float64: forward, tangent, backward, and the plain formula to second
order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from ropegen.templates.attend import tiled
from ropegen.templates.attend.exponential import exponential
from ropegen.templates.attend.tiled import Static, Tile

from ropegen import masks, plain
from ropegen.ir.ops import Attend

MASKS = {
    "full": masks.full,
    "causal": masks.causal,
    "window": masks.causal & masks.window(9),
    "chunked": masks.chunked(16),
    "prefix": masks.prefix(7),
    "documents": masks.causal & masks.segments,
    "some heads": masks.mask(lambda q_pos, kv_pos, head: (kv_pos <= q_pos) & (head % 2 == 0) | (kv_pos == q_pos)),
    "nothing for some": masks.mask(lambda q_pos, kv_pos, batch: (q_pos + batch) % 3 != 1),
}
SCORES = {
    "identity": masks.identity,
    "alibi": masks.alibi([0.5, 0.25, 0.125, 0.0625, 1.0, 0.3]),
    "bent": masks.score(
        lambda score, q_pos, kv_pos: masks.where(q_pos > kv_pos, score + 0.5 * masks.tanh(score), score)
    ),
}
DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}

pytestmark = pytest.mark.usefixtures("full_compilation")


@dataclass(frozen=True)
class Case:
    lead: tuple[int, ...] = ()
    queries: int = 33
    keys: int = 33
    heads: int = 4
    kv_heads: int = 2
    width: int = 8
    value_width: int = 8
    dtype: str = "f32"
    mask: str = "full"
    score: str = "identity"
    softcap: float | None = None
    bias: tuple[int, ...] | None = None  # which of (..., H, Sq, Skv) are not 1
    dense_mask: tuple[int, ...] | None = None
    sinks: bool = False
    masked_row: str = "zero"
    known: bool = True  # positions are known while tracing
    tile: tuple[int, int] = (16, 16)
    hidden_bias: bool = False  # the bias has -inf in it
    widened: bool = False  # half precision is multiplied in float32
    polynomial: bool = True  # weights by `exponential`, as on CPU
    seed: int = 0

    @property
    def op(self) -> Attend:
        given = [
            *(("q_positions", "kv_positions") if self.made_positions else ()),
            *(("q_segments", "kv_segments") if self.mask == "documents" else ()),
            *(("bias",) if self.bias is not None else ()),
            *(("mask",) if self.dense_mask is not None else ()),
            *(("sinks",) if self.sinks else ()),
        ]
        return Attend(
            scale=self.width**-0.5,
            visible=MASKS[self.mask],
            score=SCORES[self.score],
            softcap=self.softcap,
            masked_row=self.masked_row,
            given=tuple(given),
        )

    @property
    def made_positions(self) -> bool:
        return self.mask != "full" or self.score != "identity"

    @property
    def start(self) -> int:
        """Queries stand at the end of the keys, or a little before."""
        return max(self.keys - self.queries, 0)

    @property
    def static(self) -> Static:
        known = self.known and self.made_positions
        positions = ((self.start, self.queries), (0, self.keys)) if known else (None, None)
        return Static(*positions, self.widened, self.polynomial)

    def operands(self) -> tuple[Any, Any, Any, dict[str, Any]]:
        """q, k, v and the rest, in NumPy; float values are representable in the case's dtype."""
        random = np.random.default_rng(self.seed)
        lead, dtype = self.lead, DTYPES[self.dtype]

        def normal(*shape: int, dtype: Any = dtype) -> Any:
            return np.asarray(random.standard_normal(shape), dtype)

        q = normal(*lead, self.queries, self.heads, self.width)
        k = normal(*lead, self.keys, self.kv_heads, self.width)
        v = normal(*lead, self.keys, self.kv_heads, self.value_width)
        full = (*lead, self.heads, self.queries, self.keys)
        given: dict[str, Any] = {}
        lengths = {"q_positions": self.queries, "q_segments": self.queries}
        starts = {"q_positions": self.start}
        for label in self.op.given:
            length, start = lengths.get(label, self.keys), starts.get(label, 0)
            if label in ("q_positions", "kv_positions"):
                positions = np.arange(start, start + length, dtype=np.int32)
                if not self.known:  # out of order, and one row a batch entry
                    positions = random.permuted(np.broadcast_to(positions, (*lead, length)), axis=-1)
                given[label] = positions
            elif label in ("q_segments", "kv_segments"):
                given[label] = np.sort(random.integers(0, 3, (*lead, length)), axis=-1).astype(np.int32)
            elif label == "sinks":
                given[label] = normal(self.heads, dtype=np.float32)
            else:
                kept = self.bias if label == "bias" else self.dense_mask
                assert kept is not None
                shape = tuple(size if axis in kept else 1 for axis, size in enumerate(full))
                if label == "mask":
                    given[label] = random.random(shape) < 0.6
                else:
                    given[label] = normal(*shape, dtype=np.float32)
                    if self.hidden_bias:
                        given[label][random.random(shape) < 0.3] = -np.inf
        return q, k, v, given


def bent(case: Case, products: Any, bias: Any, given: dict[str, Any], xp: Any) -> Any:
    """The scores of the scaled products: soft-cap, bias, expression."""
    score = products if case.softcap is None else case.softcap * xp.tanh(products / case.softcap)
    return xp.broadcast_to(masks.evaluate(case.op.score, xp, score=score + bias, **variables(case, given)), score.shape)


def variables(case: Case, given: dict[str, Any]) -> dict[str, Any]:
    """Positions, segments, head and batch as they broadcast to (..., H, Sq, Skv)."""
    values: dict[str, Any] = {
        "head": np.arange(case.heads)[:, None, None],
        "batch": np.arange(math.prod(case.lead)).reshape(*case.lead, 1, 1, 1),
    }
    for name, label in case.op.NEEDS.items():
        if label in given:
            x = given[label] if given[label].ndim > 1 else given[label].reshape(*(1 for _ in case.lead), -1)
            values[name] = x[..., None, None, :] if name in ("kv_pos", "kv_segment") else x[..., None, :, None]
    return values


def visible(case: Case, given: dict[str, Any], shape: tuple[int, ...]) -> Any:
    seen = masks.evaluate(case.op.visible, np, **variables(case, given)) & given.get("mask", np.True_)
    return np.broadcast_to(seen & (given.get("bias", 0.0) != -np.inf), shape)


def folded(case: Case, x: Any, axis: int) -> Any:
    """The sum over the query heads that share a key head."""
    group = case.heads // case.kv_heads
    return np.sum(x.reshape(*x.shape[:axis], case.kv_heads, group, *x.shape[axis:][1:]), axis + 1)


def exact(case: Case, operands: Any, tangents: Any, cotangents: Any) -> dict[str, Any]:
    """Every result in float64 NumPy, all scores at once; derivatives of the score function by central differences."""
    q, k, v, given = operands
    q, k, v, dq, dk, dv, u, u_lse = (np.asarray(x, np.float64) for x in (q, k, v, *tangents[:3], *cotangents))
    d_given = tangents[3]
    group, scale = case.heads // case.kv_heads, case.op.scale
    k, v, dk, dv = (np.repeat(x, group, axis=-2) for x in (k, v, dk, dv))
    products = scale * np.einsum("...qhd,...khd->...hqk", q, k)
    shape = products.shape
    bias = np.where(np.isneginf(given.get("bias", 0.0)), 0.0, np.asarray(given.get("bias", 0.0), np.float64))
    step = 1e-6

    def score(x: Any, y: Any) -> Any:
        return bent(case, x, y, given, np)

    by_product = (score(products + step, bias) - score(products - step, bias)) / (2 * step)
    by_bias = (score(products, bias + step) - score(products, bias - step)) / (2 * step)
    seen = visible(case, given, shape)
    shown = np.where(seen, score(products, bias), -np.inf)
    sinks = np.asarray(given["sinks"], np.float64)[:, None] if case.sinks else np.full((case.heads, 1), -np.inf)
    top = np.maximum(shown.max(-1), sinks)
    top = np.where(top == -np.inf, 0.0, top)
    weight = np.exp(shown - top[..., None])
    total = weight.sum(-1) + np.exp(sinks - top)
    dead = total == 0
    divisor = np.where(dead, 1.0, total)
    weight /= divisor[..., None]
    sunk = np.exp(sinks - top) / divisor
    flat = ((not case.sinks and case.masked_row == "mean") & ~seen.any(-1))[..., None] / case.keys

    def mix(weights: Any, values: Any) -> Any:
        return np.einsum("...hqk,...khd->...qhd", weights, values)

    with np.errstate(divide="ignore"):
        results = {
            "out": mix(weight + flat, v),
            "lse": np.swapaxes(np.where(dead, -np.inf, top + np.log(divisor)), -1, -2),
        }
    change = (
        by_product * scale * (np.einsum("...qhd,...khd->...hqk", dq, k) + np.einsum("...qhd,...khd->...hqk", q, dk))
    )
    change = change + by_bias * np.asarray(d_given.get("bias", 0.0), np.float64)
    moved = (weight * change).sum(-1) + sunk * np.asarray(d_given.get("sinks", np.zeros(case.heads)), np.float64)[
        :, None
    ]
    results["d_out"] = mix(weight * (change - moved[..., None]), v) + mix(weight + flat, dv)
    results["d_lse"] = np.swapaxes(moved, -1, -2)

    pulled = np.einsum("...qhd,...khd->...hqk", u, v)
    u_lse = np.swapaxes(u_lse, -1, -2)
    drag = (weight * pulled).sum(-1) - u_lse
    scores = weight * (pulled - drag[..., None])
    results["q"] = mix(scores * by_product * scale, k)
    results["k"] = folded(case, np.einsum("...hqk,...qhd->...khd", scores * by_product * scale, q), len(case.lead) + 1)
    results["v"] = folded(case, np.einsum("...hqk,...qhd->...khd", weight + flat, u), len(case.lead) + 1)
    if "bias" in given:
        kept = given["bias"].shape
        summed = tuple(axis for axis, size in enumerate(kept) if size == 1)
        results["bias"] = np.sum(scores * by_bias, summed, keepdims=True)
    if "sinks" in given:
        results["sinks"] = -np.moveaxis(sunk * drag, -2, 0).reshape(case.heads, -1).sum(1)
    return results


def kernel(case: Case, operands: Any, tangents: Any, cotangents: Any) -> dict[str, Any]:
    """Every result of the tiled attention."""
    op, tile, static = case.op, Tile(*case.tile), case.static
    q, k, v, given = operands
    out, lse = tiled.forward(op, tile, q, k, v, given, static)
    d_out, d_lse = tiled.tangent(op, tile, operands, out, lse, tangents, static)
    dq, dk, dv, extra = tiled.backward(op, tile, operands, out, lse, *cotangents, static)
    return {"out": out, "lse": lse, "d_out": d_out, "d_lse": d_lse, "q": dq, "k": dk, "v": dv, **extra}


def dense(case: Case, q: Any, k: Any, v: Any, given: dict[str, Any]) -> Any:
    """(out, lse) as a JAX user writes it: scores and softmax in float32, weights in the dtype of the values."""
    group = case.heads // case.kv_heads
    seen = visible(case, case.operands()[3], (*case.lead, case.heads, case.queries, case.keys))
    k, v = (jnp.repeat(x, group, axis=-2) for x in (k, v))
    products = jnp.einsum("...qhd,...khd->...hqk", q, k, preferred_element_type=jnp.float32) * case.op.scale
    bias = jnp.where(given["bias"] == -jnp.inf, 0.0, given["bias"]) if "bias" in given else 0.0
    score = bent(case, products, bias, given, jnp)
    sinks = given["sinks"][:, None, None] if "sinks" in given else -jnp.inf
    top = jnp.maximum(jnp.max(jnp.where(seen, score, -jnp.inf), -1, keepdims=True), sinks)
    top = jax.lax.stop_gradient(jnp.where(top == -jnp.inf, 0.0, top))
    weight = jnp.where(seen, jnp.exp(jnp.where(seen, score - top, 0.0)), 0.0)
    total = jnp.sum(weight, -1, keepdims=True) + jnp.exp(sinks - top)
    divisor = jnp.where(total == 0, 1.0, total)
    weight = weight / divisor
    if case.masked_row == "mean" and not case.sinks:
        weight = jnp.where(seen.any(-1, keepdims=True), weight, 1 / case.keys)
    out = jnp.einsum("...hqk,...khd->...qhd", weight.astype(v.dtype), v)
    return out, jnp.swapaxes(jnp.where(total == 0, -jnp.inf, top + jnp.log(divisor))[..., 0], -1, -2)


def drawn_around(case: Case) -> tuple[Any, Any, Any]:
    """Operands, tangents and cotangents."""
    operands = case.operands()
    random = np.random.default_rng(case.seed + 1)

    def like(x: Any) -> Any:
        return np.asarray(random.standard_normal(x.shape), x.dtype)

    q, k, v, given = operands
    tangents = (like(q), like(k), like(v), {label: like(given[label]) for label in ("bias", "sinks") if label in given})
    rows = (*case.lead, case.queries, case.heads)
    cotangents = (
        np.asarray(random.standard_normal((*rows, case.value_width)), q.dtype),
        np.asarray(random.standard_normal(rows), np.float32),
    )
    return operands, tangents, cotangents


def check(case: Case) -> None:
    """All results are near the exact ones, and in float32 the backward pass is the transpose of the tangent."""
    operands, tangents, cotangents = drawn_around(case)
    right = exact(case, operands, tangents, cotangents)
    results = jax.tree.map(
        lambda x: np.asarray(x, np.float64), jax.jit(kernel, static_argnums=0)(case, operands, tangents, cotangents)
    )
    slack = (100 if case.dtype == "f32" else 6) * float(jnp.finfo(DTYPES[case.dtype]).eps)
    assert results.keys() == right.keys()
    for label, value in right.items():
        hidden = np.isneginf(value)
        np.testing.assert_array_equal(np.isneginf(results[label]), hidden, err_msg=label)
        size = max(1.0, np.abs(value[~hidden]).max(initial=0.0))
        np.testing.assert_allclose(results[label][~hidden], value[~hidden], rtol=0, atol=slack * size, err_msg=label)
    if case.dtype != "f32":
        return
    forth = np.sum(cotangents[0] * results["d_out"]) + np.sum(cotangents[1] * results["d_lse"])
    pairs = [*zip("qkv", tangents[:3], strict=True), *tangents[3].items()]
    back = sum(np.sum(results[label] * tangent) for label, tangent in pairs)
    sizes = [np.linalg.norm(cotangents[0]) * np.linalg.norm(results["d_out"])]
    sizes += [np.linalg.norm(results[label]) * np.linalg.norm(tangent) for label, tangent in pairs]
    assert abs(forth - back) <= 1e-5 * max(1.0, *sizes)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    lead = draw(st.sampled_from([(), (2,), (2, 2), (1,)]))
    queries = draw(st.sampled_from([1, 5, 16, 33, 50]))
    kv_heads = draw(st.sampled_from([1, 2]))
    axes = tuple(range(len(lead) + 3))
    broadcast = st.none() | st.sets(st.sampled_from(axes)).map(lambda kept: tuple(sorted(kept)))
    return Case(
        lead=lead,
        queries=queries,
        keys=draw(st.sampled_from([queries, queries, 1, 7, 40])),
        heads=kv_heads * draw(st.sampled_from([1, 2, 3])),
        kv_heads=kv_heads,
        width=draw(st.sampled_from([3, 8, 16])),
        value_width=draw(st.sampled_from([5, 8])),
        dtype=draw(st.sampled_from(["f32", "bf16", "f16"])),
        mask=draw(st.sampled_from(sorted(MASKS))),
        score=draw(st.sampled_from(["identity", "identity", "alibi", "bent"])),
        softcap=draw(st.sampled_from([None, None, 2.0])),
        bias=draw(st.none() | broadcast),
        dense_mask=draw(st.none() | broadcast),
        sinks=draw(st.booleans()),
        masked_row=draw(st.sampled_from(["zero", "mean"])),
        known=draw(st.booleans()),
        # Small tiles over longer sequences become loops, large ones are unrolled.
        tile=draw(st.sampled_from([(1, 1), (3, 4), (5, 16), (16, 7), (64, 64)])),
        polynomial=draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
    )


NAMED = {
    "causal, in a loop": Case(queries=100, keys=100, mask="causal", tile=(10, 12)),
    "causal, unrolled": Case(queries=200, keys=200, mask="causal", tile=(100, 200)),
    "window, in a loop": Case(lead=(2,), queries=90, keys=90, mask="window", tile=(8, 6), dtype="bf16"),
    "decode": Case(lead=(2,), queries=1, keys=300, mask="causal", tile=(8, 300)),
    "more queries than keys": Case(queries=40, keys=13, mask="causal", masked_row="mean"),
    "a bias over keys, in a loop": Case(queries=35, keys=45, bias=(2,), tile=(4, 8), softcap=3.0, sinks=True),
    "a bias over heads and queries, in a loop": Case(
        queries=35, keys=45, bias=(0, 1), tile=(4, 8), score="bent", mask="causal"
    ),
    "-inf in the bias": Case(bias=(0, 1, 2), hidden_bias=True, score="bent", softcap=2.0, masked_row="mean"),
    "-inf in whole rows of the bias": Case(bias=(1,), hidden_bias=True, tile=(4, 4)),
    "documents, in a loop": Case(
        lead=(2,), queries=65, keys=65, mask="documents", tile=(8, 8), known=False, masked_row="mean"
    ),
    "documents, known positions, tails": Case(lead=(2,), queries=70, keys=77, mask="documents", tile=(8, 12)),
    "a window as a band": Case(queries=90, keys=97, mask="window", tile=(16, 16), sinks=True),
    "a window as a band, widened": Case(queries=97, keys=97, mask="window", tile=(16, 16), dtype="bf16", widened=True),
    "chunks as a band, with bias": Case(queries=96, keys=96, mask="chunked", tile=(16, 8), bias=(0, 1, 2)),
}


@pytest.mark.parametrize("case", NAMED.values(), ids=NAMED)
def test_named(case: Case) -> None:
    check(case)


@hypothesis.settings(deadline=None, max_examples=8)
@hypothesis.given(cases())
def test_drawn(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(("dtype", "widened"), [*((dtype, False) for dtype in DTYPES), ("bf16", True), ("f16", True)])
def test_error_is_that_of_the_plain_formula(dtype: str, widened: bool) -> None:
    """Forward and gradients, root mean square against float64: at most 1.5 times the dense formula's."""
    case = Case(
        queries=257, keys=257, width=64, value_width=64, mask="causal", dtype=dtype, tile=(64, 64), widened=widened
    )
    operands, tangents, cotangents = drawn_around(case)
    right = exact(case, operands, tangents, cotangents)
    results = jax.jit(kernel, static_argnums=0)(case, operands, tangents, cotangents)

    @jax.jit
    def rough(q: Any, k: Any, v: Any) -> dict[str, Any]:
        (out, lse), (d_out, d_lse) = jax.jvp(lambda *x: dense(case, *x, operands[3]), (q, k, v), tangents[:3])
        _, pull = jax.vjp(lambda *x: dense(case, *x, operands[3]), q, k, v)
        return dict(
            zip(
                ("out", "lse", "d_out", "d_lse", "q", "k", "v"),
                (out, lse, d_out, d_lse, *pull((cotangents[0].astype(out.dtype), cotangents[1]))),
                strict=True,
            )
        )

    usual = rough(*operands[:3])
    for label, value in right.items():
        ours, theirs = (np.sqrt(np.mean((np.asarray(x[label], np.float64) - value) ** 2)) for x in (results, usual))
        # Half a unit of float32 more: the log-sum-exp is rounded to it before weights are made of it again.
        assert ours <= 1.5 * theirs + 6e-8 * np.sqrt(np.mean(value**2)), (label, ours, theirs)


@hypothesis.settings(deadline=None)
@hypothesis.given(st.lists(st.floats(-200.0, 60.0, width=32), min_size=1, max_size=40))
def test_exponential_is_near_that_of_float64(values: list[float]) -> None:
    """Of what float32 has as a normal number, to 2 units in the last place and the rounding of its argument; else 0."""
    x = np.asarray(values, np.float32)
    results, right = np.asarray(jax.jit(exponential)(x), np.float64), np.exp(x.astype(np.float64))
    normal = right >= np.finfo(np.float32).tiny
    error = np.abs(results - right)[normal] / right[normal]
    assert np.all(error <= (2 + np.abs(x[normal])) * 2.0**-23)
    assert np.all(results[right < 0.99 * np.finfo(np.float32).tiny] == 0)


def test_exponential_of_what_is_no_number() -> None:
    results = np.asarray(jax.jit(exponential)(np.float32([np.nan, -np.inf, np.finfo(np.float32).min, 0.0, -0.0])))
    np.testing.assert_array_equal(results, [np.nan, 0, 0, 1, 1])
    np.testing.assert_array_equal(jax.grad(exponential)(np.float32(-1.5)), exponential(np.float32(-1.5)))


@pytest.mark.parametrize("mask", ["window", "documents"])
def test_tiles_that_nobody_sees_are_not_read(mask: str) -> None:
    """A NaN in a key or value reaches every row whose tile is multiplied with its tile, be its weight 0."""
    length, tile = 96, 16
    case = Case(queries=length, keys=length, mask=mask, tile=(tile, tile))
    q, k, v, given = case.operands()
    if mask == "documents":
        given["q_segments"] = given["kv_segments"] = (np.arange(length) // 32).astype(np.int32)
    spoilt = [np.where(np.arange(length)[:, None, None] < 32, np.asarray(np.nan, x.dtype), x) for x in (k, v)]

    def forward(k: Any, v: Any) -> Any:
        return tiled.forward(case.op, Tile(*case.tile), q, k, v, given, case.static)[0]

    right, results = jax.jit(forward)(k, v), jax.jit(forward)(*spoilt)
    first = 32 if mask == "documents" else 32 + tile  # the window reaches into the tile before
    np.testing.assert_array_equal(results[first:], right[first:])
    assert np.isnan(results[:32]).all()


@pytest.mark.parametrize(("masked_row", "tile"), [("zero", (4, 4)), ("mean", (64, 64))], ids=["loop", "unrolled"])
def test_rows_that_see_nothing_have_no_nan(masked_row: str, tile: tuple[int, int]) -> None:
    case = Case(mask="nothing for some", bias=(1, 2), hidden_bias=True, masked_row=masked_row, tile=tile, score="bent")
    with jax.debug_nans(True):
        check(case)

        @jax.jit
        def second(q: Any, k: Any, v: Any, given: Any) -> Any:
            def total(q: Any) -> Any:
                out, lse = plain.attend(case.op, q, k, v, given)
                return jnp.sum(out**2) + jnp.sum(jnp.where(lse == -jnp.inf, 0.0, lse))

            return jax.jvp(jax.grad(total), (q,), (q,))

        jax.block_until_ready(second(*case.operands()))


@pytest.mark.parametrize(
    "case",
    [
        Case(queries=20, keys=24, mask="causal", softcap=2.0, bias=(0, 1), sinks=True),
        Case(lead=(2, 2), queries=9, keys=9, mask="documents", score="bent", masked_row="mean", known=False),
    ],
    ids=["cap, bias, sinks", "documents"],
)
def test_plain_has_the_derivatives_of_the_dense_formula(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "_CHUNK_SCORES", 4 * case.heads * case.keys * math.prod(case.lead))  # several chunks
    q, k, v, given = case.operands()
    floating = {label: given[label] for label in ("bias", "sinks") if label in given}

    def derivatives(function: Any) -> Any:
        def total(q: Any, k: Any, v: Any, floating: Any) -> Any:
            out, lse = function(q, k, v, {**given, **floating})
            return jnp.sum(jnp.sin(out)) + jnp.sum(jnp.where(lse == -jnp.inf, 0.0, lse) ** 2)

        at = (q, k, v, floating)
        gradient = jax.grad(total, argnums=(0, 1, 2, 3))
        return jax.jit(lambda *x: (function(*x[:3], {**given, **x[3]}), jax.jvp(gradient, x, x)))(*at)

    results = derivatives(lambda *x: plain.attend(case.op, *x))
    right = derivatives(lambda *x: dense(case, *x[:3], {**x[3], **{n: given[n] for n in given if n not in floating}}))
    for ours, theirs in zip(jax.tree.leaves(results), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)


def test_float64_is_computed_in_float64() -> None:
    case = Case(queries=30, keys=30, mask="causal", softcap=2.0, tile=(8, 8), sinks=True, polynomial=False)
    operands, tangents, cotangents = drawn_around(case)
    with jax.enable_x64(True):
        wide = jax.tree.map(
            lambda x: x.astype(np.float64) if x.dtype == np.float32 else x, (operands, tangents, cotangents)
        )
        results = jax.jit(kernel, static_argnums=0)(case, *wide)
    for label, value in exact(case, operands, tangents, cotangents).items():
        assert results[label].dtype == np.float64
        np.testing.assert_allclose(results[label], value, rtol=1e-8, atol=1e-8, err_msg=label)


@pytest.mark.parametrize(("queries", "keys", "batch"), [(0, 4, 1), (3, 0, 1), (3, 4, 0), (0, 0, 2)])
def test_nothing_to_attend(queries: int, keys: int, batch: int) -> None:
    case = Case(lead=(batch,), queries=queries, keys=keys, sinks=True, bias=(0, 1, 2, 3), mask="causal")
    operands, tangents, cotangents = drawn_around(case)
    results = kernel(case, *jax.tree.map(jnp.asarray, (operands, tangents, cotangents)))
    sinks = np.broadcast_to(operands[3]["sinks"], (batch, queries, 4))
    np.testing.assert_array_equal(results["out"], np.zeros((batch, queries, 4, 8)))
    np.testing.assert_array_equal(results["lse"], sinks)
    for label, operand in zip(("q", "k", "v"), operands, strict=False):
        np.testing.assert_array_equal(results[label], np.zeros(operand.shape))
    out, lse = plain.attend(case.op, *jax.tree.map(jnp.asarray, operands))
    np.testing.assert_array_equal(out, results["out"])
    np.testing.assert_array_equal(lse, sinks)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_memory_grows_with_the_length(dtype: str) -> None:
    """At 32k the scores of one head alone are 4 GB."""
    length, heads = 32768, 8
    case = Case(queries=length, keys=length, heads=heads, kv_heads=heads, width=64, value_width=64, mask="causal")
    tile = tiled.default_tile(case.op, (length, heads, 64), (length, heads, 64))
    x = jax.ShapeDtypeStruct((length, heads, 64), DTYPES[dtype])
    lse = jax.ShapeDtypeStruct((length, heads), jnp.float32)
    given = {label: jax.ShapeDtypeStruct((length,), jnp.int32) for label in case.op.given}

    def backward(q: Any, k: Any, v: Any, given: Any, out: Any, lse: Any) -> Any:
        return tiled.backward(case.op, tile, (q, k, v, given), out, lse, out, lse, case.static)

    def forward(q: Any, k: Any, v: Any, given: Any) -> Any:
        return tiled.forward(case.op, tile, q, k, v, given, case.static)

    for compiled in (jax.jit(forward).lower(x, x, x, given), jax.jit(backward).lower(x, x, x, given, x, lse)):
        assert compiled.compile().memory_analysis().temp_size_in_bytes < 256 * 2**20
