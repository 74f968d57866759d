"""Kyutai's Helium: Llama with interleaved pairs, and biases of q, k and v alone."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.families import llama
from ropegen.models.family import Family, Rotary

FAMILIES = {
    "helium": Family(
        positions=Rotary(pairing="interleaved", theta=None),
        front_end=replace(llama.FRONT_END, out_bias=False),
        defaults={"attention_bias": False, "head_dim": 128, "hidden_act": "silu", "mlp_bias": False},
        block=Block(mlp_bias="mlp_bias"),
        tensors=llama.TENSORS,
        unread=llama.UNREAD,
    )
}
