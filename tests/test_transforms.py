"""Compiled plans under the transformations of JAX, compared with the plain formula under the same transformations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from independent import draw_inputs, formula

from ropegen import masks, scaling
from ropegen.emit.callable import Compiled
from ropegen.functions import attention
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.planner import plan
from ropegen.rotary import Rope

Values = dict[str, Any]

pytestmark = pytest.mark.usefixtures("quick_compilation")


def llama() -> Graph:
    b = Builder("llama")
    x = b.embed(b.input("ids", (2, 7), "i32"), b.parameter("table", (11, 12), "f32"))
    x = b.norm(x, b.parameter("input_norm", (12,), "f32"), kind="rms", epsilon=1e-5)
    q = b.split_heads(b.project(x, b.parameter("q_weight", (12, 24), "f32")), 4)
    k = b.split_heads(b.project(x, b.parameter("k_weight", (12, 12), "f32")), 2)
    v = b.split_heads(b.project(x, b.parameter("v_weight", (12, 12), "f32")), 2)
    rope = Rope(5e5, pairing="half", scaling=scaling.llama3(factor=8, low=1, high=4, original=8192))
    at = b.positions(7)
    out = b.attend(b.rope(q, at, rope), b.rope(k, at, rope), v, mask=masks.causal)
    return b.build(out=b.project(b.merge_heads(out), b.parameter("o_weight", (24, 12), "f32")))


def everything() -> Graph:
    """Run-time positions, separate partial interleaved rotations of q and k, bias, soft-cap, sinks, segments, a window."""
    b = Builder("everything")
    q, k = b.input("q", (2, 5, 4, 6), "f32"), b.input("k", (2, 8, 2, 6), "f32")
    v = b.input("v", (2, 8, 2, 3), "f32")
    rope = Rope(100.0, pairing="interleaved", dim=4)
    q_at, kv_at = b.input("q_positions", (2, 5), "i32"), b.input("kv_positions", (8,), "i32")
    options: dict[str, Any] = {
        "mask": masks.causal & masks.window(5) | masks.segments,
        "score": masks.alibi((0.5, 0.25, 0.125, 0.0625)),
        "softcap": 3.0,
        "q_positions": q_at,
        "kv_positions": kv_at,
        "q_segments": b.input("q_segments", (5,), "i32"),
        "kv_segments": b.input("kv_segments", (2, 8), "i32"),
        "bias": b.input("bias", (4, 1, 8), "f32"),
        "sinks": b.input("sinks", (4,), "f32"),
    }
    q, k = b.rope(q, q_at, rope), b.rope(k, kv_at, rope)
    return b.build(out=b.attend(q, k, v, **options), lse=b.attend(q, k, v, returns="log_sum_exp", **options))


def masked_rows() -> Graph:
    """Rows that see no key, through a dense mask, with both meanings of such rows."""
    b = Builder("masked_rows")
    q, k, v = (b.input(label, (1, 4, 2, 4), "f32") for label in "qkv")
    mask = b.input("mask", (4, 4), "i1")
    return b.build(
        zero=b.attend(q, k, v, dense_mask=mask), mean=b.attend(q, k, v, dense_mask=mask, masked_row="mean", scale=0.3)
    )


def fractional() -> Graph:
    """Positions that are fractions, so that they have a gradient."""
    b = Builder("fractional")
    q, k, v = (b.input(label, (5, 2, 4), "f32") for label in "qkv")
    at = b.input("positions", (5,), "f32")
    rope = Rope(50.0, pairing="half")
    return b.build(out=b.attend(b.rope(q, at, rope), b.rope(k, at, rope), v))


GRAPHS = {make.__name__: make() for make in (llama, everything, masked_rows, fractional)}


def drawn(graph: Graph, seed: int) -> tuple[Values, Values]:
    """The floating inputs, and the others."""
    values = draw_inputs(graph, seed)
    if "mask" in values:
        values["mask"] = np.array([[0, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
    floating = {label: jnp.asarray(value) for label, value in values.items() if np.issubdtype(value.dtype, np.floating)}
    return floating, {label: value for label, value in values.items() if label not in floating}


def both(graph: Graph, seed: int = 0) -> tuple[Callable[[Values], Values], Callable[[Values], Values], Values]:
    """The compiled plan and the plain formula as functions of the floating inputs, and values of these inputs."""
    floating, others = drawn(graph, seed)
    compiled = Compiled(plan(graph, "cpu"))

    def mine(values: Values) -> Values:
        result = compiled(**values, **others)
        return result if isinstance(result, dict) else {graph.outputs[0][0]: result}

    def theirs(values: Values) -> Values:
        return {label: jnp.asarray(value) for label, value in formula(graph, {**values, **others}).items()}

    return mine, theirs, floating


def total(function: Callable[[Values], Values]) -> Callable[[Values], jax.Array]:
    """A scalar whose gradient differs from element to element."""

    def loss(values: Values) -> jax.Array:
        outputs = function(values)
        finite = [jnp.where(jnp.isfinite(output), output, 0.0) for output in outputs.values()]
        return sum(
            (jnp.sum(jnp.sin(output + 0.1 * jnp.arange(output.size).reshape(output.shape))) for output in finite),
            jnp.float32(0),
        )

    return loss


def close(result: Any, wanted: Any, tolerance: float = 3e-5) -> None:
    for mine, theirs in zip(jax.tree.leaves(result), jax.tree.leaves(wanted), strict=True):
        scale = 1.0 + float(np.max(np.abs(theirs), initial=0.0, where=np.isfinite(theirs)))
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=tolerance * scale)


@pytest.fixture(params=GRAPHS)
def functions(request: pytest.FixtureRequest) -> tuple[Callable[[Values], Values], Callable[[Values], Values], Values]:
    return both(GRAPHS[request.param])


def test_value_and_jit(functions: Any) -> None:
    mine, theirs, at = functions
    wanted = jax.jit(theirs)(at)
    close(mine(at), wanted)
    close(jax.jit(mine)(at), wanted)


def test_grad_is_finite_and_right(functions: Any) -> None:
    mine, theirs, at = functions
    with jax.debug_nans(True):
        gradients = jax.jit(jax.grad(total(mine)))(at)
    close(gradients, jax.jit(jax.grad(total(theirs)))(at))


def test_jvp(functions: Any) -> None:
    mine, theirs, at = functions
    along = jax.tree.map(lambda value: jnp.cos(value + 1.0), at)

    def moved(function: Callable[[Values], Values]) -> Any:
        return jax.jit(lambda values: jax.jvp(function, (values,), (along,)))(at)

    close(moved(mine), moved(theirs))


def test_checkpoint(functions: Any) -> None:
    mine, theirs, at = functions
    close(jax.jit(jax.grad(jax.checkpoint(total(mine))))(at), jax.jit(jax.grad(total(theirs)))(at))


def test_hessian_vector_products(functions: Any) -> None:
    mine, theirs, at = functions
    along = jax.tree.map(lambda value: jnp.cos(value + 1.0), at)

    def product(function: Callable[[Values], Values]) -> Any:
        return jax.jit(lambda values: jax.jvp(jax.grad(total(function)), (values,), (along,))[1])(at)

    close(product(mine), product(theirs), 2e-4)


def test_reverse_over_reverse(functions: Any) -> None:
    mine, theirs, at = functions

    def norm(function: Callable[[Values], Values]) -> Callable[[Values], jax.Array]:
        return lambda values: sum(
            (jnp.sum(leaf**2) for leaf in jax.tree.leaves(jax.grad(total(function))(values))), jnp.float32(0)
        )

    close(jax.jit(jax.grad(norm(mine)))(at), jax.jit(jax.grad(norm(theirs)))(at), 2e-4)


def test_jacobian_both_ways(functions: Any) -> None:
    mine, theirs, at = functions
    label = min(at)

    def of_one(function: Callable[[Values], Values]) -> Callable[[jax.Array], jax.Array]:
        return lambda value: total(function)({**at, label: value})

    close(jax.jit(jax.jacfwd(of_one(mine)))(at[label]), jax.jit(jax.jacrev(of_one(theirs)))(at[label]))


def itself(function: Any) -> Any:
    return function


def gradient(function: Any) -> Any:
    return jax.grad(total(function))


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("transform", [itself, gradient], ids=["vmap", "vmap_grad"])
@pytest.mark.parametrize("which", ["together", "alone"])
def test_vmap(name: str, transform: Any, which: str) -> None:
    """Over all floating inputs together, and over one input at a time."""
    mine, theirs, at = both(GRAPHS[name])
    alone = sorted(at)[:2] if transform is gradient else sorted(at)
    for chosen in [set(at)] if which == "together" else [{label} for label in alone]:
        batch = {
            label: jnp.stack([value, 0.5 * value, value - 0.3]) if label in chosen else value
            for label, value in at.items()
        }
        axes = ({label: 0 if label in chosen else None for label in at},)
        close(jax.jit(jax.vmap(transform(mine), axes))(batch), jax.jit(jax.vmap(transform(theirs), axes))(batch))


def test_vmap_over_positions_and_other_axes() -> None:
    floating, others = drawn(GRAPHS["everything"], 3)
    compiled = Compiled(plan(GRAPHS["everything"], "cpu"))
    integers = {label: jnp.stack([value, value + 1, value * 2], axis=-1) for label, value in others.items()}
    result = jax.vmap(lambda values: compiled(**floating, **values)["out"], in_axes=-1, out_axes=1)(integers)
    for index in range(3):
        wanted = formula(
            GRAPHS["everything"], {**floating, **{label: value[..., index] for label, value in integers.items()}}
        )
        close(result[:, index], wanted["out"])


def test_vmap_leaves_the_batch_that_a_mask_reads() -> None:
    b = Builder("batch")
    q, k, v = (b.input(label, (2, 4, 2, 4), "f32") for label in "qkv")
    graph = b.build(out=b.attend(q, k, v, mask=lambda batch, q_pos, kv_pos: (batch == 1) | (kv_pos <= q_pos)))
    mine, theirs, at = both(graph)
    batch = jax.tree.map(lambda value: jnp.stack([value, 0.5 * value, -value]), at)
    close(jax.jit(jax.vmap(mine))(batch), jax.jit(jax.vmap(theirs))(batch))
    close(jax.jit(jax.vmap(jax.grad(total(mine))))(batch), jax.jit(jax.vmap(jax.grad(total(theirs))))(batch))


def test_vmap_of_vmap() -> None:
    mine, theirs, at = both(GRAPHS["llama"])
    batch = jax.tree.map(lambda value: jnp.stack([jnp.stack([value, value * 0.5])] * 3), at)
    close(jax.jit(jax.vmap(jax.vmap(mine)))(batch), jax.jit(jax.vmap(jax.vmap(theirs)))(batch))


def primitives(jaxpr: Any) -> list[str]:
    names: list[str] = []
    for equation in jaxpr.eqns:
        names.append(equation.primitive.name)
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                names += primitives(inner)
    return names


def test_grad_holds_exactly_the_forward_and_backward_primitives() -> None:
    mine, _, at = both(GRAPHS["llama"])
    names = [name for name in primitives(jax.make_jaxpr(jax.grad(total(mine)))(at).jaxpr) if name.startswith("attend")]
    assert sorted(names) == ["attend", "attend_backward"]
    names = [
        name
        for name in primitives(jax.make_jaxpr(lambda x: jax.jvp(total(mine), (x,), (x,)))(at).jaxpr)
        if name.startswith("attend")
    ]
    assert sorted(names) == ["attend", "attend_tangent"]


def test_the_gradient_exports_for_every_platform() -> None:
    mine, theirs, at = both(GRAPHS["llama"])
    exported = jax.export.export(jax.jit(jax.grad(total(mine))), platforms=["cpu", "cuda", "tpu"])(at)
    close(jax.export.deserialize(exported.serialize()).call(at), jax.grad(total(theirs))(at))


def test_parameters_are_prepared_once() -> None:
    graph = GRAPHS["llama"]
    values = draw_inputs(graph, 5)
    compiled = Compiled(plan(graph, "cpu"))
    parameters = {label: values[label] for label in graph.labels("parameter")}
    bound = compiled.bind(**parameters)
    np.testing.assert_array_equal(bound(ids=values["ids"]), compiled(**values))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.pop("ids"), ("missing inputs", "ids", "tensor<2x7xi32>")),
        (lambda v: v.update(tabel=v["table"]), ("tabel", "did you mean 'table'")),
        (lambda v: v.update(ids=v["ids"].astype(np.float32)), ("ids", "float32", "astype(int32)")),
        (lambda v: v.update(ids=v["ids"][:1]), ("ids", "[1, 7]", "plan again")),
    ],
)
def test_wrong_inputs_are_refused(change: Any, words: tuple[str, ...]) -> None:
    values = draw_inputs(GRAPHS["llama"], 0)
    change(values)
    with pytest.raises(ValueError, match="input") as caught:
        Compiled(plan(GRAPHS["llama"], "cpu"))(**values)
    assert all(word in str(caught.value) for word in words)


def test_without_jit_a_region_is_still_one_program() -> None:
    q = jnp.linspace(-1.0, 1.0, 24).reshape(3, 2, 4)
    wanted = attention(q, q, q, mask=masks.causal)
    with jax.disable_jit():
        np.testing.assert_array_equal(attention(q, q, q, mask=masks.causal), wanted)
