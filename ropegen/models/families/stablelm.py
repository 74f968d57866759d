"""StableLM 2: LayerNorms, and a quarter of each head rotates."""

from __future__ import annotations

from ropegen.models.block import Block
from ropegen.models.families import llama
from ropegen.models.family import Family, FrontEnd, Rotary

FAMILIES = {
    "stablelm": Family(
        positions=Rotary(fraction=0.25, partial=True),
        front_end=FrontEnd(
            norm="layer",
            epsilon="layer_norm_eps",
            qkv_bias="use_qkv_bias",
            only={"qk_layernorm": False},
        ),
        defaults={"use_qkv_bias": False, "num_key_value_heads": None, "hidden_act": "silu"},
        block=Block(only={"use_parallel_residual": False}),
        tensors=llama.TENSORS,
        unread=llama.UNREAD | {"hidden_dropout"},
    )
}
