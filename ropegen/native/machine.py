"""Compiles LLVM IR for a vector unit with llvmlite, in this process or to an object file for another machine."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import itertools
import platform
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from ropegen.errors import RopegenError
from ropegen.target import VECTOR_UNITS, Target, VectorUnit

INSTALL = "pip install 'llvmlite>=0.50,<0.51'"


def is_installed() -> bool:
    """Whether llvmlite can be imported."""
    return importlib.util.find_spec("llvmlite") is not None


@functools.cache
def host_unit() -> VectorUnit | None:
    """The best vector unit of this machine that ropegen writes code for, or None.

    Raises:
      RopegenError: llvmlite is not installed.
    """
    best_first = ("avx512bf16", "avx512", "avx2", "neon")
    return next((unit for unit in map(VECTOR_UNITS.__getitem__, best_first) if not missing(unit)), None)


@functools.cache
def missing(unit: VectorUnit) -> tuple[str, ...]:
    """The features of a vector unit that this machine lacks, by LLVM's names.

    Raises:
      RopegenError: llvmlite is not installed.
    """
    features = dict(_binding().get_host_cpu_features())
    # Every 64-bit CPU by Arm has it; LLVM does not list it on every system.
    features["neon"] = platform.machine().lower() in ("aarch64", "arm64")
    return tuple(name for name in unit.requires if not features.get(name))


def cannot_run(target: Target) -> Iterator[str]:
    """The reasons why this process cannot compile and run native code for a target; none if it can."""
    unit = target.unit
    if not is_installed():
        yield f"llvmlite is not installed; {INSTALL}"
    elif unit is None:
        if host_unit() is None:
            yield f"this machine has none of the vector units {', '.join(VECTOR_UNITS)}"
    elif absent := missing(unit):
        yield f"this machine lacks {', '.join(absent)}, which {target} has"


def unit_for(target: Target) -> VectorUnit:
    """The vector unit that native code for a target is compiled for in this process.

    Raises:
      RopegenError: llvmlite is not installed, or the target names no unit and this machine has none that ropegen knows.
    """
    unit = target.unit or host_unit()
    if unit is None:
        raise RopegenError(
            f"native code for {target} is for the machine that compiles it, and this one has none of the vector units "
            f"{', '.join(VECTOR_UNITS)}; name the chip, e.g. cpu:avx2"
        )
    return unit


def assembly(module: str, unit: VectorUnit) -> str:
    """The assembly of a module in LLVM's text form."""
    machine = _target_machine(unit)
    return machine.emit_assembly(_parsed(module, unit))


def object_code(module: str, unit: VectorUnit) -> bytes:
    """The object file of a module, for any place in memory."""
    machine = _target_machine(unit)
    return machine.emit_object(_parsed(module, unit))


# The symbol of the variable that holds the block of scratch memory which the process keeps between calls.
KEPT_BLOCK = "ropegen_kept_block"
_kept_block = ctypes.c_int64(0)

# XLA keeps the addresses of functions. So the code of a process is never freed.
_kept: list[Any] = []
_numbers = itertools.count()


def load(code: bytes, name: str) -> int:
    """Places an object file in the memory of this process, and returns the address of its function `name`.

    Raises:
      RopegenError: the object code cannot be linked, or has no such function.
    """
    library = _binding().JITLibraryBuilder()
    library.add_object_img(code).add_current_process()
    library.import_symbol(KEPT_BLOCK, ctypes.addressof(_kept_block)).export_symbol(name)
    try:
        # A library has a name of its own.
        linked = library.link(_linker(), f"{name}-{next(_numbers)}")
    except RuntimeError as error:
        raise RopegenError(f"the object code of {name!r} cannot be linked: {error}; build it again") from error
    _kept.append(linked)
    address: int = linked[name]
    return address


@functools.cache
def _linker() -> Any:
    """The linker of this process.

    Code reaches its constants by distances of 32 bits. JITLink reserves memory for all parts of an object at once; the
    older linker of LLVM places them separately, and ends the process if they are too far apart.
    """
    host = _binding().Target.from_default_triple().create_target_machine()
    return _binding().create_lljit_compiler(host, use_jit_link=True, suppress_errors=True)


def _parsed(module: str, unit: VectorUnit) -> Any:
    binding = _binding()
    # LLVM frees the types and constants of a module with its context, and never those of the global one.
    parsed = binding.parse_assembly(module, binding.create_context())
    parsed.triple = unit.triple
    parsed.verify()
    return parsed


@functools.cache
def _target_machine(unit: VectorUnit) -> Any:
    target = _binding().Target.from_triple(unit.triple)
    return target.create_target_machine(cpu=unit.cpu, features=unit.features, opt=3, reloc="pic", codemodel="small")


@functools.cache
def _binding() -> ModuleType:
    """Llvmlite's binding of LLVM, ready for all machines that it knows.

    Raises:
      RopegenError: llvmlite is not installed.
    """
    if not is_installed():
        raise RopegenError(f"native code for CPU needs llvmlite, which is not installed; {INSTALL}")
    from llvmlite import binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    return binding
