"""Recorded results of equinox, attnax and penzai: against ropegen's functions everywhere, and its modules for the libraries.

`python tests/record_seeds.py` wrote golden/vectors. test_seed_*.py compare with the libraries themselves; a record does not
change with them. u = 2^-24 is the unit of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import seed_cases
from seed_cases import DTYPES, FAR, FEATURES, HEADS, IDS, ROWS, SEEDS, SEEN, TOKENS, WIDTH, drawn, recorded, small

import ropegen as rg

pytestmark = pytest.mark.usefixtures("quick_compilation")

UNIT = 2.0**-24
every = pytest.mark.parametrize("dtype", DTYPES)


def wanted(seed: str, dtype: str, label: str) -> np.ndarray:
    kind, values = recorded(seed)[dtype][label]
    return np.asarray(values, np.float64).astype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)


def expect(ours: Any, theirs: np.ndarray, error: float) -> None:
    """Compares values that are at most `error` apart, besides the last rounding to bfloat16 on either side."""
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    ours, rounds = np.asarray(ours), theirs.dtype == ml_dtypes.bfloat16
    allowed = error + rounds * 2.0**-8 * np.abs(theirs.astype(np.float64))
    assert np.array_equal(np.isnan(ours.astype(np.float32)), np.isnan(theirs.astype(np.float32)))
    assert np.all(np.nan_to_num(np.abs(ours.astype(np.float64) - theirs.astype(np.float64))) <= np.nan_to_num(allowed))


# Both sides compute the angle p f of a position p in float32, from a frequency f <= 1 that is a power and a reciprocal or
# quotient: 4u of f, and u for the product. Cosine and sine add 2u, and the rotation of numbers up to 2 turns that into at
# most 2 (|dc| + |ds|) and three roundings of results below 4.
def of_angles(last: float) -> float:
    return 2 * (5 * last + 2) * UNIT


def of_rotation(last: float) -> float:
    return 2 * 2 * of_angles(last) + 2 * 3 * 4 * UNIT


# Projections of 12 features, softmax over 9 keys and one more projection, all of numbers below 2: every sum of n products
# is off by at most n u of the sum of their sizes. In bfloat16, queries, keys, values and the weighted sum are rounded too,
# and the seeds round scores and weights, which ropegen does not.
OF_ATTENTION = {"f32": 2e-6, "bf16": 0.03}

PLAIN: dict[tuple[str, str], tuple[Callable[[Any], Any], Mapping[str, float]]] = {}


def plain(seed: str, label: str, error: float | Mapping[str, float] = 0.0) -> Callable[..., Any]:
    """Registers ropegen's function for a record. It takes the element type of the case."""

    def add(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        PLAIN[seed, label] = function, error if isinstance(error, Mapping) else dict.fromkeys(DTYPES, error)
        return function

    return add


# -- equinox


@plain("equinox", "embedding")
def equinox_embedding(dtype: Any) -> Any:
    return rg.embed(np.where(IDS < 0, IDS + TOKENS, IDS), drawn(TOKENS, FEATURES, start=1, dtype=dtype))


@plain("equinox", "rotation, theta 10000", of_rotation(ROWS))
def equinox_rotation(dtype: Any) -> Any:
    rope = rg.Rope(1e4, pairing="half", angles="f32")
    return rg.rope(drawn(ROWS, 1, WIDTH, start=2, dtype=dtype), None, rope)[:, 0]


@plain("equinox", "rotation, theta 500000", of_rotation(ROWS))
def equinox_far_rotation(dtype: Any) -> Any:
    rope = rg.Rope(5e5, pairing="half", angles="f32")
    return rg.rope(drawn(ROWS, 1, WIDTH + 8, start=2, dtype=dtype), None, rope)[:, 0]


def equinox_attention(dtype: Any, **options: Any) -> Any:
    x = drawn(ROWS, FEATURES, start=3, dtype=dtype)
    *projections, last = seed_cases.equinox_weights(dtype).values()
    q, k, v = ((x @ weight.T).reshape(ROWS, HEADS, FEATURES // HEADS) for weight in projections)
    out = rg.attention(q, k, v, masked_row="mean", **options).reshape(ROWS, FEATURES)
    return out @ last.T + small(FEATURES, start=9, dtype=dtype)


@plain("equinox", "attention", OF_ATTENTION)
def equinox_masked_attention(dtype: Any) -> Any:
    return equinox_attention(dtype, mask=jnp.asarray(SEEN))


@plain("equinox", "rotated attention", OF_ATTENTION)
def equinox_rotated_attention(dtype: Any) -> Any:
    return equinox_attention(dtype, rope=rg.Rope(pairing="half", angles="f32"))


# -- attnax


@plain("attnax", "tokens")
def attnax_tokens(dtype: Any) -> Any:
    return rg.embed(np.where(IDS < 0, IDS + TOKENS, IDS), drawn(TOKENS, FEATURES, start=1), mode="fill")


@plain("attnax", "encoding", of_angles(ROWS + 3) + 4 * UNIT)
def attnax_encoding(dtype: Any) -> Any:
    x = drawn(2, ROWS, FEATURES, start=3, dtype=dtype)
    return x + rg.sinusoid(np.arange(3, ROWS + 3), FEATURES, pairing="interleaved", angles="f32")


@plain("attnax", "learned rows")
def attnax_learned_rows(dtype: Any) -> Any:
    return drawn(2, ROWS, FEATURES, start=3, dtype=dtype) + rg.embed(np.arange(ROWS), drawn(ROWS, FEATURES, start=2))


# 12 products of numbers up to 2 and 1/4, and the bias.
@plain("attnax", "patches", 2 * 13 * 13 * 0.5 * UNIT)
def attnax_patches(dtype: Any) -> Any:
    b = rg.Builder("patches")
    names = {"image": (2, 4, 6, 3), "weight": (12, FEATURES), "bias": (FEATURES,)}
    image, weight, bias = (b.input(name, shape, "f32") for name, shape in names.items())
    graph = b.build(out=b.project(b.patchify(image, 2), weight, bias))
    return rg.plan(graph, "cpu").compile()(
        image=drawn(2, 4, 6, 3, start=7, dtype=dtype).astype(jnp.float32),
        weight=small(2, 2, 3, FEATURES, start=4).reshape(12, FEATURES),
        bias=small(FEATURES, start=5),
    )


ATTNAX_ROPE = rg.Rope(5e5, pairing="half", angles="f32")


@plain("attnax", "frequencies", 4 * UNIT)
def attnax_frequencies(dtype: Any) -> Any:
    return jnp.asarray(ATTNAX_ROPE.inverse_frequencies(WIDTH), jnp.float32)


def attnax_table(positions: Any, half: int) -> Any:
    return jnp.split(rg.rope_table(positions, ATTNAX_ROPE, WIDTH), 2, axis=-1)[half]


for half, label in enumerate(("cosines", "sines")):
    plain("attnax", label, of_angles(ROWS))(lambda dtype, half=half: attnax_table(ROWS, half))
    plain("attnax", f"far {label}", of_angles(FAR))(lambda dtype, half=half: attnax_table(np.array([0, FAR]), half))


@plain("attnax", "rotation", {"f32": of_rotation(ROWS), "bf16": 4 * 2.0**-7})
def attnax_rotation(dtype: Any) -> Any:
    x = drawn(2, 3, ROWS, WIDTH, start=6, dtype=dtype).reshape(6, ROWS, 1, WIDTH)
    table = rg.rope_table(ROWS, ATTNAX_ROPE, WIDTH).astype(dtype)
    return rg.rotate(x, table, pairing="half").reshape(2, 3, ROWS, WIDTH)


# -- penzai


@plain("penzai", "rotation", of_rotation(1.5 * ROWS))
def penzai_rotation(dtype: Any) -> Any:
    return penzai_turned(dtype, rg.Rope(1e4, pairing="half", angles="f32"))


@plain("penzai", "rotation of a part", of_rotation(1.5 * ROWS))
def penzai_rotation_of_a_part(dtype: Any) -> Any:
    return penzai_turned(dtype, rg.Rope(1e3, pairing="half", dim=8, angles="f32"))


def penzai_turned(dtype: Any, rope: rg.Rope) -> Any:
    x = drawn(ROWS, 2, WIDTH, start=2, dtype=dtype)
    return rg.rope(x, np.arange(ROWS) * 1.5, rope)


@plain("penzai", "embedding")
def penzai_embedding(dtype: Any) -> Any:
    return rg.embed(np.where(IDS < 0, IDS + TOKENS, IDS), drawn(TOKENS, FEATURES, start=1, dtype=dtype)).T


@plain("penzai", "attention", OF_ATTENTION)
def penzai_attention(dtype: Any) -> Any:
    x = drawn(ROWS, FEATURES, start=3, dtype=dtype)
    groups, queries, width = seed_cases.PENZAI_HEADS.values()
    weights = {name: array.astype(dtype) for name, (_, array) in seed_cases.penzai_weights().items()}
    q, k, v = ((x @ weights[name].reshape(FEATURES, -1)).reshape(ROWS, -1, width) for name in ("query", "key", "value"))
    out = rg.attention(q, k, v, rope=rg.Rope(pairing="half", angles="f32"), mask=rg.masks.causal)
    return out.reshape(ROWS, groups * queries * width) @ weights["output"].reshape(-1, FEATURES)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_record_names_its_versions_and_is_compared(seed: str) -> None:
    vectors = recorded(seed)
    assert vectors["versions"][seed] == SEEDS[seed]
    assert {*vectors["versions"]} == {seed, "jax", "jaxlib", "python", "cpu"}
    for dtype in DTYPES:
        assert {*vectors[dtype]} == {label for known, label in PLAIN if known == seed}


@every
@pytest.mark.parametrize(("seed", "label"), PLAIN)
def test_functions_of_ropegen_have_the_recorded_numbers(seed: str, label: str, dtype: str) -> None:
    function, errors = PLAIN[seed, label]
    expect(function(DTYPES[dtype]), wanted(seed, dtype, label), errors[dtype])


def expect_all(seed: str, dtype: str, results: Mapping[str, Any]) -> None:
    assert {*results} == {*recorded(seed)[dtype]}
    for label, ours in results.items():
        expect(ours, wanted(seed, dtype, label), PLAIN[seed, label][1][dtype])


@every
def test_the_modules_for_equinox_have_the_recorded_numbers(dtype: str) -> None:
    pytest.importorskip("equinox", reason="pip install '.[equinox]'")
    import ropegen.equinox

    expect_all("equinox", dtype, seed_cases.equinox(ropegen.equinox, DTYPES[dtype]))


@every
def test_the_modules_for_attnax_have_the_recorded_numbers(dtype: str) -> None:
    pytest.importorskip("flax", reason="pip install '.[flax]'")
    import ropegen.nnx

    expect_all("attnax", dtype, seed_cases.attnax(ropegen.nnx, DTYPES[dtype]))


@every
def test_the_layers_for_penzai_have_the_recorded_numbers(dtype: str) -> None:
    pytest.importorskip("penzai", reason="pip install '.[penzai]'")
    import dataclasses

    from penzai import pz

    import ropegen.penzai

    def fused(theirs: Any) -> Any:
        layer = ropegen.penzai.ApplyAttention(
            head_axes=("head_groups", "query_heads"),
            scale=1.0,  # penzai's queries are scaled already
            mask=rg.masks.causal,
        )
        output = theirs.attn_value_to_output.sublayers[-1]
        return dataclasses.replace(
            theirs, query_key_to_attn=pz.nn.Identity(), attn_value_to_output=pz.nn.Sequential([layer, output])
        )

    expect_all("penzai", dtype, seed_cases.penzai(ropegen.penzai, fused, DTYPES[dtype]))
