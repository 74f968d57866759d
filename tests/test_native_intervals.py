"""What a native kernel decides about a tile at run time, against all points of the tile and against `classify_tiles`."""

from __future__ import annotations

import ctypes
import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_mask_pages import BY_NAME, arguments
from test_masks import built, mask_programs

from ropegen import masks
from ropegen.errors import RopegenError
from ropegen.masks import (
    EMPTY,
    FULL,
    INT_MAX,
    INT_MIN,
    NAMES,
    PARTIAL,
    Apply,
    Expr,
    Table,
    apply,
    classify,
    evaluate,
    parse,
)
from ropegen.target import VECTOR_UNITS

pytest.importorskip("llvmlite", reason="native code needs llvmlite: pip install '.[native]'")

from ropegen.native import machine
from ropegen.native.intervals import shown
from ropegen.native.ir import I1, I8, I64, POINTER, Module, Type, Value

Box: TypeAlias = Mapping[str, tuple[int, int]]
Classes: TypeAlias = Callable[[Sequence[Box]], np.ndarray[Any, Any]]
ENDS = [(name, end) for name in NAMES for end in (0, 1)]

WRITTEN = (
    "(kv_pos <= q_pos) & (q_pos - kv_pos < 4)",
    "(kv_pos <= q_pos) & ((head < 2) | (q_pos - kv_pos < [3, 9, 4, 40][head]))",
    "abs(q_pos - kv_pos) % (head + 1) == 0",
    "100 // (q_pos - 5) < 100 % (q_pos + 2)",
    "q_pos // -7 * kv_pos > (q_pos - 30) % -64",
    "[1, 0, 0, 1, 1, 0, 0, 1, 1][q_pos // 2 * 3 + kv_pos // 2] == 1",
    "[True, False, False, True, True][kv_pos // 8 - 1]",
    "where(q_pos < 20, kv_pos < 3, kv_pos < batch)",
    "(q_pos < 5) == (kv_pos < 5)",
    "(q_pos < 5) != (kv_pos < 5)",
    "q_pos + 1 > 0",
    "q_pos * -3 > kv_pos - 40",
    "-6 * kv_pos < q_pos - 99",
    "q_pos // -3 + kv_pos // 2 > 0",
    "q_pos // -1 < 0",
    "q_pos % -4 > -4",
    "min(q_pos, -kv_pos) * max(kv_pos, 2) != where(q_segment == kv_segment, -3, head)",
    "~(q_pos * q_pos > 50)",
    "q_pos // 1 < kv_pos",
    "(q_segment == kv_segment) & (kv_pos <= q_pos)",
    "q_pos // 16 % 4 == kv_pos % 4",
    "(kv_pos % 2 == 0) & (kv_pos < q_pos)",
)


def gallery() -> dict[str, Expr]:
    """The masks of docs/masks.md that are expressions, and written ones with every operation on integers."""
    pages = {name: arguments(section).get("mask") for name, section in BY_NAME.items()}
    shapes = {name: masks.as_mask(given) for name, given in pages.items() if given is not None and not _is_array(given)}
    return shapes | {text: parse(text) for text in WRITTEN}


def _is_array(given: object) -> bool:
    return hasattr(given, "shape")


def compiled(exprs: Sequence[Expr], known: Collection[str] = NAMES, wide: Collection[str] = ()) -> Classes:
    """A function of some boxes: the class of every box under every mask, int8 (boxes, masks).

    The machine code gets the ranges of the names in `known`, and nothing about the others.
    """
    unit = machine.host_unit()
    if unit is None:
        pytest.skip("this CPU has none of the vector units that ropegen writes code for; run it with AVX2 or NEON")
    f = Module().function("decide", None, [("boxes", POINTER), ("answers", POINTER), ("count", I64)])
    boxes, answers = f.parameters["boxes"], f.parameters["answers"]
    with f.range(0, f.parameters["count"]) as box:
        ends = {at: f.load(I64, boxes, box * len(ENDS) + place) for place, at in enumerate(ENDS)}
        ranges = {name: (ends[name, 0], ends[name, 1]) for name in known}
        for place, expr in enumerate(exprs):
            for offset, answer in enumerate(shown(f, expr, ranges, wide)):
                f.store(f.convert(answer, I8), answers, (box * len(exprs) + place) * 2 + offset)
    f.give_back()
    address = machine.load(machine.object_code(str(f.module), unit), f.name)
    decide = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(address)

    def classes(given: Sequence[Box]) -> np.ndarray[Any, Any]:
        numbers = np.array([[box[name][end] for name, end in ENDS] for box in given], np.int64)
        result = np.full((len(given), len(exprs), 2), -1, np.int8)
        decide(numbers.ctypes.data, result.ctypes.data, len(given))
        assert set(np.unique(result)) <= {0, 1}
        may, every = result[..., 0], result[..., 1]
        assert not (every & ~may).any()  # what shows every score shows one
        return may + every

    return classes


def points_of(expr: Expr, box: Box, wide: Collection[str] = ()) -> np.ndarray[Any, Any]:
    """The values of a mask at all points of a box."""
    names = sorted(masks.variables(expr))
    axes = [np.arange(box[n][1] - box[n][0] + 1, dtype=np.int64) + box[n][0] for n in names]
    grid = np.meshgrid(*axes, indexing="ij", sparse=True)
    kinds = [np.int64 if name in wide else np.int32 for name in names]
    given: dict[str, Any] = {name: axis.astype(kind) for name, axis, kind in zip(names, grid, kinds, strict=True)}
    return np.asarray(evaluate(expr, np, wide=wide, **given))


def assert_sound(expr: Expr, box: Box, kind: int, wide: Collection[str] = ()) -> None:
    points = points_of(expr, box, wide)
    assert kind != EMPTY or not points.any(), (str(expr), box)
    assert kind != FULL or points.all(), (str(expr), box)


def class_of(expr: Expr, box: Box) -> int:
    return ("empty", "partial", "full").index(classify(expr, **box))


def reads_floats(expr: Expr) -> bool:
    match expr:
        case Apply(args=args):
            return expr.kind == "float" or any(map(reads_floats, args))
        case Table(index=index):
            return expr.kind == "float" or reads_floats(index)
        case _:
            return expr.kind == "float"


def span(low: st.SearchStrategy[int], longest: int, highest: int = INT_MAX) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(low, st.integers(0, longest)).map(lambda drawn: (drawn[0], min(drawn[0] + drawn[1], highest)))


edges = st.integers(-4, 40) | st.integers(INT_MAX - 9, INT_MAX) | st.integers(INT_MIN, INT_MIN + 3)
boxes = st.fixed_dictionaries(
    {"q_pos": span(edges, 5), "kv_pos": span(edges, 5), "q_segment": span(edges, 2), "kv_segment": span(edges, 2)}
    | {name: span(st.integers(0, 5), 2) for name in ("head", "batch")}
)


def written_boxes(count: int) -> list[Box]:
    """Boxes of positions from 0 to about 50, some of one point, and some boxes at the ends of int32."""
    random = np.random.default_rng(0)
    sizes = {
        "q_pos": (40, 9),
        "kv_pos": (40, 9),
        "q_segment": (4, 3),
        "kv_segment": (4, 3),
        "head": (4, 3),
        "batch": (4, 3),
    }
    drawn: list[Box] = []
    for _ in range(count):
        lows = {name: int(random.integers(start)) for name, (start, _) in sizes.items()}
        drawn.append({name: (low, low + int(random.integers(sizes[name][1]))) for name, low in lows.items()})
    extremes = [(INT_MIN, INT_MIN), (INT_MIN, INT_MIN + 2), (INT_MAX - 2, INT_MAX), (INT_MAX, INT_MAX)]
    drawn += [{**drawn[0], "q_pos": q_pos, "kv_pos": kv_pos} for q_pos in extremes for kv_pos in ((3, 5), extremes[2])]
    return drawn


def test_masks_of_the_gallery_have_the_class_that_the_planner_gives_a_tile() -> None:
    exprs = gallery()
    assert len(exprs) > len(WRITTEN) + 10
    drawn = written_boxes(40)
    classes = compiled(list(exprs.values()))(drawn)
    kinds: dict[str, set[int]] = {}
    for place, (name, expr) in enumerate(exprs.items()):
        for box, kind in zip(drawn, classes[:, place], strict=True):
            assert kind == class_of(expr, box), (name, box)
            assert_sound(expr, box, kind)
        kinds[name] = set(classes[:, place].tolist())
    # Most masks decide some tiles either way.
    assert sum(kind == {EMPTY, PARTIAL, FULL} for kind in kinds.values()) > len(kinds) // 2


@settings(deadline=None, max_examples=60)
@given(mask_programs, st.lists(boxes, min_size=1, max_size=6), st.sets(st.sampled_from(NAMES)))
def test_drawn_masks_are_decided_soundly_and_as_sharply_as_the_planner_does(
    program: Any, drawn: list[Box], unknown: set[str]
) -> None:
    expr = built(program)
    known = set(NAMES) - unknown
    for box, (kind,) in zip(drawn, compiled([expr], known)(drawn), strict=True):
        assert_sound(expr, box, kind)
        planned = class_of(expr, {name: box[name] for name in known})
        assert kind == planned or planned == PARTIAL or reads_floats(expr), (str(expr), box)


@settings(deadline=None, max_examples=60)
@given(mask_programs, boxes, st.sets(st.sampled_from(NAMES)))
def test_ranges_that_are_constant_are_decided_before_the_kernel_runs(program: Any, box: Box, unknown: set[str]) -> None:
    expr = built(program)
    f = Module().function("decide", None, [])
    known = {name: box[name] for name in NAMES if name not in unknown}
    may, every = shown(f, expr, {name: (f.i64(low), f.i64(high)) for name, (low, high) in known.items()})
    assert isinstance(may.constant, bool)
    assert isinstance(every.constant, bool)
    assert may.constant + every.constant == class_of(expr, known)
    assert "=" not in str(f)  # no instruction is left


SEGMENTS = ("q_segment", "kv_segment")
far = st.sampled_from([-(2**63), -(2**40), -(2**31) - 2, -3, 0, 2**31 - 2, 2**32 + 5, 2**62, 2**63 - 6])
ids = span(far, 4, 2**63 - 1) | st.just((7, 7))
wide_boxes = st.tuples(boxes, ids, ids).map(lambda drawn: drawn[0] | {"q_segment": drawn[1], "kv_segment": drawn[2]})
WIDE = (
    "q_segment == kv_segment",
    "q_segment != kv_segment",
    "kv_segment <= 2147483647",
    "kv_segment // 1073741824 % 3 > 0",
    "[True, False, True][kv_segment - 7]",
    "abs(q_segment) >= -kv_segment",
    "q_segment * kv_segment > q_segment + kv_segment",
    "q_segment - kv_segment < 4",
    "q_segment // -1 < 0",
    "q_segment % (head + 1) == 0",
    "q_segment // 7 < kv_segment // 64",
    "kv_segment % 10 < 7",
    "min(q_segment, q_pos) < max(kv_segment, 3)",
    "where(kv_segment > 0, q_pos, kv_segment) + q_pos > 0",
)


@pytest.fixture(scope="module")
def classes_of_wide_ids() -> Classes:
    return compiled(list(map(parse, WIDE)), wide=SEGMENTS)


@settings(deadline=None, max_examples=25)
@given(st.lists(wide_boxes, min_size=8, max_size=8))
def test_ids_of_64_bits_count_with_all_their_bits(classes_of_wide_ids: Classes, drawn: list[Box]) -> None:
    exprs = list(map(parse, WIDE))
    for box, kinds in zip(drawn, classes_of_wide_ids(drawn), strict=True):
        for expr, kind in zip(exprs, kinds, strict=True):
            assert_sound(expr, box, kind, SEGMENTS)


SHARP: list[tuple[str, Box, int]] = [
    ("q_segment == kv_segment", {"q_segment": (2**40, 2**40), "kv_segment": (2**40, 2**40)}, FULL),
    ("q_segment == kv_segment", {"q_segment": (5, 9), "kv_segment": (2**32 + 5, 2**32 + 9)}, EMPTY),
    ("kv_segment <= 2147483647", {"kv_segment": (2**31, 2**31)}, EMPTY),
    ("q_segment + kv_segment > 0", {"q_segment": (2**62, 2**62), "kv_segment": (2**62 - 1, 2**62 - 1)}, FULL),
    ("q_segment + kv_segment > 0", {"q_segment": (2**62, 2**62), "kv_segment": (2**62 - 1, 2**62)}, PARTIAL),
    ("q_segment * 4 < 0", {"q_segment": (-(2**61), -1)}, FULL),
    ("q_segment * 4 < 0", {"q_segment": (-(2**61) - 1, -1)}, PARTIAL),
    ("kv_segment // 1073741824 == 4", {"kv_segment": (2**32, 2**32 + 2**30 - 1)}, FULL),
    ("kv_segment % 10 < 7", {"kv_segment": (2**50 // 10 * 10, 2**50 // 10 * 10 + 6)}, FULL),
]


def test_arithmetic_of_64_bits_is_sharp_until_it_wraps() -> None:
    texts = [text for text, _, _ in SHARP]
    classes = compiled(list(map(parse, texts)), wide=SEGMENTS)
    decided = classes([{**dict.fromkeys(NAMES, (0, 0)), **box} for _, box, _ in SHARP])
    assert np.diag(decided).tolist() == [kind for _, _, kind in SHARP]


def test_a_table_gives_the_extremes_of_its_range() -> None:
    """Every range of indices, also beyond both ends, and with the highest index before the lowest."""
    values = [5, 1, 7, 3, 2, 2, 9]
    entry = masks.table(values, masks.Var("q_pos")).expr
    bounds, ranges = range(11), [(low, high) for low in range(-2, 9) for high in range(-2, 9)]
    classes = compiled([apply("<", entry, bound) for bound in bounds], ["q_pos"])
    decided = classes([dict.fromkeys(NAMES, (0, 0)) | {"q_pos": pair} for pair in ranges])
    for (low, high), kinds in zip(ranges, decided, strict=True):
        inside = [values[min(max(place, 0), 6)] for place in range(low, max(low, high) + 1)]
        assert kinds.tolist() == [(min(inside) < bound) + (max(inside) < bound) for bound in bounds]


@pytest.mark.parametrize("unit", VECTOR_UNITS)
def test_a_decision_has_no_calls_and_no_loops(unit: str) -> None:
    """Neither of the code itself, nor of the division and multiplication that LLVM may leave to a library."""
    f = Module().function("decide", I1, [(f"{name}{end}", I64) for name, end in ENDS])
    ranges = {name: (f.parameters[f"{name}0"], f.parameters[f"{name}1"]) for name in NAMES}
    answers: list[Value] = []
    for texts, wide in ((WRITTEN, ()), (WIDE, SEGMENTS)):
        for text in texts:
            answers += shown(f, parse(text), ranges, wide)
    f.give_back(functools.reduce(Value.__xor__, answers))
    assert " br " not in str(f)
    written = machine.assembly(str(f.module), VECTOR_UNITS[unit])
    instructions = re.findall(r"^\t([a-z]\w*)", written, flags=re.MULTILINE)
    assert len(instructions) > 500
    assert not {"call", "callq", "bl", "blr"} & set(instructions)


@pytest.mark.parametrize(
    ("text", "ranges", "says"),
    [
        ("q_pos - kv_pos", {}, "only a mask"),
        ("kv_pos <= q_pos", {"kv_pos": I8}, "kv_pos as i8, i8"),
        ("kv_pos <= q_pos", {"score": I64}, "got score"),
    ],
)
def test_what_is_no_mask_or_no_range_is_refused(text: str, ranges: dict[str, Type], says: str) -> None:
    f = Module().function("decide", None, [])
    with pytest.raises(RopegenError, match=says):
        shown(f, parse(text), {name: (f.zero(kind), f.zero(kind)) for name, kind in ranges.items()})
