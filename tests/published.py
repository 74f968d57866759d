"""Published model configs: the fields of a config.json that say how the heads rotate, as the checkpoint states them.

They come from the model repositories on the Hugging Face hub. Fields that rotation does not read are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

LLAMA_31 = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
}
LLAMA_32_1B = {
    **LLAMA_31,
    "hidden_size": 2048,
    "head_dim": 64,
    "rope_scaling": {**LLAMA_31["rope_scaling"], "factor": 32.0},
}
LLAMA_32_3B = {**LLAMA_32_1B, "hidden_size": 3072, "num_attention_heads": 24, "head_dim": 128}
LLAMA_2 = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "max_position_embeddings": 4096,
    "rope_scaling": None,
}
# Llama 2 as transformers' documentation extends it.
LLAMA_2_LINEAR = {**LLAMA_2, "rope_scaling": {"type": "linear", "factor": 4.0}}
LLAMA_2_DYNAMIC = {**LLAMA_2, "rope_scaling": {"type": "dynamic", "factor": 2.0}}
# This one is made up, because no published checkpoint states every field of yarn.
LLAMA_2_YARN = {
    **LLAMA_2,
    "max_position_embeddings": 32768,
    "rope_scaling": {
        "type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 24.0,
        "beta_slow": 2.0,
        "mscale": 0.7,
        "mscale_all_dim": 1.3,
        "truncate": False,
    },
}
MISTRAL_7B = {
    "model_type": "mistral",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "max_position_embeddings": 32768,
    "rope_theta": 10000.0,
}
MISTRAL_NEMO = {
    "model_type": "mistral",
    "hidden_size": 5120,
    "num_attention_heads": 32,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "rope_theta": 1000000.0,
}
QWEN25_YARN = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "num_attention_heads": 28,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"},
}
QWEN2_VL = {
    "model_type": "qwen2_vl",
    "hidden_size": 3584,
    "num_attention_heads": 28,
    "max_position_embeddings": 32768,
    "rope_theta": 1000000.0,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
}
QWEN3_VL = {
    "model_type": "qwen3_vl",
    "text_config": {
        "model_type": "qwen3_vl_text",
        "head_dim": 128,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "max_position_embeddings": 262144,
        "rope_theta": 5000000,
        "rope_scaling": {"mrope_interleaved": True, "mrope_section": [24, 20, 20], "rope_type": "default"},
    },
}
GEMMA3_4B = {
    "model_type": "gemma3",
    "text_config": {"model_type": "gemma3_text", "rope_scaling": {"factor": 8.0, "rope_type": "linear"}},
}
GEMMA3_1B = {
    "model_type": "gemma3_text",
    "head_dim": 256,
    "hidden_size": 1152,
    "num_attention_heads": 4,
    "max_position_embeddings": 32768,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
    "rope_scaling": None,
}
GEMMA4 = {
    "model_type": "gemma4_text",
    "head_dim": 256,
    "global_head_dim": 512,
    "max_position_embeddings": 131072,
    "rope_parameters": {
        "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1e6, "rope_type": "proportional"},
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
    },
}
PHI35_MINI = {
    "model_type": "phi3",
    "hidden_size": 3072,
    "num_attention_heads": 32,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "rope_theta": 10000.0,
    "rope_scaling": {
        "long_factor": [
            1.0800000429153442, 1.1100000143051147, 1.1399999856948853, 1.340000033378601, 1.5899999141693115,
            1.600000023841858, 1.6200000047683716, 2.620000123977661, 3.2300000190734863, 3.2300000190734863,
            4.789999961853027, 7.400000095367432, 7.700000286102295, 9.09000015258789, 12.199999809265137,
            17.670000076293945, 24.46000099182129, 28.57000160217285, 30.420001983642578, 30.840002059936523,
            32.590003967285156, 32.93000411987305, 42.320003509521484, 44.96000289916992, 50.340003967285156,
            50.45000457763672, 57.55000305175781, 57.93000411987305, 58.21000289916992, 60.1400032043457,
            62.61000442504883, 62.62000274658203, 62.71000289916992, 63.1400032043457, 63.1400032043457,
            63.77000427246094, 63.93000411987305, 63.96000289916992, 63.970001220703125, 64.02999877929688,
            64.06999969482422, 64.08000183105469, 64.12000274658203, 64.41000366210938, 64.4800033569336,
            64.51000213623047, 64.52999877929688, 64.83999633789062,
        ],
        "short_factor": [
            1.0, 1.0199999809265137, 1.0299999713897705, 1.0299999713897705, *[1.0499999523162842] * 5,
            1.0699999332427979, 1.0999999046325684, 1.1099998950958252, 1.1599998474121094, 1.1599998474121094,
            1.1699998378753662, 1.2899998426437378, 1.339999794960022, 1.679999828338623, 1.7899998426437378,
            1.8199998140335083, 1.8499997854232788, 1.8799997568130493, 1.9099997282028198, 1.9399996995925903,
            1.9899996519088745, *[2.0199997425079346] * 6, *[2.0299997329711914] * 9, 2.0799996852874756,
            2.0899996757507324, 2.189999580383301, 2.2199995517730713, 2.5899994373321533, 2.729999542236328,
            2.749999523162842, 2.8399994373321533,
        ],
        "type": "longrope",
    },
}  # fmt: skip
PHI4_MINI = {
    **PHI35_MINI,
    "num_attention_heads": 24,
    "partial_rotary_factor": 0.75,
    "rope_scaling": {
        "long_factor": [
            1, 1.118320672, 1.250641126, 1.398617824, 1.564103225, 1.74916897, 1.956131817, 2.187582649, 2.446418898,
            2.735880826, 3.059592084, 3.421605075, 3.826451687, 4.279200023, 4.785517845, 5.351743533, 5.984965424,
            6.693110555, 7.485043894, 8.370679318, 9.36110372, 10.4687158, 11.70738129, 13.09260651, 14.64173252,
            16.37415215, 18.31155283, 20.47818807, 22.90118105, 25.61086418, 28.64115884, 32.03, 32.1, 32.13, 32.23,
            32.6, 32.61, 32.64, 32.66, 32.7, 32.71, 32.93, 32.97, 33.28, 33.49, 33.5, 44.16, 47.77,
        ],
        "short_factor": [1.0] * 48,
        "type": "longrope",
    },
}  # fmt: skip
DEEPSEEK_V3 = {
    "model_type": "deepseek_v3",
    "max_position_embeddings": 163840,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "rope_theta": 10000,
    "rope_scaling": {
        "beta_fast": 32,
        "beta_slow": 1,
        "factor": 40,
        "mscale": 1.0,
        "mscale_all_dim": 1.0,
        "original_max_position_embeddings": 4096,
        "type": "yarn",
    },
}
GPT_OSS = {
    "model_type": "gpt_oss",
    "head_dim": 64,
    "hidden_size": 2880,
    "num_attention_heads": 64,
    "max_position_embeddings": 131072,
    "rope_theta": 150000,
    "rope_scaling": {
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "factor": 32.0,
        "original_max_position_embeddings": 4096,
        "rope_type": "yarn",
        "truncate": False,
    },
}
GPT_NEOX_20B = {
    "model_type": "gpt_neox",
    "hidden_size": 6144,
    "num_attention_heads": 64,
    "max_position_embeddings": 2048,
    "rotary_pct": 0.25,
    "rotary_emb_base": 10000,
}
PYTHIA_1B = {**GPT_NEOX_20B, "hidden_size": 2048, "num_attention_heads": 8}
GPT_J = {"model_type": "gptj", "n_embd": 4096, "n_head": 16, "n_positions": 2048, "rotary": True, "rotary_dim": 64}


@dataclass(frozen=True, slots=True)
class Case:
    """A config, and what a comparison of its rotary tables needs.

    head: the width of the heads. length: the longest sequence. layer_type: the kind of layer, where kinds differ.
    """

    config: dict
    head: int
    length: int
    layer_type: str | None = None


CASES = {
    "llama-2": Case(LLAMA_2, 128, 4096),
    "llama-2-linear": Case(LLAMA_2_LINEAR, 128, 16384),
    "llama-2-dynamic": Case(LLAMA_2_DYNAMIC, 128, 4096),
    "llama-2-dynamic-longer": Case(LLAMA_2_DYNAMIC, 128, 10000),
    "llama-2-yarn": Case(LLAMA_2_YARN, 128, 32768),
    "llama-3.1-8b": Case(LLAMA_31, 128, 131072),
    "llama-3.2-1b": Case(LLAMA_32_1B, 64, 131072),
    "llama-3.2-3b": Case(LLAMA_32_3B, 128, 131072),
    "mistral-7b": Case(MISTRAL_7B, 128, 32768),
    "mistral-nemo": Case(MISTRAL_NEMO, 128, 131072),
    "qwen2.5-7b-yarn": Case(QWEN25_YARN, 128, 131072),
    "qwen2-vl-7b": Case(QWEN2_VL, 128, 32768),
    "qwen3-vl-8b": Case(QWEN3_VL, 128, 262144),
    "gemma3-4b-global": Case(GEMMA3_4B, 256, 131072, "full_attention"),
    "gemma3-4b-local": Case(GEMMA3_4B, 256, 131072, "sliding_attention"),
    "gemma3-1b-global": Case(GEMMA3_1B, 256, 32768, "full_attention"),
    "gemma4-global": Case(GEMMA4, 512, 131072, "full_attention"),
    "gemma4-local": Case(GEMMA4, 256, 131072, "sliding_attention"),
    "phi3.5-mini-short": Case(PHI35_MINI, 96, 4096),
    "phi3.5-mini-just-long": Case(PHI35_MINI, 96, 4097),
    "phi3.5-mini-long": Case(PHI35_MINI, 96, 131072),
    "phi4-mini-short": Case(PHI4_MINI, 128, 4096),
    "phi4-mini-long": Case(PHI4_MINI, 128, 131072),
    "deepseek-v3": Case(DEEPSEEK_V3, 64, 163840),
    "gpt-oss-20b": Case(GPT_OSS, 64, 131072),
    "gpt-neox-20b": Case(GPT_NEOX_20B, 96, 2048),
    "pythia-1b": Case(PYTHIA_1B, 256, 2048),
    "gpt-j-6b": Case(GPT_J, 256, 2048),
}
