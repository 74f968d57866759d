"""Attention for TPU: numerics under Pallas' TPU interpreter, the tiles it visits, what it declines, and its compilation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted import drawn, run
from jax.experimental.pallas import tpu as pltpu
from ropegen.templates.attend import kernel_tpu, mosaic_tpu
from ropegen.templates.attend.site import FAMILY, AttendSite
from ropegen.templates.attend.tile_map_tpu import BEFORE, BEGINS, COMPUTES, ENDS, FULL, PARTIAL, VOID, Kinds, TileMap

import ropegen as rg
from ropegen import masks, reference
from ropegen.errors import RopegenError
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.target import Target
from ropegen.template import Tile
from ropegen.types import numpy_dtype

V5E = Target.parse("tpu:v5e")

MASKS = {
    "full": masks.full,
    "causal": masks.causal,
    "window": masks.causal & masks.window(40),
    "chunked": masks.chunked(64),
    "prefix": masks.causal | masks.prefix(30),
    "documents by head": masks.mask(
        lambda q_pos, kv_pos, q_segment, kv_segment, head: (
            ((kv_pos <= q_pos) & (head % 2 == 0) | (kv_pos == q_pos)) & (q_segment == kv_segment)
        )
    ),
    "nothing in the middle": masks.mask(lambda q_pos, kv_pos: ((q_pos < 100) | (q_pos >= 300)) & (kv_pos >= 0)),
    "nothing for some": masks.mask(lambda q_pos, kv_pos, batch: (q_pos + batch) % 4 != 1),
}
SCORES = {
    "identity": masks.identity,
    "alibi": masks.alibi([0.5, 0.25, 0.125, 0.0625, 1.0, 0.3]),
    "bent": masks.score(
        lambda score, q_pos, kv_pos: masks.where(q_pos > kv_pos, score + 0.5 * masks.tanh(score), score)
    ),
}


@dataclass(frozen=True)
class Case:
    lead: tuple[int, ...] = (1,)
    queries: int = 130
    keys: int = 130
    heads: int = 2
    kv_heads: int = 1
    width: int = 64
    value_width: int = 64
    dtype: str = "f32"
    mask: str = "causal"
    score: str = "identity"
    pairing: str | None = None
    dim: int | None = None
    softcap: float | None = None
    bias: tuple[int, ...] | None = None  # which of (..., H, Sq, Skv) are not 1
    dense_mask: tuple[int, ...] | None = None
    sinks: bool = False
    masked_row: str = "zero"
    seed: int = 0

    @property
    def graph(self) -> Graph:
        b = Builder("attention")
        q = b.input("q", (*self.lead, self.queries, self.heads, self.width), self.dtype)
        k = b.input("k", (*self.lead, self.keys, self.kv_heads, self.width), self.dtype)
        v = b.input("v", (*self.lead, self.keys, self.kv_heads, self.value_width), self.dtype)
        places = [b.positions(self.queries, start=max(self.keys - self.queries, 0)), b.positions(self.keys)]
        if self.pairing is not None:
            rope = rg.Rope(10_000.0, pairing=self.pairing, dim=self.dim)
            q, k = (b.rope(x, at, rope) for x, at in zip((q, k), places, strict=True))
        options: dict[str, Any] = {}
        if "documents" in self.mask:
            options["q_segments"] = b.input("q_segments", (*self.lead, self.queries), "i32")
            options["kv_segments"] = b.input("kv_segments", (self.keys,), "i32")
        full = (*self.lead, self.heads, self.queries, self.keys)
        for name, kept, dtype in (("bias", self.bias, "f32"), ("dense_mask", self.dense_mask, "i1")):
            if kept is not None:
                shape = tuple(size if axis in kept else 1 for axis, size in enumerate(full))
                options[name] = b.input(name, shape, dtype)
        if self.sinks:
            options["sinks"] = b.parameter("sinks", (self.heads,), "f32")
        reads = masks.variables(MASKS[self.mask]) | masks.variables(SCORES[self.score])
        if {"q_pos", "kv_pos"} & reads:
            options |= {"q_positions": places[0], "kv_positions": places[1]}
        options |= {"mask": MASKS[self.mask], "score": SCORES[self.score]}
        options |= {"softcap": self.softcap, "masked_row": self.masked_row}
        return b.build(
            output=b.attend(q, k, v, **options), log_sum_exp=b.attend(q, k, v, **options, returns="log_sum_exp")
        )

    @property
    def site(self) -> AttendSite:
        return site_of(self.graph)


def site_of(graph: Graph) -> AttendSite:
    """The first region: attention with its rotations inside."""
    return FAMILY.site(next(iter(FAMILY.find(graph))).closed)


def difference(case: Case, q: int = 128, kv: int = 128, target: Target = V5E) -> float:
    """The largest error of the output and of the log-sum-exp, against float64."""
    site = case.site
    assert not list(mosaic_tpu.declines(site, V5E))
    values = drawn(site, case.seed)
    kernel = mosaic_tpu.build(site, Tile.of(q=q, kv=kv), target)
    with pltpu.force_tpu_interpret_mode(pltpu.InterpretParams()):
        results = run(kernel.forward, *values.values())
    exact = reference.evaluate(site.closed, values)
    errors: list[float] = []
    for (label, _), ours in zip(site.closed.outputs, results, strict=True):
        ours, theirs = np.asarray(ours, np.float64), exact[label]
        assert ours.shape == theirs.shape
        assert np.array_equal(np.isneginf(ours), np.isneginf(theirs))
        shown = ~np.isneginf(theirs)
        errors.append(float(np.max(np.abs(ours[shown] - theirs[shown]), initial=0.0)))
    return max(errors)


NAMED = {
    "rotated halves as wide as a head, a dense mask by query": Case(
        width=128, value_width=128, pairing="half", dense_mask=(1,)
    ),
    "rotated in part, fewer queries than keys": Case(width=80, value_width=72, pairing="half", dim=32, queries=100),
    "rotated, interleaved, a bent score": Case(pairing="interleaved", mask="window", score="bent"),
    "more rows than are computed at a time, soft-cap and slopes by head": Case(
        lead=(), heads=6, kv_heads=1, softcap=5.0, score="alibi", sinks=True
    ),
    "grouped heads over a window": Case(heads=6, kv_heads=2, mask="window", sinks=True, queries=150, keys=300),
    "documents of a batch, a mask by head": Case(lead=(2,), heads=4, kv_heads=2, mask="documents by head"),
    "documents whose tiles do not meet": Case(lead=(2,), queries=390, keys=520, heads=1, mask="documents by head"),
    "rows that see nothing, as the mean": Case(lead=(2, 1), queries=60, mask="nothing for some", masked_row="mean"),
    "a bias of every score, of each head": Case(heads=4, kv_heads=2, bias=(1, 2, 3), mask="chunked"),
    "a row of tiles that sees nothing but a sink": Case(mask="nothing in the middle", queries=400, sinks=True),
    "a bias of keys, a dense mask": Case(lead=(2,), bias=(0, 3), dense_mask=(0, 2, 3), mask="full", masked_row="mean"),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_named_site_agrees_with_the_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_tpu, "works_ahead", lambda steps: False)
    assert difference(NAMED[name]) < 1e-5


AHEAD = [
    "documents whose tiles do not meet",
    "rotated halves as wide as a head, a dense mask by query",
    "more rows than are computed at a time, soft-cap and slopes by head",
    "documents of a batch, a mask by head",
    "rows that see nothing, as the mean",
    "a row of tiles that sees nothing but a sink",
    "a bias of keys, a dense mask",
]


@pytest.mark.parametrize("name", AHEAD)
def test_scores_made_a_step_ahead_agree_with_the_reference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_tpu, "works_ahead", lambda steps: True)
    assert difference(NAMED[name]) < 1e-5


@pytest.mark.parametrize("chip", ["v5e", "v6e", "v7x"])  # their orders of products differ
@pytest.mark.parametrize("ahead", [True, False])
def test_more_keys_than_run_in_a_straight_line(ahead: bool, chip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_tpu, "works_ahead", lambda steps: ahead)
    case = Case(queries=513, keys=1100, heads=1, width=16, value_width=16, mask="causal")
    assert difference(case, q=512, kv=1024, target=Target.parse(f"tpu:{chip}")) < 1e-5


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (3, 1)])  # all rows in a straight line, and a loop over them
@pytest.mark.parametrize("ahead", [True, False])
def test_several_blocks_of_rows_in_a_straight_line(
    ahead: bool, heads: int, kv_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_tpu, "works_ahead", lambda steps: ahead)
    case = Case(queries=1040, keys=1100, heads=heads, kv_heads=kv_heads, width=16, value_width=16, mask="causal")
    assert difference(case, q=1024, kv=1024) < 1e-5


@pytest.mark.parametrize("ahead", [True, False])
def test_bfloat16_is_rounded_no_more_than_twice(ahead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_tpu, "works_ahead", lambda steps: ahead)
    # Weights and output are rounded once, to 2^-9 of themselves; the values are at most about 4.
    assert difference(Case(width=128, value_width=128, dtype="bf16", pairing="half", heads=1)) < 2e-2


@settings(max_examples=2, deadline=None)
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
        sinks=st.booleans(),
        masked_row=st.sampled_from(["zero", "mean"]),
        seed=st.integers(0, 9),
    )
)
def test_a_drawn_site_agrees_with_the_reference(case: Case) -> None:
    ahead = case.seed % 2 == 1
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(kernel_tpu, "works_ahead", lambda steps: ahead)
        assert difference(case) < 1e-5


def test_only_tiles_that_are_not_empty_are_steps() -> None:
    case = Case(queries=1024, keys=1024, mask="window")
    tiles = mosaic_tpu.tile_map(case.site, Tile.of(q=128, kv=128))
    assert list(zip(tiles.row, tiles.column, strict=True)) == [
        (row, column) for row in range(8) for column in (row - 1, row) if column >= 0
    ]
    assert all(tiles.does & PARTIAL)
    causal = mosaic_tpu.tile_map(replace(case, mask="causal").site, Tile.of(q=256, kv=256))
    assert np.count_nonzero(causal.does & FULL) == 6
    assert np.count_nonzero(causal.does & PARTIAL) == 4
    assert np.count_nonzero(causal.does & BEGINS) == np.count_nonzero(causal.does & ENDS) == 4


def map_of(classes: np.ndarray) -> TileMap:
    return TileMap.of(Kinds.of(classes.astype(np.int8), None, (1, 1)))


def test_a_row_of_tiles_that_sees_nothing_has_one_step_without_work() -> None:
    tiles = map_of(np.array([[2, 1], [0, 0], [0, 2]]))
    assert tiles.row.tolist() == [0, 0, 1, 2]
    assert tiles.column.tolist() == [0, 1, 1, 1]
    assert tiles.does.tolist() == [BEGINS + FULL, ENDS + PARTIAL, BEGINS + ENDS, BEGINS + ENDS + FULL]


def test_a_step_ahead_begins_a_tile_and_ends_the_one_before() -> None:
    tiles = map_of(np.array([[2, 1], [0, 0], [0, 2]])).ahead()
    assert tiles.row.tolist() == [0, 0, 1, 2, 2]
    assert tiles.column.tolist() == [0, 1, 1, 1, 1]
    assert tiles.does.tolist() == [
        BEGINS + FULL + VOID,
        PARTIAL + BEFORE * FULL,
        BEGINS + ENDS + BEFORE * PARTIAL,
        BEGINS + ENDS + FULL + VOID,
        ENDS + BEFORE * FULL,
    ]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 2100),
    st.integers(1, 2100),
    st.sampled_from([(512, 512), (1024, 512), (512, 1024), (1024, 1024), (128, 256)]),
    st.sampled_from(["full", "causal", "a window of 40", "a window of 300", "chunks of 512", "a prefix of 300"]),
    st.integers(1, 4),
)
def test_the_blocks_of_a_tile_are_those_of_the_mask(
    queries: int, keys: int, sizes: tuple[int, int], name: str, most: int
) -> None:
    visible = {
        "full": masks.full,
        "causal": masks.causal,
        "a window of 40": masks.causal & masks.window(40),
        "a window of 300": masks.window(300),
        "chunks of 512": masks.causal & masks.chunked(512),
        "a prefix of 300": masks.causal | masks.prefix(300),
    }[name]
    b = Builder("attention")
    q = b.input("q", (queries, 1, 8), "f32")
    k, v = (b.input(label, (keys, 1, 8), "f32") for label in "kv")
    at = {"q_positions": b.positions(queries, start=7), "kv_positions": b.positions(keys)}
    site = site_of(b.build(out=b.attend(q, k, v, mask=visible, **(at if visible != masks.full else {}))))
    tile = Tile.of(q=sizes[0], kv=sizes[1])
    kinds = mosaic_tpu.tile_map(site, tile).kinds.with_at_most(most)
    assert len(kinds.patterns) <= most
    q_pos, kv_pos = np.arange(queries)[:, None] + 7, np.arange(keys)
    whole = np.zeros((len(kinds.kind) * tile["q"], kinds.kind.shape[1] * tile["kv"]), bool)
    whole[:queries, :keys] = masks.evaluate(visible, np, q_pos=q_pos, kv_pos=kv_pos)
    tiles = TileMap.of(kinds)
    body_of = {body.code: body.scores for body in tiles.bodies(is_ahead=False)}
    seen = np.zeros_like(whole)
    for row, column, does in zip(tiles.row, tiles.column, tiles.does, strict=True):
        if not does & COMPUTES:
            continue
        pattern = np.asarray(body_of[int(does & COMPUTES)])
        size = tile["q"] // pattern.shape[0], tile["kv"] // pattern.shape[1]
        for (i, j), kind in np.ndenumerate(pattern):
            top, left = row * tile["q"] + i * size[0], column * tile["kv"] + j * size[1]
            block = whole[top : top + size[0], left : left + size[1]]
            seen[top : top + size[0], left : left + size[1]] = kind != masks.EMPTY
            if kind == masks.FULL:  # rows beyond the last query are no rows of the result
                assert block[: max(0, queries - top)].all()
    assert not (whole & ~seen).any()


@pytest.mark.parametrize("size", [256, 512])
def test_few_patterns_have_a_body_for_each_pair_of_tiles_that_follow_each_other(size: int) -> None:
    site = replace(Case(queries=2048, keys=2048), mask="causal").site
    tiles = mosaic_tpu.tile_map(site, Tile.of(q=size, kv=512)).ahead()
    works = tiles.does & COMPUTES
    assert (works[1:] // BEFORE == works[:-1] % BEFORE).all()
    assert works[0] // BEFORE == works[-1] % BEFORE == 0
    bodies = tiles.bodies(is_ahead=True)
    assert {body.code for body in bodies} == set(works.tolist()) - {0}
    assert len(bodies) <= 8
    assert all(kind == masks.FULL for of_tile in bodies[0][1:] for row in of_tile for kind in row)


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize("mask", ["causal", "window"])
def test_blocks_that_a_mask_hides_are_not_computed(mask: str, ahead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their values are no numbers, and a weight of zero would make them the result's."""
    monkeypatch.setattr(kernel_tpu, "works_ahead", lambda steps: ahead)
    case = Case(queries=1024, keys=1024, heads=2, width=16, value_width=16, mask=mask)
    values = drawn(case.site, 0)
    exact = reference.evaluate(case.site.closed, values)
    values["v"][:, 256:512] = np.nan
    kernel = mosaic_tpu.build(case.site, Tile.of(q=512, kv=512), V5E)
    with pltpu.force_tpu_interpret_mode(pltpu.InterpretParams()):
        out = np.asarray(run(kernel.forward, *values.values())[0])
    shown = [slice(0, 256)] + [slice(768, 1024)] * (mask == "window")
    for rows in shown:
        np.testing.assert_allclose(out[:, rows], exact["output"][:, rows], atol=1e-5)
    assert np.isnan(out[:, 300:500]).all()


def test_padding_is_masked_where_nothing_else_is() -> None:
    tiles = mosaic_tpu.tile_map(Case(mask="full", keys=300).site, Tile.of(q=128, kv=128))
    assert [bool(done & PARTIAL) for done in tiles.does[:3]] == [False, False, True]


def reasons(graph: Graph) -> list[str]:
    return list(mosaic_tpu.declines(site_of(graph), V5E))


def test_what_the_kernel_does_not_honour_it_declines() -> None:
    assert reasons(Case(dtype="f16").graph) == ["Mosaic multiplies bf16 and f32, not f16"]
    assert reasons(Case(dtype="f64").graph) == ["Mosaic multiplies bf16 and f32, not f64"]
    assert reasons(Case(width=2048, heads=64, value_width=4096).graph)[0].startswith("no tile fits: 64 heads of 2048")
    b = Builder("run-time")
    q = b.input("q", (4, 1, 8), "f32")
    out = b.attend(q, q, q, mask=masks.causal, q_positions=b.input("at", (4,), "i32"), kv_positions=b.positions(4))
    assert reasons(b.build(out=out)) == ["q_positions are known only at run time"]
    b = Builder("divides")
    q = b.input("q", (4, 1, 8), "f32")
    assert reasons(b.build(out=b.attend(q, q, q, mask=masks.chunked(3)))) == [
        "Mosaic divides integers by powers of two only, not `kv_pos // 3`, `q_pos // 3`"
    ]


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([(1, 1, 1), (3, 5, 2), (6, 4, 1)]), st.integers(0, 2**32 - 1))
def test_a_map_without_tiles_visits_the_others_in_their_order(shape: tuple[int, int, int], seed: int) -> None:
    (rows, columns, entries), random = shape, np.random.default_rng(seed)
    classes = random.integers(0, 3, (rows, columns))
    apart = random.random((entries, rows, columns)) < random.random()
    whole = map_of(classes)
    left = whole.without(jnp.asarray(apart))
    assert left.steps == whole.steps
    for entry in range(entries):
        wanted = map_of(np.where(apart[entry], masks.EMPTY, classes))
        row, column, does = (np.asarray(array)[entry] for array in (left.row, left.column, left.does))
        assert does[: wanted.steps].tolist() == wanted.does.tolist()
        assert row[: wanted.steps].tolist() == wanted.row.tolist()
        works = (wanted.does & (FULL + PARTIAL)) != 0
        assert column[: wanted.steps][works].tolist() == wanted.column[works].tolist()
        idle = np.append(~works, np.ones(whole.steps - wanted.steps, bool))
        assert all(column[1:][idle[1:]] == column[:-1][idle[1:]])  # nothing is fetched for nothing
        assert not does[wanted.steps :].any()
        assert set(row[wanted.steps :]) <= {wanted.row[-1]}
        ahead, theirs = left.ahead(), wanted.ahead()
        assert np.asarray(ahead.does)[entry, : theirs.steps].tolist() == theirs.does.tolist()


@pytest.mark.parametrize("ahead", [True, False])
def test_a_tile_of_other_documents_is_not_read(ahead: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its values are no numbers, and a weight of zero would make them the result's."""
    monkeypatch.setattr(kernel_tpu, "works_ahead", lambda steps: ahead)
    b = Builder("documents")
    q, k, v = (b.input(label, (1, 256, 1, 128), "f32") for label in "qkv")
    ids = {name: b.input(name, (1, 256), "i32") for name in ("q_segments", "kv_segments")}
    site = site_of(b.build(out=b.attend(q, k, v, mask=masks.segments & masks.causal, **ids)))
    values = drawn(site, 0)
    for name in ids:
        values[name] = np.repeat(np.int32([[0, 1]]), 128, axis=1)
    values["v"][:, :128] = np.nan
    kernel = mosaic_tpu.build(site, Tile.of(q=128, kv=128), V5E)
    with pltpu.force_tpu_interpret_mode(pltpu.InterpretParams()):
        out, *_ = run(kernel.forward, *values.values())
    assert np.isnan(out[:, :128]).all()
    assert np.isfinite(out[:, 128:]).all()


def test_a_tile_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(RopegenError, match=r"q is a power of two of at least 128, e\.g\. q=256"):
        mosaic_tpu.build(Case().site, Tile.of(q=200, kv=128), V5E)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_it_exports_for_tpu_without_one(dtype: str) -> None:
    case = Case(queries=300, keys=300, heads=4, kv_heads=2, width=64, dtype=dtype, pairing="half", mask="window")
    site = case.site
    kernel = mosaic_tpu.build(site, Tile.of(q=256, kv=128), V5E)
    shapes = [jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype)) for kind in site.closed.input_types.values()]
    text = jax.export.export(jax.jit(kernel.forward), platforms=["tpu"])(*shapes).mlir_module()
    assert text.count("stablehlo.custom_call @tpu_custom_call") == 1
