"""`Model.export`: the folder is replaced as a whole or not at all, and what was damaged in it is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_model import model_of

import ropegen as rg
from ropegen.errors import RopegenError
from ropegen.model.exported import DESCRIPTION, WEIGHTS

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "released"
    model_of("llama").export(folder, targets=["cpu"], prompt=4, capacity=8)
    return folder


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda said: said.pop("prefill"), "prefill"),
        (lambda said: said.update(prefill=["../elsewhere"] * 3), "prefill"),
        (lambda said: said.update(decode=said["decode"][:2]), "3 and 2 layers, and the model has 3"),
        (lambda said: said.update(batch=True), "batch"),
        (lambda said: said.update(capacity=0), "capacity"),
        (lambda said: said.update(dtype="i8"), "dtype"),
        (lambda said: said.update(more=1), "more"),
        (lambda said: said.update(format=2), "format"),
        (lambda said: said["config"].update(model_type="whisper"), "whisper"),
        (lambda said: said.update(prefill=["prefill-7"] * 3), "prefill-7"),
    ],
)
def test_a_damaged_description_is_named(copy: Path, change: Callable[[dict[str, Any]], object], words: str) -> None:
    path = copy / DESCRIPTION
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))
    with pytest.raises(RopegenError, match=words):
        rg.Model.load(copy)


def test_an_export_that_fails_leaves_what_was_there(copy: Path) -> None:
    before = content(copy)
    with pytest.raises(RopegenError, match="no chip 'h900'"):
        model_of("llama").export(copy, targets=["cpu", "gpu:h900"], prompt=4, capacity=8)
    with pytest.raises((RopegenError, OSError)):
        model_of("llama").export(copy, targets=["cpu"], prompt=4, capacity=8, tokenizer=copy / "no such file")
    assert content(copy) == before
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_an_export_takes_the_place_of_another(copy: Path) -> None:
    (copy / "prefill-9").mkdir()
    with pytest.raises(RopegenError, match=r"something else than a model \(prefill-9"):
        model_of("llama").export(copy, targets=["cpu"], prompt=3, capacity=8)
    (copy / "prefill-9").rmdir()
    before = (copy / WEIGHTS).read_bytes()
    model_of("llama").export(copy, targets=["cpu"], prompt=3, capacity=8)
    assert json.loads((copy / DESCRIPTION).read_text())["prompt"] == 3
    assert (copy / WEIGHTS).read_bytes() == before
    tokens = np.asarray(rg.Model.load(copy).generate([[1, 2]], 2))
    assert np.array_equal(tokens, np.asarray(model_of("llama").generate([[1, 2]], 2)))
