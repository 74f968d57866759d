"""GPT-Neo: GPT-2 with torch's `Linear`, scores that nothing scales, and layers that alternate between full and local."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from ropegen.models.block import Block
from ropegen.models.config import Config
from ropegen.models.families import gpt2
from ropegen.models.family import Family, FrontEnd
from ropegen.models.tensors import Linear, Norm, linears


def local(config: Config, layer: int) -> bool:
    """`attention_types` lists kinds and how often to repeat them: [[["global", "local"], 12]]."""
    kinds: list[object] = []
    stated = config.value("attention_types")
    wrong = config.refuse(f"attention_types is {stated!r:.80}", 'it must be as in [[["global", "local"], 12]]')
    if not isinstance(stated, list | tuple):
        raise wrong
    for entry in cast("Sequence[object]", stated):
        pair = cast("Sequence[object]", entry) if isinstance(entry, list | tuple) else ()
        if len(pair) != 2 or not isinstance(pair[0], list | tuple) or type(pair[1]) is not int:
            raise wrong
        kinds += list(cast("Sequence[object]", pair[0])) * pair[1]
    if len(kinds) <= layer or kinds[layer] not in ("global", "local"):
        raise wrong
    return kinds[layer] == "local"


FAMILIES = {
    "gpt_neo": Family(
        positions="learned",
        front_end=FrontEnd(
            norm="layer",
            epsilon="layer_norm_epsilon",
            grouped=False,
            out_bias=True,
            local=local,
            layer_types=False,
            multiplier=1.0,
        ),
        spellings={
            "num_attention_heads": ("num_heads",),
            "num_hidden_layers": ("num_layers",),
            "sliding_window": ("window_size",),
        },
        defaults={
            "activation_function": "gelu_new",
            "attention_types": [[["global", "local"], 12]],
            "layer_norm_epsilon": 1e-5,
            "sliding_window": 256,
        },
        block=Block(mlp="plain", mlp_bias=True, activation="activation_function", tied=True),
        tensors=replace(
            gpt2.TENSORS,
            front_end={
                "input_norm": Norm("ln_1"),
                **linears("attn.attention.{}_proj", "q", "k", "v"),
                "o": Linear("attn.attention.out_proj"),
            },
            blocks=({"mlp_norm": Norm("ln_2"), "up": Linear("mlp.c_fc"), "down": Linear("mlp.c_proj")},),
            ignored=(r"h\.\d+\.attn\.attention\.(bias|masked_bias)",),
        ),
        unread=gpt2.UNREAD
        | {"attention_dropout", "attention_layers", "classifier_dropout", "embed_dropout", "resid_dropout"},
    )
}
