"""`ropegen sign`: a signature for an artifact."""

from __future__ import annotations

import argparse

from ropegen.cli import arguments
from ropegen.cli.output import DONE, print_json
from ropegen.emit import artifact


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="what `ropegen build -o` made")
    parser.add_argument(
        "--key", required=True, metavar="FILE", help="a private key: openssl genpkey -algorithm ed25519 -out FILE"
    )
    arguments.add_json(parser)


def _run(options: argparse.Namespace) -> int:
    public = artifact.sign(options.directory, options.key)
    if options.json:
        print_json({"directory": options.directory, "signed_by": {"ed25519": public}})
    else:
        print(f"{options.directory} is signed by ed25519:{public}")
    return DONE


SIGN = arguments.Verb(
    name="sign",
    what="sign an artifact, so that others can tell who made it",
    example="ropegen sign kernels/ --key maker.pem",
    add_arguments=_add_arguments,
    run=_run,
)
