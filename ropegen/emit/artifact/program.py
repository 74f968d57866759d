"""A stage of an artifact from its file: what `jax.export` wrote, held against what the artifact says of it.

Nothing in the file is taken on trust. Its flat buffer is read by JAX in Python, its bytecode by another process (see
`ropegen.emit.module.reader`), and the program that runs is written anew from the text of the module.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.extend.mlir as mlir_tools
from jax import export as jax_export
from jax.interpreters import mlir

from ropegen.emit.artifact.manifest import MANIFEST
from ropegen.emit.module import stablehlo
from ropegen.emit.module.reader import expect_program, parsed, text_of
from ropegen.errors import RopegenError
from ropegen.template import STABLE_CALLS, unknown_calls
from ropegen.types import TensorType, dtype_name


@dataclass(frozen=True, slots=True)
class Signature:
    """What an artifact says of a stage: the types of its arguments by label, the labels of its results, its platforms,
    its calling convention, the custom calls of all stages, and the number of devices.
    """

    arguments: Mapping[str, TensorType]
    results: tuple[str, ...]
    platforms: tuple[str, ...]
    calling_convention: int
    calls: Collection[str]
    devices: int


def seal(graph_digest: str, stage: str, module: bytes) -> str:
    """What binds a module to its graph: the SHA-256 of both and of the stage's name.

    It tells files of several artifacts apart, and a damaged module from a whole one, also where somebody made the
    hashes again. It is no secret: whoever forges an artifact can compute it. Only a signature tells who made one.
    """
    return hashlib.sha256(f"{graph_digest} {stage} {hashlib.sha256(module).hexdigest()}".encode()).hexdigest()


def sealed(made: jax_export.Exported, graph_digest: str, stage: str) -> jax_export.Exported:
    """The exported stage with its seal at the end of its function's name."""
    return dataclasses.replace(
        made, fun_name=f"{made.fun_name} {seal(graph_digest, stage, made.mlir_module_serialized)}"
    )


def read(
    content: bytes,
    path: Path,
    wanted: Signature,
    *,
    name: str,
    graph_digest: str,
    allow: Collection[str],
    trusted: bool,
) -> jax_export.Exported:
    """The program in the content of a file. `name` is that of the graph; `allow` are custom calls besides ropegen's own.

    If the content is `trusted`, because this process made it or a signature vouches for it, no other process reads it.

    Raises:
      RopegenError: the content is damaged or of another jax; it is not of this graph; its arguments, results or platforms
        are others than the artifact's; or it does what no kernel of ropegen does, see `expect_program`.
    """
    with _Reading(path):
        made = jax_export.deserialize(bytearray(content))
    module = made.mlir_module_serialized
    # Artifacts of the first version have no seal.
    if made.fun_name not in (name, f"{name} {seal(graph_digest, path.stem, module)}"):
        raise RopegenError(f"{path} is damaged, or belongs to another graph than {name}; build the artifact again")
    _expect_signature(made, path, wanted)
    kept = [_type_of(made.in_avals[index]) for index in made.module_kept_var_idx]
    index = [TensorType((), "i32")] * (len(wanted.platforms) > 1)  # which platform runs
    with mlir.make_ir_context() as context:
        read_module: Any = (
            mlir_tools.deserialize_portable_artifact(module, context)
            if trusted
            else parsed(text_of(module, str(path)), str(path))
        )
        calls = stablehlo.calls_of(read_module)
        if unlisted := [call for call in calls if call not in wanted.calls]:
            raise RopegenError(
                f"{path} calls {', '.join(unlisted)}, which {MANIFEST} does not list; the files are of two artifacts: "
                "build it again"
            )
        allowed = {*calls} - {*unknown_calls(calls)} | {*allow}
        types = [*index, *kept], [*map(_type_of, made.out_avals)]
        expect_program(read_module, str(path), allowed, *types, devices=wanted.devices)
        if trusted:
            return made
        return stablehlo.with_module(made, read_module)


def result_types(made: jax_export.Exported, labels: tuple[str, ...]) -> dict[str, TensorType]:
    """The types of the results by label."""
    return dict(zip(sorted(labels), map(_type_of, made.out_avals), strict=True))


def _expect_signature(made: jax_export.Exported, path: Path, wanted: Signature) -> None:
    """Refuses a program with other arguments, results or platforms, or with anything that ropegen never exports."""
    labels = sorted(wanted.arguments)
    unchecked = {str(jax_export.DisabledSafetyCheck.custom_call(call)) for call in {*wanted.calls} - STABLE_CALLS}
    with _Reading(path):
        of_jax: Any = made  # some of its fields have no types
        count = len(of_jax.in_avals)
        facts: dict[str, tuple[object, object]] = {
            "arguments": (of_jax.in_tree, jax.tree.structure(((dict.fromkeys(labels, 0),), {}))),
            "results": (of_jax.out_tree, jax.tree.structure(dict.fromkeys(wanted.results, 0))),
            "types of arguments": (
                [str(_type_of(aval)) for aval in of_jax.in_avals],
                [str(wanted.arguments[label]) for label in labels],
            ),
            "platforms": (of_jax.platforms, wanted.platforms),
            "calling convention": (of_jax.calling_convention_version, wanted.calling_convention),
            "devices": (of_jax.nr_devices, wanted.devices),
            "shardings": (
                {*of_jax.in_shardings_hlo, *of_jax.out_shardings_hlo} - {None}
                if wanted.devices == 1
                else set[object](),
                set[object](),
            ),
            "effects": ((*of_jax.ordered_effects, *of_jax.unordered_effects), ()),
            "disabled checks": ({*map(str, of_jax.disabled_safety_checks)} - unchecked, set[str]()),
            "derivatives": (of_jax.has_vjp(), False),
            "kept arguments": (
                of_jax.module_kept_var_idx,
                tuple(sorted({*of_jax.module_kept_var_idx} & {*range(count)})),
            ),
        }
    for what, (stated, expected) in facts.items():
        if stated != expected:
            raise RopegenError(
                f"{path} has the {what} {stated!s:.200}, and {MANIFEST} says {expected!s:.200}; the files are of two "
                "artifacts: build it again"
            )


def _type_of(aval: Any) -> TensorType:
    return TensorType(aval.shape, dtype_name(aval.dtype))


class _Reading(AbstractContextManager[None]):
    """Names the file that an error is about. Reading damaged content can raise whatever the code on its way raises."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, RopegenError):
            raise RopegenError(
                f"jax {jax.__version__} does not read {self._path} ({type(error).__name__}: {error!s:.200}); build the "
                f"artifact again, or run it with the jax that {MANIFEST} names"
            ) from error
