"""How a bias or mask broadcasts, and which of its shapes are refused because they may mean two things."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ropegen as rg
from ropegen.ir import ops
from ropegen.types import TensorType

pytestmark = pytest.mark.usefixtures("quick_compilation")

QUERIES, KEYS, WIDTH = 3, 5, 4


def refused(batch: tuple[int, ...], heads: int, shape: tuple[int, ...]) -> bool:
    """Whether the op refuses a mask of this shape."""
    q, kv = (TensorType((*batch, rows, heads, WIDTH), "f32") for rows in (QUERIES, KEYS))
    try:
        ops.Attend(scale=1.0, given=("mask",)).infer(q, kv, kv, TensorType(shape, "i1"))
    except rg.RopegenError as error:
        return "may be those of the heads or of the batch" in str(error)
    return False


@pytest.mark.parametrize(
    ("batch", "heads", "first"),
    [((2,), 2, (2,)), ((3, 2), 2, (2,)), ((2, 2), 2, (2, 2)), ((2, 2), 2, (1, 2)), ((1, 2), 2, (1, 2))],
)
def test_sizes_of_the_heads_that_may_be_those_of_the_batch_are_refused(
    batch: tuple[int, ...], heads: int, first: tuple[int, ...]
) -> None:
    assert refused(batch, heads, (*first, QUERIES, KEYS))
    assert refused(batch, heads, (*first, 1, KEYS))
    assert not refused(batch, heads, (*(1,) * (len(batch) + 1 - len(first)), *first, QUERIES, KEYS))
    assert not refused(batch, heads, (*(1,) * (len(batch) - len(first)), *first, 1, QUERIES, KEYS))


@pytest.mark.parametrize(
    ("batch", "heads", "first"),
    [((2,), 3, (3,)), ((2,), 2, (1,)), ((2,), 2, ()), ((), 2, (2,)), ((2, 3), 4, (3, 1)), ((1,), 1, (1,))],
)
def test_sizes_that_mean_one_thing_are_taken(batch: tuple[int, ...], heads: int, first: tuple[int, ...]) -> None:
    assert not refused(batch, heads, (*first, QUERIES, KEYS))


@pytest.mark.parametrize("given", ["mask", "bias"])
def test_every_door_refuses_a_mask_of_three_axes_and_shows_the_two_shapes(given: str) -> None:
    x = jnp.ones((2, 4, 2, 8))
    array: Any = jnp.ones((2, 4, 4), bool if given == "mask" else jnp.float32)
    builder = rg.Builder()
    node = builder.input("x", x.shape, "f32")
    dense = builder.input("dense", array.shape, array.dtype)
    as_array: dict[str, Any] = {given: array}
    as_node: dict[str, Any] = {"dense_mask" if given == "mask" else given: dense}
    calls = (
        lambda: rg.attention(x, x, x, **as_array),
        jax.jit(functools.partial(rg.attention, x, x, x, **as_array)),
        lambda: builder.attend(node, node, node, **as_node),
    )
    for call in calls:
        with pytest.raises(rg.RopegenError, match=r"\(1, 2, 4, 4\) for one .* per head, \(2, 1, 4, 4\)"):
            call()


def test_a_mask_by_head_may_be_mapped_over_as_many_entries_as_there_are_heads() -> None:
    """`vmap` adds a leading size; a mask without it keeps its meaning, and so does one of the same size."""
    random = np.random.default_rng(0)
    q, k, v = (jnp.asarray(random.standard_normal((2, 4, 2, 8)), jnp.float32) for _ in range(3))
    mask = jnp.asarray(random.random((2, 4, 4)) < 0.6)

    def attended(q: Any, k: Any, v: Any, mask: Any) -> Any:
        return rg.attention(q, k, v, mask=mask)

    mapped = jax.vmap(attended, (0, 0, 0, None))(q, k, v, mask)
    np.testing.assert_allclose(mapped, rg.attention(q, k, v, mask=mask[None]), atol=1e-6)
    by_entry = jax.vmap(attended, (0, None, None, 0))(q, k[0], v[0], mask)
    for entry in range(2):
        np.testing.assert_allclose(by_entry[entry], rg.attention(q[entry], k[0], v[0], mask=mask[entry]), atol=1e-6)
