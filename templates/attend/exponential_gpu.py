"""Powers of two by a polynomial, in the units for products and sums of a GPU rather than in that for exponentials."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

# The coefficients of f, f^2, ... in polynomials for 2^f, |f| <= 1/2, with 1 at f = 0: of those, they have the smallest
# possible largest relative error (by linear programming on a fine grid). With the 1, the weight of a row's highest score is
# exact, and so is a row that sees one key.
_COEFFICIENTS = {
    3: (0.6932829022407532, 0.24221095442771912, 0.05500893294811249),
    4: (0.6931241750717163, 0.24024099111557007, 0.055906426161527634, 0.009582852944731712),
}
# Their largest relative errors.
ERRORS = {3: 1.02e-4, 4: 3.0e-6}
# A float32 plus this is a float32 without a fraction. Its lowest bits are those of the nearest integer plus 127, which is
# the exponent of a float32 if they are shifted there.
_INTEGER = np.float32(1.5 * 2**23 + 127)
_MANTISSA_BITS = 23
# The exponent 0 of a float32 stands for 2^-127, and is that of zero.
_ZERO = np.float32(-127)


def power_of_two(x: Array, degree: int) -> Array:
    """2^x of float32 x below 127, by a polynomial of a `degree`: 3 or 4, with the relative error `ERRORS[degree]`.

    It is 0 below -126.5, and so for -inf. It is NaN for NaN.
    """
    x = jnp.maximum(x, _ZERO)
    shifted = x + _INTEGER
    fraction = x - (shifted - _INTEGER)
    power = jnp.full_like(x, np.float32(_COEFFICIENTS[degree][-1]))
    for coefficient in (*_COEFFICIENTS[degree][-2::-1], 1.0):
        power = power * fraction + np.float32(coefficient)
    # A product with the scale, not a sum of exponents: it keeps a NaN, and makes zeros of all that is below.
    scale = lax.bitcast_convert_type(lax.bitcast_convert_type(shifted, jnp.int32) << _MANTISSA_BITS, jnp.float32)
    return power * scale
