"""How closely ropegen matches the libraries that it replaces: one cell per symbol, mode and element type.

A comparison asserts a bound and records it in words; `pytest --update-seeds` writes these words to docs/seeds.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

PAGE = Path(__file__).resolve().parent.parent / "docs" / "seeds.md"

# Every symbol of the seeds (see docs/seeds.md), in their order.
SEEDS: Mapping[str, tuple[str, ...]] = {
    "equinox": ("Embedding", "RotaryPositionalEmbedding", "MultiheadAttention"),
    "attnax": (
        "TokenEmbedding",
        "PositionalEncoding",
        "RotaryEmbedding",
        "apply_rope",
        "rope_cos_sin_table",
        "rope_cos_sin_from_positions",
        "rope_inv_freq",
        "PatchEmbedding",
        "LearnedPositionalEmbedding",
    ),
    "penzai": ("ApplyRoPE", "ApplyRoPEToSubset"),
    "zeta": ("SinusoidalEmbeddings", "rotate_half", "apply_rotary_pos_emb"),
}
COLUMNS = tuple((mode, dtype) for dtype in ("f32", "bf16") for mode in ("eager", "jit"))

Place = tuple[str, str, str, str]


class Cell:
    """One cell of the table: its methods compare two results, and record the bound that holds."""

    def __init__(self, place: Place, record: Callable[[str], None]) -> None:
        seed, symbol, mode, dtype = place
        if symbol not in SEEDS[seed] or (mode, dtype) not in COLUMNS:
            pytest.fail(f"the table of seeds has no cell {place}")
        self.place = place
        self._record = record

    def equal(self, ours: Any, theirs: Any) -> None:
        """Assert the same bits, shape and element type, leaf by leaf."""
        for a, b in _leaves(ours, theirs):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            differ = int((_bits(a) != _bits(b)).sum())
            assert differ == 0, f"{differ} of {a.size} elements differ, by up to {_distance(a, b):.3g}"
        self._record("equal")

    def within(self, ours: Any, theirs: Any, limit: Any, words: str) -> None:
        """Assert |ours - theirs| <= limit (a number or a broadcasting array), and the same shape and element type."""
        for a, b in _leaves(ours, theirs):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert np.isfinite(_wide(a)).all()
            beyond = np.abs(_wide(a) - _wide(b)) > np.asarray(limit, np.float64)
            assert not beyond.any(), f"{int(beyond.sum())} of {a.size} elements are off by up to {_distance(a, b):.3g}"
        self._record(f"within {words}")

    def differs(self, ours: Any, theirs: Any, why: str) -> None:
        """Assert that the results differ in shape, type or value, because the seed has a mistake that ropegen avoids."""
        pairs = list(_leaves(ours, theirs))
        same = all((a.shape, a.dtype) == (b.shape, b.dtype) and np.array_equal(a, b) for a, b in pairs)
        assert not same, f"nothing differs; the seed may be mended: {why}"
        self._record(f"differs: {why}")

    def same_error(self, ours: Callable[[], Any], theirs: Callable[[], Any], wanted: type[BaseException]) -> None:
        """Assert that both raise `wanted`, so that code that catches the seed's exception also catches ropegen's."""
        with pytest.raises(wanted):
            theirs()
        with pytest.raises(wanted):
            ours()


def _leaves(ours: Any, theirs: Any) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    a, b = jax.tree.leaves(ours), jax.tree.leaves(theirs)
    assert len(a) == len(b) > 0
    return [(np.asarray(x), np.asarray(y)) for x, y in zip(a, b, strict=True)]


def _bits(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).view(f"u{x.dtype.itemsize}") if x.dtype.itemsize <= 8 and x.dtype != bool else x


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float64)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(np.abs(_wide(a) - _wide(b)), initial=0.0))


def summary(said: Iterable[str]) -> str:
    """The words of one cell's comparisons as one text: the bounds, else "equal"; then the differences by name."""
    texts = sorted(set(said))
    bounds = [text for text in texts if text.startswith("within")]
    agreed = bounds or [text for text in texts if text == "equal"]
    return "; ".join([*agreed, *(text for text in texts if text.startswith("differs"))])


def page(cells: Mapping[Place, str]) -> str:
    """The tables as Markdown; a cell without a comparison stays empty, and a test refuses an empty cell."""
    lines = [
        "# The seeds, symbol by symbol",
        "",
        "ropegen began from five documents, its *seeds*: equinox's embeddings, equinox's attention, attnax's embeddings, penzai's",
        "ApplyRoPE and zeta's SinusoidalEmbeddings. `ropegen.equinox`, `ropegen.nnx`, `ropegen.penzai` and `ropegen.zeta` have",
        "their names, arguments, shapes and errors. The tests in `tests/test_seed_*.py` run the seeds beside ropegen (for zeta",
        "they use recorded results) and write this page: `pytest tests/test_seed_*.py --update-seeds`.",
        "",
        "- **equal** means the same bits. *eager* runs op by op; *jit* runs inside one `jax.jit` on each side.",
        "- **within** a bound: the largest difference that the test allows. `ulp(x)` is the spacing of floats at the largest input.",
        "  Under `jit`, XLA may fuse a product and a sum into one rounding, both in a seed and in ropegen.",
        "- The list below a table shows where ropegen **differs** because the seed has a mistake; a test covers every difference.",
    ]
    for seed, symbols in SEEDS.items():
        lines += ["", f"## {seed}", ""]
        lines.append("| symbol | " + " | ".join(f"{dtype} {mode}" for mode, dtype in COLUMNS) + " |")
        lines.append("| --- " * (1 + len(COLUMNS)) + "|")
        notes: list[str] = []
        for symbol in symbols:
            row: list[str] = []
            differences: dict[str, list[str]] = {}
            for mode, dtype in COLUMNS:
                said = cells.get((seed, symbol, mode, dtype), "").split("; ")
                row.append("; ".join(text for text in said if not text.startswith(_DIFFERS)))
                for text in said:
                    if text.startswith(_DIFFERS):
                        differences.setdefault(text.removeprefix(_DIFFERS), []).append(f"{dtype} {mode}")
            lines.append(f"| `{symbol}` | " + " | ".join(row).replace("|x|", "\\|x\\|") + " |")
            for why, where in differences.items():
                only = "" if len(where) == len(COLUMNS) else f" ({', '.join(where)})"
                notes.append(f"- `{symbol}`{only}: {why}")
        lines += ["", *notes] if notes else []
    return "\n".join(lines) + "\n"


_DIFFERS = "differs: "


def read_page(text: str) -> dict[Place, str]:
    """The cells of a page that `page` wrote."""
    cells: dict[Place, str] = {}
    seed = ""
    for line in text.replace("\\|", "|").splitlines():
        if line.startswith("## "):
            seed = line[3:]
        elif match := re.fullmatch(r"\| `(\w+)` \| (.*) \|", line):
            for (mode, dtype), said in zip(COLUMNS, match[2].split(" | "), strict=True):
                cells[seed, match[1], mode, dtype] = said.strip()
        elif match := re.fullmatch(r"- `(\w+)`(?: \(([^)]*)\))?: (.*)", line):
            for mode, dtype in COLUMNS:
                if match[2] is None or f"{dtype} {mode}" in match[2].split(", "):
                    place = (seed, match[1], mode, dtype)
                    cells[place] = "; ".join(filter(None, [cells[place], _DIFFERS + match[3]]))
    return cells


def check(place: Place, said: Sequence[str], cells: Mapping[Place, str]) -> None:
    """Assert that the words of a comparison are on the page, in its cell."""
    known = cells.get(place, "").split("; ")
    for text in said:
        # If another comparison of the cell needs a bound, the page has that bound instead of "equal".
        assert text in known or (text == "equal" and known[0].startswith("within")), (
            f"docs/seeds.md says {'; '.join(known)!r} of {' '.join(place)}, this test {text!r}; "
            "pytest tests/test_seed_*.py --update-seeds writes it"
        )
