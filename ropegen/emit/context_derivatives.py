"""Attention over a ring of devices as a function that JAX differentiates, to any order and in any mode.

The gradient is the ring's own (`context_parallel.backward`). Tangents, and what is differentiated a second time, are those
of the attention over gathered keys, which equals the ring and consists of functions with all derivatives.

The primitive `context_parallel_linear` stands for the tangent or, with `is_backward`, for its transpose. It is linear in its
last arguments. So reverse mode transposes it, and computes no tangent.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ropegen import plain
from ropegen.emit.context_parallel import Array, Arrays, Ring, backward, forward
from ropegen.emit.lanes import Lanes, over_lanes, sizes_of, without_lanes
from ropegen.emit.varying import alike, typed_beside

Results: TypeAlias = tuple[Array, Array]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def attend(ring: Ring, floats: Arrays, others: Arrays) -> Results:
    """`context_parallel.forward`, with derivatives in `floats`."""
    return forward(ring, floats, others)


@attend.defjvp
def _attend_jvp(ring: Ring, primals: Any, tangents: Any) -> Any:
    floats, others = primals
    results = attend(ring, floats, others)
    linear = _Linear(ring, tuple(floats), tuple(others), is_backward=False)
    return results, tuple(linear.bind((*floats.values(), *others.values(), *results), tangents[0].values()))


@dataclass(frozen=True, slots=True)
class _Linear:
    """The tangent of `attend`, or its transpose, for flat arguments: the residuals, then those that it is linear in.

    Residuals are the floats and the others, by name, and the results of `attend`.
    """

    ring: Ring
    floats: tuple[str, ...]
    others: tuple[str, ...]
    is_backward: bool
    lanes: Lanes = ()
    """For every batch axis that `jax.vmap` adds, which arguments have it. All linear ones have it."""

    @property
    def transposed(self) -> _Linear:
        linear = len(self.floats) if self.is_backward else 2
        lanes = tuple((*flags[: self.residuals], *(True,) * linear) for flags in self.lanes)
        return dataclasses.replace(self, is_backward=not self.is_backward, lanes=lanes)

    @property
    def residuals(self) -> int:
        return len(self.floats) + len(self.others) + 2

    def bind(self, residuals: Sequence[Array], linear: Any) -> list[Array]:
        return _linear_p.bind(*alike([*residuals, *linear]), linear=self)

    def types(self, *flat: Any) -> list[ShapedArray]:
        """The types of the results: those of the results of `attend`, or of its floats, with all lanes."""
        like = range(len(self.floats)) if self.is_backward else range(self.residuals - 2, self.residuals)
        skipped, sizes = without_lanes(len(flat), self.lanes), sizes_of(flat, self.lanes)
        return [
            typed_beside(ShapedArray((*sizes, *flat[index].shape[skipped[index] :]), flat[index].dtype), flat)
            for index in like
        ]

    def compute(self, *flat: Array, is_plain: bool = False) -> tuple[Array, ...]:
        """The results. If `is_plain`, by functions that have derivatives."""

        def one(*flat: Array) -> tuple[Array, ...]:
            count = len(self.floats)
            floats = dict(zip(self.floats, flat[:count], strict=True))
            others = dict(zip(self.others, flat[count : self.residuals - 2], strict=True))
            linear = flat[self.residuals :]
            if self.is_backward and not is_plain:
                out, lse = flat[self.residuals - 2 : self.residuals]
                pulled = backward(self.ring, floats, others, out, lse, linear[0], linear[1])
                return tuple(pulled[name] for name in self.floats)
            gathered = functools.partial(_gathered, self.ring, others)
            if self.is_backward:
                (pulled,) = jax.vjp(gathered, floats)[1]((linear[0], linear[1]))
                return tuple(pulled[name] for name in self.floats)
            return jax.jvp(gathered, (floats,), (dict(zip(self.floats, linear, strict=True)),))[1]

        return over_lanes(one, self.lanes)(*flat)


def _gathered(ring: Ring, others: Arrays, floats: Arrays) -> Results:
    """The same attention over gathered keys, from functions with all derivatives.

    The cotangents of a part of the keys have the type of accumulators (`ops.Attend.partial`). JAX wants them in the type of
    the operand, so half precision becomes float32 before.
    """
    out_type = floats["q"].dtype
    wide = plain.accumulator(out_type)
    out, lse = forward(
        dataclasses.replace(ring, gathers=True), {name: x.astype(wide) for name, x in floats.items()}, others
    )
    return out.astype(out_type), lse


_linear_p = Primitive("context_parallel_linear")
_linear_p.multiple_results = True


def _compute(*flat: Array, linear: _Linear) -> list[Array]:
    return list(linear.compute(*flat))


def _abstract(*flat: Any, linear: _Linear) -> list[ShapedArray]:
    return linear.types(*flat)


def _jvp(primals: Sequence[Array], tangents: Sequence[Any], *, linear: _Linear) -> tuple[Any, Any]:
    """Its residuals contain results of `attend`, which follow from the others. So the plain form, which computes them again,
    has the whole derivative.
    """
    results = _linear_p.bind(*primals, linear=linear)
    moving = [index for index, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]
    moving = [index for index in moving if not linear.residuals - 2 <= index < linear.residuals]
    if not moving:
        return results, [jnp.zeros_like(result) for result in results]

    def whole(*values: Array) -> tuple[Array, ...]:
        replaced = dict(zip(moving, values, strict=True))
        return linear.compute(*(replaced.get(index, x) for index, x in enumerate(primals)), is_plain=True)

    slopes = tuple(primals[index] for index in moving), tuple(tangents[index] for index in moving)
    return results, list(jax.jvp(whole, *slopes)[1])


def _transpose(cotangents: Sequence[Any], *flat: Any, linear: _Linear) -> list[Any]:
    residuals, arguments = flat[: linear.residuals], flat[linear.residuals :]
    kinds = linear.types(*(x.aval if ad.is_undefined_primal(x) else jax.typeof(x) for x in flat))
    given = [
        jnp.zeros(kind.shape, kind.dtype) if isinstance(cotangent, ad.Zero) else cotangent
        for cotangent, kind in zip(cotangents, kinds, strict=True)
    ]
    pulled = linear.transposed.bind(residuals, given)
    own = (x if ad.is_undefined_primal(argument) else None for x, argument in zip(pulled, arguments, strict=True))
    return [*(None for _ in residuals), *own]


def _batch(flat: Sequence[Array], axes: Sequence[Any], *, linear: _Linear) -> tuple[Any, Any]:
    size = next(x.shape[axis] for x, axis in zip(flat, axes, strict=True) if axis is not None)
    has = tuple(axis is not None or index >= linear.residuals for index, axis in enumerate(axes))
    first = [x if axis is None else jnp.moveaxis(x, axis, 0) for x, axis in zip(flat, axes, strict=True)]
    values = [
        jnp.broadcast_to(x, (size, *x.shape)) if its and axis is None else x
        for x, axis, its in zip(first, axes, has, strict=True)
    ]
    results = _linear_p.bind(*values, linear=dataclasses.replace(linear, lanes=(has, *linear.lanes)))
    return results, [0] * len(results)


_linear_p.def_impl(_compute)
_linear_p.def_abstract_eval(_abstract)
mlir.register_lowering(_linear_p, mlir.lower_fun(_compute, multiple_results=True))
ad.primitive_jvps[_linear_p] = _jvp
ad.primitive_transposes[_linear_p] = _transpose
batching.primitive_batchers[_linear_p] = _batch
