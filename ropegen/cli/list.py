"""`ropegen list`: the ops, masks, passes, templates, targets and models that ropegen knows."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from rich.text import Text

from ropegen import masks, models, passes, scaling
from ropegen.cli import arguments
from ropegen.cli.output import DONE, new_table, print_json, print_table
from ropegen.ir import spec
from ropegen.target import Target, known
from ropegen.template import catalog

_Rows = list[dict[str, str]]


def _ops() -> _Rows:
    return [
        {
            "op": op.name,
            "what": op.sentence,
            "operands": ", ".join(op.operands),
            "attributes": ", ".join(map(str, op.attributes)),
        }
        for op in spec.describe()
    ]


def _masks() -> _Rows:
    named = {
        "full": masks.full,
        "causal": masks.causal,
        "window(128)": masks.window(128),
        "window(128, 16)": masks.window(128, 16),
        "chunked(128)": masks.chunked(128),
        "prefix(128)": masks.prefix(128),
        "segments": masks.segments,
        "causal & window(128)": masks.causal & masks.window(128),
    }
    return [{"mask": name, "keys that a query sees": str(value)} for name, value in named.items()]


def _scaling() -> _Rows:
    return [
        {"family": kind, "what": (cls.__doc__ or "").strip().splitlines()[0]} for kind, cls in scaling.FAMILIES.items()
    ]


def _templates() -> _Rows:
    return [
        {
            "template": str(template),
            "version": str(template.version),
            "runs on": ", ".join(template.runs_on),
            "tile": ", ".join(template.tile) or "-",
            "custom calls": ", ".join(template.calls) or "none",
        }
        for template in catalog()
    ]


def _targets() -> _Rows:
    rows: _Rows = []
    for name in known():
        chip = Target.parse(name).figures
        rows.append(
            {
                "target": name,
                "bf16 GFLOP/s": f"{chip.matmul_bf16 / 1e9:,.0f}",
                "f32 GFLOP/s": f"{chip.matmul_f32 / 1e9:,.0f}",
                "memory GB/s": f"{chip.bandwidth / 1e9:,.0f}",
            }
        )
    return rows


def _models() -> _Rows:
    rows = {name: family.summary() for name, family in models.FAMILIES.items()}
    for around, text in models.WRAPPERS.items():
        rows[around] = {**models.FAMILIES[text].summary(), "front-end": f"yes, of its text_config (default {text})"}
    return [{"model_type": name, **rows[name]} for name in sorted(rows)]


def _passes() -> _Rows:
    return [
        {"pass": stage.name, "rule": rule.name, "before -> after": rule.notation}
        for stage in passes.PIPELINE
        for rule in stage.rules
    ]


_LISTS: dict[str, Callable[[], _Rows]] = {
    "ops": _ops,
    "masks": _masks,
    "scaling": _scaling,
    "passes": _passes,
    "templates": _templates,
    "targets": _targets,
    "models": _models,
}


# Columns of numbers, columns that only --verbose and --json show, and the column that a terminal cuts without --verbose.
_NUMBERS = ("bf16 GFLOP/s", "f32 GFLOP/s", "memory GB/s", "version")
_VERBOSE = {"ops": ("operands", "attributes")}
_CUT = {"ops": ("what",)}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=[*_LISTS], metavar="WHAT", help=", ".join(_LISTS))
    parser.add_argument("-v", "--verbose", action="store_true", help="for ops: their operands and attributes too")
    arguments.add_json(parser)


def _run(options: argparse.Namespace) -> int:
    rows = _LISTS[options.what]()
    if options.json:
        print_json(rows)
        return DONE
    hidden = () if options.verbose else _VERBOSE.get(options.what, ())
    columns = [column for column in (rows[0] if rows else ["nothing"]) if column not in hidden]
    table = new_table(*columns, right=_NUMBERS, cut=() if options.verbose else _CUT.get(options.what, ()))
    for row in rows:
        table.add_row(*(Text(row[column]) for column in columns))
    print_table(table)
    return DONE


LIST = arguments.Verb(
    name="list",
    what="what ropegen knows",
    example="ropegen list ops",
    add_arguments=_add_arguments,
    run=_run,
)
