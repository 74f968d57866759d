"""The facts of a plan, gathered once: `text` and `html` only arrange them."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from ropegen import passes
from ropegen.cost import Cost
from ropegen.errors import RopegenError
from ropegen.explanation.attention import Facts, attention, span_of
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node
from ropegen.ir.text import digest
from ropegen.plans import Candidate, Plan, Rejected, Step, Table, unfused_region
from ropegen.rotary import Rope
from ropegen.template import Tile, template
from ropegen.types import TensorType, epsilon

# Up to this position, range reduction inside a kernel is as exact as the table. If the plan knows no position, it states
# the error at this one.
_REFERENCE_POSITION = 2**20
_LAST_POSITION = 2**31 - 1


def data(plan: Plan) -> Facts:
    """The facts of a plan as numbers, words and lists, ready for `json.dumps`. Times are in seconds, sizes in bytes."""
    names = _names(plan.graph)
    # The steps of a call are counted, and so are those that run once before the calls.
    counted = {False: count(1), True: count(1)}
    steps = [_step(plan, next(counted[step.prepares]), step, names) for step in plan.steps]
    return {
        "graph": {
            "name": plan.graph.name,
            "digest": digest(plan.graph),
            "ops": len(plan.graph.ops),
            "source_digest": digest(plan.source),
            "source_ops": len(plan.source.ops),
        },
        "plan": plan.digest,
        "weighed": list(plan.weighed),
        "target": {
            "name": str(plan.target),
            "platform": plan.target.platform,
            "chip": plan.target.chip,
            "cores": plan.target.cores,
            "figures": dataclasses.asdict(plan.target.figures),
        },
        "inputs": [*_inputs(plan.source, frozenset(plan.graph.inputs))],
        "outputs": [{"label": label, **_typed(value.type), "is": names[value]} for label, value in plan.graph.outputs],
        "passes": _passes(plan),
        "prepared": [
            {"name": f"prepared{index}", "is": names[value], **_typed(value.type)}
            for index, value in enumerate(plan.prepared)
        ],
        "steps": steps,
        "remarks": list(plan.remarks),
        "not_taken": [_not_taken(entry, names) for entry in plan.rejected],
        "totals": _totals(plan, steps),
        "warnings": [*_warnings(steps)],
    }


def _names(graph: Graph) -> dict[Node, str]:
    """The name of every value: the label of an input, else %op, with a number from the second op of that name on."""
    seen: Counter[str] = Counter()
    names: dict[Node, str] = {}
    for node in graph.nodes:
        if isinstance(node.op, ops.Input):
            names[node] = node.op.label
            continue
        names[node] = f"%{node.op.name}{seen[node.op.name] or ''}"
        seen[node.op.name] += 1
    return names


def _typed(kind: TensorType) -> Facts:
    return {"type": str(kind), "shape": list(kind.shape), "dtype": kind.dtype, "bytes": kind.bytes}


def _inputs(source: Graph, kept: frozenset[Node]) -> Iterator[Facts]:
    for value in source.inputs:
        if isinstance(value.op, ops.Input):
            yield {"label": value.op.label, "role": value.op.role, **_typed(value.type), "used": value in kept}


def _passes(plan: Plan) -> list[Facts]:
    notation = {(stage.name, rule.name): rule.notation for stage in passes.PIPELINE for rule in stage.rules}
    fired = Counter((step.stage, step.rule) for step in plan.trace)
    return [
        {"pass": stage, "rule": rule, "times": times, "notation": notation.get((stage, rule), "")}
        for (stage, rule), times in fired.items()
    ]


def _cost(cost: Cost) -> Facts:
    return {**dataclasses.asdict(cost), "seconds": cost.seconds, "bound": cost.bound}


def _step(plan: Plan, index: int, step: Step, names: Mapping[Node, str]) -> Facts:
    chosen = step.chosen
    total = plan.cost.seconds
    return {
        "index": index,
        "family": step.region.family if step.region is not None else None,
        "template": chosen.template if chosen is not None else None,
        "ops": [node.op.name for node in step.nodes],
        "tile": _tile(chosen.tile) if chosen is not None else {},
        "tile_from": chosen.tile_from if chosen is not None else None,
        "notes": [*_notes(step)],
        "padding": _padding(plan, step),
        "prepares": step.prepares,
        "reads": [names[value] for value in step.operands],
        "outputs": [{"name": names[value], **_typed(value.type)} for value in step.outputs],
        "cost": _cost(step.cost),
        "floors": _floors(plan, step),
        "unfused": None
        if step.region is None
        else _cost(unfused_region(step.region.closed, plan.target, plan.weighed)),
        "share": 0.0 if step.prepares or not total else step.cost.seconds / total,
        "considered": [{**_candidate(candidate), "chosen": candidate is chosen} for candidate in step.considered],
        "attention": [
            attention(node, node.op, chosen, names) for node in step.nodes if isinstance(node.op, ops.Attend)
        ],
        "angles": [*_angles(plan.graph, step, names)],
    }


def _floors(plan: Plan, step: Step) -> Facts:
    """The seconds that a step would take if the chip did nothing but its operations, and nothing but move its bytes.

    `compute` counts at the chip's peak of matrix products, for the fastest element type that the step reads or writes, or
    for float32 if that is faster, as on CPU; `memory` counts at the chip's bandwidth.
    """
    chip, cost = plan.target.figures, step.cost
    dtypes = {value.type.dtype for value in (*step.operands, *step.outputs) if value.type.is_float}
    rate = max(chip.matmul(dtype) for dtype in (*dtypes, "f32"))
    return {"compute": cost.flops / rate, "memory": cost.bytes / chip.bandwidth}


def _notes(step: Step) -> Iterator[str]:
    if step.chosen is None:
        return
    yield from step.chosen.notes
    if step.chosen.needs_process:
        other = step.instead
        takes = "its ops take its place unfused" if other is None else f"{other.template} takes its place"
        yield f"in exported modules and on several devices {takes}"


def _padding(plan: Plan, step: Step) -> Facts | None:
    """What the forward kernel of a step computes beyond its sizes; None if nothing."""
    if step.chosen is None or step.region is None:
        return None
    made_by = template(step.chosen.template)
    padding = made_by.padding(made_by.family.site(step.region.closed), step.chosen.tile, plan.target)
    if padding is None:
        return None
    return {**dataclasses.asdict(padding), "sizes": [dataclasses.asdict(size) for size in padding.sizes]}


def _tile(tile: Tile) -> dict[str, int]:
    return dict(tile.sizes)


def _candidate(candidate: Candidate) -> Facts:
    return {
        "template": candidate.template,
        "tile": _tile(candidate.tile),
        "tile_from": candidate.tile_from,
        "cost": _cost(candidate.cost) if candidate.cost is not None else None,
        "declined": list(candidate.declined),
    }


def _not_taken(rejected: Rejected, names: Mapping[Node, str]) -> Facts:
    region = rejected.region
    return {
        "family": region.family,
        "ops": [value.op.name for value in region.nodes],
        "outputs": [names[value] for value in region.outputs],
        "saving": rejected.saving,
        "reason": rejected.reason,
    }


def _totals(plan: Plan, steps: Sequence[Facts]) -> Facts:
    prepares = [step.cost for step in plan.steps if step.prepares]
    sizes = {role: sum(node.type.bytes for node in _of_role(plan.graph, role)) for role in ops.ROLES}
    return {
        **_cost(plan.cost),
        "prepare_seconds": sum(cost.seconds for cost in prepares),
        "prepared_bytes": sum(value.type.bytes for value in plan.prepared),
        "constant_bytes": sum(
            angles["bytes"] for step in steps for angles in step["angles"] if angles["table"] == "constant"
        ),
        "output_bytes": sum(value.type.bytes for _, value in plan.graph.outputs),
        **{f"{role}_bytes": size for role, size in sizes.items()},
    }


def _of_role(graph: Graph, role: str) -> Iterator[Node]:
    return (node for node in graph.inputs if isinstance(node.op, ops.Input) and node.op.role == role)


# Half-precision types represent every whole number up to these.
_WHOLE_TO = {"bf16": 256, "f16": 2048}

# Angles: what they are, how large their tables are, how exact they are ----------------------------------------------


def _angles(graph: Graph, step: Step, names: Mapping[Node, str]) -> Iterator[Facts]:
    for value in step.nodes:
        op = value.op
        facts: Facts = {"value": names[value], "family": "sinusoid", "attributes": {}, "sections": []}
        if isinstance(op, ops.Angles):
            readers = [node for node in graph.nodes if isinstance(node.op, ops.Rotate) and node.operands[1] is value]
            attributes = op.scaling.to_attributes()
            facts["family"] = attributes.pop("kind")
            facts["attributes"] = {name: _plain(setting) for name, setting in attributes.items()}
            facts |= {"width": op.dim, "head_width": op.head_width, "length": op.length, "inverse": op.inverse}
            facts |= {"sections": list(op.sections), "rotates": sorted({node.type.dtype for node in readers})}
            facts["pairings"] = sorted({node.op.pairing for node in readers if isinstance(node.op, ops.Rotate)})
            facts["magnitude_range"] = op.rope.magnitude_range(op.head_width)
            rope, stored = op.rope, op.dtype
        elif isinstance(op, ops.Sinusoid):
            facts |= {"width": op.width, "head_width": op.width, "rotates": [op.dtype], "pairings": [op.pairing]}
            rope, stored = _like(op), op.dtype
        else:
            continue
        facts |= {"theta": op.theta, "precision": op.precision, "positions_type": value.operands[0].type.dtype}
        yield facts | _reach(graph, value, rope, stored, facts["rotates"], step.table)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _like(op: ops.Sinusoid) -> Rope | None:
    """The rotary embedding whose angles are those of a sinusoid; None for a base that no rotary embedding has."""
    try:
        return Rope(op.theta, pairing="half", angles="exact" if op.precision == "exact" else "f32")
    except RopegenError:
        return None


def _reach(
    graph: Graph, value: Node, rope: Rope | None, stored: str, read_as: Sequence[str], table: Table | None
) -> Facts:
    """Where the angles come from, and the bound on their error at the largest position that is known."""
    own = span_of(value.operands[0])
    spans = [own] if own is not None else [span for node in graph.nodes if (span := span_of(node)) is not None]
    largest = max((abs(end) for span in spans for end in span), default=None)
    at = _REFERENCE_POSITION if largest is None else largest
    narrowest = max(read_as, key=epsilon, default=stored)
    return {
        "positions": own,
        "table": None if table is None else table.kind,
        "table_reason": None if table is None else table.reason,
        "bytes": value.type.bytes,
        "largest_position": largest,
        "error_position": at,
        "error_bound": None if rope is None else _error(rope, at, stored, value.operands[0], table),
        "epsilon": epsilon(narrowest),
        "epsilon_of": narrowest,
        "holds_to": None if rope is None else _holds_to(rope, stored, epsilon(narrowest)),
    }


def _error(rope: Rope, at: int, stored: str, positions: Node, table: Table | None) -> float:
    """The bound on the error of a cosine or sine: that of the table, and that of the range reduction at run time.

    The angle is at most an eighth of a turn and held in two float32. Its cosine and sine are within 2 u of the exact
    ones, with u = 2**-24, and combining them takes two smaller roundings. Fixed point adds the error that
    `ropegen.rotary.fixed_point` states. The fraction of a fractional position is below one radian and rounded three times.
    """
    bound = rope.angle_error(at, stored)
    if (table is not None and table.kind == "constant") or rope.angles == "f32":
        return bound
    unit = 2.0**-24
    fraction = 3 * unit if positions.type.is_float else 0.0
    return min(2.0, bound + 3 * unit + fraction + 2 * math.pi * at * 2.0**-65)


def _holds_to(rope: Rope, stored: str, allowed: float) -> int:
    """The largest position at which the bound on the error is within `allowed`; -1 if there is none."""
    low, high = -1, _LAST_POSITION
    while low < high:
        middle = (low + high + 1) // 2
        if rope.angle_error(middle, stored) <= allowed:
            low = middle
        else:
            high = middle - 1
    return low


def angle_warnings(plan: Plan) -> Iterator[str]:
    """What the warnings of `data` say about the angles of a plan."""
    names = _names(plan.graph)
    for step in plan.steps:
        for angles in _angles(plan.graph, step, names):
            yield from _warnings_of_angles(angles)


def _warnings_of_angles(angles: Facts) -> Iterator[str]:
    yield from _position_warnings(angles)
    if angles["precision"] != "f32" or angles["holds_to"] is None:
        return
    largest, holds = angles["largest_position"], angles["holds_to"]
    if largest is None or largest > holds:
        reach = "at any position" if holds < 0 else f"past position {holds:,}"
        known = "" if largest is None else f", and positions reach {largest:,}"
        yield (
            f"{angles['value']}: f32 angles may be off by more than the epsilon of {angles['epsilon_of']}, "
            f'{angles["epsilon"]:.2g}, {reach}{known}; precision="exact" costs nothing more'
        )


def _warnings(steps: Sequence[Facts]) -> Iterator[str]:
    for step in steps:
        for angles in step["angles"]:
            yield from _warnings_of_angles(angles)
        for attended in step["attention"]:
            tiles = attended["tiles"]
            if tiles.get("count") and tiles["empty"] == tiles["count"]:
                yield f"{attended['value']}: the mask `{short(attended['mask'])}` shows no key to any query"


def _position_warnings(angles: Facts) -> Iterator[str]:
    if (whole := _WHOLE_TO.get(angles["positions_type"])) is not None:
        yield (
            f"{angles['value']}: positions are {angles['positions_type']}, which holds every whole number only to {whole:,}; "
            "larger neighbours become equal and rotate alike; keep them in i32"
        )
    if angles.get("magnitude_range") is not None and angles["table"] is None:
        first, last = angles["magnitude_range"]
        yield (
            f"{angles['value']}: {angles['family']} magnitudes leave float32 before position {first:,.0f} and after {last:,.0f}, and "
            "positions are read at each call; choose a base and centre for the longest sequence"
        )


def short(words: str, limit: int = 160) -> str:
    """The text, cut to `limit` characters."""
    return words if len(words) <= limit else f"{words[: limit - 3]}..."
