"""Write golden/vectors/transformers.json: the results of transformers for the configs of published.py.

Run `python tests/record_transformers.py` by hand, where torch and transformers are installed. The same versions write
the same bytes. The live comparison in test_transformers.py calls `Recorded.run` too.
"""

from __future__ import annotations

import copy
import importlib
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import transformers
from published import CASES, Case

VECTORS = Path(__file__).resolve().parent.parent / "golden" / "vectors" / "transformers.json"

# The module that rotates the text part of a model, by the model type of its text config.
MODULES = {
    "llama": ("llama", "LlamaRotaryEmbedding"),
    "mistral": ("mistral", "MistralRotaryEmbedding"),
    "qwen2": ("qwen2", "Qwen2RotaryEmbedding"),
    "qwen2_vl_text": ("qwen2_vl", "Qwen2VLRotaryEmbedding"),
    "qwen3_vl_text": ("qwen3_vl", "Qwen3VLTextRotaryEmbedding"),
    "gemma3_text": ("gemma3", "Gemma3RotaryEmbedding"),
    "gemma4_text": ("gemma4", "Gemma4TextRotaryEmbedding"),
    "phi3": ("phi3", "Phi3RotaryEmbedding"),
    "deepseek_v3": ("deepseek_v3", "DeepseekV3RotaryEmbedding"),
    "gpt_oss": ("gpt_oss", "GptOssRotaryEmbedding"),
    "gpt_neox": ("gpt_neox", "GPTNeoXRotaryEmbedding"),
}


def modelling(model: str):
    """transformers' modelling file of a model."""
    return importlib.import_module(f"transformers.models.{model}.modeling_{model}")


@dataclass(frozen=True, slots=True)
class Recorded:
    """Float32 values as transformers has them.

    inv_freq: one for every pair; None for GPT-J, whose code has none. attention_scaling: what multiplies cos and sin.
    positions: (S,), or (3, S) where the model has three axes. cos, sin: (S, pairs), the scaling multiplied in.
    """

    inv_freq: list[float] | None
    attention_scaling: float
    positions: list[int] | list[list[int]]
    cos: list[list[float]]
    sin: list[list[float]]

    @classmethod
    def run(cls, case: Case, positions: np.ndarray) -> Recorded:
        """The values at `positions`. transformers takes the length from the greatest of them."""
        text = transformers.AutoConfig.for_model(**copy.deepcopy(case.config)).get_text_config()
        if text.model_type == "gptj":
            table = modelling("gptj").create_sinusoidal_positions(case.length, text.rotary_dim).numpy()[positions]
            sin, cos = np.split(table, 2, axis=-1)
            return cls(None, 1.0, positions.tolist(), numbers(cos), numbers(sin))
        model, name = MODULES[text.model_type]
        module = getattr(modelling(model), name)(text)
        kinds = () if case.layer_type is None else (case.layer_type,)
        ids = torch.from_numpy(positions)
        cos, sin = module(torch.zeros(1), ids[None] if ids.ndim == 1 else ids[:, None], *kinds)
        frequencies = getattr(module, "_".join((*kinds, "inv_freq")))
        pairs = len(frequencies)
        for table in (cos, sin):
            assert table.dtype == torch.float32
            # gpt-oss has one value per pair. The other models repeat them for the second half.
            assert table.shape[-1] == pairs or torch.equal(table[..., :pairs], table[..., pairs:])
        return cls(
            numbers(frequencies.numpy()),
            float(getattr(module, "_".join((*kinds, "attention_scaling")))),
            positions.tolist(),
            numbers(cos[0, :, :pairs].numpy()),
            numbers(sin[0, :, :pairs].numpy()),
        )


def numbers(values: np.ndarray) -> list:
    """Float32 values by the shortest decimals that read back as the same float32."""
    if values.ndim > 1:
        return [numbers(row) for row in values]
    return [float(str(value)) for value in values]


def chosen_positions(case: Case) -> np.ndarray:
    """Positions near the start, far from it, and the last one. Three axes read them in three different orders."""
    last = case.length - 1
    near = np.array([0, 1, 7, 100, min(4095, last // 2), last])
    text = case.config.get("text_config", case.config)
    if "mrope_section" not in str(text):
        return near
    return np.stack([near, np.roll(near, 2), np.roll(near, 3)])


def main() -> None:
    """Run every case and replace the file."""
    versions = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }
    lines = [f'"versions": {json.dumps(versions)}']
    for name, case in CASES.items():
        recorded = asdict(Recorded.run(case, chosen_positions(case)))
        written = ",\n".join(
            f'  "{key}": {json.dumps(value, separators=(",", ":"))}' for key, value in recorded.items()
        )
        lines.append(f'"{name}": {{\n  "config": {json.dumps(case.config)},\n{written}\n}}')
    VECTORS.parent.mkdir(parents=True, exist_ok=True)
    aside = VECTORS.with_suffix(".new")
    aside.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    os.replace(aside, VECTORS)
    print(f"{VECTORS.name}: {len(CASES)} cases, {VECTORS.stat().st_size:,} bytes, {versions}")


if __name__ == "__main__":
    main()
