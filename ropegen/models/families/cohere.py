"""Command R (cohere) and Command A (cohere2): LayerNorms without a bias, and interleaved pairs.

In `cohere2`, three of four layers are local, and the others do not rotate.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.config import Config
from ropegen.models.families import gemma, llama
from ropegen.models.family import Family, FrontEnd, Rotary
from ropegen.models.tensors import linears


def full_layers(config: Config, layer_type: str, layer: int) -> bool:
    """Layers that see every key do not rotate."""
    return layer_type == "full_attention"


COHERE = Family(
    positions=Rotary(pairing="interleaved", theta=None),
    front_end=FrontEnd(
        norm="layer",
        norm_parameters="weight",
        epsilon="layer_norm_eps",
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        only={"use_qk_norm": False},
    ),
    defaults={
        "attention_bias": False,
        "head_dim": None,
        "hidden_act": "silu",
        "logit_scale": 0.0625,
        "num_key_value_heads": None,
    },
    block=Block(order="parallel", mlp_norm="input", tied=True, logit_multiplier="logit_scale"),
    tensors=replace(llama.TENSORS, blocks=(linears("mlp.{}_proj", "gate", "up", "down"),)),
    unread=llama.UNREAD,
)
COHERE2 = replace(
    COHERE,
    positions=Rotary(pairing="interleaved"),
    front_end=replace(COHERE.front_end, local=gemma.all_but_every_nth_layer, unrotated=full_layers, only={}),
    unread=llama.UNREAD | {"_sliding_window_pattern"},
    defaults={**COHERE.defaults, "sliding_window": 4096, "sliding_window_pattern": 4},
)

FAMILIES = {"cohere": COHERE, "cohere2": COHERE2}
