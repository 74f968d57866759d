"""The mixtures of experts of Qwen 2 and 3, and dots.llm1, whose attention is that of Qwen 3."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from ropegen.models.block import Block, Experts
from ropegen.models.config import Config
from ropegen.models.families import deepseek, llama, mistral, qwen
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import Linear

ROUTED = frozenset(
    ("moe_intermediate_size", "num_experts", "num_local_experts", "output_router_logits", "router_aux_loss_coef")
)


def even_layers_at_first(config: Config, layer: int) -> bool:
    """Of the first `max_window_layers` layers, 0, 2, 4, ... are local. In Qwen 2 itself the later layers are."""
    return layer % 2 == 0 and layer < config.count("max_window_layers", least=0)


def every_nth_layer(config: Config, layer: int) -> bool:
    """Every `decoder_sparse_step`-th layer has a mixture, except those that `mlp_only_layers` lists."""
    stated = config.value("mlp_only_layers")
    dense = cast("list[object]", stated) if isinstance(stated, list | tuple) else []
    if stated is not None and stated != dense:
        raise config.refuse(f"mlp_only_layers is {stated!r}", "it must be a list of layers")
    return layer not in dense and (layer + 1) % config.count("decoder_sparse_step") == 0


QWEN3_MOE_TENSORS = replace(
    qwen.QWEN3_TENSORS,
    blocks=deepseek.blocks({}, deepseek.ROUTER),
    experts="num_experts",
    expert_inner="moe_intermediate_size",
)
QWEN3_MOE = replace(
    qwen.QWEN3,
    front_end=replace(qwen.QWEN3.front_end, local=mistral.every_layer, layer_types=False),
    defaults={
        "attention_bias": False,
        "decoder_sparse_step": 1,
        "head_dim": None,
        "hidden_act": "silu",
        "mlp_only_layers": None,
        "norm_topk_prob": False,
        "num_experts_per_tok": 8,
        "sliding_window": 4096,
        "use_sliding_window": False,
    },
    sparse={},
    block=Block(experts=Experts(normalised="norm_topk_prob"), mixture_layers=every_nth_layer),
    tensors=QWEN3_MOE_TENSORS,
    unread=llama.UNREAD | ROUTED | {"max_window_layers"},
)
SHARED = {f"shared_{part}": Linear(f"mlp.shared_expert.{part}_proj") for part in ("gate", "up", "down")}
QWEN2_MOE = replace(
    qwen.QWEN2,
    front_end=replace(qwen.QWEN2.front_end, qkv_bias="qkv_bias", local=even_layers_at_first),
    defaults={
        **qwen.QWEN2.defaults,
        "decoder_sparse_step": 1,
        "mlp_only_layers": None,
        "norm_topk_prob": False,
        "num_experts_per_tok": 4,
        "qkv_bias": True,
    },
    sparse={},
    block=Block(experts=Experts(normalised="norm_topk_prob", shared_gated=True), mixture_layers=every_nth_layer),
    tensors=replace(
        llama.TENSORS,
        blocks=deepseek.blocks({**SHARED, "shared_router": Linear("mlp.shared_expert_gate")}, deepseek.ROUTER),
        experts="num_experts",
        expert_inner="moe_intermediate_size",
        shared_inner="shared_expert_intermediate_size",
    ),
    unread=llama.UNREAD | ROUTED | {"shared_expert_intermediate_size"},
)


DOTS1 = Family(
    positions=Rotary(),
    front_end=replace(llama.FRONT_END, qk_norm=True, local=qwen.past_full_layers),
    spellings={"n_routed_experts": ("num_local_experts",)},
    defaults={
        **deepseek.MIXTURE_DEFAULTS,
        "attention_bias": False,
        "first_k_dense_replace": 0,
        "head_dim": None,
        "max_window_layers": 62,
        "n_shared_experts": None,
        "norm_topk_prob": False,
        "num_experts_per_tok": None,
        "num_key_value_heads": None,
        "sliding_window": 4096,
    },
    block=deepseek.ROUTED_BLOCK,
    tensors=replace(deepseek.MIXTURE_TENSORS, front_end=qwen.QWEN3_TENSORS.front_end),
    unread=llama.UNREAD | deepseek.EXPERT_SIZES,
)


def no_layer(config: Config, layer: int) -> bool:
    """No layer is local unless `layer_types` says so."""
    return False


def listed_or_every_layer(config: Config, layer: int) -> bool:
    """Every layer has a mixture, unless `mlp_layer_types` says otherwise."""
    return deepseek.listed_layers(config, layer) is not False


MELLUM = Family(
    positions=Rotary(theta=None),
    front_end=replace(llama.FRONT_END, qk_norm=True, local=no_layer),
    spellings={"num_experts": ("num_local_experts",)},
    defaults={
        "attention_bias": False,
        "head_dim": 128,
        "hidden_act": "silu",
        "mlp_layer_types": None,
        "norm_topk_prob": True,
        "num_experts_per_tok": 8,
        "sliding_window": 1024,
    },
    block=Block(experts=Experts(normalised="norm_topk_prob"), mixture_layers=listed_or_every_layer),
    tensors=QWEN3_MOE_TENSORS,
    unread=llama.UNREAD
    | ROUTED
    | {"mtp_layer_types", "mtp_mlp_layer_types", "num_mtp_layers", "num_nextn_predict_layers"},
)

FAMILIES = {"mellum": MELLUM, "dots1": DOTS1, "qwen2_moe": QWEN2_MOE, "qwen3_moe": QWEN3_MOE}
