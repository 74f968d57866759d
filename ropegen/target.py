"""What a plan is made for: a platform and a chip, with the figures that the cost models read.

The figures of GPUs and TPUs are the peaks that their makers publish: dense matrix rates without sparsity, and memory
bandwidth. They are per chip; a chip of TPU v4, v5p and v7x has two cores. The figures of a CPU are per core. `generic`
is a server core with AVX-512 at 2.6 GHz. Its rates for half precision are those that XLA's own dot reached on such a
core, with AMX and without.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, cast

from ropegen.arguments import text_of
from ropegen.errors import RopegenError, nearest

PLATFORMS = ("cpu", "gpu", "tpu")


Products: TypeAlias = Literal["last in halves", "in turns", "by key"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """The figures of one chip, in floating-point operations, bytes and seconds."""

    matmul_bf16: float
    """Operations a second of matrix products in bfloat16 and float16."""
    matmul_f32: float
    vector: float
    """Elementwise operations a second, in float32."""
    transcendental: float
    """Exponentials a second."""
    bandwidth: float
    """Bytes a second of main memory."""
    link: float = 0.0
    """Bytes a second that a chip sends to one neighbour. On CPU, devices share the memory, so it follows from that."""
    has_bf16_matrix_unit: bool = True
    """Whether there is a matrix unit for bfloat16, which XLA uses."""
    fast_memory: int
    """Bytes near the compute units: L2 of a core, shared memory of a multiprocessor, VMEM."""
    launch: float
    """Seconds that starting one region costs."""
    kernel: float = 0.0
    """Seconds that the start of one more kernel of a region costs; 0 if a region is one program."""
    op: float = 0.0
    """The shortest time, in seconds, that one op takes inside a compiled program; 0 if `kernel` includes it."""
    relayout: float = 1.0
    """The share of the bandwidth that XLA reaches in ops that change the tiled layout of an array."""
    clock: float = 0.0
    """Cycles per second of one core; 0 for chips whose schedules ropegen does not read."""
    cores: int = 1
    """The number of cores that the figures cover."""
    multiprocessors: int = 1
    """The multiprocessors of a GPU, each of which runs the blocks of a kernel."""
    device_kind: str = ""
    """The name of a GPU as JAX says it; "" for other chips."""
    memory: int = 0
    """Bytes of main memory of a GPU."""
    l2: int = 0
    """Bytes of the L2 cache of a GPU."""
    shared: int = 0
    """Bytes of shared memory of a GPU's multiprocessor; a block can have 1 KiB less."""
    grid_step: int = 0
    """Cycles that one step of a Mosaic kernel's grid spends on fetches, addresses and the tile map."""
    latency: float = 0.0
    """The shortest time, in seconds, from the moment when a kernel starts a copy until the copy has arrived."""
    kernel_memory: int = 0
    """Bytes of fast memory that a compiler gives one kernel by default."""
    products: Products = "last in halves"
    """The order of a kernel's products and weights that libtpu schedules best; `benchmarks/tpu.py` measures it."""
    measured: float = 1.0
    """How many times as long as by the figures computing took in the forward pass on a chip: measured times over those of
    libtpu's schedules. 1 where nothing was measured, or little was missing.
    """
    measured_backward: float = 1.0
    """The same in the backward pass."""
    matrix_unit: int = 128
    """The rows and columns of multipliers of a TPU's matrix unit."""
    basis: str = ""
    """What the figures and the constants of the cost models rest on: published numbers, measurements, or a fit to them."""

    def matmul(self, dtype: str) -> float:
        """Matrix operations a second for operands of an element type."""
        if dtype in ("bf16", "f16"):
            return self.matmul_bf16
        return self.matmul_f32 if dtype == "f32" else self.matmul_f32 / 2


UnitName: TypeAlias = Literal["avx2", "avx512", "avx512bf16", "neon"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorUnit:
    """The vector instructions of a core, as LLVM names them, and the micro-tile that fills its registers.

    A micro-tile of a matrix product is `rows` scalars, broadcast one after the other, by `columns` registers.
    """

    name: UnitName
    triple: str
    cpu: str
    features: str
    requires: tuple[str, ...]
    """The features that a CPU must have, by LLVM's names."""
    lanes: int
    """float32 numbers in a register."""
    registers: int
    rows: int
    columns: int
    pairs: bool = False
    """Whether an instruction multiplies pairs of bfloat16, and adds both products to a float32 number of every lane."""


_AVX512 = VectorUnit(
    name="avx512",
    triple="x86_64-unknown-linux-gnu",
    cpu="x86-64-v4",
    features="-prefer-256-bit",
    requires=("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma", "f16c", "bmi2"),
    lanes=16,
    registers=32,
    rows=8,
    columns=2,
)
VECTOR_UNITS: Mapping[str, VectorUnit] = MappingProxyType(
    {
        "avx2": VectorUnit(
            name="avx2",
            triple="x86_64-unknown-linux-gnu",
            cpu="x86-64-v3",
            features="",
            requires=("avx2", "fma", "f16c", "bmi2"),
            lanes=8,
            registers=16,
            rows=4,
            columns=2,
        ),
        "avx512": _AVX512,
        "avx512bf16": replace(
            _AVX512,
            name="avx512bf16",
            features="-prefer-256-bit,+avx512bf16",
            requires=(*_AVX512.requires, "avx512bf16"),
            pairs=True,
        ),
        "neon": VectorUnit(
            name="neon",
            triple="aarch64-unknown-linux-gnu",
            cpu="generic",
            features="+neon",
            requires=("neon",),
            lanes=4,
            registers=32,
            rows=4,
            columns=4,
        ),
    }
)


# XLA's cores wait for each other after every op that they share. A block of attention has about seven such ops. When
# the same scores were cut into more blocks with fewer queries, every additional block took 60 µs (S of 2048 to 8192,
# two cores).
_CPU_OP = 6e-5 / 7


# One core with AVX-512 at 2.6 GHz.
_GENERIC = Chip(
    matmul_bf16=8.4e10,
    matmul_f32=1.4e11,
    vector=2.0e10,
    transcendental=8.0e8,
    bandwidth=1.2e10,
    fast_memory=2 << 20,
    launch=3e-6,
    op=_CPU_OP,
    has_bf16_matrix_unit=False,
    basis="the rates of a core with AVX-512 at 2.6 GHz, times the cores; the time between the ops of a block of attention is "
    "fitted to measurements on two cores",
)


def _slower(matmul_f32: float, basis: str) -> Chip:
    """A core whose registers hold fewer numbers: its other rates are those of `_GENERIC` in proportion."""
    share = matmul_f32 / _GENERIC.matmul_f32
    return replace(
        _GENERIC,
        matmul_bf16=share * _GENERIC.matmul_bf16,
        matmul_f32=matmul_f32,
        vector=share * _GENERIC.vector,
        transcendental=share * _GENERIC.transcendental,
        basis=f"{basis}; the other rates in proportion to a core with AVX-512 at 2.6 GHz",
    )


_CPU: Mapping[str, Chip] = MappingProxyType(
    {
        "generic": _GENERIC,
        "avx2": _slower(9.5e10, "the rate of multiply-adds that was measured on a core at 3 GHz"),
        "avx512": _GENERIC,
        # XLA multiplies bfloat16 at 7.5e10 on such a core (Zen 4, jax 0.10.2), so it gains nothing from the instructions.
        "avx512bf16": _GENERIC,
        "amx": replace(_GENERIC, matmul_bf16=3.1e11, has_bf16_matrix_unit=True),
        "neon": _slower(
            4.2e10, "two multiply-adds of four lanes in a cycle at 2.6 GHz, as Arm states for Neoverse N1; not measured"
        ),
    }
)
# The vector unit of a chip. The code for `generic` is for the unit of the machine that compiles it.
_CPU_UNIT: Mapping[str, str] = MappingProxyType(
    {"avx2": "avx2", "avx512": "avx512", "avx512bf16": "avx512bf16", "amx": "avx512bf16", "neon": "neon"}
)
_CPU_FORMS = "cpu, cpu:CORES, cpu:CHIP or cpu:CORES:CHIP"

# The host starts kernels one after the other. NVIDIA measured 3.8 µs from one short kernel to the next in a stream, and
# 2.9 µs for such a kernel alone ("Getting Started with CUDA Graphs", NVIDIA Technical Blog, 2019, on a V100).
_GPU_KERNEL = 3.8e-6


def _gpu(
    *,
    matmul_bf16: float,
    matmul_f32: float,
    transcendental: float,
    bandwidth: float,
    link: float,
    multiprocessors: int,
    device_kind: str,
    memory: int,
    l2: int = 50 << 20,
    shared: int = 228 << 10,
    fast_memory: int = 227 << 10,
) -> Chip:
    """A chip; `link` is the published rate of its NVLink in one direction, and sizes are those of NVIDIA's data sheets."""
    return Chip(
        matmul_bf16=matmul_bf16,
        matmul_f32=matmul_f32,
        vector=matmul_f32,
        transcendental=transcendental,
        bandwidth=bandwidth,
        link=link,
        fast_memory=fast_memory,
        launch=5e-6,
        kernel=_GPU_KERNEL,
        multiprocessors=multiprocessors,
        device_kind=device_kind,
        memory=memory,
        l2=l2,
        shared=shared,
        basis="published peaks of the chip, and NVIDIA's measurement of a kernel's start; nothing is fitted to times on it",
    )


_A100 = _gpu(
    matmul_bf16=312e12,
    matmul_f32=19.5e12,
    transcendental=4.9e12,
    bandwidth=2.04e12,
    link=3e11,
    fast_memory=164 << 10,
    multiprocessors=108,
    device_kind="NVIDIA A100-SXM4-80GB",
    memory=85_100_068_864,
    l2=40 << 20,
    shared=164 << 10,
)
_H100 = _gpu(
    matmul_bf16=989e12,
    matmul_f32=67e12,
    transcendental=3.9e12,
    bandwidth=3.35e12,
    link=4.5e11,
    multiprocessors=132,
    device_kind="NVIDIA H100 80GB HBM3",
    memory=85_029_158_912,
)
_H200 = replace(_H100, bandwidth=4.8e12, device_kind="NVIDIA H200", memory=151_397_597_184)
_B200 = _gpu(
    matmul_bf16=2250e12,
    matmul_f32=80e12,
    transcendental=4.7e12,
    bandwidth=7.7e12,
    link=9e11,
    multiprocessors=148,
    device_kind="NVIDIA B200",
    memory=191_514_017_792,
    l2=126 << 20,
)
# A chip with its compute capability.
_GPU: Mapping[str, tuple[str, Chip]] = MappingProxyType(
    {"a100": ("sm80", _A100), "h100": ("sm90", _H100), "h200": ("sm90", _H200), "b200": ("sm100", _B200)}
)
# `gpu:sm90` plans for the common chip of that capability.
_CAPABILITY: Mapping[str, str] = MappingProxyType({"sm80": "a100", "sm90": "h100", "sm100": "b200"})

# Bytes of fast memory that XLA gives a kernel by default: its limit of scoped VMEM, the same on every chip.
TPU_KERNEL_MEMORY = 16 << 20


def _tpu(
    *,
    matmul_bf16: float,
    vector: float,
    transcendental: float,
    bandwidth: float,
    link: float,
    fast_memory: int,
    clock: float,
    cores: int = 1,
    products: Products = "last in halves",
    matrix_unit: int = 128,
    measured: float = 1.0,
    measured_backward: float = 1.0,
    basis: str = "published peaks of the chip; the costs of kernels are fitted to libtpu's schedules, not to times on a TPU",
) -> Chip:
    """A chip whose cores have four matrix units of 128 x 128 (v4, v5e, v5p) or 256 x 256 multipliers (v6e, v7x).

    A matrix product that fills them takes that many cycles in libtpu's schedule. The clock is the published bf16 peak
    over twice the multipliers. `link` is the published rate of a chip over the number of its links.
    """
    return Chip(
        matmul_bf16=matmul_bf16,
        # A product of float32 at full precision is six passes of bf16 through the matrix unit in libtpu's schedules.
        matmul_f32=matmul_bf16 / 6,
        vector=vector,
        transcendental=transcendental,
        bandwidth=bandwidth,
        link=link,
        fast_memory=fast_memory,
        launch=3e-6,
        # libtpu estimates no op of a compiled program lower: 1,830 cycles on v5e, 2,300 on v7x.
        op=1.1e-6,
        # libtpu's own estimates of such ops are 0.49 to 0.66 on v5e and 0.3 to 0.45 on v7x.
        relayout=0.5,
        clock=clock,
        cores=cores,
        grid_step=130,  # bundles in libtpu's schedules
        latency=1e-6,  # an estimate; schedules do not show it
        kernel_memory=TPU_KERNEL_MEMORY,
        products=products,
        matrix_unit=matrix_unit,
        measured=measured,
        measured_backward=measured_backward,
        basis=basis,
    )


_TPU: Mapping[str, Chip] = MappingProxyType(
    {
        "v4": _tpu(
            matmul_bf16=275e12,
            vector=4.3e12,
            transcendental=1.1e12,
            bandwidth=1.23e12,
            link=2.4e12 / 8 / 6,
            fast_memory=16 << 20,
            clock=1.05e9,
            cores=2,
        ),
        "v5e": _tpu(
            matmul_bf16=197e12,
            vector=3.1e12,
            transcendental=0.8e12,
            bandwidth=0.82e12,
            link=1.6e12 / 8 / 4,
            fast_memory=128 << 20,
            clock=1.5e9,
        ),
        "v5p": _tpu(
            matmul_bf16=459e12,
            vector=7.2e12,
            transcendental=1.8e12,
            bandwidth=2.77e12,
            link=4.8e12 / 8 / 6,
            fast_memory=64 << 20,
            clock=1.75e9,
            cores=2,
        ),
        "v6e": _tpu(
            matmul_bf16=918e12,
            vector=7.2e12,
            transcendental=1.8e12,
            bandwidth=1.64e12,
            link=3.584e12 / 8 / 4,
            fast_memory=128 << 20,
            clock=1.75e9,
            products="in turns",
            matrix_unit=256,
        ),
        "v7x": _tpu(
            matmul_bf16=2307e12,
            vector=14.4e12,
            transcendental=3.6e12,
            bandwidth=7.37e12,
            link=9.6e12 / 8 / 6,
            fast_memory=64 << 20,
            clock=2.2e9,
            cores=2,
            products="by key",
            matrix_unit=256,
            # Of tokamax 0.0.17's splash attention on v7x: the calibration in benchmarks/tpu.md.
            measured=1.22,
            measured_backward=1.3,
            basis="published peaks of the chip; the costs of kernels are fitted to libtpu's schedules, times what tokamax's "
            "measured times on v7x are of its schedules: computing takes 1.22 times as long, 1.3 times in the backward pass",
        ),
    }
)

# `gpu:any` and `tpu:any` stand for an unknown chip. Every figure is the worst among all chips, so that a choice for
# them fits every generation. Plain calls plan for them if the chip is not known.
_ANY = "any"
# The figures of a chip that count time: more of them is worse.
_OVERHEADS = ("launch", "kernel", "op", "grid_step", "latency")


def _least(chips: Iterable[Chip]) -> Chip:
    """A chip with the least of every figure, the largest overheads, and the default order of products and weights.

    What was measured on one chip says nothing of an unknown one.
    """
    known = [asdict(chip) for chip in chips]
    names = [name for name in known[0] if name not in ("products", "measured", "measured_backward")]
    return Chip(**{name: (max if name in _OVERHEADS else min)(chip[name] for chip in known) for name in names})


JAX_PLATFORM: Mapping[str, str] = MappingProxyType({"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"})


@dataclass(frozen=True, slots=True)
class Target:
    """A platform, a chip and, on CPU, a number of cores. `Target.parse` makes one."""

    platform: str
    chip: str
    cores: int = 1

    @staticmethod
    def parse(text: str | Target) -> Target:
        """The target that a text names: `cpu`, `cpu:CORES`, `gpu:h200`, `gpu:sm90`, `tpu:v5e`, or `host` for this
        machine.

        `cpu` alone means two cores, so that the same text gives the same plan on every machine. `cpu:CHIP` and
        `cpu:CORES:CHIP` name what the cores have: `avx2`, `avx512`, `neon`, `avx512bf16` (AVX-512 with products of
        bfloat16) or `amx` (Intel's matrix unit for bfloat16). Native code for a CPU without a chip is for the machine
        that compiles it. `gpu:any` and `tpu:any` stand for a chip that is not known; plans for them fit every
        generation.

        Raises:
          RopegenError: an unknown platform or chip, or neither a name nor a target.
        """
        if isinstance(text, Target):
            return text
        asked = text_of("the target", text, "a name, e.g. cpu, cpu:8, gpu:h200 or tpu:v5e")
        platform, colon, chip = asked.strip().lower().partition(":")
        if platform == "host" and not colon:
            return Target.host()
        if platform not in PLATFORMS:
            hint = "did you mean 'gpu'?" if platform in ("cuda", "rocm") else nearest(platform, (*PLATFORMS, "host"))
            raise RopegenError(f"unknown target {text!r}; {_ended(hint)} Write e.g. cpu, cpu:8, gpu:h200 or tpu:v5e")
        if platform == "cpu":
            words = chip.split(":") if colon else []
            kind = words.pop() if words and words[-1] in _CPU else "generic"
            if not words:
                return Target("cpu", kind, 2)
            if len(words) > 1 or not words[0].isdecimal() or not 1 <= int(words[0]) <= 1024:
                raise RopegenError(
                    f"target {text!r}: {':'.join(words)!r} is not a number of cores, 1 to 1024; write {_CPU_FORMS}, "
                    f"with CHIP one of {', '.join(_CPU_UNIT)}"
                )
            return Target("cpu", kind, int(words[0]))
        chips = {**_GPU, **_CAPABILITY} if platform == "gpu" else _TPU
        if chip == _ANY:
            return Target(platform, _ANY)
        if chip not in chips:
            example = f"write e.g. {platform}:{next(iter(chips))}, or {platform}:{_ANY} if the chip is not known"
            if not chip:
                raise RopegenError(f"target {text!r} needs a chip ({', '.join(sorted(chips))}); {example}")
            raise RopegenError(
                f"target {text!r} has no chip {chip!r}; {_ended(nearest(chip, chips))} {example.capitalize()}"
            )
        return Target(platform, chip)

    @staticmethod
    def host() -> Target:
        """The target of this machine.

        Raises:
          RopegenError: ropegen has no figures for the accelerator of this machine.
        """
        import os

        device = host_device()
        if device.platform == "cpu":
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            return Target("cpu", _bf16_unit(), cores)
        kind = device.device_kind.lower()
        platform = "gpu" if device.platform in ("gpu", "cuda") else device.platform
        names = (
            {"lite": "v5e", "v5e": "v5e", "v5p": "v5p", "v5": "v5p", "v6": "v6e", "v7": "v7x", "v4": "v4"}
            if platform == "tpu"
            else {chip: chip for chip in _GPU}
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
        """Like `host`, but None if ropegen has no figures for the device of this machine."""
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
        return JAX_PLATFORM[self.platform]

    @property
    def capability(self) -> str | None:
        """The compute capability of a GPU, such as "sm90"; None for `gpu:any` and for other platforms.

        A kernel that is compiled for one capability does not run on a GPU of another one.
        """
        return _GPU[_CAPABILITY.get(self.chip, self.chip)][0] if self.platform == "gpu" and self.chip != _ANY else None

    @property
    def unit(self) -> VectorUnit | None:
        """The vector unit that native code for a CPU uses; None for `generic`, which leaves it to the machine that
        compiles, and for accelerators.
        """
        return VECTOR_UNITS[_CPU_UNIT[self.chip]] if self.platform == "cpu" and self.chip in _CPU_UNIT else None

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
        # Cores share the bandwidth of memory: about sixteen of them saturate a socket.
        shared = min(self.cores, 16)
        return replace(
            core,
            matmul_bf16=core.matmul_bf16 * self.cores,
            matmul_f32=core.matmul_f32 * self.cores,
            vector=core.vector * self.cores,
            transcendental=core.transcendental * self.cores,
            bandwidth=core.bandwidth * shared,
            link=core.bandwidth * shared / 2,  # one copy is read and one is written
        )


def _ended(hint: str) -> str:
    """A hint of `nearest` as a whole sentence."""
    return hint if hint.endswith("?") else f"{hint}."


@functools.cache
def _bf16_unit() -> str:
    """The chip of this machine's CPU by its instructions for bfloat16, as Linux states them; elsewhere `generic`."""
    about = Path("/proc/cpuinfo")
    features = about.read_text(encoding="utf-8", errors="replace").split() if about.is_file() else []
    chips = {"amx_bf16": "amx", "avx512_bf16": "avx512bf16"}
    return next((chip for feature, chip in chips.items() if feature in features), "generic")


def one_or_several(targets: object) -> tuple[Any, ...]:
    """What names targets, one by one: a name or a `Target` stands for itself.

    Raises:
      RopegenError: it is neither, and cannot be iterated.
    """
    if isinstance(targets, str | Target):
        return (targets,)
    if isinstance(targets, Iterable) and not isinstance(targets, bytes) and not hasattr(targets, "shape"):
        return tuple(cast("Iterable[Any]", targets))
    raise RopegenError(
        f"the targets are {targets!r:.60}; give one, such as 'tpu:v5e', or a list, such as ['cpu', 'tpu:v5e']"
    )


def host_platform() -> str:
    """The platform that programs run on here, by its name in `jax.export`. ropegen may have no figures for the chip."""
    platform: str = host_device().platform
    return {"gpu": "cuda"}.get(platform, platform)


def host_capability() -> str | None:
    """The compute capability of the GPU that programs run on here, such as "sm90"; None on other platforms."""
    if host_platform() != "cuda":
        return None
    return f"sm{str(host_device().compute_capability).replace('.', '')}"


def host_device() -> Any:
    """The first device that programs run on here. Apart from `ropegen env`, nothing else queries a device."""
    import jax

    return jax.devices()[0]


def host_devices() -> int:
    """The number of devices that programs run on here, those of other processes included."""
    import jax

    return len(jax.devices())


def gpus_with(capability: str) -> tuple[str, ...]:
    """The names of the targets with a compute capability: "gpu:h100" and "gpu:h200" have "sm90"."""
    return tuple(f"gpu:{chip}" for chip, (its, _) in _GPU.items() if its == capability)


def known() -> tuple[str, ...]:
    """The names of all targets, for lists and messages."""
    return (
        "cpu",
        *(f"cpu:{chip}" for chip in _CPU_UNIT),
        *(f"gpu:{chip}" for chip in _GPU),
        *(f"tpu:{chip}" for chip in _TPU),
    )
