"""`attend` on CPU for a few queries over a long cache, as native code: the kernel of `decode_cpu`.

Keys and values are read once, as they lie in the cache, and only where the mask shows them. So a step takes the time
that reading the visible part of the cache takes. Keys whose rotation is inside the region are rotated by the kernel, at
every call and only where they are seen. The tangent is that of the `xla` template, which shares the residuals.
"""

from __future__ import annotations

from collections.abc import Iterator

from ropegen.cost import Cost, Direction, Work
from ropegen.native import machine
from ropegen.native.call import call
from ropegen.target import VECTOR_UNITS, Target, VectorUnit
from ropegen.template import Array, Arrays, Kernel, Template, Tile

from . import decode_cpu, llvm_cpu
from .decode_cpu import TILE, Decode
from .layout_cpu import Problem
from .site import FAMILY, AttendSite

# The most queries, and the most rows of one key head: their state stays in the second cache.
_MOST_QUERIES = 16
_MOST_ROWS = 256
# The most bytes of scratch memory.
_MOST_SCRATCH = 32 << 20


def declines(site: AttendSite, target: Target) -> Iterator[str]:
    q, k = (site.sources[name].type for name in ("q", "k"))
    queries, rows = q.shape[-3], q.shape[-3] * q.shape[-2] // max(1, k.shape[-2])
    if queries > _MOST_QUERIES:
        yield f"there are {queries} queries; it takes at most {_MOST_QUERIES}"
        return
    if rows > _MOST_ROWS:
        yield f"there are {rows} queries for one key head; it takes at most {_MOST_ROWS}"
        return
    yield from llvm_cpu.declines(site, target)


def tiles(site: AttendSite, target: Target) -> Iterator[Tile]:
    """Chunks of the cache: as many as keep all cores busy."""
    keys = site.sources["k"].type.shape[-3]
    for chunk in (512, 256, 1024):
        yield Tile.of(kv=min(chunk, -(-keys // TILE) * TILE))


def _problem(site: AttendSite, tile: Tile, target: Target, unit: VectorUnit) -> Problem:
    return Problem(site.closed, unit, tile["kv"], 1, target.cores)


def cost(site: AttendSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost | None:
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
    """The native kernel for the vector unit of the target."""
    unit = machine.unit_for(target)
    problem = _problem(site, tile, target, unit)
    order = [label for label, _ in site.closed.outputs]
    order += [label for label in ("output", "log_sum_exp") if label not in order]

    def forward(*operands: Array) -> Arrays:
        output, log_sum_exp = call(decode_cpu.decode(problem), unit, operands)
        results = {"output": output, "log_sum_exp": log_sum_exp}
        return tuple(results[label] for label in order)

    return Kernel(forward)


TEMPLATE = Template(
    name="llvm_cpu_decode",
    version=1,
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
