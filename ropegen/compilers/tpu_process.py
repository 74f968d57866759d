"""The process that loads libtpu: reads a job from a file, compiles its modules for one chip, writes what it found.

It is run by its path and imports JAX alone, so that the compiler, its threads and what it prints stay apart from
whoever asked. The modules are as `jax.export` wrote them: data, no code. The environment is set by who starts it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(job_file: str) -> int:
    """Compiles each module of the job; writes {"platform_version", "device_kind", "modules"} to its `result`."""
    job: dict[str, Any] = json.loads(Path(job_file).read_text(encoding="utf-8"))
    import jax
    from jax.experimental import topologies

    jax.config.update("jax_traceback_in_locations_limit", 0)  # an executable names no file of this machine
    devices = topologies.get_topology_desc(platform="tpu", topology_name=job["topology"]).devices
    device = devices[0]
    found: dict[str, Any] = {
        "device_kind": device.device_kind,
        "platform_version": device.client.platform_version,
        "jax": jax.__version__,
        "devices": len(devices),
        "modules": {},
    }
    dump = Path(job["dump"])
    for label, module in job["modules"].items():
        sys.stdout.write(f"{label}\n")
        sys.stdout.flush()  # read where the compiler takes the process down with it
        try:
            found["modules"][label] = _compiled(Path(module["exported"]), device, Path(module["executable"]))
        except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError) as error:
            found["modules"][label] = {"error": str(error)}
        schedules = Path(module["schedules"])
        for path in [*dump.iterdir()] if dump.is_dir() else []:
            path.rename(schedules / path.name)
    Path(job["result"]).write_text(json.dumps(found), encoding="utf-8")
    return 0


def _compiled(path: Path, device: Any, executable: Path) -> dict[str, Any]:
    import jax
    from jax import export

    exported = export.deserialize(bytearray(path.read_bytes()))
    placed = jax.sharding.SingleDeviceSharding(device)
    specs = [jax.ShapeDtypeStruct(each.shape, each.dtype, sharding=placed) for each in exported.in_avals]
    arguments, keywords = jax.tree.unflatten(exported.in_tree, specs)
    # `keep_unused`: the arguments of the executable are those of the module, in its order.
    compiled = jax.jit(exported.call, keep_unused=True).lower(*arguments, **keywords).compile()
    executable.write_bytes(compiled.runtime_executable().serialize())  # pyright: ignore[reportOptionalMemberAccess]
    memory = compiled.memory_analysis()
    names = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes", "generated_code_size_in_bytes")
    return {name: int(getattr(memory, name)) for name in names}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
