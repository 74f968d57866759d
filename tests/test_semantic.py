"""The semantic form: one composite per op, with every attribute and a decomposition that computes the op."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from drawn import drawn_graph
from independent import draw_inputs
from jax.extend.mlir import ir
from jax.interpreters import mlir

from ropegen import masks, models, reference
from ropegen.emit.module.semantic import semantic, written
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.ir.op import attributes
from ropegen.ir.ops import Input
from ropegen.rotary import Rope

CASES = Path(__file__).resolve().parent.parent / "golden" / "cases"


def front_end() -> Graph:
    case = json.loads((CASES / "gpt-j-6b" / "config.json").read_text())
    case["build"].update(seq=8, vocabulary=16)
    return models.from_case(case)


def composites(text: str) -> list[str]:
    return re.findall(r'stablehlo\.composite "ropegen\.(\w+)"', text)


def test_one_composite_an_op_with_the_operands_of_the_graph() -> None:
    graph = front_end()
    text = semantic(graph)
    computed = [value for value in graph.nodes if not isinstance(value.op, Input)]
    assert sorted(composites(text)) == sorted(value.op.name for value in computed)
    for line in text.splitlines():
        match = re.search(r'composite "ropegen\.(\w+)" ?(.*?) \{', line)
        if match:
            count = len(re.findall(r"%", match[2]))
            assert count in {len(value.operands) for value in computed if value.op.name == match[1]}, line


@pytest.mark.parametrize("seed", range(12))
def test_every_attribute_is_written(seed: int) -> None:
    for value in drawn_graph(seed, 30).nodes:
        if not isinstance(value.op, Input):
            names = {name.split(".")[0] for name in written(value)}
            assert names >= {a.name for a in attributes(type(value.op)) if getattr(value.op, a.name) is not None}


def test_onnx_names_where_the_meaning_is_the_same() -> None:
    b = Builder()
    q, k, v = b.input("q", (1, 6, 4, 8), "f32"), b.input("k", (1, 6, 2, 8), "f32"), b.input("v", (1, 6, 2, 8), "f32")
    causal = written(b.attend(q, k, v, mask=masks.causal, softcap=30.0))
    assert (causal["is_causal"], causal["q_num_heads"], causal["kv_num_heads"], causal["softcap"]) == (1, 4, 2, 30.0)
    later = b.attend(q, k, v, mask=masks.causal, q_positions=b.positions(6, 3), kv_positions=b.positions(6))
    assert written(later)["is_causal"] == 0  # ONNX compares indices, ropegen positions
    angles = b.angles(b.positions(6), Rope(100.0, pairing="interleaved", dim=4), 8)
    rotate = written(b.rotate(q, angles, pairing="interleaved"))
    assert (rotate["interleaved"], rotate["rotary_embedding_dim"]) == (1, 4)


@pytest.mark.parametrize("seed", [1, 5, 8])
def test_the_decompositions_compute_the_graph(seed: int) -> None:
    """Compile the text unchanged: XLA inlines the decompositions."""
    graph = drawn_graph(seed, 20)
    with mlir.make_ir_context():
        module = ir.Module.parse(semantic(graph))
        code = module.operation.get_asm(enable_debug_info=False)
    values = draw_inputs(graph, seed)
    client = jax.devices("cpu")[0].client
    loaded = (
        client.compile_and_load(code, client.devices()[:1])
        if hasattr(client, "compile_and_load")
        else client.compile(code)
    )
    arguments = [
        jax.device_put(values[value.op.label], client.devices()[0])
        for value in graph.inputs
        if isinstance(value.op, Input)
    ]
    results = loaded.execute_sharded(arguments).disassemble_into_single_device_arrays()
    for (label, wanted), result in zip(reference.evaluate(graph, values).items(), results, strict=True):
        scale = float(np.max(np.abs(wanted), initial=1.0, where=np.isfinite(wanted)))
        np.testing.assert_allclose(np.asarray(result[0], np.float64), wanted, atol=0.06 * scale, err_msg=label)


def test_the_same_text_every_time() -> None:
    assert semantic(front_end()) == semantic(front_end())
