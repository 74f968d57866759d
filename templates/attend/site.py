"""The regions of `attend`: attention, with the rotations of its queries and keys if they come directly before it.

The pattern is `attend(rotate(q, q_angles), rotate(k, k_angles), v, ...)`. It returns the output, the log-sum-exp, or
both.

"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, graph, node
from ropegen.template import Family, Region, Site, close


@dataclass(frozen=True)
class AttendSite(Site):
    """One attention: its op, the sources of its operands, and the rotations of q and k inside the region.

    `sources` maps q, k, v, q_angles, k_angles and the optional operands of the op to nodes of the closed
    region: inputs, or `positions` whose values are known when the plan is made.
    """

    op: ops.Attend
    sources: Mapping[str, Node]
    q_pairing: str | None
    k_pairing: str | None

    @property
    def positions(self) -> dict[str, ops.Positions]:
        """The positions whose values are known when the plan is made, by operand name."""
        return {name: source.op for name, source in self.sources.items() if isinstance(source.op, ops.Positions)}

    @property
    def values(self) -> tuple[Node, Node, Node]:
        """q, k and v as attention reads them, rotated if the region rotates them."""
        q, k, v = (self.sources[name] for name in ("q", "k", "v"))
        if self.q_pairing is not None:
            q = node(ops.Rotate(pairing=self.q_pairing), q, self.sources["q_angles"])
        if self.k_pairing is not None:
            k = node(ops.Rotate(pairing=self.k_pairing), k, self.sources["k_angles"])
        return q, k, v

    @property
    def order(self) -> tuple[str, ...]:
        """What kernels return, in order: the outputs of the region, then the residuals."""
        returned = tuple(label for label, _ in self.closed.outputs)
        return (*returned, *(what for what in ("output", "log_sum_exp") if what not in returned))

    def returning(self, what: str) -> Node:
        """The `attend` that returns the "output" or the "log_sum_exp"."""
        given = (self.sources[name] for name in self.op.given)
        return node(dataclasses.replace(self.op, returns=what), *self.values, *given)


def find(whole: Graph) -> Iterator[Region]:
    """Up to three regions for every attention: with both rotations inside, with that of the queries, and with none."""
    users = whole.users()
    outputs = {value for _, value in whole.outputs}
    for first in whole.nodes:
        if not isinstance(first.op, ops.Attend):
            continue
        twins = [user for user in users[first.operands[0]] if _same_attention(first, user)]
        if twins[0] is not first:
            continue  # the region begins at its twin
        inside = {
            name: not (value in outputs or set(users[value]) - set(twins))
            for name, value in zip("qk", first.operands, strict=False)
            if isinstance(value.op, ops.Rotate)
        }
        for names in dict.fromkeys(tuple(n for n in choice if inside.get(n)) for choice in ("qk", "q", "")):
            yield _region(twins, names)


def _same_attention(first: Node, other: Node) -> bool:
    if not isinstance(other.op, ops.Attend) or other.operands != first.operands:
        return False
    return isinstance(first.op, ops.Attend) and dataclasses.replace(other.op, returns=first.op.returns) == first.op


def _region(twins: list[Node], rotated: tuple[str, ...]) -> Region:
    op = twins[0].op
    assert isinstance(op, ops.Attend)
    operands: dict[str, Node] = {}
    for name, value in zip(op.operand_names(), twins[0].operands, strict=True):
        if name in rotated:
            operands[name], operands[f"{name}_angles"] = value.operands
        elif not isinstance(value.op, ops.Positions):
            operands[name] = value
    return close("attend", operands, {_returns(twin): twin for twin in twins})


def _returns(value: Node) -> str:
    assert isinstance(value.op, ops.Attend)
    return value.op.returns


def site(closed: Graph) -> AttendSite:
    """Reads a closed region, from its attention back through the rotations."""
    attention = closed.outputs[0][1]
    op = attention.op
    if not isinstance(op, ops.Attend):
        raise RopegenError(f"an attend region ends with `attend`, not {attention}")
    sources: dict[str, Node] = {}
    pairings: dict[str, str] = {}
    for name, value in zip(op.operand_names(), attention.operands, strict=True):
        if isinstance(value.op, ops.Rotate):
            pairings[name] = value.op.pairing
            sources[name], sources[f"{name}_angles"] = value.operands
        else:
            sources[name] = value
    return AttendSite(closed, op, sources, pairings.get("q"), pairings.get("k"))


def covers(site: AttendSite) -> Graph:
    """The region `attend(rotate(q), rotate(k), v, ...)`, for each value that it returns."""
    return graph("attend", site.operands, {label: site.returning(label) for label, _ in site.closed.outputs})


def residuals(site: AttendSite) -> tuple[Node, ...]:
    """The output and the log-sum-exp, without those that the region itself returns."""
    return tuple(map(site.returning, site.order[len(site.closed.outputs) :]))


FAMILY = Family("attend", find, site, covers, residuals)
