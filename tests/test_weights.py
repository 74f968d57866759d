"""Weights converted between rotary pairings: equal logits, an exact way back, and Hugging Face's own formula."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ropegen as rg
from ropegen.errors import RopegenError
from ropegen.weights import to_half, to_interleaved


def permuted_for_hugging_face(weight: np.ndarray, heads: int) -> np.ndarray:
    """A torch weight (heads * width, features), permuted like Meta's Llama weights in Hugging Face's conversion."""
    out, features = weight.shape
    return weight.reshape(heads, out // heads // 2, 2, features).transpose(0, 2, 1, 3).reshape(out, features)


@pytest.mark.parametrize(("heads", "width", "features"), [(4, 8, 12), (1, 128, 3), (32, 2, 5)])
def test_to_half_is_the_permutation_of_hugging_faces_llama_conversion(heads: int, width: int, features: int) -> None:
    weight = np.random.default_rng(0).standard_normal((heads * width, features), np.float32)
    half = permuted_for_hugging_face(weight, heads)
    np.testing.assert_array_equal(to_half(weight, width=width, axis=0), half)
    np.testing.assert_array_equal(to_half(weight.T, width=width), half.T)
    np.testing.assert_array_equal(to_interleaved(half, width=width, axis=0), weight)


def test_features_past_the_rotated_ones_stay() -> None:
    assert to_half(np.arange(20), width=10, dim=6).tolist() == [
        *(0, 2, 4, 1, 3, 5, 6, 7, 8, 9),
        *(10, 12, 14, 11, 13, 15, 16, 17, 18, 19),
    ]
    assert to_interleaved(np.arange(7), width=7, dim=4).tolist() == [0, 2, 1, 3, 4, 5, 6]


@settings(deadline=None, max_examples=40)
@given(
    data=st.data(),
    heads=st.integers(0, 5),
    pairs=st.integers(1, 12),
    rest=st.integers(0, 5),
    around=st.tuples(st.lists(st.integers(1, 3), max_size=2), st.lists(st.integers(1, 3), max_size=2)),
    dtype=st.sampled_from([np.float32, np.int8, ml_dtypes.bfloat16]),
    jax_array=st.booleans(),
)
def test_the_way_back_is_exact(
    data: st.DataObject,
    heads: int,
    pairs: int,
    rest: int,
    around: tuple[list[int], list[int]],
    dtype: type,
    jax_array: bool,
) -> None:
    width, dim = 2 * pairs + rest, 2 * pairs
    shape = (*around[0], heads * width, *around[1])
    raw = np.random.default_rng(1).integers(0, 256, (*shape, np.dtype(dtype).itemsize), np.uint8)
    given = raw.view(dtype).reshape(shape)  # any bit pattern, including NaN
    weight = jnp.asarray(given) if jax_array else given
    axis = data.draw(st.sampled_from([len(around[0]), len(around[0]) - len(shape)]))
    for there, back in ((to_half, to_interleaved), (to_interleaved, to_half)):
        turned = there(weight, width=width, dim=dim, axis=axis)
        assert type(turned) is type(weight)
        assert (turned.shape, turned.dtype) == (weight.shape, weight.dtype)
        result = back(turned, width=width, dim=dim, axis=axis)
        assert np.asarray(result).tobytes() == np.asarray(weight).tobytes()


HEADS, KV_HEADS, FEATURES, SEQUENCE = 4, 2, 24, 7


def front_end(pairing: str, width: int, dim: int | None) -> rg.Graph:
    """Projections with bias, QK-norm, RoPE and grouped causal attention; q and k before the scores are outputs too."""
    b = rg.Builder("front-end")
    x = b.input("x", (2, SEQUENCE, FEATURES), "f32")
    rope, at = rg.Rope(100.0, pairing=pairing, dim=dim), b.positions(SEQUENCE, start=3)
    turned = {}
    for name, heads in (("q", HEADS), ("k", KV_HEADS)):
        weight = b.parameter(f"w_{name}", (FEATURES, heads * width), "f32")
        bias = b.parameter(f"b_{name}", (heads * width,), "f32")
        split = b.split_heads(b.project(x, weight, bias), heads)
        normal = b.norm(split, b.parameter(f"n_{name}", (width,), "f32"), kind="rms", epsilon=1e-6)
        turned[name] = b.rope(normal, at, rope)
    v = b.split_heads(b.project(x, b.parameter("w_v", (FEATURES, KV_HEADS * width), "f32")), KV_HEADS)
    return b.build(out=b.attend(turned["q"], turned["k"], v, mask=rg.masks.causal), **turned)


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize(("width", "dim"), [(16, None), (10, 6)], ids=["whole", "part"])
@pytest.mark.parametrize(("made_for", "run_with"), [("interleaved", "half"), ("half", "interleaved")])
def test_logits_are_the_same_with_the_other_pairing(made_for: str, run_with: str, width: int, dim: int | None) -> None:
    rng = np.random.default_rng(2)
    weights = {
        "w_q": rng.standard_normal((FEATURES, HEADS * width), np.float32),
        "w_k": rng.standard_normal((FEATURES, KV_HEADS * width), np.float32),
        "w_v": rng.standard_normal((FEATURES, KV_HEADS * width), np.float32),
        "b_q": rng.standard_normal(HEADS * width, np.float32),
        "b_k": rng.standard_normal(KV_HEADS * width, np.float32),
        "n_q": rng.uniform(0.5, 2.0, width).astype(np.float32),
        "n_k": rng.uniform(0.5, 2.0, width).astype(np.float32),
    }
    x = rng.standard_normal((2, SEQUENCE, FEATURES), np.float32)
    reorder = to_half if run_with == "half" else to_interleaved
    other = {
        name: weight if name == "w_v" else reorder(weight, width=width, dim=dim) for name, weight in weights.items()
    }

    def run(pairing: str, parameters: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        result = rg.plan(front_end(pairing, width, dim), "cpu").compile()(x=x, **parameters)
        q, k = np.asarray(result["q"], np.float64), np.asarray(result["k"], np.float64)
        scores = np.einsum("bqgrd,bkgd->bgrqk", q.reshape(2, SEQUENCE, KV_HEADS, -1, width), k)
        return scores, np.asarray(result["out"])

    made, turned, wrong = run(made_for, weights), run(run_with, other), run(run_with, weights)
    # Scores are sums of `width` products of numbers up to 2 sqrt(width), rounded at projection, norm and rotation.
    for ours, theirs, apart in zip(turned, made, wrong, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-4)
        assert np.abs(apart - theirs).max() > 0.1


@pytest.mark.parametrize(
    ("weight", "asked", "words"),
    [
        (np.zeros((8, 12)), {"width": 8}, ["axis 1", "(8, 12)", "12 features", "heads of 8", "axis=0"]),
        (np.zeros((8, 12)), {"width": 4, "axis": 2}, ["(8, 12)", "no axis 2"]),
        (np.zeros((8, 12)), {"width": 3}, ["even", "3"]),
        (np.zeros((8, 12)), {"width": 4, "dim": 3}, ["even", "3"]),
        (np.zeros((8, 12)), {"width": 4, "dim": 6}, ["6", "does not fit a head of 4"]),
        (np.zeros((8, 12)), {"width": -4, "dim": 2}, ["does not fit a head of -4"]),
        (np.zeros((8, 12)), {"width": 4.5}, ["width", "4.5"]),
        (np.zeros(()), {"width": 4}, ["()", "no axis -1"]),
        ([1.0, 2.0], {"width": 2}, ["an array", "list"]),
    ],
    ids=str,
)
def test_what_does_not_fit_is_said(weight: object, asked: dict, words: list[str]) -> None:
    for reorder in (to_half, to_interleaved):
        with pytest.raises(RopegenError, match=reorder.__name__) as caught:
            reorder(weight, **asked)
        for word in words:
            assert word in str(caught.value)


@pytest.mark.live
def test_a_llama_of_torch_gives_its_logits_with_interleaved_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning of transformers, on import
        why = "a tiny torch Llama runs after: pip install torch transformers"
        torch = pytest.importorskip("torch", reason=why)
        transformers = pytest.importorskip("transformers", reason=why)
        from transformers.models.llama import modeling_llama

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "vocab_size": 61, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "attention_bias": True}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **heads, initializer_range=0.5)).eval()
    for projection in (model.model.layers[0].self_attn.q_proj, model.model.layers[0].self_attn.k_proj):
        torch.nn.init.normal_(projection.bias)
    ids = torch.randint(0, 61, (2, 9))

    def interleaved(q, k, cos, sin, unsqueeze_dim=1):
        def turn(x):
            pairs = x.unflatten(-1, (-1, 2))
            c, s = (half[..., : half.shape[-1] // 2].unsqueeze(unsqueeze_dim) for half in (cos, sin))
            first, second = pairs.unbind(-1)
            return torch.stack((first * c - second * s, first * s + second * c), dim=-1).flatten(-2)

        return turn(q), turn(k)

    with torch.no_grad():
        before = model(ids).logits
        monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", interleaved)
        wrong = model(ids).logits
        attention = model.model.layers[0].self_attn
        for projection in (attention.q_proj, attention.k_proj):
            projection.weight.copy_(to_interleaved(projection.weight, width=16, axis=0))
            projection.bias.copy_(to_interleaved(projection.bias, width=16))
        after = model(ids).logits
    assert (wrong - before).abs().max() > 0.1
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5 * float(before.abs().max()))
