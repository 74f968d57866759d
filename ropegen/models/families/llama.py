"""Llama. The names of its tensors are those of most decoders on the Hugging Face hub."""

from __future__ import annotations

from ropegen.models.block import Block
from ropegen.models.family import Family, FrontEnd, Rotary
from ropegen.models.tensors import Linear, Norm, Table, Tensors, linears

FRONT_END = FrontEnd(epsilon="rms_norm_eps", qkv_bias="attention_bias", out_bias="attention_bias")
UNREAD = frozenset(("attention_dropout", "gradient_checkpointing", "pretraining_tp"))
TENSORS = Tensors(
    stem={"embedding": Table("embed_tokens")},
    front_end={"input_norm": Norm("input_layernorm"), **linears("self_attn.{}_proj", "q", "k", "v", "o")},
    blocks=({"mlp_norm": Norm("post_attention_layernorm"), **linears("mlp.{}_proj", "gate", "up", "down")},),
    final={"final_norm": Norm("norm")},
    head=Linear("lm_head"),
)

FAMILIES = {
    "llama": Family(
        positions=Rotary(),
        front_end=FRONT_END,
        defaults={
            "attention_bias": False,
            "head_dim": None,
            "num_key_value_heads": None,
            "hidden_act": "silu",
            "mlp_bias": False,
        },
        sparse={
            "vocab_size": 32_000,
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "intermediate_size": 11_008,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-6,
        },
        block=Block(mlp_bias="mlp_bias"),
        tensors=TENSORS,
        unread=UNREAD,
    )
}
