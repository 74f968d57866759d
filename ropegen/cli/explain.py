"""`ropegen explain`: the plan and every reason."""

from __future__ import annotations

import argparse
import sys

from ropegen import explanation as explain
from ropegen.cli import arguments, planning
from ropegen.cli.output import DONE, print_json, write
from ropegen.errors import RopegenError
from ropegen.target import Target


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_graph(parser)
    parser.add_argument(
        "--target", action="append", default=[], metavar="T", help="what to plan for, once (default: cpu)"
    )
    parser.add_argument("--html", metavar="FILE", help="write a page there instead of text; - is stdout")
    arguments.add_plan(parser)
    arguments.add_json(parser)


def _run(options: argparse.Namespace) -> int:
    if len(options.target) > 1:
        raise RopegenError(f"--target is given as {' and '.join(options.target)}; explain one target at a time")
    target = Target.parse(options.target[0] if options.target else "cpu")
    given, file = arguments.graphs(options), planning.tile_file(options, [target])
    plans = [planning.plan(options, each.graph, target, file) for each in given]
    if options.html:
        if len(plans) > 1:
            raise RopegenError(f"--html writes the page of one plan, and there are {len(plans)}; give one layer")
        write(options.html, explain.html(plans[0]))
    if options.json and options.html != "-":
        data = [{"layers": list(each.layers)} | explain.data(plan) for each, plan in zip(given, plans, strict=True)]
        print_json(data if given[0].layers else explain.data(plans[0]))
    elif not options.html:
        for each, plan in zip(given, plans, strict=True):
            if each.layers:
                sys.stdout.write(f"layers {', '.join(map(str, each.layers))}\n")
            sys.stdout.write(explain.text(plan))
    return DONE


EXPLAIN = arguments.Verb(
    name="explain",
    what="the plan for a target and every reason; needs no device",
    example="ropegen explain config.json --target gpu:h200 --seq 4096",
    add_arguments=_add_arguments,
    run=_run,
)
