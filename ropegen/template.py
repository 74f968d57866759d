"""What a template declares, and the catalogue of the templates that are installed.

A *family* (embed, qkv_rope, rope, attend) says which parts of a graph it can compute. A *region* is such a part, cut out
and closed: its operands become inputs, so that equal parts of two graphs are the same region. A *template* computes
the regions of a family on some platforms. It says which of them it declines, how fast it is, and how to build it. Every
family must include an `xla` template that accepts every case.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import math
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import jax

from ropegen.cost import Cost, Direction
from ropegen.errors import RopegenError, nearest
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, graph, node, topological
from ropegen.target import PLATFORMS, Target

__all__ = [
    "Array",
    "Arrays",
    "CostModel",
    "Family",
    "Kernel",
    "Padded",
    "Padding",
    "Region",
    "Site",
    "Tangents",
    "Template",
    "Tile",
    "XlaIsFaster",
    "catalog",
    "cheapest_tile",
    "close",
    "cost_of",
    "families",
    "family",
    "plain_kernel",
    "reasons_of",
    "register_template",
    "template",
    "tiles_of",
]

Array = jax.Array
"""An array of JAX."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Named sizes, e.g. `q=512 kv=512`; empty if a template has no choice."""

    sizes: tuple[tuple[str, int], ...] = ()

    @staticmethod
    def of(**sizes: int) -> Tile:
        return Tile(tuple(sizes.items()))

    def __getitem__(self, name: str) -> int:
        return dict(self.sizes)[name]

    def __str__(self) -> str:
        return " ".join(f"{name}={size}" for name, size in self.sizes) or "-"


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a graph that a template can compute at once.

    `operands` are the values that it reads, and `outputs` the values that the rest of the graph reads from it. `closed`
    is the part as a graph of its own: one input per operand, with a label that the family chooses, and one output per
    output. Equal parts have the same closed graph.
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
    """What a family knows about a closed region. Subclasses add their own fields."""

    closed: Graph

    @property
    def operands(self) -> tuple[Node, ...]:
        """The inputs of the closed region."""
        return self.closed.inputs

    @property
    def outputs(self) -> tuple[Node, ...]:
        """The outputs of the closed region."""
        return tuple(value for _, value in self.closed.outputs)


S = TypeVar("S", bound=Site)


@dataclass(frozen=True, slots=True)
class Family(Generic[S]):
    """The regions that the templates of one folder compute."""

    name: str
    find: Callable[[Graph], Iterator[Region]]
    """The regions of a graph that are worth considering. They may overlap."""
    site: Callable[[Graph], S]
    """Reads a closed region. It raises a RopegenError if the region belongs to another family."""
    covers: Callable[[S], Graph]
    """Builds the closed region of a site: the pattern, the oracle of the tests, and the documentation."""
    residuals: Callable[[S], tuple[Node, ...]]
    """The values that a kernel returns after the outputs because backward kernels read them, as nodes of the closed
    region.
    """


Arrays = tuple[Array, ...]
"""Operands or results of a kernel, in order."""
Tangents = tuple["Array | None", ...]
"""Tangents or cotangents, in order; None stands for zero."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """JAX functions over arrays in the order of the closed region's inputs. JAX traces them.

    `forward(*operands)` returns the outputs, then the residuals. `tangent(operands, results, tangents)` returns the
    tangents of the results; it is linear in `tangents`, those of the operands. `backward(operands, results, cotangents,
    wanted)` returns the cotangents of the wanted operands, and None for the others. A tangent or cotangent that is None
    on the way in stands for zero. If `tangent` or `backward` is None, or `backward` returns None, the template that
    `Template.derivatives` names computes it.
    """

    forward: Callable[..., Arrays]
    tangent: Callable[[Arrays, Arrays, Tangents], Arrays] | None = None
    backward: Callable[[Arrays, Arrays, Tangents, Sequence[bool]], Tangents | None] | None = None


OWN: Final = "own"
"""The value of `Template.derivatives` for a template whose kernel has its own tangent and backward."""


@dataclass(frozen=True, slots=True)
class Padded:
    """A size of a site that the forward kernel computes as a larger one."""

    what: str
    """What is counted, in the plural, such as "queries"."""
    size: int
    computed: int


@dataclass(frozen=True, slots=True)
class Padding:
    """What a forward kernel computes that nobody asked for, because sizes are no multiples of its own."""

    sizes: tuple[Padded, ...]
    """The sizes that differ."""
    counts: str
    """What becomes more by it, such as "multiplications"."""
    needed: int
    """How many of them a call needs, without those of tiles that the mask hides."""
    computed: int
    """How many the kernel computes."""
    unit: str = ""
    """The vector unit that the sizes are for, if the target leaves it to the machine that compiles."""

    @staticmethod
    def of(sizes: Iterable[Padded], counts: str, needed: int, computed: int, unit: str = "") -> Padding | None:
        """The padding of these sizes; None if none of them differs."""
        differ = tuple(size for size in sizes if size.computed != size.size)
        return Padding(differ, counts, needed, computed, unit) if differ else None


def _accepts(site: Any, target: Target) -> Iterator[str]:
    return iter(())


def _no_choice(site: Any, target: Target) -> Iterator[Tile]:
    yield Tile()


def _no_notes(site: Any, tile: Tile, target: Target) -> Iterator[str]:
    return iter(())


def _no_padding(site: Any, tile: Tile, target: Target) -> Padding | None:
    return None


S_contra = TypeVar("S_contra", bound=Site, contravariant=True)


class CostModel(Protocol[S_contra]):
    """What one direction of a site costs on a target with a tile.

    It is None for a derivative that `build` leaves to the template that `Template.derivatives` names; see `cost_of`.
    """

    def __call__(
        self, site: S_contra, target: Target, tile: Tile, direction: Direction = "forward", /
    ) -> Cost | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Template(Generic[S]):
    """One way to compute the regions of a family. The family's `covers` says what they compute."""

    name: str
    version: int
    """Part of the digest of every plan that takes the template: raise it when the emitted code changes."""
    family: Family[S]
    runs_on: tuple[str, ...]
    """Platforms: cpu, gpu, tpu. ropegen builds the template for targets of these platforms only."""
    calls: tuple[str, ...] = ()
    """The custom-call targets that it emits. The exporter refuses others in a module."""
    fits_other_gpus: bool = False
    """Whether the machine that runs a module makes the code of `calls`, for the GPU that it has. Otherwise the code is for the
    compute capability of the target, and never reaches another GPU.
    """
    declines: Callable[[S, Target], Iterator[str]] = _accepts
    """The reasons why it cannot compute a site; none if it can."""
    tile: tuple[str, ...] = ()
    """The names of its tile's sizes."""
    tiles: Callable[[S, Target], Iterator[Tile]] = _no_choice
    """The tiles worth considering, best guess first."""
    cost: CostModel[S]
    """The cost of one direction with a tile, in seconds by cause."""
    build: Callable[[S, Tile, Target], Kernel]
    build_split: Callable[[S, Tile, Target, int], Kernel] | None = None
    """Builds a kernel that XLA splits over some devices, over batch and heads without communication; None if `build` does."""
    derivatives: str = OWN
    """`OWN`, or the name of the template, e.g. "attend/xla", that computes the derivatives which `build` leaves out."""
    needs_process: Callable[[Target], Iterator[str]] | None = None
    """None if the kernels are a part of the module and go wherever it goes. Otherwise they are code in this process, and
    this yields the reasons why this process cannot make or run the code for a target; none if it can. A module that
    leaves the process, such as an exported one, or that runs on several devices, takes another template.
    """
    notes: Callable[[S, Tile, Target], Iterator[str]] = _no_notes
    """What a plan says about the kernel besides its cost, such as which derivatives another template computes."""
    padding: Callable[[S, Tile, Target], Padding | None] = _no_padding
    """What the forward kernel computes beyond the sizes of a site; None if nothing."""

    def __post_init__(self) -> None:
        if not isinstance(cast(object, self.name), str) or not self.name.isidentifier():
            raise RopegenError(
                f"a template is named {self.name!r}; give a name of letters, digits and _, without its family"
            )
        if not isinstance(cast(object, self.family), Family):
            raise RopegenError(f"template {self.name}: the family is {self.family!r}; give the FAMILY of a site.py")
        if type(cast(object, self.version)) is not int or self.version < 1:
            raise RopegenError(f"template {self}: the version is {self.version!r}; give a whole number from 1 on")
        if not isinstance(cast(object, self.runs_on), tuple) or not self.runs_on or {*self.runs_on} - {*PLATFORMS}:
            raise RopegenError(
                f"template {self} runs on {self.runs_on!r}; give a tuple of platforms, of {', '.join(PLATFORMS)}"
            )
        if self.name == "xla" and self.needs_process is not None:
            raise RopegenError(f"template {self} needs the process; the xla template of a family must go everywhere")
        for field in ("calls", "tile"):
            if not isinstance(getattr(self, field), tuple):
                raise RopegenError(f"template {self}: {field} is {getattr(self, field)!r}; give a tuple of names")

    def __str__(self) -> str:
        return f"{self.family.name}/{self.name}"

    @property
    def unstable_calls(self) -> tuple[str, ...]:
        """Those of its calls for which jax.export makes no promise of compatibility."""
        return tuple(call for call in self.calls if call not in STABLE_CALLS)


AnyTemplate = Template[Any]

# Of the custom calls that templates emit, those on jax.export's list of targets with guaranteed compatibility.
STABLE_CALLS = frozenset({"mosaic_gpu_v2", "tpu_custom_call"})
# The custom calls that the templates of this package emit; a test compares this with what they declare.
OWN_CALLS = STABLE_CALLS | {"__cudnn$fmhaSoftmax", "__cudnn$fmhaSoftmaxBackward"}

# Other packages list their templates under this group of entry points, one `Template` for each entry.
ENTRY_POINTS = "ropegen.templates"

# Templates that the running program added.
_registered: list[AnyTemplate] = []


def register_template(template: AnyTemplate) -> None:
    """Adds a template to the catalogue of this process; plans made afterwards consider it.

    A package that is installed declares its templates under the entry point group `ropegen.templates` instead.

    Raises:
      RopegenError: it is no `Template`, another template has its name, its family is not the one of the catalogue, or its
        family has no `xla` template.
    """
    _checked([*catalog(), _expect_template(template, "register_template: the template")])
    _registered.append(template)


def catalog() -> tuple[AnyTemplate, ...]:
    """Every template that is installed or registered, by family and name.

    Raises:
      RopegenError: a module or entry point cannot be loaded, or two templates have one name.
    """
    return _checked([*_installed(), *_registered]) if _registered else _installed()


@functools.cache
def _installed() -> tuple[AnyTemplate, ...]:
    return _checked([*_own_templates(), *_entry_points()])


def _own_templates() -> Iterator[AnyTemplate]:
    """The `TEMPLATE` of every module that defines one, in the folders of the templates package.

    The code of kernels, in modules named `kernel_...` and in folders named like a platform, is left to the templates: a
    plan does not need the compiler of a platform, which takes time and memory to import.
    """
    package = importlib.import_module("ropegen.templates")
    for folder in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if folder.name.rpartition(".")[2] in PLATFORMS:
            continue
        for _, name, _ in pkgutil.iter_modules(importlib.import_module(folder.name).__path__):
            if name.startswith("kernel_"):
                continue
            module = f"{folder.name}.{name}"
            with _Importing(f"the template module {module}"):
                template = getattr(importlib.import_module(module), "TEMPLATE", None)
            if template is not None:
                yield _expect_template(template, f"{module}.TEMPLATE")


def _entry_points() -> Iterator[AnyTemplate]:
    for entry in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        what = f"the entry point {entry.name} = {entry.value} of the group {ENTRY_POINTS}"
        with _Importing(what):
            template = entry.load()
        yield _expect_template(template, what)


class _Importing(AbstractContextManager[None]):
    """Says which module an error of its import is about. An import can raise whatever its code raises."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception):
            raise RopegenError(
                f"{self._what} cannot be imported ({type(error).__name__}: {error}); correct it, or uninstall its package"
            ) from error


def _expect_template(value: object, what: str) -> AnyTemplate:
    if not isinstance(value, Template):
        raise RopegenError(f"{what} is {value!r}; it must be a ropegen.template.Template")
    return value


def _checked(templates: Sequence[AnyTemplate]) -> tuple[AnyTemplate, ...]:
    """The templates sorted by name, after a check that their names, families and derivatives fit together."""
    by_name: dict[str, AnyTemplate] = {}
    families: dict[str, Family[Any]] = {}
    for template in templates:
        if str(template) in by_name:
            raise RopegenError(f"two templates are named {str(template)!r}; rename one of them")
        if families.setdefault(template.family.name, template.family) is not template.family:
            raise RopegenError(
                f"template {str(template)!r} brings its own family {template.family.name!r}; take the catalogue's, "
                f"ropegen.template.family({template.family.name!r})"
            )
        by_name[str(template)] = template
    for name in families:
        if f"{name}/xla" not in by_name:
            raise RopegenError(f"family {name!r} has no template 'xla', which must accept every case; add one")
    for template in templates:
        if template.derivatives != OWN:
            _check_derivatives(template, by_name)
    return tuple(by_name[name] for name in sorted(by_name))


def _check_derivatives(template: AnyTemplate, by_name: Mapping[str, AnyTemplate]) -> None:
    """Refuses a template unless the one that it names computes its derivatives wherever it runs."""
    leaves = f"template {template} leaves its derivatives to {template.derivatives!r}"
    named = by_name.get(template.derivatives)
    if named is None:
        raise RopegenError(f"{leaves}; {nearest(template.derivatives, by_name)}")
    if named.family is not template.family:
        raise RopegenError(f"{leaves}, which is of another family; name a template of {template.family.name}")
    if named.derivatives != OWN:
        raise RopegenError(f"{leaves}, which leaves its own to {named.derivatives!r}; name a template that has its own")
    if named.needs_process is not None and template.needs_process is None:
        raise RopegenError(f"{leaves}, whose kernels do not leave the process; name a template whose kernels do")
    if missing := [platform for platform in template.runs_on if platform not in named.runs_on]:
        raise RopegenError(
            f"{leaves}, which does not run on {', '.join(missing)}; name one that does, e.g. the family's xla"
        )


def unknown_calls(calls: Iterable[str]) -> tuple[str, ...]:
    """Those of some custom-call targets that no template of the catalogue declares.

    No template is imported if all of them are those of this package, which `OWN_CALLS` names.
    """
    others = [call for call in calls if call not in OWN_CALLS]
    declared = {call for template in catalog() for call in template.calls} if others else frozenset[str]()
    return tuple(call for call in others if call not in declared)


def families() -> tuple[Family[Any], ...]:
    """The families of the catalogue, by name."""
    return tuple({template.family.name: template.family for template in catalog()}.values())


def family(name: str) -> Family[Any]:
    """The family of that name.

    Raises:
      RopegenError: no family has that name.
    """
    known = {family.name: family for family in families()}
    if name not in known:
        raise RopegenError(f"no template family {name!r}; {nearest(name, known)}")
    return known[name]


def template(name: str) -> AnyTemplate:
    """The template of that name, e.g. `attend/xla`.

    Raises:
      RopegenError: no template has that name.
    """
    known = {str(template): template for template in catalog()}
    if name not in known:
        raise RopegenError(f"no template {name!r}; {nearest(name, known)}")
    return known[name]


def cost_of(made_by: AnyTemplate, site: Any, target: Target, tile: Tile, direction: Direction = "forward") -> Cost:
    """The cost of one direction of a template, calibrated for the chip. If the template leaves the direction to another
    one, the cost there.

    Raises:
      RopegenError: the template has no cost for the direction and names no template that computes it, or its cost is no
        `Cost` of finite seconds.
    """
    own = made_by.cost(site, target, tile, direction)
    if own is not None:
        if not isinstance(cast(object, own), Cost) or not 0 <= own.seconds < math.inf:
            raise RopegenError(f"template {made_by}: the {direction} cost is {own!r}; return a Cost of finite seconds")
        return own.calibrated(target, direction)
    if direction == "forward" or made_by.derivatives == OWN:
        raise RopegenError(
            f"template {made_by} has no {direction} cost and names no template that computes it; "
            "return a Cost, or set its `derivatives`"
        )
    named = template(made_by.derivatives)
    return cost_of(named, site, target, cheapest_tile(named, site, target), direction)


class XlaIsFaster(str):
    """A reason for declining that is a choice and no lack: XLA computes the site as fast as the template could."""


def reasons_of(made_by: AnyTemplate, site: Any, target: Target) -> tuple[str, ...]:
    """Why a template declines a site, none if it does not.

    Raises:
      RopegenError: what it returns are no reasons.
    """
    given = cast(object, made_by.declines(site, target))
    reasons = (
        tuple(cast("Iterable[object]", given)) if isinstance(given, Iterable) and not isinstance(given, str) else ()
    )
    if not isinstance(given, Iterable) or isinstance(given, str) or not all(isinstance(text, str) for text in reasons):
        raise RopegenError(f"template {made_by}: declines returned {given!r}; yield the reasons as strings")
    return cast("tuple[str, ...]", reasons)


def tiles_of(made_by: AnyTemplate, site: Any, target: Target) -> list[Tile]:
    """The tiles that a template offers for a site, best guess first.

    Raises:
      RopegenError: it offers none, although it does not decline, or one with other sizes than it declares.
    """
    tiles = list(made_by.tiles(site, target))
    if not tiles:
        raise RopegenError(f"template {made_by} offers no tile for {site.closed} on {target}; yield one, or decline")
    for tile in tiles:
        if tuple(name for name, _ in tile.sizes) != made_by.tile:
            raise RopegenError(
                f"template {made_by} offers the tile {tile}; its sizes are {', '.join(made_by.tile) or 'none'}"
            )
    return tiles


def cheapest_tile(made_by: AnyTemplate, site: Any, target: Target) -> Tile:
    """The tile with which the forward pass of a template costs least on a target."""
    tiles = tiles_of(made_by, site, target)
    return min(tiles, key=lambda tile: cost_of(made_by, site, target, tile).seconds)


def close(family: str, operands: Mapping[str, Node], outputs: Mapping[str, Node]) -> Region:
    """The region that computes `outputs` from `operands`, as a closed graph with these labels.

    An operand becomes an input of its type. A node without operands, such as `positions`, stays inside the region.
    """
    inputs: dict[Node, Node] = {}
    for label, value in operands.items():
        # A value that is read twice is one operand.
        inputs.setdefault(value, node(ops.Input(label=label, type=value.type)))
    rebuilt: dict[Node, Node] = dict(inputs)
    for inner in topological(outputs.values(), given=inputs):
        rebuilt[inner] = node(inner.op, *(rebuilt[operand] for operand in inner.operands))
    closed = graph(family, inputs.values(), {label: rebuilt[value] for label, value in outputs.items()})
    return Region(family, tuple(inputs), tuple(outputs.values()), closed)


def plain_kernel(forward: Callable[..., Arrays]) -> Kernel:
    """A kernel with derivatives that JAX derives from `forward`."""

    def tangent(operands: Arrays, results: Arrays, tangents: Tangents) -> Arrays:
        moving = [index for index, value in enumerate(tangents) if value is not None]

        def moved(*values: Array) -> Arrays:
            return forward(*_replaced(operands, moving, values))

        primals = tuple(operands[index] for index in moving)
        return jax.jvp(moved, primals, tuple(tangents[index] for index in moving))[1]

    def backward(operands: Arrays, results: Arrays, cotangents: Tangents, wanted: Sequence[bool]) -> Tangents:
        moving = [index for index, is_wanted in enumerate(wanted) if is_wanted]

        def moved(*values: Array) -> Arrays:
            return forward(*_replaced(operands, moving, values))

        _, pull = jax.vjp(moved, *(operands[index] for index in moving))
        filled = tuple(
            jax.numpy.zeros_like(result) if cotangent is None else cotangent
            for result, cotangent in zip(results, cotangents, strict=True)
        )
        pulled = dict(zip(moving, pull(filled), strict=True))
        return tuple(pulled.get(index) for index in range(len(operands)))

    return Kernel(forward, tangent, backward)


def _replaced(values: Arrays, indices: Sequence[int], others: Sequence[Array]) -> Arrays:
    replacements = dict(zip(indices, others, strict=True))
    return tuple(replacements.get(index, value) for index, value in enumerate(values))
