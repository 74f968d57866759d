"""Read safetensors files: eight bytes with the length of a header, the header in JSON, and the bytes of all tensors.

The format is that of https://github.com/huggingface/safetensors. A header comes from anywhere, so everything that it
says is checked against the file before a tensor is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ropegen.errors import RopegenError, nearest

MAX_HEADER = 100_000_000
"""The bytes that a header may have, a limit of the format itself."""

DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "F8_E8M0": np.dtype(ml_dtypes.float8_e8m0fnu),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
    "C64": np.dtype("<c8"),
}
"""The element types that can be read, by their names in a header."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a source says about one tensor."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """The tensors of one file. Opening reads the header alone; `read` maps one tensor into memory.

    Raises:
      RopegenError: the file cannot be read, or its header breaks a rule of the format; the message says which.
    """

    path: Path
    entries: Mapping[str, Entry]
    starts: Mapping[str, int]
    """Where the bytes of a tensor begin in the file."""
    size: int
    """The bytes of the file when it was opened."""

    @classmethod
    def open(cls, path: Path) -> SafetensorsFile:
        """Read and check the header of the file at `path`."""
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                if size < 8 or length > min(size - 8, MAX_HEADER):
                    raise _damaged(path, f"it has {size} bytes and announces a header of {length}")
                header = file.read(length)
        except OSError as error:
            raise RopegenError(
                f"{path} cannot be read: {error.strerror}; give the path of a safetensors file"
            ) from None
        entries, starts = _tensors(path, _parsed(path, header), 8 + length, size)
        return cls(path, entries, starts, size)

    def read(self, name: str) -> npt.NDArray[Any]:
        """The tensor, as a read-only view of the file. The file stays mapped as long as the array lives."""
        entry = self.entries[name]
        if not math.prod(entry.shape):
            return np.empty(entry.shape, entry.dtype)
        try:
            if self.path.stat().st_size != self.size:
                raise RopegenError(f"{self.path} has changed since it was opened; open it again")
            return np.memmap(self.path, entry.dtype, "r", self.starts[name], entry.shape)
        except OSError as error:
            raise RopegenError(f"{self.path} can no longer be read: {error.strerror}; open it again") from None


def read_json(path: Path, text: bytes) -> dict[str, Any]:
    """The JSON object in `text`, which the file at `path` holds. A name that stands twice in an object is refused."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise _damaged(path, f"the name {twice!r:.80} stands twice in it")
        return made

    try:
        parsed: object = json.loads(text.decode(), object_pairs_hook=once)
    except RopegenError:
        raise
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its header is no JSON ({error!s:.80})") from None
    if not isinstance(parsed, dict):
        raise _damaged(path, "its header is no JSON object")
    return cast("dict[str, Any]", parsed)


def _damaged(path: Path, why: str) -> RopegenError:
    return RopegenError(f"{path} is damaged or no safetensors file: {why}; download it again")


def _parsed(path: Path, header: bytes) -> dict[str, Any]:
    if not header.startswith(b"{"):
        raise _damaged(path, f"its header begins with {header[:8]!r} and not with a brace")
    stated = read_json(path, header)
    metadata = stated.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in cast("dict[str, object]", metadata).values()
    ):
        raise _damaged(path, "its __metadata__ is no mapping of text to text")
    return stated


def _tensors(path: Path, stated: dict[str, Any], start: int, size: int) -> tuple[dict[str, Entry], dict[str, int]]:
    """The entries of a header, and where their bytes begin; together they must cover the rest of the file."""
    entries: dict[str, Entry] = {}
    spans: list[tuple[int, int, str]] = []
    for name, said in stated.items():
        if not isinstance(said, dict) or set(cast("dict[str, object]", said)) != {"dtype", "shape", "data_offsets"}:
            raise _damaged(path, f"tensor {name!r:.80} does not state dtype, shape and data_offsets alone")
        dtype = said["dtype"]
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise RopegenError(
                f"{path}: tensor {name!r:.80} has the element type {dtype!r:.40}, which ropegen does not read; "
                f"{nearest(str(dtype), DTYPES)}"
            )
        shape, offsets = _counts(said["shape"]), _counts(said["data_offsets"])
        if shape is None or offsets is None or len(offsets) != 2:
            raise _damaged(path, f"tensor {name!r:.80} has a shape or offsets that are not whole numbers from 0 on")
        entries[name] = Entry(shape, DTYPES[dtype])
        needed = math.prod(shape) * DTYPES[dtype].itemsize
        if offsets[1] - offsets[0] != needed:
            raise _damaged(path, f"tensor {name!r:.80} needs {needed} bytes and has {offsets[1] - offsets[0]}")
        spans.append((*offsets, name))
    end = 0
    for first, last, name in sorted(spans):
        if first != end:
            raise _damaged(
                path, f"tensor {name!r:.80} begins at byte {first} of the data, and the one before ends at {end}"
            )
        end = last
    if start + end != size:
        raise _damaged(path, f"its tensors end at byte {start + end}, and the file has {size} bytes")
    return entries, {name: start + first for first, _, name in spans}


def _counts(value: object) -> tuple[int, ...] | None:
    """A list of whole numbers from 0 to 2^63, at most 32 of them; None for anything else."""
    if not isinstance(value, list) or len(cast("list[object]", value)) > 32:
        return None
    counts = [entry for entry in cast("list[object]", value) if type(entry) is int and 0 <= entry < 1 << 63]
    return tuple(counts) if len(counts) == len(cast("list[object]", value)) else None
