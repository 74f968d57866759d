"""What works over eight devices: every way to split a call, for every call, axis and direction.

`python tests/devices.py` prints one line of JSON for every cell of the table in docs/devices.md: the largest error
against the plain formula, the collectives in the compiled program, or the message that refuses the call. It simulates
eight devices on CPU. `tests/test_mesh.py` runs it in a process of its own, because the number of devices is fixed when
JAX starts.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from independent import draw_inputs, formula
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import ropegen as rg
from ropegen.ir.axes import axes_of
from ropegen.ir.graph import Graph, label_of

Values = dict[str, Any]
Call = Callable[[Values], Any]

WAYS = ("jit, automatic axes", "jit, `sharding=`", "jit, explicit axes", "`shard_map`", "`shard_map`, some axes")
SPLITS = {"batch": "data", "heads": "model", "sequence": "seq"}
DIRECTIONS = ("forward", "gradient")
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "collective-permute", "all-to-all")

BATCH, ROWS, HEADS, KEY_HEADS, WIDTH = 4, 16, 4, 2, 8
ROPE = rg.Rope(500.0, pairing="half")


@dataclass(frozen=True)
class Subject:
    """A call, the formula that it must equal, its inputs, and what the axes of inputs and results are."""

    run: Callable[[Values, Any], Any]
    """The call on the inputs; the second argument is its `sharding`, or None."""
    plain: Call
    inputs: Values
    axes: Mapping[str, tuple[str, ...]]
    out: tuple[str, ...]
    spec: tuple[str, ...]
    """The axes that `sharding=` lists."""
    partial: bool = False
    """Whether the result is a sum over the heads."""
    known: dict[str, Any] = field(default_factory=dict[str, Any])


def attention() -> Subject:
    def run(x: Values, sharding: Any) -> Any:
        return rg.attention(x["q"], x["k"], x["v"], rope=ROPE, mask=rg.masks.causal, sharding=sharding)

    def plain(x: Values) -> Any:
        q, k = (turned(x[name], jnp.arange(ROWS)) for name in "qk")
        k, v = (jnp.repeat(y, HEADS // KEY_HEADS, axis=2) for y in (k, x["v"]))
        score = jnp.einsum("bqhd,bkhd->bhqk", q, k, precision="highest") / np.sqrt(WIDTH)
        score = jnp.where(np.tri(ROWS, dtype=bool), score, -jnp.inf)
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(score, axis=-1), v, precision="highest")

    axes = ("batch", "sequence", "heads", "")
    inputs = {name: drawn(BATCH, ROWS, heads, WIDTH) for name, heads in zip("qkv", (4, 2, 2), strict=True)}
    return Subject(run, plain, inputs, dict.fromkeys("qkv", axes), axes, axes[:3])


def rope() -> Subject:
    def run(x: Values, sharding: Any) -> Any:
        return rg.rope(x["x"], x.get("positions"), ROPE, sharding=sharding)

    axes = ("batch", "sequence", "heads", "")
    at = jnp.arange(ROWS, dtype=jnp.int32)
    inputs = {"x": drawn(BATCH, ROWS, HEADS, WIDTH), "positions": at}
    return Subject(
        run, lambda x: turned(x["x"], x["positions"]), inputs, {"x": axes, "positions": axes[1:2]}, axes, axes[:3]
    )


def embed() -> Subject:
    def run(x: Values, sharding: Any) -> Any:
        return rg.embed(x["ids"], x["table"], sharding=sharding)

    ids = jnp.asarray(RANDOM.integers(0, 32, (BATCH, ROWS)), jnp.int32)
    axes = {"ids": ("batch", "sequence"), "table": ("", "heads")}
    inputs = {"ids": ids, "table": drawn(32, HEADS * WIDTH)}
    return Subject(run, lambda x: x["table"][x["ids"]], inputs, axes, ("batch", "sequence", "heads"), axes["ids"])


def plan() -> Subject:
    graph = front_end()
    made = rg.plan(graph, "cpu")

    def run(x: Values, sharding: Any) -> Any:
        return made.compile(sharding=sharding)(**x)

    return of_graph(graph, run)


def of_graph(graph: Graph, run: Callable[[Values, Any], Any]) -> Subject:
    names = axes_of(graph).names
    axes = {label_of(value): names[value] for value in graph.inputs}
    out = ("batch", "sequence", "")
    inputs = {label: jnp.asarray(value) for label, value in draw_inputs(graph).items()}
    return Subject(run, lambda x: formula(graph, x)["out"], inputs, axes, out, ("batch", "sequence", "heads"), True)


def front_end(batch: int = BATCH, heads: int = HEADS, key_heads: int = KEY_HEADS) -> Graph:
    """Projections of q, k and v, rotations, attention, and the projection of its result."""
    b = rg.Builder("front")
    features = HEADS * WIDTH
    x = b.input("x", (batch, ROWS, features), "f32")
    q, k, v = (
        b.split_heads(b.project(x, b.input(f"w{name}", (features, count * WIDTH), "f32", role="parameter")), count, WIDTH)
        for name, count in (("q", heads), ("k", key_heads), ("v", key_heads))
    )
    at = b.positions(ROWS)
    q, k = (b.rope(y, at, ROPE) for y in (q, k))
    seen = b.attend(q, k, v, mask=rg.masks.causal, q_positions=at, kv_positions=at)
    w = b.input("wo", (heads * WIDTH, features), "f32", role="parameter")
    return b.build(out=b.project(b.merge_heads(seen), w))


SUBJECTS: dict[str, Callable[[], Subject]] = {"attention": attention, "rope": rope, "embed": embed, "plan": plan}

RANDOM = np.random.default_rng(0)


def drawn(*shape: int) -> Any:
    return jnp.asarray(RANDOM.standard_normal(shape), jnp.float32)


def turned(x: Any, positions: Any) -> Any:
    """The rotation of x (B, S, H, D) by halves."""
    half = WIDTH // 2
    angles = positions[:, None, None] * 500.0 ** (-np.arange(half) / half)
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate(
        [first * jnp.cos(angles) - second * jnp.sin(angles), second * jnp.cos(angles) + first * jnp.sin(angles)], -1
    )


def collectives(text: str) -> dict[str, int]:
    """How many collectives of each kind a compiled program has."""
    counts = Counter(re.findall(rf"\b({'|'.join(COLLECTIVES)})(?:-start)?\(", text))
    return dict(sorted(counts.items()))


def mesh_of(kind: AxisType) -> Mesh:
    return jax.make_mesh((2, 2, 2), tuple(SPLITS.values()), axis_types=(kind,) * 3)


def over(names: tuple[str, ...], split: str) -> PartitionSpec:
    return PartitionSpec(*(SPLITS[split] if name == split else None for name in names))


def called(subject: Subject, way: str, split: str, mesh: Mesh) -> Call:
    """The call, as it is written in this way."""
    specs = {label: over(names, split) for label, names in subject.axes.items()}
    if way == "jit, `sharding=`":
        return lambda x: subject.run(x, NamedSharding(mesh, over(subject.spec, split)))
    if "shard_map" not in way:
        return lambda x: subject.run(x, None)

    def part(x: Values) -> Any:
        made = subject.run(x, None)
        return jax.lax.psum(made, SPLITS[split]) if subject.partial and split == "heads" else made

    some = {"axis_names": {SPLITS[split]}} if "some" in way else {}
    return jax.shard_map(part, mesh=mesh, in_specs=(specs,), out_specs=over(subject.out, split), **some)


def cell(subject: Subject, way: str, split: str, direction: str) -> dict[str, Any]:
    """What happens: {"error": ..., "collectives": ...}, or {"refused": the message}."""
    mesh = mesh_of(AxisType.Explicit if "explicit" in way else AxisType.Auto)
    laid = {
        label: jax.device_put(subject.inputs[label], NamedSharding(mesh, over(names, split)))
        for label, names in subject.axes.items()
    }
    with jax.set_mesh(mesh):
        program = in_direction(called(subject, way, split, mesh), direction)
        try:
            compiled = jax.jit(program).lower(laid).compile()
        except rg.RopegenError as error:
            return {"refused": str(error)}
        errors = jax.tree.map(relative, compiled(laid), expected(subject, direction))
    return {"error": max(jax.tree.leaves(errors)), "collectives": collectives(compiled.as_text())}


def in_direction(call: Call, direction: str) -> Call:
    """The call, or the gradient of a loss of its result in every floating input."""

    def loss(moving: Values, x: Values) -> Any:
        return jnp.sum(jnp.sin(call({**x, **moving})))

    def gradient(x: Values) -> Any:
        return jax.grad(loss)({label: y for label, y in x.items() if jnp.issubdtype(y.dtype, jnp.floating)}, x)

    return call if direction == "forward" else gradient


def expected(subject: Subject, direction: str) -> Any:
    """The result of the plain formula, on one device."""
    if direction not in subject.known:
        subject.known[direction] = jax.tree.map(np.asarray, in_direction(subject.plain, direction)(subject.inputs))
    return subject.known[direction]


def relative(made: Any, wanted: Any) -> float:
    """The largest difference over the largest number that is expected."""
    made, wanted = np.asarray(made, np.float64), np.asarray(wanted, np.float64)
    return float(np.max(np.abs(made - wanted)) / np.max(np.abs(wanted)))


def main() -> None:
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_disable_most_optimizations", True)
    chosen = sys.argv[1:] or list(SUBJECTS)
    for name in chosen:
        subject = SUBJECTS[name]()
        for way, split, direction in itertools.product(WAYS, SPLITS, DIRECTIONS):
            found = cell(subject, way, split, direction)
            print(json.dumps({"cell": [way, name, split, direction], **found}), flush=True)


if __name__ == "__main__":
    main()
