"""BERT: an encoder with learned positions, token types, a norm after the embedding and none before the projections."""

from __future__ import annotations

from ropegen.models.family import Family, FrontEnd

FAMILIES = {
    "bert": Family(
        positions="learned",
        front_end=FrontEnd(
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
        ),
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
