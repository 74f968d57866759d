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

With more than 128 features of values, the weighted values of one warpgroup take 256 columns, and a block has one warpgroup
with 128 queries. There is room for two tiles of 64 scores, for the weights of one, and for 192 features of the queries, which
then pass no more through shared memory. The next scores are computed during the softmax:

        tensor core    scores 0, scores 1 | values 0, scores 2 | values 1, scores 3 | ...
        warpgroup                | softmax 0      | softmax 1          | softmax 2 ...

In registers, a thread holds a row of scores. The softmax runs in base 2. Its highest score of a row stays what it is until a
score is larger by more than `_GROWTH`: until then, no weight is larger than 2 to that power. Only if it changes for any row of
the warpgroup, the weighted values are multiplied by what is left of them.

No warpgroup only fetches. Warpgroup 0 starts the copies of keys, and the last one those of values, when the products of all
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

from ..gpu.mosaic import STORED, WARPGROUP, Array, Index, Machine, Ref, barriers, tiles
from .exponential_gpu import power_of_two
from .form_gpu import BLACKWELL, COLUMNS, LOG2_E, WARPGROUPS, Form, TileList, columns_of
from .kernel_gpu import LOWEST, fetched, launch, rotate
from .scores_gpu import Scores, shared

_ROWS = BLACKWELL.warpgroup_rows
_GROWTH = 8.0
# The columns of the tensor core's memory for the weighted values of a warpgroup, if there are two, and the tiles of scores.
_SUMS, _TILES = BLACKWELL.most_in_two, 2
# The features of queries that fit in the tensor core's memory beside the weighted values, scores and weights of 64 keys.
_HELD = 192
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
        for number in range(form.warpgroups):
            pl.when(warpgroup == number)(functools.partial(run, number))


def _weights(form: Form, on: Machine, exponents: Array, masked: bool) -> Array:
    """2 to the powers of the `exponents`. In a full tile, a polynomial computes some columns, and relieves the slower unit."""
    weights, count = jnp.exp2(exponents), form.polynomials(masked)
    if not count:
        return weights
    # The compiler knows the columns, and computes each weight in one of the two ways.
    is_polynomial = lax.rem(on.iota((_ROWS, _PART), 1), np.int32(COLUMNS)) < count
    return jnp.where(is_polynomial, power_of_two(exponents, _DEGREES[form.dtype.name]), weights)


def _places(form: Form, on: Machine) -> tuple[int, int]:
    """How many memories the warpgroups have where two kinds of values share one, and how many warpgroups share each.

    The interpreter looks for races in such a memory as a whole, so there each warpgroup has one of its own.
    """
    return (form.warpgroups, 1) if on.interprets else (1, form.warpgroups)


def _scores(form: Form, on: Machine) -> list[Any]:
    """The tensor core's memory for two tiles of scores, and for weights.

    Of two warpgroups, each has a tile of scores, and its weights lie in the same place. One warpgroup has two tiles of
    scores, weights in a place of their own, and features of its queries.
    """
    places, shares = _places(form, on)
    if form.warpgroups == 1:
        return [
            plgpu.TMEM((_ROWS, _TILES * form.kv_tile), jnp.float32),
            plgpu.TMEM((_ROWS, form.kv_tile), form.dtype, packed=True),
            plgpu.TMEM((_ROWS, _held(form)), form.dtype, packed=True),
        ]
    scores = plgpu.TMEM((_ROWS, shares * form.kv_tile), jnp.float32)
    # A column of scores has room for two weights.
    weights = plgpu.TMEM((_ROWS, shares * 2 * form.kv_tile), form.dtype, packed=True)
    return [plgpu.RefUnion(scores, weights)] * places


def _held(form: Form) -> int:
    """The features of queries that lie in the tensor core's memory, if there is one warpgroup."""
    return min(form.width, _HELD) // form.columns * form.columns


def _queries(form: Form, on: Machine) -> list[Any]:
    """Shared memory for queries, and in the same place for the output."""
    places, shares = _places(form, on)
    queries = tiles((shares, _ROWS, form.width), form.dtype, form.columns)
    if form.width == form.value_width:
        return [queries] * places
    output = tiles((shares, _ROWS, form.value_width), form.dtype, columns_of(form.value_width))
    return [plgpu.RefUnion(queries, output)] * places


def _warpgroup(
    form: Form, on: Machine, kinds: tuple[bool, bool], given: dict[str, Ref], refs: tuple[Ref, ...], warpgroup: Index
) -> None:
    out, lse, keys, values, numbers, q_ready, k_ready, v_ready, k_read, v_read, scored, added, done, mixed = refs[:14]
    queries, score_memory = refs[14:]
    is_pair = form.warpgroups == WARPGROUPS
    is_first, is_last = (True, True) if not is_pair else (warpgroup == 0, warpgroup == 1)
    head, batch = (lax.axis_index(name) for name in ("head", "batch"))
    row = form.rows - 1 - lax.axis_index("row")  # a causal mask has its longest rows at the end: they begin first
    lists = shared(given["rows"], batch)
    first, full, visited = (given["rows"][lists, row, place] for place in range(3))
    start = row * form.block + warpgroup * _ROWS
    own_rows = pl.ds(start, _ROWS)
    growths, scales = (numbers.at[warpgroup, place] for place in range(2))
    place, share = (warpgroup, 0) if on.interprets else (0, warpgroup)
    both = queries[place]
    own, result = (each.at[share] for each in (both if form.width != form.value_width else (both, both)))

    all_scores, all_weights, *held = score_memory[place] if is_pair else score_memory

    def place_of(step: Index) -> tuple[Index, Index]:
        """Which scores are those of a tile, in their memory and of the barriers."""
        if is_pair:
            return share, warpgroup
        tile = lax.rem(step, np.int32(_TILES))
        return tile, tile

    def scores(step: Index, column: int, width: int) -> Ref:
        return all_scores.at[:, pl.ds(place_of(step)[0] * form.kv_tile + column, width)]

    def weights(column: int, width: int) -> Ref:
        return all_weights.at[:, pl.ds((share * (2 * form.kv_tile) if is_pair else 0) + column, width)]

    def sums(column: int, width: int) -> Ref:
        return mixed.at[:, pl.ds(warpgroup * _SUMS + column, width)]

    def copied(name: str, step: Index) -> Ref:
        """The tile of keys or values that is visited in a step."""
        rows = pl.ds(given["columns"][lists, first + step] * form.kv_tile, form.kv_tile)
        return given[name].at[batch, rows, lax.div(head, np.int32(form.heads // form.kv_heads))]

    def fetch_keys(step: Index, slot: Index) -> None:
        plgpu.copy_gmem_to_smem(copied("k", step), keys.at[slot], k_ready.at[slot])

    def fetch_values(step: Index, slot: Index) -> None:
        plgpu.copy_gmem_to_smem(copied("v", step), values.at[slot], v_ready.at[slot])

    def multiply(step: Index) -> None:
        """Starts the product that computes the scores of a tile."""
        slot, (_, barrier) = lax.rem(step, np.int32(form.slots)), place_of(step)
        plgpu.barrier_wait(k_ready.at[slot])
        product, done_at = scores(step, 0, form.kv_tile), scored.at[barrier]
        if is_pair:
            plgpu.tcgen05_mma(product, own, keys.at[slot].transpose((1, 0)), done_at, accumulate=False)
            plgpu.tcgen05_commit_arrive(k_read.at[slot])
            return
        count = _held(form)
        rest = form.width - count

        def factor(first: int, size: int) -> Ref:
            return keys.at[slot, :, pl.ds(first, size)].transpose((1, 0))

        plgpu.tcgen05_mma(product, held[0], factor(0, count), None if rest else done_at, accumulate=False)
        if rest:
            plgpu.tcgen05_mma(product, own.at[:, pl.ds(count, rest)], factor(count, rest), done_at)

    plgpu.copy_gmem_to_smem(given["q"].at[batch, own_rows, head], own, q_ready.at[warpgroup])
    for slot in range(form.slots):
        pl.when(is_first & (slot < visited))(functools.partial(fetch_keys, slot, slot))
        pl.when(is_last & (slot < visited))(functools.partial(fetch_values, slot, slot))
    plgpu.barrier_wait(q_ready.at[warpgroup])
    if form.rotates:
        angles = [given[name].at[shared(given[name], batch)] for name in ("cos", "sin")]
        for at in range(0, _ROWS, _ROTATED):
            rows = pl.ds(start + at, _ROTATED)
            rotate(form, on, own.at[pl.ds(at, _ROTATED)], *(table.at[rows] for table in angles))
    if not is_pair:
        for column in range(0, _held(form), form.columns):
            part = pl.ds(column, form.columns)
            plgpu.async_store_tmem(held[0].at[:, part], on.load(own.at[:, part], STORED))
        plgpu.commit_tmem()
    pl.when(visited > 0)(functools.partial(multiply, np.int32(0)))
    step_width = columns_of(form.value_width)
    narrow = min(32, step_width)

    def visit(masked: bool, step: Index, state: tuple[Array, Array]) -> tuple[Array, Array]:
        peak, total = state
        slot = lax.rem(step, np.int32(form.slots))
        key = given["columns"][lists, first + step] * form.kv_tile
        if not is_pair:
            pl.when(step + 1 < visited)(functools.partial(multiply, step + 1))
        plgpu.barrier_wait(scored.at[place_of(step)[1]])
        if not is_pair:
            pl.when(step + form.slots < visited)(functools.partial(fetch_keys, step + form.slots, slot))
        columns = range(0, form.kv_tile, _PART)
        products = [plgpu.async_load_tmem(scores(step, column, _PART), layout=on.matrix) for column in columns]
        plgpu.wait_load_tmem()
        blocks = [Scores(form, on, given, batch, head, start, key + column, _ROWS, _PART) for column in columns]
        tile_scores = [tile.scores(x, masked) for tile, x in zip(blocks, products, strict=True)]
        factor = np.float32(blocks[0].rest)
        top = functools.reduce(jnp.maximum, (jnp.max(score, axis=1) for score in tile_scores)) * factor
        top = jnp.maximum(peak, top)
        growth = top - peak
        highest = jnp.where(growth <= _GROWTH, peak, top)  # NaN stays, so no exponent of a polynomial is far above 0
        growths[...] = growth
        is_outgrown = (step > 0) & (on.largest(growths) > _GROWTH)
        fade = jnp.exp2(peak - highest)
        total = total * fade
        parts: list[Array] = []
        for score in tile_scores:
            part = _weights(form, on, score * factor - on.across(highest, _PART), masked)
            total = total + jnp.sum(part, axis=1)
            parts.append(part.astype(form.dtype))
        last = lax.rem(step - 1, np.int32(form.slots))
        is_followed = (step > 0) & (step + (form.slots - 1) < visited)
        if not is_pair:
            # The weights are ready before this warpgroup waits for the values of the tile before.
            (total, fade), parts = lax.optimization_barrier(((total, fade), parts))
            pl.when(step > 0)(lambda: plgpu.barrier_wait(added.at[warpgroup]))
            pl.when(is_followed)(functools.partial(fetch_values, step + (form.slots - 1), last))
        for column, part in zip(columns, parts, strict=True):
            plgpu.async_store_tmem(weights(column, _PART), part)

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
        if is_pair:
            plgpu.tcgen05_commit_arrive(v_read.at[slot])

            @pl.when((warpgroup == 1) & is_followed)
            def refill_values() -> None:
                plgpu.barrier_wait(v_read.at[last])
                fetch_values(step + (form.slots - 1), last)

            plgpu.barrier_wait(added.at[warpgroup])
            pl.when(step + 1 < visited)(functools.partial(multiply, step + 1))

            @pl.when((warpgroup == 0) & (step + form.slots < visited))
            def refill_keys() -> None:
                plgpu.barrier_wait(k_read.at[slot])
                fetch_keys(step + form.slots, slot)

        return highest, total

    state = on.filled((_ROWS,), LOWEST), on.filled((_ROWS,), 0)
    has_full, has_partial = kinds
    if has_full:
        state = lax.fori_loop(np.int32(0), full, functools.partial(visit, False), state)
    if has_partial:
        state = lax.fori_loop(full, visited, functools.partial(visit, True), state)
    peak, total = state

    if not is_pair:
        pl.when(visited > 0)(lambda: plgpu.barrier_wait(added.at[warpgroup]))

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
    if is_pair and form.width != form.value_width:  # the output of one warpgroup may overwrite queries of the other
        plgpu.barrier_arrive(done.at[0])
        plgpu.barrier_wait(done.at[0])
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
    warpgroups = form.warpgroups
    scratch = (
        *fetched(form),
        plgpu.SMEM((warpgroups, 2, _ROWS), jnp.float32),
        *map(barriers, (warpgroups, form.slots, form.slots)),
        *(barriers(form.slots, warpgroups, of_products=True) for _ in range(2)),
        *(barriers(count, of_products=True) for count in (_TILES, warpgroups)),
        barriers(1, warpgroups),
        plgpu.TMEM((_ROWS, WARPGROUPS * _SUMS), jnp.float32),
        _queries(form, on),
        _scores(form, on),
    )
    return launch(_kernel, form, visited, operands, on, scratch)
