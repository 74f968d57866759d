"""The kernels for Hopper compile for H100 and H200 without a GPU: no spills, and nothing that ptxas had to give up."""

from __future__ import annotations

import importlib.util
import re

import pytest
from compile_gpu import CHIPS, compiled
from interpreted_gpu import CASES, GRADIENT, LARGE
from ropegen.templates.attend.limits_gpu import left_to_xla

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax_cuda13_plugin") is None, reason='needs pip install "jax[cuda13]"'
)


ALL = {**CASES, **LARGE}
NAMES = [*ALL, *(GRADIENT + name for name, case in ALL.items() if not any(left_to_xla(case.site)))]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_holds_its_values_in_registers(name: str, chip: str) -> None:
    said = compiled(chip, name)
    spilled = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", said)
    assert spilled, said[-1000:]
    assert {number for numbers in spilled for number in numbers} == {"0"}
    assert {*re.findall(r"(\d+) bytes lmem", said)} <= {"0"}, "the library that links the kernel spills"
    assert not re.findall(r"\(C75\d\d\).*", said), "ptxas says that wgmma is serialised, or ignores setmaxnreg"
    assert max(int(number) for number in re.findall(r"Used (\d+) registers", said)) <= 255
