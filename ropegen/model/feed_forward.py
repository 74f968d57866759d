"""The feed-forward part of a layer in plain JAX, and the activations that it may have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from ropegen import plain
from ropegen.models.block import XIELU

Array = jax.Array
Values = Mapping[str, Array]


def _tanh_gelu(x: Array) -> Array:
    return jax.nn.gelu(x, approximate=True)


def _erf_gelu(x: Array) -> Array:
    # XLA's erfc has a relative error in the tails, where x * (1 + erf) / 2 would lose every digit.
    return x * lax.erfc(-x * math.sqrt(0.5)) * 0.5


def _squared_relu(x: Array) -> Array:
    return jnp.square(jax.nn.relu(x))


def _quick_gelu(x: Array) -> Array:
    return x * jax.nn.sigmoid(1.702 * x)


# By the names of transformers' ACT2FN.
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
    "gelu": _erf_gelu,
    "gelu_new": _tanh_gelu,
    "gelu_fast": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "quick_gelu": _quick_gelu,
    "relu": jax.nn.relu,
    "relu2": _squared_relu,
}


def _xielu(x: Array, alpha_p: Array, alpha_n: Array, beta: Array, eps: Array) -> Array:
    """XIELU (Huang et al., 2024): a parabola above 0, and below it an exponential function, both with a learned factor."""
    wide = plain.accumulator(x.dtype)
    read, alpha_p, alpha_n, beta, eps = (value.astype(wide) for value in (x, alpha_p, alpha_n, beta, eps))
    above = jax.nn.softplus(alpha_p) * read * read
    below = (jnp.expm1(jnp.minimum(read, eps)) - read) * (beta + jax.nn.softplus(alpha_n))
    return (jnp.where(read > 0, above, below) + beta * read).astype(x.dtype)


def activated(x: Array, activation: str) -> Array:
    """The activation of that name, in the element type of the accumulator, rounded to that of x."""
    return ACTIVATIONS[activation](x.astype(plain.accumulator(x.dtype))).astype(x.dtype)


@dataclass(frozen=True, slots=True)
class FeedForward:
    """`down(act(gate(x)) * up(x))`, or without a gate `down(act(up(x)))`.

    The labels of its parameters begin with `prefix`: `gate_weight` and `up_weight` (features, inner) and `down_weight`
    (inner, features), each with a bias if `biased`.
    """

    gated: bool
    biased: bool
    activation: str
    prefix: str = ""

    @property
    def labels(self) -> frozenset[str]:
        """The labels of its parameters."""
        parts = ("gate", "up", "down") if self.gated else ("up", "down")
        kinds = ("weight", "bias") if self.biased else ("weight",)
        learned = XIELU if self.activation == "xielu" else ()
        return frozenset((*(f"{self.prefix}{part}_{kind}" for part in parts for kind in kinds), *learned))

    def __call__(self, x: Array, values: Values) -> Array:
        """(B, S, features) -> (B, S, features)."""

        def project(part: str, read: Array) -> Array:
            label = self.prefix + part
            bias = (values[f"{label}_bias"],) if self.biased else ()
            return plain.project(read, values[f"{label}_weight"], *bias).astype(x.dtype)

        def act(read: Array) -> Array:
            if self.activation == "xielu":
                return _xielu(read, *(values[label] for label in XIELU))
            return activated(read, self.activation)

        up = project("up", x)
        return project("down", act(project("gate", x)) * up if self.gated else act(up))
