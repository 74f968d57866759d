"""Whole models against transformers: against recorded scores and tokens, and against its classes where it is installed.

`python tests/record_models.py` wrote golden/vectors/models.json. The weights are drawn from the names of the tensors.
"""

from __future__ import annotations

import json
import warnings
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
from hub_models import CONFIGS, PROMPT, STEPS, tensors

import ropegen as rg
from ropegen.errors import RopegenError

VECTORS = Path(__file__).resolve().parent.parent / "golden" / "vectors" / "models.json"
MOST = 2e-6  # of the largest score


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


def test_every_config_is_recorded() -> None:
    assert {name: said["config"] for name, said in vectors().items() if name != "versions"} == CONFIGS


@names
def test_scores_and_tokens_are_those_of_transformers(name: str) -> None:
    model, said = model_of(name), vectors()[name]
    scores, _ = model.prefill(PROMPT, capacity=PROMPT.shape[1] + STEPS, every=True)
    assert error(scores, said["logits"]) <= MOST
    assert np.asarray(model.generate(PROMPT, STEPS)).tolist() == said["tokens"]


@pytest.fixture(scope="session")
def live() -> ModuleType:
    """The module record_models, which runs the models of transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers warns on import
        for package in ("torch", "transformers"):
            pytest.importorskip(package, reason="the live comparison runs after: pip install torch transformers")
        import record_models

    return record_models


@names
def test_transformers_still_gives_what_is_recorded(live: ModuleType, name: str) -> None:
    now, then = live.run(CONFIGS[name]), vectors()[name]
    assert now["shapes"] == then["shapes"]
    assert error(now["logits"], then["logits"]) <= MOST
    assert now["tokens"] == then["tokens"]
