"""Plans: what is computed together, by which template and tile, and every reason. `ropegen.planner` makes them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from ropegen.cost import NO_COST, Cost, Direction
from ropegen.ir.graph import Graph, Node, topological
from ropegen.ir.text import digest
from ropegen.passes.rewrite import Trace
from ropegen.plain import plain_cost
from ropegen.target import Target
from ropegen.template import Region, Tile
from ropegen.tiles import MeasuredTile

if TYPE_CHECKING:
    from jax.sharding import NamedSharding, PartitionSpec

    from ropegen.emit.callable import Compiled

FORWARD: tuple[Direction, ...] = ("forward",)
# The words of a plan for what the caller fixed: a tile, and where tables come from.
CALLER, ASKED = "the caller", "asked for"

Tiles = Mapping[str, Mapping[str, int]]
TableKind = Literal["constant", "argument", "computed"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A template that was considered for a region: its tile and cost, or its reasons for declining."""

    template: str
    version: int
    tile: Tile = Tile()
    tile_from: str = ""
    """Where the tile comes from: the caller, the tile file or the measured table (with the compiler), or the cheapest of
    several.
    """
    cost: Cost | None = None
    """The cost of a call, summed over the directions that the plan weighs; None for a template that declines."""
    declined: tuple[str, ...] = ()
    needs_process: bool = False
    """Whether its kernels are code in this process, see `Template.needs_process`."""
    unstable: bool = False
    """Whether it has calls without a promise by jax.export, see `Template.unstable_calls`. `jax.export` refuses them, and an
    artifact may have them.
    """
    notes: tuple[str, ...] = field(default=(), repr=False)
    """What the template says of its kernel. It follows from the other fields, so no digest contains it."""
    measured: MeasuredTile | None = field(default=None, repr=False)
    """The measurement that the tile comes from. The digest contains its words, `tile_from`."""

    @property
    def preference(self) -> tuple[bool, float, bool]:
        """Orders the candidates of a region, the one to choose first: the caller's tile file, then the least time, then calls
        with a promise.
        """
        from_file = self.measured is not None and self.measured.from_file
        return not from_file, self.cost.seconds if self.cost is not None else math.inf, self.unstable


@dataclass(frozen=True, slots=True)
class Table:
    """Where the cosines and sines of known positions come from, and why.

    "constant": the module contains them. "argument": they are computed once, together with what depends on parameters
    alone, and every call reads them. "computed": every call computes them. The last two reduce the positions in integers,
    which needs no float64.
    """

    kind: TableKind
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the plan does: a region by its template, a region unfused, or one op by its plain formula."""

    operands: tuple[Node, ...]
    outputs: tuple[Node, ...]
    cost: Cost
    """The cost of a call, summed over the directions that the plan weighs."""
    region: Region | None = None
    """The region that it computes; None for a single op."""
    chosen: Candidate | None = None
    """The template and tile of the region; None for a single op, and for a region that is unfused on this target."""
    considered: tuple[Candidate, ...] = ()
    """Every template that could have computed the region on this target."""
    prepares: bool = False
    """Whether it depends on parameters alone, and so runs once before the calls."""
    table: Table | None = None
    """Where the cosines and sines of known positions come from; None for other values."""
    instead: Candidate | None = None
    """What computes the region where `chosen` cannot go because its kernels are code in this process: in modules that
    leave it, and on several devices; and in modules of `jax.export` if `chosen` is unstable. None if `chosen` can go
    everywhere, and for a region that is unfused there.
    """

    @property
    def exported(self) -> Candidate | None:
        """The template and tile of the region in the modules of an artifact, which leave this process."""
        return self.instead if self.chosen is not None and self.chosen.needs_process else self.chosen

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that it computes."""
        return self.outputs if self.region is None else self.region.nodes


@dataclass(frozen=True, slots=True)
class Rejected:
    """A region that was considered and not taken, and why."""

    region: Region
    saving: float
    """Seconds that it would save over its ops one by one; negative if they take less."""
    reason: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What the caller of `plan` fixed, besides the target and the tile file."""

    tile: tuple[tuple[str, Tile], ...] = ()
    """Templates with their tiles."""
    tables: TableKind | None = None
    stable_only: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How every value is computed. `graph` is `source` after the passes, and `trace` has their steps."""

    source: Graph
    graph: Graph
    trace: Trace
    target: Target
    steps: tuple[Step, ...]
    rejected: tuple[Rejected, ...]
    weighed: tuple[Direction, ...] = FORWARD
    """The directions whose costs are summed: forward alone, or also those of the derivatives that a program takes."""
    remarks: tuple[str, ...] = ()
    """Says how the regions were chosen, if they are not certain to be the best choice for this target alone."""
    asked: Asked = Asked()

    def explain(self, width: int | None = None) -> str:
        """The plan and every reason, as text; its first six lines are a summary.

        `width` is the number of columns that lines may have. Longer ones are wrapped, and what follows is indented under
        their beginning. Without it, nothing is wrapped.
        """
        from ropegen import explanation as explain

        return explain.text(self, width)

    def compile(self, *, sharding: PartitionSpec | NamedSharding | None = None) -> Compiled:
        """The plan as a function of JAX arrays by keyword. The transformations of JAX take it.

        `sharding` is a PartitionSpec over (batch, ..., sequence, heads) for the mesh of `jax.set_mesh`, or a NamedSharding
        with one. Every device then runs a plan of its own part, for the same target and with the tiles that the caller
        gave. Where heads are split, so are the columns of the weights that make them, and the rows of those that read them.

        Raises:
          RopegenError: a size does not divide evenly, or an op needs the whole of an axis that is split.
        """
        from ropegen.emit.callable import Compiled

        return Compiled(self, sharding)

    @property
    def exported(self) -> Plan:
        """The plan of a module that leaves this process: the same steps, without code of this process."""
        return replace(self, steps=tuple(_exported(step, self) for step in self.steps))

    @property
    def cost(self) -> Cost:
        """The sum over the steps of a call, without those that run once before the calls."""
        return sum((step.cost for step in self.steps if not step.prepares), NO_COST)

    @property
    def prepared(self) -> tuple[Node, ...]:
        """What a call reads instead of some parameters: values that are computed once from parameters alone."""
        made = [value for step in self.steps if step.prepares for value in step.outputs]
        read = {value for step in self.steps if not step.prepares for value in step.operands}
        read |= {value for _, value in self.graph.outputs}
        return tuple(value for value in made if value in read)

    @property
    def digest(self) -> str:
        """The key of the plan: the graph's digest, the target, and every choice. Predicted seconds are no choice."""
        lines = [digest(self.graph), str(self.target)]
        if self.weighed != FORWARD:
            lines.append(" ".join(self.weighed))
        for step in self.steps:
            computed = step.outputs[0].op.name if step.region is None else digest(step.region.closed)
            by = (
                "unfused" if step.chosen is None else f"{step.chosen.template} {step.chosen.version} {step.chosen.tile}"
            )
            if step.chosen is not None and step.chosen.needs_process:
                other = step.instead
                by += " else " + (f"{other.template} {other.version} {other.tile}" if other else "unfused")
            lines.append(f"{step.prepares} {step.table.kind if step.table else ''} {computed} {by}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def with_calls(plan: Plan) -> Plan:
    """The plan for a module that may have calls without a promise by jax.export."""
    return replace(plan, steps=tuple(map(_with_calls, plan.steps)))


def _with_calls(step: Step) -> Step:
    if step.chosen is None or not step.chosen.unstable:
        return step
    return replace(step, chosen=replace(step.chosen, unstable=False), instead=None)


def _exported(step: Step, plan: Plan) -> Step:
    other = step.exported
    if other is step.chosen or step.region is None:
        return step
    cost = None if other is None else other.cost
    if cost is None:
        cost = unfused_region(step.region.closed, plan.target, plan.weighed)
    return replace(step, chosen=other, cost=cost, instead=None)


def unfused(node: Node, target: Target, weighed: Sequence[Direction], *, constant: bool = False) -> Cost:
    """The cost of one op by its plain formula; `constant` says that the module contains the value."""
    return sum((plain_cost(node, target, direction, constant=constant) for direction in weighed), NO_COST)


def unfused_region(closed: Graph, target: Target, weighed: Sequence[Direction]) -> Cost:
    """The cost of a closed region, op by op."""
    nodes = topological(value for _, value in closed.outputs)
    return sum((unfused(node, target, weighed) for node in nodes), NO_COST)
