"""BLOOM: ALiBi instead of positions in the embedding, and a norm after the embedding.

A checkpoint's `query_key_value` holds (heads, 3, width of a head) along its outputs. The bias of ALiBi is
-slope * |query - key| in float32. BLOOM's own code adds slope * key, which differs by a constant in each row under its
causal mask, and rounds that bias to the element type first.
"""

from __future__ import annotations

from ropegen.models.block import Block
from ropegen.models.families import gpt_neox
from ropegen.models.family import Family, FrontEnd
from ropegen.models.tensors import BY_HEAD, Linear, Norm, Table, Tensors, packed

TENSORS = Tensors(
    prefixes=(("transformer.", ""), ("", "")),
    layers="h.{}.",
    stem={"embedding": Table("word_embeddings"), "embedding_norm": Norm("word_embeddings_layernorm")},
    front_end={
        "input_norm": Norm("input_layernorm"),
        **packed("self_attention.query_key_value", BY_HEAD),
        "o": Linear("self_attention.dense"),
    },
    blocks=gpt_neox.TENSORS.blocks,
    final={"final_norm": Norm("ln_f")},
    head=Linear("lm_head"),
    inner_times=4,
)

FAMILIES = {
    "bloom": Family(
        positions="alibi",
        front_end=FrontEnd(
            norm="layer",
            epsilon="layer_norm_epsilon",
            embedding_norm=True,
            grouped=False,
            qkv_bias=True,
            out_bias=True,
        ),
        spellings={
            "hidden_size": ("n_embed",),
            "num_attention_heads": ("n_head",),
            "num_hidden_layers": ("n_layer",),
            "max_position_embeddings": ("seq_length",),
        },
        defaults={"max_position_embeddings": None},
        block=Block(
            mlp="plain",
            mlp_bias=True,
            fixed_activation="gelu_pytorch_tanh",
            tied=True,
            only={"apply_residual_connection_post_layernorm": False},
        ),
        tensors=TENSORS,
        unread=frozenset(
            (
                "attention_dropout",
                "attention_softmax_in_fp32",
                "bias_dropout_fusion",
                "hidden_dropout",
                "masked_softmax_fusion",
                "offset_alibi",
                "pretraining_tp",
                "skip_bias_add",
                "skip_bias_add_qkv",
                "slow_but_exact",
                "unk_token_id",
            )
        ),
    )
}
