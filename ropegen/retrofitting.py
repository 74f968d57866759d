"""`retrofit`: ropegen's layers in the place of the attention and RoPE layers of an Equinox or NNX model.

It imports neither library: a model of one of them has imported it already.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import jax

from ropegen.errors import RopegenError
from ropegen.plain_call import Targets, parse_targets
from ropegen.rotary import Rope
from ropegen.target import Target

Model = TypeVar("Model")

# Classes of a user that are named like attention or RoPE are reported, because somebody may expect them to be replaced.
_NAMED_ALIKE = re.compile(r"attention|attn|rotary|rope(?!gen)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that `retrofit` looked at."""

    path: str
    """Where it is in the model, such as `.blocks[0].attention`; "" for the model itself."""
    kind: str
    """The class that it had, with its module."""
    by: str
    """The class that stands in its place now; "" if the layer was left."""
    why: str
    """Why it was left, or what to know about the layer that stands there now; "" if there is nothing to say."""

    def __str__(self) -> str:
        done = f"replaced by {self.by}" if self.by else "left"
        return f"{self.path or 'the model'} ({self.kind}): {done}" + (f"; {self.why}" if self.why else "")


@dataclass(frozen=True, slots=True)
class Report:
    """What `retrofit` replaced, what it left, and why. `print(report)` shows one line for a layer."""

    layers: tuple[Layer, ...]

    @property
    def replaced(self) -> tuple[Layer, ...]:
        """The layers that ropegen computes now."""
        return tuple(layer for layer in self.layers if layer.by)

    @property
    def left(self) -> tuple[Layer, ...]:
        """The layers that are as they were."""
        return tuple(layer for layer in self.layers if not layer.by)

    def __str__(self) -> str:
        if not self.layers:
            return (
                "the model has no attention or RoPE layer that ropegen knows; call ropegen.attention in its own layers"
            )
        heading = f"{len(self.replaced)} replaced, {len(self.left)} left"
        return "\n".join([heading, *(f"  {layer}" for layer in (*self.replaced, *self.left))])


def retrofit(model: Model, *, target: Targets = None) -> tuple[Model, Report]:
    """The model with ropegen's layers in the place of its attention and RoPE layers, and a report.

    model: an Equinox module (or a pytree of them) or a Flax NNX module. In Equinox, `equinox.nn.MultiheadAttention` and
      `equinox.nn.RotaryPositionalEmbedding` are replaced. The result is a new model with the same arrays. In NNX, it is
      `flax.nnx.MultiHeadAttention` and `flax.nnx.RoPE`. NNX modules are objects with references to each other, so the
      layers change where they are: the result is the given model, with the same variables. `flax.nnx.clone` first keeps
      the original.
    target: the chip that the layers plan for, see `ropegen.attention`.

    A layer is left if ropegen would compute something else: a subclass, an attention function of its own, active dropout in
    NNX, the attention of one's own code. The report says so.

    Raises:
      RopegenError: the model is of neither library, or a target does not exist.
    """
    targets = parse_targets(target)
    if "flax.nnx" in sys.modules and isinstance(model, sys.modules["flax.nnx"].Module):
        return model, Report(tuple(_in_nnx(model, targets)))
    if "flax.linen" in sys.modules and isinstance(model, sys.modules["flax.linen"].Module):
        raise RopegenError(
            "retrofit: the model is of flax.linen, whose layers are made while it runs; give its attention layers "
            "attention_fn=ropegen.linen.attention_fn"
        )
    if "equinox" not in sys.modules or not any(
        isinstance(node, sys.modules["equinox"].Module) for node in _nodes(model)
    ):
        raise RopegenError(
            f"retrofit: the model is a {type(model).__module__}.{type(model).__qualname__}; give a model of equinox or flax.nnx, or "
            "call ropegen.attention in its own layers"
        )
    layers: list[Layer] = []
    return _in_equinox(model, "", targets, layers), Report(tuple(layers))


def _kind(layer: object) -> str:
    """The class of a layer, under the name of the library's public module."""
    cls = type(layer)
    for public in ("equinox.nn", "flax.nnx"):
        if getattr(sys.modules.get(public), cls.__name__, None) is cls:
            return f"{public}.{cls.__name__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def _left_by_name(path: str, layer: object, known: tuple[type, ...]) -> Layer | None:
    """The entry of a layer that is none of the known classes; None if it is not named like attention or RoPE."""
    kind = _kind(layer)
    if kind.startswith("ropegen."):
        return Layer(path, kind, "", "it is ropegen's already")
    ancestor = next((cls for cls in known if isinstance(layer, cls)), None)
    if ancestor is not None:
        return Layer(path, kind, "", f"it is a subclass of {ancestor.__name__}, which may compute something else")
    if kind.startswith("attnax."):
        return Layer(
            path, kind, "", "it is of attnax; import the class of the same name from ropegen.nnx, if there is one"
        )
    if _NAMED_ALIKE.search(type(layer).__name__):
        return Layer(path, kind, "", "it is a class of its own; call ropegen.attention or ropegen.rope in its code")
    return None


# Equinox ---------------------------------------------------------------------------------------------------------------


def _children(node: Any) -> tuple[list[tuple[str, Any]], Any]:
    """The parts of a pytree one level down, with their paths, and how to put them together."""

    def is_part(part: Any) -> bool:
        return part is not node

    parts, structure = jax.tree_util.tree_flatten_with_path(node, is_leaf=is_part)
    return [(jax.tree_util.keystr(path), part) for path, part in parts], structure


def _nodes(node: Any) -> Iterator[Any]:
    """The node and everything below it."""
    yield node
    for path, part in _children(node)[0]:
        if path:
            yield from _nodes(part)


def _in_equinox(node: Any, path: str, targets: tuple[Target, ...], layers: list[Layer]) -> Any:
    from ropegen import equinox

    kinds = equinox.ATTENTION_AND_ROPE
    if type(node) in kinds:
        made = equinox.stand_in(node, targets)
        why = ""
        if isinstance(made, equinox.MultiheadAttention) and not equinox.never_drops(made):
            why = "while its dropout is active, it computes all weights at once, unfused"
        layers.append(Layer(path, _kind(node), f"ropegen.equinox.{type(made).__name__}", why))
        return made
    before = len(layers)
    parts, structure = _children(node)
    if [place for place, _ in parts] == [""]:
        return node  # it is an array, or another leaf
    inside = [_in_equinox(part, path + place, targets, layers) for place, part in parts]
    if len(layers) == before:
        left = _left_by_name(path, node, tuple(kinds)) if isinstance(node, sys.modules["equinox"].Module) else None
        layers.extend([] if left is None else [left])
        return node
    return jax.tree_util.tree_unflatten(structure, inside)


# NNX -------------------------------------------------------------------------------------------------------------------


def _in_nnx(model: Any, targets: tuple[Target, ...]) -> Iterator[Layer]:
    flax: Any = sys.modules["flax.nnx"]
    known = tuple(getattr(flax, name) for name in ("MultiHeadAttention", "RoPE") if hasattr(flax, name))
    modules = sorted(
        ((tuple(path), module) for path, module in flax.iter_modules(model)), key=lambda entry: len(entry[0])
    )
    handled: list[tuple[Any, ...]] = []
    entries: list[tuple[tuple[Any, ...], Layer]] = []
    for path, module in modules:
        if type(module) in known:
            change: Callable[..., Layer] = _attention_in_nnx if type(module) is known[0] else _rope_in_nnx
            entries.append((path, change(module, _joined(path), targets)))
            handled.append(path)
    for path, module in modules:
        if path not in handled and not any(inner[: len(path)] == path for inner in handled):
            left = _left_by_name(_joined(path), module, known)
            if left is not None:
                entries.append((path, left))
                handled.append(path)
    yield from (layer for _, layer in sorted(entries, key=lambda entry: tuple(map(str, entry[0]))))


def _joined(path: tuple[Any, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def _attention_in_nnx(layer: Any, path: str, targets: tuple[Target, ...]) -> Layer:
    """Turns the layer into ropegen's, or says why not."""
    from ropegen import nnx

    kind = _kind(layer)
    rotation = _rope_of(layer.attention_fn)
    if isinstance(rotation, str):
        return Layer(path, kind, "", rotation)
    if layer.dropout_rate > 0 and layer.deterministic is not True:
        why = (
            f"its dropout of {layer.dropout_rate:g} needs all the weights, which Flax's function computes; call model.eval() "
            "first, or make it with dropout_rate=0"
        )
        return Layer(path, kind, "", why)
    if layer.precision is not None:
        why = f"its precision is {layer.precision!r}, and the fused attention takes none; make it without"
        return Layer(path, kind, "", why)
    # An NNX layer is its attributes. So it becomes ropegen's with another class, and every reference to it stays right.
    layer.__class__ = nnx.MultiHeadAttention
    layer.attention_fn, layer.rope, layer.target = nnx.attention_fn, rotation, targets
    why = "" if rotation is None else f"it rotates by theta {rotation.theta:g}, in decode at the positions of the cache"
    return Layer(path, kind, "ropegen.nnx.MultiHeadAttention", why)


def _rope_of(function: Any) -> Rope | str | None:
    """The rotation of an attention function of Flax, None for none, or why the function cannot be replaced."""
    flax: Any = sys.modules["flax.nnx"]
    from ropegen import nnx

    if function in (flax.dot_product_attention, nnx.attention_fn):
        return None
    rotating = getattr(flax, "dot_product_attention_with_rope", None)
    if isinstance(function, functools.partial) and rotating is not None and function.func is rotating:
        rope: Any = function.keywords.get("rope")
        if type(rope) in (flax.RoPE, nnx.RoPE) and set(function.keywords) == {"rope"} and not function.args:
            return Rope(rope.theta, pairing="half", angles="f32")
    name = getattr(function, "__name__", repr(function))
    return (
        f"its attention_fn is {name:.60}, which may compute something else; give attention_fn=ropegen.nnx.attention_fn"
    )


def _rope_in_nnx(layer: Any, path: str, targets: tuple[Target, ...]) -> Layer:
    from ropegen import nnx

    kind = _kind(layer)
    layer.__class__ = nnx.RoPE
    layer.target = targets
    return Layer(path, kind, "ropegen.nnx.RoPE", "")
