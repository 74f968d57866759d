"""EXAONE 4 and its mixture of experts: norms of q and k, and full layers that do not rotate.

EXAONE 4 norms the result of each part instead of what it reads; the mixture of experts norms what it reads.
Only a model with local layers leaves its full layers unrotated.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.config import Config
from ropegen.models.families import deepseek, gemma, llama, olmo, qwen
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import Parameter


def full_layers(config: Config, layer_type: str, layer: int) -> bool:
    """Layers that see every key do not rotate where others are local."""
    return layer_type == "full_attention" and config.value("sliding_window") is not None


EXAONE4 = Family(
    positions=Rotary(),
    front_end=replace(
        llama.FRONT_END,
        qkv_bias=False,
        out_bias=False,
        input_norm=False,
        qk_norm=True,
        local=gemma.all_but_every_nth_layer,
        unrotated=full_layers,
    ),
    defaults={
        "head_dim": None,
        "hidden_act": "silu",
        "num_key_value_heads": None,
        "sliding_window": 4096,
        "sliding_window_pattern": 4,
    },
    block=olmo.OLMO2.block,
    tensors=olmo.OLMO2.tensors,
    unread=llama.UNREAD,
)


def past_dense_layers(config: Config, layer: int) -> bool:
    """The layers after the first `first_k_dense_replace` have a mixture, unless `mlp_layer_types` says otherwise."""
    listed = deepseek.listed_layers(config, layer)
    return deepseek.past_dense_layers(config, layer) if listed is None else listed


# On the hub the correction is beside the router.
_HUB_ROUTER = {**deepseek.ROUTER, "router_correction": Parameter("mlp.e_score_correction_bias")}
EXAONE_MOE = replace(
    EXAONE4,
    front_end=replace(EXAONE4.front_end, input_norm=True),
    spellings={"num_shared_experts": ("n_shared_experts",)},
    defaults={
        **EXAONE4.defaults,
        **{name: value for name, value in deepseek.MIXTURE_DEFAULTS.items() if name != "n_shared_experts"},
        "first_k_dense_replace": 1,
        "mlp_layer_types": None,
        "num_shared_experts": 1,
        "routed_scaling_factor": 2.5,
    },
    block=Block(experts=replace(deepseek.MIXTURE, shared="num_shared_experts"), mixture_layers=past_dense_layers),
    tensors=replace(
        deepseek.MIXTURE_TENSORS,
        front_end=qwen.QWEN3_TENSORS.front_end,
        blocks=(
            *deepseek.MIXTURE_TENSORS.blocks,
            *(roles for roles in deepseek.blocks(deepseek.SHARED, _HUB_ROUTER) if "router" in roles),
        ),
        experts="num_experts",
        shared_times="num_shared_experts",
        ignored=(r"mtp\..*",),
    ),
    unread=llama.UNREAD | deepseek.EXPERT_SIZES | {"num_experts", "num_local_experts"},
)

FAMILIES = {"exaone4": EXAONE4, "exaone_moe": EXAONE_MOE}
