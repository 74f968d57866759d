"""Modules that a compiler in a process of its own turned into executables, and how that process is run.

A compiler for a device reads its settings from the environment, prints at any time, and may end its process. So ropegen
does not load it into the caller's process. A child process (`child.py`) gets the modules as files and returns
executables and listings. Its output is kept, and shown only if it fails.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from ropegen.errors import RopegenError

# The number of characters of a failed compiler's output that an error shows.
_SHOWN = 600

KernelT = TypeVar("KernelT", covariant=True)


@dataclass(frozen=True, slots=True)
class Compiler:
    """The compiler that ran: the package that holds it, its version, and the build that the runtime must match."""

    package: str
    version: str
    build: str
    jax: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


@dataclass(frozen=True, slots=True)
class CompiledModule(Generic[KernelT]):
    """One module for one chip: PJRT's serialized executable, its sizes in bytes, and what is known of its kernels.

    The executable takes all arguments of the module, in the same order.
    """

    executable: bytes
    sizes: Mapping[str, int]
    kernels: tuple[KernelT, ...]


@dataclass(frozen=True, slots=True)
class Compilation(Generic[KernelT]):
    """Modules compiled for one chip. `errors` holds the compiler's message for every module that it refused."""

    chip: str
    topology: str
    device_kind: str
    devices_per_chip: int
    """2 if every core of a chip is a device of its own, else 1."""
    compiler: Compiler
    modules: Mapping[str, CompiledModule[KernelT]]
    errors: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the child process is told: the target ("tpu:v5e"), its topology as JAX takes it, and the settings."""

    target: str
    compiler: str
    """What the compiler is called in errors."""
    topology: Mapping[str, str]
    described: str
    """The topology in words, for the result."""
    chips: int = 1
    """The number of chips of the topology."""
    imports: Sequence[str] = ()
    """Modules to import before anything is compiled."""
    settings: Callable[[Path], Mapping[str, str]]
    """The environment variables to set, by the folder into which the compiler may write listings."""
    unset: Sequence[str] = ()
    tools: Sequence[Path] = ()
    """Folders of programs that the compiler starts."""
    seconds: float


def compiled(
    job: Job,
    modules: Mapping[str, bytes],
    version: Callable[[str, str], Compiler],
    kernels: Callable[[Path], tuple[KernelT, ...]],
) -> Compilation[KernelT]:
    """Compile modules, as `Exported.serialize` wrote them.

    `version` makes the compiler's description from PJRT's platform version and the version of jax. `kernels` reads the
    listings of a module in a folder.

    Raises:
      RopegenError: the compiler fails as a whole, or takes longer than the seconds of the job; or `kernels` raises it.
    """
    with tempfile.TemporaryDirectory(prefix=f"ropegen-{job.target.partition(':')[0]}-") as name:
        room = Path(name)
        places = _places(room, modules)
        result = _run(job, room, places)
        done: dict[str, CompiledModule[KernelT]] = {}
        errors: dict[str, str] = {}
        for label, facts in result["modules"].items():
            if "error" in facts:
                errors[label] = facts["error"]
            else:
                content = Path(places[label]["executable"]).read_bytes()
                done[label] = CompiledModule(content, MappingProxyType(facts), kernels(Path(places[label]["listings"])))
    compiler = version(result["platform_version"], result["jax"])
    chip, kind = job.target.partition(":")[2], result["device_kind"]
    return Compilation(chip, job.described, kind, result["devices"] // job.chips, compiler, done, errors)


def _places(room: Path, modules: Mapping[str, bytes]) -> dict[str, dict[str, str]]:
    """The files of every module."""
    places: dict[str, dict[str, str]] = {}
    for index, (label, content) in enumerate(modules.items()):
        here = room / str(index)
        (here / "listings").mkdir(parents=True)
        (here / "module.jaxexport").write_bytes(content)
        names = {"exported": "module.jaxexport", "executable": "executable", "listings": "listings"}
        places[label] = {name: str(here / file) for name, file in names.items()}
    return places


def _run(job: Job, room: Path, places: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    dump, result = room / "dump", room / "result.json"
    dump.mkdir()
    told = {
        "topology": dict(job.topology),
        "imports": list(job.imports),
        "dump": str(dump),
        "result": str(result),
        "modules": places,
    }
    (room / "job.json").write_text(json.dumps(told), encoding="utf-8")
    # `sh` and `env` set the variables for that process only. -P keeps the script's folder off the path, so its modules
    # shadow no others.
    command = ["sh", "-c", 'PATH="$0$PATH"; export PATH; exec "$@"', "".join(f"{folder}:" for folder in job.tools)]
    command += ["env", *(word for name in job.unset for word in ("-u", name))]
    command += [f"{name}={value}" for name, value in job.settings(dump).items()]
    command += [sys.executable, "-P", str(Path(__file__).with_name("child.py")), str(room / "job.json")]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            timeout=job.seconds,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RopegenError(
            f"{job.compiler} did not finish compiling for {job.target} within {job.seconds:g} s; give a smaller graph or "
            "more time"
        ) from None
    if done.returncode:
        said = done.stderr.strip()[-_SHOWN:]
        raise RopegenError(
            f"{job.compiler} ended with code {done.returncode} while it compiled for {job.target} "
            f"({done.stdout.strip().rpartition(chr(10))[2] or 'before the first module'}); its last words: {said}"
        )
    return json.loads(result.read_text(encoding="utf-8"))
