"""Phi-3.5-MoE: Mixtral with LayerNorms. Its LongRoPE, which multiplies by other factors, is refused."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.families import llama, mistral
from ropegen.models.family import Family, Rotary

FAMILIES = {
    "phimoe": Family(
        positions=Rotary(theta=None),
        front_end=replace(mistral.FRONT_END, norm="layer", qkv_bias="attention_bias", out_bias="attention_bias"),
        defaults={"attention_bias": False, "head_dim": None, "sliding_window": None},
        tensors=replace(
            llama.TENSORS,
            blocks=(),
            ignored=(r"layers\.\d+\.(post_attention_layernorm|block_sparse_moe|mlp)\..*",),
        ),
        unread=llama.UNREAD
        | {
            "hidden_act",
            "input_jitter_noise",
            "intermediate_size",
            "lm_head_bias",
            "num_experts_per_tok",
            "num_local_experts",
            "output_router_logits",
            "router_aux_loss_coef",
            "router_jitter_noise",
            "tie_word_embeddings",
        },
    )
}
