"""The least times of kernels for a GPU that is not here, by their machine code: what tuning compares without a clock.

A candidate is compiled for the chip, and the gate (`ropegen.compilers.gate`) judges its kernel. The least time of one that
passes is that of the reports of artifacts (`ropegen.emit.artifact.gpu_report`). It is a model; nothing runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ropegen.compilers.gate import faults
from ropegen.compilers.machine_code import KernelCode
from ropegen.compilers.process import Compilation
from ropegen.emit.artifact import gpu_report
from ropegen.emit.artifact.kernel_steps import OURS
from ropegen.emit.module import stablehlo
from ropegen.plans import Plan, Step

# The custom call whose machine code the compiler lists.
CALL = "mosaic_gpu_v2"


class Compile(Protocol):
    """Compiles modules for a chip, as `ropegen.compilers.cuda.compile_modules` does."""

    def __call__(self, modules: Mapping[str, bytes], chip: str, /) -> Compilation[KernelCode]: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """What the machine code of one candidate shows."""

    faults: tuple[str, ...]
    """Why it is left out; empty if it passes the gate."""
    least: gpu_report.Least | None
    """Its least time; None if it failed, if the machine code gives none, and while the tiles are not known."""
    registers: int
    """The registers of a thread; 0 without a kernel."""
    compiled_by: str


def judged(plans: Mapping[str, Plan], family: str, compile_modules: Compile) -> dict[str, Judged]:
    """What the machine code of each plan's kernel of a family shows, by the plans' names. The plans are for one chip.

    Raises:
      RopegenError: the compilers are not installed, fail as a whole, or print what ropegen cannot read.
    """
    (chip,) = {plan.target.chip for plan in plans.values()}
    modules = {
        name: bytes(stablehlo.exported([plan], "run", named=True).serialize(vjp_order=0))
        for name, plan in plans.items()
    }
    done = compile_modules(modules, chip)
    return {name: _judged(name, plan, family, done) for name, plan in plans.items()}


def _judged(name: str, plan: Plan, family: str, done: Compilation[KernelCode]) -> Judged:
    compiled_by = str(done.compiler)
    if name in done.errors:
        said = done.errors[name].strip().partition("\n")[0]
        return Judged((f"the compiler refuses it: {said}",), None, 0, compiled_by)
    kernels = [kernel for kernel in done.modules[name].kernels if kernel.name == OURS + family]
    if len(kernels) != 1:
        return Judged(
            (f"the compiler lists {len(kernels)} kernels named {OURS}{family}, and one is meant",), None, 0, compiled_by
        )
    (kernel,) = kernels
    why = tuple(faults(kernel))
    return Judged(why, None if why else _least(kernel, plan, family), kernel.registers, compiled_by)


def _least(kernel: KernelCode, plan: Plan, family: str) -> gpu_report.Least | None:
    (step,) = (step for step in plan.steps if _is_of(step, family))
    return gpu_report.least(kernel, plan, step)


def _is_of(step: Step, family: str) -> bool:
    return step.region is not None and step.region.family == family and step.chosen is not None
