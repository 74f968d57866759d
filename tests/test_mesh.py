"""Several devices: the table of docs/devices.md, and what it does not show.

The number of devices is fixed when JAX starts. So `tests/devices.py` and `tests/device_checks.py` run in processes of their
own, with eight simulated devices, and the tests read what they found.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import device_checks
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
    **dict.fromkeys(product(_STATED, ("plan",), ("sequence",), devices.DIRECTIONS), "keys of the other devices"),
    **dict.fromkeys(product(_MAPPED, ("attention", "plan"), ("sequence",), devices.DIRECTIONS), "splits the sequence"),
    **dict.fromkeys(
        product((*_STATED, "jit, explicit axes"), ("artifact",), devices.SPLITS, ("gradient",)),
        "the forward pass alone",
    ),
    **dict.fromkeys(product(_MAPPED, ("artifact",), ("sequence",), devices.DIRECTIONS), ""),
    **dict.fromkeys(
        product((*_STATED, "jit, explicit axes"), ("artifact",), ("sequence",), devices.DIRECTIONS),
        "keys of the other devices",
    ),
}

Cell = tuple[str, str, str, str]


def lines_of(name: str, *arguments: str) -> subprocess.Popen[str]:
    script = Path(__file__).with_name(name)
    return subprocess.Popen(
        [sys.executable, str(script), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """What the processes found, by cell or by the name of a check."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    started = [
        lines_of("devices.py"),
        lines_of("device_checks.py"),
        *(lines_of("devices.py", port, index) for index in "01"),
    ]
    # They take three minutes on two cores that do nothing else.
    ended = [process.communicate(timeout=1800) for process in started]
    for process, (_, errors) in zip(started, ended, strict=True):
        assert process.returncode == 0, errors
    lines = [json.loads(line) for out, _ in ended for line in out.splitlines() if line.startswith("{")]
    return {json.dumps(line["name"]): line for line in lines}


@pytest.mark.parametrize("cell", CELLS, ids=" - ".join)
def test_cell(results: dict[str, Any], cell: Cell) -> None:
    result = results[json.dumps(cell)]
    if cell in REFUSED:
        assert REFUSED[cell] in result["refused"]
    else:
        assert "refused" not in result, result["refused"]
        assert result["error"] <= ALLOWED[cell[3]]


def _exchanges_only_sums(cell: Cell) -> bool:
    """Whether a split over batch or heads needs no exchange besides the sums of what several devices share.

    The exceptions are written in docs/devices.md: what XLA splits without being told are an artifact for one device and the
    heads of a plan, and the columns of a table are brought together by `sharding=` and explicit axes.
    """
    way, name, split, _ = cell
    alone = way == "jit, automatic axes" and (name == "artifact" or (name, split) == ("plan", "heads"))
    if split == "sequence" or cell in REFUSED or alone:
        return False
    return (name, split) != ("embed", "heads") or way == "jit, automatic axes" or way in _MAPPED


@pytest.mark.parametrize("cell", list(filter(_exchanges_only_sums, CELLS)), ids=" - ".join)
def test_batch_and_heads_exchange_nothing_but_sums(results: dict[str, Any], cell: Cell) -> None:
    has_sum = cell[3] == "gradient" or cell[1:3] in (("plan", "heads"), ("artifact", "heads"))
    assert set(results[json.dumps(cell)]["collectives"]) <= ({"all-reduce"} if has_sum else set())


@pytest.mark.parametrize("name", device_checks.CHECKS)
def test_check(results: dict[str, Any], name: str) -> None:
    assert not results[json.dumps(name)]["failed"], results[json.dumps(name)]["failed"]


def words(cell: Cell, result: dict[str, Any]) -> str:
    if "refused" in result:
        return "refused"
    return ", ".join(f"{count} {kind}" for kind, count in result["collectives"].items()) or "0"


def table(results: dict[str, Any]) -> str:
    columns = list(product(devices.SPLITS, devices.DIRECTIONS))
    rows = [
        "| how | call | " + " | ".join(f"{split}, {direction}" for split, direction in columns) + " |",
        "| --- | --- " + "| --- " * len(columns) + "|",
    ]
    for way, name in product(WAYS, devices.SUBJECTS):
        cells = [words((way, name, *column), results[json.dumps((way, name, *column))]) for column in columns]
        rows.append(f"| {way} | {name} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def test_the_page_has_the_table(results: dict[str, Any], request: pytest.FixtureRequest) -> None:
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    made = before + BEGIN + table(results) + END + rest.split(END)[1]
    if request.config.getoption("--update-golden"):
        PAGE.write_text(made)
    assert PAGE.read_text() == made, "pytest --update-golden writes the table"
