"""Cosines and sines while JAX traces: tables for known positions, and exact reduction for run-time positions.

`angles="exact"` never rounds an angle of many turns in float32: tables are computed in float64 on the host, and run-time
positions are reduced in integers, or multiplied in float64 where the cosines and sines are float64. `angles="f32"` does
every step in float32 with XLA's power, cosine and sine, op by op in the order of equinox, attnax and penzai, so that the
bits equal theirs. NumPy's power would not do: it differs from XLA's in the last place, and the position multiplies the
difference. In both cases a table of known positions is a constant of the program.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from ropegen.ir import ops
from ropegen.ir.graph import Node
from ropegen.rotary import fixed_point
from ropegen.types import numpy_dtype

Array = jax.Array


def value(node: Node, positions: Array, *, known: bool = True) -> Array:
    """The value of an `angles` or `sinusoid` node: positions (..., S), or (axes, ..., S) with sections, -> (..., S, dim).

    With `known`, positions that the graph states become a constant; otherwise all are read from `positions`.
    """
    static = _static(node.operands[0]) if known else None
    if isinstance(node.op, ops.Sinusoid):
        return _sinusoid(node.op, positions, static)
    if not isinstance(node.op, ops.Angles):
        raise TypeError(f"{node.op.name} has no cosines and sines")
    return _angles(node.op, positions, static)


def _static(node: Node) -> np.ndarray | None:
    """The positions of a `positions` node, int64 (length,); None if they are only known at run time."""
    if not isinstance(node.op, ops.Positions):
        return None
    return np.arange(node.op.start, node.op.start + node.op.length)


def _angles(op: ops.Angles, positions: Array, static: np.ndarray | None) -> Array:
    if static is None:
        return _table(op, positions)
    if op.precision == "exact":
        return jnp.asarray(op.rope.table(static, op.head_width, op.length, op.inverse, numpy_dtype(op.dtype)))
    with jax.ensure_compile_time_eval():
        return _table(op, jnp.asarray(static, jnp.float32))


def _table(op: ops.Angles, positions: Array) -> Array:
    # Pair j reads the position axis axes[j]; without sections there is only one axis.
    placed = jnp.moveaxis(positions, 0, -1)[..., op.rope.axes(op.head_width)] if op.sections else positions[..., None]
    cos, sin = _cos_sin_for(op, placed, _inverse_frequencies(op))
    wide = cos.dtype.type
    magnitude: Any = wide(op.scaling.magnitude(op.length))
    slope = _log_scale_slope(op)
    if slope is not None:
        at_zero, rate = (end.astype(wide) for end in slope)
        log_scale = at_zero + placed.astype(wide) * rate
        magnitude = magnitude * jnp.exp(-log_scale if op.inverse else log_scale)
    return jnp.concatenate([cos * magnitude, sin * magnitude], axis=-1).astype(numpy_dtype(op.dtype))


def _sinusoid(op: ops.Sinusoid, positions: Array, static: np.ndarray | None) -> Array:
    pairs = (op.width + 1) // 2
    if op.precision == "f32":
        inverse = _float32_frequencies(op.theta, op.width, pairs)
    else:
        inverse = 1.0 / op.theta ** (2 * np.arange(pairs) / op.width)
    if static is None:
        cos, sin = _cos_sin_for(op, positions[..., None], inverse)
    elif op.precision == "f32":
        with jax.ensure_compile_time_eval():
            cos, sin = cos_sin(jnp.asarray(static, jnp.float32)[:, None], inverse, exact=False)
    else:
        wide = static[:, None] * inverse
        stored = jnp.float64 if op.dtype == "f64" else jnp.float32
        cos, sin = jnp.asarray(np.cos(wide), stored), jnp.asarray(np.sin(wide), stored)
    if op.pairing == "half":
        encoded = jnp.concatenate([sin, cos], axis=-1)
    else:
        encoded = jnp.stack([sin, cos], axis=-1).reshape(*sin.shape[:-1], 2 * pairs)[..., : op.width]
    return encoded.astype(numpy_dtype(op.dtype))


def _inverse_frequencies(op: ops.Angles) -> npt.NDArray[np.float64]:
    """Radians per position of every pair; the plain family in float32 takes them from XLA, as the seeds do."""
    if op.precision == "f32" and op.scaling.kind == "none":
        return _float32_frequencies(op.theta, op.dim, op.dim // 2)
    return op.rope.inverse_frequencies(op.head_width, op.length)


def _float32_frequencies(theta: float, width: int, pairs: int) -> npt.NDArray[np.float64]:
    """1 / theta ** (2j / width) in float32 by XLA, which divides by `width` as a product with its reciprocal."""
    with jax.ensure_compile_time_eval():
        exponents = 2 * jnp.arange(pairs, dtype=jnp.float32) / width
        return np.asarray(1.0 / theta**exponents, np.float64)


def _log_scale_slope(op: ops.Angles) -> tuple[np.ndarray, np.ndarray] | None:
    """The value at 0 and the slope of the magnitude's logarithm, which is linear in the position."""
    ends = op.scaling.log_scale(np.array([[0.0], [1.0]]), op.dim)
    if ends is None:
        return None
    return ends[0], ends[1] - ends[0]


def _cos_sin_for(
    op: ops.Angles | ops.Sinusoid, positions: Array, inverse_frequencies: npt.NDArray[np.float64]
) -> tuple[Array, Array]:
    """Cosines and sines of positions (..., 1 or P): float64 where the op asks for exact angles in float64, else float32."""
    if op.precision == "exact" and op.dtype == "f64":
        angles = positions.astype(jnp.float64) * inverse_frequencies
        return jnp.cos(angles), jnp.sin(angles)
    return cos_sin(positions, inverse_frequencies, exact=op.precision == "exact")


def cos_sin(positions: Array, inverse_frequencies: np.ndarray, *, exact: bool) -> tuple[Array, Array]:
    """Cosines and sines of positions (..., 1 or P) times inverse frequencies (P,); both are (..., P) float32.

    `exact` reduces the angle in integers, without float64: a position times the frequency, as a 64-bit fraction of a
    turn, wraps around at a whole turn. Only an angle of at most an eighth of a turn is rounded, so the error does not
    grow with the position (whole positions up to 2**31, and the fractional positions that float32 can hold). Beyond, for
    int64 and float64 positions, it is at most 2**-64 turns times the position more.
    """
    if not exact:
        angles = positions.astype(jnp.float32) * inverse_frequencies.astype(np.float32)
        return jnp.cos(angles), jnp.sin(angles)
    high, low = fixed_point(inverse_frequencies)
    if not jnp.issubdtype(positions.dtype, jnp.floating):
        return _turns_to_cos_sin(*_turns(positions, high, low))
    per_position = (inverse_frequencies / (2 * np.pi)).astype(np.float32)

    @jax.custom_jvp
    def fractional(positions: Array) -> tuple[Array, Array]:
        whole = jnp.floor(positions)
        # A fraction of a position adds less than one frequency, for which float32 is precise enough.
        fraction = (positions - whole).astype(jnp.float32) * per_position
        turns, rest = _turns(whole.astype(jnp.int64 if whole.dtype == jnp.float64 else jnp.int32), high, low)
        more, rest_of_fraction = _to_turns(fraction)
        return _turns_to_cos_sin(turns + more, rest + rest_of_fraction)

    @fractional.defjvp
    def derivative(primals: tuple[Array], tangents: tuple[Array]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:  # pyright: ignore[reportUnusedFunction]
        # JAX cannot differentiate through the integers, so the rule is given here: d angle / d position = frequency.
        cos, sin = fractional(*primals)
        slope = tangents[0].astype(jnp.float32) * inverse_frequencies.astype(np.float32)
        return (cos, sin), (-sin * slope, cos * slope)

    return fractional(positions)


def _turns(positions: Array, high: np.ndarray, low: np.ndarray) -> tuple[Array, Array]:
    """The product (positions * frequency) mod 1 turn, for integer positions: uint32 units of 2**-32 turn, and the rest.

    The rest is the float32 fraction of a unit; without it the sine of a small angle would lose its last bits.
    """
    position = positions.astype(jnp.uint32)  # the lower half, in two's complement
    carried = position * high + _high_half(position, low)
    # The upper half of an int64; that of an int32 is all ones, which is -1, if it is negative.
    if positions.dtype == jnp.int64:
        turns = carried + (positions >> 32).astype(jnp.uint32) * low
    else:
        turns = jnp.where(positions < 0, carried - low, carried)
    return turns, (position * low).astype(jnp.float32) * np.float32(2.0**-32)


def _high_half(a: Array, b: np.ndarray) -> Array:
    """The upper 32 bits of the 64-bit product of two uint32 numbers, in 16-bit halves."""
    mask = np.uint32(0xFFFF)
    a_low, a_high = a & mask, a >> 16
    b_low, b_high = b & mask, b >> np.uint32(16)
    middle = a_high * b_low + ((a_low * b_low) >> 16)
    return a_high * b_high + (middle >> 16) + ((a_low * b_high + (middle & mask)) >> 16)


def _to_turns(turns: Array) -> tuple[Array, Array]:
    """A float32 fraction of a turn (of magnitude below 1) as uint32 units of 2**-32, and the fraction of a unit left."""
    # In two steps of 16 bits: a float32 near 1 times 2**32 does not fit in int32.
    upper = jnp.floor(turns * 65536.0)
    lower = (turns * 65536.0 - upper) * 65536.0
    whole = jnp.floor(lower)
    return (upper.astype(jnp.int32).astype(jnp.uint32) << 16) + whole.astype(jnp.int32).astype(
        jnp.uint32
    ), lower - whole


# 2 pi / 2**32 in two parts: the first has 9 bits, so that its product with 15 bits is exact in float32.
_RADIANS_PER_UNIT = 2 * math.pi / 2**32
_RADIANS_HIGH = math.ldexp(round(math.ldexp(_RADIANS_PER_UNIT, 38)), -38)
_RADIANS_LOW = np.float32(_RADIANS_PER_UNIT - _RADIANS_HIGH)


def _turns_to_cos_sin(turns: Array, rest_of_unit: Array) -> tuple[Array, Array]:
    quarter = (turns + np.uint32(1 << 29)) >> 30  # the nearest quarter turn, 0..3 (4 wraps to 0)
    rest = (turns - (quarter << 30)).astype(jnp.int32)  # within an eighth of a turn of it
    # The angle as a float32 plus its rounding error, so that only the cosine itself rounds once more.
    upper = (rest >> 15).astype(jnp.float32) * np.float32(1 << 15)
    lower = (rest & 0x7FFF).astype(jnp.float32)
    exact = upper * np.float32(_RADIANS_HIGH)
    small = upper * _RADIANS_LOW + (lower + rest_of_unit) * np.float32(_RADIANS_PER_UNIT)
    angle = exact + small
    left = (exact - angle) + small
    near_cos, near_sin = jnp.cos(angle), jnp.sin(angle)
    cos, sin = near_cos - left * near_sin, near_sin + left * near_cos
    odd = (quarter & 1) == 1
    negative_cos = ((quarter + 1) & 2) == 2  # quarters 1 and 2
    negative_sin = (quarter & 2) == 2  # quarters 2 and 3
    turned_cos, turned_sin = jnp.where(odd, sin, cos), jnp.where(odd, cos, sin)
    return jnp.where(negative_cos, -turned_cos, turned_cos), jnp.where(negative_sin, -turned_sin, turned_sin)
