"""Mixtral: Mistral with a mixture of experts. Ministral: Mistral whose layers are local where `layer_types` says so."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block, Experts
from ropegen.models.families import llama, mistral
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import Experts as StoredExperts
from ropegen.models.tensors import Linear, Norm, Packing, Roles, StackedExperts

GATE_UP = Packing(("experts_gate", "experts_up"))
NORM = {"mlp_norm": Norm("post_attention_layernorm")}


def stacked_experts(name: str) -> Roles:
    """The experts as transformers 5 holds them: `gate_up_proj` and `down_proj` in the folder `name`."""
    packed = StackedExperts(f"{name}.gate_up_proj", outputs_first=True, packing=GATE_UP)
    return {
        "experts_gate": packed,
        "experts_up": packed,
        "experts_down": StackedExperts(f"{name}.down_proj", outputs_first=True),
    }


TENSORS = replace(
    llama.TENSORS,
    blocks=(
        {
            **NORM,
            "router": Linear("block_sparse_moe.gate"),
            "experts_gate": StoredExperts("block_sparse_moe.experts.{}.w1"),
            "experts_up": StoredExperts("block_sparse_moe.experts.{}.w3"),
            "experts_down": StoredExperts("block_sparse_moe.experts.{}.w2"),
        },
        {**NORM, "router": Linear("mlp.gate"), **stacked_experts("mlp.experts")},
    ),
    experts="num_local_experts",
)
MIXTRAL = Family(
    positions=Rotary(theta=1_000_000.0),
    front_end=mistral.FRONT_END,
    defaults={
        "head_dim": None,
        "hidden_act": "silu",
        "num_experts_per_tok": 2,
        "num_key_value_heads": 8,
        "sliding_window": None,
    },
    block=Block(experts=Experts()),
    tensors=TENSORS,
    unread=llama.UNREAD | {"num_local_experts", "output_router_logits", "router_aux_loss_coef", "router_jitter_noise"},
)
MINISTRAL = replace(mistral.FAMILIES["mistral"], front_end=replace(mistral.FRONT_END, layer_types=True), sparse={})

FAMILIES = {"mixtral": MIXTRAL, "ministral": MINISTRAL}
