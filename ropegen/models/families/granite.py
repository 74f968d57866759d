"""IBM's Granite, alone and with a mixture of experts, and Naver's HyperCLOVA X, which has the same multipliers.

They are Llama with multipliers of the embedding and of the scores.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.families import llama
from ropegen.models.family import Family, Rotary

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
    block=Block(mlp_bias="mlp_bias", multiplier="residual_multiplier", logit_divisor="logits_scaling"),
    tensors=llama.TENSORS,
    unread=llama.UNREAD,
)
# `Block` knows neither the packed and shared experts of the mixtures nor the norms of HyperCLOVA X.
_UNREAD_REST = frozenset(
    ("hidden_act", "intermediate_size", "logits_scaling", "mlp_bias", "residual_multiplier", "tie_word_embeddings")
)
_FRONT_END_DEFAULTS = {
    name: value
    for name, value in GRANITE.defaults.items()
    if name not in ("hidden_act", "logits_scaling", "mlp_bias", "residual_multiplier")
}
GRANITEMOE = replace(
    GRANITE,
    block=None,
    defaults=_FRONT_END_DEFAULTS,
    tensors=replace(
        llama.TENSORS,
        blocks=(),
        ignored=(r"layers\.\d+\.(post_attention_layernorm|block_sparse_moe|shared_mlp)\..*",),
    ),
    unread=llama.UNREAD
    | _UNREAD_REST
    | {
        "num_experts_per_tok",
        "num_local_experts",
        "output_router_logits",
        "router_aux_loss_coef",
        "shared_intermediate_size",
    },
)

HYPERCLOVAX = replace(
    GRANITE,
    block=None,
    positions=Rotary(theta=None),
    defaults={"attention_bias": False, "embedding_multiplier": 1.0, "head_dim": None, "num_key_value_heads": None},
    tensors=replace(
        llama.TENSORS,
        blocks=(),
        ignored=(r"layers\.\d+\.(post_attention_layernorm|post_norm1|post_norm2|mlp)\..*",),
    ),
    unread=llama.UNREAD | _UNREAD_REST | {"use_post_norm"},
)

FAMILIES = {"granite": GRANITE, "granitemoe": GRANITEMOE, "granitemoeshared": GRANITEMOE, "hyperclovax": HYPERCLOVAX}
