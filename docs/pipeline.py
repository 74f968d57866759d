#!/usr/bin/env python3
"""Writes docs/pipeline.svg: the way from a graph to an artifact.

python3 docs/pipeline.py
"""

from __future__ import annotations

from pathlib import Path

WIDTH, HEIGHT, BOX, GAP, TOP = 1000, 250, 150, 40, 60

# (title, lines below it), from left to right.
STAGES = (
    ("Graph", ("text, builder", "or config.json")),
    ("Graph", ("canonical, with", "a trace of rules")),
    ("Plan", ("regions, tiles,", "costs, reasons")),
    ("Primitives", ("forward, tangent,", "backward")),
    ("Artifact", ("StableHLO for CPU,", "GPU and TPU")),
)
ARROWS = ("passes", "plan", "emit", "export")
# The inputs of a stage from below: (stage, words).
BELOW = ((2, "a target: gpu:h200"), (3, "one template per platform"), (4, "checked against float64"))


def main() -> None:
    left = (WIDTH - len(STAGES) * BOX - (len(STAGES) - 1) * GAP) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="sans-serif">',
        "<title>From a graph to an artifact</title>",
        "<style>rect{fill:#fff;stroke:#3b6ea5;stroke-width:2}text{fill:#222;text-anchor:middle;font-size:14px}"
        ".title{font-weight:bold;font-size:17px}.small{fill:#555;font-size:12.5px}path{stroke:#3b6ea5;stroke-width:2;fill:none;"
        "marker-end:url(#head)}.paper{fill:#f6f8fb;stroke:none}</style>",
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<polygon points="0,0 8,4 0,8" fill="#3b6ea5"/></marker>',
        f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}" rx="12"/>',
    ]
    for index, (title, lines) in enumerate(STAGES):
        x = left + index * (BOX + GAP)
        middle = x + BOX / 2
        parts.append(f'<rect x="{x}" y="{TOP}" width="{BOX}" height="90" rx="8"/>')
        parts.append(f'<text class="title" x="{middle}" y="{TOP + 30}">{title}</text>')
        parts += [f'<text x="{middle}" y="{TOP + 54 + 19 * row}">{line}</text>' for row, line in enumerate(lines)]
        if index < len(ARROWS):
            parts.append(f'<path d="M{x + BOX + 3} {TOP + 45} H{x + BOX + GAP - 4}"/>')
            parts.append(f'<text class="small" x="{x + BOX + GAP / 2}" y="{TOP - 10}">{ARROWS[index]}</text>')
    for index, words in BELOW:
        middle = left + index * (BOX + GAP) + BOX / 2
        parts.append(f'<path d="M{middle} {TOP + 128} V{TOP + 95}"/>')
        parts.append(f'<text class="small" x="{middle}" y="{TOP + 146}">{words}</text>')
    Path(__file__).with_suffix(".svg").write_text("\n".join([*parts, "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
