"""The second stage of the native attention over a cache: it merges the partial results of the chunks, in their order."""

from __future__ import annotations

import math

from ropegen.native.call import address, stage
from ropegen.native.ir import F32, Function, Module, Number, Value
from ropegen.native.vectors import LOG2_E, LOG_2, MEMORY, broadcast, exp2, load_f32, log

from .kernel_cpu import LOWEST
from .layout_decode_cpu import Decode, Part, cache_of


def write_merge(module: Module, sizes: Decode) -> None:
    """Merges the partial results of one key head."""
    f = stage(module, "merge")
    problem, item = sizes.problem, f.parameters["item"]
    batch, kv_head = item // problem.kv_heads, item % problem.kv_heads
    with f.range(0, sizes.rows) as row:
        _merge_row(f, sizes, batch, kv_head, row)
    f.give_back()


def _merge_row(f: Function, sizes: Decode, batch: Value, kv_head: Value, row: Value) -> None:
    problem, lanes = sizes.problem, sizes.problem.unit.lanes
    kind = F32.vector(lanes)
    head = kv_head * problem.group + row % problem.group
    place = (batch * problem.queries + row // problem.group) * problem.heads + head
    first, line = Part.of(f, sizes, batch, f.i64(0)), kv_head * sizes.padded_rows + row

    def power(difference: Value) -> Value:
        return exp2(f, difference if problem.is_simple else difference * LOG2_E)

    def raise_to(chunk: Value, most: Value) -> list[Value]:
        part = Part.of(f, sizes, batch, chunk)
        return [f.maximum(f.load(F32, part.highest, line), most)]

    (most,) = f.loop(0, sizes.chunks, 1, raise_to, [f.value(F32, LOWEST)])
    highest = f.splat(most, lanes)

    def add(chunk: Value, total: Value) -> list[Value]:
        part = Part.of(f, sizes, batch, chunk)
        of_part = f.load(F32, part.total, line)

        def merged() -> list[Value]:
            share = power(broadcast(f, part.highest, line, lanes) - highest)
            target, source = first.result(line), part.result(line)
            with f.range(0, sizes.values.padded, lanes) as at:
                scaled = f.load(kind, source, at) * share
                already = f.select(f.splat(total.equals(0.0), lanes), f.zero(kind), f.load(kind, target, at))
                f.store(already + scaled, target, at)
            return [total + of_part * f.extract(share, 0)]

        return f.branch(of_part.equals(0.0), lambda: [total], merged)

    (added,) = f.loop(0, sizes.chunks, 1, add, [f.zero(F32)])
    total, factor = f.splat(added, lanes), f.value(kind, 1.0)
    natural = highest * LOG_2 if problem.is_simple else highest
    sinks = problem.operand("sinks")
    if sinks is not None:
        sink = f.splat(f.extract(load_f32(f, sinks.dtype, 1, address(f, sinks.index), head), 0), lanes)
        raised = f.maximum(sink, natural)
        factor = exp2(f, (natural - raised) * LOG2_E)
        natural, total = raised, f.fma(total, factor, exp2(f, (sink - raised) * LOG2_E))
    unseen = total.equals(0.0)
    divisor = f.select(unseen, f.value(kind, 1.0), total)
    logarithm = f.select(unseen, f.value(kind, -math.inf), natural + log(f, divisor))
    outputs = len(problem.closed.inputs)
    f.store(f.extract(logarithm, 0), address(f, outputs + 1), place)
    # Nobody has written the sums of a row that sees no key, also where a sink gives it a denominator.
    with f.when(added.equals(0.0)), f.range(0, sizes.values.padded, lanes) as at:
        f.store(f.zero(kind), first.result(line), at)
    if problem.op.takes_mean:
        with f.when(f.extract(unseen, 0)):
            _add_values(f, sizes, batch, kv_head, first.result(line))
        factor = f.select(unseen, f.value(kind, 1.0 / max(1, problem.keys)), factor)
    target = f.offset(address(f, outputs), place * problem.value_width, MEMORY[problem.dtype])
    sizes.values.write(f, first.result(line), factor / divisor, target)


def _add_values(f: Function, sizes: Decode, batch: Value, kv_head: Value, target: Value) -> None:
    """Adds all values of a key head, hidden ones too, to the registers at `target`."""
    features, kind = sizes.values, F32.vector(sizes.problem.unit.lanes)
    base = cache_of(f, sizes, "v", batch)

    def add(register: Value, index: Number) -> None:
        at = f.i64(index) * features.lanes
        f.store(f.load(kind, target, at) + register, target, at)

    with f.range(0, sizes.problem.keys) as key:
        row = f.offset(base, (key * sizes.problem.kv_heads + kv_head) * features.width, MEMORY[features.dtype])
        with f.range(0, features.steps) as step:
            for place, register in enumerate(features.load_step(f, row, step)):
                add(register, step * features.in_step + place)
        for place, tail in enumerate(features.tails, features.steps * features.in_step):
            loaded = features.load_tail(f, row, tail)
            for more, register in enumerate(loaded if isinstance(loaded, list) else [loaded]):
                add(register, place + more)
