"""Projections for TPU: numerics under Pallas' TPU interpreter, what the kernel declines and moves, its compilation."""

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
from interpreted import drawn, run
from jax.experimental.pallas import tpu as pltpu
from ropegen.templates.qkv_rope import mosaic_tpu
from ropegen.templates.qkv_rope.site import FAMILY, QkvRopeSite

import ropegen as rg
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
    lead: tuple[int, ...] = (1,)
    length: int = 40
    features: int = 48
    heads: int = 4
    kv_heads: int = 2
    width: int = 64
    value_width: int | None = None
    dtype: str = "f32"
    norm: str | None = None
    offset: float = 0.0
    affine: bool = True
    pairing: str | None = None
    dim: int | None = None
    bias: bool = False
    at_run_time: bool = False  # positions of every entry of the batch
    unread: int = 0  # columns before the heads that no part reads
    seed: int = 0

    @property
    def graph(self) -> Graph:
        b = Builder("projection")
        x = b.input("x", (*self.lead, self.length, self.features), self.dtype)
        of_values = self.value_width or self.width
        parts = ((self.heads, self.width), (self.kv_heads, self.width), (self.kv_heads, of_values))
        columns = self.unread + sum(heads * width for heads, width in parts)
        bias = [b.parameter("bias", (columns,), self.dtype)] if self.bias else []
        projected = b.project(x, b.parameter("weight", (self.features, columns), self.dtype), *bias)
        positions = b.positions(self.length)
        if self.at_run_time:
            positions = b.input("positions", (*self.lead, self.length), "i32")
        outputs: dict[str, Any] = {}
        start = self.unread
        for name, (heads, width) in zip("qkv", parts, strict=True):
            y = b.split_heads(projected, heads, width, start=start)
            start += heads * width
            if name != "v" and self.norm is not None:
                affine = [b.parameter(f"{name}_norm", (width,), self.dtype)] if self.affine else []
                if self.affine and self.norm == "layer":
                    affine.append(b.parameter(f"{name}_norm_bias", (width,), "f32"))
                y = b.norm(y, *affine, kind=self.norm, epsilon=1e-6, weight_offset=self.offset)
            if name != "v" and self.pairing is not None:
                y = b.rope(y, positions, rg.Rope(10_000.0, pairing=self.pairing, dim=self.dim))
            outputs[name] = y
        return b.build(**outputs)

    @property
    def site(self) -> QkvRopeSite:
        return site_of(self.graph)


def site_of(graph: Graph) -> QkvRopeSite:
    """The first region: with every step of every part."""
    return FAMILY.site(next(iter(FAMILY.find(graph))).closed)


def best(site: QkvRopeSite, target: Target = V5E) -> Tile:
    return min(mosaic_tpu.tiles(site, target), key=lambda tile: mosaic_tpu.cost(site, target, tile).seconds)


def check(case: Case, tile: Tile | None = None) -> None:
    """Each part's error, root mean square against float64: at most 1.5 times the plain formula's, and half a unit.

    Of the unit of the result's own type, which is what the last rounding of a few elements shows by luck.
    """
    site = case.site
    assert not list(mosaic_tpu.declines(site, V5E))
    values = drawn(site, case.seed)
    kernel = mosaic_tpu.build(site, tile or best(site), V5E)
    with pltpu.force_tpu_interpret_mode(pltpu.InterpretParams()):
        results = run(kernel.forward, *values.values())
    exact, usual = reference.evaluate(site.closed, values), run(functools.partial(formula, site.closed), values)
    for (label, node), ours in zip(site.closed.outputs, results, strict=True):
        assert (ours.shape, ours.dtype) == (node.type.shape, numpy_dtype(node.type.dtype))
        error, allowed = (
            np.sqrt(np.mean((np.asarray(value, np.float64) - exact[label]) ** 2)) for value in (ours, usual[label])
        )
        unit = epsilon(node.type.dtype) * np.sqrt(np.mean(exact[label] ** 2))
        assert error <= 1.5 * allowed + 0.5 * unit, (label, error, allowed)


NAMED = {
    "heads of whole lanes, normed and rotated by one table, two runs of rows": (
        Case(length=300, width=128, norm="rms", offset=1.0, pairing="half"),
        Tile.of(rows=256, columns=256),
    ),
    "two heads in the lanes, interleaved, a bias, bf16": (
        Case(norm="layer", pairing="interleaved", bias=True, dtype="bf16"),
        None,
    ),
    "a batch that shares its angles, heads over the bounds of lanes": (
        Case(lead=(2,), length=270, heads=4, kv_heads=4, width=96, norm="rms", pairing="half", dim=32),
        Tile.of(rows=128, columns=384),
    ),
    "heads on strides of their own, angles of every entry": (
        Case(lead=(3,), length=5, width=130, kv_heads=1, norm="layer", pairing="interleaved", at_run_time=True),
        None,
    ),
    "few narrow heads packed, values of another width, a short batch": (
        Case(lead=(2, 3), length=7, width=24, heads=2, kv_heads=1, value_width=40, norm="rms", affine=False,
             pairing="half", bias=True, unread=56),
        None,
    ),
    "columns that no part reads, one row": (Case(lead=(), length=1, unread=256, dtype="bf16", pairing="half"), None),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_a_named_site_agrees_with_the_reference(name: str) -> None:
    check(*NAMED[name])


@settings(max_examples=2, deadline=None)
@given(
    st.builds(
        Case,
        lead=st.sampled_from([(), (2,)]),
        length=st.integers(1, 300),
        features=st.integers(1, 70),
        heads=st.sampled_from([2, 4]),
        kv_heads=st.sampled_from([1, 2]),
        width=st.sampled_from([16, 64, 80, 128, 256]),
        value_width=st.sampled_from([None, 64]),
        dtype=st.sampled_from(["f32", "bf16"]),
        norm=st.sampled_from([None, "rms", "layer"]),
        pairing=st.sampled_from([None, "half", "interleaved"]),
        bias=st.booleans(),
        at_run_time=st.booleans(),
        seed=st.integers(0, 9),
    )
)
def test_a_drawn_site_agrees_with_the_reference(case: Case) -> None:
    check(case)


def check_gradient(case: Case, tile: Tile | None = None) -> None:
    """Each cotangent's error, root mean square against float64: at most 1.5 times that of JAX's, and a unit.

    A unit is that of the element type of the kernel, to which it rounds the cotangents of the sums.
    """
    site = case.site
    values = drawn(site, case.seed)
    wanted = [kind.is_float and "angles" not in label for label, kind in site.closed.input_types.items()]
    moving = [label for label, is_wanted in zip(values, wanted, strict=True) if is_wanted]
    pulled = cotangents_of(site, case.seed)
    backward = mosaic_tpu.backward_of(site, tile or best(site), V5E)
    given = tuple(values.values()), tuple(pulled.values())
    with pltpu.force_tpu_interpret_mode(pltpu.InterpretParams()):
        made = run(lambda operands, cotangents: backward(operands, cotangents, cotangents, wanted), *given)
    # The plain formula rounds to the types of the graph: its own are float64 here.
    exact = exact_gradient(replace(case, dtype="f64").site, moving, values, pulled)
    usual = plain_gradient(site, moving, values, pulled)
    ours = [value for value in made if value is not None]
    for label, mine, theirs, right in zip(moving, ours, usual, exact, strict=True):
        assert (mine.shape, mine.dtype) == (values[label].shape, values[label].dtype), label
        error, allowed = (np.sqrt(np.mean((np.asarray(value, np.float64) - right) ** 2)) for value in (mine, theirs))
        unit = epsilon(case.dtype) * np.sqrt(np.mean(right**2))
        assert error <= 1.5 * allowed + unit, (label, error, allowed, unit)


@pytest.mark.parametrize("name", NAMED)
def test_gradients_of_a_named_site_agree_with_float64(name: str) -> None:
    check_gradient(*NAMED[name])


@settings(max_examples=2, deadline=None)
@given(
    st.builds(
        Case,
        lead=st.sampled_from([(), (2,)]),
        length=st.integers(1, 300),
        features=st.integers(1, 70),
        heads=st.sampled_from([2, 4]),
        width=st.sampled_from([16, 64, 80, 128]),
        value_width=st.sampled_from([None, 64]),
        dtype=st.sampled_from(["f32", "bf16"]),
        norm=st.sampled_from([None, "rms", "layer"]),
        pairing=st.sampled_from([None, "half", "interleaved"]),
        bias=st.booleans(),
        seed=st.integers(0, 9),
    )
)
def test_gradients_of_a_drawn_site_agree_with_float64(case: Case) -> None:
    check_gradient(case)


def test_a_gradient_with_the_angles_is_that_of_xla() -> None:
    site = Case(length=5, pairing="half", at_run_time=True).site
    values, pulled = drawn(site, 0), cotangents_of(site, 0)
    given = tuple(pulled.values())
    backward = mosaic_tpu.backward_of(site, best(site), V5E)
    made = run(lambda *operands: backward(operands, given, given, [True] * len(operands)), *values.values())
    for mine, right in zip(made, exact_gradient(site, list(values), values, pulled), strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-4, atol=1e-4)


def test_what_the_kernel_does_not_honour_it_declines() -> None:
    def reasons(case: Case) -> list[str]:
        return list(mosaic_tpu.declines(case.site, V5E))

    assert reasons(Case(dtype="f16")) == ["Mosaic multiplies bf16 and f32, not f16"]
    assert reasons(Case(length=0)) == ["there is no row or feature to multiply"]
    assert reasons(Case(features=200_000)) == ["no tile fits: 200000 features to heads of 64, 64, 64"]
    b = Builder("wide-angles")
    p = b.project(b.input("x", (4, 8), "f32"), b.parameter("weight", (8, 8), "f32"))
    wide = b.build(y=b.rotate(b.split_heads(p, 1, 8), b.input("angles", (4, 8), "f64"), pairing="half"))
    assert list(mosaic_tpu.declines(site_of(wide), V5E)) == ["it rotates in float32, and the angles are f64"]


def test_a_tile_that_does_not_divide_the_parts_is_refused() -> None:
    with pytest.raises(RopegenError, match=r"columns a multiple of 128 that divides 128, e\.g\. rows=256 columns=128"):
        mosaic_tpu.build(Case().site, Tile.of(rows=128, columns=256), V5E)


def test_memory_is_counted_as_it_is_moved() -> None:
    case = Case(length=2048, features=512, heads=8, kv_heads=8, width=128, dtype="bf16")
    site = case.site
    weight, rest = 2 * 512 * 3072, 2 * 2048 * (512 + 3072)
    for rows in (256, 512):
        moved = mosaic_tpu.cost(site, V5E, Tile.of(rows=rows, columns=512)).bytes
        assert moved == rest + weight * 2048 // rows  # once for each tile of rows
    packed = replace(case, unread=8).site  # nothing lies in whole tiles: the weight is read and written once more
    more = mosaic_tpu.cost(packed, V5E, Tile.of(rows=512, columns=512)).bytes - moved
    assert more == 2 * 2 * 512 * (3072 + 8)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_it_exports_for_tpu_without_one(dtype: str) -> None:
    site = Case(length=300, norm="rms", pairing="half", dtype=dtype).site
    kernel = mosaic_tpu.build(site, best(site), V5E)
    shapes = [jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype)) for kind in site.closed.input_types.values()]
    text = jax.export.export(jax.jit(kernel.forward), platforms=["tpu"])(*shapes).mlir_module()
    assert text.count("stablehlo.custom_call @tpu_custom_call") == 1


COMPILED = {
    "normed and rotated": Case(length=600, features=256, width=128, norm="rms", pairing="half", dtype="bf16"),
    "heads over the bounds of lanes": Case(
        length=70, features=160, heads=8, kv_heads=8, width=80, norm="layer", pairing="interleaved", dim=32, bias=True
    ),
    "packed, one row": Case(length=1, width=24, norm="rms", pairing="half", dtype="bf16", unread=8, bias=True),
}
