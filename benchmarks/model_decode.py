#!/usr/bin/env python3
"""Tokens a second of a whole decoder on CPU, beside transformers' `generate` with a static cache.

    python3 benchmarks/model_decode.py          12 layers, 768 wide, 12 heads, a context of 1024, in f32 and bf16
    python3 benchmarks/model_decode.py --dtype f32 --layers 4

The model is a Llama with random weights, read from the state of transformers' own model. Both write greedy tokens from
the same prompt, in turns. The time of a token is the difference of a long and a short answer, divided by their
difference in tokens, so that the prompt and the start of a call do not count. The first line measures the standard
model and writes model_decode.md beside this file; any option measures another and only prints. It needs `pip install
'.[torch,native,transformers]'`. No other work should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import results
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import ropegen as rg
from ropegen import bench

PAGE = Path(__file__).with_suffix(".md")
WANTED = 1.5  # in bf16, from the project's goals
SHORT, LONG = 8, 72
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@dataclass(frozen=True)
class Rates:
    """Tokens a second: one figure for each round."""

    dtype: str
    ropegen: list[float]
    transformers: list[float]
    same: int  # tokens of the short answers that are equal

    @property
    def ratio(self) -> float:
        return statistics.median(self.ropegen) / statistics.median(self.transformers)


def measure(dtype: str, layers: int, context: int, rounds: int) -> Rates:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=layers,
        num_attention_heads=12,
        num_key_value_heads=12,
        max_position_embeddings=context,
        torch_dtype=TYPES[dtype],
    )
    theirs = LlamaForCausalLM(config).to(TYPES[dtype]).eval()
    theirs.generation_config.eos_token_id = None
    ours = rg.Model.from_hf(config, rg.weights.open(config, theirs.state_dict()))
    prompt = np.random.default_rng(0).integers(0, config.vocab_size, (1, context - LONG), dtype=np.int32)
    given = torch.from_numpy(prompt.astype(np.int64))

    def by_transformers(steps: int) -> np.ndarray:
        with torch.no_grad():
            answer = theirs.generate(
                given, do_sample=False, min_new_tokens=steps, max_new_tokens=steps, cache_implementation="static"
            )
        return answer[:, given.shape[1] :].numpy()

    def by_ropegen(steps: int) -> np.ndarray:
        return np.asarray(ours.generate(prompt, steps, capacity=context))

    contenders = {"ropegen": by_ropegen, "transformers": by_transformers}
    for contender in contenders.values():
        for steps in (SHORT, LONG):
            contender(steps)  # compiles
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            long, short = (seconds(lambda c=contender, steps=steps: c(steps)) for steps in (LONG, SHORT))
            taken[name].append((LONG - SHORT) / (long - short))
    same = int((by_ropegen(SHORT) == by_transformers(SHORT)).sum())
    return Rates(dtype, taken["ropegen"], taken["transformers"], same)


def table(measured: list[Rates]) -> str:
    lines = [
        "| type | ropegen, tokens a second | transformers | ropegen over transformers | equal tokens |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for rates in measured:
        ours, theirs = (
            f"{statistics.median(each):.1f} ({min(each):.1f} to {max(each):.1f})"
            for each in (rates.ropegen, rates.transformers)
        )
        lines.append(f"| {rates.dtype} | {ours} | {theirs} | {rates.ratio:.2f} | {rates.same} of {SHORT} |")
    return "\n".join(lines)


def page(measured: list[Rates], rounds: int) -> str:
    machine = {
        **bench.machine(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
    }
    processor = machine.pop("processor")
    with_versions = ", ".join(f"{name} {value}" for name, value in machine.items())
    now = datetime.datetime.now(datetime.UTC)
    return "\n".join(
        [
            "# Decoding a whole model on CPU, side by side",
            "",
            f"{processor}; {with_versions}. {now:%Y-%m-%d %H:%M} UTC.",
            "",
            "`python3 benchmarks/model_decode.py` wrote this page. The model is a Llama of 12 layers, 768 wide, 12 heads, with a",
            "vocabulary of 32,000 and random weights; batch 1, a context of 1024. `rg.Model.generate` and transformers' eager",
            f"`generate` with a static cache ran in turns in one process, {rounds} rounds; the figures are medians, with the lowest",
            "and the highest round. The time of the prompt does not count.",
            "",
            table(measured),
            "",
            f"The goal is {WANTED} times transformers in bf16.",
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=TYPES, help="of weights and activations (default: both)")
    parser.add_argument("--layers", type=int, help="default: 12")
    parser.add_argument("--context", type=int, help="prompt and answer together (default: 1024)")
    parser.add_argument("--rounds", type=int, default=5, help="timed answers of each length (default: 5)")
    options = parser.parse_args()
    measured: list[Rates] = []
    for dtype in [options.dtype] if options.dtype else TYPES:
        results.say(f"{dtype} ...")
        measured.append(measure(dtype, options.layers or 12, options.context or 1024, options.rounds))
    print(table(measured))
    if not (options.dtype or options.layers or options.context):
        results.write(PAGE, page(measured, options.rounds))
        results.say(f"wrote {PAGE.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
