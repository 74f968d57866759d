"""Layers over named axes for penzai, computed by ropegen: rotary embedding, attention and embedding lookup.

Fields, arguments, shapes, results and exception types of `ApplyRoPE`, `ApplyRoPEToSubset` and `EmbeddingLookup` are those of
`penzai.nn` 0.2.5. Run op by op, float32 and bfloat16 results have the same bits. Angles are always float32 (penzai's become
float64 under jax_enable_x64). `pz.select(model).at_instances_of(pz.nn.ApplyRoPE).apply(ApplyRoPE.from_penzai)` puts them into
a model.

`attention` is `ropegen.attention` for named arrays, and `ApplyAttention` is its layer for `pz.nn.Attention`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp

from ropegen import functions, masks
from ropegen.errors import RopegenError
from ropegen.functions import rope, rotate
from ropegen.ir.build import Mask
from ropegen.plain_call import Targets, parse_targets
from ropegen.rotary import Rope
from ropegen.scaling import whole

try:
    from penzai import pz
except ModuleNotFoundError as error:
    if error.name != "penzai":
        raise
    raise ModuleNotFoundError(
        "ropegen.penzai needs penzai, which is not installed: pip install penzai", name="penzai"
    ) from None

from ropegen.layers.penzai import ProgramLayer as ProgramLayer

__all__ = [
    "ApplyAttention",
    "ApplyRoPE",
    "ApplyRoPEToSubset",
    "EmbeddingLookup",
    "MissingSideInputError",
    "NotNamedError",
    "ProgramLayer",
    "attention",
]


class NotNamedError(RopegenError, AttributeError, IndexError):
    """An argument is not a named array; penzai raises AttributeError, or IndexError for the input of a subset."""


class MissingSideInputError(RopegenError, KeyError):
    """The call lacks a side input, such as the positions; penzai raises KeyError."""

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
    return _side_input(layer, "positions", name, side_inputs)


def _side_input(layer: Any, what: str, name: Any, side_inputs: Mapping[Any, Any]) -> Any:
    if name not in side_inputs:
        raise MissingSideInputError(
            f"{type(layer).__name__} reads its {what} from the side input {name!r}, and the call has "
            f"{', '.join(map(repr, side_inputs)) or 'no side inputs'}; call layer(inputs, {name}={what.split()[-1]})"
        )
    return side_inputs[name]


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
    at, given = _named_shape(name, "positions are", positions), _named_shape(name, "input is", inputs)
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


def _named_shape(name: str, what: str, value: Any) -> dict[str, int]:
    """The sizes of a named array by the names of its axes, in order; `what` is its name and its verb."""
    if not isinstance(value, pz.nx.NamedArray | pz.nx.NamedArrayView):
        raise NotNamedError(
            f"{name}: the {what} a {type(value).__name__}, not a named array; name the axes with pz.nx.wrap"
        )
    if value.positional_shape:
        raise RopegenError(
            f"{name}: the {what} a named array in which the axes of sizes {value.positional_shape} have no name; "
            "name them with .tag"
        )
    return cast(dict[str, int], dict(value.named_shape))


# Attention ---------------------------------------------------------------------------------------------------------------


def attention(
    query: Any,
    key: Any,
    value: Any,
    *,
    seq_axis: str = "seq",
    kv_seq_axis: str = "kv_seq",
    head_axes: str | Sequence[str] = "heads",
    projection_axis: str = "projection",
    rope: Rope | None = None,
    mask: Any = masks.full,
    score: Mask = masks.identity,
    bias: Any = None,
    softcap: float | None = None,
    q_positions: Any = None,
    kv_positions: Any = None,
    q_segments: Any = None,
    kv_segments: Any = None,
    scale: float | None = None,
    masked_row: str = "zero",
    target: Targets = None,
) -> Any:
    """`ropegen.attention` of named arrays: a named array with the axes of the query, in their order, in its type.

    query, key, value: have the axes `seq_axis` and `projection_axis`. Queries and keys may differ in the size of the first,
      and values in that of the second. All other axes of keys and values are axes of the query, of the same size.
    head_axes: the axes of heads; those that no array has are left out. Queries along a head axis that keys and values lack
      share them, as in grouped queries. All axes of the query that are named nowhere are batch axes.
    mask: an expression of `ropegen.masks` or a function, or a named boolean array over `seq_axis`, `kv_seq_axis` and any of
      the axes of heads and batch. `head` counts the axes of heads, those of the keys first, and `batch` the batch axes in
      the order of the query.
    bias: a named array over the same axes, added to the scores.
    q_positions, kv_positions, q_segments, kv_segments: named arrays over `seq_axis` and any of the batch axes; without them
      positions count from 0.

    The rest is as in `ropegen.attention`.

    Raises:
      RopegenError: axes, sizes, types or options do not fit.
      NotNamedError: an argument is not a named array.
    """
    axes = _AttentionAxes.of(
        query,
        key,
        value,
        (seq_axis, kv_seq_axis, projection_axis),
        (head_axes,) if isinstance(head_axes, str) else head_axes,
    )
    out = functions.attention(
        *axes.operands(query, key, value),
        rope=rope,
        mask=mask if _is_expression(mask) else axes.over_scores("mask is", mask),
        score=score,
        bias=None if bias is None else axes.over_scores("bias is", bias),
        softcap=softcap,
        q_positions=axes.over_tokens("q_positions are", q_positions),
        kv_positions=axes.over_tokens("kv_positions are", kv_positions),
        q_segments=axes.over_tokens("q_segments are", q_segments),
        kv_segments=axes.over_tokens("kv_segments are", kv_segments),
        scale=scale,
        masked_row=masked_row,
        target=target,
    )
    return axes.named(out, query, value)


def _is_expression(mask: Any) -> bool:
    """Whether a mask goes to `ropegen.attention` as it is; arrays need names."""
    return not isinstance(mask, pz.nx.NamedArray | pz.nx.NamedArrayView) and not hasattr(mask, "shape")


@dataclasses.dataclass(frozen=True)
class _AttentionAxes:
    """The axes of a call of `attention` in the order of `ropegen.attention`: batch, sequence, heads, projection."""

    batch: tuple[str, ...]
    shared: tuple[str, ...]  # axes of heads that keys and values have too
    own: tuple[str, ...]  # axes of heads of the query alone, whose heads share keys and values
    seq: str
    kv_seq: str
    projection: str
    sizes: Mapping[str, int]

    @classmethod
    def of(
        cls, query: Any, key: Any, value: Any, names: tuple[str, str, str], head_axes: Sequence[str]
    ) -> _AttentionAxes:
        seq, kv_seq, projection = names
        q, k, v = (
            _named_shape("attention", f"{what} is", array)
            for what, array in (("query", query), ("key", key), ("value", value))
        )
        if len({*names, *head_axes}) < len(names) + len(head_axes):
            raise RopegenError(
                f"attention: seq_axis, kv_seq_axis, projection_axis and head_axes are {seq!r}, {kv_seq!r}, {projection!r} and "
                f"{tuple(head_axes)}; give names that differ"
            )
        for what, sizes in (("query", q), ("key", k), ("value", v)):
            if seq not in sizes or projection not in sizes or kv_seq in sizes:
                raise RopegenError(
                    f"attention: the {what} has axes {sizes}; name its tokens {seq!r} (seq_axis) and its features "
                    f"{projection!r} (projection_axis), and nothing {kv_seq!r} (kv_seq_axis), which are the keys of a mask"
                )
        if k.keys() != v.keys() or k[seq] != v[seq]:
            raise RopegenError(
                f"attention: the key has axes {k} and the value {v}; give both the same, except for the size of {projection!r}"
            )
        for name in k:
            if name not in q:
                raise RopegenError(
                    f"attention: the key has axes {k}, and the query, with {q}, has no {name!r}; give it to the query too, for "
                    "instance with .broadcast_to"
                )
            if name != seq and not q[name] == k[name] == (k if name == projection else v)[name]:
                raise RopegenError(
                    f"attention: axis {name!r} has size {q[name]} in the query, {k[name]} in the key and {v[name]} in the value; "
                    "give all of them one size"
                )
        batch = tuple(name for name in q if name not in (seq, projection, *head_axes))
        missing = [name for name in batch if name not in k]
        if missing:
            raise RopegenError(
                f"attention: the query has axes {q}, and the key, with {k}, has no {missing[0]!r}; if queries along it share "
                f"keys, name it in head_axes: head_axes={(*head_axes, *missing)}"
            )
        heads = [name for name in head_axes if name in q]
        shared, own = (tuple(name for name in heads if (name in k) is has) for has in (True, False))
        return cls(batch, shared, own, seq, kv_seq, projection, q | {kv_seq: k[seq]})

    def operands(self, query: Any, key: Any, value: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The operands of `ropegen.attention`: q (..., Sq, H, D), k (..., Skv, Hkv, D), v (..., Skv, Hkv, Dv)."""

        def laid_out(array: Any, heads: tuple[str, ...]) -> jax.Array:
            x = array.unwrap(*self.batch, self.seq, *heads, self.projection)
            lead = len(self.batch) + 1
            return x.reshape(*x.shape[:lead], math.prod(x.shape[lead:-1]), x.shape[-1])

        return laid_out(query, (*self.shared, *self.own)), laid_out(key, self.shared), laid_out(value, self.shared)

    def over_scores(self, what: str, array: Any) -> jax.Array:
        """A mask or bias as (..., H, Sq, Skv); an axis that it lacks has size 1."""
        groups = [*((name,) for name in self.batch), (*self.shared, *self.own), (self.seq,), (self.kv_seq,)]
        return self._grouped(what, array, groups, self.sizes)

    def over_tokens(self, what: str, array: Any) -> jax.Array | None:
        """Positions or segments as (S,), or (..., S) with all batch axes if they have any of them."""
        if array is None:
            return None
        given = _named_shape("attention", what, array)
        lead = self.batch if any(name in given for name in self.batch) else ()
        # The number of tokens is that of the array: `ropegen.attention` compares it with those of queries or keys.
        sizes = {**self.sizes, self.seq: given.get(self.seq, 1)}
        numbers = self._grouped(what, array, [*((name,) for name in lead), (self.seq,)], sizes)
        return jnp.broadcast_to(numbers, tuple(sizes[name] for name in (*lead, self.seq)))

    def _grouped(self, what: str, array: Any, groups: Sequence[tuple[str, ...]], sizes: Mapping[str, int]) -> jax.Array:
        """The array with one axis for every group of names; a group of which it has no name has size 1."""
        given = _named_shape("attention", what, array)
        names = [name for group in groups for name in group]
        for name, size in given.items():
            if name not in names or size != sizes[name]:
                wanted = {other: sizes[other] for other in names}
                raise RopegenError(
                    f"attention: the {what} a named array with axes {given}; it may have those of {wanted}"
                )
        x = array.unwrap(*(name for name in names if name in given))
        x = x.reshape([given.get(name, 1) for name in names])
        filled = [sizes[n] if any(other in given for other in group) else 1 for group in groups for n in group]
        x, start, shape = jnp.broadcast_to(x, filled), 0, []
        for group in groups:
            shape.append(math.prod(filled[start : start + len(group)]))
            start += len(group)
        return x.reshape(shape)

    def named(self, out: jax.Array, query: Any, value: Any) -> Any:
        """The result (..., Sq, H, Dv) with the names and the order of the query."""
        order = (*self.batch, self.seq, *self.shared, *self.own, self.projection)
        sizes = {**self.sizes, self.projection: value.named_shape[self.projection]}
        return pz.nx.wrap(out.reshape([sizes[name] for name in order]), *order).order_as(*query.named_shape)


@pz.pytree_dataclass
class ApplyAttention(pz.nn.Layer):
    """`attention` as a layer for `pz.nn.Attention` and `pz.nn.KVCachingAttention`: ((query, key), value) -> result.

    Those compute `attn = query_key_to_attn((query, key))` and then `attn_value_to_output((attn, value))`. Fused attention
    stores no weights, so let `query_key_to_attn` be `pz.nn.Identity()`, and let `attn_value_to_output` begin with this layer.

    query_positions_input_name, kv_positions_input_name: the keywords of side inputs with the positions, named arrays over
      `seq_axis` and any of the batch axes; None lets positions count from 0.
    mask_input_name: the keyword of a side input with a named boolean mask, instead of `mask`.

    The other fields are arguments of `attention`. Masks and scores that hold arrays are no fields of a layer, whose fields
    JAX compares: write a layer of your own that calls `attention`.
    """

    seq_axis: str = dataclasses.field(default="seq", metadata={"pytree_node": False})
    kv_seq_axis: str = dataclasses.field(default="kv_seq", metadata={"pytree_node": False})
    head_axes: str | tuple[str, ...] = dataclasses.field(default="heads", metadata={"pytree_node": False})
    projection_axis: str = dataclasses.field(default="projection", metadata={"pytree_node": False})
    rope: Rope | None = dataclasses.field(default=None, metadata={"pytree_node": False})
    mask: Mask = dataclasses.field(default=masks.full, metadata={"pytree_node": False})
    score: Mask = dataclasses.field(default=masks.identity, metadata={"pytree_node": False})
    softcap: float | None = dataclasses.field(default=None, metadata={"pytree_node": False})
    scale: float | None = dataclasses.field(default=None, metadata={"pytree_node": False})
    masked_row: str = dataclasses.field(default="zero", metadata={"pytree_node": False})
    query_positions_input_name: Any = dataclasses.field(default=None, metadata={"pytree_node": False})
    kv_positions_input_name: Any = dataclasses.field(default=None, metadata={"pytree_node": False})
    mask_input_name: Any = dataclasses.field(default=None, metadata={"pytree_node": False})
    target: Targets = dataclasses.field(default=None, metadata={"pytree_node": False})

    def __post_init__(self) -> None:
        parse_targets(self.target)  # refuse it now, not at the first call
        if not _is_expression(cast(object, self.mask)):
            raise RopegenError(
                f"ApplyAttention: mask is a {type(self.mask).__name__}; give an expression of ropegen.masks, or the array as a "
                "side input: mask_input_name='mask'"
            )
        if self.mask_input_name is not None and self.mask is not masks.full:
            raise RopegenError(
                "ApplyAttention: mask and mask_input_name are given; leave one of them out, and combine both masks in the side "
                "input"
            )

    def __call__(self, inputs: Any, /, **side_inputs: Any) -> Any:
        """The attention of ((query, key), value), with the shapes and errors of `attention`.

        Raises:
          MissingSideInputError: the call has no side input of a given name (KeyError).
        """
        try:
            (query, key), value = inputs
        except (TypeError, ValueError):
            raise RopegenError(
                f"ApplyAttention: the input is a {type(inputs).__name__}; give ((query, key), value): let query_key_to_attn of "
                "pz.nn.Attention be pz.nn.Identity()"
            ) from None
        names = {
            "q_positions": self.query_positions_input_name,
            "kv_positions": self.kv_positions_input_name,
            "mask": self.mask_input_name,
        }
        given = {
            argument: _side_input(self, argument.replace("_", " "), name, side_inputs)
            for argument, name in names.items()
            if name is not None
        }
        return attention(
            query,
            key,
            value,
            seq_axis=self.seq_axis,
            kv_seq_axis=self.kv_seq_axis,
            head_axes=self.head_axes,
            projection_axis=self.projection_axis,
            rope=self.rope,
            score=self.score,
            softcap=self.softcap,
            scale=self.scale,
            masked_row=self.masked_row,
            target=self.target,
            **({"mask": self.mask} | given),
        )


# Embedding ---------------------------------------------------------------------------------------------------------------


@pz.pytree_dataclass
class EmbeddingLookup(pz.nn.Layer):
    """Rows of an embedding table of penzai, which `pz.nn.EmbeddingDecode` may share.

    table: a `pz.nn.EmbeddingTable`, whose parameter stays where it is.
    target: that of `ropegen.embed`.
    """

    table: Any
    target: Targets = dataclasses.field(default=None, metadata={"pytree_node": False})

    def __post_init__(self) -> None:
        parse_targets(self.target)  # refuse it now, not at the first call

    @classmethod
    def from_penzai(cls, layer: Any) -> EmbeddingLookup:
        """The layer with the same results as penzai's `EmbeddingLookup`, over the same table."""
        return cls(layer.table)

    def __call__(self, token_index: Any, /, **side_inputs: Any) -> Any:
        """The rows of a named array of integers: the axes of an embedding, then those of the input, in the table's type.

        As in penzai, negative ids count from the end, and an id outside of the table takes the nearest row.

        Raises:
          RopegenError: the ids are not integers, or have an axis of the table.
          NotNamedError: the input is not a named array.
        """
        table, vocabulary = self.table.embeddings.value, self.table.vocabulary_axis
        given, sizes = _named_shape("EmbeddingLookup", "input is", token_index), dict(table.named_shape)
        rows = sizes.pop(vocabulary)
        for name in given:
            if name in (vocabulary, *sizes):
                raise RopegenError(
                    f"EmbeddingLookup: the input has axes {given}, and {name!r} is an axis of the table too; give it another "
                    "name with .untag and .tag"
                )
        if not jnp.issubdtype(token_index.dtype, jnp.integer):
            raise RopegenError(f"EmbeddingLookup: the ids are {token_index.dtype}; give integers")
        ids = token_index.unwrap(*given)
        if jnp.issubdtype(ids.dtype, jnp.unsignedinteger):
            ids = jnp.minimum(ids, min(rows - 1, jnp.iinfo(ids.dtype).max))  # so that int32 holds them
        ids = ids if ids.dtype == jnp.int64 else ids.astype(jnp.int32)
        # `embed` does not count negative ids from the end, so they are shifted here, in a type that holds every row.
        flat = table.unwrap(vocabulary, *sizes).reshape(rows, math.prod(sizes.values()))
        out = functions.embed(jnp.where(ids < 0, ids + rows, ids), flat, target=self.target)
        return pz.nx.wrap(out.reshape(*ids.shape, *sizes.values()), *given, *sizes).order_as(*sizes, *given)
