"""The code and the commands of the pages run, and print what the pages show."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, ROOT, blocks, code_of, run
from test_release_page import made_checkpoint

import ropegen as rg

# Pages that another test runs, because it compares more than what they print, or with eight devices.
ELSEWHERE = {"huggingface.md", "jax.md", "masks.md", "release.md"}
OVER_DEVICES = {"devices.md", "devices-context.md"}

WITH_CODE = {
    path.name for path in DOCS.glob("*.md") if any(language in ("python", "sh") for language, _, _ in blocks(path))
}

LLAMA = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory of a reader: what the clone has, a checkpoint, and a small artifact."""
    monkeypatch.chdir(tmp_path)
    for name in ("golden", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    made_checkpoint(tmp_path / "checkpoint")
    return tmp_path


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", sorted(WITH_CODE - ELSEWHERE - OVER_DEVICES))
def test_a_page_runs(name: str, folder: Path) -> None:
    page = DOCS / name
    for config in code_of(page, "json"):
        (folder / "config.json").write_text(config)
    if name == "trust.md":
        pytest.importorskip("cryptography", reason="signatures need: pip install cryptography")
        if shutil.which("openssl") is None:
            pytest.skip("the keys of the page are made by openssl, which is not installed")
    if name in ("checks.md", "trust.md"):  # which begin with an artifact
        b = rg.Builder("double")
        rg.export(b.build(out=b.scale(b.input("x", (2,), "f32"), 2.0)), "kernels", targets="cpu")
    assert run(page, {}) > 0
