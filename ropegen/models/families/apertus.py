"""Apertus: Llama with norms of q and k, other names for its norms, and the activation xIELU."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.families import llama, qwen
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import Norm, Number, linears

FAMILIES = {
    "apertus": Family(
        positions=Rotary(theta=None),
        front_end=replace(llama.FRONT_END, qk_norm=True),
        defaults={"attention_bias": False, "hidden_act": "xielu", "num_key_value_heads": None},
        block=Block(mlp="plain", learned_activation=True),
        tensors=replace(
            llama.TENSORS,
            front_end={**qwen.QWEN3_TENSORS.front_end, "input_norm": Norm("attention_layernorm")},
            blocks=(
                {
                    "mlp_norm": Norm("feedforward_layernorm"),
                    **linears("mlp.{}_proj", "up", "down"),
                    "xielu_alpha_p": Number("mlp.act_fn.alpha_p", axis=True),
                    "xielu_alpha_n": Number("mlp.act_fn.alpha_n", axis=True),
                    "xielu_beta": Number("mlp.act_fn.beta", axis=False),
                    "xielu_eps": Number("mlp.act_fn.eps", axis=False),
                },
            ),
        ),
        unread=llama.UNREAD,
    )
}
