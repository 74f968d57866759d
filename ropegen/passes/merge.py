"""One matmul for the projections of queries, keys and values."""

from __future__ import annotations

import dataclasses

from ropegen.ir.graph import topological
from ropegen.ir.ops import (
    AppendCache,
    Attend,
    Cast,
    MergeHeads,
    Norm,
    Pack,
    Project,
    ReorderPairs,
    Rotate,
    Scale,
    SplitHeads,
    Transpose,
)
from ropegen.passes.mutable import Value, View
from ropegen.passes.rewrite import Pass, jointly


@jointly(Attend)
def merge_projections(value: Value, view: View) -> dict[Value, Value] | None:
    """project(x, wq), project(x, wk), project(x, wv) -> columns of project(x, pack(wq, wk, wv)).

    These are the projections behind the q, k and v of one attention, in this order. They read one x, and their weights
    are prepared before the call, so packing costs nothing. The rule refrains if only some have a bias: the others
    would need zeros.
    """
    together: dict[Value, dict[Value, None]] = {}
    for operand in value.operands[:3]:
        project = _projection(operand)
        if project is not None and view.is_prepared(*project.operands[1:]):
            together.setdefault(project.operands[0], {})[project] = None
    for projects in together.values():
        alike = len({project.op for project in projects}) == 1
        weights = [weight for project in projects for weight in project.operands[1:]]
        # A weight computed from another of these projections (of a constant x) cannot be packed beside its own.
        if len(projects) > 1 and alike and projects.keys().isdisjoint(topological(weights)):
            return _merged(tuple(projects), view)
    return None


def _projection(value: Value) -> Value | None:
    """The projection whose features reach `value` through ops that work head by head or only move features."""
    while not isinstance(value.op, Project):
        if isinstance(value.op, (Norm, Rotate, Scale, Cast, Transpose, SplitHeads, MergeHeads, ReorderPairs)):
            value = value.operands[0]
        elif isinstance(value.op, AppendCache):
            value = value.operands[1]
        else:
            return None
    return value


def _merged(projects: tuple[Value, ...], view: View) -> dict[Value, Value]:
    parameters = zip(*(project.operands[1:] for project in projects), strict=True)
    whole = view.node(projects[0].op, projects[0].operands[0], *(view.node(Pack(), *parts) for parts in parameters))
    equals: dict[Value, Value] = {}
    start = 0
    for project in projects:
        for user in view.users(project):
            if isinstance(user.op, SplitHeads):
                equals[user] = view.node(dataclasses.replace(user.op, start=start + user.op.start), whole)
        size = project.type.shape[-1]
        if view.is_output(project) or not equals.keys() >= set(view.users(project)):
            equals[project] = columns(whole, start, size, view)
        start += size
    return equals


def columns(x: Value, start: int, size: int, view: View) -> Value:
    """Columns start .. start + size of x: (..., F) -> (..., size)."""
    if (start, size) == (0, x.type.shape[-1]):
        return x
    return view.node(MergeHeads(), view.node(SplitHeads(heads=1, width=size, start=start), x))


MERGE = Pass("merge", "Project queries, keys and values by one matmul.", (merge_projections,))
