"""Which pure operations of a block may run as one call, without moving anything else of the block."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """An operation that may be called with others, by its place in the block.

    `reads` are the members whose results it reads. `after` is the last other operation that it reads (-1: none),
    `before` the first other operation that reads it (the length of the block: none).
    """

    reads: frozenset[int]
    after: int
    before: int


@dataclass(frozen=True, slots=True)
class Group:
    """Members that run as one call, placed right after the operation `after` and after the groups before it."""

    members: tuple[int, ...]
    after: int


def group(members: Mapping[int, Member]) -> tuple[Group, ...]:
    """The groups in an order in which they can be called.

    Members that read each other go together, all of them where that is possible; else as many as are, from the
    last one back, so that an operation is with what it reads rather than with what reads the same.
    """
    owner = {each: each for each in members}
    for together in _connected(members):
        tried = {**owner, **dict.fromkeys(together, min(together))}
        if _places(members, tried) is not None:
            owner = tried
            continue
        for each in sorted(together, reverse=True):
            for read in sorted(members[each].reads, reverse=True):
                into, gone = sorted((owner[each], owner[read]))
                tried = {member: into if its == gone else its for member, its in owner.items()}
                if _places(members, tried) is not None:
                    owner = tried
    places = _places(members, owner)
    assert places is not None  # every member alone is where it was
    return tuple(
        Group(tuple(sorted(each for each, its in owner.items() if its == name)), after)
        for name, after in places.items()
    )


def _connected(members: Mapping[int, Member]) -> list[list[int]]:
    """The members in sets that read each other, in order."""
    root = {each: each for each in members}

    def find(each: int) -> int:
        while root[each] != each:
            root[each] = root[root[each]]
            each = root[each]
        return each

    for each, member in members.items():
        for read in member.reads:
            root[find(each)] = find(read)
    found: dict[int, list[int]] = {}
    for each in sorted(members):
        found.setdefault(find(each), []).append(each)
    return list(found.values())


def _places(members: Mapping[int, Member], owner: Mapping[int, int]) -> dict[int, int] | None:
    """After which operation each group can be called, in order; None where one would wait for its own result."""
    reads: dict[int, set[int]] = {each: set() for each in sorted(set(owner.values()))}
    readers: dict[int, set[int]] = {each: set() for each in reads}
    after, before = dict.fromkeys(reads, -1), {}
    for each, member in members.items():
        its = owner[each]
        after[its] = max(after[its], member.after)
        before[its] = min(before.get(its, member.before), member.before)
        for read in member.reads:
            if owner[read] != its:
                reads[its].add(owner[read])
                readers[owner[read]].add(its)
    order = _in_order(reads, readers)
    if order is None:
        return None
    for each in order:
        after[each] = max([after[each], *(after[read] for read in reads[each])])
    if any(after[each] >= before[each] for each in order):
        return None
    return {each: after[each] for each in sorted(order, key=lambda each: after[each])}  # stable: in order where equal


def _in_order(reads: Mapping[int, Collection[int]], readers: Mapping[int, Iterable[int]]) -> Sequence[int] | None:
    """The groups, each after those it reads; None where they wait for each other."""
    waits = {each: len(its) for each, its in reads.items()}
    order = [each for each, count in waits.items() if not count]
    for each in order:
        for reader in sorted(readers[each]):
            waits[reader] -= 1
            if not waits[reader]:
                order.append(reader)
    return order if len(order) == len(reads) else None
