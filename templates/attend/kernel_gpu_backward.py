"""The backward kernels of attention for Hopper: one for dq, and one for dk and dv.

A block is one warpgroup. The block of the first kernel has 64 queries of one head, and visits tiles of 64 keys; that of
the second has 64 keys, and visits tiles of 64 queries of every head that shares the keys. So each cotangent is the sum of
one warpgroup, in a fixed order, and no two blocks add to one number. The weights and their cotangents are computed in
both kernels, the scores of the second with keys in rows: the tensor core reads its left factor from registers in rows.

Two blocks share a multiprocessor, where shared memory has room: one multiplies while the other computes weights. The
copy of a tile into its slot begins when the tile before it in that slot was read.

The accumulators of dk and dv, for heads of many features, do not fit the registers of one warpgroup. Then dk and dv have a
call each, and both compute the weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from ..gpu.mosaic import Array, Index, Machine, Ref, barriers, tiles
from .form_gpu import BACKWARD_SLOTS, BACKWARD_TILE, MOST_WITH_ROOM, Form, TileList, columns_of
from .scores_gpu import Scores, shared

_SIZE = BACKWARD_TILE


def _visit(
    kinds: tuple[bool, bool],
    full: Index,
    steps: Index,
    fetch: Callable[[Index, Index], None],
    visit: Callable[[bool, Index, Index, Any], Any],
    begun: Ref,
    ready: Ref,
    state: Any,
) -> Any:
    """The state after all steps. The first `full` steps have no mask.

    `fetch` starts the copies of a step into a slot. `visit` reads them; `begun` says that what all steps read is there.
    """
    for slot in range(BACKWARD_SLOTS):
        pl.when(slot < steps)(functools.partial(fetch, slot, slot))
    plgpu.barrier_wait(begun.at[0])

    def step(masked: bool, at: Index, state: Any) -> Any:
        slot = lax.rem(at, np.int32(BACKWARD_SLOTS))
        plgpu.barrier_wait(ready.at[slot])
        state = visit(masked, at, slot, state)

        @pl.when(at + BACKWARD_SLOTS < steps)
        def refill() -> None:
            fetch(at + BACKWARD_SLOTS, slot)

        return state

    has_full, has_partial = kinds
    if has_full:
        state = lax.fori_loop(np.int32(0), full, functools.partial(step, False), state)
    if has_partial:
        state = lax.fori_loop(full, steps, functools.partial(step, True), state)
    return state


def _kernel_of_queries(
    form: Form, on: Machine, parts: str, size: int, kinds: tuple[bool, bool], names: tuple[str, ...], *refs: Ref
) -> None:
    given = dict(zip(names, refs, strict=False))
    results, refs = dict(zip(parts, refs[len(names) :], strict=False)), refs[len(names) + len(parts) :]
    of_queries, of_keys = (numbers_of(form, names, side) for side in ("q", "kv"))
    queries, pulls, keys, values, begun, ready, *staged = refs
    count = len(of_queries) + len(of_keys)
    near, staged = dict(zip((*of_queries, *of_keys), staged, strict=False)), staged[count:]
    row, head, batch = (lax.axis_index(name) for name in ("row", "head", "batch"))
    kv_head = lax.div(head, np.int32(form.heads // form.kv_heads))
    lists = shared(given["rows"], batch)
    first, full, visited = (given["rows"][lists, row, place] for place in range(3))
    own = pl.ds(row * _SIZE, _SIZE)

    def key_of(step: Index) -> Index:
        return given["columns"][lists, first + step] * _SIZE

    def fetch(step: Index, slot: Index) -> None:
        place = pl.ds(key_of(step), _SIZE)
        plgpu.copy_gmem_to_smem(given["k"].at[batch, place, kv_head], keys.at[slot], ready.at[slot])
        plgpu.copy_gmem_to_smem(given["v"].at[batch, place, kv_head], values.at[slot], ready.at[slot])
        for name in of_keys:
            plgpu.copy_gmem_to_smem(_ids(given[name], batch, place), near[name].at[slot], ready.at[slot])

    for name in of_queries:
        plgpu.copy_gmem_to_smem(_ids(given[name], batch, own), near[name], begun.at[0])
    plgpu.copy_gmem_to_smem(given["q"].at[batch, own, head], queries, begun.at[0])
    plgpu.copy_gmem_to_smem(given["d_out"].at[batch, own, head], pulls, begun.at[0])
    shift, drag = (on.vector(given[name].at[batch, head, own], 0) for name in ("shift", "drag"))

    def visit(masked: bool, step: Index, slot: Index, state: tuple[Array, ...]) -> tuple[Array, ...]:
        def one(start: Index, state: tuple[Array, ...]) -> tuple[Array, ...]:
            key, part = key_of(step) + start, pl.ds(start, size)
            here = {name: near[name] for name in of_queries} | {name: near[name].at[slot, part] for name in of_keys}
            tile = Scores(form, on, given, batch, head, row * _SIZE, key, _SIZE, size, near=here)
            product = on.multiplied(queries, keys.at[slot, part])
            weight, cotangents = tile.weights(product, masked, on.across(shift, size))
            pulled = on.multiplied(pulls, values.at[slot, part])
            d_score, d_bias = cotangents(weight * (pulled - on.across(drag, size)))
            if "b" in parts:
                plgpu.wait_smem_to_gmem(0)  # until the copy before it has read
                staged[0][...] = d_bias
                _send(staged[0], results["b"].at[batch, head, own, pl.ds(key, size)])
            return tuple(on.added(gathered, d_score.astype(form.dtype), keys.at[slot, part]) for gathered in state)

        return _in_parts(size, form.is_wide, one, state)

    state = (on.filled((_SIZE, form.width), 0),) if "q" in parts else ()
    for gathered in _visit(kinds, full, visited, fetch, visit, begun, ready, state):
        queries[...] = (gathered * np.float32(form.op.scale)).astype(form.dtype)
        _send(queries, results["q"].at[batch, own, head])
    plgpu.wait_smem_to_gmem(0)


def _in_parts(size: int, is_loop: bool, one: Callable[[Index, Any], Any], state: Any) -> Any:
    """The state after all parts of a tile, each of `size` rows.

    One after the other in straight code, the compiler begins what the next part reads early, which takes registers. A loop
    of the GPU keeps them apart.
    """
    if not is_loop or size == _SIZE:
        for start in range(0, _SIZE, size):
            state = one(start, state)
        return state

    def part(number: Index, state: Any) -> Any:
        return one(pl.multiple_of(number * np.int32(size), size), state)

    return lax.fori_loop(np.int32(0), np.int32(_SIZE // size), part, state)


def numbers_of(form: Form, names: Sequence[str], side: str) -> tuple[str, ...]:
    """The positions and segments of queries ("q") or keys ("kv") that the running program gives."""
    needs = form.op.NEEDS.items()
    return tuple(dict.fromkeys(name for variable, name in needs if name in names and variable.startswith(f"{side}_")))


def _ids(ref: Ref, batch: Index, place: Any) -> Ref:
    return ref.at[shared(ref, batch), place]


def _send(rows: Ref, target: Ref) -> None:
    """Starts the copy of what was written to shared memory."""
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(rows, target)


def _kernel_of_keys(
    form: Form, on: Machine, parts: str, size: int, kinds: tuple[bool, bool], names: tuple[str, ...], *refs: Ref
) -> None:
    given = dict(zip(names, refs, strict=False))
    results, refs = refs[len(names) : len(names) + len(parts)], refs[len(names) + len(parts) :]
    of_queries, of_keys = (numbers_of(form, names, side) for side in ("q", "kv"))
    queries, pulls, keys, values, shifts, drags, begun, ready, *staged = refs
    near = dict(zip((*of_queries, *of_keys), staged, strict=True))
    column, kv_head, batch = (lax.axis_index(name) for name in ("column", "kv_head", "batch"))
    group = form.heads // form.kv_heads
    lists = shared(given["rows"], batch)
    first, full, visited = (given["rows"][lists, column, place] for place in range(3))
    partial = visited - full
    own = pl.ds(column * _SIZE, _SIZE)

    def place_of(step: Index) -> tuple[Index, Index]:
        """The head of a step and its first query: the full tiles of every head, and then the partial ones."""
        is_full = step < group * full
        at, count = jnp.where(is_full, step, step - group * full), jnp.where(is_full, full, partial)
        member = lax.div(at, count)
        tile = at - member * count + jnp.where(is_full, 0, full)
        return kv_head * group + member, given["columns"][lists, first + tile] * _SIZE

    def fetch(step: Index, slot: Index) -> None:
        head, query = place_of(step)
        rows = pl.ds(query, _SIZE)
        for source, target in (("q", queries), ("d_out", pulls)):
            plgpu.copy_gmem_to_smem(given[source].at[batch, rows, head], target.at[slot], ready.at[slot])
        for source, target in (("shift", shifts), ("drag", drags)):
            plgpu.copy_gmem_to_smem(given[source].at[batch, head, rows], target.at[slot], ready.at[slot])
        for name in of_queries:
            plgpu.copy_gmem_to_smem(_ids(given[name], batch, rows), near[name].at[slot], ready.at[slot])

    for name in of_keys:
        plgpu.copy_gmem_to_smem(_ids(given[name], batch, own), near[name], begun.at[0])
    plgpu.copy_gmem_to_smem(given["k"].at[batch, own, kv_head], keys, begun.at[0])
    plgpu.copy_gmem_to_smem(given["v"].at[batch, own, kv_head], values, begun.at[0])

    def visit(masked: bool, step: Index, slot: Index, state: tuple[Array, ...]) -> tuple[Array, ...]:
        head, query = place_of(step)

        def one(start: Index, state: tuple[Array, ...]) -> tuple[Array, ...]:
            gathered = dict(zip(parts, state, strict=True))
            rows = slot, pl.ds(start, size)
            here = {name: near[name].at[rows] for name in of_queries} | {name: near[name] for name in of_keys}
            place = query + start, column * _SIZE, size, _SIZE
            tile = Scores(form, on, given, batch, head, *place, turned=True, near=here)
            shift = on.spread(on.vector(shifts.at[rows], 1), tile.shape, 1)
            weight, cotangents = tile.weights(on.multiplied(keys, queries.at[rows]), masked, shift)
            if "v" in parts:
                gathered["v"] = on.added(gathered["v"], weight.astype(form.dtype), pulls.at[rows])
            if "k" in parts:
                pulled = on.multiplied(values, pulls.at[rows])
                drag = on.spread(on.vector(drags.at[rows], 1), tile.shape, 1)
                d_score, _ = cotangents(weight * (pulled - drag))
                gathered["k"] = on.added(gathered["k"], d_score.astype(form.dtype), queries.at[rows])
            return tuple(gathered[part] for part in parts)

        return _in_parts(size, form.is_wide, one, state)

    widths = {"k": form.width, "v": form.value_width}
    state = tuple(on.filled((_SIZE, widths[part]), 0) for part in parts)
    state = _visit(kinds, group * full, group * visited, fetch, visit, begun, ready, state)
    for part, result, total in zip(parts, results, state, strict=True):
        rows, scale = (keys, np.float32(form.op.scale)) if part == "k" else (values, np.float32(1))
        rows[...] = (total * scale).astype(form.dtype)
        _send(rows, result.at[batch, own, kv_head])
    plgpu.wait_smem_to_gmem(0)


def backward(
    form: Form,
    by_rows: TileList,
    by_columns: TileList,
    operands: dict[str, Array],
    on: Machine,
    *,
    gives_bias: bool,
    parts: int,
) -> tuple[Array, Array, Array, Array | None]:
    """The cotangents (dq, dk, dv, d_bias) of q, k and v as the scores read them.

    - dq is (B, queries, H, width), dk (B, keys, kv heads, width) and dv (B, keys, kv heads, value_width), in the type of
      q.
    - d_bias is (B, H, queries, keys) float32 if it `gives_bias`. It is undefined in tiles that are not visited.

    The operands are those of `kernel_gpu.forward`, with rotated queries, and three more: d_out (B, queries, H,
    value_width); shift and drag, both (B, H, queries) float32. `shift` is the log-sum-exp in base 2, or +inf for a row
    that sees no key; `drag` is out . d_out minus the cotangent of the log-sum-exp. A tile is computed in at most so many
    `parts`, one after the other, because what the scores read takes registers.
    """
    shape = jax.ShapeDtypeStruct
    of_queries, of_keys = (numbers_of(form, tuple(operands), side) for side in ("q", "kv"))
    pulled: dict[str, Array] = {}
    shapes = {
        "q": shape((form.batch, form.queries, form.heads, form.width), form.dtype),
        "b": shape((form.batch, form.heads, form.queries, form.keys), jnp.float32),
        "k": shape((form.batch, form.keys, form.kv_heads, form.width), form.dtype),
        "v": shape((form.batch, form.keys, form.kv_heads, form.value_width), form.dtype),
    }
    given = {**operands, "columns": jnp.asarray(by_rows.columns), "rows": jnp.asarray(by_rows.rows)}
    for results in form.kernels_of_queries(gives_bias=gives_bias):
        size = _rows_at_once(form, parts, form.width)
        call = on.kernel(
            functools.partial(_kernel_of_queries, form, on, results, size, by_rows.kinds, tuple(given)),
            results=[shapes[result] for result in results],
            scratch=[
                *_blocks(form, size, (), (BACKWARD_SLOTS,)),
                barriers(1, arrivals=2 + len(of_queries)),
                barriers(BACKWARD_SLOTS, arrivals=2 + len(of_keys)),
                *[plgpu.SMEM((_SIZE,), jnp.int32)] * len(of_queries),
                *[plgpu.SMEM((BACKWARD_SLOTS, _SIZE), jnp.int32)] * len(of_keys),
                *([tiles((_SIZE, size), jnp.float32, min(size, 32))] if "b" in results else []),
            ],
            grid={"row": form.queries // _SIZE, "head": form.heads, "batch": form.batch},
            warpgroups=1,
            name="ropegen_attend_backward_queries",
        )
        pulled |= dict(zip(results, call(*given.values()), strict=True))

    given = {name: _turned(x) if name in ("bias", "mask") else x for name, x in operands.items()}
    given |= {"columns": jnp.asarray(by_columns.columns), "rows": jnp.asarray(by_columns.rows)}
    widths = {"k": form.width, "v": form.value_width}
    for results in form.kernels_of_keys:
        size = _rows_at_once(form, parts, sum(widths[result] for result in results), has_two=len(results) == 2)
        call = on.kernel(
            functools.partial(_kernel_of_keys, form, on, results, size, by_columns.kinds, tuple(given)),
            results=[shapes[result] for result in results],
            scratch=[
                *_blocks(form, size, (BACKWARD_SLOTS,), ()),
                *[plgpu.SMEM((BACKWARD_SLOTS, _SIZE), jnp.float32)] * 2,
                barriers(1, arrivals=2 + len(of_keys)),
                barriers(BACKWARD_SLOTS, arrivals=4 + len(of_queries)),
                *[plgpu.SMEM((BACKWARD_SLOTS, _SIZE), jnp.int32)] * len(of_queries),
                *[plgpu.SMEM((_SIZE,), jnp.int32)] * len(of_keys),
            ],
            grid={"column": form.keys // _SIZE, "kv_head": form.kv_heads, "batch": form.batch},
            warpgroups=1,
            name="ropegen_attend_backward_keys",
        )
        pulled |= dict(zip(results, call(*given.values()), strict=True))
    return pulled["q"], pulled["k"], pulled["v"], pulled.get("b")


def _rows_at_once(form: Form, parts: int, features: int, *, has_two: bool = False) -> int:
    """How many rows of a tile are computed at a time, in a kernel that adds up so many `features`, of dk and dv if it
    `has_two`. Fewer rows take fewer registers.
    """
    has_room = features <= MOST_WITH_ROOM
    if parts == 1:
        return _SIZE // 2 if has_two and not has_room else _SIZE
    return _SIZE // 2 if has_room or not form.is_wide else _SIZE // parts


def _turned(scores: Array) -> Array:
    """A bias or mask (B or 1, H or 1, queries or 1, keys) as (B or 1, H or 1, keys, queries or 1)."""
    return jnp.swapaxes(scores, 2, 3)


def _blocks(form: Form, size: int, of_queries: Sequence[int], of_keys: Sequence[int]) -> list[Any]:
    """Shared memory for tiles of queries, of cotangents of outputs, of keys and of values, so many of each.

    The tensor core reads whole tiles of columns, also along the `size` rows that are computed at a time.
    """
    return [
        tiles((*count, _SIZE, width), form.dtype, min(size, columns_of(width)))
        for count in (of_queries, of_keys)
        for width in (form.width, form.value_width)
    ]
