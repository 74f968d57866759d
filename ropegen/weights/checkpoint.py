"""`Checkpoint`: a model's tensors, read part by part as the parameters of graphs.

What a part takes follows from the config: the front-end of a layer from its graph, the rest from the family's `Block`.
How the tensors are named, transposed and packed follows from the family's `Tensors`. Nothing else decides, so a matrix is
transposed if and only if its family stores it transposed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ropegen.arguments import text_of
from ropegen.errors import RopegenError, nearest
from ropegen.models.config import Config
from ropegen.models.family import FrontEnd
from ropegen.models.front_end import STARTS, front_end_graph, supported
from ropegen.models.layer_graph import has_norm_bias
from ropegen.models.reading import mapping_from
from ropegen.models.tensors import Part, Roles, Shapes, Sizes, Tensors
from ropegen.scaling import whole
from ropegen.types import FLOATS, dtype_name, numpy_dtype
from ropegen.weights import quantized
from ropegen.weights.block_shapes import block_shapes, forms_of
from ropegen.weights.quantized import Quantisation, quantisation_of
from ropegen.weights.sources import Source, renamed, source_of

Array = npt.NDArray[Any]

_ALIGNMENT = 64  # of XLA's arrays on CPU

# Buffers that earlier releases of transformers saved and that follow from the config.
_BUFFERS = (
    r"(.*\.)?(rotary_emb\.inv_freq|attn\.bias|attn\.masked_bias|attention\.bias|attention\.masked_bias|position_ids)"
)


def from_hf(
    config: object, source: object, *, layer: int = 0, start: str = "hidden", dtype: str | None = None
) -> dict[str, Array]:
    """The parameters of `rg.from_hf(config, layer=layer, start=start)`, by label, from a checkpoint.

    Args:
      config: as in `rg.from_hf`. A `quantization_config` is undone where it says plain int8 or fp8 with scales.
      source: the path of a safetensors file; the path of a folder with one, or with shards and their index; or a mapping
        of tensor names to arrays of NumPy, JAX or torch, such as `model.state_dict()`.
      layer: which layer, from 0.
      start: "hidden" leaves the embedding out, "ids" reads it too.
      dtype: the element type of all arrays; None keeps that of every tensor.

    Returns:
      NumPy arrays in memory of their own. A weight is (features in, features out).

    Raises:
      RopegenError: what `rg.from_hf` refuses of a config; a source that cannot be read; a tensor that is missing, has
        another shape than the config says, or lies in the layer and is not read.
    """
    return open_checkpoint(config, source, dtype=dtype, whole_model=False).front_end(layer, start)


def open_checkpoint(
    config: object, source: object, *, dtype: str | None = None, whole_model: bool = True
) -> Checkpoint:
    """The checkpoint of a model, ready to be read part by part. Arguments and errors are those of `from_hf`.

    whole_model: whether all layers must be there, and are checked now; otherwise each is checked when it is read.
    """
    given, stated = _without_quantisation(mapping_from("weights", config))
    model, facts = supported("weights", given)
    if (tensors := model.family.tensors) is None:
        raise RopegenError(
            f"weights: ropegen does not know how checkpoints of {model.model_type} name their tensors; give the parameters of "
            "its graph by their labels"
        )
    if dtype is not None and dtype_name(dtype) not in FLOATS:
        raise RopegenError(f"weights: dtype is {dtype_name(dtype)}; weights are one of {', '.join(FLOATS)}")
    tensors = tensors if isinstance(tensors, Tensors) else tensors(model)
    read = renamed(source_of(source), tensors.renamed)
    prefix, head_prefix = _prefix(model, tensors, read)
    checkpoint = Checkpoint(
        model,
        facts,
        tensors,
        read,
        prefix,
        head_prefix,
        stated,
        None if dtype is None else dtype_name(dtype),
    )
    if whole_model:
        checkpoint.check()
    return checkpoint


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The tensors of a model by part, from `rg.weights.open(config, source)`.

    Each part is read when it is asked for, and nothing of it is kept, so the memory in use is that of the arrays that the
    caller keeps and of the tensor being read. Arrays are NumPy's, in memory of their own.
    """

    config: Config
    facts: FrontEnd
    tensors: Tensors
    source: Source
    prefix: str
    """What the names of the model's tensors begin with."""
    head_prefix: str
    quantisation: Quantisation | None
    dtype: str | None
    """The element type of all arrays; None keeps that of every tensor."""

    @property
    def layers(self) -> int:
        """The number of layers."""
        return self.config.count("num_hidden_layers")

    def __repr__(self) -> str:
        return f"<checkpoint {self.config.model_type} of {self.layers} layers, {self.source.where}>"

    def front_end(self, layer: int, start: str = "hidden") -> dict[str, Array]:
        """The parameters of the front-end of a layer, by their labels in `rg.from_hf(config, layer=layer, start=start)`.

        Raises:
          RopegenError: as in `from_hf`.
        """
        if text_of("weights: start", start, " or ".join(map(repr, STARTS))) not in STARTS:
            raise RopegenError(f"weights: unknown start {start!r}; {nearest(start, STARTS)}")
        self._expect_layer(layer)
        self._expect_all_read(layer)
        return self._arrays(self._front_end_parts(layer, start))

    def block(self, layer: int) -> dict[str, Array]:
        """The parameters of the rest of a layer, by the labels that `Block` and `Experts` name.

        Raises:
          RopegenError: ropegen knows only the front-end of the model, or as in `from_hf`.
        """
        self._expect_layer(layer)
        self._expect_all_read(layer)
        return self._arrays(self._block_parts(layer))

    def head(self, resolve_tied: bool = True) -> dict[str, Array]:
        """The parameters of the head: `final_norm`, `final_norm_bias`, `head_weight` (features, words) and `head_bias`.

        resolve_tied: a head that is tied to the embedding has its transpose as `head_weight`. False leaves it out, for
          callers that hold the embedding already.

        Raises:
          RopegenError: ropegen knows no head of the model, or as in `from_hf`.
        """
        return self._arrays(self._head_parts(resolve_tied))

    def unused(self) -> tuple[str, ...]:
        """The tensors of the source that belong to no part, such as those of an image encoder beside a text model."""
        claimed = self._claimed()
        return tuple(sorted(name for name in self.source.entries if not claimed.matches(name)))

    def check(self) -> None:
        """Holds the names and shapes of all layers against the config. It reads no values.

        Raises:
          RopegenError: as in `from_hf`.
        """
        for layer in range(self.layers):
            self._expect(self._front_end_parts(layer, "hidden" if layer else "ids"))
            if self.config.block is not None:
                self._expect(self._block_parts(layer))
        claimed = self._claimed()
        foreign = [name for name in self.source.entries if name.startswith(self.prefix) and not claimed.matches(name)]
        self._refuse_unread(foreign, claimed)

    # What a part takes ------------------------------------------------------------------------------------------------

    def _front_end_parts(self, layer: int, start: str) -> list[tuple[str, Part]]:
        """The parts of a front-end, each with the folder that it is in."""
        graph = front_end_graph(
            self.config,
            self.facts,
            batch=1,
            seq=None,
            dtype="f32",
            phase="prefill",
            layer=layer,
            start=start,
            residual=False,
        )
        wanted = {label: graph.input_types[label].shape for label in graph.labels("parameter")}
        folder = self._folder(layer)
        parts = [(folder, part) for part in self._parts(self.tensors.front_end, wanted)]
        if start == "ids":
            parts += [(self.prefix, part) for part in self._parts(self.tensors.stem, wanted)]
        if missing := sorted(wanted.keys() - {part.label for _, part in parts}):
            raise RopegenError(
                f"weights: ropegen does not know where checkpoints of {self.config.model_type} have {', '.join(missing)}; "
                "declare it in the family's Tensors"
            )
        return sorted(parts, key=lambda found: list(wanted).index(found[1].label))

    def _block_parts(self, layer: int) -> list[tuple[str, Part]]:
        roles = self._block_roles(layer)
        wanted = block_shapes(self.config, self.facts, self.tensors, roles)
        folder = self._folder(layer)
        return [(folder, part) for part in self._parts(roles, wanted)]

    def _head_parts(self, resolve_tied: bool) -> list[tuple[str, Part]]:
        block, tensors = self.config.block, self.tensors
        if block is None or tensors.head is None:
            raise RopegenError(f"weights: ropegen runs only the attention front-end of {self.config.model_type}")
        features, words = self.config.count("hidden_size"), self.config.count("vocab_size")
        wanted: dict[str, tuple[int, ...]] = {}
        for role in tensors.final:
            wanted[role] = (features,)
            if has_norm_bias(self.facts):
                wanted[f"{role}_bias"] = (features,)
        parts = [(self.prefix, part) for part in self._parts(tensors.final, wanted)]
        matrix: dict[str, tuple[int, ...]] = {"head_weight": (features, words)}
        if self.config.flag(block.head_bias):
            matrix["head_bias"] = (words,)
        head = list(tensors.head.parts("head", matrix, self._sizes()))
        if self.config.is_tied(block.tied):
            (table,) = tensors.stem["embedding"].parts("embedding", {"embedding": (words, features)}, self._sizes())
            self._expect_tied(head[0], table)
            if resolve_tied:
                parts.append((self.prefix, Part("head_weight", table.name, table.shape, np.transpose)))
            head = head[1:]
        return [*parts, *((self.head_prefix, part) for part in head)]

    def _expect_tied(self, head: Part, table: Part) -> None:
        """Refuses a head of its own where the config says that the embedding takes its place."""
        own, shared = self.head_prefix + head.name, self.prefix + table.name
        if own in self.source.entries and not np.array_equal(self.source.read(own), self.source.read(shared)):
            raise RopegenError(
                f"{self.source.where}: {own} differs from {shared}, and the config ties them; set tie_word_embeddings to "
                "false to read the head's own weight"
            )

    def _parts(self, roles: Roles, wanted: Shapes) -> Iterator[Part]:
        for role, stored in roles.items():
            yield from stored.parts(role, wanted, self._sizes())

    def _sizes(self) -> Sizes:
        patch = self.config.sides("patch_size") if self.facts.patches else None
        return Sizes(self.config.head_width(), patch)

    def _folder(self, layer: int) -> str:
        return self.prefix + self.tensors.layers.format(layer)

    def _block_roles(self, layer: int) -> Roles:
        """The form that this layer is stored in: that of which the source holds most names."""
        if self.config.block is None:
            raise RopegenError(f"weights: ropegen runs only the attention front-end of {self.config.model_type}")

        def held(roles: Roles) -> float:
            names = [self._folder(layer) + stored.names()[0].format(0) for stored in roles.values()]
            return sum(name in self.source.entries for name in names) / len(names)

        return max(forms_of(self.config, self.tensors, layer), key=held)

    def _expect_layer(self, layer: int) -> None:
        if not 0 <= whole("weights: layer", layer) < self.layers:
            raise RopegenError(f"weights: layer {layer} of a model of {self.layers}; give 0 to {self.layers - 1}")

    # Reading ----------------------------------------------------------------------------------------------------------

    def _arrays(self, parts: list[tuple[str, Part]]) -> dict[str, Array]:
        self._expect(parts)
        return {part.label: self._array(folder, part) for folder, part in parts}

    def _array(self, folder: str, part: Part) -> Array:
        if part.experts is None:
            return self._owned(part.take(self._stored(folder + part.name)))
        first, *others = (folder + part.name.format(expert) for expert in range(part.experts))
        made = part.take(self._stored(first))
        stacked = _empty((part.experts, *made.shape), self._dtype_of(made))
        stacked[0] = made
        for index, name in enumerate(others, 1):
            stacked[index] = part.take(self._stored(name))
        return stacked

    def _owned(self, made: Array) -> Array:
        """A copy of an array, in the element type that was asked for."""
        owned = _empty(made.shape, self._dtype_of(made))
        owned[...] = made
        return owned

    def _dtype_of(self, made: Array) -> np.dtype[Any]:
        return made.dtype if self.dtype is None else numpy_dtype(self.dtype)

    def _stored(self, name: str) -> Array:
        """A stored tensor, dequantised."""
        stored = self.source.read(name)
        if self.quantisation is None or stored.dtype not in quantized.STORED:
            return stored
        scale = self.source.read(self._scale_of(name))
        return self.quantisation.dequantised(name, stored, scale).astype(self._declared_dtype())

    def _declared_dtype(self) -> np.dtype[Any]:
        """The element type of weights that are stored in another: the one asked for, or the one that the config states."""
        stated = self.config.given.get("dtype") or self.config.given.get("torch_dtype") or "bf16"
        return numpy_dtype(self.dtype or dtype_name(str(stated).removeprefix("torch.")))

    def _scale_of(self, name: str) -> str:
        for suffix in quantized.SCALES:
            if name + suffix in self.source.entries:
                return name + suffix
        raise RopegenError(f"{self.source.where}: {name} is quantised and {name}_scale is not there; download it again")

    # Checks -----------------------------------------------------------------------------------------------------------

    def _expect(self, parts: Iterable[tuple[str, Part]]) -> None:
        """Refuses parts whose tensors are missing, or have another shape or element type."""
        for folder, part in parts:
            for expert in range(part.experts or 1):
                self._expect_tensor(folder + part.name.format(expert), part)

    def _expect_tensor(self, name: str, part: Part) -> None:
        entry = self.source.entries.get(name)
        if entry is None:
            raise RopegenError(
                f"{self.source.where} has no tensor {name!r}, the {part.label} of {self.config.model_type}; "
                f"{_nearby(name, self.source.entries)}"
            )
        if entry.shape != part.shape:
            raise RopegenError(
                f"{self.source.where}: {name!r} has the shape {entry.shape}, and the config asks for {part.shape}; give the "
                "config that was published with the checkpoint"
            )
        if entry.dtype in quantized.STORED:
            if self.quantisation is None:
                raise RopegenError(
                    f"{self.source.where}: {name!r} holds {entry.dtype} and the config has no quantization_config; take it from "
                    "the published config"
                )
            self._scale_of(name)
        elif entry.dtype.name not in ("float64", "float32", "float16", "bfloat16"):
            raise RopegenError(
                f"{self.source.where}: {name!r} holds {entry.dtype}; a weight is one of {', '.join(FLOATS)}"
            )

    def _expect_all_read(self, layer: int) -> None:
        """Refuses tensors of a layer that no part takes: the config and the checkpoint do not belong together."""
        folder, claimed = self._folder(layer), self._claimed([layer])
        foreign = [name for name in self.source.entries if name.startswith(folder) and not claimed.matches(name)]
        self._refuse_unread(foreign, claimed)

    def _refuse_unread(self, foreign: list[str], claimed: _Claimed) -> None:
        if foreign:
            more = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
            hint = _nearby(foreign[0], claimed.names)
            raise RopegenError(
                f"{self.source.where} has a tensor {foreign[0]!r}{more} that this config's {self.config.model_type} does not "
                f"read; {hint if hint.startswith('did you mean') else 'give the config that was published with it'}"
            )

    def _claimed(self, layers: Iterable[int] | None = None) -> _Claimed:
        """The names that the parts of some layers take, of all layers by default."""
        tensors, names, patterns = self.tensors, set[str](), {re.escape(self.prefix) + _BUFFERS}
        patterns |= {re.escape(self.prefix) + pattern for pattern in tensors.ignored}
        for layer in range(self.layers) if layers is None else layers:
            folder = self._folder(layer)
            names |= {at + part.name for at, part in self._front_end_parts(layer, "hidden")}
            for name in self._block_names(layer):
                if "{}" in name:
                    before, after = name.split("{}")
                    patterns.add(re.escape(folder + before) + r"\d+" + re.escape(after))
                else:
                    names.add(folder + name)
        if layers is None:
            names |= {at + part.name for at, part in self._front_end_parts(0, "ids")}
            names |= {self.prefix + name for stored in tensors.final.values() for name in stored.names()}
            names |= {self.head_prefix + name for name in self._head_names()}
        scales = quantized.SCALES if self.quantisation else ()
        return _Claimed(frozenset(names), tuple(map(re.compile, sorted(patterns))), scales)

    def _head_names(self) -> tuple[str, ...]:
        """The names that the head may have, below its prefix; a weight that is tied may be there as well."""
        if self.tensors.head is None:
            return ()
        weight, bias = self.tensors.head.names()
        block = self.config.block
        return (weight, bias) if block is None or self.config.flag(block.head_bias) else (weight,)

    def _block_names(self, layer: int) -> Iterator[str]:
        """The names that the rest of a layer may have, below its folder."""
        if self.config.block is not None:
            yield from (part.name for _, part in self._block_parts(layer))
            return
        for roles in self.tensors.blocks:
            yield from (name for stored in roles.values() for name in stored.names())


@dataclass(frozen=True, slots=True)
class _Claimed:
    """The names of tensors that are read, or that may be there and say nothing."""

    names: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]
    scales: tuple[str, ...]

    def matches(self, name: str) -> bool:
        """Whether the name is one of these."""
        if name in self.names or any(pattern.fullmatch(name) for pattern in self.patterns):
            return True
        if not self.scales:
            return False
        folder, _, last = name.rpartition(".")
        if last in quantized.ACTIVATIONS:
            return f"{folder}.weight" in self.names
        return any(name.endswith(suffix) and self.matches(name.removesuffix(suffix)) for suffix in self.scales)


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Memory for an array, from a multiple of 64 bytes on, so that `jax.device_put` can keep it instead of copying it."""
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size].view(dtype).reshape(shape)


def _without_quantisation(given: Mapping[str, object]) -> tuple[Mapping[str, object], Quantisation | None]:
    """The config without `quantization_config`, at the top or in `text_config`, and what that says."""
    stated = quantisation_of(given)
    plain = {name: value for name, value in given.items() if name != "quantization_config"}
    if isinstance(text := given.get("text_config"), Mapping):
        inner = cast("Mapping[str, object]", text)
        plain["text_config"], within = _without_quantisation(inner)
        stated = stated or within
    return plain, stated


def _nearby(name: str, names: Iterable[str]) -> str:
    """The hint with the nearest name, of those in the same folder if there are any: a checkpoint may hold very many."""
    folder = name.rpartition(".")[0].rpartition(".")[0]
    known = tuple(names)
    return nearest(name, [other for other in known if other.startswith(folder)] or known[:1000])


def _prefix(model: Config, tensors: Tensors, source: Source) -> tuple[str, str]:
    """The prefix under which the source holds the layers, and the prefix of its head."""
    folder = tensors.layers.partition("{}")[0]
    for prefix, head in tensors.prefixes:
        if any(name.startswith(prefix + folder) for name in source.entries):
            return prefix, head
    usual = tensors.prefixes[0][0] + tensors.layers.format(0)
    held = ", ".join(list(source.entries)[:4])
    raise RopegenError(
        f"{source.where} has no tensor whose name begins with {usual}, as those of {model.model_type} do"
        + (f"; it has {held}, ..." if held else "; it has none at all")
        + ". Give the checkpoint of this config, under the names that the hub has for its tensors"
    )
