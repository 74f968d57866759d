"""Putting the files of an artifact in place: at every moment the directory is the old one or the new one, whole.

The files go to a hidden directory beside, which then changes places with the one that is there in a single step. A
builder holds a lock on its hidden directory. The system releases the lock when the process ends, however it ends, so
the next builder recognizes what a dead one left behind and removes it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ropegen.errors import RopegenError

# Errors of a system or a file system that cannot exchange two directories.
_NO_EXCHANGE = frozenset({errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP})
_AT_FDCWD, _RENAME_EXCHANGE, _RENAME_SWAP = -100, 2, 2


def put(files: Mapping[str, bytes], target: Path, expect_replaceable: Callable[[Path, Path], None]) -> None:
    """Makes `target` a directory with these files alone, in place of one that may be there.

    `expect_replaceable(folder, target)` raises a RopegenError if the directory at `folder`, which is or was at `target`,
    has to stay.

    Raises:
      OSError: the files cannot be written.
    """
    with replacing(target, expect_replaceable) as made:
        for name, content in files.items():
            _write(made / name, content)


@contextmanager
def replacing(target: Path, expect_replaceable: Callable[[Path, Path], None]) -> Generator[Path]:
    """A hidden directory to fill, which takes the place of `target` when the `with` block ends without an error.

    `expect_replaceable` is as in `put`.

    Raises:
      OSError: the directory cannot be made or moved.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with _aside(target, lambda path: path.mkdir(0o700)) as made:
        yield made
        made.chmod(0o755)
        _flush(made)
        while not _moved(made, target, expect_replaceable):
            pass  # another builder was faster
        _flush(target.parent)


def put_file(content: bytes, folder: Path, name: str) -> None:
    """Makes `folder / name` a file with this content, in place of one that may be there.

    Raises:
      OSError: it cannot be written.
    """
    with _aside(folder, lambda path: path.touch(0o644)) as made:
        _write(made, content)
        made.replace(folder / name)
        _flush(folder)


def _moved(made: Path, target: Path, expect_replaceable: Callable[[Path, Path], None]) -> bool:
    """Whether the finished directory came to its place; then the former one, if there was one, is at `made`."""
    try:
        made.rename(target)
    except OSError:
        if not target.is_dir():
            raise
    else:
        return True
    # The lock keeps other builders from taking the former directory for a leftover while it may have to come back.
    try:
        lock = _lock(target, wait=True)
    except FileNotFoundError:
        return False
    try:
        expect_replaceable(target, target)
        _exchange(made, target)
        try:
            expect_replaceable(made, target)  # somebody may have put a file there since
        except RopegenError:
            _exchange(made, target)
            raise
    finally:
        _unlock(lock)
    return True


@contextmanager
def _aside(target: Path, make: Callable[[Path], None]) -> Generator[Path]:
    """A hidden path beside `target`, made by `make`, locked, and removed at the end with whatever is there then."""
    prefix = f".{target.name}.building-"
    _remove_leftovers(target.parent, prefix)
    path, lock = None, None
    try:  # from before the path exists: an interruption may come between any two lines
        while True:
            path = target.parent / f"{prefix}{secrets.token_hex(4)}"
            make(path)
            try:
                lock = _lock(path, wait=True)
            except FileNotFoundError:
                continue  # another builder took it for a leftover, between the two lines above
            break
        yield path
    finally:
        if path is not None:
            _remove(path)
        _unlock(lock)


def _remove_leftovers(folder: Path, prefix: str) -> None:
    """Removes what builders that ended before their time left in a folder."""
    for path in folder.glob(f"{glob.escape(prefix)}*"):
        with contextlib.suppress(BlockingIOError, FileNotFoundError):  # its builder lives, or another one removes it
            lock = _lock(path, wait=False)
            if lock is not None:
                _remove(path)
            _unlock(lock)


def _lock(path: Path, *, wait: bool) -> int | None:
    """The descriptor of a path, locked; None where Python or the file system has no locks, or the path is others'.

    Raises:
      FileNotFoundError: somebody removed or replaced it before it was locked.
      BlockingIOError: another process holds the lock, and `wait` is false.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        return None
    descriptor = None
    try:
        descriptor = os.open(path, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    except OSError as error:
        _unlock(descriptor)
        if isinstance(error, BlockingIOError | FileNotFoundError):
            raise
        return None
    return descriptor


def _unlock(lock: int | None) -> None:
    """Gives a lock back, if there is one."""
    if lock is not None:
        os.close(lock)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    """Asks the system to keep the entries of a directory through a power failure. Windows opens no directories."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exchange(one: Path, other: Path) -> None:
    """Exchanges two directories. In one step if the system can; otherwise there is a moment without `other`."""
    if not _exchanged(one, other):
        between = one.with_name(f"{one.name}-old")
        other.rename(between)
        try:
            one.rename(other)
        except OSError:
            between.rename(other)
            raise
        between.rename(one)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether the system exchanged two paths in one step.

    Raises:
      OSError: it can, and did not.
    """
    if os.name != "posix":
        return False
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        failed = library.renamex_np(*names, _RENAME_SWAP)
    elif hasattr(library, "renameat2"):
        failed = library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE)
    else:
        return False
    if failed and (code := ctypes.get_errno()) not in _NO_EXCHANGE:
        raise OSError(code, os.strerror(code), str(other))
    return not failed
