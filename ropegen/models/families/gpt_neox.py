"""GPT-NeoX and Pythia. A checkpoint's `query_key_value` holds (heads, 3, width of a head) along its outputs."""

from __future__ import annotations

from ropegen.models.block import Block
from ropegen.models.family import Family, FrontEnd, Rotary

FAMILIES = {
    "gpt_neox": Family(
        positions=Rotary(
            theta_field="rotary_emb_base",
            fraction=0.25,
            fraction_field="rotary_pct",
            partial=True,
            repeats={"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
        ),
        front_end=FrontEnd(
            norm="layer",
            epsilon="layer_norm_eps",
            grouped=False,
            qkv_bias="attention_bias",
            out_bias="attention_bias",
        ),
        defaults={"attention_bias": True, "hidden_act": "gelu", "use_parallel_residual": True},
        block=Block(mlp="plain", mlp_bias=True, parallel_field="use_parallel_residual"),
        unread=frozenset(("attention_dropout", "classifier_dropout", "gradient_checkpointing", "hidden_dropout")),
    )
}
