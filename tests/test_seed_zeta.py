"""`ropegen.zeta` beside zeta: recorded results of its own code, and a live comparison if torch and zeta are installed."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ropegen as rg
from ropegen.errors import RopegenError
from ropegen.zeta import SinusoidalEmbeddings, apply_rotary_pos_emb, rotate_half

VECTORS = json.loads((Path(__file__).resolve().parent.parent / "golden" / "vectors" / "zeta.json").read_text())
DIMS = tuple(int(name) for name in VECTORS if name.isdigit())
LENGTH, QUERIES, FAR, SCALE_BASE = 7, 3, 4096, 4.0  # as recorded

MODES: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {"eager": lambda f: f, "jit": jax.jit}
DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16}
ULP = 2.0**-23

# A power and its reciprocal, within one unit on one side and half a unit on the other, and the product.
ANGLES = (3 * ULP, "3 ulp(angle)")
# Two powers within one unit.
MAGNITUDES = (2 * ULP, "2 ulp(scale)")
# Cosine and sine within one unit on each side, two products per side, and their sum.
TURNED = "4 ulp(x) times the scale"


def recorded(case: str, name: str) -> np.ndarray:
    return np.array(VECTORS[case][name], np.float32)


def drawn(*shape: int, start: int) -> np.ndarray:
    """The inputs of the record: 64ths from -2 to 2, which every element type holds exactly."""
    return (((np.arange(np.prod(shape)) * 37 + start) % 257 - 128) / 64).reshape(shape).astype(np.float32)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_angles_and_magnitudes_are_those_of_zeta(parity, mode: str, dtype: str, dim: int) -> None:
    cell = parity("zeta", "SinusoidalEmbeddings", mode, dtype)
    case, run = str(dim), MODES[mode](lambda embeddings, x: embeddings(x))
    x, far = jnp.zeros((2, LENGTH, 1), DTYPES[dtype]), jnp.zeros((FAR, 1), DTYPES[dtype])
    plain, xpos = SinusoidalEmbeddings(dim), SinusoidalEmbeddings(dim, SCALE_BASE, use_xpos=True)
    freqs, one = run(plain, x)
    limit, words = ANGLES
    cell.within(freqs, recorded(case, "freqs"), limit * np.abs(recorded(case, "freqs")), words)
    cell.within(run(plain, far)[0][-1], recorded(case, "far"), limit * np.abs(recorded(case, "far")), words)
    cell.equal(one, np.ones(1, np.float32))
    again, scale = run(xpos, x)
    cell.equal(again, freqs)
    limit, words = MAGNITUDES
    cell.within(scale, recorded(case, "scale"), limit * recorded(case, "scale"), words)
    np.testing.assert_allclose(plain.inv_freq, recorded(case, "inv_freq"), rtol=2.5 * ULP)
    np.testing.assert_array_equal(plain.scale, recorded(case, "scale_buffer"))


@pytest.mark.parametrize("mode", MODES)
def test_angles_stay_float32_where_zeta_rounds_them(parity, mode: str) -> None:
    freqs = MODES[mode](SinusoidalEmbeddings(32).forward)(jnp.zeros((FAR, 1), jnp.bfloat16))[0]
    cell = parity("zeta", "SinusoidalEmbeddings", mode, "bf16")
    cell.differs(freqs[-1], recorded("bf16", "far"), "bfloat16() rounds the angles")
    assert np.max(np.abs(np.cos(freqs[-1]) - np.cos(recorded("bf16", "far")))) > 0.5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_rotate_half_is_that_of_zeta(parity, mode: str, dtype: str) -> None:
    x = jnp.asarray(drawn(2, 3, 6, start=5), DTYPES[dtype])
    wanted = jnp.asarray(np.array(VECTORS["rotate_half"], np.float32), DTYPES[dtype])
    parity("zeta", "rotate_half", mode, dtype).equal(MODES[mode](rotate_half)(x), wanted)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("mode", MODES)
def test_turned_queries_and_keys_are_those_of_zeta(parity, mode: str, dtype: str, dim: int) -> None:
    """In zeta and in ropegen a bfloat16 q with float32 angles gives float32."""
    cell = parity("zeta", "apply_rotary_pos_emb", mode, dtype)
    case = str(dim)
    q = jnp.asarray(drawn(1, QUERIES, dim, start=0), DTYPES[dtype])
    k = jnp.asarray(drawn(1, LENGTH, dim, start=19), DTYPES[dtype])
    freqs, scale = recorded(case, "freqs"), recorded(case, "scale")
    turn = MODES[mode](apply_rotary_pos_emb)
    ulp = float(np.spacing(np.float32(2.0)))
    for ours, name in zip(turn(q, k, freqs, np.ones(1, np.float32)), ("q", "k"), strict=True):
        cell.within(ours, recorded(case, name), 4 * ulp, TURNED)
    limits = 4 * ulp * scale[-QUERIES:], 4 * ulp / scale
    for ours, name, limit in zip(turn(q, k, freqs, scale), ("q_xpos", "k_xpos"), limits, strict=True):
        cell.within(ours, recorded(case, name), limit, TURNED)


@pytest.mark.parametrize("mode", MODES)
def test_bfloat16_angles_round_at_every_step_as_in_zeta(parity, mode: str) -> None:
    q = jnp.asarray(drawn(1, QUERIES, 32, start=0), jnp.bfloat16)
    k = jnp.asarray(drawn(1, LENGTH, 32, start=19), jnp.bfloat16)
    freqs = jnp.asarray(recorded("bf16", "freqs"), jnp.bfloat16)
    cell = parity("zeta", "apply_rotary_pos_emb", mode, "bf16")
    for ours, name in zip(MODES[mode](apply_rotary_pos_emb)(q, k, freqs), ("q", "k"), strict=True):
        cell.within(ours, jnp.asarray(recorded("bf16", name), jnp.bfloat16), 4 * 2.0**-6, TURNED)


@pytest.mark.parametrize("dim", DIMS)
def test_one_jit_of_all_of_it_keeps_the_bound(dim: int) -> None:
    """At a far position the cosine of an angle that XLA did not round would be off by far more."""

    def both(embeddings: SinusoidalEmbeddings, k: jax.Array) -> jax.Array:
        return apply_rotary_pos_emb(k, k, *embeddings(k))[1]

    k = jnp.asarray(np.tile(drawn(1, 8, dim, start=3), (1, FAR // 8, 1)))
    embeddings = SinusoidalEmbeddings(dim)
    ulp = float(np.spacing(np.float32(2.0)))
    assert np.max(np.abs(jax.jit(both)(embeddings, k) - both(embeddings, k))) <= 4 * ulp


# ---- mistakes of zeta


def test_the_default_scale_works_where_that_of_zeta_fails() -> None:
    assert "AttributeError" in VECTORS["mistakes"]["default_scale"]
    x = jnp.asarray(drawn(1, 4, 8, start=0))
    freqs, one = SinusoidalEmbeddings(8)(x)
    for ours, wanted in zip(apply_rotary_pos_emb(x, x, freqs), apply_rotary_pos_emb(x, x, freqs, one), strict=True):
        np.testing.assert_array_equal(ours, wanted)
    for scale in (2, 2.0, np.int32(2), jnp.int32(2), np.full(1, 2.0, np.float32)):
        q, k = apply_rotary_pos_emb(x, x, freqs, scale)
        np.testing.assert_array_equal(q, 4 * k)
        assert q.dtype == jnp.float32


def test_an_odd_width_is_refused_where_zeta_gains_a_feature() -> None:
    assert VECTORS["mistakes"]["odd_dim"] == [4, 8]
    with pytest.raises(RopegenError, match="must be even"):
        SinusoidalEmbeddings(7)


def test_the_centre_moves_with_the_length_as_in_zeta_unless_it_is_fixed() -> None:
    def magnitudes(length: int, centre: float | None) -> np.ndarray:
        return np.asarray(SinusoidalEmbeddings(8, SCALE_BASE, True, centre=centre)(jnp.zeros((length, 1)))[1])

    for length in (4, 8):
        wanted = recorded("mistakes", f"scale_of_{length}")
        np.testing.assert_allclose(magnitudes(length, None), wanted, rtol=MAGNITUDES[0])
    assert not np.array_equal(magnitudes(4, None), magnitudes(8, None)[:4])
    np.testing.assert_array_equal(magnitudes(4, 3.5), magnitudes(8, 3.5)[:4])


def test_a_magnitude_beyond_float32_is_refused_where_that_of_zeta_becomes_zero() -> None:
    assert VECTORS["mistakes"]["underflow"] == 0.0
    embeddings = SinusoidalEmbeddings(64, 512.0, use_xpos=True)
    with pytest.raises(RopegenError, match="magnitude reaches"):
        embeddings(jax.ShapeDtypeStruct((131_072, 1), jnp.float32))
    freqs, scale = embeddings(jax.ShapeDtypeStruct((65_536, 1), jnp.float32))
    assert freqs.shape == scale.shape == (65_536, 64)
    assert np.isfinite(scale).all() and np.isfinite(1 / scale).all() and (scale > 0).all()  # noqa: PT018


def ones(*shape: int) -> jax.Array:
    return jnp.ones(shape)


@pytest.mark.parametrize(
    ("name", "call", "words"),
    [
        ("rank_one", lambda: rotate_half(ones(4)), "give \\(batch, ..., width\\)"),
        ("odd_half", lambda: rotate_half(ones(2, 5)), "even width"),
        ("no_scale_base", lambda: SinusoidalEmbeddings(8, use_xpos=True), "scale_base"),
        ("other_length", lambda: apply_rotary_pos_emb(ones(4, 8), ones(4, 8), ones(3, 8)), "4 queries"),
        ("other_length", lambda: apply_rotary_pos_emb(ones(3, 8), ones(4, 8), ones(3, 8)), "k has shape \\(4, 8\\)"),
        ("no_sequence", lambda: SinusoidalEmbeddings(8)(ones(8)), "second-last"),
    ],
)
def test_ropegen_refuses_what_zeta_refuses_with_the_same_type(name: str, call: Callable[[], Any], words: str) -> None:
    kinds = {"RuntimeError": RuntimeError, "AssertionError": AssertionError, "IndexError": IndexError}
    (wanted,) = (kinds[kind] for kind in VECTORS["mistakes"][name] if kind in kinds)
    with pytest.raises(RopegenError, match=words) as caught:
        call()
    assert isinstance(caught.value, wanted)


def test_other_mistakes_are_refused() -> None:
    for call in (
        lambda: SinusoidalEmbeddings(8, 0.0, use_xpos=True),
        lambda: SinusoidalEmbeddings(8, "512", use_xpos=True),  # type: ignore[arg-type]
        lambda: SinusoidalEmbeddings(8, 512, use_xpos=True, centre=float("nan")),
        lambda: SinusoidalEmbeddings(0),
        lambda: apply_rotary_pos_emb(ones(8), ones(4, 8), ones(4, 8)),
        lambda: apply_rotary_pos_emb(ones(4, 8), ones(4, 8), ones(4, 6)),
        lambda: apply_rotary_pos_emb(ones(3, 8), ones(4, 8), ones(4, 8), ones(2, 8)),
    ):
        with pytest.raises(RopegenError):
            call()


# ---- meaning


@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_queries_are_the_last_positions_and_turn_as_complex_numbers(data: st.DataObject) -> None:
    dim, length = 2 * data.draw(st.integers(1, 12)), data.draw(st.integers(1, 9))
    queries, lead = data.draw(st.integers(0, length)), tuple(data.draw(st.lists(st.integers(1, 3), max_size=2)))
    base = data.draw(st.none() | st.sampled_from([4.0, 64.0, 512.0]))
    numbers = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    q, k = (numbers.standard_normal((*lead, rows, dim)).astype(np.float32) for rows in (queries, length))
    embeddings = SinusoidalEmbeddings(dim, base, use_xpos=base is not None)
    ours = jax.jit(lambda q, k: apply_rotary_pos_emb(q, k, *embeddings(k)))(q, k)

    pair, at = np.arange(dim // 2), np.arange(length)[:, None]
    turn = np.exp(1j * at * 10_000.0 ** (-2 * pair / dim))
    size = 1.0 if base is None else ((2 * pair + 0.4 * dim) / (1.4 * dim)) ** ((at - length // 2) / base)
    for x, actual, factor in ((q, ours[0], turn * size), (k, ours[1], turn / size)):
        rows = x.shape[-2]
        turned = (x[..., : dim // 2] + 1j * x[..., dim // 2 :]) * factor[length - rows :]
        wanted = np.concatenate([turned.real, turned.imag], axis=-1)
        np.testing.assert_allclose(actual, wanted, atol=2e-5 * max(1.0, np.abs(wanted).max(initial=0.0)))


def test_each_feature_has_its_own_angle() -> None:
    x = jnp.asarray(drawn(3, 4, start=1))
    freqs = jnp.asarray(drawn(3, 4, start=9))  # the halves differ
    q, k = apply_rotary_pos_emb(x, x, freqs)
    wanted = x * np.cos(freqs) + np.stack([-x[:, 2], -x[:, 3], x[:, 0], x[:, 1]], axis=-1) * np.sin(freqs)
    np.testing.assert_allclose(q, wanted, atol=1e-6)
    np.testing.assert_array_equal(q, k)


@pytest.mark.parametrize("base", [None, 16.0])
def test_the_rope_of_the_embeddings_gives_attention_the_same_scores(quick_compilation, base: float | None) -> None:
    length, width = 6, 8
    q, k = (jnp.asarray(drawn(1, length, 2, width, start=start)) for start in (0, 50))
    v = jnp.eye(length)[None, :, None, :].repeat(2, axis=2)  # the output then equals the weights
    embeddings = SinusoidalEmbeddings(width, base, use_xpos=base is not None)
    by_heads = [jnp.swapaxes(heads, 1, 2) for heads in (q, k)]  # in zeta the sequence is the axis before the width
    turned_q, turned_k = apply_rotary_pos_emb(*by_heads, *embeddings(by_heads[0]))
    wanted = jax.nn.softmax(turned_q @ jnp.swapaxes(turned_k, -1, -2) / np.sqrt(width), axis=-1)
    result = rg.attention(q, k, v, rope=embeddings.rope(length))
    np.testing.assert_allclose(jnp.swapaxes(result, 1, 2), wanted, atol=2e-6)


def test_the_embeddings_are_a_pytree_and_everything_differentiates() -> None:
    embeddings = SinusoidalEmbeddings(8, SCALE_BASE, use_xpos=True)
    assert jax.tree.leaves(embeddings) == []
    assert jax.tree.map(lambda leaf: leaf, embeddings) == embeddings
    assert hash(embeddings) == hash(SinusoidalEmbeddings(8, SCALE_BASE, use_xpos=True))
    x = jnp.asarray(drawn(2, 5, 8, start=0))

    @jax.jit
    def loss(x: jax.Array) -> jax.Array:
        q, k = apply_rotary_pos_emb(x[:, 2:], x, *embeddings(x))
        return jnp.sum(q[:, -1] * k[:, -1]) + jnp.sum(q * q)

    # The loss is quadratic, so that Euler's identity holds: x . grad = 2 loss.
    np.testing.assert_allclose(jnp.sum(x * jax.grad(loss)(x)), 2 * loss(x), rtol=1e-5)

    def turned(x: jax.Array) -> jax.Array:
        return apply_rotary_pos_emb(x, x, *embeddings(x))[1]

    np.testing.assert_allclose(jax.jit(jax.vmap(turned))(x), jax.jit(turned)(x), rtol=0, atol=1e-6)


# ---- live


@pytest.fixture(scope="module")
def zeta() -> Any:
    pytest.importorskip("torch", reason="pip install torch einops, and zetascale with --no-deps, compares live")
    pytest.importorskip("einops", reason="pip install einops, and zetascale with --no-deps, compares live")
    try:
        importlib.metadata.distribution("zetascale")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("pip install --no-deps zetascale==2.8.8 compares live; the recorded vectors are compared always")
    import record_zeta

    return record_zeta.module()


@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_drawn_embeddings_and_rotations_are_those_of_zeta_itself(zeta: Any, data: st.DataObject) -> None:
    import torch

    dim, length = 2 * data.draw(st.integers(1, 128)), data.draw(st.integers(1, 40))
    queries, lead = data.draw(st.integers(1, length)), tuple(data.draw(st.lists(st.integers(1, 3), max_size=2)))
    base = data.draw(st.none() | st.sampled_from([16.0, 512.0]))
    numbers = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    q, k = (numbers.uniform(-2, 2, (*lead, rows, dim)).astype(np.float32) for rows in (queries, length))

    theirs = zeta.SinusoidalEmbeddings(dim, base, use_xpos=base is not None)
    freqs, scale = theirs(torch.from_numpy(k))
    ours = SinusoidalEmbeddings(dim, base, use_xpos=base is not None)(k)
    for actual, wanted, limit in zip(ours, (freqs, scale), (ANGLES[0], MAGNITUDES[0]), strict=True):
        assert actual.shape == tuple(wanted.shape)
        assert actual.dtype == wanted.numpy().dtype
        np.testing.assert_allclose(actual, wanted.numpy(), rtol=limit)

    if len(lead):  # einops wants an axis before those that it splits
        np.testing.assert_array_equal(rotate_half(jnp.asarray(q)), zeta.rotate_half(torch.from_numpy(q)).numpy())
    wanted = zeta.apply_rotary_pos_emb(torch.from_numpy(q), torch.from_numpy(k), freqs, scale)
    result = apply_rotary_pos_emb(jnp.asarray(q), jnp.asarray(k), freqs.numpy(), scale.numpy())
    sizes = (scale.numpy()[-queries:] if base else 1.0, 1 / scale.numpy() if base else 1.0)
    for a, b, size in zip(result, wanted, sizes, strict=True):
        assert (a.shape, np.asarray(a).dtype) == (tuple(b.shape), b.numpy().dtype)
        beyond = np.abs(np.asarray(a, np.float64) - b.numpy()) - 4 * 2.0**-22 * size
        assert beyond.max(initial=-1.0) <= 0


def test_the_record_is_what_zeta_gives(zeta: Any) -> None:
    import record_zeta

    assert record_zeta.mistakes(zeta) == VECTORS["mistakes"]
    for name, value in record_zeta.of_dim(zeta, 6).items():
        # torch's float32 power may differ by a unit between kinds of CPU.
        np.testing.assert_allclose(np.array(value), np.array(VECTORS["6"][name]), rtol=4 * ULP, atol=4 * 2.0**-22)
