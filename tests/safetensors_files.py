"""Safetensors files and folders of shards, written from arrays by the format's description alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

NAMES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}


def header_of(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The header of a file with these tensors, one after the other."""
    header: dict[str, Any] = {}
    start = 0
    for name, array in tensors.items():
        end = start + array.nbytes
        header[name] = {"dtype": NAMES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, end]}
        start = end
    return header


def file_bytes(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def write_file(path: Path, tensors: Mapping[str, np.ndarray]) -> Path:
    data = b"".join(np.ascontiguousarray(array).tobytes() for array in tensors.values())
    path.write_bytes(file_bytes({"__metadata__": {"format": "pt"}, **header_of(tensors)}, data))
    return path


def write_shards(folder: Path, shards: Sequence[Mapping[str, np.ndarray]]) -> Path:
    """A folder with an index, as the hub has it."""
    where: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        write_file(folder / name, shard)
        where |= dict.fromkeys(shard, name)
    index = {"metadata": {"total_size": 0}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
