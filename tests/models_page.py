"""docs/models.md: how far ropegen is from transformers, one row per model type.

`python tests/record_models_page.py` measures and writes it. This file reads and lays it out, and needs neither torch nor
transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hub_layers import CONFIGS, WRAPPED
from hub_models import STEPS

from ropegen.models import FAMILIES
from ropegen.models.family import FrontEnd

PAGE = Path(__file__).resolve().parent.parent / "docs" / "models.md"
MOST = 2e-6
"""The largest error of float32, in units of the largest value. Scores may have twice transformers' own error instead."""

NOT_COMPARED: Mapping[str, str] = {
    "gemma3": "ropegen reads its `text_config` as a `gemma3_text`, which has a row",
    "kimi_k2": "transformers has no such class; its models use the code of `deepseek_v3`, which has a row",
    "qwen2_5_vl": "ropegen reads its `text_config` as a `qwen2_5_vl_text`, which has a row",
    "qwen2_vl": "ropegen reads its `text_config` as a `qwen2_vl_text`, which has a row",
    "qwen3_vl": "ropegen reads its `text_config` as a `qwen3_vl_text`, which has a row",
    "transformer": "transformers has no such class. `tests/test_models.py` compares the front-end with NumPy",
}
"""Accepted model types that have no measured front-end, and why."""

BARE = "it is a text tower without a head that scores tokens"
WITHOUT_SCORES: Mapping[str, str] = {
    "clip_text_model": BARE,
    "qwen2_5_vl_text": BARE,
    "qwen2_vl_text": BARE,
    "qwen3_vl_text": BARE,
}
"""Decoders that `rg.Model` does not take whole, and why."""


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured for a model type: the worst of all its small models. Errors are relative to the largest value."""

    prefill: float
    decode: float | None
    """None for an encoder."""
    scores: float | None
    """None where `rg.Model` does not take the model whole."""
    own_error: float | None
    """Of the scores of transformers in float32."""
    tokens: int | None
    """The greedy tokens, of 64 for every prompt, before the first one that differs."""
    measured: str
    """The date, and the versions of transformers, torch and jax."""

    @property
    def allowed_of_scores(self) -> float:
        """The largest error of the scores that the row may have."""
        return max(MOST, 2 * (self.own_error or 0.0))

    @property
    def is_right(self) -> bool:
        """Whether every figure is within its bound."""
        errors = (self.prefill, self.decode or 0.0)
        return (
            max(errors) <= MOST
            and (self.scores is None or self.scores <= self.allowed_of_scores)
            and self.tokens in (None, STEPS)
        )


def accepted() -> list[str]:
    """The model types that `rg.from_hf` takes."""
    return [name for name, family in FAMILIES.items() if isinstance(family.front_end, FrontEnd)]


def is_decoder(model_type: str) -> bool:
    """Whether a token sees only those before it."""
    front_end = FAMILIES[model_type].front_end
    return isinstance(front_end, FrontEnd) and front_end.causal


def configs_of(model_type: str) -> dict[str, dict[str, object]]:
    """The small models of `hub_layers` of this type, by name."""
    return {name: config for name, config in CONFIGS.items() if config["model_type"] == model_type}


COMMAND = "python tests/record_models_page.py"
INTRODUCTION = f"""\
# Model types, measured

`{COMMAND}` measured every row on small models with random weights (also of norms, biases and sinks), and wrote this page.
It needs `pip install '.[transformers]'`. `{COMMAND} llama qwen3` measures these types again, and keeps the other rows.

- **prefill**: the largest error of the attention front-end, from what goes into a layer to its output projection, over all
  layers, in units of the largest value. ropegen is compiled for CPU and computes in float32. The code of transformers runs in
  float64 throughout, also where it asks for float32 (norms, softmax, rotary tables).
- **decode**: the same for three tokens after the prompt, one by one. Both sides continue a cache, and `openai-gpt` and
  `clip_text_model`, which keep none in transformers, read the whole sequence there.
- **scores**: the same for the scores that `rg.Model` gives after every token of two prompts, for the whole model. **own** is
  the error of the scores that transformers gives in float32.
- **tokens**: the greedy tokens after each prompt, of {STEPS}, that equal those of transformers in float32.

An error is at most {MOST:.0e}, and for scores at most twice the error of transformers itself where that is more. A row has the
worst of all small models of its type: `tests/hub_layers.py` and `tests/hub_models.py` have their configs. Other model types are
refused, and `ropegen list models` says why.

Types that hold a text model beside encoders of images or sound have no rows of their own. `tests/test_hub_layers.py` compares the
scores that {len(WRAPPED)} of them give for text, from the config and the checkpoint of the whole model.
"""
COLUMNS = ("model type", "prefill", "decode", "scores", "own", "tokens", "measured with transformers, torch, jax")


def render(rows: Mapping[str, Row]) -> str:
    """The page."""
    lines = [INTRODUCTION, f"| {' | '.join(COLUMNS)} |", "| --- " * len(COLUMNS) + "|"]
    for name, row in sorted(rows.items()):
        cells = (row.prefill, row.decode, row.scores, row.own_error, row.tokens)
        lines.append(f"| `{name}` | {' | '.join(map(_said, cells))} | {row.measured} |")
    encoders = [name for name in rows if not is_decoder(name)]
    lines += ["", "Empty cells:", ""]
    lines.append(f"- These are encoders, which continue nothing and score no next token: {_names(encoders)}.")
    reasons: dict[str, list[str]] = {}
    for name, why in {**WITHOUT_SCORES, **NOT_COMPARED}.items():
        reasons.setdefault(why, []).append(name)
    lines += [f"- {_names(names)}: {why}." for why, names in reasons.items()]
    return "\n".join(lines) + "\n"


def read(page: str) -> dict[str, Row]:
    """The rows of a page, by model type."""
    rows: dict[str, Row] = {}
    for line in page.splitlines():
        if line.startswith("| `"):
            name, *cells, measured = (cell.strip() for cell in line.strip("|").split("|"))
            prefill, decode, scores, own_error = (float(cell) if cell else None for cell in cells[:4])
            assert prefill is not None
            tokens = int(cells[4]) if cells[4] else None
            rows[name.strip("`")] = Row(prefill, decode, scores, own_error, tokens, measured)
    return rows


def _said(value: float | None) -> str:
    match value:
        case None:
            return ""
        case int():
            return str(value)
        case _:
            return f"{value:.1e}".replace("e-0", "e-")


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))
