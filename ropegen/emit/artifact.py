"""Artifacts: a directory with everything that a program needs to run a graph, and nothing of the model's code.

    manifest.json      what the artifact is: graph, plans, platforms, inputs, outputs, a hash of every file
    graph.mlir         the graph, in ropegen's own text form
    plan.txt           the plan of each target, with every reason
    module.jaxexport   the program for every platform, as jax.export wrote it
    module.mlirbc      the program as portable StableHLO, for consumers without JAX
    prepare.*          the same two for what is computed once from parameters, where there is such
    semantic.mlir      the graph as StableHLO composites, for compilers that know the ops
    report.txt         what is in the modules, in figures; with executables, the schedule of each kernel
    *.executable       device executables, made ahead of time, one for each chip and stage where asked for

The same graph and targets give the same bytes. A directory is written aside and renamed, so there is never half
of one. Loading checks every hash, runs nothing but the StableHLO, and imports no template.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import struct
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export as jax_export
from jax.core import Tracer

from ropegen.emit import executables
from ropegen.emit.inputs import check_inputs
from ropegen.errors import RopegenError
from ropegen.ir import ops, text
from ropegen.ir.graph import Graph, Node, label_of
from ropegen.planner import Plan
from ropegen.target import host_device, host_platform
from ropegen.types import TensorType, epsilon, numpy_dtype

FORMAT = 1
MANIFEST = "manifest.json"
# Of the custom calls that templates emit, those on jax.export's list of targets with guaranteed compatibility.
_STABLE_CALLS = frozenset({"mosaic_gpu_v2", "tpu_custom_call"})
# What `check` allows over the error of the plain formula.
_ALLOWED_RATIO = 1.5

Step = Callable[[str], None]


class Artifact:
    """An artifact on disk: call it with the graph's inputs by keyword.

    The result is the output itself where the graph has one, else a dictionary by name. On a chip whose executable is
    there, made by the compiler of the same build as the runtime's, that runs; otherwise, and where it is part of a larger
    program that JAX traces, the StableHLO is compiled, with a warning where an executable for the platform stays unused.
    """

    def __init__(self, directory: Path, manifest: Mapping[str, Any]) -> None:
        self.directory = directory
        self.manifest = manifest
        self._inputs = {label: _kind(each) for label, each in manifest["inputs"].items()}
        self._stages = {stage: _deserialized(directory / f"{stage}.jaxexport") for stage in manifest["stages"]}
        self._check_calls()
        self._compiled = {stage: jax.jit(each.call) for stage, each in self._stages.items()}
        self._said = False

    def __repr__(self) -> str:
        return f"<artifact {self.manifest['graph']['name']} for {', '.join(self.targets)}>"

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets that it was built for."""
        return tuple(self.manifest["plans"])

    @property
    def executables(self) -> tuple[executables.Executable, ...]:
        """Its device executables, and for each why this machine does not use it."""
        entries = self.manifest.get("executables", {})
        return tuple(
            executables.Executable(
                target,
                tuple(stage["file"] for stage in entry["stages"].values()),
                f"libtpu {entry['libtpu']}, {entry['build']}",
                self._device_programs[1].get(target, ""),
            )
            for target, entry in entries.items()
        )

    @functools.cached_property
    def _device_programs(self) -> tuple[dict[str, executables.Program], dict[str, str]]:
        """The programs of this machine's device by stage, none where no executable fits it; and why others do not."""
        device = host_device()
        programs: dict[str, executables.Program] = {}
        unused: dict[str, str] = {}
        for target, entry in self.manifest.get("executables", {}).items():
            if entry["platform"] != host_platform():
                unused[target] = f"this machine runs {host_platform()}"
            elif programs:
                unused[target] = "another one is used"
            else:
                found = executables.load(self.directory, entry, device)
                if isinstance(found, str):
                    unused[target] = found
                else:
                    programs = found
        return programs, unused

    def _stage(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Runs a stage: the executable of this device, else the StableHLO."""
        given = {label: values[label] for label in self.manifest["stages"][name]["arguments"]}
        if self.manifest.get("executables") and not any(isinstance(each, Tracer) for each in given.values()):
            programs, _ = self._device_programs
            if name in programs:
                return programs[name](values)
            self._say_unused()
        return self._compiled[name](given)

    def _say_unused(self) -> None:
        """Once: an executable was made for this platform, and the program is compiled all the same."""
        if self._said:
            return
        self._said = True
        entries = self.manifest["executables"]
        meant = [each for each in self.executables if entries[each.target]["platform"] == host_platform()]
        if meant:
            reasons = "; ".join(f"{each.target}: {each.unused}" for each in meant)
            warnings.warn(f"{self.directory}: compiled anew, its executables are not used ({reasons})", stacklevel=4)

    @functools.cached_property
    def graph(self) -> Graph:
        """The graph that it was built from."""
        return text.load(self.directory / "graph.mlir")

    def __call__(self, **inputs: Any) -> Any:
        self._check_platform()
        values = check_inputs(self._inputs, inputs, self._inputs)
        return self._run(self._prepared(values), values)

    def bind(self, **parameters: Any) -> Callable[..., Any]:
        """A function of the activations and states, with what depends on these parameters computed once.

        Raises:
          RopegenError: a parameter is missing, unknown, or of another type.
        """
        self._check_platform()
        roles = {label: each["role"] for label, each in self.manifest["inputs"].items()}
        known = {label: kind for label, kind in self._inputs.items() if roles[label] == "parameter"}
        given = check_inputs(known, parameters, self._inputs)
        prepared = self._prepared(given)
        others = {label: kind for label, kind in self._inputs.items() if label not in known}

        def bound(**inputs: Any) -> Any:
            return self._run(prepared, {**given, **check_inputs(others, inputs, others)})

        return bound

    def check(self, seed: int = 0) -> Check:
        """Runs the artifact on drawn inputs and compares it with the oracle, in float64.

        The error of an output is the root mean square of the difference over that of the output itself. It passes where
        it is at most 1.5 times the error of the plain formula, op by op in the graph's element types on the same device,
        and one unit (the distance from 1 to the next number) of the coarsest of these types.
        """
        from ropegen import plain, reference

        graph = self.graph
        values = drawn_inputs(graph, seed)
        found = self(**values)
        results = tuple(value for _, value in graph.outputs)

        def formula(values: dict[str, jax.Array]) -> tuple[jax.Array, ...]:
            return plain.evaluate(results, {each: values[label_of(each)] for each in graph.inputs})

        by_formula = jax.jit(formula)({label: jax.numpy.asarray(each) for label, each in values.items()})
        truth = reference.evaluate(graph, values)
        unit = max(epsilon(each.type.dtype) for each in graph.nodes if each.type.is_float)
        outputs: list[CheckedOutput] = []
        for (label, wanted), formula in zip(truth.items(), by_formula, strict=True):
            result = np.asarray(found[label] if isinstance(found, dict) else found, np.float64)
            largest, relative = _errors(result, wanted)
            _, of_formula = _errors(np.asarray(formula, np.float64), wanted)
            allowed = _ALLOWED_RATIO * of_formula + unit
            agrees = bool(np.array_equal(np.isfinite(result), np.isfinite(wanted))) and relative <= allowed
            outputs.append(CheckedOutput(label, largest, relative, of_formula, allowed, agrees))
        return Check(tuple(outputs))

    def _check_platform(self) -> None:
        platform = host_platform()
        if platform not in self.manifest["platforms"]:
            raise RopegenError(
                f"this program runs on {platform} and the artifact holds {', '.join(self.manifest['platforms'])}; build it with a "
                f"target for {platform}, or choose one of those with JAX_PLATFORMS"
            )

    def _check_calls(self) -> None:
        from ropegen.emit.module import stablehlo

        listed = self.manifest["custom_calls"]
        for stage, module in self._stages.items():
            others = [each for each in stablehlo.custom_calls(module.mlir_module_serialized) if each not in listed]
            if others:
                raise RopegenError(
                    f"{self.directory / stage}.jaxexport calls {', '.join(others)}, which {MANIFEST} does not list; the files are of "
                    "two artifacts: build it again"
                )

    def _prepared(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return self._stage("prepare", values) if "prepare" in self._compiled else {}

    def _run(self, prepared: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
        found = self._stage("module", {**values, **prepared})
        return (
            next(iter(found.values()))
            if len(found) == 1
            else {label: found[label] for label in self.manifest["outputs"]}
        )


@dataclass(frozen=True, slots=True)
class CheckedOutput:
    """One output against the oracle: the largest error, and the root mean square error over the output's.

    `plain` is the latter of the plain formula in the same element types, `allowed` the bound that follows from it.
    """

    label: str
    largest: float
    relative: float
    plain: float
    allowed: float
    agrees: bool


@dataclass(frozen=True, slots=True)
class Check:
    """What `Artifact.check` found."""

    outputs: tuple[CheckedOutput, ...]

    @property
    def passed(self) -> bool:
        return all(each.agrees for each in self.outputs)


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
    from ropegen.emit.module import stablehlo

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


def load(directory: str | PathLike[str]) -> Artifact:
    """An artifact from its directory.

    Raises:
      RopegenError: it is not there, is something else, is of a newer format, or a file is missing or damaged.
    """
    folder = Path(directory)
    manifest = _read_manifest(folder)
    for name, digest in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise RopegenError(f"the artifact {folder} has lost its file {name}; build it again")
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != digest:
            raise RopegenError(
                f"{path} is damaged: its sha256 is {found[:12]}..., the manifest says {digest[:12]}...; build the artifact again"
            )
    return Artifact(folder, manifest)


def _errors(result: np.ndarray, wanted: np.ndarray) -> tuple[float, float]:
    """The largest error, and the root mean square error over that of `wanted`, where `wanted` is finite."""
    known = wanted[np.isfinite(wanted)].astype(np.float64)
    if not known.size:
        return 0.0, 0.0
    error = result[np.isfinite(wanted)] - known
    size = float(np.sqrt(np.mean(known**2))) or 1.0
    return float(np.max(np.abs(error))), float(np.sqrt(np.mean(error**2))) / size


def drawn_inputs(graph: Graph, seed: int) -> dict[str, np.ndarray]:
    """Inputs that mean something: ids within their table, positions that count, weights that keep activations near one."""
    random = np.random.default_rng(seed)
    users = graph.users()
    values: dict[str, np.ndarray] = {}
    for each in graph.inputs:
        assert isinstance(each.op, ops.Input)
        label, kind, dtype = each.op.label, each.type, numpy_dtype(each.type.dtype)
        if kind.dtype == "i1":
            values[label] = random.random(kind.shape) < 0.8
        elif kind.is_integer:
            values[label] = random.integers(0, _integers_below(each, users), kind.shape).astype(dtype)
        else:
            spread = kind.shape[0] ** -0.5 if each.op.role == "parameter" and kind.rank == 2 else 1.0
            rows = [user for user in users[each] if isinstance(user.op, ops.Embed)]
            if rows:
                factors = [user.op.factor for row in rows for user in users[row] if isinstance(user.op, ops.Scale)]
                spread = 1 / max((abs(each) for each in factors if each), default=1.0)
            values[label] = (random.standard_normal(kind.shape) * spread).astype(dtype)
    return values


def _integers_below(value: Node, users: Mapping[Node, tuple[Node, ...]]) -> int:
    """One more than the largest integer that every reader of an input can take."""
    bounds = [8]
    for user in users[value]:
        if isinstance(user.op, ops.Embed) and user.operands[0] is value:
            bounds = [user.operands[1].type.shape[0]]
        elif isinstance(user.op, ops.AppendCache):
            bounds = [user.operands[0].type.shape[-3] - user.operands[1].type.shape[-3] + 1]
    return max(1, *bounds)


# Writing -------------------------------------------------------------------------------------------------------------


def _write(
    folder: Path, plans: Sequence[Plan], explained: Sequence[Plan], made: Sequence[executables.Made], progress: Step
) -> None:
    from ropegen import explain
    from ropegen.emit.module import semantic, stablehlo

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
    files["report.txt"] = _report(explained, files, counts, made).encode()
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
    from ropegen.emit.module import stablehlo

    graph = plans[0].graph
    calls = stablehlo.declared_calls(plans)
    release = importlib.metadata.version("jax")
    return {
        "format": FORMAT,
        "graph": {"name": graph.name, "digest": text.digest(plans[0].source)},
        "plans": {str(each.target): each.digest for each in plans},
        "platforms": [each.target.jax_platform for each in plans],
        "built_with": {
            "ropegen": importlib.metadata.version("ropegen"),
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


def _report(
    plans: Sequence[Plan],
    files: Mapping[str, bytes],
    counts: Mapping[str, Mapping[str, int]],
    made: Sequence[executables.Made],
) -> str:
    from ropegen.emit import static_report

    lines = [f"{plans[0].graph.name} for {', '.join(str(each.target) for each in plans)}", "", "files, bytes"]
    lines += [f"  {len(content):>12,}  {name}" for name, content in sorted(files.items())]
    for each in plans:
        cost = each.cost
        lines += ["", f"{each.target}, predicted for one call"]
        lines.append(
            f"  {cost.seconds * 1e3:.3f} ms, {cost.flops / 1e9:.2f} GFLOP, {cost.bytes / 1e6:.1f} MB moved, "
            f"{cost.temporary / 1e6:.1f} MB of temporaries"
        )
        lines += [
            f"  {step.cost.seconds * 1e3:10.3f} ms  {step.chosen.template if step.chosen else step.outputs[0].op.name}"
            for step in each.steps
            if not step.prepares
        ]
    for each in made:
        lines += ["", *static_report.lines(each)]
    for name, ops_of in counts.items():
        lines += ["", f"ops of {name}, all platforms together"]
        lines += [f"  {count:>6}  {op}" for op, count in ops_of.items()]
    return "\n".join(lines) + "\n"


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
        return frozenset({MANIFEST, *_read_manifest(folder)["files"]})
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


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not folder.is_dir():
        raise RopegenError(f"there is no directory {folder}; give the directory that `ropegen build -o` made")
    if not path.is_file():
        raise RopegenError(f"{folder} is not an artifact: it has no {MANIFEST}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, a number of too many digits
        raise RopegenError(f"{path} is damaged ({type(error).__name__}); build the artifact again") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise RopegenError(f"{path} is not the manifest of an artifact; it states no format")
    if manifest["format"] > FORMAT:
        raise RopegenError(
            f"{path} is of format {manifest['format']}, and this ropegen reads up to {FORMAT}; install a newer ropegen"
        )
    _check_manifest(path, manifest)
    return manifest


def _check_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    wanted = {
        "graph": dict,
        "plans": dict,
        "platforms": list,
        "inputs": dict,
        "outputs": dict,
        "stages": dict,
        "files": dict,
        "custom_calls": dict,
    }
    for name, kind in wanted.items():
        if not isinstance(manifest.get(name), kind):
            raise RopegenError(f"{path} is damaged: {name!r} is missing or of the wrong kind; build the artifact again")
    needed = {"graph.mlir", *(f"{stage}.jaxexport" for stage in manifest["stages"]), "module.jaxexport"}
    names = set(manifest["files"])
    if not all(isinstance(each, str) for each in (*manifest["files"].values(), *manifest["platforms"])):
        raise RopegenError(f"{path} is damaged: a hash or a platform is no text; build the artifact again")
    if not needed <= names or not all(Path(each).name == each for each in names):
        raise RopegenError(
            f"{path} is damaged: it must list {', '.join(sorted(needed - names)) or 'plain file names'}; build the artifact again"
        )
    try:
        for each in (*manifest["inputs"].values(), *manifest["outputs"].values()):
            _kind(each)
        for each in manifest["stages"].values():
            if not all(isinstance(label, str) for label in (*each["arguments"], *each["results"])):
                raise TypeError("its labels are no text")
        roles = {each["role"] for each in manifest["inputs"].values()}
    except (KeyError, TypeError, ValueError) as error:
        raise RopegenError(
            f"{path} is damaged: an input, output or stage is not described ({error}); build the artifact again"
        ) from error
    entries = manifest.get("executables", {})
    wrong = (
        "the executables are no table"
        if not isinstance(entries, dict)
        else next(filter(None, (executables.problem(each, manifest["files"]) for each in entries.values())), "")
    )
    if wrong:
        raise RopegenError(f"{path} is damaged: {wrong}; build the artifact again")
    if not roles <= set(ops.ROLES):
        raise RopegenError(
            f"{path} is damaged: unknown roles {sorted(roles - set(ops.ROLES))}; build the artifact again"
        )


def _deserialized(path: Path) -> jax_export.Exported:
    try:
        return jax_export.deserialize(bytearray(path.read_bytes()))
    # The hash is right, so it is the layout that is another; that fails wherever it happens to.
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        NotImplementedError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise RopegenError(
            f"jax {jax.__version__} does not read {path} ({error}); build the artifact again, or run it with the jax "
            f"that {MANIFEST} names"
        ) from error


def _kind(described: Mapping[str, Any]) -> TensorType:
    return TensorType(tuple(described["shape"]), described["dtype"])
