"""MPT: ALiBi, and projections that may be clipped. `attn_config` holds the fields of attention.

The code of transformers always has ALiBi with a largest slope of 2^-(8/heads), and never norms queries and keys, whatever
`attn_config` says. Other values are those of checkpoints for other code, and are refused.
"""

from __future__ import annotations

from ropegen.models.block import Block
from ropegen.models.family import Family, FrontEnd
from ropegen.models.tensors import IN_RUNS, Linear, Norm, Table, Tensors, packed

FAMILIES = {
    "mpt": Family(
        positions="alibi",
        front_end=FrontEnd(
            norm="layer",
            norm_parameters="weight",
            epsilon="layer_norm_epsilon",
            grouped=False,
            multiplier="softmax_scale",
            clip="clip_qkv",
            follows_is_causal=False,
            only={
                "alibi": True,
                "alibi_bias_max": 8,
                "attn_type": "multihead_attention",
                "attn_uses_sequence_id": False,
                "no_bias": True,
                "norm_type": "low_precision_layernorm",
                "prefix_lm": False,
                "qk_ln": False,
            },
        ),
        spellings={
            "hidden_size": ("d_model",),
            "num_attention_heads": ("n_heads",),
            "num_hidden_layers": ("n_layers",),
            "max_position_embeddings": ("max_seq_len",),
        },
        defaults={"clip_qkv": None, "layer_norm_epsilon": 1e-5, "softmax_scale": None},
        parts=("attn_config",),
        block=Block(
            mlp="plain",
            fixed_activation="gelu",
            tied=True,
            only={"expansion_ratio": 4, "logit_scale": None},
        ),
        tensors=Tensors(
            prefixes=(("transformer.", ""), ("", "")),
            layers="blocks.{}.",
            stem={"embedding": Table("wte")},
            front_end={
                "input_norm": Norm("norm_1"),
                **packed("attn.Wqkv", IN_RUNS),
                "o": Linear("attn.out_proj"),
            },
            blocks=({"mlp_norm": Norm("norm_2"), "up": Linear("ffn.up_proj"), "down": Linear("ffn.down_proj")},),
            final={"final_norm": Norm("norm_f")},
            head=Linear("lm_head"),
            inner_times=4,
        ),
        unread=frozenset(
            (
                "attn_impl",
                "attn_pdrop",
                "emb_pdrop",
                "embedding_fraction",
                "init_config",
                "init_device",
                "learned_pos_emb",
                "resid_pdrop",
                "tokenizer_name",
                "verbose",
            )
        ),
    )
}
