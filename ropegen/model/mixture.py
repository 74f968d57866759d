"""A mixture of experts in plain JAX: the router, the experts that it chooses, and those that compute every token."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import lax

from ropegen import plain
from ropegen.errors import RopegenError
from ropegen.model.feed_forward import FeedForward, activated
from ropegen.models.block import Block, Experts
from ropegen.models.config import Config

Array = jax.Array
Values = Mapping[str, Array]

# A gathered weight is read, written and read again, and a weight in its place is read once.
_PASSES = 3


@dataclass(frozen=True, slots=True)
class Mixture:
    """The facts of a config about its mixtures of experts, read and checked."""

    experts: Experts
    part: FeedForward
    """The kind of feed-forward part that an expert is."""
    layers: tuple[bool, ...]
    """Which layers have a mixture; the others have one feed-forward part."""
    chosen: int
    """How many experts compute a token."""
    normalised: bool
    """Whether the scores of the chosen experts are divided by their sum."""
    groups: int
    """The number of groups that the experts are in; 1 where a token may choose any."""
    groups_chosen: int
    least_sum: float | None
    factor: float | None
    shared: FeedForward | None
    """What computes every token."""
    clamp: float | None
    gate_factor: float | None
    near: float
    """Half of how far below the best an expert may be."""

    @classmethod
    def of(cls, model: Config, block: Block, dense: FeedForward) -> Mixture | None:
        """What `model` says; None for a model without mixtures. `dense` is the feed-forward part of its other layers.

        Raises:
          RopegenError: a field is missing, wrong or not supported.
        """
        experts = block.experts
        if experts is None:
            return None
        layers, groups, groups_chosen = range(model.count("num_hidden_layers")), 1, 1
        if experts.groups and (
            experts.grouped_by is None or model.value(experts.grouped_by[0]) == experts.grouped_by[1]
        ):
            groups, groups_chosen = model.count(experts.groups), model.count(experts.groups_chosen)
        if groups_chosen > groups:
            raise model.refuse(
                f"{experts.groups_chosen} is {groups_chosen} of {groups} groups", "it must be at most that"
            )
        shares = experts.shared_gated or bool(experts.shared and model.count(experts.shared, least=0))
        return cls(
            experts=experts,
            part=replace(dense, biased=experts.biases, prefix="experts_"),
            layers=tuple(block.mixture_layers is None or block.mixture_layers(model, layer) for layer in layers),
            chosen=experts.chosen if isinstance(experts.chosen, int) else model.count(experts.chosen),
            normalised=model.flag(experts.normalised),
            groups=groups,
            groups_chosen=groups_chosen,
            least_sum=model.positive(experts.least_sum),
            factor=model.positive(experts.factor),
            shared=replace(dense, prefix="shared_") if shares else None,
            clamp=model.positive(experts.clamp),
            gate_factor=model.positive(experts.gate_factor),
            near=model.number(experts.near) if experts.near else 0.0,
        )

    @property
    def labels(self) -> frozenset[str]:
        """The labels of the parameters of one mixture."""
        experts, labels = self.experts, {"router_weight", *self.part.labels}
        labels |= {"router_bias"} if experts.biases else set()
        labels |= {"router_correction"} if experts.correction else set()
        labels |= self.shared.labels if self.shared else set()
        labels |= {"shared_router_weight"} if experts.shared_gated else set()
        return frozenset(labels)

    def expect(self, count: int, layer: int) -> None:
        """Refuses a number of experts that cannot be grouped and chosen from as the config says.

        Raises:
          RopegenError: it does not divide into the groups, or the groups to choose from have too few.
        """
        least = 2 if self.groups > 1 and self.experts.group_score == "best two" else 1
        fits = count % self.groups == 0 and count // self.groups >= least
        if not fits or self.groups_chosen * (count // self.groups) < self.chosen:
            groups = f"{self.groups_chosen} of {self.groups} groups of " if self.groups > 1 else ""
            raise RopegenError(
                f"Model: layer {layer} has {count} experts, and a token chooses {self.chosen} from {groups}them; groups have "
                f"equal sizes of at least {least}, and enough experts to choose from"
            )

    def __call__(self, x: Array, values: Values) -> Array:
        """Read x (B, S, features) and return (B, S, features): the router weighs the results of the experts that it chooses.

        For few tokens the weights of their experts are gathered. For many, every expert computes every token, so the time is
        that of all experts.
        """
        wide = plain.accumulator(x.dtype)
        best, index = self._routed(x, values)
        batch, seq, features = x.shape
        count = values["router_weight"].shape[-1]
        gathers = _PASSES * math.prod(index.shape) <= count
        # The experts come first in every product, and beside them the rows that an expert reads: one token, or all tokens.
        if gathers:
            read, share = x[:, :, None, None], best[..., None, None]
        else:
            one_hot = jax.nn.one_hot(index, count, dtype=wide)
            every = jnp.sum(one_hot * best[..., None], axis=-2)
            read, share = x.reshape(1, batch * seq, features), every.reshape(-1, count).T[..., None]

        def project(read: Array, label: str) -> Array:
            def held(kind: str) -> Array:
                stacked = values[f"experts_{label}_{kind}"]
                return stacked[index] if gathers else stacked

            precision = plain.precision(x.dtype)
            made = jnp.matmul(read, held("weight"), precision=precision, preferred_element_type=wide)
            if self.experts.biases:
                made = made + held("bias")[..., None, :].astype(wide)
            return made.astype(x.dtype)

        gate, up = project(read, "gate"), project(read, "up")
        if self.clamp is None or self.gate_factor is None:
            inner = activated(gate, self.part.activation) * up
        else:
            gate, up = jnp.minimum(gate, self.clamp), jnp.clip(up, -self.clamp, self.clamp)
            inner = (up + 1) * gate * jax.nn.sigmoid(gate * self.gate_factor)
        results = project(inner, "down").astype(wide) * share
        mixed = jnp.sum(results, axis=2 if gathers else 0).reshape(x.shape).astype(x.dtype)
        return mixed if self.shared is None else mixed + self._shared(x, values, self.shared)

    def _shared(self, x: Array, values: Values, part: FeedForward) -> Array:
        made = part(x, values)
        if not self.experts.shared_gated:
            return made
        gate = plain.project(x, values["shared_router_weight"])
        return jax.nn.sigmoid(gate).astype(x.dtype) * made

    def _routed(self, x: Array, values: Values) -> tuple[Array, Array]:
        """The shares of the chosen experts and their numbers, both (B, S, chosen)."""
        experts, wide = self.experts, plain.accumulator(x.dtype)
        read, weight = x, values["router_weight"]
        if experts.wide:
            read, weight = read.astype(wide), weight.astype(wide)
        scores = plain.project(read, weight)
        if experts.biases:
            scores = scores + values["router_bias"].astype(wide)
        scores = scores.astype(read.dtype).astype(wide)
        if experts.scores == "near":
            return self._one_by_one(scores)
        if experts.scores == "all":
            scores = jax.nn.softmax(scores, axis=-1)
        elif experts.scores == "sigmoid":
            scores = jax.nn.sigmoid(scores)
        for_choice = scores + values["router_correction"].astype(wide) if experts.correction else scores
        if self.groups > 1:
            for_choice = self._of_best_groups(for_choice)
        _, index = lax.top_k(for_choice, self.chosen)
        best = jnp.take_along_axis(scores, index, axis=-1)
        if experts.scores == "chosen":
            best = jax.nn.softmax(best, axis=-1)
        elif self.normalised:
            total = jnp.sum(best, axis=-1, keepdims=True)
            if self.least_sum is not None:
                total = jnp.maximum(total, self.least_sum)
            if experts.scores == "sigmoid":
                total = total + 1e-20  # as DeepSeek's code does, because every sigmoid may be 0
            best = best / total
        return (best if self.factor is None else best * self.factor), index

    def _one_by_one(self, scores: Array) -> tuple[Array, Array]:
        """The shares and numbers of experts that are chosen one after the other."""
        left, shares, chosen = scores, list[Array](), list[Array]()
        for _ in range(self.chosen):
            best = jnp.max(left, axis=-1, keepdims=True)
            index = jnp.argmax(left, axis=-1, keepdims=True)
            is_far = (best - scores) / jnp.maximum(jnp.abs(scores), best) > 2 * self.near
            gates = jax.nn.softmax(jnp.where(is_far, -jnp.inf, left), axis=-1)
            shares.append(jnp.take_along_axis(gates, index, axis=-1))
            chosen.append(index)
            left = jnp.where(jnp.arange(scores.shape[-1]) == index, -jnp.inf, left)
        return jnp.concatenate(shares, axis=-1), jnp.concatenate(chosen, axis=-1)

    def _of_best_groups(self, scores: Array) -> Array:
        """The scores (..., experts) of the best groups, and minus infinity for the other experts."""
        grouped = scores.reshape(*scores.shape[:-1], self.groups, -1)
        best, _ = lax.top_k(grouped, 1 if self.experts.group_score == "best" else 2)
        _, index = lax.top_k(jnp.sum(best, axis=-1), self.groups_chosen)
        is_best = jnp.any(index[..., None] == jnp.arange(self.groups), axis=-2)
        return jnp.where(is_best[..., None], grouped, -jnp.inf).reshape(scores.shape)
