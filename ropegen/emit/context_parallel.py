"""Attention over a sequence that the devices of a mesh axis share: keys go around the ring of devices.

Every device keeps its queries. Blocks of keys and values move from device to device, one step at a time, in a loop. A
device computes the attention of its queries over each block as float32 (`ops.Attend.partial`) and merges it with what
it has by log-sum-exp. What is computed follows from `ropegen.ring`.

The backward pass binds the backward primitive with the output and log-sum-exp of the whole attention, so that it
computes no forward pass again. The cotangents of keys and values travel with their block, in float32. How JAX comes to it
is in `context_derivatives`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ropegen import masks, plain
from ropegen.emit.primitive import Choice, Choices, bind, bind_backward
from ropegen.emit.varying import alike
from ropegen.expression import Expr
from ropegen.ir import ops
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.merging import merged
from ropegen.planner import cheapest
from ropegen.ring import POSITIONS, Case, Order, Schedule, Visits, schedule
from ropegen.run_time_tiles import may_see
from ropegen.target import Target
from ropegen.template import AnyTemplate, catalog, family
from ropegen.types import TensorType, dtype_name

Array = jax.Array
Arrays: TypeAlias = dict[str, Array]
Index: TypeAlias = Any  # an int, or a traced int32
FixedTiles: TypeAlias = tuple[tuple[str, tuple[tuple[str, int], ...]], ...]

# How many kernels of parts are kept with their choices.
_KEPT_KERNELS = 256

_OPERANDS = {operand.name: operand for operand in ops.Attend.operands}
# What moves from device to device, if it is given.
_TRAVELS = ("k", "v", "kv_positions", "kv_segments")


@dataclass(frozen=True, slots=True)
class Ring:
    """What is static about an attention over a ring of devices; all of its arrays are local."""

    axis: str
    """The name of the mesh axis."""
    order: Order
    mask: Expr
    score: Expr
    scale: float
    softcap: float | None
    targets: tuple[Target, ...]
    tile: FixedTiles = ()
    gathers: bool = False
    """Whether every device gets all keys first, instead of one block after the other."""


def vary(arrays: Arrays, axis: str) -> Arrays:
    """The arrays, all varying over the axis and over every other axis of the mesh that one of them varies over."""
    return dict(zip(arrays, alike([lax.axis_index(axis), *arrays.values()])[1:], strict=True))


# The kernels of parts -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Part:
    """The attention of a chunk of queries over a chunk of keys: a closed region, and how each platform computes it."""

    closed: Graph
    choices: Choices

    def operands(self, arrays: Mapping[str, Array]) -> list[Array]:
        return [arrays[label] for label in self.closed.input_types]


def _part(ring: Ring, case: Case, arrays: Mapping[str, Array]) -> _Part:
    """The part for arrays of these types. Positions are operands unless the case knows them."""
    types = tuple((label, TensorType(x.shape, dtype_name(x.dtype))) for label, x in arrays.items())
    return _known_part(ring, case, types, catalog())


@functools.lru_cache(maxsize=_KEPT_KERNELS)
def _known_part(
    ring: Ring, case: Case, types: tuple[tuple[str, TensorType], ...], templates: tuple[AnyTemplate, ...]
) -> _Part:
    """`templates` is the catalogue, which is part of the key."""
    b, kinds = Builder("part"), dict(types)
    q, k, v = (b.input(name, kinds[name].shape, kinds[name].dtype) for name in ("q", "k", "v"))
    read = masks.variables(case.mask) | masks.variables(ring.score)
    given: dict[str, Any] = {}
    for name, operand in _OPERANDS.items():
        if operand.variable in POSITIONS and operand.variable in read and case.distance is not None:
            after = case.distance if operand.axes == ("queries",) else -case.distance
            length = (q if operand.axes == ("queries",) else k).type.shape[-3]
            given[name] = b.positions(length, max(0, after) * length)
        elif name in kinds and operand.optional and (not operand.variable or operand.variable in read):
            given[name] = b.input(name, kinds[name].shape, kinds[name].dtype)
    if "mask" in given:
        given["dense_mask"] = given.pop("mask")
    wide = "f64" if q.type.dtype == "f64" else "f32"
    outputs = {
        label: b.attend(
            q,
            k,
            v,
            mask=case.mask,
            score=ring.score,
            scale=ring.scale,
            softcap=ring.softcap,
            returns=returns,
            partial=wide,
            **given,
        )
        for label, returns in (("out", "output"), ("lse", "log_sum_exp"))
    }
    (region,) = family("attend").find(b.build(**outputs))
    tile = {name: dict(sizes) for name, sizes in ring.tile}
    choices = [
        Choice.of(
            target,
            cheapest(region.closed, target, tile),
            cheapest(region.closed, target, tile, goes_everywhere=True),
        )
        for target in ring.targets
    ]
    return _Part(region.closed, Choices(tuple(choices)))


# One device ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """A pair of chunks on a device: the first query and key of the pair within the arrays, and their chunks."""

    queries: tuple[Index, int]
    """The first row and the number of rows, in arrays of this device's queries."""
    keys: tuple[Index, int]
    """The same, in the block of keys that is here."""
    all_keys: tuple[Index, int]
    """The same, in the keys of all devices."""
    q_chunk: Index
    kv_chunk: Index

    def window(self, name: str, x: Array) -> tuple[tuple[Index, ...], tuple[int, ...]]:
        """The starts and sizes of the pair's part of an operand."""
        starts: list[Index] = [0] * x.ndim
        sizes = list(x.shape)
        operand = _OPERANDS[name]
        for place, axis in zip(range(x.ndim - len(operand.axes), x.ndim), operand.axes, strict=True):
            if place < 0 or (operand.batch == "broadcast" and sizes[place] == 1):
                continue
            if axis == "queries":
                starts[place], sizes[place] = self.queries
            elif axis == "keys":
                starts[place], sizes[place] = self.all_keys if operand.batch == "broadcast" else self.keys
        return tuple(jnp.int32(start) for start in starts), tuple(sizes)

    def cut(self, name: str, x: Array) -> Array:
        starts, sizes = self.window(name, x)
        return x if sizes == x.shape else lax.dynamic_slice(x, starts, sizes)

    def replaced(self, name: str, x: Array, part: Array) -> Array:
        starts, sizes = self.window(name, x)
        return part if sizes == x.shape else lax.dynamic_update_slice(x, part, starts)

    def plus(self, name: str, x: Array, part: Array) -> Array:
        return self.replaced(name, x, self.cut(name, x) + part)


# Takes a part, its operands, its place and the carry, and returns the new carry.
_Step: TypeAlias = Callable[[_Part, Arrays, _Place, Any], Any]


@dataclass(frozen=True, slots=True)
class _Device:
    """The program of a device: its own arrays, and what it does with a block that reaches it."""

    ring: Ring
    plan: Schedule
    own: Arrays
    """Its queries and what belongs to them."""
    step: _Step

    @property
    def index(self) -> Array:
        return lax.axis_index(self.ring.axis)

    def visit(self, block: Arrays, home: Array, visits: Visits, carry: Any) -> Any:
        """The carry after all pairs of chunks; the block comes from the device `home`."""
        if not visits.pairs:
            return carry
        if len(visits.pairs) == 1:
            return self._pair(block, home, visits, *visits.pairs[0], carry)
        places = jnp.asarray(visits.pairs, jnp.int32)

        def body(n: Array, carry: Any) -> Any:
            return self._pair(block, home, visits, places[n, 0], places[n, 1], carry)

        return lax.fori_loop(jnp.int32(0), jnp.int32(len(visits.pairs)), body, carry)

    def _pair(self, block: Arrays, home: Array, visits: Visits, row: Index, column: Index, carry: Any) -> Any:
        held = jnp.asarray(self.plan.order.held, jnp.int32)
        count = self.plan.order.per_device
        rows, columns = self.own["q"].shape[-3] // count, block["k"].shape[-3] // count
        place = _Place(
            queries=(row * rows, rows),
            keys=(column * columns, columns),
            all_keys=(home * (count * columns) + column * columns, columns),
            q_chunk=held[self.index, row],
            kv_chunk=held[home, column],
        )
        branches = [self._branch(block, place, self.plan.cases[case - 1] if case else None) for case in visits.cases]
        if len(branches) == 1:
            return branches[0](carry)
        numbers = np.zeros(len(self.plan.cases) + 1, np.int32)
        numbers[list(visits.cases)] = np.arange(len(visits.cases))
        case = jnp.asarray(self.plan.table, jnp.int32)[place.q_chunk, place.kv_chunk]
        return lax.switch(jnp.asarray(numbers)[case], branches, carry)

    def _branch(self, block: Arrays, place: _Place, case: Case | None) -> Callable[[Any], Any]:
        def compute(carry: Any) -> Any:
            if case is None:
                return carry
            arrays = {name: place.cut(name, x) for name, x in (self.own | block).items() if name in _OPERANDS}
            if case.reads_positions and self.plan.order.name is not None:
                for name, chunk, (_, size) in (
                    ("q_positions", place.q_chunk, place.queries),
                    ("kv_positions", place.kv_chunk, place.keys),
                ):
                    arrays[name] = chunk * size + jnp.arange(size, dtype=jnp.int32)
            part = _part(self.ring, case, arrays)
            read = [name for name in part.closed.input_types if _OPERANDS[name].variable in masks.variables(case.mask)]
            ranges = {_OPERANDS[name].variable: _range(arrays[name]) for name in read}
            if not ranges:
                return self.step(part, arrays, place, carry)
            step = functools.partial(self.step, part, arrays, place)
            return lax.cond(may_see(case.mask, ranges), step, _unchanged, carry)

        return compute

    def at_once(self, block: Arrays, carry: Any) -> Any:
        """The carry after the keys of all devices, which `block` holds, one device after the other."""
        order, arrays = self.plan.order, self.own | block
        if order.name is not None:
            here, length = self.own["q"].shape[-3], block["k"].shape[-3]
            positions = jnp.asarray(order.positions(length), jnp.int32)
            arrays["q_positions"] = lax.dynamic_slice_in_dim(positions, self.index * here, here)
            arrays["kv_positions"] = positions
        rows, columns = (0, self.own["q"].shape[-3]), (0, block["k"].shape[-3])
        place = _Place(rows, columns, columns, 0, 0)
        return self.step(_part(self.ring, Case(self.ring.mask, reads_positions=True), arrays), arrays, place, carry)

    def around(self, block: Arrays, state: Any, gathered: Any) -> tuple[Any, list[Any]]:
        """The state after all blocks have been here, and for each way around what the own block gathered.

        `gathered` is what a block starts with; it travels with its block and comes home.
        """
        up, down = self.plan.hops
        state, brought = self._way(block, 1, range(up), state, gathered)
        if not down:
            return state, [brought]
        state, other = self._way(self._moved(block, -1), -1, range(1, down), state, gathered)
        return state, [brought, other]

    def _way(self, here: Arrays, direction: int, steps: range, state: Any, with_it: Any) -> tuple[Any, Any]:
        """The state after the blocks that come in one direction, and what the own block gathered on its way.

        `here` is the block before the first of `steps`. After all of them, one more block is here, and is visited.
        """
        last = steps.stop * direction
        if steps:
            visits = self.plan.visits([step * direction for step in steps])

            def body(step: Array, carry: tuple[Arrays, Any, Any]) -> tuple[Arrays, Any, Any]:
                here, state, with_it = carry
                after = self._moved(here, direction)  # while this device computes
                state, with_it = self.visit(here, self._home(step * direction), visits, (state, with_it))
                return after, state, self._moved(with_it, direction)

            first, stop = jnp.int32(steps.start), jnp.int32(steps.stop)
            here, state, with_it = lax.fori_loop(first, stop, body, (here, state, with_it))
        state, with_it = self.visit(here, self._home(last), self.plan.visits([last]), (state, with_it))
        return state, self._moved(with_it, -last)

    def _home(self, steps: Index) -> Array:
        """The device that a block which has made so many steps comes from."""
        return lax.rem(self.index - steps + self.plan.order.parts, jnp.int32(self.plan.order.parts))

    def _moved(self, arrays: Any, steps: int) -> Any:
        parts = self.plan.order.parts
        if steps % parts == 0:
            return arrays
        ring = [(device, (device + steps) % parts) for device in range(parts)]
        return jax.tree.map(functools.partial(lax.ppermute, axis_name=self.ring.axis, perm=ring), arrays)


def _range(values: Array) -> tuple[Array, Array]:
    """The lowest and highest of positions or segments, as integers, as which masks read them."""
    whole = values if jnp.issubdtype(values.dtype, jnp.integer) else values.astype(jnp.int32)
    return jnp.min(whole), jnp.max(whole)


def _unchanged(carry: Any) -> Any:
    return carry


def _device(ring: Ring, floats: Arrays, others: Arrays, step: _Step) -> tuple[_Device, Arrays]:
    """The program of this device, and its own block of keys."""
    given = floats | others
    count = ring.order.per_device
    queries, keys = given["q"].shape, given["k"].shape
    plan = schedule(ring.order, ring.mask, ring.score, queries[-3] // count, keys[-3] // count, queries[-2])
    block = {name: given[name] for name in _TRAVELS if name in given}
    own = {name: x for name, x in given.items() if name not in block}
    return _Device(ring, plan, own, step), block


# Forward and backward -----------------------------------------------------------------------------------------------


@plain.own_promotion()
def forward(ring: Ring, floats: Arrays, others: Arrays) -> tuple[Array, Array]:
    """(out, lse) of the queries of this device over the keys of all devices of the ring.

    `floats` holds q (..., Sq, H, D), k (..., Skv, Hkv, D), v (..., Skv, Hkv, Dv) and, optionally, bias and sinks (H,);
    `others` may hold q_positions, kv_positions, q_segments, kv_segments and mask. The last axis of bias and mask has 1
    or all keys of the ring, device after device; their other axes are local. A row that sees no key is zero. `out`
    (..., Sq, H, Dv) is in q's type, `lse` (..., Sq, H) in float32, or float64 for float64.
    """
    q, v = floats["q"], floats["v"]
    wide = plain.accumulator(q.dtype)

    def step(part: _Part, arrays: Arrays, place: _Place, carry: Any) -> Any:
        (out, lse), nothing = carry
        made = bind(part.closed, part.choices, part.operands(arrays))
        lse_of_rows = lse[..., None]
        before = place.cut("q", out), place.cut("q", lse_of_rows)[..., 0]
        merged_out, merged_lse = merged([before, (made[0], made[1])])
        out = place.replaced("q", out, merged_out)
        return (out, place.replaced("q", lse_of_rows, merged_lse[..., None])[..., 0]), nothing

    sinks = floats.get("sinks")
    device, block = _device(ring, {name: x for name, x in floats.items() if name != "sinks"}, others, step)
    nothing = jnp.zeros((*q.shape[:-1], v.shape[-1]), wide), jnp.full(q.shape[:-1], -jnp.inf, wide)
    state = _like(nothing, floats)
    if ring.gathers:
        (out, lse), _ = device.at_once(_all(ring, block), (state, ()))
    else:
        (out, lse), _ = device.around(block, state, ())
    if sinks is not None:
        out, lse = merged([(out, lse), (jnp.zeros_like(out), jnp.broadcast_to(sinks.astype(wide), lse.shape))])
    return out.astype(q.dtype), lse


def _all(ring: Ring, block: Arrays) -> Arrays:
    """The blocks of all devices, one after the other."""
    places = {name: x.ndim - len(_OPERANDS[name].axes) for name, x in block.items()}
    return {name: lax.all_gather(x, ring.axis, axis=places[name], tiled=True) for name, x in block.items()}


def _like(values: Any, given: Arrays) -> Any:
    """Values that vary over the axes of the mesh over which the given arrays vary, as the carry of a loop must."""
    leaves, tree = jax.tree.flatten(values)
    return jax.tree.unflatten(tree, alike([*given.values(), *leaves])[len(given) :])


@plain.own_promotion()
def backward(ring: Ring, floats: Arrays, others: Arrays, out: Array, lse: Array, d_out: Array, d_lse: Array) -> Arrays:
    """The cotangents of `floats`, from the results of `forward` and their cotangents."""
    wide = plain.accumulator(out.dtype)
    results = {"out": out, "lse": lse[..., None], "d_out": d_out, "d_lse": d_lse[..., None]}

    def step(part: _Part, arrays: Arrays, place: _Place, carry: Any) -> Any:
        state, gathered = carry
        rows = {name: place.cut("q", x) for name, x in results.items()}
        pulled = bind_backward(
            part.closed,
            part.choices,
            part.operands(arrays),
            (rows["out"], rows["lse"][..., 0]),
            (rows["d_out"], rows["d_lse"][..., 0]),
        )
        state = {name: place.plus(name, x, pulled[name]) for name, x in state.items()}
        return state, {name: place.plus(name, x, pulled[name]) for name, x in gathered.items()}

    sinks = floats.get("sinks")
    device, block = _device(ring, {name: x for name, x in floats.items() if name != "sinks"}, others, step)

    def zeros(arrays: Arrays, names: Sequence[str]) -> Arrays:
        return _like({name: jnp.zeros(arrays[name].shape, wide) for name in names if name in arrays}, floats)

    state = zeros(floats, ("q", "bias"))
    if ring.gathers:
        block = _all(ring, block)
        pulled, gathered = device.at_once(block, (state, zeros(block, ("k", "v"))))
        for name, x in gathered.items():
            pulled[name] = lax.psum_scatter(x, ring.axis, scatter_dimension=x.ndim - 3, tiled=True)
    else:
        pulled, brought = device.around(block, state, zeros(block, ("k", "v")))
        for gathered in brought:
            pulled |= {name: pulled[name] + x if name in pulled else x for name, x in gathered.items()}
    if sinks is not None:
        drag = jnp.sum(out.astype(wide) * d_out.astype(wide), -1) - d_lse
        weight = jnp.exp(sinks.astype(wide) - lse)
        pulled["sinks"] = -jnp.sum(weight * drag, tuple(range(lse.ndim - 1)))
    return {name: pulled[name].astype(x.dtype) for name, x in floats.items()}
