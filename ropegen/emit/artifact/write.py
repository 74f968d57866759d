"""Building an artifact, and replacing the directory where one is already."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from ropegen import explain
from ropegen.emit.artifact import executables
from ropegen.emit.artifact import manifest as manifests
from ropegen.emit.artifact.manifest import FORMAT, MANIFEST
from ropegen.emit.artifact.read import Artifact, load
from ropegen.emit.artifact.report import report
from ropegen.emit.module import semantic, stablehlo
from ropegen.errors import RopegenError
from ropegen.ir import ops, text
from ropegen.planner import Plan
from ropegen.version import VERSION

# Of the custom calls that templates emit, those on jax.export's list of targets with guaranteed compatibility.
_STABLE_CALLS = frozenset({"mosaic_gpu_v2", "tpu_custom_call"})

Step = Callable[[str], None]


def export(
    plans: Sequence[Plan],
    directory: str | PathLike[str],
    *,
    ahead_of_time: bool = False,
    libtpu: str | PathLike[str] | None = None,
    progress: Step = lambda doing: None,
) -> Artifact:
    """Writes the artifact of plans of one graph, one a platform, and loads it.

    An artifact that is there already is replaced as a whole. `progress` is told what is being done. With
    `ahead_of_time` each chip for TPU has an executable of its own plan beside the modules, which hold the first's;
    `libtpu` is the folder of the compiler's package, by default the one of this environment.

    Raises:
      RopegenError: two plans for one platform, a directory that holds something else than an artifact, or one that
        cannot be written; no libtpu, or a module that it refuses.
    """
    held = executables.split(plans) if ahead_of_time else plans
    stablehlo.check_platforms(held)
    made = executables.make(plans, libtpu=libtpu, progress=progress) if ahead_of_time else ()
    target = Path(directory)
    if target.is_symlink():  # the link stays, and what it points to is replaced
        target = target.resolve()
    try:
        _check_replaceable(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            _write(aside, held, plans, made, progress)
            progress("putting it in place")
            _put_in_place(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise RopegenError(
            f"cannot write {target}: {error.strerror or error}; give a directory that can be written"
        ) from error
    return load(target)


def _write(
    folder: Path, plans: Sequence[Plan], explained: Sequence[Plan], made: Sequence[executables.Made], progress: Step
) -> None:
    source = plans[0].source
    first = next((each for each in plans if each.target.platform == "cpu"), plans[0])
    files: dict[str, bytes] = {}
    progress("writing the graph and its plans")
    files["graph.mlir"] = text.dumps(source).encode()
    files["plan.txt"] = "\n\n".join(explain.text(each) for each in explained).encode()
    stages: dict[str, Any] = {}
    counts: dict[str, dict[str, int]] = {}
    names: dict[str, stablehlo.Stage] = {"prepare": "prepare", "module": "run"}
    for name, stage in names.items():
        if stage == "prepare" and not first.prepared:
            continue
        progress(f"lowering {name} for {', '.join(str(each.target) for each in plans)}")
        module = stablehlo.exported(plans, stage)
        files[f"{name}.jaxexport"] = bytes(module.serialize(vjp_order=0))
        files[f"{name}.mlirbc"] = stablehlo.portable(first, stage)
        counts[name] = stablehlo.op_counts(module.mlir_module_serialized)
        stages[name] = {
            "arguments": list(stablehlo.argument_types(first, stage)),
            "results": list(stablehlo.result_types(first, stage)),
            "calling_convention": module.calling_convention_version,
        }
    progress("writing the semantic form")
    files["semantic.mlir"] = semantic.semantic(source).encode()
    for each in made:
        files |= each.files
    files["report.txt"] = report(explained, files, counts, made).encode()
    manifest = _manifest(plans, stages, files) | {"plans": {str(each.target): each.digest for each in explained}}
    if made:
        manifest["executables"] = {str(each.plan.target): dict(each.entry) for each in made}
    files[MANIFEST] = (json.dumps(manifest, indent=2) + "\n").encode()
    for name, content in files.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _manifest(plans: Sequence[Plan], stages: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    graph = plans[0].graph
    calls = stablehlo.declared_calls(plans)
    release = importlib.metadata.version("jax")
    return {
        "format": FORMAT,
        "graph": {"name": graph.name, "digest": text.digest(plans[0].source)},
        "plans": {str(each.target): each.digest for each in plans},
        "platforms": [each.target.jax_platform for each in plans],
        "built_with": {
            "ropegen": VERSION,
            "jax": release,
            "jaxlib": importlib.metadata.version("jaxlib"),
        },
        "custom_calls": {
            each: "stable by jax.export" if each in _STABLE_CALLS else "no promise by jax.export" for each in calls
        },
        "loads_with": f"jax {release} and, by jax.export's promise, every release of the six months after it",
        "portable": f"StableHLO {stablehlo.PORTABLE_VERSION} and newer; arguments and results in the order of `stages`",
        "inputs": {
            each.op.label: {"shape": list(each.type.shape), "dtype": each.type.dtype, "role": each.op.role}
            for each in graph.inputs
            if isinstance(each.op, ops.Input)
        },
        "outputs": {
            label: {"shape": list(value.type.shape), "dtype": value.type.dtype} for label, value in graph.outputs
        },
        "stages": dict(stages),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
    }


def _check_replaceable(target: Path) -> None:
    if target.is_dir():
        # Many programs have a manifest.json, and people keep notes beside artifacts: only what ours lists may go.
        others = sorted({each.name for each in target.iterdir()} - _own_files(target))
        if others:
            shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
            raise RopegenError(
                f"{target} holds other files than an artifact's ({shown}); nothing was written: choose another directory"
            )
    elif target.exists() or target.is_symlink():
        raise RopegenError(f"{target} is a file; nothing was written: choose another directory")


def _own_files(folder: Path) -> frozenset[str]:
    """The files of the artifact in a folder; none where it holds no artifact."""
    try:
        return frozenset({MANIFEST, *manifests.read(folder)["files"]})
    except RopegenError:
        return frozenset()


def _put_in_place(made: Path, target: Path) -> None:
    """Rename the finished directory to its name; what was there goes aside first and comes back if that fails."""
    made.chmod(0o755)
    if not target.exists():
        made.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    old.rmdir()
    target.rename(old)
    try:
        made.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old)
