"""Old artifacts load and return the recorded results. tests/record_compat.py adds to golden/compat and changes nothing there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from record_compat import COMPAT, TARGETS, front_end, inputs_of

import ropegen as rg
from ropegen import reference

FOLDERS = sorted(path for path in COMPAT.iterdir() if not path.name.startswith("."))


def test_there_are_old_artifacts() -> None:
    assert FOLDERS


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_an_old_artifact_returns_the_recorded_results(folder: Path) -> None:
    made = rg.load(folder / "artifact")
    assert tuple(made.targets) == TARGETS
    assert made.manifest.encoded() == (folder / "artifact" / "manifest.json").read_bytes()
    inputs, results = np.load(folder / "inputs.npz"), np.load(folder / "results.npz")
    again = made(**inputs)
    assert set(again) == set(results.files)
    for label in results.files:
        np.testing.assert_allclose(again[label], results[label], atol=2e-6)


def test_what_is_recorded_is_right() -> None:
    graph = front_end()
    inputs = inputs_of(graph)
    results = np.load(FOLDERS[-1] / "results.npz")
    for label, value in reference.evaluate(graph, inputs).items():
        np.testing.assert_allclose(results[label], value, atol=5e-6)
