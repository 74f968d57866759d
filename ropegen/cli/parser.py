"""The parser of the whole command line, made of the verbs."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import ropegen
from ropegen.cli.bench import BENCH
from ropegen.cli.build import BUILD
from ropegen.cli.check import CHECK
from ropegen.cli.env import ENV
from ropegen.cli.explain import EXPLAIN
from ropegen.cli.list import LIST
from ropegen.cli.lower import LOWER
from ropegen.cli.opt import OPT
from ropegen.cli.output import DONE
from ropegen.cli.run import RUN
from ropegen.cli.sign import SIGN
from ropegen.cli.tune import TUNE
from ropegen.errors import nearest

VERBS = (BUILD, EXPLAIN, OPT, LOWER, CHECK, SIGN, BENCH, TUNE, RUN, LIST, ENV)

_EXAMPLES = """
examples:
  ropegen build config.json --target cpu --target gpu:h200 --target tpu:v5e -o kernels/
  ropegen explain config.json --target tpu:v5e -v
  ropegen explain graph.mlir --target gpu:h200 --html plan.html
  ropegen opt graph.mlir --trace
  ropegen check kernels/
  ropegen bench graph.mlir --against jax,torch
  ropegen tune config.json --seq 4096 -o tiles.json
  ropegen run checkpoint/ --prompt "The capital of France is"
  ropegen list targets

GRAPH is a graph in text (.mlir), the config.json of a Hugging Face model, or - for either on stdin.
"""


class _Parser(argparse.ArgumentParser):
    """Names the nearest verb or choice when a word is misspelt."""

    def error(self, message: str) -> Any:
        if "invalid choice: '" in message and "choose from" in message:
            word = message.split("invalid choice: '")[1].split("'")[0]
            choices = [choice.strip(" ')") for choice in message.rpartition("choose from ")[2].split(",")]
            message = f"{message.partition('(choose')[0]}- {nearest(word, choices)}"
        super().error(message)


def _help(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """What the command prints if no verb is given."""
    parser.print_help()
    return DONE


def command_parser() -> argparse.ArgumentParser:
    """A parser whose options hold `run`, the function of the verb."""
    parser = _Parser(
        prog="ropegen",
        description="Compiles the attention front-end of a transformer: one graph, a kernel for every platform.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"ropegen {ropegen.__version__}")
    parser.set_defaults(run=partial(_help, parser))
    verbs = parser.add_subparsers(metavar="VERB", parser_class=_Parser)
    for verb in VERBS:
        subparser = verbs.add_parser(
            verb.name,
            help=verb.what,
            description=verb.what,
            epilog=f"example:\n  {verb.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        subparser.set_defaults(run=verb.run)
        verb.add_arguments(subparser)
    return parser
