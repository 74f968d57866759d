"""The native attention of a few queries over a long cache.

Keys and values are read as they lie in the cache, once, and converted in registers. A *row* is one query of one head. The
rows of all heads that share a key head are computed together. Lanes are features in the products and keys in the
softmax: a product of rows and keys keeps one register for every pair, and their lanes are summed at the end.

The cache of a head is split into chunks. An item computes the partial result of a chunk: the highest score of every row,
the sum of the weights, and the weighted sum of the values. The mask decides from the positions and segments at run time
whether a chunk, a tile, or a granule of a tile is seen. If it is not, its keys and values are not read. A second stage
merges the partial results, in the order of the chunks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ropegen.native import call
from ropegen.native.call import Kernel, Stage, Written, address, stage, written
from ropegen.native.ir import BF16, F32, I1, I32, Function, Module, Number, Value
from ropegen.native.vectors import (
    LOG2_E,
    MEMORY,
    broadcast,
    exp2,
    finite_pairs,
    first_lanes,
    multiply_pairs,
)

from .features_cpu import PairedKey, PairedValues, Tail, sums
from .kernel_cpu import LOWEST
from .layout_cpu import GRANULE, Problem, operands_of, results_of
from .layout_decode_cpu import LINE, ROWS, TILE, Decode, Part, cache_of, round_up
from .merge_decode_cpu import write_merge
from .pack_cpu import Rows
from .scores_cpu import Scores, Span

# The cache that lines are fetched to: the second one.
_FETCH = 2
# Steps that stand in the code of a loop one after the other.
_UNROLLED = 4


@functools.lru_cache(maxsize=256)
def decode(problem: Problem) -> Written:
    """The kernel that computes the output and the log-sum-exp."""
    module, sizes = Module(), Decode(problem)
    _write_attend(module, sizes)
    write_merge(module, sizes)
    heads = problem.batch * problem.kv_heads
    return written(
        Kernel(
            "decode",
            module,
            operands_of(problem),
            results_of(problem),
            (Stage("attend", sizes.parts), Stage("merge", heads)),
            threads=problem.threads,
            scratch=sizes.scratch_bytes,
        )
    )


def _write_attend(module: Module, sizes: Decode) -> None:
    """Computes the partial result of one chunk."""
    f = stage(module, "attend")
    item = f.parameters["item"]
    batch, chunk = item // sizes.chunks, item % sizes.chunks
    slot = f.offset(
        call.scratch(f), f.parameters["slot"] * sizes.slot_bytes + round_up(sizes.parts * sizes.part_bytes, 4096)
    )
    bases = {name: cache_of(f, sizes, name, batch) for name in ("k", "v")}
    _Chunk(f, sizes, batch, slot, Part.of(f, sizes, batch, chunk), bases).compute(chunk * sizes.chunk)
    f.give_back()


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of a key head that are multiplied together, from `row` on."""

    head: Value
    row: Value
    count: int
    line: Value
    """The place of the first row among those of all heads."""
    reads_first: bool
    """Whether it reads the keys and values of the head before the other blocks do."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """The code of one chunk."""

    f: Function
    sizes: Decode
    batch: Value
    slot: Value
    part: Part
    bases: Mapping[str, Value]
    """The addresses of the keys and values of the batch entry."""

    @property
    def _problem(self) -> Problem:
        return self.sizes.problem

    @property
    def _lanes(self) -> int:
        return self.sizes.problem.unit.lanes

    def compute(self, first: Value) -> None:
        f, problem, sizes = self.f, self._problem, self.sizes
        stop = f.minimum(first + sizes.chunk, problem.keys)
        with f.range(0, sizes.lines) as line:
            f.store(f.value(F32, LOWEST), self.part.highest, line)
            f.store(f.zero(F32), self.part.total, line)
        scores = Scores(f, problem, self.batch, f.i64(0), problem.heads)
        queries = Span(f.i64(0), f.i64(problem.queries))
        with f.when(scores.shown(queries, Span(first, stop))[0]):
            self._prepare()
            with f.range(first, stop, TILE) as tile:
                keys = Span(tile, f.minimum(tile + TILE, stop))
                some, every = scores.shown(queries, keys)
                if problem.keys % GRANULE:
                    every = every & ((keys.stop - keys.first) % GRANULE).equals(0)
                with f.when(some):
                    self._tile(self._seen(scores, queries, keys, every), every)

    def _prepare(self) -> None:
        """Lays out the queries, rotated and scaled, and clears the weighted sums."""
        f, problem, sizes = self.f, self._problem, self.sizes
        kind = F32.vector(self._lanes)
        # Queries that are pairs of bfloat16 are not scaled, because they would be rounded once more.
        factor = 1.0 if problem.pairs else self._factor
        buffer = f.offset(self.slot, sizes.buffer_at)
        for target, size in ((self.slot, sizes.keys.padded), (self.part.base, sizes.values.padded)):
            with f.range(0, sizes.lines * size, self._lanes) as at:
                f.store(f.zero(kind), target, at)
        with f.range(0, problem.kv_heads) as head, f.range(0, sizes.rows) as row:
            rows = self._rows("q", head * problem.group + row % problem.group)
            rows.convert(row // problem.group, 1, buffer, factor)
            sizes.keys.arrange(f, buffer, self._query(head * sizes.padded_rows + row))

    @property
    def _factor(self) -> float:
        """From a product of a query and a key to a score, whose power of two is a weight if scores are simple."""
        return self._problem.op.scale * (LOG2_E if self._problem.is_simple else 1.0)

    def _query(self, line: Value) -> Value:
        return self.f.offset(self.slot, line * self.sizes.keys.padded, F32)

    def _rows(self, name: str, head: Value) -> Rows:
        f, problem = self.f, self._problem
        operand, angles = problem.operand(name), problem.operand(f"{name}_angles")
        assert operand is not None
        turned = address(f, angles.index) if angles is not None else None
        return Rows(f, problem, name, address(f, operand.index), turned, self.batch, head)

    def _seen(self, scores: Scores, queries: Span, keys: Span, every: Value) -> Span:
        """The keys of a tile from the first granule that is seen to the last one."""
        f = self.f
        if not self._problem.hides:
            return keys

        def granule(key: Value, first: Value, last: Value) -> list[Value]:
            stop = f.minimum(key + GRANULE, keys.stop)
            some, _ = scores.shown(queries, Span(key, stop))
            return [f.select(some, f.minimum(first, key), first), f.select(some, stop, last)]

        def searched() -> list[Value]:
            return f.loop(keys.first, keys.stop, GRANULE, granule, [keys.stop, keys.first])

        first, stop = f.branch(every, lambda: [keys.first, keys.stop], searched)
        return Span(first, stop)

    # One tile ---------------------------------------------------------------------------------------------------------

    def _tile(self, keys: Span, every: Value) -> None:
        """Adds the keys of a tile; `every` says that the mask shows all of their scores."""
        f, sizes, problem = self.f, self.sizes, self._problem
        if problem.site.k_pairing is not None:
            with f.range(keys.first, keys.stop) as key, f.range(0, problem.kv_heads) as head:
                turned = self._turned(key - keys.first, head)
                if isinstance(sizes.keys, PairedKey):
                    buffer = f.offset(self.slot, sizes.buffer_at)
                    self._rows("k", head).convert(key, 1, buffer)
                    sizes.keys.arrange(f, buffer, turned)
                else:
                    self._rows("k", head).convert(key, 1, turned)
        self._products(keys)
        if problem.hides:
            f.branch(every, lambda: None, lambda: self._poison(keys))
        with f.range(0, problem.kv_heads) as head, f.range(0, sizes.rows) as row:
            self._weights(keys, head, row, every)
        if problem.hides:
            f.branch(every, lambda: self._mix(keys), lambda: self._mix(keys, cleans=True))
        else:
            self._mix(keys)

    def _poison(self, keys: Span) -> None:
        """Makes NaN of the scores of keys whose value is not finite. The mask then hides it where it hides the key."""
        f, sizes, kind = self.f, self.sizes, F32.vector(self._lanes)
        features = sizes.values
        with f.range(keys.first, keys.stop) as key, f.range(0, self._problem.kv_heads) as head:
            row = self._in_cache("v", head, key)

            def step(index: Value, total: Value, row: Value = row) -> list[Value]:
                for register in features.load_step(f, row, index):
                    total = total + (register - register)
                return [total]

            (total,) = f.loop(0, features.steps, 1, step, [f.zero(kind)])
            for tail in features.tails:
                loaded = features.load_tail(f, row, tail)
                for register in loaded if isinstance(loaded, list) else [loaded]:
                    total = total + (register - register)
            number = f.reduce("add", total)
            with f.range(0, sizes.rows) as line:
                place = self._score(head * sizes.padded_rows + line, key - keys.first)
                f.store(f.load(F32, place) + number, place)

    def _blocks(self, head: Value, body: Callable[[_Block], None]) -> None:
        """Calls `body` for every block of rows of a head."""
        f, sizes = self.f, self.sizes
        whole, first = sizes.rows // ROWS * ROWS, head * sizes.padded_rows
        if whole:
            body(_Block(head, f.i64(0), ROWS, first, reads_first=True))
        if whole > ROWS:
            with f.range(ROWS, whole, ROWS) as row:
                body(_Block(head, row, ROWS, first + row, reads_first=False))
        if sizes.rest:
            body(_Block(head, f.i64(whole), sizes.rest, first + whole, reads_first=not whole))

    def _turned(self, place: Value, head: Value) -> Value:
        """The address of a rotated key of the tile."""
        at = (place * self._problem.kv_heads + head) * (self.sizes.keys.padded * 4)
        return self.f.offset(self.slot, at + self.sizes.turned_at)

    def _in_cache(self, name: str, head: Value, key: Value) -> Value:
        """The address of a key or value; one after the last is the last one."""
        f, problem = self.f, self._problem
        if problem.keys % GRANULE:
            key = f.minimum(key, problem.keys - 1)
        operand = problem.operand(name)
        assert operand is not None
        index = (key * problem.kv_heads + head) * operand.shape[-1]
        return f.offset(self.bases[name], index, MEMORY[operand.dtype])

    def _score(self, line: Value, key: Number = 0) -> Value:
        """The address of the scores of a line."""
        return self.f.offset(self.slot, (line * TILE + key) * 4 + self.sizes.scores_at)

    def _fetch(self, row: Value, byte: Number) -> None:
        """Asks for the line of memory at a byte of a row, which will be read soon."""
        f = self.f
        hints = [f.value(I32, hint) for hint in (0, _FETCH, 1)]
        f.call("llvm.prefetch.p0", None, f.offset(row, byte), *hints)

    def _products(self, keys: Span) -> None:
        """Writes the scores of a tile, and asks for its values."""
        f, sizes, lanes = self.f, self.sizes, self._lanes
        features = sizes.keys
        unrolled = math.gcd(features.steps, _UNROLLED)

        def block(first: Value, key: Value, part: _Block) -> None:
            at_once = sizes.sums // part.count
            queries = [self._query(part.line + place) for place in range(part.count)]
            is_turned = self._problem.site.k_pairing is not None
            read = [
                self._turned(key + place - keys.first, part.head)
                if is_turned
                else self._in_cache("k", part.head, key + place)
                for place in range(at_once)
            ]
            following = [self._in_cache("v", part.head, key + place) for place in range(at_once)]

            def multiplied(step: Number, registers: list[list[Value]], now: list[Value]) -> list[Value]:
                for register in range(len(registers[0])):
                    at = (f.i64(step) + register) * lanes
                    for place, query in enumerate(queries):
                        loaded = f.load(F32.vector(lanes), query, at)
                        for inside in range(at_once):
                            index = place * at_once + inside
                            now[index] = self._added(registers[inside][register], loaded, now[index])
                return now

            def step(first: Value, *before: Value) -> list[Value]:
                now = list(before)
                for inner in range(unrolled):
                    index = first + inner
                    registers = [features.load_step(f, pointer, index) for pointer in read]
                    if part.reads_first and inner * features.step_bytes % LINE == 0:
                        for pointer in following:
                            self._fetch(pointer, index * features.step_bytes)
                    now = multiplied(index * features.in_step, registers, now)
                return now

            now = f.loop(0, features.steps, unrolled, step, [f.zero(F32.vector(lanes))] * sizes.sums)
            for place, tail in enumerate(features.tails, features.steps * features.in_step):
                registers = [
                    [features.without_known(f, tail, features.load_tail(f, pointer, tail))] for pointer in read
                ]
                now = multiplied(place, registers, now)
            held = self._sums(part, most, key - first)
            for index, value in enumerate(now):
                f.store(value, held, index * lanes)

        def reduce(first: Value, key: Value, part: _Block) -> None:
            at_once = sizes.sums // part.count
            held, piece = self._sums(part, most, key - first), min(at_once, lanes)
            for start in range(0, sizes.sums, lanes):
                kind = F32.vector(lanes)
                total = sums(f, [f.load(kind, held, (start + index) * lanes) for index in range(lanes)])
                if self._problem.pairs:
                    total = total * self._factor
                for lane in range(0, lanes, piece):
                    place, inside = divmod(start + lane, at_once)
                    chosen = f.shuffle(total, total, range(lane, lane + piece)) if piece < lanes else total
                    f.store(chosen, self._score(part.line + place, key - keys.first + inside))

        # The registers are stored first, and their lanes summed later: so the products of one block need not wait for
        # the sums of the one before. Blocks of fewer rows take more keys at once.
        most = sizes.sums // (min(ROWS, sizes.rest or ROWS))
        with f.range(keys.first, keys.stop, most) as first:
            for body in (block, reduce):

                def all_keys(part: _Block, body: Callable[[Value, Value, _Block], None] = body) -> None:
                    with f.range(first, first + most, sizes.sums // part.count) as key:
                        body(first, key, part)

                with f.range(0, self._problem.kv_heads) as head:
                    self._blocks(head, all_keys)

    def _added(self, left: Value, right: Value, addend: Value) -> Value:
        """The products of the lanes, or of pairs in them, and the addend."""
        return (multiply_pairs if self._problem.pairs else Function.fma)(self.f, left, right, addend)

    def _sums(self, part: _Block, keys: int, key: Value) -> Value:
        """The address of the registers with the sums of a block from key `key` on, one of `keys` keys."""
        register = part.line * keys + key * part.count
        return self.f.offset(self.slot, register * (self._lanes * 4) + self.sizes.sums_at)

    def _weights(self, keys: Span, head: Value, row: Value, every: Value) -> None:
        """Replaces the scores of a row by weights, or by pairs of them, and fades what was added before."""
        f, lanes, problem = self.f, self._lanes, self._problem
        kind, size = F32.vector(lanes), _up_at_run_time(keys.stop - keys.first)
        line = head * self.sizes.padded_rows + row
        scores = self._score(line)
        before = f.load(F32, self.part.highest, line)

        def raised(*, masked: bool) -> list[Value]:
            def step(at: Value, most: Value) -> list[Value]:
                score = f.load(kind, scores, at)
                if masked or not problem.is_simple:
                    of_head = Scores(f, problem, self.batch, head * problem.group + row % problem.group)
                    query, key = row // problem.group, keys.first + at
                    exists = f.value(I1.vector(lanes), 1)
                    if problem.keys % GRANULE:
                        exists = first_lanes(f, lanes, f.maximum(f.minimum(problem.keys - key, lanes), 0))
                    score = of_head.modified_by_key(score, query, key, exists, masked=masked)
                    f.store(score, scores, at)
                return [f.maximum(score, most)]

            return f.loop(0, size, lanes, step, [f.splat(before, lanes)])

        if not problem.hides and problem.keys % GRANULE == 0:
            (most,) = raised(masked=False)
        else:
            (most,) = f.branch(every, lambda: raised(masked=False), lambda: raised(masked=True))
        highest = f.reduce("maximum", most)
        wide = f.splat(highest, lanes)

        def weight(at: Value, total: Value) -> list[Value]:
            now = self._power(f.load(kind, scores, at) - wide)
            if problem.pairs:
                f.store(f.convert(now, BF16.vector(lanes)), scores, at)
            else:
                f.store(now, scores, at)
            return [total + now]

        (total,) = f.loop(0, size, lanes, weight, [f.zero(kind)])
        fade = self._power(f.splat(before, lanes) - wide)
        f.store(highest, self.part.highest, line)
        faded = f.load(F32, self.part.total, line) * f.extract(fade, 0)
        f.store(faded + f.reduce("add", total), self.part.total, line)
        result = self.part.result(line)
        with f.range(0, self.sizes.values.padded, lanes) as at:
            f.store(f.load(kind, result, at) * fade, result, at)

    def _power(self, difference: Value) -> Value:
        """The weight of a score, from its difference to the highest score."""
        return exp2(self.f, difference if self._problem.is_simple else difference * LOG2_E)

    def _mix(self, keys: Span, *, cleans: bool = False) -> None:
        """Adds the weighted values of a tile, and asks for the keys of the next one.

        If it `cleans`, values that are not finite count as 0; see `_poison`.
        """
        f, sizes, problem, lanes = self.f, self.sizes, self._problem, self._lanes
        features, kind, together = sizes.values, F32.vector(lanes), self._problem.together

        def cleaned(registers: list[Value]) -> list[Value]:
            if not cleans:
                return registers
            if problem.pairs:
                return [finite_pairs(f, register) for register in registers]
            return [f.select((x - x).equals(0.0), x, f.zero(kind)) for x in registers]

        def columns(
            granule: Value, part: _Block, first: Value, held: int, load: Callable[[list[Value]], list[Value]]
        ) -> None:
            """Adds to `held` registers from number `first` on; `load` reads them from a row of values, or a pair of rows."""
            results = [self.part.result(part.line + place) for place in range(part.count)]
            # Two weights as bfloat16 take the place of one as float32.
            place_of = (granule - keys.first) // together
            scores = [f.offset(self._score(part.line + place), place_of, F32) for place in range(part.count)]
            places = [(result, (first + place) * lanes) for result in results for place in range(held)]
            # So that every line is asked for once, the columns that share a line take turns with the keys.
            size = held * features.step_bytes // features.in_step
            turns = max(1, min(_UNROLLED, LINE // size))
            at = first * (features.step_bytes // features.in_step)
            turn = at // size % turns

            def step(key: Value, *before: Value) -> list[Value]:
                now = list(before)
                for inner in range(_UNROLLED):
                    place = key + inner
                    if part.reads_first and inner % turns == 0:
                        following = self._in_cache("k", part.head, granule + place + turn + TILE)
                        for line in range(0, size, LINE):
                            self._fetch(following, at + line)
                    if inner % together:
                        continue
                    rows = [self._in_cache("v", part.head, granule + place + of) for of in range(together)]
                    registers = cleaned(load(rows))
                    for row, score in enumerate(scores):
                        weight = broadcast(f, score, place // together, lanes)
                        for index, register in enumerate(registers):
                            now[row * held + index] = self._added(register, weight, now[row * held + index])
                return now

            after = f.loop(0, GRANULE, _UNROLLED, step, [f.load(kind, *place) for place in places])
            for (result, index), value in zip(places, after, strict=True):
                f.store(value, result, index)

        def load_steps(rows: list[Value], steps: list[Value]) -> list[Value]:
            if isinstance(features, PairedValues):
                return [one for step in steps for one in features.load_pairs(f, rows[0], rows[1], step)]
            return [one for step in steps for one in features.load_step(f, rows[0], step)]

        def load_tail(rows: list[Value], tail: Tail) -> list[Value]:
            if isinstance(features, PairedValues):
                return features.load_tail_pairs(f, rows[0], rows[1], tail)
            return [features.load_tail(f, rows[0], tail)]

        def block(granule: Value, part: _Block) -> None:
            steps = max(1, sizes.sums // part.count // features.in_step)

            def of_steps(step: Value, many: int) -> None:
                every = [step + index for index in range(many)]
                columns(
                    granule,
                    part,
                    step * features.in_step,
                    many * features.in_step,
                    lambda rows: load_steps(rows, every),
                )

            whole = features.steps // steps * steps
            with f.range(0, whole, steps) as step:
                of_steps(step, steps)
            if features.steps > whole:
                of_steps(f.i64(whole), features.steps - whole)
            held = features.in_step if problem.pairs else 1
            for place, tail in enumerate(features.tails, features.steps * features.in_step):
                columns(granule, part, f.i64(place), held, lambda rows, tail=tail: load_tail(rows, tail))

        with f.range(keys.first, keys.stop, GRANULE) as granule, f.range(0, self._problem.kv_heads) as head:
            self._blocks(head, lambda part: block(granule, part))


def _up_at_run_time(size: Value) -> Value:
    """A number of keys, up to whole granules."""
    return (size + (GRANULE - 1)) // GRANULE * GRANULE
