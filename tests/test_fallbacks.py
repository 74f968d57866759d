"""Nothing falls back in silence: `rg.explain` of a call says so, and categories of warnings make errors of it."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import ropegen as rg
from ropegen import masks

ROPE = rg.Rope(pairing="half")
Q = jax.ShapeDtypeStruct((1, 256, 2, 128), jnp.bfloat16)
AT = jnp.arange(256)
Function = Callable[..., Any]


def causal(q: jax.Array, **options: Any) -> Any:
    return rg.attention(q, q, q, mask=masks.causal, **options)


FALLBACKS: dict[str, tuple[Function, str]] = {
    "float16": (lambda q: causal(q.astype(jnp.float16)), "multiplies bf16 and f32, not f16"),
    "run-time positions": (
        lambda q: causal(q, q_positions=AT, kv_positions=AT),
        "q_positions are known only at run time",
    ),
    "division": (
        lambda q: rg.attention(q, q, q, mask=lambda q_pos, kv_pos: q_pos // 48 >= kv_pos // 48),
        "divides integers by powers of two only",
    ),
}


@pytest.fixture
def errors() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", rg.FallbackWarning)
        warnings.simplefilter("error", rg.AngleWarning)
        yield


@pytest.mark.parametrize("name", FALLBACKS)
@pytest.mark.usefixtures("errors")
def test_a_kernel_that_declines_is_told_and_can_be_an_error(name: str) -> None:
    function, why = FALLBACKS[name]
    with pytest.raises(rg.FallbackWarning, match=f"attend on tpu:any falls back to .* declines: .*{why}"):
        export.export(jax.jit(function), platforms=["tpu"])(Q)
    told = rg.explain(function, Q)
    line = next(line for line in told.splitlines() if "tpu:any falls back" in line)
    assert why in line
    with pytest.raises(rg.FallbackWarning, match=r"attend on gpu:any falls back to .* and the plan is for gpu:any"):
        export.export(jax.jit(function), platforms=["cuda"])(Q)


@pytest.mark.usefixtures("errors")
def test_a_kernel_that_is_taken_warns_of_nothing() -> None:
    for function in (causal, jax.grad(lambda q: jnp.sum(causal(q).astype(jnp.float32)))):
        export.export(jax.jit(function), platforms=["tpu", "cpu"])(Q)
    assert "tpu:v5e falls back" not in rg.explain(causal, Q, target="tpu:v5e")


@pytest.mark.usefixtures("errors")
def test_a_gradient_that_a_kernel_leaves_to_xla_is_told() -> None:
    bias = jnp.zeros((1, 256), jnp.float32)

    def loss(bias: jax.Array, q: jax.Array) -> jax.Array:
        return jnp.sum(rg.attention(q, q, q, bias=bias).astype(jnp.float32))

    with pytest.raises(rg.FallbackWarning, match="the gradient of attend falls back to XLA"):
        export.export(jax.jit(jax.grad(loss)), platforms=["tpu"])(bias, Q)


SILENCE = """
import warnings
import ropegen as rg
for category in (rg.FallbackWarning, rg.AngleWarning):
    warnings.warn("a word", category)
    warnings.filterwarnings("error", category=category)
    try:
        warnings.warn("a word", category)
    except category:
        print("an error")
"""


def test_nothing_is_said_by_default() -> None:
    """In a process of its own, because pytest sets the filters of warnings itself."""
    done = subprocess.run([sys.executable, "-c", SILENCE], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["an error", "an error", ""]
    assert not done.stderr


ANGLES: dict[str, tuple[Function, str]] = {
    "positions in bfloat16": (lambda x: rg.rope(x, AT.astype(jnp.bfloat16), ROPE), "positions are bf16"),
    "positions in float16": (
        lambda x: rg.rope(x, AT.astype(jnp.float16), ROPE),
        "which holds every whole number only to 2,048",
    ),
    "angles in float32": (
        lambda x: rg.rope(x.astype(jnp.float32), None, rg.Rope(pairing="half", angles="f32")),
        r"f32 angles may be off by more than the epsilon of f32, .* positions reach 255",
    ),
    "a sinusoid in float32": (lambda x: rg.sinusoid(AT, 8, pairing="half", angles="f32"), "f32 angles may be off"),
    "inside attention": (
        lambda x: rg.attention(x, x, x, rope=ROPE, q_positions=AT.astype(jnp.bfloat16), kv_positions=AT),
        "angles of attention: .* positions are bf16",
    ),
}


@pytest.mark.parametrize("name", ANGLES)
@pytest.mark.usefixtures("errors")
def test_the_lints_of_angles_reach_plain_calls(name: str) -> None:
    function, why = ANGLES[name]
    x = jnp.ones((1, 256, 2, 8), jnp.bfloat16)
    for call in (function, jax.jit(function)):
        with pytest.raises(rg.AngleWarning, match=why):
            call(x)
    rg.rope(x, None, ROPE)


def test_explain_tells_every_call_of_a_function() -> None:
    b = rg.Builder("rows")
    x = b.input("x", (4, 8), "f32")
    plan = rg.plan(b.build(out=b.norm(x, kind="rms", epsilon=1e-5)), "cpu").compile()

    @jax.jit
    def function(x: jax.Array, mask: Any = None) -> jax.Array:
        y = rg.embed(jnp.arange(4), plan(x=x))
        return causal(rg.rope(y[None, :, None], None, ROPE), **({} if mask is None else {"bias": mask}))

    x = jnp.ones((4, 8))
    function(x)  # a trace that is kept does not hide the calls
    told = rg.explain(function, x, mask=np.zeros((4, 4), np.float32))
    calls = [line for line in told.splitlines() if ": cpu" in line or line.startswith("plan of rows:")]
    assert [line.split(":")[0] for line in calls] == ["plan of rows", "embed", "rope", "attention"]
    assert "reads bias" in told
    assert "gpu:any" in told
    assert rg.explain(plan, x=x).startswith("plan of rows: cpu\n")


def test_explain_tells_what_a_symbolic_sequence_costs() -> None:
    s = export.symbolic_shape("s")
    told = rg.explain(causal, jax.ShapeDtypeStruct((1, *s, 2, 8), jnp.float32))
    assert "attention falls back to XLA on every platform: the size s of the sequence is symbolic" in told


def test_explain_refuses_what_makes_no_call() -> None:
    with pytest.raises(rg.RopegenError, match=r"explain: the function is 3; give a function"):
        rg.explain(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(rg.RopegenError, match="makes no call of ropegen's, or JAX has traced it before"):
        rg.explain(jnp.sin, jnp.ones(3))
    with pytest.raises(rg.RopegenError, match="give all three as"):
        rg.explain(rg.attention, jnp.ones(3), jnp.ones(3), jnp.ones(3))
