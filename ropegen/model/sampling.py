"""How the next token is chosen from the scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ropegen.arguments import number_of
from ropegen.errors import RopegenError
from ropegen.models.config import count

Array = jax.Array


@dataclass(frozen=True, slots=True)
class Choice:
    """What a compiled loop holds of a choice. temperature: None takes the most likely token, a number draws one."""

    temperature: float | None
    top_k: int | None

    def draw(self, key: Array, scores: Array) -> tuple[Array, Array]:
        """The next key, and a token for every sequence: scores (B, V) -> (B,) int32."""
        if self.temperature is None:
            return key, jnp.argmax(scores, axis=-1).astype(jnp.int32)
        key, own = jax.random.split(key)
        if self.top_k is None:
            return key, jax.random.categorical(own, scores / self.temperature, axis=-1).astype(jnp.int32)
        best, index = lax.top_k(scores, min(self.top_k, scores.shape[-1]))
        drawn = jax.random.categorical(own, best / self.temperature, axis=-1)
        return key, jnp.take_along_axis(index, drawn[:, None], axis=-1)[:, 0].astype(jnp.int32)


@dataclass(frozen=True, slots=True)
class Sampling:
    """A choice, and the key that its draws start from."""

    choice: Choice
    key: Array

    @classmethod
    def of(cls, temperature: float | None, top_k: int | None, key: Any) -> Sampling:
        """The choice that the arguments of `Model.generate` describe.

        Raises:
          RopegenError: a temperature that is not above 0, or a draw without a key, or the reverse.
        """
        if temperature is None:
            if top_k is not None or key is not None:
                raise RopegenError(
                    "generate: top_k and key are for draws, and without a temperature the most likely token is taken; give "
                    "temperature=1.0, or leave them out"
                )
            return cls(Choice(None, None), jax.random.key(0))
        number = number_of("generate: temperature", temperature, "a number above 0, or None for the most likely token")
        if not 0 < number < float("inf"):
            raise RopegenError(
                f"generate: temperature is {number:g}; give a number above 0, or None for the most likely"
            )
        if key is None:
            raise RopegenError("generate: a draw depends on a key; give key=jax.random.key(seed)")
        return cls(Choice(number, None if top_k is None else count("generate: top_k", top_k)), key)
