"""The command line. A verb has one file; results go to stdout, progress and errors go to stderr.

Exit codes: 0 done, 1 a check failed, 2 a usage error or input that cannot be used, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from ropegen.cli.output import DONE, INTERRUPTED, TERMINATED, UNUSABLE
from ropegen.cli.parser import command_parser
from ropegen.errors import RopegenError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    options = command_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without the sign for micro still shows the rest
    try:
        run: Callable[[argparse.Namespace], int] = options.run
        with warnings.catch_warnings(), _ends_cleanly():
            warnings.showwarning = _show_warning
            code = run(options)
        sys.stdout.flush()
        return code
    except RopegenError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNUSABLE
    except BrokenPipeError:
        # The reader of stdout has closed it. Without this, Python complains as it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        print(f"error: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        return UNUSABLE
    except MemoryError as error:
        print(f"error: not enough memory ({error}); give smaller sizes", file=sys.stderr)
        return UNUSABLE
    except RuntimeError as error:
        if "initialize backend" not in str(error):
            raise
        print(f"error: JAX finds no device here: {error}", file=sys.stderr)
        return UNUSABLE
    except KeyboardInterrupt:
        print("interrupted; nothing half-done was left", file=sys.stderr)
        return INTERRUPTED
    except _TerminatedError:
        print("terminated; nothing half-done was left", file=sys.stderr)
        return TERMINATED


class _TerminatedError(BaseException):
    """SIGTERM arrived. Raised like KeyboardInterrupt, so that what is half-done is removed on the way out."""


@contextmanager
def _ends_cleanly() -> Generator[None]:
    """Makes SIGTERM raise an error, where Python would end at once. Only the main thread can receive signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        raise _TerminatedError

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show_warning(message: Warning | str, *where: object) -> None:
    """One line on stderr, without the line of code that Python shows."""
    print(f"warning: {message}", file=sys.stderr)
