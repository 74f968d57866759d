"""The first derivative of an artifact: its stage `gradient` in place of a derivative that JAX would take.

A loaded program is a call that JAX does not look into. So an artifact states its JVP: the primitive `artifact_tangent`,
linear in the tangents, whose transpose runs the stage `gradient`. An artifact holds no other derivative. Forward mode
and second derivatives are refused, and so is every derivative of an artifact without the stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import ShapedArray
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ropegen.emit.callable import cotangent_label
from ropegen.emit.varying import alike, typed_beside
from ropegen.errors import RopegenError
from ropegen.types import TensorType, numpy_dtype

Values = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Derivative:
    """What an artifact says of its derivative.

    `gradient` runs the stage: the inputs and the cotangents of the floating outputs by label, and the labels of the inputs
    whose cotangents are wanted. It is None if there is no such stage, and `without` is then the message of the refusal.
    """

    gradient: Callable[[Values, tuple[str, ...]], Values] | None
    outputs: Mapping[str, TensorType]
    without: str


def differentiable(
    run: Callable[[Values, Values], Values], derivative: Derivative
) -> Callable[[Values, Values], Values]:
    """`run` as a function whose derivative with respect to its first argument, the inputs by label, is stated.

    Its second argument is what was prepared from the same inputs. It has no derivative of its own.
    """
    forward = jax.custom_jvp(run)

    def with_tangents(primals: Any, tangents: Any) -> tuple[Values, Values]:
        if derivative.gradient is None:
            raise RopegenError(derivative.without)
        values, _ = primals
        slopes = {label: slope for label, slope in tangents[0].items() if not isinstance(slope, SymbolicZero)}
        operands = alike([*values.values(), *slopes.values()])
        tilts = _tangent_p.bind(*operands, derivative=derivative, labels=tuple(values), moving=tuple(slopes))
        placed = dict(zip(_floating(derivative), tilts, strict=True))
        results = forward(*primals)
        still = {label: np.zeros(value.shape, jax.dtypes.float0) for label, value in results.items()}
        return results, {label: placed.get(label, still[label]) for label in results}

    forward.defjvp(with_tangents, symbolic_zeros=True)
    return forward


def first_alone(program: Callable[..., Values]) -> Callable[..., Values]:
    """The program of a gradient, which refuses to be differentiated in words of ropegen."""
    function = jax.custom_jvp(program)

    @function.defjvp
    def refuse(primals: Any, tangents: Any) -> NoReturn:  # pyright: ignore[reportUnusedFunction]
        raise RopegenError(_SECOND)

    return function


_OTHERWISE = "differentiate `rg.plan(artifact.graph, target).compile()`, which computes the same"
_SECOND = f"an artifact holds its first derivative alone, and the second was asked for; {_OTHERWISE}"
_FORWARD_MODE = (
    "an artifact holds its derivative in reverse mode (jax.grad, jax.vjp), and forward mode (jax.jvp) was asked for; "
    f"{_OTHERWISE}"
)

# The arguments are the inputs of the artifact, in the order of `labels`, and the tangents of those that move. The results
# are the tangents of the floating outputs.
_tangent_p = Primitive("artifact_tangent")
_tangent_p.multiple_results = True


def _floating(derivative: Derivative) -> dict[str, TensorType]:
    return {label: kind for label, kind in derivative.outputs.items() if kind.is_float}


def _abstract(*flat: Any, derivative: Derivative, **params: Any) -> list[ShapedArray]:
    kinds = _floating(derivative).values()
    return [typed_beside(ShapedArray(kind.shape, numpy_dtype(kind.dtype)), flat) for kind in kinds]


def _refuse_forward_mode(*flat: Any, **params: Any) -> NoReturn:
    raise RopegenError(_FORWARD_MODE)


def _refuse_second(primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> NoReturn:
    raise RopegenError(_SECOND)


def _transpose(
    cotangents: Sequence[Any], *flat: Any, derivative: Derivative, labels: tuple[str, ...], moving: tuple[str, ...]
) -> list[Any]:
    assert derivative.gradient is not None  # without it there is no tangent
    values = dict(zip(labels, flat[: len(labels)], strict=True))
    for label, given in zip(_floating(derivative), cotangents, strict=True):
        values[cotangent_label(label)] = ad.instantiate_zeros(given)
    pulled = derivative.gradient(values, moving)
    return [*(None for _ in labels), *(pulled[label] for label in moving)]


def _batch(flat: Sequence[Any], axes: Sequence[int | None], **params: Any) -> tuple[Any, Any]:
    """One after the other, as the programs of an artifact run under `vmap`."""
    first = [value if axis is None else jnp.moveaxis(value, axis, 0) for value, axis in zip(flat, axes, strict=True)]
    moving = tuple(value for value, axis in zip(first, axes, strict=True) if axis is not None)

    def one(entry: tuple[Any, ...]) -> list[Any]:
        remaining = iter(entry)
        filled = [value if axis is None else next(remaining) for value, axis in zip(first, axes, strict=True)]
        return _tangent_p.bind(*filled, **params)

    out = lax.map(one, moving)
    return out, [0] * len(out)


_tangent_p.def_abstract_eval(_abstract)
_tangent_p.def_impl(_refuse_forward_mode)
mlir.register_lowering(_tangent_p, _refuse_forward_mode)
ad.primitive_jvps[_tangent_p] = _refuse_second
ad.primitive_transposes[_tangent_p] = _transpose
batching.primitive_batchers[_tangent_p] = _batch
