"""docs/jax.md: its code runs, and prints what the page shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "jax.md"


def test_the_code_of_the_page_runs_and_prints_what_it_shows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text()
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(code, names)
    (shown,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    assert capsys.readouterr().out == shown
    assert names["gradient"].shape == (2, 8, 32)
    assert int(names["layer"].cache_index[...]) == 6
    expect_equal_layers(names)
    tokens, wanted = (
        names["tokens"],
        names["original"](names["tokens"], token_positions=names["pz"].nx.arange("seq", 6)),
    )
    axes = (*tokens.named_shape, "vocabulary")
    np.testing.assert_allclose(names["logits"].unwrap(*axes), wanted.unwrap(*axes), rtol=1e-5, atol=1e-5)


def expect_equal_layers(names: dict[str, Any]) -> None:
    """The layers of the section about artifacts give the same results and gradients."""
    out = names["program"](x=names["x"], **names["weights"])
    np.testing.assert_array_equal(names["equinox_layer"](names["x"]), out)
    np.testing.assert_array_equal(names["nnx_layer"](names["x"]), out)
    np.testing.assert_array_equal(names["out"].unwrap("batch", "seq", "features"), out)
    gradient = names["equinox_gradient"].parameters
    for label, variable in names["nnx_gradient"]["parameters"].items():
        np.testing.assert_array_equal(variable[...], gradient[label])
        assert np.abs(gradient[label]).max() > 0
