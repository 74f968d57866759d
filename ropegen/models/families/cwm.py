"""Meta's Code World Model: Llama 3 without biases; of every four layers, all but the first are local."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.config import Config
from ropegen.models.families import llama
from ropegen.models.family import Family, Rotary


def all_but_the_first_of_four(config: Config, layer: int) -> bool:
    """Layers 0, 4, 8, ... see every key, and the others are local."""
    return layer % 4 != 0


FAMILIES = {
    "cwm": Family(
        positions=Rotary(theta=None, needs_scaling=True),
        front_end=replace(llama.FRONT_END, qkv_bias=False, out_bias=False, local=all_but_the_first_of_four),
        defaults={"head_dim": 128, "hidden_act": "silu", "mlp_bias": False, "sliding_window": 8192},
        block=Block(mlp_bias="mlp_bias"),
        tensors=llama.TENSORS,
        unread=llama.UNREAD,
    )
}
