"""`from_hf` against the published facts of every model, written here a second time, and against plain NumPy.

The declarations of `ropegen.models` have a section of their own: one declaration serves `Rope.from_hf` and `from_hf`.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hub_layers import CONFIGS
from published import DEEPSEEK_V3, GEMMA3_4B, GEMMA4

from ropegen import masks, reference
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node
from ropegen.models import FAMILIES, from_case, from_hf
from ropegen.models.families import gather
from ropegen.models.family import Declined, Family, FrontEnd, Rotary
from ropegen.models.wrappers import WRAPPERS
from ropegen.rotary import Rope
from ropegen.scaling import Scaling

CASES = Path(__file__).parents[1] / "golden" / "cases"
QKV, QKVO = ("q_bias", "k_bias", "v_bias"), ("q_bias", "k_bias", "v_bias", "o_bias")


def case(name: str) -> dict[str, Any]:
    return json.loads((CASES / name / "config.json").read_text())


def config(name: str, **changes: object) -> dict[str, Any]:
    """A golden config with some fields changed, or taken out by `...`."""
    changed = {**case(name)["config"], **changes}
    return {field: value for field, value in changed.items() if value is not ...}


def ops_in(graph: Graph, kind: type[ops.Op]) -> list[Any]:
    return [node.op for node in graph.nodes if isinstance(node.op, kind)]


def attend(graph: Graph) -> Node:
    (attended,) = (node for node in graph.nodes if isinstance(node.op, ops.Attend))
    return attended


def sees(graph: Graph, query: int, key: int) -> bool:
    op = attend(graph).op
    assert isinstance(op, ops.Attend)
    return bool(masks.evaluate(op.visible, np, q_pos=np.int32(query), kv_pos=np.int32(key)))


@dataclass(frozen=True)
class Facts:
    """What the papers and model cards say. `window` is the number of keys a query sees, itself included."""

    features: int
    vocabulary: int | None
    seq: int
    heads: int
    kv_heads: int
    width: int
    norms: list[tuple[str, float, float]]  # kind, epsilon, what the stored weight is offset by
    biases: tuple[str, ...] = ()
    rope: tuple[int, str, float] | None = None  # rotated width, pairing, theta
    causal: bool = True
    window: int | None = None
    softcap: float | None = None
    factor: float | None = None  # of the embedding
    inputs: tuple[str, ...] = ("ids",)


LLAMA3 = Facts(4096, 128_256, 2048, 32, 8, 128, [("rms", 1e-5, 0)], rope=(128, "half", 5e5))
# 59.75 is sqrt(3584) = 59.87 in bfloat16, whose numbers are a quarter apart there.
GEMMA2 = Facts(3584, 256_000, 8192, 16, 8, 256, [("rms", 1e-6, 1)], rope=(256, "half", 1e4), softcap=50.0, factor=59.75)
FACTS = {
    "llama3-8b-prefill": LLAMA3,
    "pythia-1b": Facts(2048, 50_304, 2048, 8, 8, 256, [("layer", 1e-5, 0)], QKVO, rope=(64, "half", 1e4)),
    "gpt-j-6b": Facts(4096, 50_400, 2048, 16, 16, 256, [("layer", 1e-5, 0)], rope=(64, "interleaved", 1e4)),
    "gemma2-9b-local": Facts(**{**GEMMA2.__dict__, "window": 4096}),
    "gemma2-9b-global": GEMMA2,
    "qwen3-8b": Facts(4096, 151_936, 2048, 32, 8, 128, [("rms", 1e-6, 0)] * 3, rope=(128, "half", 1e6)),
    "bert-base": Facts(
        768, 30_522, 512, 12, 12, 64, [("layer", 1e-12, 0)], QKVO, causal=False, inputs=("ids", "token_type_ids")
    ),
    "vit-b16": Facts(
        768, None, 197, 12, 12, 64, [("layer", 1e-12, 0)], ("patch_bias", *QKVO), causal=False, inputs=("image",)
    ),
    "transformer-base": Facts(512, 37_000, 512, 8, 8, 64, [], causal=False, factor=math.sqrt(512)),
    "gpt2-small": Facts(768, 50_257, 1024, 12, 12, 64, [("layer", 1e-5, 0)], QKVO),
    "bloom-560m": Facts(1024, 250_880, 2048, 16, 16, 64, [("layer", 1e-5, 0)] * 2, QKVO),
}


def test_every_case_has_its_facts() -> None:
    assert {path.parent.name for path in CASES.glob("*/config.json")} == {*FACTS, "llama3-8b-decode"}


@pytest.mark.parametrize("name", FACTS)
def test_case_is_the_published_model(name: str) -> None:
    facts, graph = FACTS[name], from_case(case(name))
    types = graph.input_types
    node = attend(graph)
    op = node.op
    assert isinstance(op, ops.Attend)
    q, k, v = node.operands[:3]
    assert q.type.shape == (1, facts.seq, facts.heads, facts.width)
    assert k.type.shape == v.type.shape == (1, facts.seq, facts.kv_heads, facts.width)
    assert op.scale == pytest.approx(1 / math.sqrt(facts.width), rel=1e-12)
    assert op.softcap == facts.softcap
    assert [label for label, _ in graph.outputs] == ["out"]
    assert graph.outputs[0][1].type.shape == (1, facts.seq, facts.features)
    assert set(graph.labels("activation")) == set(facts.inputs)
    assert {label for label in types if label.endswith("_bias") and "norm" not in label} == set(facts.biases)
    assert all(types[label].dtype == "bf16" for label in graph.labels("parameter"))
    if facts.vocabulary is not None:
        assert types["embedding"].shape == (facts.vocabulary, facts.features)
    assert types["q_weight"].shape == (facts.features, facts.heads * facts.width)
    assert types["k_weight"].shape == types["v_weight"].shape == (facts.features, facts.kv_heads * facts.width)
    assert types["o_weight"].shape == (facts.heads * facts.width, facts.features)
    norms = ops_in(graph, ops.Norm)
    assert [(norm.kind, norm.epsilon, norm.weight_offset) for norm in norms] == facts.norms
    assert all(("bias" in norm.given) == (norm.kind == "layer") for norm in norms)
    assert [scale.factor for scale in ops_in(graph, ops.Scale)] == ([] if facts.factor is None else [facts.factor])

    rotated = {
        (angles.dim, rotate.pairing, angles.theta)
        for angles in ops_in(graph, ops.Angles)
        for rotate in ops_in(graph, ops.Rotate)
    }
    assert rotated == ({facts.rope} if facts.rope else set())
    assert len(ops_in(graph, ops.Rotate)) == (2 if facts.rope else 0)
    assert all(type(angles.scaling) is Scaling for angles in ops_in(graph, ops.Angles))

    for query in (0, 1, facts.seq // 2, facts.seq - 1):
        for key in {0, 1, max(0, query - 4096), max(0, query - 4095), query, min(query + 1, facts.seq - 1)}:
            near = facts.window is None or query - key < facts.window
            assert sees(graph, query, key) == ((key <= query and near) or not facts.causal), (query, key)


def test_what_is_particular_to_one_model() -> None:
    types = {name: from_case(case(name)).input_types for name in FACTS}
    assert types["vit-b16"]["image"].shape == (1, 224, 224, 3)
    assert types["vit-b16"]["patch_weight"].shape == (16 * 16 * 3, 768)
    assert types["vit-b16"]["position_embedding"].shape == (197, 768)  # 14 x 14, and the class token
    assert types["vit-b16"]["class_token"].shape == (1, 768)
    assert types["bert-base"]["position_embedding"].shape == (512, 768)
    assert types["bert-base"]["token_type_embedding"].shape == (2, 768)
    assert types["gpt2-small"]["position_embedding"].shape == (1024, 768)
    assert types["qwen3-8b"]["q_norm"].shape == types["qwen3-8b"]["k_norm"].shape == (128,)
    assert [label for label in types["bloom-560m"] if "norm" in label] == [
        "embedding_norm",
        "embedding_norm_bias",
        "input_norm",
        "input_norm_bias",
    ]
    (sinusoid,) = ops_in(from_case(case("transformer-base")), ops.Sinusoid)
    assert (sinusoid.width, sinusoid.pairing, sinusoid.theta) == (512, "interleaved", 10_000.0)


def test_bloom_takes_from_the_score_its_slope_times_the_distance() -> None:
    op = attend(from_case(case("bloom-560m"))).op
    assert isinstance(op, ops.Attend)
    head = np.arange(16, dtype=np.int32)
    score = masks.evaluate(op.score, np, score=np.float64(3.0), q_pos=np.int32(70), kv_pos=np.int32(60), head=head)
    assert np.allclose(score, 3.0 - 10 * 2.0 ** (-(head + 1) / 2), rtol=1e-6)


def test_decode_case_carries_a_cache() -> None:
    graph = from_case(case("llama3-8b-decode"))
    types = {label: (declared.shape, declared.dtype) for label, declared in graph.input_types.items()}
    assert types["ids"] == types["positions"] == ((1, 1), "i32")
    assert types["lengths"] == ((1,), "i32")
    assert types["k_cache"] == types["v_cache"] == ((1, 8192, 8, 128), "bf16")
    assert set(graph.labels("state")) == {"k_cache", "v_cache"}
    assert {label: value.type.shape for label, value in graph.outputs} == {
        "out": (1, 1, 4096),
        "k_cache": (1, 8192, 8, 128),
        "v_cache": (1, 8192, 8, 128),
    }
    assert set(graph.labels("parameter")) == set(from_case(case("llama3-8b-prefill")).labels("parameter"))


# Other families, small, by what tells them apart --------------------------------------------------------------------

SMALL = {
    "vocab_size": 40,
    "hidden_size": 48,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
}
GROUPED = {**SMALL, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "head_dim": 12}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8, "truncate": False}
LONG = {"type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], "long_factor": [2.0, 3, 4, 5, 6, 7]}
MROPE = {"rope_theta": 10_000.0, "rope_scaling": {"rope_type": "default", "mrope_section": [2, 2, 2]}}
LATENT = {
    **SMALL,
    "rms_norm_eps": 1e-6,
    "kv_lora_rank": 10,
    "q_lora_rank": 8,
    "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4,
    "v_head_dim": 5,
    "rope_scaling": {**DEEPSEEK_V3["rope_scaling"], "original_max_position_embeddings": 8},
}
SMALL_CONFIGS: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "mistral": {**GROUPED, "sliding_window": 3},
    "qwen2": {**GROUPED, "use_sliding_window": True, "sliding_window": 4, "max_window_layers": 3},
    "qwen3": GROUPED,
    "phi3": {**GROUPED, "rope_scaling": LONG, "original_max_position_embeddings": 8},
    "gemma": {**GROUPED, "num_key_value_heads": 1},
    "gemma2": {**GROUPED, "sliding_window": 3, "query_pre_attn_scalar": 20},
    "gemma3_text": {**GROUPED, "sliding_window": 3, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    "gpt_oss": {**GROUPED, "sliding_window": 3, "rope_theta": 150_000, "rope_scaling": YARN},
    "gpt_neox": {**SMALL, "layer_norm_eps": 1e-5, "rotary_pct": 0.5, "rotary_emb_base": 10_000},
    "gptj": {**SMALL, "layer_norm_epsilon": 1e-5, "rotary_dim": 4},
    "gpt2": {**SMALL, "layer_norm_epsilon": 1e-5},
    "bloom": {**SMALL, "layer_norm_epsilon": 1e-5},
    "bert": {**SMALL, "layer_norm_eps": 1e-12, "type_vocab_size": 2},
    "kimi_k2": LATENT,
    "qwen2_vl": {**GROUPED, **MROPE},
    "qwen2_5_vl": {**GROUPED, **MROPE},
    "qwen3_vl": {**GROUPED, **MROPE},
    "vit": {
        **{name: size for name, size in SMALL.items() if name != "vocab_size"},
        "layer_norm_eps": 1e-12,
        "image_size": [12, 8],
        "patch_size": 4,
    },
    "transformer": {**SMALL},
}
# Types that tests/test_hub_layers.py compares with transformers, and that nothing here tells apart.
COMPARED = {config["model_type"] for config in CONFIGS.values()} - set(SMALL_CONFIGS)
CAUSAL = [name for name in SMALL_CONFIGS if name not in ("bert", "vit", "transformer")]


def small(model_type: str, **changes: object) -> dict[str, Any]:
    changed = {"model_type": model_type, **SMALL_CONFIGS[model_type], **changes}
    return {field: value for field, value in changed.items() if value is not ...}


def window(model_type: str, layer: int, **changes: object) -> int | None:
    """How many keys a query far from the start sees, by asking the mask."""
    graph = from_hf(small(model_type, **changes), layer=layer, seq=31)
    seen = sum(sees(graph, 30, key) for key in range(31))
    return None if seen == 31 else seen


def test_small_configs_are_every_family_with_a_front_end() -> None:
    built = {name for name, family in FAMILIES.items() if isinstance(family.front_end, FrontEnd) and not family.text}
    assert {*SMALL_CONFIGS, *COMPARED} == built


def test_which_layers_are_local() -> None:
    layers = range(12)
    assert [window("mistral", layer) for layer in layers] == [3] * 12
    assert [window("mistral", layer, sliding_window=None) for layer in layers] == [None] * 12
    assert [window("qwen2", layer) for layer in layers] == [None] * 3 + [4] * 9
    assert [window("qwen2", layer, use_sliding_window=False) for layer in layers] == [None] * 12
    assert [window("gemma2", layer) for layer in layers] == [3, None] * 6
    assert [window("gpt_oss", layer) for layer in layers] == [3, None] * 6
    assert [window("gemma3_text", layer) for layer in layers] == ([3] * 5 + [None]) * 2
    assert [window("llama", layer) for layer in layers] == [None] * 12
    stated = ["full_attention", "sliding_attention", "sliding_attention"] * 4
    assert [window("gemma3_text", layer, layer_types=stated) for layer in layers] == [None, 3, 3] * 4


def test_gemma3_turns_local_and_global_layers_by_their_own_theta() -> None:
    def angles(layer: int) -> ops.Angles:
        (made,) = set(ops_in(from_hf(small("gemma3_text"), layer=layer), ops.Angles))
        return made

    assert (angles(0).theta, angles(0).scaling.kind) == (10_000.0, "none")
    assert (angles(5).theta, angles(5).scaling.kind) == (1_000_000.0, "linear")


def test_what_the_config_classes_fill_in() -> None:
    published = {"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34, "sliding_window": 1024}
    graph = from_hf(published, seq=8)
    assert attend(graph).operands[0].type.shape == (1, 8, 8, 256)
    assert attend(graph).operands[1].type.shape == (1, 8, 4, 256)
    assert ops_in(graph, ops.Attend)[0].scale == 1 / 16
    assert ops_in(graph, ops.Attend)[0].softcap is None
    bare = small("gemma2", query_pre_attn_scalar=...)
    assert ops_in(from_hf(bare), ops.Attend)[0].softcap == 50.0
    assert ops_in(from_hf(bare), ops.Attend)[0].scale == 1 / 16


def test_scale_is_what_gemma2_states() -> None:
    assert ops_in(from_hf(small("gemma2")), ops.Attend)[0].scale == pytest.approx(20**-0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("model_type", "changes", "biases"),
    [
        ("llama", {}, ()),
        ("llama", {"attention_bias": True}, QKVO),
        ("mistral", {}, ()),
        ("qwen2", {}, QKV),
        ("qwen3", {"attention_bias": True}, QKVO),
        ("phi3", {}, ()),
        ("gemma", {}, ()),
        ("gpt_oss", {}, QKVO),
        ("gpt_neox", {"attention_bias": False}, ()),
        ("gptj", {}, ()),
        ("vit", {"qkv_bias": False}, ("patch_bias", "o_bias")),
    ],
)
def test_biases(model_type: str, changes: dict[str, object], biases: tuple[str, ...]) -> None:
    labels = from_hf(small(model_type, **changes)).labels("parameter")
    assert {label for label in labels if label.endswith("_bias") and "norm" not in label} == set(biases)


def test_gpt_oss_has_a_sink_for_each_head() -> None:
    graph = from_hf(small("gpt_oss"))
    sinks = attend(graph).operand("sinks")
    assert sinks is not None
    assert sinks.type.shape == (4,)


def test_the_embedding_scale_is_rounded_to_the_element_type() -> None:
    factors = {dtype: ops_in(from_hf(small("gemma"), dtype=dtype), ops.Scale)[0].factor for dtype in ("bf16", "f32")}
    # sqrt(48) = 6.9282; the bfloat16 numbers between 4 and 8 are 1/32 apart.
    assert factors == {"bf16": 222 / 32, "f32": float(np.float32(math.sqrt(48)))}


def test_the_length_that_picks_the_frequencies() -> None:
    def frequencies(**build: Any) -> np.ndarray:
        (angles,) = set(ops_in(from_hf(small("phi3"), **build), ops.Angles))
        return angles.rope.inverse_frequencies(angles.head_width, angles.length)

    plain = 10_000.0 ** (-np.arange(6) / 6)
    assert np.allclose(frequencies(seq=8), plain / LONG["short_factor"])
    for build in ({"seq": 9}, {"seq": 8, "capacity": 16}, {"phase": "decode", "capacity": 16}):
        assert np.allclose(frequencies(**build), plain / LONG["long_factor"])


def test_transformers_5_says_the_same() -> None:
    newer = small("gpt_oss", rope_theta=..., rope_scaling=..., rope_parameters={**YARN, "rope_theta": 150_000})
    assert from_hf(newer) is from_hf(small("gpt_oss"))
    by_layer = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    }
    newer = small("gemma3_text", rope_scaling=..., rope_parameters=by_layer)
    assert all(from_hf(newer, layer=layer) is from_hf(small("gemma3_text"), layer=layer) for layer in (0, 5))


def test_either_spelling_of_a_field_will_do() -> None:
    spelled = {"hidden_size": "n_embd", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer"}
    other = {spelled.get(name, name): value for name, value in small("gpt2").items()}
    assert from_hf(other) is from_hf(small("gpt2"))
    assert from_hf({**other, "hidden_size": 48}) is from_hf(small("gpt2"))


def test_what_is_left_out_is_chosen_for_the_model() -> None:
    assert from_hf(config("llama3-8b-prefill")).input_types["ids"].shape == (1, 2048)
    assert from_hf(config("bert-base")).input_types["ids"].shape == (1, 512)
    assert from_case(config("gpt2-small")).input_types["ids"].shape == (1, 1024)
    step = from_hf(config("llama3-8b-prefill"), phase="decode")
    assert step is from_case(case("llama3-8b-decode"))
    assert from_hf(small("bloom", seq_length=16, max_position_embeddings=...), phase="decode").input_types[
        "k_cache"
    ].shape == (1, 16, 4, 12)


def test_vocabulary_reduces_the_table_alone() -> None:
    whole, reduced = (from_hf(config("llama3-8b-prefill"), seq=16, vocabulary=rows) for rows in (None, 256))
    assert reduced.input_types == {
        **whole.input_types,
        "embedding": whole.input_types["embedding"].with_shape(256, 4096),
    }


# Declarations -------------------------------------------------------------------------------------------------------

# A config of every type that has no front-end, and of DeepSeek's, as far as rotation goes. The text types hold what
# text_config holds.
ROTARY_CONFIGS: dict[str, dict[str, Any]] = {
    "deepseek_v2": {**DEEPSEEK_V3, "model_type": "deepseek_v2"},
    "deepseek_v3": DEEPSEEK_V3,
    "gemma3": GEMMA3_4B,
    "gemma4": {"model_type": "gemma4", "text_config": GEMMA4},
    "gemma4_text": GEMMA4,
}
UNROTATED = ("bert", "bloom", "gpt2", "mt5", "t5", "transformer", "vit")


def any_config(model_type: str) -> dict[str, Any]:
    if model_type in SMALL_CONFIGS:
        return small(model_type)
    return ROTARY_CONFIGS.get(model_type, {"model_type": model_type})


def read(model_type: str, **changes: object) -> Rope:
    """What `Rope.from_hf` reads, for the full layers where kinds of layer differ."""
    layered = model_type.startswith(("gemma3", "gemma4"))
    return Rope.from_hf({**any_config(model_type), **changes}, "full_attention" if layered else None)


def refusal(function: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(RopegenError) as raised:
        function(*arguments, **options)
    return str(raised.value)


def test_every_declared_type_has_a_config_here() -> None:
    assert set(FAMILIES) == {*SMALL_CONFIGS, *COMPARED, *ROTARY_CONFIGS, "t5", "mt5"}


@pytest.mark.parametrize("model_type", [name for name in FAMILIES if name not in COMPARED])
def test_one_declaration_serves_the_rope_and_the_graph(model_type: str) -> None:
    """A type that one of the two readers knows is known to the other, which reads it too or says why it does not."""
    family = FAMILIES[model_type]
    assert isinstance(family.positions, Rotary) == (model_type not in UNROTATED)
    rope = read(model_type) if isinstance(family.positions, Rotary) else None
    if rope is None:
        assert f"{model_type} config: the model has {family.positions} positions and no Rope" in refusal(
            read, model_type
        )
    if isinstance(family.front_end, Declined):
        assert family.front_end.reason
        said = refusal(from_hf, any_config(model_type))
        assert re.fullmatch(rf"model_type '{model_type}(_text)?' is not supported: (.*)", said)
        assert said.endswith(family.front_end.reason)
        return
    graph = from_hf(any_config(model_type), seq=None if model_type == "vit" else 7, layer=5)
    # Angles hold the rotated width of a head of 12 features, or of Gemma 3's 256; the pairing is the rotation's.
    width = 256 if family.text else 12
    one_axis: dict[str, Any] = {"sections": (), "interleaved_sections": False}  # a prompt of text has one
    expected = {replace(rope, dim=rope.dim or width, pairing="half", **one_axis)} if rope else set()
    assert {angles.rope for angles in ops_in(graph, ops.Angles)} == expected
    assert {rotate.pairing for rotate in ops_in(graph, ops.Rotate)} == ({rope.pairing} if rope else set())


@pytest.mark.parametrize("model_type", SMALL_CONFIGS)
def test_both_readers_refuse_the_same_rope_fields(model_type: str) -> None:
    """A field that the model's code ignores is refused in the same words, whichever function reads the config.

    Where nothing rotates, `Rope.from_hf` says that instead.
    """
    damages: list[dict[str, object]] = [{"rope_thetta": 1e4}, {"rotary_dims": 4}]
    if model_type == "gpt_neox":
        damages += [{"rope_theta": 5e5}, {"partial_rotary_factor": 0.25}]
    if model_type == "gptj":
        damages += [{"rope_theta": 5e5}, {"rope_scaling": {"type": "linear", "factor": 2.0}}]
    for damage in damages:
        said = refusal(from_hf, {**small(model_type), **damage}, layer=5)
        assert next(iter(damage)) in said or "rope parameters" in said
        assert refusal(read, model_type, **damage) == (
            f"{model_type} config: the model has {FAMILIES[model_type].positions} positions and no Rope; attend without one"
            if model_type in UNROTATED
            else said
        )


@pytest.mark.parametrize(("model_type", "theta"), [("gptj", "rope_theta"), ("gpt_neox", "rope_theta")])
def test_both_readers_accept_a_copy_of_the_theta_that_the_code_has(model_type: str, theta: str) -> None:
    assert from_hf(small(model_type, **{theta: 10_000})) is from_hf(small(model_type))
    assert read(model_type, **{theta: 10_000}) == read(model_type)


def test_a_default_of_the_config_class_serves_both_readers() -> None:
    """Gemma 3 configs leave `max_position_embeddings` out, 131072 in its config class; yarn's factor depends on it."""
    yarn = {"rope_type": "yarn", "original_max_position_embeddings": 32_768}
    published = {"model_type": "gemma3_text", "num_hidden_layers": 26, "sliding_window": 512, "rope_scaling": yarn}
    (angles,) = set(ops_in(from_hf(published, seq=4, layer=5), ops.Angles))
    assert Rope.from_hf(published, "full_attention").scaling == angles.scaling
    assert angles.scaling.factor == 4.0


@pytest.mark.parametrize("model_type", ["deepseek_v2", "kimi_k2"])
def test_deepseek_pairs_are_complex_numbers(model_type: str) -> None:
    """Features 2j and 2j + 1 are the real and imaginary part of a number that is multiplied by exp(i angle)."""
    plain = {"model_type": model_type, "qk_rope_head_dim": 8, "rope_theta": 10_000}
    rope = Rope.from_hf(plain)
    x = np.random.default_rng(7).standard_normal((5, 8))
    turned = x.view(complex) * np.exp(1j * np.arange(5)[:, None] * 10_000.0 ** (-np.arange(4) / 4))
    table = rope.table(np.arange(5), 8, dtype=np.float64)
    cos, sin = table[:, :4], table[:, 4:]
    assert rope.pairing == "interleaved"
    ours = np.stack([x[:, 0::2] * cos - x[:, 1::2] * sin, x[:, 1::2] * cos + x[:, 0::2] * sin], axis=-1)
    assert np.allclose(ours.reshape(5, 8), turned.view(float), rtol=1e-12, atol=1e-12)


def test_deepseek_v2_reads_no_rope_interleave() -> None:
    assert "rope_interleave" in refusal(read, "deepseek_v2", rope_interleave=False)
    assert read("deepseek_v3", rope_interleave=False).pairing == "half"


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_an_image_has_positions_along_three_axes(phase: str) -> None:
    """They rotate queries and keys, and the order of the tokens alone says which keys are seen."""
    build: dict[str, Any] = {"phase": phase, "capacity": 16, "dtype": "f64"}
    text, image = (from_hf(small("qwen2_vl"), seq=5, inputs=told, **build) for told in ((), ("rope_positions",)))
    values = drawn(text, np.random.default_rng(3)) | {
        label: np.full((1, 16, 2, 12), 0.1) for label in ("k_cache", "v_cache")
    }
    rows = np.arange(5, dtype=np.int32)[None] + (4 if phase == "decode" else 0)
    values |= {"ids": rows} | ({"positions": rows, "lengths": np.array([4], np.int32)} if phase == "decode" else {})
    expected = reference.evaluate(text, values)["out"]
    same = reference.evaluate(image, {**values, "rope_positions": np.tile(rows, (3, 1, 1))})["out"]
    np.testing.assert_allclose(same, expected, rtol=1e-12, atol=1e-12)
    grid = np.array([[[4, 4, 4, 4, 4]], [[4, 4, 5, 5, 6]], [[4, 5, 4, 5, 6]]], np.int32)
    other = reference.evaluate(image, {**values, "rope_positions": grid})["out"]
    assert np.abs(other - expected).max() > 1e-3
    assert attend(image).operands[3:] == attend(text).operands[3:]


@pytest.mark.parametrize(("around", "text"), WRAPPERS.items())
def test_a_wrapper_is_its_text_model(around: str, text: str) -> None:
    stated = CONFIGS[text]
    inner = {name: value for name, value in stated.items() if name != "model_type"}
    wrapped = {"model_type": around, "vision_config": {}, "tie_word_embeddings": False}
    for more in ({}, {"model_type": text}):
        graph = from_hf({**wrapped, "text_config": {**inner, **more}}, seq=7)
        assert graph is from_hf(stated, seq=7)
    assert "text_config is None" in refusal(from_hf, wrapped)
    assert "'invented_switch'" in refusal(from_hf, {**wrapped, "text_config": inner, "invented_switch": 1})


def test_a_wrapper_of_a_model_that_is_not_there_says_which() -> None:
    said = refusal(from_hf, {"model_type": "mistral3", "text_config": {"model_type": "ministral3"}})
    assert "'ministral3' is not supported" in said


def test_published_dbrx_states_its_theta_where_transformers_does_not_read_it() -> None:
    stated = {name: value for name, value in CONFIGS["dbrx"].items() if name != "rope_theta"}
    assert "rope_theta is 500000.0 in attn_config" in refusal(from_hf, stated)
    saved = {**stated, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    assert from_hf(saved, seq=7) is from_hf(CONFIGS["dbrx"], seq=7)


def test_kimi_is_deepseek_v3() -> None:
    kimi, deepseek = (from_hf({"model_type": name, **LATENT}, seq=7) for name in ("kimi_k2", "deepseek_v3"))
    assert (kimi.inputs, kimi.outputs) == (deepseek.inputs, deepseek.outputs)


def test_a_step_of_latent_attention_reads_one_narrow_head() -> None:
    """The absorbed form: the keys and values of all heads are never there, and the cache holds 10 + 4 features a token."""
    step, prompt = (from_hf(small("kimi_k2"), **build) for build in ({"phase": "decode", "capacity": 16}, {"seq": 7}))
    assert step.labels("state") == ("latent_cache",)
    assert step.input_types["latent_cache"].shape == (1, 16, 1, 14)
    q, k, v = attend(step).operands[:3]
    assert (q.type.shape, k.type.shape) == ((1, 1, 4, 14), (1, 16, 1, 14))
    assert k is v
    assert [operand.type.shape[-2:] for operand in attend(prompt).operands[:3]] == [(4, 10), (4, 10), (4, 5)]
    # arXiv:2405.04434, appendix B, and YaRN's magnitude at mscale_all_dim, squared, for a factor of 40.
    scale = 10**-0.5 * (0.1 * math.log(40) + 1) ** 2
    assert [ops_in(graph, ops.Attend)[0].scale for graph in (step, prompt)] == pytest.approx([scale] * 2, rel=1e-12)
    assert {
        norm.epsilon for norm in ops_in(from_hf(small("kimi_k2", rms_norm_eps=1e-3), start="hidden"), ops.Norm)
    } == {
        1e-3,
        1e-6,
    }


def declaring(name: str, **attributes: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(attributes)
    return module


def test_a_file_of_families_declares_and_no_type_is_declared_twice() -> None:
    one = Family(positions="relative", front_end=Declined("it is made up"))
    assert gather([declaring("b", FAMILIES={"y": one}), declaring("a", FAMILIES={"x": one})]) == {"x": one, "y": one}
    assert "families.empty defines no FAMILIES" in refusal(gather, [declaring("families.empty")])
    twice = [declaring("families.a", FAMILIES={"x": one}), declaring("families.b", FAMILIES={"x": one})]
    assert "'x' is declared by families.a and by families.b" in refusal(gather, twice)


# Numbers ------------------------------------------------------------------------------------------------------------


def drawn(graph: Graph, random: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights, and the whole of a cache, from a normal distribution."""
    labels = graph.labels("parameter", "state")
    return {label: 0.5 * random.standard_normal(graph.input_types[label].shape) for label in labels}


@pytest.mark.parametrize("model_type", CAUSAL)
@pytest.mark.parametrize("layer", [0, 5])
def test_decoding_in_steps_is_prefill(model_type: str, layer: int) -> None:
    random = np.random.default_rng(layer)
    length, capacity, batch = 9, 12, 2
    build: dict[str, Any] = {"batch": batch, "dtype": "f64", "layer": layer, "capacity": capacity}
    prefill = from_hf(small(model_type), seq=length, **build)
    weights = drawn(prefill, random)
    ids = random.integers(0, 40, (batch, length)).astype(np.int32)
    expected = reference.evaluate(prefill, {"ids": ids, **weights})["out"]
    caches: dict[str, np.ndarray] = {}
    start = 0
    for count in (5, 1, 3):
        step = from_hf(small(model_type), seq=count, phase="decode", **build)
        # What is not written yet holds noise: nothing of it may be seen.
        caches = caches or {label: drawn(step, random)[label] for label in step.labels("state")}
        positions = np.broadcast_to(np.arange(start, start + count, dtype=np.int32), (batch, count))
        inputs = {
            "ids": ids[:, start : start + count],
            "positions": positions,
            "lengths": np.full(batch, start, np.int32),
        }
        caches = reference.evaluate(step, {**inputs, **weights, **caches})
        out = caches.pop("out")
        assert np.allclose(out, expected[:, start : start + count], rtol=1e-10, atol=1e-10)
        start += count


def softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def test_the_encoder_of_2017_by_its_paper() -> None:
    graph = from_hf(small("transformer"), seq=7, dtype="f64")
    w = drawn(graph, np.random.default_rng(1))
    ids = np.array([[3, 1, 4, 1, 5, 9, 2]], np.int32)
    angle = np.arange(7)[:, None] / 10_000 ** (2 * np.arange(24) / 48)
    encoding = np.stack([np.sin(angle), np.cos(angle)], -1).reshape(7, 48)
    x = w["embedding"][ids[0]] * math.sqrt(48) + encoding
    heads = []
    for head in range(4):
        q, k, v = (x @ w[f"{which}_weight"][:, 12 * head : 12 * head + 12] for which in "qkv")
        heads.append(softmax(q @ k.T / math.sqrt(12)) @ v)
    expected = np.concatenate(heads, -1) @ w["o_weight"]
    assert np.allclose(reference.evaluate(graph, {"ids": ids, **w})["out"][0], expected, rtol=1e-10, atol=1e-10)


def test_gemma2_by_its_paper() -> None:
    """Zero-centred norms, grouped heads, pairs of halves, a capped score, a window of 3: local layer 0."""
    graph = from_hf(small("gemma2"), seq=7, dtype="f64")
    w = drawn(graph, np.random.default_rng(2))
    ids = np.array([[3, 1, 4, 1, 5, 9, 2]], np.int32)
    x = w["embedding"][ids[0]] * float(np.float32(math.sqrt(48)))
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * (1 + w["input_norm"])
    turn = np.exp(1j * np.arange(7)[:, None] * 10_000 ** (-np.arange(6) / 6))
    distance = np.arange(7)[:, None] - np.arange(7)

    def rotated(head: np.ndarray) -> np.ndarray:
        turned = (head[:, :6] + 1j * head[:, 6:]) * turn
        return np.concatenate([turned.real, turned.imag], -1)

    heads = []
    for head in range(4):
        columns, shared = slice(12 * head, 12 * head + 12), slice(12 * (head // 2), 12 * (head // 2) + 12)
        q, k = rotated(x @ w["q_weight"][:, columns]), rotated(x @ w["k_weight"][:, shared])
        scores = 50 * np.tanh(q @ k.T / math.sqrt(20) / 50)
        heads.append(
            softmax(np.where((distance >= 0) & (distance < 3), scores, -np.inf)) @ x @ w["v_weight"][:, shared]
        )
    expected = np.concatenate(heads, -1) @ w["o_weight"]
    assert np.allclose(reference.evaluate(graph, {"ids": ids, **w})["out"][0], expected, rtol=1e-9, atol=1e-9)


def test_vit_reads_patches_row_by_row_after_the_class_token() -> None:
    graph = from_hf(small("vit"), dtype="f64")
    w = drawn(graph, np.random.default_rng(3))
    image = np.random.default_rng(4).standard_normal((1, 12, 8, 3))
    added = next(node for node in graph.nodes if isinstance(node.op, ops.Add))
    values = {node: {"image": image, **w}[node.op.label] for node in graph.inputs if isinstance(node.op, ops.Input)}
    (embedded,) = reference.evaluate_nodes([added], values)
    kernel = w["patch_weight"].reshape(4, 4, 3, 48)  # height, width, channels, features: a convolution's
    for patch, (row, column) in enumerate((row, column) for row in (0, 4, 8) for column in (0, 4)):
        cut = image[0, row : row + 4, column : column + 4]
        expected = np.einsum("hwc,hwcf->f", cut, kernel) + w["patch_bias"] + w["position_embedding"][patch + 1]
        assert np.allclose(embedded[0, patch + 1], expected, rtol=1e-10, atol=1e-10)
    assert np.allclose(embedded[0, 0], w["class_token"][0] + w["position_embedding"][0], rtol=1e-10, atol=1e-10)


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "build", "words"),
    [
        ({}, {}, ["model_type", "None", "llama"]),
        ({"model_type": "lama"}, {}, ["'lama'", "did you mean 'llama'"]),
        (small("kimi_k2", num_key_value_heads=2), {}, ["kimi_k2", "latent attention", "each of its 4 heads"]),
        (small("llama", rms_norm_eps=...), {}, ["llama config", "rms_norm_eps is missing"]),
        (small("gpt2", hidden_size=...), {}, ["gpt2 config", "n_embd or hidden_size is missing"]),
        (small("gpt2", n_embd=64), {}, ["hidden_size", "n_embd", "differ"]),
        (small("llama", hidden_size="wide"), {}, ["llama config: hidden_size", "'wide'"]),
        (small("llama", num_attention_heads=0), {}, ["num_attention_heads", "at least 1", "0"]),
        (small("llama", head_dim=None, hidden_size=50), {}, ["hidden_size 50", "4 heads", "head_dim"]),
        (small("llama", attention_bias="yes"), {}, ["attention_bias", "'yes'", "true or false"]),
        (small("llama", rope_thetta=1e4), {}, ["rope_thetta", "did you mean 'rope_theta'"]),
        (small("gpt2", rope_theta=1e4), {}, ["rope_theta", "gpt2"]),
        (small("gptj", rope_theta=1e6), {}, ["rope_theta", "gptj", "rotary_dim"]),
        (small("gpt_neox", rope_theta=5e5), {}, ["rope_theta is 500000.0", "rotary_emb_base is 10000"]),
        (small("llama", rope_scaling={"rope_type": "yarm"}), {}, ["yarm", "did you mean 'yarn'"]),
        (small("llama", attn_implementation="sdpaa"), {}, ["attn_implementation", "'sdpaa'", "did you mean 'sdpa'"]),
        (small("llama", layer_types=["sliding_attention"]), {}, ["layer_types[0]", "llama", "full_attention"]),
        (small("gemma2", layer_types=["chunked_attention"]), {}, ["layer_types[0]", "chunked_attention"]),
        (small("gemma2", layer_types=[]), {}, ["layer_types", "layer 0"]),
        (
            small("gemma2", sliding_window=None, layer_types=["sliding_attention"]),
            {},
            ["layer 0", "no sliding_window"],
        ),
        (small("gemma2", attn_logit_softcapping=-1), {}, ["attn_logit_softcapping is -1", "positive"]),
        (small("gemma3_text", use_bidirectional_attention=True), {}, ["use_bidirectional_attention True"]),
        (small("gpt2", scale_attn_by_inverse_layer_idx=True), {}, ["scale_attn_by_inverse_layer_idx", "only False"]),
        (small("bert", position_embedding_type="relative_key"), {}, ["position_embedding_type", "'absolute'"]),
        (small("bert", is_decoder=True), {}, ["is_decoder True", "only False"]),
        (small("vit", image_size=[1, 2, 3]), {}, ["image_size", "height and width"]),
        (small("vit"), {"seq": 6}, ["seq is 6", "6 patches with 1 tokens before them"]),
        (small("vit"), {"vocabulary": 7}, ["vit", "no vocabulary"]),
        (small("vit"), {"capacity": 7}, ["vit", "encoder", "capacity"]),
        (small("bert"), {"phase": "decode"}, ["bert is an encoder", 'phase="prefill"']),
        (small("llama"), {"phase": "decoding"}, ["'decoding'", "did you mean 'decode'"]),
        (small("llama"), {"dtype": "bf61"}, ["'bf61'", "did you mean 'bf16'"]),
        (small("llama"), {"dtype": "i32"}, ["dtype is i32", "f32"]),
        (small("llama"), {"layer": 12}, ["layer 12", "0 to 11"]),
        (small("llama"), {"batch": 0}, ["batch", "at least 1"]),
        (small("llama"), {"seq": 1.5}, ["seq", "whole number"]),
        (small("llama"), {"vocabulary": 41}, ["vocabulary is 41", "40"]),
        (small("gpt2"), {"seq": 33}, ["seq is 33", "32 learned positions"]),
        (small("gpt2"), {"phase": "decode", "capacity": 33}, ["capacity is 33", "32 learned positions"]),
        (small("llama"), {"phase": "decode", "seq": 4, "capacity": 3}, ["4 tokens", "3 rows"]),
        (small("bloom", max_position_embeddings=...), {"phase": "decode"}, ["bloom config", "capacity="]),
        (small("llama", max_position_embeddings=...), {"phase": "decode"}, ["max_position_embeddings is missing"]),
    ],
)
def test_errors_name_what_is_wrong(given: dict[str, object], build: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(RopegenError) as raised:
        from_hf(given, **build)
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize("name", sorted({*FACTS}))
def test_a_field_taken_out_is_named_or_has_a_default(name: str) -> None:
    published = config(name)
    needed = {"num_hidden_layers", "n_layer", "num_layers", "num_attention_heads", "n_head", "num_heads", "n_embd"}
    needed |= {
        "hidden_size",
        "n_embed",
        "d_model",
        "vocab_size",
        "layer_norm_eps",
        "layer_norm_epsilon",
        "rms_norm_eps",
    }
    refused: dict[str, str] = {}
    for field in set(published) - {"model_type"}:
        try:
            from_hf(config(name, **{field: ...}))
        except RopegenError as error:
            refused[field] = str(error)
    assert needed & set(published) <= set(refused)
    for field, message in refused.items():
        assert field in message
        assert f"{published['model_type']} config" in message


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"config": small("llama"), "build": {"sequence": 3}}, ["'sequence'", "from_hf", "did you mean 'seq'"]),
        ({"config": small("llama"), "bild": {}}, ["'bild'", "did you mean 'build'"]),
        ({"config": [], "build": {}}, ["mapping"]),
        ({"config": small("llama"), "build": 3}, ["mapping"]),
    ],
)
def test_cases_that_are_none(given: dict[str, object], words: list[str]) -> None:
    with pytest.raises(RopegenError) as raised:
        from_case(given)
    for word in words:
        assert word in str(raised.value)
