#!/usr/bin/env python3
"""Compiles tokamax's splash attention for a TPU that is not here; the Python of an environment with tokamax runs it.

    python3.12 -m venv DIR
    DIR/bin/pip install jax==0.11.2 absl-py einshape jaxtyping pydantic tqdm immutabledict tensorboardx flax flatbuffers rich msgspec
    DIR/bin/pip install --no-deps tokamax==0.0.17 qwix
    python3 benchmarks/tpu.py --only heads --tokamax DIR/bin/python

tokamax needs jax 0.11.1 or newer, and ropegen's oldest jax cannot read what a newer one exports. So this script both lowers
and compiles. It reads a job as JSON from its standard input and writes the result as JSON to its standard output:

    {"chip": "v5e", "libtpu": DIR, "configurations": {KEY: Configuration}}  ->  {KEY: the facts of `tpu_schedules`}
    {"versions": true}  ->  the versions of tokamax and jax
    {"measured": CHIP}  ->  the times that tokamax's wheel ships for a chip, and the configurations that they are of

tokamax imports xprof, a profiler, which nothing here calls. An empty module stands for it where it is not installed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import statistics
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# The folder of a chip in tokamax's data.
FOLDERS = {"v7x": "tpu7x"}


@dataclass(frozen=True)
class Configuration:
    """One configuration of splash attention: bf16, causal, as many key heads as query heads."""

    direction: str
    length: int
    heads: int
    width: int
    q: int
    """Queries of a block."""
    kv: int
    """Keys of a block, which a step fetches."""
    compute: int
    """Keys that are computed at a time."""
    sequence_minor: str = ""
    """Which of q, k and v are stored with the sequence minor, such as "k"; the backward kernel takes k and v too."""
    scheduler: bool = False
    """`use_experimental_scheduler`"""
    diagonal: int = 0
    """Sub-tiles of the diagonal's tile, in each direction, of which those that the mask hides are skipped; 0 for none."""
    slots: int | None = 3
    """`dq_reduction_steps`: the number of arrays that the backward kernel adds dq to; None for one for each row of tiles."""

    def __str__(self) -> str:
        """The direction, the features and the sizes, in the words of `tpu_heads.TOKAMAX`."""
        marks = self.sequence_minor + "S" * self.scheduler
        more = f"{f' {marks}' if marks else ''}{', diagonal' if self.diagonal else ''}"
        return f"{self.direction}, {self.width} features, {self.q}/{self.kv}/{self.compute}{more}"


def with_xprof() -> None:
    """Let an empty module stand for xprof, unless it is installed."""
    if importlib.util.find_spec("xprof") is None:
        for name in ("xprof", "xprof.cli", "xprof.cli.tools"):
            sys.modules[name] = types.ModuleType(name)
        sys.modules["xprof.cli.tools"].get_kernel_stats_tool = None  # pyright: ignore[reportAttributeAccessIssue]


def exported(one: Configuration) -> bytes:
    """The module of a configuration. It has no scale, and its backward module has the forward kernel too."""
    import jax
    import jax.numpy as jnp
    from tokamax._src.ops.experimental.tpu.splash_attention import splash_attention_kernel as splash
    from tokamax._src.ops.experimental.tpu.splash_attention import splash_attention_mask as masks

    layouts = {
        f"{name}_layout": splash.QKVLayout.SEQ_MINOR if name in one.sequence_minor else splash.QKVLayout.HEAD_DIM_MINOR
        for name in "qkv"
    }
    sizes = {"block_q": one.q, "block_kv": one.kv, "block_kv_compute": one.compute}
    if one.direction == "backward":
        sizes |= {"block_q_dkv": one.q, "block_kv_dkv": one.kv, "block_kv_dkv_compute": one.compute}
        sizes |= {"dq_reduction_steps": one.slots}
    skips = {"qk_diag_skip": True, "sv_diag_skip": True, "qk_diag_grid": one.diagonal} if one.diagonal else {}
    config = splash.SplashConfig(**sizes, **layouts, **skips, use_experimental_scheduler=one.scheduler)
    kernel = splash.make_splash_mha_single_device(masks.CausalMask((one.length, one.length)), config=config)
    shape = jax.ShapeDtypeStruct((one.heads, one.length, one.width), jnp.bfloat16)

    def pulled(q: Any, k: Any, v: Any, d_out: Any) -> Any:
        return jax.vjp(kernel, q, k, v)[1](d_out)

    function, count = (kernel, 3) if one.direction == "forward" else (pulled, 4)
    return bytes(jax.export.export(jax.jit(function), platforms=["tpu"])(*[shape] * count).serialize())


def compiled(told: dict[str, Any]) -> dict[str, Any]:
    """The result of every configuration of a job: the facts of its kernels, or an error."""
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    from tpu_schedules import kernel_facts

    from ropegen.compilers import tpu
    from ropegen.errors import RopegenError

    modules: dict[str, bytes] = {}
    results: dict[str, Any] = {}
    for key, given in told["configurations"].items():
        try:
            modules[key] = exported(Configuration(**given))
        except (ValueError, NotImplementedError, TypeError) as error:
            results[key] = {"error": f"not lowered: {first_line(error)}"}
    for key, content in modules.items():
        try:
            done = tpu.compile_modules({key: content}, told["chip"], libtpu=told["libtpu"], seconds=600)
        except RopegenError as error:
            results[key] = {"error": first_line(error)}
            continue
        if said := done.errors.get(key):
            results[key] = {"error": first_line(said)}
            continue
        kernels = [kernel for kernel in done.modules[key].kernels if kernel.name.startswith("splash_")]
        try:
            results[key] = {"kernels": [*map(kernel_facts, kernels)], "devices": done.devices_per_chip}
        except ValueError as error:
            results[key] = {"error": f"compiled, but its schedule has an unknown form: {error}"}
    return results


def measured(chip: str) -> list[dict[str, Any]]:
    """The times of tokamax's wheel for a chip: bf16, causal, without dropout, equal widths, at most 32,768 positions."""
    import tokamax

    folder = Path(tokamax.__file__).parent / "data" / "autotuning" / FOLDERS[chip]
    entries: dict[tuple[str, int, int], dict[str, Any]] = {}
    for direction, name in (("forward", ""), ("backward", "_vjp")):
        content = json.loads((folder / f"pallas_mosaic_tpu_splash_attention{name}.json").read_text(encoding="utf-8"))
        for site, times in content.items():
            facts = json.loads(site)
            ((config, run),) = times.items()
            sizes = json.loads(config)
            heads, length, width = (int(size) for size in facts["q"].partition("[")[2].rstrip("]").split(","))
            is_square = facts["k"].partition(",")[2] == facts["v"].partition(",")[2] == f"{length},{width}]"
            if facts["return_residuals"] or sizes["dropout_block_q"] or not is_square or length > 1 << 15:
                continue
            one = {
                "direction": direction, "length": length, "heads": heads, "width": width,
                **{label: sizes[f"block_{label}{name and '_dkv'}"] for label in ("q", "kv")},
                "compute": sizes[f"block_kv{name and '_dkv'}_compute"],
                "sequence_minor": "".join(label for label in "qkv" if sizes.get(f"{label}_layout") == 2),
                "scheduler": sizes.get("use_experimental_scheduler", False),
                "diagonal": sizes["qk_diag_grid"] if sizes.get("qk_diag_skip") else 0,
                "slots": sizes.get("dq_reduction_steps", 3),
            }  # fmt: skip
            entry = {"configuration": one, "milliseconds": statistics.median(run["evaluation_times_ms"])}
            entries.setdefault((direction, length, width), entry)
    return list(entries.values())


def first_line(said: object) -> str:
    return str(said).strip().partition("\n")[0][:300]


def main() -> int:
    with_xprof()
    told = json.load(sys.stdin)
    if "versions" in told:
        answer: Any = {name: importlib.metadata.version(name) for name in ("tokamax", "jax")}
    else:
        answer = measured(told["measured"]) if "measured" in told else compiled(told)
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
