"""equinox beside ropegen.equinox: the same numbers, shapes, errors and pytrees; and the one equation of the rotation."""

from __future__ import annotations

import functools
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parity import Cell

import ropegen as rg

eqx = pytest.importorskip("equinox", reason="equinox is not installed; pip install '.[equinox]'")
rnn = pytest.importorskip("ropegen.equinox", reason="equinox is not installed; pip install '.[equinox]'")

Parity = Callable[[str, str, str, str], Cell]

DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}
CELLS = [(mode, dtype) for dtype in ("f32", "bf16") for mode in ("eager", "jit")]

drawn_in = settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _no_tables_of_other_thetas() -> Iterator[None]:
    """Clear equinox's process-wide tables, whose keys lack theta."""
    eqx.nn._embedding.internal_rope_embedding_cache.clear()
    yield
    eqx.nn._embedding.internal_rope_embedding_cache.clear()


def normal(*shape: int, dtype: Any = jnp.float32, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def in_mode(mode: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return eqx.filter_jit if mode == "jit" else lambda function: function


def over_heads(layer: Any) -> Callable[..., jax.Array]:
    return jax.vmap(layer, in_axes=1, out_axes=1)


def both_ropes(width: int, theta: float = 1e4, dtype: Any = jnp.float32) -> tuple[Any, Any]:
    return rnn.RotaryPositionalEmbedding(width, theta, dtype), eqx.nn.RotaryPositionalEmbedding(width, theta, dtype)


def both_attentions(*sizes: int, seed: int = 0, **options: Any) -> tuple[Any, Any]:
    key = jax.random.key(seed)
    return rnn.MultiheadAttention(*sizes, key=key, **options), eqx.nn.MultiheadAttention(*sizes, key=key, **options)


def ulp(x: Any) -> float:
    """The spacing of x's type at its largest magnitude."""
    largest = float(np.max(np.abs(np.asarray(x, np.float64)), initial=0.0))
    return 2.0 ** np.floor(np.log2(largest)) * float(ml_dtypes.finfo(x.dtype).eps)


def equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation, including those of inner jaxprs."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(tuple(equation.params.values()), is_leaf=lambda value: hasattr(value, "eqns")):
            if hasattr(inner, "eqns"):
                yield from equations(getattr(inner, "jaxpr", inner))


def names(function: Callable[..., Any], *args: Any) -> list[str]:
    return [equation.primitive.name for equation in equations(jax.make_jaxpr(function)(*args).jaxpr)]


# Embedding -------------------------------------------------------------------------------------------------------------

EMBEDDINGS = (rnn.Embedding, eqx.nn.Embedding)


@pytest.mark.parametrize(("mode", "dtype"), CELLS)
def test_embedding_has_the_numbers_of_equinox(parity: Parity, mode: str, dtype: str) -> None:
    cell = parity("equinox", "Embedding", mode, dtype)
    ours, theirs = (kind(11, 6, dtype=DTYPES[dtype], key=jax.random.key(3)) for kind in EMBEDDINGS)
    cell.equal(ours, theirs)
    wrap = in_mode(mode)
    for index in (0, 10, 11, 10**6, -1, -11, -12, -(10**6)):
        cell.equal(wrap(ours)(jnp.int32(index)), wrap(theirs)(jnp.int32(index)))
    many = jnp.array([[3, -1, 40], [0, -40, 7]])
    cell.equal(*(wrap(eqx.filter_vmap(eqx.filter_vmap(layer)))(many) for layer in (ours, theirs)))


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize(
    "index", [7, -3, True + 1, np.int64(70), np.int8(-9), np.uint8(200), np.uint32(2**32 - 1), np.int16(-1)], ids=repr
)
def test_embedding_takes_every_kind_of_integer(index: Any) -> None:
    ours, theirs = (kind(300, 2, key=jax.random.key(0)) for kind in EMBEDDINGS)
    assert np.array_equal(ours(index), theirs(index))
    assert np.array_equal(ours(jnp.asarray(index)), theirs(jnp.asarray(index)))


def test_an_unsigned_index_beyond_int32_is_beyond_the_end() -> None:
    ours, theirs = (kind(5, 2, key=jax.random.key(0)) for kind in EMBEDDINGS)
    assert np.array_equal(ours(np.uint32(2**31)), ours.weight[4])
    assert np.array_equal(theirs(np.uint32(2**31)), theirs.weight[0])  # in equinox the cast to int32 makes it negative


@pytest.mark.usefixtures("quick_compilation")
@given(rows=st.integers(1, 9), width=st.integers(0, 5), index=st.integers(-20, 20))
@drawn_in
def test_embedding_and_its_gradient_on_drawn_shapes(rows: int, width: int, index: int) -> None:
    ours, theirs = (kind(rows, width, key=jax.random.key(rows)) for kind in EMBEDDINGS)

    def of_weight(layer: Any) -> Any:
        return eqx.filter_grad(lambda layer: jnp.sum(jnp.sin(layer(index))))(layer).weight

    assert np.array_equal(ours(index), theirs(index))
    np.testing.assert_allclose(of_weight(ours), of_weight(theirs), rtol=1e-6)


def test_embedding_from_a_weight() -> None:
    weight = normal(5, 3)
    ours = rnn.Embedding(weight=weight)
    assert (ours.num_embeddings, ours.embedding_size) == (5, 3)
    assert np.array_equal(ours(2), weight[2])


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"num_embeddings": 3, "embedding_size": 4},
        {"num_embeddings": 3, "key": 0},
        {"num_embeddings": -1, "embedding_size": 4, "key": 0},
        {"num_embeddings": 3, "embedding_size": -4, "key": 0},
        {"weight": (3,)},
        {"weight": (3, 4, 5)},
        {"weight": (3, 4), "num_embeddings": 4},
        {"weight": (3, 4), "embedding_size": 3},
    ],
    ids=str,
)
def test_embedding_refuses_what_equinox_refuses(parity: Parity, wrong: dict[str, Any]) -> None:
    options = dict(wrong)
    if "key" in options:
        options["key"] = jax.random.key(0)
    if "weight" in options:
        options["weight"] = jnp.zeros(options["weight"])
    cell = parity("equinox", "Embedding", "eager", "f32")
    cell.same_error(*((lambda kind=kind: kind(**options)) for kind in EMBEDDINGS), ValueError)
    with pytest.raises(rg.RopegenError):
        rnn.Embedding(**options)


@pytest.mark.parametrize(
    ("index", "error"),
    [(jnp.arange(2), ValueError), ([1], ValueError), ("a", ValueError), (1.5, TypeError), (jnp.float32(1), TypeError)],
    ids=str,
)
def test_embedding_refuses_the_indices_that_equinox_refuses(
    parity: Parity, index: Any, error: type[BaseException]
) -> None:
    ours, theirs = (kind(5, 2, key=jax.random.key(0)) for kind in EMBEDDINGS)
    cell = parity("equinox", "Embedding", "eager", "f32")
    cell.same_error(lambda: ours(index), lambda: theirs(index), error)
    with pytest.raises(rg.RopegenError):
        ours(index)


def test_a_boolean_is_no_index() -> None:
    ours, theirs = (kind(5, 2, key=jax.random.key(0)) for kind in EMBEDDINGS)
    assert theirs(True).shape == (1, 5, 2)  # equinox: NumPy's mask, and the whole table
    with pytest.raises(TypeError, match="bool"):
        ours(True)


# RotaryPositionalEmbedding ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["f32", "bf16"])
@pytest.mark.parametrize(("mode", "dtype"), CELLS)
def test_rotation_has_the_numbers_of_equinox(parity: Parity, mode: str, dtype: str, table: str) -> None:
    cell = parity("equinox", "RotaryPositionalEmbedding", mode, dtype)
    x = normal(150, 3, 64, dtype=DTYPES[dtype])
    ours, theirs = (in_mode(mode)(over_heads(layer)) for layer in both_ropes(64, 5e5, DTYPES[table]))
    if mode == "eager":
        cell.equal(ours(x), theirs(x))
    else:
        cell.within(ours(x), theirs(x), 4 * ulp(x), "4 ulp(x)")


@given(
    rows=st.integers(0, 40),
    half=st.integers(0, 65),
    theta=st.sampled_from([1e4, 5e5, 1e7]) | st.floats(1.5, 1e7) | st.integers(2, 10**6),
    dtype=st.sampled_from(list(DTYPES.values())),
    table=st.sampled_from(list(DTYPES.values())),
)
@drawn_in
def test_rotation_has_the_bits_of_equinox_on_drawn_layers(
    rows: int, half: int, theta: float, dtype: Any, table: Any
) -> None:
    eqx.nn._embedding.internal_rope_embedding_cache.clear()
    x = normal(rows, 2 * half, dtype=dtype)
    ours, theirs = (layer(x) for layer in both_ropes(2 * half, theta, table))
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert np.array_equal(ours, theirs)


def test_rotation_of_a_long_sequence_has_the_bits_of_equinox(parity: Parity) -> None:
    x = normal(4096, 96)
    ours, theirs = both_ropes(96, 5e5)
    parity("equinox", "RotaryPositionalEmbedding", "eager", "f32").equal(ours(x), theirs(x))


def test_a_table_belongs_to_its_theta(parity: Parity) -> None:
    x = normal(150, 3, 64)
    over_heads(eqx.nn.RotaryPositionalEmbedding(64, 1e4))(x)
    ours, theirs = (over_heads(layer) for layer in both_ropes(64, 5e5))
    cell = parity("equinox", "RotaryPositionalEmbedding", "eager", "f32")
    cell.differs(ours(x), theirs(x), "the seed's cache ignores theta")
    eqx.nn._embedding.internal_rope_embedding_cache.clear()
    cell.equal(ours(x), theirs(x))


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_of_the_rotation_are_those_of_equinox(dtype: str) -> None:
    x, along = normal(9, 2, 16, dtype=DTYPES[dtype]), normal(9, 2, 16, dtype=DTYPES[dtype], seed=1)
    ours, theirs = (over_heads(layer) for layer in both_ropes(16))

    @functools.partial(jax.jit, static_argnums=0)
    def slopes(layer: Any, x: jax.Array, along: jax.Array) -> list[jax.Array]:
        return [jax.jvp(layer, (x,), (along,))[1], jax.vjp(layer, x)[1](along)[0]]

    pushed, pulled = zip(slopes(ours, x, along), slopes(theirs, x, along), strict=True)
    for result, wanted in (pushed, pulled):  # equinox rounds both products of the transpose to x's type
        assert np.max(np.abs(np.asarray(result, np.float64) - np.asarray(wanted, np.float64))) <= 2 * ulp(along)
    product = float(jnp.vdot(pulled[0].astype(jnp.float32), x.astype(jnp.float32)))
    assert product == pytest.approx(float(jnp.vdot(along.astype(jnp.float32), ours(x).astype(jnp.float32))), rel=0.05)


@pytest.mark.usefixtures("quick_compilation")
def test_derivatives_of_derivatives_and_batches_of_them() -> None:
    layer = rnn.RotaryPositionalEmbedding(8)
    x = normal(3, 5, 8)

    def size(x: jax.Array) -> jax.Array:
        return jnp.sum(layer(x) ** 2 * jnp.arange(8))

    def plain(x: jax.Array) -> jax.Array:
        table = jnp.asarray(rg.Rope(pairing="half", angles="f32").table(np.arange(5), 8))
        turned = jnp.concatenate(
            [x[:, :4] * table[:, :4] - x[:, 4:] * table[:, 4:], x[:, 4:] * table[:, :4] + x[:, :4] * table[:, 4:]], 1
        )
        return jnp.sum(turned**2 * jnp.arange(8))

    def derivatives(size: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], Any]:
        again = jax.grad(lambda x: jnp.sum(jnp.cos(jax.grad(jax.checkpoint(size))(x))))
        return jax.jit(jax.vmap(lambda x: (jax.grad(size)(x), jax.hessian(size)(x), again(x))))

    for result, wanted in zip(derivatives(size)(x), derivatives(plain)(x), strict=True):
        np.testing.assert_allclose(result, wanted, atol=2e-4)


@pytest.mark.usefixtures("quick_compilation")
def test_the_rotation_is_one_equation() -> None:
    layer, x = rnn.RotaryPositionalEmbedding(8), normal(2, 5, 3, 8)
    assert names(jax.vmap(over_heads(layer)), x) == ["rotary"]
    assert names(jax.vjp(layer, x[0, :, 0])[1], x[0, :, 0]) == ["rotary"]
    for axes in ((2, 0, 1), (0, 2, 1), (1, 2, 0)):  # (S, H, D) in another layout
        laid_out = jnp.transpose(x[0], axes)
        place = axes.index(1)
        moved = jax.vmap(layer, in_axes=place, out_axes=place)
        if axes.index(0) < axes.index(2):
            assert np.array_equal(moved(laid_out), jnp.transpose(over_heads(layer)(x[0]), axes))


@pytest.mark.usefixtures("quick_compilation")
def test_rotation_at_positions() -> None:
    layer, x = rnn.RotaryPositionalEmbedding(16, 5e5), normal(12, 2, 16)
    whole = over_heads(layer)(x)
    tail = jax.vmap(lambda x: layer(x, positions=np.arange(7, 12)), in_axes=1, out_axes=1)(x[7:])
    assert np.array_equal(tail, whole[7:])

    @jax.jit
    def step(x: jax.Array, position: jax.Array) -> jax.Array:
        return layer(x[None], positions=position[None])[0]

    # Angles that the program computes may be off by S float32 roundings, as in `S * 2^-23 * |x|`.
    for position in (0, 5, 11):
        limit = 12 * 2.0**-23 * float(jnp.max(jnp.abs(x)))
        np.testing.assert_allclose(step(x[position, 1], jnp.int32(position)), whole[position, 1], atol=limit)

    def turned(x: jax.Array, at: jax.Array) -> jax.Array:
        return layer(x, positions=at)

    rows, places = x[:3, 0], jnp.array([[0, 1, 2], [9, 4, 4]])
    slope = jax.grad(lambda x, at: jnp.sum(jnp.sin(turned(x, at))))
    for function in (turned, slope):
        one_by_one = jax.jit(lambda x, places, function=function: [function(x, at) for at in places])(rows, places)
        together = jax.jit(jax.vmap(function, in_axes=(None, 0)))(rows, places)
        np.testing.assert_allclose(together, jnp.stack(one_by_one), atol=1e-5)


@pytest.mark.usefixtures("quick_compilation")
def test_rotation_of_a_symbolic_length() -> None:
    layer, x = rnn.RotaryPositionalEmbedding(16), normal(300, 2, 16)
    (length,) = jax.export.symbolic_shape("s")
    kind = jax.ShapeDtypeStruct((length, 2, 16), jnp.float32)
    exported = jax.export.export(jax.jit(over_heads(layer)))(kind)
    for rows in (300, 7):
        limit = rows * 2.0**-23 * float(jnp.max(jnp.abs(x))) + 1e-6
        np.testing.assert_allclose(exported.call(x[:rows]), over_heads(layer)(x[:rows]), atol=limit)
    with pytest.raises(
        (TypeError, jax.errors.InconclusiveDimensionOperation)
    ):  # the latter applies once a table is kept
        jax.export.export(jax.jit(over_heads(eqx.nn.RotaryPositionalEmbedding(16))))(kind)


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("table", [None, jnp.float32])
def test_rotation_in_64_bits(table: Any) -> None:
    with jax.enable_x64(True):
        x = normal(500, 2, 32, dtype=jnp.float64)
        options = {} if table is None else {"dtype": table}
        ours, theirs = (
            kind(32, 5e5, **options) for kind in (rnn.RotaryPositionalEmbedding, eqx.nn.RotaryPositionalEmbedding)
        )
        assert ours.dtype == theirs.dtype == (jnp.float64 if table is None else jnp.float32)
        result, wanted = (jax.jit(over_heads(layer))(x) for layer in (ours, theirs))
        assert result.dtype == wanted.dtype == jnp.float64
        at = np.arange(500)[:, None, None] * 5e5 ** (-np.arange(16) / 16)
        first, second = np.split(np.asarray(x), 2, axis=-1)
        truth = np.concatenate(
            [first * np.cos(at) - second * np.sin(at), second * np.cos(at) + first * np.sin(at)], axis=-1
        )
        size = float(np.max(np.abs(x)))
        if table is None:
            assert np.max(np.abs(result - truth)) <= 4 * 2.0**-52 * size
            # equinox rounds its frequencies in float64, and the position multiplies the error.
            assert np.max(np.abs(result - wanted)) <= 500 * 2.0**-51 * size
        else:
            assert np.max(np.abs(result - truth)) <= 2 * 2.0**-24 * size  # two cosines, rounded once
            assert np.max(np.abs(result - wanted)) <= 2.0**-23 * size
        later = jax.jit(jax.vmap(lambda x: ours(x, positions=np.arange(500)), in_axes=1, out_axes=1))(x)
        np.testing.assert_allclose(later, result, atol=500 * 2.0**-51 * size if table is None else 2.0**-23 * size)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [((8, 3), ValueError), ((8,), ValueError), ((2, 8, 4), ValueError), ((), ValueError), ((8, 6), ValueError)],
    ids=str,
)
def test_rotation_refuses_the_shapes_that_equinox_refuses(
    parity: Parity, wrong: tuple[int, ...], error: type[BaseException]
) -> None:
    ours, theirs = both_ropes(4)
    cell = parity("equinox", "RotaryPositionalEmbedding", "eager", "f32")
    cell.same_error(lambda: ours(jnp.zeros(wrong)), lambda: theirs(jnp.zeros(wrong)), error)
    with pytest.raises(rg.RopegenError, match="sequence, 4"):
        ours(jnp.zeros(wrong))


@pytest.mark.usefixtures("quick_compilation")
def test_rotation_refuses_widths_and_mixed_types_as_equinox_does(parity: Parity) -> None:
    cell = parity("equinox", "RotaryPositionalEmbedding", "eager", "f32")
    for width in (-2, 3):
        cell.same_error(
            lambda width=width: rnn.RotaryPositionalEmbedding(width),
            lambda width=width: eqx.nn.RotaryPositionalEmbedding(width),
            ValueError,
        )
    ours, theirs = both_ropes(4)
    with jax.numpy_dtype_promotion("strict"):
        mixed = jnp.zeros((2, 4), jnp.bfloat16)
        cell.same_error(lambda: ours(mixed), lambda: theirs(mixed), jax.dtypes.TypePromotionError)
        with pytest.raises(rg.RopegenError, match="bfloat16"):
            ours(mixed)
        alike = normal(5, 4)
        np.testing.assert_allclose(*(eqx.filter_jit(layer)(alike) for layer in (ours, theirs)), atol=1e-6)
    with pytest.raises(rg.RopegenError, match="above 1"):
        rnn.RotaryPositionalEmbedding(4, 0.5)
    for positions in (np.arange(3), np.zeros(5), np.zeros((5, 1), int)):
        with pytest.raises(rg.RopegenError, match="give 5 integers, one per row of x"):
            ours(normal(5, 4), positions=positions)


# MultiheadAttention -----------------------------------------------------------------------------------------------------


def rounding_bound(layer: Any, *inputs: Any) -> tuple[np.ndarray, str]:
    """The bound on the difference of two attentions of the same formula, (output_size,), and the bound in words.

    To first order, both sides round heads, scores and weights to within eps/2 of their size. Scores here are of order
    one, and an attended value is a mean of values, so it is off by about eps of the largest value. The roundings of
    different features are independent and add as squares through the output's projection: eps |W_o| |v|, with Euclidean
    norms of the rows of W_o and of the largest values. Twice that is allowed.
    """
    value = np.asarray(inputs[-1], np.float64) @ np.asarray(layer.value_proj.weight, np.float64).T
    if layer.value_proj.bias is not None:
        value = value + np.asarray(layer.value_proj.bias, np.float64)
    rows = np.linalg.norm(np.asarray(layer.output_proj.weight, np.float64), axis=-1)
    eps = float(ml_dtypes.finfo(layer.query_proj.weight.dtype).eps)
    size = rows * np.linalg.norm(np.abs(value).max(axis=0))
    if layer.output_proj.bias is not None:
        size = size + np.abs(np.asarray(layer.output_proj.bias, np.float64))
    return 2 * eps * size, "2 eps x norm of W_o x norm of the values"


def rotating(layer: Any) -> Callable[..., Any]:
    return lambda q, k, v: (over_heads(layer)(q), over_heads(layer)(k), v)


@pytest.mark.parametrize(("mode", "dtype"), CELLS)
def test_attention_has_the_numbers_of_equinox(parity: Parity, mode: str, dtype: str) -> None:
    cell = parity("equinox", "MultiheadAttention", mode, dtype)
    ours, theirs = both_attentions(4, 32, use_query_bias=True, use_output_bias=True, dtype=DTYPES[dtype])
    assert jax.tree.all(jax.tree.map(np.array_equal, ours, rnn.from_equinox(theirs)))
    x, other = normal(13, 32, dtype=DTYPES[dtype]), normal(13, 32, dtype=DTYPES[dtype], seed=1)
    causal = np.tri(13, dtype=bool)
    causal[4] = False  # a row that sees no key takes the mean
    heads = np.stack([causal, causal.T, causal, np.ones_like(causal)])

    def results(layer: Any, rope: Any) -> Callable[..., list[jax.Array]]:
        def of(x: jax.Array, other: jax.Array) -> list[jax.Array]:
            plain = layer(x, other, x, causal)
            return [plain, layer(x, other, x, heads, process_heads=rotating(rope))]

        return in_mode(mode)(of)

    limit, words = rounding_bound(theirs, x, other, x)
    pairs = zip((ours, theirs), both_ropes(8), strict=True)
    cell.within(*(results(*pair)(x, other) for pair in pairs), limit, words)


@pytest.mark.usefixtures("quick_compilation")
@given(
    heads=st.integers(1, 4),
    queries=st.integers(1, 9),
    keys=st.integers(1, 9),
    sizes=st.tuples(*[st.integers(1, 9)] * 6),
    biases=st.tuples(*[st.booleans()] * 4),
    dtype=st.sampled_from(["f32", "bf16", "f16"]),
    masked=st.sampled_from(["no", "one", "each"]),
)
@settings(drawn_in, max_examples=2)
def test_attention_has_the_numbers_of_equinox_on_drawn_layers(
    heads: int,
    queries: int,
    keys: int,
    sizes: tuple[int, ...],
    biases: tuple[bool, ...],
    dtype: str,
    masked: str,
) -> None:
    options = dict(
        zip(("query_size", "key_size", "value_size", "output_size", "qk_size", "vo_size"), sizes, strict=True)
    )
    named = dict(zip(("use_query_bias", "use_key_bias", "use_value_bias", "use_output_bias"), biases, strict=True))
    ours, theirs = both_attentions(heads, **options, **named, dtype=DTYPES[dtype])
    rows = [(queries, sizes[0]), (keys, sizes[1]), (keys, sizes[2])]
    inputs = [normal(*shape, dtype=DTYPES[dtype], seed=place) for place, shape in enumerate(rows)]
    shape = {"one": (queries, keys), "each": (heads, queries, keys)}.get(masked)
    mask = None if shape is None else np.random.default_rng(5).random(shape) < 0.6
    result, wanted = (eqx.filter_jit(layer)(*inputs, mask) for layer in (ours, theirs))
    assert (result.shape, result.dtype) == (wanted.shape, wanted.dtype)
    limit, _ = rounding_bound(theirs, *inputs)
    assert (np.abs(np.asarray(result, np.float64) - np.asarray(wanted, np.float64)) <= limit).all()


def test_a_row_that_sees_no_key_takes_the_mean(parity: Parity) -> None:
    ours, theirs = both_attentions(2, 8)
    x, unseen = normal(5, 8), np.zeros((5, 5), bool)
    result, wanted = (eqx.filter_jit(layer)(x, x, x, unseen) for layer in (ours, theirs))
    heads = x @ ours.value_proj.weight.T
    np.testing.assert_allclose(result[0], jnp.mean(heads, axis=0) @ ours.output_proj.weight.T, atol=1e-5)
    cell = parity("equinox", "MultiheadAttention", "jit", "f32")
    cell.within(result, wanted, *rounding_bound(theirs, x, x, x))


@pytest.mark.usefixtures("quick_compilation")
def test_masks_of_numbers_and_mixed_types() -> None:
    ours, theirs = both_attentions(2, 8)
    x = normal(5, 8)
    low = x.astype(jnp.bfloat16)

    def results(layer: Any) -> list[jax.Array]:
        masks = jnp.tril(jnp.ones((5, 5))), np.tri(5, dtype=np.int32)
        return [*(layer(x, x, x, mask) for mask in masks), layer(low, x, low)]

    for result, wanted in zip(*(eqx.filter_jit(results)(layer) for layer in (ours, theirs)), strict=True):
        assert result.dtype == wanted.dtype == jnp.float32
        np.testing.assert_allclose(result, wanted, atol=1e-5)


@pytest.mark.usefixtures("quick_compilation")
def test_dropout_drops_the_weights_that_equinox_drops() -> None:
    ours, theirs = both_attentions(4, 16, dropout_p=0.4)
    x, key = normal(9, 16), jax.random.key(7)
    rope = both_ropes(4)
    mask = np.tri(9, dtype=bool)
    result, wanted = (
        eqx.filter_jit(layer)(x, x, x, mask, key=key, process_heads=rotating(angles))
        for layer, angles in zip((ours, theirs), rope, strict=True)
    )
    limit, _ = rounding_bound(theirs, x, x, x)
    error = np.abs(np.asarray(result, np.float64) - np.asarray(wanted, np.float64))
    assert (error <= limit / 0.6).all()  # kept weights are divided by the probability to keep one

    @jax.jit
    def calm(x: jax.Array) -> list[jax.Array]:
        layers = (eqx.nn.inference_mode(ours), functools.partial(ours, inference=True), ours_without_dropout)
        return [layer(x, x, x, mask, process_heads=rotating(rope[0])) for layer in layers]

    ours_without_dropout = both_attentions(4, 16)[0]
    by_mode, by_argument, without = calm(x)
    assert np.array_equal(by_mode, without)
    assert np.array_equal(by_argument, without)
    assert not np.allclose(result, without, atol=0.05)


REFUSED: dict[str, tuple[Callable[[Any, jax.Array], Any], type[BaseException]]] = {
    "a query of rank 1": (lambda layer, x: layer(x[0], x, x), ValueError),
    "a value of rank 3": (lambda layer, x: layer(x, x, x[None]), ValueError),
    "keys and values of two lengths": (lambda layer, x: layer(x, x, x[:2]), ValueError),
    "too few features": (lambda layer, x: layer(x[:, :4], x, x), TypeError),
    "a mask that broadcasts": (lambda layer, x: layer(x, x, x, jnp.ones((1, 3), bool)), ValueError),
    "a mask for one head": (lambda layer, x: layer(x, x, x, jnp.ones((1, 3, 3), bool)), ValueError),
    "a mask of rank 1": (lambda layer, x: layer(x, x, x, jnp.ones(3, bool)), ValueError),
    "a mask of rank 4": (lambda layer, x: layer(x, x, x, jnp.ones((1, 2, 3, 3), bool)), ValueError),
    "heads of another shape": (
        lambda layer, x: layer(x, x, x, process_heads=lambda q, k, v: (q[1:], k, v)),
        ValueError,
    ),
    "two heads for three": (lambda layer, x: layer(x, x, x, process_heads=lambda q, k, v: (q, k)), ValueError),
    "no heads": (lambda layer, x: layer(x, x, x, process_heads=lambda q, k, v: 3), TypeError),
    "dropout without a key": (lambda layer, x: eqx.tree_at(lambda m: m.dropout.p, layer, 0.5)(x, x, x), RuntimeError),
    "no key to draw from": (lambda layer, x: type(layer)(2, 8), TypeError),
}


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", REFUSED)
def test_attention_refuses_what_equinox_refuses(parity: Parity, name: str) -> None:
    call, error = REFUSED[name]
    ours, theirs = both_attentions(2, 8)
    x = normal(3, 8)
    cell = parity("equinox", "MultiheadAttention", "eager", "f32")
    cell.same_error(lambda: call(ours, x), lambda: call(theirs, x), error)
    if error is ValueError:
        with pytest.raises(rg.RopegenError, match="MultiheadAttention"):
            call(ours, x)


@pytest.mark.usefixtures("quick_compilation")
def test_the_deprecated_argument_warns_and_works() -> None:
    ours, theirs = both_attentions(2, 8, dropout_p=0.5)
    x = normal(3, 8)
    with pytest.warns(UserWarning, match="deterministic"):
        result, wanted = (eqx.filter_jit(layer)(x, x, x, deterministic=True) for layer in (ours, theirs))
    np.testing.assert_allclose(result, wanted, atol=1e-6)


# The rotation inside the fused attention --------------------------------------------------------------------------------


def attends(function: Callable[..., Any], *args: Any) -> dict[str, int]:
    """The number of ropegen's equations in the jaxpr, by name, and of rotations inside the fused regions."""
    counts = {"attend": 0, "attend_backward": 0, "rotary": 0, "inside": 0}
    for equation in equations(eqx.filter_make_jaxpr(function)(*args)[0].jaxpr):
        if (name := equation.primitive.name) in counts:
            counts[name] += 1
        if name == "attend":
            counts["inside"] += sum(node.op.name == "rotate" for node in equation.params["closed"].nodes)
    return counts


def through_transposes(layer: Any) -> Callable[..., Any]:
    def turned(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(jax.jit(jax.vmap(layer))(jnp.transpose(x, (1, 0, 2))), 1, 0)

    return lambda q, k, v: (turned(q), eqx.filter_vmap(layer, in_axes=1, out_axes=1)(k), v)


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("process", [rotating, through_transposes])
def test_a_rotation_of_ropegen_moves_into_the_fused_attention(process: Callable[[Any], Any]) -> None:
    layer, _ = both_attentions(2, 16)
    rope, x, y = rnn.RotaryPositionalEmbedding(8), normal(6, 16), normal(9, 16, seed=1)

    def fused(layer: Any, x: jax.Array) -> jax.Array:
        return layer(x, y, y, process_heads=process(rope))

    # The function passes an unknown value through, so the rotation stays outside.
    def apart(layer: Any, x: jax.Array) -> jax.Array:
        return layer(x, y, y, process_heads=lambda q, k, v: process(rope)(q * jnp.ones(()), k, v))

    assert attends(fused, layer, x) == {"attend": 1, "attend_backward": 0, "rotary": 0, "inside": 2}
    assert attends(apart, layer, x) == {"attend": 1, "attend_backward": 0, "rotary": 2, "inside": 0}
    np.testing.assert_allclose(*(eqx.filter_jit(function)(layer, x) for function in (fused, apart)), atol=1e-6)
    slopes = [eqx.filter_grad(lambda layer, f=f: jnp.sum(jnp.sin(f(layer, x)))) for f in (fused, apart)]
    if process is not rotating:
        return  # these are the same equations, and the other case compares their derivatives
    assert attends(slopes[0], layer) == {"attend": 1, "attend_backward": 1, "rotary": 0, "inside": 2}
    for result, wanted in zip(*(jax.tree.leaves(eqx.filter_jit(slope)(layer)) for slope in slopes), strict=True):
        np.testing.assert_allclose(result, wanted, atol=1e-5)


def test_the_fused_attention_reads_raw_heads() -> None:
    layer, _ = both_attentions(2, 16)
    rope, x = rnn.RotaryPositionalEmbedding(8), normal(6, 16)
    jaxpr = jax.make_jaxpr(lambda x: layer(x, x, x, process_heads=rotating(rope)))(x).jaxpr
    made_by = {out: equation.primitive.name for equation in jaxpr.eqns for out in equation.outvars}
    (attend,) = (equation for equation in jaxpr.eqns if equation.primitive.name == "attend")
    heads = [variable for variable in attend.invars if variable.aval.shape == (6, 2, 8)]
    assert [made_by[variable] for variable in heads] == ["reshape"] * 3
    assert not {"mul", "sin", "cos", "neg", "concatenate"} & set(made_by.values())


@pytest.mark.usefixtures("quick_compilation")
def test_positions_travel_into_the_fused_attention() -> None:
    layer, _ = both_attentions(2, 16)
    rope, x = rnn.RotaryPositionalEmbedding(8), normal(7, 16)

    def decode(x: jax.Array, place: jax.Array, keep: bool = True) -> jax.Array:
        def process(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
            turn = jax.vmap(lambda q: rope(q, positions=place), in_axes=1, out_axes=1)
            return turn(q if keep else q * jnp.ones(())), over_heads(rope)(k), v

        return layer(x[-1:], x, x, process_heads=process)

    place = jnp.array([6])
    assert attends(decode, x, place) == {"attend": 1, "attend_backward": 0, "rotary": 0, "inside": 2}
    places = jnp.array([[6], [2]])

    @jax.jit
    def results(x: jax.Array) -> list[jax.Array]:
        together = [jax.vmap(lambda at, keep=keep: decode(x, at, keep), out_axes=0)(places) for keep in (True, False)]
        return [
            *together,
            jnp.stack([decode(x, place) for place in places]),
            layer(x, x, x, process_heads=rotating(rope)),
        ]

    fused, apart, one_by_one, whole = results(x)
    np.testing.assert_allclose(fused, apart, atol=1e-5)
    np.testing.assert_allclose(fused, one_by_one, atol=1e-5)
    np.testing.assert_allclose(fused[0, 0], whole[-1], atol=1e-5)


def _on_the_wrong_axis(layer: Any) -> Callable[..., Any]:
    return lambda q, k, v: (jax.vmap(layer)(q), jax.vmap(layer)(k), v)


def _turned_heads_in_another_order(layer: Any) -> Callable[..., Any]:
    return lambda q, k, v: (over_heads(layer)(q), jnp.transpose(over_heads(layer)(k), (1, 0, 2)), v)


OTHER_HEADS: dict[str, Callable[[Any], Callable[..., Any]]] = {
    "nothing": lambda layer: lambda q, k, v: (q, k, v),
    "other operations": lambda layer: lambda q, k, v: (2 * q, jnp.tanh(k), v - 1),
    "a rotation and more": lambda layer: lambda q, k, v: (over_heads(layer)(q), over_heads(layer)(k) + 1, v),
    "the queries alone": lambda layer: lambda q, k, v: (over_heads(layer)(q), k, v),
    "the keys alone": lambda layer: lambda q, k, v: (q, over_heads(layer)(k), v),
    "values too": lambda layer: lambda q, k, v: tuple(over_heads(layer)(heads) for heads in (q, k, v)),
    "twice": lambda layer: lambda q, k, v: (over_heads(layer)(over_heads(layer)(q)), over_heads(layer)(k), v),
    "queries for keys": lambda layer: lambda q, k, v: (over_heads(layer)(k), over_heads(layer)(q), v),
    "two thetas": lambda layer: (
        lambda q, k, v: (
            over_heads(layer)(q),
            over_heads(type(layer)(4, 77.0))(k),
            v,
        )
    ),
    "a table of bfloat16": lambda layer: rotating(type(layer)(4, 1e4, jnp.bfloat16)),
    "heads for the sequence": _on_the_wrong_axis,
    "keys in another order": _turned_heads_in_another_order,
}


@pytest.mark.usefixtures("quick_compilation")
def test_other_heads_are_what_equinox_computes() -> None:
    ours, theirs = both_attentions(4, 16)
    x = normal(4, 16)  # as many rows as heads, so that every order of axes has the same shape
    our_rope, their_rope = both_ropes(4)

    def results(layer: Any, rope: Any) -> dict[str, jax.Array]:
        # Rotations of two thetas would share equinox's table.
        ropes = {"two thetas": our_rope}
        return {
            name: layer(x, x, x, process_heads=process(ropes.get(name, rope))) for name, process in OTHER_HEADS.items()
        }

    result, wanted = (eqx.filter_jit(results)(layer, rope) for layer, rope in ((ours, our_rope), (theirs, their_rope)))
    for name in OTHER_HEADS:
        np.testing.assert_allclose(result[name], wanted[name], atol=2e-6, err_msg=name)
    assert not np.allclose(result["two thetas"], ours(x, x, x, process_heads=rotating(our_rope)), atol=1e-3)
    assert attends(results, ours, our_rope)["inside"] == 0


@pytest.mark.usefixtures("quick_compilation")
def test_process_heads_may_read_numbers() -> None:
    layer, _ = both_attentions(4, 16)
    rope, x = rnn.RotaryPositionalEmbedding(4), normal(4, 16)

    def process(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
        return rotating(rope)(q, k, v) if float(q[0, 0, 0]) < 1e9 else (q, k, v)

    result, wanted = (layer(x, x, x, process_heads=function) for function in (process, rotating(rope)))
    np.testing.assert_allclose(result, wanted, atol=1e-6)
    with pytest.raises(jax.errors.ConcretizationTypeError):
        jax.jit(lambda x: layer(x, x, x, process_heads=process))(x)


@pytest.mark.usefixtures("quick_compilation")
def test_effects_of_process_heads_are_kept(capfd: pytest.CaptureFixture[str]) -> None:
    layer, _ = both_attentions(2, 8)
    rope, x = rnn.RotaryPositionalEmbedding(4), normal(3, 8)

    def process(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
        jax.debug.print("seen {}", q.shape[0])
        return rotating(rope)(q, k, v)

    jax.block_until_ready(layer(x, x, x, process_heads=process))
    jax.effects_barrier()
    assert capfd.readouterr().out.count("seen 3") == 1


# Modules ----------------------------------------------------------------------------------------------------------------


class TransformerBlock(eqx.Module):
    """The transformer block of equinox's documentation."""

    embedding: Any
    rope_embeddings: Any
    mha_attention: Any
    norm: Any

    def __init__(self, nn: Any, key: jax.Array) -> None:
        first, second = jax.random.split(key)
        self.embedding = nn.Embedding(30, 16, key=first)
        self.rope_embeddings = nn.RotaryPositionalEmbedding(4)
        self.mha_attention = nn.MultiheadAttention(4, 16, dropout_p=0.1, key=second)
        self.norm = eqx.nn.LayerNorm(16)

    def __call__(self, ids: jax.Array) -> jax.Array:
        def process_heads(q: jax.Array, k: jax.Array, v: jax.Array) -> Any:
            q = jax.vmap(self.rope_embeddings, in_axes=1, out_axes=1)(q)
            k = jax.vmap(self.rope_embeddings, in_axes=1, out_axes=1)(k)
            return q, k, v

        x = jax.vmap(self.embedding)(ids)
        mask = jnp.tril(jnp.ones((len(ids), len(ids)), bool))
        return x + self.mha_attention(*[jax.vmap(self.norm)(x)] * 3, mask, process_heads=process_heads)


@pytest.mark.usefixtures("quick_compilation")
def test_a_model_of_equinox_becomes_ropegens() -> None:
    theirs = TransformerBlock(eqx.nn, jax.random.key(1))
    ours = rnn.from_equinox(theirs)
    fresh = TransformerBlock(rnn, jax.random.key(1))
    assert jax.tree.structure(ours) == jax.tree.structure(fresh)
    assert jax.tree.all(jax.tree.map(np.array_equal, ours, fresh))
    assert type(ours.norm) is eqx.nn.LayerNorm
    with pytest.raises(RuntimeError, match="key"):
        ours(jnp.array([3, 1]))


@pytest.mark.usefixtures("quick_compilation")
def test_training_moves_both_alike() -> None:
    ids = jnp.array([[3, 1, 4, 1, 5, 9], [2, 6, 5, 3, 5, 8]])

    def loss(block: Any) -> Any:
        out = eqx.filter_vmap(block)(ids)
        return jnp.mean((out - 1.0) ** 2), out

    @eqx.filter_jit
    def step(block: Any) -> Any:
        slopes, out = eqx.filter_grad(loss, has_aux=True)(block)
        return eqx.apply_updates(block, jax.tree.map(lambda slope: -0.1 * slope, slopes)), out

    theirs = eqx.nn.inference_mode(TransformerBlock(eqx.nn, jax.random.key(1)))
    ours = rnn.from_equinox(theirs)
    for _ in range(3):
        (ours, our_loss), (theirs, wanted) = step(ours), step(theirs)
        np.testing.assert_allclose(our_loss, wanted, atol=1e-5)
    for result, wanted in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(result, wanted, atol=1e-5)


@pytest.mark.usefixtures("quick_compilation")
def test_leaves_that_equinox_saved_load() -> None:
    theirs = TransformerBlock(eqx.nn, jax.random.key(1))
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, theirs)
    file.seek(0)
    ours = eqx.tree_deserialise_leaves(file, TransformerBlock(rnn, jax.random.key(2)))
    assert jax.tree.all(jax.tree.map(np.array_equal, ours, rnn.from_equinox(theirs)))


@pytest.mark.usefixtures("quick_compilation")
def test_the_modules_are_pytrees() -> None:
    layer, theirs = both_attentions(2, 8, use_value_bias=True)
    paths = [[jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(tree)] for tree in (layer, theirs)]
    assert paths[0] == paths[1]
    halved = eqx.tree_at(lambda module: module.query_proj.weight, layer, replace_fn=lambda weight: weight / 2)
    np.testing.assert_array_equal(halved.query_proj.weight * 2, layer.query_proj.weight)
    dynamic, static = eqx.partition(layer, eqx.is_inexact_array)
    assert eqx.tree_equal(eqx.combine(dynamic, static), layer)
    rope = rnn.RotaryPositionalEmbedding(8, theta=5e5)
    assert jax.tree.leaves(rope) == []
    assert rope == rnn.RotaryPositionalEmbedding(8, theta=5e5) != rnn.RotaryPositionalEmbedding(8)
    x = normal(2, 3, 8)
    ensemble = eqx.filter_vmap(lambda key: rnn.MultiheadAttention(2, 8, key=key))(
        jax.random.split(jax.random.key(0), 2)
    )
    out = eqx.filter_jit(eqx.filter_vmap(lambda layer, x: layer(x, x, x)))(ensemble, x)
    for index in range(2):
        one = jax.tree.map(lambda leaf, index=index: leaf[index] if eqx.is_array(leaf) else leaf, ensemble)
        np.testing.assert_allclose(out[index], one(x[index], x[index], x[index]), atol=1e-5)


def test_without_equinox_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['equinox'] = None; import ropegen; import ropegen.equinox"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = "ModuleNotFoundError: ropegen.equinox: equinox is not installed; pip install equinox"
    assert done.stderr.strip().splitlines()[-1] == said
    assert "During handling" not in done.stderr
