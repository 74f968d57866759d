"""docs/seeds.md is whole, and reads back as it was written."""

from __future__ import annotations

from parity import COLUMNS, PAGE, SEEDS, page, read_page, summary


def test_no_cell_is_empty() -> None:
    cells = read_page(PAGE.read_text())
    places = [
        (seed, symbol, mode, dtype) for seed, symbols in SEEDS.items() for symbol in symbols for mode, dtype in COLUMNS
    ]
    assert set(cells) == set(places)
    agreed = {place: said.split("; ")[0] for place, said in cells.items()}
    assert not [place for place, said in agreed.items() if said != "equal" and not said.startswith("within ")]


def test_the_page_is_written_as_it_is_read() -> None:
    text = PAGE.read_text()
    assert page(read_page(text)) == text
    assert summary(["equal", "differs: b", "equal"]) == "equal; differs: b"
    assert summary(["equal", "within c", "differs: b"]) == "within c; differs: b"
