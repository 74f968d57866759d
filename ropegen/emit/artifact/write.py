"""Building an artifact, and replacing the directory if one is there already."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path

from ropegen import explain
from ropegen.emit.artifact import executables, manifest
from ropegen.emit.artifact.manifest import (
    FORMAT,
    GRAPH,
    MANIFEST,
    TILES,
    Devices,
    GraphEntry,
    Input,
    Manifest,
    Output,
    Stage,
    Stages,
    Versions,
)
from ropegen.emit.artifact.read import Artifact, load
from ropegen.emit.artifact.report import report
from ropegen.emit.callable import Stages as DeviceStages
from ropegen.emit.mesh import Split, mesh_axes
from ropegen.emit.module import semantic, stablehlo
from ropegen.errors import RopegenError
from ropegen.ir import ops, text
from ropegen.planner import Plan
from ropegen.version import VERSION

# Of the custom calls that templates emit, those on jax.export's list of targets with guaranteed compatibility.
_STABLE_CALLS = frozenset({"mosaic_gpu_v2", "tpu_custom_call"})

Progress = Callable[[str], None]


def export(
    plans: Sequence[Plan],
    directory: str | PathLike[str],
    *,
    ahead_of_time: bool = False,
    libtpu: str | PathLike[str] | None = None,
    tiles: bytes | None = None,
    split: Split | None = None,
    progress: Progress = lambda doing: None,
) -> Artifact:
    """Writes the artifact of plans of one graph, one plan for each platform, and loads it.

    An artifact that is there already is replaced as a whole. `progress` is told what is being done. With
    `ahead_of_time`, every TPU chip gets an executable of its own plan; the modules hold the plan of the first chip.
    `libtpu` is the folder of the compiler's package, by default the one of this environment. `tiles` is the content of
    the file with measured tiles that `plan` was given; the artifact keeps it as `tiles.json`. With a `split`, the artifact
    is for the devices of its mesh; the files for consumers without JAX are for one device all the same.

    Raises:
      RopegenError: two plans are for one platform; the directory holds something other than an artifact, or cannot be
        written; there is no libtpu, or it refuses a module.
    """
    held = executables.split(plans) if ahead_of_time else plans
    stablehlo.check_platforms(held)
    compiled = executables.make(plans, libtpu=libtpu, progress=progress) if ahead_of_time else ()
    target = Path(directory)
    if target.is_symlink():  # the link stays, and the directory that it points to is replaced
        target = target.resolve()
    try:
        _check_replaceable(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            _write(aside, _files(held, plans, compiled, tiles, split, progress))
            progress("putting it in place")
            _put_in_place(aside, target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise RopegenError(
            f"cannot write {target}: {error.strerror or error}; give a directory that can be written"
        ) from error
    return load(target)


def _files(
    held: Sequence[Plan],
    plans: Sequence[Plan],
    compiled: Sequence[executables.Made],
    tiles: bytes | None,
    split: Split | None,
    progress: Progress,
) -> dict[str, bytes]:
    """The content of every file, the manifest last. The modules hold the plans `held`, a part of `plans`."""
    source = held[0].source
    first = next((plan for plan in held if plan.target.platform == "cpu"), held[0])
    files: dict[str, bytes] = {}
    progress("writing the graph and its plans")
    files[GRAPH] = text.dumps(source).encode()
    files["plan.txt"] = "\n\n".join(explain.text(plan) for plan in plans).encode()
    stages: dict[str, Stage] = {}
    counts: dict[str, dict[str, int]] = {}
    names: dict[str, stablehlo.Stage] = {"prepare": "prepare", "module": "run"}
    for name, stage in names.items():
        if stage == "prepare" and not first.prepared:
            continue
        progress(f"lowering {name} for {', '.join(str(plan.target) for plan in held)}")
        module = stablehlo.exported(held, stage, split=split)
        files[f"{name}.jaxexport"] = bytes(module.serialize(vjp_order=0))
        files[f"{name}.mlirbc"] = stablehlo.portable(first, stage)
        counts[name] = stablehlo.op_counts(module.mlir_module_serialized)
        stages[name] = Stage(
            arguments=tuple(stablehlo.argument_types(first, stage)),
            results=tuple(stablehlo.result_types(first, stage)),
            calling_convention=module.calling_convention_version,
        )
    progress("writing the semantic form")
    files["semantic.mlir"] = semantic.semantic(source).encode()
    for made in compiled:
        files |= made.files
    if tiles is not None:
        files[TILES] = tiles
    files["report.txt"] = report(plans, files, counts, compiled).encode()
    stated = _manifest(held, plans, Stages(**stages), compiled, files, split)
    return files | {MANIFEST: stated.encoded()}


def _manifest(
    held: Sequence[Plan],
    plans: Sequence[Plan],
    stages: Stages[Stage],
    compiled: Sequence[executables.Made],
    files: Mapping[str, bytes],
    split: Split | None,
) -> Manifest:
    graph = held[0].graph
    release = importlib.metadata.version("jax")
    return Manifest(
        format=FORMAT,
        graph=GraphEntry(name=graph.name, digest=text.digest(held[0].source)),
        plans={str(plan.target): plan.digest for plan in plans},
        platforms=tuple(plan.target.jax_platform for plan in held),
        built_with=Versions(ropegen=VERSION, jax=release, jaxlib=importlib.metadata.version("jaxlib")),
        custom_calls={
            call: "stable by jax.export" if call in _STABLE_CALLS else "no promise by jax.export"
            for call in stablehlo.declared_calls(held)
        },
        loads_with=f"jax {release} and, by jax.export's promise, every release of the six months after it",
        portable=f"StableHLO {stablehlo.PORTABLE_VERSION} and newer; arguments and results in the order of `stages`",
        inputs={
            value.op.label: Input(shape=value.type.shape, dtype=value.type.dtype, role=value.op.role)
            for value in graph.inputs
            if isinstance(value.op, ops.Input)
        },
        outputs={label: Output(shape=value.type.shape, dtype=value.type.dtype) for label, value in graph.outputs},
        stages=stages,
        files={name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())},
        executables={str(made.plan.target): made.entry for made in compiled},
        devices=None if split is None else _devices(held, split),
        tiles=TILES if TILES in files else None,
    )


def _devices(held: Sequence[Plan], split: Split) -> Devices:
    specs = DeviceStages(held, split).specs
    return Devices(
        mesh=dict(split.mesh.shape), inputs={label: tuple(map(mesh_axes, spec)) for label, spec in specs.items()}
    )


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def _check_replaceable(target: Path) -> None:
    if target.is_dir():
        # Many programs write a manifest.json, and people keep notes beside artifacts: only files that our manifest
        # lists may be removed.
        others = sorted({path.name for path in target.iterdir()} - _own_files(target))
        if others:
            shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
            raise RopegenError(
                f"{target} holds other files than an artifact's ({shown}); nothing was written: choose another directory"
            )
    elif target.exists() or target.is_symlink():
        raise RopegenError(f"{target} is a file; nothing was written: choose another directory")


def _own_files(folder: Path) -> frozenset[str]:
    """The files of the artifact in a folder; none if the folder holds no artifact."""
    try:
        return frozenset({MANIFEST, *manifest.read(folder).files})
    except RopegenError:
        return frozenset()


def _put_in_place(made: Path, target: Path) -> None:
    """Renames the finished directory. An older one goes aside first, and comes back if the renaming fails."""
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
