"""ViT: patches of an image with learned positions.

An image is (batch, height, width, channels). `patch_weight` is (patch height * patch width * channels, features): a
`Conv2d` weight (features, channels, height, width) with its axes permuted to (height, width, channels, features).
The class token is left out. Patches alone attend, and `position_embedding` holds their rows only, from row 1 on.
"""

from __future__ import annotations

from ropegen.models.family import Family, FrontEnd
from ropegen.models.tensors import Convolution, Linear, Norm, Parameter, Tensors, linears

# Checkpoints on the hub have the names of transformers 4.
RENAMED = (
    ("encoder.layer.", "layers."),
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
)
TENSORS = Tensors(
    prefixes=(("vit.", ""), ("", "")),
    stem={
        "patch": Convolution("embeddings.patch_embeddings.projection"),
        "position_embedding": Parameter("embeddings.position_embeddings", ones=1, skip=1),
    },
    front_end={"input_norm": Norm("layernorm_before"), **linears("attention.{}_proj", "q", "k", "v", "o")},
    blocks=({"mlp_norm": Norm("layernorm_after"), "up": Linear("mlp.fc1"), "down": Linear("mlp.fc2")},),
    final={"final_norm": Norm("layernorm")},
    ignored=(r"embeddings\.(cls_token|mask_token)", r"(pooler|classifier)\..*"),
    renamed=RENAMED,
)

FAMILIES = {
    "vit": Family(
        positions="learned",
        front_end=FrontEnd(
            patches=True,
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
}
