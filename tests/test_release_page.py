"""docs/release.md: its code and its commands run, on a small Llama that is made here in shards of safetensors."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_models import CONFIGS, tensors
from test_model import vectors

from ropegen.cli import main
from ropegen.model.exported import save

PAGE = Path(__file__).resolve().parent.parent / "docs" / "release.md"
WORDS = ["<unk>", "the", "cat", "sat", "on", "a", "mat", "and", "saw", "dog"]


def made_checkpoint(folder: Path) -> None:
    """A folder as the hub has it: the config, two shards with their index, and a tokenizer of a few words."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIGS["llama"]))
    held = tensors(vectors()["llama"]["shapes"])
    files = {name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(held)}
    for file in set(files.values()):
        save(folder / file, {name: value for name, value in held.items() if files[name] == file})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: index for index, word in enumerate([*WORDS, *(f"w{i}" for i in range(len(WORDS), 61))])},
            "unk_token": "<unk>",
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.live
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    made_checkpoint(Path("checkpoint"))
    text = PAGE.read_text()
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(code, names)
    tokens = np.asarray(names["tokens"])[0].tolist()
    assert names["scores"].shape == (2, 1, 61)
    assert set(names["later"].labels("parameter")) == set(names["weights"])
    capsys.readouterr()

    monkeypatch.setattr(sys, "argv", ["run.py", "1", "2", "3"])
    runpy.run_path("released/run.py")
    assert capsys.readouterr().out.split()[:8] == [str(token) for token in tokens]
    assert main(["run", "released", "--ids", "1,2,3", "--steps", "8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"prompt": [1, 2, 3], "tokens": tokens}
    pytest.importorskip("tokenizers", reason="prompts as text need: pip install tokenizers")
    (command,) = re.findall(r"```sh\nropegen (.*?)\n```", text)
    assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out.split() == [[*WORDS, *(f"w{i}" for i in range(10, 61))][token] for token in tokens]
