"""The ops, in the order in which a front-end uses them. `reference.py` says what each computes.

Shapes are written with S for the sequence, H for heads, D for the width of a head, E and F for features,
and `...` for any leading (batch) dimensions. Positions are int32 or floating, angles are float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ropegen import dropout, masks
from ropegen.errors import RopegenError
from ropegen.ir.model_ops import Clip, JoinFeatures, JoinRows, ProjectHeads
from ropegen.ir.op import Measured, Op, Operand, attribute
from ropegen.masks import Expr
from ropegen.rotary import Rope
from ropegen.scaling import Scaling
from ropegen.types import DTYPES, FLOATS, TensorType

__all__ = [
    "OPS", "PAIRINGS", "ROLES", "Add", "Angles", "AppendCache", "Attend", "Cast", "Clip", "Embed", "Input", "JoinFeatures", "JoinRows",
    "MergeHeads", "Norm", "Pack", "Patchify", "Positions", "Project", "ProjectHeads", "ReorderPairs", "Rotate", "Scale",
    "Sinusoid", "SplitHeads", "Transpose", "attention_scale",
]  # fmt: skip
ROLES = ("activation", "parameter", "state")
PAIRINGS = ("half", "interleaved")
MAX_HEAD_WIDTH = 2**16


@dataclass(frozen=True, kw_only=True)
class Input(Op):
    """A value from outside: () -> type. `role` says whether it is prepared once ("parameter") or fed at each call."""

    name = "input"
    label: str = attribute()
    type: TensorType = attribute()
    role: str = attribute(default="activation", choices=ROLES)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.label.isidentifier():
            raise self.refuse(
                f"the label {self.label!r} is not a name", "use letters, digits and _ only: it becomes a keyword"
            )

    def infer(self, *operands: TensorType) -> TensorType:
        return self.type


@dataclass(frozen=True, kw_only=True)
class Positions(Op):
    """start, start+1, ...: () -> (length,) int32. The one source of static positions."""

    name = "positions"
    length: int = attribute(minimum=0)
    start: int = attribute(default=0)

    def infer(self, *operands: TensorType) -> TensorType:
        last = self.start + max(self.length, 1) - 1
        if self.start < -(2**31) or last > 2**31 - 1:
            raise self.refuse(f"positions {self.start} to {last} overflow int32", "use a smaller start")
        return TensorType((self.length,), "i32")


@dataclass(frozen=True, kw_only=True)
class Embed(Op):
    """Rows of a table: ids (...), table (V, E) -> (..., E).

    An id outside 0..V-1 takes the nearest row (`mode="clip"`) or a row of NaN (`mode="fill"`).
    """

    name = "embed"
    operands = (Operand("ids", holds="integer"), Operand("table", ("vocabulary", "features"), batch="none"))
    result = ("features",)
    mode: str = attribute(default="clip", choices=("clip", "fill"))

    def infer(self, *operands: TensorType) -> TensorType:
        ids, table = operands
        if not ids.is_integer:
            raise self.refuse(f"ids are {ids}, not integers", "cast them to i32")
        if table.rank != 2 or not table.is_float:
            raise self.refuse(f"the table is {table}", "give a float table of shape (vocabulary, features)")
        if table.shape[0] == 0:
            raise self.refuse(f"the table {table} has no rows", "give at least one")
        return table.with_shape(*ids.shape, table.shape[1])


@dataclass(frozen=True, kw_only=True)
class Patchify(Op):
    """An image cut into patches, row by row: (..., H, W, C) -> (..., H/height * W/width, height*width*C)."""

    name = "patchify"
    operands = (Operand("image", ("rows", "columns", "channels")),)
    result = ("patches", "features")
    height: int = attribute(minimum=1)
    width: int = attribute(minimum=1)

    def infer(self, *operands: TensorType) -> TensorType:
        (image,) = operands
        if image.rank < 3:
            raise self.refuse(f"the image is {image}", "give (..., height, width, channels)")
        *lead, rows, columns, channels = image.shape
        if rows % self.height or columns % self.width:
            raise self.refuse(
                f"an image of {rows} x {columns} is not a whole number of {self.height} x {self.width} patches",
                "crop or pad it first",
            )
        patches = (rows // self.height) * (columns // self.width)
        return image.with_shape(*lead, patches, self.height * self.width * channels)


@dataclass(frozen=True, kw_only=True)
class Sinusoid(Op):
    """The fixed encoding of Vaswani et al. 2017: positions (..., S) -> (..., S, width).

    `pairing="interleaved"` alternates sine and cosine; `"half"` puts all sines first.
    """

    name = "sinusoid"
    operands = (Operand("positions", ("rows",), "position"),)
    result = ("rows", "features")
    width: int = attribute(minimum=1)
    theta: float = attribute(default=10_000.0)
    pairing: str = attribute(choices=PAIRINGS)
    precision: str = attribute(default="exact", choices=("exact", "f32"))
    dtype: str = attribute(default="f32", choices=FLOATS)

    def infer(self, *operands: TensorType) -> TensorType:
        (positions,) = operands
        if self.theta <= 0:
            raise self.refuse(f"theta is {self.theta:g}", "give a positive base, 10000 in the paper")
        if self.pairing == "half" and self.width % 2:
            raise self.refuse(f"width {self.width} is odd", 'use an even width, or pairing="interleaved"')
        if positions.dtype == "i1":
            raise self.refuse(f"positions are {positions}", "give numbers")
        return TensorType((*positions.shape, self.width), self.dtype)


@dataclass(frozen=True, kw_only=True)
class Add(Op):
    """a + b, of one element type; shapes broadcast from the right as in NumPy."""

    name = "add"
    operands = (Operand("a", batch="broadcast"), Operand("b", batch="broadcast"))

    def infer(self, *operands: TensorType) -> TensorType:
        a, b = operands
        if a.dtype != b.dtype or not a.is_float:
            raise self.refuse(f"the operands are {a} and {b}", "cast them to one floating element type")
        try:
            return a.with_shape(*np.broadcast_shapes(a.shape, b.shape))
        except ValueError:
            raise self.refuse(f"shapes {a.shape} and {b.shape} do not broadcast", "make the sizes equal or 1") from None


@dataclass(frozen=True, kw_only=True)
class Norm(Op):
    """Normalisation over the last axis: x (..., E), weight (E,), bias (E,) -> (..., E).

    `rms` divides by the root mean square, `layer` also takes the mean away. The weight that multiplies is
    `weight_offset + weight` (Gemma stores its weights around zero, with an offset of 1).
    """

    name = "norm"
    operands = (
        Operand("x", ("features",)),
        Operand("weight", ("features",), batch="none", optional=True),
        Operand("bias", ("features",), batch="none", optional=True),
    )
    result = ("features",)
    kind: str = attribute(choices=("rms", "layer"))
    epsilon: float = attribute(minimum=0)
    weight_offset: float = attribute(default=0.0)
    given: tuple[str, ...] = attribute(default=())

    def infer(self, *operands: TensorType) -> TensorType:
        x, *affine = operands
        if x.rank < 1 or not x.is_float:
            raise self.refuse(f"x is {x}", "give a floating tensor with a last axis")
        for label, parameter in zip(self.given, affine, strict=True):
            if parameter.shape != x.shape[-1:] or not parameter.is_float:
                raise self.refuse(f"{label} is {parameter} for x {x}", f"give a float vector of {x.shape[-1]}")
        return x


@dataclass(frozen=True, kw_only=True)
class Project(Op):
    """x @ weight + bias, accumulated in float32 or wider: x (..., E), weight (E, F), bias (F,) -> (..., F)."""

    name = "project"
    operands = (
        Operand("x", ("features",)),
        Operand("weight", ("features", "columns"), batch="none"),
        Operand("bias", ("columns",), batch="none", optional=True),
    )
    result = ("columns",)
    given: tuple[str, ...] = attribute(default=())

    def infer(self, *operands: TensorType) -> TensorType:
        x, weight, *bias = operands
        if x.rank < 1 or weight.rank != 2 or x.shape[-1] != weight.shape[0]:
            raise self.refuse(
                f"x is {x} and the weight is {weight}",
                "the weight must be (features of x, features out): transpose it if it is the other way round",
            )
        for parameter in (weight, *bias):
            if parameter.dtype != x.dtype or not x.is_float:
                raise self.refuse(f"x is {x} and a parameter is {parameter}", "cast both to one floating element type")
        if bias and bias[0].shape != weight.shape[1:]:
            raise self.refuse(f"the bias is {bias[0]} for the weight {weight}", f"give a vector of {weight.shape[1]}")
        return x.with_shape(*x.shape[:-1], weight.shape[1])


@dataclass(frozen=True, kw_only=True)
class SplitHeads(Op):
    """Columns start .. start + heads*width as heads: (..., F) -> (..., heads, width)."""

    name = "split_heads"
    operands = (Operand("x", ("columns",)),)
    result = ("heads", "width")
    heads: int = attribute(minimum=1)
    width: int = attribute(minimum=1)
    start: int = attribute(default=0, minimum=0)

    def infer(self, *operands: TensorType) -> TensorType:
        (x,) = operands
        if x.rank < 1 or self.start + self.heads * self.width > x.shape[-1]:
            raise self.refuse(
                f"{self.heads} heads of {self.width} from column {self.start} do not fit in {x}",
                "check heads, width and start",
            )
        return x.with_shape(*x.shape[:-1], self.heads, self.width)


@dataclass(frozen=True, kw_only=True)
class MergeHeads(Op):
    """Heads side by side: (..., H, D) -> (..., H*D)."""

    name = "merge_heads"
    operands = (Operand("x", ("heads", "width")),)
    result = ("columns",)

    def infer(self, *operands: TensorType) -> TensorType:
        (x,) = operands
        if x.rank < 2:
            raise self.refuse(f"x is {x}", "give (..., heads, width)")
        return x.with_shape(*x.shape[:-2], x.shape[-2] * x.shape[-1])


@dataclass(frozen=True, kw_only=True)
class Angles(Op):
    """Rotary angles as cosines and sines: positions (..., S) -> (..., S, dim) of `dtype`, cosines first.

    With `sections` (M-RoPE) positions are (axes, ..., S). `head_width` is the width of a head, `length` the
    sequence length that selects the frequencies of the dynamic families, `inverse` divides by the magnitude
    of xPos instead of multiplying (for keys). See `ropegen.rotary.Rope`, which has the same fields.
    """

    name = "angles"
    operands = (Operand("positions", ("rows",), "position"),)
    result = ("rows", "turned")
    dim: int = attribute(minimum=2)
    head_width: int = attribute(minimum=2)
    theta: float = attribute()
    scaling: Scaling = attribute()
    precision: str = attribute(default="exact", choices=("exact", "f32"))
    sections: tuple[int, ...] = attribute(default=())
    interleaved_sections: bool = attribute(default=False)
    length: int | None = attribute(default=None)
    inverse: bool = attribute(default=False)
    dtype: str = attribute(default="f32", choices=("f32", "f64"))

    def present(self, count: int = 0) -> tuple[Operand, ...]:
        (positions,) = self.operands
        # The axis of the sections comes first, so a leading size of positions is no size of the batch.
        return (replace(positions, batch="none"),) if self.sections else (positions,)

    @property
    def rope(self) -> Rope:
        """The frequency family. `rotate` says the pairing."""
        return Rope(
            self.theta,
            pairing="half",
            dim=self.dim,
            scaling=self.scaling,
            angles="exact" if self.precision == "exact" else "f32",
            sections=self.sections,
            interleaved_sections=self.interleaved_sections,
        )

    def infer(self, *operands: TensorType) -> TensorType:
        (positions,) = operands
        if (widest := max((self.head_width, *self.sections))) > MAX_HEAD_WIDTH:  # inferring computes the frequencies
            raise self.refuse(f"heads of {widest} features", f"no head is wider than {MAX_HEAD_WIDTH}")
        if positions.dtype == "i1":
            raise self.refuse(f"positions are {positions}", "give numbers")
        if positions.rank < 1 + bool(self.sections):
            raise self.refuse(f"positions are {positions}", "give (..., S), or (axes, ..., S) with sections")
        if self.sections and positions.shape[0] != len(self.sections):
            raise self.refuse(
                f"positions {positions} for {len(self.sections)} sections", "give one axis of positions a section"
            )
        self.rope.inverse_frequencies(self.head_width, self.length)  # refuses what the family cannot do
        return TensorType((*positions.shape[bool(self.sections) :], self.dim), self.dtype)


@dataclass(frozen=True, kw_only=True)
class Rotate(Op):
    """Rotary embedding of the first `angles.shape[-1]` features of each head: x (..., S, H, D) -> the same.

    The products and their sum are in the wider type of x and the angles, so in float32 or float64.

    `pairing="half"` turns feature i with i + dim/2, `"interleaved"` feature 2i with 2i + 1. The two give
    different results from the same weights, so neither is the default.
    """

    name = "rotate"
    operands = (Operand("x", ("rows", "heads", "width")), Operand("angles", ("rows", "turned"), batch="optional"))
    result = ("rows", "heads", "width")
    pairing: str = attribute(choices=PAIRINGS)

    def infer(self, *operands: TensorType) -> TensorType:
        x, angles = operands
        if x.rank < 3:
            raise self.refuse(f"x is {x}", "give (..., sequence, heads, width)")
        if not x.is_float:
            raise self.refuse(f"x is {x}", "cast it to a floating element type")
        if angles.rank < 2 or not angles.is_float or angles.shape[-1] % 2:
            raise self.refuse(f"angles are {angles}", "give the value of an `angles` op: cosines, then sines")
        if angles.shape[-1] > x.shape[-1]:
            raise self.refuse(
                f"{angles.shape[-1]} angles for heads of {x.shape[-1]}", "rotate at most the width of a head"
            )
        measured, declared = self.measured(x), self.operands[1]
        measured.sizes["turned"] = angles.shape[-1]  # any even number up to the width
        if not declared.fits(angles.shape, measured):
            raise self.refuse(
                f"angles are {angles} for x {x}",
                f"give angles of {declared.shapes(measured)[0]}, with x's leading sizes before it or without",
            )
        return x


@dataclass(frozen=True, kw_only=True)
class Scale(Op):
    """x * factor."""

    name = "scale"
    operands = (Operand("x"),)
    factor: float = attribute()

    def infer(self, *operands: TensorType) -> TensorType:
        (x,) = operands
        if not x.is_float:
            raise self.refuse(f"x is {x}", "cast it to a floating element type")
        return x


@dataclass(frozen=True, kw_only=True)
class Cast(Op):
    """x in another element type, rounded to nearest even; a float becomes an integer towards zero."""

    name = "cast"
    operands = (Operand("x", holds="any"),)
    dtype: str = attribute(choices=DTYPES)

    def infer(self, *operands: TensorType) -> TensorType:
        return operands[0].with_dtype(self.dtype)


@dataclass(frozen=True, kw_only=True)
class Transpose(Op):
    """Axis i of the result is axis permutation[i] of x."""

    name = "transpose"
    operands = (Operand("x", holds="any", batch="none"),)
    permutation: tuple[int, ...] = attribute()

    def infer(self, *operands: TensorType) -> TensorType:
        (x,) = operands
        if sorted(self.permutation) != list(range(x.rank)):
            raise self.refuse(
                f"the permutation {list(self.permutation)} is not one of {x}",
                f"name every axis of 0..{x.rank - 1} once",
            )
        return x.with_shape(*(x.shape[axis] for axis in self.permutation))


@dataclass(frozen=True, kw_only=True)
class Attend(Op):
    """Attention: q (..., Sq, H, D), k (..., Skv, Hkv, D), v (..., Skv, Hkv, Dv) -> (..., Sq, H, Dv).

    Query head h reads key head h // (H / Hkv). In float32: scale, soft-cap, bias, the score expression, the
    mask expression and the dense mask, sinks in the denominator, softmax. `returns="log_sum_exp"` gives the
    logarithm of the denominator instead, (..., Sq, H) float32. Positions and segments are (S,) or (..., S);
    bias and mask broadcast to (..., H, Sq, Skv) as in NumPy, from the right; one that fits (..., Sq, Skv) too, because
    the last size of the batch equals H, is refused unless its sizes before (Sq, Skv) are all 1; sinks are (H,). the
    score expression reads `numbers` (N,) as numbers[index]. A hidden key has the weight 0. So in the plain formula v must
    be finite there too, and k for gradients, because 0 times NaN is NaN; most templates promise more.

    `dropout` is the share of the weights that become 0 after the softmax; the others are divided by 1 - dropout.
    `ropegen.dropout` says which, from the seed (4,). The denominator, and the mean of a row that sees no key, lose none.

    `partial` says that the keys are a part of all keys, and that the results of all parts are added up. The output, and
    the cotangents of floating operands, then have this element type, and are not rounded to that of q.
    """

    name = "attend"
    # The axes of the scores, after the batch.
    SCORES = ("heads", "queries", "keys")
    operands = (
        Operand("q", ("queries", "heads", "width")),
        Operand("k", ("keys", "kv_heads", "width")),
        Operand("v", ("keys", "kv_heads", "value_width")),
        Operand("q_positions", ("queries",), "position", batch="optional", optional=True, variable="q_pos"),
        Operand("kv_positions", ("keys",), "position", batch="optional", optional=True, variable="kv_pos"),
        Operand("q_segments", ("queries",), "integer", batch="optional", optional=True, variable="q_segment"),
        Operand("kv_segments", ("keys",), "integer", batch="optional", optional=True, variable="kv_segment"),
        Operand("bias", SCORES, batch="broadcast", optional=True),
        Operand("mask", SCORES, "boolean", batch="broadcast", optional=True),
        Operand("sinks", ("heads",), batch="none", optional=True),
        Operand("seed", ("words",), "integer", batch="none", optional=True),
        Operand("numbers", ("numbers",), batch="none", optional=True),
    )
    # Which optional operand a variable of the mask and score expressions needs.
    NEEDS = {operand.variable: operand.name for operand in operands if operand.variable}  # noqa: RUF012
    scale: float = attribute()
    visible: Expr = attribute(default=masks.full)
    score: Expr = attribute(default=masks.identity)
    softcap: float | None = attribute(default=None)
    masked_row: str = attribute(default="zero", choices=("zero", "mean"))
    dropout: float | None = attribute(default=None, minimum=0)
    returns: str = attribute(default="output", choices=("output", "log_sum_exp"))
    partial: str | None = attribute(default=None, choices=("f32", "f64"))
    given: tuple[str, ...] = attribute(default=())

    def __post_init__(self) -> None:
        super().__post_init__()
        masks.expect_plain("attend: the mask", masks.as_mask(self.visible))
        object.__setattr__(self, "score", masks.as_score(self.score))
        masks.expect_plain("attend: the score", self.score)
        if masks.leaves(self.visible):
            raise self.refuse(f"the mask {self.visible} reads numbers", "only a score can; give the operand mask")
        if self.softcap is not None and self.softcap <= 0:
            raise self.refuse(f"softcap is {self.softcap:g}", "give a positive cap, or leave it out")
        if self.dropout is not None:
            dropout.expect_rate(f"{self.name}: dropout", self.dropout)
            if self.partial:
                raise self.refuse("a part of the keys drops weights", "leave dropout out, or give all keys at once")
        if (self.dropout is None) != ("seed" not in self.given):
            raise self.refuse("dropout and its seed belong together", "give both, or neither")

    @property
    def variables(self) -> frozenset[str]:
        """The variables that the mask and score expressions read."""
        return masks.variables(self.visible) | masks.variables(self.score)

    @property
    def depends_on_place(self) -> bool:
        return "batch" in self.variables or self.dropout is not None

    @property
    def result_axes(self) -> tuple[str, ...]:
        return ("queries", "heads", "value_width") if self.returns == "output" else ("queries", "heads")

    @property
    def takes_mean(self) -> bool:
        """Whether a row that sees no key is the mean of the values; with sinks, every row sees something."""
        return self.masked_row == "mean" and "sinks" not in self.given

    @property
    def beside(self) -> tuple[Operand, ...]:
        """The optional operands that are given, in order."""
        return tuple(operand for operand in self.present() if operand.optional)

    @property
    def needed(self) -> frozenset[str]:
        """The operands that the mask and score expressions read."""
        return frozenset(name for variable, name in self.NEEDS.items() if variable in self.variables)

    def measured(self, *types: TensorType) -> Measured:
        measured = super().measured(*types)
        return replace(measured, sizes={**measured.sizes, "words": dropout.WORDS})

    def infer(self, *operands: TensorType) -> TensorType:
        q, k, v, *rest = operands
        if min(q.rank, k.rank, v.rank) < 3:
            raise self.refuse(f"q, k, v are {q}, {k}, {v}", "give (..., sequence, heads, width) each")
        if not (q.dtype == k.dtype == v.dtype and q.is_float):
            raise self.refuse(f"q, k, v are {q}, {k}, {v}", "cast them to one floating element type")
        measured = self.measured(q, k, v)
        if measured.differ - {"width"}:
            raise self.refuse(
                f"q, k, v are {q}, {k}, {v}", "the leading sizes must be equal, and k and v alike up to the width"
            )
        if measured.differ:
            raise self.refuse(f"q has width {q.shape[-1]} and k {k.shape[-1]}", "make the widths of q and k equal")
        heads, kv_heads = measured.sizes["heads"], measured.sizes["kv_heads"]
        if kv_heads == 0 or heads % kv_heads:
            raise self.refuse(
                f"{heads} query heads over {kv_heads} key heads", "query heads must be a multiple of key heads"
            )
        for variable in sorted(self.variables & self.NEEDS.keys()):
            if self.NEEDS[variable] not in self.given:
                raise self.refuse(f"the mask or score reads {variable}", f"give the operand {self.NEEDS[variable]}")
        if masks.leaves(self.score) and "numbers" not in self.given:
            raise self.refuse("the score reads numbers", "give the operand numbers")
        for operand, given in zip(self.beside, rest, strict=True):
            if operand.name == "numbers":
                measured.sizes["numbers"] = given.size  # any number of them
            self._check(operand, given, measured)
        wide = "f64" if q.dtype == "f64" else "f32"
        if self.partial not in (None, wide):
            raise self.refuse(f"a partial result of {q.dtype} is {self.partial}", f"its element type must be {wide}")
        if self.returns == "log_sum_exp":
            return TensorType((*q.shape[:-1],), wide)
        return TensorType((*q.shape[:-1], v.shape[-1]), self.partial or q.dtype)

    def _check(self, operand: Operand, given: TensorType, measured: Measured) -> None:
        """Raise unless an optional operand has a type that it may have."""
        right, fits = operand.accepts(given), operand.fits(given.shape, measured)
        shapes = operand.shapes(measured)
        match operand.batch:
            case "broadcast" if not right:
                wanted = "a boolean (i1)" if operand.holds == "boolean" else "a float"
                raise self.refuse(f"{operand.name} is {given}", f"give {wanted} tensor")
            case "broadcast" if not fits:
                axes = ", ".join(operand.axes)
                raise self.refuse(
                    f"{operand.name} is {given}", f"give a shape that broadcasts to (..., {axes}) = {shapes[0]}"
                )
            case "broadcast" if self._lacks_an_axis(given, measured):
                by_head, by_batch = (
                    (*(1,) * (len(shapes[0]) - given.rank), *given.shape),
                    (*given.shape[:-2], 1, *given.shape[-2:]),
                )
                raise self.refuse(
                    f"{operand.name} is {given} and the batch is {measured.batch} with {measured.sizes['heads']} heads, "
                    "so its first sizes may be those of the heads or of the batch",
                    f"give it all axes: {by_head} for one {operand.name} per head, {by_batch} for one per sequence",
                )
            case "optional" if not fits or given.dtype == "i1":
                wanted = " or ".join(map(str, shapes))
                raise self.refuse(f"{operand.name} are {given}", f"give numbers of shape {wanted}")
            case "optional" if not right:
                raise self.refuse(f"{operand.name} are {given}", "give integer segment ids")
            case "none" if operand.name == "seed":
                if not (right and fits) or given.dtype != "i32":
                    raise self.refuse(f"seed is {given}", f"give {dropout.WORDS} integers of type i32")
            case "none" if operand.name == "numbers":
                if not right or given.rank != 1 or not given.size:
                    raise self.refuse(f"numbers are {given}", "give one or more floats of shape (N,)")
            case "none" if not (right and fits):
                raise self.refuse(f"{operand.name} are {given}", f"give one float a head: {shapes[0]}")
            case _:
                return

    @staticmethod
    def _lacks_an_axis(given: TensorType, measured: Measured) -> bool:
        """Whether a bias or mask reads as (..., queries, keys) just as well as (..., heads, queries, keys)."""
        first, batch, heads = given.shape[:-2], measured.batch, measured.sizes["heads"]
        if all(size == 1 for size in first) or len(first) > len(batch):
            return False
        readings = (*batch, heads)[-len(first) :], batch[-len(first) :]
        return all(size in (1, whole) for reading in readings for size, whole in zip(first, reading, strict=True))


@dataclass(frozen=True, kw_only=True)
class AppendCache(Op):
    """The cache with `update` written from row `lengths`: cache (..., C, H, D), update (..., S, H, D) -> cache's type.

    `lengths` ((), (1,) or (...), integers) counts the rows already written; one number serves all sequences. Rows past the
    capacity C are dropped.
    """

    name = "append_cache"
    operands = (
        Operand("cache", ("capacity", "heads", "width")),
        Operand("update", ("rows", "heads", "width")),
        Operand("lengths", (), "integer", batch="optional"),
    )
    result = ("capacity", "heads", "width")

    def infer(self, *operands: TensorType) -> TensorType:
        cache, update, lengths = operands
        if cache.rank < 3 or cache.dtype != update.dtype or cache.rank != update.rank:
            raise self.refuse(
                f"the cache is {cache} and the update {update}",
                "give (..., capacity, heads, width) and (..., S, heads, width) of one element type",
            )
        if (
            cache.shape[:-3] != update.shape[:-3]
            or cache.shape[-2:] != update.shape[-2:]
            or update.shape[-3] > cache.shape[-3]
        ):
            raise self.refuse(
                f"the update {update} does not fit the cache {cache}", "only the sequence may differ, and be shorter"
            )
        if not lengths.is_integer or lengths.shape not in ((), (1,), cache.shape[:-3]):
            raise self.refuse(f"lengths are {lengths}", f"give integers of shape (), (1,) or {cache.shape[:-3]}")
        return cache


@dataclass(frozen=True, kw_only=True)
class Pack(Op):
    """Weights or biases side by side: (..., F1), (..., F2), ... -> (..., F1 + F2 + ...). The passes make it."""

    name = "pack"
    operands = (Operand("part", ("columns",), "any", batch="none", repeats=True),)
    result = ("columns",)

    def infer(self, *operands: TensorType) -> TensorType:
        if not operands:
            raise self.refuse("there is nothing to pack", "give at least one part")
        first = operands[0]
        for part in operands:
            if part.rank < 1 or part.dtype != first.dtype or part.shape[:-1] != first.shape[:-1]:
                raise self.refuse(f"parts are {first} and {part}", "only the last size may differ")
        return first.with_shape(*first.shape[:-1], sum(part.shape[-1] for part in operands))


@dataclass(frozen=True, kw_only=True)
class ReorderPairs(Op):
    """The last axis, read as heads of `width`, with the first `dim` features of every head reordered. The passes make it.

    `to="half"` puts features 0, 2, 4, ... before 1, 3, 5, ... `rotate` then turns the same features by halves that it
    turned interleaved before. `to="interleaved"` is the way back.
    """

    name = "reorder_pairs"
    operands = (Operand("x", ("columns",)),)
    result = ("columns",)
    width: int = attribute(minimum=2)
    dim: int = attribute(minimum=2)
    to: str = attribute(choices=PAIRINGS)

    def infer(self, *operands: TensorType) -> TensorType:
        (x,) = operands
        if x.rank < 1 or x.shape[-1] % self.width:
            raise self.refuse(f"x is {x}", f"its last size must be a multiple of the width {self.width}")
        if self.dim % 2 or self.dim > self.width:
            raise self.refuse(f"dim is {self.dim}", f"give an even number of at most {self.width}")
        return x

    def order(self, features: int) -> tuple[int, ...]:
        """The feature of the operand that every feature of the result is, (features,)."""
        half = self.dim // 2
        pairs = np.arange(self.dim).reshape(half, 2) if self.to == "half" else np.arange(self.dim).reshape(2, half)
        within = np.concatenate([pairs.T.reshape(-1), np.arange(self.dim, self.width)])
        places = np.arange(0, features, self.width)[:, None] + within
        return tuple(int(place) for place in places.reshape(-1))


OPS: dict[str, type[Op]] = {
    op.name: op
    for op in (
        Input, Positions, Embed, Patchify, Sinusoid, Add, Norm, Project, SplitHeads, MergeHeads, Angles, Rotate,
        Scale, Cast, Transpose, Attend, AppendCache, Pack, ReorderPairs, ProjectHeads, JoinFeatures,
        JoinRows, Clip,
    )
}  # fmt: skip


def attention_scale(width: int) -> float:
    """The scale of Vaswani et al. 2017: one over the square root of the width of a head.

    Raises:
      RopegenError: the width is 0.
    """
    if width == 0:
        raise RopegenError("attention: heads of 0 features have no scale of 1/sqrt(0); give `scale`, or wider heads")
    return 1.0 / math.sqrt(width)
