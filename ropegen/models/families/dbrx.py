"""DBRX: grouped keys, clipped projections and LayerNorms without biases.

`attn_config` holds the fields of attention, and `ffn_config` those of the experts.

Published configs have `rope_theta` in `attn_config`, where transformers 5 does not read it and takes 10000. Which of the
two a caller means cannot be told, so such a config is refused unless it says the same beside `attn_config`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from ropegen.models.block import Block, Experts
from ropegen.models.config import Config
from ropegen.models.family import Family, FrontEnd, Rotary
from ropegen.models.tensors import IN_RUNS, FlatExperts, Linear, Norm, Table, Tensors, packed


def block(config: Config) -> Block:
    """`ffn_act_fn` holds the name of the activation, and a null `moe_normalize_expert_weights` keeps the scores as they are."""
    stated, norm = config.value("ffn_act_fn"), config.value("moe_normalize_expert_weights")
    activation: object = (
        cast("Mapping[str, object]", stated).get("name", "silu") if isinstance(stated, Mapping) else stated
    )
    if norm not in (None, 1):
        raise config.refuse(f"moe_normalize_expert_weights is {norm!r}", "only 1, the sum, and null are supported")
    return Block(
        fixed_activation=str("silu" if activation is None else activation),
        experts=Experts(chosen="moe_top_k", normalised=norm is not None),
    )


FAMILIES = {
    "dbrx": Family(
        positions=Rotary(),
        front_end=FrontEnd(norm="layer", norm_parameters="weight", fixed_epsilon=1e-5, clip="clip_qkv"),
        spellings={
            "hidden_size": ("d_model",),
            "num_attention_heads": ("n_heads",),
            "num_hidden_layers": ("n_layers",),
            "num_key_value_heads": ("kv_n_heads",),
            "max_position_embeddings": ("max_seq_len",),
        },
        defaults={
            "clip_qkv": None,
            "ffn_act_fn": None,
            "moe_normalize_expert_weights": 1.0,
            "moe_top_k": 1,
            "num_key_value_heads": 1,
        },
        block=block,
        parts=("attn_config", "ffn_config"),
        tensors=Tensors(
            prefixes=(("transformer.", ""), ("", "")),
            layers="blocks.{}.",
            stem={"embedding": Table("wte")},
            front_end={
                "input_norm": Norm("norm_attn_norm.norm_1"),
                **packed("norm_attn_norm.attn.Wqkv", IN_RUNS),
                "o": Linear("norm_attn_norm.attn.out_proj"),
            },
            final={"final_norm": Norm("norm_f")},
            blocks=(
                {
                    "mlp_norm": Norm("norm_attn_norm.norm_2"),
                    "router": Linear("ffn.router.layer"),
                    "experts_gate": FlatExperts("ffn.experts.mlp.w1", outputs_first=True),
                    "experts_up": FlatExperts("ffn.experts.mlp.v1", outputs_first=True),
                    "experts_down": FlatExperts("ffn.experts.mlp.w2", outputs_first=False),
                },
            ),
            head=Linear("lm_head"),
            experts="moe_num_experts",
            expert_inner="ffn_hidden_size",
        ),
        unread=frozenset(
            (
                "attn_pdrop",
                "emb_pdrop",
                "ffn_hidden_size",
                "moe_jitter_eps",
                "moe_loss_weight",
                "moe_num_experts",
                "output_router_logits",
                "resid_pdrop",
            )
        ),
    )
}
