"""docs/models.md: every accepted model type has a row within its bounds, and measuring again gives such a row."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
from models_page import NOT_COMPARED, PAGE, WITHOUT_SCORES, accepted, is_decoder, read, render

from ropegen.models import FAMILIES

ROWS = read(PAGE.read_text())
# One model type of every kind of position, norm, order and cache, with and without scores.
MEASURED_AGAIN = ("bert", "bloom", "cohere2", "deepseek_v2", "gpt_oss", "opt", "siglip_vision_model")


def test_the_page_is_what_its_rows_give() -> None:
    assert render(ROWS) == PAGE.read_text()


def test_every_accepted_type_has_a_row_or_a_reason() -> None:
    missing = set(accepted()) - ROWS.keys() - NOT_COMPARED.keys()
    assert not missing, f"python tests/record_models_page.py {' '.join(sorted(missing))}"
    assert not ROWS.keys() & NOT_COMPARED.keys()
    assert ROWS.keys() | NOT_COMPARED.keys() == set(accepted())


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_within_its_bounds(name: str) -> None:
    row = ROWS[name]
    assert row.is_right
    assert (row.decode is None) == (not is_decoder(name))
    whole = FAMILIES[name].block is not None and name not in WITHOUT_SCORES
    assert {row.scores is not None, row.own_error is not None, row.tokens is not None} == {whole}


def test_a_decoder_without_scores_says_why() -> None:
    assert set(WITHOUT_SCORES) == {name for name, row in ROWS.items() if is_decoder(name) and row.scores is None}
    assert {name for name in ROWS if is_decoder(name) and FAMILIES[name].block is None} <= WITHOUT_SCORES.keys()


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.filterwarnings("ignore")  # of transformers and torch
def test_a_row_that_is_measured_now_is_within_its_bounds(
    recorder: Callable[[str], ModuleType], request: pytest.FixtureRequest, name: str
) -> None:
    measured = recorder("record_models_page").measure
    if name not in MEASURED_AGAIN and not request.config.getoption("--exhaustive"):
        pytest.skip("pytest --exhaustive measures every model type")
    assert measured(name).is_right
