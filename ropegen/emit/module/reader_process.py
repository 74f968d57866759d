"""The process that reads MLIR bytecode: from stdin, and writes the module to stdout as text.

MLIR's reader trusts its input: damaged bytecode can end the process that reads it. The parent process therefore runs
this file by its path and reads only the text. The file imports jaxlib alone, which starts much faster than JAX. The
first argument holds the folders in which the parent looks for modules, as JSON; with a second one, the text has no
locations.

Exit codes: 0 the module is on stdout, 2 MLIR refuses it and stderr says why. Any other end is a crash.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

# Far more than a module needs that fits in memory, and less than a damaged size can ask for.
_MEMORY = 2**34


def main() -> int:
    """Read the module and write its text, or say why MLIR refuses it."""
    _limit()
    sys.path[:] = json.loads(sys.argv[1])
    from jaxlib.mlir import ir
    from jaxlib.mlir._mlir_libs import _jax_mlir_ext  # the dialects that JAX's own contexts have
    from jaxlib.mlir.dialects import chlo, mhlo, sdy, stablehlo

    source = sys.stdin.buffer.read()
    registry: Any = ir.DialectRegistry()
    _jax_mlir_ext.register_dialects(registry)
    with ir.Context() as context:
        context.append_dialect_registry(registry)
        context.load_all_available_dialects()
        sdy.register_dialect(context)
        mhlo.register_mhlo_dialect(context)
        chlo.register_dialect(context)
        stablehlo.register_dialect(context)
        try:
            is_portable = b"StableHLO_v" in source[:64]
            module: Any = (
                stablehlo.deserialize_portable_artifact(context, source) if is_portable else ir.Module.parse(source)
            )
        except (ir.MLIRError, ValueError) as error:
            sys.stderr.write(f"{error}\n")
            return 2
        module.operation.print(file=sys.stdout.buffer, binary=True, enable_debug_info=len(sys.argv) == 2)
        sys.stdout.flush()
    return 0


def _limit() -> None:
    """Limit the memory of this process, and leave no file behind if it crashes."""
    with contextlib.suppress(ModuleNotFoundError, ValueError, OSError):  # Windows has no such limits, and macOS not all
        import resource

        for limit, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, _MEMORY)):
            _, hard = resource.getrlimit(limit)
            resource.setrlimit(limit, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    sys.exit(main())
