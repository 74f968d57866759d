"""Runs the kernels for GPU in JAX's interpreter, in a process of its own: `python interpreted_gpu.py NAME...`.

For each named case it prints a line of JSON: the largest errors against the oracle in float64, or what the interpreter
raised. A planted fault is a case too: the interpreter must find it. A kernel that waits for what never comes hangs, so
whoever starts the process gives it a limit of time. With NPROC=16, XLA's pool has a thread for every thread of a kernel
that waits at a barrier.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gradients import cotangents_of, exact_gradient, plain_gradient
from interpreted import drawn
from jax.experimental.pallas import mosaic_gpu as plgpu
from ropegen.templates.attend import kernel_gpu, kernel_gpu_backward, kernel_gpu_blackwell, mosaic_gpu
from ropegen.templates.attend.form_gpu import BLACKWELL, HOPPER, Generation
from ropegen.templates.attend.site import FAMILY, AttendSite

import ropegen as rg
from ropegen import masks, reference
from ropegen.ir.build import Builder
from ropegen.target import Target
from ropegen.template import Tile
from ropegen.types import numpy_dtype

MASKS = {
    "full": masks.full,
    "causal": masks.causal,
    "window": masks.causal & masks.window(100),
    "prefix": masks.causal | masks.prefix(40),
    "by head": masks.mask(lambda q_pos, kv_pos, head: (kv_pos <= q_pos) & (kv_pos * head < 150)),
    "five comparisons": masks.mask(
        lambda q_pos, kv_pos, head, batch: (
            ((kv_pos <= q_pos) & (q_pos - kv_pos < 300) | (kv_pos < 40 * head) | (kv_pos * 3 == q_pos + batch))
            & (kv_pos != 7)
        )
    ),
    "chunks": masks.mask(
        lambda q_pos, kv_pos, head: (
            (q_pos // 48 == kv_pos // 48) & (kv_pos % 5 != 1) | ((head == 0) & ((q_pos - kv_pos) % 3 == 2))
        )
    ),
    "ten comparisons": masks.mask(
        lambda q_pos, kv_pos, head, batch: (
            ((kv_pos <= q_pos) & (q_pos - kv_pos < 300) | (kv_pos < 40 * head) | (kv_pos * 3 == q_pos + batch))
            & (kv_pos != 7)
            | (kv_pos % 16 == 3)
            | (q_pos // 3 > 2 * kv_pos)
        )
    ),
    "nothing for some": masks.mask(lambda q_pos, kv_pos: ((q_pos < 50) | (q_pos > 140)) & (kv_pos >= 0)),
    "nothing for a block": masks.mask(lambda q_pos, kv_pos: (q_pos >= 128) & (kv_pos < 100)),
}


@dataclass(frozen=True)
class Case:
    batch: int = 1
    queries: int = 128
    keys: int = 128
    heads: int = 1
    kv_heads: int = 1
    width: int = 64
    dtype: str = "bf16"
    mask: str = "causal"
    pairing: str | None = None
    dim: int | None = None
    masked_row: str = "zero"
    kv_tile: int = 128
    value_width: int | None = None
    softcap: float | None = None
    score: masks.Expr = masks.identity
    sinks: bool = False
    bias: tuple[int, ...] | None = None
    dense: tuple[int, ...] | None = None
    segments: bool = False
    moved: bool = False  # positions are known only at run time
    scale: float | None = None
    nan_key: int | None = None

    @property
    def site(self) -> AttendSite:
        b = Builder("attention")
        q = b.input("q", (self.batch, self.queries, self.heads, self.width), self.dtype)
        widths = self.width, self.value_width or self.width
        k, v = (
            b.input(name, (self.batch, self.keys, self.kv_heads, width), self.dtype)
            for name, width in zip("kv", widths, strict=True)
        )
        lengths = {"q": self.queries, "kv": self.keys}
        at = {
            "q_positions": b.positions(self.queries, start=max(self.keys - self.queries, 0)),
            "kv_positions": b.positions(self.keys),
        }
        if self.moved:
            at = {f"{side}_positions": b.input(f"{side}_at", (length,), "i32") for side, length in lengths.items()}
        if self.pairing is not None:
            rope = rg.Rope(10_000.0, pairing=self.pairing, dim=self.dim)
            q, k = (b.rope(x, place, rope) for x, place in zip((q, k), at.values(), strict=True))
        options: dict[str, Any] = {"mask": MASKS[self.mask], "masked_row": self.masked_row}
        options |= {"softcap": self.softcap, "score": self.score, "scale": self.scale}
        read = masks.variables(MASKS[self.mask]) | masks.variables(self.score)
        options |= at if {"q_pos", "kv_pos"} & read else {}
        if self.segments:
            options["mask"] = options["mask"] & masks.segments
            for side, length in lengths.items():
                options[f"{side}_segments"] = b.input(f"{side}_ids", (self.batch, length), "i32")
        if self.sinks:
            options["sinks"] = b.parameter("sinks", (self.heads,), "f32")
        if self.bias is not None:
            options["bias"] = b.input("bias", self.bias, "f32")
        if self.dense is not None:
            options["dense_mask"] = b.input("dense", self.dense, "i1")
        built = b.build(output=b.attend(q, k, v, **options), lse=b.attend(q, k, v, **options, returns="log_sum_exp"))
        return FAMILY.site(next(iter(FAMILY.find(built))).closed)


CASES = {
    "full, one tile": Case(mask="full"),
    "causal, more tiles than slots, halves rotated in the kernel": Case(
        queries=512, keys=640, width=128, pairing="half"
    ),
    "halves of 64 features, float16": Case(queries=256, keys=256, dtype="f16", pairing="half"),
    "interleaved, grouped heads of a batch, tails": Case(
        batch=2, queries=130, keys=200, heads=4, kv_heads=2, pairing="interleaved"
    ),
    "a part of the width is rotated, a window": Case(queries=300, keys=300, pairing="half", dim=32, mask="window"),
    "tiles of 64 keys": Case(queries=256, keys=448, width=128, kv_tile=64),
    "a prefix": Case(queries=200, keys=200, mask="prefix"),
    "heads see other keys": Case(queries=128, keys=256, heads=2, mask="by head"),
    "five comparisons, and a tail": Case(
        batch=2, queries=200, keys=210, heads=2, width=128, pairing="half", mask="five comparisons", kv_tile=64
    ),
    "rows that see nothing": Case(queries=256, keys=130, mask="nothing for some"),
    "scores that grow from tile to tile": Case(queries=128, keys=384, mask="full", kv_tile=64, scale=3.0),
    "a block that sees nothing, as the mean": Case(
        queries=256, keys=256, mask="nothing for a block", masked_row="mean"
    ),
    "a soft-cap, sinks, and rows that see nothing": Case(
        queries=256, keys=200, heads=2, width=128, pairing="half", mask="nothing for some", softcap=2.0, sinks=True
    ),
    "ALiBi and a bias of every head": Case(
        queries=130, keys=140, heads=2, kv_tile=64, score=masks.alibi([0.5, 0.25]), bias=(2, 130, 140)
    ),
    "a bias of every key, a soft-cap": Case(keys=100, heads=2, kv_tile=64, softcap=3.0, bias=(2, 1, 100), mask="full"),
    "another score expression": Case(
        batch=2,
        keys=192,
        heads=2,
        kv_tile=64,
        mask="full",
        score=masks.score(
            lambda score, q_pos, kv_pos, head, batch: masks.where(
                kv_pos // 7 > q_pos % 5,
                2.0 * masks.tanh(score / 2.0),
                score - 0.01 * (head + batch) * masks.absolute(kv_pos - q_pos),
            )
        ),
    ),
    "segments": Case(batch=2, queries=256, keys=300, kv_tile=64, segments=True, pairing="half"),
    "positions and segments of the running program": Case(
        queries=256, keys=256, kv_tile=64, mask="window", moved=True, segments=True
    ),
    "a dense mask of every sequence": Case(
        batch=2, queries=130, keys=130, heads=2, kv_tile=64, mask="full", dense=(2, 1, 130, 130)
    ),
    "chunks": Case(batch=2, queries=140, keys=256, heads=2, kv_tile=64, mask="chunks"),
    "80 features": Case(queries=128, keys=192, width=80, kv_tile=128, pairing="half"),
    "96 features": Case(queries=128, keys=256, width=96, kv_tile=128, pairing="interleaved"),
    "192 features, and 128 of values": Case(
        queries=128, keys=256, width=192, value_width=128, kv_tile=64, pairing="half", dim=64, heads=2
    ),
    "256 features": Case(queries=256, keys=256, width=256, kv_tile=64, pairing="half", softcap=5.0),
    "256 features, more tiles than slots, scores that grow": Case(
        queries=200, keys=448, width=256, kv_tile=64, mask="nothing for a block", scale=1.0, masked_row="mean"
    ),
    "64 features, and 160 of values": Case(queries=130, keys=320, width=64, value_width=160, kv_tile=64, dtype="f16"),
    "160 features, and 96 of values, more tiles than slots": Case(
        queries=256, keys=448, width=160, value_width=96, kv_tile=64, mask="full"
    ),
    "a soft-cap, full tiles, float16": Case(queries=256, keys=384, width=128, softcap=4.0, mask="causal", dtype="f16"),
    "a key that is not a number": Case(queries=256, keys=384, mask="causal", nan_key=300),
    "256 features of packed documents, a window, a soft-cap": Case(
        batch=2, queries=130, keys=130, width=256, heads=2, kv_tile=64, mask="window", segments=True, softcap=3.0
    ),
    "256 features, a bias of every head, a dense mask": Case(
        queries=128,
        keys=140,
        width=256,
        heads=2,
        kv_tile=64,
        bias=(2, 128, 140),
        dense=(1, 1, 128, 140),
    ),
    "192 features, and 128 of values, positions of the running program": Case(
        queries=128,
        keys=192,
        width=192,
        value_width=128,
        heads=2,
        kv_heads=1,
        kv_tile=64,
        moved=True,
        bias=(2, 128, 192),
    ),
    "72 features, and 40 of values": Case(queries=128, keys=130, width=72, value_width=40, kv_tile=128),
}
_EVERYTHING = Case(
    batch=2,
    queries=256,
    keys=300,
    heads=4,
    kv_heads=2,
    mask="ten comparisons",
    kv_tile=64,
    softcap=20.0,
    sinks=True,
    score=masks.alibi([0.5, 0.25, 0.125, 0.0625]),
    bias=(2, 4, 256, 300),
    dense=(2, 1, 256, 300),
    segments=True,
    moved=True,
)
_PACKED: dict[str, Any] = {
    "batch": 2,
    "queries": 256,
    "keys": 300,
    "heads": 4,
    "kv_heads": 2,
    "width": 256,
    "kv_tile": 64,
    "segments": True,
}
# Forms that need the most registers. They are compiled and not interpreted.
LARGE = {
    **{f"everything, {width} features": replace(_EVERYTHING, width=width) for width in (64, 128, 256)},
    "chunks, 256 features": replace(CASES["chunks"], width=256),
    "everything and five comparisons, 128 features": replace(_EVERYTHING, width=128, mask="five comparisons"),
    "everything but a dense mask, causal, 128 features": replace(_EVERYTHING, width=128, mask="causal", dense=None),
    "everything but a dense mask, causal, 256 features": replace(_EVERYTHING, width=256, mask="causal", dense=None),
    "a window, 128 features": Case(queries=256, keys=300, width=128, pairing="half", mask="window"),
    "everything and five comparisons, 256 features": replace(_EVERYTHING, width=256, mask="five comparisons"),
    "everything, causal, 192 features, 128 of values": replace(_EVERYTHING, width=192, value_width=128, mask="causal"),
    "everything, causal, 160 features, 96 of values": replace(_EVERYTHING, width=160, value_width=96, mask="causal"),
    "160 features, 96 of values": Case(queries=256, keys=300, heads=2, width=160, value_width=96, kv_tile=64),
    "five comparisons, 160 features, 96 of values": Case(
        queries=256, keys=300, heads=2, width=160, value_width=96, mask="five comparisons", kv_tile=64
    ),
    "five comparisons, 256 features": Case(
        queries=256, keys=300, heads=4, kv_heads=2, width=256, mask="five comparisons", kv_tile=64
    ),
    "packed documents, 256 features": Case(**_PACKED),
    "packed documents, a soft-cap, 256 features": Case(**_PACKED, softcap=50.0),
    "a soft-cap, 256 features, rotated": Case(
        queries=256, keys=300, heads=4, kv_heads=2, width=256, pairing="half", kv_tile=64, softcap=50.0
    ),
    "256 features, rotated, a window": Case(
        queries=256, keys=300, width=256, pairing="half", mask="window", kv_tile=64
    ),
}
# The cases whose parts other cases have too: they are interpreted with `--exhaustive` only.
RARE = (
    "halves of 64 features, float16",
    "a prefix",
    "heads see other keys",
    "another score expression",
    "80 features",
    "64 features, and 160 of values",
    "160 features, and 96 of values, more tiles than slots",
    "256 features",
    "192 features, and 128 of values",
    "256 features, a bias of every head, a dense mask",
)
# What stands before the name of a case whose gradient is meant.
GRADIENT = "the gradient of "
# What stands before the name of a case on Blackwell.
ON_BLACKWELL = "on Blackwell, "
# The cases whose gradients are interpreted.
DERIVED = (
    "interleaved, grouped heads of a batch, tails",
    "a block that sees nothing, as the mean",
    "a soft-cap, sinks, and rows that see nothing",
    "ALiBi and a bias of every head",
    "positions and segments of the running program",
    "a dense mask of every sequence",
    "192 features, and 128 of values",
    "256 features",
    "256 features of packed documents, a window, a soft-cap",
    "256 features, a bias of every head, a dense mask",
    "192 features, and 128 of values, positions of the running program",
)
# What a planted fault leaves out: of which kernel, and which wait, in the order in which it is traced, or which fence.
FAULTS = {
    "values are read before they are there": (kernel_gpu, "barrier_wait", 3),
    "both warpgroups multiply at once": (kernel_gpu, "barrier_wait", 4),
    "results are copied without a fence": (kernel_gpu, "commit_smem", 0),
    ON_BLACKWELL + "scores overwrite weights that are still read": (kernel_gpu_blackwell, "barrier_wait", 5),
    ON_BLACKWELL + "values overwrite values that are still read": (kernel_gpu_blackwell, "barrier_wait", 12),
    ON_BLACKWELL + "weights are read before they are there": (kernel_gpu_blackwell, "commit_tmem", 0),
    ON_BLACKWELL + "weights overwrite scores that are still read": (kernel_gpu_blackwell, "wait_load_tmem", 0),
    ON_BLACKWELL + "256 features, weights overwrite weights that are still read": (
        kernel_gpu_blackwell,
        "barrier_wait",
        4,
    ),
    ON_BLACKWELL + "256 features, queries are read before they are there": (kernel_gpu_blackwell, "commit_tmem", 0),
    ON_BLACKWELL + "256 features, values are read before they are there": (kernel_gpu_blackwell, "barrier_wait", 5),
    ON_BLACKWELL + "256 features, scores overwrite scores that are still read": (
        kernel_gpu_blackwell,
        "wait_load_tmem",
        0,
    ),
    "the gradient of keys that are read before they are there": (kernel_gpu_backward, "barrier_wait", 1),
    "the gradient of queries that are read before they are there": (kernel_gpu_backward, "barrier_wait", 3),
    "the gradient of queries is copied without a fence": (kernel_gpu_backward, "commit_smem", 0),
}
# Those that are planted only with `--exhaustive`.
RARE_FAULTS = tuple(name for name in FAULTS if name.startswith(ON_BLACKWELL))[2:]
LONG = Case(mask="full", queries=128, keys=768)
LONG_AND_WIDE = replace(LONG, width=256, kv_tile=64)


def operands(site: AttendSite) -> dict[str, Any]:
    values = drawn(site, 0)
    for label in values.keys() & {"q_at", "kv_at"}:
        values[label] = np.sort(np.random.default_rng(1).integers(-50, 400, values[label].shape)).astype(np.int32)
    return values


def errors(case: Case, generation: Generation) -> dict[str, float]:
    """The largest errors of the output and of the log-sum-exp."""
    site = case.site
    reasons = list(mosaic_gpu.declines(site, Target.parse(generation.chips[0])))
    assert not reasons, reasons
    values = operands(site)
    if case.nan_key is not None:
        values["k"][:, case.nan_key] = np.nan
    tile = Tile.of(q=generation.block(case.value_width or case.width), kv=case.kv_tile)
    kernel = mosaic_gpu.build_for(site, tile, generation, interpreter=True)
    results = jax.jit(kernel.forward)(*values.values())
    exact = reference.evaluate(site.closed, values)
    found: dict[str, float] = {}
    for (label, _), ours in zip(site.closed.outputs, results, strict=True):
        given, wanted = np.asarray(ours, np.float64), exact[label]
        assert given.shape == wanted.shape
        assert np.array_equal(np.isneginf(given), np.isneginf(wanted))
        assert np.array_equal(np.isnan(given), np.isnan(wanted))
        shown = ~np.isneginf(wanted) & ~np.isnan(wanted)
        found[label] = float(np.max(np.abs(given[shown] - wanted[shown]), initial=0.0))
    return found


def gradient_errors(case: Case) -> dict[str, tuple[float, float]]:
    """The error of each cotangent, as a share of its own norm: of the backward kernels, and of the formula in JAX's own
    arithmetic of the same element types.
    """
    site = case.site
    values = operands(site)
    wanted = [jnp.issubdtype(x.dtype, jnp.floating) and "angles" not in label for label, x in values.items()]
    results = {label: np.asarray(x) for label, x in reference.evaluate(site.closed, values).items()}
    results = {label: results[label].astype(numpy_dtype(node.type.dtype)) for label, node in site.closed.outputs}
    pulled = cotangents_of(site, 0)
    kernel = mosaic_gpu.build_for(site, Tile.of(q=128, kv=case.kv_tile), HOPPER, interpreter=True)
    given = tuple(values.values()), tuple(results.values()), tuple(pulled[label] for label in results)
    ours = jax.jit(lambda *given: kernel.backward(*given, wanted))(*given)
    assert ours is not None
    labels = [label for label, is_wanted in zip(values, wanted, strict=True) if is_wanted]
    ours = [np.asarray(x, np.float64) for x in ours if x is not None]
    exact, usual = (derive(site, labels, values, pulled) for derive in (exact_gradient, plain_gradient))
    return {
        label: (norm(x - z) / norm(z), norm(y - z) / norm(z))
        for label, x, y, z in zip(labels, ours, usual, exact, strict=True)
    }


def norm(x: np.ndarray) -> float:
    return float(np.sqrt(np.sum(x * x)))


def without(kernel: ModuleType, name: str, index: int) -> None:
    """Makes a kernel leave out one of its calls of a function of Mosaic GPU."""
    call, count = getattr(plgpu, name), iter(range(1000))

    def sometimes(*arguments: Any, **options: Any) -> None:
        if next(count) != index:
            call(*arguments, **options)

    kernel.plgpu = SimpleNamespace(**{**vars(plgpu), name: sometimes})


def main() -> None:
    for name in sys.argv[1:]:
        if name in FAULTS:
            without(*FAULTS[name])
        long = LONG_AND_WIDE if "256 features" in name else LONG
        case = CASES.get(name.removeprefix(GRADIENT).removeprefix(ON_BLACKWELL), long)
        generation = BLACKWELL if name.startswith(ON_BLACKWELL) else HOPPER
        try:
            said: dict[str, Any] = {
                "errors": gradient_errors(case) if name.startswith(GRADIENT) else errors(case, generation)
            }
        except (RuntimeError, ValueError) as error:
            said = {"raised": str(error)}
        print(json.dumps({"name": name, **said}), flush=True)


if __name__ == "__main__":
    main()
