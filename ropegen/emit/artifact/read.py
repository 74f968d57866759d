"""Loading an artifact: every hash checked, then a callable that runs it."""

from __future__ import annotations

import functools
import hashlib
import struct
import warnings
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import jax
from jax import export as jax_export
from jax.core import Tracer

from ropegen.emit.artifact import executables
from ropegen.emit.artifact import manifest as manifests
from ropegen.emit.artifact.check import Check, check
from ropegen.emit.artifact.manifest import MANIFEST
from ropegen.emit.inputs import check_inputs
from ropegen.emit.module import stablehlo
from ropegen.errors import RopegenError
from ropegen.ir import text
from ropegen.ir.graph import Graph
from ropegen.target import host_device, host_platform


class Artifact:
    """An artifact on disk: call it with the graph's inputs by keyword.

    The result is the output itself where the graph has one, else a dictionary by name. On a chip whose executable is
    there, made by the compiler of the same build as the runtime's, that runs; otherwise, and where it is part of a larger
    program that JAX traces, the StableHLO is compiled, with a warning where an executable for the platform stays unused.
    """

    def __init__(self, directory: Path, manifest: Mapping[str, Any]) -> None:
        self.directory = directory
        self.manifest = manifest
        self._inputs = {label: manifests.kind_of(each) for label, each in manifest["inputs"].items()}
        self._stages = {stage: _deserialized(directory / f"{stage}.jaxexport") for stage in manifest["stages"]}
        self._check_calls()
        self._compiled = {stage: jax.jit(each.call) for stage, each in self._stages.items()}
        self._said = False

    def __repr__(self) -> str:
        return f"<artifact {self.manifest['graph']['name']} for {', '.join(self.targets)}>"

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets that it was built for."""
        return tuple(self.manifest["plans"])

    @property
    def executables(self) -> tuple[executables.Executable, ...]:
        """Its device executables, and for each why this machine does not use it."""
        entries = self.manifest.get("executables", {})
        return tuple(
            executables.Executable(
                target,
                tuple(stage["file"] for stage in entry["stages"].values()),
                f"libtpu {entry['libtpu']}, {entry['build']}",
                self._device_programs[1].get(target, ""),
            )
            for target, entry in entries.items()
        )

    @functools.cached_property
    def _device_programs(self) -> tuple[dict[str, executables.Program], dict[str, str]]:
        """The programs of this machine's device by stage, none where no executable fits it; and why others do not."""
        device = host_device()
        programs: dict[str, executables.Program] = {}
        unused: dict[str, str] = {}
        for target, entry in self.manifest.get("executables", {}).items():
            if entry["platform"] != host_platform():
                unused[target] = f"this machine runs {host_platform()}"
            elif programs:
                unused[target] = "another one is used"
            else:
                found = executables.load(self.directory, entry, device)
                if isinstance(found, str):
                    unused[target] = found
                else:
                    programs = found
        return programs, unused

    def _stage(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Runs a stage: the executable of this device, else the StableHLO."""
        given = {label: values[label] for label in self.manifest["stages"][name]["arguments"]}
        if self.manifest.get("executables") and not any(isinstance(each, Tracer) for each in given.values()):
            programs, _ = self._device_programs
            if name in programs:
                return programs[name](values)
            self._say_unused()
        return self._compiled[name](given)

    def _say_unused(self) -> None:
        """Once: an executable was made for this platform, and the program is compiled all the same."""
        if self._said:
            return
        self._said = True
        entries = self.manifest["executables"]
        meant = [each for each in self.executables if entries[each.target]["platform"] == host_platform()]
        if meant:
            reasons = "; ".join(f"{each.target}: {each.unused}" for each in meant)
            warnings.warn(f"{self.directory}: compiled anew, its executables are not used ({reasons})", stacklevel=4)

    @functools.cached_property
    def graph(self) -> Graph:
        """The graph that it was built from."""
        return text.load(self.directory / "graph.mlir")

    def __call__(self, **inputs: Any) -> Any:
        self._check_platform()
        values = check_inputs(self._inputs, inputs, self._inputs)
        return self._run(self._prepared(values), values)

    def bind(self, **parameters: Any) -> Callable[..., Any]:
        """A function of the activations and states, with what depends on these parameters computed once.

        Raises:
          RopegenError: a parameter is missing, unknown, or of another type.
        """
        self._check_platform()
        roles = {label: each["role"] for label, each in self.manifest["inputs"].items()}
        known = {label: kind for label, kind in self._inputs.items() if roles[label] == "parameter"}
        given = check_inputs(known, parameters, self._inputs)
        prepared = self._prepared(given)
        others = {label: kind for label, kind in self._inputs.items() if label not in known}

        def bound(**inputs: Any) -> Any:
            return self._run(prepared, {**given, **check_inputs(others, inputs, others)})

        return bound

    def check(self, seed: int = 0) -> Check:
        """Runs the artifact on drawn inputs and compares it with the oracle: see `ropegen.emit.artifact.check`."""
        return check(self.graph, self, seed)

    def _check_platform(self) -> None:
        platform = host_platform()
        if platform not in self.manifest["platforms"]:
            raise RopegenError(
                f"this program runs on {platform} and the artifact holds {', '.join(self.manifest['platforms'])}; build it with a "
                f"target for {platform}, or choose one of those with JAX_PLATFORMS"
            )

    def _check_calls(self) -> None:
        listed = self.manifest["custom_calls"]
        for stage, module in self._stages.items():
            others = [each for each in stablehlo.custom_calls(module.mlir_module_serialized) if each not in listed]
            if others:
                raise RopegenError(
                    f"{self.directory / stage}.jaxexport calls {', '.join(others)}, which {MANIFEST} does not list; the files are of "
                    "two artifacts: build it again"
                )

    def _prepared(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return self._stage("prepare", values) if "prepare" in self._compiled else {}

    def _run(self, prepared: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        found = self._stage("module", {**values, **prepared})
        return (
            next(iter(found.values()))
            if len(found) == 1
            else {label: found[label] for label in self.manifest["outputs"]}
        )


def load(directory: str | PathLike[str]) -> Artifact:
    """An artifact from its directory.

    Raises:
      RopegenError: it is not there, is something else, is of a newer format, or a file is missing or damaged.
    """
    folder = Path(directory)
    manifest = manifests.read(folder)
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise RopegenError(f"the artifact {folder} has lost its file {name}; build it again")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != digest:
            raise RopegenError(
                f"{path} is damaged: its sha256 is {found[:12]}..., the manifest says {digest[:12]}...; build the artifact again"
            )
    return Artifact(folder, manifest)


def _deserialized(path: Path) -> jax_export.Exported:
    try:
        return jax_export.deserialize(bytearray(path.read_bytes()))
    # The hash is right, so it is the layout that is another; that fails wherever it happens to.
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
