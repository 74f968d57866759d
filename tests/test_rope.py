"""Frequency families, angle tables and the reading of model configs, against formulas written out again here.

The truth is integer arithmetic: a frequency in turns per position is an integer over 2**160, so removing the whole turns
of an angle rounds nothing, at any position.
"""

from __future__ import annotations

import decimal
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import (
    DEEPSEEK_V3,
    GEMMA3_1B,
    GEMMA3_4B,
    GEMMA4,
    GPT_J,
    GPT_OSS,
    LLAMA_31,
    PHI4_MINI,
    PHI35_MINI,
    PYTHIA_1B,
    QWEN2_VL,
    QWEN3_VL,
    QWEN25_YARN,
)

from ropegen import scaling
from ropegen.errors import RopegenError
from ropegen.rotary import Rope, fixed_point
from ropegen.types import numpy_dtype

BITS = 160
drawn = settings(deadline=None, max_examples=60)


def arctangent_of_reciprocal(number: int, bits: int) -> int:
    """The integer atan(1 / number) * 2**bits, from the series."""
    power = (1 << bits) // number
    total, order = power, 1
    while power:
        power //= -(number * number)
        order += 2
        total += power // order
    return total


PI = 16 * arctangent_of_reciprocal(5, 320) - 4 * arctangent_of_reciprocal(239, 320)  # pi * 2**320, Machin


def decimal_pi() -> decimal.Decimal:
    return decimal.Decimal(PI) / decimal.Decimal(2) ** 320


def true_turns(theta: float, dim: int) -> list[int]:
    """The frequencies theta ** (-2j / dim) / (2 pi) * 2**BITS of all pairs j, to sixty decimal digits."""
    with decimal.localcontext() as context:
        context.prec = 70
        log = decimal.Decimal(theta).ln()
        per_turn = decimal.Decimal(2) ** BITS / (2 * decimal_pi())
        return [int((-log * 2 * j / dim).exp() * per_turn) for j in range(dim // 2)]


def turns_of(frequencies: np.ndarray) -> list[int]:
    """Float64 radians per position, converted to turns * 2**BITS without rounding the radians."""
    return [
        numerator * (1 << (BITS + 320)) // (denominator * 2 * PI)
        for numerator, denominator in (float(value).as_integer_ratio() for value in frequencies)
    ]


def true_table(positions: np.ndarray, turns: list[int]) -> np.ndarray:
    """The cosines, then sines, of integer positions (S,) in float64: (S, dim)."""
    whole = 1 << BITS
    angles = np.array(
        [[(position * turn % whole) / whole * (2 * math.pi) for turn in turns] for position in positions.tolist()]
    )
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)


def rotate(x: np.ndarray, table: np.ndarray, pairing: str) -> np.ndarray:
    half = x.shape[-1] // 2
    cos, sin = table[..., :half].astype(np.float64), table[..., half:].astype(np.float64)
    if pairing == "half":
        first, second = x[..., :half], x[..., half:]
        return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    first, second = x[..., 0::2], x[..., 1::2]
    return np.stack([first * cos - second * sin, second * cos + first * sin], axis=-1).reshape(x.shape)


def plain(theta: float, dim: int) -> list[float]:
    return [math.exp(-2 * j / dim * math.log(theta)) for j in range(dim // 2)]


EIGHT = [1.0 + 0.25 * j for j in range(8)]
FAMILIES = [
    scaling.none(),
    scaling.linear(4),
    scaling.dynamic(2, 64),
    scaling.yarn(8, 128),
    scaling.yarn(32, 4096, attention_factor=0.7, truncate=False),
    scaling.yarn(40, 4096, mscale=0.707, mscale_all_dim=1.0),
    scaling.longrope(EIGHT, [3 * number for number in EIGHT], 64, factor=16),
    scaling.llama3(factor=8, low=1, high=4, original=256),
    scaling.proportional(0.5, 2),
    scaling.xpos(64, centre=-3.5),
]
NAMES = [f"{i}-{family.kind}" for i, family in enumerate(FAMILIES)]
families = pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
even = st.integers(2, 64).map(lambda half: 2 * half)
thetas = st.floats(10.0, 1e7)
factors = st.floats(1.0, 64.0)
contexts = st.integers(256, 1 << 18)


# -- tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theta", "dim"), [(10_000.0, 64), (500_000.0, 128), (1_000_000.0, 96)])
def test_exact_tables_round_the_true_value_once(theta: float, dim: int) -> None:
    rope = Rope(theta, pairing="half")
    positions = np.concatenate([np.arange(4096)[::7], [4095, 1_000_000, -1_000_000]])
    error = np.abs(rope.table(positions, dim) - true_table(positions, true_turns(theta, dim)))
    # Half a unit in the last place of float32 below 1 is 2**-25; the float64 angle adds a thousandth of it at 10**6.
    assert error[:-2].max() <= 2.0**-25 * 1.001 < 4.1e-7
    assert error.max() <= 2.0**-24
    assert rope.table(positions, dim).dtype == np.float32
    far = np.array([16_777_217, 2**31 - 1])  # beyond the integers that float32 can hold
    assert np.abs(rope.table(far, dim) - true_table(far, true_turns(theta, dim))).max() <= rope.angle_error(2**31)
    finer = rope.table(positions, dim, dtype="f64")
    assert finer.dtype == np.float64
    assert np.abs(finer - true_table(positions, true_turns(theta, dim))).max() <= rope.angle_error(1_000_000, "f64")


@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
def test_f32_tables_drift_within_the_stated_bound(theta: float) -> None:
    exact, seed = Rope(theta, pairing="half"), Rope(theta, pairing="half", angles="f32")
    turns = true_turns(theta, 64)
    for position, least in ((4095, 2e-5), (131_071, 5e-4), (1_000_003, 5e-3)):
        near = np.arange(position - 64, position)
        truth = true_table(near, turns)
        drift = np.abs(seed.table(near, 64) - truth).max()
        kept = np.abs(exact.table(near, 64) - truth).max()
        assert least < drift <= seed.angle_error(position)
        assert kept <= exact.angle_error(position) < 3.2e-8
    assert seed.angle_error(1 << 40) == 2.0


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16"])
def test_the_error_bound_counts_the_rounding_of_narrower_tables(dtype: str) -> None:
    rope, positions = Rope(pairing="half"), np.arange(512)
    truth = true_table(positions, true_turns(10_000.0, 64))
    error = np.abs(rope.table(positions, 64, dtype="f64").astype(numpy_dtype(dtype)).astype(np.float64) - truth).max()
    assert 0.9 * rope.angle_error(512, dtype) < error <= rope.angle_error(512, dtype)


@drawn
@given(theta=thetas, dim=even, position=st.integers(-(1 << 31), 1 << 31), factor=st.floats(0.05, 64.0))
def test_the_error_bound_holds_for_drawn_ropes(theta: float, dim: int, position: int, factor: float) -> None:
    # The truth multiplies the factor into the frequency in decimals, so that the family's rounding counts as error too.
    with decimal.localcontext() as context:
        context.prec = 70
        turns = [int(turn / decimal.Decimal(factor)) for turn in true_turns(theta, dim)]
    truth = true_table(np.array([position]), turns)
    for angles in ("exact", "f32"):
        rope = Rope(theta, pairing="half", scaling=scaling.linear(factor), angles=angles)
        error = np.abs(rope.table(np.array([position]), dim) - truth).max()
        assert error <= rope.angle_error(position)


def test_f32_takes_every_step_in_float32() -> None:
    positions, dim, theta = np.arange(2048), 96, np.float32(500_000)
    single = np.float32
    exponents = np.arange(0, dim, 2, dtype=single) / single(dim)
    # NumPy's float32 power is wrong in the last place on some processors.
    inverse = single(1) / np.array([math.pow(theta, exponent) for exponent in exponents], single)
    angles = positions.astype(single)[:, None] * inverse
    rope = Rope(500_000, pairing="half", angles="f32")
    expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)
    np.testing.assert_array_equal(rope.table(positions, dim), expected)
    np.testing.assert_array_equal(rope.inverse_frequencies(dim), inverse.astype(np.float64))


@families
def test_position_zero_turns_nothing(family: scaling.Scaling) -> None:
    if family.kind == "xpos":
        family = scaling.xpos(64)  # with the centre at zero the magnitude there is 1
    table = Rope(pairing="half", scaling=family).table([0], 16, length=8)
    np.testing.assert_array_equal(table[0, :8], np.float32(family.magnitude(8)))
    np.testing.assert_array_equal(table[0, 8:], 0)


@families
@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_scores_depend_on_distance_alone(family: scaling.Scaling, pairing: str) -> None:
    rng = np.random.default_rng(7)
    q, k = rng.normal(size=(2, 16))
    rope = Rope(pairing=pairing, scaling=family)

    def score(query: float, key: float) -> float:
        at_query = rope.table([query], 16, 100, dtype="f64")[0]
        at_key = rope.table([key], 16, 100, inverse=True, dtype="f64")[0]
        return float(rotate(q, at_query, pairing) @ rotate(k, at_key, pairing))

    for distance in (0, 1, 17, -5, 2.5):
        scores = [score(start + distance, start) for start in (0, 1, 90, -41, 0.25)]
        np.testing.assert_allclose(scores, scores[0], rtol=0, atol=1e-11 * 40)
    assert abs(score(9, 0) - score(3, 0)) > 1e-6
    # Attention factors multiply q and k alike; nothing else changes the length of an unmoved pair.
    assert score(50, 50) == pytest.approx(family.magnitude(100) ** 2 * float(q @ k), rel=1e-9)


def test_positions_keep_their_shape_sign_and_fraction() -> None:
    rope = Rope(pairing="interleaved", dim=4)
    positions = np.array([[0, 3, -3], [7, 1, 2]])
    table = rope.table(positions, 10)
    assert table.shape == (2, 3, 4)
    np.testing.assert_array_equal(table[0, 1, :2], table[0, 2, :2])
    np.testing.assert_array_equal(table[0, 1, 2:], -table[0, 2, 2:])
    assert rope.table(0.5, 10)[0] == np.float32(math.cos(0.5))
    np.testing.assert_array_equal(rope.table(positions.astype(np.float32), 10), table)


@drawn
@given(dim=even, base=st.floats(16.0, 4096.0), centre=st.floats(-50, 50), position=st.integers(-300, 300))
def test_xpos_magnitude(dim: int, base: float, centre: float, position: int) -> None:
    rope = Rope(pairing="half", scaling=scaling.xpos(base, centre))
    query = rope.table([position], dim, dtype="f64")[0]
    key = rope.table([position], dim, inverse=True, dtype="f64")[0]
    for j in range(dim // 2):
        expected = ((2 * j + 0.4 * dim) / (1.4 * dim)) ** ((position - centre) / base)
        assert math.hypot(query[j], query[j + dim // 2]) == pytest.approx(expected, rel=1e-12)
        assert math.hypot(key[j], key[j + dim // 2]) == pytest.approx(1 / expected, rel=1e-12)


# -- families --------------------------------------------------------------------------------------------------------


def got(family: scaling.Scaling, theta: float, dim: int, length: int | None = None) -> np.ndarray:
    return Rope(theta, pairing="half", scaling=family).inverse_frequencies(dim, length)


@drawn
@given(theta=thetas, dim=even, factor=factors, fraction=st.floats(0.01, 1.0))
def test_plain_linear_and_proportional(theta: float, dim: int, factor: float, fraction: float) -> None:
    expected = plain(theta, dim)
    np.testing.assert_allclose(got(scaling.none(), theta, dim), expected, rtol=1e-13)
    np.testing.assert_allclose(got(scaling.linear(factor), theta, dim), [f / factor for f in expected], rtol=1e-13)
    turning = int(fraction * dim // 2)
    part = [f / factor if j < turning else 0.0 for j, f in enumerate(expected)]
    np.testing.assert_allclose(got(scaling.proportional(fraction, factor), theta, dim), part, rtol=1e-13)


@drawn
@given(theta=thetas, dim=even, factor=factors, original=contexts, beyond=st.floats(0.1, 30.0))
def test_dynamic(theta: float, dim: int, factor: float, original: int, beyond: float) -> None:
    length = int(original * beyond)
    base = theta
    if length > original:
        base *= (factor * length / original - (factor - 1)) ** (dim / (dim - 2))
    np.testing.assert_allclose(got(scaling.dynamic(factor, original), theta, dim, length), plain(base, dim), rtol=1e-11)


@drawn
@given(theta=thetas, dim=even, factor=factors, original=contexts, low=st.floats(0.5, 4.0), more=st.floats(0.5, 30.0))
def test_llama3_by_wavelength(theta: float, dim: int, factor: float, original: int, low: float, more: float) -> None:
    high = low + more
    expected = []
    for frequency in plain(theta, dim):
        wavelength = 2 * math.pi / frequency
        if wavelength > original / low:
            frequency /= factor
        elif wavelength >= original / high:
            smooth = (original / wavelength - low) / (high - low)
            frequency = (1 - smooth) * frequency / factor + smooth * frequency
        expected.append(frequency)
    np.testing.assert_allclose(got(scaling.llama3(factor, low, high, original), theta, dim), expected, rtol=1e-11)


@drawn
@given(
    theta=thetas,
    dim=even,
    factor=factors,
    original=contexts,
    betas=st.tuples(st.floats(8.0, 64.0), st.floats(0.25, 7.0)),
    truncate=st.booleans(),
)
def test_yarn_ramp(
    theta: float, dim: int, factor: float, original: int, betas: tuple[float, float], truncate: bool
) -> None:
    # The pair with r turns over the original context solves original * theta ** (-2j / dim) = 2 pi r.
    first, last = (math.log(original / (2 * math.pi * r)) / math.log(theta) * dim / 2 for r in betas)
    if truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, dim - 1)
    family = scaling.yarn(factor, original, *betas, truncate=truncate)
    if last < first:
        with pytest.raises(RopegenError, match="no pair"):
            got(family, theta, dim)
        return
    expected = []
    for j, frequency in enumerate(plain(theta, dim)):
        share = min(max((j - first) / (last - first or 0.001), 0.0), 1.0)
        expected.append(frequency * (1 - share) + frequency / factor * share)
    np.testing.assert_allclose(got(family, theta, dim), expected, rtol=1e-9)


def test_yarn_ends_that_coincide_make_a_step() -> None:
    # 4096 / (8 * 2 pi) = 10,000 ** (j / 32) at j = 15.28, so no pair lies in between.
    ratio = got(scaling.yarn(4, 4096, 8, 8, truncate=False), 10_000, 64) / got(scaling.none(), 10_000, 64)
    np.testing.assert_array_equal(ratio, [1.0] * 16 + [0.25] * 16)


@drawn
@given(theta=thetas, lists=st.lists(st.tuples(st.floats(0.5, 60), st.floats(0.5, 60)), min_size=2, max_size=48))
def test_longrope_switches_past_the_original_length(theta: float, lists: list[tuple[float, float]]) -> None:
    short, long = [list(part) for part in zip(*lists, strict=True)]
    family, dim = scaling.longrope(short, long, 4096, factor=32), 2 * len(lists)
    for length, divisors in ((1, short), (4096, short), (4097, long)):
        expected = [f / divisor for f, divisor in zip(plain(theta, dim), divisors, strict=True)]
        np.testing.assert_allclose(got(family, theta, dim, length), expected, rtol=1e-13)


@families
def test_no_frequency_passes_the_fastest(family: scaling.Scaling) -> None:
    for length in (8, 4096):
        frequencies = got(family, 10_000.0, 16, length)
        assert frequencies.dtype == np.float64
        assert frequencies.max() <= family.fastest * (1 + 1e-15)
        assert frequencies.min() >= 0


# Values from tests/utils/test_modeling_rope_utils.py of transformers 5, for a width of 128, theta 10,000, a context of
# 2,048 and a factor of 10: four of 64 pairs per family.
PUBLISHED = [
    (scaling.dynamic(10, 2048), 16384, {1: 8.0931e-01, 21: 1.1760e-02, 42: 1.3830e-04, 63: 1.6265e-06}),
    (scaling.yarn(10, 2048), None, {16: 1.0e-01, 17: 8.3479e-02, 39: 6.2810e-04, 63: 1.1548e-05}),
    (scaling.llama3(10, 1, 4, 2048), None, {30: 1.3335e-02, 31: 1.0730e-02, 40: 3.4539e-04, 41: 2.7384e-04}),
    (scaling.proportional(0.25), None, {1: 8.6596e-01, 15: 1.1548e-01, 16: 0.0, 63: 0.0}),
]


@pytest.mark.parametrize(("family", "length", "values"), PUBLISHED, ids=[row[0].kind for row in PUBLISHED])
def test_published_frequencies(family: scaling.Scaling, length: int | None, values: dict[int, float]) -> None:
    frequencies = got(family, 10_000.0, 128, length)
    for pair, value in values.items():
        assert frequencies[pair] == pytest.approx(value, rel=6e-5)


def test_published_magnitudes_and_ranges() -> None:
    # Phi-3 128k, gpt-oss, Qwen2.5 with factor 4, DeepSeek-V3 and V2.
    assert scaling.longrope([1.0], [1.0], 4096, factor=32).magnitude() == pytest.approx(1.1902380714238083, rel=1e-15)
    assert scaling.yarn(32, 4096, truncate=False).magnitude() == pytest.approx(1.3465735902799727, rel=1e-15)
    assert scaling.yarn(4, 32768).magnitude() == pytest.approx(1.138629436111989, rel=1e-15)
    assert scaling.yarn(40, 4096, mscale=1, mscale_all_dim=1).magnitude() == 1.0
    assert scaling.yarn_attention_factor(40, 0.707) == pytest.approx(1.2608, abs=1e-4)
    # Llama-3.1-8B: pairs up to 28 are unchanged, pairs from 35 turn eight times slower, and six lie in between.
    ratio = got(scaling.llama3(8, 1, 4, 8192), 500_000, 128) / got(scaling.none(), 500_000, 128)
    assert (ratio == 1).sum() == 29
    assert (ratio == 1 / 8).sum() == 29
    assert np.all(np.diff(ratio[28:36]) < 0)
    # DeepSeek-V3 interpolates from pair 10 to pair 23 of 32.
    ratio = got(scaling.yarn(40, 4096, mscale=1, mscale_all_dim=1), 10_000, 64) / got(scaling.none(), 10_000, 64)
    assert ratio[10] == 1 > ratio[11]
    assert ratio[22] > ratio[23] == pytest.approx(1 / 40)
    # gpt-oss does not round the ends, 8.09 and 17.40, so pair 9 is already nearly a tenth of the way.
    ratio = got(scaling.yarn(32, 4096, truncate=False), 150_000, 64) / got(scaling.none(), 150_000, 64)
    assert ratio[9] == pytest.approx(1 - (9 - 8.0927) / (17.3980 - 8.0927) * 31 / 32, abs=1e-4)


# -- attributes, equality, errors ------------------------------------------------------------------------------------


@families
def test_attributes_round_trip(family: scaling.Scaling) -> None:
    attributes = family.to_attributes()
    assert attributes["kind"] == family.kind
    assert None not in attributes.values()
    again = scaling.from_attributes(attributes)
    assert again == family
    assert hash(again) == hash(family)
    assert type(again) is type(family)
    assert all(type(value) in (str, float, int, bool, tuple) for value in attributes.values())


@drawn
@given(factor=st.integers(1, 100), original=st.integers(2, 1 << 20), centre=st.floats(-1e6, 1e6))
def test_equal_however_written(factor: int, original: int, centre: float) -> None:
    pairs = [
        (scaling.linear(factor), scaling.linear(float(factor))),
        (scaling.dynamic(factor, original), scaling.dynamic(np.float32(factor), float(original))),
        (scaling.xpos(factor, centre), scaling.xpos(np.int64(factor), np.float64(centre))),
        (scaling.longrope([1, 2], [3, 4], 8, factor), scaling.longrope((1.0, 2.0), np.array([3, 4]), 8, factor)),
        (Rope(factor + 1, pairing="half", dim=2.0), Rope(factor + 1.0, pairing="half", dim=2)),
        (Rope(pairing="half", sections=[1, 2]), Rope(pairing="half", sections=(1, 2))),
    ]
    for one, other in pairs:
        assert one == other
        assert hash(one) == hash(other)
        assert repr(one) == repr(other)


def test_negative_zero_is_zero_and_families_differ() -> None:
    assert repr(scaling.xpos(8, -0.0)) == repr(scaling.xpos(8, 0.0))
    assert len(set(FAMILIES)) == len(FAMILIES)
    assert scaling.none() != scaling.proportional()
    assert scaling.linear(2) != scaling.linear(3)


BAD = [
    (lambda: scaling.linear(0), ["linear", "factor", "positive", "0.0"]),
    (lambda: scaling.linear(-2), ["positive", "-2"]),
    (lambda: scaling.linear(math.nan), ["factor", "finite", "nan"]),
    (lambda: scaling.linear(math.inf), ["finite", "inf"]),
    (lambda: scaling.linear(10**400), ["finite"]),
    (lambda: scaling.linear("4"), ["factor", "number", "'4'"]),
    (lambda: scaling.linear(True), ["number", "True"]),
    (lambda: scaling.dynamic(2, 10.5), ["original", "whole", "10.5"]),
    (lambda: scaling.llama3(8, 4, 1, 8192), ["low", "high", "4.0", "1.0"]),
    (lambda: scaling.llama3(8, 2, 2, 8192), ["low must be below high"]),
    (lambda: scaling.yarn(4, 4096, 1, 32), ["beta_fast", "beta_slow"]),
    (lambda: scaling.yarn(4, 4096, mscale=1.0), ["mscale_all_dim", "both or neither"]),
    (lambda: scaling.yarn(4, 4096, truncate=1), ["truncate", "true or false"]),
    (lambda: scaling.longrope([1.0], [1.0, 2.0], 8, factor=2), ["same length", "1", "2"]),
    (lambda: scaling.longrope([], [], 8, factor=2), ["short", "list of numbers"]),
    (lambda: scaling.longrope([1.0], [0.0], 8, factor=2), ["long", "positive"]),
    (lambda: scaling.longrope([1.0], ["x"], 8, factor=2), ["long[0]", "'x'"]),
    (lambda: scaling.longrope([1.0], [1.0], 8), ["factor=", "attention_factor="]),
    (lambda: scaling.proportional(1.5), ["fraction", "1.5"]),
    (lambda: scaling.xpos(0), ["base", "positive"]),
    (lambda: scaling.from_attributes({"kind": "lama3"}), ["'lama3'", "did you mean 'llama3'?"]),
    (lambda: scaling.from_attributes({"factor": 2.0}), ["unknown scaling kind None"]),
    (lambda: scaling.from_attributes({"kind": "linear", "facto": 2.0}), ["'facto'", "did you mean 'factor'?"]),
    (lambda: scaling.from_attributes({"kind": "llama3", "factor": 2.0}), ["needs low, high, original"]),
    (lambda: got(scaling.longrope(EIGHT, EIGHT, 64, factor=2), 1e4, 32, 8), ["16 pairs", "8 factors"]),
    (lambda: got(scaling.longrope(EIGHT, EIGHT, 64, factor=2), 1e4, 16), ["longrope", "length="]),
    (lambda: got(scaling.dynamic(2, 64), 1e4, 16), ["dynamic", "length="]),
    (lambda: got(scaling.dynamic(2, 64), 1e4, 2, 128), ["exceed 2"]),
    (lambda: got(scaling.yarn(2, 1), 1e4, 16), ["no pair", "original"]),
    (lambda: scaling.none().inverse_frequencies(1e4, 7), ["even", "7"]),
    (lambda: scaling.none().inverse_frequencies(1.0, 8), ["theta", "above 1"]),
    (lambda: scaling.none().inverse_frequencies(1e4, 8, -1), ["length", "-1"]),
    (Rope, ["pairing=", "'half'", "'interleaved'", "no default"]),
    (lambda: Rope(pairing="halves"), ["'halves'", "did you mean 'half'?", "2j + 1"]),
    (lambda: Rope(pairing="half", angles="f64"), ["'f64'", "exact", "f32"]),
    (lambda: Rope(1.0, pairing="half"), ["theta", "above 1"]),
    (lambda: Rope(math.inf, pairing="half"), ["theta", "finite"]),
    (lambda: Rope(pairing="half", dim=5), ["dim", "even", "5"]),
    (lambda: Rope(pairing="half", scaling="linear"), ["ropegen.scaling", "'linear'"]),
    (lambda: Rope(pairing="half", sections=3), ["sections", "list", "3"]),
    (lambda: Rope(pairing="half", sections=(2, 0)), ["from 1 to", "(2, 0)"]),
    (lambda: Rope(pairing="half", dim=8, sections=(1, 1)), ["2 pairs", "4"]),
    (lambda: Rope(pairing="half", interleaved_sections=True), ["needs sections="]),
    (lambda: Rope(pairing="half", sections=(1, 4, 1), interleaved_sections=True), ["dealt out", "(1, 4, 1)"]),
    (lambda: Rope(pairing="half", dim=64).width(32), ["64", "32"]),
    (lambda: Rope(pairing="half").width(7), ["even", "7"]),
    (lambda: Rope(pairing="half", sections=(2, 2)).axes(10), ["4 pairs", "5"]),
    (lambda: Rope(pairing="half").table([0], 8, dtype="bf16"), ["f32 or f64", "bf16"]),
    (lambda: Rope(pairing="half").table([True], 8), ["positions", "bool"]),
    (lambda: Rope(pairing="half").table([math.nan], 8), ["finite"]),
    (lambda: Rope(pairing="half").table([1 << 60], 8), ["2^53"]),
    (lambda: Rope(pairing="half", sections=(2, 2)).table([1, 2], 8), ["(2, ..., S)", "(2,)"]),
    (lambda: Rope(pairing="half", scaling=scaling.xpos(512)).table([131072], 64), ["larger base", "centre"]),
    (lambda: fixed_point(np.array([-1.0])), ["not negative"]),
    (lambda: fixed_point(np.array([math.nan])), ["finite"]),
]


@pytest.mark.parametrize(("mistake", "words"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_mistakes_say_what_is_wrong(mistake, words: list[str]) -> None:
    with pytest.raises(RopegenError) as caught:
        mistake()
    for word in words:
        assert word in str(caught.value)


# -- position axes ---------------------------------------------------------------------------------------------------


def test_sections_give_each_axis_its_pairs() -> None:
    runs = Rope(1e6, pairing="half", sections=(16, 24, 24))
    dealt = Rope(5e6, pairing="half", sections=(24, 20, 20), interleaved_sections=True)
    narrow = Rope(1e7, pairing="half", dim=64, sections=(11, 11, 10), interleaved_sections=True)
    assert "".join("THW"[axis] for axis in runs.axes(128)) == "T" * 16 + "H" * 24 + "W" * 24
    assert "".join("THW"[axis] for axis in dealt.axes(128)) == "THW" * 20 + "TTTT"
    assert "".join("THW"[axis] for axis in narrow.axes(256)) == "THW" * 10 + "TH"
    assert set(Rope(pairing="half").axes(8)) == {0}
    rng = np.random.default_rng(3)
    positions = rng.integers(0, 5000, (3, 2, 5))
    for rope in (runs, dealt):
        table = rope.table(positions, 128)
        assert table.shape == (2, 5, 128)
        single = replace(rope, sections=(), interleaved_sections=False)
        for pair, axis in enumerate(rope.axes(128)):
            expected = single.table(positions[axis], 128)
            np.testing.assert_array_equal(table[..., [pair, pair + 64]], expected[..., [pair, pair + 64]])
        same = np.broadcast_to(positions[0], positions.shape)
        np.testing.assert_array_equal(rope.table(same, 128), single.table(positions[0], 128))


def test_xpos_decays_along_the_axis_of_each_pair() -> None:
    rope = Rope(pairing="half", sections=(2, 2), scaling=scaling.xpos(32))
    table = rope.table(np.array([[5], [40]]), 8, dtype="f64")[0]
    for pair, position in enumerate((5, 5, 40, 40)):
        expected = ((2 * pair + 3.2) / 11.2) ** (position / 32)
        assert math.hypot(table[pair], table[pair + 4]) == pytest.approx(expected, rel=1e-12)


# -- in-kernel reduction ---------------------------------------------------------------------------------------------


def reduce_turns_reference(positions: np.ndarray, high: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The steps of a kernel on the limbs: a wrapping product, then cos and sin of the remaining fraction of a turn."""
    turns = (high.astype(np.uint64) << np.uint64(32)) | low.astype(np.uint64)
    left = positions.astype(np.int64).view(np.uint64)[:, None] * turns
    angles = left.view(np.int64).astype(np.float64) * (2 * math.pi / 2.0**64)
    return np.cos(angles), np.sin(angles)


@drawn
@given(
    theta=thetas,
    dim=even,
    factor=st.floats(0.01, 64.0),
    positions=st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=8),
)
def test_fixed_point_turns_are_exact_to_the_last_position(
    theta: float, dim: int, factor: float, positions: list[int]
) -> None:
    frequencies = got(scaling.linear(factor), theta, dim)
    high, low = fixed_point(frequencies)
    assert high.dtype == low.dtype == np.uint32
    for turn, kept in zip(turns_of(frequencies), zip(high.tolist(), low.tolist(), strict=True), strict=True):
        distance = (((kept[0] << 32) | kept[1]) - (turn >> (BITS - 64))) % 2**64
        assert distance in (0, 1)  # the kernel rounds to nearest, and the truth here rounds down
    at = np.array([*positions, 2**31 - 1, -(2**31), 0])
    cos, sin = reduce_turns_reference(at, high, low)
    error = np.abs(np.concatenate([cos, sin], axis=-1) - true_table(at, turns_of(frequencies)))
    assert error.max() <= 1e-8
    assert error.max() <= 2**31 * 2.0**-65 * 2 * math.pi + 1e-15


def test_fixed_point_reaches_deep_into_the_digits_of_pi() -> None:
    for power in range(0, 186, 5):
        (high,), (low,) = fixed_point(np.array([2.0**power]))
        expected = ((1 << (power + 64 + 320)) + PI) // (2 * PI) % 2**64
        assert (int(high) << 32) | int(low) == expected


def test_fixed_point_of_special_frequencies() -> None:
    high, low = fixed_point(np.array([[0.0, 5e-324], [math.pi, 2 * math.pi]]))
    assert high.shape == low.shape == (2, 2)
    assert (high[0].tolist(), low[0].tolist()) == ([0, 0], [0, 0])
    # Float64's pi is 1.2e-16 short of half a turn: 2**63 less 361 of 2**64.
    assert ((int(high[1, 0]) << 32) | int(low[1, 0])) == 2**63 - round(1.2246467991473532e-16 / (2 * math.pi) * 2**64)
    assert ((int(high[1, 1]) << 32) | int(low[1, 1])) == 2**64 - round(2.4492935982947064e-16 / (2 * math.pi) * 2**64)


# -- model configs ---------------------------------------------------------------------------------------------------


def long(config: dict) -> scaling.Scaling:
    stated = config["rope_scaling"]
    return scaling.longrope(stated["short_factor"], stated["long_factor"], 4096, factor=32)


CONFIGS = {
    "llama-2": ({"model_type": "llama"}, None, Rope(1e4, pairing="half")),
    "llama-3": ({"model_type": "llama", "rope_theta": 5e5, "rope_scaling": None}, None, Rope(5e5, pairing="half")),
    "llama-3.1": (LLAMA_31, None, Rope(5e5, pairing="half", scaling=scaling.llama3(8, 1, 4, 8192))),
    "mistral": ({"model_type": "mistral", "rope_theta": 1e6}, None, Rope(1e6, pairing="half")),
    "qwen2.5-yarn": (QWEN25_YARN, None, Rope(1e6, pairing="half", scaling=scaling.yarn(4, 32768))),
    "qwen2-vl": (QWEN2_VL, None, Rope(1e6, pairing="half", sections=(16, 24, 24))),
    "qwen3": ({"model_type": "qwen3", "rope_theta": 1e6, "head_dim": 128}, None, Rope(1e6, pairing="half")),
    "qwen3-vl": (QWEN3_VL, None, Rope(5e6, pairing="half", sections=(24, 20, 20), interleaved_sections=True)),
    "gemma": ({"model_type": "gemma", "rope_theta": 10000.0}, None, Rope(1e4, pairing="half")),
    "gemma2-sliding": ({"model_type": "gemma2"}, "sliding_attention", Rope(1e4, pairing="half")),
    "gemma3-4b": (GEMMA3_4B, "full_attention", Rope(1e6, pairing="half", scaling=scaling.linear(8))),
    "gemma3-4b-local": (GEMMA3_4B, "sliding_attention", Rope(1e4, pairing="half")),
    "gemma3-1b": (GEMMA3_1B, "full_attention", Rope(1e6, pairing="half")),
    "gemma3-1b-local": (GEMMA3_1B, "sliding_attention", Rope(1e4, pairing="half")),
    "gemma4": (GEMMA4, "full_attention", Rope(1e6, pairing="half", scaling=scaling.proportional(0.25))),
    "gemma4-local": (GEMMA4, "sliding_attention", Rope(1e4, pairing="half")),
    "phi3.5-mini": (PHI35_MINI, None, Rope(1e4, pairing="half", scaling=long(PHI35_MINI))),
    "phi4-mini": (PHI4_MINI, None, Rope(1e4, pairing="half", dim=96, scaling=long(PHI4_MINI))),
    "deepseek-v3": (
        DEEPSEEK_V3,
        None,
        Rope(1e4, pairing="interleaved", dim=64, scaling=scaling.yarn(40, 4096, mscale=1, mscale_all_dim=1)),
    ),
    "gpt-oss": (GPT_OSS, None, Rope(1.5e5, pairing="half", scaling=scaling.yarn(32, 4096, truncate=False))),
    "pythia-1b": (PYTHIA_1B, None, Rope(1e4, pairing="half", dim=64)),
    "gpt-neox-unstated": (
        {"model_type": "gpt_neox", "hidden_size": 6144, "num_attention_heads": 64},
        None,
        Rope(1e4, pairing="half", dim=24),
    ),
    "gpt-j": (GPT_J, None, Rope(1e4, pairing="interleaved", dim=64)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_published_configs(name: str) -> None:
    config, layer_type, expected = CONFIGS[name]
    assert Rope.from_hf(config, layer_type) == expected


@pytest.mark.parametrize("name", ["llama-3.1", "qwen2.5-yarn", "qwen2-vl", "phi4-mini", "deepseek-v3", "gpt-oss"])
def test_version_5_configs_read_the_same(name: str) -> None:
    config, _, expected = CONFIGS[name]
    newer = {key: value for key, value in config.items() if key not in ("rope_theta", "rope_scaling")}
    stated = {"rope_type": "default", **config["rope_scaling"], "rope_theta": config["rope_theta"]}
    older_name = stated.pop("type", None)
    if older_name not in (None, "mrope"):
        stated["rope_type"] = older_name
    if "partial_rotary_factor" in newer:
        stated["partial_rotary_factor"] = newer.pop("partial_rotary_factor")
    assert Rope.from_hf({**newer, "rope_parameters": stated}) == expected
    layered = {"full_attention": stated, "sliding_attention": {"rope_type": "default", **sections_of(stated)}}
    by_layer = {**newer, "rope_theta": 777.0, "rope_parameters": layered}
    assert Rope.from_hf(by_layer, "full_attention") == expected
    assert Rope.from_hf(by_layer, "sliding_attention").theta == 777.0
    assert Rope.from_hf(by_layer, "sliding_attention").scaling == scaling.none()


def sections_of(stated: dict) -> dict:
    return {key: value for key, value in stated.items() if key == "mrope_section"}


def test_configs_take_the_original_context_from_where_it_is() -> None:
    yarn = {"model_type": "qwen3", "max_position_embeddings": 40960, "rope_scaling": {"type": "yarn", "factor": 4}}
    assert Rope.from_hf(yarn).scaling == scaling.yarn(4, 40960)
    stated = {"type": "dynamic", "factor": 2}
    dynamic = {"model_type": "llama", "max_position_embeddings": 4096, "rope_scaling": stated}
    assert Rope.from_hf(dynamic).scaling == scaling.dynamic(2, 4096)
    older = {**PHI35_MINI, "rope_scaling": {**PHI35_MINI["rope_scaling"], "type": "su"}}
    assert Rope.from_hf(older).scaling == long(PHI35_MINI)
    half = {**DEEPSEEK_V3, "rope_interleave": False}
    assert Rope.from_hf(half).pairing == "half"


def changed(config: dict, **fields: object) -> dict:
    return {**config, "rope_scaling": {**config["rope_scaling"], **fields}}


BAD_CONFIGS = [
    ({"model_type": "lama"}, None, ["'lama'", "did you mean 'llama'?"]),
    ({}, None, ["model_type is None"]),
    (changed(LLAMA_31, rope_type="llama4"), None, ["rope type 'llama4'", "did you mean 'llama3'?"]),
    (changed(LLAMA_31, low_freq=1), None, ["'low_freq'", "did you mean 'low_freq_factor'?"]),
    (changed(LLAMA_31, mrope_section=[16, 24, 24]), None, ["'mrope_section'"]),
    (changed(LLAMA_31, type="yarn"), None, ["rope_type and type", "'llama3'", "'yarn'"]),
    (changed(LLAMA_31, factor="8"), None, ["factor", "'8'"]),
    (changed(LLAMA_31, high_freq_factor=None), None, ["llama3", "needs high"]),
    ({"model_type": "llama", "rope_scaling": {"factor": 2.0}}, None, ["'factor'", "no rope_type"]),
    ({"model_type": "llama", "rope_scaling": {"type": "mrope"}}, None, ["rope type 'mrope'"]),
    ({"model_type": "llama", "rope_scaling": {"type": "linear"}}, None, ["linear", "needs factor"]),
    ({"model_type": "llama", "rope_scaling": {"type": "dynamic", "factor": 2}}, None, ["max_position_embeddings"]),
    ({"model_type": "llama", "rope_scaling": [8]}, None, ["mapping", "[8]"]),
    (changed(LLAMA_31, original_max_position_embeddings=0), None, ["original_max_position_embeddings", "positive"]),
    ({**LLAMA_31, "rope_parameters": {"rope_type": "default"}}, None, ["differ"]),
    ({"model_type": "llama", "rope_theta": "many"}, None, ["rope_theta", "'many'"]),
    ({"model_type": "phi3", "partial_rotary_factor": 0.5}, None, ["num_attention_heads"]),
    ({"model_type": "llama", "partial_rotary_factor": 0.5}, None, ["partial_rotary_factor is 0.5", "whole head"]),
    (GEMMA3_4B, None, ["layer_type=", "full_attention", "sliding_attention"]),
    (GEMMA3_4B, "sliding", ["'sliding'", "did you mean 'sliding_attention'?"]),
    (GEMMA4, None, ["layer_type=", "full_attention"]),
    (LLAMA_31, "ful_attention", ["did you mean 'full_attention'?"]),
    ({"model_type": "qwen2_vl", "rope_theta": 1e6}, None, ["mrope_section"]),
    (changed(QWEN2_VL, mrope_interleaved=True), None, ["mrope_interleaved"]),
    ({"model_type": "qwen2_vl", "rope_scaling": QWEN2_VL["rope_scaling"]}, None, ["rope_theta is missing"]),
    ({"model_type": "gpt_oss", "rope_theta": 150000}, None, ["rope_scaling is missing"]),
    (changed(DEEPSEEK_V3, llama_4_scaling_beta=0.1), None, ["'llama_4_scaling_beta'"]),
    ({"model_type": "deepseek_v3", "rope_theta": 1e4}, None, ["qk_rope_head_dim"]),
    ({"model_type": "gptj"}, None, ["rotary_dim"]),
    ({**GPT_J, "partial_rotary_factor": 0.5}, None, ["rotary_dim", "0.5"]),
    ({**GPT_J, "rope_theta": 5e5}, None, ["theta 10000.0", "rope_theta"]),
    ({**GPT_J, "rope_scaling": {"type": "linear", "factor": 2}}, None, ["no scaling", "rope parameters"]),
]


@pytest.mark.parametrize(("config", "layer_type", "words"), BAD_CONFIGS, ids=[str(i) for i in range(len(BAD_CONFIGS))])
def test_bad_configs_name_the_field(config: dict, layer_type: str | None, words: list[str]) -> None:
    with pytest.raises(RopegenError) as caught:
        Rope.from_hf(config, layer_type)
    for word in words:
        assert word in str(caught.value)


junk = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-10, 10**20),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.floats(), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@settings(deadline=None, max_examples=300)
@given(data=st.data(), name=st.sampled_from(sorted(CONFIGS)), value=junk)
def test_a_damaged_config_gives_a_rope_or_a_ropegen_error(data: st.DataObject, name: str, value: object) -> None:
    config, layer_type, _ = CONFIGS[name]
    config = dict(config.get("text_config", config))
    stated = config.get("rope_scaling")
    if stated and data.draw(st.booleans()):
        config["rope_scaling"] = {**stated, data.draw(st.sampled_from(sorted(stated))): value}
    else:
        extra = {"rope_theta", "rope_parameters", "partial_rotary_factor", "max_position_embeddings", "layer_types"}
        config[data.draw(st.sampled_from(sorted({*config, *extra})))] = value
    try:
        rope = Rope.from_hf(config, layer_type)
        table = rope.table(np.zeros((max(1, len(rope.sections)), 1), int), rope.dim or 128, length=8)
    except RopegenError:
        return
    assert np.isfinite(table).all()
