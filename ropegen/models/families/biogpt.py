"""BioGPT: scaled embeddings, and learned positions whose table begins with two rows that no token reads."""

from __future__ import annotations

from ropegen.models.block import Block
from ropegen.models.families import opt
from ropegen.models.family import Family, FrontEnd
from ropegen.models.tensors import Linear, Norm, Tensors

FAMILIES = {
    "biogpt": Family(
        positions="learned",
        # The code takes torch's epsilon, whatever `layer_norm_eps` says.
        front_end=FrontEnd(
            norm="layer",
            fixed_epsilon=1e-5,
            embedding_scale="exact",
            grouped=False,
            qkv_bias=True,
            out_bias=True,
            only={"scale_embedding": True, "add_cross_attention": False},
        ),
        defaults={"hidden_act": "gelu"},
        block=Block(mlp="plain", mlp_bias=True, tied=True),
        tensors=Tensors(
            prefixes=(("biogpt.", ""), ("", "")),
            stem=opt.TENSORS.stem,
            front_end=opt.TENSORS.front_end,
            blocks=opt.TENSORS.blocks,
            final={"final_norm": Norm("layer_norm")},
            head=Linear("output_projection"),
        ),
        unread=frozenset(
            (
                "activation_dropout",
                "attention_probs_dropout_prob",
                "hidden_dropout_prob",
                "layer_norm_eps",
                "layerdrop",
            )
        ),
    )
}
