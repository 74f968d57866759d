"""gpt-oss: Llama with a sink for each head, a window on layers 0, 2, 4, ..., and always YaRN."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.config import Config
from ropegen.models.families import llama
from ropegen.models.family import Family, Rotary


def even_layers(config: Config, layer: int) -> bool:
    """Layers 0, 2, 4, ... are local."""
    return layer % 2 == 0


FAMILIES = {
    "gpt_oss": Family(
        positions=Rotary(theta=None, needs_scaling=True),
        front_end=replace(llama.FRONT_END, local=even_layers, sinks=True),
        defaults={"attention_bias": True, "head_dim": 64, "sliding_window": 128},
    )
}
