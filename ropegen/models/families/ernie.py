"""ERNIE 4.5, alone and with a mixture of experts: Llama with interleaved pairs, and one field for all biases."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block, Experts
from ropegen.models.config import Config
from ropegen.models.families import deepseek, llama
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import Parameter, Roles

BLOCK = Block(mlp_bias="use_bias", tied=True)
ERNIE4_5 = Family(
    positions=Rotary(pairing="interleaved", theta=500_000.0),
    front_end=replace(llama.FRONT_END, qkv_bias="use_bias", out_bias="use_bias"),
    defaults={"head_dim": 128, "hidden_act": "silu", "num_key_value_heads": 2, "use_bias": False, "rms_norm_eps": 1e-5},
    block=BLOCK,
    tensors=llama.TENSORS,
    unread=llama.UNREAD,
)


def every_nth_layer_within(config: Config, layer: int) -> bool:
    """From `moe_layer_start_index` to `moe_layer_end_index`, every `moe_layer_interval`-th layer has a mixture."""
    first, last = config.count("moe_layer_start_index", least=0), config.count("moe_layer_end_index", least=-1)
    last = config.count("num_hidden_layers") - 1 if last == -1 else last
    return first <= layer <= last and (layer + 1) % config.count("moe_layer_interval") == 0


def _router(folder: str) -> Roles:
    return {**deepseek.ROUTER, "router_correction": Parameter(f"{folder}.e_score_correction_bias", ones=1)}


ERNIE4_5_MOE = replace(
    ERNIE4_5,
    spellings={"moe_k": ("num_experts_per_tok",), "moe_num_experts": ("num_experts",)},
    defaults={
        "head_dim": None,
        "hidden_act": "silu",
        "moe_k": 6,
        "moe_layer_end_index": -1,
        "moe_layer_interval": 1,
        "moe_layer_start_index": 1,
        "moe_norm_min": 1e-12,
        "moe_num_shared_experts": 2,
        "num_key_value_heads": 4,
        "rms_norm_eps": 1e-5,
        "use_bias": False,
    },
    block=replace(
        BLOCK,
        experts=Experts(
            chosen="moe_k", wide=True, correction=True, least_sum="moe_norm_min", shared="moe_num_shared_experts"
        ),
        mixture_layers=every_nth_layer_within,
        head_bias="use_bias",
    ),
    tensors=replace(
        deepseek.MIXTURE_TENSORS,
        blocks=(
            *deepseek.blocks(deepseek.SHARED, _router("mlp.gate.moe_statics")),  # as transformers 5 has them
            *(roles for roles in deepseek.blocks(deepseek.SHARED, _router("mlp.moe_statics")) if "router" in roles),
        ),
        experts="moe_num_experts",
        shared_times="moe_num_shared_experts",
        ignored=(r"mtp_.*",),
    ),
    unread=llama.UNREAD
    | {"moe_capacity", "moe_intermediate_size", "moe_num_experts", "output_router_logits", "router_aux_loss_coef"},
)

FAMILIES = {"ernie4_5": ERNIE4_5, "ernie4_5_moe": ERNIE4_5_MOE}
