"""The facts of a plan in words: rows and lines that the text and the page arrange."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ropegen.explanation.attention import Facts
from ropegen.explanation.facts import short
from ropegen.quantities import bytes_of, duration, plural, quantity

# How many of the most expensive steps the summary names.
_MOST_EXPENSIVE = 3

LEGEND = (
    ("estimate", "every time is an estimate of the cost model, not a measurement; `ropegen bench` measures"),
    ("compute-bound", "most of the time goes into operations: a chip with more FLOP/s would be faster"),
    ("memory-bound", "most of the time goes into moving bytes between main memory and the chip"),
    ("launch-bound", "most of the time goes into starting kernels and the ops inside them"),
    ("floors", "what the operations alone take at the peak of the chip, and the bytes alone at its bandwidth"),
)


def summary(facts: Facts) -> list[list[str]]:
    """Six rows: time, bound, chip, shapes and types, the most expensive steps, and warnings."""
    totals, steps = facts["totals"], [step for step in facts["steps"] if not step["prepares"]]
    seconds = totals["seconds"]
    directions = "" if facts["weighed"] == ["forward"] else f", {' and '.join(facts['weighed'])} together"
    calibrated = ", calibrated by times on such a chip" if facts["target"]["figures"]["measured"] != 1 else ""
    causes = sorted(("compute", "memory", "launch"), key=lambda cause: -totals[cause])
    shares = [f"{cause} {_share(totals[cause] / seconds)}" for cause in causes if seconds and totals[cause]]
    longest = sorted(steps, key=lambda step: -step["cost"]["seconds"])[:_MOST_EXPENSIVE]
    spent = [f"{step['index']}. {title(step)} {_share(step['share'])}" for step in longest if step["share"]]
    return [
        ["estimate", f"{duration(seconds)} a call{directions}{calibrated}"],
        ["bound", f"{totals['bound']}-bound: {', '.join(shares)} of the time" if shares else "nothing takes time"],
        ["chip", _chip(facts["target"])],
        ["shapes", _shapes(facts)],
        ["steps", f"{plural(len(steps), 'step')}{', the most expensive ' if spent else ''}{', '.join(spent)}"],
        ["warnings", "; ".join(facts["warnings"]) or "none"],
    ]


def _share(part: float) -> str:
    if 0 < part < 0.0005:
        return "less than 0.1 %"
    return f"{100 * part:.{1 if part < 0.0995 else 0}f} %"


def _chip(target: Facts) -> str:
    figures = target["figures"]
    name = f"{target['platform']} {target['chip']}"
    cores = f", {plural(target['cores'], 'core')}" if target["platform"] == "cpu" else ""
    rates = f"{_rate(figures['matmul_bf16'])} in bf16, {_rate(figures['matmul_f32'])} in f32"
    return f"{name}{cores}: {rates}, {bytes_of(figures['bandwidth'])}/s of memory"


def _shapes(facts: Facts) -> str:
    fed = [f"{value['label']} {_typed(value)}" for value in facts["inputs"] if value["role"] != "parameter"]
    made = [f"{value['label']} {_typed(value)}" for value in facts["outputs"]]
    size = facts["totals"]["parameter_bytes"]
    parameters = f"; parameters {bytes_of(size)}" if size else ""
    return f"{', '.join(fed) or 'no activation'} -> {', '.join(made)}{parameters}"


def _typed(value: Facts) -> str:
    return f"{value['dtype']}[{','.join(map(str, value['shape']))}]"


def heading(facts: Facts) -> list[list[str]]:
    """What the plan is for, in rows."""
    graph, target, figures = facts["graph"], facts["target"], facts["target"]["figures"]
    cores = f", {plural(target['cores'], 'core')}" if target["platform"] == "cpu" else ""
    directions = " and ".join(facts["weighed"])
    return [
        ["graph", f"{graph['digest'][:12]}, {plural(graph['ops'], 'op')} ({graph['source_ops']} before the passes)"],
        ["plan", facts["plan"][:12]],
        ["target", f"{target['platform']} {target['chip']}{cores}"],
        ["rates", f"matrices {_rate(figures['matmul_bf16'])} in bf16, {_rate(figures['matmul_f32'])} in f32;"
        f" elementwise {_rate(figures['vector'])}; exponentials {quantity(figures['transcendental'], '/s')}"],
        ["memory", f"{bytes_of(figures['bandwidth'])}/s; fast memory {bytes_of(figures['fast_memory'])};"
        f" launch overhead {duration(figures['launch'])}"],
        ["estimates", f"from {figures['basis']}"],
        *([["costs", f"{directions} together"]] if directions != "forward" else []),
    ]  # fmt: skip


def input_row(facts: Facts) -> list[str]:
    return [
        facts["label"],
        facts["role"],
        facts["type"],
        bytes_of(facts["bytes"]),
        "" if facts["used"] else "not read by anything",
    ]


def output_row(facts: Facts) -> list[str]:
    return [facts["label"], facts["type"], bytes_of(facts["bytes"]), facts["is"]]


def pass_row(facts: Facts) -> list[str]:
    return [f"{facts['times']} x", f"{facts['pass']}/{facts['rule']}", facts["notation"]]


def prepared_row(facts: Facts) -> list[str]:
    return [f"{facts['name']} is {facts['is']}", facts["type"], bytes_of(facts["bytes"])]


def title(step: Facts) -> str:
    if step["family"] and not step["template"]:
        return f"{step['family']} unfused"
    return step["template"] or f"{step['ops'][-1]} unfused"


def price(step: Facts) -> str:
    """What a step takes and why, such as `545 µs, compute-bound, 42 % of the call`."""
    cost = step["cost"]
    if not cost["seconds"]:
        return "takes no time"
    share = "" if step["prepares"] else f", {_share(step['share'])} of the call"
    return f"{duration(cost['seconds'])}, {cost['bound']}-bound{share}"


def step_rows(step: Facts) -> Iterator[list[str]]:
    """What a step computes, and how, without its options."""
    cost = step["cost"]
    if step["family"]:
        yield ["computes", counted(step["ops"])]
    if step["tile"]:
        yield ["tile", f"{_sizes(step['tile'])}, {step['tile_from']}"]
    if step["padding"]:
        yield ["padding", _padding(step["padding"])]
    for note in step["notes"]:
        yield ["note", note]
    if step["reads"]:
        yield ["reads", ", ".join(step["reads"])]
    yield ["outputs", ", ".join(f"{output['name']} {output['type']}" for output in step["outputs"])]
    work = [quantity(cost["flops"], "FLOP")] if cost["flops"] else []
    work += [f"{bytes_of(cost['bytes'])} moved"] if cost["bytes"] else []
    work += [f"{bytes_of(cost['temporary'])} of temporaries"] if cost["temporary"] else []
    if work:
        yield ["work", ", ".join(work)]
    floors = {cause: seconds for cause, seconds in step["floors"].items() if seconds}
    if floors and cost["seconds"]:
        yield ["floors", ", ".join(f"{cause} {duration(seconds)}" for cause, seconds in floors.items())]
    for attention in step["attention"]:
        yield from _attention_rows(attention)
    for angles in step["angles"]:
        yield from _angle_rows(angles)


def option_rows(step: Facts) -> Iterator[list[str]]:
    """The ways to compute the region of a step: what each one takes, or why it declines."""
    for candidate in step["considered"]:
        yield [candidate["template"], _verdict(candidate)]
    if unfused := step["unfused"]:
        taken = "" if step["template"] else ", taken"
        yield ["unfused", f"{duration(unfused['seconds'])}, {unfused['bound']}-bound{taken}"]


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
    heads = plural(facts["heads"], "head")
    if facts["heads"] != facts["kv_heads"]:
        heads += f" over {facts['kv_heads']}"
    width = str(facts["width"])
    if facts["width"] != facts["value_width"]:
        width += f" (values {facts['value_width']})"
    lengths = f"{plural(facts['queries'], 'query', 'queries')} to {plural(facts['keys'], 'key')}"
    yield ["attends", f"{lengths}, {heads} of width {width}, scale {facts['scale']:.6g}"]
    extra = [f"soft-cap {facts['softcap']:g}"] if facts["softcap"] else []
    extra += [f"score {short(facts['score'])}"] if facts["score"] else []
    extra += [f"a row without keys gives its {facts['masked_row']}"] if facts["masked_row"] != "zero" else []
    extra += [f"drops {100 * facts['dropout']:g} % of the weights"] if facts.get("dropout") else []
    extra += ["returns the log-sum-exp"] if facts["returns"] != "output" else []
    extra += [f"reads {', '.join(facts['operands'])}"] if facts["operands"] else []
    yield ["mask", "; ".join([shown_mask(facts), *extra])]
    for name, span in facts["positions"].items():
        yield [name, f"{span[0]} to {span[1]}" if span else "read at each call"]
    tiles = facts["tiles"]
    if "unknown" in tiles:
        yield ["tiles", tiles["unknown"]]
        return
    kinds = f"{tiles['empty']} empty (skipped), {tiles['full']} full, {tiles['partial']} partial"
    share = tiles["scores_computed"] / tiles["scores"] if tiles["scores"] else 0.0
    yield ["tiles", f"{tiles['count']}: {kinds}; {100 * share:.1f} % of the scores are computed"]


def shown_mask(attention: Facts) -> str:
    """The mask of an attention, in its own notation."""
    return {"True": "every key (True)", "False": "no key (False)"}.get(attention["mask"], short(attention["mask"]))


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


def not_taken_row(facts: Facts) -> list[str]:
    """A region that was considered: its family, its ops, its outputs, and why it is not taken."""
    return [facts["family"], counted(facts["ops"]), ", ".join(facts["outputs"]), facts["reason"]]


def total_rows(totals: Facts) -> list[list[str]]:
    once = f", {bytes_of(totals['prepared_bytes'])} prepared once in {duration(totals['prepare_seconds'])}"
    work = [quantity(totals["flops"], "FLOP")] if totals["flops"] else []
    work += [f"{bytes_of(totals['bytes'])} moved"] if totals["bytes"] else []
    sizes = {
        "temporaries": (totals["temporary"], " at most"),
        "parameters": (totals["parameter_bytes"], once if totals["prepared_bytes"] else ""),
        "activations in": (totals["activation_bytes"], ""),
        "states": (totals["state_bytes"], ""),
        "outputs": (totals["output_bytes"], ""),
        "constants": (totals["constant_bytes"], ""),
    }
    return [
        ["a call", f"{duration(totals['seconds'])}, mostly {totals['bound']}-bound"],
        *([["work", ", ".join(work)]] if work else []),
        *([what, f"{bytes_of(size)}{words}"] for what, (size, words) in sizes.items() if size),
    ]


def counted(names: Iterable[str]) -> str:
    return ", ".join(name if times == 1 else f"{times} x {name}" for name, times in Counter(names).items())


def _sizes(tile: Mapping[str, int]) -> str:
    return " ".join(f"{name}={size}" for name, size in tile.items())


def _rate(operations: float) -> str:
    return quantity(operations, "FLOP/s")


def without_empty_columns(rows: Sequence[Sequence[str]], header: int = 0) -> list[list[str]]:
    """The rows without the columns in which every cell is empty; the first `header` rows do not count."""
    kept = [index for index, column in enumerate(zip(*rows, strict=True)) if any(column[header:])]
    return [[row[index] for index in kept] for row in rows]
