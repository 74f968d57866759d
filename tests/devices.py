"""What works over eight devices: every way to split a call, for every call, axis and direction.

`python tests/devices.py` prints one line of JSON for every cell of the table in docs/devices.md: the largest error
against the plain formula, the collectives in the compiled program, or the message that refuses the call. It simulates
eight devices on CPU. `tests/test_mesh.py` runs it in a process of its own, because the number of devices is fixed when
JAX starts.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from independent import draw_inputs, formula
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

import ropegen as rg
from ropegen.ir.axes import axes_of
from ropegen.ir.graph import Graph, label_of

Values = dict[str, Any]
Call = Callable[[Values], Any]

WAYS = ("jit, automatic axes", "jit, `sharding=`", "jit, explicit axes", "`shard_map`", "`shard_map`, some axes")
SPLITS = {"batch": "data", "heads": "model", "sequence": "seq"}
DIRECTIONS = ("forward", "gradient")
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "collective-permute", "all-to-all")

BATCH, ROWS, HEADS, KEY_HEADS, WIDTH = 4, 8, 4, 2, 4
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
    stated: bool = False
    """Whether it is made for a split that is stated, also where axes are explicit."""
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


def front_end(
    x: tuple[int, ...] = (BATCH, ROWS, HEADS * WIDTH), heads: int = HEADS, key_heads: int = KEY_HEADS
) -> Graph:
    """Projections of q, k and v, rotations, attention, and the projection of its result, for x (B, S, features)."""
    b = rg.Builder("front")
    given = b.input("x", x, "f32")
    q, k, v = (
        b.split_heads(b.project(given, weight(b, f"w{name}", x[-1], count * WIDTH)), count, WIDTH)
        for name, count in (("q", heads), ("k", key_heads), ("v", key_heads))
    )
    at = b.positions(x[1])
    q, k = (b.rope(y, at, ROPE) for y in (q, k))
    seen = b.attend(q, k, v, mask=rg.masks.causal, q_positions=at, kv_positions=at)
    return b.build(out=b.project(b.merge_heads(seen), weight(b, "wo", heads * WIDTH, x[-1])))


def weight(b: rg.Builder, label: str, rows: int, columns: int) -> Any:
    return b.input(label, (rows, columns), "f32", role="parameter")


def front_end_for(x: Values) -> Graph:
    """The front-end of these inputs, which inside `shard_map` are those of one device."""
    return front_end(x["x"].shape, *(x[name].shape[1] // WIDTH for name in ("wq", "wk")))


def plan() -> Subject:
    return of_front_end(lambda x, sharding: rg.plan(front_end_for(x), "cpu").compile(sharding=sharding)(**x))


def artifact() -> Subject:
    made = of_front_end(lambda x, sharding: exported(front_end_for(x), sharding)(**x))
    return dataclasses.replace(made, stated=True)


@functools.cache
def exported(graph: Graph, sharding: NamedSharding | None, targets: tuple[str, ...] = ("cpu",)) -> rg.Artifact:
    """The artifact of a graph; with `sharding`, on an abstract mesh, as on a machine without the devices. Without, it has
    a gradient.

    It is built in a thread, where JAX traces nothing and no mesh is set, as artifacts are built before they are called.
    """
    if sharding is not None:
        mesh = AbstractMesh(
            sharding.mesh.axis_sizes,
            sharding.mesh.axis_names,
            axis_types=(AxisType.Auto,) * len(sharding.mesh.axis_names),
        )
        sharding = NamedSharding(mesh, sharding.spec)
    folder = tempfile.mkdtemp(dir=FOLDER.name)
    with ThreadPoolExecutor(1) as alone:
        options = {"targets": targets, "sharding": sharding, "grad": sharding is None}
        return alone.submit(rg.export, graph, folder, **options).result()


FOLDER = tempfile.TemporaryDirectory(prefix="ropegen-devices-")


def of_front_end(run: Callable[[Values, Any], Any]) -> Subject:
    graph = front_end()
    names = axes_of(graph).names
    axes = {label_of(value): names[value] for value in graph.inputs}
    out = ("batch", "sequence", "")
    inputs = {label: jnp.asarray(value) for label, value in draw_inputs(graph).items()}
    return Subject(run, lambda x: formula(graph, x)["out"], inputs, axes, out, ("batch", "sequence", "heads"), True)


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "attention": attention,
    "rope": rope,
    "embed": embed,
    "plan": plan,
    "artifact": artifact,
}

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
    if way in ("jit, `sharding=`", "processes") or (way == "jit, explicit axes" and subject.stated):
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
        label: laid_out(subject.inputs[label], NamedSharding(mesh, over(names, split)))
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


def laid_out(value: Any, sharding: NamedSharding) -> Any:
    """The array over the devices of all processes, of which every process knows the whole."""
    return jax.make_array_from_callback(value.shape, sharding, np.asarray(value).__getitem__)


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
    """The largest difference in the parts of this process, over the largest number that is expected."""
    parts = [(np.asarray(part.data, np.float64), wanted[part.index]) for part in made.addressable_shards]
    return float(max(np.max(np.abs(part - its)) for part, its in parts) / np.max(np.abs(wanted)))


def main(ways: tuple[str, ...] = WAYS) -> None:
    jax.config.update("jax_disable_most_optimizations", True)  # nearly all the time is compilation
    for name, make in SUBJECTS.items():
        subject = make()
        for way, split, direction in itertools.product(ways, SPLITS, DIRECTIONS):
            result = cell(subject, way, split, direction)
            print(json.dumps({"name": [way, name, split, direction], **result}), flush=True)


def process(port: str, index: str) -> None:
    """One of two processes of four devices each."""
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, int(index))
    main(("processes",))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        process(*sys.argv[1:])
    else:
        jax.config.update("jax_num_cpu_devices", 8)
        main()
