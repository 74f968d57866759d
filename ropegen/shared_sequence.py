"""Attention over a sequence that the devices of a mesh axis share, for programs inside `jax.shard_map`."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.sharding import AbstractMesh, Mesh, PartitionSpec

from ropegen import captured, masks
from ropegen.arguments import expect_tiles, flag_of, is_one_of, number_of, text_of
from ropegen.emit import context_parallel as ring
from ropegen.emit import mesh
from ropegen.emit.context_derivatives import attend
from ropegen.emit.mesh import Sharding
from ropegen.emit.own_part import with_own_index
from ropegen.emit.recorded import record
from ropegen.emit.varying import varying
from ropegen.errors import RopegenError, nearest
from ropegen.expression import Apply, Expr, Table, Var, apply, table_of
from ropegen.functions import expect_reads, rotated
from ropegen.ir import ops
from ropegen.ir.build import Mask
from ropegen.method import ContextPlan, Shared, choose
from ropegen.plain_call import Array, ArrayLike, Call, Targets, planned_for
from ropegen.plans import Tiles
from ropegen.ring import ORDERS, POSITIONS, Order
from ropegen.rotary import Rope
from ropegen.symbolic import refuse_over_devices
from ropegen.types import TensorType, dtype_name


def zigzag(x: Array, parts: int, *, axis: int = 1) -> Array:
    """The array x with one axis in zigzag order: device i of `parts` then holds chunks i and 2 * parts - 1 - i of 2 * parts.

    Under a causal mask every device then computes about equally much. `unzigzag` is the inverse.

    Raises:
      RopegenError: the axis does not exist, or 2 * parts does not divide it.
    """
    return _reordered("zigzag", x, parts, axis, is_inverse=False)


def unzigzag(x: Array, parts: int, *, axis: int = 1) -> Array:
    """The array x with one axis back in the order of positions: the inverse of `zigzag`.

    Raises:
      RopegenError: the axis does not exist, or 2 * parts does not divide it.
    """
    return _reordered("unzigzag", x, parts, axis, is_inverse=True)


def _reordered(name: str, x: Array, parts: int, axis: int, *, is_inverse: bool) -> Array:
    x = jnp.asarray(x)
    if not _is_whole(parts) or parts < 1:
        raise RopegenError(f"{name}: parts is {parts!r:.60}; give the number of devices that share the sequence")
    if not _is_whole(axis) or not -x.ndim <= axis < x.ndim:
        raise RopegenError(f"{name}: axis is {axis!r:.60} and x has {x.ndim} axes; give the axis of the sequence")
    length = x.shape[axis]
    if length % (2 * parts):
        raise RopegenError(
            f"{name}: the axis {axis} has {length} positions, and {parts} devices hold {2 * parts} chunks of equal length; "
            f"pad it to a multiple of {2 * parts}"
        )
    axis %= x.ndim
    order = Order(int(parts), "zigzag").held.reshape(-1)
    if is_inverse:
        order = np.argsort(order)
    chunks = x.reshape(*x.shape[:axis], 2 * parts, length // (2 * parts), *x.shape[axis + 1 :])
    return jnp.take(chunks, order, axis=axis, indices_are_sorted=False, unique_indices=True).reshape(x.shape)


def _is_whole(given: object) -> bool:
    return isinstance(given, int | np.integer) and not isinstance(given, bool)


def context_plan(
    q: Any,
    k: Any,
    v: Any,
    *,
    parts: int,
    order: str | None = "contiguous",
    mask: Mask = masks.full,
    score: Mask = masks.identity,
    method: str | None = None,
    target: Targets = None,
) -> ContextPlan:
    """Which method `context_parallel` takes for arrays of these shapes and types on `parts` devices, and why.

    q, k and v are what one device holds: arrays, or `jax.ShapeDtypeStruct`. `order` is None for positions that are
    given. `target` is that of `attention`; the first of several decides.

    Raises:
      RopegenError: an unknown order, target or method, or a method that cannot compute this.
    """
    types = [TensorType(tuple(x.shape), dtype_name(np.dtype(x.dtype))) for x in (q, k, v)]
    _expect_order(order, types[0].shape[-3])
    shared = Shared(
        types[0], types[1], types[2], Order(parts, order), *captured.constants_only("context_plan", mask, score)
    )
    return choose(shared, planned_for(target)[0], method)


def _expect_order(order: str | None, length: int) -> None:
    if order is not None and not is_one_of(order, ORDERS):
        raise RopegenError(f"context_parallel: order is {order!r:.60}; {nearest(str(order), ORDERS)}")
    if order == "zigzag" and length % 2:
        raise RopegenError(
            f"context_parallel: in zigzag order a device holds two chunks of equal length, and it has {length} positions; "
            "give every device an even number"
        )


def context_parallel(
    q: Array,
    k: Array,
    v: Array,
    *,
    axis: str = "seq",
    method: str | None = None,
    order: str = "contiguous",
    rope: Rope | None = None,
    mask: Mask | Array | np.ndarray = masks.full,
    score: Mask = masks.identity,
    bias: Array | None = None,
    softcap: float | None = None,
    sinks: Array | None = None,
    q_positions: ArrayLike | None = None,
    kv_positions: ArrayLike | None = None,
    q_segments: ArrayLike | None = None,
    kv_segments: ArrayLike | None = None,
    scale: float | None = None,
    masked_row: str = "zero",
    length: int | None = None,
    return_lse: bool = False,
    tile: Tiles | None = None,
    target: Targets = None,
) -> Any:
    """`attention` inside `jax.shard_map`, where the devices of the mesh axis `axis` share the sequence.

    q (..., Sq, H, D), k (..., Skv, Hkv, D) and v (..., Skv, Hkv, Dv) are the parts that this device holds, and so are
    positions, segments and the result (..., Sq, H, Dv). Every query sees the keys of all devices. What is not described
    here is as in `attention`.

    method: "ring" moves keys and values around the devices while they compute; "gather" gives every device all keys and
      values; "ulysses" exchanges sequence for heads, so that a device computes all positions of some heads. None takes
      the one that is estimated to be fastest; `context_plan` says why. They differ in rounding only. In forward mode, and
      for second derivatives, "ring" gathers the keys as "gather" does.
    order: the positions that the devices hold if positions are left out: "contiguous" (device i holds the i-th part of
      the sequence) or "zigzag" (see `ropegen.zigzag`). Keys then travel only as far as the mask lets queries see.
    q_positions, kv_positions: the positions of this device's queries and keys, which differ between devices.
    bias, mask: the last axis of an array has 1, or the keys of all devices, in the order of the devices; the axis of
      queries has 1, or this device's.

    Raises:
      RopegenError: it is called outside of a shard_map with this axis; positions that are equal on all devices; a mask or
        score that reads `head` or `batch`, if the shard_map splits that axis too; or what `attention` raises.
    """
    parts = _axis_size(axis)
    refuse_over_devices("context_parallel", (q, k, v, bias, mask))
    with_lse = flag_of("context_parallel: return_lse", return_lse)
    expect_tiles("context_parallel", tile)
    call = Call("context_parallel")
    types = [call.array(label, x).type for label, x in (("q", q), ("k", k), ("v", v))]
    if any(kind.rank < 3 for kind in types):
        given = ", ".join(map(str, types))
        raise RopegenError(f"context_parallel: q, k, v are {given}; give all three as (..., sequence, heads, width)")
    queries, keys, heads = types[0].shape[-3], types[1].shape[-3], types[0].shape[-2]
    dense = None
    if isinstance(mask, jax.Array | np.ndarray):
        dense, mask = jnp.asarray(mask), masks.full
    visible, scored = captured.constants_only("context_parallel", mask, score)
    reads = expect_reads("context_parallel", visible, scored, heads, {"q": q_segments, "kv": kv_segments})
    places = {"q_positions": q_positions, "kv_positions": kv_positions}
    name = _order(order, places, queries, keys, compares=rope is not None or bool(POSITIONS & reads))
    spread = Order(parts, name)
    given = {
        **_positions(spread, axis, places, queries),
        "q_segments": call.known("q_segments", q_segments),
        "kv_segments": call.known("kv_segments", kv_segments),
        "bias": call.known("bias", bias),
        "mask": dense,
        "sinks": call.known("sinks", sinks),
    }
    arrays: dict[str, Array] = {"q": q, "k": k, "v": v} | {name: x for name, x in given.items() if x is not None}
    arrays = ring.vary(arrays, axis)
    arrays["q"] = with_own_index("context_parallel", reads, arrays["q"], axis)
    for label in ("bias", "mask"):
        _expect_all_keys(label, arrays.get(label), parts * keys)
    if rope is not None:
        turned = rotated(arrays["q"], arrays["k"], arrays["q_positions"], arrays["kv_positions"], rope, length, target)
        arrays["q"], arrays["k"] = turned
    targets = planned_for(target)
    choice = choose(Shared(types[0], types[1], types[2], spread, visible, scored), targets[0], method)
    record("context_parallel", notes=choice.explain().splitlines())
    taken = choice.method
    options: dict[str, Any] = {
        "softcap": softcap,
        "scale": scale,
        "masked_row": masked_row,
        "tile": tile,
        "target": target,
    }
    if taken == "ulysses":
        out, lse = _ulysses(arrays, axis, spread, visible, scored, reads, options)
    else:
        out, lse = _by_keys(arrays, axis, spread, visible, scored, reads, options, gathers=taken == "gather")
    return (out, lse) if with_lse else out


def attention_over(
    sharding: Sharding, arrays: Mapping[str, Any], mask: Mask | Array | np.ndarray, options: Mapping[str, Any]
) -> Any:
    """`attention` with a sharding that splits the sequence: `context_parallel` on every device of the mesh.

    `arrays` are the operands by name, None for those that are left out. Host positions that count from 0, or that are in
    zigzag order, are known to the planner.

    Raises:
      RopegenError: sizes that do not divide evenly, a mask or score that reads the index along an axis that is split, or
        what `context_parallel` raises.
    """
    given = {label: x for label, x in arrays.items() if x is not None}
    if isinstance(mask, jax.Array | np.ndarray):
        given["mask"], mask = mask, masks.full
    split = _Split.of(sharding, [jnp.shape(given[label]) for label in ("q", "k", "v")])
    mask, score = captured.constants_only("attention with a sharding of the sequence", mask, options["score"])
    options = {**options, "score": score}
    reads = masks.variables(mask) | masks.variables(score)
    for name, axes in (("head", mesh.mesh_axes(split.heads)), ("batch", split.whole_batch)):
        if name in reads and axes:
            raise RopegenError(
                f"attention: sharding is {split.spec}, and the mask or score reads `{name}`, whose index would count from 0 on "
                f"every device; leave the axis of the {'heads' if name == 'head' else 'batch'} whole, or give `bias` instead"
            )
    order = _known_order(given, split.parts)
    if order is not None:
        given = {label: x for label, x in given.items() if not label.endswith("_positions")}
    values = {label: jnp.asarray(x) for label, x in given.items()}
    specs = {label: split.of_operand(label, x.shape) for label, x in values.items()}
    call = functools.partial(context_parallel, axis=split.axis, order=order or "contiguous", **options)

    def on_a_device(mine: dict[str, Array]) -> Any:
        beside = {label: x for label, x in mine.items() if label not in ("q", "k", "v")}
        return call(mine["q"], mine["k"], mine["v"], **{"mask": mask, **beside})

    result = split.of_operand("q", values["q"].shape)
    results: Any = (result, PartitionSpec(*result[:-1])) if options["return_lse"] else result
    laid = {label: mesh.laid_out(x, split.mesh, specs[label]) for label, x in values.items()}
    return jax.shard_map(on_a_device, in_specs=(specs,), out_specs=results, **mesh.manual(split.mesh))(laid)


@dataclass(frozen=True, slots=True)
class _Split:
    """A sharding of q (..., sequence, heads, width), and the axis over which its sequence lies."""

    mesh: Mesh | AbstractMesh
    spec: PartitionSpec
    batch: tuple[Any, ...]
    axis: str
    heads: Any

    @staticmethod
    def of(sharding: Sharding, shapes: Sequence[tuple[int, ...]]) -> _Split:
        its, spec = mesh.mesh_and_spec("attention", sharding)
        rank = len(shapes[0])
        entries: tuple[Any, ...] = (*spec, *(None,) * (rank - len(spec)))
        axes = mesh.mesh_axes(entries[rank - 3])
        for name in (name for entry in entries for name in mesh.mesh_axes(entry)):
            if name not in its.axis_names:
                raise RopegenError(
                    f"attention: sharding is {spec}, and the mesh has no axis {name!r}; {nearest(name, its.axis_names)}"
                )
        if len(axes) != 1 or len(spec) > rank - 1:
            raise RopegenError(
                f"attention: sharding is {spec} for q with {rank} axes; split the sequence over one axis of the mesh, and give "
                f"at most {rank - 1} entries, because the width stays whole"
            )
        split = _Split(its, spec, entries[: rank - 3], axes[0], entries[rank - 2])
        for label, shape in zip(("q", "k", "v"), shapes, strict=True):
            for place, entry in enumerate(entries[: len(shape) - 1]):
                parts = math.prod(its.shape[name] for name in mesh.mesh_axes(entry))
                if shape[place] % parts:
                    raise RopegenError(
                        f"attention: sharding is {spec}, and {label} has {shape[place]} along axis {place}, which is split into "
                        f"{parts} parts; make it a multiple of {parts}, pad it, or leave this axis whole"
                    )
        return split

    @property
    def parts(self) -> int:
        return self.mesh.shape[self.axis]

    @property
    def whole_batch(self) -> tuple[str, ...]:
        """All axes of the mesh over which the batch lies."""
        return tuple(name for entry in self.batch for name in mesh.mesh_axes(entry))

    def of_operand(self, label: str, shape: tuple[int, ...]) -> PartitionSpec:
        """How an operand lies over the devices: an axis of size 1 that broadcasts is whole, and so are all keys."""
        (operand,) = (operand for operand in ops.Attend.operands if operand.name == label)
        own = {"queries": self.axis, "heads": self.heads, "kv_heads": self.heads}
        if operand.batch != "broadcast":
            own["keys"] = self.axis
        entries = (*self.batch, *(own.get(axis) for axis in operand.axes))
        entries = entries[len(entries) - len(shape) :] if len(shape) <= len(entries) else (None, *entries)
        broadcasts = operand.batch == "broadcast"
        return PartitionSpec(*(None if broadcasts and size == 1 else e for size, e in zip(shape, entries, strict=True)))


def _known_order(given: Mapping[str, Any], parts: int) -> str | None:
    """The order that host positions have; None for others, and "contiguous" for positions that are left out."""
    places = [given.get("q_positions"), given.get("kv_positions")]
    if all(at is None for at in places):
        return "contiguous"
    length = jnp.shape(given["q"])[-3]
    for name in ORDERS:
        if length % Order(parts, name).chunks == 0:
            known = Order(parts, name).positions(length)
            if all(isinstance(at, np.ndarray) and np.array_equal(at, known) for at in places):
                return name
    return None


# Arguments ----------------------------------------------------------------------------------------------------------


def _axis_size(axis: str) -> int:
    name = text_of("context_parallel: axis", axis, "the name of a mesh axis, such as 'seq'")
    try:
        return int(lax.axis_size(name))
    except NameError:
        raise RopegenError(
            f"context_parallel: there is no mesh axis {name!r} here; call it inside jax.shard_map over a mesh with this axis, "
            "or give axis= the name of the axis over which the sequence is split"
        ) from None


def _order(
    order: str, places: Mapping[str, ArrayLike | None], queries: int, keys: int, *, compares: bool
) -> str | None:
    """The order of the devices' positions; None if the caller gives the positions."""
    _expect_order(order, queries)
    given = [label for label, x in places.items() if x is not None]
    if not given:
        if compares and queries != keys:
            raise RopegenError(
                f"context_parallel: a device has {queries} queries and {keys} keys, and their positions matter; give "
                "q_positions and kv_positions"
            )
        return order if queries == keys else "contiguous"
    if len(given) == 1:
        raise RopegenError(
            f"context_parallel: {given[0]} are given and the other positions are not; give both, or leave out both and say "
            "their order"
        )
    return None


def _positions(spread: Order, axis: str, places: Mapping[str, ArrayLike | None], length: int) -> dict[str, Array]:
    """The positions of this device's queries and keys."""
    if spread.name is None:
        return {label: _own(label, x, axis) for label, x in places.items()}
    everywhere = jnp.asarray(spread.positions(length * spread.parts), jnp.int32)
    here = lax.dynamic_slice_in_dim(everywhere, lax.axis_index(axis) * length, length)
    return dict.fromkeys(places, here)


def _own(label: str, positions: ArrayLike | None, axis: str) -> Array:
    """Positions that differ between the devices of an axis."""
    if not isinstance(positions, jax.Array) or axis in varying([jax.typeof(lax.axis_index(axis))]) - varying(
        [jax.typeof(positions)]
    ):
        raise RopegenError(
            f"context_parallel: {label} are equal on all devices of the axis {axis!r}, and every device holds another part "
            f"of the sequence; split them like q, with in_specs P({axis!r}), compute them from jax.lax.axis_index({axis!r}), "
            "or leave out both positions and give order="
        )
    return positions


def _expect_all_keys(label: str, x: Array | None, keys: int) -> None:
    if x is not None and x.ndim and x.shape[-1] not in (1, keys):
        raise RopegenError(
            f"context_parallel: {label} has {x.shape[-1]} keys and the devices hold {keys} together; give it the keys of all "
            "devices, in the order of the devices, and split it over the queries only"
        )


# The methods --------------------------------------------------------------------------------------------------------


def _by_keys(
    arrays: dict[str, Array],
    axis: str,
    spread: Order,
    visible: Expr,
    scored: Expr,
    reads: frozenset[str],
    options: Mapping[str, Any],
    *,
    gathers: bool,
) -> tuple[Array, Array]:
    """By the methods that bring all keys to the queries of a device."""
    read = [operand for operand in ops.Attend.operands if not operand.variable or operand.variable in reads]
    kept = {operand.name: arrays[operand.name] for operand in read if operand.name in arrays}
    if spread.name is not None:
        kept = {label: x for label, x in kept.items() if not label.endswith("positions")}
    floats = {label: x for label, x in kept.items() if label in ("q", "k", "v", "bias", "sinks")}
    width, scale = arrays["q"].shape[-1], options["scale"]
    fixed = options["tile"] or {}
    setting = ring.Ring(
        axis=axis,
        order=spread,
        mask=visible,
        score=scored,
        scale=ops.attention_scale(width) if scale is None else _number("scale", scale),
        softcap=None if options["softcap"] is None else _number("softcap", options["softcap"]),
        targets=planned_for(options["target"]),
        tile=tuple((name, tuple(sizes.items())) for name, sizes in fixed.items()),
        gathers=gathers,
    )
    others = {label: x for label, x in kept.items() if label not in floats}
    out, lse = attend(setting, floats, others)
    if options["masked_row"] == "mean" and "sinks" not in arrays:
        # A row that sees no key is the mean of the values of all devices.
        v = arrays["v"]
        mean = lax.pmean(jnp.mean(v, -3, keepdims=True, dtype=lse.dtype), axis)
        mean = jnp.repeat(mean, out.shape[-2] // v.shape[-2], axis=-2).astype(out.dtype)
        out = jnp.where((lse == -jnp.inf)[..., None], mean, out)
    return out, lse


def _number(name: str, given: object) -> float:
    """A number of Python, NumPy or JAX that is known while tracing."""
    known = given.item() if isinstance(given, jax.Array) and not isinstance(given, Tracer) and not given.ndim else given
    example = "a number that is known while tracing, or multiply q by the scale and give scale=1.0"
    return number_of(f"context_parallel: {name}", known, example)


def _all(x: Array, axis: str) -> Array:
    """The last axis of all devices, one after the other."""
    return lax.all_gather(x, axis, axis=x.ndim - 1, tiled=True)


def _ulysses(
    arrays: dict[str, Array],
    axis: str,
    spread: Order,
    visible: Expr,
    scored: Expr,
    reads: frozenset[str],
    options: Mapping[str, Any],
) -> tuple[Array, Array]:
    parts, rank = spread.parts, arrays["q"].ndim
    heads = arrays["q"].shape[-2]
    own_heads = heads // parts
    first = lax.axis_index(axis) * own_heads

    def to_heads(x: Array) -> Array:
        return lax.all_to_all(x, axis, split_axis=x.ndim - 2, concat_axis=x.ndim - 3, tiled=True)

    copies = parts // math.gcd(arrays["k"].shape[-2], parts)
    q, k, v = (to_heads(x) for x in (arrays["q"], *(jnp.repeat(arrays[label], copies, rank - 2) for label in "kv")))
    call = Call("context_parallel", knows_its_part=True)
    nodes = [call.array(label, x) for label, x in (("q", q), ("k", k), ("v", v))]
    given: dict[str, Any] = {}
    for variable, label, x in (("q_pos", "q_positions", q), ("kv_pos", "kv_positions", k)):
        if variable in reads:
            length = x.shape[-3]
            known = spread.name is not None
            given[label] = call.positions(
                label, spread.positions(length) if known else _all(arrays[label], axis), length
            )
    for label in ("q_segments", "kv_segments"):
        if label in arrays:
            given[label] = call.array(label, _all(arrays[label], axis))
    for label, name in (("bias", "bias"), ("mask", "dense_mask")):
        if label in arrays:
            # With all axes, because the heads of a part may be as many as the batch.
            part = _for_heads(arrays[label], axis, first, own_heads)
            given[name] = call.array(label, part.reshape((1,) * (rank - part.ndim) + part.shape))
    if "sinks" in arrays:
        given["sinks"] = call.array("sinks", lax.dynamic_slice_in_dim(arrays["sinks"], first, own_heads))
    if "head" in reads:
        # Expressions count the heads of this device from 0, so an operand of segments that they do not read holds the
        # first head.
        side, x = ("q_segment", q) if "q_segment" not in reads else ("kv_segment", k)
        replaced = {"head": apply("+", Var("head"), Var(side))}
        visible, scored = substituted(visible, replaced), substituted(scored, replaced)
        given[f"{side}s"] = call.array(f"{side}s", jnp.broadcast_to(first, (x.shape[-3],)))
    attend = functools.partial(
        call.builder.attend,
        *nodes,
        mask=visible,
        score=scored,
        scale=options["scale"],
        softcap=options["softcap"],
        masked_row=options["masked_row"],
        **given,
    )
    results = call.run({"out": attend(), "lse": attend(returns="log_sum_exp")}, options["target"], options["tile"])

    def to_sequence(x: Array) -> Array:
        return lax.all_to_all(x, axis, split_axis=rank - 3, concat_axis=rank - 2, tiled=True)

    return to_sequence(results["out"]), to_sequence(results["lse"])


def _for_heads(x: Array, axis: str, first: Array, count: int) -> Array:
    """A bias or mask (..., H, Sq, Skv) of this device's queries as that of its heads and all queries."""
    if x.ndim < 2:
        return x
    splits, has_queries = x.ndim > 2 and x.shape[-3] > 1, x.shape[-2] > 1
    if splits and has_queries:
        return lax.all_to_all(x, axis, split_axis=x.ndim - 3, concat_axis=x.ndim - 2, tiled=True)
    if has_queries:
        return lax.all_gather(x, axis, axis=x.ndim - 2, tiled=True)
    return lax.dynamic_slice_in_dim(x, first, count, x.ndim - 3) if splits else x


def substituted(expr: Expr, by: Mapping[str, Expr]) -> Expr:
    """The expression with other expressions in the place of some of its names."""
    match expr:
        case Var(name=name):
            return by.get(name, expr)
        case Apply(op=op, args=args):
            return apply(op, *(substituted(arg, by) for arg in args))
        case Table(values=values, index=index):
            return table_of(values, substituted(index, by))
        case _:
            return expr
