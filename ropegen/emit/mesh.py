"""A graph over several devices: the part that one device computes, and the call of all parts.

A *split* says which axes of a graph lie over which axes of a mesh: batch, sequence or heads. The part of one device is a
graph of its own, with smaller sizes, so it is planned like any other graph. `jax.shard_map` runs it on every device. A
projection from split heads gives partial sums, which are added over the devices; nothing else is exchanged.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from ropegen import dropout, masks
from ropegen.errors import RopegenError, nearest
from ropegen.ir import ops
from ropegen.ir.axes import HEADS, SEQUENCE, Axes, axes_of
from ropegen.ir.graph import Graph, Node, graph, label_of, node
from ropegen.types import TensorType

Array = jax.Array
Values = Mapping[str, Array]
Sharding = PartitionSpec | NamedSharding

# A mask or score that reads `head` or `batch` is a kernel of its own for every part. This is the largest number of them.
_MOST_VARIANTS = 16


@dataclass(frozen=True, slots=True)
class Split:
    """The mesh axes over which the axes of a graph lie, by name: "batch", "batch1", ..., "sequence", "heads"."""

    mesh: Mesh | AbstractMesh
    over: tuple[tuple[str, tuple[str, ...]], ...]
    sharding: Sharding | None = None
    """What the split was made from, None if it was read off types."""

    def axes(self, name: str) -> tuple[str, ...]:
        """The mesh axes of an axis; none if the axis is whole on every device."""
        return dict(self.over).get(name, ())

    def count(self, name: str) -> int:
        """The number of parts of an axis."""
        return math.prod(self.mesh.shape[axis] for axis in self.axes(name))

    def spec(self, names: Sequence[str]) -> PartitionSpec:
        """The PartitionSpec of a value whose axes have these names."""
        return PartitionSpec(*(self.axes(name) or None for name in names))

    def whole(self, part: TensorType, spec: PartitionSpec) -> TensorType:
        """The type of a whole value, from that of a device's part."""
        counts = [math.prod(self.mesh.shape[axis] for axis in mesh_axes(entry)) for entry in spec]
        return part.with_shape(*(size * count for size, count in zip(part.shape, counts, strict=True)))

    def __str__(self) -> str:
        axes = ", ".join(f"{name} over {'·'.join(axes)} ({self.count(name)})" for name, axes in self.over)
        return axes or "nothing split"


def split_for(call: str, source: Graph, sharding: object | None, values: Values) -> Split | None:
    """The split of a call: the one that `sharding` asks for, else that of explicit types; None on one device.

    Raises:
      RopegenError: see `split_of`.
    """
    if sharding is None and not any(is_explicit(value) for value in values.values()):
        return None
    axes = axes_of(source)
    return split_of_types(source, axes, values) if sharding is None else split_of(call, sharding, axes)


def is_explicit(value: Array) -> bool:
    """Whether the type of an array states how it lies over the devices."""
    return AxisType.Explicit in jax.typeof(value).sharding.mesh.axis_types


def split_of(call: str, sharding: object, axes: Axes) -> Split:
    """The split that `sharding` asks for: a PartitionSpec over (batch, ..., sequence, heads), or a NamedSharding with one.

    Raises:
      RopegenError: it is neither, there is no mesh, or the spec names an axis of the graph or of the mesh that is not there.
    """
    mesh, spec = mesh_and_spec(call, sharding)
    around = jax.sharding.get_abstract_mesh()
    if not around.empty and dict(around.shape) != dict(mesh.shape):
        raise RopegenError(
            f"{call}: sharding is over the mesh {dict(mesh.shape)}, and `jax.set_mesh` has set {dict(around.shape)}; give a "
            "PartitionSpec over the mesh that is set, or set this one"
        )
    named_twice = Counter(axis for entry in spec for axis in mesh_axes(entry))
    if twice := [axis for axis, count in named_twice.items() if count > 1]:
        raise RopegenError(f"{call}: sharding is {spec}, which names {twice[0]!r} twice; a mesh axis splits one axis")
    kinds = dict(zip(around.axis_names, around.axis_types, strict=True))
    over: dict[str, tuple[str, ...]] = {}
    for name, entry in itertools.zip_longest(axes.known, spec):
        named = mesh_axes(entry)
        if inside := [axis for axis in named if kinds.get(axis) == AxisType.Manual]:
            raise RopegenError(
                f"{call}: sharding is {spec}, and the call is inside a shard_map over {inside[0]!r}, where every array is one "
                "device's part already; leave that axis out of `sharding`"
            )
        if unknown := [axis for axis in named if axis not in mesh.axis_names]:
            raise RopegenError(
                f"{call}: sharding is {spec}, and the mesh has no axis {unknown[0]!r}; {nearest(unknown[0], mesh.axis_names)}"
            )
        if named and name is None:
            raise RopegenError(
                f"{call}: sharding is {spec}, and only the axes ({', '.join(axes.known)}) can be split; give at most "
                f"{len(axes.known)} entries, in this order, and leave the others whole"
            )
        if named:
            over[name] = named
    return Split(mesh, tuple(over.items()), cast("Sharding", sharding))


def splits_sequence(call: str, sharding: object, rank: int) -> bool:
    """Whether a sharding of q (..., sequence, heads, width) with `rank` axes splits the sequence."""
    _, spec = mesh_and_spec(call, sharding)
    return rank >= 3 and len(spec) > rank - 3 and bool(mesh_axes(spec[rank - 3]))


def mesh_and_spec(call: str, sharding: object) -> tuple[Mesh | AbstractMesh, PartitionSpec]:
    """The mesh and the spec of a sharding.

    Raises:
      RopegenError: it is neither a PartitionSpec nor a NamedSharding, or there is no mesh.
    """
    if isinstance(sharding, NamedSharding):
        mesh, spec = sharding.mesh, sharding.spec
    elif isinstance(sharding, PartitionSpec):
        mesh, spec = jax.sharding.get_abstract_mesh(), sharding
    else:
        raise RopegenError(
            f'{call}: sharding is {sharding!r:.60}; give a jax.sharding.PartitionSpec, such as PartitionSpec("data", None, '
            '"heads") over (batch, sequence, heads), or a NamedSharding'
        )
    if mesh.empty:
        raise RopegenError(
            f"{call}: sharding is {spec}, and there is no mesh that has its axes; run the call under "
            "`with jax.set_mesh(mesh):`, or give jax.sharding.NamedSharding(mesh, spec)"
        )
    return mesh, spec


def split_by_name(call: str, source: Graph, asked: Sequence[tuple[str, str, int | None]], devices: int) -> Split:
    """The split of (axis, mesh axis, size) on a new mesh of some devices.

    A size that is None follows from the number of devices: the first such axis gets the largest size that divides it evenly
    and leaves the others a size that does so too.

    Raises:
      RopegenError: an axis is unknown or named twice, or no mesh of so many devices divides the axes evenly.
    """
    axes = axes_of(source)
    names, over = [name for name, _, _ in asked], [axis for _, axis, _ in asked]
    for name in names:
        if name not in axes.known:
            raise RopegenError(f"{call}: the sharding names the axis {name!r}; {nearest(name, axes.known)}")
    if len({*names}) < len(names) or len({*over}) < len(over):
        raise RopegenError(
            f"{call}: the sharding names an axis twice; name every axis of the graph and of the mesh once"
        )
    sizes = next(_sizes([(_least(axes, name), size) for name, _, size in asked], devices), None)
    if sizes is None:
        counts = ", ".join(f"{_least(axes, name)} of {name}" for name in names)
        raise RopegenError(
            f"{call}: no mesh of {devices} devices over {', '.join(over)} divides {counts} evenly; give another number of "
            "devices, or other axes or sizes"
        )
    mesh = AbstractMesh(tuple(sizes), tuple(over), axis_types=(AxisType.Auto,) * len(over))
    return Split(mesh, tuple((name, (axis,)) for name, axis in zip(names, over, strict=True)))


def _least(axes: Axes, name: str) -> int:
    """The least number of places along the axes of that name."""
    counts = [
        count
        for value, its in axes.names.items()
        for own, count in zip(its, axes.counts[value], strict=True)
        if own == name
    ]
    return min(counts)


def _sizes(axes: Sequence[tuple[int, int | None]], devices: int) -> Iterator[tuple[int, ...]]:
    """The sizes of mesh axes with `devices` in all, those first whose first axes are largest. Axes are (count, size)."""
    if not axes:
        if devices == 1:
            yield ()
        return
    (count, fixed), *rest = axes
    for size in range(math.gcd(count, devices), 0, -1) if fixed is None else (fixed,):
        if size and devices % size == 0 and count % size == 0:
            for others in _sizes(rest, devices // size):
                yield (size, *others)


def mesh_axes(entry: Any) -> tuple[str, ...]:
    """The mesh axes that an entry of a PartitionSpec names."""
    if entry is None or entry is PartitionSpec.UNCONSTRAINED:
        return ()
    return entry if isinstance(entry, tuple) else (entry,)


def split_of_types(source: Graph, axes: Axes, values: Values) -> Split | None:
    """The split that the types of the inputs state, on a mesh with explicit axes; None if no input is on such a mesh.

    The first input that splits an axis decides. The others are brought to the same split. The sequence of an attention
    is brought together, because a query must see all keys.
    """
    types = [(value, jax.typeof(values[label_of(value)])) for value in source.inputs if label_of(value) in values]
    mesh = next((its.sharding.mesh for _, its in types if AxisType.Explicit in its.sharding.mesh.axis_types), None)
    if mesh is None:
        return None
    attends = any(isinstance(value.op, ops.Attend) for value in source.nodes)
    over: dict[str, tuple[str, ...]] = {}
    for value, its in types:
        for name, entry in zip(axes.names[value], its.sharding.spec, strict=False):
            named, taken = mesh_axes(entry), set(itertools.chain(*over.values()))
            if named and name and not taken.intersection(named) and not (attends and name == SEQUENCE):
                over.setdefault(name, named)
    return Split(mesh, tuple(over.items()))


# The part of one device ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """What one device computes: a graph over its parts of the inputs, and how inputs and results lie over the devices."""

    split: Split
    graph: Graph
    inputs: tuple[tuple[str, PartitionSpec], ...]
    outputs: tuple[tuple[str, PartitionSpec], ...]
    repeated: tuple[tuple[str, int, int], ...]
    """(input, axis, count): `count` key heads are fewer than the devices, so several devices read the same one."""
    counted: tuple[tuple[str, ops.Positions], ...]
    """Positions that are known and lie over the devices: they became inputs."""
    names: tuple[tuple[str, tuple[str, ...]], ...]
    """What the axes of the inputs are, see `ropegen.ir.axes`."""
    partial: frozenset[str]
    """The outputs that are sums over the devices of the heads."""
    once: frozenset[str]
    """Inputs that only the first device of the heads adds: the biases of partial sums."""
    firsts: tuple[tuple[str, int, str, int], ...]
    """(seed, word, axis, size): this word of a seed is the first index along a split axis, of which a device has `size`."""


def part_of(call: str, source: Graph, axes: Axes, split: Split, place: Mapping[str, int] | None = None) -> Part:
    """The part of one device. `place` is its index in the parts of "heads" and "batch", for expressions that read them.

    Raises:
      RopegenError: a size does not divide evenly, or an op needs the whole of an axis that is split.
    """
    return _Parting(call, source, axes, split, place or {}).part()


class _Parting:
    """Builds the part of one device, node by node."""

    def __init__(self, call: str, source: Graph, axes: Axes, split: Split, place: Mapping[str, int]) -> None:
        self.call, self.source, self.axes, self.split, self.place = call, source, axes, split, place
        self.repeated: list[tuple[str, int, int]] = []
        self.counted: list[tuple[str, ops.Positions]] = []
        self.partial: set[Node] = set()
        self.once: set[str] = set()
        self.firsts: dict[tuple[str, int], tuple[str, int]] = {}

    def part(self) -> Part:
        made: dict[Node, Node] = {}
        for value in self.source.nodes:
            made[value] = self._made(value, [made[operand] for operand in value.operands])
        outputs = dict(self.source.outputs)
        for value in self.source.nodes:
            if lost := [operand for operand in value.operands if operand in self.partial]:
                raise self._refuse(f"{value.op.name} reads the sum over the heads of a {lost[0].op.name}", HEADS)
        for label, value in outputs.items():
            for axis, count in enumerate(self.axes.counts[value]):
                if self._is_split(value, HEADS, axis) and count % self.split.count(HEADS):
                    raise self._refuse(f"the output {label} has {count} heads, fewer than there are parts", HEADS)
        inputs = [(label_of(value), self._spec(value)) for value in self.source.inputs]
        inputs += [(label, self.split.spec((SEQUENCE,))) for label, _ in self.counted]
        declared = [made[value] for value in self.source.inputs]
        declared += [value for value in made.values() if isinstance(value.op, ops.Input) and value not in declared]
        return Part(
            self.split,
            graph(self.source.name, declared, {label: made[value] for label, value in outputs.items()}),
            tuple(inputs),
            tuple((label, self._spec(value)) for label, value in outputs.items()),
            tuple(self.repeated),
            tuple(self.counted),
            tuple((label_of(value), self.axes.names[value]) for value in self.source.inputs),
            frozenset(label for label, value in outputs.items() if value in self.partial),
            frozenset(self.once),
            tuple((*word, *its) for word, its in self.firsts.items()),
        )

    def _is_split(self, value: Node, name: str, axis: int) -> bool:
        return self.axes.names[value][axis] == name and self.split.count(name) > 1

    def _spec(self, value: Node) -> PartitionSpec:
        whole = {
            axis for label, axis, _ in self.repeated if isinstance(value.op, ops.Input) and label == label_of(value)
        }
        names = self.axes.names[value]
        return self.split.spec(["" if axis in whole else name for axis, name in enumerate(names)])

    def _shape(self, value: Node) -> tuple[int, ...]:
        """The shape of the part of a value."""
        shape: list[int] = []
        for axis, (size, name) in enumerate(zip(value.type.shape, self.axes.names[value], strict=True)):
            parts, count = self.split.count(name), self.axes.counts[value][axis]
            if count % parts and (name != HEADS or parts % count):
                raise self._uneven(value, name, count)
            shape.append(size // max(1, min(parts, count)))
        return tuple(shape)

    def _made(self, value: Node, operands: list[Node]) -> Node:
        op, shape = value.op, self._shape(value)
        if isinstance(op, ops.Input):
            self.repeated += [
                (op.label, axis, count)
                for axis, count in enumerate(self.axes.counts[value])
                if self._is_split(value, HEADS, axis) and count % self.split.count(HEADS)
            ]
            return node(dataclasses.replace(op, type=value.type.with_shape(*shape)))
        if isinstance(op, ops.Positions):
            if not self._is_split(value, SEQUENCE, 0):
                return value
            label = f"counted{len(self.counted)}"
            self.counted.append((label, op))
            return node(ops.Input(label=label, type=value.type.with_shape(*shape)))
        made = node(self._op(value, operands), *operands)
        if made.type.shape != shape:
            raise self._refuse(f"{op.name} {value.type} would be {made.type} on a device", self._reason(value))
        return made

    def _reason(self, value: Node) -> str:
        """The name of an axis that an op cannot split."""
        names = [*self.axes.names[value], *(name for operand in value.operands for name in self.axes.names[operand])]
        return next((name for name in names if self.split.count(name) > 1), HEADS)

    def _op(self, value: Node, operands: Sequence[Node]) -> Any:
        """The op over parts of its operands."""
        op = value.op
        match op:
            case ops.SplitHeads() if self._is_split(value, HEADS, -2):
                return dataclasses.replace(op, heads=operands[0].type.shape[-1] // op.width)
            case ops.Norm() if self._is_split(value, HEADS, -1):
                raise self._refuse(f"a norm over {value.type.shape[-1]} features of all heads needs all of them", HEADS)
            case ops.Project() if self._is_split(value.operands[0], HEADS, -1):
                self.partial.add(value)
                self.once |= {label_of(bias) for bias in value.operands[2:]}
                return op
            case ops.Attend():
                if any(self._is_split(operand, SEQUENCE, -3) for operand in value.operands[:3]):
                    raise self._refuse(
                        "every query of an attention must see the keys of the other devices too", SEQUENCE
                    )
                return self._placed(op, value)
            case _:
                return op

    def _placed(self, op: ops.Attend, value: Node) -> ops.Attend:
        """The attention with its mask and score over the head and batch indices of this device."""
        if op.dropout is not None:
            self._count_dropout(value)
        parts: dict[str, tuple[int, int]] = {}
        for name, axis in (("head", -2), ("batch", 0)):
            count = value.operands[0].type.shape[axis]
            its = self.axes.names[value.operands[0]][axis]
            if name in op.variables and self.split.count(its) > 1:
                if name == "batch" and value.operands[0].type.rank > 4:
                    raise self._refuse("the mask or score reads `batch`, which counts over several axes", its)
                size = count // self.split.count(its)
                parts[name] = self.place.get(its, 0) * size, size
        return dataclasses.replace(op, visible=masks.shifted(op.visible, parts), score=masks.shifted(op.score, parts))

    def _count_dropout(self, value: Node) -> None:
        """Lets the seed count the batch entries and heads of the whole, so that no two devices drop the same weights."""
        q, seed = value.operands[0], value.operand("seed")
        assert seed is not None
        for word, axis in ((dropout.FIRST_BATCH, 0), (dropout.FIRST_HEAD, q.type.rank - 2)):
            name = self.axes.names[q][axis]
            if self.split.count(name) <= 1 or (axis == 0 and q.type.rank < 4):
                continue
            if not isinstance(seed.op, ops.Input) or (axis == 0 and q.type.rank > 4):
                raise self._refuse("dropout counts one batch axis, from a seed that is an input", name)
            its = name, q.type.shape[axis] // self.split.count(name)
            if self.firsts.setdefault((label_of(seed), word), its) != its:
                raise self._refuse("attentions of several sizes share one seed for dropout", name)

    def _uneven(self, value: Node, name: str, count: int) -> RopegenError:
        parts = self.split.count(name)
        what = label_of(value) if isinstance(value.op, ops.Input) else value.op.name
        return RopegenError(
            f"{self.call}: {name} is split into {parts} parts over {', '.join(self.split.axes(name))}, and {what} "
            f"({value.type}) has {count} of it; make {count} a multiple of {parts}"
            + (f" or a divisor of {parts}" if name == HEADS else "")
            + ", pad it, or leave this axis whole"
        )

    def _refuse(self, problem: str, name: str) -> RopegenError:
        return RopegenError(f"{self.call}: {self.split}: {problem}; leave the {name} whole in `sharding`")


# Its call on every device -------------------------------------------------------------------------------------------


def variants(source: Graph, split: Split) -> tuple[str, ...]:
    """The split axes whose index the mask or score of an attention reads. Their parts differ from device to device."""
    read = {name for value in source.nodes if isinstance(value.op, ops.Attend) for name in value.op.variables}
    return tuple(
        name for name, variable in ((HEADS, "head"), ("batch", "batch")) if variable in read and split.count(name) > 1
    )


def parts_of(call: str, source: Graph, split: Split) -> tuple[Part, ...]:
    """The parts of all devices that differ: one, or one for every place along the axes that a mask or score reads.

    Raises:
      RopegenError: see `part_of`; or there are too many parts that differ.
    """
    axes = axes_of(source)
    names = variants(source, split)
    places = list(itertools.product(*(range(split.count(name)) for name in names)))
    if len(places) > _MOST_VARIANTS:
        raise RopegenError(
            f"{call}: the mask or score reads the index along {' and '.join(names)}, which has {len(places)} parts, and every "
            f"part would be a kernel of its own; split it into at most {_MOST_VARIANTS} parts, or give `bias` instead"
        )
    return tuple(part_of(call, source, axes, split, dict(zip(names, place, strict=True))) for place in places)


def over_devices(
    parts: Sequence[Part],
    functions: Sequence[Callable[[dict[str, Array]], dict[str, Array]]],
    inputs: Mapping[str, PartitionSpec],
    results: Mapping[str, PartitionSpec],
) -> Callable[[Values], dict[str, Array]]:
    """A function of whole arrays by name that runs the function of its part on every device.

    `inputs` and `results` say how the arguments and the results of the functions lie over the devices.
    """
    first = parts[0]
    split = first.split
    heads = split.axes(HEADS)

    def own(values: Mapping[str, Array]) -> dict[str, Array]:
        mine = dict(values)
        for label, axis, count in first.repeated:
            if label in mine:
                width = mine[label].shape[axis] // count
                start = lax.axis_index(heads) * count // split.count(HEADS) * width
                mine[label] = lax.dynamic_slice_in_dim(mine[label], start, width, axis)
        for label, word, name, size in first.firsts:
            if label in mine:
                start = lax.axis_index(split.axes(name)) * size
                mine[label] = mine[label].at[word].add(start.astype(mine[label].dtype))
        for label in first.once & mine.keys():
            mine[label] = jnp.where(lax.axis_index(heads) == 0, mine[label], 0)
        return mine

    def compute(values: dict[str, Array]) -> dict[str, Array]:
        return functions[0](values) if len(parts) == 1 else lax.switch(_place(parts, split), functions, values)

    def on_a_device(values: Mapping[str, Array]) -> dict[str, Array]:
        made = compute(own(values))
        return {label: lax.psum(value, heads) if label in first.partial else value for label, value in made.items()}

    def whole(values: Values) -> dict[str, Array]:
        counted = {label: jnp.arange(op.start, op.start + op.length, dtype=jnp.int32) for label, op in first.counted}
        given = {**values, **counted}
        specs = {label: _without_axes_of_one(spec, split.mesh) for label, spec in inputs.items()}
        of_results = {label: _without_axes_of_one(spec, split.mesh) for label, spec in results.items()}
        laid = {label: laid_out(given[label], split.mesh, spec) for label, spec in specs.items()}
        return jax.shard_map(on_a_device, in_specs=(specs,), out_specs=of_results, **manual(split.mesh))(laid)

    return whole


def _without_axes_of_one(spec: PartitionSpec, mesh: Mesh | AbstractMesh) -> PartitionSpec:
    """The spec without axes of one device. They divide nothing, but in `shard_map` a value would vary over them."""

    def kept(names: Any) -> Any:
        several = tuple(name for name in ((names,) if isinstance(names, str) else names) if mesh.shape[name] > 1)
        return several if len(several) > 1 else several[0] if several else None

    return PartitionSpec(*(None if names is None else kept(names) for names in spec))


def _place(parts: Sequence[Part], split: Split) -> Array:
    """Which of the parts this device computes."""
    index = jnp.int32(0)
    for name in variants(parts[0].graph, split):
        index = index * split.count(name) + lax.axis_index(split.axes(name))
    return index


def laid_out(value: Array, mesh: Mesh | AbstractMesh, spec: PartitionSpec) -> Array:
    """The array as `shard_map` wants it: where axes are explicit, its type must state the split."""
    around = jax.sharding.get_abstract_mesh()
    if AxisType.Explicit not in (mesh if around.empty else around).axis_types:
        return value
    return jax.sharding.reshard(value, NamedSharding(mesh, spec))


def manual(mesh: Mesh | AbstractMesh) -> dict[str, Any]:
    """The arguments of `shard_map` for all axes of a mesh that an outer `shard_map` does not split already."""
    around = jax.sharding.get_abstract_mesh()
    if around.empty:
        return {"mesh": mesh}
    free = [axis for axis, kind in zip(around.axis_names, around.axis_types, strict=True) if kind != AxisType.Manual]
    return {"axis_names": frozenset(free)}
