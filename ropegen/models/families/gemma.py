"""Gemma 1, 2 and 3, and the rotary facts of Gemma 4."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.config import Config
from ropegen.models.families import llama, qwen
from ropegen.models.family import Declined, Family, Rotary
from ropegen.models.tensors import Norm, linears


def even_layers(config: Config, layer: int) -> bool:
    """Layers 0, 2, 4, ... are local."""
    return layer % 2 == 0


def all_but_every_nth_layer(config: Config, layer: int) -> bool:
    """Of every `sliding_window_pattern` layers, all but the last are local."""
    return (layer + 1) % config.count("sliding_window_pattern") != 0


GEMMA_FRONT_END = replace(
    llama.FRONT_END,
    embedding_scale="rounded",
    weight_offset=1.0,
    only={"use_bidirectional_attention": False},
)
GEMMA = Family(
    positions=Rotary(),
    front_end=GEMMA_FRONT_END,
    defaults={"attention_bias": False, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh"},
    sparse={
        "vocab_size": 256_000,
        "hidden_size": 3072,
        "num_hidden_layers": 28,
        "intermediate_size": 24_576,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
    },
    block=Block(tied=True),
    tensors=llama.TENSORS,
    unread=llama.UNREAD,
)
GEMMA2_TENSORS = replace(
    llama.TENSORS,
    blocks=(
        {
            "attention_post_norm": Norm("post_attention_layernorm"),
            "mlp_norm": Norm("pre_feedforward_layernorm"),
            **linears("mlp.{}_proj", "gate", "up", "down"),
            "mlp_post_norm": Norm("post_feedforward_layernorm"),
        },
    ),
)
GEMMA2_FRONT_END = replace(
    GEMMA_FRONT_END,
    local=even_layers,
    scale="query_pre_attn_scalar",
    softcap="attn_logit_softcapping",
)
GEMMA2 = Family(
    positions=Rotary(),
    front_end=GEMMA2_FRONT_END,
    defaults={
        "attention_bias": False,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "attn_logit_softcapping": 50.0,
        "sliding_window": 4096,
        "hidden_activation": "gelu_pytorch_tanh",
        "final_logit_softcapping": 30.0,
    },
    sparse={
        "vocab_size": 256_000,
        "hidden_size": 2304,
        "num_hidden_layers": 26,
        "intermediate_size": 9216,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6,
    },
    block=Block(activation="hidden_activation", post_norms=True, tied=True, logit_softcap="final_logit_softcapping"),
    tensors=GEMMA2_TENSORS,
    unread=llama.UNREAD | {"hidden_act"},
)
GEMMA3_TENSORS = replace(GEMMA2_TENSORS, front_end=qwen.QWEN3_TENSORS.front_end)
# Published Gemma 3 configs state only what differs from the config class, so all its defaults are here. The class keeps
# `attn_logit_softcapping`, and the code never applies it.
GEMMA3_TEXT = Family(
    positions=Rotary(theta=1_000_000.0, sliding=("rope_local_base_freq", 10_000.0)),
    front_end=replace(GEMMA2_FRONT_END, qk_norm=True, local=all_but_every_nth_layer, softcap=""),
    defaults={
        "attention_bias": False,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "hidden_activation": "gelu_pytorch_tanh",
        "vocab_size": 262_208,
        "hidden_size": 2304,
        "num_hidden_layers": 26,
        "intermediate_size": 9216,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-6,
        "final_logit_softcapping": None,
        "sliding_window_pattern": 6,
    },
    block=GEMMA2.block,
    tensors=GEMMA3_TENSORS,
    unread=GEMMA2.unread | {"attn_logit_softcapping", "_sliding_window_pattern"},
)
# Its code lets the tokens of an image see each other, which concerns no prompt of text.
GEMMA3 = replace(
    GEMMA3_TEXT,
    text="gemma3_text",
    unread=frozenset(
        ("boi_token_index", "eoi_token_index", "image_token_index", "mm_tokens_per_image", "tie_word_embeddings")
    ),
)
# Gemma 2 without the norms after each part.
VAULTGEMMA = replace(
    GEMMA2,
    block=Block(activation="hidden_activation", tied=True, logit_softcap="final_logit_softcapping"),
    tensors=replace(
        llama.TENSORS,
        blocks=({"mlp_norm": Norm("pre_feedforward_layernorm"), **linears("mlp.{}_proj", "gate", "up", "down")},),
    ),
)
GEMMA4 = Family(
    positions=Rotary(theta=None),
    front_end=Declined(
        "it norms the values, its kinds of layer have heads of different widths, and layers may share keys and values; "
        "the front-end does none of this"
    ),
)

FAMILIES = {
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3": GEMMA3,
    "gemma3_text": GEMMA3_TEXT,
    **dict.fromkeys(("gemma4", "gemma4_text"), GEMMA4),
    "vaultgemma": VAULTGEMMA,
}
