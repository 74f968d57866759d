"""Masks the way people write them: arrays beside expressions, arrays indexed by positions, and scores of -inf."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ropegen as rg
from ropegen import masks

pytestmark = pytest.mark.usefixtures("quick_compilation")

B, S, H, D = 2, 7, 3, 4
RANDOM = np.random.default_rng(0)
Q, K, V = (jnp.asarray(RANDOM.standard_normal((B, S, H, D)), jnp.float32) for _ in range(3))
BIAS = jnp.asarray(RANDOM.standard_normal((H, S, S)), jnp.float32)
AT = np.arange(S)
CAUSAL = AT[None, :] <= AT[:, None]
VALID = RANDOM.random((B, S)) < 0.6  # keys of every sequence
SHOWN = RANDOM.random((B, 1, S, S)) < 0.7
KEYS = RANDOM.random(S) < 0.6
LENGTHS = np.array([3, 6])
DOCUMENTS = np.array([0, 0, 0, 1, 1, 2, 2])
LAYOUT = RANDOM.random((S, S)) < 0.7
SLOPES = np.array([0.5, 0.25, 0.125])


def formula(shown: Any, bias: Any = 0.0) -> np.ndarray:
    """Attention in float64 NumPy; a row that sees no key is zero."""
    q, k, v = (np.asarray(x, np.float64) for x in (Q, K, V))
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(D) + np.asarray(bias, np.float64)
    weight = np.exp(scores - scores.max(-1, keepdims=True)) * np.broadcast_to(shown, scores.shape)
    total = weight.sum(-1, keepdims=True)
    return np.einsum("bhqk,bkhd->bqhd", weight / np.where(total, total, 1.0), v)


def by_batch(lengths: Any) -> Any:
    return (np.asarray(lengths)[:, None] > AT)[:, None, None]


# What the user writes, with an array that is NumPy's, JAX's or traced, and which keys that shows.
WRITTEN: dict[str, tuple[Callable[[Any], dict[str, Any]], Any, Any]] = {
    "an array and an expression": (lambda a: {"mask": a & masks.causal}, KEYS, KEYS & CAUSAL),
    "an expression and an array": (lambda a: {"mask": masks.causal & a}, SHOWN, SHOWN & CAUSAL),
    "with a bias": (lambda a: {"mask": masks.causal & a, "bias": BIAS}, SHOWN, SHOWN & CAUSAL),
    "or": (lambda a: {"mask": masks.causal | a}, KEYS, KEYS | CAUSAL),
    "not": (lambda a: {"mask": ~(masks.causal & a)}, LAYOUT, ~(LAYOUT & CAUSAL)),
    "either": (lambda a: {"mask": masks.causal ^ a}, LAYOUT, LAYOUT ^ CAUSAL),
    "an array or an expression, not both": (lambda a: {"mask": a ^ masks.causal}, KEYS, KEYS ^ CAUSAL),
    "an array in a function": (lambda a: {"mask": lambda q_pos, kv_pos: (kv_pos <= q_pos) & a}, LAYOUT, LAYOUT & CAUSAL),
    "lengths by batch": (lambda a: {"mask": lambda kv_pos, batch: kv_pos < a[batch]}, LENGTHS, by_batch(LENGTHS)),
    "lengths and causal": (
        lambda a: {"mask": masks.causal & (lambda kv_pos, batch: kv_pos < a[batch])}, LENGTHS, by_batch(LENGTHS) & CAUSAL
    ),
    "a table of lengths": (
        lambda a: {"mask": lambda kv_pos, batch: kv_pos < masks.table(a, batch)}, LENGTHS, by_batch(LENGTHS)
    ),
    "padding": (lambda a: {"mask": masks.causal & masks.padding(a)}, LENGTHS, by_batch(LENGTHS) & CAUSAL),
    "one length": (lambda a: {"mask": masks.padding(a)}, np.array(4), AT < 4),
    "keys of every sequence": (lambda a: {"mask": masks.keys(a) & masks.causal}, VALID, VALID[:, None, None] & CAUSAL),
    "keys": (lambda a: {"mask": masks.keys(a)}, KEYS, KEYS),
    "documents": (
        lambda a: {"mask": lambda q_pos, kv_pos: a[q_pos] == a[kv_pos]}, DOCUMENTS, DOCUMENTS[:, None] == DOCUMENTS
    ),
    "a table of documents": (
        lambda a: {"mask": lambda q_pos, kv_pos: masks.table(a, q_pos) == masks.table(a, kv_pos)},
        DOCUMENTS, DOCUMENTS[:, None] == DOCUMENTS,
    ),
    "an array of pairs": (lambda a: {"mask": lambda q_pos, kv_pos: a[q_pos, kv_pos]}, LAYOUT, LAYOUT),
    "jnp.where": (
        lambda a: {"mask": lambda q_pos, kv_pos, head: jnp.where(head == 1, a[kv_pos], kv_pos <= q_pos)},
        KEYS, np.where((np.arange(H) == 1)[:, None, None], KEYS, CAUSAL),
    ),
    "np.where": (lambda a: {"mask": lambda q_pos, kv_pos: np.where(q_pos > 2, kv_pos <= q_pos, a)},
                 np.array(True), np.where(AT[:, None] > 2, CAUSAL, True)),
    "segments beside an array": (
        lambda a: {"mask": masks.segments & masks.keys(a), "q_segments": DOCUMENTS, "kv_segments": DOCUMENTS},
        KEYS, KEYS & (DOCUMENTS[:, None] == DOCUMENTS),
    ),
    "segments in a term that holds an array": (
        lambda a: {"mask": masks.segments | masks.keys(a), "q_segments": DOCUMENTS, "kv_segments": DOCUMENTS},
        KEYS, KEYS | (DOCUMENTS[:, None] == DOCUMENTS),
    ),
    "a score of -inf": (
        lambda a: {"score": lambda score, kv_pos, batch: masks.where(kv_pos < masks.table(a, batch), score, -np.inf)},
        LENGTHS, by_batch(LENGTHS),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRITTEN)
def test_arrays_in_masks_mean_what_they_say(case: str) -> None:
    """The same from an array of NumPy, of JAX, and traced."""
    options, array, shown = WRITTEN[case]
    wanted = formula(shown, BIAS if case == "with a bias" else 0.0)

    def run(a: Any) -> Any:
        return rg.attention(Q, K, V, **options(a))

    for index, call in enumerate((run, lambda a: run(jnp.asarray(a)), jax.jit(run))):
        if index == list(WRITTEN).index(case) % 2 or index == 2:  # one of the first two suffices
            np.testing.assert_allclose(call(array), wanted, atol=2e-5)


INFINITE: dict[str, tuple[Callable[..., Any], Any, Any]] = {
    "where": (lambda score, q_pos, kv_pos: masks.where(q_pos >= kv_pos, score, -np.inf), CAUSAL, 0.0),
    "turned": (lambda score, q_pos, kv_pos: masks.where(q_pos < kv_pos, -float("inf"), score), CAUSAL, 0.0),
    "np.where": (lambda score, q_pos, kv_pos: np.where(q_pos >= kv_pos, score, -np.inf), CAUSAL, 0.0),
    "twice": (
        lambda score, q_pos, kv_pos: masks.where(
            kv_pos < 5, masks.where(q_pos >= kv_pos, score + 0.5 * kv_pos, -np.inf), -np.inf
        ),
        CAUSAL & (AT < 5), 0.5 * AT,
    ),
    "added": (
        lambda score, q_pos, kv_pos: score - 0.5 * kv_pos + masks.where(q_pos >= kv_pos, 0.0, jnp.float32(-jnp.inf)),
        CAUSAL, -0.5 * AT,
    ),
    "either": (
        lambda score, q_pos, kv_pos, head: masks.where(
            head == 0, masks.where(kv_pos < 3, score, -np.inf), masks.where(q_pos >= kv_pos, score + kv_pos, -np.inf)
        ),
        np.where((np.arange(H) == 0)[:, None, None], AT < 3, CAUSAL),
        np.where((np.arange(H) == 0)[:, None, None], 0.0, AT),
    ),
    "by an array indexed by head": (
        lambda score, q_pos, kv_pos, head: masks.where(q_pos >= kv_pos, score - SLOPES[head] * (q_pos - kv_pos), -np.inf),
        CAUSAL, -SLOPES[:, None, None] * (AT[:, None] - AT),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", INFINITE)
def test_a_score_of_minus_infinity_is_a_mask(case: str) -> None:
    score, shown, bias = INFINITE[case]
    np.testing.assert_allclose(rg.attention(Q, K, V, score=score), formula(shown, bias), atol=2e-5)


@pytest.mark.any_jax
def test_a_causal_score_skips_the_tiles_of_the_causal_mask() -> None:
    """The expression of the mask survives beside an array, and a score of -inf becomes the same one."""
    from ropegen import captured

    scored = masks.score(lambda score, q_pos, kv_pos: masks.where(kv_pos <= q_pos, score, -np.inf))
    assert captured.split_hidden(scored) == (masks.causal, masks.identity)
    visible, holding = masks.cut(masks.causal & KEYS & masks.window(3))
    assert visible == masks.causal & masks.window(3)
    assert [type(term) for term in holding] == [masks.Shown]


def test_other_lengths_need_no_other_program() -> None:
    options = WRITTEN["padding"][0]
    calls = 0

    @jax.jit
    def run(q: Any, lengths: Any) -> Any:
        nonlocal calls
        calls += 1
        return rg.attention(q, K, V, **options(lengths))

    for lengths in ([3, 6], [7, 1]):
        np.testing.assert_allclose(run(Q, np.array(lengths)), formula(by_batch(lengths) & CAUSAL), atol=2e-5)
    assert calls == 1


def test_a_gradient_beside_an_array() -> None:
    """A row that sees no key has no gradient and no NaN."""
    valid = VALID.copy()
    valid[0] = False

    def run(q: Any, k: Any, v: Any) -> Any:
        return (rg.attention(q, k, v, mask=masks.causal & masks.keys(valid)) ** 2).sum()

    def plain(q: Any, k: Any, v: Any) -> Any:
        shown = valid[:, None, None] & CAUSAL
        scores = jnp.where(shown, jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(D), -1e30)
        weight = jnp.where(shown, jax.nn.softmax(scores, -1), 0.0)
        return (jnp.einsum("bhqk,bkhd->bqhd", weight, v) ** 2).sum()

    for mine, wanted in zip(*(jax.jit(jax.grad(f, (0, 1, 2)))(Q, K, V) for f in (run, plain)), strict=True):
        np.testing.assert_allclose(mine, wanted, atol=2e-5)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "an array of another shape": (lambda: masks.causal & np.ones((5, S), bool), "broadcasts to"),
    "an array of numbers": (lambda: masks.causal & np.ones((S, S)), "mask=array"),
    "an array that may be by head or batch": (
        lambda: masks.causal & np.ones((2, S, S), bool),
        "needs all axes|all axes",
    ),
    "a product of masks": (lambda: masks.causal * np.ones((S, S), bool), r"with & \| \^ ~"),
    "a difference of masks": (lambda: 1 - masks.causal, r"with & \| \^ ~"),
    "a mask that is compared": (lambda: masks.causal <= 1, r"with & \| \^ ~"),
    "lengths of fewer sequences": (lambda: masks.padding([3]), "1 values, and there are 2 sequences"),
    "lengths of more sequences": (lambda: masks.causal & masks.padding([3, 4, 5]), "give one for each"),
    "lengths that are no integers": (lambda: masks.padding(np.ones(2)), "masks.keys"),
    "keys that are no booleans": (lambda: masks.keys(np.ones(S)), "masks.padding"),
    "a function that sorts": (lambda: lambda q_pos: sorted(q_pos) == 3, "sequence|cannot be traced"),
    "a function of a list": (lambda: lambda kv_pos, batch: kv_pos < [3, 6][batch], "masks.table"),
    "a function that returns numbers": (lambda: lambda kv_pos: jnp.sin(kv_pos) + 1.0, "return booleans"),
    "a branch": (lambda: lambda kv_pos: kv_pos < 3 if kv_pos else True, "masks.where"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_mask_shows_the_line_to_write(case: str) -> None:
    mask, way_out = REFUSED[case]
    two = jnp.ones((2, S, 2, D))
    with pytest.raises(rg.RopegenError, match=way_out):
        rg.attention(two, two, two, mask=mask())


REFUSED_SCORES: dict[str, tuple[Callable[..., Any], str]] = {
    "a factor of -inf": (lambda score: score * -np.inf, "write it last"),
    "chosen by the score": (lambda score: masks.where(score > 0.0, score, -np.inf), "does not read the score"),
    "infinity": (lambda score: masks.where(score > 0.0, score, np.inf), "finite"),
    "an array": (lambda score, kv_pos: score + jnp.arange(7.0)[kv_pos], "masks.table"),
    "a boolean array": (lambda score: masks.where(KEYS, score, 0.0), "jnp.where"),
}


@pytest.mark.parametrize("case", REFUSED_SCORES)
def test_what_is_no_score_shows_the_line_to_write(case: str) -> None:
    score, way_out = REFUSED_SCORES[case]
    with pytest.raises(rg.RopegenError, match=way_out):
        rg.attention(Q, K, V, score=score)
