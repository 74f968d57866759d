"""The modules that tpu.py compiles: the kernels of a site, JAX's own kernels, real models, and drawn sites."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import math
import random
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu import flash_attention as flash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as splash_mask

import ropegen as rg
from ropegen import masks, models, passes
from ropegen.compilers import tpu
from ropegen.emit.module import stablehlo
from ropegen.ir.graph import Graph
from ropegen.rotary import Pairing
from ropegen.target import Target
from ropegen.template import AnyTemplate, Site, Tile, catalog
from ropegen.tiles import Measured
from ropegen.types import numpy_dtype

CHIPS = tuple(tpu.TOPOLOGIES)
CASES = Path(__file__).resolve().parent.parent / "golden" / "cases"
# The site of the comparison with JAX's kernels.
LENGTH, HEADS, WIDTH, TILE = 4096, 8, 128, Tile.of(q=512, kv=512)
# The site at which grid steps are counted.
LONG, WINDOW = 8192, 1024
# The seed and the widths of the drawn sites, which are the same on every machine.
SEED = 2026
WIDTHS = (64, 80, 96, 128, 256)


@dataclass(frozen=True)
class Job:
    """A module to compile for a chip, and the facts about it that need no compiler."""

    part: str
    key: str
    chip: str
    make: Callable[[], bytes] = bytes
    facts: Callable[[], Mapping[str, Any]] = dict
    scheduled: bool = True
    """Whether its schedules are read; otherwise the job only shows whether the module compiles."""
    foreign: Mapping[str, Any] | None = None
    """A `tpu_tokamax.Configuration`, which the environment that has tokamax compiles instead."""


def templates() -> tuple[AnyTemplate, ...]:
    """The templates whose kernels Mosaic compiles."""
    return tuple(template for template in catalog() if template.name == "mosaic_tpu")


@functools.cache
def sources(family: str) -> str:
    """A digest of a family's TPU templates and of what they share, so that a result names the version it comes from."""
    content = hashlib.sha256()
    for name in (family, "tpu"):
        spec = importlib.util.find_spec(f"ropegen.templates.{name}")
        assert spec is not None
        assert spec.submodule_search_locations is not None
        for path in sorted(Path(spec.submodule_search_locations[0]).glob("*.py")):
            if name == "tpu" or path.stem == "site" or "tpu" in path.stem:
                content.update(path.read_bytes())
    return content.hexdigest()[:12]


class DeclinedError(Exception):
    """The template's reason to leave a part to another template."""


# Modules -------------------------------------------------------------------------------------------------------------


@contextmanager
def without_locations() -> Generator[None]:
    """Trace without locations, so that a module does not depend on the folder in which it was made."""
    before: int = getattr(jax.config, "jax_traceback_in_locations_limit")  # noqa: B009
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", before)


def module(function: Callable[..., Any], *shapes: Any) -> bytes:
    with without_locations():
        exported = jax.export.export(jax.jit(function), platforms=["tpu"])(*shapes)
    return bytes(exported.serialize())


def shape(kind: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(kind.shape, numpy_dtype(kind.dtype))


def site_of(graph: Graph, template: AnyTemplate) -> Site | None:
    """The first region of a graph that matches the template's family, or None."""
    for region in template.family.find(passes.canonical(graph)):
        return template.family.site(region.closed)
    return None


def own_tile(template: AnyTemplate, site: Site, target: Target) -> Tile:
    """The planner's tile: the measured one, else the cheapest."""
    measured = Measured(target).look_up(template, site.closed)
    return (
        measured.tile
        if measured
        else min(template.tiles(site, target), key=lambda tile: template.cost(site, target, tile).seconds)
    )


def forward(template: AnyTemplate, site: Site, tile: Tile, chip: str) -> bytes:
    return module(
        template.build(site, tile, Target.parse(f"tpu:{chip}")).forward, *map(shape, site.closed.input_types.values())
    )


def backward(template: AnyTemplate, site: Site, tile: Tile, chip: str) -> bytes:
    """The cotangents of all float operands except the angles, from the cotangent of the first output.

    Raises:
      DeclinedError: the template leaves some of them to another template.
    """
    for note in template.notes(site, tile, Target.parse(f"tpu:{chip}")):
        raise DeclinedError(note)
    kernel, kinds = template.build(site, tile, Target.parse(f"tpu:{chip}")), site.closed.input_types
    operands = tuple(map(shape, kinds.values()))
    wanted = [kind.is_float and not label.endswith("angles") for label, kind in kinds.items()]
    results = tuple(shape(value.type) for value in (*site.outputs, *template.family.residuals(site)))

    def pulled(operands: Any, results: Any, cotangent: Any) -> Any:
        return kernel.backward(operands, results, (cotangent, *[None] * (len(results) - 1)), wanted)

    return module(pulled, operands, results, results[0])


def whole(plan: rg.Plan) -> bytes:
    """The whole computation of a call of a plan."""
    return bytes(stablehlo.exported([plan], "run", named=True).serialize(vjp_order=0))


# JAX's own kernels at the site of the comparison ----------------------------------------------------------------------


def flash_forward(width: int = WIDTH) -> bytes:
    """Flash attention of jax with its defaults, which do not scale the scores."""
    sizes = flash.BlockSizes(block_q=512, block_k_major=512, block_k=512, block_b=1)
    attend = functools.partial(flash.flash_attention, causal=True, block_sizes=sizes)
    return module(attend, *[jax.ShapeDtypeStruct((1, HEADS, LENGTH, width), jnp.bfloat16)] * 3)


def _splash(mask: splash_mask.Mask, **sizes: Any) -> Callable[..., Any]:
    """Splash attention of jax, which does not scale the scores."""
    blocks = splash.BlockSizes(block_q=512, block_kv=512, **sizes)
    heads = splash_mask.MultiHeadMask([mask] * HEADS)
    return splash.make_splash_mha(heads, block_sizes=blocks, head_shards=1, q_seq_shards=1)


def splash_forward(mask: splash_mask.Mask | None = None, width: int = WIDTH) -> bytes:
    mask = splash_mask.CausalMask((LENGTH, LENGTH)) if mask is None else mask  # a mask has no truth value
    given = [jax.ShapeDtypeStruct((HEADS, mask.shape[0], width), jnp.bfloat16)] * 3
    return module(_splash(mask), *given)


def splash_window() -> bytes:
    return splash_forward(splash_mask.LocalMask((LONG, LONG), (WINDOW - 1, 0), 0))


def splash_backward(width: int = WIDTH, **sizes: Any) -> bytes:
    sizes = {"block_q_dkv": 512, "block_kv_dkv": 512, **sizes}
    kernel = _splash(splash_mask.CausalMask((LENGTH, LENGTH)), **sizes)

    def pulled(q: Any, k: Any, v: Any, d_out: Any) -> Any:
        return jax.vjp(kernel, q, k, v)[1](d_out)

    return module(pulled, *[jax.ShapeDtypeStruct((HEADS, LENGTH, width), jnp.bfloat16)] * 4)


def splash_backward_apart(width: int = WIDTH) -> bytes:
    return splash_backward(width, block_q_dq=512, block_kv_dq=512)


def splash_backward_fused(width: int = WIDTH) -> bytes:
    return splash_backward(width, use_fused_bwd_kernel=True)


# Graphs --------------------------------------------------------------------------------------------------------------


def attention(
    length: int,
    heads: int,
    kv_heads: int,
    width: int,
    dtype: str = "bf16",
    mask: masks.Expr = masks.causal,
    *,
    pairing: Pairing | None = "half",
    segments: bool = False,
) -> Graph:
    """Attention with RoPE of q and k; `segments` adds a mask of run-time segment ids."""
    b = rg.Builder("attention")
    sizes = (("q", heads), ("k", kv_heads), ("v", kv_heads))
    q, k, v = (b.input(label, (1, length, count, width), dtype) for label, count in sizes)
    at = b.positions(length)
    options: dict[str, Any] = {}
    if pairing is not None:
        q, k = (b.rope(x, at, rg.Rope(10_000.0, pairing=pairing)) for x in (q, k))
    if segments:
        mask = mask & masks.segments
        options = {label: b.input(label, (1, length), "i32") for label in ("q_segments", "kv_segments")}
    return b.build(out=b.attend(q, k, v, mask=mask, **options))


def case(name: str, **build: Any) -> Graph:
    """The front-end of a golden case; `build` replaces values of its build, such as the length."""
    described = json.loads((CASES / name / "config.json").read_text(encoding="utf-8"))
    described["build"] |= build
    return models.from_case(described)


def cases() -> list[str]:
    return sorted(path.parent.name for path in CASES.glob("*/config.json"))


@dataclass(frozen=True)
class Drawn:
    """A drawn site: an attention, and the projection and the lookup before it."""

    number: int
    length: int
    keys: int
    heads: int
    kv_heads: int
    width: int
    dtype: str
    mask: str
    pairing: Pairing | None
    dim: int | None
    softcap: float | None
    sinks: bool
    bias: bool
    norm: bool

    @staticmethod
    def of(number: int) -> Drawn:
        draw = random.Random(f"{SEED}/{number}")
        length = draw.randint(1, 4096)
        mask = draw.choice(("full", "causal", "causal", "window", "chunked", "prefix", "segments", "documents"))
        kv_heads = draw.choice((1, 2, 4, 8))
        width = draw.choice(WIDTHS)
        alone = mask in ("full", "segments")  # these compare no positions, so the number of keys may differ
        keys = draw.randint(1, 4096) if alone and draw.random() < 0.4 else length
        pairing = draw.choice(("half", "half", "interleaved", None)) if keys == length else None
        return Drawn(
            number, length, keys, kv_heads * draw.choice((1, 1, 2, 4, 8)), kv_heads, width,
            draw.choice(("bf16", "bf16", "f32")), mask, pairing,
            width // 2 if pairing and draw.random() < 0.25 else None,
            draw.choice((30.0, 50.0)) if draw.random() < 0.15 else None,
            draw.random() < 0.15, draw.random() < 0.1, draw.random() < 0.3,
        )  # fmt: skip

    def __str__(self) -> str:
        keys = "" if self.keys == self.length else f" over {self.keys}"
        turned = f", {self.pairing} pairs{f' of {self.dim}' if self.dim else ''}" if self.pairing else ""
        more = [name for name in ("sinks", "bias") if getattr(self, name)] + (["soft-cap"] if self.softcap else [])
        with_ = f" with {', '.join(more)}" if more else ""
        return f"S={self.length}{keys}, {self.heads}/{self.kv_heads} x {self.width}, {self.dtype}, {self.mask}{turned}{with_}"

    @property
    def visible(self) -> masks.Expr:
        return {
            "full": masks.full,
            "causal": masks.causal,
            "window": masks.causal & masks.window(1 + self.length // 3),
            "chunked": masks.causal & masks.chunked(256),
            "prefix": masks.causal | masks.prefix(1 + self.length // 4),
            "segments": masks.segments,
            "documents": masks.causal & masks.segments,
        }[self.mask]

    def attention(self) -> Graph:
        b = rg.Builder("attention")
        q = b.input("q", (1, self.length, self.heads, self.width), self.dtype)
        k, v = (b.input(label, (1, self.keys, self.kv_heads, self.width), self.dtype) for label in "kv")
        places = {"q_positions": b.positions(self.length), "kv_positions": b.positions(self.keys)}
        if self.pairing is not None:
            rope = rg.Rope(10_000.0, pairing=self.pairing, dim=self.dim)
            q, k = (b.rope(x, at, rope) for x, at in zip((q, k), places.values(), strict=True))
        options: dict[str, Any] = {"mask": self.visible, "softcap": self.softcap}
        if masks.variables(self.visible) & {"q_pos", "kv_pos"}:
            options |= places
        if "q_segment" in masks.variables(self.visible):
            options |= {f"{x}_segments": b.input(f"{x}_segments", (1, n), "i32") for x, n in self.sides.items()}
        if self.sinks:
            options["sinks"] = b.parameter("sinks", (self.heads,), "f32")
        if self.bias:
            scores = self.heads * self.length * self.keys
            options["bias"] = b.input("bias", (self.heads if scores < 1 << 28 else 1, self.length, self.keys), "f32")
        return b.build(out=b.attend(q, k, v, **options))

    @property
    def sides(self) -> dict[str, int]:
        return {"q": self.length, "kv": self.keys}

    def projection(self) -> Graph:
        """The projections q, k and v of 512 features; q and k are rotated, and normalised if `norm` is set."""
        b = rg.Builder("projection")
        x, at = b.input("x", (1, self.length, 512), self.dtype), b.positions(self.length)
        values: dict[str, Any] = {}
        for label, heads in (("q", self.heads), ("k", self.kv_heads), ("v", self.kv_heads)):
            weight = b.parameter(f"{label}_weight", (512, heads * self.width), self.dtype)
            value = b.split_heads(b.project(x, weight), heads)
            if self.norm and label != "v":
                scale = b.parameter(f"{label}_norm", (self.width,), self.dtype)
                value = b.norm(value, scale, kind="rms", epsilon=1e-6)
            if label != "v":
                rope = rg.Rope(10_000.0, pairing=self.pairing or "half", dim=self.dim)
                value = b.rope(value, at, rope)
            values[label] = value
        return b.build(**values)

    def lookup(self) -> Graph:
        """Rows with as many features as the heads have, scaled if `softcap` is set and normalised if `norm` is set."""
        b = rg.Builder("lookup")
        features = self.heads * self.width
        rows = b.embed(b.input("ids", (1, self.length), "i32"), b.parameter("table", (32_000, features), self.dtype))
        if self.softcap:
            rows = b.scale(rows, math.sqrt(features))
        if self.norm:
            rows = b.norm(rows, b.parameter("weight", (features,), self.dtype), kind="rms", epsilon=1e-6)
        return b.build(out=rows)

    def graph(self, family: str) -> Graph:
        return {"attend": self.attention, "qkv_rope": self.projection, "embed": self.lookup}[family]()


def needed_tiles(visible: masks.Expr, length: int, tile: Tile) -> int:
    """The number of tiles with a visible score, counted score by score."""
    keys, count = np.arange(length), 0
    for start in range(0, length, tile["q"]):
        rows = np.arange(start, min(start + tile["q"], length))[:, None]
        seen = np.broadcast_to(masks.evaluate(visible, np, q_pos=rows, kv_pos=keys), (len(rows), length)).any(axis=0)
        count += int(np.count_nonzero(np.add.reduceat(seen, np.arange(0, length, tile["kv"]))))
    return count


# The sites whose tiles are measured ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Common:
    """Attentions that differ only in length: their kernels have the same parts, so they are compiled at one length."""

    name: str
    lengths: tuple[int, ...]
    compiled: int
    graph: Callable[[int], Graph]


def common() -> tuple[Common, ...]:
    """The common sites: models, as their golden cases, and the site of the comparison.

    qwen3-8b and llama3-8b have the same attention, because angles and norms are computed outside. A kernel of fewer than
    `kernel_tpu._AHEAD` steps has other parts, so short sites are separate entries.
    """

    def model(name: str) -> Callable[[int], Graph]:
        return lambda length: case(name, seq=length)

    llama = model("llama3-8b-prefill")
    return (
        Common("llama3-8b and qwen3-8b", (4096, 8192), 4096, llama),
        Common("8 heads of 128", (LENGTH,), LENGTH, lambda length: attention(length, HEADS, HEADS, WIDTH)),
        Common("gpt2", (1024,), 1024, model("gpt2-small")),
        Common("gemma2-9b, global", (8192,), 8192, model("gemma2-9b-global")),
    )


@functools.cache
def common_site(name: str, length: int) -> Site:
    (attend,) = (template for template in templates() if template.family.name == "attend")
    (known,) = (entry for entry in common() if entry.name == name)
    site = site_of(known.graph(length), attend)
    assert site is not None
    return site
