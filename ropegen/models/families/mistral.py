"""Mistral: Llama without biases. Where a config states a window, every layer has it."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.config import Config
from ropegen.models.families import llama
from ropegen.models.family import Family, Rotary


def every_layer(config: Config, layer: int) -> bool:
    """Every layer is local."""
    return True


FRONT_END = replace(llama.FRONT_END, qkv_bias=False, out_bias=False, local=every_layer)

FAMILIES = {
    "mistral": Family(
        positions=Rotary(),
        front_end=FRONT_END,
        defaults={"head_dim": None, "sliding_window": 4096},
    )
}
