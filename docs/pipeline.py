#!/usr/bin/env python3
"""Writes docs/pipeline.svg: the way from a graph to an artifact, from top to bottom, so that a phone shows it in full.

python3 docs/pipeline.py
"""

from __future__ import annotations

from pathlib import Path

WIDTH, BOX, HEIGHT, GAP, LEFT, TOP = 440, 224, 58, 34, 20, 20

# What a stage is (title, words below it), what it takes from the right, and the step that leads to the next one.
STAGES = (
    ("Graph", "text, builder or config.json", "", "passes"),
    ("Graph", "canonical, with its rules", "", "plan"),
    ("Plan", "regions, tiles, reasons", "a target: gpu:h200", "emit"),
    ("Primitives", "forward, tangent, backward", "templates by platform", "export"),
    ("Artifact", "StableHLO for every platform", "checked with float64", ""),
)
STYLE = (
    "rect{fill:#fff;stroke:#3b6ea5;stroke-width:2}text{fill:#1b1f24;text-anchor:middle;font-size:15px}"
    ".title{font-weight:bold;font-size:17px}.beside{text-anchor:start;font-size:14px}"
    ".step{text-anchor:start;font-style:italic;font-size:14px}path{stroke:#3b6ea5;stroke-width:2;fill:none}"
    ".head{fill:#3b6ea5;stroke:none}.paper{fill:#f6f8fb;stroke:none}"
    "@media (prefers-color-scheme:dark){rect{fill:#0d1117;stroke:#79b8ff}text{fill:#e6edf3}path{stroke:#79b8ff}"
    ".head{fill:#79b8ff}.paper{fill:#161b22}}"
)


def main() -> None:
    height = 2 * TOP + len(STAGES) * HEIGHT + (len(STAGES) - 1) * GAP
    middle = LEFT + BOX / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'role="img" font-family="sans-serif">',
        "<title>From a graph to an artifact</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="12"/>',
    ]
    for index, (title, words, beside, step) in enumerate(STAGES):
        y = TOP + index * (HEIGHT + GAP)
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{BOX}" height="{HEIGHT}" rx="8"/>')
        parts.append(f'<text class="title" x="{middle}" y="{y + 24}">{title}</text>')
        parts.append(f'<text x="{middle}" y="{y + 46}">{words}</text>')
        if beside:
            x, level = LEFT + BOX, y + HEIGHT / 2
            parts.append(f'<path d="M{x + 24} {level}H{x + 8}"/>')
            parts.append(f'<path class="head" d="M{x + 11} {level - 5}l-8 5l8 5z"/>')
            parts.append(f'<text class="beside" x="{x + 30}" y="{level + 5}">{beside}</text>')
        if step:
            start, end = y + HEIGHT + 3, y + HEIGHT + GAP
            parts.append(f'<path d="M{middle} {start}V{end - 8}"/>')
            parts.append(f'<path class="head" d="M{middle - 5} {end - 10}h10l-5 8z"/>')
            parts.append(f'<text class="step" x="{middle + 12}" y="{start + GAP / 2 + 2}">{step}</text>')
    Path(__file__).with_suffix(".svg").write_text("\n".join([*parts, "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
