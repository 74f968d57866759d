"""Attention whose key heads are computed side by side, for a program that XLA splits over several devices.

`tiled` computes one key head after another, and a loop over an axis that lies over devices would gather it. Here the
batch and the key heads are axes of every array instead (`jax.vmap`), so that XLA can split each of them, without
communication. More scores exist at a time, so the tiles are smaller.

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
from jax import Array

from ropegen.ir.op import Operand
from ropegen.ir.ops import Attend

from . import tiled
from .blocks import Among, Operands, Static, Tile

# The least sizes of a tile of scores.
_LEAST_QUERIES, _LEAST_KEYS = 32, 128


@dataclass(frozen=True, slots=True)
class _Cut:
    """How an array of the whole attention is cut into key heads."""

    shape: tuple[int, ...]
    """Its shape with the axis of the heads cut in two: (..., Hkv, G, ...)."""
    batch: tuple[bool, ...]
    """Which sizes of the batch it has."""
    head: int | None
    """The axis of the key heads, counted after the batch; None if all key heads read the same."""


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

        def one(x: Mapping[str, Array], its: Static) -> dict[str, Array]:
            out, lse = tiled.forward(op, whole.tile(tile), x["q"], x["k"], x["v"], whole.beside(x), its)
            return {"out": out, "lse": lse}

        results = whole.run(one, {"q": q, "k": k, "v": v, **given})
        return whole.joined(results["out"]), whole.joined(results["lse"])

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

        def one(x: Mapping[str, Array], its: Static) -> dict[str, Array]:
            inner = (x["q"], x["k"], x["v"], whole.beside(x))
            dq, dk, dv, extra = tiled.backward(
                op, whole.tile(tile), inner, x["out"], x["lse"], x["dout"], x["dlse"], its
            )
            return {"q": dq, "k": dk, "v": dv, **extra}

        arrays = {"q": q, "k": k, "v": v, "out": out, "lse": lse, "dout": d_out, "dlse": d_lse, **given}
        results = whole.run(one, arrays)
        summed = [name for name in ("bias", "sinks", "numbers") if name in results]
        extra = {name: whole.summed(name, results[name], given[name]) for name in summed}
        return whole.joined(results["q"]), whole.joined(results["k"]), whole.joined(results["v"]), extra


class _Whole:
    """The whole attention, cut into key heads."""

    def __init__(self, op: Attend, q: Array, k: Array, static: Static, devices: int) -> None:
        self.op, self.static, self.devices = op, static, devices
        self.lead, self.heads, self.kv_heads = q.shape[:-3], q.shape[-2], k.shape[-2]
        self.is_empty = 0 in (*self.lead, self.heads, q.shape[-3], k.shape[-3])
        self.declared: dict[str, Operand] = {operand.name: operand for operand in op.beside}

    def tile(self, tile: Tile) -> Tile:
        """A tile with about as many scores on a device, in all its key heads, as `tile` has in one."""
        at_once = -(-math.prod(self.lead) * self.kv_heads // self.devices)
        queries, keys = tile.q, tile.kv
        while queries * keys * at_once > tile.q * tile.kv and (queries > _LEAST_QUERIES or keys > _LEAST_KEYS):
            if (queries > _LEAST_QUERIES and queries * 4 >= keys) or keys <= _LEAST_KEYS:
                queries = max(1, queries // 2)
            else:
                keys = max(1, keys // 2)
        return Tile(queries, keys)

    def beside(self, x: Mapping[str, Array]) -> dict[str, Array]:
        """The optional operands of one key head."""
        return {name: x[name] for name in self.declared if name in x}

    def run(
        self, one: Callable[[Mapping[str, Array], Static], dict[str, Array]], arrays: Mapping[str, Array]
    ) -> dict[str, Array]:
        """The results of all key heads, (B, Hkv, ...)."""
        cut = {name: self.cut(name, value) for name, value in arrays.items()}
        apart = {name: value.reshape(cut[name].shape) for name, value in arrays.items()}

        def head(batch: Array, index: Array, x: dict[str, Array]) -> dict[str, Array]:
            among = Among(batch, index, math.prod(self.lead), self.heads)
            return one(x, dataclasses.replace(self.static, among=among))

        mapped: Any = jax.vmap(head, (None, 0, {name: its.head for name, its in cut.items()}))
        for place in reversed(range(len(self.lead))):
            axes = {name: 0 if its.batch[place] else None for name, its in cut.items()}
            mapped = jax.vmap(mapped, (0, None, axes))
        batch = jnp.arange(math.prod(self.lead), dtype=jnp.int32).reshape(self.lead)
        return mapped(batch, jnp.arange(self.kv_heads, dtype=jnp.int32), apart)

    def cut(self, name: str, value: Array) -> _Cut:
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

    def summed(self, name: str, value: Array, operand: Array) -> Array:
        """The cotangent of an operand, summed over the key heads that share it."""
        its = self.cut(name, operand)
        has = (*its.batch, its.head is not None)
        shared = tuple(axis for axis, is_own in enumerate(has) if not is_own)
        wide = jnp.float32 if value.dtype.itemsize < 4 else value.dtype
        return jnp.sum(value, shared, dtype=wide).reshape(operand.shape).astype(operand.dtype)
