"""Files of results: written aside, then renamed, so that an interrupted run leaves the last whole one."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def write(path: Path, content: str) -> None:
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        aside.write_text(content, encoding="utf-8")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
