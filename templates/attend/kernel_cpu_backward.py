"""The backward pass of the native attention: the cotangents of q, k, v and bias, and what that of the sinks is made of.

With the weights p = exp(score - log-sum-exp), the cotangent dO of the output, dp = dO v and the drag = O dO - d_lse of a
query: ds = p (dp - drag), dv = p dO, dk = scale ds q, dq = scale ds k, as in FlashAttention (Dao 2023). Five products for
every tile of keys and block of queries, all by the micro-tile of `micro_cpu`:

- scores and dp have queries as lanes, as in the forward pass, and so have weights and ds, which are made in place;
- dv, dk and dq have features as lanes: the weights and ds are their scalars, as they lie.

The stages of a wave: `prepare` computes the drag, `pull` the cotangents, of one strip of keys after the other, and
`finish` adds the copies of dq, turns them backwards and rounds them. `layout_cpu_backward` says what is where.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ropegen.native import call
from ropegen.native.call import Kernel, Stage, Written, address, stage, written
from ropegen.native.ir import F32, I1, I64, Function, Module, Type, Value
from ropegen.native.vectors import LOG2_E, exp2, first_lanes

from .layout_cpu import GRANULE, Problem
from .layout_cpu_backward import Gradient, groups
from .micro_cpu import Registers, Scalars, multiply
from .pack_cpu import Rows, batch_row, clean, lay_rows, pack_keys, pack_queries, rows_of
from .scores_cpu import Scores, Span, Tile


@functools.lru_cache(maxsize=256)
def backward(gradient: Gradient) -> Written:
    """The kernel from `gradient.operands` to `gradient.results`."""
    problem, module = gradient.problem, Module()
    _write_prepare(module, gradient)
    _write_pull(module, gradient)
    _write_finish(module, gradient)
    blocks = gradient.wave_heads * problem.group * problem.blocks
    stages = (
        Stage("prepare", blocks),
        Stage("pull", gradient.wave_heads // gradient.item_heads * gradient.chunks),
        Stage("finish", blocks),
    )
    buffers, waves = (gradient.operands, gradient.results), gradient.waves
    memory = gradient.scratch_bytes
    return written(
        Kernel("attend_backward", module, *buffers, stages, waves, problem.threads, memory, gradient.waves_at_once)
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """The key head that an item works on, and the memory that it uses."""

    f: Function
    gradient: Gradient
    batch: Value
    kv_head: Value
    local: Value
    """The number of the key head in the wave."""
    wave: Value
    """The address of the memory of the wave."""
    slot: Value
    """The address of the memory of the item."""

    @staticmethod
    def of(f: Function, gradient: Gradient, local: Value) -> _Place:
        problem = gradient.problem
        scratch = call.scratch(f)
        wave, slot = f.parameters["wave"], f.parameters["slot"]
        head = wave * gradient.wave_heads + local
        part = wave % gradient.waves_at_once
        start = f.offset(scratch, part * gradient.wave_bytes)
        own = f.offset(scratch, slot * gradient.slot["end"] + gradient.waves_at_once * gradient.wave_bytes)
        return _Place(f, gradient, head // problem.kv_heads, head % problem.kv_heads, local, start, own)

    def head(self, member: Value) -> Value:
        """A query head of the group, among all heads."""
        return self.kv_head * self.gradient.problem.group + member

    def of_head(self, name: str, member: Value) -> Value:
        """The address of what the wave has for a query head of the group."""
        sizes, group = self.gradient.of_query_head, self.gradient.problem.group
        before = 0
        for other, size in sizes.items():
            if other == name:
                break
            before += size * group * self.gradient.wave_heads
        return self.f.offset(self.wave, (self.local * group + member) * sizes[name] + before)

    def own(self, name: str) -> Value:
        """The address of a part of the item's memory."""
        return self.f.offset(self.slot, self.gradient.slot[name])

    def buffer(self, name: str) -> Value:
        return address(self.f, self.gradient.index(name))

    def rows(self, name: str, head: Value, buffer: str | None = None) -> Rows:
        base = None if buffer is None else self.buffer(buffer)
        return rows_of(self.f, self.gradient.problem, name, self.batch, head, base)


def _of_block(f: Function, gradient: Gradient) -> tuple[_Place, Value, Value]:
    """The place of an item that is a block of queries, its query head in the group, and the first query."""
    problem, item = gradient.problem, f.parameters["item"]
    heads = gradient.wave_heads * problem.group
    local, block = item % heads, item // heads
    return _Place.of(f, gradient, local // problem.group), local % problem.group, block * gradient.block


# Before: the drag -----------------------------------------------------------------------------------------------------


def _write_prepare(module: Module, gradient: Gradient) -> None:
    f = stage(module, "prepare")
    place, member, first = _of_block(f, gradient)
    with f.when(place.batch < gradient.problem.batch):
        _prepare(f, gradient, place, member, first)
    f.give_back()


def _prepare(f: Function, gradient: Gradient, place: _Place, member: Value, first: Value) -> None:
    """Writes shift and drag of a block of queries, and clears the bias' cotangent there."""
    problem, head = gradient.problem, place.head(member)
    shifts, drags = place.of_head("shift", member), place.of_head("drag", member)
    row, unit = f.offset(place.slot, problem.slot.rows), LOG2_E if problem.is_simple else 1.0
    unseen = f.offset(place.of_head("unseen", member), first // gradient.block * problem.packed_value_width, F32)
    if problem.op.takes_mean:
        _clear(f, unseen, problem.packed_value_width, problem.unit.lanes)
    outputs, d_outputs = (place.rows("output", head, name) for name in ("output", "d_output"))
    with f.range(first, first + gradient.block) as query:

        def inside(query: Value = query) -> list[Value]:
            at = (place.batch * problem.queries + query) * problem.heads + head
            lse = f.load(F32, place.buffer("lse"), at)
            drag = outputs.dot(d_outputs, query, row) - f.load(F32, place.buffer("d_lse"), at)
            if "sinks" in problem.op.given:
                f.store(drag, place.buffer("drag"), at)
            sees_nothing = lse.equals(-math.inf)
            shift = lse * unit
            if problem.cleans:
                # A row with NaN has the weight NaN at what it sees, and 0 elsewhere.
                shift = shift + ((lse - lse) + (drag - drag))
                drag = f.select((drag - drag).equals(0.0), drag, f.zero(F32))
            if problem.op.takes_mean:
                with f.when(sees_nothing):
                    d_outputs.add_to(query, unseen)
            return [f.select(sees_nothing, f.value(F32, math.inf), shift), drag]

        def outside() -> list[Value]:
            return [f.value(F32, math.inf), f.zero(F32)]

        shift, drag = f.branch(query < problem.queries, inside, outside)
        f.store(shift, shifts, query)
        f.store(drag, drags, query)
    if gradient.has_bias_matrix:
        rows = _bias_rows(f, gradient, place, head)
        stop = f.minimum(first + gradient.block, problem.queries)
        with f.range(first * problem.keys, stop * problem.keys) as at:
            f.store(f.zero(F32), rows, at)


def _clear(f: Function, target: Value, count: int, lanes: int) -> None:
    with f.range(0, count, lanes) as at:
        f.store(f.zero(F32.vector(lanes)), target, at)


def _bias_rows(f: Function, gradient: Gradient, place: _Place, head: Value) -> Value:
    """The address of the cotangent (queries, keys) of the head's part of a bias."""
    heads, queries, keys = gradient.bias.shape
    row = batch_row(f, gradient.bias, place.batch) * heads
    return f.offset(place.buffer("d_bias"), (row + head if heads > 1 else row) * (queries * keys), F32)


# The cotangents -------------------------------------------------------------------------------------------------------


def _write_pull(module: Module, gradient: Gradient) -> None:
    f = stage(module, "pull")
    item, heads = f.parameters["item"], gradient.item_heads
    first, chunk = item // gradient.chunks * heads, item % gradient.chunks
    with f.range(first, first + heads) as local:
        place = _Place.of(f, gradient, local)
        with f.when(place.batch < gradient.problem.batch):
            _Chunk(f, gradient, place, chunk).compute()
    f.give_back()


@dataclass(frozen=True, slots=True)
class _Chunk:
    """The code of one item: some strips of the keys of one head."""

    f: Function
    gradient: Gradient
    place: _Place
    chunk: Value

    @property
    def _problem(self) -> Problem:
        return self.gradient.problem

    def compute(self) -> None:
        f, gradient, problem = self.f, self.gradient, self._problem
        lanes = problem.unit.lanes
        with f.range(0, problem.group) as member:
            _clear(f, self._d_queries(member), gradient.padded_queries * problem.packed_width, lanes)
        if problem.op.takes_mean:
            self._take_mean()
        with f.range(self.chunk * gradient.strip, problem.keys, gradient.chunks * gradient.strip) as first:
            stop = f.minimum(first + gradient.strip, problem.keys)
            self._pack(first, stop)
            with f.range(0, problem.group) as member:
                block = _Block(f, gradient, self.place, self.chunk, member, Span(first, stop))
                block.clear_sums()
                with f.range(0, problem.queries, gradient.block) as query:
                    block.compute(query)
            self._write(first, stop)

    def _d_queries(self, member: Value) -> Value:
        rows = self.chunk * (self.gradient.padded_queries * self._problem.packed_width)
        return self.f.offset(self.place.of_head("d_queries", member), rows, F32)

    def _take_mean(self) -> None:
        """Adds what rows that see no key give to every value: their result is the mean of the values."""
        f, problem, place = self.f, self._problem, self.place
        lanes, width, mean = problem.unit.lanes, problem.packed_value_width, place.own("mean")
        kind = F32.vector(lanes)
        with f.range(0, width, lanes) as column:

            def block(number: Value, sum_: Value, column: Value = column) -> list[Value]:
                member, of_head = number // problem.blocks, number % problem.blocks
                return [sum_ + f.load(kind, place.of_head("unseen", member), of_head * width + column)]

            (total,) = f.loop(0, problem.group * problem.blocks, 1, block, [f.zero(kind)])
            f.store(total * (1.0 / problem.keys), mean, column)

    def _pack(self, first: Value, stop: Value) -> None:
        """Packs the keys and values of a strip up to whole granules, and clears their cotangents."""
        f, problem, place = self.f, self._problem, self.place
        lanes, rows, tile = problem.unit.lanes, problem.unit.rows, problem.keys_in_tile
        buffer = f.offset(place.slot, problem.slot.rows)
        keys, values = (place.rows(name, place.kv_head) for name in "kv")
        columns = groups(problem.packed_width, problem.panel)
        padded = (stop - first + (GRANULE - 1)) // GRANULE * GRANULE
        with f.range(0, padded, rows) as row:
            value_target = f.offset(place.own("values"), row * problem.packed_value_steps, F32)
            poison = pack_keys(f, problem, values, buffer, first + row, value_target, cleans=problem.cleans)
            key_target = f.offset(place.own("keys"), row * problem.packed_steps, F32)
            pack_keys(f, problem, keys, buffer, first + row, key_target, poison)
            if problem.cleans:
                clean(f, buffer, rows, keys.padded, lanes)
            of_tile = f.offset(place.own("key_rows"), row // tile * (tile * problem.packed_width), F32)
            lay_rows(f, buffer, keys.padded, columns, lanes, rows, of_tile, row % tile, tile)
        for name, width in (("d_keys", problem.packed_width), ("d_values", problem.packed_value_width)):
            with f.range(0, padded * width, lanes) as at:
                f.store(f.zero(F32.vector(lanes)), place.own(name), at)

    def _write(self, first: Value, stop: Value) -> None:
        """Writes the cotangents of the strip's keys and values."""
        f, problem, place = self.f, self._problem, self.place
        lanes, width = problem.unit.lanes, problem.packed_value_width
        kind = F32.vector(lanes)
        keys, values = (place.rows(name, place.kv_head, f"d_{name}") for name in "kv")
        with f.range(0, stop - first) as row:
            keys.write(first + row, f.offset(place.own("d_keys"), row * problem.packed_width, F32))
            of_value = f.offset(place.own("d_values"), row * width, F32)
            if problem.op.takes_mean:
                for column in range(0, width, lanes):
                    mean = f.load(kind, place.own("mean"), column)
                    f.store(f.load(kind, of_value, column) + mean, of_value, column)
            values.write(first + row, of_value)


@dataclass(frozen=True, slots=True)
class _Block:
    """The code for a strip of keys and the queries of one head, a block of them after the other."""

    f: Function
    gradient: Gradient
    place: _Place
    chunk: Value
    member: Value
    strip: Span

    @property
    def _problem(self) -> Problem:
        return self.gradient.problem

    @property
    def _lanes(self) -> int:
        return self._problem.unit.lanes

    @property
    def _columns(self) -> int:
        return self._problem.unit.columns

    @property
    def head(self) -> Value:
        return self.place.head(self.member)

    def compute(self, first: Value) -> None:
        """Adds the block of queries from `first` on."""
        f, problem, place = self.f, self._problem, self.place
        stop = f.minimum(first + self.gradient.block, problem.queries)
        panels = (stop - first + (problem.panel - 1)) // problem.panel
        scores = Scores(f, problem, place.batch, self.head)
        rows = Span(first, stop)

        def visit() -> None:
            self._pack(first, panels)
            with f.range(self.strip.first, self.strip.stop, problem.keys_in_tile) as key:
                keys = Span(key, f.minimum(key + problem.keys_in_tile, problem.keys))
                if not problem.hides:
                    self._tile(scores, rows, keys, panels)
                else:
                    some, _ = scores.shown(rows, keys)
                    with f.when(some):
                        self._tile(scores, rows, keys, panels)

        if not problem.hides:
            visit()
        else:
            some, _ = scores.shown(rows, self.strip)
            with f.when(some):
                visit()

    def _pack(self, first: Value, panels: Value) -> None:
        """Packs the queries and the cotangents of the output, as columns of panels and as rows."""
        f, problem, place = self.f, self._problem, self.place
        buffer = f.offset(place.slot, problem.slot.rows)
        unit, scale = LOG2_E if problem.is_simple else 1.0, problem.op.scale
        # The factors of the queries when they are packed, and after that. Pairs of bfloat16 would be rounded once more.
        packed, then = (1.0, scale) if problem.pairs else (scale * unit, 1.0 / unit)
        queries, d_outputs = place.rows("q", self.head), place.rows("output", self.head, "d_output")
        with f.range(0, panels * self._columns) as group:
            for rows, width, target, laid, factors in (
                (
                    queries,
                    problem.packed_width,
                    f.offset(place.slot, problem.slot.queries),
                    "query_rows",
                    (packed, then),
                ),
                (d_outputs, problem.packed_value_width, place.own("d_outputs"), "d_output_rows", (1.0, 1.0)),
            ):
                panel, column = group // self._columns, group % self._columns
                at = panel * (rows.steps * problem.panel) + column * self._lanes
                place_of = f.offset(target, at, F32)
                row, cleans = first + group * self._lanes, problem.cleans
                pack_queries(f, problem, rows, buffer, row, place_of, factors[0], cleans=cleans)
                columns, length = groups(width, problem.panel), self.gradient.block
                at, laid_rows = group * self._lanes, place.own(laid)
                lay_rows(f, buffer, rows.padded, columns, self._lanes, self._lanes, laid_rows, at, length, factors[1])

    # One tile ---------------------------------------------------------------------------------------------------------

    def _tile(self, scores: Scores, rows: Span, keys: Span, panels: Value) -> None:
        f, problem, place = self.f, self._problem, self.place
        marks = place.own("panels")
        for granule in range(problem.keys_in_tile // GRANULE):
            f.store(f.i64(problem.panels), marks, 2 * granule)
            f.store(f.i64(0), marks, 2 * granule + 1)
        with f.range(0, panels) as panel:
            first = rows.first + panel * problem.panel
            queries = Span(first, f.minimum(first + problem.panel, problem.queries))
            part = _Panel(self, scores, panel, Tile(queries, keys, place.slot))
            if not problem.hides:
                part.compute(f.value(I1, 1))
            else:
                some, every = scores.shown(queries, keys)
                f.branch(some, functools.partial(part.compute, every), part.clear)
        self._add_to_keys(keys)

    def _add_to_keys(self, keys: Span) -> None:
        """Adds dv and dk of the tile, of the panels that have weights."""
        f, problem, place = self.f, self._problem, self.place
        tile = keys.first - self.strip.first
        with f.range(0, keys.stop - keys.first, GRANULE) as key:
            marks = f.offset(place.own("panels"), key // GRANULE * 2, I64)
            steps = f.load(I64, marks) * problem.panel, f.load(I64, marks, 1) * problem.panel
            with f.when(steps[0] < steps[1]):
                self._add_to_granule(key, tile, steps)

    def _add_to_granule(self, key: Value, tile: Value, steps: tuple[Value, Value]) -> None:
        f, problem, place, row = self.f, self._problem, self.place, self.gradient.row
        of_values = "weights", "d_output_rows", "d_values"
        of_keys = "d_scores", "query_rows", "d_keys"

        def add(scalars: Value, rows: Value, target: Value, width: int) -> None:
            read = Scalars(f.offset(scalars, key * row, F32), step=1, row=row)
            place_of = f.offset(target, (tile + key) * width, F32)
            self.add(read, GRANULE, rows, self.gradient.block, steps, place_of, width)

        width, value_width = problem.packed_width, problem.packed_value_width
        if width != value_width:
            for names, own_width in ((of_values, value_width), (of_keys, width)):
                scalars, rows, target = map(place.own, names)
                add(scalars, rows, target, own_width)
            return
        # One loop for both products: the code of a micro-tile is long.
        with f.range(0, 2) as number:
            first = number.equals(0)
            pairs = zip(map(place.own, of_values), map(place.own, of_keys), strict=True)
            scalars, rows, target = (f.select(first, one, other) for one, other in pairs)
            add(scalars, rows, target, width)

    def add(
        self,
        scalars: Scalars,
        rows: int,
        laid: Value,
        length: int,
        steps: tuple[Value, Value],
        target: Value,
        width: int,
    ) -> None:
        """target[row, column] += the sum over steps of scalars[step, row] * laid[step, column], for all `rows`.

        `laid` lies as `lay_rows` lays it, with `length` rows. The sum of a tile is added as a whole, so that long
        sequences have small rounding errors.
        """
        f, unit = self.f, self._problem.unit
        kind = F32.vector(self._lanes)

        def tiles(first: Value, column: Value, size: int) -> None:
            of_group = Registers(f.offset(laid, column * length, F32), size)
            count = size // self._lanes
            of_rows = Scalars(f.offset(scalars.address, first * scalars.row, F32), scalars.step, scalars.row)
            sums = multiply(f, of_rows, of_group, steps, [f.zero(kind)] * (unit.rows * count), count)
            place = f.offset(target, first * width + column, F32)
            for at, value in enumerate(sums):
                number = at // count * width + at % count * self._lanes
                f.store(f.load(kind, place, number) + value, place, number)

        self._each_group(width, lambda column, size: self._each_row(rows, lambda row: tiles(row, column, size)))

    def _each_group(self, width: int, one: Callable[[Value, int], None]) -> None:
        f, size = self.f, self._problem.panel
        if width >= size:
            with f.range(0, width // size * size, size) as column:
                one(column, size)
        if rest := width % size:
            one(f.i64(width - rest), rest)

    def _each_row(self, rows: int, one: Callable[[Value], None]) -> None:
        with self.f.range(0, rows, self._problem.unit.rows) as row:
            one(row)

    def clear_sums(self) -> None:
        """Clears the sums for a bias that has no number for every score."""
        f, gradient = self.f, self.gradient
        if not gradient.wants_bias:
            return
        lanes = self._lanes
        _, queries, keys = gradient.bias.shape
        if keys == 1:
            with f.when(self.strip.first.equals(self.chunk * gradient.strip)):
                _clear(f, self.bias_sums(), gradient.padded_queries, lanes)
        elif queries == 1:
            with f.range(self.strip.first, self.strip.stop) as key:
                f.store(f.zero(F32), self.bias_sums(), key)

    def bias_sums(self) -> Value:
        """The address of the sums of the head, one for every key, or one for every query."""
        f, gradient, problem = self.f, self.gradient, self._problem
        number = self.place.batch * problem.heads + self.head
        *_, length = gradient.bias_shape
        if gradient.bias.shape[2] == 1:
            number = number + self.chunk * (problem.batch * problem.heads)
        return f.offset(self.place.buffer("d_bias"), number * length, F32)


@dataclass(frozen=True, slots=True)
class _Panel:
    """The code of a panel of queries and a tile of keys."""

    block: _Block
    scores: Scores
    number: Value
    """The panel's number in the block."""
    tile: Tile

    @property
    def _f(self) -> Function:
        return self.block.f

    @property
    def _gradient(self) -> Gradient:
        return self.block.gradient

    @property
    def _problem(self) -> Problem:
        return self.block.gradient.problem

    @property
    def _kind(self) -> Type:
        return F32.vector(self._problem.unit.lanes)

    def _scores(self, name: str, key: Value) -> Value:
        """The address of the weights or cotangents of a key of the tile."""
        at = key * self._gradient.row + self.number * self._problem.panel
        return self._f.offset(self.block.place.own(name), at, F32)

    def clear(self) -> None:
        """Hides the whole panel."""
        with self._f.range(0, self.tile.keys.stop - self.tile.keys.first, GRANULE) as key:
            self._clear_granule(key)

    def _clear_granule(self, key: Value) -> None:
        f, problem = self._f, self._problem
        with f.range(key, key + GRANULE) as row:
            for name in ("weights", "d_scores"):
                _clear(f, self._scores(name, row), problem.panel, problem.unit.lanes)

    def compute(self, every: Value) -> None:
        """Makes the weights and the cotangents of the scores, and adds dq; `every` says that the mask shows them all."""
        f, problem = self._f, self._problem
        self.scores.load_panels(self.tile)
        keys = self.tile.keys

        def granule(key: Value, first: Value, stop: Value) -> list[Value]:
            part = Span(keys.first + key, f.minimum(keys.first + key + GRANULE, problem.keys))
            some, shown = f.value(I1, 1), every
            if problem.hides:
                some, shown = self.scores.shown(self.tile.rows, part)
            if problem.keys % GRANULE:
                shown = shown & (part.stop - part.first).equals(GRANULE)

            def seen() -> list[Value]:
                self._mark(key)
                self._multiply(key)
                f.branch(shown, lambda: self._weigh(key, False), lambda: self._weigh(key, True))
                return [f.minimum(first, key), key + GRANULE]

            def hidden() -> list[Value]:
                self._clear_granule(key)
                return [first, stop]

            return f.branch(some, seen, hidden) if problem.hides else seen()

        none = [f.i64(problem.keys_in_tile), f.i64(0)]
        start, stop = f.loop(0, keys.stop - keys.first, GRANULE, granule, none)
        self._add_to_queries(start, stop)
        if self._gradient.has_bias_matrix:
            self._add_to_bias(start, stop)

    def _mark(self, key: Value) -> None:
        """Notes that a granule has weights in this panel."""
        f = self._f
        marks = f.offset(self.block.place.own("panels"), key // GRANULE * 2, I64)
        f.store(f.minimum(f.load(I64, marks), self.number), marks)
        f.store(self.number + 1, marks, 1)

    def _multiply(self, key: Value) -> None:
        """Writes the products of a granule where weights and cotangents of the scores lie: q . k, and dO . v."""
        f, problem, place = self._f, self._problem, self.block.place
        unit, panel = problem.unit, problem.panel
        strip = self.tile.keys.first - self.block.strip.first + key
        queries = f.offset(place.slot, problem.slot.queries)
        widths, pairs = (problem.packed_steps, problem.packed_value_steps), problem.pairs
        unscaled = problem.op.scale * (LOG2_E if problem.is_simple else 1.0) if pairs else 1.0
        # One loop for both products: the code of a micro-tile is long.
        with f.range(0, 2) as number:
            first = number.equals(0)
            width = widths[0] if widths[0] == widths[1] else f.select(first, f.i64(widths[0]), widths[1])
            packed = f.select(first, place.own("keys"), place.own("values"))
            columns = f.select(first, queries, place.own("d_outputs"))
            target = f.select(first, self._scores("weights", key), self._scores("d_scores", key))
            registers = Registers(f.offset(columns, self.number * (width * panel), F32), panel)
            with f.range(0, GRANULE, unit.rows) as row:
                scalars = Scalars(f.offset(packed, (strip + row) * width, F32), step=unit.rows, row=1)
                zeros = [f.zero(self._kind)] * (unit.rows * unit.columns)
                products = multiply(f, scalars, registers, (0, width), zeros, unit.columns, pairs=pairs)
                if unscaled != 1.0:
                    factor = f.splat(f.select(first, f.value(F32, unscaled), 1.0), unit.lanes)
                    products = [value * factor for value in products]
                for at, value in enumerate(products):
                    place_of = (row + at // unit.columns) * self._gradient.row + at % unit.columns * unit.lanes
                    f.store(value, target, place_of)

    def _weigh(self, first: Value, masked: bool) -> None:
        """Replaces the products of a granule by weights and cotangents of the products."""
        f, problem, unit = self._f, self._problem, self._problem.unit
        lanes, kind = unit.lanes, self._kind

        def of_queries(name: str) -> list[Value]:
            array = self.block.place.of_head(name, self.block.member)
            return [f.load(kind, array, self.tile.rows.first + part * lanes) for part in range(unit.columns)]

        shifts, drags = of_queries("shift"), of_queries("drag")
        with f.range(first, first + GRANULE) as key:
            weights, d_scores = self._scores("weights", key), self._scores("d_scores", key)
            biased: list[Value] = []
            for part in range(unit.columns):
                at = part * lanes
                score, slope, capped = f.load(kind, weights, at), None, None
                if not problem.is_simple:
                    score, slope, capped = self.scores.sloped(score, self.tile, key, part, masked=masked)
                elif masked:
                    score = self.scores.modified(score, self.tile, key, part, masked=True)
                difference = score - shifts[part]
                weight = exp2(f, difference if problem.is_simple else difference * LOG2_E)
                if masked and problem.cleans:
                    weight = f.select(score.equals(-math.inf), f.zero(kind), weight)
                pulled = weight * (f.load(kind, d_scores, at) - drags[part])
                if slope is not None:
                    # The expression may have no finite derivative at a hidden score.
                    pulled = f.select(pulled.equals(0.0), f.zero(kind), pulled * slope)
                biased.append(pulled)
                f.store(weight, weights, at)
                if capped is not None:
                    bent = pulled * capped
                    if masked and problem.cleans:  # the cap of a NaN has no finite slope
                        bent = f.select(pulled.equals(0.0), f.zero(kind), bent)
                    pulled = bent
                f.store(pulled, d_scores, at)
            if self._gradient.wants_bias:
                self._sum_bias(key, biased)

    def _add_to_queries(self, start: Value, stop: Value) -> None:
        """Adds dq of the panel, of keys [start, stop) of the tile."""
        f, problem, block = self._f, self._problem, self.block
        width = problem.packed_width
        copy = block.chunk * self._gradient.padded_queries + self.tile.rows.first
        target = f.offset(block.place.of_head("d_queries", block.member), copy * width, F32)
        strip = self.tile.keys.first - block.strip.first
        laid = f.offset(block.place.own("key_rows"), strip * width, F32)
        scalars = Scalars(self._scores("d_scores", f.i64(0)), step=self._gradient.row, row=1)
        with f.when(start < stop):
            block.add(scalars, problem.panel, laid, problem.keys_in_tile, (start, stop), target, width)

    # The bias ---------------------------------------------------------------------------------------------------------

    def _sum_bias(self, key: Value, pulled: Sequence[Value]) -> None:
        """Adds the cotangents of a key's scores with bias, or keeps them for `_add_to_bias`."""
        f, problem, lanes = self._f, self._problem, self._problem.unit.lanes
        _, queries, keys = self._gradient.bias.shape
        if keys > 1 and queries > 1:
            for part, value in enumerate(pulled):
                f.store(value, self.block.place.own("d_bias"), key * problem.panel + part * lanes)
            return
        sums = self.block.bias_sums()
        if keys == 1:
            for part, value in enumerate(pulled):
                at = self.tile.rows.first + part * lanes
                f.store(f.load(self._kind, sums, at) + value, sums, at)
            return
        at = self.tile.keys.first + key
        total = f.reduce("add", functools.reduce(lambda x, y: x + y, pulled))
        f.store(f.load(F32, sums, at) + total, sums, at)

    def _add_to_bias(self, start: Value, stop: Value) -> None:
        """Adds the kept cotangents of keys [start, stop) of the tile to the bias' own, turned to (queries, keys)."""
        f, problem, lanes = self._f, self._problem, self._problem.unit.lanes
        rows = _bias_rows(f, self._gradient, self.block.place, self.block.head)
        kept = self.block.place.own("d_bias")
        with f.range(start, stop, lanes) as key:
            at = self.tile.keys.first + key
            shown = first_lanes(f, lanes, f.minimum(f.maximum(self.tile.keys.stop - at, 0), lanes))
            for part in range(problem.unit.columns):
                columns = [f.load(self._kind, kept, (key + row) * problem.panel + part * lanes) for row in range(lanes)]
                for lane, value in enumerate(f.transpose(columns)):
                    query = self.tile.rows.first + (part * lanes + lane)
                    with f.when(query < problem.queries):
                        place = query * problem.keys + at
                        before = f.load_masked(self._kind, rows, place, shown)
                        f.store_masked(before + value, rows, place, shown)


# After: the cotangent of the queries ----------------------------------------------------------------------------------


def _write_finish(module: Module, gradient: Gradient) -> None:
    f = stage(module, "finish")
    problem = gradient.problem
    place, member, first = _of_block(f, gradient)
    with f.when(place.batch < problem.batch):
        rows = place.rows("q", place.head(member), "d_q")
        copies, row = place.of_head("d_queries", member), f.offset(place.slot, problem.slot.rows)
        lanes, width = problem.unit.lanes, problem.packed_width
        with f.range(first, f.minimum(first + gradient.block, problem.queries)) as query:
            with f.range(0, width, lanes) as column:

                def copy(number: Value, total: Value, query: Value = query, column: Value = column) -> list[Value]:
                    at = (number * gradient.padded_queries + query) * width + column
                    return [total + f.load(F32.vector(lanes), copies, at)]

                (total,) = f.loop(0, gradient.chunks, 1, copy, [f.zero(F32.vector(lanes))])
                f.store(total * problem.op.scale, row, column)
            rows.write(query, row)
    f.give_back()
