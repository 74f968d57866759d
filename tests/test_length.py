"""Long sequences, long masks and long graphs: the classes of tiles, and what planning takes.

`python tests/test_length.py S [TARGET [NAME...]]` plans an attention of S queries and keys under every mask of the gallery, and under
the window of 4096, and prints the time, and the memory that planning added to what JAX held before.
"""

from __future__ import annotations

import functools
import importlib.util
import operator
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ropegen as rg
from ropegen import masks
from ropegen.ir.graph import Graph
from ropegen.masks import Expr
from ropegen.tile_classes import MOST_TILES, TileClasses, classes_of

ROOT = Path(__file__).resolve().parent.parent
IntArray = np.ndarray[Any, Any]


# The masks of the gallery, at any length ----------------------------------------------------------------------------------


def gallery() -> Iterator[tuple[str, dict[str, Any]]]:
    """The name of every picture of docs/masks.py, and the arguments that its code sets."""
    spec = importlib.util.spec_from_file_location("gallery", ROOT / "docs" / "masks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gallery"] = module
    spec.loader.exec_module(module)
    for example in module.EXAMPLES:
        yield example.name, module.arguments(example)


def attention(length: int, arguments: dict[str, Any]) -> Graph:
    """An attention of `length` queries and keys with the mask, score, segments, bias and sinks of a picture."""
    b = rg.Builder("attention")
    q, k, v = (b.input(name, (1, length, 4, 64), "bf16") for name in "qkv")
    positions = b.positions(length)
    beside: dict[str, Any] = {"q_positions": positions, "kv_positions": positions}
    if isinstance(arguments.get("mask"), np.ndarray):
        beside["dense_mask"] = b.input("dense_mask", (length, length), "bool")
    elif "mask" in arguments:
        beside["mask"] = arguments["mask"]
    if "bias" in arguments:
        beside["bias"] = b.input("bias", (length, length), "f32")
    if "sinks" in arguments:
        beside["sinks"] = b.input("sinks", (4,), "f32")
    for name in ("q_segments", "kv_segments"):
        if name in arguments:
            beside[name] = b.input(name, (length,), "i32")
    beside |= {name: arguments[name] for name in ("score", "softcap", "masked_row") if name in arguments}
    return b.build(out=b.attend(q, k, v, **beside))


def plan_all(length: int, target: str, *chosen: str) -> None:
    """Print the CPU seconds of every plan, or of those that are `chosen` by name, and the MB that plans have added so far.

    JAX and the arrays of the gallery are there before the first plan. Their memory is not the planner's.
    """
    window = {"mask": masks.causal & masks.window(4096)}
    chosen_masks = [row for row in [*gallery(), ("window-4096", window)] if not chosen or row[0] in chosen]
    before = memory("VmRSS")
    for name, arguments in chosen_masks:
        graph = attention(length, arguments)
        begun = time.process_time()
        rg.plan(graph, target)
        spent = time.process_time() - begun
        print(f"{name:16} {spent:6.2f} s {(memory('VmHWM') - before) / 1e6:6.0f} MB", flush=True)


def memory(field: str) -> float:
    """The bytes that this process holds (`VmRSS`), or the most that it held (`VmHWM`), which include those of its imports.

    On Linux, `getrusage` would also count what the process' parent held when it began. Elsewhere there is only `getrusage`.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        return 1024.0 * int(re.findall(rf"{field}:\s+(\d+) kB", status.read_text())[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) * (1 if sys.platform == "darwin" else 1024)


def figures(length: int, target: str, *chosen: str) -> dict[str, tuple[float, float]]:
    """The seconds, and the megabytes beyond JAX's own, that `plan_all` prints in a process of its own."""
    command = [sys.executable, str(Path(__file__)), str(length), target, *chosen]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    rows = re.findall(r"^(\S+) +([\d.]+) s +(-?\d+) MB$", printed, flags=re.MULTILINE)
    return {name: (float(seconds), float(size)) for name, seconds, size in rows}


@pytest.mark.parametrize("target", ["cpu:2", "gpu:h100", "tpu:v5e"])
def test_a_million_positions(target: str) -> None:
    measured = figures(10**6, target)
    assert len(measured) >= 27
    assert not {name: taken for name, taken in measured.items() if taken[0] > 2 or taken[1] > 100}


def test_ten_million_positions() -> None:
    measured = figures(10**7, "cpu:2", "window-4096", "dilated", "chunked", "heads")
    assert len(measured) == 4
    assert not {name: taken for name, taken in measured.items() if taken[0] > 10}


def test_beyond_the_bound() -> None:
    graph = attention(10**9, {"mask": masks.causal & masks.window(4096)})
    with pytest.raises(
        rg.RopegenError, match=r"of 1,953,125 x 7,812,500 tiles .* more than 33,554,432 must be classified"
    ):
        rg.plan(graph, "cpu:2")


# The same classes as tile by tile ------------------------------------------------------------------------------------------

CONDITIONS = """\
kv_pos <= q_pos|kv_pos > q_pos|q_segment == kv_segment|q_pos - kv_pos < N|kv_pos - q_pos < N|q_pos // N == kv_pos // N
kv_pos < N|(q_pos - kv_pos) % N == M|max(q_pos // N, 7) * 3 > abs(M - kv_pos)|[0, 1, 1, 0, 1][q_pos // N + kv_pos // M] == 1
(head % 2 == 0) \\| (q_pos - kv_pos < N)|where(q_pos % N < 9, q_pos - kv_pos, -kv_pos * 2) != -M
(q_pos - kv_pos) * (q_pos + kv_pos) < N * 1000|q_pos * 70000 > kv_pos|kv_pos % -7 == q_pos // -5|q_pos % kv_pos == 0
~((q_pos < N) == (kv_pos < M))|where(kv_pos <= q_pos, q_pos - kv_pos < N, kv_pos % M == 3)|min(q_pos, N) <= -kv_pos"""
numbers = st.integers(1, 40) | st.integers(1, 3000)


def condition(text: str, n: int, m: int) -> Expr:
    return masks.parse(text.replace("\\", "").replace("N", str(n)).replace("M", str(m)))


conditions = st.builds(condition, st.sampled_from(re.split(r"(?<!\\)[|\n]", CONDITIONS)), numbers, numbers)
whole_masks = st.lists(conditions, min_size=1, max_size=3).flatmap(
    lambda terms: st.sampled_from([functools.reduce(join, terms) for join in (operator.and_, operator.or_)])
)
fractions = numbers.map(lambda n: masks.parse(f"(q_pos - kv_pos) * 0.5 + sqrt(kv_pos * 1.0) < {n} * 0.3"))
starts = st.integers(-5000, 100_000) | st.integers(2**31 - 600_000, 2**31 - 500_000)
grids = st.tuples(st.integers(1, 700), st.integers(1, 512), starts)


def tiles(count: int, size: int, start: int) -> IntArray:
    """The positions of `count` tiles; the last tile is shorter."""
    first = start + size * np.arange(count)
    last = first + size - 1
    last[-1] = first[-1] + (size - 1) // 2
    return np.stack([first, last], 1)


@settings(deadline=None, max_examples=150)
@given(whole_masks, grids, grids, st.booleans(), st.sets(st.sampled_from(masks.NAMES), max_size=2))
def test_the_classes_are_those_of_every_tile(
    expr: Expr, rows: Any, columns: Any, has_segments: bool, wide: set[str]
) -> None:
    q_tiles, kv_tiles = tiles(*rows), tiles(*columns)
    beside: dict[str, Any] = {"head": (0, 3), "wide": wide}
    if has_segments:
        beside["q_segment"] = np.stack([np.arange(len(q_tiles)) // 7, np.arange(len(q_tiles)) // 6], 1)
        beside["kv_segment"] = (3, 3)
    classes = classes_of(expr, q_tiles, kv_tiles, **beside)
    np.testing.assert_array_equal(classes.dense(), masks.classify_tiles(expr, q_tiles, kv_tiles, **beside))


@settings(deadline=None, max_examples=40)
@given(fractions, grids, grids)
def test_floats_are_never_classified_less_sharply(expr: Expr, rows: Any, columns: Any) -> None:
    tile_by_tile = masks.classify_tiles(expr, tiles(*rows), tiles(*columns))
    classes = classes_of(expr, tiles(*rows), tiles(*columns)).dense()
    assert np.all((classes == tile_by_tile) | (tile_by_tile == masks.PARTIAL))


@settings(deadline=None, max_examples=60)
@given(whole_masks, grids, grids, st.booleans())
def test_what_is_read_off_the_rectangles(expr: Expr, rows: Any, columns: Any, turned: bool) -> None:
    q_tiles, kv_tiles = tiles(*rows), tiles(*columns)
    classes, dense = classes_of(expr, q_tiles, kv_tiles), masks.classify_tiles(expr, q_tiles, kv_tiles)
    heights, widths = (1 + pairs[:, 1] - pairs[:, 0] for pairs in (q_tiles, kv_tiles))
    if turned:
        classes, dense, heights, widths = classes.transposed, dense.T, widths, heights
    assert (len(classes), classes.columns) == dense.shape
    assert [classes.number(kind) for kind in range(3)] == np.bincount(dense.ravel(), minlength=3).tolist()
    assert classes.visited == np.count_nonzero(dense)
    assert classes.scores(heights, widths) == heights @ (dense != masks.EMPTY) @ widths
    first, stop = classes.seen()
    for row, of_row in enumerate(dense):
        columns_seen = np.flatnonzero(of_row)
        assert [first[row], stop[row]] == ([columns_seen[0], columns_seen[-1] + 1] if len(columns_seen) else [0, 0])
    np.testing.assert_array_equal(classes.masked.dense(), np.minimum(dense, masks.PARTIAL))
    dense = dense.copy()
    dense[:, -1] = np.minimum(dense[:, -1], masks.PARTIAL)
    np.testing.assert_array_equal(classes.with_masked_last_column.dense(), dense)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 100), (1, 1), (70, 1)])
def test_a_uniform_map(shape: tuple[int, int]) -> None:
    for classes in (TileClasses.uniform(*shape, masks.FULL), TileClasses.of(np.full(shape, masks.FULL, np.int8))):
        np.testing.assert_array_equal(classes.dense(), np.full(shape, masks.FULL))


def test_no_map_is_listed_beyond_the_bound() -> None:
    with pytest.raises(rg.RopegenError, match=f"at most {MOST_TILES:,} can be listed"):
        TileClasses.uniform(2**13, 2**13, masks.FULL).dense()


def test_a_mask_that_no_block_decides_is_refused() -> None:
    length = np.arange(30_000)[:, None] * 128 + [0, 127]
    with pytest.raises(rg.RopegenError, match="must be classified one by one"):
        classes_of(masks.parse("(q_pos - kv_pos) % 1000 == 0"), length, length)


def test_no_row_is_written_past_the_capacity_where_lengths_are_known() -> None:
    b = rg.Builder("cache")
    cache, update = b.input("cache", (3, 10, 2, 4), "f32"), b.input("update", (3, 4, 2, 4), "f32")
    assert b.append_cache(cache, update, b.positions(3, 4)).type == cache.type  # the last of them writes rows 6 to 9
    with pytest.raises(rg.RopegenError, match="4 rows from row 7 on end at row 11, past the capacity of 10 rows"):
        b.append_cache(cache, update, b.positions(3, 5))


@pytest.mark.parametrize("text", re.split(r"(?<!\\)[|\n]", CONDITIONS))
@pytest.mark.parametrize(("n", "m"), [(3, 1), (40, 17), (1000, 600), (3000, 41)])
def test_every_condition_in_maps_of_many_small_tiles(text: str, n: int, m: int) -> None:
    expr = condition(text, n, m)
    for rows, columns in (((200, 16, 0), (300, 8, 0)), ((90, 3, -150), (300, 1, -100)), ((2, 16, 900), (400, 5, 0))):
        q_tiles, kv_tiles = tiles(*rows), tiles(*columns)
        for wide in ((), ("kv_pos",), ("q_segment", "head")):
            np.testing.assert_array_equal(
                classes_of(expr, q_tiles, kv_tiles, wide=wide).dense(),
                masks.classify_tiles(expr, q_tiles, kv_tiles, wide=wide),
            )


# Long masks and long graphs ---------------------------------------------------------------------------------------------------


def of_functions(terms: list[Expr]) -> Expr:
    return functools.reduce(operator.or_, terms)


def turned(terms: list[Expr]) -> Expr:
    return functools.reduce(lambda mask, term: term | mask, terms)


@pytest.mark.parametrize("join", [of_functions, turned])
def test_six_hundred_terms(join: Callable[[list[Expr]], Expr]) -> None:
    """Joining a term looks at the terms before it, so four times the terms may take 16 times as long. They took 10 times; a
    cubic step would take 64.
    """

    def seconds(terms: int) -> float:
        begun = time.process_time()
        mask = join([masks.parse(f"q_pos - kv_pos == {3 * index + 1}") for index in range(terms)])
        rg.plan(attention(128, {"mask": mask}), "cpu:2")
        return time.process_time() - begun

    seconds(10)  # the first plan fills caches
    assert seconds(600) < 32 * seconds(150)


def test_a_term_and_its_negation_cancel_on_either_side() -> None:
    terms = masks.parse("(q_pos == 1) | (q_pos == 2) | (q_pos == 3)")
    for other in (
        "q_pos != 2",
        "(kv_pos == 9) | (q_pos != 3)",
        "(kv_pos == 1) | (kv_pos == 2) | (kv_pos == 3) | (q_pos != 1)",
    ):
        assert terms | masks.parse(other) == masks.parse(other) | terms == masks.full


def planning_seconds(layers: int) -> tuple[int, float]:
    """How many ops a graph of so many layers has, and how long this process works to build and to plan it."""
    begun = time.process_time()
    b = rg.Builder("long")
    x = b.input("x", (1, 16, 16), "f32")
    weight, norm, positions = b.parameter("weight", (16, 16), "f32"), b.parameter("norm", (16,), "f32"), b.positions(16)
    for layer in range(layers):
        h = b.norm(x, norm, kind="rms", epsilon=1e-6)
        q, k, v = (b.split_heads(b.project(h, weight), 2) for _ in range(3))
        q, k, v = b.scale(q, 1 + layer / 7000), b.scale(k, 2 + layer / 7000), b.scale(v, 3 + layer / 7000)
        mixed = b.attend(q, k, v, mask=masks.causal, q_positions=positions, kv_positions=positions)
        x = b.add(x, b.project(b.merge_heads(mixed), weight))
    graph = b.build(out=x)
    rg.plan(graph, "cpu:2")
    return len(graph.nodes), time.process_time() - begun


def test_twenty_thousand_ops_are_planned_in_linear_time() -> None:
    """A quadratic planner would take eight times as long for an op as it does with an eighth of them."""
    few, short = planning_seconds(230)
    many, long = planning_seconds(1840)
    assert many > 18_000
    assert long / many < 4 * short / few


if __name__ == "__main__":
    plan_all(int(float(sys.argv[1])), *(sys.argv[2:] or ["cpu:2"]))
