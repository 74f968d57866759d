"""The backward kernel of attention for Mosaic TPU: dq, dk and dv in one visit of each tile that is not empty.

There is one kernel, and not one for dk and dv and another for dq. It computes the weights and their cotangents once,
with five products and one exponential for every score; two kernels would need seven and two. Tiles are visited as in
the forward pass, row after row. The cotangents of a row of queries accumulate in VMEM, as (D, rows), and are transposed
and rotated back once. The cotangents of keys and values accumulate in their float32 output blocks, which stay in VMEM
for a whole key head. These blocks need the same memory however many heads share the key head. Visiting the tiles by
keys instead would have to hold every query of the group.

If not all keys fit, there are several calls, one for each strip of keys. A strip adds to the dq of the strip before it,
in place. The order of additions never varies. XLA rotates the queries before the first strip and dq after the last one,
because every strip would do it again.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from ropegen import masks

from ..tpu.mosaic import Array, Index, Ref, dot, result_type, vmem_limit
from .form_tpu import LOG2_E, STRAIGHT, Form
from .kernel_tpu import angle_tables, gather, gather_queries, of_chunk, straight
from .layout_tpu import AXES, block, spec
from .scores_tpu import Scores
from .tile_map_tpu import BEGINS, COMPUTES, ENDS, NOW, Body, Kinds, Pattern, TileMap

# The estimate for this kernel includes more of the compiler's temporaries than the one for the forward kernel.
VMEM_SHARE_BACKWARD = 29 / 32


@dataclass(frozen=True, slots=True)
class Strip:
    """The columns of tiles that one call visits."""

    form: Form
    column: int
    columns: int
    adds: bool
    """Whether a strip before it has written dq."""
    is_last: bool
    finishes: bool
    """Whether dq is the cotangent of the operand, rotated back and in the kernel's dtype. Otherwise it is the float32
    cotangent of q as the scores read it.
    """
    gives_bias: bool
    """Whether the cotangents of all scores are written to memory, for a bias."""
    holds: bool = False
    """Whether the cotangents of keys and values accumulate in scratch memory, which the last step of a key head copies to
    memory and waits for. Output blocks take twice the memory, because they are copied while the next head runs.
    """

    @property
    def keys(self) -> int:
        return self.columns * self.form.kv_tile

    def streams(self, width: int) -> bool:
        """Whether the features of cotangents of keys pass through the matrix unit, which holds the weights of the scores.
        Then the cotangents are (width, keys), otherwise (keys, width).

        That takes fewer cycles if the features do not fill the columns of the matrix unit.
        """
        return width % self.form.matrix_unit != 0

    @property
    def ahead(self) -> int:
        """The number of blocks whose products are computed before the cotangents of an older block, which wait for its
        exponentials. Where the matrix unit is the only one that is busy, that would only spill registers.
        """
        return int(self.streams(self.form.width) or self.streams(self.form.value_width))

    @property
    def dq_dtype(self) -> Any:
        return self.form.dtype if self.finishes and self.is_last and not self.adds else np.dtype(np.float32)

    @property
    def of_keys(self) -> int:
        """Bytes of the cotangents of keys and values of one key head, float32."""
        return 4 * self.keys * (self.form.width + self.form.value_width)

    @property
    def vmem(self) -> int:
        """Bytes of fast memory: every block twice, scratch, and the scores of straight-line code that are live at once."""
        form, size = self.form, self.form.dtype.itemsize
        blocks = (form.rows + form.kv_tile) * (form.width + form.value_width) * size
        blocks += form.rows * form.width * self.dq_dtype.itemsize * (1 + self.adds)
        blocks += 2 * 4 * 8 * form.rows + self.of_keys * (not self.holds)
        blocks += form.beside + 4 * form.rows * form.kv_tile * self.gives_bias
        scratch = form.rows * ((form.width + form.value_width) * size + 4 * form.width)
        return 2 * blocks + scratch + self.of_keys * self.holds + 4 * 4 * form.chunk * min(form.kv_tile, STRAIGHT)


def strips(form: Form, most: int, finishes: bool, gives_bias: bool, holds: bool = False) -> tuple[Strip, ...]:
    """The smallest number of equal strips that need at most `most` bytes of VMEM each; empty if a single tile needs
    more.
    """
    columns = form.keys // form.kv_tile
    for count in range(1, columns + 1):
        size = -(-columns // count)
        starts = range(0, columns, size)
        parts = tuple(
            Strip(form, start, min(size, columns - start), start > 0, start == starts[-1], finishes, gives_bias, holds)
            for start in starts
        )
        if all(strip.vmem <= most for strip in parts):
            return parts
    return ()


def _kernel(strip: Strip, bodies: tuple[Body, ...], names: tuple[str, ...], *refs: Ref) -> None:
    form = strip.form
    given = dict(zip(names, refs[3 : 3 + len(names)], strict=True))
    outputs = 3 + strip.gives_bias
    dq, d_keys, d_values, *bias = refs[3 + len(names) :][:outputs]
    queries, pulls, turned, *held = refs[3 + len(names) + outputs :]
    dk, dv = held or (d_keys, d_values)
    batch, head, step = pl.program_id(0), pl.program_id(1), pl.program_id(2)
    at = form.place(batch, step)
    row, column, todo = (ref[at] for ref in refs[:3])
    first = pl.multiple_of((column - strip.column) * form.kv_tile, form.kv_tile)

    @pl.when(step == 0)
    def clear() -> None:
        dk[...] = jnp.zeros(dk.shape, jnp.float32)
        dv[...] = jnp.zeros(dv.shape, jnp.float32)

    if bias:

        @pl.when((todo & (BEGINS + NOW)) == BEGINS)
        def nothing() -> None:  # its block is written to memory anyway
            bias[0][...] = jnp.zeros(bias[0].shape, jnp.float32)

    @pl.when((todo & BEGINS) != 0)
    def begin() -> None:
        gather_queries(form, given, queries)
        for member in range(form.group):
            features = slice(member * form.value_width, (member + 1) * form.value_width)
            gather(form, given["d_out"][0, :, features], member, pulls)
        turned[...] = jnp.zeros(turned.shape, jnp.float32)

    def visit(pattern: Pattern) -> None:
        """The cotangents of a tile whose blocks have these classes."""
        count = form.block_keys
        waiting: list[tuple[Scores, bool, Array, Array]] = []

        def multiply(offset: int, start: int, chunk: Index) -> None:
            classes = of_chunk(form, pattern, offset)
            for key in range(start, min(start + STRAIGHT, form.kv_tile), count):
                kind = classes[key // count]
                scores = Scores(form, given, batch, head, row, column, chunk, key, count)
                if kind == masks.EMPTY:
                    if bias:  # it is written to memory too
                        scores.write(bias[0], jnp.zeros(scores.shape, jnp.float32))
                    continue
                keys, values = given["k"][0, key : key + count, :], given["v"][0, key : key + count, :]
                product, pulled = dot(keys, queries[chunk], (1, 1)), dot(values, pulls[chunk], (1, 1))
                waiting.append((scores, kind != masks.FULL, product, pulled))
                if len(waiting) > strip.ahead:
                    finish(*waiting.pop(0))

        def finish(scores: Scores, masked: bool, product: Array, pulled: Array) -> None:
            chunk, key = scores.chunk, scores.key
            shift, drag = given["shift"][0, 0, 0, chunk], given["drag"][0, 0, 0, chunk]
            weight, cotangents = scores.weights(product, masked, shift)
            d_score, d_bias = cotangents(weight * (pulled - drag))
            if bias and d_bias is not None:
                scores.write(bias[0], d_bias)
            own = pl.ds(pl.multiple_of(first + key, count), count)
            narrow = d_score.astype(form.dtype)
            add(dv, own, weight.astype(form.dtype), pulls[chunk], strip.streams(form.value_width))
            add(dk, own, narrow, queries[chunk], strip.streams(form.width))
            turned[chunk] += dot(given["k"][0, key : key + count, :], narrow, (0, 0))

        def finish_all() -> None:
            while waiting:
                finish(*waiting.pop(0))

        straight(form, multiply, then=finish_all)

    for code, pattern, _ in bodies:
        pl.when((todo & COMPUTES) == code)(functools.partial(visit, pattern))

    @pl.when((todo & ENDS) != 0)
    def end() -> None:
        size = min(form.q_tile, form.chunk)
        for chunk in range(form.chunks):
            scaled = turned[chunk].T * np.float32(form.op.scale)
            for place in range(0, form.chunk, size):
                member, start = divmod(chunk * form.chunk + place, form.q_tile)
                part, rows = scaled[place : place + size], slice(start, start + size)
                if form.rotation_inside is not None and strip.finishes:
                    tables = [table[rows] for table in angle_tables(form, given)]
                    part = form.rotation_inside.turned(part, tables, back=True)
                features = slice(member * form.width, (member + 1) * form.width)
                if strip.adds:
                    part = part + given["dq"][0, rows, features]
                dq[0, rows, features] = part.astype(dq.dtype)

    if held:

        @pl.when(step == pl.num_programs(2) - 1)
        def write() -> None:
            for source, output, width in zip(held, (d_keys, d_values), (form.width, form.value_width), strict=True):
                own = pl.ds(pl.multiple_of(head * width, width), width)
                whole = (pl.ds(batch, 1), own) if strip.streams(width) else (pl.ds(batch, 1), slice(None), own)
                pltpu.sync_copy(source, output.at[whole])


def add(of_keys: Ref, own: Any, factors: Array, of_rows: Array, streams: bool) -> None:
    """Adds a product of `factors`, (keys, rows), with what belongs to the rows, (rows, width), to cotangents of keys.

    See `Strip.streams` for the layout of the cotangents.
    """
    if streams:
        of_keys[0, :, own] += dot(of_rows, factors, (0, 1))
    else:
        of_keys[0, own] += dot(factors, of_rows, (1, 0))


def backward(
    parts: tuple[Strip, ...], kinds: Kinds, apart: Array | None, operands: dict[str, Array]
) -> tuple[Array, Array, Array, Array | None]:
    """The cotangents (dq, dk, dv, d_bias).

    - dq is (B, queries, H * width); `Strip.finishes` says in which element type.
    - dk is (B, keys, kv heads * width) and dv is (B, keys, kv heads * value_width), float32.
    - d_bias is (B, H, queries, keys) float32, or None if the strips do not give it.

    The operands are those of `kernel_tpu.forward` and three more: d_out (B, queries, H * value_width); shift and drag,
    both (B, kv heads, rows of tiles, chunks, 1, chunk) float32. `shift` is the log-sum-exp in base 2, or +inf for a row
    that sees no key; `drag` is out . d_out minus the cotangent of the log-sum-exp. `kinds` are the kinds of all
    tiles; `apart` marks those that are left out, see `TileMap.without`.
    """
    form = parts[0].form
    heads = form.kv_heads * form.group
    d_bias = None
    if parts[0].gives_bias:
        d_bias = jnp.zeros((form.batch, heads, form.queries, form.keys), jnp.float32)
    dq: Array | None = None
    d_keys: list[Array] = []
    d_values: list[Array] = []
    for strip in parts:
        columns = slice(strip.column, strip.column + strip.columns)
        tiles = TileMap.of(kinds.columns(columns))
        if dq is not None:
            tiles = tiles.working()  # the other rows of dq keep their values
        if tiles.steps and apart is not None:
            tiles = tiles.without(apart[:, :, columns])
        tiles = replace(tiles, column=tiles.column + strip.column)
        if not tiles.steps:
            d_keys.append(jnp.zeros((form.batch, strip.keys, form.kv_heads * form.width), jnp.float32))
            d_values.append(jnp.zeros((form.batch, strip.keys, form.kv_heads * form.value_width), jnp.float32))
            continue
        dq, d_key, d_value, d_bias = _call(strip, tiles, operands, dq, d_bias)
        d_keys.append(d_key)
        d_values.append(d_value)
    assert dq is not None
    join = functools.partial(jnp.concatenate, axis=1)
    return dq.astype(form.dtype) if parts[0].finishes else dq, join(d_keys), join(d_values), d_bias


def _call(
    strip: Strip, tiles: TileMap, operands: dict[str, Array], dq: Array | None, d_bias: Array | None
) -> tuple[Array, Array, Array, Array | None]:
    strip = replace(strip, form=replace(strip.form, stride=tiles.stride))
    form = strip.form
    names = tuple(operands)
    given = [operands[name] for name in names]
    specs = [spec(form, AXES[name], operands[name].shape) for name in names]
    of_queries = block(form, (1, form.q_tile, form.group * form.width), lambda b, h, row, column: (b, row, h))
    heads = form.kv_heads * form.group
    shapes = [result_type((form.batch, form.queries, heads * form.width), strip.dq_dtype)]
    places = [of_queries]
    scratch = [
        pltpu.VMEM((form.chunks, form.chunk, form.width), form.dtype),
        pltpu.VMEM((form.chunks, form.chunk, form.value_width), form.dtype),
        pltpu.VMEM((form.chunks, form.width, form.chunk), jnp.float32),
    ]
    aliases: dict[int, int] = {}
    for width in (form.width, form.value_width):
        if strip.streams(width):
            shapes.append(result_type((form.batch, form.kv_heads * width, strip.keys), jnp.float32))
            place = block(form, (1, width, strip.keys), lambda b, h, row, column: (b, h, 0))
        else:
            shapes.append(result_type((form.batch, strip.keys, form.kv_heads * width), jnp.float32))
            place = block(form, (1, strip.keys, width), lambda b, h, row, column: (b, 0, h))
        if strip.holds:
            scratch.append(pltpu.VMEM(place.block_shape, jnp.float32))
            place = pl.BlockSpec(memory_space=pl.ANY)
        places.append(place)
    if dq is not None:
        aliases[3 + len(given)] = 0
        names, given, specs = (*names, "dq"), [*given, dq], [*specs, of_queries]
    if d_bias is not None:  # tiles that are not visited keep zeros
        aliases[3 + len(given)] = len(shapes)
        names, given = (*names, "d_bias"), [*given, d_bias]
        specs.append(pl.BlockSpec(memory_space=pl.ANY))
        shapes.append(result_type(d_bias.shape, d_bias.dtype))
        places.append(
            block(form, (1, form.group, form.q_tile, form.kv_tile), lambda b, h, row, column: (b, h, row, column))
        )
    grid = pltpu.PrefetchScalarGridSpec(
        num_scalar_prefetch=3,
        grid=(form.batch, form.kv_heads, tiles.steps),
        in_specs=specs,
        out_specs=places,
        scratch_shapes=scratch,
    )
    call = pl.pallas_call(
        functools.partial(_kernel, strip, tiles.bodies(is_ahead=False), names),
        grid_spec=grid,
        out_shape=shapes,
        input_output_aliases=aliases,
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "parallel", "arbitrary"),
            vmem_limit_bytes=vmem_limit(strip.vmem, VMEM_SHARE_BACKWARD),
        ),
        name="ropegen_attend_backward",
    )
    # The queries carry the factor of the scores, scale times log2(e); dk keeps only the scale.
    rest = form.op.scale if not form.is_wide else 1.0 if form.is_altered else 1 / LOG2_E
    own_dq, dk, dv, *bias = call(*tiles.prefetched, *given)
    dk, dv = (
        jnp.swapaxes(x, 1, 2) if strip.streams(width) else x for x, width in ((dk, form.width), (dv, form.value_width))
    )
    return own_dq, dk * np.float32(rest), dv, bias[0] if bias else None
