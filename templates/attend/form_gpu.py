"""The shapes of the kernels of attention for Hopper and Blackwell, and the list of the tiles that they visit.

Nothing here needs Mosaic GPU, because planning needs none.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from ropegen import masks
from ropegen.ir.ops import Attend
from ropegen.target import gpus_with

Numbers: TypeAlias = Any  # an int32 array of NumPy, or of JAX if it is known only at run time

LOG2_E = math.log2(math.e)
# The most warpgroups of a block. Each of them computes some of its queries.
WARPGROUPS = 2
# Tiles of keys and values in shared memory: those that are read, and those that are fetched meanwhile. With two slots, a
# tile is fetched while the one before it is read.
_SLOTS = (3, 2)
# The queries and the keys of a tile of the backward kernels, and the tiles that they fetch ahead.
BACKWARD_TILE, BACKWARD_SLOTS = 64, 2
# The cotangents of keys and values have a kernel each if they have more features together.
_MOST_TOGETHER = 256
# With more features, what a kernel adds up leaves few registers: the backward kernels compute fewer rows of a tile at a time,
# and a bias stands alone.
MOST_WITH_ROOM = 192
# Bytes of shared memory that a block may use, less some for barriers.
SHARED_MEMORY = 232_448 - 1024
# The tensor core reads widths that are multiples of this. Features up to there are padded with zeros.
WIDTH_STEP = 16
# The most features of queries, keys and values.
MOST_WIDTH = 256


# On Blackwell, polynomials compute so many of `COLUMNS` weights of a full tile of 128 keys: the unit for exponentials then
# takes 1,680 cycles for a pair of tiles, and issue 1,690. Without polynomials, they take 2,064 and 1,472 (docs/gpu.md).
POLYNOMIALS, COLUMNS = 6, 32
# A soft-cap has an exponential and a reciprocal for each score. So there it is more of them, by the keys of a tile: tiles of
# 128 leave no registers for more. Their masked tiles have half as many, because a mask takes instructions too.
_CAPPED_POLYNOMIALS = {64: 24, 128: 12}


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation of GPUs, for which a kernel is written."""

    capability: str
    warpgroup_rows: int
    """The queries that a warpgroup computes."""
    vectors: int
    """The numbers for each query that a block keeps in shared memory."""
    most_in_two: int
    """The most features of values with which two warpgroups fit in a block; with more, it has one."""
    derives: bool
    """Whether there are kernels for gradients."""

    @property
    def chips(self) -> tuple[str, ...]:
        """The names of their targets."""
        return gpus_with(self.capability)

    def warpgroups(self, value_width: int) -> int:
        """The warpgroups of a block."""
        return WARPGROUPS if value_width <= self.most_in_two else 1

    def block(self, value_width: int) -> int:
        """The queries of a block."""
        return self.warpgroups(value_width) * self.warpgroup_rows


HOPPER = Generation("sm90", warpgroup_rows=64, vectors=1, most_in_two=MOST_WIDTH, derives=True)
# The tensor core multiplies 128 rows. Its memory has 512 columns, of which weighted values have half.
BLACKWELL = Generation("sm100", warpgroup_rows=128, vectors=2, most_in_two=128, derives=False)
GENERATIONS = (HOPPER, BLACKWELL)


@dataclass(frozen=True, slots=True)
class Form:
    """The shapes of a kernel and its options. The lengths of sequences are padded to whole tiles."""

    op: Attend
    generation: Generation
    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    seen_keys: int  # keys before the padding
    width: int  # of queries and keys, a multiple of `WIDTH_STEP`
    value_width: int
    dtype: np.dtype[Any]
    kv_tile: int
    q_start: int
    kv_start: int
    rotates: bool
    """Whether the kernel rotates the queries, in halves."""
    masks_padding: bool
    """Whether there are keys that are padding, and the mask does not hide them from every query."""

    @property
    def warpgroups(self) -> int:
        """The warpgroups of a block."""
        return self.generation.warpgroups(self.value_width)

    @property
    def block(self) -> int:
        """The queries of a block."""
        return self.generation.block(self.value_width)

    @property
    def rows(self) -> int:
        """The blocks of queries."""
        return self.queries // self.block

    @property
    def half(self) -> int:
        """The distance of the two features of a pair."""
        return self.width // 2

    @property
    def columns(self) -> int:
        """The columns of a tile of q and k in shared memory; a half that is rotated is a whole number of them."""
        return columns_of(self.half if self.rotates else self.width)

    @property
    def is_wide(self) -> bool:
        """Whether there are more than 128 features of keys or values."""
        return max(self.width, self.value_width) > 128

    def kernels_of_queries(self, *, gives_bias: bool) -> tuple[str, ...]:
        """The backward kernels for rows of queries, each by what it computes: the cotangents of queries (q) and of a bias (b)."""
        if not gives_bias:
            return ("q",)
        return ("qb",) if self.width <= MOST_WITH_ROOM else ("q", "b")

    @property
    def kernels_of_keys(self) -> tuple[str, ...]:
        """The backward kernels for rows of keys, each by what it computes: the cotangents of keys (k) and of values (v)."""
        return ("kv",) if self.width + self.value_width <= _MOST_TOGETHER else ("k", "v")

    @property
    def is_altered(self) -> bool:
        """Whether the scores are more than scaled products."""
        return self.op.softcap is not None or self.op.score != masks.identity or "bias" in self.op.given

    @property
    def factor(self) -> float:
        """What products are multiplied by: to get scores in base 2, or those in base e if they are altered afterwards."""
        return self.op.scale * (1 if self.is_altered else LOG2_E)

    def polynomials(self, masked: bool) -> int:
        """Of `COLUMNS` weights of a tile, which may be `masked`, how many come from a polynomial.

        None do where issue takes the most time already: in masked tiles, with biases and score expressions, and in tiles of
        64 keys, unless there is a soft-cap.
        """
        if self.generation is not BLACKWELL or self.op.score != masks.identity or "bias" in self.op.given:
            return 0
        if self.op.softcap is not None:
            return _CAPPED_POLYNOMIALS[self.kv_tile] // (2 if masked else 1)
        return POLYNOMIALS if self.kv_tile == 128 and not masked else 0

    @property
    def slots(self) -> int:
        """The slots for tiles of keys and values in shared memory."""
        return next((slots for slots in _SLOTS if self._shared_memory(slots) <= SHARED_MEMORY), _SLOTS[-1])

    @property
    def shared_memory(self) -> int:
        """Bytes of shared memory of a block, without its barriers."""
        return self._shared_memory(self.slots)

    def _shared_memory(self, slots: int) -> int:
        size = self.dtype.itemsize
        if self.generation is BLACKWELL:  # the output overwrites the queries
            features = max(self.width, self.value_width)
        else:
            features = self.width + (self.value_width if self.value_width != self.width else 0)
        rows = features * size + 4 * self.generation.vectors
        return self.block * rows + slots * self.kv_tile * (self.width + self.value_width) * size


def columns_of(width: int) -> int:
    """The most columns, of 64, 32 and 16, that a tile of a matrix of this width can have in shared memory."""
    return math.gcd(width, 64)


@dataclass(frozen=True, slots=True)
class TileList:
    """The tiles that are visited, row after row of tiles; in a row, the full tiles come before the partial ones.

    Row r of batch entry b has the columns `columns[b, first : first + visited]`, of which so many are `full`: `rows[b, r]`
    holds these three numbers. Both arrays have one entry that the whole batch shares, or one for each batch entry.
    """

    columns: Numbers
    rows: Numbers
    kinds: tuple[bool, bool]
    """Whether any tile is full, and whether any is partial."""

    @staticmethod
    def of(classes: npt.NDArray[np.int8]) -> TileList:
        """The list for tile classes of shape (rows of tiles, columns)."""
        order = np.argsort(-classes, axis=1, kind="stable")
        visited, full = np.sum(classes != masks.EMPTY, axis=1), np.sum(classes == masks.FULL, axis=1)
        lists = [row[:count] for row, count in zip(order, visited, strict=True)]
        columns = np.concatenate([*lists, np.zeros(1, np.int64)])  # an array of a kernel is not empty
        rows = np.stack([np.cumsum(visited) - visited, full, visited], axis=1)
        kinds = bool(np.any(full)), bool(np.any(visited > full))
        return TileList(columns.astype(np.int32)[None], rows.astype(np.int32)[None], kinds)

    @staticmethod
    def without(classes: npt.NDArray[np.int8], seen: Numbers) -> TileList:
        """The list for classes of which only those are visited that are `seen`, (B or 1, rows of tiles, columns)."""
        kinds = bool(np.any(classes == masks.FULL)), bool(np.any(classes == masks.PARTIAL))
        left = jnp.where(seen, jnp.asarray(classes, jnp.int32), masks.EMPTY)
        order = jnp.argsort(-left, axis=2, stable=True).astype(jnp.int32)
        count = functools.partial(jnp.sum, axis=2, dtype=jnp.int32)
        first = jnp.broadcast_to(jnp.arange(len(classes), dtype=jnp.int32) * classes.shape[1], left.shape[:2])
        rows = jnp.stack([first, count(left == masks.FULL), count(left != masks.EMPTY)], axis=2)
        return TileList(order.reshape(len(order), -1), rows, kinds)
