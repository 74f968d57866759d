"""Calls on arrays with symbolic sizes, as `jax.export.symbolic_shape` makes them.

A graph has numbers for sizes, because the planner and the kernels compute with them. While a call builds its graph, a
*stand-in* takes the place of every symbol: a number that no array of the call has, so that sizes which must agree are
the same symbol. Then there are two ways to compute the call.

A symbolic batch of an attention is planned for one entry, and `jax.vmap` maps the plan over the symbolic axis. So every
platform keeps the kernel of its plan. Everything else is computed by the plain formulas, which take the sizes from the
arrays: a tile has a number of queries and keys, so a kernel cannot be chosen for a symbolic sequence.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from ropegen import plain
from ropegen.emit.lanes import is_symbolic
from ropegen.emit.own_part import inside_shard_map
from ropegen.emit.recorded import record
from ropegen.emit.widen import rebuilt
from ropegen.errors import FallbackWarning, RopegenError
from ropegen.ir import ops
from ropegen.ir.axes import SEQUENCE, axes_of
from ropegen.ir.graph import Graph, Node, label_of, node
from ropegen.ir.ops import Input

Array = jax.Array
Values = dict[str, Array]
ParamsT = ParamSpec("ParamsT")
ResultT = TypeVar("ResultT")

# Primes, so that a stand-in is no multiple of a number of heads, and so small that NumPy broadcasts shapes of them.
_STAND_INS = (65521, 65519, 65497, 65479, 65449, 65447, 65437, 65423, 65419, 65413)


class Symbols:
    """The stand-ins of the symbolic sizes of one call."""

    def __init__(self, call: str) -> None:
        self._call = call
        self._numbers: dict[Any, int] = {}
        self._fixed = set[int]()

    def __bool__(self) -> bool:
        return bool(self._numbers)

    def numbers(self, shape: Sequence[Any]) -> tuple[int, ...]:
        """A shape with stand-ins in the place of symbols.

        Raises:
          RopegenError: the call has too many symbols, or a size that is a stand-in.
        """
        for size in shape:
            if is_symbolic(size) and size not in self._numbers:
                if len(self._numbers) == len(_STAND_INS):
                    raise RopegenError(
                        f"{self._call}: the arrays have more than {len(_STAND_INS)} different symbolic sizes; give some of them "
                        "the same symbol"
                    )
                self._numbers[size] = _STAND_INS[len(self._numbers)]
        self._fixed.update(int(size) for size in shape if not is_symbolic(size))
        if clash := self._fixed.intersection(self._numbers.values()):
            raise RopegenError(
                f"{self._call}: an array has the size {min(clash)}, which stands for a symbolic size while the shapes are "
                "compared; pad that axis by one"
            )
        return tuple(self._numbers[size] if is_symbolic(size) else int(size) for size in shape)

    def symbol(self, size: int) -> Any:
        """The symbol that a number stands for; the number itself if it stands for none."""
        return next((symbol for symbol, number in self._numbers.items() if number == size), size)


def symbols_of(shapes: Any) -> list[Any]:
    """The symbolic sizes of arrays in a tree of arguments, in order."""
    sizes = (size for leaf in jax.tree.leaves(shapes) for size in getattr(leaf, "shape", ()))
    return list(dict.fromkeys(size for size in sizes if is_symbolic(size)))


def with_symbols_named(function: Callable[ParamsT, ResultT]) -> Callable[ParamsT, ResultT]:
    """The function with messages that show symbols in the place of their stand-ins."""

    @functools.wraps(function)
    def named(*arguments: ParamsT.args, **keywords: ParamsT.kwargs) -> ResultT:
        try:
            return function(*arguments, **keywords)
        except RopegenError as error:
            symbols = symbols_of((arguments, keywords))
            if not symbols:
                raise
            # With several symbols, the order in which the call met them is not known here.
            name = str(symbols[0]) if len(symbols) == 1 else "symbolic"
            numbers = "|".join(map(str, _STAND_INS))
            raise RopegenError(re.sub(rf"(?<!\d)({numbers})(?!\d)", name, str(error))) from None

    return named


def refuse_over_devices(call: str, given: Any) -> None:
    """Raises a RopegenError if arrays have symbolic sizes, for calls that lie over several devices.

    JAX exports a `shard_map` over symbolic sizes, but the process that calls the exported program ends (jaxlib 0.10.2).
    """
    if symbols := symbols_of(given):
        raise RopegenError(
            f"{call}: the size {symbols[0]} is symbolic, and a call over several devices needs numbers, which must divide "
            "evenly; export once for every number, or export for one device, without `sharding` and shard_map"
        )


def run(
    call: str, source: Graph, symbols: Symbols, values: Values, planned: Callable[[Graph, Values], Values]
) -> Values:
    """The outputs of a graph with stand-ins, for arrays with symbols. `planned` plans a graph of numbers and runs it.

    Raises:
      RopegenError: heads or features are symbolic, or the call is inside a `shard_map`.
    """
    if inside_shard_map():
        refuse_over_devices(call, values)
    axes = axes_of(source)
    batches: dict[str, dict[str, int]] = {}
    sequence: Any = None
    for value in source.inputs:
        for axis, (name, size) in enumerate(zip(axes.names[value], value.type.shape, strict=True)):
            symbol = symbols.symbol(size)
            if symbol is size:
                continue
            if name == SEQUENCE:
                sequence = symbol
            elif name.startswith("batch"):
                batches.setdefault(name, {})[label_of(value)] = axis
            else:
                raise RopegenError(
                    f"{call}: axis {axis} of {label_of(value)} has the symbolic size {symbol}; only the sizes of the batch and "
                    "of the sequence can be symbolic, because heads, features and rows of a table decide what is computed. "
                    "Give a number there, and export once for every number"
                )
    attends = [value.op for value in source.nodes if isinstance(value.op, ops.Attend)]
    counts_batch = any("batch" in op.variables for op in attends)
    if sequence is not None or counts_batch or not attends:
        if attends or any(isinstance(value.op, ops.Embed) for value in source.nodes):
            why = (
                f"the size {sequence} of the sequence is symbolic, and a kernel is chosen for a number"
                if sequence is not None
                else "the size of the batch is symbolic and a mask or score reads `batch`"
                if attends
                else "a size is symbolic"
            )
            message = f"{call} falls back to XLA on every platform: {why}"
            warnings.warn(message, FallbackWarning, stacklevel=5)
            record(call, notes=(message,))
        return _by_formulas(source, values)
    single = {
        value: node(
            Input(label=label_of(value), type=value.type.with_shape(*_with_ones(value, batches)), role=value.op.role)
        )
        for value in source.inputs
        if isinstance(value.op, Input)
    }
    function: Callable[[Values], Values] = functools.partial(planned, rebuilt(source, single))
    for name, places in batches.items():
        ends = {
            label: index
            for label, value in source.outputs
            for index, own in enumerate(axes.names[value])
            if own == name
        }
        function = _mapped(function, places, ends, [label for label, _ in source.outputs])
    return function(values)


def _with_ones(value: Node, batches: Mapping[str, Mapping[str, int]]) -> list[int]:
    places = {places.get(label_of(value)) for places in batches.values()}
    return [1 if axis in places else size for axis, size in enumerate(value.type.shape)]


def _by_formulas(source: Graph, values: Values) -> Values:
    known = {value: values[label_of(value)] for value in source.inputs}
    labels = [label for label, _ in source.outputs]
    results = plain.evaluate([value for _, value in source.outputs], known, plain.compute_for_platform)
    return dict(zip(labels, results, strict=True))


def _mapped(
    function: Callable[[Values], Values], places: Mapping[str, int], ends: Mapping[str, int], labels: Sequence[str]
) -> Callable[[Values], Values]:
    """A function of one entry of a batch, which is an axis of size 1, mapped over the axis.

    `places` says where inputs have the axis, by label, and `ends` where outputs have it.
    """

    def one(values: Values) -> Values:
        entry = {
            label: jnp.expand_dims(value, places[label]) if label in places else value
            for label, value in values.items()
        }
        return {
            label: jnp.squeeze(value, ends[label]) if label in ends else value
            for label, value in function(entry).items()
        }

    def mapped(values: Values) -> Values:
        starts = {label: places.get(label) for label in values}
        return jax.vmap(one, in_axes=(starts,), out_axes={label: ends.get(label) for label in labels})(values)

    return mapped
