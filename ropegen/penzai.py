"""penzai's rotary layers over ropegen: `ApplyRoPE` and `ApplyRoPEToSubset`.

Fields, arguments, shapes, results and exception types are those of `penzai.nn` 0.2.5; run op by op, float32 and bfloat16
results have the same bits. Angles are float32 (penzai's turn float64 under jax_enable_x64, these do not).

`pz.select(model).at_instances_of(pz.nn.ApplyRoPE).apply(ApplyRoPE.from_penzai)` puts them into a model.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from ropegen.api import rope
from ropegen.errors import RopegenError
from ropegen.rotary import Rope
from ropegen.scaling import whole

try:
    from penzai import pz
except ModuleNotFoundError as error:
    if error.name != "penzai":
        raise
    raise ModuleNotFoundError(
        "ropegen.penzai needs penzai, which is not installed: pip install 'ropegen[penzai]'", name="penzai"
    ) from None


class NotNamedError(RopegenError, AttributeError, IndexError):
    """An input or its positions are no named array: AttributeError in penzai, IndexError for the input of a subset."""


class MissingSideInputError(RopegenError, KeyError):
    """The call brings no positions; penzai raises KeyError."""

    def __str__(self) -> str:
        return ValueError.__str__(self)  # KeyError's own would quote the whole message


def _static() -> Any:
    return dataclasses.field(metadata={"pytree_node": False})


@pz.pytree_dataclass
class ApplyRoPE(pz.nn.Layer):
    """Turns the features of `embedding_axis` by the positions of a side input; feature j pairs with j + width/2.

    embedding_axis: the axis with the features, of even width.
    max_wavelength: the base of the frequencies, above 1.
    positions_input_name: the keyword of the side input with the positions.
    positions: an effect of penzai's first interface (`penzai.deprecated.v1`) that is asked where the call brings no
      such side input; None for none.
    """

    embedding_axis: str = _static()
    max_wavelength: float = _static()
    positions_input_name: Any = dataclasses.field(default=None, metadata={"pytree_node": False})
    positions: Any = None

    @classmethod
    def from_config(cls, positions_tag: Any, embedding_axis: str, max_wavelength: float = 10_000) -> ApplyRoPE:
        """A layer that reads its positions from the side input of this tag.

        They come as the keyword argument of that name, or from a handler of penzai's first interface, such as
        `WithSideInputsFromInputTuple`.
        """
        from penzai.deprecated.v1.data_effects.side_input import SideInputRequest

        return cls(embedding_axis, max_wavelength, positions_tag, SideInputRequest(tag=positions_tag))

    @classmethod
    def from_penzai(cls, layer: Any) -> ApplyRoPE:
        """The layer that gives what penzai's `ApplyRoPE` gives, of either of its interfaces."""
        return cls(
            layer.embedding_axis,
            layer.max_wavelength,
            getattr(layer, "positions_input_name", None),
            getattr(layer, "positions", None),
        )

    def __call__(self, inputs: Any, /, **side_inputs: Any) -> Any:
        """The turned features: a named array of the same axes and type, with `embedding_axis` last.

        inputs: a named array; every axis has a name, the others keep their order.
        side_inputs: the positions are a named array of whole or fractional numbers over some of the other axes (none:
          one position for all).

        Raises:
          RopegenError: an odd width, a `max_wavelength` not above 1, axes or sizes that do not fit (as ValueError in
            penzai).
          NotNamedError: an array without names (AttributeError, IndexError).
          MissingSideInputError: no positions (KeyError).
        """
        positions = _positions(self, side_inputs)
        return _turned(self, inputs, positions, None)

    def input_structure(self) -> Any:
        """The named shapes and types that the layer takes, in penzai's notation."""
        shape: dict[Any, Any] = {**pz.chk.var("B"), self.embedding_axis: pz.chk.var("F")}
        return pz.chk.ArraySpec(named_shape=shape, dtype=jnp.floating)

    def output_structure(self) -> Any:
        """The same as `input_structure`."""
        return self.input_structure()


@pz.pytree_dataclass
class ApplyRoPEToSubset(pz.nn.Layer):
    """`ApplyRoPE` of the first `rope_subset_size` features, whose number is the width in the exponent; the rest stay.

    A subset of 0 turns nothing, one above the width all of it, a negative one counts from the end.
    """

    embedding_axis: str = _static()
    max_wavelength: float = _static()
    rope_subset_size: int = _static()
    positions_input_name: Any = _static()

    @classmethod
    def from_penzai(cls, layer: Any) -> ApplyRoPEToSubset:
        """The layer that gives what penzai's `ApplyRoPEToSubset` gives."""
        return cls(layer.embedding_axis, layer.max_wavelength, layer.rope_subset_size, layer.positions_input_name)

    def __call__(self, inputs: Any, /, **side_inputs: Any) -> Any:
        """As `ApplyRoPE`, and with its errors; the width of the subset must be even."""
        positions = _positions(self, side_inputs)
        return _turned(self, inputs, positions, whole("ApplyRoPEToSubset: rope_subset_size", self.rope_subset_size))


_Rotary = ApplyRoPE | ApplyRoPEToSubset


def _positions(layer: _Rotary, side_inputs: Mapping[Any, Any]) -> Any:
    name, effect = layer.positions_input_name, getattr(layer, "positions", None)
    if name in side_inputs:
        return side_inputs[name]
    if effect is not None:
        return effect.ask()
    if name is None:
        raise MissingSideInputError(
            f"{type(layer).__name__} was made without positions_input_name=, the side input that holds its positions; "
            "make it with e.g. positions_input_name='token_positions'"
        )
    raise MissingSideInputError(
        f"{type(layer).__name__} reads its positions from the side input {name!r} and the call brings "
        f"{', '.join(map(repr, side_inputs)) or 'no side inputs'}; call layer(inputs, {name}=positions)"
    )


def _turned(layer: _Rotary, inputs: Any, positions: Any, subset: int | None) -> Any:
    others = _checked_axes(layer, inputs, positions)
    axis = layer.embedding_axis
    placed = [name for name in others if name in positions.named_shape]
    # `rope` takes one axis of positions wherever it stands; several must lead, and then the others follow.
    before = others[: others.index(placed[0])] if len(placed) == 1 else []
    after = [name for name in others if name not in (*before, *placed)]
    order = (*before, *placed, *after, axis)
    array = inputs.unwrap(*order)
    width = len(range(array.shape[-1])[:subset])
    if width:
        rows = array.shape[: len(before) + len(placed)] or (1,)
        # Whole numbers turn as float32 and are cast back, as penzai does it.
        wide = array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.float32)
        x = wide.reshape(*rows, math.prod(array.shape[len(before) + len(placed) : -1]), array.shape[-1])
        at = positions.unwrap(*placed).astype(jnp.float32)
        turned = rope(
            x, at if placed else at[None], Rope(layer.max_wavelength, pairing="half", dim=width, angles="f32")
        )
        array = turned.reshape(array.shape).astype(array.dtype)
    return pz.nx.wrap(array, *order).order_as(*others, axis)


def _checked_axes(layer: _Rotary, inputs: Any, positions: Any) -> list[str]:
    """The axes of the input but the embedding axis, in their order."""
    name, axis = type(layer).__name__, layer.embedding_axis
    for what, each in (("positions are", positions), ("input is", inputs)):
        if not isinstance(each, pz.nx.NamedArray | pz.nx.NamedArrayView):
            raise NotNamedError(
                f"{name}: the {what} of type {type(each).__name__}, not a named array; name the axes with pz.nx.wrap"
            )
        if each.positional_shape:
            raise RopegenError(
                f"{name}: the {what} a named array with axes of sizes {each.positional_shape} that have no name; "
                "name them with .tag"
            )
    given, at = dict(inputs.named_shape), dict(positions.named_shape)
    if axis not in given:
        raise RopegenError(f"{name}: the input has axes {given} and none is the embedding axis {axis!r}")
    if axis in at:
        raise RopegenError(
            f"{name}: the positions have axes {at}; the embedding axis {axis!r} cannot be one of them, because all "
            "features of a token share its position"
        )
    for each, size in at.items():
        if each not in given:
            raise RopegenError(f"{name}: the positions have axes {at} and the input, with {given}, has no {each!r}")
        if given[each] != size:
            raise RopegenError(f"{name}: axis {each!r} has {size} positions and {given[each]} entries in the input")
    return [each for each in given if each != axis]
