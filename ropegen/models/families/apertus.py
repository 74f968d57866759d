"""Apertus: Llama with norms of q and k, other names for its norms, and the activation xIELU, which `Block` lacks."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.families import llama, qwen
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import Norm

FAMILIES = {
    "apertus": Family(
        positions=Rotary(theta=None),
        front_end=replace(llama.FRONT_END, qk_norm=True),
        defaults={"attention_bias": False, "num_key_value_heads": None},
        tensors=replace(
            llama.TENSORS,
            front_end={**qwen.QWEN3_TENSORS.front_end, "input_norm": Norm("attention_layernorm")},
            blocks=(),
            ignored=(r"layers\.\d+\.(feedforward_layernorm|mlp)\..*",),
        ),
        unread=llama.UNREAD | {"hidden_act", "intermediate_size", "tie_word_embeddings"},
    )
}
