"""DeepSeek V2 and V3, the models that took over their latent attention, and Kimi K2, which transformers reads as V3.

The rotary part of a head is `qk_rope_head_dim` features wide and stands apart from the rest. V2 multiplies complex
numbers, so its pairs are always interleaved. V3 chooses by `rope_interleave`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from ropegen.models.block import Block
from ropegen.models.block import Experts as Mixture
from ropegen.models.config import Config
from ropegen.models.families import llama, mixtral
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import Experts, Linear, Norm, Packing, Parameter, Roles, Tensors

# The sizes of experts, which `Tensors` names, and what a call returns beside its result.
EXPERT_SIZES = frozenset(("moe_intermediate_size", "n_routed_experts", "output_router_logits"))
# What published configs state for training, and copies of other fields that saved configs carry.
_UNREAD = frozenset(
    (
        "aux_loss_alpha",
        "ep_size",
        "head_dim",
        "num_experts",
        "num_mtp_layers",
        "num_nextn_predict_layers",
        "qk_head_dim",
        "seq_aux",
    )
)
KEYS_AND_LATENT = Packing(("kv_a", "k_rope"))


def latent_attention(config: Config) -> Roles:
    """The tensors of latent attention. `q_proj` or `q_b_proj`, and `kv_b_proj`, hold two parts of one head after another."""
    heads = config.count("num_attention_heads")
    direct = config.value("q_lora_rank") is None
    queries = Linear("self_attn.q_proj" if direct else "self_attn.q_b_proj", Packing(("q_nope", "q_rope"), heads))
    keys_and_values = Linear("self_attn.kv_b_proj", Packing(("k_nope", "v"), heads))
    shared = Linear("self_attn.kv_a_proj_with_mqa", KEYS_AND_LATENT)
    return {
        "input_norm": Norm("input_layernorm"),
        "q_a": Linear("self_attn.q_a_proj"),
        "q_a_norm": Norm("self_attn.q_a_layernorm"),
        "q_nope": queries,
        "q_rope": queries,
        "kv_a": shared,
        "kv_a_norm": Norm("self_attn.kv_a_layernorm"),
        "k_rope": shared,
        "k_nope": keys_and_values,
        "v": keys_and_values,
        "o": Linear("self_attn.o_proj"),
    }


def past_dense_layers(config: Config, layer: int) -> bool:
    """The layers after the first `first_k_dense_replace` have mixtures of experts."""
    return layer >= config.count("first_k_dense_replace", least=0)


def listed_layers(config: Config, layer: int) -> bool | None:
    """Whether `mlp_layer_types` calls the layer "sparse", and not "dense"; None where the config has no such list."""
    stated = config.optional("mlp_layer_types")
    if stated is None:
        return None
    kinds = cast("list[object]", stated) if isinstance(stated, list | tuple) else []
    if len(kinds) <= layer or kinds[layer] not in ("dense", "sparse"):
        raise config.refuse(
            f"mlp_layer_types is {stated!r}", f'it must say "dense" or "sparse" for each layer up to {layer}'
        )
    return kinds[layer] == "sparse"


def past_the_first_layer(config: Config, layer: int) -> bool:
    """Every layer but the first has a mixture, unless `mlp_layer_types` says otherwise."""
    listed = listed_layers(config, layer)
    return layer > 0 if listed is None else listed


def blocks(shared: Roles, router: Roles) -> tuple[Roles, ...]:
    """A layer with one feed-forward part, and one with experts: one by one as on the hub, and as transformers 5 has them."""
    one_by_one = {f"experts_{part}": Experts(f"mlp.experts.{{}}.{part}_proj") for part in ("gate", "up", "down")}
    return (
        *llama.TENSORS.blocks,
        {**mixtral.NORM, **router, **one_by_one, **shared},
        {**mixtral.NORM, **router, **mixtral.stacked_experts("mlp.experts"), **shared},
    )


ROUTER: Roles = {"router": Linear("mlp.gate")}
CORRECTED: Roles = {**ROUTER, "router_correction": Parameter("mlp.gate.e_score_correction_bias")}
SHARED: Roles = {f"shared_{part}": Linear(f"mlp.shared_experts.{part}_proj") for part in ("gate", "up", "down")}
MIXTURE_TENSORS = replace(
    llama.TENSORS,
    blocks=blocks(SHARED, CORRECTED),
    experts="n_routed_experts",
    expert_inner="moe_intermediate_size",
    shared_inner="moe_intermediate_size",
    shared_times="n_shared_experts",
)
"""The rest of a layer of DeepSeek V3, and of the models that took it over with another attention."""
MIXTURE = Mixture(
    scores="sigmoid",
    wide=True,
    correction=True,
    groups="n_group",
    groups_chosen="topk_group",
    normalised="norm_topk_prob",
    factor="routed_scaling_factor",
    shared="n_shared_experts",
)
MIXTURE_DEFAULTS = {
    "hidden_act": "silu",
    "n_group": 1,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_experts_per_tok": 8,
    "routed_scaling_factor": 1.0,
    "topk_group": 1,
}
ROUTED_BLOCK = Block(experts=MIXTURE, mixture_layers=past_dense_layers)


def further_layers(config: Config) -> str:
    """The names of the layers that predict several tokens after the last one, as a regular expression.

    Checkpoints hold them, and the model itself has no use for them.
    """
    first = config.count("num_hidden_layers")
    said = config.given.get("num_nextn_predict_layers", config.given.get("num_mtp_layers")) or 0
    more = "|".join(str(first + index) for index in range(said if isinstance(said, int) else 0))
    return rf"layers\.({more})\..*" if more else ""


def tensors(config: Config) -> Tensors:
    """Latent attention, a router with a correction, and layers that predict further tokens."""
    return replace(
        MIXTURE_TENSORS,
        front_end=latent_attention(config),
        ignored=tuple(filter(None, (further_layers(config),))),
    )


def uncorrected_tensors(config: Config) -> Tensors:
    """Latent attention, and a router without a correction."""
    return replace(tensors(config), blocks=blocks(SHARED, ROUTER))


def dense_tensors(config: Config) -> Tensors:
    """Latent attention, and no experts."""
    return replace(llama.TENSORS, front_end=latent_attention(config))


FRONT_END = replace(llama.FRONT_END, grouped=False, latent=True)
DEEPSEEK_V2 = Family(
    positions=Rotary(pairing="interleaved", width_field="qk_rope_head_dim"),
    front_end=FRONT_END,
    spellings={"n_routed_experts": ("num_experts",)},
    defaults={
        **MIXTURE_DEFAULTS,
        "attention_bias": False,
        "first_k_dense_replace": 0,
        "mlp_bias": False,
        "n_group": None,
        "n_shared_experts": 2,
        "num_experts_per_tok": None,
        "num_key_value_heads": None,
        "q_lora_rank": 1536,
        "topk_group": None,
        "topk_method": "greedy",
    },
    block=replace(
        ROUTED_BLOCK,
        experts=Mixture(
            wide=True,
            groups="n_group",
            groups_chosen="topk_group",
            grouped_by=("topk_method", "group_limited_greedy"),
            group_score="best",
            normalised=False,
            factor="routed_scaling_factor",
            shared="n_shared_experts",
        ),
        mlp_bias="mlp_bias",
        # DeepSeek's own code would divide by the sum, and that of transformers does not.
        only={"moe_layer_freq": 1, "norm_topk_prob": False, "scoring_func": "softmax"},
    ),
    tensors=uncorrected_tensors,
    unread=llama.UNREAD | EXPERT_SIZES | _UNREAD | {"num_local_experts"},
)
V3_BLOCK = replace(ROUTED_BLOCK, only={"moe_layer_freq": 1, "scoring_func": "sigmoid", "topk_method": "noaux_tc"})
DEEPSEEK_V3 = replace(
    DEEPSEEK_V2,
    positions=Rotary(
        pairing="interleaved",
        width_field="qk_rope_head_dim",
        interleave_field="rope_interleave",
        repeats={"head_dim": "qk_rope_head_dim"},  # where it differs, the code takes frequencies of another width
    ),
    spellings={"n_routed_experts": ("num_local_experts",)},
    defaults={
        **MIXTURE_DEFAULTS,
        "attention_bias": False,
        "first_k_dense_replace": 3,
        "n_group": 8,
        "num_key_value_heads": None,
        "q_lora_rank": 1536,
        "routed_scaling_factor": 2.5,
        "topk_group": 4,
    },
    block=V3_BLOCK,
    tensors=tensors,
    unread=llama.UNREAD | EXPERT_SIZES | _UNREAD,
)
YOUTU = replace(
    DEEPSEEK_V3,
    spellings={},
    defaults={"attention_bias": False, "hidden_act": "silu", "num_key_value_heads": None, "q_lora_rank": 1536},
    block=Block(tied=True),
    tensors=dense_tensors,
    unread=llama.UNREAD | {"embedding_initializer_range", "head_dim", "qk_head_dim"},
)
GLM4_MOE_LITE = replace(
    DEEPSEEK_V3,
    defaults={
        **MIXTURE_DEFAULTS,
        "attention_bias": False,
        "mlp_layer_types": None,
        "num_experts_per_tok": 4,
        "num_key_value_heads": None,
        "q_lora_rank": 768,
        "routed_scaling_factor": 1.8,
    },
    block=replace(V3_BLOCK, mixture_layers=past_the_first_layer),
    unread=DEEPSEEK_V3.unread | {"first_k_dense_replace"},
)

FAMILIES = {
    "deepseek_v2": DEEPSEEK_V2,
    "deepseek_v3": DEEPSEEK_V3,
    "glm4_moe_lite": GLM4_MOE_LITE,
    "kimi_k2": DEEPSEEK_V3,
    "youtu": YOUTU,
}
