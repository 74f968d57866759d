"""`ropegen run`: a whole model, token by token."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from ropegen import weights
from ropegen.cli import arguments
from ropegen.cli.output import DONE, print_json, progress
from ropegen.errors import RopegenError
from ropegen.model import Model
from ropegen.model.exported import DESCRIPTION, TOKENIZER


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="a checkpoint's folder, or one that `Model.export` wrote")
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", metavar="TEXT", help="text; needs the folder's tokenizer.json and `tokenizers`")
    prompt.add_argument("--ids", metavar="ID,...", help="the prompt as ids of tokens")
    parser.add_argument("--steps", type=int, default=64, metavar="N", help="tokens to write (default: 64)")
    parser.add_argument(
        "--temperature", type=float, metavar="T", help="draw tokens (default: always the most likely one)"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="draw among the K most likely tokens")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    parser.add_argument("--stop", type=int, metavar="ID", help="end after this token")
    arguments.add_json(parser)


def _run(options: argparse.Namespace) -> int:
    folder = Path(options.directory)
    tokenizer = None if options.prompt is None else _tokenizer(folder)
    ids = _ids(options.ids) if tokenizer is None else tokenizer.encode(options.prompt).ids
    if not ids:
        raise RopegenError("the prompt has no tokens; give some text")
    with progress() as say:
        say("loading the model")
        model = _model(folder)
    key = None if options.temperature is None else jax.random.key(options.seed)
    tokens = model.stream([ids], options.steps, temperature=options.temperature, top_k=options.top_k, key=key)
    written: list[int] = []
    show = None if options.json else _shown(tokenizer)
    for token in _until(tokens, options.stop):
        written.append(token)
        if show is not None:
            sys.stdout.write(show(written))
            sys.stdout.flush()
    if options.json:
        text = {} if tokenizer is None else {"text": tokenizer.decode(written)}
        print_json({"prompt": ids, "tokens": written} | text)
    else:
        print()
    return DONE


def _until(tokens: Iterator[Any], stop: int | None) -> Iterator[int]:
    for token in tokens:
        yield int(token[0])
        if int(token[0]) == stop:
            return


def _shown(tokenizer: Any) -> Callable[[list[int]], str]:
    """What the last token adds to the text. Words of several tokens appear when they are whole."""
    if tokenizer is None:
        return lambda written: f"{written[-1]} "
    shown = ""

    def added(written: list[int]) -> str:
        nonlocal shown
        text = tokenizer.decode(written)
        if text.endswith("\N{REPLACEMENT CHARACTER}"):  # a part of a character so far
            return ""
        new, shown = text[len(shown) :], text
        return new

    return added


def _model(folder: Path) -> Model:
    if (folder / DESCRIPTION).is_file():
        return Model.load(folder)
    return Model.from_hf(folder, weights.open(folder, folder))


def _ids(given: str) -> list[int]:
    words = given.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise RopegenError(f"--ids {given!r} is not ID,ID,...; write e.g. 1,15043,3186")
    return [int(word) for word in words]


def _tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, as the package tokenizers reads it."""
    file = folder / TOKENIZER
    if not file.is_file():
        raise RopegenError(f"{folder} has no {TOKENIZER} to read --prompt with; give the prompt as --ids")
    if importlib.util.find_spec("tokenizers") is None:
        raise RopegenError("--prompt needs the package tokenizers: pip install tokenizers; or give --ids")
    return importlib.import_module("tokenizers").Tokenizer.from_file(str(file))


RUN = arguments.Verb(
    name="run",
    what="a whole model: write the tokens that follow a prompt",
    example='ropegen run checkpoint/ --prompt "The capital of France is" --steps 16',
    add_arguments=_add_arguments,
    run=_run,
)
