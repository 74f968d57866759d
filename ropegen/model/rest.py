"""The rest of a layer in plain JAX: the feed-forward part or its experts, their norms, and the head of the model.

ropegen compiles the attention front-end, which ends with the output projection. What follows is here, so that a whole
model runs. Products and norms sum in float32 or wider and round once, as those of the front-end do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax

from ropegen import plain
from ropegen.errors import RopegenError, nearest
from ropegen.model.feed_forward import ACTIVATIONS, FeedForward
from ropegen.model.mixture import Mixture
from ropegen.models.block import Block
from ropegen.models.config import Config
from ropegen.models.family import FrontEnd
from ropegen.models.layer_graph import epsilon_of, has_norm_bias
from ropegen.models.wrappers import UNSCALED

Array = jax.Array
Values = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Rest:
    """The facts of a config about the parts of a model that are not its front-end, read and checked."""

    block: Block
    facts: FrontEnd
    """Those of the front-end, whose norms are of the same kind."""
    epsilon: float
    feed_forward: FeedForward
    mixture: Mixture | None
    """What takes the place of the feed-forward part in some layers or in all."""
    post_norms: bool
    """Whether each result is normed before it is added."""
    head_bias: bool
    parallel: bool
    """Whether the feed-forward part reads what attention read, and not its result."""
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
        block = model.block
        if block is None:
            raise RopegenError(
                f"Model: ropegen runs only the attention front-end of {model.model_type}; build that with rg.from_hf"
            )
        for name, only in block.only.items():
            if model.given.get(name, only) not in (only, None):
                raise model.refuse(f"{name} {model.given[name]!r} is not supported", f"only {only!r} is")
        activation = block.fixed_activation or model.value(block.activation)
        activation = block.activation_names.get(str(activation), activation)
        if activation not in ACTIVATIONS and not (block.learned_activation and activation == "xielu"):
            raise model.refuse(
                f"{block.activation} {activation!r} is not supported", nearest(str(activation), ACTIVATIONS)
            )
        parallel = model.flag(block.parallel_field) if block.parallel_field else block.order == "parallel"
        unscaled = model.around.get("model_type") in UNSCALED
        feed_forward = FeedForward(block.mlp == "gated", model.flag(block.mlp_bias), str(activation))
        return cls(
            block=block,
            facts=facts,
            epsilon=epsilon_of(model, facts),
            feed_forward=feed_forward,
            mixture=Mixture.of(model, block, feed_forward),
            parallel=parallel,
            post_norms=model.flag(block.post_norms),
            head_bias=model.flag(block.head_bias),
            multiplier=model.positive(block.multiplier),
            logit_softcap=model.positive(block.logit_softcap),
            logit_multiplier=None if unscaled else model.positive(block.logit_multiplier),
            logit_divisor=model.positive(block.logit_divisor),
            tied=model.is_tied(block.tied),
        )

    def expect(self, block: Mapping[str, Array], head: Collection[str], layer: int) -> None:
        """Refuses the parameters of a layer's rest, or the labels of the head, if they are not those that are read.

        Raises:
          RopegenError: a label is missing or unknown, or the experts do not divide into groups as the config says.
        """
        mixture = self.mixture if self.mixture and self.mixture.layers[layer] else None
        norms = ["mlp_norm"] if self.block.mlp_norm == "own" else []
        norms += ["attention_post_norm", "mlp_post_norm"] if self.post_norms else []
        norms += ["attention_sum_norm", "mlp_sum_norm"] if self.block.sum_norms else []
        part = mixture.labels if mixture else self.feed_forward.labels
        _expect(f"the rest of layer {layer}", part | self._learned(norms), block)
        if mixture:
            mixture.expect(block["router_weight"].shape[-1], layer)
        last = self._learned(["final_norm"] if self.block.final_norm else [])
        last |= {"head_bias"} if self.head_bias else set()
        last |= set() if self.tied and "head_weight" not in head else {"head_weight"}
        _expect("the head", last, head)

    def _learned(self, norms: list[str]) -> set[str]:
        """What the norms of these names learn."""
        if self.facts.norm_parameters == "none":
            return set()
        return {*norms, *(f"{norm}_bias" for norm in norms if has_norm_bias(self.facts))}

    def layer(self, residual: Array, out: Array, values: Values) -> Array:
        """What a layer returns: residual (B, S, E), out (B, S, E) of the front-end -> (B, S, E).

        `values` are the parameters of the rest of the layer, and of the front-end's norm where both read it. A layer has a
        mixture of experts if they have a router; `expect` holds them against the config.
        """
        if self.post_norms:
            out = self._norm(out, values, "attention_post_norm")
        after = residual + self._scaled(out)
        if self.block.sum_norms:
            after = self._norm(after, values, "attention_sum_norm")
        x = residual if self.parallel else after
        if self.block.mlp_norm != "none":
            x = self._norm(x, values, "mlp_norm" if self.block.mlp_norm == "own" else "input_norm")
        made = self.mixture(x, values) if self.mixture and "router_weight" in values else self.feed_forward(x, values)
        if self.post_norms:
            made = self._norm(made, values, "mlp_post_norm")
        result = after + self._scaled(made)
        return self._norm(result, values, "mlp_sum_norm") if self.block.sum_norms else result

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
        if self.head_bias:
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


def _expect(where: str, wanted: Collection[str], given: Collection[str]) -> None:
    if missing := sorted(set(wanted) - set(given)):
        raise RopegenError(f"Model: the weights of {where} lack {', '.join(missing)}; `Block` says what they are")
    if unknown := sorted(set(given) - set(wanted)):
        raise RopegenError(f"Model: {where} does not read {', '.join(unknown)}, which its weights have")
