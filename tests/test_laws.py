"""Laws of the code: a module imports only from its own layer and below, planning queries no device, and what is banned."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# The layer of every module, by its longest matching prefix. A module may import its own layer and those below.
LAYERS = {
    "ropegen": 8,
    "ropegen.__main__": 8,
    "ropegen.cli": 8,
    "ropegen.compat": 8,
    "ropegen.zeta": 8,
    "ropegen.penzai": 8,
    "ropegen.nnx": 8,
    "ropegen.linen": 8,
    "ropegen.flax_attention": 8,
    "ropegen.retrofitting": 8,
    "ropegen.equinox": 8,
    "ropegen.layers": 8,
    "ropegen.api": 7,
    "ropegen.functions": 7,
    "ropegen.layouts": 7,
    "ropegen.model": 7,
    "ropegen.plain_call": 7,
    "ropegen.shared_sequence": 7,
    "ropegen.symbolic": 7,
    "ropegen.told": 7,
    "ropegen.bench": 7,
    "ropegen.tuning": 7,
    "ropegen.tuning_by_code": 7,
    "ropegen.emit": 6,
    "ropegen.explanation": 6,
    "ropegen.planner": 6,
    "ropegen.plans": 6,
    "ropegen.method": 6,
    "ropegen.selection": 5,
    "ropegen.tiles": 4,
    "ropegen.template": 3,
    "ropegen.templates": 3,
    "ropegen.angles": 3,
    "ropegen.merging": 3,
    "ropegen.plain": 3,
    "ropegen.reference": 3,
    "ropegen.passes": 3,
    "ropegen.models": 2,
    "ropegen.cost": 2,
    "ropegen.weights": 2,
    "ropegen.ir.build": 2,
    "ropegen.ir.spec": 2,
    "ropegen.ir.text": 2,
    "ropegen.ring": 2,
    "ropegen.captured": 2,
    "ropegen.ir": 1,
    "ropegen.compilers": 1,
    "ropegen.dropout": 1,
    "ropegen.expression": 1,
    "ropegen.expression_parser": 1,
    "ropegen.masks": 1,
    "ropegen.mask_pictures": 1,
    "ropegen.native": 1,
    "ropegen.models.block": 1,
    "ropegen.models.config": 1,
    "ropegen.models.families": 1,
    "ropegen.models.family": 1,
    "ropegen.models.fields": 1,
    "ropegen.models.known_types": 1,
    "ropegen.models.reading": 1,
    "ropegen.models.rope_parameters": 1,
    "ropegen.models.tensors": 1,
    "ropegen.models.wrappers": 1,
    "ropegen.rotary": 1,
    "ropegen.run_time_tiles": 1,
    "ropegen.scaling": 1,
    "ropegen.tile_classes": 1,
    "ropegen.ragged": 1,
    "ropegen.arguments": 0,
    "ropegen.dependencies": 0,
    "ropegen.errors": 0,
    "ropegen.quantities": 0,
    "ropegen.target": 0,
    "ropegen.types": 0,
    "ropegen.version": 0,
}


def modules() -> dict[str, Path]:
    paths: dict[str, Path] = {}
    for folder, prefix in ((ROOT / "ropegen", "ropegen"), (ROOT / "templates", "ropegen.templates")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((prefix, *(part for part in parts if part != "__init__")))
            paths[name] = path
    return paths


MODULES = modules()


def layer_of(name: str) -> int:
    while name not in LAYERS:
        name, dot, _ = name.rpartition(".")
        assert dot, f"{name} has no layer; give it one in LAYERS"
    return LAYERS[name]


def imports(name: str, path: Path) -> list[tuple[str, int]]:
    """The modules of the project that a module imports, inside functions too, with the line of each import."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imported: list[tuple[str, int]] = []
    for statement in ast.walk(ast.parse(path.read_text())):
        if isinstance(statement, ast.Import):
            imported += [(alias.name, statement.lineno) for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            base = statement.module or ""
            if statement.level:
                above = package.split(".")[: len(package.split(".")) - statement.level + 1]
                base = ".".join([*above, *([statement.module] if statement.module else [])])
            for alias in statement.names:
                inner = f"{base}.{alias.name}"
                imported.append((inner if inner in MODULES else base, statement.lineno))
    return [(module, line) for module, line in imported if module.split(".")[0] == "ropegen"]


def test_the_layers_name_modules_that_exist() -> None:
    assert set(LAYERS) <= {"ropegen", *MODULES, *(name.rpartition(".")[0] for name in MODULES)}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_its_own_layer_and_below(name: str) -> None:
    above = [
        f"line {line} imports {other}"
        for other, line in imports(name, MODULES[name])
        if layer_of(other) > layer_of(name)
    ]
    assert not above


@pytest.mark.parametrize("name", [module for module in MODULES if not module.startswith("ropegen.templates")])
def test_nobody_imports_a_template_by_name(name: str) -> None:
    assert not [line for other, line in imports(name, MODULES[name]) if other.startswith("ropegen.templates.")]


def names_used(path: Path) -> set[str]:
    """The dotted names in the code of a module, including those that it imports."""
    used: set[str] = set()
    for part in ast.walk(ast.parse(path.read_text())):
        if isinstance(part, ast.Attribute):
            used.add(ast.unparse(part))
        elif isinstance(part, ast.ImportFrom) and part.module:
            used.update(f"{part.module}.{alias.name}" for alias in part.names)
        elif isinstance(part, ast.Import):
            used.update(alias.name for alias in part.names)
    return used


@pytest.mark.parametrize("name", MODULES)
def test_no_private_jax_and_no_options_from_the_environment(name: str) -> None:
    used = names_used(MODULES[name])
    assert not {dotted for dotted in used if "jax._src" in dotted or dotted.startswith(("os.environ", "os.getenv"))}


@pytest.mark.parametrize("name", MODULES)
def test_no_handler_catches_every_exception(name: str) -> None:
    for part in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(part, ast.ExceptHandler):
            caught = (
                {node.id for node in ast.walk(part.type) if isinstance(node, ast.Name)} if part.type else {"everything"}
            )
            assert not caught & {"Exception", "BaseException", "everything"}, f"line {part.lineno}"


def test_only_one_module_of_the_ir_touches_the_mlir_bindings() -> None:
    users = {
        name
        for name, path in MODULES.items()
        if name.startswith("ropegen.ir") and any("mlir" in dotted for dotted in names_used(path))
    }
    assert users == {"ropegen.ir.text"}


def test_only_the_host_target_the_env_verb_and_the_process_of_compilers_query_devices() -> None:
    users = {
        name
        for name, path in MODULES.items()
        if names_used(path) & {"jax.devices", "jax.local_devices", "jax.default_backend"}
    }
    assert users <= {"ropegen.target", "ropegen.cli.env", "ropegen.compilers.child"}


PLANS = """
import json, sys
import ropegen as rg
from ropegen import models
graph = models.from_case(json.loads(open(sys.argv[1]).read()))
for target in ("cpu", "cpu:64", "gpu:a100", "gpu:h100", "gpu:h200", "gpu:b200", "tpu:v4", "tpu:v5e", "tpu:v5p", "tpu:v6e", "tpu:v7x"):
    print(target, rg.plan(graph, target).digest)
"""


def test_planning_queries_no_device() -> None:
    case = ROOT / "golden" / "cases" / "llama3-8b-prefill" / "config.json"
    environment = {"JAX_PLATFORMS": "bogus", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", PLANS, str(case)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    digests = [line.split()[1] for line in done.stdout.splitlines()]
    assert len(digests) == len(set(digests)) == 11


def test_importing_ropegen_imports_no_framework() -> None:
    code = "import sys, ropegen; print([m for m in ('equinox', 'flax', 'penzai', 'torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_hints_name_packages_that_pip_finds() -> None:
    """ropegen is on no index, so a hint names the package itself, with the version that pyproject.toml states."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {requirement for extra in project["optional-dependencies"].values() for requirement in extra}
    names = {re.split(r"[\[<>=]", requirement)[0] for requirement in extras}
    hints = {
        hint
        for path in MODULES.values()
        for hint in re.findall(
            r"pip install (?:--no-deps )?(?:--target \S+ )?('[^']+'|\w[\w-]*(?:==[\w.]+)?)", path.read_text()
        )
    }
    assert len(hints) > 5
    for hint in hints:
        said = hint.strip("'")
        assert said in extras | names or said.split("==")[0] in names, hint
