"""`ropegen tune`: finds tiles for the shapes of a graph, by the clock here or by the machine code of a GPU."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.text import Text

from ropegen import bench, tiles, tuning
from ropegen.cli import arguments
from ropegen.cli.output import DONE, locked, new_table, print_json, print_table, progress, write
from ropegen.compilers import cuda
from ropegen.errors import RopegenError
from ropegen.quantities import plural
from ropegen.tiles import TileFile
from ropegen.tuning import Outcome


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_graph(parser)
    parser.add_argument(
        "--target",
        default="host",
        metavar="T",
        help="this machine, by the clock (default: host); or gpu:CHIP without such a GPU: kernels are compiled with each tile "
        "(needs jax[cuda13]), and the least time that the machine code allows decides",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write the tile file there; entries for other regions and machines stay in it (default: to stdout)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help=f"time to spend on timing each region, beside compiling (default: {tuning.SECONDS:g}); only on this machine",
    )
    parser.add_argument(
        "--grad",
        action="store_true",
        help="time forward and backward together, not forward alone; only on this machine",
    )
    parser.add_argument("--json", action="store_true", help="the outcome as one JSON document on stdout; needs -o")


def _run(options: argparse.Namespace) -> int:
    to_stdout = options.output in (None, "-")
    if options.json and to_stdout:
        raise RopegenError("--json prints the outcome on stdout, where the tile file would go; give -o FILE")
    graph = arguments.graph(options)
    target = tuning.expect_target(options.target)
    if not tuning.is_here(target):
        cuda.tools()  # missing compilers are an error before the work
    if not to_stdout:
        _existing(options.output)  # refuse before the work, not after it
        with locked(options.output):
            pass
    outcomes: list[Outcome] = []
    with progress() as say:
        for outcome in tuning.tune(graph, target, seconds=options.seconds, grad=options.grad, progress=say):
            outcomes.append(outcome)
            print(f"{outcome.what}: {_in_words(outcome)}", file=sys.stderr)
            for choice, why in outcome.left_out:
                print(f"  left out: {choice}: {why}", file=sys.stderr)
    if to_stdout:
        write("-", tiles.dump(tuning.merge(None, outcomes, target)))
        return DONE
    with locked(options.output):
        # Another run may have written its own entries while this one measured.
        existing = _existing(options.output)
        for outcome in tuning.timed_before(existing, outcomes, target):
            print(f"{options.output} keeps the tile that a clock found for {outcome.what}", file=sys.stderr)
        write(options.output, tiles.dump(tuning.merge(existing, outcomes, target)))
    if options.json:
        print_json(
            {
                "graph": graph.name,
                "target": str(target),
                **({"machine": bench.machine()} if tuning.is_here(target) else {"compiler": cuda.build()}),
                "file": options.output,
                "regions": [_as_data(outcome) for outcome in outcomes],
            }
        )
        return DONE
    time = "time" if tuning.is_here(target) else "least time"
    table = new_table("region", "candidates", "without a file", "kept", time, "of the first")
    for outcome in outcomes:
        words = (
            outcome.what,
            str(outcome.candidates),
            str(outcome.own),
            str(outcome.best),
            "-" if outcome.seconds is None else bench.duration(outcome.seconds),
            "-" if outcome.ratio is None else f"{outcome.ratio:.2f}",
        )
        table.add_row(*map(Text, words))
    print_table(table)
    print()
    if not tuning.is_here(target):
        print("nothing was timed: the machine code decided between tiles, and the cost model between templates")
    print(f"{options.output} is for plans for {target}: give it as --tiles to build, explain or bench")
    return DONE


def _existing(name: str) -> TileFile | None:
    """The file that the new entries go into; None if there is no file yet.

    Raises:
      RopegenError: it is not a tile file, or no file can be written there.
    """
    path = Path(name)
    if not path.resolve().parent.is_dir():
        raise RopegenError(f"cannot write {name}: its directory does not exist; give another file")
    if path.is_dir():
        raise RopegenError(f"cannot write {name}: it is a directory; give a file")
    return tiles.load(path) if path.is_file() else None


def _in_words(outcome: Outcome) -> str:
    of = f"of {plural(outcome.candidates, 'candidate')}: {outcome.reason}"
    if outcome.best == outcome.own:
        return f"{outcome.own} stays, {of}"
    if outcome.ratio is None:
        return f"{outcome.best} takes the place of {outcome.own}, {of}"
    return f"{outcome.best} takes {outcome.ratio:.2f} of the time of {outcome.own}, {of}"


def _as_data(outcome: Outcome) -> dict[str, object]:
    return {
        "region": outcome.region,
        "what": outcome.what,
        "by": outcome.by,
        "candidates": outcome.candidates,
        "own": {"template": str(outcome.own.template), "tile": dict(outcome.own.tile.sizes)},
        "kept": {"template": str(outcome.best.template), "tile": dict(outcome.best.tile.sizes)},
        "left_out": [
            {"template": str(choice.template), "tile": dict(choice.tile.sizes), "why": why}
            for choice, why in outcome.left_out
        ],
        "seconds": outcome.seconds,
        "of_own": outcome.ratio,
        "reason": outcome.reason,
    }


TUNE = arguments.Verb(
    name="tune",
    what="find the tiles of a graph's own shapes, here or for a GPU, for the --tiles option of the other verbs",
    example="ropegen tune config.json --seq 4096 -o tiles.json",
    add_arguments=_add_arguments,
    run=_run,
)
