"""OLMo 1, 2 and 3, OLMoE and FlexOlmo, of the Allen Institute for AI.

OLMo 1 has LayerNorms without parameters. The later models norm the features of all heads of q, and of k, together.
OLMo 2 and 3 norm what a layer adds instead of what it reads.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block, Experts
from ropegen.models.config import Config
from ropegen.models.families import llama, qwen, qwen_moe
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import Norm, linears


def three_of_four(config: Config, layer: int) -> bool:
    """Of every four layers, all but the last are local."""
    return (layer + 1) % 4 != 0


DEFAULTS = {"attention_bias": False, "num_key_value_heads": None, "hidden_act": "silu"}
CLIPPED = {**DEFAULTS, "clip_qkv": None}
POST_NORMS = {
    "attention_post_norm": Norm("post_attention_layernorm"),
    "mlp_post_norm": Norm("post_feedforward_layernorm"),
}


OLMO = Family(
    positions=Rotary(),
    front_end=replace(
        llama.FRONT_END, norm="layer", norm_parameters="none", fixed_epsilon=1e-5, epsilon="", clip="clip_qkv"
    ),
    defaults=CLIPPED,
    tensors=replace(
        llama.TENSORS,
        front_end=linears("self_attn.{}_proj", "q", "k", "v", "o"),
        blocks=(linears("mlp.{}_proj", "gate", "up", "down"),),
        final={},
    ),
    block=Block(),
    unread=llama.UNREAD,
)
OLMO2_TENSORS = replace(
    llama.TENSORS,
    front_end={role: stored for role, stored in qwen.QWEN3_TENSORS.front_end.items() if role != "input_norm"},
    blocks=({**POST_NORMS, **linears("mlp.{}_proj", "gate", "up", "down")},),
)
OLMO2 = Family(
    positions=Rotary(),
    front_end=replace(llama.FRONT_END, input_norm=False, qk_norm=True, qk_norm_over="heads"),
    defaults=DEFAULTS,
    block=Block(mlp_norm="none", post_norms=True),
    tensors=OLMO2_TENSORS,
    unread=llama.UNREAD,
)
OLMO3 = replace(
    OLMO2,
    positions=Rotary(theta=500_000.0, sliding=("rope_theta", 500_000.0)),
    front_end=replace(OLMO2.front_end, local=three_of_four),
    defaults={**DEFAULTS, "sliding_window": 4096},
)
OLMOE = Family(
    positions=Rotary(),
    front_end=replace(llama.FRONT_END, qk_norm=True, qk_norm_over="heads", clip="clip_qkv"),
    defaults=CLIPPED | {"norm_topk_prob": False, "num_experts_per_tok": 8},
    block=Block(experts=Experts(normalised="norm_topk_prob")),
    tensors=replace(qwen_moe.QWEN3_MOE_TENSORS, expert_inner="intermediate_size"),
    unread=llama.UNREAD | {"num_experts", "output_router_logits", "router_aux_loss_coef"},
)
FLEX_OLMO = replace(
    OLMO2,
    positions=Rotary(theta=500_000.0),
    defaults={**DEFAULTS, "norm_topk_prob": False, "num_experts_per_tok": 5},
    block=Block(mlp_norm="none", post_norms=True, experts=Experts(normalised="norm_topk_prob")),
    tensors=replace(
        OLMO2_TENSORS,
        blocks=tuple(
            {**{role: stored for role, stored in roles.items() if role != "mlp_norm"}, **POST_NORMS}
            for roles in qwen_moe.QWEN3_MOE_TENSORS.blocks
            if "router" in roles
        ),
        experts="num_experts",
    ),
    unread=OLMOE.unread,
)

FAMILIES = {"olmo": OLMO, "olmo2": OLMO2, "olmo3": OLMO3, "olmoe": OLMOE, "flex_olmo": FLEX_OLMO}
