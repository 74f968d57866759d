"""A template whose kernels are native code: a lookup of rows that have four bytes an element, for tests.

It stands for every such template. `rg.register_template(TEMPLATE)` adds it, and plans for CPU then take it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ropegen import template
from ropegen.cost import Cost, Direction
from ropegen.native import call, machine
from ropegen.native.ir import I32, I64, Module
from ropegen.target import Target
from ropegen.template import Array, Arrays, Kernel, Template, Tile

Site = Any


def declines(site: Site, target: Target) -> Iterator[str]:
    if not machine.is_installed():
        yield f"it needs llvmlite; {machine.INSTALL}"
    if site.steps or site.lookup.mode != "clip" or site.table.type.dtype != "f32" or site.ids.type.dtype != "i32":
        yield "it copies rows of float32 by int32 and does nothing else"


def cost(site: Site, target: Target, tile: Tile, direction: Direction = "forward") -> Cost | None:
    return Cost(memory=1e-9) if direction == "forward" else None


def written(site: Site) -> call.Written:
    """The kernel: an item is a row of the result."""
    (rows,) = site.outputs
    count, width = site.table.type.shape
    module = Module()
    f = call.stage(module, "copy_row")
    places = {node: call.address(f, index) for index, node in enumerate(site.operands)}
    result, item = call.address(f, len(site.operands)), f.parameters["item"]
    row = f.convert(f.minimum(f.maximum(f.load(I32, places[site.ids], item), 0), count - 1), I64)
    with f.range(0, width) as column:
        f.store(f.load(I32, places[site.table], row * width + column), result, item * width + column)
    f.give_back()
    names = {site.ids: "ids", site.table: "table"}
    operands = tuple(call.Buffer(names[node], node.type.dtype, node.type.shape) for node in site.operands)
    results = (call.Buffer("rows", rows.type.dtype, rows.type.shape),)
    items = rows.type.size // width
    return call.written(call.Kernel("rows", module, operands, results, (call.Stage("copy_row", items),), threads=4))


def build(site: Site, tile: Tile, target: Target) -> Kernel:
    def forward(*operands: Array) -> Arrays:
        return call.call(written(site), machine.unit_for(target), operands)

    return Kernel(forward)


TEMPLATE = Template(
    name="native_rows",
    version=1,
    family=template.family("embed"),
    runs_on=("cpu",),
    declines=declines,
    cost=cost,
    build=build,
    derivatives="embed/xla",
    needs_process=machine.cannot_run,
)
