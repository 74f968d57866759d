"""DeepSeek V2 and V3, the models that took over their latent attention, and Kimi K2, which transformers reads as V3.

The rotary part of a head is `qk_rope_head_dim` features wide and stands apart from the rest. V2 multiplies complex
numbers, so its pairs are always interleaved. V3 chooses by `rope_interleave`.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.config import Config
from ropegen.models.families import llama
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import Linear, Norm, Packing, Roles, Tensors

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
# What published configs state for training, and copies of other fields that saved configs carry.
_UNREAD = frozenset(
    (
        "aux_loss_alpha",
        "ep_size",
        "head_dim",
        "moe_layer_freq",
        "num_experts",
        "num_local_experts",
        "num_mtp_layers",
        "num_nextn_predict_layers",
        "qk_head_dim",
        "scoring_func",
        "seq_aux",
        "topk_method",
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


def tensors(config: Config) -> Tensors:
    """Checkpoints hold layers for predicting several tokens after the last one; the model itself has no use for them."""
    first = config.count("num_hidden_layers")
    said = config.given.get("num_nextn_predict_layers", config.given.get("num_mtp_layers")) or 0
    more = "|".join(str(first + index) for index in range(said if isinstance(said, int) else 0))
    ignored = [r"layers\.\d+\.(post_attention_layernorm|mlp)\..*", *([rf"layers\.({more})\..*"] if more else [])]
    return replace(llama.TENSORS, front_end=latent_attention(config), blocks=(), ignored=tuple(ignored))


FRONT_END = replace(llama.FRONT_END, grouped=False, latent=True)
DEEPSEEK_V2 = Family(
    positions=Rotary(pairing="interleaved", width_field="qk_rope_head_dim"),
    front_end=FRONT_END,
    defaults={"attention_bias": False, "num_key_value_heads": None, "q_lora_rank": 1536},
    tensors=tensors,
    unread=llama.UNREAD | EXPERT_FIELDS | _UNREAD | {"mlp_bias"},
)
DEEPSEEK_V3 = replace(
    DEEPSEEK_V2,
    positions=Rotary(
        pairing="interleaved",
        width_field="qk_rope_head_dim",
        interleave_field="rope_interleave",
        repeats={"head_dim": "qk_rope_head_dim"},  # where it differs, the code takes frequencies of another width
    ),
    unread=llama.UNREAD | EXPERT_FIELDS | _UNREAD,
)
YOUTU = replace(DEEPSEEK_V3, unread=DEEPSEEK_V3.unread | {"embedding_initializer_range"})
GLM4_MOE_LITE = replace(
    DEEPSEEK_V3,
    defaults={**DEEPSEEK_V3.defaults, "q_lora_rank": 768},
    unread=DEEPSEEK_V3.unread | {"mlp_layer_types"},
)

FAMILIES = {
    "deepseek_v2": DEEPSEEK_V2,
    "deepseek_v3": DEEPSEEK_V3,
    "glm4_moe_lite": GLM4_MOE_LITE,
    "kimi_k2": DEEPSEEK_V3,
    "youtu": YOUTU,
}
