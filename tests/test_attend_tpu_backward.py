"""The backward kernel of attention for TPU: its gradients against float64, what it visits, and its compilation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gradients import cotangents_of, exact_gradient, plain_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted import drawn
from jax.experimental.pallas import tpu as pltpu
from ropegen.templates.attend import mosaic_tpu
from ropegen.templates.attend.kernel_tpu_backward import VMEM_SHARE_BACKWARD
from ropegen.templates.attend.site import AttendSite
from test_attend_tpu import MASKS, SCORES, V5E, Case

import ropegen as rg
from ropegen import masks, reference
from ropegen.target import Target
from ropegen.template import Tile
from ropegen.types import numpy_dtype


def floating(site: AttendSite) -> dict[str, bool]:
    return {label: kind.dtype not in ("i1", "i32") for label, kind in site.closed.input_types.items()}


def kernel_gradient(
    site: AttendSite,
    values: dict[str, Any],
    results: dict[str, Any],
    pulled: dict[str, Any],
    tile: Tile,
    target: Target,
    wanted: Sequence[bool],
) -> list[np.ndarray]:
    """Of the wanted operands, by the kernel."""
    kernel = mosaic_tpu.build(site, tile, target)
    given = tuple(values.values()), tuple(results.values()), tuple(pulled[label] for label in results)
    with pltpu.force_tpu_interpret_mode(pltpu.InterpretParams()):
        lowered = jax.jit(lambda *given: kernel.backward(*given, wanted)).lower(*given)
        pulled_back = lowered.compile(compiler_options={"xla_backend_optimization_level": 0})(*given)
    for cotangent, (label, operand), is_wanted in zip(pulled_back, values.items(), wanted, strict=True):
        assert (cotangent is not None) == is_wanted, label
        assert cotangent is None or (cotangent.shape, cotangent.dtype) == (operand.shape, operand.dtype), label
    return [np.asarray(cotangent, np.float64) for cotangent in pulled_back if cotangent is not None]


def check(case: Case, *, angles: bool = False, tile: Tile = Tile.of(q=128, kv=128), target: Target = V5E) -> None:
    """Each cotangent's error, root mean square against float64, is at most 1.5 times the plain formula's, and what
    the rounding of the results adds: a backward pass by tiles reads them, the plain formula does not.

    Weights are made again from the log-sum-exp, rounded to float32 in base e and in base 2. The rounding of the
    output is in the gradient of the sinks, a sum over all rows that the plain formula takes in float32.
    """
    site = case.site
    assert not list(mosaic_tpu.declines(site, V5E))
    values = drawn(site, case.seed)
    wanted = [
        is_float and (angles or label not in ("q_angles", "k_angles")) for label, is_float in floating(site).items()
    ]
    labels = [label for label, is_wanted in zip(values, wanted, strict=True) if is_wanted]
    results = {label: np.asarray(value) for label, value in reference.evaluate(site.closed, values).items()}
    rounded = {label: results[label].astype(numpy_dtype(node.type.dtype)) for label, node in site.closed.outputs}
    pulled = cotangents_of(site, case.seed)
    exact = exact_gradient(site, labels, values, pulled)
    usual = plain_gradient(site, labels, values, pulled)
    ours = kernel_gradient(site, values, rounded, pulled, tile, target, wanted)
    lse = results["log_sum_exp"]
    lse_rounding = 2.0**-23 * max(4.0, float(np.max(np.abs(lse[np.isfinite(lse)]), initial=0.0)))
    for label, mine, theirs, right in zip(labels, ours, usual, exact, strict=True):
        assert np.isfinite(mine).all(), label
        error, allowed = (np.sqrt(np.mean((value - right) ** 2)) for value in (mine, theirs))
        allowed = 1.5 * allowed + lse_rounding * np.sqrt(np.mean(right**2))
        if label == "sinks":
            weighed = np.exp(values["sinks"] - lse)[..., None] * results["output"] * np.asarray(pulled["output"], "f8")
            half = float(jnp.finfo(rounded["output"].dtype).eps) / 2
            allowed += half * np.sqrt(np.sum(weighed**2) / len(right))
        assert error <= allowed, (label, error, allowed)


NAMED = {
    "rotated halves as wide as a head, bf16": Case(width=128, value_width=128, pairing="half", dtype="bf16"),
    "rotated, interleaved, a bent score": Case(pairing="interleaved", mask="window", score="bent"),
    "more rows than are computed at a time, soft-cap and slopes by head": Case(
        lead=(), heads=6, kv_heads=1, softcap=5.0, score="alibi", sinks=True, value_width=72
    ),
    "rows of documents that see nothing, as the mean": Case(
        lead=(2,), heads=4, kv_heads=2, mask="documents by head", dense_mask=(0, 2, 3), masked_row="mean"
    ),
    "documents whose tiles do not meet": Case(lead=(2,), queries=390, keys=520, heads=1, mask="documents by head"),
    "a bias of every score, documents whose tiles do not meet": Case(
        lead=(), queries=260, keys=390, heads=1, bias=(0, 1, 2), mask="documents by head"
    ),
    "a bias of every score, tiles that are empty": Case(
        heads=4, kv_heads=2, bias=(0, 1, 2, 3), mask="chunked", softcap=3.0, queries=100, keys=200, dtype="bf16"
    ),
    "a bias of every score, tiles that are empty, angles with a gradient": Case(
        heads=4, kv_heads=2, bias=(0, 1, 2, 3), mask="chunked", softcap=3.0, queries=100, keys=200, pairing="half"
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_site_has_the_gradients_of_the_plain_formula(name: str) -> None:
    check(NAMED[name], angles="angles" in name)


# The layouts of the cotangents of keys differ: v6e has larger matrix units, which 128 features do not fill.
@pytest.mark.parametrize(("chip", "bias", "value_width"), [("v5e", (0, 1, 2, 3), 16), ("v6e", None, 200)])
def test_blocks_of_a_tile_that_the_mask_hides_have_no_gradient(
    chip: str, bias: tuple[int, ...] | None, value_width: int
) -> None:
    case = Case(queries=1030, keys=1030, heads=1, width=16, value_width=value_width, mask="window", bias=bias)
    tile, target = Tile.of(q=1024, kv=512), Target.parse(f"tpu:{chip}")
    (pattern, *_) = mosaic_tpu._kinds(case.site, mosaic_tpu._strips(case.site, tile, V5E, ())[0].form).patterns
    assert masks.EMPTY in pattern[0] + pattern[1]
    check(case, tile=tile, target=target)


@pytest.mark.parametrize(("chip", "holds"), [("v5e", False), ("v5e", True), ("v6e", False), ("v6e", True)])
def test_keys_in_strips_add_to_one_gradient_of_the_queries(
    chip: str, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strips get queries that are rotated before. They may hold the cotangents of keys until a head ends."""
    room = 2.1 if holds else 2.5  # for half of the keys
    monkeypatch.setattr(mosaic_tpu, "vmem_most", lambda target: room * (1 << 20) / VMEM_SHARE_BACKWARD)
    monkeypatch.setattr(mosaic_tpu, "_held_seconds", lambda parts, target: 0.0 if holds else np.inf)
    case = Case(
        width=80, pairing="half", dim=32, mask="window", queries=700, keys=700, heads=4, kv_heads=2, dtype="bf16"
    )
    parts = mosaic_tpu._strips(case.site, Tile.of(q=128, kv=128), V5E, ())
    assert [(part.column, part.columns, part.adds) for part in parts] == [(0, 3, False), (3, 3, True)]
    assert all(part.form.is_prepared and part.holds == holds for part in parts)
    check(case, target=Target.parse(f"tpu:{chip}"))


@pytest.mark.parametrize(
    ("chip", "width", "holds"), [("v4", 128, True), ("v7x", 256, True), ("v6e", 256, False), ("v5e", 256, False)]
)
def test_cotangents_are_held_where_fewer_strips_save_more_than_their_copies_take(
    chip: str, width: int, holds: bool
) -> None:
    case = Case(queries=32768, keys=32768, heads=8, kv_heads=8, width=width, value_width=width, dtype="bf16")
    target, tile = Target.parse(f"tpu:{chip}"), Tile.of(q=1024, kv=1024)
    assert {strip.holds for strip in mosaic_tpu._strips(case.site, tile, target, ())} == {holds}


def test_a_backward_tile_has_more_keys_if_the_forward_one_did_not_fit() -> None:
    case = Case(queries=4096, keys=4096, heads=8, kv_heads=8, width=256, value_width=256, pairing="half", dtype="bf16")
    for chip, kv in (("v4", 1024), ("v5e", 512)):
        strips = mosaic_tpu._strips(case.site, Tile.of(q=1024, kv=512), Target.parse(f"tpu:{chip}"), ())
        assert strips[0].form.kv_tile == kv


@settings(max_examples=1, deadline=None)
@given(
    st.builds(
        Case,
        lead=st.sampled_from([(), (2,)]),
        queries=st.integers(1, 140),
        keys=st.integers(140, 280),
        heads=st.sampled_from([2, 4]),
        kv_heads=st.sampled_from([1, 2]),
        width=st.sampled_from([16, 64, 130]),
        value_width=st.sampled_from([8, 128]),
        mask=st.sampled_from(sorted(MASKS)),
        score=st.sampled_from(sorted(SCORES)),
        pairing=st.sampled_from([None, "half", "interleaved"]),
        dtype=st.sampled_from(["f32", "bf16"]),
        sinks=st.booleans(),
        masked_row=st.sampled_from(["zero", "mean"]),
        seed=st.integers(0, 9),
    )
)
def test_a_drawn_site_has_the_gradients_of_the_plain_formula(case: Case) -> None:
    check(case)


def gradient_module(case: Case, moved: Sequence[str]) -> tuple[str, str]:
    """The StableHLO for TPU of the gradient of a plan made for one, and the plan."""
    plan = rg.plan(case.graph, "tpu:v5e")
    compiled = plan.compile()
    types = plan.graph.input_types
    shapes = {label: jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype)) for label, kind in types.items()}

    def total(moving: dict[str, Any], others: dict[str, Any]) -> Any:
        return jnp.sum(compiled(**moving, **others)["output"].astype(jnp.float32))

    moving = {label: shapes.pop(label) for label in moved}
    exported = jax.export.export(jax.jit(jax.grad(total)), platforms=["tpu"])(moving, shapes)
    return exported.mlir_module(), plan.explain()


def kernels(text: str) -> list[str]:
    return re.findall(r'kernel_name = "(\w+)"', text)


def test_the_gradient_of_a_plan_for_tpu_is_the_two_kernels() -> None:
    case = Case(queries=600, keys=600, heads=4, kv_heads=2, pairing="half", mask="window", dtype="bf16")
    text, explained = gradient_module(case, "qkv")
    assert kernels(text) == ["ropegen_attend", "ropegen_attend_backward"]
    assert "gradient" not in explained


def test_a_gradient_that_the_kernel_does_not_give_is_in_the_plan() -> None:
    case = Case(queries=1024, keys=1024, heads=8, kv_heads=2, bias=(0, 3))
    text, explained = gradient_module(case, ["q", "bias"])
    assert kernels(text) == ["ropegen_attend"]
    assert "the gradient of the bias tensor<1x1x1x1024xf32> is a sum over scores" in explained
    assert kernels(gradient_module(case, "q")[0]) == ["ropegen_attend", "ropegen_attend_backward"]


def test_a_bias_of_every_score_and_a_kernel_that_does_not_fit_are_told_apart() -> None:
    assert list(mosaic_tpu.notes(Case(bias=(0, 1, 2, 3)).site, Tile.of(q=128, kv=128), V5E)) == []
    wide = Case(heads=16, width=512, value_width=512, queries=128, keys=128)
    assert list(mosaic_tpu.notes(wide.site, Tile.of(q=128, kv=128), Target.parse("tpu:v4"))) == [
        "no tile of the backward kernel fits fast memory: gradients by attend/xla"
    ]


GROUPED = Case(
    queries=1000, keys=4096, heads=8, kv_heads=2, width=128, value_width=96, dtype="bf16", pairing="half", sinks=True
)
BIASED = Case(queries=2048, keys=2048, width=80, mask="documents by head", softcap=5.0, bias=(0, 1, 2, 3))
