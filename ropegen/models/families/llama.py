"""Llama. A weight is (features in, features out), the transpose of torch's `Linear`; that holds for most families."""

from __future__ import annotations

from ropegen.models.block import Block
from ropegen.models.family import Family, FrontEnd, Rotary

FRONT_END = FrontEnd(epsilon="rms_norm_eps", qkv_bias="attention_bias", out_bias="attention_bias")
UNREAD = frozenset(("attention_dropout", "gradient_checkpointing", "pretraining_tp"))

FAMILIES = {
    "llama": Family(
        positions=Rotary(),
        front_end=FRONT_END,
        defaults={
            "attention_bias": False,
            "head_dim": None,
            "num_key_value_heads": None,
            "hidden_act": "silu",
            "mlp_bias": False,
        },
        sparse={
            "vocab_size": 32_000,
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6,
        },
        block=Block(mlp_bias="mlp_bias"),
        unread=UNREAD,
    )
}
