"""Write golden/vectors/equinox.json, attnax.json and penzai.json: the results of these libraries for `seed_cases.py`.

Run `python tests/record_seeds.py` by hand, where the versions that `seed_cases.SEEDS` names are installed. Everything runs
op by op, as the libraries are written. The same versions on the same kind of CPU write the same bytes.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from typing import Any

import attnax
import equinox
import jax
import ml_dtypes
import numpy as np
import seed_cases
from penzai import pz

from ropegen.target import Target

RUNS = {
    "equinox": lambda dtype: seed_cases.equinox(equinox.nn, dtype),
    "attnax": lambda dtype: seed_cases.attnax(attnax, dtype),
    "penzai": lambda dtype: seed_cases.penzai(pz.nn, lambda attention: attention, dtype),
}


def numbers(values: np.ndarray) -> Any:
    """Values by the shortest decimals that read back as the same numbers of their type."""
    if values.ndim:
        return [numbers(row) for row in values]
    text = str(values.astype(np.float32) if values.dtype == ml_dtypes.bfloat16 else values)
    return None if text == "nan" else float(text)


def main() -> None:
    """Runs the libraries and replaces the files."""
    seed_cases.VECTORS.mkdir(parents=True, exist_ok=True)
    for seed, run in RUNS.items():
        versions = {name: importlib.metadata.version(name) for name in (seed, "jax", "jaxlib")}
        versions |= {"python": platform.python_version(), "cpu": str(Target.host())}
        assert versions[seed] == seed_cases.SEEDS[seed]
        lines = [f'"versions": {json.dumps(versions)}']
        for name, dtype in seed_cases.DTYPES.items():
            results = {label: np.asarray(array) for label, array in run(dtype).items()}
            written = ",\n".join(
                f'  "{label}": {json.dumps([array.dtype.name, numbers(array)], separators=(",", ":"))}'
                for label, array in results.items()
            )
            lines.append(f'"{name}": {{\n{written}\n}}')
        path = seed_cases.VECTORS / f"{seed}.json"
        aside = path.with_suffix(".new")
        aside.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        os.replace(aside, path)
        print(f"{path.name}: {path.stat().st_size:,} bytes, {versions}")


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    main()
