"""The forward kernel of attention for Mosaic TPU: one grid step for each tile of scores that is not empty.

Scores are transposed: keys are in sublanes, and the rows (the queries of every head that shares a key head) are in
lanes. The running maximum and sum are then one row of lanes. They are reduced register by register and never across
lanes, and the log-sum-exp is dense in memory. The weighted values accumulate as (Dv, rows) and are transposed once per
row of tiles.

A step has two halves. One writes the products of a tile to VMEM as scores, with the maximum of each row. The other
multiplies the weights of a tile by its values. If a head has several tiles, a step computes the scores of one tile and
applies the weights of the tile before it. Then neither half waits for the other, and the grid has one step more, in which
there are only weights. The first step has only scores.

A tile has blocks of 256 queries and 256 keys, or more. The mask says which blocks of a partial tile are empty; these are
not computed. The kernel has a body of straight-line code for each pair of patterns of blocks that follow each other
(`TileMap.bodies`), so a full tile pays nothing for it.

The softmax runs in base 2. Scale and log2(e) are folded into the queries if these pass through float32 on their way
(rotated or float32 queries). Otherwise, the scores are multiplied by them.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from ropegen import masks
from ropegen.target import Products

from ..tpu.mosaic import LANES, Array, Index, Ref, dot, result_type, vmem_limit
from .form_tpu import LOG2_E, STRAIGHT, Form
from .layout_tpu import AXES, TABLES, block, spec
from .scores_tpu import Scores
from .tile_map_tpu import BEGINS, COMPUTES, ENDS, VOID, Body, Pattern, TileMap, joined

_LOWEST = float(np.finfo(np.float32).min)


def order(
    products: Products, seen: Sequence[Sequence[int]], applied: Sequence[Sequence[int]]
) -> list[tuple[list[tuple[int, int]], list[tuple[int, int]]]]:
    """The order in which the matrix unit gets products and weights, as (block of rows, first key).

    `seen` has the keys whose products each block of rows needs, and `applied` those whose weights it applies.

    libtpu keeps this order. Which order needs the fewest bundles and spills differs from chip to chip; `benchmarks/tpu.py`
    measures it.
    """

    def by_block(blocks: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
        return [(block, key) for block, keys in enumerate(blocks) for key in keys]

    def by_key(blocks: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
        return sorted(by_block(blocks), key=lambda place: place[::-1])

    def halves(places: list[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        half = len(places) // 2
        return places[:half], places[half:]

    if products == "in turns":  # the products of one half wait while the weights of the other are computed
        return list(zip(halves(by_key(seen)), halves(by_block(applied)), strict=True))
    return [((by_key if products == "by key" else by_block)(seen), by_key(applied))]


def angle_tables(form: Form, given: dict[str, Ref]) -> list[Array]:
    """The tables that rotate the queries of a tile; empty if the kernel does not rotate them."""
    return [] if form.rotation_inside is None else [given[name][0] for name in form.rotation_inside.names(TABLES)]


def gather_queries(form: Form, given: dict[str, Ref], queries: Ref) -> None:
    """Writes the rows of a tile as the products read them: (chunks, chunk, width), rotated and scaled if `is_wide`."""
    tables = angle_tables(form, given)
    for head in range(form.group):
        x = given["q"][0, :, head * form.width : (head + 1) * form.width]
        if form.is_wide and not form.is_prepared:
            x = x.astype(jnp.float32)
            x = x if form.rotation_inside is None else form.rotation_inside.turned(x, tables)
            x = (x * np.float32(form.factor)).astype(form.dtype)
        gather(form, x, head, queries)


def gather(form: Form, x: Array, head: int, rows: Ref) -> None:
    """Writes the part of a tile that belongs to one head, (q_tile, width), to its place in rows (chunks, chunk, width)."""
    size = min(form.q_tile, form.chunk)
    for start in range(0, form.q_tile, size):
        chunk, place = divmod(head * form.q_tile + start, form.chunk)
        rows[chunk, place : place + size] = x[start : start + size]


def _kernel(form: Form, bodies: tuple[Body, ...], is_ahead: bool, names: tuple[str, ...], *refs: Ref) -> None:
    given = dict(zip(names, refs[3 : 3 + len(names)], strict=True))
    out, lse, queries, made, highest, peaks, fades, shift, total, mixed = refs[3 + len(names) :]
    batch, head = pl.program_id(0), pl.program_id(1)
    at = form.place(batch, pl.program_id(2))
    row, column, todo = (ref[at] for ref in refs[:3])

    def forget() -> None:
        shift[...] = jnp.full(shift.shape, _LOWEST, jnp.float32)
        total[...] = jnp.zeros(total.shape, jnp.float32)
        mixed[...] = jnp.zeros(mixed.shape, jnp.float32)

    @pl.when((todo & BEGINS) != 0)
    def begin() -> None:
        gather_queries(form, given, queries)
        highest[...] = jnp.full(highest.shape, _LOWEST, jnp.float32)
        if not is_ahead:
            forget()

    def attend(now: Pattern, before: Pattern, offset: int, start: int, several: Index) -> None:
        """Attention of some chunks of rows over at most `STRAIGHT` keys of the tile.

        `now` has the classes of the blocks of the tile, and `before` of the tile whose weights are applied.
        """
        chunks = [several * form.together + n for n in range(form.together)]
        run, count = start // STRAIGHT, form.block_keys
        keys = range(start, min(start + STRAIGHT, form.kv_tile), count)
        classes = [
            [of_chunk(form, pattern, offset * form.together + n, form.together) for n in range(form.together)]
            for pattern in (now, before)
        ]
        seen, applied = (
            [[key for key in keys if of_rows[key // count] != masks.EMPTY] for of_rows in of_tile]
            for of_tile in classes
        )
        products: dict[tuple[int, int], Array] = {}
        gathered: dict[
            int, tuple[Array, Array, Array, Array | None]
        ] = {}  # maximum, factor of older sums, sum, weighted values

        def multiply(n: int, key: int) -> None:
            is_last = [(n, key)] == last
            size = count // 2 if is_last and form.products == "last in halves" and count > LANES else count
            pieces = [
                dot(given["k"][0, first : first + size, :], queries[chunks[n]], (1, 1))
                for first in range(key, key + count, size)
            ]
            products[n, key] = jnp.concatenate(pieces) if len(pieces) > 1 else pieces[0]

        def keep(n: int) -> None:
            chunk = chunks[n]
            before = highest[chunk]
            most: list[Array] = []
            for key in seen[n]:
                masked = classes[0][n][key // count] != masks.FULL
                score = Scores(form, given, batch, head, row, column, chunk, key, count).scores(
                    products[n, key], masked
                )
                made[chunk, key : key + count, :] = score
                most.append(jnp.max(score.reshape(count // 8, 8, form.chunk), axis=0))
            peak = jnp.maximum(before, jnp.max(functools.reduce(jnp.maximum, most), axis=0, keepdims=True))
            highest[chunk], peaks[run, chunk], fades[run, chunk] = peak, peak, jnp.exp2(before - peak)

        def weigh(n: int, key: int) -> None:
            chunk = chunks[n]
            if n not in gathered:
                peak, fade = peaks[run, chunk], fades[run, chunk]
                gathered[n] = peak, fade, total[chunk] * fade, None
            peak, fade, sums, values = gathered[n]
            weight = jnp.exp2(made[chunk, key : key + count, :] - peak[:1])
            sums = sums + jnp.sum(weight.reshape(count // 8, 8, form.chunk), axis=0)
            part = dot(given["v"][0, key : key + count, :], weight.astype(form.dtype), (0, 0))
            values = part if values is None else values + part
            gathered[n] = peak, fade, sums, values
            if key == applied[n][-1]:
                shift[chunk], total[chunk], mixed[chunk] = peak, sums, mixed[chunk] * fade[:1] + values

        turns = order(form.products, seen, applied)
        last = [block for multiplied, _ in turns for block in multiplied][-1:]
        for multiplied, weighed in turns:
            for block_and_key in multiplied:
                multiply(*block_and_key)
            for block_and_key in weighed if is_ahead else ():  # before new scores overwrite those that it reads
                weigh(*block_and_key)
        for n in range(form.together):
            if seen[n]:
                keep(n)
        for block_and_key in () if is_ahead else itertools.chain(*(weighed for _, weighed in turns)):
            weigh(*block_and_key)

    def visit(now: Pattern, before: Pattern) -> None:
        straight(form, functools.partial(attend, now, before), form.together)

    for code, now, before in bodies:
        pl.when((todo & COMPUTES) == code)(functools.partial(visit, now, before))
    if is_ahead:
        pl.when((todo & VOID) != 0)(forget)

    @pl.when((todo & ENDS) != 0)
    def end() -> None:
        for chunk in range(form.chunks):
            peak, gathered = shift[chunk][:1], mixed[chunk]
            divisor = jnp.sum(total[chunk], axis=0, keepdims=True)
            if "sinks" in given:
                sinks = given["sinks"][0, chunk] * np.float32(LOG2_E)
                top = jnp.maximum(peak, sinks)
                fade = jnp.exp2(peak - top)
                peak, divisor, gathered = top, divisor * fade + jnp.exp2(sinks - top), gathered * fade
            seen = divisor > 0
            divisor = jnp.where(seen, divisor, 1.0)
            logarithm = jnp.where(seen, (peak + jnp.log2(divisor)) * np.float32(1 / LOG2_E), -jnp.inf)
            turned = (gathered * (1.0 / divisor)).T.astype(form.output)
            size = min(form.q_tile, form.chunk)
            for place in range(0, form.chunk, size):
                member, start = divmod(chunk * form.chunk + place, form.q_tile)
                features = slice(member * form.value_width, (member + 1) * form.value_width)
                out[0, start : start + size, features] = turned[place : place + size]
                lse[0, 0, member : member + 1, start : start + size] = logarithm[:, place : place + size]
        if is_ahead:
            forget()


def straight(
    form: Form,
    body: Callable[[int, int, Index], None],
    together: int = 1,
    then: Callable[[], None] = lambda: None,
) -> None:
    """Calls `body(place in the code, first key, block of rows)` for the whole tile, as straight-line code of
    `form.unrolled(together)` blocks of rows, in a loop if there are more. A block has `together` chunks. The code ends with
    `then()`.
    """
    blocks, unrolled = form.chunks // together, form.unrolled(together)

    def several(index: Index, carry: None) -> None:
        for offset in range(unrolled):
            for start in range(0, form.kv_tile, STRAIGHT):
                body(offset, start, index * unrolled + offset)
        then()

    if blocks == unrolled:
        several(0, None)
    else:
        lax.fori_loop(0, blocks // unrolled, several, None)


def of_chunk(form: Form, pattern: Pattern, place: int, together: int = 1) -> tuple[int, ...]:
    """The classes of the blocks of keys for a chunk of rows, by its place in the code that `straight` makes.

    In a loop, the code is of several chunks; their classes are joined.
    """
    length = form.unrolled(together) * together
    rows = {chunk % len(pattern) for chunk in range(place, form.chunks, length)}
    return joined([(pattern[row],) for row in sorted(rows)])[0]


def works_ahead(steps: int) -> bool:
    """Whether a step computes the scores of one tile and applies the weights of the tile before it.

    steps: the tiles of a head. In libtpu's schedules, two tiles already take less time so on every chip.
    """
    return steps > 1


def forward(form: Form, tiles: TileMap, operands: dict[str, Array]) -> tuple[Array, Array]:
    """(out, lse): (B, queries, H * value_width) in the type of the output and (B, kv heads, group, queries) float32.

    The operands are laid out as `layout_tpu.laid_out` says, and the tables of angles are (B or 1, queries, width).
    """
    names = tuple(operands)
    is_ahead = works_ahead(tiles.steps)
    tiles = tiles.ahead() if is_ahead else tiles
    form = replace(form, stride=tiles.stride)
    bodies = tiles.bodies(is_ahead)
    specs = [spec(form, AXES[name], operands[name].shape, is_late=is_ahead and name == "v") for name in names]
    heads = form.kv_heads * form.group
    chunked = (form.chunks, 8, form.chunk)
    grid = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=3,
        grid=(form.batch, form.kv_heads, tiles.steps),
        in_specs=specs,
        out_specs=[
            block(
                form, (1, form.q_tile, form.group * form.value_width), lambda b, h, row, column: (b, row, h), is_ahead
            ),
            block(form, (1, 1, form.group, form.q_tile), lambda b, h, row, column: (b, h, 0, row), is_ahead),
        ],
        scratch_shapes=[
            pltpu.VMEM((form.chunks, form.chunk, form.width), form.dtype),
            pltpu.VMEM((form.chunks, form.kv_tile, form.chunk), jnp.float32),
            pltpu.VMEM(chunked, jnp.float32),
            pltpu.VMEM((form.runs, *chunked), jnp.float32),
            pltpu.VMEM((form.runs, *chunked), jnp.float32),
            pltpu.VMEM(chunked, jnp.float32),
            pltpu.VMEM(chunked, jnp.float32),
            pltpu.VMEM((form.chunks, form.value_width, form.chunk), jnp.float32),
        ],
    )
    call = pl.pallas_call(
        functools.partial(_kernel, form, bodies, is_ahead, names),
        grid_spec=grid,
        out_shape=[
            result_type((form.batch, form.queries, heads * form.value_width), form.output),
            result_type((form.batch, form.kv_heads, form.group, form.queries), jnp.float32),
        ],
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"), vmem_limit_bytes=vmem_limit(form.vmem)
        ),
        name="ropegen_attend",
    )
    out, lse = call(*tiles.prefetched, *operands.values())
    return out, lse
