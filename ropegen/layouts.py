"""The forms in which a program holds the operands of attention: the order of the axes, packed arrays, element types."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ropegen.arguments import array_of, is_one_of
from ropegen.errors import RopegenError, nearest
from ropegen.scaling import whole

Array = jax.Array

LAYOUTS = ("BSHD", "BHSD")
ACCUMULATORS = ("f32", "f64")


def heads_first(call: str, layout: object) -> bool:
    """Whether a layout has the heads before the sequence.

    Raises:
      RopegenError: it is none of `LAYOUTS`.
    """
    if not is_one_of(layout, LAYOUTS):
        raise RopegenError(f"{call}: layout is {layout!r:.60}; {nearest(str(layout), LAYOUTS)}")
    return layout == "BHSD"


@dataclass(frozen=True, slots=True)
class Form:
    """How a call holds q, k, v and the results, where `ropegen.attention` has BSHD and the type of q."""

    is_heads_first: bool
    narrow: np.dtype[np.generic] | None
    """The type of the result, if the call computes in float64 instead."""
    heads_are_batch: bool = False
    """Whether heads that come first are one more axis of the batch, with a single head, so that nothing is transposed."""

    @staticmethod
    def of(call: str, layout: object, accumulate: object, q: Array, heads_are_batch: bool = False) -> Form:
        """The form that the arguments of a call ask for. `heads_are_batch` says whether a head may be a batch entry.

        Raises:
          RopegenError: an unknown layout or accumulator, one that loses digits of q, or float64 without x64.
        """
        first = heads_first(call, layout)
        as_batch = first and heads_are_batch
        if accumulate is None:
            return Form(first, None, as_batch)
        if not is_one_of(accumulate, ACCUMULATORS):
            raise RopegenError(
                f"{call}: accumulate is {accumulate!r:.60}; give 'f32' or 'f64', because sums over keys in half precision lose "
                "digits with every key"
            )
        dtype = np.dtype(array_of(f"{call}: q", q).dtype)
        if accumulate == "f32":
            if dtype == np.float64:
                raise RopegenError(f"{call}: accumulate is 'f32' and q is float64; cast q, k and v to float32")
            return Form(first, None, as_batch)
        if jax.dtypes.canonicalize_dtype(np.float64) != np.float64:
            raise RopegenError(f"{call}: accumulate is 'f64', which JAX has under jax.enable_x64(True); enable it")
        return Form(first, dtype, as_batch)

    def operand(self, what: str, x: Array) -> Array:
        """The operand q, k or v as BSHD, in the type that is computed in.

        Raises:
          RopegenError: it is no array of numbers; the message begins with `what`.
        """
        if self.narrow is not None:
            x = array_of(what, x).astype(np.float64)
        return self._moved(array_of(what, x)) if self.is_heads_first else x

    def sharding(self, sharding: Any, q: Array) -> Any:
        """A sharding over the first axes of q, as one over (..., sequence, heads)."""
        if sharding is None or not self.is_heads_first or self.heads_are_batch:
            return sharding
        if not isinstance(cast(object, sharding), NamedSharding | PartitionSpec) or (rank := jnp.ndim(q)) < 3:
            return sharding  # the call refuses it
        spec = sharding.spec if isinstance(sharding, NamedSharding) else sharding
        entries = [*spec, *(None,) * (rank - len(spec))]
        entries[rank - 3], entries[rank - 2] = entries[rank - 2], entries[rank - 3]
        while entries and entries[-1] is None:
            entries.pop()
        turned = PartitionSpec(*entries)
        return NamedSharding(sharding.mesh, turned) if isinstance(sharding, NamedSharding) else turned

    def out(self, out: Array) -> Array:
        """The output in the form of the operands."""
        out = out if self.narrow is None else out.astype(self.narrow)
        return jnp.squeeze(out, -2) if self.heads_are_batch else self._moved(out)

    def lse(self, lse: Array) -> Array:
        """The log-sum-exp in the form of the operands, without the axis of the features."""
        if self.heads_are_batch:
            return jnp.squeeze(lse, -1)
        return jnp.swapaxes(lse, -1, -2) if self.is_heads_first else lse

    def _moved(self, x: Array) -> Array:
        if self.heads_are_batch:
            return jnp.expand_dims(x, -2) if jnp.ndim(x) >= 3 else x
        return bshd(x) if self.is_heads_first else x


def bshd(x: Array) -> Array:
    """The array x (..., H, S, D) as (..., S, H, D), and back. An array without these axes is unchanged."""
    return jnp.swapaxes(x, -2, -3) if jnp.ndim(x) >= 3 else x


def unpack_qkv(qkv: Array, *, heads: int | None = None, kv_heads: int | None = None) -> tuple[Array, Array, Array]:
    """The queries, keys and values of a packed array, for `attention(*unpack_qkv(qkv))`: slices, which XLA does not copy.

    Without `heads`, qkv is (..., S, 3, H, D), as flash-attention's functions with qkvpacked in their name take it. With
    `heads`, it is a projection (..., S, (heads + 2 kv_heads) D) whose columns are all queries, then all keys, then all
    values; `kv_heads` is `heads` if left out. The gradient by qkv is packed like qkv.

    Raises:
      RopegenError: the shape does not fit.
    """
    x = array_of("unpack_qkv: qkv", qkv)
    if heads is None:
        if kv_heads is not None:
            raise RopegenError(
                "unpack_qkv: kv_heads is given and heads is not; give both, for a projection (..., S, F)"
            )
        if x.ndim < 4 or x.shape[-3] != 3:
            raise RopegenError(
                f"unpack_qkv: qkv has the shape {x.shape}; give (..., S, 3, H, D), or heads= for a projection (..., S, F)"
            )
        return x[..., 0, :, :], x[..., 1, :, :], x[..., 2, :, :]
    of_queries = _count("unpack_qkv: heads", heads)
    of_keys = of_queries if kv_heads is None else _count("unpack_qkv: kv_heads", kv_heads)
    q, k, v = _columns("unpack_qkv: qkv", x, (of_queries, of_keys, of_keys))
    return q, k, v


def unpack_kv(kv: Array, *, kv_heads: int | None = None) -> tuple[Array, Array]:
    """The keys and values of a packed array, for `attention(q, *unpack_kv(kv))`: slices, which XLA does not copy.

    Without `kv_heads`, kv is (..., S, 2, Hkv, D), as flash-attention's functions with kvpacked in their name take it. With
    it, kv is a projection (..., S, 2 kv_heads D) whose columns are all keys, then all values.

    Raises:
      RopegenError: the shape does not fit.
    """
    x = array_of("unpack_kv: kv", kv)
    if kv_heads is None:
        if x.ndim < 4 or x.shape[-3] != 2:
            raise RopegenError(
                f"unpack_kv: kv has the shape {x.shape}; give (..., S, 2, Hkv, D), or kv_heads= for a projection (..., S, F)"
            )
        return x[..., 0, :, :], x[..., 1, :, :]
    count = _count("unpack_kv: kv_heads", kv_heads)
    k, v = _columns("unpack_kv: kv", x, (count, count))
    return k, v


def _count(what: str, given: object) -> int:
    count = whole(what, given)
    if count < 1:
        raise RopegenError(f"{what} is {count}; give the number of heads, at least 1")
    return count


def _columns(what: str, x: Array, heads: tuple[int, ...]) -> list[Array]:
    """The heads of a projection (..., S, F), in groups of these numbers, all of one width: (..., S, H, D) each."""
    if x.ndim < 2 or x.shape[-1] % sum(heads):
        raise RopegenError(
            f"{what} has the shape {x.shape}; give (..., S, F), where F is a multiple of {' + '.join(map(str, heads))} heads"
        )
    by_head = x.reshape(*x.shape[:-1], sum(heads), x.shape[-1] // sum(heads))
    ends = np.cumsum((0, *heads)).tolist()
    return [by_head[..., start:stop, :] for start, stop in itertools.pairwise(ends)]
