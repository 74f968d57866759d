"""The static part of gpu.py: kernels compiled for GPUs that are not here, what their machine code shows, and the page.

The gate is `ropegen.compilers.gate`. It needs the compilers for CUDA and no GPU.
"""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.gpu import attention_mgpu
from results import say
from tpu_modules import Drawn, attention, case, cases, own_tile, shape, site_of, without_locations

from ropegen import masks
from ropegen.compilers import cuda
from ropegen.compilers.gate import MOST_INSTRUCTIONS, MOST_ON_BLACKWELL, faults
from ropegen.compilers.machine_code import KernelCode
from ropegen.errors import RopegenError
from ropegen.ir.build import Builder
from ropegen.ir.graph import Graph
from ropegen.target import Target
from ropegen.template import Site, Tile, template

CHIPS = ("h100", "h200", "b200")
KERNEL, ROPE = "attend/mosaic_gpu", "rope/mosaic_gpu"
# The widths of heads, and how many features of them are rotated.
ROTATED = [*((width, width) for width in (64, 80, 112, 128, 256))]
ROTATED += [(80, 32), (96, 24)]
# The number of modules for one process of the compiler, so that its start does not take most of the time.
BATCH = 8
# The site of the comparison: S=4096, 32 heads over 8 of keys, 128 features.
LENGTH, HEADS, KV_HEADS, WIDTH = 4096, 32, 8, 128
Entry = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A module to compile, or the reasons why the kernel declines its site."""

    part: str
    name: str
    make: Callable[[], bytes]
    declined: tuple[str, ...] = ()
    is_measured: bool = False
    """Whether the limit of instructions holds: 128 features, 128 keys in a tile, and scores that are only products."""
    judged: bool = True
    """Whether the kernel is ropegen's own."""


def module(function: Callable[..., Any], *shapes: Any) -> bytes:
    with without_locations():
        return bytes(jax.export.export(jax.jit(function), platforms=["cuda"])(*shapes).serialize())


def jobs(chip: str, sites: int) -> Iterator[Job]:
    """The comparison, the golden cases, rotations by themselves, and the drawn sites."""
    compared = {
        "ropegen, q rotated in the kernel": attention(LENGTH, HEADS, KV_HEADS, WIDTH),
        "ropegen, without RoPE": attention(LENGTH, HEADS, KV_HEADS, WIDTH, pairing=None),
        "ropegen, f16, without RoPE": attention(LENGTH, HEADS, KV_HEADS, WIDTH, "f16", pairing=None),
        "ropegen, no mask": attention(LENGTH, HEADS, KV_HEADS, WIDTH, mask=masks.full),
        "ropegen, 64 features": attention(LENGTH, HEADS, KV_HEADS, 64),
    }
    for name, graph in compared.items():
        yield from own("comparison", name, graph, chip)
    if Target.parse(f"gpu:{chip}").capability == "sm90":
        yield Job("comparison", "JAX's attention_mgpu, f16, no RoPE", attention_of_jax, judged=False)
    for name in cases():
        yield from own("cases", name, case(name), chip)
    yield from rotations(chip)
    for number in range(sites):
        drawn = Drawn.of(number)
        yield from own("sites", f"site {number} ({drawn})", drawn.attention(), chip)


def own(part: str, name: str, graph: Graph, chip: str) -> Iterator[Job]:
    """The kernel of ropegen's for a graph's first attention."""
    kernel, target = template(KERNEL), Target.parse(f"gpu:{chip}")
    site = site_of(graph, kernel)
    if site is None:
        return
    if reasons := tuple(kernel.declines(site, target)):
        yield Job(part, name, bytes, reasons)
        return
    tile = own_tile(kernel, site, target)
    # A soft-cap has an exponential and a root of its own for every score.
    is_plain = site.op.softcap is None and site.op.score == masks.identity and "bias" not in site.op.given
    is_measured = is_plain and site.closed.outputs[0][1].type.shape[-1] == WIDTH and tile["kv"] == 128
    yield Job(part, name, functools.partial(built, site, tile, target), is_measured=is_measured)


def built(site: Site, tile: Tile, target: Target, kernel: str = KERNEL) -> bytes:
    forward = template(kernel).build(site, tile, target).forward
    return module(forward, *map(shape, site.closed.input_types.values()))


def rotations(chip: str) -> Iterator[Job]:
    """RoPE by itself: 32 heads of q and 8 of k, by the same angles."""
    kernel, target = template(ROPE), Target.parse(f"gpu:{chip}")
    for (width, dim), dtype, pairing in itertools.product(ROTATED, ("bf16", "f32"), ("half", "interleaved")):
        b = Builder("rotations")
        x = [b.input(label, (1, LENGTH, heads, width), dtype) for label, heads in (("q", HEADS), ("k", KV_HEADS))]
        angles = b.input("angles", (LENGTH, dim), "f32")
        outputs = {f"out{number}": b.rotate(each, angles, pairing=pairing) for number, each in enumerate(x)}
        site = kernel.family.site(next(iter(kernel.family.find(b.build(**outputs)))).closed)
        name = f"{width} features, {dim} rotated, {dtype}, {pairing}"
        reasons = tuple(kernel.declines(site, target))
        yield Job("rope", name, functools.partial(built, site, Tile(), target, ROPE), reasons)


def attention_of_jax() -> bytes:
    """JAX's example of attention on Hopper, causal, with tiles of the same size."""
    config = attention_mgpu.TuningConfig(block_q=64, block_kv=128, max_concurrent_steps=2, causal=True)
    q = jax.ShapeDtypeStruct((1, LENGTH, HEADS, WIDTH), jnp.float16)
    k = jax.ShapeDtypeStruct((1, LENGTH, KV_HEADS, WIDTH), jnp.float16)
    return module(lambda q, k, v: attention_mgpu.attention(q, k, v, config), q, k, k)


def measured(chip: str, sites: int, keep: Callable[[list[Entry]], None]) -> list[Entry]:
    """An entry for every job; `keep` gets those that are there after every batch."""
    every = list(jobs(chip, sites))
    found = {job.name: described(job, {"declined": list(job.declined)}) for job in every if job.declined}
    wanted = [job for job in every if not job.declined]
    for start in range(0, len(wanted), BATCH):
        found |= {entry["name"]: entry for entry in compiled(wanted[start : start + BATCH], chip)}
        keep(in_order(every, found))
        say(f"{chip}: {min(start + BATCH, len(wanted))} of {len(wanted)} kernels")
    return in_order(every, found)


def in_order(every: Sequence[Job], found: Mapping[str, Entry]) -> list[Entry]:
    """The entries that are there, in the order of the jobs."""
    return [found[job.name] for job in every if job.name in found]


def compiled(batch: Sequence[Job], chip: str) -> list[Entry]:
    """The results of a batch. What the compiler lists for no module, or ends at, is compiled once more alone."""
    try:
        done = cuda.compile_modules({job.name: job.make() for job in batch}, chip, seconds=900)
    except RopegenError as error:
        if len(batch) == 1:
            return [described(batch[0], {"error": str(error)})]
        return [entry for job in batch for entry in compiled([job], chip)]
    entries: list[Entry] = []
    for job in batch:
        if job.name in done.errors:
            entries.append(described(job, {"error": done.errors[job.name].partition("\n")[0]}))
        elif done.modules[job.name].kernels:
            entries.append(described(job, facts(done.modules[job.name].kernels[0], job)))
        elif len(batch) == 1:
            entries.append(described(job, {"error": "the compiler listed no kernel"}))
        else:
            # An equal kernel was compiled before it in the same process.
            entries += compiled([job], chip)
    return entries


def described(job: Job, result: Mapping[str, Any]) -> Entry:
    return {"part": job.part, "name": job.name, "judged": job.judged, **result}


def facts(kernel: KernelCode, job: Job) -> Entry:
    has_full = len(kernel.product_loops) == 2 or "no mask" in job.name
    most = MOST_ON_BLACKWELL if kernel.architecture == "sm_100a" else MOST_INSTRUCTIONS
    limit = most if job.is_measured and has_full else None
    return {
        "registers": kernel.registers,
        "spilled": kernel.spilled,
        "instructions": kernel.instructions,
        "advisories": [said.partition(":")[0] for said in kernel.advisories],
        "loops": [
            {
                "instructions": loop.instructions,
                "exponentials": loop.exponentials,
                "products": loop.products,
                "product_cycles": loop.product_cycles,
            }
            for loop in kernel.product_loops
        ],
        "warpgroups": kernel.warpgroups,
        **({} if kernel.products else {"reads": tally(kernel.reads), "writes": tally(kernel.writes)}),
        "faults": list(faults(kernel, most_instructions=limit)),
    }


def tally(sizes: Sequence[int]) -> dict[str, int]:
    """How many accesses have each number of bytes."""
    return {str(size): count for size, count in sorted(Counter(sizes).items())}


# The page ------------------------------------------------------------------------------------------------------------


def page(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """gpu.md, from the runs of every version of jax and chip."""
    lines = [
        "# Kernels for NVIDIA's GPUs, by their machine code",
        "",
        "`python3 benchmarks/gpu.py --static` wrote this page from [gpu.json](gpu.json). **No GPU was there: the figures come",
        "from the compilers' output, nothing was timed, and no time is claimed.** How to read them: [docs/gpu.md](../docs/gpu.md).",
        "",
        "| compiled on | chip | jax | CUDA's plug-in | ptxas | sites |",
        "| --- | --- | --- | --- | --- | ---: |",
    ]
    for run in runs.values():
        lines.append(
            f"| {run['date']} | {run['chip']} | {run['jax']} | {run['plugin']} | {run['ptxas']} | {run['sites']} drawn |"
        )
    lines += [
        "",
        "## The gate",
        "",
        "A kernel passes if ptxas gives nothing up (no C75xx), nothing is spilled, products do not wait for each other, and the",
        f"loop over full tiles with 128 features and 128 keys has at most {MOST_INSTRUCTIONS} instructions, and",
        f"{MOST_ON_BLACKWELL} on Blackwell, where a warpgroup has twice as many queries, unless scores have a soft-cap, a bias or an",
        "expression. Each warpgroup fetches for itself. What a kernel declines, XLA computes; the counts of its reasons are below.",
        "",
        "| part | chip | jax | kernels | pass | fail | decline |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for run in runs.values():
        for part in ("comparison", "cases", "rope", "sites"):
            mine = [entry for entry in run["entries"] if entry["judged"] and entry["part"] == part]
            if mine:
                counts = [sum(outcome(entry) == what for entry in mine) for what in ("pass", "FAIL", "declines")]
                lines.append(
                    f"| {part} | {run['chip']} | {run['jax']} | {len(mine)} | {' | '.join(map(str, counts))} |"
                )
    lines += ["", "Failures:", ""]
    failed = [
        f"- {entry['name']}, {run['chip']}, jax {run['jax']}: {entry.get('error') or '; '.join(entry['faults'])}"
        for run in runs.values()
        for entry in run["entries"]
        if entry["judged"] and outcome(entry) == "FAIL"
    ]
    lines += failed or ["none."]
    lines += [
        "",
        "## Beside JAX's kernel",
        "",
        f"S={LENGTH}, {HEADS} heads over {KV_HEADS}, causal, bf16 and {WIDTH} features unless stated. A warpgroup has 64 queries and 128",
        "keys in a tile. `attention_mgpu` is JAX's example: it takes f16 alone, does not rotate, has no log-sum-exp unless asked,",
        "and uses a third warpgroup for copies. It is judged by the same gate, without the limit of instructions. tokamax is not",
        "in the table: it was not installed where the page was made.",
        "",
        *table(runs, "comparison"),
        "",
        "## Golden cases",
        "",
        *table(runs, "cases"),
        "",
        "## RoPE by itself",
        "",
        f"S={LENGTH}, {HEADS} heads of q and {KV_HEADS} of k in one kernel. A thread reads and writes 16 bytes at once if the width and",
        "the rotated part allow it. The reads are those of q and k and of the angles; Blackwell joins two of 16 bytes.",
        "",
        *rope_table(runs),
        "",
        "## Reasons to decline",
        "",
        "Golden cases and drawn sites of attention together; a site can have several reasons.",
        "",
        "| reason | chip | jax | sites |",
        "| --- | --- | --- | ---: |",
    ]
    for run in runs.values():
        counted = Counter(
            reason
            for entry in run["entries"]
            if entry["part"] in ("cases", "sites")
            for reason in entry.get("declined", [])
        )
        lines += [f"| {reason} | {run['chip']} | {run['jax']} | {count} |" for reason, count in counted.most_common()]
    return "\n".join(lines) + "\n"


def outcome(entry: Mapping[str, Any]) -> str:
    if "declined" in entry:
        return "declines"
    return "FAIL" if "error" in entry or entry["faults"] else "pass"


def table(runs: Mapping[str, Mapping[str, Any]], part: str) -> Iterator[str]:
    """The kernels of a part. Chips that decline all of them are left out."""
    yield (
        "| kernel | chip | jax | registers | bytes spilled | warpgroups | instructions, full / partial tile | exponentials | "
        "cycles of the tensor cores | gate |"
    )
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |"
    for run in runs.values():
        entries = [entry for entry in run["entries"] if entry["part"] == part]
        for entry in entries if not all("declined" in entry for entry in entries) else []:
            head = f"| {entry['name']} | {run['chip']} | {run['jax']} |"
            if "loops" not in entry:
                said = entry.get("error") or "declines: " + "; ".join(entry["declined"])
                yield f"{head} | | | | | | {said} |"
                continue
            loops = entry["loops"]
            sizes = " / ".join(str(loop["instructions"]) for loop in loops)
            first = loops[0] if loops else {"exponentials": "-", "product_cycles": None}
            busy = "-" if first["product_cycles"] is None else f"{first['product_cycles']:,.0f}"
            judged = "; ".join(entry["faults"]) or "passes"
            yield (
                f"{head} {entry['registers']} | {entry['spilled']} | {entry['warpgroups']} | {sizes} | {first['exponentials']} | "
                f"{busy} | {judged} |"
            )


def rope_table(runs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The kernels of `rope`."""
    yield "| kernel | chip | jax | registers | bytes spilled | reads, by bytes | writes, by bytes | instructions | gate |"
    yield "| --- | --- | --- | ---: | ---: | --- | --- | ---: | --- |"
    for run in runs.values():
        for entry in run["entries"]:
            if entry["part"] != "rope":
                continue
            head = f"| {entry['name']} | {run['chip']} | {run['jax']} |"
            if "reads" not in entry:
                yield f"{head} | | | | | {entry.get('error') or 'declines: ' + '; '.join(entry['declined'])} |"
                continue
            reads, writes = (
                ", ".join(f"{count} of {size}" for size, count in entry[side].items()) for side in ("reads", "writes")
            )
            judged = "; ".join(entry["faults"]) or "passes"
            yield (
                f"{head} {entry['registers']} | {entry['spilled']} | {reads} | {writes} | {entry['instructions']} | {judged} |"
            )


def versions() -> dict[str, str]:
    """What compiles here: the versions of jax, of XLA's plug-in and of ptxas."""
    known = {name: importlib.metadata.version(name) for name in ("jax", "nvidia-cuda-nvcc")}
    return {"jax": known["jax"], "plugin": cuda.build(), "ptxas": known["nvidia-cuda-nvcc"]}
