"""The oracle against formulas written out by hand, scalar by scalar, and the plain formula against the oracle."""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import legality
import ml_dtypes
import numpy as np
import pytest
from drawn import drawn_graph, graphs
from hypothesis import given, settings
from hypothesis import strategies as st
from independent import draw_inputs, formula, formulas

from ropegen import masks, reference, scaling
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, graph, node
from ropegen.ir.op import Op
from ropegen.reference import evaluate, evaluate_nodes
from ropegen.types import TensorType, dtype_name, epsilon

seeds = st.integers(0, 2**32 - 1)


def input_of(label: str, value: Any) -> Node:
    value = np.asarray(value)
    return node(ops.Input(label=label, type=TensorType(value.shape, dtype_name(value.dtype))))


def run(op: Op, *operands: Any) -> np.ndarray:
    """The value of one op on arrays."""
    named = {f"x{index}": np.asarray(value) for index, value in enumerate(operands)}
    inputs = [input_of(label, value) for label, value in named.items()]
    return evaluate(graph("one", inputs, {"y": node(op, *inputs)}), named)["y"]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_every_op_has_a_meaning() -> None:
    assert set(reference.MEANING) == set(ops.OPS.values()) - {ops.Input}


# One op at a time --------------------------------------------------------------------------------------------------


def test_positions_count_from_their_start() -> None:
    values = run(ops.Positions(length=4, start=-1))
    assert values.dtype == np.int32
    np.testing.assert_array_equal(values, [-1, 0, 1, 2])


def test_embed_takes_rows_and_treats_ids_outside_by_mode() -> None:
    table = np.arange(8, dtype=np.float32).reshape(4, 2)
    ids = np.array([[3, 0], [-1, 7]], np.int32)
    clip = run(ops.Embed(mode="clip"), ids, table)
    np.testing.assert_array_equal(clip, [[[6, 7], [0, 1]], [[0, 1], [6, 7]]])
    fill = run(ops.Embed(mode="fill"), ids, table)
    np.testing.assert_array_equal(fill, [[[6, 7], [0, 1]], [[np.nan] * 2] * 2])
    assert clip.dtype == fill.dtype == np.float64


@pytest.mark.parametrize("lead", [(), (2,)])
def test_patchify_reads_row_by_row(lead: tuple[int, ...]) -> None:
    image = normal(0, *lead, 4, 6, 3)
    patches = run(ops.Patchify(height=2, width=3), image)
    assert patches.shape == (*lead, 4, 18)
    for row, column, i, j, channel in itertools.product(range(2), range(2), range(2), range(3), range(3)):
        expected = image[..., 2 * row + i, 3 * column + j, channel]
        np.testing.assert_array_equal(patches[..., 2 * row + column, (3 * i + j) * 3 + channel], expected)


@pytest.mark.parametrize(("pairing", "width"), [("interleaved", 6), ("interleaved", 5), ("half", 6)])
@pytest.mark.parametrize("precision", ["exact", "f32"])
def test_sinusoid_is_the_paper(pairing: str, width: int, precision: str) -> None:
    positions = np.array([[0, 1, 7], [2, 100, 4096]], np.int32)
    y = run(ops.Sinusoid(width=width, pairing=pairing, theta=100.0, precision=precision), positions)
    for index, position in np.ndenumerate(positions):
        for pair in range((width + 1) // 2):
            angle = position / 100.0 ** (2 * pair / width)
            sine, cosine = (2 * pair, 2 * pair + 1) if pairing == "interleaved" else (pair, pair + width // 2)
            assert y[index][sine] == pytest.approx(math.sin(angle), abs=1e-11)
            if cosine < width:
                assert y[index][cosine] == pytest.approx(math.cos(angle), abs=1e-11)


def test_add_broadcasts() -> None:
    np.testing.assert_array_equal(
        run(ops.Add(), np.float32([[1.0], [2.0]]), np.float32([10.0, 20.0])), [[11, 21], [12, 22]]
    )


def test_rms_norm_of_known_numbers() -> None:
    x = np.array([3.0, 4.0])  # mean square 12.5
    np.testing.assert_allclose(run(ops.Norm(kind="rms", epsilon=0.0), x), x / math.sqrt(12.5))
    np.testing.assert_allclose(run(ops.Norm(kind="rms", epsilon=3.5), x), [0.75, 1.0])
    gemma = ops.Norm(kind="rms", epsilon=3.5, weight_offset=1.0, given=("weight",))
    np.testing.assert_allclose(run(gemma, x, np.array([0.0, 1.0])), [0.75, 2.0])


def test_layer_norm_is_jax_standardize() -> None:
    x, weight, bias = normal(0, 2, 3, 8), normal(1, 8), normal(2, 8)
    y = run(ops.Norm(kind="layer", epsilon=1e-3, given=("weight", "bias")), x, weight, bias)
    with jax.enable_x64(True):
        expected = jax.nn.standardize(jnp.asarray(x), epsilon=1e-3) * weight + bias
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)


def test_project_sums_products() -> None:
    x, weight, bias = normal(0, 2, 3, 4), normal(1, 4, 5), normal(2, 5)
    y = run(ops.Project(given=("bias",)), x, weight, bias)
    for b, s, f in itertools.product(range(2), range(3), range(5)):
        assert y[b, s, f] == pytest.approx(sum(x[b, s, e] * weight[e, f] for e in range(4)) + bias[f])
    np.testing.assert_allclose(run(ops.Project(), x, weight), y - bias)


def test_every_head_has_a_projection_of_its_own() -> None:
    x, weight = normal(0, 2, 3, 4), normal(1, 3, 4, 5)
    y = run(ops.ProjectHeads(), x, weight)
    for head in range(3):
        np.testing.assert_allclose(y[:, head], x[:, head] @ weight[head], rtol=1e-12, atol=1e-12)


def test_features_are_joined_head_by_head() -> None:
    a, one, own = normal(0, 5, 3, 4), normal(1, 5, 1, 2), normal(2, 5, 3, 2)
    for head in range(3):
        np.testing.assert_array_equal(run(ops.JoinFeatures(), a, one)[:, head], np.hstack([a[:, head], one[:, 0]]))
        np.testing.assert_array_equal(run(ops.JoinFeatures(), a, own)[:, head], np.hstack([a[:, head], own[:, head]]))


def test_rows_of_a_table_come_before_every_sequence() -> None:
    first, x = normal(0, 2, 3), normal(1, 4, 5, 3)
    y = run(ops.JoinRows(), first, x)
    for sequence in range(4):
        np.testing.assert_array_equal(y[sequence], np.vstack([first, x[sequence]]))


def test_clip_keeps_what_is_within() -> None:
    x = np.array([-3.0, -0.5, 0.0, 0.4, 7.0])
    np.testing.assert_array_equal(run(ops.Clip(limit=0.5), x), [-0.5, -0.5, 0.0, 0.4, 0.5])


def test_split_and_merge_heads() -> None:
    x = np.arange(14.0).reshape(2, 7)
    heads = run(ops.SplitHeads(heads=2, width=3, start=1), x)
    np.testing.assert_array_equal(heads[1], [[8, 9, 10], [11, 12, 13]])
    np.testing.assert_array_equal(run(ops.MergeHeads(), heads), x[:, 1:])


@pytest.mark.parametrize("precision", ["exact", "f32"])
def test_angles_are_exact_whatever_the_precision(precision: str) -> None:
    positions = np.array([[0, 1], [-3, 1_000_003]], np.int32)
    op = ops.Angles(dim=6, head_width=8, theta=500.0, scaling=scaling.none(), precision=precision)
    y = run(op, positions)
    assert y.shape == (2, 2, 6)
    for index, position in np.ndenumerate(positions):
        for pair in range(3):
            angle = float(position) * 500.0 ** (-2 * pair / 6)
            assert y[index][pair] == pytest.approx(math.cos(angle), abs=1e-9)
            assert y[index][pair + 3] == pytest.approx(math.sin(angle), abs=1e-9)


def test_angles_carry_the_magnitude_and_its_inverse() -> None:
    declared = {"dim": 4, "head_width": 4, "theta": 1e4}
    positions = np.array([0.0, 2.5, 40.0], np.float32)
    plain_angles = run(ops.Angles(**declared, scaling=scaling.none()), positions)
    yarn = run(ops.Angles(**declared, scaling=scaling.yarn(factor=1.0, original=64, attention_factor=1.5)), positions)
    np.testing.assert_allclose(yarn, 1.5 * plain_angles)
    xpos = scaling.xpos(base=32.0)
    query = run(ops.Angles(**declared, scaling=xpos), positions)
    key = run(ops.Angles(**declared, scaling=xpos, inverse=True), positions)
    np.testing.assert_allclose(query * key, plain_angles**2)
    zeta = np.array([0.4 * 4, 2 + 0.4 * 4]) / (1.4 * 4)
    np.testing.assert_allclose(query[2, :2], plain_angles[2, :2] * zeta ** (40.0 / 32.0))


def test_sections_give_each_pair_its_own_position() -> None:
    positions = np.array([[1, 2], [10, 20], [5, 6]], np.int32)
    blocks = ops.Angles(dim=8, head_width=8, theta=100.0, scaling=scaling.none(), sections=(2, 1, 1))
    y = run(blocks, positions)
    for step, pair in itertools.product(range(2), range(4)):
        angle = positions[(0, 0, 1, 2)[pair], step] * 100.0 ** (-pair / 4)
        assert y[step, pair] == pytest.approx(math.cos(angle))
        assert y[step, pair + 4] == pytest.approx(math.sin(angle))


@pytest.mark.parametrize("pairing", ops.PAIRINGS)
@pytest.mark.parametrize("shared", [True, False])
def test_rotate_is_multiplication_by_a_complex_number(pairing: str, shared: bool) -> None:
    x = normal(0, 2, 3, 4, 8)
    turn = normal(1, *(() if shared else (2,)), 3, 3)
    angles = np.concatenate([np.cos(turn), np.sin(turn)], -1)
    y = run(ops.Rotate(pairing=pairing), x, angles)
    for b, s, h, pair in itertools.product(range(2), range(3), range(4), range(3)):
        first, second = (pair, pair + 3) if pairing == "half" else (2 * pair, 2 * pair + 1)
        angle = turn[s, pair] if shared else turn[b, s, pair]
        turned = complex(x[b, s, h, first], x[b, s, h, second]) * complex(math.cos(angle), math.sin(angle))
        assert complex(y[b, s, h, first], y[b, s, h, second]) == pytest.approx(turned)
    np.testing.assert_array_equal(y[..., 6:], x[..., 6:])


def test_scale_and_transpose() -> None:
    x = normal(0, 2, 3, 4)
    np.testing.assert_array_equal(run(ops.Scale(factor=-0.5), x), [[[-0.5 * e for e in row] for row in m] for m in x])
    y = run(ops.Transpose(permutation=(2, 0, 1)), x)
    assert all(y[k, i, j] == x[i, j, k] for i, j, k in np.ndindex(x.shape))


def test_cast_rounds_nothing_and_cuts_fractions_off() -> None:
    x = np.array([1.7, -1.7, 0.0, 3e9, -np.inf, np.nan, 1 / 3], np.float32)
    np.testing.assert_array_equal(run(ops.Cast(dtype="bf16"), x), x.astype(np.float64))
    whole = run(ops.Cast(dtype="i32"), x)
    assert whole.dtype == np.int32
    np.testing.assert_array_equal(whole, [1, -1, 0, 2**31 - 1, -(2**31), 0, 0])
    np.testing.assert_array_equal(run(ops.Cast(dtype="i64"), np.float64([1e30, -1e30])), [2**63 - 1, -(2**63)])
    np.testing.assert_array_equal(run(ops.Cast(dtype="i1"), x[:4]), [True, True, False, True])
    np.testing.assert_array_equal(run(ops.Cast(dtype="f32"), np.array([True, False])), [1.0, 0.0])
    np.testing.assert_array_equal(run(ops.Cast(dtype="i32"), np.array([2**32 + 5])), [5])


def test_inputs_count_at_their_rounded_values() -> None:
    x = np.array([1 / 3], ml_dtypes.bfloat16)
    y = run(ops.Scale(factor=3.0), x)
    assert y.dtype == np.float64
    assert y[0] == 3.0 * float(x[0]) != 1.0


@pytest.mark.parametrize(
    ("length", "rows"), [(0, [1, 2, 9, 9]), (2, [9, 9, 1, 2]), (3, [9, 9, 9, 1]), (4, [9] * 4), (7, [9] * 4)]
)
def test_append_cache_drops_rows_past_the_capacity(length: int, rows: list[int]) -> None:
    cache, update = np.full((4, 1, 1), 9.0), np.array([1.0, 2.0]).reshape(2, 1, 1)
    np.testing.assert_array_equal(run(ops.AppendCache(), cache, update, np.int32(length)).ravel(), rows)


def test_append_cache_with_a_length_each() -> None:
    cache, update = np.zeros((2, 3, 1, 2)), normal(0, 2, 1, 1, 2)
    y = run(ops.AppendCache(), cache, update, np.array([2, 0], np.int32))
    np.testing.assert_array_equal(y[0, :, 0], [[0, 0], [0, 0], update[0, 0, 0]])
    np.testing.assert_array_equal(y[1, :, 0], [update[1, 0, 0], [0, 0], [0, 0]])


def test_pack_and_reorder_pairs() -> None:
    np.testing.assert_array_equal(run(ops.Pack(), np.float32([1.0]), np.float32([2.0, 3.0])), [1, 2, 3])
    x = np.arange(14.0)
    half = run(ops.ReorderPairs(width=7, dim=6, to="half"), x)
    np.testing.assert_array_equal(half, [0, 2, 4, 1, 3, 5, 6, 7, 9, 11, 8, 10, 12, 13])
    for to in ops.PAIRINGS:
        op = ops.ReorderPairs(width=7, dim=6, to=to)
        np.testing.assert_array_equal(run(op, x), x[list(op.order(14))])
    np.testing.assert_array_equal(run(ops.ReorderPairs(width=7, dim=6, to="interleaved"), half), x)


# Attention ---------------------------------------------------------------------------------------------------------


def attention_by_scalars(
    op: ops.Attend, seen: Any, changed: Any, x: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Output and log-sum-exp with loops over numbers. `seen` and `changed` are Python functions of the mask's names."""
    q, k, v = x["q"], x["k"], x["v"]
    *lead, queries, heads, width = q.shape
    keys, group = k.shape[-3], heads // k.shape[-2]
    full = (*lead, heads, queries, keys)
    bias = np.broadcast_to(x.get("bias", np.zeros(())), full)
    mask = np.broadcast_to(x.get("mask", np.ones((), bool)), full)
    places = {
        name: np.broadcast_to(x.get(name, np.zeros((), int)), (*lead, length))
        for length, names in ((queries, ("q_positions", "q_segments")), (keys, ("kv_positions", "kv_segments")))
        for name in names
    }
    output, log_sum_exp = np.zeros((*lead, queries, heads, v.shape[-1])), np.full((*lead, queries, heads), -np.inf)
    for (batch, b), h, i in itertools.product(enumerate(np.ndindex(*lead)), range(heads), range(queries)):
        weights: dict[int, float] = {}
        for j in range(keys):
            score = op.scale * sum(float(q[b][i, h, d]) * float(k[b][j, h // group, d]) for d in range(width))
            if op.softcap is not None:
                score = op.softcap * math.tanh(score / op.softcap)
            score += float(bias[b][h, i, j])
            names = {
                "q_pos": int(places["q_positions"][b][i]),
                "kv_pos": int(places["kv_positions"][b][j]),
                "q_segment": int(places["q_segments"][b][i]),
                "kv_segment": int(places["kv_segments"][b][j]),
                "head": h,
                "batch": batch,
            }
            score = changed(score=score, **names)
            if seen(**names) and mask[b][h, i, j] and score != -math.inf:
                weights[j] = math.exp(score)
        total = sum(weights.values()) + (math.exp(x["sinks"][h]) if "sinks" in x else 0.0)
        if total:
            log_sum_exp[b][i, h] = math.log(total)
        if not weights and op.masked_row == "mean" and "sinks" not in x:
            weights, total = dict.fromkeys(range(keys), 1.0), keys
        for j, weight in weights.items():
            output[b][i, h] += weight / total * v[b][j, h // group]
    return output, log_sum_exp


MASKS: list[tuple[masks.Expr, Any]] = [
    (masks.full, lambda **_: True),
    (masks.causal, lambda q_pos, kv_pos, **_: kv_pos <= q_pos),
    (masks.causal & masks.window(2), lambda q_pos, kv_pos, **_: q_pos - 2 < kv_pos <= q_pos),
    (masks.chunked(3), lambda q_pos, kv_pos, **_: q_pos // 3 == kv_pos // 3),
    (masks.causal | masks.prefix(2), lambda q_pos, kv_pos, **_: kv_pos <= q_pos or kv_pos < 2),
    (masks.segments, lambda q_segment, kv_segment, **_: q_segment == kv_segment),
    (masks.mask(lambda q_pos, kv_pos: kv_pos < q_pos), lambda q_pos, kv_pos, **_: kv_pos < q_pos),
    (
        masks.mask(lambda kv_pos, head, batch: kv_pos != head + batch),
        lambda kv_pos, head, batch, **_: kv_pos != head + batch,
    ),
]
SCORES: list[tuple[masks.Expr, Any]] = [
    (masks.identity, lambda score, **_: score),
    (
        masks.alibi([0.5, 0.25, 0.125, 2.0]),
        lambda score, q_pos, kv_pos, head, **_: score - [0.5, 0.25, 0.125, 2.0][head] * abs(q_pos - kv_pos),
    ),
    (masks.score(lambda score, head: score * (0.5 + head)), lambda score, head, **_: score * (0.5 + head)),
]


def draw_attention(seed: int) -> tuple[dict[str, Any], Any, Any, dict[str, np.ndarray]]:
    """Attributes of an attention, its mask and score as Python functions, and its operands."""
    random = np.random.default_rng(seed)
    lead = [(), (2,), (2, 1), (1,)][random.integers(4)]
    queries, keys = random.integers(1, 6, 2)
    kv_heads, group = random.integers(1, 3, 2)
    heads, width, v_width = kv_heads * group, random.integers(1, 5), random.integers(1, 4)
    x = {
        "q": random.standard_normal((*lead, queries, heads, width)),
        "k": random.standard_normal((*lead, keys, kv_heads, width)),
        "v": random.standard_normal((*lead, keys, kv_heads, v_width)),
    }
    for name, size in (
        ("q_positions", queries),
        ("kv_positions", keys),
        ("q_segments", queries),
        ("kv_segments", keys),
    ):
        shape = (*lead, size) if random.random() < 0.5 else (size,)
        x[name] = random.integers(0, 3 if "segments" in name else 7, shape).astype(np.int32)
    full = np.array([*lead, heads, queries, keys])
    if random.random() < 0.5:
        x["bias"] = random.standard_normal(np.where(random.random(len(full)) < 0.7, full, 1))
        x["bias"][random.random(x["bias"].shape) < 0.2] = -np.inf
    if random.random() < 0.5:
        x["mask"] = random.random(np.where(random.random(len(full)) < 0.7, full, 1)) < 0.6
    if random.random() < 0.3:
        x["sinks"] = random.standard_normal(heads)
    visible, seen = MASKS[random.integers(len(MASKS))]
    score, changed = SCORES[random.integers(len(SCORES))]
    declared = {
        "scale": float(random.uniform(0.1, 2.0)),
        "visible": visible,
        "score": score,
        "softcap": 1.5 if random.random() < 0.3 else None,
        "masked_row": ["zero", "mean"][random.integers(2)],
        "given": tuple(name for name in ops.Attend.optional if name in x),
    }
    return declared, seen, changed, {name: x[name] for name in ("q", "k", "v", *declared["given"])}


@settings(deadline=None, max_examples=120)
@given(seed=seeds)
def test_attention_is_the_dense_formula(seed: int) -> None:
    declared, seen, changed, x = draw_attention(seed)
    output, log_sum_exp = attention_by_scalars(ops.Attend(**declared), seen, changed, x)
    np.testing.assert_allclose(run(ops.Attend(**declared), *x.values()), output, rtol=1e-10, atol=1e-12)
    result = run(ops.Attend(**declared, returns="log_sum_exp"), *x.values())
    np.testing.assert_allclose(result, log_sum_exp, rtol=1e-10, atol=1e-12)


def test_attention_does_not_depend_on_how_many_queries_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(20):
        declared, _, _, x = draw_attention(seed)
        whole = run(ops.Attend(**declared), *x.values())
        with monkeypatch.context() as patch:
            patch.setattr(reference, "_SCORES_AT_ONCE", 1)
            np.testing.assert_allclose(run(ops.Attend(**declared), *x.values()), whole, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("returns", ["output", "log_sum_exp"])
@pytest.mark.parametrize("masked_row", ["zero", "mean"])
@pytest.mark.parametrize("sinks", [False, True])
def test_rows_that_see_nothing(returns: str, masked_row: str, sinks: bool) -> None:
    q, v = np.ones((1, 1, 1)), np.array([2.0, 4.0, 9.0]).reshape(3, 1, 1)
    given = ("sinks",) if sinks else ()
    op = ops.Attend(scale=1.0, visible=masks.nothing, masked_row=masked_row, returns=returns, given=given)
    y = run(op, q, np.ones((3, 1, 1)), v, *([np.array([0.25])] if sinks else []))
    if returns == "log_sum_exp":
        assert y.item() == (0.25 if sinks else -math.inf)
    else:
        assert y.item() == pytest.approx(5.0 if masked_row == "mean" and not sinks else 0.0)


@pytest.mark.parametrize("masked_row", ["zero", "mean"])
def test_no_keys_give_zeros(masked_row: str) -> None:
    y = run(ops.Attend(scale=1.0, masked_row=masked_row), np.ones((2, 4, 3)), np.ones((0, 2, 3)), np.ones((0, 2, 5)))
    np.testing.assert_array_equal(y, np.zeros((2, 4, 5)))


def test_large_scores_do_not_overflow() -> None:
    k = np.array([1000.0, 999.0]).reshape(2, 1, 1)
    y = run(ops.Attend(scale=1.0), np.ones((1, 1, 1)), k, np.array([1.0, 0.0]).reshape(2, 1, 1))
    assert y.item() == pytest.approx(1 / (1 + math.exp(-1)))
    log_sum_exp = run(ops.Attend(scale=1.0, returns="log_sum_exp"), np.ones((1, 1, 1)), k, k)
    assert log_sum_exp.item() == pytest.approx(1000 + math.log1p(math.exp(-1)))


def test_soft_cap_comes_before_bias_and_the_mask_after_both() -> None:
    q, k, v = np.full((1, 1, 1), 100.0), np.array([1.0, -1.0]).reshape(2, 1, 1), np.array([1.0, 0.0]).reshape(2, 1, 1)
    op = ops.Attend(scale=1.0, softcap=1.0, given=("bias",))
    y = run(op, q, k, v, np.array([[[-2.0, 0.0]]]))  # capped to 1 and -1; the bias makes them equal
    assert y.item() == pytest.approx(0.5)


# What must hold of all ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(seed=seeds, pairing=st.sampled_from(ops.PAIRINGS))
def test_rotation_keeps_norms_and_scores_depend_on_distance(seed: int, pairing: str) -> None:
    q, k = normal(seed, 1, 1, 8), normal(seed + 1, 1, 1, 8)
    start, shift = np.random.default_rng(seed).integers(-50, 50, 2)

    def turned(x: np.ndarray, position: int) -> np.ndarray:
        op = ops.Angles(dim=8, head_width=8, theta=100.0, scaling=scaling.none())
        return run(ops.Rotate(pairing=pairing), x, run(op, np.array([position], np.int32)))

    assert np.linalg.norm(turned(q, start)) == pytest.approx(np.linalg.norm(q))
    near = (turned(q, start) * turned(k, start + 3)).sum()
    far = (turned(q, start + shift) * turned(k, start + shift + 3)).sum()
    assert near == pytest.approx(far, abs=1e-9)


@settings(deadline=None, max_examples=25)
@given(seed=seeds)
def test_interleaved_rotation_is_half_rotation_of_reordered_pairs(seed: int) -> None:
    x, angles = normal(seed, 3, 2, 8), normal(seed + 1, 3, 6)
    reordered = run(ops.ReorderPairs(width=8, dim=6, to="half"), x)
    turned = run(ops.Rotate(pairing="half"), reordered, angles)
    back = run(ops.ReorderPairs(width=8, dim=6, to="interleaved"), turned)
    np.testing.assert_allclose(back, run(ops.Rotate(pairing="interleaved"), x, angles))


@settings(deadline=None, max_examples=40)
@given(seed=seeds)
def test_keys_may_come_in_any_order(seed: int) -> None:
    declared, _, _, x = draw_attention(seed)
    order = np.random.default_rng(seed).permutation(x["k"].shape[-3])
    shuffled = dict(x)
    for name, axis in {"k": -3, "v": -3, "kv_positions": -1, "kv_segments": -1, "bias": -1, "mask": -1}.items():
        if name in x and x[name].shape[axis] == len(order):
            shuffled[name] = np.take(x[name], order, axis)
    op = ops.Attend(**declared)
    np.testing.assert_allclose(run(op, *shuffled.values()), run(op, *x.values()), rtol=1e-10, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(seed=seeds)
def test_weights_sum_to_one_less_the_share_of_the_sink(seed: int) -> None:
    declared, _, _, x = draw_attention(seed)
    x["v"] = np.ones_like(x["v"])
    y = run(ops.Attend(**declared), *x.values())
    log_sum_exp = run(ops.Attend(**declared, returns="log_sum_exp"), *x.values())
    if "sinks" in x:
        share = 1.0 - np.exp(x["sinks"] - log_sum_exp)
    else:
        share = 1.0 if declared["masked_row"] == "mean" else (log_sum_exp > -np.inf).astype(float)
    np.testing.assert_allclose(y, np.broadcast_to(np.asarray(share)[..., None], y.shape), atol=1e-12)


@pytest.mark.parametrize("visible", [masks.causal, masks.causal & masks.window(3)])
def test_decoding_row_by_row_over_a_cache_equals_prefill(visible: masks.Expr) -> None:
    q, k, v = normal(0, 2, 5, 4, 6), normal(1, 2, 5, 2, 6), normal(2, 2, 5, 2, 6)
    op = ops.Attend(scale=0.4, visible=visible, given=("q_positions", "kv_positions"))
    prefill = run(op, q, k, v, np.arange(5, dtype=np.int32), np.arange(5, dtype=np.int32))
    k_cache, v_cache = normal(3, 2, 8, 2, 6), normal(4, 2, 8, 2, 6)  # what is not yet written is noise
    for step in range(5):
        here = slice(step, step + 1)
        k_cache = run(ops.AppendCache(), k_cache, k[:, here], np.int32(step))
        v_cache = run(ops.AppendCache(), v_cache, v[:, here], np.int32(step))
        row = run(op, q[:, here], k_cache, v_cache, np.array([step], np.int32), np.arange(8, dtype=np.int32))
        np.testing.assert_allclose(row, prefill[:, here], rtol=1e-12)


def test_a_region_is_evaluated_from_values_in_the_middle() -> None:
    for seed in range(10):
        g = drawn_graph(seed)
        inputs = draw_inputs(g, seed)
        whole = evaluate(g, inputs)
        given_inputs = {value: inputs[label] for value, label in zip(g.inputs, g.input_types, strict=True)}
        middle = g.nodes[len(g.inputs) : len(g.inputs) + (len(g.nodes) - len(g.inputs)) // 2]
        known = dict(zip(middle, evaluate_nodes(middle, given_inputs), strict=True))
        outputs = [value for _, value in g.outputs]
        for label, result in zip(whole, evaluate_nodes(outputs, given_inputs | known), strict=True):
            np.testing.assert_array_equal(result, whole[label])
        for value, result in zip(
            outputs, evaluate_nodes(outputs, dict(zip(outputs, whole.values(), strict=True))), strict=True
        ):
            assert result.shape == value.type.shape  # nothing before the outputs is asked for


# Errors ------------------------------------------------------------------------------------------------------------


def scaled() -> tuple[Node, Graph]:
    x = node(ops.Input(label="hidden", type=TensorType((2,), "f32")))
    return x, graph("scaled", [x], {"y": node(ops.Scale(factor=2.0), x)})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"lacks the inputs hidden \(tensor<2xf32>\)"),
        ({"hiden": np.float32([1, 2])}, "no input 'hiden'; did you mean 'hidden'"),
        ({"hidden": np.float32([1, 2, 3])}, r"'hidden' is tensor<3xf32> and was declared tensor<2xf32>"),
        ({"hidden": np.float64([1, 2])}, r"is tensor<2xf64> and was declared tensor<2xf32>"),
        ({"hidden": [1, 2]}, r"is tensor<2xi64> and was declared"),
        ({"hidden": [[1.0], [1.0, 2.0]]}, "no tensor"),
        ({"hidden": np.complex64([1, 2])}, "complex64"),
    ],
)
def test_inputs_are_checked(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(RopegenError, match=message):
        evaluate(scaled()[1], inputs)


def test_values_of_a_region_are_checked() -> None:
    x, g = scaled()
    output = g.outputs[0][1]
    with pytest.raises(RopegenError, match=r"'hidden' tensor<2xf32> is needed and not given"):
        evaluate_nodes([output], {})
    with pytest.raises(RopegenError, match=r"has the shape \(3,\); give \(2,\)"):
        evaluate_nodes([output], {x: np.zeros(3)})


def test_negative_lengths_are_an_error() -> None:
    with pytest.raises(RopegenError, match=r"lengths are -1"):
        run(ops.AppendCache(), np.zeros((4, 1, 1)), np.zeros((1, 1, 1)), np.int32(-1))


# The plain formula and the drawn graphs ----------------------------------------------------------------------------


def error_in_units(result: np.ndarray, truth: np.ndarray, unit: float) -> float:
    """The largest error, in units of the coarsest type's rounding of the largest number; infinities must agree."""
    result = result.astype(np.float64)
    np.testing.assert_array_equal(np.isfinite(result), np.isfinite(truth))
    finite = np.isfinite(truth)
    size = max(1.0, np.abs(truth[finite]).max(initial=0.0))
    return np.abs(result[finite] - truth[finite]).max(initial=0.0) / (unit * size)


@pytest.mark.parametrize("first", [0, 20, 40])
def test_the_plain_formula_is_near_the_oracle(first: int) -> None:
    drawn = [drawn_graph(seed, max_ops=12, packed=True) for seed in range(first, first + 20)]
    inputs = [draw_inputs(g, seed) for seed, g in enumerate(drawn)]
    for g, x, ours in zip(drawn, inputs, formulas(drawn, inputs), strict=True):
        unit = max(epsilon(value.type.dtype) for value in g.nodes if value.type.is_float)
        for label, truth in evaluate(g, x).items():
            assert dtype_name(ours[label].dtype) == dict(g.outputs)[label].type.dtype
            assert error_in_units(ours[label], truth, unit) < 8.0, (g.name, label)


def test_the_plain_formula_in_float64_is_the_oracle() -> None:
    drawn = [g for seed in range(24) if (g := drawn_graph(seed, max_ops=10, wide=True)).nodes[0].type.dtype == "f64"]
    inputs = [draw_inputs(g, seed) for seed, g in enumerate(drawn)]
    with jax.enable_x64(True):
        results = formulas(drawn, inputs)
    assert len(drawn) > 3
    for g, x, ours in zip(drawn, inputs, results, strict=True):
        unit = max(epsilon(value.type.dtype) for value in g.nodes if value.type.is_float)
        for label, truth in evaluate(g, x).items():
            assert error_in_units(ours[label], truth, unit) < 8.0, (g.name, label)


@pytest.mark.parametrize("masked_row", ["zero", "mean"])
def test_gradients_of_the_plain_formula_are_finite_where_a_row_sees_nothing(masked_row: str) -> None:
    x = {"q": normal(0, 3, 2, 4), "k": normal(1, 3, 2, 4), "v": normal(2, 3, 2, 4), "bias": np.zeros((1, 3, 3))}
    x = {label: value.astype(np.float32) for label, value in x.items()}
    x["bias"][0, 1] = -np.inf
    inputs = [input_of(label, value) for label, value in x.items()]
    at = node(ops.Positions(length=3))
    strict = masks.mask(lambda q_pos, kv_pos: kv_pos < q_pos)
    outputs = {}
    for returns in ("output", "log_sum_exp"):
        op = ops.Attend(
            scale=0.5,
            visible=strict,
            masked_row=masked_row,
            returns=returns,
            given=("q_positions", "kv_positions", "bias"),
        )
        outputs[returns] = node(op, *inputs[:3], at, at, inputs[3])
    g = graph("masked", inputs, outputs)

    def loss(x: dict[str, jax.Array]) -> jax.Array:
        y = formula(g, x)
        return (y["output"] ** 2).sum() + jnp.where(jnp.isfinite(y["log_sum_exp"]), y["log_sum_exp"], 0.0).sum()

    gradient = jax.jit(jax.grad(loss))(x)
    assert all(np.isfinite(value).all() for value in gradient.values())
    np.testing.assert_array_equal(gradient["q"][:2], 0.0)  # rows 0 and 1 see nothing
    assert np.abs(gradient["q"][2]).min() > 0


@settings(deadline=None, max_examples=60)
@given(drawn=graphs(max_ops=30, packed=True), seed=seeds)
def test_drawn_graphs_evaluate_to_their_declared_types(drawn: Graph, seed: int) -> None:
    assert len(drawn.nodes) - len(drawn.inputs) <= 30
    results = evaluate(drawn, draw_inputs(drawn, seed))
    for label, value in drawn.outputs:
        assert results[label].shape == value.type.shape
        assert not np.isnan(results[label]).any()


def test_drawn_graphs_are_a_function_of_the_seed_and_reach_every_op() -> None:
    drawn = [drawn_graph(seed, packed=True) for seed in range(300)]
    assert all(g is drawn_graph(seed, packed=True) for seed, g in enumerate(drawn[:20]))
    assert {value.op.name for g in drawn for value in g.nodes} == set(ops.OPS)
    assert {value.type.dtype for g in drawn for value in g.nodes if value.type.is_float} == {"f32", "bf16", "f16"}
    given_operands = {
        name for g in drawn for value in g.nodes if isinstance(value.op, ops.Attend) for name in value.op.given
    }
    assert given_operands == {*ops.Attend.optional} - {
        "numbers"
    }  # the numbers of a score are drawn in test_captured.py
    assert all(len(drawn_graph(seed, 3).nodes) - len(drawn_graph(seed, 3).inputs) <= 3 for seed in range(30))
    assert not any(legality.violations(drawn_graph(seed), "source") for seed in range(100))
