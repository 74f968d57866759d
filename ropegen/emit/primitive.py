"""The primitives that a region is bound as: forward, tangent and backward, one trio for every family.

`attend` computes a region and its residuals. Its JVP binds `attend_tangent`, which is linear in the tangents, and the
transpose of that binds `attend_backward`. So `grad` contains exactly `attend` and `attend_backward`, and forward mode
contains `attend` and `attend_tangent`. A primitive has one lowering for every platform: the kernel that was chosen
there. Second and higher derivatives come from the plain formulas.

Some kernels are code in this process. A module that leaves the process or runs on several devices takes another choice.

A batch axis becomes one more leading size of the region if its operands allow it (`emit.widen`). Otherwise, the
kernel runs once for every entry of the batch. A batch whose size is a symbol of `jax.export` becomes lanes (`emit.lanes`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import ShapedArray, Tracer
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ropegen import plain
from ropegen.emit.fallback import fallback, warn
from ropegen.emit.kernels import CompleteKernel, built_kernel, cotangent_types, unfused_kernel, values_of
from ropegen.emit.lanes import Lanes, is_symbolic, over_lanes, sizes_of, summed_over_lanes
from ropegen.emit.varying import alike, lowered_alone, typed_beside
from ropegen.emit.widen import widen
from ropegen.errors import RopegenError
from ropegen.ir.graph import Graph
from ropegen.native import call as native_call
from ropegen.planner import cheapest
from ropegen.plans import Candidate
from ropegen.target import Target, host_capability
from ropegen.template import AnyTemplate, Array, Arrays, Tile, catalog, template
from ropegen.types import TensorType, numpy_dtype

PLATFORMS = ("cpu", "cuda", "tpu")

# The number of jitted calls that are kept for kernels outside `jit`. Their key holds all parameters of the primitive.
_EAGER_KERNELS = 512


@dataclass(frozen=True, slots=True)
class Choice:
    """How a region is computed on one platform: by a template with a tile, or unfused (None) by the plain formulas."""

    target: Target
    template: str | None
    tile: Tile = Tile()
    instead: Choice | None = None
    """The choice where this one cannot go: its kernels are code in this process, or calls that jax.export refuses."""

    @staticmethod
    def of(target: Target, chosen: Candidate | None, instead: Candidate | None) -> Choice:
        """The choice of what the planner chose, and of what it chose `instead` where that cannot go."""
        if chosen is None:
            return Choice(target, None)
        other = Choice.of(target, instead, None) if chosen.needs_process or chosen.unstable else None
        return Choice(target, chosen.template, chosen.tile, other)


@dataclass(frozen=True, slots=True)
class Choices:
    """What a region is bound with: the choice for every platform that was planned for.

    If a program is lowered for another platform, the planner chooses for the default target there.
    """

    planned: tuple[Choice, ...] = ()

    def on(self, platform: str, closed: Graph) -> Choice:
        """The choice for a platform, by its name in `jax.export`."""
        for choice in self.planned:
            if choice.target.jax_platform == platform:
                return choice
        return _default_choice(closed, Target.default(platform), catalog())


@functools.lru_cache(maxsize=_EAGER_KERNELS)
def _default_choice(closed: Graph, target: Target, templates: tuple[AnyTemplate, ...]) -> Choice:
    """The cheapest way to compute a closed region on a target; `templates` is the catalogue, which is part of the key."""
    return Choice.of(target, cheapest(closed, target), cheapest(closed, target, goes_everywhere=True))


@dataclass(frozen=True)
class Trio:
    """The three primitives of a family."""

    forward: Primitive
    tangent: Primitive
    backward: Primitive


def bind(closed: Graph, choices: Choices, operands: Sequence[Array]) -> Arrays:
    """The outputs of a closed region for arrays in the order of its inputs."""
    results = _trio(closed.name).forward.bind(*alike(operands), closed=closed, choices=choices, lanes=())
    return tuple(results[: len(closed.outputs)])


def bind_backward(
    closed: Graph, choices: Choices, operands: Sequence[Array], results: Sequence[Array], cotangents: Sequence[Array]
) -> dict[str, Array]:
    """The cotangents of the floating operands of a closed region, by label, from the cotangents of all its results.

    `results` need not be those that `bind` returns: the results of a whole attention give the share of a part in its
    gradient.
    """
    wanted = {label: kind.is_float for label, kind in closed.input_types.items()}
    pulled = _trio(closed.name).backward.bind(
        *operands,
        *results,
        *cotangents,
        closed=closed,
        choices=choices,
        lanes=(),
        given=(True,) * len(results),
        wanted=tuple(wanted.values()),
    )
    return dict(zip((label for label, is_wanted in wanted.items() if is_wanted), pulled, strict=True))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a kernel is lowered for."""

    platform: str
    stays: bool
    """Whether the module stays in this process and runs on one device, so that it can call code of the process."""
    devices: int
    """The number of devices over which XLA splits the kernel: 1 on one device, and where `shard_map` splits all axes."""

    is_exported: bool
    """Whether the module leaves this process."""

    @staticmethod
    def of(platform: str, module: mlir.ModuleContext) -> _Place:
        """The place of a module that is being lowered."""
        axes, is_exported = module.axis_context, bool(module.lowering_parameters.for_export)
        if not isinstance(axes, mlir.SPMDAxisContext):
            return _Place(platform, not is_exported and axes.num_devices == 1, axes.num_devices, is_exported)
        manual = axes.manual_axes | {*axes.mesh.manual_axes}
        free = math.prod(size for axis, size in axes.mesh.shape.items() if axis not in manual)
        return _Place(platform, not is_exported and axes.mesh.size == 1, free, is_exported)


def _choice_at(closed: Graph, choices: Choices, place: _Place) -> Choice:
    """The choice for a place: the one for its platform, or what takes the place of it where it cannot go."""
    choice = choices.on(place.platform, closed)
    if choice.target.jax_platform != place.platform:
        raise RopegenError(
            f"a kernel for {choice.target} cannot run on {place.platform}; plan for a target of that platform"
        )
    if other := _another_gpu(choice, place):
        warn(f"{closed.name} on {choice.target} falls back to XLA: {other}")
        return _default_choice(closed, Target.default(place.platform), catalog())
    if choice.template is None or _can_go(choice, template(choice.template), place):
        warn(fallback(closed, choice.target, choice.template, is_exported=place.is_exported))
        return choice
    warn(_why_not_here(closed, choice, place))
    return choice.instead or Choice.of(choice.target, cheapest(closed, choice.target, goes_everywhere=True), None)


def _another_gpu(choice: Choice, place: _Place) -> str:
    """Why the kernel of a choice must not run on the GPU of this machine; empty if it may, or if the module leaves.

    A kernel is code for one compute capability. CUDA's driver compiler ends the process if it meets another one.
    """
    needed = choice.target.capability
    if choice.template is None or needed is None or place.is_exported:
        return ""
    made_by = template(choice.template)
    if not made_by.calls or made_by.fits_other_gpus:
        return ""
    here = host_capability()
    if here in (None, needed):
        return ""
    return (
        f"{choice.template} makes code for {needed}, and the GPU of this machine is {here}; leave target= out, or name a "
        "target for this GPU"
    )


def _why_not_here(closed: Graph, choice: Choice, place: _Place) -> str:
    """Why a kernel cannot go to a place; empty for code of this process, which an exported module never has."""
    made_by = template(choice.template or "")
    if place.is_exported:
        if made_by.needs_process is not None:
            return ""
        calls = ", ".join(made_by.unstable_calls)
        taken = "the plain formulas" if choice.instead is None else choice.instead.template or "the plain formulas"
        return (
            f"{closed.name} on {choice.target} takes {taken} in a module of jax.export, which refuses {calls} of {made_by}; "
            "an artifact of ropegen.export has it"
        )
    reasons = list(made_by.needs_process(choice.target)) if made_by.needs_process is not None else []
    if not place.stays:
        reasons.append("its code runs on one device, and the program is for several")
    return f"{closed.name} on {choice.target} falls back to XLA: {made_by} cannot run here: {'; '.join(reasons)}"


def _kernel(closed: Graph, choice: Choice, place: _Place) -> CompleteKernel:
    if choice.template is None:
        return unfused_kernel(closed)
    made_by = template(choice.template)
    if place.devices > 1 and made_by.calls:
        raise RopegenError(
            f"{closed.name}: the kernel {made_by} for {choice.target} computes one device's part, and XLA splits this program "
            f"over {place.devices} devices and cannot split the kernel. Say how the call lies over the devices, in one of two "
            'ways: call it with sharding=jax.sharding.PartitionSpec("data", None, "heads") under `with jax.set_mesh(mesh):`, '
            "or inside a jax.shard_map over all axes of the mesh"
        )
    return built_kernel(closed, made_by, choice.target, choice.tile, place.devices)


def _can_go(choice: Choice, made_by: AnyTemplate, place: _Place) -> bool:
    """Whether the module at a place can call the kernels of a choice. One without another choice goes everywhere."""
    if place.is_exported and made_by.unstable_calls and choice.instead is not None:
        return False
    if made_by.needs_process is None or native_call.is_collecting():
        return True
    return place.stays and not any(made_by.needs_process(choice.target))


def _plain(closed: Graph) -> Callable[..., Arrays]:
    """A function that computes the region by the plain formulas of its ops. JAX differentiates it to any order."""
    values = values_of(closed)

    def forward(*operands: Array) -> Arrays:
        return plain.evaluate(values.results, dict(zip(values.operands, operands, strict=True)))

    return forward


# The arguments of the tangent and backward primitives are one flat list: the operands, the results, then the tangents
# of the operands that move, or the cotangents of the results that are not zero.


def _split(closed: Graph, flat: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    values = values_of(closed)
    first, second = len(values.operands), len(values.operands) + len(values.results)
    return tuple(flat[:first]), tuple(flat[first:second]), tuple(flat[second:])


def _placed(present: Sequence[bool], given: Sequence[Any]) -> tuple[Any, ...]:
    """A tuple with the `given` values where `present` is true, and None elsewhere."""
    remaining = iter(given)
    return tuple(next(remaining) if is_present else None for is_present in present)


def _runs_in_turn(choice: Choice) -> bool:
    """Whether lanes run one after the other: `jax.vmap` cannot give a custom call a grid whose size is a symbol."""
    return choice.template is not None and bool(template(choice.template).calls)


def _flags(lanes: Lanes, closed: Graph, moving: Sequence[bool] | None, count: int) -> list[tuple[bool, ...]]:
    """For every axis of lanes, which of `count` arguments have it.

    A tangent has the lanes of its operand, which `moving` names. The results of the forward pass have all of them, and
    so have their cotangents.
    """
    results = len(values_of(closed).results)
    levels: list[tuple[bool, ...]] = []
    for flags in lanes:
        rest = (True,) * results if count > len(flags) else ()
        tangents = tuple(has for has, is_moving in zip(flags, moving or (), strict=False) if is_moving)
        rest += tangents if moving is not None else (True,) * (count - len(flags) - results)
        levels.append((*flags, *rest))
    return levels


@plain.own_promotion()
def _forward_impl(place: _Place, *operands: Array, closed: Graph, choices: Choices, lanes: Lanes) -> Arrays:
    choice = _choice_at(closed, choices, place)
    return over_lanes(_kernel(closed, choice, place).forward, lanes, in_turn=_runs_in_turn(choice))(*operands)


@plain.own_promotion()
def _tangent_impl(
    place: _Place, *flat: Array, closed: Graph, choices: Choices, lanes: Lanes, moving: tuple[bool, ...]
) -> Arrays:
    choice = _choice_at(closed, choices, place)
    kernel = _kernel(closed, choice, place)

    def tangent(*flat: Array) -> Arrays:
        operands, results, tangents = _split(closed, flat)
        return kernel.tangent(operands, results, _placed(moving, tangents))

    levels = _flags(lanes, closed, moving, len(flat))
    return over_lanes(tangent, levels, in_turn=_runs_in_turn(choice))(*flat)


@plain.own_promotion()
def _backward_impl(
    place: _Place,
    *flat: Array,
    closed: Graph,
    choices: Choices,
    lanes: Lanes,
    given: tuple[bool, ...],
    wanted: tuple[bool, ...],
) -> Arrays:
    choice = _choice_at(closed, choices, place)
    kernel = _kernel(closed, choice, place)

    def backward(*flat: Array) -> Arrays:
        operands, results, cotangents = _split(closed, flat)
        pulled = kernel.backward(operands, results, _placed(given, cotangents), wanted)
        return tuple(cotangent for cotangent in pulled if cotangent is not None)

    levels, kept = _flags(lanes, closed, None, len(flat)), _of_wanted(lanes, wanted)
    return summed_over_lanes(backward, levels, kept, in_turn=_runs_in_turn(choice))(*flat)


def _of_wanted(lanes: Lanes, wanted: Sequence[bool]) -> Lanes:
    """The lanes of the cotangents of the operands that are wanted."""
    return tuple(tuple(has for has, is_wanted in zip(flags, wanted, strict=True) if is_wanted) for flags in lanes)


def _shaped(
    types: Iterable[TensorType], beside: Sequence[ShapedArray], lanes: Iterable[tuple[Any, ...]]
) -> list[ShapedArray]:
    """The types of values, with their sizes of `lanes` in front.

    They vary over the same mesh axes as the operands `beside` them.
    """
    return [
        typed_beside(ShapedArray((*sizes, *kind.shape), numpy_dtype(kind.dtype)), beside)
        for kind, sizes in zip(types, lanes, strict=True)
    ]


def _results_shaped(closed: Graph, beside: Sequence[ShapedArray], lanes: Lanes) -> list[ShapedArray]:
    types = [result.type for result in values_of(closed).results]
    return _shaped(types, beside, [sizes_of(beside, lanes)] * len(types))


def _forward_abstract(*operands: Any, closed: Graph, choices: Choices, lanes: Lanes) -> list[ShapedArray]:
    return _results_shaped(closed, operands, lanes)


def _tangent_abstract(
    *flat: Any, closed: Graph, choices: Choices, lanes: Lanes, moving: tuple[bool, ...]
) -> list[ShapedArray]:
    return _results_shaped(closed, flat, lanes)


def _backward_abstract(
    *flat: Any, closed: Graph, choices: Choices, lanes: Lanes, given: tuple[bool, ...], wanted: tuple[bool, ...]
) -> list[ShapedArray]:
    types = [kind for kind, is_wanted in zip(cotangent_types(closed), wanted, strict=True) if is_wanted]
    sizes, kept = sizes_of(flat, lanes), _of_wanted(lanes, wanted)
    own = [tuple(size for size, flags in zip(sizes, kept, strict=True) if flags[index]) for index in range(len(types))]
    return _shaped(types, flat, own)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, ad.Zero)


def _plain_tangent(
    operands: Sequence[Array],
    tangents: Sequence[Array],
    *,
    closed: Graph,
    choices: Choices,
    lanes: Lanes,
    moving: tuple[bool, ...],
) -> Arrays:
    primals = tuple(operand for operand, is_moving in zip(operands, moving, strict=True) if is_moving)
    return jax.jvp(functools.partial(_plain_of_some, closed, lanes, operands, moving), primals, tuple(tangents))[1]


def _plain_backward(
    operands: Sequence[Array],
    cotangents: Sequence[Array],
    *,
    closed: Graph,
    choices: Choices,
    lanes: Lanes,
    given: tuple[bool, ...],
    wanted: tuple[bool, ...],
) -> Arrays:
    def moved(*values: Array) -> Arrays:
        results = _plain_of_some(closed, lanes, operands, wanted, *values)
        return tuple(result for result, is_given in zip(results, given, strict=True) if is_given)

    primals = tuple(operand for operand, is_wanted in zip(operands, wanted, strict=True) if is_wanted)
    return tuple(jax.vjp(moved, *primals)[1](tuple(cotangents)))


def _plain_of_some(
    closed: Graph, lanes: Lanes, operands: Sequence[Array], free: Sequence[bool], *values: Array
) -> Arrays:
    """The plain region as a function of the operands that are free. The others keep their values."""
    remaining = iter(values)
    filled = (next(remaining) if is_free else operand for operand, is_free in zip(operands, free, strict=True))
    return over_lanes(_plain(closed), lanes)(*filled)


def _jvp_by_plain(
    primitive: Primitive, plain: Callable[..., Arrays], primals: Sequence[Array], tangents: Sequence[Any], **params: Any
) -> tuple[Any, Any]:
    """The JVP of a tangent or backward primitive.

    Its arguments contain the results of `forward` for the same operands. The plain form computes these results again,
    so its derivative in the operands, and in the tangents or cotangents that follow, is the whole derivative.
    """
    out = primitive.bind(*primals, **params)
    operands, _, given = _split(params["closed"], primals)
    d_operands, _, d_given = _split(params["closed"], tangents)
    values, slopes = _with_tangents((*operands, *given), (*d_operands, *d_given))

    def moved(*moving: Array) -> Arrays:
        filled = values(moving)
        return plain(filled[: len(operands)], filled[len(operands) :], **params)

    return out, _along(moved, slopes, out)


@functools.cache
def _trio(name: str) -> Trio:
    """The primitives of a family. They are made when it is first bound, so that other programs import no template."""
    trio = Trio(Primitive(name), Primitive(f"{name}_tangent"), Primitive(f"{name}_backward"))

    def forward_jvp(primals: Sequence[Array], tangents: Sequence[Any], **params: Any) -> tuple[Any, Any]:
        closed: Graph = params["closed"]
        results = trio.forward.bind(*primals, **params)
        moving = tuple(not _is_zero(tangent) for tangent in tangents)
        given = [tangent for tangent in tangents if not _is_zero(tangent)]
        return results, trio.tangent.bind(
            *primals,
            *results,
            *given,
            closed=closed,
            choices=params["choices"],
            lanes=params["lanes"],
            moving=moving,
        )

    def tangent_transpose(
        cotangents: Sequence[Any],
        *flat: Any,
        closed: Graph,
        choices: Choices,
        lanes: Lanes,
        moving: tuple[bool, ...],
    ) -> list[Any]:
        operands, results, linear = _split(closed, flat)
        given = tuple(not _is_zero(cotangent) for cotangent in cotangents)
        pulled: list[Any] = [None] * len(linear)
        if any(given):
            present = [cotangent for cotangent in cotangents if not _is_zero(cotangent)]
            pulled = trio.backward.bind(
                *operands,
                *results,
                *present,
                closed=closed,
                choices=choices,
                lanes=lanes,
                given=given,
                wanted=moving,
            )
        return [*(None for _ in (*operands, *results)), *pulled]

    def backward_transpose(
        cotangents: Sequence[Any],
        *flat: Any,
        closed: Graph,
        choices: Choices,
        lanes: Lanes,
        given: tuple[bool, ...],
        wanted: tuple[bool, ...],
    ) -> list[Any]:
        # Backward is linear in its cotangents, and its transpose is the tangent again.
        operands, results, linear = _split(closed, flat)
        placed = _placed(wanted, cotangents)
        moving = tuple(cotangent is not None and not _is_zero(cotangent) for cotangent in placed)
        pulled: list[Any] = [None] * len(linear)
        if any(moving):
            present = [cotangent for cotangent, is_moving in zip(placed, moving, strict=True) if is_moving]
            moved = trio.tangent.bind(
                *operands, *results, *present, closed=closed, choices=choices, lanes=lanes, moving=moving
            )
            pulled = [tangent for tangent, is_given in zip(moved, given, strict=True) if is_given]
        return [*(None for _ in (*operands, *results)), *pulled]

    rules: tuple[tuple[Primitive, Callable[..., Any], Callable[..., Arrays]], ...] = (
        (trio.forward, _forward_abstract, _forward_impl),
        (trio.tangent, _tangent_abstract, _tangent_impl),
        (trio.backward, _backward_abstract, _backward_impl),
    )
    for primitive, abstract, impl in rules:
        primitive.multiple_results = True
        primitive.def_abstract_eval(abstract)
        primitive.def_impl(functools.partial(_eager, primitive))
        for platform in PLATFORMS:
            mlir.register_lowering(primitive, functools.partial(_lowered, impl, platform), platform=platform)
        batching.primitive_batchers[primitive] = functools.partial(_batch, primitive)
    ad.primitive_jvps[trio.forward] = forward_jvp
    ad.primitive_jvps[trio.tangent] = functools.partial(_jvp_by_plain, trio.tangent, _plain_tangent)
    ad.primitive_jvps[trio.backward] = functools.partial(_jvp_by_plain, trio.backward, _plain_backward)
    ad.primitive_transposes[trio.tangent] = tangent_transpose
    ad.primitive_transposes[trio.backward] = backward_transpose
    return trio


def _lowered(
    impl: Callable[..., Arrays], platform: str, context: mlir.LoweringRuleContext, *operands: Any, **params: Any
) -> Any:
    place = _Place.of(platform, context.module_context)
    return lowered_alone(functools.partial(impl, place), context, *operands, **params)


def _with_tangents(
    primals: Sequence[Array], tangents: Sequence[Any]
) -> tuple[Callable[[Sequence[Array]], list[Array]], tuple[Arrays, Arrays]]:
    """A function that replaces the primals that move, and the primals and tangents of those that move."""
    indices = [index for index, tangent in enumerate(tangents) if not _is_zero(tangent)]

    def filled(values: Sequence[Array]) -> list[Array]:
        replaced = dict(zip(indices, values, strict=True))
        return [replaced.get(index, primal) for index, primal in enumerate(primals)]

    return filled, (tuple(primals[index] for index in indices), tuple(tangents[index] for index in indices))


def _along(function: Callable[..., Arrays], slopes: tuple[Arrays, Arrays], results: Sequence[Array]) -> list[Any]:
    """The tangents of `function` along the slopes; zeros if only residuals move."""
    if not slopes[0]:
        return [jnp.zeros_like(result) for result in results]
    with _unwatched():
        return list(jax.jvp(function, *slopes)[1])


@functools.lru_cache(maxsize=_EAGER_KERNELS)
def _jitted(primitive: Primitive, params: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    return jax.jit(functools.partial(primitive.bind, **dict(params)))


def _eager(primitive: Primitive, *operands: Array, **params: Any) -> Any:
    # A region stays one program if the user disables `jit`, because its ops exist only inside it.
    with jax.disable_jit(False), _unwatched():
        results = _jitted(primitive, tuple(sorted(params.items())))(*operands)
    _watch(primitive, operands, results, **params)
    return results


# `jax_debug_nans` and `jax_debug_infs` --------------------------------------------------------------------------------


@contextmanager
def _unwatched() -> Generator[None]:
    """Turns `jax_debug_nans` and `jax_debug_infs` off for what runs inside a region.

    JAX answers an invalid result by running the function op by op. That would bind the primitive again, without end.
    Moreover, some infinities inside a region are correct: the log-sum-exp of a row that sees no key is -inf.
    """
    with jax.debug_nans(False), jax.debug_infs(False):
        yield


def _watch(
    primitive: Primitive, operands: Sequence[Array], results: Sequence[Array], *, closed: Graph, **params: Any
) -> None:
    """Checks the outputs of a region, without the residuals, as `jax_debug_nans` and `jax_debug_infs` ask.

    Raises:
      FloatingPointError: a value is invalid. The message names the operands that hold such a value already.
    """
    outputs = results if "wanted" in params else results[: len(closed.outputs)]
    for kind, is_invalid, is_watched in (
        ("nan", np.isnan, jax.config.jax_debug_nans),  # pyright: ignore[reportAttributeAccessIssue]
        ("inf", np.isinf, jax.config.jax_debug_infs),  # pyright: ignore[reportAttributeAccessIssue]
    ):
        if is_watched and any(_holds(is_invalid, output) for output in outputs):
            given = zip(closed.input_types, operands, strict=False)
            from_outside = [label for label, operand in given if _holds(is_invalid, operand)]
            cause = f"given in {', '.join(from_outside)}" if from_outside else "none is among its operands"
            raise FloatingPointError(f"invalid value ({kind}) encountered in {primitive.name}: {cause}")


def _holds(is_invalid: Callable[[Any], Any], array: Array) -> bool:
    """Whether the part of a floating-point array that this process can read holds an invalid value."""
    if not jnp.issubdtype(array.dtype, jnp.inexact) or isinstance(array, Tracer):
        return False
    return any(bool(np.any(is_invalid(np.asarray(shard.data)))) for shard in array.addressable_shards)


# Batching ------------------------------------------------------------------------------------------------------------


def _batch(primitive: Primitive, flat: Sequence[Array], axes: Sequence[Any], **params: Any) -> tuple[Any, Any]:
    closed: Graph = params["closed"]
    size = next(value.shape[axis] for value, axis in zip(flat, axes, strict=True) if axis is not None)
    first = [value if axis is None else jnp.moveaxis(value, axis, 0) for value, axis in zip(flat, axes, strict=True)]
    batched = [axis is not None for axis in axes]
    if params["lanes"] or is_symbolic(size):
        out = _with_lanes(primitive, size, first, batched, params)
        return out, [0] * len(out)
    nothing = (False,) * len(closed.inputs)
    widened = widen(
        closed,
        size,
        first,
        batched,
        results=len(values_of(closed).results),
        moving=params.get("moving", nothing),
        wanted=params.get("wanted", nothing),
    )
    if widened is None:
        with _unwatched():
            out = _one_by_one(primitive, first, batched, params)
    else:
        wider, values = widened
        out = primitive.bind(*values, **{**params, "closed": wider})
    return out, [0] * len(out)


def _one_by_one(primitive: Primitive, flat: Sequence[Array], batched: Sequence[bool], params: Mapping[str, Any]) -> Any:
    """One kernel after another, for operands that hold one value for the whole batch, such as weights."""
    moving = tuple(value for value, is_batched in zip(flat, batched, strict=True) if is_batched)

    def one(values: Arrays) -> list[Array]:
        remaining = iter(values)
        filled = [next(remaining) if is_batched else value for value, is_batched in zip(flat, batched, strict=True)]
        return primitive.bind(*filled, **params)

    return lax.map(one, moving)


def _with_lanes(
    primitive: Primitive, size: Any, flat: Sequence[Array], batched: Sequence[bool], params: Mapping[str, Any]
) -> Any:
    """The primitive with one more axis of lanes, of `size` entries.

    Results and cotangents have the lanes of every axis. A tangent has the lanes of its operand, so if one of them is
    batched, both are. An operand whose cotangent is wanted has the lanes, because every entry of the batch has its own.
    """
    closed: Graph = params["closed"]
    count, nothing = len(closed.inputs), (False,) * len(closed.inputs)
    moving, wanted = params.get("moving"), params.get("wanted", nothing)
    first_given = count + len(values_of(closed).results)
    tangents = iter(batched[first_given:] if moving is not None else ())
    moves = [is_moving and next(tangents) for is_moving in moving or nothing]
    flags = tuple(
        own or moved or its_wanted for own, moved, its_wanted in zip(batched[:count], moves, wanted, strict=True)
    )
    (level,) = _flags((flags,), closed, moving, len(flat))
    values = [
        jnp.broadcast_to(value, (size, *value.shape)) if has and not is_batched else value
        for value, is_batched, has in zip(flat, batched, level, strict=True)
    ]
    return primitive.bind(*values, **{**params, "lanes": (flags, *params["lanes"])})
