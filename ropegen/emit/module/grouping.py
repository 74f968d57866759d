"""Which pure operations of a block may run as one call, without moving any other operation of the block."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Member:
    """An operation that may join others in one call; operations are named by their index in the block.

    `reads` are the members whose results it reads. `after` is the last other operation that it reads (-1 if there is
    none), and `before` the first other operation that reads it (the length of the block if there is none).
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
    """The groups, in an order in which they can be called.

    Members that read each other form one group if that is possible. Otherwise groups grow from the last member back, so
    that a member joins the members that it reads rather than other readers of the same member.
    """
    owner = {index: index for index in members}  # a member: the name of its group, which is one of its members
    for connected in _connected(members):
        tried = {**owner, **dict.fromkeys(connected, min(connected))}
        if _places(members, tried) is not None:
            owner = tried
            continue
        for index in sorted(connected, reverse=True):
            for read in sorted(members[index].reads, reverse=True):
                kept, joined = sorted((owner[index], owner[read]))
                tried = {member: kept if name == joined else name for member, name in owner.items()}
                if _places(members, tried) is not None:
                    owner = tried
    places = _places(members, owner)
    assert places is not None  # if every member is a group of its own, the order of the block is valid
    return tuple(
        Group(tuple(sorted(index for index, owned_by in owner.items() if owned_by == name)), after)
        for name, after in places.items()
    )


def _connected(members: Mapping[int, Member]) -> list[list[int]]:
    """The sets of members that read each other, directly or through other members; sorted."""
    root = {index: index for index in members}

    def find(index: int) -> int:
        while root[index] != index:
            root[index] = root[root[index]]
            index = root[index]
        return index

    for index, member in members.items():
        for read in member.reads:
            root[find(index)] = find(read)
    sets: dict[int, list[int]] = {}
    for index in sorted(members):
        sets.setdefault(find(index), []).append(index)
    return list(sets.values())


def _places(members: Mapping[int, Member], owner: Mapping[int, int]) -> dict[int, int] | None:
    """The operation after which a group can be called, by group and in order; None if a group would wait for itself."""
    reads: dict[int, set[int]] = {name: set() for name in sorted(set(owner.values()))}
    readers: dict[int, set[int]] = {name: set() for name in reads}
    after, before = dict.fromkeys(reads, -1), {}
    for index, member in members.items():
        name = owner[index]
        after[name] = max(after[name], member.after)
        before[name] = min(before.get(name, member.before), member.before)
        for read in member.reads:
            if owner[read] != name:
                reads[name].add(owner[read])
                readers[owner[read]].add(name)
    order = _in_order(reads, readers)
    if order is None:
        return None
    for name in order:
        after[name] = max([after[name], *(after[read] for read in reads[name])])
    if any(after[name] >= before[name] for name in order):
        return None
    return {name: after[name] for name in sorted(order, key=lambda name: after[name])}  # the sort is stable


def _in_order(reads: Mapping[int, Collection[int]], readers: Mapping[int, Iterable[int]]) -> Sequence[int] | None:
    """The groups, with every group after those that it reads; None if groups wait for each other."""
    waits = {name: len(read) for name, read in reads.items()}
    order = [name for name, count in waits.items() if not count]
    for name in order:
        for reader in sorted(readers[name]):
            waits[reader] -= 1
            if not waits[reader]:
                order.append(reader)
    return order if len(order) == len(reads) else None
