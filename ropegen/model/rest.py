"""The rest of a layer in plain JAX: the feed-forward part or its experts, their norms, and the head of the model.

ropegen compiles the attention front-end, which ends with the output projection. What follows is here, so that a whole
model runs. Products and norms sum in float32 or wider and round once, as those of the front-end do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from ropegen import plain
from ropegen.errors import RopegenError, nearest
from ropegen.models.block import Block, Experts
from ropegen.models.config import Config
from ropegen.models.family import FrontEnd
from ropegen.models.layer_graph import epsilon_of, has_norm_bias

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


# A gathered weight is read, written and read again, and a weight in its place is read once.
_PASSES = 3


@dataclass(frozen=True, slots=True)
class Rest:
    """The facts of a config about the parts of a model that are not its front-end, read and checked."""

    block: Block
    facts: FrontEnd
    """Those of the front-end, whose norms are of the same kind."""
    epsilon: float
    activation: str
    mlp_bias: bool
    parallel: bool
    """Whether the feed-forward part reads what attention read, and not its result."""
    chosen: int
    """How many experts compute a token; 0 without experts."""
    normalised: bool
    """Whether the scores of the chosen experts are divided by their sum."""
    clamp: float | None
    gate_factor: float | None
    multiplier: float | None
    logit_softcap: float | None
    logit_multiplier: float | None
    logit_divisor: float | None
    tied: bool
    """Whether the embedding is the weight of the head."""

    @classmethod
    def of(cls, model: Config, facts: FrontEnd) -> Rest:
        """What `model` says.

        Raises:
          RopegenError: the family declares no `Block`, or a field is missing, wrong or not supported.
        """
        block = model.family.block
        if block is None:
            raise RopegenError(
                f"Model: ropegen runs only the attention front-end of {model.model_type}; build that with rg.from_hf"
            )
        for name, only in block.only.items():
            if model.given.get(name, only) not in (only, None):
                raise model.refuse(f"{name} {model.given[name]!r} is not supported", f"only {only!r} is")
        activation = block.fixed_activation or model.value(block.activation)
        if activation not in ACTIVATIONS:
            raise model.refuse(
                f"{block.activation} {activation!r} is not supported", nearest(str(activation), ACTIVATIONS)
            )
        parallel = model.flag(block.parallel_field) if block.parallel_field else block.order == "parallel"
        experts = block.experts
        tied = model.given.get("tie_word_embeddings", model.around.get("tie_word_embeddings", block.tied))
        if not isinstance(tied, bool):
            raise model.refuse(f"tie_word_embeddings is {tied!r}", "it must be true or false")
        return cls(
            block=block,
            facts=facts,
            epsilon=epsilon_of(model, facts),
            activation=str(activation),
            mlp_bias=model.flag(block.mlp_bias),
            parallel=parallel,
            chosen=0 if experts is None else model.count(experts.chosen),
            normalised=experts is not None and model.flag(experts.normalised),
            clamp=None if experts is None else model.positive(experts.clamp),
            gate_factor=None if experts is None else model.positive(experts.gate_factor),
            multiplier=model.positive(block.multiplier),
            logit_softcap=model.positive(block.logit_softcap),
            logit_multiplier=model.positive(block.logit_multiplier),
            logit_divisor=model.positive(block.logit_divisor),
            tied=tied,
        )

    def expect(self, block: Collection[str], head: Collection[str], layer: int) -> None:
        """Refuses the labels of a layer's rest, or of the head, if they are not those that are read.

        Raises:
          RopegenError: a label is missing or unknown.
        """
        biases = self.block.experts.biases if self.block.experts else self.mlp_bias
        matrices = [f"{part}_weight" for part in self._projections()]
        if biases:
            matrices += [f"{part}_bias" for part in self._projections()]
        norms = ["mlp_norm"] if self.block.mlp_norm == "own" else []
        norms += ["attention_post_norm", "mlp_post_norm"] if self.block.post_norms else []
        _expect(f"the rest of layer {layer}", {*matrices, *self._learned(norms)}, block)
        last = self._learned(["final_norm"] if self.block.final_norm else [])
        last |= {"head_bias"} if self.block.head_bias else set()
        last |= set() if self.tied and "head_weight" not in head else {"head_weight"}
        _expect("the head", last, head)

    def _projections(self) -> tuple[str, ...]:
        parts = ("gate", "up", "down") if self.block.mlp == "gated" else ("up", "down")
        return ("router", *(f"experts_{part}" for part in parts)) if self.block.experts else parts

    def _learned(self, norms: list[str]) -> set[str]:
        """What the norms of these names learn."""
        if self.facts.norm_parameters == "none":
            return set()
        return {*norms, *(f"{norm}_bias" for norm in norms if has_norm_bias(self.facts))}

    def layer(self, residual: Array, out: Array, values: Values) -> Array:
        """What a layer returns: residual (B, S, E), out (B, S, E) of the front-end -> (B, S, E).

        `values` are the parameters of the rest of the layer, and of the front-end's norm where both read it.
        """
        if self.block.post_norms:
            out = self._norm(out, values, "attention_post_norm")
        after = residual + self._scaled(out)
        x = residual if self.parallel else after
        if self.block.mlp_norm != "none":
            x = self._norm(x, values, "mlp_norm" if self.block.mlp_norm == "own" else "input_norm")
        made = self._experts(x, values, self.block.experts) if self.block.experts else self._mlp(x, values)
        if self.block.post_norms:
            made = self._norm(made, values, "mlp_post_norm")
        return after + self._scaled(made)

    def _scaled(self, result: Array) -> Array:
        return result if self.multiplier is None else result * jnp.asarray(self.multiplier, result.dtype)

    def logits(self, hidden: Array, head: Values, embedding: Array) -> Array:
        """The scores of every word: hidden (B, S, E) -> (B, S, V), in float32, or float64 for float64.

        `embedding` (V, E) is the weight of a head that is tied to it.
        """
        x = self._norm(hidden, head, "final_norm") if self.block.final_norm else hidden
        if "head_weight" in head:
            scores = plain.project(x, head["head_weight"])
        else:
            scores = lax.dot_general(
                x,
                embedding,
                (((x.ndim - 1,), (1,)), ((), ())),
                precision=plain.precision(x.dtype),
                preferred_element_type=plain.accumulator(x.dtype),
            )
        if self.block.head_bias:
            scores = scores + head["head_bias"].astype(scores.dtype)
        if self.logit_multiplier is not None:
            scores = scores * self.logit_multiplier
        if self.logit_divisor is not None:
            scores = scores / self.logit_divisor
        cap = self.logit_softcap
        return scores if cap is None else jnp.tanh(scores / cap) * cap

    def _norm(self, x: Array, values: Values, label: str) -> Array:
        facts = self.facts
        weight = None if facts.norm_parameters == "none" else values[label]
        bias = values[f"{label}_bias"] if has_norm_bias(facts) else None
        return plain.norm(x, weight, bias, facts.norm, self.epsilon, facts.weight_offset)

    def _mlp(self, x: Array, values: Values) -> Array:
        def project(label: str, read: Array) -> Array:
            bias = (values[f"{label}_bias"],) if self.mlp_bias else ()
            return plain.project(read, values[f"{label}_weight"], *bias).astype(x.dtype)

        up = project("up", x)
        inner = self._activated(project("gate", x)) * up if self.block.mlp == "gated" else self._activated(up)
        return project("down", inner)

    def _activated(self, x: Array) -> Array:
        return ACTIVATIONS[self.activation](x.astype(plain.accumulator(x.dtype))).astype(x.dtype)

    def _experts(self, x: Array, values: Values, experts: Experts) -> Array:
        """The mixture for x (B, S, E): the router weighs the results of the experts that it chooses.

        For few tokens the weights of their experts are gathered. For many, every expert computes every token, so the time is
        that of all experts.
        """
        wide = plain.accumulator(x.dtype)
        scores = plain.project(x, values["router_weight"])
        if experts.biases:
            scores = scores + values["router_bias"].astype(wide)
        scores = scores.astype(x.dtype).astype(wide)
        if experts.scores == "all":
            scores = jax.nn.softmax(scores, axis=-1)
        best, index = lax.top_k(scores, self.chosen)
        if experts.scores == "chosen":
            best = jax.nn.softmax(best, axis=-1)
        elif self.normalised:
            best = best / jnp.sum(best, axis=-1, keepdims=True)
        count = values["router_weight"].shape[-1]
        gathers = _PASSES * math.prod(index.shape) <= count
        stack = "bsx" if gathers else "x"  # x counts the chosen experts of a token, or all experts
        share = best if gathers else jnp.sum(jax.nn.one_hot(index, count, dtype=wide) * best[..., None], axis=-2)

        def project(read: Array, label: str, equation: str) -> Array:
            def held(kind: str) -> Array:
                stacked = values[f"experts_{label}_{kind}"]
                return stacked[index] if gathers else stacked

            made = jnp.einsum(
                equation,
                read,
                held("weight"),
                precision=plain.precision(x.dtype),
                preferred_element_type=wide,
            )
            if experts.biases:
                made = made + held("bias").astype(wide)
            return made.astype(x.dtype)

        gate, up = (project(x, label, f"bse,{stack}ef->bsxf") for label in ("gate", "up"))
        if self.clamp is None or self.gate_factor is None:
            inner = self._activated(gate) * up
        else:
            gate, up = jnp.minimum(gate, self.clamp), jnp.clip(up, -self.clamp, self.clamp)
            inner = (up + 1) * gate * jax.nn.sigmoid(gate * self.gate_factor)
        made = project(inner, "down", f"bsxf,{stack}fe->bsxe")
        return jnp.einsum("bsx,bsxe->bse", share, made.astype(wide), precision=plain.precision(wide)).astype(x.dtype)


def _expect(where: str, wanted: Collection[str], given: Collection[str]) -> None:
    if missing := sorted(set(wanted) - set(given)):
        raise RopegenError(f"Model: the weights of {where} lack {', '.join(missing)}; `Block` says what they are")
    if unknown := sorted(set(given) - set(wanted)):
        raise RopegenError(f"Model: {where} does not read {', '.join(unknown)}, which its weights have")
