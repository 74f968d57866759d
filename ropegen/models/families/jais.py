"""Jais 2: Llama with LayerNorms, biases, and a squared ReLU without gates."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.families import arcee, llama
from ropegen.models.family import Family, Rotary

FAMILIES = {
    "jais2": Family(
        positions=Rotary(theta=None),
        front_end=replace(llama.FRONT_END, norm="layer", epsilon="layer_norm_eps"),
        defaults={
            "attention_bias": True,
            "head_dim": None,
            "hidden_act": "relu2",
            "mlp_bias": True,
            "num_key_value_heads": None,
        },
        block=Block(mlp="plain", mlp_bias="mlp_bias"),
        tensors=arcee.FAMILIES["arcee"].tensors,
        unread=llama.UNREAD,
    )
}
