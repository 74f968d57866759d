"""Which weights of an attention a dropout keeps: a function of the seed and of the place of a weight, and of nothing else.

Every kernel computes it for the tile at hand, forward and backward, so no mask of queries x keys exists anywhere. It does
not depend on tiles, platforms or devices. A seed is four 32-bit words: two words of a key, then the first batch entry and
the first head, for a part of a whole that another device or call computes.

The function is a counter-based hash. `_mixed` is a finaliser in the form of MurmurHash3, with the multipliers that Wellons
(hash-prospector, 2018) lists as the least biased. Two words of every row, `row_words`, depend on the key, batch entry, head
and query; `kept` mixes them with the index of the key of a score.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ropegen.errors import RopegenError

Array: TypeAlias = Any

WORDS, FIRST_BATCH, FIRST_HEAD = 4, 2, 3
"""How many words a seed has, and which of them are the first batch entry and the first head."""

# 2^32 over the golden ratio: an odd number, so that it gives every counter another word.
_STEP = np.uint32(0x9E3779B9)
_FIRST, _SECOND = np.uint32(0x21F0AAAD), np.uint32(0xD35A2D97)


def expect_rate(what: str, rate: float) -> None:
    """Refuses a share of weights to drop that is not from 0 to below 1.

    Raises:
      RopegenError: it is not; the message begins with `what`.
    """
    if not 0 <= rate < 1:
        raise RopegenError(f"{what} is {rate:g}; give the share of the weights to drop, from 0 to below 1")


def seed_of(call: str, key: Any) -> jax.Array:
    """The seed of a key of `jax.random`, (`WORDS`,) int32, that counts batch entries and heads from 0.

    Raises:
      RopegenError: it is no single key; the message begins with `call`.
    """
    dtype = getattr(key, "dtype", None)
    is_key = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    words = jax.random.key_data(key) if is_key else key
    if getattr(words, "dtype", None) != np.uint32 or words.ndim != 1 or len(words) < 2:
        raise RopegenError(f"{call}: dropout_key is {key!r:.60}; give one key, such as jax.random.key(0)")
    words = jnp.asarray(words)
    first, second = words[0], words[1]
    for place in range(2, len(words)):  # keys of other generators than threefry have more than two words
        first, second = second, _mixed(first) ^ words[place]
    whole = jnp.stack([first, second, jnp.zeros_like(first), jnp.zeros_like(first)])
    return lax.bitcast_convert_type(whole, jnp.int32)


def row_words(xp: Any, seed: Array, batch: Array, head: Array, query: Array) -> tuple[Array, Array]:
    """Two words for every row of scores, uint32, in the module `xp` (`numpy` or `jax.numpy`).

    `seed` holds `WORDS` integers of 32 bits; `batch`, `head` and `query` are indices, and they broadcast.
    """
    with np.errstate(over="ignore"):
        words = [xp.asarray(seed)[index].astype(np.uint32) for index in range(WORDS)]
        batch, head, query = (xp.asarray(x).astype(np.uint32) for x in (batch, head, query))
        batch, head = batch + words[FIRST_BATCH], head + words[FIRST_HEAD]
        first, second = words[0], words[1] + _STEP
        for place in (batch, head, query):
            first = _mixed(first ^ _mixed(place + _STEP))
        for place in (query, head, batch):
            second = _mixed(second ^ _mixed(place + _STEP))
        return first, second


def kept(xp: Any, words: tuple[Array, Array], key: Array, rate: float) -> Array:
    """Which weights are kept, booleans. `words` come from `row_words`, `key` are the indices of keys; they broadcast."""
    first, second = words
    with np.errstate(over="ignore"):
        x = first + xp.asarray(key).astype(np.uint32) * _STEP
        x = (x ^ (x >> np.uint32(16))) * _FIRST
        x = (x ^ (x >> np.uint32(15)) ^ second) * _SECOND
        x = x ^ (x >> np.uint32(15))
    return x >= np.uint32(min(round(rate * 2**32), 2**32 - 1))


def _mixed(x: Array) -> Array:
    x = (x ^ (x >> np.uint32(16))) * _FIRST
    x = (x ^ (x >> np.uint32(15))) * _SECOND
    return x ^ (x >> np.uint32(15))
