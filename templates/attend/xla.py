"""`attend` by XLA: one pass that rotates queries and keys, then tiles of scores in plain lax, without the empty ones."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from ropegen import masks, plain
from ropegen.cost import NO_COST, Cost, Direction, Work
from ropegen.ir.graph import Node
from ropegen.target import Target
from ropegen.template import Array, Arrays, Kernel, Padding, Tangents, Template, Tile
from ropegen.tile_classes import TileClasses, classes_of

from . import sweep, tiled
from .padding import padding as padding_of
from .side_by_side import SideBySide
from .site import FAMILY, AttendSite

# The most keys and the most scores of a block on CPU. A larger block takes no less time per score, and computes more
# scores that the mask hides.
_CPU_KEYS, _CPU_SCORES = 2048, 1 << 21
# Square blocks for a GPU, and the most scores of a block there: 64 MB of float32.
_GPU_SIZES, _GPU_SCORES = (1024, 2048, 4096), 1 << 24
# All cores take part in a block that has at least this many scores.
_CPU_SHARED = 1 << 16
# Vector operations of one `exponential`; a fused multiply-add counts as one.
_CPU_EXPONENTIAL = 14
# Vector operations of the hash that says whether dropout keeps a weight, and of what follows from it.
_DROPOUT = 13
# Ops that change layouts work head by head here, and reach this share of their usual rate (`Chip.relayout`).
_TPU_HEADWISE = 0.66


@dataclass(frozen=True, slots=True)
class _Pass:
    """What a pass of `tiled` does."""

    keyed: int
    """Products over the features of queries and keys."""
    valued: int
    """Products over the features of values."""
    wide: int
    """Products over the features of values, in the accumulator's type."""
    vector: float
    """Vector operations for each score, without its exponential."""
    row_ops: int
    """Ops of XLA for each row of tiles."""
    block_ops: int
    """Ops of XLA for each block."""
    handed: float
    """Bytes of each score that go from one op to the next."""


# `block_ops` is the number of ops that libtpu makes of a block without a mask; a mask adds three. `row_ops` leaves out
# ops that do next to nothing. On CPU, the tangent of four heads of 128 that share a key head took two to three times
# the predicted time, because it uses the blocks of the forward pass and holds more arrays of their scores.
_PASSES: Mapping[Direction, _Pass] = MappingProxyType(
    {
        "forward": _Pass(keyed=1, valued=1, wide=0, vector=4.0, row_ops=4, block_ops=7, handed=16.0),
        "tangent": _Pass(keyed=3, valued=1, wide=1, vector=9.0, row_ops=5, block_ops=9, handed=32.0),
        "backward": _Pass(keyed=3, valued=2, wide=0, vector=9.0, row_ops=5, block_ops=8, handed=28.0),
    }
)
# Additional kernels that a GPU starts for each block: the counter of the loop, its condition, and the copy of the
# condition to the host.
_GPU_LOOP_KERNELS = 3


def declines(site: AttendSite, target: Target) -> Iterator[str]:
    """Nothing: XLA runs everywhere."""
    return iter(())


def tiles(site: AttendSite, target: Target) -> Iterator[Tile]:
    """The tile that measured best for most shapes, and others for special cases. No tile is larger than the sequences.

    - On CPU: two tiles of few queries, for masks that hide most scores; one tile of many keys, for masks that hide few;
      and larger tiles for more cores, because the cores wait for each other after every operation.
    - Elsewhere: a square tile. On a GPU there are also large square tiles, because every block starts its own kernels.
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
    if target.platform == "gpu":
        sizes += [(size, size) for size in _GPU_SIZES if size * size * group <= _GPU_SCORES]
    for rows, keys in dict.fromkeys((max(1, min(rows, q[-3])), max(1, min(keys, k[-3]))) for rows, keys in sizes):
        yield Tile.of(q=rows, kv=keys)


def visited(site: AttendSite, tile: Tile) -> TileClasses:
    """The classes of the tiles, (q tiles, kv tiles); all are partial if positions are not known."""
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
        return TileClasses.uniform(len(ranges[0]), len(ranges[1]), masks.PARTIAL)
    return classes_of(site.op.visible, ranges[0], ranges[1])


def cost(
    site: AttendSite, target: Target, tile: Tile, direction: Direction = "forward", *, multiplied: str | None = None
) -> Cost:
    """The cost of the products, and of one exponential for each score, in the blocks that are visited.

    Forward and tangent read K and V once for each row of tiles, if fast memory does not hold them. Backward visits rows
    of keys, and reads Q and the cotangent of the output instead. `_ops_on_cpu`, `_ops_on_tpu` and `_kernels_on_gpu` add
    the cost of starting the ops of the blocks. `multiplied` is the element type that the products read; None means that
    of q.
    """
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    work, swept = _PASSES[direction], _swept(site, tile, by_key=direction == "backward")
    scores = q.size / max(q.shape[-1], 1) * k.shape[-3] * swept.share
    rotated = sum(value.size for value, pairing in ((q, site.q_pairing), (k, site.k_pairing)) if pairing is not None)
    operands = sum(value.type.bytes for value in site.operands)
    outputs = sum(value.type.bytes for value in site.outputs)
    again = k.bytes + v.bytes if direction != "backward" else q.bytes + outputs
    passes = max(1, swept.rows) if again > target.figures.fast_memory else 1
    twice = 1 if direction == "forward" else 2  # derivatives also read or write one tangent or cotangent of a value
    polynomial = _takes_polynomial(site, target)
    dropping = 0 if site.op.dropout is None else _DROPOUT if direction == "forward" else _DROPOUT + 2
    spent = Work(
        matmul=2.0 * scores * (work.keyed * q.shape[-1] + work.valued * v.shape[-1]),
        wide_matmul=2.0 * scores * work.wide * v.shape[-1],
        vector=scores * (work.vector + dropping + 2.0 * swept.hidden + (_CPU_EXPONENTIAL if polynomial else 0.0))
        + 6.0 * rotated * twice,
        exponentials=0.0 if polynomial else scores,
        moved=twice * (operands + outputs) + (passes - 1) * swept.share * again,
        temporary=4.0 * tile["q"] * tile["kv"] * (q.shape[-2] // max(1, k.shape[-2])) * (1 if twice == 1 else 3),
    )
    if target.platform == "gpu":
        spent = replace(spent, launches=_kernels_on_gpu(site, work, swept), spilled=work.handed * scores)
    computed = spent.on(target, multiplied or q.dtype)
    match target.platform:
        case "tpu":
            return computed + _ops_on_tpu(site, target, direction, swept)
        case "cpu":
            return computed + _ops_on_cpu(site, target, work, swept.blocks, scores)
        case _:
            return computed


@dataclass(frozen=True, slots=True)
class _Swept:
    """What a sweep over the tiles of one head visits."""

    rows: int
    """Rows of tiles."""
    blocks: int
    """All visited blocks."""
    share: float
    """The share of all scores that is in visited blocks."""
    hidden: float
    """The share of the visited scores that is in blocks with a mask."""


def _swept(site: AttendSite, tile: Tile, *, by_key: bool) -> _Swept:
    """The sweep over rows of queries or, if `by_key`, over rows of keys; see `sweep.Sweep.sizes`."""
    queries, keys = (site.sources[name].type.shape[-3] for name in ("q", "k"))
    group = max(1, site.sources["q"].type.shape[-2] // max(1, site.sources["k"].type.shape[-2]))
    outer, inner, length = tile["q"], tile["kv"], keys
    if by_key:
        outer, inner, length = max(1, min(outer, keys)), max(1, min(inner // group, queries)), queries
    granule = min(sweep.GRANULE, inner)

    def classes(size: int) -> TileClasses:
        if by_key:
            return visited(site, Tile.of(q=size, kv=outer)).transposed
        return visited(site, Tile.of(q=outer, kv=size))

    whole = classes(inner)
    if banded := sweep.band(whole, inner, functools.partial(classes, granule), granule, length):
        return _Swept(len(whole), len(whole), banded[1] / length, 1.0)
    share = whole.visited / whole.count if whole.count else 0.0
    hidden = whole.number(masks.PARTIAL) / whole.count / share if share else 0.0
    return _Swept(len(whole), whole.visited, share, hidden)


def padding(site: AttendSite, tile: Tile, target: Target) -> Padding | None:
    """Whole tiles, where they run in a loop: the last one begins earlier, and computes scores of its neighbour again.

    Unrolled tiles are cut to the sequence. In a band, a row of tiles has one block, which lies inside the keys.
    """
    queries, keys = (site.sources[name].type.shape[-3] for name in ("q", "k"))
    outer, inner = min(tile["q"], queries), min(tile["kv"], keys)
    if not outer or not inner:
        return None

    def classes(columns: int) -> TileClasses:
        known = visited(site, Tile.of(q=outer, kv=columns))
        return known.masked if "mask" in site.op.given else known

    if sweep.few_chunks(site.op.visible, (outer, inner), (queries, keys), classes) is not None:
        return None
    granule = min(sweep.GRANULE, inner)
    whole = classes(inner)
    is_band = not sweep.matches_segments(site.op.visible) and sweep.band(
        whole, inner, functools.partial(classes, granule), granule, keys
    )
    return padding_of(site, whole, Tile.of(q=outer, kv=inner), whole=(outer, 1 if is_band else inner))


def _takes_polynomial(site: AttendSite, target: Target) -> bool:
    """Whether `exponential` computes the weights: on CPU, because the exponential of XLA takes longer there."""
    return target.platform == "cpu" and site.sources["q"].type.dtype != "f64"


def _heads(site: AttendSite) -> int:
    """The number of key heads in the whole batch. They are computed one after the other."""
    k = site.sources["k"].type
    return k.size // max(1, k.shape[-1] * k.shape[-3])


def _ops_on_cpu(site: AttendSite, target: Target, work: _Pass, blocks: int, scores: float) -> Cost:
    """The cost of starting the ops of all blocks but one. The ops of a small block run on one core and never wait."""
    waits = scores >= _CPU_SHARED * _heads(site) * blocks
    count = _heads(site) * max(0, blocks - 1) * work.block_ops
    return Cost(launch=count * target.figures.op) if waits else NO_COST


def _kernels_on_gpu(site: AttendSite, work: _Pass, swept: _Swept) -> float:
    """The number of kernels after the first one.

    The loops over heads, rows of tiles and blocks start them one after the other. The scores between the kernels of a
    block go through L2, which is about as fast as memory.
    """
    kernels = work.row_ops * swept.rows + (work.block_ops + _GPU_LOOP_KERNELS) * swept.blocks
    return float(max(0, _heads(site) * kernels - 1))


def _ops_on_tpu(site: AttendSite, target: Target, direction: Direction, swept: _Swept) -> Cost:
    """The cost that XLA for TPU adds: ops for each tile and row of tiles, head by head, and passes over memory.

    XLA fuses nothing into the matmuls of a tile: products, maximum, weights and their sum are separate ops. libtpu
    estimates every op at the least time of the chip or more. The scores between the ops stay in fast memory. A result
    is written three times: as zeros, head by head, and as bf16. Operands are cut into heads. Operands that are rotated
    are read and written as halves, then as a whole. With these terms, the cost of the forward pass is 0.55 to 1.7 of
    what libtpu estimates for what it compiles, over the shapes of eight models on v5e and v7x. Backward also transposes
    q, k and the cotangent of the output.
    """
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    work, figures = _PASSES[direction], target.figures
    count = _heads(site) * (work.row_ops * swept.rows + work.block_ops * swept.blocks)
    rotated = sum(value.bytes for value, pairing in ((q, site.q_pairing), (k, site.k_pairing)) if pairing is not None)
    operands, outputs = q.bytes + k.bytes + v.bytes, sum(value.type.bytes for value in site.outputs)
    match direction:
        case "forward":
            moved = 4.0 * outputs + 2.0 * operands + 4.0 * rotated
        case "tangent":
            moved = 6.0 * outputs + 4.0 * operands + 8.0 * rotated
        case "backward":
            moved = 4.0 * operands + 2.0 * (operands + outputs) + 2.0 * (q.bytes + k.bytes + outputs) + 8.0 * rotated
    headwise = _TPU_HEADWISE * figures.relayout * figures.bandwidth
    return Cost(bytes=moved, memory=moved / headwise, launch=count * figures.op)


def build(site: AttendSite, tile: Tile, target: Target, devices: int = 1, *, widened: bool = False) -> Kernel:
    """Rotates by the plain formula, then computes the tiles; derivatives are the tiled tangent and backward passes.

    If `widened`, half precision is multiplied in float32, and the weights are not rounded. If XLA splits the kernel over
    several devices, the key heads are computed side by side.
    """
    passes = tiled if devices == 1 else SideBySide(devices)
    q, k, v = site.values
    inner = (q, k, v, *(site.sources[name] for name in site.op.given))
    sizes = tiled.Tile(tile["q"], tile["kv"])
    spans = {name: (positions.start, positions.length) for name, positions in site.positions.items()}
    static = tiled.Static(spans.get("q_positions"), spans.get("kv_positions"), widened, _takes_polynomial(site, target))
    order = site.order

    def rotated(operands: Sequence[Array]) -> Arrays:
        values: dict[Node, Array] = dict(zip(site.operands, operands, strict=True))
        return plain.evaluate(inner, values, plain.compute_for_platform)

    def given(values: Sequence[Array | None]) -> dict[str, Array]:
        return {name: value for name, value in zip(site.op.given, values[3:], strict=True) if value is not None}

    def forward(*operands: Array) -> Arrays:
        values = rotated(operands)
        out, log_sum_exp = passes.forward(site.op, sizes, values[0], values[1], values[2], given(values), static)
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
        d_out, d_log_sum_exp = passes.tangent(
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
        d_q, d_k, d_v, d_given = passes.backward(
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
        if site.op.partial and not {site.q_pairing, site.k_pairing} - {None}:  # nothing else rounds the cotangents
            totals: dict[Node, Array] = {}  # the region may read one value twice
            for value, cotangent in zip(inner, d_inner, strict=True):
                if cotangent is not None:
                    totals[value] = totals[value] + cotangent if value in totals else cotangent
            return tuple(totals[x] if is_wanted else None for x, is_wanted in zip(site.operands, wanted, strict=True))
        d_inner = tuple(x if x is None else x.astype(y.dtype) for x, y in zip(d_inner, whole, strict=True))
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
    """One tangent per value: those of the floating values in their places, and None for the others."""
    remaining = iter(floating)
    return tuple(next(remaining) if jnp.issubdtype(value.dtype, jnp.floating) else None for value in values)


TEMPLATE = Template(
    name="xla",
    version=2,
    family=FAMILY,
    runs_on=("cpu", "gpu", "tpu"),
    tile=("q", "kv"),
    tiles=tiles,
    cost=cost,
    build=build,
    build_split=build,
    padding=padding,
)
