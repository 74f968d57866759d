"""The ops that only some models need: for latent attention, class tokens and clipped projections. `ops` lists them too."""

from __future__ import annotations

from dataclasses import dataclass

from ropegen.ir.op import Op, Operand, attribute
from ropegen.types import TensorType


@dataclass(frozen=True, kw_only=True)
class ProjectHeads(Op):
    """A projection of its own for every head: x (..., H, D), weight (H, D, F) -> (..., H, F).

    The sums run in float32 or wider.
    """

    name = "project_heads"
    operands = (
        Operand("x", ("heads", "width")),
        Operand("weight", ("heads", "width", "columns"), batch="none"),
    )
    result = ("heads", "columns")

    def infer(self, *operands: TensorType) -> TensorType:
        x, weight = operands
        if x.rank < 2 or weight.rank != 3 or x.shape[-2:] != weight.shape[:2]:
            raise self.refuse(
                f"x is {x} and the weight is {weight}", "give (..., heads, width) and (heads, width, features)"
            )
        if weight.dtype != x.dtype or not x.is_float:
            raise self.refuse(f"x is {x} and the weight is {weight}", "cast both to one floating element type")
        return x.with_shape(*x.shape[:-1], weight.shape[2])


@dataclass(frozen=True, kw_only=True)
class JoinFeatures(Op):
    """The features of two values side by side, head by head: a (..., S, H, D), b (..., S, H or 1, E) -> (..., S, H, D + E).

    One head of b serves all heads of a, as the rotated part of a latent key does.
    """

    name = "join_features"
    operands = (Operand("a", ("rows", "heads", "width")), Operand("b", ("rows", "heads", "other_width")))
    result = ("rows", "heads", "joined_width")

    def infer(self, *operands: TensorType) -> TensorType:
        a, b = operands
        if a.rank < 3 or a.rank != b.rank or a.shape[:-2] != b.shape[:-2] or b.shape[-2] not in (1, a.shape[-2]):
            raise self.refuse(
                f"a is {a} and b is {b}", "give (..., S, heads, width) each; b may have one head for all of a"
            )
        if a.dtype != b.dtype or not a.is_float:
            raise self.refuse(f"a is {a} and b is {b}", "cast both to one floating element type")
        return a.with_shape(*a.shape[:-1], a.shape[-1] + b.shape[-1])


@dataclass(frozen=True, kw_only=True)
class JoinRows(Op):
    """Rows of a table before those of a sequence: first (N, E), x (..., S, E) -> (..., N + S, E).

    The class token and the registers of an image encoder are such rows.
    """

    name = "join_rows"
    operands = (Operand("first", ("first_rows", "features"), batch="none"), Operand("x", ("rows", "features")))
    result = ("joined_rows", "features")

    def infer(self, *operands: TensorType) -> TensorType:
        first, x = operands
        if first.rank != 2 or x.rank < 2 or first.shape[-1] != x.shape[-1]:
            raise self.refuse(f"first is {first} and x is {x}", "give (N, features) and (..., S, features)")
        if first.dtype != x.dtype or not x.is_float:
            raise self.refuse(f"first is {first} and x is {x}", "cast both to one floating element type")
        return x.with_shape(*x.shape[:-2], first.shape[0] + x.shape[-2], x.shape[-1])


@dataclass(frozen=True, kw_only=True)
class Clip(Op):
    """x with every number above `limit` replaced by it, and every number below -`limit` by that."""

    name = "clip"
    operands = (Operand("x"),)
    limit: float = attribute(minimum=0)

    def infer(self, *operands: TensorType) -> TensorType:
        (x,) = operands
        if not x.is_float:
            raise self.refuse(f"x is {x}", "cast it to a floating element type")
        return x
