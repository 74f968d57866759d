"""A module after `replace_composites`: its text, its bytecode, and what was done, in words and as data."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.extend.mlir as mlir_tools
from jax.extend.mlir import ir
from jax.interpreters import mlir

from ropegen import explain
from ropegen.emit.module.stablehlo import PORTABLE_VERSION
from ropegen.errors import RopegenError
from ropegen.explain.facts import Facts
from ropegen.planner import Plan
from ropegen.target import Target

BYTECODE = b"ML\xefR"


@dataclass(frozen=True, slots=True)
class Kept:
    """A composite that stays as it was, and why."""

    name: str
    function: str
    location: str
    reason: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """Composites that one call of a kernel took the place of; `kernel` is the function, `plan` what is in it."""

    names: tuple[str, ...]
    function: str
    locations: tuple[str, ...]
    kernel: str
    plan: Plan


@dataclass(frozen=True, eq=False)
class Rewritten:
    """A module after the pass, and what was done. `removed` are the decompositions that nothing uses any more."""

    target: Target
    source: bytes
    replaced: tuple[Replaced, ...]
    kept: tuple[Kept, ...]
    removed: tuple[str, ...]
    asm: str

    @property
    def text(self) -> str:
        """The module as text: the source itself where it was text and nothing was replaced."""
        if self.replaced or self.source.startswith(BYTECODE):
            return self.asm
        return self.source.decode()

    @property
    def portable(self) -> bytes:
        """The module as portable StableHLO bytecode: the source itself where it was that and nothing was replaced.

        Raises:
          RopegenError: it holds what portable StableHLO does not.
        """
        version = portable_version(self.source)
        if not self.replaced and version:
            return self.source
        newest = max(version or PORTABLE_VERSION, PORTABLE_VERSION, key=lambda each: [*map(int, each.split("."))])
        with mlir.make_ir_context():
            try:
                return bytes(mlir_tools.serialize_portable_artifact(ir.Module.parse(self.asm), newest))
            except (ir.MLIRError, ValueError, jax.errors.JaxRuntimeError) as error:
                said = str(error).strip().partition("\n")[0]
                raise RopegenError(f"the module is no portable StableHLO: {said}; write it as text (.mlir)") from None

    @property
    def data(self) -> Facts:
        """What was done, ready for `json.dumps`."""
        return {
            "target": str(self.target),
            "replaced": [_replaced(each) for each in self.replaced],
            "left": [
                {"name": each.name, "function": each.function, "location": each.location, "reason": each.reason}
                for each in self.kept
            ],
            "removed": list(self.removed),
        }

    @property
    def report(self) -> str:
        """What was done, for a person to read."""
        lines: list[str] = []
        for each in self.data["replaced"]:
            ops = Counter(composite["name"].rpartition(".")[2] for composite in each["composites"])
            counted = ", ".join(name if count == 1 else f"{count} {name}" for name, count in ops.items())
            total = len(each["composites"])
            first, last = each["composites"][0]["location"], each["composites"][-1]["location"]
            place = first if first == last else f"{first} to {last}"
            lines.append(
                f"@{each['function']}, {place}: {total} composite{'s' * (total > 1)} -> call @{each['kernel']}"
            )
            lines += [f"  {line}" for line in (f"replaces {counted}", *_step_lines(each))]
        for kept in self.kept:
            where = f"@{kept.function}, {kept.location}" if kept.function else kept.location
            lines.append(f"{where}: {kept.name} is left to its decomposition: {kept.reason}")
        if not lines:
            lines.append('no composite "ropegen.*": the module is as it was')
        return "".join(f"{line}\n" for line in lines)


def _replaced(each: Replaced) -> Facts:
    facts = explain.data(each.plan)
    shown = ("template", "ops", "tile", "tile_from", "considered")
    return {
        "function": each.function,
        "kernel": each.kernel,
        "composites": [
            {"name": name, "location": place} for name, place in zip(each.names, each.locations, strict=True)
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
        for each in step["considered"]:
            if each["declined"]:
                yield f"  {each['template']} declines: {'; '.join(each['declined'])}"
    for each in replaced["not_taken"]:
        yield f"not taken: {each['family']} over {', '.join(each['ops'])}: {each['reason']}"


def portable_version(source: bytes) -> str:
    """The StableHLO version at the head of portable bytecode; empty for anything else."""
    found = re.search(rb"StableHLO_v(\d+\.\d+\.\d+)", source[:64]) if source.startswith(BYTECODE) else None
    return found[1].decode() if found else ""
