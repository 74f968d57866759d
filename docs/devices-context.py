#!/usr/bin/env python3
"""Writes docs/devices-context.svg: which device holds what while four devices share a sequence.

python3 docs/devices-context.py
"""

from __future__ import annotations

from pathlib import Path

PARTS, CELL, ROW, TOP, LABEL = 4, 24, 34, 74, 76
COLOURS = ("#3b6ea5", "#d98032", "#4f9a5b", "#9a5fa8")

# A panel: its title, the words below it, and its columns. A column has words above it and, for every device, its cells:
# (the device where the cell comes from, what is written in it).
Cells = list[tuple[int, str]]
Column = tuple[str, list[Cells]]


def chunks(*of_devices: tuple[int, ...]) -> list[Cells]:
    return [[(device, str(chunk)) for chunk in own] for device, own in enumerate(of_devices)]


def block(device: int) -> Cells:
    return [(device % PARTS, f"K{device % PARTS}")]


PANELS: list[tuple[str, str, list[Column]]] = [
    (
        "order of positions",
        "chunks of the sequence",
        [("contiguous", chunks((0, 1), (2, 3), (4, 5), (6, 7))), ("zigzag", chunks((0, 7), (1, 6), (2, 5), (3, 4)))],
    ),
    (
        "ring",
        "a block of keys and values moves on at every step",
        [(f"step {step}", [block(device - step + PARTS) for device in range(PARTS)]) for step in range(PARTS)],
    ),
    (
        "gather",
        "all keys and values",
        [("", [[cell for d in range(PARTS) for cell in block(d)] for _ in range(PARTS)])],
    ),
    (
        "ulysses",
        "all positions of some heads",
        [("", [[(d, f"H{device}") for d in range(PARTS)] for device in range(PARTS)])],
    ),
]


def main() -> None:
    parts: list[str] = []
    left = LABEL + 24
    for title, words, columns in PANELS:
        start = left
        for above, of_devices in columns:
            width = CELL * max(map(len, of_devices))
            parts.append(f'<text class="small" x="{left + width / 2}" y="{TOP - 10}">{above}</text>')
            for device, cells in enumerate(of_devices):
                for place, (origin, written) in enumerate(cells):
                    x, y = left + place * CELL, TOP + device * ROW
                    parts.append(f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{COLOURS[origin]}"/>')
                    parts.append(f'<text class="cell" x="{x + CELL / 2}" y="{y + CELL / 2 + 4}">{written}</text>')
            left += width + 14
        middle = (start + left - 14) / 2
        parts.append(f'<text class="title" x="{middle}" y="28">{title}</text>')
        parts.append(f'<text class="small" x="{middle}" y="46">{words}</text>')
        left = max(left, start + 150) + 54
    for device in range(PARTS):
        parts.append(f'<text class="small" x="{LABEL / 2 + 8}" y="{TOP + device * ROW + 17}">device {device}</text>')
    width, height = left - 40, TOP + PARTS * ROW + 10
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" role="img" font-family="sans-serif">',
        "<title>Which device holds what while four devices share a sequence</title>",
        "<style>text{fill:#222;text-anchor:middle}.title{font-weight:bold;font-size:16px}.small{font-size:12px;fill:#555}"
        ".cell{font-size:11px;fill:#fff}rect{stroke:#fff}.paper{fill:#f6f8fb;stroke:none}</style>",
        f'<rect class="paper" width="{width:g}" height="{height}" rx="12"/>',
    ]
    Path(__file__).with_suffix(".svg").write_text("\n".join([*head, *parts, "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
