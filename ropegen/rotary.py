"""`Rope`: the complete description of one rotary embedding, with its angle tables and a bound on their error.

A rotary embedding rotates pairs of features of each head by an angle that grows with the position (RoFormer,
arXiv:2104.09864). `Rope` holds what a checkpoint depends on: theta, which features form a pair, how many features rotate,
the frequency family, and whether angles are exact or float32, as in the libraries that ropegen stands in for.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal, NoReturn, cast, get_args

import numpy as np
import numpy.typing as npt

from ropegen import scaling as scalings
from ropegen.arguments import flag_of, is_one_of
from ropegen.errors import RopegenError, nearest
from ropegen.scaling import Precision, Scaling, even_width, finite, whole
from ropegen.types import dtype_name, epsilon

Pairing = Literal["half", "interleaved"]
Angles = Literal["exact", "f32"]

_PAIRING_RULE = (
    "'half' pairs feature j with j + width/2 (Llama, Mistral, Qwen, Gemma, GPT-NeoX and most checkpoints on the "
    "Hugging Face hub); 'interleaved' pairs feature 2j with 2j + 1 (GPT-J, DeepSeek, Meta's own Llama weights). The "
    "wrong one runs and gives wrong results, so there is no default"
)

_PLAIN = scalings.none()


def _no_pairing() -> NoReturn:
    raise RopegenError(f"Rope needs pairing=: {_PAIRING_RULE}")


@dataclass(frozen=True, slots=True)
class Rope:
    """A rotary embedding of the features of one head.

    theta: the base of the frequencies, above 1.
    pairing: "half" or "interleaved", required.
    dim: the rotated width, the first `dim` features of a head; None for the whole head.
    scaling: the frequency family, see `ropegen.scaling`.
    angles: "exact" computes angles in float64 and rounds cos and sin once; "f32" takes every step in float32.
    sections: pairs for each position axis (M-RoPE: time, height, width), with the sum dim/2; () for one axis.
    interleaved_sections: False gives each axis a run of consecutive pairs (Qwen2-VL). True deals the pairs out in turn
    (Qwen3-VL): of n axes, axis a takes pairs a, a + n, a + 2n, ... until it has its share, and axis 0 takes the rest.
    """

    theta: float = 10_000.0
    _: KW_ONLY
    pairing: Pairing = field(default_factory=_no_pairing)
    dim: int | None = None
    scaling: Scaling = _PLAIN
    angles: Angles = "exact"
    sections: tuple[int, ...] = ()
    interleaved_sections: bool = False

    def __post_init__(self) -> None:
        theta = finite("Rope: theta", self.theta)
        scalings.none().inverse_frequencies(theta, 2)  # the families check the range of theta
        object.__setattr__(self, "theta", theta)
        if not is_one_of(self.pairing, get_args(Pairing)):
            hint = nearest(str(self.pairing), get_args(Pairing))
            end = "" if hint.endswith("?") else "."
            raise RopegenError(f"Rope: unknown pairing {self.pairing!r}; {hint}{end} {_PAIRING_RULE}")
        if not is_one_of(self.angles, get_args(Angles)):
            raise RopegenError(f"Rope: unknown angles {self.angles!r}; {nearest(str(self.angles), get_args(Angles))}")
        _expect(_is_family(self.scaling), f"Rope: scaling must come from ropegen.scaling, got {self.scaling!r}")
        if self.dim is not None:
            object.__setattr__(self, "dim", even_width("Rope: dim, the rotated width,", whole("Rope: dim", self.dim)))
        sections = section_sizes("Rope: sections", self.sections)
        object.__setattr__(self, "sections", sections)
        object.__setattr__(
            self, "interleaved_sections", flag_of("Rope: interleaved_sections", self.interleaved_sections)
        )
        if self.interleaved_sections:
            _expect(bool(sections), "Rope: interleaved_sections needs sections=, the pairs of each position axis")
            counts = tuple(np.bincount(self._axes(), minlength=len(sections)).tolist())
            _expect(
                counts == sections,
                f"Rope: sections {sections} cannot be dealt out in turn over {sum(sections)} pairs (the axes would get "
                f"{counts}); axis 0 needs the largest share",
            )
        if isinstance(self.scaling, scalings.Axial):
            _expect(
                len(sections) == self.scaling.axes and len(set(sections)) == 1 and not self.interleaved_sections,
                f"Rope: axial scaling over {self.scaling.axes} axes needs sections= of as many equal runs of pairs, such "
                f"as {(16,) * self.scaling.axes}; got {sections}" + " interleaved" * self.interleaved_sections,
            )
        if sections and self.dim is not None:
            self.width(self.dim)

    def width(self, head_dim: int) -> int:
        """The rotated width of a head of `head_dim` features.

        Raises:
          RopegenError: the width is odd or does not fit the head, or the sections do not add up to it.
        """
        head_dim = whole("the head width", head_dim)
        width = even_width("the head width" if self.dim is None else "the rotated width", self.dim or head_dim)
        _expect(width <= head_dim, f"a rotated width of {width} does not fit a head of {head_dim} features")
        _expect(
            not self.sections or 2 * sum(self.sections) == width,
            f"Rope: sections {self.sections} hold {sum(self.sections)} pairs and a rotated width of {width} has "
            f"{width // 2}",
        )
        return width

    def inverse_frequencies(self, head_dim: int, length: int | None = None) -> npt.NDArray[np.float64]:
        """The radians per position of every pair, float64 (dim/2,). `length` is the static sequence length, see `Scaling`.

        With angles="f32" these are the float32 values that the table uses.
        """
        precision: Precision = np.float64 if self.angles == "exact" else np.float32
        return self._frequencies(head_dim, length, precision).astype(np.float64)

    def axes(self, head_dim: int) -> npt.NDArray[np.intp]:
        """The position axis that every pair reads, (dim/2,). Without sections they are all 0."""
        pairs = self.width(head_dim) // 2
        return self._axes() if self.sections else np.zeros(pairs, np.intp)

    def table(
        self,
        positions: npt.ArrayLike,
        head_dim: int,
        length: int | None = None,
        inverse: bool = False,
        dtype: npt.DTypeLike = np.float32,
    ) -> npt.NDArray[np.floating]:
        """The cosines, then the sines, for `positions` (..., S), as (..., S, dim).

        Positions are whole or fractional numbers of any sign; with sections, their shape is (axes, ..., S). The table
        contains the magnitude. `inverse=True` divides by its position-dependent part instead, as xPos needs for keys.
        `dtype` is float32 or float64. angles="exact" computes in float64 and rounds once, within `angle_error`. "f32"
        computes the power, the reciprocal, the angle, the cosine and the sine in float32.

        Raises:
          RopegenError: positions that are not finite numbers, another count of axes than the sections have, or an xPos
            magnitude that leaves the range of `dtype`.
        """
        name, inverse = dtype_name(dtype), flag_of("inverse", inverse)
        _expect(
            name in ("f32", "f64"), f"a table of angles is f32 or f64, never {name}: lower precision loses positions"
        )
        result = np.float32 if name == "f32" else np.float64
        precision: Precision = np.float64 if self.angles == "exact" else np.float32
        placed = self._placed(positions)
        inverse_frequencies = self._frequencies(head_dim, length, precision)
        angles = placed.astype(precision) * inverse_frequencies
        cos_sin = np.stack([np.cos(angles), np.sin(angles)], axis=-2) * precision(self.scaling.magnitude(length))
        log_scale = self.scaling.log_scale(placed, 2 * len(inverse_frequencies))
        if log_scale is not None:
            _expect_magnitude(self.scaling.kind, log_scale, np.float32 if np.float32 in (result, precision) else result)
            cos_sin *= np.exp(-log_scale if inverse else log_scale).astype(precision)[..., None, :]
        return cos_sin.reshape(*cos_sin.shape[:-2], 2 * cos_sin.shape[-1]).astype(result)

    def check_magnitude(self, positions: npt.ArrayLike, head_dim: int) -> None:
        """Refuses positions (..., S) for which the xPos magnitude or its inverse leaves the normal range of float32.

        Raises:
          RopegenError: there is such a position; the message states the magnitude.
        """
        log_scale = self.scaling.log_scale(self._placed(positions), self.width(head_dim))
        if log_scale is not None:
            _expect_magnitude(self.scaling.kind, log_scale, np.float32)

    def magnitude_range(self, head_dim: int) -> tuple[float, float] | None:
        """The first and last position that `check_magnitude` accepts; None if magnitudes do not depend on the position."""
        ends = self.scaling.log_scale(np.array([[0.0], [1.0]]), self.width(head_dim))
        if ends is None:
            return None
        at_zero, steepest = max(zip(ends[0], ends[1] - ends[0], strict=True), key=lambda pair: abs(pair[1]))
        around = sorted((sign * _magnitude_limit(np.float32) - at_zero) / steepest for sign in (-1, 1))
        return float(around[0]), float(around[1])

    def angle_error(self, position: float, dtype: npt.DTypeLike | str = "f32") -> float:
        """A bound on the error of a table's cos (or sin) in `dtype` at `position`, before any magnitude.

        Every step rounds to nearest with unit u. A frequency `theta ** -x` takes a rounded exponent (at most u/e, since
        x ln(theta) theta**-x <= 1/e), a power within one unit in the last place (2u), a reciprocal (u) and a division
        by the family's factor (u), and the angle rounds once more (u). Together the error is below 6 u |position| radians
        for the fastest pair, and |d cos| <= |d angle|. The pairs that yarn and llama3 mix round more often, but rotate
        far slower. With "exact", u is 2**-53, so that up to position 10**7 nearly the whole error is the one rounding
        to `dtype`. With "f32", u is 2**-24, and the cosine itself is within 2u. The error cannot exceed 2.
        """
        unit = 2.0**-53 if self.angles == "exact" else 2.0**-24
        rounded = epsilon(dtype_name(dtype)) / 4  # half the spacing of numbers between 1/2 and 1
        return min(2.0, 6.0 * unit * abs(position) * self.scaling.fastest + 2.0 * unit + rounded)

    @classmethod
    def from_hf(cls, config: object, layer_type: str | None = None) -> Rope:
        """The rotary embedding of a Hugging Face config, of transformers 4 or 5: its fields, its path, or `model.config`.

        `layer_type` ("full_attention", "sliding_attention") names the kind of layer, for models in which the kinds rotate
        differently (Gemma 3 and 4). If the config has a `text_config`, that part is read. For DeepSeek the result
        is for the rotary part of a head, which is `qk_rope_head_dim` features wide and separate from the rest.
        Angles are exact; use `dataclasses.replace` for "f32". Each file of `ropegen/models/families/` declares how its
        checkpoints rotate.

        Raises:
          RopegenError: a model type, rope type or layer type that is unknown, a model that does not rotate, or a field
            named rope_* or rotary_*, or a rope parameter, that the model's code does not read.
        """
        # The import is here because that module builds a Rope, and so imports this one.
        from ropegen.models.rope_parameters import rope_from_hf

        return rope_from_hf(config, layer_type)

    def _axes(self) -> npt.NDArray[np.intp]:
        if not self.interleaved_sections:
            return np.repeat(np.arange(len(self.sections)), self.sections)
        count = len(self.sections)
        pairs = np.arange(sum(self.sections))
        dealt = pairs % count
        return np.where(pairs < count * np.asarray(self.sections)[dealt], dealt, 0)

    def _frequencies(self, head_dim: int, length: int | None, precision: Precision) -> npt.NDArray[np.floating]:
        return self.scaling.inverse_frequencies(self.theta, self.width(head_dim), length, precision)

    def _placed(self, positions: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The position that every pair reads; the shape broadcasts to (..., S, dim/2)."""
        try:
            given = np.asarray(positions)
        except ValueError:  # lists of different lengths
            raise RopegenError(f"positions are {positions!r:.60}; give whole or fractional numbers") from None
        _expect(given.dtype.kind in "iuf", f"positions must be whole or fractional numbers, got {given.dtype}")
        placed = given.astype(np.float64)
        _expect(bool(np.all(np.abs(placed) <= 2.0**53)), "positions must be finite and at most 2^53 to be held exactly")
        if not self.sections:
            return placed[..., None]
        count = len(self.sections)
        _expect(
            placed.ndim >= 2 and placed.shape[0] == count,
            f"a Rope with {count} sections reads positions of shape ({count}, ..., S), one leading entry for each "
            f"position axis; got {placed.shape}",
        )
        return np.moveaxis(placed, 0, -1)[..., self._axes()]


def grid_positions(height: int, width: int) -> npt.NDArray[np.int32]:
    """The rows, then the columns, of the patches of an image, row by row: (2, height * width) int32.

    Raises:
      RopegenError: a side is not a whole number, is negative, or there are 2^31 patches or more.
    """
    sides = whole("grid_positions: height", height), whole("grid_positions: width", width)
    _expect(
        min(sides) >= 0 and math.prod(sides) < 1 << 31,
        f"grid_positions: {sides[0]} x {sides[1]} patches; give sides from 0 on, with fewer than 2^31 patches in all",
    )
    rows, columns = np.indices(sides)
    return np.stack([rows.ravel(), columns.ravel()]).astype(np.int32)


# round(2^256 / (2 pi)). The 53 bits of a frequency and the 64 bits of a turn need far fewer digits. It was computed with
# Machin's pi = 16 atan(1/5) - 4 atan(1/239), in integers scaled by 2^400, as 2^656 // (2 * (pi 2^400)).
_TURNS_PER_RADIAN = 0x28BE60DB_9391054A_7F09D5F4_7D4D3770_36D8A566_4F10E410_7F9458EA_F7AEF158
_TURNS_PER_RADIAN_BITS = 256


def fixed_point(frequencies: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Inverse frequencies (radians per position) as 64-bit fractions of a turn per position, in two words: (high, low).

    The fraction is F = round(frequency / (2 pi) * 2**64) mod 2**64, from the exact value of each float64. A kernel
    computes `(position * F) mod 2**64` with integer products that wrap around, for positions of either sign. That is the
    angle in units of 2**-64 turns without the whole turns. It is off by at most |position| * 2**-65 turns, which is
    4e-10 radians at position 2**31.
    """
    values = np.asarray(frequencies, np.float64)
    _expect(bool(np.all(np.isfinite(values) & (values >= 0))), "inverse frequencies are finite and not negative")
    turns = [_turns(float(value)) for value in values.ravel()]
    high = np.array([turn >> 32 for turn in turns], np.uint32).reshape(values.shape)
    low = np.array([turn & 0xFFFFFFFF for turn in turns], np.uint32).reshape(values.shape)
    return high, low


def _turns(frequency: float) -> int:
    numerator, denominator = frequency.as_integer_ratio()
    # numerator / denominator * 2^64 / (2 pi), rounded to nearest by adding a half before the floor.
    divisor = denominator << (_TURNS_PER_RADIAN_BITS - 64)
    return (numerator * _TURNS_PER_RADIAN + divisor // 2) // divisor % 2**64


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise RopegenError(message)


def _magnitude_limit(dtype: type[np.floating]) -> float:
    """The largest logarithm of a magnitude such that it and its inverse stay in the normal range of `dtype`."""
    return -math.log(float(np.finfo(dtype).tiny))


def _expect_magnitude(kind: str, log_scale: npt.NDArray[np.float64], dtype: type[np.floating]) -> None:
    limit = _magnitude_limit(dtype)
    worst = float(np.max(np.abs(log_scale), initial=0.0))
    _expect(
        worst <= limit,
        f"the {kind} magnitude reaches e^{worst:.0f} at these positions and the table holds e^{limit:.0f}; "
        "choose a larger base, or a centre in the middle of the positions",
    )


def _is_family(value: object) -> bool:
    return isinstance(value, Scaling)


def section_sizes(where: str, value: object) -> tuple[int, ...]:
    """`value` as the counts of pairs of the position axes.

    Raises:
      RopegenError: it is not a list of such counts; the message names `where`.
    """
    if not isinstance(value, list | tuple):
        raise RopegenError(f"{where} must list the pairs of each position axis, got {value!r}")
    shares = tuple(whole(f"{where}[{axis}]", size) for axis, size in enumerate(cast(list[object], value)))
    _expect(all(0 < size <= 1 << 15 for size in shares), f"{where}: every axis has from 1 to 32768 pairs, got {shares}")
    return shares
