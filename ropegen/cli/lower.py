"""`ropegen lower`: the composites of a StableHLO module to kernels."""

from __future__ import annotations

import argparse
import sys

from ropegen.cli import arguments
from ropegen.cli.output import DONE, print_json, terminal_width, write
from ropegen.emit.module.replace import replace_composites
from ropegen.errors import RopegenError


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="MODULE", help="StableHLO, as text or bytecode, or - for stdin")
    parser.add_argument(
        "--target", required=True, metavar="T", help="cpu, cpu:CORES, cpu:CHIP, gpu:CHIP, tpu:CHIP or host"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="write there: bytecode to FILE.mlirbc, else text; - is stdout (default, unless it is a terminal)",
    )
    arguments.add_tile(parser)
    parser.add_argument("--json", action="store_true", help="the report as one JSON document on stdout; needs -o")


def _run(options: argparse.Namespace) -> int:
    if options.json and options.output in (None, "-"):
        raise RopegenError("--json prints the report on stdout, where the module would go; give -o FILE")
    name = "<stdin>" if options.module == "-" else options.module
    source = sys.stdin.buffer.read() if options.module == "-" else arguments.read(options.module, "a StableHLO module")
    made = replace_composites(source, options.target, name=name, tile=arguments.tile(options.tile))
    if options.output is None and terminal_width() is not None:
        lines = made.text.count("\n")
        print(f"the module has {lines:,} lines; -o FILE writes it, and -o - prints it here", file=sys.stderr)
    else:
        write(options.output or "-", made.portable if (options.output or "").endswith(".mlirbc") else made.text)
    if options.json:
        print_json(made.data)
    else:
        sys.stderr.write(made.report)
    return DONE


LOWER = arguments.Verb(
    name="lower",
    what="StableHLO with ropegen.* composites to StableHLO with the kernels of a target",
    example="ropegen lower kernels/semantic.mlir --target tpu:v5e -o lowered.mlir",
    add_arguments=_add_arguments,
    run=_run,
)
