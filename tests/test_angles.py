"""Cosines and sines in programs: the source of their tables, and their accuracy at large positions."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ropegen as rg
from ropegen import explanation as explain
from ropegen import scaling
from ropegen.planner import LARGEST_CONSTANT

ULP_OF_ONE = 2.0**-23


def exact(positions: np.ndarray, theta: float, width: int) -> np.ndarray:
    """Cosines, then sines; whole turns are removed in integers with a product of 80 bits, without a library's reduction."""
    rows = []
    for position in positions.tolist():
        turns = []
        for pair in range(width // 2):
            frequency = theta ** (-2 * pair / width)
            numerator, denominator = frequency.as_integer_ratio()
            two_pi = 0x6487ED5110B4611A62633145C06E0E68  # times 2**-124
            turns.append((position * numerator * 2**124 // denominator % two_pi) / 2**124)
        rows.append([*np.cos(turns), *np.sin(turns)])
    return np.array(rows)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=20), st.sampled_from([1e4, 5e5, 1e6]))
def test_angles_of_any_position_are_within_an_ulp(positions: list[int], theta: float) -> None:
    """Known and run-time positions, op by op: within half an ulp of 1 plus the rounding of the frequency in float64."""
    at, rope = np.array(positions, np.int32), rg.Rope(theta, pairing="half")
    truth = exact(at, theta, 32)
    result = rg.rope_table(jnp.asarray(at), rope, 32)
    assert np.abs(np.asarray(result, np.float64) - truth).max() <= ULP_OF_ONE / 2 + 2.0**31 * 2.0**-53


@pytest.mark.parametrize("how", ["known", "run time", "computed"])
def test_a_million_positions_on_angles_are_exact_and_those_of_the_seeds_are_not(how: str) -> None:
    positions = np.arange(999_936, 1_000_064)
    rope = rg.Rope(10_000.0, pairing="half")
    if how == "known":
        result = rg.rope_table(positions, rope, 64)
    elif how == "run time":
        result = jax.jit(lambda at: rg.rope_table(at, rope, 64))(jnp.asarray(positions))
    else:
        b = rg.Builder("computed")
        graph = b.build(out=b.angles(b.positions(128, 999_936), rope, 64))
        result = rg.plan(graph, "cpu", tables="computed").compile()()
    truth = exact(positions, 10_000.0, 64)
    assert np.abs(np.asarray(result, np.float64) - truth).max() <= ULP_OF_ONE

    pytest.importorskip("penzai", reason="the seeds' own error: pip install '.[penzai]'")
    from penzai import pz

    layer = pz.nn.ApplyRoPE(embedding_axis="d", max_wavelength=10_000, positions_input_name="at")
    ones = pz.nx.wrap(jnp.concatenate([jnp.ones((128, 32)), jnp.zeros((128, 32))], -1), "s", "d")
    turned = layer(ones, at=pz.nx.wrap(jnp.asarray(positions), "s"))
    theirs = np.asarray(turned.unwrap("s", "d"), np.float64)
    assert np.abs(theirs - truth).max() > 1e-2  # 100,000 times as far


# The source of tables ------------------------------------------------------------------------------------------------


def front_end(length: int, *, parameters: bool) -> rg.Graph:
    b = rg.Builder("tables")
    x = b.input("x", (length, 2, 64), "f32")
    if parameters:
        x = b.norm(x, b.parameter("weight", (64,), "f32"), kind="rms", epsilon=1e-6)
    at = b.positions(length)
    turned = b.rope(x, at, rg.Rope(1e4, pairing="half"))
    encoded = b.sinusoid(at, 64, pairing="half")
    return b.build(turned=turned, encoded=encoded)


@pytest.mark.parametrize("tables", ["constant", "argument", "computed"])
def test_a_table_is_the_same_wherever_it_comes_from(tables: Any) -> None:
    graph = front_end(40, parameters=True)
    made = rg.plan(graph, "cpu", tables=tables)
    rng = np.random.default_rng(0)
    inputs = {"x": rng.normal(size=(40, 2, 64)).astype(np.float32)}
    weight = {"weight": np.ones(64, np.float32)}
    truth = rg.reference.evaluate(graph, {**inputs, **weight})
    for out in (made.compile()(**inputs, **weight), made.compile().bind(**weight)(**inputs)):
        for label, value in truth.items():
            np.testing.assert_allclose(out[label], value, atol=1e-6)
    assert len(made.prepared) == (2 if tables == "argument" else 0)


@pytest.mark.parametrize("tables", ["argument", "computed"])
def test_an_artifact_takes_its_tables_from_where_the_plan_says(tables: Any, tmp_path: Any) -> None:
    """Without the constants the module is small; prepared tables are its arguments, in both of its forms."""
    graph = front_end(600, parameters=True)
    constant = rg.export(graph, tmp_path / "constant", targets=["cpu", "tpu:v5e"], tables="constant")
    other = rg.export(graph, tmp_path / tables, targets=["cpu", "tpu:v5e"], tables=tables)
    size = {made: (made.directory / "module.mlirbc").stat().st_size for made in (constant, other)}
    assert size[constant] > 300_000 > 30_000 > size[other]
    inputs = {"x": np.ones((600, 2, 64), np.float32), "weight": np.ones(64, np.float32)}
    wanted, result = constant(**inputs), other(**inputs)
    for label in wanted:
        np.testing.assert_allclose(result[label], wanted[label], atol=2e-6)


def test_large_tables_are_no_constants() -> None:
    rows = LARGEST_CONSTANT // (64 * 4)
    for length, parameters, kind in (
        (rows, False, "constant"),
        (rows + 1, True, "argument"),
        (rows + 1, False, "computed"),
    ):
        facts = explain.data(rg.plan(front_end(length, parameters=parameters), "gpu:h200"))
        tables = [table for step in facts["steps"] for table in step["angles"]]
        assert [table["table"] for table in tables] == [kind, kind]
        assert all(table["bytes"] == length * 64 * 4 for table in tables)
        assert facts["totals"]["prepared_bytes"] == (2 * length * 64 * 4 if kind == "argument" else 0)


def test_an_unknown_place_for_tables_is_named() -> None:
    with pytest.raises(rg.RopegenError, match="'constant'"):
        rg.plan(front_end(4, parameters=False), "cpu", tables="constnat")  # pyright: ignore[reportArgumentType]


# Warnings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "words"), [("bf16", "only to 256"), ("f16", "only to 2,048"), ("i32", "")])
def test_positions_in_half_precision_are_warned_of(dtype: str, words: str) -> None:
    b = rg.Builder("positions")
    graph = b.build(out=b.rope(b.input("x", (8, 1, 4), "f32"), b.input("at", (8,), dtype), rg.Rope(pairing="half")))
    warnings = explain.data(rg.plan(graph, "cpu"))["warnings"]
    assert (len(warnings) == 1 and words in warnings[0]) if words else not warnings


def test_xpos_magnitudes_are_checked_before_they_overflow() -> None:
    """The smallest base of 64 features is 0.4 / 1.4; its power falls below 2**-126 after 87.3 / ln(3.5) * 512 positions."""
    rope = rg.Rope(pairing="half", scaling=scaling.xpos(base=512.0, centre=100.0))
    reach = 126 * np.log(2) / np.log(3.5) * 512
    first, last = rope.magnitude_range(64) or (0, 0)
    np.testing.assert_allclose([first, last], [100 - reach, 100 + reach], rtol=1e-12)
    b = rg.Builder("xpos")
    x = b.input("x", (2, 1, 64), "f32")
    held = b.build(out=b.rope(x, b.positions(2, int(last) - 1), rope))
    assert np.isfinite(rg.plan(held, "cpu").compile()(x=np.ones((2, 1, 64), np.float32))).all()
    beyond = b.build(out=b.rope(x, b.positions(2, int(last)), rope))
    with pytest.raises(rg.RopegenError, match="larger base"):
        rg.plan(beyond, "tpu:v5e")
    at_run_time = b.build(out=b.rope(x, b.input("at", (2,), "i32"), rope))
    (warning,) = explain.data(rg.plan(at_run_time, "cpu"))["warnings"]
    assert f"{last:,.0f}" in warning
