"""A plan as an HTML page that needs no other file and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from ropegen import masks
from ropegen.explanation import graph_picture, words
from ropegen.explanation.attention import LETTERS, Facts
from ropegen.explanation.facts import data
from ropegen.explanation.style import STYLE
from ropegen.mask_pictures import class_parts
from ropegen.plans import Plan
from ropegen.quantities import duration

_CLASSES = {letter: kind for kind, letter in LETTERS.items()}


def html(plan: Plan) -> str:
    """The plan as one page that needs no other file: the facts of `text`, its graph, bars of times, and maps of masks."""
    facts = data(plan)
    steps = [step for step in facts["steps"] if not step["prepares"]]
    once = [step for step in facts["steps"] if step["prepares"]]
    name = escape(f"plan of {facts['graph']['name']} for {facts['target']['name']}")
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in facts["remarks"])
    not_taken = [*map(words.not_taken_row, facts["not_taken"])]
    sections = {
        "In short": _table("The plan in six rows", (), words.summary(facts)),
        "Time": _bars(steps) if steps else "",
        "Graph": _graph(plan, facts) if steps or once else "",
        "Masks": _maps(steps),
        "Steps of a call": _details(steps),
        "Prepared once": _table("Values", ("name", "type", "size"), [*map(words.prepared_row, facts["prepared"])])
        + _details(once),
        "Regions considered and not taken": remarks
        + _table(
            "Savings are over the ops of a region one by one", ("family", "ops", "outputs", "why not"), not_taken
        ),
        "Passes": _table("Rewritings before planning", ("times", "rule", "what it does"), [*map(words.pass_row, facts["passes"])]),
        "Inputs": _table(
            "What a call reads", ("name", "role", "type", "size", "remark"), [*map(words.input_row, facts["inputs"])]
        ),
        "Outputs": _table("What a call returns", ("name", "type", "size", "value"), [*map(words.output_row, facts["outputs"])]),
        "Totals": _table("All steps of a call", (), words.total_rows(facts["totals"])),
        "What the plan is for": _table("Graph and chip", (), words.heading(facts)),
        "Legend": _table("Words of this page", (), [[*row] for row in words.LEGEND]),
    }  # fmt: skip
    body = "".join(f"<section><h2>{section}</h2>{body}</section>\n" for section, body in sections.items() if body)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body><main><h1>{name}</h1>\n{body}</main></body></html>\n"
    )


def _anchor(step: Facts) -> str:
    return f"prepared-{step['index']}" if step["prepares"] else f"step-{step['index']}"


def _name(step: Facts) -> str:
    return f"{step['index']}. {escape(words.title(step))}"


def _caption(step: Facts) -> str:
    return f"{'Prepared value' if step['prepares'] else 'Step'} {step['index']}: {words.title(step)}"


def _bars(steps: Sequence[Facts]) -> str:
    """A bar for every step, as long as its estimated time, with a tick for each of its floors. It links to the step."""
    longest = max(step["cost"]["seconds"] for step in steps)
    rows: list[str] = []
    for step in steps:
        seconds, bound = step["cost"]["seconds"], step["cost"]["bound"]
        if not seconds:
            continue
        ticks = "".join(
            f'<span class="tick {cause}-floor" style="left:{min(100.0, 100 * floor / longest):.2f}%"></span>'
            for cause, floor in step["floors"].items()
            if floor
        )
        rows.append(
            f'<li><a href="#{_anchor(step)}">{_name(step)}</a>'
            f'<div class="track"><div class="bar {bound}" style="width:{100 * seconds / longest:.2f}%"></div>{ticks}</div>'
            f'<div class="words">{escape(words.price(step))}</div></li>'
        )
    if not rows:
        return ""
    keys = "".join(
        f'<span class="key {bound}"></span> {bound}-bound &nbsp; ' for bound in ("compute", "memory", "launch")
    )
    floors = "".join(
        f'<span class="key"><span class="tick {cause}-floor" style="left:50%"></span></span> what {what} alone take{s} &nbsp; '
        for cause, what, s in (("compute", "the operations", ""), ("memory", "moving the bytes", "s"))
    )
    return f'<p class="dim">Estimates. {keys}{floors}</p><ul class="bars">{"".join(rows)}</ul>'


def _graph(plan: Plan, facts: Facts) -> str:
    picture = graph_picture.svg(plan, facts)
    said = "A frame is a region, which one template computes; its colour says what bounds it, as in the bars."
    return f"<figure>{picture}<figcaption>{said}</figcaption></figure>"


def _maps(steps: Sequence[Facts]) -> str:
    """The map of every mask whose positions are known, with the numbers of its tiles."""
    figures = [
        _map(step, attention) for step in steps for attention in step["attention"] if attention["map"] is not None
    ]
    if not figures:
        return ""
    keys = (
        (masks.FULL, "every key is seen"),
        (masks.PARTIAL, "some keys are seen"),
        (masks.EMPTY, "no key is seen: skipped"),
    )
    legend = " &nbsp; ".join(
        f'<svg class="swatch" viewBox="0 0 1 1" aria-hidden="true">{"".join(class_parts(np.array([[kind]], np.int8)))}</svg> '
        f"{what}"
        for kind, what in keys
    )
    return f'<p class="dim">{legend}</p><div class="figures">{"".join(figures)}</div>'


def _map(step: Facts, attention: Facts) -> str:
    told = attention["map"]
    classes = np.array([[_CLASSES[letter] for letter in row] for row in told["rows"]], np.int8)
    rows, columns = classes.shape
    cell = f"{told['queries']:,} queries and {told['keys']:,} keys"
    tiles = told["tiles"]
    kind = "a block of" if tiles is None else "a tile of" if tiles == [1, 1] else f"{tiles[0]} x {tiles[1]} tiles,"
    said = f"{attention['queries']:,} queries (down) to {attention['keys']:,} keys (right); a cell is {kind} {cell}"
    mask = escape(words.shown_mask(attention))
    return (
        f'<figure><svg class="map" viewBox="0 0 {columns} {rows}" role="img" aria-label="{mask}: {escape(said)}">'
        f'{"".join(class_parts(classes))}</svg><figcaption><a href="#{_anchor(step)}">{_name(step)}</a>: '
        f"<code>{mask}</code>. {escape(said)}.</figcaption></figure>"
    )


def _details(steps: Sequence[Facts]) -> str:
    """The facts of every step; only the most expensive one is open."""
    longest = max(steps, key=lambda step: step["cost"]["seconds"], default=None)
    return "".join(
        f"<details{' open' if step is longest and not step['prepares'] else ''}><summary>{_name(step)}: "
        f"{escape(words.price(step))}</summary>"
        # A link to something inside of a closed element opens it.
        f'<div class="step" id="{_anchor(step)}">{_table(_caption(step), (), [*words.step_rows(step)])}'
        f"{_options(step)}</div></details>"
        for step in steps
    )


def _options(step: Facts) -> str:
    """The ways to compute a region, with a bar for the time of each."""
    told = {row[0]: row[1] for row in words.option_rows(step)}
    costs = {candidate["template"]: candidate["cost"] for candidate in step["considered"]}
    if step["unfused"]:
        costs["unfused"] = step["unfused"]
    longest = max((cost["seconds"] for cost in costs.values() if cost is not None), default=0.0)
    if not longest:
        return ""
    rows: list[str] = []
    for name, cost in costs.items():
        bar = ""
        if cost is not None:
            bar = f'<div class="small {cost["bound"]}" style="width:{8 * cost["seconds"] / longest:.2f}rem"></div>'
        rows.append(
            f'<tr role="row"><th scope="row" role="rowheader">{escape(name)}</th><td role="cell">{bar}</td>'
            f'<td role="cell">{escape(told[name])}</td></tr>'
        )
    return (
        f'<table role="table"><caption>Options, estimated; the longest bar is {duration(longest)}</caption>'
        '<thead role="rowgroup"><tr role="row"><th scope="col" role="columnheader">template</th>'
        '<th scope="col" role="columnheader">time</th><th scope="col" role="columnheader">what it takes</th></tr></thead>'
        f'<tbody role="rowgroup">{"".join(rows)}</tbody></table>'
    )


def _table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first cells are row headers; nothing for no rows.

    The roles keep it a table for screen readers where a narrow screen shows its cells below each other.
    """
    if not rows:
        return ""
    header, *rows = words.without_empty_columns([header, *rows], 1) if header else [header, *rows]
    titles = "".join(f'<th scope="col" role="columnheader">{escape(heading)}</th>' for heading in header)
    head = f'<thead role="rowgroup"><tr role="row">{titles}</tr></thead>' if header else ""
    lines: list[str] = []
    for first, *others in rows:
        cells = "".join(_cell(cell, header[index] if header else "") for index, cell in enumerate(others, start=1))
        lines.append(f'<tr role="row"><th scope="row" role="rowheader">{escape(first)}</th>{cells}</tr>')
    return (
        f'<table role="table"><caption>{escape(caption)}</caption>{head}'
        f'<tbody role="rowgroup">{"".join(lines)}</tbody></table>'
    )


def _cell(said: str, heading: str) -> str:
    named = f' data-head="{escape(heading)}"' if heading and said else ""
    return f'<td role="cell"{named}>{escape(said)}</td>'
