"""What surrounds a backward kernel of attention: what it reads of the results, and where its cotangents go."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ropegen import plain
from ropegen.ir.graph import Node
from ropegen.template import Array, Arrays

from .blocks import d_sinks, shift_of
from .site import AttendSite


@dataclass(frozen=True, slots=True)
class Pull:
    """The cotangents of the results as a backward kernel reads them."""

    d_out: Array
    """The cotangent of the output, (..., Sq, H, Dv)."""
    shift: Array
    """The shift for which exp(score - shift) is the weight: the log-sum-exp, or +inf for a row that sees no key."""
    drag: Array
    """How much the result falls per relative increase of the softmax denominator, (..., Sq, H)."""
    unseen: Array
    """The rows that see no key, (..., Sq, H)."""

    @staticmethod
    def of(results: Mapping[str, Array], cotangents: Mapping[str, Array | None]) -> Pull:
        """Both map "output" and "log_sum_exp"; a cotangent that is None is zero."""
        out, lse = results["output"], results["log_sum_exp"]
        d_out, d_lse = cotangents["output"], cotangents["log_sum_exp"]
        drag = jnp.zeros_like(lse) if d_lse is None else -d_lse
        if d_out is None:
            d_out = jnp.zeros_like(out)
        else:
            drag += jnp.sum(out.astype(jnp.float32) * d_out.astype(jnp.float32), -1)
        return Pull(d_out, shift_of(lse), drag, lse == -jnp.inf)


def bias_is_whole(site: AttendSite) -> bool:
    """Whether the bias has an entry for every score, so that its cotangent is not a sum."""
    q, k = (site.sources[name].type.shape for name in ("q", "k"))
    return site.sources["bias"].type.size == math.prod(q[:-1]) * k[-3]


def of_operands(
    site: AttendSite,
    operands: Arrays,
    pull: Pull,
    pulled: tuple[Array, Array, Array],
    d_bias: Array | None,
    *,
    q_pairing: str | None,
) -> dict[Node, Array]:
    """The cotangents of the operands, by node. Operands without one are left out.

    - `pulled` are those of q, k and v as attention reads them, of their shapes, in float32 or in their type. That of q is
      already rotated back if `q_pairing` is None.
    - `d_bias` is that of the bias, of its shape, or None.
    """
    values: dict[Node, Array] = dict(zip(site.operands, operands, strict=True))
    dq, dk, dv = pulled
    if site.op.takes_mean:
        keys, kv_heads, width = dv.shape[-3:]
        of_rows = jnp.sum(jnp.where(pull.unseen[..., None], pull.d_out, 0), -3, dtype=jnp.float32) / keys
        dv = dv + jnp.sum(of_rows.reshape(*dv.shape[:-3], 1, kv_heads, -1, width), -2)
    totals: dict[Node, Array] = {}

    def add(name: str, value: Array) -> None:
        node = site.sources[name]  # the region may read one value twice
        totals[node] = totals[node] + value.astype(jnp.float32) if node in totals else value.astype(jnp.float32)

    add("v", dv)
    for name, value, pairing in (("q", dq, q_pairing), ("k", dk, site.k_pairing)):
        if pairing is None:
            add(name, value)
            continue
        names = name, f"{name}_angles"
        source, table = (values[site.sources[label]].astype(jnp.float32) for label in names)
        _, pull_back = jax.vjp(functools.partial(plain.rotate, pairing=pairing), source, table)
        for label, turned in zip(names, pull_back(value.astype(jnp.float32)), strict=True):
            add(label, turned)
    if "sinks" in site.op.given:
        add("sinks", d_sinks(values[site.sources["sinks"]].astype(jnp.float32), pull.shift, pull.drag))
    if d_bias is not None:
        add("bias", d_bias)
    if site.op.partial:
        return totals
    return {node: total.astype(values[node].dtype) for node, total in totals.items()}
