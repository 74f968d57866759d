"""Which device of a ring holds which part of a sequence, and what each device computes when keys go around the ring.

A sequence is cut into chunks of equal length. Device i of n holds chunk i ("contiguous"), or chunks i and 2n - 1 - i
("zigzag"), so that under a causal mask every device sees about equally many keys. The mask decides, while tracing, which
pairs of chunks see nothing, which terms of it hide something there, and how far keys must travel.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ropegen import masks
from ropegen.expression import Apply, Expr, Var, variables

ORDERS = ("contiguous", "zigzag")
POSITIONS = frozenset({"q_pos", "kv_pos"})

# With more kernels than this that differ only in the distance of their chunks, one kernel reads positions at run time.
_MOST_DISTANCES = 4

# How many schedules are kept; a program has one for each of its attentions.
_KEPT = 64
# The most rows of tiles over which the work of the devices is counted.
_MOST_ROWS = 1024

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Order:
    """How a sequence lies on the devices of a mesh axis. `name` is None if only the program knows the positions."""

    parts: int
    name: str | None

    @property
    def per_device(self) -> int:
        """The number of chunks that a device holds."""
        return 2 if self.name == "zigzag" else 1

    @property
    def chunks(self) -> int:
        return self.parts * self.per_device

    @property
    def held(self) -> IntArray:
        """The chunks of every device, (parts, per_device)."""
        first = np.arange(self.parts)
        if self.name != "zigzag":
            return first[:, None]
        return np.stack([first, 2 * self.parts - 1 - first], 1)

    def positions(self, length: int) -> IntArray:
        """The positions of a sequence of `length` in the order in which the devices hold it, (length,)."""
        chunk = length // self.chunks
        return (self.held.reshape(-1, 1) * chunk + np.arange(chunk)).reshape(-1)


@dataclass(frozen=True, slots=True)
class Case:
    """A kernel for pairs of chunks: what is left of the mask, and what it must know of the positions."""

    mask: Expr
    distance: int | None = None
    """How many chunks the queries are after the keys, for a mask or score that depends on this alone."""
    reads_positions: bool = False
    """Whether it reads positions at run time."""


@dataclass(frozen=True, slots=True)
class Visits:
    """What devices compute with the blocks of keys that reach them after some of the steps."""

    pairs: tuple[tuple[int, int], ...]
    """(query chunk, key chunk) of a device and a block, by their places, that see something on some device."""
    cases: tuple[int, ...]
    """The cases of these pairs, in order; 0 stands for a pair that sees nothing."""


@dataclass(frozen=True)
class Schedule:
    """The visits of a ring. Equal arguments give the same schedule; see `schedule`."""

    order: Order
    cases: tuple[Case, ...]
    table: IntArray
    """(query chunks, key chunks): 0 if the pair sees nothing, else 1 + the index of its case."""

    def _of_step(self, step: int) -> IntArray:
        """The entries of the table for a block that has made `step` steps: (device, query chunk, key chunk) by place."""
        held = self.order.held
        return self.table[held[:, :, None], np.roll(held, step, axis=0)[:, None, :]]

    @functools.cached_property
    def hops(self) -> tuple[int, int]:
        """How many steps blocks of keys make to the next device, and how many to the one before.

        These are the fewest steps after which every block has reached all devices that see some of it.
        """
        parts = self.order.parts
        needed = [step for step in range(1, parts) if np.any(self._of_step(step))]
        ends = [0, *needed, parts]
        return min(
            ((up, parts - after) for up, after in itertools.pairwise(ends)),
            key=lambda hops: (sum(hops), hops[1]),
        )

    def visits(self, steps: Sequence[int]) -> Visits:
        """What devices compute after these steps; a negative step goes to the device before."""
        of_steps = np.stack([self._of_step(step) for step in steps])
        seen = np.argwhere(np.any(of_steps > 0, axis=(0, 1)))
        pairs = tuple((int(row), int(column)) for row, column in seen)
        cases = np.unique(of_steps[:, :, seen[:, 0], seen[:, 1]]) if pairs else np.zeros(0, np.int64)
        return Visits(pairs, tuple(map(int, cases)))

    @property
    def work(self) -> IntArray:
        """How many pairs of chunks every device computes, (parts,)."""
        held = self.order.held
        seen = self.table > 0
        return np.array([int(np.count_nonzero(seen[chunks])) for chunks in held])


def schedule(order: Order, mask: Expr, score: Expr, q_chunk: int, kv_chunk: int, heads: int) -> Schedule:
    """The schedule for chunks of `q_chunk` queries and `kv_chunk` keys.

    Positions follow from the order if it is known and the sizes are equal; otherwise the program reads them.
    """
    return _schedule(order, mask, score, q_chunk, kv_chunk, heads)


@functools.lru_cache(maxsize=_KEPT)
def _schedule(order: Order, mask: Expr, score: Expr, q_chunk: int, kv_chunk: int, heads: int) -> Schedule:
    terms = mask.args if isinstance(mask, Apply) and mask.op == "&" else (mask,)
    count = order.chunks
    classes = [_classes(order, term, q_chunk, kv_chunk, heads) for term in terms]
    is_empty = functools.reduce(np.logical_or, (of_term == masks.EMPTY for of_term in classes))
    # A pattern has one bit for every term that hides something.
    pattern = np.zeros((count, count), np.int64)
    for bit, of_term in enumerate(classes):
        pattern |= (of_term != masks.FULL).astype(np.int64) << bit
    distance = np.subtract.outer(np.arange(count), np.arange(count))
    shifts = order.name is not None and all(map(is_relative, (*terms, score)))
    nowhere = 2 * count
    keys = np.where(is_empty, -1, pattern * (4 * count))
    for bits in np.unique(pattern[~is_empty]).tolist():
        if POSITIONS & (variables(_joined(terms, bits)) | variables(score)):
            here = (pattern == bits) & ~is_empty
            few = shifts and len(np.unique(distance[here])) <= _MOST_DISTANCES
            keys = np.where(here, keys + (distance + count if few else nowhere), keys)
    names, table = np.unique(keys, return_inverse=True)
    table = table.reshape(count, count) + (0 if names[0] == -1 else 1)
    cases: list[Case] = []
    for key in names[names >= 0].tolist():
        bits, place = divmod(key, 4 * count)
        left = _joined(terms, bits)
        if place == nowhere:
            cases.append(Case(left, reads_positions=True))
        else:
            cases.append(Case(left, place - count if place else None))
    return Schedule(order, tuple(cases), table)


def _joined(terms: Sequence[Expr], bits: int) -> Expr:
    kept = [term for bit, term in enumerate(terms) if bits >> bit & 1]
    return functools.reduce(lambda left, right: left & right, kept, masks.full)


def _classes(order: Order, term: Expr, q_chunk: int, kv_chunk: int, heads: int) -> npt.NDArray[np.int8]:
    """The class of a term of the mask for every pair of chunks."""
    if order.name is None or q_chunk != kv_chunk:
        anywhere = np.array([[-(2**31), 2**31 - 1]])
        ranges = np.repeat(anywhere, order.chunks, 0), np.repeat(anywhere, order.chunks, 0)
    else:
        first = np.arange(order.chunks) * q_chunk
        ranges = (np.stack([first, first + q_chunk - 1], 1),) * 2
    return masks.classify_tiles(term, *ranges, head=(0, max(0, heads - 1)), wide=("q_segment", "kv_segment"))


def is_relative(expr: Expr) -> bool:
    """Whether an expression reads positions only in differences and comparisons of the two, so that a shift of both
    changes nothing.
    """
    query, key = Var("q_pos"), Var("kv_pos")
    match expr:
        case Var(name=name):
            return name not in POSITIONS
        case Apply(op="-" | "<" | "<=" | ">" | ">=" | "==" | "!=", args=args) if set(args) == {query, key}:
            return True
        case Apply(args=args):
            return all(map(is_relative, args))
        case masks.Table(index=index):
            return is_relative(index)
        case _:
            return True


def work_in_scores(order: Order, mask: Expr, length: int, heads: int, finest: int = 128) -> npt.NDArray[np.float64]:
    """The share of the scores of its queries that every device computes, (parts,).

    It counts tiles of `finest` positions; they are larger where a sequence has more than `_MOST_ROWS` of them.
    """
    chunk = length // order.chunks
    rows = max(1, min(-(-chunk // finest), _MOST_ROWS // order.chunks))
    edges = chunk * np.arange(rows * order.chunks + 1) // rows
    ranges, sizes = np.stack([edges[:-1], edges[1:] - 1], 1), np.diff(edges)
    seen = masks.classify_tiles(mask, ranges, ranges, head=(0, max(0, heads - 1))) != masks.EMPTY
    by_row = sizes * (seen @ sizes)
    by_chunk = by_row.reshape(order.chunks, rows).sum(1) / (chunk * length)
    return by_chunk[order.held].mean(1)
