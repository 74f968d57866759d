"""A model's attention front-end from its Hugging Face config: what each family of models is, as one table.

    graph = from_hf(json.loads(Path("config.json").read_text()), seq=2048, layer=0)

The facts come from the config and modelling files of transformers 4 and 5. A checkpoint's tensors go in as follows.

- A weight is (features in, features out): the transpose of a torch `Linear`; GPT-2's `Conv1D` has it as it is.
- Fused checkpoints are described with separate `q_weight k_weight v_weight`. `query_key_value` of GPT-NeoX and BLOOM
  holds (heads, 3, width of a head) along its outputs; GPT-2's `c_attn` and Phi-3's `qkv_proj` hold all of q, then k, v.
- An image is (batch, height, width, channels). `patch_weight` is (patch height * patch width * channels, features): a
  `Conv2d` weight (features, channels, height, width) with its axes permuted to (height, width, channels, features).
- ViT's class token is left out: patches alone attend, and `position_embedding` has their rows only, from 1 on.
- The bias of ALiBi is -slope * |query - key| in float32. BLOOM adds slope * key, which differs by a constant in each
  row under its causal mask, and rounds it to the element type first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import numpy as np

from ropegen import masks
from ropegen.errors import RopegenError, nearest
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph, Node
from ropegen.rotary import Rope
from ropegen.scaling import finite, whole
from ropegen.types import FLOATS, dtype_name, numpy_dtype

PHASES = ("prefill", "decode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What the modelling code of a family fixes, and the config fields that say the rest. Sizes are not here."""

    positions: Literal["rotary", "learned", "alibi", "sinusoid"]
    patches: bool = False
    """True where the input is an image cut into patches, False where it is ids."""
    token_types: bool = False
    embedding_scale: Literal["none", "exact", "rounded"] = "none"
    """By sqrt(features): as it is, or rounded to float32 and then to the element type, as Gemma's code does."""
    embedding_norm: bool = False
    input_norm: bool = True
    norm: Literal["rms", "layer"] = "rms"
    epsilon: str = ""
    """The field that holds the epsilon of every norm."""
    weight_offset: float = 0.0
    qkv_bias: bool | str = False
    """True, False, or the field that says which."""
    out_bias: bool | str = False
    qk_norm: bool = False
    grouped: bool = True
    """True where `num_key_value_heads` may be below the number of query heads."""
    causal: bool = True
    local: Callable[[Config, int], bool] | None = None
    """Which layers see a window of `sliding_window` keys, where `layer_types` does not say; None for no layer."""
    local_switch: str = ""
    """The field that turns windows off."""
    scale: str = ""
    """The field whose inverse square root is the scale; the width of a head where there is none."""
    softcap: str = ""
    sinks: bool = False
    spellings: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])
    """Other names that this family's configs have for a field."""
    defaults: Mapping[str, object] = field(default_factory=dict[str, object])
    """What the config class fills in where a published config leaves a field out."""
    only: Mapping[str, object] = field(default_factory=dict[str, object])
    """Fields that change the front-end in a way not supported, with the one value that is."""
    rotary_fields: tuple[str, ...] = ()
    """The fields named rope_* or rotary_* that the family's code reads; any other is refused."""
    repeats: Mapping[str, str] = field(default_factory=dict[str, str])
    """Fields that saved configs carry as copies of another one: they must agree with it."""


@dataclass(frozen=True, slots=True)
class Config:
    """A config with the family that it belongs to: every field is read, and refused, here."""

    model_type: str
    family: Family
    given: Mapping[str, object]

    def value(self, name: str) -> object:
        """The field, under any of its names, else the family's default.

        Raises:
          RopegenError: the field is missing and has no default, or two of its names disagree.
        """
        known = [each for each in (name, *self.family.spellings.get(name, ())) if each in self.given]
        values = [self.given[each] for each in known]
        if any(each != values[0] for each in values):
            raise self.refuse(f"{' and '.join(known)} are one field and differ: {values}", "keep one of them")
        if known:
            return values[0]
        if name in self.family.defaults:
            return self.family.defaults[name]
        names = " or ".join((*self.family.spellings.get(name, ()), name))
        raise self.refuse(f"{names} is missing", "take it from the published config")

    def count(self, name: str) -> int:
        """The field as a whole number of at least 1."""
        return _count(self.where(name), self.value(name))

    def number(self, name: str) -> float:
        """The field as a finite number."""
        return finite(self.where(name), self.value(name))

    def positive(self, name: str) -> float | None:
        """The field as a positive number; None where it is null, or where the family names no field."""
        if not name or self.value(name) is None:
            return None
        if (number := self.number(name)) <= 0:
            raise self.refuse(f"{name} is {number:g}", "it must be positive")
        return number

    def flag(self, name: bool | str) -> bool:
        """The field as true or false; a fact that the family fixes is given as it is."""
        value = self.value(name) if isinstance(name, str) else name
        if not isinstance(value, bool):
            raise self.refuse(f"{name} is {value!r}", "it must be true or false")
        return value

    def sides(self, name: str) -> tuple[int, int]:
        """The field as height and width: one number for both, or two."""
        value = self.value(name)
        pair = cast("list[object]", value) if isinstance(value, list | tuple) else [value, value]
        if len(pair) != 2:
            raise self.refuse(f"{name} is {value!r}", "give one number, or height and width")
        return _count(self.where(name), pair[0]), _count(self.where(name), pair[1])

    def where(self, name: str) -> str:
        """How a message names a field."""
        return f"{self.model_type} config: {name}"

    def refuse(self, problem: str, way_out: str) -> RopegenError:
        """The error for a field that does not do."""
        return RopegenError(f"{self.model_type} config: {problem}; {way_out}")

    def check(self) -> None:
        """Refuse every field that would change the front-end and is not understood."""
        family = self.family
        for name, supported in family.only.items():
            if self.given.get(name, supported) not in (supported, None):
                raise self.refuse(f"{name} {self.given[name]!r} is not supported", f"only {supported!r} is")
        for name in ("attn_implementation", "_attn_implementation"):
            chosen = self.given.get(name)
            if chosen is not None and chosen not in _IMPLEMENTATIONS:
                hint = nearest(str(chosen), _IMPLEMENTATIONS)
                raise self.refuse(f"{name} is {chosen!r}, which may mean another attention", f"leave it out, or {hint}")
        known = {*family.rotary_fields, *family.repeats}
        for name, value in self.given.items():
            if name.startswith(("rope_", "rotary_")) and value is not None and name not in known:
                raise self.refuse(f"the field {name!r} is not one that {self.model_type} reads", nearest(name, known))
        for name, original in family.repeats.items():
            if name in self.given and self.given[name] != self.given.get(original):
                raise self.refuse(
                    f"{name} is {self.given[name]!r} and {original} is {self.given.get(original)!r}",
                    f"the model reads {original}: state it, and give {name} the same value or leave it out",
                )

    def layer_type(self, layer: int) -> str:
        """`"sliding_attention"` or `"full_attention"`."""
        stated = self.given.get("layer_types")
        if stated is None:
            local = self.family.local
            return _LAYER_TYPES[local is not None and self.window() is not None and local(self, layer)]
        if not isinstance(stated, list | tuple) or len(cast("list[object]", stated)) <= layer:
            raise self.refuse(f"layer_types is {stated!r}", f"it must be a list that reaches layer {layer}")
        kind = cast("list[object]", stated)[layer]
        known = _LAYER_TYPES[: 1 + (self.family.local is not None)]
        if kind not in known:
            raise self.refuse(f"layer_types[{layer}] {kind!r} is not supported", nearest(str(kind), known))
        return str(kind)

    def window(self) -> int | None:
        """The number of keys that a local layer sees, the query's own among them."""
        if self.family.local_switch and not self.flag(self.family.local_switch):
            return None
        return None if self.value("sliding_window") is None else self.count("sliding_window")


def _count(where: str, value: object, least: int = 1) -> int:
    number = whole(where, value)
    if number < least:
        raise RopegenError(f"{where} must be at least {least}, got {number}")
    return number


# Which layers are local ---------------------------------------------------------------------------------------------


def _every(config: Config, layer: int) -> bool:
    return True


def _even(config: Config, layer: int) -> bool:
    return layer % 2 == 0


def _past_full(config: Config, layer: int) -> bool:
    return layer >= _count(config.where("max_window_layers"), config.value("max_window_layers"), least=0)


def _between_full(config: Config, layer: int) -> bool:
    return (layer + 1) % config.count("sliding_window_pattern") != 0


# The families -------------------------------------------------------------------------------------------------------

_LAYER_TYPES = ("full_attention", "sliding_attention")
_IMPLEMENTATIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention")
_ROPE = ("rope_theta", "rope_scaling", "rope_parameters")
_GPT_SPELLINGS = {
    "hidden_size": ("n_embd",),
    "num_attention_heads": ("n_head",),
    "num_hidden_layers": ("n_layer",),
    "max_position_embeddings": ("n_positions",),
}

_LLAMA = Family(
    positions="rotary",
    rotary_fields=_ROPE,
    epsilon="rms_norm_eps",
    qkv_bias="attention_bias",
    out_bias="attention_bias",
    defaults={"attention_bias": False, "head_dim": None, "num_key_value_heads": None},
)
_MISTRAL = replace(
    _LLAMA,
    qkv_bias=False,
    out_bias=False,
    local=_every,
    defaults={"head_dim": None, "sliding_window": 4096},
)
_QWEN2 = replace(
    _LLAMA,
    qkv_bias=True,
    out_bias=False,
    local=_past_full,
    local_switch="use_sliding_window",
    defaults={"head_dim": None, "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28},
)
_GEMMA = replace(
    _LLAMA,
    embedding_scale="rounded",
    weight_offset=1.0,
    defaults={"attention_bias": False, "head_dim": 256},
    only={"use_bidirectional_attention": False},
)
_GEMMA2 = replace(
    _GEMMA,
    local=_even,
    scale="query_pre_attn_scalar",
    softcap="attn_logit_softcapping",
    defaults={
        **_GEMMA.defaults,
        "query_pre_attn_scalar": 256,
        "attn_logit_softcapping": 50.0,
        "sliding_window": 4096,
    },
)
_GPT_NEOX = Family(
    positions="rotary",
    rotary_fields=("rotary_pct", "rotary_emb_base", "rope_scaling", "rope_parameters"),
    repeats={"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"},
    norm="layer",
    epsilon="layer_norm_eps",
    grouped=False,
    qkv_bias="attention_bias",
    out_bias="attention_bias",
    defaults={"attention_bias": True, "head_dim": None},
)
_GPT2 = Family(
    positions="learned",
    norm="layer",
    epsilon="layer_norm_epsilon",
    grouped=False,
    qkv_bias=True,
    out_bias=True,
    spellings=_GPT_SPELLINGS,
    defaults={"head_dim": None},
    only={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
)

FAMILIES: Mapping[str, Family] = {
    "llama": _LLAMA,
    "mistral": _MISTRAL,
    "qwen2": _QWEN2,
    "qwen3": replace(
        _QWEN2,
        qkv_bias="attention_bias",
        out_bias="attention_bias",
        qk_norm=True,
        defaults={**_QWEN2.defaults, "attention_bias": False, "head_dim": 128},
    ),
    "phi3": replace(_MISTRAL, defaults={"head_dim": None, "num_key_value_heads": None, "sliding_window": None}),
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    # Published Gemma 3 configs say only what differs from the config class, so the whole class is here.
    "gemma3_text": replace(
        _GEMMA2,
        rotary_fields=(*_ROPE, "rope_local_base_freq"),
        qk_norm=True,
        local=_between_full,
        spellings={"sliding_window_pattern": ("_sliding_window_pattern",)},
        defaults={
            **_GEMMA2.defaults,
            "vocab_size": 262_208,
            "hidden_size": 2304,
            "num_hidden_layers": 26,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "max_position_embeddings": 131_072,
            "rms_norm_eps": 1e-6,
            "attn_logit_softcapping": None,
            "sliding_window_pattern": 6,
        },
    ),
    "gpt_oss": replace(
        _LLAMA,
        local=_even,
        sinks=True,
        defaults={"attention_bias": True, "head_dim": 64, "sliding_window": 128},
    ),
    "gpt_neox": _GPT_NEOX,
    "gptj": replace(
        _GPT2,
        positions="rotary",
        rotary_fields=("rotary_dim",),
        qkv_bias=False,
        out_bias=False,
        only={"rotary": True, "scale_attn_weights": True},
    ),
    "gpt2": _GPT2,
    "bloom": replace(
        _GPT2,
        positions="alibi",
        embedding_norm=True,
        spellings={
            "hidden_size": ("n_embed",),
            "num_attention_heads": ("n_head",),
            "num_hidden_layers": ("n_layer",),
            "max_position_embeddings": ("seq_length",),
        },
        defaults={"head_dim": None, "max_position_embeddings": None},
        only={},
    ),
    "bert": replace(
        _GPT2,
        epsilon="layer_norm_eps",
        token_types=True,
        embedding_norm=True,
        input_norm=False,
        causal=False,
        spellings={},
        only={"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False},
    ),
    "vit": replace(
        _GPT2,
        patches=True,
        epsilon="layer_norm_eps",
        causal=False,
        qkv_bias="qkv_bias",
        spellings={},
        defaults={"head_dim": None, "qkv_bias": True, "num_channels": 3},
        only={},
    ),
    # The encoder of Vaswani et al. 2017 (arXiv:1706.03762); the word and its fields are ropegen's own.
    "transformer": Family(
        positions="sinusoid",
        embedding_scale="exact",
        input_norm=False,
        grouped=False,
        causal=False,
        spellings={
            "hidden_size": ("d_model",),
            "num_attention_heads": ("num_heads",),
            "num_hidden_layers": ("num_layers",),
        },
        defaults={"head_dim": None},
    ),
}

_LATENT = "its latent attention (MLA) has no keys and values of whole heads to project"
_THREE_AXES = "its positions have three axes, and the front-end counts along one"
_DECLINED: Mapping[str, str] = {
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "kimi_k2"), _LATENT),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl"), _THREE_AXES),
    **dict.fromkeys(("t5", "mt5"), "its bias by relative position is learned, and the front-end has no such table"),
}


# From config to graph -----------------------------------------------------------------------------------------------


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
      config: `model_type` and the fields of that type; see `FAMILIES` for the types.
      batch: B, the number of sequences.
      seq: S, the tokens of one call, in `decode` the new ones: 2048 (or as many as the model has learned positions
        for) and 1 when left out. For an image it is the number of patches.
      dtype: the element type of weights and activations.
      phase: "prefill" starts at position 0; "decode" continues from a cache.
      layer: which layer, from 0; it decides between local and full attention where kinds alternate. What it reads is
        the embedding, whichever layer it is.
      capacity: C, the rows of the cache, in `decode`; the model's longest sequence when left out. Frequencies that
        depend on the length (dynamic, LongRoPE) are picked by it in both phases, so give both the same; without it
        `prefill` picks by `seq`.
      vocabulary: fewer rows of the embedding table than the model has, to try it in less memory.

    Returns:
      A graph with the output `out` (B, S, features), after the output projection. Inputs: `ids` (B, S) int32, or
      `image` (B, height, width, channels) of `dtype`; `token_type_ids` (B, S) int32 for BERT. In `decode` also
      `positions` (B, S) int32, `lengths` (B,) int32 (rows of the cache that are written, so usually the first
      position) and the states `k_cache`, `v_cache` (B, C, key heads, width of a head), which are outputs as well. Row i
      of a cache holds position i. The weights are the inputs whose role is "parameter"; see the module for their order.

    Raises:
      RopegenError: an unknown model type, a field that is missing or that changes the front-end in a way not
        supported, or a size that does not fit the model.
    """
    model = _config(config)
    model.check()
    if phase not in PHASES:
        raise RopegenError(f"from_hf: unknown phase {phase!r}; {nearest(phase, PHASES)}")
    if dtype_name(dtype) not in FLOATS:
        raise RopegenError(
            f"from_hf: dtype is {dtype_name(dtype)}; weights and activations are one of {', '.join(FLOATS)}"
        )
    layers = model.count("num_hidden_layers")
    if not 0 <= whole("from_hf: layer", layer) < layers:
        raise RopegenError(f"from_hf: layer {layer} of a model of {layers}; give 0 to {layers - 1}")
    decode = phase == "decode"
    if decode and not model.family.causal:
        raise RopegenError(
            f'from_hf: {model.model_type} is an encoder, which sees every key at once; use phase="prefill"'
        )
    seq = _sequence(model, seq, decode)
    if decode or capacity is not None:
        capacity = _capacity(model, capacity, seq)
    front = _FrontEnd(
        Builder(f"{model.model_type}-layer{layer}-{phase}"),
        model,
        batch=_count("from_hf: batch", batch),
        seq=seq,
        dtype=dtype_name(dtype),
        layer=layer,
        decode=decode,
        capacity=seq if capacity is None else capacity,
        vocabulary=vocabulary,
    )
    return front.graph()


def from_case(case: Mapping[str, object]) -> Graph:
    """The graph of {"config": a config, "build": the arguments of `from_hf`}, or of a bare config.

    Raises:
      RopegenError: an unknown argument under "build", and whatever `from_hf` refuses.
    """
    if "config" not in case:
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


def _config(given: Mapping[str, object]) -> Config:
    model_type = given.get("model_type")
    if not isinstance(model_type, str):
        raise RopegenError(
            f"the config's model_type is {model_type!r}; it must be one of {', '.join(sorted(FAMILIES))}"
        )
    if model_type in _DECLINED:
        raise RopegenError(f"model_type {model_type!r} is not supported: {_DECLINED[model_type]}")
    if model_type not in FAMILIES:
        inner = given.get("text_config")
        way_out = "give its text_config alone" if isinstance(inner, Mapping) else nearest(model_type, FAMILIES)
        raise RopegenError(f"unknown model_type {model_type!r}; {way_out}")
    return Config(model_type, FAMILIES[model_type], given)


def _sequence(model: Config, seq: int | None, decode: bool) -> int:
    family = model.family
    if family.patches:
        (height, width), (down, across) = model.sides("image_size"), model.sides("patch_size")
        patches = (height // down) * (width // across)
        if seq is not None and seq != patches:
            raise RopegenError(f"from_hf: seq is {seq} and the image has {patches} patches; leave seq out")
        return patches
    longest = model.count("max_position_embeddings") if family.positions == "learned" else None
    if seq is None:
        return 1 if decode else min(2048, longest or 2048)
    seq = _count("from_hf: seq", seq)
    if longest is not None and seq > longest:
        raise RopegenError(
            f"from_hf: seq is {seq} and {model.model_type} has {longest} learned positions; give at most those"
        )
    return seq


def _capacity(model: Config, capacity: int | None, seq: int) -> int:
    if not model.family.causal:
        raise RopegenError(f"from_hf: {model.model_type} is an encoder and has no cache; leave capacity out")
    if capacity is None:
        if model.value("max_position_embeddings") is None:
            raise model.refuse("it does not say how long a sequence may be", "give capacity=, the rows of the cache")
        capacity = model.count("max_position_embeddings")
    capacity = _count("from_hf: capacity", capacity)
    if seq > capacity:
        raise RopegenError(f"from_hf: {seq} tokens do not fit a cache of {capacity} rows; give more capacity")
    if model.family.positions == "learned" and capacity > (longest := model.count("max_position_embeddings")):
        raise RopegenError(
            f"from_hf: capacity is {capacity} and {model.model_type} has {longest} learned positions; give fewer rows"
        )
    return capacity


@dataclass(frozen=True, slots=True)
class _FrontEnd:
    """One front-end as it is built, stage by stage."""

    b: Builder
    model: Config
    batch: int
    seq: int
    dtype: str
    layer: int
    decode: bool
    capacity: int
    vocabulary: int | None

    def graph(self) -> Graph:
        b, model, family = self.b, self.model, self.model.family
        features, heads = model.count("hidden_size"), model.count("num_attention_heads")
        shared = family.grouped and model.value("num_key_value_heads") is not None
        kv_heads = model.count("num_key_value_heads") if shared else heads
        width = self._head_width(features, heads)

        x = self._embedded(features)
        if family.input_norm:
            x = self._norm(x, "input_norm")
        q = b.split_heads(self._project(x, "q", heads * width, family.qkv_bias), heads, width)
        k = b.split_heads(self._project(x, "k", kv_heads * width, family.qkv_bias), kv_heads, width)
        v = b.split_heads(self._project(x, "v", kv_heads * width, family.qkv_bias), kv_heads, width)
        if family.qk_norm:
            q, k = self._norm(q, "q_norm"), self._norm(k, "k_norm")
        if family.positions == "rotary":
            rope = Rope.from_hf(model.given, model.layer_type(self.layer))
            length = self.capacity if rope.scaling.needs_length else None
            q, k = (b.rope(each, self._positions(), rope, length=length) for each in (q, k))
        caches: dict[str, Node] = {}
        if self.decode:
            k, v = caches["k_cache"], caches["v_cache"] = self._cached(k, v)
        out = b.merge_heads(self._attended(q, k, v))
        return b.build(out=self._project(out, "o", features, family.out_bias), **caches)

    def _positions(self) -> Node:
        return self._tokens("positions") if self.decode else self.b.positions(self.seq)

    def _tokens(self, label: str) -> Node:
        return self.b.input(label, (self.batch, self.seq), "i32")

    def _head_width(self, features: int, heads: int) -> int:
        if self.model.value("head_dim") is not None:
            return self.model.count("head_dim")
        if features % heads:
            raise self.model.refuse(f"hidden_size {features} is not a multiple of {heads} heads", "state head_dim")
        return features // heads

    def _embedded(self, features: int) -> Node:
        b, model, family = self.b, self.model, self.model.family
        x = self._patches(features) if family.patches else self._words(features)
        if family.embedding_scale == "exact":
            x = b.scale(x, math.sqrt(features))
        elif family.embedding_scale == "rounded":
            x = b.scale(x, float(np.float32(math.sqrt(features)).astype(numpy_dtype(self.dtype))))
        if family.token_types:
            kinds = self._parameter("token_type_embedding", model.count("type_vocab_size"), features)
            x = b.add(x, b.embed(self._tokens("token_type_ids"), kinds))
        if family.positions == "learned":
            rows = self.seq if family.patches else model.count("max_position_embeddings")
            x = b.add(x, b.embed(self._positions(), self._parameter("position_embedding", rows, features)))
        elif family.positions == "sinusoid":
            x = b.add(x, b.sinusoid(self._positions(), features, pairing="interleaved", dtype=self.dtype))
        return self._norm(x, "embedding_norm") if family.embedding_norm else x

    def _words(self, features: int) -> Node:
        rows = self.model.count("vocab_size")
        if self.vocabulary is not None:
            reduced = _count("from_hf: vocabulary", self.vocabulary)
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
        model, family = self.model, self.model.family
        mask = masks.causal if family.causal else masks.full
        if model.layer_type(self.layer) == "sliding_attention":
            window = model.window()
            if window is None:
                raise model.refuse(f"layer {self.layer} is sliding_attention and has no sliding_window", "state it")
            mask = mask & masks.window(window)
        alibi, compared = family.positions == "alibi", family.causal
        scale, softcap = model.positive(family.scale), model.positive(family.softcap)
        return self.b.attend(
            q,
            k,
            v,
            mask=mask,
            score=masks.alibi(masks.alibi_slopes(q.type.shape[-2])) if alibi else masks.identity,
            scale=None if scale is None else 1.0 / math.sqrt(scale),
            softcap=softcap,
            q_positions=self._positions() if compared else None,
            kv_positions=self.b.positions(k.type.shape[-3]) if compared else None,
            sinks=self._parameter("sinks", q.type.shape[-2]) if family.sinks else None,
        )

    def _parameter(self, label: str, *shape: int) -> Node:
        return self.b.parameter(label, shape, self.dtype)

    def _project(self, x: Node, label: str, features: int, bias: bool | str) -> Node:
        weight = self._parameter(f"{label}_weight", x.type.shape[-1], features)
        return self.b.project(x, weight, self._parameter(f"{label}_bias", features) if self.model.flag(bias) else None)

    def _norm(self, x: Node, label: str) -> Node:
        family, features = self.model.family, x.type.shape[-1]
        return self.b.norm(
            x,
            self._parameter(label, features),
            self._parameter(f"{label}_bias", features) if family.norm == "layer" else None,
            kind=family.norm,
            epsilon=self.model.number(family.epsilon),
            weight_offset=family.weight_offset,
        )
