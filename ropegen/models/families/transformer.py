"""The encoder of Vaswani et al. 2017 (arXiv:1706.03762). The model type and its fields are ropegen's own."""

from __future__ import annotations

from ropegen.models.family import Family, FrontEnd

FAMILIES = {
    "transformer": Family(
        positions="sinusoid",
        front_end=FrontEnd(embedding_scale="exact", input_norm=False, grouped=False, causal=False),
        spellings={
            "hidden_size": ("d_model",),
            "num_attention_heads": ("num_heads",),
            "num_hidden_layers": ("num_layers",),
        },
        unread=frozenset(("d_ff", "dropout")),
    )
}
