"""`python -m ropegen` in a clone: without an installed ropegen, beside an installed one, and without its dependencies."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ropegen as rg
from ropegen import dependencies

ROOT = Path(__file__).resolve().parent.parent
CASE = ROOT / "golden" / "cases" / "gpt2-small" / "config.json"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a user has after `git clone`, as far as the command needs it."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "ropegen", folder / "ropegen", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "templates", folder / "templates", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of this environment, without ropegen: Python's own machinery for them is off, so no .pth file counts."""
    folder = tmp_path_factory.mktemp("packages")
    for place in map(Path, sys.path):
        if place.name in ("site-packages", "dist-packages"):
            for path in place.iterdir():
                if "ropegen" not in path.name and not (folder / path.name).exists():
                    (folder / path.name).symlink_to(path)
    return folder


def run(*arguments: str, cwd: Path, path: Path | None) -> subprocess.CompletedProcess[str]:
    """Python without site-packages (-S) in a folder; `path` is where it looks for packages besides."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [sys.executable, "-S", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


WHERE = """
import importlib.metadata, ropegen, ropegen.templates
print(ropegen.__file__, *ropegen.templates.__path__)
try:
    print(importlib.metadata.version("ropegen"))
except importlib.metadata.PackageNotFoundError:
    print("not installed")
"""


def test_a_clone_that_is_not_installed(clone: Path, packages: Path, tmp_path: Path) -> None:
    where = run("-c", WHERE, cwd=clone, path=packages)
    assert where.stdout.split("\n")[:2] == [f"{clone}/ropegen/__init__.py {clone}/templates", "not installed"]
    version = run("-m", "ropegen", "--version", cwd=clone, path=packages)
    assert (version.returncode, version.stdout) == (0, f"ropegen {rg.__version__}\n")
    folder = tmp_path / "kernels"
    built = run(
        *("-m", "ropegen", "build", str(CASE), "--seq", "8", "--vocabulary", "16"),
        *("--target", "cpu", "--target", "tpu:v5e", "-o", str(folder)),
        cwd=clone,
        path=packages,
    )
    assert (built.returncode, built.stderr) == (0, "")
    checked = run("-m", "ropegen", "check", str(folder), cwd=clone, path=packages)
    assert checked.returncode == 0, checked.stderr
    assert "agrees" in checked.stdout


def test_a_clone_beside_an_installed_wheel(clone: Path, packages: Path, tmp_path: Path) -> None:
    """The installed package has its templates inside, as a wheel has; it is of another version. The clone is what runs."""
    installed = tmp_path / "installed"
    shutil.copytree(clone / "ropegen", installed / "ropegen")
    shutil.copytree(clone / "templates", installed / "ropegen" / "templates")
    about = installed / "ropegen-0.0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ropegen\nVersion: 0.0.1\n")
    for path in packages.iterdir():
        (installed / path.name).symlink_to(path.resolve())
    elsewhere = run("-c", WHERE, cwd=tmp_path, path=installed)
    assert elsewhere.stdout.split("\n")[:2] == [
        f"{installed}/ropegen/__init__.py {installed}/ropegen/templates",
        "0.0.1",
    ]
    here = run("-c", WHERE, cwd=clone, path=installed)
    assert here.stdout.split("\n")[:2] == [f"{clone}/ropegen/__init__.py {clone}/templates", "0.0.1"]
    version = run("-m", "ropegen", "--version", cwd=clone, path=installed)
    assert (version.returncode, version.stdout) == (0, f"ropegen {rg.__version__}\n")
    explained = run("-m", "ropegen", "explain", str(CASE), "--seq", "8", "-v", cwd=clone, path=installed)
    assert (explained.returncode, explained.stderr) == (0, "")
    assert "attend/xla" in explained.stdout


def test_a_clone_without_its_dependencies(clone: Path, tmp_path: Path) -> None:
    command = run("-m", "ropegen", "explain", str(CASE), cwd=clone, path=None)
    assert (command.returncode, command.stdout) == (2, "")
    (line,) = command.stderr.splitlines()
    assert line.startswith("error: ropegen needs jax, ")
    python, pip = line.split("; run: ")[1].split(" -m pip install ")
    assert python == shlex.quote(sys.executable)
    assert shlex.split(pip) == list(dependencies.REQUIRED.values())
    imported = run("-c", "import ropegen", cwd=clone, path=None)
    assert imported.returncode == 1
    assert imported.stderr.splitlines()[-1] == f"ModuleNotFoundError: {line.removeprefix('error: ')}"


def test_only_what_is_missing_is_named(clone: Path, packages: Path, tmp_path: Path) -> None:
    for path in packages.iterdir():
        if not path.name.startswith(("rich", "msgspec")):
            (tmp_path / path.name).symlink_to(path.resolve())
    command = run("-m", "ropegen", "env", cwd=clone, path=tmp_path)
    assert command.returncode == 2
    assert "needs rich, msgspec, which" in command.stderr


def test_the_requirements_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert list(dependencies.REQUIRED.values()) == project["dependencies"]
