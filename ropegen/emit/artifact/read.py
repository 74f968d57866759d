"""Loading an artifact: `load` holds every file against the manifest and gives the `Artifact` that runs."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, cast

import jax
from jax import export as jax_export
from jax.core import Tracer
from jax.custom_batching import sequential_vmap
from jax.extend.mlir import ir
from jax.sharding import NamedSharding, PartitionSpec

from ropegen.emit.artifact import capability, executables, manifest, native, portable, program, signature
from ropegen.emit.artifact.check import Check, check, check_gradients
from ropegen.emit.artifact.content import content_of, decoded, expect_digest
from ropegen.emit.artifact.derivative import Derivative, differentiable, first_alone
from ropegen.emit.artifact.manifest import GRAPH, Manifest
from ropegen.emit.callable import cotangent_label
from ropegen.emit.inputs import check_inputs, expect_keywords, expect_places, expect_room, places, rooms
from ropegen.emit.own_part import inside_shard_map, with_own_part
from ropegen.errors import RopegenError
from ropegen.ir import ops, text
from ropegen.ir.graph import Graph
from ropegen.target import host_device, host_devices, host_platform
from ropegen.types import TensorType

T = TypeVar("T")

# How often a directory is read again that is replaced while it is read.
_ATTEMPTS = 100

Keys = str | PathLike[str] | Iterable[str | PathLike[str]] | None


class Artifact:
    """An artifact on disk: call it with the graph's inputs by keyword.

    A graph with one output gives that output, a graph with several gives a dictionary by name. A device executable of
    the artifact runs if it was compiled for this chip by the compiler build of this runtime. Otherwise the StableHLO is
    compiled, with a warning if there is an executable for this platform. A call that JAX traces takes no executable,
    because it becomes a part of a larger program.

    If its kernels are for another GPU than this machine's, XLA computes what they would, with a warning; see
    `ropegen.emit.artifact.capability`.

    If the plan for CPU has native kernels, they are compiled here, see `ropegen.emit.artifact.native`. Where that is not
    possible, the StableHLO runs, with a warning that says why. `runs` says which it is.

    If the artifact was built with its gradient, `jax.grad` and `jax.vjp` take a call; see
    `ropegen.emit.artifact.derivative`. The backward pass computes the outputs again. `vmap` runs one call after another.

    An artifact for several devices takes whole arrays, and brings those that JAX does not trace to the devices. It holds
    the forward pass alone.

    `manifest` says what the artifact is, in typed fields; `manifest.data()` gives the same as plain dictionaries.
    """

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        graph: Graph,
        programs: Mapping[str, jax_export.Exported],
        allow: tuple[str, ...] = (),
        *,
        runs_objects: bool = False,
    ) -> None:
        self.directory = directory
        self.manifest = manifest
        self.graph = graph
        """The graph that it was built from."""
        self._allow = allow
        self._inputs = {label: entry.type for label, entry in manifest.inputs.items()}
        self._rooms = rooms(graph)
        self._places = places(graph)
        self._compiled = {stage: _jitted(program) for stage, program in programs.items()}
        self._derivative = Derivative(
            self._gradient if "gradient" in programs else None,
            self.results,
            self._without_gradient(),
        )
        self._traced = differentiable(self.outputs, self._derivative)
        self._has_warned = False
        self._runs_objects = runs_objects

    # Nothing in it changes, so a copy would only compile again.
    def __copy__(self) -> Artifact:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Artifact:
        return self

    # Programs that JAX compiled cannot leave the process, so a pickle holds the directory and the hashes of its files.
    def __reduce__(self) -> tuple[Callable[..., Artifact], tuple[Path, dict[str, str], tuple[str, ...], bool]]:
        return _load_again, (self.directory.resolve(), dict(self.manifest.files), self._allow, self._runs_objects)

    # Files of equal hashes compute the same, so two artifacts that hold them are one static value to `jit`.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Artifact) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @functools.cached_property
    def _identity(self) -> tuple[frozenset[tuple[str, str]], tuple[str, ...], bool]:
        return frozenset(self.manifest.files.items()), self._allow, self._runs_objects

    def __repr__(self) -> str:
        devices = "" if self.devices == 1 else f", on {self.devices} devices"
        return f"<artifact {self.manifest.graph.name} for {', '.join(self.targets)}{devices}>"

    @property
    def parameters(self) -> dict[str, TensorType]:
        """The types of the weights by label, those that `bind` prepares."""
        return {label: entry.type for label, entry in self.manifest.inputs.items() if entry.role == "parameter"}

    @property
    def arguments(self) -> dict[str, TensorType]:
        """The types of the other inputs by label: activations and states."""
        return {label: entry.type for label, entry in self.manifest.inputs.items() if entry.role != "parameter"}

    @property
    def results(self) -> dict[str, TensorType]:
        """The types of the outputs by label."""
        return {label: entry.type for label, entry in self.manifest.outputs.items()}

    @property
    def devices(self) -> int:
        """The number of devices that a call runs on."""
        return 1 if self.manifest.devices is None else self.manifest.devices.count

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets that it was built for."""
        return tuple(self.manifest.plans)

    @property
    def executables(self) -> tuple[executables.Executable, ...]:
        """The device executables, and for each target the reason why this machine does not use them."""
        return tuple(
            executables.Executable(
                target,
                tuple(stage.file for stage in entry.stages.by_name.values()),
                entry.made_by,
                self._device_programs[1].get(target, ""),
            )
            for target, entry in self.manifest.executables.items()
        )

    @functools.cached_property
    def _device_programs(self) -> tuple[dict[str, executables.Program], dict[str, str]]:
        """The programs of this machine's device by stage (none if no executable fits), and why the others do not fit."""
        device = host_device()
        programs: dict[str, executables.Program] = {}
        unused: dict[str, str] = {}
        for target, entry in self.manifest.executables.items():
            if entry.platform != host_platform():
                unused[target] = f"this machine runs {host_platform()}"
            elif programs:
                unused[target] = "another one is used"
            else:
                loaded = executables.load(self._content, entry, device)
                if isinstance(loaded, str):
                    unused[target] = loaded
                else:
                    programs = loaded
        return programs, unused

    @functools.cached_property
    def _instead(self) -> capability.Instead | None:
        return capability.instead(self.manifest, self.graph, self.directory)

    @functools.cached_property
    def _native(self) -> native.Native:
        return native.load(self.directory, self._content, self.manifest, self.graph, trusted=self._runs_objects)

    @property
    def runs(self) -> str:
        """What a call runs on this machine, in words: an executable, native kernels, or the StableHLO and why."""
        if self._instead is not None:
            return self._instead.why
        if host_platform() == "cpu" and self.manifest.native:
            unused = "".join(f"; no native kernels for {name}: {why}" for name, why in self._native.unused.items())
            return f"{self._native.what}{unused}"
        used = [made.target for made in self.executables if not made.unused]
        return f"the executable for {used[0]}" if used else "StableHLO"

    def _stage(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Runs a stage: the executable of this device or native kernels if there are any, else the StableHLO."""
        arguments = {label: values[label] for label in self.manifest.stages.by_name[name].arguments}
        if self.manifest.executables and not any(isinstance(value, Tracer) for value in arguments.values()):
            programs, _ = self._device_programs
            if name in programs:
                return programs[name](values)
            self._warn_of_unused()
        if self.manifest.native and self.manifest.devices is None and host_platform() == "cpu":
            if name in self._native.programs:
                return self._native.programs[name](_committed(arguments))
            self._warn_of_unused()
        return self._exported(name, arguments)

    def _gradient(self, values: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
        """The wanted cotangents of inputs, from the inputs and the cotangents of the outputs."""
        return self._pulled(_committed(values), wanted)

    @functools.cached_property
    def _pulled(self) -> Callable[[dict[str, Any], tuple[str, ...]], dict[str, Any]]:
        """The gradient, jitted for every choice of wanted inputs, so that XLA leaves out what nobody wants."""

        def some(values: dict[str, Any], wanted: tuple[str, ...]) -> dict[str, Any]:
            pulled = first_alone(functools.partial(self._stage, "gradient"))(values)
            return {label: pulled[label] for label in wanted}

        return jax.jit(some, static_argnums=1)

    def _without_gradient(self) -> str:
        """Why a derivative is refused, if the artifact does not hold its gradient."""
        if self.devices > 1:
            return (
                "an artifact for several devices holds the forward pass alone, and its derivative was asked for; "
                "differentiate `rg.plan(artifact.graph, target).compile(sharding=...)`, which computes the same"
            )
        return (
            "this artifact holds the forward pass alone, and its derivative was asked for; build it with its gradient "
            "(`ropegen build --grad`, or ropegen.export with grad=True), or differentiate "
            "`rg.plan(artifact.graph, target).compile()`, which computes the same. If no derivative is wanted, give the call "
            "jax.lax.stop_gradient of its inputs"
        )

    def _exported(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Runs the StableHLO of a stage, or what takes its place on a GPU that its kernels are not for."""
        if self._instead is not None:
            self._warn_of_unused()
            return self._instead.programs[name](arguments)
        try:
            return self._compiled[name](self._placed(arguments))
        except (jax.errors.JaxRuntimeError, ir.MLIRError) as error:
            raise RopegenError(
                f"{self.directory / name}.jaxexport does not run on {host_platform()}: {str(error).partition(chr(10))[0]}"
            ) from error

    def _placed(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """The arguments of a stage where it reads them; those that JAX traces stay as they are."""
        stated = self.manifest.devices
        if stated is None:
            return _committed(arguments)
        if any(isinstance(value, Tracer) for value in arguments.values()):
            return arguments
        mesh = jax.make_mesh(
            tuple(stated.mesh.values()), tuple(stated.mesh), axis_types=(jax.sharding.AxisType.Auto,) * len(stated.mesh)
        )
        lies = {
            label: NamedSharding(mesh, PartitionSpec(*(axes or None for axes in its)))
            for label, its in stated.inputs.items()
        }
        return jax.device_put(dict(arguments), {label: lies[label] for label in arguments})

    def _content(self, name: str) -> bytes:
        """The content of a file, which must be what it was when the artifact was loaded."""
        return content_of(self.directory / name, self.manifest.files[name])

    def _warn_of_unused(self) -> None:
        """Warns once that a call takes another way than the artifact has for this platform: the StableHLO, or the plan
        for any GPU.
        """
        if self._has_warned:
            return
        self._has_warned = True
        if self._instead is not None:
            warnings.warn(self._instead.why, stacklevel=4)
        if self.manifest.native and host_platform() == "cpu" and not self._native.programs:
            warnings.warn(f"{self.directory} runs {self.runs}", stacklevel=4)
        entries = self.manifest.executables
        unused = [made for made in self.executables if entries[made.target].platform == host_platform()]
        if unused:
            reasons = "; ".join(f"{made.target}: {made.unused}" for made in unused)
            warnings.warn(f"{self.directory}: compiled anew, its executables are not used ({reasons})", stacklevel=4)

    def __call__(self, /, *positional: Any, **inputs: Any) -> Any:
        expect_keywords(positional, self._inputs)
        self._check_platform()
        values = check_inputs(self._inputs, inputs, self._inputs)
        expect_room(self._rooms, inputs)
        expect_places(self._places, inputs)
        if inside_shard_map():
            values = with_own_part("artifact", self.graph, values)
        return self._run(self.prepared(values), values)

    def bind(self, /, *positional: Any, **parameters: Any) -> Callable[..., Any]:
        """A function of the activations and states; what depends only on the parameters is computed once, here.

        Raises:
          RopegenError: a parameter is missing, unknown, or of another type.
        """
        expect_keywords(positional, self.parameters)
        self._check_platform()
        values = _committed(check_inputs(self.parameters, parameters, self._inputs))
        return functools.partial(self._call_bound, self.prepared(values), values, self.arguments)

    def _call_bound(
        self,
        prepared: Mapping[str, Any],
        values: Mapping[str, Any],
        others: Mapping[str, TensorType],
        /,
        *positional: Any,
        **inputs: Any,
    ) -> Any:
        expect_keywords(positional, others)
        expect_room(self._rooms, inputs)
        expect_places(self._places, inputs)
        return self._run(prepared, {**values, **check_inputs(others, inputs, others)})

    def check(self, seed: int = 0) -> Check:
        """Runs the artifact on drawn inputs and compares it with the oracle: see `ropegen.emit.artifact.check`.

        It runs the program of this machine's platform, and on the same device the files for consumers without JAX,
        which hold the plain formulas: `module.mlirbc` and `semantic.mlir`. Kernels for other platforms do not run here.
        The gradient, if there is one, is compared with differences of the oracle, which evaluate it twice for every
        floating input.

        Raises:
          RopegenError: `seed` is not a whole number from 0 on.
        """
        labels = tuple(self.manifest.outputs)

        def own(**inputs: Any) -> Mapping[str, Any]:
            results = self(**inputs)
            return {labels[0]: results} if len(labels) == 1 else results

        def exported(**inputs: Any) -> Mapping[str, Any]:
            values = check_inputs(self._inputs, inputs, self._inputs)
            for name, stage in self.manifest.stages.of_a_call.items():
                values = {**values, **self._exported(name, {label: values[label] for label in stage.arguments})}
            return {label: values[label] for label in labels}

        programs = [("module.jaxexport", own)]
        if self.manifest.native and host_platform() == "cpu" and self._native.programs:
            programs = [("native kernels", own), ("module.jaxexport", exported)]
        files = portable.programs(self.directory, self._content, self.manifest, self.graph)
        forward = check(self.graph, itertools.chain(programs, files), seed)
        if self._derivative.gradient is None:
            return forward
        gradients = check_gradients(
            self.graph, [(programs[0][0].replace("module", "gradient"), self._own_gradient)], forward, seed
        )
        return Check((*forward.outputs, *gradients.outputs))

    def _own_gradient(self, inputs: Mapping[str, Any], cotangents: Mapping[str, Any]) -> dict[str, Any]:
        """The cotangents of the inputs, by the program of a call's gradient on this machine."""
        values = check_inputs(self._inputs, inputs, self._inputs)
        values |= {cotangent_label(label): jax.numpy.asarray(given) for label, given in cotangents.items()}
        wanted = self.manifest.stages.gradient
        assert wanted is not None  # a check of the gradient comes after it
        return self._gradient(values, tuple(sorted(wanted.results)))

    def _check_platform(self) -> None:
        platform = host_platform()
        if platform == "cuda" and manifest.MOSAIC_GPU in self.manifest.custom_calls:
            capability.find_runtime()
        if platform not in self.manifest.platforms:
            raise RopegenError(
                f"this program runs on {platform} and the artifact holds {', '.join(self.manifest.platforms)}; build it "
                f"with a target for {platform}, or choose one of those with JAX_PLATFORMS"
            )
        if (there := host_devices()) < self.devices and self.manifest.devices is not None:
            axes = ", ".join(f"{axis}={size}" for axis, size in self.manifest.devices.mesh.items())
            raise RopegenError(
                f"{self.directory} runs on {self.devices} devices (a mesh of {axes}), and this program has {there}; start it "
                "with that many, or build the artifact for fewer"
            )

    def prepared(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values, by name, that are computed once from parameters (by label), and that `outputs` reads."""
        if "prepare" not in self._compiled:
            return {}
        # The gradient of a call contains that of the values prepared for it.
        return self._stage("prepare", {label: _still(value) for label, value in values.items()})

    def outputs(self, values: Mapping[str, Any], prepared: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs of a call by name, without its checks: from its inputs by label, and the prepared values."""
        return self._stage("module", {**values, **prepared})

    def _run(self, prepared: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        is_traced = any(isinstance(value, Tracer) for value in values.values())
        results = (self._traced if is_traced else self.outputs)({**values}, {**prepared})
        if len(results) == 1:
            return next(iter(results.values()))
        return {label: results[label] for label in self.manifest.outputs}


def _jitted(program: jax_export.Exported) -> Callable[..., Any]:
    """A program for `jit` and `vmap`, which takes one entry of a batch after the other.

    The function is not what `sequential_vmap` makes but calls it: JAX's caches know that by itself, with a reference to
    itself, and so would keep it, and what was compiled for it, after the last reference of the artifact is gone.
    """

    def call(*arguments: Any) -> Any:
        return sequential_vmap(program.call)(*arguments)

    return jax.jit(call)


def _still(value: Any) -> Any:
    """The value, without a derivative if JAX traces it."""
    return jax.lax.stop_gradient(value) if isinstance(value, Tracer) else value


def _committed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays of a call, all committed to the one device that they are on.

    The results of an exported program are committed to their device. If they come back as inputs, as a cache does,
    `jax.jit` would compile once more, for committed inputs. Arrays that are traced or on several devices stay as they
    are.
    """
    arrays = {label: value for label, value in values.items() if isinstance(value, jax.Array)}
    loose = {label: array for label, array in arrays.items() if not isinstance(array, Tracer) and not array.committed}
    if not loose or any(isinstance(array, Tracer) for array in arrays.values()):
        return dict(values)
    decisive = [array for label, array in arrays.items() if label not in loose] or list(loose.values())
    devices = {device for array in decisive for device in array.sharding.device_set}
    if len(devices) != 1:
        return dict(values)
    (device,) = devices
    return {**values, **jax.device_put(loose, device)}


def _load_again(directory: Path, files: Mapping[str, str], allow: tuple[str, ...], objects: bool) -> Artifact:
    """The artifact that was pickled, from its directory.

    Raises:
      RopegenError: `load` raises it, or the directory now holds another artifact.
    """
    artifact = load(directory, allow=allow, objects=objects)
    if artifact.manifest.files != files:
        raise RopegenError(
            f"{directory} holds another artifact than the one that was pickled; load it with ropegen.load, and pickle that"
        )
    return artifact


def load(
    directory: str | PathLike[str], *, allow: Iterable[str] = (), keys: Keys = None, objects: bool = False
) -> Artifact:
    """An artifact from its directory.

    What it trusts: without `keys`, nothing that the files say. Every hash is checked, the manifest must fit its schema,
    the graph and the programs, and bytecode is read by another process. A program may use the custom calls that
    ropegen's templates emit, and those whose targets are in `allow`. But a program is a program: whoever made the
    artifact decides what it computes and how long, and kernels for TPU and GPU are code of those devices that is not
    looked into. The hashes do not say who made it. With `keys`, it must be signed.

    `keys` are one or several files with public keys of Ed25519, in PEM or as OpenSSH writes them. The artifact must
    have a signature by one of them, see `ropegen.emit.artifact.signature`; then no other process reads the bytecode.

    With `objects` or `keys`, native kernels that were compiled ahead of time run as they are. They are machine code and
    can do whatever this process can do. Without both, they are compiled here, from the graph.

    Raises:
      RopegenError: the directory is not there or is not an artifact, the format is newer, a file is missing, damaged or
        of another artifact, a program has a custom call that is not allowed, or no key of `keys` signed the artifact.
    """
    folder = Path(directory)
    allowed = _names(allow)
    trusted = None if keys is None else signature.read_keys(keys)
    return while_whole(folder, lambda: _load(folder, allowed, trusted, objects or trusted is not None))


def sign(directory: str | PathLike[str], key: str | PathLike[str]) -> str:
    """Signs the artifact in a directory with the private key of Ed25519 in a file; returns the public key.

    The signature is beside those that are there. A later build into the directory removes them all.

    Raises:
      RopegenError: `load` raises it; the file holds no such key; or the directory cannot be written.
    """
    folder = Path(directory)

    def vouch() -> str:
        load(folder)  # nobody should vouch for damage
        _, content = manifest.read(folder)
        return signature.sign(folder, content, Path(key))

    return while_whole(folder, vouch)


def while_whole(folder: Path, read: Callable[[], T]) -> T:
    """The result of `read`, which reads a directory that another process may replace. If the directory is another one
    after an error than it was before, it is read again, so that no error comes from files of two artifacts.
    """
    for _ in range(_ATTEMPTS):
        before = _identity(folder)
        try:
            return read()
        except RopegenError:
            if _identity(folder) == before:
                raise
    raise RopegenError(f"{folder} changes all the time; wait until the artifact is built")


def _identity(folder: Path) -> tuple[int, ...] | None:
    """What differs between a directory and the one that replaces it; None if there is none."""
    try:
        about = folder.stat()
    except OSError:
        return None
    return about.st_dev, about.st_ino, about.st_mtime_ns


def _load(folder: Path, allow: tuple[str, ...], keys: signature.PublicKeys | None, objects: bool) -> Artifact:
    try:
        stated, content = manifest.read(folder)
        if keys is not None:
            signature.verify(folder, content, keys)
        needed = {GRAPH, *(f"{stage}.jaxexport" for stage in stated.stages.by_name)}
        files: dict[str, bytes] = {}
        for name, digest in stated.files.items():
            if name in needed:
                files[name] = content_of(folder / name, digest)
            else:
                expect_digest(folder / name, digest)
    except OSError as error:
        raise RopegenError(f"cannot read {error.filename or folder}: {error.strerror or error}") from error
    return assembled(folder, stated, files, allow=allow, trusted=keys is not None, objects=objects)


def assembled(
    folder: Path,
    stated: Manifest,
    files: Mapping[str, bytes],
    *,
    allow: tuple[str, ...] = (),
    trusted: bool,
    objects: bool = False,
) -> Artifact:
    """The artifact of a manifest and the content of its files. See `program.read` for what `trusted` means.

    With `objects`, it runs its object files.

    Raises:
      RopegenError: the graph, the programs and the manifest do not fit each other.
    """
    graph = text.loads(decoded(files[GRAPH], folder / GRAPH), str(folder / GRAPH))
    _expect_graph(folder, stated, graph)
    types = {label: entry.type for label, entry in stated.inputs.items()}
    outputs = {label: entry.type for label, entry in stated.outputs.items()}
    cotangents = {cotangent_label(label): kind for label, kind in outputs.items() if kind.is_float}
    programs: dict[str, jax_export.Exported] = {}
    for name, stage in stated.stages.by_name.items():
        wanted = program.Signature(
            {label: cotangents[label] if label in cotangents else types[label] for label in stage.arguments},
            stage.results,
            stated.platforms,
            stage.calling_convention,
            stated.custom_calls.keys(),
            1 if stated.devices is None else stated.devices.count,
        )
        programs[name] = program.read(
            files[f"{name}.jaxexport"], folder / f"{name}.jaxexport", wanted,
            name=graph.name, graph_digest=stated.graph.digest, allow=allow, trusted=trusted,
        )  # fmt: skip
        made = program.result_types(programs[name], stage.results)
        if name == "prepare":
            types |= made
        elif made != (expected := outputs if name == "module" else {label: types[label] for label in stage.results}):
            raise _of_two(folder / f"{name}.jaxexport", "returns", made, expected)
    return Artifact(folder, stated, graph, programs, allow=allow, runs_objects=objects)


def _expect_graph(folder: Path, stated: Manifest, graph: Graph) -> None:
    """Refuses a manifest whose inputs or outputs are not the graph's. The passes may have dropped inputs."""
    path = folder / GRAPH
    if graph.name != stated.graph.name:
        raise _of_two(path, "is named", {"graph": graph.name}, {"graph": stated.graph.name})
    roles = {value.op.label: (value.type, value.op.role) for value in graph.inputs if isinstance(value.op, ops.Input)}
    inputs = {label: (entry.type, entry.role) for label, entry in stated.inputs.items()}
    there = {label: entry for label, entry in roles.items() if label in inputs}
    if there != inputs:
        raise _of_two(path, "reads", there, inputs)
    made = {label: value.type for label, value in graph.outputs}
    outputs = {label: entry.type for label, entry in stated.outputs.items()}
    if made != outputs:
        raise _of_two(path, "returns", made, outputs)


def _of_two(path: Path, verb: str, own: Mapping[str, object], said: Mapping[str, object]) -> RopegenError:
    """The error for a file that does not fit the manifest; it shows where they differ."""
    label = next(label for label in [*own, *said] if own.get(label) != said.get(label))
    return RopegenError(
        f"{path} {verb} {_shown(label, own)}, and {manifest.MANIFEST} says {_shown(label, said)}; the files are of two "
        "artifacts: build it again"
    )


def _shown(label: str, entries: Mapping[str, object]) -> str:
    if label not in entries:
        return f"no {label}"
    entry = entries[label]
    return f"{label} = {', '.join(map(str, cast('tuple[object, ...]', entry))) if isinstance(entry, tuple) else entry}"


def _names(allow: object) -> tuple[str, ...]:
    """The names of custom calls that a caller allows."""
    names = (
        tuple(cast("Iterable[object]", allow)) if isinstance(allow, Iterable) and not isinstance(allow, str) else None
    )
    if names is None or not all(isinstance(name, str) for name in names):
        raise RopegenError(f"load: allow is {allow!r:.60}; give the targets of custom calls, such as ('my_call',)")
    return cast("tuple[str, ...]", names)
