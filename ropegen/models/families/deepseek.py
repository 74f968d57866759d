"""The rotary facts of DeepSeek V2 and V3, and of Kimi K2, which transformers reads as DeepSeek V3.

The rotary part of a head is `qk_rope_head_dim` features wide and stands apart from the rest. V2 multiplies complex
numbers, so its pairs are always interleaved. V3 chooses by `rope_interleave`.
"""

from __future__ import annotations

from ropegen.models.family import Declined, Family, Rotary

_LATENT = Declined("its latent attention (MLA) has no keys and values of whole heads to project")
DEEPSEEK_V2 = Family(positions=Rotary(pairing="interleaved", width_field="qk_rope_head_dim"), front_end=_LATENT)
DEEPSEEK_V3 = Family(
    positions=Rotary(pairing="interleaved", width_field="qk_rope_head_dim", interleave_field="rope_interleave"),
    front_end=_LATENT,
)

# The fields of the experts of DeepSeek V3 and of the models that took them over; its front-end reads none of them.
EXPERT_FIELDS = frozenset(
    (
        "first_k_dense_replace",
        "hidden_act",
        "intermediate_size",
        "moe_intermediate_size",
        "n_group",
        "n_routed_experts",
        "n_shared_experts",
        "norm_topk_prob",
        "num_experts_per_tok",
        "output_router_logits",
        "routed_scaling_factor",
        "tie_word_embeddings",
        "topk_group",
    )
)

FAMILIES = {"deepseek_v2": DEEPSEEK_V2, "deepseek_v3": DEEPSEEK_V3, "kimi_k2": DEEPSEEK_V3}
