"""Mistral: Llama without biases. Where a config states a window, every layer has it, whatever `layer_types` says."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.config import Config
from ropegen.models.families import llama
from ropegen.models.family import Family, Rotary


def every_layer(config: Config, layer: int) -> bool:
    """Every layer is local."""
    return True


FRONT_END = replace(llama.FRONT_END, qkv_bias=False, out_bias=False, local=every_layer, layer_types=False)

FAMILIES = {
    "mistral": Family(
        positions=Rotary(),
        front_end=FRONT_END,
        defaults={"head_dim": None, "sliding_window": 4096, "hidden_act": "silu"},
        sparse={
            "vocab_size": 32_000,
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "intermediate_size": 14_336,
            "max_position_embeddings": 131_072,
            "rms_norm_eps": 1e-6,
        },
        block=Block(),
        tensors=llama.TENSORS,
        unread=llama.UNREAD,
    )
}
