"""Falcon 7B, 40B and 180B, which rotate. The ALiBi of the Falcon-RW models, which is scaled with the score, is refused.

`query_key_value` has three layouts. In the new architecture, every group of heads has its queries, its keys and its
values one after the other. With `multi_query`, all queries come first, then the one head of keys, then the one of values.
Otherwise q, k and v of one head follow each other.
"""

from __future__ import annotations

from ropegen.models.config import Config
from ropegen.models.family import Family, FrontEnd, Rotary
from ropegen.models.tensors import BY_HEAD, IN_RUNS, Linear, Norm, Table, Tensors, packed


def key_heads(config: Config) -> int:
    """The heads of keys that the config states count only in the new architecture and without `multi_query`."""
    if not config.flag("new_decoder_architecture") and config.flag("multi_query"):
        return 1
    stated = config.value("num_key_value_heads")
    return config.count("num_attention_heads" if stated is None else "num_key_value_heads")


def tensors(config: Config) -> Tensors:
    """The layout of `query_key_value`, and the name of the norm before it."""
    new = config.flag("new_decoder_architecture")
    two_norms = new and config.value("num_ln_in_parallel_attn") in (None, 2)
    runs = not new and config.flag("multi_query")
    return Tensors(
        prefixes=(("transformer.", ""), ("", "")),
        layers="h.{}.",
        stem={"embedding": Table("word_embeddings")},
        front_end={
            "input_norm": Norm("ln_attn" if two_norms else "input_layernorm"),
            **packed("self_attention.query_key_value", IN_RUNS if runs else BY_HEAD),
            "o": Linear("self_attention.dense"),
        },
        final={"final_norm": Norm("ln_f")},
        head=Linear("lm_head"),
        ignored=(r"h\.\d+\.(mlp|ln_mlp|post_attention_layernorm)\..*",),
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
            "bias": False,
            "layer_norm_epsilon": 1e-5,
            "max_position_embeddings": 2048,
            "multi_query": True,
            "new_decoder_architecture": False,
            "num_key_value_heads": None,
            "num_ln_in_parallel_attn": None,
        },
        tensors=tensors,
        unread=frozenset(
            (
                "activation",
                "attention_dropout",
                "ffn_hidden_size",
                "hidden_dropout",
                "parallel_attn",
                "tie_word_embeddings",
            )
        ),
    )
}
