"""The attention of `jax.nn`, computed by `ropegen.attention`."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from ropegen import masks
from ropegen.arguments import array_of, flag_of
from ropegen.errors import RopegenError, nearest
from ropegen.expression import Expr, Var, apply
from ropegen.plain import accumulator
from ropegen.plain_call import Call

__all__ = ["dot_product_attention"]

Array = jax.Array

_IMPLEMENTATIONS = ("xla", "cudnn")
_NAME = "jax_nn.dot_product_attention"

# The score that jax.nn gives to a hidden key, as a share of the largest finite number.
_HIDDEN = -0.7

# Positions are below this, so a longer window hides nothing.
_LONGEST = 2**31 - 1


def dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    query_seq_lengths: ArrayLike | None = None,
    key_value_seq_lengths: ArrayLike | None = None,
    local_window_size: int | tuple[int, int] | None = None,
    implementation: Literal["xla", "cudnn"] | None = None,
    return_residual: bool = False,
) -> Any:
    """`jax.nn.dot_product_attention`: query (B, T, N, H), key and value (B, S, K, H) -> (B, T, N, H), all without B too.

    The arguments mean what they mean there. Queries and keys count from 0, also where T and S differ.

    bias, mask: at most four axes, which broadcast to (B, N, T, S); the third from the right is 1 or N.
    scale: 1/sqrt(H) if None. A scale that JAX traces multiplies the query, in the query's type.
    query_seq_lengths, key_value_seq_lengths: (B,) int32. Queries and keys from that index on are padding.
    local_window_size: (left, right), or one number for both: query i sees keys i - left to i + right.
    implementation: None and "xla" let ropegen plan, so a native kernel may compute the result. "cudnn" is refused.
    return_residual: also return the log-sum-exp (B, T, N), in the type of the key.

    As in jax.nn, a row that sees no key is the mean of all values, a row of padding is zero, and the residual of both is
    -0.7 times the largest float32. Unlike in jax.nn, the residual has a gradient, the softmax of float64 is computed in
    float64, and a row whose bias is -inf everywhere is one that sees no key, where jax.nn gives NaN.

    Raises:
      RopegenError: shapes, types or options that do not fit.
    """
    arrays = {"query": _four("query", query), "key": _four("key", key), "value": _four("value", value)}
    q, k, v = arrays.values()
    if any(x.ndim != 4 for x in arrays.values()):
        shapes = ", ".join(f"{name} {x.shape}" for name, x in arrays.items())
        raise RopegenError(
            f"{_NAME}: {shapes}; give four axes, (batch, sequence, heads, width), or three without batch"
        )
    batch, keys, kv_heads, width = k.shape
    _expect("value", v, k.shape, k.dtype)
    _expect("query", q, (batch, q.shape[1], q.shape[2], width), k.dtype)
    queries, heads = q.shape[1:3]
    if kv_heads == 0 or heads % kv_heads:
        raise RopegenError(f"{_NAME}: {heads} query heads over {kv_heads} key heads; give a multiple of the key heads")
    if implementation is not None and implementation not in _IMPLEMENTATIONS:
        raise RopegenError(
            f"{_NAME}: implementation is {implementation!r:.60}; {nearest(str(implementation), _IMPLEMENTATIONS)}"
        )
    if implementation == "cudnn":
        raise RopegenError(
            f"{_NAME}: implementation is 'cudnn', and ropegen calls no kernel of cuDNN; leave it out for the kernel that "
            "ropegen plans, or call jax.nn.dot_product_attention"
        )
    if isinstance(scale, Tracer):
        q, scale = q * jnp.asarray(scale, q.dtype), 1.0
    with_residual = flag_of(f"{_NAME}: return_residual", return_residual)
    wanted = (batch, heads, queries, keys)
    given: dict[str, Any] = {}
    if bias is not None:
        added = _broadcasts("bias", bias, wanted)
        given["bias"] = added if jnp.issubdtype(added.dtype, jnp.floating) else added.astype(accumulator(q.dtype))
    dense = None
    if mask is not None:
        dense = _broadcasts("mask", mask, wanted)
        if dense.dtype != np.bool_:
            raise RopegenError(
                f"{_NAME}: mask is {dense.dtype}; give booleans, True where a query sees a key, or give numbers as bias"
            )
    terms: list[Expr] = [masks.causal] if flag_of(f"{_NAME}: is_causal", is_causal) else []
    terms += [] if local_window_size is None else [_window(local_window_size)]
    inside = _inside("query_seq_lengths", query_seq_lengths, batch, queries)
    of_keys = _inside("key_value_seq_lengths", key_value_seq_lengths, batch, keys)
    for side, shown in (("q", inside), ("kv", of_keys)):
        if shown is not None:
            # Segment 0 holds what is no padding. Kernels compare the segments of whole tiles at run time.
            terms.append(apply("==", Var(f"{side}_segment"), 0))
            given[f"{side}_segments"] = jnp.logical_not(shown).astype(jnp.int32)
    visible = masks.full
    for term in terms:
        visible = visible & term
    out, lse = _attended(q, k, v, visible, dense, scale, given, with_residual)
    if inside is not None:
        out = jnp.where(inside[:, :, None, None], out, jnp.zeros((), out.dtype))
    shape = np.shape(query)
    out = out.reshape(shape)
    if lse is None:
        return out
    hidden = np.asarray(_HIDDEN * np.finfo(lse.dtype).max, lse.dtype)
    if lse.dtype == np.float32:  # the softmax of jax.nn is float32, in which the number for float64 is -inf
        lse = jnp.where(lse == -jnp.inf, hidden, lse)
    return out, lse.astype(k.dtype).reshape(shape[:-1])


def _attended(
    q: Array,
    k: Array,
    v: Array,
    visible: Expr,
    dense: Array | None,
    scale: float | None,
    given: dict[str, Any],
    with_lse: bool,
) -> tuple[Array, Array | None]:
    """(out, lse) of an attention with a mask expression and a dense mask; lse is None unless it is asked for."""
    call = Call(_NAME)
    nodes = [call.array(name, x) for name, x in (("query", q), ("key", k), ("value", v))]
    options: dict[str, Any] = {
        "mask": visible,
        "dense_mask": call.optional("mask", dense),
        "scale": scale,
        "masked_row": "mean",
        "bias": call.optional("bias", given.get("bias")),
    }
    if {"q_pos", "kv_pos"} & masks.variables(visible):
        for name, node in (("q_positions", nodes[0]), ("kv_positions", nodes[1])):
            options[name] = call.positions(name, None, node.type.shape[1])
    for name in ("q_segments", "kv_segments"):
        options[name] = call.optional(name, given.get(name))
    outputs = {"out": call.builder.attend(*nodes, **options)}
    if with_lse:
        outputs["lse"] = call.builder.attend(*nodes, **options, returns="log_sum_exp")
    results = call.run(outputs)
    return results["out"], results.get("lse")


def _four(name: str, x: ArrayLike) -> Array:
    """The array with axes of size 1 before its own, so that it has four; one with more is unchanged."""
    array = array_of(f"{_NAME}: {name}", x)
    return array.reshape((1,) * max(0, 4 - array.ndim) + array.shape)


def _expect(name: str, x: Array, shape: tuple[int, ...], dtype: Any) -> None:
    if x.shape != shape or x.dtype != dtype:
        raise RopegenError(
            f"{_NAME}: {name} is {x.dtype.name}{list(x.shape)}, and the key makes it {np.dtype(dtype).name}{list(shape)}; "
            "give arrays of one type that fit, or call ropegen.attention, where values may have another width"
        )


def _broadcasts(name: str, given: ArrayLike, wanted: tuple[int, ...]) -> Array:
    """A bias or mask with four axes that broadcast to (B, N, T, S)."""
    x = _four(name, given)
    if x.ndim != 4 or any(size not in (1, whole) for size, whole in zip(x.shape, wanted, strict=True)):
        raise RopegenError(
            f"{_NAME}: {name} has the shape {np.shape(given)}; give one that broadcasts to (batch, heads, queries, keys) = "
            f"{wanted}"
        )
    return x


def _inside(name: str, lengths: ArrayLike | None, batch: int, length: int) -> Array | None:
    """Which indices below `length` are no padding, (B, length); None if there are no lengths."""
    if lengths is None:
        return None
    count = array_of(f"{_NAME}: {name}", lengths)
    if count.shape != (batch,) or count.dtype != np.int32:
        raise RopegenError(
            f"{_NAME}: {name} are {count.dtype.name}{list(count.shape)}; give one int32 for every sequence, [{batch}]"
        )
    return jnp.arange(length, dtype=jnp.int32) < count[:, None]


def _window(size: Any) -> Expr:
    """Keys from `left` positions before the query to `right` after it."""
    sides = size if isinstance(size, tuple | list) else (size, size)
    if len(sides) != 2 or not all(isinstance(side, int | np.integer) for side in sides):
        raise RopegenError(
            f"{_NAME}: local_window_size is {size!r:.60}; give (left, right) as two numbers of Python, or one for both"
        )
    left, right = (min(max(int(side), -_LONGEST), _LONGEST) for side in sides)
    query, key = Var("q_pos"), Var("kv_pos")
    return apply("<=", apply("-", query, key), left) & apply("<=", apply("-", key, query), right)
