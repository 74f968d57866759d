"""A plan as text for a terminal or a file."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from ropegen.explanation import words
from ropegen.explanation.attention import Facts
from ropegen.explanation.facts import data
from ropegen.plans import Plan
from ropegen.quantities import plural

# A last cell is wrapped at its own indentation if at least so many columns are left for it.
_NARROWEST = 24


def text(plan: Plan, width: int | None = None) -> str:
    """The plan for a person to read: six lines in short, then everything. Equal plans give equal bytes on every machine.

    Lines of more than `width` characters are wrapped; without `width`, none is.
    """
    facts = data(plan)
    lines = [*_short(facts, width)]
    for title, body in _sections(facts, width):
        if body:
            lines += ["", *_wrapped("", title, width), *body]
    return "\n".join(lines) + "\n"


def summary(plan: Plan, width: int | None = None) -> str:
    """The name of the plan, and six lines about it: those that `text` begins with."""
    return "\n".join(_short(data(plan), width)) + "\n"


def _short(facts: Facts, width: int | None) -> Iterator[str]:
    yield f"plan of {facts['graph']['name']} for {facts['target']['name']}"
    yield from _columns(words.summary(facts), width, 2)


def _sections(facts: Facts, width: int | None) -> Iterator[tuple[str, list[str]]]:
    steps = [step for step in facts["steps"] if not step["prepares"]]
    once = [step for step in facts["steps"] if step["prepares"]]
    rewritings = plural(sum(rule["times"] for rule in facts["passes"]), "rewriting")
    prepared = _columns([*map(words.prepared_row, facts["prepared"])], width, 2)
    yield "what the plan is for", _columns(words.heading(facts), width, 2)
    yield "inputs", _columns([*map(words.input_row, facts["inputs"])], width, 2)
    yield "outputs", _columns([*map(words.output_row, facts["outputs"])], width, 2)
    yield f"passes: {rewritings}", _columns([*map(words.pass_row, facts["passes"])], width, 2)
    yield "prepared once, from parameters alone; times are estimates", [*prepared, *_blocks(once, width)]
    yield "steps of a call; times are estimates", _blocks(steps, width)
    remarks = [line for remark in facts["remarks"] for line in _wrapped("  ", remark, width)]
    not_taken = [line for region in facts["not_taken"] for line in _not_taken(region, width)]
    yield "regions considered and not taken; savings are over their ops one by one", [*remarks, *not_taken]
    yield "totals", _columns(words.total_rows(facts["totals"]), width, 2)
    yield "warnings", [line for warning in facts["warnings"] for line in _wrapped("  ", warning, width)]
    yield "legend", _columns([[*row] for row in words.LEGEND], width, 2)


def _blocks(steps: Sequence[Facts], width: int | None) -> list[str]:
    lines: list[str] = []
    for step in steps:
        lines += _wrapped(f"  {step['index']}. ", f"{words.title(step)}: {words.price(step)}", width)
        options = [["options", f"{name} {verdict}"] for name, verdict in words.option_rows(step)]
        lines += _columns([*words.step_rows(step), *options], width, 7)
    return lines


def _not_taken(region: Facts, width: int | None) -> Iterator[str]:
    family, ops, outputs, reason = words.not_taken_row(region)
    yield from _wrapped("  ", f"{family} with outputs {outputs} ({ops})", width)
    yield from _wrapped("       ", reason, width)


def _columns(rows: Sequence[Sequence[str]], width: int | None, indent: int) -> list[str]:
    """The rows as lines. Every column except the last is as wide as its widest cell, and the last one is wrapped."""
    rows = words.without_empty_columns(rows)
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    lines: list[str] = []
    for row in rows:
        cells = [f"{cell.ljust(size)}  " for cell, size in zip(row[:-1], widths, strict=True)]
        lines += _wrapped(f"{' ' * indent}{''.join(cells)}", row[-1], width)
    return lines


def _wrapped(before: str, last: str, width: int | None) -> list[str]:
    """A line of two parts; if it is too long, the second part goes on below its beginning."""
    if width is None or len(before) + len(last) <= width:
        return [f"{before}{last}".rstrip()]
    hanging = max(4, len(before) if width - len(before) >= _NARROWEST else len(before) - len(before.lstrip()) + 2)
    wrapper = textwrap.TextWrapper(
        width=max(width, hanging + _NARROWEST),
        initial_indent=before,
        subsequent_indent=" " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    if len(before) + len(last.split(maxsplit=1)[0]) <= width:
        return wrapper.wrap(last)
    wrapper.initial_indent = wrapper.subsequent_indent
    return [before.rstrip(), *wrapper.wrap(last)]
