"""Rotary pairing: interleaved pairs become halves if the weights can be reordered instead of the activations.

Rotating interleaved pairs (0, 1), (2, 3), ... and then reordering features to halves is the same as reordering first
and rotating halves. The dot product of q and k does not change when both are permuted alike. Therefore, if attention
alone reads q and k, the permutation moves through the ops that work feature by feature into the weights, which are
prepared before the call. Vector units read contiguous halves at full speed.
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

    One pair is the same pair in both pairings.
    """
    x, angles = value.operands
    return view.node(Rotate(pairing="half"), x, angles) if angles.type.shape[-1] == 2 else None


@jointly(Attend)
def rotate_halves(value: Value, view: View) -> dict[Value, Value] | None:
    """attend(rotate(q, interleaved), rotate(k, interleaved), v) -> attend(rotate(q', half), rotate(k', half), v).

    Here q = split_heads(project(x, w)), and q' is the same with w reordered; k likewise. Casts, scales and norms over
    the head may stand between. Only attention that scores q against k may read them: keys that go to a cache or to an
    output keep their order.
    """
    q, k = value.operands[:2]
    readers = view.users(q)
    if readers != view.users(k) or view.is_output(q) or view.is_output(k):
        return None
    if any(
        not isinstance(reader.op, Attend) or reader.operands[:2] != (q, k) or {q, k} & set(reader.operands[2:])
        for reader in readers
    ):
        return None
    paths = tuple(dict.fromkeys((_path(q, view), _path(k, view))))
    orders = {_order_of(path) for path in paths}
    if len(orders) != 1:
        return None
    (order,) = orders
    result = None if order is None else _reordered(paths, order, view)
    if result is None:
        return None
    tops, equals = result
    q, k = tops[0], tops[-1]
    return equals | {reader: view.node(reader.op, q, k, *reader.operands[2:]) for reader in readers}


@jointly(ReorderPairs)
def reorder_weights(value: Value, view: View) -> dict[Value, Value] | None:
    """reorder_pairs(split_heads(project(x, w))) -> split_heads(project(x, reorder_pairs(w)))."""
    op, x = value.op, value.operands[0]
    assert isinstance(op, ReorderPairs)
    if view.only_user(x) is not value:
        return None
    path = _path(x, view)
    if any(isinstance(step.op, Rotate) for step in path):
        return None
    result = _reordered((path,), op, view)
    if result is None:
        return None
    (top,), equals = result
    return equals | {value: top}


def _path(value: Value, view: View) -> tuple[Value, ...]:
    """The values from `value` back to split_heads, if the one before is the only reader; () otherwise."""
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
    """The reordering that turns the one interleaved rotation of the path into a rotation of halves."""
    rotations = [step for step in path if isinstance(step.op, Rotate)]
    if len(rotations) != 1 or rotations[0].op != Rotate(pairing="interleaved"):
        return None
    return ReorderPairs(width=rotations[0].type.shape[-1], dim=rotations[0].operands[1].type.shape[-1], to="half")


def _reordered(
    paths: Sequence[tuple[Value, ...]], order: ReorderPairs, view: View
) -> tuple[list[Value], dict[Value, Value]] | None:
    """The tops of the paths with their features reordered, and the other values that must then be replaced.

    None if that would need work at run time.
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
        others = (user for user in view.users(project) if user not in splits)
        equals |= {user: view.node(user.op, made) for user in others}
    tops: list[Value] = []
    for path in paths:
        value = view.node(path[-1].op, projections[path[-1].operands[0]])
        for step in reversed(path[:-1]):
            rest = step.operands[1:]
            op = Rotate(pairing="half") if isinstance(step.op, Rotate) else step.op
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
    if not all(isinstance(user.op, SplitHeads) for user in users):
        return None
    taken: list[tuple[int, int]] = []
    for user in sorted(users, key=_span):
        start, stop = _span(user)
        if user in splits:
            taken.append((start, stop))
        elif any(start < other_stop and other_start < stop for other_start, other_stop in map(_span, splits)):
            return None  # another split reads these columns in their old order
    if any(start < stop for (_, stop), (start, _) in itertools.pairwise(taken)):
        return None
    edges = sorted({0, project.type.shape[-1], *(edge for span in taken for edge in span)})
    pieces = [(start, stop - start, (start, stop) in taken) for start, stop in itertools.pairwise(edges)]

    def reordered(parameter: Value) -> Value:
        cut = [(columns(parameter, start, size, view), is_taken) for start, size, is_taken in pieces]
        parts = [view.node(order, part) if is_taken else part for part, is_taken in cut]
        return parts[0] if len(parts) == 1 else view.node(Pack(), *parts)

    return view.node(project.op, project.operands[0], *map(reordered, project.operands[1:]))


def _span(split: Value) -> tuple[int, int]:
    assert isinstance(split.op, SplitHeads)
    return split.op.start, split.op.start + split.op.heads * split.op.width


PAIRING = Pass(
    "pairing",
    "Rotate halves instead of interleaved pairs, where reordering the weights makes it free.",
    (rotate_one_pair, rotate_halves, reorder_weights),
)
