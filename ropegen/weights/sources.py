"""Where the tensors of a checkpoint come from: one safetensors file, a folder of them, or a mapping of arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import numpy.typing as npt

from ropegen.errors import RopegenError
from ropegen.weights.safetensors import MAX_HEADER, Entry, SafetensorsFile, read_json

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"

_OTHER_FORMATS = {
    ".bin": "pickled",
    ".pt": "pickled",
    ".pth": "pickled",
    ".gguf": "of llama.cpp",
    ".h5": "of TensorFlow",
    ".msgpack": "of Flax",
}


class Source(Protocol):
    """Tensors by name. Names, shapes and element types are known at once, and `read` gives the values."""

    @property
    def where(self) -> str:
        """The words that name the source in a message."""
        ...

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The shape and element type of every tensor."""
        ...

    def read(self, name: str) -> npt.NDArray[Any]:
        """The values of one tensor, which may be a view of a mapped file."""
        ...


@dataclass(frozen=True, slots=True)
class Files:
    """The tensors of one or more safetensors files. files: the file that holds each tensor."""

    where: str
    entries: Mapping[str, Entry]
    files: Mapping[str, SafetensorsFile]

    def read(self, name: str) -> npt.NDArray[Any]:
        """The tensor, as a view of its mapped file."""
        return self.files[name].read(name)


@dataclass(frozen=True, slots=True)
class Renamed:
    """Another source under today's names. older: the name in that source, by the name of today."""

    source: Source
    entries: Mapping[str, Entry]
    older: Mapping[str, str]

    @property
    def where(self) -> str:
        """The words that name the source in a message."""
        return self.source.where

    def read(self, name: str) -> npt.NDArray[Any]:
        """The values of one tensor."""
        return self.source.read(self.older[name])


@dataclass(frozen=True, slots=True)
class Arrays:
    """The arrays of a mapping: NumPy, JAX or torch. One that is not used is never converted."""

    given: Mapping[str, Any]
    entries: Mapping[str, Entry]

    @property
    def where(self) -> str:
        """The words that name the source in a message."""
        return "the given mapping"

    def read(self, name: str) -> npt.NDArray[Any]:
        """The tensor as a NumPy array, without a copy where its memory is that of this machine."""
        value = self.given[name]
        return _from_torch(value) if _is_torch(value) else np.asarray(value)


def source_of(given: object) -> Source:
    """The source that a caller names: a path, or a mapping of tensor names to arrays.

    Raises:
      RopegenError: it is neither, the path holds no safetensors, or a file is damaged.
    """
    if isinstance(given, Mapping):
        return _arrays(cast("Mapping[object, object]", given))
    if isinstance(given, str | os.PathLike):
        path = Path(os.fsdecode(cast("str | os.PathLike[str]", given)))
        return _folder(path) if path.is_dir() else _file(path)
    raise RopegenError(
        f"weights: source is {given!r:.60}; give the path of a checkpoint's folder, of a safetensors file, or a mapping of "
        "tensor names to arrays, such as model.state_dict()"
    )


def renamed(source: Source, replaced: Iterable[tuple[str, str]]) -> Source:
    """The source with other names for its tensors: each part of `replaced` gives way to the one beside it, in order.

    Raises:
      RopegenError: two tensors get one name.
    """
    older: dict[str, str] = {}
    pairs = tuple(replaced)
    for name in source.entries:
        today = name
        for old, new in pairs:
            today = today.replace(old, new)
        if today in older:
            raise RopegenError(
                f"{source.where} has {name!r} and {older[today]!r}, which are one tensor; take one of them out"
            )
        older[today] = name
    if all(today == name for today, name in older.items()):
        return source
    return Renamed(source, {today: source.entries[name] for today, name in older.items()}, older)


def _file(path: Path) -> Files:
    if path.suffix in _OTHER_FORMATS:
        raise _other_format(path)
    if path.name.endswith(".index.json"):
        return _folder(path.parent)
    file = SafetensorsFile.open(path)
    return Files(str(path), file.entries, dict.fromkeys(file.entries, file))


def _other_format(path: Path) -> RopegenError:
    return RopegenError(
        f"{path} is {_OTHER_FORMATS[path.suffix]}, and ropegen reads safetensors alone; load it with its own library and give "
        "the mapping of names to arrays, such as model.state_dict()"
    )


def _folder(folder: Path) -> Files:
    if (index := folder / INDEX).is_file():
        return _shards(folder, index)
    if (whole := folder / WHOLE).is_file():
        return _file(whole)
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return _file(found[0])
    if found:
        raise RopegenError(
            f"{folder} has {len(found)} safetensors files and no {INDEX}, which says where a tensor is; download the index too"
        )
    for path in sorted(folder.iterdir()):
        if path.suffix in _OTHER_FORMATS:
            raise _other_format(path)
    raise RopegenError(f"{folder} holds no safetensors file; give the folder of a checkpoint")


def _shards(folder: Path, index: Path) -> Files:
    """The files that the index names, opened and held against it."""
    if index.stat().st_size > MAX_HEADER:
        raise RopegenError(f"{index} has more than {MAX_HEADER} bytes; download it again")
    stated = read_json(index, index.read_bytes()).get("weight_map")
    if not isinstance(stated, dict) or not stated:
        raise RopegenError(f"{index} has no weight_map, which says where a tensor is; download it again")
    opened: dict[str, SafetensorsFile] = {}
    files: dict[str, SafetensorsFile] = {}
    for name, shard in cast("dict[str, object]", stated).items():
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise RopegenError(
                f"{index} says that {name!r:.80} is in {shard!r:.80}; it must be a safetensors file beside it"
            )
        if shard not in opened:
            opened[shard] = SafetensorsFile.open(folder / shard)
        if name not in opened[shard].entries:
            raise RopegenError(f"{index} says that {name!r:.80} is in {shard}, which lacks it; download both again")
        files[name] = opened[shard]
    for shard, file in opened.items():
        for name in file.entries:
            if name not in files:
                raise RopegenError(
                    f"{folder / shard} holds {name!r:.80}, which {INDEX} does not name; download both again"
                )
            if files[name] is not file:
                raise RopegenError(f"{name!r:.80} is in {shard} and in {files[name].path.name}; download both again")
    return Files(str(folder), {name: file.entries[name] for name, file in files.items()}, files)


def _arrays(given: Mapping[object, object]) -> Arrays:
    entries: dict[str, Entry] = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise RopegenError(
                f"weights: the mapping has the key {name!r:.60}; give arrays by the names of their tensors"
            )
        shape = getattr(value, "shape", None)
        if not isinstance(shape, tuple) or not hasattr(value, "dtype"):
            raise RopegenError(f"weights: {name!r:.80} is {value!r:.60}; give an array of NumPy, JAX or torch")
        sizes = tuple(int(size) for size in cast("tuple[int, ...]", shape))
        entries[name] = Entry(sizes, _dtype(name, cast(Any, value).dtype))
    return Arrays(cast("Mapping[str, Any]", given), entries)


def _dtype(name: str, dtype: object) -> np.dtype[Any]:
    """The element type of an array of any of the three libraries."""
    said = str(dtype).removeprefix("torch.")
    try:
        return np.dtype(getattr(ml_dtypes, said, said))
    except TypeError:
        raise RopegenError(
            f"weights: {name!r:.80} has the element type {said}, which NumPy does not have; convert it to bfloat16 or float32"
        ) from None


def _is_torch(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "torch"


def _from_torch(tensor: Any) -> npt.NDArray[Any]:
    """The values of a torch tensor on any device, through dlpack."""
    plain = tensor.detach().cpu().contiguous()
    if str(plain.dtype) in ("torch.bfloat16", "torch.float8_e4m3fn", "torch.float8_e5m2"):
        # NumPy's dlpack has none of these types, and JAX's has.
        return np.asarray(jnp.from_dlpack(plain))
    return np.from_dlpack(plain)
