"""The shapes of the kernel of `rope` for GPU: what a block rotates, and what a thread holds of it.

Nothing here needs Mosaic GPU, because planning needs none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

# The threads of a block.
_THREADS = 128
# Bytes that a thread reads or writes at once, and the fewest with which the kernel is worth it.
_ACCESS, LEAST_ACCESS = 16, 8
# The heads of a block, which share the angles that it reads.
_TOGETHER = 8
# Numbers that a thread holds of a head at once. Angles and results take registers too, of which it has 255.
_HELD = 80
# A thread reads several heads before it writes the first one, as long as they have no more numbers than this.
_AHEAD = 64


@dataclass(frozen=True, slots=True)
class Heads:
    """An array (batch, rows, heads, width) whose heads are rotated: `dim` features of each, with a pairing."""

    dtype: np.dtype[Any]
    heads: int
    width: int
    pairing: str
    dim: int

    @property
    def span(self) -> int:
        """The features of one access after the other: those of half the pairs' features, or those of whole pairs."""
        return self.dim // 2 if self.pairing == "half" else self.dim

    @property
    def vector(self) -> int:
        """The numbers of an access, a power of two. Every part of a head begins at a multiple of it."""
        return math.gcd(_ACCESS // self.dtype.itemsize, self.width, self.span)

    @property
    def access(self) -> int:
        """The bytes of an access."""
        return self.vector * self.dtype.itemsize

    @property
    def least_rows(self) -> int:
        """The fewest rows of which every thread has whole accesses, a power of two."""
        block = _THREADS * self.vector
        return max(block // math.gcd(columns, block) for columns in (self.span, self.width - self.dim or block))

    @property
    def together(self) -> int:
        """The heads of a block."""
        return min(self.heads, _TOGETHER)

    @property
    def groups(self) -> int:
        """The blocks for the heads of a row; the last one begins earlier if it would reach past the end."""
        return -(-self.heads // self.together)

    def pieces(self, rows: int) -> Iterator[tuple[int, int]]:
        """The first feature and the number of features of every piece of the span, for blocks of so many rows."""
        return self._cut(self.span, rows, _HELD // (2 if self.pairing == "half" else 1))

    def rest(self, rows: int) -> Iterator[tuple[int, int]]:
        """The pieces of the features that are not rotated."""
        for start, columns in self._cut(self.width - self.dim, rows, _HELD):
            yield self.dim + start, columns

    def ahead(self, rows: int, columns: int) -> int:
        """The heads that a thread reads before it writes, for pieces of so many features."""
        numbers = rows * columns // _THREADS * (2 if self.pairing == "half" else 1)
        return max(1, min(self.together, _AHEAD // numbers))

    def _cut(self, columns: int, rows: int, held: int) -> Iterator[tuple[int, int]]:
        if not columns:
            return
        unit = _THREADS * self.vector // rows
        count = -(-columns * rows // (_THREADS * held))
        size = -(-columns // unit // count) * unit
        for start in range(0, columns, size):
            yield start, min(size, columns - start)


@dataclass(frozen=True, slots=True)
class Form:
    """The shapes of a kernel: arrays (batch, rows, heads, width), and angles (rows, dim) in float32.

    `inverse` rotates by the opposite angles.
    """

    batch: int
    rows: int
    arrays: tuple[Heads, ...]
    inverse: bool = False

    @property
    def block(self) -> int:
        """The rows of a block. There are no fewer rows; the last block begins earlier if it would reach past the end."""
        return max(heads.least_rows for heads in self.arrays)

    @property
    def blocks(self) -> int:
        """The blocks of rows."""
        return -(-self.rows // self.block)

    @property
    def groups(self) -> int:
        """The blocks for the heads of all arrays."""
        return sum(heads.groups for heads in self.arrays)

    @property
    def overlaps(self) -> bool:
        """Whether some numbers are rotated by two blocks."""
        return self.rows % self.block > 0 or any(heads.heads % heads.together for heads in self.arrays)
