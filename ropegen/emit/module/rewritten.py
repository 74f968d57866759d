"""A module after `replace_composites`: its text, its bytecode, and a report of what the pass did."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.extend.mlir as mlir_tools
from jax.extend.mlir import ir
from jax.interpreters import mlir

from ropegen import explanation as explain
from ropegen.emit.module.stablehlo import PORTABLE_VERSION
from ropegen.errors import RopegenError
from ropegen.explanation.facts import Facts
from ropegen.plans import Plan
from ropegen.target import Target

BYTECODE = b"ML\xefR"


@dataclass(frozen=True, slots=True)
class Kept:
    """A composite that stays unchanged, and the reason."""

    name: str
    function: str
    location: str
    reason: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """Composites that one call of a kernel replaces; `kernel` is the name of its function, `plan` its plan."""

    names: tuple[str, ...]
    function: str
    locations: tuple[str, ...]
    kernel: str
    plan: Plan


@dataclass(frozen=True, eq=False)
class Rewritten:
    """A module after the pass, and what the pass did. `removed` names the decompositions that nothing uses any more."""

    target: Target
    source: bytes
    replaced: tuple[Replaced, ...]
    kept: tuple[Kept, ...]
    removed: tuple[str, ...]
    asm: str

    @property
    def text(self) -> str:
        """The module as text; the source itself if that is text and nothing was replaced."""
        if self.replaced or self.source.startswith(BYTECODE):
            return self.asm
        return self.source.decode()

    @property
    def portable(self) -> bytes:
        """The module as portable StableHLO bytecode; the source itself if that is portable and nothing was replaced.

        Raises:
          RopegenError: the module has operations that portable StableHLO does not support.
        """
        version = portable_version(self.source)
        if not self.replaced and version:
            return self.source
        newest = max(version or PORTABLE_VERSION, PORTABLE_VERSION, key=lambda stated: [*map(int, stated.split("."))])
        with mlir.make_ir_context():
            try:
                return bytes(mlir_tools.serialize_portable_artifact(ir.Module.parse(self.asm), newest))
            except (ir.MLIRError, ValueError, jax.errors.JaxRuntimeError) as error:
                said = str(error).strip().partition("\n")[0]
                raise RopegenError(f"the module is not portable StableHLO: {said}; write it as text (.mlir)") from None

    @property
    def data(self) -> Facts:
        """What the pass did, as data for `json.dumps`."""
        return {
            "target": str(self.target),
            "replaced": [_replaced(entry) for entry in self.replaced],
            "left": [
                {"name": entry.name, "function": entry.function, "location": entry.location, "reason": entry.reason}
                for entry in self.kept
            ],
            "removed": list(self.removed),
        }

    @property
    def report(self) -> str:
        """What the pass did, as text for a person."""
        lines: list[str] = []
        for entry in self.data["replaced"]:
            ops = Counter(composite["name"].rpartition(".")[2] for composite in entry["composites"])
            counted = ", ".join(name if count == 1 else f"{count} {name}" for name, count in ops.items())
            total = len(entry["composites"])
            first, last = entry["composites"][0]["location"], entry["composites"][-1]["location"]
            place = first if first == last else f"{first} to {last}"
            lines.append(
                f"@{entry['function']}, {place}: {total} composite{'s' * (total > 1)} -> call @{entry['kernel']}"
            )
            lines += [f"  {line}" for line in (f"replaces {counted}", *_step_lines(entry))]
        for kept in self.kept:
            where = f"@{kept.function}, {kept.location}" if kept.function else kept.location
            lines.append(f"{where}: {kept.name} keeps its decomposition: {kept.reason}")
        if not lines:
            lines.append('no composite "ropegen.*": the module is unchanged')
        return "".join(f"{line}\n" for line in lines)


def _replaced(entry: Replaced) -> Facts:
    facts = explain.data(entry.plan)
    shown = ("template", "ops", "tile", "tile_from", "considered")
    return {
        "function": entry.function,
        "kernel": entry.kernel,
        "composites": [
            {"name": name, "location": place} for name, place in zip(entry.names, entry.locations, strict=True)
        ],
        "plan": facts["plan"],
        "steps": [{key: step[key] for key in shown} for step in facts["steps"]],
        "not_taken": facts["not_taken"],
    }


def _step_lines(replaced: Facts) -> Iterator[str]:
    for step in replaced["steps"]:
        tile = ",".join(f"{name}={size}" for name, size in step["tile"].items())
        chosen = f" {tile} ({step['tile_from']})" if tile else ""
        yield f"{step['template'] or 'plain'}{chosen}: {', '.join(step['ops'])}"
        for option in step["considered"]:
            if option["declined"]:
                yield f"  {option['template']} declines: {'; '.join(option['declined'])}"
    for region in replaced["not_taken"]:
        yield f"not taken: {region['family']} over {', '.join(region['ops'])}: {region['reason']}"


def portable_version(source: bytes) -> str:
    """The StableHLO version at the head of portable bytecode; empty for anything else."""
    match = re.search(rb"StableHLO_v(\d+\.\d+\.\d+)", source[:64]) if source.startswith(BYTECODE) else None
    return match[1].decode() if match else ""
