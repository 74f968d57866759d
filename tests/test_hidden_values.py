"""What k and v hold where a mask hides them: any number, NaN and infinity too, which changes nothing, not even a bit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ropegen as rg
from ropegen import masks
from ropegen.emit.primitive import Choice, Choices, bind
from ropegen.native import machine
from ropegen.target import Target
from ropegen.template import Tile, cheapest_tile, template

pytestmark = pytest.mark.usefixtures("quick_compilation")

ROWS, FIRST = 48, 20  # the rows of both documents, and those of the first
DOCUMENTS = np.repeat([0, 1], [FIRST, ROWS - FIRST])
Q, K, V = (jnp.asarray(np.random.default_rng(seed).standard_normal((1, ROWS, 2, 8)), jnp.float32) for seed in range(3))
TILES: list[Any] = [None, {"attend/xla": {"q": 16, "kv": 16}}, {"attend/xla": {"q": ROWS, "kv": ROWS}}]


def of_first(q: Any, k: Any, v: Any, tile: Any) -> Any:
    """The rows of the first document, packed with another."""
    mask = masks.causal & masks.segments
    return rg.attention(q, k, v, mask=mask, q_segments=DOCUMENTS, kv_segments=DOCUMENTS, tile=tile)[:, :FIRST]


def alone(q: Any, k: Any, v: Any) -> Any:
    return rg.attention(q[:, :FIRST], k[:, :FIRST], v[:, :FIRST], mask=masks.causal)


def second_replaced(x: Any, value: float) -> Any:
    return x.at[:, FIRST + 3 :].set(value)


def gradients(function: Any, *operands: Any) -> Any:
    return jax.grad(lambda q, k, v: (function(q, k, v) ** 2).sum(), (0, 1, 2))(*operands)


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_finite_numbers_of_any_size_in_hidden_keys_and_values_change_nothing(tile: Any) -> None:
    def run(q: Any, k: Any, v: Any) -> Any:
        return of_first(q, k, v, tile)

    k, v = second_replaced(K, 1e15), second_replaced(V, -1e30)
    np.testing.assert_array_equal(run(Q, k, v), run(Q, K, V))
    np.testing.assert_allclose(run(Q, k, v), alone(Q, K, V), atol=1e-6)
    for gradient, wanted, single in zip(
        gradients(run, Q, k, v), gradients(run, Q, K, V), gradients(alone, Q, K, V), strict=True
    ):
        np.testing.assert_array_equal(gradient, wanted)
        np.testing.assert_allclose(gradient[:, :FIRST], single[:, :FIRST], atol=1e-5)
        assert not np.any(gradient[:, FIRST:])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_hidden_keys_that_are_not_finite_do_not_change_the_result(tile: Any, value: float) -> None:
    np.testing.assert_array_equal(of_first(Q, second_replaced(K, value), V, tile), of_first(Q, K, V, tile))


# Every template that runs here, with tiles that documents do not fill.
FORCED: dict[str, tuple[str, dict[str, int] | None]] = {
    "one tile": ("attend/xla", {"q": ROWS, "kv": ROWS}),
    "tiles in a loop": ("attend/xla", {"q": 8, "kv": 16}),
    "native": ("attend/llvm_cpu", None),
}


def forced(name: str, *, softcap: float | None = None) -> Any:
    """Attention over packed documents, by one template: a function of q, k and v."""
    which, tile = FORCED[name]
    chosen, target = template(which), Target.parse("cpu")
    b = rg.Builder()
    q, k, v = (b.input(label, Q.shape, "f32") for label in "qkv")
    ids = b.input("ids", (ROWS,), "i32")
    mask = masks.causal & masks.segments
    whole = b.build(out=b.attend(q, k, v, mask=mask, q_segments=ids, kv_segments=ids, softcap=softcap))
    region = next(iter(chosen.family.find(whole))).closed
    sizes = cheapest_tile(chosen, chosen.family.site(region), target) if tile is None else Tile.of(**tile)
    choices = Choices((Choice(target, which, sizes),))

    def run(q: Any, k: Any, v: Any) -> Any:
        values = {"q": q, "k": k, "v": v}
        operands = [values.get(label, jnp.asarray(DOCUMENTS, jnp.int32)) for label in region.input_types]
        return bind(region, choices, operands)[0]

    return run


def bad_rows(x: Any) -> list[int]:
    return np.flatnonzero(~np.isfinite(np.asarray(x)[0]).all((1, 2))).tolist()


@pytest.mark.parametrize("softcap", [None, 3.0], ids=str)
@pytest.mark.parametrize("name", FORCED)
def test_nan_and_infinity_reach_only_what_may_see_them(name: str, softcap: float | None) -> None:
    """In v, k or q of row 25, in the second document: in the result, and in gradients of losses over all rows or the
    first document.
    """
    if name == "native" and not machine.is_installed():
        pytest.skip("llvmlite is not installed")
    bad, run = FIRST + 5, forced(name, softcap=softcap)

    def first(q: Any, k: Any, v: Any) -> Any:
        return run(q, k, v)[:, :FIRST]

    result = run(Q, K, V)
    slopes = jax.jit(lambda *given: gradients(first, *given))
    every = jax.jit(lambda *given: gradients(run, *given))
    wanted = slopes(Q, K, V)
    for index, value in ((2, np.nan), (2, np.inf), (1, np.nan), (0, np.nan)):
        given = [Q, K, V]
        given[index] = given[index].at[0, bad, 1, 3].set(value)
        spoiled = run(*given)
        seeing = [bad] if index == 0 else list(range(bad, ROWS))
        assert bad_rows(spoiled) == seeing
        others = [row for row in range(ROWS) if row not in seeing]
        np.testing.assert_array_equal(spoiled[:, others], result[:, others])
        np.testing.assert_array_equal(spoiled[:, :, 0], result[:, :, 0])  # the other head
        for mine, right in zip(slopes(*given), wanted, strict=True):
            np.testing.assert_array_equal(mine[:, :FIRST], right[:, :FIRST])
        for mine in every(*given):
            assert min(bad_rows(mine)) >= FIRST
        assert bad_rows(every(*given)[0]) == seeing


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("queries", [1, 3, 20])
def test_nan_in_a_cache_behind_its_length(queries: int, dtype: str) -> None:
    """Unwritten rows of a cache, for steps of decoding and for a longer block of queries."""
    length = 30
    q, k, v = (x.astype(dtype) for x in (Q[:, length - queries : length], K, V))

    def run(k: Any, v: Any) -> Any:
        at = {"q_positions": jnp.arange(length - queries, length), "kv_positions": jnp.arange(ROWS)}
        return rg.attention(q, k, v, mask=masks.causal, **at)

    unwritten = [x.at[0, length:].set(np.nan) for x in (k, v)]
    np.testing.assert_array_equal(run(*unwritten), run(k, v))
    written = run(k, v.at[0, length - 1, 0, 2].set(np.inf))
    assert not np.any(np.isfinite(np.asarray(written[0, -1, 0], np.float32)))
    np.testing.assert_array_equal(written[0, :-1], run(k, v)[0, :-1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_zeros_in_their_place_keep_the_promise(value: float) -> None:
    """What the docstring says to write, for the result and for gradients."""
    valid = jnp.asarray(np.arange(ROWS) < FIRST + 3)

    def run(q: Any, k: Any, v: Any) -> Any:
        k, v = (jnp.where(valid[..., None, None], x, 0) for x in (k, v))
        return of_first(q, k, v, None)

    k, v = second_replaced(K, value), second_replaced(V, value)
    np.testing.assert_allclose(run(Q, k, v), alone(Q, K, V), atol=1e-6)
    for gradient, wanted in zip(gradients(run, Q, k, v), gradients(alone, Q, K, V), strict=True):
        np.testing.assert_allclose(gradient, wanted, atol=1e-5)
