"""Every field of every config, flipped one at a time, where transformers is installed.

Where transformers computes something else, so must ropegen, or it must refuse the config. Where transformers computes the
same, ropegen must build the same, or refuse by name what it does not know.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import hub_layers
import hub_models
import numpy as np
import pytest
from hub_models import PROMPT

import ropegen as rg
from ropegen.errors import RopegenError
from ropegen.model.rest import Rest
from ropegen.models.front_end import supported

# Fields that say how a call returns its results, or that transformers takes for its own machinery.
MACHINERY = {
    "_attn_implementation", "_name_or_path", "architectures", "dtype", "model_type", "transformers_version",
    "chunk_size_feed_forward", "is_encoder_decoder", "id2label", "label2id", "problem_type", "return_dict",
    "output_attentions", "output_hidden_states", "use_cache",
}  # fmt: skip
# What transformers and torch raise for a config that they do not run.
REFUSALS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
WORDS = {
    "hidden_act": "relu", "hidden_activation": "relu", "activation_function": "relu", "topk_method": "greedy",
}  # fmt: skip
# Enough pairs of features, and a context that is long enough, for every field of YaRN to matter.
YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 4.0,
    "mscale": 0.7,
    "mscale_all_dim": 0.9,
}
LATENT = {"qk_rope_head_dim": 8, "rope_scaling": YARN}
MORE: dict[str, dict[str, Any]] = {
    "deepseek_v2": LATENT,
    "deepseek_v3": LATENT,
    "ernie4_5_moe": {},
    "falcon-groups": {},
    "phimoe": {},
    "qwen2_moe": {},
}
CONFIGS = {
    **hub_models.CONFIGS,
    **{name: {**hub_layers.longer(hub_layers.CONFIGS[name]), **more} for name, more in MORE.items()},
}


@pytest.fixture(scope="session")
def live(recorder: Callable[[str], ModuleType]) -> ModuleType:
    """The module record_models, which runs the models of transformers."""
    return recorder("record_models")


def others(name: str, value: Any) -> list[Any]:
    """Values that the field might have instead, the likeliest to be accepted first."""
    if name == "layer_types":
        kinds = {"full_attention": "sliding_attention", "sliding_attention": "full_attention"}
        return [[kinds[value[0]], *value[1:]]] if value else [["full_attention"] * 3]
    match value:
        case bool():
            return [not value]
        case int():
            return [value * 2, value + 1, value - 1, value // 2]
        case float():
            return [value * 1.5 + 0.1, value / 2]
        case str():
            return [WORDS[name]] if name in WORDS else []
        case None:
            return [3, 0.5, True]
        case _:
            return []


def flips(stated: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The field, and the config with it flipped. Rope parameters are flipped one by one."""
    for name, value in stated.items():
        if name in MACHINERY:
            continue
        if name == "rope_parameters":
            by_layer = all(isinstance(part, dict) for part in value.values())
            for kind, parameters in (value if by_layer else {"": value}).items():
                for inner, given in parameters.items():
                    for other in others(inner, given):
                        changed = {**parameters, inner: other}
                        yield f"{name}.{kind}.{inner}", {**stated, name: {**value, kind: changed} if kind else changed}
            continue
        for other in others(name, value):
            yield name, {**stated, name: other}


def theirs(live: ModuleType, config: dict[str, Any]) -> np.ndarray | None:
    """The scores of transformers; None where it refuses the config."""
    import torch
    from huggingface_hub.errors import StrictDataclassError

    try:
        model = live.hub_model(config)
        with torch.no_grad():
            return model(torch.from_numpy(PROMPT).long()).logits.numpy()
    except (*REFUSALS, StrictDataclassError):
        return None


def ours(config: dict[str, Any], held: dict[str, Any]) -> object:
    """What ropegen builds, as a value to compare; None where it refuses the config, or these tensors for it."""
    try:
        model, facts = supported("flip", copy.deepcopy(config))
        layers = model.count("num_hidden_layers")
        batch, seq = PROMPT.shape
        graphs = [
            rg.from_hf(config, batch=batch, seq=seq, dtype="f32", layer=layer, start="hidden" if layer else "ids")
            for layer in range(layers)
        ]
        kinds = [(graph.inputs, graph.outputs) for graph in graphs]
        rg.weights.open(config, held)
        return kinds, Rest.of(model, facts)
    except RopegenError:
        return None


Theirs = Callable[[dict[str, Any]], np.ndarray | None]
Ours = Callable[[dict[str, Any]], object]


def expect_both_or_neither(stated: dict[str, Any], theirs: Theirs, ours: Ours) -> None:
    """Every flip of a field changes what transformers computes and what ropegen builds, or neither of them.

    Both are functions of a config. They return None where the config is refused.
    """
    base, built = theirs(stated), ours(stated)
    assert base is not None
    assert built is not None
    wrong: list[str] = []
    outcomes: dict[str, list[tuple[bool, object]]] = {}
    for field, config in flips(stated):
        flipped = theirs(config)
        if flipped is not None:
            is_other = flipped.shape != base.shape or np.abs(flipped - base).max() > 1e-6 * np.abs(base).max()
            outcomes.setdefault(field, []).append((bool(is_other), ours(config)))
    for field, results in outcomes.items():
        if any(is_other and mine == built for is_other, mine in results):
            wrong.append(f"{field}: transformers computes something else, and ropegen the same")
        # One value of a field that matters may still give the same numbers.
        if not any(is_other for is_other, _ in results) and any(mine not in (None, built) for _, mine in results):
            wrong.append(f"{field}: transformers computes the same, and ropegen something else")
    assert len(outcomes) > 8
    assert not wrong


@pytest.mark.parametrize("name", CONFIGS)
def test_a_flipped_field_changes_both_or_neither(live: ModuleType, name: str) -> None:
    import transformers

    stated = transformers.AutoConfig.for_model(**copy.deepcopy(CONFIGS[name])).to_dict()
    stated = {"model_type": CONFIGS[name]["model_type"], **stated}
    held = live.own_tensors(live.hub_model(stated))
    expect_both_or_neither(stated, lambda config: theirs(live, config), lambda config: ours(config, held))
