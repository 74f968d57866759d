"""IBM's Granite, alone and with a mixture of experts, and Naver's HyperCLOVA X, which has the same multipliers.

They are Llama with multipliers of the embedding and of the scores.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.families import llama
from ropegen.models.family import Family, Rotary

# The residual and the logits have multipliers too, which `Block` does not know.
GRANITE = Family(
    positions=Rotary(),
    front_end=replace(llama.FRONT_END, multiplier="attention_multiplier", embedding_multiplier="embedding_multiplier"),
    defaults={
        "attention_bias": False,
        "attention_multiplier": 1.0,
        "embedding_multiplier": 1.0,
        "num_key_value_heads": None,
    },
    tensors=llama.TENSORS,
    unread=llama.UNREAD
    | {
        "hidden_act",
        "intermediate_size",
        "logits_scaling",
        "mlp_bias",
        "residual_multiplier",
        "tie_word_embeddings",
    },
)
GRANITEMOE = replace(
    GRANITE,
    tensors=replace(
        llama.TENSORS,
        blocks=(),
        ignored=(r"layers\.\d+\.(post_attention_layernorm|block_sparse_moe|shared_mlp)\..*",),
    ),
    unread=GRANITE.unread
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
    positions=Rotary(theta=None),
    defaults={"attention_bias": False, "embedding_multiplier": 1.0, "head_dim": None, "num_key_value_heads": None},
    tensors=replace(
        llama.TENSORS,
        blocks=(),
        ignored=(r"layers\.\d+\.(post_attention_layernorm|post_norm1|post_norm2|mlp)\..*",),
    ),
    unread=GRANITE.unread | {"use_post_norm"},
)

FAMILIES = {"granite": GRANITE, "granitemoe": GRANITEMOE, "granitemoeshared": GRANITEMOE, "hyperclovax": HYPERCLOVAX}
