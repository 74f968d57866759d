"""The reader of safetensors: every element type, damaged files, and the library that defines the format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors_files import NAMES, file_bytes, header_of, write_file, write_shards

from ropegen.errors import RopegenError
from ropegen.weights.safetensors import SafetensorsFile
from ropegen.weights.sources import source_of


def examples() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    made = {}
    for number, name in enumerate(NAMES):
        dtype = np.dtype(getattr(ml_dtypes, name, name))
        shape = [(), (3,), (2, 3), (0, 4), (2, 1, 5)][number % 5]
        made[f"of.{name}"] = random.integers(0, 2, (*shape, dtype.itemsize), np.uint8).view(dtype).reshape(shape)
    return made


def test_every_element_type_is_read_bit_by_bit(tmp_path: Path) -> None:
    tensors = examples()
    file = SafetensorsFile.open(write_file(tmp_path / "a.safetensors", tensors))
    assert set(file.entries) == set(tensors)
    for name, array in tensors.items():
        assert (file.entries[name].shape, file.entries[name].dtype) == (array.shape, array.dtype)
        read = file.read(name)
        assert (read.shape, read.dtype) == (array.shape, array.dtype)
        assert read.tobytes() == array.tobytes()


@pytest.mark.live
def test_the_library_of_the_format_reads_and_writes_the_same(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy", reason="compares with it: pip install safetensors")
    plain = {name: array for name, array in examples().items() if "float8" not in name and "bfloat" not in name}
    library.save_file(plain, tmp_path / "theirs.safetensors")
    theirs = SafetensorsFile.open(tmp_path / "theirs.safetensors")
    back = library.load_file(write_file(tmp_path / "ours.safetensors", plain))
    for name, array in plain.items():
        assert theirs.read(name).tobytes() == back[name].tobytes() == array.tobytes()


def entry(**changes: object) -> dict[str, Any]:
    return {"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["0 bytes"]),
        (b"\x01\x02", ["2 bytes"]),
        ((1 << 40).to_bytes(8, "little") + b"{}", ["header of 1099511627776"]),
        (file_bytes(b"[]", b""), ["begins with", "brace"]),
        (file_bytes(b"{", b""), ["no JSON"]),
        (file_bytes(b'{"t"' + b":[" * 100_000, b""), ["no JSON"]),
        (file_bytes(b'{"\xff": 1}', b""), ["no JSON"]),
        (file_bytes(b'{"t": 1, "t": 2}', b""), ["'t' stands twice"]),
        (file_bytes({"__metadata__": {"a": 1}}, b""), ["__metadata__"]),
        (file_bytes({"t": [1]}, b""), ["'t'", "dtype, shape and data_offsets"]),
        (file_bytes(entry(more=1), bytes(8)), ["'t'", "dtype, shape and data_offsets"]),
        (file_bytes(entry(dtype="F8_E4M"), bytes(8)), ["'F8_E4M'", "did you mean 'F8_E4M3'"]),
        (file_bytes(entry(dtype=["F32"]), bytes(8)), ["element type"]),
        (file_bytes(entry(shape=[-2]), bytes(8)), ["shape"]),
        (file_bytes(entry(shape=[2.0]), bytes(8)), ["shape"]),
        (file_bytes(entry(shape=[True, 2]), bytes(8)), ["shape"]),
        (file_bytes(entry(shape=[1 << 70]), bytes(8)), ["shape"]),
        (file_bytes(entry(shape=[1] * 33), bytes(8)), ["shape"]),
        (file_bytes(entry(shape=[3]), bytes(8)), ["needs 12 bytes and has 8"]),
        (file_bytes(entry(data_offsets=[8, 0]), bytes(8)), ["needs 8 bytes and has -8"]),
        (file_bytes(entry(data_offsets=[4, 12]), bytes(12)), ["begins at byte 4", "ends at 0"]),
        (file_bytes({**entry(), "u": entry()["t"]}, bytes(8)), ["begins at byte 0", "ends at 8"]),
        (file_bytes(entry(), bytes(7)), ["the file has"]),
        (file_bytes(entry(), bytes(9)), ["the file has"]),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path: Path, content: bytes, words: list[str]) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(RopegenError) as raised:
        SafetensorsFile.open(path)
    for word in [str(path), *words]:
        assert word in str(raised.value)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_changed_byte_is_an_error_or_changes_nothing_but_names_and_values(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.int8)}
    content = bytearray(file_bytes(header_of(tensors), b"".join(array.tobytes() for array in tensors.values())))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("changed") / "model.safetensors"
    path.write_bytes(content)
    refused = None
    try:
        file = SafetensorsFile.open(path)
    except RopegenError as error:
        refused = str(error)
    assert sum(file.read(name).nbytes for name in file.entries) == 26 if refused is None else str(path) in refused


def test_a_file_that_changes_after_it_was_opened(tmp_path: Path) -> None:
    path = write_file(tmp_path / "a.safetensors", {"t": np.zeros(100, np.float32)})
    file = SafetensorsFile.open(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RopegenError, match=r"a\.safetensors has changed since it was opened"):
        file.read("t")
    path.unlink()
    with pytest.raises(RopegenError, match="can no longer be read"):
        file.read("t")


# Folders ------------------------------------------------------------------------------------------------------------

SHARDS = [{"a": np.zeros(2, np.float32)}, {"b": np.ones(3, np.float32), "c": np.ones(1, np.float32)}]


def test_shards_are_one_source(tmp_path: Path) -> None:
    folder = write_shards(tmp_path, SHARDS)
    for place in (folder, str(folder), folder / "model.safetensors.index.json"):
        source = source_of(place)
        assert set(source.entries) == {"a", "b", "c"}
        assert source.read("b").tolist() == [1, 1, 1]
    single = tmp_path / "single"
    single.mkdir()
    write_file(single / "model.safetensors", SHARDS[1])
    assert set(source_of(single).entries) == {"b", "c"}


def damaged_index(folder: Path, **changes: str) -> None:
    path = folder / "model.safetensors.index.json"
    stated = json.loads(path.read_text())
    stated["weight_map"] |= changes
    path.write_text(json.dumps(stated))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"a": "../elsewhere.safetensors"}, ["'a'", "'../elsewhere.safetensors'", "beside it"]),
        ({"a": "model.bin"}, ["'a'", "'model.bin'", "safetensors file"]),
        ({"a": "gone.safetensors"}, ["gone.safetensors", "cannot be read"]),
        ({"d": "model-00001-of-00002.safetensors"}, ["'d'", "lacks it"]),
    ],
)
def test_an_index_that_does_not_fit_its_shards(tmp_path: Path, changes: dict[str, str], words: list[str]) -> None:
    damaged_index(write_shards(tmp_path, SHARDS), **changes)
    with pytest.raises(RopegenError) as raised:
        source_of(tmp_path)
    for word in words:
        assert word in str(raised.value)


def test_a_tensor_that_the_index_leaves_out(tmp_path: Path) -> None:
    write_shards(tmp_path, SHARDS)
    stated = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(stated))
    with pytest.raises(RopegenError, match="holds 'c', which"):
        source_of(tmp_path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], ["no safetensors file"]),
        (["pytorch_model.bin"], ["pickled", "state_dict()"]),
        (["model.gguf"], ["of llama.cpp"]),
        (["a.safetensors", "b.safetensors"], ["2 safetensors files", "model.safetensors.index.json"]),
    ],
)
def test_folders_without_a_checkpoint(tmp_path: Path, names: list[str], words: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(RopegenError) as raised:
        source_of(tmp_path)
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, ["None", "state_dict()"]),
        (3, ["3", "mapping"]),
        ({"a": [1.0]}, ["'a'", "array of NumPy, JAX or torch"]),
        ({1: np.zeros(2)}, ["the key 1"]),
        ("nowhere/model.safetensors", ["nowhere", "cannot be read"]),
    ],
)
def test_what_is_no_source(given: object, words: list[str]) -> None:
    with pytest.raises(RopegenError) as raised:
        source_of(given)
    for word in words:
        assert word in str(raised.value)
