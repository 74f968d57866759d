"""`attend` on CPU as native code: the kernels of `kernel_cpu`, compiled by LLVM when a program is lowered.

Queries and keys are rotated and scaled while they are packed. Half precision is converted to float32 while it is packed,
and multiplied in float32. Keys and values are not repeated for grouped queries. The tangent is that of the `xla`
template, which shares the residuals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ropegen.cost import Cost, Direction, Work
from ropegen.errors import RopegenError
from ropegen.native import machine
from ropegen.native.call import call
from ropegen.target import VECTOR_UNITS, Target, VectorUnit
from ropegen.template import Array, Arrays, Kernel, Padding, Tangents, Template, Tile, XlaIsFaster

from . import kernel_cpu, xla
from .layout_cpu import GRANULE, Problem, up
from .padding import padding as padding_of
from .pull_cpu import pull
from .site import FAMILY, AttendSite

# The most nodes of a mask or score expression: its code stands in a kernel several times.
_MOST_NODES = 256
# The most rows of tiles that the cost model classifies.
_MOST_ROWS = 4096
# The most bytes of scratch memory for the items of all threads.
_MOST_SLOTS = 32 << 20
# Vector operations for a score: the polynomial of its weight, maximum and sum. They run at the full rate of the unit,
# several times the rate that `Chip.vector` states for ops of XLA.
_VECTOR, _VECTOR_BACKWARD = 5.0, 7.0


def declines(site: AttendSite, target: Target) -> Iterator[str]:
    """Element types that XLA multiplies as fast or faster, and what the code does not compute."""
    if not machine.is_installed():
        yield f"llvmlite is not installed; {machine.INSTALL}"
        return
    if site.op.dropout is not None:
        yield "it drops no weights"
        return
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    if q.dtype == "f64":
        yield "it computes in float32, and q is f64"
    if site.op.partial and q.dtype != site.op.partial:
        yield f"it writes the type of q, {q.dtype}, and parts of an attention are {site.op.partial}"
    if q.dtype == "bf16" and target.figures.has_bf16_matrix_unit:
        yield XlaIsFaster(f"cores of {target} have a matrix unit for bf16, which XLA uses")
    if 0 in (*q.shape, *k.shape, *v.shape):
        yield "there is no query, key or feature to multiply"
        return
    if "numbers" in site.op.given:
        yield "the score reads numbers that are known only at run time"
    for operand in site.op.beside:
        kind = site.sources[operand.name].type.dtype
        if operand.variable and operand.name in site.op.needed and kind not in ("i32", "i64"):
            yield f"{operand.name} are {kind}; it compares integers"
        if operand.holds == "float" and kind == "f64":
            yield f"{operand.name} is f64; it computes in float32"
    for name in ("q_angles", "k_angles"):
        if name in site.sources and site.sources[name].type.dtype == "f64":
            yield f"{name} are f64; it rotates in float32"
    for what, expression in (("mask", site.op.visible), ("score", site.op.score)):
        if expression.size > _MOST_NODES:
            yield f"the {what} has {expression.size} nodes; it takes at most {_MOST_NODES}"
    if not any(True for _ in tiles(site, target)):
        yield f"heads of {q.shape[-1]} and {v.shape[-1]} features need more than {_MOST_SLOTS >> 20} MB of scratch memory"


def tiles(site: AttendSite, target: Target) -> Iterator[Tile]:
    """Tiles of keys that stay in the first cache, and blocks of queries that stay in the second one."""
    q, k = (site.sources[name].type for name in ("q", "k"))
    # A pair of bfloat16 numbers takes the room of one float32 number.
    most = 128 if multiplies_pairs(site, target.unit) else 64
    first, whole = 128 if q.shape[-1] <= most else 64, -(-k.shape[-3] // GRANULE) * GRANULE
    # A block of more panels than there are queries is the same block.
    blocks = dict.fromkeys(min(panels, max(1, -(-q.shape[-3] // GRANULE))) for panels in (4, 8, 2))
    for keys in dict.fromkeys(min(size, whole) for size in (first, 64, 128)):
        for panels in blocks:
            tile = Tile.of(kv=keys, panels=panels)
            if _fits(_problem(site, tile, target, VECTOR_UNITS["avx512"])):
                yield tile


def _fits(problem: Problem) -> bool:
    return problem.threads * problem.slot.size <= _MOST_SLOTS


def _problem(site: AttendSite, tile: Tile, target: Target, unit: VectorUnit) -> Problem:
    return Problem(site.closed, unit, tile["kv"], tile["panels"], target.cores, multiplies_pairs(site, unit))


def multiplies_pairs(site: AttendSite, unit: VectorUnit | None) -> bool:
    """Whether the products of a site multiply pairs of bfloat16."""
    return unit is not None and unit.pairs and site.sources["q"].type.dtype == "bf16"


def cost(site: AttendSite, target: Target, tile: Tile, direction: Direction = "forward") -> Cost | None:
    """The cost of the products and of the weights, in the tiles that are visited; None for the tangent."""
    if direction == "tangent":
        return None
    q, k, v = (site.sources[name].type for name in ("q", "k", "v"))
    # Long sequences are classified in larger tiles, because the share of visited scores needs no finer ones.
    rows, keys = (max(4 * GRANULE, value.shape[-3] // _MOST_ROWS) for value in (q, k))
    seen = xla.visited(site, Tile.of(q=rows, kv=keys))
    scores = q.size / q.shape[-1] * k.shape[-3] * seen.visited / max(1, seen.count)
    moved = sum(value.type.bytes for value in (*site.operands, *site.outputs))
    if direction == "forward":
        products, vector, packed = q.shape[-1] + v.shape[-1], _VECTOR, 4.0 * (k.size + v.size)
        if multiplies_pairs(site, target.unit):  # an instruction multiplies twice as many numbers as one for float32
            products, packed = products / 2, packed / 2
    else:
        products, vector, packed = 3 * q.shape[-1] + 2 * v.shape[-1], _VECTOR_BACKWARD, 4.0 * q.size
        moved *= 2
    return Work(matmul=2.0 * scores * products, vector=vector * scores, moved=moved + 2 * packed, temporary=packed).on(
        target, "f32"
    )


def padding(site: AttendSite, tile: Tile, target: Target) -> Padding | None:
    """Whole panels of queries, whole granules of keys, and whole registers of features.

    The generic target leaves the vector unit to the machine that compiles; the padding is then that of avx512.
    """
    unit = target.unit or VECTOR_UNITS["avx512"]
    problem = _problem(site, tile, target, unit)
    # As in `cost`: larger tiles than those that the kernel decides about.
    q, kv = (
        up(max(4 * GRANULE, length // _MOST_ROWS), size)
        for size, length in ((problem.panel, problem.queries), (GRANULE, problem.keys))
    )
    classified = Tile.of(q=q, kv=kv)
    steps = 2 if problem.pairs else 1
    return padding_of(
        site,
        xla.visited(site, classified),
        classified,
        whole=(problem.panel, GRANULE),
        widths=(problem.packed_steps * steps, problem.packed_value_width),
        unit="" if target.unit else unit.name,
    )


def build(site: AttendSite, tile: Tile, target: Target) -> Kernel:
    """The native kernel for the vector unit of the target.

    Raises:
      RopegenError: a tile that the kernel cannot take.
    """
    unit = machine.unit_for(target)
    problem = _problem(site, tile, target, unit)
    if not _fits(problem):
        raise RopegenError(
            f"attend/llvm_cpu was given the tile {tile}, with which its items take more than {_MOST_SLOTS >> 20} MB of scratch "
            "memory; give smaller sizes"
        )

    def forward(*operands: Array) -> Arrays:
        output, log_sum_exp = call(kernel_cpu.forward(problem), unit, operands)
        results = {"output": output, "log_sum_exp": log_sum_exp}
        return tuple(results[label] for label in site.order)

    def backward(operands: Arrays, results: Arrays, cotangents: Tangents, wanted: Sequence[bool]) -> Tangents | None:
        return pull(problem, operands, results, cotangents, wanted)

    return Kernel(forward, backward=backward)


TEMPLATE = Template(
    name="llvm_cpu",
    version=2,
    family=FAMILY,
    runs_on=("cpu",),
    declines=declines,
    tile=("kv", "panels"),
    tiles=tiles,
    cost=cost,
    build=build,
    derivatives="attend/xla",
    needs_process=machine.cannot_run,
    padding=padding,
)
