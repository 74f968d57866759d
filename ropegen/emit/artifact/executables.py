"""Device executables of an artifact: made ahead of time, and used where the chip and the runtime are the compiler's.

An executable is what PJRT serializes: the device's program, no Python and no pickle. Its arguments are the arrays of
the stage in an order that the manifest states. PJRT trusts what it is given, so whoever loads an artifact on a chip
trusts the artifact's maker, as with any program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import jax

from ropegen.compilers import tpu
from ropegen.errors import RopegenError
from ropegen.planner import Plan

Program = Callable[[Mapping[str, Any]], dict[str, Any]]
_STAGES = {"prepare": "prepare", "module": "run"}


@dataclass(frozen=True, slots=True)
class Executable:
    """The executables of a target in an artifact, and why they are not used on this machine; "" where they are."""

    target: str
    files: tuple[str, ...]
    made_by: str
    unused: str


@dataclass(frozen=True, slots=True)
class Made:
    """What was compiled for a target: files by name, the manifest's entry, and what the compiler said of each stage."""

    plan: Plan
    files: Mapping[str, bytes]
    entry: Mapping[str, Any]
    compilation: tpu.Compilation


def split(plans: Sequence[Plan]) -> tuple[Plan, ...]:
    """The plans that the modules hold: of several for TPU, the first.

    Raises:
      RopegenError: none is for TPU, which executables are made for, or one is there twice.
    """
    chips = [str(each.target) for each in plans if each.target.platform == "tpu"]
    if not chips:
        raise RopegenError("device executables are made for TPU, and no TPU is named; add e.g. --target tpu:v5e")
    if len(set(chips)) < len(chips):
        raise RopegenError(f"the targets {', '.join(chips)} name a chip twice; name each once")
    return tuple(each for each in plans if each.target.platform != "tpu" or str(each.target) == chips[0])


def make(
    plans: Sequence[Plan], *, libtpu: str | PathLike[str] | None = None, progress: Callable[[str], None]
) -> tuple[Made, ...]:
    """The executables of every plan for TPU, each by its own plan.

    Raises:
      RopegenError: no libtpu, or a module that it refuses.
    """
    tpu.libtpu_folder(libtpu)  # said before the work, not after it
    chips = [each for each in plans if each.target.platform == "tpu"]
    made: list[Made] = []
    for number, plan in enumerate(chips, 1):
        progress(f"compiling for {plan.target} ({number} of {len(chips)})")
        made.append(_made(plan, libtpu))
    return tuple(made)


def _made(plan: Plan, libtpu: str | PathLike[str] | None) -> Made:
    from ropegen.emit.module import stablehlo

    stages: dict[str, stablehlo.Stage] = {"prepare": "prepare", "module": "run"}
    if not plan.prepared:
        del stages["prepare"]
    modules = {
        name: bytes(stablehlo.exported([plan], stage, named=True).serialize(vjp_order=0))
        for name, stage in stages.items()
    }
    done = tpu.compile_modules(modules, plan.target.chip, libtpu=libtpu)
    for name, said in done.errors.items():
        raise RopegenError(
            f"libtpu {done.compiler.libtpu} does not compile {name} of {plan.graph.name} for {plan.target}: "
            f"{said.strip().partition(chr(10))[0]}; choose another tile with --tile, or build without --compile"
        )
    names = {name: f"{name}.tpu-{plan.target.chip}.executable" for name in stages}
    entry = {
        "platform": plan.target.jax_platform,
        "device_kind": done.device_kind,
        "topology": done.topology,
        "libtpu": done.compiler.libtpu,
        "build": done.compiler.build,
        "jax": done.compiler.jax,
        "plan": plan.digest,
        "stages": {
            name: {
                "file": names[name],
                "arguments": _in_order(stablehlo.argument_types(plan, stage)),
                "results": _in_order(stablehlo.result_types(plan, stage)),
            }
            for name, stage in stages.items()
        },
    }
    return Made(plan, {names[name]: each.executable for name, each in done.modules.items()}, entry, done)


def _in_order(labels: Mapping[str, object]) -> list[str]:
    """The labels in the order in which JAX flattens a dictionary of them."""
    return jax.tree.leaves({label: label for label in labels})


# Loading -------------------------------------------------------------------------------------------------------------


def problem(entry: Any, files: Mapping[str, str]) -> str:
    """What is wrong with a manifest's entry; "" where nothing is."""
    words = ("platform", "device_kind", "topology", "libtpu", "build", "jax", "plan")
    if not isinstance(entry, dict) or not all(isinstance(entry.get(each), str) for each in words):
        return "an executable is not described"
    stages = entry.get("stages")
    if not isinstance(stages, dict) or "module" not in stages or not stages.keys() <= _STAGES.keys():
        return "an executable names no stages"
    for each in stages.values():
        if not isinstance(each, dict) or not isinstance(each.get("file"), str) or each["file"] not in files:
            return "an executable names a file that is not listed"
        for labels in (each.get("arguments"), each.get("results")):
            if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
                return "an executable's labels are no text"
    return ""


def unfit(entry: Mapping[str, Any], device: Any) -> str:
    """Why an executable is not for a device and its runtime; "" where it is."""
    if device.device_kind != entry["device_kind"]:
        return f"it is for a {entry['device_kind']}, and this is a {device.device_kind}"
    build = tpu.build_of(device.client.platform_version)
    if build != entry["build"]:
        return f"its compiler, libtpu {entry['libtpu']}, is {entry['build']!r}, and the runtime here is {build!r}"
    return ""


def load(folder: Path, entry: Mapping[str, Any], device: Any) -> dict[str, Program] | str:
    """The program of each stage on a device, or why there is none."""
    if reason := unfit(entry, device):
        return reason
    programs: dict[str, Program] = {}
    for name, stage in entry["stages"].items():
        try:
            loaded = device.client.deserialize_executable((folder / stage["file"]).read_bytes(), [device])
        except (jax.errors.JaxRuntimeError, ValueError, TypeError) as error:
            return f"the runtime refuses {stage['file']}: {str(error).strip().partition(chr(10))[0]}"
        programs[name] = _program(loaded, device, stage["arguments"], stage["results"])
    return programs


def _program(loaded: Any, device: Any, arguments: Sequence[str], results: Sequence[str]) -> Program:
    def run(values: Mapping[str, Any]) -> dict[str, Any]:
        found = loaded.execute([jax.device_put(values[label], device) for label in arguments])
        return dict(zip(results, found, strict=True))

    return run
