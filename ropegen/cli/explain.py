"""`ropegen explain`: the plan and every reason."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from ropegen import explanation as explain
from ropegen.cli import arguments, planning
from ropegen.cli.output import DONE, print_json, terminal_width, write
from ropegen.emit import artifact
from ropegen.emit.artifact.manifest import GRAPH, PLANS
from ropegen.errors import RopegenError
from ropegen.target import Target

_MORE = "\n-v shows every step, option and reason; --html FILE draws them\n"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_graph(parser, "a graph (.mlir), a model's config.json, an artifact's directory, or - for stdin")
    parser.add_argument(
        "--target", action="append", default=[], metavar="T", help="what to plan for, once (default: cpu)"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="everything, not the first six lines alone")
    parser.add_argument("--html", metavar="FILE", help="write a page there instead of text; - is stdout")
    arguments.add_plan(parser)
    arguments.add_json(parser)


def _run(options: argparse.Namespace) -> int:
    if len(options.target) > 1:
        raise RopegenError(f"--target is given as {' and '.join(options.target)}; explain one target at a time")
    if options.graph != "-" and Path(options.graph).is_dir() and (Path(options.graph) / artifact.MANIFEST).is_file():
        return _artifact(options)
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
        show = explain.text if options.verbose else explain.summary
        for each, plan in zip(given, plans, strict=True):
            if each.layers:
                sys.stdout.write(f"layers {', '.join(map(str, each.layers))}\n")
            sys.stdout.write(show(plan, terminal_width()))
        if not options.verbose:
            sys.stdout.write(_MORE)
    return DONE


def _artifact(options: argparse.Namespace) -> int:
    """Prints the plans that an artifact was built with, as it keeps them."""
    directory = Path(options.graph)
    anew = f"for a plan made anew, give {directory / GRAPH}"
    for name in ("html", "json", *arguments.CONFIG_OPTIONS, "tile", "tiles", "tables"):
        if getattr(options, name):
            raise RopegenError(
                f"--{name} is for a graph, and {directory} is an artifact, which keeps its plans as text; {anew}"
            )
    loaded = artifact.load(directory)
    content = (directory / PLANS).read_text(encoding="utf-8")
    plans = {
        plan.partition("\n")[0].rpartition(" for ")[2]: plan
        for plan in re.split("^(?=plan of )", content, flags=re.M)
        if plan
    }
    wanted = {str(Target.parse(name)) for name in options.target} or {*loaded.targets}
    if unknown := sorted(wanted - {*plans}):
        built_for = ", ".join(plans)
        raise RopegenError(f"{directory} has no plan for {unknown[0]}; it was built for {built_for}; {anew}")
    for target, plan in plans.items():
        if target in wanted:
            shown = plan.rstrip() if options.verbose else plan.partition("\n\n")[0]
            sys.stdout.write(f"{shown}\n\n")
    if not options.verbose:
        sys.stdout.write(f"-v shows every step, option and reason; {anew}\n")
    return DONE


EXPLAIN = arguments.Verb(
    name="explain",
    what="the plan for a target, in six lines or with every reason; needs no device",
    example="ropegen explain config.json --target gpu:h200 --seq 4096",
    add_arguments=_add_arguments,
    run=_run,
)
