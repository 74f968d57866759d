"""The facts of a plan, gathered once: `text` and `html` only arrange them."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ropegen import masks, passes
from ropegen.cost import Cost
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node
from ropegen.ir.text import digest
from ropegen.planner import Candidate, Plan, Rejected, Step, Table
from ropegen.rotary import Rope
from ropegen.template import Tile
from ropegen.types import TensorType, epsilon

Facts: TypeAlias = dict[str, Any]

# Up to here a kernel's range reduction holds the bound of the table, so it is quoted where no position is known.
_REFERENCE_POSITION = 2**20
_LAST_POSITION = 2**31 - 1
# Tiles are classified in strips of at most so many, so that a long sequence does not need their whole map at once.
_STRIP = 1 << 18


def data(plan: Plan) -> Facts:
    """Every fact of a plan as numbers, words and lists, ready for `json.dumps`; times in seconds, sizes in bytes."""
    names = _names(plan.graph)
    steps = [_step(plan, index, step, names) for index, step in enumerate(plan.steps, start=1)]
    return {
        "graph": {
            "name": plan.graph.name,
            "digest": digest(plan.graph),
            "ops": _count(plan.graph),
            "source_digest": digest(plan.source),
            "source_ops": _count(plan.source),
        },
        "plan": plan.digest,
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
        "not_taken": [_not_taken(each, names) for each in plan.rejected],
        "totals": _totals(plan, steps),
        "warnings": [*_warnings(steps)],
    }


def _names(graph: Graph) -> dict[Node, str]:
    """A name for each value: an input's label, else %op, with a number from the second of its kind on."""
    seen: Counter[str] = Counter()
    found: dict[Node, str] = {}
    for each in graph.nodes:
        if isinstance(each.op, ops.Input):
            found[each] = each.op.label
            continue
        found[each] = f"%{each.op.name}{seen[each.op.name] or ''}"
        seen[each.op.name] += 1
    return found


def _count(graph: Graph) -> int:
    return len(graph.nodes) - len(graph.inputs)


def _typed(kind: TensorType) -> Facts:
    return {"type": str(kind), "shape": list(kind.shape), "dtype": kind.dtype, "bytes": kind.bytes}


def _inputs(source: Graph, kept: frozenset[Node]) -> Iterator[Facts]:
    for each in source.inputs:
        if isinstance(each.op, ops.Input):
            yield {"label": each.op.label, "role": each.op.role, **_typed(each.type), "used": each in kept}


def _passes(plan: Plan) -> list[Facts]:
    notation = {(each.name, rule.name): rule.notation for each in passes.PIPELINE for rule in each.rules}
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
        "template": chosen.template if chosen is not None else None,
        "ops": [each.op.name for each in step.nodes],
        "tile": _tile(chosen.tile) if chosen is not None else {},
        "tile_from": chosen.tile_from if chosen is not None else None,
        "notes": list(chosen.notes) if chosen is not None else [],
        "prepares": step.prepares,
        "reads": [names[each] for each in step.operands],
        "gives": [{"name": names[each], **_typed(each.type)} for each in step.outputs],
        "cost": _cost(step.cost),
        "share": 0.0 if step.prepares or not total else step.cost.seconds / total,
        "considered": [{**_candidate(each), "chosen": each is chosen} for each in step.considered],
        "attention": [
            _attention(each, each.op, chosen, names) for each in step.nodes if isinstance(each.op, ops.Attend)
        ],
        "angles": [*_angles(plan.graph, step, names)],
    }


def _tile(tile: Tile) -> dict[str, int]:
    return dict(tile.sizes)


def _candidate(each: Candidate) -> Facts:
    return {
        "template": each.template,
        "tile": _tile(each.tile),
        "tile_from": each.tile_from,
        "cost": _cost(each.cost) if each.cost is not None else None,
        "declined": list(each.declined),
    }


def _not_taken(each: Rejected, names: Mapping[Node, str]) -> Facts:
    region = each.region
    return {
        "family": region.family,
        "ops": [value.op.name for value in region.nodes],
        "gives": [names[value] for value in region.outputs],
        "saving": each.saving,
        "reason": each.reason,
    }


def _totals(plan: Plan, steps: Sequence[Facts]) -> Facts:
    prepares = [step.cost for step in plan.steps if step.prepares]
    sizes = {role: sum(each.type.bytes for each in _of_role(plan.graph, role)) for role in ops.ROLES}
    return {
        **_cost(plan.cost),
        "prepare_seconds": sum(each.seconds for each in prepares),
        "prepared_bytes": sum(value.type.bytes for value in plan.prepared),
        "constant_bytes": sum(
            each["bytes"] for step in steps for each in step["angles"] if each["table"] == "constant"
        ),
        "output_bytes": sum(value.type.bytes for _, value in plan.graph.outputs),
        **{f"{role}_bytes": size for role, size in sizes.items()},
    }


def _of_role(graph: Graph, role: str) -> Iterator[Node]:
    return (each for each in graph.inputs if isinstance(each.op, ops.Input) and each.op.role == role)


# Attention: which tiles are left out ---------------------------------------------------------------------------------


def _attention(value: Node, op: ops.Attend, chosen: Candidate | None, names: Mapping[Node, str]) -> Facts:
    q, k, v = (each.type for each in value.operands[:3])
    return {
        "value": names[value],
        "queries": q.shape[-3],
        "keys": k.shape[-3],
        "heads": q.shape[-2],
        "kv_heads": k.shape[-2],
        "width": q.shape[-1],
        "value_width": v.shape[-1],
        "mask": str(op.visible),
        "score": None if op.score == masks.identity else str(op.score),
        "scale": op.scale,
        "softcap": op.softcap,
        "masked_row": op.masked_row,
        "returns": op.returns,
        "operands": [each for each in op.given if not each.endswith("positions")],
        "positions": {name: _span(value.operand(name)) for name in ("q_positions", "kv_positions") if name in op.given},
        "tiles": _tiles(value, op, chosen),
    }


def _span(positions: Node | None) -> list[int] | None:
    """The first and the last of positions that are known now."""
    if positions is None or not isinstance(positions.op, ops.Positions) or not positions.op.length:
        return None
    return [positions.op.start, positions.op.start + positions.op.length - 1]


def _tiles(value: Node, op: ops.Attend, chosen: Candidate | None) -> Facts:
    """How many tiles of scores a mask leaves empty, full and partial, or why that is not known."""
    sizes = _tile(chosen.tile) if chosen is not None else {}
    if not {"q", "kv"} <= sizes.keys():
        return {"unknown": "the scores are computed whole, not in tiles"}
    q, k = value.operands[0].type, value.operands[1].type
    read = masks.variables(op.visible)
    rows = _ranges(q.shape[-3], sizes["q"], value.operand("q_positions"), "q_pos" in read)
    columns = _ranges(k.shape[-3], sizes["kv"], value.operand("kv_positions"), "kv_pos" in read)
    if rows is None or columns is None:
        return {"unknown": "positions are read at each call, so no tile is known to be empty now"}
    heights = np.minimum(sizes["q"], q.shape[-3] - np.arange(0, q.shape[-3], sizes["q"]))
    widths = np.minimum(sizes["kv"], k.shape[-3] - np.arange(0, k.shape[-3], sizes["kv"]))
    every = {"head": (0, max(1, q.shape[-2]) - 1), "batch": (0, max(1, math.prod(q.shape[:-3])) - 1)}
    counts = np.zeros(3, np.int64)
    visited = 0
    strip = max(1, _STRIP // max(1, len(columns)))
    for start in range(0, len(rows) if len(columns) else 0, strip):
        classes = masks.classify_tiles(op.visible, rows[start : start + strip], columns, **every)
        if "mask" in op.given:  # a dense mask may hide anything of what the expression shows
            classes = np.minimum(classes, masks.PARTIAL)
        counts += np.bincount(classes.ravel(), minlength=3)
        visited += int(heights[start : start + strip] @ (classes != masks.EMPTY) @ widths)
    scores = q.shape[-3] * k.shape[-3]
    return {
        "count": int(counts.sum()),
        "empty": int(counts[masks.EMPTY]),
        "partial": int(counts[masks.PARTIAL]),
        "full": int(counts[masks.FULL]),
        "scores_computed": visited,
        "scores": scores,
    }


def _ranges(length: int, size: int, positions: Node | None, read: bool) -> npt.NDArray[np.int64] | None:
    """The first and last position of each tile, (n, 2); None where the mask reads them and they are not known now."""
    if read and (positions is None or not isinstance(positions.op, ops.Positions)):
        return None
    first = positions.op.start if positions is not None and isinstance(positions.op, ops.Positions) else 0
    starts = np.arange(0, length, size)
    return np.stack([starts, np.minimum(starts + size, length) - 1], axis=-1) + first


# Half-precision types hold every whole number up to here.
_WHOLE_TO = {"bf16": 256, "f16": 2048}

# Angles: what they are, what they weigh, how far they hold -----------------------------------------------------------


def _angles(graph: Graph, step: Step, names: Mapping[Node, str]) -> Iterator[Facts]:
    for value in step.nodes:
        op = value.op
        found: Facts = {"value": names[value], "family": "sinusoid", "attributes": {}, "sections": []}
        if isinstance(op, ops.Angles):
            readers = [each for each in graph.nodes if isinstance(each.op, ops.Rotate) and each.operands[1] is value]
            attributes = op.scaling.to_attributes()
            found["family"] = attributes.pop("kind")
            found["attributes"] = {name: _plain(each) for name, each in attributes.items()}
            found |= {"width": op.dim, "head_width": op.head_width, "length": op.length, "inverse": op.inverse}
            found |= {"sections": list(op.sections), "rotates": sorted({each.type.dtype for each in readers})}
            found["pairings"] = sorted({each.op.pairing for each in readers if isinstance(each.op, ops.Rotate)})
            found["magnitude_range"] = op.rope.magnitude_range(op.head_width)
            rope, stored = op.rope, "f32"
        elif isinstance(op, ops.Sinusoid):
            found |= {"width": op.width, "head_width": op.width, "rotates": [op.dtype], "pairings": [op.pairing]}
            rope, stored = _like(op), op.dtype
        else:
            continue
        found |= {"theta": op.theta, "precision": op.precision, "positions_type": value.operands[0].type.dtype}
        yield found | _reach(graph, value, rope, stored, found["rotates"], step.table)


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
    """Where the angles are taken from, and the bound on their error at the largest position that is known."""
    own = _span(value.operands[0])
    spans = [own] if own is not None else [span for each in graph.nodes if (span := _span(each)) is not None]
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
    """The bound on a cosine or sine: that of the table and, where exact angles are reduced at run time, of that too.

    Cosine and sine are taken within 2 u, u = 2**-24, of an angle of at most an eighth of a turn that is held in two
    float32, and combined with two roundings below that. Fixed point adds `ropegen.rotary.fixed_point`'s own error. The
    fraction of a fractional position is rounded three times, and is below one radian.
    """
    bound = rope.angle_error(at, stored)
    if (table is not None and table.kind == "constant") or rope.angles == "f32":
        return bound
    unit = 2.0**-24
    fraction = 3 * unit if positions.type.is_float else 0.0
    return min(2.0, bound + 3 * unit + fraction + 2 * math.pi * at * 2.0**-65)


def _holds_to(rope: Rope, stored: str, allowed: float) -> int:
    """The largest position at which the bound on the error is within `allowed`; -1 where it is at none."""
    low, high = -1, _LAST_POSITION
    while low < high:
        middle = (low + high + 1) // 2
        if rope.angle_error(middle, stored) <= allowed:
            low = middle
        else:
            high = middle - 1
    return low


def _warnings(steps: Sequence[Facts]) -> Iterator[str]:
    for step in steps:
        for each in step["angles"]:
            yield from _position_warnings(each)
            if each["precision"] != "f32" or each["holds_to"] is None:
                continue
            largest, holds = each["largest_position"], each["holds_to"]
            if largest is None or largest > holds:
                reach = "at any position" if holds < 0 else f"past position {holds:,}"
                known = "" if largest is None else f", and positions reach {largest:,}"
                yield (
                    f"{each['value']}: f32 angles may be off by more than the epsilon of {each['epsilon_of']}, "
                    f'{each["epsilon"]:.2g}, {reach}{known}; precision="exact" costs nothing more'
                )
        for each in step["attention"]:
            tiles = each["tiles"]
            if tiles.get("count") and tiles["empty"] == tiles["count"]:
                yield f"{each['value']}: the mask `{short(each['mask'])}` shows no key to any query"


def _position_warnings(each: Facts) -> Iterator[str]:
    if (whole := _WHOLE_TO.get(each["positions_type"])) is not None:
        yield (
            f"{each['value']}: positions are {each['positions_type']}, which holds every whole number only to {whole:,}; "
            "beyond, neighbours turn alike: keep them in i32"
        )
    if each.get("magnitude_range") is not None and each["table"] is None:
        first, last = each["magnitude_range"]
        yield (
            f"{each['value']}: {each['family']} magnitudes leave float32 before position {first:,.0f} and after {last:,.0f}, and "
            "positions are read at each call; choose a base and centre for the longest sequence"
        )


def short(words: str, limit: int = 160) -> str:
    """The words, cut to `limit` characters."""
    return words if len(words) <= limit else f"{words[: limit - 3]}..."
