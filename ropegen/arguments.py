"""Checks of arguments that several public functions take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import cast

import numpy as np

from ropegen.errors import RopegenError


def path_of(what: str, given: object, holds: str) -> Path:
    """`given` as a path. A number is refused, which `open` would take for an open file and close.

    Raises:
      RopegenError: it is neither text nor a path; the message begins with `what` and asks for the place where `holds`.
    """
    if isinstance(given, str) or (isinstance(given, PathLike) and isinstance(os.fspath(given), str)):
        return Path(cast("str | PathLike[str]", given))
    raise RopegenError(f"{what} is {given!r:.60}; give the path where {holds}, as text or a pathlib.Path")


def expect_tiles(call: str, given: object) -> None:
    """Raises a RopegenError unless `given` is None, or sizes by name by template; whether they fit is not checked."""
    example = '{"attend/xla": {"q": 256, "kv": 512}}'
    if given is None:
        return
    if not isinstance(given, Mapping):
        raise RopegenError(f"{call}: tile is {given!r:.60}; give sizes by template, as in {example}")
    for name, sizes in cast("Mapping[object, object]", given).items():
        if not isinstance(name, str):
            raise RopegenError(f"{call}: tile names the template {name!r:.60}; give a name, as in {example}")
        if not isinstance(sizes, Mapping):
            raise RopegenError(f"{call}: the tile of {name} is {sizes!r:.60}; give its sizes by name, as in {example}")
        for label, size in cast("Mapping[object, object]", sizes).items():
            if not isinstance(label, str) or not isinstance(size, int | np.integer) or isinstance(size, bool):
                raise RopegenError(
                    f"{call}: the tile of {name} has {label!r:.60} = {size!r:.60}; give a whole number for every name, as "
                    f"in {example}"
                )
