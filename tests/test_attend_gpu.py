"""Attention for Hopper and Blackwell: numerics and races in JAX's interpreter, the tiles it visits, what it declines, and its export."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreted_gpu import CASES, DERIVED, FAULTS, GRADIENT, ON_BLACKWELL, RARE, RARE_FAULTS, Case
from ropegen.templates.attend import mosaic_gpu
from ropegen.templates.attend.exponential_gpu import ERRORS, power_of_two
from ropegen.templates.attend.form_gpu import HOPPER, TileList

import ropegen as rg
from ropegen import masks
from ropegen.errors import RopegenError
from ropegen.target import Target
from ropegen.template import Tile
from ropegen.types import numpy_dtype

H200, B200 = Target.parse("gpu:h200"), Target.parse("gpu:b200")
# Weights and output are rounded once each, to 2^-9 (bf16) or 2^-12 (f16) of themselves, and so are rotated queries and
# keys; the values are at most about 4.
ALLOWED = {"bf16": 3e-2, "f16": 4e-3}
interpreted = pytest.mark.skipif(
    jax.__version_info__ < (0, 12), reason="JAX's interpreter of GPU kernels reports races from 0.12 on"
)


def run(*names: str, seconds: float = 900) -> dict[str, dict[str, Any]]:
    """What `interpreted_gpu.py` says of each case. A case that hangs has no answer, and neither have those after it."""
    command = [sys.executable, str(Path(__file__).with_name("interpreted_gpu.py")), *names]
    # Every thread of the kernel that waits at a barrier occupies a thread of XLA's pool. By default the pool has a
    # thread for each core, and on two cores the threads that would arrive at the barrier can find none.
    pool = {**os.environ, "NPROC": "16"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds, env=pool)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(said) == len(names), done.stderr[-2000:]
    return {one["name"]: one for one in said}


def often(names: Iterable[str], request: pytest.FixtureRequest) -> list[str]:
    """The cases to interpret: without `--exhaustive`, those whose parts no other case has."""
    return [name for name in names if name not in RARE or request.config.getoption("--exhaustive")]


def skip_if_rare(name: str, request: pytest.FixtureRequest) -> None:
    if name not in often([name], request):
        pytest.skip("pytest --exhaustive interprets every form")


@pytest.fixture(scope="module")
def answers(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    return run(*often(CASES, request))


# The cases that Blackwell takes. Without `--exhaustive`, those whose parts cover the kernel are interpreted.
TAKEN = [name for name, case in CASES.items() if not any(mosaic_gpu.declines(case.site, B200))]
FIRST = (
    "causal, more tiles than slots, halves rotated in the kernel",
    "a soft-cap, sinks, and rows that see nothing",
    "scores that grow from tile to tile",
    "a block that sees nothing, as the mean",
    "192 features, and 128 of values",
    "256 features, more tiles than slots, scores that grow",
)


@interpreted
@pytest.mark.parametrize("name", CASES)
def test_a_named_site_agrees_with_the_oracle_without_a_race(
    name: str, answers: dict[str, dict[str, Any]], request: pytest.FixtureRequest
) -> None:
    skip_if_rare(name, request)
    found = answers[name]
    assert "raised" not in found, found
    assert found["errors"]["output"] < ALLOWED[CASES[name].dtype]
    assert found["errors"]["log_sum_exp"] < ALLOWED[CASES[name].dtype]


@pytest.fixture(scope="module")
def on_blackwell(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    names = TAKEN if request.config.getoption("--exhaustive") else FIRST
    return run(*(ON_BLACKWELL + name for name in names))


@interpreted
@pytest.mark.parametrize("name", TAKEN)
def test_a_named_site_agrees_on_blackwell(
    name: str, on_blackwell: dict[str, dict[str, Any]], request: pytest.FixtureRequest
) -> None:
    if name not in FIRST and not request.config.getoption("--exhaustive"):
        pytest.skip("pytest --exhaustive interprets every form on Blackwell")
    found = on_blackwell[ON_BLACKWELL + name]
    assert "raised" not in found, found
    assert found["errors"]["output"] < ALLOWED[CASES[name].dtype]
    assert found["errors"]["log_sum_exp"] < ALLOWED[CASES[name].dtype]


@pytest.fixture(scope="module")
def gradients(request: pytest.FixtureRequest) -> dict[str, dict[str, Any]]:
    return run(*(GRADIENT + name for name in often(DERIVED, request)))


@interpreted
@pytest.mark.parametrize("name", DERIVED)
def test_gradients_are_as_exact_as_those_of_the_plain_formula(
    name: str, gradients: dict[str, dict[str, Any]], request: pytest.FixtureRequest
) -> None:
    """The error of each is at most 1.5 times that of the formula, in the same element types, and a float32 rounding."""
    skip_if_rare(name, request)
    found = gradients[GRADIENT + name]
    assert "raised" not in found, found
    for label, (own, usual) in found["errors"].items():
        assert own < 1.5 * usual + 1e-5, label


@interpreted
@pytest.mark.parametrize("name", FAULTS)
def test_the_interpreter_finds_a_planted_fault(name: str, request: pytest.FixtureRequest) -> None:
    if name in RARE_FAULTS and not request.config.getoption("--exhaustive"):
        pytest.skip("pytest --exhaustive plants every fault")
    said = run(name, seconds=120)[name].get("raised", "")
    assert re.search(r"RACE DETECTED|Barrier completed phase 1, but no threads observed phase 0", said), said


@pytest.mark.parametrize("degree", ERRORS)
def test_a_polynomial_is_near_the_power_of_two(degree: int) -> None:
    """It is exact for integers, and 0 below the normal numbers, as for hidden scores of rows with and without a peak.

    It runs op by op: XLA of jax 0.10.2 takes (x + c) - c for x, in floats too. Mosaic, which compiles the kernels, does not.
    """

    def power(x: Any) -> np.ndarray:
        return np.asarray(power_of_two(jnp.asarray(x), degree))

    random = np.random.default_rng(0)
    x = np.concatenate([np.linspace(-126, 9, 1 << 20), -(2.0 ** random.uniform(-30, 6.9, 1 << 18))]).astype(np.float32)
    exact = 2.0 ** x.astype(np.float64)
    assert np.max(np.abs(power(x).astype(np.float64) / exact - 1)) < ERRORS[degree]
    whole = np.arange(-126, 10, dtype=np.float32)
    assert np.array_equal(power(whole), 2.0**whole)
    lowest = np.finfo(np.float32).min
    assert not np.any(power(np.array([-126.6, -127, -128, -1e9, lowest, -np.inf], np.float32)))
    assert np.isnan(power(np.float32([np.nan]))).all()


def test_full_tiles_come_before_partial_ones_and_empty_ones_are_left_out() -> None:
    tiles = TileList.of(np.array([[1, 2, 0], [0, 0, 0], [2, 1, 2]], np.int8))
    assert tiles.rows.tolist() == [[[0, 1, 2], [2, 0, 0], [2, 2, 3]]]
    assert tiles.columns[0, :5].tolist() == [1, 0, 0, 2, 1]


def test_the_segments_of_the_running_program_hide_tiles() -> None:
    classes = np.array([[1, 2, 0], [0, 0, 0], [2, 1, 2]], np.int8)
    seen = np.array([[[1, 0, 1], [1, 1, 1], [0, 1, 1]], [[1, 1, 1]] * 3], bool)
    tiles = TileList.without(classes, seen)
    assert tiles.rows.tolist() == [[[0, 0, 1], [3, 0, 0], [6, 1, 2]], [[0, 1, 2], [3, 0, 0], [6, 2, 3]]]
    assert [tiles.columns[0, 0].item(), *tiles.columns[0, 6:8].tolist()] == [0, 2, 1]
    assert tiles.columns[1, :2].tolist() == [1, 0]
    assert tiles.kinds == (True, True)


def several_keys(q_pos: Any, kv_pos: Any) -> Any:
    """A mask with 13 comparisons."""
    seen = q_pos >= kv_pos
    for key in range(10, 130, 10):
        seen = seen | (kv_pos == key)
    return seen


def reasons(case: Case, target: Target = H200) -> list[str]:
    return list(mosaic_gpu.declines(case.site, target))


@pytest.mark.parametrize("target", ["gpu:a100", "gpu:any"])
def test_it_declines_every_gpu_but_hopper_and_blackwell(target: str) -> None:
    known = "sm90: gpu:h100, gpu:h200; sm100: gpu:b200"
    assert reasons(Case(), Target.parse(target)) == [
        f"its code is for the capabilities of some GPUs ({known}), and the plan is for {target}"
    ]


def test_what_the_kernel_does_not_honour_it_declines() -> None:
    assert not reasons(Case())
    assert reasons(Case(dtype="f32")) == ["it multiplies bf16 and f16, not f32"]
    assert reasons(Case(width=288)) == ["it takes heads of at most 256 features, not 288 and 288"]
    biased = Case(width=256, kv_tile=64, bias=(128, 128))
    assert not reasons(biased)
    for altered in (replace(biased, softcap=30.0), replace(biased, score=masks.alibi([0.5]))):
        assert reasons(altered) == [
            "with more than 192 features, a bias leaves no register for a soft-cap or a score expression"
        ]
        assert not reasons(replace(altered, width=192))
    b = rg.Builder("more")
    q = b.input("q", (1, 128, 2, 64), "bf16")
    wide, at = b.input("wide", (128,), "i64"), b.positions(128)
    both = {"q_positions": at, "kv_positions": at}
    several = {
        "its scale is positive and finite, not -1": b.attend(q, q, q, scale=-1.0),
        "q_positions are i64, and it compares 32 bits": b.attend(
            q, q, q, mask=masks.causal, q_positions=wide, kv_positions=at
        ),
        "the bias is f64, and it adds f32": b.attend(q, q, q, bias=b.input("bias", (128,), "f64")),
        "the score reads numbers that are known only at run time": b.attend(
            q, q, q, score=masks.parse("score * numbers[head]"), numbers=b.parameter("numbers", (2,), "f32")
        ),
        "its mask and score have at most 12 comparisons and quotients, and these have 13": b.attend(
            q, q, q, mask=masks.mask(several_keys), **both
        ),
        "its expressions do not compute `log(score)`": b.attend(q, q, q, score=masks.parse("log(score)")),
        "its expressions do not compute `q_pos // kv_pos`": b.attend(
            q, q, q, mask=masks.parse("q_pos // kv_pos < 3"), **both
        ),
    }
    for reason, out in several.items():
        site = mosaic_gpu.FAMILY.site(next(iter(mosaic_gpu.FAMILY.find(b.build(out=out)))).closed)
        assert list(mosaic_gpu.declines(site, H200)) == [reason]


def test_with_more_than_128_features_a_quotient_counts_twice() -> None:
    """A causal mask of chunks spilled two registers there; with 128 features and fewer it was compiled."""
    b = rg.Builder("chunks")
    at = b.positions(256)
    for width, expected in ((128, []), (256, ["quotients, and these have 6, as a quotient counts twice"])):
        q = b.input(f"q{width}", (1, 256, 2, width), "bf16")
        out = b.attend(q, q, q, mask=masks.causal & masks.chunked(64), q_positions=at, kv_positions=at)
        site = mosaic_gpu.FAMILY.site(next(iter(mosaic_gpu.FAMILY.find(b.build(out=out)))).closed)
        said = list(mosaic_gpu.declines(site, H200))
        assert len(said) == len(expected)
        assert all(part in reason for part, reason in zip(expected, said, strict=True))


def test_a_tile_of_another_size_is_refused() -> None:
    """A tile of Hopper's on Blackwell would end the process."""
    with pytest.raises(RopegenError, match="on gpu:h100 and gpu:h200, q is 128, and kv one of 128, 64"):
        mosaic_gpu.build(Case().site, Tile.of(q=128, kv=96), H200)
    wide = Case(width=256, kv_tile=64)
    for case, wrong, target, right in ((Case(), 128, B200, 256), (wide, 256, B200, 128), (Case(), 256, H200, 128)):
        with pytest.raises(RopegenError, match=f"q is {right}, and kv one of 128, 64"):
            mosaic_gpu.build(case.site, Tile.of(q=wrong, kv=64), target)


@pytest.mark.parametrize("target", [H200, B200])
@pytest.mark.parametrize(
    "case", [Case(width=128, pairing="half", queries=300, keys=300), Case(dtype="f16", kv_tile=64)]
)
def test_it_exports_for_cuda_without_a_gpu(case: Case, target: Target) -> None:
    site = case.site
    tile = next(tile for tile in mosaic_gpu.tiles(site, target) if tile["kv"] == case.kv_tile)
    kernel = mosaic_gpu.build(site, tile, target)
    shapes = [jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype)) for kind in site.closed.input_types.values()]
    text = jax.export.export(jax.jit(kernel.forward), platforms=["cuda"])(*shapes).mlir_module()
    assert text.count("stablehlo.custom_call @mosaic_gpu_v2") == 1


def test_the_gradient_of_an_attention_exports_with_three_kernels() -> None:
    """dq has one, dk and dv have one, and the forward pass has one."""

    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        rope = rg.Rope(pairing="half")
        out = rg.attention(q, k, v, rope=rope, mask=masks.causal, softcap=30.0, target="gpu:h200")
        return jnp.sum(out.astype(jnp.float32))

    q, k, v = (jax.ShapeDtypeStruct((1, 2048, heads, 128), jnp.bfloat16) for heads in (32, 8, 8))
    text = jax.export.export(jax.jit(jax.grad(loss, (0, 1, 2))), platforms=["cuda"])(q, k, v).mlir_module()
    assert text.count("stablehlo.custom_call @mosaic_gpu_v2") == 3


def test_which_gradients_are_left_to_xla() -> None:
    of_keys = Case(heads=2, kv_tile=64, bias=(2, 1, 128))
    assert list(mosaic_gpu.notes(Case().site, Tile.of(q=128, kv=64), H200)) == []
    assert list(mosaic_gpu.notes(of_keys.site, Tile.of(q=128, kv=64), H200)) == [
        "the gradient of the bias tensor<2x1x128xf32> is a sum over scores: where it is asked for, by attend/xla"
    ]
    assert list(mosaic_gpu.notes(CASES["another score expression"].site, Tile.of(q=128, kv=64), H200)) == [
        "gradients by attend/xla: the score has a tanh"
    ]
    assert list(mosaic_gpu.notes(Case().site, Tile.of(q=256, kv=64), B200)) == [
        "gradients by attend/xla: there are kernels for gradients on gpu:h100 and gpu:h200 only"
    ]
    several = Case(width=128, kv_tile=64, mask="ten comparisons")
    (many,) = mosaic_gpu.notes(several.site, Tile.of(q=128, kv=64), H200)
    assert re.fullmatch(
        r"gradients by attend/xla: its mask and score have \d+ comparisons and quotients, more than 5", many
    )


@pytest.mark.parametrize(
    ("case", "calls"),
    [
        (Case(width=256, kv_tile=64, segments=True, softcap=50.0), 3),
        (Case(width=256, kv_tile=64, bias=(128, 128)), 4),
        (Case(width=192, value_width=128, kv_tile=64, bias=(128, 128)), 3),
        (Case(width=160, value_width=96, kv_tile=64, moved=True), 2),
    ],
)
def test_wide_heads_have_kernels_for_every_gradient(case: Case, calls: int) -> None:
    """dq, dk and dv; with more than 256 features together, dk and dv apart; with more than 192, a bias of its own."""
    site = case.site
    assert list(mosaic_gpu.notes(site, Tile.of(q=128, kv=64), H200)) == []
    kernel = mosaic_gpu.build(site, Tile.of(q=128, kv=64), H200)

    def shaped(nodes: Any) -> tuple[jax.ShapeDtypeStruct, ...]:
        return tuple(jax.ShapeDtypeStruct(node.type.shape, numpy_dtype(node.type.dtype)) for node in nodes)

    operands = shaped(site.closed.inputs)
    wanted = [jnp.issubdtype(x.dtype, jnp.floating) for x in operands]
    results = shaped(node for _, node in site.closed.outputs)

    def backward(*given: Any) -> Any:
        assert kernel.backward is not None
        return kernel.backward(*given, wanted)

    text = jax.export.export(jax.jit(backward), platforms=["cuda"])(operands, results, results).mlir_module()
    assert text.count("stablehlo.custom_call @mosaic_gpu_v2") == calls


def test_padding_that_a_mask_hides_is_not_hidden_twice() -> None:
    """A causal mask hides the keys behind the last query, and a window that looks ahead does not."""
    tile = Tile.of(q=128, kv=64)

    def masks_padding(case: Case) -> bool:
        return mosaic_gpu._form(case.site, tile, HOPPER).masks_padding  # pyright: ignore[reportPrivateUsage]

    assert not masks_padding(Case(queries=128, keys=128, mask="full"))
    assert not masks_padding(Case(queries=130, keys=130, segments=True))
    assert not masks_padding(Case(queries=100, keys=130))
    assert masks_padding(Case(queries=130, keys=130, mask="full"))
    assert masks_padding(Case(queries=130, keys=130, mask="by head", heads=2)) is False
    assert masks_padding(Case(queries=140, keys=130))
    assert masks_padding(Case(queries=130, keys=130, moved=True))


def front_end() -> rg.Graph:
    b = rg.Builder("attention")
    q, k, v = (b.input(name, (1, 256, heads, 64), "bf16") for name, heads in (("q", 4), ("k", 2), ("v", 2)))
    at, rope = b.positions(256), rg.Rope(pairing="half")
    q, k = b.rope(q, at, rope), b.rope(k, at, rope)
    return b.build(out=b.attend(q, k, v, mask=masks.causal, q_positions=at, kv_positions=at))


def test_one_artifact_holds_a_kernel_for_every_platform(tmp_path: Path) -> None:
    """Its results on CPU are those of an artifact for CPU alone, bit for bit."""
    graph, random = front_end(), np.random.default_rng(0)
    every = rg.export(graph, tmp_path / "every", targets=["cpu", "gpu:h200", "tpu:v5e"])
    alone = rg.export(graph, tmp_path / "alone", targets=["cpu"])
    assert set(every.manifest.custom_calls) == {"mosaic_gpu_v2", "tpu_custom_call"}
    assert every.manifest.capabilities["gpu:h200"].templates == ("attend/mosaic_gpu",)
    values = {
        label: jnp.asarray(random.standard_normal(kind.shape), jnp.bfloat16)
        for label, kind in graph.input_types.items()
    }
    assert np.array_equal(np.asarray(every(**values)), np.asarray(alone(**values)))
