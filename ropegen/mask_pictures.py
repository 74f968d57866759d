"""Masks as pictures: which keys a query sees, and which tiles of scores a kernel skips. `ropegen.masks.show` draws one.

A picture has panels. A panel of a short sequence shows every score as a cell; one of a long sequence shows the tiles
alone. The parts of a picture are in units of a cell, and a group scales them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ropegen import masks
from ropegen.errors import RopegenError
from ropegen.expression import Captured, Expr, Later, MaskLike, Shown, as_mask, excerpt, leaves, variables
from ropegen.tile_classes import TileClasses, classes_of

BoolArray = npt.NDArray[np.bool_]
Classes = npt.NDArray[np.int8]

# The room of a picture, in pixels: left of the first panel, above and between panels, the longer side of a panel, and the
# width of the legend.
LEFT, TOP, BETWEEN, SIDE, LEGEND = 46, 44, 34, 224, 192
# A panel with at most so many cells on an axis shows every score, and a map of tiles has at most so many cells.
_MOST_CELLS, _MOST_TILES = 128, 64
_TICKS = 4

# Skipped tiles are grey and crossed out, so that nobody takes them for the white cells that a mask hides in other tiles.
STYLE = (
    ".ropegen-mask text{fill:#222;font-size:12.5px}.ropegen-mask .axis,.ropegen-mask .tick{text-anchor:middle;fill:#444}"
    ".ropegen-mask .tick{font-size:11px}.ropegen-mask .row{text-anchor:end}.ropegen-mask .count{font-weight:bold}"
    ".ropegen-mask .what{fill:#444}.ropegen-mask .paper{fill:#f6f8fb}.ropegen-mask .ground{fill:#fff}"
    ".ropegen-mask .full{fill:#0f2f57}.ropegen-mask .partial{fill:#2f7fd1}.ropegen-mask .empty{fill:#8b949e}"
    ".ropegen-mask .cross{stroke:#3d444d;stroke-width:.22;fill:none}"
    ".ropegen-mask .cells{stroke:#fff;stroke-width:.08;stroke-opacity:.7;fill:none}"
    ".ropegen-mask .tiles{stroke:#222;stroke-width:.14;stroke-opacity:.75;fill:none}"
    ".ropegen-mask .frame{stroke:#222;stroke-width:1;vector-effect:non-scaling-stroke}"
    ".ropegen-mask .open{fill:none}"
)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that a notebook shows; `svg` is its text, and `save` writes it."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> None:
        """Writes the picture to an SVG file.

        Raises:
          RopegenError: the file cannot be written.
        """
        try:
            Path(path).write_text(self.svg, encoding="utf-8")
        except OSError as error:
            raise RopegenError(f"cannot write {path}: {error.strerror or error}; give another file") from error


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One head: the classes of its tiles, and which keys its queries see."""

    title: str
    classes: Classes
    """(rows of tiles, columns of tiles)"""
    tile: tuple[int, int]
    """Queries and keys of a tile."""
    visible: BoolArray | None = None
    """(queries, keys); None if the panel shows the tiles alone."""

    @property
    def shape(self) -> tuple[int, int]:
        """The rows and columns of its cells."""
        rows, columns = self.classes.shape if self.visible is None else self.visible.shape
        return rows, columns

    @property
    def parts(self) -> list[str]:
        """Its cells: skipped tiles, then the keys that are seen."""
        if self.visible is None:
            return class_parts(self.classes)
        full = self._whole(masks.FULL)
        return [
            f'<path class="empty" d="{outlines(self._whole(masks.EMPTY))}"/>',
            f'<path class="cross" d="{crosses(self.classes == masks.EMPTY, self.tile, self.shape)}"/>',
            f'<path class="partial" d="{outlines(self.visible & ~full)}"/>',
            f'<path class="full" d="{outlines(self.visible & full)}"/>',
        ]

    def _whole(self, kind: int) -> BoolArray:
        return np.kron(self.classes == kind, np.ones(self.tile, bool))[: self.shape[0], : self.shape[1]]


def picture_of(
    mask: MaskLike,
    queries: int,
    keys: int | None,
    tile: int | tuple[int, int],
    head: int,
    batch: int,
    given: Mapping[str, Any],
) -> Picture:
    """The picture of one head of a mask; `masks.show` says what the arguments are."""
    keys = queries if keys is None else keys
    sizes = tile if isinstance(tile, tuple) and len(tile) == 2 else (tile, tile)
    for what, size in (("queries", queries), ("keys", keys), *(("tile", size) for size in sizes)):
        _expect_whole(what, size, 1)
    for what, index in (("head", head), ("batch", batch)):
        _expect_whole(what, index, 0)
    expr = as_mask(mask)
    places = _places(expr, queries, keys, head, batch, given)
    plain, holding = masks.cut(expr)
    classes = _classes(plain, places, sizes)
    if holding:  # a value of the caller may hide any key
        classes = classes.masked
    title = f"head {head}" if "head" in variables(expr) else ""
    if max(queries, keys) <= _MOST_CELLS:
        panel = Panel(title, classes.dense(), sizes, _visible(expr, places, head, batch))
    else:
        cells, down, across = classes.reduced(_MOST_TILES)
        panel = Panel(title, cells, (down * sizes[0], across * sizes[1]))
    first_query, first_key = (int(places[name].ravel()[0]) for name in ("q_pos", "kv_pos"))
    return Picture(picture(excerpt(expr), [panel], first_query, first_key))


def _expect_whole(what: str, given: object, least: int) -> None:
    if not isinstance(given, int | np.integer) or isinstance(given, bool) or not least <= given < 1 << 31:
        raise RopegenError(f"masks.show: {what} is {given!r:.40}; give a whole number from {least} on")


def _places(expr: Expr, queries: int, keys: int, head: int, batch: int, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the names over the grid of queries and keys."""
    places: dict[str, Any] = {"head": np.int32(head), "batch": np.int32(batch)}
    for side, length in (("q", queries), ("kv", keys)):
        for name, argument in ((f"{side}_pos", f"{side}_positions"), (f"{side}_segment", f"{side}_segments")):
            values = given.get(argument)
            if values is None:
                if name.endswith("segment"):
                    if name in variables(expr):
                        raise RopegenError(f"masks.show: the mask reads {name}; give {argument}, integers ({length},)")
                    continue
                values = np.arange(length, dtype=np.int32)
            values = np.asarray(values)
            if values.shape != (length,) or not np.issubdtype(values.dtype, np.integer):
                raise RopegenError(
                    f"masks.show: {argument} are {values.dtype.name}{list(values.shape)}; give integers ({length},)"
                )
            places[name] = values[:, None] if side == "q" else values[None, :]
    return places


def _classes(expr: Expr, places: Mapping[str, Any], sizes: tuple[int, int]) -> TileClasses:
    def ranges(name: str, size: int) -> npt.NDArray[np.int64]:
        values = places[name].ravel().astype(np.int64)
        starts = np.arange(0, values.size, size)
        return np.stack([np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)], -1)

    segments = {
        name: ranges(name, size)
        for name, size in zip(("q_segment", "kv_segment"), sizes, strict=True)
        if name in places
    }
    head, batch = (int(places[name]) for name in ("head", "batch"))
    q, kv = ranges("q_pos", sizes[0]), ranges("kv_pos", sizes[1])
    return classes_of(expr, q, kv, head=(head, head), batch=(batch, batch), **segments)


def _visible(expr: Expr, places: Mapping[str, Any], head: int, batch: int) -> BoolArray:
    """The keys that the queries see, (queries, keys). Arrays of the caller are those of one head and batch entry."""
    shape = places["q_pos"].size, places["kv_pos"].size
    known: dict[Expr, Any] = {}
    for leaf in leaves(expr):
        if isinstance(leaf, Shown):
            known[leaf] = _entry(np.asarray(leaf.held.value), shape, head, batch)
        elif isinstance(leaf, Later):
            called = leaf.held.value(**{name: places[name] for name in leaf.names})
            known[leaf] = _entry(np.asarray(called), shape, head, batch)
        elif not isinstance(leaf, Captured):
            raise RopegenError(f"masks.show: a mask cannot read `{leaf}`; only a score can")
    wide = [name for name, value in places.items() if value.dtype == np.int64]
    return np.broadcast_to(masks.evaluate(expr, np, known=known, wide=wide, **places), shape)


def _entry(array: npt.NDArray[Any], shape: tuple[int, int], head: int, batch: int) -> npt.NDArray[Any]:
    """The queries and keys of one head and batch entry of an array that broadcasts to (..., heads, queries, keys)."""
    if array.ndim > 2:
        lead = array.reshape(-1, *array.shape[-3:]) if array.ndim > 3 else array[None]
        for what, index, size in (("batch", batch, lead.shape[0]), ("head", head, lead.shape[1])):
            if size > 1 and index >= size:
                raise RopegenError(f"masks.show: {what} is {index}, and the mask has {size}; give one below it")
        array = lead[min(batch, lead.shape[0] - 1), min(head, lead.shape[1] - 1)]
    try:
        return np.broadcast_to(array, shape)
    except ValueError as error:
        raise RopegenError(
            f"masks.show: the mask is an array {list(array.shape)}, and the picture has {shape[0]} queries and {shape[1]} "
            f"keys; give queries={array.shape[-2] if array.ndim > 1 else shape[0]}, keys={array.shape[-1]}"
        ) from error


# SVG ------------------------------------------------------------------------------------------------------------------


def outlines(cells: BoolArray) -> str:
    """The true cells as a path in units of a cell, with one box per run of cells in a row."""
    boxes: list[str] = []
    for row, line in enumerate(cells):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], line, [False]]).astype(np.int8)))
        boxes += [f"M{a} {row}h{b - a}v1h-{b - a}z" for a, b in edges.reshape(-1, 2)]
    return "".join(boxes)


def crosses(tiles: BoolArray, tile: tuple[int, int], shape: tuple[int, int]) -> str:
    """A cross over every true tile, as a path in units of a cell; the last tiles end at `shape`."""
    lines: list[str] = []
    for row, column in np.argwhere(tiles).tolist():
        top, left = row * tile[0], column * tile[1]
        down, across = min(tile[0], shape[0] - top), min(tile[1], shape[1] - left)
        lines.append(f"M{left} {top}l{across} {down}M{left + across} {top}l-{across} {down}")
    return "".join(lines)


def class_parts(classes: Classes) -> list[str]:
    """The tiles of a map as paths, where a cell is a tile."""
    return [
        f'<path class="empty" d="{outlines(classes == masks.EMPTY)}"/>',
        f'<path class="cross" d="{crosses(classes == masks.EMPTY, (1, 1), classes.shape)}"/>',
        f'<path class="partial" d="{outlines(classes == masks.PARTIAL)}"/>',
        f'<path class="full" d="{outlines(classes == masks.FULL)}"/>',
    ]


def cell_of(shapes: Sequence[tuple[int, int]]) -> float:
    """The pixels of a cell, so that the longest side of all panels has `SIDE` pixels."""
    return SIDE / max(size for shape in shapes for size in shape)


def picture(title: str, panels: Sequence[Panel], first_query: int = 0, first_key: int = 0) -> str:
    """The SVG of masks side by side, with the numbers of queries and keys, and a legend that counts the tiles."""
    cell = cell_of([panel.shape for panel in panels])
    first = panels[0]
    height = TOP + max(first.shape[0] * cell, 4 * 48) + 24
    each = (1, 1) if first.visible is not None else first.tile
    drawn = row_axis(first.shape[0], cell, first.tile[0] // each[0], each[0], first_query)
    x: float = LEFT
    for panel in panels:
        drawn += framed(panel, x, cell, each, first_key)
        x += panel.shape[1] * cell + BETWEEN
    drawn += _legend(panels, x)
    return document(title, x + LEGEND, height, drawn)


def framed(panel: Panel, x: float, cell: float, each: tuple[int, int], first: int) -> list[str]:
    """A panel with the lines of its cells and tiles, and the numbers of its keys. A cell is `each` queries and keys."""
    tile = panel.tile[0] // each[0], panel.tile[1] // each[1]
    name = f"keys, {panel.title}" if panel.title else "keys"
    return frame(
        panel.parts,
        panel.shape,
        x,
        cell,
        tile,
        name,
        [str(tick) for tick in ticks(panel.shape[1], tile[1], each[1], first)],
    )


def frame(
    parts: Sequence[str],
    shape: tuple[int, int],
    x: float,
    cell: float,
    tile: tuple[int, int],
    title: str,
    numbers: Sequence[str],
) -> list[str]:
    """Cells with lines between them and around tiles, a title above, and numbers over the first columns of tiles."""
    rows, columns = shape

    def lines(down: int, across: int) -> str:
        return "".join(f"M0 {row}h{columns}" for row in range(down, rows, down)) + "".join(
            f"M{column} 0v{rows}" for column in range(across, columns, across)
        )

    step = _step(columns, tile[1])
    made = [
        f'<g transform="translate({x:g} {TOP}) scale({cell:g})">',
        f'<rect class="ground" width="{columns}" height="{rows}"/>',
        *parts,
        *([f'<path class="cells" d="{lines(1, 1)}"/>'] if cell >= 4 else []),
        *([f'<path class="tiles" d="{lines(*tile)}"/>'] if cell * min(tile) >= 6 else []),
        f'<rect class="frame open" width="{columns}" height="{rows}"/>',
        "</g>",
        f'<text class="axis" x="{x + columns * cell / 2:g}" y="{TOP - 24}">{escape(title)}</text>',
    ]
    for index, number in enumerate(numbers):
        middle = min(step * index + 0.5, columns - 0.5)
        made.append(f'<text class="tick" x="{x + middle * cell:g}" y="{TOP - 6}">{number}</text>')
    return made


def _step(cells: int, tile: int) -> int:
    """The cells between two numbers on an axis: whole tiles, so that about four numbers fit."""
    return tile * max(1, round(cells / tile / _TICKS))


def ticks(cells: int, tile: int, each: int, first: int) -> range:
    """The numbers on an axis whose cells are `each` positions from `first` on."""
    step = _step(cells, tile)
    return range(first, first + each * cells, each * step)


def row_axis(rows: int, cell: float, tile: int, each: int, first: int) -> list[str]:
    """The numbers of the queries, left of the first panel."""
    made = [f'<text class="axis" transform="translate(14 {TOP + rows * cell / 2:g}) rotate(-90)">queries</text>']
    for index, number in enumerate(ticks(rows, tile, each, first)):
        y = TOP + max(4.0, (index * _step(rows, tile) + 0.5) * cell) + 4
        made.append(f'<text class="tick row" x="{LEFT - 7}" y="{y:g}">{number}</text>')
    return made


def _legend(panels: Sequence[Panel], x: float) -> list[str]:
    every = np.concatenate([panel.classes.ravel() for panel in panels])
    rows = [
        ("full", f"{np.sum(every == masks.FULL)} full", "every key is seen"),
        ("partial", f"{np.sum(every == masks.PARTIAL)} partial", "a key that is seen"),
        ("ground", "", "a key that is hidden"),
        ("empty", f"{np.sum(every == masks.EMPTY)} empty", "skipped as a whole"),
    ]
    if panels[0].visible is None:
        rows[1:3] = [("partial", rows[1][1], "some keys are seen")]
        rows.append(("", "a cell", f"{panels[0].tile[0]:,} x {panels[0].tile[1]:,} scores"))
    made: list[str] = []
    y = TOP + 12
    for kind, count, what in rows:
        if kind:
            made.append(f'<rect class="{kind} frame" x="{x:g}" y="{y - 12}" width="15" height="15"/>')
        if kind == "empty":
            made.append(
                f'<path class="cross" style="stroke-width:1.4" d="M{x:g} {y - 12}l15 15M{x + 15:g} {y - 12}l-15 15"/>'
            )
        if count:
            made.append(f'<text class="count" x="{x + 24:g}" y="{y}">{count}</text>')
            y += 17
        made.append(f'<text class="what" x="{x + 24:g}" y="{y}">{what}</text>')
        y += 29
    return made


def document(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    """A whole SVG file. Its rules of style hold inside it alone, also where it stands in a page."""
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        'class="ropegen-mask" role="img" font-family="sans-serif">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{width:g}" height="{height:g}" rx="12"/>',
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"
