"""Phi-1 and Phi-2 (phi), and Phi-3 and Phi-4 (phi3).

The first have LayerNorms, and run attention beside the feed-forward part. The later ones are Mistral with LongRoPE, and in
Phi-4-mini only a part of a head rotates. Their checkpoints pack q, k and v in one tensor, and the two projections into the
feed-forward part in another.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.families import llama, mistral
from ropegen.models.family import Family, FrontEnd, Rotary
from ropegen.models.tensors import IN_RUNS, Linear, Norm, Packing, linears, packed

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

PHI = Family(
    positions=Rotary(fraction=0.5, partial=True),
    front_end=FrontEnd(
        norm="layer", epsilon="layer_norm_eps", qkv_bias=True, out_bias=True, only={"qk_layernorm": False}
    ),
    defaults={"num_key_value_heads": None, "layer_norm_eps": 1e-5, "hidden_act": "gelu_new"},
    block=Block(mlp="plain", mlp_bias=True, order="parallel", mlp_norm="input", head_bias=True),
    tensors=replace(
        llama.TENSORS,
        front_end={
            "input_norm": Norm("input_layernorm"),
            **linears("self_attn.{}_proj", "q", "k", "v"),
            "o": Linear("self_attn.dense"),
        },
        blocks=({"up": Linear("mlp.fc1"), "down": Linear("mlp.fc2")},),
        final={"final_norm": Norm("final_layernorm")},
    ),
    unread=llama.UNREAD | {"embd_pdrop", "resid_pdrop"},
)

FAMILIES = {
    "phi": PHI,
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
    ),
}
