"""From a Hugging Face config to a `Rope`: the rope parameters of transformers 4 (`rope_scaling`) and 5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard, cast

from ropegen import scaling
from ropegen.arguments import text_of
from ropegen.errors import RopegenError, nearest
from ropegen.models.config import Config
from ropegen.models.family import LAYER_TYPES, Rotary
from ropegen.models.reading import config_of
from ropegen.rotary import Rope, section_sizes
from ropegen.scaling import finite, whole

_SHARED_FIELDS = ("rope_type", "type", "rope_theta", "partial_rotary_factor")
_SECTION_FIELDS = ("mrope_section", "mrope_interleaved")

# Fields of rope parameters that published configs have and transformers does not read for that rope type.
_UNREAD: Mapping[str, frozenset[str]] = {
    "linear": frozenset(("original_max_position_embeddings",)),
    "dynamic": frozenset(("original_max_position_embeddings",)),
    "yarn": frozenset(("finetuned",)),
    "longrope": frozenset(("short_mscale", "long_mscale")),
}

# The rope types of transformers: the frequency family in `ropegen.scaling`, and its fields by their names in a config.
_ROPE_TYPES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "default": ("none", {}),
    "linear": ("linear", {"factor": "factor"}),
    "dynamic": ("dynamic", {"factor": "factor"}),
    "yarn": (
        "yarn",
        {
            "factor": "factor",
            "original_max_position_embeddings": "original",
            "beta_fast": "beta_fast",
            "beta_slow": "beta_slow",
            "attention_factor": "attention_factor",
            "mscale": "mscale",
            "mscale_all_dim": "mscale_all_dim",
            "truncate": "truncate",
        },
    ),
    "longrope": (
        "longrope",
        {
            "short_factor": "short",
            "long_factor": "long",
            "original_max_position_embeddings": "original",
            "factor": "factor",
            "attention_factor": "attention_factor",
        },
    ),
    "llama3": (
        "llama3",
        {
            "factor": "factor",
            "low_freq_factor": "low",
            "high_freq_factor": "high",
            "original_max_position_embeddings": "original",
        },
    ),
    "proportional": ("proportional", {"partial_rotary_factor": "fraction", "factor": "factor"}),
}


def rope_from_hf(given: object, layer_type: str | None) -> Rope:
    """The rotary embedding that the config `given` describes; `Rope.from_hf` tells the rest.

    Raises:
      RopegenError: `given` is no config, its model type is unknown or does not rotate, or a field is wrong.
    """
    config = config_of("Rope.from_hf", given, any_wrapper=True)
    if layer_type is not None:
        text_of("from_hf: layer_type", layer_type, 'a kind of layer, such as "full_attention"')
    rope = rope_of(config, layer_type) if config.family.rotary else None
    if rope is None:
        raise config.refuse(f"the model has {config.family.positions} positions and no Rope", "attend without one")
    return rope


def rope_of(config: Config, layer_type: str | None) -> Rope | None:
    """The rotary embedding of one kind of layer of `config`; None where the model does not rotate.

    Raises:
      RopegenError: a rope_* or rotary_* field that the model does not read, or one with a wrong value.
    """
    rotary = config.family.rotary
    _check_fields(config, rotary)
    return None if rotary is None else _read(config, rotary, layer_type)


def score_magnitude(config: Config) -> float:
    """What DeepSeek's code multiplies the scores by: the square of YaRN's magnitude at `mscale_all_dim`, 1 without it.

    Raises:
      RopegenError: the config states `mscale_all_dim` and no factor, or one of them is no number.
    """
    stated, _ = _stated(config, Rotary(), None)
    names = [stated.get(name) for name in ("rope_type", "type") if stated.get(name) is not None]
    magnitude = stated.get("mscale_all_dim")
    if not magnitude or not names or names[0] == "default":
        return 1.0
    factor = finite(config.where("the factor of its rope parameters"), stated.get("factor"))
    return scaling.yarn_attention_factor(factor, finite(config.where("mscale_all_dim"), magnitude)) ** 2


def _check_fields(config: Config, rotary: Rotary | None) -> None:
    """Refuse every rope_* and rotary_* field that the model's code would ignore, unless it is null."""
    known = frozenset[str]() if rotary is None else rotary.fields
    for name, value in config.given.items():
        if name.startswith(("rope_", "rotary_")) and value is not None and name not in known:
            raise config.refuse(f"the field {name!r} is not one that {config.model_type} reads", nearest(name, known))
    for name, original in ({} if rotary is None else rotary.repeats).items():
        if config.given.get(name) not in (None, config.given.get(original)):
            raise config.refuse(
                f"{name} is {config.given[name]!r} and {original} is {config.given.get(original)!r}",
                f"the model reads {original}: state it, and give {name} the same value or leave it out",
            )


def _read(config: Config, rotary: Rotary, layer_type: str | None) -> Rope:
    stated, sliding = _stated(config, rotary, layer_type)
    config.expect(
        bool(stated) or not rotary.needs_scaling,
        "rope_scaling is missing and this model is never without it; take it from the published config",
    )
    config.expect(
        not rotary.fixed or (not stated and config.optional(rotary.theta_field) in (None, rotary.theta)),
        f"this model's code has theta {rotary.theta} and no scaling, whatever {rotary.theta_field} and the rope "
        f"parameters say; it reads only {rotary.width_field}, so take the others out",
    )
    rope_type = _rope_type(config, stated, rotary)
    kind, names = _ROPE_TYPES[rope_type]
    known = {
        *_SHARED_FIELDS,
        *names,
        *_UNREAD.get(rope_type, ()),
        *(_SECTION_FIELDS if rotary.sections != "none" else ()),
    }
    for name in stated:
        config.expect(
            name in known, f"its {rope_type!r} rope parameters have no field {name!r}; {nearest(name, known)}"
        )
    theta_field, default = rotary.sliding if sliding and rotary.sliding else (rotary.theta_field, rotary.theta)
    theta = _first(stated.get("rope_theta"), config.optional(theta_field), default)
    config.expect(theta is not None, f"{theta_field} is missing and this model has no usual value")
    fields = {ours: stated[name] for name, ours in names.items() if stated.get(name) is not None}
    if not (fields.get("mscale") and fields.get("mscale_all_dim")):
        # transformers divides one by the other only where both are there and neither is 0, and else reads neither.
        fields = {name: value for name, value in fields.items() if name not in ("mscale", "mscale_all_dim")}
    fraction = finite(
        config.where(rotary.fraction_field),
        _first(stated.get("partial_rotary_factor"), config.optional(rotary.fraction_field), rotary.fraction),
    )
    if rope_type == "proportional":
        fields["fraction"] = fraction
    interleaved = config.given.get(rotary.interleave_field, True) if rotary.interleave_field else True
    config.expect(
        isinstance(interleaved, bool), f"{rotary.interleave_field} must be true or false, got {interleaved!r}"
    )
    return Rope(
        finite(config.where(theta_field), theta),
        pairing=rotary.pairing if interleaved else "half",
        dim=None if rope_type == "proportional" else _width(config, rotary, fraction),
        scaling=scaling.from_attributes({"kind": kind, **fields, **_lengths(config, rope_type, fields)}),
        sections=_sections(config, stated, rotary),
        interleaved_sections=rotary.sections == "interleaved",
    )


def _stated(config: Config, rotary: Rotary, layer_type: str | None) -> tuple[Mapping[str, object], bool]:
    """The rope parameters that the config states for one kind of layer, and whether that is the sliding kind."""
    other = config.optional("rope_scaling")
    stated = _first(config.optional("rope_parameters"), other, {})
    config.expect(
        other is None or other == stated,
        f"rope_parameters {stated} and rope_scaling {other} are both there and differ; keep the one that was published with the checkpoint",
    )
    if not _is_mapping(stated):
        raise RopegenError(f"{config.where('rope parameters')} must be a mapping, got {stated!r}")
    if rotary.sliding and stated and stated is not other:
        config.expect(
            all(_is_mapping(value) for value in stated.values()),
            'rope_parameters has no kinds of layer, and the model\'s code reads it by kind; write {"full_attention": {...}, '
            '"sliding_attention": {...}}, or rope_scaling for the full layers alone',
        )
    by_layer = {kind: value for kind, value in stated.items() if _is_mapping(value)}
    if len(by_layer) < len(stated):
        by_layer = {}
    layers = config.optional("layer_types")
    stated_kinds = cast("list[object]", layers) if isinstance(layers, list | tuple) else []
    known = {str(kind) for kind in (by_layer or [*LAYER_TYPES, *stated_kinds])}
    if layer_type is None:
        config.expect(
            not by_layer and rotary.sliding is None,
            f"its kinds of layer rotate differently; pass layer_type=, one of {', '.join(sorted(known))}",
        )
        return stated, False
    config.expect(layer_type in known, f"unknown layer type {layer_type!r}; {nearest(layer_type, known)}")
    sliding = layer_type == "sliding_attention"
    if by_layer:
        return by_layer[layer_type], sliding
    return ({} if sliding and rotary.sliding else stated), sliding


def _rope_type(config: Config, stated: Mapping[str, object], rotary: Rotary) -> str:
    given = [stated[name] for name in ("rope_type", "type") if stated.get(name) is not None]
    types = {rotary.renamed.get(str(name), str(name)) for name in given} or {"default"}
    config.expect(len(types) == 1, f"rope_type and type are both there and differ: {', '.join(map(repr, given))}")
    (rope_type,) = types
    config.expect(rope_type in _ROPE_TYPES, f"unknown rope type {rope_type!r}; {nearest(rope_type, _ROPE_TYPES)}")
    config.expect(
        bool(given) or set(stated) <= {*_SHARED_FIELDS, *_SECTION_FIELDS},
        f"its rope parameters {', '.join(map(repr, stated))} name no rope_type",
    )
    return rope_type


def _width(config: Config, rotary: Rotary, fraction: float) -> int | None:
    """The rotated width of a head; None for the whole head."""
    if rotary.width_field is not None:
        width = whole(config.where(rotary.width_field), config.optional(rotary.width_field))
        config.expect(
            fraction == 1.0,
            f"{rotary.width_field} states the rotated width, yet the config also states a fraction, {fraction}",
        )
        return width
    if fraction == 1.0:
        return None
    config.expect(
        rotary.partial,
        f"{rotary.fraction_field} is {fraction} and this model's code rotates the whole head; leave it out, or write "
        "the Rope with dim= if the checkpoint was trained so",
    )
    config.expect(
        0 < fraction <= 1, f"{rotary.fraction_field} is a part of the head, above 0 and at most 1; got {fraction}"
    )
    return int(config.head_width() * fraction)


def _lengths(config: Config, rope_type: str, fields: Mapping[str, object]) -> dict[str, object]:
    """The original context and the factor, where transformers takes them from outside the rope parameters."""
    if rope_type not in ("dynamic", "yarn", "longrope", "llama3"):
        return {}
    longest = config.optional("max_position_embeddings")
    if rope_type == "dynamic":
        return {"original": whole(config.where("max_position_embeddings"), longest)}
    original = _first(config.optional("original_max_position_embeddings"), fields.get("original"), longest)
    original = whole(config.where("original_max_position_embeddings"), original)
    config.expect(original > 0, f"original_max_position_embeddings must be positive, got {original}")
    if "factor" in fields or rope_type == "llama3":
        return {"original": original}
    return {"original": original, "factor": finite(config.where("max_position_embeddings"), longest) / original}


def _sections(config: Config, stated: Mapping[str, object], rotary: Rotary) -> tuple[int, ...]:
    if rotary.sections == "none":
        return ()
    interleaved = rotary.sections == "interleaved"
    config.expect(
        stated.get("mrope_interleaved", interleaved) is interleaved,
        f"mrope_interleaved is {stated.get('mrope_interleaved')!r} and the model's code has {interleaved}",
    )
    return section_sizes(config.where("mrope_section"), stated.get("mrope_section"))


def _first(*values: object) -> object:
    """The first value that is not None."""
    return next((value for value in values if value is not None), None)


def _is_mapping(value: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(value, Mapping)
