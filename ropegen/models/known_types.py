"""The model types of transformers that ropegen has no declaration for, with the reason why.

A type that is known is never answered with the nearest spelling of another model, whose attention may differ. A type
that a file of `families/` declares needs no entry here, and its entry is ignored. `tests/test_known_types.py` holds the
list against the installed transformers.
"""

from __future__ import annotations

# Reason: the types that it holds for, each list in alphabetical order.
_REASONS: dict[str, str] = {
    "its layers carry a recurrent state and have no attention": """
        falcon_mamba mamba mamba2 rwkv xlstm
    """,
    "some of its layers carry a recurrent or convolutional state instead of keys and values": """
        bamba falcon_h1 granitemoehybrid jamba kimi_linear lfm2 lfm2_moe lfm2_vl minimax nemotron_h olmo_hybrid qwen3_5
        qwen3_5_moe qwen3_5_moe_text qwen3_5_text qwen3_next recurrent_gemma zamba zamba2
    """,
    "its latent attention has no keys and values of whole heads to project": """
        deepseek_v32 deepseek_v4 glm4_moe_lite glm_moe_dsa longcat_flash mistral4 youtu
    """,
    "its bias by relative position is learned, and the front-end has no such table": """
        beit data2vec-vision deberta deberta-v2 donut-swin layoutlmv2 layoutlmv3 layoutxlm longt5 maskformer-swin mpnet
        pop2piano seamless_m4t seamless_m4t_v2 sew-d speecht5 swin swin2sr swinv2 switch_transformers udop umt5 wav2vec2-bert
        wav2vec2-conformer wavlm
    """,
    "a part of its attention reads a second sequence, and the front-end reads one": """
        bart bigbird_pegasus blenderbot blenderbot-small encoder-decoder florence2 fsmt m2m_100 marian mbart mvp nllb-moe
        pegasus pegasus_x plbart prophetnet speech-encoder-decoder speech_to_text t5gemma t5gemma2 trocr
        vision-encoder-decoder whisper xlm-prophetnet
    """,
    "its attention sees a pattern of keys, or estimates a part of them, as the front-end does not": """
        big_bird convbert deformable_detr dinat doge funnel led longformer mra nystromformer reformer
    """,
    "its attention is the difference of two softmaxes": "diffllama",
    "it is no transformer": """
        bit convnext convnextv2 cvt dac dinov3_convnext efficientnet encodec focalnet hgnet_v2 mobilenet_v1 mobilenet_v2
        poolformer regnet resnet rt_detr_resnet superpoint timm_backbone timm_wrapper univnet vits
    """,
    "it holds several models, and which keys each one shows the other is not declared": """
        align altclip aria audioflamingo3 aya_vision blip blip-2 bridgetower chameleon chinese_clip clap clip clipseg
        cohere2_vision colpali colqwen2 deepseek_vl deepseek_vl_hybrid emu3 evolla flava fuyu gemma3n git glm46v glm4v
        glm4v_moe got_ocr2 granite_speech groupvit idefics idefics2 idefics3 instructblip instructblipvideo internvl janus
        kosmos-2 kosmos-2.5 llama4 llava llava_next llava_next_video llava_onevision mistral3 mllama ovis2 owlv2 owlvit
        paligemma perception_lm phi4_multimodal pix2struct qwen2_5_omni qwen2_audio qwen3_omni_moe qwen3_vl_moe
        shieldgemma2 siglip siglip2 smolvlm video_llava vilt vipllava vision-text-dual-encoder visual_bert voxtral xclip
    """,
}
# Types that transformers has and that nobody has compared with ropegen yet.
_UNCOMPARED = "nobody has compared its attention with that of transformers' code yet"
_OTHERS = """
    albert apertus arcee cohere cohere2 dbrx
"""


def reason_for(model_type: str) -> str:
    """Why ropegen builds nothing for a model type of transformers; "" for a type that transformers does not have."""
    known = next((reason for reason, types in _REASONS.items() if model_type in types.split()), "")
    return known or (_UNCOMPARED if model_type in _OTHERS.split() else "")
