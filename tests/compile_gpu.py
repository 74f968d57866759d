"""Compiles kernels for a GPU that is not here, in a process of its own: `python compile_gpu.py CHIP NAME`.

It needs `pip install "jax[cuda13]"`, and no GPU and no driver. It prints what ptxas says of the kernel. A process
compiles one kernel for one chip: a second chip would be given the first one's result.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CHIPS = {
    "h100": ("9", "0", 132, 3_352_320_000_000, 85_029_158_912),
    "h200": ("9", "0", 132, 4_800_000_000_000, 151_397_597_184),
}
# The device as XLA would describe it if it were here; the figures are those of NVIDIA's data sheets.
DEVICE = """
gpu_device_info {{
  name: "{chip}" device_vendor: "NVIDIA Corporation" cuda_compute_capability {{ major: {major} minor: {minor} }}
  threads_per_block_limit: 1024 threads_per_warp: 32 threads_per_core_limit: 2048 core_count: {cores} fpus_per_core: 128
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  memory_bandwidth: {bandwidth} l2_cache_size: 52428800 clock_rate_ghz: 1.7 device_memory_size: {memory}
  driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0"
}}
platform_name: "CUDA" device_description_str: "{chip}" dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
"""


def compiled(chip: str, name: str, seconds: float = 240) -> str:
    """What the compilers print while they compile a case for a chip.

    Raises:
      RuntimeError: they fail.
    """
    import nvidia

    tools = [str(folder) for root in nvidia.__path__ for folder in Path(root).glob("*/bin")]
    settings = {
        "PATH": os.pathsep.join([*tools, os.environ.get("PATH", "")]),
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
        "JAX_ENABLE_COMPILATION_CACHE": "false",  # what comes out of a cache prints nothing
        "MOSAIC_GPU_DUMP_PTXAS": "1",
    }
    kept = {key: value for key, value in os.environ.items() if key != "JAX_PLATFORMS"}
    settings["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)  # the environment need not have ropegen
    command = [sys.executable, __file__, chip, name]
    done = subprocess.run(
        command,
        env={**kept, **settings},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=seconds,
    )
    if done.returncode:
        raise RuntimeError(f"{name} does not compile for {chip}: {done.stderr[-2000:]}")
    return done.stdout


def main(chip: str, name: str) -> None:
    import jax
    from interpreted_gpu import CASES, GRADIENT, LARGE
    from jax.experimental import topologies
    from ropegen.templates.attend import mosaic_gpu

    from ropegen.target import Target
    from ropegen.template import Tile
    from ropegen.types import TensorType, numpy_dtype

    jax.devices("cpu")  # finds the plug-in for CUDA
    major, minor, cores, bandwidth, memory = CHIPS[chip]
    described = DEVICE.format(chip=chip, major=major, minor=minor, cores=cores, bandwidth=bandwidth, memory=memory)
    topology = topologies.get_topology_desc("", "cuda", target_config=described, topology="1x1x1")
    mesh = jax.sharding.Mesh(topology.devices[:1], ("device",))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    forward = name.removeprefix(GRADIENT)
    case = {**CASES, **LARGE}[forward]
    kernel = mosaic_gpu.build(case.site, Tile.of(q=128, kv=case.kv_tile), Target.parse(f"gpu:{chip}"))

    def shaped(types: Iterable[TensorType]) -> tuple[jax.ShapeDtypeStruct, ...]:
        return tuple(jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype), sharding=whole) for kind in types)

    operands = shaped(case.site.closed.input_types.values())
    if forward == name:
        jax.jit(kernel.forward).lower(*operands).compile()
        return
    results = shaped(node.type for _, node in case.site.closed.outputs)
    wanted = [jax.numpy.issubdtype(x.dtype, jax.numpy.floating) for x in operands]

    def backward(*given: tuple[Any, ...]) -> Any:
        pulled = kernel.backward(*given, wanted)
        assert pulled is not None
        return pulled

    jax.jit(backward).lower(operands, results, results).compile()


if __name__ == "__main__":
    main(*sys.argv[1:])
