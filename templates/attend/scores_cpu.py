"""What becomes of the products of a native attention: soft-cap, bias, score expression and masks, a register at a time.

A register holds the scores of one key and `lanes` queries. So a value of a key is a scalar, and a value of a query is a
register.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ropegen import masks
from ropegen.native import expressions, intervals
from ropegen.native.call import address
from ropegen.native.ir import I1, I32, I64, Function, Number, Value
from ropegen.native.vectors import MEMORY, first_lanes, load_f32, tanh

from .layout_cpu import Operand, Problem
from .pack_cpu import batch_row


@dataclass(frozen=True, slots=True)
class Span:
    """Positions in a sequence, from `first` to before `stop`."""

    first: Value
    stop: Value


@dataclass(frozen=True, slots=True)
class Tile:
    """The scores of a panel of queries and a tile of keys, and the memory of the thread that computes them."""

    rows: Span
    keys: Span
    slot: Value


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one head, or of several heads from `head` on, which the mask decides about together."""

    f: Function
    problem: Problem
    batch: Value
    head: Value
    heads: int = 1

    # What the mask says of a tile -------------------------------------------------------------------------------------

    def shown(self, rows: Span, keys: Span) -> tuple[Value, Value]:
        """Whether the mask may show a score of these rows and keys, and whether it shows all of them."""
        f, op = self.f, self.problem.op
        every = f.value(I1, 1)
        if op.visible == masks.full:
            some = every
        else:
            ranges = {name: self._range(name, rows, keys) for name in sorted(masks.variables(op.visible))}
            some, every = intervals.shown(f, op.visible, ranges, self._wide)
        return some, every & False if "mask" in op.given else every

    @property
    def _wide(self) -> list[str]:
        """The variables whose operands hold i64."""
        site = self.problem.site
        given = {variable: site.op.NEEDS[variable] for variable in site.op.variables & site.op.NEEDS.keys()}
        return [
            variable
            for variable, name in given.items()
            if name not in site.positions and self._given(name).dtype == "i64"
        ]

    def _range(self, variable: str, rows: Span, keys: Span) -> tuple[Value, Value]:
        """The lowest and highest value of a variable."""
        f, site = self.f, self.problem.site
        if variable == "batch":
            return self.batch, self.batch
        if variable == "head":
            return self.head, self.head + (self.heads - 1)
        name, span = site.op.NEEDS[variable], rows if variable.startswith("q_") else keys
        if known := site.positions.get(name):
            return span.first + known.start, span.stop + (known.start - 1)
        operand = self._given(name)
        array = self._row(operand)
        kind = MEMORY[operand.dtype].vector(self.problem.unit.lanes)
        first = f.splat(f.load(kind.element, array, span.first), kind.lanes)

        def widen(place: Value, low: Value, high: Value) -> list[Value]:
            inside = first_lanes(f, kind.lanes, f.minimum(span.stop - place, kind.lanes))
            values = f.select(inside, f.load_masked(kind, array, place, inside), first)
            return [f.minimum(low, values), f.maximum(high, values)]

        low, high = f.loop(span.first, span.stop, kind.lanes, widen, [first, first])
        return f.convert(f.reduce("minimum", low), I64), f.convert(f.reduce("maximum", high), I64)

    # The values of a register -----------------------------------------------------------------------------------------

    def _given(self, name: str) -> Operand:
        operand = self.problem.operand(name)
        assert operand is not None, name
        return operand

    def _row(self, operand: Operand) -> Value:
        """The address of what the batch entry reads of an operand."""
        row = batch_row(self.f, operand, self.batch) * operand.row_size
        return self.f.offset(address(self.f, operand.index), row, MEMORY[operand.dtype])

    def _values(self, tile: Tile, key: Value, part: int) -> dict[str, Value]:
        """The variables of the expressions, for key `key` of the tile and register `part` of the panel."""
        f, site, lanes = self.f, self.problem.site, self.problem.unit.lanes
        values = {"head": f.convert(self.head, I32), "batch": f.convert(self.batch, I32)}
        query, place = tile.rows.first + part * lanes, tile.keys.first + key
        for variable in site.op.variables & site.op.NEEDS.keys():
            name = site.op.NEEDS[variable]
            of_query, known = variable.startswith("q_"), site.positions.get(name)
            if known is not None:
                start = f.convert((query if of_query else place) + known.start, I32)
                numbers = f.lanes(I32.vector(lanes), range(lanes))
                values[variable] = f.splat(start, lanes) + numbers if of_query else start
                continue
            operand = self._given(name)
            array, kind = self._row(operand), MEMORY[operand.dtype]
            if of_query:
                values[variable] = f.load_masked(kind.vector(lanes), array, query, self._inside(query))
            else:
                # A key after the last one is hidden, so any value serves.
                values[variable] = f.load(kind, array, f.minimum(place, self.problem.keys - 1))
        return values

    def _inside(self, query: Value) -> Value:
        """Which queries of a register exist."""
        lanes = self.problem.unit.lanes
        left = self.f.maximum(self.f.minimum(self.problem.queries - query, lanes), 0)
        return first_lanes(self.f, lanes, left)

    # Bias and dense mask ----------------------------------------------------------------------------------------------

    def load_panels(self, tile: Tile) -> None:
        """Lays the tile's part of a bias or dense mask as the scores lie, if it has a number for every score."""
        for name, offset in (("bias", self.problem.slot.bias), ("mask", self.problem.slot.mask)):
            if name in self.problem.op.given:
                operand = self._given(name)
                if operand.shape[1] > 1 and operand.shape[2] > 1:
                    self._load_panel(operand, tile, self.f.offset(tile.slot, offset))

    def _load_panel(self, operand: Operand, tile: Tile, target: Value) -> None:
        f, problem, lanes = self.f, self.problem, self.problem.unit.lanes
        array = self._of_head(operand)
        size = tile.keys.stop - tile.keys.first

        def turn(part: int, key: Value, shown: Value | None) -> None:
            rows: list[Value] = []
            for lane in range(lanes):
                query = f.minimum(tile.rows.first + (part * lanes + lane), problem.queries - 1)
                rows.append(self._numbers(operand, array, query * problem.keys + tile.keys.first + key, shown))
            for place, register in enumerate(f.transpose(rows)):
                f.store(register, target, (key + place) * problem.panel + part * lanes)

        for part in range(problem.unit.columns):
            whole = size - size % lanes
            with f.range(0, whole, lanes) as key:
                turn(part, key, None)
            if problem.keys % lanes:
                with f.when(whole < size):
                    turn(part, whole, first_lanes(f, lanes, size - whole))

    def _of_head(self, operand: Operand) -> Value:
        """The address of the head's part of a bias or mask (heads, queries, keys)."""
        heads, queries, keys = operand.shape
        head = self.head * (queries * keys) if heads > 1 else self.f.i64(0)
        return self.f.offset(self._row(operand), head, MEMORY[operand.dtype])

    def _numbers(self, operand: Operand, array: Value, index: Number, shown: Value | None) -> Value:
        """A register of a bias as float32, or of a mask as int32."""
        f, lanes = self.f, self.problem.unit.lanes
        if operand.dtype != "i1":
            return load_f32(f, operand.dtype, lanes, array, index, shown)
        kind = MEMORY["i1"].vector(lanes)
        loaded = f.load(kind, array, index) if shown is None else f.load_masked(kind, array, index, shown)
        return f.convert(loaded, I32.vector(lanes), signed=False)

    def _beside(self, name: str, offset: int, tile: Tile, key: Value, part: int) -> Value:
        """The register of a bias or mask for a key and a register of queries."""
        f, problem, lanes = self.f, self.problem, self.problem.unit.lanes
        operand = self._given(name)
        _, queries, keys = operand.shape
        if queries > 1 and keys > 1:
            kind = I32 if operand.dtype == "i1" else MEMORY["f32"]
            at = key * problem.panel + part * lanes
            return f.load(kind.vector(lanes), f.offset(tile.slot, offset), at)
        array = self._of_head(operand)
        if queries > 1:
            query = tile.rows.first + part * lanes
            return self._numbers(operand, array, query, self._inside(query))
        index = f.minimum(tile.keys.first + key, problem.keys - 1) if keys > 1 else f.i64(0)
        single = self._numbers(operand, array, index, first_lanes(f, lanes, 1))
        return f.splat(f.extract(single, 0), lanes)

    # Scores -----------------------------------------------------------------------------------------------------------

    def modified(self, score: Value, tile: Tile, key: Value, part: int, *, masked: bool) -> Value:
        """The score of a scaled product after soft-cap, bias and score expression; -inf if it is masked and hidden."""
        beside, values = self._beside_tile(tile, key, part), self._values(tile, key, part)
        exists = self.f.splat(tile.keys.first + key < self.problem.keys, self.problem.unit.lanes)
        return self._composed(score, values, beside, exists if masked else None)

    def modified_by_key(self, score: Value, query: Value, key: Value, exists: Value, *, masked: bool) -> Value:
        """What `modified` returns, for a register of one query and the keys from `key` on, of which some exist."""
        f, lanes = self.f, self.problem.unit.lanes

        def beside(name: str) -> Value:
            operand = self._given(name)
            _, queries, keys = operand.shape
            index, array = query if queries > 1 else f.i64(0), self._of_head(operand)
            if keys > 1:
                return self._numbers(operand, array, index * keys + key, None if exists.constant else exists)
            single = self._numbers(operand, array, index, first_lanes(f, lanes, 1))
            return f.splat(f.extract(single, 0), lanes)

        values = self._values_by_key(query, key, exists)
        return self._composed(score, values, beside, exists if masked else None)

    def _values_by_key(self, query: Value, key: Value, exists: Value) -> dict[str, Value]:
        """The variables of the expressions, for one query and the keys from `key` on."""
        f, site, lanes = self.f, self.problem.site, self.problem.unit.lanes
        values = {"head": f.convert(self.head, I32), "batch": f.convert(self.batch, I32)}
        for variable in site.op.variables & site.op.NEEDS.keys():
            name = site.op.NEEDS[variable]
            of_query, known = variable.startswith("q_"), site.positions.get(name)
            if known is not None:
                start = f.convert((query if of_query else key) + known.start, I32)
                numbers = f.lanes(I32.vector(lanes), range(lanes))
                values[variable] = start if of_query else f.splat(start, lanes) + numbers
                continue
            operand = self._given(name)
            array, kind = self._row(operand), MEMORY[operand.dtype]
            if of_query:
                values[variable] = f.load(kind, array, query)
            else:
                values[variable] = f.load_masked(kind.vector(lanes), array, key, exists)
        return values

    def _composed(
        self, score: Value, values: dict[str, Value], beside: Callable[[str], Value], exists: Value | None
    ) -> Value:
        """The score after soft-cap, bias, score expression and mask; `exists` is None if the mask shows it."""
        op = self.problem.op
        score, _ = self._biased(score, beside)
        if op.score != masks.identity:
            score = expressions.compiled(self.f, op.score, {**values, "score": score}, self.problem.unit.lanes)
        return score if exists is None else self._hidden(score, values, beside, exists)

    def sloped(
        self, product: Value, tile: Tile, key: Value, part: int, *, masked: bool
    ) -> tuple[Value, Value | None, Value | None]:
        """What `modified` returns, its derivative by the score with the bias, and that one's by the product.

        A derivative that is 1 everywhere is None.
        """
        f, problem, op = self.f, self.problem, self.problem.op
        lanes, values, slope = problem.unit.lanes, self._values(tile, key, part), None
        beside = self._beside_tile(tile, key, part)
        score, capped = self._biased(product, beside)
        if op.score != masks.identity:
            score, slope = expressions.with_slope(f, op.score, {**values, "score": score}, lanes)
        exists = f.splat(tile.keys.first + key < problem.keys, lanes)
        return self._hidden(score, values, beside, exists) if masked else score, slope, capped

    def _biased(self, product: Value, beside: Callable[[str], Value]) -> tuple[Value, Value | None]:
        """The product after soft-cap and bias, and the derivative of the soft-cap, if there is one."""
        f, op = self.f, self.problem.op
        score, slope = product, None
        if op.softcap is not None:
            bent = tanh(f, product * (1.0 / op.softcap))
            score, slope = bent * op.softcap, f.fma(-bent, bent, f.value(bent.type, 1.0))
        if "bias" in op.given:
            score = score + beside("bias")
        return score, slope

    def _hidden(self, score: Value, values: dict[str, Value], beside: Callable[[str], Value], exists: Value) -> Value:
        """The score, or -inf if the key does not exist or the mask hides it."""
        f, op, lanes = self.f, self.problem.op, self.problem.unit.lanes
        shown = exists
        if op.visible != masks.full:
            shown = shown & expressions.compiled(f, op.visible, values, lanes)
        if "mask" in op.given:
            shown = shown & beside("mask").differs(0)
        return f.select(shown, score, -math.inf)

    def _beside_tile(self, tile: Tile, key: Value, part: int) -> Callable[[str], Value]:
        """The register of a bias or mask, by name."""
        offsets = {"bias": self.problem.slot.bias, "mask": self.problem.slot.mask}
        return lambda name: self._beside(name, offsets[name], tile, key, part)
