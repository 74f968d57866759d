"""What a plan says of itself: facts against independent counts, the same bytes everywhere, a page that stands alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from drawn import graphs
from hypothesis import given, settings
from hypothesis import strategies as st

from ropegen import angles, masks, models, scaling
from ropegen import explanation as explain
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.planner import plan
from ropegen.plans import Candidate, Plan, Step
from ropegen.rotary import Rope
from ropegen.template import Tile, family

CASES = Path(__file__).parent.parent / "golden" / "cases"
NAMES = sorted(path.parent.name for path in CASES.glob("*/config.json"))


def case(name: str, **build: object) -> Graph:
    described = json.loads((CASES / name / "config.json").read_text())
    return models.from_case({**described, "build": {**described.get("build", {}), **build}})


def steps_with(facts: dict[str, Any], what: str) -> list[dict[str, Any]]:
    return [fact for step in facts["steps"] for fact in step[what]]


def attention(mask: Callable[..., Any], queries: int, keys: int, start: int = 0, dense: bool = False) -> Graph:
    """Attention of 2 heads over one, with static positions: queries from `start`, keys from 0."""
    b = Builder("tiles")
    q = b.input("q", (1, queries, 2, 8), "f32")
    k, v = (b.input(name, (1, keys, 1, 8), "f32") for name in "kv")
    given: dict[str, Any] = {"dense_mask": b.input("seen", (queries, keys), "i1")} if dense else {}
    return b.build(
        out=b.attend(
            q, k, v, mask=mask, q_positions=b.positions(queries, start), kv_positions=b.positions(keys), **given
        )
    )


# Attention -----------------------------------------------------------------------------------------------------------

PATTERNS: dict[str, tuple[Any, Callable[[np.ndarray, np.ndarray], np.ndarray]]] = {
    "causal": (masks.causal, lambda q, kv: kv <= q),
    "window": (masks.causal & masks.window(9), lambda q, kv: (kv <= q) & (q - kv < 9)),
    "chunks": (masks.chunked(16), lambda q, kv: q // 16 == kv // 16),
    "prefix": (masks.causal | masks.prefix(7), lambda q, kv: (kv <= q) | (kv < 7)),
    "everything": (masks.full, lambda q, kv: (q >= 0) | (kv >= 0)),
}


@settings(deadline=None, max_examples=40)
@given(
    pattern=st.sampled_from(sorted(PATTERNS)),
    queries=st.integers(1, 70),
    keys=st.integers(1, 70),
    start=st.integers(0, 40),
    q=st.integers(1, 40),
    kv=st.integers(1, 40),
    dense=st.booleans(),
)
def test_tiles_are_counted_as_by_hand(
    pattern: str, queries: int, keys: int, start: int, q: int, kv: int, dense: bool
) -> None:
    """This test looks at every score of every tile. The plan says the same and looks at none."""
    mask, sees = PATTERNS[pattern]
    made = fixed(attention(mask, queries, keys, start, dense), q, kv)
    (said,) = (attended["tiles"] for attended in steps_with(explain.data(made), "attention"))
    visible = sees(np.arange(start, start + queries)[:, None], np.arange(keys)[None, :])
    counts = {"empty": 0, "full": 0, "partial": 0}
    computed = 0
    for row in range(0, queries, q):
        for column in range(0, keys, kv):
            tile = visible[row : row + q, column : column + kv]
            kind = "empty" if not tile.any() else "full" if tile.all() and not dense else "partial"
            counts[kind] += 1
            computed += 0 if kind == "empty" else tile.size
    assert {kind: said[kind] for kind in counts} == counts
    assert (said["count"], said["scores_computed"], said["scores"]) == (
        sum(counts.values()),
        computed,
        queries * keys,
    )


def fixed(graph: Graph, q: int, kv: int) -> Plan:
    """A plan that computes the only attention of a graph in tiles of these sizes, even if others cost less."""
    made = plan(graph, "cpu")
    region = next(family("attend").find(made.graph))
    chosen = Candidate("attend/xla", 1, Tile.of(q=q, kv=kv), "the caller", made.cost)
    step = Step(region.operands, region.outputs, made.cost, region, chosen, (chosen,))
    return replace(made, steps=(step,), rejected=())


def test_long_sequences_are_counted_without_their_whole_map() -> None:
    length, size = 1 << 20, 1 << 10
    made = fixed(attention(masks.causal, length, length), size, size)
    (said,) = (attended["tiles"] for attended in steps_with(explain.data(made), "attention"))
    tiles = length // size
    assert (said["empty"], said["partial"], said["full"]) == (
        tiles * (tiles - 1) // 2,
        tiles,
        tiles * (tiles - 1) // 2,
    )


def test_positions_of_a_call_leave_tiles_unknown() -> None:
    (said,) = steps_with(explain.data(plan(case("llama3-8b-decode"), "tpu:v5e")), "attention")
    assert said["positions"]["q_positions"] is None
    assert said["positions"]["kv_positions"] == [0, 8191]
    assert "empty" not in said["tiles"]


def test_a_mask_that_hides_every_key_gives_a_warning() -> None:
    made = fixed(attention(lambda q_pos, kv_pos: kv_pos > q_pos + 100, 32, 32), 8, 8)
    (warning,) = explain.data(made)["warnings"]
    assert "no key" in warning
    assert warning in explain.text(made)


# Padding -------------------------------------------------------------------------------------------------------------


def padding_of(graph: Graph, target: str, name: str, **tile: int) -> dict[str, Any] | None:
    """What the plan says about the padding of the only step of a template, with a tile if one is given."""
    made = plan(graph, target, tile={name: tile} if tile else None)
    (said,) = (step["padding"] for step in explain.data(made)["steps"] if step["template"] == name)
    return said


def causal_of(queries: int, keys: int, width: int, dtype: str = "bf16") -> Graph:
    b = Builder("padded")
    q, k, v = (
        b.input(name, (1, length, 2, width), dtype) for name, length in zip("qkv", (queries, keys, keys), strict=True)
    )
    places: dict[str, Any] = {"q_positions": b.positions(queries), "kv_positions": b.positions(keys)}
    return b.build(out=b.attend(q, k, v, mask=masks.causal, **places))


@pytest.mark.parametrize(("queries", "keys", "width"), [(1000, 1000, 96), (1300, 1140, 128), (257, 600, 200)])
def test_padding_is_counted_as_by_hand(queries: int, keys: int, width: int) -> None:
    """This test counts the scores of every tile that a causal mask does not hide, with and without the padding."""
    said = padding_of(causal_of(queries, keys, width), "tpu:v5e", "attend/mosaic_tpu", q=128, kv=128)
    assert said is not None
    seen = [
        (row, column)
        for row in range(0, queries, 128)
        for column in range(0, keys, 128)
        if column <= min(row + 127, queries - 1)
    ]
    needed = sum(min(128, queries - row) * min(128, keys - column) for row, column in seen)
    wide = -(-width // 128) * 128
    assert said["needed"] == 2 * needed * 2 * width
    assert said["computed"] == 2 * len(seen) * 128 * 128 * 2 * wide
    sizes = {"queries": queries, "keys": keys, "features of a query": width, "features of a value": width}
    padded = {what: -(-size // 128) * 128 for what, size in sizes.items()}
    assert said["sizes"] == [
        {"what": what, "size": sizes[what], "computed": padded[what]} for what in sizes if padded[what] != sizes[what]
    ]


def test_nothing_is_said_where_nothing_is_padded() -> None:
    assert padding_of(causal_of(512, 1024, 128), "tpu:v5e", "attend/mosaic_tpu") is None
    assert "padding" not in plan(causal_of(512, 1024, 128), "tpu:v5e").explain()


def test_tiles_of_xla_are_whole_only_in_a_loop() -> None:
    (looped,) = explain.data(fixed(attention(masks.causal, 1000, 1000), 128, 512))["steps"]
    assert [(size["size"], size["computed"]) for size in looped["padding"]["sizes"]] == [(1000, 1024), (1000, 1024)]
    (unrolled,) = explain.data(fixed(attention(masks.causal, 100, 100), 64, 64))["steps"]
    assert unrolled["padding"] is None  # three blocks, which are cut to the sequence


def test_padding_of_rows_and_heads_is_said() -> None:
    text = plan(case("llama3-8b-decode"), "tpu:v5e").explain()
    assert "padding   rows from 1 to 16; 1,500.0 % more rows fetched" in text
    assert "padding   rows from 1 to 16; 1,500.0 % more multiplications" in text


# Angles --------------------------------------------------------------------------------------------------------------


def rotated(length: int, rope: Rope, dtype: str = "bf16", start: int = 0) -> Graph:
    b = Builder("angles")
    return b.build(y=b.rope(b.input("x", (1, length, 2, 64), dtype), b.positions(length, start), rope))


@pytest.mark.parametrize(("name", "width"), [("llama3-8b-prefill", 128), ("pythia-1b", 64), ("gpt-j-6b", 64)])
def test_tables_of_known_positions_are_constants(name: str, width: int) -> None:
    facts = explain.data(plan(case(name, seq=1000), "gpu:h100"))
    (table,) = steps_with(facts, "angles")
    assert table["table"] == "constant"
    assert table["bytes"] == 1000 * width * 4 == facts["totals"]["constant_bytes"]
    assert table["positions"] == [0, 999]
    assert table["largest_position"] == 999


def test_tables_of_positions_of_a_call_are_not() -> None:
    facts = explain.data(plan(case("llama3-8b-decode", capacity=500), "cpu"))
    (table,) = steps_with(facts, "angles")
    assert table["table"] is None
    assert facts["totals"]["constant_bytes"] == 0
    assert table["largest_position"] == 499  # the last position of the cache; the plan knows no more


def test_the_sinusoid_is_a_table_too() -> None:
    (table,) = steps_with(explain.data(plan(case("transformer-base", seq=100), "cpu")), "angles")
    assert table["family"] == "sinusoid"
    assert table["table"] == "constant"
    assert table["bytes"] == 100 * 512 * 2


@pytest.mark.parametrize("angles", ["exact", "f32"])
@pytest.mark.parametrize("start", [0, 100_000])
def test_the_stated_bound_holds_for_the_error_of_the_table(angles: Any, start: int) -> None:
    rope = Rope(500_000.0, pairing="half", angles=angles)
    (table,) = steps_with(explain.data(plan(rotated(512, rope, start=start), "cpu")), "angles")
    positions = np.arange(start, start + 512)
    turns = positions[:, None] * (500_000.0 ** (-np.arange(0, 64, 2) / 64))
    truth = np.concatenate([np.cos(turns), np.sin(turns)], -1)
    error = np.abs(rope.table(positions, 64) - truth).max()
    assert error <= table["error_bound"]
    assert table["error_bound"] < (1e-7 if angles == "exact" else 1.0)  # and the bound is not trivial


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 2**20), min_size=1, max_size=50), st.booleans())
def test_the_stated_bound_holds_for_angles_computed_at_run_time(positions: list[int], floating: bool) -> None:
    b = Builder("run-time")
    kind = "f32" if floating else "i32"
    at = b.input("at", (len(positions),), kind)
    rope = Rope(10_000.0, pairing="half")
    graph = b.build(y=b.rope(b.input("x", (len(positions), 2, 64), "f32"), at, rope))
    (said,) = steps_with(explain.data(plan(graph, "cpu")), "angles")
    assert said["largest_position"] is None
    given = np.array(positions) + (0.25 if floating else 0)
    given = given.astype(np.float32 if floating else np.int32)
    turns = given.astype(np.float64)[:, None] * rope.inverse_frequencies(64)
    cos, sin = angles.cos_sin(jnp.asarray(given)[:, None], rope.inverse_frequencies(64), exact=True)
    error = max(np.abs(cos - np.cos(turns)).max(), np.abs(sin - np.sin(turns)).max())
    assert error <= said["error_bound"] < 1e-6


@pytest.mark.parametrize(
    ("length", "dtype", "warned"), [(21_000, "bf16", False), (23_000, "bf16", True), (21_000, "f16", True)]
)
def test_f32_angles_give_a_warning_if_their_error_passes_the_epsilon(length: int, dtype: str, warned: bool) -> None:
    """Six roundings of 2**-24 at position p pass bf16's epsilon of 2**-7 at p = 2**17 / 6 = 21,845."""
    rope = Rope(10_000.0, pairing="half", angles="f32")
    made = plan(rotated(length, rope, dtype), "cpu")
    assert any("f32 angles" in warning for warning in explain.data(made)["warnings"]) == warned
    exact = plan(rotated(length, replace(rope, angles="exact"), dtype), "cpu")
    assert not explain.data(exact)["warnings"]


def test_families_are_named_with_their_fields() -> None:
    stretched = scaling.llama3(factor=8, low=1, high=4, original=8192)
    words = explain.text(plan(rotated(16, Rope(5e5, pairing="interleaved", dim=32, scaling=stretched)), "cpu"))
    for word in ("llama3", "theta 500,000", "factor 8", "original 8192", "32 of 64 features", "interleaved"):
        assert word in words


# Whole plans ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", ["cpu:4", "gpu:h100", "tpu:v5e"])
def test_the_plan_of_every_case_is_told_completely(name: str, target: str) -> None:
    made = plan(case(name), target)
    facts, words = explain.data(made), explain.text(made)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    for label, value in (*((value.op.label, value) for value in made.source.inputs), *made.graph.outputs):
        assert re.search(rf"^  {label} +.*{re.escape(str(value.type))}", words, re.MULTILINE)
    assert sum(rule["times"] for rule in facts["passes"]) == len(made.trace)
    assert len(facts["steps"]) == len(made.steps)
    called = [step for step in facts["steps"] if not step["prepares"]]
    assert sum(step["cost"]["seconds"] for step in called) == pytest.approx(made.cost.seconds)
    assert sum(step["share"] for step in called) == pytest.approx(1)
    for step in made.steps:
        for candidate in step.considered:
            assert candidate.template in words
            assert all(reason in words for reason in candidate.declined)
    for rejected in made.rejected:
        assert rejected.reason in words
    parameters = sum(value.type.bytes for value in made.graph.inputs if value.op.role == "parameter")
    assert facts["totals"]["parameter_bytes"] == parameters
    assert words.endswith("\n")
    assert "\x1b" not in words


def test_a_template_that_declines_is_shown_with_its_reasons() -> None:
    made = plan(case("llama3-8b-prefill"), "cpu")
    refusal = Candidate("attend/other", 1, declined=("heads are too <wide>", "no sinks"))
    steps = tuple(replace(step, considered=(*step.considered, refusal)) for step in made.steps)
    words = explain.text(replace(made, steps=steps))
    assert "attend/other declines: heads are too <wide>; no sinks" in words


@settings(deadline=None, max_examples=40)
@given(graphs(20))
def test_the_plans_of_drawn_graphs_are_told(graph: Graph) -> None:
    made = plan(graph, "gpu:h100")
    words = explain.text(made)
    assert all(str(value.type) in words for value in graph.inputs)
    json.dumps(explain.data(made), allow_nan=False)
    parsed(explain.html(made))


def test_the_words_are_the_same_in_every_process() -> None:
    code = """if True:
        import json, sys
        from ropegen import explanation as explain
        from ropegen import models
        from ropegen.planner import plan
        made = plan(models.from_case(json.load(open(sys.argv[1]))), "tpu:v5e")
        sys.stdout.buffer.write((explain.text(made) + explain.html(made) + json.dumps(explain.data(made))).encode())
    """
    said = {
        subprocess.run(
            [sys.executable, "-c", code, str(CASES / "gemma2-9b-local" / "config.json")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


@pytest.mark.parametrize(
    ("seconds", "size", "words"),
    [
        (0.0, 0, ("0 ns", "0 B")),
        (3.2e-8, 999, ("32 ns", "999 B")),
        (4.56e-6, 1000, ("4.56 \N{MICRO SIGN}s", "1 kB")),
        (0.0999, 33_554_432, ("99.9 ms", "33.6 MB")),
        (12.0, 1_050_673_152, ("12 s", "1.05 GB")),
        (250.5, 9.9996e17, ("250 s", "1000 PB")),
    ],
)
def test_sizes_and_times_are_easy_to_read(seconds: float, size: float, words: tuple[str, str]) -> None:
    assert (explain.duration(seconds), explain.quantity(size, "B")) == words


# The page ------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The tags of a page with their attributes, and the words between them. Reading asserts that tags close in order."""

    EMPTY = ("meta", "br", "!doctype")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


def parsed(page: str) -> Page:
    read = Page()
    read.feed(page)
    read.close()
    assert not read.open
    return read


@pytest.mark.parametrize("name", ["llama3-8b-prefill", "bloom-560m"])
def test_the_page_needs_no_other_file_and_says_the_same(name: str) -> None:
    made = plan(case(name), "gpu:h200")
    page = explain.html(made)
    read = parsed(page)
    assert "script" not in {tag for tag, _ in read.seen}
    assert not {name for _, attributes in read.seen for name in attributes} & {"src", "srcset", "action"}
    assert all((attributes.get("href") or "#").startswith("#") for _, attributes in read.seen)
    assert not re.search(r"https?:|//|url\((?!#)|@import", page)
    bars = [attributes for _, attributes in read.seen if "bar" in (attributes.get("class") or "").split()]
    widths = [float(re.fullmatch(r"width:([\d.]+)%", bar["style"] or "")[1]) for bar in bars]  # type: ignore[index]
    times = [step.cost.seconds for step in made.steps if not step.prepares and step.cost.seconds]
    assert widths == pytest.approx([100 * seconds / max(times) for seconds in times], abs=0.01)
    said = " ".join(read.words)
    for attended in steps_with(explain.data(made), "attention"):
        assert attended["mask"] in said
    assert all(str(value.type) in said for value in made.source.inputs)


def test_the_page_escapes_what_it_is_given() -> None:
    made = plan(case("gpt2-small"), "cpu")
    refusal = Candidate("<b>", 1, declined=('<script>alert("x")</script> & more',))
    steps = tuple(replace(step, considered=(*step.considered, refusal)) for step in made.steps)
    page = explain.html(replace(made, steps=steps))
    assert "script" not in {tag for tag, _ in parsed(page).seen}
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; more" in page
