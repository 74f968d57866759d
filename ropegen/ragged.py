"""Sequences of several lengths, one after another in one array: from the ends of sequences to segments and positions.

`cu_seqlens` (N + 1,) is flash-attention's form: sequence i has the tokens cu_seqlens[i] to cu_seqlens[i + 1] - 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from ropegen.arguments import array_of, is_one_of
from ropegen.errors import RopegenError, nearest

Array = jax.Array
ArrayLike = npt.ArrayLike | jax.Array

ALIGNMENTS = ("start", "end")


def expect_alignment(call: str, align: object) -> None:
    """Refuses an alignment that is neither None nor one of `ALIGNMENTS`.

    Raises:
      RopegenError: it is something else.
    """
    if align is not None and not is_one_of(align, ALIGNMENTS):
        raise RopegenError(f"{call}: align is {align!r:.60}; {nearest(str(align), ALIGNMENTS)}")


@dataclass(frozen=True, slots=True)
class Ragged:
    """The sequences of an array with `length` tokens. Its arrays are NumPy's if the caller's are, and JAX's otherwise."""

    ends: Any
    """`cu_seqlens` (N + 1,), int32."""
    length: Any
    """The number of tokens, which may be symbolic, as may N."""

    @staticmethod
    def of(what: str, given: ArrayLike, length: Any) -> Ragged:
        """The sequences that `cu_seqlens` says; the message begins with `what`.

        Raises:
          RopegenError: it is no array of at least two integers or, as far as its values are known, does not begin with 0,
            decreases, or ends after the last token.
        """
        try:
            ends: Any = given if isinstance(given, jax.Array) else np.asarray(given)
        except (TypeError, ValueError):  # a ragged list, or one with values that JAX traces
            ends = array_of(what, given)
        few = ends.ndim == 1 and isinstance(ends.shape[0], int) and ends.shape[0] < 2
        if ends.ndim != 1 or few or not np.issubdtype(ends.dtype, np.integer):
            raise RopegenError(
                f"{what} is {ends.dtype}{list(ends.shape)}; give (N + 1,) integers: 0, then the end of every sequence"
            )
        beyond = isinstance(ends, np.ndarray) and isinstance(length, int) and ends[-1] > length
        if isinstance(ends, np.ndarray) and (ends[0] != 0 or np.any(np.diff(ends) < 0) or beyond):
            raise RopegenError(
                f"{what} is {ends.tolist()!s:.60} for {length} tokens; begin with 0, never decrease, and end at {length} or before"
            )
        return Ragged(ends.astype(np.int32), length)

    @property
    def count(self) -> Any:
        """The number of sequences."""
        return self.ends.shape[0] - 1

    @property
    def _many(self) -> Any:
        """`count`, int32, also if it is symbolic: JAX makes no array of a symbolic size, so it is counted."""
        if isinstance(self.count, int):
            return np.int32(self.count)
        return jnp.sum(jnp.ones_like(self.ends), dtype=np.int32) - 1

    @property
    def _module(self) -> Any:
        return np if isinstance(self.ends, np.ndarray) and isinstance(self.length, int) else jnp

    @property
    def _tokens(self) -> Any:
        return self._module.arange(self.length, dtype=np.int32)

    @property
    def sequences(self) -> Any:
        """The sequence of every token, (length,) int32; `count` for tokens after the last sequence."""
        if not isinstance(self.count, int):  # JAX searches no array of a symbolic size
            return jnp.sum(self._tokens[:, None] >= self.ends[1:], axis=-1, dtype=np.int32)
        return self._module.searchsorted(self.ends[1:], self._tokens, side="right").astype(np.int32)

    def segments(self, padding: int) -> Any:
        """`sequences` with the id `padding` for tokens after the last one."""
        sequences = self.sequences
        return self._module.where(sequences < self._many, sequences, np.int32(padding))

    def positions(self, others: Ragged | None = None) -> Any:
        """The position of every token in its sequence, (length,) int32.

        With `others`, the last token of a sequence is at the position of the last token of the other one.
        """
        starts = self.ends[:-1]
        if others is not None:
            starts = starts + (self.ends[1:] - starts) - (others.ends[1:] - others.ends[:-1])
        sequence = self._module.minimum(self.sequences, self._many - 1)
        if isinstance(self.count, int):
            return self._tokens - starts[sequence]
        # JAX reads no array of a symbolic size by an index either.
        chosen = sequence[:, None] == jnp.arange(self.count, dtype=np.int32)
        return self._tokens - jnp.sum(jnp.where(chosen, starts, 0), axis=-1, dtype=np.int32)
