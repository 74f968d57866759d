"""Runs a page of the documentation: its Python code in one namespace, and its `ropegen` commands, in their order.

A block of `text` shows what the block before it printed. Of a block of `sh`, the lines that begin with `ropegen` or `openssl` run;
the others set up an environment, or call programs that are not there.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ropegen.cli import main

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> Iterator[tuple[str, str, int]]:
    """The language, the text and the first line of every block of code that is not indented."""
    text = page.read_text()
    for block in _BLOCK.finditer(text):
        yield block[1], block[2], text.count("\n", 0, block.start()) + 2


def code_of(page: Path, language: str) -> list[str]:
    """The blocks of one language."""
    return [code for named, code, _ in blocks(page) if named == language]


def run_command(line: str) -> None:
    match shlex.split(line, comments=True):
        case ["ropegen", *arguments]:
            assert main(arguments) == 0, line
        case ["openssl", *arguments]:
            subprocess.run(["openssl", *arguments], check=True)
        case _:
            pass


def run(page: Path, names: dict[str, Any]) -> int:
    """Runs the page, in the current directory, and returns how many blocks ran. `names` has what the page says is given."""
    said, count = "", 0
    for language, code, line in blocks(page):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            if language == "python":
                exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)
            elif language == "sh":
                for command in code.replace("\\\n", " ").splitlines():
                    run_command(command)
        if language == "text":
            assert said == code, f"{page.name}, line {line}: the block before it prints\n{said}"
        elif language in ("python", "sh"):
            said, count = out.getvalue(), count + 1
    return count
