"""`attend/dense`: attention with all its scores in one array, for short sequences. An example of a template.

The entry point in pyproject.toml names `TEMPLATE`; once this package is installed, every plan considers it.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from ropegen.templates.attend.site import FAMILY, AttendSite

from ropegen import masks
from ropegen.cost import Cost, Direction, Work
from ropegen.target import Target
from ropegen.template import Array, Arrays, Kernel, Template, Tile, plain_kernel

LONGEST = 256  # keys; the scores of more leave the cache of a core


def declines(site: AttendSite, target: Target) -> Iterator[str]:
    """A template computes a site whole or declines it: whatever it does not honour must stand here."""
    if site.q_pairing or site.k_pairing:
        yield "it does not rotate"
    if site.op.given or site.op.softcap or site.op.visible != masks.full or site.op.score != masks.identity:
        yield "it computes softmax(scale q k) v and nothing else"
    if not 1 <= site.sources["k"].type.shape[-3] <= LONGEST:
        yield f"it takes 1 to {LONGEST} keys"


def cost(site: AttendSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost:
    """Two products and an exponential for every score; derivatives compute the forward pass again."""
    q, k, v = (site.sources[name].type for name in "qkv")
    scores = q.size / max(1, q.shape[-1]) * k.shape[-3] * (1 if direction == "forward" else 3)
    matmul = 2 * scores * (q.shape[-1] + v.shape[-1])
    moved = sum(value.type.bytes for value in (*site.operands, *site.outputs))
    return Work(matmul=matmul, vector=3 * scores, exponentials=scores, moved=moved).on(target, q.dtype)


def build(site: AttendSite, tile: Tile, target: Target) -> Kernel:
    """A function of the region's operands, in their order; it gives the outputs, then the residuals."""
    labels = dict.fromkeys([*(label for label, _ in site.closed.outputs), "output", "log_sum_exp"])

    def forward(*operands: Array) -> Arrays:
        values = dict(zip(site.operands, operands, strict=True))
        q, k, v = (values[site.sources[name]] for name in "qkv")
        k, v = (jnp.repeat(x, q.shape[-2] // k.shape[-2], axis=-2) for x in (k, v))  # grouped queries
        wide = jnp.promote_types(q.dtype, jnp.float32)
        score = site.op.scale * jnp.einsum("...qhd,...khd->...hqk", q, k, preferred_element_type=wide)
        total = jax.nn.logsumexp(score, axis=-1)
        weight = jnp.exp(score - total[..., None]).astype(v.dtype)
        out = jnp.einsum("...hqk,...khd->...qhd", weight, v, preferred_element_type=wide)
        results = {"output": out.astype(q.dtype), "log_sum_exp": jnp.swapaxes(total, -1, -2)}
        return tuple(results[label] for label in labels)

    return plain_kernel(forward)


TEMPLATE = Template(
    name="dense", version=1, family=FAMILY, runs_on=("cpu", "gpu"), declines=declines, cost=cost, build=build
)
