"""Values of the caller inside masks, scores, scale and soft-cap: operands with gradients, never constants without one.

The oracle is attention in a few lines of plain JAX, which JAX itself differentiates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ropegen as rg
from ropegen import masks

pytestmark = pytest.mark.usefixtures("quick_compilation")

B, S, H, KV, D = 2, 9, 4, 2, 8
RANDOM = np.random.default_rng(0)


def drawn(*shape: int) -> Any:
    return jnp.asarray(RANDOM.standard_normal(shape), jnp.float32)


Q, K, V, WEIGHTS = drawn(B, S, H, D), drawn(B, S, KV, D), drawn(B, S, KV, D), drawn(B, S, H, D)
X = drawn(H) * 0.3 + 1.0
BIAS = drawn(H, S, S)
AT = jnp.arange(S)
DISTANCE = AT[:, None] - AT[None, :]
CAUSAL = DISTANCE >= 0
TILES: tuple[Any, ...] = (None, {"attend/xla": {"q": 4, "kv": 4}})


def plain(
    change: Callable[[Any], Any] = lambda score: score,
    visible: Any = True,
    before: Callable[[Any], Any] = lambda score: score,
    scale: Any = D**-0.5,
    q: Any = Q,
) -> Any:
    """Attention whose scaled products `before` and then `change` alter."""
    k, v = (jnp.repeat(x, H // KV, axis=2) for x in (K, V))
    scores = change(before(jnp.einsum("bqhd,bkhd->bhqk", q, k) * scale))
    scores = jnp.where(visible, scores, -jnp.inf)
    weight = jax.nn.softmax(scores, axis=-1, where=jnp.broadcast_to(visible, scores.shape))
    return (jnp.einsum("bhqk,bkhd->bqhd", weight, v) * WEIGHTS).sum()


def ours(**options: Any) -> Any:
    return (rg.attention(options.pop("q", Q), K, V, **options) * WEIGHTS).sum()


def by_head(x: Any) -> Any:
    return x[:, None, None]


# Every way that a value x (H,) reaches a score: what the user writes, and the plain formula.
PLACES: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any], Any]]] = {
    "a factor": (lambda x, t: ours(score=lambda score: score * x[0], tile=t), lambda x: plain(lambda s: s * x[0])),
    "a factor on the left": (lambda x, t: ours(score=lambda score: x[1] * score, tile=t), lambda x: plain(lambda s: s * x[1])),
    "a function of JAX": (
        lambda x, t: ours(score=lambda score, kv_pos: score + jnp.exp(x[0]) * kv_pos, tile=t),
        lambda x: plain(lambda s: s + jnp.exp(x[0]) * AT),
    ),
    "a function of NumPy": (
        lambda x, t: ours(score=lambda score: np.multiply(score, x[2]), tile=t),
        lambda x: plain(lambda s: s * x[2]),
    ),
    "an entry of where": (
        lambda x, t: ours(score=lambda score, kv_pos: masks.where(kv_pos < 3, score, x[0]), tile=t),
        lambda x: plain(lambda s: jnp.where(AT < 3, s, x[0])),
    ),
    "np.where": (
        lambda x, t: ours(score=lambda score, kv_pos: np.where(kv_pos < 3, score, x[0] * score), tile=t),
        lambda x: plain(lambda s: jnp.where(AT < 3, s, x[0] * s)),
    ),
    "a table by head": (
        lambda x, t: ours(score=lambda score, head: score * masks.table(x, head), tile=t),
        lambda x: plain(lambda s: s * by_head(x)),
    ),
    "entries of a table": (
        lambda x, t: ours(score=lambda score, head: score * masks.table([1.0, x[0], x[0] * x[1], 2.0], head), tile=t),
        lambda x: plain(lambda s: s * by_head(jnp.stack([jnp.float32(1.0), x[0], x[0] * x[1], jnp.float32(2.0)]))),
    ),
    "an array indexed by head": (
        lambda x, t: ours(score=lambda score, head: score + x[head], mask=masks.causal, tile=t),
        lambda x: plain(lambda s: s + by_head(x), CAUSAL),
    ),
    "an array indexed by batch and head": (
        lambda x, t: ours(score=lambda score, head, batch: score * jnp.stack([x, x * x])[batch, head], tile=t),
        lambda x: plain(lambda s: s * jnp.stack([x, x * x])[:, :, None, None]),
    ),
    "a table by distance": (
        lambda x, t: ours(
            score=lambda score, q_pos, kv_pos: score * masks.table(x, q_pos - kv_pos), mask=masks.causal, tile=t
        ),
        lambda x: plain(lambda s: s * x[jnp.clip(DISTANCE, 0, H - 1)], CAUSAL),
    ),
    "a table in tanh": (
        lambda x, t: ours(score=lambda score, head: masks.tanh(score * masks.table(x, head)) * x[0], bias=BIAS, tile=t),
        lambda x: plain(lambda s: jnp.tanh((s + BIAS) * by_head(x)) * x[0]),
    ),
    "no finite slope where it is hidden": (
        lambda x, t: ours(
            score=lambda score, q_pos, kv_pos: score + x[0] * masks.sqrt(q_pos - kv_pos), mask=masks.causal, tile=t
        ),
        lambda x: plain(lambda s: s + x[0] * jnp.sqrt(jnp.where(CAUSAL, DISTANCE, 1.0)), CAUSAL),
    ),
    "a boolean": (
        lambda x, t: ours(score=lambda score: masks.where(x[0] > 0, score * x[0], 0.0), tile=t),
        lambda x: plain(lambda s: jnp.where(x[0] > 0, s * x[0], 0.0)),
    ),
    "a default": (lambda x, t: ours(score=lambda score, c=x[3]: score * c, tile=t), lambda x: plain(lambda s: s * x[3])),
    "alibi": (
        lambda x, t: ours(score=masks.alibi(x), mask=masks.causal, tile=t),
        lambda x: plain(lambda s: s - by_head(x) * jnp.abs(DISTANCE), CAUSAL),
    ),
    "a list for alibi": (
        lambda x, t: ours(score=masks.alibi([1.0, x[0], x[1], 2.0]), tile=t),
        lambda x: plain(
            lambda s: s - by_head(jnp.stack([jnp.float32(1), x[0], x[1], jnp.float32(2)])) * jnp.abs(DISTANCE)
        ),
    ),
    "scale": (lambda x, t: ours(scale=x[0], tile=t), lambda x: plain(scale=x[0])),
    "soft-cap": (
        lambda x, t: ours(softcap=x[0], score=lambda score, head: score + masks.table(x, head), tile=t),
        lambda x: plain(lambda s: s + by_head(x), before=lambda s: x[0] * jnp.tanh(s / x[0])),
    ),
    "soft-cap and scale with a bias": (
        lambda x, t: ours(softcap=x[0], scale=x[1], bias=BIAS, score=lambda score: score * 0.5, tile=t),
        lambda x: plain(lambda s: (s + BIAS) * 0.5, before=lambda s: x[0] * jnp.tanh(s / x[0]), scale=x[1]),
    ),
    "a mask": (
        lambda x, t: ours(mask=lambda kv_pos, head: kv_pos * 1.0 < 3.0 + masks.table(x, head), scale=x[0], tile=t),
        lambda x: plain(visible=3.0 + by_head(x) > AT, scale=x[0]),
    ),
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
def test_a_value_in_a_score_has_the_gradient_of_the_plain_formula(place: str) -> None:
    """Run eagerly in one tile for half of the places, and compiled in several tiles for the others."""
    written, formula = PLACES[place]
    value, gradient = jax.jit(jax.value_and_grad(formula))(X)
    is_compiled = list(PLACES).index(place) % 2
    run = (lambda f: f, jax.jit)[is_compiled]
    one, slope = run(jax.value_and_grad(lambda x: written(x, TILES[is_compiled])))(X)
    np.testing.assert_allclose(one, value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(slope, gradient, rtol=2e-3, atol=2e-4)


def test_every_transformation_takes_values_in_scores() -> None:
    written, formula = PLACES["a table by distance"]

    def all_of(function: Any) -> Any:
        return jax.jit(
            lambda x: (
                jax.jvp(function, (x,), (x,))[1],
                jax.vmap(jax.grad(function))(jnp.stack([x, x * 0.5])),
                jax.jvp(jax.grad(function), (x,), (x,))[1],
            )
        )(X)

    for mine, wanted in zip(all_of(lambda x: written(x, TILES[0])), all_of(formula), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=5e-3, atol=1e-3)


def test_gradients_of_q_beside_those_of_a_value() -> None:
    def run(q: Any, x: Any) -> Any:
        return ours(q=q, score=lambda score, head: score * masks.table(x, head), mask=masks.causal)

    def formula(q: Any, x: Any) -> Any:
        return plain(lambda s: s * by_head(x), CAUSAL, q=q)

    for mine, wanted in zip(jax.grad(run, (0, 1))(Q, X), jax.grad(formula, (0, 1))(Q, X), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=2e-3, atol=2e-4)


def test_half_precision_keeps_the_type_of_the_value() -> None:
    q, k, v = (x.astype(jnp.bfloat16) for x in (Q, K, V))
    x = X.astype(jnp.bfloat16)

    def run(x: Any) -> Any:
        return (rg.attention(q, k, v, score=lambda score, head: score * x[head], scale=x[0]) * WEIGHTS).sum()

    gradient = jax.grad(run)(x)
    assert gradient.dtype == jnp.bfloat16
    wanted = jax.grad(lambda x: plain(lambda s: s * by_head(x), scale=x[0]))(X)
    np.testing.assert_allclose(gradient.astype(jnp.float32), wanted, rtol=0.1, atol=0.1)


def test_a_number_that_is_not_traced_stays_a_constant() -> None:
    """So that every kernel takes it; the graph has no operand for it."""
    s, table = jnp.float32(1.5), jnp.asarray([1.0, 2.0, 3.0, 4.0])
    with_numbers = ours(score=lambda score, head: score * 1.5 + masks.table([1.0, 2.0, 3.0, 4.0], head))
    assert ours(score=lambda score, head: score * s + masks.table(table, head)) == with_numbers
    assert ours(score=lambda score, head: score * s + table[head]) == with_numbers
    assert masks.score(lambda score: score * s) == masks.parse("score * 1.5")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(-3, 12))
@pytest.mark.any_jax
def test_numbers_are_entries_with_a_clipped_index(values: list[int], index: int) -> None:
    numbers = np.asarray(values, np.float64)
    expr = masks.parse(f"score + numbers[kv_pos + {index}]")
    assert masks.parse(str(expr)) == expr
    at = np.arange(4)
    wanted = 0.5 + numbers[np.clip(at + index, 0, len(values) - 1)]
    np.testing.assert_array_equal(masks.evaluate(expr, np, score=np.float64(0.5), kv_pos=at, numbers=numbers), wanted)


def test_a_graph_has_the_operand_numbers() -> None:
    """`numbers[index]` in the text of a score, from graph to callable, with its gradient."""
    b = rg.Builder()
    q, k, v = (b.input(name, x.shape, "f32") for name, x in (("q", Q), ("k", K), ("v", V)))
    n = b.input("n", (H + 1,), "f32")
    score = masks.parse("numbers[4] * score + numbers[head]")
    graph = b.build(out=b.attend(q, k, v, score=score, numbers=n))
    assert rg.loads(rg.dumps(graph)) is graph
    compiled = rg.plan(graph, "cpu").compile()
    values = jnp.concatenate([X, jnp.asarray([0.7])])

    def run(n: Any) -> Any:
        return (compiled(q=Q, k=K, v=V, n=n) * WEIGHTS).sum()

    def formula(n: Any) -> Any:
        return plain(lambda s: n[4] * s + by_head(n[:4]))

    np.testing.assert_allclose(run(values), formula(values), rtol=1e-4)
    np.testing.assert_allclose(jax.grad(run)(values), jax.grad(formula)(values), rtol=2e-3, atol=2e-4)


# What stays refused ---------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a number that is asked for": (lambda s: ours(score=lambda score: score * float(s)), "use the value itself"),
    "an array in a score": (lambda s: ours(score=lambda score: score * jnp.stack([s, s])), "one value per head"),
    "a table of two axes": (
        lambda s: ours(score=lambda score, head: score * masks.table(jnp.ones((2, 4)) * s, head)),
        r"values \(n,\)",
    ),
    "a table of another number of heads": (
        lambda s: ours(score=lambda score, head: score * masks.table(jnp.ones(3) * s, head)),
        "3 values and q has 4 heads",
    ),
    "an integer that a score computes with": (
        lambda s: ours(score=lambda score, kv_pos: score + kv_pos % s.astype(jnp.int32)),
        "jnp.float32",
    ),
    "a window": (lambda s: ours(mask=masks.window(s.astype(jnp.int32))), "q_pos - kv_pos < value"),
    "other scores for other heads": (
        lambda s: ours(score=lambda score, head: [score, -score, score, score * s][head]),
        "masks.where|masks.table",
    ),
    "a scale per head": (lambda s: ours(scale=jnp.stack([s] * 4)), "one float"),
    "the scale of embed": (lambda s: rg.embed(np.arange(2), V[0, :, 0], scale=s).sum(), "factor is traced"),
    "theta": (lambda s: rg.rope(Q, None, rg.Rope(s * 1e4, pairing="half")).sum(), "theta"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_an_operand_is_refused(case: str) -> None:
    function, way_out = REFUSED[case]
    for run in (jax.jit(function), lambda s: jax.vmap(function)(jnp.stack([s, s]))):
        with pytest.raises(rg.RopegenError, match=way_out):
            run(jnp.float32(1.5))


def test_calls_that_take_constants_only_say_so() -> None:
    b = rg.Builder()
    q, k, v = (b.input(name, x.shape, "f32") for name, x in (("q", Q), ("k", K), ("v", V)))

    def built(s: Any) -> Any:
        return b.attend(q, k, v, score=lambda score: score * s).type.shape[0] * s

    with pytest.raises(rg.RopegenError, match=r"holds a value of the caller, <float32\[\]>.*make the value an input"):
        jax.grad(built)(1.0)
    with pytest.raises(rg.RopegenError, match="reads numbers; give the operand numbers"):
        b.attend(q, k, v, score=masks.parse("score * numbers[0]"))
    with pytest.raises(rg.RopegenError, match=r"numbers are .*; give one or more floats of shape \(N,\)"):
        b.attend(q, k, v, score=masks.parse("score * numbers[0]"), numbers=b.input("m", (2, 2), "f32"))
    with pytest.raises(rg.RopegenError, match="only a score can"):
        b.attend(q, k, v, mask=masks.parse("numbers[0] < 1.0"), numbers=b.input("n", (2,), "f32"))


def test_the_native_kernel_declines_numbers_and_the_plan_says_so() -> None:
    b = rg.Builder()
    q, k, v = (b.input(name, x.shape, "f32") for name, x in (("q", Q), ("k", K), ("v", V)))
    score = masks.parse("score * numbers[0]")
    graph = b.build(out=b.attend(q, k, v, score=score, numbers=b.input("n", (1,), "f32")))
    assert "the score reads numbers that are known only at run time" in rg.plan(graph, "cpu").explain()


def test_lists_with_traced_numbers_are_arrays() -> None:
    """Positions and ids are operands, so a list of traced numbers is one too; a ragged list is refused."""
    x = Q[:, :4, :2]

    def run(at: Any) -> Any:
        ids = [at, at, at + 1, at + 1]
        turned = rg.rope(x, [at, at + 1, at + 2, at + 3], rg.Rope(pairing="half"))
        return rg.attention(turned, turned, x, mask=masks.segments, q_segments=ids, kv_segments=ids)

    np.testing.assert_allclose(jax.jit(run)(3), run(3), atol=1e-6)
    with pytest.raises(rg.RopegenError, match="q_segments must be an array of numbers"):
        rg.attention(x, x, x, mask=masks.segments, q_segments=[[0], [0, 1]], kv_segments=np.zeros(4, int))
