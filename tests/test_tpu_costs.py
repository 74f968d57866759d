"""The XLA templates' costs on TPU, beside what libtpu estimates for the programs that it compiles of them.

Recorded: each op's estimated cycles in the compiled module (libtpu 0.0.52, jax 0.10.2), loops times their trips, over
the clock. A program on v7x has one core of the two that the figures are of. A gather has no estimate; it is left out.
"""

from __future__ import annotations

import json

import pytest
from conftest import GOLDEN

import ropegen as rg
from ropegen import models
from ropegen.target import Target
from ropegen.template import template

# Case, family, which of its regions, microseconds by chip.
RECORDED = [
    ("llama3-8b-prefill", "qkv_rope", 0, {"v5e": 1043.0}),  # rotated
    ("llama3-8b-prefill", "qkv_rope", 1, {"v5e": 766.4, "v7x": 169.6}),
    ("qwen3-8b", "qkv_rope", 0, {"v5e": 1247.6, "v7x": 367.9}),  # normed and rotated
    ("qwen3-8b", "qkv_rope", 1, {"v5e": 970.5, "v7x": 282.7}),  # normed
    ("gpt2-small", "qkv_rope", 0, {"v5e": 62.2, "v7x": 20.9}),
    ("llama3-8b-prefill", "embed", 0, {"v5e": 184.0}),
    ("gpt2-small", "embed", 0, {"v5e": 42.1, "v7x": 14.4}),
    ("llama3-8b-prefill", "attend", 2, {"v5e": 2979.0, "v7x": 1163.9}),  # nothing is rotated inside
    ("gemma2-9b-local", "attend", 2, {"v5e": 18818.3}),
    ("bloom-560m", "attend", 0, {"v5e": 2859.6, "v7x": 1812.7}),
    ("gpt2-small", "attend", 0, {"v5e": 459.9, "v7x": 263.1}),
]


@pytest.mark.parametrize(("case", "family", "index", "estimates"), RECORDED)
def test_the_cost_on_tpu_is_within_twice_of_the_compiler_s(
    case: str, family: str, index: int, estimates: dict[str, float]
) -> None:
    chosen = template(f"{family}/xla")
    graph = rg.plan(
        models.from_case(json.loads((GOLDEN / "cases" / case / "config.json").read_text())), "tpu:v5e"
    ).graph
    found: list[object] = []
    for region in chosen.family.find(graph):
        if region.closed not in found:
            found.append(region.closed)
    site = chosen.family.site(found[index])
    for chip, estimate in estimates.items():
        target = Target.parse(f"tpu:{chip}")
        predicted = 1e6 * min(chosen.cost(site, target, tile).seconds for tile in chosen.tiles(site, target))
        cores = 2 if chip == "v7x" else 1
        assert estimate / (2 * cores) < predicted < 2 * estimate, chip
