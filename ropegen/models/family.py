"""`Family`: what the modelling code of a checkpoint fixes, and which config fields say the rest.

A model type of the Hugging Face hub has one declaration. `Rope.from_hf` and `from_hf` both read it, so they cannot
disagree. The facts come from the config and modelling files of transformers 4.57 and 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from ropegen.models.block import Block
from ropegen.models.tensors import Tensors

if TYPE_CHECKING:
    from ropegen.models.config import Config
    from ropegen.rotary import Pairing

LAYER_TYPES = ("full_attention", "sliding_attention")
"""The kinds of layer, by the names that configs have for them."""
LATENT_SIZES = ("kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotary:
    """How a model rotates queries and keys, as far as its code fixes it, and the config fields that say the rest."""

    pairing: Pairing = "half"
    theta: float | None = 10_000.0
    """The default of the config class. None: every published config states theta, so a config without it is refused."""
    theta_field: str = "rope_theta"
    fraction: float = 1.0
    """The default share of a head that rotates."""
    fraction_field: str = "partial_rotary_factor"
    partial: bool = False
    """True where the code rotates only the share of a head that `fraction_field` states. Elsewhere the code rotates
    the whole head whatever that field says."""
    width_field: str | None = None
    """The field that states the rotated width itself."""
    interleave_field: str | None = None
    """The field that chooses interleaved pairs (true, the default) or pairs of halves (false)."""
    sliding: tuple[str, float] | None = None
    """The theta of sliding-window layers: its field and its default. Such layers never scale their frequencies."""
    sections: Literal["none", "runs", "interleaved"] = "none"
    """How pairs are shared among three position axes, see `Rope.sections`; "none" for one axis."""
    needs_scaling: bool = False
    """True where transformers would assume a scaling that the config leaves out."""
    fixed: bool = False
    """True where the code reads neither theta nor any rope parameters."""
    renamed: Mapping[str, str] = field(default_factory=dict[str, str])
    """Older names of rope types that configs of this model still have."""
    repeats: Mapping[str, str] = field(default_factory=dict[str, str])
    """Fields that saved configs carry as copies of another field: both must hold the same value."""

    @property
    def named(self) -> frozenset[str]:
        """Every field that the reading uses."""
        sliding = self.sliding[0] if self.sliding else None
        named = (self.theta_field, self.fraction_field, self.width_field, self.interleave_field, sliding)
        known = {"rope_scaling", "rope_parameters", "original_max_position_embeddings", *named, *self.repeats}
        return frozenset(name for name in known if name)

    @property
    def fields(self) -> frozenset[str]:
        """The fields named rope_* or rotary_* that the reading uses; a config with any other one is refused."""
        return frozenset(name for name in self.named if name.startswith(("rope_", "rotary_")))


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEnd:
    """What happens from ids or patches to the output projection. Sizes are not here, because configs state them."""

    patches: bool = False
    """True where the input is an image that is cut into patches, False where it is ids."""
    token_types: bool = False
    """True where a second table adds an embedding of each token's type."""
    embedding_scale: Literal["none", "exact", "rounded"] = "none"
    """Whether embeddings are multiplied by sqrt(features): exactly, or rounded to float32 and then to the element type,
    as Gemma's code does."""
    embedding_norm: bool = False
    input_norm: bool = True
    norm: Literal["rms", "layer"] = "rms"
    epsilon: str = ""
    """The field that holds the epsilon of every norm."""
    weight_offset: float = 0.0
    """What is added to the stored weight of a norm."""
    qkv_bias: bool | str = False
    """True, False, or the field that says which."""
    out_bias: bool | str = False
    qk_norm: bool | str = False
    grouped: bool = True
    """True where `num_key_value_heads` may be below the number of query heads."""
    causal: bool = True
    local: Callable[[Config, int], bool] | None = None
    """Whether a layer sees only the last `sliding_window` keys, for configs without `layer_types`. None: no layer does."""
    local_switch: str = ""
    """The field that turns windows off."""
    scale: str = ""
    """The field whose inverse square root multiplies the scores; without one, the width of a head takes its place."""
    softcap: str = ""
    """The field that holds the soft-cap of the scores."""
    sinks: bool = False
    layer_types: bool = True
    """Whether `layer_types` decides which layers are local. Where it does not, the code never reads it."""
    follows_is_causal: bool = True
    """Whether `is_causal: false` shows every key to every query, as transformers' `create_causal_mask` does."""
    only: Mapping[str, object] = field(default_factory=dict[str, object])
    """Fields that change the front-end in ways ropegen does not support, with the one value that it supports."""
    norm_parameters: Literal["usual", "weight", "none"] = "usual"
    """What norms learn. "usual" is a weight, and for a LayerNorm a bias; "weight" is a weight alone."""
    qk_norm_over: Literal["head", "heads"] = "head"
    """Whether `qk_norm` norms each head, or the features of all heads together before they are split."""
    unrotated: Callable[[Config, str, int], bool] | None = None
    """Whether a layer, of a kind and a number, leaves queries and keys as they are, in a model that rotates."""
    multiplier: float | str = ""
    """What multiplies the scores instead of `scale`, or the field that holds it."""
    embedding_multiplier: str = ""
    """The field that holds what multiplies embeddings."""
    positions_after: str = ""
    """For learned positions: the field with the id of padding. Positions begin after it, and earlier rows are not used."""
    fixed_epsilon: float | None = None
    """The epsilon of every norm where no field holds it."""
    patch_bias: bool = True
    first_tokens: tuple[str, ...] = ()
    """The parameters of one token each that stand before the patches, such as the class token. They have positions too."""
    registers: str = ""
    """The field with the number of register tokens, which stand between the first tokens and the patches."""
    clip: str = ""
    """The field that holds the largest number of queries, keys and values; they are clipped to it."""
    latent: bool = False
    """Whether keys and values follow from one latent vector of a token; see `latent_graph`."""
    key_heads: Callable[[Config], int] | None = None
    """The number of heads of keys where it is not `num_key_value_heads`."""

    @property
    def fields(self) -> frozenset[str]:
        """The config fields that the reading of these facts uses, in addition to the sizes that every model states."""
        named = [self.epsilon, self.local_switch, self.scale, self.softcap, *self.only]
        named += [name for name in (self.qkv_bias, self.out_bias, self.qk_norm) if isinstance(name, str)]
        stated = (self.multiplier, self.embedding_multiplier, self.positions_after, self.registers, self.clip)
        named += [name for name in stated if isinstance(name, str)]
        named += ["num_key_value_heads"] if self.grouped else []
        named += ["sliding_window"] if self.local is not None else []
        named += ["image_size", "patch_size", "num_channels"] if self.patches else ["vocab_size"]
        named += ["type_vocab_size"] if self.token_types else []
        named += LATENT_SIZES if self.latent else []
        return frozenset(name for name in named if name)


@dataclass(frozen=True, slots=True)
class Declined:
    """`from_hf` builds no graph for the model, for this reason. The reason completes "is not supported: "."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One type of checkpoint: how it knows positions, its front-end, and the habits of its configs."""

    positions: Rotary | Literal["learned", "alibi", "sinusoid", "relative"]
    front_end: FrontEnd | Declined
    """What `from_hf` builds. `Declined` where it builds nothing: then only `Rope.from_hf` may read the type."""
    spellings: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, "tuple[str, ...]"])
    """Other names that configs of this family have for a field."""
    defaults: Mapping[str, object] = field(default_factory=dict[str, object])
    """What the config class fills in where a published config leaves a field out."""
    sparse: Mapping[str, object] = field(default_factory=dict[str, object])
    """What the config class fills in beside `defaults`, for a `text_config`, which may leave out even the sizes."""
    text: str = ""
    """For a config that holds several models: the type of its `text_config` where that does not say. Only the text model
    is read, and `unread` lists the fields beside it."""
    block: Block | Callable[[Config], Block] | None = None
    """The rest of a layer and the head, for `ropegen.Model`, perhaps by what the config says; `Config.block` has the result.
    None where ropegen runs only the front-end."""
    parts: tuple[str, ...] = ()
    """The fields that hold mappings with more fields of the model, such as `attn_config`. They are read as if they stood
    beside them."""
    unread: frozenset[str] = frozenset()
    """Fields of the config class that cannot change what the model computes for given inputs, such as dropout."""
    tensors: Tensors | Callable[[Config], Tensors] | None = None
    """How checkpoints store the model, perhaps by what the config says; None where `rg.weights` does not know it."""

    @property
    def rotary(self) -> Rotary | None:
        """How the model rotates; None where its positions are of another kind."""
        return self.positions if isinstance(self.positions, Rotary) else None

    def summary(self) -> dict[str, str]:
        """One line about the family: its positions, its norm, which keys a query sees, and whether a graph is built."""
        positions = "rotary" if isinstance(self.positions, Rotary) else self.positions
        if isinstance(self.front_end, Declined):
            return {"positions": positions, "norm": "-", "attends": "-", "front-end": f"no: {self.front_end.reason}"}
        attends = "causal" if self.front_end.causal else "all"
        return {"positions": positions, "norm": self.front_end.norm, "attends": attends, "front-end": "yes"}
