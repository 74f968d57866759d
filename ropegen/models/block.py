"""`Block`: what a checkpoint's code does around the attention front-end, and which config fields say the rest.

The front-end ends with the output projection. The rest of a layer and the head of a model are what `ropegen.Model` adds
in plain JAX. `family` has the facts of the front-end, and this file those of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts: a router scores every expert for every token, and the best few compute the token.

    The parameters are `router_weight` (features, experts), `experts_gate_weight` and `experts_up_weight` (experts,
    features, inner), `experts_down_weight` (experts, inner, features), with biases where `biases` says so.
    """

    chosen: str = "num_experts_per_tok"
    """The field that says how many experts compute a token."""
    scores: Literal["all", "chosen"] = "all"
    """Whether the softmax runs over all experts before the choice, or over the chosen ones after it."""
    normalised: bool | str = True
    """With "all": whether the scores of the chosen experts are divided by their sum, or the field that says so."""
    biases: bool = False
    """Whether the router and every projection of an expert have a bias."""
    clamp: str = ""
    """The field that holds the bound of gpt-oss, whose experts compute (up + 1) * gate * sigmoid(factor * gate) within it."""
    gate_factor: str = ""
    """With `clamp`: the field that holds that factor."""

    @property
    def fields(self) -> frozenset[str]:
        """The config fields that these facts name."""
        named = (self.chosen, self.clamp, self.gate_factor, self.normalised if isinstance(self.normalised, str) else "")
        return frozenset(name for name in named if name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The rest of a layer, and the head of the model. Kinds and epsilons of norms are those of the front-end.

    A layer adds two results to its residual: that of attention and that of the feed-forward part ("mlp").
    """

    mlp: Literal["gated", "plain"] = "gated"
    """`down(act(gate(x)) * up(x))`, or `down(act(up(x)))`."""
    experts: Experts | None = None
    """The mixture of experts that takes the place of the feed-forward part; None for one feed-forward part."""
    activation: str = "hidden_act"
    """The field that names the activation, by a name of transformers' ACT2FN."""
    fixed_activation: str = ""
    """The activation itself, where the code fixes it and `activation` is no field."""
    order: Literal["sequential", "parallel"] = "sequential"
    """Whether the feed-forward part reads the residual after attention is added, or the residual that attention read."""
    parallel_field: str = ""
    """The field whose truth means "parallel" instead of `order`."""
    mlp_norm: Literal["own", "input", "none"] = "own"
    """Whether the feed-forward part has a norm of its own (`mlp_norm`), reads what the projections of q, k and v read, or
    reads the residual as it is.
    """
    post_norms: bool = False
    """Whether each result is normed (`attention_post_norm`, `mlp_post_norm`) before it is added."""
    mlp_bias: bool | str = False
    """True, False, or the field that says whether the feed-forward part has biases."""
    multiplier: str = ""
    """The field that holds the factor of each result before it is added."""
    final_norm: bool = True
    head_bias: bool = False
    tied: bool = False
    """Whether the embedding is the weight of the head where the config has no `tie_word_embeddings`."""
    logit_softcap: str = ""
    """The field that holds the soft-cap of the logits."""
    logit_multiplier: str = ""
    """The field that holds the factor of the logits."""
    logit_divisor: str = ""
    """The field that holds what the logits are divided by."""
    only: Mapping[str, object] = field(default_factory=dict[str, object])
    """Fields that change these parts in ways ropegen does not support, with the one value that it supports."""

    @property
    def fields(self) -> frozenset[str]:
        """The config fields that these facts name."""
        named = [
            "" if self.fixed_activation else self.activation,
            self.parallel_field,
            self.multiplier,
            self.logit_softcap,
            self.logit_multiplier,
            self.logit_divisor,
            "tie_word_embeddings",
            "intermediate_size",
        ]
        named += [self.mlp_bias] if isinstance(self.mlp_bias, str) else []
        return frozenset(name for name in (*named, *self.only) if name) | (
            self.experts.fields if self.experts else frozenset()
        )
