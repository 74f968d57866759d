"""equinox's Embedding, RotaryPositionalEmbedding and MultiheadAttention, computed by ropegen: `pip install equinox`.

import ropegen.equinox as rnn  # in place of equinox.nn

model = rnn.from_equinox(model)  # the same weights in ropegen's layers

Names, arguments, shapes, fields and exception types are those of equinox 0.13.8, and leaves saved by equinox load
unchanged. Run op by op, the rotation has equinox's bits (float32 and bfloat16). Attention is fused and never stores the
weights of all queries by all keys. If `process_heads` only rotates, the rotation moves into the fused attention.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.extend import core
from jax.interpreters import ad, batching, mlir

from ropegen import plain
from ropegen.arguments import counted
from ropegen.errors import RopegenError
from ropegen.functions import attention, embed, rope_table
from ropegen.plain_call import Targets, parse_targets
from ropegen.rotary import Rope
from ropegen.target import Target

try:
    import equinox as eqx
except ModuleNotFoundError as missing:
    if missing.name != "equinox":
        raise
    raise ModuleNotFoundError(
        "ropegen.equinox: equinox is not installed; pip install equinox", name="equinox"
    ) from None

from ropegen.layers.equinox import ProgramLayer as ProgramLayer

__all__ = ["Embedding", "MultiheadAttention", "ProgramLayer", "RotaryPositionalEmbedding", "from_equinox"]

Array = jax.Array
ArrayLike = npt.ArrayLike | jax.Array
Heads = tuple[Array, Array, Array]
Tree = TypeVar("Tree")


class _TypeError(RopegenError, TypeError):
    """An error for which equinox raises TypeError."""


class _PromotionError(RopegenError, jax.dtypes.TypePromotionError):
    """An error for which equinox raises jax's TypePromotionError."""


def _default_float() -> Any:
    return jnp.float64 if jnp.result_type(float) == jnp.float64 else jnp.float32


class Embedding(eqx.Module):
    """A table (num_embeddings, embedding_size) whose rows are looked up by a scalar index."""

    num_embeddings: int = eqx.field(static=True)
    embedding_size: int = eqx.field(static=True)
    weight: Array
    target: tuple[Target, ...] = eqx.field(static=True)

    def __init__(
        self,
        num_embeddings: int | None = None,
        embedding_size: int | None = None,
        weight: Array | None = None,
        dtype: Any = None,
        *,
        key: Array | None = None,
        target: Targets = None,
    ) -> None:
        """The table `weight`, or one of N(0, 1) drawn from `key` in `dtype` (None: JAX's default float).

        The drawn numbers are those that equinox draws. `target` is that of `ropegen.embed`.

        Raises:
          RopegenError: a size or the key is missing, a size is negative, or `weight` has another shape.
        """
        if weight is None:
            if num_embeddings is None or embedding_size is None or key is None:
                raise RopegenError(
                    f"Embedding(num_embeddings={num_embeddings}, embedding_size={embedding_size}, "
                    f"key={'given' if key is not None else None}) without weight=; give all three, or the weight"
                )
            if num_embeddings < 0 or embedding_size < 0:
                raise RopegenError(
                    f"Embedding: num_embeddings {num_embeddings} and embedding_size {embedding_size} "
                    "must not be negative"
                )
            weight = jax.random.normal(
                key, (num_embeddings, embedding_size), dtype=_default_float() if dtype is None else dtype
            )
        shape = tuple(weight.shape)
        if len(shape) != 2 or num_embeddings not in (None, shape[0]) or embedding_size not in (None, shape[1]):
            asked = tuple("any" if size is None else size for size in (num_embeddings, embedding_size))
            raise RopegenError(
                f"Embedding: the weight is {shape}; give (num_embeddings, embedding_size), here ({asked[0]}, {asked[1]})"
            )
        self.num_embeddings, self.embedding_size = shape
        self.weight = weight
        self.target = parse_targets(target)

    def __call__(self, x: ArrayLike, *, key: Array | None = None) -> Array:
        """The row at a scalar integer index, (embedding_size,). `key` is ignored.

        An index from -num_embeddings to -1 counts from the end; an index beyond either end takes the nearest row.

        Raises:
          RopegenError: `x` is not a scalar (use `jax.vmap` for more), or the table is not of a floating type.
          TypeError: `x` is not an integer; the error is a RopegenError too.
        """
        given: Any = x
        if not eqx.is_array_like(given) or jnp.shape(given) != ():
            got = f"of shape {jnp.shape(given)}" if eqx.is_array_like(given) else f"a {type(given).__name__}"
            raise RopegenError(
                f"Embedding: the index is {got}; give a scalar integer, and use jax.vmap to look up several"
            )
        index = jnp.asarray(given)
        if not jnp.issubdtype(index.dtype, jnp.integer):
            raise _TypeError(f"Embedding: the index is of type {index.dtype}; give an integer")
        rows = self.weight.shape[0]
        if jnp.issubdtype(index.dtype, jnp.unsignedinteger):
            # This precedes the cast, so that an index of 2**31 stays beyond the end.
            index = jnp.minimum(index, min(max(rows - 1, 0), jnp.iinfo(index.dtype).max))
        index = index.astype(jnp.int64 if index.dtype in (jnp.int64, jnp.uint64) else jnp.int32)
        return embed(jnp.where(index < 0, index + rows, index), self.weight, target=self.target)


class RotaryPositionalEmbedding(eqx.Module):
    """Rotary embedding (RoFormer, arXiv:2104.09864) of x (sequence, embedding_size); it pairs j with j + size/2.

    `dtype` is the type of the cosines and sines. They are computed in float32 (in JAX's 64-bit mode in float64, exact to
    the last place) and then cast; `dtype` is JAX's default float if it is not given. The products and their sum have the wider type
    of x and `dtype`, and the result has the type of x. Every theta has its own table, while equinox 0.13.8 can give a
    layer the table of another layer's theta. theta must be above 1.

    `target` is that of `ropegen.rope`. The rotation is the same ops on every platform today, so it is only checked.
    """

    embedding_size: int = eqx.field(static=True)
    theta: float = eqx.field(static=True, default=10_000.0)
    dtype: Any = eqx.field(static=True, default_factory=_default_float)
    target: tuple[Target, ...] = eqx.field(static=True, default=(), kw_only=True, converter=parse_targets)

    def __check_init__(self) -> None:
        if self.embedding_size < 0 or self.embedding_size % 2:
            raise RopegenError(
                f"RotaryPositionalEmbedding: embedding_size {self.embedding_size} must be even and not negative"
            )
        self._rope()

    def __call__(self, x: Array, *, key: Array | None = None, positions: ArrayLike | None = None) -> Array:
        """Rotate x (S, embedding_size) at integer positions (S,); None stands for 0 .. S-1. `key` is ignored.

        For heads use `jax.vmap(layer, in_axes=1, out_axes=1)` over (S, heads, embedding_size). S may be symbolic.

        Raises:
          RopegenError: shapes do not fit, or positions are not integers.
          TypePromotionError: x is not of `dtype` and jax_numpy_dtype_promotion is "strict"; the error is a RopegenError
            too.
        """
        if len(x.shape) != 2 or x.shape[1] != self.embedding_size:
            raise RopegenError(
                f"RotaryPositionalEmbedding: x is {tuple(x.shape)}; give (sequence, {self.embedding_size}), "
                "and use jax.vmap for heads and batches"
            )
        dtype = np.dtype(self.dtype)
        try:
            jnp.promote_types(x.dtype, dtype)
        except jax.dtypes.TypePromotionError:
            raise _PromotionError(
                f"RotaryPositionalEmbedding: x is {x.dtype} and the table is {dtype}, and jax_numpy_dtype_promotion="
                f"'strict' does not mix them; cast x, or make the layer with dtype={x.dtype}"
            ) from None
        given = () if positions is None else (jnp.asarray(positions),)
        for at in given:
            if at.shape != x.shape[:1] or not jnp.issubdtype(at.dtype, jnp.integer):
                raise RopegenError(
                    f"RotaryPositionalEmbedding: positions are {at.dtype} {at.shape}; give {x.shape[0]} integers, one "
                    "per row of x"
                )
        if 0 in x.shape:
            return x
        return rotary.bind(x, *given, rope=self._rope(), dtype=dtype, sequence=0, features=1, reverse=False)

    def _rope(self) -> Rope:
        return Rope(self.theta, pairing="half", angles="exact" if _default_float() == jnp.float64 else "f32")


class MultiheadAttention(eqx.Module):
    """Softmax attention of several heads between linear projections, without a batch axis: use `jax.vmap` for batches."""

    query_proj: eqx.nn.Linear
    key_proj: eqx.nn.Linear
    value_proj: eqx.nn.Linear
    output_proj: eqx.nn.Linear
    dropout: eqx.nn.Dropout

    num_heads: int = eqx.field(static=True)
    query_size: int = eqx.field(static=True)
    key_size: int = eqx.field(static=True)
    value_size: int = eqx.field(static=True)
    output_size: int = eqx.field(static=True)
    qk_size: int = eqx.field(static=True)
    vo_size: int = eqx.field(static=True)
    use_query_bias: bool = eqx.field(static=True)
    use_key_bias: bool = eqx.field(static=True)
    use_value_bias: bool = eqx.field(static=True)
    use_output_bias: bool = eqx.field(static=True)
    target: tuple[Target, ...] = eqx.field(static=True)

    def __init__(
        self,
        num_heads: int,
        query_size: int,
        key_size: int | None = None,
        value_size: int | None = None,
        output_size: int | None = None,
        qk_size: int | None = None,
        vo_size: int | None = None,
        use_query_bias: bool = False,
        use_key_bias: bool = False,
        use_value_bias: bool = False,
        use_output_bias: bool = False,
        dropout_p: float = 0.0,
        inference: bool = False,
        dtype: Any = None,
        *,
        key: Array,
        target: Targets = None,
    ) -> None:
        """Draw the projections from `key`, the same numbers as equinox, in `dtype` (None: JAX's default float).

        key_size, value_size and output_size default to query_size. qk_size and vo_size, the widths of one head, default
        to query_size // num_heads. dropout_p is the probability to drop an attention weight unless `inference`.
        `target` is that of `ropegen.attention`.
        """
        self.num_heads = num_heads
        self.query_size = query_size
        self.key_size = query_size if key_size is None else key_size
        self.value_size = query_size if value_size is None else value_size
        self.output_size = query_size if output_size is None else output_size
        self.qk_size = query_size // num_heads if qk_size is None else qk_size
        self.vo_size = query_size // num_heads if vo_size is None else vo_size
        self.use_query_bias = use_query_bias
        self.use_key_bias = use_key_bias
        self.use_value_bias = use_value_bias
        self.use_output_bias = use_output_bias
        self.target = parse_targets(target)
        dtype = _default_float() if dtype is None else dtype
        compared, carried = num_heads * self.qk_size, num_heads * self.vo_size
        sizes = (
            (self.query_size, compared, use_query_bias),
            (self.key_size, compared, use_key_bias),
            (self.value_size, carried, use_value_bias),
            (carried, self.output_size, use_output_bias),
        )
        self.query_proj, self.key_proj, self.value_proj, self.output_proj = (
            eqx.nn.Linear(inside, outside, use_bias=bias, dtype=dtype, key=subkey)
            for (inside, outside, bias), subkey in zip(sizes, jax.random.split(key, 4), strict=True)
        )
        self.dropout = eqx.nn.Dropout(dropout_p, inference=inference)

    def __call__(
        self,
        query: Array,
        key_: Array,
        value: Array,
        mask: Array | np.ndarray | None = None,
        *,
        key: Array | None = None,
        inference: bool | None = None,
        deterministic: bool | None = None,
        process_heads: Callable[[Array, Array, Array], Sequence[Array]] | None = None,
    ) -> Array:
        """The attention of query (Sq, query_size), key_ (Skv, key_size), value (Skv, value_size): (Sq, output_size).

        mask: (Sq, Skv) or (num_heads, Sq, Skv), True where a key is seen. A row that sees no key gives the mean.
        key: the random key of dropout, which drops the same weights as equinox.
        inference: True turns dropout off; None follows the module. `deterministic` is its deprecated name.
        process_heads: takes the heads of query, key and value, all (S, num_heads, width), and returns changed heads of
          the same shapes. It is traced, as under `jit`, to see whether it only rotates: if it rotates queries and keys
          with RotaryPositionalEmbeddings of one theta and float32 tables, and otherwise only transposes, the fused
          attention rotates. In any other case it is called unchanged.

        Active dropout needs all the weights at once, and runs unfused.

        Raises:
          RopegenError: ranks, a length, a mask or heads do not fit.
          TypeError: an input has more or fewer features than its projection takes (jax's error).
          RuntimeError: dropout is active and there is no key (equinox's error).
        """
        if deterministic is not None:
            warnings.warn("MultiheadAttention: deterministic= is deprecated; use inference=", stacklevel=2)
            inference = deterministic
        shapes = [tuple(x.shape) for x in (query, key_, value)]
        if any(len(shape) != 2 for shape in shapes) or shapes[1][0] != shapes[2][0]:
            raise RopegenError(
                "MultiheadAttention: query, key_ and value are {}, {} and {}; give all three as (sequence, features), keys "
                "and values of equal length, and use jax.vmap for batches".format(*shapes)
            )
        heads = (
            self._split(jax.vmap(self.query_proj)(query), self.qk_size),
            self._split(jax.vmap(self.key_proj)(key_), self.qk_size),
            self._split(jax.vmap(self.value_proj)(value), self.vo_size),
        )
        drops = not _is_inactive(self.dropout, inference)
        rotation = None if process_heads is None or drops else _only_rotates(process_heads, heads)
        if process_heads is not None and rotation is None:
            heads = _processed(process_heads, heads)
        dtype = jnp.result_type(*heads)
        q, k, v = (x.astype(dtype) for x in heads)
        seen = None if mask is None else self._mask(mask, shapes[0][0], shapes[1][0])
        if drops:
            keys = None if key is None else jax.random.split(key, self.num_heads)
            out = _attention_with_dropout(q, k, v, seen, functools.partial(self.dropout, inference=inference), keys)
        else:
            options: dict[str, Any] = {} if seen is None else {"mask": seen}
            if rotation is not None:
                options |= {"rope": rotation.rope, "q_positions": rotation.q, "kv_positions": rotation.k}
            out = attention(q, k, v, masked_row="mean", target=self.target, **options)
        return jax.vmap(self.output_proj)(out.reshape(shapes[0][0], self.num_heads * self.vo_size))

    def _split(self, x: Array, width: int) -> Array:
        return x.reshape(x.shape[0], self.num_heads, width)

    def _mask(self, mask: Array | np.ndarray, queries: int, keys: int) -> Array:
        wanted = (queries, keys), (self.num_heads, queries, keys)
        if tuple(mask.shape) not in wanted:
            raise RopegenError(
                f"MultiheadAttention: the mask is {tuple(mask.shape)}; give {wanted[0]}, or {wanted[1]} for one per head"
            )
        return jnp.asarray(mask).astype(bool)


def from_equinox(tree: Tree, *, target: Targets = None) -> Tree:
    """The pytree with ropegen's layers for every Embedding, RotaryPositionalEmbedding, MultiheadAttention of `equinox.nn`.

    Weights and settings stay. Subclasses of those three stay too, because they may compute something else. The layers
    that plan for a chip plan for `target`, see `ropegen.attention`.
    """
    targets = parse_targets(target)

    def replaced(module: Any) -> Any:
        return stand_in(module, targets) if type(module) in _STAND_INS else module

    return jax.tree.map(replaced, tree, is_leaf=lambda node: type(node) in _STAND_INS)


def stand_in(module: Any, targets: tuple[Target, ...]) -> Any:
    """The layer of ropegen for a layer of equinox that it has a class for, with the same fields."""
    kind = _STAND_INS[type(module)]
    # The constructor would reject fields that filters or tree_at have replaced since with other values.
    made = object.__new__(kind)
    for name in kind.__dataclass_fields__:
        object.__setattr__(made, name, targets if name == "target" else getattr(module, name))
    return made


_STAND_INS: Mapping[type, type[eqx.Module]] = {
    eqx.nn.Embedding: Embedding,
    eqx.nn.RotaryPositionalEmbedding: RotaryPositionalEmbedding,
    eqx.nn.MultiheadAttention: MultiheadAttention,
}
# The layers of equinox that `ropegen.retrofit` replaces.
ATTENTION_AND_ROPE = (eqx.nn.MultiheadAttention, eqx.nn.RotaryPositionalEmbedding)


def never_drops(layer: MultiheadAttention) -> bool:
    """Whether the dropout of a layer drops nothing, whatever a call says."""
    dropout: Any = layer.dropout  # a model may have something else there
    return isinstance(dropout, eqx.nn.Dropout) and dropout.p == 0


def _is_inactive(dropout: Any, inference: bool | None) -> bool:
    """Whether dropout changes no weights; any other object in its place counts as active."""
    if not isinstance(dropout, eqx.nn.Dropout):
        return False
    probability: Any = dropout.p
    never = isinstance(probability, int | float) and probability == 0
    return never or bool(dropout.inference if inference is None else inference)


def _attention_with_dropout(
    q: Array, k: Array, v: Array, seen: Array | None, dropout: Callable[..., Array], keys: Array | None
) -> Array:
    wide = plain.accumulator(q.dtype)
    score = jnp.einsum("qhd,khd->hqk", q, k, preferred_element_type=wide) / math.sqrt(q.shape[-1])
    if seen is not None:
        score = jnp.where(seen, score, jnp.finfo(wide).min)  # finite: a row that sees no key weighs all keys equally
    weight = jax.nn.softmax(score, axis=-1).astype(q.dtype)
    return jnp.einsum("hqk,khd->qhd", jax.vmap(dropout)(weight, key=keys), v)


def _processed(process_heads: Callable[..., Sequence[Array]], heads: Heads) -> Heads:
    processed = tuple(process_heads(*heads))
    before, after = ([tuple(x.shape) for x in arrays] for arrays in (heads, processed))
    if before != after:
        raise RopegenError(
            f"MultiheadAttention: process_heads returned {after} for heads of {before}; it must return all three, in the "
            "same shapes"
        )
    q, k, v = processed
    return q, k, v


# Whether process_heads only rotates -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Rotation:
    """The one rotation of queries and keys, and their positions."""

    rope: Rope
    q: ArrayLike
    k: ArrayLike


@dataclass(frozen=True)
class _Traced:
    """A traced value that is the heads of query, key or value (0, 1, 2), with permuted axes and perhaps rotated."""

    which: int
    axes: tuple[int, ...] = (0, 1, 2)
    rope: Rope | None = None
    positions: Any = None


def _only_rotates(process_heads: Callable[..., Any], heads: Heads) -> _Rotation | None:
    """The rotation, if process_heads rotates queries and keys by one `Rope` and changes nothing else; otherwise None."""
    try:
        closed = jax.make_jaxpr(process_heads)(*heads)
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError):
        return None  # the function depends on values, so it is called with them
    if closed.effects or len(closed.jaxpr.outvars) != 3:
        return None
    q, k, v = _follow(closed.jaxpr, closed.consts, [_Traced(which) for which in range(3)])
    if not (isinstance(q, _Traced) and isinstance(k, _Traced) and q.rope is not None and v == _Traced(2)):
        return None
    if (q.which, q.axes, k.which, k.axes, k.rope) != (0, (0, 1, 2), 1, (0, 1, 2), q.rope):
        return None
    at = [counted(heads[traced.which].shape[0]) if traced.positions is None else traced.positions for traced in (q, k)]
    return _Rotation(q.rope, *at)


def _follow(jaxpr: Any, consts: Sequence[Any], given: Sequence[Any]) -> list[Any]:
    """What is known of the outputs: heads, the value of a constant, or None."""
    known: dict[Any, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *given), strict=True))

    def look(value: Any) -> Any:
        return None if isinstance(value, core.Literal) else known.get(value)

    for equation in jaxpr.eqns:
        operands = [look(variable) for variable in equation.invars]
        if equation.primitive.name in ("jit", "pjit"):
            inner = equation.params["jaxpr"]
            known.update(zip(equation.outvars, _follow(inner.jaxpr, inner.consts, operands), strict=True))
        elif operands and isinstance(operands[0], _Traced):
            known[equation.outvars[0]] = _step(equation, *operands)
    return [look(variable) for variable in jaxpr.outvars]


def _step(equation: Any, heads: _Traced, *others: Any) -> _Traced | None:
    params = equation.params
    if equation.primitive is rotary:
        placed = heads.axes[params["sequence"]] == 0 and heads.axes[params["features"]] == 2
        # The fused attention has float32 tables and rotates forwards only.
        as_fused = params["dtype"] == np.float32 and not params["reverse"] and heads.rope is None
        if placed and as_fused and all(other is not None for other in others):
            return _Traced(heads.which, heads.axes, params["rope"], *others)
    elif equation.primitive.name == "transpose":
        axes = tuple(heads.axes[axis] for axis in params["permutation"])
        return _Traced(heads.which, axes, heads.rope, heads.positions)
    return None


# The rotation as one equation ------------------------------------------------------------------------------------------

# It rotates x of any rank: the pairs along the axis `features`, by the index along the axis `sequence` or by positions
# (S,) if there is a second operand. It is linear in x; its transpose is `reverse`, which rotates by the opposite angle.
rotary = core.Primitive("rotary")


def _rotate(
    x: Array, *positions: Array, rope: Rope, dtype: np.dtype[Any], sequence: int, features: int, reverse: bool
) -> Array:
    rows = jnp.moveaxis(x, features, -1)
    place = sequence - (features < sequence)
    lead, length, between, width = rows.shape[:place], rows.shape[place], rows.shape[place + 1 : -1], rows.shape[-1]
    table = _table(rope, width, length, *positions)
    if reverse:
        cos, sin = jnp.split(table, 2, axis=-1)
        table = jnp.concatenate([cos, -sin], axis=-1)
    flat = rows.reshape(*lead, length, math.prod(between), width)
    turned = plain.rotate_for_platform(flat, table.astype(dtype), rope.pairing)
    return jnp.moveaxis(turned.reshape(rows.shape), -1, features)


def _table(rope: Rope, width: int, length: Any, positions: Array | None = None) -> Array:
    """Cosines, then sines (S, width); a constant if the positions are 0 .. S-1 and S is a number, else computed at run time."""
    if positions is None and isinstance(length, int):
        if rope.angles == "exact":
            return jnp.asarray(rope.table(np.arange(length), width, dtype=np.float64))
        with jax.ensure_compile_time_eval():
            return rope_table(length, rope, width)
    if rope.angles == "f32" and positions is not None:
        return rope_table(positions, rope, width)
    wide = jnp.float64 if rope.angles == "exact" else jnp.float32
    at = jnp.arange(length) if positions is None else positions
    angles = at.astype(wide)[:, None] * jnp.asarray(rope.inverse_frequencies(width), wide)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def _batch(values: Sequence[Array], axes: Sequence[int | None], **params: Any) -> tuple[Array, int]:
    axis = axes[0]
    if axis is None or axes[1:] not in ((), (None,)):
        # Batched positions need a table per batch element.
        return jax.vmap(functools.partial(_rotate, **params), in_axes=tuple(axes))(*values), 0
    moved = {name: params[name] + (params[name] >= axis) for name in ("sequence", "features")}
    return rotary.bind(*values, **{**params, **moved}), axis


def _jvp(primals: Sequence[Array], tangents: Sequence[Any], **params: Any) -> tuple[Array, Array]:
    slope = ad.instantiate_zeros(tangents[0])
    return rotary.bind(*primals, **params), rotary.bind(slope, *primals[1:], **params)


def _transpose(cotangent: Any, x: Any, *positions: Array, reverse: bool, **params: Any) -> list[Any]:
    if isinstance(cotangent, ad.Zero):
        return [None] * (1 + len(positions))
    return [rotary.bind(cotangent, *positions, reverse=not reverse, **params), *(None for _ in positions)]


def _abstract(x: Any, *positions: Any, **params: Any) -> Any:
    return x.update(weak_type=False)


rotary.def_impl(_rotate)
rotary.def_abstract_eval(_abstract)
mlir.register_lowering(rotary, mlir.lower_fun(_rotate, multiple_results=False))
batching.primitive_batchers[rotary] = _batch
ad.primitive_jvps[rotary] = _jvp
ad.primitive_transposes[rotary] = _transpose
