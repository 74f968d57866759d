"""Ahead-of-time compilation for TPU without a TPU: libtpu runs in a separate process.

libtpu is one pip package and compiles for every chip. It reads its settings from the environment, prints at any time
and holds a lock, so ropegen does not load it into the caller's process. A child process gets the modules as files and
returns executables and schedules. Its output is kept, and shown only if it fails.
"""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ropegen.compilers.schedule import LABELS, KernelSchedule, read_schedules
from ropegen.errors import RopegenError, nearest

# The smallest topology of every chip that libtpu can describe without the machine.
TOPOLOGIES: Mapping[str, str] = MappingProxyType(
    {"v4": "v4:2x2x1", "v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2", "v7x": "tpu7x:2x2x1"}
)
# Without these settings the compiler asks the network about the machine, waits for the answer, and writes logs.
SETTINGS = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# The number of characters of a failed compiler's output that an error shows.
_SHOWN = 600


@dataclass(frozen=True, slots=True)
class Compiler:
    """The compiler that ran: the version of the package, and the build that the runtime must match."""

    libtpu: str
    build: str
    """The last line of PJRT's platform version, e.g. "Built on Nov 5 2026 ... cl/1014260217"."""
    jax: str


@dataclass(frozen=True, slots=True)
class CompiledModule:
    """One module for one chip: PJRT's serialized executable, its sizes in bytes, and the schedules of its kernels.

    The executable takes all arguments of the module, in the same order.
    """

    executable: bytes
    sizes: Mapping[str, int]
    kernels: tuple[KernelSchedule, ...]


@dataclass(frozen=True, slots=True)
class Compilation:
    """Modules compiled for one chip. `errors` holds the compiler's message for every module that it refused."""

    chip: str
    topology: str
    device_kind: str
    devices_per_chip: int
    """2 if every core of a chip is a device of its own, else 1."""
    compiler: Compiler
    modules: Mapping[str, CompiledModule]
    errors: Mapping[str, str]


def build_of(platform_version: str) -> str:
    """The build in PJRT's platform version: its last line, which compiler and runtime share."""
    return platform_version.strip().rpartition("\n")[2].strip()


def libtpu_folder(libtpu: str | PathLike[str] | None = None) -> Path:
    """The folder that holds the package libtpu: the given one, else the one that this Python would import it from.

    Raises:
      RopegenError: libtpu is not in that folder, or not installed.
    """
    if libtpu is not None:
        if not (Path(libtpu) / "libtpu" / "libtpu.so").is_file():
            raise RopegenError(
                f"{libtpu} holds no libtpu; `pip install --no-deps --target {libtpu} libtpu` puts it there"
            )
        return Path(libtpu)
    spec = importlib.util.find_spec("libtpu")
    if spec is None or spec.origin is None:
        raise RopegenError(
            "compiling for TPU needs the compiler libtpu, but no TPU, and libtpu is not installed: `pip install libtpu`, or, "
            "outside this environment, `pip install --no-deps --target DIR libtpu` and --libtpu DIR"
        )
    return Path(spec.origin).parent.parent


def libtpu_version(folder: Path) -> str:
    """The version of the package in a folder, from its metadata."""
    stated = sorted(path.name for path in folder.glob("libtpu-*.dist-info"))
    return stated[-1].removeprefix("libtpu-").removesuffix(".dist-info") if stated else "unknown"


def compile_modules(
    modules: Mapping[str, bytes],
    chip: str,
    *,
    libtpu: str | PathLike[str] | None = None,
    progress: Callable[[str], None] = lambda doing: None,
    seconds: float = 1800,
    schedules: bool = True,
) -> Compilation:
    """Compile modules, as `Exported.serialize` wrote them, for a chip ("v5e") that you need not own.

    Without `schedules` the result lists no kernels, and compilation takes a third less time. A module that the compiler
    refuses is in `errors` of the result.

    Raises:
      RopegenError: the chip is unknown, libtpu is missing, the compiler fails as a whole or takes longer than `seconds`,
        or a schedule has an unknown form.
    """
    if chip not in TOPOLOGIES:
        raise RopegenError(f"libtpu does not compile for a chip {chip!r}; {nearest(chip, TOPOLOGIES)}")
    folder = libtpu_folder(libtpu)
    with tempfile.TemporaryDirectory(prefix="ropegen-tpu-") as name:
        room = Path(name)
        job = _job(room, modules, chip, folder)
        progress(f"compiling for tpu:{chip}")
        result = _run(room, job, chip, seconds, schedules)
        compiler = Compiler(libtpu_version(folder), build_of(result["platform_version"]), result["jax"])
        compiled: dict[str, CompiledModule] = {}
        errors: dict[str, str] = {}
        for label, facts in result["modules"].items():
            if "error" in facts:
                errors[label] = facts["error"]
                continue
            place = job["modules"][label]
            kernels = read_schedules(Path(place["schedules"])) if schedules else ()
            compiled[label] = CompiledModule(Path(place["executable"]).read_bytes(), MappingProxyType(facts), kernels)
    devices_per_chip = result["devices"] // math.prod(map(int, TOPOLOGIES[chip].partition(":")[2].split("x")))
    return Compilation(chip, TOPOLOGIES[chip], result["device_kind"], devices_per_chip, compiler, compiled, errors)


def _job(room: Path, modules: Mapping[str, bytes], chip: str, libtpu: Path) -> dict[str, Any]:
    places: dict[str, dict[str, str]] = {}
    for index, (label, content) in enumerate(modules.items()):
        here = room / str(index)
        here.mkdir()
        (here / "module.jaxexport").write_bytes(content)
        schedules = here / "schedules"
        schedules.mkdir()
        places[label] = {
            "exported": str(here / "module.jaxexport"),
            "executable": str(here / "executable"),
            "schedules": str(schedules),
        }
    return {
        "library": str(libtpu.resolve() / "libtpu" / "libtpu.so"),
        "topology": TOPOLOGIES[chip],
        "dump": str(room / "dump"),
        "result": str(room / "result.json"),
        "modules": places,
    }


def _run(room: Path, job: Mapping[str, Any], chip: str, seconds: float, schedules: bool) -> dict[str, Any]:
    (room / "dump").mkdir()
    (room / "job.json").write_text(json.dumps(job), encoding="utf-8")
    flags = f"--xla_jf_dump_to={job['dump']} --xla_jf_dump_llo_text=true --xla_jf_dump_llo_pass_label_regex={LABELS}"
    settings = {
        **SETTINGS,
        "LIBTPU_INIT_ARGS": flags if schedules else "",
        "TPU_LIBRARY_PATH": job["library"],
    }
    # `env` sets them for that process only. -P keeps the script's folder off the path, so its modules shadow no others.
    command = ["env", *(f"{name}={value}" for name, value in settings.items()), sys.executable, "-P"]
    command += [str(Path(__file__).with_name("tpu_process.py")), str(room / "job.json")]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            timeout=seconds,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RopegenError(
            f"libtpu did not finish compiling for tpu:{chip} within {seconds:g} s; give a smaller graph or more time"
        ) from None
    if done.returncode:
        said = done.stderr.strip()[-_SHOWN:]
        raise RopegenError(
            f"libtpu ended with code {done.returncode} while it compiled for tpu:{chip} "
            f"({done.stdout.strip().rpartition(chr(10))[2] or 'before the first module'}); its last words: {said}"
        )
    return json.loads((room / "result.json").read_text(encoding="utf-8"))
