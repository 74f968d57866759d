"""Building an artifact, and replacing the directory if one is there already."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path

from ropegen import explanation as explain
from ropegen.cost import Direction
from ropegen.emit.artifact import capability, executables, manifest, native, place, program
from ropegen.emit.artifact.manifest import (
    FORMAT,
    GRAPH,
    MANIFEST,
    PLANS,
    SIGNATURES,
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
from ropegen.emit.artifact.read import Artifact, assembled, while_whole
from ropegen.emit.artifact.report import report
from ropegen.emit.callable import Stages as DeviceStages
from ropegen.emit.mesh import Split, mesh_axes
from ropegen.emit.module import semantic, stablehlo
from ropegen.errors import RopegenError
from ropegen.ir import ops, text
from ropegen.ir.graph import Graph
from ropegen.plans import FORWARD, Plan
from ropegen.template import STABLE_CALLS
from ropegen.version import VERSION

Progress = Callable[[str], None]


def export(
    plans: Sequence[Plan],
    directory: str | PathLike[str],
    *,
    ahead_of_time: bool = False,
    libtpu: str | PathLike[str] | None = None,
    source: bool = False,
    grad: bool = False,
    tiles: bytes | None = None,
    split: Split | None = None,
    progress: Progress = lambda doing: None,
) -> Artifact:
    """Writes the artifact of plans of one graph, one plan for each platform, and loads it.

    An artifact that is there already is replaced as a whole. `progress` is told what is being done. With
    `ahead_of_time`, every TPU and GPU chip gets an executable of its own plan, and every CPU whose vector unit is named gets its
    native kernels as object files; the modules hold the plan of the first chip of a platform. `libtpu` is the folder of
    the compiler's package, by default the one of this environment. With `source`, the native kernels are also written
    for readers. With `grad`, the artifact also holds the gradient of a call, and the plans should weigh it. `tiles` is
    the content of the file with measured tiles that `plan` was given; the artifact keeps it as `tiles.json`. With a
    `split`, the artifact is for the devices of its mesh; the files for consumers without JAX are for one device all the
    same.

    Raises:
      RopegenError: two plans are for one platform; the directory holds something other than an artifact, or cannot be
        written; there is no compiler for a chip, or it refuses a module; there are no native kernels to compile or to write;
        `grad` is for a graph without floating inputs or outputs; or there is a `split`, and `ahead_of_time`, `source` or
        `grad` too.
    """
    if split is not None and (ahead_of_time or source):
        raise RopegenError(
            f"executables, native kernels and their sources are for one device, and the artifact is for "
            f"{split.mesh.size} devices; build it without --compile and --source (ahead_of_time, source), or for one device"
        )
    if split is not None and grad:
        raise RopegenError(
            f"the gradient of an artifact is for one device, and the artifact is for {split.mesh.size} devices; build it "
            "without --grad (grad), or for one device. `rg.plan(graph, target).compile(sharding=...)` has a gradient on "
            "several devices"
        )
    if grad and plans:
        _expect_derivative(plans[0].graph)
    held = executables.split(plans) if ahead_of_time else plans
    stablehlo.check_platforms(held)
    compiled = executables.make(plans, libtpu=libtpu, progress=progress) if ahead_of_time else ()
    objects = native.make(plans, held[0], grad=grad, progress=progress) if ahead_of_time else ()
    sources = _sources(plans, grad) if source else {}
    target = Path(directory)
    if target.is_symlink():  # the link stays, and the directory that it points to is replaced
        target = target.resolve()
    try:
        expect_replaceable(target, target)
        files, stated = _files(held, plans, compiled, objects, sources, grad, tiles, split, progress)
        made = assembled(target, stated, files, trusted=True)
        progress("putting it in place")
        place.put(files | {MANIFEST: stated.encoded()}, target, expect_replaceable)
    except OSError as error:
        raise RopegenError(
            f"cannot write {target}: {error.strerror or error}; give a directory that can be written"
        ) from error
    return made


def weighed(grad: bool) -> tuple[Direction, ...]:
    """The directions that the plans of an artifact weigh, with or without its gradient; see `plan`."""
    return ("forward", "backward") if grad else FORWARD


def _expect_derivative(graph: Graph) -> None:
    """Refuses a graph that has no gradient, because it reads or computes no floating numbers."""
    if not any(kind.is_float for kind in graph.input_types.values()):
        raise RopegenError(f"{graph.name} has no floating input, and so no gradient; build it without --grad (grad)")
    if not any(value.type.is_float for _, value in graph.outputs):
        raise RopegenError(f"{graph.name} has no floating output, and so no gradient; build it without --grad (grad)")


def _sources(plans: Sequence[Plan], grad: bool) -> dict[str, bytes]:
    sources: dict[str, bytes] = {}
    for plan in plans:
        sources |= native.source(plan, grad=grad)
    if not sources:
        raise RopegenError(
            f"the plans for {', '.join(str(plan.target) for plan in plans)} have no native kernels, whose code --source "
            "(source=True) writes; leave it out, or name a CPU"
        )
    return sources


def _files(
    held: Sequence[Plan],
    plans: Sequence[Plan],
    compiled: Sequence[executables.Made],
    objects: Sequence[native.Made],
    sources: Mapping[str, bytes],
    grad: bool,
    tiles: bytes | None,
    split: Split | None,
    progress: Progress,
) -> tuple[dict[str, bytes], Manifest]:
    """The content of every file, and the manifest. The modules hold the plans `held`, a part of `plans`."""
    source = held[0].source
    first = next((plan for plan in held if plan.target.platform == "cpu"), held[0])
    files: dict[str, bytes] = {}
    progress("writing the graph and its plans")
    files[GRAPH] = text.dumps(source).encode()
    files[PLANS] = "\n\n".join(explain.text(plan) for plan in plans).encode()
    stages: dict[str, Stage] = {}
    counts: dict[str, dict[str, int]] = {}
    if split is not None:
        _expect_same_stages(held, first, split)
    for name, stage in stablehlo.stages(first, grad=grad).items():
        progress(f"lowering {name} for {', '.join(str(plan.target) for plan in held)}")
        module = program.sealed(stablehlo.exported(held, stage, split=split), text.digest(source), name)
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
    for made in (*compiled, *objects):
        files |= made.files
    files |= sources
    if tiles is not None:
        files[TILES] = tiles
    files["report.txt"] = report(plans, files, counts, compiled, objects).encode()
    return files, _manifest(held, plans, Stages(**stages), compiled, objects, files, split)


def _manifest(
    held: Sequence[Plan],
    plans: Sequence[Plan],
    stages: Stages[Stage],
    compiled: Sequence[executables.Made],
    objects: Sequence[native.Made],
    files: Mapping[str, bytes],
    split: Split | None,
) -> Manifest:
    by_target = {made.plan.target: made.entry for made in objects}
    entries = {str(plan.target): native.entry(plan, by_target.get(plan.target)) for plan in plans}
    graph = held[0].graph
    release = importlib.metadata.version("jax")
    return Manifest(
        format=FORMAT,
        graph=GraphEntry(name=graph.name, digest=text.digest(held[0].source)),
        plans={str(plan.target): plan.digest for plan in plans},
        platforms=tuple(plan.target.jax_platform for plan in held),
        built_with=Versions(ropegen=VERSION, jax=release, jaxlib=importlib.metadata.version("jaxlib")),
        custom_calls={
            call: "stable by jax.export" if call in STABLE_CALLS else "no promise by jax.export"
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
        # Native kernels are for one device.
        native={target: entry for target, entry in entries.items() if entry is not None and split is None},
        capabilities={str(plan.target): entry for plan in held if (entry := capability.entry(plan)) is not None},
        devices=None if split is None else _devices(held, split),
        tiles=TILES if TILES in files else None,
    )


def _expect_same_stages(held: Sequence[Plan], first: Plan, split: Split) -> None:
    """Refuses a split whose parts prepare other values than the plan of the whole, which the portable files hold."""
    parts = DeviceStages(held, split)
    for stage in ("prepare", "run"):
        whole, own = set(stablehlo.argument_types(first, stage)), set(parts.arguments(stage))
        if whole != own:
            raise RopegenError(
                f"the plan of a device's part reads {', '.join(sorted(own))} and that of the whole {', '.join(sorted(whole))}; "
                'give tables="constant" (--tables constant), so that both prepare the same values'
            )


def _devices(held: Sequence[Plan], split: Split) -> Devices:
    specs = DeviceStages(held, split).specs
    return Devices(
        mesh=dict(split.mesh.shape), inputs={label: tuple(map(mesh_axes, spec)) for label, spec in specs.items()}
    )


def expect_replaceable(folder: Path, target: Path) -> None:
    """Refuses to replace what is at `target` if that is no artifact; it stands at `folder`.

    Raises:
      RopegenError: it is a file, or a directory with other files than those of an artifact.
    """
    if folder.is_dir():
        while_whole(folder, lambda: _expect_own_files(folder, target))
    elif folder.exists() or folder.is_symlink():
        raise RopegenError(f"{target} is a file; nothing was written: choose another directory")


def _expect_own_files(folder: Path, target: Path) -> None:
    # Many programs write a manifest.json, and people keep notes beside artifacts: only files that our manifest lists
    # may be removed.
    try:
        own = {MANIFEST, SIGNATURES, *manifest.read(folder)[0].files}
    except RopegenError:
        own = set[str]()
    others = sorted({path.name for path in folder.iterdir()} - own)
    if others:
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise RopegenError(
            f"{target} holds other files than an artifact's ({shown}); nothing was written: choose another directory"
        )
