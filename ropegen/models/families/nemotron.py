"""Nemotron 3 and 4, and Minitron: LayerNorms around 1, and half of each head rotates."""

from __future__ import annotations

from ropegen.models.block import Block
from ropegen.models.families import arcee, llama
from ropegen.models.family import Family, FrontEnd, Rotary

FAMILIES = {
    "nemotron": Family(
        positions=Rotary(fraction=0.5, partial=True),
        front_end=FrontEnd(
            norm="layer",
            weight_offset=1.0,
            epsilon="norm_eps",
            qkv_bias="attention_bias",
            out_bias="attention_bias",
        ),
        defaults={
            "attention_bias": False,
            "head_dim": None,
            "hidden_act": "relu2",
            "mlp_bias": False,
            "norm_eps": 1e-5,
            "num_key_value_heads": None,
        },
        block=Block(mlp="plain", mlp_bias="mlp_bias"),
        tensors=arcee.FAMILIES["arcee"].tensors,
        unread=llama.UNREAD,
    )
}
