"""Phi-3.5-MoE: Mixtral with LayerNorms and another router. Its LongRoPE, which multiplies by other factors, is refused."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block, Experts
from ropegen.models.families import llama, mistral, mixtral
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import Linear

FAMILIES = {
    "phimoe": Family(
        positions=Rotary(theta=None),
        front_end=replace(mistral.FRONT_END, norm="layer", qkv_bias="attention_bias", out_bias="attention_bias"),
        defaults={
            "attention_bias": False,
            "head_dim": None,
            "hidden_act": "silu",
            "lm_head_bias": False,
            "router_jitter_noise": 0.01,
            "sliding_window": None,
        },
        block=Block(
            experts=Experts(chosen=2, scores="near", near="router_jitter_noise"),
            head_bias="lm_head_bias",
            only={"num_experts_per_tok": 2},  # the code always chooses two
        ),
        tensors=replace(
            mixtral.TENSORS,
            blocks=(
                mixtral.TENSORS.blocks[0],
                {**mixtral.NORM, "router": Linear("mlp.router"), **mixtral.stacked_experts("mlp.experts")},
            ),
        ),
        unread=llama.UNREAD
        | {"input_jitter_noise", "num_local_experts", "output_router_logits", "router_aux_loss_coef"},
    )
}
