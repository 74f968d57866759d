"""From what a caller gives as a config to a `Config`: a mapping, a file or folder, or an object with `to_dict`.

Both readers of configs, `Rope.from_hf` and `from_hf`, begin here. A model type that ropegen has no declaration for is
refused with a reason, and a config that holds a text model is replaced by that of its text model.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from ropegen.errors import RopegenError, nearest
from ropegen.models.config import Config
from ropegen.models.families import FAMILIES
from ropegen.models.family import Family
from ropegen.models.fields import COMMON
from ropegen.models.known_types import reason_for
from ropegen.models.wrappers import UNREAD, WRAPPERS

_EXAMPLE = (
    'json.loads(pathlib.Path("config.json").read_text()), the path of a config.json or of its folder, or model.config'
)


def mapping_from(call: str, given: object) -> Mapping[str, object]:
    """The fields of a config: of a mapping, of the config.json at a path, or of an object with `to_dict`.

    Raises:
      RopegenError: it is none of these, or the file cannot be read.
    """
    if isinstance(given, Mapping):
        return cast("Mapping[str, object]", given)
    if isinstance(given, str | os.PathLike):
        return _read(call, Path(os.fsdecode(given)))
    to_dict = getattr(given, "to_dict", None)
    if callable(to_dict) and not isinstance(given, type):
        stated = cast("Callable[[], object]", to_dict)()
        if isinstance(stated, Mapping):
            return cast("Mapping[str, object]", stated)
    raise RopegenError(f"{call}: config is {given!r:.60}; give the fields of a model's config.json: {_EXAMPLE}")


def _read(call: str, path: Path) -> Mapping[str, object]:
    file = path / "config.json" if path.is_dir() else path
    try:
        stated: object = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise RopegenError(f"{call}: cannot read {file}: {error.strerror or error}; give {_EXAMPLE}") from error
    except (ValueError, RecursionError) as error:
        raise RopegenError(f"{call}: {file} is not JSON: {error}; give a model's config.json") from error
    if not isinstance(stated, Mapping):
        raise RopegenError(f"{call}: {file} holds no fields; give a model's config.json")
    return cast("Mapping[str, object]", stated)


def config_of(call: str, given: object, *, any_wrapper: bool = False) -> Config:
    """The config with its family. That of a model with several parts gives way to that of its text model.

    any_wrapper: whether a type without a declaration will do where its `text_config` names a declared one. How the text
      model rotates does not depend on what is around it, but which keys a query sees may.

    Raises:
      RopegenError: `given` is no config, or its model type is unknown or has no declaration.
    """
    stated = mapping_from(call, given)
    if "config" in stated and "model_type" not in stated:
        raise RopegenError(
            f'{call}: config has a field "config" and no model_type, so it is a case; give it to '
            'ropegen.models.from_case, or give config["config"] and its "build" as arguments'
        )
    text = stated.get("text_config")
    to_dict = getattr(text, "to_dict", None)
    text = cast("Callable[[], object]", to_dict)() if callable(to_dict) else text
    outer = stated.get("model_type")
    named: object = text.get("model_type") if isinstance(text, Mapping) else None
    if any_wrapper and str(outer) not in FAMILIES and isinstance(named, str) and named in FAMILIES:
        return Config(named, FAMILIES[named], cast("Mapping[str, object]", text), stated)
    if str(outer) in WRAPPERS:
        return _within(str(outer), text, stated)
    wrapper = _family(outer, named)
    if text is None and not wrapper.text:
        return Config(str(outer), wrapper, functools.reduce(_with_part, wrapper.parts, stated))
    if not isinstance(text, Mapping | None):
        raise RopegenError(f"{outer} config: text_config is {text!r:.60}; it must hold the fields of the text model")
    model_type = (wrapper.text or str(outer)) if named in (None, outer) else str(named)
    around = {name: value for name, value in stated.items() if name != "text_config"}
    inner = {**(text or {}), "model_type": model_type}
    return Config(
        model_type, wrapper if model_type == outer else _family(model_type, None), inner, around, wrapper.unread
    )


def _within(outer: str, text: object, stated: Mapping[str, object]) -> Config:
    """The config of the text model of a wrapper that leaves its attention as it is."""
    if not isinstance(text, Mapping):
        raise RopegenError(f"{outer} config: text_config is {text!r:.60}; it must hold the fields of the text model")
    inner = cast("Mapping[str, object]", text)
    named = inner.get("model_type")
    model_type = WRAPPERS[outer] if named in (None, outer) else str(named)
    around = {name: value for name, value in stated.items() if name != "text_config"}
    return Config(model_type, _family(model_type, None), {**inner, "model_type": model_type}, around, UNREAD)


def _with_part(stated: Mapping[str, object], part: str) -> Mapping[str, object]:
    """The fields of a config, with those of the mapping under `part` beside them."""
    inner = stated.get(part)
    to_dict = getattr(inner, "to_dict", None)
    inner = cast("Callable[[], object]", to_dict)() if callable(to_dict) else inner
    if inner is None:
        return stated
    model_type = stated.get("model_type")
    if not isinstance(inner, Mapping):
        raise RopegenError(f"{model_type} config: {part} is {inner!r:.60}; it must be a mapping")
    more = {name: value for name, value in cast("Mapping[str, object]", inner).items() if name not in COMMON}
    parameters = stated.get("rope_parameters")
    around = {**(cast("Mapping[str, object]", parameters) if isinstance(parameters, Mapping) else {}), **stated}
    if (theta := more.pop("rope_theta", None)) not in (None, around.get("rope_theta")):
        raise RopegenError(
            f"{model_type} config: rope_theta is {theta!r} in {part}, where transformers 5 does not read it, and "
            f"{around.get('rope_theta', 'missing')} beside {part}; write there the value that the checkpoint was trained with"
        )
    for name, value in more.items():
        if stated.get(name, value) != value:
            raise RopegenError(
                f"{model_type} config: {name} is {stated[name]!r}, and {value!r} in {part}; keep one of them"
            )
    return {**{name: value for name, value in stated.items() if name != part}, **more}


def _family(model_type: object, text_type: object) -> Family:
    if not isinstance(model_type, str):
        raise RopegenError(
            f"the config's model_type is {model_type!r}; it must be a name that `ropegen list models` prints, such as 'llama'"
        )
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    if isinstance(text_type, str) and text_type in FAMILIES:
        raise RopegenError(
            f"model_type {model_type!r} is not supported: it holds a {text_type} model, and may show it other keys than "
            f"{text_type} alone sees; give its text_config if it does not"
        )
    if reason := reason_for(model_type):
        raise RopegenError(
            f"model_type {model_type!r} is not supported: {reason}; write its front-end with rg.Builder, or declare it as "
            "CONTRIBUTING.md says"
        )
    raise RopegenError(f"unknown model_type {model_type!r}; {nearest(model_type, (*FAMILIES, *WRAPPERS))}")
