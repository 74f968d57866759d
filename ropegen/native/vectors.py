"""Numbers in registers: memory in any element type as float32, powers of two, and edges narrower than a register."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .ir import BF16, F16, F32, F64, I1, I8, I16, I32, I64, Function, Number, Type, Value

# Element types in memory, by ropegen's names. bfloat16 is loaded as an integer, because its conversion is a shift.
MEMORY: dict[str, Type] = {
    "f64": F64, "f32": F32, "f16": F16, "bf16": BF16, "i64": I64, "i32": I32, "i16": I16, "i8": I8, "i1": I8,
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


def paired(f: Function, first: Value, second: Value) -> Value:
    """Two registers of float32 as one of pairs of bfloat16: lane n holds both numbers of lane n, rounded."""
    lanes = first.type.lanes
    low, high = (f.convert(value, BF16.vector(lanes)) for value in (first, second))
    mixed = [lane // 2 + lanes * (lane % 2) for lane in range(2 * lanes)]
    return f.bitcast(f.shuffle(low, high, mixed), F32.vector(lanes))


def neighbours_paired(f: Function, first: Value, second: Value) -> Value:
    """Two registers of float32 as one of pairs of bfloat16: lane n holds the numbers 2 n and 2 n + 1 of both, rounded."""
    lanes = first.type.lanes
    low, high = (f.convert(value, BF16.vector(lanes)) for value in (first, second))
    return f.bitcast(f.shuffle(low, high, range(2 * lanes)), F32.vector(lanes))


def finite_pairs(f: Function, register: Value) -> Value:
    """A register of pairs of bfloat16 with 0 for NaN and infinities, whose exponents have all bits set."""
    bits = f.bitcast(register, I16.vector(2 * register.type.lanes))
    exponents = bits & 0x7F80
    return f.bitcast(f.select(exponents.equals(0x7F80), f.zero(bits.type), bits), register.type)


def multiply_pairs(f: Function, left: Value, right: Value, sums: Value) -> Value:
    """`sums` (float32) plus both products of the pairs of bfloat16 in every lane; for a unit that has `pairs`.

    AVX512-BF16 takes numbers below 2**-126 as 0.
    """
    kind = BF16.vector(2 * sums.type.lanes)
    name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * sums.type.lanes}"
    return f.call(name, sums.type, sums, f.bitcast(left, kind), f.bitcast(right, kind))


def first_lanes(f: Function, lanes: int, count: Number) -> Value:
    """Which lanes are among the first `count`, as a vector of i1."""
    if isinstance(count, Value) and isinstance(count.constant, int):
        count = count.constant
    if isinstance(count, int):
        return f.lanes(I1.vector(lanes), [lane < count for lane in range(lanes)])
    numbers = f.lanes(I32.vector(lanes), range(lanes))
    return numbers < f.splat(f.convert(f.i64(count), I32), lanes)


# Polynomials, lowest power first, which have the least largest relative error of the function that is named.
# Each coefficient in turn was rounded to float32, and the later ones were fitted again.
# (2**x - 1) / x of 2**x for |x| <= 1/2: 9.4e-8.
_EXP2 = (0.6931470036506653, 0.24022246897220612, 0.0555071085691452, 0.009671291336417198, 0.0013269518967717886)
# (exp(x) - 1 - x) / x**2 of exp(x) for |x| <= log(2)/2: 3.2e-9.
_EXP = (0.4999999403953552, 0.1666652113199234, 0.04166826605796814, 0.008368677459657192, 0.001382073969580233)
# (log(1 + x) - x + x**2 / 2) / x**3 of log(1 + x) for sqrt(1/2) <= 1 + x <= sqrt(2): 5.9e-9.
_LOG = (
    0.3333333134651184, -0.2500081956386566, 0.2000124156475067, -0.166234090924263, 0.14201579988002777,
    -0.13159610331058502, 0.12762217223644257, -0.07636439055204391,
)  # fmt: skip
# (tanh(x) - x) / x**3 of tanh(x) for |x| <= 0.625, in powers of x**2: 4.6e-9.
_TANH = (-0.3333328068256378, 0.13331405818462372, -0.05373651534318924, 0.02062816731631756, -0.005692296661436558)
# log(2) as a float32 number of 15 bits, whose products with exponents are exact, and the rest.
_LOG_2_HIGH, _LOG_2_LOW = 0.693145751953125, 1.42860682030941723212e-6
# Added to 1.5 * 2**23, a float32 number loses its fraction, and the low bits of the sum are the integer.
_MAGIC = 12582912.0


def _polynomial(f: Function, coefficients: Sequence[float], x: Value) -> Value:
    """The polynomial of x, by Horner's rule."""
    *lower, highest = coefficients
    total = f.value(x.type, highest)
    for coefficient in reversed(lower):
        total = f.fma(total, x, f.value(x.type, coefficient))
    return total


def _power_of_2(f: Function, exponent: Value) -> Value:
    """2**exponent for integers (i32) from -126 to 127, as float32."""
    return f.bitcast((exponent + 127) << 23, F32.vector(exponent.type.lanes))


def exp2(f: Function, x: Value) -> Value:
    """2**x for float32 x <= 0: exactly 1 at 0, exactly 0 below -127, NaN for NaN. Relative error below 2e-7."""
    kind = x.type
    x = f.maximum(f.value(kind, -127.0), x)  # in this order a NaN stays one
    shifted = x + (_MAGIC + 127.0)  # with the bias, the low bits are the exponent of 2**n
    fraction = x - (shifted - (_MAGIC + 127.0))
    scale = f.bitcast(f.bitcast(shifted, I32.vector(kind.lanes)) << 23, kind)
    # Scaled while the polynomial is computed, a number is complete earlier than if it were scaled at the end.
    return f.fma(_polynomial(f, _EXP2, fraction), fraction * scale, scale)


def exp(f: Function, x: Value) -> Value:
    """The exponential of float32 numbers: error of at most 2 units in the last place, infinity above 88.72, NaN for NaN.

    A result below 2**-126 is 0 where the processor flushes such numbers to zero, as it does in all code that XLA calls.
    """
    x = f.minimum(f.value(x.type, 89.0), f.maximum(f.value(x.type, -105.0), x))
    power, exponent = _exp_parts(f, x)
    half = f.binary("ashr", exponent, 1)  # 2**exponent itself may lie outside of float32
    return power * _power_of_2(f, half) * _power_of_2(f, exponent - half)


def _exp_parts(f: Function, x: Value) -> tuple[Value, Value]:
    """A number from sqrt(1/2) to sqrt(2) and an exponent (i32), for which exp(x) is number * 2**exponent."""
    kind = x.type
    whole = I32.vector(kind.lanes)
    shifted = f.fma(x, f.value(kind, LOG2_E), f.value(kind, _MAGIC))
    turns = shifted - _MAGIC
    rest = f.fma(turns, f.value(kind, -_LOG_2_LOW), f.fma(turns, f.value(kind, -_LOG_2_HIGH), x))
    power = f.fma(_polynomial(f, _EXP, rest), rest * rest, rest) + 1.0
    return power, f.bitcast(shifted, whole) - f.bitcast(f.value(kind, _MAGIC), whole)


def log(f: Function, x: Value) -> Value:
    """The natural logarithm of float32 numbers: error of at most 2 units in the last place.

    It is -infinity for 0, infinity for infinity, and NaN below 0 and for NaN. Where the processor flushes numbers below
    2**-126 to zero, as it does in all code that XLA calls, their logarithm is -infinity.
    """
    kind = x.type
    whole = I32.vector(kind.lanes)
    tiny = x < 2.0**-126
    normal = f.select(tiny, x * 2.0**23, x)
    # The exponent for which x / 2**exponent lies between sqrt(1/2) and sqrt(2).
    bits = f.bitcast(normal, whole) - _bits(2.0**-0.5)
    exponent = f.binary("ashr", bits, 23)
    near_1 = f.bitcast((bits & 0x7FFFFF) + _bits(2.0**-0.5), kind) - 1.0
    turns = f.convert(exponent, kind) - f.select(tiny, f.value(kind, 23.0), 0.0)
    square = near_1 * near_1
    small = f.fma(_polynomial(f, _LOG, near_1), square * near_1, turns * _LOG_2_LOW)
    result = f.fma(turns, f.value(kind, _LOG_2_HIGH), near_1 + f.fma(square, f.value(kind, -0.5), small))
    result = f.select(x < math.inf, result, x)  # infinity and NaN stay
    result = f.select(x.equals(0.0), f.value(kind, -math.inf), result)
    return f.select(x < 0.0, f.value(kind, math.nan), result)


def _bits(number: float) -> int:
    return int(np.float32(number).view(np.int32))


def tanh(f: Function, x: Value) -> Value:
    """The hyperbolic tangent of float32 numbers: error of at most 2 units in the last place, NaN for NaN."""
    kind = x.type
    square = x * x
    near_0 = f.fma(_polynomial(f, _TANH, square) * square, x, x)
    size = f.intrinsic("fabs", x)
    power, exponent = _exp_parts(f, f.minimum(f.value(kind, 20.0), size + size))
    far = 1.0 - f.value(kind, 2.0) / f.fma(power, _power_of_2(f, exponent), f.value(kind, 1.0))
    return f.intrinsic("copysign", f.select(size < 0.625, near_0, far), x)


def broadcast(f: Function, pointer: Value, index: Number, lanes: int) -> Value:
    """A float32 number in memory, in every lane."""
    return f.splat(f.load(F32, pointer, index), lanes)


def minimum(f: Function, left: Value, right: Value) -> Value:
    """The smaller, or NaN if one is NaN; of two zeros, either one. Integers are signed."""
    least = f.minimum(left, right)
    return f.select(left.differs(left), left, least) if left.type.is_float else least


def maximum(f: Function, left: Value, right: Value) -> Value:
    """The larger, or NaN if one is NaN; of two zeros, either one. Integers are signed."""
    most = f.maximum(left, right)
    return f.select(left.differs(left), left, most) if left.type.is_float else most
