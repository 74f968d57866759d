"""Numbers in registers: memory in any element type as float32, powers of two, and edges narrower than a register."""

from __future__ import annotations

import functools

import numpy as np

from .ir import BF16, F16, F32, F64, I1, I8, I16, I32, I64, Function, Number, Type, Value

# Element types in memory, by ropegen's names. bfloat16 is loaded as an integer, because its conversion is a shift.
MEMORY: dict[str, Type] = {
    "f64": F64, "f32": F32, "f16": F16, "bf16": BF16, "i64": I64, "i32": I32, "i16": I16, "i8": I8, "i1": I8, "u8": I8,
}  # fmt: skip
LOG2_E = 1.4426950408889634
LOG_2 = 0.6931471805599453


def load_f32(f: Function, dtype: str, lanes: int, pointer: Value, index: Number, shown: Value | None = None) -> Value:
    """A register of float32 numbers from an array of f32, bf16 or f16 at an element's index.

    `shown` (a vector of i1) names the lanes to read; the others are 0, and their memory is not read.
    """
    memory = I16 if dtype == "bf16" else MEMORY[dtype]
    kind = memory.vector(lanes)
    loaded = f.load(kind, pointer, index) if shown is None else f.load_masked(kind, pointer, index, shown)
    if dtype == "bf16":
        return f.bitcast(f.convert(loaded, I32.vector(lanes), signed=False) << 16, F32.vector(lanes))
    return f.convert(loaded, F32.vector(lanes))


def store_f32(
    f: Function,
    dtype: str,
    value: Value,
    pointer: Value,
    index: Number,
    shown: Value | None = None,
    *,
    streams: bool = False,
) -> None:
    """Stores a register of float32 numbers to an array of f32, bf16 or f16, rounded to the nearest, ties to even.

    `shown` names the lanes to store. Without it, the store can bypass the caches (`streams`; see `Function.store`).
    """
    narrow = bf16_bits(f, value) if dtype == "bf16" else f.convert(value, MEMORY[dtype].vector(value.type.lanes))
    if shown is None:
        f.store(narrow, pointer, index, streams=streams)
    else:
        f.store_masked(narrow, pointer, index, shown)


def bf16_bits(f: Function, value: Value) -> Value:
    """float32 numbers as the bits of bfloat16 (i16), rounded to the nearest, ties to even; NaN stays NaN."""
    return f.convert(rounded_to_bf16(f, value) >> 16, I16.vector(value.type.lanes))


def rounded_to_bf16(f: Function, value: Value) -> Value:
    """Like `bf16_bits`, in the upper halves of i32; the lower halves are to be dropped."""
    bits = f.bitcast(value, I32.vector(value.type.lanes))
    rounded = bits + ((bits >> 16) & 1) + 0x7FFF
    return f.select(value.differs(value), bits | 0x400000, rounded)


def first_lanes(f: Function, lanes: int, count: Number) -> Value:
    """Which lanes are among the first `count`, as a vector of i1."""
    if isinstance(count, int):
        return f.lanes(I1.vector(lanes), [lane < count for lane in range(lanes)])
    numbers = f.lanes(I32.vector(lanes), range(lanes))
    return numbers < f.splat(f.convert(f.i64(count), I32), lanes)


@functools.cache
def exp2_coefficients(degree: int = 5) -> tuple[float, ...]:
    """The polynomial of 2**x for |x| <= 1/2 with the least relative error, lowest power first.

    Least squares at Chebyshev nodes, weighted again and again towards the largest errors.
    """
    x = 0.5 * np.cos(np.pi * (np.arange(4000) + 0.5) / 4000)
    powers = np.vander(x, degree + 1, increasing=True) / np.exp2(x)[:, None]
    weights = np.ones_like(x)
    coefficients = np.zeros(degree + 1)
    for _ in range(60):
        coefficients = np.linalg.lstsq(powers * weights[:, None], weights, rcond=None)[0]
        error = np.abs(powers @ coefficients - 1)
        weights *= 0.5 + error / error.max()
        weights /= weights.max()
    return tuple(float(value) for value in coefficients)


def exp2(f: Function, x: Value) -> Value:
    """2**x for float32 x <= 0: exactly 0 below -127, NaN for NaN. Relative error below 3e-7."""
    kind = x.type
    x = f.maximum(f.value(kind, -127.0), x)  # in this order a NaN stays one
    # Added to 1.5 * 2**23, a number loses its fraction; with the bias, the low bits are the exponent of 2**n.
    magic = 12582912.0 + 127.0
    shifted = x + magic
    fraction = x - (shifted - magic)
    scale = f.bitcast(f.bitcast(shifted, I32.vector(kind.lanes)) << 23, kind)
    *lower, highest = exp2_coefficients()
    power = f.value(kind, highest)
    for coefficient in reversed(lower):
        power = f.fma(power, fraction, f.value(kind, coefficient))
    return power * scale


def broadcast(f: Function, pointer: Value, index: Number, lanes: int) -> Value:
    """A float32 number in memory, in every lane."""
    return f.splat(f.load(F32, pointer, index), lanes)
