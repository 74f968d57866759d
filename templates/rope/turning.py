"""The derivatives of rotations: a tangent is rotated like x, and a cotangent is rotated back."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Protocol

import jax.numpy as jnp

from ropegen.template import Array, Arrays, Kernel, Tangents

from .site import RopeSite


class Turn(Protocol):
    """Rotates arrays (..., S, H, D) by angles (S, dim) or (..., S, dim), each array with its pairing.

    With `inverse`, it rotates by the opposite angles.
    """

    def __call__(
        self, arrays: Sequence[Array], angles: Array, pairings: Sequence[str], *, inverse: bool = False
    ) -> Arrays: ...


def turning(site: RopeSite, turn: Turn, by_xla: Kernel) -> Kernel:
    """The kernel of a site. Derivatives in the angles are those of the `xla` template."""
    angles_at = site.operands.index(site.angles)
    places = [site.operands.index(source) for source in site.sources]

    def turned(values: Sequence[Array | None], angles: Array, *, inverse: bool = False) -> list[Array | None]:
        """The values rotated, or rotated back; a value that is None stands for zero, and so does its result."""
        present = [index for index, value in enumerate(values) if value is not None]
        arrays = [value for value in values if value is not None]
        results: list[Array | None] = [None] * len(values)
        if arrays:
            pairings = [site.pairings[index] for index in present]
            for index, result in zip(present, turn(arrays, angles, pairings, inverse=inverse), strict=True):
                results[index] = result
        return results

    def forward(*operands: Array) -> Arrays:
        return turn([operands[place] for place in places], operands[angles_at], site.pairings)

    def tangent(operands: Arrays, results: Arrays, tangents: Tangents) -> Arrays:
        if tangents[angles_at] is not None:
            assert by_xla.tangent is not None
            return by_xla.tangent(operands, results, tangents)
        moved = turned([tangents[place] for place in places], operands[angles_at])
        return tuple(_filled([value], result) for value, result in zip(moved, results, strict=True))

    def backward(operands: Arrays, results: Arrays, cotangents: Tangents, wanted: Sequence[bool]) -> Tangents | None:
        if wanted[angles_at]:
            return None
        given = [value if wanted[place] else None for place, value in zip(places, cotangents, strict=True)]
        back = turned(given, operands[angles_at], inverse=True)
        return tuple(
            _filled([value for at, value in zip(places, back, strict=True) if at == place], operand)
            if wanted[place]
            else None
            for place, operand in enumerate(operands)
        )

    return Kernel(forward, tangent, backward)


def _filled(parts: Sequence[Array | None], like: Array) -> Array:
    """The sum of the parts that are given; zeros if none is."""
    given = [part for part in parts if part is not None]
    return functools.reduce(jnp.add, given) if given else jnp.zeros_like(like)
