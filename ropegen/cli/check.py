"""`ropegen check`: the files of an artifact, then its results against the oracle's."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from ropegen.cli import arguments
from ropegen.cli.output import DONE, FAILED, new_table, print_json, print_sentence, print_table, progress
from ropegen.emit import artifact
from ropegen.errors import RopegenError
from ropegen.quantities import plural


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="what `ropegen build -o` made")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn inputs (default: 0)")
    parser.add_argument(
        "--key", action="append", metavar="FILE", help="a public key that must have signed the artifact; repeatable"
    )
    parser.add_argument(
        "--allow", action="append", default=[], metavar="CALL", help="a custom call that no template emits; repeatable"
    )
    arguments.add_json(parser)


def _run(options: argparse.Namespace) -> int:
    with progress() as say:
        say("checking the files")
        try:
            loaded = artifact.load(options.directory, allow=options.allow, keys=options.key)
        except RopegenError as error:
            if not (Path(options.directory) / artifact.MANIFEST).is_file():
                raise
            if options.json:
                print_json({"directory": options.directory, "passed": False, "problem": str(error), "outputs": []})
            print(f"error: {error}", file=sys.stderr)
            return FAILED
        say("running the artifact and the oracle")
        result = loaded.check(options.seed)
    if options.json:
        rows = [
            {
                "output": output.label,
                "program": output.program,
                "largest": output.largest,
                "allowed_largest": output.allowed_largest,
                "relative": output.relative,
                "allowed": output.allowed,
                "agrees": output.agrees,
            }
            for output in result.outputs
        ]
        programs = [dataclasses.asdict(program) for program in loaded.executables]
        facts = {"directory": str(loaded.directory), "passed": result.passed, "outputs": rows}
        native = {"runs": loaded.runs} if loaded.manifest.native else {}
        print_json(facts | ({"executables": programs} if programs else {}) | native)
    else:
        table = new_table(
            "output", "program", "largest error", "allowed", "error, root mean square, relative", "allowed", ""
        )
        for output in result.outputs:
            table.add_row(
                output.label,
                output.program,
                f"{output.largest:.2e}",
                f"{output.allowed_largest:.2e}",
                f"{output.relative:.2e}",
                f"{output.allowed:.2e}",
                "agrees" if output.agrees else "DIFFERS",
            )
        print_table(table)
        for program in loaded.executables:
            print(f"{program.target}: {', '.join(program.files)} by {program.made_by}; {program.unused or 'used'}")
        if loaded.manifest.native:
            print(f"here it runs {loaded.runs}")
        print()
        print_sentence(_done(loaded, result, options))
    return DONE if result.passed else FAILED


def _done(loaded: artifact.Artifact, result: artifact.Check, options: argparse.Namespace) -> str:
    """What was checked, and how it came out."""
    programs = [*dict.fromkeys(output.program for output in result.outputs)]
    signed = ", and every key signed them" if options.key else ""
    differ = [output for output in result.outputs if not output.agrees]
    outcome = (
        f"{plural(len(differ), 'result')} of {len(result.outputs)} differ by more than rounding explains"
        if differ
        else "the results agree within what rounding explains"
    )
    return (
        f"{plural(len(loaded.manifest.files), 'file')} match their hashes{signed}; {', '.join(programs)} ran here on inputs "
        f"drawn from seed {options.seed}, and the float64 oracle computed the same outputs: {outcome}"
    )


CHECK = arguments.Verb(
    name="check",
    what="check an artifact's hashes, run it, and compare it with the float64 oracle",
    example="ropegen check kernels/",
    add_arguments=_add_arguments,
    run=_run,
)
