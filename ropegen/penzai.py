"""penzai's rotary layers, computed by ropegen: `ApplyRoPE` and `ApplyRoPEToSubset`.

Fields, arguments, shapes, results and exception types are those of `penzai.nn` 0.2.5. Run op by op, float32 and bfloat16
results have the same bits. Angles are always float32 (penzai's become float64 under jax_enable_x64).

`pz.select(model).at_instances_of(pz.nn.ApplyRoPE).apply(ApplyRoPE.from_penzai)` puts them into a model.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ropegen.api import rope, rotate
from ropegen.errors import RopegenError
from ropegen.plain_call import Targets, parse_targets
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
    """An input or its positions are not a named array; penzai raises AttributeError, or IndexError for a subset's input."""


class MissingSideInputError(RopegenError, KeyError):
    """The call has no positions; penzai raises KeyError."""

    def __str__(self) -> str:
        return ValueError.__str__(self)  # KeyError.__str__ would quote the whole message


def _static() -> Any:
    return dataclasses.field(metadata={"pytree_node": False})


@pz.pytree_dataclass
class ApplyRoPE(pz.nn.Layer):
    """Rotates the features of `embedding_axis` by the positions of a side input; feature j pairs with j + width/2.

    embedding_axis: the axis with the features, of even width.
    max_wavelength: the base of the frequencies, above 1.
    positions_input_name: the keyword of the side input with the positions.
    positions: an effect of penzai's first interface (`penzai.deprecated.v1`), or None. If the call has no such side
      input, the layer asks the effect for the positions.
    target: that of `ropegen.rope`.
    """

    embedding_axis: str = _static()
    max_wavelength: float = _static()
    positions_input_name: Any = dataclasses.field(default=None, metadata={"pytree_node": False})
    positions: Any = None
    target: Targets = dataclasses.field(default=None, metadata={"pytree_node": False})

    def __post_init__(self) -> None:
        parse_targets(self.target)  # refuse it now, not at the first call

    @classmethod
    def from_config(cls, positions_tag: Any, embedding_axis: str, max_wavelength: float = 10_000) -> ApplyRoPE:
        """A layer that reads its positions from the side input `positions_tag`.

        The call passes them as the keyword argument of that name, or a handler of penzai's first interface supplies
        them, such as `WithSideInputsFromInputTuple`.
        """
        from penzai.deprecated.v1.data_effects.side_input import SideInputRequest

        return cls(embedding_axis, max_wavelength, positions_tag, SideInputRequest(tag=positions_tag))

    @classmethod
    def from_penzai(cls, layer: Any) -> ApplyRoPE:
        """The layer with the same results as penzai's `ApplyRoPE`, from either of its interfaces."""
        return cls(
            layer.embedding_axis,
            layer.max_wavelength,
            getattr(layer, "positions_input_name", None),
            getattr(layer, "positions", None),
        )

    def __call__(self, inputs: Any, /, **side_inputs: Any) -> Any:
        """The rotated features: a named array of the same axes and type, with `embedding_axis` last.

        inputs: a named array in which every axis has a name; the other axes keep their order.
        side_inputs: hold the positions, a named array of whole or fractional numbers over some of the other axes
          (without axes: one position for all).

        Raises:
          RopegenError: the width is odd, `max_wavelength` is at most 1, or axes or sizes do not fit (ValueError in
            penzai).
          NotNamedError: an array has no names (AttributeError, IndexError).
          MissingSideInputError: the call has no positions (KeyError).
        """
        positions = _positions(self, side_inputs)
        return _turned(self, inputs, positions, None)

    def input_structure(self) -> Any:
        """The named shapes and types that the layer takes, in penzai's notation."""
        shape: dict[Any, Any] = {**pz.chk.var("B"), self.embedding_axis: pz.chk.var("F")}
        return pz.chk.ArraySpec(named_shape=shape, dtype=jnp.floating)

    def output_structure(self) -> Any:
        """The named shapes and types of the result, which equal `input_structure`."""
        return self.input_structure()


@pz.pytree_dataclass
class ApplyRoPEToSubset(pz.nn.Layer):
    """Rotates the first `rope_subset_size` features like `ApplyRoPE` and keeps the rest.

    The size of the subset is the width in the exponent. A subset of 0 rotates nothing, a subset larger than the width
    rotates everything, and a negative size counts from the end.
    """

    embedding_axis: str = _static()
    max_wavelength: float = _static()
    rope_subset_size: int = _static()
    positions_input_name: Any = _static()
    target: Targets = dataclasses.field(default=None, metadata={"pytree_node": False})

    def __post_init__(self) -> None:
        parse_targets(self.target)  # refuse it now, not at the first call

    @classmethod
    def from_penzai(cls, layer: Any) -> ApplyRoPEToSubset:
        """The layer with the same results as penzai's `ApplyRoPEToSubset`."""
        return cls(layer.embedding_axis, layer.max_wavelength, layer.rope_subset_size, layer.positions_input_name)

    def __call__(self, inputs: Any, /, **side_inputs: Any) -> Any:
        """The features as `ApplyRoPE` returns them, with the same errors; the width of the subset must be even."""
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
            "make it with a name, such as positions_input_name='token_positions'"
        )
    raise MissingSideInputError(
        f"{type(layer).__name__} reads its positions from the side input {name!r}, and the call has "
        f"{', '.join(map(repr, side_inputs)) or 'no side inputs'}; call layer(inputs, {name}=positions)"
    )


def _turned(layer: _Rotary, inputs: Any, positions: Any, subset: int | None) -> Any:
    others = _checked_axes(layer, inputs, positions)
    axis = layer.embedding_axis
    placed = [name for name in others if name in positions.named_shape]
    # `rope` accepts one axis of positions in any place; several axes must come first, before the other axes.
    before = others[: others.index(placed[0])] if len(placed) == 1 else []
    after = [name for name in others if name not in (*before, *placed)]
    order = (*before, *placed, *after, axis)
    array = inputs.unwrap(*order)
    width = len(range(array.shape[-1])[:subset])
    if width:
        rows = array.shape[: len(before) + len(placed)] or (1,)
        # Integers are rotated in float32 and cast back, as in penzai.
        wide = array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(jnp.float32)
        x = wide.reshape(*rows, math.prod(array.shape[len(before) + len(placed) : -1]), array.shape[-1])
        numbers = positions.unwrap(*placed).astype(jnp.float32)
        rotary = Rope(layer.max_wavelength, pairing="half", dim=width, angles="f32")
        if numbers.size == 1:
            table = _table_of_one(numbers.reshape(()), rotary, array.shape[-1])
            turned = rotate(x, table, pairing=rotary.pairing, target=layer.target)
        else:
            turned = rope(x, numbers, rotary, target=layer.target)
        array = turned.reshape(array.shape).astype(array.dtype)
    return pz.nx.wrap(array, *order).order_as(*others, axis)


def _table_of_one(position: jax.Array, rotary: Rope, head_width: int) -> jax.Array:
    """The cosines, then the sines, of one position () -> (1, dim) float32, with the bits of penzai.

    penzai divides positions by powers of the wavelength. For several positions, XLA replaces the division by a product
    with the reciprocals, which is what `rope` computes. It divides a single position as written, and the two can differ
    in the last place of an angle of many turns.
    """
    width = rotary.width(head_width)
    with jax.ensure_compile_time_eval():
        powers = rotary.theta ** (2 * jnp.arange(width // 2, dtype=jnp.float32) / width)
    angles = position / powers
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])[None]


def _checked_axes(layer: _Rotary, inputs: Any, positions: Any) -> list[str]:
    """The axes of the input without the embedding axis, in order; RopegenError if the inputs do not fit the layer."""
    name, axis = type(layer).__name__, layer.embedding_axis
    for what, value in (("positions are", positions), ("input is", inputs)):
        if not isinstance(value, pz.nx.NamedArray | pz.nx.NamedArrayView):
            raise NotNamedError(
                f"{name}: the {what} a {type(value).__name__}, not a named array; name the axes with pz.nx.wrap"
            )
        if value.positional_shape:
            raise RopegenError(
                f"{name}: the {what} a named array in which the axes of sizes {value.positional_shape} have no name; "
                "name them with .tag"
            )
    given, at = dict(inputs.named_shape), dict(positions.named_shape)
    if axis not in given:
        raise RopegenError(f"{name}: the input has axes {given}, and none of them is the embedding axis {axis!r}")
    if axis in at:
        raise RopegenError(
            f"{name}: the positions have axes {at}; the embedding axis {axis!r} cannot be one of them, because all "
            "features of a token share its position"
        )
    for other, size in at.items():
        if other not in given:
            raise RopegenError(f"{name}: the positions have axes {at}, and the input, with {given}, has no {other!r}")
        if given[other] != size:
            raise RopegenError(f"{name}: axis {other!r} has {size} positions and {given[other]} entries in the input")
    return [other for other in given if other != axis]
