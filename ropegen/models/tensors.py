"""`Tensors`: how the checkpoints of a family name, transpose and pack the arrays that a model takes.

A *role* is one part of a model, such as `q` or `input_norm`. Its arrays have labels: a projection `q` has `q_weight`
(features in, features out) and perhaps `q_bias`; a norm has its weight under the name of the role, and perhaps a bias,
`input_norm_bias`. A family says for each role how the tensor is stored. Which of the two orientations a matrix has is
part of that statement and never guessed from its shape, because a square matrix fits both ways.

The facts come from the modelling files of transformers 5 and from checkpoints on the Hugging Face hub.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ropegen.errors import RopegenError

Array: TypeAlias = npt.NDArray[Any]
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]
"""The shapes of the arrays that are wanted, by label."""
Chosen: TypeAlias = slice | npt.NDArray[np.intp]
"""Which outputs of a stored tensor are wanted."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that the shapes of arrays do not say: the width of a head, and the height and width of a patch."""

    head_width: int
    patch: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Packing:
    """How one stored tensor holds the outputs of several roles.

    Its outputs are `groups` equal groups, one after the other. Every group holds an equal share of each role, in the
    order of `roles`. One group is a run of each role; "key heads" is a group for each head of keys, together with the
    heads of queries that share it; "features" deals the outputs out in turn.
    """

    roles: tuple[str, ...]
    groups: Literal["key heads", "features"] | int = 1

    def chosen(self, role: str, wanted: Shapes, sizes: Sizes) -> tuple[Chosen, int]:
        """Which outputs of the stored tensor are those of `role`, and how many there are of all roles together."""
        outputs = {name: wanted[f"{name}_weight"][-1] for name in self.roles}
        total = sum(outputs.values())
        groups = self.groups
        if groups == "key heads":
            groups = outputs["k"] // sizes.head_width
        elif groups == "features":
            groups = outputs[role]
        if any(features % groups for features in outputs.values()):
            raise RopegenError(
                f"a packed tensor holds {outputs} features, which do not divide into {groups} equal groups; compare the "
                "config's numbers of heads with the published ones"
            )
        start = sum(outputs[name] // groups for name in self.roles[: self.roles.index(role)])
        end = start + outputs[role] // groups
        if groups == 1:
            return slice(start, end), total
        return np.arange(total).reshape(groups, -1)[:, start:end].ravel(), total


IN_RUNS = Packing(("q", "k", "v"))
BY_HEAD = Packing(("q", "k", "v"), "key heads")


@dataclass(frozen=True, slots=True)
class Part:
    """One wanted array, and how to make it from a stored tensor.

    name: the stored tensor below its folder; "{}" stands for the number of an expert.
    shape: the shape that the stored tensor must have, for one expert where there are several.
    take: the wanted array, perhaps a view, from the stored tensor.
    experts: how many stored tensors are stacked; None for one tensor that is not stacked.
    """

    label: str
    name: str
    shape: tuple[int, ...]
    take: Callable[[Array], Array]
    experts: int | None = None


def _unchanged(stored: Array) -> Array:
    return stored


@dataclass(frozen=True, slots=True)
class _Module:
    """A module of torch called NAME, with NAME.weight and perhaps NAME.bias."""

    name: str

    def names(self) -> tuple[str, str]:
        """The names of the weight and of the bias."""
        return f"{self.name}.weight", f"{self.name}.bias"


@dataclass(frozen=True, slots=True)
class Linear(_Module):
    """torch's `Linear`, whose weight is (features out, features in), the transpose of what a graph takes."""

    packing: Packing | None = None

    def parts(self, role: str, wanted: Shapes, sizes: Sizes) -> Iterator[Part]:
        """The parts of `wanted` that belong to `role`."""
        if (label := f"{role}_weight") not in wanted:
            return
        chosen, total = _outputs(self.packing, role, wanted, sizes)
        yield Part(
            label, f"{self.name}.weight", (total, wanted[label][0]), lambda stored: stored[chosen].swapaxes(0, 1)
        )
        yield from _biases(self.name, role, wanted, chosen, total)


@dataclass(frozen=True, slots=True)
class Conv1D(_Module):
    """The `Conv1D` of GPT-2, whose weight is (features in, features out), as a graph takes it."""

    packing: Packing | None = None

    def parts(self, role: str, wanted: Shapes, sizes: Sizes) -> Iterator[Part]:
        """The parts of `wanted` that belong to `role`."""
        if (label := f"{role}_weight") not in wanted:
            return
        chosen, total = _outputs(self.packing, role, wanted, sizes)
        yield Part(label, f"{self.name}.weight", (wanted[label][0], total), lambda stored: stored[:, chosen])
        yield from _biases(self.name, role, wanted, chosen, total)


def _outputs(packing: Packing | None, role: str, wanted: Shapes, sizes: Sizes) -> tuple[Chosen, int]:
    """Which outputs of a stored tensor are those of `role`, and how many it has."""
    if packing is None:
        return slice(None), wanted[f"{role}_weight"][-1]
    return packing.chosen(role, wanted, sizes)


def _biases(name: str, role: str, wanted: Shapes, chosen: Chosen, total: int) -> Iterator[Part]:
    if (label := f"{role}_bias") in wanted:
        yield Part(label, f"{name}.bias", (total,), lambda stored: stored[chosen])


@dataclass(frozen=True, slots=True)
class Experts(_Module):
    """One `Linear` for each expert, NAME with "{}" for its number. A wanted array has a first axis of experts."""

    def parts(self, role: str, wanted: Shapes, sizes: Sizes) -> Iterator[Part]:
        """The parts of `wanted` that belong to `role`."""
        if (label := f"{role}_weight") in wanted:
            experts, features, outputs = wanted[label]
            yield Part(label, f"{self.name}.weight", (outputs, features), np.transpose, experts)


@dataclass(frozen=True, slots=True)
class StackedExperts:
    """The experts in one tensor called NAME, with their number as its first axis; NAME_bias holds the biases.

    outputs_first: whether a matrix is (features out, features in), as in torch's `Linear`.
    """

    name: str
    outputs_first: bool
    packing: Packing | None = None

    def parts(self, role: str, wanted: Shapes, sizes: Sizes) -> Iterator[Part]:
        """The parts of `wanted` that belong to `role`."""
        label, bias = f"{role}_weight", f"{role}_bias"
        if label not in wanted:
            return
        experts, features, _ = wanted[label]
        chosen, total = _outputs(self.packing, role, wanted, sizes)
        if self.outputs_first:
            yield Part(label, self.name, (experts, total, features), lambda stored: stored[:, chosen].swapaxes(1, 2))
        else:
            yield Part(label, self.name, (experts, features, total), lambda stored: stored[:, :, chosen])
        if bias in wanted:
            yield Part(bias, f"{self.name}_bias", (experts, total), lambda stored: stored[:, chosen])

    def names(self) -> tuple[str, str]:
        """The names of the weights and of the biases."""
        return self.name, f"{self.name}_bias"


@dataclass(frozen=True, slots=True)
class FlatExperts:
    """The experts in one matrix called NAME, the rows of one expert after those of another.

    outputs_first: whether the matrix of an expert is (features out, features in), as in torch's `Linear`.
    """

    name: str
    outputs_first: bool

    def parts(self, role: str, wanted: Shapes, sizes: Sizes) -> Iterator[Part]:
        """The parts of `wanted` that belong to `role`."""
        if (label := f"{role}_weight") not in wanted:
            return
        experts, features, outputs = wanted[label]
        rows, columns = (outputs, features) if self.outputs_first else (features, outputs)

        def taken(stored: Array) -> Array:
            matrices = stored.reshape(experts, rows, columns)
            return matrices.swapaxes(1, 2) if self.outputs_first else matrices

        yield Part(label, self.name, (experts * rows, columns), taken)

    def names(self) -> tuple[str]:
        """The name of the matrix."""
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Number:
    """A number called NAME, which is an array of one element for a graph. The stored tensor has no axis, or one if `axis`."""

    name: str
    axis: bool

    def parts(self, role: str, wanted: Shapes, sizes: Sizes) -> Iterator[Part]:
        """The parts of `wanted` that belong to `role`."""
        if role in wanted:
            yield Part(role, self.name, (1,) if self.axis else (), lambda stored: stored.reshape(1))

    def names(self) -> tuple[str]:
        """The name of the number."""
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Norm(_Module):
    """A norm. Its weight has the name of the role as its label."""

    def parts(self, role: str, wanted: Shapes, sizes: Sizes) -> Iterator[Part]:
        """The parts of `wanted` that belong to `role`."""
        for label, name in zip((role, f"{role}_bias"), self.names(), strict=True):
            if label in wanted:
                yield Part(label, name, wanted[label], _unchanged)


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of an embedding, NAME.weight, without its first `skip` rows."""

    name: str
    skip: int = 0

    def parts(self, role: str, wanted: Shapes, sizes: Sizes) -> Iterator[Part]:
        """The parts of `wanted` that belong to `role`."""
        if role in wanted:
            rows, features = wanted[role]
            yield Part(role, f"{self.name}.weight", (rows + self.skip, features), lambda stored: stored[self.skip :])

    def names(self) -> tuple[str]:
        """The name of the table."""
        return (f"{self.name}.weight",)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor called NAME alone. It has `ones` first axes of size 1, and its first `skip` rows are left out."""

    name: str
    ones: int = 0
    skip: int = 0

    def parts(self, role: str, wanted: Shapes, sizes: Sizes) -> Iterator[Part]:
        """The parts of `wanted` that belong to `role`."""
        if role in wanted:
            rows, *rest = wanted[role]
            shape = (rows + self.skip, *rest)
            yield Part(role, self.name, (*(1,) * self.ones, *shape), lambda stored: stored.reshape(shape)[self.skip :])

    def names(self) -> tuple[str]:
        """The name of the tensor."""
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Row:
    """A tensor called NAME alone, of one axis, that is the only row of a table."""

    name: str

    def parts(self, role: str, wanted: Shapes, sizes: Sizes) -> Iterator[Part]:
        """The parts of `wanted` that belong to `role`."""
        if role in wanted:
            yield Part(role, self.name, wanted[role][1:], lambda stored: stored[None])

    def names(self) -> tuple[str]:
        """The name of the tensor."""
        return (self.name,)


@dataclass(frozen=True, slots=True)
class Convolution(_Module):
    """A `Conv2d` that cuts an image into patches; its weight is (features, channels, height, width) of a patch.

    A graph takes (height * width * channels, features), because its images have their channels last.
    """

    def parts(self, role: str, wanted: Shapes, sizes: Sizes) -> Iterator[Part]:
        """The parts of `wanted` that belong to `role`."""
        if (label := f"{role}_weight") not in wanted or sizes.patch is None:
            return
        inputs, features = wanted[label]
        shape = (features, inputs // math.prod(sizes.patch), *sizes.patch)
        yield Part(
            label,
            f"{self.name}.weight",
            shape,
            lambda stored: stored.transpose(2, 3, 1, 0).reshape(inputs, features),
        )
        yield from _biases(self.name, role, wanted, slice(None), features)


Stored: TypeAlias = (
    Linear | Conv1D | Experts | StackedExperts | FlatExperts | Number | Norm | Table | Parameter | Row | Convolution
)
Roles: TypeAlias = Mapping[str, Stored]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensors:
    """How the checkpoints of a family store a model: the names below a prefix, and the fields that state the sizes.

    The sizes of a front-end follow from its graph. Those of the block after it follow from the fields named here.
    """

    prefixes: tuple[tuple[str, str], ...] = (
        ("model.", ""),
        ("model.language_model.", ""),
        ("model.text_model.", ""),
        ("language_model.model.", "language_model."),
        ("", ""),
    )
    """The prefixes under which checkpoints hold the model, each with the prefix of the head."""
    layers: str = "layers.{}."
    """The folder of a layer."""
    stem: Roles
    """What stands before the first layer: the embedding and its norm."""
    front_end: Roles
    """What the front-end of a layer may take; its graph says what it takes."""
    blocks: tuple[Roles, ...] = ()
    """The rest of a layer, one mapping for each form that it may be stored in. A checkpoint is read by the form of which it
    holds most. `Block` says which projections have a bias."""
    final: Roles = field(default_factory=dict[str, Stored])
    """What stands after the last layer, below the prefix of the model: the final norm."""
    head: Linear | None = None
    """The head, below the prefix of the head; None where the model has none."""
    inner: str = "intermediate_size"
    """The field with the inner features of the MLP."""
    inner_times: int | None = None
    """How many times `hidden_size` that is, where the field is missing or null."""
    experts: str = ""
    """The field with the number of experts."""
    expert_inner: str = "intermediate_size"
    """The field with the inner features of an expert."""
    shared_inner: str = ""
    """The field with the inner features of the experts that every token takes."""
    shared_times: str = ""
    """The field that multiplies them."""
    ignored: tuple[str, ...] = ()
    """Regular expressions for whole names, below the prefix, of tensors that the modelling code does not read."""
    renamed: tuple[tuple[str, str], ...] = ()
    """Parts of the names of other checkpoints, and what stands for them in the names used here, one after the other."""


def linears(name: str, *roles: str) -> dict[str, Stored]:
    """A `Linear` for each role, called `name` with the role in place of "{}"."""
    return {role: Linear(name.format(role)) for role in roles}


def packed(name: str, packing: Packing) -> dict[str, Stored]:
    """One `Linear` called `name` that holds the roles of `packing`."""
    return {role: Linear(name, packing) for role in packing.roles}
