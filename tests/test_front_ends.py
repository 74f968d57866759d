"""Front-ends that compose: hidden states, residuals, caches of a prompt, and what a call tells about its tokens.

Each test compares a graph with the same graph of another form, whose meaning `test_models.py` holds against papers and
`test_model.py` against transformers. All values come from the float64 oracle.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_models import CAUSAL, SMALL_CONFIGS, drawn, refusal, sees, small

from ropegen import reference
from ropegen.ir import ops
from ropegen.ir.graph import Graph
from ropegen.models import from_hf

IDS = np.array([[3, 1, 4, 1, 5, 9, 2], [6, 5, 3, 5, 8, 9, 7]], np.int32)
READS_IDS = [name for name in SMALL_CONFIGS if name != "vit"]


def weights_of(graph: Graph) -> dict[str, np.ndarray]:
    """The same weights for every graph that reads them: they are drawn from their labels."""
    types = graph.input_types
    return {
        label: 0.5 * np.random.default_rng(list(label.encode())).standard_normal(types[label].shape)
        for label in graph.labels("parameter")
    }


def evaluated(graph: Graph, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    if "token_type_ids" in graph.input_types:
        inputs["token_type_ids"] = np.zeros(graph.input_types["token_type_ids"].shape, np.int32)
    return reference.evaluate(graph, {**weights_of(graph), **inputs})


def built(model_type: str, batch: int = 2, seq: int = 7, **build: Any) -> Graph:
    return from_hf(small(model_type), batch=batch, seq=seq, dtype="f64", **build)


@pytest.mark.parametrize("model_type", READS_IDS)
@pytest.mark.parametrize("layer", [0, 5])
def test_a_layer_continues_from_what_the_embedding_gives(model_type: str, layer: int) -> None:
    whole = evaluated(built(model_type, layer=layer, residual=True), ids=IDS)
    later = evaluated(built(model_type, layer=layer, start="hidden", residual=True), hidden=whole["residual"])
    assert np.array_equal(later["out"], whole["out"])
    assert np.array_equal(later["residual"], whole["residual"])
    assert whole["residual"].shape == (2, 7, 48)


def test_a_layer_of_an_image_model_reads_any_number_of_tokens() -> None:
    image = np.random.default_rng(4).standard_normal((1, 12, 8, 3))
    whole = evaluated(from_hf(small("vit"), dtype="f64", residual=True), image=image)
    assert whole["residual"].shape == (1, 7, 48)
    later = evaluated(built("vit", batch=1, seq=7, start="hidden"), hidden=whole["residual"])
    assert np.array_equal(later["out"], whole["out"])
    without_class = from_hf(small("vit"), seq=6, start="hidden", layer=3)
    assert without_class.input_types["hidden"].shape == (1, 6, 48)


def test_the_graph_of_a_hidden_state_has_no_embedding() -> None:
    for model_type in SMALL_CONFIGS:
        graph = from_hf(small(model_type), seq=6, start="hidden", layer=5)
        assert {"ids", "image", "embedding", "position_embedding", "embedding_norm"}.isdisjoint(graph.input_types)
        assert not any(isinstance(node.op, ops.Embed | ops.Sinusoid | ops.Patchify) for node in graph.nodes)


@pytest.mark.parametrize("model_type", CAUSAL)
@pytest.mark.parametrize("layer", [0, 5])
def test_a_prompt_writes_the_cache_that_steps_continue_from(model_type: str, layer: int) -> None:
    build: dict[str, Any] = {"layer": layer, "capacity": 12}
    whole = built(model_type, **build)
    empty = {label: drawn(whole, np.random.default_rng(1))[label] for label in whole.labels("state")}
    expected = evaluated(whole, ids=IDS, **empty)
    prompt = evaluated(built(model_type, seq=4, **build), ids=IDS[:, :4], **empty)
    assert np.allclose(prompt["out"], expected["out"][:, :4], rtol=1e-10, atol=1e-10)
    assert all(np.array_equal(prompt[label][:, 4:], empty[label][:, 4:]) for label in empty)
    step = evaluated(
        built(model_type, seq=3, phase="decode", **build),
        ids=IDS[:, 4:],
        positions=np.tile(np.arange(4, 7, dtype=np.int32), (2, 1)),
        lengths=np.full(2, 4, np.int32),
        **{label: prompt[label] for label in empty},
    )
    assert np.allclose(step["out"], expected["out"][:, 4:], rtol=1e-10, atol=1e-10)
    for label in empty:
        assert np.allclose(step[label], expected[label], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("model_type", READS_IDS)
@pytest.mark.parametrize("told", ["lengths", "padding"])
def test_padding_changes_nothing_before_it(model_type: str, told: str) -> None:
    alone = evaluated(built(model_type, batch=1, seq=4), ids=IDS[1:, :4])["out"]
    values = {
        "lengths": np.array([7, 4], np.int32),
        "padding": np.array([[1] * 7, [1] * 4 + [0] * 3], np.int32),
    }
    if model_type == "phi3":  # its frequencies follow the length, which padding adds to
        alone = evaluated(built(model_type, batch=1, seq=7), ids=IDS[1:])["out"][:, :4]
    padded = evaluated(built(model_type, inputs=[told]), ids=IDS, **{told: values[told]})["out"]
    assert np.allclose(padded[1:, :4], alone, rtol=1e-10, atol=1e-10)
    assert np.allclose(padded[:1], evaluated(built(model_type, batch=1), ids=IDS[:1])["out"], rtol=1e-10, atol=1e-10)
    if model_type in ("bert", "transformer"):
        assert np.abs(padded[1, :4] - evaluated(built(model_type), ids=IDS)["out"][1, :4]).max() > 0.01


@pytest.mark.parametrize("model_type", [name for name in READS_IDS if name != "phi3"])
def test_segments_are_sequences_of_their_own(model_type: str) -> None:
    """Two sequences side by side, each with its own positions, are the two sequences alone."""
    packed = evaluated(
        built(model_type, batch=1, inputs=["segments", "positions"]),
        ids=np.concatenate([IDS[:1, :3], IDS[1:, :4]], axis=1),
        segments=np.array([[0, 0, 0, 1, 1, 1, 1]], np.int32),
        positions=np.array([[0, 1, 2, 0, 1, 2, 3]], np.int32),
    )["out"]
    first = evaluated(built(model_type, batch=1, seq=3), ids=IDS[:1, :3])["out"]
    second = evaluated(built(model_type, batch=1, seq=4), ids=IDS[1:, :4])["out"]
    assert np.allclose(packed, np.concatenate([first, second], axis=1), rtol=1e-10, atol=1e-10)


def test_is_causal_false_shows_every_key() -> None:
    """transformers' `create_bidirectional_mask`; its windows count the distance, so one more key on either side."""
    free = from_hf(small("llama", is_causal=False), seq=9)
    assert all(sees(free, query, key) for query in range(9) for key in range(9))
    local = from_hf(small("mistral", is_causal=False), seq=9)
    assert all(sees(local, query, key) == (abs(query - key) <= 3) for query in range(9) for key in range(9))
    assert from_hf(small("llama", is_causal=True)) is from_hf(small("llama"))
    assert 'use phase="prefill"' in refusal(from_hf, small("llama", is_causal=False), phase="decode")


def test_both_phases_follow_one_rule_for_frequencies() -> None:
    """The longest sequence of a call picks the frequencies: the capacity of its cache, and else its tokens."""

    def lengths(**build: Any) -> set[int | None]:
        return {node.op.length for node in from_hf(small("phi3"), **build).nodes if isinstance(node.op, ops.Angles)}

    assert lengths(seq=4) == {4}
    assert lengths(seq=4, capacity=20) == lengths(phase="decode", capacity=20) == {20}
    assert "give capacity=, the same in prefill and decode" in refusal(from_hf, small("phi3"), phase="decode")


def test_layer_types_beside_a_window_are_read_where_transformers_reads_them() -> None:
    full = ["full_attention"] * 12
    assert from_hf(small("mistral", layer_types=full), seq=9) is from_hf(small("mistral"), seq=9)
    assert not sees(from_hf(small("mistral", layer_types=full), seq=9), 8, 0)
    assert sees(from_hf(small("gemma2", layer_types=full), seq=9), 8, 0)


def test_gemma3_never_caps_its_scores() -> None:
    assert from_hf(small("gemma3_text", attn_logit_softcapping=30.0), seq=9) is from_hf(small("gemma3_text"), seq=9)


def test_a_config_may_be_a_path_or_an_object(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps(small("llama")))
    expected = from_hf(small("llama"), seq=9)
    for given in (file, str(file), tmp_path, SimpleNamespace(to_dict=lambda: small("llama"))):
        assert from_hf(given, seq=9) is expected


def test_a_text_config_is_read_with_the_defaults_of_its_class() -> None:
    text = {name: value for name, value in small("gemma3_text").items() if name != "model_type"}
    expected = from_hf(small("gemma3_text"), seq=9, layer=5)
    assert from_hf({"model_type": "gemma3", "text_config": text, "vision_config": {}}, seq=9, layer=5) is expected
    assert from_hf({"model_type": "gemma3", "text_config": small("gemma3_text")}, seq=9, layer=5) is expected
    sparse = from_hf({"model_type": "gemma3", "text_config": {"hidden_size": 2560, "num_hidden_layers": 34}}, seq=2)
    assert sparse.input_types["embedding"].shape == (262_208, 2560)


@pytest.mark.parametrize(
    ("given", "build", "words"),
    [
        (small("llama", use_qk_norm=True), {}, ["llama is not known to have the field 'use_qk_norm'"]),
        (small("llama", attention_multiplier=0.1), {}, ["'attention_multiplier'", "leave it out"]),
        (small("llama", no_rope_layers=[1, 0]), {}, ["'no_rope_layers'"]),
        (small("llama", num_key_value_head=2), {}, ["did you mean 'num_key_value_heads'"]),
        (small("llama", quantization_config={"quant_method": "fp8"}), {}, ["quantization_config", "rg.weights"]),
        ({"model_type": "gemma3", "text_config": {}, "quantization_config": {"bits": 4}}, {}, ["quantization_config"]),
        ({"model_type": "gemma3", "text_config": {}, "mystery": 1}, {}, ["gemma3", "'mystery'"]),
        (small("llama"), {"start": "hiden"}, ["'hiden'", "did you mean 'hidden'"]),
        (small("llama"), {"start": "hidden", "vocabulary": 7}, ["no vocabulary"]),
        (small("llama"), {"inputs": ["lenghts"]}, ["'lenghts'", "did you mean 'lengths'"]),
        (small("llama"), {"inputs": ["padding", "segments"]}, ["one of lengths, padding and segments"]),
        (small("llama"), {"inputs": ["padding"], "capacity": 2048}, ["row i of a cache", "lengths"]),
        (small("llama"), {"inputs": ["lengths"], "phase": "decode"}, ["decode step", "leave inputs out"]),
        (small("phi3"), {"inputs": ["positions"]}, ["longest sequence", "leave positions out"]),
        (small("llama", is_causal="no"), {}, ["is_causal is 'no'", "true or false"]),
        (small("bert", pruned_heads={"1": [0]}), {}, ["pruned_heads"]),
        (None, {}, ["config is None", "config.json"]),
        (3, {}, ["config is 3", "model.config"]),
        ("nowhere/config.json", {}, ["cannot read nowhere/config.json"]),
    ],
)
def test_errors_name_what_is_wrong(given: Any, build: dict[str, Any], words: list[str]) -> None:
    said = refusal(from_hf, given, **build)
    for word in words:
        assert word in said
