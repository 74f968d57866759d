"""What a template declares, and the catalogue of those that are installed.

A *family* (embed, qkv_rope, attend) says which parts of a graph it can compute. A *region* is such a part, cut
out and closed: its operands have become inputs, so that two equal parts of two graphs are one region. A
*template* computes the regions of a family on some platforms: what it covers, when it declines, how fast it
is, and how it is built. Every family has an `xla` template that declines nothing.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import jax

from ropegen.errors import RopegenError, nearest
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, graph, node, topological
from ropegen.target import Target

Array = jax.Array


@dataclass(frozen=True, slots=True)
class Batching:
    """How an operand of a region takes a batch axis.

    "carried": the batch is its leading size. "aligned": after the leading sizes of the carried operands, or
    without any, come `rank` more. "broadcast": it aligns from the right with a value of `rank` axes, as in
    NumPy. "shared": one value for the whole batch, such as a weight.
    """

    kind: Literal["carried", "aligned", "broadcast", "shared"]
    rank: int = 0


CARRIED, SHARED = Batching("carried"), Batching("shared")


@dataclass(frozen=True, slots=True)
class Tile:
    """Named sizes, e.g. `q=512 kv=512`; empty where a template has no choice."""

    sizes: tuple[tuple[str, int], ...] = ()

    @staticmethod
    def of(**sizes: int) -> Tile:
        return Tile(tuple(sizes.items()))

    def __getitem__(self, name: str) -> int:
        return dict(self.sizes)[name]

    def __str__(self) -> str:
        return " ".join(f"{name}={size}" for name, size in self.sizes) or "-"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a region takes: operations, bytes of main memory, bytes of temporaries, and the predicted seconds."""

    flops: float
    bytes: float
    temporary: float
    seconds: float
    bound: Literal["compute", "memory", "launch"]

    @staticmethod
    def of(
        target: Target,
        dtype: str,
        *,
        matmul: float = 0,
        vector: float = 0,
        exponentials: float = 0,
        moved: float = 0,
        temporary: float = 0,
    ) -> Cost:
        """The roofline of one chip: matrix, vector and transcendental units overlap no better than one after the other."""
        chip = target.figures
        busy = matmul / chip.matmul(dtype) + vector / chip.vector + exponentials / chip.transcendental
        moving = moved / chip.bandwidth
        bound: Literal["compute", "memory", "launch"] = "compute" if busy >= moving else "memory"
        if chip.launch > max(busy, moving):
            bound = "launch"
        return Cost(matmul + vector + exponentials, moved, temporary, max(busy, moving) + chip.launch, bound)

    def __add__(self, other: Cost) -> Cost:
        bound = self.bound if self.seconds >= other.seconds else other.bound
        return Cost(
            self.flops + other.flops,
            self.bytes + other.bytes,
            max(self.temporary, other.temporary),
            self.seconds + other.seconds,
            bound,
        )


NO_COST = Cost(0, 0, 0, 0, "launch")


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a graph: the values it reads, the values it gives, and the same part closed.

    `closed` has one input an operand, labelled by the family, and one output a value; equal parts are one graph.
    """

    family: str
    operands: tuple[Node, ...]
    outputs: tuple[Node, ...]
    closed: Graph

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that the region computes, operands first."""
        return topological(self.outputs, given=frozenset(self.operands))


@dataclass(frozen=True)
class Site:
    """What a family reads off a closed region. Subclasses add their own fields."""

    closed: Graph

    @property
    def operands(self) -> tuple[Node, ...]:
        """The inputs of the closed region."""
        return self.closed.inputs

    @property
    def outputs(self) -> tuple[Node, ...]:
        """The values that the closed region gives."""
        return tuple(value for _, value in self.closed.outputs)


S = TypeVar("S", bound=Site)


@dataclass(frozen=True, slots=True)
class Family(Generic[S]):
    """The regions that the templates of one folder compute."""

    name: str
    find: Callable[[Graph], Iterator[Region]]
    """The regions of a graph that are worth considering, whether or not they overlap."""
    site: Callable[[Graph], S]
    """Reads a closed region; a RopegenError where it is none of this family's."""
    covers: Callable[[S], Graph]
    """Builds the closed region of a site: the pattern, the oracle of the tests, and the documentation."""
    residuals: Callable[[S], tuple[Node, ...]]
    """What a kernel gives beside the outputs, for the backward kernel to read; nodes over the closed inputs."""
    batching: Callable[[S], tuple[tuple[int, ...], tuple[Batching, ...]]]
    """The leading sizes of the carried operands, and how each operand takes one more."""


Arrays = tuple[Array, ...]
Tangents = tuple["Array | None", ...]


@dataclass(frozen=True, slots=True)
class Kernel:
    """JAX functions over arrays in the order of the closed region's inputs; traced, never run by Python.

    `forward(*operands)` gives the outputs, then the residuals. `tangent(operands, results, tangents)` gives the
    tangents of the results, linear in those of the operands (None where zero). `backward(operands, results,
    cotangents, wanted)` gives the cotangents of the wanted operands, None elsewhere.
    """

    forward: Callable[..., Arrays]
    tangent: Callable[[Arrays, Arrays, Tangents], Arrays]
    backward: Callable[[Arrays, Arrays, Tangents, Sequence[bool]], Tangents]


def _no_notes(site: Any, tile: Tile) -> Iterator[str]:
    return iter(())


@dataclass(frozen=True, slots=True)
class Template(Generic[S]):
    """One way to compute the regions of a family."""

    name: str
    version: int
    family: Family[S]
    runs_on: tuple[str, ...]
    """Platforms: cpu, gpu, tpu."""
    calls: tuple[str, ...]
    """The custom-call targets that it emits; the exporter checks them against the module."""
    covers: Callable[[S], Graph]
    declines: Callable[[S, Target], Iterator[str]]
    """The reasons why it cannot compute a site, none when it can."""
    tile: tuple[str, ...]
    """The names of its tile's sizes."""
    tiles: Callable[[S, Target], Iterator[Tile]]
    """The tiles worth considering, best guess first."""
    cost: Callable[[S, Target, Tile], Cost]
    build: Callable[[S, Tile, Target], Kernel]
    notes: Callable[[S, Tile], Iterator[str]] = _no_notes
    """What a plan says of the kernel beside its cost, such as which of its derivatives another template computes."""

    def __str__(self) -> str:
        return f"{self.family.name}/{self.name}"


AnyTemplate = Template[Any]


@functools.cache
def catalog() -> tuple[AnyTemplate, ...]:
    """Every installed template, by family and name.

    Raises:
      RopegenError: a template module has no `TEMPLATE`, or two have one name.
    """
    package = importlib.import_module("ropegen.templates")
    found: dict[str, AnyTemplate] = {}
    for folder in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        for module in pkgutil.iter_modules(importlib.import_module(folder.name).__path__, f"{folder.name}."):
            if not module.name.rpartition(".")[2].startswith(("xla", "mosaic_")):
                continue  # what the templates of a family share
            template = getattr(importlib.import_module(module.name), "TEMPLATE", None)
            if not isinstance(template, Template) or str(template) in found:
                raise RopegenError(f"{module.name} must end with one TEMPLATE of a name of its own")
            found[str(template)] = template
    return tuple(found[name] for name in sorted(found))


def families() -> tuple[Family[Any], ...]:
    """The families of the catalogue, by name."""
    return tuple({template.family.name: template.family for template in catalog()}.values())


def family(name: str) -> Family[Any]:
    """The family of that name."""
    found = {each.name: each for each in families()}
    if name not in found:
        raise RopegenError(f"no template family {name!r}; {nearest(name, found)}")
    return found[name]


def template(name: str) -> AnyTemplate:
    """The template of that name, e.g. `attend/xla`."""
    found = {str(each): each for each in catalog()}
    if name not in found:
        raise RopegenError(f"no template {name!r}; {nearest(name, found)}")
    return found[name]


def close(family: str, operands: Mapping[str, Node], outputs: Mapping[str, Node]) -> Region:
    """The region that gives `outputs` from `operands`, closed under the labels given.

    An operand becomes an activation of its type; a node without operands, such as `positions`, stays inside.
    """
    inputs: dict[Node, Node] = {}
    for label, value in operands.items():
        inputs.setdefault(value, node(ops.Input(label=label, type=value.type)))  # one value read twice is one operand
    rebuilt: dict[Node, Node] = dict(inputs)
    for each in topological(outputs.values(), given=inputs):
        rebuilt[each] = node(each.op, *(rebuilt[operand] for operand in each.operands))
    closed = graph(family, inputs.values(), {label: rebuilt[value] for label, value in outputs.items()})
    return Region(family, tuple(inputs), tuple(outputs.values()), closed)


def plain_kernel(forward: Callable[..., Arrays]) -> Kernel:
    """The kernel whose derivatives JAX takes of `forward` itself."""

    def tangent(operands: Arrays, results: Arrays, tangents: Tangents) -> Arrays:
        moving = [index for index, each in enumerate(tangents) if each is not None]

        def moved(*values: Array) -> Arrays:
            return forward(*_replaced(operands, moving, values))

        primals = tuple(operands[index] for index in moving)
        return jax.jvp(moved, primals, tuple(tangents[index] for index in moving))[1]

    def backward(operands: Arrays, results: Arrays, cotangents: Tangents, wanted: Sequence[bool]) -> Tangents:
        moving = [index for index, each in enumerate(wanted) if each]

        def moved(*values: Array) -> Arrays:
            return forward(*_replaced(operands, moving, values))

        _, pull = jax.vjp(moved, *(operands[index] for index in moving))
        filled = tuple(
            jax.numpy.zeros_like(result) if each is None else each
            for result, each in zip(results, cotangents, strict=True)
        )
        found = dict(zip(moving, pull(filled), strict=True))
        return tuple(found.get(index) for index in range(len(operands)))

    return Kernel(forward, tangent, backward)


def _replaced(values: Arrays, indices: Sequence[int], others: Sequence[Array]) -> Arrays:
    found = dict(zip(indices, others, strict=True))
    return tuple(found.get(index, value) for index, value in enumerate(values))
