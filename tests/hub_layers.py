"""Small models of the hub's families, one config for each type that has a front-end, and weights drawn by name.

Weights follow from the names and shapes of the tensors alone, so lanes without torch draw the same ones.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

SIZES: dict[str, Any] = {
    "vocab_size": 37,
    "hidden_size": 24,
    "intermediate_size": 28,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}
GROUPED: dict[str, Any] = {**SIZES, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
GPT: dict[str, Any] = {
    "vocab_size": 37,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 32,
    "layer_norm_epsilon": 1e-5,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "beta_fast": 8.0}
BERT: dict[str, Any] = {**SIZES, "type_vocab_size": 2, "layer_norm_eps": 1e-6}

# By a name of its own, the config of a small model. "local" and "global" tell two kinds of layer apart.
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **GROUPED, "head_dim": 8},
    "llama-biased": {"model_type": "llama", **GROUPED, "attention_bias": True, "mlp_bias": True},
    "llama-square": {"model_type": "llama", **GROUPED, "num_key_value_heads": 4},
    "mistral": {"model_type": "mistral", **GROUPED, "sliding_window": 3},
    "qwen2": {"model_type": "qwen2", **GROUPED},
    "qwen3": {"model_type": "qwen3", **GROUPED, "head_dim": 8},
    "phi3": {"model_type": "phi3", **GROUPED, "partial_rotary_factor": 0.67, "pad_token_id": 0},
    "gemma": {"model_type": "gemma", **GROUPED, "head_dim": 8},
    "gemma2": {"model_type": "gemma2", **GROUPED, "head_dim": 8, "sliding_window": 3, "query_pre_attn_scalar": 12},
    "gemma3_text": {"model_type": "gemma3_text", **GROUPED, "head_dim": 8, "sliding_window": 3},
    "gpt_oss": {
        "model_type": "gpt_oss",
        **GROUPED,
        "head_dim": 8,
        "sliding_window": 3,
        "num_local_experts": 3,
        "num_experts_per_tok": 2,
        "rope_theta": 150_000.0,
        "rope_scaling": YARN,
    },
    "gpt_neox": {"model_type": "gpt_neox", **SIZES, "layer_norm_eps": 1e-5, "rotary_pct": 0.34},
    "gptj": {"model_type": "gptj", **GPT, "rotary_dim": 4},
    "gpt2": {"model_type": "gpt2", **GPT},
    "bloom": {
        "model_type": "bloom",
        "vocab_size": 37,
        "hidden_size": 24,
        "n_layer": 2,
        "n_head": 4,
        "layer_norm_epsilon": 1e-5,
    },
    "bert": {"model_type": "bert", **BERT},
}
IDS = np.array([[3, 14, 15, 9, 26, 5]], np.int32)
TYPES = np.array([[0, 0, 1, 1, 0, 1]], np.int32)


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weight of the tensor of this name, float32. Vectors called weight are norms, around 1."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    values = np.asarray(np.random.default_rng(seed).standard_normal(shape))
    if len(shape) < 2:
        return ((0.3 * values) + name.endswith("weight")).astype(np.float32)
    return (values / np.sqrt(min(shape[-2:]))).astype(np.float32)


def tensors(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint with these names and shapes."""
    return {name: drawn(name, tuple(shape)) for name, shape in shapes.items()}
