"""Rotary embedding of images: positions along two axes that have their own frequencies."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ropegen as rg
from ropegen import scaling


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([4, 8, 24]), st.booleans(), st.sampled_from([100.0, 1e4]))
def test_each_axis_turns_its_own_pairs(height: int, width: int, dim: int, dealt: bool, theta: float) -> None:
    """Compare with the definition, pair by pair: half the pairs turn with the row, half with the column."""
    half = dim // 4
    rope = rg.Rope(theta, pairing="half", scaling=scaling.axial(dealt=dealt), sections=(half, half))
    table = rope.table(rg.grid_positions(height, width), dim)
    for patch in range(height * width):
        place = divmod(patch, width)
        for pair in range(2 * half):
            axis, step = divmod(pair, half)
            exponent = (2 * step + axis) * 2 / dim if dealt else step * 2 / (dim / 2)
            angle = place[axis] * theta**-exponent
            entries = table[patch, pair], table[patch, 2 * half + pair]
            np.testing.assert_allclose(entries, (np.cos(angle), np.sin(angle)), atol=2e-7)


def test_scores_depend_on_the_offset_in_the_image_alone() -> None:
    rope = rg.Rope(100.0, pairing="interleaved", scaling=scaling.axial(), sections=(4, 4))
    x = np.random.default_rng(0).normal(size=(2, 1, 1, 16)).astype(np.float32)

    def score(*places: tuple[int, int]) -> float:
        q, k = (
            np.asarray(rg.rope(row, np.array(place, np.int32)[:, None], rope), np.float64)
            for row, place in zip(x, places, strict=True)
        )
        return float((q * k).sum())

    assert score((3, 5), (1, 2)) == pytest.approx(score((7, 4), (5, 1)), abs=1e-5)
    assert score((3, 5), (1, 2)) != pytest.approx(score((3, 5), (2, 1)), abs=1e-3)


def test_the_grid_runs_row_by_row() -> None:
    np.testing.assert_array_equal(rg.grid_positions(2, 3), [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]])


@pytest.mark.live
@pytest.mark.parametrize("dealt", [False, True])
def test_vision_towers_of_transformers(dealt: bool) -> None:
    """Qwen2-VL's tower restarts the frequencies on every axis, and Pixtral's deals them to the axes."""
    torch = pytest.importorskip("torch", reason="compares with transformers: pip install torch transformers")
    pytest.importorskip("transformers", reason="compares with transformers: pip install torch transformers")
    height, width, dim, theta = 5, 7, 16, 10_000.0
    rope = rg.Rope(theta, pairing="half", angles="f32", scaling=scaling.axial(dealt=dealt), sections=(4, 4))
    ours = np.asarray(rg.rope_table(jnp.asarray(rg.grid_positions(height, width)), rope, dim))
    if dealt:
        from transformers.models.pixtral import configuration_pixtral, modeling_pixtral

        config = configuration_pixtral.PixtralVisionConfig(
            hidden_size=2 * dim, num_attention_heads=2, head_dim=dim, rope_parameters={"rope_theta": theta}
        )
        tower = modeling_pixtral.PixtralVisionRotaryEmbedding(config)
    else:
        from transformers.models.qwen2_vl import configuration_qwen2_vl, modeling_qwen2_vl

        config = configuration_qwen2_vl.Qwen2VLVisionConfig(
            embed_dim=2 * dim, num_heads=2, rope_parameters={"rope_theta": theta}
        )
        tower = modeling_qwen2_vl.Qwen2VLVisionRotaryEmbedding(config)
    cos, sin = tower(torch.zeros(1), torch.from_numpy(rg.grid_positions(height, width).T.copy()))
    theirs = np.concatenate([cos[:, : dim // 2], sin[:, : dim // 2]], -1)
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "equal runs of pairs"),
        ({"sections": (4, 3)}, "equal runs of pairs"),
        ({"sections": (4, 4), "interleaved_sections": True}, "interleaved"),
        ({"sections": (4, 4, 4)}, "over 2 axes"),
        ({"sections": (4, 4), "dim": 12}, "12"),
    ],
)
def test_errors(fields: dict, words: str) -> None:
    with pytest.raises(rg.RopegenError, match=words):
        rg.Rope(pairing="half", scaling=scaling.axial(), **fields)
    with pytest.raises(rg.RopegenError, match="axes must be from 2 to 16"):
        scaling.axial(axes=1)
