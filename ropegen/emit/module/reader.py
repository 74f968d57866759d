"""Modules from bytes that nobody vouches for: bytecode is read by another process, and what it says is checked.

MLIR's bytecode reader trusts its input, and damaged bytecode can end the process that reads it. `text_of` has the
bytecode read by `reader_process.py` and returns its text, which `Script.scan` makes safe to parse.
"""

from __future__ import annotations

import functools
import json
import math
import re
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jax.extend.mlir import ir

from ropegen.emit.module.stablehlo import SHARDY, call_target, walk
from ropegen.errors import RopegenError
from ropegen.ir.script import MODULE, Script
from ropegen.types import TensorType

AGAIN = "build the artifact again"

# A module of many megabytes is read in seconds; what takes longer has no end.
_SECONDS = 300
# The last modules that were read are kept, so that loading one artifact again starts no process.
_KEPT_TEXTS = 4
# No tensor of a module has more elements; beyond, the compiler's own arithmetic overflows.
_MOST_ELEMENTS = 2**48

# Operations that reach out of the program, and wait for a host.
_OUTSIDE = frozenset(f"stablehlo.{name}" for name in ("after_all", "create_token", "infeed", "outfeed", "recv", "send"))
# Operations that wait for other devices.
_COLLECTIVE = frozenset(
    f"stablehlo.{name}"
    for name in (
        "all_gather", "all_reduce", "all_to_all", "collective_broadcast", "collective_permute", "partition_id",
        "reduce_scatter", "replica_id",
    )
)  # fmt: skip
# Newer versions of JAX keep the split of a program over devices as operations of Shardy; older ones keep custom calls.
_SHARDY = "sdy"
_DIALECTS = frozenset({"builtin", "func", "stablehlo", "chlo"})


def text_of(source: bytes, name: str, *, way_out: str = AGAIN, locations: bool = False) -> str:
    """The text of a module in MLIR bytecode, also portable StableHLO; errors call it `name` and end with the way out.

    Raises:
      RopegenError: MLIR refuses the bytecode, crashes over it or does not finish; or the process cannot be started.
    """
    try:
        return _text_of(source, locations)
    except _UnreadableError as error:
        raise RopegenError(f"{name} is not MLIR bytecode that this jax can read: {error}; {way_out}") from None


class _UnreadableError(Exception):
    """The reader refused some bytecode; the message says why."""


@functools.lru_cache(maxsize=_KEPT_TEXTS)
def _text_of(source: bytes, locations: bool) -> str:
    # -P keeps the script's folder off the path, so its modules shadow no others.
    command = [sys.executable, "-P", str(Path(__file__).with_name("reader_process.py")), json.dumps(sys.path)]
    try:
        done = subprocess.run(
            [*command, *([] if locations else ["bare"])],
            input=source, capture_output=True, check=False, timeout=_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _UnreadableError(f"the reader did not finish within {_SECONDS} s") from None
    except OSError as error:
        raise _UnreadableError(f"the process of the reader does not start ({error.strerror or error})") from error
    if done.returncode == 0:
        return done.stdout.decode()
    said = done.stderr.decode(errors="replace").strip().partition("\n")[0]
    if done.returncode == 2:
        raise _UnreadableError(re.sub(r'^(loc\("-":\d+:\d+\): )?(error: )?', "", said))
    ended = f"signal {signal.Signals(-done.returncode).name}" if done.returncode < 0 else f"code {done.returncode}"
    raise _UnreadableError(f"it is damaged, and MLIR's reader ended with {ended}{f' ({said})' if said else ''}")


def parsed(text: str, name: str) -> Any:
    """The module of a text, in the current context.

    Raises:
      RopegenError: the text is nothing that MLIR may see, or nothing that it can read.
    """
    script = Script(text, name, MODULE)
    unclosed = script.scan()
    try:
        return ir.Module.parse(text)
    except ir.MLIRError as error:
        raise script.unparsed(error.error_diagnostics, unclosed, AGAIN) from None


def expect_program(
    module: Any,
    name: str,
    allowed: Collection[str],
    arguments: Sequence[TensorType],
    results: Sequence[TensorType],
    *,
    devices: int = 1,
) -> None:
    """Refuses a module that could do more than compute its results, or other ones than its artifact says.

    `allowed` are the targets of its custom calls; `arguments` and `results` are the types of `main`. A module for several
    `devices` may exchange values between them.

    Raises:
      RopegenError: an operation reaches out of the program or is of another dialect; a custom call is not allowed; a
        tensor is too large; or `main` has other arguments or results.
    """
    outside = _OUTSIDE | (_COLLECTIVE if devices == 1 else frozenset())
    dialects = _DIALECTS if devices == 1 else (*_DIALECTS, _SHARDY)
    for operation in walk(module.operation):
        if operation.name in outside or operation.name.partition(".")[0] not in dialects:
            raise RopegenError(f"{name} has the operation {operation.name}, and no kernel of ropegen has it; {AGAIN}")
        call = call_target(operation) if operation.name == "stablehlo.custom_call" else None
        if call is not None and call not in allowed and not (devices > 1 and call.startswith(SHARDY)):
            raise RopegenError(
                f"{name} calls {call}, which no template of ropegen emits; if you trust whoever made it, give "
                f"ropegen.load(..., allow=({call!r},))"
            )
        for size in _sizes(operation):
            if size > _MOST_ELEMENTS:
                raise RopegenError(f"{name} has a tensor of {size} elements; the most is {_MOST_ELEMENTS}; {AGAIN}")
    stated = [list(map(str, types)) for types in main_types(module, name)]
    wanted = [list(map(str, types)) for types in (arguments, results)]
    if stated != wanted:
        raise RopegenError(
            f"{name} takes and returns {_shown(stated)}, and the artifact says {_shown(wanted)}; the files are of two "
            f"artifacts: {AGAIN}"
        )


def _sizes(operation: Any) -> Iterator[int]:
    """The number of elements of every result."""
    for value in operation.results:
        if isinstance(value.type, ir.RankedTensorType):
            yield math.prod(size for size in value.type.shape if size > 0)


def main_types(module: Any, name: str) -> tuple[list[Any], list[Any]]:
    """The types of the arguments and of the results of `main`, in MLIR.

    Raises:
      RopegenError: the module has no such function.
    """
    functions: Mapping[str, Any] = {
        ir.StringAttr(view.operation.attributes["sym_name"]).value: view.operation
        for view in module.body.operations
        if view.operation.name == "func.func"
    }
    if "main" not in functions:
        raise RopegenError(f"{name} has no function main; {AGAIN}")
    kind = ir.FunctionType(ir.TypeAttr(functions["main"].attributes["function_type"]).value)
    return list(kind.inputs), list(kind.results)


def _shown(types: Sequence[Sequence[str]]) -> str:
    arguments, results = ("(" + ", ".join(those) + ")" for those in types)
    return f"{arguments} -> {results}"
