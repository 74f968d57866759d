"""GPT-NeoX and Pythia. A checkpoint's `query_key_value` holds (heads, 3, width of a head) along its outputs."""

from __future__ import annotations

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
        defaults={"attention_bias": True, "head_dim": None},
    )
}
