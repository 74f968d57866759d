"""EXAONE 4 and its mixture of experts: norms of q and k, and full layers that do not rotate.

EXAONE 4 norms the result of each part instead of what it reads; the mixture of experts norms what it reads.
Only a model with local layers leaves its full layers unrotated.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.config import Config
from ropegen.models.families import gemma, llama, olmo, qwen, qwen_moe
from ropegen.models.family import Family, Rotary


def full_layers(config: Config, layer_type: str, layer: int) -> bool:
    """Layers that see every key do not rotate where others are local."""
    return layer_type == "full_attention" and config.value("sliding_window") is not None


EXAONE4 = Family(
    positions=Rotary(),
    front_end=replace(
        llama.FRONT_END,
        qkv_bias=False,
        out_bias=False,
        input_norm=False,
        qk_norm=True,
        local=gemma.all_but_every_nth_layer,
        unrotated=full_layers,
    ),
    defaults={
        "head_dim": None,
        "hidden_act": "silu",
        "num_key_value_heads": None,
        "sliding_window": 4096,
        "sliding_window_pattern": 4,
    },
    block=olmo.OLMO2.block,
    tensors=olmo.OLMO2.tensors,
    unread=llama.UNREAD,
)
EXAONE_MOE = replace(
    EXAONE4,
    block=None,
    front_end=replace(EXAONE4.front_end, input_norm=True),
    tensors=replace(
        qwen.QWEN3_TENSORS,
        blocks=(),
        ignored=(r"layers\.\d+\.(post_attention_layernorm|mlp)\..*", r"mtp\..*"),
    ),
    unread=qwen_moe.DOTS1.unread
    | {"mlp_layer_types", "num_experts", "num_shared_experts", "num_local_experts", "n_shared_experts"},
)

FAMILIES = {"exaone4": EXAONE4, "exaone_moe": EXAONE_MOE}
