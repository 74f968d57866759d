"""Writes files of results to a temporary file and renames it, so that an interrupted run leaves the last whole file."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def write(path: Path, content: str) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_text(content, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
