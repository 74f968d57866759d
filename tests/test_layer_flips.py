"""Every field of a config, flipped one at a time, for types of which ropegen has the attention and not the whole model.

`test_flips` says what must hold. Here it is held against the attention of layer 0, where transformers is installed.
"""

from __future__ import annotations

import copy
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hub_layers import CONFIGS, IDS
from test_flips import REFUSALS, expect_both_or_neither
from test_hub_layers import live

import ropegen as rg
from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph

__all__ = ["live"]

NAMES = (
    "mpt", "dbrx", "qwen2_vl_text", "qwen3_vl_text", "deit", "dinov2_with_registers",
    "clip_vision_model",
)  # fmt: skip


def theirs(live: ModuleType, config: dict[str, Any], checkpoint: rg.weights.Checkpoint) -> np.ndarray | None:
    """What the output projection of layer 0 returns; None where transformers refuses the config."""
    from huggingface_hub.errors import StrictDataclassError

    try:
        return live.HubModel(config).attention(checkpoint)[0][1]
    except (*REFUSALS, StrictDataclassError):
        return None


def ours(config: dict[str, Any], held: dict[str, np.ndarray]) -> object:
    """The graph of layer 0, as a value to compare; None where ropegen refuses the config, or these tensors for it."""
    try:
        graph: Graph = rg.from_hf(config, seq=None if "patch_size" in config else IDS.shape[1], dtype="f32")
        rg.weights.from_hf(config, held, start="ids")
        return graph.inputs, graph.outputs
    except RopegenError:
        return None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("ignore")  # of transformers and torch
def test_a_flipped_field_changes_both_or_neither(live: ModuleType, name: str) -> None:
    import transformers

    config = copy.deepcopy(CONFIGS[name])
    stated = transformers.AutoConfig.for_model(**config).to_dict()
    stated = {"model_type": CONFIGS[name]["model_type"], **stated}
    hub = live.HubModel(stated)
    checkpoint = rg.weights.open(stated, hub.tensors)
    expect_both_or_neither(
        stated, lambda config: theirs(live, config, checkpoint), lambda config: ours(config, hub.tensors)
    )
