"""GPT-2. Its weights are those of `Conv1D`, (features in, features out), and `c_attn` holds all of q, then k, then v."""

from __future__ import annotations

from ropegen.models.block import Block
from ropegen.models.family import Family, FrontEnd
from ropegen.models.tensors import IN_RUNS, Conv1D, Linear, Norm, Table, Tensors

SPELLINGS = {
    "hidden_size": ("n_embd",),
    "num_attention_heads": ("n_head",),
    "num_hidden_layers": ("n_layer",),
    "max_position_embeddings": ("n_positions",),
    "intermediate_size": ("n_inner",),
}
UNREAD = frozenset(
    (
        "attn_pdrop",
        "embd_pdrop",
        "gradient_checkpointing",
        "n_ctx",
        "reorder_and_upcast_attn",
        "resid_pdrop",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
    )
)
PREFIXES = (("transformer.", ""), ("", ""))
FRONT_END = FrontEnd(
    norm="layer",
    epsilon="layer_norm_epsilon",
    grouped=False,
    qkv_bias=True,
    out_bias=True,
    only={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
)
TENSORS = Tensors(
    prefixes=PREFIXES,
    layers="h.{}.",
    stem={"embedding": Table("wte"), "position_embedding": Table("wpe")},
    front_end={
        "input_norm": Norm("ln_1"),
        **{role: Conv1D("attn.c_attn", IN_RUNS) for role in IN_RUNS.roles},
        "o": Conv1D("attn.c_proj"),
    },
    blocks=({"mlp_norm": Norm("ln_2"), "up": Conv1D("mlp.c_fc"), "down": Conv1D("mlp.c_proj")},),
    final={"final_norm": Norm("ln_f")},
    head=Linear("lm_head"),
    inner_times=4,
)


FAMILIES = {
    "gpt2": Family(
        positions="learned",
        front_end=FRONT_END,
        spellings=SPELLINGS,
        defaults={"activation_function": "gelu_new"},
        block=Block(mlp="plain", mlp_bias=True, activation="activation_function", tied=True),
        tensors=TENSORS,
        unread=UNREAD,
    )
}
