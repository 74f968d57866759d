"""The text and image encoders of CLIP and SigLIP. SigLIP's image encoder has no class token.

A token of CLIP's text sees those before it; SigLIP shows every token to every other.
"""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.family import Family, FrontEnd
from ropegen.models.tensors import Convolution, Linear, Norm, Row, Table, Tensors, linears

FRONT_END = FrontEnd(norm="layer", epsilon="layer_norm_eps", grouped=False, qkv_bias=True, out_bias=True)
POSITIONS = {"position_embedding": Table("embeddings.position_embedding")}
UNREAD = frozenset(("attention_dropout", "hidden_act", "initializer_factor", "intermediate_size", "projection_dim"))

TEXT = Tensors(
    prefixes=(("text_model.", ""), ("", "")),
    layers="encoder.layers.{}.",
    stem={"embedding": Table("embeddings.token_embedding"), **POSITIONS},
    front_end={
        "input_norm": Norm("layer_norm1"),
        **linears("self_attn.{}_proj", "q", "k", "v"),
        "o": Linear("self_attn.out_proj"),
    },
    final={"final_norm": Norm("final_layer_norm")},
    ignored=(r"encoder\.layers\.\d+\.(layer_norm2|mlp)\..*", r"head\..*"),
)
VISION = replace(
    TEXT,
    prefixes=(("vision_model.", ""), ("", "")),
    stem={"patch": Convolution("embeddings.patch_embedding"), **POSITIONS},
    final={"final_norm": Norm("post_layernorm")},
)

CLIP_VISION = Family(
    positions="learned",
    front_end=replace(
        FRONT_END,
        causal=False,
        patches=True,
        patch_bias=False,
        first_tokens=("class_token",),
        embedding_norm=True,
    ),
    defaults={"layer_norm_eps": 1e-5, "num_channels": 3},
    tensors=replace(
        VISION,
        stem={**VISION.stem, "class_token": Row("embeddings.class_embedding"), "embedding_norm": Norm("pre_layrnorm")},
        ignored=(*VISION.ignored, r"visual_projection\..*"),
    ),
    unread=UNREAD,
)

FAMILIES = {
    "chinese_clip_vision_model": CLIP_VISION,
    "clip_vision_model": CLIP_VISION,
    "clip_text_model": Family(positions="learned", front_end=FRONT_END, tensors=TEXT, unread=UNREAD),
    "siglip_text_model": Family(
        positions="learned",
        front_end=replace(FRONT_END, causal=False),
        defaults={"layer_norm_eps": 1e-6},
        tensors=TEXT,
        unread=UNREAD | {"projection_size"},
    ),
    "siglip_vision_model": Family(
        positions="learned",
        front_end=replace(FRONT_END, causal=False, patches=True),
        defaults={"layer_norm_eps": 1e-6, "num_channels": 3},
        tensors=VISION,
        unread=UNREAD | {"vision_use_head"},
    ),
}
