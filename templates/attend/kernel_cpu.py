"""The forward pass of the native attention.

Lanes are queries: a score's register holds one key and the queries of a panel. The scalar of a key is broadcast against
registers of queries, so the maximum, the sum and the rescaling need no horizontal operation, a mask compares a register
of query positions with one key position, and the weights lie as the second product reads them.

A wave packs the keys and values of some heads, then computes blocks of queries. A block visits the tiles of keys in
order, with an online softmax. The mask decides for every tile and panel, from the lowest and highest positions and
segments there, whether it is visited and whether its scores are masked.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from ropegen import masks
from ropegen.native import call
from ropegen.native.call import Kernel, Stage, Written, address, stage, written
from ropegen.native.ir import F32, I1, Function, Module, Number, Type, Value
from ropegen.native.vectors import LOG2_E, LOG_2, exp2, first_lanes, load_f32, log, store_f32

from .layout_cpu import GRANULE, Problem, operands_of, results_of
from .micro_cpu import Registers, Scalars, multiply
from .pack_cpu import Rows, pack_keys, pack_queries, pack_values, rows_of
from .scores_cpu import Scores, Span, Tile

LOWEST = float(np.finfo(np.float32).min)


@functools.lru_cache(maxsize=256)
def forward(problem: Problem) -> Written:
    """The kernel that computes the output and the log-sum-exp."""
    module = Module()
    _write_pack(module, problem)
    _write_attend(module, problem)
    stages = (
        Stage("pack", problem.wave_heads * problem.tiles),
        Stage("attend", problem.wave_heads * problem.group * problem.blocks),
    )
    return written(
        Kernel(
            "attend",
            module,
            operands_of(problem),
            results_of(problem),
            stages,
            problem.waves,
            problem.threads,
            problem.scratch_bytes,
        )
    )


@dataclass(frozen=True, slots=True)
class Place:
    """The head that an item works on, and the memory that it uses."""

    batch: Value
    kv_head: Value
    keys: Value
    """The address of the packed keys of the head."""
    values: Value
    slot: Value
    """The address of the memory of this thread."""

    @staticmethod
    def of(f: Function, problem: Problem, local: Value) -> Place:
        """The place of a key head, which `local` counts inside the wave."""
        scratch = call.scratch(f)
        wave, slot = f.parameters["wave"], f.parameters["slot"]
        head = wave * problem.wave_heads + local
        half = wave % 2 if problem.waves > 1 else f.i64(0)
        packed = f.offset(scratch, half * problem.wave_bytes)
        keys = f.offset(packed, local * problem.key_bytes)
        values = f.offset(packed, local * problem.value_bytes + problem.wave_heads * problem.key_bytes)
        own = f.offset(scratch, slot * problem.slot.size + min(2, problem.waves) * problem.wave_bytes)
        return Place(head // problem.kv_heads, head % problem.kv_heads, keys, values, own)

    def rows(self, f: Function, problem: Problem, name: str, head: Value) -> Rows:
        return rows_of(f, problem, name, self.batch, head)


def _write_pack(module: Module, problem: Problem) -> None:
    """Packs one tile of keys and values of one head."""
    f = stage(module, "pack")
    item = f.parameters["item"]
    local, tile = item // problem.tiles, item % problem.tiles
    place = Place.of(f, problem, local)
    first = tile * problem.keys_in_tile
    buffer = f.offset(place.slot, problem.slot.rows)
    keys, values = (place.rows(f, problem, name, place.kv_head) for name in ("k", "v"))
    # A wave has no more heads than there are, but the last wave has fewer.
    with f.when(place.batch < problem.batch), f.range(0, problem.keys_in_tile, problem.unit.rows) as row:
        at = tile * problem.value_tile + row * problem.unit.rows
        value_target = f.offset(place.values, at, F32)
        poison = pack_values(f, problem, values, buffer, first + row, value_target, cleans=problem.cleans)
        key_target = f.offset(place.keys, (first + row) * problem.packed_width, F32)
        pack_keys(f, problem, keys, buffer, first + row, key_target, poison)
    f.give_back()


def _write_attend(module: Module, problem: Problem) -> None:
    """Computes one block of queries of one head."""
    f = stage(module, "attend")
    item = f.parameters["item"]
    heads = problem.wave_heads * problem.group
    # The last blocks of a causal mask see most keys. They come first, so that the threads end together.
    block, local = problem.blocks - 1 - item // heads if _later_is_longer(problem) else item // heads, item % heads
    block = f.i64(block)
    place = Place.of(f, problem, local // problem.group)
    with f.when(place.batch < problem.batch):
        head = place.kv_head * problem.group + local % problem.group
        _Block(f, problem, place, head, block * (problem.panel * problem.panels)).compute()
    f.give_back()


def _later_is_longer(problem: Problem) -> bool:
    return "kv_pos" in masks.variables(problem.op.visible)


@dataclass(frozen=True, slots=True)
class _Block:
    """The code of one block of queries."""

    f: Function
    problem: Problem
    place: Place
    head: Value
    first: Value
    """The first query."""

    @property
    def _lanes(self) -> int:
        return self.problem.unit.lanes

    @property
    def _columns(self) -> int:
        return self.problem.unit.columns

    def _part(self, offset: int, panel: Value, width: int = 1) -> Value:
        """The address of a panel's part of the thread's memory, of `width` rows."""
        return self.f.offset(self.place.slot, panel * (width * self.problem.panel * 4) + offset)

    def compute(self) -> None:
        f, problem = self.f, self.problem
        size = problem.panel * problem.panels
        stop = f.minimum(self.first + size, problem.queries)
        panels = (stop - self.first + (problem.panel - 1)) // problem.panel
        self._prepare(panels)
        scores = Scores(f, problem, self.place.batch, self.head)
        whole = Span(self.first, stop)

        def visit(tile: Value) -> None:
            keys = Span(tile, f.minimum(tile + problem.keys_in_tile, problem.keys))
            with f.range(0, panels) as panel:
                first = self.first + panel * problem.panel
                rows = Span(first, f.minimum(first + problem.panel, problem.queries))
                if not problem.hides:
                    self._tile(scores, panel, Tile(rows, keys, self.place.slot), f.value(I1, 1))
                else:
                    some, every = scores.shown(rows, keys)
                    with f.when(some):
                        self._tile(scores, panel, Tile(rows, keys, self.place.slot), every)

        with f.range(0, problem.keys, problem.keys_in_tile) as tile:
            if not problem.hides:
                visit(tile)
            else:
                some, _ = scores.shown(whole, Span(tile, f.minimum(tile + problem.keys_in_tile, problem.keys)))
                with f.when(some):
                    visit(tile)
        with f.range(0, panels * self._columns) as group:
            self._finish(group)

    def _prepare(self, panels: Value) -> None:
        """Packs the queries, and clears the state."""
        f, problem, slot = self.f, self.problem, self.problem.slot
        rows = self.place.rows(f, problem, "q", self.head)
        factor = problem.op.scale * (LOG2_E if problem.is_simple else 1.0)
        kind = F32.vector(self._lanes)
        with f.range(0, panels * self._columns) as group:
            panel, column = group // self._columns, group % self._columns
            target = f.offset(self._part(slot.queries, panel, problem.packed_width), column * self._lanes, F32)
            first = self.first + group * self._lanes
            pack_queries(f, problem, rows, f.offset(self.place.slot, slot.rows), first, target, factor)
            at = group * self._lanes
            f.store(f.value(kind, LOWEST), f.offset(self.place.slot, slot.highest), at)
            f.store(f.zero(kind), f.offset(self.place.slot, slot.total), at)
        with f.range(0, panels * (problem.packed_value_width * problem.panel), self._lanes) as at:
            f.store(f.zero(kind), f.offset(self.place.slot, slot.results), at)

    # One panel and one tile ---------------------------------------------------------------------------------------

    def _tile(self, scores: Scores, panel: Value, tile: Tile, every: Value) -> None:
        """Adds a tile of keys to a panel; `every` says that the mask shows all of its scores."""
        f, slot = self.f, self.problem.slot
        kind = F32.vector(self._lanes)
        highest, total = self._part(slot.highest, panel), self._part(slot.total, panel)
        before = [f.load(kind, highest, part * self._lanes) for part in range(self._columns)]
        scores.load_panels(tile)
        start, stop, *after = self._scores(scores, panel, tile, every, before)
        for part, value in enumerate(after):
            f.store(value, highest, part * self._lanes)
        fade = [self._power(old - new) for old, new in zip(before, after, strict=True)]
        sums = [f.load(kind, total, part * self._lanes) * fade[part] for part in range(self._columns)]
        for part, value in enumerate(self._weights(start, stop, after, sums)):
            f.store(value, total, part * self._lanes)
        self._mix(panel, tile.keys.first, start, stop, fade)

    def _power(self, difference: Value) -> Value:
        """The weight of a score, from its difference to the highest score."""
        return exp2(self.f, difference if self.problem.is_simple else difference * LOG2_E)

    def _scores(self, scores: Scores, panel: Value, tile: Tile, every: Value, highest: list[Value]) -> list[Value]:
        """Writes the scores; returns the first key and the one after the last, inside the tile, and the maxima."""
        f, problem = self.f, self.problem
        keys, size = tile.keys, tile.keys.stop - tile.keys.first
        queries = self._part(problem.slot.queries, panel, problem.packed_width)
        packed = f.offset(self.place.keys, keys.first * problem.packed_width, F32)
        may_end_inside = problem.keys % GRANULE != 0

        def products(start: Value, stop: Value, *maxima: Value) -> list[Value]:
            def step(key: Value, *now: Value) -> list[Value]:
                return self._products(queries, packed, key, list(now))

            return f.loop(start, stop, problem.unit.rows, step, maxima)

        def granule(key: Value, first: Value, last: Value, *maxima: Value) -> list[Value]:
            part = Span(keys.first + key, f.minimum(keys.first + key + GRANULE, problem.keys))
            some, shown = f.value(I1, 1), f.value(I1, 1)
            if problem.hides:
                some, shown = scores.shown(tile.rows, part)
            if may_end_inside:
                shown = shown & (part.stop - part.first).equals(GRANULE)

            def computed() -> list[Value]:
                raised = products(key, key + GRANULE, *maxima)

                def modified(masked: bool) -> list[Value]:
                    return self._modify(scores, tile, key, masked, list(maxima))

                if problem.is_simple:
                    return f.branch(shown, lambda: raised, lambda: modified(True))
                return f.branch(shown, lambda: modified(False), lambda: modified(True))

            def seen() -> list[Value]:
                return [f.minimum(first, key), key + GRANULE, *computed()]

            def hidden() -> list[Value]:
                self._clear(key)
                return [first, last, *maxima]

            return f.branch(some, seen, hidden) if problem.hides else seen()

        def partly() -> list[Value]:
            start = [f.i64(problem.keys_in_tile), f.i64(0), *highest]
            return f.loop(0, size, GRANULE, granule, start)

        if not problem.is_simple or (not problem.hides and may_end_inside):
            return partly()

        def wholly() -> list[Value]:
            return [f.i64(0), size, *products(f.i64(0), size, *highest)]

        if not problem.hides:
            return wholly()
        if may_end_inside:
            every = every & (size.equals(problem.keys_in_tile))
        return f.branch(every, wholly, partly)

    def _products(self, queries: Value, keys: Value, key: Value, highest: list[Value]) -> list[Value]:
        """The scores of a micro-tile, from key `key` of the tile on; returns the raised maxima."""
        f, unit, panel = self.f, self.problem.unit, self.problem.panel
        kind = F32.vector(self._lanes)
        scalars = Scalars(f.offset(keys, key * self.problem.packed_width, F32), step=unit.rows, row=1)
        zeros = [f.zero(kind)] * (unit.rows * unit.columns)
        steps = (0, self.problem.packed_width)
        sums = multiply(f, scalars, Registers(queries, panel), steps, zeros, unit.columns)
        target = self._score(key)
        for at, value in enumerate(sums):
            row, part = divmod(at, unit.columns)
            f.store(value, target, row * panel + part * self._lanes)
            highest[part] = f.maximum(value, highest[part])
        return highest

    def _score(self, key: Value) -> Value:
        """The address of the scores of a key of the tile."""
        slot = self.f.offset(self.place.slot, self.problem.slot.scores)
        return self.f.offset(slot, key * self.problem.panel, F32)

    def _clear(self, key: Value) -> None:
        """Hides the scores of a granule."""
        f = self.f
        with f.range(0, GRANULE * self.problem.panel, self._lanes) as at:
            f.store(f.value(F32.vector(self._lanes), -math.inf), self._score(key), at)

    def _modify(self, scores: Scores, tile: Tile, first: Value, masked: bool, highest: list[Value]) -> list[Value]:
        """Applies soft-cap, bias, score expression and mask to a granule; returns the raised maxima."""
        f, kind = self.f, F32.vector(self._lanes)

        def row(key: Value, *maxima: Value) -> list[Value]:
            raised: list[Value] = []
            for part, most in enumerate(maxima):
                at = part * self._lanes
                score = scores.modified(f.load(kind, self._score(key), at), tile, key, part, masked=masked)
                f.store(score, self._score(key), at)
                raised.append(f.maximum(score, most))
            return raised

        return f.loop(first, first + GRANULE, 1, row, highest)

    def _weights(self, start: Value, stop: Value, highest: list[Value], sums: list[Value]) -> list[Value]:
        """Replaces scores by weights; returns the sums with the weights added."""
        f, panel, kind, unrolled = self.f, self.problem.panel, F32.vector(self._lanes), 4

        def column(part: int) -> Value:
            def step(key: Value, first: Value, second: Value) -> list[Value]:
                now = [first, second]
                for inner in range(unrolled):
                    at = inner * panel + part * self._lanes
                    weight = self._power(f.load(kind, self._score(key), at) - highest[part])
                    f.store(weight, self._score(key), at)
                    now[inner % 2] = now[inner % 2] + weight
                return now

            first, second = f.loop(start, stop, unrolled, step, [sums[part], f.zero(kind)])
            return first + second

        return [column(part) for part in range(self._columns)]

    def _mix(self, panel: Value, tile: Value, start: Value, stop: Value, fade: list[Value]) -> None:
        """Adds the weighted values of keys [start, stop) of the tile to the results, after fading them."""
        f, problem, unit = self.f, self.problem, self.problem.unit
        kind, width = F32.vector(self._lanes), problem.packed_value_width
        results = self._part(problem.slot.results, panel, width)
        values = f.offset(self.place.values, tile // problem.keys_in_tile * problem.value_tile, F32)
        weights = Registers(self._score(f.i64(0)), problem.panel)
        with f.range(0, width, unit.rows) as column:
            target = f.offset(results, column * problem.panel, F32)
            group = f.offset(values, column // unit.rows * problem.value_stride, F32)
            scalars = Scalars(group, step=unit.rows, row=1)
            places = [
                row * problem.panel + part * self._lanes for row in range(unit.rows) for part in range(unit.columns)
            ]
            faded = [f.load(kind, target, at) * fade[index % unit.columns] for index, at in enumerate(places)]
            sums = multiply(f, scalars, weights, (start, stop), faded, unit.columns, unrolled=4)
            for at, value in zip(places, sums, strict=True):
                f.store(value, target, at)

    # The results ------------------------------------------------------------------------------------------------------

    def _finish(self, group: Value) -> None:
        """Divides by the sums, and writes a register of queries to the output and the log-sum-exp."""
        f, problem, slot, lanes = self.f, self.problem, self.problem.slot, self._lanes
        kind = F32.vector(lanes)
        panel, column = group // self._columns, group % self._columns
        first = self.first + group * lanes
        highest = f.load(kind, f.offset(self.place.slot, slot.highest), group * lanes)
        total = f.load(kind, f.offset(self.place.slot, slot.total), group * lanes)
        factor = f.value(kind, 1.0)
        natural = highest * LOG_2 if problem.is_simple else highest
        sinks = problem.operand("sinks")
        if sinks is not None:
            sink = self._sink(sinks.index, sinks.dtype)
            raised = f.maximum(sink, natural)
            factor = exp2(f, (natural - raised) * LOG2_E)
            natural, total = raised, f.fma(total, factor, exp2(f, (sink - raised) * LOG2_E))
        unseen = total.equals(0.0)
        divisor = f.select(unseen, f.value(kind, 1.0), total)
        factor = factor / divisor
        logarithm = natural + log(f, divisor)
        logarithm = f.select(unseen, f.value(kind, -math.inf), logarithm)
        source = f.offset(self._part(slot.results, panel, problem.packed_value_width), column * lanes, F32)
        if problem.op.takes_mean:
            self._take_mean(source, unseen)
        outputs = len(problem.closed.inputs)
        output, lse = address(f, outputs), address(f, outputs + 1)
        row_of = (self.place.batch * problem.queries + first) * problem.heads + self.head
        for lane in range(lanes):
            with f.when(first + lane < problem.queries):
                f.store(f.extract(logarithm, lane), lse, row_of + lane * problem.heads)

        def write(column: Number, shown: Value | None) -> None:
            columns = [f.load(kind, source, (f.i64(column) + place) * problem.panel) * factor for place in range(lanes)]
            for lane, values in enumerate(f.transpose(columns)):
                with f.when(first + lane < problem.queries):
                    at = (row_of + lane * problem.heads) * problem.value_width + column
                    store_f32(f, problem.dtype, values, output, at, shown)

        whole = problem.value_width // lanes * lanes
        with f.range(0, whole, lanes) as feature:
            write(feature, None)
        if rest := problem.value_width - whole:
            write(whole, first_lanes(f, lanes, rest))

    def _sink(self, index: int, dtype: str) -> Value:
        f = self.f
        loaded = load_f32(f, dtype, 1, address(f, index), self.head)
        return f.splat(f.extract(loaded, 0), self._lanes)

    def _take_mean(self, source: Value, unseen: Value) -> None:
        """Replaces the results of queries that see no key by the mean of the values."""
        f, problem, lanes, group = self.f, self.problem, self._lanes, self.problem.unit.rows
        bits = f.bitcast(unseen, Type("int", lanes))
        with f.when(bits.differs(0)), f.range(0, problem.packed_value_width) as feature:
            zero = f.zero(F32)

            def tile(first: Value, total: Value, feature: Value = feature) -> list[Value]:
                at = first // problem.keys_in_tile * problem.value_tile + feature // group * problem.value_stride
                column = f.offset(self.place.values, at + feature % group, F32)

                def add(key: Value, part: Value) -> list[Value]:
                    return [part + f.load(F32, column, key * group)]

                (part,) = f.loop(0, problem.keys_in_tile, 1, add, [zero])
                return [total + part]

            (total,) = f.loop(0, problem.packed_keys, problem.keys_in_tile, tile, [zero])
            mean = f.splat(total * (1.0 / max(1, problem.keys)), lanes)
            at = feature * problem.panel
            f.store(f.select(unseen, mean, f.load(F32.vector(lanes), source, at)), source, at)
