#!/usr/bin/env python3
"""Writes docs/gpu.svg: what the two warpgroups of the kernel for Hopper do at the same time, from left to right.

python3 docs/gpu.py
"""

from __future__ import annotations

from pathlib import Path

# A product of the tensor cores takes one unit of time here, and a softmax nearly two.
UNIT, ROW, GAP, LEFT, TOP, TILES = 50, 44, 14, 132, 56, 3
LANES = ("warpgroup 0", "warpgroup 1", "tensor cores", "copies")
STYLE = (
    "text{fill:#1b1f24;font-size:14px}.lane{font-weight:bold}.small{font-size:12px}.in{text-anchor:middle}"
    "rect{stroke:none}.paper{fill:#f6f8fb}.scores{fill:#9ec5e8}.values{fill:#6ba3d6}.softmax{fill:#f3d9a4}"
    ".copy{fill:#c9d6c3}.wait{fill:none;stroke:#8a94a0;stroke-dasharray:4 3}"
    "@media (prefers-color-scheme:dark){text{fill:#e6edf3}.paper{fill:#161b22}.scores{fill:#1f4b73}.values{fill:#2f6da3}"
    ".softmax{fill:#6b531b}.copy{fill:#35482f}.wait{stroke:#768390}}"
)
# (lane, start, length, class, words), in units of time. A turn on the tensor cores is the weighted values of one tile and
# the scores of the next; the other warpgroup computes its softmax meanwhile.
Bar = tuple[int, float, float, str, str]


def bars() -> list[Bar]:
    found: list[Bar] = []
    for warpgroup in range(2):
        for tile in range(TILES):
            # The first scores come alone; after them, turns of two units change between the warpgroups.
            scores = warpgroup if tile == 0 else 2 + 4 * (tile - 1) + 2 * warpgroup + 1
            softmax = scores + 1
            values = 2 + 4 * tile + 2 * warpgroup
            found.append((warpgroup, scores, 1, "scores", f"Q K{tile}"))
            found.append((warpgroup, softmax, values - softmax, "softmax", f"softmax {tile}"))
            found.append((warpgroup, values, 1, "values", f"P V{tile}"))
    found += [(2, start, length, name, words) for _, start, length, name, words in found if name != "softmax"]
    # After its scores of tile i, warpgroup 0 copies the keys of tile i + 2 over those of tile i - 1, and warpgroup 1 the
    # values.
    found.append((3, 0, 3, "copy", "tiles 0, 1, 2"))
    found += [(3, 4, 2, "copy", "K3"), (3, 6, 2, "copy", "V3"), (3, 8, 2, "copy", "K4"), (3, 10, 2, "copy", "V4")]
    return found


def main() -> None:
    drawn = bars()
    end = max(start + length for _, start, length, _, _ in drawn)
    width, height = LEFT + int(end * UNIT) + 24, TOP + len(LANES) * (ROW + GAP) + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" font-family="sans-serif">',
        "<title>The pipeline of the kernel for Hopper</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}" rx="12"/>',
        '<text x="20" y="32">Two warpgroups take turns on the tensor cores. A turn ends the tile before, and begins the '
        "next one.</text>",
    ]
    for lane, name in enumerate(LANES):
        y = TOP + lane * (ROW + GAP)
        parts.append(f'<text class="lane" x="20" y="{y + ROW / 2 + 5}">{name}</text>')
    for lane, start, length, name, words in drawn:
        x, y = LEFT + start * UNIT, TOP + lane * (ROW + GAP)
        parts.append(
            f'<rect class="{name}" x="{x + 1:g}" y="{y}" width="{length * UNIT - 2:g}" height="{ROW}" rx="5"/>'
        )
        parts.append(f'<text class="in small" x="{x + length * UNIT / 2:g}" y="{y + ROW / 2 + 4}">{words}</text>')
    y = TOP + len(LANES) * (ROW + GAP) + 14
    parts.append(
        f'<text class="small" x="20" y="{y}">Q K: scores of a tile. P V: weighted values of a tile. The lengths are not to '
        "scale. Time goes to the right.</text>"
    )
    Path(__file__).with_suffix(".svg").write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
