"""The regions of `qkv_rope`: one projection, cut into parts of heads that may be normalised and rotated.

The pattern is `p = project(x, weight)` and, for each part, `rotate(norm(split_heads(p), ...), angles)`.

"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, graph, node
from ropegen.template import Family, Region, Site, close


@dataclass(frozen=True)
class Part:
    """The heads of one split, and the norm and rotation that follow, as nodes of the closed region."""

    split: Node
    norm: Node | None
    rotate: Node | None

    @property
    def steps(self) -> tuple[Node, ...]:
        """The norm and the rotation, those that are there, in order."""
        return tuple(step for step in (self.norm, self.rotate) if step is not None)


@dataclass(frozen=True)
class QkvRopeSite(Site):
    """A projection and its parts."""

    project: Node
    parts: tuple[Part, ...]


def find(whole: Graph) -> Iterator[Region]:
    """Two regions for every projection that is only cut into heads: with all steps of its parts, and with the norms
    alone.
    """
    users = whole.users()
    outputs = {value for _, value in whole.outputs}
    for project in whole.nodes:
        splits = users[project]
        if not isinstance(project.op, ops.Project) or project in outputs or not splits:
            continue
        if not all(isinstance(split.op, ops.SplitHeads) for split in splits):
            continue
        seen: set[tuple[Node, ...]] = set()
        for kinds in ((ops.Norm, ops.Rotate), (ops.Norm,)):
            ends = tuple(_follow(split, users, outputs, kinds) for split in splits)
            if ends not in seen:
                seen.add(ends)
                yield _region(project, ends)


def _follow(value: Node, users: dict[Node, tuple[Node, ...]], outputs: set[Node], kinds: tuple[type, ...]) -> Node:
    """The last node of the part that starts with a split. A norm, then a rotation follow it if they are the only
    readers.
    """
    for kind in kinds:
        if value not in outputs and len(users[value]) == 1:
            (user,) = users[value]
            if isinstance(user.op, kind) and user.operands[0] is value and value not in user.operands[1:]:
                value = user
    return value


def _region(project: Node, ends: tuple[Node, ...]) -> Region:
    operands: dict[str, Node] = dict(zip(("x", "weight", "bias"), project.operands, strict=False))
    for index, end in enumerate(ends):
        value = end
        while not isinstance(value.op, ops.SplitHeads):
            names = value.op.operand_names()[1:]
            for name, operand in zip(names, value.operands[1:], strict=True):
                label = "angles" if name == "angles" else f"norm_{name}"
                if operand not in operands.values():
                    operands[f"{label}{index}"] = operand
            value = value.operands[0]
    return close("qkv_rope", operands, {f"part{index}": end for index, end in enumerate(ends)})


def site(closed: Graph) -> QkvRopeSite:
    """Reads a closed region, from the end of each part back to the projection."""
    parts: list[Part] = []
    for _, value in closed.outputs:
        norm = rotate = None
        if isinstance(value.op, ops.Rotate):
            rotate, value = value, value.operands[0]
        if isinstance(value.op, ops.Norm):
            norm, value = value, value.operands[0]
        parts.append(Part(value, norm, rotate))
    project = parts[0].split.operands[0] if parts[0].split.operands else parts[0].split
    if not isinstance(project.op, ops.Project):
        raise RopegenError(f"a qkv_rope region starts with `project`, not {project}")
    return QkvRopeSite(closed, project, tuple(parts))


def covers(site: QkvRopeSite) -> Graph:
    """The region `p = project(x, weight, bias); part = rotate(norm(split_heads(p), ...), angles)`, for each part."""
    projected = node(site.project.op, *site.project.operands)
    parts: dict[str, Node] = {}
    for index, part in enumerate(site.parts):
        value = node(part.split.op, projected)
        for step in part.steps:
            value = node(step.op, value, *step.operands[1:])
        parts[f"part{index}"] = value
    return graph("qkv_rope", site.operands, parts)


FAMILY = Family("qkv_rope", find, site, covers, lambda site: ())
