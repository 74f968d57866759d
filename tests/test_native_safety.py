"""The native kernels under hostile conditions: guard pages, many threads, NaN and infinity, and bounded scratch memory.

`pytest --exhaustive` runs every length from 1 to 300 between guard pages, and the whole soak.
"""

from __future__ import annotations

import ctypes
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import guarded
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from guarded import Guarded, Handler
from independent import formula
from interpreted import drawn
from native import host
from ropegen.templates.attend import layout_cpu_backward, llvm_cpu
from ropegen.templates.attend.kernel_cpu import forward
from ropegen.templates.attend.kernel_cpu_backward import backward
from ropegen.templates.attend.layout_cpu import Problem, operands_of
from ropegen.templates.attend.layout_cpu_backward import Gradient
from ropegen.templates.attend.site import FAMILY
from test_attend_tpu import Case

import ropegen as rg
from ropegen import masks, reference
from ropegen.errors import RopegenError
from ropegen.native import machine
from ropegen.target import VECTOR_UNITS, Target
from ropegen.template import Kernel, Tile

TESTS = Path(__file__).parent
TOLERANCE = {"f32": 1e-5, "f16": 2e-3, "bf16": 2e-2}

# Between guard pages --------------------------------------------------------------------------------------------------

# Every number is odd where it can be, so that no row, tile or block is whole.
CASES = [
    Case(queries=1, keys=1, heads=1, width=1, value_width=1),
    Case(queries=5, keys=300, heads=3, width=3, value_width=40, mask="full", pairing=None),
    Case(lead=(2,), queries=33, keys=47, heads=4, kv_heads=2, width=18, value_width=7, pairing="half", dtype="bf16"),
    Case(queries=97, keys=97, heads=3, kv_heads=3, width=34, dim=10, value_width=33, pairing="interleaved", dtype="f16"),
    Case(queries=51, keys=129, width=9, value_width=17, mask="full", bias=(1, 2, 3), softcap=3.0, sinks=True),
    Case(lead=(3,), queries=35, keys=19, width=13, value_width=5, mask="documents by head", dense_mask=(0, 2, 3)),
    Case(queries=29, keys=65, width=8, value_width=31, mask="window", bias=(1, 3), score="alibi", dense_mask=(3,)),
    Case(queries=67, keys=31, width=5, value_width=8, bias=(2,), dense_mask=(1, 2), masked_row="mean"),
]  # fmt: skip


def every_case() -> Iterator[Case]:
    """Every length from 1 to 300 with every width from 1 to 40, in all forms of mask, bias and rotation, in turns."""
    forms = itertools.cycle(
        itertools.product(
            ("causal", "full", "window", "documents by head", "nothing for some"),
            (None, (0, 1, 2, 3), (3,), (2,), (1,), (2, 3)),
            (None, (2, 3), (3,), (2,)),
            ("f32", "bf16", "f16"),
            (None, "half", "interleaved"),
        )
    )
    # 1080 forms; a stride that has no factor in common with their number meets all kinds early.
    chosen = list(itertools.islice(forms, 1080))
    for length in range(1, 301):
        mask, bias, dense_mask, dtype, pairing = chosen[length * 437 % 1080]
        width, kv_heads = length % 40 + 1, length % 2 + 1
        pairing = pairing if width > 1 else None
        yield Case(
            lead=(length % 3 + 1,),
            queries=length,
            keys=max(1, (length * 7) % 301),
            heads=kv_heads * (length % 3 + 1),
            kv_heads=kv_heads,
            width=width,
            value_width=(length * 3) % 40 + 1,
            dtype=dtype,
            mask=mask,
            pairing=pairing,
            dim=None if pairing is None or width % 2 == 0 else width - 1,
            bias=bias,
            dense_mask=dense_mask,
            sinks=length % 5 == 0,
        )


def handlers(case: Case, threads: int) -> tuple[Handler, Handler]:
    """The kernels of the forward and of the backward pass."""
    problem = Problem(case.site.closed, host(), 64, 2, threads)
    gradient = Gradient(problem, case.bias is not None)
    return (
        Handler.of(forward(problem), operands_of(problem), problem.scratch_bytes),
        Handler.of(backward(gradient), gradient.operands, gradient.scratch_bytes),
    )


def check_between_guard_pages(case: Case, number: int) -> None:
    """No byte outside of the arrays and of the scratch memory is read or written; all results have the same bits."""
    most = 1 + 2 * (number % 2)
    values = list(drawn(case.site, number).values())
    ahead, back = handlers(case, most)
    outputs = same([ahead(values, at_end, threads) for at_end in (True, False) for threads in range(1, most + 1)])
    exact = reference.evaluate(case.site.closed, drawn(case.site, number))
    for result, name in zip(outputs, ("output", "log_sum_exp"), strict=True):
        np.testing.assert_allclose(
            result.astype("f8"), exact[name], rtol=TOLERANCE[case.dtype], atol=TOLERANCE[case.dtype]
        )
    random = np.random.default_rng(number)
    pulled = [random.standard_normal(x.shape).astype(x.dtype) for x in outputs]
    given = [*values, *outputs, *pulled]
    gradients = same([back(given, at_end, threads) for at_end in (True, False) for threads in range(1, most + 1)])
    for gradient in gradients[:3]:
        assert np.isfinite(gradient.astype("f4")).all(), "a number of a gradient is not finite, or was not written"


def same(calls: list[list[np.ndarray]]) -> list[np.ndarray]:
    """The results of the first call, whose bits are those of all."""
    for results in calls[1:]:
        for first, other in zip(calls[0], results, strict=True):
            assert first.tobytes() == other.tobytes(), "two calls have different results"
    return calls[0]


def run_between_guard_pages(exhaustive: bool) -> None:
    for number, case in enumerate(every_case() if exhaustive else CASES):
        print(case, flush=True)
        check_between_guard_pages(case, number)


def test_kernels_stay_inside_their_arrays_and_scratch_memory(request: pytest.FixtureRequest) -> None:
    """In a process of its own, which an access outside ends; the last case that it printed is the one that failed."""
    host()
    exhaustive = bool(request.config.getoption("--exhaustive"))
    code = f"import test_native_safety as t; t.run_between_guard_pages({exhaustive})"
    ended = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=TESTS, capture_output=True, text=True, timeout=3600
    )
    case = (ended.stdout.splitlines() or ["no case"])[-1]
    assert ended.returncode == 0, f"exit {ended.returncode} in {case}\n{ended.stderr[-3000:]}"


def test_the_harness_notices_accesses_outside() -> None:
    """A kernel that is told of less scratch memory than it uses, and one that reads beyond an operand, both crash."""
    host()
    for code in ("t.with_less_scratch()", "t.with_a_longer_operand()"):
        command = [sys.executable, "-c", f"import test_native_safety as t; {code}"]
        ended = subprocess.run(command, check=False, cwd=TESTS, capture_output=True, text=True, timeout=300)
        assert ended.returncode < 0, ended.stderr[-2000:]


def _small() -> tuple[Handler, list[np.ndarray], Problem]:
    case = Case(queries=20, keys=20, heads=1, width=8, value_width=8)
    problem = Problem(case.site.closed, host(), 64, 2, 1)
    handler = Handler.of(forward(problem), operands_of(problem), problem.scratch_bytes)
    return handler, list(drawn(case.site, 0).values()), problem


def with_less_scratch() -> None:
    """The memory of the item ends after the scores; what follows them lies beyond."""
    handler, values, problem = _small()
    short = problem.scratch_bytes - (problem.slot.size - problem.slot.scores)
    Handler(handler.operands, handler.results, short, handler.function)(values, at_end=True)


def with_a_longer_operand() -> None:
    """The handler is told of the shape that the kernel was compiled for, and given an array of half the rows."""
    handler, (q, *others), _ = _small()
    shorter, made = q[:, :10], itertools.count()
    guarded.Guarded = lambda shape, dtype, at_end: Guarded(shape if next(made) else shorter.shape, dtype, at_end)
    handler([shorter, *others], at_end=True)


# Soak -----------------------------------------------------------------------------------------------------------------


def programs() -> list[Callable[[int], list[np.ndarray]]]:
    """Functions from a seed to results: attention and its gradient, and a rotation, all in native code."""
    rope, steps = rg.Rope(10_000.0, pairing="half"), list[Callable[[int], list[np.ndarray]]]()

    def attend(q: Any, k: Any, v: Any) -> Any:
        return rg.attention(q, k, v, mask=masks.causal, target="cpu:3")

    def rotate(q: Any) -> Any:
        return rg.rope(q, None, rope, target="cpu:3")

    for length, heads, kv_heads, width in ((70, 4, 2, 24), (33, 3, 3, 17)):
        shapes = [(2, length, count, width) for count in (heads, kv_heads, kv_heads)]

        @jax.jit
        def step(q: Any, k: Any, v: Any) -> Any:
            out, pull = jax.vjp(attend, q, k, v)
            return [out, *pull(out), rotate(q) if q.shape[-1] % 2 == 0 else q]

        def drawn_step(seed: int, step: Any = step, shapes: list[tuple[int, ...]] = shapes) -> list[np.ndarray]:
            random = np.random.default_rng(seed)
            return [np.asarray(x) for x in step(*(random.standard_normal(shape).astype("f4") for shape in shapes))]

        text = step.lower(*(jnp.zeros(shape) for shape in shapes)).as_text()
        assert "ropegen_attend_backward" in text
        steps.append(drawn_step)
    return steps


def resident() -> int:
    """Bytes of memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc/self/statm, which Linux has")
def test_a_soak_from_eight_threads_has_the_bits_of_one_thread(request: pytest.FixtureRequest) -> None:
    host()
    calls, threads = (10_000 if request.config.getoption("--exhaustive") else 200), 8
    kinds = [(program, seed) for program in programs() for seed in range(5)]
    first = [[x.tobytes() for x in program(seed)] for program, seed in kinds]
    counter, problems, sizes = itertools.count(), list[str](), list[int]()

    def work(thread: int) -> None:
        random = np.random.default_rng(thread)
        while (number := next(counter)) < calls:
            program, seed = kinds[kind := int(random.integers(len(kinds)))]
            if [x.tobytes() for x in program(seed)] != first[kind]:
                problems.append(f"call {number} of kind {kind} has other bits")
            if number % (calls // 4) == 0:
                sizes.append(resident())

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(900)
        assert not worker.is_alive()
    assert not problems, problems[:5]
    assert resident() - sizes[1] < 64 << 20, sizes


# NaN and infinity -----------------------------------------------------------------------------------------------------


def built(case: Case) -> Kernel:
    host()
    return llvm_cpu.build(case.site, Tile.of(kv=64, panels=2), Target.parse("cpu:1"))


def both(case: Case, values: dict[str, Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The results of the native kernel, and those of the plain formula."""
    ours = jax.jit(built(case).forward)(*values.values())
    plain = formula(case.site.closed, {label: jnp.asarray(value) for label, value in values.items()})
    labels = [label for label, _ in case.site.closed.outputs]
    return [np.asarray(x, "f4") for x in ours], [np.asarray(plain[label], "f4") for label in labels]


def kind(x: np.ndarray) -> np.ndarray:
    """0 for a number, 1 for NaN, 2 and 3 for the infinities."""
    return np.isnan(x) + 2 * np.isposinf(x) + 3 * np.isneginf(x)


SPECIAL = Case(queries=37, keys=37, heads=2, kv_heads=1, width=12, value_width=12)


def output_of_jax(case: Case, values: dict[str, np.ndarray]) -> np.ndarray:
    """The output of JAX's own attention, which keeps all scores."""
    given = {label: jnp.asarray(values[label]) for label in ("q", "k", "v")}
    bias = jnp.broadcast_to(values["bias"], (1, case.heads, case.queries, case.keys)) if "bias" in values else None
    is_causal = case.mask == "causal"
    out = jax.nn.dot_product_attention(
        given["q"], given["k"], given["v"], bias, scale=case.site.op.scale, is_causal=is_causal
    )
    return np.asarray(out)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_a_special_number_has_the_effect_that_it_has_in_attention_by_jax(number: float) -> None:
    """In q of one query, and in k and v of a key that the queries after it see; with a bias in one place."""
    case = Case(queries=37, keys=37, heads=2, kv_heads=1, width=12, value_width=12, mask="full", bias=(1, 2, 3))
    for name, place in {"q": (0, 7, 1, 3), "k": (0, 5, 0, 2), "v": (0, 36, 0, 8), "bias": (0, 1, 20, 3)}.items():
        values = drawn(case.site, 0)
        values[name][place] = number
        np.testing.assert_array_equal(kind(both(case, values)[0][0]), kind(output_of_jax(case, values)), err_msg=name)
    for name in ("q", "k", "v"):
        values = drawn(SPECIAL.site, 0)
        values[name][0, 17, 0, 4] = number
        ours, theirs = both(SPECIAL, values)[0][0], output_of_jax(SPECIAL, values)
        if name == "v":  # a row that sees it is NaN in all features, so that it cannot reach the others
            assert np.isnan(ours[:, 17:]).all()
            assert np.isfinite(ours[:, :17]).all()
            continue
        np.testing.assert_array_equal(kind(ours)[:, 17:], kind(theirs)[:, 17:], err_msg=name)
        assert not (np.isnan(ours) & ~np.isnan(theirs)).any(), name


@pytest.mark.parametrize("least", [-np.inf, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize("masked_row", ["zero", "mean"])
def test_a_bias_that_hides(least: float, masked_row: str) -> None:
    """By minus infinity or the least number, in some places of a row, in all of another, and beside the mask."""
    case = Case(queries=37, keys=45, width=12, value_width=9, bias=(2, 3), masked_row=masked_row)
    values = drawn(case.site, 0)
    bias = values["bias"]
    bias[..., 3, ::2], bias[..., 5, :], bias[..., 30, :17] = least, least, least
    ours, plain = both(case, values)
    for mine, theirs in zip(ours, plain, strict=True):
        np.testing.assert_array_equal(kind(mine), kind(theirs))
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


def test_debug_nans_raise_for_a_nan_and_for_nothing_else() -> None:
    host()
    q = jnp.asarray(drawn(SPECIAL.site, 0)["q"])

    def attend(q: Any) -> Any:
        return rg.attention(q, q, q, mask=masks.causal & masks.window(3), target="cpu:1")

    with jax.debug_nans(True):
        jax.block_until_ready(jax.jit(jax.value_and_grad(lambda q: attend(q).sum()))(q))
        with pytest.raises(FloatingPointError):
            jax.block_until_ready(jax.jit(attend)(q.at[0, 3, 0, 0].set(np.nan)))


# Scratch memory -------------------------------------------------------------------------------------------------------

LONG = Case(queries=32_768, keys=32_768, heads=8, kv_heads=8, mask="window")


def test_scratch_memory_is_below_64_mb_at_32768_rows() -> None:
    for unit in VECTOR_UNITS.values():
        for tile in llvm_cpu.tiles(LONG.site, Target.parse("cpu:2")):
            problem = Problem(LONG.site.closed, unit, tile["kv"], tile["panels"], 2)
            assert problem.scratch_bytes < 64 << 20
            assert Gradient(problem, False).scratch_bytes < 64 << 20


@pytest.mark.any_jax
@pytest.mark.parametrize(
    ("batch", "heads", "kv_heads", "width", "length", "threads"),
    [
        (1, 8, 2, 128, 8192, 2),
        (1, 16, 2, 64, 8192, 2),
        (1, 8, 8, 64, 32_768, 2),
        (3, 6, 3, 128, 16_384, 4),
        (1, 8, 1, 128, 8192, 4),
        (2, 32, 8, 128, 32_768, 16),
    ],
)
def test_every_wave_of_the_backward_pass_has_work_for_all_threads(
    batch: int, heads: int, kv_heads: int, width: int, length: int, threads: int
) -> None:
    """Threads without an item wait for the end of the wave."""
    q, kv = ((batch, length, count, width) for count in (heads, kv_heads))
    b = rg.Builder("attention")
    parts = [b.input(label, shape, "f32") for label, shape in (("q", q), ("k", kv), ("v", kv))]
    closed = b.build(out=b.attend(*parts, mask=masks.full))
    region = next(iter(FAMILY.find(closed)))
    gradient = Gradient(Problem(region.closed, VECTOR_UNITS["avx512"], 64, 4, threads), False)
    items = gradient.wave_heads * gradient.chunks
    assert items % threads == 0 or gradient.waves == 1
    assert items >= min(threads, batch * kv_heads * gradient.chunks)
    # Only the copies that keep the threads busy take more memory than a wave should.
    copy = heads // kv_heads * length * width * 4
    assert gradient.wave_bytes < max(64 << 20, 1.1 * copy * threads)


def test_the_waves_of_the_backward_pass_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine key heads in one wave, and in waves of two heads, of which the last is not full."""
    case = Case(lead=(3,), queries=70, keys=70, heads=6, kv_heads=3, width=16, value_width=16, mask="causal")
    values = list(drawn(case.site, 0).values())
    results: list[list[np.ndarray]] = []
    waves: list[int] = []
    for memory in (16 << 20, 1):
        monkeypatch.setattr(layout_cpu_backward, "_WAVE", memory)
        monkeypatch.setattr(layout_cpu_backward, "_WAVE_OF_THREAD", memory)
        backward.cache_clear()
        ahead, back = handlers(case, 2)
        waves.append(Gradient(Problem(case.site.closed, host(), 64, 2, 2), False).waves)
        outputs = ahead(values, True, 2)
        random = np.random.default_rng(0)
        pulled = [random.standard_normal(x.shape).astype(x.dtype) for x in outputs]
        results.append(back([*values, *outputs, *pulled], True, 2))
    backward.cache_clear()
    assert waves == [1, 5]
    same(results)


def test_a_call_takes_as_much_scratch_memory_as_was_planned() -> None:
    host()
    problem = Problem(LONG.site.closed, host(), 128, 4, 2)
    values = [jnp.asarray(value) for value in drawn(LONG.site, 0).values()]
    kept, machine._kept_block.value = machine._kept_block.value, 0
    jax.block_until_ready(
        jax.jit(llvm_cpu.build(LONG.site, Tile.of(kv=128, panels=4), Target.parse("cpu:2")).forward)(*values)
    )
    block, machine._kept_block.value = machine._kept_block.value, kept
    # The block begins with its size, on a page of its own.
    taken = ctypes.c_int64.from_address(block).value
    assert problem.scratch_bytes <= taken <= problem.scratch_bytes + 2 * 4096
    assert taken < 64 << 20


@pytest.mark.any_jax
@pytest.mark.parametrize(
    "sizes", [{"kv": 3, "panels": 4}, {"kv": 24, "panels": 4}, {"kv": 1 << 20, "panels": 4}], ids=str
)
def test_a_tile_that_the_kernel_cannot_take_is_refused(sizes: dict[str, int]) -> None:
    q = jnp.ones((1, 64, 1, 16))
    with pytest.raises(RopegenError, match="kv="):
        rg.attention(q, q, q, target="cpu:2", tile={"attend/llvm_cpu": sizes, "attend/xla": {"q": 1, "kv": 1}})


@pytest.mark.any_jax
def test_a_long_attention_has_items_for_64_cores() -> None:
    case = Case(queries=2048, keys=2048, heads=32, kv_heads=32, width=128, value_width=128, mask="full", pairing=None)
    problem = Problem(case.site.closed, VECTOR_UNITS["avx2"], 64, 4, 64)
    assert problem.waves == 1
    assert problem.heads * problem.blocks == 1024
    assert problem.kv_heads * problem.tiles >= 64
