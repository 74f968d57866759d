"""The kernel of a region on one platform: built by its template, completed by another one, and held to its contract.

A template is code that anyone may add. Whatever it returns is compared with what the region needs when the kernel is
traced, so that a mistake is an error that names the template, and neither a wrong number nor an error of JAX.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax

from ropegen import plain
from ropegen.emit.fallback import warn
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node
from ropegen.target import Target
from ropegen.template import (
    OWN,
    AnyTemplate,
    Array,
    Arrays,
    Family,
    Kernel,
    Tangents,
    Tile,
    catalog,
    cheapest_tile,
    family,
    plain_kernel,
    template,
)
from ropegen.types import TensorType, numpy_dtype

# How many regions keep the list of what their kernels read and return.
_KEPT_REGIONS = 512


@dataclass(frozen=True, slots=True)
class Values:
    """The nodes that the kernel of a region reads (operands) and returns (outputs, then residuals)."""

    operands: tuple[Node, ...]
    results: tuple[Node, ...]


def values_of(closed: Graph) -> Values:
    """What the kernels of a closed region read and return."""
    return _values_of(closed, catalog())


@functools.lru_cache(maxsize=_KEPT_REGIONS)
def _values_of(closed: Graph, templates: tuple[AnyTemplate, ...]) -> Values:
    """`templates` is the catalogue, whose family states the residuals; it is part of the key."""
    its: Family[Any] = family(closed.name)
    outputs = tuple(value for _, value in closed.outputs)
    return Values(closed.inputs, (*outputs, *its.residuals(its.site(closed))))


def cotangent_types(closed: Graph) -> tuple[TensorType, ...]:
    """The type of the cotangent of every operand: that of the operand, unless the region is a partial attention."""
    ends = (value.op for _, value in closed.outputs)
    partial = next((op.partial for op in ends if isinstance(op, ops.Attend)), None)
    types = (operand.type for operand in values_of(closed).operands)
    return tuple(TensorType(kind.shape, partial) if partial and kind.is_float else kind for kind in types)


@dataclass(frozen=True, slots=True)
class CompleteKernel:
    """A kernel with all of its directions."""

    forward: Callable[..., Arrays]
    tangent: Callable[[Arrays, Arrays, Tangents], Arrays]
    backward: Callable[[Arrays, Arrays, Tangents, Sequence[bool]], Tangents]


def unfused_kernel(closed: Graph) -> CompleteKernel:
    """The plain formulas of a region's ops, in the forms that fit the platform."""
    values = values_of(closed)

    def forward(*operands: Array) -> Arrays:
        known = dict(zip(values.operands, operands, strict=True))
        return plain.evaluate(values.results, known, plain.compute_for_platform)

    return _Checked(closed, "the plain formulas", plain_kernel(forward), None).complete()


def built_kernel(closed: Graph, made_by: AnyTemplate, target: Target, tile: Tile, devices: int = 1) -> CompleteKernel:
    """The kernel that a template builds for a closed region, with the derivatives that it leaves to another template.

    XLA splits the kernel over so many `devices`.

    Raises:
      RopegenError: the target is not of a platform of the template, or the template builds no kernel.
    """
    kernel = _build(closed, made_by, target, tile, devices)
    elsewhere = None
    if made_by.derivatives != OWN:
        elsewhere = functools.partial(_build, closed, template(made_by.derivatives), target, None, devices)
    return _Checked(closed, f"template {made_by}", kernel, elsewhere).complete()


def _build(closed: Graph, made_by: AnyTemplate, target: Target, tile: Tile | None, devices: int) -> Kernel:
    """The kernel of a template. Without a tile, it is built with the one that is cheapest on the target."""
    if target.platform not in made_by.runs_on:
        raise RopegenError(
            f"template {made_by} runs on {', '.join(made_by.runs_on)} and is asked to build for {target}; "
            "plan for a target of its platforms"
        )
    site = family(closed.name).site(closed)
    size = cheapest_tile(made_by, site, target) if tile is None else tile
    if devices > 1 and made_by.build_split is not None:
        kernel = made_by.build_split(site, size, target, devices)
    else:
        kernel = made_by.build(site, size, target)
    if not isinstance(cast(object, kernel), Kernel):
        raise RopegenError(f"template {made_by}: build returned {kernel!r}; it must return a ropegen.template.Kernel")
    return kernel


@dataclass(frozen=True, slots=True)
class _Checked:
    """The functions of a kernel, compared with what its region needs; `maker` is what messages call it."""

    closed: Graph
    maker: str
    kernel: Kernel
    elsewhere: Callable[[], Kernel] | None
    """Builds the kernel that has the derivatives which this one leaves out."""

    def complete(self) -> CompleteKernel:
        return CompleteKernel(self.forward, self.tangent, self.backward)

    def forward(self, *operands: Array) -> Arrays:
        values = values_of(self.closed)
        types = [value.type for value in values.results]
        return self._expect("forward", self.kernel.forward(*operands), types, "the outputs, then the residuals")

    def tangent(self, operands: Arrays, results: Arrays, tangents: Tangents) -> Arrays:
        function = self.kernel.tangent or (None if self.elsewhere is None else self.elsewhere().tangent)
        if function is None:
            raise RopegenError(
                f"{self.maker} has no tangent; write one, or name a template that has it in `derivatives`"
            )
        types = [value.type for value in values_of(self.closed).results]
        return self._expect("tangent", function(operands, results, tangents), types, "one tangent per result")

    def backward(self, operands: Arrays, results: Arrays, cotangents: Tangents, wanted: Sequence[bool]) -> Tangents:
        own, pulled = self.kernel.backward, None
        if own is not None:
            pulled = own(operands, results, cotangents, wanted)
        if pulled is None and self.elsewhere is not None and (other := self.elsewhere().backward) is not None:
            if own is not None:
                warn(f"the gradient of {self.closed.name} falls back to XLA: {self.maker} does not compute this one")
            pulled = other(operands, results, cotangents, wanted)
        if pulled is None:
            raise RopegenError(
                f"{self.maker} has no backward; write one, or name a template that has it in `derivatives`"
            )
        inputs = values_of(self.closed).operands
        self._expect_tuple("backward", pulled, len(inputs), "one cotangent per operand, None if it is not wanted")
        types, widened = cotangent_types(self.closed), list(pulled)
        for index, (label, kind) in enumerate(self.closed.input_types.items()):
            cotangent = pulled[index]
            if not wanted[index]:
                continue
            if cotangent is None:
                raise RopegenError(
                    f"{self.maker}: backward returned None for the operand {label}, whose cotangent is wanted; return zeros "
                    "if it is zero, or None for the whole if `derivatives` names a template that computes it"
                )
            # A template may round the cotangents of a part to the type of its operands.
            rounds = kind.dtype != types[index].dtype and getattr(cotangent, "dtype", None) == numpy_dtype(kind.dtype)
            self._expect_type(f"backward: the cotangent of {label}", cotangent, kind if rounds else types[index])
            widened[index] = cotangent.astype(numpy_dtype(types[index].dtype))
        return tuple(widened)

    def _expect(self, what: str, given: Any, types: Sequence[TensorType], wanted: str) -> Arrays:
        self._expect_tuple(what, given, len(types), wanted)
        for index, (value, kind) in enumerate(zip(given, types, strict=True)):
            self._expect_type(f"{what}: result {index}", value, kind)
        return given

    def _expect_tuple(self, what: str, given: Any, count: int, wanted: str) -> None:
        if not isinstance(given, tuple):
            raise RopegenError(
                f"{self.maker}: {what} returned a {type(given).__name__}; return a tuple of {count}: {wanted}"
            )
        if len(cast("tuple[Any, ...]", given)) != count:
            raise RopegenError(
                f"{self.maker}: {what} returned {len(cast('tuple[Any, ...]', given))} values; return a tuple of {count}: {wanted}"
            )

    def _expect_type(self, what: str, value: Any, kind: TensorType) -> None:
        if not isinstance(value, jax.Array) or value.shape != kind.shape or value.dtype != numpy_dtype(kind.dtype):
            got = f"{value.dtype}{list(value.shape)}" if isinstance(value, jax.Array) else type(value).__name__
            raise RopegenError(f"{self.maker}: {what} is {got}; the region {self.closed.name} needs {kind}")
