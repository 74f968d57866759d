"""The assembly that LLVM makes for every vector unit: multiply-adds in the innermost loops, and no spills there.

It is compiled for all units on any machine, and not run.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

import pytest
from native import needs_llvmlite
from ropegen.templates.attend import kernel_cpu
from ropegen.templates.attend.layout_cpu import Problem
from ropegen.templates.attend.site import FAMILY

import ropegen as rg
from ropegen import masks
from ropegen.native import machine
from ropegen.native.ir import F32, I64, POINTER, Function, Module, Value
from ropegen.native.vectors import broadcast
from ropegen.target import VECTOR_UNITS, VectorUnit

pytestmark = needs_llvmlite


@dataclass(frozen=True)
class Loop:
    """The instructions of an innermost loop; `stack` are the registers that point to the stack of its function."""

    instructions: tuple[str, ...]
    stack: frozenset[str]

    @property
    def multiply_adds(self) -> int:
        """Of vectors, not of scalars."""
        return sum(bool(re.match(r"vfn?m(add|sub)\d+ps\b|fml[as]\s+v", text)) for text in self.instructions)

    @property
    def multiplied_pairs(self) -> int:
        """Instructions that multiply pairs of bfloat16."""
        return sum(text.startswith("vdpbf16ps ") for text in self.instructions)

    @property
    def spills(self) -> list[str]:
        """The instructions that load from or store to the stack."""
        memory = [(text, re.findall(r"[(\[]([^)\]]*)[)\]]", text)) for text in self.instructions]
        return [text for text, inside in memory if any(self.stack & set(re.findall(r"\w+", part)) for part in inside)]


def innermost_loops(assembly: str, function: str) -> list[Loop]:
    """The loops of a function that contain no other one: from the target of a jump backwards to the jump."""
    body = assembly.split(f"\n{function}:", 1)[1].split(".Lfunc_end", 1)[0]
    lines = [line.strip().replace("\t", " ") for line in body.splitlines() if line.strip()]
    copies = re.findall(r"movq %rsp, %(\w+)|(?:mov|add) (x29), sp", " ".join(lines))
    stack = frozenset(("rsp", "sp", *filter(None, itertools.chain.from_iterable(copies))))
    places = {line[:-1]: place for place, line in enumerate(lines) if line.startswith(".L") and line.endswith(":")}
    jumps = [(places[target], place) for place, line in enumerate(lines) for target in re.findall(r"\.LBB\w+$", line)]
    loops = [(start, end) for start, end in jumps if start <= end]
    inner = [
        (start, end)
        for start, end in loops
        if not any((start, end) != other and start <= other[0] and other[1] <= end for other in loops)
    ]
    code = [[line for line in lines[start : end + 1] if not line.startswith(".")] for start, end in inner]
    return [Loop(tuple(instructions), stack) for instructions in code]


def product(unit: VectorUnit, rows: int, columns: int, unrolled: int = 2) -> Function:
    """The sums over k of left[k, row] * right[k, lane], for a micro-tile of rows by columns registers."""
    parameters = [("left", POINTER), ("right", POINTER), ("out", POINTER), ("count", I64)]
    f = Module().function("product", None, parameters)
    left, right, out, count = f.parameters.values()
    kind = F32.vector(unit.lanes)

    def step(k: Value, *sums: Value) -> list[Value]:
        new = list(sums)
        for inner in range(unrolled):
            registers = [f.load(kind, right, ((k + inner) * columns + part) * unit.lanes) for part in range(columns)]
            for row in range(rows):
                scalar = broadcast(f, left, (k + inner) * rows + row, unit.lanes)
                for part, register in enumerate(registers):
                    place = row * columns + part
                    new[place] = f.fma(register, scalar, new[place])
        return new

    for place, total in enumerate(f.loop(0, count, unrolled, step, [f.zero(kind)] * (rows * columns))):
        f.store(total, out, place * unit.lanes)
    f.give_back()
    return f


def loops_of_product(unit: VectorUnit, rows: int) -> list[Loop]:
    f = product(unit, rows, unit.columns)
    return innermost_loops(machine.assembly(str(f.module), unit), f.name)


@pytest.mark.parametrize("unit", VECTOR_UNITS.values(), ids=VECTOR_UNITS)
def test_the_micro_tile_of_a_unit_fits_its_registers(unit: VectorUnit) -> None:
    (loop,) = loops_of_product(unit, unit.rows)
    assert loop.multiply_adds == 2 * unit.rows * unit.columns
    assert not loop.spills
    # Beside the multiply-adds there are a load for every register and scalar, and the counting.
    assert len(loop.instructions) <= loop.multiply_adds + 2 * (unit.columns + unit.rows) + 10


@pytest.mark.parametrize("unit", VECTOR_UNITS.values(), ids=VECTOR_UNITS)
def test_a_larger_micro_tile_is_seen_to_spill(unit: VectorUnit) -> None:
    """So the tests of spills can fail."""
    (loop,) = loops_of_product(unit, unit.rows * 3)
    assert loop.multiply_adds == 6 * unit.rows * unit.columns
    assert len(loop.spills) >= 4


def loops_of_attention(unit: VectorUnit, dtype: str, *, pairs: bool) -> list[Loop]:
    b = rg.Builder()
    q, k, v = (b.input(name, (1, 256, heads, 64), dtype) for name, heads in (("q", 4), ("k", 2), ("v", 2)))
    (region,) = FAMILY.find(b.build(out=b.attend(q, k, v, mask=masks.causal)))
    kernel = kernel_cpu.forward(Problem(region.closed, unit, 128, 4, 2, pairs))
    return innermost_loops(machine.assembly(kernel.text, unit), "attend")


@pytest.mark.parametrize("name", [name for name, unit in VECTOR_UNITS.items() if unit.pairs])
def test_pairs_of_bfloat16_take_one_instruction_and_do_not_spill(name: str) -> None:
    unit = VECTOR_UNITS[name]
    loops = loops_of_attention(unit, "bf16", pairs=True)
    tile = unit.rows * unit.columns
    products = [loop for loop in loops if loop.multiplied_pairs and loop.multiplied_pairs % tile == 0]
    assert len(products) >= 2  # scores and weighted values
    for loop in products:
        assert not loop.spills
        assert len(loop.instructions) < 2 * loop.multiplied_pairs


@pytest.mark.parametrize("unit", VECTOR_UNITS.values(), ids=VECTOR_UNITS)
def test_the_products_of_attention_do_not_spill(unit: VectorUnit) -> None:
    loops = loops_of_attention(unit, "f32", pairs=False)
    tile = unit.rows * unit.columns
    products = [loop for loop in loops if loop.multiply_adds and loop.multiply_adds % tile == 0]
    assert len(products) >= 2  # scores and weighted values
    for loop in products:
        assert not loop.spills
        # A load serves a whole row or column of multiply-adds, and counting costs little.
        assert len(loop.instructions) < 2 * loop.multiply_adds
