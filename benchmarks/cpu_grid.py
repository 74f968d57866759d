"""The grid of points at which attention on CPU is measured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import ropegen as rg

LENGTHS = (512, 1000, 2048, 4096, 8192)
SHAPES = ((8, 8, 64), (8, 2, 128), (4, 4, 80), (16, 2, 64))
DTYPES = ("f32", "bf16")
MASKS = ("causal", "full")
# At this length, the first of a series, all of torch's variants are timed.
PROBE_LENGTH = 2048


@dataclass(frozen=True)
class Point:
    """One point of the grid."""

    direction: str
    heads: int
    kv_heads: int
    width: int
    dtype: str
    mask: str
    length: int

    @property
    def series(self) -> str:
        return f"{self.direction} {self.heads}x{self.kv_heads}x{self.width} {self.dtype} {self.mask}"

    @property
    def key(self) -> str:
        return f"{self.series} {self.length}"

    def graph(self) -> rg.Graph:
        b = rg.Builder("attention")
        sizes = (("q", self.heads), ("k", self.kv_heads), ("v", self.kv_heads))
        q, k, v = (b.input(label, (1, self.length, heads, self.width), self.dtype) for label, heads in sizes)
        rope, at = rg.Rope(10_000.0, pairing="half"), b.positions(self.length)
        mask = rg.masks.causal if self.mask == "causal" else rg.masks.full
        return b.build(out=b.attend(b.rope(q, at, rope), b.rope(k, at, rope), v, mask=mask))


def grid(directions: Sequence[str], lengths: Sequence[int], shapes: Sequence[tuple[int, int, int]]) -> list[Point]:
    """The points; the probe length of a series comes first."""
    ordered = sorted(lengths, key=lambda length: (length != PROBE_LENGTH, length))
    return [
        Point(direction, *shape, dtype, mask, length)
        for direction, shape, dtype, mask, length in itertools.product(directions, shapes, DTYPES, MASKS, ordered)
    ]
