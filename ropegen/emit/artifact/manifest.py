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
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

import msgspec
from msgspec import Meta, Struct

from ropegen.emit.callable import cotangent_label
from ropegen.errors import RopegenError, nearest
from ropegen.ir.ops import ROLES
from ropegen.target import JAX_PLATFORM, UnitName
from ropegen.types import TensorType

FORMAT = 1
MANIFEST = "manifest.json"
GRAPH = "graph.mlir"
PLANS = "plan.txt"
TILES = "tiles.json"
SIGNATURES = "manifest.sig"
# The custom call of kernels for GPU, which are code for one compute capability.
MOSAIC_GPU = "mosaic_gpu_v2"

# A manifest has a few kilobytes for every hundred inputs.
_MOST_BYTES = 2**24

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
    """The programs of an artifact: `prepare`, where parameters are prepared once, `module`, and `gradient`.

    The gradient is that of a whole call: from the inputs and the cotangents of the floating outputs, it computes the
    cotangents of the floating inputs.
    """

    prepare: StageT | None = None
    module: StageT
    gradient: StageT | None = None

    @property
    def by_name(self) -> dict[str, StageT]:
        """The stages that are there, in the order in which they run."""
        return {**self.of_a_call, **({} if self.gradient is None else {"gradient": self.gradient})}

    @property
    def of_a_call(self) -> dict[str, StageT]:
        """The stages that compute the outputs."""
        return {**({} if self.prepare is None else {"prepare": self.prepare}), "module": self.module}


class ExecutableEntry(Entry, frozen=True, kw_only=True):
    """The executables of one target: the device and the compiler that they are for, and the digest of their plan.

    `build` names what the runtime must match: for TPU the build of libtpu, whose version is `libtpu`, and for CUDA the
    package of XLA's plug-in with its version.
    """

    platform: str
    device_kind: str
    topology: str
    libtpu: str | None = None
    build: str
    jax: str
    plan: str
    stages: Stages[ExecutableStage]

    def __post_init__(self) -> None:
        if (self.libtpu is None) != (self.platform == "cuda"):
            raise ValueError("`executables` must state `libtpu` for every platform but cuda")

    @property
    def made_by(self) -> str:
        """The compiler and its build."""
        return self.build if self.libtpu is None else f"libtpu {self.libtpu}, {self.build}"


class NativeObjects(Entry, frozen=True, kw_only=True):
    """Native kernels compiled ahead of time: the vector unit, the kernels, and the programs that call them.

    The object file of a kernel is `KERNEL.UNIT.o`.
    """

    unit: UnitName
    kernels: tuple[str, ...]
    llvmlite: str  # the version that compiled them
    programs: dict[str, str]  # the file with the exported module of a stage

    @property
    def files(self) -> tuple[str, ...]:
        """The object files, in the order of the kernels."""
        return tuple(f"{kernel}.{self.unit}.o" for kernel in self.kernels)


class KernelsEntry(Entry, frozen=True, kw_only=True):
    """A plan with kernels that do not run everywhere: their templates, and what `plan` was given."""

    templates: tuple[str, ...]
    weighed: tuple[Literal["forward", "tangent", "backward"], ...]
    tile: dict[str, dict[str, Annotated[int, Meta(ge=1)]]] = {}
    tables: Literal["constant", "argument", "computed"] | None = None


class NativeEntry(KernelsEntry, frozen=True, kw_only=True):
    """A plan for CPU with kernels that are not in the modules."""

    unit: UnitName | None = None  # the vector unit that the target names
    objects: NativeObjects | None = None


class CapabilityEntry(KernelsEntry, frozen=True, kw_only=True):
    """A plan for GPU with kernels in the modules that run on one compute capability, such as sm90."""

    capability: str


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
    native: dict[str, NativeEntry] = {}  # by target
    capabilities: dict[str, CapabilityEntry] = {}  # by target
    devices: Devices | None = None  # None for one device
    tiles: str | None = None  # the file with the measured tiles that `plan` was given

    def __post_init__(self) -> None:
        for name in self.files:
            if Path(name).name != name or name in ("", "..", MANIFEST, SIGNATURES) or "\0" in name:
                raise ValueError(f"`files` must list plain file names, and it lists {name!r}")
        self._expect_files()
        if self.graph.digest != self.files[GRAPH]:
            raise ValueError(f"the digest of `graph` must be the hash of {GRAPH}: the graph is of another artifact")
        # Only the platforms of the targets are read: a newer ropegen may know more chips.
        built_for = {JAX_PLATFORM.get(target.partition(":")[0], target) for target in self.plans}
        if not self.plans or built_for != {*self.platforms} or len(built_for) < len(self.platforms):
            raise ValueError(
                f"`platforms` must be those of the targets in `plans`, and it lists {', '.join(self.platforms)}"
            )
        if other := sorted(self.executables.keys() - self.plans.keys()):
            raise ValueError(f"`executables` must be of targets in `plans`, and it has {', '.join(other)}")
        if other := sorted(name for name in self.native if name not in self.plans or not name.startswith("cpu")):
            raise ValueError(f"`native` must be of targets for CPU in `plans`, and it has {', '.join(other)}")
        if other := sorted(name for name in self.capabilities if name not in self.plans or not name.startswith("gpu")):
            raise ValueError(f"`capabilities` must be of targets for GPU in `plans`, and it has {', '.join(other)}")
        if MOSAIC_GPU in self.custom_calls and not self.capabilities:
            raise ValueError(
                f"`custom_calls` has {MOSAIC_GPU}, so `capabilities` must say which GPU its kernels are for"
            )
        self._expect_stages(self.stages)
        for entry in self.executables.values():
            self._expect_stages(entry.stages)
            if entry.stages.gradient is not None:
                raise ValueError("`executables` must be of the stages of a call, and one is of the gradient")
        self._expect_gradient()

    def _expect_stages(self, stages: Stages[Stage] | Stages[ExecutableStage]) -> None:
        """Raises a ValueError unless a stage reads what there is before it, and the last one makes the outputs."""
        known = {*self.inputs}
        for name, stage in stages.of_a_call.items():
            twice = len({*stage.arguments}) < len(stage.arguments) or len({*stage.results}) < len(stage.results)
            if twice or not known.issuperset(stage.arguments):
                raise ValueError(
                    f"`arguments` of {name} must be inputs and what is prepared, and no label may stand twice"
                )
            if not known.isdisjoint(stage.results) and name == "prepare":
                raise ValueError("`results` of prepare must not have the labels of inputs")
            known |= {*stage.results}
        if {*stages.module.results} != {*self.outputs}:
            raise ValueError("`results` of module must be the outputs")

    def _expect_gradient(self) -> None:
        """Raises a ValueError unless a gradient reads all inputs and cotangents, and makes those of the inputs."""
        gradient = self.stages.gradient
        if gradient is None:
            return
        if self.devices is not None:
            raise ValueError("`gradient` must be left out with `devices`: it is for one device")
        reads = [*self.inputs, *(cotangent_label(label) for label, made in self.outputs.items() if made.type.is_float)]
        makes = [label for label, given in self.inputs.items() if given.type.is_float]
        if sorted(gradient.arguments) != sorted(reads) or sorted(gradient.results) != sorted(makes):
            raise ValueError(
                "`gradient` must read the inputs and the cotangents of the floating outputs, and make those of the floating "
                "inputs"
            )

    def _expect_files(self) -> None:
        """Raises a ValueError unless every file that the manifest names is listed."""
        needed = [GRAPH, *(f"{stage}.jaxexport" for stage in self.stages.by_name)]
        needed += [stage.file for entry in self.executables.values() for stage in entry.stages.by_name.values()]
        for entry in self.native.values():
            if entry.objects is not None:
                needed += [*entry.objects.files, *entry.objects.programs.values()]
                if set(entry.objects.programs) != set(self.stages.by_name):
                    raise ValueError("`native` must have a program for every stage")
        needed += [] if self.tiles is None else [self.tiles]
        missing = sorted(set(needed) - set(self.files))
        if missing:
            raise ValueError(f"`files` must list {', '.join(missing)}")

    def data(self) -> dict[str, Any]:
        """The manifest as JSON holds it: dictionaries, lists, text and numbers, in the order of the file."""
        return msgspec.json.decode(msgspec.json.encode(self))

    def __getitem__(self, field: str) -> Any:
        """A field of `data()`: `manifest["inputs"]`, as in the dictionary that json reads from `manifest.json`.

        Raises:
          RopegenError: there is no such field.
        """
        fields = self.data()
        if field not in fields:
            raise RopegenError(f"the manifest has no field {field!r}; {nearest(str(field), fields)}")
        return fields[field]

    def encoded(self) -> bytes:
        """The content of `manifest.json`."""
        return (json.dumps(self.data(), indent=2) + "\n").encode()


class _Format(Struct):
    """The one field that a manifest of any format has."""

    format: int


def read(folder: Path) -> tuple[Manifest, bytes]:
    """The manifest of the artifact in a directory, and the content of its file.

    Raises:
      RopegenError: there is no directory or no manifest, the manifest has a newer format, or a field is missing,
        unknown, wrong, or there twice.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise RopegenError(f"there is no directory {folder}; give the directory that `ropegen build -o` made")
    if not path.is_file():
        raise RopegenError(f"{folder} is not an artifact: it has no {MANIFEST}")
    with path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise RopegenError(f"{path} is damaged: it has more than {_MOST_BYTES} bytes; build the artifact again")
    return decoded(content, path), content


def decoded(content: bytes, path: Path) -> Manifest:
    """The manifest in the content of a file; errors name `path`.

    Raises:
      RopegenError: see `read`.
    """
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
        # It reads all of the content. msgspec stops at the first field that does not fit, and it takes surrogates.
        json.loads(content, object_pairs_hook=_expect_no_twins)
    except ValueError as error:
        raise RopegenError(f"{path} is damaged: {error}; build the artifact again") from error
    try:
        return msgspec.json.decode(content, type=Manifest)
    except msgspec.ValidationError as error:
        raise RopegenError(
            f"{path} is damaged, or a newer ropegen wrote it: {_with_key(content, str(error))}; build the artifact again"
        ) from error
    except msgspec.DecodeError as error:  # such as NaN, which Python's decoder takes
        raise RopegenError(f"{path} is damaged: {error}; build the artifact again") from error


def _expect_no_twins(pairs: list[tuple[str, object]]) -> None:
    """Raises a ValueError if a key of a JSON object stands there twice. Readers of JSON differ in which one they take."""
    counts = Counter(key for key, _ in pairs)
    if len(counts) < len(pairs):
        raise ValueError(f"the key {counts.most_common(1)[0][0]!r} stands twice in one object")


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
