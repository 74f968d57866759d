"""Persimmon: LayerNorms, also of q and k, and half of each head rotates."""

from __future__ import annotations

from ropegen.models.block import Block
from ropegen.models.families import gpt_neox, llama
from ropegen.models.family import Family, FrontEnd, Rotary
from ropegen.models.tensors import BY_HEAD, Linear, Norm, Table, Tensors, packed

FAMILIES = {
    "persimmon": Family(
        positions=Rotary(fraction=0.5, partial=True, theta=None),
        front_end=FrontEnd(
            norm="layer",
            epsilon="layer_norm_eps",
            grouped=False,
            qkv_bias=True,
            out_bias=True,
            qk_norm="qk_layernorm",
        ),
        defaults={"qk_layernorm": True, "layer_norm_eps": 1e-5, "hidden_act": "relu2"},
        block=Block(mlp="plain", mlp_bias=True),
        tensors=Tensors(
            stem={"embedding": Table("embed_tokens")},
            front_end={
                "input_norm": Norm("input_layernorm"),
                **packed("self_attn.query_key_value", BY_HEAD),
                "q_norm": Norm("self_attn.q_layernorm"),
                "k_norm": Norm("self_attn.k_layernorm"),
                "o": Linear("self_attn.dense"),
            },
            blocks=gpt_neox.TENSORS.blocks,
            final={"final_norm": Norm("final_layernorm")},
            head=Linear("lm_head"),
        ),
        unread=llama.UNREAD | {"hidden_dropout"},
    )
}
