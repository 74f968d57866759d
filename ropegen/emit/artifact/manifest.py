"""What `manifest.json` says, and how it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ropegen.emit.artifact import executables
from ropegen.errors import RopegenError
from ropegen.ir import ops
from ropegen.types import TensorType

FORMAT = 1
MANIFEST = "manifest.json"


def read(folder: Path) -> dict[str, Any]:
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
            kind_of(each)
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


def kind_of(described: Mapping[str, Any]) -> TensorType:
    return TensorType(tuple(described["shape"]), described["dtype"])
