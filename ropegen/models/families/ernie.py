"""ERNIE 4.5, alone and with a mixture of experts: Llama with interleaved pairs, and one field for all biases."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.families import llama
from ropegen.models.family import Family, Rotary

ERNIE4_5 = Family(
    positions=Rotary(pairing="interleaved", theta=500_000.0),
    front_end=replace(llama.FRONT_END, qkv_bias="use_bias", out_bias="use_bias"),
    defaults={"head_dim": 128, "hidden_act": "silu", "num_key_value_heads": 2, "use_bias": False, "rms_norm_eps": 1e-5},
    block=Block(mlp_bias="use_bias", tied=True),
    tensors=llama.TENSORS,
    unread=llama.UNREAD,
)
ERNIE4_5_MOE = replace(
    ERNIE4_5,
    defaults={"head_dim": None, "num_key_value_heads": 4, "use_bias": False, "rms_norm_eps": 1e-5},
    block=None,
    tensors=replace(llama.TENSORS, blocks=(), ignored=(r"layers\.\d+\.(post_attention_layernorm|mlp)\..*", r"mtp_.*")),
    unread=llama.UNREAD
    | {
        "hidden_act",
        "intermediate_size",
        "moe_capacity",
        "moe_intermediate_size",
        "moe_k",
        "moe_layer_end_index",
        "moe_layer_interval",
        "moe_layer_start_index",
        "moe_norm_min",
        "moe_num_experts",
        "moe_num_shared_experts",
        "output_router_logits",
        "router_aux_loss_coef",
        "tie_word_embeddings",
    },
)

FAMILIES = {"ernie4_5": ERNIE4_5, "ernie4_5_moe": ERNIE4_5_MOE}
