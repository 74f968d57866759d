"""The choice of the offered regions that together save the most.

An *offer* is a region of a graph, seen as the nodes that it claims and the time that it saves. Two offers that claim one
node exclude each other. A region starts when all of its operands are ready, and its outputs are ready at its end. So two
offers can also wait for each other: A reads a value of B, and B reads another value of A. Such offers exclude each other
too, and three or more can wait for each other in a ring.

The offers fall into groups that neither overlap nor wait for each other, and every group is searched on its own. The
search decides one offer after the other and keeps the best choice for every distinct rest of the problem. The search is
exact. A group with more distinct rests than `STATES` is not searched: its offers are taken one after another, the largest
saving first, and the result says so.

Here nodes and offers are numbers, so that a test can compare the result with brute force.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

# How many distinct rests the search of a group keeps at once. After i of n overlapping offers there are at most
# min(2**i, 2**(n - i)) of them, so 28 offers never exceed 2**14. Offers usually overlap only with their neighbours, and
# then hundreds of them stay below it. At the bound, a search takes about half a second.
STATES = 1 << 14


@dataclass(frozen=True, slots=True)
class Offer:
    """A region that could be taken."""

    claims: frozenset[int]
    """The nodes that it computes. If it is taken, no other offer may compute them."""
    saving: tuple[float, ...]
    """What it saves, never negative. The sum of the first numbers decides; between equal sums the second does, and so on."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The numbers of the offers that are taken, and the groups that were not searched."""

    taken: tuple[int, ...]
    unsearched: tuple[tuple[int, ...], ...]
    """The groups with more than `STATES` distinct rests."""


def choose(reads: Sequence[Iterable[int]], offers: Sequence[Offer]) -> Choice:
    """The offers that together save the most; among equal choices, the one that takes the earliest offers.

    `reads` gives the nodes that every node reads; a node reads only nodes of smaller numbers.
    """
    taken: list[int] = []
    unsearched: list[tuple[int, ...]] = []
    for nodes, members in _groups(reads, offers):
        group = _Group.of(reads, nodes, [offers[member] for member in members])
        chosen = _searched(group)
        if chosen is None:
            chosen = _one_after_another(group)
            unsearched.append(tuple(members))
        taken += [members[index] for index in chosen]
    return Choice(tuple(sorted(taken)), tuple(sorted(unsearched)))


def waiting_for_themselves(reads: Sequence[Iterable[int]], claims: Sequence[frozenset[int]]) -> frozenset[int]:
    """The numbers of the sets of nodes that read, through nodes outside of them, what they compute themselves."""
    owners = _owners(len(reads), claims)
    left: list[int] = []
    """For every node, the sets (as bits) from which a path leads to it that has left the set."""
    waiting = 0
    for node, operands in enumerate(reads):
        bits = 0
        for operand in operands:
            bits |= left[operand] | (owners[operand] & ~owners[node])
        left.append(bits)
        waiting |= bits & owners[node]
    return frozenset(_bits(waiting))


def _owners(count: int, claims: Sequence[frozenset[int]]) -> list[int]:
    """For every node, the sets that hold it, as bits."""
    owners = [0] * count
    for index, nodes in enumerate(claims):
        for node in nodes:
            owners[node] |= 1 << index
    return owners


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _groups(reads: Sequence[Iterable[int]], offers: Sequence[Offer]) -> Iterator[tuple[list[int], list[int]]]:
    """The nodes and the offers of every group, in ascending order.

    Join every offer with its nodes, in both directions: offers that overlap, and offers that could wait for each other, are
    then strongly connected, and so is every path between them.
    """
    count = len(reads)
    edges: list[list[int]] = [list(operands) for operands in reads]
    for index, offer in enumerate(offers):
        edges.append(list(offer.claims))
        for node in offer.claims:
            edges[node].append(count + index)
    for component in _strongly_connected(edges):
        members = sorted(vertex - count for vertex in component if vertex >= count)
        if members:
            yield sorted(vertex for vertex in component if vertex < count), members


def _strongly_connected(edges: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """The strongly connected components of a directed graph, by Tarjan's algorithm."""
    number: dict[int, int] = {}
    lowest: dict[int, int] = {}
    path: list[int] = []
    done: set[int] = set()
    for root in range(len(edges)):
        if root in number:
            continue
        pending = [(root, iter(edges[root]))]
        number[root] = lowest[root] = len(number)
        path.append(root)
        while pending:
            vertex, remaining = pending[-1]
            for target in remaining:
                if target not in number:
                    number[target] = lowest[target] = len(number)
                    path.append(target)
                    pending.append((target, iter(edges[target])))
                    break
                if target not in done:
                    lowest[vertex] = min(lowest[vertex], number[target])
            else:
                pending.pop()
                if pending:
                    above = pending[-1][0]
                    lowest[above] = min(lowest[above], lowest[vertex])
                if lowest[vertex] == number[vertex]:
                    component = [path.pop()]
                    while component[-1] != vertex:
                        component.append(path.pop())
                    done.update(component)
                    yield component


_State = tuple[int, tuple[int, ...]]
"""The rest of a problem: the offers that are still open, and for every offer the open ones that it waits for; as bits.

The second part is empty if no offers can wait for each other in a ring.
"""


@dataclass(frozen=True, slots=True)
class _Group:
    """Offers that overlap or could wait for each other, numbered from 0."""

    savings: tuple[tuple[float, ...], ...]
    excluded: tuple[int, ...]
    """For every offer, the offers that share a node with it, including itself; as bits."""
    start: _State

    @staticmethod
    def of(reads: Sequence[Iterable[int]], nodes: Sequence[int], offers: Sequence[Offer]) -> _Group:
        """The group of these offers; every path between two of them runs through `nodes`."""
        place = {node: index for index, node in enumerate(nodes)}
        inner = [[place[operand] for operand in reads[node] if operand in place] for node in nodes]
        claims = [frozenset(place[node] for node in offer.claims) for offer in offers]
        owners = _owners(len(nodes), claims)
        excluded = [0] * len(offers)
        before = [0] * len(offers)
        """For every offer, those that it waits for."""
        above: list[int] = []
        """For every node, the offers with a node above it."""
        for index, operands in enumerate(inner):
            bits = 0
            for operand in operands:
                bits |= above[operand] | owners[operand]
            above.append(bits)
            for owner in _bits(owners[index]):
                excluded[owner] |= owners[index]
                before[owner] |= bits
        open_ = (1 << len(offers)) - 1
        for index in waiting_for_themselves(inner, claims):
            open_ &= ~(1 << index)
        able = [bits & ~excluded[index] & open_ if open_ >> index & 1 else 0 for index, bits in enumerate(before)]
        rows = _in_rings(able)
        return _Group(tuple(offer.saving for offer in offers), tuple(excluded), (open_, rows))

    def take(self, state: _State, index: int) -> _State:
        """The rest after an open offer is taken. Offers that it excludes, or that would now wait for themselves, are closed."""
        open_, rows = state
        open_ &= ~self.excluded[index]
        if rows and rows[index]:
            through = rows[index]
            rows = tuple(row | through if row >> index & 1 else row for row in rows)
            for other in _bits(open_):
                if rows[other] >> other & 1:
                    open_ &= ~(1 << other)
        return _only_open(open_, rows)


def _only_open(open_: int, rows: tuple[int, ...]) -> _State:
    rows = tuple(row & open_ if open_ >> index & 1 else 0 for index, row in enumerate(rows))
    return open_, rows if any(rows) else ()


def _in_rings(before: Sequence[int]) -> tuple[int, ...]:
    """For every offer, the offers in a ring with it that it waits for; empty if there is no ring at all."""
    rows = [0] * len(before)
    for component in _strongly_connected([list(_bits(bits)) for bits in before]):
        ring = sum(1 << index for index in component)
        for index in component:
            rows[index] = before[index] & ring
    return tuple(rows) if any(rows) else ()


def _searched(group: _Group) -> list[int] | None:
    """The best choice; None if the search would have to keep more than `STATES` distinct rests."""
    nothing = (0.0,) * len(group.savings[0])
    # The offers taken so far are bits with the first offer on top, so that the larger number took the earlier offer.
    best: dict[_State, tuple[tuple[float, ...], int]] = {group.start: (nothing, 0)}
    for index, saving in enumerate(group.savings):
        following: dict[_State, tuple[tuple[float, ...], int]] = {}
        for state, (total, taken) in best.items():
            open_, rows = state
            options = [(_only_open(open_ & ~(1 << index), rows), (total, taken << 1))]
            if open_ >> index & 1:
                sums = tuple(a + b for a, b in zip(total, saving, strict=True))
                options.append((group.take(state, index), (sums, taken << 1 | 1)))
            for rest, reached in options:
                if rest not in following or reached > following[rest]:
                    following[rest] = reached
        if len(following) > STATES:
            return None
        best = following
    ((_, taken),) = best.values()
    return [index for index in range(len(group.savings)) if taken >> (len(group.savings) - 1 - index) & 1]


def _one_after_another(group: _Group) -> list[int]:
    """The offers that are taken one after another, the largest saving first, if they are still open."""
    state = group.start
    taken: list[int] = []
    for index in sorted(range(len(group.savings)), key=lambda offer: group.savings[offer], reverse=True):
        if state[0] >> index & 1:
            state = group.take(state, index)
            taken.append(index)
    return taken
