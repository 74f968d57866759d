"""Lanes: batch axes of a bound region whose size is no number of the graph, such as a symbolic batch of `jax.export`.

A region has numbers for sizes, because its plan and its kernels depend on them. A *lane* is one entry of an axis that is
not one of them. The primitives of a region take arrays with such axes in front, and `Lanes` says which operands have
them. Kernels of XLA run for all lanes together, under `jax.vmap`. A kernel behind a custom call runs for one lane after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export, lax

Array = jax.Array
Arrays = tuple[Array, ...]
Lanes = tuple[tuple[bool, ...], ...]
"""For every axis of lanes, the outermost first, which operands of the region have it."""


def is_symbolic(size: Any) -> bool:
    """Whether the size of an axis is a symbol of `jax.export`, which is no number."""
    return export.is_symbolic_dim(size)


def without_lanes(count: int, lanes: Lanes) -> tuple[int, ...]:
    """For `count` operands, how many axes of lanes stand before those of the region."""
    return tuple(sum(flags[index] for flags in lanes) for index in range(count))


def sizes_of(operands: Sequence[Any], lanes: Lanes) -> tuple[Any, ...]:
    """The sizes of the axes of lanes, from the operands that have them."""
    sizes: list[Any] = []
    for level, flags in enumerate(lanes):
        index = flags.index(True)
        sizes.append(operands[index].shape[without_lanes(len(flags), lanes[:level])[index]])
    return tuple(sizes)


def over_lanes(function: Callable[..., Arrays], levels: Sequence[Sequence[bool]], *, in_turn: bool = False) -> Any:
    """A function of arrays, for all lanes. For every axis, `levels` says which arrays have it. All results have all axes.

    With `in_turn`, one lane runs after the other.
    """
    for flags in reversed(levels):
        function = _in_turn(function, flags) if in_turn else jax.vmap(function, in_axes=_in_axes(flags))
    return function


def summed_over_lanes(
    function: Callable[..., Arrays], levels: Sequence[Sequence[bool]], kept: Lanes, *, in_turn: bool = False
) -> Any:
    """Like `over_lanes`, for a function that returns cotangents.

    `kept` says for every axis which of the results have it. The others are summed over the lanes, one lane after the
    other, so that only one lane of a large cotangent, such as that of a weight, is in memory.
    """
    for flags, has in zip(reversed(levels), reversed(kept), strict=True):
        together = jax.vmap(function, in_axes=_in_axes(flags))
        function = together if all(has) and not in_turn else _summed_in_turn(function, flags, has)
    return function


def _in_axes(flags: Sequence[bool]) -> tuple[int | None, ...]:
    return tuple(0 if has else None for has in flags)


def _chosen(values: Sequence[Array], flags: Sequence[bool]) -> Arrays:
    return tuple(value for value, has in zip(values, flags, strict=True) if has)


def _filled(values: Sequence[Array], flags: Sequence[bool], lane: Sequence[Array]) -> list[Array]:
    remaining = iter(lane)
    return [next(remaining) if has else value for value, has in zip(values, flags, strict=True)]


def _in_turn(function: Callable[..., Arrays], flags: Sequence[bool]) -> Callable[..., Arrays]:
    def mapped(*values: Array) -> Arrays:
        def one(lane: Arrays) -> Arrays:
            return function(*_filled(values, flags, lane))

        return lax.map(one, _chosen(values, flags))

    return mapped


def _summed_in_turn(
    function: Callable[..., Arrays], flags: Sequence[bool], kept: Sequence[bool]
) -> Callable[..., Arrays]:
    def mapped(*values: Array) -> Arrays:
        lanes = _chosen(values, flags)

        def one(lane: Arrays) -> Arrays:
            return function(*_filled(values, flags, lane))

        def first(lanes: Arrays) -> Arrays:
            return one(tuple(array[0] for array in lanes))

        types: Any = jax.eval_shape(first, lanes)
        summed = [kind for kind, has in zip(types, kept, strict=True) if not has]
        # A sum of many bfloat16 numbers in bfloat16 would lose most of them.
        start = [jnp.zeros(kind.shape, jnp.promote_types(kind.dtype, jnp.float32)) for kind in summed]

        def step(sums: list[Array], lane: Arrays) -> tuple[list[Array], Arrays]:
            results = one(lane)
            addends = [result for result, has in zip(results, kept, strict=True) if not has]
            return [one + other.astype(one.dtype) for one, other in zip(sums, addends, strict=True)], _chosen(
                results, kept
            )

        sums, stacked = lax.scan(step, start, lanes)
        totals, rest = iter(zip(sums, summed, strict=True)), iter(stacked)
        results: list[Array] = []
        for has in kept:
            if has:
                results.append(next(rest))
            else:
                total, kind = next(totals)
                results.append(total.astype(kind.dtype))
        return tuple(results)

    return mapped
