"""`jax.export` with symbolic sizes: one program for every size, on every platform, or a message that names the reason.

An exported program is called with several sizes, and its results are compared with float64 formulas and with jax.nn.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import ropegen as rg
from ropegen import flax_attention, masks

pytestmark = pytest.mark.usefixtures("quick_compilation")

PLATFORMS = ("cpu", "cuda", "tpu")
ROPE = rg.Rope(pairing="half")
Function = Callable[..., Any]


def turned(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """x (..., S, H, D) with feature j paired with j + D/2, turned at positions (..., S)."""
    half = x.shape[-1] // 2
    turns = np.exp(1j * positions[..., None, None] * 10_000.0 ** (-np.arange(half) / half))
    pairs = (x[..., :half] + 1j * x[..., half:]) * turns
    return np.concatenate([pairs.real, pairs.imag], axis=-1)


def attended(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    *,
    visible: Any = True,
    bias: Any = 0.0,
    sinks: np.ndarray | None = None,
    softcap: float | None = None,
) -> np.ndarray:
    """Attention in float64: q (..., Sq, H, D), k and v (..., Skv, Hkv, D); `visible` and `bias` broadcast to the scores."""
    group = q.shape[-2] // k.shape[-2]
    k, v = np.repeat(k, group, axis=-2), np.repeat(v, group, axis=-2)
    scores = np.einsum("...qhd,...khd->...hqk", q, k) / np.sqrt(q.shape[-1])
    if softcap is not None:
        scores = softcap * np.tanh(scores / softcap)
    weights = np.where(visible, np.exp(scores + bias), 0.0)
    total = weights.sum(axis=-1, keepdims=True)
    if sinks is not None:
        total = total + np.exp(sinks)[:, None, None]
    return np.einsum("...hqk,...khd->...qhd", weights / np.where(total > 0, total, 1.0), v)


def causal(rows: int) -> np.ndarray:
    return np.tril(np.ones((rows, rows), bool))


def rotated_attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    at = np.arange(q.shape[-3])
    return attended(turned(q, at), turned(k, at), v, visible=causal(q.shape[-3]))


def every_operand(q: Any, k: Any, v: Any, bias: Any, sinks: Any, segments: Any, positions: Any) -> Any:
    return rg.attention(
        q,
        k,
        v,
        rope=ROPE,
        mask=masks.segments & masks.causal,
        bias=bias,
        sinks=sinks,
        softcap=3.0,
        q_segments=segments,
        kv_segments=segments,
        q_positions=positions,
        kv_positions=positions,
    )


def every_operand_in_float64(
    q: Any, k: Any, v: Any, bias: Any, sinks: Any, segments: Any, positions: Any
) -> np.ndarray:
    visible = (segments[..., :, None] == segments[..., None, :]) & (positions[:, None] >= positions)
    rows = turned(q, positions), turned(k, positions)
    return attended(*rows, v, visible=visible[:, None], bias=bias, sinks=sinks, softcap=3.0)


def embedded(ids: np.ndarray, table: np.ndarray) -> np.ndarray:
    return 2.0 * table[ids]


def table_at(positions: np.ndarray) -> np.ndarray:
    angles = positions[..., None] * 10_000.0 ** (-np.arange(4) / 4)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=-1)


@dataclass(frozen=True)
class Case:
    """A function, its formula in float64, and the shapes of its arguments; "i" in front means integers."""

    function: Function
    formula: Function
    shapes: tuple[str, ...]


CASES: Mapping[str, Case] = {
    "attention": Case(rg.attention, attended, ("b, s, 4, 8", "b, s, 2, 8", "b, s, 2, 8")),
    "attention with rope": Case(
        lambda q, k, v: rg.attention(q, k, v, rope=ROPE, mask=masks.causal),
        rotated_attention,
        ("b, s, 4, 8", "b, s, 2, 8", "b, s, 2, 8"),
    ),
    "attention with every operand": Case(
        every_operand,
        every_operand_in_float64,
        ("b, s, 4, 8", "b, s, 2, 8", "b, s, 2, 8", "b, 1, s, s", "4", "i b, s", "i s"),
    ),
    "a mask that reads batch": Case(
        lambda q, k, v: rg.attention(q, k, v, mask=lambda kv_pos, batch: kv_pos <= batch),
        lambda q, k, v: attended(q, k, v, visible=(np.arange(k.shape[1]) <= np.arange(len(q))[:, None])[:, None, None]),
        ("b, s, 4, 8", "b, s, 2, 8", "b, s, 2, 8"),
    ),
    "queries over other keys": Case(
        lambda q, k, mask: rg.attention(q, k, k, mask=mask > 1),
        lambda q, k, mask: attended(q, k, k, visible=mask > 1),
        ("b, 3, 4, 8", "b, s, 2, 8", "i b, 1, 1, s"),
    ),
    "lengths, and keys that are valid": Case(
        lambda q, k, lengths, valid: rg.attention(
            q, k, k, mask=masks.causal & masks.padding(lengths) & (valid > 0)[:, None, None, :] & masks.keys(valid < 3)
        ),
        lambda q, k, lengths, valid: attended(
            q,
            k,
            k,
            visible=causal(q.shape[1])
            & (np.arange(k.shape[1]) < lengths[:, None])[:, None, None, :]
            & ((valid > 0) & (valid < 3))[:, None, None, :],
        ),
        ("b, s, 4, 8", "b, s, 2, 8", "i b", "i b, s"),
    ),
    "the last queries": Case(
        lambda q, k: rg.attention(q, k, k, rope=ROPE, mask=masks.causal, align="end"),
        lambda q, k: attended(
            turned(q, np.arange(k.shape[1] - 3, k.shape[1])),
            turned(k, np.arange(k.shape[1])),
            k,
            visible=causal(k.shape[1])[-3:],
        ),
        ("b, 3, 4, 8", "b, s, 2, 8"),
    ),
    "jax_nn.dot_product_attention": Case(
        lambda q, k, v: rg.compat.jax_nn.dot_product_attention(q, k, v, is_causal=True, local_window_size=2),
        lambda q, k, v: attended(q, k, v, visible=np.triu(causal(q.shape[1]), -2)),
        ("b, s, 4, 8", "b, s, 2, 8", "b, s, 2, 8"),
    ),
    "attention_fn of Flax": Case(
        lambda q, k, v: flax_attention.fused(q, k, v, is_causal=True),
        lambda q, k, v: attended(q, k, v, visible=causal(q.shape[1])),
        ("b, s, 4, 8", "b, s, 2, 8", "b, s, 2, 8"),
    ),
    "rope": Case(
        lambda x, at: (rg.rope(x, None, ROPE), rg.rope(x, at, ROPE)),
        lambda x, at: (turned(x, np.arange(x.shape[1])), turned(x, at)),
        ("b, s, 2, 8", "i b, s"),
    ),
    "rotate": Case(
        lambda x, at: rg.rotate(x, rg.rope_table(at, ROPE, 8), pairing="half"), turned, ("b, s, 2, 8", "i s")
    ),
    "rope_table": Case(lambda at: rg.rope_table(at, ROPE, 8), table_at, ("i b, s",)),
    "sinusoid": Case(
        lambda at: rg.sinusoid(at, 8, pairing="half"), lambda at: np.roll(table_at(at), 4, axis=-1), ("i b, s",)
    ),
    "embed": Case(lambda ids, table: rg.embed(ids, table, scale=2.0), embedded, ("i b, s", "5, 8")),
}
SIZES = ({"b": 1, "s": 7}, {"b": 3, "s": 7}, {"b": 2, "s": 131})


def exported(
    function: Function, shapes: tuple[str, ...], dtype: Any = jnp.float32, platforms: Any = PLATFORMS
) -> export.Exported:
    scope = export.SymbolicScope()
    given = [
        jax.ShapeDtypeStruct(
            export.symbolic_shape(text.removeprefix("i "), scope=scope), jnp.int32 if text.startswith("i ") else dtype
        )
        for text in shapes
    ]
    return export.export(jax.jit(function), platforms=platforms)(*given)


def drawn(shapes: tuple[str, ...], sizes: Mapping[str, int], seed: int = 0) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    arrays: list[np.ndarray] = []
    for text in shapes:
        shape = [sizes.get(size.strip()) or int(size) for size in text.removeprefix("i ").split(",")]
        is_integer = text.startswith("i ")
        arrays.append(
            draw.integers(0, 4, shape).astype(np.int32) if is_integer else draw.standard_normal(shape).astype("f")
        )
    return arrays


def in_float64(formula: Function, arrays: list[np.ndarray]) -> Any:
    return formula(*(array.astype(np.float64) if array.dtype == np.float32 else array for array in arrays))


def expect_close(result: Any, wanted: Any, tolerance: float = 3e-6) -> None:
    for one, other in zip(jax.tree.leaves(result), jax.tree.leaves(wanted), strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(np.asarray(one, np.float64), other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("symbolic", ["b", "bs"])
@pytest.mark.parametrize("name", CASES)
def test_a_program_with_symbolic_sizes_serves_every_size(name: str, symbolic: str) -> None:
    case = CASES[name]
    fixed = {"b": "2", "s": "7"}
    shapes = tuple("".join(fixed[c] if c in fixed and c not in symbolic else c for c in text) for text in case.shapes)
    # A symbolic batch of attention is computed by other means on every platform; the rest is one formula for all.
    program = exported(case.function, shapes, platforms=PLATFORMS if symbolic == "b" else PLATFORMS[:1])
    for index, sizes in enumerate(SIZES[:2] if symbolic == "b" else SIZES[1:]):
        known = {axis: size if axis in symbolic else int(fixed[axis]) for axis, size in sizes.items()}
        arrays = drawn(case.shapes, known, index)
        expect_close(program.call(*arrays), in_float64(case.formula, arrays))


@pytest.mark.parametrize("rope", [None, ROPE])
@pytest.mark.parametrize("symbolic", ["s, 4, 8; s, 2, 8; i 4", "9, 4, 8; 9, 2, 8; i n"])
def test_ragged_tokens_with_a_symbolic_number_of_tokens_or_of_sequences(symbolic: str, rope: rg.Rope | None) -> None:
    def function(q: Any, k: Any, ends: Any) -> Any:
        return rg.attention(q, k, k, q_cu_seqlens=ends, mask=masks.causal, rope=rope)

    q, k, _ = drawn(("9, 4, 8", "9, 2, 8", "i 4"), {})
    ends = np.array([0, 2, 2, 8], np.int32)
    program = exported(function, tuple(symbolic.split("; ")), platforms=["cpu"])
    document = np.searchsorted(ends[1:], np.arange(9), side="right")
    visible = causal(9) & (document[:, None] == document) & (document < 3)
    at = np.arange(9) - ends[np.minimum(document, 2)]
    sides = (q, k) if rope is None else (turned(q, at), turned(k, at))
    wanted = attended(*(x.astype(np.float64) for x in (*sides, k)), visible=visible)
    expect_close(program.call(q, k, ends), wanted)


MAPPED: Mapping[str, tuple[Function, tuple[str, ...]]] = {
    "a symbolic batch": (
        lambda f: jax.vmap(f, in_axes=(0, 0, None)),
        ("b, 5, 4, 8", "b, 5, 2, 8", "5, 2, 8"),
    ),
    "a symbolic batch of a batch": (jax.vmap, ("b, 3, 5, 4, 8", "b, 3, 5, 2, 8", "b, 3, 5, 2, 8")),
    "a batch of a symbolic batch": (jax.vmap, ("3, b, 5, 4, 8", "3, b, 5, 2, 8", "3, b, 5, 2, 8")),
    "two symbolic axes": (lambda f: f, ("b, c, 5, 4, 8", "b, c, 5, 2, 8", "b, c, 5, 2, 8")),
}


@pytest.mark.parametrize("name", MAPPED)
def test_vmap_over_a_symbolic_batch(name: str) -> None:
    how, shapes = MAPPED[name]

    def function(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return rg.attention(q, k, v, rope=ROPE, mask=masks.causal)

    program = exported(how(function), shapes, platforms=["cpu"])
    arrays = drawn(shapes, {"b": 4, "c": 3})
    expect_close(program.call(*arrays), in_float64(rotated_attention, arrays))


def by_jax_nn(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    return jax.nn.dot_product_attention(q, k, v, is_causal=True)


def by_ropegen(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    return rg.attention(q, k, v, mask=masks.causal)


DERIVED: Mapping[str, Callable[[Function], Function]] = {
    "grad": lambda f: jax.grad(lambda *arrays: jnp.sum(jnp.sin(f(*arrays))), (0, 1, 2)),
    "vmap of grad": lambda f: jax.vmap(jax.grad(lambda *arrays: jnp.sum(jnp.sin(f(*arrays))), (0, 1, 2))),
    "jvp": lambda f: lambda *arrays: jax.jvp(f, arrays, arrays)[1],
    "a second derivative": lambda f: lambda *arrays: jax.jvp(DERIVED["grad"](f), arrays, arrays)[1],
    "grad of a remat in a scan": lambda f: DERIVED["grad"](
        lambda q, k, v: jax.lax.scan(lambda x, _: (jax.checkpoint(f)(x, k, v), None), q, None, length=2)[0]
    ),
}


@pytest.mark.parametrize(("name", "sizes"), [*((name, "b") for name in DERIVED), ("grad", "bs")])
def test_derivatives_of_a_symbolic_size(name: str, sizes: str) -> None:
    shapes = tuple(f"b, {'s' if 's' in sizes else '5'}, {heads}, 8" for heads in (4, 2, 2))
    arrays = drawn(shapes, {"b": 3, "s": 6})
    result = exported(DERIVED[name](by_ropegen), shapes, platforms=["cpu"]).call(*arrays)
    expect_close(result, jax.jit(DERIVED[name](by_jax_nn))(*arrays), 2e-5)


def test_gradients_of_what_all_entries_share_are_summed() -> None:
    """Sinks and a bias without the symbolic axis."""
    shapes = ("b, 5, 2, 8", "2", "5, 5")

    def mine(x: jax.Array, sinks: jax.Array, bias: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(rg.attention(x, x, x, sinks=sinks, bias=bias)))

    def plain(x: jax.Array, sinks: jax.Array, bias: jax.Array) -> jax.Array:
        scores = jnp.einsum("bqhd,bkhd->bhqk", x, x) / np.sqrt(8.0) + bias
        weights = jnp.exp(scores)
        weights = weights / (weights.sum(axis=-1, keepdims=True) + jnp.exp(sinks)[:, None, None])
        return jnp.sum(jnp.sin(jnp.einsum("bhqk,bkhd->bqhd", weights, x)))

    arrays = drawn(shapes, {"b": 4})
    result = exported(jax.grad(mine, (0, 1, 2)), shapes, platforms=["cpu"]).call(*arrays)
    expect_close(result, jax.grad(plain, (0, 1, 2))(*arrays), 1e-5)


def test_a_plan_is_mapped_over_a_symbolic_batch() -> None:
    b = rg.Builder("rows")
    x, weight = b.input("x", (5, 8), "f32"), b.parameter("weight", (8, 8), "f32")
    heads = b.split_heads(b.project(x, weight), heads=2)
    plan = rg.plan(b.build(out=b.attend(heads, heads, heads)), "cpu").compile()

    def mine(x: jax.Array, weight: jax.Array) -> jax.Array:
        return jax.vmap(lambda row: plan(x=row, weight=weight))(x)

    def plain(x: Any, weight: Any) -> Any:
        heads = (x @ weight).reshape(*x.shape[:-1], 2, 4)
        return jax.nn.dot_product_attention(heads, heads, heads)

    shapes = ("b, 5, 8", "8, 8")

    def squares(function: Function) -> Function:
        return jax.value_and_grad(lambda *arrays: jnp.sum(function(*arrays) ** 2), 1)

    arrays = [jnp.asarray(array) for array in drawn(shapes, {"b": 3})]
    expect_close(exported(squares(mine), shapes).call(*arrays), squares(plain)(*arrays), 1e-4)
    with pytest.raises(rg.RopegenError, match=r"map it over a symbolic batch with jax\.vmap"):
        exported(lambda x, weight: plan(x=x, weight=weight), shapes)


def test_a_symbolic_batch_keeps_the_kernel_of_its_platform() -> None:
    shapes = ("b, 256, 4, 128", "b, 256, 2, 128", "b, 256, 2, 128")
    program = exported(DERIVED["grad"](by_ropegen), shapes, jnp.bfloat16, ["tpu"])
    assert program.mlir_module().count("stablehlo.custom_call @tpu_custom_call") >= 2
    with warnings.catch_warnings():
        warnings.simplefilter("error", rg.FallbackWarning)
        exported(by_ropegen, shapes, jnp.bfloat16, ["cpu", "tpu"])


def test_a_symbolic_sequence_falls_back_to_xla_and_says_so() -> None:
    shapes = ("2, s, 4, 128", "2, s, 2, 128", "2, s, 2, 128")
    with warnings.catch_warnings():
        warnings.simplefilter("error", rg.FallbackWarning)
        with pytest.raises(rg.FallbackWarning, match="the size s of the sequence is symbolic"):
            exported(by_ropegen, shapes)


@pytest.mark.parametrize(
    ("function", "shapes", "message"),
    [
        (rg.attention, ("2, 5, h, 8",) * 3, r"axis 2 of q has the symbolic size h; only the sizes of the batch"),
        (rg.attention, ("2, 5, 2, d",) * 3, r"axis 3 of q has the symbolic size d"),
        (rg.attention, ("b, 5, 2, 8", "1, 5, 2, 8", "1, 5, 2, 8"), r"q, k, v are tensor<bx5x2x8xf32>"),
        (rg.attention, ("b, 5, 2, 8", "c, 5, 2, 8", "c, 5, 2, 8"), r"the leading sizes must be equal"),
        (lambda x: rg.rope(x, np.arange(4), ROPE), ("2, s, 2, 8",), r"positions are .* for x tensor<2xsx2x8xf32>"),
        (lambda x: rg.rope(x, None, ROPE), ("2, 3, 2, d",), r"head width must be even"),
        (lambda table: rg.embed(jnp.arange(3), table), ("v, 8",), r"axis 0 of table has the symbolic size v"),
        (lambda x: rg.zigzag(x, 2), ("2, s, 2, 8",), r"the axis 1 has s positions"),
        (lambda x: rg.attention(x, x, x, sharding=split("batch")), ("b, 5, 2, 8",), r"a call over several devices"),
        (lambda x: rg.attention(x, x, x, sharding=split("seq")), ("b, 5, 2, 8",), r"a call over several devices"),
        (lambda x: rg.rope(x, None, ROPE, sharding=split("batch")), ("b, 5, 2, 8",), r"a call over several devices"),
        (lambda x: inside_shard_map(rg.attention, x), ("b, 5, 2, 8",), r"a call over several devices"),
        (lambda x: inside_shard_map(rg.context_parallel, x), ("b, 5, 2, 8",), r"a call over several devices"),
    ],
)
def test_what_cannot_be_symbolic_is_refused(function: Function, shapes: tuple[str, ...], message: str) -> None:
    with pytest.raises(rg.RopegenError, match=message):
        exported(function, shapes)


MESH = jax.sharding.AbstractMesh((2,), ("seq",), axis_types=(jax.sharding.AxisType.Auto,))


def split(axis: str) -> jax.sharding.NamedSharding:
    spec = {"batch": ("seq",), "seq": (None, "seq")}[axis]
    return jax.sharding.NamedSharding(MESH, jax.sharding.PartitionSpec(*spec))


def inside_shard_map(function: Function, x: jax.Array) -> jax.Array:
    spec = jax.sharding.PartitionSpec(None, None, "seq")
    return jax.shard_map(lambda x: function(x, x, x), mesh=MESH, in_specs=spec, out_specs=spec)(x)
