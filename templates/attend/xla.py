"""`attend` by XLA: tiles of scores in plain lax, empty tiles left out; rotations in one pass before them."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ropegen import masks, plain
from ropegen.ir.graph import Node
from ropegen.target import TPU_OP, Target
from ropegen.template import Array, Arrays, Cost, Kernel, Tangents, Template, Tile

from . import sweep, tiled
from .site import FAMILY, AttendSite

# Of a TPU's bandwidth, what passes reach that cut heads out of rows or rotate them; see `_on_tpu`.
_TPU_SHARE = 0.33
# Seconds that starting the operations of one block takes on a CPU, whose cores meet after each of them: by so much more
# blocks of fewer queries are slower, at equal scores (S of 2048 to 8192 on two cores).
_CPU_BLOCK = 6e-5
# The most keys, and scores, of a block on CPU: from there on it takes no less for a score, and what masks hide is wasted.
_CPU_KEYS, _CPU_SCORES = 2048, 1 << 21
# Scores of a block from which on all cores take part.
_CPU_SHARED = 1 << 16
# Vector operations of one `exponential`, its multiplications and additions fused.
_CPU_EXPONENTIAL = 14


def declines(site: AttendSite, target: Target) -> Iterator[str]:
    """Nothing: XLA runs everywhere."""
    return iter(())


def tiles(site: AttendSite, target: Target) -> Iterator[Tile]:
    """The tile that measured best for most shapes and a square one; on CPU, instead of that, two of few queries, for masks
    that hide most, one of many keys, for those that hide little, and larger ones for more cores, which meet after each
    operation; no larger than the sequences.
    """
    q, k = (site.sources[name].type.shape for name in ("q", "k"))
    group = max(1, q[-2] // max(1, k[-2]))
    best = tiled.default_tile(site.op, q, k)
    sizes = [(best.q, best.kv)]
    if target.platform == "cpu":
        sizes += [(max(128, rows // group), 512) for rows in (512, 256)]
        sizes += [(best.q, max(best.kv, min(_CPU_KEYS, _CPU_SCORES // (best.q * group))))]
        sizes += [(best.q * more, best.kv) for more in (2, 4, 8) if target.cores >= 2 * more]
    else:
        sizes += [(512, 512)]
    for each in dict.fromkeys((max(1, min(rows, q[-3])), max(1, min(keys, k[-3]))) for rows, keys in sizes):
        yield Tile.of(q=each[0], kv=each[1])


def visited(site: AttendSite, tile: Tile) -> np.ndarray:
    """The class of each tile (q tiles, kv tiles): 0 empty, 1 partial, 2 full; all partial where positions are not known."""
    lengths = site.sources["q"].type.shape[-3], site.sources["k"].type.shape[-3]
    read = masks.variables(site.op.visible)
    ranges: list[np.ndarray] = []
    are_known = True
    for length, size, variable in zip(lengths, ("q", "kv"), ("q_pos", "kv_pos"), strict=True):
        start = np.arange(0, length, tile[size])
        known = site.positions.get(site.op.NEEDS[variable])
        are_known &= known is not None or variable not in read
        last = np.minimum(start + tile[size], length) - 1
        ranges.append(np.stack([start, last], axis=-1) + (0 if known is None else known.start))
    if not are_known:
        return np.ones((len(ranges[0]), len(ranges[1])), np.int8)
    return masks.classify_tiles(site.op.visible, ranges[0], ranges[1])


def cost(site: AttendSite, target: Target, tile: Tile, *, multiplied: str | None = None) -> Cost:
    """Two matmuls and one exponential a score over the blocks that are visited; K and V once for each row of tiles.

    What `_on_tpu` and `_on_cpu` say comes after one another with these. `multiplied`: the type that the matmuls read;
    None: that of q.
    """
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    classes = visited(site, tile)
    granule = min(sweep.GRANULE, tile["kv"])
    finer = visited(site, Tile.of(q=tile["q"], kv=granule))
    found = sweep.band(classes, tile["kv"], finer, granule, k.shape[-3])
    if found:
        blocks, hidden, share = len(classes), 1.0, found[1] / k.shape[-3]
    else:
        blocks = int(np.count_nonzero(classes))
        share = float(np.mean(classes > 0)) if classes.size else 0.0
        hidden = float(np.mean(classes == masks.PARTIAL)) / share if share else 0.0
    scores = q.size / max(q.shape[-1], 1) * k.shape[-3] * share
    rotated = sum(each.size for each, pairing in ((q, site.q_pairing), (k, site.k_pairing)) if pairing is not None)
    width = v.shape[-1]
    outputs = sum(each.type.bytes for each in site.outputs)
    polynomial = _takes_polynomial(site, target)
    passes = max(1, len(classes)) if k.bytes + v.bytes > target.figures.fast_memory else 1
    computed = Cost.of(
        target,
        multiplied or q.dtype,
        matmul=2.0 * scores * (q.shape[-1] + width),
        vector=scores * (4.0 + 2.0 * hidden + (_CPU_EXPONENTIAL if polynomial else 0.0)) + 6.0 * rotated,
        exponentials=0.0 if polynomial else scores,
        moved=sum(each.type.bytes for each in site.operands) + outputs + (passes - 1) * share * (k.bytes + v.bytes),
        temporary=4.0 * tile["q"] * tile["kv"] * (q.shape[-2] // max(1, k.shape[-2])),
    )
    match target.platform:
        case "tpu":
            return computed + _on_tpu(site, target, len(classes), blocks)
        case "cpu":
            return computed + _on_cpu(site, blocks, scores)
        case _:
            return computed


def _takes_polynomial(site: AttendSite, target: Target) -> bool:
    """Whether weights are made by `exponential`: XLA for CPU takes longer for its own."""
    return target.platform == "cpu" and site.sources["q"].type.dtype != "f64"


def _heads(site: AttendSite) -> int:
    """Key heads of the whole batch: what is worked on one after the other."""
    k = site.sources["k"].type
    return k.size // max(1, k.shape[-1] * k.shape[-3])


def _on_cpu(site: AttendSite, blocks: int, scores: float) -> Cost:
    """What starting the operations of more blocks than one takes; those of a small one run on one core, and wait for no
    other.
    """
    waits = scores >= _CPU_SHARED * _heads(site) * blocks
    return Cost(0.0, 0.0, 0.0, _heads(site) * max(0, blocks - 1) * _CPU_BLOCK if waits else 0.0, "launch")


def _on_tpu(site: AttendSite, target: Target, rows: int, blocks: int) -> Cost:
    """What XLA for TPU adds: some seven ops a tile and four a row of tiles, head by head, and passes over memory.

    Nothing of a tile is fused into its matmuls: products, highest score, weights and their sum are programs of their
    own, which libtpu estimates at no less than `TPU_OP` each; the scores between them stay in fast memory. The output
    is written as zeros, head by head, and once more as bf16; q, k and v are cut into heads; what is rotated is read
    and written as halves, then as a whole. With these the cost is 0.55 to 1.7 of what libtpu estimates for what it
    compiles, over the shapes of eight models on v5e and v7x.
    """
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    count = _heads(site) * (4 * rows + 7 * blocks)
    rotated = sum(each.bytes for each, pairing in ((q, site.q_pairing), (k, site.k_pairing)) if pairing is not None)
    outputs = sum(each.type.bytes for each in site.outputs)
    moved = 4.0 * outputs + 2.0 * (q.bytes + k.bytes + v.bytes) + 4.0 * rotated
    seconds = count * TPU_OP + moved / (_TPU_SHARE * target.figures.bandwidth)
    return Cost(0.0, moved, 0.0, seconds, "launch" if 2 * count * TPU_OP > seconds else "memory")


def build(site: AttendSite, tile: Tile, target: Target, *, widened: bool = False) -> Kernel:
    """Rotations by the plain op, then the tiles; derivatives by the tiled tangent and backward passes.

    `widened`: half precision is multiplied in float32, and the weights are not rounded.
    """
    q, k, v = site.values
    inner = (q, k, v, *(site.sources[name] for name in site.op.given))
    sizes = tiled.Tile(tile["q"], tile["kv"])
    spans = {name: (positions.start, positions.length) for name, positions in site.positions.items()}
    static = tiled.Static(spans.get("q_positions"), spans.get("kv_positions"), widened, _takes_polynomial(site, target))
    order = [label for label, _ in site.closed.outputs]
    order += [label for label in ("output", "log_sum_exp") if label not in order]

    def rotated(operands: Sequence[Array]) -> Arrays:
        values: dict[Node, Array] = dict(zip(site.operands, operands, strict=True))
        return plain.evaluate(inner, values, plain.compute_for_platform)

    def given(values: Sequence[Array | None]) -> dict[str, Array]:
        return {name: value for name, value in zip(site.op.given, values[3:], strict=True) if value is not None}

    def forward(*operands: Array) -> Arrays:
        values = rotated(operands)
        out, log_sum_exp = tiled.forward(site.op, sizes, values[0], values[1], values[2], given(values), static)
        results = {"output": out, "log_sum_exp": log_sum_exp}
        return tuple(results[label] for label in order)

    def moved(operands: Arrays, moving: Sequence[int], *values: Array) -> Arrays:
        replaced = dict(zip(moving, values, strict=True))
        return _floating(rotated([replaced.get(index, operand) for index, operand in enumerate(operands)]))

    def tangent(operands: Arrays, results: Arrays, tangents: Tangents) -> Arrays:
        moving = [index for index, value in enumerate(tangents) if value is not None]
        primals = tuple(operands[index] for index in moving)
        given_tangents = tuple(tangents[index] for index in moving)
        _, inner_tangents = jax.jvp(functools.partial(moved, operands, moving), primals, given_tangents)
        whole = rotated(operands)
        filled = _spread(whole, inner_tangents)
        known = dict(zip(order, results, strict=True))
        d_out, d_log_sum_exp = tiled.tangent(
            site.op,
            sizes,
            (whole[0], whole[1], whole[2], given(whole)),
            known["output"],
            known["log_sum_exp"],
            (filled[0], filled[1], filled[2], dict(zip(site.op.given, filled[3:], strict=True))),
            static,
        )
        d_results = {"output": d_out, "log_sum_exp": d_log_sum_exp}
        return tuple(d_results[label] for label in order)

    def backward(operands: Arrays, results: Arrays, cotangents: Tangents, wanted: Sequence[bool]) -> Tangents:
        moving = [index for index, is_wanted in enumerate(wanted) if is_wanted]
        whole = rotated(operands)
        known = dict(zip(order, results, strict=True))
        pulled = {
            label: jnp.zeros_like(known[label]) if cotangent is None else cotangent
            for label, cotangent in zip(order, cotangents, strict=True)
        }
        d_q, d_k, d_v, d_given = tiled.backward(
            site.op,
            sizes,
            (whole[0], whole[1], whole[2], given(whole)),
            known["output"],
            known["log_sum_exp"],
            pulled["output"],
            pulled["log_sum_exp"],
            static,
        )
        d_inner = (d_q, d_k, d_v, *(d_given.get(name) for name in site.op.given))
        _, pull = jax.vjp(functools.partial(moved, operands, moving), *(operands[index] for index in moving))
        floating = tuple(
            jnp.zeros_like(value) if cotangent is None else cotangent
            for value, cotangent in zip(whole, d_inner, strict=True)
            if jnp.issubdtype(value.dtype, jnp.floating)
        )
        by_index = dict(zip(moving, pull(floating), strict=True))
        return tuple(by_index.get(index) for index in range(len(operands)))

    return Kernel(forward, tangent, backward)


def _floating(values: Arrays) -> Arrays:
    """The values that can have a derivative; positions, segments and masks have none."""
    return tuple(value for value in values if jnp.issubdtype(value.dtype, jnp.floating))


def _spread(values: Arrays, floating: Arrays) -> Tangents:
    """Tangents of the floating values put back in the places of all."""
    remaining = iter(floating)
    return tuple(next(remaining) if jnp.issubdtype(value.dtype, jnp.floating) else None for value in values)


TEMPLATE = Template(
    name="xla",
    version=1,
    family=FAMILY,
    runs_on=("cpu", "gpu", "tpu"),
    tile=("q", "kv"),
    tiles=tiles,
    cost=cost,
    build=build,
)
