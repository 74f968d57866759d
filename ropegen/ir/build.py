"""The builder: one method per op, which checks shapes and element types as the graph grows.

b = Builder("front-end")
ids = b.input("ids", (1, 2048), "i32")
table = b.parameter("table", (128_256, 4096), "bf16")
x = b.embed(ids, table)
...
graph = b.build(out=x)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
from jax.core import Tracer

from ropegen import masks
from ropegen.arguments import text_of
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.ir.graph import Graph, Node, graph, node
from ropegen.ir.op import Op
from ropegen.masks import Expr
from ropegen.rotary import Rope
from ropegen.types import TensorType, dtype_name

Mask = Expr | Callable[..., object] | bool


class Builder:
    """Builds a graph op by op. Values are `Node`s: immutable, and equal if they compute the same value.

    Every method raises a RopegenError that says what does not fit and how to fix it.
    """

    def __init__(self, name: str = "graph") -> None:
        self._name = text_of("Builder: name", name, "text, such as Builder('front-end')")
        self._inputs: dict[str, Node] = {}

    def input(self, label: str, shape: Sequence[int], dtype: npt.DTypeLike | str, *, role: str = "activation") -> Node:
        """A value that every call passes as the keyword `label`."""
        made = node(ops.Input(label=label, type=TensorType(tuple(shape), dtype_name(dtype)), role=role))
        if self._inputs.setdefault(label, made) is not made:
            raise RopegenError(
                f"input {label!r} is already {self._inputs[label].type}, now {made.type}; give each input one type"
            )
        return made

    def parameter(self, label: str, shape: Sequence[int], dtype: npt.DTypeLike | str) -> Node:
        """A weight. Values that depend on weights alone are computed once, before the calls."""
        return self.input(label, shape, dtype, role="parameter")

    def state(self, label: str, shape: Sequence[int], dtype: npt.DTypeLike | str) -> Node:
        """A value that one call passes on to the next, such as a cache."""
        return self.input(label, shape, dtype, role="state")

    def build(self, **outputs: Node) -> Graph:
        """The graph of these outputs, with every input made so far."""
        return graph(self._name, self._inputs.values(), outputs)

    def positions(self, length: int, start: int = 0) -> Node:
        """The positions from `start` to start + length - 1, int32 (length,)."""
        return node(ops.Positions(length=length, start=start))

    def embed(self, ids: Node, table: Node, *, mode: str = "clip") -> Node:
        """Rows of a table, looked up by id: ids (...), table (V, E) -> (..., E)."""
        return node(ops.Embed(mode=mode), ids, table)

    def patchify(self, image: Node, height: int, width: int | None = None) -> Node:
        """Patches of an image, flattened: (..., H, W, C) -> (..., patches, height * width * C)."""
        return node(ops.Patchify(height=height, width=height if width is None else width), image)

    def sinusoid(
        self,
        positions: Node,
        width: int,
        *,
        pairing: str,
        theta: float = 10_000.0,
        precision: str = "exact",
        dtype: str = "f32",
    ) -> Node:
        """The sinusoidal position encoding: positions (..., S) -> (..., S, width)."""
        return node(
            ops.Sinusoid(width=width, theta=theta, pairing=pairing, precision=precision, dtype=dtype_name(dtype)),
            positions,
        )

    def add(self, a: Node, b: Node) -> Node:
        """The sum of a and b, which broadcast."""
        return node(ops.Add(), a, b)

    def norm(
        self,
        x: Node,
        weight: Node | None = None,
        bias: Node | None = None,
        *,
        kind: str,
        epsilon: float,
        weight_offset: float = 0.0,
    ) -> Node:
        """Normalisation over the last axis; `kind` is "rms" or "layer"."""
        given = _given(weight=weight, bias=bias)
        return node(
            ops.Norm(kind=kind, epsilon=epsilon, weight_offset=weight_offset, given=tuple(given)), x, *given.values()
        )

    def project(self, x: Node, weight: Node, bias: Node | None = None) -> Node:
        """A linear projection: x (..., E) @ weight (E, F) + bias (F,) -> (..., F)."""
        given = _given(bias=bias)
        return node(ops.Project(given=tuple(given)), x, weight, *given.values())

    def split_heads(self, x: Node, heads: int, width: int | None = None, *, start: int = 0) -> Node:
        """The features as heads: x (..., F) -> (..., heads, width). Without width and start, the heads take all of x."""
        if width is None:
            if x.type.rank < 1 or x.type.shape[-1] % heads:
                raise RopegenError(f"split_heads: {x.type} does not split into {heads} equal heads; give the width")
            width = x.type.shape[-1] // heads
        return node(ops.SplitHeads(heads=heads, width=width, start=start), x)

    def project_heads(self, x: Node, weight: Node) -> Node:
        """A projection of its own for every head: x (..., H, D), weight (H, D, F) -> (..., H, F)."""
        return node(ops.ProjectHeads(), x, weight)

    def join_features(self, a: Node, b: Node) -> Node:
        """Features side by side, head by head: a (..., S, H, D), b (..., S, H or 1, E) -> (..., S, H, D + E)."""
        return node(ops.JoinFeatures(), a, b)

    def join_rows(self, first: Node, x: Node) -> Node:
        """Rows before those of a sequence: first (N, E), x (..., S, E) -> (..., N + S, E)."""
        return node(ops.JoinRows(), first, x)

    def clip(self, x: Node, limit: float) -> Node:
        """The numbers of x, none above `limit` and none below -`limit`."""
        return node(ops.Clip(limit=_number("clip: limit", limit)), x)

    def features(self, x: Node, width: int, *, start: int = 0) -> Node:
        """The features start .. start + width of x: (..., F) -> (..., width)."""
        return self.merge_heads(self.split_heads(x, 1, width, start=start))

    def merge_heads(self, x: Node) -> Node:
        """The heads as features: x (..., H, D) -> (..., H * D)."""
        return node(ops.MergeHeads(), x)

    def angles(
        self,
        positions: Node,
        rope: Rope,
        head_width: int,
        *,
        length: int | None = None,
        inverse: bool = False,
        dtype: str = "f32",
    ) -> Node:
        """Cosines and sines of `rope` at positions (..., S) -> (..., S, dim), for heads of `head_width`; "f32" or "f64"."""
        return node(
            ops.Angles(
                dim=rope.width(head_width),
                head_width=head_width,
                theta=rope.theta,
                scaling=rope.scaling,
                precision=rope.angles,
                sections=rope.sections,
                interleaved_sections=rope.interleaved_sections,
                length=length,
                inverse=inverse,
                dtype=dtype_name(dtype),
            ),
            positions,
        )

    def rotate(self, x: Node, angles: Node, *, pairing: str) -> Node:
        """Rotary embedding: x (..., S, H, D), angles (..., S, dim)."""
        return node(ops.Rotate(pairing=pairing), x, angles)

    def rope(self, x: Node, positions: Node, rope: Rope, *, length: int | None = None, inverse: bool = False) -> Node:
        """`angles` and `rotate` in one step: x (..., S, H, D), rotated by `rope` at positions (..., S).

        The angles are float64 where x is and `rope` has exact angles, else float32.
        """
        dtype = "f64" if x.type.dtype == "f64" and rope.angles == "exact" else "f32"
        table = self.angles(positions, rope, x.type.shape[-1], length=length, inverse=inverse, dtype=dtype)
        return self.rotate(x, table, pairing=rope.pairing)

    def scale(self, x: Node, factor: float) -> Node:
        """The product of x and a constant factor."""
        return node(ops.Scale(factor=_number("scale: factor", factor, "multiply x by it before")), x)

    def cast(self, x: Node, dtype: npt.DTypeLike | str) -> Node:
        """The values of x in another element type."""
        return node(ops.Cast(dtype=dtype_name(dtype)), x)

    def transpose(self, x: Node, permutation: Sequence[int]) -> Node:
        """The axes of x in another order: axis i of the result is axis permutation[i] of x."""
        return node(ops.Transpose(permutation=tuple(permutation)), x)

    def attend(
        self,
        q: Node,
        k: Node,
        v: Node,
        *,
        mask: Mask = masks.full,
        score: Expr | Callable[..., object] = masks.identity,
        scale: float | None = None,
        softcap: float | None = None,
        masked_row: str = "zero",
        dropout: float | None = None,
        returns: str = "output",
        partial: str | None = None,
        q_positions: Node | None = None,
        kv_positions: Node | None = None,
        q_segments: Node | None = None,
        kv_segments: Node | None = None,
        bias: Node | None = None,
        dense_mask: Node | None = None,
        sinks: Node | None = None,
        seed: Node | None = None,
        numbers: Node | None = None,
    ) -> Node:
        """Attention: q (..., Sq, H, D), k (..., Skv, Hkv, D), v (..., Skv, Hkv, Dv) -> (..., Sq, H, Dv).

        `scale` defaults to 1/sqrt(D). If the mask or score reads positions that are not given, they count from 0.
        That is only right if queries and keys start together, so the builder refuses it if their numbers differ.
        `dropout` needs a `seed`, (4,) int32; these two and `partial` are those of `ops.Attend`. `numbers` (N,) are floats
        that the score reads as `numbers[index]`; see `masks.parse`.
        """
        visible, scored = masks.as_mask(mask), masks.as_score(score)
        for what, expression in (("mask", visible), ("score", scored)):
            masks.expect_plain(f"attend: the {what}", expression)
        reads = masks.variables(visible) | masks.variables(scored)
        if (
            {"q_pos", "kv_pos"} <= reads
            and q_positions is None
            and kv_positions is None
            and q.type.shape[-3:-2] != k.type.shape[-3:-2]
        ):
            raise RopegenError(
                f"attend: {q.type.shape[-3]} queries over {k.type.shape[-3]} keys, and the mask compares their positions; "
                "give q_positions and kv_positions"
            )
        if "q_pos" in reads and q_positions is None and q.type.rank >= 3:
            q_positions = self.positions(q.type.shape[-3])
        if "kv_pos" in reads and kv_positions is None and k.type.rank >= 3:
            kv_positions = self.positions(k.type.shape[-3])
        given = _given(
            q_positions=q_positions,
            kv_positions=kv_positions,
            q_segments=q_segments,
            kv_segments=kv_segments,
            bias=bias,
            mask=dense_mask,
            sinks=sinks,
            seed=seed,
            numbers=numbers,
        )
        attend = ops.Attend(
            scale=ops.attention_scale(q.type.shape[-1]) if scale is None else _number("attend: scale", scale, _SCALED),
            visible=visible,
            score=scored,
            softcap=None if softcap is None else _number("attend: softcap", softcap),
            masked_row=masked_row,
            dropout=None if dropout is None else _number("attend: dropout", dropout),
            returns=returns,
            partial=partial,
            given=tuple(given),
        )
        return node(attend, q, k, v, *given.values())

    def append_cache(self, cache: Node, update: Node, lengths: Node) -> Node:
        """The cache (..., C, H, D) with `update` (..., S, H, D) written into it from row `lengths` on.

        Rows past the capacity C are dropped at run time.

        Raises:
          RopegenError: the shapes do not fit; or `lengths` are positions that are known now, and a row would be dropped.
        """
        if isinstance(lengths.op, ops.Positions) and lengths.op.length and min(cache.type.rank, update.type.rank) >= 3:
            most, rows, capacity = lengths.op.start + lengths.op.length - 1, update.type.shape[-3], cache.type.shape[-3]
            if most + rows > capacity:
                raise RopegenError(
                    f"append_cache: {rows} rows from row {most} on end at row {most + rows}, past the capacity of "
                    f"{capacity} rows; give a larger cache, or smaller lengths"
                )
        return node(ops.AppendCache(), cache, update, lengths)

    def apply(self, op: Op, *operands: Node) -> Node:
        """The node of any op, for ops without a method here."""
        return node(op, *operands)


_SCALED = "give attention q * scale for q, and scale=1.0"


def _number(what: str, value: Any, way_out: str = "") -> Any:
    """A number as it is, and the number of a NumPy or JAX scalar; RopegenError for one that JAX traces."""
    if isinstance(value, Tracer):
        raise RopegenError(
            f"{what} is traced by jit, grad or vmap ({value.dtype.name}{list(value.shape)}) and must be a number; "
            f"{way_out and f'{way_out}, or '}give float(value), taken outside of them"
        )
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def _given(**operands: Node | None) -> dict[str, Node]:
    return {label: operand for label, operand in operands.items() if operand is not None}
