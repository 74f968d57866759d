"""RoPE as native code for CPU: against float64, for every tail, between guard pages; its derivatives, and its plans."""

from __future__ import annotations

import ctypes
import mmap
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from independent import formula
from native import host
from ropegen.templates.rope.kernel_cpu import Form, Heads, forward
from ropegen.templates.rope.site import FAMILY
from rotations import expect_close, turned

import ropegen as rg
from ropegen.emit.primitive import Choice, Choices, bind
from ropegen.native import call, machine
from ropegen.target import VECTOR_UNITS, Target, VectorUnit
from ropegen.template import template
from ropegen.types import numpy_dtype

TESTS = Path(__file__).resolve().parent
ROPE = rg.Rope(10_000.0, pairing="half")


# Every tail, between guard pages --------------------------------------------------------------------------------------

# Features that are rotated, further ones, rows, entries of the batch. The rows go from 1 to 40, the rotated features from
# less than a register to more than the code has without a loop.
TAILS = [(2, 0, 1, 1), (6, 9, 7, 2), (10, 0, 40, 1), (18, 17, 31, 2), (64, 0, 37, 1), (66, 31, 23, 1), (290, 147, 6, 2)]  # fmt: skip


def every_array(width: int) -> tuple[Heads, ...]:
    return tuple(
        Heads(dtype, heads, width, pairing)
        for heads, dtype in enumerate(("f32", "bf16", "f16"), 1)
        for pairing in ("half", "interleaved")
    )


@pytest.mark.any_jax
def test_every_tail_against_float64_between_guard_pages() -> None:
    """In a process of its own, which a read or write outside of the arrays ends."""
    host()
    code = "import test_rope_cpu; test_rope_cpu.run_between_guard_pages()"
    subprocess.run([sys.executable, "-c", code], cwd=TESTS, check=True, timeout=300)


def run_between_guard_pages() -> None:
    random = np.random.default_rng(0)
    for number, (dim, rest, rows, batch) in enumerate(TAILS):
        form = Form(
            batch=batch,
            rows=rows,
            dim=dim,
            has_batch=number % 2 == 1,
            arrays=every_array(dim + rest),
            inverse=number % 3 == 1,
            streams=number % 4 != 1,
            threads=3,
        )
        compiled = Compiled.of(form)
        for after in (0, 8, None):
            compiled.check(random, after)


class Guarded:
    """Memory between two pages that no code may touch.

    An array in it ends `after` bytes before the second page; with None it begins after the first one.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], after: int | None) -> None:
        page, size = mmap.PAGESIZE, int(np.prod(shape)) * dtype.itemsize
        inner = -(-(size + (after or 0)) // page) * page
        self.memory = mmap.mmap(-1, inner + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for guard in (start, start + page + inner):
            assert protect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0, ctypes.get_errno()
        offset = page if after is None else page + inner - size - after
        self.address = start + offset
        self.array = np.frombuffer(self.memory, dtype, int(np.prod(shape)), offset).reshape(shape)


@dataclass(frozen=True)
class Compiled:
    """The compiled stage of a kernel, called as the loop of a thread calls it."""

    form: Form
    stage: Any

    @staticmethod
    def of(form: Form) -> Compiled:
        code = machine.object_code(forward(form, host()).text, host())
        kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
        return Compiled(form, kind(machine.load(code, "rotate")))

    def check(self, random: np.random.Generator, after: int | None) -> None:
        form = self.form
        shapes = [(form.batch, form.rows, heads.heads, heads.width) for heads in form.arrays]
        dtypes = [numpy_dtype(heads.dtype) for heads in form.arrays]
        sources, results = (
            [Guarded(shape, dtype, after) for shape, dtype in zip(shapes, dtypes, strict=True)] for _ in range(2)
        )
        table = Guarded((form.batch if form.has_batch else 1, form.rows, form.dim), np.dtype(np.float32), after)
        for given in (*sources, table):
            given.array[...] = random.standard_normal(given.array.shape).astype(given.array.dtype)
        before = [given.array.copy() for given in (*sources, table)]
        context = np.zeros(call._BUFFERS // 8 + 2 * len(sources) + 1, np.int64)
        context[call._BUFFERS // 8 :] = [buffer.address for buffer in (*sources, table, *results)]
        for item in range(form.items):
            self.stage(context.ctypes.data, 0, item, 0)
        for given, kept in zip((*sources, table), before, strict=True):
            assert (given.array == kept).all()
        for heads, source, result in zip(form.arrays, sources, results, strict=True):
            exact = turned(source.array, table.array, heads.pairing, inverse=form.inverse)
            expect_close(result.array, exact, heads.dtype, 10.0)
            assert (result.array[..., form.dim :] == source.array[..., form.dim :]).all()


def test_the_tails_have_items_of_several_blocks_and_rows_of_every_kind() -> None:
    assert {rows for _, _, rows, _ in TAILS} >= {1, 40}
    forms = [
        Form(batch, rows, dim, False, every_array(dim + rest), False, False, 3) for dim, rest, rows, batch in TAILS
    ]
    assert any(form.items > 2 and form.batch * form.rows % form.block for form in forms)


# In programs ----------------------------------------------------------------------------------------------------------


def bound(closed: rg.Graph, operands: list[jax.Array]) -> tuple[jax.Array, ...]:
    """The region by the native template."""
    host()
    return bind(closed, Choices((Choice(Target.parse("cpu"), "rope/llvm_cpu"),)), operands)


def regions(graph: rg.Graph) -> list[rg.Graph]:
    return [region.closed for region in FAMILY.find(graph)]


def drawn(shape: tuple[int, ...], dtype: str, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), numpy_dtype(dtype))


@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_a_plain_call_is_exact_to_one_rounding(dtype: str, pairing: str) -> None:
    """Many rows, so that several threads write; the result is large enough that the stores bypass the caches."""
    host()
    rope = rg.Rope(10_000.0, pairing=pairing, dim=48)
    x = drawn((1, 5000, 7, 64 if dtype == "f32" else 128), dtype)
    rotate = jax.jit(lambda x: rg.rope(x, None, rope, target="cpu:4"))
    out = rotate(x)
    assert "ropegen_rope" in rotate.lower(x).as_text()
    assert x.nbytes >= 1 << 23
    expect_close(out, turned(np.asarray(x), np.asarray(rope.table(np.arange(5000), x.shape[-1])), pairing), dtype, 10.0)
    for _ in range(3):
        assert (np.asarray(rotate(x)) == np.asarray(out)).all()
    assert (np.asarray(rg.rope(x, None, rope, target="cpu:4")) == np.asarray(out)).all()


def two_rotations(lead: tuple[int, ...], table: tuple[int, ...]) -> rg.Graph:
    """q and k, and q once more in the other pairing, by the same angles; the region of all three."""
    b = rg.Builder("three")
    q, k = (b.input(name, (*lead, 9, heads, 22), "f32") for name, heads in (("q", 3), ("k", 1)))
    angles = b.input("angles", (*table, 9, 18), "f32")
    outputs = {
        "q": b.rotate(q, angles, pairing="half"),
        "k": b.rotate(k, angles, pairing="interleaved"),
        "again": b.rotate(q, angles, pairing="interleaved"),
    }
    return regions(b.build(**outputs))[0]


@pytest.mark.parametrize(("lead", "table"), [((2, 3), ()), ((2,), (2,))])
def test_derivatives_are_those_of_the_formula(lead: tuple[int, ...], table: tuple[int, ...]) -> None:
    """Forward and reverse mode, with and without the angles, and with a batch; a derivative of second order."""
    closed = two_rotations(lead, table)
    labels = list(closed.input_types)
    given = {label: drawn(kind.shape, "f32", seed) for seed, (label, kind) in enumerate(closed.input_types.items())}
    along = {label: drawn(value.shape, "f32", 7) for label, value in given.items()}

    def mine(values: dict[str, jax.Array]) -> list[jax.Array]:
        return list(bound(closed, [values[label] for label in labels]))

    def plainly(values: dict[str, jax.Array]) -> list[jax.Array]:
        return list(formula(closed, values).values())

    def derivatives(function: Any) -> dict[str, Any]:
        def derive(given: dict[str, jax.Array], along: dict[str, jax.Array]) -> dict[str, Any]:
            results: dict[str, Any] = {}
            for name, free in (("all", labels), ("x", [label for label in labels if label != "angles"])):
                at, slopes = ({label: values[label] for label in free} for values in (given, along))
                # The second result has no cotangent.
                cubes = lambda some: sum((y**3).sum() for y in function({**given, **some})[::2])  # noqa: E731
                results[f"forward {name}"] = jax.jvp(cubes, (at,), (slopes,))
                results[f"reverse {name}"] = jax.grad(cubes)(at)
                results[f"second {name}"] = jax.jvp(jax.grad(cubes), (at,), (slopes,))[1]
                results[f"batch {name}"] = jax.vmap(jax.grad(cubes))(stacked(at))
            return results

        return jax.jit(derive)(given, along)

    same(derivatives(mine), derivatives(plainly))


def stacked(values: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {label: jnp.stack([value, 2 * value]) for label, value in values.items()}


def same(result: Any, expected: Any) -> None:
    for mine, other in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-3)


def test_invalid_numbers_stay_in_their_pair() -> None:
    b = rg.Builder("invalid")
    angles = b.input("angles", (4, 16), "f32")
    for dtype in ("f32", "bf16", "f16"):
        x = b.input(dtype, (4, 2, 16), dtype)
        (closed,) = regions(b.build(out=b.rotate(x, angles, pairing="half")))
        values = np.ones((4, 2, 16), numpy_dtype(dtype))
        values[1, 0, 3], values[2, 1, 15] = np.nan, np.inf
        table = np.asarray(ROPE.table(np.arange(4) + 1, 16))
        (out,) = bound(closed, [jnp.asarray(values), jnp.asarray(table)])
        assert {tuple(place) for place in np.argwhere(np.isnan(np.asarray(out, np.float32)))} == {(1, 0, 3), (1, 0, 11)}
        assert {tuple(place) for place in np.argwhere(np.isinf(np.asarray(out, np.float32)))} == {(2, 1, 7), (2, 1, 15)}
    # A payload of all ones would become -0 if it were rounded like a number.
    ones = np.full((4, 16), 0xFFFF_FFFF, np.uint32).view(np.float32)
    x = b.input("last", (4, 1, 16), "bf16")
    (closed,) = regions(b.build(out=b.rotate(x, angles, pairing="interleaved")))
    assert np.isnan(np.asarray(bound(closed, [drawn((4, 1, 16), "bf16"), jnp.asarray(ones)])[0], np.float32)).all()


# Plans ----------------------------------------------------------------------------------------------------------------


def test_q_and_k_are_one_region_and_layers_are_not() -> None:
    """The angles are those of all layers, and the queries of a layer depend on the rotations of the layer before."""
    b = rg.Builder("layers")
    x, at = b.input("x", (1, 8, 4, 16), "f32"), b.positions(8)
    for _ in range(3):
        q, k = b.rope(x, at, ROPE), b.rope(b.scale(x, 2.0), at, ROPE)
        x = b.add(q, k)
    plan = rg.plan(b.build(out=x), "cpu")
    taken = [step.region for step in plan.steps if step.region is not None]
    assert [len(region.outputs) for region in taken] == [2, 2, 2]
    assert all(
        step.chosen is not None and step.chosen.template == "rope/llvm_cpu" for step in plan.steps if step.region
    )


def test_a_region_has_at_most_eight_rotations_of_equal_leading_sizes() -> None:
    b = rg.Builder("many")
    angles = b.input("angles", (4, 8), "f32")
    lead = [(), *[(2,)] * 10]
    xs = [b.input(f"x{index}", (*sizes, 4, 1, 8), "f32") for index, sizes in enumerate(lead)]
    outputs = {f"out{index}": b.rotate(x, angles, pairing="half") for index, x in enumerate(xs)}
    assert sorted(len(closed.outputs) for closed in regions(b.build(**outputs))) == [*[1] * 11, 2, 8]


def test_other_platforms_rotate_as_before() -> None:
    b = rg.Builder("one")
    graph = b.build(out=b.rope(b.input("x", (1, 8, 4, 16), "f32"), b.positions(8), ROPE))
    for target in ("tpu:v5e", "gpu:h100"):
        assert [step.region for step in rg.plan(graph, target).steps if step.region is not None] == []


def reasons(graph: rg.Graph) -> list[str]:
    (closed,) = regions(graph)
    return list(template("rope/llvm_cpu").declines(FAMILY.site(closed), Target.parse("cpu")))


def rotation(x: tuple[tuple[int, ...], str], angles: str = "f32") -> rg.Graph:
    b = rg.Builder("declined")
    return b.build(out=b.rotate(b.input("x", *x), b.input("angles", (x[0][0], 4), angles), pairing="half"))


def test_what_it_does_not_compute_it_declines(monkeypatch: pytest.MonkeyPatch) -> None:
    host()
    usual = ((3, 2, 4), "f32")
    assert reasons(rotation(usual)) == []
    assert reasons(rotation(((3, 2, 4), "f64"))) == ["it computes in float32, and x is f64"]
    assert reasons(rotation(usual, "bf16")) == ["it reads angles in f32, not bf16"]
    assert reasons(rotation(((0, 2, 4), "f32"))) == ["there is nothing to rotate"]
    monkeypatch.setattr(machine, "is_installed", lambda: False)
    assert reasons(rotation(usual)) == [f"llvmlite is not installed; {machine.INSTALL}"]


def test_a_module_that_leaves_the_process_holds_the_plain_formula() -> None:
    x = drawn((1, 8, 2, 16), "f32")
    exported = jax.export.export(jax.jit(lambda x: rg.rope(x, None, ROPE)))(x)
    assert "custom_call" not in exported.mlir_module()
    same(exported.call(x), rg.rope(x, None, ROPE))


# Assembly -------------------------------------------------------------------------------------------------------------


def code_of(form: Form, unit: VectorUnit) -> Iterator[str]:
    """The instructions of the stage, for any machine."""
    if not machine.is_installed():
        pytest.skip("llvmlite is not installed; pip install '.[native]' runs it")
    text = machine.assembly(forward(form, unit).text, unit)
    body = text.partition("\nrotate:")[2].partition(".Lfunc_end0")[0]
    return (line for line in body.splitlines() if line.startswith("\t") and not line.startswith("\t."))


@pytest.mark.any_jax
@pytest.mark.parametrize("name", VECTOR_UNITS)
@pytest.mark.parametrize("pairing", ["half", "interleaved"])
def test_registers_stay_registers_and_stores_bypass_the_caches(name: str, pairing: str) -> None:
    for dtype in ("f32", "bf16", "f16"):
        form = Form(1, 64, 128, False, (Heads(dtype, 8, 128, pairing),), False, True, 1)
        lines = list(code_of(form, VECTOR_UNITS[name]))
        assert not [
            line for line in lines if re.search(r"%[xyz]mm|\b[qvd]\d+\b", line) and re.search(r"\b[re]?sp\b", line)
        ]
        if name != "neon":  # there the compiler may take a store that also interleaves instead
            past = [line for line in lines if line.startswith("\tvmovnt")]
            sizes = {"x": 16, "y": 32, "z": 64}
            stored = sum(sizes[register] for line in past for register in re.findall(r"%([xyz])mm\d+,", line))
            assert stored == 128 * numpy_dtype(dtype).itemsize
            assert any(line.split()[0] in ("mfence", "sfence", "lock") for line in lines[lines.index(past[-1]) :])
        usual = code_of(replace(form, streams=False), VECTOR_UNITS[name])
        assert not [line for line in usual if "vmovnt" in line or "stnp" in line]
