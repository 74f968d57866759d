"""Mutations of an artifact: each must give a RopegenError or the right result, and the process must live.

`python tests/mutate.py 10000` draws so many, tries each in a child process, and prints what became of them;
`python tests/mutate.py 5000 10000` draws those with these numbers. Mutation number n is the same in every run.

Most change a file or a field of the manifest, or swap files with another artifact of the same shapes. Afterwards the
hashes are left as they are, made again, or `forged`: all of them and the seal, as only somebody could who knows ropegen.
A forged artifact can be another program without a fault. Nothing but a signature can tell then, and `Artifact.check` must
notice that it does not compute its graph. Every twentieth mutation is one of bytecode, for `ropegen lower`.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LOWERED = 20  # every so many mutations, one is for `ropegen lower`
NATIVE = 10  # and one is of an artifact whose plan for CPU has native kernels
VALUES = (None, True, 7, -1, 2**70, 1.5, "words", "", [], [[]], ["ids"], {}, {"a": {}}, "0" * 64, [1, 2])
SAME = 1e-5  # results that differ by less come from the same program
SHOWN = 250  # the counts are printed after so many mutations
SECONDS = 100  # of CPU time; a mutation that takes longer kills the process

# What may become of a mutation.
REFUSED, RIGHT, READ = "refused", "right result", "still a module"
OTHER = "another program, which check notices"
WRONG, RAISED, DIED = "WRONG RESULT", "RAISED", "DIED"


def mutated(content: bytes, draw: random.Random) -> bytes:
    """The content with bytes changed, lost, added or moved in one to four places."""
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        place = draw.randrange(len(changed) + 1)
        match draw.randrange(6):
            case 0 | 1:
                changed[place : place + 1] = bytes([draw.randrange(256)])
            case 2:
                changed[place : place + 1] = bytes(byte ^ 1 << draw.randrange(8) for byte in changed[place : place + 1])
            case 3:
                del changed[place : place + draw.choice((1, 2, 8, len(changed)))]
            case 4:
                changed[place:place] = draw.randbytes(draw.choice((1, 2, 8, 300)))
            case _:
                changed[place:place] = changed[draw.randrange(len(changed) + 1) :][:40]
    return bytes(changed)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the values in a manifest are."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in inner for place in places(part, (*path, key)))]


def change_field(manifest: dict[str, Any], other: dict[str, Any], draw: random.Random) -> None:
    """Changes, loses, adds or moves one value of a manifest."""
    everywhere = places(manifest)[1:]
    *path, last = draw.choice(everywhere)
    inner: Any = manifest
    theirs: Any = other
    for key in path:
        inner = inner[key]
        with contextlib.suppress(LookupError, TypeError):
            theirs = theirs[key]
    match draw.randrange(5):
        case 0:
            del inner[last]
        case 1 if isinstance(inner, dict):
            inner[draw.choice(("new", "format", "ids", "cpu", "../manifest.json", "a\0b", "\ud800"))] = draw.choice(
                VALUES
            )
        case 2:
            with contextlib.suppress(LookupError, TypeError):
                inner[last] = copy.deepcopy(theirs[last])
        case 3:
            *path, there = draw.choice(everywhere)
            source: Any = manifest
            for key in path:
                source = source[key]
            inner[last] = copy.deepcopy(source[there])
        case _:
            inner[last] = draw.choice(VALUES)


def mutate(folder: Path, whole: Path, other: Path, draw: random.Random) -> str:
    """Makes `folder` a mutation of the artifact `whole`; returns how its hashes are."""
    shutil.copytree(whole, folder)
    files = sorted(path.name for path in whole.iterdir())
    programs = [name for name in files if name.endswith(".jaxexport")]
    hashes = draw.choice(("old", "new", "new", "forged"))
    name = draw.choice(programs if hashes == "forged" else files)
    path = folder / name
    match draw.randrange(4):
        case 0:
            path.write_bytes(mutated(path.read_bytes(), draw))
        case 1:
            damage = damage_module if name in programs else mutated
            path.write_bytes(damage(path.read_bytes(), draw))
        case 2:
            source = draw.choice((other / draw.choice(files), whole / draw.choice(files), other / name))
            shutil.copyfile(source, path)
        case _:
            manifest = json.loads((whole / "manifest.json").read_text())
            change_field(manifest, json.loads((other / "manifest.json").read_text()), draw)
            text = json.dumps(manifest)
            if draw.random() < 0.1:  # a key twice
                text = text.replace('"format":', '"format": 1, "format":', 1)
            (folder / "manifest.json").write_text(text)
    if hashes != "old":
        hash_again(folder, forge=hashes == "forged")
    return hashes


def hash_again(folder: Path, *, forge: bool) -> None:
    """Makes the hashes of a manifest those of its files again, and with `forge` the seals and the digest of the graph."""
    from jax import export

    from ropegen.emit.artifact import program

    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):  # nothing that can be hashed is left
        manifest = json.loads((folder / "manifest.json").read_text())
        if forge:
            manifest["graph"]["digest"] = hashlib.sha256((folder / "graph.mlir").read_bytes()).hexdigest()
            for stage in ("prepare", "module"):
                file = folder / f"{stage}.jaxexport"
                with contextlib.suppress(Exception):  # it cannot be read, so it has no place for a seal
                    made = export.deserialize(bytearray(file.read_bytes()))
                    seal = program.seal(manifest["graph"]["digest"], stage, made.mlir_module_serialized).encode()
                    name = made.fun_name.encode()
                    file.write_bytes(file.read_bytes().replace(name, name[: -len(seal)] + seal))
        for name in manifest["files"]:
            if (folder / name).is_file():
                manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        (folder / "manifest.json").write_text(json.dumps(manifest))


def damage_module(content: bytes, draw: random.Random) -> bytes:
    """An `.jaxexport` file with a mutation of the module in it, which is where most of its bytes are."""
    import dataclasses

    from jax import export

    made = export.deserialize(bytearray(content))
    module = mutated(made.mlir_module_serialized, draw)
    return bytes(dataclasses.replace(made, mlir_module_serialized=module).serialize(vjp_order=0))


class Trial:
    """Two artifacts of the same shapes with other angles, what the first one computes, and modules for `lower`."""

    def __init__(self, room: Path) -> None:
        import jax
        import numpy as np
        from jax.extend.mlir import ir
        from jax.interpreters import mlir

        import ropegen as rg
        from ropegen.emit.artifact import drawn_inputs

        # There are thousands of compilations, most of them of the same program.
        jax.config.update("jax_disable_most_optimizations", True)
        jax.config.update("jax_compilation_cache_dir", str(room / "compiled"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        self.room, self.whole, self.other = room, room / "whole", room / "other"
        self.native = room / "native"
        for theta, folder in ((100.0, self.whole), (110.0, self.other), (100.0, self.native)):
            if not folder.is_dir():
                rg.export(small(theta), folder, targets=["cpu", "tpu:v5e"])
                if folder is not self.native:  # the programs in the artifact run, in place of native kernels
                    without_native(folder)
        self.inputs = drawn_inputs(small(100.0), 0)
        self.wanted = np.asarray(rg.load(self.whole)(**self.inputs))
        with mlir.make_ir_context():
            plain = io.BytesIO()
            ir.Module.parse((self.whole / "semantic.mlir").read_text()).operation.write_bytecode(plain)
        self.modules = (plain.getvalue(), (self.whole / "module.mlirbc").read_bytes())

    def attempt(self, number: int) -> tuple[str, str]:
        """What a mutation is, and what became of it."""
        from ropegen.emit.module.replace import replace_composites
        from ropegen.errors import RopegenError

        draw = random.Random(number)
        if number % LOWERED == 0:
            module = mutated(draw.choice(self.modules), draw)
            try:
                replace_composites(module, "cpu")
            except RopegenError:
                return "bytecode", REFUSED
            return "bytecode", READ
        folder = self.room / "mutation"
        shutil.rmtree(folder, ignore_errors=True)
        hashes = mutate(folder, self.native if number % NATIVE == 1 else self.whole, self.other, draw)
        try:
            return f"{hashes} hashes", self.outcome(folder, forged=hashes == "forged")
        except RopegenError:
            return f"{hashes} hashes", REFUSED

    def outcome(self, folder: Path, *, forged: bool) -> str:
        import numpy as np

        import ropegen as rg

        made = rg.load(folder)
        result = np.asarray(made(**self.inputs))
        if result.shape == self.wanted.shape and np.allclose(result, self.wanted, rtol=0, atol=SAME):
            return RIGHT
        if not forged:
            return WRONG
        return RIGHT if made.check().passed else OTHER


def without_native(folder: Path) -> None:
    """Makes an artifact one that was built where there is no llvmlite, so that its own programs run."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.pop("native", None)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def small(theta: float) -> Any:
    """A graph with a stage that prepares weights, small enough to be compiled thousands of times."""
    import ropegen as rg
    from ropegen import masks

    b = rg.Builder("small")
    x = b.embed(b.input("ids", (1, 6), "i32"), b.parameter("table", (9, 8), "f32"))
    q, k, v = (
        b.split_heads(b.project(x, b.parameter(f"{name}_weight", (8, 4 * heads), "f32")), heads)
        for name, heads in (("q", 2), ("k", 1), ("v", 1))
    )
    rope, at = rg.Rope(theta, pairing="interleaved"), b.positions(6)
    return b.build(out=b.merge_heads(b.attend(b.rope(q, at, rope), b.rope(k, at, rope), v, mask=masks.causal)))


def work(room: Path, numbers: range) -> None:
    """Tries mutations in this process; says which one before and what became of it after."""
    trial = Trial(room)
    for number in numbers:
        print(f"try {number}", flush=True)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        kind, outcome = trial.attempt(number)
        print(f"{kind}: {outcome}", flush=True)


def run(numbers: range) -> Iterator[tuple[int, str]]:
    """The number of every mutation, and what became of it. A child process that dies is replaced."""
    with tempfile.TemporaryDirectory() as room, tempfile.TemporaryFile("w+", errors="replace") as said_last:
        rest = numbers
        while rest:
            command = [sys.executable, __file__, "--work", room, str(rest.start), str(rest.stop)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said_last, text=True) as child:
                assert child.stdout is not None
                tried = None
                for line in child.stdout:
                    word, _, said = line.strip().partition(" ")
                    if word == "try":
                        tried = int(said)
                    elif tried is not None:
                        yield tried, line.strip()
                        rest, tried = range(tried + 1, numbers.stop), None
            if child.returncode:
                assert tried is not None, f"the child ended with {child.returncode}, and not because of a mutation"
                said_last.seek(0)
                last_words = said_last.read().strip().rpartition("\n")[2]
                yield tried, f"any: {RAISED if child.returncode == 1 else DIED} ({child.returncode}) {last_words}"
                rest = range(tried + 1, numbers.stop)


def main(numbers: range) -> int:
    counts: Counter[str] = Counter()
    for number, outcome in run(numbers):
        counts[outcome] += 1
        if any(word in outcome for word in (WRONG, DIED, RAISED)):
            print(f"mutation {number}: {outcome}", flush=True)
        if (number + 1) % SHOWN == 0 or number + 1 == numbers.stop:
            print(f"{counts.total():,} mutations, to number {number}", flush=True)
            for what, count in sorted(counts.items()):
                print(f"{count:>8,}  {what}", flush=True)
    return any(word in outcome for word in (WRONG, DIED, RAISED) for outcome in counts)


if __name__ == "__main__":
    if sys.argv[1] == "--work":
        work(Path(sys.argv[2]), range(int(sys.argv[3]), int(sys.argv[4])))
    else:
        sys.exit(main(range(*map(int, sys.argv[1:]))))
