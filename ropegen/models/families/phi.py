"""Phi-3 and Phi-4: Mistral with LongRoPE, and in Phi-4-mini only a part of a head rotates.

A checkpoint's `qkv_proj` holds all of q, then k, then v along its outputs; a graph takes the three apart.
"""

from __future__ import annotations

from ropegen.models.block import Block
from ropegen.models.families import llama, mistral
from ropegen.models.family import Family, Rotary

FAMILIES = {
    "phi3": Family(
        positions=Rotary(partial=True, renamed={"su": "longrope", "yarn": "longrope"}),
        front_end=mistral.FRONT_END,
        defaults={
            "head_dim": None,
            "num_key_value_heads": None,
            "sliding_window": None,
            "original_max_position_embeddings": 4096,
            "hidden_act": "silu",
        },
        block=Block(),
        unread=llama.UNREAD | {"embd_pdrop", "resid_pdrop"},
    )
}
