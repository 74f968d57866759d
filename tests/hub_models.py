"""Small whole models of the hub's families: configs, weights drawn by name, and what transformers computes with them.

The weights follow from the names and shapes of the tensors alone, so lanes without torch draw the same ones.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

SIZES = {
    "vocab_size": 61,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
GROUPED = {**SIZES, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "tie_word_embeddings": False}
GPT = {
    "vocab_size": 61,
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 128,
    "layer_norm_epsilon": 1e-5,
    "bos_token_id": None,
    "eos_token_id": None,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 2.0}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [2.0, 3.0, 4.0, 5.0],
}

# Every kind of layer of each family, with norms of their own epsilons, and every switch away from its default somewhere.
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **GROUPED, "rope_theta": 5e5},
    "llama3-biases-tied": {
        "model_type": "llama",
        **GROUPED,
        "head_dim": 16,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": True,
        "rope_theta": 1e4,
        "rope_scaling": LLAMA3,
    },
    "mistral": {"model_type": "mistral", **GROUPED, "head_dim": 16, "sliding_window": 5},
    "qwen2": {
        "model_type": "qwen2",
        **GROUPED,
        "use_sliding_window": True,
        "sliding_window": 5,
        "max_window_layers": 1,
    },
    "qwen3": {"model_type": "qwen3", **GROUPED, "head_dim": 16, "attention_bias": True},
    "phi3": {
        "model_type": "phi3",
        **GROUPED,
        "head_dim": 16,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "partial_rotary_factor": 0.5,
        "original_max_position_embeddings": 4,
        "rope_scaling": LONG,
    },
    "gemma": {"model_type": "gemma", **GROUPED, "head_dim": 16, "tie_word_embeddings": True},
    "gemma2": {
        "model_type": "gemma2",
        **GROUPED,
        "head_dim": 16,
        "sliding_window": 5,
        "query_pre_attn_scalar": 20,
        "attn_logit_softcapping": 5.0,
        "final_logit_softcapping": 8.0,
        "tie_word_embeddings": True,
    },
    "gemma3_text": {
        "model_type": "gemma3_text",
        **GROUPED,
        "head_dim": 16,
        "sliding_window": 5,
        "sliding_window_pattern": 3,
        "query_pre_attn_scalar": 20,
        "tie_word_embeddings": True,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "gpt_oss": {
        "model_type": "gpt_oss",
        **GROUPED,
        "head_dim": 16,
        "sliding_window": 5,
        "num_local_experts": 5,
        "num_experts_per_tok": 2,
        "rope_theta": 150_000.0,
        "rope_scaling": YARN,
    },
    "gpt_neox": {
        "model_type": "gpt_neox",
        **SIZES,
        "layer_norm_eps": 1e-5,
        "rotary_pct": 0.5,
        "use_parallel_residual": True,
        "tie_word_embeddings": False,
    },
    "gpt_neox-sequential": {
        "model_type": "gpt_neox",
        **SIZES,
        "layer_norm_eps": 1e-5,
        "rotary_pct": 0.5,
        "attention_bias": False,
        "use_parallel_residual": False,
        "tie_word_embeddings": False,
    },
    "gptj": {"model_type": "gptj", **GPT, "rotary_dim": 8, "tie_word_embeddings": False},
    "gpt2": {"model_type": "gpt2", **GPT},
    "bloom": {
        "model_type": "bloom",
        "vocab_size": 61,
        "hidden_size": 48,
        "n_layer": 3,
        "n_head": 4,
        "layer_norm_epsilon": 1e-5,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    },
}

QUICK = ("llama", "gemma2", "gptj", "bloom")
"""The models that every lane runs: between them they have every kind of position, norm and order."""

PROMPT = np.array([[3, 14, 15, 9, 26, 53, 58, 9, 7], [31, 41, 5, 2, 6, 53, 5, 8, 9]], np.int32)
STEPS = 64


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A weight of the tensor of this name, float32; norms are around 1, and nothing is 0."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    values = np.random.default_rng(seed).standard_normal(shape)
    if len(shape) < 2:
        is_norm = name.endswith("weight")
        return np.asarray(is_norm + 0.3 * values, np.float32)
    return (1.2 * values / np.sqrt(min(shape[-2:]))).astype(np.float32)


def tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint with these names and shapes."""
    return {name: drawn(name, tuple(shape)) for name, shape in shapes.items()}
