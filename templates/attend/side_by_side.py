"""Attention whose key heads are computed side by side, for a program that XLA splits over several devices.

`tiled` computes one key head after another, and a loop over an axis that lies over devices would gather it. Here the
batch and the key heads are axes of every array instead (`jax.vmap`), so that XLA can split each of them, without
communication. More scores exist at a time, so the tiles are smaller.

Forward and backward cut one block of scores after the other out of the whole arrays, and `tiled` computes it for all key
heads. So nothing but a block is ever held in another layout, and a device needs no more memory than for its own part.

The functions have the arguments and results of those in `tiled`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from ropegen.ir.op import Operand
from ropegen.ir.ops import Attend
from ropegen.merging import merged

from . import tiled
from .blocks import (
    Among,
    Block,
    Carry,
    Index,
    Operands,
    Site,
    Static,
    Tile,
    bits,
    cut,
    d_sinks,
    paste,
    shift_of,
    site_of,
)
from .sweep import Sweep

# The least sizes of a tile of scores.
_LEAST_QUERIES, _LEAST_KEYS = 32, 128
# The scores of all key heads of a device at a time, as a share of those that `tiled` has of one. It is small, because a
# device holds more than an even share of the key heads if a mesh splits nothing over one of its axes.
_SHARE = 1 / 8


@dataclass(frozen=True, slots=True)
class _Cut:
    """How an array of the whole attention is cut into key heads."""

    shape: tuple[int, ...]
    """Its shape with the axis of the heads cut in two: (..., Hkv, G, ...)."""
    batch: tuple[bool, ...]
    """Which sizes of the batch it has."""
    head: int | None
    """The axis of the key heads, counted after the batch; None if all key heads read the same."""

    @property
    def own(self) -> tuple[int, ...]:
        """The shape of the part of one key head."""
        rest = self.shape[sum(self.batch) :]
        return tuple(size for axis, size in enumerate(rest) if axis != self.head)


@dataclass(frozen=True, slots=True)
class SideBySide:
    """The passes of `tiled` over all key heads at once, over some devices."""

    devices: int

    def forward(
        self, op: Attend, tile: Tile, q: Array, k: Array, v: Array, given: dict[str, Array], static: Static
    ) -> tuple[Array, Array]:
        whole = _Whole(op, q, k, static, self.devices)
        if whole.is_empty:
            return tiled.forward(op, tile, q, k, v, given, static)
        site = whole.site(tile, q, k, v, given)
        part, beside = whole.of_part(given)
        arrays = {"q": q, "k": k, "v": v, **beside}

        def one(x: Mapping[str, Array], its: Static) -> dict[str, Array]:
            out, lse = tiled.forward(part, site.tile, x["q"], x["k"], x["v"], whole.beside(x), its)
            return {"out": out, "lse": lse}

        def begin(carry: Carry, start: Index, size: int, looped: bool) -> Carry:
            rows = (*whole.lead, size, whole.heads)
            return jnp.zeros((*rows, v.shape[-1]), site.wide), jnp.full(rows, -jnp.inf, site.wide)

        def step(state: tuple[Array, Array], block: Block) -> Carry:
            made = whole.run(one, arrays, block)
            return merged([state, (whole.joined(made["out"]), whole.joined(made["lse"]))])

        def finish(carry: Carry, state: tuple[Array, Array], start: Index, size: int) -> Carry:
            part, logarithm = state
            if "sinks" in given:
                sinks = jnp.broadcast_to(given["sinks"].astype(site.wide), logarithm.shape)
                part, logarithm = merged([state, (jnp.zeros_like(part), sinks)])
            if op.takes_mean:
                mean = jnp.mean(v, -3, keepdims=True, dtype=site.wide)
                mean = jnp.repeat(mean, whole.heads // whole.kv_heads, -2)
                part = jnp.where((logarithm == -jnp.inf)[..., None], mean, part)
            out, lse = carry
            at = whole.rows(start)
            return paste(out, bits(part.astype(site.output)), (*at, 0)), paste(lse, logarithm, at)

        empty = jnp.zeros((*q.shape[:-1], v.shape[-1]), site.output), jnp.zeros(q.shape[:-1], site.wide)
        out, lse = Sweep(site, None, by_key=False).run((bits(empty[0]), empty[1]), begin, step, finish)
        return lax.bitcast_convert_type(out, site.output), lse

    def tangent(
        self,
        op: Attend,
        tile: Tile,
        operands: Operands,
        out: Array,
        lse: Array,
        tangents: tuple[Array | None, Array | None, Array | None, dict[str, Array | None]],
        static: Static,
    ) -> tuple[Array, Array]:
        q, k, v, given = operands
        whole = _Whole(op, q, k, static, self.devices)
        if whole.is_empty:
            return tiled.tangent(op, tile, operands, out, lse, tangents, static)
        moving = {"dq": tangents[0], "dk": tangents[1], "dv": tangents[2]}
        moving |= {f"d{name}": value for name, value in tangents[3].items()}
        arrays = {name: value for name, value in moving.items() if value is not None}

        def one(x: Mapping[str, Array], its: Static) -> dict[str, Array]:
            beside = {name: x.get(f"d{name}") for name in given}
            d_out, d_lse = tiled.tangent(
                op,
                whole.tile(tile),
                (x["q"], x["k"], x["v"], whole.beside(x)),
                x["out"],
                x["lse"],
                (x.get("dq"), x.get("dk"), x.get("dv"), beside),
                its,
            )
            return {"out": d_out, "lse": d_lse}

        results = whole.run(one, {"q": q, "k": k, "v": v, "out": out, "lse": lse, **given, **arrays})
        return whole.joined(results["out"]), whole.joined(results["lse"])

    def backward(
        self,
        op: Attend,
        tile: Tile,
        operands: Operands,
        out: Array,
        lse: Array,
        d_out: Array,
        d_lse: Array,
        static: Static,
    ) -> tuple[Array, Array, Array, dict[str, Array]]:
        q, k, v, given = operands
        whole = _Whole(op, q, k, static, self.devices)
        if whole.is_empty:
            return tiled.backward(op, tile, operands, out, lse, d_out, d_lse, static)
        site = whole.site(tile, q, k, v, given)
        part, beside = whole.of_part(given)
        arrays = {"q": q, "k": k, "v": v, "out": out, "lse": lse, "dout": d_out, "dlse": d_lse, **beside}
        sums = {name: given[name] for name in ("bias", "numbers") if name in given}

        def one(x: Mapping[str, Array], its: Static) -> dict[str, Array]:
            inner = (x["q"], x["k"], x["v"], whole.beside(x))
            dq, dk, dv, extra = tiled.backward(part, site.tile, inner, x["out"], x["lse"], x["dout"], x["dlse"], its)
            return {"q": dq, "k": dk, "v": dv, **extra}

        def begin(carry: Carry, start: Index, size: int, looped: bool) -> Carry:
            rows = (*whole.lead, size, whole.kv_heads)
            return *(jnp.zeros((*rows, x.shape[-1]), site.wide) for x in (k, v)), carry

        def step(state: Carry, block: Block) -> Carry:
            dk_part, dv_part, (dq, dk, dv, extra) = state
            made = whole.run(one, arrays, block)
            dq = whole.plus("q", dq, whole.joined(made["q"]), block)
            added: dict[str, Array] = {}
            for name, x in sums.items():
                addend = made[name]
                if not whole.is_kept_apart(name, x):
                    addend = whole.summed(name, addend, whole.window(name, x.shape, block)[1])
                added[name] = whole.plus(name, extra[name], addend, block)
            return dk_part + whole.joined(made["k"]), dv_part + whole.joined(made["v"]), (dq, dk, dv, added)

        def finish(carry: Carry, state: Carry, start: Index, size: int) -> Carry:
            dk_part, dv_part, (dq, dk, dv, extra) = state
            # Added, because the last tile of a loop overlaps the one before. In the overlap its part is zero.
            block = Block(0, site.queries, start, size, masked=False)
            return dq, whole.plus("k", dk, dk_part, block), whole.plus("v", dv, dv_part, block), extra

        zeros = jnp.zeros(q.shape, site.wide), *(bits(jnp.zeros(x.shape, site.output)) for x in (k, v))
        totals = {name: jnp.zeros(whole.shape_of_sums(name, x), site.wide) for name, x in sums.items()}
        dq, dk, dv, totals = Sweep(site, None, by_key=True).run((*zeros, totals), begin, step, finish)
        dk, dv = (lax.bitcast_convert_type(x, site.output) for x in (dk, dv))
        extra: dict[str, Array] = {}
        for name, x in sums.items():
            total = whole.summed(name, totals[name], x.shape) if whole.is_kept_apart(name, x) else totals[name]
            extra[name] = total.astype(site.wide if op.partial else x.dtype)
        if "sinks" in given:
            sinks = given["sinks"]
            drag = jnp.sum(out.astype(site.wide) * d_out.astype(site.wide), -1) - d_lse.astype(site.wide)
            extra["sinks"] = d_sinks(sinks.astype(site.wide), shift_of(lse), drag).astype(sinks.dtype)
        if op.takes_mean:
            unseen = jnp.where((lse == -jnp.inf)[..., None], d_out.astype(site.wide), 0.0)
            d_mean = jnp.sum(unseen, -3, keepdims=True) / site.keys
            d_mean = jnp.sum(d_mean.reshape(*whole.lead, 1, whole.kv_heads, -1, v.shape[-1]), -2)
            dv = (dv.astype(site.wide) + d_mean).astype(site.output)
        return dq.astype(site.output), dk, dv, extra


class _Whole:
    """The whole attention, cut into key heads."""

    def __init__(self, op: Attend, q: Array, k: Array, static: Static, devices: int) -> None:
        self.op, self.static, self.devices, self.dtype = op, static, devices, q.dtype
        self.lead, self.heads, self.kv_heads = q.shape[:-3], q.shape[-2], k.shape[-2]
        self.is_empty = 0 in (*self.lead, self.heads, q.shape[-3], k.shape[-3])
        self.declared: dict[str, Operand] = {operand.name: operand for operand in op.beside}

    def site(self, tile: Tile, q: Array, k: Array, v: Array, given: dict[str, Array]) -> Site:
        """The site of the whole attention, whose blocks have a size for all key heads at once."""
        return site_of(self.op, self.tile(tile), q, k, v, given, self.static)

    def of_part(self, given: Mapping[str, Array]) -> tuple[Attend, dict[str, Array]]:
        """The attention that computes one block, and its optional operands. Sinks and means belong to all keys."""
        names = tuple(name for name in self.op.given if name != "sinks")
        part = dataclasses.replace(self.op, masked_row="zero", given=names)
        return part, {name: x for name, x in given.items() if name != "sinks"}

    def tile(self, tile: Tile) -> Tile:
        """A tile with fewer scores on a device, in all its key heads, than `tile` has in one, see `_SHARE`."""
        at_once = -(-math.prod(self.lead) * self.kv_heads // self.devices)
        queries, keys = tile.q, tile.kv
        while queries * keys * at_once > _SHARE * tile.q * tile.kv and (queries > _LEAST_QUERIES or keys > _LEAST_KEYS):
            if (queries > _LEAST_QUERIES and queries * 4 >= keys) or keys <= _LEAST_KEYS:
                queries = max(1, queries // 2)
            else:
                keys = max(1, keys // 2)
        return Tile(queries, keys)

    def beside(self, x: Mapping[str, Array]) -> dict[str, Array]:
        """The optional operands of one key head."""
        return {name: x[name] for name in self.declared if name in x}

    def rows(self, start: Index) -> tuple[Index, ...]:
        """Where the rows (..., S, heads) from `start` begin."""
        return (*(0 for _ in self.lead), start, 0)

    def window(self, name: str, shape: tuple[int, ...], block: Block) -> tuple[tuple[Index, ...], tuple[int, ...]]:
        """The starts and sizes of a block's part of an array."""
        declared = self.declared.get(name)
        axes = ("keys" if name in ("k", "v") else "queries", "heads", "width") if declared is None else declared.axes
        if name in ("lse", "dlse"):
            axes = axes[:2]
        starts: list[Index] = [0 for _ in shape]
        sizes = list(shape)
        for place, axis in enumerate(axes, len(shape) - len(axes)):
            if place < 0 or (declared is not None and shape[place] == 1):
                continue
            if axis == "queries":
                starts[place], sizes[place] = block.q, block.q_size
            elif axis == "keys":
                starts[place], sizes[place] = block.kv, block.kv_size
        return tuple(starts), tuple(sizes)

    def part(self, name: str, x: Array, block: Block) -> Array:
        """The block's part of an array."""
        starts, sizes = self.window(name, x.shape, block)
        if not all(isinstance(start, int) for start in starts):
            # Without the barrier, XLA would move conversions of all of x out of the loops.
            x, starts = lax.optimization_barrier((x, starts))
        return cut(x, starts, sizes)

    def plus(self, name: str, whole: Array, part: Array, block: Block) -> Array:
        """The sum of an array and a block's part. Half precision is held as the integers of its bits."""
        starts, sizes = self.window(name, whole.shape, block)
        before = cut(whole, starts, sizes)
        if whole.dtype == np.uint16:
            before = lax.bitcast_convert_type(before, self.dtype)
        return paste(whole, bits((before.astype(part.dtype) + part).astype(before.dtype)), starts)

    def run(
        self,
        one: Callable[[Mapping[str, Array], Static], dict[str, Array]],
        arrays: Mapping[str, Array],
        block: Block | None = None,
    ) -> dict[str, Array]:
        """The results of all key heads, (B, Hkv, ...), for all scores or for a block of them."""
        static = self.static
        if block is not None:
            arrays = {name: self.part(name, x, block) for name, x in arrays.items()}
            for name, known, start, size in (
                ("q_positions", static.q_positions, block.q, block.q_size),
                ("kv_positions", static.kv_positions, block.kv, block.kv_size),
            ):
                if known is not None and name in self.op.needed:
                    arrays[name] = known[0] + start + jnp.arange(size, dtype=jnp.int32)
            static = dataclasses.replace(static, q_positions=None, kv_positions=None)
        cuts = {name: self.cut(name, value) for name, value in arrays.items()}
        apart = {name: value.reshape(cuts[name].shape) for name, value in arrays.items()}

        def head(batch: Array, index: Array, x: dict[str, Array]) -> dict[str, Array]:
            among = Among(batch, index, math.prod(self.lead), self.heads, block)
            return one(x, dataclasses.replace(static, among=among))

        mapped: Any = jax.vmap(head, (None, 0, {name: its.head for name, its in cuts.items()}))
        for place in reversed(range(len(self.lead))):
            axes = {name: 0 if its.batch[place] else None for name, its in cuts.items()}
            mapped = jax.vmap(mapped, (0, None, axes))
        batch = jnp.arange(math.prod(self.lead), dtype=jnp.int32).reshape(self.lead)
        return mapped(batch, jnp.arange(self.kv_heads, dtype=jnp.int32), apart)

    def cut(self, name: str, value: Array | jax.ShapeDtypeStruct) -> _Cut:
        """How an array is cut: an operand of the attention, a result, or a tangent of one, whose name begins with d."""
        rank, group = len(self.lead), self.heads // self.kv_heads
        every, none = (True,) * rank, (False,) * rank
        declared = self.declared.get(name) or self.declared.get(name.removeprefix("d"))
        if declared is None:
            # q, k, v, out, lse: (..., S, heads) or (..., S, heads, width).
            sequence, heads, *width = value.shape[rank:]
            return _Cut((*self.lead, sequence, self.kv_heads, heads // self.kv_heads, *width), every, 1)
        if declared.name == "numbers":
            return _Cut(value.shape, none, None)
        if declared.batch == "none":
            return _Cut((self.kv_heads, group), none, 0) if "heads" in declared.axes else _Cut(value.shape, none, None)
        if declared.batch == "optional":
            return _Cut(value.shape, every if value.ndim > len(declared.axes) else none, None)
        shape = declared.padded(value.shape, rank)
        has = tuple(size > 1 for size in shape[:rank])
        heads, *scores = shape[rank:]
        by_head = (self.kv_heads, group) if heads > 1 else (heads,)
        return _Cut((*(size for size in shape[:rank] if size > 1), *by_head, *scores), has, 0 if heads > 1 else None)

    def joined(self, value: Array) -> Array:
        """The results of all key heads, (..., Hkv, S, heads, ...), as (..., S, H, ...)."""
        rank = len(self.lead)
        moved = jnp.moveaxis(value, rank, rank + 1)
        return moved.reshape(*moved.shape[: rank + 1], -1, *moved.shape[rank + 3 :])

    def is_kept_apart(self, name: str, x: Array) -> bool:
        """Whether the cotangent of an operand is held for every key head and summed at the end: so a sum over devices is one,
        and not one for every block. A bias for every score is too large for that, and every block has its own part.
        """
        _, *sizes = self.declared[name].padded(x.shape, len(self.lead))[len(self.lead) :]
        return min(sizes, default=1) == 1

    def shape_of_sums(self, name: str, x: Array) -> tuple[int, ...]:
        """The shape of the sum of the parts of all blocks."""
        return (*self.lead, self.kv_heads, *self.cut(name, x).own) if self.is_kept_apart(name, x) else x.shape

    def summed(self, name: str, value: Array, shape: tuple[int, ...]) -> Array:
        """The cotangents of all key heads, summed over those that share an operand of that shape."""
        its = self.cut(name, jax.ShapeDtypeStruct(shape, value.dtype))
        has = (*its.batch, its.head is not None)
        shared = tuple(axis for axis, is_own in enumerate(has) if not is_own)
        return jnp.sum(value, shared).reshape(shape)
