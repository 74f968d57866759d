"""docs/masks.md: the script draws exactly these pictures, and attention does what they show."""

from __future__ import annotations

import inspect
import itertools
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import ropegen as rg

DOCS = Path(__file__).resolve().parent.parent / "docs"
SIZE, TILE, HEADS, SHADES = 32, 8, 4, 16
pytestmark = pytest.mark.usefixtures("quick_compilation")

SVG = "{http://www.w3.org/2000/svg}"

INTRODUCTION, *SECTIONS = re.split(r"^### ", (DOCS / "masks.md").read_text(), flags=re.MULTILINE)
BY_NAME = {re.findall(r"\]\(masks/(.+)\.svg\)", section)[0]: section for section in SECTIONS}


def code_of(text: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    return code


def arguments(section: str) -> dict[str, Any]:
    """The arguments of `rg.attention` that the code of a section sets."""
    names: dict[str, Any] = {}
    exec(code_of(INTRODUCTION) + code_of(section), names)
    return {name: names[name] for name in inspect.signature(rg.attention).parameters if name in names}


def measured(given: dict[str, Any], steep: bool) -> tuple[np.ndarray, np.ndarray]:
    """The weights (heads, queries, keys) and scores of attention; a score is -inf if its key is not seen."""
    queries = len(given["q_positions"]) if "q_positions" in given else SIZE
    slope = 3.0 if steep else 0.0
    q = jnp.stack([slope * jnp.arange(queries), jnp.ones(queries)], -1)[:, None].repeat(HEADS, 1)
    k = jnp.stack([jnp.ones(SIZE), -slope * jnp.arange(SIZE)], -1)[:, None]
    out, lse = rg.attention(q, k, jnp.eye(SIZE)[:, None], scale=1.0, return_lse=True, **given)
    weight = np.asarray(out, np.float64).swapaxes(0, 1)
    lse = np.asarray(lse, np.float64).T[..., None]
    with np.errstate(divide="ignore"):
        score = np.where(lse == -np.inf, -np.inf, np.log(weight) + lse)
    return weight, score


def panels(name: str) -> list[dict[str, np.ndarray]]:
    """The cells of every class, boolean (rows, columns), for every grid of a picture."""
    root = ElementTree.parse(DOCS / "masks" / f"{name}.svg").getroot()
    grids: list[dict[str, np.ndarray]] = []
    for group in root.iter(f"{SVG}g"):
        ground = next(rectangle for rectangle in group.iter(f"{SVG}rect") if rectangle.get("class") == "ground")
        shape = int(ground.get("height", 0)), int(ground.get("width", 0))
        cells: dict[str, np.ndarray] = {}
        for path in group.iter(f"{SVG}path"):
            grid = cells.setdefault(path.get("class", ""), np.zeros(shape, bool))
            for column, row, count in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\d+z", path.get("d", "")):
                grid[int(row), int(column) : int(column) + int(count)] = True
        grids.append(cells)
    return grids


def of_tiles(cells: np.ndarray, reduce: Any) -> np.ndarray:
    rows, columns = (-(-size // TILE) for size in cells.shape)
    return reduce(cells.reshape(rows, TILE, columns, TILE), axis=(1, 3))


def spread(tiles: np.ndarray) -> np.ndarray:
    return np.kron(tiles, np.ones((TILE, TILE), bool))


def shades(cells: dict[str, np.ndarray]) -> np.ndarray:
    """The shades of the cells of a heat map."""
    return sum((int(kind[5:]) * grid for kind, grid in cells.items() if kind.startswith("shade")), np.zeros(()))


def heads_of(name: str) -> int:
    return 2 if name in ("heads", "alibi", "sinks") else 1


MASKS = [name for name in BY_NAME if not any(path.startswith("shade") for shade in panels(name) for path in shade)]
HEAT = [name for name in BY_NAME if name not in MASKS]


def test_the_script_draws_what_is_committed(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(DOCS / "masks.py"), str(tmp_path)], check=True)
    drawn = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    kept = {path.relative_to(DOCS): path.read_bytes() for path in (DOCS / "masks").iterdir()}
    assert drawn == {**kept, Path("masks.md"): (DOCS / "masks.md").read_bytes()}, (
        "python3 docs/masks.py draws them anew"
    )


def test_every_picture_is_on_the_page() -> None:
    assert sorted(BY_NAME) == sorted(path.stem for path in (DOCS / "masks").iterdir())
    assert len(MASKS) == 19
    assert len(HEAT) == 7


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_drawn_as_attention_sees_it(name: str) -> None:
    given = arguments(BY_NAME[name])
    weight, _ = measured(given, steep=False)
    dense = isinstance(given["mask"], np.ndarray)
    skipped = total = 0
    for cells, head in zip(panels(name), range(heads_of(name)), strict=True):
        seen = weight[head] > 0
        np.testing.assert_array_equal(cells["full"] | cells["partial"], seen)
        some, every = of_tiles(seen, np.any), of_tiles(seen, np.all) & (not dense)
        np.testing.assert_array_equal(cells["full"], spread(every))
        np.testing.assert_array_equal(cells["empty"], spread(~some) & (not dense))
        skipped, total = skipped + int(np.sum(~some)) * (not dense), total + some.size
    assert f"Skipped: {skipped} of {total} tiles" in BY_NAME[name]


@pytest.mark.parametrize("name", ["segments", "packed"])
def test_what_a_plan_skips_without_the_ids(name: str) -> None:
    alike = np.zeros(SIZE, np.int32)
    weight, _ = measured({**arguments(BY_NAME[name]), "q_segments": alike, "kv_segments": alike}, steep=False)
    skipped = int(np.sum(~of_tiles(weight[0] > 0, np.any)))
    assert f"from the positions alone a plan skips {skipped}." in BY_NAME[name]


@pytest.mark.parametrize("name", HEAT)
def test_a_heat_map_is_drawn_as_attention_scores(name: str) -> None:
    given = arguments(BY_NAME[name])
    weight, score = measured(given, steep="softcap" in given)
    shows_weights = "sinks" in given or name.startswith("masked-row")
    wanted: list[np.ndarray] = []
    if "softcap" in given:
        wanted.append(3.0 * (np.arange(SIZE)[:, None] - np.arange(SIZE)))  # before the cap
    for head in range(heads_of(name)):
        wanted.append(weight[head] if shows_weights else score[head])
        if "sinks" in given:
            wanted.append(1.0 - weight[head].sum(1, keepdims=True))
    largest = max(np.max(np.abs(values), where=values != -np.inf, initial=0.0) for values in wanted)
    for cells, values in zip(panels(name), wanted, strict=True):
        np.testing.assert_array_equal(cells["empty"], values == -np.inf)
        share = np.where(values == -np.inf, 0.0, values) / largest
        exact = SHADES * np.sign(share) * np.abs(share) ** (0.5 if shows_weights else 1.0)
        # Shades are rounded to the nearest; float32 results may fall on the other side of an edge.
        assert np.max(np.abs(exact - shades(cells))) <= 0.5 + 1e-3


def test_rows_that_see_no_key() -> None:
    for name, value in (("masked-row-zero", 0.0), ("masked-row-mean", 1 / SIZE)):
        weight, _ = measured(arguments(BY_NAME[name]), steep=False)
        np.testing.assert_allclose(weight[:, :8], value)
        np.testing.assert_allclose(weight[:, 8:].sum(-1), 1.0, atol=1e-6)


def test_the_index_has_a_thumbnail_with_a_link_for_every_picture() -> None:
    """The anchors are those that GitHub gives the headings."""
    (table,) = re.findall(r"<table>.*?</table>", INTRODUCTION, flags=re.DOTALL)
    cells = re.findall(
        r'<td><a href="#([^"]*)"><img src="masks/(.+?)\.svg" alt="" width="\d+"><br>([^<]*)</a></td>', table
    )
    assert [name for _, name, _ in cells] == [*BY_NAME]
    for anchor, name, title in cells:
        heading = BY_NAME[name].partition("\n")[0]
        assert title == heading
        assert anchor == "".join(letter for letter in heading.lower() if letter.isalnum() or letter in " -").replace(
            " ", "-"
        )


PIPELINE = ElementTree.parse(DOCS / "pipeline.svg").getroot()


@pytest.mark.parametrize("name", ["pipeline", "gpu"])
def test_a_picture_is_drawn_by_its_script(name: str, tmp_path: Path) -> None:
    script = tmp_path / f"{name}.py"
    script.write_text((DOCS / f"{name}.py").read_text())
    subprocess.run([sys.executable, str(script)], check=True)
    assert (tmp_path / f"{name}.svg").read_text() == (DOCS / f"{name}.svg").read_text()


def test_the_tensor_cores_of_hopper_are_drawn_with_one_warpgroup_at_a_time() -> None:
    """The bars of the third lane are those of both warpgroups, and none lies over another."""
    bars = sorted(
        (float(bar.get("y", 0)), float(bar.get("x", 0)), float(bar.get("width", 0)))
        for bar in ElementTree.parse(DOCS / "gpu.svg").getroot().iter(f"{SVG}rect")
        if bar.get("class") in ("scores", "values", "softmax", "copy")
    )
    lanes: dict[float, list[tuple[float, float]]] = {}
    for y, x, width in bars:
        lanes.setdefault(y, []).append((x, width))
    first, second, tensor_cores, copies = lanes.values()
    assert len(first) == len(second) == 9
    assert len(tensor_cores) == 12
    assert len(copies) == 5
    for lane in lanes.values():
        assert all(x + width <= after for (x, width), (after, _) in itertools.pairwise(lane))


def test_the_pipeline_fits_a_phone_and_knows_dark_pages() -> None:
    """On a screen of 390 pixels with a margin of 16 on both sides, letters have at least 11 pixels."""
    width, height = float(PIPELINE.get("width", 0)), float(PIPELINE.get("height", 0))
    style = next(PIPELINE.iter(f"{SVG}style")).text or ""
    assert "prefers-color-scheme:dark" in style
    light = style.partition("@media")[0]
    sizes = {name: float(size) for name, size in re.findall(r"([.\w]+)\{[^}]*font-size:(\d+)px", light)}
    assert sizes.keys() == {"text", ".title", ".beside", ".step"}
    assert min(sizes.values()) * min(1.0, (390 - 32) / width) >= 11
    boxes = [
        [float(part.get(name, 0)) for name in ("x", "y", "width", "height")]
        for part in PIPELINE.iter(f"{SVG}rect")
        if part.get("class") != "paper"
    ]
    assert len(boxes) == 5
    for text in PIPELINE.iter(f"{SVG}text"):
        size = 0.52 * sizes[f".{text.get('class')}" if text.get("class") else "text"] * len(text.text or "")
        x, y = float(text.get("x", 0)), float(text.get("y", 0))
        left = x if text.get("class") in ("beside", "step") else x - size / 2
        assert left >= 0
        assert left + size <= width, text.text
        assert y <= height
        for box_left, top, box_width, box_height in boxes:
            inside = top <= y <= top + box_height and box_left <= left and left + size <= box_left + box_width
            outside = y - 12 > top + box_height or y < top or left > box_left + box_width or left + size < box_left
            assert inside or outside, text.text
