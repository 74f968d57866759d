"""Qwen 2 and 3, and the text models of their vision-language models.

The latter rotate by three axes of positions, M-RoPE. For a prompt without an image the three are one and the same.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.config import Config
from ropegen.models.families import llama
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import Norm


def past_full_layers(config: Config, layer: int) -> bool:
    """The first `max_window_layers` layers see every key, and the others are local."""
    return layer >= config.count("max_window_layers", least=0)


QWEN2 = Family(
    positions=Rotary(),
    front_end=replace(
        llama.FRONT_END, qkv_bias=True, out_bias=False, local=past_full_layers, local_switch="use_sliding_window"
    ),
    defaults={
        "head_dim": None,
        "use_sliding_window": False,
        "sliding_window": 4096,
        "max_window_layers": 28,
        "hidden_act": "silu",
    },
    sparse={
        "vocab_size": 151_936,
        "hidden_size": 4096,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "intermediate_size": 22_016,
        "max_position_embeddings": 32_768,
        "rms_norm_eps": 1e-6,
    },
    block=Block(),
    tensors=llama.TENSORS,
    unread=llama.UNREAD,
)
QK_NORMS = {"q_norm": Norm("self_attn.q_norm"), "k_norm": Norm("self_attn.k_norm")}
QWEN3_TENSORS = replace(llama.TENSORS, front_end={**llama.TENSORS.front_end, **QK_NORMS})
QWEN3 = Family(
    positions=Rotary(),
    front_end=replace(llama.FRONT_END, qk_norm=True, local=past_full_layers, local_switch="use_sliding_window"),
    defaults={**QWEN2.defaults, "attention_bias": False, "head_dim": 128},
    sparse=QWEN2.sparse,
    block=Block(),
    tensors=QWEN3_TENSORS,
    unread=llama.UNREAD,
)

# The fields of the config around the text model. Older configs have them beside the fields of the text model itself.
AROUND = frozenset(
    (
        "image_token_id",
        "tie_word_embeddings",
        "video_token_id",
        "vision_config",
        "vision_end_token_id",
        "vision_start_token_id",
        "vision_token_id",
    )
)
QWEN2_VL_TEXT = replace(
    QWEN2,
    positions=Rotary(theta=None, sections="runs", renamed={"mrope": "default"}),
    defaults={**QWEN2.defaults, "max_window_layers": 80},
    sparse={},
)
QWEN2_VL = replace(QWEN2_VL_TEXT, unread=QWEN2.unread | AROUND)
QWEN3_VL_TEXT = replace(
    QWEN3,
    positions=Rotary(theta=None, sections="interleaved", renamed={"mrope": "default"}),
    front_end=replace(llama.FRONT_END, qk_norm=True, layer_types=False),
    defaults={"attention_bias": False, "head_dim": 128, "hidden_act": "silu"},
    sparse={},
)
QWEN3_VL = replace(QWEN3_VL_TEXT, unread=QWEN3.unread | AROUND)

FAMILIES = {
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl"), QWEN2_VL),
    **dict.fromkeys(("qwen2_vl_text", "qwen2_5_vl_text"), QWEN2_VL_TEXT),
    "qwen3_vl": QWEN3_VL,
    "qwen3_vl_text": QWEN3_VL_TEXT,
}
