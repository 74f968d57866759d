"""Arcee's AFM: Llama, with a feed-forward part without gates and a squared ReLU."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.families import llama
from ropegen.models.tensors import Norm, linears

FAMILIES = {
    "arcee": replace(
        llama.FAMILIES["llama"],
        defaults={**llama.FAMILIES["llama"].defaults, "hidden_act": "relu2"},
        block=Block(mlp="plain", mlp_bias="mlp_bias"),
        tensors=replace(
            llama.TENSORS,
            blocks=({"mlp_norm": Norm("post_attention_layernorm"), **linears("mlp.{}_proj", "up", "down")},),
        ),
    )
}
