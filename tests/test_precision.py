"""Products of float32 keep the precision of float32 on every platform: the tests read it from StableHLO for TPU.

Without a stated precision, XLA rounds the factors to bfloat16 on TPU, and to TF32 on GPU.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ropegen as rg
from ropegen import masks, plain
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.template import Site, template
from ropegen.types import numpy_dtype

V5E = rg.Target.parse("tpu:v5e")


def graph(dtype: str) -> Graph:
    b = Builder("products")
    x = b.input("x", (1, 32, 24), dtype)
    q, k, v = (b.split_heads(b.project(x, b.parameter(f"{n}_weight", (24, 32), dtype)), 4) for n in "qkv")
    return b.build(out=b.attend(q, k, v, mask=masks.causal))


def precisions(function: Callable[..., Any], *shapes: Any) -> list[str]:
    text = jax.export.export(jax.jit(function), platforms=["tpu"])(*shapes).mlir_module()
    asked: list[str] = []
    for line in text.splitlines():
        if "stablehlo.dot_general" in line:
            stated = re.search(r"precision = \[(\w+), (\w+)\]", line)
            asked += stated.groups() if stated else ("DEFAULT", "DEFAULT")
    return asked


def sites(family: str, dtype: str) -> list[Site]:
    chosen = template(f"{family}/xla").family
    return [chosen.site(region.closed) for region in chosen.find(rg.plan(graph(dtype), "tpu:v5e").graph)]


def shapes_of(site: Site) -> tuple[jax.ShapeDtypeStruct, ...]:
    return tuple(jax.ShapeDtypeStruct(node.type.shape, numpy_dtype(node.type.dtype)) for node in site.operands)


@pytest.mark.parametrize(("dtype", "asked"), [("f32", "HIGHEST"), ("bf16", "DEFAULT")])
def test_the_plain_ops_and_the_xla_templates_ask_for_whole_products_of_float32(dtype: str, asked: str) -> None:
    whole = graph(dtype)
    shapes = [jax.ShapeDtypeStruct(node.type.shape, numpy_dtype(node.type.dtype)) for node in whole.inputs]
    outputs = [value for _, value in whole.outputs]

    def evaluated(*values: jax.Array) -> Any:
        return plain.evaluate(outputs, dict(zip(whole.inputs, values, strict=True)))

    assert precisions(evaluated, *shapes) == [asked] * 10  # three projections, scores, and the weighted sum
    for family in ("qkv_rope", "attend"):
        for site in sites(family, dtype):
            chosen = template(f"{family}/xla")
            tile = next(iter(chosen.tiles(site, V5E)))
            assert {*precisions(chosen.build(site, tile, V5E).forward, *shapes_of(site))} == {asked}


def test_gradients_too() -> None:
    (site,) = sites("attend", "f32")
    chosen = template("attend/xla")
    kernel = chosen.build(site, next(iter(chosen.tiles(site, V5E))), V5E)
    operands, results = shapes_of(site), jax.eval_shape(kernel.forward, *shapes_of(site))
    wanted = [jnp.issubdtype(operand.dtype, np.floating) for operand in operands]
    asked = precisions(lambda *given: kernel.backward(*given, wanted), operands, results, results)
    assert {*asked} == {"HIGHEST"}
    assert {*precisions(kernel.tangent, operands, results, operands)} == {"HIGHEST"}
