"""CodeGen: GPT-J, with q, v and k packed in four groups of heads, as four processors held them in training."""

from __future__ import annotations

from dataclasses import replace

from ropegen.models.families import gpt2, gptj
from ropegen.models.tensors import Linear, Norm, Packing, packed

FAMILIES = {
    "codegen": replace(
        gptj.FAMILIES["gptj"],
        front_end=replace(gptj.FAMILIES["gptj"].front_end, only={}),
        tensors=replace(
            gptj.TENSORS,
            front_end={
                "input_norm": Norm("ln_1"),
                **packed("attn.qkv_proj", Packing(("q", "v", "k"), 4)),
                "o": Linear("attn.out_proj"),
            },
            ignored=(r"h\.\d+\.attn\.causal_mask",),
        ),
        unread=gpt2.UNREAD,
    )
}
