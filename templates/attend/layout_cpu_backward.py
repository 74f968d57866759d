"""The backward pass of a native attention: its sizes, its buffers, and where its scratch memory holds what.

An item computes some *strips* of the keys of one key head, and for every strip all queries that read them. It adds what
the queries receive to a copy of their cotangent that no other item uses. So no two items write to the same memory, and
every call adds in the same order.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ropegen.native.call import Buffer

from .layout_cpu import GRANULE, Operand, Problem, operands_of, up

# The most keys in a tile, and queries in a block: what a tile and a block need stays in the second cache.
_KEYS, _QUERIES = 64, 64
# The most keys in a strip. The queries are packed once for every strip.
_STRIP = 512
# Bytes between two arrays of an item, so that equal places of them do not share places in the cache.
_STAGGER = 320
# The most bytes for the cotangents of the queries, and what else there is for every query, of one wave of heads: so
# much, or so much for each thread. A wave has more where it would otherwise have fewer items than there are threads.
_WAVE, _WAVE_OF_THREAD = 16 << 20, 4 << 20
# The most items that share a key head, each with its own copy of the cotangent of the queries, where the copies need more
# memory than that.
_COPIES = 4


@dataclass(frozen=True)
class Gradient:
    """The backward pass of an attention."""

    of: Problem
    """The attention, with the tile of its forward pass."""
    wants_bias: bool
    """Whether the cotangent of the bias is computed."""

    @functools.cached_property
    def problem(self) -> Problem:
        """The attention with the tile of the backward pass."""
        queries = min(_QUERIES, self.of.queries)
        tile = min(_KEYS, up(self.of.keys, GRANULE))
        return replace(self.of, keys_in_tile=tile, panels=-(-queries // self.of.panel))

    # Buffers ----------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def operands(self) -> tuple[Buffer, ...]:
        """The operands of the region, the results of the forward pass, and their cotangents."""
        problem = self.problem
        shape = (*problem.lead, problem.queries, problem.heads)
        pairs = [
            (Buffer(f"{word}output", problem.dtype, (*shape, problem.value_width)), Buffer(f"{word}lse", "f32", shape))
            for word in ("", "d_")
        ]
        return (*operands_of(problem), *pairs[0], *pairs[1])

    @functools.cached_property
    def results(self) -> tuple[Buffer, ...]:
        """The cotangents of q, k and v, and what those of sinks and bias are sums of."""
        problem = self.problem
        types = (problem.site.sources[name].type for name in "qkv")
        moved = [Buffer(f"d_{name}", kind.dtype, kind.shape) for name, kind in zip("qkv", types, strict=True)]
        if "sinks" in problem.op.given:
            moved.append(Buffer("drag", "f32", (*problem.lead, problem.queries, problem.heads)))
        if self.wants_bias:
            moved.append(Buffer("d_bias", "f32", self.bias_shape))
        return tuple(moved)

    def index(self, name: str) -> int:
        """The place of a buffer that is not an operand of the region."""
        own = len(self.problem.closed.inputs)
        return own + [buffer.name for buffer in (*self.operands[own:], *self.results)].index(name)

    # The bias ---------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def bias(self) -> Operand:
        operand = self.problem.operand("bias")
        assert operand is not None
        return operand

    @property
    def has_bias_matrix(self) -> bool:
        """Whether the cotangent of a bias is wanted that has a number for every query and key."""
        return self.wants_bias and min(self.bias.shape[1:]) > 1

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """The shape of the computed sums. A bias with queries and keys has its own, (rows, heads, Sq, Skv).

        Otherwise there is a sum for every batch entry and head: (B, H, keys) over the queries, or (chunks, B, H,
        queries) over keys; both lengths are padded.
        """
        problem, (heads, queries, keys) = self.problem, self.bias.shape
        if queries > 1 and keys > 1:
            return (max(self.bias.row) + 1, heads, queries, keys)
        if keys > 1:
            return (problem.batch, problem.heads, self.padded_keys)
        return (self.chunks, problem.batch, problem.heads, self.padded_queries)

    @property
    def shares_bias(self) -> bool:
        """Whether several heads add to the same number of a bias with queries and keys. Then one item computes them."""
        if not self.has_bias_matrix:
            return False
        return self.bias.shape[0] < self.problem.heads or len({*self.bias.row}) < len(self.bias.row)

    # Items ------------------------------------------------------------------------------------------------------------

    @property
    def padded_queries(self) -> int:
        """Queries in whole blocks."""
        return self.problem.blocks * self.block

    @property
    def padded_keys(self) -> int:
        return up(self.problem.keys, GRANULE)

    @property
    def block(self) -> int:
        """Queries in a block."""
        return self.problem.panel * self.problem.panels

    @property
    def row(self) -> int:
        """The numbers from one key to the next in a tile of scores. The addition spreads the keys over the cache."""
        return self.block + self.problem.panel

    @functools.cached_property
    def _shares(self) -> int:
        """Items that should share a key head, so that all threads have work."""
        problem = self.problem
        heads = 1 if self.shares_bias else problem.batch * problem.kv_heads
        if heads % problem.threads == 0 or heads >= 4 * problem.threads:
            return 1
        copies = min(heads, problem.threads) * problem.group  # one for every head that is computed at the same time
        room = self._most // (copies * self.padded_queries * problem.packed_width * 4)
        needed = min(-(-problem.threads // heads), _COPIES)
        return max(1, min(-(-4 * problem.threads // heads), problem.tiles, max(room, needed)))

    @property
    def strip(self) -> int:
        """Keys in a strip: whole tiles."""
        return min(_STRIP, up(-(-self.problem.keys // self._shares), self.problem.keys_in_tile))

    @property
    def chunks(self) -> int:
        """Items that share a key head; each has its own copy of the cotangent of the queries."""
        return min(self._shares, -(-self.problem.keys // self.strip))

    @property
    def _most(self) -> int:
        """The most bytes of a wave, if it has more than one head."""
        return max(_WAVE, _WAVE_OF_THREAD * self.problem.threads)

    @property
    def wave_heads(self) -> int:
        """Key heads in a wave: as many as fit, but enough for all threads, and no remainder that leaves some of them idle."""
        whole = self.problem.batch * self.problem.kv_heads
        if self.shares_bias or whole * self.head_bytes <= 2 * self._most:
            return whole
        busy = -(-self.problem.threads // self.chunks)
        return min(whole, max(busy, self._most // self.head_bytes // busy * busy))

    @property
    def item_heads(self) -> int:
        """Key heads that one item computes."""
        return self.wave_heads if self.shares_bias else 1

    @property
    def waves(self) -> int:
        return -(-self.problem.batch * self.problem.kv_heads // self.wave_heads)

    @property
    def waves_at_once(self) -> int:
        """The waves that have memory at the same time: two, unless one alone takes as much as two should."""
        return 1 if self.waves == 1 or self.wave_bytes > self._most else 2

    # Scratch memory, in bytes -----------------------------------------------------------------------------------------

    @functools.cached_property
    def of_query_head(self) -> Mapping[str, int]:
        """What there is for every query head of a wave.

        `shift` and `drag` (queries) are the log-sum-exp and how much a result falls per relative increase of the softmax
        denominator; `unseen` (blocks, padded width of values) are sums of the cotangents of rows that see no key;
        `d_queries` (chunks, queries, padded width) are the copies of the cotangent.
        """
        problem, one = self.problem, self.padded_queries * 4
        return {
            "shift": one,
            "drag": one,
            "unseen": problem.blocks * problem.packed_value_width * 4 if problem.op.takes_mean else 0,
            "d_queries": self.chunks * one * problem.packed_width,
        }

    @property
    def head_bytes(self) -> int:
        """What there is for a key head of a wave."""
        return self.problem.group * sum(self.of_query_head.values())

    @property
    def wave_bytes(self) -> int:
        return self.wave_heads * self.head_bytes

    @functools.cached_property
    def slot(self) -> Mapping[str, int]:
        """Offsets in the memory of an item, after that of the forward pass, whose queries, bias, mask and rows it uses.

        Of a strip: keys (rows, steps, keys of a group), values likewise, key_rows (tiles, groups of columns, keys of the
        tile, columns of a group), d_keys and d_values (keys, width), mean (width of values). Of a block: d_outputs (panels,
        steps of values, panel), query_rows and d_output_rows (groups of columns, queries, columns of a group). Of a tile:
        weights and d_scores (keys, row), panels (granules, first and last), d_bias (keys, panel).
        """
        problem = self.problem
        width, value_width, tile = problem.packed_width, problem.packed_value_width, problem.keys_in_tile
        sizes = {
            "keys": self.strip * problem.packed_steps,
            "values": self.strip * problem.packed_value_steps,
            "key_rows": self.strip * width,
            "d_keys": self.strip * width,
            "d_values": self.strip * value_width,
            "mean": value_width,
            "d_outputs": self.block * problem.packed_value_steps,
            "query_rows": self.block * width,
            "d_output_rows": self.block * value_width,
            "weights": tile * self.row,
            "d_scores": tile * self.row,
            "panels": 4 * (tile // GRANULE),
            "d_bias": tile * problem.panel if self.wants_bias else 0,
        }
        offsets: dict[str, int] = {}
        end = problem.slot.size
        for name, size in sizes.items():
            offsets[name] = end
            end = up(end + 4 * size, 64) + _STAGGER
        return {**offsets, "end": up(end, 4096)}

    @property
    def scratch_bytes(self) -> int:
        return self.waves_at_once * self.wave_bytes + self.problem.threads * self.slot["end"]


def groups(width: int, size: int) -> list[tuple[int, int]]:
    """(first column, columns) of the groups that a width is cut into: groups of `size`, and one of the rest."""
    return [(first, min(size, width - first)) for first in range(0, width, size)]
