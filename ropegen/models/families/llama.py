"""Llama. A weight is (features in, features out), the transpose of torch's `Linear`; that holds for most families."""

from __future__ import annotations

from ropegen.models.family import Family, FrontEnd, Rotary

FRONT_END = FrontEnd(epsilon="rms_norm_eps", qkv_bias="attention_bias", out_bias="attention_bias")

FAMILIES = {
    "llama": Family(
        positions=Rotary(),
        front_end=FRONT_END,
        defaults={"attention_bias": False, "head_dim": None, "num_key_value_heads": None},
    )
}
