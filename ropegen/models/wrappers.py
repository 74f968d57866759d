"""The model types that hold a text model beside encoders of images or sound, and leave its attention as it is.

Every one of them puts the vectors of an image or of sound in the place of tokens, and runs its text model over all of them
with that model's own causal mask. So the text model alone says what its layers compute, and `text_config` describes it.
Types that show the tokens of an image or of a prompt to each other, such as PaliGemma, are not among them.
"""

from __future__ import annotations

from collections.abc import Mapping

WRAPPERS: Mapping[str, str] = {
    "aya_vision": "cohere2",
    "cohere2_vision": "cohere2",
    "deepseek_vl": "llama",
    "got_ocr2": "qwen2",
    "idefics2": "mistral",
    "idefics3": "llama",
    "internvl": "qwen2",
    "kimi_k25": "deepseek_v3",
    "llava": "llama",
    "llava_next": "llama",
    "llava_next_video": "llama",
    "llava_onevision": "qwen2",
    "mistral3": "mistral",
    "ovis2": "qwen2",
    "perception_lm": "llama",
    "qwen2_audio": "qwen2",
    "smolvlm": "llama",
    "video_llava": "llama",
    "vipllava": "llama",
}
"""The type of the text model where `text_config` has no `model_type`, by the type around it."""

UNSCALED = frozenset(("aya_vision", "cohere2_vision"))
"""Those whose head leaves out the factor of the scores that the text model alone has."""

UNREAD = frozenset(
    (
        "_pad_token_id",
        "adapter_layer_norm_eps",
        "alignment_intermediate_size",
        "audio_token_index",
        "downsample_factor",
        "downsample_ratio",
        "hidden_size",
        "ignore_index",
        "image_grid_pinpoints",
        "image_seq_length",
        "image_token_id",
        "image_token_index",
        "multimodal_projector_bias",
        "perceiver_config",
        "projection_hidden_size",
        "projection_layer_norm_eps",
        "projector_hidden_act",
        "projector_layernorm_eps",
        "projector_pooling_ratio",
        "qformer_config",
        "scale_factor",
        "spatial_merge_size",
        "spatial_pool_mode",
        "spatial_pool_stride",
        "tie_word_embeddings",
        "use_image_newline_parameter",
        "video_seq_length",
        "video_token_id",
        "video_token_index",
        "vision_aspect_ratio",
        "vision_end_token_id",
        "vision_feature_layer",
        "vision_feature_select_strategy",
        "vision_start_token_id",
        "vision_use_cls_token",
        "visual_indicator_token_ids",
        "vocab_size",
    )
)
"""The fields beside `text_config` that no layer of the text model reads."""
