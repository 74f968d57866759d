"""The axes that ops declare: what `infer` takes and refuses by them, and how a batch axis widens a region by them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from independent import formula

from ropegen import masks
from ropegen.emit.callable import Compiled
from ropegen.emit.widen import uses, widen
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, graph, node
from ropegen.planner import plan
from ropegen.types import TensorType, numpy_dtype

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Every size is another one, so that an operand with a wrong axis is refused.
BATCH, QUERIES, KEYS, HEADS, KV_HEADS, WIDTH, VALUE_WIDTH = (2, 7), 3, 5, 8, 4, 6, 9
QKV = {
    "q": (*BATCH, QUERIES, HEADS, WIDTH),
    "k": (*BATCH, KEYS, KV_HEADS, WIDTH),
    "v": (*BATCH, KEYS, KV_HEADS, VALUE_WIDTH),
}
SCORES = (*BATCH, HEADS, QUERIES, KEYS)
# The shapes that an optional operand of attention may have, written out, and its element type.
SHAPES: dict[str, tuple[list[tuple[int, ...]], str]] = {
    "q_positions": ([(QUERIES,), (*BATCH, QUERIES)], "i32"),
    "kv_positions": ([(KEYS,), (*BATCH, KEYS)], "f32"),
    "q_segments": ([(QUERIES,), (*BATCH, QUERIES)], "i32"),
    "kv_segments": ([(KEYS,), (*BATCH, KEYS)], "i64"),
    "bias": ([SCORES, SCORES[1:], (1, 1, 1, QUERIES, 1), (KEYS,), ()], "f32"),
    "mask": ([SCORES, SCORES[2:], (7, 1, 1, KEYS), (1,)], "i1"),
    "sinks": ([(HEADS,)], "f32"),
    "seed": ([(4,)], "i32"),
}


def attention(name: str, shape: tuple[int, ...], dtype: str) -> TensorType:
    types = [TensorType(own, "f32") for own in QKV.values()]
    dropout = 0.5 if name == "seed" else None
    return ops.Attend(scale=1.0, dropout=dropout, given=(name,)).infer(*types, TensorType(shape, dtype))


def test_every_optional_operand_has_a_row_here() -> None:
    assert (*SHAPES, "numbers") == ops.Attend.optional  # there may be any number of numbers, see test_captured.py


@pytest.mark.parametrize("name", SHAPES)
def test_an_operand_of_attention_has_the_declared_axes_and_no_others(name: str) -> None:
    shapes, dtype = SHAPES[name]
    for shape in shapes:
        assert attention(name, shape, dtype).shape == (*BATCH, QUERIES, HEADS, VALUE_WIDTH)
        for axis in range(len(shape)):
            longer = tuple(size + (10 if place == axis else 0) for place, size in enumerate(shape))
            with pytest.raises(RopegenError, match=name):
                attention(name, longer, dtype)
        with pytest.raises(RopegenError, match=name):
            attention(name, (1, *SCORES) if name in ("bias", "mask") else (1, *BATCH, *shape), dtype)


def test_variables_read_the_operand_that_holds_them() -> None:
    assert ops.Attend.NEEDS == {
        "q_pos": "q_positions",
        "kv_pos": "kv_positions",
        "q_segment": "q_segments",
        "kv_segment": "kv_segments",
    }


def inputs(**types: tuple[tuple[int, ...], str]) -> dict[str, Node]:
    return {label: node(ops.Input(label=label, type=TensorType(*own))) for label, own in types.items()}


def attend_region(*, mask: masks.Expr = masks.causal & masks.segments) -> Graph:
    """Attention with every operand that a batch may widen, over a batch of 2: positions per entry, segments for all, a bias by head."""
    given = inputs(
        q=((2, 3, 4, 6), "f32"),
        k=((2, 5, 2, 6), "f32"),
        v=((2, 5, 2, 3), "f32"),
        q_positions=((2, 3), "i32"),
        kv_positions=((5,), "i32"),
        q_segments=((3,), "i32"),
        kv_segments=((2, 5), "i32"),
        bias=((4, 1, 5), "f32"),
        mask=((1, 1, 3, 5), "i1"),
        sinks=((4,), "f32"),
    )
    op = ops.Attend(scale=0.5, visible=mask, given=tuple(given)[3:])
    return graph("attend", given.values(), {"output": node(op, *given.values())})


def drawn(region: Graph, size: int | None, varying: frozenset[str], seed: int = 0) -> dict[str, Any]:
    """Values of the inputs; those that vary have `size` entries first."""
    random = np.random.default_rng(seed)
    values: dict[str, Any] = {}
    for label, kind in region.input_types.items():
        shape = (size, *kind.shape) if label in varying and size is not None else kind.shape
        if kind.is_float:
            values[label] = random.standard_normal(shape).astype(numpy_dtype(kind.dtype))
        else:
            values[label] = random.integers(0, 2 if "segments" in label or kind.dtype == "i1" else 5, shape).astype(
                numpy_dtype(kind.dtype)
            )
    return values


def mapped(region: Graph, varying: frozenset[str], function: Callable[..., Any]) -> tuple[Any, dict[str, Any]]:
    """`jax.vmap` of a function of the inputs over those that vary, and their values."""
    values = drawn(region, 3, varying)
    axes = {label: 0 if label in varying else None for label in values}
    return jax.jit(jax.vmap(function, in_axes=(axes,)))(values), values


@pytest.mark.parametrize(
    "varying",
    [
        {"q"},
        {"kv_positions", "q_segments"},
        {"q_positions", "kv_segments", "mask"},
        {"bias"},
        {"k", "v", "mask", "bias"},
        {"sinks", "q"},
    ],
    ids=lambda labels: " ".join(sorted(labels)),
)
def test_a_batch_axis_of_any_operand_is_the_same_as_one_entry_after_the_other(varying: set[str]) -> None:
    region = attend_region()
    compiled = Compiled(plan(region, "cpu"))
    results, values = mapped(region, frozenset(varying), lambda x: compiled(**x))
    for entry in range(3):
        own = {label: value[entry] if label in varying else value for label, value in values.items()}
        np.testing.assert_allclose(results[entry], formula(region, own)["output"], atol=1e-5)


def widened(region: Graph, varying: set[str]) -> dict[str, tuple[int, ...]] | None:
    """The shapes of the inputs of the region for 3 entries, None where it cannot be widened."""
    values = drawn(region, 3, frozenset(varying))
    nothing = (False,) * len(values)
    result = widen(
        region,
        3,
        [jnp.asarray(value) for value in values.values()],
        [label in varying for label in values],
        results=0,
        moving=nothing,
        wanted=nothing,
    )
    return None if result is None else {label: kind.shape for label, kind in result[0].input_types.items()}


def test_only_what_varies_is_widened() -> None:
    region = attend_region()
    shapes = widened(region, {"q_segments", "bias"})
    assert shapes is not None
    assert shapes["q"] == (3, 2, 3, 4, 6)
    assert shapes["q_positions"] == (3, 2, 3)
    assert shapes["kv_positions"] == (5,)
    assert shapes["q_segments"] == (3, 2, 3)
    assert shapes["bias"] == (3, 1, 4, 1, 5)
    assert shapes["mask"] == (1, 1, 1, 3, 5)
    assert shapes["sinks"] == (4,)


def test_what_one_value_serves_cannot_vary() -> None:
    assert widened(attend_region(), {"q", "sinks"}) is None


def test_an_expression_of_the_batch_keeps_the_region_as_it_is() -> None:
    counting = masks.mask(lambda q_pos, kv_pos, q_segment, kv_segment, batch: kv_pos + batch <= q_pos)
    assert widened(attend_region(mask=counting & masks.segments), {"q"}) is None


def test_a_transposed_value_cannot_be_widened() -> None:
    given = inputs(x=((4, 8), "f32"), weight=((8, 6), "f32"))
    product = node(ops.Project(), *given.values())
    turned = graph("turned", given.values(), {"y": node(ops.Transpose(permutation=(1, 0)), product)})
    assert uses(turned) is None
    straight = graph("straight", given.values(), {"y": product})
    assert widened(straight, {"x"}) == {"x": (3, 4, 8), "weight": (8, 6)}
    assert widened(straight, {"weight"}) is None


def test_a_value_that_two_ops_read_in_different_ways_is_widened_for_both_or_not_at_all() -> None:
    """A vector that is added may vary, and the weight of a norm may not."""
    given = inputs(x=((4, 8), "f32"), vector=((8,), "f32"))
    x, vector = given.values()
    norm = ops.Norm(kind="rms", epsilon=1e-6, given=("weight",))
    region = graph("both", given.values(), {"y": node(norm, node(ops.Add(), x, vector), vector)})
    assert widened(region, {"x"}) == {"x": (3, 4, 8), "vector": (8,)}
    assert widened(region, {"vector"}) is None


def test_operands_of_an_op_that_share_an_axis_agree_on_its_size() -> None:
    """For every op that names an axis twice, a size that differs is refused."""
    examples: dict[type[Any], tuple[Any, list[tuple[int, ...]]]] = {
        ops.Norm: (ops.Norm(kind="layer", epsilon=0.0, given=("weight", "bias")), [(4, 8), (8,), (8,)]),
        ops.Project: (ops.Project(given=("bias",)), [(4, 8), (8, 6), (6,)]),
        ops.Rotate: (ops.Rotate(pairing="half"), [(7, 4, 2, 8), (4, 6)]),
        ops.Attend: (ops.Attend(scale=1.0), [*QKV.values()]),
    }
    for op, shapes in examples.values():
        op.infer(*(TensorType(shape, "f32") for shape in shapes))
        names = [operand.axes for operand in op.present()]
        for first, second in itertools.combinations(range(len(names)), 2):
            for axis in set(names[first]) & set(names[second]):
                place = names[second].index(axis) - len(names[second])
                grown = list(shapes[second])
                grown[place] += 1
                changed = [*shapes[:second], tuple(grown), *shapes[second + 1 :]]
                with pytest.raises(RopegenError):
                    op.infer(*(TensorType(shape, "f32") for shape in changed))
