"""The planner: which parts of a graph are computed together, by which template, with which tile, and why.

A plan is made for one target and needs no device. Every region that a family finds is considered; every
template of the family says its cost or its reasons for declining; the set of regions that do not overlap and
save the most is taken; the rest is lowered op by op. All of it is kept, so that `explain` can say it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from ropegen import passes, tiles
from ropegen.cost import NO_COST, Cost
from ropegen.errors import RopegenError, nearest
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node
from ropegen.ir.text import digest
from ropegen.passes.rewrite import Trace
from ropegen.plain import plain_cost
from ropegen.target import Target
from ropegen.template import AnyTemplate, Region, Tile, catalog, cost_of, families

# Sets of overlapping regions up to this size are searched through; larger ones are taken by saving.
_EXHAUSTIVE = 16

Tiles = Mapping[str, Mapping[str, int]]
TableKind = Literal["constant", "argument", "computed"]

# Up to here a table is a constant. A constant stands in the module of every platform and in device memory; at 4 MB
# (8,192 positions of 128 features) it begins to outweigh the rest of a module, and what reads it does not stay in cache.
LARGEST_CONSTANT = 1 << 22


@dataclass(frozen=True, slots=True)
class Candidate:
    """A template that was considered for a region: its tile and cost, or its reasons for declining."""

    template: str
    tile: Tile = Tile()
    tile_from: str = ""
    """Where the tile comes from: the caller, the measured table, or the cheapest of how many."""
    cost: Cost | None = None
    declined: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), repr=False)
    """What the template says of its kernel; it follows from the rest, and so is in no digest."""


@dataclass(frozen=True, slots=True)
class Table:
    """Where the cosines and sines of known positions come from, and why.

    "constant": from the module. "argument": computed once, with what depends on parameters alone, and read at each
    call. "computed": at each call. The last two reduce the positions in integers, which needs no float64.
    """

    kind: TableKind
    reason: str


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that the plan does: a region by its chosen template, or one op by its plain lowering."""

    operands: tuple[Node, ...]
    outputs: tuple[Node, ...]
    cost: Cost
    region: Region | None = None
    chosen: Candidate | None = None
    considered: tuple[Candidate, ...] = ()
    prepares: bool = False
    """Whether it depends on parameters alone, and so runs once before the calls."""
    table: Table | None = None
    """For the cosines and sines of known positions: where they come from."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that it computes."""
        return self.outputs if self.region is None else self.region.nodes


@dataclass(frozen=True, slots=True)
class Rejected:
    """A region that was considered and not taken, and why."""

    region: Region
    saving: float
    """Seconds that it would save over its ops one by one."""
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is computed how. `graph` is `source` after the passes, whose steps are in `trace`."""

    source: Graph
    graph: Graph
    trace: Trace
    target: Target
    steps: tuple[Step, ...]
    rejected: tuple[Rejected, ...]

    @property
    def cost(self) -> Cost:
        """The sum over the steps of a call; what is prepared once is not in it."""
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
        """The key of the plan: the graph's digest, the target, and every choice."""
        lines = [digest(self.graph), str(self.target)]
        for step in self.steps:
            names = (
                f"{digest(step.region.closed)} {step.chosen}" if step.region is not None else step.outputs[0].op.name
            )
            lines.append(f"{step.prepares} {step.table.kind if step.table else ''} {names}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def plan(source: Graph, target: str | Target, *, tile: Tiles | None = None, tables: TableKind | None = None) -> Plan:
    """The plan of a graph for a target; no device is asked or needed.

    `tile` fixes the tiles of templates, e.g. {"attend/xla": {"q": 256, "kv": 512}}; else the measured table
    of the chip decides, else the cheapest by the cost model. `tables` fixes where the cosines and sines of known
    positions come from, see `Table`; else their bytes decide.

    Raises:
      RopegenError: an unknown target, or a tile for an unknown template or with sizes that it does not have.
    """
    target = Target.parse(target)
    if tables is not None and tables not in get_args(TableKind):
        raise RopegenError(f"tables are {tables!r}; {nearest(str(tables), get_args(TableKind))}")
    caller = _caller_tiles(tile or {})
    table = tiles.measured(target)
    canonical, trace = passes.run(source)
    offers = list(_offers(canonical, target, caller, table))
    taken = _choose(canonical, offers)
    placed = {each: _place(canonical, each, tables) for each in canonical.nodes if is_table(each)}
    steps = _schedule(canonical, target, taken, placed)
    while steps is None:  # two regions that wait for each other: give up the one that saves least
        taken = sorted(taken, key=lambda offer: offer.saving)[1:]
        steps = _schedule(canonical, target, taken, placed)
    rejected = tuple(Rejected(each.region, each.saving, _why_not(each, taken)) for each in offers if each not in taken)
    return Plan(source, canonical, trace, target, steps, rejected)


@dataclass(frozen=True, eq=False)
class _Offer:
    """A region with what the templates say of it."""

    region: Region
    chosen: Candidate | None
    considered: tuple[Candidate, ...]
    claims: frozenset[Node]
    plain: float
    problem: str = ""

    @property
    def saving(self) -> float:
        if self.chosen is None or self.chosen.cost is None:
            return 0.0
        return self.plain - self.chosen.cost.seconds


def _caller_tiles(given: Tiles) -> dict[str, Tile]:
    known = {str(each): each for each in catalog()}
    found: dict[str, Tile] = {}
    for name, sizes in given.items():
        if name not in known:
            raise RopegenError(f"a tile was given for the template {name!r}; {nearest(name, known)}")
        names = known[name].tile
        if set(sizes) != set(names) or not all(size >= 1 for size in sizes.values()):
            raise RopegenError(
                f"a tile {dict(sizes)} was given for {name}; give positive sizes for exactly {', '.join(names) or 'nothing'}"
            )
        found[name] = Tile.of(**{each: sizes[each] for each in names})
    return found


def _offers(
    graph: Graph, target: Target, caller: Mapping[str, Tile], table: Mapping[tuple[str, str], Tile]
) -> Iterator[_Offer]:
    users = graph.users()
    outputs = {value for _, value in graph.outputs}
    for family in families():
        for region in family.find(graph):
            site = family.site(region.closed)
            claims = frozenset(
                each for each in region.nodes if each.operands
            )  # nodes without operands cost nothing twice
            plain = sum(plain_cost(each, target).seconds for each in region.nodes)
            problem = _problem(region, claims, users, outputs)
            if family.covers(site) is not region.closed:
                problem = "the family's pattern does not cover it"
            considered = tuple(
                _consider(template, site, region, target, caller, table)
                for template in catalog()
                if template.family is family and target.platform in template.runs_on
            )
            able = [each for each in considered if each.cost is not None]
            chosen = (
                min(able, key=lambda each: each.cost.seconds if each.cost else 0.0) if able and not problem else None
            )
            yield _Offer(region, chosen, considered, claims, plain, problem)


def _problem(
    region: Region, claims: frozenset[Node], users: Mapping[Node, tuple[Node, ...]], outputs: set[Node]
) -> str:
    """Why the region cannot be cut out of its graph; empty when it can."""
    for each in claims - set(region.outputs):
        if each in outputs or set(users[each]) - claims:
            return f"its inner {each.op.name} is also read outside"
    below: set[Node] = set()
    pending = [user for value in region.outputs for user in users[value]]
    while pending:
        each = pending.pop()
        if each not in below:
            below.add(each)
            pending.extend(users[each])
    if below & set(region.operands):
        return "it would wait for itself"
    return ""


def _consider(
    template: AnyTemplate,
    site: object,
    region: Region,
    target: Target,
    caller: Mapping[str, Tile],
    table: Mapping[tuple[str, str], Tile],
) -> Candidate:
    name = str(template)
    reasons = tuple(template.declines(site, target))
    if reasons:
        return Candidate(name, declined=reasons)
    if name in caller:
        tile, tile_from = caller[name], "the caller"
    elif (name, key := digest(region.closed)) in table:
        tile, tile_from = table[name, key], "the measured table"
    else:
        offered = list(template.tiles(site, target))
        tile = min(offered, key=lambda each: cost_of(template, site, target, each).seconds)
        tile_from = f"the cheapest of {len(offered)}" if len(offered) > 1 else "the only one"
    return Candidate(
        name, tile, tile_from, cost_of(template, site, target, tile), notes=tuple(template.notes(site, tile))
    )


def cheapest(closed: Graph, target: Target) -> Candidate | None:
    """The candidate that computes a closed region fastest on a target; None where its plain ops are faster."""
    region = Region(closed.name, closed.inputs, tuple(value for _, value in closed.outputs), closed)
    (its,) = (family for family in families() if family.name == closed.name)
    site, measured = its.site(closed), tiles.measured(target)
    candidates = [
        _consider(template, site, region, target, {}, measured)
        for template in catalog()
        if template.family is its and target.platform in template.runs_on
    ]
    best = min(
        (candidate for candidate in candidates if candidate.cost is not None),
        key=lambda candidate: candidate.cost.seconds if candidate.cost else 0.0,
        default=None,
    )
    unfused = sum(plain_cost(node, target).seconds for node in region.nodes)
    return best if best is not None and best.cost is not None and best.cost.seconds <= unfused else None


def _choose(graph: Graph, offers: Sequence[_Offer]) -> list[_Offer]:
    """The offers that do not overlap and together save the most."""
    useful = [each for each in offers if each.chosen is not None and each.saving >= 0]
    taken: list[_Offer] = []
    for group in _overlapping(useful):
        taken += _best(group) if len(group) <= _EXHAUSTIVE else _greedy(group)
    order = {each: index for index, each in enumerate(graph.nodes)}
    return sorted(taken, key=lambda offer: min(order[value] for value in offer.region.outputs))


def _overlapping(offers: Sequence[_Offer]) -> list[list[_Offer]]:
    """The offers in groups that share no node."""
    groups: list[tuple[set[Node], list[_Offer]]] = []
    for offer in offers:
        claims, members = set(offer.claims), [offer]
        apart: list[tuple[set[Node], list[_Offer]]] = []
        for nodes, others in groups:
            if nodes & claims:
                claims |= nodes
                members = others + members
            else:
                apart.append((nodes, others))
        groups = [*apart, (claims, members)]
    return [members for _, members in groups]


def _best(group: Sequence[_Offer]) -> list[_Offer]:
    if not group:
        return []
    first, *rest = group
    with_first = [first, *_best([each for each in rest if not each.claims & first.claims])]
    without = _best(rest)
    return with_first if sum(e.saving for e in with_first) >= sum(e.saving for e in without) else without


def _greedy(group: Sequence[_Offer]) -> list[_Offer]:
    taken: list[_Offer] = []
    for offer in sorted(group, key=lambda each: -each.saving):
        if not any(offer.claims & each.claims for each in taken):
            taken.append(offer)
    return taken


def is_table(value: Node) -> bool:
    """Whether it gives the cosines and sines of positions that are known now."""
    return isinstance(value.op, ops.Angles | ops.Sinusoid) and isinstance(value.operands[0].op, ops.Positions)


def _place(graph: Graph, value: Node, asked: TableKind | None) -> Table:
    positions = value.operands[0].op
    if isinstance(value.op, ops.Angles) and isinstance(positions, ops.Positions) and positions.length:
        value.op.rope.check_magnitude([positions.start, positions.start + positions.length - 1], value.op.head_width)
    # The same on every target: the platforms of an artifact share what is prepared.
    if asked is not None:
        return Table(asked, "asked for")
    if value.type.bytes <= LARGEST_CONSTANT:
        return Table("constant", f"at most {LARGEST_CONSTANT / 1e6:.1f} MB")
    larger = f"more than {LARGEST_CONSTANT / 1e6:.1f} MB"
    if graph.labels("parameter"):
        return Table("argument", f"{larger}, and parameters are prepared once anyway")
    return Table("computed", f"{larger}, and nothing else is prepared before the calls")


def _schedule(
    graph: Graph, target: Target, taken: Iterable[_Offer], tables: Mapping[Node, Table]
) -> tuple[Step, ...] | None:
    """Steps in an order in which every operand is ready; None where two regions wait for each other."""
    owner = {node: offer for offer in taken for node in offer.claims}
    parameters = _from_parameters(graph, {each for each, table in tables.items() if table.kind == "argument"})
    inside = set(owner)
    needed = _needed_outside(graph, taken, inside)
    steps: list[Step] = []
    for each in graph.nodes:
        if isinstance(each.op, ops.Input) or each not in needed or each in inside:
            continue
        table = tables.get(each)
        cost = plain_cost(each, target, constant=table is not None and table.kind == "constant")
        # A table makes its positions itself.
        steps.append(Step(() if table else each.operands, (each,), cost, prepares=each in parameters, table=table))
    for offer in taken:
        assert offer.chosen is not None
        assert offer.chosen.cost is not None
        region = offer.region
        prepares = all(value in parameters for value in region.outputs)
        steps.append(
            Step(region.operands, region.outputs, offer.chosen.cost, region, offer.chosen, offer.considered, prepares)
        )
    return _in_order(graph, steps)


def _needed_outside(graph: Graph, taken: Iterable[_Offer], inside: set[Node]) -> set[Node]:
    """The nodes that something outside the regions reads; a region has its own copy of `positions`."""
    needed = {value for _, value in graph.outputs}
    needed.update(operand for offer in taken for operand in offer.region.operands)
    for each in reversed(graph.nodes):
        if each in needed and each not in inside and not is_table(each):
            needed.update(each.operands)
    return needed


def _in_order(graph: Graph, steps: Sequence[Step]) -> tuple[Step, ...] | None:
    place = {each: index for index, each in enumerate(graph.nodes)}
    made_by = {value: step for step in steps for value in step.outputs}
    order: dict[Step, None] = {}
    entered: set[int] = set()
    for root in sorted(steps, key=lambda step: max(place[value] for value in step.outputs)):
        pending = [(root, False)]
        while pending:
            step, ready = pending.pop()
            if step in order:
                continue
            if ready:
                order[step] = None
                continue
            if id(step) in entered:
                return None
            entered.add(id(step))
            pending.append((step, True))
            pending.extend(
                (made_by[each], False)
                for each in reversed(step.operands)
                if each in made_by and made_by[each] not in order
            )
    return tuple(order)


def _from_parameters(graph: Graph, tables: Iterable[Node]) -> frozenset[Node]:
    """The nodes that depend on parameters and on these tables, and on nothing else that a call brings."""
    found = set(tables)
    for each in graph.nodes:
        if isinstance(each.op, ops.Input):
            if each.op.role == "parameter":
                found.add(each)
        elif each.operands and all(operand in found for operand in each.operands):
            found.add(each)
    return frozenset(found)


def _why_not(offer: _Offer, taken: Sequence[_Offer]) -> str:
    if offer.problem:
        return offer.problem
    if offer.chosen is None:
        return "every template declines"
    rivals = [each for each in taken if each.claims & offer.claims]
    if offer.saving < 0 or not rivals:
        return "its ops one by one are cheaper"
    saving = sum(each.saving for each in rivals)
    return f"{' and '.join(each.region.family for each in rivals)} over the same ops saves {1e3 * saving:.3g} ms"
