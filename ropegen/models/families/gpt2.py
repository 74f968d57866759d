"""GPT-2. A checkpoint's `Conv1D` weights are (features in, features out) already; `c_attn` holds all of q, then k, v."""

from __future__ import annotations

from ropegen.models.family import Family, FrontEnd

SPELLINGS = {
    "hidden_size": ("n_embd",),
    "num_attention_heads": ("n_head",),
    "num_hidden_layers": ("n_layer",),
    "max_position_embeddings": ("n_positions",),
}

FAMILIES = {
    "gpt2": Family(
        positions="learned",
        front_end=FrontEnd(
            norm="layer",
            epsilon="layer_norm_epsilon",
            grouped=False,
            qkv_bias=True,
            out_bias=True,
            only={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
        ),
        spellings=SPELLINGS,
        defaults={"head_dim": None},
    )
}
