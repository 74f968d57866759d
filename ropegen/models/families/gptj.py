"""GPT-J: the config fields of GPT-2, rotary positions with interleaved pairs, and no biases in attention.

The code computes its frequencies from `rotary_dim` alone: theta is 10,000, and there is no scaling.
"""

from __future__ import annotations

from ropegen.models.block import Block
from ropegen.models.families import gpt2
from ropegen.models.family import Family, FrontEnd, Rotary
from ropegen.models.tensors import Linear, Norm, Table, Tensors, linears

TENSORS = Tensors(
    prefixes=gpt2.PREFIXES,
    layers="h.{}.",
    stem={"embedding": Table("wte")},
    front_end={
        "input_norm": Norm("ln_1"),
        **linears("attn.{}_proj", "q", "k", "v"),
        "o": Linear("attn.out_proj"),
    },
    blocks=({"up": Linear("mlp.fc_in"), "down": Linear("mlp.fc_out")},),
    final={"final_norm": Norm("ln_f")},
    head=Linear("lm_head"),
    inner_times=4,
)

FAMILIES = {
    "gptj": Family(
        positions=Rotary(pairing="interleaved", width_field="rotary_dim", fixed=True),
        front_end=FrontEnd(
            norm="layer",
            epsilon="layer_norm_epsilon",
            grouped=False,
            only={"rotary": True, "scale_attn_weights": True},
        ),
        spellings=gpt2.SPELLINGS,
        defaults={"activation_function": "gelu_new"},
        block=Block(
            mlp="plain",
            mlp_bias=True,
            activation="activation_function",
            order="parallel",
            mlp_norm="input",
            head_bias=True,
        ),
        tensors=TENSORS,
        unread=gpt2.UNREAD,
    )
}
