"""The code and the commands of the pages run, and print what the pages show."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
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
    "num_key_value_heads": 8,
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


OVER_EIGHT = """
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

sys.path.insert(0, sys.argv[1])
jax.config.update("jax_disable_most_optimizations", True)
from pages import DOCS, run
import ropegen as rg

config = json.loads(Path("config.json").read_text())
run(DOCS / "devices.md", {"config": config})
q, k, v = (jnp.ones((1, 128, 2, 16)) for _ in range(3))
run(DOCS / "devices-context.md", {"q": q, "k": k, "v": v, "rope": rg.Rope(10_000.0, pairing="half")})
print("ran over", jax.device_count())
"""


def test_the_pages_about_several_devices_run_over_eight(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(LLAMA))
    done = subprocess.run(
        [sys.executable, "-c", OVER_EIGHT, str(ROOT / "tests")],
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["ran over 8"], done.stderr


@pytest.mark.usefixtures("quick_compilation")
def test_the_first_code_of_the_readme_runs() -> None:
    eqx = pytest.importorskip("equinox", reason="the model of the last line needs: pip install equinox")
    names: dict[str, Any] = {"model": [eqx.nn.MultiheadAttention(2, 8, key=jax.random.key(0))]}
    exec(code_of(ROOT / "README.md", "python")[0], names)
    assert names["o"].shape == (1, 128, 8, 64)
    assert len(names["report"].replaced) == 1
