"""Compiles an artifact with IREE and runs it; neither JAX nor ropegen is imported.

    python docs/examples/run_iree.py kernels/ weights.npz ids.npz out.npz

`weights.npz` holds the parameters of the graph and `ids.npz` its other inputs, under the names in the manifest. bfloat16 is
no type of NumPy, so the artifact of this example is of float32 (`ropegen build --dtype f32`). It needs iree-base-compiler
and iree-base-runtime.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import iree.compiler
import iree.runtime
import numpy as np


def run(directory: Path, inputs: dict[str, Any]) -> dict[str, Any]:
    """The outputs of the graph by name."""
    manifest = json.loads((directory / "manifest.json").read_text())
    known = dict(inputs)
    for stage in ("prepare", "module"):  # what depends on the weights alone comes first
        if stage not in manifest["stages"]:
            continue
        code = iree.compiler.compile_file(
            str(directory / f"{stage}.mlirbc"),
            input_type="stablehlo",
            target_backends=["llvm-cpu"],
            extra_args=["--iree-llvmcpu-target-cpu=host"],
        )
        module = iree.runtime.load_vm_flatbuffer(code, driver="local-task")
        facts = manifest["stages"][stage]
        results = module.main(*(known[name] for name in facts["arguments"]))
        results = results if isinstance(results, list | tuple) else [results]
        known |= {name: result.to_host() for name, result in zip(facts["results"], results, strict=True)}
    return {name: known[name] for name in manifest["outputs"]}


def main() -> None:
    directory, weights, given, destination = sys.argv[1:]
    out = run(Path(directory), {**np.load(weights), **np.load(given)})
    np.savez(destination, **out)
    for name, array in out.items():
        print(f"{name}: {array.dtype} {array.shape}")


if __name__ == "__main__":
    main()
