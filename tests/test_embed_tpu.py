"""Token rows for TPU: numerics under Pallas' TPU interpreter, what the kernel declines and moves, its compilation."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import pytest
from gradients import cotangents_of, exact_gradient, plain_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from independent import formula
from interpreted import run
from jax.experimental.pallas import tpu as pltpu
from ropegen.templates.embed import mosaic_tpu
from ropegen.templates.embed.kernel_tpu_backward import CHUNK, ROWS, TableForm, steps_of
from ropegen.templates.embed.site import FAMILY, EmbedSite

from ropegen import reference
from ropegen.errors import RopegenError
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.target import Target
from ropegen.template import Tile
from ropegen.types import epsilon, numpy_dtype

V5E = Target.parse("tpu:v5e")


@dataclass(frozen=True)
class Case:
    shape: tuple[int, ...] = (2, 40)
    vocabulary: int = 50
    features: int = 128
    dtype: str = "f32"
    mode: str = "clip"
    factor: float | None = None
    added: tuple[tuple[int, ...], ...] = ()
    cast: str | None = None
    norms: tuple[str, ...] = ()
    offset: float = 0.0
    affine: bool = True
    seed: int = 0

    @property
    def graph(self) -> Graph:
        b = Builder("rows")
        table = b.parameter("table", (self.vocabulary, self.features), self.dtype)
        x = b.embed(b.input("ids", self.shape, "i32"), table, mode=self.mode)
        x = x if self.factor is None else b.scale(x, self.factor)
        for index, shape in enumerate(self.added):
            x = b.add(x, b.input(f"added{index}", shape, self.dtype))
        x = x if self.cast is None else b.cast(x, self.cast)
        for index, kind in enumerate(self.norms):
            affine = [b.parameter(f"weight{index}", (self.features,), self.dtype)] if self.affine else []
            if self.affine and kind == "layer":
                affine.append(b.parameter(f"bias{index}", (self.features,), "f32"))
            x = b.norm(x, *affine, kind=kind, epsilon=1e-6, weight_offset=self.offset)
        return b.build(rows=x)

    @property
    def site(self) -> EmbedSite:
        return FAMILY.site(next(iter(FAMILY.find(self.graph))).closed)


def drawn(site: EmbedSite, seed: int) -> dict[str, Any]:
    """Values of the site's operands: ids from both sides of the table too, floats representable in their dtype."""
    random = np.random.default_rng(seed)
    values: dict[str, Any] = {}
    for label, kind in site.closed.input_types.items():
        if kind.dtype == "i32":
            ids = random.integers(-3, site.table.type.shape[0] + 3, kind.shape).astype(np.int32)
            ids.reshape(-1)[:1] = site.table.type.shape[0] - 1
            values[label] = ids
        else:
            values[label] = random.standard_normal(kind.shape).astype(numpy_dtype(kind.dtype))
    return values


def check(case: Case, size: int | None = None) -> None:
    """The error, root mean square against float64: at most 1.5 times the plain formula's, and half a unit of the type.

    Rows that nothing is done to are the table's own.
    """
    site = case.site
    assert not list(mosaic_tpu.declines(site, V5E))
    values = drawn(site, case.seed)
    tile = next(mosaic_tpu.tiles(site, V5E)) if size is None else Tile.of(rows=size)
    with pltpu.force_tpu_interpret_mode(pltpu.InterpretParams()):
        (ours,) = run(mosaic_tpu.build(site, tile, V5E).forward, *values.values())
    ((label, node),) = site.closed.outputs
    assert (ours.shape, ours.dtype) == (node.type.shape, numpy_dtype(node.type.dtype))
    exact = reference.evaluate(site.closed, values)[label]
    usual = run(functools.partial(formula, site.closed), values)[label]
    mine, usual = (np.asarray(value, np.float64) for value in (ours, usual))
    assert np.array_equal(np.isnan(mine), np.isnan(exact))
    shown = ~np.isnan(exact)
    assert shown.any()
    error, allowed, size_of_values = (
        np.sqrt(np.mean(value[shown] ** 2)) for value in (mine - exact, usual - exact, exact)
    )
    assert error <= 1.5 * allowed + (0.5 * epsilon(node.type.dtype) * size_of_values if site.steps else 0)


NAMED = {
    "rows alone, float32": (Case(), 32),
    "rows alone, an even table of bf16": (Case(dtype="bf16", features=80), 16),
    "an odd table of bf16, missing rows, a sequence's rows added to a batch of it": (
        Case(shape=(2, 64), vocabulary=51, dtype="bf16", mode="fill", factor=11.3, added=((64, 128),), norms=("rms",)),
        32,
    ),
    "missing rows of float32, one row added, tiles for two cores": (
        Case(shape=(128,), vocabulary=2, mode="fill", added=((128,), (1, 128)), norms=("layer",), cast="bf16"),
        16,
    ),
    "added tensors that are spread out": (Case(added=((40, 1), (2, 1, 128), (40, 128)), features=128), 64),
    "two norms, an offset, features that are no multiple of lanes": (
        Case(shape=(5,), vocabulary=3, features=200, dtype="bf16", norms=("layer", "rms"), offset=1.0, affine=False),
        None,
    ),
    "one id": (Case(shape=(), vocabulary=7, dtype="bf16", cast="f32", norms=("rms",), offset=1.0), None),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_site_agrees_with_the_reference(name: str) -> None:
    check(*NAMED[name])


@settings(max_examples=2, deadline=None)
@given(
    st.builds(
        Case,
        shape=st.sampled_from([(1,), (37,), (2, 96), (3, 1)]),
        vocabulary=st.integers(2, 90),
        features=st.integers(1, 300),
        dtype=st.sampled_from(["f32", "bf16"]),
        mode=st.sampled_from(["clip", "fill"]),
        factor=st.sampled_from([None, 0.3]),
        cast=st.sampled_from([None, "f32", "bf16"]),
        norms=st.sampled_from([(), ("rms",), ("layer", "layer")]),
        offset=st.sampled_from([0.0, 1.0]),
        affine=st.booleans(),
        seed=st.integers(0, 9),
    )
)
def test_a_drawn_site_agrees_with_the_reference(case: Case) -> None:
    check(case)


def check_gradient(case: Case, *, skew: bool = False) -> None:
    """Each cotangent's error, root mean square against float64: at most 1.5 times that of JAX's, and half a unit.

    A unit is that of the element type of the operand. With `skew`, most ids are the same.
    """
    site = case.site
    values = drawn(site, case.seed)
    (ids,) = (label for label, kind in site.closed.input_types.items() if kind.dtype == "i32")
    if skew:
        values[ids] = np.where(np.arange(values[ids].size).reshape(values[ids].shape) % 7, 1, values[ids]).astype(
            np.int32
        )
    moving = [label for label in values if label != ids]
    pulled = cotangents_of(site, case.seed)
    backward = mosaic_tpu.backward_of(site, V5E)
    given = tuple(values.values()), tuple(pulled.values())
    wanted = [label != ids for label in values]
    with pltpu.force_tpu_interpret_mode(pltpu.InterpretParams()):
        made = run(lambda operands, cotangents: backward(operands, cotangents, cotangents, wanted), *given)
    # The plain formula rounds to the types of the graph: its own are float64 here.
    exact = exact_gradient(replace(case, dtype="f64").site, moving, values, pulled)
    usual = plain_gradient(site, moving, values, pulled)
    ours = [value for value in made if value is not None]
    for label, mine, theirs, right in zip(moving, ours, usual, exact, strict=True):
        assert (mine.shape, mine.dtype) == (values[label].shape, values[label].dtype), label
        mine = np.asarray(mine, np.float64)
        assert np.array_equal(np.isnan(mine), np.isnan(right)), label
        if np.isnan(right).all():
            continue
        error, allowed, size = (np.sqrt(np.nanmean(value**2)) for value in (mine - right, theirs - right, right))
        assert error <= 1.5 * allowed + 0.5 * epsilon(site.closed.input_types[label].dtype) * size, (
            label,
            error,
            allowed,
        )


# Tables of one tile and of several; of rows that many ids ask for and rows that none does; ids outside of the table.
GRADIENTS = {
    "one tile of float32": (Case(), False),
    "three tiles of bf16, most of them without a row, most ids the same": (
        Case(shape=(3, 150), vocabulary=1300, features=40, dtype="bf16", factor=2.0),
        True,
    ),
    "more ids than a chunk, in every tile": (Case(shape=(700,), vocabulary=1024, features=16), False),
    "missing rows, whose cotangents are not finite": (
        Case(shape=(2, 64), vocabulary=51, dtype="bf16", mode="fill", added=((64, 128),), norms=("rms",)),
        False,
    ),
    "two norms in bf16, and features of more than one block": (
        Case(shape=(5,), vocabulary=3, features=1100, dtype="bf16", norms=("layer", "rms"), offset=1.0),
        False,
    ),
    "one id": (Case(shape=(), vocabulary=7, norms=("layer",)), False),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_of_a_named_site_agree_with_float64(name: str) -> None:
    case, skew = GRADIENTS[name]
    check_gradient(case, skew=skew)


@settings(max_examples=2, deadline=None)
@given(
    st.builds(
        Case,
        shape=st.sampled_from([(1,), (300,), (2, 96)]),
        vocabulary=st.sampled_from([2, 511, 512, 513, 1500]),
        features=st.integers(1, 150),
        dtype=st.sampled_from(["f32", "bf16"]),
        mode=st.sampled_from(["clip", "fill"]),
        factor=st.sampled_from([None, 0.3]),
        norms=st.sampled_from([(), ("rms",)]),
        seed=st.integers(0, 9),
    )
)
def test_gradients_of_a_drawn_site_agree_with_float64(case: Case) -> None:
    check_gradient(case)


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=600), st.integers(1, 3000))
@settings(max_examples=8, deadline=None)
@pytest.mark.any_jax
def test_every_row_is_added_to_its_tile_once_and_every_tile_is_written_once(ids: list[int], vocabulary: int) -> None:
    rows = -(-len(ids) // CHUNK) * CHUNK
    padded = np.sort(np.minimum([*ids, *[vocabulary] * (rows - len(ids))], vocabulary)).astype(np.int32)
    form = TableForm(rows, vocabulary, 8, np.dtype(np.float32))
    tiles, chunks, does = (np.asarray(x) for x in steps_of(form, jax.numpy.asarray(padded)))
    assert (np.diff(tiles) >= 0).all()
    assert (np.diff(chunks) >= 0).all()
    begins, ends, adds = (does & bit != 0 for bit in (1, 2, 4))
    assert tiles[begins].tolist() == tiles[ends].tolist() == list(range(form.tiles))
    needed = {(row // ROWS, place // CHUNK) for place, row in enumerate(padded.tolist()) if row < vocabulary}
    assert sorted(zip(tiles[adds].tolist(), chunks[adds].tolist(), strict=True)) == sorted(needed)


def test_a_gradient_without_the_table_is_that_of_xla() -> None:
    site = Case(added=((40, 128),)).site
    values, (cotangent,) = drawn(site, 0), cotangents_of(site, 0).values()
    wanted = [label.startswith("other") for label in values]
    backward = mosaic_tpu.backward_of(site, V5E)
    pulled = run(lambda *operands: backward(operands, (cotangent,), (cotangent,), wanted), *values.values())
    assert [value is not None for value in pulled] == wanted
    np.testing.assert_allclose(pulled[wanted.index(True)], cotangent.sum(0), rtol=1e-5, atol=1e-5)


def test_few_rows_are_added_up_by_xla() -> None:
    for shape, is_own in (((8192,), True), ((16,), False)):
        site = Case(shape=shape, vocabulary=32_000, features=1024, dtype="bf16").site
        tile = next(mosaic_tpu.tiles(site, V5E))
        assert (mosaic_tpu.build(site, tile, V5E).backward is not None) == is_own
        assert (mosaic_tpu.cost(site, V5E, tile, "backward") is not None) == is_own
        (note,) = mosaic_tpu.notes(site, tile, V5E)
        assert ("all but the table" in note) == is_own


def test_what_the_kernel_does_not_honour_it_declines() -> None:
    def reasons(case: Case) -> list[str]:
        return list(mosaic_tpu.declines(case.site, V5E))

    assert reasons(Case(dtype="f16")) == ["Mosaic's rows are bf16 or f32, not f16"]
    assert reasons(Case(cast="f64")) == ["Mosaic's rows are bf16 or f32, not f64"]
    assert reasons(Case(shape=(0,))) == ["there is no id or feature to fetch"]
    assert reasons(Case(vocabulary=1, dtype="bf16")) == ["rows of bf16 are fetched in pairs, and the table has one"]
    assert reasons(Case(shape=(8, 32_768))) == ["262,144 ids are more than scalar memory holds; it takes 131,072"]
    assert reasons(Case(features=200_000)) == ["no tile of rows fits fast memory: 200000 features"]


def test_a_tile_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(RopegenError, match=r"rows are a power of two of at least 16, e\.g\. rows=128"):
        mosaic_tpu.build(Case().site, Tile.of(rows=24), V5E)


def test_memory_is_counted_as_it_is_moved() -> None:
    rows = 1024 * 256
    for dtype, item, fetched in (("f32", 4, 1), ("bf16", 2, 2)):  # a row of bf16 comes with its neighbour
        site = Case(shape=(1024,), features=256, dtype=dtype, norms=("rms",), affine=False).site
        ids = 4 * 1024
        assert mosaic_tpu.cost(site, V5E, Tile.of(rows=128)).bytes == rows * item * (fetched + 1) + ids
    added = Case(shape=(2, 512), features=256, added=((512, 256),)).site
    plain_bytes = 2 * 4 * rows + 4 * 1024 + 4 * 512 * 256
    assert mosaic_tpu.cost(added, V5E, Tile.of(rows=128)).bytes == plain_bytes
    spread = Case(shape=(2, 500), features=256, added=((500, 256),)).site  # 500 rows are no whole number of tiles
    assert mosaic_tpu.cost(spread, V5E, Tile.of(rows=128)).bytes > 2 * 4 * 1000 * 256 * 2


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_it_exports_for_tpu_without_one(dtype: str) -> None:
    site = Case(vocabulary=51, dtype=dtype, mode="fill", norms=("rms",)).site
    kernel = mosaic_tpu.build(site, next(mosaic_tpu.tiles(site, V5E)), V5E)
    shapes = [jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype)) for kind in site.closed.input_types.values()]
    text = jax.export.export(jax.jit(kernel.forward), platforms=["tpu"])(*shapes).mlir_module()
    assert text.count("stablehlo.custom_call @tpu_custom_call") == 1


COMPILED = {
    "an odd table of bf16": Case(shape=(2, 512), vocabulary=1001, dtype="bf16", added=((512, 128),), norms=("rms",)),
    "an even table of bf16, odd features": Case(vocabulary=1000, features=200, dtype="bf16", norms=("layer",)),
    "float32, missing rows": Case(shape=(300,), mode="fill", factor=2.0, features=80, cast="bf16"),
}
