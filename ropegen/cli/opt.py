"""`ropegen opt`: a graph to a graph, by the passes."""

from __future__ import annotations

import argparse
import sys

from ropegen import passes
from ropegen.cli import arguments
from ropegen.cli.output import DONE, write
from ropegen.ir import text

# The stage before every pass, as in `ropegen.ir.spec.STAGES`.
_SOURCE = "source"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_graph(parser)
    parser.add_argument(
        "--to",
        metavar="STAGE",
        help=f"stop after this pass: {', '.join(stage.name for stage in passes.PIPELINE)}; "
        f"{_SOURCE}: before all of them",
    )
    parser.add_argument("--trace", action="store_true", help="every rewrite, on stderr")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the graph there instead of to stdout")


def _run(options: argparse.Namespace) -> int:
    graph = arguments.graph(options)
    result, trace = (graph, ()) if options.to == _SOURCE else passes.run(graph, to=options.to)
    if options.trace:
        for step in trace:
            print(step, file=sys.stderr)
        print(f"{len(trace)} rewrites; {len(graph.ops)} ops before, {len(result.ops)} after", file=sys.stderr)
    write(options.output or "-", text.dumps(result))
    return DONE


OPT = arguments.Verb(
    name="opt",
    what="a graph after the passes, as text",
    example="ropegen opt graph.mlir --to merge --trace",
    add_arguments=_add_arguments,
    run=_run,
)
