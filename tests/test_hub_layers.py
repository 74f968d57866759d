"""Weights and graphs together: the attention of the hub's models from their own tensors, against transformers.

`python tests/record_layers.py` wrote golden/vectors/layers.json. The oracle evaluates the graphs in float64, so what is
left between the two is the rounding of transformers in float32.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hub_layers import CONFIGS, IDS, IMAGE, TYPES, WRAPPED, tensors, wrapped
from models_page import WITHOUT_SCORES

import ropegen as rg
from ropegen import reference
from ropegen.model.rest import Rest
from ropegen.models import FAMILIES
from ropegen.models.family import FrontEnd
from ropegen.models.front_end import supported
from ropegen.models.tensors import Tensors
from ropegen.models.wrappers import WRAPPERS

VECTORS = json.loads((Path(__file__).resolve().parent.parent / "golden" / "vectors" / "layers.json").read_text())
RELATIVE = 2e-6
"""The largest error, in units of the largest value."""


def expect_close(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= RELATIVE * np.abs(theirs).max()


def attention(config: dict[str, Any], source: Any, layer: int, hidden: np.ndarray | None = None) -> np.ndarray:
    """The front-end of a layer of the graph and the weights that ropegen makes, from ids or from a hidden state."""
    start = "ids" if hidden is None else "hidden"
    graph = rg.from_hf(
        config, seq=None if "patch_size" in config else IDS.shape[1], layer=layer, start=start, dtype="f64"
    )
    weights = rg.weights.from_hf(config, source, layer=layer, start=start, dtype="f64")
    assert set(weights) == set(graph.labels("parameter"))
    given = {
        "ids": IDS,
        "token_type_ids": TYPES,
        "image": IMAGE.astype(np.float64),
        "hidden": None if hidden is None else hidden.astype(np.float64),
    }
    inputs = {label: given[label] for label in graph.labels("activation")}
    return reference.evaluate(graph, {**inputs, **weights})["out"]


def test_every_config_is_recorded() -> None:
    assert {name: said["config"] for name, said in VECTORS.items() if name != "versions"} == CONFIGS


@pytest.mark.parametrize("name", CONFIGS)
def test_recorded_attention_of_layer_0(name: str) -> None:
    said = VECTORS[name]
    ours = attention(said["config"], tensors(said["shapes"]), 0)
    expect_close(ours[0], np.array(said["out"], np.float32))


def is_causal(config: dict[str, Any]) -> bool:
    front_end = FAMILIES[config["model_type"]].front_end
    return isinstance(front_end, FrontEnd) and front_end.causal


@pytest.mark.parametrize("name", [name for name, config in CONFIGS.items() if is_causal(config)])
def test_decoding_in_steps_is_prefill(name: str) -> None:
    """The second layer, from a drawn hidden state and with drawn weights, in one call and in two."""
    random = np.random.default_rng(0)
    build = {"layer": 1, "start": "hidden", "dtype": "f64", "capacity": 8}
    prefill = rg.from_hf(CONFIGS[name], seq=6, **build)
    states, weights = (
        {label: random.standard_normal(prefill.input_types[label].shape) for label in prefill.labels(role)}
        for role in ("state", "parameter")
    )
    hidden = random.standard_normal(prefill.input_types["hidden"].shape)
    expected = reference.evaluate(prefill, {"hidden": hidden, **states, **weights})["out"]
    for start, end in ((0, 4), (4, 6)):
        step = rg.from_hf(CONFIGS[name], seq=end - start, phase="decode", **build)
        given = {
            "hidden": hidden[:, start:end],
            "positions": np.arange(start, end, dtype=np.int32)[None],
            "lengths": np.array([start], np.int32),
        }
        inputs = {label: given[label] for label in step.labels("activation")}
        states = reference.evaluate(step, {**inputs, **states, **weights})
        out = states.pop("out")
        np.testing.assert_allclose(out, expected[:, start:end], rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@pytest.fixture(scope="session")
def live(recorder: Callable[[str], ModuleType]) -> ModuleType:
    """The module record_layers, which runs the models of transformers."""
    return recorder("record_layers")


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.filterwarnings("ignore")  # of transformers and torch
def test_attention_of_every_layer_is_that_of_transformers(live: ModuleType, name: str) -> None:
    hub = live.HubModel(CONFIGS[name])
    checkpoint = rg.weights.open(CONFIGS[name], hub.model.state_dict())  # of torch tensors
    assert not FAMILIES[CONFIGS[name]["model_type"]].block or checkpoint.unused() == ()
    for layer, (hidden, out) in enumerate(hub.attention(checkpoint)):
        expect_close(attention(CONFIGS[name], hub.tensors, layer, hidden), out)
        if layer == 0:
            expect_close(attention(CONFIGS[name], hub.tensors, 0), out)


@pytest.mark.parametrize("name", ["dots1", "smollm3", "olmo3", "cohere2", "cwm", "mellum", "ministral"])
@pytest.mark.filterwarnings("ignore")  # of transformers and torch
def test_the_class_decides_kinds_of_layer_that_a_config_leaves_out(live: ModuleType, name: str) -> None:
    """Which of five layers are local, and which do not rotate, where no `layer_types` or `no_rope_layers` says it."""
    by_layer = ("layer_types", "no_rope_layers", "mlp_layer_types")
    stated = {field: value for field, value in CONFIGS[name].items() if field not in by_layer}
    config = {**stated, "num_hidden_layers": 5}
    if name == "dots1":
        config |= {"sliding_window": 3, "max_window_layers": 2}
    hub = live.HubModel(config)
    for layer, (hidden, out) in enumerate(hub.attention(rg.weights.open(config, hub.tensors))):
        expect_close(attention(config, hub.tensors, layer, hidden), out)


@pytest.mark.parametrize("name", ["qwen2_vl_text", "qwen3_vl_text"])
@pytest.mark.filterwarnings("ignore")  # of transformers and torch
def test_the_tokens_of_an_image_rotate_by_three_axes(live: ModuleType, name: str) -> None:
    import torch

    hub = live.HubModel(CONFIGS[name])
    checkpoint = rg.weights.open(CONFIGS[name], hub.tensors)
    positions = np.array([[[0, 1, 1, 1, 1, 3]], [[0, 1, 1, 2, 2, 3]], [[0, 1, 2, 1, 2, 3]]], np.int32)
    ((hidden, out), *_) = hub.attention(checkpoint, position_ids=torch.from_numpy(positions).long())
    graph = rg.from_hf(CONFIGS[name], seq=IDS.shape[1], start="hidden", inputs=("rope_positions",), dtype="f64")
    inputs = {"hidden": hidden.astype(np.float64), "rope_positions": positions}
    weights = rg.weights.from_hf(CONFIGS[name], hub.tensors, dtype="f64")
    expect_close(reference.evaluate(graph, {**inputs, **weights})["out"], out)


# Text towers are left out: transformers has no class that scores their tokens.
WHOLE = [
    name
    for name, config in CONFIGS.items()
    if FAMILIES[config["model_type"]].block and config["model_type"] not in WITHOUT_SCORES
]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.filterwarnings("ignore")  # of transformers and torch
@pytest.mark.usefixtures("quick_compilation")
def test_logits_are_those_of_transformers(live: ModuleType, name: str) -> None:
    """The block and the head that a checkpoint gives, by the whole model in float32."""
    hub = live.HubModel(CONFIGS[name])
    model = rg.Model.from_hf(CONFIGS[name], rg.weights.open(CONFIGS[name], hub.tensors), target="cpu")
    ours, _ = model.prefill(IDS, capacity=8, every=True)
    exact = live.HubModel(CONFIGS[name], live.torch.float64).logits()
    own = np.abs(hub.logits() - exact).max()  # of transformers in float32
    assert np.abs(np.asarray(ours) - exact).max() <= max(RELATIVE * np.abs(exact).max(), 2 * own)


SOME_WRAPPED = ("llava", "idefics3", "aya_vision", "kimi_k25", "gemma3", "qwen3_vl")


@pytest.mark.parametrize("outer", WRAPPED)
@pytest.mark.filterwarnings("ignore")  # of transformers and torch
@pytest.mark.usefixtures("quick_compilation")
def test_a_model_with_several_parts_scores_text_as_in_transformers(
    live: ModuleType, request: pytest.FixtureRequest, outer: str
) -> None:
    """From the checkpoint and the config of the whole, as they are given and as transformers saves them."""
    if outer not in SOME_WRAPPED and not request.config.getoption("--exhaustive"):
        pytest.skip("pytest --exhaustive compares every type that holds a text model")
    given = wrapped(outer)
    exact = live.HubModel(given, live.torch.float64)
    model = rg.Model.from_hf(given, rg.weights.open(given, exact.tensors, dtype="f32"), target="cpu")
    ours, _ = model.prefill(IDS, capacity=8, every=True)
    expect_close(np.asarray(ours), exact.logits())
    saved = exact.model.config.to_dict()
    assert Rest.of(*supported("Model", saved)) == Rest.of(*supported("Model", given))
    assert rg.from_hf(saved, seq=7) is rg.from_hf(given, seq=7)


def test_most_types_that_hold_a_text_model_are_compared() -> None:
    """The others need libraries that are not there, or have encoders of images that are not small."""
    assert set(WRAPPERS) - WRAPPED.keys() == {"ovis2", "perception_lm"}


@pytest.mark.parametrize("model_type", [name for name, family in FAMILIES.items() if family.tensors])
def test_every_family_with_tensors_is_compared(model_type: str) -> None:
    assert model_type in {config["model_type"] for config in CONFIGS.values()} | {
        "gemma3",
        "kimi_k2",
        "qwen2_vl",
        "qwen2_5_vl",
        "qwen3_vl",
    }
    family = FAMILIES[model_type]
    assert isinstance(family.tensors, Tensors) or callable(family.tensors)
