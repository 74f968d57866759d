"""Write docs/models.md: how far ropegen is from transformers for every model type, on small models with drawn weights.

Run `python tests/record_models_page.py` by hand, where torch and transformers are installed. Model types after it are
measured again, and the other rows stay. The page is written after every type, so a run that ends early loses none.
The live comparison in test_models_page.py calls `measure` too.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Mapping
from typing import Any

import hub_models
import jax
import numpy as np
import record_models
import torch
import transformers
from hub_layers import IDS, IMAGE, TYPES, longer
from models_page import NOT_COMPARED, PAGE, WITHOUT_SCORES, Row, accepted, configs_of, is_decoder, read, render
from record_layers import HubModel

import ropegen as rg
from ropegen.models import FAMILIES

FOLLOWING = np.array([[8, 21, 30]], np.int32)
CAPACITY = 16


def relative(ours: Any, theirs: np.ndarray) -> float:
    """The largest difference, in units of the largest value."""
    assert np.shape(ours) == theirs.shape
    return float(np.abs(np.asarray(ours, np.float64) - theirs).max() / np.abs(theirs).max())


def front_end_errors(config: Mapping[str, Any]) -> tuple[float, float | None]:
    """The largest errors over all layers of a small model: of the prompt, and of the tokens after it."""
    stated = dict(config)
    causal = is_decoder(stated["model_type"])
    hub = HubModel(stated, torch.float64)
    checkpoint = rg.weights.open(stated, hub.model.state_dict(), dtype="f32")
    parts = [IDS, *(FOLLOWING[:, [token]] for token in range(FOLLOWING.shape[1]))] if causal else [IDS]
    calls = hub.calls(checkpoint, parts)
    prefills: list[float] = []
    decodes: list[float] = []
    for layer in range(checkpoint.layers):
        start = "hidden" if layer else "ids"
        weights = checkpoint.front_end(layer, start)
        build: dict[str, Any] = {"layer": layer, "start": start, "dtype": "f32"}
        build |= {"capacity": CAPACITY} if causal else {}
        seq = None if checkpoint.facts.patches else IDS.shape[1]
        prompt, step = rg.from_hf(stated, seq=seq, **build), None
        caches = {label: np.zeros(prompt.input_types[label].shape, np.float32) for label in prompt.labels("state")}
        run = rg.plan(prompt, "cpu").compile()
        for number, part in enumerate(parts):
            hidden, out = calls[number][layer]
            done = sum(earlier.shape[1] for earlier in parts[:number])
            given = {
                "ids": part,
                "hidden": hidden.astype(np.float32),
                "token_type_ids": TYPES,
                "image": IMAGE,
                "positions": np.arange(done, done + part.shape[1], dtype=np.int32)[None],
                "lengths": np.array([done if number else part.shape[1]], np.int32),
            }
            if number == 1:
                step = rg.from_hf(stated, phase="decode", **build)
                run = rg.plan(step, "cpu").compile()
            graph = prompt if step is None else step
            results = run(**{label: given[label] for label in graph.labels("activation")}, **caches, **weights)
            caches = {label: results[label] for label in caches}
            (decodes if number else prefills).append(relative(results["out"] if caches else results, out))
    return max(prefills), max(decodes) if causal else None


def whole_configs(model_type: str) -> list[dict[str, Any]]:
    """The small models that run whole: those of `hub_models`, or those of `hub_layers` with room for the answer."""
    own = [config for config in hub_models.CONFIGS.values() if config["model_type"] == model_type]
    return own or [longer(config) for config in configs_of(model_type).values()]


def model_errors(config: Mapping[str, Any]) -> tuple[float, float, int]:
    """Of a whole model: the error of its scores, that of transformers' own, and the tokens until one differs."""
    said = record_models.run(dict(config))
    held = hub_models.tensors({name: tuple(shape) for name, shape in said["shapes"].items()})
    model = rg.Model.from_hf(config, rg.weights.open(config, held), target="cpu")
    prompt = hub_models.PROMPT
    scores, cache = model.prefill(prompt, capacity=prompt.shape[1] + hub_models.STEPS, every=True)
    tokens: list[np.ndarray] = []
    following = scores
    for _ in range(hub_models.STEPS):
        tokens.append(np.asarray(following[:, -1].argmax(-1)))
        following, cache = model.decode(tokens[-1][:, None], cache)
    equal = np.cumprod(np.stack(tokens, axis=1) == np.array(said["tokens"]), axis=1).sum(axis=1)
    return relative(scores, np.array(said["logits"])), said["own_error"], int(equal.min())


def measure(model_type: str) -> Row:
    """The row of a model type: the worst of all its small models."""
    prefills, decodes = zip(*map(front_end_errors, configs_of(model_type).values()), strict=True)
    measured = (
        f"{transformers.__version__}, {str(torch.__version__).partition('+')[0]}, {jax.__version__}, "
        f"{datetime.date.today().isoformat()}"
    )
    decode = max(decodes) if is_decoder(model_type) else None
    if FAMILIES[model_type].block is None or model_type in WITHOUT_SCORES:
        return Row(max(prefills), decode, None, None, None, measured)
    wholes = [model_errors(config) for config in whole_configs(model_type)]
    # The model with the least room below its bound is the one to show.
    scores, own_error, _ = max(wholes, key=lambda whole: whole[0] / max(whole[1], 1e-6))
    return Row(max(prefills), decode, scores, own_error, min(whole[2] for whole in wholes), measured)


def main() -> int:
    """Measure every type, or those named, and write the page. 1 if a row is out of its bounds."""
    rows = read(PAGE.read_text()) if PAGE.is_file() else {}
    rows = {name: row for name, row in rows.items() if name in accepted()}
    wrong: list[str] = []
    for name in sys.argv[1:] or accepted():
        if name in NOT_COMPARED:
            continue
        rows[name] = measure(name)
        print(name, rows[name], flush=True)
        wrong += [] if rows[name].is_right else [name]
        aside = PAGE.with_suffix(".new")
        aside.write_text(render(rows))
        os.replace(aside, PAGE)
    print(f"{PAGE.name}: {len(rows)} model types; out of their bounds: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
