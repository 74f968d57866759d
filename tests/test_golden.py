"""Real models: their graphs, plans and modules as files that a change of mind shows up in."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import legality
import pytest
from conftest import GOLDEN, Golden
from ropegen.templates.attend import cudnn

import ropegen as rg
from ropegen import models, passes
from ropegen.emit.module import stablehlo

CASES = sorted(path.parent.name for path in (GOLDEN / "cases").glob("*/config.json"))
TARGETS = ("cpu", "gpu:h100", "tpu:v5e")


@pytest.fixture(autouse=True)
def without_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden plans are those of a machine without cuDNN."""
    monkeypatch.setattr(cudnn, "is_installed", lambda: False)


def graph_of(case: str) -> rg.Graph:
    return models.from_case(json.loads((GOLDEN / "cases" / case / "config.json").read_text()))


@pytest.mark.any_jax
@pytest.mark.parametrize("case", CASES)
def test_graph(case: str, golden: Golden) -> None:
    graph = graph_of(case)
    golden(f"cases/{case}/graph.mlir", rg.dumps(graph))
    assert legality.violations(graph, "source") == ()
    assert rg.loads(rg.dumps(graph)) is graph
    assert rg.load_graph(GOLDEN / "cases" / case / "graph.mlir") is graph


@pytest.mark.any_jax
@pytest.mark.parametrize("case", CASES)
def test_canonical_graph(case: str, golden: Golden) -> None:
    graph = passes.canonical(graph_of(case))
    golden(f"cases/{case}/canonical.mlir", rg.dumps(graph))
    assert legality.violations(graph, "canonical") == ()


@pytest.mark.any_jax
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", CASES)
def test_plan(case: str, target: str, golden: Golden) -> None:
    golden(f"cases/{case}/{target.replace(':', '-')}.plan", rg.plan(graph_of(case), target).explain())


@pytest.mark.parametrize("case", CASES)
def test_stablehlo(case: str, golden: Golden, request: pytest.FixtureRequest) -> None:
    """The portable module, on the jax that it was made with; others may lower the same ops in other words."""
    pinned, here = (GOLDEN / "JAX").read_text().strip(), importlib.metadata.version("jax")
    if pinned != here:
        pytest.skip(
            f"golden modules are compared on jax {pinned}, this is {here}; the lane with jax {pinned} runs this"
        )
    golden(f"cases/{case}/stablehlo.mlir", stablehlo.text(rg.plan(graph_of(case), "cpu")))


# Every error that a user can meet while describing a graph -------------------------------------------------------


def _builder() -> rg.Builder:
    return rg.Builder("errors")


def _qkv(b: rg.Builder, *, q_width: int = 8, kv_heads: int = 2, keys: int = 4, dtype: str = "f32") -> list[object]:
    return [
        b.input("q", (1, 4, 4, q_width), "f32"),
        b.input("k", (1, keys, kv_heads, 8), dtype),
        b.input("v", (1, keys, kv_heads, 8), dtype),
    ]


def attend(**options: object) -> Callable[[], object]:
    shapes = {name: options.pop(name) for name in ("q_width", "kv_heads", "keys", "dtype") if name in options}

    def make() -> object:
        b = _builder()
        given = {
            label: b.input(label, *value) if isinstance(value, tuple) else value for label, value in options.items()
        }
        return b.attend(*_qkv(b, **shapes), **given)  # type: ignore[arg-type]

    return make


def build(make: Callable[[rg.Builder], object]) -> Callable[[], object]:
    return lambda: make(_builder())


def integers() -> rg.Graph:
    b = rg.Builder("integers")
    return b.build(out=b.input("ids", (2,), "i32"))


ERRORS: dict[str, Callable[[], object]] = {
    "explain/function": lambda: rg.explain(3),  # pyright: ignore[reportArgumentType]
    "explain/no-call": lambda: rg.explain(abs, -3),
    "attend/heads": attend(kv_heads=3),
    "attend/widths": attend(q_width=6),
    "attend/dtypes": attend(dtype="bf16"),
    "attend/positions-needed": attend(keys=6, mask=rg.masks.causal),
    "attend/segments-missing": attend(mask=rg.masks.segments),
    "attend/segments-floating": attend(q_segments=((4,), "f32")),
    "attend/mask-shape": attend(dense_mask=((3, 3), "i1")),
    "attend/mask-dtype": attend(dense_mask=((4, 4), "f32")),
    "attend/bias-shape": attend(bias=((5, 4, 4), "f32")),
    "attend/sinks-shape": attend(sinks=((3,), "f32")),
    "attend/softcap": attend(softcap=-1.0),
    "attend/masked-row": attend(masked_row="zeros"),
    "attend/mask-is-no-boolean": attend(mask=lambda q_pos, kv_pos: q_pos - kv_pos),
    "attend/mask-with-python-and": attend(mask=lambda q_pos, kv_pos: q_pos >= kv_pos and q_pos < 3),
    "attend/mask-of-unknown-names": attend(mask=lambda q_position, kv_pos: q_position >= kv_pos),
    "mask/text": lambda: rg.masks.parse("kv_pos <= q_poss"),
    "mask/unclosed": lambda: rg.masks.parse("(kv_pos <= q_pos"),
    "mask/window": lambda: rg.masks.window(0),
    "rope/pairing-missing": lambda: rg.Rope(10_000.0),
    "rope/pairing": lambda: rg.Rope(10_000.0, pairing="halves"),  # type: ignore[arg-type]
    "rope/theta": lambda: rg.Rope(0.0, pairing="half"),
    "rope/odd-width": build(lambda b: b.rope(b.input("x", (4, 2, 7), "f32"), b.positions(4), rg.Rope(pairing="half"))),
    "rope/too-wide": build(
        lambda b: b.rope(b.input("x", (4, 2, 8), "f32"), b.positions(4), rg.Rope(pairing="half", dim=16))
    ),
    "rope/positions": build(lambda b: b.rope(b.input("x", (4, 2, 8), "f32"), b.positions(5), rg.Rope(pairing="half"))),
    "rope/length-needed": build(
        lambda b: b.rope(
            b.input("x", (4, 2, 8), "f32"),
            b.positions(4),
            rg.Rope(pairing="half", scaling=rg.scaling.dynamic(factor=2, original=2)),
        )
    ),
    "rope/llama3-order": lambda: rg.scaling.llama3(factor=8, low=4, high=1, original=8192),
    "embed/float-ids": build(lambda b: b.embed(b.input("ids", (4,), "f32"), b.parameter("table", (9, 8), "f32"))),
    "embed/table": build(lambda b: b.embed(b.input("ids", (4,), "i32"), b.parameter("table", (9,), "f32"))),
    "embed/mode": build(
        lambda b: b.embed(b.input("ids", (4,), "i32"), b.parameter("table", (9, 8), "f32"), mode="wrap")
    ),
    "project/transposed": build(lambda b: b.project(b.input("x", (4, 8), "f32"), b.parameter("w", (16, 8), "f32"))),
    "project/dtypes": build(lambda b: b.project(b.input("x", (4, 8), "f32"), b.parameter("w", (8, 16), "bf16"))),
    "norm/weight": build(
        lambda b: b.norm(b.input("x", (4, 8), "f32"), b.parameter("w", (4,), "f32"), kind="rms", epsilon=0)
    ),
    "norm/kind": build(lambda b: b.norm(b.input("x", (4, 8), "f32"), kind="batch", epsilon=0)),
    "add/shapes": build(lambda b: b.add(b.input("a", (4, 8), "f32"), b.input("b", (4, 6), "f32"))),
    "add/dtypes": build(lambda b: b.add(b.input("a", (4, 8), "f32"), b.input("b", (4, 8), "bf16"))),
    "patchify/size": build(lambda b: b.patchify(b.input("image", (1, 30, 32, 3), "f32"), 16)),
    "split-heads/uneven": build(lambda b: b.split_heads(b.input("x", (4, 10), "f32"), 4)),
    "transpose/permutation": build(lambda b: b.transpose(b.input("x", (4, 10), "f32"), (0, 0))),
    "cache/too-long": build(
        lambda b: b.append_cache(
            b.state("cache", (1, 2, 1, 8), "f32"), b.input("x", (1, 4, 1, 8), "f32"), b.input("lengths", (1,), "i32")
        )
    ),
    "input/name": build(lambda b: b.input("my input", (1,), "f32")),
    "input/twice": build(lambda b: (b.input("x", (1,), "f32"), b.input("x", (2,), "f32"))),
    "input/dtype": build(lambda b: b.input("x", (1,), "float31")),
    "graph/no-output": build(lambda b: b.build()),
    "target/unknown": lambda: rg.Target.parse("gpu:h1000"),
    "target/platform": lambda: rg.Target.parse("cuda"),
    "target/cores": lambda: rg.Target.parse("cpu:many"),
    "tile/template": lambda: rg.plan(graph_of("gpt2-small"), "cpu", tile={"atend/xla": {"q": 1}}),
    "tile/sizes": lambda: rg.plan(graph_of("gpt2-small"), "cpu", tile={"attend/xla": {"q": 1}}),
    "artifact/two-gpus": lambda: rg.export(graph_of("gpt2-small"), Path("nowhere"), targets=["gpu:h100", "gpu:h200"]),
    "artifact/gradient-of-integers": lambda: rg.export(integers(), Path("nowhere"), targets="cpu", grad=True),
    "artifact/nowhere": lambda: rg.load("nowhere-at-all"),
    "sequence/no-axis": lambda: rg.context_parallel(*(jnp.ones((1, 4, 2, 8)),) * 3),
    "sequence/zigzag": lambda: rg.zigzag(jnp.ones((1, 10)), 4),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_in_words(name: str, golden: Golden) -> None:
    with pytest.raises(rg.RopegenError) as caught:
        ERRORS[name]()
    golden(f"errors/{name}.txt", f"{caught.value}\n")
