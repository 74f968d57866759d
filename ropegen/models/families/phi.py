"""Phi-3 and Phi-4: Mistral with LongRoPE, and in Phi-4-mini only a part of a head rotates.

A checkpoint packs q, k and v in one tensor, and the two projections into the feed-forward part in another.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.families import llama, mistral
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import IN_RUNS, Linear, Norm, Packing, packed

GATE_UP = Packing(("gate", "up"))
TENSORS = replace(
    llama.TENSORS,
    front_end={
        "input_norm": Norm("input_layernorm"),
        **packed("self_attn.qkv_proj", IN_RUNS),
        "o": Linear("self_attn.o_proj"),
    },
    blocks=(
        {
            "mlp_norm": Norm("post_attention_layernorm"),
            **packed("mlp.gate_up_proj", GATE_UP),
            "down": Linear("mlp.down_proj"),
        },
    ),
)

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
        tensors=TENSORS,
        unread=llama.UNREAD | {"embd_pdrop", "resid_pdrop"},
    )
}
