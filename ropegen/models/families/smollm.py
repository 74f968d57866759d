"""SmolLM3: Llama in which some layers do not rotate, by default every fourth."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from ropegen.models.block import Block
from ropegen.models.config import Config
from ropegen.models.families import llama
from ropegen.models.family import Family, Rotary


def unrotated(config: Config, layer_type: str, layer: int) -> bool:
    """Layers with a zero in `no_rope_layers`, or every n-th one where the config has no such list."""
    stated = config.optional("no_rope_layers")
    if stated is None:
        return (layer + 1) % config.count("no_rope_layer_interval") == 0
    if not isinstance(stated, list | tuple) or len(cast("list[object]", stated)) <= layer:
        raise config.refuse(f"no_rope_layers is {stated!r:.60}", f"it must be a list that reaches layer {layer}")
    return not cast("list[object]", stated)[layer]


FAMILIES = {
    "smollm3": Family(
        positions=Rotary(theta=2_000_000.0),
        front_end=replace(llama.FRONT_END, unrotated=unrotated, only={"use_sliding_window": False}),
        defaults={
            "attention_bias": False,
            "head_dim": None,
            "hidden_act": "silu",
            "mlp_bias": False,
            "no_rope_layer_interval": 4,
            "num_key_value_heads": 4,
        },
        block=Block(mlp_bias="mlp_bias", tied=True),
        tensors=llama.TENSORS,
        unread=llama.UNREAD | {"max_window_layers", "no_rope_layers", "sliding_window"},
    )
}
