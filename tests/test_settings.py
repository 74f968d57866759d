"""JAX's settings do not change what ropegen's functions compute, and its transformations take them all.

Results under a setting must equal the results without it. What those are is compared with float64 elsewhere. Derivatives
are compared with differences of the function's own values in float64. The tests write the tables of docs/settings.md:
`pytest tests/test_settings.py --update-golden`.
"""

from __future__ import annotations

import copy
import functools
import importlib
import pickle
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import ropegen as rg
from ropegen import masks, scaling

Function = Callable[..., Any]

pytestmark = pytest.mark.usefixtures("quick_compilation")

SETTINGS: Mapping[str, Callable[[], AbstractContextManager[Any]]] = {
    "strict dtype promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "no rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "debug nans": lambda: jax.debug_nans(True),
    "debug infs": lambda: jax.debug_infs(True),
    "tracer leaks": jax.checking_leaks,
    "no jit": jax.disable_jit,
    "64-bit types": lambda: jax.enable_x64(True),
    "bfloat16 products": lambda: jax.default_matmul_precision("bfloat16"),
}
# How the user writes them.
WRITTEN = {
    "strict dtype promotion": "`jax_numpy_dtype_promotion` strict",
    "no rank promotion": "`jax_numpy_rank_promotion` raise",
    "debug nans": "`jax_debug_nans`",
    "debug infs": "`jax_debug_infs`",
    "tracer leaks": "`jax_check_tracer_leaks`",
    "no jit": "`jax_disable_jit`",
    "64-bit types": "`jax_enable_x64`",
    "bfloat16 products": "`jax_default_matmul_precision` bfloat16",
}

HALF = rg.Rope(pairing="half")
PARTIAL = rg.Rope(pairing="interleaved", dim=4)
AT = jnp.arange(5)
HALVES = jnp.arange(5) * 0.5
SEGMENTS = jnp.array([0, 0, 1, 1, 2])


@functools.cache
def plan_of(dtype: str) -> Any:
    """The compiled plan of an attention with RoPE."""
    return rg.plan(graph_of(dtype), "cpu").compile()


@functools.cache
def artifact_of(dtype: str) -> Any:
    """The artifact of the same graph. It stays on disk as long as the tests run."""
    folder = tempfile.TemporaryDirectory()
    artifact = rg.export(graph_of(dtype), Path(folder.name) / "kernels", targets=["cpu"])
    return lambda _=folder, **arrays: artifact(**arrays)


@functools.cache
def layer_of(library: str, dtype: str) -> Function:
    """A layer of the plan, of which k and v are the weights, as a function of all three."""
    pytest.importorskip({"nnx": "flax"}.get(library, library), reason="pip install '.[seeds]' has the library")
    door = importlib.import_module(f"ropegen.{library}").ProgramLayer
    program = rg.plan(graph_of(dtype, role="parameter"), "cpu").compile()
    make = door.from_program if library == "penzai" else door
    return lambda q, k, v: make(program, {"k": k, "v": v})(q)


def graph_of(dtype: str, role: str = "activation") -> rg.Graph:
    b = rg.Builder("attention")
    q = b.input("q", (2, 5, 4, 8), dtype)
    k, v = (b.input(name, (2, 5, 2, 8), dtype, role=role) for name in "kv")
    at = b.positions(5)
    turned = (b.rope(x, at, HALF) for x in (q, k))
    return b.build(out=b.attend(*turned, v, mask=masks.causal, q_positions=at, kv_positions=at))


# Every function takes q (2, 5, 4, 8), k and v (2, 5, 2, 8).
FUNCTIONS: Mapping[str, Function] = {
    "attention": rg.attention,
    "attention with rope": lambda q, k, v: rg.attention(q, k, v, rope=HALF, mask=masks.causal),
    "attention at run-time positions": lambda q, k, v: rg.attention(
        q, k, v, rope=PARTIAL, mask=masks.causal & masks.window(3), q_positions=AT, kv_positions=AT
    ),
    "attention with every operand": lambda q, k, v: rg.attention(
        q,
        k,
        v,
        mask=masks.segments & masks.causal,
        score=masks.alibi(masks.alibi_slopes(4)),
        softcap=3.0,
        sinks=jnp.ones(4),
        bias=jnp.ones((4, 5, 5)),
        q_segments=SEGMENTS,
        kv_segments=SEGMENTS,
    ),
    "attention of rows that see no key": lambda q, k, v: rg.attention(
        q, k, v, mask=masks.causal, q_positions=AT - 2, kv_positions=AT
    ),
    "rope": lambda q, k, v: rg.rope(q, AT, HALF),
    "rope of known positions": lambda q, k, v: rg.rope(q, None, PARTIAL),
    "rope of fractional positions": lambda q, k, v: rg.rope(q, HALVES, HALF),
    "rope of three axes": lambda q, k, v: rg.rope(
        q, jnp.stack([AT, AT, AT]), rg.Rope(pairing="half", sections=(1, 2, 1))
    ),
    "rope in float32": lambda q, k, v: rg.rope(q, AT, rg.Rope(pairing="half", angles="f32")),
    "xpos": lambda q, k, v: rg.attention(
        q,
        k,
        v,
        rope=rg.Rope(pairing="interleaved", scaling=scaling.xpos(base=512.0)),
        q_positions=AT,
        kv_positions=AT,
    ),
    "rotate": lambda q, k, v: rg.rotate(q, jnp.ones((5, 8)), pairing="half"),
    "rope_table": lambda q, k, v: rg.rope_table(AT, HALF, 8) * q[0, 0, 0, 0],
    "sinusoid": lambda q, k, v: rg.sinusoid(AT, 8, pairing="half") * q[0, 0, 0, 0],
    "embed": lambda q, k, v: rg.embed(AT, q[0, :, 0], scale=2.0),
    "merge": lambda q, k, v: rg.merge([(q, q[..., 0]), (2.0 * q, q[..., 1])])[0],
    "compat.jax_nn.dot_product_attention": functools.partial(rg.compat.jax_nn.dot_product_attention, is_causal=True),
    "a compiled plan": lambda q, k, v: plan_of(q.dtype.name)(q=q, k=k, v=v),
    "an artifact": lambda q, k, v: artifact_of(q.dtype.name)(q=q, k=k, v=v),
    "a layer of a plan, Equinox": lambda q, k, v: layer_of("equinox", q.dtype.name)(q, k, v),
    "a layer of a plan, Flax NNX": lambda q, k, v: layer_of("nnx", q.dtype.name)(q, k, v),
    "a layer of a plan, Penzai": lambda q, k, v: layer_of("penzai", q.dtype.name)(q, k, v),
}


def drawn(dtype: Any = jnp.float32) -> tuple[jax.Array, jax.Array, jax.Array]:
    draw = np.random.default_rng(0)
    q, k, v = (jnp.asarray(draw.standard_normal((2, 5, heads, 8)), dtype) for heads in (4, 2, 2))
    return q, k, v


def total(function: Function, *arrays: jax.Array) -> jax.Array:
    return jnp.sum(function(*arrays))


def gradient(function: Function) -> Function:
    return jax.grad(functools.partial(total, function), (0, 1, 2))


def hessian_product(function: Function) -> Function:
    return lambda *arrays: jax.jvp(gradient(function), arrays, arrays)[1]


def over_a_batch(function: Function) -> Function:
    return lambda *arrays: jax.vmap(function)(*(array[None] for array in arrays))


@functools.cache
def expected(name: str, how: Callable[[Function], Function] | None, dtype: Any = jnp.float32) -> Any:
    """The results without settings."""
    function = FUNCTIONS[name] if how is None else how(FUNCTIONS[name])
    return jax.tree.map(np.asarray, function(*drawn(dtype)))


def expect_equal(result: Any, wanted: Any, tolerance: float) -> None:
    for one, other in zip(jax.tree.leaves(result), jax.tree.leaves(wanted), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(
            np.asarray(one, np.float64), np.asarray(other, np.float64), rtol=tolerance, atol=tolerance
        )


PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"


def expect_row(request: pytest.FixtureRequest, table: str, name: str, cells: Mapping[str, str]) -> None:
    """Compares the row of a function in a table of the page; with --update-golden writes it there."""
    text = PAGE.read_text()
    begin, end = f"<!-- {table} -->\n", f"<!-- end of {table} -->\n"
    before, rest = text.split(begin)
    old, after = rest.split(end)
    rows = {line.split("|")[1].strip(): line for line in old.splitlines()[2:]}
    row = f"| {name} | {' | '.join(cells.values())} |"
    if not request.config.getoption("--update-golden"):
        assert rows.get(name) == row, "pytest --update-golden writes the table"
        return
    rows[name] = row
    ordered = [rows[known] for known in FUNCTIONS if known in rows]
    head = [f"| function | {' | '.join(cells)} |", f"| --- |{' --- |' * len(cells)}"]
    PAGE.write_text(before + begin + "\n".join([*head, *ordered]) + "\n" + end + after)


def cell(check: Callable[[], None]) -> str:
    """What a cell says: `yes` after a check, `refused` where a RopegenError says what to do instead."""
    try:
        check()
    except rg.RopegenError:
        return "refused"
    return "yes"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_under_every_setting(name: str, request: pytest.FixtureRequest) -> None:
    # The tables are float32, and the test itself multiplies them, which strict promotion refuses for bfloat16.
    dtype = jnp.float32 if name in ("rope_table", "sinusoid") else jnp.bfloat16
    arrays, wanted = drawn(dtype), expected(name, None, dtype)

    def check(setting: str) -> None:
        with SETTINGS[setting]():
            result = FUNCTIONS[name](*arrays)
        # Op by op and under `jit`, XLA may round at other places.
        expect_equal(result, wanted, 2.0**-7 if result.dtype == jnp.bfloat16 else 1e-6)

    cells = {WRITTEN[setting]: cell(functools.partial(check, setting)) for setting in SETTINGS}
    expect_row(request, "settings", name, cells)


# Transformations ------------------------------------------------------------------------------------------------------


def loss(function: Function) -> Function:
    return lambda *arrays: jnp.sum(jnp.sin(function(*arrays)))


def dot(left: Any, right: Any) -> float:
    return float(sum(jnp.vdot(one, other) for one, other in zip(left, right, strict=True)))


class Directions:
    """The values of a function's loss along a direction, in float64, and what derivatives follow from them."""

    def __init__(self, function: Function) -> None:
        self.along = tuple(jnp.cos(3.0 * array) for array in drawn(jnp.float64))
        self.loss = jax.jit(loss(function))

    def at(self, step: float) -> float:
        moved = (array + step * along for array, along in zip(drawn(jnp.float64), self.along, strict=True))
        return float(self.loss(*moved))

    @functools.cached_property
    def slope(self) -> float:
        return (self.at(1e-5) - self.at(-1e-5)) / 2e-5

    @property
    def curvature(self) -> float:
        return (self.at(1e-3) - 2.0 * self.at(0.0) + self.at(-1e-3)) / 1e-6


@functools.cache
def directions(function: Function) -> Directions:
    return Directions(function)


def grad_of(function: Function) -> Function:
    return jax.grad(loss(function), (0, 1, 2))


def stacked(dtype: Any = jnp.float32) -> list[jax.Array]:
    return [jnp.stack([array, array + 1.0]) for array in drawn(dtype)]


@functools.cache
def in_batch(function: Function) -> Any:
    return jnp.stack([function(*(array[index] for array in stacked())) for index in range(2)])


def check_jit(function: Function) -> None:
    expect_equal(jax.jit(function)(*drawn()), function(*drawn()), 1e-5)


def check_grad(function: Function) -> None:
    expect_gradient(function, function)


def expect_gradient(transformed: Function, function: Function) -> None:
    with jax.enable_x64(True):
        its = directions(function)
        slope = dot(jax.jit(grad_of(transformed))(*drawn(jnp.float64)), its.along)
        np.testing.assert_allclose(slope, its.slope, rtol=1e-5, atol=1e-6)


def check_vjp(function: Function) -> None:
    with jax.enable_x64(True):
        its = directions(function)
        out, pull = jax.vjp(jax.jit(function), *drawn(jnp.float64))
        np.testing.assert_allclose(dot(pull(jnp.cos(out)), its.along), its.slope, rtol=1e-5, atol=1e-6)


def check_jvp(function: Function) -> None:
    with jax.enable_x64(True):
        its = directions(function)
        _, slope = jax.jvp(its.loss, drawn(jnp.float64), its.along)
        np.testing.assert_allclose(slope, its.slope, rtol=1e-5, atol=1e-6)


def check_second(function: Function) -> None:
    with jax.enable_x64(True):
        its = directions(function)
        _, turned = jax.jvp(jax.jit(grad_of(function)), drawn(jnp.float64), its.along)
        np.testing.assert_allclose(dot(turned, its.along), its.curvature, rtol=1e-4, atol=1e-4)


def check_remat(function: Function) -> None:
    expect_gradient(jax.checkpoint(function), function)


def check_vmap(function: Function) -> None:
    expect_equal(jax.jit(jax.vmap(function))(*stacked()), in_batch(function), 1e-5)


def check_scan(function: Function) -> None:
    def step(count: jax.Array, arrays: list[jax.Array]) -> tuple[jax.Array, Any]:
        return count + 1, function(*arrays)

    count, results = jax.jit(lambda arrays: jax.lax.scan(step, jnp.int32(0), arrays))(stacked())
    assert count == 2
    expect_equal(results, in_batch(function), 1e-5)


def check_export(function: Function) -> None:
    program = export.export(jax.jit(function), platforms=["cpu", "cuda", "tpu"])(*drawn())
    expect_equal(program.call(*drawn()), function(*drawn()), 1e-5)


def symbolic(function: Function, arrays: Any) -> Any:
    (b,) = export.symbolic_shape("b")
    given = [jax.ShapeDtypeStruct((b, *array.shape[1:]), array.dtype) for array in arrays]
    return export.export(jax.jit(function))(*given).call(*arrays)


def check_symbolic(function: Function) -> None:
    expect_equal(symbolic(function, drawn()), function(*drawn()), 1e-5)


def check_symbolic_vmap(function: Function) -> None:
    expect_equal(symbolic(jax.vmap(function), stacked()), in_batch(function), 1e-5)


TRANSFORMATIONS: Mapping[str, Callable[[Function], None]] = {
    "`jit`": check_jit,
    "`grad`": check_grad,
    "`vjp`": check_vjp,
    "`jvp`": check_jvp,
    "second derivatives": check_second,
    "`checkpoint`": check_remat,
    "`vmap`": check_vmap,
    "`lax.scan`": check_scan,
    "`jax.export`": check_export,
    "export, symbolic batch": check_symbolic,
    "export, `vmap` over a symbolic batch": check_symbolic_vmap,
}


# One call of every public function; test_transforms.py takes more of attention.
TRANSFORMED = (
    "attention with rope",
    "rope",
    "rotate",
    "rope_table",
    "sinusoid",
    "embed",
    "merge",
    "compat.jax_nn.dot_product_attention",
    "a compiled plan",
    "an artifact",
    "a layer of a plan, Equinox",
    "a layer of a plan, Flax NNX",
    "a layer of a plan, Penzai",
)


@pytest.mark.parametrize("name", TRANSFORMED)
def test_every_function_under_every_transformation(name: str, request: pytest.FixtureRequest) -> None:
    cells = {how: cell(functools.partial(check, FUNCTIONS[name])) for how, check in TRANSFORMATIONS.items()}
    expect_row(request, "transformations", name, cells)


def every_setting() -> ExitStack:
    stack = ExitStack()
    for name, setting in SETTINGS.items():
        if name != "no jit":
            stack.enter_context(setting())
    return stack


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("attention with rope", gradient),
        ("attention with rope", over_a_batch),
        ("attention with every operand", hessian_product),
        ("attention of rows that see no key", gradient),
        ("rope", hessian_product),
    ],
)
def test_transformations_under_all_settings_at_once(name: str, how: Callable[[Function], Function]) -> None:
    with every_setting():
        eager = how(FUNCTIONS[name])(*drawn())
        jitted = jax.jit(how(FUNCTIONS[name]))(*drawn())
    wanted = expected(name, how)
    expect_equal(eager, wanted, 1e-5)
    expect_equal(jitted, wanted, 1e-5)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_the_kernels_of_other_platforms_are_lowered_under_all_settings(platform: str) -> None:
    q = jax.ShapeDtypeStruct((1, 256, 2, 128), jnp.bfloat16)

    def function(q: jax.Array) -> Any:
        return jax.value_and_grad(lambda q: jnp.sum(rg.attention(q, q, q, rope=HALF, mask=masks.causal)))(q)

    plain = export.export(jax.jit(function), platforms=[platform])(q).mlir_module()
    with every_setting():
        strict = export.export(jax.jit(function), platforms=[platform])(q).mlir_module()
    assert ("tpu_custom_call" in strict) == ("tpu_custom_call" in plain) == (platform == "tpu")


@pytest.mark.parametrize("wrap", [lambda function: function, jax.jit, gradient])
@pytest.mark.parametrize(("setting", "kind", "bad"), [("debug nans", "nan", jnp.nan), ("debug infs", "inf", jnp.inf)])
def test_an_invalid_value_is_reported(
    wrap: Callable[[Function], Function], setting: str, kind: str, bad: float
) -> None:
    q, k, v = drawn()
    v = v.at[0, 0, 0, 0].set(bad)
    with SETTINGS[setting](), pytest.raises(FloatingPointError, match=kind):
        jax.block_until_ready(wrap(FUNCTIONS["attention"])(q, k, v * 2.0 if wrap is gradient else v))


def test_the_report_names_the_operand_that_is_invalid() -> None:
    q, k, v = drawn()
    k = k.at[0, 0, 0, 0].set(jnp.nan)
    with jax.debug_nans(True), pytest.raises(FloatingPointError, match=r"\(nan\) encountered in attend: given in k$"):
        rg.attention(q, k, v)


# Plans and artifacts that go to other processes -----------------------------------------------------------------------


def graph() -> rg.Graph:
    b = rg.Builder("decode")
    q, k = (b.input(name, (1, 1, 2, 8), "f32") for name in "qk")
    cache, lengths = b.state("cache", (1, 6, 2, 8), "f32"), b.input("lengths", (1,), "i32")
    at = b.input("positions", (1, 1), "i32")
    weight = b.parameter("weight", (8,), "f32")
    cache = b.append_cache(cache, b.norm(k, b.scale(weight, 2.0), kind="rms", epsilon=1e-5), lengths)
    out = b.attend(b.rope(q, at, HALF), cache, cache, mask=masks.causal, q_positions=at, kv_positions=b.positions(6))
    return b.build(out=out, cache=cache)


def inputs(step: int = 0) -> dict[str, Any]:
    draw = np.random.default_rng(step)
    q, k = (jnp.asarray(draw.standard_normal((1, 1, 2, 8)), jnp.float32) for _ in "qk")
    return {"q": q, "k": k, "lengths": jnp.array([step]), "positions": jnp.array([[step]])}


WEIGHT = jnp.linspace(0.5, 2.0, 8)
EMPTY = jnp.zeros((1, 6, 2, 8))


def compiled(folder: Path) -> Any:
    return rg.plan(graph(), "cpu").compile()


def loaded(folder: Path) -> Any:
    return rg.export(graph(), folder / "kernels", targets=["cpu"])


@pytest.mark.parametrize("make", [compiled, loaded])
@pytest.mark.parametrize("through", [lambda value: pickle.loads(pickle.dumps(value)), copy.copy, copy.deepcopy])
def test_plans_and_artifacts_are_pickled_and_copied(
    make: Callable[[Path], Any], through: Callable[[Any], Any], tmp_path: Path
) -> None:
    original = make(tmp_path)
    wanted = original(weight=WEIGHT, cache=EMPTY, **inputs())
    bound = original.bind(weight=WEIGHT)
    expect_equal(through(original)(weight=WEIGHT, cache=EMPTY, **inputs()), wanted, 0.0)
    expect_equal(through(bound)(cache=EMPTY, **inputs()), wanted, 0.0)


def test_a_pickled_artifact_is_not_read_from_what_replaced_it(tmp_path: Path) -> None:
    kept = pickle.dumps(loaded(tmp_path))
    b = rg.Builder("other")
    rg.export(
        b.build(out=b.norm(b.input("x", (2, 4), "f32"), kind="rms", epsilon=1e-5)),
        tmp_path / "kernels",
        targets=["cpu"],
    )
    with pytest.raises(rg.RopegenError, match="holds another artifact than the one that was pickled"):
        pickle.loads(kept)
    shutil.rmtree(tmp_path / "kernels")
    with pytest.raises(rg.RopegenError, match="there is no directory"):
        pickle.loads(kept)


def test_a_loaded_artifact_compiles_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The cache comes back from the first step committed to its device; the second step must not compile for that."""
    step, cache = loaded(tmp_path).bind(weight=WEIGHT), EMPTY
    cache = step(cache=cache, **inputs(0))["cache"]
    assert compilations(caplog, lambda: step(cache=step(cache=cache, **inputs(1))["cache"], **inputs(2))) == 0
    assert compilations(caplog, lambda: step(cache=EMPTY, **inputs(0))) == 0


def compilations(caplog: pytest.LogCaptureFixture, call: Callable[[], Any]) -> int:
    """How many programs JAX compiles for a call."""
    caplog.clear()
    with jax.log_compiles(True), caplog.at_level("WARNING"):
        jax.block_until_ready(call())
    return sum("Compiling" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("kind", ["list", "NumPy array", "JAX array", "two axes"])
@pytest.mark.parametrize("function", ["attention", "attention over a window that moves", "rope", "rope_table"])
def test_a_decode_loop_compiles_once_whatever_holds_its_positions(
    function: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    keys = np.random.default_rng(0).standard_normal((1, 64, 2, 8)).astype(np.float32)
    k, q = jnp.asarray(keys), jnp.asarray(keys[:, 5:6])

    def step(position: int) -> Any:
        at: Any = [position]
        match kind:
            case "NumPy array":
                at = np.array(at)
            case "JAX array":
                at = jnp.asarray(at)
            case "two axes":
                at = np.array([at])
            case _:
                pass
        match function:
            case "rope":
                return rg.rope(q, at, HALF)
            case "rope_table":
                return rg.rope_table(at, HALF, 8)
            case _:
                first = position - 63 if "window" in function else 0
                window = np.arange(first, first + 64)
                return rg.attention(q, k, k, rope=HALF, mask=masks.causal, q_positions=at, kv_positions=window)

    step(30)
    results: list[Any] = []
    assert compilations(caplog, lambda: results.extend(map(step, range(31, 34)))) == 0
    if function.startswith("attention"):
        first = 33 - 63 if "window" in function else 0
        expect_close_to_a_formula(results[-1], keys, 33, np.arange(first, first + 64))


def expect_close_to_a_formula(result: Any, keys: np.ndarray, position: int, at: np.ndarray) -> None:
    """One query, row 5 of the keys, at a position over keys at others, in float64."""

    def turned(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
        angle = positions[:, None] * 10_000.0 ** (-np.arange(4) / 4)
        pairs = (x[..., :4] + 1j * x[..., 4:]) * np.exp(1j * angle)[:, None]
        return np.concatenate([pairs.real, pairs.imag], axis=-1)

    wide = keys[0].astype(np.float64)
    scores = np.einsum("hd,khd->hk", turned(wide[5:6], np.array([position]))[0], turned(wide, at)) / np.sqrt(8.0)
    weights = np.where(at <= position, np.exp(scores), 0.0)
    wanted = np.einsum("hk,khd->hd", weights / weights.sum(axis=-1, keepdims=True), wide)
    np.testing.assert_allclose(np.asarray(result)[0, 0], wanted, rtol=0, atol=2e-6)


def test_a_whole_sequence_of_the_host_stays_known() -> None:
    """Positions that count from 0, or that more than 16 queries have, are the graph's, so that masks can skip tiles."""
    for positions, is_known in ((range(4), True), (range(1, 5), False), (range(3, 43), True), ([0], False)):
        x = jnp.zeros((len(positions), 1, 8))
        text = str(jax.make_jaxpr(functools.partial(rg.rope, positions=np.array(positions), rope=HALF))(x))
        assert ("cos" not in text) == is_known


# float64 --------------------------------------------------------------------------------------------------------------


def turned_in_float64(x: np.ndarray, positions: np.ndarray, theta: float = 10_000.0) -> np.ndarray:
    """x (..., S, H, D) with feature j paired with j + D/2, turned at positions (S,)."""
    half = x.shape[-1] // 2
    turns = np.exp(1j * positions[:, None, None] * theta ** (-np.arange(half) / half))
    pairs = (x[..., :half] + 1j * x[..., half:]) * turns
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


@pytest.mark.parametrize("wrap", [lambda function: function, jax.jit])
@pytest.mark.parametrize("kind", ["none", "host", "run time", "fractional", "float64 positions"])
def test_rope_of_float64_is_as_exact_as_float64(kind: str, wrap: Callable[[Function], Function]) -> None:
    x = np.random.default_rng(0).standard_normal((2, 40, 2, 64))
    with jax.enable_x64(True):
        positions: Mapping[str, tuple[Any, np.ndarray]] = {
            "none": (None, np.arange(40)),
            "host": (np.arange(1000, 1040), np.arange(1000, 1040)),
            "run time": (jnp.arange(1000, 1040, dtype=jnp.int32), np.arange(1000, 1040)),
            "fractional": (jnp.arange(40, dtype=jnp.float32) + 0.25, np.arange(40) + 0.25),
            "float64 positions": (jnp.arange(40) + 0.1, np.arange(40) + 0.1),
        }
        given, at = positions[kind]
        result = wrap(lambda x: rg.rope(x, given, HALF))(jnp.asarray(x))
        assert result.dtype == jnp.float64
    # An angle of 1000 radians rounds by 1e-13.
    np.testing.assert_allclose(np.asarray(result), turned_in_float64(x, at), rtol=0, atol=1e-12)


def test_attention_with_rope_in_float64_is_as_exact_as_float64() -> None:
    draw = np.random.default_rng(0)
    q, k, v = (draw.standard_normal((6, 2, 8)) for _ in "qkv")
    at = np.arange(6)

    def formula(q: np.ndarray) -> np.ndarray:
        scores = np.einsum("qhd,khd->hqk", turned_in_float64(q, at), turned_in_float64(k, at)) / np.sqrt(8.0)
        weights = np.where(at[:, None] >= at, np.exp(scores), 0.0)
        return np.einsum("hqk,khd->qhd", weights / weights.sum(axis=-1, keepdims=True), v)

    direction = draw.standard_normal(q.shape)
    slope = sum(sign * formula(q + sign * 1e-5 * direction) for sign in (1, -1)).sum() / 2e-5
    with jax.enable_x64(True):
        function = functools.partial(rg.attention, k=jnp.asarray(k), v=jnp.asarray(v), rope=HALF, mask=masks.causal)
        result = function(jnp.asarray(q))
        gradient_of_q = jax.grad(lambda q: jnp.sum(function(q)))(jnp.asarray(q))
        assert result.dtype == gradient_of_q.dtype == jnp.float64
    np.testing.assert_allclose(np.asarray(result), formula(q), rtol=0, atol=1e-14)
    np.testing.assert_allclose(np.sum(np.asarray(gradient_of_q) * direction), slope, rtol=0, atol=1e-9)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("op", ["angles", "sinusoid", "xpos"])
def test_tables_of_float64_are_as_exact_as_float64(op: str, known: bool) -> None:
    b = rg.Builder("table")
    positions = b.positions(9, 100) if known else b.input("positions", (9,), "i32")
    half = 10_000.0 ** (-np.arange(8) / 8)
    angles = np.arange(100, 109)[:, None] * half
    magnitude = np.ones((9, 8))
    if op == "sinusoid":
        value = b.sinusoid(positions, 16, pairing="half", dtype="f64")
        wanted = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    else:
        if op == "xpos":
            rope = rg.Rope(pairing="half", scaling=scaling.xpos(base=512.0))
            # The magnitude of pair j at position p is ((j + 0.4 n) / 1.4 n) ** (p / base), of n pairs.
            magnitude = ((np.arange(8) / 8 + 0.4) / 1.4) ** (np.arange(100, 109)[:, None] / 512.0)
        else:
            rope = HALF
        value = b.angles(positions, rope, 16, dtype="f64")
        wanted = np.concatenate([np.cos(angles) * magnitude, np.sin(angles) * magnitude], axis=-1)
    with jax.enable_x64(True):
        given: Any = {} if known else {"positions": jnp.arange(100, 109, dtype=jnp.int32)}
        result = rg.plan(b.build(out=value), "cpu").compile()(**given)
        assert result.dtype == jnp.float64
    np.testing.assert_allclose(np.asarray(result), wanted, rtol=0, atol=1e-13)


def test_float32_angles_stay_float32_for_float64() -> None:
    """The libraries that angles="f32" stands for round every angle in float32, whatever x is."""
    b = rg.Builder("rope")
    x = b.input("x", (4, 1, 8), "f64")
    turned = b.rope(x, b.positions(4), rg.Rope(pairing="half", angles="f32"))
    assert turned.operands[1].type.dtype == "f32"
    assert b.rope(x, b.positions(4), HALF).operands[1].type.dtype == "f64"
    assert rg.loads(rg.dumps(b.build(out=b.rope(x, b.positions(4), HALF)))) is b.build(
        out=b.rope(x, b.positions(4), HALF)
    )
