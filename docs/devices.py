#!/usr/bin/env python3
"""Writes docs/devices.svg: which part of q, k, v and the result every device of a mesh holds.

python3 docs/devices.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

CELL, GAP, LEFT, TOP = 26, 78, 40, 92
COLORS = ("#9ecae1", "#fdae6b", "#a1d99b", "#bcbddc")
BATCHES, HEADS, KEY_HEADS = 4, 4, 2

# (title, the spec, the number of parts of batch and heads), from left to right.
SPLITS = (
    ("batch", 'P("data")', 4, 1),
    ("heads", 'P(None, None, "model")', 1, 4),
    ("batch and heads", 'P("data", None, "model")', 2, 2),
)


def device(batch: int, head: int, heads: int, parts: tuple[int, int]) -> tuple[int, ...]:
    """The devices that hold a head of a batch entry; key heads that are fewer than the parts have several."""
    along_batch = batch * parts[0] // BATCHES
    first = head * parts[1] // heads
    count = max(1, parts[1] // heads)
    return tuple(along_batch * parts[1] + first + index for index in range(count))


def array(x: float, y: float, name: str, heads: int, parts: tuple[int, int]) -> Iterator[str]:
    """One array: its batch entries downwards and its heads to the right, in the colours of the devices."""
    width = CELL * HEADS // heads
    yield f'<text x="{x + CELL * HEADS / 2}" y="{y - 6}">{name}</text>'
    for batch in range(BATCHES):
        for head in range(heads):
            held = device(batch, head, heads, parts)
            for index, number in enumerate(held):
                share = width / len(held)
                yield (
                    f'<rect x="{x + head * width + index * share}" y="{y + batch * CELL}" width="{share}" height="{CELL}" '
                    f'fill="{COLORS[number]}"/>'
                )


def main() -> None:
    across = CELL * HEADS
    width = LEFT * 2 + len(SPLITS) * 2 * across + (len(SPLITS) - 1) * GAP + len(SPLITS) * 16
    height = TOP + CELL * BATCHES + 64
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" font-family="sans-serif">',
        "<title>Which device holds what</title>",
        "<style>rect{stroke:#fff;stroke-width:1}text{fill:#222;text-anchor:middle;font-size:13px}"
        ".title{font-weight:bold;font-size:15px}.code{font-family:monospace;font-size:12px}.paper{fill:#f6f8fb;stroke:none}"
        "</style>",
        f'<rect class="paper" width="{width}" height="{height}" rx="12"/>',
    ]
    for index, (title, spec, batch, heads) in enumerate(SPLITS):
        x = LEFT + index * (2 * across + GAP + 16)
        middle = x + across + 8
        parts.append(f'<text class="title" x="{middle}" y="28">{title}</text>')
        parts.append(f'<text class="code" x="{middle}" y="48">{spec}</text>')
        parts += array(x, TOP, "q, result", HEADS, (batch, heads))
        parts += array(x + across + 16, TOP, "k, v", KEY_HEADS, (batch, heads))
    bottom = TOP + CELL * BATCHES + 34
    for number, color in enumerate(COLORS):
        x = LEFT + number * 110
        parts.append(f'<rect x="{x}" y="{bottom - 13}" width="18" height="18" fill="{color}"/>')
        parts.append(f'<text x="{x + 52}" y="{bottom + 1}">device {number}</text>')
    parts.append(f'<text x="{width - 210}" y="{bottom + 1}">down: batch entries; across: heads</text>')
    Path(__file__).with_suffix(".svg").write_text("\n".join([*parts, "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
