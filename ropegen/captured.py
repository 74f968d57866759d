"""Values of the caller inside masks and scores: what becomes of them before a graph is made, which holds constants only.

A score keeps its expression, and the values that JAX traces become the operand `numbers`, which has a gradient. A mask is
cut at its `&`: the terms that hold a value are computed with arrays and joined to a dense mask, which every template
takes, and the other terms stay an expression, by which tiles are skipped. A score of -inf becomes a term of the mask.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ropegen import masks
from ropegen.arguments import counted
from ropegen.errors import RopegenError
from ropegen.expression import Const, Expr, Later, Table, Traced, Var, apply, as_mask, as_score, excerpt, table_of
from ropegen.ir import ops
from ropegen.types import TensorType

Array = jax.Array

# How often a score function is called that indexes an array by head or batch.
_MOST_CALLS = 4096


# Scores -------------------------------------------------------------------------------------------------------------


def called(score: Expr, heads: int, batches: int) -> Expr:
    """The score, with every function that cannot be traced called for each head index, batch index, or pair of them.

    The expressions of all calls must be alike up to the values in them, which become tables by head or batch.

    Raises:
      RopegenError: a function cannot be called so, or its expressions differ.
    """
    sizes = {"head": heads, "batch": batches}

    def of(leaf: Later) -> Expr:
        read = [name for name in sizes if name in leaf.names]
        for choice in ([name] for name in read) if len(read) == 1 else (["head"], ["batch"], read):
            if 0 in (sizes[name] for name in choice) or np.prod([sizes[name] for name in choice]) > _MOST_CALLS:
                continue
            try:
                return _unrolled(leaf, {name: sizes[name] for name in choice})
            except (TypeError, IndexError):
                continue
        raise RopegenError(leaf.reason)

    return _replaced(score, lambda leaf: of(leaf) if isinstance(leaf, Later) else leaf)


def _unrolled(leaf: Later, sizes: Mapping[str, int]) -> Expr:
    symbols = {name: Traced(Var(name)) for name in leaf.names}
    results = [
        as_score(leaf.held.value(**{**symbols, **dict(zip(sizes, place, strict=True))}))
        for place in itertools.product(*(range(size) for size in sizes.values()))
    ]
    index: Expr = Const(0)
    for name, size in sizes.items():
        index = apply("+", apply("*", index, size), Var(name))
    return _merged(results, index, leaf)


def _merged(results: Sequence[Expr], index: Expr, leaf: Later) -> Expr:
    """One expression of expressions that are alike up to their constants and values: those become tables."""
    first = results[0]
    if all(other == first for other in results):
        return first
    if all(isinstance(other, Const) for other in results):
        return table_of([other.value for other in results if isinstance(other, Const)], index)
    scalars = [_scalar(other) for other in results]
    if all(scalar is not None for scalar in scalars):
        return masks.looked_up(scalars, index)
    if isinstance(first, masks.Apply) and all(
        isinstance(other, masks.Apply) and (other.op, len(other.args)) == (first.op, len(first.args))
        for other in results
    ):
        args = zip(*(other.args for other in results if isinstance(other, masks.Apply)), strict=True)
        return apply(first.op, *(_merged(parts, index, leaf) for parts in args))
    raise RopegenError(
        f"{leaf.held} gives other expressions for other indices, `{excerpt(first)}` for one of them; use masks.where(head == 0, "
        "...) and masks.table(values, head), so that one expression serves all of them"
    )


def _scalar(expr: Expr) -> Any:
    """The value of a constant, or of a scalar that an expression holds; None for any other expression."""
    match expr:
        case Const(value=value):
            return value
        case masks.Captured(held=held) if not held.value.ndim:
            return held.value
        case _:
            return None


def split_hidden(score: Expr) -> tuple[Expr, Expr]:
    """(mask, score): where the score is not -inf, and the score there.

    Raises:
      RopegenError: -inf stands where it does not simply hide a key, or is chosen by the score itself.
    """
    if not any(isinstance(leaf, masks.Hidden) for leaf in masks.leaves(score)):
        return masks.full, score
    match score:
        case masks.Hidden():
            return masks.nothing, masks.identity
        case masks.Apply(op="where", args=(condition, chosen, otherwise)) if "score" not in masks.variables(condition):
            (first, one), (second, other) = split_hidden(chosen), split_hidden(otherwise)
            if second == masks.nothing:
                return condition & first, one
            if first == masks.nothing:
                return ~condition & second, other
            both = first if first == second else (condition & first) | (~condition & second)
            return both, apply("where", condition, one, other)
        case masks.Apply(op="+", args=(left, right)):
            (first, one), (second, other) = split_hidden(left), split_hidden(right)
            return first & second, apply("+", one, other)
        case masks.Apply(op="-", args=(left, right)) if not masks.leaves(right) & {masks.Hidden()}:
            first, one = split_hidden(left)
            return first, apply("-", one, right)
        case _:
            raise RopegenError(
                f"a score of -inf hides a key, and `{excerpt(score)}` is more than that; write it last, as in "
                "masks.where(condition, score, -np.inf), with a condition that does not read the score, or use the mask"
            )


def numbered(score: Expr, heads: int, dtype: Any) -> tuple[Expr, Array | None]:
    """The score with `numbers[index]` for every value that it holds, and the numbers (N,) of `dtype`; None for none.

    Raises:
      RopegenError: a value is an integer where integers are computed with, or an array for a mask.
    """
    starts: dict[int, int] = {}
    held: list[Array] = []

    def number(leaf: Expr, size: int, values: Any, index: Expr) -> Expr:
        if id(values) not in starts:
            starts[id(values)] = sum(part.size for part in held)
            held.append(jnp.ravel(jnp.asarray(values)).astype(dtype))
        start = starts[id(values)]
        exact = isinstance(index, Const) or (index == Var("head") and size == heads)
        if isinstance(index, Const):
            index = Const(min(max(int(index.value), 0), size - 1))
        elif not exact:
            index = apply("min", apply("max", index, 0), size - 1)
        return masks.Number(apply("+", index, start))

    def walk(node: Expr, beside_float: bool) -> Expr:
        match node:
            case masks.Captured(held=box, index=index):
                if node.kind == "int" and not beside_float:
                    raise RopegenError(
                        f"a score computes with the integer {node}, which is known only at run time; give it as a float, "
                        "jnp.float32(n), which is exact up to 2**24"
                    )
                read = number(node, max(1, box.value.size), box.value, walk(index, False))
                return apply("!=", read, 0.0) if node.kind == "bool" else read
            case masks.Shown():
                raise RopegenError(
                    f"a score cannot read the array {node}; give it as mask=array if it hides keys, or as bias="
                    "jnp.where(array, 0.0, penalty)"
                )
            case Table(values=values, index=index):
                return table_of(values, walk(index, False))
            case masks.Apply(op=op, args=args):
                floats = any(arg.kind == "float" for arg in args) or op == "/"
                return apply(op, *(walk(arg, floats) for arg in args))
            case _:
                return node

    rebuilt = walk(score, False)
    return rebuilt, jnp.concatenate(held) if held else None


def _replaced(node: Expr, leaf_of: Callable[[Expr], Expr]) -> Expr:
    """The expression with other leaves."""
    match node:
        case masks.Apply(op=op, args=args):
            return apply(op, *(_replaced(arg, leaf_of) for arg in args))
        case _:
            return leaf_of(node)


def constants_only(what: str, mask: Any, score: Any) -> tuple[Expr, Expr]:
    """The mask and the score of a call that takes constants only; scores of -inf become a term of the mask.

    Raises:
      RopegenError: one of them holds a value of the caller.
    """
    shown, scored = split_hidden(as_score(score))
    visible = as_mask(mask) & shown
    for part, expr in (("mask", visible), ("score", scored)):
        masks.expect_plain(f"{what}: the {part}", expr)
    return visible, scored


def expect_one_for_each(call: str, terms: Iterable[Expr], sizes: Mapping[str, Any]) -> None:
    """Refuses arrays that are read at `[head]` or `[batch]` and do not have one value for each of them.

    Looking a value up clips the index, so too few values would be right for the first sequences and wrong for the others.

    Raises:
      RopegenError: an array has more or fewer values than `sizes` says.
    """
    for leaf in (leaf for term in terms for leaf in masks.leaves(term)):
        match leaf:
            case masks.Captured(held=held, index=Var(name=name)) if name in sizes and held.value.ndim:
                if (count := held.value.shape[0]) != sizes[name]:
                    what = {"head": "heads", "batch": "sequences"}[name]
                    raise RopegenError(
                        f"{call}: {leaf} has {count} values, and there are {sizes[name]} {what}; give one for each"
                    )
            case _:
                pass


# Masks --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Around:
    """The attention around a mask: the types of q (..., Sq, H, D), k and v, and the values of some of the names."""

    q: TensorType
    k: TensorType
    v: TensorType
    at: Mapping[str, Any]
    """Positions and segments, (S,) or (..., S), by the names of the expressions."""
    size: Callable[[int], Any]
    """The symbolic size that a number of the types stands for; the number itself if it stands for none."""
    numbers: Callable[[Sequence[Any]], tuple[int, ...]]
    """The shape of an array with numbers in the place of symbolic sizes."""

    def places(self, names: frozenset[str]) -> dict[str, Any]:
        """The values of the names, each with its axes among (..., H, Sq, Skv).

        `head` and `batch` are arrays of NumPy, if no size is symbolic.
        """
        lead, heads = [self.size(number) for number in self.q.shape[:-3]], self.q.shape[-2]
        places: dict[str, Any] = {}
        for name in names:
            if name == "head":
                places[name] = counted(heads)[:, None, None]
            elif name == "batch":
                places[name] = counted(math.prod(lead)).reshape(*lead, 1, 1, 1)
            else:
                axis = -1 if name.startswith("q_") else -2
                given = self.at[name]
                given = given if given.dtype == np.int64 else given.astype(np.int32)
                places[name] = given[..., None, :, None] if axis == -1 else given[..., None, None, :]
        return places


def dense(terms: Sequence[Expr], around: Around) -> Array:
    """All terms as one boolean array, with a size of 1 along every axis of (..., H, Sq, Skv) that none depends on.

    Raises:
      RopegenError: a function or an array of a term does not fit.
    """
    return jnp.asarray(_all(jnp.asarray(_value(term, around)) for term in terms))


def _all(values: Any) -> Array:
    result: Array | None = None
    for value in values:
        result = value if result is None else jnp.logical_and(result, value)
    assert result is not None
    return jnp.atleast_1d(result)


def _value(term: Expr, around: Around) -> Array:
    places = around.places(masks.variables(term))
    known = {
        leaf: _array_of(leaf, around, places) for leaf in masks.leaves(term) if not isinstance(leaf, masks.Captured)
    }
    wide = [name for name, value in places.items() if value.dtype == np.int64]
    values: dict[str, Any] = {name: jnp.asarray(x) for name, x in places.items()}
    return masks.evaluate(term, jnp, wide=wide, known=known, **values)


def _array_of(leaf: Expr, around: Around, places: Mapping[str, Any]) -> Array:
    match leaf:
        case masks.Shown(held=held):
            given = held.value
        case Later():
            given = _call(leaf, places)
        case _:
            raise RopegenError(f"a mask cannot read `{leaf}`; only a score can")
    kind = TensorType(around.numbers(given.shape), "i1")
    ops.Attend(scale=1.0, given=("mask",)).infer(around.q, around.k, around.v, kind)  # refuses what does not broadcast
    return jnp.asarray(given)


def _told(value: Any) -> str:
    return str(masks.Held(value)) if hasattr(value, "dtype") else excerpt(repr(value))


def _call(leaf: Later, places: Mapping[str, Any]) -> Any:
    """The boolean array that a mask function gives for arrays of its parameters."""
    arrays = {name: places[name] for name in leaf.names}
    try:
        result = leaf.held.value(**arrays)
    except (TypeError, IndexError, jax.errors.JAXTypeError) as error:
        raise RopegenError(leaf.reason) from error
    if isinstance(result, bool):
        result = np.bool_(result)
    if not isinstance(result, np.ndarray | np.bool_ | jax.Array) or result.dtype != np.bool_:
        raise RopegenError(
            f"{leaf.held} was called with arrays, because it cannot be traced, and returns {_told(result)}; return "
            "booleans that broadcast to (..., heads, queries, keys)"
        )
    return result
