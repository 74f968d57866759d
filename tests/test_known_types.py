"""Model types of transformers that ropegen does not have: each is refused with a reason, and never as another model."""

from __future__ import annotations

import warnings

import pytest

from ropegen.errors import RopegenError
from ropegen.models import FAMILIES, from_hf
from ropegen.models.known_types import reason_for


def refused(model_type: str) -> str:
    with pytest.raises(RopegenError) as raised:
        from_hf({"model_type": model_type, "hidden_size": 64})
    return str(raised.value)


@pytest.mark.parametrize(
    ("model_type", "word"),
    [
        ("mamba", "recurrent state"),
        ("t5gemma", "a second sequence"),
        ("longformer", "a pattern of keys"),
        ("swin", "relative position"),
        ("resnet", "no transformer"),
        ("llava", "several models"),
        ("xlnet", "nobody has compared"),
    ],
)
def test_a_known_type_is_refused_with_its_reason(model_type: str, word: str) -> None:
    said = refused(model_type)
    assert f"model_type {model_type!r} is not supported" in said
    assert word in said
    assert "did you mean" not in said


def test_a_misspelt_type_is_answered_with_the_nearest() -> None:
    assert "did you mean 'llama'" in refused("lama")


def test_a_wrapper_of_a_declared_model_names_its_text_config() -> None:
    with pytest.raises(RopegenError, match="give its text_config"):
        from_hf({"model_type": "llava", "text_config": {"model_type": "llama"}})


@pytest.mark.live
def test_every_type_of_transformers_is_known() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers warns on import
        auto = pytest.importorskip("transformers.models.auto.configuration_auto", reason="needs transformers")
    unknown = [name for name in auto.CONFIG_MAPPING_NAMES if name not in FAMILIES and not reason_for(name)]
    assert unknown == []
