"""The graph of one layer's attention front-end, built from the facts of its family and the sizes of its config.

The tensors of a checkpoint become inputs of the graph. A weight is (features in, features out). Queries, keys and
values have weights of their own (`q_weight`, `k_weight`, `v_weight`), so a checkpoint that fuses them is taken apart.
The file of a family in `families/` says how its checkpoints hold their tensors.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ropegen import masks
from ropegen.errors import RopegenError
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph, Node
from ropegen.models.config import Config, count
from ropegen.models.family import FrontEnd
from ropegen.rotary import Rope
from ropegen.types import numpy_dtype


@dataclass(frozen=True, slots=True)
class LayerGraph:
    """One front-end, and the stages that build it. `from_hf` describes the arguments and the inputs of the graph.

    The parameters, in order: `embedding`, `token_type_embedding` and `position_embedding`, or `patch_weight`,
    `patch_bias`, `class_token` (1, features), other tokens of this kind, `position_embedding` (tokens but registers,
    features) and `registers`, with `embedding_norm`, if the graph starts at ids; `input_norm`; the weights and biases of q, k and v;
    `q_norm` and `k_norm`; `sinks`; `o_weight` and `o_bias`. A family has only some of them.
    """

    b: Builder
    model: Config
    facts: FrontEnd
    rope: Rope | None
    """How the layer rotates; None for a model that does not."""
    window: int | None
    """How many keys a query sees before itself, its own included; None for all."""
    causal: bool
    batch: int
    seq: int
    dtype: str
    decode: bool
    capacity: int | None
    """The rows of the cache; None for a call without one."""
    vocabulary: int | None
    hidden: bool
    """Whether the graph starts at a hidden state."""
    residual: bool
    """Whether the value that the layer adds its result to is an output."""
    told: frozenset[str]
    """What a prefill call tells about its tokens: "lengths", "padding", "positions", "segments"; and "rope_positions"."""

    def graph(self) -> Graph:
        b, facts, features = self.b, self.facts, self.model.count("hidden_size")
        shape = (self.batch, self.seq, features)
        start = b.input("hidden", shape, self.dtype) if self.hidden else self._embedded(features)
        x = self._norm(start, "input_norm") if facts.input_norm else start
        attended, cached = self._attention(x)
        outputs = {"residual": start} if self.residual else {}
        return b.build(out=self._project(attended, "o", features, facts.out_bias), **outputs, **cached)

    def _attention(self, x: Node) -> tuple[Node, dict[str, Node]]:
        """What the output projection reads, (B, S, features of all heads), and the caches by label."""
        b, model, facts = self.b, self.model, self.facts
        heads, kv_heads, width = model.count("num_attention_heads"), key_heads(model, facts), model.head_width()
        q = self._project(x, "q", heads * width, facts.qkv_bias)
        k = self._project(x, "k", kv_heads * width, facts.qkv_bias)
        qk_norm = facts.qk_norm_over if model.flag(facts.qk_norm) else ""
        if qk_norm == "heads":
            q, k = self._norm(q, "q_norm"), self._norm(k, "k_norm")
        v = self._project(x, "v", kv_heads * width, facts.qkv_bias)
        if (limit := model.positive(facts.clip)) is not None:
            q, k, v = (b.clip(projected, limit) for projected in (q, k, v))
        q, k, v = b.split_heads(q, heads, width), b.split_heads(k, kv_heads, width), b.split_heads(v, kv_heads, width)
        if qk_norm == "head":
            q, k = self._norm(q, "q_norm"), self._norm(k, "k_norm")
        q, k = self._turned(q), self._turned(k)
        cached: dict[str, Node] = {}
        if self.capacity is not None:
            cached = self._cached({"k_cache": k, "v_cache": v}, self.capacity)
            if self.decode:  # the keys of a prompt are all there are, so only a step needs to read them from the cache
                k, v = cached["k_cache"], cached["v_cache"]
        return b.merge_heads(self._attended(q, k, v)), cached

    def _turned(self, heads: Node) -> Node:
        """Heads (B, S, heads, width), rotated at their positions where the layer rotates."""
        if self.rope is None:
            return heads
        longest = self.seq if self.capacity is None else self.capacity
        length = longest if self.rope.scaling.needs_length else None
        positions = self._positions()
        if axes := len(self.rope.sections):
            positions = self.b.input("rope_positions", (axes, self.batch, self.seq), "i32")
        return self.b.rope(heads, positions, self.rope, length=length)

    def _positions(self) -> Node:
        told = self.decode or "positions" in self.told
        return self._tokens("positions") if told else self.b.positions(self.seq)

    def _tokens(self, label: str) -> Node:
        return self.b.input(label, (self.batch, self.seq), "i32")

    def _embedded(self, features: int) -> Node:
        b, model, facts = self.b, self.model, self.facts
        if facts.patches:
            x = self._image(features)
            return self._norm(x, "embedding_norm") if facts.embedding_norm else x
        x = self._words(features)
        if facts.embedding_scale == "exact":
            x = b.scale(x, math.sqrt(features))
        elif facts.embedding_scale == "rounded":
            x = b.scale(x, float(np.float32(math.sqrt(features)).astype(numpy_dtype(self.dtype))))
        if facts.embedding_multiplier:
            x = b.scale(x, self.model.number(facts.embedding_multiplier))
        if facts.token_types:
            kinds = self._parameter("token_type_embedding", model.count("type_vocab_size"), features)
            x = b.add(x, b.embed(self._tokens("token_type_ids"), kinds))
        if self.model.family.positions == "learned":
            table = self._parameter("position_embedding", learned_positions(model, facts), features)
            x = b.add(x, b.embed(self._positions(), table))
        elif self.model.family.positions == "sinusoid":
            x = b.add(x, b.sinusoid(self._positions(), features, pairing="interleaved", dtype=self.dtype))
        return self._norm(x, "embedding_norm") if facts.embedding_norm else x

    def _words(self, features: int) -> Node:
        rows = self.model.count("vocab_size")
        if self.vocabulary is not None:
            reduced = count("from_hf: vocabulary", self.vocabulary)
            if reduced > rows:
                raise RopegenError(f"from_hf: vocabulary is {reduced} and the model has {rows} words; it only reduces")
            rows = reduced
        return self.b.embed(self._tokens("ids"), self._parameter("embedding", rows, features))

    def _image(self, features: int) -> Node:
        """The patches of an image with their positions, after the first tokens and the registers."""
        b, facts = self.b, self.facts
        x, count = self._patches(features), len(facts.first_tokens)
        first = [self._parameter(label, 1, features) for label in facts.first_tokens]
        tokens = functools.reduce(b.join_rows, first) if first else None
        registers = register_tokens(self.model, facts)
        if tokens and not registers:
            x, count, tokens = b.join_rows(tokens, x), 0, None
        if self.model.family.positions == "learned":
            rows = x.type.shape[-2] + count
            table = self._parameter("position_embedding", rows, features)
            x = b.add(x, b.embed(b.positions(rows - count, count), table))
            tokens = tokens and b.add(tokens, b.embed(b.positions(count), table))
        if registers:
            x = b.join_rows(self._parameter("registers", registers, features), x)
        return b.join_rows(tokens, x) if tokens else x

    def _patches(self, features: int) -> Node:
        if self.vocabulary is not None:
            raise RopegenError(f"from_hf: {self.model.model_type} reads images and has no vocabulary; leave it out")
        (height, width), (down, across) = self.model.sides("image_size"), self.model.sides("patch_size")
        image = self.b.input("image", (self.batch, height, width, self.model.count("num_channels")), self.dtype)
        return self._project(self.b.patchify(image, down, across), "patch", features, self.facts.patch_bias)

    def _cached(self, new: Mapping[str, Node], capacity: int) -> dict[str, Node]:
        """The caches with new rows, by label: from row `lengths` on in a step, from row 0 on for a prompt."""
        first = self.b.input("lengths", (self.batch,), "i32") if self.decode else self.b.positions(1)
        return {
            label: self.b.append_cache(
                self.b.state(label, (self.batch, capacity, *rows.type.shape[-2:]), self.dtype), rows, first
            )
            for label, rows in new.items()
        }

    def _attended(self, q: Node, k: Node, v: Node) -> Node:
        model, facts = self.model, self.facts
        mask = masks.causal if self.causal else masks.full
        if self.window is not None:
            # Where later keys are seen too, transformers counts the distance itself, one more key on either side.
            mask = mask & (masks.window(self.window) if self.causal else masks.window(self.window + 1, self.window + 1))
        q_segments = kv_segments = None
        if "segments" in self.told:
            mask, q_segments = mask & masks.segments, self._tokens("segments")
            kv_segments = q_segments
        elif self.told & {"lengths", "padding"}:
            mask = mask & masks.as_mask(_is_token)
            kv_segments = self._tokens("padding") if "padding" in self.told else self._tokens_left()
        placed = self.causal or self.window is not None
        alibi = model.family.positions == "alibi"
        softcap = model.positive(facts.softcap)
        return self.b.attend(
            q,
            k,
            v,
            mask=mask,
            score=masks.alibi(masks.alibi_slopes(q.type.shape[-2])) if alibi else masks.identity,
            scale=self._multiplier(),
            softcap=softcap,
            q_positions=self._positions() if placed else None,
            kv_positions=(self.b.positions(k.type.shape[-3]) if self.decode else self._positions()) if placed else None,
            q_segments=q_segments,
            kv_segments=kv_segments,
            sinks=self._parameter("sinks", q.type.shape[-2]) if facts.sinks else None,
        )

    def _multiplier(self) -> float | None:
        """What multiplies the scores; None for the inverse square root of the width of a head."""
        model, facts = self.model, self.facts
        if facts.multiplier:
            if not isinstance(facts.multiplier, str):
                return facts.multiplier
            return None if model.value(facts.multiplier) is None else model.number(facts.multiplier)
        scale = model.positive(facts.scale)
        return None if scale is None else 1.0 / math.sqrt(scale)

    def _tokens_left(self) -> Node:
        """(B, S): the length of a sequence less the index of a token, above 0 for tokens and not for padding."""
        b = self.b
        lengths = b.split_heads(b.input("lengths", (self.batch,), "i32"), self.batch, 1)  # (B, 1)
        left = b.add(b.cast(lengths, "f32"), b.scale(b.cast(b.positions(self.seq), "f32"), -1.0))
        return b.cast(left, "i32")

    def _parameter(self, label: str, *shape: int) -> Node:
        return self.b.parameter(label, shape, self.dtype)

    def _project(self, x: Node, label: str, features: int, bias: bool | str) -> Node:
        weight = self._parameter(f"{label}_weight", x.type.shape[-1], features)
        return self.b.project(x, weight, self._parameter(f"{label}_bias", features) if self.model.flag(bias) else None)

    def _norm(self, x: Node, label: str, epsilon: float | None = None) -> Node:
        facts, features = self.facts, x.type.shape[-1]
        return self.b.norm(
            x,
            self._parameter(label, features) if facts.norm_parameters != "none" else None,
            self._parameter(f"{label}_bias", features) if has_norm_bias(facts) else None,
            kind=facts.norm,
            epsilon=epsilon_of(self.model, facts) if epsilon is None else epsilon,
            weight_offset=facts.weight_offset,
        )


def _is_token(kv_segment: Any) -> Any:
    """The mask of padding: keys that are tokens have a number above 0."""
    return kv_segment > 0


def has_norm_bias(facts: FrontEnd) -> bool:
    """Whether norms add a bias."""
    return facts.norm == "layer" and facts.norm_parameters == "usual"


def learned_positions(model: Config, facts: FrontEnd) -> int:
    """How many positions a model with learned positions has."""
    rows = model.count("max_position_embeddings")
    return rows - (1 + model.count(facts.positions_after, least=0)) if facts.positions_after else rows


def register_tokens(model: Config, facts: FrontEnd) -> int:
    """How many register tokens stand before the patches of an image."""
    return model.count(facts.registers, least=0) if facts.registers else 0


def key_heads(model: Config, facts: FrontEnd) -> int:
    """The number of heads of keys and values."""
    if facts.key_heads is not None:
        return facts.key_heads(model)
    shared = facts.grouped and model.value("num_key_value_heads") is not None
    return model.count("num_key_value_heads" if shared else "num_attention_heads")


def epsilon_of(model: Config, facts: FrontEnd) -> float:
    """The epsilon of every norm."""
    return model.number(facts.epsilon) if facts.fixed_epsilon is None else facts.fixed_epsilon
