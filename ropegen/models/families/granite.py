"""IBM's Granite, alone and with a mixture of experts, and Naver's HyperCLOVA X, which has the same multipliers.

They are Llama with multipliers of the embedding and of the scores.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block, Experts
from ropegen.models.config import Config
from ropegen.models.families import llama, mixtral
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import Linear, Norm, Packing, Roles, StackedExperts, Tensors, packed

BLOCK = Block(mlp_bias="mlp_bias", multiplier="residual_multiplier", logit_divisor="logits_scaling")


def hyperclovax_tensors(config: Config) -> Tensors:
    """Llama's tensors, and the norms of results if the model has them."""
    (roles,) = llama.TENSORS.blocks
    norms = {"attention_post_norm": Norm("post_norm1"), "mlp_post_norm": Norm("post_norm2")}
    return replace(llama.TENSORS, blocks=({**roles, **(norms if config.flag("use_post_norm") else {})},))


GRANITE = Family(
    positions=Rotary(),
    front_end=replace(llama.FRONT_END, multiplier="attention_multiplier", embedding_multiplier="embedding_multiplier"),
    defaults={
        "attention_bias": False,
        "attention_multiplier": 1.0,
        "embedding_multiplier": 1.0,
        "hidden_act": "silu",
        "logits_scaling": 1.0,
        "mlp_bias": False,
        "num_key_value_heads": None,
        "residual_multiplier": 1.0,
    },
    block=BLOCK,
    tensors=llama.TENSORS,
    unread=llama.UNREAD,
)
_ROUTED = frozenset(("num_local_experts", "output_router_logits", "router_aux_loss_coef"))
_PACKED = StackedExperts("block_sparse_moe.input_linear.weight", outputs_first=True, packing=mixtral.GATE_UP)
_ON_THE_HUB: Roles = {
    **mixtral.NORM,
    "router": Linear("block_sparse_moe.router.layer"),
    "experts_gate": _PACKED,
    "experts_up": _PACKED,
    "experts_down": StackedExperts("block_sparse_moe.output_linear.weight", outputs_first=True),
}
_IN_TRANSFORMERS: Roles = {
    **mixtral.NORM,
    "router": Linear("block_sparse_moe.router"),
    **mixtral.stacked_experts("block_sparse_moe.experts"),
}
_SHARED: Roles = {
    **packed("shared_mlp.input_linear", Packing(("shared_gate", "shared_up"))),
    "shared_down": Linear("shared_mlp.output_linear"),
}
MIXTURE = Experts(scores="chosen")
GRANITEMOE = replace(
    GRANITE,
    block=replace(BLOCK, experts=MIXTURE, mlp_bias=False),
    defaults={
        **{name: value for name, value in GRANITE.defaults.items() if name != "mlp_bias"},
        "num_experts_per_tok": 2,
    },
    tensors=replace(llama.TENSORS, blocks=(_ON_THE_HUB, _IN_TRANSFORMERS), experts="num_local_experts"),
    unread=llama.UNREAD | _ROUTED | {"mlp_bias", "shared_intermediate_size"},
)
GRANITEMOESHARED = replace(
    GRANITEMOE,
    block=replace(BLOCK, experts=replace(MIXTURE, shared="shared_intermediate_size"), mlp_bias=False),
    defaults={**GRANITEMOE.defaults, "shared_intermediate_size": 0},
    tensors=replace(
        llama.TENSORS,
        blocks=({**_ON_THE_HUB, **_SHARED}, {**_IN_TRANSFORMERS, **_SHARED}),
        experts="num_local_experts",
        shared_inner="shared_intermediate_size",
    ),
    unread=llama.UNREAD | _ROUTED | {"mlp_bias"},
)

HYPERCLOVAX = replace(
    GRANITE,
    positions=Rotary(theta=None),
    defaults={**GRANITE.defaults, "attention_multiplier": None, "head_dim": None, "use_post_norm": True},
    block=Block(
        mlp_bias="mlp_bias",
        multiplier="residual_multiplier",
        post_norms="use_post_norm",
        logit_multiplier="logits_scaling",
    ),
    tensors=hyperclovax_tensors,
)

FAMILIES = {
    "granite": GRANITE,
    "granitemoe": GRANITEMOE,
    "granitemoeshared": GRANITEMOESHARED,
    "hyperclovax": HYPERCLOVAX,
}
