"""RoBERTa and what follows its code, DistilBERT and ELECTRA: BERT's attention with other embeddings or other names.

The positions of RoBERTa begin after the id of padding. The published models count 514 positions, of which 512 are used.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.families import bert
from ropegen.models.family import Family, FrontEnd
from ropegen.models.tensors import Linear, Norm, Table, Tensors, linears

BERT = bert.FAMILIES["bert"]
UNREAD = BERT.unread - {"pad_token_id"}


def table_after_padding(prefix: str) -> Tensors:
    """BERT's tensors below another prefix. The first two rows of the positions belong to padding, whose id is 1."""
    return replace(
        bert.TENSORS,
        prefixes=((prefix, ""), ("", "")),
        stem={**bert.TENSORS.stem, "position_embedding": Table("embeddings.position_embeddings", skip=2)},
        ignored=(*bert.TENSORS.ignored, r"embeddings\.token_type_ids"),
    )


def roberta(prefix: str) -> Family:
    """RoBERTa, whose tensors have a prefix of their own in every model that follows its code."""
    assert isinstance(BERT.front_end, FrontEnd)
    return replace(
        BERT,
        front_end=replace(
            BERT.front_end,
            positions_after="pad_token_id",
            only={**BERT.front_end.only, "pad_token_id": 1},
        ),
        defaults={**BERT.defaults, "pad_token_id": 1},
        tensors=table_after_padding(prefix),
        unread=UNREAD,
    )


DISTILBERT = Family(
    positions="learned",
    front_end=FrontEnd(
        norm="layer",
        fixed_epsilon=1e-12,
        embedding_norm=True,
        input_norm=False,
        qkv_bias=True,
        out_bias=True,
        grouped=False,
        causal=False,
    ),
    spellings={
        "hidden_size": ("dim",),
        "num_attention_heads": ("n_heads",),
        "num_hidden_layers": ("n_layers",),
    },
    tensors=Tensors(
        prefixes=(("distilbert.", ""), ("", "")),
        layers="transformer.layer.{}.",
        stem={
            "embedding": Table("embeddings.word_embeddings"),
            "position_embedding": Table("embeddings.position_embeddings"),
            "embedding_norm": Norm("embeddings.LayerNorm"),
        },
        front_end={**linears("attention.{}_lin", "q", "k", "v"), "o": Linear("attention.out_lin")},
        ignored=(r"transformer\.layer\.\d+\.(sa_layer_norm|ffn|output_layer_norm)\..*",),
    ),
    # The table of positions is read from the checkpoint, whether it was computed or learned.
    unread=frozenset(
        (
            "activation",
            "attention_dropout",
            "dropout",
            "hidden_dim",
            "qa_dropout",
            "seq_classif_dropout",
            "sinusoidal_pos_embds",
            "tie_weights_",
            "tie_word_embeddings",
        )
    ),
)
# An embedding of another width than the layers would have a projection after it.
ELECTRA = replace(
    BERT,
    spellings={"hidden_size": ("embedding_size",)},
    tensors=replace(bert.TENSORS, prefixes=(("electra.", ""), ("", ""))),
    unread=BERT.unread | {"summary_activation", "summary_last_dropout", "summary_type", "summary_use_proj"},
)

FAMILIES = {
    "camembert": roberta("roberta."),
    "data2vec-text": roberta("data2vec_text."),
    "distilbert": DISTILBERT,
    "electra": ELECTRA,
    "roberta": roberta("roberta."),
    "xlm-roberta": roberta("roberta."),
}
