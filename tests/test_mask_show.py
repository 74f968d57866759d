"""`masks.show`: the cells and tiles of a picture against the mask computed in NumPy."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import ropegen as rg
from ropegen import masks
from ropegen.mask_pictures import STYLE

SVG = "{http://www.w3.org/2000/svg}"
Q, K = np.arange(40)[:, None], np.arange(50)[None, :]
DOC = np.repeat([0, 1, 2, 3], [8, 14, 10, 18])
DENSE = np.random.default_rng(0).random((2, 3, 40, 50)) < 0.5


def cells(picture: masks.Picture) -> tuple[dict[str, np.ndarray], tuple[int, int]]:
    """The cells of every class of the only panel, and its rows and columns."""
    root = ElementTree.fromstring(picture.svg)
    (group,) = root.iter(f"{SVG}g")
    ground = next(part for part in group.iter(f"{SVG}rect") if part.get("class") == "ground")
    shape = int(ground.get("height", 0)), int(ground.get("width", 0))
    found: dict[str, np.ndarray] = {}
    for path in group.iter(f"{SVG}path"):
        grid = found.setdefault(path.get("class", ""), np.zeros(shape, bool))
        for column, row, count in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", path.get("d", "")):
            grid[int(row), int(column) : int(column) + int(count)] = True
    return found, shape


GIVEN: dict[str, tuple[Any, dict[str, Any], np.ndarray]] = {
    "causal": (masks.causal, {}, K <= Q),
    "a window": (masks.causal & masks.window(6), {}, (K <= Q) & (Q - K < 6)),
    "a function": (lambda q_pos, kv_pos: (q_pos - kv_pos) % 3 == 0, {}, (Q - K) % 3 == 0),
    "positions": (masks.causal, {"q_positions": np.arange(7, 47)}, K <= Q + 7),
    "segments": (masks.segments, {"q_segments": DOC[:40], "kv_segments": DOC}, DOC[:40][:, None] == DOC),
    "a head": (lambda q_pos, kv_pos, head: kv_pos <= q_pos - head, {"head": 3}, K <= Q - 3),
    "an array": (DENSE[0, 0], {}, DENSE[0, 0]),
    "an array of heads": (jnp.asarray(DENSE), {"head": 2, "batch": 1}, DENSE[1, 2]),
    "an array and an expression": (masks.causal & DENSE, {"head": 1}, (K <= Q) & DENSE[0, 1]),
    "lengths": (masks.causal & masks.padding(np.array([3, 21])), {"batch": 1}, (K <= Q) & (K < 21)),
    "an indexed array": (lambda q_pos, kv_pos: DOC[q_pos] == DOC[kv_pos], {}, DOC[:40][:, None] == DOC),
    "everything": (True, {}, (K >= 0) & (Q >= 0)),
}


@pytest.mark.parametrize("name", GIVEN)
def test_every_key_that_is_seen_is_drawn(name: str) -> None:
    mask, given, wanted = GIVEN[name]
    found, shape = cells(masks.show(mask, 40, 50, **given))
    assert shape == (40, 50)
    np.testing.assert_array_equal(found["full"] | found["partial"], wanted)
    assert not (found["empty"] & wanted).any()
    for row in range(0, 40, 8):
        for column in range(0, 50, 8):
            tile = np.s_[row : row + 8, column : column + 8]
            assert not found["full"][tile].any() or wanted[tile].all()
            assert found["empty"][tile].all() or not found["empty"][tile].any()


def test_tiles_of_two_sizes_are_classified_as_by_hand() -> None:
    found, _ = cells(masks.show(masks.causal, 40, 50, tile=(10, 7)))
    for row in range(0, 40, 10):
        for column in range(0, 50, 7):
            tile = np.s_[row : row + 10, column : column + 7]
            seen = (K <= Q)[tile]
            assert found["empty"][tile].all() == (not seen.any())
            assert found["full"][tile].all() == seen.all()


def test_long_sequences_show_their_tiles() -> None:
    shown = masks.show(masks.causal, 1 << 20, tile=512)
    found, shape = cells(shown)
    assert shape == (64, 64)
    rows, columns = np.indices(shape)
    np.testing.assert_array_equal(found["full"], columns < rows)
    np.testing.assert_array_equal(found["partial"], columns == rows)
    np.testing.assert_array_equal(found["empty"], columns > rows)
    assert "16,384 x 16,384 scores" in shown.svg
    assert len(shown.svg) < 100_000


def test_the_picture_is_shown_by_notebooks_and_saved(tmp_path: Path) -> None:
    shown = rg.masks.show(rg.masks.causal)
    assert shown._repr_svg_() == shown.svg
    shown.save(tmp_path / "mask.svg")
    assert (tmp_path / "mask.svg").read_text() == shown.svg
    with pytest.raises(rg.RopegenError, match="cannot write"):
        shown.save(tmp_path / "nowhere" / "mask.svg")


@pytest.mark.parametrize("length", [1, 7, 32, 64, 128, 129, 5000])
def test_nothing_is_cut_and_no_words_overlap(length: int) -> None:
    root = ElementTree.fromstring(masks.show(masks.causal & masks.window(9), length, max(1, length // 2)).svg)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    boxes: list[tuple[float, float, float, float]] = []
    for text in root.iter(f"{SVG}text"):
        if text.get("transform"):
            continue
        size = (11 if "tick" in text.get("class", "") else 12.5) * 0.6 * len(text.text or "")
        x, y = float(text.get("x", 0)), float(text.get("y", 0))
        anchor = {"tick row": 1.0, "tick": 0.5, "axis": 0.5}.get(text.get("class", ""), 0.0)
        boxes.append((x - anchor * size, y - 9, x - anchor * size + size, y + 2))
    for left, top, right, bottom in boxes:
        assert left >= 0
        assert right <= width
        assert top >= 0
        assert bottom <= height
    for index, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[index + 1 :]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_skipped_tiles_differ_from_hidden_keys() -> None:
    """WCAG asks for a contrast of 3 between parts of a picture; skipped tiles have a cross in addition."""
    fill = dict(re.findall(r"\.(\w+)\{fill:(#\w{6})", STYLE.replace("#fff}", "#ffffff}")))
    assert contrast(fill["empty"], fill["ground"]) >= 3
    assert contrast(fill["partial"], fill["ground"]) >= 3
    assert contrast(fill["full"], fill["partial"]) >= 3
    found, _ = cells(masks.show(masks.causal))
    assert "cross" in found
    assert masks.show(masks.causal).svg.count("l8 8") == 6  # a cross over each of the 6 tiles that are skipped


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: masks.show("causal"), "mask must be"),  # type: ignore[arg-type]
        (lambda: masks.show(masks.causal, 0), "queries is 0"),
        (lambda: masks.show(masks.causal, 8, 2.5), "keys is 2.5"),  # type: ignore[arg-type]
        (lambda: masks.show(masks.causal, tile=(8, 0)), "tile is 0"),
        (lambda: masks.show(masks.causal, head=-1), "head is -1"),
        (lambda: masks.show(masks.segments), "give q_segments"),
        (lambda: masks.show(masks.causal, 8, q_positions=np.arange(7)), "q_positions are"),
        (lambda: masks.show(masks.causal, 8, q_positions=np.zeros(8)), "q_positions are float64"),
        (lambda: masks.show(DENSE[0, 0]), "queries=40, keys=50"),
        (lambda: masks.show(DENSE, 40, 50, head=3), "head is 3, and the mask has 3"),
    ],
)
def test_what_cannot_be_shown_is_refused(call: Any, said: str) -> None:
    with pytest.raises(rg.RopegenError, match=re.escape(said)):
        call()
