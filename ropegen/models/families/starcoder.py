"""StarCoder (gpt_bigcode) and StarCoder 2.

`gpt_bigcode` is GPT-2 with torch's `Linear`. Its heads share one head of keys, unless `multi_query` is false.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.config import Config
from ropegen.models.families import gpt2, llama, mistral
from ropegen.models.family import Family, FrontEnd, Rotary
from ropegen.models.tensors import BY_HEAD, IN_RUNS, Linear, Norm, Tensors, packed


def bigcode_key_heads(config: Config) -> int:
    """One head of keys for all, or one for each head of queries."""
    return 1 if config.flag("multi_query") else config.count("num_attention_heads")


def bigcode_tensors(config: Config) -> Tensors:
    """Runs of q, k and v where heads share keys; otherwise q, k and v of one head after the other."""
    return replace(
        gpt2.TENSORS,
        front_end={
            "input_norm": Norm("ln_1"),
            **packed("attn.c_attn", IN_RUNS if config.flag("multi_query") else BY_HEAD),
            "o": Linear("attn.c_proj"),
        },
        blocks=({"mlp_norm": Norm("ln_2"), "up": Linear("mlp.c_fc"), "down": Linear("mlp.c_proj")},),
    )


GPT_BIGCODE = Family(
    positions="learned",
    front_end=FrontEnd(
        norm="layer",
        epsilon="layer_norm_epsilon",
        grouped=False,
        key_heads=bigcode_key_heads,
        qkv_bias=True,
        out_bias=True,
        only={"scale_attn_weights": True, "add_cross_attention": False},
    ),
    spellings=gpt2.SPELLINGS,
    defaults={"activation_function": "gelu_pytorch_tanh", "multi_query": True},
    block=Block(mlp="plain", mlp_bias=True, activation="activation_function", tied=True),
    tensors=bigcode_tensors,
    unread=gpt2.UNREAD | {"attention_softmax_in_fp32", "num_key_value_heads", "scale_attention_softmax_in_fp32"},
)
STARCODER2 = Family(
    positions=Rotary(),
    front_end=FrontEnd(
        norm="layer",
        epsilon="norm_epsilon",
        qkv_bias="use_bias",
        out_bias="use_bias",
        local=mistral.every_layer,
        layer_types=False,
    ),
    defaults={
        "use_bias": True,
        "norm_epsilon": 1e-5,
        "num_key_value_heads": 2,
        "sliding_window": None,
        "hidden_act": "gelu_pytorch_tanh",
    },
    block=Block(mlp="plain", mlp_bias="use_bias", tied=True),
    tensors=replace(
        llama.TENSORS,
        blocks=(
            {"mlp_norm": Norm("post_attention_layernorm"), "up": Linear("mlp.c_fc"), "down": Linear("mlp.c_proj")},
        ),
    ),
    unread=llama.UNREAD | {"embedding_dropout", "residual_dropout"},
)

FAMILIES = {"gpt_bigcode": GPT_BIGCODE, "starcoder2": STARCODER2}
