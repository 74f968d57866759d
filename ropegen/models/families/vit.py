"""ViT and its relatives: patches of an image with learned positions, after a class token.

An image is (batch, height, width, channels). `patch_weight` is (patch height * patch width * channels, features): a
`Conv2d` weight (features, channels, height, width) with its axes permuted to (height, width, channels, features).
DeiT has a second token, for distillation, and I-JEPA none. DINOv2 may have registers, which have no positions.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.family import Family, FrontEnd
from ropegen.models.tensors import Convolution, Linear, Norm, Parameter, Tensors, linears

# Checkpoints on the hub have the names of transformers 4.
ATTENTION_RENAMED = (
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
)
RENAMED = (
    ("encoder.layer.", "layers."),
    *ATTENTION_RENAMED,
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
)
PATCH = {"patch": Convolution("embeddings.patch_embeddings.projection")}
POSITIONS = {"position_embedding": Parameter("embeddings.position_embeddings", ones=1)}
CLASS = {"class_token": Parameter("embeddings.cls_token", ones=1)}
TENSORS = Tensors(
    prefixes=(("vit.", ""), ("deit.", ""), ("ijepa.", ""), ("", "")),
    stem={**PATCH, **CLASS, **POSITIONS},
    front_end={"input_norm": Norm("layernorm_before"), **linears("attention.{}_proj", "q", "k", "v", "o")},
    blocks=({"mlp_norm": Norm("layernorm_after"), "up": Linear("mlp.fc1"), "down": Linear("mlp.fc2")},),
    final={"final_norm": Norm("layernorm")},
    ignored=(r"embeddings\.mask_token", r"(pooler|classifier|cls_classifier|distillation_classifier)\..*"),
    renamed=RENAMED,
)
VIT = Family(
    positions="learned",
    front_end=FrontEnd(
        patches=True,
        first_tokens=("class_token",),
        norm="layer",
        epsilon="layer_norm_eps",
        grouped=False,
        causal=False,
        qkv_bias="qkv_bias",
        out_bias=True,
    ),
    defaults={"qkv_bias": True, "num_channels": 3},
    tensors=TENSORS,
    unread=frozenset(
        (
            "attention_probs_dropout_prob",
            "encoder_stride",
            "hidden_act",
            "hidden_dropout_prob",
            "intermediate_size",
            "pooler_act",
            "pooler_output_size",
        )
    ),
)
DISTILLATION = {"distillation_token": Parameter("embeddings.distillation_token", ones=1)}
DEIT = replace(
    VIT,
    front_end=replace(VIT.front_end, first_tokens=("class_token", "distillation_token")),
    tensors=replace(TENSORS, stem={**TENSORS.stem, **DISTILLATION}),
)
IJEPA = replace(
    VIT, front_end=replace(VIT.front_end, first_tokens=()), tensors=replace(TENSORS, stem={**PATCH, **POSITIONS})
)
DINOV2 = replace(
    VIT,
    defaults={"qkv_bias": True, "num_channels": 3, "layer_norm_eps": 1e-6},
    tensors=Tensors(
        prefixes=(("dinov2.", ""), ("dinov2_with_registers.", ""), ("", "")),
        layers="encoder.layer.{}.",
        stem={**TENSORS.stem, "registers": Parameter("embeddings.register_tokens", ones=1)},
        front_end={"input_norm": Norm("norm1"), **linears("attention.{}_proj", "q", "k", "v", "o")},
        final={"final_norm": Norm("layernorm")},
        ignored=(
            r"embeddings\.mask_token",
            r"encoder\.layer\.\d+\.(norm2|mlp|layer_scale1|layer_scale2)\..*",
            r"classifier\..*",
        ),
        renamed=ATTENTION_RENAMED,
    ),
    unread=VIT.unread
    | {
        "apply_layernorm",
        "drop_path_rate",
        "layerscale_value",
        "mlp_ratio",
        "out_features",
        "out_indices",
        "reshape_hidden_states",
        "stage_names",
        "use_mask_token",
        "use_swiglu_ffn",
    },
)
DINOV2_WITH_REGISTERS = replace(
    DINOV2,
    front_end=replace(VIT.front_end, registers="num_register_tokens"),
    defaults={**DINOV2.defaults, "num_register_tokens": 4},
)

FAMILIES = {
    "deit": DEIT,
    "dinov2": DINOV2,
    "dinov2_with_registers": DINOV2_WITH_REGISTERS,
    "ijepa": IJEPA,
    "vit": VIT,
    "vit_msn": VIT,
}
