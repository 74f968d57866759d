"""Serves an artifact over HTTP, with jax and NumPy alone: neither ropegen nor the code of a model is imported.

    python docs/examples/serve.py kernels/ weights.npz 8000
    curl -d '{"ids": [[1, 2, 3, 4]]}' localhost:8000

`weights.npz` holds the parameters of the graph, under the names in the manifest. A request gives the other inputs, as lists.
The script reads what `ropegen build` wrote and trusts it; `rg.load` checks hashes, signatures and the programs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jax
import numpy as np

DTYPES = {"i32": "int32", "i64": "int64", "i1": "bool", "f32": "float32", "f64": "float64", "f16": "float16"}


def loaded(directory: Path, weights: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """A function of the inputs by name. What depends on the weights alone is computed here, once."""
    manifest = json.loads((directory / "manifest.json").read_text())

    def run(stage: str, known: Mapping[str, Any]) -> dict[str, Any]:
        program = jax.export.deserialize(bytearray((directory / f"{stage}.jaxexport").read_bytes()))
        return program.call({name: known[name] for name in manifest["stages"][stage]["arguments"]})

    kept = dict(weights)
    if "prepare" in manifest["stages"]:
        kept |= run("prepare", kept)
    call = jax.jit(lambda kept, given: run("module", {**kept, **given}))

    def answer(given: Mapping[str, Any]) -> dict[str, Any]:
        arrays = {}
        for name, values in given.items():
            facts = manifest["inputs"][name]
            dtype = DTYPES.get(facts["dtype"], "bfloat16")
            arrays[name] = jax.numpy.asarray(values, dtype).reshape(facts["shape"])
        return call(kept, arrays)

    return answer


def main() -> None:
    directory, weights, port = Path(sys.argv[1]), np.load(sys.argv[2]), int(sys.argv[3])
    answer = loaded(directory, weights)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            result = {name: np.asarray(array, np.float64).tolist() for name, array in answer(given).items()}
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(result).encode())

    with HTTPServer(("127.0.0.1", port), Handler) as server:
        print(f"serving {directory} at http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
