"""The mixtures of experts of Qwen 2 and 3, and dots.llm1, whose attention is that of Qwen 3."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block, Experts
from ropegen.models.config import Config
from ropegen.models.families import deepseek, llama, mistral, mixtral, qwen
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import Experts as StoredExperts
from ropegen.models.tensors import Linear

ROUTED = frozenset(
    (
        "decoder_sparse_step",
        "mlp_only_layers",
        "moe_intermediate_size",
        "num_experts",
        "output_router_logits",
        "router_aux_loss_coef",
    )
)
REST = r"layers\.\d+\.(post_attention_layernorm|mlp)\..*"


def even_layers_at_first(config: Config, layer: int) -> bool:
    """Of the first `max_window_layers` layers, 0, 2, 4, ... are local. In Qwen 2 itself the later layers are."""
    return layer % 2 == 0 and layer < config.count("max_window_layers", least=0)


QWEN3_MOE_TENSORS = replace(
    qwen.QWEN3_TENSORS,
    blocks=(
        {
            **mixtral.NORM,
            "router": Linear("mlp.gate"),
            "experts_gate": StoredExperts("mlp.experts.{}.gate_proj"),
            "experts_up": StoredExperts("mlp.experts.{}.up_proj"),
            "experts_down": StoredExperts("mlp.experts.{}.down_proj"),
        },
        {**mixtral.NORM, "router": Linear("mlp.gate"), **mixtral.stacked_experts("mlp.experts")},
    ),
    experts="num_experts",
    expert_inner="moe_intermediate_size",
)
QWEN3_MOE = replace(
    qwen.QWEN3,
    front_end=replace(qwen.QWEN3.front_end, local=mistral.every_layer, layer_types=False),
    defaults={
        "attention_bias": False,
        "head_dim": None,
        "hidden_act": "silu",
        "norm_topk_prob": False,
        "num_experts_per_tok": 8,
        "sliding_window": 4096,
        "use_sliding_window": False,
    },
    sparse={},
    block=Block(experts=Experts(normalised="norm_topk_prob"), only={"decoder_sparse_step": 1, "mlp_only_layers": []}),
    tensors=QWEN3_MOE_TENSORS,
    unread=llama.UNREAD | ROUTED | {"max_window_layers", "num_local_experts"},
)
# Its shared expert and its dense layers are more than `Block` knows.
QWEN2_MOE = replace(
    qwen.QWEN2,
    front_end=replace(qwen.QWEN2.front_end, qkv_bias="qkv_bias", local=even_layers_at_first),
    defaults={**qwen.QWEN2.defaults, "qkv_bias": True},
    sparse={},
    block=None,
    tensors=replace(llama.TENSORS, blocks=(), ignored=(REST,)),
    unread=llama.UNREAD
    | ROUTED
    | {
        "hidden_act",
        "intermediate_size",
        "norm_topk_prob",
        "num_experts_per_tok",
        "shared_expert_intermediate_size",
        "tie_word_embeddings",
    },
)


DOTS1 = Family(
    positions=Rotary(),
    front_end=replace(llama.FRONT_END, qk_norm=True, local=qwen.past_full_layers),
    defaults={
        "attention_bias": False,
        "head_dim": None,
        "max_window_layers": 62,
        "num_key_value_heads": None,
        "sliding_window": 4096,
    },
    tensors=replace(qwen.QWEN3_TENSORS, blocks=(), ignored=(REST,)),
    unread=llama.UNREAD | deepseek.EXPERT_FIELDS,
)


def no_layer(config: Config, layer: int) -> bool:
    """No layer is local unless `layer_types` says so."""
    return False


MELLUM = Family(
    positions=Rotary(theta=None),
    front_end=replace(llama.FRONT_END, qk_norm=True, local=no_layer),
    defaults={"attention_bias": False, "head_dim": 128, "sliding_window": 1024},
    tensors=DOTS1.tensors,
    unread=DOTS1.unread
    | ROUTED
    | {"mlp_layer_types", "mtp_layer_types", "mtp_mlp_layer_types", "num_local_experts", "num_mtp_layers"},
)

FAMILIES = {"mellum": MELLUM, "dots1": DOTS1, "qwen2_moe": QWEN2_MOE, "qwen3_moe": QWEN3_MOE}
