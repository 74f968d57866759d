"""Small models of the hub's families, one config for each type that has a front-end, and weights drawn by name.

Weights follow from the names and shapes of the tensors alone, so lanes without torch draw the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

NO_IDS = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
SIZES: dict[str, Any] = {
    "vocab_size": 37,
    "hidden_size": 24,
    "intermediate_size": 28,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    **NO_IDS,
}
GROUPED: dict[str, Any] = {**SIZES, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
GPT: dict[str, Any] = {
    "vocab_size": 37,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 32,
    "layer_norm_epsilon": 1e-5,
    **NO_IDS,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "beta_fast": 8.0}
LATENT: dict[str, Any] = {
    **GROUPED,
    "num_key_value_heads": 4,
    "kv_lora_rank": 12,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 5,
    "moe_intermediate_size": 8,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "num_experts_per_tok": 3,
    "routed_scaling_factor": 1.7,
    "rope_theta": 100.0,
}
# The first layer has one feed-forward part and the second a mixture, in two groups of four experts.
GROUPS: dict[str, Any] = {"first_k_dense_replace": 1, "n_group": 2, "topk_group": 1}
LAYERED: dict[str, Any] = {**SIZES, "num_key_value_heads": 2, "layer_norm_eps": 1e-5}
ROUTED = {"num_experts_per_tok": 2, "moe_intermediate_size": 8}
MULTIPLIED = {"attention_multiplier": 0.3, "embedding_multiplier": 5.0, "residual_multiplier": 0.4}
FALCON = {
    "vocab_size": 37,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "ffn_hidden_size": 28,
    "max_position_embeddings": 32,
}
CLIP_IDS = {"pad_token_id": 1, "bos_token_id": 35, "eos_token_id": 36}
IMAGES: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 28,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 6,
    "patch_size": 2,
}
MOSAIC = {"vocab_size": 37, "d_model": 24, "n_layers": 2, "n_heads": 4, "max_seq_len": 32}
BERT: dict[str, Any] = {**SIZES, "type_vocab_size": 2, "layer_norm_eps": 1e-6}

# By a name of its own, the config of a small model. "local" and "global" tell two kinds of layer apart.
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **GROUPED, "head_dim": 8},
    "llama-biased": {"model_type": "llama", **GROUPED, "attention_bias": True, "mlp_bias": True},
    "llama-square": {"model_type": "llama", **GROUPED, "num_key_value_heads": 4},
    "mistral": {"model_type": "mistral", **GROUPED, "sliding_window": 3},
    "qwen2": {"model_type": "qwen2", **GROUPED},
    "qwen3": {"model_type": "qwen3", **GROUPED, "head_dim": 8},
    "phi3": {"model_type": "phi3", **GROUPED, "partial_rotary_factor": 0.67},
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
    "arcee": {"model_type": "arcee", **GROUPED, "mlp_bias": True},
    "mixtral": {"model_type": "mixtral", **GROUPED, "num_local_experts": 3, "sliding_window": 3},
    "ministral": {
        "model_type": "ministral",
        **GROUPED,
        "head_dim": 8,
        "sliding_window": 3,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "qwen2_moe": {
        "model_type": "qwen2_moe",
        **GROUPED,
        **ROUTED,
        "num_experts": 5,
        "shared_expert_intermediate_size": 12,
        "mlp_only_layers": [0],
    },
    "qwen3_moe": {"model_type": "qwen3_moe", **GROUPED, **ROUTED, "num_experts": 3, "head_dim": 8},
    "dots1": {
        "model_type": "dots1",
        **GROUPED,
        **ROUTED,
        **GROUPS,
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "first_k_dense_replace": 0,
    },
    "olmo": {"model_type": "olmo", **SIZES, "num_key_value_heads": 2},
    "olmo2": {"model_type": "olmo2", **GROUPED},
    "olmo3": {
        "model_type": "olmo3",
        **GROUPED,
        "sliding_window": 3,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_theta": 500_000.0,
        "rope_scaling": YARN,
    },
    "olmoe": {"model_type": "olmoe", **GROUPED, "num_experts": 3, "num_experts_per_tok": 2},
    "flex_olmo": {"model_type": "flex_olmo", **GROUPED, "num_experts": 3, "num_experts_per_tok": 2},
    "stablelm": {"model_type": "stablelm", **LAYERED, "use_qkv_bias": True, "partial_rotary_factor": 0.67},
    "gpt_bigcode": {"model_type": "gpt_bigcode", **GPT},
    "gpt_bigcode-heads": {"model_type": "gpt_bigcode", **GPT, "multi_query": False},
    "starcoder2": {"model_type": "starcoder2", **SIZES, "num_key_value_heads": 2, "sliding_window": 3},
    "cohere": {"model_type": "cohere", **LAYERED, "rope_theta": 1e5, "attention_bias": True},
    "cohere2": {
        "model_type": "cohere2",
        **LAYERED,
        "sliding_window": 3,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "granite": {"model_type": "granite", **GROUPED, **MULTIPLIED},
    "granitemoe": {"model_type": "granitemoe", **GROUPED, **MULTIPLIED, "num_local_experts": 3},
    "granitemoeshared": {
        "model_type": "granitemoeshared",
        **GROUPED,
        **MULTIPLIED,
        "num_local_experts": 3,
        "shared_intermediate_size": 8,
    },
    "glm": {"model_type": "glm", **GROUPED, "head_dim": 8, "attention_bias": True},
    "glm4": {"model_type": "glm4", **GROUPED, "head_dim": 8, "attention_bias": True},
    "glm4_moe": {
        "model_type": "glm4_moe",
        **GROUPED,
        **ROUTED,
        **GROUPS,
        "n_routed_experts": 8,
        "n_shared_experts": 1,
        "head_dim": 8,
        "use_qk_norm": True,
        "attention_bias": True,
    },
    "smollm3": {"model_type": "smollm3", **GROUPED, "no_rope_layers": [0, 1]},
    "exaone4": {"model_type": "exaone4", **GROUPED, "sliding_window": 3, "sliding_window_pattern": 2},
    "exaone4-full": {
        "model_type": "exaone4",
        **GROUPED,
        "sliding_window": None,
        "layer_types": ["full_attention", "full_attention"],
    },
    "ernie4_5": {"model_type": "ernie4_5", **GROUPED, "head_dim": 8, "use_bias": True},
    "ernie4_5_moe": {
        "model_type": "ernie4_5_moe",
        **GROUPED,
        "use_bias": True,
        "moe_num_experts": 5,
        "moe_k": 2,
        "moe_intermediate_size": 8,
        "moe_num_shared_experts": 2,
        "moe_layer_start_index": 1,
        "moe_layer_end_index": 1,
    },
    "seed_oss": {"model_type": "seed_oss", **GROUPED, "head_dim": 8, "attention_out_bias": True},
    "falcon": {"model_type": "falcon", **FALCON, "num_attention_heads": 4, "multi_query": True, "bias": True},
    "falcon-heads": {"model_type": "falcon", **FALCON, "num_attention_heads": 4, "multi_query": False},
    "falcon-sequential": {"model_type": "falcon", **FALCON, "num_attention_heads": 4, "parallel_attn": False},
    "falcon-groups": {
        "model_type": "falcon",
        **FALCON,
        "num_attention_heads": 4,
        "num_kv_heads": 2,
        "new_decoder_architecture": True,
        "bias": True,
    },
    "opt": {
        "model_type": "opt",
        "vocab_size": 37,
        "hidden_size": 24,
        "ffn_dim": 28,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
        "word_embed_proj_dim": 24,
    },
    "gpt_neo": {
        "model_type": "gpt_neo",
        "vocab_size": 37,
        "hidden_size": 24,
        "intermediate_size": 28,
        "num_layers": 2,
        "num_heads": 4,
        "max_position_embeddings": 32,
        "window_size": 3,
        "attention_types": [[["global", "local"], 1]],
    },
    "nemotron": {"model_type": "nemotron", **SIZES, "num_key_value_heads": 2, "head_dim": 8, "attention_bias": True},
    "persimmon": {"model_type": "persimmon", **SIZES, "rope_theta": 25_000.0, "partial_rotary_factor": 0.67},
    "codegen": {"model_type": "codegen", **GPT, "n_head": 8, "n_embd": 32, "rotary_dim": 2},
    "phi": {"model_type": "phi", **LAYERED, "partial_rotary_factor": 0.67},
    "helium": {"model_type": "helium", **GROUPED, "head_dim": 6, "attention_bias": True, "rope_theta": 1e5},
    "apertus": {"model_type": "apertus", **GROUPED, "attention_bias": True, "rope_theta": 1e5, "rope_scaling": LLAMA3},
    "cwm": {
        "model_type": "cwm",
        **GROUPED,
        "bos_token_id": 0,
        "head_dim": 8,
        "sliding_window": 3,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_theta": 1e5,
        "rope_scaling": LLAMA3,
    },
    "jais2": {"model_type": "jais2", **LAYERED, "rope_theta": 1e5},
    "phimoe": {
        "model_type": "phimoe",
        **GROUPED,
        "rope_theta": 1e5,
        "attention_bias": True,
        "sliding_window": 3,
        "num_local_experts": 3,
        "router_jitter_noise": 0.3,
        "lm_head_bias": True,
    },
    "solar_open": {
        "model_type": "solar_open",
        **GROUPED,
        **ROUTED,
        "n_routed_experts": 5,
        "head_dim": 8,
        "rope_theta": 1e5,
        "attention_bias": True,
    },
    "vaultgemma": {"model_type": "vaultgemma", **GROUPED, "head_dim": 8, "sliding_window": 3},
    "hyperclovax": {"model_type": "hyperclovax", **GROUPED, **MULTIPLIED, "rope_theta": 1e5, "logits_scaling": 0.6},
    "exaone_moe": {
        "model_type": "exaone_moe",
        **GROUPED,
        **ROUTED,
        "sliding_window": 3,
        "sliding_window_pattern": 2,
        "num_experts": 5,
    },
    "mellum": {
        "model_type": "mellum",
        **GROUPED,
        **ROUTED,
        "num_experts": 5,
        "mlp_layer_types": ["sparse", "dense"],
        "norm_topk_prob": False,
        "head_dim": 8,
        "sliding_window": 3,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 5e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
    "eurobert": {"model_type": "eurobert", **GROUPED, "rope_theta": 1e5},
    "roberta": {"model_type": "roberta", **BERT, "pad_token_id": 1},
    "xlm-roberta": {"model_type": "xlm-roberta", **BERT, "pad_token_id": 1},
    "camembert": {"model_type": "camembert", **BERT, "pad_token_id": 1},
    "data2vec-text": {"model_type": "data2vec-text", **BERT, "pad_token_id": 1},
    "xlm-roberta-xl": {"model_type": "xlm-roberta-xl", **BERT, "pad_token_id": 1},
    "roberta-prelayernorm": {"model_type": "roberta-prelayernorm", **BERT, "pad_token_id": 1},
    "megatron-bert": {"model_type": "megatron-bert", **BERT},
    "ernie": {"model_type": "ernie", **BERT},
    "bert-generation": {"model_type": "bert-generation", **SIZES, "layer_norm_eps": 1e-6},
    "splinter": {"model_type": "splinter", **BERT, "pad_token_id": 0},
    "biogpt": {"model_type": "biogpt", **SIZES, "pad_token_id": 1},
    "openai-gpt": {"model_type": "openai-gpt", **GPT},
    "clip_text_model": {"model_type": "clip_text_model", **SIZES, "layer_norm_eps": 1e-5, **CLIP_IDS},
    "siglip_text_model": {"model_type": "siglip_text_model", **SIZES, "projection_size": 24},
    "siglip_vision_model": {
        "model_type": "siglip_vision_model",
        **IMAGES,
    },
    "deepseek_v2": {
        "model_type": "deepseek_v2",
        **LATENT,
        **GROUPS,
        "q_lora_rank": None,
        "topk_method": "group_limited_greedy",
        "rope_scaling": {**YARN, "mscale": 0.7, "mscale_all_dim": 0.9},
    },
    "deepseek_v2-greedy": {"model_type": "deepseek_v2", **LATENT, "q_lora_rank": 10, "mlp_bias": True},
    "deepseek_v3": {
        "model_type": "deepseek_v3",
        **LATENT,
        **GROUPS,
        "q_lora_rank": 10,
        "attention_bias": True,
        "rope_scaling": {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0},
    },
    "deepseek_v3-halves": {
        "model_type": "deepseek_v3",
        **LATENT,
        **GROUPS,
        "q_lora_rank": 10,
        "rope_interleave": False,
    },
    "youtu": {
        "model_type": "youtu",
        **{
            name: size for name, size in LATENT.items() if not any(part in name for part in ("expert", "moe", "routed"))
        },
        "q_lora_rank": 10,
    },
    "glm4_moe_lite": {"model_type": "glm4_moe_lite", **LATENT, "q_lora_rank": 10},
    "qwen2_vl_text": {
        "model_type": "qwen2_vl_text",
        **GROUPED,
        "rope_theta": 1e4,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 1]},
    },
    "qwen2_5_vl_text": {
        "model_type": "qwen2_5_vl_text",
        **GROUPED,
        "rope_theta": 1e4,
        "use_sliding_window": True,
        "sliding_window": 3,
        "max_window_layers": 1,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 1]},
    },
    "qwen3_vl_text": {
        "model_type": "qwen3_vl_text",
        **GROUPED,
        "head_dim": 8,
        "rope_theta": 1e4,
        "rope_scaling": {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True},
    },
    "mpt": {"model_type": "mpt", **MOSAIC, "attn_config": {"clip_qkv": 0.8, "softmax_scale": 0.3}},
    "mpt-6-heads": {"model_type": "mpt", **MOSAIC, "n_heads": 6},
    "dbrx": {
        "model_type": "dbrx",
        **MOSAIC,
        "rope_theta": 5e5,
        "attn_config": {"clip_qkv": 0.8, "kv_n_heads": 2, "rope_theta": 5e5},
        "ffn_config": {"ffn_hidden_size": 8, "moe_num_experts": 3, "moe_top_k": 2},
    },
    "olmo-clipped": {"model_type": "olmo", **SIZES, "num_key_value_heads": 2, "clip_qkv": 0.8},
    "vit": {"model_type": "vit", **IMAGES, "layer_norm_eps": 1e-6},
    "vit_msn": {"model_type": "vit_msn", **IMAGES, "layer_norm_eps": 1e-6, "qkv_bias": False},
    "deit": {"model_type": "deit", **IMAGES, "layer_norm_eps": 1e-6},
    "ijepa": {"model_type": "ijepa", **IMAGES, "layer_norm_eps": 1e-6},
    "dinov2": {"model_type": "dinov2", **IMAGES, "mlp_ratio": 2},
    "dinov2_with_registers": {
        "model_type": "dinov2_with_registers",
        **IMAGES,
        "mlp_ratio": 2,
        "num_register_tokens": 3,
    },
    "clip_vision_model": {"model_type": "clip_vision_model", **IMAGES},
    "chinese_clip_vision_model": {"model_type": "chinese_clip_vision_model", **IMAGES},
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": 37,
        "dim": 24,
        "hidden_dim": 28,
        "n_layers": 2,
        "n_heads": 4,
        "max_position_embeddings": 32,
    },
    "electra": {"model_type": "electra", **BERT, "embedding_size": 24},
}
VISION = {
    **IMAGES,
    "num_hidden_layers": 1,
    "depth": 1,
    "embed_dim": 24,
    "num_heads": 4,
    "out_hidden_size": 24,
    "num_position_embeddings": 9,
    "deepstack_visual_indexes": [0],
}
AUDIO = {
    "d_model": 24,
    "encoder_layers": 1,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 28,
    "num_mel_bins": 8,
    "max_source_positions": 8,
}
# Models with several parts, by their type: the small text model of each, and what its config has beside that.
WRAPPED: dict[str, tuple[str, dict[str, Any]]] = {
    "llava": ("llama", {}),
    "idefics3": ("llama", {}),
    "aya_vision": ("cohere2", {}),
    "kimi_k25": ("deepseek_v3", {}),
    "gemma3": ("gemma3_text", {}),
    "qwen3_vl": ("qwen3_vl_text", {}),
    "cohere2_vision": ("cohere2", {"alignment_intermediate_size": 24}),
    "deepseek_vl": ("llama", {}),
    "got_ocr2": ("qwen2", {}),
    "idefics2": ("mistral", {}),
    "internvl": ("qwen2", {}),
    "llava_next": ("llama", {}),
    "llava_next_video": ("llama", {}),
    "llava_onevision": ("qwen2", {}),
    "mistral3": ("mistral", {}),
    "qwen2_audio": ("qwen2", {"vision_config": None, "audio_config": AUDIO}),
    "qwen2_vl": ("qwen2_vl_text", {}),
    "qwen2_5_vl": ("qwen2_5_vl_text", {}),
    "smolvlm": ("llama", {}),
    "video_llava": ("llama", {}),
    "vipllava": ("llama", {}),
}


def wrapped(outer: str) -> dict[str, Any]:
    """The config of a small model with several parts."""
    text, more = WRAPPED[outer]
    stated = {"vision_config": VISION, "tie_word_embeddings": False, **more}
    return {
        "model_type": outer,
        "text_config": CONFIGS[text],
        **{name: value for name, value in stated.items() if value is not None},
    }


IMAGE = np.random.default_rng(0).standard_normal((1, 6, 6, 3)).astype(np.float32)
"""Height, width, channels."""
IDS = np.array([[3, 14, 15, 9, 26, 5]], np.int32)
TYPES = np.array([[0, 0, 1, 1, 0, 1]], np.int32)


def drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weight of the tensor of this name, float32. Vectors called weight are norms, around 1."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    values = np.asarray(np.random.default_rng(seed).standard_normal(shape))
    if len(shape) < 2:
        return np.asarray((0.3 * values) + name.endswith("weight"), np.float32)
    return (values / np.sqrt(min(shape[-2:]))).astype(np.float32)


def tensors(shapes: dict[str, list[int]]) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint with these names and shapes."""
    return {name: drawn(name, tuple(shape)) for name, shape in shapes.items()}


# What `record_models` asks of a config beyond those above: the ids of its prompt, and the length of its answer.
LONGER = {"vocab_size": 61, "max_position_embeddings": 128}


def longer(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with room for the prompt and the answer of `hub_models`."""
    made = {**config, **LONGER}
    for field in ("n_positions", "max_seq_len"):
        if field in config:
            made[field] = made.pop("max_position_embeddings")
    return made
