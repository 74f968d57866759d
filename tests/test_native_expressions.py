"""Mask and score expressions as native code, against `masks.evaluate` with NumPy and with JAX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native import Array, host, run
from test_masks import built, smooth, truths, unscored, whole

from ropegen import masks
from ropegen.errors import RopegenError
from ropegen.expression import Apply, Const, Expr, Var, variables
from ropegen.masks import apply, evaluate, parse
from ropegen.native import expressions, machine
from ropegen.native.ir import BF16, F32, I1, I32, I64, Function, Module, Type, Value
from ropegen.target import VECTOR_UNITS

drawn = settings(deadline=None, max_examples=50)

# What a query, a key and a pair of both have of their own: vectors, scalars of a key, and scalars of the whole call.
SCALARS = ("kv_pos", "kv_segment", "head", "batch")
TYPES: dict[str, Type] = {"int32": I32, "int64": I64, "float32": F32}


def native(expr: Expr, values: dict[str, Array], scalars: tuple[str, ...] = SCALARS, slope: bool = False) -> Any:
    """The value of an expression over arrays of one length, and its slope; the first entry of a scalar holds."""
    lanes = host().lanes
    names = sorted(values)
    count = max(len(values[name]) for name in names)
    padded = [np.pad(values[name], (0, -count % lanes), mode="edge") for name in names]
    dtype = np.float32 if expr.kind == "float" else np.int64
    results = [np.zeros(len(padded[0]), dtype) for _ in range(2)]

    def write(f: Function, arrays: Sequence[Value]) -> None:
        with f.range(0, len(padded[0]), lanes) as index:
            given = dict[str, Value]()
            for name, array, pointer in zip(names, padded, arrays, strict=False):
                kind = TYPES[array.dtype.name]
                given[name] = f.load(kind, pointer) if name in scalars else f.load(kind.vector(lanes), pointer, index)
            both = expressions.with_slope(f, expr, given, lanes) if slope else ()
            for part, pointer in zip(
                both or [expressions.compiled(f, expr, given, lanes)], arrays[len(names) :], strict=False
            ):
                assert part.type.lanes == lanes
                f.store(part if part.type.is_float else f.convert(part, I64.vector(lanes)), pointer, index)

    run(write, *padded, *results)
    value, derivative = (result[:count] for result in results)
    return (value, derivative) if slope else value


def drawn_values(seed: int, count: int = 24) -> dict[str, Array]:
    """Values of all variables; those in SCALARS are equal in all places."""
    draw = np.random.default_rng(seed)
    edges = np.array([0, 1, -1, 2**31 - 1, -(2**31), 63])
    values = dict[str, Array]()
    for name in masks.NAMES:
        numbers = draw.integers(-70, 70, count) if draw.integers(2) else draw.integers(-(2**31), 2**31, count)
        numbers[:6] = draw.permutation(edges)
        values[name] = (np.full(count, draw.choice(numbers)) if name in SCALARS else numbers).astype(np.int32)
    scores = draw.standard_normal(count) * 10.0 ** draw.integers(-2, 3, count)
    scores[:6] = [0.0, math.inf, -math.inf, math.nan, 1.0, -3.5]
    return values | {"score": scores.astype(np.float32)}


def expected(expr: Expr, values: dict[str, Array]) -> Array:
    used: dict[str, Any] = {name: values[name] for name in variables(expr)} or {"q_pos": values["q_pos"]}
    wide = [name for name, value in used.items() if value.dtype == np.int64]
    result = evaluate(expr, np, wide=wide, **used)
    return np.broadcast_to(result, values["q_pos"].shape)


@pytest.mark.any_jax
@drawn
@given(whole | truths.map(unscored), st.integers(0, 1000))
def test_integers_and_masks_are_exact(program: Any, seed: int) -> None:
    expr, values = built(program), drawn_values(seed)
    np.testing.assert_array_equal(native(expr, values), expected(expr, values))


def assert_close_by(result: Array, exact: Array, units: float) -> None:
    """The float32 results differ from float64 numbers by at most this many units in the last place."""
    with np.errstate(all="ignore"):
        nearest = exact.astype(np.float32)
        finite = np.isfinite(nearest)
        np.testing.assert_array_equal(result[~finite], nearest[~finite])
        error = np.abs(result[finite].astype(np.float64) - exact[finite]) / np.spacing(np.abs(nearest[finite]))
    assert not error.size or error.max() <= units


@pytest.mark.any_jax
@drawn
@given(smooth, st.integers(0, 1000))
def test_floats_round_as_in_numpy(program: Any, seed: int) -> None:
    expr, values = built(program), drawn_values(seed)
    if expr.kind == "float" and isinstance(expr, Apply) and expr.op in ("exp", "log", "tanh"):
        with np.errstate(all="ignore"):
            operand = expected(expr.args[0], values).astype(np.float32)
            exact = getattr(np, expr.op)(operand.astype(np.float64))
        assert_close_by(native(expr, values), exact, 2)
    else:
        np.testing.assert_array_equal(native(expr, values), expected(expr, values))


TIED = [
    "abs(score)",
    "max(score, 1.0)",
    "min(1.0, score * score)",
    "max(score, min(score, -3.5) + 0.0)",
    "where(score > 0.0, score * 2.0, abs(score - 1.0))",
    "sqrt(score)",
    "score / (score - 1.0)",
    "1.0 / score",
    "30.0 * tanh(score / 30.0)",
    "log(score) * exp(score) - exp(-score)",
    "where(kv_pos < q_pos, 0.0, score)",
    "score - [0.5, 0.25][head] * abs(q_pos - kv_pos)",
    "where(score < 0.0, 1, 2) / 3.0",
    "0.5 * q_pos",
]


def assert_slopes(expr: Expr, values: dict[str, Array]) -> None:
    rest: dict[str, Any] = {name: jnp.asarray(value) for name, value in values.items() if name != "score"}

    def of_score(score: jax.Array) -> jax.Array:
        return jnp.broadcast_to(evaluate(expr, jnp, score=score, **rest), score.shape)

    score = jnp.asarray(values["score"])
    wanted, wanted_slope = jax.jvp(of_score, (score,), (jnp.ones_like(score),))
    value, slope = native(expr, values, slope=True)
    np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slope, wanted_slope, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", TIED)
def test_the_slope_of_a_score_is_that_of_jax(text: str) -> None:
    assert_slopes(parse(text), drawn_values(3))


@settings(deadline=None, max_examples=30)
@given(smooth, st.integers(0, 1000))
def test_slopes_of_drawn_scores_are_those_of_jax(program: Any, seed: int) -> None:
    expr = built(program)
    if expr.kind == "float":
        assert_slopes(expr, drawn_values(seed))


EDGES = np.array([0, 1, -1, 2, -2, 6, 7, -7, 8, 2**30, 2**31 - 2, 2**31 - 1, -(2**31) + 1, -(2**31)], np.int32)


@pytest.mark.any_jax
def test_division_rounds_down_for_all_signs_and_edges() -> None:
    left, right = (axis.ravel() for axis in np.meshgrid(EDGES, EDGES))
    values = {"q_pos": left, "q_segment": right}
    for op in ("//", "%"):
        expr = apply(op, Var("q_pos"), Var("q_segment"))
        np.testing.assert_array_equal(native(expr, values), expected(expr, values))
        for divisor in (3, -7, 10, 16, 2**31 - 1, -(2**31)):
            expr = apply(op, Var("q_pos"), divisor)
            np.testing.assert_array_equal(native(expr, values), expected(expr, values))
        expr = Apply(op, (Var("q_pos"), Const(-1)))
        np.testing.assert_array_equal(native(expr, values), expected(expr, values))
        for divisor in EDGES:
            scalar = values | {"head": np.full(left.shape, divisor)}
            for expr in (apply(op, Var("q_pos"), Var("head")), apply(op, Var("head"), Var("head"))):
                np.testing.assert_array_equal(native(expr, scalar), expected(expr, scalar))


@pytest.mark.any_jax
@pytest.mark.parametrize("name", VECTOR_UNITS)
def test_vectors_are_divided_without_dividing_each_lane(name: str) -> None:
    unit = VECTOR_UNITS[name]
    host()  # llvmlite compiles for all units on any machine
    names = ("q_pos", "q_segment")
    for text in ("q_pos // q_segment", "q_pos % q_segment", "q_pos // 7", "q_pos % 12"):
        module = Module()
        vector = I32.vector(unit.lanes)
        f = module.function("run", vector, [(name, vector) for name in names])
        f.give_back(expressions.compiled(f, parse(text), f.parameters, unit.lanes))
        listing = machine.assembly(str(module), unit)
        assert "idiv" not in listing
        assert "sdiv" not in listing


@pytest.mark.any_jax
def test_ids_of_64_bits_are_compared_and_mixed_in_64_bits() -> None:
    ids = np.array([7, 7 + 2**32, -1, 2**62], np.int64)
    values = {
        "q_segment": np.repeat(ids, 4),
        "kv_pos": np.full(16, 3, np.int32),
        "q_pos": np.arange(16, dtype=np.int32),
    }
    for lane_values in (np.tile(ids, 4), np.full(16, ids[1])):
        every = values | {"kv_segment": lane_values}
        scalars = () if len(set(lane_values)) > 1 else SCALARS
        for text in (
            "q_segment == kv_segment",
            "q_segment - kv_segment",
            "min(q_pos, q_segment) // 3",
            "[10, 20, 30][q_segment]",
            "q_segment % (kv_segment - kv_pos - 4)",
        ):
            np.testing.assert_array_equal(native(parse(text), every, scalars), expected(parse(text), every))


@pytest.mark.any_jax
def test_tables_clip_their_index_and_are_read_by_scalars_and_vectors() -> None:
    draw = np.random.default_rng(5)
    values = {name: draw.integers(-5, 100, 40).astype(np.int32) for name in ("q_pos", "kv_pos")}
    values["q_pos"][:3] = [-(2**31), 2**31 - 1, -1]
    values["head"] = np.full(40, 2, np.int32)
    many = draw.integers(-(2**31), 2**31, 90).tolist()
    for entries in ([True, False, True], [bool(number & 1) for number in many], [0.25, -1e30, 3.0], many):
        for name in ("q_pos", "head"):
            expr = masks.table_of(entries, Var(name))
            np.testing.assert_array_equal(native(expr, values), expected(expr, values))


def test_positions_may_be_floats_and_are_cut_to_integers_as_in_jax() -> None:
    positions = np.array([0.9, -0.9, 7.0, 1e9, 3e9, -3e9, math.inf, -math.inf, math.nan, 2.5], np.float32)
    expr = Var("q_pos")
    wanted = evaluate(expr, jnp, q_pos=jnp.asarray(positions))
    np.testing.assert_array_equal(native(expr, {"q_pos": positions}), wanted)
    values = {"q_pos": np.arange(10, dtype=np.int32), "kv_pos": np.full(10, 4.75, np.float32)}
    np.testing.assert_array_equal(native(masks.causal, values), np.arange(10) >= 4)


@pytest.mark.any_jax
def test_a_constant_mask_fills_all_lanes_and_a_scalar_needs_no_vector() -> None:
    values = {"q_pos": np.arange(8, dtype=np.int32)}
    assert native(masks.full, values).all()
    f = Module().function("run", I1, [("head", I32)])
    assert expressions.compiled(f, parse("head < 3"), f.parameters, 0).type == I1


@pytest.mark.any_jax
def test_a_part_that_occurs_twice_is_computed_once() -> None:
    f = Module().function("run", None, [("score", F32.vector(8))])
    expr = parse("tanh(score / 3.0) * tanh(score / 3.0) + abs(tanh(score / 3.0))")
    expressions.with_slope(f, expr, f.parameters, 8)
    alone = Module().function("run", None, [("score", F32.vector(8))])
    expressions.compiled(alone, parse("tanh(score / 3.0)"), alone.parameters, 8)
    assert str(f).count("llvm.copysign") == str(alone).count("llvm.copysign") == 1


@pytest.mark.any_jax
@pytest.mark.parametrize(
    ("text", "values", "message"),
    [
        ("q_pos < kv_pos", {"q_pos": I32}, "needs a value for kv_pos"),
        ("q_pos < 3", {"position": I32}, "no name 'position'"),
        ("q_pos < 3", {"q_pos": I32.vector(4)}, "q_pos is <4 x i32>; a variable must be a scalar or have 8 lanes"),
        ("score * 2.0", {"score": BF16.vector(8)}, "score is <8 x bfloat>; it must be f32"),
        ("q_pos < 3", {"q_pos": BF16}, "q_pos is bfloat; it must be a signed integer, f32 or f64"),
    ],
)
def test_errors(text: str, values: dict[str, Type], message: str) -> None:
    f = Module().function("run", None, list(values.items()))
    with pytest.raises(RopegenError) as caught:
        expressions.compiled(f, parse(text), f.parameters, 8)
    assert message in str(caught.value)


@pytest.mark.any_jax
def test_only_a_score_has_a_slope() -> None:
    f = Module().function("run", None, [("q_pos", I32)])
    with pytest.raises(RopegenError, match="only a score has a derivative"):
        expressions.with_slope(f, masks.prefix(3), f.parameters, 8)
