"""Ahead-of-time compilation for NVIDIA's GPUs without a GPU: XLA's plug-in for CUDA runs in a separate process.

`pip install "jax[cuda13]"` brings the compilers, which need neither a GPU nor a driver. XLA takes a description of the
device instead of the device. A process compiles for one chip: Mosaic GPU keeps what it compiled, and would give the same
code for another chip.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

from ropegen.compilers.machine_code import KernelCode, read_kernels
from ropegen.compilers.process import Compilation, Compiler, Job, compiled
from ropegen.errors import RopegenError, nearest
from ropegen.target import Target

# The package that compiles and runs programs for CUDA. An executable fits the version that made it.
PACKAGE = "jax-cuda13-pjrt"
INSTALL = 'pip install "jax[cuda13]" nvidia-cuda-nvdisasm'
# Programs that the compilers start.
_TOOLS = ("ptxas", "nvdisasm")


CHIPS = ("a100", "h100", "h200", "b200")
_DESCRIPTION = """
gpu_device_info {{
  name: "{kind}" device_vendor: "NVIDIA Corporation" cuda_compute_capability {{ major: {major} minor: {minor} }}
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: {cores} fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_core: {shared} shared_memory_per_block_optin: {block}
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: {bandwidth} l2_cache_size: {l2} clock_rate_ghz: 1.7 device_memory_size: {memory}
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0"
}}
platform_name: "CUDA" device_description_str: "{kind}" dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
"""
_SETTINGS = {
    "CUDA_VISIBLE_DEVICES": "",  # a GPU that is here is not asked, and its memory is left alone
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
    "JAX_ENABLE_COMPILATION_CACHE": "false",  # the compiler prints nothing of what comes out of a cache
}
_PRINTS = {f"MOSAIC_GPU_DUMP_{what}": "1" for what in ("PTX", "PTXAS", "SASS_CTRL")}


def build() -> str:
    """The build of the package for CUDA that is installed here, which an executable must match; "" without one."""
    try:
        return f"{PACKAGE} {importlib.metadata.version(PACKAGE)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def tools() -> tuple[Path, ...]:
    """The folders with the programs of NVIDIA's packages.

    Raises:
      RopegenError: the compilers are not installed.
    """
    packages = importlib.util.find_spec("nvidia")
    roots = [] if packages is None else [*(packages.submodule_search_locations or ())]
    folders = sorted({folder for root in roots for folder in Path(root).glob("*/bin")})
    missing = [tool for tool in _TOOLS if not any((folder / tool).is_file() for folder in folders)]
    if not build():
        missing.insert(0, PACKAGE)
    if missing:
        raise RopegenError(
            f"compiling for GPU needs the compilers for CUDA, but no GPU, and {', '.join(missing)} is not installed: "
            f"`{INSTALL}` (about 4 GB)"
        )
    return tuple(folders)


def description(chip: str) -> str:
    """The device as XLA would describe it if it were here (a text of its GpuTargetConfigProto)."""
    target = Target.parse(f"gpu:{chip}")
    number, figures = str(target.capability).removeprefix("sm"), target.figures
    return _DESCRIPTION.format(
        kind=figures.device_kind,
        major=number[:-1],
        minor=number[-1],
        cores=figures.multiprocessors,
        shared=figures.shared,
        block=figures.shared - 1024,
        bandwidth=int(figures.bandwidth),
        l2=figures.l2,
        memory=figures.memory,
    )


def compile_modules(
    modules: Mapping[str, bytes],
    chip: str,
    *,
    progress: Callable[[str], None] = lambda doing: None,
    seconds: float = 1800,
    listings: bool = True,
) -> Compilation[KernelCode]:
    """Compile modules, as `Exported.serialize` wrote them, for a chip ("h200") that you need not own.

    The kernels of the result are those of Mosaic GPU; a kernel that two modules share is listed for the first one alone.
    Without `listings` the result lists none. A module that the compiler refuses is in `errors` of the result.

    Raises:
      RopegenError: the chip is unknown, the compilers are not installed, they fail as a whole or take longer than
        `seconds`, or a listing has an unknown form.
    """
    if chip not in CHIPS:
        raise RopegenError(f"XLA's plug-in for CUDA is given no description of a chip {chip!r}; {nearest(chip, CHIPS)}")
    folders = tools()

    def version(platform_version: str, jax: str) -> Compiler:
        package, _, number = build().partition(" ")
        return Compiler(package, number, build(), jax)

    progress(f"compiling for gpu:{chip}")
    job = Job(
        target=f"gpu:{chip}",
        compiler="the compiler for CUDA",
        topology={
            "platform": "cuda",
            "topology_name": "",
            "target_config": description(chip),
            "topology": "1x1x1",
        },
        described=str(Target.parse(f"gpu:{chip}").capability),
        imports=("jax.experimental.mosaic.gpu",),  # tells the compiler where the library is that its kernels call
        settings=lambda dump: {**_SETTINGS, **(_PRINTS if listings else {})},
        unset=("JAX_PLATFORMS",),
        tools=folders,
        seconds=seconds,
    )
    return compiled(job, modules, version, _read)


def _read(listings: Path) -> tuple[KernelCode, ...]:
    return read_kernels((listings / "printed").read_text(encoding="utf-8", errors="replace"))
