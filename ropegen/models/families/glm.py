"""GLM-4 of early 2024 (glm), of 2025 (glm4), and GLM-4.5 (glm4_moe).

The first two rotate half of each head in interleaved pairs. GLM-4.5 rotates half of each head in pairs of halves.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.config import Config
from ropegen.models.families import deepseek, llama, phi, qwen
from ropegen.models.family import Family, Rotary
from ropegen.models.tensors import Linear, Norm, Tensors, packed


def glm4_moe_tensors(config: Config) -> Tensors:
    """Checkpoints hold one more layer, which predicts a further token and which the modelling code does not read."""
    return replace(
        deepseek.MIXTURE_TENSORS,
        front_end=qwen.QWEN3_TENSORS.front_end,
        ignored=(rf"layers\.{config.count('num_hidden_layers')}\..*",),
    )


DEFAULTS = {"head_dim": 128, "num_key_value_heads": 2, "hidden_act": "silu"}
GLM = Family(
    positions=Rotary(pairing="interleaved", fraction=0.5, partial=True),
    front_end=replace(llama.FRONT_END, out_bias=False),
    defaults=DEFAULTS,
    block=Block(),
    tensors=replace(llama.TENSORS, blocks=phi.TENSORS.blocks),
    unread=llama.UNREAD,
)
GLM4 = replace(
    GLM,
    block=Block(post_norms=True),
    tensors=replace(
        llama.TENSORS,
        blocks=(
            {
                "attention_post_norm": Norm("post_self_attn_layernorm"),
                "mlp_norm": Norm("post_attention_layernorm"),
                **packed("mlp.gate_up_proj", phi.GATE_UP),
                "down": Linear("mlp.down_proj"),
                "mlp_post_norm": Norm("post_mlp_layernorm"),
            },
        ),
    ),
)
GLM4_MOE = Family(
    positions=Rotary(fraction=0.5, partial=True),
    front_end=replace(llama.FRONT_END, out_bias=False, qk_norm="use_qk_norm"),
    spellings={"n_routed_experts": ("num_local_experts",)},
    defaults={
        **deepseek.MIXTURE_DEFAULTS,
        "attention_bias": False,
        "first_k_dense_replace": 1,
        "head_dim": None,
        "num_key_value_heads": 8,
        "use_qk_norm": False,
    },
    block=deepseek.ROUTED_BLOCK,
    tensors=glm4_moe_tensors,
    unread=llama.UNREAD | deepseek.EXPERT_SIZES | {"num_mtp_layers", "num_nextn_predict_layers"},
)

FAMILIES = {"glm": GLM, "glm4": GLM4, "glm4_moe": GLM4_MOE}
