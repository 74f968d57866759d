"""Solar Open: a mixture of experts with the attention of Llama, without a bias of the output projection."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.families import llama, qwen_moe
from ropegen.models.family import Family, Rotary

FAMILIES = {
    "solar_open": Family(
        positions=Rotary(theta=None),
        front_end=replace(llama.FRONT_END, out_bias=False),
        defaults={"attention_bias": False, "head_dim": 128},
        tensors=replace(llama.TENSORS, blocks=(), ignored=(qwen_moe.REST,)),
        unread=qwen_moe.DOTS1.unread,
    )
}
