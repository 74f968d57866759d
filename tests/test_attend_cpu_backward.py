"""The backward pass of the native attention: its gradients against float64, every tail, several items, and its memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreted import drawn
from native import host
from ropegen.templates.attend import llvm_cpu
from ropegen.templates.attend.layout_cpu import Problem
from ropegen.templates.attend.layout_cpu_backward import Gradient
from ropegen.templates.attend.site import AttendSite
from test_attend_tpu import Case
from test_attend_tpu_backward import cotangents_of, exact_gradient, floating, plain_gradient

from ropegen import reference
from ropegen.target import VECTOR_UNITS, Target
from ropegen.template import Kernel, Tile
from ropegen.types import numpy_dtype

TILE = Tile.of(kv=64, panels=4)


def built(site: AttendSite, threads: int = 1) -> Kernel:
    host()
    target = Target.parse(f"cpu:{threads}")
    assert not list(llvm_cpu.declines(site, target))
    return llvm_cpu.build(site, TILE, target)


def pulled_back(kernel: Kernel, wanted: Sequence[bool], *given: tuple[Any, ...]) -> list[np.ndarray]:
    """The cotangents of the wanted operands, which two calls give with the same bits."""
    backward = kernel.backward
    assert backward is not None

    @jax.jit
    def called(operands: Any, results: Any, cotangents: Any) -> Any:
        return backward(operands, results, cotangents, wanted)

    first, again = ([np.asarray(x) for x in called(*given) if x is not None] for _ in range(2))
    for x, y in zip(first, again, strict=True):
        assert x.tobytes() == y.tobytes()
    return first


def check(case: Case, threads: int = 1) -> None:
    """Each cotangent's error, root mean square against float64, is at most 1.5 times the plain formula's, and what
    the rounding of the results adds: this pass reads them, the plain formula does not.

    Weights are made again from the log-sum-exp, rounded to float32 in base e and in base 2. The cotangents of sinks and
    bias are sums over many rows, whose errors are equal in sign if they come from the results.
    """
    site = case.site
    values = drawn(site, case.seed)
    wanted = [is_float and "angles" not in label for label, is_float in floating(site).items()]
    labels = [label for label, is_wanted in zip(values, wanted, strict=True) if is_wanted]
    results = {label: np.asarray(value) for label, value in reference.evaluate(site.closed, values).items()}
    rounded = {label: results[label].astype(numpy_dtype(node.type.dtype)) for label, node in site.closed.outputs}
    pulled = cotangents_of(site, case.seed)
    exact = exact_gradient(site, labels, values, pulled)
    usual = plain_gradient(site, labels, values, pulled)
    given = tuple(values.values()), tuple(rounded.values()), tuple(pulled[label] for label in rounded)
    ours = pulled_back(built(site, threads), wanted, *given)
    lse = results["log_sum_exp"]
    lse_rounding = 2.0**-23 * max(4.0, float(np.max(np.abs(lse[np.isfinite(lse)]), initial=0.0)))
    half = float(jnp.finfo(rounded["output"].dtype).eps) / 2
    drag = np.abs(np.asarray(pulled["output"], "f8") * results["output"]).sum(-1)
    for label, mine, theirs, right in zip(labels, ours, usual, exact, strict=True):
        assert mine.dtype == values[label].dtype, label
        assert mine.shape == right.shape, label
        mine = mine.astype(np.float64)
        assert np.isfinite(mine).all(), label
        error, allowed = (np.sqrt(np.mean((value - right) ** 2)) for value in (mine, theirs))
        allowed = 1.5 * allowed + lse_rounding * np.sqrt(np.mean(right**2))
        if label in ("sinks", "bias"):
            allowed += (half + lse_rounding) * np.sqrt(np.sum(drag**2) / right.size)
        assert error <= allowed, (label, error, allowed)


BIASED = Case(lead=(2,), heads=4, kv_heads=2, queries=70, keys=75, width=20, value_width=24)
NAMED = {
    "causal, grouped heads, more keys than a strip": Case(queries=130, keys=600, heads=4, kv_heads=2),
    "no mask, widths that fill no register": Case(
        lead=(2,), queries=37, keys=97, width=43, value_width=70, heads=3, mask="full"
    ),
    "rotated halves, bf16": Case(pairing="half", dtype="bf16", width=80, dim=36),
    "rotated, interleaved, f16, a window, a bent score": Case(
        pairing="interleaved", dtype="f16", mask="window", score="bent", width=26
    ),
    "soft-cap, slopes by head, sinks, several items for a head": Case(
        lead=(), heads=6, kv_heads=1, queries=100, keys=260, softcap=5.0, score="alibi", sinks=True, value_width=72
    ),
    "documents that see nothing, as the mean, under a dense mask": Case(
        lead=(2,), heads=4, kv_heads=2, mask="documents by head", dense_mask=(0, 2, 3), masked_row="mean"
    ),
    "a bias of every score, tiles that are empty": dataclasses.replace(
        BIASED, bias=(0, 1, 2, 3), mask="chunked", softcap=3.0, keys=200
    ),
    "a bias of queries and keys that heads share, several items": dataclasses.replace(BIASED, bias=(0, 2, 3)),
    "a bias of keys and heads": dataclasses.replace(BIASED, bias=(1, 3)),
    "a bias of queries, several items": dataclasses.replace(BIASED, lead=(), bias=(1,), keys=200, heads=1, kv_heads=1),
}


@pytest.mark.parametrize("name", NAMED)
def test_the_gradients_are_those_of_the_plain_formula(name: str) -> None:
    check(NAMED[name], threads=4 if "several items" in name else 1)


def numpy_gradient(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, d_output: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, ...]:
    """(output, log-sum-exp, dq, dk, dv) of one head in float64; `seen` is (queries, keys)."""
    scale = q.shape[-1] ** -0.5
    score = np.where(seen, q @ k.T * scale, -np.inf)
    lse = np.log(np.exp(score).sum(-1))
    weight = np.exp(score - lse[:, None])
    output, d_weight = weight @ v, d_output @ v.T
    d_score = weight * (d_weight - (d_output * output).sum(-1, keepdims=True)) * scale
    return output, lse, d_score @ k, d_score.T @ q, weight.T @ d_output


@pytest.mark.parametrize("size", [1, 2, 15, 17, 33, 40])
def test_the_gradients_of_every_tail(size: int) -> None:
    width, value_width, keys = size % 7 + 1, size % 11 + 3, size + size % 3
    site = Case(queries=size, keys=keys, heads=1, width=width, value_width=value_width).site
    random = np.random.default_rng(size)
    shapes = (size, width), (keys, width), (keys, value_width), (size, value_width)
    q, k, v, d_output = (random.standard_normal(shape) for shape in shapes)
    seen = np.arange(keys) <= np.arange(size)[:, None] + (keys - size)
    output, lse, *exact = numpy_gradient(*(x.astype("f4").astype("f8") for x in (q, k, v, d_output)), seen)
    batch = [x[None, :, None].astype("f4") for x in (q, k, v, output, lse[:, None], d_output)]
    given = tuple(batch[:3]), (batch[3], batch[4][..., 0]), (batch[5], None)
    for ours, right in zip(pulled_back(built(site), [True] * 3, *given), exact, strict=True):
        np.testing.assert_allclose(ours[0, :, 0], right, atol=2e-6)


def test_a_nan_reaches_the_gradients_of_its_query_and_of_the_keys_that_it_sees() -> None:
    site = Case(queries=20, keys=20, heads=1, width=8, value_width=8).site
    values = drawn(site, 0)
    values["q"][0, 7, 0, 3] = np.nan
    kernel = built(site)
    results = tuple(np.asarray(x) for x in jax.jit(kernel.forward)(*values.values()))
    pulled = tuple(np.ones_like(x) for x in results)
    d_q, d_k, d_v = pulled_back(kernel, [True] * 3, tuple(values.values()), results, pulled)
    assert np.isnan(d_q[0, 7]).all()
    assert np.isfinite(np.delete(d_q[0], 7, 0)).all()
    assert np.isnan(d_k[0, :8]).all()
    assert np.isnan(d_v[0, :8]).all()


def test_what_it_leaves_to_another_template() -> None:
    site = Case(pairing="half", queries=8, keys=8).site
    backward = built(site).backward
    assert backward is not None
    values = tuple(drawn(site, 0).values())
    results = tuple(jnp.zeros(node.type.shape) for _, node in site.closed.outputs)
    assert backward(values, results, results, ["angles" in label for label in site.closed.input_types]) is None


@pytest.mark.parametrize(("threads", "most"), [(2, 64 << 20), (64, 640 << 20)])
def test_scratch_memory_is_bounded(threads: int, most: int) -> None:
    for length in (32_768, 65_536):
        site = Case(queries=length, keys=length, heads=8, kv_heads=8).site
        for unit in VECTOR_UNITS.values():
            assert Gradient(Problem(site.closed, unit, 128, 4, threads), False).scratch_bytes < most
