"""Runs small native functions over NumPy arrays, for the tests of `ropegen.native`."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
import pytest

from ropegen.native import machine
from ropegen.native.ir import POINTER, Function, Module, Value
from ropegen.target import VectorUnit

Array = npt.NDArray[Any]


needs_llvmlite = pytest.mark.skipif(
    not machine.is_installed(), reason="llvmlite is not installed; pip install '.[native]' runs it"
)


def host() -> VectorUnit:
    """The vector unit of this machine; the test is skipped if ropegen writes no code for it."""
    if not machine.is_installed():
        pytest.skip("llvmlite is not installed; pip install '.[native]' runs it")
    unit = machine.host_unit()
    if unit is None:
        pytest.skip("this CPU has none of the vector units of ropegen.target.VECTOR_UNITS")
    return unit


def run(write: Callable[[Function, Sequence[Value]], None], *arrays: Array) -> None:
    """Compiles a function that is given the addresses of arrays, and runs it; it may change the arrays."""
    module = Module()
    f = module.function("run", None, [(f"array{index}", POINTER) for index in range(len(arrays))])
    write(f, list(f.parameters.values()))
    f.give_back()
    address = machine.load(machine.object_code(str(module), host()), "run")
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in arrays]
    ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(arrays))(address)(*pointers)
