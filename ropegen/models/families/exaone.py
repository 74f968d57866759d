"""EXAONE 4: norms of q and k, norms after each part instead of before it, and full layers that do not rotate.

Only a model with local layers leaves its full layers unrotated.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.config import Config
from ropegen.models.families import llama, olmo
from ropegen.models.family import Family, Rotary


def all_but_every_nth_layer(config: Config, layer: int) -> bool:
    """Of every `sliding_window_pattern` layers, all but the last are local."""
    return (layer + 1) % config.count("sliding_window_pattern") != 0


def full_layers(config: Config, layer_type: str, layer: int) -> bool:
    """Layers that see every key do not rotate where others are local."""
    return layer_type == "full_attention" and config.value("sliding_window") is not None


FAMILIES = {
    "exaone4": Family(
        positions=Rotary(),
        front_end=replace(
            llama.FRONT_END,
            qkv_bias=False,
            out_bias=False,
            input_norm=False,
            qk_norm=True,
            local=all_but_every_nth_layer,
            unrotated=full_layers,
        ),
        defaults={"head_dim": None, "num_key_value_heads": None, "sliding_window": 4096, "sliding_window_pattern": 4},
        tensors=olmo.OLMO2.tensors,
        unread=llama.UNREAD | {"hidden_act", "intermediate_size", "tie_word_embeddings"},
    )
}
