"""How attention over a sequence that several devices share is computed: the methods, their costs, and the choice.

"ring" moves keys and values around the devices, one block at a time, while devices compute. "gather" gives every device
all keys and values first. "ulysses" exchanges sequence for heads: every device computes all positions of some heads
(Jacobs et al. 2023). The times are estimates from the figures of one chip and of the links between chips.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

import numpy as np

from ropegen import masks
from ropegen.errors import RopegenError, nearest
from ropegen.expression import Expr, variables
from ropegen.ring import Order, schedule, work_in_scores
from ropegen.target import Target
from ropegen.types import TensorType

METHODS = ("ring", "gather", "ulysses")


@dataclass(frozen=True, slots=True)
class Shared:
    """An attention whose sequence several devices share. `q`, `k` and `v` are the types on one device."""

    q: TensorType
    k: TensorType
    v: TensorType
    order: Order
    mask: Expr = masks.full
    score: Expr = masks.identity

    @property
    def kv_bytes(self) -> int:
        return self.k.bytes + self.v.bytes

    @property
    def copies(self) -> int:
        """How often "ulysses" repeats a key head, so that every device has one."""
        heads, parts = self.k.shape[-2], self.order.parts
        return parts // gcd(heads, parts)

    def declines(self, method: str) -> Iterator[str]:
        """Why a method cannot compute it."""
        if method != "ulysses":
            return
        heads, kv_heads, parts = self.q.shape[-2], self.k.shape[-2], self.order.parts
        if heads % parts:
            yield f"{heads} heads do not divide among {parts} devices"
        elif heads % (kv_heads * self.copies):
            yield f"{kv_heads} key heads, {self.copies} times each, do not divide {heads} query heads"
        if {"head", "q_segment", "kv_segment"} <= variables(self.mask) | variables(self.score):
            yield "the mask and score read the head and the segments of both sides, and every device has other heads"


@dataclass(frozen=True, slots=True)
class Considered:
    """One method: its estimated time, or why it was declined."""

    method: str
    seconds: float = 0.0
    computes: float = 0.0
    """Seconds that the slowest device computes."""
    travels: float = 0.0
    """Seconds that what it receives is on the links. A ring computes meanwhile; the others wait."""
    sent: float = 0.0
    """Bytes that a device receives from others, forward."""
    held: float = 0.0
    """Bytes of keys and values that a device holds at a time."""
    notes: tuple[str, ...] = ()
    declined: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """The choice of a method, with every reason."""

    target: Target
    parts: int
    considered: tuple[Considered, ...]
    method: str
    """The method that is taken."""
    is_asked_for: bool = False
    """Whether the caller named the method."""

    def explain(self) -> str:
        """The choice and every reason, as text."""
        lines = [f"attention over {self.parts} devices ({self.target}): {self.method}, because {self._why}"]
        for one in self.considered:
            if one.declined:
                lines.append(f"  {one.method}: declined: {'; '.join(one.declined)}")
                continue
            meanwhile = "meanwhile" if one.method == "ring" else "before or after"
            lines += [
                f"  {one.method}: {_time(one.seconds)}; a device receives {_size(one.sent)} and holds {_size(one.held)} of "
                "keys and values",
                f"    the slowest device computes for {_time(one.computes)}; {meanwhile}, what it receives travels for "
                f"{_time(one.travels)}",
            ]
            lines += [f"    {note}" for note in one.notes]
        return "\n".join(lines)

    @property
    def _why(self) -> str:
        able = sorted((one for one in self.considered if not one.declined), key=lambda one: one.seconds)
        taken = next(one for one in able if one.method == self.method)
        others = [one for one in able if one is not taken]
        if not others:
            return "the others decline"
        best = others[0]
        if self.is_asked_for:
            slower = (
                f", although {best.method} is estimated at {_time(best.seconds)}"
                if best.seconds < taken.seconds
                else ""
            )
            return f"the caller asks for it{slower}"
        if best.seconds == taken.seconds:
            return f"it takes no more time than {best.method}"
        return f"{_time(taken.seconds)} is the least time; {best.method} comes next with {_time(best.seconds)}"

    def __str__(self) -> str:
        return self.explain()


def choose(shared: Shared, target: Target, method: str | None = None) -> ContextPlan:
    """The method that takes the least time on chips of a kind, or the one that is asked for.

    Raises:
      RopegenError: an unknown method, or one that cannot compute this attention.
    """
    if method is not None and method not in METHODS:
        raise RopegenError(f"context_parallel: method is {method!r:.60}; {nearest(str(method), METHODS)}")
    considered = tuple(_consider(shared, name, target) for name in METHODS)
    able = [one for one in considered if not one.declined]
    for one in considered:
        if one.method == method and one.declined:
            ways = " or ".join(f"method={other.method!r}" for other in able)
            raise RopegenError(f"context_parallel: method={method!r}: {'; '.join(one.declined)}; give {ways}")
    taken = method or min(able, key=lambda one: one.seconds).method
    return ContextPlan(target, shared.order.parts, considered, taken, method is not None)


def _consider(shared: Shared, method: str, target: Target) -> Considered:
    if declined := tuple(shared.declines(method)):
        return Considered(method, declined=declined)
    parts, block = shared.order.parts, shared.kv_bytes
    shares = _shares(shared)
    rate = target.figures.matmul(shared.q.dtype)
    products = 2.0 * shared.q.size * shared.k.shape[-3] * parts * (1 + shared.v.shape[-1] / max(1, shared.q.shape[-1]))
    slowest, average = products * float(np.max(shares)) / rate, products * float(np.mean(shares)) / rate
    link, launch = target.figures.link, target.figures.launch
    match method:
        case "ring":
            up, down = _hops(shared)
            sent = float(block * (up + down))
            # A block travels while devices compute, so only the excess shows.
            seconds = max(slowest, sent / link) + launch * (up + down)
            notes = (_travels(up, down, parts), _balance(shares))
            return Considered(method, seconds, slowest, sent / link, sent, 2.0 * block, notes)
        case "gather":
            sent = float(block * (parts - 1))
            seconds = slowest + sent / link + launch
            return Considered(method, seconds, slowest, sent / link, sent, float(block * parts), (_balance(shares),))
        case _:
            repeated = shared.copies * block
            out = shared.q.bytes // max(1, shared.q.shape[-1]) * shared.v.shape[-1]
            sent = (shared.q.bytes + repeated + out) * (parts - 1) / parts
            copies = f"each key head goes to {shared.copies} devices" if shared.copies > 1 else ""
            notes = tuple(note for note in ("every device computes all positions of its heads", copies) if note)
            seconds = average + sent / link + 4 * launch
            return Considered(method, seconds, average, sent / link, sent, float(repeated), notes)


def _hops(shared: Shared) -> tuple[int, int]:
    count = shared.order.per_device
    q_chunk, kv_chunk = shared.q.shape[-3] // count, shared.k.shape[-3] // count
    return schedule(shared.order, shared.mask, shared.score, q_chunk, kv_chunk, shared.q.shape[-2]).hops


def _shares(shared: Shared) -> np.ndarray:
    """The share of the scores of its queries that every device computes."""
    lengths = shared.q.shape[-3], shared.k.shape[-3]
    if shared.order.name is None or lengths[0] != lengths[1] or not lengths[0]:
        return np.ones(shared.order.parts)
    return work_in_scores(shared.order, shared.mask, lengths[0] * shared.order.parts, shared.q.shape[-2])


def _travels(up: int, down: int, parts: int) -> str:
    if up + down == parts - 1:
        return f"a block of keys makes {up + down} steps, past all devices"
    ways = f"{up} to later devices and {down} to earlier ones" if down else f"{up} to later devices"
    return f"a block of keys makes {up + down} of {parts - 1} steps ({ways}), because the mask hides it from the others"


def _balance(shares: np.ndarray) -> str:
    low, high = float(np.min(shares)), float(np.max(shares))
    if high - low <= 0.005:
        return f"every device computes {high:.0%} of the scores of its queries"
    return f"devices compute {low:.0%} to {high:.0%} of the scores of their queries"


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def _size(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"
