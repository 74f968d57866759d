#!/usr/bin/env python3
"""Write golden/schedules/tpu-CHIP/: the listings of a small kernel by libtpu, which tests/test_schedule.py reads.

    python tests/record_schedule.py v5e --libtpu DIR

It needs libtpu (`pip install --target DIR libtpu`) and no TPU. From the listing of the kernel's first form it keeps only
the allocations. It leaves out of the file names the numbers that only state a time.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from ropegen.compilers import tpu
from ropegen.compilers.schedule import KernelSchedule

FOLDER = Path(__file__).resolve().parent.parent / "golden" / "schedules"


def kernel(x: Any, y: Any, out: Any, total: Any) -> None:
    """Even steps multiply once and odd steps three times. The first step of a row clears the sum, the last one writes it."""
    step = pl.program_id(1)

    @pl.when(step == 0)
    def begin() -> None:
        total[...] = jnp.zeros(total.shape, jnp.float32)

    def product() -> jax.Array:
        return jnp.dot(x[...], y[...], preferred_element_type=jnp.float32)

    @pl.when(step % 2 == 0)
    def even() -> None:
        total[...] += product()

    @pl.when(step % 2 == 1)
    def odd() -> None:
        def body(index: Any, carry: int) -> int:
            total[...] += jnp.exp(product()) * (index + 1)
            return carry

        jax.lax.fori_loop(0, 3, body, 0)

    @pl.when(step == 4)
    def end() -> None:
        out[...] = jnp.tanh(total[...]).astype(out.dtype)


def module() -> bytes:
    """The kernel over a grid of two by five steps, as `jax.export` writes it."""
    call = pl.pallas_call(
        kernel,
        grid=(2, 5),
        in_specs=[pl.BlockSpec((16, 128), lambda i, j: (i, j)), pl.BlockSpec((128, 128), lambda i, j: (j, 0))],
        out_specs=pl.BlockSpec((16, 128), lambda i, j: (i, 0)),
        out_shape=jax.ShapeDtypeStruct((32, 128), jnp.bfloat16),
        scratch_shapes=[pltpu.VMEM((16, 128), jnp.float32)],
        name="recorded",
    )
    shapes = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((32, 640), (640, 128)))
    jax.config.update("jax_traceback_in_locations_limit", 0)
    return bytes(jax.export.export(jax.jit(call), platforms=["tpu"])(*shapes).serialize())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chip", choices=tpu.TOPOLOGIES)
    parser.add_argument("--libtpu", metavar="DIR")
    options = parser.parse_args()
    folder = FOLDER / f"tpu-{options.chip}"
    read = tpu.read_schedules

    def keep(listings: Path) -> tuple[KernelSchedule, ...]:
        folder.mkdir(parents=True, exist_ok=True)
        for path in listings.glob("*-recorded.*"):
            text = path.read_text()
            if "schedule-analysis" in path.name:
                continue
            if path.name.endswith("original.txt"):
                text = "".join(line for line in text.splitlines(keepends=True) if "[shape = " in line)
            (folder / ("0-" + path.name.partition("-")[2])).write_text(text)
        return read(listings)

    tpu.read_schedules = keep
    done = tpu.compile_modules({"recorded": module()}, options.chip, libtpu=options.libtpu)
    for problem in done.errors.values():
        sys.exit(f"error: {problem}")
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}, by {done.compiler}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
