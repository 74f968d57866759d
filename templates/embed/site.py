"""The regions of `embed`: rows of a table, and the steps that follow before the first layer.

The pattern is `x = embed(ids, table)`, then any of `scale(x)`, `cast(x)`, `add(x, other)` and `norm(x, ...)`. A step
must be the only reader of the step before it.

"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, graph, node
from ropegen.template import Family, Region, Site, close

_STEPS = (ops.Scale, ops.Cast, ops.Add, ops.Norm)


@dataclass(frozen=True)
class Step:
    """One op on the rows: its value in the closed region, and the operand that holds the rows."""

    value: Node
    rows: Node

    @property
    def others(self) -> tuple[Node, ...]:
        return tuple(operand for operand in self.value.operands if operand is not self.rows)


@dataclass(frozen=True)
class EmbedSite(Site):
    """A lookup and the steps that follow it."""

    lookup: ops.Embed
    ids: Node
    table: Node
    steps: tuple[Step, ...]


def find(whole: Graph) -> Iterator[Region]:
    """Every lookup, with the steps after it, as long as a step is the only reader of the step before it."""
    users = whole.users()
    outputs = {value for _, value in whole.outputs}
    for start in whole.nodes:
        if not isinstance(start.op, ops.Embed):
            continue
        operands = {"ids": start.operands[0], "table": start.operands[1]}
        value = start
        while value not in outputs and len(users[value]) == 1 and _is_step(users[value][0], value):
            value = users[value][0]
            for operand in value.operands:
                if operand not in operands.values() and operand is not _rows(value):
                    operands[f"other{len(operands) - 2}"] = operand
        yield close("embed", operands, {"rows": value})


def site(closed: Graph) -> EmbedSite:
    """Reads a closed region, from its end back to the lookup."""
    ((_, value),) = closed.outputs
    steps: list[Step] = []
    while isinstance(value.op, _STEPS):
        rows = _rows(value)
        steps.append(Step(value, rows))
        value = rows
    if not isinstance(value.op, ops.Embed):
        raise RopegenError(f"an embed region starts with `embed`, not {value}")
    ids, table = value.operands
    return EmbedSite(closed, value.op, ids, table, tuple(reversed(steps)))


def covers(site: EmbedSite) -> Graph:
    """The region `x = embed(ids, table); x = step(x, ...)`, for each step."""
    value = node(site.lookup, site.ids, site.table)
    for step in site.steps:
        others = (value if operand is step.rows else operand for operand in step.value.operands)
        value = node(step.value.op, *others)
    return graph("embed", site.operands, {"rows": value})


def _rows(value: Node) -> Node:
    """The operand that holds the rows. For an `add`, it is the one that comes from a lookup and has the type of the
    result.
    """
    if not isinstance(value.op, ops.Add):
        return value.operands[0]
    a, b = value.operands
    return a if _looks_up(a) and a.type == value.type else b


def _looks_up(value: Node) -> bool:
    while isinstance(value.op, _STEPS):
        value = _rows(value)
    return isinstance(value.op, ops.Embed)


def _is_step(user: Node, value: Node) -> bool:
    same_shape = user.type.shape == value.type.shape and user.type.is_float
    return isinstance(user.op, _STEPS) and same_shape and user.operands.count(value) == 1 and _rows(user) is value


FAMILY = Family("embed", find, site, covers, lambda site: ())
