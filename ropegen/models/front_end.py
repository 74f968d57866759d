"""From a Hugging Face config to the graph of a model's attention front-end.

    graph = from_hf(json.loads(Path("config.json").read_text()), seq=2048, layer=0)

The tensors of a checkpoint become inputs of the graph. A weight is (features in, features out). Queries, keys and
values have weights of their own (`q_weight`, `k_weight`, `v_weight`), so a checkpoint that fuses them is taken apart.
The file of a family in `families/` says how its checkpoints hold their tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from ropegen import masks
from ropegen.arguments import mapping_of, text_of
from ropegen.errors import RopegenError, nearest
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph, Node
from ropegen.models.config import Config, count
from ropegen.models.families import FAMILIES
from ropegen.models.family import LAYER_TYPES, Declined, FrontEnd
from ropegen.models.rope_parameters import rope_of
from ropegen.rotary import Rope
from ropegen.scaling import whole
from ropegen.types import FLOATS, dtype_name, numpy_dtype

PHASES = ("prefill", "decode")

_IMPLEMENTATIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")


def from_hf(
    config: Mapping[str, object],
    *,
    batch: int = 1,
    seq: int | None = None,
    dtype: str = "bf16",
    phase: str = "prefill",
    layer: int = 0,
    capacity: int | None = None,
    vocabulary: int | None = None,
) -> Graph:
    """The attention front-end of one layer of the model that `config`, the mapping in a config.json, describes.

    Args:
      config: `model_type` and the fields of that type; `FAMILIES` lists the types.
      batch: B, the number of sequences.
      seq: S, the tokens of one call; in `decode`, the new tokens. The default is 1 in `decode`, otherwise 2048 or as
        many as the model has learned positions for, if those are fewer. For an image it is the number of patches.
      dtype: the element type of weights and activations.
      phase: "prefill" starts at position 0; "decode" continues from a cache.
      layer: which layer, from 0. It decides between local and full attention in models that alternate them. Whichever
        layer it is, it reads the embedding.
      capacity: C, the rows of the cache in `decode`; the default is the model's longest sequence. Frequencies that
        depend on the length (dynamic, LongRoPE) are chosen by it in both phases, so give both the same value; without
        it, `prefill` chooses by `seq`.
      vocabulary: fewer rows of the embedding table than the model has, to try the model in less memory.

    Returns:
      A graph with the output `out` (B, S, features), after the output projection. Inputs: `ids` (B, S) int32, or
      `image` (B, height, width, channels) of `dtype`; `token_type_ids` (B, S) int32 for BERT. In `decode` also
      `positions` (B, S) int32, `lengths` (B,) int32 (the rows of the cache that are written) and the states `k_cache`,
      `v_cache` (B, C, key heads, width of a head), which are outputs as well. Row i of a cache holds position i, so the
      first position of a sequence is its length; a call is refused if it knows that they differ. The weights are the
      inputs whose role is "parameter"; see the module for their order.

    Raises:
      RopegenError: an unknown model type, a field that is missing or that changes the front-end in a way that is not
        supported, or a size that does not fit the model.
    """
    _expect_config(config)
    model, facts = _declared(config)
    _check(model, facts)
    if text_of("from_hf: phase", phase, " or ".join(map(repr, PHASES))) not in PHASES:
        raise RopegenError(f"from_hf: unknown phase {phase!r}; {nearest(phase, PHASES)}")
    if dtype_name(dtype) not in FLOATS:
        raise RopegenError(
            f"from_hf: dtype is {dtype_name(dtype)}; weights and activations are one of {', '.join(FLOATS)}"
        )
    layers = model.count("num_hidden_layers")
    if not 0 <= whole("from_hf: layer", layer) < layers:
        raise RopegenError(f"from_hf: layer {layer} of a model of {layers}; give 0 to {layers - 1}")
    decode = phase == "decode"
    if decode and not facts.causal:
        raise RopegenError(
            f'from_hf: {model.model_type} is an encoder, which sees every key at once; use phase="prefill"'
        )
    seq = _sequence(model, facts, seq, decode)
    if decode or capacity is not None:
        capacity = _capacity(model, facts, capacity, seq)
    layer_type = _layer_type(model, facts, layer)
    window = _window(model, facts) if layer_type == "sliding_attention" else None
    if layer_type == "sliding_attention" and window is None:
        raise model.refuse(f"layer {layer} is sliding_attention and has no sliding_window", "state it")
    built = _FrontEnd(
        Builder(f"{model.model_type}-layer{layer}-{phase}"),
        model,
        facts,
        rope=rope_of(model, layer_type),
        window=window,
        batch=count("from_hf: batch", batch),
        seq=seq,
        dtype=dtype_name(dtype),
        decode=decode,
        capacity=seq if capacity is None else capacity,
        vocabulary=vocabulary,
    )
    return built.graph()


def from_case(case: Mapping[str, object]) -> Graph:
    """The graph of {"config": a config, "build": the arguments of `from_hf`}, or of a bare config.

    Raises:
      RopegenError: an unknown argument under "build", and whatever `from_hf` refuses.
    """
    if "config" not in mapping_of("from_case: case", case, '{"config": {...}, "build": {...}}'):
        return from_hf(case)
    for name in case:
        if name not in ("config", "build"):
            raise RopegenError(f"a case has no {name!r}; {nearest(name, ('config', 'build'))}")
    config, build = case["config"], case.get("build", {})
    if not isinstance(config, Mapping) or not isinstance(build, Mapping):
        raise RopegenError('a case is {"config": {...}, "build": {...}}; one of the two is not a mapping')
    known = ("batch", "seq", "dtype", "phase", "layer", "capacity", "vocabulary")
    arguments = cast("dict[str, Any]", dict(cast("Mapping[str, object]", build)))
    for name in arguments:
        if name not in known:
            raise RopegenError(
                f"a case's build has no {name!r}, from_hf takes no such argument; {nearest(name, known)}"
            )
    return from_hf(cast("Mapping[str, object]", config), **arguments)


# What the config says -------------------------------------------------------------------------------------------------


def _expect_config(given: object) -> None:
    read = 'json.loads(pathlib.Path("config.json").read_text())'
    other = ", or config.to_dict()" if hasattr(given, "to_dict") else ""
    config = mapping_of("from_hf: config", given, f"the mapping in a model's config.json: {read}{other}")
    if "config" in config and "model_type" not in config:
        raise RopegenError(
            'from_hf: config has a field "config" and no model_type, so it is a case; give it to '
            'ropegen.models.from_case, or give config["config"] and its "build" as arguments'
        )


def _declared(given: Mapping[str, object]) -> tuple[Config, FrontEnd]:
    """The config with its family, and the front-end that the family declares."""
    built = [name for name, family in FAMILIES.items() if isinstance(family.front_end, FrontEnd)]
    model_type = given.get("model_type")
    if not isinstance(model_type, str):
        raise RopegenError(f"the config's model_type is {model_type!r}; it must be one of {', '.join(built)}")
    if model_type not in FAMILIES:
        inner = given.get("text_config")
        way_out = "give its text_config alone" if isinstance(inner, Mapping) else nearest(model_type, built)
        raise RopegenError(f"unknown model_type {model_type!r}; {way_out}")
    family = FAMILIES[model_type]
    if isinstance(family.front_end, Declined):
        raise RopegenError(f"model_type {model_type!r} is not supported: {family.front_end.reason}")
    return Config(model_type, family, given), family.front_end


def _check(model: Config, facts: FrontEnd) -> None:
    """Refuse every field that would change the front-end in a way that is not supported."""
    for name, supported in facts.only.items():
        if model.given.get(name, supported) not in (supported, None):
            raise model.refuse(f"{name} {model.given[name]!r} is not supported", f"only {supported!r} is")
    for name in ("attn_implementation", "_attn_implementation"):
        chosen = model.given.get(name)
        if chosen is not None and chosen not in _IMPLEMENTATIONS:
            hint = nearest(str(chosen), _IMPLEMENTATIONS)
            raise model.refuse(f"{name} is {chosen!r}, which may mean another attention", f"leave it out, or {hint}")


def _layer_type(model: Config, facts: FrontEnd, layer: int) -> str:
    """`"sliding_attention"` or `"full_attention"`."""
    stated = model.optional("layer_types")
    if stated is None:
        local = facts.local is not None and _window(model, facts) is not None and facts.local(model, layer)
        return "sliding_attention" if local else "full_attention"
    if not isinstance(stated, list | tuple) or len(cast("list[object]", stated)) <= layer:
        raise model.refuse(f"layer_types is {stated!r}", f"it must be a list that reaches layer {layer}")
    kind = cast("list[object]", stated)[layer]
    known = LAYER_TYPES if facts.local is not None else ("full_attention",)
    if kind not in known:
        raise model.refuse(f"layer_types[{layer}] {kind!r} is not supported", nearest(str(kind), known))
    return str(kind)


def _window(model: Config, facts: FrontEnd) -> int | None:
    """The number of keys that a local layer sees, the query's own key included; None where the config has no window."""
    if facts.local_switch and not model.flag(facts.local_switch):
        return None
    return None if model.value("sliding_window") is None else model.count("sliding_window")


def _sequence(model: Config, facts: FrontEnd, seq: int | None, decode: bool) -> int:
    if facts.patches:
        (height, width), (down, across) = model.sides("image_size"), model.sides("patch_size")
        patches = (height // down) * (width // across)
        if seq is not None and seq != patches:
            raise RopegenError(f"from_hf: seq is {seq} and the image has {patches} patches; leave seq out")
        return patches
    longest = model.count("max_position_embeddings") if model.family.positions == "learned" else None
    if seq is None:
        return 1 if decode else min(2048, longest or 2048)
    seq = count("from_hf: seq", seq)
    if longest is not None and seq > longest:
        raise RopegenError(
            f"from_hf: seq is {seq} and {model.model_type} has {longest} learned positions; give at most those"
        )
    return seq


def _capacity(model: Config, facts: FrontEnd, capacity: int | None, seq: int) -> int:
    if not facts.causal:
        raise RopegenError(f"from_hf: {model.model_type} is an encoder and has no cache; leave capacity out")
    if capacity is None:
        if model.value("max_position_embeddings") is None:
            raise model.refuse("it does not say how long a sequence may be", "give capacity=, the rows of the cache")
        capacity = model.count("max_position_embeddings")
    capacity = count("from_hf: capacity", capacity)
    if seq > capacity:
        raise RopegenError(f"from_hf: {seq} tokens do not fit a cache of {capacity} rows; give more capacity")
    if model.family.positions == "learned" and capacity > (longest := model.count("max_position_embeddings")):
        raise RopegenError(
            f"from_hf: capacity is {capacity} and {model.model_type} has {longest} learned positions; give fewer rows"
        )
    return capacity


# From config to graph -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _FrontEnd:
    """One front-end, and the stages that build it.

    rope: how the layer rotates; None for a model that does not. window: how many keys a query sees; None for all.
    """

    b: Builder
    model: Config
    facts: FrontEnd
    rope: Rope | None
    window: int | None
    batch: int
    seq: int
    dtype: str
    decode: bool
    capacity: int
    vocabulary: int | None

    def graph(self) -> Graph:
        b, model, facts = self.b, self.model, self.facts
        features, heads = model.count("hidden_size"), model.count("num_attention_heads")
        shared = facts.grouped and model.value("num_key_value_heads") is not None
        kv_heads = model.count("num_key_value_heads") if shared else heads
        width = model.head_width()

        x = self._embedded(features)
        if facts.input_norm:
            x = self._norm(x, "input_norm")
        q = b.split_heads(self._project(x, "q", heads * width, facts.qkv_bias), heads, width)
        k = b.split_heads(self._project(x, "k", kv_heads * width, facts.qkv_bias), kv_heads, width)
        v = b.split_heads(self._project(x, "v", kv_heads * width, facts.qkv_bias), kv_heads, width)
        if facts.qk_norm:
            q, k = self._norm(q, "q_norm"), self._norm(k, "k_norm")
        if self.rope is not None:
            length = self.capacity if self.rope.scaling.needs_length else None
            q, k = (b.rope(projected, self._positions(), self.rope, length=length) for projected in (q, k))
        caches: dict[str, Node] = {}
        if self.decode:
            k, v = caches["k_cache"], caches["v_cache"] = self._cached(k, v)
        out = b.merge_heads(self._attended(q, k, v))
        return b.build(out=self._project(out, "o", features, facts.out_bias), **caches)

    def _positions(self) -> Node:
        return self._tokens("positions") if self.decode else self.b.positions(self.seq)

    def _tokens(self, label: str) -> Node:
        return self.b.input(label, (self.batch, self.seq), "i32")

    def _embedded(self, features: int) -> Node:
        b, model, facts = self.b, self.model, self.facts
        x = self._patches(features) if facts.patches else self._words(features)
        if facts.embedding_scale == "exact":
            x = b.scale(x, math.sqrt(features))
        elif facts.embedding_scale == "rounded":
            x = b.scale(x, float(np.float32(math.sqrt(features)).astype(numpy_dtype(self.dtype))))
        if facts.token_types:
            kinds = self._parameter("token_type_embedding", model.count("type_vocab_size"), features)
            x = b.add(x, b.embed(self._tokens("token_type_ids"), kinds))
        if self.model.family.positions == "learned":
            rows = self.seq if facts.patches else model.count("max_position_embeddings")
            x = b.add(x, b.embed(self._positions(), self._parameter("position_embedding", rows, features)))
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

    def _patches(self, features: int) -> Node:
        if self.vocabulary is not None:
            raise RopegenError(f"from_hf: {self.model.model_type} reads images and has no vocabulary; leave it out")
        (height, width), (down, across) = self.model.sides("image_size"), self.model.sides("patch_size")
        image = self.b.input("image", (self.batch, height, width, self.model.count("num_channels")), self.dtype)
        return self._project(self.b.patchify(image, down, across), "patch", features, True)

    def _cached(self, k: Node, v: Node) -> tuple[Node, Node]:
        shape = (self.batch, self.capacity, *k.type.shape[-2:])
        lengths = self.b.input("lengths", (self.batch,), "i32")
        caches = [self.b.state(label, shape, self.dtype) for label in ("k_cache", "v_cache")]
        return self.b.append_cache(caches[0], k, lengths), self.b.append_cache(caches[1], v, lengths)

    def _attended(self, q: Node, k: Node, v: Node) -> Node:
        model, facts = self.model, self.facts
        mask = masks.causal if facts.causal else masks.full
        if self.window is not None:
            mask = mask & masks.window(self.window)
        alibi = model.family.positions == "alibi"
        scale, softcap = model.positive(facts.scale), model.positive(facts.softcap)
        return self.b.attend(
            q,
            k,
            v,
            mask=mask,
            score=masks.alibi(masks.alibi_slopes(q.type.shape[-2])) if alibi else masks.identity,
            scale=None if scale is None else 1.0 / math.sqrt(scale),
            softcap=softcap,
            q_positions=self._positions() if facts.causal else None,
            kv_positions=self.b.positions(k.type.shape[-3]) if facts.causal else None,
            sinks=self._parameter("sinks", q.type.shape[-2]) if facts.sinks else None,
        )

    def _parameter(self, label: str, *shape: int) -> Node:
        return self.b.parameter(label, shape, self.dtype)

    def _project(self, x: Node, label: str, features: int, bias: bool | str) -> Node:
        weight = self._parameter(f"{label}_weight", x.type.shape[-1], features)
        return self.b.project(x, weight, self._parameter(f"{label}_bias", features) if self.model.flag(bias) else None)

    def _norm(self, x: Node, label: str) -> Node:
        facts, features = self.facts, x.type.shape[-1]
        return self.b.norm(
            x,
            self._parameter(label, features),
            self._parameter(f"{label}_bias", features) if facts.norm == "layer" else None,
            kind=facts.norm,
            epsilon=self.model.number(facts.epsilon),
            weight_offset=facts.weight_offset,
        )
