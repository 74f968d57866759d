"""Whole models against transformers: against recorded scores and tokens, and against its classes where it is installed.

`python tests/record_models.py` wrote golden/vectors/models.json. The weights are drawn from the names of the tensors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import hub_layers
import jax
import numpy as np
import pytest
from hub_models import CONFIGS, GROUPED, PROMPT, QUICK, STEPS, drawn, tensors

import ropegen as rg
from ropegen.errors import RopegenError
from ropegen.model import Arrays
from ropegen.model.rest import Rest
from ropegen.model.sampling import Choice
from ropegen.models.front_end import supported

VECTORS = Path(__file__).resolve().parent.parent / "golden" / "vectors" / "models.json"
MOST = 2e-6  # of the largest score, where transformers itself is not more than half as far from float64


@cache
def vectors() -> dict[str, Any]:
    return json.loads(VECTORS.read_text())


@cache
def model_of(name: str) -> rg.Model:
    said = vectors()[name]
    config = said["config"]
    return rg.Model.from_hf(config, rg.weights.open(config, tensors(said["shapes"])))


def error(ours: Any, theirs: Any) -> float:
    theirs = np.asarray(theirs, np.float64)
    return float(np.abs(np.asarray(ours, np.float64) - theirs).max() / np.abs(theirs).max())


names = pytest.mark.parametrize("name", CONFIGS)
# Compiling a model takes seconds, so the lanes without transformers run the most different ones.
some = pytest.mark.parametrize("name", QUICK)


def test_every_config_is_recorded() -> None:
    assert {name: said["config"] for name, said in vectors().items() if name != "versions"} == CONFIGS


def compare(name: str) -> None:
    """The scores after every token of the prompt, and the greedy tokens after it, against those that are recorded."""
    model, said = model_of(name), vectors()[name]
    scores, _ = model.prefill(PROMPT, capacity=PROMPT.shape[1] + STEPS, every=True)
    assert error(scores, said["logits"]) <= max(MOST, 2 * said["own_error"])
    assert np.asarray(model.generate(PROMPT, STEPS)).tolist() == said["tokens"]


@some
def test_scores_and_tokens_are_those_of_transformers(name: str) -> None:
    compare(name)


@pytest.fixture(scope="session")
def live(recorder: Callable[[str], ModuleType]) -> ModuleType:
    """The module record_models, which runs the models of transformers."""
    return recorder("record_models")


@names
def test_transformers_still_gives_what_is_recorded(live: ModuleType, name: str) -> None:
    now, then = live.run(CONFIGS[name]), vectors()[name]
    assert now["shapes"] == then["shapes"]
    assert error(now["logits"], then["logits"]) <= MOST
    assert now["tokens"] == then["tokens"]
    if name not in QUICK:
        compare(name)


# Calls --------------------------------------------------------------------------------------------------------------


def test_a_padded_prompt_is_the_prompt_alone() -> None:
    model = model_of("gemma2")
    padded, cache = model.prefill(PROMPT, lengths=[9, 5], capacity=20)
    alone, own = model.prefill(PROMPT[1:, :5], capacity=20)
    assert error(padded[1:], alone) <= MOST
    following, _ = model.decode([[7]], own)
    again, after = model.decode([[7], [7]], cache)
    assert error(again[1:], following) <= MOST
    assert np.asarray(after.lengths).tolist() == [10, 6]


def test_several_tokens_at_once_are_one_after_the_other() -> None:
    model = model_of("gemma2")
    _, cache = model.prefill(PROMPT, capacity=20)
    at_once, _ = model.decode(PROMPT[:, :3], cache)
    _, cache = model.prefill(PROMPT, capacity=20)
    for token in range(3):
        scores, cache = model.decode(PROMPT[:, token : token + 1], cache)
        assert error(at_once[:, token : token + 1], scores) <= MOST


def test_draws_follow_their_key_and_the_scores() -> None:
    model = model_of("llama")
    drawn = [np.asarray(model.generate(PROMPT, 6, temperature=2.0, key=jax.random.key(seed))) for seed in (3, 3, 4)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    streamed = np.stack(list(model.stream(PROMPT, 6, temperature=2.0, key=jax.random.key(3))), axis=1)
    assert np.array_equal(streamed, drawn[0])


def test_a_draw_takes_likely_tokens_more_often() -> None:
    scores = np.log(np.array([[0.1, 0.5, 0.05, 0.35]], np.float32))

    def shares(choice: Choice) -> np.ndarray:
        rows = np.repeat(scores, 4000, axis=0)
        tokens = np.asarray(choice.draw(jax.random.key(1), rows)[1])
        return np.bincount(tokens, minlength=4) / 4000

    assert np.abs(shares(Choice(1.0, None)) - np.exp(scores[0])).max() < 0.03
    assert np.abs(shares(Choice(1.0, 2)) - np.array([0, 0.5, 0, 0.35]) / 0.85).max() < 0.03
    halved = np.exp(scores[0] / 2)
    assert np.abs(shares(Choice(2.0, None)) - halved / halved.sum()).max() < 0.03
    assert np.array_equal(shares(Choice(5.0, 1)), [0, 1, 0, 0])
    assert np.array_equal(shares(Choice(None, None)), [0, 1, 0, 0])


def test_a_sequence_ends_at_its_stop() -> None:
    model = model_of("llama")
    tokens = np.array(vectors()["llama"]["tokens"])[:, :12]
    stop = int(tokens[0, 4])
    stopped = np.asarray(model.generate(PROMPT, 12, stop=stop))
    for row, said in zip(stopped, tokens, strict=True):
        end = said.tolist().index(stop) if stop in said else 12
        assert np.array_equal(row[:end], said[:end])
        assert (row[end:] == stop).all()


def test_nothing_compiles_after_the_first_step() -> None:
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, seconds, **_: compiled.append(event))
    model = model_of("llama")
    tokens = model.stream(PROMPT, 12)
    next(tokens), next(tokens)
    assert any("compile" in event for event in compiled)
    compiled.clear()
    assert len(list(tokens)) == 10
    assert compiled == []
    first = model.generate(PROMPT, 5)
    compiled.clear()
    assert np.array_equal(model.generate(PROMPT, 5), first)
    assert compiled == []


def test_layers_of_one_kind_share_one_plan() -> None:
    model = model_of("gemma3_text")
    program = model.programs.program("decode", 2, 1, 20)
    assert sorted(program.distinct.values()) == [[0], [1], [2]]  # ids, a local layer, a full layer
    program = model_of("gpt_neox").programs.program("decode", 2, 1, 20)
    assert sorted(program.distinct.values()) == [[0], [1, 2]]


MIXTURES = {
    "mixtral": {"num_local_experts": 12, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 12, "num_experts_per_tok": 3, "moe_intermediate_size": 40, "norm_topk_prob": True},
    "gpt_oss": {"num_local_experts": 12, "num_experts_per_tok": 2, "rope_scaling": CONFIGS["gpt_oss"]["rope_scaling"]},
    "dots1": {"n_routed_experts": 12, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 3, "topk_group": 2},
    "qwen2_moe": {"num_experts": 12, "num_experts_per_tok": 2, "moe_intermediate_size": 40},
}


@pytest.mark.parametrize("name", MIXTURES)
def test_a_token_alone_computes_its_experts_and_many_tokens_compute_all(name: str) -> None:
    """The results are equal, and one token takes a fraction of the operations."""
    config = {"model_type": name, **GROUPED, **MIXTURES[name]}
    rest = Rest.of(*supported("Model", config))
    shapes = {
        "router_weight": (48, 12),
        "router_bias": (12,),
        "router_correction": (12,),
        "shared_router_weight": (48, 1),
    }
    shapes |= {f"shared_{part}_weight": (48, 40) for part in ("gate", "up")} | {"shared_down_weight": (40, 48)}
    shapes |= {f"experts_{part}_weight": (12, 48, 40) for part in ("gate", "up")} | {
        "experts_down_weight": (12, 40, 48)
    }
    shapes |= {f"experts_{part}_bias": (12, 40) for part in ("gate", "up")} | {"experts_down_bias": (12, 48)}
    values = {label: drawn(label, shape) for label, shape in {**shapes, "mlp_norm": (48,)}.items()}
    hidden, out = drawn("hidden", (1, 8, 48)), drawn("out", (1, 8, 48))
    layer = jax.jit(rest.layer)
    together = layer(hidden, out, values)
    one = jax.jit(rest.layer).lower(hidden[:, :1], out[:, :1], values).cost_analysis()["flops"]
    assert one < layer.lower(hidden, out, values).cost_analysis()["flops"] / 8 / 3
    for token in range(8):
        alone = rest.layer(hidden[:, [token]], out[:, [token]], values)
        assert error(alone, together[:, [token]]) <= 1e-6
    # In bfloat16 a token may choose other experts. These are tokens that do not, in most of the mixtures.
    narrow = {label: value.astype("bfloat16") for label, value in {**values, "hidden": hidden, "out": out}.items()}
    rounded = [np.asarray(layer(narrow["hidden"][:, :count], narrow["out"][:, :count], narrow)) for count in (1, 8)]
    assert all(result.dtype.name == "bfloat16" for result in rounded)
    assert np.median(np.abs(rounded[1].astype(np.float32) - together)) <= 0.02 * np.abs(together).max()


ROUTED = {**GROUPED, "num_hidden_layers": 2, "n_routed_experts": 8, "moe_intermediate_size": 8, "head_dim": 16}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"n_group": 3}, ["layer 1 has 8 experts", "groups have equal sizes"]),
        ({"n_group": 8, "topk_group": 8}, ["sizes of at least 2"]),
        ({"n_group": 4, "num_experts_per_tok": 3}, ["chooses 3 from 1 of 4 groups"]),
        ({"num_experts_per_tok": 9}, ["8 experts", "chooses 9"]),
        ({"n_group": 2, "topk_group": 3}, ["topk_group is 3 of 2 groups"]),
        ({"routed_scaling_factor": 0}, ["routed_scaling_factor is 0", "positive"]),
        ({"num_experts_per_tok": None}, ["num_experts_per_tok"]),
        ({"n_shared_experts": 0}, ["mlp.shared_experts.", "does not read"]),
    ],
)
def test_mixtures_that_do_not_fit_are_named(config: dict[str, Any], words: list[str]) -> None:
    given = {"model_type": "glm4_moe", **ROUTED, "num_experts_per_tok": 2}
    held = tensors(dict(_tensors_of_glm()))
    rg.Model.from_hf(given, held)
    with pytest.raises(RopegenError) as raised:
        rg.Model.from_hf({**given, **config}, held)
    for word in words:
        assert word in str(raised.value)


def _tensors_of_glm() -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names and shapes of a small GLM-4.5, with one feed-forward part in layer 0 and a mixture in layer 1."""
    yield from {"model.embed_tokens.weight": (61, 48), "model.norm.weight": (48,), "lm_head.weight": (61, 48)}.items()
    for layer in ("model.layers.0", "model.layers.1"):
        yield from ((f"{layer}.{norm}_layernorm.weight", (48,)) for norm in ("input", "post_attention"))
        sizes = {"q": (64, 48), "k": (32, 48), "v": (32, 48), "o": (48, 64)}
        yield from ((f"{layer}.self_attn.{part}_proj.weight", shape) for part, shape in sizes.items())
    folders = {"model.layers.0.mlp": 40, "model.layers.1.mlp.shared_experts": 8}
    folders |= {f"model.layers.1.mlp.experts.{expert}": 8 for expert in range(8)}
    for folder, inner in folders.items():
        yield from ((f"{folder}.{part}_proj.weight", (inner, 48)) for part in ("gate", "up"))
        yield f"{folder}.down_proj.weight", (48, inner)
    yield "model.layers.1.mlp.gate.weight", (8, 48)
    yield "model.layers.1.mlp.gate.e_score_correction_bias", (8,)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "mellum", "mlp_layer_types": ["sparse"]}, ["mlp_layer_types", "each layer up to 1"]),
        (
            {"model_type": "exaone_moe", "mlp_layer_types": ["sparse", "soft"]},
            ["mlp_layer_types", '"dense" or "sparse"'],
        ),
        ({"model_type": "qwen3_moe", "mlp_only_layers": 1}, ["mlp_only_layers is 1", "list of layers"]),
        ({"model_type": "deepseek_v3", "scoring_func": "softmax"}, ["scoring_func 'softmax'", "'sigmoid'"]),
        ({"model_type": "deepseek_v2", "norm_topk_prob": True}, ["norm_topk_prob True"]),
    ],
)
def test_fields_of_mixtures_that_are_not_supported(config: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(RopegenError) as raised:
        Rest.of(*supported("Model", {**GROUPED, "num_hidden_layers": 2, "num_experts_per_tok": 2, **config}))
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("falcon-groups", {"parallel_attn": False}, ["parallel_attn is false", "new architecture"]),
        ("falcon-groups", {"num_ln_in_parallel_attn": 3}, ["num_ln_in_parallel_attn is 3", "(None, 1, 2)"]),
        (
            "dbrx",
            {"ffn_config": {"moe_normalize_expert_weights": 2.0}},
            ["moe_normalize_expert_weights is 2.0", "only 1"],
        ),
        ("phimoe", {"num_experts_per_tok": 3}, ["num_experts_per_tok 3", "only 2"]),
        ("apertus", {"hidden_act": "xielus"}, ["hidden_act 'xielus'"]),
    ],
)
def test_fields_of_a_block_that_are_not_supported(name: str, change: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(RopegenError) as raised:
        Rest.of(*supported("Model", {**hub_layers.CONFIGS[name], **change}))
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model: model.prefill([1, 2]), ["ids are int32[2]", "[[1, 2]]"]),
        (lambda model: model.prefill([[1.0]]), ["give integers"]),
        (lambda model: model.prefill([[1] * 9], capacity=8), ["9 tokens", "8 rows"]),
        (lambda model: model.prefill([[1, 2]], lengths=[3]), ["lengths are [3]", "1 to 2 tokens"]),
        (lambda model: model.generate([[1]], 0), ["steps", "at least 1"]),
        (lambda model: model.generate([[1]], 4, capacity=4), ["1 + 4 tokens", "4 rows"]),
        (lambda model: model.generate([[1]], 4, temperature=1.0), ["key=jax.random.key(seed)"]),
        (lambda model: model.generate([[1]], 4, top_k=3), ["temperature=1.0"]),
        (lambda model: model.generate([[1]], 4, temperature=0), ["above 0"]),
        (lambda model: model.decode([[1]], model.prefill([[1, 2]], capacity=2)[1]), ["cache of 2", "larger cache"]),
    ],
)
def test_errors_name_what_is_wrong(call: Any, words: list[str]) -> None:
    with pytest.raises(RopegenError) as raised:
        call(model_of("llama"))
    for word in words:
        assert word in str(raised.value)


def test_weights_that_do_not_fit_are_named() -> None:
    config = CONFIGS["llama"]
    held = rg.weights.open(config, tensors(vectors()["llama"]["shapes"]))

    def damaged(label: str, change: Any) -> str:
        fronts = [dict(held.front_end(layer, start="hidden" if layer else "ids")) for layer in range(3)]
        fronts[1] = change(fronts[1], label)
        weights = Arrays(fronts, [held.block(layer) for layer in range(3)], held.head())
        with pytest.raises(RopegenError) as raised:
            rg.Model.from_hf(config, weights).prefill(PROMPT, capacity=12)
        return str(raised.value)

    without = damaged("k_weight", lambda front, label: {name: x for name, x in front.items() if name != label})
    assert "the weights of layer 1 lack k_weight" in without
    turned = damaged("k_weight", lambda front, label: {**front, label: np.asarray(front[label]).T})
    assert "k_weight of layer 1 is float32[24, 48]" in turned
    assert "layer 1 does not read q_bias" in damaged(
        "q_bias", lambda front, label: {**front, label: front["input_norm"]}
    )
    with pytest.raises(RopegenError, match="bert is an encoder"):
        rg.Model.from_hf({"model_type": "bert"}, held)
