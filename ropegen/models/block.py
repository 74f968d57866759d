"""`Block`: what a checkpoint's code does around the attention front-end, and which config fields say the rest.

The front-end ends with the output projection. The rest of a layer and the head of a model are what `ropegen.Model` adds
in plain JAX. `family` has the facts of the front-end, and this file those of the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from ropegen.models.config import Config


XIELU = ("xielu_alpha_p", "xielu_alpha_n", "xielu_beta", "xielu_eps")
"""The labels of the numbers, each of shape (1,), that the activation xIELU learns or keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts: a router scores every expert for every token, and the best few compute the token.

    The parameters are `router_weight` (features, experts), `experts_gate_weight` and `experts_up_weight` (experts,
    features, inner), `experts_down_weight` (experts, inner, features), with biases where `biases` says so, and what the
    facts below name.
    """

    chosen: str | int = "num_experts_per_tok"
    """How many experts compute a token, or the field that says it."""
    scores: Literal["all", "chosen", "sigmoid", "near"] = "all"
    """What makes a score of what the router projects: a softmax over all experts, a softmax over the chosen ones after the
    choice, or a sigmoid for each expert by itself. "near" chooses one after the other, and the score of an expert is a softmax over
    those left that are not far below it (SparseMixer; Liu et al., "GRIN", 2024).
    """
    near: str = ""
    """With "near": half of how far below the best an expert may be, as a share of the larger of the two, is in this field."""
    wide: bool = False
    """Whether the router multiplies in float32 where activations are narrower."""
    correction: bool = False
    """Whether `router_correction` (experts,) is added to the scores for the choice, and for the choice alone."""
    groups: str = ""
    """The field with the number of groups of experts. A token may choose from the best groups only."""
    groups_chosen: str = ""
    """With `groups`: the field that says how many groups those are."""
    grouped_by: tuple[str, str] | None = None
    """With `groups`: a field, and its value where there are groups. None: there always are."""
    group_score: Literal["best", "best two"] = "best two"
    """With `groups`: a group is as good as its best expert, or as the sum of its best two."""
    normalised: bool | str = True
    """Unless "chosen": whether the scores of the chosen experts are divided by their sum, or the field that says so."""
    least_sum: str = ""
    """The field with the least number that they are divided by."""
    factor: str = ""
    """The field with the factor of the scores of the chosen experts."""
    biases: bool = False
    """Whether the router and every projection of an expert have a bias."""
    clamp: str = ""
    """The field that holds the bound of gpt-oss, whose experts compute (up + 1) * gate * sigmoid(factor * gate) within it."""
    gate_factor: str = ""
    """With `clamp`: the field that holds that factor."""
    shared: str = ""
    """A field that is 0 where no expert computes every token: their number, or their inner features. They are one
    feed-forward part, `shared_gate_weight` and `shared_up_weight` (features, inner) and `shared_down_weight` (inner,
    features). Their result is added to that of the chosen experts.
    """
    shared_gated: bool = False
    """Whether a feed-forward part computes every token, and is multiplied by the sigmoid of what `shared_router_weight`
    (features, 1) projects.
    """

    @property
    def fields(self) -> frozenset[str]:
        """The config fields that these facts name."""
        stated = (
            self.chosen,
            self.groups,
            self.groups_chosen,
            self.grouped_by[0] if self.grouped_by else "",
            self.normalised,
            self.least_sum,
            self.factor,
            self.clamp,
            self.gate_factor,
            self.near,
            self.shared,
        )
        return frozenset(name for name in stated if isinstance(name, str) and name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """The rest of a layer, and the head of the model. Kinds and epsilons of norms are those of the front-end.

    A layer adds two results to its residual: that of attention and that of the feed-forward part ("mlp").
    """

    mlp: Literal["gated", "plain"] = "gated"
    """`down(act(gate(x)) * up(x))`, or `down(act(up(x)))`."""
    experts: Experts | None = None
    """The mixture of experts that takes the place of the feed-forward part; None for one feed-forward part."""
    mixture_layers: Callable[[Config, int], bool] | None = None
    """With `experts`: whether a layer has the mixture and not one feed-forward part; None where every layer has it."""
    activation: str = "hidden_act"
    """The field that names the activation, by a name of transformers' ACT2FN."""
    learned_activation: bool = False
    """Whether the activation may be "xielu", which learns the numbers of `XIELU` in every layer."""
    activation_names: Mapping[str, str] = field(default_factory=dict[str, str])
    """Activations that the code calls by other names than ACT2FN, and their names there."""
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
    post_norms: bool | str = False
    """Whether each result is normed (`attention_post_norm`, `mlp_post_norm`) before it is added, or the field that says so."""
    sum_norms: bool = False
    """Whether the sum of the residual and each result is normed (`attention_sum_norm`, `mlp_sum_norm`)."""
    mlp_bias: bool | str = False
    """True, False, or the field that says whether the feed-forward part has biases."""
    multiplier: str = ""
    """The field that holds the factor of each result before it is added."""
    final_norm: bool = True
    head_bias: bool | str = False
    """True, False, or the field that says whether the head has a bias."""
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
        named += [said for said in (self.mlp_bias, self.post_norms, self.head_bias) if isinstance(said, str)]
        return frozenset(name for name in (*named, *self.only) if name) | (
            self.experts.fields if self.experts else frozenset()
        )
