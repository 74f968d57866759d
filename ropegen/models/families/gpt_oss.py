"""gpt-oss: Llama with a sink for each head, a window on layers 0, 2, 4, ..., always YaRN, and a mixture of experts."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block, Experts
from ropegen.models.config import Config
from ropegen.models.families import llama
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import Linear, Norm, Packing, Parameter, StackedExperts


def even_layers(config: Config, layer: int) -> bool:
    """Layers 0, 2, 4, ... are local."""
    return layer % 2 == 0


DEALT = Packing(("experts_gate", "experts_up"), "features")
TENSORS = replace(
    llama.TENSORS,
    front_end={**llama.TENSORS.front_end, "sinks": Parameter("self_attn.sinks")},
    blocks=(
        {
            "mlp_norm": Norm("post_attention_layernorm"),
            "router": Linear("mlp.router"),
            "experts_gate": StackedExperts("mlp.experts.gate_up_proj", outputs_first=False, packing=DEALT),
            "experts_up": StackedExperts("mlp.experts.gate_up_proj", outputs_first=False, packing=DEALT),
            "experts_down": StackedExperts("mlp.experts.down_proj", outputs_first=False),
        },
    ),
    experts="num_local_experts",
)


FAMILIES = {
    "gpt_oss": Family(
        positions=Rotary(theta=None, needs_scaling=True),
        front_end=replace(llama.FRONT_END, local=even_layers, sinks=True),
        defaults={
            "attention_bias": True,
            "head_dim": 64,
            "sliding_window": 128,
            "num_experts_per_tok": 4,
            "swiglu_limit": 7.0,
            "swiglu_alpha": 1.702,
        },
        spellings={"num_experts_per_tok": ("experts_per_token",)},
        block=Block(
            experts=Experts(scores="chosen", biases=True, clamp="swiglu_limit", gate_factor="swiglu_alpha"),
            fixed_activation="silu",
        ),
        tensors=TENSORS,
        unread=llama.UNREAD
        | {"hidden_act", "initial_context_length", "num_local_experts", "output_router_logits", "router_aux_loss_coef"},
    )
}
