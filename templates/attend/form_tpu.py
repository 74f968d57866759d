"""The shapes of the kernels of attention for TPU, and the fast memory that they need."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ropegen import masks
from ropegen.ir.ops import Attend
from ropegen.target import Products
from ropegen.template import Tile

from ..tpu.mosaic import Index
from ..tpu.rotation import Rotation

LOG2_E = math.log2(math.e)
# Rows of scores that are computed at a time. libtpu schedules this number best: with 256 keys, they fill the registers
# as float32.
ROWS = 256
# The number of keys whose scores are computed at a time.
KEYS = 256
# Blocks of rows, and keys, in straight-line code. The matrix unit computes the products of one block while the vector
# units compute the weights of another.
TOGETHER, STRAIGHT = 2, 512
# Pieces of `STRAIGHT` keys that follow each other in straight-line code: the units of the chip drain once at its end.
# libtpu schedules four well, and eight worse than one.
_PIECES = 4


@dataclass(frozen=True, slots=True)
class Form:
    """The shapes of a kernel and its options. Sizes are padded to whole tiles and lanes."""

    op: Attend
    batch: int
    kv_heads: int
    group: int
    q_tile: int
    kv_tile: int
    queries: int
    keys: int
    seen_keys: int  # keys before the padding
    width: int
    value_width: int
    dtype: np.dtype[Any]
    q_start: int
    kv_start: int
    rotation: Rotation | None = None
    """How the template rotates the queries in float32, in the kernel or before it; None if it does not."""
    is_prepared: bool = False
    """Whether the queries come as the products read them, rotated and scaled before the kernel."""
    at_once: int = ROWS  # the largest number of rows of scores at a time
    products: Products = "last in halves"
    """The order of products and weights, see `kernel_tpu.order`."""
    matrix_unit: int = 128  # its rows and columns
    stride: int = 0  # from the tile map of one batch entry to the next; 0 if all share one

    def place(self, batch: Index, step: Index) -> Index:
        """The index of a step in the tile map."""
        return batch * self.stride + step if self.stride else step

    @property
    def tile(self) -> Tile:
        return Tile.of(q=self.q_tile, kv=self.kv_tile)

    @property
    def rows(self) -> int:
        """The rows of a tile: its queries, for every head in the group, head after head."""
        return self.group * self.q_tile

    @property
    def chunk(self) -> int:
        """The rows of scores at a time: a part of the rows of one head, or the rows of several heads."""
        if self.q_tile >= self.at_once:
            return self.at_once
        heads = max(n for n in range(1, self.group + 1) if self.group % n == 0 and n * self.q_tile <= self.at_once)
        return heads * self.q_tile

    @property
    def chunks(self) -> int:
        return self.rows // self.chunk

    @property
    def together(self) -> int:
        """The number of blocks of rows in straight-line code."""
        return TOGETHER if self.chunks % TOGETHER == 0 else 1

    def unrolled(self, together: int) -> int:
        """The blocks of `together` chunks of rows that follow each other in straight-line code."""
        blocks, most = self.chunks // together, max(1, _PIECES // self.runs)
        return max(count for count in range(1, most + 1) if blocks % count == 0)

    @property
    def block_keys(self) -> int:
        return min(KEYS, self.kv_tile)

    @property
    def blocks(self) -> tuple[int, int]:
        """The blocks of a tile, whose classes say what is computed: of the queries of a chunk of rows, and of keys."""
        return max(1, self.q_tile // self.chunk), self.kv_tile // self.block_keys

    @property
    def runs(self) -> int:
        """The number of straight-line pieces into which the keys of a tile are cut."""
        return -(-self.kv_tile // STRAIGHT)

    @property
    def rotation_inside(self) -> Rotation | None:
        """How the kernel itself rotates the queries; None if it does not."""
        return None if self.is_prepared else self.rotation

    @property
    def is_wide(self) -> bool:
        """Whether queries pass through float32 on their way to the products, so that a factor costs no rounding."""
        return self.rotation is not None or self.dtype == np.float32

    @property
    def output(self) -> np.dtype[Any]:
        """The dtype of the output."""
        return np.dtype(np.float32) if self.op.partial else self.dtype

    @property
    def is_altered(self) -> bool:
        """Whether the scores are more than scaled products."""
        return self.op.softcap is not None or self.op.score != masks.identity or "bias" in self.op.given

    @property
    def factor(self) -> float:
        """The factor of the scores, applied to the queries or to the products."""
        return self.op.scale if self.is_altered else self.op.scale * LOG2_E

    @property
    def beside(self) -> int:
        """Bytes of the other blocks of a tile, apart from q, k and v: tables of angles, biases, masks, segments."""
        size = 4 * self.q_tile * self.width * self.rotation_inside.count if self.rotation_inside else 0
        size += 4 * self.rows * self.kv_tile * sum(operand.axes == self.op.SCORES for operand in self.op.beside)
        if any(operand.holds == "integer" for operand in self.op.beside):
            size += 4 * 8 * (self.rows + self.kv_tile)
        return size

    @property
    def vmem(self) -> int:
        """Bytes of fast memory: blocks twice (one is fetched while the other is read), scratch, and live scores."""
        size = self.dtype.itemsize
        blocks = self.rows * (self.width * size + self.value_width * self.output.itemsize) + 4 * 8 * self.rows
        blocks += self.kv_tile * (self.width + self.value_width) * size + self.beside
        scratch = self.rows * (self.width * size + 4 * (self.value_width + self.kv_tile + 8 * (3 + 2 * self.runs)))
        return 2 * blocks + scratch + 2 * 4 * self.chunk * min(self.kv_tile, STRAIGHT)
