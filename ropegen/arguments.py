"""Checks of arguments that several public functions take."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from ropegen.errors import RopegenError


def text_of(what: str, given: object, example: str) -> str:
    """`given`, if it is text.

    Raises:
      RopegenError: it is not; the message begins with `what`, and `example` follows "give".
    """
    if not isinstance(given, str):
        raise RopegenError(f"{what} is {given!r:.60}; give {example}")
    return given


def is_one_of(given: object, words: Iterable[str]) -> bool:
    """Whether `given` is one of the words. It may be anything, such as an array, which `in` would compare by element."""
    return isinstance(given, str) and given in words


def mapping_of(what: str, given: object, example: str) -> Mapping[object, object]:
    """`given`, if it is a mapping.

    Raises:
      RopegenError: it is not; the message begins with `what`, and `example` follows "give".
    """
    if not isinstance(given, Mapping):
        raise RopegenError(f"{what} is {given!r:.60}; give {example}")
    return cast("Mapping[object, object]", given)


def number_of(what: str, given: object, example: str) -> float:
    """`given`, if it is a number, an infinite one or NaN included.

    Raises:
      RopegenError: it is not; the message begins with `what`, and `example` follows "give".
    """
    if not isinstance(given, int | float | np.integer | np.floating) or isinstance(given, bool):
        raise RopegenError(f"{what} is {given!r:.60}; give {example}")
    return float(cast(float, given))


def flag_of(what: str, given: object) -> bool:
    """`given`, if it is a truth value of Python or NumPy.

    Raises:
      RopegenError: it is not; the message begins with `what`.
    """
    if not isinstance(given, bool | np.bool_):
        raise RopegenError(f"{what} must be true or false, got {given!r:.60}")
    return bool(given)


def path_of(what: str, given: object, holds: str) -> Path:
    """`given` as a path. A number is refused, which `open` would take for an open file and close.

    Raises:
      RopegenError: it is neither text nor a path; the message begins with `what` and asks for the place where `holds`.
    """
    if isinstance(given, str) or (isinstance(given, PathLike) and isinstance(os.fspath(given), str)):
        return Path(cast("str | PathLike[str]", given))
    raise RopegenError(f"{what} is {given!r:.60}; give the path where {holds}, as text or a pathlib.Path")


def array_of(what: str, given: object) -> jax.Array:
    """`given` as an array of JAX.

    Raises:
      RopegenError: it is no array of numbers; the message begins with `what`.
    """
    try:
        return jnp.asarray(given)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, OverflowError):
        raise RopegenError(f"{what} must be an array of numbers, got {given!r:.60}") from None


def counted(length: Any) -> Any:
    """0 .. length - 1, int32: an array of NumPy, whose values a plan knows, or one of JAX if the length is symbolic."""
    return (np if isinstance(length, int | np.integer) else jnp).arange(length, dtype=np.int32)


def expect_tiles(call: str, given: object) -> None:
    """Raises a RopegenError unless `given` is None, or sizes by name by template; whether they fit is not checked."""
    sizes_example = "{'q': 256, 'kv': 512}"
    example = f"{{'attend/xla': {sizes_example}}}"
    if given is None:
        return
    for name, sizes in mapping_of(f"{call}: tile", given, f"sizes by template, as in {example}").items():
        text_of(f"{call}: a template of tile", name, f"a name, as in {example}")
        by_name = mapping_of(f"{call}: the tile of {name}", sizes, f"its sizes by name, as in {sizes_example}")
        for label, size in by_name.items():
            if not isinstance(label, str) or not isinstance(size, int | np.integer) or isinstance(size, bool):
                raise RopegenError(
                    f"{call}: the tile of {name} has {label!r:.60} = {size!r:.60}; give a whole number for every name, as "
                    f"in {sizes_example}"
                )
