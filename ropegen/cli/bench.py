"""`ropegen bench`: ropegen beside JAX and torch, timed in one run."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.text import Text

from ropegen import api, bench
from ropegen.cli import arguments, planning
from ropegen.cli.output import DONE, Progress, new_table, print_json, print_sentence, print_table, progress
from ropegen.emit import artifact
from ropegen.emit.callable import Compiled
from ropegen.errors import RopegenError
from ropegen.target import JAX_PLATFORM, Target, host_platform


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    arguments.add_graph(parser, "a graph (.mlir), a model's config.json, an artifact's directory, or - for stdin")
    parser.add_argument(
        "--against",
        default="jax",
        metavar="WHOM",
        help="jax, torch or jax,torch (default: jax). jax is jax.nn.dot_product_attention with RoPE in one jit where the "
        "graph is one attention, else the plain formula under jit; torch is SDPA and FlexAttention, compiled with RoPE",
    )
    parser.add_argument("--grad", action="store_true", help="forward and backward, for every floating input")
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--seconds", type=float, default=5.0, metavar="S", help="time for all contenders together (default: 5)"
    )
    amount.add_argument("--repeats", type=int, metavar="N", help="rounds, in place of a time")
    parser.add_argument("--png", metavar="FILE", help="a picture of the medians and quartiles; needs matplotlib")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn inputs (default: 0)")
    arguments.add_plan(parser)
    arguments.add_json(parser)


def _run(options: argparse.Namespace) -> int:
    if options.png:
        bench.pyplot()  # refuse before the work, not after it
    against = [name for name in options.against.split(",") if name]
    with progress() as say:
        subject = _subject(options, say)
        graph = subject.graph if isinstance(subject, artifact.Artifact) else subject.plan.source
        estimate = _estimate(subject)
        runners, left_out = bench.contenders(subject, against, grad=options.grad, seed=options.seed, progress=say)
        race = bench.race(
            runners,
            tolerance=bench.tolerance(graph),
            seconds=options.seconds,
            repeats=options.repeats,
            progress=say,
        )
    what = "forward and backward" if options.grad else "forward"
    machine = bench.machine()
    if options.png:
        bench.picture(race, f"{graph.name}, {what}\n{machine['processor']}, {machine['cores']} cores", options.png)
    if options.json:
        facts = {"graph": graph.name, "what": what, "machine": machine}
        print_json(facts | bench.as_data(race, left_out, estimate))
        return DONE
    rows = bench.rows(race)
    table = new_table(*rows[0])
    for row in rows:
        table.add_row(*map(Text, row.values()))
    print_table(table)
    described = f"{graph.name}, {what}; {', '.join(f'{name} {value}' for name, value in machine.items())}"
    print()
    for sentence in (*bench.notes(race, left_out, estimate), described):
        print_sentence(sentence)
    return DONE


def _estimate(subject: Compiled | artifact.Artifact) -> float | None:
    """The seconds that the plan of the subject estimates. None for an artifact whose plan this ropegen makes differently."""
    if isinstance(subject, Compiled):
        return subject.plan.cost.seconds
    for target, digest in subject.manifest.plans.items():
        chip = Target.parse(target)
        if JAX_PLATFORM[chip.platform] == host_platform():
            made = api.plan(subject.graph, chip)
            return made.cost.seconds if made.digest == digest else None
    return None


def _subject(options: argparse.Namespace, say: Progress) -> Compiled | artifact.Artifact:
    """The compiled plan of a graph for this machine, or the artifact of a directory."""
    if Path(options.graph).is_dir():
        given = [name for name in (*arguments.CONFIG_OPTIONS, "tile", "tiles", "tables") if getattr(options, name)]
        if given:
            raise RopegenError(
                f"--{given[0]} is for a graph, and {options.graph} is an artifact, which is built already"
            )
        say("checking hashes")
        return artifact.load(options.graph)
    say("planning for this machine")
    host = Target.host()
    file = planning.tile_file(options, [host])
    return planning.plan(options, arguments.graph(options), host, file, artifact.weighed(options.grad)).compile()


BENCH = arguments.Verb(
    name="bench",
    what="time a graph or an artifact beside JAX and torch, interleaved in one run, after their results agree",
    example="ropegen bench graph.mlir --against jax --repeats 5",
    add_arguments=_add_arguments,
    run=_run,
)
