"""Rotary pairing: interleaved pairs become halves where the weights can be reordered instead of the activations.

Rotating interleaved pairs (0, 1), (2, 3), ... and then reordering features to halves is the same as reordering first
and rotating halves. One permutation of the features of q and k leaves q . k as it is. So where q and k are seen by
attention alone, the permutation moves through what works feature by feature into the weights, which are prepared
before the call; contiguous halves are what vector units read at full speed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ropegen.ir.ops import Attend, Cast, Norm, Pack, Project, ReorderPairs, Rotate, Scale, SplitHeads
from ropegen.passes.merge import columns
from ropegen.passes.mutable import Value, View
from ropegen.passes.rewrite import Pass, jointly, local


@local(Rotate)
def rotate_one_pair(value: Value, view: View) -> Value | None:
    """rotate(x, angles of 2, interleaved) -> rotate(x, angles of 2, half).

    One pair is the same pair either way.
    """
    x, angles = value.operands
    return view.node(Rotate(pairing="half"), x, angles) if angles.type.shape[-1] == 2 else None


@jointly(Attend)
def rotate_halves(value: Value, view: View) -> dict[Value, Value] | None:
    """attend(rotate(q, interleaved), rotate(k, interleaved), v) -> attend(rotate(q', half), rotate(k', half), v).

    q = split_heads(project(x, w)), and q' is the same with w reordered; k likewise. Casts, scales and norms over the
    head may stand between. All that reads q and k must be attention that scores one against the other: keys that go to
    a cache or an output keep their order.
    """
    q, k = value.operands[:2]
    readers = view.users(q)
    if set(readers) != set(view.users(k)) or view.is_output(q) or view.is_output(k):
        return None
    if any(
        not isinstance(each.op, Attend) or each.operands[:2] != (q, k) or {q, k} & set(each.operands[2:])
        for each in readers
    ):
        return None
    paths = tuple(dict.fromkeys((_path(q, view), _path(k, view))))
    orders = {_order_of(path) for path in paths}
    if len(orders) != 1:
        return None
    (order,) = orders
    found = None if order is None else _reordered(paths, order, view)
    if found is None:
        return None
    tops, equals = found
    q, k = tops[0], tops[-1]
    return equals | {each: view.node(each.op, q, k, *each.operands[2:]) for each in readers}


@jointly(ReorderPairs)
def reorder_weights(value: Value, view: View) -> dict[Value, Value] | None:
    """reorder_pairs(split_heads(project(x, w))) -> split_heads(project(x, reorder_pairs(w)))."""
    op, x = value.op, value.operands[0]
    assert isinstance(op, ReorderPairs)
    if view.only_user(x) is not value:
        return None
    path = _path(x, view)
    if any(isinstance(each.op, Rotate) for each in path):
        return None
    found = _reordered((path,), op, view)
    if found is None:
        return None
    (top,), equals = found
    return equals | {value: top}


def _path(value: Value, view: View) -> tuple[Value, ...]:
    """From `value` back to split_heads, each read by the one before alone; () where something else is on the way."""
    path = [value]
    while not isinstance(path[-1].op, SplitHeads):
        last = path[-1]
        if not isinstance(last.op, (Rotate, Norm, Cast, Scale)):
            return ()
        if isinstance(last.op, Norm) and not view.is_prepared(*last.operands[1:]):
            return ()
        if view.only_user(last.operands[0]) is not last:
            return ()
        path.append(last.operands[0])
    return tuple(path)


def _order_of(path: Sequence[Value]) -> ReorderPairs | None:
    """The reordering that makes the path's one interleaved rotation one of halves."""
    rotations = [each for each in path if isinstance(each.op, Rotate)]
    if len(rotations) != 1 or rotations[0].op != Rotate(pairing="interleaved"):
        return None
    return ReorderPairs(width=rotations[0].type.shape[-1], dim=rotations[0].operands[1].type.shape[-1], to="half")


def _reordered(
    paths: Sequence[tuple[Value, ...]], order: ReorderPairs, view: View
) -> tuple[list[Value], dict[Value, Value]] | None:
    """The tops of the paths with their features reordered, and what else must then be read otherwise; None where
    that is not free.
    """
    if not all(paths):
        return None
    splits = tuple(dict.fromkeys(path[-1] for path in paths))
    projections: dict[Value, Value] = {}
    equals: dict[Value, Value] = {}
    for project in dict.fromkeys(split.operands[0] for split in splits):
        here = [split for split in splits if split.operands[0] is project]
        made = _reordered_columns(project, here, order, view)
        if made is None:
            return None
        projections[project] = made
        others = (each for each in view.users(project) if each not in splits)
        equals |= {each: view.node(each.op, made) for each in others}
    tops: list[Value] = []
    for path in paths:
        value = view.node(path[-1].op, projections[path[-1].operands[0]])
        for each in reversed(path[:-1]):
            rest = each.operands[1:]
            op = Rotate(pairing="half") if isinstance(each.op, Rotate) else each.op
            if isinstance(op, Norm):
                rest = tuple(view.node(order, parameter) for parameter in rest)
            value = view.node(op, value, *rest)
        tops.append(value)
    return tops, equals


def _reordered_columns(project: Value, splits: Sequence[Value], order: ReorderPairs, view: View) -> Value | None:
    """The projection with the columns of `splits` reordered by its weights, and all other columns as they were."""
    if not isinstance(project.op, Project) or view.is_output(project) or not view.is_prepared(*project.operands[1:]):
        return None
    users = view.users(project)
    if not all(isinstance(each.op, SplitHeads) for each in users):
        return None
    taken: list[tuple[int, int]] = []
    for each in sorted(users, key=_span):
        start, stop = _span(each)
        if each in splits:
            taken.append((start, stop))
        elif any(start < other_stop and other_start < stop for other_start, other_stop in map(_span, splits)):
            return None  # somebody else reads these columns in their old order
    if any(start < stop for (_, stop), (start, _) in itertools.pairwise(taken)):
        return None
    edges = sorted({0, project.type.shape[-1], *(edge for span in taken for edge in span)})
    pieces = [(start, stop - start, (start, stop) in taken) for start, stop in itertools.pairwise(edges)]

    def reordered(parameter: Value) -> Value:
        parts = [(columns(parameter, start, size, view), turned) for start, size, turned in pieces]
        found = [view.node(order, part) if turned else part for part, turned in parts]
        return found[0] if len(found) == 1 else view.node(Pack(), *found)

    return view.node(project.op, project.operands[0], *map(reordered, project.operands[1:]))


def _span(split: Value) -> tuple[int, int]:
    assert isinstance(split.op, SplitHeads)
    return split.op.start, split.op.start + split.op.heads * split.op.width


PAIRING = Pass(
    "pairing",
    "Rotate halves instead of interleaved pairs, where reordering the weights makes it free.",
    (rotate_one_pair, rotate_halves, reorder_weights),
)
