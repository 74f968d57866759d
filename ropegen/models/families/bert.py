"""BERT: an encoder with learned positions, token types, a norm after the embedding and none before the projections."""

from __future__ import annotations

from ropegen.models.family import Family, FrontEnd
from ropegen.models.tensors import Linear, Norm, Table, Tensors

TENSORS = Tensors(
    prefixes=(("bert.", ""), ("", "")),
    layers="encoder.layer.{}.",
    stem={
        "embedding": Table("embeddings.word_embeddings"),
        "token_type_embedding": Table("embeddings.token_type_embeddings"),
        "position_embedding": Table("embeddings.position_embeddings"),
        "embedding_norm": Norm("embeddings.LayerNorm"),
    },
    front_end={
        "q": Linear("attention.self.query"),
        "k": Linear("attention.self.key"),
        "v": Linear("attention.self.value"),
        "o": Linear("attention.output.dense"),
    },
    blocks=(
        {
            "attention_post_norm": Norm("attention.output.LayerNorm"),
            "up": Linear("intermediate.dense"),
            "down": Linear("output.dense"),
            "mlp_post_norm": Norm("output.LayerNorm"),
        },
    ),
    ignored=(r"(pooler|cls)\..*",),
    renamed=(("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")),
)

FRONT_END = FrontEnd(
    norm="layer",
    epsilon="layer_norm_eps",
    token_types=True,
    embedding_norm=True,
    input_norm=False,
    qkv_bias=True,
    out_bias=True,
    grouped=False,
    causal=False,
    only={"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False},
)

FAMILIES = {
    "bert": Family(
        positions="learned",
        front_end=FRONT_END,
        tensors=TENSORS,
        unread=frozenset(
            (
                "attention_probs_dropout_prob",
                "classifier_dropout",
                "gradient_checkpointing",
                "hidden_act",
                "hidden_dropout_prob",
                "intermediate_size",
                "tie_word_embeddings",
            )
        ),
    )
}
