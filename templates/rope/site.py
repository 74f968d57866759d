"""The regions of `rope`: rotations by the same angles, such as those of queries and keys.

The pattern is `rotate(x, angles)` for every x; one pass over memory can then read the angles once for all of them.

"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, graph, node
from ropegen.template import Family, Region, Site, close

# The most rotations of a region: a kernel has code of its own for every one.
_MOST = 8


@dataclass(frozen=True)
class RopeSite(Site):
    """Rotations by one value of angles, as nodes of the closed region."""

    angles: Node

    @property
    def pairings(self) -> tuple[str, ...]:
        """The pairing of every rotation."""
        return tuple(_rotation(value).pairing for value in self.outputs)

    @property
    def sources(self) -> tuple[Node, ...]:
        """What every rotation rotates."""
        return tuple(value.operands[0] for value in self.outputs)


def find(whole: Graph) -> Iterator[Region]:
    """Every rotation by itself, and the rotations by the same angles of which none depends on another."""
    for together in _together(whole):
        if len(together) > 1:
            yield _region(together)
        for value in together:
            yield _region([value])


def _together(whole: Graph) -> list[list[Node]]:
    """The rotations of a graph, in groups with the same angles and leading sizes, none above another."""
    groups: list[list[Node]] = []
    latest: dict[tuple[Node, tuple[int, ...]], int] = {}
    above: dict[Node, int] = {}
    """The groups with a rotation above a node, as bits."""
    for value in whole.nodes:
        before = 0
        for operand in value.operands:
            before |= above[operand]
        if isinstance(value.op, ops.Rotate):
            key = value.operands[1], value.type.shape[:-3]
            number = latest.get(key)
            if number is None or before >> number & 1 or len(groups[number]) == _MOST:
                number = latest[key] = len(groups)
                groups.append([])
            groups[number].append(value)
            before |= 1 << number
        above[value] = before
    return groups


def _region(rotations: list[Node]) -> Region:
    operands = {f"x{index}": value.operands[0] for index, value in enumerate(rotations)}
    operands["angles"] = rotations[0].operands[1]
    return close("rope", operands, {f"out{index}": value for index, value in enumerate(rotations)})


def site(closed: Graph) -> RopeSite:
    """Reads a closed region.

    Raises:
      RopegenError: an output is no rotation.
    """
    for _, value in closed.outputs:
        _rotation(value)
    return RopeSite(closed, closed.outputs[0][1].operands[1])


def _rotation(value: Node) -> ops.Rotate:
    if not isinstance(value.op, ops.Rotate):
        raise RopegenError(f"a rope region ends with `rotate`, not {value}")
    return value.op


def covers(site: RopeSite) -> Graph:
    """The region `rotate(x, angles)`, for every x."""
    turned = (node(value.op, value.operands[0], site.angles) for value in site.outputs)
    return graph("rope", site.operands, {f"out{index}": value for index, value in enumerate(turned)})


FAMILY = Family("rope", find, site, covers, lambda site: ())
