#!/usr/bin/env python3
"""Run every check of the project in environments of its own; needs Python 3.11 or newer and nothing else.

    python3 tests/run.py                  every lane that this machine can run; the summary names the others
    python3 tests/run.py --all            every lane is required, as in continuous integration
    python3 tests/run.py --lane floor     one lane: floor, ceiling, docs, tpu, gpu, gpu-floor, transformers, style or wheel
    python3 tests/run.py --random         other drawn examples than on every run; the summary prints their seed

Two versions of jax share the cases: of a test with several cases, the newest version runs every third case and the oldest
one runs the others. A test with one case runs with both. `--cases all` runs every case in every lane.

The lanes:
  style    ruff and pyright
  floor    the suite on Python 3.11 with jax 0.10.2, and IREE
  ceiling  on Python 3.12 with the newest jax, the tests that depend on the version of jax (not marked `any_jax`)
  docs     builds the site strictly, and checks its structure; in a browser too, if there is Chromium or Chrome
  tpu      compiles for TPU chips by libtpu, in the environments of both
  transformers
           the tests that compare with transformers and torch, in an environment that has them
  gpu      compiles for NVIDIA's chips, without a GPU, on Python 3.12 with the newest jax; interprets their kernels
  gpu-floor  compiles them with jax 0.10.2; it runs only if it is named
  wheel    the built package, and another package that adds a template to it, in an empty environment

Arguments that are not listed here go to pytest: `--lane transformers --exhaustive` measures every row of docs/models.md
again. Environments are kept in .venv-floor, .venv-ceiling and .venv-transformers, and made again when pyproject.toml
changes. libtpu is kept in .libtpu, outside of every environment, because JAX would look for a TPU if it found libtpu there.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLOOR = ["jax==0.10.2", "jaxlib==0.10.2"]
CEILING = ["jax>=0.12,<0.13", "jaxlib>=0.12,<0.13"]
# What golden/vectors was recorded with, but for torch: the index of PyTorch has 2.13 without CUDA's libraries too.
TRANSFORMERS = ["torch==2.13.0", "transformers==5.24.0", "tokenizers", "safetensors"]
# The packages with which XLA compiles for NVIDIA's GPUs: a third of the 4 GB of jax[cuda13], which also runs programs.
NVIDIA = ["nvidia-cuda-nvcc>=13,<14", "nvidia-nvjitlink>=13,<14", "nvidia-cuda-nvdisasm>=13,<14"]
# What the text of a file with live tests has: the fixtures that import transformers, or the mark.
LIVE = ("recorder", "live: ModuleType", "pytest.mark.live")
GRAPHS = "0:180"  # of the thousand that tests/test_drawn.py draws
LIBTPU = "0.0.52"  # whose listings ropegen.compilers reads


class LaneError(Exception):
    """A lane that cannot run here."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="fail where a lane cannot run here")
    parser.add_argument(
        "--lane", choices=sorted([*LANES, *NAMED]), action="append", help="run only this lane (repeatable)"
    )
    parser.add_argument(
        "--may-skip",
        choices=sorted(LANES),
        action="append",
        default=[],
        help="with --all: this lane is skipped, and the summary says why, where pip cannot install its packages",
    )
    options, pytest_arguments = parser.parse_known_args()
    results: list[tuple[str, str, float]] = []
    for name in options.lane or LANES:  # those of NAMED run only if they are named
        print(f"\n=== {name}", flush=True)
        start = time.monotonic()
        try:
            (LANES | NAMED)[name](pytest_arguments)
            outcome = "passed"
        except LaneError as error:
            outcome = f"{'failed' if options.all and name not in options.may_skip else 'skipped'}: {error}"
        except subprocess.CalledProcessError as error:
            outcome = f"failed: {Path(error.cmd[0]).name} ended with {error.returncode}"
        results.append((name, outcome, time.monotonic() - start))
    print("\n=== summary")
    for name, outcome, seconds in results:
        print(f"{name:12} {seconds:6.0f} s  {outcome}")
    counts = [sum(outcome.startswith(word) for _, outcome, _ in results) for word in ("passed", "failed", "skipped")]
    print(f"lanes: {counts[0]} passed, {counts[1]} failed, {counts[2]} skipped")
    return 1 if counts[1] else 0


def floor(arguments: list[str]) -> None:
    # The lane docs builds the site.
    suite(floor_environment(), ["--cases", "others", "--graphs", GRAPHS, "--ignore", "tests/test_site.py", *arguments])


def ceiling(arguments: list[str]) -> None:
    # The lane gpu interprets the kernels of that file with the same version of jax.
    skipped = ["--ignore", "tests/test_attend_gpu.py"]
    some = ["-m", "not any_jax", "--cases", "third", "--graphs", GRAPHS]
    suite(ceiling_environment(), [*some, *skipped, *arguments])


def tpu(arguments: list[str]) -> None:
    for python, cases in ((floor_environment(), "third"), (ceiling_environment(), "others")):
        suite(python, ["--libtpu", str(libtpu(python)), "--cases", cases, "tests/test_compile_tpu.py", *arguments])


def transformers(arguments: list[str]) -> None:
    base = interpreter("3.11")
    try:
        python = environment("transformers", base, [*FLOOR, *TRANSFORMERS, "-e", ".[test,native]"])
    except subprocess.CalledProcessError:
        raise LaneError(
            f"pip installs no {', '.join(TRANSFORMERS)} here, without which nothing is compared with transformers"
        ) from None
    # Without one of these, the tests would be skipped, and the lane would pass.
    call(python, "-W", "ignore", "-c", "import safetensors, tokenizers, torch, transformers")
    tests = sorted((ROOT / "tests").glob("test_*.py"))
    # The other files would be imported for nothing, and some need libraries that are not there.
    files = [str(path) for path in tests if any(word in path.read_text() for word in LIVE)]
    suite(python, ["-m", "live", *files, *arguments])


def gpu(arguments: list[str]) -> None:
    # Each file stays in one process, which compiles its kernels once.
    files = ["tests/test_compile_cuda.py", "tests/test_attend_gpu.py"]
    suite(
        gpu_environment("gpu", [*CEILING, "jax-cuda13-plugin>=0.12,<0.13"]), ["--dist", "loadfile", *files, *arguments]
    )


def gpu_floor(arguments: list[str]) -> None:
    python = gpu_environment("gpu-floor", [*FLOOR, "jax-cuda13-plugin==0.10.2"])
    suite(python, ["--dist", "loadfile", "tests/test_compile_cuda.py", *arguments])


def gpu_environment(name: str, jax: list[str]) -> Path:
    """An environment with the compilers for CUDA."""
    base = interpreter("3.12")
    try:
        return environment(name, base, [*jax, *NVIDIA, "-e", ".[test]"])
    except subprocess.CalledProcessError:
        raise LaneError(
            f"pip installs no jax-cuda13-plugin, {', '.join(NVIDIA)} here, without which no kernel for GPU is compiled or "
            "interpreted; they are on PyPI for Linux"
        ) from None


def floor_environment() -> Path:
    return environment("floor", interpreter("3.11"), [*FLOOR, "-e", ".[test,docs,iree,seeds,native,sign]"])


def ceiling_environment() -> Path:
    return environment("ceiling", interpreter("3.12"), [*CEILING, "-e", ".[test,seeds,native,sign]"])


def libtpu(python: Path) -> Path:
    """The folder of the compiler for TPU, which one call of pip fills."""
    folder = ROOT / ".libtpu"
    if not (folder / "libtpu" / "libtpu.so").is_file() or not (folder / f"libtpu-{LIBTPU}.dist-info").is_dir():
        print(f"making {folder.name} ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            call(python, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), f"libtpu=={LIBTPU}")
        except subprocess.CalledProcessError:
            raise LaneError(
                f"pip installs no libtpu=={LIBTPU} here, without which nothing is compiled for TPU; it is on PyPI for "
                "Linux on x86-64"
            ) from None
    return folder


def style(arguments: list[str]) -> None:
    python = floor_environment()
    call(python, "-m", "ruff", "check", ".")
    call(python, "-m", "ruff", "format", "--check", ".")
    call(python, "-m", "pyright", "--pythonpath", str(python))


def docs(arguments: list[str]) -> None:
    call(floor_environment(), "-m", "pytest", "-q", "-rs", "tests/test_site.py", *arguments)


def wheel(arguments: list[str]) -> None:
    """Build the wheel, install it alone, use it from an empty folder and from a clone; then add a template to it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        builder = make_environment(folder / "build", interpreter("3.11"))
        call(builder, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
        (built,) = folder.glob("ropegen-*.whl")
        python = make_environment(folder / "use", interpreter("3.11"))
        call(python, "-m", "pip", "install", "--quiet", str(built), *FLOOR)
        empty = folder / "empty"
        empty.mkdir()
        case = ROOT / "golden" / "cases" / "gpt2-small" / "config.json"
        output(python, "-m", "ropegen", "explain", str(case), "--target", "tpu:v5e", cwd=empty)
        options = ("--target", "cpu", "--target", "tpu:v5e", "--vocabulary", "64", "--seq", "16", "-o", "kernels")
        call(python, "-m", "ropegen", "build", str(case), *options, cwd=empty)
        call(python, "-m", "ropegen", "check", "kernels", cwd=empty)
        output(
            python, "-m", "ropegen", "explain", str(case), "--target", "cpu", cwd=ROOT
        )  # runs the clone, not the wheel
        example = shutil.copytree(ROOT / "docs" / "template", folder / "template")  # pip builds where the sources are
        call(python, "-m", "pip", "install", "--quiet", "--no-deps", str(example))
        (empty / "short.mlir").write_text(SHORT_ATTENTION)
        explained = output(python, "-m", "ropegen", "explain", "short.mlir", "--target", "cpu", "-v", cwd=empty)
        if "attend/dense" not in explained or "taken" not in explained.partition("attend/dense")[2]:
            raise LaneError(f"the template of docs/template is installed, and no plan takes it:\n{explained}")


# Attention without a mask, small enough for the template of docs/template.
SHORT_ATTENTION = """\
module attributes {ropegen.name = "short", ropegen.version = 1 : i64} {
  %q = "ropegen.input"() {label = "q"} : () -> tensor<2x8x4x16xf32>
  %k = "ropegen.input"() {label = "k"} : () -> tensor<2x8x2x16xf32>
  %v = "ropegen.input"() {label = "v"} : () -> tensor<2x8x2x16xf32>
  %out = "ropegen.attend"(%q, %k, %v) {scale = 0.25} :
      (tensor<2x8x4x16xf32>, tensor<2x8x2x16xf32>, tensor<2x8x2x16xf32>) -> tensor<2x8x4x16xf32>
  "ropegen.output"(%out) {label = "out"} : (tensor<2x8x4x16xf32>) -> ()
}
"""

LANES = {
    "style": style,
    "docs": docs,
    "floor": floor,
    "ceiling": ceiling,
    "tpu": tpu,
    "gpu": gpu,
    "transformers": transformers,
    "wheel": wheel,
}
NAMED = {"gpu-floor": gpu_floor}


def suite(python: Path, arguments: list[str]) -> None:
    workers = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    # Nearly all the time is compilation.
    call(python, "-m", "pytest", "-q", "-n", workers, "--quick", "--durations=40", *arguments)


def interpreter(version: str) -> Path:
    """A Python of that version: this one, one on the path, or one that pyenv keeps."""
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        # In an environment, `sys.executable` is the environment's own. If that is a lane's, making it anew would remove it.
        return (
            Path(sys.base_prefix) / "bin" / f"python{version}"
            if sys.prefix != sys.base_prefix
            else Path(sys.executable)
        )
    for candidate in (shutil.which(f"python{version}"), *pyenv(version)):
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return Path(candidate)
    raise LaneError(f"there is no Python {version} here; install it and run this again")


def pyenv(version: str) -> list[str]:
    if not shutil.which("pyenv"):
        return []
    listed = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False).stdout.split()
    matching = [name for name in listed if name.startswith(f"{version}.")]
    prefixes = [
        subprocess.run(["pyenv", "prefix", name], capture_output=True, text=True, check=False) for name in matching
    ]
    return [str(Path(prefix.stdout.strip()) / "bin" / "python") for prefix in prefixes if prefix.returncode == 0]


def environment(name: str, base: Path, requirements: list[str]) -> Path:
    """The environment of a lane, with its requirements; made anew when they or pyproject.toml change."""
    folder = ROOT / f".venv-{name}"
    stamp = folder / "made-from"
    made_from = hashlib.sha256(
        "\n".join([str(base), *requirements, (ROOT / "pyproject.toml").read_text()]).encode()
    ).hexdigest()
    if stamp.is_file() and stamp.read_text() == made_from:
        return folder / "bin" / "python"
    print(f"making {folder.name} ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    python = make_environment(folder, base)
    call(python, "-m", "pip", "install", "--quiet", *requirements)
    stamp.write_text(made_from)
    return python


def make_environment(folder: Path, base: Path) -> Path:
    subprocess.run([str(base), "-m", "venv", str(folder)], check=True)
    return folder / "bin" / "python"


def call(python: Path, *arguments: str, cwd: Path = ROOT) -> None:
    subprocess.run([str(python), *arguments], check=True, cwd=cwd)


def output(python: Path, *arguments: str, cwd: Path) -> str:
    return subprocess.run([str(python), *arguments], check=True, cwd=cwd, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
