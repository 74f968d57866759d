"""The schema of `manifest.json`, and how the file is read.

The fields below are the whole schema: msgspec decodes the file into them and refuses everything else. A field that this
version does not know is refused too. It may be a promise that this version cannot keep, such as a signature that nobody
would check, and ropegen drops nothing silently. A later version may therefore add an optional field without a new
format: an artifact that uses the field is refused by name, and one that does not use it still loads.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar, cast

import msgspec
from msgspec import Meta, Struct

from ropegen.errors import RopegenError, nearest
from ropegen.ir.ops import ROLES
from ropegen.types import TensorType

FORMAT = 1
MANIFEST = "manifest.json"
GRAPH = "graph.mlir"
TILES = "tiles.json"

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0)]


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The base of every part of the manifest."""


class GraphEntry(Entry, frozen=True, kw_only=True):
    """The name of the graph, and the digest of its text."""

    name: str
    digest: Sha256


class Versions(Entry, frozen=True, kw_only=True):
    """The packages that built the artifact."""

    ropegen: str
    jax: str
    jaxlib: str


class Output(Entry, frozen=True, kw_only=True):
    """The shape and the element type (the IR's name, such as `bf16`) of an output."""

    shape: tuple[Count, ...]
    dtype: str

    def __post_init__(self) -> None:
        self.type  # noqa: B018 - it raises for an unknown element type

    @property
    def type(self) -> TensorType:
        """The tensor type."""
        return TensorType(self.shape, self.dtype)


class Input(Output, frozen=True, kw_only=True):
    """An input: besides its type, whether it is an activation, a parameter or a state."""

    role: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.role not in ROLES:
            raise ValueError(f"unknown role {self.role!r}; {nearest(self.role, ROLES)}")


class Stage(Entry, frozen=True, kw_only=True):
    """A program: the labels of its arguments and results in the order of its portable module."""

    arguments: tuple[str, ...]
    results: tuple[str, ...]
    calling_convention: int


class ExecutableStage(Entry, frozen=True, kw_only=True):
    """A compiled program: its file, and the labels of its arguments and results in their order."""

    file: str
    arguments: tuple[str, ...]
    results: tuple[str, ...]


StageT = TypeVar("StageT", Stage, ExecutableStage)


class Stages(Entry, Generic[StageT], frozen=True, kw_only=True):
    """The programs of an artifact: `prepare`, where parameters are prepared once, and `module`."""

    prepare: StageT | None = None
    module: StageT

    @property
    def by_name(self) -> dict[str, StageT]:
        """The stages that are there, in the order in which they run."""
        return {**({} if self.prepare is None else {"prepare": self.prepare}), "module": self.module}


class ExecutableEntry(Entry, frozen=True, kw_only=True):
    """The executables of one target: the device and the compiler that they are for, and the digest of their plan."""

    platform: str
    device_kind: str
    topology: str
    libtpu: str
    build: str
    jax: str
    plan: str
    stages: Stages[ExecutableStage]


class Devices(Entry, frozen=True, kw_only=True):
    """The devices that an artifact is for: a mesh, and the axes of it over which the inputs of every stage lie."""

    mesh: dict[str, Annotated[int, Meta(ge=1)]]  # the sizes of the axes, in order
    inputs: dict[str, tuple[tuple[str, ...], ...]]  # for every axis of an input, the axes of the mesh

    @property
    def count(self) -> int:
        """The number of devices."""
        return math.prod(self.mesh.values())


class Manifest(Entry, frozen=True, kw_only=True):
    """What an artifact is. `data()` gives the same as plain dictionaries and lists."""

    format: Annotated[int, Meta(ge=1, le=FORMAT)]
    graph: GraphEntry
    plans: dict[str, Sha256]  # the digest of the plan of each target
    platforms: tuple[str, ...]  # JAX's names
    built_with: Versions
    custom_calls: dict[str, str]  # the custom calls of the modules, and what jax.export promises for them
    loads_with: str
    portable: str
    inputs: dict[str, Input]
    outputs: dict[str, Output]
    stages: Stages[Stage]
    files: dict[str, Sha256]  # every file of the directory but this one
    executables: dict[str, ExecutableEntry] = {}  # by target
    devices: Devices | None = None  # None for one device
    tiles: str | None = None  # the file with the measured tiles that `plan` was given

    def __post_init__(self) -> None:
        for name in self.files:
            if Path(name).name != name or name in ("", "..", MANIFEST) or "\0" in name:
                raise ValueError(f"`files` must list plain file names, and it lists {name!r}")
        needed = [GRAPH, *(f"{stage}.jaxexport" for stage in self.stages.by_name)]
        needed += [stage.file for entry in self.executables.values() for stage in entry.stages.by_name.values()]
        needed += [] if self.tiles is None else [self.tiles]
        missing = sorted(set(needed) - set(self.files))
        if missing:
            raise ValueError(f"`files` must list {', '.join(missing)}")

    def data(self) -> dict[str, Any]:
        """The manifest as JSON holds it: dictionaries, lists, text and numbers, in the order of the file."""
        return msgspec.json.decode(msgspec.json.encode(self))

    def encoded(self) -> bytes:
        """The content of `manifest.json`."""
        return (json.dumps(self.data(), indent=2) + "\n").encode()


class _Format(Struct):
    """The one field that a manifest of any format has."""

    format: int


def read(folder: Path) -> Manifest:
    """The manifest of the artifact in a directory.

    Raises:
      RopegenError: there is no directory or no manifest, the manifest has a newer format, or a field is missing,
        unknown or wrong.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise RopegenError(f"there is no directory {folder}; give the directory that `ropegen build -o` made")
    if not path.is_file():
        raise RopegenError(f"{folder} is not an artifact: it has no {MANIFEST}")
    content = path.read_bytes()
    try:
        stated = msgspec.json.decode(content, type=_Format).format
    except msgspec.ValidationError as error:
        raise RopegenError(
            f"{path} is not the manifest of an artifact: it states no format that ropegen knows ({error}); give the "
            "directory that `ropegen build -o` made, or build the artifact again"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RopegenError(f"{path} is damaged: it is not JSON ({error}); build the artifact again") from error
    if stated > FORMAT:
        raise RopegenError(
            f"{path} is of format {stated}, and this ropegen reads up to {FORMAT}; install a newer ropegen"
        )
    try:
        return msgspec.json.decode(content, type=Manifest)
    except msgspec.ValidationError as error:
        raise RopegenError(
            f"{path} is damaged, or a newer ropegen wrote it: {_with_key(content, str(error))}; build the artifact again"
        ) from error


def _with_key(content: bytes, message: str) -> str:
    """The message of msgspec with the key in place of `[...]`, which msgspec writes for every key of a dictionary."""
    match = re.search(r"`\$\.(\w+)\[\.\.\.\]", message)
    if match is None:
        return message
    raw: dict[str, Any] = msgspec.json.decode(content)
    table = cast("dict[str, Any]", raw[match[1]])
    for key, value in table.items():
        try:
            msgspec.convert({**raw, match[1]: {key: value}}, Manifest)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return message.replace("[...]", f"[{key!r}]", 1)
    return message
