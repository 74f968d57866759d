"""The content of an artifact's files, held against their hashes."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from ropegen.errors import RopegenError

# A flat buffer has fewer bytes, and a graph far fewer.
_MOST_BYTES = 2**31


def content_of(path: Path, digest: str) -> bytes:
    """The content of a file of an artifact, if it has this hash."""
    _expect_regular(path)
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise RopegenError(f"{path} has more than {_MOST_BYTES} bytes, the most that ropegen reads; build it again")
    _compare(path, hashlib.sha256(content).hexdigest(), digest)
    return content


def expect_digest(path: Path, digest: str) -> None:
    """Refuses a file with another hash; it may be larger than the memory."""
    _expect_regular(path)
    with path.open("rb") as file:
        _compare(path, hashlib.file_digest(file, "sha256").hexdigest(), digest)


def _expect_regular(path: Path) -> None:
    """Refuses what is no file, such as a pipe, which nobody may ever write to."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RopegenError(
            f"the artifact {path.parent} has lost its file {path.name} ({reason}); build it again"
        ) from error
    if not stat.S_ISREG(mode):
        raise RopegenError(f"the artifact {path.parent} has something else than a file at {path.name}; build it again")


def _compare(path: Path, actual: str, stated: str) -> None:
    if actual != stated:
        raise RopegenError(
            f"{path} is damaged: its sha256 is {actual[:12]}..., the manifest says {stated[:12]}...; build the artifact again"
        )


def decoded(content: bytes, path: Path) -> str:
    """The text of a file."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise RopegenError(f"{path} is no text: byte {error.start} is not UTF-8; build the artifact again") from error
