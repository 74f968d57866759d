"""The first GPT: GPT-2 with norms after each part, and none before the projections."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.block import Block
from ropegen.models.families import gpt2
from ropegen.models.family import Family
from ropegen.models.tensors import Conv1D, Norm, Table

FAMILIES = {
    "openai-gpt": Family(
        positions="learned",
        front_end=replace(gpt2.FRONT_END, input_norm=False, only={}),
        spellings=gpt2.SPELLINGS,
        defaults={"afn": "gelu"},
        block=Block(
            mlp="plain",
            mlp_bias=True,
            activation="afn",
            activation_names={"gelu": "gelu_new"},
            mlp_norm="none",
            sum_norms=True,
            final_norm=False,
            tied=True,
        ),
        tensors=replace(
            gpt2.TENSORS,
            stem={"embedding": Table("tokens_embed"), "position_embedding": Table("positions_embed")},
            front_end={role: stored for role, stored in gpt2.TENSORS.front_end.items() if isinstance(stored, Conv1D)},
            blocks=(
                {
                    "attention_sum_norm": Norm("ln_1"),
                    "up": Conv1D("mlp.c_fc"),
                    "down": Conv1D("mlp.c_proj"),
                    "mlp_sum_norm": Norm("ln_2"),
                },
            ),
            final={},
        ),
        unread=gpt2.UNREAD,
    )
}
