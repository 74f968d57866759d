"""What a command gives back: an exit code, tables and JSON on stdout, files, and progress on stderr."""

from __future__ import annotations

import io
import json
import os
import secrets
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Container, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ropegen.errors import RopegenError

DONE, FAILED, UNUSABLE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

Progress = Callable[[str], None]

# A table that goes to a file or to a program is as wide as it needs to be, whatever the width of the terminal.
_PLAIN_WIDTH = 10_000
SENTENCE_WIDTH = 80

# Seconds between two lines of progress where stderr is no terminal, such as in the log of a server.
_BETWEEN_LINES = 10.0


@contextmanager
def progress(seconds: float = _BETWEEN_LINES) -> Generator[Progress]:
    """A function that tells what is being done, on stderr.

    In a terminal this is a moving line. Elsewhere it is one line every `seconds`, so a call that ends sooner prints none.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        with _lines(seconds) as say:
            yield say
        return
    with console.status("starting") as status:
        yield status.update


@contextmanager
def _lines(seconds: float) -> Generator[Progress]:
    """Prints what was said last, and for how long the block has run, every `seconds`."""
    doing, done, start = ["starting"], threading.Event(), time.monotonic()

    def say(what: str) -> None:
        doing[0] = what

    def tell() -> None:
        while not done.wait(seconds):
            print(f"{time.monotonic() - start:.0f} s: {doing[0]}", file=sys.stderr, flush=True)

    teller = threading.Thread(target=tell, name="ropegen progress", daemon=True)
    teller.start()
    try:
        yield say
    finally:
        done.set()
        teller.join()


def terminal_width() -> int | None:
    """The columns of the terminal that stdout is; None if it is no terminal, so that lines need not fit."""
    console = Console()
    return console.width if console.is_terminal else None


def new_table(*columns: str, right: Container[str] = (), cut: Container[str] = ()) -> Table:
    """An empty table with these headings.

    The columns in `right` are aligned to the right, as numbers are. Those in `cut` stay on one line of a terminal, which
    cuts them; others are folded there.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column,
            overflow="ellipsis" if column in cut else "fold",
            no_wrap=column in cut,
            justify="right" if column in right else "left",
        )
    return table


def print_table(table: Table) -> None:
    """Prints a table on stdout. A row is one line unless stdout is a terminal."""
    console = Console(highlight=False)
    if console.is_terminal:
        console.print(table)
        return
    plain = Console(file=io.StringIO(), highlight=False, width=_PLAIN_WIDTH, color_system=None)
    with plain.capture() as captured:
        plain.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def print_sentence(sentence: str) -> None:
    """Prints a sentence on stdout, in lines of at most 80 columns; all but the first are indented."""
    print(
        textwrap.fill(sentence, SENTENCE_WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    )


def print_json(value: object) -> None:
    """Prints one JSON document on stdout."""
    print(json.dumps(value, indent=2))


@contextmanager
def locked(name: str) -> Generator[None]:
    """Keeps other processes that ask for the same lock away from a file while it is read and written again.

    The lock is on a hidden file beside it, because `write` puts another file in its place. The system releases the lock
    of a process that ends. A pipe or a device gets no lock, since nothing in it is replaced.

    Raises:
      RopegenError: the hidden file cannot be made, or the system has no such locks.
    """
    path = Path(name).resolve()
    if path.exists() and not path.is_file():
        yield
        return
    beside = path.with_name(f".{path.name}.lock")
    try:
        file = _lock(beside)
    except ModuleNotFoundError:
        raise RopegenError(
            f"cannot lock {name}: Python has no fcntl on this system; give no file, for stdout"
        ) from None
    except OSError as error:
        raise RopegenError(f"cannot lock {name}: {error.strerror or error}; give another file") from error
    try:
        yield
    finally:
        beside.unlink(missing_ok=True)
        os.close(file)


def _lock(path: Path) -> int:
    """The descriptor of the file at `path`, locked. The process that had the lock before may have removed the file."""
    import fcntl  # Windows has none, and needs none for the other verbs

    while True:
        file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        holds = False
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):  # it was removed: make another
                holds = os.path.samestat(os.fstat(file), path.stat())
        finally:
            if not holds:
                os.close(file)
        if holds:
            return file


def write(destination: str, content: str | bytes) -> None:
    """Writes to stdout for `-`; writes a pipe or a device directly; replaces a file as a whole, so it is never
    half-written.

    Raises:
      RopegenError: the destination cannot be written.
    """
    if destination == "-":
        sys.stdout.write(content if isinstance(content, str) else content.decode())
        return
    raw = content.encode() if isinstance(content, str) else content
    path = Path(destination).resolve()  # for a link, the file that it names is replaced, not the link
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(raw)
            return
        try:
            aside.write_bytes(raw)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise RopegenError(f"cannot write {destination}: {error.strerror or error}; give another file") from error
