"""The page and the text of a plan: what they draw against independent counts, nothing cut, nothing on top of another."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_explain import CASES, NAMES, PATTERNS, attention, case, fixed, steps_with

from ropegen import explanation as explain
from ropegen import masks, models, planner
from ropegen.explanation import graph_picture, words
from ropegen.explanation.attention import LETTERS
from ropegen.ir import ops
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.planner import plan
from ropegen.plans import Plan
from ropegen.tile_classes import TileClasses

TARGETS = ("cpu:4", "gpu:h100", "tpu:v5e")


class Element:
    """A tag of a page with its attributes, its parts, and its words."""

    def __init__(self, tag: str, attributes: dict[str, str], parent: Element | None) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.parts: list[Element] = []
        self.text = ""

    def all(self, *tags: str) -> list[Element]:
        """The elements below, in order; those of some tags, if any are given."""
        below = [found for part in self.parts for found in (part, *part.all())]
        return [part for part in below if not tags or part.tag in tags]

    @property
    def words(self) -> str:
        return " ".join([self.text, *(part.words for part in self.parts)])

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()


class Tree(HTMLParser):
    """A page as a tree. Reading asserts that tags close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.root = self.at = Element("page", {}, None)
        self.feed(page)
        self.close()
        assert self.at is self.root

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, {name: value or "" for name, value in attrs}, self.at)
        self.at.parts.append(made)
        if tag != "meta":
            self.at = made

    def handle_endtag(self, tag: str) -> None:
        assert self.at.tag == tag
        assert self.at.parent is not None
        self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.text += data


# The page ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama3-8b-prefill", "llama3-8b-decode", "bert-base", "vit-b16"])
@pytest.mark.parametrize("target", TARGETS)
def test_tables_have_captions_and_row_headers(name: str, target: str) -> None:
    page = Tree(explain.html(plan(case(name), target))).root
    tables = page.all("table")
    assert tables
    for table in tables:
        captions = table.all("caption")
        assert len(captions) == 1
        assert captions[0].words.strip()
        heads = len(table.all("thead")[0].all("th")) if table.all("thead") else 0
        for row in table.all("tbody")[0].all("tr"):
            first, *others = row.parts
            assert (first.tag, first.attributes["scope"]) == ("th", "row")
            assert {cell.tag for cell in others} == {"td"}
            assert heads in (0, len(row.parts))
    ids = [part.attributes["id"] for part in page.all() if "id" in part.attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", ["llama3-8b-prefill", "llama3-8b-decode"])
def test_bars_link_to_steps_and_only_the_most_expensive_one_is_open(name: str) -> None:
    made = plan(case(name), "tpu:v5e")
    page = Tree(explain.html(made)).root
    facts = [step for step in explain.data(made)["steps"] if not step["prepares"]]
    inside = {
        part.attributes["id"]: block for block in page.all("details") for part in block.all() if "id" in part.attributes
    }
    timed = [step for step in facts if step["cost"]["seconds"]]
    rows = page.all("ul")[0].all("li")
    assert len(rows) == len(timed)
    for row, step in zip(rows, timed, strict=True):
        (link,) = row.all("a")
        target = inside[link.attributes["href"].removeprefix("#")]
        assert words.title(step) in target.all("summary")[0].words
        assert words.price(step) in row.words
    opened = [block.all("summary")[0].words for block in page.all("details") if "open" in block.attributes]
    longest = max(facts, key=lambda step: step["cost"]["seconds"])
    assert opened == [f"{longest['index']}. {words.title(longest)}: {words.price(longest)}"]


def test_ticks_stand_at_the_floors() -> None:
    made = plan(case("llama3-8b-prefill"), "tpu:v5e")
    page = Tree(explain.html(made)).root
    chip = made.target.figures
    timed = [step for step in made.steps if not step.prepares and step.cost.seconds]
    longest = max(step.cost.seconds for step in timed)
    for row, step in zip(page.all("ul")[0].all("li"), timed, strict=True):
        at = {
            part.classes[1]: float(part.attributes["style"][5:-1]) for part in row.all("span") if "tick" in part.classes
        }
        assert at["memory-floor"] == pytest.approx(100 * step.cost.bytes / chip.bandwidth / longest, abs=0.01)
        if step.cost.flops:
            rate = chip.matmul_bf16 if any(value.type.dtype == "bf16" for value in step.outputs) else chip.matmul_f32
            assert at["compute-floor"] == pytest.approx(100 * step.cost.flops / rate / longest, abs=0.01)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", TARGETS)
def test_no_step_is_below_its_floors(name: str, target: str) -> None:
    for step in explain.data(plan(case(name), target))["steps"]:
        assert max(step["floors"].values()) <= step["cost"]["seconds"] * (1 + 1e-9), step["template"]


def test_options_have_bars_in_proportion() -> None:
    page = Tree(explain.html(plan(case("llama3-8b-prefill"), "tpu:v5e"))).root
    (table,) = [
        table
        for table in page.all("table")
        if "attend/mosaic_tpu" in table.words and "Options" in table.all("caption")[0].words
    ]
    made = plan(case("llama3-8b-prefill"), "tpu:v5e")
    (step,) = [step for step in explain.data(made)["steps"] if step["template"] == "attend/mosaic_tpu"]
    times = [option["cost"]["seconds"] for option in step["considered"]] + [step["unfused"]["seconds"]]
    widths = [float(part.attributes["style"][6:-3]) for part in table.all("div")]
    assert np.array(widths) / max(widths) == pytest.approx(np.array(times) / max(times), abs=0.01)
    assert step["unfused"]["seconds"] == pytest.approx(
        sum(
            planner.unfused(node, made.target, ["forward"]).seconds
            for node in made.graph.ops
            if node.op.name in ("rotate", "attend")
        ),
        rel=1e-6,
    )


# Maps of masks -------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(
    pattern=st.sampled_from(sorted(PATTERNS)),
    queries=st.integers(1, 90),
    keys=st.integers(1, 90),
    start=st.integers(0, 40),
    q=st.integers(1, 40),
    kv=st.integers(1, 40),
    dense=st.booleans(),
)
def test_maps_are_those_of_the_scores(
    pattern: str, queries: int, keys: int, start: int, q: int, kv: int, dense: bool
) -> None:
    """This test looks at every score of every cell of the map."""
    mask, sees = PATTERNS[pattern]
    (said,) = (
        found["map"]
        for found in steps_with(explain.data(fixed(attention(mask, queries, keys, start, dense), q, kv)), "attention")
    )
    visible = np.broadcast_to(
        sees(np.arange(start, start + queries)[:, None], np.arange(keys)[None, :]), (queries, keys)
    )
    down, across = said["tiles"]
    high, wide = down * q, across * kv
    assert said["rows"] == [
        "".join(
            "." if not cell.any() else "#" if cell.all() and not dense else "+"
            for column in range(0, keys, wide)
            for cell in (visible[row : row + high, column : column + wide],)
        )
        for row in range(0, queries, high)
    ]
    assert len(said["rows"]) <= 64
    assert len(said["rows"][0]) <= 64


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**31))
def test_reduced_maps_have_the_classes_of_their_tiles(rows: int, columns: int, most: int, seed: int) -> None:
    dense = np.random.default_rng(seed).choice([0, 0, 0, 1, 2, 2, 2], (rows, columns)).astype(np.int8)
    dense[: rows // 2] = seed % 3  # whole cells of one class
    cells, down, across = TileClasses.of(dense).reduced(most)
    assert max(cells.shape) <= most
    assert (down, across) == (-(-rows // most), -(-columns // most))
    for row, column in itertools.product(*map(range, cells.shape)):
        kinds = {*dense[row * down : (row + 1) * down, column * across : (column + 1) * across].ravel().tolist()}
        assert cells[row, column] == (kinds.pop() if len(kinds) == 1 else masks.PARTIAL)


def test_the_page_draws_every_map() -> None:
    made = plan(case("gemma2-9b-local"), "cpu")
    (said,) = steps_with(explain.data(made), "attention")
    assert said["map"]["tiles"] is None  # native code decides about its tiles at run time
    (drawn,) = [part for part in Tree(explain.html(made)).root.all("svg") if "map" in part.classes]
    grid = np.full((len(said["map"]["rows"]), len(said["map"]["rows"][0])), "?")
    letters = {"empty": LETTERS[masks.EMPTY], "partial": LETTERS[masks.PARTIAL], "full": LETTERS[masks.FULL]}
    for path in drawn.all("path"):
        for column, row, count in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", path.attributes["d"]):
            grid[int(row), int(column) : int(column) + int(count)] = letters[path.classes[0]]
    assert ["".join(row) for row in grid] == said["map"]["rows"]
    assert "." in said["map"]["rows"][0]


def test_positions_of_a_call_have_no_map() -> None:
    (said,) = steps_with(explain.data(plan(case("llama3-8b-decode"), "tpu:v5e")), "attention")
    assert said["map"] is None


# The picture of the graph --------------------------------------------------------------------------------------------


def check_layout(made: Plan) -> graph_picture.Layout:
    """Boxes lie in the picture and apart, those of a region inside its frame, frames apart, and text inside its box."""
    placed = graph_picture.layout(made, explain.data(made))
    boxes = placed.boxes
    for box in boxes:
        assert box.x >= 0
        assert box.x + box.width <= graph_picture.WIDTH
        assert box.y >= 0
        assert box.y + box.height <= placed.height
        assert all(len(line) * graph_picture.LETTER <= box.width for line in box.lines), box.lines
    for one, other in itertools.combinations(boxes, 2):
        apart = one.x + one.width <= other.x or other.x + other.width <= one.x
        assert apart or one.y + one.height < other.y or other.y + other.height < one.y
    for group in placed.groups:
        for box in (box for row in group.rows for box in row):
            assert group.top <= box.y
            assert box.y + box.height <= group.bottom
        assert all(len(line) * graph_picture.LETTER <= graph_picture.WIDTH for line in group.title.split("\n"))
    for above, below in itertools.pairwise(placed.groups):
        assert above.bottom < below.top
    for maker, reader in placed.edges:
        assert maker.row < reader.row  # every arrow goes down
    return placed


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", TARGETS)
def test_the_graph_is_drawn_without_overlaps(name: str, target: str) -> None:
    made = plan(case(name), target)
    placed = check_layout(made)
    ops_drawn = sorted(node.op.name for step in made.steps for node in step.nodes if not isinstance(node.op, ops.Input))
    assert len(placed.boxes) == len(ops_drawn)
    read: set[tuple[str, str]] = set()
    for step in made.steps:
        for node in step.nodes:
            read |= {(operand.op.name, node.op.name) for operand in node.operands if operand in {*made.graph.ops}}
    inner = {name for step in made.steps if step.region is not None for name in (node.op.name for node in step.nodes)}
    drawn = {
        (maker.lines[0], reader.lines[0])
        for maker, reader in placed.edges
        if maker.lines[0] in inner and reader.lines[0] in inner
    }
    assert drawn <= read
    assert {
        pair for pair in read if "positions" not in pair and {*pair} <= {box.lines[0] for box in placed.boxes}
    } <= drawn


def test_a_large_graph_has_a_box_for_a_step() -> None:
    made = plan(chain(61), "cpu")
    assert len(made.graph.ops) > 120
    placed = check_layout(made)
    assert len(placed.boxes) == len(made.steps)


def chain(count: int) -> Graph:
    """A chain of projections and norms."""

    b = Builder("chain")
    x = b.input("x", (1, 8, 16), "f32")
    for layer in range(count):
        weight = b.input(f"weight{layer}", (16, 16), "f32", role="parameter")
        x = b.norm(b.project(x, weight), kind="rms", epsilon=1e-5)
    return b.build(out=x)


def test_a_region_in_the_picture_is_a_frame_with_its_step() -> None:
    made = plan(case("llama3-8b-prefill"), "tpu:v5e")
    (picture,) = [part for part in Tree(explain.html(made)).root.all("svg") if "graph" in part.classes]
    frames = [part for part in picture.all("rect") if "region" in part.classes]
    regions = [step for step in made.steps if step.region is not None]
    assert len(frames) == len(regions) == 3
    assert sorted(frame.classes[1] for frame in frames) == sorted(step.cost.bound for step in regions)
    said = " ".join(part.text for part in picture.all("text"))
    for step in explain.data(made)["steps"]:
        assert words.title(step) in said


# The text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", TARGETS)
def test_text_begins_with_six_lines_and_has_no_filler(name: str, target: str) -> None:
    made = plan(case(name), target)
    facts, text = explain.data(made), explain.text(made)
    first, *lines = text.split("\n\n")[0].split("\n")
    assert explain.summary(made) == "\n".join([first, *lines]) + "\n"
    assert first == f"plan of {made.graph.name} for {made.target}"
    assert [line.split()[0] for line in lines] == ["estimate", "bound", "chip", "shapes", "steps", "warnings"]
    assert explain.duration(made.cost.seconds) in lines[0]
    called = [step for step in facts["steps"] if not step["prepares"]]
    for step in sorted(called, key=lambda step: -step["cost"]["seconds"])[:3]:
        assert f"{step['index']}. {words.title(step)} " in lines[4]
    assert not re.search(r"(?<![\d,.])0 (B|FLOP|ns|s|%)(?!\w)", text)
    assert not re.search(r"^  none$", text, re.MULTILINE)
    for prepares in (False, True):
        numbers = [step["index"] for step in facts["steps"] if step["prepares"] == prepares]
        assert numbers == [*range(1, len(numbers) + 1)]


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("name", ["llama3-8b-decode", "gemma2-9b-local"])
def test_lines_wrap_with_a_hanging_indent(name: str, width: int) -> None:
    made = plan(case(name), "cpu")
    whole, wrapped = explain.text(made), explain.text(made, width)
    assert wrapped.split() == whole.split()
    longest_word = max(map(len, whole.split()))
    assert longest_word < 60
    for line in wrapped.split("\n"):
        # A word that is longer than the room for it stands alone.
        assert len(line) <= width or len(line.split()[-1]) > 24, line
    assert made.explain(width) == wrapped
    lines, wanted = iter(wrapped.split("\n")), whole.split("\n")
    for line in wanted:
        start = next(lines)
        assert line.startswith(start.rstrip())
        while len(start.split()) < len(line.split()):
            more = next(lines)
            assert more.startswith(" " * 4)
            start = f"{start} {more}"


def test_where_costs_were_fitted_is_said() -> None:
    for target, said in (
        ("tpu:v5e", "fitted to libtpu's schedules"),
        ("cpu", "fitted to measurements"),
        ("gpu:h100", "nothing is fitted"),
    ):
        made = plan(case("gpt2-small"), target)
        assert said in made.explain()
        assert said.replace("'", "&#x27;") in explain.html(made)
        assert "not a measurement" in made.explain()


def test_the_reason_of_a_region_compares_in_one_unit() -> None:
    made = plan(models.from_case(json.loads((CASES / "pythia-1b" / "config.json").read_text())), "tpu:v5e")
    compared = [
        re.search(r"saves? ([\d.]+) (\S+), more than the ([\d.]+) (\S+) that", rejected.reason)
        for rejected in made.rejected
    ]
    found = [match for match in compared if match is not None]
    assert found
    for match in found:
        assert match[2] == match[4]
        assert float(match[1]) > float(match[3])


def test_a_cost_of_several_directions_is_named() -> None:
    made = plan(case("gpt2-small"), "cpu", weigh=("forward", "backward"))
    assert "a call, forward and backward together" in explain.summary(made)
    assert "together" not in explain.summary(replace(made, weighed=("forward",)))
