"""EuroBERT: Llama in which every token sees every other."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.families import llama
from ropegen.models.family import Family, Rotary

FAMILIES = {
    "eurobert": Family(
        positions=Rotary(theta=None),
        front_end=replace(llama.FRONT_END, causal=False),
        defaults={"attention_bias": False, "head_dim": None, "num_key_value_heads": None},
        tensors=replace(llama.TENSORS, ignored=(r"(dense|classifier)\..*",)),
        unread=llama.UNREAD
        | {"classifier_pooling", "hidden_act", "intermediate_size", "mask_token_id", "mlp_bias", "tie_word_embeddings"},
    )
}
