"""The forward kernel of attention for Hopper: two warpgroups share the tiles of keys that they multiply.

A block has 128 queries of one head. Each of its two warpgroups computes 64 of them, for one tile of keys after the
other: scores (a product of the tensor core), softmax, and the weighted values (another product). While one computes a
softmax, the tensor core works for the other one. `turns` has a barrier for each warpgroup: it may multiply when the
other has arrived there. A turn begins with the values of one tile and ends with the scores of the next.

        warpgroup 0   scores 0 | softmax 0 | values 0, scores 1 | softmax 1 | values 1, ...
        warpgroup 1            | scores 0  | softmax 0          | values 0, scores 1 | softmax 1, ...

No warpgroup only fetches. Warpgroup 0 starts the copies of keys, and warpgroup 1 those of values, into slots that they
share. After the scores of tile i, both warpgroups have read the keys and values of tile i - 1, as the turns say: so no
other barrier is needed before a copy overwrites them.

The softmax runs in base 2. Queries that are rotated here, in shared memory, are multiplied by the scale and log2(e).
Otherwise, the scores are multiplied by them.
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

from ..gpu.mosaic import WARPGROUP, WGMMA, Array, Index, Machine, Ref, barriers, tiles
from .form_gpu import HOPPER, LOG2_E, WARPGROUPS, Form, TileList, columns_of
from .scores_gpu import Scores, shared

LOWEST = float(np.finfo(np.float32).min)
_ROWS = HOPPER.warpgroup_rows


def _kernel(form: Form, on: Machine, kinds: tuple[bool, bool], names: tuple[str, ...], *refs: Ref) -> None:
    given = dict(zip(names, refs, strict=False))
    out, lse, queries, keys, values, sums, q_ready, k_ready, v_ready, turns, *apart = refs[len(names) :]
    warpgroup, head, batch = (lax.axis_index(name) for name in (WARPGROUP, "head", "batch"))
    row = form.rows - 1 - lax.axis_index("row")  # a causal mask has its longest rows at the end: they begin first
    lists = shared(given["rows"], batch)
    first, full, visited = (given["rows"][lists, row, place] for place in range(3))
    start = row * form.block + warpgroup * _ROWS
    own_rows = pl.ds(start, _ROWS)
    own = queries.at[warpgroup]

    def fetch(step: Index, slot: Index) -> None:
        """Starts the copy of this warpgroup's part of a tile: keys or values."""
        place = pl.ds(given["columns"][lists, first + step] * form.kv_tile, form.kv_tile)
        kv_head = lax.div(head, np.int32(form.heads // form.kv_heads))

        @pl.when(warpgroup == 0)
        def fetch_keys() -> None:
            plgpu.copy_gmem_to_smem(given["k"].at[batch, place, kv_head], keys.at[slot], k_ready.at[slot])

        @pl.when(warpgroup == 1)
        def fetch_values() -> None:
            plgpu.copy_gmem_to_smem(given["v"].at[batch, place, kv_head], values.at[slot], v_ready.at[slot])

    plgpu.copy_gmem_to_smem(given["q"].at[batch, own_rows, head], own, q_ready.at[warpgroup])
    for slot in range(form.slots):
        pl.when(slot < visited)(functools.partial(fetch, slot, slot))
    plgpu.barrier_wait(q_ready.at[warpgroup])
    if form.rotates:
        rotate(form, on, own, *(given[name].at[shared(given[name], batch), own_rows] for name in ("cos", "sin")))

    @pl.when((warpgroup == 1) & (visited > 0))
    def begin() -> None:
        plgpu.barrier_wait(turns.at[1])

    def visit(masked: bool, step: Index, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        peak, total, mixed = state
        slot = lax.rem(step, np.int32(form.slots))
        plgpu.barrier_wait(k_ready.at[slot])
        score = on.multiplied(own, keys.at[slot])
        plgpu.barrier_arrive(turns.at[1 - warpgroup])

        @pl.when((step > 0) & (step + (form.slots - 1) < visited))
        def refill() -> None:
            fetch(step + (form.slots - 1), lax.rem(step - 1, np.int32(form.slots)))

        key = given["columns"][lists, first + step] * form.kv_tile
        tile = Scores(form, on, given, batch, head, start, key, _ROWS, form.kv_tile)
        score, factor = tile.scores(score, masked), np.float32(tile.rest)
        highest = jnp.maximum(peak, jnp.max(score, axis=1) * factor)
        weight = jnp.exp2(score * factor - on.across(highest, form.kv_tile))
        fade = jnp.exp2(peak - highest)
        total = total * fade + jnp.sum(weight, axis=1)
        mixed = mixed * on.across(fade, form.value_width)
        state = (highest, total, mixed)
        # The weights are ready before this warpgroup takes its turn.
        (highest, total, mixed), weight = lax.optimization_barrier((state, weight.astype(form.dtype)))
        plgpu.barrier_wait(v_ready.at[slot])
        plgpu.barrier_wait(turns.at[warpgroup])
        return highest, total, on.added(mixed, weight, values.at[slot])

    state = (
        on.filled((_ROWS,), LOWEST),
        on.filled((_ROWS,), 0),
        on.filled((_ROWS, form.value_width), 0),
    )
    has_full, has_partial = kinds
    if has_full:
        state = lax.fori_loop(np.int32(0), full, functools.partial(visit, False), state)
    if has_partial:
        state = lax.fori_loop(full, visited, functools.partial(visit, True), state)
    peak, total, mixed = state

    @pl.when((warpgroup == 0) & (visited > 0))
    def end() -> None:
        plgpu.barrier_arrive(turns.at[1])

    if "sinks" in given:
        sink = given["sinks"][head] * np.float32(LOG2_E)
        top = jnp.maximum(peak, sink)
        fade = jnp.exp2(peak - top)
        peak, total, mixed = top, total * fade + jnp.exp2(sink - top), mixed * on.across(fade, form.value_width)
    seen = total != 0  # also if it is NaN
    divisor = jnp.where(seen, total, 1.0)
    result = apart[0].at[warpgroup] if apart else own
    result[...] = (mixed * on.across(1.0 / divisor, form.value_width)).astype(form.dtype)
    sums.at[warpgroup][...] = jnp.where(seen, peak * np.float32(1 / LOG2_E) + jnp.log(divisor), -jnp.inf)
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(result, out.at[batch, own_rows, head])
    plgpu.copy_smem_to_gmem(sums.at[warpgroup], lse.at[batch, head, own_rows])
    plgpu.wait_smem_to_gmem(0)


def rotate(form: Form, on: Machine, rows: Ref, cos: Ref, sin: Ref) -> None:
    """Rotates queries (64, width) in shared memory, and multiplies them by the factor of the scores."""
    factor, size = np.float32(form.factor), min(64, form.half)
    for start in range(0, form.half, size):  # in parts, which leave room in the registers
        first, second = (rows.at[:, pl.ds(half + start, size)] for half in (0, form.half))
        x, y = (on.load(part, WGMMA).astype(jnp.float32) for part in (first, second))
        c, s = (on.load(table.at[:, pl.ds(start, size)], WGMMA, is_shared=False) for table in (cos, sin))
        first[...] = ((x * c - y * s) * factor).astype(form.dtype)
        second[...] = ((y * c + x * s) * factor).astype(form.dtype)
    plgpu.commit_smem()


def forward(form: Form, visited: TileList, operands: dict[str, Array], on: Machine) -> tuple[Array, Array]:
    """(out, lse): (B, queries, H, value_width) in the type of q, and (B, H, queries) float32.

    The operands are laid out as `layout_gpu.read` says.
    """
    apart = form.value_width != form.width
    scratch = (
        tiles((WARPGROUPS, _ROWS, form.width), form.dtype, form.columns),
        *fetched(form),
        plgpu.SMEM((WARPGROUPS, _ROWS), jnp.float32),
        *map(barriers, (WARPGROUPS, form.slots, form.slots, WARPGROUPS)),
        *([tiles((WARPGROUPS, _ROWS, form.value_width), form.dtype, columns_of(form.value_width))] if apart else []),
    )
    return launch(_kernel, form, visited, operands, on, scratch)


def fetched(form: Form) -> tuple[Any, Any]:
    """Shared memory for the tiles of keys, and for those of values."""
    return (
        tiles((form.slots, form.kv_tile, form.width), form.dtype, form.columns),
        tiles((form.slots, form.kv_tile, form.value_width), form.dtype, columns_of(form.value_width)),
    )


def launch(
    kernel: Callable[..., None],
    form: Form,
    visited: TileList,
    operands: dict[str, Array],
    on: Machine,
    scratch: Sequence[Any],
) -> tuple[Array, Array]:
    """Runs a forward kernel, of Hopper or of Blackwell: (out, lse) as in `forward`.

    The kernel takes references to the operands, to the results, and to its `scratch` memory.
    """
    operands = {**operands, "columns": jnp.asarray(visited.columns), "rows": jnp.asarray(visited.rows)}
    call = on.kernel(
        functools.partial(kernel, form, on, visited.kinds, tuple(operands)),
        results=[
            jax.ShapeDtypeStruct((form.batch, form.queries, form.heads, form.value_width), form.dtype),
            jax.ShapeDtypeStruct((form.batch, form.heads, form.queries), jnp.float32),
        ],
        scratch=scratch,
        grid={"row": form.rows, "head": form.heads, "batch": form.batch},
        warpgroups=form.warpgroups,
        name="ropegen_attend",
    )
    out, lse = call(*operands.values())
    return out, lse
