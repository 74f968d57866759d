"""A plan as an HTML page that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ropegen.explanation.facts import Facts, data
from ropegen.explanation.words import (
    bytes_of,
    counted,
    duration,
    heading,
    input_row,
    pass_row,
    prepared_row,
    step_rows,
    title,
    total_rows,
)
from ropegen.plans import Plan

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
    """The plan as one page that needs no other file: the facts of `text`, and a bar for the predicted time of every step."""
    facts = data(plan)
    steps = [step for step in facts["steps"] if not step["prepares"]]
    once = [step for step in facts["steps"] if step["prepares"]]
    name = escape(f"plan of {facts['graph']['name']} for {facts['target']['name']}")
    head = "".join(f"<div>{escape(' '.join(line.split()))}</div>" for line in heading(facts))
    warned = (
        "".join(f'<p class="warn">{escape(warning)}</p>' for warning in facts["warnings"]) or '<p class="dim">none</p>'
    )
    outputs = [
        [output["label"], output["type"], bytes_of(output["bytes"]), output["is"]] for output in facts["outputs"]
    ]
    not_taken = [
        [
            region["family"],
            ", ".join(region["outputs"]),
            counted(region["ops"]),
            duration(region["saving"]),
            region["reason"],
        ]
        for region in facts["not_taken"]
    ]
    sections = {
        "Time": _chart(steps),
        "Totals": _table((), total_rows(facts["totals"])),
        "Warnings": warned,
        "Steps of a call": _details(steps),
        "Prepared once": _table(("", "type", "size"), [*map(prepared_row, facts["prepared"])]) + _details(once),
        "Regions considered and not taken": "".join(f"<p>{escape(remark)}</p>" for remark in facts["remarks"])
        + _table(("family", "outputs", "ops", "would save", "why not"), not_taken),
        "Passes": _table(("times", "rule", "what it does"), [*map(pass_row, facts["passes"])]),
        "Inputs": _table(("", "role", "type", "size", ""), [*map(input_row, facts["inputs"])]),
        "Outputs": _table(("", "type", "size", "value"), outputs),
    }
    body = "".join(f"<section><h2>{section}</h2>{content}</section>\n" for section, content in sections.items())
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>\n'
        f'<body><main><h1>{name}</h1><div class="dim">{head}</div>\n{body}</main></body></html>\n'
    )


def _chart(steps: Sequence[Facts]) -> str:
    """One bar for every step, as long as its predicted time. Its colour and its label state what bounds it."""
    longest = max((step["cost"]["seconds"] for step in steps), default=0.0)
    rows: list[str] = []
    for step in steps:
        seconds, bound = step["cost"]["seconds"], step["cost"]["bound"]
        if seconds:
            bar = f'<div class="bar {bound}" style="width:{100 * seconds / longest:.2f}%"></div>'
            words = f'{duration(seconds)} <span class="dim">{bound}</span>'
            rows.append(f"<div>{step['index']}. {escape(title(step))}</div><div>{bar}</div><div>{words}</div>")
    return f'<div class="chart">{"".join(rows)}</div>' if rows else '<p class="dim">nothing takes time</p>'


def _details(steps: Sequence[Facts]) -> str:
    blocks = [
        f"<details open><summary>{step['index']}. {escape(title(step))}, {duration(step['cost']['seconds'])}</summary>"
        f"{_table((), [*step_rows(step)])}</details>"
        for step in steps
    ]
    return "".join(blocks) or '<p class="dim">none</p>'


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return '<p class="dim">none</p>'
    titles = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in header)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{f'<thead><tr>{titles}</tr></thead>' if header else ''}<tbody>{lines}</tbody></table>"
