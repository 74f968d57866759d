"""`Rope.from_hf` against transformers: against recorded values, and against its modules where they are installed.

`python tests/record_transformers.py` wrote golden/vectors/transformers.json. u = 2**-24 is the unit of float32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import CASES, Case

import ropegen
from ropegen.errors import RopegenError
from ropegen.rotary import Rope

UNIT = 2.0**-24
VECTORS = json.loads((Path(__file__).resolve().parent.parent / "golden" / "vectors" / "transformers.json").read_text())
cases = pytest.mark.parametrize("name", CASES)
with_frequencies = pytest.mark.parametrize("name", [name for name in CASES if name != "gpt-j-6b"])


def rope_of(case: Case, angles: str = "exact") -> Rope:
    return replace(Rope.from_hf(case.config, case.layer_type), angles=angles)


def recorded(name: str) -> SimpleNamespace:
    return SimpleNamespace(**VECTORS[name])


def positions_of_pairs(rope: Rope, case: Case, positions: list) -> np.ndarray:
    """The position that every pair reads, (S, 1) or (S, pairs)."""
    placed = np.array(positions, np.float64)
    return placed[:, None] if placed.ndim == 1 else placed.T[:, rope.axes(case.head)]


def ulps(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The distance in units in the last place of their float32 values. Where theirs are 0, ours must be 0 too."""
    assert theirs.dtype == np.float32
    assert np.all(ours[theirs == 0] == 0)
    return np.abs(ours - theirs) / np.where(theirs == 0, 1, np.spacing(theirs)).astype(np.float64)


def check_frequencies(case: Case, theirs: SimpleNamespace, last_places: float | np.ndarray) -> None:
    ours = rope_of(case, "f32").inverse_frequencies(case.head, case.length)
    assert np.all(ulps(ours, np.array(theirs.inv_freq, np.float32)) <= last_places)
    assert rope_of(case).scaling.magnitude(case.length) == theirs.attention_scaling


def check_exact_tables(case: Case, theirs: SimpleNamespace) -> None:
    """Exact angles and theirs are both within `angle_error` of the truth, and the magnitude rounds twice."""
    exact, single = rope_of(case), rope_of(case, "f32")
    table = exact.table(np.array(theirs.positions), case.head, case.length).astype(np.float64)
    error = np.abs(table - np.concatenate([theirs.cos, theirs.sin], axis=-1)).reshape(*table.shape[:-1], 2, -1)
    allowed = np.vectorize(lambda position: exact.angle_error(position) + single.angle_error(position))(
        positions_of_pairs(exact, case, theirs.positions)
    )
    assert np.all(error <= theirs.attention_scaling * (allowed + 2 * UNIT)[:, None])


# -- recorded --------------------------------------------------------------------------------------------------------


def test_every_case_is_recorded_from_its_config() -> None:
    assert {name: case.config for name, case in CASES.items()} == {
        name: said["config"] for name, said in VECTORS.items() if name != "versions"
    }
    assert set(VECTORS["versions"]) == {"python", "torch", "transformers"}
    assert [name for name in CASES if VECTORS[name]["inv_freq"] is None] == ["gpt-j-6b"]  # its code keeps none


@with_frequencies
def test_float32_frequencies_are_those_of_transformers_to_the_last_place(name: str) -> None:
    # One unit: torch's vectorised power is within one, ours is rounded from float64, and the steps are the same.
    check_frequencies(CASES[name], recorded(name), last_places=1)
    ours = rope_of(CASES[name], "f32").inverse_frequencies(CASES[name].head, CASES[name].length)
    assert np.mean(ours == np.array(VECTORS[name]["inv_freq"], np.float32)) > 0.9


@with_frequencies
def test_exact_frequencies_differ_by_what_float32_rounds(name: str) -> None:
    """Every step of transformers is within u of its result, and the power within 2u.

    The exponent x = 2j / dim is exact where dim is a power of two; otherwise it moves the power by x ln(theta) u.
    With the reciprocal and the factor that makes e = 4 + x ln(theta) units. yarn and llama3 mix some pairs: such a pair
    keeps a share of its plain frequency, and the share has an error of its own. llama3 starts to keep a pair at one
    turn and keeps it wholly at four, so its error is below 4 (e + 4) / 3 + 1 units; yarn's ramp of
    low / (high - low) < 1 gives less. A theta that grows with the length is itself a product, a quotient, a difference
    and a power in float32.
    """
    case, theirs = CASES[name], np.array(VECTORS[name]["inv_freq"], np.float32)
    rope = rope_of(case)
    ours = rope.inverse_frequencies(case.head, case.length)
    dim, theta = rope.width(case.head), rope.theta
    x = np.arange(0, dim, 2) / dim
    grown = name == "llama-2-dynamic-longer"
    if grown:
        theta *= (2 * case.length / 4096 - 1) ** (dim / (dim - 2))
    plain = theta**-x
    units = 4 + 8 * grown * x + (0 if dim & (dim - 1) == 0 else 1) * x * math.log(theta)
    factor = getattr(rope.scaling, "factor", 1.0) or 1.0
    mixed = (rope.scaling.kind in ("yarn", "llama3")) & (theirs > plain / factor * 1.0001) & (theirs < plain * 0.9999)
    assert np.all(np.abs(ours - theirs) <= UNIT * (units * theirs + mixed * (4 * (units + 4) / 3 + 1) * plain))
    assert not np.array_equal(ours, theirs)


@cases
def test_exact_tables_are_within_what_float32_angles_allow(name: str) -> None:
    check_exact_tables(CASES[name], recorded(name))


@cases
def test_float32_tables_are_those_of_transformers(name: str) -> None:
    """Where the frequencies have the same bits, the angles have too, at every position up to the last.

    The cosines of NumPy and of torch are both within two units in the last place of numbers below 1, which is 2u.
    """
    case, theirs = CASES[name], recorded(name)
    rope = rope_of(case, "f32")
    table = rope.table(np.array(theirs.positions), case.head, case.length).astype(np.float64)
    error = np.abs(table - np.concatenate([theirs.cos, theirs.sin], axis=-1)).reshape(*table.shape[:-1], 2, -1)
    same = np.ones(error.shape[-1], bool)
    if theirs.inv_freq is not None:
        same = rope.inverse_frequencies(case.head, case.length) == np.array(theirs.inv_freq, np.float32)
    assert error[..., same].max() <= theirs.attention_scaling * 4 * UNIT


@cases
def test_an_unknown_rope_type_or_field_is_named(name: str) -> None:
    case = CASES[name]
    config = dict(case.config.get("text_config", case.config))
    by_layer = config.pop("rope_parameters", None)
    stated = by_layer[case.layer_type] if by_layer else config.pop("rope_scaling", None) or {"rope_type": "default"}
    # The code of GPT-J reads no rope parameters at all, and the error says so.
    for damage, word in (({"beta_quick": 32}, "beta_quick"), ({"rope_type": "yam", "type": "yam"}, "'yam'")):
        damaged = {**stated, **damage}
        layers = by_layer or {"full_attention": stated, "sliding_attention": stated}
        parameters = {**layers, case.layer_type: damaged} if case.layer_type else damaged
        with pytest.raises(RopegenError, match="no scaling" if name == "gpt-j-6b" else word):
            Rope.from_hf({**config, "rope_parameters": parameters}, case.layer_type)
    if case.layer_type is not None:
        with pytest.raises(RopegenError, match="'global_attention'"):
            Rope.from_hf(case.config, "global_attention")


# -- live ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def live(recorder: Callable[[str], ModuleType]) -> ModuleType:
    """The module record_transformers, which runs the modules of transformers."""
    return recorder("record_transformers")


@cases
def test_transformers_still_gives_what_is_recorded(live: ModuleType, name: str) -> None:
    now, then = live.Recorded.run(CASES[name], np.array(VECTORS[name]["positions"])), recorded(name)
    assert now.attention_scaling == then.attention_scaling
    if now.inv_freq is not None:
        assert ulps(np.array(now.inv_freq), np.array(then.inv_freq, np.float32)).max() <= 1
    check_exact_tables(CASES[name], now)


thetas = st.floats(1000, 1e7).map(lambda theta: float(np.float32(theta)))
factors = st.floats(1.0, 64.0).map(lambda factor: round(factor, 3))
widths = st.sampled_from([16, 64, 80, 96, 128])


@st.composite
def drawn_cases(draw: st.DrawFn, kind: str) -> Case:
    head, factor, original = draw(widths), draw(factors), draw(st.sampled_from([256, 2048, 4096]))
    config = {
        "model_type": "llama",
        "hidden_size": 4 * head,
        "num_attention_heads": 4,
        "head_dim": head,
        "max_position_embeddings": original * draw(st.sampled_from([2, 4, 32])),
        "rope_theta": draw(thetas),
    }
    length = draw(st.integers(8, config["max_position_embeddings"]))
    stated: dict = {"rope_type": kind, "factor": factor}
    if kind == "dynamic":
        length = draw(st.integers(8, 4 * config["max_position_embeddings"]))
    elif kind == "llama3":
        low = draw(st.floats(0.5, 4.0))
        stated |= {"low_freq_factor": low, "high_freq_factor": low + draw(st.floats(1.0, 8.0))}
        stated["original_max_position_embeddings"] = original
    elif kind == "yarn":
        stated["original_max_position_embeddings"] = original
        stated |= {"beta_fast": draw(st.floats(16.0, 40.0)), "beta_slow": draw(st.floats(0.5, 2.0))}
        stated |= {"truncate": draw(st.booleans())}
        said = draw(st.sampled_from(["nothing", "attention_factor", "mscale"]))
        if said == "attention_factor":
            stated["attention_factor"] = draw(st.floats(0.5, 2.0))
        elif said == "mscale":
            stated |= {"mscale": draw(st.floats(0.25, 2.0)), "mscale_all_dim": draw(st.floats(0.25, 2.0))}
    elif kind == "longrope":
        part = draw(st.sampled_from([1.0, 0.5]))
        divisors = st.lists(st.floats(1.0, 64.0), min_size=int(head * part) // 2, max_size=int(head * part) // 2)
        del stated["factor"]
        stated |= {"short_factor": draw(divisors), "long_factor": draw(divisors)}
        if draw(st.booleans()):
            stated["attention_factor"] = draw(st.floats(0.5, 2.0))
        del config["head_dim"]  # phi3 has none
        config |= {"model_type": "phi3", "original_max_position_embeddings": original, "partial_rotary_factor": part}
    elif kind == "proportional":
        stated |= {"partial_rotary_factor": draw(st.sampled_from([0.25, 0.3, 0.5, 1.0])), "rope_theta": draw(thetas)}
        layers = {"full_attention": stated, "sliding_attention": {"rope_type": "default", "rope_theta": draw(thetas)}}
        del config["rope_theta"]
        config |= {"model_type": "gemma4_text", "global_head_dim": head, "rope_parameters": layers}
        return Case(config, head, length, draw(st.sampled_from(sorted(layers))))
    config["rope_scaling"] = stated
    return Case(config, head, length)


KINDS = ["linear", "dynamic", "yarn", "llama3", "longrope", "proportional"]


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_drawn_configs_have_the_frequencies_of_transformers(live: ModuleType, kind: str, data: st.DataObject) -> None:
    case = data.draw(drawn_cases(kind))
    positions = np.array([0, 1, case.length // 3, case.length - 1])
    theirs = live.Recorded.run(case, positions)
    # The power within one unit, and its reciprocal, move the result by up to four.
    last_places: float | np.ndarray = 4
    if kind == "llama3":
        # The share that is kept depends on the plain frequency, and one unit of that is many units of a slowed one.
        family = rope_of(case).scaling
        plain = rope_of(case).theta ** (-np.arange(0, case.head, 2) / case.head)
        turning = np.array(theirs.inv_freq) < 0.999 * plain
        last_places = 4 + 4 * turning * family.factor * family.high / (family.high - family.low)
    check_frequencies(case, theirs, last_places)
    check_exact_tables(case, theirs)


# -- live: rotations and attention -----------------------------------------------------------------------------------


def rotated(live: ModuleType, case: Case, ids: np.ndarray, *values: np.ndarray) -> list[np.ndarray]:
    """Values (B, S, H, D), rotated by the functions of transformers at ids (B, S) or (3, B, S), two at a time."""
    import torch
    import transformers

    tensors = [torch.from_numpy(value) for value in values]
    at = torch.from_numpy(ids)
    text = transformers.AutoConfig.for_model(**json.loads(json.dumps(case.config))).get_text_config()
    if text.model_type == "gptj":
        gptj = live.modelling("gptj")
        table = gptj.create_sinusoidal_positions(case.length, text.rotary_dim)[at]
        sin, cos = table.split(text.rotary_dim // 2, dim=-1)
        width = text.rotary_dim
        turned = [gptj.apply_rotary_pos_emb(tensor[..., :width], sin, cos) for tensor in tensors]
        return [torch.cat([t, x[..., width:]], -1).numpy() for t, x in zip(turned, tensors, strict=True)]
    model, name = live.MODULES[text.model_type]
    module = getattr(live.modelling(model), name)(text)
    cos, sin = module(tensors[0], at, *(() if case.layer_type is None else (case.layer_type,)))
    if model == "gemma4":
        apply = live.modelling(model).apply_rotary_pos_emb
        return [apply(tensor, cos, sin, unsqueeze_dim=2).numpy() for tensor in tensors]
    interleaved = "_interleave" if model == "deepseek_v3" else ""
    turn = getattr(live.modelling(model), "apply_rotary_pos_emb" + interleaved)
    pair = tensors if len(tensors) == 2 else tensors * 2
    return [tensor.numpy() for tensor in turn(*pair, cos, sin, unsqueeze_dim=2)][: len(tensors)]


def drawn_ids(case: Case, length: int, below: int) -> np.ndarray:
    """Positions (2, S) for a batch of two, or (3, 2, S) where three axes count independently."""
    shape = (3, 2, length) if rope_of(case).sections else (2, length)
    return np.random.default_rng(5).integers(0, below, shape)


APPLIED = [
    "llama-3.2-1b",
    "qwen2-vl-7b",
    "qwen3-vl-8b",
    "gemma3-4b-global",
    "gemma4-global",
    "phi4-mini-short",
    "deepseek-v3",
    "gpt-oss-20b",
    "gpt-neox-20b",
    "gpt-j-6b",
]


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", APPLIED)
def test_rope_turns_as_transformers_does(live: ModuleType, name: str) -> None:
    """An angle that is off by a moves a pair by at most a times its length; products and sums round three times."""
    case = CASES[name]
    rope = rope_of(case)
    x = np.random.default_rng(3).standard_normal((2, 5, 2, case.head), np.float32)
    ids = drawn_ids(case, 5, 500)
    (theirs,) = rotated(live, case, ids, x)
    ours = np.asarray(ropegen.rope(jnp.asarray(x), ids, rope, length=500), np.float64)
    if name == "deepseek-v3":  # its code leaves the pairs in halves, in q and in k
        ours = np.concatenate([ours[..., 0::2], ours[..., 1::2]], axis=-1)
    allowed = rope.angle_error(500) + rope_of(case, "f32").angle_error(500) + 4 * UNIT
    lengths = np.abs(x).max() * math.sqrt(2) * rope.scaling.magnitude(case.length)
    assert np.abs(ours - theirs).max() <= allowed * lengths
    assert np.abs(ours - x).max() > 0.5


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen2-vl-7b", "qwen3-vl-8b", "gpt-j-6b", "deepseek-v3"])
def test_attention_over_its_own_rotation_is_that_over_transformers(live: ModuleType, name: str) -> None:
    """Grouped causal attention by torch over q and k that transformers turned, against `ropegen.attention`."""
    import torch

    case = CASES[name]
    rng = np.random.default_rng(11)
    q = rng.standard_normal((2, 6, 4, case.head), np.float32)
    k, v = rng.standard_normal((2, 2, 6, 2, case.head), np.float32)
    ids, causal = drawn_ids(case, 6, 64), np.tril(np.ones((6, 6), bool))
    turned = [*rotated(live, case, ids, q), *rotated(live, case, ids, k), v]
    by_head = (torch.from_numpy(np.ascontiguousarray(array.swapaxes(1, 2))) for array in turned)
    attended = torch.nn.functional.scaled_dot_product_attention(*by_head, is_causal=True, enable_gqa=True)
    theirs = attended.numpy().swapaxes(1, 2)
    arrays = [jnp.asarray(array) for array in (q, k, v)]
    rope = rope_of(case)
    ours = ropegen.attention(*arrays, rope=rope, mask=causal, q_positions=ids, kv_positions=ids, length=64)
    # q and k are both off by the error of an angle. A score is off by two such shares of its bound, a softmax by four.
    longest = [np.linalg.norm(array, axis=-1).max() for array in (q, k)]
    score = math.prod(longest) / math.sqrt(case.head) * rope.scaling.magnitude(64) ** 2
    angles = rope.angle_error(64) + rope_of(case, "f32").angle_error(64) + 4 * UNIT
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=4 * angles * score * np.abs(v).max())
    assert np.abs(ropegen.attention(*arrays, mask=causal) - theirs).max() > 0.1
