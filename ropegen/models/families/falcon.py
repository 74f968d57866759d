"""Falcon 7B, 40B and 180B, which rotate. The ALiBi of the Falcon-RW models, which is scaled with the score, is refused.

`query_key_value` has three layouts. In the new architecture, every group of heads has its queries, its keys and its
values one after the other. With `multi_query`, all queries come first, then the one head of keys, then the one of values.
Otherwise q, k and v of one head follow each other.
"""

from __future__ import annotations

from ropegen.models.block import Block
from ropegen.models.config import Config
from ropegen.models.family import Family, FrontEnd, Rotary
from ropegen.models.tensors import BY_HEAD, IN_RUNS, Linear, Norm, Table, Tensors, packed


def key_heads(config: Config) -> int:
    """The heads of keys that the config states count only in the new architecture and without `multi_query`."""
    if not config.flag("new_decoder_architecture") and config.flag("multi_query"):
        return 1
    stated = config.value("num_key_value_heads")
    return config.count("num_attention_heads" if stated is None else "num_key_value_heads")


def two_norms(config: Config) -> bool:
    """Whether attention and the feed-forward part each norm the residual, which both read."""
    return config.flag("new_decoder_architecture") and config.value("num_ln_in_parallel_attn") in (None, 2)


def block(config: Config) -> Block:
    """Whether the feed-forward part is beside attention or after it, and which norm it reads."""
    new, parallel = config.flag("new_decoder_architecture"), config.flag("parallel_attn")
    norms = config.value("num_ln_in_parallel_attn")
    known = (None, 1, 2) if new else (None, 1)
    if parallel and norms not in known:
        raise config.refuse(f"num_ln_in_parallel_attn is {norms!r}", f"it must be one of {known}")
    if new and not parallel:
        raise config.refuse("parallel_attn is false in the new architecture", "its code has no such layer")
    return Block(
        mlp="plain",
        mlp_bias="bias",
        activation="activation",
        order="parallel" if parallel else "sequential",
        mlp_norm="input" if parallel and not two_norms(config) else "own",
        tied=True,
    )


def tensors(config: Config) -> Tensors:
    """The layout of `query_key_value`, and the names of the norms."""
    new = config.flag("new_decoder_architecture")
    runs = not new and config.flag("multi_query")
    norms = {"mlp_norm": Norm("ln_mlp" if two_norms(config) else "post_attention_layernorm")}
    own_norm = two_norms(config) or not config.flag("parallel_attn")
    return Tensors(
        prefixes=(("transformer.", ""), ("", "")),
        layers="h.{}.",
        stem={"embedding": Table("word_embeddings")},
        front_end={
            "input_norm": Norm("ln_attn" if two_norms(config) else "input_layernorm"),
            **packed("self_attention.query_key_value", IN_RUNS if runs else BY_HEAD),
            "o": Linear("self_attention.dense"),
        },
        blocks=(
            {
                **(norms if own_norm else {}),
                "up": Linear("mlp.dense_h_to_4h"),
                "down": Linear("mlp.dense_4h_to_h"),
            },
        ),
        final={"final_norm": Norm("ln_f")},
        head=Linear("lm_head"),
        inner="ffn_hidden_size",
        inner_times=4,
    )


FAMILIES = {
    "falcon": Family(
        positions=Rotary(),
        front_end=FrontEnd(
            norm="layer",
            epsilon="layer_norm_epsilon",
            qkv_bias="bias",
            out_bias="bias",
            key_heads=key_heads,
            only={"alibi": False},
        ),
        spellings={"num_key_value_heads": ("num_kv_heads",)},
        defaults={
            "activation": "gelu",
            "bias": False,
            "layer_norm_epsilon": 1e-5,
            "max_position_embeddings": 2048,
            "multi_query": True,
            "new_decoder_architecture": False,
            "num_key_value_heads": None,
            "num_ln_in_parallel_attn": None,
            "parallel_attn": True,
        },
        block=block,
        tensors=tensors,
        unread=frozenset(("attention_dropout", "ffn_hidden_size", "hidden_dropout")),
    )
}
