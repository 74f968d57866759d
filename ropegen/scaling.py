"""Frequency families: the inverse frequencies of a rotary embedding, and the factor on its cos and sin.

Pair j of a rotated width `dim` turns by `position * theta ** (-2j / dim)` radians (RoFormer, arXiv:2104.09864). A
family changes those frequencies so that a model reads further than it was trained, and may scale cos and sin. The
formulas follow the papers that the classes name, and agree with `modeling_rope_utils` of transformers 5, which runs
published checkpoints.

A family is one class and nothing else: its fields are its attributes in the IR, so a new family needs one class here
and one entry in `FAMILIES`. The lower-case names build them: `llama3(factor=8, low=1, high=4, original=8192)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import ClassVar, cast

import numpy as np
import numpy.typing as npt

from ropegen.arguments import flag_of
from ropegen.errors import RopegenError, nearest

__all__ = [
    "Axial",
    "Dynamic",
    "Linear",
    "Llama3",
    "LongRope",
    "Proportional",
    "Scaling",
    "Xpos",
    "Yarn",
    "axial",
    "dynamic",
    "linear",
    "llama3",
    "longrope",
    "none",
    "proportional",
    "xpos",
    "yarn",
    "yarn_attention_factor",
]

Attribute = str | float | int | bool | tuple[float, ...]
Precision = type[np.float64] | type[np.float32]

# Every factor and length of a real model lies within these limits; no formula here then overflows float32.
_LEAST, _GREATEST = 1e-9, 1e15


@dataclass(frozen=True, slots=True)
class Scaling:
    """The plain family: the frequencies are `theta ** (-2j / dim)`, unchanged.

    It is also the base class of every other family. Construction checks and normalises the values (numbers to finite
    floats, -0.0 to 0.0, lists to tuples), so equal families compare and hash equal, whatever form their values had.
    """

    kind: ClassVar[str] = "none"
    needs_length: ClassVar[bool] = False
    """True where the frequencies depend on the static sequence length."""
    signed: ClassVar[tuple[str, ...]] = ()
    """The numeric fields that may be zero or negative; all others must be positive."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            declared = str(field.type)
            if value is None and declared.endswith(" | None"):
                continue
            where = f"{self.kind} scaling: {field.name}"
            value = _READERS[declared.removesuffix(" | None")](where, value)
            if field.name not in self.signed and not isinstance(value, bool):
                numbers = value if isinstance(value, tuple) else (value,)
                if not all(_LEAST <= number <= _GREATEST for number in numbers):
                    raise RopegenError(f"{where} must be positive, from {_LEAST:g} to {_GREATEST:g}; got {value}")
            object.__setattr__(self, field.name, value)
        self._check()

    def inverse_frequencies(
        self, theta: float, dim: int, length: int | None = None, dtype: Precision = np.float64
    ) -> npt.NDArray[np.floating]:
        """The radians per position of every pair, shape (dim/2,), computed in `dtype` at every step.

        The steps and their order are those of transformers, so that float32 matches its values to within two units in
        the last place.

        `dim` is the rotated width (for `proportional` the head width); `length` is the static sequence length, from
        which the families with `needs_length` choose their frequencies. Raises RopegenError for an odd or empty width,
        a theta of at most 1, a list of the wrong length, or a missing length.
        """
        if not 1 < theta <= _GREATEST:
            raise RopegenError(
                f"theta must be above 1, so that frequencies fall from pair to pair, and at most {_GREATEST:g}; got {theta}"
            )
        even_width("the rotated width", dim)
        if self.needs_length and length is None:
            raise RopegenError(
                f"{self.kind} scaling picks its frequencies by the sequence length, and none was given; pass length= "
                "(the longest sequence that the program will see)"
            )
        if length is not None and not 0 <= whole("the sequence length", length) <= _GREATEST:
            raise RopegenError(f"a sequence length must be from 0 to {_GREATEST:g}, got {length}")
        return self._frequencies(theta, dim, length or 0, dtype)

    def magnitude(self, length: int | None = None) -> float:
        """The attention factor, which multiplies cos and sin at every position."""
        return 1.0

    def log_scale(self, positions: npt.NDArray[np.float64], dim: int) -> npt.NDArray[np.float64] | None:
        """The natural log of the factor on cos and sin at a position, float64 (..., dim/2); None if there is no factor.

        `positions` are (..., dim/2), one per pair, or (..., 1) for all pairs. Queries are multiplied by the
        exponential and keys divided by it, so that scores depend on distance alone.
        """
        return None

    @property
    def fastest(self) -> float:
        """An upper bound of every inverse frequency, in radians per position, whatever theta and the width are."""
        return 1.0

    def to_attributes(self) -> dict[str, Attribute]:
        """The family as flat attributes: `kind`, then every field that is set. `from_attributes` reads them back."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"kind": self.kind, **{name: value for name, value in values.items() if value is not None}}

    def _check(self) -> None:
        """Raise RopegenError if every field is valid on its own but their combination is not."""

    def _frequencies(self, theta: float, dim: int, length: int, dtype: Precision) -> npt.NDArray[np.floating]:
        return 1.0 / _powers(theta, dim, dtype)


@dataclass(frozen=True, slots=True)
class Linear(Scaling):
    """Position interpolation: every frequency divided by `factor` (Chen et al., arXiv:2306.15595)."""

    kind: ClassVar[str] = "linear"
    factor: float

    def _frequencies(self, theta: float, dim: int, length: int, dtype: Precision) -> npt.NDArray[np.floating]:
        return Scaling._frequencies(self, theta, dim, length, dtype) / self.factor

    @property
    def fastest(self) -> float:
        return 1.0 / self.factor


@dataclass(frozen=True, slots=True)
class Dynamic(Scaling):
    """Dynamic NTK: theta grows with the length once it passes `original` (transformers `dynamic`).

    `theta * (factor * length / original - (factor - 1)) ** (dim / (dim - 2))`; up to `original` nothing changes.
    """

    kind: ClassVar[str] = "dynamic"
    needs_length: ClassVar[bool] = True
    factor: float
    original: int

    def _frequencies(self, theta: float, dim: int, length: int, dtype: Precision) -> npt.NDArray[np.floating]:
        if dim == 2:
            raise RopegenError("dynamic scaling has the exponent dim / (dim - 2): the rotated width must exceed 2")
        if length > self.original:
            growth = dtype(self.factor) * dtype(length) / dtype(self.original) - dtype(self.factor - 1.0)
            theta = float(dtype(theta) * dtype(float(growth) ** (dim / (dim - 2))))
        return Scaling._frequencies(self, theta, dim, length, dtype)


@dataclass(frozen=True, slots=True)
class Yarn(Scaling):
    """YaRN: slow pairs are interpolated, fast pairs are kept, and a ramp joins them (Peng et al., arXiv:2309.00071).

    The ramp runs from the pair that turns `beta_fast` times over the `original` context to the one that turns
    `beta_slow` times; `truncate` rounds its ends outwards to whole pairs (gpt-oss does not). The attention factor is
    `attention_factor` if given; else, with both `mscale` and `mscale_all_dim`, the ratio of `yarn_attention_factor` at
    the two; else `yarn_attention_factor(factor)`. Models with `mscale_all_dim` (DeepSeek) also multiply their score scale by
    `yarn_attention_factor(factor, mscale_all_dim) ** 2`, which belongs to attention and not to the angles.
    """

    kind: ClassVar[str] = "yarn"
    factor: float
    original: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool = True

    def _check(self) -> None:
        if self.beta_fast < self.beta_slow:
            raise RopegenError(
                f"yarn scaling: beta_fast must be at least beta_slow, got {self.beta_fast} and {self.beta_slow}"
            )
        if (self.mscale is None) != (self.mscale_all_dim is None):
            raise RopegenError(
                "yarn scaling: mscale and mscale_all_dim form one ratio; give both or neither; "
                f"got {self.mscale} and {self.mscale_all_dim}"
            )

    def _frequencies(self, theta: float, dim: int, length: int, dtype: Precision) -> npt.NDArray[np.floating]:
        low, high = (
            dim * math.log(self.original / (rotations * 2.0 * math.pi)) / (2.0 * math.log(theta))
            for rotations in (self.beta_fast, self.beta_slow)
        )
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        if high < low:
            raise RopegenError(
                f"yarn scaling: no pair of {dim} features with theta {theta} turns between {self.beta_slow} and "
                f"{self.beta_fast} times over {self.original} positions; check original, beta_fast and beta_slow"
            )
        # If the ends coincide, the ramp is a step; transformers gives it the same width, a thousandth of a pair.
        ramp = np.clip((np.arange(dim // 2).astype(dtype) - low) / ((high - low) or 0.001), 0.0, 1.0)
        kept = 1.0 - ramp
        powers = _powers(theta, dim, dtype)
        return 1.0 / (self.factor * powers) * (1.0 - kept) + 1.0 / powers * kept

    def magnitude(self, length: int | None = None) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale is None or self.mscale_all_dim is None:
            return yarn_attention_factor(self.factor)
        return yarn_attention_factor(self.factor, self.mscale) / yarn_attention_factor(self.factor, self.mscale_all_dim)

    @property
    def fastest(self) -> float:
        return max(1.0, 1.0 / self.factor)


@dataclass(frozen=True, slots=True)
class LongRope(Scaling):
    """LongRoPE: one divisor per pair, `short` up to a length of `original` and `long` beyond (arXiv:2402.13753).

    Both lists have dim/2 entries. The attention factor is `attention_factor` if given, else
    `sqrt(1 + ln(factor) / ln(original))` (1 if factor is at most 1); one of the two must be given. The attention
    factor does not depend on the length.
    """

    kind: ClassVar[str] = "longrope"
    needs_length: ClassVar[bool] = True
    short: Sequence[float]
    long: Sequence[float]
    original: int
    factor: float | None = None
    attention_factor: float | None = None

    def _check(self) -> None:
        if len(self.short) != len(self.long):
            raise RopegenError(
                "longrope scaling: short and long must have the same length, one factor per pair; "
                f"got {len(self.short)} and {len(self.long)}"
            )
        if self.factor is None and self.attention_factor is None:
            raise RopegenError(
                "longrope scaling needs factor= (extended context / original context) or attention_factor=, "
                "which sets the factor on cos and sin"
            )
        if self.original < 2:
            raise RopegenError(f"longrope scaling: original must be at least 2, got {self.original}")

    def _frequencies(self, theta: float, dim: int, length: int, dtype: Precision) -> npt.NDArray[np.floating]:
        name, factors = ("long", self.long) if length > self.original else ("short", self.short)
        if len(factors) != dim // 2:
            raise RopegenError(
                f"longrope scaling: a rotated width of {dim} has {dim // 2} pairs and {name} has {len(factors)} factors"
            )
        return 1.0 / (np.asarray(factors, dtype) * _powers(theta, dim, dtype))

    def magnitude(self, length: int | None = None) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        return math.sqrt(1.0 + math.log(max(self.factor or 1.0, 1.0)) / math.log(self.original))

    @property
    def fastest(self) -> float:
        return 1.0 / min(*self.short, *self.long)


@dataclass(frozen=True, slots=True)
class Llama3(Scaling):
    """Llama 3.1: pairs that turn fewer than `low` times over `original` positions are divided by `factor`.

    Pairs that turn more than `high` times are kept. In between, the two frequencies are mixed in proportion to the
    turns (Meta's llama-models; transformers `llama3`, whose low_freq_factor and high_freq_factor are `low` and `high`).
    """

    kind: ClassVar[str] = "llama3"
    factor: float
    low: float
    high: float
    original: int

    def _check(self) -> None:
        if self.low >= self.high:
            raise RopegenError(f"llama3 scaling: low must be below high, got {self.low} and {self.high}")

    def _frequencies(self, theta: float, dim: int, length: int, dtype: Precision) -> npt.NDArray[np.floating]:
        plain = Scaling._frequencies(self, theta, dim, length, dtype)
        turns = self.original / (2.0 * math.pi / plain)
        kept = np.clip((turns - self.low) / (self.high - self.low), 0.0, 1.0)
        return (1.0 - kept) * plain / self.factor + kept * plain

    @property
    def fastest(self) -> float:
        return max(1.0, 1.0 / self.factor)


@dataclass(frozen=True, slots=True)
class Proportional(Scaling):
    """Gemma 4: the first `fraction` of the pairs turn, with exponents over the head width; the others do not turn.

    The rotated width is the head width, so `half` pairs feature j with j + head/2 even if only a part turns. This
    differs from partial rotary, whose exponents use the rotated width. The frequencies of the turning pairs are divided
    by `factor` (transformers `proportional`, where `fraction` is partial_rotary_factor).
    """

    kind: ClassVar[str] = "proportional"
    fraction: float = 1.0
    factor: float = 1.0

    def _check(self) -> None:
        if self.fraction > 1.0:
            raise RopegenError(
                f"proportional scaling: fraction, a part of the head, must be at most 1; got {self.fraction}"
            )

    def _frequencies(self, theta: float, dim: int, length: int, dtype: Precision) -> npt.NDArray[np.floating]:
        plain = Scaling._frequencies(self, theta, dim, length, dtype) / self.factor
        plain[int(self.fraction * dim // 2) :] = 0.0
        return plain

    @property
    def fastest(self) -> float:
        return 1.0 / self.factor


@dataclass(frozen=True, slots=True)
class Axial(Scaling):
    """Images: every one of the `axes` position axes has an equal run of pairs with its own frequencies.

    An axis has the frequencies of a rotary embedding as wide as its run of features (Qwen2-VL's vision tower, RoPE-ViT,
    arXiv:2403.13298). `dealt=True` deals the frequencies of the whole width to the axes instead: axis a takes
    frequencies a, a + axes, a + 2 axes, ... (Pixtral). `Rope` needs `sections=` with the equal runs.
    """

    kind: ClassVar[str] = "axial"
    axes: int = 2
    dealt: bool = False

    def _check(self) -> None:
        if not 2 <= self.axes <= 16:
            raise RopegenError(f"axial scaling: axes must be from 2 to 16, got {self.axes}")

    def _frequencies(self, theta: float, dim: int, length: int, dtype: Precision) -> npt.NDArray[np.floating]:
        if dim % (2 * self.axes):
            raise RopegenError(
                f"axial scaling: {dim // 2} pairs do not split into equal runs for {self.axes} axes; "
                f"the rotated width must be a multiple of {2 * self.axes}"
            )
        if self.dealt:
            whole = Scaling._frequencies(self, theta, dim, length, dtype)
            return np.concatenate([whole[axis :: self.axes] for axis in range(self.axes)])
        return np.tile(Scaling._frequencies(self, theta, dim // self.axes, length, dtype), self.axes)


@dataclass(frozen=True, slots=True)
class Xpos(Scaling):
    """xPos: plain angles, and a magnitude that decays with distance (Sun et al., arXiv:2212.10554; zeta).

    Pair j of a query is multiplied by `((2j + 0.4 dim) / (1.4 dim)) ** ((position - centre) / base)`, and pair j of a
    key is divided by it. Scores do not depend on `centre`, which keeps both factors within range. In zeta, `centre` is
    half the current length, which changes as a cache grows; here it is fixed.
    """

    kind: ClassVar[str] = "xpos"
    signed: ClassVar[tuple[str, ...]] = ("centre",)
    base: float
    centre: float = 0.0

    def log_scale(self, positions: npt.NDArray[np.float64], dim: int) -> npt.NDArray[np.float64] | None:
        zeta = (np.arange(0, dim, 2) + 0.4 * dim) / (1.4 * dim)
        return (np.asarray(positions, np.float64) - self.centre) / self.base * np.log(zeta)


def _powers(theta: float, dim: int, dtype: Precision) -> npt.NDArray[np.floating]:
    """The powers theta ** (2j / dim), one per pair j, with the exponent in `dtype`.

    A float32 power is computed in float64 and rounded, because NumPy's float32 power is wrong in the last places on
    some processors.
    """
    # Python scalars do not widen a float32 array (NEP 50), so one formula serves both precisions here and above.
    exponents = np.arange(0, dim, 2).astype(dtype) / dim
    return (float(dtype(theta)) ** exponents.astype(np.float64)).astype(dtype)


none = Scaling
"""`Scaling`: frequencies as they are, the default of `Rope(scaling=...)`."""
linear = Linear
"""`Linear`."""
dynamic = Dynamic
"""`Dynamic`."""
yarn = Yarn
"""`Yarn`."""
longrope = LongRope
"""`LongRope`."""
llama3 = Llama3
"""`Llama3`."""
proportional = Proportional
"""`Proportional`."""
xpos = Xpos
"""`Xpos`."""
axial = Axial
"""`Axial`."""

FAMILIES: Mapping[str, type[Scaling]] = {
    family.kind: family for family in (Scaling, Linear, Dynamic, Yarn, LongRope, Llama3, Proportional, Xpos, Axial)
}


def yarn_attention_factor(factor: float, mscale: float = 1.0) -> float:
    """YaRN's `0.1 * mscale * ln(factor) + 1`, or 1 if factor is at most 1 (arXiv:2309.00071, equation 22)."""
    return 1.0 if factor <= 1.0 else 0.1 * mscale * math.log(factor) + 1.0


def from_attributes(attributes: Mapping[str, object]) -> Scaling:
    """The family that `to_attributes` wrote; RopegenError for an unknown kind, an unknown field or a missing one."""
    kind = attributes.get("kind")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise RopegenError(f"unknown scaling kind {kind!r}; {nearest(str(kind), FAMILIES)}")
    known = {field.name: field for field in fields(family)}
    given = {name: value for name, value in attributes.items() if name != "kind"}
    for name in given:
        if name not in known:
            raise RopegenError(f"{kind} scaling has no field {name!r}; {nearest(name, known)}")
    if missing := [name for name, field in known.items() if field.default is MISSING and name not in given]:
        raise RopegenError(f"{kind} scaling needs {', '.join(missing)}; got {', '.join(given) or 'no fields'}")
    return cast(Callable[..., Scaling], family)(**given)


def even_width(what: str, width: int) -> int:
    """`width`, if it is even and from 2 to 65,536; otherwise a RopegenError whose message starts with `what`."""
    if width % 2 or not 2 <= width <= 1 << 16:
        raise RopegenError(f"{what} must be even, because features turn in pairs, and from 2 to 65536; got {width}")
    return width


def finite(where: str, value: object) -> float:
    """`value` as a finite float, with -0.0 as 0.0; otherwise a RopegenError whose message starts with `where`."""
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        try:
            number = float(cast(float, value)) + 0.0
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise RopegenError(f"{where} must be a finite number, got {value!r}")


def whole(where: str, value: object) -> int:
    """`value`, an integer or a float without a fraction, as an int; otherwise a RopegenError that starts with `where`."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return int(value)
    number = finite(where, value)
    if number != int(number):
        raise RopegenError(f"{where} must be a whole number, got {value!r}")
    return int(number)


def _numbers(where: str, value: object) -> tuple[float, ...]:
    if isinstance(value, np.ndarray):
        value = cast(list[object], value.tolist())
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or not value:
        raise RopegenError(f"{where} must be a list of numbers, one per pair; got {value!r}")
    return tuple(finite(f"{where}[{i}]", number) for i, number in enumerate(cast(Sequence[object], value)))


# The function that reads a field, by the type that the field declares.
_READERS: Mapping[str, Callable[[str, object], float | bool | tuple[float, ...]]] = {
    "float": finite,
    "int": whole,
    "bool": flag_of,
    "Sequence[float]": _numbers,
}
