"""GPT-NeoX and Pythia. `query_key_value` holds q, k and v of one head after the other."""

from __future__ import annotations

from ropegen.models.block import Block
from ropegen.models.family import Family, FrontEnd, Rotary
from ropegen.models.tensors import BY_HEAD, Linear, Norm, Table, Tensors, packed

TENSORS = Tensors(
    prefixes=(("gpt_neox.", ""), ("", "")),
    stem={"embedding": Table("embed_in")},
    front_end={
        "input_norm": Norm("input_layernorm"),
        **packed("attention.query_key_value", BY_HEAD),
        "o": Linear("attention.dense"),
    },
    blocks=(
        {
            "mlp_norm": Norm("post_attention_layernorm"),
            "up": Linear("mlp.dense_h_to_4h"),
            "down": Linear("mlp.dense_4h_to_h"),
        },
    ),
    final={"final_norm": Norm("final_layer_norm")},
    head=Linear("lm_head"),
    renamed=(("embed_out.", "lm_head."),),
)

FAMILIES = {
    "gpt_neox": Family(
        positions=Rotary(
            theta_field="rotary_emb_base",
            fraction=0.25,
            fraction_field="rotary_pct",
            partial=True,
            repeats={"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
        ),
        front_end=FrontEnd(
            norm="layer",
            epsilon="layer_norm_eps",
            grouped=False,
            qkv_bias="attention_bias",
            out_bias="attention_bias",
        ),
        defaults={"attention_bias": True, "hidden_act": "gelu", "use_parallel_residual": True},
        block=Block(mlp="plain", mlp_bias=True, parallel_field="use_parallel_residual"),
        tensors=TENSORS,
        unread=frozenset(("attention_dropout", "classifier_dropout", "gradient_checkpointing", "hidden_dropout")),
    )
}
