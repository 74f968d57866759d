"""A model as a folder: an artifact for every kind of layer and phase, the weights, and a small program that runs them.

model.json             the config, the sizes of a call, and which artifact each layer has
prefill-N/, decode-N/  the artifacts, which `rg.load` takes one by one too; N is the first layer of its kind
weights.safetensors    the parameters: layers.N.front_end.LABEL, layers.N.block.LABEL and head.LABEL
tokenizer.json         the tokenizer, if one was given
run.py                 writes the tokens that follow the ids in its arguments; it imports ropegen alone
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import numpy as np

from ropegen import api
from ropegen.arguments import path_of
from ropegen.emit import artifact
from ropegen.emit.artifact import place
from ropegen.errors import RopegenError
from ropegen.model.programs import Loaded, PlannedHere, Program, Shape
from ropegen.model.weights import Arrays
from ropegen.models.config import Config
from ropegen.models.family import FrontEnd
from ropegen.models.front_end import supported
from ropegen.target import Target
from ropegen.version import VERSION
from ropegen.weights.safetensors import SafetensorsFile

if TYPE_CHECKING:
    from ropegen.model.decoder import Model

DESCRIPTION, WEIGHTS, TOKENIZER, RUNNER = "model.json", "weights.safetensors", "tokenizer.json", "run.py"

_RUNNER = '''"""Writes the tokens that follow a prompt: python run.py ID ID ..."""

import sys
from pathlib import Path

import ropegen as rg

model = rg.Model.load(Path(__file__).parent)
for token in model.stream([[int(word) for word in sys.argv[1:]]], steps={steps}):
    print(int(token[0]), flush=True)
'''


def write(
    model: Model,
    directory: str | PathLike[str],
    targets: str | Target | Iterable[str | Target],
    shape: Shape,
    tokenizer: str | PathLike[str] | None,
) -> None:
    """Writes a model; see `Model.export`."""
    folder = path_of("export: directory", directory, "the model goes")
    planned = model.programs
    if not isinstance(planned, PlannedHere):
        raise RopegenError("export: this model was loaded from an export already; copy its folder")
    shape = planned.shape("export", shape.batch, shape.prompt, shape.capacity)
    steps = shape.capacity - shape.prompt
    if steps < 1:
        raise RopegenError(
            f"export: a prompt of {shape.prompt} tokens fills a capacity of {shape.capacity}; give room for an answer"
        )
    _expect_replaceable(folder, folder)  # before the long work
    try:
        with place.replacing(folder, _expect_replaceable) as made:
            _fill(made, model, planned, targets, shape, steps, tokenizer)
    except OSError as error:
        raise RopegenError(f"export: cannot write {folder}: {error}; nothing was written") from error


def _fill(
    folder: Path,
    model: Model,
    planned: PlannedHere,
    targets: str | Target | Iterable[str | Target],
    shape: Shape,
    steps: int,
    tokenizer: str | PathLike[str] | None,
) -> None:
    """Writes all files of a model into an empty folder."""
    named: dict[str, list[str]] = {}
    for phase, seq in (("prefill", shape.prompt), ("decode", 1)):
        kinds: dict[object, str] = {}
        names: list[str] = []
        for layer, graph in enumerate(planned.graphs(phase, shape.batch, seq, shape.capacity)):
            kind = (graph.inputs, graph.outputs)
            if kind not in kinds:
                kinds[kind] = f"{phase}-{layer}"
                api.export(graph, folder / kinds[kind], targets=targets)
            names.append(kinds[kind])
        named[phase] = names
    parameters: dict[str, Any] = {f"head.{label}": value for label, value in model.head.items()}
    for layer in model.layers:
        for part, values in (("front_end", layer.front_end), ("block", layer.block)):
            parameters |= {f"layers.{layer.index}.{part}.{label}": value for label, value in values.items()}
    save(folder / WEIGHTS, parameters)
    if tokenizer is not None:
        shutil.copyfile(path_of("export: tokenizer", tokenizer, "the tokenizer.json is"), folder / TOKENIZER)
    (folder / RUNNER).write_text(_RUNNER.format(steps=steps))
    description = Description(
        format=1,
        ropegen=VERSION,
        config=dict(planned.config.given),
        dtype=model.dtype,
        batch=shape.batch,
        prompt=shape.prompt,
        capacity=shape.capacity,
        prefill=named["prefill"],
        decode=named["decode"],
    )
    (folder / DESCRIPTION).write_bytes(msgspec.json.format(msgspec.json.encode(description)) + b"\n")


def _expect_replaceable(folder: Path, target: Path) -> None:
    """Refuses to replace what is at `target` if that is no model; it stands at `folder`.

    Raises:
      RopegenError: it is a file, or a folder with other files than those of a model.
    """
    if not folder.is_dir():
        if folder.exists():
            raise RopegenError(f"export: {target} is a file; give a folder")
        return
    own = {DESCRIPTION, WEIGHTS, TOKENIZER, RUNNER}
    if (folder / DESCRIPTION).is_file():
        described = _described(folder)
        own |= {*described.prefill, *described.decode}
    if others := sorted({path.name for path in folder.iterdir()} - own):
        raise RopegenError(
            f"export: {target} holds something else than a model ({', '.join(others[:3])}); give an empty folder, or another"
        )


_NAMES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def save(file: Path, values: Mapping[str, Any]) -> None:
    """Writes arrays as a safetensors file: the length of a header in JSON, the header, and all bytes one after another."""
    header: dict[str, object] = {}
    start = 0
    for name, value in values.items():
        end = start + value.nbytes
        header[name] = {"dtype": _NAMES[value.dtype.name], "shape": list(value.shape), "data_offsets": [start, end]}
        start = end
    described = json.dumps(header).encode()
    described += b" " * (-len(described) % 8)
    with file.open("wb") as written:
        written.write(len(described).to_bytes(8, "little"))
        written.write(described)
        for value in values.values():
            written.write(np.ascontiguousarray(value).tobytes())


_Name = Annotated[str, msgspec.Meta(pattern="^(prefill|decode)-[0-9]+$")]
_Size = Annotated[int, msgspec.Meta(ge=1)]


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What model.json says. `prefill` and `decode` name the artifact of every layer."""

    format: Literal[1]
    ropegen: str
    config: dict[str, Any]
    dtype: Annotated[str, msgspec.Meta(pattern="^(f64|f32|f16|bf16)$")]
    batch: _Size
    prompt: _Size
    capacity: _Size
    prefill: list[_Name]
    decode: list[_Name]


def _described(folder: Path) -> Description:
    """The content of model.json.

    Raises:
      RopegenError: it cannot be read, or it is not what `write` writes.
    """
    path = folder / DESCRIPTION
    try:
        return msgspec.json.decode(path.read_bytes(), type=Description)
    except OSError as error:
        raise RopegenError(f"load: cannot read {path}: {error.strerror}; give a folder of Model.export") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RopegenError(
            f"load: {path} is damaged, or of another version of ropegen ({error}); export the model again"
        ) from error


class LoadedPrograms:
    """Programs from the artifacts of a folder, for the sizes that it was exported for."""

    def __init__(self, folder: Path, described: Description, config: Config, facts: FrontEnd) -> None:
        self.config, self.facts = config, facts
        self.dtype: str = described.dtype
        self._shape = Shape(described.batch, described.prompt, described.capacity)
        phases = {"prefill": described.prefill, "decode": described.decode}
        layers = config.count("num_hidden_layers")
        if any(len(names) != layers for names in phases.values()):
            raise RopegenError(
                f"load: {folder / DESCRIPTION} names the artifacts of {len(described.prefill)} and {len(described.decode)} "
                f"layers, and the model has {layers}; export it again"
            )
        loaded = {name: Loaded(artifact.load(folder / name)) for name in {*described.prefill, *described.decode}}
        self._programs = {phase: Program([loaded[name] for name in names]) for phase, names in phases.items()}

    def shape(self, call: str, batch: int, prompt: int, capacity: int | None) -> Shape:
        own = self._shape
        if batch != own.batch or prompt > own.prompt or (capacity or 0) > own.capacity:
            asked = f"{batch} prompts of {prompt} tokens" + (f" and {capacity} rows" if capacity else "")
            raise RopegenError(
                f"{call}: asked for {asked}, and the model was exported for {own.batch} prompts of up to {own.prompt} tokens "
                f"and {own.capacity} rows; export it for more"
            )
        return own

    def program(self, phase: str, batch: int, seq: int, capacity: int) -> Program:
        wanted = self._shape.prompt if phase == "prefill" else 1
        if seq != wanted:
            raise RopegenError(f"{phase}: the model was exported for {wanted} tokens a call, and {seq} were given")
        return self._programs[phase]


def read(directory: str | PathLike[str]) -> tuple[LoadedPrograms, Arrays]:
    """The programs and the weights of a folder; see `Model.load`."""
    folder = path_of("load: directory", directory, "`Model.export` wrote the model")
    described = _described(folder)
    config, facts = supported("load", described.config)
    file = SafetensorsFile.open(folder / WEIGHTS)
    stored = {name: file.read(name) for name in file.entries}
    count = config.count("num_hidden_layers")
    parts: dict[str, dict[str, Any]] = {}
    for name, value in stored.items():
        part, _, label = name.rpartition(".")
        parts.setdefault(part, {})[label] = value
    arrays = Arrays(
        [parts.get(f"layers.{layer}.front_end", {}) for layer in range(count)],
        [parts.get(f"layers.{layer}.block", {}) for layer in range(count)],
        parts.get("head", {}),
    )
    return LoadedPrograms(folder, described, config, facts), arrays
