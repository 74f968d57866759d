"""RoPE for GPU: numerics in JAX's interpreter, its derivatives, what it declines, and what plans take it.

`test_compile_cuda.py` compiles the same sites and reads their machine code.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreted import drawn
from ropegen.templates.rope import mosaic_gpu
from ropegen.templates.rope.site import FAMILY, RopeSite
from rotations import expect_close, turned

import ropegen as rg
from ropegen import masks
from ropegen.target import Target
from ropegen.types import numpy_dtype

H200 = Target.parse("gpu:h200")
interpreted = pytest.mark.skipif(
    jax.__version_info__ < (0, 12), reason="JAX's interpreter of GPU kernels reports races from 0.12 on"
)


@dataclass(frozen=True)
class Case:
    """Rotations by the same angles: the heads, the width, the element type and the pairing of each."""

    arrays: tuple[tuple[int, int, str, str], ...]
    dim: int
    lead: tuple[int, ...]
    rows: int
    has_batch: bool = False
    """Whether every entry of the batch has its own angles."""

    @property
    def site(self) -> RopeSite:
        b = rg.Builder("rotations")
        angles = b.input("angles", (*(self.lead if self.has_batch else ()), self.rows, self.dim), "f32")
        outputs = {
            f"out{number}": b.rotate(
                b.input(f"x{number}", (*self.lead, self.rows, heads, width), dtype), angles, pairing=pairing
            )
            for number, (heads, width, dtype, pairing) in enumerate(self.arrays)
        }
        return FAMILY.site(next(iter(FAMILY.find(b.build(**outputs)))).closed)


CASES = {
    "queries and keys in halves": Case(((12, 128, "bf16", "half"), (2, 128, "bf16", "half")), 128, (2,), 48),
    "neighbours, a last block that begins earlier": Case(((9, 64, "f16", "interleaved"),), 64, (), 75),
    "a part of the width, in pieces of 8 bytes": Case(((3, 96, "bf16", "half"),), 24, (1,), 130),
    "a part of the width, neighbours": Case(
        ((2, 80, "bf16", "interleaved"), (1, 80, "bf16", "interleaved")), 32, (), 64
    ),
    "float32 in both pairings": Case(((4, 64, "f32", "half"), (1, 64, "f32", "interleaved")), 64, (3,), 32),
    "a width of several pieces": Case(((2, 112, "bf16", "half"),), 112, (), 128),
    "a token of every sequence, at its own position": Case(
        ((10, 128, "bf16", "half"), (2, 128, "bf16", "half")), 128, (20,), 1, has_batch=True
    ),
    "a token of every sequence, at the same position": Case(((2, 64, "f32", "interleaved"),), 64, (2, 10), 1),
}


def operands(case: Case) -> dict[str, Any]:
    return drawn(case.site, 0)


def checked(case: Case, results: Any, values: dict[str, Any], *, inverse: bool = False) -> None:
    """Compares with the rotations of x0, x1, ... of `values` in float64."""
    for number, ((_, width, dtype, pairing), result) in enumerate(zip(case.arrays, results, strict=True)):
        x = np.asarray(values[f"x{number}"])
        expect_close(result, turned(x, values["angles"], pairing, inverse=inverse), dtype, 10.0)
        assert (np.asarray(result)[..., case.dim : width] == x[..., case.dim : width]).all()


@interpreted
@pytest.mark.parametrize("name", CASES)
def test_it_rotates_as_float64_does_to_one_rounding(name: str) -> None:
    case = CASES[name]
    values = operands(case)
    assert list(mosaic_gpu.declines(case.site, H200)) == []
    kernel = mosaic_gpu.build_for(case.site, H200, interpreter=True)
    checked(case, jax.jit(kernel.forward)(*values.values()), values)


@interpreted
@pytest.mark.parametrize("seed", range(3))
def test_a_drawn_site_agrees_with_float64(seed: int) -> None:
    random = np.random.default_rng(seed)
    width = 16 * int(random.integers(1, 9))
    dim = int(random.choice([width, max(8, width // 32 * 16)]))
    pick = lambda: (int(random.integers(1, 12)), width, str(random.choice(["bf16", "f16", "f32"])))  # noqa: E731
    arrays = tuple((*pick(), str(random.choice(["half", "interleaved"]))) for _ in range(random.integers(1, 4)))
    case = Case(arrays, dim, (int(random.integers(1, 3)),), int(random.integers(128, 200)), bool(random.integers(2)))
    assert list(mosaic_gpu.declines(case.site, H200)) == []
    values = drawn(case.site, seed)
    checked(case, jax.jit(mosaic_gpu.build_for(case.site, H200, interpreter=True).forward)(*values.values()), values)


@interpreted
@pytest.mark.parametrize("name", ["queries and keys in halves", "float32 in both pairings"])
def test_tangents_are_rotated_and_cotangents_are_rotated_back(name: str) -> None:
    """Values of the sizes of the operands stand for tangents, and for cotangents, which have the sizes of the results."""
    case = CASES[name]
    values = operands(case)
    kernel = mosaic_gpu.build_for(case.site, H200, interpreter=True)
    given, moved = tuple(values.values()), tuple(None if label == "angles" else x for label, x in values.items())
    assert kernel.tangent is not None
    assert kernel.backward is not None
    checked(case, jax.jit(kernel.tangent)(given, given[: len(case.arrays)], moved), values)
    wanted = [label != "angles" for label in values]
    pulled = [values[f"x{number}"] for number in range(len(case.arrays))]
    back = kernel.backward(given, pulled, tuple(pulled), wanted)
    assert back is not None
    by_label = dict(zip(values, back, strict=True))
    assert by_label["angles"] is None
    checked(case, [by_label[f"x{number}"] for number in range(len(case.arrays))], values, inverse=True)
    assert kernel.backward(given, pulled, tuple(pulled), [True] * len(values)) is None  # angles are left to XLA


def reasons(case: Case, target: str = "gpu:h200") -> list[str]:
    return list(mosaic_gpu.declines(case.site, Target.parse(target)))


def test_what_it_does_not_compute_it_declines() -> None:
    usual = Case(((4, 64, "bf16", "half"),), 64, (), 256)
    for target in ("gpu:h100", "gpu:h200", "gpu:b200"):
        assert reasons(usual, target) == []
    for target in ("gpu:a100", "gpu:any"):
        assert reasons(usual, target) == [
            f"its code is for the capabilities of some GPUs (sm90: gpu:h100, gpu:h200; sm100: gpu:b200), and the plan is for {target}"
        ]
    assert reasons(Case(((4, 64, "f64", "half"),), 64, (), 256)) == ["it computes in float32, and x is f64"]
    assert reasons(Case(((4, 64, "bf16", "half"),), 64, (), 0)) == ["there is nothing to rotate"]
    assert reasons(Case(((4, 64, "bf16", "half"),), 64, (), 31)) == ["a block has 32 rows, and there are 31"]
    assert reasons(Case(((4, 50, "bf16", "half"),), 50, (), 256)) == [
        "a thread reads at least 8 bytes at once, and 50 of 50 features in bf16 with the pairing half allow 2"
    ]
    assert reasons(Case(((4, 512, "f32", "half"),), 512, (70_000,), 4)) == [
        "a GPU starts at most 65,535 blocks of rows and batch entries at once"
    ]
    b = rg.Builder("angles")
    x, angles = b.input("x", (256, 4, 64), "bf16"), b.input("angles", (256, 64), "bf16")
    (region,) = FAMILY.find(b.build(out=b.rotate(x, angles, pairing="half")))
    assert list(mosaic_gpu.declines(FAMILY.site(region.closed), H200)) == ["it reads angles in f32, not bf16"]


def front_end(dtype: str, *, attends: bool) -> rg.Graph:
    """Projections to queries and keys and their rotation; and attention if it `attends`."""
    b = rg.Builder("front-end")
    x, at, rope = b.input("x", (1, 512, 512), dtype), b.positions(512), rg.Rope(pairing="half")
    q, k, v = (
        b.split_heads(b.project(x, b.parameter(f"{name}_weight", (512, heads * 64), dtype)), heads)
        for name, heads in (("q", 8), ("k", 2), ("v", 2))
    )
    q, k = b.rope(q, at, rope), b.rope(k, at, rope)
    if not attends:
        return b.build(q=q, k=k, v=v)
    return b.build(out=b.attend(q, k, v, mask=masks.causal, q_positions=at, kv_positions=at))


def templates(graph: rg.Graph, target: str) -> list[str]:
    return [step.chosen.template for step in rg.plan(graph, target).steps if step.chosen is not None]


def test_plans_take_it_where_it_costs_less_than_xla_s_kernels() -> None:
    """One kernel costs less than XLA's two. Attention for Hopper rotates by itself, and the projection of XLA may."""
    b = rg.Builder("rotations")
    q, k = (b.input(name, (1, 4096, heads, 128), "bf16") for name, heads in (("q", 32), ("k", 8)))
    at, rope = b.positions(4096), rg.Rope(pairing="half")
    rotations = b.build(q=b.rope(q, at, rope), k=b.rope(k, at, rope))
    for target in ("gpu:h100", "gpu:h200", "gpu:b200"):
        assert templates(rotations, target) == ["rope/mosaic_gpu"]
    for target in ("gpu:a100", "gpu:any"):
        assert templates(rotations, target) == []
    assert templates(front_end("bf16", attends=True), "gpu:h200") == ["qkv_rope/xla", "attend/mosaic_gpu"]


def test_it_exports_without_a_gpu_and_states_its_capability(tmp_path: Path) -> None:
    b = rg.Builder("rotations")
    q, k = (b.input(name, (1, 64, heads, 64), "bf16") for name, heads in (("q", 4), ("k", 2)))
    at, rope = b.positions(64), rg.Rope(pairing="interleaved")
    graph = b.build(q=b.rope(q, at, rope), k=b.rope(k, at, rope))
    made = rg.export(graph, tmp_path / "kernels", targets=["cpu", "gpu:b200"])
    stated = json.loads((tmp_path / "kernels" / "manifest.json").read_text())["capabilities"]["gpu:b200"]
    assert (stated["templates"], stated["capability"]) == (["rope/mosaic_gpu"], "sm100")
    assert [*made.manifest.custom_calls] == ["mosaic_gpu_v2"]
    values = {
        label: jnp.asarray(np.random.default_rng(0).standard_normal(kind.shape), numpy_dtype(kind.dtype))
        for label, kind in graph.input_types.items()
    }
    table = np.asarray(rope.table(np.arange(64), 64))
    for label, result in made(**values).items():
        expect_close(result, turned(np.asarray(values[label]), table, "interleaved"), "bf16", 10.0)
