"""Ahead-of-time compilation for TPU, without one: libtpu in a process of its own.

libtpu is one pip package and compiles for every chip. It configures itself by its environment, prints as it pleases
and holds a lock, so it never enters this process: a child gets the modules as files and gives back executables and
schedules. What it prints is kept, and shown only where it fails.
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

# The smallest slice of each chip that libtpu describes without its machine.
TOPOLOGIES: Mapping[str, str] = MappingProxyType(
    {"v4": "v4:2x2x1", "v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2", "v7x": "tpu7x:2x2x1"}
)
# Without these the compiler asks the network which machine this is, waits for the answer, and writes logs.
_SETTINGS = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# Of what a failed compiler printed, so much is shown.
_SHOWN = 600


@dataclass(frozen=True, slots=True)
class Compiler:
    """What compiled: the package's version, and the build that a runtime must equal."""

    libtpu: str
    build: str
    """The last line of PJRT's platform version, e.g. "Built on Nov 5 2026 ... cl/1014260217"."""
    jax: str


@dataclass(frozen=True, slots=True)
class CompiledModule:
    """One module for one chip: PJRT's serialized executable, its sizes in bytes, the schedule of each kernel.

    The executable's arguments are those of the module, all of them, in its order.
    """

    executable: bytes
    sizes: Mapping[str, int]
    kernels: tuple[KernelSchedule, ...]


@dataclass(frozen=True, slots=True)
class Compilation:
    """Modules compiled for one chip. `errors` has the compiler's words for those that it refused."""

    chip: str
    topology: str
    device_kind: str
    devices_per_chip: int
    """Two where each core of a chip is a device by itself."""
    compiler: Compiler
    modules: Mapping[str, CompiledModule]
    errors: Mapping[str, str]


def build_of(platform_version: str) -> str:
    """The build that PJRT's platform version names: its last line, which is one for compiler and runtime."""
    return platform_version.strip().rpartition("\n")[2].strip()


def libtpu_folder(libtpu: str | PathLike[str] | None = None) -> Path:
    """The folder that holds the package libtpu: the one given, else where this Python would import it from.

    Raises:
      RopegenError: it is not there.
    """
    if libtpu is not None:
        if not (Path(libtpu) / "libtpu" / "libtpu.so").is_file():
            raise RopegenError(
                f"{libtpu} holds no libtpu; `pip install --no-deps --target {libtpu} libtpu` puts it there"
            )
        return Path(libtpu)
    found = importlib.util.find_spec("libtpu")
    if found is None or found.origin is None:
        raise RopegenError(
            "compiling for TPU needs libtpu, the compiler, which is not installed; no TPU is needed: `pip install libtpu`, or, "
            "apart from this environment, `pip install --no-deps --target DIR libtpu` and --libtpu DIR"
        )
    return Path(found.origin).parent.parent


def libtpu_version(folder: Path) -> str:
    """The version of the package in a folder, from its metadata there."""
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
    """Modules as `Exported.serialize` wrote them, compiled for a chip ("v5e") that need not be here.

    Without `schedules` the kernels are not listed, which takes a third less time.

    Raises:
      RopegenError: an unknown chip, no libtpu, a compiler that fails as a whole or takes longer than `seconds`, or a
        schedule in an unknown form. A module that it refuses is in `errors`.
    """
    if chip not in TOPOLOGIES:
        raise RopegenError(f"libtpu compiles for no chip {chip!r}; {nearest(chip, TOPOLOGIES)}")
    folder = libtpu_folder(libtpu)
    with tempfile.TemporaryDirectory(prefix="ropegen-tpu-") as name:
        room = Path(name)
        job = _job(room, modules, chip, folder)
        progress(f"compiling for tpu:{chip}")
        found = _run(room, job, chip, seconds, schedules)
        compiler = Compiler(libtpu_version(folder), build_of(found["platform_version"]), found["jax"])
        compiled: dict[str, CompiledModule] = {}
        errors: dict[str, str] = {}
        for label, facts in found["modules"].items():
            if "error" in facts:
                errors[label] = facts["error"]
                continue
            place = job["modules"][label]
            kernels = read_schedules(Path(place["schedules"])) if schedules else ()
            compiled[label] = CompiledModule(Path(place["executable"]).read_bytes(), MappingProxyType(facts), kernels)
    devices_per_chip = found["devices"] // math.prod(map(int, TOPOLOGIES[chip].partition(":")[2].split("x")))
    return Compilation(chip, TOPOLOGIES[chip], found["device_kind"], devices_per_chip, compiler, compiled, errors)


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
        **_SETTINGS,
        "LIBTPU_INIT_ARGS": flags if schedules else "",
        "TPU_LIBRARY_PATH": job["library"],
    }
    # `env` sets them for that process only; -P keeps the modules beside the script from being imported by their names.
    command = ["env", *(f"{name}={value}" for name, value in settings.items()), sys.executable, "-P"]
    command += [str(Path(__file__).with_name("tpu_process.py")), str(room / "job.json")]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            timeout=seconds,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RopegenError(
            f"libtpu has not compiled for tpu:{chip} within {seconds:g} s; give a smaller graph or more time"
        ) from None
    if done.returncode:
        said = done.stderr.strip()[-_SHOWN:]
        raise RopegenError(
            f"libtpu ended with {done.returncode} while it compiled for tpu:{chip} "
            f"({done.stdout.strip().rpartition(chr(10))[2] or 'before the first module'}); its last words: {said}"
        )
    return json.loads((room / "result.json").read_text(encoding="utf-8"))
