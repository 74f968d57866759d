"""Attention over parts of the keys, merged by the log-sum-exp of every part."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax import lax

from ropegen import plain
from ropegen.arguments import array_of
from ropegen.errors import RopegenError

Array = jax.Array


def merged(parts: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """(out, lse) over the keys of all parts, from (out, lse) over those of every part; no half precision.

    The weight of a part in a row is exp(lse), over the sum of those of all parts (Dao et al. 2023). A row that sees no
    key of any part is zero, with a log-sum-exp of -inf and no gradient.
    """
    top = parts[0][1]
    for _, lse in parts[1:]:
        top = jnp.maximum(top, lse)
    # The results do not depend on the shift, so it needs no gradient.
    top = lax.stop_gradient(jnp.where(top == -jnp.inf, 0.0, top))
    weights = [jnp.exp(lse - top) for _, lse in parts]
    total = weights[0]
    for weight in weights[1:]:
        total = total + weight
    divisor = jnp.where(total > 0, total, 1.0)
    out = parts[0][0] * (weights[0] / divisor)[..., None]
    for (its, _), weight in zip(parts[1:], weights[1:], strict=True):
        out = out + its * (weight / divisor)[..., None]
    return out, jnp.where(total > 0, top + jnp.log(divisor), -jnp.inf)


@plain.own_promotion()
def merge(parts: Iterable[tuple[Array, Array]]) -> tuple[Array, Array]:
    """The attention of the same queries over several sets of keys: (out, lse), with gradients of both.

    A part is what `attention(..., return_lse=True)` returns for one of the sets: out (..., Sq, H, Dv) and lse (..., Sq, H).
    Any axes will do, if lse has those of out without the last. Sums are in float32, or float64 if a part is, and `out` is
    in the type of the parts. Give sinks to one part only, because they count in its log-sum-exp; a row that sees no key in
    any part is zero. A prefix that many sequences share, or a cache in pieces, is one part of several.

    Raises:
      RopegenError: there is no part, or the shapes or types of the parts differ.
    """
    several: Any = parts
    if not isinstance(several, Iterable) or getattr(several, "ndim", 1) == 0:
        raise RopegenError(f"merge: parts is {parts!r:.60}; give a list of (out, lse)")
    given = [_part(index, part) for index, part in enumerate(parts)]
    if not given:
        raise RopegenError("merge: there is no part; give a list of (out, lse)")
    first = given[0][0]
    for index, (out, _) in enumerate(given):
        if (out.shape, out.dtype) != (first.shape, first.dtype):
            raise RopegenError(
                f"merge: part 0 is {first.dtype.name}{list(first.shape)} and part {index} is {out.dtype.name}{list(out.shape)}; "
                "give results of the same queries, in one type"
            )
    wide = plain.accumulator(first.dtype)
    out, lse = merged([(out.astype(wide), lse.astype(wide)) for out, lse in given])
    return out.astype(first.dtype), lse


def _part(index: int, given: Any) -> tuple[Array, Array]:
    if not isinstance(given, tuple | list) or len(cast("Sequence[Any]", given)) != 2:
        raise RopegenError(
            f"merge: part {index} is {given!r:.60}; give (out, lse), as attention returns with return_lse=True"
        )
    names = f"merge: out of part {index}", f"merge: lse of part {index}"
    out, lse = (array_of(name, x) for name, x in zip(names, cast("Sequence[Any]", given), strict=True))
    if (
        out.ndim < 1
        or lse.shape != out.shape[:-1]
        or not all(jnp.issubdtype(x.dtype, jnp.floating) for x in (out, lse))
    ):
        raise RopegenError(
            f"merge: part {index} has out {out.dtype.name}{list(out.shape)} and lse {lse.dtype.name}{list(lse.shape)}; give "
            "floats, where lse has the axes of out without the last"
        )
    return out, lse
