"""Golden files: compared as text, and written anew by `pytest --update-golden`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import pytest

GOLDEN = Path(__file__).resolve().parent.parent / "golden"

Golden = Callable[[str, str], None]


@pytest.fixture
def quick_compilation() -> Iterator[None]:
    """For tests that compile much and run little."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write the golden files instead of comparing with them"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares a text with golden/NAME; with --update-golden writes it there."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            return
        if not path.is_file():
            pytest.fail(f"golden/{name} is not there; pytest --update-golden writes it")
        wanted = path.read_text()
        if text != wanted:
            difference = difflib.unified_diff(
                wanted.splitlines(), text.splitlines(), f"golden/{name}", "now", lineterm="", n=2
            )
            shown = "\n".join(list(difference)[:60])
            pytest.fail(f"{shown}\npytest --update-golden takes the change; say why in the CHANGELOG", pytrace=False)

    return compare
