"""A plan for a person to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ropegen.explanation.facts import Facts, data, short
from ropegen.plans import Plan


def text(plan: Plan) -> str:
    """The plan for a person to read. Equal plans give equal bytes on every machine."""
    facts = data(plan)
    steps = [step for step in facts["steps"] if not step["prepares"]]
    once = [step for step in facts["steps"] if step["prepares"]]
    sections = [
        ("inputs", _columns([*map(input_row, facts["inputs"])])),
        (
            "outputs",
            _columns(
                [
                    [output["label"], output["type"], bytes_of(output["bytes"]), output["is"]]
                    for output in facts["outputs"]
                ]
            ),
        ),
        (
            f"passes: {_plural(sum(rule['times'] for rule in facts['passes']), 'rewriting')}",
            _columns([*map(pass_row, facts["passes"])]),
        ),
        ("prepared once, from parameters alone", _columns([*map(prepared_row, facts["prepared"])]) + _blocks(once)),
        ("steps of a call", _blocks(steps)),
        (
            "regions considered and not taken",
            [*facts["remarks"], *(line for region in facts["not_taken"] for line in _not_taken_lines(region))],
        ),
        ("totals", _columns(total_rows(facts["totals"]))),
        ("warnings", facts["warnings"]),
    ]
    lines = [
        f"plan of {facts['graph']['name']} for {facts['target']['name']}",
        *(f"  {line}" for line in heading(facts)),
    ]
    for title, body in sections:
        lines += ["", title, *(f"  {line}".rstrip() for line in body or ["none"])]
    return "\n".join(lines) + "\n"


def heading(facts: Facts) -> list[str]:
    graph, target, figures = facts["graph"], facts["target"], facts["target"]["figures"]
    cores = f", {_plural(target['cores'], 'core')}" if target["platform"] == "cpu" else ""
    directions = " and ".join(facts["weighed"])
    weighed = [f"costs   {directions} together"] if directions != "forward" else []
    return [
        f"graph   {graph['digest'][:12]}, {_plural(graph['ops'], 'op')} ({graph['source_ops']} before the passes)",
        f"plan    {facts['plan'][:12]}",
        f"target  {target['platform']} {target['chip']}{cores}",
        f"        matrices {_rate(figures['matmul_bf16'])} in bf16, {_rate(figures['matmul_f32'])} in f32;"
        f" elementwise {_rate(figures['vector'])}; exponentials {quantity(figures['transcendental'], '/s')}",
        f"        memory {bytes_of(figures['bandwidth'])}/s; fast memory {bytes_of(figures['fast_memory'])};"
        f" launch overhead {duration(figures['launch'])}",
        *weighed,
    ]


def input_row(facts: Facts) -> list[str]:
    return [
        facts["label"],
        facts["role"],
        facts["type"],
        bytes_of(facts["bytes"]),
        "" if facts["used"] else "not read by anything",
    ]


def pass_row(facts: Facts) -> list[str]:
    return [f"{facts['times']} x", f"{facts['pass']}/{facts['rule']}", facts["notation"]]


def prepared_row(facts: Facts) -> list[str]:
    return [f"{facts['name']} is {facts['is']}", facts["type"], bytes_of(facts["bytes"])]


def _blocks(steps: Sequence[Facts]) -> list[str]:
    lines: list[str] = []
    for step in steps:
        cost = step["cost"]
        share = "" if step["prepares"] else f", {100 * step['share']:.1f} % of the call"
        price = f"{duration(cost['seconds'])}, {cost['bound']}-bound{share}" if cost["seconds"] else "free"
        lines.append(f"{step['index']}. {title(step)}: {price}")
        lines += (f"     {line}" for line in _columns([*step_rows(step)]))
    return lines


def title(step: Facts) -> str:
    if step["family"] and not step["template"]:
        return f"{step['family']} unfused"
    return step["template"] or f"{step['ops'][-1]} unfused"


def step_rows(step: Facts) -> Iterator[list[str]]:
    cost = step["cost"]
    if step["family"]:
        yield ["computes", counted(step["ops"])]
    if step["tile"]:
        yield ["tile", f"{_sizes(step['tile'])}, {step['tile_from']}"]
    if step["padding"]:
        yield ["padding", _padding(step["padding"])]
    for note in step["notes"]:
        yield ["note", note]
    yield ["reads", ", ".join(step["reads"]) or "nothing"]
    yield ["outputs", ", ".join(f"{output['name']} {output['type']}" for output in step["outputs"])]
    temporary = f"{bytes_of(cost['temporary'])} of temporaries"
    yield ["work", f"{quantity(cost['flops'], 'FLOP')}, {bytes_of(cost['bytes'])} moved, {temporary}"]
    for attention in step["attention"]:
        yield from _attention_rows(attention)
    for angles in step["angles"]:
        yield from _angle_rows(angles)
    for candidate in step["considered"]:
        yield ["options", f"{candidate['template']} {_verdict(candidate)}"]
    if step["family"] and not step["template"]:
        yield ["options", f"unfused: {duration(cost['seconds'])}, {cost['bound']}-bound, taken"]


def _padding(padding: Facts) -> str:
    """What is padded, and what it costs."""
    sizes = [f"{size['what']} from {size['size']:,} to {size['computed']:,}" for size in padding["sizes"]]
    more = 100 * (padding["computed"] / padding["needed"] - 1) if padding["needed"] else 0.0
    unit = f"on {padding['unit']}: " if padding["unit"] else ""
    return f"{unit}{', '.join(sizes)}; {more:,.1f} % more {padding['counts']}"


def _verdict(candidate: Facts) -> str:
    cost = candidate["cost"]
    if cost is None:
        return f"declines: {'; '.join(candidate['declined'])}"
    taken = ", taken" if candidate["chosen"] else ""
    tile = f"{_sizes(candidate['tile'])}, {candidate['tile_from']}: " if candidate["tile"] else ""
    return f"{tile}{duration(cost['seconds'])}, {cost['bound']}-bound{taken}"


def _attention_rows(facts: Facts) -> Iterator[list[str]]:
    heads = _plural(facts["heads"], "head")
    if facts["heads"] != facts["kv_heads"]:
        heads += f" over {facts['kv_heads']}"
    width = str(facts["width"])
    if facts["width"] != facts["value_width"]:
        width += f" (values {facts['value_width']})"
    lengths = f"{_plural(facts['queries'], 'query', 'queries')} to {_plural(facts['keys'], 'key')}"
    yield ["attends", f"{lengths}, {heads} of width {width}, scale {facts['scale']:.6g}"]
    shown = {"True": "every key (True)", "False": "no key (False)"}.get(facts["mask"], short(facts["mask"]))
    extra = [f"soft-cap {facts['softcap']:g}"] if facts["softcap"] else []
    extra += [f"score {short(facts['score'])}"] if facts["score"] else []
    extra += [f"a row without keys gives its {facts['masked_row']}"] if facts["masked_row"] != "zero" else []
    extra += [f"drops {100 * facts['dropout']:g} % of the weights"] if facts.get("dropout") else []
    extra += ["returns the log-sum-exp"] if facts["returns"] != "output" else []
    extra += [f"reads {', '.join(facts['operands'])}"] if facts["operands"] else []
    yield ["mask", "; ".join([shown, *extra])]
    for name, span in facts["positions"].items():
        yield [name, f"{span[0]} to {span[1]}" if span else "read at each call"]
    tiles = facts["tiles"]
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


def _angle_rows(facts: Facts) -> Iterator[list[str]]:
    family = f"{'plain' if facts['family'] == 'none' else facts['family']} frequencies"
    whole = "" if facts["width"] == facts["head_width"] else f" of {facts['head_width']}"
    words = [family, f"theta {facts['theta']:,g}"]
    words += [f"{name} {short(str(value))}" for name, value in facts["attributes"].items()]
    words += [f"{facts['width']}{whole} features"]
    words += [f"{' and '.join(facts['pairings'])} pairs"] if facts["pairings"] else []
    words += [f"sections {facts['sections']}"] if facts["sections"] else []
    yield ["angles", ", ".join(words)]
    if facts["table"] is not None:
        span = facts["positions"]
        where = f"positions {span[0]} to {span[1]}" if span else "no position"
        yield ["table", f"{_TABLES[facts['table']]}, {bytes_of(facts['bytes'])} for {where}: {facts['table_reason']}"]
    else:
        yield ["table", f"computed at each call from positions that it reads, {bytes_of(facts['bytes'])}"]
    if facts["error_bound"] is not None:
        known = "no position is known now" if facts["largest_position"] is None else "the largest known"
        bound = f"cos and sin within {facts['error_bound']:.2g} at position {facts['error_position']:,} ({known})"
        yield ["error", f"{facts['precision']} angles: {bound}"]


def _not_taken_lines(facts: Facts) -> Iterator[str]:
    yield f"{facts['family']} with outputs {', '.join(facts['outputs'])} ({counted(facts['ops'])})"
    verb = "would save" if facts["saving"] >= 0 else "would cost"
    yield f"     {verb} {duration(abs(facts['saving']))}: {facts['reason']}"


def total_rows(totals: Facts) -> list[list[str]]:
    once = f"{bytes_of(totals['prepared_bytes'])} prepared once in {duration(totals['prepare_seconds'])}"
    return [
        ["a call", f"{duration(totals['seconds'])}, mostly {totals['bound']}-bound"],
        ["work", f"{quantity(totals['flops'], 'FLOP')}, {bytes_of(totals['bytes'])} moved"],
        ["temporaries", f"{bytes_of(totals['temporary'])} at most"],
        ["parameters", f"{bytes_of(totals['parameter_bytes'])}, {once}"],
        ["activations in", bytes_of(totals["activation_bytes"])],
        ["states", bytes_of(totals["state_bytes"])],
        ["outputs", bytes_of(totals["output_bytes"])],
        ["constants", bytes_of(totals["constant_bytes"])],
    ]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines; every column except the last is as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def counted(names: Iterable[str]) -> str:
    return ", ".join(name if times == 1 else f"{times} x {name}" for name, times in Counter(names).items())


def _sizes(tile: Mapping[str, int]) -> str:
    return " ".join(f"{name}={size}" for name, size in tile.items())


def _plural(count: int, noun: str, many: str = "") -> str:
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


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


def bytes_of(size: float) -> str:
    return quantity(size, "B")


def _rate(operations: float) -> str:
    return quantity(operations, "FLOP/s")


def duration(seconds: float) -> str:
    """Seconds with three digits, in ns, µs, ms or s."""
    for scale, unit in ((1e9, "ns"), (1e6, "\N{MICRO SIGN}s"), (1e3, "ms")):
        if abs(seconds) * scale < 999.5:
            return f"{_digits(seconds * scale)} {unit}"
    return f"{_digits(seconds)} s"
