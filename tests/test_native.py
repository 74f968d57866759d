"""The writer of native code and its arithmetic, as small compiled functions against NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np
import pytest
from native import Array, host, run

from ropegen.errors import RopegenError
from ropegen.native import machine, vectors
from ropegen.native.ir import F16, F32, F64, I1, I8, I16, I32, I64, POINTER, Function, Module, Type, Value


def scratch_function(**parameters: Type) -> Function:
    return Module().function("run", None, list(parameters.items()))


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# Control ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_loops_carry_values_and_may_run_no_round(known: bool, count: int) -> None:
    numbers, results = np.arange(count + 1, dtype=np.int64) + 3, np.zeros(3, np.int64)

    def write(f: Function, arrays: Sequence[Value]) -> None:
        given, stop, out = arrays
        end: int | Value = count if known else f.load(I64, stop)
        total, last = f.loop(0, end, 2, lambda i, total, _: [total + f.load(I64, given, i), i], [f.i64(5), f.i64(-1)])
        f.store(total, out, 0)
        f.store(last, out, 1)
        with f.range(0, end, 2) as index:
            f.store(f.load(I64, out, 2) + index, out, 2)

    run(write, numbers, np.array([count]), results)
    rounds = range(0, count, 2)
    assert results.tolist() == [5 + sum(i + 3 for i in rounds), max(rounds, default=-1), sum(rounds)]


def test_conditions_and_branches_inside_of_a_loop() -> None:
    results = np.zeros((2, 10), np.int64)

    def write(f: Function, arrays: Sequence[Value]) -> None:
        with f.range(0, 10) as index:
            (value,) = f.branch(index < 4, lambda: [index * 10], lambda: f.branch(
                index.equals(7), lambda: [f.i64(-7)], lambda: [index + 100]
            ))  # fmt: skip
            f.store(value, arrays[0], index)
            with f.when((index % 3).equals(0)), f.when(index > 0):
                f.store(value, arrays[0], index + 10)

    run(write, results)
    expected = [i * 10 if i < 4 else -7 if i == 7 else i + 100 for i in range(10)]
    assert results[0].tolist() == expected
    assert results[1].tolist() == [value if i % 3 == 0 and i else 0 for i, value in enumerate(expected)]


def test_integers_are_compared_with_sign_and_divided_without() -> None:
    numbers, results = np.array([-8, 3], np.int64), np.zeros(8, np.int64)

    def write(f: Function, arrays: Sequence[Value]) -> None:
        left, right = f.load(I64, arrays[0], 0), f.load(I64, arrays[0], 1)
        values = [
            f.convert(left < right, I64), left // right, left % right, left >> 1, left & right, left ^ right, 1 - left,
            f.convert(f.convert(left, I8), I64, signed=False),
        ]  # fmt: skip
        for place, value in enumerate(values):
            f.store(value, arrays[1], place)

    run(write, numbers, results)
    unsigned = 2**64 - 8
    assert results.tolist() == [1, unsigned // 3, unsigned % 3, unsigned >> 1, -8 & 3, -8 ^ 3, 9, 256 - 8]


def test_known_numbers_are_computed_while_the_code_is_written() -> None:
    f = scratch_function(x=I32, v=I32.vector(4))
    x, vector = f.parameters["x"], f.parameters["v"]
    number = f.value(I32, 2**31 - 1)
    assert (number + 1).constant == -(2**31)  # as the processor wraps
    assert (f.value(I32, -8) // 3).constant == (2**32 - 8) // 3
    assert (f.i64(7) * 6 % 5).constant == 2
    assert f.convert(f.value(I8, -1), I32, signed=False).constant == 255
    assert f.convert(f.value(I8, -1), F32).constant == -1.0
    assert f.value(F32, 0.1).constant == float(np.float32(0.1))
    assert f.value(F32, 1e300).constant == math.inf
    assert x + 0 is x
    assert 1 * vector is vector
    assert (x * 0).constant == 0
    assert not str(f).split("{")[1].strip("\n}entry: ")  # no instruction was written


def test_operands_of_two_types_are_refused() -> None:
    f = scratch_function(x=I32, y=I64, v=F32.vector(4))
    x, y, v = f.parameters.values()
    for combine, message in (
        (lambda: x + y, "run: %y is i64; i32 is needed"),
        (lambda: v * x, "run: %x is i32; <4 x float> is needed"),
        (
            lambda: f.loop(0, 2, 1, lambda i, total: [x], [y]),
            "a loop carries 1 values, and its body returns other ones",
        ),
    ):
        with pytest.raises(RopegenError, match=message):
            combine()
    with pytest.raises(TypeError, match="use `when`, `branch` or `select`"):
        bool(x < 3)


# Vectors and memory -----------------------------------------------------------------------------------------------


def test_transposes_shuffles_and_reductions() -> None:
    lanes = host().lanes
    square, results = random(lanes, lanes), np.zeros((lanes + 1, lanes), np.float32)

    def write(f: Function, arrays: Sequence[Value]) -> None:
        kind = F32.vector(lanes)
        rows = [f.load(kind, arrays[0], row * lanes) for row in range(lanes)]
        for place, column in enumerate(f.transpose(rows)):
            f.store(column, arrays[1], place * lanes)
        reduced = [f.reduce(name, rows[0]) for name in ("add", "maximum", "minimum")]
        last = f.shuffle(rows[1], rows[2], [lanes] * lanes)
        for lane, value in enumerate(reduced):
            last = f.insert(last, value, lane)
        f.store(last, arrays[1], lanes * lanes)

    run(write, square, results)
    np.testing.assert_array_equal(results[:lanes], square.T)
    np.testing.assert_allclose(results[lanes, 0], square[0].sum(dtype=np.float64), rtol=1e-6)
    assert results[lanes, 1:4].tolist() == [square[0].max(), square[0].min(), square[2, 0]]


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_masked_loads_and_stores_touch_only_their_lanes(dtype: str) -> None:
    lanes = host().lanes
    kind = np.dtype({"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16}[dtype])
    given = random(lanes).astype(kind)
    for count in range(lanes + 1):
        results = np.full((2, lanes), 7, kind)

        def write(f: Function, arrays: Sequence[Value], count: int = count) -> None:
            shown = (vectors.first_lanes(f, lanes, count), vectors.first_lanes(f, lanes, f.load(I64, arrays[1])))
            for row, some in enumerate(shown):
                loaded = vectors.load_f32(f, dtype, lanes, arrays[0], 0, some)
                vectors.store_f32(f, dtype, loaded + 1.0, arrays[2], row * lanes, some)

        run(write, given, np.array([count]), results)
        expected = np.full(lanes, 7, kind)
        expected[:count] = (given[:count].astype(np.float32) + 1).astype(kind)
        np.testing.assert_array_equal(results, [expected, expected])


def test_gathered_elements() -> None:
    lanes = host().lanes
    table, indices, results = random(100), np.arange(lanes, dtype=np.int32) * 7 % 100, np.zeros(lanes, np.float32)

    def write(f: Function, arrays: Sequence[Value]) -> None:
        gathered = f.gather(F32.vector(lanes), arrays[0], f.load(I32.vector(lanes), arrays[1]))
        f.store(gathered, arrays[2])

    run(write, table, indices, results)
    np.testing.assert_array_equal(results, table[indices])


# Numbers ------------------------------------------------------------------------------------------------------------

SPECIAL = np.array(
    [
        0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0, 1e-40, -1e-40, 1e-45, 2.0**-126, 3e38, -3e38, -87.4, -104.0,
        88.7228, 88.73, 0.625, -0.625, 2.0**-0.5, 2.0**0.5, 65504.0, 65519.9, 65520.0, 3.3895e38, 1e-8, 6e-8,
    ],
    np.float32,
)  # fmt: skip


def mapped(function: Callable[[Function, Value], Value], numbers: Array) -> Array:
    """A function of registers of float32, over an array."""
    lanes = host().lanes
    given = np.pad(numbers.astype(np.float32), (0, -len(numbers) % lanes))
    results = np.zeros_like(given)

    def write(f: Function, arrays: Sequence[Value]) -> None:
        with f.range(0, len(given), lanes) as index:
            f.store(function(f, f.load(F32.vector(lanes), arrays[0], index)), arrays[1], index)

    run(write, given, results)
    return results[: len(numbers)]


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_half_precision_rounds_to_even_and_keeps_nan(dtype: str) -> None:
    lanes = host().lanes
    kind = np.dtype({"f16": np.float16, "bf16": ml_dtypes.bfloat16}[dtype])
    every = np.arange(2**16, dtype=np.uint16).view(kind)  # all numbers of the type
    with np.errstate(all="ignore"):
        middles = (every[:-1].astype(np.float64) + every[1:].astype(np.float64)) / 2  # the ties between neighbours
    numbers = np.concatenate([every.astype(np.float32), middles.astype(np.float32), SPECIAL])
    numbers = np.pad(numbers, (0, -len(numbers) % lanes))
    narrow, wide = np.zeros(len(numbers), kind), np.zeros(len(numbers), np.float32)

    def write(f: Function, arrays: Sequence[Value]) -> None:
        with f.range(0, len(numbers), lanes) as index:
            vectors.store_f32(f, dtype, f.load(F32.vector(lanes), arrays[0], index), arrays[1], index)
            f.store(vectors.load_f32(f, dtype, lanes, arrays[1], index), arrays[2], index)

    run(write, numbers, narrow, wide)
    with np.errstate(all="ignore"):
        expected = numbers.astype(kind).astype(np.float32)
    for results in (narrow.astype(np.float32), wide):
        np.testing.assert_array_equal(results, expected)
        np.testing.assert_array_equal(np.signbit(results)[expected == 0], np.signbit(expected)[expected == 0])


INPUTS = {
    "exp": lambda draw: draw.uniform(-104, 89, 200_000),
    "log": lambda draw: np.concatenate([np.exp(draw.uniform(-103, 88, 100_000)), draw.uniform(0.5, 2, 100_000)]),
    "tanh": lambda draw: np.concatenate([draw.uniform(-10, 10, 100_000), np.exp(draw.uniform(-80, 1, 100_000))]),
}


@pytest.mark.parametrize("name", INPUTS)
def test_functions_are_within_two_units_of_the_last_place(name: str) -> None:
    numbers = np.concatenate([INPUTS[name](np.random.default_rng(1)).astype(np.float32), SPECIAL])
    results = mapped(getattr(vectors, name), numbers)
    with np.errstate(all="ignore"):
        exact = getattr(np, name)(numbers.astype(np.float64))
        nearest = exact.astype(np.float32)
        finite = np.isfinite(nearest)
        error = np.abs(results[finite] - exact[finite]) / np.spacing(np.abs(nearest[finite]))
    np.testing.assert_array_equal(results[~finite], nearest[~finite])
    np.testing.assert_array_equal(np.signbit(results[finite]), np.signbit(nearest[finite]))
    assert error.max() <= 2


def test_powers_of_two() -> None:
    numbers = np.random.default_rng(2).uniform(-126, 0, 200_000).astype(np.float32)
    exact = np.exp2(numbers.astype(np.float64))
    assert np.abs(mapped(vectors.exp2, numbers) / exact - 1).max() < 2e-7
    edges = np.array([0.0, -0.0, -1.0, -126.0, -127.5, -1e30, -math.inf, math.nan], np.float32)
    np.testing.assert_array_equal(mapped(vectors.exp2, edges), [1, 1, 0.5, 2.0**-126, 0, 0, 0, math.nan])


def test_the_smaller_and_the_larger_number_keep_nan() -> None:
    left, right = (axis.ravel() for axis in np.meshgrid(SPECIAL, SPECIAL))
    lanes = host().lanes
    for name in ("minimum", "maximum"):
        results = np.zeros_like(left)
        padded = [np.pad(part, (0, -len(left) % lanes)) for part in (left, right, results)]

        def write(f: Function, arrays: Sequence[Value], name: str = name, size: int = len(padded[0])) -> None:
            with f.range(0, size, lanes) as index:
                parts = [f.load(F32.vector(lanes), array, index) for array in arrays[:2]]
                f.store(getattr(vectors, name)(f, *parts), arrays[2], index)

        run(write, *padded)
        np.testing.assert_array_equal(padded[2][: len(left)], getattr(np, name)(left, right))


# The fits of the polynomials ----------------------------------------------------------------------------------------


def error_of(
    function: Callable[[Array], Array], approximation: Callable[[Array], Array], low: float, high: float
) -> float:
    x = np.linspace(low, high, 100_001)
    x = x[x != 0]
    return float(np.abs(approximation(x) / function(x) - 1).max())


def test_the_polynomials_have_the_error_that_their_comments_state() -> None:
    def of(name: str) -> Callable[[Array], Array]:
        return np.polynomial.Polynomial(getattr(vectors, name))

    half = math.log(2) / 2
    assert error_of(np.exp2, lambda x: 1 + x * of("_EXP2")(x), -0.5, 0.5) < 9.4e-8
    assert error_of(np.exp, lambda x: 1 + x + x**2 * of("_EXP")(x), -half, half) < 3.2e-9
    assert error_of(np.log1p, lambda x: x - x**2 / 2 + x**3 * of("_LOG")(x), 0.5**0.5 - 1, 2**0.5 - 1) < 5.9e-9
    assert error_of(np.tanh, lambda x: x + x**3 * of("_TANH")(x**2), 1e-3, 0.625) < 4.6e-9


def test_a_constant_table_is_written_once() -> None:
    module = Module()
    assert module.table(F32, (1.0, 2.0)) == module.table(F32, (1.0, 2.0)) != module.table(F64, (1.0, 2.0))
    assert str(module).count("private constant") == 2
    assert str(F16.vector(4)) == "<4 x half>"
    assert str(I1) == "i1"
    assert (I16.vector(8).size, POINTER.size) == (16, 8)


def test_code_that_cannot_be_linked_is_refused() -> None:
    module = Module()
    module.function("run", None, []).give_back()
    code = machine.object_code(str(module), host())
    for damaged, name in ((code, "other"), (code[: len(code) // 2], "run"), (b"", "run")):
        with pytest.raises(RopegenError, match=f"the object code of '{name}' cannot be linked"):
            machine.load(damaged, name)
