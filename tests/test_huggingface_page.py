"""docs/huggingface.md: its code runs, prints what the page shows, and computes the layer of a Llama."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "huggingface.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def drawn(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def checkpoint() -> dict[str, np.ndarray]:
    """Tensors as a checkpoint of Llama has them: the weights of `Linear` are (out, in)."""
    attention = {"q": (64, 64), "k": (32, 64), "v": (32, 64), "o": (64, 64)}
    return {
        "model.embed_tokens.weight": drawn(100, 64, seed=0),
        "model.layers.0.input_layernorm.weight": drawn(64, seed=1),
        **{
            f"model.layers.0.self_attn.{name}_proj.weight": drawn(*shape, seed=place) / 8
            for place, (name, shape) in enumerate(attention.items(), start=2)
        },
    }


def formula(tensors: dict[str, np.ndarray], config: dict[str, Any]) -> np.ndarray:
    """The front-end of layer 0 for the ids 0 to 7 in float64, after the code of transformers."""
    wide = {name: array.astype(np.float64) for name, array in tensors.items()}
    x = wide["model.embed_tokens.weight"][:8]
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + config["rms_norm_eps"])
    x = x * wide["model.layers.0.input_layernorm.weight"]
    q, k, v = (
        (x @ wide[f"model.layers.0.self_attn.{name}_proj.weight"].T).reshape(8, -1, 16).swapaxes(0, 1) for name in "qkv"
    )
    said = config["rope_scaling"]
    frequencies = config["rope_theta"] ** (-np.arange(0, 16, 2) / 16)
    lengths, original = 2 * np.pi / frequencies, said["original_max_position_embeddings"]
    smooth = (original / lengths - said["low_freq_factor"]) / (said["high_freq_factor"] - said["low_freq_factor"])
    smooth = np.clip(smooth, 0.0, 1.0)
    frequencies = (1 - smooth) * frequencies / said["factor"] + smooth * frequencies
    turn = np.exp(1j * np.arange(8)[:, None] * frequencies)

    def rotated(heads: np.ndarray) -> np.ndarray:
        turned = (heads[..., :8] + 1j * heads[..., 8:]) * turn
        return np.concatenate([turned.real, turned.imag], -1)

    q, k, v = rotated(q), rotated(k).repeat(2, 0), v.repeat(2, 0)
    scores = np.where(np.tri(8, dtype=bool), q @ k.swapaxes(1, 2) / 4.0, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    heads = weights / weights.sum(-1, keepdims=True) @ v
    return heads.swapaxes(0, 1).reshape(8, 64) @ wide["model.layers.0.self_attn.o_proj.weight"].T


def test_the_code_of_the_page_runs_and_computes_the_layer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (config,) = blocks("json")
    Path("config.json").write_text(config)
    names: dict[str, Any] = {"tensors": checkpoint()}
    for code in blocks("python"):
        exec(code, names)
    assert capsys.readouterr().out == "".join(blocks("text"))
    wanted = formula(names["tensors"], json.loads(config))
    np.testing.assert_allclose(names["out"][0], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
