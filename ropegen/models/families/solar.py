"""Solar Open: a mixture of experts with the attention of Llama, without a bias of the output projection."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.families import deepseek, llama
from ropegen.models.family import Family, Rotary

FAMILIES = {
    "solar_open": Family(
        positions=Rotary(theta=None),
        front_end=replace(llama.FRONT_END, out_bias=False),
        spellings={"n_routed_experts": ("num_local_experts",)},
        defaults={**deepseek.MIXTURE_DEFAULTS, "attention_bias": False, "head_dim": 128},
        block=Block(experts=deepseek.MIXTURE),
        tensors=deepseek.MIXTURE_TENSORS,
        unread=llama.UNREAD | deepseek.EXPERT_SIZES | {"first_k_dense_replace"},
    )
}
