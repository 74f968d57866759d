"""Widening: a batch axis becomes one more leading size of a region.

The axes that ops declare for their operands decide how (`ropegen.ir.op.Operand`). An operand that has the batch gets the
size in front. An operand that may lack the batch, or that broadcasts, does not change unless it varies over the new axis;
a bias or mask that does not change gets a size of 1 for every axis that it lacks. An operand that serves the whole batch
cannot vary over it; if it does, the region cannot be widened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from ropegen.ir.graph import Graph, Node, graph, node
from ropegen.ir.op import Operand
from ropegen.ir.ops import Input
from ropegen.types import TensorType, dtype_name

Array = jax.Array


@dataclass(frozen=True, slots=True)
class Use:
    """How an op of a region reads one of the region's inputs, and the batch of that op."""

    operand: Operand
    batch: tuple[int, ...]

    def widened(self, value: Array, is_batched: bool, size: int) -> Array | None:
        """The value for one more leading size; None if the op cannot read it.

        `value` is the input. With `is_batched`, its first axis is the new one, of `size` entries.
        """
        axes, rank = len(self.operand.axes), value.ndim - is_batched
        match self.operand.batch:
            case "none":
                return None if is_batched else value
            case "required":
                return value if is_batched else jnp.broadcast_to(value, (size, *value.shape))
            case "optional":
                if rank == axes and not is_batched:
                    return value
                core = value.shape[value.ndim - axes :]
                if is_batched:
                    between = (1,) * len(self.batch) if rank == axes else self.batch
                    value = value.reshape(size, *between, *core)
                return jnp.broadcast_to(value, (size, *self.batch, *core))
            case "broadcast":
                if not (is_batched or axes):
                    return value
                # Named axes are written out: with fewer, the new size might be taken for that of another axis.
                first = size if is_batched else 1
                return value.reshape(first, *self.operand.padded(value.shape[is_batched:], len(self.batch)))


# An input that no op reads is widened like one that has the batch.
_UNREAD = Use(Operand("unread"), ())


def uses(closed: Graph) -> dict[Node, frozenset[Use]] | None:
    """The uses of every input of a closed region; None if an op could not read a widened value of the region."""
    inputs, widened = set(closed.inputs), set[Node]()
    result: dict[Node, set[Use]] = {value: set() for value in closed.inputs}
    for value in closed.nodes:
        if isinstance(value.op, Input):
            continue
        batch = value.op.measured(*(operand.type for operand in value.operands)).batch
        for declared, operand in zip(value.op.present(len(value.operands)), value.operands, strict=True):
            if value.op.depends_on_place:
                declared = dataclasses.replace(declared, batch="none")
            if operand in inputs:
                result[operand].add(Use(declared, batch))
            is_whole = operand.type.rank == len(batch) + len(declared.axes)
            if operand in widened and (declared.batch == "none" or not is_whole):
                return None
            if operand in widened or (operand in inputs and declared.batch == "required"):
                widened.add(value)
    return {value: frozenset(read or {_UNREAD}) for value, read in result.items()}


def widen(
    closed: Graph,
    size: int,
    flat: Sequence[Array],
    batched: Sequence[bool],
    *,
    results: int,
    moving: Sequence[bool],
    wanted: Sequence[bool],
) -> tuple[Graph, list[Array]] | None:
    """The region with one more leading size, and the arguments of a primitive for it; None if it cannot be widened.

    `flat` holds the operands, `results` results, then the tangents of the operands that are `moving`, or cotangents. An
    argument that is `batched` has the new axis first, of `size` entries. A cotangent of an operand that is `wanted` must
    come back in the operand's own shape, one for every entry.
    """
    read = uses(closed)
    if read is None:
        return None
    count = len(closed.inputs)
    # A tangent has the type of its operand, so if one of them is batched, both must be.
    indices = [index for index, is_moving in enumerate(moving) if is_moving]
    tangent_of = dict(zip(indices, range(count + results, len(flat)), strict=True)) if indices else {}
    partner = {**tangent_of, **{tangent: index for index, tangent in tangent_of.items()}}
    read_as = dict(enumerate(read[value] for value in closed.inputs))
    read_as |= {tangent: read_as[index] for index, tangent in tangent_of.items()}
    values: list[Array] = []
    for index, (value, is_batched) in enumerate(zip(flat, batched, strict=True)):
        varies = is_batched or index not in read_as or (index in partner and batched[partner[index]])
        value = jnp.broadcast_to(value, (size, *value.shape)) if varies and not is_batched else value
        if index in read_as:
            shape = value.shape[varies:]
            brought = _for_all(read_as[index], value, varies, size)
            if brought is None or (index < count and wanted[index] and brought.shape != (size, *shape)):
                return None
            value = brought
        values.append(value)
    inputs = {
        value: node(Input(label=label, type=TensorType(array.shape, dtype_name(array.dtype))))
        for value, label, array in zip(closed.inputs, closed.input_types, values, strict=False)
    }
    return rebuilt(closed, inputs), values


def _for_all(read: frozenset[Use], value: Array, is_batched: bool, size: int) -> Array | None:
    """The value for one more leading size, in the shape that all of its uses need; None if their shapes differ."""
    brought = [use.widened(value, is_batched, size) for use in read]
    first = brought[0]
    if first is None or any(other is None or other.shape != first.shape for other in brought):
        return None
    return first


def rebuilt(closed: Graph, inputs: Mapping[Node, Node]) -> Graph:
    """The graph with other inputs."""
    made = dict(inputs)
    for value in closed.nodes:
        if value not in made:
            made[value] = node(value.op, *(made[operand] for operand in value.operands))
    return graph(closed.name, inputs.values(), {label: made[value] for label, value in closed.outputs})
