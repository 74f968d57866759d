#!/usr/bin/env python3
"""Writes docs/cpu.svg: how the native attention packs queries, keys and values.

python3 docs/cpu.py
"""

from __future__ import annotations

from pathlib import Path

WIDTH, HEIGHT, CELL = 1000, 430, 18
BLUE, GREEN, ORANGE, GREY = "#9ec5e8", "#a9d8a4", "#f2c38b", "#e4e8ee"

# (title, lines below it, left edge, top edge, rows, columns, cells that one load reads, colour of these cells)
Panel = tuple[str, tuple[str, ...], int, int, int, int, set[tuple[int, int]], str]
PANELS: tuple[Panel, ...] = (
    (
        "keys: [S / 4][D][4]",
        ("a feature of four keys", "is four scalars in a row"),
        40, 70, 8, 4, {(2, column) for column in range(4)}, BLUE,
    ),
    (
        "queries: [D][16]",
        ("two registers hold one feature", "of sixteen queries"),
        300, 70, 8, 16, {(2, column) for column in range(16)}, GREEN,
    ),
    (
        "scores: [keys][16]",
        ("a key's scalars meet the registers:", "8 sums of 8 lanes stay in registers"),
        640, 70, 8, 16, {(row, column) for row in range(2, 6) for column in range(16)}, ORANGE,
    ),
    (
        "values: [tile][D / 4][keys][4]",
        ("four features of a key", "are four scalars in a row"),
        40, 290, 5, 4, {(1, column) for column in range(4)}, BLUE,
    ),
    (
        "weights: [keys][16]",
        ("exponentials replace the scores", "where they lie"),
        300, 290, 5, 16, {(1, column) for column in range(16)}, GREEN,
    ),
    (
        "results: [D][16]",
        ("queries are lanes to the end;", "rows are written by 8 x 8 transposes"),
        640, 290, 5, 16, {(row, column) for row in range(4) for column in range(16)}, ORANGE,
    ),
)  # fmt: skip
SIGNS = ((210, 145, "×"), (614, 145, "="), (210, 340, "×"), (614, 340, "="))


def main() -> None:
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif">',
        "<title>The packed layouts of native attention, for a vector unit of eight lanes</title>",
        "<style>text{fill:#222;font-size:13px}.title{font-weight:bold;font-size:15px}.sign{font-size:30px;"
        "text-anchor:middle}.cell{stroke:#fff;stroke-width:1}</style>",
        f'<rect fill="#f6f8fb" width="{WIDTH}" height="{HEIGHT}" rx="12"/>',
    ]
    for title, lines, left, top, rows, columns, read, colour in PANELS:
        parts.append(f'<text class="title" x="{left}" y="{top - 38}">{title}</text>')
        parts += [f'<text x="{left}" y="{top - 21 + 15 * line}">{text}</text>' for line, text in enumerate(lines)]
        for row in range(rows):
            for column in range(columns):
                fill = colour if (row, column) in read else GREY
                x, y = left + column * CELL, top + 4 + row * CELL
                parts.append(f'<rect class="cell" x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{fill}"/>')
    parts += [f'<text class="sign" x="{x}" y="{y}">{sign}</text>' for x, y, sign in SIGNS]
    Path(__file__).with_suffix(".svg").write_text("\n".join([*parts, "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
