#!/usr/bin/env python3
"""Tokens a second of a whole decoder on CPU, beside transformers' `generate` with a static cache.

    python3 benchmarks/model_decode.py                 12 layers, 768 wide, 12 heads, bf16, a context of 1024
    python3 benchmarks/model_decode.py --dtype f32 --layers 4

The model is a Llama with random weights, read from the state of transformers' own model. Both write greedy tokens from
the same prompt, in turns. The time of a token is the difference of a long and a short answer, divided by their
difference in tokens, so that the prompt and the start of a call do not count. It needs `pip install
'.[torch,native,transformers]'`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import ropegen as rg

SHORT, LONG = 8, 72
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=TYPES, default="bf16", help="of weights and activations (default: bf16)")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--context", type=int, default=1024, help="prompt and answer together (default: 1024)")
    parser.add_argument("--rounds", type=int, default=5, help="timed answers of each length (default: 5)")
    options = parser.parse_args()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=options.layers,
        num_attention_heads=12,
        num_key_value_heads=12,
        max_position_embeddings=options.context,
        torch_dtype=TYPES[options.dtype],
    )
    theirs = LlamaForCausalLM(config).to(TYPES[options.dtype]).eval()
    theirs.generation_config.eos_token_id = None
    ours = rg.Model.from_hf(config, rg.weights.open(config, theirs.state_dict()))
    prompt = np.random.default_rng(0).integers(0, config.vocab_size, (1, options.context - LONG), dtype=np.int32)
    given = torch.from_numpy(prompt.astype(np.int64))

    def by_transformers(steps: int) -> np.ndarray:
        with torch.no_grad():
            answer = theirs.generate(
                given, do_sample=False, min_new_tokens=steps, max_new_tokens=steps, cache_implementation="static"
            )
        return answer[:, given.shape[1] :].numpy()

    def by_ropegen(steps: int) -> np.ndarray:
        return np.asarray(ours.generate(prompt, steps, capacity=options.context))

    contenders = {"ropegen": by_ropegen, "transformers": by_transformers}
    for name, contender in contenders.items():
        first = {steps: seconds(lambda c=contender, steps=steps: c(steps)) for steps in (SHORT, LONG)}
        print(f"{name}: the first answers took {first[SHORT]:.1f} s and {first[LONG]:.1f} s")
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, contender in contenders.items():
            long, short = (seconds(lambda c=contender, steps=steps: c(steps)) for steps in (LONG, SHORT))
            taken[name].append((long - short) / (LONG - SHORT))
    rates = {name: 1 / statistics.median(times) for name, times in taken.items()}
    for name, rate in rates.items():
        print(f"{name:12} {rate:6.1f} tokens/s, between {1 / max(taken[name]):.1f} and {1 / min(taken[name]):.1f}")
    same = int((by_ropegen(SHORT) == by_transformers(SHORT)).sum())
    print(
        f"ropegen over transformers: {rates['ropegen'] / rates['transformers']:.2f}; {same} of {SHORT} tokens are equal"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
