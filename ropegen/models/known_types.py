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
    "an indexer of its own chooses the keys that its latent attention sees, and the front-end has none": """
        deepseek_v32 deepseek_v4 glm_moe_dsa
    """,
    "its latent attention scales queries by their position": "mistral4",
    "a layer has two latent attentions, which multiply their latent vectors": "longcat_flash",
    "its patches rotate by their row and column, and the front-end counts along one axis": "dinov3_vit mlcd mlcd_vision_model pixtral",
    "its bias by relative position is learned, and the front-end has no such table": """
        beit data2vec-vision deberta deberta-v2 donut-swin layoutlmv2 layoutlmv3 layoutxlm longt5 maskformer-swin mpnet
        pop2piano seamless_m4t seamless_m4t_v2 sew-d speecht5 swin swin2sr swinv2 switch_transformers udop umt5 wav2vec2-bert
        wav2vec2-conformer wavlm
    """,
    "a part of its attention reads a second sequence, and the front-end reads one": """
        bart bigbird_pegasus blenderbot blenderbot-small encoder-decoder florence2 fsmt m2m_100 marian mbart mvp nllb-moe
        pegasus pegasus_x plbart prophetnet speech-encoder-decoder speech_to_text t5gemma t5gemma2 trocr
        vision-encoder-decoder whisper
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
    EvollaModel afmoe aimv2 aimv2_text_model aimv2_vision_model albert align_text_model align_vision_model
    altclip_text_model altclip_vision_model apertus apertus1p5 apertus1p5_text apertus1p5_vision_tokenizer aria_text
    audio-spectrogram-transformer audioflamingo3_encoder autoformer axk1 axk2 bailing_hybrid bark beam bert-generation
    biogpt bitnet blip_2_qformer blip_2_vision_model blip_text_model blip_vision_model blt blt_global_transformer
    blt_local_decoder blt_local_encoder blt_patcher bridgetower_text_model bridgetower_vision_model bros canary
    canary_decoder canine chameleon_vqgan chinese_clip_text_model chinese_clip_vision_model chmv2 clap_audio_model
    clap_text_model clip_text_model clip_vision_model clipseg_text_model clipseg_vision_model clvp clvp_decoder
    clvp_encoder cohere2_moe cohere_asr cohere_compass cohere_compass_text cohere_compass_vision colmodernvbert
    conditional_detr cosmos3_edge cosmos3_edge_text cosmos3_edge_vision cosmos3_omni cpmant csm csm_depth_decoder_model
    ctrl cwm d_fine dab-detr data2vec-audio dbrx decision_transformer deepseek_ocr2 deepseek_ocr2_encoder
    deepseek_ocr2_sam_vision_model deepseek_ocr2_text deepseek_ocr2_vision deimv2 deit depth_anything depth_pro detr dia
    dia_decoder dia_encoder diffusion_gemma diffusion_gemma_text dinov2 dinov2_with_registers dory dots3_note
    dots3_note_audio_encoder dots3_note_text dots3_note_vision_encoder dpr dpt edgetam edgetam_mask_decoder
    edgetam_prompt_encoder edgetam_video edgetam_video_mask_decoder edgetam_video_prompt_encoder edgetam_vision_model
    efficientloftr embedding_gemma2 embedding_gemma2_text emu3_text_model emu3_vqgan eomt eomt_dinov3 ernie
    ernie4_5_vl_moe ernie4_5_vl_moe_text ernie4_5_vl_moe_vision esm esmc esmfold2 eurobert exaone exaone4_5
    exaone4_5_vision exaone_moe fast_vlm fastspeech2_conformer fastspeech2_conformer_hifigan
    fastspeech2_conformer_with_hifigan flaubert flava_image_codebook flava_image_model flava_multimodal_model
    flava_text_model flint florence_vision fnet fun_asr_nano fun_asr_nano_encoder gemma3n_audio gemma3n_text
    gemma3n_vision gemma4_assistant gemma4_audio gemma4_unified gemma4_unified_assistant gemma4_unified_audio
    gemma4_unified_text gemma4_unified_vision gemma4_vision git_vision_model glm4v_moe_text glm4v_moe_vision glm4v_text
    glm4v_vision glm5_next glm5_next_text glm5_next_vision glm_image glm_image_text glm_image_vision glm_image_vqmodel
    glm_ocr glm_ocr_text glm_ocr_vision glmasr glmasr_encoder glmga glpn got_ocr2_vision gpt-sw3 gpt_neox_japanese
    gradium_phonon_tts granite4_vision granite4_vision_text granite_docling granite_docling_text granite_docling_vision
    granite_speech5_ctc granite_speech5_encoder granite_speech_encoder granite_speech_plus granite_speech_plus_encoder
    granite_swa granitemoe_swa grounding-dino groupvit_text_model groupvit_vision_model gte helium hiera higgs_audio_v2
    higgs_audio_v2_tokenizer hrm_text hubert hunyuan_v1_dense hunyuan_v1_moe hunyuan_vl hunyuan_vl_text
    hunyuan_vl_vision hy_v3 hy_v4 hy_v4_vl hy_v4_vl_text hy_v4_vl_vision hyperclovax hyperclovax_vision_v2 ibert
    idefics2_perceiver idefics2_vision idefics3_vision idefics_perciever idefics_vision ijepa imagegpt informer inkling2
    inkling2_loop inkling2_loop_text inkling2_text inkling2_vision inkling_audio inkling_mm_model inkling_text
    inkling_vision instructblip_qformer instructblip_vision_model instructblipvideo_qformer
    instructblipvideo_vision_model internlm3 internvl_vision iquestcoder jais2 janus_vision_model janus_vqgan jetmoe jev
    jina_embeddings_v3 kimi_k25 kimi_k25_vision kolibri1 kosmos_2_5_text_model kosmos_2_5_vision_model
    kosmos_2_text_model kosmos_2_vision_model kyutai_speech_to_text laguna lara_mini lasr_ctc lasr_encoder layoutlm
    levit lfm3 lfm3_vl lfm3_vl_vision lightglue lighton_ocr lilt llama4_text llama4_vision_model luke lw_detr
    lw_detr_vit lxmert markuplm mask2former maskformer megatron-bert mellum metaclip_2 metaclip_2_text_model
    metaclip_2_vision_model mgp-str mimi mimi_decoder mimi_encoder mimo_v2_flash minicpm3 minicpm_ocr minicpm_ocr_vision
    minicpmv4_6 minicpmv4_6_vision minicpmv4_7 minicpmv4_7_vision minimax_m2 minimax_m3_vl minimax_m3_vl_text
    minimax_m3_vl_vision ministral3 mistral_large4 mistral_large4_text mllama_text_model mllama_vision_model
    mm-grounding-dino mobilebert mobilevit mobilevitv2 modernbert modernbert-decoder modernvbert molmo2 molmo2_adapter
    molmo2_text molmo2_vision moonshine moonshine_streaming moonshine_streaming_encoder moshi moshi_depth
    moss_transcribe_diarize moss_transcribe_diarize_audio mpt muse_glimmer muse_glimmer_assistant muse_glimmer_text
    muse_glimmer_vision muse_spark muse_spark_audio muse_spark_text muse_spark_vision musicflamingo musicgen
    musicgen_decoder musicgen_melody musicgen_melody_decoder nanochat nemo_speechlm nemotron3_5_asr
    nemotron3_5_transcribe_asr_audio nemotron3_5_transcribe_audio nemotron3_5_transcribe_word_timestamp
    nemotron3_diarization nemotron3_diarization_audio nemotron_asr_streaming nemotron_asr_streaming_encoder
    nemotron_h_omni neomme neucodec nomic_bert nougat omdet-turbo omniasr omniasr_audio omniasr_ctc oneformer openai-gpt
    openai_privacy_filter ovis2_vision owlv2_text_model owlv2_vision_model owlvit_text_model owlvit_vision_model
    paddleocr_vl paddleocr_vl_text paddleocr_vl_vision parakeet_ctc parakeet_encoder parakeet_rnnt parakeet_tdt
    patchtsmixer patchtst pe_audio pe_audio_encoder pe_audio_video pe_audio_video_encoder pe_video pe_video_encoder
    perceiver phi4_multimodal_audio phi4_multimodal_vision phimoe pi0 pix2struct_text_model pix2struct_vision_model
    pixio pocket_tts pocket_tts_audio_tokenizer pocket_tts_audio_tokenizer_decoder pocket_tts_audio_tokenizer_encoder
    pp_chart2table pp_chart2table_vision pp_doclayout_v2 pp_doclayout_v3 pp_doclayout_v4 pp_formulanet
    pp_formulanet_text pp_formulanet_vision pp_lcnet pp_lcnet_v3 pp_lcnet_v4 pp_ocrv5_mobile_det pp_ocrv5_mobile_rec
    pp_ocrv5_server_det pp_ocrv5_server_rec pp_ocrv6_medium_det pp_ocrv6_small_det pp_ocrv6_small_rec pp_ocrv6_tiny_rec
    prompt_depth_anything pvt pvt_v2 qianfan_ocr qianfan_ocr_vision qwen2_5_omni_audio_encoder qwen2_5_omni_bigvgan
    qwen2_5_omni_dit qwen2_5_omni_talker qwen2_5_omni_text qwen2_5_omni_thinker qwen2_5_omni_token2wav
    qwen2_5_omni_vision_encoder qwen2_5_vl_vision qwen2_audio_encoder qwen2_vl_vision qwen3_5_moe_vision qwen3_5_vision
    qwen3_asr qwen3_asr_encoder qwen3_omni_moe_audio_encoder qwen3_omni_moe_talker_code_predictor
    qwen3_omni_moe_talker_text qwen3_omni_moe_text qwen3_omni_moe_thinker qwen3_omni_moe_vision_encoder
    qwen3_vl_moe_text qwen3_vl_moe_vision qwen3_vl_vision qwen4_exp qwen4_exp_text qwen4_exp_vision radio rag rembert
    rf_detr rf_detr_dinov2 roberta-prelayernorm roc_bert roformer rt_detr rt_detr_v2 sam sam2 sam2_hiera_det_model
    sam2_mask_decoder sam2_prompt_encoder sam2_video sam2_video_mask_decoder sam2_video_prompt_encoder sam2_vision_model
    sam3 sam3_detr_decoder sam3_detr_encoder sam3_geometry_encoder sam3_lite_text sam3_lite_text_detr_decoder
    sam3_lite_text_detr_encoder sam3_lite_text_geometry_encoder sam3_lite_text_mask_decoder sam3_lite_text_text_model
    sam3_mask_decoder sam3_tracker sam3_tracker_mask_decoder sam3_tracker_prompt_encoder sam3_tracker_video
    sam3_tracker_video_mask_decoder sam3_tracker_video_prompt_encoder sam3_video sam3_vision_model sam3_vit_model sam_hq
    sam_hq_mask_decoder sam_hq_prompt_encoder sam_hq_vision_model sam_mask_decoder sam_prompt_encoder sam_vision_model
    sapiens2 sapiens2_head sarvam_mla sarvam_moe segformer seggpt sew siglip2_text_model siglip2_vision_model
    siglip_text_model siglip_vision_model slanet slanext slanext_vision smolvlm_vision solar_open speecht5_hifigan
    splinter squeezebert step3p5 step3p5_vision step3p7 superglue swiftformer t5_gemma_module t5gemma2_decoder
    t5gemma2_encoder t5gemma2_text table-transformer tapas textnet time_series_transformer timesfm timesfm2_5
    timesformer tipsv2 tipsv2_dpt tipsv2_text_model tipsv2_vision_model tvp ultrabert ultravbert unispeech unispeech-sat
    unlimited_ocr unlimited_ocr_sam_vision_model unlimited_ocr_text unlimited_ocr_vision unlimited_ocr_vision_encoder
    upernet uvdoc uvdoc_backbone vaultgemma vibevoice vibevoice_acoustic_tokenizer vibevoice_acoustic_tokenizer_decoder
    vibevoice_acoustic_tokenizer_encoder vibevoice_asr vibevoice_diffusion video_llama_3 video_llama_3_vision videomae
    videomt videoprism videoprism_text_model videoprism_vision_model vit_mae vit_msn vitdet vitmatte vitpose
    vitpose_backbone vivit vjepa2 voxtral_encoder voxtral_realtime voxtral_realtime_encoder voxtral_realtime_text
    wav2vec2 wavtokenizer wavtokenizer_encoder xclip_text_model xclip_vision_model xcodec xcodec2 xglm xlm
    xlm-roberta-xl xlnet xmod yolos yoso zaya zoedepth
"""


def reason_for(model_type: str) -> str:
    """Why ropegen builds nothing for a model type of transformers; "" for a type that transformers does not have."""
    known = next((reason for reason, types in _REASONS.items() if model_type in types.split()), "")
    return known or (_UNCOMPARED if model_type in _OTHERS.split() else "")
