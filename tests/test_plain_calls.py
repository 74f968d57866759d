"""Plain calls are bound with a plan for every platform, and each platform gets its own kernel."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import ropegen as rg
from ropegen import plain_call, template
from ropegen.emit.primitive import Choice, Choices, bind
from ropegen.planner import plan_together
from ropegen.plans import Plan
from ropegen.target import Target

PLATFORMS = ("cpu", "cuda", "tpu")
ROPE = rg.Rope(pairing="half")


def heads(length: int, heads: int, width: int, dtype: Any = jnp.bfloat16) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, length, heads, width), dtype)


def causal(q: jax.Array, k: jax.Array, v: jax.Array, **options: Any) -> jax.Array:
    return rg.attention(q, k, v, rope=ROPE, mask=rg.masks.causal, **options)


def custom_calls(function: Callable[..., Any], arguments: tuple[Any, ...], platform: str) -> list[str]:
    """The targets of the custom calls in the module of a platform, in order of their name."""
    module = export.export(jax.jit(function), platforms=[platform])(*arguments).mlir_module()
    return sorted(re.findall(r"stablehlo\.custom_call @(\w+)", module))


def named(plan: Plan) -> list[str]:
    """The custom calls of the templates that a plan takes."""
    taken = [step.chosen.template for step in plan.steps if step.chosen is not None]
    return sorted(call for name in taken for call in template.template(name).calls)


QKV = (heads(512, 8, 64), heads(512, 2, 64), heads(512, 2, 64))
IDS, TABLE = jax.ShapeDtypeStruct((4, 128), jnp.int32), jax.ShapeDtypeStruct((1000, 256), jnp.bfloat16)
CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "attention": (causal, QKV),
    "attention, float16": (causal, tuple(jax.ShapeDtypeStruct(x.shape, jnp.float16) for x in QKV)),
    "attention, one query": (
        lambda q, k, v: rg.attention(q, k, v, mask=rg.masks.full),
        (heads(1, 8, 64), heads(4096, 2, 64), heads(4096, 2, 64)),
    ),
    "embed": (rg.embed, (IDS, TABLE)),
    "rope": (lambda x: rg.rope(x, None, ROPE), QKV[:1]),
}


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Plan, ...]]:
    """The plans that plain calls are bound with, as they are made."""
    seen: list[tuple[Plan, ...]] = []

    def recorded(*arguments: Any, **options: Any) -> tuple[Plan, ...]:
        seen.append(plan_together(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(plain_call, "plan_together", recorded)
    plain_call._planned.cache_clear()
    return seen


@pytest.mark.parametrize("name", CALLS)
def test_the_module_has_the_custom_calls_that_the_plan_for_its_platform_names(
    name: str, planned: list[tuple[Plan, ...]]
) -> None:
    function, arguments = CALLS[name]
    calls = {platform: custom_calls(function, arguments, platform) for platform in PLATFORMS}
    plans = {plan.target.jax_platform: plan for plan in planned[0]}
    assert calls == {platform: named(plans[platform]) for platform in PLATFORMS}
    assert calls["tpu"] == ["tpu_custom_call"] * (name == "attention"), "the kernel is there at all"


def test_gradients_hold_one_kernel_forward_and_one_backward() -> None:
    def loss(*arrays: jax.Array) -> jax.Array:
        return causal(*arrays).astype(jnp.float32).sum()

    assert custom_calls(jax.grad(loss, (0, 1, 2)), QKV, "tpu") == ["tpu_custom_call"] * 2
    assert custom_calls(jax.grad(loss, (0, 1, 2)), QKV, "cpu") == []
    assert custom_calls(jax.grad(loss, (0, 1, 2)), QKV, "cuda") == []


def test_the_exponential_for_cpu_is_in_the_module_for_cpu_alone() -> None:
    """CPU has a polynomial of its own in place of XLA's exponential, which no other platform may get."""
    module = {name: export.export(jax.jit(causal), platforms=[name])(*QKV).mlir_module() for name in ("cpu", "cuda")}
    assert "stablehlo.exponential" not in module["cpu"]
    assert "stablehlo.exponential" in module["cuda"]


def test_a_target_decides_for_its_own_platform_alone() -> None:
    local = Target.local()
    assert local is not None
    assert local.platform == "cpu"
    any_gpu, any_tpu, v5e = Target.default("cuda"), Target.default("tpu"), Target.parse("tpu:v5e")
    assert plain_call.planned_for(None) == (local, any_gpu, any_tpu)
    assert plain_call.planned_for("tpu:v5e") == (v5e, local, any_gpu)
    assert plain_call.planned_for(["tpu:v5e", "cpu:7"]) == (v5e, Target.parse("cpu:7"), any_gpu)
    with pytest.raises(rg.RopegenError, match="are both tpu; give one target for a platform"):
        plain_call.planned_for(["tpu:v5e", "tpu:v4"])


@pytest.mark.parametrize("target", ["tpu:v5e", ["cpu:4", "tpu:v7x"], Target.parse("gpu:h100")])
def test_every_target_gives_the_same_result(target: Any) -> None:
    random = np.random.default_rng(0)
    q, k, v = (jnp.asarray(random.standard_normal(x.shape[1:]), jnp.float32) for x in QKV)
    np.testing.assert_allclose(causal(q, k, v, target=target), causal(q, k, v), atol=2e-6)


def test_a_template_is_not_built_for_a_platform_that_is_not_its_own() -> None:
    b = rg.Builder("short")
    q, k, v = (b.input(label, (1, 8, 2, 128), "f32") for label in "qkv")
    (step,) = rg.plan(b.build(out=b.attend(q, k, v)), "cpu").steps
    assert step.region is not None
    arrays = [jnp.zeros((1, 8, 2, 128))] * 3
    wrong = Choices((Choice(Target.parse("cpu"), "attend/mosaic_tpu", template.Tile.of(q=128, kv=128)),))
    with pytest.raises(rg.RopegenError, match="runs on tpu and is asked to build for cpu"):
        bind(step.region.closed, wrong, arrays)


def test_tiles_for_a_chip_that_is_not_known_fit_every_generation() -> None:
    """What `tpu:any` takes, every chip for TPU offers as well."""
    b = rg.Builder("long")
    q, k, v = (b.input(label, (1, 4096, count, 128), "bf16") for label, count in (("q", 32), ("k", 8), ("v", 8)))
    p = b.positions(4096)
    graph = b.build(out=b.attend(q, k, v, mask=rg.masks.causal, q_positions=p, kv_positions=p))
    (step,) = rg.plan(graph, "tpu:any").steps
    assert step.chosen is not None
    assert step.chosen.template == "attend/mosaic_tpu"
    assert step.region is not None
    made_by = template.template(step.chosen.template)
    site = made_by.family.site(step.region.closed)
    for chip in ("v4", "v5e", "v5p", "v6e", "v7x"):
        assert step.chosen.tile in list(made_by.tiles(site, Target.parse(f"tpu:{chip}")))
