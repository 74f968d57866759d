"""What the code of a native attention depends on, and where its scratch memory holds what.

The scratch memory holds the packed keys and values of one wave of heads, twice if there are several waves, and then the
memory of every thread's item: queries, results, scores.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from ropegen import masks
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph
from ropegen.native.call import Buffer
from ropegen.target import VectorUnit

from .site import AttendSite, site

# The most bytes of packed keys and values that exist at once, for each thread. A wave has at least one head. Packed
# numbers should still be in a cache when they are read: 4 MB of them took three times as long as 2 MB.
_PACKED = 2 << 20
_LINE = 64
# Keys that are masked, or seen, together: the mask is asked for every such group of a tile that is partly masked.
GRANULE = 16


@dataclass(frozen=True, slots=True)
class Operand:
    """An operand of the kernel: its place among the buffers, its shape, and the rows that the batch entries read."""

    index: int
    dtype: str
    shape: tuple[int, ...]
    """The sizes after the batch."""
    row: tuple[int, ...]
    """The row of the flat batch that every batch entry reads."""

    @property
    def row_size(self) -> int:
        """Elements of one row."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Problem:
    """An attention for one vector unit: everything that its code depends on."""

    closed: Graph
    unit: VectorUnit
    keys_in_tile: int
    panels: int
    """Panels of queries in an item."""
    threads: int
    pairs: bool = False
    """Whether both products multiply pairs of bfloat16; otherwise they multiply float32."""

    def __post_init__(self) -> None:
        # A caller may give any tile, and code for another one would write outside of its memory.
        if self.keys_in_tile % GRANULE:
            raise RopegenError(
                f"a native attention was given tiles of kv={self.keys_in_tile} keys; give a multiple of {GRANULE}, e.g. kv=64"
            )

    @functools.cached_property
    def site(self) -> AttendSite:
        return site(self.closed)

    @functools.cached_property
    def op(self) -> ops.Attend:
        return self.site.op

    @functools.cached_property
    def lead(self) -> tuple[int, ...]:
        return self._shape("q")[:-3]

    @property
    def batch(self) -> int:
        return math.prod(self.lead)

    @property
    def queries(self) -> int:
        return self._shape("q")[-3]

    @property
    def heads(self) -> int:
        return self._shape("q")[-2]

    @property
    def width(self) -> int:
        return self._shape("q")[-1]

    @property
    def keys(self) -> int:
        return self._shape("k")[-3]

    @property
    def kv_heads(self) -> int:
        return self._shape("k")[-2]

    @property
    def value_width(self) -> int:
        return self._shape("v")[-1]

    @property
    def group(self) -> int:
        return self.heads // self.kv_heads

    @property
    def dtype(self) -> str:
        return self.site.sources["q"].type.dtype

    def _shape(self, name: str) -> tuple[int, ...]:
        return self.site.sources[name].type.shape

    def operand(self, name: str) -> Operand | None:
        """The operand of a name, or None if it is absent or known while planning."""
        source = self.site.sources.get(name)
        if source is None or source not in self.site.operands:
            return None
        rank = {"q": 3, "k": 3, "v": 3, "q_angles": 2, "k_angles": 2, "bias": 3, "mask": 3}.get(name, 1)
        whole = source.type.shape
        shape = (1,) * (rank + len(self.lead) - len(whole)) + whole
        if name == "sinks":
            shape = (*(1,) * len(self.lead), *whole)
        before = shape[: len(shape) - rank]
        rows = np.broadcast_to(np.arange(math.prod(before)).reshape(before), self.lead).reshape(-1)
        index = self.site.operands.index(source)
        return Operand(index, source.type.dtype, shape[len(shape) - rank :], tuple(rows.tolist()))

    @property
    def is_simple(self) -> bool:
        """Whether the scores are the products times the scale, before the mask."""
        return self.op.softcap is None and self.op.score == masks.identity and "bias" not in self.op.given

    @property
    def hides(self) -> bool:
        """Whether a key may be hidden from a query, apart from those after the last one."""
        return self.op.visible != masks.full or "mask" in self.op.given

    @property
    def cleans(self) -> bool:
        """Whether values that are not finite are packed as 0, because 0 times NaN is NaN where a mask hides them.

        A row that sees such a value gets NaN from its key instead. The mean of all values needs them as they are.
        """
        return self.hides and not self.op.takes_mean

    # Sizes of the code --------------------------------------------------------------------------------------------

    @property
    def panel(self) -> int:
        """Queries in a panel: the columns of a micro-tile."""
        return self.unit.lanes * self.unit.columns

    def _whole(self, width: int) -> int:
        return up(width, max(8, self.unit.lanes))

    @property
    def packed_width(self) -> int:
        """The width of queries and keys, padded to whole registers."""
        return self._whole(self.width)

    @property
    def packed_value_width(self) -> int:
        return self._whole(self.value_width)

    @property
    def packed_steps(self) -> int:
        """The steps of a product of a query and a key: features, or pairs of them. A step takes four bytes when packed."""
        return up(self.width, 16) // 2 if self.pairs else self.packed_width

    @property
    def packed_value_steps(self) -> int:
        """The steps of a product over the features of a value."""
        return up(self.value_width, 16) // 2 if self.pairs else self.packed_value_width

    def row_width(self, width: int) -> int:
        """The numbers from one row to the next where rows are float32, so that registers, or pairs of them, are whole."""
        return up(width, 2 * self.unit.lanes) if self.pairs else self._whole(width)

    @property
    def tiles(self) -> int:
        """Tiles of keys."""
        return -(-self.keys // self.keys_in_tile)

    @property
    def packed_keys(self) -> int:
        return self.tiles * self.keys_in_tile

    @property
    def blocks(self) -> int:
        """Blocks of queries of a head; one is an item."""
        return -(-self.queries // (self.panel * self.panels))

    # Scratch memory, in bytes -------------------------------------------------------------------------------------

    @property
    def key_bytes(self) -> int:
        """The packed keys of one head."""
        return self.packed_keys * self.packed_steps * 4

    @property
    def value_stride(self) -> int:
        """Numbers, or pairs of numbers of two keys, from one group of columns of a tile of values to the next.

        One line more than they need, so that the groups, which are written in turns, do not share places in the cache.
        """
        return self.keys_in_tile // self.together * self.unit.rows + _LINE // 4

    @property
    def together(self) -> int:
        """Keys that one step of the second product takes."""
        return 2 if self.pairs else 1

    @property
    def value_tile(self) -> int:
        """Numbers, or pairs, of a packed tile of values."""
        return self.packed_value_width // self.unit.rows * self.value_stride

    @property
    def value_bytes(self) -> int:
        return self.tiles * self.value_tile * 4

    @property
    def wave_heads(self) -> int:
        """Key heads in a wave; all of them if there is room."""
        whole, one, most = self.batch * self.kv_heads, self.key_bytes + self.value_bytes, _PACKED * self.threads
        return whole if whole * one <= most else max(1, most // (2 * one))

    @property
    def waves(self) -> int:
        return -(-self.batch * self.kv_heads // self.wave_heads)

    @property
    def wave_bytes(self) -> int:
        return self.wave_heads * (self.key_bytes + self.value_bytes)

    @functools.cached_property
    def slot(self) -> Slot:
        return Slot.of(self)

    @property
    def scratch_bytes(self) -> int:
        return min(2, self.waves) * self.wave_bytes + self.threads * self.slot.size


@dataclass(frozen=True, slots=True)
class Slot:
    """The memory of an item: offsets in bytes."""

    queries: int
    """(panels, packed steps, panel): the queries of the item, turned, and scaled unless they are pairs of bfloat16."""
    results: int
    """(panels, packed width of values, panel): the weighted sums of values."""
    scores: int
    """(keys of a tile, panel); then the weights, in pairs of keys if both products multiply pairs."""
    highest: int
    """(panels, panel): the highest score of every query so far."""
    total: int
    """(panels, panel): the sum of the weights so far."""
    bias: int
    """(keys of a tile, panel)."""
    mask: int
    """(keys of a tile, panel), as int32."""
    rows: int
    """(rows, width): rows of an operand as float32, turned."""
    size: int

    @staticmethod
    @functools.lru_cache(maxsize=256)
    def of(problem: Problem) -> Slot:
        lines, tile = problem.panels * problem.panel * 4, problem.keys_in_tile * problem.panel * 4
        widest = max(map(problem.row_width, (problem.width, problem.value_width)))
        given = problem.op.given
        sizes = {
            "queries": lines * problem.packed_steps,
            "results": lines * problem.packed_value_width,
            "scores": tile,
            "highest": lines,
            "total": lines,
            "bias": tile if "bias" in given else 0,
            "mask": tile if "mask" in given else 0,
            "rows": max(problem.unit.lanes, problem.unit.rows) * widest * 4,
        }
        offsets: dict[str, int] = {}
        end = 0
        for name, size in sizes.items():
            offsets[name] = end
            end = up(end + size, _LINE)
        return Slot(**offsets, size=up(end, 4096))


def results_of(problem: Problem) -> tuple[Buffer, ...]:
    """The output and the log-sum-exp."""
    shape = (*problem.lead, problem.queries, problem.heads)
    return (
        Buffer("output", problem.dtype, (*shape, problem.value_width)),
        Buffer("log_sum_exp", "f32", shape),
    )


def operands_of(problem: Problem) -> tuple[Buffer, ...]:
    """The operands of the closed region, in order."""
    types = problem.closed.input_types
    return tuple(Buffer(name, kind.dtype, kind.shape) for name, kind in types.items())


def up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
