"""A plain call: its arrays become the inputs of a graph, which is planned for every platform and bound on the arrays."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.core import Tracer

from ropegen import dropout, explanation, masks, symbolic
from ropegen.arguments import expect_tiles
from ropegen.emit import mesh
from ropegen.emit.callable import run
from ropegen.emit.mesh import Sharding
from ropegen.emit.own_part import with_own_part
from ropegen.emit.primitive import PLATFORMS
from ropegen.emit.recorded import record
from ropegen.errors import AngleWarning, RopegenError
from ropegen.ir import ops
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph, Node, label_of
from ropegen.planner import plan_together
from ropegen.plans import Plan, Tiles
from ropegen.symbolic import Symbols
from ropegen.target import Target, one_or_several
from ropegen.template import AnyTemplate, catalog
from ropegen.types import DTYPES, dtype_name, numpy_dtype

Array = jax.Array
ArrayLike = npt.ArrayLike | jax.Array
Targets: TypeAlias = str | Target | Iterable[str | Target] | None

_FixedTiles: TypeAlias = tuple[tuple[str, tuple[tuple[str, int], ...]], ...]

# How many plans of plain calls are kept; the whole graph is the key.
_KEPT_PLANS = 256

# The most queries of a step of decoding, which has other positions at the next step.
_STEP = 16


class Call:
    """The graph of one call of a plain function, and the arrays of the call.

    `array`, `optional` and `positions` turn arrays into inputs, and `builder` adds ops. `run` plans the graph (once for
    equal graphs) and binds it on the arrays. Outside `jit`, ops that no template computes run one by one.
    """

    def __init__(self, name: str, *, knows_its_part: bool = False) -> None:
        self.name = name
        self.knows_its_part = knows_its_part
        """Whether positions and heads are right for this device of a `shard_map`, so that none need be refused."""
        self.builder = Builder(name)
        self._values: dict[str, Array] = {}
        self._symbols = Symbols(name)
        self._same: set[str] = set()  # inputs that JAX does not trace, so that all devices have the same

    def array(self, label: str, value: ArrayLike) -> Node:
        """An input for the array. Integers that would lose their upper half in JAX are refused."""
        what = f"{self.name}: {label}"
        limits = np.iinfo(jax.dtypes.canonicalize_dtype(np.int64))
        rule = f"does not fit in the {limits.bits} bits that JAX keeps of an integer here; give values from {limits.min} to {limits.max}"
        try:
            array = jnp.asarray(np.asarray(value) if isinstance(value, str) else value)  # JAX reads "q" as a dtype
        except OverflowError:
            raise RopegenError(f"{what}: a number in {masks.excerpt(repr(value))} {rule}") from None
        except (TypeError, ValueError):
            raise RopegenError(f"{what} must be an array of numbers, got {masks.excerpt(repr(value))}") from None
        if array.dtype.name not in {numpy_dtype(name).name for name in DTYPES}:
            known = ", ".join(numpy_dtype(name).name for name in DTYPES)
            raise RopegenError(
                f"{what}: the element type {array.dtype.name} is none of {known}; convert to one of them"
            )
        given = _on_host(value)
        if given is not None and array.dtype.kind == "i" and array.size:
            low, high = int(given.min()), int(given.max())
            if low < limits.min or high > limits.max:
                raise RopegenError(f"{what}: {low if low < limits.min else high} {rule}")
        self._values[label] = array
        if given is not None or (isinstance(value, jax.Array) and not isinstance(value, Tracer)):
            self._same.add(label)
        return self.builder.input(label, self._symbols.numbers(array.shape), dtype_name(array.dtype))

    def seed(self, key: Any) -> Node:
        """An input for the seed of dropout, from a key of `jax.random`."""
        node = self.array("seed", dropout.seed_of(self.name, key))
        if isinstance(key, jax.Array) and not isinstance(key, Tracer):
            self._same.add("seed")  # what is computed from it inside a program is traced
        return node

    def size(self, number: int) -> Any:
        """The symbolic size that a number in the graph stands for; the number itself if it stands for none."""
        return self._symbols.symbol(number)

    def numbers(self, shape: Sequence[Any]) -> tuple[int, ...]:
        """The shape with numbers in the place of symbolic sizes, as the graph has them."""
        return self._symbols.numbers(shape)

    def optional(self, label: str, value: ArrayLike | None) -> Node | None:
        """An input for the array, None for None."""
        return None if value is None else self.array(label, value)

    def ids(self, label: str, value: ArrayLike | None) -> Node | None:
        """An input for segment ids, None for None; ids of the host are int32 where they fit it, also under x64."""
        known = None if value is None else _on_host(value)
        return self.optional(label, value if known is None or not _fits_int32(known) else known.astype(np.int32))

    def known(self, label: str, value: ArrayLike | None) -> Array | None:
        """The array of an input for it, None for None."""
        return None if value is None or self.ids(label, value) is None else self._values[label]

    def values_of(self, node: Node) -> Array | np.ndarray:
        """The values of an input, or those of positions that the graph states, int32."""
        if isinstance(node.op, ops.Positions):
            return np.arange(node.op.start, node.op.start + node.op.length, dtype=np.int32)
        return self._values[label_of(node)]

    def positions(self, label: str, value: ArrayLike | None, length: int, queries: int | None = None) -> Node:
        """An input for positions. If they count up from a known start, the graph states it, for masks and tables to use.

        Positions of a step of decoding are an input even so, because the next step has other values and must not need
        another program. A step has at most `_STEP` queries. Its positions are those that do not count from 0, and a single
        one. `queries` is the number of queries of the call, by default the number of positions. Host positions in any other
        order, and arrays of JAX, are inputs too.
        """
        if value is None:
            symbol = self._symbols.symbol(length)
            # How many positions a graph counts is a number.
            return (
                self.builder.positions(length)
                if symbol is length
                else self.array(label, jnp.arange(symbol, dtype=jnp.int32))
            )
        known = _on_host(value)
        if known is None:
            return self.array(label, value)
        if known.dtype.kind in "iuf":
            wide = known.astype(np.float64)
            outside = known[~((wide >= -(2.0**31)) & (wide < 2.0**31))]
            if outside.size:
                raise RopegenError(
                    f"{self.name}: {label} hold {outside[0]}; positions are finite and from {-(2**31)} to {2**31 - 1}"
                )
        counts = known.ndim == 1 and known.dtype.kind in "iu" and known.size > 0
        if counts and np.array_equal(known, known[0] + np.arange(known.size)):
            start = int(known[0])
            if (queries or known.size) > _STEP or (start == 0 and known.size > 1):
                return self.builder.positions(known.size, start)
        return self.array(label, known.astype(np.int32) if _fits_int32(known) else value)

    def positions_or_length(self, given: ArrayLike | int | None) -> Node:
        """An input for positions (..., S); a number S stands for 0 .. S-1."""
        if given is None:
            raise RopegenError(
                f"{self.name}: positions is None; give an array of positions, or the number of positions"
            )
        if isinstance(given, int | np.integer) and not isinstance(given, bool):
            return self.positions("positions", None, int(given))
        return self.positions("positions", given, 0)

    def run(
        self,
        outputs: Mapping[str, Node],
        target: Targets = None,
        tile: Tiles | None = None,
        sharding: Sharding | None = None,
    ) -> dict[str, Array]:
        """The values of the outputs, from a program with a plan for every platform; see `planned_for`.

        `sharding` is a PartitionSpec or NamedSharding over (batch, ..., sequence, heads).
        """
        graph = self.builder.build(**outputs)
        expect_tiles(self.name, tile)
        fixed = tuple((name, tuple(sizes.items())) for name, sizes in (tile or {}).items())
        if self._symbols:
            if sharding is not None or any(map(mesh.is_explicit, self._values.values())):
                symbolic.refuse_over_devices(self.name, self._values)
            return symbolic.run(
                self.name,
                graph,
                self._symbols,
                self._values,
                functools.partial(self._planned_run, targets=planned_for(target), fixed=fixed),
            )
        split = mesh.split_for(self.name, graph, sharding, self._values)
        if split is not None:
            program, plans = _over_devices(self.name, graph, split, planned_for(target), fixed, catalog())
            for of_part in plans:
                _tell(f"{self.name} on a device", of_part)
            return program(self._values)
        return self._planned_run(graph, self._values, planned_for(target), fixed)

    def _planned_run(
        self, graph: Graph, values: dict[str, Array], targets: tuple[Target, ...], fixed: _FixedTiles
    ) -> dict[str, Array]:
        first, *others = _planned(graph, targets, fixed, catalog())
        _tell(self.name, (first, *others))
        known = values if self.knows_its_part else with_own_part(self.name, graph, values, self._same)
        return run(first, {}, known, others)


def _on_host(value: ArrayLike) -> np.ndarray | None:
    """What NumPy makes of the value; None for a JAX array, a list with values that JAX traces, and a ragged list."""
    if isinstance(value, jax.Array):
        return None
    try:
        return np.asarray(value)
    except (TypeError, ValueError):
        return None


def _fits_int32(known: np.ndarray) -> bool:
    limits = np.iinfo(np.int32)
    if known.dtype.kind not in "iu":
        return False
    return not known.size or bool(limits.min <= known.min() and known.max() <= limits.max)


def parse_targets(target: Targets, rule: str = "; give one target for a platform") -> tuple[Target, ...]:
    """The targets that `target` names: one, several, or none for None. `rule` ends the message about two of one platform.

    Raises:
      RopegenError: an unknown target, or two of one platform.
    """
    by_platform: dict[str, tuple[Target, str]] = {}
    for given in () if target is None else one_or_several(target):
        parsed = Target.parse(given)
        if parsed.platform in by_platform:
            _, other = by_platform[parsed.platform]
            raise RopegenError(f"targets {other} and {given} are both {parsed.platform}{rule}")
        by_platform[parsed.platform] = parsed, str(given)
    return tuple(parsed for parsed, _ in by_platform.values())


def planned_for(target: Targets) -> tuple[Target, ...]:
    """The targets that a plain call is planned for, one for every platform; the first decides what is fused.

    `target` names one target or several, such as "tpu:v5e" or ["cpu:8", "tpu:v5e"]. For a platform that it does not
    name, the plan is for this machine's own chip, if the chip is of that platform, and otherwise for a default: `cpu`
    (two cores), `tpu:any` (tiles that fit every generation) or `gpu:any` (XLA alone, because a kernel for another
    compute capability ends the process). Without a target, this machine's own chip decides what is fused.

    Raises:
      RopegenError: an unknown target, or two of one platform.
    """
    local = Target.local()
    own = () if local is None else (local,)
    by_platform = {chip.jax_platform: chip for chip in (*own, *map(Target.default, PLATFORMS))[::-1]}
    named = parse_targets(target) or own
    by_platform |= {chip.jax_platform: chip for chip in named}
    return tuple(dict.fromkeys((*named, *(by_platform[platform] for platform in PLATFORMS))))


@functools.lru_cache(maxsize=_KEPT_PLANS)
def _over_devices(
    call: str,
    graph: Graph,
    split: mesh.Split,
    targets: tuple[Target, ...],
    tile: _FixedTiles,
    templates: tuple[AnyTemplate, ...],
) -> tuple[Callable[[dict[str, Array]], dict[str, Array]], tuple[tuple[Plan, ...], ...]]:
    """The program of a graph over several devices, and the plans of the parts of devices."""
    parts = mesh.parts_of(call, graph, split)
    functions: list[Callable[[dict[str, Array]], dict[str, Array]]] = []
    plans: list[tuple[Plan, ...]] = []
    for part in parts:
        first, *others = _planned(part.graph, targets, tile, templates)
        plans.append((first, *others))
        functions.append(functools.partial(run, first, {}, together=others))
    program = jax.jit(mesh.over_devices(parts, functions, dict(parts[0].inputs), dict(parts[0].outputs)))
    return program, tuple(plans)


def _tell(call: str, plans: tuple[Plan, ...]) -> None:
    """Records a call for `rg.explain`, and warns of its angles."""
    record(call, plans)
    for message in _angle_warnings(plans[0]):
        warnings.warn(f"angles of {call}: {message}", AngleWarning, stacklevel=6)


@functools.lru_cache(maxsize=_KEPT_PLANS)
def _angle_warnings(plan: Plan) -> tuple[str, ...]:
    return tuple(explanation.angle_warnings(plan))


@functools.lru_cache(maxsize=_KEPT_PLANS)
def _planned(
    graph: Graph,
    targets: tuple[Target, ...],
    tile: _FixedTiles,
    templates: tuple[AnyTemplate, ...],
) -> tuple[Plan, ...]:
    """The plans of a graph for several targets; `templates` is the catalogue, which is part of the key."""
    return plan_together(graph, targets, tile={name: dict(sizes) for name, sizes in tile})
