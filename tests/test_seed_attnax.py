"""`ropegen.nnx` beside attnax 0.2.0, symbol by symbol: the same bits where attnax follows its documentation, and every difference.

Bounds are derived: u is half the spacing of floats at 1, so one rounding of a value y is off by at most u |y|.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parity import Cell

from ropegen import RopegenError

flax_nnx = pytest.importorskip("flax.nnx", reason="ropegen.nnx needs flax: pip install '.[flax]'")
attnax = pytest.importorskip("attnax", reason="the seed to compare with: pip install attnax==0.2.0")
if attnax.__version__ != "0.2.0":
    pytest.skip(f"attnax is {attnax.__version__}, the seed is attnax==0.2.0", allow_module_level=True)

from ropegen import nnx  # noqa: E402  (needs flax)

Parity = Callable[[str, str, str, str], Cell]

TYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}
FUNCTIONS = (attnax, nnx)
# Eager ops compile once per shape, which takes most of the time here.
drawn_inputs = settings(deadline=None, max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
quickly = pytest.mark.usefixtures("quick_compilation")
every_cell = pytest.mark.parametrize(("mode", "dtype"), [(m, d) for m in ("eager", "jit") for d in ("f32", "bf16")])


def drawn(*shape: int, dtype: Any = jnp.float32, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def ones(*shape: int) -> jax.Array:
    return jnp.asarray(np.ones(shape, np.float32))  # compiles nothing


def places(*shape: int, top: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).integers(0, top, shape), jnp.int32)


def wide(x: Any) -> np.ndarray:
    return np.asarray(x).astype(np.float64)


def run(mode: str, function: Callable[..., Any], *arrays: Any) -> Any:
    """Run a function of arrays, or a module with its arrays as state, in the mode of a cell."""
    if isinstance(function, flax_nnx.Module):
        return flax_nnx.jit(lambda m, *x: m(*x))(function, *arrays) if mode == "jit" else function(*arrays)
    return jax.jit(function)(*arrays) if mode == "jit" else function(*arrays)


def both(name: str, *arguments: Any, seed: int = 7, dtype: Any = jnp.float32, **options: Any) -> tuple[Any, Any]:
    """ropegen's module and the seed's in `dtype`, from the same random keys; biases, which start at zero, are drawn."""
    made = [getattr(library, name)(flax_nnx.Rngs(seed), *arguments, **options) for library in (nnx, attnax)]
    for module in made:
        if hasattr(module, "proj"):
            module.proj.bias[...] = drawn(*module.proj.bias.shape, seed=3)
        flax_nnx.update(module, jax.tree.map(lambda x: x.astype(dtype), flax_nnx.state(module)))
    return made[0], made[1]


def refusal(ours: Callable[[], Any], *kinds: type[BaseException]) -> np.ndarray:
    """The message of ropegen's error."""
    with pytest.raises(RopegenError) as caught:
        ours()
    assert all(isinstance(caught.value, kind) for kind in kinds)
    return np.asarray(str(caught.value))


def spacing(dtype: Any, x: Any) -> float:
    """The value ulp(x): the spacing of floats of `dtype` at the largest |x|."""
    return float(jnp.finfo(dtype).eps) * 2.0 ** np.floor(np.log2(np.max(np.abs(wide(x)))))


# --- TokenEmbedding ----------------------------------------------------------------------------------------------------


@every_cell
def test_tokens_are_rows_and_ids_outside_the_table_are_as_in_flax(parity: Parity, mode: str, dtype: str) -> None:
    ours, theirs = both("TokenEmbedding", 11, 8, dtype=TYPES[dtype])
    ids = jnp.array([[0, 10, 3, 3], [-1, -11, 11, -12], [2**31 - 1, -(2**31), 5, 1]], jnp.int32)
    result = run(mode, ours, ids)
    parity("attnax", "TokenEmbedding", mode, dtype).equal(result, run(mode, theirs, ids))
    outside = np.isnan(wide(result)).all(-1)
    assert outside.tolist() == [[False] * 4, [False, False, True, True], [True, True, False, False]]
    assert np.array_equal(np.isnan(wide(result)).any(-1), outside)


@quickly
@drawn_inputs
@given(
    st.integers(1, 300),
    st.integers(1, 40),
    st.sampled_from(["int8", "uint8", "int16", "uint32", "int32"]),
    st.integers(0, 99),
)
def test_token_tables_are_drawn_as_the_seed_draws_them(rows: int, width: int, kind: str, seed: int) -> None:
    ours, theirs = both("TokenEmbedding", rows, width, seed=seed)
    assert np.array_equal(ours.embed.embedding[...], theirs.embed.embedding[...])
    limits = np.iinfo(kind)
    ids = np.random.default_rng(seed).integers(
        max(limits.min, -rows - 2), min(limits.max, rows + 2), (2, 9), endpoint=True
    )
    ids = jnp.asarray(ids, kind)
    wanted = theirs(ids.astype(jnp.int32))
    assert np.array_equal(ours(ids), wanted, equal_nan=True)
    if kind != "uint8" or rows < 256:  # the seed computes in the type of the ids
        assert np.array_equal(ours(ids), theirs(ids), equal_nan=True) or kind == "int8"


def test_ids_too_large_for_int32_are_outside() -> None:
    ours, theirs = both("TokenEmbedding", 11, 4)
    ids = jnp.array([2**32 - 1, 2**31, 3], jnp.uint32)
    assert np.array_equal(ours(ids), theirs(ids), equal_nan=True)
    assert np.isnan(wide(ours(ids))).all(-1).tolist() == [True, True, False]


# --- PositionalEncoding ------------------------------------------------------------------------------------------------


@every_cell
def test_encodings_are_added_and_the_result_is_promoted(parity: Parity, mode: str, dtype: str) -> None:
    ours, theirs = nnx.PositionalEncoding(40, 12), attnax.PositionalEncoding(40, 12)
    cell = parity("attnax", "PositionalEncoding", mode, dtype)
    cell.equal(ours.positional, theirs.positional)
    for length, start in ((40, 0), (7, 33), (1, 39)):
        x = drawn(2, length, 12, dtype=TYPES[dtype])
        added = (run(mode, functools.partial(module, start=start), x) for module in (ours, theirs))
        cell.equal(*added)
    # The seed repeats the last row, returns an empty result beyond it, and counts negative rows from the end.
    x = drawn(2, 7, 12, dtype=TYPES[dtype])
    cell.differs(
        refusal(lambda: run(mode, lambda x: ours(x, 39), x)),
        run(mode, lambda x: theirs(x, 39), x),
        "rows outside the table are refused",
    )
    cell.differs(
        refusal(lambda: run(mode, lambda x: ours(x, 40), x[:, :1])),
        run(mode, lambda x: theirs(x, 40), x[:, :1]),
        "rows outside the table are refused",
    )
    cell.differs(
        refusal(lambda: run(mode, lambda x: ours(x, -9), x)),
        run(mode, lambda x: theirs(x, -9), x),
        "rows outside the table are refused",
    )
    cell.differs(
        refusal(lambda: run(mode, ours, x[..., :1])),
        run(mode, theirs, x[..., :1]),
        "x of another shape is refused",
    )


@quickly
@drawn_inputs
@given(st.integers(1, 700), st.integers(1, 70))
def test_encodings_have_the_bits_of_the_seed(length: int, width: int) -> None:
    result, wanted = (
        nnx.PositionalEncoding(length, width).positional,
        attnax.PositionalEncoding(length, width).positional,
    )
    assert result.dtype == wanted.dtype
    assert np.array_equal(result, wanted)


def test_a_traced_start_which_the_seed_refuses_serves_every_decode_step() -> None:
    ours, theirs = nnx.PositionalEncoding(9, 8), attnax.PositionalEncoding(9, 8)
    x = drawn(2, 3, 8, dtype=jnp.bfloat16)
    with pytest.raises(IndexError):
        jax.jit(theirs)(x, 1)
    step = jax.jit(ours)
    for start in (0, 4, 6):
        assert np.array_equal(step(x, start), theirs(x, start))
    assert np.isnan(wide(step(x, 8))).all((0, 2)).tolist() == [False, True, True]
    assert np.isnan(wide(step(x, -1))).all((0, 2)).tolist() == [True, False, False]
    refusal(lambda: step(x, 1.0), TypeError)
    refusal(lambda: step(x, jnp.zeros(2, jnp.int32)), TypeError)


# --- RoPE: frequencies, tables, rotation ----------------------------------------------------------------------------------

HEAD, BASE = 96, 5e5  # NumPy and torch have other float32 frequencies there than XLA


def within_graph(length: int) -> tuple[float, str]:
    """The bound for angles computed inside a jit, where XLA may divide instead of multiply.

    That gives 3 roundings of an angle below `length`. The exponent e gets 2 more, which change an angle p b**-e by
    p 2u e log(b) b**-e <= 0.74 u p.
    """
    return length * 2.0**-22, "S 2**-22, if the seed computes its angles inside the jit"


def results(mode: str, name: str, *arguments: Any, at: jax.Array | None = None) -> list[Any]:
    """The results of one function: ropegen's, ropegen's with the seed's steps, and the seed's. The last argument is the type."""
    ours = getattr(nnx, name)
    makes = (ours, functools.partial(ours, angle_dtype=arguments[-1]), getattr(attnax, name))
    given = () if at is None else (at,)
    return [run(mode, lambda *at, make=make: make(*at, *arguments), *given) for make in makes]


@every_cell
def test_frequencies(parity: Parity, mode: str, dtype: str) -> None:
    cell = parity("attnax", "rope_inv_freq", mode, dtype)
    kind = TYPES[dtype]
    ours, steps, theirs = results(mode, "rope_inv_freq", HEAD, BASE, kind)
    if dtype == "bf16":
        cell.equal(steps, theirs)
        cell.differs(ours, theirs, "ropegen's angles are float32 (`angle_dtype` gives the seed's)")
        truth = BASE ** (-2 * np.arange(HEAD // 2) / HEAD)
        assert np.max(np.abs(wide(ours) / truth - 1)) < 2.0**-8 + 1e-6  # one rounding
        assert np.max(np.abs(wide(theirs) / truth - 1)) > 2.0**-8 + 1e-6
    elif mode == "eager":
        cell.equal(ours, theirs)
    else:
        # Two roundings of the exponent e, which change the result by 2u e log(base), and at most four of power and quotient per side.
        limit = (4 + np.log(BASE)) * 2.0**-23 * wide(ours)
        cell.within(ours, theirs, limit, "(4 + log base) ulp, if the seed computes it inside the jit")
    cell.differs(
        refusal(lambda: run(mode, lambda: nnx.rope_inv_freq(7, 1e4, kind)), ValueError),
        run(mode, lambda: attnax.rope_inv_freq(7, 1e4, kind)),
        "an odd head_dim is refused",
    )


@every_cell
def test_tables(parity: Parity, mode: str, dtype: str) -> None:
    cell, length, kind = parity("attnax", "rope_cos_sin_table", mode, dtype), 2048, TYPES[dtype]
    compare_angles(cell, *results(mode, "rope_cos_sin_table", length, HEAD, BASE, kind), length)
    cell.differs(
        refusal(lambda: run(mode, lambda: nnx.rope_cos_sin_table(5, 7, 1e4, kind)), ValueError),
        run(mode, lambda: attnax.rope_cos_sin_table(5, 7, 1e4, kind)[0]),
        "an odd head_dim is refused",
    )


def compare_angles(cell: Cell, ours: Any, steps: Any, theirs: Any, length: int) -> None:
    if cell.place[3] == "bf16":
        cell.equal(steps, theirs)
        cell.differs(ours, theirs, "ropegen's angles are float32 (`angle_dtype` gives the seed's)")
        # The seed's cosines are lost.
        assert max(np.max(np.abs(wide(a) - wide(b))) for a, b in zip(ours, theirs, strict=True)) > 1.0
    elif cell.place[2] == "eager":
        cell.equal(ours, theirs)
    else:
        cell.within(ours, theirs, *within_graph(length))


@every_cell
def test_cosines_at_positions(parity: Parity, mode: str, dtype: str) -> None:
    cell, length, kind = parity("attnax", "rope_cos_sin_from_positions", mode, dtype), 2048, TYPES[dtype]
    result = results(mode, "rope_cos_sin_from_positions", HEAD, BASE, length, kind, at=places(3, 50, top=length))
    compare_angles(cell, *result, length)
    outside = jnp.array([[2048, 2**30, -1, 5]], jnp.int32)
    *pairs, theirs = results(mode, "rope_cos_sin_from_positions", HEAD, BASE, length, kind, at=outside)
    for ours in pairs:
        cell.differs(ours, theirs, "positions outside the table are NaN")
        for array in ours:
            assert np.isnan(wide(array)).all(-1).tolist() == [[True, True, True, False]]
            assert not np.isnan(wide(array))[:, 3].any()


@every_cell
def test_a_rotary_embedding_holds_its_table(parity: Parity, mode: str, dtype: str) -> None:
    cell, length, kind = parity("attnax", "RotaryEmbedding", mode, dtype), 2048, TYPES[dtype]
    at = places(2, 33, top=length)

    def rows(module: Any, at: jax.Array, out_dtype: Any = kind) -> Any:
        return run(mode, lambda at: module.cos_sin_for_positions(at, out_dtype=out_dtype), at)

    ours, theirs = (library.RotaryEmbedding(64, length, base=5e5) for library in (nnx, attnax))
    cell.equal((ours.cos_cached, ours.sin_cached), (theirs.cos_cached, theirs.sin_cached))
    cell.equal(rows(ours, at), rows(theirs, at))  # float32 tables, rounded once
    outside = jnp.array([length, -1, -length - 1], jnp.int32)
    cell.differs(
        rows(ours, outside),
        rows(theirs, outside),
        "positions outside the table are NaN",
    )
    assert all(np.isnan(wide(array)).all() for array in rows(ours, outside))
    if dtype == "bf16":
        ours, theirs = (library.RotaryEmbedding(64, length, dtype=kind) for library in (nnx, attnax))
        steps = nnx.RotaryEmbedding(64, length, dtype=kind, angle_dtype=kind)
        compare_angles(cell, rows(ours, at), rows(steps, at), rows(theirs, at), length)


@every_cell
def test_rotation(parity: Parity, mode: str, dtype: str) -> None:
    cell, kind = parity("attnax", "apply_rope", mode, dtype), TYPES[dtype]
    x = drawn(2, 3, 40, 32, dtype=kind)
    for table, rows in (("f32", (40,)), (dtype, (2, 1, 40))):
        angles = np.random.default_rng(1).uniform(-1e3, 1e3, (*rows, 16))
        cos, sin = (jnp.asarray(function(angles), TYPES[table]) for function in (np.cos, np.sin))
        ours, theirs = (run(mode, library.apply_rope, x, cos, sin) for library in FUNCTIONS[::-1])
        if mode == "eager":
            cell.equal(ours, theirs)
        else:
            # Per side: two products of at most |x| are off by half an ulp, and a sum below 2 |x| by one ulp.
            cell.within(ours, theirs, 4 * spacing(ours.dtype, x), "4 ulp(x)")
    # The seed turns 3 features into 4, repeats tables of width 1, and takes the axes of larger tables.
    narrow = drawn(5, 3, dtype=kind), drawn(5, 1, dtype=kind), drawn(5, 1, seed=1, dtype=kind)
    cell.differs(
        refusal(lambda: run(mode, nnx.apply_rope, *narrow), TypeError),
        run(mode, attnax.apply_rope, *narrow),
        "an odd width is refused",
    )
    one = x[0, 0], cos[0, 0, :, :1], sin[0, 0, :, :1]
    cell.differs(
        refusal(lambda: run(mode, nnx.apply_rope, *one), TypeError),
        run(mode, attnax.apply_rope, *one),
        "tables of another shape are refused",
    )
    larger = x[0, 0], cos[:, 0], sin[:, 0]
    cell.differs(
        refusal(lambda: run(mode, nnx.apply_rope, *larger), TypeError),
        run(mode, attnax.apply_rope, *larger),
        "tables of another shape are refused",
    )


head_widths = st.integers(1, 40).map(lambda half: 2 * half)
bases = st.floats(1.5, 1e7)


@quickly
@drawn_inputs
@given(st.data(), head_widths, bases, st.sampled_from(list(TYPES)))
def test_drawn_angles_have_the_bits_of_the_seed(data: st.DataObject, width: int, base: float, dtype: str) -> None:
    length, kind = data.draw(st.integers(1, 300)), TYPES[dtype]
    at = places(*data.draw(st.lists(st.integers(0, 5), max_size=3)), top=length)
    for name, *arguments in (
        ("rope_inv_freq", width, base, kind),
        ("rope_cos_sin_table", length, width, base, kind),
        ("rope_cos_sin_from_positions", width, base, length, kind),
    ):
        _, ours, theirs = results("eager", name, *arguments, at=at if name.endswith("positions") else None)
        for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert np.array_equal(a, b)
    # Without angle_dtype: the seed's float32 angles, rounded once.
    for theirs, ours in zip(
        (attnax.rope_inv_freq(width, base, jnp.float32), *attnax.rope_cos_sin_table(length, width, base, jnp.float32)),
        (nnx.rope_inv_freq(width, base, kind), *nnx.rope_cos_sin_table(length, width, base, kind)),
        strict=True,
    ):
        assert np.array_equal(theirs.astype(kind), ours)


@quickly
@drawn_inputs
@given(st.data(), head_widths, st.sampled_from(list(TYPES)), st.sampled_from(list(TYPES)))
def test_drawn_rotations_have_the_bits_of_the_seed(data: st.DataObject, width: int, dtype: str, table: str) -> None:
    lead = data.draw(st.lists(st.integers(0, 4), max_size=4))
    rows = [data.draw(st.sampled_from([1, size])) for size in lead][data.draw(st.integers(0, len(lead))) :]
    x = drawn(*lead, width, dtype=TYPES[dtype])
    cos, sin = (drawn(*rows, width // 2, dtype=TYPES[table], seed=seed) for seed in (1, 2))
    theirs, ours = (library.apply_rope(x, cos, sin) for library in FUNCTIONS)
    assert (theirs.shape, theirs.dtype) == (ours.shape, ours.dtype)
    assert np.array_equal(theirs, ours)


def test_integers_turn_in_float32_and_the_tables_may_have_different_shapes() -> None:
    x, cos, sin = jnp.arange(24, dtype=jnp.int32).reshape(3, 8), drawn(3, 4), drawn(4, seed=1)
    theirs, ours = (library.apply_rope(x, cos, sin) for library in FUNCTIONS)
    assert theirs.dtype == ours.dtype
    assert np.array_equal(theirs, ours)


def test_a_decode_step_makes_no_table() -> None:
    def shapes(f: Any, at: jax.Array) -> str:
        return str(jax.make_jaxpr(lambda at: f.rope_cos_sin_from_positions(at, 8, 1e4, 131_072, jnp.float32))(at))

    at = jnp.array([[77_777]], jnp.int32)
    assert "131072,4]" in shapes(attnax, at)
    assert "131072,4]" not in shapes(nnx, at)


# --- PatchEmbedding and LearnedPositionalEmbedding -----------------------------------------------------------------------

IMAGE = {"image_size": (12, 8), "patch_size": (4, 2), "num_channels": 3, "d_model": 10}


def absolute_products(module: Any, images: jax.Array) -> np.ndarray:
    """The sum over a patch of |pixel| |weight|, plus |bias|, to which the rounding errors of the sum are relative."""
    ph, pw = module.patch_size
    batch, height, width, channels = images.shape
    cut = np.abs(wide(images)).reshape(batch, height // ph, ph, width // pw, pw, channels)
    sums = np.einsum("bihjwc,hwcd->bijd", cut, np.abs(wide(module.proj.kernel[...])))
    return sums.reshape(batch, module.num_patches, sums.shape[-1]) + np.abs(wide(module.proj.bias[...]))


def patch_limit(module: Any, images: jax.Array, result: Any) -> np.ndarray:
    """The bound: both sides sum n products and a bias in float32 in any order, n + 1 roundings of at most the sum of sizes.

    In a narrower type ropegen rounds once, and the seed before and after the bias; a fourth u covers the rest.
    """
    terms = int(np.prod(module.proj.kernel.shape[:3])) + 1
    unit = float(jnp.finfo(result).eps) / 2
    return (2 * terms if result == jnp.float32 else 4) * unit * absolute_products(module, images)


@every_cell
def test_patches(parity: Parity, mode: str, dtype: str) -> None:
    ours, theirs = both("PatchEmbedding", dtype=TYPES[dtype], **IMAGE)
    cell = parity("attnax", "PatchEmbedding", mode, dtype)
    words = {
        "f32": "2 (n + 1) u of n products and the bias by size",
        "bf16": "4 u of the products and the bias by size",
    }
    images = drawn(2, 12, 8, 3, dtype=TYPES[dtype])
    cell.within(
        run(mode, ours, images), run(mode, theirs, images), patch_limit(ours, images, TYPES[dtype]), words[dtype]
    )
    other = drawn(1, 13, 17, 3, dtype=TYPES[dtype])
    cell.differs(
        refusal(lambda: run(mode, ours, other), ValueError),
        run(mode, theirs, other),
        "images of another size are refused",
    )


@quickly
@drawn_inputs
@given(st.data(), st.sampled_from(list(TYPES)))
def test_drawn_patches(data: st.DataObject, dtype: str) -> None:
    grid, patch = (data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4))) for _ in range(2))
    channels, width, batch = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(0, 3)))
    size = (grid[0] * patch[0], grid[1] * patch[1])
    ours, theirs = both("PatchEmbedding", image_size=size, patch_size=patch, num_channels=channels, d_model=width)
    assert (ours.grid_size, ours.num_patches) == (theirs.grid_size, theirs.num_patches) == (grid, grid[0] * grid[1])
    images = drawn(batch, *size, channels, dtype=TYPES[dtype])
    a, b = ours(images), theirs(images)
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert (np.abs(wide(a) - wide(b)) <= patch_limit(ours, images, a.dtype)).all()


def test_pixels_that_are_integers_are_projected_in_the_type_of_the_kernel() -> None:
    ours, theirs = both("PatchEmbedding", **IMAGE)
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 12, 8, 3)), jnp.uint8)
    a, b = ours(images), theirs(images)
    assert a.dtype == b.dtype == jnp.float32
    assert (np.abs(wide(a) - wide(b)) <= patch_limit(ours, images, a.dtype)).all()


@every_cell
def test_learned_rows_are_added(parity: Parity, mode: str, dtype: str) -> None:
    cell = parity("attnax", "LearnedPositionalEmbedding", mode, dtype)
    ours, theirs = both("LearnedPositionalEmbedding", num_positions=30, d_model=12, init_std=0.3)
    cell.equal(ours.embedding[...], theirs.embedding[...])
    for length in (30, 7, 0):
        x = drawn(2, length, 12, dtype=TYPES[dtype])
        cell.equal(run(mode, ours, x), run(mode, theirs, x))
    x = drawn(2, 7, 12, dtype=TYPES[dtype])
    cell.differs(
        refusal(lambda: run(mode, ours, x[..., :1])),
        run(mode, theirs, x[..., :1]),
        "x of another shape is refused",
    )
    four = x[:, :, None, :]
    cell.differs(refusal(lambda: run(mode, ours, four)), run(mode, theirs, four), "x of another shape is refused")


# --- Errors: code that catches the seed's exception catches ropegen's -------------------------------------------------------------


def modules(library: Any) -> dict[str, Any]:
    return {
        "token": library.TokenEmbedding(flax_nnx.Rngs(0), 5, 4),
        "fixed": library.PositionalEncoding(6, 8),
        "rotary": library.RotaryEmbedding(8, 6),
        "patch": library.PatchEmbedding(flax_nnx.Rngs(0), **IMAGE),
        "learned": library.LearnedPositionalEmbedding(flax_nnx.Rngs(0), num_positions=6, d_model=8),
    }


ERRORS: dict[str, tuple[type[BaseException], Callable[[Any, dict[str, Any]], Any]]] = {
    "ids that are not integers": (ValueError, lambda f, m: m["token"](ones(2, 3))),
    "ids that are truth values": (ValueError, lambda f, m: m["token"](jnp.array([[True]]))),
    "past the table": (TypeError, lambda f, m: m["fixed"](ones(2, 4, 8), 3)),
    "far past the table": (TypeError, lambda f, m: m["fixed"](ones(2, 4, 8), 60)),
    "before the table": (TypeError, lambda f, m: m["fixed"](ones(2, 4, 8), -1)),
    "another width": (TypeError, lambda f, m: m["fixed"](ones(2, 4, 5))),
    "two axes": (ValueError, lambda f, m: m["fixed"](ones(4, 8))),
    "one axis": (IndexError, lambda f, m: m["fixed"](ones(8))),
    "a fractional start": (TypeError, lambda f, m: m["fixed"](ones(2, 4, 8), 1.0)),
    "many starts": (ValueError, lambda f, m: m["fixed"](ones(2, 4, 8), jnp.array([1, 2]))),
    "no start": (TypeError, lambda f, m: m["fixed"](ones(2, 4, 8), None)),
    "an odd head": (ValueError, lambda f, m: f.RotaryEmbedding(7, 6)),
    "fractional positions": (TypeError, lambda f, m: m["rotary"].cos_sin_for_positions(ones(1, 2), out_dtype=jnp.float32)),
    "truth values for positions": (IndexError, lambda f, m: m["rotary"].cos_sin_for_positions(jnp.array([[True]]), out_dtype=jnp.float32)),
    "fractional positions without a module": (TypeError, lambda f, m: f.rope_cos_sin_from_positions(ones(2), 8, 1e4, 9, jnp.float32)),
    "a table without rows": (TypeError, lambda f, m: f.rope_cos_sin_from_positions(jnp.array([0]), 8, 1e4, 0, jnp.float32)),
    "tables of the whole width": (TypeError, lambda f, m: f.apply_rope(ones(5, 8), ones(5, 8), ones(5, 8))),
    "tables of another length": (TypeError, lambda f, m: f.apply_rope(ones(5, 8), ones(6, 4), ones(6, 4))),
    "an odd width": (TypeError, lambda f, m: f.apply_rope(ones(5, 7), ones(5, 3), ones(5, 3))),
    "a number to turn": (IndexError, lambda f, m: f.apply_rope(ones(), ones(4), ones(4))),
    "patches that do not divide": (ValueError, lambda f, m: f.PatchEmbedding(flax_nnx.Rngs(0), **{**IMAGE, "patch_size": 5})),
    "an image of three sides": (ValueError, lambda f, m: f.PatchEmbedding(flax_nnx.Rngs(0), **{**IMAGE, "image_size": (8, 8, 8)})),
    "patches of negative size": (TypeError, lambda f, m: f.PatchEmbedding(flax_nnx.Rngs(0), **{**IMAGE, "patch_size": -4})),
    "other channels": (ValueError, lambda f, m: m["patch"](ones(2, 12, 8, 4))),
    "one channel": (ValueError, lambda f, m: m["patch"](ones(2, 12, 8, 1))),
    "channels first": (ValueError, lambda f, m: m["patch"](ones(2, 3, 12, 8))),
    "no batch": (ValueError, lambda f, m: m["patch"](ones(12, 8, 3))),
    "two batches": (ValueError, lambda f, m: m["patch"](ones(1, 2, 12, 8, 3))),
    "longer than the learned table": (ValueError, lambda f, m: m["learned"](ones(2, 7, 8))),
    "not the learned width": (TypeError, lambda f, m: m["learned"](ones(2, 4, 5))),
    "no sequence": (IndexError, lambda f, m: m["learned"](ones(8))),
}  # fmt: skip


@pytest.fixture(scope="module")
def made() -> tuple[dict[str, Any], dict[str, Any]]:
    return modules(nnx), modules(attnax)


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_caught_as_the_seed_s_are(name: str, made: tuple[dict[str, Any], dict[str, Any]]) -> None:
    wanted, call = ERRORS[name]
    with pytest.raises(wanted):
        call(attnax, made[1])
    assert str(refusal(lambda: call(nnx, made[0]), wanted))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m["rotary"].cos_sin_for_positions(np.array([2, 6]), out_dtype=jnp.float32), "position 6 in a table of 6"),
        (lambda m: m["rotary"].cos_sin_for_positions([-1], out_dtype=jnp.float32), "position -1"),
        (lambda m: nnx.rope_cos_sin_from_positions(9, 8, 1e4, 9, jnp.float32), "position 9 in a table of 9"),
        (lambda m: nnx.rope_cos_sin_table(4, 8, 1e4, jnp.int32), "dtype is i32"),
        (lambda m: nnx.rope_cos_sin_table(4, 8, 1.0, jnp.float32), "above 1"),
        (lambda m: nnx.rope_cos_sin_table(-4, 8, 1e4, jnp.float32), "give 0 or more"),
        (lambda m: nnx.rope_inv_freq(8, 1e4, jnp.float32, angle_dtype=jnp.int32), "angle_dtype is i32"),
        (lambda m: jax.jit(lambda base: nnx.rope_inv_freq(8, base, jnp.float32))(1e4), "finite number"),
        (lambda m: nnx.TokenEmbedding(flax_nnx.Rngs(0), 0, 4), "vocab_size is 0"),
        (lambda m: nnx.PatchEmbedding(flax_nnx.Rngs(0), **{**IMAGE, "patch_size": 0}), "patch_size is 0"),
    ],
)  # fmt: skip
def test_what_the_seed_takes_without_a_word_is_refused(
    call: Callable[[dict[str, Any]], Any], words: str, made: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    assert words in str(refusal(lambda: call(made[0])))


# --- Flax NNX: state, transformations, gradients ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["token", "fixed", "rotary", "patch", "learned"])
def test_state_travels_both_ways(name: str, made: tuple[dict[str, Any], dict[str, Any]]) -> None:
    ours, theirs = (flax_nnx.clone(model[name]) for model in made)
    state, own = flax_nnx.state(theirs), flax_nnx.state(ours)
    described = jax.tree.map(lambda x: (x.shape, x.dtype), (state, own))
    assert jax.tree.structure(state) == jax.tree.structure(own)
    assert described[0] == described[1]
    # Another state, so that the loaded values differ from the previous ones.
    other = jax.tree.map(lambda x: x + 1, state)
    merged = flax_nnx.merge(flax_nnx.split(ours)[0], other)
    flax_nnx.update(ours, other)
    flax_nnx.update(theirs, flax_nnx.state(ours))
    for module in (merged, ours, theirs):
        assert jax.tree.all(jax.tree.map(np.array_equal, flax_nnx.state(module), other))
    assert type(merged) is type(ours)


def test_a_merged_module_computes_with_what_it_was_given(made: tuple[dict[str, Any], dict[str, Any]]) -> None:
    ours, theirs = (model["rotary"] for model in made)
    merged = flax_nnx.merge(flax_nnx.split(ours)[0], jax.tree.map(lambda x: 2 * x, flax_nnx.state(theirs)))
    at = jnp.array([[5, 0]], jnp.int32)
    once = theirs.cos_sin_for_positions(at, out_dtype=jnp.float32)
    for a, b in zip(merged.cos_sin_for_positions(at, out_dtype=jnp.float32), once, strict=True):
        assert np.array_equal(a, 2 * b)


def gradients(module: Any, x: jax.Array, weight: jax.Array) -> Any:
    return flax_nnx.jit(flax_nnx.grad(lambda m: jnp.sum(m(x) * weight)))(module)


@quickly
def test_gradients_of_parameters() -> None:
    # On both sides an entry is a sum of n terms in any order: 2 n roundings of at most the sum of their sizes.
    ours, theirs = both("TokenEmbedding", 6, 4)
    ids = jnp.array([[0, 3, 3, -1, 6, 3], [5, 3, -7, 1, 0, 3]], jnp.int32)
    weight = drawn(2, 6, 4)
    a, b = (gradients(module, ids, weight).embed.embedding[...] for module in (ours, theirs))
    assert np.isfinite(wide(a)).all()
    assert (np.abs(wide(a) - wide(b)) <= 2 * ids.size * 2.0**-24 * np.abs(wide(weight)).sum((0, 1))).all()
    assert np.any(wide(a)[3] != 0)

    ours, theirs = both("PatchEmbedding", **IMAGE)
    images, weight = drawn(2, 12, 8, 3), drawn(2, 12, 10, seed=1)
    a, b = (gradients(module, images, weight).proj for module in (ours, theirs))
    cut = np.abs(wide(images)).reshape(2, 3, 4, 4, 2, 3)
    sizes = np.einsum("bihjwc,bijd->hwcd", cut, np.abs(wide(weight)).reshape(2, 3, 4, 10))
    assert (np.abs(wide(a.kernel[...]) - wide(b.kernel[...])) <= 2 * 24 * 2.0**-24 * sizes).all()
    assert (np.abs(wide(a.bias[...]) - wide(b.bias[...])) <= 2 * 24 * 2.0**-24 * np.abs(wide(weight)).sum((0, 1))).all()
    assert np.min(np.abs(wide(a.kernel[...]))) > 0

    ours, theirs = both("LearnedPositionalEmbedding", num_positions=5, d_model=4)
    x, weight = drawn(3, 4, 4), drawn(3, 4, 4, seed=1)
    a, b = (gradients(module, x, weight).embedding[...] for module in (ours, theirs))
    assert (np.abs(wide(a)[:4] - wide(b)[:4]) <= 2 * 3 * 2.0**-24 * np.abs(wide(weight)).sum(0)).all()
    assert not np.any(wide(a)[4])


@quickly
def test_gradients_of_a_rotation() -> None:
    x, at, weight = drawn(2, 3, 9, 8), places(2, 1, 9, top=100), drawn(2, 3, 9, 8, seed=1)
    cos, sin = attnax.rope_cos_sin_from_positions(at, 8, 1e4, 100, jnp.float32)
    a, b = (
        jax.jit(jax.grad(lambda *x, f=f: jnp.sum(f(*x) * weight), argnums=(0, 1, 2)))(x, cos, sin)
        for f in (nnx.apply_rope, attnax.apply_rope)
    )
    assert np.max(np.abs(wide(a[0]) - wide(b[0]))) <= 4 * spacing(jnp.float32, weight)
    pair = np.abs(wide(x) * wide(weight)).reshape(2, 3, 9, 2, 4).sum((1, 3)) + np.abs(
        wide(x) * np.roll(wide(weight), 4, -1)
    ).reshape(2, 3, 9, 2, 4).sum((1, 3))
    for ours, theirs in zip(a[1:], b[1:], strict=True):
        assert ours.shape == theirs.shape == (2, 1, 9, 4)
        assert (np.abs(wide(ours) - wide(theirs))[:, 0] <= 2 * 7 * 2.0**-24 * pair).all()


def test_modules_take_vmap_and_jit_together() -> None:
    ours, theirs = both("PatchEmbedding", **IMAGE)
    images = drawn(3, 1, 12, 8, 3)
    result, wanted = (
        flax_nnx.jit(flax_nnx.vmap(lambda m, x: m(x), in_axes=(None, 0)))(m, images) for m in (ours, theirs)
    )
    limit = np.stack([patch_limit(ours, image, jnp.float32) for image in images])
    assert (np.abs(wide(result) - wide(wanted)) <= limit).all()


def test_without_flax_the_message_names_the_package() -> None:
    code = "import sys; sys.modules['flax'] = None\nimport ropegen\nimport ropegen.nnx"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("ModuleNotFoundError: ropegen.nnx needs flax")
    assert "pip install flax" in done.stderr
    assert "During handling" not in done.stderr
