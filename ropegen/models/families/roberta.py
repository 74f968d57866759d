"""RoBERTa and what follows its code, DistilBERT and ELECTRA: BERT's attention with other embeddings or other names.

The positions of RoBERTa begin after the id of padding. The published models count 514 positions, of which 512 are used.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.families import bert
from ropegen.models.family import Family, FrontEnd
from ropegen.models.tensors import Linear, Norm, Table, Tensors, linears

BERT = bert.FAMILIES["bert"]
BERT_FRONT_END = bert.FRONT_END
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
    return replace(
        BERT,
        front_end=replace(
            BERT_FRONT_END,
            positions_after="pad_token_id",
            only={**BERT_FRONT_END.only, "pad_token_id": 1},
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

# These norm what attention reads. Megatron's BERT and XLM-RoBERTa XL do not norm the embedding.
PRE_NORM = {"input_norm": True, "embedding_norm": False}


def with_norm(family: Family, name: str, **facts: bool) -> Family:
    """`family` with a norm before attention, which a checkpoint calls `name`."""
    assert isinstance(family.front_end, FrontEnd)
    assert isinstance(family.tensors, Tensors)
    front_end = {"input_norm": Norm(name), **family.tensors.front_end}
    rest = r"(encoder\.)?(layer\.\d+\.|)(LayerNorm|ln|output\.ln|intermediate\.LayerNorm)\..*"
    return replace(
        family,
        front_end=replace(family.front_end, **facts),
        tensors=replace(family.tensors, front_end=front_end, ignored=(*family.tensors.ignored, rest)),
    )


MEGATRON_BERT = with_norm(BERT, "attention.ln", **PRE_NORM)
XLM_ROBERTA_XL = with_norm(roberta("roberta."), "attention.self_attn_layer_norm", **PRE_NORM)
ROBERTA_PRELAYERNORM = with_norm(roberta("roberta_prelayernorm."), "attention.LayerNorm", input_norm=True)
ERNIE = replace(
    BERT,
    front_end=replace(BERT_FRONT_END, only={**BERT_FRONT_END.only, "use_task_id": False}),
    tensors=replace(bert.TENSORS, prefixes=(("ernie.", ""), ("", ""))),
    unread=BERT.unread | {"task_type_vocab_size"},
)
BERT_GENERATION = replace(BERT, front_end=replace(BERT_FRONT_END, token_types=False))
SPLINTER = replace(
    BERT,
    front_end=replace(BERT_FRONT_END, only={}),
    tensors=replace(
        bert.TENSORS,
        prefixes=(("splinter.", ""), ("", "")),
        ignored=(*bert.TENSORS.ignored, r"splinter_qass\..*"),
    ),
    unread=BERT.unread | {"question_token_id"},
)

FAMILIES = {
    "bert-generation": BERT_GENERATION,
    "camembert": roberta("roberta."),
    "data2vec-text": roberta("data2vec_text."),
    "distilbert": DISTILBERT,
    "electra": ELECTRA,
    "ernie": ERNIE,
    "megatron-bert": MEGATRON_BERT,
    "roberta": roberta("roberta."),
    "roberta-prelayernorm": ROBERTA_PRELAYERNORM,
    "splinter": SPLINTER,
    "xlm-roberta": roberta("roberta."),
    "xlm-roberta-xl": XLM_ROBERTA_XL,
}
