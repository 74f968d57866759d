"""ViT: patches of an image with learned positions.

An image is (batch, height, width, channels). `patch_weight` is (patch height * patch width * channels, features): a
`Conv2d` weight (features, channels, height, width) with its axes permuted to (height, width, channels, features).
The class token is left out. Patches alone attend, and `position_embedding` holds their rows only, from row 1 on.
"""

from __future__ import annotations

from ropegen.models.family import Family, FrontEnd

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
