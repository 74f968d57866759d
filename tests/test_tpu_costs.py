"""The XLA templates' costs on TPU, beside what libtpu estimates for the programs that it compiles of them.

Recorded: the estimated cycles of every op in the compiled module (libtpu 0.0.52, jax 0.10.2), loops times their trips,
over the clock. A program on v7x has one core of the two that the figures are of. A gather has no estimate and is left
out. The backward pass of embed is not here: nearly all of it is writing zeros to a table, at the speed of memory.
"""

from __future__ import annotations

import json

import pytest
from conftest import GOLDEN

import ropegen as rg
from ropegen import models
from ropegen.cost import Direction
from ropegen.target import Target
from ropegen.template import Tile, cheapest_tile, cost_of, template

# Case, family, which of its regions, direction, microseconds by chip.
RECORDED = [
    ("llama3-8b-prefill", "qkv_rope", 0, "forward", {"v5e": 1043.0}),  # rotated
    ("llama3-8b-prefill", "qkv_rope", 1, "forward", {"v5e": 766.4, "v7x": 169.6}),
    ("qwen3-8b", "qkv_rope", 0, "forward", {"v5e": 1247.6, "v7x": 367.9}),  # normed and rotated
    ("qwen3-8b", "qkv_rope", 1, "forward", {"v5e": 970.5, "v7x": 282.7}),  # normed
    ("gpt2-small", "qkv_rope", 0, "forward", {"v5e": 62.2, "v7x": 20.9}),
    ("llama3-8b-prefill", "qkv_rope", 0, "tangent", {"v5e": 1580.3}),
    ("qwen3-8b", "qkv_rope", 0, "tangent", {"v5e": 2620.5}),
    ("gpt2-small", "qkv_rope", 0, "tangent", {"v5e": 79.7}),
    ("llama3-8b-prefill", "qkv_rope", 0, "backward", {"v5e": 1499.0}),
    ("qwen3-8b", "qkv_rope", 0, "backward", {"v5e": 2877.9}),
    ("gpt2-small", "qkv_rope", 0, "backward", {"v5e": 88.1}),
    ("llama3-8b-prefill", "embed", 0, "forward", {"v5e": 184.0}),
    ("gpt2-small", "embed", 0, "forward", {"v5e": 42.1, "v7x": 14.4}),
    ("llama3-8b-prefill", "embed", 0, "tangent", {"v5e": 236.0}),
    ("gpt2-small", "embed", 0, "tangent", {"v5e": 66.0}),
    ("llama3-8b-prefill", "attend", 2, "forward", {"v5e": 2979.0, "v7x": 1163.9}),  # nothing is rotated inside
    ("gemma2-9b-local", "attend", 2, "forward", {"v5e": 18818.3}),
    ("bloom-560m", "attend", 0, "forward", {"v5e": 2859.6, "v7x": 1812.7}),
    ("gpt2-small", "attend", 0, "forward", {"v5e": 459.9, "v7x": 263.1}),
    ("llama3-8b-prefill", "attend", 2, "tangent", {"v5e": 3183.7, "v7x": 1446.2}),
    ("gpt2-small", "attend", 0, "tangent", {"v5e": 483.3, "v7x": 336.1}),
    ("llama3-8b-prefill", "attend", 2, "backward", {"v5e": 5133.8, "v7x": 3242.6}),
    ("gpt2-small", "attend", 0, "backward", {"v5e": 628.0, "v7x": 425.9}),
]

# Milliseconds of causal attention in bf16 with eight key heads on one of the two cores of a v7x, by tokamax's splash attention.
# They were measured on the chip, and tokamax 0.0.17 ships them: direction, query heads, positions, features, milliseconds.
MEASURED: list[tuple[Direction, int, int, int, float]] = [
    ("forward", 64, 8192, 128, 3.932),
    ("forward", 32, 4096, 128, 0.587),
    ("forward", 32, 4096, 256, 0.722),
    ("forward", 32, 8192, 256, 2.233),
    ("forward", 32, 32768, 128, 25.433),
    ("forward", 32, 32768, 256, 27.816),
    ("backward", 64, 8192, 128, 8.261),
    ("backward", 32, 4096, 128, 1.254),
    ("backward", 32, 4096, 256, 1.394),
    ("backward", 32, 8192, 256, 4.616),
    ("backward", 32, 32768, 128, 52.958),
    ("backward", 32, 32768, 256, 58.351),
]

# Cycles of a tile of 512 x 512 scores with 128 features in bf16, forward and backward (benchmarks/tpu.md).
TILE_CYCLES = {"v4": (1382, 2820), "v5e": (1231, 2760), "v5p": (1231, 2760), "v6e": (666, 1424), "v7x": (691, 1441)}


@pytest.mark.parametrize(("case", "family", "index", "direction", "estimates"), RECORDED)
def test_the_cost_on_tpu_is_within_twice_of_the_compiler_s(
    case: str, family: str, index: int, direction: Direction, estimates: dict[str, float]
) -> None:
    chosen = template(f"{family}/xla")
    graph = rg.plan(
        models.from_case(json.loads((GOLDEN / "cases" / case / "config.json").read_text())), "tpu:v5e"
    ).graph
    regions = list(dict.fromkeys(region.closed for region in chosen.family.find(graph)))
    site = chosen.family.site(regions[index])
    for chip, estimate in estimates.items():
        target = Target.parse(f"tpu:{chip}")
        predicted = 1e6 * cost_of(chosen, site, target, cheapest_tile(chosen, site, target), direction).seconds
        cores = 2 if chip == "v7x" else 1
        assert estimate / (2 * cores) < predicted < 2 * estimate, chip


@pytest.mark.parametrize("chip", TILE_CYCLES)
def test_a_backward_tile_of_the_kernel_over_a_forward_one_is_within_a_quarter_of_the_schedules(chip: str) -> None:
    b = rg.Builder("attention")
    q, k, v = (b.input(label, (1, 4096, 8, 128), "bf16") for label in "qkv")
    graph = b.build(out=b.attend(q, k, v, mask=rg.masks.causal))
    kernel = template("attend/mosaic_tpu")
    (closed,) = {region.closed for region in kernel.family.find(graph)}
    site, target, tile = kernel.family.site(closed), Target.parse(f"tpu:{chip}"), Tile.of(q=512, kv=512)
    forward, backward = (cost_of(kernel, site, target, tile, direction) for direction in ("forward", "backward"))
    assert forward.bound == backward.bound == "compute"  # so that the tiles are what the seconds are of
    cycles = TILE_CYCLES[chip]
    assert backward.compute / forward.compute == pytest.approx(cycles[1] / cycles[0], rel=0.25)


@pytest.mark.parametrize(("direction", "heads", "length", "width", "milliseconds"), MEASURED)
def test_the_estimate_on_v7x_is_near_what_tokamax_s_kernel_took_there(
    direction: Direction, heads: int, length: int, width: int, milliseconds: float
) -> None:
    b = rg.Builder("attention")
    q, k, v = (b.input(label, (1, length, count, width), "bf16") for label, count in (("q", heads), ("k", 8), ("v", 8)))
    graph = b.build(out=b.attend(q, k, v, mask=rg.masks.causal))
    kernel = template("attend/mosaic_tpu")
    (closed,) = {region.closed for region in kernel.family.find(graph)}
    site, target = kernel.family.site(closed), Target.parse("tpu:v7x")
    estimate = 1e3 * cost_of(kernel, site, target, cheapest_tile(kernel, site, target), direction).seconds
    cores = target.figures.cores
    # ropegen's kernel computes less of the tiles on the diagonal, so it may be faster at a short length.
    assert 0.65 < cores * estimate / milliseconds < 1.5


def test_the_plan_says_that_estimates_for_v7x_follow_measured_times() -> None:
    b = rg.Builder("attention")
    q, k, v = (b.input(label, (1, 512, 4, 128), "bf16") for label in "qkv")
    graph = b.build(out=b.attend(q, k, v))
    said = {chip: str(rg.plan(graph, f"tpu:{chip}").explain()) for chip in ("v5e", "v7x")}
    figures = Target.parse("tpu:v7x").figures
    assert (
        f"{figures.measured:g} times as long, {figures.measured_backward:g} times in the backward pass" in said["v7x"]
    )
    assert "times as long" not in said["v5e"]
