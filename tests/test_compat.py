"""Old artifacts load and give what they gave; golden/compat is only added to, by tests/record_compat.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from record_compat import COMPAT, TARGETS, front_end, inputs_of

import ropegen as rg
from ropegen import reference

FOLDERS = sorted(each for each in COMPAT.iterdir() if not each.name.startswith("."))


def test_there_are_old_artifacts() -> None:
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_old_artifact_gives_what_it_gave(folder: Path) -> None:
    made = rg.load(folder / "artifact")
    assert tuple(made.targets) == TARGETS
    assert made.manifest.encoded() == (folder / "artifact" / "manifest.json").read_bytes()
    inputs, results = np.load(folder / "inputs.npz"), np.load(folder / "results.npz")
    found = made(**inputs)
    assert set(found) == set(results.files)
    for label in results.files:
        np.testing.assert_allclose(found[label], results[label], atol=2e-6)


def test_what_is_recorded_is_right() -> None:
    graph = front_end()
    inputs = inputs_of(graph)
    results = np.load(FOLDERS[-1] / "results.npz")
    for label, value in reference.evaluate(graph, inputs).items():
        np.testing.assert_allclose(results[label], value, atol=5e-6)
