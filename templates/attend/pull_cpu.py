"""The backward pass of the native attention in a traced program: calls the kernel, and finishes what it leaves to JAX."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from ropegen.ir.graph import Node
from ropegen.native.call import call
from ropegen.template import Arrays, Tangents

from .blocks import d_sinks, shift_of
from .kernel_cpu_backward import backward
from .layout_cpu import Problem
from .layout_cpu_backward import Gradient

# The operands whose cotangents the kernel gives.
_GIVEN = ("q", "k", "v", "bias", "sinks")


def pull(
    problem: Problem, operands: Arrays, results: Arrays, cotangents: Tangents, wanted: Sequence[bool]
) -> Tangents | None:
    """The cotangents of the wanted operands, and None for the others; None if one is wanted that the kernel lacks.

    `results` are the outputs of the region, then the residuals; so are `cotangents`, in which None stands for zero.
    """
    site = problem.site
    given = {name: site.sources[name] for name in _GIVEN if name in site.sources}
    asked = [node for node, is_wanted in zip(site.operands, wanted, strict=True) if is_wanted]
    # An operand can be read twice, once as an operand whose cotangent the kernel lacks.
    others = {node for name, node in site.sources.items() if name not in given}
    if any(node in others or node not in given.values() for node in asked):
        return None
    order = site.order
    result = dict(zip(order, results, strict=True))
    cotangent = dict(zip(order, cotangents, strict=True))
    output, lse = result["output"], result["log_sum_exp"]
    d_output, d_lse = cotangent["output"], cotangent["log_sum_exp"]
    d_output = jnp.zeros_like(output) if d_output is None else d_output
    d_lse = jnp.zeros_like(lse) if d_lse is None else d_lse
    gradient = Gradient(problem, "bias" in given and given["bias"] in asked)
    buffers = (*operands, output, lse, d_output, d_lse)
    computed = call(backward(gradient), problem.unit, buffers)
    pulled = {buffer.name: value for buffer, value in zip(gradient.results, computed, strict=True)}
    values: dict[Node, Array] = dict(zip(site.operands, operands, strict=True))
    totals: dict[Node, Array] = {}

    def add(name: str, value: Array) -> None:
        node = site.sources[name]
        totals[node] = totals[node] + value if node in totals else value

    for name in "qkv":
        add(name, pulled[f"d_{name}"])
    if "sinks" in given:
        sinks = values[given["sinks"]]
        add("sinks", d_sinks(sinks.astype(jnp.float32), shift_of(lse), pulled["drag"]).astype(sinks.dtype))
    if gradient.wants_bias:
        add("bias", _bias(gradient, pulled["d_bias"], values[given["bias"]]))
    return tuple(totals[node] if is_wanted else None for node, is_wanted in zip(site.operands, wanted, strict=True))


def _bias(gradient: Gradient, sums: Array, bias: Array) -> Array:
    """The cotangent of the bias from the kernel's sums, whose shape is `Gradient.bias_shape`."""
    problem, (heads, queries, keys) = gradient.problem, gradient.bias.shape
    if gradient.has_bias_matrix:
        return sums.reshape(bias.shape).astype(bias.dtype)
    if queries > 1 or keys == 1:
        sums = jnp.sum(sums, 0)[..., : problem.queries]
        sums = sums[..., None] if queries > 1 else jnp.sum(sums, -1)[..., None, None]
    else:
        sums = sums[..., None, : problem.keys]
    if heads == 1:
        sums = jnp.sum(sums, 1, keepdims=True)
    before = bias.shape[: bias.ndim - 3]
    before = (1,) * (len(problem.lead) - len(before)) + before
    sums = sums.reshape(*problem.lead, *sums.shape[1:])
    summed = tuple(axis for axis, size in enumerate(before) if size == 1)
    return jnp.sum(sums, summed, keepdims=True).reshape(bias.shape).astype(bias.dtype)
