"""The tiled attention against a dense formula in float64: forward, tangent, backward, and `plain` to second order."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ropegen import masks
from ropegen.ir.ops import Attend
from ropegen.templates.attend import tiled
from ropegen.templates.attend.tiled import Static, Tile

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
    "bent": masks.score(lambda score, q_pos, kv_pos: masks.where(q_pos > kv_pos, score + 0.5 * masks.tanh(score), score)),
}
DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}


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
    seed: int = 0
    made: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

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
        return Static((self.start, self.queries), (0, self.keys)) if self.known and self.made_positions else Static()

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
        for label in self.op.given:
            if label.endswith("positions"):
                length, start = (self.queries, self.start) if label[0] == "q" else (self.keys, 0)
                positions = np.arange(start, start + length, dtype=np.int32)
                if not self.known:  # out of order, and one row a batch entry
                    positions = random.permuted(np.broadcast_to(positions, (*lead, length)), axis=-1)
                given[label] = positions
            elif label.endswith("segments"):
                length = self.queries if label[0] == "q" else self.keys
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


def dense(case: Case, xp: Any, wide: Any, q: Any, k: Any, v: Any, given: dict[str, Any], narrow: Any = None) -> Any:
    """(out, lse) with all scores at once, in `wide`; `narrow` is the dtype of the weights in the second product."""
    op, group = case.op, case.heads // case.kv_heads
    lead = case.lead
    narrow = narrow or wide
    product = {} if xp is np else {"preferred_element_type": wide}
    k, v = (xp.repeat(x, group, axis=-2) for x in (k, v))
    if xp is np:
        q, k, v = (x.astype(wide) for x in (q, k, v))
    score = xp.einsum("...qhd,...khd->...hqk", q, k, **product).astype(wide) * wide(op.scale)
    if op.softcap is not None:
        score = op.softcap * xp.tanh(score / op.softcap)
    bias = None
    if case.bias is not None:
        bias = given["bias"].astype(wide)
        score = score + xp.where(bias == -np.inf, 0, bias)
    indices: dict[str, Any] = {
        "head": np.arange(case.heads)[:, None, None],
        "batch": np.arange(int(np.prod(lead))).reshape(*lead, 1, 1, 1),
    }
    for name, label in op.NEEDS.items():
        if label in given:
            x = xp.broadcast_to(given[label], (*lead, given[label].shape[-1]))
            indices[name] = x[..., None, None, :] if name.startswith("kv") else x[..., None, :, None]
    score = xp.broadcast_to(masks.evaluate(op.score, xp, score=score, **indices), score.shape)
    visible = xp.broadcast_to(masks.evaluate(op.visible, xp, **indices), score.shape)
    if "mask" in given:
        visible = visible & given["mask"]
    if bias is not None:
        visible = visible & (bias != -np.inf)
    highest = xp.max(xp.where(visible, score, -np.inf), -1, keepdims=True)
    sinks = given["sinks"].astype(wide)[:, None, None] if "sinks" in given else None
    if sinks is not None:
        highest = xp.maximum(highest, sinks)
    highest = xp.where(highest == -np.inf, 0, highest)
    if xp is jnp:
        highest = jax.lax.stop_gradient(highest)
    weight = xp.where(visible, xp.exp(xp.where(visible, score - highest, 0)), 0)
    total = xp.sum(weight, -1, keepdims=True)
    if sinks is not None:
        total = total + xp.exp(sinks - highest)
    divisor = xp.where(total == 0, 1, total)
    weight = weight / divisor
    if op.masked_row == "mean" and sinks is None:
        weight = xp.where(xp.any(visible, -1, keepdims=True), weight, 1 / case.keys)
    out = xp.einsum("...hqk,...khd->...qhd", weight.astype(narrow), v, **product).astype(wide)
    lse = xp.where(total == 0, -np.inf, highest + xp.log(divisor))
    return out, xp.moveaxis(lse[..., 0], -1, -2)


def assert_near(found: Any, exact: Any, rough: Any, dtype: str, where: str) -> None:
    """`found` is about as near to `exact` as the plain formula in the same dtype, `rough`, is."""
    found, exact, rough = (np.asarray(x, np.float64) for x in (found, exact, rough))
    np.testing.assert_array_equal(np.isneginf(found), np.isneginf(exact), err_msg=where)
    finite = ~np.isneginf(exact)
    assert not np.isnan(found).any(), where
    if not finite.any():
        return
    size = np.abs(exact[finite]).max()
    allowed = 1.5 * np.abs(rough - exact)[finite].max() + 2 * float(jnp.finfo(DTYPES[dtype]).eps) * max(size, 1e-3)
    assert np.abs(found - exact)[finite].max() <= allowed, where


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
        seed=draw(st.integers(0, 1000)),
    )


NAMED = {
    "long causal in a loop": Case(queries=300, keys=300, mask="causal", tile=(10, 12)),
    "long causal unrolled": Case(queries=300, keys=300, mask="causal", tile=(64, 300)),
    "causal, keys in pieces": Case(queries=300, keys=300, mask="causal", tile=(128, 128)),
    "window in a loop": Case(lead=(2,), queries=200, keys=200, mask="window", tile=(8, 6), dtype="bf16"),
    "decode": Case(lead=(2,), queries=1, keys=300, mask="causal"),
    "more queries than keys": Case(queries=40, keys=13, mask="causal", masked_row="mean"),
    "one key": Case(keys=1, mask="full"),
    "loop with a bias over keys": Case(queries=70, keys=90, bias=(2,), tile=(4, 8), softcap=3.0, sinks=True),
    "loop with a bias over heads and queries": Case(queries=70, keys=90, bias=(0, 1), tile=(4, 8), score="bent", mask="causal"),
    "-inf in the bias": Case(bias=(0, 1, 2), hidden_bias=True, score="bent", softcap=2.0, masked_row="mean"),
    "-inf in a whole bias row": Case(bias=(1,), hidden_bias=True, tile=(4, 4)),
    "documents in a loop": Case(lead=(2,), queries=130, keys=130, mask="documents", tile=(8, 8), known=False, masked_row="mean"),
}
