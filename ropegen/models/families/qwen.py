"""Qwen 2 and 3, and the rotary facts of their vision-language models."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.config import Config
from ropegen.models.families import llama
from ropegen.models.family import Declined, Family, Rotary
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

_THREE_AXES = Declined("its positions have three axes, and the front-end counts along one")
QWEN2_VL = Family(positions=Rotary(theta=None, sections="runs", renamed={"mrope": "default"}), front_end=_THREE_AXES)
QWEN3_VL = Family(
    positions=Rotary(theta=None, sections="interleaved", renamed={"mrope": "default"}), front_end=_THREE_AXES
)

FAMILIES = {
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    **dict.fromkeys(("qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"), QWEN2_VL),
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_text"), QWEN3_VL),
}
