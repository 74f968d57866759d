"""A plan in words, as a page, and as data: what is computed how, what was weighed, and why. It decides nothing.

`data` gathers every fact once; `text` and `html` only arrange them. All three are functions of the plan alone: no
date, no colour, nothing of the machine they run on, so that they may stand in an artifact and be compared.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ropegen import masks, passes
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node
from ropegen.ir.text import digest
from ropegen.plan import Candidate, Plan, Rejected, Step, Table
from ropegen.rope import Rope
from ropegen.template import Cost, Tile
from ropegen.types import TensorType, epsilon

Facts: TypeAlias = dict[str, Any]

# Up to here a kernel's range reduction holds the bound of the table, so it is quoted where no position is known.
_REFERENCE_POSITION = 2**20
_LAST_POSITION = 2**31 - 1
# Tiles are classified in strips of at most so many, so that a long sequence does not need their whole map at once.
_STRIP = 1 << 18


# The facts ----------------------------------------------------------------------------------------------------------


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
    return dataclasses.asdict(cost)


def _step(plan: Plan, index: int, step: Step, names: Mapping[Node, str]) -> Facts:
    chosen = step.chosen
    total = plan.cost.seconds
    return {
        "index": index,
        "template": chosen.template if chosen is not None else None,
        "ops": [each.op.name for each in step.nodes],
        "tile": _tile(chosen.tile) if chosen is not None else {},
        "tile_from": chosen.tile_from if chosen is not None else None,
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
    float32, and combined with two roundings below that. Fixed point adds `ropegen.rope.fixed_point`'s own error. The
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
                yield f"{each['value']}: the mask `{_short(each['mask'])}` shows no key to any query"


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


# Words ---------------------------------------------------------------------------------------------------------------


def text(plan: Plan) -> str:
    """The plan for a person to read; the same bytes for the same plan everywhere."""
    facts = data(plan)
    steps = [step for step in facts["steps"] if not step["prepares"]]
    once = [step for step in facts["steps"] if step["prepares"]]
    sections = [
        ("inputs", _columns([*map(_input_row, facts["inputs"])])),
        (
            "outputs",
            _columns([[each["label"], each["type"], _bytes(each["bytes"]), each["is"]] for each in facts["outputs"]]),
        ),
        (
            f"passes: {_plural(sum(each['times'] for each in facts['passes']), 'rewriting')}",
            _columns([*map(_pass_row, facts["passes"])]),
        ),
        ("prepared once, from parameters alone", _columns([*map(_prepared_row, facts["prepared"])]) + _blocks(once)),
        ("steps of a call", _blocks(steps)),
        ("regions considered and not taken", [line for each in facts["not_taken"] for line in _not_taken_lines(each)]),
        ("totals", _columns(_total_rows(facts["totals"]))),
        ("warnings", facts["warnings"]),
    ]
    lines = [
        f"plan of {facts['graph']['name']} for {facts['target']['name']}",
        *(f"  {each}" for each in _heading(facts)),
    ]
    for title, body in sections:
        lines += ["", title, *(f"  {line}".rstrip() for line in body or ["none"])]
    return "\n".join(lines) + "\n"


def _heading(facts: Facts) -> list[str]:
    graph, target, figures = facts["graph"], facts["target"], facts["target"]["figures"]
    cores = f", {_plural(target['cores'], 'core')}" if target["platform"] == "cpu" else ""
    return [
        f"graph   {graph['digest'][:12]}, {_plural(graph['ops'], 'op')} ({graph['source_ops']} before the passes)",
        f"plan    {facts['plan'][:12]}",
        f"target  {target['platform']} {target['chip']}{cores}",
        f"        matrices {_rate(figures['matmul_bf16'])} in bf16, {_rate(figures['matmul_f32'])} in f32;"
        f" elementwise {_rate(figures['vector'])}; exponentials {quantity(figures['transcendental'], '/s')}",
        f"        memory {_bytes(figures['bandwidth'])}/s; fast memory {_bytes(figures['fast_memory'])};"
        f" starting a region {duration(figures['launch'])}",
    ]


def _input_row(each: Facts) -> list[str]:
    return [
        each["label"],
        each["role"],
        each["type"],
        _bytes(each["bytes"]),
        "" if each["used"] else "not read by anything",
    ]


def _pass_row(each: Facts) -> list[str]:
    return [f"{each['times']} x", f"{each['pass']}/{each['rule']}", each["notation"]]


def _prepared_row(each: Facts) -> list[str]:
    return [f"{each['name']} is {each['is']}", each["type"], _bytes(each["bytes"])]


def _blocks(steps: Sequence[Facts]) -> list[str]:
    lines: list[str] = []
    for step in steps:
        cost = step["cost"]
        share = "" if step["prepares"] else f", {100 * step['share']:.1f} % of the call"
        price = f"{duration(cost['seconds'])}, {cost['bound']}-bound{share}" if cost["seconds"] else "free"
        lines.append(f"{step['index']}. {_title(step)}: {price}")
        lines += (f"     {line}" for line in _columns([*_step_rows(step)]))
    return lines


def _title(step: Facts) -> str:
    return step["template"] or f"{step['ops'][-1]} by itself"


def _step_rows(step: Facts) -> Iterator[list[str]]:
    cost = step["cost"]
    if step["template"]:
        yield ["computes", _counted(step["ops"])]
    if step["tile"]:
        yield ["tile", f"{_sizes(step['tile'])}, {step['tile_from']}"]
    yield ["reads", ", ".join(step["reads"]) or "nothing"]
    yield ["gives", ", ".join(f"{each['name']} {each['type']}" for each in step["gives"])]
    temporary = f"{_bytes(cost['temporary'])} of temporaries"
    yield ["work", f"{quantity(cost['flops'], 'FLOP')}, {_bytes(cost['bytes'])} moved, {temporary}"]
    for each in step["attention"]:
        yield from _attention_rows(each)
    for each in step["angles"]:
        yield from _angle_rows(each)
    for each in step["considered"]:
        yield ["weighed", f"{each['template']} {_verdict(each)}"]


def _verdict(each: Facts) -> str:
    cost = each["cost"]
    if cost is None:
        return f"declines: {'; '.join(each['declined'])}"
    taken = ", taken" if each["chosen"] else ""
    tile = f"{_sizes(each['tile'])}, {each['tile_from']}: " if each["tile"] else ""
    return f"{tile}{duration(cost['seconds'])}, {cost['bound']}-bound{taken}"


def _attention_rows(each: Facts) -> Iterator[list[str]]:
    heads = _plural(each["heads"], "head")
    if each["heads"] != each["kv_heads"]:
        heads += f" over {each['kv_heads']}"
    width = str(each["width"])
    if each["width"] != each["value_width"]:
        width += f" (values {each['value_width']})"
    lengths = f"{_plural(each['queries'], 'query', 'queries')} to {_plural(each['keys'], 'key')}"
    yield ["attends", f"{lengths}, {heads} of width {width}, scale {each['scale']:.6g}"]
    shown = {"True": "every key (True)", "False": "no key (False)"}.get(each["mask"], _short(each["mask"]))
    extra = [f"soft-cap {each['softcap']:g}"] if each["softcap"] else []
    extra += [f"score {_short(each['score'])}"] if each["score"] else []
    extra += [f"a row without keys gives its {each['masked_row']}"] if each["masked_row"] != "zero" else []
    extra += ["returns the log-sum-exp"] if each["returns"] != "output" else []
    extra += [f"reads {', '.join(each['operands'])}"] if each["operands"] else []
    yield ["mask", "; ".join([shown, *extra])]
    for name, span in each["positions"].items():
        yield [name, f"{span[0]} to {span[1]}" if span else "read at each call"]
    tiles = each["tiles"]
    if "unknown" in tiles:
        yield ["tiles", tiles["unknown"]]
        return
    kinds = f"{tiles['empty']} empty (skipped), {tiles['full']} full, {tiles['partial']} partial"
    share = tiles["scores_computed"] / tiles["scores"] if tiles["scores"] else 0.0
    yield ["tiles", f"{tiles['count']}: {kinds}; {100 * share:.1f} % of the scores are computed"]


_TABLES = {
    "constant": "a constant of the module",
    "argument": "an argument, computed once",
    "computed": "computed at each call",
}


def _angle_rows(each: Facts) -> Iterator[list[str]]:
    family = f"{'plain' if each['family'] == 'none' else each['family']} frequencies"
    whole = "" if each["width"] == each["head_width"] else f" of {each['head_width']}"
    words = [family, f"theta {each['theta']:,g}"]
    words += [f"{name} {_short(str(value))}" for name, value in each["attributes"].items()]
    words += [f"{each['width']}{whole} features"]
    words += [f"{' and '.join(each['pairings'])} pairs"] if each["pairings"] else []
    words += [f"sections {each['sections']}"] if each["sections"] else []
    yield ["angles", ", ".join(words)]
    if each["table"] is not None:
        span = each["positions"]
        where = f"positions {span[0]} to {span[1]}" if span else "no position"
        yield ["table", f"{_TABLES[each['table']]}, {_bytes(each['bytes'])} for {where}: {each['table_reason']}"]
    else:
        yield ["table", f"computed at each call from positions that it reads, {_bytes(each['bytes'])}"]
    if each["error_bound"] is not None:
        known = "no position is known now" if each["largest_position"] is None else "the largest known"
        bound = f"cos and sin within {each['error_bound']:.2g} at position {each['error_position']:,} ({known})"
        yield ["error", f"{each['precision']} angles: {bound}"]


def _not_taken_lines(each: Facts) -> Iterator[str]:
    yield f"{each['family']} giving {', '.join(each['gives'])} ({_counted(each['ops'])})"
    verb = "would save" if each["saving"] >= 0 else "would cost"
    yield f"     {verb} {duration(abs(each['saving']))}: {each['reason']}"


def _total_rows(totals: Facts) -> list[list[str]]:
    once = f"{_bytes(totals['prepared_bytes'])} made of them once in {duration(totals['prepare_seconds'])}"
    return [
        ["a call", f"{duration(totals['seconds'])}, mostly {totals['bound']}-bound"],
        ["work", f"{quantity(totals['flops'], 'FLOP')}, {_bytes(totals['bytes'])} moved"],
        ["temporaries", f"{_bytes(totals['temporary'])} at most"],
        ["parameters", f"{_bytes(totals['parameter_bytes'])}, {once}"],
        ["activations in", _bytes(totals["activation_bytes"])],
        ["states", _bytes(totals["state_bytes"])],
        ["outputs", _bytes(totals["output_bytes"])],
        ["constants", _bytes(totals["constant_bytes"])],
    ]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines, every column but the last as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def _counted(names: Iterable[str]) -> str:
    return ", ".join(name if times == 1 else f"{times} x {name}" for name, times in Counter(names).items())


def _sizes(tile: Mapping[str, int]) -> str:
    return " ".join(f"{name}={size}" for name, size in tile.items())


def _plural(count: int, noun: str, many: str = "") -> str:
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def _short(words: str, limit: int = 160) -> str:
    return words if len(words) <= limit else f"{words[: limit - 3]}..."


def quantity(value: float, unit: str) -> str:
    """A value with three digits and a decimal prefix: 1.23 GFLOP."""
    for prefix in ("", "k", "M", "G", "T"):
        if abs(value) < 999.5:
            return f"{_digits(value)} {prefix}{unit}"
        value /= 1000
    return f"{_digits(value)} P{unit}"


def _digits(value: float) -> str:
    if value == int(value) and abs(value) < 1000:
        return str(int(value))
    return f"{value:.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f}"


def _bytes(size: float) -> str:
    return quantity(size, "B")


def _rate(operations: float) -> str:
    return quantity(operations, "FLOP/s")


def duration(seconds: float) -> str:
    """Seconds with three digits, in ns, µs, ms or s."""
    for scale, unit in ((1e9, "ns"), (1e6, "\N{MICRO SIGN}s"), (1e3, "ms")):
        if abs(seconds) * scale < 999.5:
            return f"{_digits(seconds * scale)} {unit}"
    return f"{_digits(seconds)} s"


# A page --------------------------------------------------------------------------------------------------------------

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #57606a; --ground: #fff; --rule: #d0d7de;
        --compute: #3b6fd4; --memory: #b7791f; --launch: #7d8590; --warn: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --dim: #9198a1; --ground: #0d1117; --rule: #30363d;
          --compute: #6ea0ff; --memory: #d9a441; --launch: #8b949e; --warn: #ff8f84; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 0; }
main { max-width: 70rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
td, th { text-align: left; vertical-align: top; padding: .2rem 1rem .2rem 0; border-bottom: 1px solid var(--rule); }
th { color: var(--dim); font-weight: 500; }
td, summary { font-variant-numeric: tabular-nums; }
summary { cursor: pointer; padding: .2rem 0; }
details > table { margin: .3rem 0 .8rem 1.2rem; }
.chart { display: grid; grid-template-columns: max-content 1fr max-content; gap: .25rem .8rem; align-items: center; }
.bar { height: .9rem; min-width: 1px; border-radius: 2px; }
.compute { background: var(--compute); } .memory { background: var(--memory); } .launch { background: var(--launch); }
.dim { color: var(--dim); } .warn { color: var(--warn); }
"""


def html(plan: Plan) -> str:
    """The plan as one page: the same facts as `text`, a bar for the predicted time of each step; it loads nothing."""
    facts = data(plan)
    steps = [step for step in facts["steps"] if not step["prepares"]]
    once = [step for step in facts["steps"] if step["prepares"]]
    title = escape(f"plan of {facts['graph']['name']} for {facts['target']['name']}")
    heading = "".join(f"<div>{escape(' '.join(line.split()))}</div>" for line in _heading(facts))
    warned = "".join(f'<p class="warn">{escape(each)}</p>' for each in facts["warnings"]) or '<p class="dim">none</p>'
    outputs = [[each["label"], each["type"], _bytes(each["bytes"]), each["is"]] for each in facts["outputs"]]
    not_taken = [
        [each["family"], ", ".join(each["gives"]), _counted(each["ops"]), duration(each["saving"]), each["reason"]]
        for each in facts["not_taken"]
    ]
    sections = {
        "Time": _chart(steps),
        "Totals": _table((), _total_rows(facts["totals"])),
        "Warnings": warned,
        "Steps of a call": _details(steps),
        "Prepared once": _table(("", "type", "size"), [*map(_prepared_row, facts["prepared"])]) + _details(once),
        "Regions considered and not taken": _table(("family", "gives", "ops", "would save", "why not"), not_taken),
        "Passes": _table(("times", "rule", "what it does"), [*map(_pass_row, facts["passes"])]),
        "Inputs": _table(("", "role", "type", "size", ""), [*map(_input_row, facts["inputs"])]),
        "Outputs": _table(("", "type", "size", "value"), outputs),
    }
    body = "".join(f"<section><h2>{name}</h2>{content}</section>\n" for name, content in sections.items())
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f'<body><main><h1>{title}</h1><div class="dim">{heading}</div>\n{body}</main></body></html>\n'
    )


def _chart(steps: Sequence[Facts]) -> str:
    """A bar a step, as long as its predicted time; the colour, and the words, say what bounds it."""
    longest = max((step["cost"]["seconds"] for step in steps), default=0.0)
    rows: list[str] = []
    for step in steps:
        seconds, bound = step["cost"]["seconds"], step["cost"]["bound"]
        if seconds:
            bar = f'<div class="bar {bound}" style="width:{100 * seconds / longest:.2f}%"></div>'
            words = f'{duration(seconds)} <span class="dim">{bound}</span>'
            rows.append(f"<div>{step['index']}. {escape(_title(step))}</div><div>{bar}</div><div>{words}</div>")
    return f'<div class="chart">{"".join(rows)}</div>' if rows else '<p class="dim">nothing takes time</p>'


def _details(steps: Sequence[Facts]) -> str:
    found = [
        f"<details open><summary>{step['index']}. {escape(_title(step))}, {duration(step['cost']['seconds'])}</summary>"
        f"{_table((), [*_step_rows(step)])}</details>"
        for step in steps
    ]
    return "".join(found) or '<p class="dim">none</p>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return '<p class="dim">none</p>'
    titles = "".join(f'<th scope="col">{escape(each)}</th>' for each in header)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{f'<thead><tr>{titles}</tr></thead>' if header else ''}<tbody>{lines}</tbody></table>"
