"""The forward kernel of attention for Blackwell: two warpgroups share the tiles of keys that they multiply.

A block has 256 queries of one head. Each of its two warpgroups computes 128 of them, for one tile of keys after the
other. The tensor core has a memory of its own, from which it reads and into which it writes while warpgroups do other
work. A warpgroup starts a product, and a barrier says when it is done:

        tensor core    scores 0, 0' |                | values 0, scores 1   | values 0', scores 1' | ...
        warpgroup 0                 | softmax 0      |                      | softmax 1            | ...
        warpgroup 1                 |    softmax 0'                         |                      | softmax 1' ...

The tensor core computes what it is given in order. So if the softmax of one warpgroup is done first, the products of the
other come later, and from then on the warpgroups take turns by themselves.

The tensor core's memory has 512 columns of 128 rows of 32 bits. Each warpgroup has 128 of them for its weighted values. For
its scores, it has as many as a tile has keys. The weights lie where the scores were, two in 32 bits. So the next scores are
computed when the tensor core has read the weights.

In registers, a thread holds a row of scores. The softmax runs in base 2. Its highest score of a row stays what it is until a
score is larger by more than `_GROWTH`: until then, no weight is larger than 2 to that power. Only if it changes for any row of
the warpgroup, the weighted values are multiplied by what is left of them.

No warpgroup only fetches. Warpgroup 0 starts the copies of keys, and warpgroup 1 those of values, when the products of both
have read what they overwrite.
"""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu

from ..gpu.mosaic import STORED, WARPGROUP, Array, Index, Machine, Ref, barriers
from .exponential_gpu import power_of_two
from .form_gpu import BLACKWELL, COLUMNS, LOG2_E, WARPGROUPS, Form, TileList, columns_of
from .kernel_gpu import LOWEST, launch, rotate
from .scores_gpu import Scores, shared

_ROWS = BLACKWELL.warpgroup_rows
_GROWTH = 8.0
# The scores that are computed at once.
_PART = 64
# The degrees of the polynomial. Its error is 2^-13.2 and 2^-18.4; weights are rounded to 2^-9 and 2^-12 of themselves.
_DEGREES = {"bfloat16": 3, "float16": 4}
# Rows that are rotated at once, as a tile of Hopper's tensor core has them.
_ROTATED = 64


def _kernel(form: Form, on: Machine, kinds: tuple[bool, bool], names: tuple[str, ...], *refs: Ref) -> None:
    given = dict(zip(names, refs, strict=False))
    run = functools.partial(_warpgroup, form, on, kinds, given, refs[len(names) :])
    warpgroup = lax.axis_index(WARPGROUP)
    if not on.interprets:
        run(warpgroup)
    else:
        for number in range(WARPGROUPS):
            pl.when(warpgroup == number)(functools.partial(run, number))


def _weights(form: Form, on: Machine, exponents: Array, masked: bool) -> Array:
    """2 to the powers of the `exponents`. In a full tile, a polynomial computes some columns, and relieves the slower unit."""
    weights = jnp.exp2(exponents)
    if masked or not form.polynomials:
        return weights
    # The compiler knows the columns, and computes each weight in one of the two ways.
    is_polynomial = lax.rem(on.iota(exponents.shape, 1), np.int32(COLUMNS)) < form.polynomials
    return jnp.where(is_polynomial, power_of_two(exponents, _DEGREES[form.dtype.name]), weights)


def _memory(form: Form, on: Machine) -> list[Any]:
    """The tensor core's memory for scores, and for weights in the same place.

    The interpreter looks for races in such a place as a whole, so there each warpgroup has one of its own.
    """
    places, shares = (WARPGROUPS, 1) if on.interprets else (1, WARPGROUPS)
    scores = plgpu.TMEM((_ROWS, shares * form.kv_tile), jnp.float32)
    # A column of scores has room for two weights.
    weights = plgpu.TMEM((_ROWS, shares * 2 * form.kv_tile), form.dtype, packed=True)
    return [plgpu.RefUnion(scores, weights)] * places


def _warpgroup(
    form: Form, on: Machine, kinds: tuple[bool, bool], given: dict[str, Ref], refs: tuple[Ref, ...], warpgroup: Index
) -> None:
    out, lse, queries, keys, values, numbers, q_ready, k_ready, v_ready, k_read, v_read, scored, added, mixed = refs[
        :14
    ]
    memory, *apart = refs[14:]
    head, batch = (lax.axis_index(name) for name in ("head", "batch"))
    row = form.rows - 1 - lax.axis_index("row")  # a causal mask has its longest rows at the end: they begin first
    lists = shared(given["rows"], batch)
    first, full, visited = (given["rows"][lists, row, place] for place in range(3))
    start = row * BLACKWELL.block + warpgroup * _ROWS
    own_rows = pl.ds(start, _ROWS)
    own, (growths, scales) = queries.at[warpgroup], (numbers.at[warpgroup, place] for place in range(2))
    place, share = (warpgroup, 0) if on.interprets else (0, warpgroup)
    all_scores, all_weights = memory[place]

    def scores(column: int, width: int) -> Ref:
        return all_scores.at[:, pl.ds(share * form.kv_tile + column, width)]

    def weights(column: int, width: int) -> Ref:
        return all_weights.at[:, pl.ds(share * (2 * form.kv_tile) + column, width)]

    def sums(column: int, width: int) -> Ref:
        return mixed.at[:, pl.ds(warpgroup * BLACKWELL.most_width + column, width)]

    def fetch(step: Index, slot: Index) -> None:
        """Starts the copy of this warpgroup's part of a tile: keys or values."""
        rows = pl.ds(given["columns"][lists, first + step] * form.kv_tile, form.kv_tile)
        kv_head = lax.div(head, np.int32(form.heads // form.kv_heads))

        @pl.when(warpgroup == 0)
        def fetch_keys() -> None:
            plgpu.copy_gmem_to_smem(given["k"].at[batch, rows, kv_head], keys.at[slot], k_ready.at[slot])

        @pl.when(warpgroup == 1)
        def fetch_values() -> None:
            plgpu.copy_gmem_to_smem(given["v"].at[batch, rows, kv_head], values.at[slot], v_ready.at[slot])

    def multiply(step: Index) -> None:
        """Starts the product that computes the scores of a tile."""
        slot = lax.rem(step, np.int32(form.slots))
        plgpu.barrier_wait(k_ready.at[slot])
        plgpu.tcgen05_mma(
            scores(0, form.kv_tile), own, keys.at[slot].transpose((1, 0)), scored.at[warpgroup], accumulate=False
        )
        plgpu.tcgen05_commit_arrive(k_read.at[slot])

    plgpu.copy_gmem_to_smem(given["q"].at[batch, own_rows, head], own, q_ready.at[warpgroup])
    for slot in range(form.slots):
        pl.when(slot < visited)(functools.partial(fetch, slot, slot))
    plgpu.barrier_wait(q_ready.at[warpgroup])
    if form.rotates:
        angles = [given[name].at[shared(given[name], batch)] for name in ("cos", "sin")]
        for at in range(0, _ROWS, _ROTATED):
            rows = pl.ds(start + at, _ROTATED)
            rotate(form, on, own.at[pl.ds(at, _ROTATED)], *(table.at[rows] for table in angles))
    pl.when(visited > 0)(functools.partial(multiply, np.int32(0)))
    step_width = columns_of(form.value_width)
    narrow = min(32, step_width)

    def visit(masked: bool, step: Index, state: tuple[Array, Array]) -> tuple[Array, Array]:
        peak, total = state
        slot = lax.rem(step, np.int32(form.slots))
        key = given["columns"][lists, first + step] * form.kv_tile
        plgpu.barrier_wait(scored.at[warpgroup])
        columns = range(0, form.kv_tile, _PART)
        products = [plgpu.async_load_tmem(scores(column, _PART), layout=on.matrix) for column in columns]
        plgpu.wait_load_tmem()
        blocks = [Scores(form, on, given, batch, head, start, key + column, _ROWS, _PART) for column in columns]
        tile_scores = [tile.scores(x, masked) for tile, x in zip(blocks, products, strict=True)]
        factor = np.float32(blocks[0].rest)
        top = functools.reduce(jnp.maximum, (jnp.max(score, axis=1) for score in tile_scores)) * factor
        top = jnp.maximum(peak, top)
        growth = top - peak
        highest = jnp.where(growth > _GROWTH, top, peak)
        growths[...] = growth
        is_outgrown = (step > 0) & (on.largest(growths) > _GROWTH)
        fade = jnp.exp2(peak - highest)
        total = total * fade
        for column, score in zip(columns, tile_scores, strict=True):
            weight = _weights(form, on, score * factor - on.across(highest, _PART), masked)
            total = total + jnp.sum(weight, axis=1)
            plgpu.async_store_tmem(weights(column, _PART), weight.astype(form.dtype))

        @pl.when(is_outgrown)
        def shrink() -> None:
            for column in range(0, form.value_width, narrow):
                before = plgpu.async_load_tmem(sums(column, narrow), layout=on.matrix)
                plgpu.wait_load_tmem()
                plgpu.async_store_tmem(sums(column, narrow), before * on.across(fade, narrow))

        plgpu.commit_tmem()
        plgpu.barrier_wait(v_ready.at[slot])
        plgpu.tcgen05_mma(
            sums(0, form.value_width),
            weights(0, form.kv_tile),
            values.at[slot],
            added.at[warpgroup],
            accumulate=step > 0,
        )
        plgpu.tcgen05_commit_arrive(v_read.at[slot])

        @pl.when((warpgroup == 1) & (step > 0) & (step + (form.slots - 1) < visited))
        def refill_values() -> None:
            last = lax.rem(step - 1, np.int32(form.slots))
            plgpu.barrier_wait(v_read.at[last])
            fetch(step + (form.slots - 1), last)

        plgpu.barrier_wait(added.at[warpgroup])
        pl.when(step + 1 < visited)(functools.partial(multiply, step + 1))

        @pl.when((warpgroup == 0) & (step + form.slots < visited))
        def refill_keys() -> None:
            plgpu.barrier_wait(k_read.at[slot])
            fetch(step + form.slots, slot)

        return highest, total

    state = on.filled((_ROWS,), LOWEST), on.filled((_ROWS,), 0)
    has_full, has_partial = kinds
    if has_full:
        state = lax.fori_loop(np.int32(0), full, functools.partial(visit, False), state)
    if has_partial:
        state = lax.fori_loop(full, visited, functools.partial(visit, True), state)
    peak, total = state

    @pl.when(visited == 0)
    def nothing() -> None:
        for column in range(0, form.value_width, step_width):
            plgpu.async_store_tmem(sums(column, step_width), on.filled((_ROWS, step_width), 0))
        plgpu.commit_tmem()

    left = on.filled((_ROWS,), 1)
    if "sinks" in given:
        sink = given["sinks"][head] * np.float32(LOG2_E)
        top = jnp.maximum(peak, sink)
        left = jnp.exp2(peak - top)
        peak, total = top, total * left + jnp.exp2(sink - top)
    seen = total != 0  # also if it is NaN
    divisor = jnp.where(seen, total, 1.0)
    # A row is in one thread here, and in four where the output is written: the number that it is multiplied by goes there
    # through shared memory.
    sums_of_exponentials = growths
    sums_of_exponentials[...] = jnp.where(seen, peak * np.float32(1 / LOG2_E) + jnp.log(divisor), -jnp.inf)
    scales[...] = left / divisor
    scale = on.load(scales, STORED.reduce(1), is_shared=False)
    result = apart[0].at[warpgroup] if apart else own
    for column in range(0, form.value_width, step_width):
        mean = plgpu.async_load_tmem(sums(column, step_width), layout=STORED) * on.across(scale, step_width, STORED)
        result.at[:, pl.ds(column, step_width)][...] = mean.astype(form.dtype)
    plgpu.commit_smem()
    plgpu.copy_smem_to_gmem(result, out.at[batch, own_rows, head])
    plgpu.copy_smem_to_gmem(sums_of_exponentials, lse.at[batch, head, own_rows])
    plgpu.wait_smem_to_gmem(0)


def forward(form: Form, visited: TileList, operands: dict[str, Array], on: Machine) -> tuple[Array, Array]:
    """(out, lse): (B, queries, H, value_width) in the type of q, and (B, H, queries) float32.

    The operands are laid out as `layout_gpu.read` says.
    """
    scratch = (
        plgpu.SMEM((WARPGROUPS, 2, _ROWS), jnp.float32),
        *map(barriers, (WARPGROUPS, form.slots, form.slots)),
        *(barriers(form.slots, WARPGROUPS, of_products=True) for _ in range(2)),
        *(barriers(WARPGROUPS, of_products=True) for _ in range(2)),
        plgpu.TMEM((_ROWS, WARPGROUPS * BLACKWELL.most_width), jnp.float32),
        _memory(form, on),
    )
    return launch(_kernel, form, visited, operands, on, _ROWS, scratch)
