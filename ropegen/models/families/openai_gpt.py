"""The first GPT: GPT-2 with norms after each part, and none before the projections."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.families import gpt2
from ropegen.models.family import Family
from ropegen.models.tensors import Conv1D, Table

FAMILIES = {
    "openai-gpt": Family(
        positions="learned",
        front_end=replace(gpt2.FRONT_END, input_norm=False, only={}),
        spellings=gpt2.SPELLINGS,
        tensors=replace(
            gpt2.TENSORS,
            stem={"embedding": Table("tokens_embed"), "position_embedding": Table("positions_embed")},
            front_end={role: stored for role, stored in gpt2.TENSORS.front_end.items() if isinstance(stored, Conv1D)},
            blocks=(),
            final={},
            ignored=(r"h\.\d+\.(ln_1|ln_2|mlp)\..*",),
        ),
        unread=gpt2.UNREAD | {"afn", "tie_word_embeddings"},
    )
}
