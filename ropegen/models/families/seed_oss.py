"""Seed-OSS: Llama with a field of its own for the bias of the output projection."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.families import llama
from ropegen.models.family import Family, Rotary

FAMILIES = {
    "seed_oss": Family(
        positions=Rotary(),
        front_end=replace(llama.FRONT_END, out_bias="attention_out_bias"),
        defaults={
            "attention_bias": True,
            "attention_out_bias": False,
            "head_dim": 128,
            "hidden_act": "silu",
            "mlp_bias": False,
            "num_key_value_heads": 8,
        },
        block=Block(mlp_bias="mlp_bias"),
        tensors=llama.TENSORS,
        unread=llama.UNREAD | {"residual_dropout"},
    )
}
