"""What the cost model chooses for attention on CPU among the XLA templates: the kernel and its blocks, by the cores.

These templates take the place of native code in exported modules and on several devices.
"""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import jax
import pytest

import ropegen as rg
from ropegen.errors import RopegenError
from ropegen.target import Target
from ropegen.template import cost_of, template
from ropegen.types import numpy_dtype


def attention(length: int, heads: int, kv_heads: int, width: int, dtype: str, mask: rg.masks.Expr) -> rg.Graph:
    b = rg.Builder("attention")
    sizes = (("q", heads), ("k", kv_heads), ("v", kv_heads))
    q, k, v = (b.input(label, (1, length, count, width), dtype) for label, count in sizes)
    rope, at = rg.Rope(10_000.0, pairing="half"), b.positions(length)
    return b.build(out=b.attend(b.rope(q, at, rope), b.rope(k, at, rope), v, mask=mask))


def kernel(graph: rg.Graph, target: str) -> tuple[str, dict[str, int]]:
    """The template that computes a graph's attention in an exported module, "" for the plain op, and its tile."""
    for step in rg.plan(graph, target).steps:
        if step.exported is not None and step.exported.template.startswith("attend/"):
            return step.exported.template, dict(step.exported.tile.sizes)
    return "", {}


@pytest.mark.parametrize(
    ("target", "lengths"), [("cpu", (512, 1000, 4096)), ("cpu:amx", (512, 4096)), ("cpu:16", (4096,))]
)
@pytest.mark.parametrize("shape", [(8, 8, 64), (8, 2, 128), (4, 4, 80), (16, 2, 64)], ids=str)
def test_attention_is_not_left_to_the_plain_op(
    shape: tuple[int, int, int], target: str, lengths: tuple[int, ...]
) -> None:
    """The plain op keeps all scores in memory. It may look cheap only for short rows on many cores."""
    for length, dtype, mask in itertools.product(lengths, ("f32", "bf16"), (rg.masks.causal, rg.masks.full)):
        assert kernel(attention(length, *shape, dtype, mask), target)[0], (length, dtype, str(mask))


@pytest.mark.parametrize(
    ("target", "dtype", "wanted"),
    [
        ("cpu", "bf16", "attend/xla_f32"),
        ("cpu:8", "f16", "attend/xla_f32"),
        ("cpu", "f32", "attend/xla"),
        ("cpu:amx", "bf16", "attend/xla"),
        ("cpu:8:amx", "bf16", "attend/xla"),
    ],
)
def test_half_precision_is_widened_where_no_matrix_unit_takes_it(target: str, dtype: str, wanted: str) -> None:
    assert kernel(attention(2048, 8, 8, 64, dtype, rg.masks.causal), target)[0] == wanted


@pytest.mark.parametrize(("dtype", "wanted"), [("f32", True), ("bf16", True), ("f64", False)])
def test_the_polynomial_computes_weights_except_in_float64(dtype: str, wanted: bool) -> None:
    """The polynomial rounds exponents, and nothing else in attention does."""
    with jax.enable_x64(dtype == "f64"):
        graph = attention(1024, 2, 2, 64, dtype, rg.masks.causal)
        inputs = {
            label: jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype))
            for label, kind in graph.input_types.items()
        }
        text = jax.export.export(jax.jit(rg.plan(graph, "cpu").compile()))(**inputs).mlir_module()
    assert ("round_nearest_even" in text) == wanted


def test_a_window_takes_blocks_of_few_queries() -> None:
    """The band of a block is as wide as the window and the queries of the block together."""
    causal, window = rg.masks.causal, rg.masks.causal & rg.masks.window(1024)
    wide, narrow = (kernel(attention(8192, 8, 2, 128, "bf16", mask), "cpu")[1] for mask in (causal, window))
    assert narrow["q"] < wide["q"]


@pytest.mark.parametrize("shape", [(8, 8, 64), (8, 2, 128), (16, 2, 64)], ids=str)
def test_blocks_have_many_keys_where_nothing_is_hidden_and_a_bounded_count_of_rows(shape: tuple[int, int, int]) -> None:
    """The measured table has no tile for this length."""
    heads, kv_heads, _ = shape
    causal, full = (kernel(attention(6000, *shape, "f32", mask), "cpu")[1] for mask in (rg.masks.causal, rg.masks.full))
    assert full["kv"] > causal["kv"]
    for tile in (causal, full):
        assert tile["q"] * heads // kv_heads <= 2048


def test_backward_over_forward_is_what_was_measured() -> None:
    """Over the 80 points of benchmarks/cpu.json: shapes, types, masks and lengths. One process measured them all."""
    measured = json.loads((Path(__file__).parent.parent / "benchmarks" / "cpu.json").read_text())["points"]
    target, off = Target.parse("cpu:2:avx512bf16"), dict[str, float]()
    for point in (name.removeprefix("forward ") for name in measured if name.startswith("forward ")):
        forward, both = (
            next(one["median"] for one in measured[f"{way} {point}"]["contenders"] if one["name"] == "ropegen")
            for way in ("forward", "backward")
        )
        shape, dtype, mask, length = point.split()
        heads, kv_heads, width = map(int, shape.split("x"))
        graph = attention(int(length), heads, kv_heads, width, dtype, getattr(rg.masks, mask))
        (step,) = (step for step in rg.plan(graph, target).steps if step.region and step.region.family == "attend")
        assert step.chosen is not None
        assert step.chosen.template == "attend/llvm_cpu"
        chosen, site = template(step.chosen.template), step.region.closed
        costs = [
            cost_of(chosen, chosen.family.site(site), target, step.chosen.tile, way).seconds
            for way in ("forward", "backward")
        ]
        off[point] = (both - forward) / forward / (costs[1] / costs[0])
    assert len(off) == 80
    assert 0.8 < math.exp(sum(map(math.log, off.values())) / len(off)) < 1.25
    assert sum(1 / 1.5 < ratio < 1.5 for ratio in off.values()) >= 0.85 * len(off), off


@pytest.mark.parametrize("text", ["cpu", "cpu:8", "cpu:amx", "cpu:64:amx", "cpu:avx2", "cpu:8:neon", "cpu:avx512bf16"])
def test_a_target_is_written_as_it_is_read(text: str) -> None:
    assert str(Target.parse(text)) == text


@pytest.mark.parametrize("text", ["cpu:", "cpu:0", "cpu:amx:8", "cpu:8:avx", "cpu:amx:amx"])
def test_a_text_that_names_no_cpu_is_told_how_to_write_one(text: str) -> None:
    with pytest.raises(RopegenError, match="cpu:CORES:CHIP"):
        Target.parse(text)
