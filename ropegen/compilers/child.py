"""The process that loads a compiler: it reads a job from a file, compiles its modules for one chip, and writes the result.

The parent process runs this file by its path and sets the environment. The file imports only JAX, so that the compiler,
its threads and its output stay out of the parent process. The modules are data that `jax.export` wrote, not code.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any


def main(job_file: str) -> int:
    """Compile every module of the job, and write the device, the versions and the sizes to the file `result`.

    While a module is compiled, what the compiler prints goes to the file `printed` of its folder of listings.
    """
    job: dict[str, Any] = json.loads(Path(job_file).read_text(encoding="utf-8"))
    import jax
    from jax.experimental import topologies

    for name in job["imports"]:
        importlib.import_module(name)
    jax.config.update("jax_traceback_in_locations_limit", 0)  # keeps the file names of this machine out of executables
    jax.devices("cpu")  # finds the plug-ins
    devices = topologies.get_topology_desc(**job["topology"]).devices
    device = devices[0]
    result: dict[str, Any] = {
        "device_kind": device.device_kind,
        "platform_version": device.client.platform_version,
        "jax": jax.__version__,
        "devices": len(devices),
        "modules": {},
    }
    dump, parent = Path(job["dump"]), os.dup(1)
    for label, module in job["modules"].items():
        os.write(parent, f"{label}\n".encode())  # so that the parent knows the module if the compiler ends the process
        listings = Path(module["listings"])
        with (listings / "printed").open("wb") as printed:
            os.dup2(printed.fileno(), 1)
            try:
                result["modules"][label] = _compiled(Path(module["exported"]), device, Path(module["executable"]))
            except (jax.errors.JaxRuntimeError, NotImplementedError, ValueError) as error:
                result["modules"][label] = {"error": str(error)}
            ctypes.CDLL(None).fflush(None)  # the compiler's output is in a buffer of the C library
            os.dup2(parent, 1)
        for path in [*dump.iterdir()] if dump.is_dir() else []:
            path.rename(listings / path.name)
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")
    return 0


def _compiled(path: Path, device: Any, executable: Path) -> dict[str, Any]:
    import jax
    from jax import export

    exported = export.deserialize(bytearray(path.read_bytes()))
    placed = jax.sharding.SingleDeviceSharding(device)
    specs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype, sharding=placed) for aval in exported.in_avals]
    arguments, keywords = jax.tree.unflatten(exported.in_tree, specs)
    # With `keep_unused` the executable takes all arguments of the module, in the same order.
    compiled = jax.jit(exported.call, keep_unused=True).lower(*arguments, **keywords).compile()
    executable.write_bytes(compiled.runtime_executable().serialize())  # pyright: ignore[reportOptionalMemberAccess]
    memory = compiled.memory_analysis()
    names = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes", "generated_code_size_in_bytes")
    return {name: int(getattr(memory, name)) for name in names}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
