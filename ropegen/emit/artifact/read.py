"""Loading an artifact: `load` checks every hash and gives the `Artifact` that runs."""

from __future__ import annotations

import functools
import hashlib
import itertools
import struct
import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import jax
from jax import export as jax_export
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from ropegen.emit.artifact import executables, manifest, portable
from ropegen.emit.artifact.check import Check, check
from ropegen.emit.artifact.manifest import GRAPH, MANIFEST, Manifest
from ropegen.emit.inputs import check_inputs, expect_keywords
from ropegen.emit.module import stablehlo
from ropegen.emit.own_part import inside_shard_map, with_own_part
from ropegen.errors import RopegenError
from ropegen.ir import text
from ropegen.ir.graph import Graph
from ropegen.target import host_device, host_devices, host_platform
from ropegen.types import TensorType


class Artifact:
    """An artifact on disk: call it with the graph's inputs by keyword.

    A graph with one output gives that output, a graph with several gives a dictionary by name. A device executable of
    the artifact runs if it was compiled for this chip by the compiler build of this runtime. Otherwise the StableHLO is
    compiled, with a warning if there is an executable for this platform. A call that JAX traces always takes the
    StableHLO, because it becomes a part of a larger program.

    An artifact for several devices takes whole arrays, and brings those that JAX does not trace to the devices. It holds
    the forward pass alone.

    `manifest` says what the artifact is, in typed fields; `manifest.data()` gives the same as plain dictionaries.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self.manifest = manifest
        self._inputs = {label: entry.type for label, entry in manifest.inputs.items()}
        self._programs = {stage: _deserialized(directory / f"{stage}.jaxexport") for stage in manifest.stages.by_name}
        self._check_calls()
        self._compiled = {
            stage: jax.jit(_without_derivative(program.call)) for stage, program in self._programs.items()
        }
        self._has_warned = False

    # Nothing in it changes, so a copy would only compile again.
    def __copy__(self) -> Artifact:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Artifact:
        return self

    # Programs that JAX compiled cannot leave the process, so a pickle holds the directory and the hashes of its files.
    def __reduce__(self) -> tuple[Callable[[Path, dict[str, str]], Artifact], tuple[Path, dict[str, str]]]:
        return _load_again, (self.directory.resolve(), dict(self.manifest.files))

    def __repr__(self) -> str:
        devices = "" if self.devices == 1 else f", on {self.devices} devices"
        return f"<artifact {self.manifest.graph.name} for {', '.join(self.targets)}{devices}>"

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
                f"libtpu {entry.libtpu}, {entry.build}",
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
                loaded = executables.load(self.directory, entry, device)
                if isinstance(loaded, str):
                    unused[target] = loaded
                else:
                    programs = loaded
        return programs, unused

    def _stage(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Runs a stage: the executable of this device if there is one, else the StableHLO."""
        arguments = {label: values[label] for label in self.manifest.stages.by_name[name].arguments}
        if self.manifest.executables and not any(isinstance(value, Tracer) for value in arguments.values()):
            programs, _ = self._device_programs
            if name in programs:
                return programs[name](values)
            self._warn_of_unused()
        return self._compiled[name](self._placed(arguments))

    def _placed(self, arguments: dict[str, Any]) -> dict[str, Any]:
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
        return jax.device_put(arguments, {label: lies[label] for label in arguments})

    def _warn_of_unused(self) -> None:
        """Warns once that the StableHLO is compiled although there is an executable for this platform."""
        if self._has_warned:
            return
        self._has_warned = True
        entries = self.manifest.executables
        unused = [made for made in self.executables if entries[made.target].platform == host_platform()]
        if unused:
            reasons = "; ".join(f"{made.target}: {made.unused}" for made in unused)
            warnings.warn(f"{self.directory}: compiled anew, its executables are not used ({reasons})", stacklevel=4)

    @functools.cached_property
    def graph(self) -> Graph:
        """The graph that it was built from."""
        return text.load(self.directory / GRAPH)

    def __call__(self, /, *positional: Any, **inputs: Any) -> Any:
        expect_keywords(positional, self._inputs)
        self._check_platform()
        values = check_inputs(self._inputs, inputs, self._inputs)
        if inside_shard_map():
            values = with_own_part("artifact", self.graph, values)
        return self._run(self._prepared(values), values)

    def bind(self, /, *positional: Any, **parameters: Any) -> Callable[..., Any]:
        """A function of the activations and states; what depends only on the parameters is computed once, here.

        Raises:
          RopegenError: a parameter is missing, unknown, or of another type.
        """
        expect_keywords(positional, self.graph.labels("parameter"))
        self._check_platform()
        known = {label: entry.type for label, entry in self.manifest.inputs.items() if entry.role == "parameter"}
        values = _committed(check_inputs(known, parameters, self._inputs))
        prepared = self._prepared(values)
        others = {label: kind for label, kind in self._inputs.items() if label not in known}
        return functools.partial(self._call_bound, prepared, values, others)

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
        return self._run(prepared, {**values, **check_inputs(others, inputs, others)})

    def check(self, seed: int = 0) -> Check:
        """Runs the artifact on drawn inputs and compares it with the oracle: see `ropegen.emit.artifact.check`.

        It runs the program of this machine's platform, and on the same device the files for consumers without JAX,
        which hold the plain formulas: `module.mlirbc` and `semantic.mlir`. Kernels for other platforms do not run here.

        Raises:
          RopegenError: `seed` is not a whole number from 0 on.
        """
        labels = tuple(self.manifest.outputs)

        def own(**inputs: Any) -> Mapping[str, Any]:
            results = self(**inputs)
            return {labels[0]: results} if len(labels) == 1 else results

        files = portable.programs(self.directory, self.manifest, self.graph)
        return check(self.graph, itertools.chain([("module.jaxexport", own)], files), seed)

    def _check_platform(self) -> None:
        platform = host_platform()
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

    def _check_calls(self) -> None:
        for stage, program in self._programs.items():
            calls = stablehlo.custom_calls(program.mlir_module_serialized)
            unlisted = [call for call in calls if call not in self.manifest.custom_calls]
            if unlisted:
                raise RopegenError(
                    f"{self.directory / stage}.jaxexport calls {', '.join(unlisted)}, which {MANIFEST} does not list; the "
                    "files are of two artifacts: build it again"
                )

    def _prepared(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return self._stage("prepare", values) if "prepare" in self._compiled else {}

    def _run(self, prepared: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        results = self._stage("module", {**values, **prepared})
        if len(results) == 1:
            return next(iter(results.values()))
        return {label: results[label] for label in self.manifest.outputs}


def _without_derivative(program: Callable[..., Any]) -> Callable[..., Any]:
    """The program, which refuses to be differentiated in words of ropegen."""
    forward = jax.custom_jvp(program)

    @forward.defjvp
    def refuse(primals: Any, tangents: Any) -> Any:  # pyright: ignore[reportUnusedFunction]
        raise RopegenError(
            "an artifact holds the forward pass alone, and its derivative was asked for; differentiate "
            "`rg.plan(artifact.graph, target).compile()`, which computes the same"
        )

    return forward


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


def _load_again(directory: Path, files: Mapping[str, str]) -> Artifact:
    """The artifact that was pickled, from its directory.

    Raises:
      RopegenError: `load` raises it, or the directory now holds another artifact.
    """
    artifact = load(directory)
    if artifact.manifest.files != files:
        raise RopegenError(
            f"{directory} holds another artifact than the one that was pickled; load it with ropegen.load, and pickle that"
        )
    return artifact


def load(directory: str | PathLike[str]) -> Artifact:
    """An artifact from its directory.

    Raises:
      RopegenError: the directory is not there or is not an artifact, the format is newer, or a file is missing or
        damaged.
    """
    folder = Path(directory)
    stated = manifest.read(folder)
    for name, digest in stated.files.items():
        path = folder / name
        try:
            content = path.read_bytes()
        except OSError as error:
            raise RopegenError(
                f"the artifact {folder} has lost its file {name} ({error.strerror}); build it again"
            ) from error
        actual = hashlib.sha256(content).hexdigest()
        if actual != digest:
            raise RopegenError(
                f"{path} is damaged: its sha256 is {actual[:12]}..., the manifest says {digest[:12]}...; build the artifact again"
            )
    return Artifact(folder, stated)


def _deserialized(path: Path) -> jax_export.Exported:
    try:
        return jax_export.deserialize(bytearray(path.read_bytes()))
    # The hash is right, so this jax does not know the format. It can then fail in any of these ways.
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        NotImplementedError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise RopegenError(
            f"jax {jax.__version__} does not read {path} ({error}); build the artifact again, or run it with the jax "
            f"that {MANIFEST} names"
        ) from error
