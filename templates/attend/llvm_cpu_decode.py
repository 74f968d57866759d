"""`attend` on CPU for a few queries over a long cache, as native code: the kernel of `decode_cpu`.

Keys and values are read once, as they lie in the cache, and only where the mask shows them. So a step takes the time
that reading the visible part of the cache takes. Keys whose rotation is inside the region are rotated by the kernel, at
every call and only where they are seen. The tangent is that of the `xla` template, which shares the residuals.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ropegen.cost import Cost, Direction, Work
from ropegen.errors import RopegenError
from ropegen.native import machine
from ropegen.native.call import call
from ropegen.target import VECTOR_UNITS, Target, VectorUnit
from ropegen.template import Array, Arrays, Kernel, Template, Tile

from . import decode_cpu, llvm_cpu
from .layout_cpu import Problem
from .layout_decode_cpu import TILE, Decode
from .site import FAMILY, AttendSite

# The most queries, and the most rows of one key head: their state stays in the second cache.
_MOST_QUERIES = 16
_MOST_ROWS = 256
# The most bytes of scratch memory.
_MOST_SCRATCH = 32 << 20
# Keys in a chunk of the cache, one item of work.
_CHUNKS = (1024, 512, 256, 128)


def declines(site: AttendSite, target: Target) -> Iterator[str]:
    """More queries than it holds at once, and what `attend/llvm_cpu` declines."""
    q, k = (site.sources[name].type for name in ("q", "k"))
    queries, rows = q.shape[-3], q.shape[-3] * q.shape[-2] // max(1, k.shape[-2])
    if queries > _MOST_QUERIES:
        yield f"there are {queries} queries; it takes at most {_MOST_QUERIES}"
        return
    if rows > _MOST_ROWS:
        yield f"there are {rows} queries for one key head; it takes at most {_MOST_ROWS}"
        return
    yield from (refused := tuple(llvm_cpu.declines(site, target)))
    if not refused and not any(True for _ in tiles(site, target)):
        yield f"the partial results of {rows} rows need more than {_MOST_SCRATCH >> 20} MB of scratch memory"


def tiles(site: AttendSite, target: Target) -> Iterator[Tile]:
    """Chunks of the cache whose partial results fit the scratch memory; first the largest that keeps all cores busy."""
    k = site.sources["k"].type
    batch, keys = k.size // max(1, math.prod(k.shape[-3:])), k.shape[-3]
    sizes = list(dict.fromkeys(min(chunk, -(-keys // TILE) * TILE) for chunk in _CHUNKS))
    busy = [chunk for chunk in sizes if batch * -(-keys // chunk) >= 2 * target.cores]
    for chunk in dict.fromkeys((*busy, *reversed(sizes))):
        tile = Tile.of(kv=chunk)
        if _fits(_problem(site, tile, target, VECTOR_UNITS["avx512"])):
            yield tile


def _fits(problem: Problem) -> bool:
    return Decode(problem).scratch_bytes <= _MOST_SCRATCH


def _problem(site: AttendSite, tile: Tile, target: Target, unit: VectorUnit) -> Problem:
    return Problem(site.closed, unit, tile["kv"], 1, target.cores, llvm_cpu.multiplies_pairs(site, unit))


def cost(site: AttendSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost | None:
    """The cost of reading the cache once and of both products; None for derivatives."""
    if direction != "forward":
        return None
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    scores = q.size / q.shape[-1] * k.shape[-3]
    moved = sum(value.type.bytes for value in (*site.operands, *site.outputs))
    sizes = Decode(_problem(site, tile, target, VECTOR_UNITS["avx512"]))
    return Work(
        matmul=2.0 * scores * (q.shape[-1] + v.shape[-1]), vector=5 * scores, moved=moved, temporary=sizes.scratch_bytes
    ).on(target, "f32")


def build(site: AttendSite, tile: Tile, target: Target) -> Kernel:
    """The native kernel for the vector unit of the target.

    Raises:
      RopegenError: a tile that the kernel cannot take.
    """
    unit = machine.unit_for(target)
    problem = _problem(site, tile, target, unit)
    if not _fits(problem):
        raise RopegenError(
            f"attend/llvm_cpu_decode was given the tile {tile}, with which the partial results take more than "
            f"{_MOST_SCRATCH >> 20} MB of scratch memory; give a larger kv"
        )

    def forward(*operands: Array) -> Arrays:
        output, log_sum_exp = call(decode_cpu.decode(problem), unit, operands)
        results = {"output": output, "log_sum_exp": log_sum_exp}
        return tuple(results[label] for label in site.order)

    return Kernel(forward)


TEMPLATE = Template(
    name="llvm_cpu_decode",
    version=2,
    family=FAMILY,
    runs_on=("cpu",),
    declines=declines,
    tile=("kv",),
    tiles=tiles,
    cost=cost,
    build=build,
    derivatives="attend/xla",
    needs_process=machine.cannot_run,
)
