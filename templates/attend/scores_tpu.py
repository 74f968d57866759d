"""A block of scores in the kernels of attention for TPU: soft-cap, bias, expressions and masks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl

from ropegen import masks

from ..tpu.mosaic import LANES, Array, Index, Ref
from .form_tpu import LOG2_E, Form


def _column(row: Array, width: int) -> Array:
    """A row of lanes (1, n) as n sublanes: (n, width) with equal columns."""
    square = jnp.broadcast_to(row, (LANES, row.shape[1])).T
    return jnp.concatenate([square] * (width // LANES), axis=1) if width > LANES else square


@dataclass(frozen=True, slots=True)
class Scores:
    """One block of scores, (keys, rows): its place, and what it reads in addition to q, k and v."""

    form: Form
    refs: dict[str, Ref]
    batch: Index
    head: Index  # the key head
    row: Index  # the row of tiles
    column: Index
    chunk: Index
    key: int  # its first key in the tile
    count: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.count, self.form.chunk

    def _key(self) -> Array:
        return lax.broadcasted_iota(jnp.int32, self.shape, 0) + (self.column * self.form.kv_tile + self.key)

    def _values(self, names: frozenset[str]) -> dict[str, Any]:
        """The variables of the expressions, all in the shape of the block, because Mosaic does not broadcast booleans."""
        form = self.form
        place = lax.broadcasted_iota(jnp.int32, self.shape, 1) + self.chunk * form.chunk
        values: dict[str, Any] = {}
        for name in sorted(names - {"score"}):
            match name:
                case "kv_pos":
                    values[name] = self._key() + form.kv_start
                case "q_pos":
                    values[name] = (place & (form.q_tile - 1)) + (self.row * form.q_tile + form.q_start)
                case "head":
                    values[name] = (place >> (form.q_tile.bit_length() - 1)) + self.head * form.group
                case "batch":
                    values[name] = jnp.broadcast_to(jnp.asarray(self.batch, jnp.int32), self.shape)
                case "q_segment":
                    values[name] = jnp.broadcast_to(self.refs["q_segments"][0, 0, self.chunk], self.shape)
                case _:
                    row = self.refs["kv_segments"][0, :, self.key : self.key + self.count]
                    values[name] = _column(row, form.chunk)
        return values

    def _part(self, name: str) -> Array:
        """The block of a bias or mask: its reference is (1, heads or 1, queries or 1, keys)."""
        form, ref = self.form, self.refs[name]
        _, heads, queries, _ = ref.shape
        keys = slice(self.key, self.key + self.count)
        size = min(form.q_tile, form.chunk)
        parts: list[Array] = []
        for n in range(form.chunk // size):
            first = self.chunk * form.chunk + n * size
            # Tiles are powers of two, so shifts can divide. Mosaic lowers a division for one chip, and the chip may not
            # be known.
            head = first >> (form.q_tile.bit_length() - 1) if heads > 1 else 0
            if queries == 1:
                parts.append(_column(ref[0, head, :, keys], size))
            else:
                start = pl.multiple_of(first & (form.q_tile - 1), LANES)
                parts.append(ref[0, head, pl.ds(start, size), keys].T)
        return jnp.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]

    def write(self, ref: Ref, scores: Array) -> None:
        """Writes the block to its place in a reference (1, heads, queries, keys), see `_part`."""
        form = self.form
        keys = slice(self.key, self.key + self.count)
        size = min(form.q_tile, form.chunk)
        for n in range(form.chunk // size):
            first = self.chunk * form.chunk + n * size
            start = pl.multiple_of(first & (form.q_tile - 1), LANES)
            head = first >> (form.q_tile.bit_length() - 1)
            ref[0, head, pl.ds(start, size), keys] = scores[:, n * size : (n + 1) * size].T

    def scores(self, products: Array, masked: bool) -> Array:
        """The scores in base 2, after soft-cap, bias and score expression; -inf for hidden keys."""
        form = self.form
        score = products if form.is_wide else products * np.float32(form.factor)
        values = self._read(masked)
        if form.is_altered:
            bias = self._part("bias") if "bias" in form.op.given else None
            score = self._altered(score, bias, values=values) * np.float32(LOG2_E)
        return self._hidden(score, masked, values)

    def weights(
        self, products: Array, masked: bool, shift: Array
    ) -> tuple[Array, Callable[[Array], tuple[Array, Array | None]]]:
        """The weights exp2(score - shift), and a function that takes the cotangent of the scores, in base e.

        The function returns the cotangents of the scaled products and of the bias; the latter is None without a bias.

        """
        form = self.form
        score = products if form.is_wide else products * np.float32(form.factor)
        values = self._read(masked)
        if not form.is_altered:
            return jnp.exp2(self._hidden(score, masked, values) - shift), lambda d_score: (d_score, None)
        bias = [self._part("bias")] if "bias" in form.op.given else []
        altered, pull = jax.vjp(functools.partial(self._altered, values=values), score, *bias)
        weight = jnp.exp2(self._hidden(altered * np.float32(LOG2_E), masked, values) - shift)

        def cotangents(d_score: Array) -> tuple[Array, Array | None]:
            pulled: tuple[Array, ...] = pull(d_score)
            if form.op.score != masks.identity:
                # The expression may have no finite derivative at a hidden score.
                pulled = tuple(jnp.where(d_score == 0, 0.0, x) for x in pulled)
            return pulled[0], pulled[1] if bias else None

        return weight, cotangents

    def _read(self, masked: bool) -> dict[str, Any]:
        """The variables that the block's expressions read."""
        op = self.form.op
        names = op.variables if op.score != masks.identity else frozenset[str]()
        return self._values(names | masks.variables(op.visible) if masked else names)

    def _altered(self, score: Array, bias: Array | None = None, *, values: dict[str, Any]) -> Array:
        op = self.form.op
        if op.softcap is not None:
            score = jnp.tanh(score * np.float32(1 / op.softcap)) * np.float32(op.softcap)
        if bias is not None:
            score = score + bias
        if op.score != masks.identity:
            bent = masks.evaluate(op.score, jnp, lookup="select", score=score, **values)
            score = jnp.broadcast_to(jnp.asarray(bent, jnp.float32), self.shape)
        return score

    def _hidden(self, score: Array, masked: bool, values: dict[str, Any]) -> Array:
        form, op = self.form, self.form.op
        terms: list[Array] = []
        if masked and op.visible != masks.full:
            visible = masks.evaluate(op.visible, jnp, lookup="select", **values)
            terms.append(jnp.broadcast_to(visible, self.shape))
        if masked and form.seen_keys < form.keys:
            terms.append(self._key() < form.seen_keys)
        if "mask" in op.given:
            terms.append(self._part("mask") > 0)
        return jnp.where(functools.reduce(jnp.logical_and, terms), score, -jnp.inf) if terms else score
