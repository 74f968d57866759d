"""Device executables: compiled ahead of time, and used at load time only if the chip and the compiler build match.

An executable is what PJRT serializes: the program of the device, without Python and without pickle. Its arguments are
the arrays of the stage in an order that the manifest states. PJRT trusts the file that it is given, so whoever loads an
artifact on a chip trusts the maker of the artifact, as with any program.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import jax

from ropegen.compilers import cuda, tpu
from ropegen.emit.artifact import gpu_report, tpu_report
from ropegen.emit.artifact.manifest import ExecutableEntry, ExecutableStage, Stages
from ropegen.emit.module import stablehlo
from ropegen.errors import RopegenError
from ropegen.plans import Plan
from ropegen.target import Target

Program = Callable[[Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Executable:
    """The executables of a target in an artifact. `unused` is the reason why this machine does not use them, or ""."""

    target: str
    files: tuple[str, ...]
    made_by: str
    unused: str


@dataclass(frozen=True, slots=True)
class Made:
    """The executables of a target: files by name, the entry of the manifest, and the lines for the report."""

    plan: Plan
    files: Mapping[str, bytes]
    entry: ExecutableEntry
    report: tuple[str, ...]


def split(plans: Sequence[Plan]) -> tuple[Plan, ...]:
    """The plans that the modules hold: of several chips of a platform that are compiled for, the first one.

    A plan for a CPU without its vector unit comes before those for CPUs with one.

    Raises:
      RopegenError: no plan can be compiled ahead of time, or two are for the same chip.
    """
    chips = [plan for plan in plans if is_ahead_of_time(plan.target)]
    names = [str(plan.target) for plan in chips]
    if not chips:
        raise RopegenError(
            "code is compiled ahead of time for TPU, for GPU and for CPUs whose vector unit is named, and none is among the "
            "targets; add e.g. --target tpu:v5e, --target gpu:h200 or --target cpu:avx2"
        )
    if len(set(names)) < len(names):
        raise RopegenError(f"the targets {', '.join(names)} name a chip twice; name each once")
    others = {plan.target.platform for plan in plans if plan not in chips}
    first = {plan.target.platform: plan for plan in reversed(chips) if plan.target.platform not in others}
    return tuple(plan for plan in plans if plan not in chips or first.get(plan.target.platform) is plan)


def is_ahead_of_time(target: Target) -> bool:
    """Whether code for a target can be compiled ahead of time: for a TPU, a named GPU, and a CPU with a named vector unit."""
    return _has_executables(target) or target.unit is not None


def _has_executables(target: Target) -> bool:
    return target.platform == "tpu" or (target.platform == "gpu" and target.chip in cuda.CHIPS)


def make(
    plans: Sequence[Plan], *, libtpu: str | PathLike[str] | None = None, progress: Callable[[str], None]
) -> tuple[Made, ...]:
    """The executables of every plan for TPU and GPU.

    Raises:
      RopegenError: a compiler is not installed, knows no such chip, or refuses a module.
    """
    chips = [plan for plan in plans if _has_executables(plan.target)]
    # A missing compiler is an error before the work, not after it.
    if any(plan.target.platform == "tpu" for plan in chips):
        tpu.libtpu_folder(libtpu)
    if any(plan.target.platform == "gpu" for plan in chips):
        cuda.tools()
    made: list[Made] = []
    for number, plan in enumerate(chips, 1):
        progress(f"compiling for {plan.target} ({number} of {len(chips)})")
        made.append(_made(plan, libtpu))
    return tuple(made)


def _made(plan: Plan, libtpu: str | PathLike[str] | None) -> Made:
    stages = stablehlo.stages(plan)
    modules = {
        name: bytes(stablehlo.exported([plan], stage, named=True).serialize(vjp_order=0))
        for name, stage in stages.items()
    }
    chip = plan.target.chip
    if plan.target.platform == "tpu":
        scheduled = tpu.compile_modules(modules, chip, libtpu=libtpu)
        compilation, report = scheduled, tuple(tpu_report.lines(plan, scheduled))
    else:
        coded = cuda.compile_modules(modules, chip)
        compilation, report = coded, tuple(gpu_report.lines(plan, coded))
    for name, message in compilation.errors.items():
        raise RopegenError(
            f"{compilation.compiler} does not compile {name} of {plan.graph.name} for {plan.target}: "
            f"{message.strip().partition(chr(10))[0]}; choose another tile with --tile, or build without --compile"
        )
    described = {
        name: ExecutableStage(
            file=f"{name}.{plan.target.platform}-{chip}.executable",
            arguments=_in_order(stablehlo.argument_types(plan, stage)),
            results=_in_order(stablehlo.result_types(plan, stage)),
        )
        for name, stage in stages.items()
    }
    entry = ExecutableEntry(
        platform=plan.target.jax_platform,
        device_kind=compilation.device_kind,
        topology=compilation.topology,
        libtpu=compilation.compiler.version if plan.target.platform == "tpu" else None,
        build=compilation.compiler.build,
        jax=compilation.compiler.jax,
        plan=plan.digest,
        stages=Stages(**described),
    )
    files = {described[name].file: module.executable for name, module in compilation.modules.items()}
    return Made(plan, files, entry, report)


def _in_order(labels: Mapping[str, object]) -> tuple[str, ...]:
    """The labels in the order in which JAX flattens a dictionary with these keys."""
    return tuple(jax.tree.leaves({label: label for label in labels}))


# Loading -------------------------------------------------------------------------------------------------------------


def unfit(entry: ExecutableEntry, device: Any) -> str:
    """The reason why an executable does not fit a device and its runtime, or ""."""
    if device.device_kind != entry.device_kind:
        return f"it is for a {entry.device_kind}, and this is a {device.device_kind}"
    # The runtime for TPU says its build. That for CUDA says only CUDA's version, so its package does.
    build = cuda.build() if entry.platform == "cuda" else tpu.build_of(device.client.platform_version)
    if build != entry.build:
        which = "" if entry.libtpu is None else f", libtpu {entry.libtpu},"
        return f"its compiler{which} is {entry.build!r}, and the runtime here is {build!r}"
    return ""


def load(content: Callable[[str], bytes], entry: ExecutableEntry, device: Any) -> dict[str, Program] | str:
    """The program of every stage on a device, or the reason why there is none. `content` reads a file by its name."""
    if reason := unfit(entry, device):
        return reason
    programs: dict[str, Program] = {}
    for name, stage in entry.stages.by_name.items():
        try:
            loaded = device.client.deserialize_executable(content(stage.file), [device])
        except (jax.errors.JaxRuntimeError, ValueError, TypeError) as error:
            return f"the runtime refuses {stage.file}: {str(error).strip().partition(chr(10))[0]}"
        programs[name] = _program(loaded, device, stage.arguments, stage.results)
    return programs


def _program(loaded: Any, device: Any, arguments: Sequence[str], results: Sequence[str]) -> Program:
    def run(values: Mapping[str, Any]) -> dict[str, Any]:
        outputs = loaded.execute([jax.device_put(values[label], device) for label in arguments])
        return dict(zip(results, outputs, strict=True))

    return run
