"""Ahead-of-time compilation for TPU without a TPU: libtpu runs in a separate process.

libtpu is one pip package and compiles for every chip. It reads its settings from the environment, prints at any time
and holds a lock, so it runs in a process of its own; see `ropegen.compilers.process`.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from types import MappingProxyType

from ropegen.compilers.process import Compilation, Compiler, Job, compiled
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
) -> Compilation[KernelSchedule]:
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
    library = str(folder.resolve() / "libtpu" / "libtpu.so")

    def settings(dump: Path) -> Mapping[str, str]:
        flags = f"--xla_jf_dump_to={dump} --xla_jf_dump_llo_text=true --xla_jf_dump_llo_pass_label_regex={LABELS}"
        return {**SETTINGS, "LIBTPU_INIT_ARGS": flags if schedules else "", "TPU_LIBRARY_PATH": library}

    def version(platform_version: str, jax: str) -> Compiler:
        return Compiler("libtpu", libtpu_version(folder), build_of(platform_version), jax)

    progress(f"compiling for tpu:{chip}")
    job = Job(
        target=f"tpu:{chip}",
        compiler="libtpu",
        topology={"platform": "tpu", "topology_name": TOPOLOGIES[chip]},
        described=TOPOLOGIES[chip],
        chips=math.prod(map(int, TOPOLOGIES[chip].partition(":")[2].split("x"))),
        settings=settings,
        seconds=seconds,
    )
    return compiled(job, modules, version, read_schedules if schedules else _nothing)


def _nothing(listings: Path) -> tuple[KernelSchedule, ...]:
    return ()
