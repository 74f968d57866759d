"""OPT: learned positions whose table begins with two rows that no token reads. Its 350M model is refused.

That one norms after each part (`do_layer_norm_before`), and its embedding is narrower than its layers.
"""

from __future__ import annotations

from ropegen.models.block import Block
from ropegen.models.family import Family, FrontEnd
from ropegen.models.tensors import Linear, Norm, Table, Tensors, linears

TENSORS = Tensors(
    prefixes=(("model.decoder.", ""), ("decoder.", "")),
    stem={"embedding": Table("embed_tokens"), "position_embedding": Table("embed_positions", skip=2)},
    front_end={
        "input_norm": Norm("self_attn_layer_norm"),
        **linears("self_attn.{}_proj", "q", "k", "v"),
        "o": Linear("self_attn.out_proj"),
    },
    blocks=({"mlp_norm": Norm("final_layer_norm"), "up": Linear("fc1"), "down": Linear("fc2")},),
    final={"final_norm": Norm("final_layer_norm")},
    head=Linear("lm_head"),
)

FAMILIES = {
    "opt": Family(
        positions="learned",
        front_end=FrontEnd(
            norm="layer",
            fixed_epsilon=1e-5,
            grouped=False,
            qkv_bias="enable_bias",
            out_bias="enable_bias",
            only={
                "do_layer_norm_before": True,
                "layer_norm_elementwise_affine": True,
                "_remove_final_layer_norm": False,
            },
        ),
        # The embedding has the width of the layers, or there would be projections around them.
        spellings={"hidden_size": ("word_embed_proj_dim",), "intermediate_size": ("ffn_dim",)},
        defaults={"enable_bias": True, "activation_function": "relu"},
        block=Block(mlp="plain", mlp_bias="enable_bias", activation="activation_function", tied=True),
        tensors=TENSORS,
        unread=frozenset(("activation_dropout", "attention_dropout", "dropout", "init_std", "layerdrop")),
    )
}
