"""Several devices: the table of docs/devices.md, and what it does not show.

The number of devices is fixed when JAX starts. So `tests/devices.py` runs in processes of its own, with eight simulated
devices, and the tests read what it found.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import devices
import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "devices.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of the table -->\n"
WAYS = (*devices.WAYS, "processes")
CELLS = list(product(WAYS, devices.SUBJECTS, devices.SPLITS, devices.DIRECTIONS))
ALLOWED = {"forward": 1e-6, "gradient": 5e-6}

# Every cell that is refused, and words of the message. All other cells must be right.
_STATED, _MAPPED = ("jit, `sharding=`", "processes"), ("`shard_map`", "`shard_map`, some axes")
REFUSED = {
    **dict.fromkeys(
        product(_STATED, ("attention", "plan"), ("sequence",), devices.DIRECTIONS), "keys of the other devices"
    ),
    **dict.fromkeys(product(_MAPPED, ("attention", "plan"), ("sequence",), devices.DIRECTIONS), "splits the sequence"),
    **dict.fromkeys(product(WAYS, ("artifact",), devices.SPLITS, ("gradient",)), "the forward pass alone"),
    **dict.fromkeys(product(_MAPPED, ("artifact",), ("sequence",), ("forward",)), "splits the sequence"),
    **dict.fromkeys(
        product((*_STATED, "jit, explicit axes"), ("artifact",), ("sequence",), devices.DIRECTIONS),
        "keys of the other devices",
    ),
}

Cell = tuple[str, str, str, str]


def lines_of(*arguments: str) -> subprocess.Popen[str]:
    script = Path(__file__).with_name("devices.py")
    return subprocess.Popen(
        [sys.executable, str(script), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What the processes found, by cell or by the name of a check."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    started = [lines_of(), lines_of(port, "0"), lines_of(port, "1")]
    ended = [process.communicate(timeout=600) for process in started]
    for process, (_, errors) in zip(started, ended, strict=True):
        assert process.returncode == 0, errors
    lines = [json.loads(line) for out, _ in ended for line in out.splitlines() if line.startswith("{")]
    return {json.dumps(line["name"]): line for line in lines}


@pytest.mark.parametrize("cell", CELLS, ids=" - ".join)
def test_cell(found: dict[str, Any], cell: Cell) -> None:
    result = found[json.dumps(cell)]
    if cell in REFUSED:
        assert REFUSED[cell] in result["refused"]
    else:
        assert "refused" not in result, result["refused"]
        assert result["error"] <= ALLOWED[cell[3]]


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell[2] != "sequence"], ids=" - ".join)
def test_batch_and_heads_exchange_nothing_but_sums_over_what_is_shared(found: dict[str, Any], cell: Cell) -> None:
    result = found[json.dumps(cell)]
    if "refused" not in result and cell[:2] != ("jit, automatic axes", "artifact"):
        assert set(result["collectives"]) <= {"all-reduce"}
        if cell[3] == "forward" and cell[1:3] != ("plan", "heads") and cell[1:3] != ("artifact", "heads"):
            assert not result["collectives"]


@pytest.mark.parametrize("name", devices.CHECKS)
def test_check(found: dict[str, Any], name: str) -> None:
    assert not found[json.dumps(name)]["failed"], found[json.dumps(name)]["failed"]


def words(result: dict[str, Any]) -> str:
    if "refused" in result:
        return "refused"
    return ", ".join(f"{count} {kind}" for kind, count in result["collectives"].items()) or "0"


def table(found: dict[str, Any]) -> str:
    columns = list(product(devices.SPLITS, devices.DIRECTIONS))
    rows = [
        "| how | call | " + " | ".join(f"{split}, {direction}" for split, direction in columns) + " |",
        "| --- | --- " + "| --- " * len(columns) + "|",
    ]
    for way, name in product(WAYS, devices.SUBJECTS):
        cells = [words(found[json.dumps((way, name, *column))]) for column in columns]
        rows.append(f"| {way} | {name} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def test_the_page_has_the_table(found: dict[str, Any], request: pytest.FixtureRequest) -> None:
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    made = before + BEGIN + table(found) + END + rest.split(END)[1]
    if request.config.getoption("--update-golden"):
        PAGE.write_text(made)
    assert PAGE.read_text() == made, "pytest --update-golden writes the table"
