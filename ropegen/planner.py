"""The planner: which parts of a graph are computed together, by which template, with which tile, and why.

A plan is made for one target, and planning never queries a device. The planner considers every region that a family
finds. Every template of the family states its cost or its reasons for declining. The planner takes the regions that
together save the most time (see `ropegen.selection`) and leaves the other ops to their plain formulas. A plan keeps all
of this, so that `explain` can state it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from ropegen import passes, selection
from ropegen.arguments import expect_tiles, is_one_of
from ropegen.cost import DIRECTIONS, NO_COST, Cost, Direction
from ropegen.errors import RopegenError, nearest
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, expect_graph
from ropegen.plans import (
    ASKED,
    CALLER,
    FORWARD,
    Asked,
    Candidate,
    Plan,
    Rejected,
    Step,
    Table,
    TableKind,
    Tiles,
    unfused,
    unfused_region,
)
from ropegen.quantities import duration, durations
from ropegen.target import Target, one_or_several
from ropegen.template import AnyTemplate, Region, Site, Tile, catalog, cost_of, families, reasons_of, tiles_of
from ropegen.tiles import Measured, TileFile, expect_tile_file

# A table of at most so many bytes is a constant. A constant is part of the module of every platform and of device memory.
# At 4 MB (8,192 positions of 128 features) it begins to outweigh the rest of a module, and it no longer stays in cache.
LARGEST_CONSTANT = 1 << 22


def plan(
    source: Graph,
    target: str | Target,
    *,
    tile: Tiles | None = None,
    tables: TableKind | None = None,
    weigh: Sequence[Direction] = FORWARD,
    measured: TileFile | None = None,
    stable_only: bool = False,
) -> Plan:
    """The plan of a graph for a target such as "cpu", "gpu:h200" or "tpu:v5e". Planning never queries a device.

    `tile` fixes the tiles of templates, e.g. {"attend/xla": {"q": 256, "kv": 512}}. Without it the measured table of the
    chip decides, and without an entry there the cost model. `measured` is a file that `ropegen tune` wrote for this target,
    read by `load_tiles`: it comes before the measured table, and decides the template of its regions too.

    `tables` fixes where the cosines and sines of known positions come from: a "constant" of the module, an "argument" that
    is computed once, or "computed" at every call. Without it their size decides, see `Table`.

    `weigh` names the directions whose costs are summed when templates, tiles and regions are compared. Give
    ("forward", "backward") for a program that takes gradients, and ("forward", "tangent") for one that takes derivatives in
    forward mode. A measured tile comes first all the same; it was measured on the forward pass.

    With `stable_only`, no template is taken whose custom calls have no promise of compatibility by jax.export, such as
    `attend/cudnn`.

    Raises:
      RopegenError: an unknown target or direction, or a tile for an unknown template or with sizes that it does not have; a
        tile file without entries for this target, or with an entry that does not fit the installed template.
    """
    return plan_together(
        source, (target,), tile=tile, tables=tables, weigh=weigh, measured=measured, stable_only=stable_only
    )[0]


def plan_part(whole: Plan, source: Graph) -> Plan:
    """The plan of a part of a graph for the target of the whole, with what the caller asked for."""
    tile = {name: dict(its.sizes) for name, its in whole.asked.tile}
    asked = whole.asked
    return plan(
        source, whole.target, tile=tile, tables=asked.tables, weigh=whole.weighed, stable_only=asked.stable_only
    )


def plan_together(
    source: Graph,
    targets: str | Target | Iterable[str | Target],
    *,
    tile: Tiles | None = None,
    tables: TableKind | None = None,
    weigh: Sequence[Direction] = FORWARD,
    measured: TileFile | None = None,
    stable_only: bool = False,
) -> tuple[Plan, ...]:
    """One plan for every target, in the order given, all with the same regions: one program can carry them all.

    The first target decides: no other set of regions saves more time there. If several sets save the same time there, the
    second target decides, and so on. The same holds for ops that no useful region of the first target computes.

    The plans have the same `graph`, `trace` and `prepared` values. Step i of one plan computes the same values from the same
    operands as step i of every other: `operands`, `outputs`, `region`, `prepares` and `table` are equal. Only these fields
    depend on the target:

    - `step.chosen`: the template and tile of a region on this target. It is None if the plain formulas of its ops are
      cheaper there, or if every template declines. The region is then *unfused* on this target; `step.region` still
      states it.
    - `step.instead`, `step.considered` and `step.cost`; `plan.rejected`, `plan.cost` and `plan.digest`.

    `measured` is used for those of the targets that it has entries for.

    Raises:
      RopegenError: no target, or what `plan` raises; a tile file without entries for any of the targets.
    """
    expect_graph("plan", source)
    chips = tuple(Target.parse(target) for target in one_or_several(targets))
    if not chips:
        raise RopegenError('no target was given; name at least one, such as "cpu"')
    if tables is not None and not is_one_of(tables, get_args(TableKind)):
        raise RopegenError(f"tables are {tables!r:.60}; {nearest(str(tables), get_args(TableKind))}")
    weighed = _directions(weigh)
    if measured is not None:
        expect_tile_file("plan", measured)
        measured.for_some_of(chips)
    expect_tiles("plan", tile)
    canonical, trace = passes.run(source)
    fixed = _caller_tiles(tile or {})
    offers = _offers(canonical, _Prices(chips, fixed, weighed, measured, stable_only=stable_only))
    taken, remarks = _choose(canonical, offers, chips)
    placed = {node: _place(canonical, node, tables) for node in canonical.nodes if is_table(node)}
    plain, regions = _plain_steps(canonical, chips, weighed, taken, placed), _region_steps(canonical, taken, placed)
    steps = _in_order(canonical, [*plain, *regions])
    rejected = _rejected(offers, taken, chips)
    asked = Asked(tuple(fixed.items()), tables, stable_only)
    return tuple(
        Plan(
            source,
            canonical,
            trace,
            target,
            tuple(alike[index] for alike in steps),
            rejected[index],
            weighed,
            remarks,
            asked,
        )
        for index, target in enumerate(chips)
    )


def cheapest(
    closed: Graph, target: Target, tile: Tiles | None = None, *, goes_everywhere: bool = False
) -> Candidate | None:
    """The template and tile that compute a closed region fastest on a target; None if it is cheaper unfused.

    `tile` fixes the tiles of some templates, as in `plan`. With `goes_everywhere`, it is the fastest of those templates
    whose kernels are not code in this process, and have no calls that jax.export refuses.
    """
    price = _Prices((target,), _caller_tiles(tile or {}), FORWARD, None).of(closed)[0]
    return price.everywhere if goes_everywhere else price.chosen


@dataclass(frozen=True, slots=True)
class _Price:
    """What the templates say about a region on one target, and the cost of its ops there without fusion."""

    considered: tuple[Candidate, ...]
    cheapest: Candidate | None
    """The candidate from the tile file; without one, the candidate with the least cost."""
    unfused: Cost

    @property
    def saving(self) -> float:
        """Seconds that the cheapest template saves; negative if the ops are cheaper unfused, 0 without a template."""
        if self.cheapest is None or self.cheapest.cost is None:
            return 0.0
        return self.unfused.seconds - self.cheapest.cost.seconds

    @property
    def chosen(self) -> Candidate | None:
        """The cheapest template, unless the ops are cheaper unfused."""
        return self.cheapest if self.saving >= 0 else None

    @property
    def everywhere(self) -> Candidate | None:
        """The cheapest template whose kernels go into every module, unless the ops are cheaper unfused."""
        portable = _cheapest(one for one in self.considered if not one.needs_process and not one.unstable)
        return replace(self, cheapest=portable).chosen


@dataclass(frozen=True, eq=False, slots=True)
class _Offer:
    """A region, and what the templates say about it on every target."""

    region: Region
    claims: frozenset[Node]
    prices: tuple[_Price, ...]
    problem: str = ""
    """Why the region cannot be taken at all."""

    def saving(self, target: int) -> float:
        return 0.0 if self.problem else self.prices[target].saving

    @property
    def is_useful(self) -> bool:
        return not self.problem and any(price.chosen is not None for price in self.prices)


def _directions(given: Sequence[Direction]) -> tuple[Direction, ...]:
    """The directions, forward first."""
    named: object = given
    if not isinstance(named, list | tuple) or not named:
        raise RopegenError(f'weigh is {named!r:.60}; name every direction once, as in ("forward", "backward")')
    for direction in given:
        if not is_one_of(direction, DIRECTIONS):
            raise RopegenError(f"weigh names the direction {direction!r:.60}; {nearest(str(direction), DIRECTIONS)}")
    if len(set(given)) < len(given):
        raise RopegenError(f'weigh is {named!r:.60}; name every direction once, as in ("forward", "backward")')
    return tuple(direction for direction in DIRECTIONS if direction in given)


def _caller_tiles(given: Tiles) -> dict[str, Tile]:
    known = {str(template): template for template in catalog()}
    fixed: dict[str, Tile] = {}
    for name, sizes in given.items():
        if name not in known:
            raise RopegenError(f"a tile was given for the template {name!r}; {nearest(name, known)}")
        names = known[name].tile
        if not names:
            raise RopegenError(f"a tile {dict(sizes)} was given for {name}, which has no tile; leave it out")
        if set(sizes) != set(names) or not all(size >= 1 for size in sizes.values()):
            raise RopegenError(
                f"a tile {dict(sizes)} was given for {name}; give positive sizes for exactly {', '.join(names)}"
            )
        if max(sizes.values()) >= 1 << 31:
            raise RopegenError(f"a tile {dict(sizes)} was given for {name}; give sizes below 2^31")
        fixed[name] = Tile.of(**{label: int(sizes[label]) for label in names})
    return fixed


def _offers(graph: Graph, prices: _Prices) -> list[_Offer]:
    """Every region that a family finds, in order."""
    users = graph.users()
    outputs = {value for _, value in graph.outputs}
    regions = [region for family in families() for region in family.find(graph)]
    # A node without operands, such as `positions`, costs nothing, so every region has its own.
    claims = [frozenset(node for node in region.nodes if node.operands) for region in regions]
    number = {node: index for index, node in enumerate(graph.nodes)}
    waiting = selection.waiting_for_themselves(
        _reads(graph, number), [frozenset(number[node] for node in nodes) for nodes in claims]
    )
    offers: list[_Offer] = []
    for index, (region, nodes) in enumerate(zip(regions, claims, strict=True)):
        read_outside = [
            node
            for node in region.nodes
            if node.operands and node not in region.outputs and (node in outputs or not nodes.issuperset(users[node]))
        ]
        problem = ""
        if not prices.is_covered(region.closed):
            problem = "the family's pattern does not cover it"
        elif read_outside:
            problem = f"its inner {read_outside[0].op.name} is also read outside"
        elif index in waiting:
            problem = "it would wait for itself"
        offers.append(_Offer(region, nodes, prices.of(region.closed), problem))
    return offers


def _reads(graph: Graph, number: Mapping[Node, int]) -> list[list[int]]:
    return [[number[operand] for operand in node.operands] for node in graph.nodes]


class _Prices:
    """What the templates say about closed regions on some targets. Equal regions are asked about once."""

    def __init__(
        self,
        targets: Sequence[Target],
        caller: Mapping[str, Tile],
        weighed: tuple[Direction, ...],
        file: TileFile | None,
        *,
        stable_only: bool = False,
    ) -> None:
        self._stable_only = stable_only
        self._targets = [(target, Measured(target, file)) for target in targets]
        self._caller = caller
        self._weighed = weighed
        self._families = {family.name: family for family in families()}
        self._sites: dict[Graph, Site] = {}
        self._covered: dict[Graph, bool] = {}
        self._prices: dict[Graph, tuple[_Price, ...]] = {}

    def is_covered(self, closed: Graph) -> bool:
        """Whether the family builds the same region again from the site that it reads."""
        if closed not in self._covered:
            self._covered[closed] = self._families[closed.name].covers(self._site(closed)) is closed
        return self._covered[closed]

    def of(self, closed: Graph) -> tuple[_Price, ...]:
        """One price for every target."""
        if closed not in self._prices:
            self._prices[closed] = tuple(self._price(closed, target, measured) for target, measured in self._targets)
        return self._prices[closed]

    def _site(self, closed: Graph) -> Site:
        if closed not in self._sites:
            self._sites[closed] = self._families[closed.name].site(closed)
        return self._sites[closed]

    def _price(self, closed: Graph, target: Target, table: Measured) -> _Price:
        considered = tuple(
            self._consider(template, closed, target, table)
            for template in catalog()
            if template.family.name == closed.name and target.platform in template.runs_on
        )
        return _Price(considered, _cheapest(considered), unfused_region(closed, target, self._weighed))

    def _cost(self, template: AnyTemplate, closed: Graph, target: Target, tile: Tile) -> Cost:
        site = self._site(closed)
        return sum((cost_of(template, site, target, tile, direction) for direction in self._weighed), NO_COST)

    def _consider(self, template: AnyTemplate, closed: Graph, target: Target, table: Measured) -> Candidate:
        name, site = str(template), self._site(closed)
        reasons = reasons_of(template, site, target)
        if self._stable_only and template.unstable_calls:
            calls = ", ".join(template.unstable_calls)
            reasons = (f"the plan takes stable calls only, and jax.export makes no promise for {calls}", *reasons)
        if reasons:
            return Candidate(name, template.version, declined=reasons)
        measured = None
        if name in self._caller:
            tile, tile_from = self._caller[name], CALLER
        elif measured := table.look_up(template, closed):
            tile, tile_from = measured.tile, measured.source
        else:
            offered = tiles_of(template, site, target)
            tile = min(offered, key=lambda choice: self._cost(template, closed, target, choice).seconds)
            tile_from = f"the cheapest of {len(offered)}" if len(offered) > 1 else "the only one"
        return Candidate(
            name,
            template.version,
            tile,
            tile_from,
            self._cost(template, closed, target, tile),
            needs_process=template.needs_process is not None,
            unstable=bool(template.unstable_calls),
            notes=tuple(template.notes(site, tile, target)),
            measured=measured,
        )


def _cheapest(considered: Iterable[Candidate]) -> Candidate | None:
    able = [candidate for candidate in considered if candidate.cost is not None]
    return min(able, key=lambda candidate: candidate.preference, default=None)


def _choose(graph: Graph, offers: Sequence[_Offer], targets: Sequence[Target]) -> tuple[list[_Offer], tuple[str, ...]]:
    """The offers that together save the most, in the order of the graph, and remarks for the reader of the plan."""
    useful = [offer for offer in offers if offer.is_useful]
    number = {node: index for index, node in enumerate(graph.nodes)}
    choice = selection.choose(
        _reads(graph, number),
        [
            selection.Offer(
                frozenset(number[node] for node in offer.claims),
                tuple(max(0.0, offer.saving(index)) for index in range(len(targets))),
            )
            for offer in useful
        ],
    )
    taken = sorted(
        (useful[index] for index in choice.taken),
        key=lambda offer: min(number[value] for value in offer.region.outputs),
    )
    remarks = [
        f"{len(group)} regions overlap; they were taken one after another, the largest saving first, because more than "
        f"{selection.STATES:,} combinations would have to be compared"
        for group in choice.unsearched
    ]
    if len(targets) > 1:
        remarks.append(f"the same regions serve {', '.join(map(str, targets))}; the first of them decides")
    return taken, tuple(remarks)


def is_table(value: Node) -> bool:
    """Whether a value holds the cosines and sines of positions that are known at planning time."""
    return isinstance(value.op, ops.Angles | ops.Sinusoid) and isinstance(value.operands[0].op, ops.Positions)


def _place(graph: Graph, value: Node, asked: TableKind | None) -> Table:
    """Where a table comes from. It is the same on every target, because the platforms of an artifact share what is prepared."""
    positions = value.operands[0].op
    if isinstance(value.op, ops.Angles) and isinstance(positions, ops.Positions) and positions.length:
        value.op.rope.check_magnitude([positions.start, positions.start + positions.length - 1], value.op.head_width)
    if asked is not None:
        return Table(asked, ASKED)
    if value.type.bytes <= LARGEST_CONSTANT:
        return Table("constant", f"at most {LARGEST_CONSTANT / 1e6:.1f} MB")
    larger = f"more than {LARGEST_CONSTANT / 1e6:.1f} MB"
    if graph.labels("parameter"):
        return Table("argument", f"{larger}, and parameters are prepared once anyway")
    return Table("computed", f"{larger}, and nothing else is prepared before the calls")


_Alike = tuple[Step, ...]
"""The same step on every target."""


def _plain_steps(
    graph: Graph,
    targets: Sequence[Target],
    weighed: Sequence[Direction],
    taken: Iterable[_Offer],
    tables: Mapping[Node, Table],
) -> Iterator[_Alike]:
    """A step for every op that something outside the regions reads."""
    parameters = _from_parameters(graph, tables)
    inside = {node for offer in taken for node in offer.claims}
    needed = _needed_outside(graph, taken, inside)
    for node in graph.nodes:
        if isinstance(node.op, ops.Input) or node not in needed or node in inside:
            continue
        table = tables.get(node)
        is_constant = table is not None and table.kind == "constant"
        yield tuple(
            # A table contains the computation of its positions.
            Step(
                () if table else node.operands,
                (node,),
                unfused(node, target, weighed, constant=is_constant),
                prepares=node in parameters,
                table=table,
            )
            for target in targets
        )


def _region_steps(graph: Graph, taken: Iterable[_Offer], tables: Mapping[Node, Table]) -> Iterator[_Alike]:
    """A step for every region that is taken."""
    parameters = _from_parameters(graph, tables)
    for offer in taken:
        region = offer.region
        prepares = all(value in parameters for value in region.outputs)
        yield tuple(
            Step(
                region.operands,
                region.outputs,
                price.unfused if price.chosen is None or price.chosen.cost is None else price.chosen.cost,
                region,
                price.chosen,
                price.considered,
                prepares,
                instead=price.everywhere
                if price.chosen is not None and (price.chosen.needs_process or price.chosen.unstable)
                else None,
            )
            for price in offer.prices
        )


def _needed_outside(graph: Graph, taken: Iterable[_Offer], inside: set[Node]) -> set[Node]:
    """The nodes that something outside the regions reads. Every region has its own copy of `positions`."""
    needed = {value for _, value in graph.outputs}
    needed.update(operand for offer in taken for operand in offer.region.operands)
    for node in reversed(graph.nodes):
        if node in needed and node not in inside and not is_table(node):
            needed.update(node.operands)
    return needed


def _in_order(graph: Graph, steps: Sequence[_Alike]) -> list[_Alike]:
    """The steps in an order in which every operand is ready; no two of them wait for each other."""
    place = {node: index for index, node in enumerate(graph.nodes)}
    made_by = {value: index for index, alike in enumerate(steps) for value in alike[0].outputs}
    ends = [max(place[value] for value in alike[0].outputs) for alike in steps]
    order: dict[int, None] = {}
    for root in sorted(range(len(steps)), key=ends.__getitem__):
        pending = [(root, False)]
        while pending:
            index, ready = pending.pop()
            if index in order:
                continue
            if ready:
                order[index] = None
                continue
            pending.append((index, True))
            makers = [made_by[operand] for operand in reversed(steps[index][0].operands) if operand in made_by]
            pending.extend((maker, False) for maker in makers if maker not in order)
    return [steps[index] for index in order]


def _from_parameters(graph: Graph, tables: Mapping[Node, Table]) -> frozenset[Node]:
    """The nodes that depend on parameters and on tables that are arguments, and on no other input of a call."""
    known = {node for node, table in tables.items() if table.kind == "argument"}
    for node in graph.nodes:
        if isinstance(node.op, ops.Input):
            if node.op.role == "parameter":
                known.add(node)
        elif node.operands and all(operand in known for operand in node.operands):
            known.add(node)
    return frozenset(known)


def _rejected(
    offers: Sequence[_Offer], taken: Sequence[_Offer], targets: Sequence[Target]
) -> tuple[tuple[Rejected, ...], ...]:
    """The regions that are not taken, with the reason on every target."""
    number = {offer: index for index, offer in enumerate(taken)}
    owner = {node: number[offer] for offer in taken for node in offer.claims}
    refused = [
        (offer, [taken[index] for index in sorted({owner[node] for node in offer.claims if node in owner})])
        for offer in offers
        if offer not in number
    ]
    return tuple(
        tuple(
            Rejected(offer.region, offer.saving(index), _why_not(offer, rivals, targets, index))
            for offer, rivals in refused
        )
        for index in range(len(targets))
    )


def _why_not(offer: _Offer, rivals: Sequence[_Offer], targets: Sequence[Target], index: int) -> str:
    """Why the plan for a target does not take an offer; `rivals` are taken and compute some of the same nodes."""
    saving = offer.saving(index)
    if offer.problem:
        return offer.problem
    if offer.prices[index].cheapest is None:
        return "every template declines"
    if saving < 0:
        return f"its ops one by one take {duration(-saving)} less"
    if not rivals:
        return "it and regions that are taken would wait for each other"
    many = len(rivals) > 1
    claimed = frozenset[Node]().union(*(rival.claims for rival in rivals))
    shared = (
        "the same ops"
        if claimed == offer.claims
        else "these ops and others"
        if claimed > offer.claims
        else "some of these"
    )
    names = (
        f"{' and '.join(rival.region.family for rival in rivals)}, which {'compute' if many else 'computes'} {shared},"
    )
    verb = "save" if many else "saves"
    saved = sum(max(0.0, rival.saving(index)) for rival in rivals)
    if index and saved < saving:
        return f"{names} {verb} more on {targets[0]}, which decides"
    if saved == saving:
        return f"{names} {verb} as much"
    if not saving:
        return f"{names} {verb} {duration(saved)}, and this region would save nothing"
    theirs, own = durations(saved, saving)
    return f"{names} {verb} {theirs}, more than the {own} that this region would save"
