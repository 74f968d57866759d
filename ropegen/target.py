"""What a plan is made for: a platform and a chip, with the figures that the cost models read.

Figures are the makers' published peaks, per chip (per chip of two cores for TPU v4, v5p and v7x): dense
matrix rates without sparsity, and memory bandwidth. The CPU's are per core, of a server core with AVX-512
at 2.6 GHz; the rates of half precision are what XLA's own dot reached on such a core, with AMX and without.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from ropegen.errors import RopegenError, nearest

PLATFORMS = ("cpu", "gpu", "tpu")


Products: TypeAlias = Literal["last in halves", "in turns", "by key"]


@dataclass(frozen=True, slots=True)
class Chip:
    """The figures of one chip, in floating-point operations, bytes and seconds."""

    matmul_bf16: float  # operations a second
    matmul_f32: float
    vector: float  # elementwise operations a second, in float32
    transcendental: float  # exponentials a second
    bandwidth: float  # bytes a second of main memory
    fast_memory: int  # bytes near the compute units: L2 of a core, shared memory of a multiprocessor, VMEM
    launch: float  # seconds that starting one region costs
    clock: float = 0.0  # cycles a second of one core; 0 where no schedule is read
    cores: int = 1  # cores that the figures are of
    kernel_memory: int = 0  # bytes of fast memory that a compiler gives one kernel without being asked
    products: Products = "last in halves"
    """The order of a kernel's products and weights that libtpu schedules best; `benchmarks/tpu.py` measures it."""

    def matmul(self, dtype: str) -> float:
        """Matrix operations a second for operands of an element type."""
        if dtype in ("bf16", "f16"):
            return self.matmul_bf16
        return self.matmul_f32 if dtype == "f32" else self.matmul_f32 / 2


_CPU: Mapping[str, Chip] = MappingProxyType(
    {
        "generic": Chip(8.4e10, 1.4e11, 2.0e10, 8.0e8, 1.2e10, 2 << 20, 3e-6),
        "amx": Chip(3.1e11, 1.4e11, 2.0e10, 8.0e8, 1.2e10, 2 << 20, 3e-6),
    }
)

_GPU: Mapping[str, tuple[str, Chip]] = MappingProxyType(
    {
        "a100": ("sm80", Chip(312e12, 19.5e12, 19.5e12, 4.9e12, 2.04e12, 164 << 10, 5e-6)),
        "h100": ("sm90", Chip(989e12, 67e12, 67e12, 3.9e12, 3.35e12, 227 << 10, 5e-6)),
        "h200": ("sm90", Chip(989e12, 67e12, 67e12, 3.9e12, 4.8e12, 227 << 10, 5e-6)),
        "b200": ("sm100", Chip(2250e12, 80e12, 80e12, 4.7e12, 7.7e12, 227 << 10, 5e-6)),
    }
)
# `gpu:sm90` plans for the common chip of that capability.
_CAPABILITY: Mapping[str, str] = MappingProxyType({"sm80": "a100", "sm90": "h100", "sm100": "b200"})

# Passes of bf16 through the matrix unit that a product of float32 takes at full precision, in libtpu's schedules.
_TPU_F32_PASSES = 6
# Bytes of fast memory that a kernel is given without asking: XLA's default limit of scoped VMEM, the same on every chip.
TPU_KERNEL_MEMORY = 16 << 20
# A core has four matrix units of 128 x 128 (v4, v5e, v5p) or 256 x 256 multipliers (v6e, v7x): a matrix product that fills
# them takes that many cycles in libtpu's schedule. The clock is the published bf16 peak over twice the multipliers.
_TPU: Mapping[str, Chip] = MappingProxyType(
    {
        "v4": Chip(
            275e12, 275e12 / _TPU_F32_PASSES, 4.3e12, 1.1e12, 1.23e12, 16 << 20, 3e-6, 1.05e9, 2, TPU_KERNEL_MEMORY
        ),
        "v5e": Chip(
            197e12, 197e12 / _TPU_F32_PASSES, 3.1e12, 0.8e12, 0.82e12, 128 << 20, 3e-6, 1.5e9, 1, TPU_KERNEL_MEMORY
        ),
        "v5p": Chip(
            459e12, 459e12 / _TPU_F32_PASSES, 7.2e12, 1.8e12, 2.77e12, 64 << 20, 3e-6, 1.75e9, 2, TPU_KERNEL_MEMORY
        ),
        "v6e": Chip(
            918e12,
            918e12 / _TPU_F32_PASSES,
            7.2e12,
            1.8e12,
            1.64e12,
            128 << 20,
            3e-6,
            1.75e9,
            1,
            TPU_KERNEL_MEMORY,
            "in turns",
        ),
        "v7x": Chip(
            2307e12,
            2307e12 / _TPU_F32_PASSES,
            14.4e12,
            3.6e12,
            7.37e12,
            64 << 20,
            3e-6,
            2.2e9,
            2,
            TPU_KERNEL_MEMORY,
            "by key",
        ),
    }
)

# `gpu:any` and `tpu:any` are no chips: their figures are the least of every chip's, so that what is chosen for them fits
# every generation. Plain calls plan for them where the chip is not known.
_ANY = "any"


def _least(chips: Iterable[Chip]) -> Chip:
    """A chip with the least of every figure, the largest launch overhead, and the default order of products."""
    known = [asdict(chip) for chip in chips]
    figures = {name: min(chip[name] for chip in known) for name in known[0] if name not in ("launch", "products")}
    return Chip(**figures, launch=max(chip["launch"] for chip in known))


# Seconds below which libtpu estimates no op of a compiled program for TPU, however little it does: 1,830 cycles on v5e,
# 2,300 on v7x.
TPU_OP = 1.1e-6

_JAX_PLATFORM: Mapping[str, str] = MappingProxyType({"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"})


@dataclass(frozen=True, slots=True)
class Target:
    """A platform, a chip and, on CPU, a number of cores. Made by `Target.parse`."""

    platform: str
    chip: str
    cores: int = 1

    @staticmethod
    def parse(text: str | Target) -> Target:
        """`cpu`, `cpu:CORES`, `gpu:h200`, `gpu:sm90`, `tpu:v5e`, or `host` for what this machine has.

        `cpu` alone is two cores, so that the same text is the same plan on every machine; `cpu:amx` and
        `cpu:CORES:amx` are cores with Intel's matrix unit for bfloat16. `gpu:any` and `tpu:any` stand for a chip
        that is not known: plans for them fit every generation.

        Raises:
          RopegenError: an unknown platform or chip.
        """
        if isinstance(text, Target):
            return text
        platform, colon, chip = text.strip().lower().partition(":")
        if platform == "host" and not colon:
            return Target.host()
        if platform not in PLATFORMS:
            hint = "did you mean 'gpu'?" if platform in ("cuda", "rocm") else nearest(platform, (*PLATFORMS, "host"))
            raise RopegenError(f"unknown target {text!r}; {hint} e.g. cpu, cpu:8, gpu:h200, tpu:v5e")
        if platform == "cpu":
            words = chip.split(":") if colon else []
            kind = words.pop() if words and words[-1] in _CPU else "generic"
            if not words:
                return Target("cpu", kind, 2)
            if len(words) > 1 or not words[0].isdecimal() or not 1 <= int(words[0]) <= 1024:
                raise RopegenError(
                    f"target {text!r}: {':'.join(words)!r} is not a number of cores; write cpu, cpu:CORES or "
                    "cpu:CORES:amx, 1 to 1024 cores"
                )
            return Target("cpu", kind, int(words[0]))
        chips = {**_GPU, **_CAPABILITY} if platform == "gpu" else _TPU
        if chip == _ANY:
            return Target(platform, _ANY)
        if chip not in chips:
            asked = f"has no chip {chip!r}" if chip else "needs a chip"
            raise RopegenError(f"target {text!r} {asked}; {nearest(chip, chips)} e.g. {platform}:{next(iter(chips))}")
        return Target(platform, chip)

    @staticmethod
    def host() -> Target:
        """What this machine has.

        Raises:
          RopegenError: the accelerator is of a kind that has no figures here.
        """
        import os

        device = host_device()
        if device.platform == "cpu":
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            return Target("cpu", "amx" if _has_amx() else "generic", cores)
        kind = device.device_kind.lower()
        platform = "gpu" if device.platform in ("gpu", "cuda") else device.platform
        names = (
            {"lite": "v5e", "v5e": "v5e", "v5p": "v5p", "v5": "v5p", "v6": "v6e", "v7": "v7x", "v4": "v4"}
            if platform == "tpu"
            else {each: each for each in _GPU}
        )
        for word, chip in names.items():
            if word in kind:
                return Target(platform, chip)
        raise RopegenError(
            f"this machine's device {device.device_kind!r} is not known; name a target, e.g. gpu:h100 or tpu:v5e"
        )

    @staticmethod
    def default(platform: str) -> Target:
        """The target that a plain call plans for on a platform (cpu, cuda or tpu) whose chip it does not know."""
        return {"cpu": Target("cpu", "generic", 2), "cuda": Target("gpu", _ANY), "tpu": Target("tpu", _ANY)}[platform]

    @staticmethod
    def local() -> Target | None:
        """What this machine has, as `host`; None where its device is not known."""
        try:
            return Target.host()
        except RopegenError:
            return None

    def __str__(self) -> str:
        if self.platform == "cpu":
            cores = "" if self.cores == 2 else f":{self.cores}"
            return f"cpu{cores}" if self.chip == "generic" else f"cpu{cores}:{self.chip}"
        return f"{self.platform}:{self.chip}"

    @property
    def jax_platform(self) -> str:
        """The platform's name in `jax.export` and in lowering rules: cpu, cuda or tpu."""
        return _JAX_PLATFORM[self.platform]

    @property
    def figures(self) -> Chip:
        """The figures of the whole chip."""
        if self.chip == _ANY:
            return _least(_TPU.values() if self.platform == "tpu" else (chip for _, chip in _GPU.values()))
        if self.platform == "tpu":
            return _TPU[self.chip]
        if self.platform == "gpu":
            return _GPU[_CAPABILITY.get(self.chip, self.chip)][1]
        core = _CPU[self.chip]
        # Memory bandwidth is shared: a socket saturates at about sixteen cores.
        shared = min(self.cores, 16)
        return Chip(
            core.matmul_bf16 * self.cores,
            core.matmul_f32 * self.cores,
            core.vector * self.cores,
            core.transcendental * self.cores,
            core.bandwidth * shared,
            core.fast_memory,
            core.launch,
        )


@functools.cache
def _has_amx() -> bool:
    """Whether Linux says so of this machine; elsewhere no processor has it."""
    about = Path("/proc/cpuinfo")
    return about.is_file() and "amx_bf16" in about.read_text(encoding="utf-8", errors="replace").split()


def host_platform() -> str:
    """The platform that programs run on here, by its name in `jax.export`; the chip may be one without figures."""
    platform: str = host_device().platform
    return {"gpu": "cuda"}.get(platform, platform)


def host_device() -> Any:
    """The first device that programs run on here; the project's only look at one."""
    import jax

    return jax.devices()[0]


def known() -> tuple[str, ...]:
    """Every target by name, for lists and messages."""
    return ("cpu", "cpu:amx", *(f"gpu:{chip}" for chip in _GPU), *(f"tpu:{chip}" for chip in _TPU))
