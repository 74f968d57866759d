"""A tile of scores in the kernels of attention for Hopper: soft-cap, bias, expressions and masks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl

from ropegen import masks

from ..gpu.mosaic import Array, Index, Machine, Ref
from .form_gpu import BLACKWELL, LOG2_E, Form


def shared(ref: Ref, batch: Index) -> Index:
    """The index of a batch entry in an operand that the whole batch may share."""
    return batch if ref.shape[0] > 1 else 0


def _tanh(x: Array) -> Array:
    """The hyperbolic tangent from an exponential. The GPU's own instruction has an error of 2^-11."""
    root = lax.rsqrt(jnp.exp2(x * np.float32(2 * LOG2_E)) + 1)  # an exponential of inf has the root 0
    return 1 - 2 * (root * root)


# The functions of expressions.
_FUNCTIONS = SimpleNamespace(**{**vars(jnp), "tanh": _tanh})


@dataclass(frozen=True, slots=True)
class Scores:
    """One tile of scores: its place, and what it reads beside q, k and v.

    Its shape is (queries, keys). If it is `turned`, that is (keys, queries), and so are biases and masks.
    """

    form: Form
    on: Machine
    given: Mapping[str, Ref]
    batch: Index
    head: Index
    query: Index  # the first query of the tile
    key: Index
    queries: int
    keys: int
    turned: bool = False
    near: Mapping[str, Ref] = field(default_factory=dict[str, Ref])
    """Numbers of the tile's own queries or keys that were copied to shared memory, by operand."""

    @property
    def shape(self) -> tuple[int, int]:
        return (self.keys, self.queries) if self.turned else (self.queries, self.keys)

    @property
    def rest(self) -> float:
        """The factor that turns `scores` into scores in base 2."""
        return LOG2_E if self.form.is_altered else 1 if self.form.rotates else self.form.factor

    def scores(self, products: Array, masked: bool) -> Array:
        """The scores before the factor `rest`: with soft-cap, bias and score expression, and -inf for hidden keys."""
        values = self._read(masked)
        score = products
        if self.form.is_altered:
            score = self._bent(self._capped(self._scaled(products)), *self._bias(), values=values)
        return self._hidden(score, masked, values)

    def weights(
        self, products: Array, masked: bool, shift: Array
    ) -> tuple[Array, Callable[[Array], tuple[Array, Array | None]]]:
        """The weights exp2(score - shift), and a function that takes the cotangent of the scores, in base e.

        The function returns the cotangents of the scaled products and of the bias; the latter is None without a bias.
        """
        op, values = self.form.op, self._read(masked)
        if not self.form.is_altered:
            score = self._hidden(products, masked, values) * np.float32(self.rest)
            return jnp.exp2(score - shift), lambda d_score: (d_score, None)
        bias, capped = self._bias(), self._capped(self._scaled(products))
        if op.score == masks.identity:

            def pull(d_score: Array) -> tuple[Array, ...]:
                return (d_score,) * (1 + len(bias))

            bent = self._bent(capped, *bias, values=values)
        else:
            bent, pull = jax.vjp(functools.partial(self._bent, values=values), capped, *bias)
        weight = jnp.exp2(self._hidden(bent, masked, values) * np.float32(LOG2_E) - shift)

        def cotangents(d_score: Array) -> tuple[Array, Array | None]:
            pulled: tuple[Array, ...] = pull(d_score)
            if op.score != masks.identity:
                # The expression may have no finite derivative at a hidden score.
                pulled = tuple(jnp.where(d_score == 0, 0.0, x) for x in pulled)
            d_capped = pulled[0]
            if op.softcap is not None:
                share = capped * np.float32(1 / op.softcap)
                d_capped = d_capped * (1 - share * share)
            return d_capped, pulled[1] if bias else None

        return weight, cotangents

    def _scaled(self, products: Array) -> Array:
        return products if self.form.rotates else products * np.float32(self.form.factor)

    def _capped(self, score: Array) -> Array:
        cap = self.form.op.softcap
        if cap is None:
            return score
        if self.form.generation is not BLACKWELL:
            return _tanh(score * np.float32(1 / cap)) * np.float32(cap)
        # The same by a reciprocal, which takes fewer instructions than a root. On Hopper, where products take longer than
        # they do, this form needs more registers than a thread has if a score has everything else too.
        inverse = self.on.reciprocal(jnp.exp2(score * np.float32(2 * LOG2_E / cap)) + 1)
        return np.float32(cap) - np.float32(2 * cap) * inverse

    def _bent(self, score: Array, *bias: Array, values: dict[str, Any]) -> Array:
        """Scores after the bias and the score expression."""
        score = functools.reduce(jnp.add, bias, score)
        if self.form.op.score == masks.identity:
            return score
        return _evaluated(self.form.op.score, {**values, "score": score})

    def _hidden(self, score: Array, masked: bool, values: dict[str, Any]) -> Array:
        form, terms = self.form, list[Array]()
        if masked and form.op.visible != masks.full:
            terms.append(_evaluated(form.op.visible, values))
        # What padding contributes to a turned tile stays in the rows of its own keys, which are cut off.
        if masked and form.masks_padding and not self.turned:
            terms.append(self.on.iota(self.shape, self._axis("kv")) < form.seen_keys - self.key)
        if "mask" in form.op.given:
            terms.append(self._block("mask") > 0)
        return jnp.where(functools.reduce(jnp.logical_and, terms), score, -jnp.inf) if terms else score

    def _bias(self) -> list[Array]:
        return [self._block("bias")] if "bias" in self.form.op.given else []

    def _read(self, masked: bool) -> dict[str, Any]:
        """The variables that the expressions of the tile read."""
        op = self.form.op
        names = (masks.variables(op.score) if op.score != masks.identity else frozenset[str]()) - {"score"}
        names |= masks.variables(op.visible) if masked else frozenset()
        return {name: self._variable(name) for name in sorted(names)}

    def _axis(self, side: str) -> int:
        """The axis along which queries ("q") or keys ("kv") are counted."""
        return int((side == "q") == self.turned)

    def _variable(self, name: str) -> Any:
        if name in ("head", "batch"):
            return self.head if name == "head" else self.batch
        side, _ = name.split("_")
        operand = self.form.op.NEEDS[name]
        at, start = (self.query, self.form.q_start) if side == "q" else (self.key, self.form.kv_start)
        if operand in self.near:
            return self.on.spread(self.on.vector(self.near[operand], self._axis(side)), self.shape, self._axis(side))
        if operand not in self.given:  # positions that are known when the plan is made
            return self.on.iota(self.shape, self._axis(side)) + (at + start)
        return self._along(side, self.given[operand], ())

    def _along(self, side: str, ref: Ref, head: tuple[Index, ...]) -> Array:
        """Numbers (B or 1, ..., queries or keys) for every score of the tile."""
        axis = self._axis(side)
        at, size = (self.query, self.queries) if side == "q" else (self.key, self.keys)
        row = ref.at[(shared(ref, self.batch), *head, pl.ds(at, size))]
        return self.on.spread(self.on.vector(row, axis), self.shape, axis)

    def _block(self, name: str) -> Array:
        """The tile of a bias or mask in float32. If its rows are those of all queries, it has one of them."""
        ref = self.given[name]
        head = self.head if ref.shape[1] > 1 else 0
        query_axis = 3 if self.turned else 2
        if ref.shape[query_axis] == 1:
            return self._along("kv", ref.at[:, :, 0] if not self.turned else ref.at[:, :, :, 0], (head,)).astype(
                jnp.float32
            )
        rows, columns = ((self.key, self.keys), (self.query, self.queries))[:: 1 if self.turned else -1]
        tile = ref.at[shared(ref, self.batch), head, pl.ds(*rows), pl.ds(*columns)]
        return self.on.load(tile, is_shared=False).astype(jnp.float32)


def _evaluated(expr: masks.Expr, values: Mapping[str, Any]) -> Array:
    """The value of an expression. The GPU rounds quotients to zero, and expressions round them to minus infinity."""
    known: dict[masks.Expr, Array] = {}

    def divide(node: masks.Expr) -> None:
        if not isinstance(node, masks.Apply) or node in known:
            return
        for argument in node.args:
            divide(argument)
        if node.op in ("//", "%") and isinstance(node.args[1], masks.Const):
            left: Any = masks.evaluate(node.args[0], _FUNCTIONS, lookup="select", known=known, **values)
            divisor = np.int32(node.args[1].value)
            quotient = lax.div(left, jnp.full_like(left, divisor))
            rest = left - quotient * divisor
            is_below = rest < 0
            known[node] = (
                jnp.where(is_below, quotient - 1, quotient)
                if node.op == "//"
                else jnp.where(is_below, rest + divisor, rest)
            )

    divide(expr)
    return masks.evaluate(expr, _FUNCTIONS, lookup="select", known=known, **values)
