"""How an op is declared: operands with their axes, typed attributes and `infer`, nothing else."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Union

import numpy as np

from ropegen.errors import RopegenError, nearest
from ropegen.masks import Expr
from ropegen.scaling import Scaling
from ropegen.types import TensorType

# What an attribute can be. The text form writes a TensorType as the result type, and every other kind as an attribute.
AttributeValue = Union[
    str, int, float, bool, "tuple[int, ...]", "tuple[float, ...]", "tuple[str, ...]", Expr, Scaling, TensorType, None
]


Holds = Literal["float", "integer", "boolean", "position", "any"]
Batch = Literal["required", "optional", "broadcast", "none"]


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand of an op: its name, its axes, and what it holds. Shapes, batching and layouts derive from this.

    `axes` names the last axes of the operand, in order. Two operands of an op that name the same axis agree on its
    size. The sizes before the named axes are the batch, and `batch` says which of them the operand has:

    - "required": all of them.
    - "optional": all of them or none, such as positions of shape (S,) or (..., S).
    - "broadcast": as NumPy broadcasts. A size may be 1, and sizes on the left may be missing; this includes its axes.
    - "none": none. One value serves the whole batch, such as a weight.

    `optional` operands follow the others and may be left out. One that `repeats` is the last, and is given any number
    of times.
    `variable` is the variable of the mask and score expressions whose values the operand holds.
    """

    name: str
    axes: tuple[str, ...] = ()
    holds: Holds = "float"
    batch: Batch = "required"
    optional: bool = False
    repeats: bool = False
    variable: str = ""

    def accepts(self, given: TensorType) -> bool:
        """Whether the operand may have this element type. Positions are numbers of any kind."""
        match self.holds:
            case "float":
                return given.is_float
            case "integer":
                return given.is_integer
            case "boolean":
                return given.dtype == "i1"
            case "position":
                return given.is_integer or given.is_float
            case "any":
                return True

    def shapes(self, measured: Measured) -> tuple[tuple[int, ...], ...]:
        """The shapes that it may have, the one without the batch first; with "broadcast", the one it broadcasts to."""
        core = tuple(measured.sizes[axis] for axis in self.axes)
        match self.batch:
            case "none":
                return (core,)
            case "optional":
                return core, (*measured.batch, *core)
            case "required" | "broadcast":
                return ((*measured.batch, *core),)

    def fits(self, shape: tuple[int, ...], measured: Measured) -> bool:
        """Whether it may have this shape."""
        if self.batch != "broadcast":
            return shape in self.shapes(measured)
        (whole,) = self.shapes(measured)
        if len(shape) > len(whole):
            return False
        return all(size in (1, full) for size, full in zip(self.padded(shape, len(measured.batch)), whole, strict=True))

    def padded(self, shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
        """Its shape with sizes of 1 on the left, so that `rank` sizes of the batch stand before its axes."""
        return (1,) * (rank + len(self.axes) - len(shape)) + shape

    def among(self, axes: Sequence[str], sizes: Sequence[int]) -> tuple[int, ...]:
        """The `sizes` of its own axes in their places among `axes`, and 1 in the others."""
        own = dict(zip(self.axes, sizes, strict=True))
        return tuple(own.get(axis, 1) for axis in axes)


@dataclass(frozen=True, slots=True)
class Measured:
    """The sizes of an op's axes, as its operands have them."""

    batch: tuple[int, ...]
    sizes: dict[str, int]
    differ: frozenset[str]
    """The axes whose sizes differ between operands, "batch" among them where the batches differ."""


def attribute(
    *, default: Any = dataclasses.MISSING, choices: tuple[str, ...] = (), minimum: float | None = None
) -> Any:
    """Declare an attribute of an op: its default, the words that it may be, the least value that it may have."""
    return dataclasses.field(default=default, metadata={"choices": choices, "minimum": minimum})


@dataclass(frozen=True, kw_only=True)
class Op:
    """The base of every op. A subclass is a frozen dataclass whose fields are its attributes.

    `result` names the last axes of the result; the sizes before them are the batch. `operands` declares the operands in
    order. From it follow `required` and `optional`, their names, and `variadic`,
    the name of one that repeats. An op with optional operands has the attribute `given`, which says which of them
    follow the required ones.
    """

    name: ClassVar[str]
    operands: ClassVar[tuple[Operand, ...]] = ()
    result: ClassVar[tuple[str, ...]] = ()
    required: ClassVar[tuple[str, ...]] = ()
    optional: ClassVar[tuple[str, ...]] = ()
    variadic: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        cls.required = tuple(operand.name for operand in cls.operands if not (operand.optional or operand.repeats))
        cls.optional = tuple(operand.name for operand in cls.operands if operand.optional)
        cls.variadic = next((operand.name for operand in cls.operands if operand.repeats), "")

    def __post_init__(self) -> None:
        for declared in attributes(type(self)):
            value = _checked(self.name, declared, getattr(self, declared.name))
            object.__setattr__(self, declared.name, value)
        given: tuple[str, ...] = getattr(self, "given", ())
        if list(given) != [name for name in self.optional if name in given]:
            raise self.refuse(
                f"the operands {list(given)} are out of order",
                f"give them once, in the order {', '.join(self.optional)}",
            )

    @property
    def depends_on_place(self) -> bool:
        """Whether a value depends on its place in the batch, so that one more leading size would change it."""
        return False

    @property
    def result_axes(self) -> tuple[str, ...]:
        """The last axes of the result. An axis that an operand names too is the same axis."""
        return self.result

    def present(self, count: int = 0) -> tuple[Operand, ...]:
        """The operands that this op reads, in order. With one that repeats, there are `count` operands in all."""
        given: tuple[str, ...] = getattr(self, "given", ())
        present = [operand for operand in self.operands if not operand.optional or operand.name in given]
        if self.variadic:
            repeated = present.pop()
            indices = range(count - len(present))
            present += [dataclasses.replace(repeated, name=f"{repeated.name}{index}") for index in indices]
        return tuple(present)

    def operand_names(self, count: int = 0) -> tuple[str, ...]:
        """The names of the operands that this op reads, in order; `count` as in `present`."""
        return tuple(operand.name for operand in self.present(count))

    def measured(self, *types: TensorType) -> Measured:
        """The batch and the sizes of the axes, read off the operands that have the whole batch.

        Where none has, the batch is what the operands that broadcast give together.
        """
        sizes: dict[str, int] = {}
        batches: list[tuple[int, ...]] = []
        loose: list[tuple[int, ...]] = []
        differ: set[str] = set()
        for operand, given in zip(self.present(len(types)), types, strict=False):
            split = given.rank - len(operand.axes)
            if operand.batch == "broadcast":
                loose.append(given.shape[:split])
            if operand.batch != "required":
                continue
            batches.append(given.shape[:split])
            for axis, size in zip(operand.axes, given.shape[split:], strict=True):
                if sizes.setdefault(axis, size) != size:
                    differ.add(axis)
        if len(set(batches)) > 1:
            differ.add("batch")
        return Measured(batches[0] if batches else np.broadcast_shapes(*loose), sizes, frozenset(differ))

    def infer(self, *operands: TensorType) -> TensorType:
        """The type of the result.

        Raises:
          RopegenError: the operands' shapes or element types break the op's rule.
        """
        raise NotImplementedError

    def refuse(self, problem: str, way_out: str) -> RopegenError:
        """The error for a broken rule of this op: `problem` says what was asked and the values."""
        return RopegenError(f"{self.name}: {problem}; {way_out}")


@dataclass(frozen=True)
class Declared:
    """One attribute of an op class, as its dataclass field declares it."""

    name: str
    kinds: tuple[Any, ...]  # the types that it may have; NoneType is one of them if it may be left out
    default: Any
    choices: tuple[str, ...]
    minimum: float | None

    @property
    def is_optional(self) -> bool:
        return self.default is not dataclasses.MISSING


@functools.cache
def attributes(cls: type[Op]) -> tuple[Declared, ...]:
    """The attributes of an op class, in order of declaration."""
    hints = typing.get_type_hints(cls)
    result: list[Declared] = []
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        kinds = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
        choices = cls.optional if field.name == "given" else field.metadata.get("choices", ())
        result.append(Declared(field.name, kinds, field.default, choices, field.metadata.get("minimum")))
    return tuple(result)


def _checked(op: str, declared: Declared, value: Any) -> Any:
    """`value` in the attribute's own type, so that equal attributes are equal values; else an error."""
    where = f"{op}: attribute {declared.name!r}"
    if value is None and type(None) in declared.kinds:
        return None
    kind = next(kind for kind in declared.kinds if kind is not type(None))
    value = _as_kind(where, kind, value)
    if declared.choices:
        for word in value if isinstance(value, tuple) else (value,):
            if word not in declared.choices:
                raise RopegenError(f"{where} is {word!r}; {nearest(str(word), declared.choices)}")
    if declared.minimum is not None:
        for number in value if isinstance(value, tuple) else (value,):
            if number < declared.minimum:
                raise RopegenError(f"{where} is {number}; it must be at least {declared.minimum:g}")
    return value


def _as_kind(where: str, kind: Any, value: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, (tuple, list)):
            raise RopegenError(f"{where} is {value!r}; it must be a list")
        element = typing.get_args(kind)[0]
        return tuple(_as_kind(where, element, item) for item in typing.cast("tuple[Any, ...]", value))
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
        if not math.isfinite(number):
            raise RopegenError(f"{where} is {number}; it must be a finite number")
        return number or 0.0  # -0.0 and 0.0 are equal keys, so they must print alike
    if kind is int and isinstance(value, int) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**63:
            raise RopegenError(f"{where} is {value}; it must fit in 64 bits")
        return int(value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise RopegenError(f"{where} is {value!r}; it must be {'a' if kind is not int else 'an'} {kind.__name__}")
