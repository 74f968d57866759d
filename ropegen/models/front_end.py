"""From a Hugging Face config to the graph of a model's attention front-end.

    graph = from_hf("checkpoint/config.json", seq=2048, layer=0)

`layer_graph` builds the graph; this file reads what the caller asks for and holds it against the config.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

from ropegen.arguments import flag_of, mapping_of, text_of
from ropegen.errors import RopegenError, nearest
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.models.config import Config, count
from ropegen.models.family import LAYER_TYPES, Declined, FrontEnd
from ropegen.models.fields import check_fields
from ropegen.models.latent_graph import LatentGraph
from ropegen.models.layer_graph import LayerGraph, learned_positions, register_tokens
from ropegen.models.reading import config_of
from ropegen.models.rope_parameters import rope_of
from ropegen.scaling import whole
from ropegen.types import FLOATS, dtype_name

PHASES = ("prefill", "decode")
STARTS = ("ids", "hidden")
INPUTS = ("lengths", "padding", "positions", "rope_positions", "segments")

_IMPLEMENTATIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")


def from_hf(
    config: object,
    *,
    batch: int = 1,
    seq: int | None = None,
    dtype: str = "bf16",
    phase: str = "prefill",
    layer: int = 0,
    start: str = "ids",
    residual: bool = False,
    inputs: Iterable[str] = (),
    capacity: int | None = None,
    vocabulary: int | None = None,
) -> Graph:
    """The attention front-end of one layer of the model that a config describes.

    Args:
      config: the fields of a config.json, as a mapping; the path of the file or of its folder; or an object with
        `to_dict`, such as `model.config`. `FAMILIES` lists the model types. Where `text_config` holds the text model, that
        is read.
      batch: B, the number of sequences.
      seq: S, the tokens of one call; in `decode`, the new tokens. The default is 1 in `decode`, otherwise 2048 or as
        many as the model has learned positions for, if those are fewer. For an image it is the number of patches and of
        the tokens before them, such as the class token.
      dtype: the element type of weights and activations.
      phase: "prefill" starts at position 0; "decode" continues from a cache.
      layer: which layer, from 0. It decides between local and full attention in models that alternate them.
      start: "ids" begins with the embedding, as only the first layer of a model does. "hidden" begins with what the layer
        before has computed.
      residual: also return `residual` (B, S, features), the value to which the layer adds its result.
      inputs: what else a call of `prefill` tells about its tokens. "lengths": the tokens of each sequence, which padding
        follows. "padding": where tokens are, and where padding is. "segments": which tokens belong together. "positions":
        where tokens stand, instead of 0 to S - 1. "rope_positions", in `decode` too: where they stand along the three axes
        of M-RoPE, which differ where an image is among them. They rotate, and `positions` alone say which keys are seen.
      capacity: C, the rows of the cache; the default in `decode` is the model's longest sequence. With it, `prefill`
        writes its keys and values into the first S rows of a cache. The frequencies of dynamic and LongRoPE scaling
        follow the longest sequence of a call. That is C where there is a cache, and S elsewhere, in both phases. Such
        a model has no default for C.
      vocabulary: fewer rows of the embedding table than the model has, to try the model in less memory.

    Returns:
      A graph with the output `out` (B, S, features), after the output projection. Inputs: `ids` (B, S) int32, or
      `image` (B, height, width, channels) of `dtype`, or `hidden` (B, S, features) of `dtype`; `token_type_ids` (B, S)
      int32 for BERT. In `decode` also `positions` (B, S) int32 and `lengths` (B,) int32, the rows of the cache that are
      written. With a cache, the states `k_cache`, `v_cache` (B, C, key heads, width of a head), which are outputs as
      well. DeepSeek's latent attention has one instead, `latent_cache` (B, C, 1, kv_lora_rank + qk_rope_head_dim). Row i
      of a cache holds position i, so the first position of a sequence is its length; a call is refused if it knows that
      they differ. What `inputs` names: `lengths` (B,) int32; `padding` (B, S) int32, 1 for a token and 0 for padding;
      `segments` (B, S) int32, where a token sees only its own segment; `positions` (B, S) int32; `rope_positions`
      (3, B, S) int32. The weights are the inputs whose role is "parameter"; `LayerGraph` and `LatentGraph` describe them.

    Raises:
      RopegenError: an unknown model type, a field that is missing, unknown, or that changes the front-end in a way that
        is not supported, or a size that does not fit the model.
    """
    model, facts = supported("from_hf", config)
    return front_end_graph(
        model,
        facts,
        batch=batch,
        seq=seq,
        dtype=dtype,
        phase=phase,
        layer=layer,
        start=start,
        residual=residual,
        inputs=inputs,
        capacity=capacity,
        vocabulary=vocabulary,
    )


def front_end_graph(
    model: Config,
    facts: FrontEnd,
    *,
    batch: int,
    seq: int | None,
    dtype: str,
    phase: str,
    layer: int,
    start: str,
    residual: bool,
    inputs: Iterable[str] = (),
    capacity: int | None = None,
    vocabulary: int | None = None,
) -> Graph:
    """`from_hf` for a config that `supported` has read and checked."""
    for name, given, words in (("phase", phase, PHASES), ("start", start, STARTS)):
        if text_of(f"from_hf: {name}", given, " or ".join(map(repr, words))) not in words:
            raise RopegenError(f"from_hf: unknown {name} {given!r}; {nearest(given, words)}")
    if dtype_name(dtype) not in FLOATS:
        raise RopegenError(
            f"from_hf: dtype is {dtype_name(dtype)}; weights and activations are one of {', '.join(FLOATS)}"
        )
    layers = model.count("num_hidden_layers")
    if not 0 <= whole("from_hf: layer", layer) < layers:
        raise RopegenError(f"from_hf: layer {layer} of a model of {layers}; give 0 to {layers - 1}")
    decode, causal = phase == "decode", sees_the_past(model, facts)
    if decode and not causal:
        raise RopegenError(
            f'from_hf: {model.model_type} is an encoder, which sees every key at once; use phase="prefill"'
        )
    layer_type = layer_type_of(model, facts, layer)
    unrotated = facts.unrotated is not None and facts.unrotated(model, layer_type, layer)
    rope = None if unrotated else rope_of(model, layer_type)
    by_length = rope is not None and rope.scaling.needs_length
    told = _inputs(inputs, decode, capacity, by_length)
    if "rope_positions" in told and (rope is None or not rope.sections):
        raise model.refuse("its code rotates by one axis of positions", "leave rope_positions out of inputs")
    if rope is not None and "rope_positions" not in told:  # the axes of M-RoPE are one for a prompt without an image
        rope = replace(rope, sections=(), interleaved_sections=False)
    seq = _sequence(model, facts, seq, decode, start)
    if decode or capacity is not None:
        if capacity is None and by_length:
            raise model.refuse(
                "its frequencies follow the longest sequence", "give capacity=, the same in prefill and decode"
            )
        capacity = _capacity(model, causal, capacity, seq)
    window = _window(model, facts) if layer_type == "sliding_attention" else None
    if layer_type == "sliding_attention" and window is None:
        raise model.refuse(f"layer {layer} is sliding_attention and has no sliding_window", "state it")
    if start == "hidden" and vocabulary is not None:
        raise RopegenError('from_hf: a graph that starts at "hidden" has no vocabulary; leave it out')
    built = (LatentGraph if facts.latent else LayerGraph)(
        Builder(f"{model.model_type}-layer{layer}-{phase}"),
        model,
        facts,
        rope=rope,
        window=window,
        causal=causal,
        batch=count("from_hf: batch", batch),
        seq=seq,
        dtype=dtype_name(dtype),
        decode=decode,
        capacity=capacity,
        vocabulary=vocabulary,
        hidden=start == "hidden",
        residual=flag_of("from_hf: residual", residual),
        told=told,
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
    known = (
        "batch", "seq", "dtype", "phase", "layer", "start", "residual", "inputs", "capacity", "vocabulary"
    )  # fmt: skip
    arguments = cast("dict[str, Any]", dict(cast("Mapping[str, object]", build)))
    for name in arguments:
        if name not in known:
            raise RopegenError(
                f"a case's build has no {name!r}, from_hf takes no such argument; {nearest(name, known)}"
            )
    return from_hf(cast("Mapping[str, object]", config), **arguments)


# What the config says -------------------------------------------------------------------------------------------------


def supported(call: str, given: object) -> tuple[Config, FrontEnd]:
    """The config with its family, and the front-end that the family declares, with every field checked.

    Raises:
      RopegenError: `given` is no config, ropegen builds nothing for its model type, or a field is unknown or changes the
        front-end in a way that is not supported.
    """
    model = config_of(call, given)
    facts = model.family.front_end
    if isinstance(facts, Declined):
        raise RopegenError(f"model_type {model.model_type!r} is not supported: {facts.reason}")
    check_fields(model)
    for name, only in facts.only.items():
        if model.given.get(name, only) not in (only, None):
            raise model.refuse(f"{name} {model.given[name]!r} is not supported", f"only {only!r} is")
    for name in ("attn_implementation", "_attn_implementation"):
        chosen = model.given.get(name)
        if chosen is not None and chosen not in _IMPLEMENTATIONS:
            hint = nearest(str(chosen), _IMPLEMENTATIONS)
            raise model.refuse(f"{name} is {chosen!r}, which may mean another attention", f"leave it out, or {hint}")
    return model, facts


def sees_the_past(model: Config, facts: FrontEnd) -> bool:
    """Whether a query sees no key after its own position. `is_causal: false` shows it all of them."""
    if not facts.causal or not facts.follows_is_causal or model.given.get("is_causal") is None:
        return facts.causal
    if not isinstance(model.given["is_causal"], bool):
        raise model.refuse(f"is_causal is {model.given['is_causal']!r}", "it must be true or false")
    return model.given["is_causal"]


def layer_type_of(model: Config, facts: FrontEnd, layer: int) -> str:
    """`"sliding_attention"` or `"full_attention"`."""
    stated = model.optional("layer_types") if facts.layer_types else None
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


def _inputs(given: Iterable[str], decode: bool, capacity: int | None, by_length: bool) -> frozenset[str]:
    """What a call tells about its tokens, checked."""
    words = (given,) if isinstance(given, str) else tuple(given)
    for word in words:
        if word not in INPUTS:
            raise RopegenError(f"from_hf: unknown input {word!r}; {nearest(str(word), INPUTS)}")
    told = frozenset(words)
    if told - {"rope_positions"} and decode:
        raise RopegenError(
            "from_hf: a decode step always reads positions and lengths; leave inputs out, or give rope_positions alone"
        )
    if len(told & {"lengths", "padding", "segments"}) > 1:
        raise RopegenError(
            f"from_hf: inputs are {', '.join(sorted(told))}; give one of lengths, padding and segments. Padding can be a "
            "segment of its own"
        )
    moved = told & {"padding", "positions", "segments"}
    if moved and capacity is not None:
        raise RopegenError(
            f"from_hf: row i of a cache holds position i, and {', '.join(sorted(moved))} may say otherwise; pad at the end "
            'and give inputs=("lengths",), or leave capacity out'
        )
    if "positions" in told and by_length:
        raise RopegenError(
            "from_hf: the frequencies of this model follow the longest sequence, which positions do not tell before the "
            "call; leave positions out of inputs"
        )
    return told


def _sequence(model: Config, facts: FrontEnd, seq: int | None, decode: bool, start: str) -> int:
    if facts.patches:
        (height, width), (down, across) = model.sides("image_size"), model.sides("patch_size")
        patches = (height // down) * (width // across)
        tokens = patches + len(facts.first_tokens) + register_tokens(model, facts)
        if seq is not None and seq != tokens and start == "ids":
            more = f" with {tokens - patches} tokens before them" if tokens > patches else ""
            raise RopegenError(f"from_hf: seq is {seq} and the image has {patches} patches{more}; leave seq out")
        return tokens if seq is None else count("from_hf: seq", seq)
    longest = learned_positions(model, facts) if model.family.positions == "learned" else None
    if seq is None:
        return 1 if decode else min(2048, longest or 2048)
    seq = count("from_hf: seq", seq)
    if longest is not None and seq > longest:
        raise RopegenError(
            f"from_hf: seq is {seq} and {model.model_type} has {longest} learned positions; give at most those"
        )
    return seq


def _capacity(model: Config, causal: bool, capacity: int | None, seq: int) -> int:
    if not causal:
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


def layer_count(config: object) -> int:
    """The number of layers of the model that a config describes.

    Raises:
      RopegenError: what `from_hf` refuses of a config.
    """
    return supported("from_hf", config)[0].count("num_hidden_layers")
