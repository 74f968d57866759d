"""DBRX: grouped keys, clipped projections and LayerNorms without biases. `attn_config` holds the fields of attention.

Published configs have `rope_theta` in `attn_config`, where transformers 5 does not read it and takes 10000. Which of the
two a caller means cannot be told, so such a config is refused unless it says the same beside `attn_config`.
"""

from __future__ import annotations

from ropegen.models.family import Family, FrontEnd, Rotary
from ropegen.models.tensors import IN_RUNS, Linear, Norm, Table, Tensors, packed

FAMILIES = {
    "dbrx": Family(
        positions=Rotary(),
        front_end=FrontEnd(norm="layer", norm_parameters="weight", fixed_epsilon=1e-5, clip="clip_qkv"),
        spellings={
            "hidden_size": ("d_model",),
            "num_attention_heads": ("n_heads",),
            "num_hidden_layers": ("n_layers",),
            "num_key_value_heads": ("kv_n_heads",),
            "max_position_embeddings": ("max_seq_len",),
        },
        defaults={"clip_qkv": None, "num_key_value_heads": 1},
        part="attn_config",
        tensors=Tensors(
            prefixes=(("transformer.", ""), ("", "")),
            layers="blocks.{}.",
            stem={"embedding": Table("wte")},
            front_end={
                "input_norm": Norm("norm_attn_norm.norm_1"),
                **packed("norm_attn_norm.attn.Wqkv", IN_RUNS),
                "o": Linear("norm_attn_norm.attn.out_proj"),
            },
            final={"final_norm": Norm("norm_f")},
            head=Linear("lm_head"),
            ignored=(r"blocks\.\d+\.(norm_attn_norm\.norm_2|ffn)\..*",),
        ),
        unread=frozenset(
            ("attn_pdrop", "emb_pdrop", "ffn_config", "output_router_logits", "resid_pdrop", "tie_word_embeddings")
        ),
    )
}
